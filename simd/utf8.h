/*
 * What the UTF-8 kernels share: the automaton whose state crosses calls, and the frame around a vector search.
 *
 * The automaton of utf8_portable.c is the specification. A vector kernel only answers "no error before here", in
 * whole blocks; where it stops, the automaton takes over from the start of the code point that is open there, so the
 * position of an error and the state at a cut are those of the automaton at every level.
 */
#ifndef WSR_SIMD_UTF8_H
#define WSR_SIMD_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "simd/kernels.h"

/*
 * *state is one of these: the distance in bits of the state's field in a row of the automaton. The names say what
 * must follow; the four special ones are the leads whose next byte has a narrower range (RFC 3629 4).
 */
enum wsr_utf8_state {
    WSR_UTF8_BOUNDARY = 0,      /* a whole code point has ended */
    WSR_UTF8_ONE = 6,           /* one continuation */
    WSR_UTF8_TWO = 12,          /* two */
    WSR_UTF8_THREE = 18,        /* three */
    WSR_UTF8_AFTER_E0 = 24,     /* A0..BF, then one: no overlong form */
    WSR_UTF8_AFTER_ED = 30,     /* 80..9F, then one: no surrogate */
    WSR_UTF8_AFTER_F0 = 36,     /* 90..BF, then two: no overlong form */
    WSR_UTF8_AFTER_F4 = 42,     /* 80..8F, then two: nothing above U+10FFFF */
    WSR_UTF8_INVALID = 48       /* never leaves a kernel */
};

/* Whether the vectors at four places are ASCII. */
typedef bool wsr_utf8_vectors_are_ascii(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d);

/* @len is 0 to 16. */
static inline bool wsr_utf8_upto16_is_ascii(const uint8_t *in, size_t len)
{
    uint64_t head = 0, tail = 0;

    if (len >= 8) {
        memcpy(&head, in, 8);
        memcpy(&tail, in + len - 8, 8);
    } else if (len >= 4) {
        memcpy(&head, in, 4);
        memcpy(&tail, in + len - 4, 4);
    } else if (len > 0) {
        return (in[0] | in[len / 2] | in[len - 1]) < 0x80;
    }
    return ((head | tail) & 0x8080808080808080u) == 0;
}

/*
 * A number of bytes at the start of @in that are ASCII: @len when all are. Most messages are, and they need neither the
 * automaton nor a look at what comes before a byte. @len is at least @vec, the size of a vector. @vectors is a constant
 * of the caller, so that it is compiled into it.
 */
static inline size_t wsr_utf8_ascii_run(const uint8_t *in, size_t len, size_t vec, wsr_utf8_vectors_are_ascii *vectors)
{
    size_t block = 4 * vec;

    if (len <= block) {
        /* Vectors may overlap or be the same: a branch for each length costs more where lengths come in no order. */
        size_t last = len - vec;
        size_t second = vec < last ? vec : last;
        size_t third = 2 * vec < last ? 2 * vec : last;
        return vectors(in, in + second, in + third, in + last) ? len : 0;
    }
    if (!vectors(in, in + vec, in + 2 * vec, in + 3 * vec))
        return 0;
    /* Then from where vectors are aligned, for a payload starts a few bytes after one: a load that lies on two cache
     * lines costs two. */
    const uint8_t *at = in + block - ((uintptr_t)in & (vec - 1)), *last = in + len - block;
    for (; at < last; at += block) {
        if (!vectors(at, at + vec, at + 2 * vec, at + 3 * vec))
            return (size_t)(at - in);
    }
    return vectors(last, last + vec, last + 2 * vec, last + 3 * vec) ? len : (size_t)(at - in);
}

/*
 * The two ends of a vector kernel, in utf8_portable.c. Both are called last or not at all, so that the way between
 * them, which nearly every text takes alone, needs no stack.
 */

/* Where *state is not a boundary: the automaton goes on to one, and @check from there. */
typedef size_t wsr_utf8_check(uint32_t *state, const uint8_t *in, size_t len);
size_t wsr_utf8_resume(uint32_t *state, const uint8_t *in, size_t len, wsr_utf8_check *check);

/* @in started at a boundary, and a search has come to @at: the automaton goes on from the code point that is open there
 * to the end or to the error. */
size_t wsr_utf8_finish(uint32_t *state, const uint8_t *in, size_t len, size_t at);

/*
 * The search of a kernel told that up to @at, from a boundary at @in on, there is no error but, at most, a code point
 * that the last three bytes leave open. That may be less than @len where the rest is short or an error was seen.
 */
static inline size_t wsr_utf8_conclude(uint32_t *state, const uint8_t *in, size_t len, size_t at)
{
    return at == len && in[len - 1] < 0x80 ? len : wsr_utf8_finish(state, in, len, at);
}

#endif
