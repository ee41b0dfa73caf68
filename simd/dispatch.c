/* The choice of a level: made once, on the first call, from what the CPU has and what WSRING_SIMD asks for. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "simd/kernels.h"
#include "simd/simd.h"

struct level {
    struct wsr_simd kernels;
    bool (*is_supported)(void);
};

static bool always(void)
{
    return true;
}

#if WSR_SIMD_X86
static bool has_sse41(void)
{
    return __builtin_cpu_supports("sse4.1") != 0;
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

/* VBMI is used for UTF-8, and it leaves out the first AVX-512 CPUs, which lower their clock under 512-bit code. */
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi");
}
#endif

/* In rising order. The first needs nothing and is the specification of the others. */
static const struct level levels[] = {
    {{"portable", wsr_mask_portable_inplace, wsr_mask_portable_copy, wsr_utf8_portable_check}, always},
#if WSR_SIMD_NEON
    {{"neon", wsr_mask_neon_inplace, wsr_mask_neon_copy, wsr_utf8_neon_check}, always},
#endif
#if WSR_SIMD_X86
    {{"sse4.1", wsr_mask_sse41_inplace, wsr_mask_sse41_copy, wsr_utf8_sse41_check}, has_sse41},
    {{"avx2", wsr_mask_avx2_inplace, wsr_mask_avx2_copy, wsr_utf8_avx2_check}, has_avx2},
    {{"avx512", wsr_mask_avx512_inplace, wsr_mask_avx512_copy, wsr_utf8_avx512_check}, has_avx512},
#endif
};
#define LEVELS_COUNT (sizeof(levels) / sizeof(levels[0]))

static const char *const known_names[] = {"portable", "sse4.1", "avx2", "avx512", "neon"};

/* Written by choose() only; pthread_once() orders that before every read. */
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;
static const struct wsr_simd *offered[LEVELS_COUNT + 1];
static const struct wsr_simd *chosen;
static _Atomic(const struct wsr_simd *) published;   /* chosen, for wsr_simd() */
static const char *choice_text = "";

static bool is_known(const char *name)
{
    for (size_t i = 0; i < sizeof(known_names) / sizeof(known_names[0]); i++) {
        if (strcmp(known_names[i], name) == 0)
            return true;
    }
    return false;
}

static void obey(const char *name)
{
    for (size_t i = 0; offered[i]; i++) {
        if (strcmp(offered[i]->name, name) == 0) {
            chosen = offered[i];
            return;
        }
    }
    if (is_known(name))
        choice_text = "WSRING_SIMD names a level that this CPU does not have; the best one is used.";
    else
        choice_text = "WSRING_SIMD names no level (portable, sse4.1, avx2, avx512, neon); the best one is used.";
}

static void choose(void)
{
    size_t count = 0;

#if WSR_SIMD_X86
    __builtin_cpu_init();
#endif
    for (size_t i = 0; i < LEVELS_COUNT; i++) {
        if (levels[i].is_supported())
            offered[count++] = &levels[i].kernels;
    }
    chosen = offered[count - 1];

    const char *name = getenv("WSRING_SIMD");
    if (name && name[0] != '\0')
        obey(name);
}

const struct wsr_simd *wsr_simd(void)
{
    /* Once for each frame that is sent, so without the call that pthread_once() is. Pairs with the store below. */
    const struct wsr_simd *simd = atomic_load_explicit(&published, memory_order_acquire);
    if (simd)
        return simd;
    pthread_once(&chosen_once, choose);
    atomic_store_explicit(&published, chosen, memory_order_release);
    return chosen;
}

const struct wsr_simd *const *wsr_simd_levels(void)
{
    pthread_once(&chosen_once, choose);
    return offered;
}

const char *wsr_simd_choice_text(void)
{
    pthread_once(&chosen_once, choose);
    return choice_text;
}
