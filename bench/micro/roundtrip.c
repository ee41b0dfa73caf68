/* One message there, one back, both ends spinning: the median of a slice. The server answers so many bytes with so
 * many, and does so alike for the engine and for the references, which exchange the same bytes over bare TCP. Over TLS
 * both of them seal each message that they send, and open each that comes.
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
    uint32_t frame_bytes, up_bytes, down_bytes;
    uint8_t frame[PAYLOAD_BYTES + WSR_FRAME_HEAD_MAX];      /* what the references send, */
    uint8_t up[PAYLOAD_BYTES + WSR_FRAME_HEAD_MAX + WSR_BARE_RECORD_OVERHEAD];      /* as it goes on the wire */
    bool is_tls;
    enum wsr_tls_records records;     /* of the engine */
    struct wsr_bare_tls tls;          /* of the reference under way */
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
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.wait = WSR_WAIT_SPIN;
    if (t->is_tls)
        wsr_client_tls(&options, t->records);
    if (wsr_client_open_with(&client, t->peer.port, 1, &options) != 0)
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

static int connect_reference(struct roundtrip *t)
{
    if (t->is_tls)
        return wsr_client_connect_tls(t->peer.port, &t->tls);
    memcpy(t->up, t->frame, t->frame_bytes);
    return wsr_client_connect_bare(t->peer.port);
}

static void disconnect_reference(struct roundtrip *t, int fd)
{
    wsr_bare_tls_end(&t->tls);
    close(fd);
}

/* What is to be sent next. */
static inline const uint8_t *next_up(struct roundtrip *t)
{
    if (t->is_tls)
        wsr_bare_record_seal(&t->tls.out, t->frame, t->frame_bytes, t->up);
    return t->up;
}

/* @len bytes of the answer are at @in. Over TLS it comes as a whole: the server sends it at once. */
static inline bool open_down(struct roundtrip *t, uint8_t *in, uint32_t len)
{
    return !t->is_tls || (len == t->down_bytes && wsr_bare_record_open(&t->tls.in, in, len) > 0);
}

static int run_recv_spin(void *context, struct wsr_row_measure *out)
{
    struct roundtrip *t = context;
    uint8_t in[BUFFER_BYTES];
    int fd = connect_reference(t);
    if (fd < 0)
        return -1;
    begin(t);
    uint64_t then_ns, now_ns = wsr_clock_now();
    bool ok;
    do {
        then_ns = now_ns;
        ok = send(fd, next_up(t), t->up_bytes, MSG_NOSIGNAL) == (ssize_t)t->up_bytes;
        for (uint32_t got = 0; ok && got < t->down_bytes;) {
            ssize_t rc = recv(fd, in, sizeof in, MSG_DONTWAIT);
            ok = rc > 0 ? open_down(t, in, (uint32_t)rc) : rc < 0 && errno == EAGAIN;
            got += rc > 0 ? (uint32_t)rc : 0;
        }
        now_ns = wsr_clock_now();
    } while (ok && note(t, then_ns, now_ns));
    end(t, out);
    disconnect_reference(t, fd);
    return ok ? 0 : -1;
}

/* Take the bytes of every receive that has completed; -1 on an error or when the receive ended. */
static int take_bytes(struct roundtrip *t, struct wsr_bare_ring *r, uint32_t *got)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    bool ok = true;
    io_uring_for_each_cqe(&r->ring, head, cqe) {
        ok = ok && cqe->res > 0 && (cqe->flags & IORING_CQE_F_MORE) != 0;
        if (ok) {
            *got += (uint32_t)cqe->res;
            ok = open_down(t, wsr_bare_ring_bytes(r, cqe), (uint32_t)cqe->res);
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
    int fd = connect_reference(t);
    if (fd < 0)
        return -1;
    if (wsr_bare_ring_open(&r, BUFFERS_COUNT, BUFFER_BYTES) != 0) {
        disconnect_reference(t, fd);
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
            wsr_bare_ring_send(&r, fd, next_up(t), t->up_bytes);
            ok = io_uring_submit(&r.ring) == 1;
        } else {
            ok = send(fd, next_up(t), t->up_bytes, MSG_NOSIGNAL) == (ssize_t)t->up_bytes;
        }
        for (uint32_t got = 0; ok && got < t->down_bytes;) {
            while (!wsr_bare_ring_is_ready(&r))
                ;
            io_uring_get_events(&r.ring);
            ok = take_bytes(t, &r, &got) == 0;
        }
        now_ns = wsr_clock_now();
    } while (ok && note(t, then_ns, now_ns));
    end(t, out);
    disconnect_reference(t, fd);
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

/* ---- The rows ---- */

static int measure(const struct wsr_table *table, struct roundtrip *t, struct wsr_row *row)
{
    static const uint8_t key[4] = { 1, 2, 3, 4 };
    if (!wsr_row_is_wanted(table, row->name))
        return 0;
    uint32_t sealed_bytes = t->is_tls ? WSR_BARE_RECORD_OVERHEAD : 0;
    t->frame_bytes = (uint32_t)wsr_frame_write(t->frame, WSR_FRAME_FIN | WSR_OPCODE_BINARY, PAYLOAD_BYTES, key) +
                     PAYLOAD_BYTES;
    t->up_bytes = t->frame_bytes + sealed_bytes;
    t->down_bytes = wsr_peer_frame_bytes(PAYLOAD_BYTES) + sealed_bytes;
    struct wsr_peer_options options = {
        .kind = WSR_PEER_PONG, .connections_count = 1, .payload_bytes = PAYLOAD_BYTES, .up_bytes = t->frame_bytes,
        .is_tls = t->is_tls
    };
    row->context = t;
    if (wsr_peer_start(&t->peer, &options) != 0)
        return -1;
    int rc = wsr_row_measure(table, row);
    wsr_peer_stop(&t->peer);
    return rc;
}

int wsr_roundtrip_rows(const struct wsr_table *table)
{
    struct roundtrip t = { .table = table, .samples = malloc(SAMPLES_MAX * sizeof *t.samples) };
    struct wsr_row plain = {
        .name = "roundtrip", .what = "ws round trip p50, 64 B, 1 connection, both ends spinning", .unit = WSR_ROW_NS,
        .reach = 1.10,
        .sides = { { "engine, inline", run_engine },
                   { "recv-spin", run_recv_spin },
                   { "io_uring", run_ring_both },
                   { "send, io_uring recv", run_ring_recv } }
    };
    struct wsr_row tls = plain, library = plain;
    if (t.samples == NULL)
        return -1;
    int rc = measure(table, &t, &plain);
    tls.what = "the same over wss (TLS 1.3, AES-128-GCM), direct records; the references seal and open each record";
    tls.reach = 1.25;
    snprintf(tls.name, sizeof tls.name, "roundtrip-wss");
    t.is_tls = true;
    t.records = WSR_TLS_DIRECT;
    rc = measure(table, &t, &tls) < 0 ? -1 : rc;
    library.what = "the same with records by the library";
    library.reach = 0;
    snprintf(library.name, sizeof library.name, "roundtrip-wss-library");
    t.records = WSR_TLS_LIBRARY;
    rc = measure(table, &t, &library) < 0 ? -1 : rc;
    free(t.samples);
    return rc;
}
