/* The two streams of a connection with permessage-deflate (RFC 7692 7.2), over engine/deflate.c. The other side is zlib
 * alone.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "engine/deflate.h"
#include "tests/support/guard.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define ROOM 70000u

static struct wsr_deflate_shared shared;
static struct wsr_deflate conn;
static uint8_t out[ROOM];

static void start(bool server_alone, bool client_alone, uint8_t server_bits, uint8_t client_bits)
{
    struct wsr_deflate_agreed agreed = { server_alone, client_alone, server_bits, client_bits };
    shared = (struct wsr_deflate_shared){ .level = WSR_DEFLATE_LEVEL_DEFAULT };
    wsr_deflate_init(&conn, &shared, &agreed, WSR_DEFLATE_CLIENT);
}

static void stop(void)
{
    wsr_deflate_free(&conn);
    wsr_deflate_shared_free(&shared);
    assert_int_equal(shared.memory_bytes, 0);
}

/* A message in pieces of @step bytes, into @room bytes at a time. Each piece, and what there is room for, ends where a
 * sanitizer sees a byte too many. */
static enum wsr_inflate inflate_in(const uint8_t *wire, size_t len, size_t step, size_t room, size_t *made)
{
    enum wsr_inflate rc = WSR_INFLATE_MORE;
    *made = 0;
    conn.wire_bytes = len;
    for (size_t at = 0; at < len || (len == 0 && at == 0); at += step) {
        size_t piece_bytes = len - at < step ? len - at : step;
        uint8_t *piece = malloc(piece_bytes + (piece_bytes == 0)), *to = malloc(room);
        memcpy(piece, wire + at, piece_bytes);
        struct wsr_bytes in = wsr_bytes_of(piece, piece_bytes);
        do {
            size_t now;
            rc = wsr_deflate_inflate(&conn, &in, at + piece_bytes == len, to, room, &now);
            assert_true(now <= room && *made + now <= ROOM);
            memcpy(out + *made, to, now);
            *made += now;
        } while (rc == WSR_INFLATE_FULL);
        free(piece);
        free(to);
        if (rc != WSR_INFLATE_MORE)
            break;
    }
    return rc;
}

static void expect(const uint8_t *wire, size_t len, size_t step, size_t room, const void *want, size_t want_bytes)
{
    size_t made;
    enum wsr_inflate rc = inflate_in(wire, len, step, room, &made);
    if (rc != WSR_INFLATE_DONE || made != want_bytes || memcmp(out, want, want_bytes) != 0)
        fail_msg("%zu bytes, cut at %zu, room %zu: %d, %zu of %zu bytes", len, step, room, rc, made, want_bytes);
}

/* ---- A peer ---- */

struct peer {
    z_stream deflater, inflater;
};

static void peer_start(struct peer *peer, int bits, int level, int strategy)
{
    memset(peer, 0, sizeof *peer);
    assert_int_equal(deflateInit2(&peer->deflater, level, Z_DEFLATED, -(bits < 9 ? 9 : bits), 8, strategy), Z_OK);
    assert_int_equal(inflateInit2(&peer->inflater, -bits), Z_OK);
}

static void peer_stop(struct peer *peer)
{
    deflateEnd(&peer->deflater);
    inflateEnd(&peer->inflater);
}

/* What a server sends for @text. */
static size_t peer_deflate(struct peer *peer, const void *text, size_t len, uint8_t *wire)
{
    peer->deflater.next_in = (Bytef *)(uintptr_t)text;
    peer->deflater.avail_in = (uInt)len;
    peer->deflater.next_out = wire;
    peer->deflater.avail_out = ROOM;
    assert_int_equal(deflate(&peer->deflater, Z_SYNC_FLUSH), Z_OK);
    size_t used = ROOM - peer->deflater.avail_out;
    assert_memory_equal(wire + used - 4, "\x00\x00\xff\xff", 4);
    return used - 4;
}

