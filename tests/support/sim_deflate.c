/* SPDX-License-Identifier: MIT */
#include "sim_deflate.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define OUT_MAX (4u << 20)
#define TAIL_BYTES 4

struct sim_deflate {
    z_stream deflater, inflater;
};

struct sim_deflate *sim_deflate_create(void)
{
    struct sim_deflate *made = calloc(1, sizeof *made);
    if (made == NULL || inflateInit2(&made->inflater, -15) != Z_OK ||
        deflateInit2(&made->deflater, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        abort();
    return made;
}

void sim_deflate_free(struct sim_deflate *deflate)
{
    if (deflate == NULL)
        return;
    deflateEnd(&deflate->deflater);
    inflateEnd(&deflate->inflater);
    free(deflate);
}

void sim_deflate_reset(struct sim_deflate *deflate)
{
    deflateReset(&deflate->deflater);
    inflateReset(&deflate->inflater);
}

uint8_t *sim_deflate_deflate(struct sim_deflate *d, const void *text, size_t len, size_t *out_bytes)
{
    size_t room = len + len / 100 + 64;
    uint8_t *out = malloc(room);
    if (out == NULL)
        abort();
    d->deflater.next_in = (Bytef *)(uintptr_t)text;
    d->deflater.avail_in = (uInt)len;
    d->deflater.next_out = out;
    d->deflater.avail_out = (uInt)room;
    if (deflate(&d->deflater, Z_SYNC_FLUSH) != Z_OK || d->deflater.avail_out == 0)
        abort();
    *out_bytes = room - d->deflater.avail_out - TAIL_BYTES;
    return out;
}

uint8_t *sim_deflate_inflate(struct sim_deflate *d, const uint8_t *wire, size_t len, size_t *out_bytes)
{
    uint8_t *in = malloc(len + TAIL_BYTES), *out = malloc(OUT_MAX);
    if (in == NULL || out == NULL)
        abort();
    memcpy(in, wire, len);
    memcpy(in + len, "\x00\x00\xff\xff", TAIL_BYTES);
    d->inflater.next_in = in;
    d->inflater.avail_in = (uInt)len + TAIL_BYTES;
    d->inflater.next_out = out;
    d->inflater.avail_out = OUT_MAX;
    int rc = inflate(&d->inflater, Z_SYNC_FLUSH);
    bool is_whole = rc == Z_OK && d->inflater.avail_in == 0 && (d->inflater.data_type & 128) != 0;
    *out_bytes = OUT_MAX - d->inflater.avail_out;
    free(in);
    if (is_whole)
        return out;
    free(out);
    return NULL;
}
