/* Waking the owner from another thread, and telling those who wait elsewhere that it is to be asked. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "uring_inner.h"

int wsr_uring_announce_fd(const struct uring *u)
{
    return atomic_load_explicit(&u->announce_fd, memory_order_relaxed);
}

/* Not the ring's own descriptor: with DEFER_TASKRUN whoever already sleeps on that is not woken (seen on Linux
 * 6.18). */
int wsr_uring_descriptor(struct wsr_driver *driver)
{
    struct uring *u = wsr_uring_of(driver);

    int fd = wsr_uring_announce_fd(u);
    if (fd >= 0 || wsr_uring_own(u) < 0)
        return fd;
    u->hot.is_allowed = false;                        /* what comes is to be announced, so all of it by the ring */
    fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);      /* readable: completions may be there already */
    if (fd >= 0 && io_uring_register_eventfd(&u->ring, fd) != 0) {
        close(fd);
        fd = -1;
    }
    /* Relaxed: a wake that does not see it yet is followed by the look that the caller owes. Pairs with
     * announce_fd(). */
    atomic_store_explicit(&u->announce_fd, fd, memory_order_relaxed);
    return fd;
}

/* Before the look at the queue and its flags: what is announced from here on is either seen by that look, or announced
 * again. */
void wsr_uring_forget_announcements(const struct uring *u)
{
    eventfd_t count;
    (void)!eventfd_read(wsr_uring_announce_fd(u), &count);      /* EAGAIN when there were none */
}

void wsr_uring_wake(struct wsr_driver *driver)
{
    struct uring *u = wsr_uring_of(driver);
    static const uint64_t one = 1;

    /* Acquire-release: pairs with the exchange in digest_wake(). One write serves all who call until wait() returns. */
    if (!atomic_exchange_explicit(&u->wake_pending, true, memory_order_acq_rel)) {
        ssize_t wrote = write(u->wake_fd, &one, sizeof one);
        /* By hand too: one eventfd that signals another from within is not always announced (seen on Linux 6.18). */
        if (wsr_uring_announce_fd(u) >= 0)
            wrote = write(wsr_uring_announce_fd(u), &one, sizeof one);
        (void)wrote;                          /* full only after 2^64 wakes */
    }
}