/* The peer makes the same of what we sent, in small steps: then zlib knows no more than its window. */
static void peer_expect(struct peer *peer, struct wsr_bytes wire, const void *text, size_t len)
{
    static uint8_t got[ROOM], in[ROOM];
    memcpy(in, wire.data, wire.len);
    memcpy(in + wire.len, "\x00\x00\xff\xff", 4);
    peer->inflater.next_in = in;
    peer->inflater.avail_in = (uInt)wire.len + 4;
    size_t made = 0;
    do {
        peer->inflater.next_out = got + made;
        peer->inflater.avail_out = 64;
        assert_true(made + 64 <= sizeof got && inflate(&peer->inflater, Z_SYNC_FLUSH) == Z_OK);
        made += 64 - peer->inflater.avail_out;
    } while (peer->inflater.avail_in > 0 || (peer->inflater.avail_out == 0 && made < len));
    assert_int_equal(made, len);
    assert_memory_equal(got, text, len);
}

/* ---- Texts ---- */

static uint32_t seed;

static uint32_t random_number(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* 0: repeats, 1: words, 2: random. */
static void fill(uint8_t *to, size_t len, unsigned style)
{
    static const char quote[] = "{\"price\":101.25}\n";
    for (size_t i = 0; i < len; i++) {
        if (style == 0)
            to[i] = (uint8_t)quote[i % (sizeof quote - 1)];
        else
            to[i] = (uint8_t)(style == 1 ? 'a' + (int)(random_number() % 6) : (int)random_number());
    }
}

static bool squeeze(const uint8_t *text, size_t len, size_t step, struct wsr_bytes *wire)
{
    wsr_deflate_begin(&conn, len);
    for (size_t at = 0; at < len; at += step)
        wsr_deflate_add(&conn, wsr_bytes_of(text + at, len - at < step ? len - at : step));
    return wsr_deflate_end(&conn, wire);
}

/* ---- Inflating ---- */

struct vector {
    size_t len;
    uint8_t wire[24];
    const char *text;
};

static const struct vector vectors[] = {
    { 7, { 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00 }, "Hello" },
    { 11, { 0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00 }, "Hello" },
    { 8, { 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00 }, "Hello" },
    { 13, { 0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00 }, "Hello" },
    { 1, { 0x00 }, "" },
    { 2, { 0x02, 0x00 }, "" },
    { 7, { 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x04 }, "Hello" },
    { 1, { 0x01 }, "" },
};

/* PMD-42, PMD-44, PMD-45, PMD-34; semantics 5.5: each vector, however it is cut and whatever room there is; and those
 * where the tail is that of a last block. */
static void the_vectors_inflate_at_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        const struct vector *v = &vectors[i];
        for (size_t step = 1; step <= v->len; step++) {
            for (size_t room = 1; room <= 8; room++) {
                start(false, false, 15, 15);
                expect(v->wire, v->len, step, room, v->text, strlen(v->text));
                stop();
            }
        }
    }
}

/* PMD-42: the second message refers to the first; without takeover it may not. PMD-44: a last block keeps the
 * window. */
static void the_context_is_taken_over(void **state)
{
    (void)state;
    static const uint8_t again[] = { 0xf2, 0x00, 0x11, 0x00, 0x00 };
    size_t made;
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        if (vectors[i].text[0] == '\0')
            continue;
        start(false, false, 15, 15);
        expect(vectors[i].wire, vectors[i].len, 3, 2, "Hello", 5);
        expect(again, sizeof again, 2, 1, "Hello", 5);
        expect(again, sizeof again, 9, 64, "Hello", 5);
        stop();
        start(true, false, 15, 15);
        expect(vectors[i].wire, vectors[i].len, 3, 2, "Hello", 5);
        assert_int_equal(inflate_in(again, sizeof again, 9, 64, &made), WSR_INFLATE_BAD);
        stop();
    }
}

/* Semantics 5.6: a message that is cut off anywhere fails; only what is a message of its own may pass, and the first
 * byte of a stored block is an empty one. */
