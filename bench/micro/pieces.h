/* A slice in pieces of a millisecond: on a machine that others use too, some of them belong to those, and the median of
 * all does not. */
#ifndef WSR_MICRO_PIECES_H
#define WSR_MICRO_PIECES_H

#include "client.h"

#define WSR_PIECES_MAX 4096u

struct wsr_pieces {
    const struct wsr_peer *peer;          /* NULL = there is no server */
    uint64_t slice_bytes;                 /* when the slice began */
    uint64_t piece_bytes, piece_ns;       /* where the piece under way began */
    uint64_t warm_ns, end_ns;
    struct wsr_meter meter;
    bool measures;
    uint32_t count;
    double values[WSR_PIECES_MAX];        /* bytes per second */
};

/* The warm-up begins, the slice follows. */
void wsr_pieces_begin(struct wsr_pieces *pieces, const struct wsr_table *table, const struct wsr_peer *peer);
/* @bytes were done so far. Returns whether to go on. */
bool wsr_pieces_go_on(struct wsr_pieces *pieces, uint64_t bytes);
void wsr_pieces_end(struct wsr_pieces *pieces, uint64_t bytes, struct wsr_row_measure *out);

#endif
