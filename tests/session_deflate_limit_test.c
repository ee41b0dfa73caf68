/* engine/session.c and engine/session_deflate.c: how much a compressed message may be and hold.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "tests/support/deflated.h"

/* The linker puts this between the library and its memory (meson.build). */
void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);

static size_t mallocs_left = SIZE_MAX;    /* after so many there is no memory */

void *__wrap_malloc(size_t bytes)
{
    if (mallocs_left == 0)
        return NULL;
    mallocs_left -= mallocs_left != SIZE_MAX;
    return __real_malloc(bytes);
}

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
            const char *want = over > 0 ? "fail(1009)" : p.log;
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

/* PMD-47, PMD-48, RECV-11: what is wrong first decides, not how much of it an inflater makes at a time. */
static void the_first_of_bad_text_and_of_too_much_decides(void **state)
{
    struct wsr_session_limits limits = deflated_limits;
    static uint8_t text[6000];
    static struct deflated_stream s;
    (void)state;
    limits.message_max_bytes = 100;
    for (size_t bad = 95; bad < 105; bad++) {
        z_stream z;
        memset(text, 'z', sizeof text);
        text[bad] = 0xFF;
        s = (struct deflated_stream){ .rule = "the first", .limits = &limits };
        deflated_start_server(&z, 9, 15);
        (void)deflated_put_message(&s, &z, DEFLATED_TEXT, text, sizeof text);
        (void)deflateEnd(&z);
        deflated_check(&s, bad < 100 ? "fail(1007)" : "fail(1009)");
    }
}

/* How much zlib makes of the first @len bytes of a message. */
static size_t inflated_bytes(const uint8_t *payload, size_t len)
{
    static uint8_t out[4096];
    z_stream z = { .next_in = (Bytef *)(uintptr_t)payload, .avail_in = (uInt)len };
    assert_int_equal(inflateInit2(&z, -15), Z_OK);
    z.next_out = out;
    z.avail_out = sizeof out;
    (void)inflate(&z, Z_SYNC_FLUSH);
    size_t made = sizeof out - z.avail_out;
    assert_true(z.avail_out > 0);
    assert_int_equal(inflateEnd(&z), Z_OK);
    return made;
}

/* PMD-47, RECV-08: all that a fragment stands for is judged before the frame behind it, also when the room for it was
 * used up by the fragment's last byte. */
static void a_fragment_is_inflated_to_its_end_before_the_next_frame(void **state)
{
    struct wsr_session_limits limits = deflated_limits;
    static uint8_t text[800], payload[128];
    static struct deflated_stream s;
    (void)state;
    memset(text, 'z', sizeof text);
    for (size_t bytes = 513; bytes < sizeof text; bytes++) {
        z_stream z;
        deflated_start_server(&z, 9, 15);
        size_t len = deflated_compress(&z, text, bytes, payload, sizeof payload);
        (void)deflateEnd(&z);
        limits.message_max_bytes = bytes - 1;
        for (size_t first = 1; first < len; first++) {
            s = (struct deflated_stream){ .rule = "fragment", .limits = &limits };
            deflated_put_frame(&s, DEFLATED_RSV1 | WSR_OPCODE_TEXT, payload, first);
            deflated_put_notation(&s, "8901 'p'");
            deflated_put_frame(&s, WSR_FRAME_FIN | WSR_OPCODE_CONTINUATION, payload + first, len - first);
            bool is_too_big = inflated_bytes(payload, first) == bytes;
            for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
                const char *want = is_too_big ? "fail(1009)" : "ping(p) fail(1009)";
                deflated_check_cut(&s, want, way, s.len, s.len);
                deflated_check_cut(&s, want, way, DEFLATED_NEVER, DEFLATED_NEVER);
                deflated_check_cut(&s, want, way, 2, 2 + first);
            }
        }
    }
}

/* PMD-46, PMD-47: what is cut off and too large is too large, but what the tail makes of it is no part of it; and both
 * however little room there was. */
