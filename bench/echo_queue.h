/* Bytes on their way out of one connection of the echo server: a chain of blocks from the pool of its worker. */
#ifndef WSR_ECHO_QUEUE_H
#define WSR_ECHO_QUEUE_H

#include <sys/uio.h>

#include "engine/base.h"

#define WSR_ECHO_BLOCK_BYTES 4064u

struct wsr_echo_block {
    struct wsr_echo_block *next;
    uint32_t begin;      /* of what is still to be sent */
    uint32_t end;
    uint8_t bytes[];     /* as many as its pool says */
};

/* Blocks of one thread; the one given back last is taken first, as it is still in the cache. */
struct wsr_echo_pool {
    uint32_t block_bytes;          /* of all blocks; set before the first is taken */
    struct wsr_echo_block *free;
    void *slabs;         /* all memory, for wsr_echo_pool_free() */
};

struct wsr_echo_queue {
    struct wsr_echo_block *first;
    struct wsr_echo_block *last;
    size_t bytes;
};

/* An empty block, or NULL without memory. */
WSR_MUST_USE struct wsr_echo_block *wsr_echo_pool_take(struct wsr_echo_pool *pool);
void wsr_echo_pool_give(struct wsr_echo_pool *pool, struct wsr_echo_block *block);
void wsr_echo_pool_free(struct wsr_echo_pool *pool);

/* At least @min (up to the pool's block_bytes) bytes in one piece behind the end of the queue, *room of them. NULL
 * when there is no memory. Nothing is queued before wsr_echo_queue_commit(). */
WSR_MUST_USE uint8_t *wsr_echo_queue_room(struct wsr_echo_queue *queue, struct wsr_echo_pool *pool, size_t min,
                                          size_t *room);
void wsr_echo_queue_commit(struct wsr_echo_queue *queue, size_t bytes);

/* Queue a copy. Returns 0 or WSR_ERR_MEMORY, and then a part of it may be queued. */
WSR_MUST_USE int wsr_echo_queue_append(struct wsr_echo_queue *queue, struct wsr_echo_pool *pool, const void *data,
                                       size_t len);

/* The first pieces of the queue, up to @parts_max. They stay where they are until wsr_echo_queue_sent(). */
size_t wsr_echo_queue_parts(const struct wsr_echo_queue *queue, struct iovec *parts, size_t parts_max);
/* The kernel has taken the first @bytes. */
void wsr_echo_queue_sent(struct wsr_echo_queue *queue, struct wsr_echo_pool *pool, size_t bytes);
/* Drop everything. */
void wsr_echo_queue_clear(struct wsr_echo_queue *queue, struct wsr_echo_pool *pool);

#endif
