#include "entropy.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

/* Number of forks between the first process and this one, plus one. A forked child finds its batches filled under a
 * smaller number and throws them away. Counting forks costs a load where getpid(2) would cost a system call, and a
 * process id can come again. */
static _Atomic uint64_t generation = 1;
static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void forked(void)
{
    /* Relaxed: a fresh child has one thread; those it starts later are ordered by their creation. Pairs with the loads
     * in wsr_entropy_take() and refill(). */
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
}

static void watch_forks(void)
{
    if (pthread_atfork(NULL, NULL, forked) != 0)
        abort();                 /* no memory: a child would repeat mask keys (RFC 6455 10.3) */
}

static void refill(struct wsr_entropy *entropy)
{
    pthread_once(&watch_once, watch_forks);

    size_t filled = 0;
    while (filled < sizeof entropy->batch) {
        ssize_t got = getrandom(entropy->batch + filled, sizeof entropy->batch - filled, 0);
        if (got > 0)
            filled += (size_t)got;
        else if (got == 0 || errno != EINTR)
            abort();             /* a predictable mask key is worse than no process */
    }
    /* Relaxed: see forked(). */
    entropy->process = atomic_load_explicit(&generation, memory_order_relaxed);
    entropy->left = sizeof entropy->batch;
}

void wsr_entropy_take(struct wsr_entropy *entropy, void *out, size_t len)
{
    assert(len <= sizeof entropy->batch);
    assert(entropy->left <= sizeof entropy->batch);

    /* Relaxed: see forked(). */
    uint64_t process = atomic_load_explicit(&generation, memory_order_relaxed);
    if (WSR_UNLIKELY(entropy->left < len || entropy->process != process))
        refill(entropy);

    uint8_t *from = entropy->batch + sizeof entropy->batch - entropy->left;
    memcpy(out, from, len);
    explicit_bzero(from, len);   /* nothing that was used can be read back later */
    entropy->left -= (uint32_t)len;
}
