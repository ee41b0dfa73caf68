/* Making the rings, and the command queue. The event ring's hot path is inline in ring.h. */
#include "ring.h"

#include <stdlib.h>

int wsr_ring_spsc_init(struct wsr_ring_spsc *ring, uint32_t count)
{
    assert(count >= 2 && (count & (count - 1)) == 0);
    memset(ring, 0, sizeof *ring);
    ring->slots = aligned_alloc(WSR_CACHE_LINE, (size_t)count * sizeof *ring->slots);
    if (ring->slots == NULL)
        return WSR_ERR_MEMORY;
    ring->mask = count - 1;
    return 0;
}

void wsr_ring_spsc_free(struct wsr_ring_spsc *ring)
{
    free(ring->slots);
    ring->slots = NULL;
}

void wsr_ring_mpsc_init(struct wsr_ring_mpsc *ring)
{
    atomic_init(&ring->sentinel.next, NULL);
    atomic_init(&ring->last, &ring->sentinel);
    ring->first = &ring->sentinel;
}

void wsr_ring_mpsc_push(struct wsr_ring_mpsc *ring, struct wsr_ring_node *node)
{
    /* Ordered before the exchange below, which publishes it. */
    atomic_store_explicit(&node->next, NULL, memory_order_relaxed);
    /* Release orders the node's contents before the link below; acquire takes over `before` from the push that made
     * it. */
    struct wsr_ring_node *before = atomic_exchange_explicit(&ring->last, node, memory_order_acq_rel);
    /* Until this store the queue is cut between the two; pairs with the acquire loads in wsr_ring_mpsc_pop(). */
    atomic_store_explicit(&before->next, node, memory_order_release);
}

struct wsr_ring_node *wsr_ring_mpsc_pop(struct wsr_ring_mpsc *ring)
{
    struct wsr_ring_node *first = ring->first;
    /* Pairs with the release store at the end of wsr_ring_mpsc_push(); so do the two loads below. */
    struct wsr_ring_node *next = atomic_load_explicit(&first->next, memory_order_acquire);
    if (first == &ring->sentinel) {
        if (next == NULL)
            return NULL;
        ring->first = first = next;
        next = atomic_load_explicit(&first->next, memory_order_acquire);
    }
    if (next != NULL) {
        ring->first = next;
        return first;
    }
    /* `first` is the only node: put the sentinel behind it, so that it can leave. Pairs with the exchange in push(). */
    if (atomic_load_explicit(&ring->last, memory_order_acquire) != first)
        return NULL;
    wsr_ring_mpsc_push(ring, &ring->sentinel);
    next = atomic_load_explicit(&first->next, memory_order_acquire);
    if (next == NULL)
        return NULL;
    ring->first = next;
    return first;
}

bool wsr_ring_mpsc_is_empty(const struct wsr_ring_mpsc *ring)
{
    /* Pairs with the exchange in wsr_ring_mpsc_push(). The sentinel is last exactly when all else was popped or never
     * came. */
    return ring->first == &ring->sentinel &&
           atomic_load_explicit(&ring->last, memory_order_acquire) == &ring->sentinel;
}
