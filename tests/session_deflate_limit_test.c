/* engine/session.c and engine/session_deflate.c: how much a compressed message may be and hold.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "tests/support/deflated.h"

/* ---- Limits ---------------------------------------------------------------------------------------- */

/* PMD-47, RECV-14: 64 MiB of one byte in 64 KiB. It fails where the limit is passed, without holding more than that. */
static void a_bomb_stops_at_the_limit(void **state)
{
    static uint8_t zeros[1u << 20], bomb[DEFLATED_STREAM_MAX];
    struct wsr_session_limits limits = deflated_limits;
    size_t len = 0;
    z_stream z;
    (void)state;
    deflated_start_server(&z, 9, 15);
    for (size_t i = 0; i < 64; i++) {
        z.next_in = zeros;
        z.avail_in = sizeof zeros;
        z.next_out = bomb + len;
        z.avail_out = (uInt)(sizeof bomb - len);
        assert_int_equal(deflate(&z, i < 63 ? Z_NO_FLUSH : Z_SYNC_FLUSH), Z_OK);
        len = sizeof bomb - z.avail_out;
    }
    (void)deflateEnd(&z);
    assert_true(len > 60000 && len < 70000);
    limits.message_max_bytes = 100000;
    static const size_t pieces[] = { 1, 7, 1000, DEFLATED_STREAM_MAX };
    for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
        for (size_t i = 0; i < 4; i++) {
            static struct deflated_stream s;
            static struct deflated_peer p;
            size_t at = 0;
            s.len = 0;
            deflated_put_frame(&s, DEFLATED_BINARY, bomb, len - DEFLATED_TAIL_BYTES);
            deflated_open(&p, &limits, DEFLATED_AGREED, way);
            while (at < s.len && p.session.state == WSR_SESSION_OPEN) {
                size_t n = s.len - at < pieces[i] ? s.len - at : pieces[i];
                deflated_feed(&p, s.bytes + at, n);
                at += n;
                assert_true(deflated_memory.largest_bytes <= limits.message_max_bytes + 1);
                assert_true(deflated_memory.live_count <= 1);
            }
            assert_string_equal(p.log, "fail(1009)");
            assert_true(pieces[i] > 1000 || at < 2000);               /* 1,030 to 1 at most */
            assert_int_equal(deflated_memory.live_count, 0);
            assert_true(deflated_memory.grows_count <= 20);
            deflated_finish(&p);
        }
    }
}

/* One message of @len bytes, as one frame, or as three and an empty one. */
static void put_limit_message(struct deflated_stream *s, int level, const uint8_t *bytes, size_t len,
                              bool is_fragmented)
{
    static uint8_t out[DEFLATED_STREAM_MAX];
    z_stream z;
    deflated_start_server(&z, level, 15);
    size_t made = deflated_compress(&z, bytes, len, out, sizeof out);
    (void)deflateEnd(&z);
    *s = (struct deflated_stream){ .rule = "limit" };
    if (!is_fragmented) {
        deflated_put_frame(s, DEFLATED_BINARY, out, made);
        return;
    }
    deflated_put_frame(s, DEFLATED_RSV1 | WSR_OPCODE_BINARY, out, made / 3);
    deflated_put_frame(s, WSR_OPCODE_CONTINUATION, out + made / 3, made / 3);
    deflated_put_frame(s, WSR_OPCODE_CONTINUATION, out + made / 3 * 2, made - made / 3 * 2);
    deflated_put_frame(s, WSR_FRAME_FIN | WSR_OPCODE_CONTINUATION, out, 0);
}

/* PMD-47, RECV-14: what counts is the inflated size, also when what came is larger than that, as stored blocks are. */
static void the_inflated_size_passes_at_the_limit_and_fails_above_it(void **state)
{
    static const uint64_t sizes[] = { 1, 2, 3, 100, 125, 1000, 4095, 4096, 4097, 65535, 70000 };
    static uint8_t bytes[70001];
    static struct deflated_stream s;
    struct wsr_session_limits limits = deflated_limits;
    (void)state;
    for (size_t i = 0; i < 4 * sizeof sizes / sizeof sizes[0]; i++) {
        bool is_stored = (i & 1) != 0, is_fragmented = (i & 2) != 0;
        limits.message_max_bytes = sizes[i / 4];
        memset(bytes, 'z', sizeof bytes);
        if (is_stored)
            deflated_fill_random(bytes, sizeof bytes, (uint32_t)i);
        for (size_t over = 0; over < 2; over++) {
            size_t len = (size_t)limits.message_max_bytes + over;
            static struct deflated_peer p;
            p.log_used = 0;
            deflated_log(&p, "binary(");
            deflated_log_bytes(&p, wsr_bytes_of(bytes, len));
            deflated_log(&p, ")");
            char want[DEFLATED_LOG_MAX];
            strcpy(want, over > 0 ? "fail(1009)" : p.log);
            put_limit_message(&s, is_stored ? 0 : 6, bytes, len, is_fragmented);
            s.limits = &limits;
            for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
                deflated_check_cut(&s, want, way, s.len, s.len);
                deflated_check_cut(&s, want, way, s.len / 3, s.len / 2);
                deflated_check_cut(&s, want, way, 1, s.len - 1);
                if (s.len < 5000)
                    deflated_check_cut(&s, want, way, DEFLATED_NEVER, DEFLATED_NEVER);
            }
        }
    }
}

