/*
 * The rules of RFC 3629 as three tables of sixteen, for kernels that look up sixteen entries per instruction.
 *
 * A pair of neighbouring bytes is looked at: the high and the low half of the first, the high half of the second. Each
 * table gives the errors that its half allows; the pair has those errors on which all three agree. What a pair cannot
 * show, whether a third or fourth byte of a long sequence is a continuation, is checked apart: UTF8_LONE marks two
 * continuations in a row, which is right exactly two after a lead >= E0 and three after a lead >= F0.
 * The method is that of Keiser and Lemire, "Validating UTF-8 in less than one instruction per byte" (2021).
 */
#ifndef WSR_SIMD_UTF8_TABLES_H
#define WSR_SIMD_UTF8_TABLES_H

enum {
    UTF8_CUT = 0x01,            /* a lead, then no continuation */
    UTF8_STRAY = 0x02,          /* ASCII, then a continuation */
    UTF8_OVERLONG_3 = 0x04,     /* E0, then 80..9F */
    UTF8_LARGE = 0x08,          /* F4, then 90..BF; F5..FF, then 90..BF */
    UTF8_SURROGATE = 0x10,      /* ED, then A0..BF */
    UTF8_OVERLONG_2 = 0x20,     /* C0 or C1, then a continuation */
    UTF8_OVERLONG_4 = 0x40,     /* F0, then 80..8F; and F5..FF, then 80..8F, which LARGE has no entry for */
    UTF8_LONE = 0x80,           /* a continuation, then a continuation: judged with the two bytes before */
    UTF8_ANY_LOW = UTF8_CUT | UTF8_STRAY | UTF8_LONE
};

/* By the high half of the first byte. */
#define UTF8_FIRST_HIGH                                                                                                \
    UTF8_STRAY, UTF8_STRAY, UTF8_STRAY, UTF8_STRAY, UTF8_STRAY, UTF8_STRAY, UTF8_STRAY, UTF8_STRAY,                    \
    UTF8_LONE, UTF8_LONE, UTF8_LONE, UTF8_LONE,                                                                        \
    UTF8_CUT | UTF8_OVERLONG_2, UTF8_CUT, UTF8_CUT | UTF8_OVERLONG_3 | UTF8_SURROGATE,                                 \
    UTF8_CUT | UTF8_LARGE | UTF8_OVERLONG_4

/* By the low half of the first byte. */
#define UTF8_FIRST_LOW                                                                                                 \
    UTF8_ANY_LOW | UTF8_OVERLONG_3 | UTF8_OVERLONG_2 | UTF8_OVERLONG_4, UTF8_ANY_LOW | UTF8_OVERLONG_2,                \
    UTF8_ANY_LOW, UTF8_ANY_LOW, UTF8_ANY_LOW | UTF8_LARGE,                                                             \
    UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4, UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4,                          \
    UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4, UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4,                          \
    UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4, UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4,                          \
    UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4, UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4,                          \
    UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4 | UTF8_SURROGATE, UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4,         \
    UTF8_ANY_LOW | UTF8_LARGE | UTF8_OVERLONG_4

/* By the high half of the second byte. */
#define UTF8_CONT_BITS (UTF8_STRAY | UTF8_OVERLONG_2 | UTF8_LONE)
#define UTF8_SECOND_HIGH                                                                                               \
    UTF8_CUT, UTF8_CUT, UTF8_CUT, UTF8_CUT, UTF8_CUT, UTF8_CUT, UTF8_CUT, UTF8_CUT,                                    \
    UTF8_CONT_BITS | UTF8_OVERLONG_3 | UTF8_OVERLONG_4, UTF8_CONT_BITS | UTF8_OVERLONG_3 | UTF8_LARGE,                 \
    UTF8_CONT_BITS | UTF8_SURROGATE | UTF8_LARGE, UTF8_CONT_BITS | UTF8_SURROGATE | UTF8_LARGE,                        \
    UTF8_CUT, UTF8_CUT, UTF8_CUT, UTF8_CUT

#endif
