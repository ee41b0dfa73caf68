/* Receive memory of one worker: buffers, sized when it is made, that are lent to the application, and blocks for
 * messages that had to be copied. What is sent lies in slab.h. */
#ifndef WSR_POOL_H
#define WSR_POOL_H

#include <stdatomic.h>

#include "driver.h"

/* One receive buffer or one block: lent to the application by the events that point into it. */
struct wsr_loan {
    struct wsr_pool *pool;
    struct wsr_loan *next;            /* free for the loan's owner */
    struct wsr_loan *returned_next;   /* stack of returned holds, while the owner may have the loan in a list */
    size_t capacity;                  /* block: bytes */
    uint32_t filled;                  /* buffer: bytes that the kernel put there */
    uint32_t parsed;                  /* buffer: of them, parsed by the connection */
    /* of a connection with TLS, once is_opened: what is still to be opened; filled and parsed are of what was opened
     * last */
    uint32_t sealed_at, sealed_end;
    _Atomic uint32_t holds;           /* wsr_event_hold() minus wsr_hold_release(), doubled; the lowest bit is set
                                         while in the stack of returned holds */
    uint32_t uses;                    /* worker: events that the consumer has not passed, and parsing under way */
    /* block: what to do with its contents before its memory goes home; NULL = nothing. Worker. */
    void (*ending)(struct wsr_loan *loan);
    void *attached;                   /* block: malloc, freed with its contents; NULL = nothing */
    uint16_t index;                   /* buffer: number in the driver's ring */
    bool is_block;
    bool is_lent;                     /* block: counted as memory of copied messages */
    bool is_opened;                   /* records: sealed_at and sealed_end are set */
    bool is_parsing;                  /* block: a connection's, with more to parse; see wsr_pool_end_parsing() */
    bool is_home;                     /* buffer: the kernel has it; block: freed */
};

struct wsr_pool_options {
    uint32_t buffers_count;           /* power of two */
    uint32_t buffer_bytes;
    uint64_t loan_max_bytes;
    void *owner;                      /* for wsr_pool_owner() */
};

struct wsr_pool;

/* Make the memory and hand the buffers to @driver. Returns 0, WSR_ERR_MEMORY or WSR_ERR_SYSTEM. */
WSR_MUST_USE int wsr_pool_create(struct wsr_pool **pool, struct wsr_driver *driver,
                                 const struct wsr_pool_options *options);
/* As the options said: whom to tell when a hold was released. Any thread. */
void *wsr_pool_owner(const struct wsr_pool *pool);
/* The driver is gone: what comes home from now on stays here. */
void wsr_pool_lose_driver(struct wsr_pool *pool);
/* The driver gave up the buffers before. Loans still held are void. */
void wsr_pool_destroy(struct wsr_pool *pool);

/* The kernel gave up buffer @index with @filled bytes in it: it is in use once, by the caller. */
struct wsr_loan *wsr_pool_received(struct wsr_pool *pool, uint16_t index, uint32_t filled);
/* Of a buffer or a block. Only who received it may write there, and only before it is lent. */
uint8_t *wsr_pool_bytes(const struct wsr_loan *loan);

static inline void wsr_pool_use(struct wsr_loan *loan)
{
    loan->uses++;
}
/* End one use; the last gives the memory back unless the application holds it. */
void wsr_pool_unuse(struct wsr_loan *loan);

/* Application: keep and give back. hold: the consumer, while lent, or any thread that has a hold. release: any thread;
 * a worker that waits for memory is to be woken then. */
void wsr_pool_hold(struct wsr_loan *loan);
void wsr_pool_release(struct wsr_loan *loan);
/* Take back what wsr_pool_release() returned. */
void wsr_pool_collect(struct wsr_pool *pool);
bool wsr_pool_has_returned(const struct wsr_pool *pool);      /* something to collect */

/* Buffers that the kernel could fill now. */
uint32_t wsr_pool_buffers_home(const struct wsr_pool *pool);
/* At most a quarter of the buffers is out: a message that is still being gathered may keep one. */
bool wsr_pool_is_ample(const struct wsr_pool *pool);
uint32_t wsr_pool_buffer_bytes(const struct wsr_pool *pool);
/* More than half of the buffers are out: copy instead of lending. */
bool wsr_pool_is_tight(const struct wsr_pool *pool);
/* The memory of copied messages is at its limit. */
bool wsr_pool_is_full(const struct wsr_pool *pool);
uint32_t wsr_pool_buffers_lent(const struct wsr_pool *pool);   /* any thread; so the next */
uint64_t wsr_pool_loan_bytes(const struct wsr_pool *pool);
/* Blocks in use, by events or by messages that are being gathered. Walks over all of them. */
size_t wsr_pool_blocks_out(const struct wsr_pool *pool);

/* A block of at least @bytes, in use once; NULL without memory. */
struct wsr_loan *wsr_pool_block(struct wsr_pool *pool, size_t bytes);
/* Make @block (NULL = none yet) at least @wanted bytes large, keeping @used. NULL without memory, @block then being as
 * it was. */
struct wsr_loan *wsr_pool_block_grow(struct wsr_pool *pool, struct wsr_loan *block, size_t used, size_t wanted);
/* The block passes to an event: it counts towards loan_max_bytes until it comes home. Memory of messages that are
 * still being gathered does not, or they could hold each other up; nor does a block that is still being parsed, which
 * would wait for itself. */
void wsr_pool_lend_block(struct wsr_loan *block);
/* All of a block was parsed, or is given up: it counts if it was lent meanwhile. */
void wsr_pool_end_parsing(struct wsr_loan *block);
/* Bytes of a block, and the block of such bytes. */
uint8_t *wsr_pool_block_bytes(struct wsr_loan *block);
struct wsr_loan *wsr_pool_block_of(uint8_t *bytes);

#endif
