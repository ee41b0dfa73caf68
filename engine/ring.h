/* The two rings between an application and a worker. Events go one way through slots of one cache line each; commands
 * go the other way as a linked queue whose nodes lie in what they carry (a send chunk, a socket), so that it is never
 * full. */
#ifndef WSR_RING_H
#define WSR_RING_H

#include <stdatomic.h>

#include "base.h"

_Static_assert(sizeof(struct wsr_event) == WSR_CACHE_LINE, "an event is one cache line");

/* Single producer, single consumer. The consumer's read index is also how lent memory comes back. */
struct wsr_ring_spsc {
    struct wsr_event *slots;
    uint64_t mask;
    uint64_t origin;                                         /* position of slots[0]; see wsr_ring_spsc_rewind() */

    /* Producer. */
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint64_t tail;       /* slots below it are published; read by the consumer */
    WSR_ALIGNED(WSR_CACHE_LINE) uint64_t write;              /* next slot to fill; tail follows at publication */
    uint64_t reclaimed;                                      /* copy of released: slots below it may be filled again */

    /* Consumer. */
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint64_t released;   /* slots below it are the producer's again; read by it */
    WSR_ALIGNED(WSR_CACHE_LINE) uint64_t read;               /* next slot to take */
    uint64_t tail_seen;                                      /* copy of tail */
};

/* @count is a power of two. Returns 0 or WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_ring_spsc_init(struct wsr_ring_spsc *ring, uint32_t count);
void wsr_ring_spsc_free(struct wsr_ring_spsc *ring);

/* Producer: the next slot to fill, or NULL when the ring is full. It is kept by wsr_ring_spsc_push(). */
static inline struct wsr_event *wsr_ring_spsc_slot(struct wsr_ring_spsc *ring)
{
    if (WSR_UNLIKELY(ring->write - ring->reclaimed > ring->mask))
        return NULL;
    return &ring->slots[(ring->write - ring->origin) & ring->mask];
}

static inline void wsr_ring_spsc_push(struct wsr_ring_spsc *ring)
{
    ring->write++;
}

/* The same for many at once: how many slots are free, the @index-th of them, and pushing the first @count. Who fills
 * them keeps its place in a register, where one after the other would wait for the ring's memory. */
static inline uint64_t wsr_ring_spsc_writable(const struct wsr_ring_spsc *ring)
{
    return ring->mask + 1 - (ring->write - ring->reclaimed);
}

static inline struct wsr_event *wsr_ring_spsc_slot_at(const struct wsr_ring_spsc *ring, uint64_t index)
{
    return &ring->slots[(ring->write - ring->origin + index) & ring->mask];
}

static inline void wsr_ring_spsc_push_many(struct wsr_ring_spsc *ring, uint64_t count)
{
    ring->write += count;
}

/* Producer: publish all that was pushed. Returns whether there was anything. */
static inline bool wsr_ring_spsc_publish(struct wsr_ring_spsc *ring)
{
    /* Only the producer writes tail, so its own copy needs no order. */
    if (atomic_load_explicit(&ring->tail, memory_order_relaxed) == ring->write)
        return false;
    /* Publishes the slots written above; pairs with the acquire load in wsr_ring_spsc_peek(). */
    atomic_store_explicit(&ring->tail, ring->write, memory_order_release);
    return true;
}

/* Producer: take note of what the consumer has given back. Returns the position up to which it is done with all. */
static inline uint64_t wsr_ring_spsc_reclaim(struct wsr_ring_spsc *ring)
{
    /* Pairs with the release store in wsr_ring_spsc_release(). */
    ring->reclaimed = atomic_load_explicit(&ring->released, memory_order_acquire);
    return ring->reclaimed;
}

/* Producer: is it time to take note, so that the ring is never full for want of it? Each look costs a line of the cache
 * that the other side has just written. */
static inline bool wsr_ring_spsc_is_half_full(const struct wsr_ring_spsc *ring)
{
    return ring->write - ring->reclaimed > ring->mask / 2;
}

/* Both sides are one thread: when nothing is between them, begin again with the first slot, which lies in the cache. */
static inline void wsr_ring_spsc_rewind(struct wsr_ring_spsc *ring)
{
    if (ring->write == ring->reclaimed)
        ring->origin = ring->write;
}

/* Consumer: the next slot to take, or NULL. It stays the consumer's until wsr_ring_spsc_release(). */
static inline struct wsr_event *wsr_ring_spsc_peek(struct wsr_ring_spsc *ring)
{
    if (ring->read == ring->tail_seen) {
        /* Pairs with the release store in wsr_ring_spsc_publish(). */
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (ring->read == ring->tail_seen)
            return NULL;
    }
    return &ring->slots[(ring->read - ring->origin) & ring->mask];
}

static inline void wsr_ring_spsc_take(struct wsr_ring_spsc *ring)
{
    ring->read++;
}

/* The same for many at once: how many can be taken, at least one unless there is none; the @index-th of them; and
 * taking the first @count. */
static inline uint64_t wsr_ring_spsc_readable(struct wsr_ring_spsc *ring)
{
    return wsr_ring_spsc_peek(ring) == NULL ? 0 : ring->tail_seen - ring->read;
}

static inline const struct wsr_event *wsr_ring_spsc_peek_at(const struct wsr_ring_spsc *ring, uint64_t index)
{
    return &ring->slots[(ring->read - ring->origin + index) & ring->mask];
}

static inline void wsr_ring_spsc_take_many(struct wsr_ring_spsc *ring, uint64_t count)
{
    ring->read += count;
}

/* Consumer: give back all that was taken. Returns whether there was anything. */
static inline bool wsr_ring_spsc_release(struct wsr_ring_spsc *ring)
{
    /* Only the consumer writes released, so its own copy needs no order. */
    if (atomic_load_explicit(&ring->released, memory_order_relaxed) == ring->read)
        return false;
    /* The consumer's reads of the slots come before; pairs with the acquire load in wsr_ring_spsc_reclaim(). */
    atomic_store_explicit(&ring->released, ring->read, memory_order_release);
    return true;
}

struct wsr_ring_node {
    _Atomic(struct wsr_ring_node *) next;
};

/* Many producers, one consumer: D. Vyukov's intrusive queue. A push is one exchange and never fails. */
struct wsr_ring_mpsc {
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic(struct wsr_ring_node *) last;
    WSR_ALIGNED(WSR_CACHE_LINE) struct wsr_ring_node *first;
    struct wsr_ring_node sentinel;
};

void wsr_ring_mpsc_init(struct wsr_ring_mpsc *ring);

/* Any thread. The node is the ring's until it was popped. */
void wsr_ring_mpsc_push(struct wsr_ring_mpsc *ring, struct wsr_ring_node *node);

/* Consumer: the oldest node; NULL when empty, or when a producer is between its two steps: it will wake the consumer
 * then. */
struct wsr_ring_node *wsr_ring_mpsc_pop(struct wsr_ring_mpsc *ring);

/* Consumer: is nothing there, not even half pushed? */
bool wsr_ring_mpsc_is_empty(const struct wsr_ring_mpsc *ring);

#endif
