/* SPDX-License-Identifier: MIT */
#include "peer_serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base.h"
#include "engine/frame.h"
#include "simd/simd.h"

#define SPRAY_BYTES (128u << 10)          /* of one send to one connection: within the second-level cache */
#define SPRAY_CROWD_BYTES (16u << 10)     /* of one send when there are many */
#define FULL_PAUSES 32u                   /* between two looks whether the window is open again: about a microsecond */
#define ECHO_BYTES (64u << 10)
#define EVENTS_COUNT 256

/* ---- Pong ---- */

static void serve_pong(const struct wsr_peer_options *options, int fd)
{
    uint8_t in[4096], out[4096];
    uint32_t out_bytes = wsr_peer_frame_bytes(options->payload_bytes), used = 0;
    if (out_bytes > sizeof out || options->up_bytes > sizeof in)
        return;
    memset(out, 'x', sizeof out);
    wsr_frame_write(out, WSR_FRAME_FIN | WSR_OPCODE_BINARY, options->payload_bytes, NULL);
    for (;;) {
        ssize_t got = recv(fd, in, options->up_bytes - used, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return;
        if (got < 0)
            continue;
        used += (uint32_t)got;
        if (used < options->up_bytes)
            continue;
        used = 0;
        if (send(fd, out, out_bytes, MSG_NOSIGNAL) < 0)
            return;
    }
}

/* ---- Spray ---- */

size_t wsr_peer_fill_frames(uint8_t *to, size_t bytes, const struct wsr_peer_options *options)
{
    static const char text[] = "{\"symbol\":\"ABCD\",\"bid\":101.25,\"ask\":101.27,\"size\":1200} ";
    uint8_t first = (uint8_t)(WSR_FRAME_FIN | (options->text ? WSR_OPCODE_TEXT : WSR_OPCODE_BINARY));
    size_t used = 0, frame_bytes = wsr_peer_frame_bytes(options->payload_bytes);
    size_t count = bytes / frame_bytes;
    if (options->numbered)
        count -= count % WSR_PEER_NUMBERS;
    for (size_t number = 0; number < count; number++) {
        used += wsr_frame_write(to + used, first, options->payload_bytes, NULL);
        for (uint32_t i = 0; i < options->payload_bytes; i++)
            to[used++] = (uint8_t)text[i % (sizeof text - 1)];
        if (options->numbered)
            to[used - 1] = (uint8_t)(number % WSR_PEER_NUMBERS);
    }
    return used;
}

/* Never sleeps: waking it would cost the client, and in a virtual machine take longer than all the rest. */
static void spray_one(int fd, const uint8_t *frames, size_t bytes)
{
    size_t at = 0;
    for (;;) {
        ssize_t sent = send(fd, frames + at, bytes - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            at = at + (size_t)sent == bytes ? 0 : at + (size_t)sent;
            continue;
        }
        if (sent < 0 && errno != EINTR && errno != EAGAIN)
            return;
        for (unsigned i = 0; i < FULL_PAUSES; i++)
            wsr_cpu_relax();
    }
}

struct crowd {
    int epoll;
    uint32_t left_count;
};

static bool begin_crowd(struct crowd *crowd, const int *fds, uint32_t count, uint32_t events)
{
    crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
    crowd->left_count = count;
    if (crowd->epoll < 0)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct epoll_event event = { .events = events, .data.u32 = i };
        if (fcntl(fds[i], F_SETFL, O_NONBLOCK) != 0 || epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, fds[i], &event) != 0)
            return false;
    }
    return true;
}

static void leave_crowd(struct crowd *crowd, int fd)
{
    epoll_ctl(crowd->epoll, EPOLL_CTL_DEL, fd, NULL);
    crowd->left_count--;
}

static void spray_crowd(const int *fds, uint32_t count, const uint8_t *frames, size_t bytes)
{
    struct epoll_event events[EVENTS_COUNT];
    struct crowd crowd = { .epoll = -1 };
    uint32_t *at = calloc(count, sizeof *at);
    if (at != NULL && begin_crowd(&crowd, fds, count, EPOLLOUT)) {
        while (crowd.left_count > 0) {
            int ready = epoll_wait(crowd.epoll, events, EVENTS_COUNT, 0);
            for (int e = 0; e < ready; e++) {
                uint32_t i = events[e].data.u32;
                ssize_t sent = send(fds[i], frames + at[i], bytes - at[i], MSG_NOSIGNAL | MSG_DONTWAIT);
                if (sent < 0 && errno != EAGAIN && errno != EINTR)
                    leave_crowd(&crowd, fds[i]);
                else if (sent > 0)
                    at[i] = at[i] + (uint32_t)sent == bytes ? 0 : at[i] + (uint32_t)sent;
            }
        }
    }
    if (crowd.epoll >= 0)
        close(crowd.epoll);
    free(at);
}