static void what_is_cut_off_fails_at_every_byte(void **state)
{
    (void)state;
    static uint8_t text[400], wire[ROOM];
    static const int strategies[] = { Z_DEFAULT_STRATEGY, Z_FIXED, Z_HUFFMAN_ONLY };
    for (unsigned style = 0; style < 3; style++) {
        for (unsigned kind = 0; kind < 4; kind++) {
            struct peer peer;
            size_t made;
            fill(text, sizeof text, style);
            peer_start(&peer, 15, kind == 3 ? 0 : 6, strategies[kind % 3]);
            size_t len = peer_deflate(&peer, text, 40 + 120 * style, wire);
            peer_stop(&peer);
            for (size_t i = 2; i < 2 * len; i++) {
                size_t cut = i / 2;
                start(false, false, 15, 15);
                size_t step = i % 2 ? cut : 1 + cut % 7, room = i % 2 ? 4096 : 1 + cut % 5;
                enum wsr_inflate rc = inflate_in(wire, cut, step, room, &made);
                bool is_empty_block = cut == 1 && wire[0] == 0x00;
                if (rc != (is_empty_block ? WSR_INFLATE_DONE : WSR_INFLATE_BAD) || (is_empty_block && made > 0))
                    fail_msg("style %u, kind %u: %zu of %zu bytes: %d", style, kind, cut, len, rc);
                stop();
            }
        }
    }
}

/* What there was no room for when the input ended is no work of the tail. */
static void a_match_may_end_behind_the_input(void **state)
{
    (void)state;
    static uint8_t zeros[3000], wire[ROOM];
    for (size_t len = 200; len < sizeof zeros; len += 1 + len / 97) {
        const size_t rooms[] = { 1, 7, 100, 257, 258, 259, len - 1, len };
        struct peer peer;
        peer_start(&peer, 15, 6, Z_DEFAULT_STRATEGY);
        size_t wire_bytes = peer_deflate(&peer, zeros, len, wire);
        peer_stop(&peer);
        for (size_t i = 0; i < COUNT_OF(rooms); i++) {
            start(false, false, 15, 15);
            expect(wire, wire_bytes, 1 + i % 2 * 100, rooms[i], zeros, len);
            stop();
        }
    }
}

/* PMD-46: whatever bit is wrong, the end is one of those that there are, and nothing lies beside the room. */
static void corrupt_bytes_do_no_harm(void **state)
{
    (void)state;
    static uint8_t text[600], wire[ROOM];
    struct peer peer;
    size_t made, bad_count = 0;
    fill(text, sizeof text, 1);
    peer_start(&peer, 15, 6, Z_DEFAULT_STRATEGY);
    size_t len = peer_deflate(&peer, text, sizeof text, wire);
    peer_stop(&peer);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        start(false, false, 15, 15);
        wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bad_count += inflate_in(wire, len, 64, 4096, &made) == WSR_INFLATE_BAD;
        wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
        stop();
    }
    assert_true(bad_count > len);
}

/* PMD-43: the window that was announced is enough, for each size of it. */
static void every_window_inflates(void **state)
{
    (void)state;
    static uint8_t text[60000], wire[ROOM];
    for (int bits = 8; bits <= 15; bits++) {
        struct peer peer;
        peer_start(&peer, bits, 6, Z_DEFAULT_STRATEGY);
        start(false, false, (uint8_t)bits, 15);
        for (unsigned round = 0; round < 6; round++) {
            size_t len = 1 + random_number() % sizeof text;
            fill(text, len, round % 3);
            size_t wire_bytes = peer_deflate(&peer, text, len, wire);
            expect(wire, wire_bytes, 1 + random_number() % 5000, 1 + random_number() % 9000, text, len);
        }
        peer_stop(&peer);
        stop();
    }
}

/* PMD-47: a thousand to one comes piece by piece, as much as there is room for. */
static void a_bomb_fills_no_more_than_the_room(void **state)
{
    (void)state;
    static uint8_t zeros[60000], wire[ROOM];
    struct peer peer;
    peer_start(&peer, 15, 9, Z_DEFAULT_STRATEGY);
    size_t len = peer_deflate(&peer, zeros, sizeof zeros, wire);
    peer_stop(&peer);
    assert_true(len < 100);
    start(false, false, 15, 15);
    struct wsr_bytes in = wsr_bytes_of(wire, len);
    size_t made, all = 0;
    struct guard guard;
    guard_open(&guard, 1000);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(wsr_deflate_inflate(&conn, &in, true, guard_tail(&guard, 1000), 1000, &made),
                         WSR_INFLATE_FULL);
        assert_int_equal(made, 1000);
        all += made;
    }
    guard_close(&guard);
    assert_int_equal(shared.inflated_bytes, all);
    assert_int_equal(shared.inflated, 0);
    stop();
}

