/* The loop of the echo server: multishot receives, one send in flight per connection, echoes of one batch of
 * completions sent together. A client that does not read stops being read when HIGH_BYTES wait for it;
 * nothing is dropped.
 * SPDX-License-Identifier: MIT
 */
#include "echo_worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "echo_http.h"
#include "engine/uring.h"

#define SLOTS_MAX 262144u              /* address space only: what is not used is never touched */
#define SLOT_NONE UINT32_MAX
#define HIGH_BYTES (256u << 10)        /* echoes waiting: stop receiving */
#define LOW_BYTES (64u << 10)          /* receive again */
#define SEND_PARTS_MAX 64u
#define COMPLETIONS_MAX 256u
#define ACCEPT_REST_NS (100 * WSR_NS_PER_MS)

enum conn_state {
    CONN_FREE = 0,
    CONN_UPGRADING = 1,
    CONN_OPEN = 2,
    CONN_ENDING = 3,       /* the last bytes are queued: send them, then drain */
    CONN_DRAINING = 4      /* waits for its operations to come back */
};

static const uint8_t may_follow[] = {
    [CONN_FREE] = 1u << CONN_UPGRADING,
    [CONN_UPGRADING] = 1u << CONN_OPEN | 1u << CONN_ENDING | 1u << CONN_DRAINING,
    [CONN_OPEN] = 1u << CONN_ENDING | 1u << CONN_DRAINING,
    [CONN_ENDING] = 1u << CONN_DRAINING,
    [CONN_DRAINING] = 1u << CONN_FREE,
};

enum conn_mark {
    MARK_RECEIVING = 1u << 0,    /* a receive is in flight */
    MARK_SENDING = 1u << 1,      /* a send is in flight */
    MARK_PAUSED = 1u << 2,       /* too much waits for this client */
    MARK_DIRTY = 1u << 3,        /* in the list of dirty slots */
    MARK_STARVED = 1u << 4       /* in the list of starved slots */
};

struct wsr_echo_conn {
    wsr_file file;
    uint8_t state;               /* enum conn_state */
    uint8_t marks;               /* enum conn_mark */
    uint32_t generation;
    uint32_t next_free;
    uint32_t next_dirty;
    uint32_t next_starved;
    uint8_t *head;               /* a request that came in pieces */
    size_t head_bytes;
    size_t head_scanned;
    struct wsr_echo_tls *tls;    /* NULL = plain TCP */
    struct wsr_echo_stream stream;
    struct wsr_echo_queue queue;
    struct wsr_echo_queue sealed;      /* with TLS: what leaves, while `queue` is what is to be sealed */
};

enum operation {
    OPERATION_ACCEPT = 1,
    OPERATION_RECV = 2,
    OPERATION_SEND = 3
};

/* A token is operation (4 bits), generation (28 bits), slot (32 bits). */
#define GENERATION_MASK 0x0fffffffu

static uint64_t token_of(const struct wsr_echo_worker *w, const struct wsr_echo_conn *c, enum operation operation)
{
    return (uint64_t)operation << 60 | (uint64_t)c->generation << 32 | (uint32_t)(c - w->conns);
}

static void enter(struct wsr_echo_conn *c, enum conn_state to)
{
    assert(may_follow[c->state] & (1u << to));
    c->state = (uint8_t)to;
}

static uint32_t slot_of(const struct wsr_echo_worker *w, const struct wsr_echo_conn *c)
{
    return (uint32_t)(c - w->conns);
}

static struct wsr_echo_queue *wire_of(struct wsr_echo_conn *c)
{
    return c->tls ? &c->sealed : &c->queue;
}

static size_t waiting_bytes(const struct wsr_echo_conn *c)
{
    return c->queue.bytes + c->sealed.bytes;
}

/* ---- The end of a connection ---- */

static void finish_drain(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    if (c->marks & (MARK_RECEIVING | MARK_SENDING))
        return;
    w->driver->ops->close(w->driver, c->file);
    wsr_echo_queue_clear(&c->queue, &w->pool);
    wsr_echo_queue_clear(&c->sealed, &w->pool);
    wsr_echo_tls_free(c->tls);
    c->tls = NULL;
    free(c->head);
    c->head = NULL;
    enter(c, CONN_FREE);
    w->conns_live--;
    if (c->marks == 0) {         /* else a list still holds the slot, and takes it off at the end of the batch */
        c->next_free = w->free_slot;
        w->free_slot = slot_of(w, c);
    }
}

