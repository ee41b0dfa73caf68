/* The two streams of a connection with permessage-deflate, engine/deflate.c, over streams that are put together for it:
 * a second inflater says what each of them is.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "engine/deflate.h"
#include "tests/support/guard.h"
#include "tests/support/plain_inflate.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define ROOM 70000u

static struct wsr_deflate_shared shared;
static struct wsr_deflate conn;
static struct guard in_pages, out_pages;
static uint8_t out[ROOM];
static uint32_t seed = 1;

static int open_pages(void **state)
{
    (void)state;
    guard_open(&in_pages, ROOM);
    guard_open(&out_pages, ROOM);
    return 0;
}

/* Nothing of a test that has failed. */
static int forget_all(void **state)
{
    (void)state;
    shared = (struct wsr_deflate_shared){ .level = WSR_DEFLATE_LEVEL_DEFAULT };
    conn = (struct wsr_deflate){ 0 };
    return 0;
}

static int close_pages(void **state)
{
    (void)state;
    guard_close(&in_pages);
    guard_close(&out_pages);
    return 0;
}

static void start(bool server_alone, bool client_alone, uint8_t server_bits, uint8_t client_bits)
{
    struct wsr_deflate_agreed agreed = { server_alone, client_alone, server_bits, client_bits };
    wsr_deflate_init(&conn, &shared, &agreed, WSR_DEFLATE_CLIENT);
}

static void stop(void)
{
    wsr_deflate_free(&conn);
    wsr_deflate_shared_free(&shared);
    assert_int_equal(shared.memory_bytes, 0);
    shared = (struct wsr_deflate_shared){ .level = WSR_DEFLATE_LEVEL_DEFAULT };
}

static size_t up_to(size_t most)
{
    seed = seed * 1664525u + 1013904223u;
    return 1 + (seed >> 8) % most;
}

/* Words that come again, so that there is something to refer to. */
static void fill(uint8_t *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)('a' + (int)up_to(6));
}

/* A message in pieces of @step bytes into @room bytes at a time, both between pages that may not be touched. Returns
 * the bytes that it made, or -1 when it is none. */
static long inflate_in(const uint8_t *wire, size_t len, size_t step, size_t room)
{
    size_t at = 0, used = 0;
    conn.wire_bytes = len;
    for (;;) {
        size_t piece_bytes = len - at < step ? len - at : step, made;
        uint8_t *piece = guard_tail(&in_pages, piece_bytes), *to = guard_tail(&out_pages, room);
        memcpy(piece, wire + at, piece_bytes);
        struct wsr_bytes in = wsr_bytes_of(piece, piece_bytes);
        at += piece_bytes;
        enum wsr_inflate rc;
        do {
            rc = wsr_deflate_inflate(&conn, &in, at == len, to, room, &made);
            assert_true(made <= room && used + made <= ROOM);
            assert_true(rc != WSR_INFLATE_FULL || made == room);
            memcpy(out + used, to, made);
            used += made;
        } while (rc == WSR_INFLATE_FULL);
        if (rc == WSR_INFLATE_BAD)
            return -1;
        assert_int_equal(in.len, 0);
        assert_int_equal(rc, at == len ? WSR_INFLATE_DONE : WSR_INFLATE_MORE);
        if (at == len)
            return (long)used;
    }
}

/* ---- A second opinion ---- */

/* The connection says of a message behind @history bytes, which it knows, what the second inflater says of it. */
static bool agree(const uint8_t *wire, size_t len, size_t step, size_t room, uint8_t *known, size_t history)
{
    long want = plain_inflate(wire, len, known, history, ROOM), got = inflate_in(wire, len, step, room);
    if (want != got || (got > 0 && memcmp(known + history, out, (size_t)got) != 0)) {
        for (size_t i = 0; i < len && i < 40; i++)
            print_message("%02x%s", wire[i], i + 1 < len ? " " : "\n");
        fail_msg("%zu bytes, cut at %zu, room %zu: %ld instead of %ld", len, step, room, got, want);
    }
    return got >= 0;
}

