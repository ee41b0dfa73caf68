/* What a hostile server compresses, and what we compress. Wire bytes as messages, with the context kept or not: every
 * cut of the input and of the room gives the same, and an inflater that is not zlib's says what a message becomes, or
 * that it is none. The bytes also serve as messages to send, in any pieces: what they become gives them back, and what
 * was given up leaves no trace.
 *
 * A window of less than 2^15 may be found to be too small for a message by one cut and not by another.
 *
 * Input: flags, window, seed of the cuts, then messages, each behind a byte of length.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/deflate.h"
#include "tests/support/plain_inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OUT_MAX (1u << 20)
#define KNOWN_MAX (4u << 20)

enum flag { FLAG_ALONE = 1, FLAG_SMALL_STEPS = 2, FLAG_RESTS = 4 };

static uint8_t known[KNOWN_MAX];     /* all messages that were received, one behind the other */
static uint8_t made[OUT_MAX];
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

/* Cut anywhere. Returns the bytes, -1 when the message is none, -2 when it is larger than is looked at. */
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
            size_t more, room = small ? up_to(300) : up_to(OUT_MAX / 8);
            if (used + room > OUT_MAX) {
                free(piece);
                return -2;
            }
            rc = wsr_deflate_inflate(d, &in, at == len, out + used, room, &more);
            must(more <= room && rc != WSR_INFLATE_MEMORY);
            used += more;
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
    size_t history = 0;
    wsr_deflate_init(&d, &shared, &agreed, WSR_DEFLATE_CLIENT);
    for (size_t at = 0; at + 1 < size && history + OUT_MAX <= KNOWN_MAX;) {
        size_t len = 1u + data[at] % 250u;
        len = len < size - at - 1 ? len : size - at - 1;
        long got = inflate_cut(&d, data + at + 1, len, made, flags & FLAG_SMALL_STEPS);
        if (got == -2)
            break;
        long want = plain_inflate(data + at + 1, len, known, history, history + OUT_MAX);
        at += 1 + len;
        /* What refers beyond a smaller window is found only where the room has ended meanwhile. */
        must(want == got || (bits < 15 && got == -1));
        must(got <= 0 || memcmp(known + history, made, (size_t)got) == 0);
        if (got < 0)
            break;
        history = flags & FLAG_ALONE ? 0 : history + (size_t)got;
        wsr_deflate_touch(&d, 1);
        if (flags & FLAG_RESTS)
            wsr_deflate_rest(&shared, 2);
    }
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
        must(inflate_cut(&server, wire.data, wire.len, made, flags & FLAG_SMALL_STEPS) == (long)len);
        must(memcmp(made, text, len) == 0);
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
