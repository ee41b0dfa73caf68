/* engine/session.c and engine/session_deflate.c: compressed messages (RFC 7692), fed at every split point.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "tests/support/deflated.h"
#include "tests/support/plain_inflate.h"

/* ---- What a message may look like ------------------------------------------------------------------ */

/* PMD-42, PMD-44, PMD-45: the vectors of the semantics, 5.5. */
static void vectors_inflate_at_every_split_point(void **state)
{
    static const struct deflated_row rows[] = {
        { "one block", "c107 f248cdc9c90700", "text(Hello)" },
        { "binary", "c207 f248cdc9c90700", "binary(Hello)" },
        { "two fragments", "4103 f248cd 8004 c9c90700", "text(Hello)" },
        { "a byte in each", "4101 f2 0001 48 0001 cd 0001 c9 0001 c9 0001 07 8001 00", "text(Hello)" },
        { "takeover", "c107 f248cdc9c90700 c105 f200110000", "text(Hello) text(Hello)" },
        { "stored block", "c10b 000500faff48656c6c6f00", "text(Hello)" },
        { "PMD-44", "c108 f348cdc9c9070000", "text(Hello)" },
        { "PMD-44 takeover", "c108 f348cdc9c9070000 c105 f200110000", "text(Hello) text(Hello)" },
        { "two blocks", "c10d f24805000000ffffcac9c90700", "text(Hello)" },
        { "RECV-08", "4103 f248cd 8903 'abc' 0001 c9 8a00 8003 c90700", "ping(abc) pong() text(Hello)" },
        { "RECV-08 close", "4103 f248cd 8802 03e8 8004 c9c90700", "close(1000)" },
        { "RECV-09", "4100 0003 f248cd 0000 0004 c9c90700 8000", "text(Hello)" }
    };
    (void)state;
    DEFLATED_CHECK_ROWS(rows, DEFLATED_AGREED);
}

/* PMD-40, RECV-01, RECV-07, RECV-13 */
static void rsv1_stands_only_where_a_compressed_message_begins(void **state)
{
    static const struct deflated_row rows[] = {
        { "PMD-40 continuation", "4103 f248cd c004 c9c90700 8900", "fail(1002)" },
        { "PMD-40 continuation that goes on", "4103 f248cd 4001 c9 8003 c90700", "fail(1002)" },
        { "PMD-40 of a plain message", "0101 'a' c007 f248cdc9c90700", "fail(1002)" },
        { "PMD-40 without a message", "c007 f248cdc9c90700", "fail(1002)" },
        { "PMD-40 ping", "c107 f248cdc9c90700 c903 'abc' 8900", "text(Hello) fail(1002)" },
        { "PMD-40 empty ping", "c900", "fail(1002)" },
        { "PMD-40 pong", "ca00", "fail(1002)" },
        { "PMD-40 close", "c802 03e8", "fail(1002)" },
        { "PMD-40 ping between", "4103 f248cd c900 8004 c9c90700", "fail(1002)" },
        { "RSV2", "e107 f248cdc9c90700", "fail(1002)" },
        { "RSV3", "d107 f248cdc9c90700", "fail(1002)" },
        { "RSV2 alone", "a105 'Hello'", "fail(1002)" },
        { "opcode", "c307 f248cdc9c90700", "fail(1002)" },
        { "masked", "c187 00000000 f248cdc9c90700", "fail(1002)" },
        { "RECV-04", "c17e0007 f248cdc9c90700", "fail(1002)" },
        { "RECV-05", "c17f7fffffffffffffff f248", "fail(1009)" },
        { "RECV-07", "4103 f248cd c107 f248cdc9c90700", "fail(1002)" },
        { "RECV-07 plain inside", "4103 f248cd 8101 'a'", "fail(1002)" },
        { "RECV-07 behind", "c107 f248cdc9c90700 8001 00", "text(Hello) fail(1002)" }
    };
    (void)state;
    DEFLATED_CHECK_ROWS(rows, DEFLATED_AGREED);
}

