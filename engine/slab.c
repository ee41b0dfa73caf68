/* Three arenas of equal chunks, each with a lock-free stack of free ones. */
#include "slab.h"

#include <stdlib.h>
#include <sys/mman.h>

#define CLASSES_COUNT 3
#define CLASS_HEAP 0xFF                 /* size_class of a chunk from malloc */
#define CHAIN_SMALL_MAX 4u              /* up to so many middle chunks, larger ones are not worth their memory */

static const uint32_t class_bytes[CLASSES_COUNT] = { 256, 4096, 65536 };    /* chunk with its header */
static const uint8_t class_share[CLASSES_COUNT] = { 1, 3, 4 };              /* eighths of the slab */

struct arena {
    uint8_t *base;
    size_t map_bytes;
    uint32_t chunks_count;
    /* tag << 32 | index + 1 of a stack; 0 in the low half = empty */
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint64_t free_top;
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint32_t fresh;      /* chunks below it were in use before */
};

struct wsr_slab {
    struct arena arenas[CLASSES_COUNT];
};

struct wsr_slab *wsr_slab_create(uint64_t bytes)
{
    struct wsr_slab *slab = aligned_alloc(WSR_CACHE_LINE, sizeof *slab);
    if (slab == NULL)
        return NULL;
    memset(slab, 0, sizeof *slab);
    for (unsigned class = 0; class < CLASSES_COUNT; class++) {
        struct arena *arena = &slab->arenas[class];
        uint64_t count = bytes / 8 * class_share[class] / class_bytes[class];
        arena->chunks_count = count < 2 ? 2 : count > UINT32_MAX - 2 ? UINT32_MAX - 2 : (uint32_t)count;
        arena->map_bytes = (size_t)arena->chunks_count * class_bytes[class];
        arena->base = mmap(NULL, arena->map_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena->base == MAP_FAILED) {
            arena->base = NULL;
            wsr_slab_destroy(slab);
            return NULL;
        }
    }
    return slab;
}

void wsr_slab_destroy(struct wsr_slab *slab)
{
    for (unsigned class = 0; class < CLASSES_COUNT; class++) {
        if (slab->arenas[class].base != NULL)
            munmap(slab->arenas[class].base, slab->arenas[class].map_bytes);
    }
    free(slab);
}

static struct wsr_chunk *chunk_at(const struct arena *arena, unsigned class, uint32_t index)
{
    return (struct wsr_chunk *)(void *)(arena->base + (size_t)index * class_bytes[class]);
}

/* Everything but `below`, which another thread may still read while it fails to take this chunk. */
static struct wsr_chunk *fresh_chunk(struct wsr_chunk *chunk, uint8_t size_class)
{
    chunk->next = NULL;
    chunk->sent = 0;
    chunk->used = 0;
    chunk->overhead = 0;
    chunk->frame_bytes = 0;
    chunk->size_class = size_class;
    chunk->starts_frame = false;
    chunk->is_control = false;
    chunk->is_pong = false;
    return chunk;
}

static struct wsr_chunk *arena_take(struct wsr_slab *slab, unsigned class)
{
    struct arena *arena = &slab->arenas[class];
    /* Acquire pairs with the release exchange in wsr_slab_give(): the link and the chunk's last use come before. */
    uint64_t top = atomic_load_explicit(&arena->free_top, memory_order_acquire);
    while ((uint32_t)top != 0) {
        struct wsr_chunk *chunk = chunk_at(arena, class, (uint32_t)top - 1);
        uint64_t below = atomic_load_explicit(&chunk->below, memory_order_relaxed);
        /* The tag counts every change, so that a chunk taken and given back meanwhile is not mistaken for the same
         * top. */
        uint64_t next = ((top >> 32) + 1) << 32 | below;
        if (atomic_compare_exchange_weak_explicit(&arena->free_top, &top, next, memory_order_acquire,
                                                  memory_order_acquire))
            return chunk;
    }
    /* Untouched memory carries nothing over, so no order is needed. The count may pass the end by one for each
     * thread. */
    if (atomic_load_explicit(&arena->fresh, memory_order_relaxed) >= arena->chunks_count)
        return NULL;
    uint32_t index = atomic_fetch_add_explicit(&arena->fresh, 1, memory_order_relaxed);
    if (index >= arena->chunks_count) {
        atomic_fetch_sub_explicit(&arena->fresh, 1, memory_order_relaxed);
        return NULL;
    }
    return chunk_at(arena, class, index);
}

