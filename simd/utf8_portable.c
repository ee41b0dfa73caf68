/*
 * UTF-8 validation in plain C: an automaton whose whole transition row fits in one word. A row holds, for one byte, the
 * next state of each state in a field of six bits; states are shift distances, so a step is a load and a shift.
 */
#include <stdbool.h>
#include <string.h>

#include "simd/kernels.h"
#include "simd/utf8.h"

#define GO(from, to) ((uint64_t)WSR_UTF8_##to << WSR_UTF8_##from)

/* Every transition that a row does not name goes to INVALID, and INVALID stays. */
#define ROW(boundary, one, two, three, e0, ed, f0, f4)                                                                 \
    (GO(BOUNDARY, boundary) | GO(ONE, one) | GO(TWO, two) | GO(THREE, three) | GO(AFTER_E0, e0) | GO(AFTER_ED, ed) |   \
     GO(AFTER_F0, f0) | GO(AFTER_F4, f4) | GO(INVALID, INVALID))
#define LEAD(boundary) ROW(boundary, INVALID, INVALID, INVALID, INVALID, INVALID, INVALID, INVALID)

#define ASCII LEAD(BOUNDARY)
#define CONT_80_8F ROW(INVALID, BOUNDARY, ONE, TWO, INVALID, ONE, INVALID, TWO)
#define CONT_90_9F ROW(INVALID, BOUNDARY, ONE, TWO, INVALID, ONE, TWO, INVALID)
#define CONT_A0_BF ROW(INVALID, BOUNDARY, ONE, TWO, ONE, INVALID, TWO, INVALID)

#define X2(row) row, row
#define X4(row) X2(row), X2(row)
#define X8(row) X4(row), X4(row)
#define X16(row) X8(row), X8(row)
#define X32(row) X16(row), X16(row)
#define X128(row) X32(row), X32(row), X32(row), X32(row)

static const uint64_t rows[256] = {
    X128(ASCII),                                                        /* 00..7F */
    X16(CONT_80_8F), X16(CONT_90_9F), X32(CONT_A0_BF),                  /* 80..BF */
    X2(LEAD(INVALID)),                                                  /* C0, C1: always overlong */
    X16(LEAD(ONE)), X8(LEAD(ONE)), X4(LEAD(ONE)), X2(LEAD(ONE)),        /* C2..DF */
    LEAD(AFTER_E0), X8(LEAD(TWO)), X4(LEAD(TWO)),                       /* E0, E1..EC */
    LEAD(AFTER_ED), X2(LEAD(TWO)),                                      /* ED, EE..EF */
    LEAD(AFTER_F0), X2(LEAD(THREE)), LEAD(THREE), LEAD(AFTER_F4),       /* F0, F1..F3, F4 */
    X8(LEAD(INVALID)), X2(LEAD(INVALID)), LEAD(INVALID),                /* F5..FF */
};

/* Only the low six bits of a state count; x86 shifts drop the others by themselves. */
static inline uint64_t step(uint64_t state, uint8_t byte)
{
    return rows[byte] >> (state & 63);
}

static inline bool is_invalid(uint64_t state)
{
    return (state & 63) == WSR_UTF8_INVALID;
}

static inline bool is_ascii16(const uint8_t *in)
{
    uint64_t words[2];

    memcpy(words, in, sizeof(words));
    return ((words[0] | words[1]) & 0x8080808080808080u) == 0;
}

/* Byte by byte, with the exact place of an error. */
static size_t check_bytes(uint64_t *state, const uint8_t *in, size_t len)
{
    for (size_t at = 0; at < len; at++) {
        *state = step(*state, in[at]);
        if (is_invalid(*state))
            return at;
    }
    return len;
}

size_t wsr_utf8_portable_check(uint32_t *state, const uint8_t *in, size_t len)
{
    uint64_t now = *state;
    size_t at = 0;

    for (; len - at >= 16; at += 16) {
        if ((now & 63) == WSR_UTF8_BOUNDARY && is_ascii16(in + at))
            continue;
        uint64_t next = now;
        for (size_t i = 0; i < 16; i++)
            next = step(next, in[at + i]);
        if (is_invalid(next))
            return at + check_bytes(&now, in + at, 16);
        now = next;
    }
    at += check_bytes(&now, in + at, len - at);
    *state = (uint32_t)(now & 63);
    return at;
}

size_t wsr_utf8_resume(uint32_t *state, const uint8_t *in, size_t len, wsr_utf8_check *check)
{
    size_t at = 0;

    for (; at < len && *state != WSR_UTF8_BOUNDARY; at++) {
        if (wsr_utf8_portable_check(state, in + at, 1) == 0)
            return at;
    }
    return at == len ? len : at + check(state, in + at, len - at);
}

/* The start of the code point that ends at or is open at @at. */
static size_t reopen(const uint8_t *in, size_t at)
{
    for (size_t back = 1; back <= 3 && back <= at; back++) {
        uint8_t byte = in[at - back];
        if (byte < 0x80)
            return at - back + 1;
        if (byte >= 0xc0)
            return at - back;
    }
    return at;
}

size_t wsr_utf8_finish(uint32_t *state, const uint8_t *in, size_t len, size_t at)
{
    at = reopen(in, at);
    return at + wsr_utf8_portable_check(state, in + at, len - at);
}
