/* SPDX-License-Identifier: MIT */
#include "crowd.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bare_tls.h"
#include "engine/frame.h"
#include "simd/simd.h"

#define REQUEST_MAX 2048
#define FRAME_MAX 1024
#define EVENTS_COUNT 256
#define ACCEPTS_PER_LOOK 64           /* then those that are open have their turn */
#define TAG_LISTENER UINT32_MAX
#define TAG_CONTROL (UINT32_MAX - 1)

struct server {
    int listener, control, epoll;
    bool echoes;
    SSL_CTX *tls;                     /* NULL without */
    int *fds;                         /* by index, -1 = was closed */
    SSL **ssls;                       /* NULL without TLS */
    bool *shaken;
    uint32_t count, room;
};

static void drop(struct server *s, uint32_t i)
{
    SSL_free(s->ssls[i]);
    close(s->fds[i]);
    s->ssls[i] = NULL;
    s->fds[i] = -1;
}

/* Returns the bytes that came of connection @i, 0 for none yet, and -1 for its end. Makes the handshake of TLS, too. */
static ssize_t receive(struct server *s, uint32_t i, void *to, size_t room)
{
    if (s->tls == NULL) {
        ssize_t got = recv(s->fds[i], to, room, 0);
        return got > 0 ? got : got < 0 && errno == EAGAIN ? 0 : -1;
    }
    int got = SSL_read(s->ssls[i], to, (int)room);
    bool waits = got <= 0 && SSL_get_error(s->ssls[i], got) == SSL_ERROR_WANT_READ;
    ERR_clear_error();
    return got > 0 ? got : waits ? 0 : -1;
}

static bool send_all(struct server *s, uint32_t i, const void *data, size_t len)
{
    if (s->tls == NULL)
        return send(s->fds[i], data, len, MSG_NOSIGNAL) == (ssize_t)len;
    return SSL_write(s->ssls[i], data, (int)len) == (int)len;
}

/* A request comes in one piece here: it is small, and the client sends it at once. */
static bool shake_hands(struct server *s, uint32_t i)
{
    char request[REQUEST_MAX + 1], answer[WSR_PEER_ANSWER_CHARS];
    ssize_t got = receive(s, i, request, REQUEST_MAX);
    if (got <= 0)
        return got == 0;
    request[got] = '\0';
    int len = strstr(request, "\r\n\r\n") != NULL ? wsr_peer_answer(answer, request, NULL) : 0;
    s->shaken[i] = true;
    return len > 0 && send_all(s, i, answer, (size_t)len);
}

/* So does a message. */
static bool echo(struct server *s, uint32_t i)
{
    uint8_t in[FRAME_MAX], out[FRAME_MAX];
    struct wsr_frame frame;
    ssize_t got = receive(s, i, in, sizeof in);
    if (got == 0)
        return true;
    int head = got > 0 ? wsr_frame_parse(&frame, in, (size_t)got) : 0;
    if (head <= 0 || wsr_frame_is_control(frame.opcode) || (size_t)got != (size_t)head + frame.payload_bytes)
        return false;
    size_t bytes = wsr_frame_write(out, (uint8_t)(WSR_FRAME_FIN | frame.opcode), frame.payload_bytes, NULL);
    wsr_simd()->mask_copy(out + bytes, in + head, frame.payload_bytes, frame.mask, 0);
    bytes += frame.payload_bytes;
    return send_all(s, i, out, bytes);
}

static void take_input(struct server *s, uint32_t i)
{
    if (s->fds[i] < 0)
        return;
    if (!(s->shaken[i] ? echo(s, i) : shake_hands(s, i)))
        drop(s, i);
}

static bool begin_tls(struct server *s, uint32_t i)
{
    s->ssls[i] = s->tls != NULL ? SSL_new(s->tls) : NULL;
    if (s->ssls[i] == NULL)
        return s->tls == NULL;
    SSL_set_accept_state(s->ssls[i]);
    return SSL_set_fd(s->ssls[i], s->fds[i]) == 1;
}

