/*
 * The SIMD core: every level against the portable one and against a plain reference. SEND-06, SEND-10, UTF-01..07.
 * With --bench the same binary measures each level against memcpy and against reading the bytes once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "simd/simd.h"
#include "tests/support/guard.h"

#define LEN_MAX 300
#define KEYS_COUNT 3

static const uint8_t keys[KEYS_COUNT][4] = {{0x37, 0xfa, 0x21, 0x3d}, {0, 0, 0, 0}, {0x80, 0x01, 0xff, 0x7e}};

/* Places of a run inside guarded memory: 0..15 from the front with that alignment, 16 ends at the unreadable page. */
#define PLACES_COUNT 17

static uint8_t *place(const struct guard *guard, unsigned where, size_t len)
{
    return where < 16 ? guard->begin + where : guard_tail(guard, len);
}

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed * 0x2545f4914f6cdd1du;
}

static void random_fill(uint64_t *seed, uint8_t *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(random_next(seed) >> 32);
}

static void reference_mask(uint8_t *to, const uint8_t *from, size_t len, const uint8_t key[4], unsigned phase)
{
    for (size_t i = 0; i < len; i++)
        to[i] = from[i] ^ key[(i + phase) % 4];
}

/* Masks and checks that the neighbours of the run, inside the guarded memory, are as they were. */
static void check_inplace(const struct wsr_simd *level, const struct guard *guard, unsigned where, size_t len,
                          unsigned phase)
{
    static uint64_t seed = 0x1234567;
    const uint8_t *key = keys[seed % KEYS_COUNT];
    uint8_t before[1024], want[1024];
    size_t bytes = (size_t)(guard->end - guard->begin);
    uint8_t *data = place(guard, where, len);
    size_t window = len + 64 < bytes ? len + 64 : bytes;
    uint8_t *from = where < 16 ? guard->begin : guard->end - window;

    random_fill(&seed, from, window);
    memcpy(before, from, window);
    memcpy(want, before, window);
    reference_mask(want + (data - from), before + (data - from), len, key, phase);
    level->mask(data, len, key, phase);
    if (memcmp(from, want, window) != 0)
        fail_msg("%s in place: len=%zu phase=%u place=%u", level->name, len, phase, where);
}

static void check_copy(const struct wsr_simd *level, const struct guard *to_guard, const struct guard *from_guard,
                       unsigned to_where, unsigned from_where, size_t len, unsigned phase)
{
    static uint64_t seed = 0x7654321;
    const uint8_t *key = keys[seed % KEYS_COUNT];
    uint8_t source[1024], want[1024];
    uint8_t *to = place(to_guard, to_where, len);
    uint8_t *from = place(from_guard, from_where, len);
    size_t slack = to_where < 16 ? 64 : 0;

    random_fill(&seed, from, len);
    memcpy(source, from, len);
    memset(to, 0xee, len + slack);
    memset(want, 0xee, len + slack);
    reference_mask(want, source, len, key, phase);
    level->mask_copy(to, from, len, key, phase);
    if (memcmp(to, want, len + slack) != 0)
        fail_msg("%s copy: len=%zu phase=%u to=%u from=%u", level->name, len, phase, to_where, from_where);
    if (memcmp(from, source, len) != 0)
        fail_msg("%s copy wrote its source: len=%zu phase=%u", level->name, len, phase);
}

/* SEND-10 */
static void mask_in_place_is_exact_at_every_length_phase_and_alignment(void **state)
{
    struct guard guard;

    (void)state;
    guard_open(&guard, 2 * LEN_MAX);
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        for (size_t len = 0; len <= LEN_MAX; len++) {
            for (unsigned phase = 0; phase < 4; phase++) {
                for (unsigned where = 0; where < PLACES_COUNT; where++)
                    check_inplace(*level, &guard, where, len, phase);
            }
        }
    }
    guard_close(&guard);
}

/* SEND-06, SEND-10 */
static void mask_copy_is_exact_and_leaves_the_source_alone(void **state)
{
    struct guard to, from;

    (void)state;
    guard_open(&to, 2 * LEN_MAX);
    guard_open(&from, 2 * LEN_MAX);
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        for (size_t len = 0; len <= LEN_MAX; len++) {
            for (unsigned i = 0; i < 4 * PLACES_COUNT; i++) {
                check_copy(*level, &to, &from, i % PLACES_COUNT, i * 5 % PLACES_COUNT, len, i % 4);
                check_copy(*level, &to, &from, i % PLACES_COUNT, PLACES_COUNT - 1, len, i % 4);
            }
        }
    }
    guard_close(&to);
    guard_close(&from);
}

