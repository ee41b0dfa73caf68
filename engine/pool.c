/* Receive buffers, blocks, and who has them. */
#include "pool.h"

#include <stdlib.h>
#include <sys/mman.h>

#define BLOCK_CLASSES_COUNT 9           /* 256 B to 64 KiB */
#define BLOCK_CLASS_MIN_BYTES 256u
#define HOLD_ONE 2u                     /* wsr_loan.holds counts in twos */
#define HOLD_ON_STACK 1u
#define BLOCKS_KEPT_COUNT 64            /* free blocks kept of each class */

struct block {
    struct wsr_loan loan;
    struct block *all_next;              /* every block of the pool, so that none outlives it */
    struct block **all_link;             /* what points to this one */
    WSR_ALIGNED(16) uint8_t bytes[];
};

struct wsr_pool {
    struct wsr_driver *driver;
    uint8_t *base;                       /* of the receive buffers */
    size_t base_bytes;
    struct wsr_loan *loans;              /* one for each buffer */
    uint32_t buffers_count;
    uint32_t buffer_bytes;
    uint64_t loan_max_bytes;
    void *owner;
    /* buffers that the kernel does not have; written by the worker, read by statistics */
    _Atomic uint32_t out_count;
    _Atomic uint64_t block_bytes;        /* the same for memory of blocks in use */
    struct block *all_first;
    struct wsr_loan *kept[BLOCK_CLASSES_COUNT];
    uint32_t kept_count[BLOCK_CLASSES_COUNT];
    /* pushed by wsr_pool_release(), emptied by collect */
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic(struct wsr_loan *) returned;
};

int wsr_pool_create(struct wsr_pool **pool, struct wsr_driver *driver, const struct wsr_pool_options *options)
{
    struct wsr_pool *p = aligned_alloc(WSR_CACHE_LINE, sizeof *p);
    if (p == NULL)
        return WSR_ERR_MEMORY;
    *p = (struct wsr_pool){ .driver = driver, .buffers_count = options->buffers_count,
                            .buffer_bytes = options->buffer_bytes, .loan_max_bytes = options->loan_max_bytes,
                            .owner = options->owner };
    int rc = WSR_ERR_MEMORY;
    p->base_bytes = (size_t)p->buffers_count * p->buffer_bytes;
    p->base = mmap(NULL, p->base_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->base == MAP_FAILED)
        goto fail_base;
    p->loans = calloc(p->buffers_count, sizeof *p->loans);
    if (p->loans == NULL)
        goto fail_loans;
    for (uint32_t i = 0; i < p->buffers_count; i++) {
        p->loans[i].pool = p;
        p->loans[i].index = (uint16_t)i;
        p->loans[i].is_home = true;
    }
    rc = driver->ops->provide(driver, p->base, p->buffer_bytes, p->buffers_count) == 0 ? 0 : WSR_ERR_SYSTEM;
    if (rc < 0)
        goto fail_provide;
    *pool = p;
    return 0;

fail_provide:
    free(p->loans);
fail_loans:
    munmap(p->base, p->base_bytes);
fail_base:
    free(p);
    return rc;
}

void *wsr_pool_owner(const struct wsr_pool *pool)
{
    return pool->owner;
}

void wsr_pool_lose_driver(struct wsr_pool *pool)
{
    pool->driver = NULL;
}

void wsr_pool_destroy(struct wsr_pool *pool)
{
    for (struct block *next, *block = pool->all_first; block != NULL; block = next) {
        next = block->all_next;
        free(block->loan.attached);
        free(block);
    }
    free(pool->loans);
    munmap(pool->base, pool->base_bytes);
    free(pool);
}

/* Only the worker writes the counts, so a load and a store are enough; readers want no order. */
static void count_out(struct wsr_pool *pool, uint32_t by)
{
    uint32_t now = atomic_load_explicit(&pool->out_count, memory_order_relaxed) + by;
    atomic_store_explicit(&pool->out_count, now, memory_order_relaxed);
}

static void count_blocks(struct wsr_pool *pool, uint64_t by)
{
    uint64_t now = atomic_load_explicit(&pool->block_bytes, memory_order_relaxed) + by;
    atomic_store_explicit(&pool->block_bytes, now, memory_order_relaxed);
}

struct wsr_loan *wsr_pool_received(struct wsr_pool *pool, uint16_t index, uint32_t filled)
{
    assert(index < pool->buffers_count && filled <= pool->buffer_bytes);
    struct wsr_loan *loan = &pool->loans[index];
    assert(loan->is_home && loan->uses == 0);
    loan->is_home = false;
    loan->uses = 1;
    loan->filled = filled;
    loan->parsed = 0;
    loan->is_opened = false;
    count_out(pool, 1);
    return loan;
}

