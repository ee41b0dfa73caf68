/* Sockets in the ring's own table of registered files ("direct descriptors"), which do not count as open files of the
 * process. A part of the io_uring driver. */
#ifndef WSR_URING_DIRECT_H
#define WSR_URING_DIRECT_H

#include <liburing.h>

#include "uring_file.h"

/* What is below is a plain descriptor, what is above this plus a slot of the table: the kernel gives out no descriptor
 * so high unless fs.nr_open was raised a thousandfold. */
#define WSR_URING_DIRECT_FIRST (1 << 30)

static inline bool wsr_uring_direct_is(wsr_file file)
{
    return file >= WSR_URING_DIRECT_FIRST;
}

/* Let @sqe, which was prepared for @file, mean the slot if it is one. */
static inline void wsr_uring_direct_aim(struct io_uring_sqe *sqe, wsr_file file)
{
    if (wsr_uring_direct_is(file)) {
        sqe->fd = file - WSR_URING_DIRECT_FIRST;
        sqe->flags |= IOSQE_FIXED_FILE;
    }
}

struct wsr_uring_direct {
    struct io_uring *ring;
    uint32_t slots_count;         /* of the table; 0 = there is none, sockets are plain descriptors */
    uint32_t used_count;          /* slots from 0 that were ever taken */
    uint32_t *given_back;
    uint32_t given_back_count;
};

/* Does this kernel close a socket as soon as it is taken out of a table, whatever else is in flight? 0, -EOPNOTSUPP
 * when it does not, or another -errno when that could not be tried. Tried once in a process. From any thread. */
int wsr_uring_direct_try(void);

/* Make a table of @wanted_count slots, or of as many as the limit of open files allows. 0 or -errno. */
int wsr_uring_direct_create(struct wsr_uring_direct *direct, struct io_uring *ring, uint32_t wanted_count);
/* The files still in the table are closed: at once on the ring's owner, else when the ring has ended. */
void wsr_uring_direct_free(struct wsr_uring_direct *direct);

/* What follows is for the ring's owner, or for anyone while it has none. Sockets go into the table if there is one,
 * else to @files; -EMFILE when it is full. Unix sockets stay plain, as they connect by a call of their own. */
wsr_file wsr_uring_direct_open(struct wsr_uring_direct *direct, struct wsr_uring_files *files,
                               const struct wsr_driver_setup *setup);
void wsr_uring_direct_close(struct wsr_uring_direct *direct, struct wsr_uring_files *files, wsr_file file);
/* Take over the file if @done brings one. When it cannot be kept it is closed, and the result is -errno. */
void wsr_uring_direct_accepted(struct wsr_uring_direct *direct, struct wsr_uring_files *files,
                               struct wsr_completion *done);

/* Prepare @sqe to complete with a plain descriptor for the same socket. */
void wsr_uring_direct_prep_install(struct io_uring_sqe *sqe, wsr_file file);
/* The descriptor that came with the completion of @token among those not yet taken, whose token then is @taken. It is
 * the caller's to close. Or -errno; -EAGAIN when it is not there. */
int wsr_uring_direct_installed(struct wsr_uring_direct *direct, uint64_t token, uint64_t taken);

#endif