/* SEND-10: sizes that reach the unrolled loops many times, with odd ends. */
static void mask_of_long_runs_equals_the_reference(void **state)
{
    static const size_t sizes[] = {511, 512, 513, 1000, 1024, 4095, 4096, 4099, 65536, 65541, 262147, (1u << 20) + 3};
    size_t most = (1u << 20) + 64;
    uint8_t *want = malloc(most);
    uint64_t seed = 99;
    struct guard to, from;

    (void)state;
    assert_non_null(want);
    guard_open(&to, most);
    guard_open(&from, most);
    random_fill(&seed, from.begin, most);
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            size_t len = sizes[i];
            for (unsigned where = 0; where < PLACES_COUNT; where += len > 8192 ? 4 : 1) {
                const uint8_t *source = place(&from, (where + 3) % PLACES_COUNT, len);
                uint8_t *target = place(&to, where, len);
                reference_mask(want, source, len, keys[0], where % 4);
                (*level)->mask_copy(target, source, len, keys[0], where % 4);
                assert_memory_equal(target, want, len);
                (*level)->mask(target, len, keys[0], where % 4);
                assert_memory_equal(target, source, len);
            }
        }
    }
    guard_close(&to);
    guard_close(&from);
    free(want);
}

/* SEND-10: a payload masked in pieces, each with the phase where the last one ended, is the payload masked at once. */
static void mask_in_two_pieces_equals_mask_at_once(void **state)
{
    uint8_t source[LEN_MAX], want[LEN_MAX], got[LEN_MAX];
    uint64_t seed = 5;

    (void)state;
    random_fill(&seed, source, LEN_MAX);
    reference_mask(want, source, LEN_MAX, keys[2], 0);
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        for (size_t cut = 0; cut <= LEN_MAX; cut++) {
            (*level)->mask_copy(got, source, cut, keys[2], 0);
            (*level)->mask_copy(got + cut, source + cut, LEN_MAX - cut, keys[2], cut % 4);
            assert_memory_equal(got, want, LEN_MAX);
        }
    }
}

/*
 * The reference decoder works on numbers, not on tables: a prefix may stand when some value that it can still become
 * is a code point of the shortest form.
 */
struct reference {
    uint32_t value;     /* of the open sequence */
    unsigned missing;   /* continuations to come; 0 = boundary */
    uint32_t least;     /* smallest value of this length */
};

static bool can_become_valid(const struct reference *ref)
{
    uint32_t low = ref->value << (6 * ref->missing);
    uint32_t high = low | ((1u << (6 * ref->missing)) - 1);

    if (high < ref->least || low > 0x10ffff)
        return false;
    return !(low >= 0xd800 && high <= 0xdfff);
}

static bool reference_byte(struct reference *ref, uint8_t byte)
{
    if (ref->missing > 0) {
        if (byte >> 6 != 2)
            return false;
        ref->missing--;
        ref->value = ref->value << 6 | (byte & 0x3f);
        return can_become_valid(ref);
    }
    if (byte < 0x80)
        return true;
    if (byte >> 5 == 0x06)
        *ref = (struct reference){byte & 0x1f, 1, 0x80};
    else if (byte >> 4 == 0x0e)
        *ref = (struct reference){byte & 0x0f, 2, 0x800};
    else if (byte >> 3 == 0x1e)
        *ref = (struct reference){byte & 0x07, 3, 0x10000};
    else
        return false;
    return can_become_valid(ref);
}

struct verdict {
    size_t stop;        /* index of the first impossible byte, or the length */
    bool whole;         /* all bytes may stand and a code point ends there */
};

static struct verdict reference_verdict(const uint8_t *in, size_t len)
{
    struct reference ref = {0, 0, 0};

    for (size_t i = 0; i < len; i++) {
        if (!reference_byte(&ref, in[i]))
            return (struct verdict){i, false};
    }
    return (struct verdict){len, ref.missing == 0};
}

/* Feeds [0, cut1), [cut1, cut2), [cut2, len). */
static struct verdict feed(const struct wsr_simd *level, const uint8_t *in, size_t len, size_t cut1, size_t cut2)
{
    const size_t ends[3] = {cut1, cut2, len};
    uint32_t state = 0, portable_state = 0;
    size_t at = 0;

