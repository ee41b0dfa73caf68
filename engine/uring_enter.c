/* Into the kernel and back: one call that submits, and waits when there is nothing else to do. */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "uring_inner.h"
#include "uring_probe.h"

#define DEADLINE_MAX_NS (UINT64_MAX / 4)      /* 146 years; later is without end: no sum of times overflows */

uint64_t wsr_uring_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * WSR_NS_PER_S + (uint64_t)now.tv_nsec;
}

bool wsr_uring_has_completions(const struct uring *u)
{
    /* Acquire: pairs with the kernel's release of the tail, so that the entries before it can be read. */
    bool posted = __atomic_load_n(u->ring.cq.ktail, __ATOMIC_ACQUIRE) != *u->ring.cq.khead;
    return posted || !wsr_uring_refused_is_empty(&u->refused);
}

int wsr_uring_enter_once(struct uring *u, unsigned wait_count, unsigned flags, void *arg, size_t arg_bytes)
{
    struct io_uring_sq *sq = &u->ring.sq;

    wsr_uring_buffer_publish(&u->buffers);
    sq->sqe_head = sq->sqe_tail;
    /* Release: the kernel reads the tail with acquire and then the entries before it. */
    __atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
    int rc = io_uring_enter2((unsigned)u->enter_fd, u->queued, wait_count, flags | u->enter_flags, arg, arg_bytes);
    u->counts.enters++;
    if (rc < 0)
        return rc;
    assert((unsigned)rc <= u->queued);
    u->queued -= (unsigned)rc;
    if (u->queued == 0)
        wsr_uring_arena_reset(u->arena);
    return 0;
}

static uint64_t left_ns(uint64_t deadline_ns)
{
    uint64_t now = wsr_uring_now_ns();
    return deadline_ns > now ? deadline_ns - now : 0;
}

/* Wait for @wait_count completions until @deadline_ns; and when @least_ns is given, for a single one once that time is
 * over (Linux 6.12). Returns as wsr_uring_enter(). */
static int enter_until(struct uring *u, unsigned wait_count, uint64_t least_ns, uint64_t deadline_ns)
{
    struct __kernel_timespec limit = { 0 };
    struct io_uring_getevents_arg arg = { .sigmask_sz = _NSIG / 8 };
    unsigned flags = IORING_ENTER_GETEVENTS;
    unsigned queued_before = u->queued;

    if (wait_count > 0 && deadline_ns < DEADLINE_MAX_NS) {
        bool is_absolute = (u->enter_flags & WSR_URING_ENTER_ABS_TIMER) != 0;
        uint64_t time_ns = is_absolute ? deadline_ns : left_ns(deadline_ns);
        limit.tv_sec = (int64_t)(time_ns / WSR_NS_PER_S);
        limit.tv_nsec = (int64_t)(time_ns % WSR_NS_PER_S);
        arg.ts = (uintptr_t)&limit;
        flags |= IORING_ENTER_EXT_ARG;
    }
    if (least_ns > 0) {
        arg.pad = (uint32_t)(least_ns / 1000 + 1);         /* min_wait_usec of later headers */
        flags |= IORING_ENTER_EXT_ARG;
    }
    bool extended = (flags & IORING_ENTER_EXT_ARG) != 0;
    int rc = wsr_uring_enter_once(u, wait_count, flags, extended ? &arg : NULL, extended ? sizeof arg : _NSIG / 8);
    switch (rc) {
    case 0:
        /* When the call submitted something, its result hides how the wait ended. It did not begin when something
         * stayed queued; else an empty queue of completions means the deadline or a signal. */
        return u->queued > 0 || queued_before == 0 || wsr_uring_has_completions(u) ? 1 : 0;
    case -ETIME: case -EINTR:
        return 0;
    case -EAGAIN: case -EBUSY:
        return wsr_uring_has_completions(u) ? 1 : 0;   /* no memory or no room: take what is there and come again */
    default:
        /* EBADR among them: the kernel lost a completion, so some operation will never end. */
        wsr_uring_break_down(u, rc);
        return rc;
    }
}

/* Sleep until so many completions as the owner wants at once are there, or one when it has waited long enough. */
static int enter_for_batch(struct uring *u, uint64_t deadline_ns)
{
    uint64_t now = wsr_uring_now_ns();
    uint64_t until_ns = deadline_ns > now && deadline_ns - now > u->batch_ns ? now + u->batch_ns : deadline_ns;
    uint64_t least_ns = until_ns > now ? until_ns - now : 0;
    bool has_min_wait = (u->granted & 1u << WSR_URING_MIN_WAIT) != 0;
    int rc = has_min_wait ? enter_until(u, u->batch_count, least_ns, deadline_ns)
                          : enter_until(u, u->batch_count, 0, until_ns);
    if (rc != 0 || wsr_uring_has_completions(u))
        return rc;
    now = wsr_uring_now_ns();
    if (now < until_ns || now >= deadline_ns)
        return 0;                                      /* a signal, or the deadline */
    /* Linux with a minimum of time, but without a deadline, ends the wait after the minimum too. */
    return enter_until(u, 1, 0, deadline_ns);
}

int wsr_uring_enter(struct uring *u, bool block, uint64_t deadline_ns)
{
    if (block && WSR_UNLIKELY(u->batch_count > 1))
        return enter_for_batch(u, deadline_ns);
    return enter_until(u, block, 0, deadline_ns);
}
