/* SPDX-License-Identifier: MIT */
#include "peer_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base.h"
#include "engine/frame.h"
#include "peer_serve.h"

#define IN_BYTES (64u << 10)              /* received at a time, a whole record included */
#define PLAIN_BYTES (2 * IN_BYTES)        /* what that holds, behind the frame that it ends */
#define FRAMES_BYTES (128u << 10)         /* of SPRAY; all are sealed before they are sent */
#define SPRAY_CROWD_BYTES (16u << 10)     /* sealed at a time for one of many */
#define RECORD_BYTES_MIN 64u              /* of SPRAY */
#define FULL_PAUSES 32u                   /* between two looks whether the window is open again */
#define EVENTS_COUNT 256

/* Of one connection at a time. */
static uint8_t in[IN_BYTES], plain[PLAIN_BYTES], out[PLAIN_BYTES];
static uint8_t sealed[FRAMES_BYTES + (FRAMES_BYTES / RECORD_BYTES_MIN + 1) * WSR_BARE_RECORD_OVERHEAD];

/* ---- Records ---- */

/* Keep @len bytes at @from for later. Returns false without memory. */
static bool keep(uint8_t **to, size_t *to_bytes, const uint8_t *from, size_t len)
{
    *to_bytes = len;
    if (len > 0 && *to == NULL)
        *to = malloc(IN_BYTES);
    if (len > IN_BYTES || (len > 0 && *to == NULL))
        return false;
    if (len > 0)
        memcpy(*to, from, len);
    return true;
}

/* Receive what is there, and open what of it is whole, to @to. Returns the bytes of that, 0 for nothing yet; -1 when
 * the connection is over. */
static ssize_t receive(struct wsr_peer_link *link, uint8_t *to)
{
    size_t before = link->sealed_bytes, used = 0, at = 0, whole;
    ssize_t got = recv(link->fd, in + before, IN_BYTES - before, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    if (before > 0)
        memcpy(in, link->sealed, before);
    size_t len = before + (size_t)got;
    while ((whole = wsr_bare_record_bytes(in + at, len - at)) > 0 && whole <= len - at) {
        ssize_t opened = wsr_bare_record_open(&link->tls.in, in + at, whole);
        if (opened < 0)
            return -1;                    /* an alert too: what comes is counted elsewhere */
        memcpy(to + used, in + at + WSR_BARE_RECORD_HEADER_BYTES, (size_t)opened);
        used += (size_t)opened;
        at += whole;
    }
    return keep(&link->sealed, &link->sealed_bytes, in + at, len - at) ? (ssize_t)used : -1;
}

/* Seal @len bytes in records of at most @record_bytes to @to. Returns the bytes of that. */
static size_t seal(struct wsr_peer_link *link, const uint8_t *from, size_t len, size_t record_bytes, uint8_t *to)
{
    size_t used = 0;
    for (size_t at = 0, now; at < len; at += now) {
        now = len - at < record_bytes ? len - at : record_bytes;
        used += wsr_bare_record_seal(&link->tls.out, from + at, now, to + used);
    }
    return used;
}

/* Seal and send at once, which ends the connection when it does not fit into the kernel: clients keep few in flight. */
static bool send_sealed(struct wsr_peer_link *link, const uint8_t *from, size_t len)
{
    size_t bytes = seal(link, from, len, WSR_BARE_RECORD_PLAIN_MAX, sealed);
    return send(link->fd, sealed, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)bytes;
}

/* ---- Opening ---- */

/* TLS, then one request and its answer. */
static bool shake_hands(struct wsr_peer_link *link)
{
    char answer[WSR_PEER_ANSWER_CHARS];
    size_t used = 0;
    if (wsr_bare_tls_accept(&link->tls, link->fd) != 0)
        return false;
    do {
        char byte;
        if (recv(link->fd, &byte, 1, MSG_PEEK) != 1)
            return false;
        ssize_t got = receive(link, plain + used);
        if (got < 0 || used + (size_t)got > IN_BYTES)
            return false;
        used += (size_t)got;
        plain[used] = '\0';
    } while (strstr((char *)plain, "\r\n\r\n") == NULL);
    int len = wsr_peer_answer(answer, (char *)plain, NULL);
    return len > 0 && send_sealed(link, (uint8_t *)answer, (size_t)len);
}

static void end(struct wsr_peer_link *link)
{
    wsr_bare_tls_end(&link->tls);
    free(link->sealed);
    free(link->plain);
    free(link->out);
    if (link->fd >= 0)
        close(link->fd);
    *link = (struct wsr_peer_link){ .fd = -1 };
}

int wsr_peer_tls_gather(int listener, struct wsr_peer_link *links, uint32_t count)
{
    for (uint32_t open_count = 0; open_count < count;) {
        struct wsr_peer_link *link = &links[open_count];
        *link = (struct wsr_peer_link){ .fd = wsr_peer_accept(listener) };
        if (link->fd < 0)
            return -1;
        if (shake_hands(link))
            open_count++;
        else
            end(link);
    }
    return 0;
}

void wsr_peer_tls_end(struct wsr_peer_link *links, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        end(&links[i]);
}

/* ---- Pong ---- */

static void serve_pong(const struct wsr_peer_options *options, struct wsr_peer_link *link)
{
    uint32_t out_bytes = wsr_peer_frame_bytes(options->payload_bytes);
    size_t used = 0;
    ssize_t got;
    if (out_bytes > sizeof out)
        return;
    memset(out, 'x', out_bytes);
    wsr_frame_write(out, WSR_FRAME_FIN | WSR_OPCODE_BINARY, options->payload_bytes, NULL);
    while ((got = receive(link, plain)) >= 0) {
        used += (size_t)got;
        if (used < options->up_bytes)
            continue;
        used = 0;
        if (!send_sealed(link, out, out_bytes))
            return;
    }
}

/* ---- Spray ---- */

static void spray_one(struct wsr_peer_link *link, const uint8_t *frames, size_t frames_bytes, uint32_t record_bytes)
{
    for (;;) {
        size_t bytes = seal(link, frames, frames_bytes, record_bytes, sealed);
        for (size_t at = 0; at < bytes;) {
            ssize_t sent = send(link->fd, sealed + at, bytes - at, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent > 0) {
                at += (size_t)sent;
                continue;
            }
            if (sent < 0 && errno != EINTR && errno != EAGAIN)
                return;
            for (unsigned i = 0; i < FULL_PAUSES; i++)
                wsr_cpu_relax();
        }
    }
}

struct crowd {
    int epoll;
    uint32_t left_count;
};

static bool begin_crowd(struct crowd *crowd, struct wsr_peer_link *links, uint32_t count, uint32_t events)
{
    crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
    crowd->left_count = count;
    if (crowd->epoll < 0)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct epoll_event event = { .events = events, .data.u32 = i };
        if (fcntl(links[i].fd, F_SETFL, O_NONBLOCK) != 0 ||
            epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, links[i].fd, &event) != 0)
            return false;
    }
    return true;
}