    for (size_t i = 0; i < 3; i++) {
        size_t part = ends[i] - at;
        size_t stop = level->utf8(&state, in + at, part);
        if (stop != part)
            return (struct verdict){at + stop, false};
        wsr_simd_levels()[0]->utf8(&portable_state, in + at, part);
        assert_int_equal(state, portable_state);
        at = ends[i];
    }
    return (struct verdict){len, state == 0};
}

static void check_verdict(const struct wsr_simd *level, const uint8_t *in, size_t len, size_t cut1, size_t cut2)
{
    struct verdict want = reference_verdict(in, len);
    struct verdict got = feed(level, in, len, cut1, cut2);

    if (got.stop != want.stop || got.whole != want.whole)
        fail_msg("%s: len=%zu cuts=%zu,%zu stop %zu, should be %zu; whole %d, should be %d", level->name, len, cut1,
                 cut2, got.stop, want.stop, got.whole, want.whole);
}

struct sample {
    const char *text;
    bool valid;
};

/* UTF-05: the boundary cases, each judged alone, among ASCII and among longer sequences. */
static const struct sample samples[] = {
    {"\x7f", true}, {"\xc2\x80", true}, {"\xdf\xbf", true}, {"\xe0\xa0\x80", true}, {"\xec\xbf\xbf", true},
    {"\xed\x9f\xbf", true}, {"\xee\x80\x80", true}, {"\xef\xbf\xbd", true}, {"\xef\xbf\xbe", true},
    {"\xef\xbf\xbf", true}, {"\xef\xb7\x90", true}, {"\xf0\x90\x80\x80", true}, {"\xf0\x9f\xbf\xbe", true},
    {"\xf3\xbf\xbf\xbf", true}, {"\xf4\x8f\xbf\xbe", true}, {"\xf4\x8f\xbf\xbf", true}, {"\xef\xbb\xbf", true},
    {"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", true}, {"\xf1\x80\x80\x80", true}, {"\xe1\x80\x80", true},
    {"\x80", false}, {"\xbf", false}, {"\x80\x80", false}, {"\xc0\x80", false}, {"\xc0\xaf", false},
    {"\xc1\xbf", false}, {"\xc2", false}, {"\xc2\x41", false}, {"\xc2\xc2", false}, {"\xdf\xbf\xbf", false},
    {"\xe0\x80\x80", false}, {"\xe0\x9f\xbf", false}, {"\xe0\xa0", false}, {"\xe0\xa0\x41", false},
    {"\xed\xa0\x80", false}, {"\xed\xaf\xbf", false}, {"\xed\xb0\x80", false}, {"\xed\xbf\xbf", false},
    {"\xed\xa0\xbd\xed\xb8\x80", false}, {"\xef\xbf", false}, {"\xef\xbf\xc0", false}, {"\xef\xbf\xbf\xbf", false},
    {"\xf0\x80\x80\x80", false}, {"\xf0\x8f\xbf\xbf", false}, {"\xf0\x90\x80", false}, {"\xf0\x90\x41", false},
    {"\xf0\x90\x80\x41", false}, {"\xf4\x90\x80\x80", false}, {"\xf4\xbf\xbf\xbf", false}, {"\xf4\x8f\xbf", false},
    {"\xf4\x8f\xbf\xbf\xbf", false}, {"\xf5\x80\x80\x80", false}, {"\xf6\xbf\xbf\xbf", false},
    {"\xf7\xbf\xbf\xbf", false}, {"\xf8\x88\x80\x80\x80", false}, {"\xfb\xbf\xbf\xbf\xbf", false},
    {"\xfc\x84\x80\x80\x80\x80", false}, {"\xfd\xbf\xbf\xbf\xbf\xbf", false}, {"\xfe", false}, {"\xff", false},
    {"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80", false},
};
#define SAMPLES_COUNT (sizeof(samples) / sizeof(samples[0]))

/* UTF-01, UTF-02, UTF-03, UTF-04, UTF-05, UTF-06 (a BOM is text) */
static void utf8_samples_at_every_cut_into_three_feeds(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLES_COUNT; i++) {
        const uint8_t *in = (const uint8_t *)samples[i].text;
        size_t len = strlen(samples[i].text);
        assert_int_equal(reference_verdict(in, len).whole, samples[i].valid);
        for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
            for (size_t cut1 = 0; cut1 <= len; cut1++) {
                for (size_t cut2 = cut1; cut2 <= len; cut2++)
                    check_verdict(*level, in, len, cut1, cut2);
            }
        }
    }
}