/* ---- Deflating ---- */

/* PMD-30, PMD-31: messages of any length and in any pieces come back, with the context and without. */
static void what_is_compressed_inflates_at_the_peer(void **state)
{
    (void)state;
    static uint8_t text[60000];
    for (int alone = 0; alone < 2; alone++) {
        struct peer peer;
        uint64_t wire_bytes = 0;
        peer_start(&peer, 15, 6, Z_DEFAULT_STRATEGY);
        start(false, alone, 15, 15);
        for (unsigned i = 0; i < 60; i++) {
            struct wsr_bytes wire;
            size_t len = 100 + random_number() % (i % 10 == 0 ? sizeof text - 100 : 2000);
            fill(text, len, i % 2);
            assert_true(squeeze(text, len, 1 + random_number() % 3000, &wire));
            assert_true(wire.len < len);
            wire_bytes += wire.len;
            if (alone)
                inflateReset(&peer.inflater);       /* PMD-31: then it has to do without what came before */
            peer_expect(&peer, wire, text, len);
        }
        assert_int_equal(shared.deflated, 60);
        assert_int_equal(shared.deflated_wire_bytes, wire_bytes);
        assert_int_equal(shared.not_deflated, 0);
        peer_stop(&peer);
        stop();
    }
}

/* PMD-32: a peer that has no more than the window, also for 2^8, which zlib does not compress for. */
static void nothing_is_referred_to_beyond_the_window(void **state)
{
    (void)state;
    static uint8_t text[60000];
    for (int bits = 8; bits <= 15; bits++) {
        struct peer peer;
        peer_start(&peer, bits, 6, Z_DEFAULT_STRATEGY);
        start(false, false, 15, (uint8_t)bits);
        assert_true(wsr_deflate_can_send(&conn));
        for (unsigned i = 0; i < 12; i++) {
            struct wsr_bytes wire;
            size_t len = 1000 + random_number() % (sizeof text - 1000);
            fill(text, len, 1);
            /* What lies just within and just beyond each window comes again. */
            for (size_t at = 300; at + 400 < len; at += 700)
                memcpy(text + at + 100 + (i % 3) * 100, text + at, 40);
            if (squeeze(text, len, len, &wire))
                peer_expect(&peer, wire, text, len);
        }
        peer_stop(&peer);
        stop();
    }
}

/* PMD-33: random bytes leave as they are, and the message behind them refers to nothing that the peer does not have. */
static void what_becomes_no_smaller_leaves_no_trace(void **state)
{
    (void)state;
    static uint8_t text[5000], noise[5000];
    struct wsr_bytes wire;
    struct peer peer;
    peer_start(&peer, 15, 6, Z_DEFAULT_STRATEGY);
    start(false, false, 15, 15);
    for (unsigned i = 0; i < 10; i++) {
        fill(text, sizeof text, i % 2);
        fill(noise, sizeof noise, 2);
        assert_false(squeeze(noise, sizeof noise, 700, &wire));
        memcpy(text + 1000, noise, 1500);           /* part of it comes again */
        assert_true(squeeze(text, sizeof text, 900, &wire));
        peer_expect(&peer, wire, text, sizeof text);
    }
    assert_int_equal(shared.not_deflated, 10);
    assert_false(squeeze((const uint8_t *)"abcdefgh", 8, 8, &wire));
    peer_stop(&peer);
    stop();
}

/* The same for one that was compressed and then not sent. */
static void what_is_forgotten_leaves_no_trace(void **state)
{
    (void)state;
    static uint8_t text[3000];
    for (int alone = 0; alone < 2; alone++) {
        struct wsr_bytes wire;
        struct peer peer;
        peer_start(&peer, 15, 6, Z_DEFAULT_STRATEGY);
        start(false, alone, 15, 15);
        for (unsigned i = 0; i < 6; i++) {
            fill(text, sizeof text, 1);
            assert_true(squeeze(text, sizeof text, 500, &wire));
            wsr_deflate_forget(&conn);
            assert_true(squeeze(text, sizeof text, 500, &wire));
            peer_expect(&peer, wire, text, sizeof text);
        }
        assert_int_equal(shared.deflated, 6);
        assert_int_equal(shared.deflated_bytes, 6 * sizeof text);
        assert_int_equal(shared.not_deflated, 6);
        peer_stop(&peer);
        stop();
    }
}

