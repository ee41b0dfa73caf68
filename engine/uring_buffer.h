/* The receive buffers that the kernel picks from, as a ring shared with it. A part of the io_uring driver. */
#ifndef WSR_URING_BUFFER_H
#define WSR_URING_BUFFER_H

#include <liburing.h>

#include "driver.h"

#define WSR_URING_BUFFER_GROUP 0u

struct wsr_uring_buffers {
    struct io_uring_buf_ring *ring;           /* NULL = not provided */
    uint8_t *base;
    uint32_t bytes, count;                    /* count is a power of two */
    uint16_t tail;                            /* given back so far, published or not */
    uint16_t published;
};

/* Register @count buffers of @bytes each at @base; none is given yet. 0 or -errno. */
int wsr_uring_buffer_provide(struct wsr_uring_buffers *buffers, struct io_uring *ring, uint8_t *base, uint32_t bytes,
                             uint32_t count);
void wsr_uring_buffer_give(struct wsr_uring_buffers *buffers, uint16_t index);
void wsr_uring_buffer_release(struct wsr_uring_buffers *buffers);        /* when the kernel's ring is gone */

static inline uint8_t *wsr_uring_buffer_bytes(const struct wsr_uring_buffers *buffers, uint16_t index)
{
    return buffers->base + (size_t)index * buffers->bytes;
}

/* Let the kernel see what was given: one store for all. */
static inline void wsr_uring_buffer_publish(struct wsr_uring_buffers *buffers)
{
    if (buffers->tail == buffers->published)
        return;
    /* Release: the kernel reads the tail with acquire and then the entries before it. */
    __atomic_store_n(&buffers->ring->tail, buffers->tail, __ATOMIC_RELEASE);
    buffers->published = buffers->tail;
}

#endif
