#include "uring_buffer.h"

#include <errno.h>
#include <sys/mman.h>

#define BUFFERS_MAX 32768u                    /* the kernel's limit for one ring of buffers */

void wsr_uring_buffer_give(struct wsr_uring_buffers *buffers, uint16_t index)
{
    assert(buffers->ring != NULL && index < buffers->count);
    /* Member by member: the reserve of the first entry is the tail. */
    struct io_uring_buf *entry = &buffers->ring->bufs[buffers->tail & (buffers->count - 1)];
    entry->addr = (uintptr_t)(buffers->base + (size_t)index * buffers->bytes);
    entry->len = buffers->bytes;
    entry->bid = index;
    buffers->tail++;
}

int wsr_uring_buffer_provide(struct wsr_uring_buffers *buffers, struct io_uring *ring, uint8_t *base, uint32_t bytes,
                             uint32_t count)
{
    if (buffers->ring != NULL)
        return -EEXIST;
    if (bytes == 0 || count == 0 || count > BUFFERS_MAX || (count & (count - 1)) != 0)
        return -EINVAL;
    size_t ring_bytes = count * sizeof(struct io_uring_buf);
    void *memory = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)memory, .ring_entries = count, .bgid = WSR_URING_BUFFER_GROUP
    };
    int rc = io_uring_register_buf_ring(ring, &registration, 0);
    if (rc < 0) {
        munmap(memory, ring_bytes);
        return rc;
    }
    *buffers = (struct wsr_uring_buffers){ .ring = memory, .base = base, .bytes = bytes, .count = count };
    return 0;
}

void wsr_uring_buffer_release(struct wsr_uring_buffers *buffers)
{
    if (buffers->ring != NULL)
        munmap(buffers->ring, buffers->count * sizeof(struct io_uring_buf));
    *buffers = (struct wsr_uring_buffers){ 0 };
}
