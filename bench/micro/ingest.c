/* One way, as fast as it goes: what a consumer takes of frames that a server sprays, against the same stream into the
 * void. Measured in bytes of frames. Over TLS the void is behind the opening of each record.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bare_ring.h"
#include "bench.h"
#include "client.h"
#include "pieces.h"

#define PAYLOAD_BYTES 128u
#define HOT_BYTES (16u << 10)             /* one buffer that stays in the first-level cache; larger ones were slower */
#define HOT_TLS_BYTES (64u << 10)         /* the same with records, of which some are whole in it */
#define RING_BUFFERS 64u                  /* 1 MiB in all: what the second-level cache holds */
#define RING_BUFFERS_CROWD 512u
#define RING_BUFFER_BYTES (16u << 10)
#define LOOKS_PER_CLOCK 16u
#define CROWD_COUNT 1000u

struct ingest {
    const struct wsr_table *table;
    struct wsr_peer peer;
    uint32_t connections_count;
    bool is_tls;
    enum wsr_tls_records records;         /* of the engine */
    struct wsr_bare_tls tls;              /* of the reference under way, */
    uint8_t part[WSR_BARE_RECORD_MAX];    /* with a record that does not lie in one buffer */
    size_t part_bytes;
    uint64_t bytes;                       /* that came so far */
    struct wsr_pieces pieces;
};

static void begin(struct ingest *g)
{
    g->bytes = 0;
    wsr_pieces_begin(&g->pieces, g->table, &g->peer);
}

static bool goes_on(struct ingest *g)
{
    return wsr_pieces_go_on(&g->pieces, g->bytes);
}

static void end(struct ingest *g, struct wsr_row_measure *out)
{
    wsr_pieces_end(&g->pieces, g->bytes, out);
}

/* ---- The engine ---- */

/* The consumer looks at each message: a length that is wrong, or a first byte, would be a bug. */
static uint32_t consume(const struct wsr_event *events, int count)
{
    uint32_t good = 0;
    for (int i = 0; i < count; i++) {
        const uint8_t *data = events[i].data;
        good += events[i].type == WSR_EVENT_MESSAGE && events[i].len == PAYLOAD_BYTES && data[0] == '{';
    }
    return good;
}

static int run_engine(void *context, struct wsr_row_measure *out)
{
    static struct wsr_event events[WSR_CLIENT_EVENTS_COUNT];
    struct ingest *g = context;
    struct wsr_client client;
    uint32_t frame_bytes = wsr_peer_frame_bytes(PAYLOAD_BYTES);
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.wait = WSR_WAIT_SPIN;
    if (g->is_tls)
        wsr_client_tls(&options, g->records);
    if (wsr_client_open_with(&client, g->peer.port, g->connections_count, &options) != 0)
        return -1;
    begin(g);
    bool ok = true;
    while (ok && goes_on(g)) {
        for (uint32_t i = 0; ok && i < LOOKS_PER_CLOCK; i++) {
            int count = wsr_poll(client.engine, 0, events, WSR_CLIENT_EVENTS_COUNT, 0);
            uint32_t good = count > 0 ? consume(events, count) : 0;
            ok = count >= 0 && good == (uint32_t)count;
            g->bytes += (uint64_t)good * frame_bytes;
        }
    }
    end(g, out);
    if (!ok)
        fprintf(stderr, "wsring-micro: a message that was not sent, or no more messages\n");
    wsr_client_close(&client);
    return ok ? 0 : -1;
}

/* ---- Records of the references ---- */

/* Open those that are whole of the @len bytes at @in, and count what is in them. Returns the bytes of them, or -1. */
static ssize_t open_whole(struct ingest *g, uint8_t *in, size_t len)
{
    size_t at = 0, whole;
    while ((whole = wsr_bare_record_bytes(in + at, len - at)) > 0 && whole <= len - at) {
        ssize_t opened = wsr_bare_record_open(&g->tls.in, in + at, whole);
        if (opened < 0)
            return -1;
        g->bytes += (uint64_t)opened;
        at += whole;
    }
    return (ssize_t)at;
}

