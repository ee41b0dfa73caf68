/* Memory for messages that do not lie in one piece: blocks of the worker's pool, or the pieces themselves. */
#include "conn_inner.h"
#include "pieces.h"

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

const struct wsr_session_memory wsr_conn_session_memory = { grow_block, release_block, stays_in_pieces, gather };