/* A slot that was freed while a list held it is free for use only now. */
static void leave_list(struct wsr_echo_worker *w, struct wsr_echo_conn *c, enum conn_mark mark)
{
    c->marks &= (uint8_t)~mark;
    if (c->state == CONN_FREE && c->marks == 0) {
        c->next_free = w->free_slot;
        w->free_slot = slot_of(w, c);
    }
}

/* Ask for the end of what is in flight; what the kernel has taken is still delivered. For a descriptor, a shutdown of
 * both directions does that. */
static void end_operations(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    if (!w->server->options->direct) {
        (void)shutdown(c->file, SHUT_RDWR);      /* refused only when the connection is gone: then they end anyway */
        return;
    }
    if (c->marks & MARK_RECEIVING)
        w->driver->ops->cancel(w->driver, token_of(w, c, OPERATION_RECV));
    if (c->marks & MARK_SENDING)
        w->driver->ops->cancel(w->driver, token_of(w, c, OPERATION_SEND));
}

static void drain(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    enter(c, CONN_DRAINING);
    c->marks &= (uint8_t)~MARK_PAUSED;
    if (c->marks & (MARK_RECEIVING | MARK_SENDING))
        end_operations(w, c);
    finish_drain(w, c);
}

/* ---- Receiving and sending ---- */

static void receive(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    assert(!(c->marks & MARK_RECEIVING));
    c->marks |= MARK_RECEIVING;
    w->driver->ops->recv(w->driver, c->file, token_of(w, c, OPERATION_RECV));
}

static void mark_dirty(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    if (c->marks & (MARK_DIRTY | MARK_SENDING))
        return;
    c->marks |= MARK_DIRTY;
    c->next_dirty = w->dirty_slot;
    w->dirty_slot = slot_of(w, c);
}

static void mark_starved(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    if (c->marks & MARK_STARVED)
        return;
    c->marks |= MARK_STARVED;
    c->next_starved = w->starved_slot;
    w->starved_slot = slot_of(w, c);
}

/* All that waits, and with the last of it close_notify. */
static int seal(struct wsr_echo_conn *c)
{
    int rc = wsr_echo_tls_seal(c->tls, &c->queue, &c->sealed);
    if (rc == 0 && c->state == CONN_ENDING)
        wsr_echo_tls_close(c->tls, &c->sealed);
    return rc;
}

static void send_more(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    if (c->tls && seal(c) < 0) {
        drain(w, c);
        return;
    }
    struct iovec parts[SEND_PARTS_MAX];
    size_t count = wsr_echo_queue_parts(wire_of(c), parts, SEND_PARTS_MAX);
    if (count == 0) {
        if (c->state == CONN_ENDING)
            drain(w, c);
        return;
    }
    assert(!(c->marks & MARK_SENDING));
    c->marks |= MARK_SENDING;
    w->driver->ops->send(w->driver, c->file, parts, count, token_of(w, c, OPERATION_SEND));
}

/* Nothing more is to be read from this client; what is queued still goes out. */
static void end(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    enter(c, CONN_ENDING);
    mark_dirty(w, c);
}

static void limit_queue(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    if (waiting_bytes(c) <= HIGH_BYTES || (c->marks & MARK_PAUSED))
        return;
    c->marks |= MARK_PAUSED;
    if (c->marks & MARK_RECEIVING)
        w->driver->ops->cancel(w->driver, token_of(w, c, OPERATION_RECV));
}

/* ---- What came in ---- */

static int answer_upgrade(struct wsr_echo_worker *w, struct wsr_echo_conn *c, struct wsr_echo_http_request *request)
{
    char answer[WSR_ECHO_HTTP_ANSWER_CHARS];
    if (w->server->options->no_subprotocol)
        request->protocol.len = 0;
    char extensions[WSR_DEFLATE_ANSWER_MAX];
    const struct wsr_deflate_offer *limits = w->server->options->deflate;
    if (limits && wsr_echo_deflate_agree(extensions, limits, request->extensions, request->extensions_count)) {
        request->agreed_extensions = extensions;
        c->stream.deflates = true;
        w->counts.deflates++;
    }
    int len = wsr_echo_http_accept(answer, request);
    if (len < 0)
        return len;
    enter(c, CONN_OPEN);
    w->counts.connections++;
    return wsr_echo_queue_append(&c->queue, &w->pool, answer, (size_t)len);
}

