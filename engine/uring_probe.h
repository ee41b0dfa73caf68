/* What the kernel grants of io_uring, and in words what it refuses and why. A part of the io_uring driver. */
#ifndef WSR_URING_PROBE_H
#define WSR_URING_PROBE_H

#include <liburing.h>

#include "uring.h"
#include "uring_direct.h"

#define WSR_URING_ENTER_ABS_TIMER (1u << 5)    /* IORING_ENTER_ABS_TIMER, Linux 6.12 */

/* The ladder. The driver cannot do without the steps before WSR_URING_RING_FD; it runs with any set of the others. */
enum wsr_uring_step {
    WSR_URING_DEFER_TASKRUN,        /* Linux 6.1, with SUBMIT_ALL, SINGLE_ISSUER and TASKRUN_FLAG */
    WSR_URING_BUFFER_RING,          /* 5.19 */
    WSR_URING_MULTISHOT_RECV,       /* 6.0 */
    WSR_URING_MULTISHOT_ACCEPT,     /* 5.19 */
    WSR_URING_RING_FD,              /* 5.18: no look-up of the ring's descriptor per enter */
    WSR_URING_IOWQ_CAP,             /* 5.15: a mistake that needs kernel threads gets 2 of them, not 4,000 */
    WSR_URING_ABS_TIMER,            /* 6.12: deadlines go to the kernel as they are */
    WSR_URING_PLAIN_CALLS,          /* any: an owner that spins has few sockets received and sent without the ring */
    WSR_URING_MIN_WAIT,             /* 6.12: a wait for a batch is one call, else two */
    WSR_URING_NAPI,                 /* 6.9: only when asked for */
    WSR_URING_DIRECT_FILES,         /* 6.13: a table of files that lets each of them go at once; only when asked for */
    WSR_URING_STEPS_COUNT
};
#define WSR_URING_STEPS_BASE ((1u << WSR_URING_RING_FD) - 1)
#define WSR_URING_STEPS_ALL ((1u << WSR_URING_STEPS_COUNT) - 1)

/* The steps that the environment variable WSRING_URING_OFF names, one bit each. */
uint32_t wsr_uring_probe_switched_off(void);

/* The names of @steps, separated by one space. */
void wsr_uring_probe_words(char *out, size_t size, uint32_t steps);

/* The steps that @options ask for: all, but direct descriptors and NAPI only by name. */
uint32_t wsr_uring_probe_asked(const struct wsr_uring_options *options);

/* Fill the words of @report. */
void wsr_uring_probe_tell(struct wsr_uring_report *report, uint32_t granted, uint32_t missing);

/* Make the ring, make sure of the base steps, and make the table of direct descriptors if @options want one. On failure
 * @report holds error and text, and there is neither. */
WSR_MUST_USE int wsr_uring_probe_open(struct io_uring *ring, struct wsr_uring_direct *direct,
                                      const struct wsr_uring_options *options, uint32_t off,
                                      struct wsr_uring_report *report);

/* Take the other optional steps but @off, on the thread that owns the ring, with NAPI busy poll of @napi_us, 0 = none.
 * Returns those granted; they may change how the ring is entered from now on. */
uint32_t wsr_uring_probe_climb(struct io_uring *ring, uint32_t off, uint32_t napi_us, int *enter_fd,
                               unsigned *enter_flags);

/* What is known about a refused call. */
struct wsr_uring_refusal {
    const char *call;               /* "io_uring_setup" */
    int error;                      /* errno */
    int disabled;                   /* kernel.io_uring_disabled (Linux 6.6), -1 = absent */
    int group;                      /* kernel.io_uring_group, -1 = none */
    bool setup_plain;               /* a ring without any flag can be made */
    const char *release;            /* of the kernel */
};

/* The sentence: what is the matter, and what to do. */
void wsr_uring_probe_explain(char *out, size_t size, const struct wsr_uring_refusal *refusal);

/* Gather what is known, fill @report, and return the WSR_ERR_* that stands for errno @error. */
int wsr_uring_probe_refuse(struct wsr_uring_report *report, const char *call, int error);

#endif