/* One chunk of @class, or of a larger class when that is exhausted. */
static struct wsr_chunk *take_one(struct wsr_slab *slab, unsigned class)
{
    for (; class < CLASSES_COUNT; class++) {
        struct wsr_chunk *chunk = arena_take(slab, class);
        if (chunk != NULL)
            return fresh_chunk(chunk, (uint8_t)class);
    }
    return NULL;
}

static size_t class_room(unsigned class)
{
    return class_bytes[class] - offsetof(struct wsr_chunk, data);
}

/* Class of the chunks for @bytes in all. */
static unsigned class_for(uint64_t bytes)
{
    return bytes <= class_room(0) ? 0 : bytes <= CHAIN_SMALL_MAX * class_room(1) ? 1 : 2;
}

struct wsr_chunk *wsr_slab_take(struct wsr_slab *slab, uint64_t bytes)
{
    unsigned class = class_for(bytes);
    struct wsr_chunk *first = take_one(slab, class);
    if (first == NULL)
        return NULL;
    struct wsr_chunk *last = first;
    for (uint64_t room = class_room(first->size_class); room < bytes; room += class_room(last->size_class)) {
        last->next = take_one(slab, class);
        if (last->next == NULL) {
            wsr_slab_give_all(slab, first);
            return NULL;
        }
        last = last->next;
    }
    return first;
}

struct wsr_chunk *wsr_slab_take_control(struct wsr_slab *slab, size_t bytes)
{
    struct wsr_chunk *chunk = NULL;
    for (unsigned class = 0; class < CLASSES_COUNT && chunk == NULL; class++) {
        if (bytes <= class_room(class))
            chunk = take_one(slab, class);
    }
    if (chunk == NULL) {
        chunk = malloc(sizeof *chunk + bytes);
        if (chunk == NULL)
            return NULL;
        fresh_chunk(chunk, CLASS_HEAP);
    }
    chunk->is_control = true;
    return chunk;
}

size_t wsr_slab_room(const struct wsr_chunk *chunk)
{
    return chunk->size_class < CLASSES_COUNT ? class_room(chunk->size_class) : 0;
}

void wsr_slab_give(struct wsr_slab *slab, struct wsr_chunk *chunk)
{
    if (chunk->size_class == CLASS_HEAP) {
        free(chunk);
        return;
    }
    assert(chunk->size_class < CLASSES_COUNT);
    struct arena *arena = &slab->arenas[chunk->size_class];
    uint64_t index = (uint64_t)((uint8_t *)chunk - arena->base) / class_bytes[chunk->size_class];
    uint64_t top = atomic_load_explicit(&arena->free_top, memory_order_relaxed);
    uint64_t next;
    do {
        /* Read by arena_take() of another thread, perhaps late: its tag then fails. */
        atomic_store_explicit(&chunk->below, (uint32_t)top, memory_order_relaxed);
        next = ((top >> 32) + 1) << 32 | (index + 1);
        /* Publishes the link; pairs with the acquire loads in arena_take(). */
    } while (!atomic_compare_exchange_weak_explicit(&arena->free_top, &top, next, memory_order_release,
                                                    memory_order_relaxed));
}

void wsr_slab_give_all(struct wsr_slab *slab, struct wsr_chunk *first)
{
    for (struct wsr_chunk *next; first != NULL; first = next) {
        next = first->next;
        wsr_slab_give(slab, first);
    }
}

uint64_t wsr_slab_takes(const struct wsr_slab *slab, uint64_t bytes)
{
    unsigned class = class_for(bytes);
    uint64_t chunks = (bytes + class_room(class) - 1) / class_room(class);
    return chunks == 0 ? UINT64_MAX : slab->arenas[class].chunks_count / chunks;
}

uint64_t wsr_slab_bytes(const struct wsr_slab *slab)
{
    return (uint64_t)slab->arenas[CLASSES_COUNT - 1].chunks_count * class_room(CLASSES_COUNT - 1);
}