static int refuse_upgrade(struct wsr_echo_worker *w, struct wsr_echo_conn *c, const char *why)
{
    char answer[WSR_ECHO_HTTP_ANSWER_CHARS];
    int len = wsr_echo_http_refuse(answer, why);
    w->counts.refused++;
    int rc = wsr_echo_queue_append(&c->queue, &w->pool, answer, (size_t)len);
    end(w, c);
    return rc;
}

/* Put @in behind the pieces of the request that came before. */
static int keep_head(struct wsr_echo_conn *c, const uint8_t *in, size_t len)
{
    uint8_t *head = realloc(c->head, c->head_bytes + len);
    if (!head)
        return WSR_ERR_MEMORY;
    memcpy(head + c->head_bytes, in, len);
    c->head = head;
    c->head_bytes += len;
    return 0;
}

static int feed_frames(struct wsr_echo_worker *w, struct wsr_echo_conn *c, const uint8_t *in, size_t len)
{
    int rc = wsr_echo_stream_feed(&c->stream, in, len, &c->queue, &w->pool, &w->counts);
    if (rc == 0 && c->stream.state == WSR_ECHO_STREAM_ENDED)
        end(w, c);
    return rc;
}

static int feed_upgrade(struct wsr_echo_worker *w, struct wsr_echo_conn *c, const uint8_t *in, size_t len)
{
    if (c->head) {
        int rc = keep_head(c, in, len);
        if (rc < 0)
            return rc;
        in = c->head;
        len = c->head_bytes;
    }
    struct wsr_echo_http_request request;
    const char *why;
    ptrdiff_t head_bytes = wsr_echo_http_parse(&request, in, len, &c->head_scanned, &why);
    if (head_bytes < 0)
        return refuse_upgrade(w, c, why);
    if (head_bytes == 0)
        return c->head ? 0 : keep_head(c, in, len);
    int rc = answer_upgrade(w, c, &request);
    if (rc == 0 && len > (size_t)head_bytes)
        rc = feed_frames(w, c, in + head_bytes, len - (size_t)head_bytes);
    free(c->head);
    c->head = NULL;
    return rc;
}

static void feed(struct wsr_echo_worker *w, struct wsr_echo_conn *c, const uint8_t *in, size_t len)
{
    int rc = 0;
    if (c->state == CONN_UPGRADING)
        rc = feed_upgrade(w, c, in, len);
    else if (c->state == CONN_OPEN)
        rc = feed_frames(w, c, in, len);
    if (rc < 0) {
        drain(w, c);
        return;
    }
    if (c->queue.bytes > 0)
        mark_dirty(w, c);
    limit_queue(w, c);
}

static void feed_tls(struct wsr_echo_worker *w, struct wsr_echo_conn *c, uint8_t *in, size_t len)
{
    while (len > 0 && (c->state == CONN_UPGRADING || c->state == CONN_OPEN)) {
        struct wsr_echo_tls_event event;
        size_t used = wsr_echo_tls_feed(c->tls, in, len, &c->sealed, &event);
        in += used;
        len -= used;
        if (event.type == WSR_TLS_EVENT_DATA)
            feed(w, c, event.data.data, event.data.len);
        else if (event.type != WSR_TLS_EVENT_NOTHING)
            end(w, c);
    }
    if (c->sealed.bytes > 0 && c->state != CONN_DRAINING)      /* of the handshake, or an alert */
        mark_dirty(w, c);
}

/* The receive ended without an error of the connection: it was cancelled for back-pressure, or the kernel ended
 * the multishot. */
static void receive_again(struct wsr_echo_worker *w, struct wsr_echo_conn *c)
{
    if ((c->state == CONN_UPGRADING || c->state == CONN_OPEN) && !(c->marks & (MARK_PAUSED | MARK_RECEIVING)))
        receive(w, c);
}

