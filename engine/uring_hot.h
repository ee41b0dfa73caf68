/* Receiving and sending by plain calls. For one hot socket recv(2) is faster than the ring, so an owner that spins has
 * it for a few sockets: what would be a multishot receive is a look at the socket each time the owner looks at the
 * ring. A part of the io_uring driver. */
#ifndef WSR_URING_HOT_H
#define WSR_URING_HOT_H

#include "driver.h"

#define WSR_URING_HOT_FILES 4u      /* with more files open, the ring has them all: a look costs a call each */
#define WSR_URING_HOT_BUFFERS 8u    /* kept back from the kernel at most, and at most an eighth of all */

enum wsr_uring_hot_state {
    WSR_URING_HOT_FREE,
    WSR_URING_HOT_LOOKING,            /* takes what comes */
    WSR_URING_HOT_HOLDING,            /* has taken bytes that were not handed out yet */
    WSR_URING_HOT_LAST,               /* the same, and is to end when they were */
    WSR_URING_HOT_ENDING,             /* its last result waits for the watch to end, and to be handed out */
    WSR_URING_HOT_LEAVING             /* the ring has the receive; only the watch is still to end */
};

/* One receive. */
struct wsr_uring_hot_place {
    uint64_t token;
    wsr_file file;
    int32_t result;                   /* HOLDING, LAST: bytes; ENDING: the last result */
    uint16_t buffer;                  /* HOLDING, LAST */
    uint8_t state;                    /* enum wsr_uring_hot_state, changed by one function */
    bool is_watched;                  /* a poll of the driver's own is in flight: it ends the sleep of the owner */
};

struct wsr_uring_hot {
    bool is_allowed;
    uint32_t used_count;              /* places that are not FREE */
    uint32_t buffers_max, buffers_count;
    uint16_t buffers[WSR_URING_HOT_BUFFERS];    /* the one given back last is on top: it lies in the cache */
    struct wsr_uring_hot_place places[WSR_URING_HOT_FILES];
};

struct uring;

/* Is this a moment for plain calls on @file? */
bool wsr_uring_hot_suits(const struct uring *u, wsr_file file);

/* Take over a receive. Returns false when it is for the ring. */
bool wsr_uring_hot_recv(struct uring *u, wsr_file file, uint64_t token);
/* The receive with @token is to end. Returns false when it is not here. */
bool wsr_uring_hot_cancel(struct uring *u, uint64_t token);
/* Look at each socket. Returns whether there is something to hand out. */
bool wsr_uring_hot_look(struct uring *u);
unsigned wsr_uring_hot_take(struct uring *u, struct wsr_completion *out, unsigned out_count);
/* Give to the ring what does not suit any more. */
void wsr_uring_hot_sort(struct uring *u);
/* The owner is about to sleep: have the ring wake it. Returns false when the submission queue has no room for that: it
 * must not sleep yet. */
bool wsr_uring_hot_watch(struct uring *u);
/* The watch of place @index has ended. */
void wsr_uring_hot_watched(struct uring *u, unsigned index);

/* Keep @index back for plain calls. Returns false when it is for the kernel. */
static inline bool wsr_uring_hot_keep(struct wsr_uring_hot *hot, uint16_t index)
{
    if (hot->buffers_count >= hot->buffers_max)
        return false;
    hot->buffers[hot->buffers_count++] = index;
    return true;
}

/* As send_now in driver.h. */
ssize_t wsr_uring_hot_send(struct uring *u, wsr_file file, const struct iovec *parts, size_t parts_count);

#endif
