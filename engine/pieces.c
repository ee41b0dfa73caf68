/* Gathering a message without joining it. */
#include "pieces.h"

#include <stdlib.h>

#define LIST_FIRST_COUNT 8u
#define COPY_FIRST_BYTES 1024u
#define COPY_MAX_BYTES 65536u          /* largest block that is kept for the next message */

static struct wsr_pieces *contents(struct wsr_loan *list)
{
    return (struct wsr_pieces *)(void *)wsr_pool_block_bytes(list);
}

/* The list goes home, and what it holds is one use less. */
static void give_up_pieces(struct wsr_loan *list)
{
    struct wsr_pieces *pieces = contents(list);
    for (uint32_t i = 0; i < pieces->count; i++)
        wsr_pool_unuse(pieces->list[i].loan);
}

const struct wsr_pieces *wsr_pieces_of(const struct wsr_loan *loan)
{
    if (loan->ending != give_up_pieces)
        return NULL;
    return (const struct wsr_pieces *)(const void *)wsr_pool_block_bytes((struct wsr_loan *)(uintptr_t)loan);
}

/* Room for one more piece. */
static bool make_room(struct wsr_pool *pool, struct wsr_loan **list)
{
    size_t used = sizeof(struct wsr_pieces);
    size_t wanted = used + LIST_FIRST_COUNT * sizeof(struct wsr_piece);
    struct wsr_loan *old = *list;
    if (old != NULL) {
        used += contents(old)->count * sizeof(struct wsr_piece);
        if (old->capacity >= used + sizeof(struct wsr_piece))
            return true;
        wanted = 2 * used;
        old->ending = NULL;                         /* its contents move, or stay */
    }
    struct wsr_loan *grown = wsr_pool_block_grow(pool, old, used, wanted);
    if (grown == NULL) {
        if (old != NULL)
            old->ending = give_up_pieces;
        return false;
    }
    if (old == NULL)
        *contents(grown) = (struct wsr_pieces){ 0 };
    grown->ending = give_up_pieces;
    *list = grown;
    return true;
}

/* The use of @loan passes to the list. */
static bool append(struct wsr_pool *pool, struct wsr_loan **list, struct wsr_loan *loan, struct wsr_bytes bytes)
{
    if (!make_room(pool, list))
        return false;
    struct wsr_pieces *pieces = contents(*list);
    pieces->list[pieces->count++] = (struct wsr_piece){ loan, bytes.data, bytes.len };
    pieces->len += bytes.len;
    return true;
}

/* A block of one message alone that has room behind its bytes; NULL when the last piece is none. Not a block into which
 * TLS records were opened: there lies what comes after. */
static struct wsr_piece *open_block(struct wsr_loan *list, size_t *room)
{
    if (list == NULL || contents(list)->count == 0)
        return NULL;
    struct wsr_piece *last = &contents(list)->list[contents(list)->count - 1];
    if (!last->loan->is_block || last->loan->is_opened || last->len == last->loan->capacity)
        return NULL;
    *room = last->loan->capacity - last->len;
    return last;
}

/* As much as there is already, within bounds: never by what was announced (RECV-15). */
static size_t block_bytes(const struct wsr_loan *list, size_t len, uint64_t left)
{
    uint64_t most = len + left;
    uint64_t wanted = list != NULL ? wsr_pieces_of(list)->len : 0;
    if (wanted < COPY_FIRST_BYTES)
        wanted = COPY_FIRST_BYTES;
    if (wanted > COPY_MAX_BYTES)
        wanted = COPY_MAX_BYTES;
    if (wanted > most)
        wanted = most;
    return wanted > len ? (size_t)wanted : len;
}

static bool copy_in(struct wsr_pool *pool, struct wsr_loan **list, struct wsr_bytes bytes, uint64_t left)
{
    size_t room;
    struct wsr_piece *last = open_block(*list, &room);
    if (last != NULL) {
        size_t count = bytes.len < room ? bytes.len : room;
        memcpy(wsr_pool_block_bytes(last->loan) + last->len, bytes.data, count);
        last->len += count;
        contents(*list)->len += count;
        bytes = wsr_bytes_of(bytes.data + count, bytes.len - count);
    }
    if (bytes.len == 0)
        return true;
    struct wsr_loan *block = wsr_pool_block(pool, block_bytes(*list, bytes.len, left));
    if (block == NULL)
        return false;
    memcpy(wsr_pool_block_bytes(block), bytes.data, bytes.len);
    if (!append(pool, list, block, wsr_bytes_of(wsr_pool_block_bytes(block), bytes.len))) {
        wsr_pool_unuse(block);
        return false;
    }
    contents(*list)->is_copied = true;
    return true;
}

bool wsr_pieces_add(struct wsr_pool *pool, struct wsr_loan **list, struct wsr_loan *buffer, struct wsr_bytes bytes,
                    uint64_t left)
{
    assert(bytes.len > 0);
    /* A record of TLS that an event has lent counts as lent until it comes home, and the rest may wait for that. */
    bool may_keep = buffer != NULL && !buffer->is_lent;
    bool is_kept = may_keep && bytes.len >= wsr_pool_buffer_bytes(pool) / 2 && wsr_pool_is_ample(pool);
    if (!is_kept)
        return copy_in(pool, list, bytes, left);
    if (!append(pool, list, buffer, bytes))
        return false;
    wsr_pool_use(buffer);
    return true;
}

void wsr_pieces_lend(struct wsr_loan *list)
{
    const struct wsr_pieces *pieces = contents(list);
    for (uint32_t i = 0; i < pieces->count; i++) {
        /* A record's block may have been lent with messages that lie in it as a whole. */
        if (pieces->list[i].loan->is_block && !pieces->list[i].loan->is_lent)
            wsr_pool_lend_block(pieces->list[i].loan);
    }
    wsr_pool_lend_block(list);
}

uint8_t *wsr_pieces_join(struct wsr_loan *list)
{
    const struct wsr_pieces *pieces = contents(list);
    assert(list->attached == NULL);
    uint8_t *joined = malloc(pieces->len), *to = joined;
    if (joined == NULL)
        return NULL;
    for (uint32_t i = 0; i < pieces->count; i++) {
        memcpy(to, pieces->list[i].data, pieces->list[i].len);
        to += pieces->list[i].len;
    }
    /* Freed by the worker when the list goes home, which the consumer's read index or its hold precedes. */
    list->attached = joined;
    return joined;
}