static void on_recv(struct wsr_echo_worker *w, struct wsr_echo_conn *c, const struct wsr_completion *done)
{
    if (!(done->flags & WSR_COMPLETION_MORE))
        c->marks &= (uint8_t)~MARK_RECEIVING;
    if (done->flags & WSR_COMPLETION_BUFFER) {
        uint8_t *in = w->buffers + (size_t)done->buffer * w->server->options->buffer_bytes;
        if (done->result > 0 && c->state != CONN_DRAINING) {
            if (c->tls)
                feed_tls(w, c, in, (size_t)done->result);
            else
                feed(w, c, in, (size_t)done->result);
        }
        w->driver->ops->give(w->driver, done->buffer);
    }
    if (c->state == CONN_FREE)
        return;
    if (c->state == CONN_DRAINING) {
        if (c->marks & MARK_RECEIVING)
            end_operations(w, c);      /* this completion was just on its way, so that a cancel missed its operation */
        finish_drain(w, c);
    } else if (done->result > 0 || (done->result == -ECANCELED && (c->marks & MARK_PAUSED))) {
        receive_again(w, c);
    } else if (done->result == -ENOBUFS || done->result == -ECANCELED) {
        mark_starved(w, c);      /* the buffers of this batch go back first */
    } else if (done->result == 0 && c->state != CONN_ENDING) {
        end(w, c);               /* the client sends no more, but may still read */
    } else if (done->result < 0) {
        drain(w, c);
    }
}

static void on_send(struct wsr_echo_worker *w, struct wsr_echo_conn *c, const struct wsr_completion *done)
{
    c->marks &= (uint8_t)~MARK_SENDING;
    if (done->result > 0)
        wsr_echo_queue_sent(wire_of(c), &w->pool, (size_t)done->result);
    if (c->state == CONN_DRAINING) {
        finish_drain(w, c);
        return;
    }
    if (done->result < 0 && done->result != -ECANCELED && done->result != -EAGAIN) {
        drain(w, c);
        return;
    }
    if ((c->marks & MARK_PAUSED) && waiting_bytes(c) < LOW_BYTES) {
        c->marks &= (uint8_t)~MARK_PAUSED;
        receive_again(w, c);
    }
    if (waiting_bytes(c) > 0 || c->state == CONN_ENDING)
        mark_dirty(w, c);
}

/* ---- New connections ---- */

static struct wsr_echo_conn *take_slot(struct wsr_echo_worker *w)
{
    if (w->free_slot != SLOT_NONE) {
        struct wsr_echo_conn *c = &w->conns[w->free_slot];
        w->free_slot = c->next_free;
        return c;
    }
    return w->conns_used < SLOTS_MAX ? &w->conns[w->conns_used++] : NULL;
}

static void adopt(struct wsr_echo_worker *w, wsr_file file)
{
    struct wsr_echo_tls *tls = w->server->tls ? wsr_echo_tls_create(&w->tls) : NULL;
    struct wsr_echo_conn *c = tls || !w->server->tls ? take_slot(w) : NULL;
    if (!c) {
        wsr_echo_tls_free(tls);
        w->driver->ops->close(w->driver, file);
        return;
    }
    uint32_t generation = (c->generation + 1) & GENERATION_MASK;
    assert(c->state == CONN_FREE && c->marks == 0);
    *c = (struct wsr_echo_conn){ .file = file, .generation = generation, .tls = tls };
    enter(c, CONN_UPGRADING);
    w->conns_live++;
    receive(w, c);
}

static void accept_more(struct wsr_echo_worker *w)
{
    w->accept_rests = false;
    w->driver->ops->accept(w->driver, w->listener, (uint64_t)OPERATION_ACCEPT << 60);
}

static void on_accept(struct wsr_echo_worker *w, const struct wsr_completion *done)
{
    if (done->result >= 0)
        adopt(w, done->result);
    if (done->flags & WSR_COMPLETION_MORE)
        return;
    if (done->result < 0 && done->result != -ECONNABORTED)
        w->accept_rests = true;      /* out of descriptors, most likely: not again at once */
    else
        accept_more(w);
}

/* ---- The loop ---- */

static void take_completion(struct wsr_echo_worker *w, const struct wsr_completion *done)
{
    enum operation operation = (enum operation)(done->token >> 60);
    if (operation == OPERATION_ACCEPT) {
        on_accept(w, done);
        return;
    }
    struct wsr_echo_conn *c = &w->conns[(uint32_t)done->token];
    assert(c->generation == (uint32_t)(done->token >> 32 & GENERATION_MASK) && c->state != CONN_FREE);
    if (operation == OPERATION_RECV)
        on_recv(w, c, done);
    else
        on_send(w, c, done);
}

static void flush_dirty(struct wsr_echo_worker *w)
{
    uint32_t slot = w->dirty_slot;
    w->dirty_slot = SLOT_NONE;
    while (slot != SLOT_NONE) {
        struct wsr_echo_conn *c = &w->conns[slot];
        slot = c->next_dirty;
        leave_list(w, c, MARK_DIRTY);
        if (c->state != CONN_FREE && c->state != CONN_DRAINING && !(c->marks & MARK_SENDING))
            send_more(w, c);
    }
}

