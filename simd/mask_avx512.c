/* Masking with 64-byte vectors. */
#include "simd/kernels.h"

#if WSR_SIMD_X86
#include <simde/x86/avx512.h>

#include "simd/mask.h"
#include "simd/part_avx512.h"

typedef simde__m512i vec;
#define VEC sizeof(vec)

static inline vec spread(uint32_t word)
{
    return simde_mm512_set1_epi32((int32_t)word);
}

static inline vec load(const uint8_t *from, vec key)
{
    return simde_mm512_xor_si512(simde_mm512_loadu_si512(from), key);
}

static inline void store(uint8_t *to, vec v)
{
    simde_mm512_storeu_si512(to, v);
}

static inline void store_aligned(uint8_t *to, vec v)
{
    simde_mm512_store_si512(to, v);
}

/* @len is less than a vector. */
static inline void apply_part(uint8_t *to, const uint8_t *from, size_t len, uint32_t word)
{
    uint64_t mask = wsr_part_mask(len);

    wsr_part_store(to, mask, simde_mm512_xor_si512(wsr_part_load(mask, from), spread(word)));
}

/* @len is more than 8 vectors: aligned stores from the first boundary on, the ends by overlap. */
static void apply_long(uint8_t *to, const uint8_t *from, size_t len, uint32_t word)
{
    vec tail_key = spread(wsr_mask_turn(word, len));
    vec head = load(from, spread(word));
    vec tail0 = load(from + len - 4 * VEC, tail_key);
    vec tail1 = load(from + len - 3 * VEC, tail_key);
    vec tail2 = load(from + len - 2 * VEC, tail_key);
    vec tail3 = load(from + len - VEC, tail_key);

    size_t at = VEC - ((uintptr_t)to & (VEC - 1));
    vec key = spread(wsr_mask_turn(word, at));
    for (; len - at > 4 * VEC; at += 4 * VEC) {
        vec v0 = load(from + at, key);
        vec v1 = load(from + at + VEC, key);
        vec v2 = load(from + at + 2 * VEC, key);
        vec v3 = load(from + at + 3 * VEC, key);
        store_aligned(to + at, v0);
        store_aligned(to + at + VEC, v1);
        store_aligned(to + at + 2 * VEC, v2);
        store_aligned(to + at + 3 * VEC, v3);
    }
    store(to, head);
    store(to + len - 4 * VEC, tail0);
    store(to + len - 3 * VEC, tail1);
    store(to + len - 2 * VEC, tail2);
    store(to + len - VEC, tail3);
}

static inline void apply(uint8_t *to, const uint8_t *from, size_t len, uint32_t word)
{
    if (len < VEC) {
        apply_part(to, from, len, word);
        return;
    }
    if (len > 8 * VEC) {
        apply_long(to, from, len, word);
        return;
    }

    vec key = spread(word);
    vec tail_key = spread(wsr_mask_turn(word, len));
    vec head0 = load(from, key);
    vec tail0 = load(from + len - VEC, tail_key);
    if (len > 2 * VEC) {
        vec head1 = load(from + VEC, key);
        vec tail1 = load(from + len - 2 * VEC, tail_key);
        if (len > 4 * VEC) {
            vec head2 = load(from + 2 * VEC, key);
            vec head3 = load(from + 3 * VEC, key);
            vec tail2 = load(from + len - 3 * VEC, tail_key);
            vec tail3 = load(from + len - 4 * VEC, tail_key);
            store(to + 2 * VEC, head2);
            store(to + 3 * VEC, head3);
            store(to + len - 3 * VEC, tail2);
            store(to + len - 4 * VEC, tail3);
        }
        store(to + VEC, head1);
        store(to + len - 2 * VEC, tail1);
    }
    store(to, head0);
    store(to + len - VEC, tail0);
}

void wsr_mask_avx512_inplace(uint8_t *data, size_t len, const uint8_t key[4], unsigned phase)
{
    apply(data, data, len, wsr_mask_word(key, phase));
}

void wsr_mask_avx512_copy(uint8_t *to, const uint8_t *from, size_t len, const uint8_t key[4], unsigned phase)
{
    apply(to, from, len, wsr_mask_word(key, phase));
}
#endif