/* UTF-05 (AB 6.7.1) */
static void utf8_accepts_nul(void **state)
{
    static const uint8_t zeros[LEN_MAX];

    (void)state;
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        for (size_t len = 0; len <= LEN_MAX; len++)
            check_verdict(*level, zeros, len, len / 3, len / 2);
    }
}

static void fill_pattern(uint8_t *to, size_t len, const char *pattern)
{
    size_t period = strlen(pattern);

    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)pattern[i % period];
}

/* UTF-02, UTF-05: every sample at every place of a long text, so that it meets every lane and every block border. */
static void utf8_samples_at_every_place_of_a_long_text(void **state)
{
    static const char *const grounds[] = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    uint8_t text[LEN_MAX + 40];
    struct guard guard;

    (void)state;
    guard_open(&guard, sizeof(text));
    for (size_t g = 0; g < 4; g++) {
        size_t period = strlen(grounds[g]);
        for (size_t i = 0; i < SAMPLES_COUNT; i++) {
            size_t bytes = strlen(samples[i].text);
            for (size_t at = 0; at <= LEN_MAX; at += period) {
                size_t len = at + bytes + (LEN_MAX - at) / period * period;
                fill_pattern(text, at, grounds[g]);
                memcpy(text + at, samples[i].text, bytes);
                fill_pattern(text + at + bytes, len - at - bytes, grounds[g]);
                uint8_t *in = memcpy(guard_tail(&guard, len), text, len);
                for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++)
                    check_verdict(*level, in, len, at, at);
                for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++)
                    check_verdict(*level, in, len, len, len);
            }
        }
    }
    guard_close(&guard);
}

/* UTF-05: all pairs of first bytes, with third and fourth bytes of each kind, deep in a vector and across a border. */
static void utf8_every_pair_of_bytes_is_judged_alike(void **state)
{
    static const uint8_t thirds[] = {0x41, 0x80, 0xbf, 0xc2};
    static const uint8_t fourths[] = {0x41, 0x80, 0xe1};
    static const size_t places[] = {0, 40, 62};
    uint8_t text[160];

    (void)state;
    for (size_t p = 0; p < 3; p++) {
        for (unsigned i = 0; i < 65536 * 12; i++) {
            memset(text, 'a', sizeof(text));
            text[places[p]] = (uint8_t)(i & 0xff);
            text[places[p] + 1] = (uint8_t)(i >> 8 & 0xff);
            text[places[p] + 2] = thirds[i >> 16 & 3];
            text[places[p] + 3] = fourths[i >> 18];
            struct verdict want = reference_verdict(text, sizeof(text));
            for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
                uint32_t at_end = 0;
                if ((*level)->utf8(&at_end, text, sizeof(text)) != want.stop)
                    fail_msg("%s: %02x %02x at %zu", (*level)->name, i & 0xff, i >> 8 & 0xff, places[p]);
            }
        }
    }
}

/* A random valid text of mixed lengths; the last code point may be cut by @len. */
static void random_text(uint64_t *seed, uint8_t *to, size_t len)
{
    size_t at = 0;
    unsigned ascii_weight = (unsigned)(random_next(seed) % 32);

    while (at < len) {
        const struct sample *one = &samples[random_next(seed) % 20];        /* the valid ones come first */
        uint8_t ascii = 'a';
        bool is_ascii = random_next(seed) % 32 < ascii_weight;
        const uint8_t *bytes = is_ascii ? &ascii : (const uint8_t *)one->text;
        size_t count = is_ascii ? 1 : strlen(one->text);
        count = count < len - at ? count : len - at;
        memcpy(to + at, bytes, count);
        at += count;
    }
}