/* RECV-01: without agreement RSV1 has no meaning, whatever the payload. */
static void rsv1_without_agreement_fails(void **state)
{
    static const char *const streams[] = { "c107 f248cdc9c90700", "4103 f248cd", "c100", "c207 f248cdc9c90700" };
    (void)state;
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        static struct deflated_stream s;
        s.len = 0;
        deflated_put_notation(&s, streams[i]);
        for (size_t cut = 0; cut < s.len; cut++) {
            static struct deflated_peer p;
            deflated_open(&p, &deflated_limits, DEFLATED_AGREED, DEFLATED_LENT);
            p.shared.deflate = NULL;
            deflated_feed(&p, s.bytes, cut);
            deflated_feed(&p, s.bytes + cut, s.len - cut);
            assert_string_equal(p.log, "fail(1002)");
            assert_int_equal(deflated_memory.grows_count + deflated_memory.borrows_count, 0);
            deflated_finish(&p);
        }
    }
}

/* PMD-41: what is plain does not enter the window that the next compressed message refers to. */
static void plain_and_compressed_messages_mix(void **state)
{
    static const struct deflated_row rows[] = {
        { "plain", "8105 'Hello'", "text(Hello)" },
        { "plain before", "8103 'abc' c107 f248cdc9c90700", "text(abc) text(Hello)" },
        { "plain between", "c107 f248cdc9c90700 8103 'abc' c105 f200110000", "text(Hello) text(abc) text(Hello)" },
        { "plain fragments between", "c107 f248cdc9c90700 0102 'ab' 8001 'c' c105 f200110000 8100",
          "text(Hello) text(abc) text(Hello) text()" },
        { "what looks compressed", "8207 f248cdc9c90700", "binary(\\f2H\\cd\\c9\\c9\\07\\00)" },
        { "stored like a frame", "c206 0000 8103 'ab'", "fail(1007)" }
    };
    (void)state;
    deflated_check_rows(rows, 4, DEFLATED_AGREED);
    for (size_t i = 4; i < 6; i++) {                /* binary and plain: these would be kept in pieces */
        static struct deflated_stream s;
        s = (struct deflated_stream){ .rule = rows[i].rule };
        deflated_put_notation(&s, rows[i].stream);
        for (enum deflated_way way = 0; way < DEFLATED_IN_PIECES; way++)
            for (size_t cut = 0; cut < s.len; cut++)
                deflated_check_cut(&s, rows[i].want, way, cut, cut);
    }
}

/* PMD-34, PMD-49, RECV-09: however it is said that there is nothing, the stream goes on where it was. */
static void empty_messages_in_every_form(void **state)
{
    static const struct deflated_row rows[] = {
        { "PMD-34", "c101 00", "text()" },
        { "PMD-34 two bytes", "c202 0200", "binary()" },
        { "PMD-49", "c100", "text()" },
        { "PMD-49 in fragments", "4100 0000 8000", "text()" },
        { "PMD-49 ping between", "4200 8901 'p' 8000", "ping(p) binary()" },
        { "PMD-34 in fragments", "4100 0001 00 8000", "text()" },
        { "PMD-34 with BFINAL", "c103 030000", "text()" },
        { "PMD-34 with BFINAL, stored", "c106 010000ffff00", "text()" },
        { "PMD-49 between", "c107 f248cdc9c90700 c100 c105 f200110000", "text(Hello) text() text(Hello)" },
        { "PMD-49 fragments between", "c107 f248cdc9c90700 4100 0000 8000 c105 f200110000",
          "text(Hello) text() text(Hello)" },
        { "PMD-34 between", "c107 f248cdc9c90700 c101 00 c202 0200 c105 f200110000",
          "text(Hello) text() binary() text(Hello)" },
        { "plain between", "c107 f248cdc9c90700 8100 8000", "text(Hello) text() fail(1002)" }
    };
    (void)state;
    DEFLATED_CHECK_ROWS(rows, DEFLATED_AGREED);
    deflated_check_rows(rows, 8, DEFLATED_NO_TAKEOVER);
}

/* ---- Contexts -------------------------------------------------------------------------------------- */

#define WANT_MAX 512

/* Messages that share most of their text, of which each is written to @want as the log shows it. */
static size_t put_series(struct deflated_stream *s, z_stream *z, bool takes_over, char *want)
{
    size_t last_bytes = 0, used = 0;
    for (int i = 0; i < 5; i++) {
        char text[400];
        int len = snprintf(text, sizeof text,
                           "{\"channel\":\"trades\",\"sequence\":%d,\"price\":%d.%02d,\"side\":\"%s\"}",
                           7000 + i * 13, 64000 + i * i, i * 7, i % 2 > 0 ? "buy" : "sell");
        last_bytes = deflated_put_message(s, z, DEFLATED_TEXT, text, (size_t)len);
        used += (size_t)snprintf(want + used, WANT_MAX - used, "%stext(%d:%08lx)", i > 0 ? " " : "", len,
                                crc32(0, (const Bytef *)text, (uInt)len));
        if (!takes_over)
            assert_int_equal(deflateReset(z), Z_OK);
    }
    return last_bytes;
}