/* PMD-42, PMD-46, semantics 5.6: every message of one and of two bytes. Of one: the header of a stored block, the last
 * of its stream or not, and five bits that mean nothing. Of two: the same behind an empty block of the fixed code. */
static void the_shortest_messages_are_what_they_are(void **state)
{
    (void)state;
    static uint8_t known[ROOM];
    unsigned good_count = 0;
    for (unsigned i = 0; i < 256 + 65536; i++) {
        uint8_t wire[2] = { (uint8_t)i, (uint8_t)((i - 256) >> 8) };
        start(true, true, 15, 15);
        good_count += agree(wire, i < 256 ? 1 : 2, 1 + i % 2, 1 + i % 3, known, 0);
        wsr_deflate_free(&conn);
    }
    assert_int_equal(good_count, 2 * 32 + 2 * 8);
    stop();
}

/* Semantics 5.6: in a block that is cut off the tail stands for something, or it ends one and leaves bits behind. What
 * it has made is nobody's: what came before is the same in any room. */
static void what_the_tail_makes_is_nobodys(void **state)
{
    (void)state;
    static const struct {
        size_t len, made;
        uint8_t wire[16];
    } rows[] = {
        { 6, 1, { 0x00, 0x05, 0x00, 0xfa, 0xff, 'H' } },            /* four bytes of a stored block are lacking */
        { 7, 2, { 0x01, 0x05, 0x00, 0xfa, 0xff, 'H', 'e' } },       /* three, and one is left over */
        { 16, 0, { 0x0c, 0xc8, 0xb1, 0x11, 0x00, 0x30, 0x08, 0x03, 0xb1, 0x59, 0x1f, 0x08, 0xd8, 0xec, 0x3f, 0x40 } },
        { 3, 2, { 0xf2, 0x48, 0xcd } },
        /* all of the tail is what the head of a block lacks, and its end: it becomes a block of nothing */
        { 10, 0, { 0x04, 0xc1, 0x81, 0x08, 0x00, 0x00, 0x00, 0x00, 0x20, 0x54 } },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t room = 1; room < 10; room++) {
            struct wsr_bytes in = wsr_bytes_of(rows[i].wire, rows[i].len);
            size_t all = 0, made;
            enum wsr_inflate rc;
            start(false, false, 15, 15);
            do {
                rc = wsr_deflate_inflate(&conn, &in, true, guard_tail(&out_pages, room), room, &made);
                all += made;
            } while (rc == WSR_INFLATE_FULL);
            assert_int_equal(rc, WSR_INFLATE_BAD);
            assert_int_equal(all, rows[i].made);
            stop();
        }
    }
}

/* ---- Streams of many kinds ---- */

/* What a server may send, by zlib. */
struct maker {
    z_stream z;
    int bits;
    uint8_t text[ROOM];         /* of all messages */
    size_t used;
    uint8_t wire[ROOM];
    size_t len;
};

static void maker_start(struct maker *maker, int bits)
{
    static const int strategies[] = { Z_DEFAULT_STRATEGY, Z_DEFAULT_STRATEGY, Z_FIXED, Z_HUFFMAN_ONLY, Z_RLE };
    memset(&maker->z, 0, sizeof maker->z);
    assert_int_equal(deflateInit2(&maker->z, (int)up_to(10) - 1, Z_DEFLATED, -(bits < 9 ? 9 : bits), (int)up_to(9),
                                  strategies[up_to(COUNT_OF(strategies)) - 1]), Z_OK);
    maker->bits = bits;
    maker->used = 0;
}

static void maker_take(struct maker *maker, size_t len, int flush)
{
    maker->z.next_in = maker->text + maker->used;
    maker->z.avail_in = (uInt)len;
    maker->z.next_out = maker->wire + maker->len;
    maker->z.avail_out = (uInt)(ROOM - maker->len);
    assert_int_equal(deflate(&maker->z, flush), flush == Z_FINISH ? Z_STREAM_END : Z_OK);
    maker->len = ROOM - maker->z.avail_out;
    maker->used += len;
}

