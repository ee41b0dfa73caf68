#include "entropy.h"

#include <errno.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

_Atomic uint64_t wsr_entropy_generation = 1;
static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void forked(void)
{
    /* Relaxed: see wsr_entropy_take(); pairs with the loads there and in wsr_entropy_refill(). */
    atomic_fetch_add_explicit(&wsr_entropy_generation, 1, memory_order_relaxed);
}

static void watch_forks(void)
{
    if (pthread_atfork(NULL, NULL, forked) != 0)
        abort();                 /* no memory: a child would repeat mask keys (RFC 6455 10.3) */
}

/* When OpenSSL has no memory for its generator. */
static void ask_kernel(uint8_t *to, size_t len)
{
    for (size_t filled = 0; filled < len;) {
        ssize_t got = getrandom(to + filled, len - filled, 0);
        if (got > 0)
            filled += (size_t)got;
        else if (got == 0 || errno != EINTR)
            abort();             /* a predictable mask key is worse than no process */
    }
}

void wsr_entropy_refill(struct wsr_entropy *entropy)
{
    pthread_once(&watch_once, watch_forks);
    if (RAND_bytes(entropy->batch, sizeof entropy->batch) != 1)
        ask_kernel(entropy->batch, sizeof entropy->batch);
    /* Relaxed: see forked(). */
    entropy->process = atomic_load_explicit(&wsr_entropy_generation, memory_order_relaxed);
    entropy->left = sizeof entropy->batch;
}