/* PMD-42, PMD-43: the window holds what came before, or is forgotten, as was agreed on; of any announced size. */
static void the_context_is_taken_over_as_agreed(void **state)
{
    static const struct { const char *extension; int bits; bool takes_over; } rows[] = {
        { DEFLATED_AGREED, 15, true }, { DEFLATED_AGREED, 9, true }, { DEFLATED_AGREED, 15, false },
        { DEFLATED_AGREED "; server_max_window_bits=15", 15, true },
        { DEFLATED_AGREED "; server_max_window_bits=9", 9, true },
        { DEFLATED_AGREED "; server_max_window_bits=12; client_no_context_takeover", 12, true },
        { DEFLATED_NO_TAKEOVER, 15, false }, { DEFLATED_NO_TAKEOVER "; server_max_window_bits=10", 10, false }
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct deflated_stream s;
        char want[WANT_MAX];
        z_stream z;
        deflated_start_server(&z, 6, rows[i].bits);
        s = (struct deflated_stream){ .rule = rows[i].extension, .extension = rows[i].extension };
        size_t last_bytes = put_series(&s, &z, rows[i].takes_over, want);
        assert_int_equal(last_bytes < 40, rows[i].takes_over);        /* it does refer to those before */
        deflated_check(&s, want);
        (void)deflateEnd(&z);
    }
}

/* PMD-42: without takeover there is nothing that a message could refer to. */
static void a_context_that_was_not_agreed_on_is_not_there(void **state)
{
    static const struct deflated_row rows[] = {
        { "first", "c105 f200110000", "fail(1007)" },
        { "second", "c107 f248cdc9c90700 c105 f200110000", "text(Hello) fail(1007)" },
        { "behind BFINAL", "c108 f348cdc9c9070000 c105 f200110000", "text(Hello) fail(1007)" },
        { "behind fragments", "4103 f248cd 8004 c9c90700 c105 f200110000", "text(Hello) fail(1007)" },
        { "behind BFINAL, inside", "c10c f348cdc9c90700 f200110000", "text(HelloHello)" },
        { "each its own", "c107 f248cdc9c90700 c107 f248cdc9c90700 c108 f348cdc9c9070000 c107 f248cdc9c90700",
          "text(Hello) text(Hello) text(Hello) text(Hello)" }
    };
    (void)state;
    deflated_check_rows(rows, 1, DEFLATED_AGREED);
    DEFLATED_CHECK_ROWS(rows, DEFLATED_NO_TAKEOVER);
}

/* PMD-44, PMD-45 */
static void blocks_of_every_kind_stand_in_one_message(void **state)
{
    static const struct deflated_row rows[] = {
        { "BFINAL twice", "c10f f348cdc9c90700 f348cdc9c90700 00", "text(HelloHello)" },
        { "BFINAL, then not", "c10e f348cdc9c90700 f248cdc9c90700", "text(HelloHello)" },
        { "BFINAL, then a block that refers", "c10c f348cdc9c90700 f200110000", "text(HelloHello)" },
        { "BFINAL, stored", "c10b 010500faff48656c6c6f 00", "text(Hello)" },
        { "BFINAL in fragments", "4107 f348cdc9c90700 0000 8001 00 c105 f200110000", "text(Hello) text(Hello)" },
        { "BFINAL in three messages", "c108 f348cdc9c9070000 c105 f300110000 c105 f200110000",
          "text(Hello) text(Hello) text(Hello)" },
        { "stored, then fixed", "c111 000500faff48656c6c6f f248cdc9c90700", "text(HelloHello)" },
        { "empty blocks before", "c111 000000ffff 000000ffff f248cdc9c90700", "text(Hello)" },
        { "a block that begins where none may", "c111 f24805000000ffff 000000ffff ca c9c907 00", "fail(1007)" },
        { "stored twice", "c115 000500faff48656c6c6f 000500faff48656c6c6f 00", "text(HelloHello)" },
        { "bits left behind a block", "c210 0cc8b11100300803b1591f08d8ec3f40", "fail(1007)" },
        { "BFINAL and nothing behind", "c107 f348cdc9c90700", "fail(1007)" },
        { "BFINAL, stored, and nothing behind", "c10a 010500faff48656c6c6f", "fail(1007)" },
        { "the tail was left in", "c10b f248cdc9c907000000ffff", "fail(1007)" }
    };
    (void)state;
    DEFLATED_CHECK_ROWS(rows, DEFLATED_AGREED);
}