/* Begin a new DEFLATE stream that refers to what came before, as far as the window reaches. */
static void maker_again(struct maker *maker)
{
    size_t most = ((size_t)1 << maker->bits) - 262, known = maker->used < most ? maker->used : most;
    assert_int_equal(deflateReset(&maker->z), Z_OK);
    assert_int_equal(deflateSetDictionary(&maker->z, maker->text + maker->used - known, (uInt)known), Z_OK);
}

/* One message of about @len bytes in blocks of every kind, some of them the last of a stream. */
static void maker_message(struct maker *maker, size_t len)
{
    static const int flushes[] = { Z_NO_FLUSH, Z_BLOCK, Z_PARTIAL_FLUSH, Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_FINISH };
    maker->len = 0;
    for (size_t parts = up_to(5); parts > 0; parts--) {
        int flush = parts == 1 ? up_to(3) == 1 ? Z_FINISH : Z_SYNC_FLUSH : flushes[up_to(COUNT_OF(flushes)) - 1];
        size_t part = up_to(len / 2 + 1);
        fill(maker->text + maker->used, part);
        if (maker->used > 200 && maker->bits > 8)
            memcpy(maker->text + maker->used, maker->text + maker->used - 200, part < 90 ? part : 90);
        maker_take(maker, part, flush);
        if (flush == Z_FINISH && maker->bits > 8)
            maker_again(maker);
        else if (flush == Z_FINISH)
            assert_int_equal(deflateReset(&maker->z), Z_OK);
        if (parts == 1 && flush == Z_FINISH)
            maker->wire[maker->len++] = 0x00;
        else if (parts == 1)
            maker->len -= 4;
    }
}

static void expect_last(const struct maker *maker, size_t before)
{
    long made = inflate_in(maker->wire, maker->len, up_to(maker->len), up_to(3000));
    assert_int_equal(made, maker->used - before);
    assert_memory_equal(out, maker->text + before, maker->used - before);
}

/* PMD-42, PMD-43, PMD-44, PMD-45: blocks of every kind, for each window, with a rest between messages and without. */
static void blocks_of_every_kind_inflate_across_a_rest(void **state)
{
    (void)state;
    static struct maker maker;
    for (unsigned round = 0; round < 400; round++) {
        uint8_t bits = (uint8_t)(8 + round % 8);
        maker_start(&maker, bits);
        start(false, false, bits, 15);
        for (unsigned i = 0; i < 9; i++) {
            size_t before = maker.used;
            maker_message(&maker, up_to(i % 3 == 0 ? 30 : 2500));
            expect_last(&maker, before);
            wsr_deflate_touch(&conn, i);
            wsr_deflate_rest(&shared, i + round / 8 % 2);
            assert_int_equal(conn.inflater == NULL, round / 8 % 2);
        }
        deflateEnd(&maker.z);
        stop();
    }
}

/* PMD-46, semantics 5.6: a message that refers to the one before, cut off at each byte, is what the second opinion
 * says: none, unless a block happens to begin there. */
static void a_later_message_fails_at_every_cut(void **state)
{
    (void)state;
    static struct maker maker;
    static uint8_t known[ROOM], first[ROOM];
    unsigned good_count = 0, bad_count = 0;
    for (unsigned round = 0; round < 40; round++) {
        maker_start(&maker, 15);
        maker_message(&maker, 300);
        size_t history = maker.used, first_bytes = maker.len;
        memcpy(first, maker.wire, first_bytes);
        maker_message(&maker, 150);
        for (size_t cut = 1; cut <= maker.len; cut++) {
            start(false, false, 15, 15);
            memcpy(known, maker.text, history);
            assert_int_equal(inflate_in(first, first_bytes, 99, 400), history);
            if (agree(maker.wire, cut, up_to(cut), up_to(50), known, history))
                good_count++;
            else
                bad_count++;
            wsr_deflate_free(&conn);
        }
        deflateEnd(&maker.z);
    }
    assert_true(good_count >= 40 && bad_count > 10 * good_count);
    stop();
}

