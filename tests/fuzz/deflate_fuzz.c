/* What a hostile server compresses, and what we compress. Wire bytes as messages, with the context kept or not: every
 * cut of the input and of the room gives the same, and zlib alone, with all the room there is, says when a message is
 * one: it ends where a block or a stream may begin, with nothing left over, and the tail has made nothing of itself.
 * The bytes also serve as messages to send, in any pieces: what they become gives them back, and what was given up
 * leaves no trace.
 *
 * A window of less than 2^15 may be found to be too small for a message by one cut and not by another.
 *
 * Input: flags, window, seed of the cuts, then messages, each behind a byte of length.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <zlib.h>

#include "engine/deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OUT_MAX (1u << 20)
#define TAIL_BYTES 4

enum flag { FLAG_ALONE = 1, FLAG_SMALL_STEPS = 2, FLAG_RESTS = 4 };

static uint8_t outs[2][OUT_MAX];
static uint32_t seed;

static void must(bool holds)
{
    if (!holds)
        abort();
}

static size_t up_to(size_t most)
{
    seed = seed * 1664525u + 1013904223u;
    return 1 + (seed >> 8) % most;
}

/* ---- Inflating ---- */

/* zlib alone. Returns the bytes, -1 when the message is none, -2 when it is larger than is looked at. */
static long oracle(z_stream *z, const uint8_t *wire, size_t len, uint8_t *out)
{
    static uint8_t in[300];
    static const uint8_t tail[TAIL_BYTES] = { 0x00, 0x00, 0xff, 0xff };
    memcpy(in, wire, len);
    memcpy(in + len, tail, sizeof tail);
    z->next_out = out;
    z->avail_out = OUT_MAX;
    uInt before_tail = OUT_MAX;
    bool has_ended = false;
    for (int part = 0; part < 2; part++) {
        z->next_in = part == 0 ? in : in + len;
        z->avail_in = part == 0 ? (uInt)len : TAIL_BYTES;
        before_tail = z->avail_out;
        do {
            int rc = inflate(z, Z_SYNC_FLUSH);
            has_ended = rc == Z_STREAM_END;
            if (has_ended)
                rc = inflateResetKeep(z);
            if (z->avail_out == 0)
                return -2;
            if (rc != Z_OK && rc != Z_BUF_ERROR)
                return -1;
        } while (z->avail_in > 0);
    }
    bool is_between = has_ended || ((z->data_type & 128) != 0 && (z->data_type & 63) == 0);
    return is_between && z->avail_out == before_tail ? (long)(OUT_MAX - z->avail_out) : -1;
}

/* The same by the engine, cut anywhere. */
static long inflate_cut(struct wsr_deflate *d, const uint8_t *wire, size_t len, uint8_t *out, bool small)
{
    size_t at = 0, used = 0;
    d->wire_bytes = len;
    while (at < len) {
        size_t piece_bytes = small ? up_to(3) : up_to(len);
        piece_bytes = piece_bytes < len - at ? piece_bytes : len - at;
        uint8_t *piece = malloc(piece_bytes);
        must(piece != NULL);
        memcpy(piece, wire + at, piece_bytes);
        struct wsr_bytes in = wsr_bytes_of(piece, piece_bytes);
        at += piece_bytes;
        enum wsr_inflate rc;
        do {
            size_t made, room = small ? up_to(300) : up_to(OUT_MAX / 8);
            if (used + room > OUT_MAX) {
                free(piece);
                return -2;
            }
            rc = wsr_deflate_inflate(d, &in, at == len, out + used, room, &made);
            must(made <= room && rc != WSR_INFLATE_MEMORY);
            used += made;
        } while (rc == WSR_INFLATE_FULL);
        free(piece);
        if (rc == WSR_INFLATE_BAD)
            return -1;
        must(rc == (at == len ? WSR_INFLATE_DONE : WSR_INFLATE_MORE));
    }
    return (long)used;
}

static void receive(const uint8_t *data, size_t size, unsigned flags, int bits)
{
    struct wsr_deflate_shared shared = { .level = 6 };
    struct wsr_deflate_agreed agreed = { flags & FLAG_ALONE, false, (uint8_t)bits, 15 };
    struct wsr_deflate d;
    z_stream z = { .zalloc = Z_NULL };
    must(inflateInit2(&z, -(bits < 9 ? 9 : bits)) == Z_OK);
    wsr_deflate_init(&d, &shared, &agreed, WSR_DEFLATE_CLIENT);
    for (size_t at = 0; at + 1 < size;) {
        size_t len = 1u + data[at] % 250u;
        len = len < size - at - 1 ? len : size - at - 1;
        long want = oracle(&z, data + at + 1, len, outs[0]);
        long got = inflate_cut(&d, data + at + 1, len, outs[1], flags & FLAG_SMALL_STEPS);
        at += 1 + len;
        if (want == -2 || got == -2)
            break;
        /* What refers beyond a smaller window is found only where the room has ended meanwhile. */
        must(want == got || (bits < 15 && got == -1));
        must(got <= 0 || memcmp(outs[0], outs[1], (size_t)got) == 0);
        if (got < 0)
            break;
        if (flags & FLAG_ALONE)
            inflateReset(&z);
        wsr_deflate_touch(&d, 1);
        if (flags & FLAG_RESTS)
            wsr_deflate_rest(&shared, 2);
    }
    inflateEnd(&z);
    wsr_deflate_free(&d);
    wsr_deflate_shared_free(&shared);
    must(shared.memory_bytes == 0);
}

/* ---- Sending ---- */

static void send(const uint8_t *data, size_t size, unsigned flags, int bits)
{
    struct wsr_deflate_shared ours = { .level = 1 + (int)(seed % 9) }, theirs = { .level = 1 };
    struct wsr_deflate_agreed agreed = { false, flags & FLAG_ALONE, 15, (uint8_t)bits };
    struct wsr_deflate client, server;
    wsr_deflate_init(&client, &ours, &agreed, WSR_DEFLATE_CLIENT);
    wsr_deflate_init(&server, &theirs, &agreed, WSR_DEFLATE_SERVER);
    for (size_t at = 0; at + 1 < size;) {
        size_t len = 1u + 3u * data[at];
        len = len < size - at - 1 ? len : size - at - 1;
        const uint8_t *text = data + at + 1;
        struct wsr_bytes wire;
        at += 1 + len;
        wsr_deflate_begin(&client, len);
        for (size_t from = 0; from < len;) {
            size_t piece = up_to(len - from);
            wsr_deflate_add(&client, wsr_bytes_of(text + from, piece));
            from += piece;
        }
        if (!wsr_deflate_end(&client, &wire))
            continue;
        must(wire.len > 0 && wire.len < len);
        if (seed & 1 << 9) {
            wsr_deflate_forget(&client);
            continue;
        }
        must(inflate_cut(&server, wire.data, wire.len, outs[0], flags & FLAG_SMALL_STEPS) == (long)len);
        must(memcmp(outs[0], text, len) == 0);
        wsr_deflate_touch(&client, 1);
        if (flags & FLAG_RESTS)
            wsr_deflate_rest(&ours, 2);
    }
    wsr_deflate_free(&client);
    wsr_deflate_free(&server);
    wsr_deflate_shared_free(&ours);
    wsr_deflate_shared_free(&theirs);
    must(ours.memory_bytes == 0 && theirs.memory_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    seed = data[2];
    receive(data + 3, size - 3, data[0], 8 + data[1] % 8);
    send(data + 3, size - 3, data[0], 8 + data[1] % 8);
    return 0;
}