static void the_level_is_that_of_zlib(void **state)
{
    (void)state;
    static uint8_t text[20000];
    size_t sizes[2];
    fill(text, sizeof text, 1);
    for (int i = 0; i < 2; i++) {
        struct wsr_bytes wire;
        start(false, false, 15, 15);
        shared.level = i == 0 ? 1 : 9;
        assert_true(squeeze(text, sizeof text, sizeof text, &wire));
        sizes[i] = wire.len;
        stop();
    }
    assert_true(sizes[1] < sizes[0]);
}

/* ---- Memory ---- */

/* Without takeover a connection has no stream between messages; the next connection has those it gave back. */
static void streams_go_back_at_the_end_of_a_message(void **state)
{
    (void)state;
    static uint8_t text[3000], wire[ROOM];
    struct wsr_deflate_agreed agreed = { true, true, 15, 15 };
    struct wsr_deflate other;
    struct wsr_bytes sent;
    struct peer peer;
    fill(text, sizeof text, 0);
    peer_start(&peer, 15, 6, Z_DEFAULT_STRATEGY);
    size_t len = peer_deflate(&peer, text, sizeof text, wire);
    peer_stop(&peer);
    start(true, true, 15, 15);
    assert_int_equal(shared.memory_bytes, 0);
    expect(wire, len, 5, 100, text, sizeof text);
    assert_true(squeeze(text, sizeof text, 100, &sent));
    assert_true(conn.inflater == NULL && conn.deflater == NULL);
    uint64_t memory = shared.memory_bytes;
    assert_true(memory > 0);
    wsr_deflate_init(&other, &shared, &agreed, WSR_DEFLATE_CLIENT);
    wsr_deflate_begin(&other, sizeof text);
    wsr_deflate_add(&other, wsr_bytes_of(text, sizeof text));
    assert_true(wsr_deflate_end(&other, &sent));
    assert_int_equal(shared.memory_bytes, memory);
    wsr_deflate_free(&other);
    /* A message under way has one of its own, and gives it back when its connection ends. */
    struct wsr_bytes half = wsr_bytes_of(wire, len / 2);
    size_t made;
    assert_int_equal(wsr_deflate_inflate(&conn, &half, false, out, sizeof out, &made), WSR_INFLATE_MORE);
    assert_non_null(conn.inflater);
    stop();
}

/* A stream that was given back serves only where its window is the same. */
static void spare_streams_keep_their_windows(void **state)
{
    (void)state;
    static uint8_t text[30000];
    fill(text, sizeof text, 1);
    memcpy(text + 20000, text, 5000);
    for (uint8_t bits = 15; bits >= 9; bits--) {
        struct wsr_deflate_agreed agreed = { true, true, 15, bits };
        struct peer peer;
        struct wsr_bytes wire;
        if (bits == 15)
            start(true, true, 15, bits);
        else
            wsr_deflate_init(&conn, &shared, &agreed, WSR_DEFLATE_CLIENT);
        peer_start(&peer, bits, 6, Z_DEFAULT_STRATEGY);
        assert_true(squeeze(text, sizeof text, sizeof text, &wire));
        peer_expect(&peer, wire, text, sizeof text);
        peer_stop(&peer);
        wsr_deflate_free(&conn);
    }
    wsr_deflate_shared_free(&shared);
    assert_int_equal(shared.memory_bytes, 0);
}

/* What rests gives back its streams, and goes on as if it had not: the peer's next message refers to those before, and
 * ours are understood. PMD-42 */