uint8_t *wsr_pool_bytes(const struct wsr_loan *loan)
{
    if (WSR_UNLIKELY(loan->is_block))
        return wsr_pool_block_bytes((struct wsr_loan *)(uintptr_t)loan);
    return loan->pool->base + (size_t)loan->index * loan->pool->buffer_bytes;
}

/* Smallest class that holds @bytes; BLOCK_CLASSES_COUNT when none does. */
static unsigned block_class(size_t bytes)
{
    unsigned class = 0;
    while (class < BLOCK_CLASSES_COUNT && ((size_t)BLOCK_CLASS_MIN_BYTES << class) < bytes)
        class++;
    return class;
}

static struct wsr_loan *make_block(struct wsr_pool *pool, size_t capacity)
{
    struct block *block = capacity <= SIZE_MAX / 2 ? malloc(sizeof *block + capacity) : NULL;
    if (block == NULL)
        return NULL;
    block->loan = (struct wsr_loan){ .pool = pool, .capacity = capacity, .is_block = true };
    block->all_next = pool->all_first;
    block->all_link = &pool->all_first;
    if (block->all_next != NULL)
        block->all_next->all_link = &block->all_next;
    pool->all_first = block;
    return &block->loan;
}

static void free_block(struct block *block)
{
    *block->all_link = block->all_next;
    if (block->all_next != NULL)
        block->all_next->all_link = block->all_link;
    free(block);
}

static void go_home(struct wsr_loan *loan)
{
    struct wsr_pool *pool = loan->pool;
    loan->is_home = true;
    if (!loan->is_block) {
        count_out(pool, (uint32_t)-1);
        if (WSR_LIKELY(pool->driver != NULL))
            pool->driver->ops->give(pool->driver, loan->index);
        return;
    }
    if (loan->ending != NULL)
        loan->ending(loan);
    loan->ending = NULL;
    free(loan->attached);
    loan->attached = NULL;
    if (loan->is_lent)
        count_blocks(pool, 0 - (uint64_t)loan->capacity);
    loan->is_lent = false;
    unsigned class = block_class(loan->capacity);
    if (class < BLOCK_CLASSES_COUNT && pool->kept_count[class] < BLOCKS_KEPT_COUNT) {
        loan->next = pool->kept[class];
        pool->kept[class] = loan;
        pool->kept_count[class]++;
    } else {
        free_block(wsr_container_of(loan, struct block, loan));
    }
}

void wsr_pool_unuse(struct wsr_loan *loan)
{
    assert(loan->uses > 0 && !loan->is_home);
    if (--loan->uses > 0)
        return;
    /* Pairs with the release exchange in wsr_pool_release(): zero means that the holders' reads are over. A loan that
     * is still held, or on the stack, goes home by wsr_pool_collect(). */
    if (atomic_load_explicit(&loan->holds, memory_order_acquire) == 0)
        go_home(loan);
}

void wsr_pool_hold(struct wsr_loan *loan)
{
    /* The event is still lent, so `uses` keeps the memory, or another hold does: no order needed. */
    atomic_fetch_add_explicit(&loan->holds, HOLD_ONE, memory_order_relaxed);
}

void wsr_pool_release(struct wsr_loan *loan)
{
    struct wsr_pool *pool = loan->pool;
    uint32_t old = atomic_load_explicit(&loan->holds, memory_order_relaxed);
    /* The hold ends and the loan is marked as on the stack in one step: whoever sets the mark pushes, and until
     * collect() clears it the loan stays; whoever finds it set must not touch the loan again. Ends our reads of the
     * memory: pairs with the acquire operations in wsr_pool_unuse() and wsr_pool_collect(). */
    while (!atomic_compare_exchange_weak_explicit(&loan->holds, &old, (old - HOLD_ONE) | HOLD_ON_STACK,
                                                  memory_order_acq_rel, memory_order_relaxed))
        assert(old >= HOLD_ONE);
    if (old & HOLD_ON_STACK)
        return;
    struct wsr_loan *top = atomic_load_explicit(&pool->returned, memory_order_relaxed);
    do {
        loan->returned_next = top;
        /* Publishes the link; pairs with the acquire exchange in wsr_pool_collect(). */
    } while (!atomic_compare_exchange_weak_explicit(&pool->returned, &top, loan, memory_order_release,
                                                    memory_order_relaxed));
}