static size_t append_part(struct ingest *g, const uint8_t *in, size_t len, size_t wanted)
{
    size_t taken = len < wanted - g->part_bytes ? len : wanted - g->part_bytes;
    memcpy(g->part + g->part_bytes, in, taken);
    g->part_bytes += taken;
    return taken;
}

/* The @len bytes at @in, which go with their buffer, follow those that came before. */
static bool take_records(struct ingest *g, uint8_t *in, size_t len)
{
    size_t at = 0, whole = 0;
    if (g->part_bytes > 0 && g->part_bytes < WSR_BARE_RECORD_HEADER_BYTES)
        at = append_part(g, in, len, WSR_BARE_RECORD_HEADER_BYTES);
    if (g->part_bytes > 0 && (whole = wsr_bare_record_bytes(g->part, g->part_bytes)) > 0) {
        if (whole > sizeof g->part)
            return false;
        at += append_part(g, in + at, len - at, whole);
        if (g->part_bytes == whole && open_whole(g, g->part, whole) != (ssize_t)whole)
            return false;
        if (g->part_bytes == whole)
            g->part_bytes = 0;
    }
    ssize_t opened = open_whole(g, in + at, len - at);
    if (opened < 0 || len - at - (size_t)opened > sizeof g->part - g->part_bytes)
        return false;
    at += (size_t)opened;
    append_part(g, in + at, len - at, sizeof g->part);
    return true;
}

static int connect_one(struct ingest *g)
{
    g->part_bytes = 0;
    return g->is_tls ? wsr_client_connect_tls(g->peer.port, &g->tls) : wsr_client_connect_bare(g->peer.port);
}

static void disconnect_one(struct ingest *g, int fd)
{
    wsr_bare_tls_end(&g->tls);
    close(fd);
}

/* ---- References for one connection ---- */

static int run_recv(struct ingest *g, struct wsr_row_measure *out, int flags)
{
    static uint8_t hot[HOT_BYTES] __attribute__((aligned(4096)));
    int fd = connect_one(g);
    if (fd < 0)
        return -1;
    begin(g);
    bool ok = true;
    while (ok && goes_on(g)) {
        for (uint32_t i = 0; ok && i < LOOKS_PER_CLOCK; i++) {
            ssize_t got = recv(fd, hot, sizeof hot, flags);
            ok = got > 0 || (got < 0 && errno == EAGAIN);
            g->bytes += got > 0 ? (uint64_t)got : 0;
        }
    }
    end(g, out);
    disconnect_one(g, fd);
    return ok ? 0 : -1;
}

/* The same, with the opening. What is left of a record goes to the front. */
static int run_recv_tls(struct ingest *g, struct wsr_row_measure *out, int flags)
{
    static uint8_t hot[HOT_TLS_BYTES] __attribute__((aligned(4096)));
    size_t used = 0;
    int fd = connect_one(g);
    if (fd < 0)
        return -1;
    begin(g);
    bool ok = true;
    while (ok && goes_on(g)) {
        for (uint32_t i = 0; ok && i < LOOKS_PER_CLOCK; i++) {
            ssize_t got = recv(fd, hot + used, sizeof hot - used, flags);
            used += got > 0 ? (size_t)got : 0;
            ssize_t opened = got > 0 ? open_whole(g, hot, used) : 0;
            ok = opened >= 0 && (got > 0 || (got < 0 && errno == EAGAIN));
            if (opened > 0)
                memmove(hot, hot + opened, used -= (size_t)opened);
        }
    }
    end(g, out);
    disconnect_one(g, fd);
    return ok ? 0 : -1;
}

static int run_recv_block(void *context, struct wsr_row_measure *out)
{
    return run_recv(context, out, 0);
}

static int run_recv_spin(void *context, struct wsr_row_measure *out)
{
    return run_recv(context, out, MSG_DONTWAIT);
}