static void feed_starved(struct wsr_echo_worker *w)
{
    uint32_t slot = w->starved_slot;
    w->starved_slot = SLOT_NONE;
    while (slot != SLOT_NONE) {
        struct wsr_echo_conn *c = &w->conns[slot];
        slot = c->next_starved;
        leave_list(w, c, MARK_STARVED);
        receive_again(w, c);
    }
}

static bool must_stop(const struct wsr_echo_worker *w)
{
    /* Relaxed: the wake() that follows the store in echo.c brings every worker here again. */
    return atomic_load_explicit(&w->server->stop, memory_order_relaxed);
}

static void spin(struct wsr_echo_worker *w)
{
    while (!w->driver->ops->ready(w->driver) && !must_stop(w) && !w->accept_rests)
        ;
}

static void loop(struct wsr_echo_worker *w)
{
    const struct wsr_driver_ops *ops = w->driver->ops;
    struct wsr_completion done[COMPLETIONS_MAX];
    bool spins = w->server->options->spin;
    while (!must_stop(w)) {
        uint64_t until = w->accept_rests ? ops->now(w->driver) + ACCEPT_REST_NS : spins ? 0 : WSR_NEVER;
        int count = ops->wait(w->driver, done, COMPLETIONS_MAX, until);
        if (count < 0) {
            fprintf(stderr, "wsring echo: worker %u stops: the kernel ring failed: %s\n", w->index, strerror(-count));
            return;
        }
        for (int i = 0; i < count; i++)
            take_completion(w, &done[i]);
        if (w->accept_rests && count == 0)
            accept_more(w);
        flush_dirty(w);
        feed_starved(w);
        if (spins && count == 0)
            spin(w);
    }
}

/* ---- Start and stop ---- */

static int __attribute__((format(printf, 2, 3))) give_up(struct wsr_echo_worker *w, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(w->error, sizeof w->error, format, arguments);
    va_end(arguments);
    return -1;
}

static int start(struct wsr_echo_worker *w)
{
    const struct wsr_echo_options *options = w->server->options;
    struct wsr_uring_report report;
    w->free_slot = w->dirty_slot = w->starved_slot = SLOT_NONE;
    w->pool.block_bytes = w->server->tls ? WSR_ECHO_TLS_BLOCK_BYTES : WSR_ECHO_BLOCK_BYTES;
    const struct wsr_uring_options driver_options = { .direct_count = options->direct ? SLOTS_MAX : 0 };
    int rc = wsr_uring_create(&w->driver, &driver_options, &report);
    if (rc < 0)
        return give_up(w, "%s", report.text);
    w->conns = calloc(SLOTS_MAX, sizeof *w->conns);
    w->buffers = aligned_alloc(4096, (options->buffers_count * options->buffer_bytes + 4095) & ~(size_t)4095);
    if (!w->conns || !w->buffers)
        return give_up(w, "no memory for %u receive buffers; give a smaller --buffers",
                       (unsigned)options->buffers_count);
    rc = w->driver->ops->provide(w->driver, w->buffers, (uint32_t)options->buffer_bytes,
                                 (uint32_t)options->buffers_count);
    if (rc < 0)
        return give_up(w, "the kernel refused the receive buffers: %s", strerror(-rc));
    if (w->server->tls && wsr_echo_tls_shared_init(&w->tls, w->server->tls, &w->pool) < 0)
        return give_up(w, "no memory for TLS");
    accept_more(w);
    return 0;
}

static void stop(struct wsr_echo_worker *w)
{
    if (w->driver)
        w->driver->ops->destroy(w->driver);
    for (uint32_t slot = 0; slot < w->conns_used; slot++) {
        free(w->conns[slot].head);
        wsr_echo_tls_free(w->conns[slot].tls);
    }
    wsr_echo_tls_shared_free(&w->tls);
    wsr_echo_pool_free(&w->pool);
    free(w->conns);
    free(w->buffers);
}

void *wsr_echo_worker_run(void *argument)
{
    struct wsr_echo_worker *w = argument;
    int rc = start(w);
    sem_post(&w->server->ready);
    if (rc == 0)
        loop(w);
    while (sem_wait(&w->server->leave) < 0)
        ;
    stop(w);
    return NULL;
}