/* UTF-01 to UTF-04: every length, every alignment and both guard pages; whole and with one byte spoilt. */
static void utf8_random_texts_at_every_length_and_place(void **state)
{
    uint64_t seed = 20;
    struct guard guard;
    uint8_t text[LEN_MAX];

    (void)state;
    guard_open(&guard, 2 * LEN_MAX);
    for (size_t len = 0; len <= LEN_MAX; len++) {
        for (unsigned round = 0; round < 2 * PLACES_COUNT; round++) {
            uint8_t *in = place(&guard, round % PLACES_COUNT, len);
            random_text(&seed, text, len);
            if (round >= PLACES_COUNT && len > 0)
                text[random_next(&seed) % len] = (uint8_t)random_next(&seed);
            memcpy(in, text, len);
            size_t cut1 = random_next(&seed) % (len + 1);
            size_t cut2 = cut1 + random_next(&seed) % (len - cut1 + 1);
            for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
                check_verdict(*level, in, len, len, len);
                check_verdict(*level, in, len, cut1, cut2);
            }
        }
    }
    guard_close(&guard);
}

/* UTF-02, UTF-03 */
static void utf8_long_texts_at_every_cut(void **state)
{
    uint64_t seed = 77;
    uint8_t text[LEN_MAX];

    (void)state;
    for (unsigned round = 0; round < 24; round++) {
        random_text(&seed, text, LEN_MAX);
        if (round % 2 == 1)
            text[random_next(&seed) % LEN_MAX] = (uint8_t)(0x80 | random_next(&seed));
        for (size_t cut = 0; cut <= LEN_MAX; cut++) {
            for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
                check_verdict(*level, text, LEN_MAX, cut, cut);
                check_verdict(*level, text, LEN_MAX, cut, cut + (LEN_MAX - cut) / 2);
            }
        }
    }
}

/* The state is 0 exactly at the end of a code point, whatever the bytes were fed in. */
static void utf8_byte_by_byte_equals_the_reference(void **state)
{
    uint64_t seed = 31;
    uint8_t text[LEN_MAX];

    (void)state;
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        random_text(&seed, text, LEN_MAX);
        uint32_t now = 0;
        for (size_t i = 0; i < LEN_MAX; i++) {
            assert_int_equal((*level)->utf8(&now, text + i, 1), 1);
            assert_int_equal(now == 0, reference_verdict(text, i + 1).whole);
        }
    }
}

static const char *own_path;    /* argv[0] */

/* Runs this binary anew with WSRING_SIMD=@value; gives its "name|text". NULL leaves the variable unset. */
static void choice_of_child(const char *value, char *out, size_t out_bytes)
{
    int ends[2];
    ssize_t got;
    size_t len = 0;
    int status = -1;

    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        if (value ? setenv("WSRING_SIMD", value, 1) : unsetenv("WSRING_SIMD"))
            _exit(126);
        const char *emulator = getenv("SIMD_TEST_EMULATOR");    /* set by tests/neon: /proc/self/exe is that then */
        if (emulator)
            execlp(emulator, emulator, own_path, "--choice", (char *)NULL);
        else
            execl("/proc/self/exe", "simd_test", "--choice", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    while (len < out_bytes - 1 && (got = read(ends[0], out + len, out_bytes - 1 - len)) > 0)
        len += (size_t)got;
    out[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static const char *best_name(void)
{
    const struct wsr_simd *const *level = wsr_simd_levels();

    while (level[1])
        level++;
    return (*level)->name;
}

static void environment_forces_each_level_offered(void **state)
{
    char got[256], want[64];

    (void)state;
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        snprintf(want, sizeof(want), "%s|", (*level)->name);
        choice_of_child((*level)->name, got, sizeof(got));
        assert_string_equal(got, want);
    }
}

static void without_environment_the_best_level_is_used(void **state)
{
    char got[256], want[64];

    (void)state;
    snprintf(want, sizeof(want), "%s|", best_name());
    choice_of_child(NULL, got, sizeof(got));
    assert_string_equal(got, want);
    choice_of_child("", got, sizeof(got));
    assert_string_equal(got, want);
}

static void a_level_that_is_not_offered_is_not_obeyed_and_says_so(void **state)
{
    static const char *const names[] = {"sse4.1", "avx2", "avx512", "neon", "AVX2", "mmx"};
    char got[256];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        bool offered = false;
        for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++)
            offered |= strcmp((*level)->name, names[i]) == 0;
        if (offered)
            continue;
        choice_of_child(names[i], got, sizeof(got));
        assert_memory_equal(got, best_name(), strlen(best_name()));
        assert_non_null(strstr(got, "|WSRING_SIMD names "));
    }
}

static void portable_is_first_and_the_choice_is_one_of_the_levels(void **state)
{
    const struct wsr_simd *const *level = wsr_simd_levels();

    (void)state;
    assert_string_equal(level[0]->name, "portable");
    while (*level && *level != wsr_simd())
        level++;
    assert_ptr_equal(*level, wsr_simd());
}