/* Let @turn serve those of which something has come, or to which something may go, until it has said false of all. */
static void serve_crowd(struct wsr_peer_link *links, uint32_t count, uint32_t events, bool never_sleeps,
                        bool (*turn)(struct wsr_peer_link *link, const void *context), const void *context)
{
    struct epoll_event found[EVENTS_COUNT];
    struct crowd crowd = { .epoll = -1 };
    bool ok = begin_crowd(&crowd, links, count, events);
    while (ok && crowd.left_count > 0) {
        int ready = epoll_wait(crowd.epoll, found, EVENTS_COUNT, never_sleeps ? 0 : -1);
        for (int e = 0; e < ready; e++) {
            struct wsr_peer_link *link = &links[found[e].data.u32];
            if (!turn(link, context)) {
                epoll_ctl(crowd.epoll, EPOLL_CTL_DEL, link->fd, NULL);
                crowd.left_count--;
            }
        }
    }
    if (crowd.epoll >= 0)
        close(crowd.epoll);
}

struct spray {
    const uint8_t *frames;
    size_t frames_bytes;
    uint32_t record_bytes;
};

static bool spray_turn(struct wsr_peer_link *link, const void *context)
{
    const struct spray *spray = context;
    if (link->out == NULL)
        link->out = malloc(sizeof sealed);
    if (link->out == NULL)
        return false;
    if (link->out_sent == link->out_bytes) {
        size_t left = spray->frames_bytes - link->at;
        size_t now = left < SPRAY_CROWD_BYTES ? left : SPRAY_CROWD_BYTES;
        link->out_bytes = seal(link, spray->frames + link->at, now, spray->record_bytes, link->out);
        link->out_sent = 0;
        link->at = now == left ? 0 : link->at + now;
    }
    ssize_t sent = send(link->fd, link->out + link->out_sent, link->out_bytes - link->out_sent,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR;
    link->out_sent += (size_t)sent;
    return true;
}

static void serve_spray(const struct wsr_peer_options *options, struct wsr_peer_link *links, uint32_t count)
{
    uint8_t *frames = aligned_alloc(4096, FRAMES_BYTES);
    struct spray spray = { .frames = frames, .record_bytes = options->record_bytes };
    if (frames == NULL || spray.record_bytes < RECORD_BYTES_MIN || spray.record_bytes > WSR_BARE_RECORD_PLAIN_MAX)
        return;
    spray.frames_bytes = wsr_peer_fill_frames(frames, FRAMES_BYTES, options);
    if (count == 1)
        spray_one(links, frames, spray.frames_bytes, spray.record_bytes);
    else
        serve_crowd(links, count, EPOLLOUT, true, spray_turn, &spray);
    free(frames);
}

/* ---- Echo ---- */

static bool echo_turn(struct wsr_peer_link *link, const void *context)
{
    (void)context;
    size_t out_bytes, len = link->plain_bytes;
    if (len > 0)
        memcpy(plain, link->plain, len);
    ssize_t got = receive(link, plain + len);
    if (got <= 0)
        return got == 0;
    len += (size_t)got;
    size_t taken = wsr_peer_echo_frames(plain, len, out, &out_bytes);
    return keep(&link->plain, &link->plain_bytes, plain + taken, len - taken) &&
           (out_bytes == 0 || send_sealed(link, out, out_bytes));
}

void wsr_peer_tls_serve(const struct wsr_peer_options *options, struct wsr_peer_link *links, uint32_t count)
{
    switch (options->kind) {
    case WSR_PEER_PONG:
        serve_pong(options, &links[0]);
        break;
    case WSR_PEER_SPRAY:
        serve_spray(options, links, count);
        break;
    case WSR_PEER_ECHO:
        serve_crowd(links, count, EPOLLIN, false, echo_turn, NULL);
        break;
    case WSR_PEER_SINK:
        break;          /* not over TLS, see peer.h */
    }
}
