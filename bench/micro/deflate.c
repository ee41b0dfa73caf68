/* permessage-deflate through the engine, both ways, against zlib alone on the same messages: text as exchanges send it,
 * in bytes of payload. What comes is received by the reference too, or its server would have nothing to do; what the
 * engine does besides, frames and UTF-8 and masks and events, and sending, is what it may cost.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "bench.h"
#include "client.h"
#include "engine/frame.h"
#include "pieces.h"

#define MESSAGES_COUNT 1024u
#define LEVEL 6                           /* the engine's default, and zlib's */
#define MEMORY_LEVEL 8                    /* the same */
#define SENDS_PER_POLL 16u
#define QUEUE_BYTES (1u << 20)
#define HOT_BYTES (16u << 10)             /* as the engine's receive buffers */
#define REACH 0.95

static const uint8_t tail[4] = { 0x00, 0x00, 0xff, 0xff };

struct deflate {
    const struct wsr_table *table;
    struct wsr_peer peer;
    struct wsr_pieces pieces;
    uint32_t message_bytes;
    bool is_alone;                        /* each message for itself: no context is taken over */
    char *text;                           /* all messages, one behind the other */
    uint8_t *wire;                        /* all of them compressed, as frames */
    size_t wire_bytes;
    uint8_t *scratch;
    size_t scratch_bytes;
};

/* ---- Messages ---- */

