/* Log-linear histogram: below 2^(step_bits+1) every value has its own cell; above, each power of two is cut into
 * 1 << step_bits cells, so that a cell is never wider than its value divided by 1 << step_bits.
 * SPDX-License-Identifier: MIT
 */
#include "histogram.h"

#include <assert.h>
#include <stdlib.h>

static unsigned shift_of(const struct wsr_histogram *h, uint64_t value)
{
    uint64_t exact_below = (uint64_t)2 << h->step_bits;
    unsigned width = 64u - (unsigned)__builtin_clzll(value | (exact_below - 1));
    return width - (h->step_bits + 1);
}

static uint32_t cell_of(const struct wsr_histogram *h, uint64_t value)
{
    unsigned shift = shift_of(h, value);
    return (uint32_t)(((uint64_t)shift << h->step_bits) + (value >> shift));
}

/* The largest value that falls into @cell. */
static uint64_t cell_top(const struct wsr_histogram *h, uint32_t cell)
{
    uint32_t steps = 1u << h->step_bits;
    if (cell < 2 * steps)
        return cell;
    unsigned shift = cell / steps - 1;
    uint64_t bottom = (uint64_t)(cell - shift * steps) << shift;
    return bottom + ((uint64_t)1 << shift) - 1;
}

int wsr_histogram_init(struct wsr_histogram *h, unsigned digits, uint64_t value_max)
{
    if (digits < 1 || digits > WSR_HISTOGRAM_DIGITS_MAX || value_max < 1 || value_max >> 62 != 0)
        return WSR_ERR_ARGUMENT;
    uint64_t needed = 1;
    for (unsigned i = 0; i < digits; i++)
        needed *= 10;
    struct wsr_histogram made = { .value_max = value_max, .min = UINT64_MAX };
    while (((uint64_t)1 << made.step_bits) < needed)
        made.step_bits++;
    made.counts_count = cell_of(&made, value_max) + 1;
    made.counts = calloc(made.counts_count, sizeof *made.counts);
    if (!made.counts)
        return WSR_ERR_MEMORY;
    *h = made;
    return 0;
}

void wsr_histogram_free(struct wsr_histogram *h)
{
    free(h->counts);
    *h = (struct wsr_histogram){ .counts = NULL };
}

static void add_to_sum(struct wsr_histogram *h, uint64_t low, uint64_t high)
{
    h->sum_low += low;
    h->sum_high += high + (h->sum_low < low ? 1 : 0);
}

void wsr_histogram_add(struct wsr_histogram *h, uint64_t value)
{
    if (value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    add_to_sum(h, value, 0);
    if (value > h->value_max) {
        h->clipped++;
        value = h->value_max;
    }
    uint32_t cell = cell_of(h, value);
    assert(cell < h->counts_count);
    h->counts[cell]++;
    h->total++;
}

int wsr_histogram_merge(struct wsr_histogram *h, const struct wsr_histogram *from)
{
    if (h->step_bits != from->step_bits || h->value_max != from->value_max)
        return WSR_ERR_ARGUMENT;
    for (uint32_t i = 0; i < h->counts_count; i++)
        h->counts[i] += from->counts[i];
    h->total += from->total;
    h->clipped += from->clipped;
    add_to_sum(h, from->sum_low, from->sum_high);
    if (from->min < h->min)
        h->min = from->min;
    if (from->max > h->max)
        h->max = from->max;
    return 0;
}

uint64_t wsr_histogram_percentile(const struct wsr_histogram *h, double percent)
{
    if (h->total == 0)
        return 0;
    double exact = percent / 100.0 * (double)h->total;
    uint64_t wanted = exact <= 1.0 ? 1 : (uint64_t)exact;
    if ((double)wanted < exact)
        wanted++;
    if (wanted >= h->total && percent >= 100.0)
        return h->max;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < h->counts_count; i++) {
        seen += h->counts[i];
        if (seen >= wanted) {
            uint64_t top = cell_top(h, i);
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}

double wsr_histogram_mean(const struct wsr_histogram *h)
{
    if (h->total == 0)
        return 0.0;
    return ((double)h->sum_high * 18446744073709551616.0 + (double)h->sum_low) / (double)h->total;
}
