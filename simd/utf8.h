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

/*
 * How many bytes at the start of @in hold no error but, at most, a code point that the last three bytes leave open.
 * @in starts at a boundary. Less than @len is allowed for short rests and when an error was seen.
 */
typedef size_t wsr_utf8_search(const uint8_t *in, size_t len);

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
    const uint8_t *at = in, *last = in + len - block;
    do {
        if (!vectors(at, at + vec, at + 2 * vec, at + 3 * vec))
            return (size_t)(at - in);
        at += block;
    } while (at < last);
    return vectors(last, last + vec, last + 2 * vec, last + 3 * vec) ? len : (size_t)(at - in);
}

/* The start of the code point that ends at or is open at @at; no earlier than @start. */
static inline size_t wsr_utf8_reopen(const uint8_t *in, size_t start, size_t at)
{
    for (size_t back = 1; back <= 3 && back <= at - start; back++) {
        uint8_t byte = in[at - back];
        if (byte < 0x80)
            return at - back + 1;
        if (byte >= 0xc0)
            return at - back;
    }
    return at;
}

/* @search is a constant of the caller, so that it is compiled into it. */
static inline size_t wsr_utf8_run(uint32_t *state, const uint8_t *in, size_t len, wsr_utf8_search *search)
{
    size_t start = 0;

    if (len == 0)
        return 0;     /* @in may be NULL then, which no offset may be added to */
    for (; start < len && *state != WSR_UTF8_BOUNDARY; start++) {
        if (wsr_utf8_portable_check(state, in + start, 1) == 0)
            return start;
    }
    size_t at = wsr_utf8_reopen(in, start, start + search(in + start, len - start));
    if (at == len)
        return len;
    return at + wsr_utf8_portable_check(state, in + at, len - at);
}

#endif
