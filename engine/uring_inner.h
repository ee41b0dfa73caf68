/* The io_uring driver as its files know it. Nobody else includes this. */
#ifndef WSR_URING_INNER_H
#define WSR_URING_INNER_H

#include <stdatomic.h>

#include "uring_arena.h"
#include "uring_buffer.h"
#include "uring_direct.h"
#include "uring_file.h"
#include "uring_hot.h"
#include "uring_refused.h"

/* Tokens of the driver's own operations; see uring.h. */
#define WSR_URING_TOKEN_INSTALL UINT64_MAX
#define WSR_URING_TOKEN_CANCEL (UINT64_MAX - 1)
#define WSR_URING_TOKEN_WAKE (UINT64_MAX - 2)
#define WSR_URING_TOKEN_WATCH (UINT64_MAX - 2 - WSR_URING_HOT_FILES)     /* of the first place; the others follow */
#define WSR_URING_TOKEN_OWN WSR_URING_TOKEN_WATCH                        /* the least of them */

enum uring_state {
    URING_DISABLED,       /* one thread may queue operations; the first that waits, or fills the queue, is the owner */
    URING_RUNNING,
    URING_BROKEN          /* `error` says why; wait() returns it */
};

struct uring {
    struct wsr_driver driver;
    enum uring_state state;
    int error;
    struct io_uring ring;
    int enter_fd;                             /* descriptor, or index with IORING_ENTER_REGISTERED_RING */
    unsigned enter_flags;
    unsigned queued;                          /* in the submission queue, not yet taken by the kernel */
    bool wake_armed;
    uint64_t in_flight;                       /* operations whose last completion was not seen, the driver's own too */
    uint64_t owner;                           /* number of the only thread that may enter, 0 = none yet */
    struct wsr_uring_buffers buffers;
    struct wsr_uring_arena *arena;
    struct wsr_uring_refused refused;
    struct wsr_uring_files files;
    struct wsr_uring_hot hot;
    struct wsr_uring_direct direct;
    uint32_t batch_count;                     /* of completions that end a sleep together; see uring.h */
    uint64_t batch_ns;
    uint32_t napi_us;
    uint32_t off, granted;                    /* steps that the environment switches off; steps that are in use */
    struct wsr_driver_counts counts;
    char words[2][176];                       /* features before and after there is an owner */
    _Atomic(const char *) features;
    _Atomic int announce_fd;                  /* eventfd that the kernel writes for completions; -1 until asked for */
    int wake_fd;
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic bool wake_pending;    /* the one member that other threads write */
};

static inline struct uring *wsr_uring_of(struct wsr_driver *driver)
{
    return wsr_container_of(driver, struct uring, driver);
}

/* uring.c */
/* Become the owner's ring, or make sure of it. 0 or -errno. */
int wsr_uring_own(struct uring *u);
void wsr_uring_break_down(struct uring *u, int error);
/* Arm a multishot receive in the ring. */
void wsr_uring_arm_recv(struct uring *u, wsr_file file, uint64_t token);
/* One poll of the driver's own. Returns false when the queue has no room, and is then to be asked again. */
bool wsr_uring_poll_own(struct uring *u, wsr_file file, short events, uint64_t token);
/* Ask for the end of an operation of the driver's own. */
void wsr_uring_cancel_own(struct uring *u, uint64_t token);

/* uring_enter.c */
uint64_t wsr_uring_now_ns(void);
bool wsr_uring_has_completions(const struct uring *u);
/* One system call: submits what is queued and, with @flags, waits. 0 or -errno; what is not taken stays queued. */
int wsr_uring_enter_once(struct uring *u, unsigned wait_count, unsigned flags, void *arg, size_t arg_bytes);
/* Enter, with all that a wait may meet. 1 = completions may be there, 0 = time is over or a signal came, or -errno. */
int wsr_uring_enter(struct uring *u, bool block, uint64_t deadline_ns);

/* uring_wake.c; wake and descriptor are the operations of driver.h. */
int wsr_uring_announce_fd(const struct uring *u);
void wsr_uring_forget_announcements(const struct uring *u);
int wsr_uring_descriptor(struct wsr_driver *driver);
void wsr_uring_wake(struct wsr_driver *driver);

#endif
