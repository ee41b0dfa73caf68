/* A message that lies in several pieces: of receive buffers, as far as they may be kept, and of blocks. Gathered and
 * given back by the worker; once it is delivered, nobody changes it. */
#ifndef WSR_PIECES_H
#define WSR_PIECES_H

#include "pool.h"

struct wsr_piece {
    struct wsr_loan *loan;           /* of which the message has one use */
    const uint8_t *data;
    size_t len;                      /* never 0 */
};

/* Bytes of a block: the list itself. */
struct wsr_pieces {
    uint64_t len;                    /* of all pieces */
    uint32_t count;
    bool is_copied;                  /* one at least lies in a block */
    struct wsr_piece list[];
};

/*
 * Append @bytes, which lie in @buffer (NULL = in no receive buffer), to the message at *@list, NULL for none yet. They
 * are kept where they lie when they fill a good part of a buffer and buffers abound, else copied. At most @left bytes
 * more can follow, which bounds what is taken ahead. Returns false without memory; *@list then lacks bytes, and is to
 * be given up by wsr_pool_unuse().
 */
WSR_MUST_USE bool wsr_pieces_add(struct wsr_pool *pool, struct wsr_loan **list, struct wsr_loan *buffer,
                                 struct wsr_bytes bytes, uint64_t left);

/* The list that @loan is, or NULL when it is other memory. */
const struct wsr_pieces *wsr_pieces_of(const struct wsr_loan *loan);

/* The list passes to an event: wsr_pool_lend_block() for it and for all that it holds. */
void wsr_pieces_lend(struct wsr_loan *list);

/* Consumer, once: all pieces joined in one block, which lives as long as the list; NULL without memory. */
uint8_t *wsr_pieces_join(struct wsr_loan *list);

#endif
