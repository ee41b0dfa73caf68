/* UTF-8 validation with 64-byte vectors. */
#include "simd/kernels.h"

#if WSR_SIMD_X86
#include <stdbool.h>
#include <simde/x86/avx512.h>

#include "simd/part_avx512.h"
#include "simd/utf8.h"
#include "simd/utf8_tables.h"

typedef simde__m512i vec;
#define VEC sizeof(vec)
#define BLOCK (4 * VEC)

#define X2(entry) entry, entry
#define X4(entry) X2(entry), X2(entry)
#define X16(entry) X4(entry), X4(entry), X4(entry), X4(entry)
#define X64(entry) X16(entry), X16(entry), X16(entry), X16(entry)

/*
 * A permutation of 128 entries takes the place of the two tables for the first byte. It is indexed by the low seven
 * bits of a byte >= 80, and the mask of the permutation gives ASCII the entry 0. Here UTF8_LONE is turned around: it
 * marks a lead, so that both ASCII and a continuation before a continuation are seen without an entry of their own.
 */
#define LEAD (UTF8_LONE | UTF8_CUT)
static const uint8_t first[128] = {
    X64(0),                                                                         /* 80..BF */
    X2(LEAD | UTF8_OVERLONG_2),                                                     /* C0, C1 */
    X16(LEAD), X4(LEAD), X4(LEAD), X4(LEAD), X2(LEAD),                              /* C2..DF */
    LEAD | UTF8_OVERLONG_3, X4(LEAD), X4(LEAD), X4(LEAD),                           /* E0, E1..EC */
    LEAD | UTF8_SURROGATE, X2(LEAD),                                                /* ED, EE..EF */
    LEAD | UTF8_OVERLONG_4, X2(LEAD), LEAD, LEAD | UTF8_LARGE,                      /* F0, F1..F3, F4 */
    X4(LEAD | UTF8_LARGE | UTF8_OVERLONG_4), X4(LEAD | UTF8_LARGE | UTF8_OVERLONG_4), /* F5..FC */
    X2(LEAD | UTF8_LARGE | UTF8_OVERLONG_4), LEAD | UTF8_LARGE | UTF8_OVERLONG_4,   /* FD..FF */
};
static const uint8_t second_high[16] = {UTF8_SECOND_HIGH};

static inline vec load(const uint8_t *in)
{
    return simde_mm512_loadu_si512(in);
}

/* The shuffle looks up within quarters of sixteen bytes, so each quarter has the whole table. */
static inline vec table(const uint8_t entries[16])
{
    return simde_mm512_broadcast_i32x4(simde_mm_loadu_si128((const simde__m128i *)(const void *)entries));
}

static inline vec either(vec a, vec b)
{
    return simde_mm512_or_si512(a, b);
}

static inline bool is_ascii(vec v)
{
    return simde_mm512_movepi8_mask(v) == 0;
}

static inline bool is_zero(vec v)
{
    return simde_mm512_test_epi8_mask(v, v) == 0;
}

static inline vec high_halves(vec v)
{
    return simde_mm512_and_si512(simde_mm512_srli_epi16(v, 4), simde_mm512_set1_epi8(0x0f));
}

/* Not zero where @now, with the bytes one, two and three places before it, breaks a rule. */
static inline vec errors(vec now, vec back1, vec back2, vec back3)
{
    vec top = simde_mm512_set1_epi8((char)0x80);
    uint64_t is_long = simde_mm512_movepi8_mask(back1);
    vec lead = simde_mm512_maskz_permutex2var_epi8(is_long, load(first), back1, load(first + VEC));
    vec pair = simde_mm512_shuffle_epi8(table(second_high), high_halves(now));
    pair = simde_mm512_and_si512(simde_mm512_xor_si512(lead, top), pair);
    /* The top bit is left exactly where a third or fourth byte is due, that is where UTF8_LONE is no error. */
    vec third = simde_mm512_subs_epu8(back2, simde_mm512_set1_epi8(0xe0 - 0x80));
    vec fourth = simde_mm512_subs_epu8(back3, simde_mm512_set1_epi8((char)(0xf0 - 0x80)));
    vec due = simde_mm512_and_si512(either(third, fourth), top);
    return simde_mm512_xor_si512(pair, due);
}

/* The vector at @in, which has at least three bytes before it that belong to the same input. */
static inline vec errors_at(const uint8_t *in)
{
    return errors(load(in), load(in - 1), load(in - 2), load(in - 3));
}

