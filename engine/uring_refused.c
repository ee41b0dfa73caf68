/* A list that grows to its largest need and is used again. */
#include "uring_refused.h"

#include <errno.h>
#include <stdlib.h>

int wsr_uring_refused_push(struct wsr_uring_refused *refused, uint64_t token, int result)
{
    if (refused->count == refused->room) {
        unsigned room = refused->room != 0 ? refused->room * 2 : 64;
        struct wsr_uring_refused_one *grown = realloc(refused->list, room * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        refused->list = grown;
        refused->room = room;
    }
    refused->list[refused->count++] = (struct wsr_uring_refused_one){ token, result };
    return 0;
}

unsigned wsr_uring_refused_take(struct wsr_uring_refused *refused, struct wsr_completion *out, unsigned out_count)
{
    unsigned taken = 0;
    while (taken < out_count && refused->taken < refused->count) {
        const struct wsr_uring_refused_one *next = &refused->list[refused->taken++];
        out[taken++] = (struct wsr_completion){ .token = next->token, .result = next->result };
    }
    if (refused->taken == refused->count)
        refused->taken = refused->count = 0;
    return taken;
}

void wsr_uring_refused_free(struct wsr_uring_refused *refused)
{
    free(refused->list);
    *refused = (struct wsr_uring_refused){ 0 };
}
