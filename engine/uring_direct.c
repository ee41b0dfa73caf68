#include "uring_direct.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define TABLE_MAX (1u << 20)                /* the kernel's IORING_MAX_FIXED_FILES */
#define OURS_OP_FIXED_FD_INSTALL 54         /* Linux 6.8; newer than liburing 2.3 */

/* ---- The trial ---- */

/* One end of a connection is polled, the other is taken out of the table. Before Linux 6.13 it then stays open until
 * all older operations on files of the table have ended: a receive on an idle connection would keep every socket that
 * is closed after its start. */
static int try_close(struct io_uring *ring, const int ends[2])
{
    static const int none = -1;
    char byte;

    int rc = io_uring_register_files_sparse(ring, 2);
    if (rc == 0)
        rc = io_uring_register_files_update(ring, 0, ends, 2);
    close(ends[1]);
    if (rc < 0)
        return rc;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_poll_add(sqe, 0, POLLPRI);          /* which never comes */
    sqe->flags |= IOSQE_FIXED_FILE;
    rc = io_uring_submit(ring);
    if (rc < 0)
        return rc;
    rc = io_uring_register_files_update(ring, 1, &none, 1);
    if (rc < 0)
        return rc;
    return recv(ends[0], &byte, 1, MSG_DONTWAIT) == 0 ? 0 : -EOPNOTSUPP;
}

static bool can_install(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool can = probe != NULL && io_uring_opcode_supported(probe, OURS_OP_FIXED_FD_INSTALL);
    io_uring_free_probe(probe);
    return can;
}

static int try_all(void)
{
    struct io_uring ring;
    int ends[2];

    /* A ring of its own: that of the driver may not be enabled yet. */
    int rc = io_uring_queue_init(2, &ring, 0);
    if (rc < 0)
        return rc;
    if (!can_install(&ring)) {
        rc = -EOPNOTSUPP;
    } else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        rc = -errno;
    } else {
        rc = try_close(&ring, ends);
        close(ends[0]);
    }
    io_uring_queue_exit(&ring);
    return rc;
}

int wsr_uring_direct_try(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool is_known;
    static int known;

    pthread_mutex_lock(&lock);
    int rc = is_known ? known : try_all();
    if (rc == 0 || rc == -EOPNOTSUPP) {
        is_known = true;
        known = rc;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- The table ---- */

int wsr_uring_direct_create(struct wsr_uring_direct *direct, struct io_uring *ring, uint32_t wanted_count)
{
    struct rlimit files;
    uint32_t count = wanted_count < TABLE_MAX ? wanted_count : TABLE_MAX;

    /* One table may not be larger than the limit, although its files are not counted. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < count)
        count = (uint32_t)files.rlim_cur;
    direct->given_back = malloc(count * sizeof *direct->given_back);
    if (direct->given_back == NULL)
        return -ENOMEM;
    int rc = io_uring_register_files_sparse(ring, count);
    if (rc < 0) {
        free(direct->given_back);
        direct->given_back = NULL;
        return rc;
    }
    direct->ring = ring;
    direct->slots_count = count;
    return 0;
}

void wsr_uring_direct_free(struct wsr_uring_direct *direct)
{
    if (direct->slots_count > 0)
        (void)io_uring_unregister_files(direct->ring);      /* refused when not the owner: the ring's end does it */
    free(direct->given_back);
    *direct = (struct wsr_uring_direct){ 0 };
}

/* ---- Files ---- */

/* Put the open descriptor @fd into the table; it is closed in any case. The file or -errno. */
static wsr_file move_in(struct wsr_uring_direct *direct, int fd)
{
    bool is_fresh = direct->given_back_count == 0;
    uint32_t slot = is_fresh ? direct->used_count : direct->given_back[direct->given_back_count - 1];
    int rc = -EMFILE;

    if (slot < direct->slots_count)
        rc = io_uring_register_files_update(direct->ring, slot, &fd, 1);
    close(fd);
    if (rc < 0)
        return rc;
    assert(rc == 1);
    if (is_fresh)
        direct->used_count++;
    else
        direct->given_back_count--;
    return WSR_URING_DIRECT_FIRST + (wsr_file)slot;
}

wsr_file wsr_uring_direct_open(struct wsr_uring_direct *direct, struct wsr_uring_files *files,
                               const struct wsr_driver_setup *setup)
{
    if (direct->slots_count == 0 || setup->family == AF_UNIX)
        return wsr_uring_file_open(files, setup);
    int fd = wsr_uring_file_make(setup);
    return fd < 0 ? fd : move_in(direct, fd);
}

void wsr_uring_direct_accepted(struct wsr_uring_direct *direct, struct wsr_uring_files *files,
                               struct wsr_completion *done)
{
    if (!wsr_uring_file_is_accepted(files, done))
        return;
    done->result = direct->slots_count > 0 ? move_in(direct, done->result) : wsr_uring_file_keep(files, done->result);
}

void wsr_uring_direct_close(struct wsr_uring_direct *direct, struct wsr_uring_files *files, wsr_file file)
{
    static const int none = -1;

    if (!wsr_uring_direct_is(file)) {
        wsr_uring_file_close(files, file);
        return;
    }
    uint32_t slot = (uint32_t)(file - WSR_URING_DIRECT_FIRST);
    assert(slot < direct->used_count && direct->given_back_count < direct->used_count);
    /* Refused only on a ring that is at its end, or by the wrong thread: then the slot is not used again. */
    if (io_uring_register_files_update(direct->ring, slot, &none, 1) == 1)
        direct->given_back[direct->given_back_count++] = slot;
}

/* ---- A plain descriptor for a moment ---- */

void wsr_uring_direct_prep_install(struct io_uring_sqe *sqe, wsr_file file)
{
    io_uring_prep_rw(OURS_OP_FIXED_FD_INSTALL, sqe, file, NULL, 0, 0);       /* close-on-exec without a flag */
    wsr_uring_direct_aim(sqe, file);
}

int wsr_uring_direct_installed(struct wsr_uring_direct *direct, uint64_t token, uint64_t taken)
{
    struct io_uring_cq *cq = &direct->ring->cq;
    /* Acquire: pairs with the kernel's release of the tail, so that the entries before it can be read. */
    unsigned tail = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE);
    int fd = -EAGAIN;

    for (unsigned head = *cq->khead; head != tail && fd == -EAGAIN; head++) {
        struct io_uring_cqe *cqe = &cq->cqes[head & cq->ring_mask];
        if (cqe->user_data != token)
            continue;
        cqe->user_data = taken;
        fd = cqe->res;
    }
    return fd;
}
