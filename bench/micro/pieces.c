/* SPDX-License-Identifier: MIT */
#include "pieces.h"

#define PIECE_NS 1000000u

void wsr_pieces_begin(struct wsr_pieces *p, const struct wsr_table *table, const struct wsr_peer *peer)
{
    p->peer = peer;
    p->count = 0;
    p->measures = false;
    p->warm_ns = wsr_clock_now() + table->warmup_ns;
    p->end_ns = p->warm_ns + table->slice_ns;
}

bool wsr_pieces_go_on(struct wsr_pieces *p, uint64_t bytes)
{
    uint64_t now_ns = wsr_clock_now();
    if (!p->measures && now_ns >= p->warm_ns) {
        p->measures = true;
        p->slice_bytes = bytes;
        wsr_meter_begin(&p->meter, p->peer);
    } else if (!p->measures) {
        return true;
    } else if (now_ns - p->piece_ns < PIECE_NS) {
        return now_ns < p->end_ns;
    } else if (p->count < WSR_PIECES_MAX) {
        p->values[p->count++] = (double)(bytes - p->piece_bytes) * 1e9 / (double)(now_ns - p->piece_ns);
    }
    p->piece_ns = now_ns;
    p->piece_bytes = bytes;
    return now_ns < p->end_ns;
}

void wsr_pieces_end(struct wsr_pieces *p, uint64_t bytes, struct wsr_row_measure *out)
{
    uint64_t client_ns;
    uint64_t elapsed_ns = wsr_meter_end(&p->meter, out, &client_ns);
    out->value = wsr_row_median(p->values, p->count);
    /* Nothing in half of the pieces: the mean has to do. */
    if (out->value <= 0)
        out->value = (double)(bytes - p->slice_bytes + 1) * 1e9 / (double)elapsed_ns;
}
