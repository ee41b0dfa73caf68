/* engine/frame.c against tables: every first byte, every length form, every cut.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/frame.h"

/* Lengths at both sides of every boundary of RFC 6455 5.2. */
static const uint64_t lengths[] = {
    0, 1, 124, 125, 126, 127, 128, 255, 256, 32767, 32768, 65534, 65535, 65536, 65537, UINT32_MAX,
    (uint64_t)UINT32_MAX + 1, (uint64_t)INT64_MAX - 1, INT64_MAX
};
static const uint8_t key[4] = { 0x12, 0x00, 0xFF, 0x80 };

/* Parse exactly @len bytes in memory of their own, so that a sanitizer sees a byte too many. */
static int parse_exactly(struct wsr_frame *out, const uint8_t *in, size_t len)
{
    uint8_t *own = malloc(len > 0 ? len : 1);
    assert_non_null(own);
    memcpy(own, in, len);
    int rc = wsr_frame_parse(out, own, len);
    free(own);
    return rc;
}

/* Every prefix of @in needs more, until one gives @want; all longer ones give the same. */
static void check_every_prefix(const uint8_t *in, size_t len, int want, size_t decided_at)
{
    for (size_t n = 0; n <= len; n++) {
        struct wsr_frame frame;
        struct wsr_frame before;
        memset(&frame, 0xA5, sizeof frame);
        memcpy(&before, &frame, sizeof frame);
        assert_int_equal(parse_exactly(&frame, in, n), n < decided_at ? 0 : want);
        if (n < decided_at || want < 0)
            assert_memory_equal(&frame, &before, sizeof frame);
    }
}

/* RECV-01, RECV-02, RECV-06 */
static void every_first_byte_is_judged_by_rsv_then_opcode_then_fin(void **state)
{
    static const bool defined[16] = { [0] = true, [1] = true, [2] = true, [8] = true, [9] = true, [10] = true };
    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        uint8_t in[2] = { (uint8_t)first, 5 };
        int want = 2;
        if (first & 0x30)
            want = WSR_FRAME_RSV;
        else if (!defined[first & 15])
            want = WSR_FRAME_OPCODE;
        else if ((first & 15) >= 8 && first < 0x80)
            want = WSR_FRAME_CONTROL_FRAGMENT;
        check_every_prefix(in, sizeof in, want, want < 0 ? 1 : 2);
        struct wsr_frame frame;
        if (wsr_frame_parse(&frame, in, sizeof in) <= 0)
            continue;
        assert_int_equal(frame.opcode, first & 15);
        assert_int_equal(frame.fin, first >> 7);
        assert_int_equal(frame.rsv, first & 0x40 ? WSR_FRAME_RSV1 : 0);
        assert_int_equal(frame.payload_bytes, 5);
        assert_false(frame.masked);
    }
}

/* RECV-06 */
static void control_frames_over_125_bytes_fail_by_the_second_byte(void **state)
{
    (void)state;
    for (unsigned opcode = 8; opcode <= 10; opcode++) {
        for (unsigned second = 0; second < 256; second++) {
            uint8_t in[6] = { (uint8_t)(0x80 | opcode), (uint8_t)second };
            bool is_long = (second & 127) > 125;
            int whole = second & 128 ? 6 : 2;
            check_every_prefix(in, sizeof in, is_long ? WSR_FRAME_CONTROL_LENGTH : whole, is_long ? 2 : (size_t)whole);
        }
    }
}

/* RECV-04, RECV-05 */
static void only_the_shortest_length_form_below_2_to_63_passes(void **state)
{
    static const struct {
        uint8_t bytes[10];
        size_t len;
        int want;
    } rows[] = {
        { { 0x82, 126, 0, 0 }, 4, WSR_FRAME_NOT_MINIMAL },
        { { 0x82, 126, 0, 125 }, 4, WSR_FRAME_NOT_MINIMAL },
        { { 0x82, 126, 0, 126 }, 4, 4 },
        { { 0x82, 126, 255, 255 }, 4, 4 },
        { { 0x82, 127, 0, 0, 0, 0, 0, 0, 0, 0 }, 10, WSR_FRAME_NOT_MINIMAL },
        { { 0x82, 127, 0, 0, 0, 0, 0, 0, 0, 125 }, 10, WSR_FRAME_NOT_MINIMAL },
        { { 0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255 }, 10, WSR_FRAME_NOT_MINIMAL },
        { { 0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0 }, 10, 10 },
        { { 0x82, 127, 127, 255, 255, 255, 255, 255, 255, 255 }, 10, 10 },
        { { 0x82, 127, 128, 0, 0, 0, 0, 0, 0, 0 }, 10, WSR_FRAME_LENGTH_63 },
        { { 0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255 }, 10, WSR_FRAME_LENGTH_63 }
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t in[WSR_FRAME_HEAD_MAX] = { 0 };
        memcpy(in, rows[i].bytes, rows[i].len);
        check_every_prefix(in, rows[i].len, rows[i].want, rows[i].len);
        in[1] |= 0x80;                               /* a mask behind it delays success, not an error */
        int want = rows[i].want < 0 ? rows[i].want : rows[i].want + 4;
        check_every_prefix(in, rows[i].len + 4, want, want < 0 ? rows[i].len : rows[i].len + 4);
    }
}

