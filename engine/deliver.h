/* What the worker tells the application: events into the message ring, and the memory that they lend back out of it. */
#ifndef WSR_DELIVER_H
#define WSR_DELIVER_H

#include "pool.h"
#include "ring.h"

/* Events that only the socket sees; the application never does. */
enum wsr_deliver_type {
    WSR_DELIVER_CLOSING = 32,    /* the server's Close came: readyState becomes CLOSING (CTL-10) */
    WSR_DELIVER_GONE = 33        /* the last event of a destroyed socket: nothing refers to it any more */
};

/* How a connection ended. */
struct wsr_deliver_end {
    const char *failure_text;    /* static; NULL = no failure, no error event */
    int32_t system_errno;
    uint16_t http_status;
    uint16_t code;
    uint8_t stage;
    bool was_clean;
    struct wsr_loan *reason;     /* block in use once, which passes to the event; NULL = empty */
    uint8_t reason_bytes;
};

/* Memory that events have lent: one entry for all events in a row that point into the same. */
struct wsr_deliver_lent {
    struct wsr_loan *loan;       /* in use once */
    uint64_t until;              /* position of the ring that the consumer has to pass */
};

struct wsr_deliver {
    struct wsr_ring_spsc events;
    struct wsr_pool *pool;
    struct wsr_deliver_lent *lent;       /* as many as slots, so that there is always room */
    uint64_t lent_first, lent_last;
    uint64_t now_ns;             /* of the completions at hand: received_ns of the events */
    /* Written by the worker alone, read by statistics: numbers alone, but that copied never overtakes messages. */
    _Atomic uint64_t messages, messages_bytes, copied;
};

/* With @events_count slots, a power of two. Returns 0 or WSR_ERR_MEMORY; to be freed in both cases. */
WSR_MUST_USE int wsr_deliver_init(struct wsr_deliver *deliver, uint32_t events_count);
void wsr_deliver_free(struct wsr_deliver *deliver);

/* Is there room for @count more events? */
static inline bool wsr_deliver_has_room(const struct wsr_deliver *deliver, uint64_t count)
{
    return deliver->events.write + count - deliver->events.reclaimed <= deliver->events.mask + 1;
}

/* Can a message be delivered now, and an end besides? When not, the consumer is behind: receiving rests. */
static inline bool wsr_deliver_has_message_room(const struct wsr_deliver *deliver)
{
    return wsr_deliver_has_room(deliver, 3) && !wsr_pool_is_full(deliver->pool);
}

/* Have all events up to the present one been passed by the consumer? For RECV-12. The lower half of the ring's position
 * is enough: there are at most 2^24 slots, and whoever waits asks in every turn. */
static inline uint32_t wsr_deliver_position(const struct wsr_deliver *deliver)
{
    return (uint32_t)deliver->events.write;
}
static inline bool wsr_deliver_has_passed(const struct wsr_deliver *deliver, uint32_t position)
{
    return (int32_t)((uint32_t)deliver->events.reclaimed - position) >= 0;
}

/* An event without memory: OPEN, WRITABLE, CLOSING, GONE. There is room. */
void wsr_deliver_plain(struct wsr_deliver *deliver, struct wsr_socket *socket, uint8_t type);
/*
 * A message: inside @buffer, of which the caller has a use, or inside @block (session memory), which passes to the
 * event; @data.data is NULL when @block is a list of pieces. While buffers are scarce the bytes are copied instead of
 * lent. There is room.
 */
void wsr_deliver_message(struct wsr_deliver *deliver, struct wsr_socket *socket, uint8_t kind, struct wsr_bytes data,
                         struct wsr_loan *buffer, uint8_t *block);

/*
 * Many messages of one socket in one buffer, of which the caller has a use: begin, push each, end. Between the two
 * nothing else is delivered. At most wsr_deliver_run_room() of them; it is 0 when they are to be copied.
 */
struct wsr_deliver_run {
    struct wsr_event event;      /* what all of them have in common */
    const struct wsr_ring_spsc *events;
    uint64_t count, bytes;
};

static inline uint64_t wsr_deliver_run_room(const struct wsr_deliver *deliver)
{
    const struct wsr_ring_spsc *events = &deliver->events;
    uint64_t taken = events->write - events->reclaimed + 2;      /* an end fits behind, see has_message_room */
    if (wsr_pool_is_full(deliver->pool) || wsr_pool_is_tight(deliver->pool) || taken > events->mask)
        return 0;
    return events->mask + 1 - taken;
}

static inline struct wsr_deliver_run wsr_deliver_begin_run(const struct wsr_deliver *deliver,
                                                           struct wsr_socket *socket, struct wsr_loan *buffer)
{
    return (struct wsr_deliver_run){
        .event = { .type = WSR_EVENT_MESSAGE, .socket = socket, .received_ns = deliver->now_ns, .text = "",
                   .loan = buffer },
        .events = &deliver->events
    };
}

/* @data is not empty. */
static inline void wsr_deliver_push_run(struct wsr_deliver_run *run, uint8_t kind, struct wsr_bytes data)
{
    struct wsr_event *slot = wsr_ring_spsc_slot_at(run->events, run->count);
    /* What they have in common is never written in between: it would be read back wider than it was stored. */
    *slot = run->event;
    slot->kind = kind;
    slot->data = data.data;
    slot->len = data.len;
    run->count++;
    run->bytes += data.len;
}

void wsr_deliver_end_run(struct wsr_deliver *deliver, const struct wsr_deliver_run *run);

/* A Pong: its payload is copied, as far as there is memory. There is room. */
void wsr_deliver_pong(struct wsr_deliver *deliver, struct wsr_socket *socket, struct wsr_bytes payload,
                      uint64_t rtt_ns);
/* [error], close: needs room for 2. */
void wsr_deliver_close(struct wsr_deliver *deliver, struct wsr_socket *socket, const struct wsr_deliver_end *end);

/* Take back what the events that the consumer has passed had lent. */
void wsr_deliver_reclaim(struct wsr_deliver *deliver);
/* Would that be of use to the ring or the pool? */
static inline bool wsr_deliver_wants_reclaim(const struct wsr_deliver *deliver)
{
    return deliver->lent_first != deliver->lent_last || wsr_ring_spsc_is_half_full(&deliver->events);
}

#endif