/* PMD-46: and so is one that has a few wrong bits, or bytes of others in it. */
static void what_is_corrupt_is_what_it_has_become(void **state)
{
    (void)state;
    static struct maker maker;
    static uint8_t known[ROOM];
    unsigned good_count = 0, bad_count = 0;
    for (unsigned round = 0; round < 6000; round++) {
        maker_start(&maker, 15);
        start(false, false, 15, 15);
        size_t history = 0;
        for (unsigned i = 0; i < 3; i++) {
            maker_message(&maker, 80);
            for (size_t wrong = up_to(4); i > 0 && wrong > 1; wrong--)
                maker.wire[up_to(maker.len) - 1] ^= (uint8_t)(1u << (up_to(8) - 1));
            if (!agree(maker.wire, maker.len, up_to(maker.len), up_to(50), known, history)) {
                bad_count++;
                break;
            }
            good_count += i > 0;
            long made = plain_inflate(maker.wire, maker.len, known, history, ROOM);
            history += (size_t)made;
        }
        deflateEnd(&maker.z);
        wsr_deflate_free(&conn);
    }
    assert_true(good_count > 1000 && bad_count > 1000);
    stop();
}

/* ---- Sending ---- */

static bool squeeze(const uint8_t *text, size_t len, size_t most, struct wsr_bytes *wire)
{
    wsr_deflate_begin(&conn, len);
    for (size_t at = 0, piece_bytes; at < len; at += piece_bytes) {
        piece_bytes = up_to(most);
        piece_bytes = piece_bytes < len - at ? piece_bytes : len - at;
        uint8_t *piece = guard_tail(&in_pages, piece_bytes);
        memcpy(piece, text + at, piece_bytes);
        wsr_deflate_add(&conn, wsr_bytes_of(piece, piece_bytes));
    }
    return wsr_deflate_end(&conn, wire);
}

/* zlib alone inflates what was sent, with the tail and no more room than a few bytes at a time: then it knows nothing
 * but its window. */
static void expect_at_peer(z_stream *peer, struct wsr_bytes wire, const uint8_t *text, size_t len)
{
    static uint8_t in[ROOM], got[ROOM];
    size_t made = 0;
    memcpy(in, wire.data, wire.len);
    memcpy(in + wire.len, "\x00\x00\xff\xff", 4);
    peer->next_in = in;
    peer->avail_in = (uInt)wire.len + 4;
    do {
        assert_true(made + 32 <= ROOM);
        peer->next_out = got + made;
        peer->avail_out = 32;
        int rc = inflate(peer, Z_SYNC_FLUSH);
        if (rc != Z_OK && rc != Z_BUF_ERROR)
            fail_msg("zlib: %d %s", rc, peer->msg != NULL ? peer->msg : "");
        made += 32 - peer->avail_out;
    } while (peer->avail_out == 0);
    assert_int_equal(peer->avail_in, 0);
    assert_int_equal(made, len);
    assert_memory_equal(got, text, len);
}

/* Something of what was said before, of whatever distance, and something new. */
static size_t next_text(uint8_t *all, size_t used, size_t most)
{
    size_t len = up_to(most);
    fill(all + used, len);
    for (size_t at = 0; used > 0 && at + 60 < len; at += 60 + up_to(200)) {
        size_t distance = up_to(used + at);
        memmove(all + used + at, all + used + at - distance, distance < 60 ? distance : 60);
    }
    return len;
}

/* PMD-30, PMD-31, PMD-32, PMD-33: sent, given up, forgotten and rested in any order, for each window and each level: a
 * peer that has just that window and got just what was sent makes the messages of it. */