static int run_recv_tls_block(void *context, struct wsr_row_measure *out)
{
    return run_recv_tls(context, out, 0);
}

static int run_recv_tls_spin(void *context, struct wsr_row_measure *out)
{
    return run_recv_tls(context, out, MSG_DONTWAIT);
}

/* ---- References for any number, over TLS for one ---- */

static int *connect_all(struct ingest *g)
{
    if (!g->is_tls)
        return wsr_client_connect_crowd(g->peer.port, g->connections_count);
    int *fd = malloc(sizeof *fd);
    if (fd == NULL || (*fd = connect_one(g)) < 0) {
        free(fd);
        return NULL;
    }
    return fd;
}

/* Walk the completions: count, give back, start again what has ended. */
static bool take_bytes(struct ingest *g, struct wsr_bare_ring *r, const int *fds)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    int given = 0;
    bool ok = true;
    io_uring_for_each_cqe(&r->ring, head, cqe) {
        seen++;
        if (cqe->res > 0) {
            if (g->is_tls)
                ok = ok && take_records(g, wsr_bare_ring_bytes(r, cqe), (size_t)cqe->res);
            else
                g->bytes += (uint64_t)cqe->res;
            wsr_bare_ring_give(r, cqe, given++);
        }
        ok = ok && (cqe->res > 0 || cqe->res == -ENOBUFS);
        if (ok && (cqe->flags & IORING_CQE_F_MORE) == 0)
            wsr_bare_ring_recv(r, fds[cqe->user_data], cqe->user_data);
    }
    wsr_bare_ring_advance(r, given);
    io_uring_cq_advance(&r->ring, seen);
    return ok;
}

static int run_ring(void *context, struct wsr_row_measure *out)
{
    struct ingest *g = context;
    struct wsr_bare_ring r;
    int *fds = connect_all(g);
    if (fds == NULL)
        return -1;
    if (wsr_bare_ring_open(&r, g->connections_count == 1 ? RING_BUFFERS : RING_BUFFERS_CROWD, RING_BUFFER_BYTES) != 0) {
        wsr_bare_tls_end(&g->tls);
        wsr_client_close_crowd(fds, g->connections_count);
        return -1;
    }
    for (uint32_t i = 0; i < g->connections_count; i++)
        wsr_bare_ring_recv(&r, fds[i], i);
    begin(g);
    bool ok = true;
    while (ok && goes_on(g)) {
        for (uint32_t i = 0; ok && i < LOOKS_PER_CLOCK; i++) {
            io_uring_submit_and_get_events(&r.ring);
            ok = take_bytes(g, &r, fds);
        }
    }
    end(g, out);
    wsr_bare_tls_end(&g->tls);
    wsr_client_close_crowd(fds, g->connections_count);
    wsr_bare_ring_close(&r);
    return ok ? 0 : -1;
}

static int run_epoll(void *context, struct wsr_row_measure *out)
{
    static uint8_t hot[4 * HOT_BYTES] __attribute__((aligned(4096)));
    struct ingest *g = context;
    struct epoll_event events[WSR_CLIENT_EVENTS_COUNT];
    int *fds = wsr_client_connect_crowd(g->peer.port, g->connections_count);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    bool ok = fds != NULL && epoll >= 0;
    for (uint32_t i = 0; ok && i < g->connections_count; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fds[i] };
        ok = epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) == 0;
    }
    begin(g);
    while (ok && goes_on(g)) {
        int ready = epoll_wait(epoll, events, WSR_CLIENT_EVENTS_COUNT, 0);
        for (int i = 0; ok && i < ready; i++) {
            ssize_t got = recv(events[i].data.fd, hot, sizeof hot, MSG_DONTWAIT);
            ok = got > 0 || (got < 0 && errno == EAGAIN);
            g->bytes += got > 0 ? (uint64_t)got : 0;
        }
    }
    end(g, out);
    if (epoll >= 0)
        close(epoll);
    if (fds != NULL)
        wsr_client_close_crowd(fds, g->connections_count);
    return ok ? 0 : -1;
}