/* The listener gives out a connection only when its request is there (TCP_DEFER_ACCEPT): without TLS few need a second
 * look. */
static void accept_some(struct server *s)
{
    for (unsigned n = 0; n < ACCEPTS_PER_LOOK && s->count < s->room; n++) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        uint32_t i = s->count++;
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
        s->fds[i] = fd;
        s->shaken[i] = false;
        if (begin_tls(s, i))
            take_input(s, i);
        else
            drop(s, i);
        if (s->fds[i] >= 0 && (s->echoes || !s->shaken[i]) && epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            drop(s, i);
    }
}

static void reset_all(struct server *s)
{
    static const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };
    char byte;
    if (read(s->control, &byte, 1) != 1)
        _exit(0);
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->fds[i] >= 0) {
            setsockopt(s->fds[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            drop(s, i);
        }
    }
    s->count = 0;
    if (write(s->control, &byte, 1) != 1)
        _exit(0);
}

/* The child: for ever. */
__attribute__((noreturn)) static void serve(struct server *s)
{
    struct epoll_event events[EVENTS_COUNT];
    struct epoll_event listener = { .events = EPOLLIN, .data.u32 = TAG_LISTENER };
    struct epoll_event control = { .events = EPOLLIN, .data.u32 = TAG_CONTROL };
    s->fds = malloc(s->room * sizeof *s->fds);
    s->ssls = malloc(s->room * sizeof *s->ssls);
    s->shaken = malloc(s->room * sizeof *s->shaken);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->fds == NULL || s->ssls == NULL || s->shaken == NULL || s->epoll < 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &listener) != 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->control, &control) != 0)
        _exit(1);
    for (;;) {
        int ready = epoll_wait(s->epoll, events, EVENTS_COUNT, -1);
        bool resets = false;
        for (int e = 0; e < ready; e++) {
            if (events[e].data.u32 == TAG_LISTENER)
                accept_some(s);
            else if (events[e].data.u32 == TAG_CONTROL)
                resets = true;
            else
                take_input(s, events[e].data.u32);
        }
        if (resets)
            reset_all(s);
    }
}

int wsr_crowd_start(struct wsr_crowd *crowd, const struct wsr_crowd_options *options)
{
    static const int seconds = 1, one = 1;
    int client_cpu, server_cpu, ends[2];
    struct server server = { .room = options->connections_max, .echoes = options->echoes };
    if (options->is_tls && wsr_bare_tls_ca_file() == NULL)
        return -1;
    wsr_peer_cpus(&client_cpu, &server_cpu);
    server.listener = wsr_peer_listen(&crowd->peer.port);
    if (server.listener < 0)
        return -1;
    if (fcntl(server.listener, F_SETFL, O_NONBLOCK) != 0 ||
        setsockopt(server.listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds) != 0 ||
        setsockopt(server.listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||      /* is inherited */
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        perror("wsring-micro: no server for a crowd");
        close(server.listener);
        return -1;
    }
    server.control = ends[1];
    crowd->control = ends[0];
    fflush(NULL);
    pid_t parent = getpid();
    crowd->peer.pid = fork();
    if (crowd->peer.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        close(ends[0]);
        wsr_peer_pin(server_cpu);
        if (options->is_tls && (server.tls = wsr_bare_tls_server_context(options->tickets)) == NULL)
            _exit(1);
        serve(&server);
    }
    close(server.listener);
    close(ends[1]);
    if (crowd->peer.pid < 0 || clock_getcpuclockid(crowd->peer.pid, &crowd->peer.clock) != 0) {
        perror("wsring-micro: no server for a crowd");
        wsr_crowd_stop(crowd);
        return -1;
    }
    return 0;
}

int wsr_crowd_reset(struct wsr_crowd *crowd)
{
    char byte = 0;
    return write(crowd->control, &byte, 1) == 1 && read(crowd->control, &byte, 1) == 1 ? 0 : -1;
}

void wsr_crowd_stop(struct wsr_crowd *crowd)
{
    if (crowd->peer.pid > 0)
        wsr_peer_stop(&crowd->peer);
    close(crowd->control);
}
