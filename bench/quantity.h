/* Quantities as people write them: "20k", "64 KiB", "1.5s". Pure functions. */
#ifndef WSR_QUANTITY_H
#define WSR_QUANTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wsr_quantity_kind {
    WSR_QUANTITY_COUNT = 0,      /* k, M, G: powers of ten */
    WSR_QUANTITY_BYTES = 1,      /* B, k, M, G, kB, MB, GB: powers of ten; KiB, MiB, GiB: powers of two */
    WSR_QUANTITY_DURATION = 2    /* ns, us, ms, s, m, h; a bare number is seconds. The value is nanoseconds */
};

/*
 * Read the whole of @text: a decimal number, which may have a fraction, and a unit, with or without a space between.
 * Returns false, and leaves *out alone, when it is none, is not a whole number of the smallest unit, or does not fit.
 */
bool wsr_quantity_parse(uint64_t *out, enum wsr_quantity_kind kind, const char *text);

/* What may stand there, for error messages: "a count such as 500, 20k or 1M". */
const char *wsr_quantity_wanted(enum wsr_quantity_kind kind);

#define WSR_QUANTITY_CHARS 48

/* "873 ns", "12.3 us", "4.56 ms", "7.89 s": three digits. Each of these returns @out, of WSR_QUANTITY_CHARS. */
const char *wsr_quantity_write_ns(char *out, double ns);
/* "123,456". */
const char *wsr_quantity_write_count(char *out, uint64_t value);
/* "64 B", "1.50 MiB": powers of two. */
const char *wsr_quantity_write_bytes(char *out, double bytes);

#endif