/* ---- Rows ---- */

static int measure(struct ingest *g, struct wsr_row *row, const struct wsr_peer_options *options)
{
    if (!wsr_row_is_wanted(g->table, row->name))
        return 0;
    g->connections_count = options->connections_count;
    g->is_tls = options->is_tls;
    if (wsr_peer_start(&g->peer, options) != 0)
        return -1;
    row->context = g;
    int rc = wsr_row_measure(g->table, row);
    wsr_peer_stop(&g->peer);
    return rc;
}

static int measure_plain(struct ingest *g)
{
    struct wsr_peer_options options = {
        .kind = WSR_PEER_SPRAY, .connections_count = 1, .payload_bytes = PAYLOAD_BYTES
    };
    struct wsr_row one = {
        .name = "ingest-1", .what = "ingest, 1 connection, binary messages of 128 B, inline consumer",
        .unit = WSR_ROW_BYTES_PER_S, .reach = 0.85,
        .sides = { { "engine, inline", run_engine },
                   { "recv", run_recv_block },
                   { "recv-spin", run_recv_spin },
                   { "io_uring multishot", run_ring } }
    };
    struct wsr_row text = one, crowd = one;
    text.what = "the same, text: validated";
    snprintf(text.name, sizeof text.name, "ingest-1-text");
    crowd.what = "ingest, 1,000 connections, binary messages of 128 B, inline consumer";
    crowd.reach = 0.80;
    snprintf(crowd.name, sizeof crowd.name, "ingest-1000");
    crowd.sides[1] = (struct wsr_row_side){ "epoll and recv", run_epoll };
    crowd.sides[2] = crowd.sides[3];
    crowd.sides[3].name = NULL;
    int rc = measure(g, &one, &options);
    options.text = true;
    rc = measure(g, &text, &options) < 0 ? -1 : rc;
    options.text = false;
    options.connections_count = CROWD_COUNT;
    return measure(g, &crowd, &options) < 0 ? -1 : rc;
}

static int measure_tls(struct ingest *g)
{
    static const struct {
        const char *name, *what;
        uint32_t frames_count;            /* in a record; 0 = as it comes, records are as large as they may be */
        enum wsr_tls_records records;
    } rows[] = {
        { "ingest-wss-1", "ingest over wss, 128 B, 1 connection, records of 16 KiB, direct", 0, WSR_TLS_DIRECT },
        { "ingest-wss-1-library", "the same with records by the library", 0, WSR_TLS_LIBRARY },
        { "ingest-wss-small", "ingest over wss, 128 B, 1 connection, each message a record, direct", 1,
          WSR_TLS_DIRECT },
        { "ingest-wss-small-library", "the same with records by the library", 1, WSR_TLS_LIBRARY }
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wsr_peer_options options = {
            .kind = WSR_PEER_SPRAY, .connections_count = 1, .payload_bytes = PAYLOAD_BYTES, .is_tls = true,
            .record_bytes = WSR_BARE_RECORD_PLAIN_MAX
        };
        struct wsr_row row = {
            .what = rows[i].what, .unit = WSR_ROW_BYTES_PER_S,
            .sides = { { "engine, inline", run_engine },
                       { "recv, open", run_recv_tls_block },
                       { "recv-spin, open", run_recv_tls_spin },
                       { "io_uring, open", run_ring } }
        };
        snprintf(row.name, sizeof row.name, "%s", rows[i].name);
        if (rows[i].frames_count > 0)
            options.record_bytes = rows[i].frames_count * wsr_peer_frame_bytes(PAYLOAD_BYTES);
        g->records = rows[i].records;
        rc = measure(g, &row, &options) < 0 ? -1 : rc;
    }
    return rc;
}

int wsr_ingest_rows(const struct wsr_table *table)
{
    struct ingest g = { .table = table };
    int rc = measure_plain(&g);
    return measure_tls(&g) < 0 ? -1 : rc;
}