/* ---- What is no message ---------------------------------------------------------------------------- */

static const char *const cut_off[] = {
    "One message, One message, and one message that is cut off.", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "x",
    "{\"a\":[1,2,3],\"b\":[1,2,3],\"c\":[3,2,1]}"
};

/* PMD-46 and 5.6: what is cut off is no message, whatever zlib says. Also cut off in fragments, the last one empty. */
static void messages_cut_off_at_every_byte_fail(void **state)
{
    static struct deflated_stream s;
    uint8_t payload[256];
    (void)state;
    for (size_t i = 0; i < 2 * sizeof cut_off / sizeof cut_off[0]; i++) {
        const char *text = cut_off[i / 2];
        z_stream z;
        deflated_start_server(&z, i % 2 > 0 ? 9 : 0, 15);
        size_t len = deflated_compress(&z, text, strlen(text), payload, sizeof payload);
        (void)deflateEnd(&z);
        for (size_t end = i % 2 > 0 ? 1 : 2; end < len; end++) {       /* of a stored one, 00 would be a message */
            s = (struct deflated_stream){ .rule = text };
            deflated_put_frame(&s, DEFLATED_TEXT, payload, end);
            deflated_check(&s, "fail(1007)");
            s.len = 0;
            deflated_put_frame(&s, DEFLATED_RSV1 | WSR_OPCODE_TEXT, payload, end);
            deflated_put_notation(&s, "8901 'p' 8000 8900");
            deflated_check(&s, "ping(p) fail(1007)");
        }
    }
}

/* PMD-46: with any one bit wrong it is what another inflater says that it is. */
static void messages_with_a_wrong_bit_are_what_they_have_become(void **state)
{
    static struct deflated_stream s;
    static uint8_t out[DEFLATED_STREAM_MAX];
    uint8_t payload[256];
    const char *want;
    size_t failures = 0, messages = 0;
    z_stream z;
    (void)state;
    deflated_start_server(&z, 9, 15);
    size_t len = deflated_compress(&z, cut_off[0], strlen(cut_off[0]), payload, sizeof payload);
    (void)deflateEnd(&z);
    for (size_t bit = 0; bit < len * 8; bit++) {
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
        long made = plain_inflate(payload, len, out, 0, sizeof out);
        static struct deflated_peer p;
        if (made < 0) {
            want = "fail(1007)";
            failures++;
        } else {
            p.log_used = 0;
            deflated_log(&p, "binary(");
            deflated_log_bytes(&p, wsr_bytes_of(out, (size_t)made));
            deflated_log(&p, ")");
            want = p.log;
            messages++;
        }
        s = (struct deflated_stream){ .rule = "wrong bit" };
        deflated_put_frame(&s, DEFLATED_BINARY, payload, len);
        for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
            deflated_check_cut(&s, want, way, s.len, s.len);
            deflated_check_cut(&s, want, way, DEFLATED_NEVER, DEFLATED_NEVER);
            deflated_check_cut(&s, want, way, bit / 8, s.len);
        }
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(failures > 0 && messages > 0);
}

/* RECV-13: nothing behind it is read, and what it holds is given back at once. */
static void a_malformed_message_ends_the_reading(void **state)
{
    static const struct deflated_row rows[] = {
        { "block type 3", "c101 07 8101 'a'", "fail(1007)" },
        { "lengths differ", "c105 0005000000 8101 'a'", "fail(1007)" },
        { "in a fragment that is not the last", "4103 070000 8901 'p' 8000", "fail(1007)" },
        { "behind good output", "4103 f248cd 0003 ffffff 8900", "fail(1007)" },
        { "too far back", "c205 f200110000 8800", "fail(1007)" }
    };
    (void)state;
    DEFLATED_CHECK_ROWS(rows, DEFLATED_AGREED);
}

/* ---- Text ------------------------------------------------------------------------------------------ */

