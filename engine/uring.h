/* The io_uring driver: operations, feature probe, ladder, diagnosis. Linux 6.1 and newer. */
#ifndef WSR_URING_H
#define WSR_URING_H

#include "driver.h"

enum wsr_uring_flags {
    WSR_URING_DISABLED_START = 1u << 0,  /* the thread that waits first becomes the owner (IORING_SETUP_R_DISABLED) */
    WSR_URING_SPINS = 1u << 1            /* the owner watches ready() rather than sleep: plain calls where they win */
};

struct wsr_uring_options {
    uint32_t flags;               /* enum wsr_uring_flags */
    uint32_t entries_count;       /* submission queue; 0 = 1,024 */
    uint32_t completions_count;   /* completion queue; 0 = 16,384 */
    uint32_t batch_count;         /* an owner that sleeps is woken for so many completions at once; 0 = 1 */
    uint32_t napi_us;             /* NAPI busy poll of so many microseconds, where the kernel has it; 0 = none */
    uint64_t batch_ns;            /* when they do not come within this time, it is woken for one */
    uint32_t direct_count;        /* 0 = sockets are descriptors; else all but Unix sockets and listening ones are kept
                                     in a table of the ring with so many slots, or with as many as there may be open
                                     files, for which they do not count then */
};

/* Sentence on what is missing and what to do, and the steps of the ladder that run and that do not. */
struct wsr_uring_report {
    int error;                    /* 0 or -errno of the call that was refused */
    char text[256];
    char features[176];
    char missing[176];
    uint32_t direct_count;        /* slots of the table */
};

/* Make a driver. Returns 0 with *driver, or WSR_ERR_NOT_SUPPORTED, WSR_ERR_MEMORY, WSR_ERR_SYSTEM with @report filled
 * (NULL is allowed). The environment variable WSRING_URING_OFF names steps of the ladder to do without, separated by
 * commas; the driver refuses to run without a step of its base. Tokens from UINT64_MAX - 15 on are the driver's own. It
 * is destroyed by its owner, or by anyone when that thread has ended. */
WSR_MUST_USE int wsr_uring_create(struct wsr_driver **driver, const struct wsr_uring_options *options,
                                  struct wsr_uring_report *report);

/* The diagnosis alone: makes a ring, tries each step, closes it. */
void wsr_uring_probe(struct wsr_uring_report *report);

#endif