static void a_rest_gives_memory_back_and_loses_nothing(void **state)
{
    (void)state;
    static uint8_t text[40000], wire[ROOM];
    struct peer peer;
    struct wsr_bytes sent;
    peer_start(&peer, 15, 6, Z_DEFAULT_STRATEGY);
    start(false, false, 15, 15);
    assert_true(wsr_deflate_oldest_ns(&shared) == WSR_NEVER);
    fill(text, sizeof text, 1);
    for (unsigned i = 0; i < 8; i++) {
        size_t len = i == 0 ? 100 : 1000 + 5000 * i;
        size_t wire_bytes = peer_deflate(&peer, text, len, wire);
        expect(wire, wire_bytes, 3000, 9000, text, len);
        assert_true(squeeze(text, len, 3000, &sent));
        peer_expect(&peer, sent, text, len);
        wsr_deflate_touch(&conn, 100 + i);
        assert_int_equal(wsr_deflate_oldest_ns(&shared), 100 + i);
        wsr_deflate_rest(&shared, 100 + i);
        assert_true(conn.inflater != NULL && conn.deflater != NULL);
        uint64_t memory = shared.memory_bytes;
        wsr_deflate_rest(&shared, 101 + i);
        assert_true(conn.inflater == NULL && conn.deflater == NULL && conn.window != NULL);
        assert_true(i > 0 || conn.window_bytes + 1 == 100);
        assert_true(shared.memory_bytes <= memory + conn.window_bytes + 100);
        assert_true(wsr_deflate_oldest_ns(&shared) == WSR_NEVER);
    }
    peer_stop(&peer);
    stop();
}

/* A message that is half inflated is not disturbed by a rest. */
static void a_rest_waits_for_the_end_of_a_message(void **state)
{
    (void)state;
    static uint8_t text[3000], wire[ROOM];
    struct peer peer;
    size_t made, all;
    peer_start(&peer, 15, 6, Z_DEFAULT_STRATEGY);
    start(false, false, 15, 15);
    fill(text, sizeof text, 1);
    size_t len = peer_deflate(&peer, text, sizeof text, wire);
    struct wsr_bytes first = wsr_bytes_of(wire, len / 2), second = wsr_bytes_of(wire + len / 2, len - len / 2);
    assert_int_equal(wsr_deflate_inflate(&conn, &first, false, out, sizeof out, &all), WSR_INFLATE_MORE);
    wsr_deflate_touch(&conn, 5);
    wsr_deflate_rest(&shared, 1000);
    assert_non_null(conn.inflater);
    assert_int_equal(wsr_deflate_inflate(&conn, &second, true, out + all, sizeof out - all, &made),
                     WSR_INFLATE_DONE);
    assert_int_equal(all + made, sizeof text);
    assert_memory_equal(out, text, sizeof text);
    wsr_deflate_touch(&conn, 7);
    wsr_deflate_rest(&shared, 1000);
    assert_null(conn.inflater);
    peer_stop(&peer);
    stop();
}

/* The one that was used longest ago rests first, whatever the order in which they began. */
static void the_oldest_rests_first(void **state)
{
    (void)state;
    static uint8_t text[500];
    static struct wsr_deflate conns[5];
    struct wsr_deflate_agreed agreed = { false, false, 15, 9 };
    struct wsr_bytes wire;
    start(false, false, 15, 9);
    fill(text, sizeof text, 0);
    for (unsigned i = 0; i < COUNT_OF(conns); i++)
        wsr_deflate_init(&conns[i], &shared, &agreed, WSR_DEFLATE_CLIENT);
    static const unsigned order[] = { 0, 1, 2, 3, 4, 1, 3, 0, 3 };
    for (unsigned i = 0; i < COUNT_OF(order); i++) {
        struct wsr_deflate *d = &conns[order[i]];
        wsr_deflate_begin(d, sizeof text);
        wsr_deflate_add(d, wsr_bytes_of(text, sizeof text));
        assert_true(wsr_deflate_end(d, &wire));
        wsr_deflate_touch(d, 10 + i);
    }
    static const unsigned oldest[] = { 2, 4, 1, 0, 3 };
    static const uint64_t used_ns[] = { 12, 14, 15, 17, 18 };
    wsr_deflate_free(&conns[4]);
    for (unsigned i = 0; i < COUNT_OF(oldest); i++) {
        if (oldest[i] == 4)
            continue;
        assert_int_equal(wsr_deflate_oldest_ns(&shared), used_ns[i]);
        assert_non_null(conns[oldest[i]].deflater);
        wsr_deflate_rest(&shared, used_ns[i] + 1);
        assert_null(conns[oldest[i]].deflater);
    }
    for (unsigned i = 0; i < COUNT_OF(conns); i++)
        wsr_deflate_free(&conns[i]);
    stop();
}

