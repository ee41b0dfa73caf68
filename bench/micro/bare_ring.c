/* SPDX-License-Identifier: MIT */
#include "bare_ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define ENTRIES_COUNT 2048u
#define COMPLETIONS_COUNT 16384u
#define GROUP 1

static int provide(struct wsr_bare_ring *r, uint32_t count, uint32_t bytes)
{
    r->buffers_count = count;
    r->buffer_bytes = bytes;
    r->memory = mmap(NULL, (size_t)count * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    r->buffers = mmap(NULL, count * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    if (r->memory == MAP_FAILED || r->buffers == MAP_FAILED)
        return -ENOMEM;
    struct io_uring_buf_reg registration = { .ring_addr = (uintptr_t)r->buffers, .ring_entries = count, .bgid = GROUP };
    int rc = io_uring_register_buf_ring(&r->ring, &registration, 0);
    if (rc < 0)
        return rc;
    io_uring_buf_ring_init(r->buffers);
    for (uint32_t i = 0; i < count; i++)
        io_uring_buf_ring_add(r->buffers, r->memory + (size_t)i * bytes, bytes, (uint16_t)i, (int)count - 1, (int)i);
    io_uring_buf_ring_advance(r->buffers, (int)count);
    return 0;
}

int wsr_bare_ring_open(struct wsr_bare_ring *r, uint32_t buffers_count, uint32_t buffer_bytes)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
        .cq_entries = COMPLETIONS_COUNT
    };
    int rc = io_uring_queue_init_params(ENTRIES_COUNT, &r->ring, &params);
    if (rc < 0) {
        fprintf(stderr, "wsring-micro: io_uring: %s\n", strerror(-rc));
        return -1;
    }
    /* A step that is merely good to have. */
    (void)io_uring_register_ring_fd(&r->ring);
    rc = provide(r, buffers_count, buffer_bytes);
    if (rc < 0) {
        fprintf(stderr, "wsring-micro: receive buffers: %s\n", strerror(-rc));
        io_uring_queue_exit(&r->ring);
        return -1;
    }
    return 0;
}

void wsr_bare_ring_close(struct wsr_bare_ring *r)
{
    io_uring_queue_exit(&r->ring);
    munmap(r->memory, (size_t)r->buffers_count * r->buffer_bytes);
    munmap(r->buffers, r->buffers_count * sizeof(struct io_uring_buf));
}

static struct io_uring_sqe *claim(struct wsr_bare_ring *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    while (sqe == NULL) {
        io_uring_submit(&r->ring);
        sqe = io_uring_get_sqe(&r->ring);
    }
    return sqe;
}

void wsr_bare_ring_recv(struct wsr_bare_ring *r, int fd, uint64_t user_data)
{
    struct io_uring_sqe *sqe = claim(r);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    sqe->user_data = user_data;
}

void wsr_bare_ring_send(struct wsr_bare_ring *r, int fd, const void *data, uint32_t len)
{
    struct io_uring_sqe *sqe = claim(r);
    io_uring_prep_send(sqe, fd, data, len, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = UINT64_MAX;
}