static void a_peer_with_the_window_follows(void **state)
{
    (void)state;
    static uint8_t all[ROOM], noise[600];
    struct wsr_bytes wire;
    unsigned sent_count = 0;
    for (unsigned round = 0; round < 8 * 9 * 2 * 3; round++) {
        bool alone = round / 72 % 2;
        int bits = (int)(8 + round % 8);
        z_stream peer = { 0 };
        assert_int_equal(inflateInit2(&peer, -bits), Z_OK);
        start(false, alone, 15, (uint8_t)bits);
        shared.level = (int)(1 + round / 8 % 9);
        for (size_t used = 0, len; used < ROOM - 5000; used += len) {
            len = next_text(all, used, up_to(5) == 1 ? 5000 : 400);
            bool is_sent = squeeze(all + used, len, up_to(900), &wire);
            if (is_sent && up_to(6) == 1) {
                wsr_deflate_forget(&conn);
            } else if (is_sent) {
                assert_true(wire.len > 0 && wire.len < len);
                if (alone)
                    assert_int_equal(inflateReset(&peer), Z_OK);
                expect_at_peer(&peer, wire, all + used, len);
                sent_count++;
            }
            for (size_t i = 0; i < sizeof noise; i++)
                noise[i] = (uint8_t)up_to(256);
            if (up_to(8) == 1)
                assert_false(squeeze(noise, sizeof noise, 100, &wire));
            wsr_deflate_touch(&conn, 1);
            if (up_to(8) == 1)
                wsr_deflate_rest(&shared, 2);
            assert_true(!alone || conn.deflater == NULL);
        }
        inflateEnd(&peer);
        stop();
    }
    assert_true(sent_count > 10000);
}

/* ---- Memory and numbers ---- */

/* A rest while a message is half inflated takes nothing from it; at its end the next one does. Both ways go on. */
static void half_a_message_survives_rests(void **state)
{
    (void)state;
    static struct maker maker;
    static uint8_t all[ROOM];
    struct wsr_bytes sent;
    for (unsigned round = 0; round < 100; round++) {
        uint8_t in_bits = (uint8_t)(9 + round % 7), out_bits = (uint8_t)(24 - in_bits);
        z_stream peer = { 0 };
        assert_int_equal(inflateInit2(&peer, -out_bits), Z_OK);
        maker_start(&maker, in_bits);
        start(false, false, in_bits, out_bits);
        for (size_t i = 0, used = 0, len; i < 5; i++, used += len) {
            size_t before = maker.used, from = 0, made;
            maker_message(&maker, 1500);
            struct wsr_bytes half = wsr_bytes_of(maker.wire, up_to(maker.len) - 1);
            size_t rest_bytes = maker.len - half.len;
            enum wsr_inflate rc = wsr_deflate_inflate(&conn, &half, false, out, sizeof out, &from);
            assert_int_equal(rc, WSR_INFLATE_MORE);
            len = next_text(all, used, 2000);
            bool is_sent = squeeze(all + used, len, len, &sent);
            if (is_sent)
                expect_at_peer(&peer, sent, all + used, len);
            wsr_deflate_touch(&conn, 10 * i);
            wsr_deflate_rest(&shared, 10 * i + 1);
            assert_true(wsr_deflate_oldest_ns(&shared) == WSR_NEVER);
            half = wsr_bytes_of(maker.wire + maker.len - rest_bytes, rest_bytes);
            rc = wsr_deflate_inflate(&conn, &half, true, out + from, sizeof out - from, &made);
            assert_int_equal(rc, WSR_INFLATE_DONE);
            assert_int_equal(from + made, maker.used - before);
            assert_memory_equal(out, maker.text + before, from + made);
            wsr_deflate_touch(&conn, 10 * i + 5);
            assert_int_equal(wsr_deflate_oldest_ns(&shared), 10 * i + 5);
            wsr_deflate_rest(&shared, 10 * i + 6);
            assert_true(conn.inflater == NULL && conn.deflater == NULL);
        }
        inflateEnd(&peer);
        deflateEnd(&maker.z);
        stop();
    }
}