/* The benchmark: pairs are interleaved and medians of the rounds compared, because machines are noisy. */
#define ROUNDS_COUNT 11
#define BENCH_BYTES_MAX (1u << 20)

enum work { WORK_MEMCPY, WORK_MASK_COPY, WORK_MASK, WORK_READ, WORK_UTF8 };

struct bench {
    uint8_t *to;
    uint8_t *from;
    size_t len;
    const uint16_t *lens;       /* LENS_COUNT, one for each call, and @len is their mean; NULL = @len for every call */
    const struct wsr_simd *level;
};

/* So many that no branch predictor learns them by heart. */
#define LENS_COUNT 65536

/* Pointers the compiler cannot see through, so that both sides pay for a call. */
static void *(*volatile copy_bytes)(void *, const void *, size_t) = memcpy;
static volatile uint64_t sink;

#if defined(__x86_64__)
#define READ_TARGET __attribute__((target("avx2")))
#else
#define READ_TARGET
#endif

typedef uint64_t lanes __attribute__((vector_size(32), aligned(1), may_alias));

/*
 * What reading costs: the sum of all vectors. Each sum is its own variable, for an array of them may live in memory and
 * then the loop would measure its stores. @len is a multiple of 128.
 */
READ_TARGET static void sum_vectors(const uint8_t *in, size_t len)
{
    lanes sum0 = {0}, sum1 = {0}, sum2 = {0}, sum3 = {0};

    for (size_t at = 0; at < len; at += 128) {
        const lanes *block = (const void *)(in + at);
        sum0 += block[0];
        sum1 += block[1];
        sum2 += block[2];
        sum3 += block[3];
    }
    lanes sum = sum0 + sum1 + sum2 + sum3;
    sink = sum[0] + sum[1] + sum[2] + sum[3];
}

static void do_once(enum work work, const struct bench *b)
{
    uint32_t state = 0;

    switch (work) {
    case WORK_MEMCPY:
        copy_bytes(b->to, b->from, b->len);
        break;
    case WORK_MASK_COPY:
        b->level->mask_copy(b->to, b->from, b->len, keys[0], 1);
        break;
    case WORK_MASK:
        b->level->mask(b->to, b->len, keys[0], 1);
        break;
    case WORK_READ:
        sum_vectors(b->from, b->len);
        break;
    case WORK_UTF8:
        sink = b->level->utf8(&state, b->from, b->len);
        break;
    }
}

static double ns_per_call(enum work work, const struct bench *b)
{
    size_t calls = b->lens ? LENS_COUNT : (4u << 20) / (b->len + 64) + 1;
    struct bench one = *b;
    struct timespec begin, end;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (size_t i = 0; i < calls; i++) {
        if (b->lens)
            one.len = b->lens[i];
        do_once(work, &one);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / (double)calls;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(values[0]), by_value);
    return values[count / 2];
}

/* How fast @work is, as a part of the speed of @reference. */
static void report(const char *what, enum work work, enum work reference, const struct bench *b)
{
    double ours[ROUNDS_COUNT], theirs[ROUNDS_COUNT], ratios[ROUNDS_COUNT];

    ns_per_call(work, b);
    ns_per_call(reference, b);
    for (size_t i = 0; i < ROUNDS_COUNT; i++) {
        theirs[i] = ns_per_call(reference, b);
        ours[i] = ns_per_call(work, b);
        ratios[i] = theirs[i] / ours[i];
    }
    double ns = median(ours, ROUNDS_COUNT);
    printf("%-24s %-9s %8zu B %9.1f ns %7.2f GB/s  %5.2f of the reference (%.1f ns)\n", what, b->level->name, b->len,
           ns, (double)b->len / ns, median(ratios, ROUNDS_COUNT), median(theirs, ROUNDS_COUNT));
}

static const char *const bench_texts[][2] = {
    {"utf8 ascii", "{\"price\":1.25,\"size\":100}"},
    {"utf8 mixed",
     "Gr\xc3\xbc\xc3\x9f" "e \xd0\x9c\xd0\xb8\xd1\x80 \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x98\x80! "},
    {"utf8 three-byte", "\xe4\xb8\x96\xe7\x95\x8c"},
};
#define BENCH_TEXTS_COUNT (sizeof(bench_texts) / sizeof(bench_texts[0]))

