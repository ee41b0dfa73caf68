/* Filling event slots, and emptying them. */
#include "deliver.h"

#include <stdlib.h>

#include "pieces.h"

int wsr_deliver_init(struct wsr_deliver *deliver, uint32_t events_count)
{
    deliver->lent = malloc(events_count * sizeof *deliver->lent);
    if (deliver->lent == NULL)
        return WSR_ERR_MEMORY;
    return wsr_ring_spsc_init(&deliver->events, events_count);
}

void wsr_deliver_free(struct wsr_deliver *deliver)
{
    wsr_ring_spsc_free(&deliver->events);
    free(deliver->lent);
    deliver->lent = NULL;
}

static void count(_Atomic uint64_t *counter, uint64_t by)
{
    /* One writer: see wsr_deliver. */
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed) + by;
    atomic_store_explicit(counter, now, memory_order_relaxed);
}

/* Pairs with the acquire load in add_worker() of engine.c: who sees the copy sees its message. */
static void count_copy(struct wsr_deliver *deliver)
{
    uint64_t now = atomic_load_explicit(&deliver->copied, memory_order_relaxed) + 1;
    atomic_store_explicit(&deliver->copied, now, memory_order_release);
}

static struct wsr_event *next_slot(struct wsr_deliver *deliver, struct wsr_socket *socket, uint8_t type)
{
    struct wsr_event *event = wsr_ring_spsc_slot(&deliver->events);
    assert(event != NULL);
    *event = (struct wsr_event){ .type = type, .socket = socket, .received_ns = deliver->now_ns, .text = "" };
    wsr_ring_spsc_push(&deliver->events);
    return event;
}

/* The event pushed last lends @loan: one use of it, the caller's, is to end when the consumer has passed the event. */
static void lend(struct wsr_deliver *deliver, struct wsr_loan *loan)
{
    struct wsr_deliver_lent *entry = &deliver->lent[deliver->lent_last++ & deliver->events.mask];
    *entry = (struct wsr_deliver_lent){ loan, deliver->events.write };
}

/* The same for events that point into @buffer: the use is made here, unless the events before have it already. */
static void lend_buffer(struct wsr_deliver *deliver, struct wsr_loan *buffer)
{
    struct wsr_deliver_lent *newest = &deliver->lent[(deliver->lent_last - 1) & deliver->events.mask];
    if (deliver->lent_first != deliver->lent_last && newest->loan == buffer) {
        newest->until = deliver->events.write;
    } else {
        wsr_pool_use(buffer);
        if (WSR_UNLIKELY(buffer->is_block) && !buffer->is_lent)     /* a record of TLS */
            wsr_pool_lend_block(buffer);
        lend(deliver, buffer);
    }
}

void wsr_deliver_plain(struct wsr_deliver *deliver, struct wsr_socket *socket, uint8_t type)
{
    next_slot(deliver, socket, type);
}

/* A block with a copy of @data, NULL without memory. */
static struct wsr_loan *copy_out(struct wsr_deliver *deliver, struct wsr_bytes data)
{
    struct wsr_loan *block = wsr_pool_block(deliver->pool, data.len);
    if (block != NULL)
        memcpy(wsr_pool_block_bytes(block), data.data, data.len);
    return block;
}

void wsr_deliver_message(struct wsr_deliver *deliver, struct wsr_socket *socket, uint8_t kind, struct wsr_bytes data,
                         struct wsr_loan *buffer, uint8_t *block)
{
    struct wsr_event *event = next_slot(deliver, socket, WSR_EVENT_MESSAGE);
    event->kind = kind;
    event->len = data.len;
    count(&deliver->messages, 1);
    count(&deliver->messages_bytes, data.len);
    if (data.len == 0) {
        assert(block == NULL);
        return;
    }
    event->data = data.data;
    struct wsr_loan *loan = block != NULL ? wsr_pool_block_of(block) : NULL;
    const struct wsr_pieces *pieces = loan != NULL ? wsr_pieces_of(loan) : NULL;
    if (WSR_UNLIKELY(pieces != NULL)) {
        wsr_pieces_lend(loan);
        if (pieces->is_copied)
            count_copy(deliver);
        event->loan = loan;
        lend(deliver, loan);
        return;
    }
    if (loan == NULL && !buffer->is_block && WSR_UNLIKELY(wsr_pool_is_tight(deliver->pool))) {
        loan = copy_out(deliver, data);
        if (loan != NULL)
            event->data = wsr_pool_block_bytes(loan);
    }
    if (loan != NULL) {
        wsr_pool_lend_block(loan);
        count_copy(deliver);
        lend(deliver, loan);
    } else {
        loan = buffer;
        lend_buffer(deliver, buffer);
    }
    event->loan = loan;
}

void wsr_deliver_end_run(struct wsr_deliver *deliver, const struct wsr_deliver_run *run)
{
    if (run->count == 0)
        return;
    wsr_ring_spsc_push_many(&deliver->events, run->count);
    count(&deliver->messages, run->count);
    count(&deliver->messages_bytes, run->bytes);
    lend_buffer(deliver, run->event.loan);
}

void wsr_deliver_pong(struct wsr_deliver *deliver, struct wsr_socket *socket, struct wsr_bytes payload,
                      uint64_t rtt_ns)
{
    struct wsr_event *event = next_slot(deliver, socket, WSR_EVENT_PONG);
    struct wsr_loan *block = payload.len > 0 ? copy_out(deliver, payload) : NULL;
    event->rtt_ns = rtt_ns;
    if (block == NULL)
        return;
    wsr_pool_lend_block(block);
    lend(deliver, block);
    event->loan = block;
    event->data = wsr_pool_block_bytes(block);
    event->len = payload.len;
}

static void fill_end(struct wsr_event *event, const struct wsr_deliver_end *end)
{
    event->http_status = end->http_status;
    event->system_errno = end->system_errno;
    event->stage = end->stage;
    if (end->failure_text != NULL)
        event->text = end->failure_text;
}

void wsr_deliver_close(struct wsr_deliver *deliver, struct wsr_socket *socket, const struct wsr_deliver_end *end)
{
    assert(wsr_deliver_has_room(deliver, 2));
    if (end->failure_text != NULL)
        fill_end(next_slot(deliver, socket, WSR_EVENT_ERROR), end);
    struct wsr_event *event = next_slot(deliver, socket, WSR_EVENT_CLOSE);
    fill_end(event, end);
    event->code = end->code;
    event->was_clean = end->was_clean;
    if (end->reason != NULL) {
        event->data = wsr_pool_block_bytes(end->reason);
        event->len = end->reason_bytes;
        event->loan = end->reason;
        wsr_pool_lend_block(end->reason);
        lend(deliver, end->reason);
    }
}

void wsr_deliver_reclaim(struct wsr_deliver *deliver)
{
    uint64_t passed = wsr_ring_spsc_reclaim(&deliver->events);
    while (deliver->lent_first != deliver->lent_last) {
        const struct wsr_deliver_lent *oldest = &deliver->lent[deliver->lent_first & deliver->events.mask];
        if (oldest->until > passed)
            return;
        deliver->lent_first++;
        wsr_pool_unuse(oldest->loan);
    }
    deliver->lent_first = deliver->lent_last = 0;      /* entries that lie in the cache */
}
