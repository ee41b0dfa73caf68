/* Opening rate: so many connections from socket() to the server's answer to the upgrade, a bounded number of them under
 * way, against bare sockets that send the same request and read the answer; over TLS against OpenSSL alone. All stay
 * open until the count is reached; then the server resets them, which is not measured, and leaves no port in TIME_WAIT.
 * SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
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
#define COUNT_TLS_FULL 2000u
#define COUNT_TLS_QUICK 600u
#define UNDER_WAY_MAX 128u
#define UNDER_WAY_TLS_MAX 16u         /* sessions are kept for a few dozen, and serve one connection each */
#define TICKETS_COUNT 2u
#define ANSWER_MAX 512u
#define EVENTS_COUNT 256
#define PATIENCE_NS 10000000000ull
#define WAIT_NS 100000000ull

struct opening {
    struct wsr_crowd crowd;
    uint32_t count;                   /* connections of one side in one round */
    uint32_t warm_count;              /* of those, open when the measurement begins */
    uint32_t under_way_max;
    bool is_tls, resumes;
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
    return o->begun < o->count && o->begun - o->opened < o->under_way_max;
}

static bool goes_on(const struct opening *o)
{
    return o->opened < o->count && wsr_clock_now() < o->deadline_ns;
}

/* ---- The engine ---- */

static bool open_more(struct opening *o, struct wsr_engine *engine, struct wsr_socket **sockets)
{
    char url[64];
    snprintf(url, sizeof url, "%s://127.0.0.1:%u/", o->is_tls ? "wss" : "ws", o->crowd.peer.port);
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

/* All that were measured were resumed, or none. */
static bool is_as_wanted(const struct opening *o, uint64_t resumed)
{
    bool ok = o->resumes ? resumed >= o->count - o->warm_count : resumed == 0;
    if (!ok)
        fprintf(stderr, "wsring-micro: %llu of %u sessions were resumed\n", (unsigned long long)resumed, o->count);
    return ok;
}

static bool has_resumed_as_wanted(const struct opening *o, struct wsr_engine *engine)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    return wsr_engine_statistics(engine, &statistics) == 0 && is_as_wanted(o, statistics.tls_resumed);
}

static int run_engine_with(struct opening *o, uint32_t flags, struct wsr_row_measure *out)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_engine *engine;
    struct wsr_socket **sockets = calloc(o->count, sizeof *sockets);
    options.flags = flags;
    if (o->is_tls)
        wsr_client_tls(&options, WSR_TLS_DIRECT);
    if (sockets == NULL || wsr_engine_create(&engine, &options) != 0) {
        fprintf(stderr, "wsring-micro: no engine: %s\n", wsr_error_text());
        free(sockets);
        return -1;
    }
    bool ok = run_opens(o, engine, sockets, out);
    if (!ok)
        fprintf(stderr, "wsring-micro: a socket did not open: %s\n", wsr_error_text());
    ok = ok && has_resumed_as_wanted(o, engine);
    ok = wsr_crowd_reset(&o->crowd) == 0 && ok && await_ends(o, engine);
    wsr_engine_destroy(engine);
    free(sockets);
    return ok ? 0 : -1;
}

static int run_engine(void *context, struct wsr_row_measure *out)
{
    return run_engine_with(context, 0, out);
}

static int run_engine_tls(void *context, struct wsr_row_measure *out)
{
    struct opening *o = context;
    return run_engine_with(o, o->resumes ? 0 : WSR_ENGINE_TLS_NO_RESUMPTION, out);
}

static int run_direct(void *context, struct wsr_row_measure *out)
{
    return run_engine_with(context, WSR_ENGINE_DIRECT_DESCRIPTORS, out);
}

/* ---- References ---- */

struct bare {
    int fd;
    SSL *ssl;                         /* NULL without TLS */
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

/* ---- OpenSSL alone, over sockets that do not block ---- */

/* Sessions that were not used yet, newest first; of the one side that runs. */
static SSL_SESSION *sessions[TICKETS_COUNT * UNDER_WAY_TLS_MAX];
static size_t sessions_count;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    if (sessions_count == sizeof sessions / sizeof sessions[0])
        return 0;
    sessions[sessions_count++] = session;
    return 1;
}

static void forget_sessions(void)
{
    while (sessions_count > 0)
        SSL_SESSION_free(sessions[--sessions_count]);
}

static SSL_CTX *make_client_context(const struct opening *o)
{
    SSL_CTX *context = wsr_bare_tls_client_context();
    if (context != NULL && o->resumes) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, keep_session);
    }
    return context;
}

static bool begin_tls(struct bare *b, SSL_CTX *context)
{
    b->ssl = wsr_bare_tls_client(context, b->fd);
    if (b->ssl == NULL)
        return false;
    SSL_set_connect_state(b->ssl);
    if (sessions_count == 0)
        return true;
    SSL_SESSION *session = sessions[--sessions_count];
    bool ok = SSL_set_session(b->ssl, session) == 1;
    SSL_SESSION_free(session);
    return ok;
}