/* PMD-47: what stands for nothing may not be sent for ever, in one frame or in many. */
static void blocks_of_nothing_end_at_the_limit_of_what_comes(void **state)
{
    static uint8_t block[5] = { 0, 0, 0, 0xFF, 0xFF };
    static const uint32_t blocks_per_frame[] = { 1, 20, 400 };
    struct wsr_session_limits limits = deflated_limits;
    (void)state;
    limits.message_max_bytes = 3000;
    limits.fragments_max = 100000;
    for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
        for (size_t i = 0; i < 3; i++) {
            static struct deflated_peer p;
            static struct deflated_stream s;
            size_t wire_bytes = 0;
            deflated_open(&p, &limits, DEFLATED_AGREED, way);
            for (unsigned k = 0; p.session.state == WSR_SESSION_OPEN; k++) {
                static uint8_t payload[400 * sizeof block];
                for (size_t n = 0; n < blocks_per_frame[i]; n++)
                    memcpy(payload + n * sizeof block, block, sizeof block);
                s.len = 0;
                deflated_put_frame(&s, k == 0 ? DEFLATED_RSV1 | WSR_OPCODE_TEXT : WSR_OPCODE_CONTINUATION, payload,
                          blocks_per_frame[i] * sizeof block);
                deflated_feed(&p, s.bytes, s.len);
                wire_bytes += blocks_per_frame[i] * sizeof block;
                assert_true(wire_bytes < 10000);
                assert_true(p.session.state == WSR_SESSION_OPEN || wire_bytes > limits.message_max_bytes);
            }
            assert_string_equal(p.log, "fail(1009)");
            assert_true(deflated_memory.largest_bytes <= limits.message_max_bytes + 1);
            deflated_finish(&p);
        }
    }
}

/* RECV-05, RECV-15: a header that announces more than may come fails by itself; one that announces much pins
 * nothing. */
static void what_a_header_announces_pins_nothing(void **state)
{
    static struct deflated_stream s;
    static struct deflated_peer p;
    (void)state;
    for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
        s = (struct deflated_stream){ .rule = "RECV-05" };
        deflated_put_notation(&s, "c27f 0000000100000000");
        deflated_check_cut(&s, "fail(1009)", way, s.len, s.len);
        deflated_check_cut(&s, "fail(1009)", way, DEFLATED_NEVER, DEFLATED_NEVER);
        s.len = 0;
        deflated_put_notation(&s, "c17f 0000000000100000 f248cd");
        deflated_open(&p, &deflated_limits, DEFLATED_AGREED, way);
        deflated_feed(&p, s.bytes, s.len);
        assert_int_equal(p.session.state, WSR_SESSION_OPEN);
        assert_true(deflated_memory.largest_bytes <= 4096);
        deflated_finish(&p);
    }
}

/* Without a limit in sight, every number that is made of it still holds. */
static void the_largest_limits_take_messages(void **state)
{
    static const struct wsr_session_limits limits = {
        .message_max_bytes = UINT64_MAX, .fragments_max = UINT32_MAX, .head_max_bytes = 4096, .interim_max = 3
    };
    static struct deflated_stream s;
    (void)state;
    s = (struct deflated_stream){ .rule = "limits", .limits = &limits };
    deflated_put_notation(&s, "c107 f248cdc9c90700 4103 f20011 8002 0000 c10b 000500faff48656c6c6f00");
    deflated_check(&s, "text(Hello) text(Hello) text(Hello)");
}

/* RECV-14 */
static void fragments_count_when_compressed_too(void **state)
{
    static const struct deflated_row rows[] = {
        { "three", "4103 f248cd 0002 c9c9 8902 'ab' 8002 0700 4100 0000 8000", "ping(ab) text(Hello) text()" },
        { "four", "4103 f248cd 0002 c9c9 0001 07 8001 00", "fail(1008)" },
        { "four empty ones", "4100 0000 0000 8900 8000", "ping() fail(1008)" },
        { "empty behind three", "4103 f248cd 0002 c9c9 0002 0700 8000", "fail(1008)" }
    };
    static struct wsr_session_limits limits;
    (void)state;
    limits = deflated_limits;
    limits.fragments_max = 3;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct deflated_stream s;
        const char *want = rows[i].want;
        s = (struct deflated_stream){ .rule = rows[i].rule, .limits = &limits };
        deflated_put_notation(&s, rows[i].stream);
        deflated_check(&s, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bomb_stops_at_the_limit),
        cmocka_unit_test(the_inflated_size_passes_at_the_limit_and_fails_above_it),
        cmocka_unit_test(blocks_of_nothing_end_at_the_limit_of_what_comes),
        cmocka_unit_test(what_a_header_announces_pins_nothing),
        cmocka_unit_test(the_largest_limits_take_messages),
        cmocka_unit_test(fragments_count_when_compressed_too)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
