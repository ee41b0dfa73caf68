/* UTF-8 validation with 32-byte vectors. */
#include "simd/kernels.h"

#if WSR_SIMD_X86
#include <stdbool.h>
#include <simde/x86/avx2.h>

#include "simd/utf8.h"
#include "simd/utf8_tables.h"

typedef simde__m256i vec;
#define VEC sizeof(vec)
#define BLOCK (4 * VEC)

static const uint8_t first_high[16] = {UTF8_FIRST_HIGH};
static const uint8_t first_low[16] = {UTF8_FIRST_LOW};
static const uint8_t second_high[16] = {UTF8_SECOND_HIGH};

static inline vec load(const uint8_t *in)
{
    return simde_mm256_loadu_si256((const vec *)(const void *)in);
}

/* The shuffle looks up within halves of sixteen bytes, so each half has the whole table. */
static inline vec table(const uint8_t entries[16])
{
    return simde_mm256_broadcastsi128_si256(simde_mm_loadu_si128((const simde__m128i *)(const void *)entries));
}

static inline vec either(vec a, vec b)
{
    return simde_mm256_or_si256(a, b);
}

static inline bool is_ascii(vec v)
{
    return simde_mm256_movemask_epi8(v) == 0;
}

static inline bool is_zero(vec v)
{
    return simde_mm256_testz_si256(v, v) != 0;
}

static inline vec high_halves(vec v)
{
    return simde_mm256_and_si256(simde_mm256_srli_epi16(v, 4), simde_mm256_set1_epi8(0x0f));
}

/* Not zero where @now, with the bytes one, two and three places before it, breaks a rule. */
static inline vec errors(vec now, vec back1, vec back2, vec back3)
{
    vec low = simde_mm256_and_si256(back1, simde_mm256_set1_epi8(0x0f));
    vec pair = simde_mm256_and_si256(simde_mm256_shuffle_epi8(table(first_high), high_halves(back1)),
                                     simde_mm256_shuffle_epi8(table(first_low), low));
    pair = simde_mm256_and_si256(pair, simde_mm256_shuffle_epi8(table(second_high), high_halves(now)));
    /* The top bit is left exactly where a third or fourth byte is due, that is where UTF8_LONE is no error. */
    vec third = simde_mm256_subs_epu8(back2, simde_mm256_set1_epi8(0xe0 - 0x80));
    vec fourth = simde_mm256_subs_epu8(back3, simde_mm256_set1_epi8((char)(0xf0 - 0x80)));
    vec due = simde_mm256_and_si256(either(third, fourth), simde_mm256_set1_epi8((char)0x80));
    return simde_mm256_xor_si256(pair, due);
}

/* The vector at @in, which has at least three bytes before it that belong to the same input. */
static inline vec errors_at(const uint8_t *in)
{
    return errors(load(in), load(in - 1), load(in - 2), load(in - 3));
}

/* The first vector: nothing comes before it. */
static inline vec errors_first(const uint8_t *in)
{
    vec now = load(in);
    vec below = simde_mm256_permute2x128_si256(now, now, 0x08);    /* the low half moved up, zeros below */

    return errors(now, simde_mm256_alignr_epi8(now, below, 15), simde_mm256_alignr_epi8(now, below, 14),
                  simde_mm256_alignr_epi8(now, below, 13));
}

static inline vec block_or(const uint8_t *in)
{
    return either(either(load(in), load(in + VEC)), either(load(in + 2 * VEC), load(in + 3 * VEC)));
}

static inline bool vectors_are_ascii(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d)
{
    return is_ascii(either(either(load(a), load(b)), either(load(c), load(d))));
}

/* @at is a boundary; whole blocks of ASCII are left behind, two per branch while that goes. */
static inline size_t skip_ascii(const uint8_t *in, size_t at, size_t len)
{
    while (len - at >= 2 * BLOCK && is_ascii(either(block_or(in + at), block_or(in + at + BLOCK))))
        at += 2 * BLOCK;
    while (len - at >= BLOCK && is_ascii(block_or(in + at)))
        at += BLOCK;
    return at;
}

static inline vec block_errors(const uint8_t *in)
{
    return either(either(errors_at(in), errors_at(in + VEC)), either(errors_at(in + 2 * VEC), errors_at(in + 3 * VEC)));
}

/* Less than a block is left from @at on. The last vector overlaps what is checked already. */
static inline size_t search_rest(const uint8_t *in, size_t at, size_t len)
{
    for (; len - at >= VEC; at += VEC) {
        if (!is_zero(errors_at(in + at)))
            return at;
    }
    if (at == len || len < VEC + 3 || !is_zero(errors_at(in + len - VEC)))
        return at;
    return len;
}

static inline size_t search(const uint8_t *in, size_t len)
{
    if (len < VEC)
        return 0;
    bool open = !is_ascii(load(in));    /* a code point may be open at the end of what is checked */
    if (open && !is_zero(errors_first(in)))
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

size_t wsr_utf8_avx2_check(uint32_t *state, const uint8_t *in, size_t len)
{
    if (len < 2 * VEC)
        return wsr_utf8_sse41_check(state, in, len);    /* shorter vectors leave less to the automaton */
    if (*state != WSR_UTF8_BOUNDARY)
        return wsr_utf8_resume(state, in, len, wsr_utf8_avx2_check);
    size_t at = wsr_utf8_ascii_run(in, len, VEC, vectors_are_ascii);
    return at == len ? len : check_mixed(state, in, len, at);
}
#endif
