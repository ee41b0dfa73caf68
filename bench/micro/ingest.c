/* One way, as fast as it goes: what a consumer takes of frames that a server sprays, against the same stream into the
 * void. Measured in bytes of the wire, as the median of pieces of a millisecond: on a machine that others use too,
 * some pieces belong to them.
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

#define PAYLOAD_BYTES 128u
#define HOT_BYTES (16u << 10)             /* one buffer that stays in the first-level cache; larger ones were slower */
#define RING_BUFFERS 64u                  /* 1 MiB in all: what the second-level cache holds */
#define RING_BUFFERS_CROWD 512u
#define RING_BUFFER_BYTES (16u << 10)
#define LOOKS_PER_CLOCK 16u
#define CROWD_COUNT 1000u
#define PIECE_NS 1000000u
#define PIECES_MAX 4096u

struct ingest {
    const struct wsr_table *table;
    struct wsr_peer peer;
    uint32_t connections_count;
    uint64_t bytes;                       /* that came so far */
    uint64_t slice_bytes;                 /* when the slice began */
    uint64_t piece_bytes, piece_ns;       /* where the piece under way began */
    uint64_t warm_ns, end_ns;
    struct wsr_meter meter;
    bool measures;
    uint32_t pieces_count;
    double pieces[PIECES_MAX];            /* bytes per second */
};

static void begin(struct ingest *g)
{
    g->bytes = 0;
    g->pieces_count = 0;
    g->measures = false;
    g->warm_ns = wsr_clock_now() + g->table->warmup_ns;
    g->end_ns = g->warm_ns + g->table->slice_ns;
}

/* Returns whether to go on. */
static bool goes_on(struct ingest *g)
{
    uint64_t now_ns = wsr_clock_now();
    if (!g->measures && now_ns >= g->warm_ns) {
        g->measures = true;
        g->slice_bytes = g->bytes;
        wsr_meter_begin(&g->meter, &g->peer);
    } else if (!g->measures) {
        return true;
    } else if (now_ns - g->piece_ns < PIECE_NS) {
        return now_ns < g->end_ns;
    } else if (g->pieces_count < PIECES_MAX) {
        g->pieces[g->pieces_count++] = (double)(g->bytes - g->piece_bytes) * 1e9 / (double)(now_ns - g->piece_ns);
    }
    g->piece_ns = now_ns;
    g->piece_bytes = g->bytes;
    return now_ns < g->end_ns;
}

static void end(struct ingest *g, struct wsr_row_measure *out)
{
    uint64_t client_ns;
    uint64_t elapsed_ns = wsr_meter_end(&g->meter, out, &client_ns);
    out->value = wsr_row_median(g->pieces, g->pieces_count);
    /* Nothing in half of the pieces: the mean has to do. */
    if (out->value <= 0)
        out->value = (double)(g->bytes - g->slice_bytes + 1) * 1e9 / (double)elapsed_ns;
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
    if (wsr_client_open(&client, g->peer.port, g->connections_count, WSR_WAIT_SPIN) != 0)
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

/* ---- References for one connection ---- */

static int run_recv(struct ingest *g, struct wsr_row_measure *out, int flags)
{
    static uint8_t hot[HOT_BYTES] __attribute__((aligned(4096)));
    int fd = wsr_client_connect_bare(g->peer.port);
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
    close(fd);
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

/* ---- References for any number ---- */

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
    int *fds = wsr_client_connect_crowd(g->peer.port, g->connections_count);
    if (fds == NULL)
        return -1;
    if (wsr_bare_ring_open(&r, g->connections_count == 1 ? RING_BUFFERS : RING_BUFFERS_CROWD, RING_BUFFER_BYTES) != 0) {
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

static int measure(const struct wsr_table *table, struct wsr_row *row, uint32_t connections_count, bool text)
{
    if (!wsr_row_is_wanted(table, row->name))
        return 0;
    struct ingest g = { .table = table, .connections_count = connections_count };
    struct wsr_peer_options options = {
        .kind = WSR_PEER_SPRAY, .connections_count = connections_count, .payload_bytes = PAYLOAD_BYTES, .text = text
    };
    if (wsr_peer_start(&g.peer, &options) != 0)
        return -1;
    row->context = &g;
    int rc = wsr_row_measure(table, row);
    wsr_peer_stop(&g.peer);
    return rc;
}

int wsr_ingest_rows(const struct wsr_table *table)
{
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
    int rc = measure(table, &one, 1, false);
    if (measure(table, &text, 1, true) < 0 || measure(table, &crowd, CROWD_COUNT, false) < 0)
        rc = -1;
    return rc;
}
