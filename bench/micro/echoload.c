/* Echo load: CPU time of the client for each message that went there and came back. The engine's client makes each
 * payload anew and compares every byte of the echo; the references send one prepared frame again and again, and count
 * bytes.
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
#include "engine/frame.h"

#define CONNECTIONS_COUNT 64u
#define PAYLOAD_BYTES 64u
#define IN_FLIGHT_MAX 16u
#define RING_BUFFERS 256u
#define RING_BUFFER_BYTES 4096u
#define WAIT_NS 100000000ull

struct echoload {
    const struct wsr_table *table;
    struct wsr_peer peer;
    uint32_t in_flight;                   /* per connection */
    uint32_t up_bytes, down_bytes;        /* of one frame */
    uint8_t up[IN_FLIGHT_MAX * (PAYLOAD_BYTES + WSR_FRAME_HEAD_MAX)];
    uint64_t messages;                    /* that came back so far */
    uint64_t messages_before;             /* the slice */
    uint64_t warm_ns, end_ns;
    struct wsr_meter meter;
    bool measures;
};

static void begin(struct echoload *l)
{
    l->messages = 0;
    l->measures = false;
    l->warm_ns = wsr_clock_now() + l->table->warmup_ns;
    l->end_ns = l->warm_ns + l->table->slice_ns;
}

static bool goes_on(struct echoload *l)
{
    uint64_t now_ns = wsr_clock_now();
    if (!l->measures && now_ns >= l->warm_ns) {
        l->measures = true;
        l->messages_before = l->messages;
        wsr_meter_begin(&l->meter, &l->peer);
    }
    return now_ns < l->end_ns;
}

static void end(struct echoload *l, struct wsr_row_measure *out)
{
    uint64_t client_ns;
    wsr_meter_end(&l->meter, out, &client_ns);
    uint64_t count = l->messages - l->messages_before;
    out->value = count > 0 ? (double)client_ns / (double)count : 0;
}

/* ---- The engine ---- */

#define WORDS_COUNT (PAYLOAD_BYTES / 8)

/* Word @i of a payload: the number of the connection, the number of the message, then what follows from it. */
static inline uint64_t word_of(size_t i, uint64_t connection, uint64_t number)
{
    return i == 0 ? connection : i == 1 ? number : (number + i) * 0x9e3779b97f4a7c15ull;
}

struct counters {
    uint64_t sent[CONNECTIONS_COUNT];
    uint64_t seen[CONNECTIONS_COUNT];
    uint64_t next[CONNECTIONS_COUNT][WORDS_COUNT];      /* payloads to be sent */
};

static void prepare(struct counters *c, uint64_t i)
{
    for (size_t k = 0; k < WORDS_COUNT; k++)
        c->next[i][k] = word_of(k, i, c->sent[i]);
}

/* The payload was made when the one before was sent: as a client's data is there before it is sent. */
static bool send_next(struct wsr_client *client, struct counters *c, uint64_t i)
{
    bool ok = wsr_send(client->sockets[i], WSR_BINARY, c->next[i], PAYLOAD_BYTES) == 0;
    c->sent[i]++;
    prepare(c, i);
    return ok;
}

/* Every byte is compared. */
static bool check(struct counters *c, const struct wsr_event *event)
{
    uint64_t words[WORDS_COUNT], wrong = 0;
    uint64_t i = (uintptr_t)wsr_socket_user(event->socket);
    if (event->type != WSR_EVENT_MESSAGE || event->len != PAYLOAD_BYTES)
        return false;
    memcpy(words, event->data, sizeof words);
    for (size_t k = 0; k < WORDS_COUNT; k++)
        wrong |= words[k] ^ word_of(k, i, c->seen[i]);
    c->seen[i]++;
    return wrong == 0;
}

static int run_engine(void *context, struct wsr_row_measure *out)
{
    static struct wsr_event events[WSR_CLIENT_EVENTS_COUNT];
    struct echoload *l = context;
    struct wsr_client client;
    static struct counters c;
    c = (struct counters){ { 0 }, { 0 }, { { 0 } } };
    for (uint64_t i = 0; i < CONNECTIONS_COUNT; i++)
        prepare(&c, i);
    if (wsr_client_open(&client, l->peer.port, CONNECTIONS_COUNT, WSR_WAIT_BLOCK) != 0)
        return -1;
    begin(l);
    bool ok = true;
    for (uint64_t i = 0; i < CONNECTIONS_COUNT * l->in_flight; i++)
        ok = ok && send_next(&client, &c, i % CONNECTIONS_COUNT);
    while (ok && goes_on(l)) {
        int count = wsr_poll(client.engine, 0, events, WSR_CLIENT_EVENTS_COUNT, WAIT_NS);
        ok = count >= 0;
        for (int i = 0; ok && i < count; i++) {
            ok = check(&c, &events[i]) && send_next(&client, &c, (uintptr_t)wsr_socket_user(events[i].socket));
            l->messages++;
        }
    }
    end(l, out);
    if (!ok)
        fprintf(stderr, "wsring-micro: an echo was wrong, or the load could not go on\n");
    wsr_client_close(&client);
    return ok ? 0 : -1;
}

/* ---- References ---- */

/* @got bytes came, on top of the part of a frame that *part counts. Returns the frames that are whole now. */
static uint32_t count_frames(struct echoload *l, uint32_t *part, uint32_t got)
{
    uint32_t sum = *part + got;
    uint32_t frames = sum / l->down_bytes;
    *part = sum - frames * l->down_bytes;
    l->messages += frames;
    return frames;
}

