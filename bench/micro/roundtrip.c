/* One message there, one back, both ends spinning: the median of a slice. The server answers so many bytes with so
 * many, and does so alike for the engine and for the references, which exchange the same bytes over bare TCP.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bare_ring.h"
#include "bench.h"
#include "client.h"
#include "engine/frame.h"

#define PAYLOAD_BYTES 64u
#define SAMPLES_MAX (1u << 20)
#define BUFFERS_COUNT 64u
#define BUFFER_BYTES 4096u

struct roundtrip {
    const struct wsr_table *table;
    struct wsr_peer peer;
    uint32_t up_bytes, down_bytes;
    uint8_t up[PAYLOAD_BYTES + WSR_FRAME_HEAD_MAX];
    uint32_t *samples;
    uint32_t samples_count;
    uint64_t warm_ns, end_ns;         /* of the slice under way */
    struct wsr_meter meter;
    bool measures;
};

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void begin(struct roundtrip *t)
{
    t->samples_count = 0;
    t->measures = false;
    t->warm_ns = wsr_clock_now() + t->table->warmup_ns;
    t->end_ns = t->warm_ns + t->table->slice_ns;
}

/* A round trip ended at @now_ns. Returns whether to go on. */
static inline bool note(struct roundtrip *t, uint64_t then_ns, uint64_t now_ns)
{
    if (__builtin_expect(!t->measures, 0)) {
        if (now_ns >= t->warm_ns) {
            t->measures = true;
            wsr_meter_begin(&t->meter, &t->peer);
        }
        return true;
    }
    t->samples[t->samples_count++] = (uint32_t)(now_ns - then_ns);
    return now_ns < t->end_ns && t->samples_count < SAMPLES_MAX;
}

static void end(struct roundtrip *t, struct wsr_row_measure *out)
{
    uint64_t client_ns;
    wsr_meter_end(&t->meter, out, &client_ns);
    qsort(t->samples, t->samples_count, sizeof t->samples[0], by_size);
    out->value = t->samples_count > 0 ? t->samples[t->samples_count / 2] : 0;
}

/* ---- The engine ---- */

static int run_engine(void *context, struct wsr_row_measure *out)
{
    struct roundtrip *t = context;
    uint8_t payload[PAYLOAD_BYTES];
    struct wsr_client client;
    struct wsr_event event;
    if (wsr_client_open(&client, t->peer.port, 1, WSR_WAIT_SPIN) != 0)
        return -1;
    memset(payload, 'x', sizeof payload);
    begin(t);
    uint64_t then_ns, now_ns = wsr_clock_now();
    bool ok;
    do {
        then_ns = now_ns;
        ok = wsr_send(client.sockets[0], WSR_BINARY, payload, sizeof payload) == 0 &&
             wsr_poll(client.engine, 0, &event, 1, WSR_NEVER) == 1 && event.type == WSR_EVENT_MESSAGE &&
             event.len == PAYLOAD_BYTES;
        now_ns = wsr_clock_now();
    } while (ok && note(t, then_ns, now_ns));
    end(t, out);
    wsr_client_close(&client);
    return ok ? 0 : -1;
}

/* ---- References ---- */

static int run_recv_spin(void *context, struct wsr_row_measure *out)
{
    struct roundtrip *t = context;
    uint8_t in[BUFFER_BYTES];
    int fd = wsr_client_connect_bare(t->peer.port);
    if (fd < 0)
        return -1;
    begin(t);
    uint64_t then_ns, now_ns = wsr_clock_now();
    bool ok;
    do {
        then_ns = now_ns;
        ok = send(fd, t->up, t->up_bytes, MSG_NOSIGNAL) == (ssize_t)t->up_bytes;
        for (uint32_t got = 0; ok && got < t->down_bytes;) {
            ssize_t rc = recv(fd, in, sizeof in, MSG_DONTWAIT);
            ok = rc > 0 || (rc < 0 && errno == EAGAIN);
            got += rc > 0 ? (uint32_t)rc : 0;
        }
        now_ns = wsr_clock_now();
    } while (ok && note(t, then_ns, now_ns));
    end(t, out);
    close(fd);
    return ok ? 0 : -1;
}