static uint32_t next_number(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Quotes of few symbols with prices that move: what repeats is names, what does not is digits. */
static void write_text(char *to, size_t len)
{
    static const char *const symbols[] = { "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT" };
    uint32_t state = 1;
    size_t used = 0;
    while (used < len) {
        char quote[160];
        uint32_t price = 6000000 + next_number(&state) % 5000, size = next_number(&state) % 100000;
        int chars = snprintf(quote, sizeof quote,
                             "{\"e\":\"bookTicker\",\"u\":%u,\"s\":\"%s\",\"b\":\"%u.%02u\",\"B\":\"%u.%05u\","
                             "\"a\":\"%u.%02u\",\"A\":\"%u.%05u\"}\n", 400900000 + next_number(&state) % 100000,
                             symbols[next_number(&state) % 5], price / 100, price % 100, size % 31, size,
                             price / 100, (price + 1) % 100, size % 17, size / 2);
        size_t taken = (size_t)chars < len - used ? (size_t)chars : len - used;
        memcpy(to + used, quote, taken);
        used += taken;
    }
}

static int start_deflating(z_stream *z)
{
    *z = (z_stream){ .zalloc = Z_NULL };
    return deflateInit2(z, LEVEL, Z_DEFLATED, -15, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK ? 0 : -1;
}

/* Returns the bytes of message @number, compressed and without its tail, in scratch. */
static size_t compress_one(struct deflate *d, z_stream *z, uint32_t number)
{
    z->next_in = (Bytef *)d->text + (size_t)number * d->message_bytes;
    z->avail_in = d->message_bytes;
    z->next_out = d->scratch;
    z->avail_out = (uInt)d->scratch_bytes;
    int rc = deflate(z, Z_SYNC_FLUSH);
    if (d->is_alone)
        deflateReset(z);
    return rc == Z_OK ? d->scratch_bytes - z->avail_out - sizeof tail : 0;
}

static int make_messages(struct deflate *d)
{
    size_t len = (size_t)MESSAGES_COUNT * d->message_bytes;
    z_stream z;
    d->scratch_bytes = 2 * (size_t)d->message_bytes + 1024;
    d->text = malloc(len);
    d->scratch = malloc(d->scratch_bytes);
    d->wire = malloc(len + MESSAGES_COUNT * 64);
    d->wire_bytes = 0;
    if (d->text == NULL || d->scratch == NULL || d->wire == NULL || start_deflating(&z) != 0)
        return -1;
    write_text(d->text, len);
    for (uint32_t i = 0; i < MESSAGES_COUNT; i++) {
        size_t bytes = compress_one(d, &z, i);
        uint8_t first = WSR_FRAME_FIN | WSR_FRAME_RSV1 << 4 | WSR_OPCODE_TEXT;
        d->wire_bytes += wsr_frame_write(d->wire + d->wire_bytes, first, bytes, NULL);
        memcpy(d->wire + d->wire_bytes, d->scratch, bytes);
        d->wire_bytes += bytes;
    }
    deflateEnd(&z);
    return 0;
}

static void free_messages(struct deflate *d)
{
    free(d->text);
    free(d->wire);
    free(d->scratch);
}

/* ---- Inflating ---- */

/* The consumer looks at each message: length, and its last byte. */
static uint32_t consume(const struct deflate *d, const struct wsr_event *events, int count, uint32_t *number)
{
    uint32_t good = 0;
    for (int i = 0; i < count; i++) {
        const char *want = d->text + (size_t)(*number % MESSAGES_COUNT) * d->message_bytes;
        const char *data = events[i].data;
        good += events[i].type == WSR_EVENT_MESSAGE && events[i].len == d->message_bytes &&
                data[d->message_bytes - 1] == want[d->message_bytes - 1];
        ++*number;
    }
    return good;
}

static const char *offer_of(const struct deflate *d)
{
    return d->is_alone ? "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
                       : "permessage-deflate";
}

static int run_inflating(void *context, struct wsr_row_measure *out)
{
    static struct wsr_event events[WSR_CLIENT_EVENTS_COUNT];
    struct deflate *d = context;
    struct wsr_client client;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    uint64_t bytes = 0;
    uint32_t number = 0;
    bool ok = true;
    options.wait = WSR_WAIT_SPIN;
    if (wsr_client_open_offering(&client, d->peer.port, 1, &options, offer_of(d)) != 0)
        return -1;
    wsr_pieces_begin(&d->pieces, d->table, &d->peer);
    while (ok && wsr_pieces_go_on(&d->pieces, bytes)) {
        int count = wsr_poll(client.engine, 0, events, WSR_CLIENT_EVENTS_COUNT, 0);
        uint32_t good = count > 0 ? consume(d, events, count, &number) : 0;
        ok = count >= 0 && good == (uint32_t)count;
        bytes += (uint64_t)good * d->message_bytes;
    }
    wsr_pieces_end(&d->pieces, bytes, out);
    if (!ok)
        fprintf(stderr, "wsring-micro: a message that was not sent, or no more messages\n");
    wsr_client_close(&client);
    return ok ? 0 : -1;
}

/* Inflate the payload of the frame at @wire. Returns the bytes of the frame, 0 when something is wrong. */
static size_t inflate_one(struct deflate *d, z_stream *z, uint8_t *wire, size_t len)
{
    struct wsr_frame frame;
    int head_bytes = wsr_frame_parse(&frame, wire, len);
    if (head_bytes <= 0)
        return 0;
    z->next_in = wire + head_bytes;
    z->avail_in = (uInt)frame.payload_bytes;
    z->next_out = d->scratch;
    z->avail_out = (uInt)d->scratch_bytes;
    int rc = inflate(z, Z_SYNC_FLUSH);
    z->next_in = (Bytef *)(uintptr_t)tail;
    z->avail_in = sizeof tail;
    if (rc != Z_OK || inflate(z, Z_SYNC_FLUSH) != Z_OK || d->scratch_bytes - z->avail_out != d->message_bytes)
        return 0;
    if (d->is_alone)
        inflateReset(z);
    return (size_t)head_bytes + frame.payload_bytes;
}

/* Inflate the frames that are whole of the @len bytes at @in. Returns the bytes of them, or -1; *bytes grows by their
 * payload. */
static ssize_t inflate_whole(struct deflate *d, z_stream *z, uint8_t *in, size_t len, uint64_t *bytes)
{
    size_t at = 0;
    struct wsr_frame frame;
    for (int head_bytes; (head_bytes = wsr_frame_parse(&frame, in + at, len - at)) > 0;) {
        if (frame.payload_bytes > len - at - (size_t)head_bytes)
            break;
        size_t taken = inflate_one(d, z, in + at, len - at);
        if (taken == 0)
            return -1;
        at += taken;
        *bytes += d->message_bytes;
    }
    return (ssize_t)at;
}

/* The same stream, received by recv(2) and inflated by zlib, and nothing more. */
static int run_bare_inflating(void *context, struct wsr_row_measure *out)
{
    static uint8_t hot[HOT_BYTES];
    struct deflate *d = context;
    z_stream z = { .zalloc = Z_NULL };
    uint64_t bytes = 0;
    size_t used = 0;
    int fd = wsr_client_connect_bare(d->peer.port);
    bool ok = fd >= 0 && inflateInit2(&z, -15) == Z_OK;
    wsr_pieces_begin(&d->pieces, d->table, &d->peer);
    while (ok && wsr_pieces_go_on(&d->pieces, bytes)) {
        ssize_t got = recv(fd, hot + used, sizeof hot - used, MSG_DONTWAIT);
        used += got > 0 ? (size_t)got : 0;
        ssize_t taken = got > 0 ? inflate_whole(d, &z, hot, used, &bytes) : 0;
        ok = taken >= 0 && (got > 0 || (got < 0 && errno == EAGAIN));
        if (taken > 0)
            memmove(hot, hot + taken, used -= (size_t)taken);
    }
    wsr_pieces_end(&d->pieces, bytes, out);
    inflateEnd(&z);
    if (fd >= 0)
        close(fd);
    return ok ? 0 : -1;
}

/* ---- Deflating ---- */

/* Send until the queue is full, at most so many. Returns how many were taken, or -1. */
static int send_some(struct deflate *d, struct wsr_client *client, uint32_t *number)
{
    for (int i = 0; i < (int)SENDS_PER_POLL; i++) {
        const char *text = d->text + (size_t)(*number % MESSAGES_COUNT) * d->message_bytes;
        int rc = wsr_send(client->sockets[0], WSR_TEXT, text, d->message_bytes);
        if (rc != 0)
            return rc == WSR_ERR_QUOTA ? i : -1;
        ++*number;
    }
    return (int)SENDS_PER_POLL;
}

static int run_deflating(void *context, struct wsr_row_measure *out)
{
    struct deflate *d = context;
    struct wsr_client client;
    struct wsr_event event;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    uint64_t bytes = 0;
    uint32_t number = 0;
    bool ok = true;
    options.wait = WSR_WAIT_SPIN;
    options.deflate_min_bytes = 1;
    options.send_queue_max_bytes = QUEUE_BYTES;
    if (wsr_client_open_offering(&client, d->peer.port, 1, &options, offer_of(d)) != 0)
        return -1;
    wsr_pieces_begin(&d->pieces, d->table, &d->peer);
    while (ok && wsr_pieces_go_on(&d->pieces, bytes)) {
        int sent = send_some(d, &client, &number);
        ok = sent >= 0 && wsr_poll(client.engine, 0, &event, 1, 0) >= 0;
        bytes += ok ? (uint64_t)sent * d->message_bytes : 0;
    }
    wsr_pieces_end(&d->pieces, bytes, out);
    wsr_engine_statistics(client.engine, &statistics);
    ok = ok && statistics.deflate_messages_sent == number;
    if (!ok)
        fprintf(stderr, "wsring-micro: a message was not sent, or not compressed\n");
    wsr_client_close(&client);
    return ok ? 0 : -1;
}

static int run_bare_deflating(void *context, struct wsr_row_measure *out)
{
    struct deflate *d = context;
    z_stream z;
    uint64_t bytes = 0;
    uint32_t number = 0;
    bool ok = true;
    if (start_deflating(&z) != 0)
        return -1;
    wsr_pieces_begin(&d->pieces, d->table, NULL);
    while (ok && wsr_pieces_go_on(&d->pieces, bytes)) {
        for (uint32_t i = 0; ok && i < SENDS_PER_POLL; i++) {
            ok = compress_one(d, &z, number++ % MESSAGES_COUNT) > 0;
            bytes += d->message_bytes;
        }
    }
    wsr_pieces_end(&d->pieces, bytes, out);
    deflateEnd(&z);
    return ok ? 0 : -1;
}

/* ---- Rows ---- */

static int measure(struct deflate *d, const char *name, const char *what, enum wsr_peer_kind kind)
{
    struct wsr_row row = { .what = what, .unit = WSR_ROW_BYTES_PER_S, .reach = REACH, .context = d };
    snprintf(row.name, sizeof row.name, "%s", name);
    bool inflates = kind == WSR_PEER_SPRAY;
    row.sides[0] = (struct wsr_row_side){ "engine, inline", inflates ? run_inflating : run_deflating };
    row.sides[1] = (struct wsr_row_side){ inflates ? "recv, zlib" : "zlib alone",
                                          inflates ? run_bare_inflating : run_bare_deflating };
    if (!wsr_row_is_wanted(d->table, name))
        return 0;
    int rc = make_messages(d);
    struct wsr_peer_options options = { .kind = kind, .connections_count = 1, .extensions = offer_of(d),
                                        .frames = d->wire, .frames_bytes = d->wire_bytes };
    if (rc == 0)
        rc = wsr_peer_start(&d->peer, &options);
    if (rc == 0) {
        rc = wsr_row_measure(d->table, &row);
        wsr_peer_stop(&d->peer);
    }
    free_messages(d);
    return rc;
}

int wsr_deflate_rows(const struct wsr_table *table)
{
    static const struct {
        uint32_t message_bytes;
        bool is_alone;
    } rows[] = { { 256, false }, { 1024, false }, { 16384, false }, { 1024, true } };
    int rc = 0;
    for (int way = 0; way < 2; way++) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            struct deflate d = {
                .table = table, .message_bytes = rows[i].message_bytes, .is_alone = rows[i].is_alone
            };
            char name[WSR_ROW_NAME_CHARS], what[128];
            snprintf(name, sizeof name, "%s%s-%u", way == 0 ? "inflate" : "deflate", d.is_alone ? "-alone" : "",
                     d.message_bytes);
            snprintf(what, sizeof what, "%s text of %u B, %s",
                     way == 0 ? "receiving compressed" : "compressing and sending", d.message_bytes,
                     d.is_alone ? "each message for itself" : "the context taken over");
            if (measure(&d, name, what, way == 0 ? WSR_PEER_SPRAY : WSR_PEER_SINK) != 0)
                rc = -1;
        }
    }
    return rc;
}