bool wsr_pool_has_returned(const struct wsr_pool *pool)
{
    return atomic_load_explicit(&pool->returned, memory_order_relaxed) != NULL;
}

void wsr_pool_collect(struct wsr_pool *pool)
{
    if (WSR_LIKELY(!wsr_pool_has_returned(pool)))
        return;
    /* Pairs with the release exchange in wsr_pool_release(). */
    struct wsr_loan *loan = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);
    while (loan != NULL) {
        struct wsr_loan *next = loan->returned_next;
        /* From here on a release pushes it anew. Pairs with the exchange in wsr_pool_release(). */
        uint32_t old = atomic_fetch_and_explicit(&loan->holds, ~HOLD_ON_STACK, memory_order_acq_rel);
        if (old == HOLD_ON_STACK && loan->uses == 0)
            go_home(loan);
        loan = next;
    }
}

uint32_t wsr_pool_buffers_home(const struct wsr_pool *pool)
{
    return pool->buffers_count - atomic_load_explicit(&pool->out_count, memory_order_relaxed);
}

bool wsr_pool_is_ample(const struct wsr_pool *pool)
{
    return atomic_load_explicit(&pool->out_count, memory_order_relaxed) <= pool->buffers_count / 4;
}

uint32_t wsr_pool_buffer_bytes(const struct wsr_pool *pool)
{
    return pool->buffer_bytes;
}

bool wsr_pool_is_tight(const struct wsr_pool *pool)
{
    return atomic_load_explicit(&pool->out_count, memory_order_relaxed) > pool->buffers_count / 2;
}

bool wsr_pool_is_full(const struct wsr_pool *pool)
{
    return atomic_load_explicit(&pool->block_bytes, memory_order_relaxed) >= pool->loan_max_bytes;
}

uint32_t wsr_pool_buffers_lent(const struct wsr_pool *pool)
{
    return atomic_load_explicit(&pool->out_count, memory_order_relaxed);
}

uint64_t wsr_pool_loan_bytes(const struct wsr_pool *pool)
{
    return atomic_load_explicit(&pool->block_bytes, memory_order_relaxed);
}

size_t wsr_pool_blocks_out(const struct wsr_pool *pool)
{
    size_t count = 0;
    for (const struct block *block = pool->all_first; block != NULL; block = block->all_next)
        count++;
    for (unsigned class = 0; class < BLOCK_CLASSES_COUNT; class++)
        count -= pool->kept_count[class];
    return count;
}

struct wsr_loan *wsr_pool_block(struct wsr_pool *pool, size_t bytes)
{
    unsigned class = block_class(bytes);
    struct wsr_loan *loan = class < BLOCK_CLASSES_COUNT ? pool->kept[class] : NULL;
    if (loan != NULL) {
        pool->kept[class] = loan->next;
        pool->kept_count[class]--;
    } else {
        loan = make_block(pool, class < BLOCK_CLASSES_COUNT ? (size_t)BLOCK_CLASS_MIN_BYTES << class : bytes);
        if (loan == NULL)
            return NULL;
    }
    loan->uses = 1;
    loan->is_home = false;
    loan->is_opened = false;
    assert(!loan->is_parsing);
    return loan;
}

struct wsr_loan *wsr_pool_block_grow(struct wsr_pool *pool, struct wsr_loan *block, size_t used, size_t wanted)
{
    if (block != NULL && block->capacity >= wanted)
        return block;
    struct wsr_loan *larger = wsr_pool_block(pool, wanted);
    if (larger == NULL)
        return NULL;
    if (block != NULL) {
        memcpy(wsr_pool_block_bytes(larger), wsr_pool_block_bytes(block), used);
        wsr_pool_unuse(block);
    }
    return larger;
}

void wsr_pool_lend_block(struct wsr_loan *block)
{
    assert(block->is_block && !block->is_lent);
    block->is_lent = true;
    if (!block->is_parsing)
        count_blocks(block->pool, block->capacity);
}

void wsr_pool_end_parsing(struct wsr_loan *block)
{
    assert(block->is_block && block->is_parsing);
    block->is_parsing = false;
    if (block->is_lent)
        count_blocks(block->pool, block->capacity);
}

uint8_t *wsr_pool_block_bytes(struct wsr_loan *block)
{
    assert(block->is_block);
    return wsr_container_of(block, struct block, loan)->bytes;
}

struct wsr_loan *wsr_pool_block_of(uint8_t *bytes)
{
    return &wsr_container_of(bytes, struct block, bytes)->loan;
}
