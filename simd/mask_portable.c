/* Masking in plain C, eight bytes at a time: the specification of the other levels. */
#include "simd/kernels.h"
#include "simd/mask.h"

static void apply(uint8_t *to, const uint8_t *from, size_t len, uint32_t word)
{
    if (len <= 16) {
        wsr_mask_upto16(to, from, len, word);
        return;
    }

    uint64_t key = wsr_mask_double(word);
    uint64_t tail = wsr_mask_load64(from + len - 8, wsr_mask_double(wsr_mask_turn(word, len)));
    size_t at = 0;
    for (; len - at > 32; at += 32) {
        uint64_t block[4];
        for (size_t i = 0; i < 4; i++)
            block[i] = wsr_mask_load64(from + at + 8 * i, key);
        memcpy(to + at, block, sizeof(block));
    }
    for (; len - at > 8; at += 8) {
        uint64_t one = wsr_mask_load64(from + at, key);
        memcpy(to + at, &one, 8);
    }
    memcpy(to + len - 8, &tail, 8);
}

void wsr_mask_portable_inplace(uint8_t *data, size_t len, const uint8_t key[4], unsigned phase)
{
    apply(data, data, len, wsr_mask_word(key, phase));
}

void wsr_mask_portable_copy(uint8_t *to, const uint8_t *from, size_t len, const uint8_t key[4], unsigned phase)
{
    apply(to, from, len, wsr_mask_word(key, phase));
}
