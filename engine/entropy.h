/* A stream of mask keys and nonces, taken in batches from a generator of OpenSSL's, which the kernel's seeds: that
 * costs a tenth of asking the kernel for each batch (RFC 6455 5.3, 10.3), and no lock. One thread each. */
#ifndef WSR_ENTROPY_H
#define WSR_ENTROPY_H

#include <stdatomic.h>

#include "base.h"

#define WSR_ENTROPY_BATCH 4096

struct wsr_entropy {
    uint32_t left;                         /* bytes of the batch not yet handed out; zero at first */
    uint64_t process;                      /* which process filled it: a forked child must not repeat it */
    uint8_t batch[WSR_ENTROPY_BATCH];
};

/* Number of forks between the first process and this one, plus one. A forked child finds its batches filled under a
 * smaller number and throws them away. Counting forks costs a load where getpid(2) would cost a system call, and a
 * process id can come again. */
extern _Atomic uint64_t wsr_entropy_generation;

/* Make a new batch. Aborts if both generators fail, which getrandom(2) rules out for the kernel's once the system has
 * booted. */
void wsr_entropy_refill(struct wsr_entropy *entropy);

/* Take @len (at most WSR_ENTROPY_BATCH) bytes; each is handed out once and wiped here: nothing that was used can be
 * read back later. */
static inline void wsr_entropy_take(struct wsr_entropy *entropy, void *out, size_t len)
{
    assert(len <= sizeof entropy->batch && entropy->left <= sizeof entropy->batch);
    /* Relaxed: a fresh child has one thread; those it starts later are ordered by their creation. Pairs with the count
     * in forked(). */
    uint64_t process = atomic_load_explicit(&wsr_entropy_generation, memory_order_relaxed);
    if (WSR_UNLIKELY(entropy->left < len || entropy->process != process))
        wsr_entropy_refill(entropy);
    uint8_t *from = entropy->batch + sizeof entropy->batch - entropy->left;
    memcpy(out, from, len);
    memset(from, 0, len);
    __asm__ volatile("" : : "r"(from) : "memory");      /* the compiler may not leave that out */
    entropy->left -= (uint32_t)len;
}

#endif
