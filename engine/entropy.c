/* Each thread has a generator of its own, which the kernel's seeds. RAND_bytes(3) has one for each thread too, but
 * takes locks of the whole process on the way to it, and another one of what that has its seed from. */
#include "entropy.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define STRENGTH_BITS 256

_Atomic uint64_t wsr_entropy_generation = 1;
static pthread_once_t begin_once = PTHREAD_ONCE_INIT;
static pthread_key_t generator_key;       /* EVP_RAND_CTX of the thread; NULL = none yet */
static EVP_RAND *algorithm;               /* for the life of the process; NULL = OpenSSL has no memory */
/* Held while a generator is made or freed, once by each thread; never for a message. */
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
static bool is_over;                      /* OpenSSL has begun to free what it has: exit(3) was called */

static void lock_making(void)
{
    pthread_mutex_lock(&making);
}

static void unlock_making(void)
{
    pthread_mutex_unlock(&making);
}

static void forked(void)
{
    /* Relaxed: see wsr_entropy_take(); pairs with the loads there and in wsr_entropy_refill(). */
    atomic_fetch_add_explicit(&wsr_entropy_generation, 1, memory_order_relaxed);
    unlock_making();
}

/* Handlers of exit(3), and threads that live on while they run, may still send: none makes or frees a generator then.
 * One that is there goes on: it is its thread's alone. */
static void note_end(void)
{
    lock_making();
    is_over = true;
    unlock_making();
}

static void free_generator(void *generator)
{
    lock_making();
    if (!is_over)
        EVP_RAND_CTX_free(generator);
    unlock_making();
}

static void begin(void)
{
    if (pthread_atfork(lock_making, unlock_making, forked) != 0)
        abort();                 /* no memory: a child would repeat mask keys (RFC 6455 10.3) */
    if (OPENSSL_atexit(note_end) == 1 && pthread_key_create(&generator_key, free_generator) == 0)
        algorithm = EVP_RAND_fetch(NULL, "CTR-DRBG", NULL);
}

/* It seeds itself anew in a forked child, and at no other time: that would allocate in the middle of the messages. NIST
 * SP 800-90A allows 2^48 requests before. */
static EVP_RAND_CTX *make_generator(void)
{
    unsigned requests_max = 1u << 24;
    time_t time_max = 0;         /* without end */
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_DRBG_PARAM_CIPHER, (char[]){ "AES-256-CTR" }, 0),
        OSSL_PARAM_construct_uint(OSSL_DRBG_PARAM_RESEED_REQUESTS, &requests_max),
        OSSL_PARAM_construct_time_t(OSSL_DRBG_PARAM_RESEED_TIME_INTERVAL, &time_max),
        OSSL_PARAM_construct_end(),
    };
    EVP_RAND_CTX *made = EVP_RAND_CTX_new(algorithm, NULL);
    if (made == NULL)
        return NULL;
    if (EVP_RAND_instantiate(made, STRENGTH_BITS, 0, NULL, 0, parameters) != 1 ||
        pthread_setspecific(generator_key, made) != 0) {
        EVP_RAND_CTX_free(made);
        return NULL;
    }
    return made;
}

static bool generate(uint8_t *to, size_t len)
{
    if (algorithm == NULL)
        return false;
    EVP_RAND_CTX *mine = pthread_getspecific(generator_key);
    if (mine == NULL) {
        lock_making();
        mine = is_over ? NULL : make_generator();
        unlock_making();
    }
    return mine != NULL && EVP_RAND_generate(mine, to, len, STRENGTH_BITS, 0, NULL, 0) == 1;
}

/* When OpenSSL has no memory for a generator, or is over. */
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
    pthread_once(&begin_once, begin);
    if (!generate(entropy->batch, sizeof entropy->batch))
        ask_kernel(entropy->batch, sizeof entropy->batch);
    /* Relaxed: see forked(). */
    entropy->process = atomic_load_explicit(&wsr_entropy_generation, memory_order_relaxed);
    entropy->left = sizeof entropy->batch;
}
