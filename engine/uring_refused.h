/* Completions that never were in the kernel's ring: operations that could not be submitted, or were done at once, end
 * here, with the next wait. */
#ifndef WSR_URING_REFUSED_H
#define WSR_URING_REFUSED_H

#include "driver.h"

struct wsr_uring_refused_one {
    uint64_t token;
    int32_t result;
};

/* In order of refusal; zero at first. */
struct wsr_uring_refused {
    struct wsr_uring_refused_one *list;
    unsigned count, taken, room;         /* the first `taken` of `count` were handed out */
};

static inline bool wsr_uring_refused_is_empty(const struct wsr_uring_refused *refused)
{
    return refused->taken == refused->count;
}

/* Returns 0 or -ENOMEM. */
WSR_MUST_USE int wsr_uring_refused_push(struct wsr_uring_refused *refused, uint64_t token, int result);
/* Up to @out_count of them, oldest first. Returns their number. */
unsigned wsr_uring_refused_take(struct wsr_uring_refused *refused, struct wsr_completion *out, unsigned out_count);
void wsr_uring_refused_free(struct wsr_uring_refused *refused);

#endif
