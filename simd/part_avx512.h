/*
 * The first bytes of a vector of 64, up to which memory may be touched: one access for any length, where other levels
 * need a branch for each. SIMDe has these two only since versions that stable distributions do not have yet; a file of
 * this level is always compiled for it, so they are taken as they are.
 */
#ifndef WSR_SIMD_PART_AVX512_H
#define WSR_SIMD_PART_AVX512_H

#include <stddef.h>
#include <stdint.h>
#include <immintrin.h>
#include <simde/x86/avx512.h>

/* One bit for each byte; @len is 0 to 63. */
static inline uint64_t wsr_part_mask(size_t len)
{
    return ((uint64_t)1 << len) - 1;
}

/* Zeros where @mask has none, and nothing is read there. */
static inline simde__m512i wsr_part_load(uint64_t mask, const uint8_t *from)
{
    return _mm512_maskz_loadu_epi8(mask, from);
}

/* Nothing is written where @mask has none. */
static inline void wsr_part_store(uint8_t *to, uint64_t mask, simde__m512i v)
{
    _mm512_mask_storeu_epi8(to, mask, v);
}

#endif