static void a_message_cut_off_is_inflated_to_its_end(void **state)
{
    struct wsr_session_limits limits = deflated_limits;
    static struct deflated_stream s;
    (void)state;
    for (uint32_t seed = 0; seed < 3000; seed++) {
        uint8_t text[40], payload[128], cut[128];
        z_stream z;
        deflated_fill_random(text, sizeof text, seed * 2654435761u);
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = 'a' + text[i] % 3;
        deflated_start_server(&z, 9, 15);
        size_t len = deflated_compress(&z, text, sizeof text, payload, sizeof payload);
        (void)deflateEnd(&z);
        for (size_t end = len / 2; end < len; end++) {
            memcpy(cut, payload, end);
            memcpy(cut + end, "\x00\x00\xff\xff", DEFLATED_TAIL_BYTES);
            size_t made = inflated_bytes(cut, end + DEFLATED_TAIL_BYTES);
            if (made < 2)
                continue;
            limits.message_max_bytes = made - 1;
            s.rule = "cut off";
            s.limits = &limits;
            s.len = 0;
            deflated_put_frame(&s, DEFLATED_BINARY, payload, end);
            const char *want = inflated_bytes(cut, end) == made ? "fail(1009)" : "fail(1007)";
            for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++)
                deflated_check_cut(&s, want, way, s.len, s.len);
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
    s.len = 0;
    deflated_put_notation(&s, "c17f 7fffffffffffffff f2");       /* no more than a header, but it may come */
    deflated_check(&s, "");
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

/* ---- Memory ---------------------------------------------------------------------------------------- */

/* A message that comes whole is inflated where the memory says; what does not fit there, in a block. */
static void a_whole_message_is_inflated_into_what_is_lent(void **state)
{
    static const struct { enum deflated_way way; size_t borrows, keeps, grows; } rows[] = {
        { DEFLATED_IN_BLOCKS, 0, 0, 1 }, { DEFLATED_LENT, 1, 1, 0 }, { DEFLATED_LENT_LITTLE, 1, 0, 1 },
        { DEFLATED_LENT_NOTHING, 0, 0, 1 }, { DEFLATED_IN_PIECES, 0, 0, 1 }
    };
    static struct deflated_stream s;
    static struct deflated_peer p;
    (void)state;
    deflated_put_notation(&s, "c107 f248cdc9c90700");
    for (size_t i = 0; i < DEFLATED_WAYS; i++) {
        deflated_open(&p, &deflated_limits, DEFLATED_AGREED, rows[i].way);
        deflated_feed(&p, s.bytes, s.len);
        assert_string_equal(p.log, "text(Hello)");
        assert_int_equal(deflated_memory.borrows_count, rows[i].borrows);
        assert_int_equal(deflated_memory.keeps_count, rows[i].keeps);
        assert_int_equal(deflated_memory.grows_count > 0, rows[i].grows > 0);
        if (rows[i].borrows > 0)
            assert_int_equal(deflated_memory.asked_bytes, 7);
        deflated_finish(&p);
    }
}

/* What comes in pieces cannot be borrowed for, as the loan ends with the call; what fills a loan exactly still fits. */
static void loans_end_with_the_call_that_made_them(void **state)
{
    static struct deflated_stream s;
    static struct deflated_peer p;
    (void)state;
    s.len = 0;
    deflated_put_notation(&s, "c107 f248cdc9c90700");
    for (size_t cut = 3; cut < s.len; cut++) {
        deflated_open(&p, &deflated_limits, DEFLATED_AGREED, DEFLATED_LENT);
        deflated_feed(&p, s.bytes, cut);
        deflated_feed(&p, s.bytes + cut, s.len - cut);
        assert_string_equal(p.log, "text(Hello)");
        assert_int_equal(deflated_memory.keeps_count, 0);
        deflated_finish(&p);
    }
    for (size_t len = 1; len < 5; len++) {
        z_stream z;
        deflated_start_server(&z, 9, 15);
        s.len = 0;
        (void)deflated_put_message(&s, &z, DEFLATED_TEXT, "abcd", len);
        (void)deflateEnd(&z);
        deflated_open(&p, &deflated_limits, DEFLATED_AGREED, DEFLATED_LENT_LITTLE);
        deflated_feed(&p, s.bytes, s.len);
        assert_int_equal(p.events_count, 1);
        if (len < 3)
            assert_int_equal(deflated_memory.keeps_count, 1);
        if (len > 3)
            assert_int_equal(deflated_memory.keeps_count, 0);
        deflated_finish(&p);
    }
}

/* A stream with everything in it, and with a message that outgrows its first blocks. Returns what is to come of it. */
static const char *put_everything(struct deflated_stream *s)
{
    static uint8_t large[20000];
    static char want[128];
    z_stream z;
    memset(large, 'l', sizeof large);
    snprintf(want, sizeof want, "text(Hello) ping(p) text() text(abc) binary(%zu:%08lx) pong() text(Hello)",
             sizeof large, crc32(0, large, sizeof large));
    *s = (struct deflated_stream){ .rule = "everything" };
    deflated_start_server(&z, 9, 15);
    (void)deflated_put_message(s, &z, DEFLATED_TEXT, "Hello", 5);
    deflated_put_notation(s, "4100 8901 'p' 0001 00 8000 8103 'abc'");
    (void)deflated_put_message(s, &z, DEFLATED_BINARY, large, sizeof large);
    deflated_put_notation(s, "4103 f248cd 8a00 0003 c9c907 8001 00");
    (void)deflateEnd(&z);
    return want;
}

/* F8: whichever block cannot be had, 1011 it is; with all of them the events are all there. */
static void without_memory_at_any_growth_the_connection_fails(void **state)
{
    static struct deflated_stream s;
    static struct deflated_peer p;
    (void)state;
    const char *want = put_everything(&s);
    deflated_check(&s, want);
    for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
        for (size_t piece = 1; piece <= s.len; piece += piece == 1 ? 10 : s.len) {
            bool was_enough = false;
            for (size_t grows_max = 0; !was_enough; grows_max++) {
                deflated_open(&p, &deflated_limits, DEFLATED_AGREED, way);
                deflated_memory.grows_max = deflated_memory.grows_count + grows_max;
                for (size_t at = 0; at < s.len; at += piece)
                    deflated_feed(&p, s.bytes + at, piece < s.len - at ? piece : s.len - at);
                was_enough = p.session.state == WSR_SESSION_OPEN;
                assert_int_equal(strstr(p.log, "fail(1011)") != NULL, !was_enough);
                assert_int_equal(strcmp(p.log, want) == 0, was_enough);
                assert_true(was_enough || deflated_memory.live_count == 0);
                assert_true(grows_max < 100);
                deflated_finish(&p);
            }
        }
    }
}

/* F8: the same when the inflater itself gets none, at its start or later. */
static void without_memory_for_the_inflater_the_connection_fails(void **state)
{
    static struct deflated_stream s;
    static struct deflated_peer p;
    bool was_enough = false;
    (void)state;
    s.len = 0;
    deflated_put_notation(&s, "c107 f248cdc9c90700 c105 f200110000");
    for (size_t left = 2; !was_enough; left++) {                 /* the first two are the bytes fed and the block */
        deflated_open(&p, &deflated_limits, DEFLATED_AGREED, DEFLATED_LENT_NOTHING);
        mallocs_left = left;
        deflated_feed(&p, s.bytes, 9);
        mallocs_left = SIZE_MAX;
        deflated_feed(&p, s.bytes + 9, s.len - 9);
        was_enough = strcmp(p.log, "text(Hello) text(Hello)") == 0;
        if (!was_enough)
            assert_string_equal(p.log, "fail(1011)");
        assert_true(was_enough ? left > 2 : left < 20);
        deflated_finish(&p);
    }
}

/* The session may be dropped after any byte; one that has ended holds nothing even before. */
static void all_memory_comes_back_at_every_moment(void **state)
{
    static struct deflated_stream s, ends[4];
    static struct deflated_peer p;
    (void)state;
    (void)put_everything(&s);
    for (size_t i = 0; i < 4; i++) {
        static const char *const last[] = { "4103 f248cd 8800 ff", "4108 f24805000000ffff 0005 0005000000",
                                            "4103 f248cd c000 00", "c10b 000500faff 'abcd' ff 00" };
        (void)put_everything(&ends[i]);
        deflated_put_notation(&ends[i], last[i]);
    }
    for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
        for (size_t end = 0; end <= s.len; end++) {
            for (size_t piece = 1; piece <= s.len; piece += s.len - 1) {
                deflated_open(&p, &deflated_limits, DEFLATED_AGREED, way);
                for (size_t at = 0; at < end; at += piece)
                    deflated_feed(&p, s.bytes + at, piece < end - at ? piece : end - at);
                deflated_finish(&p);
            }
        }
        for (size_t i = 0; i < 4; i++) {
            deflated_open(&p, &deflated_limits, DEFLATED_AGREED, way);
            for (size_t at = 0; at < ends[i].len; at++) {
                deflated_feed(&p, ends[i].bytes + at, 1);
                assert_true(p.session.state == WSR_SESSION_OPEN || deflated_memory.live_count == 0);
            }
            assert_int_not_equal(p.session.state, WSR_SESSION_OPEN);
            deflated_finish(&p);
        }
    }
}

