/* SPDX-License-Identifier: MIT */
#include "echo_queue.h"

#include <stdlib.h>

#define SLAB_BLOCKS 64u

/* In front of its blocks. */
struct slab {
    struct slab *next;
};

static bool grow(struct wsr_echo_pool *pool)
{
    const size_t align = sizeof(void *) - 1;
    size_t each = (sizeof(struct wsr_echo_block) + pool->block_bytes + align) & ~align;
    struct slab *slab = malloc(sizeof *slab + SLAB_BLOCKS * each);
    if (!slab)
        return false;
    slab->next = pool->slabs;
    pool->slabs = slab;
    for (unsigned i = 0; i < SLAB_BLOCKS; i++) {
        struct wsr_echo_block *block = (void *)((uint8_t *)(slab + 1) + i * each);
        block->next = pool->free;
        pool->free = block;
    }
    return true;
}

struct wsr_echo_block *wsr_echo_pool_take(struct wsr_echo_pool *pool)
{
    assert(pool->block_bytes > 0);
    if (!pool->free && !grow(pool))
        return NULL;
    struct wsr_echo_block *block = pool->free;
    pool->free = block->next;
    block->next = NULL;
    block->begin = 0;
    block->end = 0;
    return block;
}

void wsr_echo_pool_give(struct wsr_echo_pool *pool, struct wsr_echo_block *block)
{
    block->next = pool->free;
    pool->free = block;
}

void wsr_echo_pool_free(struct wsr_echo_pool *pool)
{
    struct slab *next;
    for (struct slab *slab = pool->slabs; slab; slab = next) {
        next = slab->next;
        free(slab);
    }
    *pool = (struct wsr_echo_pool){ .block_bytes = pool->block_bytes };
}

uint8_t *wsr_echo_queue_room(struct wsr_echo_queue *queue, struct wsr_echo_pool *pool, size_t min, size_t *room)
{
    assert(min <= pool->block_bytes);
    struct wsr_echo_block *block = queue->last;
    if (!block || pool->block_bytes - block->end < min) {
        block = wsr_echo_pool_take(pool);
        if (!block)
            return NULL;
        if (queue->last)
            queue->last->next = block;
        else
            queue->first = block;
        queue->last = block;
    }
    *room = pool->block_bytes - block->end;
    return block->bytes + block->end;
}

void wsr_echo_queue_commit(struct wsr_echo_queue *queue, size_t bytes)
{
    assert(queue->last);
    queue->last->end += (uint32_t)bytes;
    queue->bytes += bytes;
}

int wsr_echo_queue_append(struct wsr_echo_queue *queue, struct wsr_echo_pool *pool, const void *data, size_t len)
{
    const uint8_t *from = data;
    while (len > 0) {
        size_t room;
        uint8_t *to = wsr_echo_queue_room(queue, pool, 1, &room);
        if (!to)
            return WSR_ERR_MEMORY;
        size_t now = len < room ? len : room;
        memcpy(to, from, now);
        wsr_echo_queue_commit(queue, now);
        from += now;
        len -= now;
    }
    return 0;
}

size_t wsr_echo_queue_parts(const struct wsr_echo_queue *queue, struct iovec *parts, size_t parts_max)
{
    size_t count = 0;
    for (struct wsr_echo_block *block = queue->first; block && count < parts_max; block = block->next) {
        if (block->end > block->begin)
            parts[count++] = (struct iovec){ block->bytes + block->begin, block->end - block->begin };
    }
    return count;
}

void wsr_echo_queue_sent(struct wsr_echo_queue *queue, struct wsr_echo_pool *pool, size_t bytes)
{
    assert(bytes <= queue->bytes);
    queue->bytes -= bytes;
    while (queue->first) {
        struct wsr_echo_block *block = queue->first;
        size_t here = block->end - block->begin;
        if (bytes < here) {
            block->begin += (uint32_t)bytes;
            return;
        }
        bytes -= here;
        queue->first = block->next;
        if (!queue->first)
            queue->last = NULL;
        wsr_echo_pool_give(pool, block);
    }
    assert(bytes == 0);
}

void wsr_echo_queue_clear(struct wsr_echo_queue *queue, struct wsr_echo_pool *pool)
{
    while (queue->first) {
        struct wsr_echo_block *block = queue->first;
        queue->first = block->next;
        wsr_echo_pool_give(pool, block);
    }
    *queue = (struct wsr_echo_queue){ .first = NULL };
}
