/* Message headers of sends in pieces, from the call to the submission, at which the kernel copies them. */
#ifndef WSR_URING_ARENA_H
#define WSR_URING_ARENA_H

#include "driver.h"

#define WSR_URING_ARENA_HEADS 1024u
#define WSR_URING_ARENA_PARTS 4096u

struct wsr_uring_arena {
    struct msghdr heads[WSR_URING_ARENA_HEADS];
    struct iovec parts[WSR_URING_ARENA_PARTS];
    unsigned heads_used, parts_used;
};

_Static_assert(WSR_URING_ARENA_PARTS >= WSR_DRIVER_PARTS_MAX, "one send fits into an empty arena");

static inline void wsr_uring_arena_reset(struct wsr_uring_arena *arena)
{
    arena->heads_used = arena->parts_used = 0;
}

static inline bool wsr_uring_arena_has_room(const struct wsr_uring_arena *arena, size_t parts_count)
{
    return arena->heads_used < WSR_URING_ARENA_HEADS && WSR_URING_ARENA_PARTS - arena->parts_used >= parts_count;
}

/* A message header with a copy of @parts. There is room. */
static inline struct msghdr *wsr_uring_arena_take(struct wsr_uring_arena *arena, const struct iovec *parts,
                                                  size_t parts_count)
{
    assert(wsr_uring_arena_has_room(arena, parts_count));
    struct iovec *copy = &arena->parts[arena->parts_used];
    memcpy(copy, parts, parts_count * sizeof *copy);
    arena->parts_used += (unsigned)parts_count;
    struct msghdr *head = &arena->heads[arena->heads_used++];
    *head = (struct msghdr){ .msg_iov = copy, .msg_iovlen = parts_count };
    return head;
}

#endif