/* PMD-48, UTF-01 to UTF-07: what is judged is what was inflated, cut wherever room for it ends. */
static void inflated_text_is_judged_across_cuts(void **state)
{
    static const struct { const char *text; bool is_good; } rows[] = {
        { "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", true }, { "\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", true },
        { "ab\xf0\x9f\x98\x80" "cd\xe2\x82\xac", true }, { "\xef\xbb\xbfx", true }, { "a\xce", false },
        { "ab\xe2\x82", false }, { "\xf0\x9f\x98", false }, { "a\xff" "b", false }, { "\xc0\xaf", false },
        { "abc\xed\xa0\x80", false }, { "\xf4\x90\x80\x80", false }, { "ab\x80", false }
    };
    static struct deflated_stream s;
    uint8_t payload[128];
    (void)state;
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        const char *text = rows[i / 2].text;
        static struct deflated_peer p;
        z_stream z;
        p.log_used = 0;
        deflated_log(&p, "text(ok) %s(", rows[i / 2].is_good ? "text" : "fail");
        if (rows[i / 2].is_good)
            deflated_log_bytes(&p, wsr_bytes_of((const uint8_t *)text, strlen(text)));
        deflated_log(&p, rows[i / 2].is_good ? ") text(ok)" : "1007)");
        deflated_start_server(&z, i % 2 > 0 ? 9 : 0, 15);
        s = (struct deflated_stream){ .rule = "PMD-48" };
        (void)deflated_put_message(&s, &z, DEFLATED_TEXT, "ok", 2);
        size_t len = deflated_compress(&z, text, strlen(text), payload, sizeof payload);
        deflated_put_frame(&s, DEFLATED_RSV1 | WSR_OPCODE_TEXT, payload, len / 2);
        deflated_put_frame(&s, WSR_FRAME_FIN | WSR_OPCODE_CONTINUATION, payload + len / 2, len - len / 2);
        (void)deflated_put_message(&s, &z, DEFLATED_TEXT, "ok", 2);
        deflated_check(&s, p.log);
        (void)deflateEnd(&z);
    }
    static const struct deflated_row binary[] = { { "UTF-07", "c208 000200fdff c3ff 00", "binary(\\c3\\ff)" } };
    DEFLATED_CHECK_ROWS(binary, DEFLATED_AGREED);
}

/* UTF-02, PMD-48: without what would follow. */
static void bad_text_fails_before_the_next_byte_comes(void **state)
{
    static const char *const streams[] = {
        "4107 000200fdff 61ff", "410a 000500faff 6162ff", "c17e0fff 000200fdff 61ff",
        "4106 000200fdff e2 0001 28", "c10b 000500faff eda0", "4108 f24805000000ffff 0003 000200 0003 fdff61 0001 ff"
    };
    (void)state;
    for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
        for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
            static struct deflated_stream s;
            static struct deflated_peer p;
            s.len = 0;
            deflated_put_notation(&s, streams[i]);
            for (int each_byte = 0; each_byte < 2; each_byte++) {
                deflated_open(&p, &deflated_limits, DEFLATED_AGREED, way);
                for (size_t k = 0; k < s.len && each_byte > 0; k++) {
                    assert_int_equal(p.session.state, WSR_SESSION_OPEN);
                    deflated_feed(&p, s.bytes + k, 1);
                }
                if (each_byte == 0)
                    deflated_feed(&p, s.bytes, s.len);
                if (strcmp(p.log, "fail(1007)") != 0)
                    fail_msg("way %d, %s: got %s", way, streams[i], p.log);
                deflated_finish(&p);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_inflate_at_every_split_point),
        cmocka_unit_test(rsv1_stands_only_where_a_compressed_message_begins),
        cmocka_unit_test(rsv1_without_agreement_fails),
        cmocka_unit_test(plain_and_compressed_messages_mix),
        cmocka_unit_test(empty_messages_in_every_form),
        cmocka_unit_test(the_context_is_taken_over_as_agreed),
        cmocka_unit_test(a_context_that_was_not_agreed_on_is_not_there),
        cmocka_unit_test(blocks_of_every_kind_stand_in_one_message),
        cmocka_unit_test(messages_cut_off_at_every_byte_fail),
        cmocka_unit_test(messages_with_a_wrong_bit_are_what_they_have_become),
        cmocka_unit_test(a_malformed_message_ends_the_reading),
        cmocka_unit_test(inflated_text_is_judged_across_cuts),
        cmocka_unit_test(bad_text_fails_before_the_next_byte_comes)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