/* What a large message was compressed into goes back behind it, not when another happens to come. */
static void no_room_of_a_large_message_is_kept(void **state)
{
    (void)state;
    static uint8_t text[300000];
    static const size_t sizes[] = { 100, 250000, 300000, 5000, 300000 };
    struct wsr_bytes wire;
    fill(text, sizeof text, 0);
    start(true, true, 15, 15);
    for (unsigned i = 0; i < COUNT_OF(sizes); i++) {
        assert_true(squeeze(text, sizes[i], 4096, &wire));
        assert_true(shared.memory_bytes > sizes[i]);
        uint64_t memory = shared.memory_bytes;
        wsr_deflate_clear(&conn);
        assert_true(sizes[i] > 262144 ? shared.memory_bytes < memory - sizes[i] : shared.memory_bytes == memory);
    }
    stop();
}

/* One that was used in the middle of a message, and then has no stream any more, is none that could rest. */
static void without_a_stream_there_is_no_rest(void **state)
{
    (void)state;
    static const uint8_t wire[] = { 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00 };
    struct wsr_bytes begin = wsr_bytes_of(wire, 3), end = wsr_bytes_of(wire + 3, sizeof wire - 3);
    size_t made;
    start(true, true, 15, 15);
    assert_int_equal(wsr_deflate_inflate(&conn, &begin, false, out, ROOM, &made), WSR_INFLATE_MORE);
    wsr_deflate_touch(&conn, 5);
    assert_int_equal(wsr_deflate_oldest_ns(&shared), 5);
    assert_int_equal(wsr_deflate_inflate(&conn, &end, true, out, ROOM, &made), WSR_INFLATE_DONE);
    wsr_deflate_touch(&conn, 6);
    assert_int_equal(wsr_deflate_oldest_ns(&shared), WSR_NEVER);
    stop();
}

/* The other side: what it keeps and resets is the client's, and the other way round. */
static void a_server_has_the_sides_turned_round(void **state)
{
    (void)state;
    static uint8_t text[3000], wire[ROOM];
    struct wsr_deflate_agreed agreed = { true, false, 15, 9 };
    struct wsr_bytes sent;
    struct peer peer;
    shared = (struct wsr_deflate_shared){ .level = 6 };
    wsr_deflate_init(&conn, &shared, &agreed, WSR_DEFLATE_SERVER);
    peer_start(&peer, 9, 6, Z_DEFAULT_STRATEGY);
    fill(text, sizeof text, 0);
    for (unsigned i = 0; i < 3; i++) {
        size_t len = peer_deflate(&peer, text, sizeof text, wire);
        expect(wire, len, 7, 100, text, sizeof text);
    }
    assert_non_null(conn.inflater);
    assert_true(squeeze(text, sizeof text, 100, &sent));
    assert_null(conn.deflater);
    assert_int_equal(shared.inflated, 3);
    assert_int_equal(shared.inflated_bytes, 3 * sizeof text);
    peer_stop(&peer);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_inflate_at_every_cut),
        cmocka_unit_test(the_context_is_taken_over),
        cmocka_unit_test(what_is_cut_off_fails_at_every_byte),
        cmocka_unit_test(a_match_may_end_behind_the_input),
        cmocka_unit_test(corrupt_bytes_do_no_harm),
        cmocka_unit_test(every_window_inflates),
        cmocka_unit_test(a_bomb_fills_no_more_than_the_room),
        cmocka_unit_test(what_is_compressed_inflates_at_the_peer),
        cmocka_unit_test(nothing_is_referred_to_beyond_the_window),
        cmocka_unit_test(what_becomes_no_smaller_leaves_no_trace),
        cmocka_unit_test(what_is_forgotten_leaves_no_trace),
        cmocka_unit_test(the_level_is_that_of_zlib),
        cmocka_unit_test(streams_go_back_at_the_end_of_a_message),
        cmocka_unit_test(spare_streams_keep_their_windows),
        cmocka_unit_test(a_rest_gives_memory_back_and_loses_nothing),
        cmocka_unit_test(a_rest_waits_for_the_end_of_a_message),
        cmocka_unit_test(the_oldest_rests_first),
        cmocka_unit_test(no_room_of_a_large_message_is_kept),
        cmocka_unit_test(without_a_stream_there_is_no_rest),
        cmocka_unit_test(a_server_has_the_sides_turned_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
