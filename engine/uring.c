/* One ring, one thread. Sockets are plain descriptors or, when asked for, slots of the ring's own table. Operations are
 * written to the submission queue and leave with the next wait(), or when the queue or the arena is full. Linux copies
 * everything but the payload at submission (IORING_FEAT_SUBMIT_STABLE), so the arena of message headers is free again
 * whenever the queue is empty. */
#include "uring.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "thread.h"
#include "uring_inner.h"
#include "uring_probe.h"

#define TRANSFER_MAX 0x7ffff000u              /* the kernel's limit for one transfer (MAX_RW_COUNT) */
#define CANCEL_AGAIN_NS (100 * WSR_NS_PER_MS)

/* DISABLED -> RUNNING -> BROKEN; a ring that cannot be enabled goes from DISABLED to BROKEN. */
static void enter_state(struct uring *u, enum uring_state to, int error)
{
    assert(to > u->state);
    assert((to == URING_BROKEN) == (error < 0));
    u->state = to;
    u->error = error;
}

void wsr_uring_break_down(struct uring *u, int error)
{
    if (u->state != URING_BROKEN)
        enter_state(u, URING_BROKEN, error);
}

/* ---- Into the kernel ---- */

static unsigned kernel_flags(const struct uring *u)
{
    /* Acquire: pairs with the kernel, which posts the work before it sets the flag. */
    return __atomic_load_n(u->ring.sq.kflags, __ATOMIC_ACQUIRE) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* Make room in the submission queue. */
static int submit(struct uring *u)
{
    int rc = wsr_uring_own(u);
    while (rc == 0 && u->queued > 0) {
        unsigned before = u->queued;
        rc = wsr_uring_enter_once(u, 0, 0, NULL, 0);
        if (rc == 0 && u->queued == before)
            rc = -EAGAIN;
        if (rc == -EINTR)
            rc = 0;
    }
    return rc;
}

/* Complete @token with @result at the next wait. */
static void refuse(struct uring *u, uint64_t token, int result)
{
    if (wsr_uring_refused_push(&u->refused, token, result) < 0)
        wsr_uring_break_down(u, -ENOMEM);               /* a lost completion is worse than a lost driver */
}

/* A free entry of the submission queue. NULL when there is none; then @token is refused, unless it is our own. */
static struct io_uring_sqe *claim(struct uring *u, uint64_t token)
{
    struct io_uring_sq *sq = &u->ring.sq;

    if (WSR_UNLIKELY(u->queued == sq->ring_entries)) {
        int rc = submit(u);
        if (rc < 0) {
            if (token < WSR_URING_TOKEN_OWN)
                refuse(u, token, rc);
            return NULL;
        }
    }
    u->queued++;
    u->in_flight++;
    u->counts.submitted++;
    return &sq->sqes[sq->sqe_tail++ & sq->ring_mask];
}

bool wsr_uring_poll_own(struct uring *u, wsr_file file, short events, uint64_t token)
{
    if (u->queued == u->ring.sq.ring_entries)
        return false;
    struct io_uring_sqe *sqe = claim(u, token);
    io_uring_prep_poll_add(sqe, file, (unsigned)events);
    sqe->user_data = token;
    return true;
}

static void arm_wake(struct uring *u)
{
    if (u->queued == u->ring.sq.ring_entries)
        return;                               /* wait() does not sleep without it, empties the queue and comes again */
    struct io_uring_sqe *sqe = claim(u, WSR_URING_TOKEN_WAKE);
    io_uring_prep_poll_multishot(sqe, u->wake_fd, POLLIN);
    sqe->user_data = WSR_URING_TOKEN_WAKE;
    u->wake_armed = true;
}

int wsr_uring_own(struct uring *u)
{
    if (WSR_LIKELY(u->owner == wsr_thread_number()))
        return u->error;
    if (u->owner != 0)
        return -EEXIST;                       /* the kernel's word for the wrong thread of a SINGLE_ISSUER ring */
    if (u->state == URING_BROKEN)
        return u->error;
    if ((u->ring.flags & IORING_SETUP_R_DISABLED) != 0) {
        int rc = io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
        if (rc < 0) {
            wsr_uring_break_down(u, rc);
            return rc;
        }
    }
    u->owner = wsr_thread_number();
    enter_state(u, URING_RUNNING, 0);

    u->granted |= wsr_uring_probe_climb(&u->ring, u->off, u->napi_us, &u->enter_fd, &u->enter_flags);
    wsr_uring_probe_words(u->words[1], sizeof u->words[1], u->granted);
    /* Release: pairs with the acquire load in uring_features(), which may run on any thread. */
    atomic_store_explicit(&u->features, u->words[1], memory_order_release);
    return 0;
}

/* ---- Files ---- */

static wsr_file uring_open(struct wsr_driver *driver, const struct wsr_driver_setup *setup)
{
    return wsr_uring_direct_open(&wsr_uring_of(driver)->direct, &wsr_uring_of(driver)->files, setup);
}

static wsr_file uring_listen(struct wsr_driver *driver, const struct sockaddr *address, socklen_t address_bytes,
                             int backlog, uint16_t *port)
{
    return wsr_uring_file_listen(&wsr_uring_of(driver)->files, address, address_bytes, backlog, port);
}

static void uring_close(struct wsr_driver *driver, wsr_file file)
{
    wsr_uring_direct_close(&wsr_uring_of(driver)->direct, &wsr_uring_of(driver)->files, file);
}

/* A descriptor for a slot, to be closed at once. Submitted at once, as the slot may be another socket's tomorrow. */
static int install_direct(struct uring *u, wsr_file file)
{
    struct io_uring_sqe *sqe = claim(u, WSR_URING_TOKEN_INSTALL);
    if (sqe == NULL)
        return -EAGAIN;
    wsr_uring_direct_prep_install(sqe, file);
    sqe->user_data = WSR_URING_TOKEN_INSTALL;
    int rc = submit(u);
    return rc < 0 ? rc : wsr_uring_direct_installed(&u->direct, WSR_URING_TOKEN_INSTALL, WSR_URING_TOKEN_CANCEL);
}

/* What a call can be made on: @file itself, or a descriptor that give_up() closes. Or -errno. */
static int descriptor_of(struct uring *u, wsr_file file)
{
    return wsr_uring_direct_is(file) ? install_direct(u, file) : file;
}

static void give_up(wsr_file file, int fd)
{
    if (fd != file)
        close(fd);
}

/* IORING_OP_SHUTDOWN always takes a kernel thread. */
static int uring_shutdown(struct wsr_driver *driver, wsr_file file)
{
    int fd = descriptor_of(wsr_uring_of(driver), file);
    if (fd < 0)
        return fd;
    int rc = shutdown(fd, SHUT_WR) == 0 ? 0 : -errno;
    give_up(file, fd);
    return rc;
}

static int uring_set_option(struct wsr_driver *driver, wsr_file file, int level, int name, const void *value,
                            socklen_t bytes)
{
    int fd = descriptor_of(wsr_uring_of(driver), file);
    if (fd < 0)
        return fd;
    int rc = setsockopt(fd, level, name, value, bytes) == 0 ? 0 : -errno;
    give_up(file, fd);
    return rc;
}

/* ---- Operations ---- */

static void uring_connect(struct wsr_driver *driver, wsr_file file, const struct sockaddr *address,
                          socklen_t address_bytes, uint64_t token)
{
    if (address->sa_family == AF_UNIX) {
        /* It ends at once, also when the server's queue is full; as an operation that would take a kernel thread. */
        refuse(wsr_uring_of(driver), token, connect(file, address, address_bytes) == 0 ? 0 : -errno);
        return;
    }
    struct io_uring_sqe *sqe = claim(wsr_uring_of(driver), token);
    if (sqe == NULL)
        return;
    io_uring_prep_connect(sqe, file, address, address_bytes);
    wsr_uring_direct_aim(sqe, file);
    sqe->user_data = token;
}

static void uring_accept(struct wsr_driver *driver, wsr_file file, uint64_t token)
{
    struct uring *u = wsr_uring_of(driver);

    int rc = wsr_uring_file_expect(&u->files, token);
    if (rc < 0) {
        refuse(u, token, rc);
        return;
    }
    struct io_uring_sqe *sqe = claim(u, token);
    if (sqe == NULL)
        return;                               /* its refusal ends the expectation like a completion */
    io_uring_prep_multishot_accept(sqe, file, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    sqe->user_data = token;
}

void wsr_uring_arm_recv(struct uring *u, wsr_file file, uint64_t token)
{
    struct io_uring_sqe *sqe = claim(u, token);
    if (sqe == NULL)
        return;
    io_uring_prep_recv_multishot(sqe, file, NULL, 0, 0);
    wsr_uring_direct_aim(sqe, file);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = WSR_URING_BUFFER_GROUP;
    sqe->user_data = token;
}

static void uring_recv(struct wsr_driver *driver, wsr_file file, uint64_t token)
{
    struct uring *u = wsr_uring_of(driver);
    if (!wsr_uring_hot_recv(u, file, token))
        wsr_uring_arm_recv(u, file, token);
}

static void uring_recv_into(struct wsr_driver *driver, wsr_file file, void *to, size_t len, uint64_t token)
{
    struct io_uring_sqe *sqe = claim(wsr_uring_of(driver), token);
    if (sqe == NULL)
        return;
    io_uring_prep_recv(sqe, file, to, len < TRANSFER_MAX ? len : TRANSFER_MAX, 0);
    wsr_uring_direct_aim(sqe, file);
    sqe->user_data = token;
}

static void queue_send(struct uring *u, wsr_file file, const struct iovec *parts, size_t parts_count, int flags,
                       uint64_t token)
{
    assert(parts_count > 0 && parts_count <= WSR_DRIVER_PARTS_MAX);
    if (parts_count > 1 && !wsr_uring_arena_has_room(u->arena, parts_count)) {
        int rc = submit(u);
        if (rc < 0) {
            refuse(u, token, rc);
            return;
        }
    }
    /* Only after the last call that may submit is a header taken: an empty queue resets the arena. */
    struct io_uring_sqe *sqe = claim(u, token);
    if (sqe == NULL)
        return;
    if (parts_count == 1) {
        size_t len = parts[0].iov_len < TRANSFER_MAX ? parts[0].iov_len : TRANSFER_MAX;
        io_uring_prep_send(sqe, file, parts[0].iov_base, len, flags);
    } else {
        io_uring_prep_sendmsg(sqe, file, wsr_uring_arena_take(u->arena, parts, parts_count), flags);
    }
    wsr_uring_direct_aim(sqe, file);
    sqe->user_data = token;
}

/* MSG_WAITALL: on plain TCP the kernel goes on by itself after a short send (kernel.md, fact 5). */
static void uring_send(struct wsr_driver *driver, wsr_file file, const struct iovec *parts, size_t parts_count,
                       uint64_t token)
{
    queue_send(wsr_uring_of(driver), file, parts, parts_count, MSG_NOSIGNAL | MSG_WAITALL, token);
}

/* With keys in the kernel MSG_WAITALL is EOPNOTSUPP (tls_sw_sendmsg() in Linux). */
static void uring_send_sealed(struct wsr_driver *driver, wsr_file file, const struct iovec *parts, size_t parts_count,
                              uint64_t token)
{
    queue_send(wsr_uring_of(driver), file, parts, parts_count, MSG_NOSIGNAL, token);
}

static void uring_send_message(struct wsr_driver *driver, wsr_file file, const struct msghdr *message, uint64_t token)
{
    struct io_uring_sqe *sqe = claim(wsr_uring_of(driver), token);
    if (sqe == NULL)
        return;
    io_uring_prep_sendmsg(sqe, file, message, MSG_NOSIGNAL);
    wsr_uring_direct_aim(sqe, file);
    sqe->user_data = token;
}

static void uring_recv_message(struct wsr_driver *driver, wsr_file file, struct msghdr *message, uint64_t token)
{
    struct io_uring_sqe *sqe = claim(wsr_uring_of(driver), token);
    if (sqe == NULL)
        return;
    io_uring_prep_recvmsg(sqe, file, message, 0);
    wsr_uring_direct_aim(sqe, file);
    sqe->user_data = token;
}

static ssize_t uring_send_now(struct wsr_driver *driver, wsr_file file, const struct iovec *parts, size_t parts_count)
{
    return wsr_uring_hot_send(wsr_uring_of(driver), file, parts, parts_count);
}

void wsr_uring_cancel_own(struct uring *u, uint64_t token)
{
    struct io_uring_sqe *sqe = claim(u, WSR_URING_TOKEN_CANCEL);
    if (sqe == NULL) {
        wsr_uring_break_down(u, -ENOMEM);               /* somebody would wait for the end of an operation for ever */
        return;
    }
    io_uring_prep_cancel64(sqe, token, 0);
    sqe->user_data = WSR_URING_TOKEN_CANCEL;
}

static void uring_cancel(struct wsr_driver *driver, uint64_t token)
{
    if (!wsr_uring_hot_cancel(wsr_uring_of(driver), token))
        wsr_uring_cancel_own(wsr_uring_of(driver), token);
}

/* ---- Receive buffers ---- */

static int uring_provide(struct wsr_driver *driver, uint8_t *base, uint32_t bytes, uint32_t count)
{
    struct uring *u = wsr_uring_of(driver);
    if (u->hot.is_allowed)
        u->hot.buffers_max = count / 8 < WSR_URING_HOT_BUFFERS ? count / 8 : WSR_URING_HOT_BUFFERS;
    int rc = wsr_uring_buffer_provide(&u->buffers, &u->ring, base, bytes, count);
    for (uint32_t index = 0; rc == 0 && index < count; index++)
        driver->ops->give(driver, (uint16_t)index);
    return rc;
}

static void uring_give(struct wsr_driver *driver, uint16_t index)
{
    struct uring *u = wsr_uring_of(driver);
    if (!wsr_uring_hot_keep(&u->hot, index))
        wsr_uring_buffer_give(&u->buffers, index);
}

/* The kernel has run out of buffers: what was kept back for plain calls is for it too. */
static void give_all(struct uring *u)
{
    while (u->hot.buffers_count > 0)
        wsr_uring_buffer_give(&u->buffers, u->hot.buffers[--u->hot.buffers_count]);
}

/* ---- Completions ---- */

static void digest_wake(struct uring *u, int result, bool more, bool *woken)
{
    /* Acquire-release: pairs with the exchange in uring_wake(). Whoever finds true there wrote what it has to say
     * before, and the caller sees it after this wait. The eventfd is never read: its poll fires at each write. */
    atomic_exchange_explicit(&u->wake_pending, false, memory_order_acq_rel);
    *woken = true;
    if (!more)
        u->wake_armed = false;
    if (result < 0)
        wsr_uring_break_down(u, result);                           /* nobody could wake this driver again */
}

/* Turn one entry of the kernel into one of ours. False when it was the driver's own. */
static bool digest(struct uring *u, const struct io_uring_cqe *cqe, struct wsr_completion *out, bool *woken)
{
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;

    if (!more) {
        assert(u->in_flight > 0);
        u->in_flight--;
    }
    if (WSR_UNLIKELY(cqe->user_data >= WSR_URING_TOKEN_OWN)) {
        if (cqe->user_data == WSR_URING_TOKEN_WAKE)
            digest_wake(u, cqe->res, more, woken);
        else if (cqe->user_data < WSR_URING_TOKEN_WAKE)
            wsr_uring_hot_watched(u, (unsigned)(cqe->user_data - WSR_URING_TOKEN_WATCH));
        else if (cqe->user_data == WSR_URING_TOKEN_INSTALL && cqe->res >= 0)
            close(cqe->res);                  /* came too late for install_direct(), which has told so */
        return false;
    }
    out->token = cqe->user_data;
    out->result = cqe->res;
    out->flags = more ? WSR_COMPLETION_MORE : 0;
    out->buffer = 0;
    if ((cqe->flags & IORING_CQE_F_BUFFER) != 0) {
        out->flags |= WSR_COMPLETION_BUFFER;
        out->buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    }
    if (WSR_UNLIKELY(cqe->res == -ENOBUFS))
        give_all(u);
    if (WSR_UNLIKELY(u->files.accepts_count > 0))
        wsr_uring_direct_accepted(&u->direct, &u->files, out);
    return true;
}

static unsigned take_refused(struct uring *u, struct wsr_completion *out, unsigned out_count)
{
    unsigned taken = wsr_uring_refused_take(&u->refused, out, out_count);
    for (unsigned i = 0; i < taken; i++)
        wsr_uring_direct_accepted(&u->direct, &u->files, &out[i]);
    return taken;
}

static unsigned reap(struct uring *u, struct wsr_completion *out, unsigned out_count, bool *woken)
{
    struct io_uring_cq *cq = &u->ring.cq;
    unsigned taken = WSR_UNLIKELY(!wsr_uring_refused_is_empty(&u->refused)) ? take_refused(u, out, out_count) : 0;
    unsigned head = *cq->khead;
    /* Acquire: see wsr_uring_has_completions(). */
    unsigned tail = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE);

    while (head != tail && taken < out_count) {
        if (digest(u, &cq->cqes[head & cq->ring_mask], &out[taken], woken))
            taken++;
        head++;
    }
    /* Release: the kernel writes over the entries only after it has seen the new head. */
    __atomic_store_n(cq->khead, head, __ATOMIC_RELEASE);
    return taken;
}

static uint64_t uring_now(struct wsr_driver *driver)
{
    (void)driver;
    return wsr_uring_now_ns();
}

static int uring_wait(struct wsr_driver *driver, struct wsr_completion *out, unsigned out_count, uint64_t deadline_ns)
{
    struct uring *u = wsr_uring_of(driver);
    int rc = wsr_uring_own(u);

    if (WSR_UNLIKELY(rc < 0))
        return rc;
    for (;;) {
        bool woken = false;
        if (WSR_UNLIKELY(!u->wake_armed))
            arm_wake(u);
        if (WSR_UNLIKELY(wsr_uring_announce_fd(u) >= 0))
            wsr_uring_forget_announcements(u);
        if (WSR_UNLIKELY(u->hot.used_count > 0))
            wsr_uring_hot_sort(u);
        bool block = deadline_ns != 0 && u->wake_armed && !wsr_uring_has_completions(u) && !wsr_uring_hot_look(u);
        if (block && u->hot.used_count > 0)
            block = wsr_uring_hot_watch(u);
        unsigned wanted = kernel_flags(u);
        if (WSR_UNLIKELY((wanted & IORING_SQ_CQ_OVERFLOW) != 0))
            u->counts.overflows++;
        rc = block || u->queued > 0 || wanted != 0 ? wsr_uring_enter(u, block, deadline_ns) : 1;
        if (rc < 0)
            return rc;
        wsr_uring_buffer_publish(&u->buffers);
        unsigned taken = reap(u, out, out_count, &woken);
        if (wsr_uring_hot_look(u))
            taken += wsr_uring_hot_take(u, out + taken, out_count - taken);
        if (taken > 0 || woken || rc == 0 || deadline_ns == 0)
            return (int)taken;
    }
}

static bool uring_ready(struct wsr_driver *driver)
{
    struct uring *u = wsr_uring_of(driver);
    return wsr_uring_has_completions(u) || kernel_flags(u) != 0 || u->queued > 0 || u->state != URING_RUNNING ||
           !u->wake_armed || wsr_uring_hot_look(u);
}

static const char *uring_features(struct wsr_driver *driver)
{
    /* Acquire: pairs with the release in own(), after which the words are there. */
    return atomic_load_explicit(&wsr_uring_of(driver)->features, memory_order_acquire);
}

static struct wsr_driver_counts uring_counts(struct wsr_driver *driver)
{
    return wsr_uring_of(driver)->counts;
}

/* ---- Life ---- */

/* Cancel everything and wait for the last completion: after this the kernel writes to no memory of ours. */
static void drain(struct uring *u)
{
    struct wsr_completion ignored[64];
    bool woken = false;

    if (u->state != URING_RUNNING || u->owner != wsr_thread_number())
        return;           /* not the owner: its thread has ended, and the kernel cancelled its operations then */
    while (u->in_flight > 0 && u->state == URING_RUNNING) {
        /* Again and again: an operation between two polls can be missed by a cancel. */
        struct io_uring_sqe *sqe = claim(u, WSR_URING_TOKEN_CANCEL);
        if (sqe != NULL) {
            io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
            sqe->user_data = WSR_URING_TOKEN_CANCEL;
        }
        uint64_t deadline_ns = wsr_uring_now_ns() + CANCEL_AGAIN_NS;
        int rc = 1;
        while (rc > 0 && u->in_flight > 0) {
            rc = wsr_uring_enter(u, !wsr_uring_has_completions(u), deadline_ns);
            while (wsr_uring_has_completions(u))
                reap(u, ignored, 64, &woken);
        }
    }
}

static void release(struct uring *u)
{
    wsr_uring_direct_free(&u->direct);
    /* Not on the owner's thread, Linux refuses to give up the registered descriptor: the end of the owner did that. */
    io_uring_queue_exit(&u->ring);
    wsr_uring_file_close_all(&u->files);
    wsr_uring_buffer_release(&u->buffers);
    close(u->wake_fd);
    if (wsr_uring_announce_fd(u) >= 0)
        close(wsr_uring_announce_fd(u));
    wsr_uring_refused_free(&u->refused);
    free(u->arena);
    free(u);
}

static void uring_destroy(struct wsr_driver *driver)
{
    struct uring *u = wsr_uring_of(driver);
    drain(u);
    release(u);
}

static const struct wsr_driver_ops uring_ops = {
    .name = "io_uring",
    .open = uring_open,
    .listen = uring_listen,
    .close = uring_close,
    .shutdown = uring_shutdown,
    .set_option = uring_set_option,
    .connect = uring_connect,
    .accept = uring_accept,
    .recv = uring_recv,
    .recv_into = uring_recv_into,
    .send = uring_send,
    .send_sealed = uring_send_sealed,
    .send_message = uring_send_message,
    .recv_message = uring_recv_message,
    .send_now = uring_send_now,
    .cancel = uring_cancel,
    .provide = uring_provide,
    .give = uring_give,
    .wait = uring_wait,
    .ready = uring_ready,
    .wake = wsr_uring_wake,
    .descriptor = wsr_uring_descriptor,
    .now = uring_now,
    .features = uring_features,
    .counts = uring_counts,
    .destroy = uring_destroy,
};

static struct uring *allocate(void)
{
    struct uring *u = aligned_alloc(WSR_CACHE_LINE, sizeof *u);       /* the size is a multiple: a member is aligned */
    if (u == NULL)
        return NULL;
    memset(u, 0, sizeof *u);
    u->driver.ops = &uring_ops;
    atomic_init(&u->announce_fd, -1);
    u->off = wsr_uring_probe_switched_off();
    u->arena = calloc(1, sizeof *u->arena);
    if (u->arena == NULL) {
        free(u);
        return NULL;
    }
    return u;
}

int wsr_uring_create(struct wsr_driver **driver, const struct wsr_uring_options *options,
                     struct wsr_uring_report *report)
{
    static const struct wsr_uring_options defaults;
    struct wsr_uring_report unread;
    int rc;

    if (options == NULL)
        options = &defaults;
    if (report == NULL)
        report = &unread;
    *report = (struct wsr_uring_report){ 0 };
    struct uring *u = allocate();
    if (u == NULL)
        return wsr_uring_probe_refuse(report, "malloc", ENOMEM);
    u->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (u->wake_fd < 0) {
        rc = wsr_uring_probe_refuse(report, "eventfd", errno);
        goto fail;
    }
    rc = wsr_uring_probe_open(&u->ring, &u->direct, options, u->off, report);
    if (rc < 0)
        goto fail;

    u->enter_fd = u->ring.ring_fd;
    u->batch_count = options->batch_count;
    u->batch_ns = options->batch_ns;
    u->napi_us = options->napi_us;
    u->hot.is_allowed = (options->flags & WSR_URING_SPINS) != 0 && (u->off & 1u << WSR_URING_PLAIN_CALLS) == 0;
    u->granted = WSR_URING_STEPS_BASE | (u->direct.slots_count > 0 ? 1u << WSR_URING_DIRECT_FILES : 0);
    wsr_uring_probe_words(u->words[0], sizeof u->words[0], u->granted);
    /* Relaxed: nobody else has the driver yet. Pairs with the load in uring_features(). */
    atomic_store_explicit(&u->features, u->words[0], memory_order_relaxed);
    if ((u->ring.flags & IORING_SETUP_R_DISABLED) == 0)
        wsr_uring_own(u);                     /* cannot fail: there is nothing to enable */
    /* What a later owner will be granted is not known yet: neither a feature nor missing. */
    wsr_uring_probe_tell(report, u->granted, (u->owner != 0 ? ~u->granted : u->off) & wsr_uring_probe_asked(options));
    *driver = &u->driver;
    return 0;

fail:
    wsr_uring_probe_words(report->missing, sizeof report->missing, WSR_URING_STEPS_ALL);
    if (u->wake_fd >= 0)
        close(u->wake_fd);
    free(u->arena);
    free(u);
    return rc;
}