/* Without takeover both streams go back, however a message ends. */
static void no_end_of_a_message_keeps_a_stream(void **state)
{
    (void)state;
    static const uint8_t hello[] = { 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00 };
    static const uint8_t letters[] = "abcdefghijklmnopqrstuvwxyz";
    static uint8_t zeros[500];
    struct wsr_bytes wire;
    start(true, true, 15, 15);
    assert_false(squeeze(letters, 26, 26, &wire));
    assert_null(conn.deflater);
    assert_true(squeeze(zeros, sizeof zeros, 100, &wire));
    assert_null(conn.deflater);
    wsr_deflate_forget(&conn);
    assert_null(conn.deflater);
    assert_int_equal(inflate_in(hello, sizeof hello, 2, 2), 5);
    assert_null(conn.inflater);
    wsr_deflate_touch(&conn, 9);
    assert_true(wsr_deflate_oldest_ns(&shared) == WSR_NEVER);
    stop();
}

static void expect_numbers(uint64_t inflated, uint64_t bytes, uint64_t wire_bytes, uint64_t sent, uint64_t sent_bytes,
                           uint64_t given_up)
{
    assert_int_equal(shared.inflated, inflated);
    assert_int_equal(shared.inflated_bytes, bytes);
    assert_int_equal(shared.inflated_wire_bytes, wire_bytes);
    assert_int_equal(shared.deflated, sent);
    assert_int_equal(shared.deflated_bytes, sent_bytes);
    assert_int_equal(shared.not_deflated, given_up);
}

static void the_numbers_are_those_of_the_messages(void **state)
{
    (void)state;
    static const uint8_t hello[] = { 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00 };
    static const uint8_t again[] = { 0xf2, 0x00, 0x11, 0x00, 0x00 }, nothing[] = { 0x00 };
    static uint8_t zeros[500];
    struct wsr_bytes wire;
    start(false, false, 15, 15);
    assert_int_equal(inflate_in(hello, sizeof hello, 1, 2), 5);
    expect_numbers(1, 5, 7, 0, 0, 0);
    assert_int_equal(inflate_in(again, sizeof again, 3, 1), 5);
    assert_int_equal(inflate_in(nothing, sizeof nothing, 1, 1), 0);
    expect_numbers(3, 10, 13, 0, 0, 0);
    assert_int_equal(inflate_in(hello, 4, 4, 100), -1);
    assert_int_equal(shared.inflated, 3);
    assert_int_equal(shared.inflated_wire_bytes, 13);
    wsr_deflate_free(&conn);
    start(false, false, 15, 15);
    uint64_t made = shared.inflated_bytes;
    assert_true(squeeze(zeros, sizeof zeros, 100, &wire));
    uint64_t wire_bytes = wire.len;
    expect_numbers(3, made, 13, 1, sizeof zeros, 0);
    assert_int_equal(shared.deflated_wire_bytes, wire_bytes);
    assert_false(squeeze((const uint8_t *)"abcdefgh", 8, 3, &wire));
    expect_numbers(3, made, 13, 1, sizeof zeros, 1);
    assert_true(squeeze(zeros, 400, 100, &wire));
    wsr_deflate_forget(&conn);
    expect_numbers(3, made, 13, 1, sizeof zeros, 2);
    assert_int_equal(shared.deflated_wire_bytes, wire_bytes);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_shortest_messages_are_what_they_are, forget_all),
        cmocka_unit_test_setup(what_the_tail_makes_is_nobodys, forget_all),
        cmocka_unit_test_setup(blocks_of_every_kind_inflate_across_a_rest, forget_all),
        cmocka_unit_test_setup(a_later_message_fails_at_every_cut, forget_all),
        cmocka_unit_test_setup(what_is_corrupt_is_what_it_has_become, forget_all),
        cmocka_unit_test_setup(a_peer_with_the_window_follows, forget_all),
        cmocka_unit_test_setup(half_a_message_survives_rests, forget_all),
        cmocka_unit_test_setup(no_end_of_a_message_keeps_a_stream, forget_all),
        cmocka_unit_test_setup(the_numbers_are_those_of_the_messages, forget_all),
    };
    return cmocka_run_group_tests(tests, open_pages, close_pages);
}