/* The same of the first @len bytes, less than a vector. What is after them is no error. */
static inline bool is_valid_part(const uint8_t *in, size_t len)
{
    uint64_t mask = wsr_part_mask(len);
    vec wrong = errors(wsr_part_load(mask, in), wsr_part_load(mask, in - 1), wsr_part_load(mask, in - 2),
                       wsr_part_load(mask, in - 3));

    return (simde_mm512_test_epi8_mask(wrong, wrong) & mask) == 0;
}

/* Read from VEC - n on, these are the places of the last n bytes of one vector and the first ones of the next. */
#define COUNT8(n) n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7
#define COUNT32(n) COUNT8(n), COUNT8(n + 8), COUNT8(n + 16), COUNT8(n + 24)
static const uint8_t counting[2 * VEC] = {COUNT32(0), COUNT32(32), COUNT32(64), COUNT32(96)};

/* The last @back bytes of @before and what of @now follows them. */
static inline vec moved(vec before, vec now, size_t back)
{
    return simde_mm512_permutex2var_epi8(before, load(counting + VEC - back), now);
}

/* The first vector, of which the bytes of @mask belong to the input: nothing comes before it. */
static inline bool is_valid_start(vec now, uint64_t mask)
{
    vec none = simde_mm512_setzero_si512();
    vec wrong = errors(now, moved(none, now, 1), moved(none, now, 2), moved(none, now, 3));

    return (simde_mm512_test_epi8_mask(wrong, wrong) & mask) == 0;
}

static inline vec block_or(const uint8_t *in)
{
    return either(either(load(in), load(in + VEC)), either(load(in + 2 * VEC), load(in + 3 * VEC)));
}

static inline bool vectors_are_ascii(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d)
{
    return is_ascii(either(either(load(a), load(b)), either(load(c), load(d))));
}

/* As wsr_utf8_ascii_run(), of any length. */
static inline size_t ascii_run(const uint8_t *in, size_t len)
{
    if (len > BLOCK)
        return wsr_utf8_ascii_run(in, len, VEC, vectors_are_ascii);
    if (len == 0)
        return 0;
    if (len < VEC)
        return is_ascii(wsr_part_load(UINT64_MAX >> (VEC - len), in)) ? len : 0;
    /* Without a branch on how many there are, for lengths come in no order. */
    size_t last = len - VEC;
    size_t second = VEC < last ? VEC : last;
    size_t third = 2 * VEC < last ? 2 * VEC : last;
    return vectors_are_ascii(in, in + second, in + third, in + last) ? len : 0;
}

/* @at is a boundary; whole blocks of ASCII are left behind. */
static inline size_t skip_ascii(const uint8_t *in, size_t at, size_t len)
{
    while (len - at >= BLOCK && is_ascii(block_or(in + at)))
        at += BLOCK;
    return at;
}

static inline vec block_errors(const uint8_t *in)
{
    return either(either(errors_at(in), errors_at(in + VEC)), either(errors_at(in + 2 * VEC), errors_at(in + 3 * VEC)));
}

/* Less than a block is left from @at on. */
static inline size_t search_rest(const uint8_t *in, size_t at, size_t len)
{
    for (; len - at >= VEC; at += VEC) {
        if (!is_zero(errors_at(in + at)))
            return at;
    }
    return at == len || is_valid_part(in + at, len - at) ? len : at;
}

static inline size_t search(const uint8_t *in, size_t len)
{
    if (len < VEC) {
        uint64_t mask = wsr_part_mask(len);
        return is_valid_start(wsr_part_load(mask, in), mask) ? len : 0;
    }
    bool open = !is_ascii(load(in));    /* a code point may be open at the end of what is checked */
    if (open && !is_valid_start(load(in), UINT64_MAX))
        return 0;

    size_t at = VEC;
    for (;;) {
        if (!open)
            at = skip_ascii(in, at, len);
        if (len - at < BLOCK)
            break;
        if (!is_zero(block_errors(in + at)))
            return at;
        at += BLOCK;
        open = !is_ascii(load(in + at - VEC));
    }
    if (!open && len >= BLOCK && is_ascii(block_or(in + len - BLOCK)))
        return len;
    return search_rest(in, at, len);
}

/* Text that is not ASCII from @at on. Apart, for one function of both ways is slower on either. */
__attribute__((noinline)) static size_t check_mixed(uint32_t *state, const uint8_t *in, size_t len, size_t at)
{
    return wsr_utf8_conclude(state, in, len, at + search(in + at, len - at));
}

size_t wsr_utf8_avx512_check(uint32_t *state, const uint8_t *in, size_t len)
{
    if (*state != WSR_UTF8_BOUNDARY)
        return wsr_utf8_resume(state, in, len, wsr_utf8_avx512_check);
    size_t at = ascii_run(in, len);
    return at == len ? len : check_mixed(state, in, len, at);
}
#endif