/* SEND-11, RECV-11 */
static void what_is_written_is_parsed_back_at_every_cut(void **state)
{
    static const uint8_t firsts[] = { 0x81, 0x82, 0x01, 0x00, 0x80, 0xC1 };
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0] * 2 * sizeof firsts; i++) {
        uint64_t length = lengths[i / (2 * sizeof firsts)];
        uint8_t first = firsts[i / 2 % sizeof firsts];
        bool masked = i % 2 != 0;
        uint8_t out[WSR_FRAME_HEAD_MAX];
        size_t bytes = wsr_frame_write(out, first, length, masked ? key : NULL);
        assert_int_equal(bytes, wsr_frame_head_bytes(length, masked));
        assert_int_equal(bytes, (length < 126 ? 2u : length < 65536 ? 4u : 10u) + (masked ? 4u : 0u));
        check_every_prefix(out, bytes, (int)bytes, bytes);

        struct wsr_frame frame;
        assert_int_equal(wsr_frame_parse(&frame, out, bytes), bytes);
        assert_true(frame.payload_bytes == length);
        assert_int_equal(frame.head_bytes, bytes);
        assert_int_equal(frame.fin << 7 | frame.rsv << 4 | frame.opcode, first);
        assert_int_equal(frame.masked, masked);
        if (masked)
            assert_memory_equal(frame.mask, key, sizeof key);
    }
}

static void control_heads_are_written_with_their_opcode(void **state)
{
    static const uint8_t want[] = { 0x8A, 0xFD, 0x12, 0x00, 0xFF, 0x80 };
    uint8_t out[WSR_FRAME_HEAD_MAX];
    (void)state;
    assert_int_equal(wsr_frame_write(out, WSR_FRAME_FIN | WSR_OPCODE_PONG, 125, key), sizeof want);
    assert_memory_equal(out, want, sizeof want);
}

/* One wire format, two readers: the shortcut may decline, but never differ. */
static void the_shortcut_agrees_with_the_parser_for_every_head(void **state)
{
    static const uint16_t extended[] = { 0, 1, 125, 126, 127, 255, 256, 65535 };
    unsigned accepted = 0;
    (void)state;
    for (unsigned i = 0; i < 65536u * 8; i++) {
        uint8_t in[WSR_FRAME_HEAD_MAX] = { (uint8_t)(i >> 11), (uint8_t)(i >> 3) };
        wsr_store_be16(in + 2, extended[i % 8]);
        size_t payload_bytes = 0;
        size_t bytes = wsr_frame_parse_plain(in, sizeof in, &payload_bytes);
        struct wsr_frame frame = { 0 };
        int parsed = wsr_frame_parse(&frame, in, sizeof in);
        bool is_plain = parsed > 0 && frame.fin && frame.rsv == 0 && !frame.masked && in[1] > 0 && in[1] < 127 &&
                        (frame.opcode == WSR_OPCODE_TEXT || frame.opcode == WSR_OPCODE_BINARY);
        assert_int_equal(bytes, is_plain ? parsed : 0);
        if (is_plain)
            assert_true(payload_bytes == frame.payload_bytes);
        accepted += is_plain;
        for (size_t len = 0; len < 4; len++) {
            size_t want = is_plain && parsed == 2 && len == 3 ? 2 : 0;
            assert_int_equal(wsr_frame_parse_plain(in, len, &payload_bytes), want);
        }
    }
    assert_int_equal(accepted, 2 * (125 * 8 + 5));
}

/* Semantics 3.3, CLOSE-13 */
static void of_all_close_codes_these_may_be_received(void **state)
{
    static const uint16_t first_last[][2] = { { 1000, 1003 }, { 1007, 1014 }, { 3000, 4999 } };
    (void)state;
    for (unsigned code = 0; code <= UINT16_MAX; code++) {
        bool want = false;
        for (size_t i = 0; i < sizeof first_last / sizeof first_last[0]; i++)
            want |= code >= first_last[i][0] && code <= first_last[i][1];
        assert_int_equal(wsr_frame_close_code_is_valid((uint16_t)code), want);
    }
}

static void every_error_has_a_sentence_of_its_own(void **state)
{
    (void)state;
    for (int a = WSR_FRAME_LENGTH_63; a < 0; a++) {
        assert_string_not_equal(wsr_frame_error_text(a), "unknown");
        for (int b = WSR_FRAME_LENGTH_63; b < a; b++)
            assert_string_not_equal(wsr_frame_error_text(a), wsr_frame_error_text(b));
    }
    assert_string_equal(wsr_frame_error_text(-99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_first_byte_is_judged_by_rsv_then_opcode_then_fin),
        cmocka_unit_test(control_frames_over_125_bytes_fail_by_the_second_byte),
        cmocka_unit_test(only_the_shortest_length_form_below_2_to_63_passes),
        cmocka_unit_test(what_is_written_is_parsed_back_at_every_cut),
        cmocka_unit_test(control_heads_are_written_with_their_opcode),
        cmocka_unit_test(the_shortcut_agrees_with_the_parser_for_every_head),
        cmocka_unit_test(of_all_close_codes_these_may_be_received),
        cmocka_unit_test(every_error_has_a_sentence_of_its_own)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
