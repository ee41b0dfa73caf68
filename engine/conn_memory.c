/* Memory for messages that do not lie in one piece: blocks of the worker's pool, or the pieces themselves. */
#include "conn_inner.h"
#include "pieces.h"

#define INFLATED_BYTES 16384u          /* of a block for several */
#define INFLATED_MAX_BYTES 2048u       /* compressed: a larger one has a block of its own */
#define INFLATED_TIMES 4u              /* as large as they are expected to become, and a little more */
#define INFLATED_ROOM_BYTES 512u

static uint8_t *grow_block(void *context, uint8_t *old, size_t used, size_t wanted, size_t *capacity)
{
    struct wsr_conn_host *host = context;
    struct wsr_loan *block = old != NULL ? wsr_pool_block_of(old) : NULL;
    block = wsr_pool_block_grow(host->pool, block, used, wanted);
    if (block == NULL)
        return NULL;
    *capacity = block->capacity;
    return wsr_pool_block_bytes(block);
}

static void release_block(void *context, uint8_t *block)
{
    (void)context;
    wsr_pool_unuse(wsr_pool_block_of(block));
}

/* ---- Messages that are inflated, one behind the other ---- */

void wsr_conn_close_inflated(struct wsr_conn_host *host)
{
    if (host->inflated != NULL)
        wsr_pool_unuse(host->inflated);
    host->inflated = NULL;
}

static uint8_t *borrow(void *context, size_t bytes, size_t *room)
{
    struct wsr_conn_host *host = context;
    if (bytes > INFLATED_MAX_BYTES)
        return NULL;
    size_t wanted = INFLATED_TIMES * bytes + INFLATED_ROOM_BYTES;
    if (host->inflated != NULL && host->inflated->capacity - host->inflated->filled < wanted)
        wsr_conn_close_inflated(host);
    if (host->inflated == NULL) {
        host->inflated = wsr_pool_block(host->pool, INFLATED_BYTES);
        if (host->inflated == NULL)
            return NULL;
        host->inflated->filled = 0;
    }
    *room = host->inflated->capacity - host->inflated->filled;
    return wsr_pool_block_bytes(host->inflated) + host->inflated->filled;
}

static void keep(void *context, size_t used)
{
    struct wsr_conn_host *host = context;
    host->inflated->filled += (uint32_t)used;
}

/* A blob is never joined. Which of the two a message becomes is decided when its event is taken (MSG-02), so that this
 * only spares the consumer the work of joining. */
static bool stays_in_pieces(void *context)
{
    const struct wsr_conn_host *host = context;
    return atomic_load_explicit(&host->parsing->link->binary_type, memory_order_relaxed) == WSR_BLOB;
}

static uint8_t *gather(void *context, uint8_t *list, struct wsr_bytes piece, uint64_t left)
{
    struct wsr_conn_host *host = context;
    struct wsr_loan *loan = list != NULL ? wsr_pool_block_of(list) : NULL;
    if (!wsr_pieces_add(host->pool, &loan, host->parsing_buffer, piece, left))
        return NULL;
    return wsr_pool_block_bytes(loan);
}

const struct wsr_session_memory wsr_conn_session_memory = {
    .grow = grow_block, .release = release_block, .borrow = borrow, .keep = keep, .stays_in_pieces = stays_in_pieces,
    .gather = gather
};
