/* Opening rate: so many connections from socket() to the server's answer to the upgrade, a bounded number of them under
 * way, against bare sockets that send the same request and read the answer. All stay open until the count is reached;
 * then the server resets them, which is not measured, and leaves no port in TIME_WAIT.
 * SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bare_ring.h"
#include "bench.h"
#include "client.h"
#include "crowd.h"

#define COUNT_FULL 6000u
#define COUNT_QUICK 2000u
#define UNDER_WAY_MAX 128u
#define ANSWER_MAX 512u
#define EVENTS_COUNT 256
#define PATIENCE_NS 10000000000ull
#define WAIT_NS 100000000ull

struct opening {
    struct wsr_crowd crowd;
    uint32_t count;                   /* connections of one side in one round */
    uint32_t warm_count;              /* of those, open when the measurement begins */
    uint32_t begun, opened;
    uint64_t deadline_ns;
    struct wsr_meter meter;
    uint64_t elapsed_ns;
    char request[512];
    int request_bytes;
};

static void begin(struct opening *o)
{
    o->begun = o->opened = 0;
    o->deadline_ns = wsr_clock_now() + PATIENCE_NS;
}

static void count_opened(struct opening *o, struct wsr_row_measure *out)
{
    uint64_t client_ns;
    o->opened++;
    if (o->opened == o->warm_count)
        wsr_meter_begin(&o->meter, &o->crowd.peer);
    if (o->opened == o->count) {
        o->elapsed_ns = wsr_meter_end(&o->meter, out, &client_ns);
        out->value = (double)(o->count - o->warm_count) * 1e9 / (double)o->elapsed_ns;
    }
}

static bool may_begin(const struct opening *o)
{
    return o->begun < o->count && o->begun - o->opened < UNDER_WAY_MAX;
}

static bool goes_on(const struct opening *o)
{
    return o->opened < o->count && wsr_clock_now() < o->deadline_ns;
}

/* ---- The engine ---- */

static bool open_more(struct opening *o, struct wsr_engine *engine, struct wsr_socket **sockets)
{
    char url[64];
    snprintf(url, sizeof url, "ws://127.0.0.1:%u/", o->crowd.peer.port);
    while (may_begin(o)) {
        if (wsr_socket_open(engine, url, WSR_ZSTRING, NULL, 0, NULL, &sockets[o->begun]) != 0)
            return false;
        o->begun++;
    }
    return true;
}

static bool run_opens(struct opening *o, struct wsr_engine *engine, struct wsr_socket **sockets,
                      struct wsr_row_measure *out)
{
    static struct wsr_event events[EVENTS_COUNT];
    begin(o);
    while (goes_on(o)) {
        if (!open_more(o, engine, sockets))
            return false;
        int taken = wsr_poll(engine, 0, events, EVENTS_COUNT, WAIT_NS);
        for (int i = 0; i < taken; i++) {
            if (events[i].type != WSR_EVENT_OPEN)
                return false;
            count_opened(o, out);
        }
        if (taken < 0)
            return false;
    }
    return o->opened == o->count;
}

/* The reset has arrived everywhere. */
static bool await_ends(const struct opening *o, struct wsr_engine *engine)
{
    struct wsr_event event;
    uint32_t ended = 0;
    while (ended < o->count) {
        int taken = wsr_poll(engine, 0, &event, 1, PATIENCE_NS);
        if (taken <= 0)
            return false;
        ended += event.type == WSR_EVENT_CLOSE;
    }
    return true;
}

static int run_engine_with(struct opening *o, uint32_t flags, struct wsr_row_measure *out)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_engine *engine;
    struct wsr_socket **sockets = calloc(o->count, sizeof *sockets);
    options.flags = flags;
    if (sockets == NULL || wsr_engine_create(&engine, &options) != 0) {
        fprintf(stderr, "wsring-micro: no engine: %s\n", wsr_error_text());
        free(sockets);
        return -1;
    }
    bool ok = run_opens(o, engine, sockets, out);
    if (!ok)
        fprintf(stderr, "wsring-micro: a socket did not open: %s\n", wsr_error_text());
    ok = wsr_crowd_reset(&o->crowd) == 0 && ok && await_ends(o, engine);
    wsr_engine_destroy(engine);
    free(sockets);
    return ok ? 0 : -1;
}

