/* The kernels by level, for dispatch.c. A file whose level belongs to another architecture compiles to nothing. */
#ifndef WSR_SIMD_KERNELS_H
#define WSR_SIMD_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#define WSR_SIMD_X86 1
#else
#define WSR_SIMD_X86 0
#endif

/* WSR_SIMD_EMULATE_NEON builds the NEON level through SIMDe on any machine, so that its source is tested there too. */
#if defined(__aarch64__) || defined(WSR_SIMD_EMULATE_NEON)
#define WSR_SIMD_NEON 1
#else
#define WSR_SIMD_NEON 0
#endif

/* The contracts are those of the members of struct wsr_simd in simd.h. */
void wsr_mask_portable_inplace(uint8_t *data, size_t len, const uint8_t key[4], unsigned phase);
void wsr_mask_portable_copy(uint8_t *to, const uint8_t *from, size_t len, const uint8_t key[4], unsigned phase);
size_t wsr_utf8_portable_check(uint32_t *state, const uint8_t *in, size_t len);

#if WSR_SIMD_X86
void wsr_mask_sse41_inplace(uint8_t *data, size_t len, const uint8_t key[4], unsigned phase);
void wsr_mask_sse41_copy(uint8_t *to, const uint8_t *from, size_t len, const uint8_t key[4], unsigned phase);
size_t wsr_utf8_sse41_check(uint32_t *state, const uint8_t *in, size_t len);

void wsr_mask_avx2_inplace(uint8_t *data, size_t len, const uint8_t key[4], unsigned phase);
void wsr_mask_avx2_copy(uint8_t *to, const uint8_t *from, size_t len, const uint8_t key[4], unsigned phase);
size_t wsr_utf8_avx2_check(uint32_t *state, const uint8_t *in, size_t len);

void wsr_mask_avx512_inplace(uint8_t *data, size_t len, const uint8_t key[4], unsigned phase);
void wsr_mask_avx512_copy(uint8_t *to, const uint8_t *from, size_t len, const uint8_t key[4], unsigned phase);
size_t wsr_utf8_avx512_check(uint32_t *state, const uint8_t *in, size_t len);
#endif

#if WSR_SIMD_NEON
void wsr_mask_neon_inplace(uint8_t *data, size_t len, const uint8_t key[4], unsigned phase);
void wsr_mask_neon_copy(uint8_t *to, const uint8_t *from, size_t len, const uint8_t key[4], unsigned phase);
size_t wsr_utf8_neon_check(uint32_t *state, const uint8_t *in, size_t len);
#endif

#endif