/* @rc is what OpenSSL said. */
static bool may_go_on(const struct bare *b, int rc)
{
    int why = SSL_get_error(b->ssl, rc);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return true;
    const char *text = ERR_reason_error_string(ERR_get_error());
    fprintf(stderr, "wsring-micro: OpenSSL alone: %s\n", text != NULL ? text : "the connection ended");
    return false;
}

static bool take_event_tls(struct opening *o, struct bare *b, SSL_CTX *context, uint64_t *resumed,
                           struct wsr_row_measure *out)
{
    if (b->ssl == NULL && !begin_tls(b, context))
        return false;
    if (!b->has_asked) {
        int rc = SSL_do_handshake(b->ssl);
        if (rc != 1)
            return may_go_on(b, rc);
        b->has_asked = true;
        *resumed += SSL_session_reused(b->ssl) == 1;
        if (SSL_write(b->ssl, o->request, o->request_bytes) != o->request_bytes)
            return false;
    }
    int got = SSL_read(b->ssl, b->answer + b->got, (int)(ANSWER_MAX - b->got));
    if (got <= 0)
        return may_go_on(b, got);
    b->got += (uint32_t)got;
    bool ok;
    if (is_answered(b, &ok))
        count_opened(o, out);
    return ok;
}

static bool run_tls_opens(struct opening *o, int epoll, SSL_CTX *context, struct bare *bare,
                          struct wsr_row_measure *out)
{
    struct epoll_event events[EVENTS_COUNT];
    uint64_t resumed = 0;
    bool ok = true;
    begin(o);
    while (ok && goes_on(o)) {
        ok = connect_more(o, epoll, bare);
        int ready = epoll_wait(epoll, events, EVENTS_COUNT, (int)(WAIT_NS / 1000000));
        for (int i = 0; ok && i < ready; i++)
            ok = take_event_tls(o, &bare[events[i].data.u32], context, &resumed, out);
    }
    return ok && o->opened == o->count && is_as_wanted(o, resumed);
}

static int run_openssl(void *context, struct wsr_row_measure *out)
{
    struct opening *o = context;
    struct bare *bare = make_bare(o);
    SSL_CTX *tls = make_client_context(o);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    bool ok = bare != NULL && tls != NULL && epoll >= 0 && run_tls_opens(o, epoll, tls, bare, out);
    if (epoll >= 0)
        close(epoll);
    for (uint32_t i = 0; bare != NULL && i < o->count; i++)
        SSL_free(bare[i].ssl);
    forget_sessions();
    SSL_CTX_free(tls);
    return bare != NULL ? free_bare(o, bare, ok) : -1;
}

/* ---- The rows ---- */

static int measure(const struct wsr_table *table, struct opening *o, struct wsr_row *row)
{
    struct wsr_crowd_options options = {
        .connections_max = o->count, .is_tls = o->is_tls, .tickets = o->resumes ? TICKETS_COUNT : 0
    };
    if (!wsr_row_is_wanted(table, row->name))
        return 0;
    o->warm_count = o->count / 10;
    row->unit = WSR_ROW_PER_S;
    row->context = o;
    if (wsr_crowd_start(&o->crowd, &options) != 0)
        return -1;
    /* What the engine sends, but for the key. */
    o->request_bytes = snprintf(o->request, sizeof o->request,
                                "GET / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                                o->crowd.peer.port);
    int rc = wsr_row_measure(table, row);
    wsr_crowd_stop(&o->crowd);
    return rc;
}

static int measure_plain(const struct wsr_table *table)
{
    struct opening o = { .count = table->quick ? COUNT_QUICK : COUNT_FULL, .under_way_max = UNDER_WAY_MAX };
    struct wsr_row row = {
        .name = "opening", .what = "connections opened per second, upgrade and all; 128 under way", .reach = 0.80,
        .sides = { { "engine, inline", run_engine },
                   { "connect, epoll", run_epoll },
                   { "connect, io_uring", run_ring } }
    };
    struct wsr_row direct = row;
    direct.what = "the same with direct descriptors";
    direct.sides[0] = (struct wsr_row_side){ "engine, direct", run_direct };
    snprintf(direct.name, sizeof direct.name, "opening-direct");
    int rc = measure(table, &o, &row);
    return measure(table, &o, &direct) < 0 ? -1 : rc;
}

static int measure_tls(const struct wsr_table *table)
{
    struct opening o = {
        .count = table->quick ? COUNT_TLS_QUICK : COUNT_TLS_FULL, .under_way_max = UNDER_WAY_TLS_MAX, .is_tls = true
    };
    struct wsr_row row = {
        .name = "opening-wss", .what = "wss connections opened per second, certificate verified; 16 under way",
        .sides = { { "engine, inline", run_engine_tls }, { "OpenSSL alone, epoll", run_openssl } }
    };
    struct wsr_row resumed = row;
    resumed.what = "the same, each an earlier session resumed";
    snprintf(resumed.name, sizeof resumed.name, "opening-wss-resumed");
    int rc = measure(table, &o, &row);
    o.resumes = true;
    return measure(table, &o, &resumed) < 0 ? -1 : rc;
}

int wsr_opening_rows(const struct wsr_table *table)
{
    int rc = measure_plain(table);
    return measure_tls(table) < 0 ? -1 : rc;
}
