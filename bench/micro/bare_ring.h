/* io_uring for the references, as lean as it gets: one thread, one group of receive buffers, completions walked in
 * place. */
#ifndef WSR_MICRO_BARE_RING_H
#define WSR_MICRO_BARE_RING_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

struct wsr_bare_ring {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    uint8_t *memory;
    uint32_t buffer_bytes, buffers_count;
};

/* Returns 0, or -1 after it has said on stderr why not. @buffers_count is a power of two. */
int wsr_bare_ring_open(struct wsr_bare_ring *r, uint32_t buffers_count, uint32_t buffer_bytes);
void wsr_bare_ring_close(struct wsr_bare_ring *r);

/* Queue a multishot receive of @fd. */
void wsr_bare_ring_recv(struct wsr_bare_ring *r, int fd, uint64_t user_data);
/* Queue a send that completes only when it fails. */
void wsr_bare_ring_send(struct wsr_bare_ring *r, int fd, const void *data, uint32_t len);

/* The bytes that @cqe is about. */
static inline uint8_t *wsr_bare_ring_bytes(const struct wsr_bare_ring *r, const struct io_uring_cqe *cqe)
{
    return r->memory + (uint64_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT) * r->buffer_bytes;
}

/* Give the buffer of @cqe back; wsr_bare_ring_advance() publishes it. */
static inline void wsr_bare_ring_give(struct wsr_bare_ring *r, const struct io_uring_cqe *cqe, int given)
{
    uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    io_uring_buf_ring_add(r->buffers, r->memory + (uint64_t)id * r->buffer_bytes, r->buffer_bytes, id,
                          (int)r->buffers_count - 1, given);
}

static inline void wsr_bare_ring_advance(struct wsr_bare_ring *r, int given)
{
    io_uring_buf_ring_advance(r->buffers, given);
}

/* Is a completion there, or work that an enter would turn into one? */
static inline bool wsr_bare_ring_is_ready(const struct wsr_bare_ring *r)
{
    /* Acquire: pairs with the kernel's release of the tail, and of the flags. */
    return __atomic_load_n(r->ring.cq.ktail, __ATOMIC_ACQUIRE) != *r->ring.cq.khead ||
           (__atomic_load_n(r->ring.sq.kflags, __ATOMIC_ACQUIRE) & IORING_SQ_TASKRUN) != 0;
}

#endif