/* ---- Before and behind ----------------------------------------------------------------------------- */

/* RESP-12: the first compressed message may lie in the same piece as the answer. */
static void messages_behind_the_answer_are_inflated(void **state)
{
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                 "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    static struct deflated_stream s;
    static struct deflated_peer p;
    (void)state;
    deflated_put(&s, answer, sizeof answer - 1);
    deflated_put_notation(&s, "c107 f248cdc9c90700 8900 c105 f200110000 c802 03e8");
    for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
        for (size_t cut = 0; cut <= s.len; cut++) {
            deflated_start(&p, &deflated_limits, way);
            deflated_feed(&p, s.bytes, cut);
            deflated_feed(&p, s.bytes + cut, s.len - cut);
            assert_string_equal(p.log, "text(Hello) ping() text(Hello) fail(1002)");
            deflated_finish(&p);
        }
    }
}

/* CLOSE-15, CLOSE-24, PMD-42: behind our Close the peer's messages are still read, and the window is kept for them. */
static void messages_behind_our_close_are_still_inflated(void **state)
{
    static const struct deflated_row rows[] = {
        { "after a message", "c107 f248cdc9c90700 c105 f200110000 8901 'p' c105 f200110000 8802 03e8 c105 f200110000",
          "text(Hello) text(Hello) ping(p) text(Hello) close(1000)" },
        { "inside a message", "8901 'p' 4103 f248cd 8a00 8004 c9c90700 c105 f200110000 8800",
          "ping(p) pong() text(Hello) text(Hello) close(1005)" },
        { "that fail", "8900 c103 f248cd c100", "ping() fail(1007)" },
        { "that are too much", "8900 c27f 0000000100000000", "ping() fail(1009)" }
    };
    static struct deflated_stream s;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t close_after = 1; close_after < 4; close_after++) {
            s = (struct deflated_stream){ .rule = rows[i].rule, .close_after = close_after };
            deflated_put_notation(&s, rows[i].stream);
            deflated_check(&s, rows[i].want);
        }
    }
}