/* Short runs, as small messages are: of one length, and of lengths in no order. */
static void bench_short(struct bench *b)
{
    static const uint16_t ranges[][2] = {{16, 16}, {48, 48}, {64, 64}, {128, 128}, {300, 300},
                                         {1, 16}, {1, 64}, {16, 128}, {16, 300}, {200, 1000}};
    static uint16_t lens[LENS_COUNT];
    uint64_t seed = 42;
    char what[64];

    for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
        size_t least = ranges[r][0], most = ranges[r][1];
        for (size_t i = 0; i < LENS_COUNT; i++)
            lens[i] = (uint16_t)(least + random_next(&seed) % (most - least + 1));
        b->lens = lens;
        b->len = (least + most) / 2;
        snprintf(what, sizeof(what), "mask_copy %zu to %zu", least, most);
        report(what, WORK_MASK_COPY, WORK_MEMCPY, b);
        for (size_t t = 0; t < 2; t++) {
            fill_pattern(b->from, BENCH_BYTES_MAX, bench_texts[t][1]);
            snprintf(what, sizeof(what), "%s %zu to %zu", bench_texts[t][0], least, most);
            report(what, WORK_UTF8, WORK_MEMCPY, b);
        }
    }
    b->lens = NULL;
}

static void bench_level(struct bench *b)
{
    static const size_t mask_sizes[] = {64, 128, 256, 1024, 4096, 16384, 65536, 262144, BENCH_BYTES_MAX};
    static const size_t text_sizes[] = {128, 1024, 4096, 65536, BENCH_BYTES_MAX};

    for (size_t i = 0; i < sizeof(mask_sizes) / sizeof(mask_sizes[0]); i++) {
        b->len = mask_sizes[i];
        report("mask_copy/memcpy", WORK_MASK_COPY, WORK_MEMCPY, b);
        report("mask/memcpy", WORK_MASK, WORK_MEMCPY, b);
    }
    bench_short(b);
    for (size_t t = 0; t < BENCH_TEXTS_COUNT; t++) {
        fill_pattern(b->from, BENCH_BYTES_MAX, bench_texts[t][1]);
        for (size_t i = 0; i < sizeof(text_sizes) / sizeof(text_sizes[0]); i++) {
            b->len = text_sizes[i];
            report(bench_texts[t][0], WORK_UTF8, WORK_READ, b);
        }
    }
}

static int bench(void)
{
    struct bench b = {.to = aligned_alloc(64, BENCH_BYTES_MAX + 4096),
                      .from = aligned_alloc(64, BENCH_BYTES_MAX + 4096)};

    if (!b.to || !b.from)
        return 1;
    memset(b.to, 1, BENCH_BYTES_MAX);
    for (const struct wsr_simd *const *level = wsr_simd_levels(); *level; level++) {
        b.level = *level;
        bench_level(&b);
    }
    free(b.to);
    free(b.from);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(portable_is_first_and_the_choice_is_one_of_the_levels),
        cmocka_unit_test(mask_in_place_is_exact_at_every_length_phase_and_alignment),
        cmocka_unit_test(mask_copy_is_exact_and_leaves_the_source_alone),
        cmocka_unit_test(mask_of_long_runs_equals_the_reference),
        cmocka_unit_test(mask_in_two_pieces_equals_mask_at_once),
        cmocka_unit_test(utf8_samples_at_every_cut_into_three_feeds),
        cmocka_unit_test(utf8_accepts_nul),
        cmocka_unit_test(utf8_samples_at_every_place_of_a_long_text),
        cmocka_unit_test(utf8_every_pair_of_bytes_is_judged_alike),
        cmocka_unit_test(utf8_random_texts_at_every_length_and_place),
        cmocka_unit_test(utf8_long_texts_at_every_cut),
        cmocka_unit_test(utf8_byte_by_byte_equals_the_reference),
        cmocka_unit_test(environment_forces_each_level_offered),
        cmocka_unit_test(without_environment_the_best_level_is_used),
        cmocka_unit_test(a_level_that_is_not_offered_is_not_obeyed_and_says_so),
    };

    own_path = argv[0];
    if (argc == 2 && strcmp(argv[1], "--choice") == 0)
        return printf("%s|%s", wsr_simd()->name, wsr_simd_choice_text()) < 0;
    if (argc == 2 && strcmp(argv[1], "--bench") == 0)
        return bench();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
