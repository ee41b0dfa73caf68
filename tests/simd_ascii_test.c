/*
 * The way of the kernels through ASCII, which looks at several vectors at once: one thing that is not ASCII, anywhere
 * in texts long enough to go around every loop several times. The verdicts are known without a decoder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "simd/simd.h"
#include "tests/support/guard.h"

#define LEN_MAX 1400

enum fate {
    WHOLE,      /* it may stand, and so may what follows */
    OPEN,       /* it may stand at the end of a text that goes on, but no letter may follow */
    WRONG       /* its last byte may not stand */
};

struct intruder {
    const char *bytes;
    enum fate fate;
};

static const struct intruder intruders[] = {
    {"\xc3\xa9", WHOLE}, {"\xed\x9f\xbf", WHOLE}, {"\xf0\x9f\x98\x80", WHOLE},
    {"\xc3", OPEN}, {"\xe2\x82", OPEN}, {"\xf0\x9f\x98", OPEN},
    {"\x80", WRONG}, {"\xff", WRONG}, {"\xed\xa0", WRONG}, {"\xc3\xa9\xa9", WRONG},
};
#define INTRUDERS_COUNT (sizeof(intruders) / sizeof(intruders[0]))

/* @in is @len letters but for @intruder at @at; @state is 0, or what one byte before @in has left. */
static void check(const struct wsr_simd *level, const uint8_t *in, size_t len, const struct intruder *intruder,
                  size_t at, uint32_t state)
{
    size_t end = at + strlen(intruder->bytes);
    size_t want = len;
    bool want_open = intruder->fate == OPEN && end == len;

    if (intruder->fate == WRONG)
        want = end - 1;
    else if (intruder->fate == OPEN && end < len)
        want = end;
    size_t got = level->utf8(&state, in, len);
    if (got != want)
        fail_msg("%s: %zu bytes, %02x at %zu: %zu, should be %zu", level->name, len, (unsigned)in[at], at, got, want);
    if (want == len && (state != 0) != want_open)
        fail_msg("%s: %zu bytes, %02x at %zu: state %u", level->name, len, (unsigned)in[at], at, (unsigned)state);
}

static void check_every_place(uint8_t *in, size_t len)
{
    for (size_t i = 0; i < INTRUDERS_COUNT; i++) {
        size_t bytes = strlen(intruders[i].bytes);
        for (size_t at = 0; at + bytes <= len; at++) {
            memset(in, 'a', len);
            memcpy(in + at, intruders[i].bytes, bytes);
            for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++)
                check(*level, in, len, &intruders[i], at, 0);
        }
    }
}

/* UTF-02, UTF-03, UTF-05 */
static void one_intruder_at_every_place_of_ascii(void **state)
{
    static const size_t lens[] = {5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 255, 256, 257, 383, 511,
                                  512, 513, 767, 768, 769, 1025, LEN_MAX};
    struct guard guard;

    (void)state;
    guard_open(&guard, LEN_MAX);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
        check_every_place(guard_tail(&guard, lens[i]), lens[i]);
    guard_close(&guard);
}

/* UTF-05 */
static void one_intruder_at_every_place_of_ascii_at_every_alignment(void **state)
{
    static const size_t lens[] = {130, 321, 700};
    struct guard guard;

    (void)state;
    guard_open(&guard, LEN_MAX);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        for (size_t shift = 0; shift < 64; shift++)
            check_every_place(guard.begin + shift, lens[i]);
    }
    guard_close(&guard);
}

/* UTF-02: the first byte of a text ends what the text before it has left open, and the rest is ASCII. */
static void ascii_after_an_open_code_point(void **state)
{
    static const struct intruder last = {"\xa9", WHOLE};
    struct guard guard;

    (void)state;
    guard_open(&guard, LEN_MAX);
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        for (size_t len = 1; len <= LEN_MAX; len++) {
            uint8_t *in = guard_tail(&guard, len);
            uint32_t open = 0;
            memset(in, 'a', len);
            in[0] = 0xa9;
            assert_int_equal((*level)->utf8(&open, (const uint8_t *)"\xc3", 1), 1);
            check(*level, in, len, &last, 0, open);
            in[0] = 'a';
            if ((*level)->utf8(&open, in, len) != 0)
                fail_msg("%s: %zu letters may not follow a lead", (*level)->name, len);
        }
    }
    guard_close(&guard);
}

/* UTF-05: no byte outside the text is looked at, whatever is there. */
static void what_is_around_ascii_does_not_count(void **state)
{
    uint8_t text[LEN_MAX + 128];

    (void)state;
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        for (size_t len = 0; len <= LEN_MAX; len++) {
            uint32_t now = 0;
            memset(text, 0xff, sizeof(text));
            memset(text + 64, 'a', len);
            if ((*level)->utf8(&now, text + 64, len) != len || now != 0)
                fail_msg("%s: %zu letters are not valid", (*level)->name, len);
        }
        uint32_t now = 0;
        assert_int_equal((*level)->utf8(&now, NULL, 0), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_intruder_at_every_place_of_ascii),
        cmocka_unit_test(one_intruder_at_every_place_of_ascii_at_every_alignment),
        cmocka_unit_test(ascii_after_an_open_code_point),
        cmocka_unit_test(what_is_around_ascii_does_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