static bool answer(struct echoload *l, int fd, uint32_t *part)
{
    uint8_t in[IN_FLIGHT_MAX * (PAYLOAD_BYTES + WSR_FRAME_HEAD_MAX)];
    ssize_t got = recv(fd, in, sizeof in, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    uint32_t bytes = count_frames(l, part, (uint32_t)got) * l->up_bytes;
    return bytes == 0 || send(fd, l->up, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static int run_epoll(void *context, struct wsr_row_measure *out)
{
    struct echoload *l = context;
    struct epoll_event events[CONNECTIONS_COUNT];
    uint32_t parts[CONNECTIONS_COUNT] = { 0 };
    int *fds = wsr_client_connect_crowd(l->peer.port, CONNECTIONS_COUNT);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    bool ok = fds != NULL && epoll >= 0;
    begin(l);
    for (uint32_t i = 0; ok && i < CONNECTIONS_COUNT; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
        uint32_t bytes = l->in_flight * l->up_bytes;
        ok = epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) == 0 &&
             send(fds[i], l->up, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
    }
    while (ok && goes_on(l)) {
        int ready = epoll_wait(epoll, events, CONNECTIONS_COUNT, (int)(WAIT_NS / 1000000));
        for (int i = 0; ok && i < ready; i++)
            ok = answer(l, fds[events[i].data.u32], &parts[events[i].data.u32]);
    }
    end(l, out);
    if (epoll >= 0)
        close(epoll);
    if (fds != NULL)
        wsr_client_close_crowd(fds, CONNECTIONS_COUNT);
    return ok ? 0 : -1;
}

static bool answer_completions(struct echoload *l, struct wsr_bare_ring *r, const int *fds, uint32_t *parts)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    int given = 0;
    bool ok = true;
    io_uring_for_each_cqe(&r->ring, head, cqe) {
        seen++;
        ok = ok && cqe->res > 0 && cqe->user_data < CONNECTIONS_COUNT;
        if (!ok)
            break;
        uint32_t frames = count_frames(l, &parts[cqe->user_data], (uint32_t)cqe->res);
        wsr_bare_ring_give(r, cqe, given++);
        if (frames > 0)
            wsr_bare_ring_send(r, fds[cqe->user_data], l->up, frames * l->up_bytes);
        if ((cqe->flags & IORING_CQE_F_MORE) == 0)
            wsr_bare_ring_recv(r, fds[cqe->user_data], cqe->user_data);
    }
    wsr_bare_ring_advance(r, given);
    io_uring_cq_advance(&r->ring, seen);
    return ok;
}

static int run_ring(void *context, struct wsr_row_measure *out)
{
    struct echoload *l = context;
    struct wsr_bare_ring r;
    struct __kernel_timespec wait = { .tv_nsec = WAIT_NS };
    struct io_uring_cqe *cqe;
    uint32_t parts[CONNECTIONS_COUNT] = { 0 };
    int *fds = wsr_client_connect_crowd(l->peer.port, CONNECTIONS_COUNT);
    if (fds == NULL)
        return -1;
    if (wsr_bare_ring_open(&r, RING_BUFFERS, RING_BUFFER_BYTES) != 0) {
        wsr_client_close_crowd(fds, CONNECTIONS_COUNT);
        return -1;
    }
    begin(l);
    for (uint32_t i = 0; i < CONNECTIONS_COUNT; i++) {
        wsr_bare_ring_recv(&r, fds[i], i);
        wsr_bare_ring_send(&r, fds[i], l->up, l->in_flight * l->up_bytes);
    }
    bool ok = true;
    while (ok && goes_on(l)) {
        int rc = io_uring_submit_and_wait_timeout(&r.ring, &cqe, 1, &wait, NULL);
        ok = (rc >= 0 || rc == -ETIME || rc == -EINTR) && answer_completions(l, &r, fds, parts);
    }
    end(l, out);
    wsr_client_close_crowd(fds, CONNECTIONS_COUNT);
    wsr_bare_ring_close(&r);
    return ok ? 0 : -1;
}

/* ---- Rows ---- */

static int measure(const struct wsr_table *table, struct wsr_row *row, uint32_t in_flight)
{
    static const uint8_t key[4] = { 1, 2, 3, 4 };
    if (!wsr_row_is_wanted(table, row->name))
        return 0;
    struct echoload l = { .table = table, .in_flight = in_flight, .down_bytes = wsr_peer_frame_bytes(PAYLOAD_BYTES) };
    l.up_bytes = (uint32_t)wsr_frame_head_bytes(PAYLOAD_BYTES, true) + PAYLOAD_BYTES;
    for (uint32_t i = 0; i < in_flight; i++)
        wsr_frame_write(l.up + i * l.up_bytes, WSR_FRAME_FIN | WSR_OPCODE_BINARY, PAYLOAD_BYTES, key);
    struct wsr_peer_options options = {
        .kind = WSR_PEER_ECHO, .connections_count = CONNECTIONS_COUNT, .payload_bytes = PAYLOAD_BYTES
    };
    if (wsr_peer_start(&l.peer, &options) != 0)
        return -1;
    row->context = &l;
    int rc = wsr_row_measure(table, row);
    wsr_peer_stop(&l.peer);
    return rc;
}

int wsr_echoload_rows(const struct wsr_table *table)
{
    struct wsr_row one = {
        .name = "echo",
        .what = "echo load, every byte verified: client CPU per message; 64 connections, 64 B, 1 in flight",
        .unit = WSR_ROW_NS, .reach = 1.15,
        .sides = { { "engine, inline", run_engine }, { "epoll, recv, send", run_epoll }, { "io_uring", run_ring } }
    };
    struct wsr_row many = one;
    snprintf(many.name, sizeof many.name, "echo-deep");
    many.what = "the same with 16 in flight on each connection";
    int rc = measure(table, &one, 1);
    return measure(table, &many, IN_FLIGHT_MAX) < 0 ? -1 : rc;
}