/* Take the bytes of every receive that has completed; -1 on an error or when the receive ended. */
static int take_bytes(struct wsr_bare_ring *r, uint32_t *got)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    bool ok = true;
    io_uring_for_each_cqe(&r->ring, head, cqe) {
        ok = ok && cqe->res > 0 && (cqe->flags & IORING_CQE_F_MORE) != 0;
        if (ok) {
            *got += (uint32_t)cqe->res;
            wsr_bare_ring_give(r, cqe, (int)seen);
        }
        seen++;
    }
    wsr_bare_ring_advance(r, (int)seen);
    io_uring_cq_advance(&r->ring, seen);
    return ok ? 0 : -1;
}

/* @sends: whether sends go through the ring too, or by send(2). */
static int run_ring(struct roundtrip *t, struct wsr_row_measure *out, bool sends)
{
    struct wsr_bare_ring r;
    int fd = wsr_client_connect_bare(t->peer.port);
    if (fd < 0)
        return -1;
    if (wsr_bare_ring_open(&r, BUFFERS_COUNT, BUFFER_BYTES) != 0) {
        close(fd);
        return -1;
    }
    wsr_bare_ring_recv(&r, fd, 0);
    io_uring_submit(&r.ring);
    begin(t);
    uint64_t then_ns, now_ns = wsr_clock_now();
    bool ok;
    do {
        then_ns = now_ns;
        if (sends) {
            wsr_bare_ring_send(&r, fd, t->up, t->up_bytes);
            ok = io_uring_submit(&r.ring) == 1;
        } else {
            ok = send(fd, t->up, t->up_bytes, MSG_NOSIGNAL) == (ssize_t)t->up_bytes;
        }
        for (uint32_t got = 0; ok && got < t->down_bytes;) {
            while (!wsr_bare_ring_is_ready(&r))
                ;
            io_uring_get_events(&r.ring);
            ok = take_bytes(&r, &got) == 0;
        }
        now_ns = wsr_clock_now();
    } while (ok && note(t, then_ns, now_ns));
    end(t, out);
    close(fd);
    wsr_bare_ring_close(&r);
    return ok ? 0 : -1;
}

static int run_ring_both(void *context, struct wsr_row_measure *out)
{
    return run_ring(context, out, true);
}

static int run_ring_recv(void *context, struct wsr_row_measure *out)
{
    return run_ring(context, out, false);
}

int wsr_roundtrip_rows(const struct wsr_table *table)
{
    static const uint8_t key[4] = { 1, 2, 3, 4 };
    if (!wsr_row_is_wanted(table, "roundtrip"))
        return 0;
    struct roundtrip t = { .table = table, .samples = malloc(SAMPLES_MAX * sizeof *t.samples) };
    if (t.samples == NULL)
        return -1;
    t.up_bytes = (uint32_t)wsr_frame_write(t.up, WSR_FRAME_FIN | WSR_OPCODE_BINARY, PAYLOAD_BYTES, key) + PAYLOAD_BYTES;
    t.down_bytes = wsr_peer_frame_bytes(PAYLOAD_BYTES);
    struct wsr_peer_options options = {
        .kind = WSR_PEER_PONG, .connections_count = 1, .payload_bytes = PAYLOAD_BYTES, .up_bytes = t.up_bytes
    };
    struct wsr_row row = {
        .name = "roundtrip", .what = "ws round trip p50, 64 B, 1 connection, both ends spinning", .unit = WSR_ROW_NS,
        .reach = 1.10, .context = &t,
        .sides = { { "engine, inline", run_engine },
                   { "recv-spin", run_recv_spin },
                   { "io_uring", run_ring_both },
                   { "send, io_uring recv", run_ring_recv } }
    };
    int rc = wsr_peer_start(&t.peer, &options);
    if (rc == 0) {
        rc = wsr_row_measure(table, &row);
        wsr_peer_stop(&t.peer);
    }
    free(t.samples);
    return rc;
}