static int run_engine(void *context, struct wsr_row_measure *out)
{
    return run_engine_with(context, 0, out);
}

static int run_direct(void *context, struct wsr_row_measure *out)
{
    return run_engine_with(context, WSR_ENGINE_DIRECT_DESCRIPTORS, out);
}

/* ---- References ---- */

struct bare {
    int fd;
    uint32_t got;
    bool has_asked;
    char answer[ANSWER_MAX];
};

static struct sockaddr_in address_of(const struct opening *o)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(o->crowd.peer.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
    };
}

static int make_socket(void)
{
    static const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static struct bare *make_bare(const struct opening *o)
{
    struct bare *bare = calloc(o->count, sizeof *bare);
    for (uint32_t i = 0; bare != NULL && i < o->count; i++)
        bare[i].fd = -1;
    return bare;
}

static int free_bare(struct opening *o, struct bare *bare, bool ok)
{
    ok = wsr_crowd_reset(&o->crowd) == 0 && ok;
    for (uint32_t i = 0; i < o->count; i++) {
        if (bare[i].fd >= 0)
            close(bare[i].fd);
    }
    free(bare);
    return ok ? 0 : -1;
}

/* Is the answer whole? *ok is false when it is a wrong one. */
static bool is_answered(const struct bare *b, bool *ok)
{
    static const char start[] = "HTTP/1.1 101 ";
    if (b->got < sizeof start - 1 + 4 || memcmp(b->answer + b->got - 4, "\r\n\r\n", 4) != 0) {
        *ok = b->got < ANSWER_MAX;
        return false;
    }
    *ok = memcmp(b->answer, start, sizeof start - 1) == 0;
    return true;
}

static bool connect_more(struct opening *o, int epoll, struct bare *bare)
{
    struct sockaddr_in address = address_of(o);
    while (may_begin(o)) {
        struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = o->begun };
        int fd = bare[o->begun].fd = make_socket();
        if (fd < 0 || (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) ||
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            return false;
        o->begun++;
    }
    return true;
}

static bool take_event(struct opening *o, struct bare *b, uint32_t events, struct wsr_row_measure *out)
{
    if ((events & EPOLLOUT) != 0 && !b->has_asked) {
        b->has_asked = true;
        if (send(b->fd, o->request, (size_t)o->request_bytes, MSG_NOSIGNAL) != o->request_bytes)
            return false;
    }
    if ((events & EPOLLIN) == 0)
        return true;
    ssize_t got = recv(b->fd, b->answer + b->got, ANSWER_MAX - b->got, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    b->got += (uint32_t)got;
    bool ok;
    if (is_answered(b, &ok))
        count_opened(o, out);
    return ok;
}

static int run_epoll(void *context, struct wsr_row_measure *out)
{
    struct opening *o = context;
    struct epoll_event events[EVENTS_COUNT];
    struct bare *bare = make_bare(o);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (bare == NULL || epoll < 0) {
        if (epoll >= 0)
            close(epoll);
        free(bare);
        return -1;
    }
    bool ok = true;
    begin(o);
    while (ok && goes_on(o)) {
        ok = connect_more(o, epoll, bare);
        int ready = epoll_wait(epoll, events, EVENTS_COUNT, (int)(WAIT_NS / 1000000));
        for (int i = 0; ok && i < ready; i++)
            ok = take_event(o, &bare[events[i].data.u32], events[i].events, out);
    }
    close(epoll);
    return free_bare(o, bare, ok && o->opened == o->count);
}

static struct io_uring_sqe *claim(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    while (sqe == NULL) {
        io_uring_submit(ring);
        sqe = io_uring_get_sqe(ring);
    }
    return sqe;
}

/* Connect and request as a chain, which says nothing when it goes well. */
static bool chain_more(struct opening *o, struct io_uring *ring, struct bare *bare, const struct sockaddr_in *address)
{
    while (may_begin(o)) {
        struct bare *b = &bare[o->begun];
        b->fd = make_socket();
        if (b->fd < 0)
            return false;
        if (io_uring_sq_space_left(ring) < 3)
            io_uring_submit(ring);
        struct io_uring_sqe *sqe = claim(ring);
        io_uring_prep_connect(sqe, b->fd, (const struct sockaddr *)address, sizeof *address);
        sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
        sqe->user_data = UINT64_MAX;
        sqe = claim(ring);
        io_uring_prep_send(sqe, b->fd, o->request, (size_t)o->request_bytes, MSG_NOSIGNAL | MSG_WAITALL);
        sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
        sqe->user_data = UINT64_MAX;
        sqe = claim(ring);
        io_uring_prep_recv(sqe, b->fd, b->answer, ANSWER_MAX, 0);
        sqe->user_data = o->begun++;
    }
    return true;
}

static bool take_answers(struct opening *o, struct io_uring *ring, struct bare *bare, struct wsr_row_measure *out)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    bool ok = true;
    io_uring_for_each_cqe(ring, head, cqe) {
        seen++;
        ok = ok && cqe->res > 0 && cqe->user_data < o->count;
        if (!ok)
            break;
        struct bare *b = &bare[cqe->user_data];
        b->got += (uint32_t)cqe->res;
        if (is_answered(b, &ok)) {
            count_opened(o, out);
        } else if (ok) {
            struct io_uring_sqe *sqe = claim(ring);
            io_uring_prep_recv(sqe, b->fd, b->answer + b->got, ANSWER_MAX - b->got, 0);
            sqe->user_data = cqe->user_data;
        }
    }
    io_uring_cq_advance(ring, seen);
    return ok;
}

static int run_ring(void *context, struct wsr_row_measure *out)
{
    struct opening *o = context;
    struct wsr_bare_ring r;
    struct __kernel_timespec wait = { .tv_nsec = WAIT_NS };
    struct sockaddr_in address = address_of(o);
    struct io_uring_cqe *cqe;
    struct bare *bare = make_bare(o);
    if (bare == NULL || wsr_bare_ring_open(&r, 2, 4096) != 0) {      /* its buffers are not used here */
        free(bare);
        return -1;
    }
    bool ok = true;
    begin(o);
    while (ok && goes_on(o)) {
        ok = chain_more(o, &r.ring, bare, &address);
        int rc = io_uring_submit_and_wait_timeout(&r.ring, &cqe, 1, &wait, NULL);
        ok = ok && (rc >= 0 || rc == -ETIME || rc == -EINTR) && take_answers(o, &r.ring, bare, out);
    }
    wsr_bare_ring_close(&r);
    return free_bare(o, bare, ok && o->opened == o->count);
}

/* ---- The rows ---- */

static int measure(const struct wsr_table *table, const char *name, const char *what, const char *side,
                   wsr_row_run engine)
{
    struct opening o = { .count = table->quick ? COUNT_QUICK : COUNT_FULL };
    struct wsr_row row = {
        .what = what, .unit = WSR_ROW_PER_S, .reach = 0.80, .context = &o,
        .sides = { { side, engine }, { "connect, epoll", run_epoll }, { "connect, io_uring", run_ring } }
    };
    snprintf(row.name, sizeof row.name, "%s", name);
    if (!wsr_row_is_wanted(table, name))
        return 0;
    o.warm_count = o.count / 10;
    if (wsr_crowd_start(&o.crowd, o.count, false) != 0)
        return -1;
    /* What the engine sends, but for the key. */
    o.request_bytes = snprintf(o.request, sizeof o.request,
                               "GET / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                               o.crowd.peer.port);
    int rc = wsr_row_measure(table, &row);
    wsr_crowd_stop(&o.crowd);
    return rc;
}

int wsr_opening_rows(const struct wsr_table *table)
{
    int rc = measure(table, "opening", "connections opened per second, upgrade and all; 128 under way",
                     "engine, inline", run_engine);
    if (measure(table, "opening-direct", "the same with direct descriptors", "engine, direct", run_direct) < 0)
        rc = -1;
    return rc;
}
