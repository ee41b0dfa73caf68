/*
 * What the mask kernels share: the key as a word that can be turned to any phase, and runs shorter than a vector.
 *
 * Every kernel serves `to == from` (in place) and disjoint areas with one body. Ends that are not a whole number of
 * vectors are covered by vectors that overlap the body instead of a byte loop. XOR undoes itself when it is applied
 * twice, so both overlapping loads come before the first store that could touch them; the later store then repeats
 * the same result.
 */
#ifndef WSR_SIMD_MASK_H
#define WSR_SIMD_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The word that masks bytes at + 0 to at + 3 when @word masks bytes 0 to 3. */
static inline uint32_t wsr_mask_turn(uint32_t word, size_t at)
{
    unsigned bits = (unsigned)(at & 3) * 8;

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (word << bits) | (word >> (-bits & 31));
#else
    return (word >> bits) | (word << (-bits & 31));
#endif
}

/* The key in memory order, turned to the phase of the first byte. */
static inline uint32_t wsr_mask_word(const uint8_t key[4], unsigned phase)
{
    uint32_t word;

    memcpy(&word, key, 4);
    return wsr_mask_turn(word, phase);
}

static inline uint64_t wsr_mask_load64(const uint8_t *from, uint64_t key)
{
    uint64_t word;

    memcpy(&word, from, 8);
    return word ^ key;
}

static inline uint32_t wsr_mask_load32(const uint8_t *from, uint32_t key)
{
    uint32_t word;

    memcpy(&word, from, 4);
    return word ^ key;
}

static inline uint64_t wsr_mask_double(uint32_t word)
{
    return (uint64_t)word << 32 | word;
}

/* @len is 0 to 3: first, middle and last byte are the same byte when there is only one. */
static inline void wsr_mask_upto3(uint8_t *to, const uint8_t *from, size_t len, uint32_t key)
{
    uint8_t bytes[4];

    if (len == 0)
        return;
    memcpy(bytes, &key, 4);
    uint8_t first = from[0] ^ bytes[0];
    uint8_t middle = from[len / 2] ^ bytes[len / 2];
    uint8_t last = from[len - 1] ^ bytes[len - 1];
    to[0] = first;
    to[len / 2] = middle;
    to[len - 1] = last;
}

/* @len is 0 to 16. */
static inline void wsr_mask_upto16(uint8_t *to, const uint8_t *from, size_t len, uint32_t key)
{
    if (len >= 8) {
        uint64_t head = wsr_mask_load64(from, wsr_mask_double(key));
        uint64_t tail = wsr_mask_load64(from + len - 8, wsr_mask_double(wsr_mask_turn(key, len)));
        memcpy(to, &head, 8);
        memcpy(to + len - 8, &tail, 8);
    } else if (len >= 4) {
        uint32_t head = wsr_mask_load32(from, key);
        uint32_t tail = wsr_mask_load32(from + len - 4, wsr_mask_turn(key, len));
        memcpy(to, &head, 4);
        memcpy(to + len - 4, &tail, 4);
    } else {
        wsr_mask_upto3(to, from, len, key);
    }
}

#endif