static void serve_spray(const struct wsr_peer_options *options, const int *fds, uint32_t count)
{
    if (options->frames != NULL) {
        spray_one(fds[0], options->frames, options->frames_bytes);
        return;
    }
    uint8_t *frames = aligned_alloc(4096, SPRAY_BYTES);
    if (frames == NULL)
        return;
    size_t bytes = wsr_peer_fill_frames(frames, count == 1 ? SPRAY_BYTES : SPRAY_CROWD_BYTES, options);
    if (count == 1)
        spray_one(fds[0], frames, bytes);
    else
        spray_crowd(fds, count, frames, bytes);
    free(frames);
}

/* ---- Echo ---- */

struct echo {
    uint8_t *in;          /* bytes of a frame that is not yet whole */
    size_t used;
};

size_t wsr_peer_echo_frames(const uint8_t *in, size_t len, uint8_t *out, size_t *out_bytes)
{
    const struct wsr_simd *simd = wsr_simd();
    size_t at = 0;
    struct wsr_frame frame;
    *out_bytes = 0;
    for (;;) {
        int head = wsr_frame_parse(&frame, in + at, len - at);
        if (head <= 0 || frame.payload_bytes > len - at - (size_t)head)
            return at;
        if (wsr_frame_is_control(frame.opcode)) {
            at += (size_t)head + frame.payload_bytes;
            continue;
        }
        /* What a client has compressed with its context, in that order, a server could have too. */
        uint8_t first = (uint8_t)(WSR_FRAME_FIN | frame.rsv << 4 | frame.opcode);
        *out_bytes += wsr_frame_write(out + *out_bytes, first, frame.payload_bytes, NULL);
        simd->mask_copy(out + *out_bytes, in + at + head, frame.payload_bytes, frame.mask, 0);
        *out_bytes += frame.payload_bytes;
        at += (size_t)head + frame.payload_bytes;
    }
}

/* Returns false when the connection is over. What does not fit into the kernel ends it too: clients keep few in
 * flight. */
static bool echo_once(struct echo *echo, int fd, uint8_t *in, uint8_t *out)
{
    size_t out_bytes;
    if (echo->used > 0)
        memcpy(in, echo->in, echo->used);
    ssize_t got = recv(fd, in + echo->used, ECHO_BYTES - echo->used, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    size_t len = echo->used + (size_t)got;
    size_t taken = wsr_peer_echo_frames(in, len, out, &out_bytes);
    echo->used = len - taken;
    if (echo->used > 0) {
        if (echo->in == NULL)
            echo->in = malloc(ECHO_BYTES);
        if (echo->in == NULL)
            return false;
        memcpy(echo->in, in + taken, echo->used);
    }
    return out_bytes == 0 || send(fd, out, out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out_bytes;
}

static void serve_echo(const int *fds, uint32_t count)
{
    static uint8_t in[ECHO_BYTES], out[ECHO_BYTES];
    struct epoll_event events[EVENTS_COUNT];
    struct crowd crowd = { .epoll = -1 };
    struct echo *echoes = calloc(count, sizeof *echoes);
    if (echoes != NULL && begin_crowd(&crowd, fds, count, EPOLLIN)) {
        while (crowd.left_count > 0) {
            int ready = epoll_wait(crowd.epoll, events, EVENTS_COUNT, -1);
            for (int e = 0; e < ready; e++) {
                uint32_t i = events[e].data.u32;
                if (!echo_once(&echoes[i], fds[i], in, out))
                    leave_crowd(&crowd, fds[i]);
            }
        }
    }
    for (uint32_t i = 0; echoes != NULL && i < count; i++)
        free(echoes[i].in);
    if (crowd.epoll >= 0)
        close(crowd.epoll);
    free(echoes);
}

/* ---- Sink ---- */

/* Never sleeps, see spray_one(). */
static void serve_sink(int fd)
{
    static uint8_t in[ECHO_BYTES];
    ssize_t got;
    do {
        got = recv(fd, in, sizeof in, MSG_DONTWAIT);
        for (unsigned i = 0; got < 0 && i < FULL_PAUSES; i++)
            wsr_cpu_relax();
    } while (got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)));
}

void wsr_peer_serve(const struct wsr_peer_options *options, const int *fds, uint32_t count)
{
    switch (options->kind) {
    case WSR_PEER_PONG:
        serve_pong(options, fds[0]);
        break;
    case WSR_PEER_SPRAY:
        serve_spray(options, fds, count);
        break;
    case WSR_PEER_ECHO:
        serve_echo(fds, count);
        break;
    case WSR_PEER_SINK:
        serve_sink(fds[0]);
        break;
    }
}
