/* A histogram of times with a fixed relative error: the log-linear layout that HdrHistogram made known. Owns its
 * counts. */
#ifndef WSR_HISTOGRAM_H
#define WSR_HISTOGRAM_H

#include <stdint.h>

#include "wsring.h"

#define WSR_HISTOGRAM_DIGITS_MAX 5
#define WSR_HISTOGRAM_HOUR_NS 3600000000000ull

struct wsr_histogram {
    uint64_t *counts;
    uint32_t counts_count;
    uint32_t step_bits;        /* values from 2^n to 2^(n+1) share 1 << step_bits cells */
    uint64_t value_max;        /* larger values are recorded as this one */
    uint64_t total;
    uint64_t clipped;          /* values that were larger than value_max */
    uint64_t min;
    uint64_t max;              /* as given, also when clipped */
    uint64_t sum_low;          /* the sum needs more than 64 bits: many connections wait for many hours */
    uint64_t sum_high;
};

/* Make an empty histogram of values up to @value_max, exact to @digits (1 to 5) significant digits.
 * Returns 0, WSR_ERR_ARGUMENT or WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_histogram_init(struct wsr_histogram *h, unsigned digits, uint64_t value_max);
/* Free the counts. A zeroed histogram is allowed. */
void wsr_histogram_free(struct wsr_histogram *h);

/* Count one value. */
void wsr_histogram_add(struct wsr_histogram *h, uint64_t value);

/* Add all that @from counted. Both must have the same shape: returns 0 or WSR_ERR_ARGUMENT. */
WSR_MUST_USE int wsr_histogram_merge(struct wsr_histogram *h, const struct wsr_histogram *from);

/* The smallest cell's upper end that at least @percent of the values do not pass, never more than the largest
 * value seen. 0 when empty. */
uint64_t wsr_histogram_percentile(const struct wsr_histogram *h, double percent);

/* Mean of the values as given, not of their cells. 0 when empty. */
double wsr_histogram_mean(const struct wsr_histogram *h);

#endif