/* Every rule has a sentence of its own, the same for every cut. */
static void each_failure_says_which_rule_was_broken(void **state)
{
    static const struct { const char *stream, *text; } rows[] = {
        { "4103 f248cd c000", "RSV1" }, { "c900", "RSV1" }, { "c103 f248cd", "DEFLATE" },
        { "c107 fff8cdc9c90700", "DEFLATE" }, { "c17f 0000000100000000", "message_max_bytes" },
        { "c106 000100feffff", "not UTF-8" }, { "c107 000100feffce00", "inside a UTF-8" }
    };
    static struct deflated_stream s;
    static struct deflated_peer p;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        s.len = 0;
        deflated_put_notation(&s, rows[i].stream);
        for (size_t cut = 0; cut < s.len; cut++) {
            deflated_open(&p, &deflated_limits, DEFLATED_AGREED, DEFLATED_LENT);
            deflated_feed(&p, s.bytes, cut);
            deflated_feed(&p, s.bytes + cut, s.len - cut);
            assert_non_null(p.text);
            if (strcasestr(p.text, rows[i].text) == NULL)
                fail_msg("%s: %s", rows[i].stream, p.text);
            deflated_finish(&p);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bomb_stops_at_the_limit),
        cmocka_unit_test(the_inflated_size_passes_at_the_limit_and_fails_above_it),
        cmocka_unit_test(the_first_of_bad_text_and_of_too_much_decides),
        cmocka_unit_test(a_fragment_is_inflated_to_its_end_before_the_next_frame),
        cmocka_unit_test(a_message_cut_off_is_inflated_to_its_end),
        cmocka_unit_test(blocks_of_nothing_end_at_the_limit_of_what_comes),
        cmocka_unit_test(what_a_header_announces_pins_nothing),
        cmocka_unit_test(the_largest_limits_take_messages),
        cmocka_unit_test(fragments_count_when_compressed_too),
        cmocka_unit_test(a_whole_message_is_inflated_into_what_is_lent),
        cmocka_unit_test(loans_end_with_the_call_that_made_them),
        cmocka_unit_test(without_memory_at_any_growth_the_connection_fails),
        cmocka_unit_test(without_memory_for_the_inflater_the_connection_fails),
        cmocka_unit_test(all_memory_comes_back_at_every_moment),
        cmocka_unit_test(messages_behind_the_answer_are_inflated),
        cmocka_unit_test(messages_behind_our_close_are_still_inflated),
        cmocka_unit_test(each_failure_says_which_rule_was_broken)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
