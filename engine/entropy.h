/* A stream of mask keys and nonces from the kernel's generator, taken in batches (RFC 6455 5.3, 10.3). One thread
 * each. */
#ifndef WSR_ENTROPY_H
#define WSR_ENTROPY_H

#include "base.h"

#define WSR_ENTROPY_BATCH 2048

struct wsr_entropy {
    uint32_t left;                         /* bytes of the batch not yet handed out; zero at first */
    uint64_t process;                      /* which process filled it: a forked child must not repeat it */
    uint8_t batch[WSR_ENTROPY_BATCH];
};

/* Take @len (at most WSR_ENTROPY_BATCH) bytes; each is handed out once and wiped here. Aborts if the kernel's generator
 * fails, which getrandom(2) rules out for such sizes once the system has booted. */
void wsr_entropy_take(struct wsr_entropy *entropy, void *out, size_t len);

#endif
