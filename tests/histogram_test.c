/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/histogram.h"

static struct wsr_histogram make(unsigned digits)
{
    struct wsr_histogram h;
    assert_int_equal(wsr_histogram_init(&h, digits, WSR_HISTOGRAM_HOUR_NS), 0);
    return h;
}

static void an_empty_histogram_answers_zero(void **state)
{
    (void)state;
    struct wsr_histogram h = make(3);
    assert_int_equal(wsr_histogram_percentile(&h, 50), 0);
    assert_int_equal(wsr_histogram_percentile(&h, 100), 0);
    assert_true(wsr_histogram_mean(&h) == 0.0);
    wsr_histogram_free(&h);
}

static void impossible_shapes_are_refused(void **state)
{
    (void)state;
    struct wsr_histogram h;
    assert_int_equal(wsr_histogram_init(&h, 0, 1000), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_histogram_init(&h, 6, 1000), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_histogram_init(&h, 3, 0), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_histogram_init(&h, 3, UINT64_MAX), WSR_ERR_ARGUMENT);
}

/* A single value is reported exactly at every percentile, as the answer never passes the largest value. */
static void one_value_comes_back_exactly(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < WSR_HISTOGRAM_HOUR_NS; value = value * 5 / 4 + 1) {
        struct wsr_histogram h = make(3);
        wsr_histogram_add(&h, value);
        assert_int_equal(wsr_histogram_percentile(&h, 0), value);
        assert_int_equal(wsr_histogram_percentile(&h, 99.999), value);
        assert_int_equal(wsr_histogram_percentile(&h, 100), value);
        assert_true(wsr_histogram_mean(&h) == (double)value);
        wsr_histogram_free(&h);
    }
}

/* Whatever the value, the cell's upper end is at most 1/1000 above it: three significant digits. */
static void the_error_is_below_the_digits_asked_for(void **state)
{
    (void)state;
    for (unsigned digits = 1; digits <= 4; digits++) {
        uint64_t steps = digits == 1 ? 10 : digits == 2 ? 100 : digits == 3 ? 1000 : 10000;
        struct wsr_histogram h = make(digits);
        for (uint64_t value = 1; value < WSR_HISTOGRAM_HOUR_NS / 2; value = value * 9 / 8 + 1) {
            struct wsr_histogram one = make(digits);
            wsr_histogram_add(&one, value);
            wsr_histogram_add(&one, WSR_HISTOGRAM_HOUR_NS);
            uint64_t got = wsr_histogram_percentile(&one, 50);
            assert_true(got >= value);
            assert_true(got - value <= value / steps);
            wsr_histogram_free(&one);
        }
        wsr_histogram_free(&h);
    }
}

static void percentiles_of_a_uniform_row_are_its_ranks(void **state)
{
    (void)state;
    struct wsr_histogram h = make(4);
    for (uint64_t i = 1; i <= 10000; i++)
        wsr_histogram_add(&h, i);
    assert_int_equal(wsr_histogram_percentile(&h, 50), 5000);
    assert_int_equal(wsr_histogram_percentile(&h, 99), 9900);
    assert_int_equal(wsr_histogram_percentile(&h, 99.99), 9999);
    assert_int_equal(wsr_histogram_percentile(&h, 99.999), 10000);
    assert_int_equal(wsr_histogram_percentile(&h, 100), 10000);
    assert_true(wsr_histogram_mean(&h) == 5000.5);
    wsr_histogram_free(&h);
}

/* Merging two halves equals counting everything in one. */
static void merging_adds_counts_and_never_averages(void **state)
{
    (void)state;
    struct wsr_histogram all = make(3), low = make(3), high = make(3);
    for (uint64_t i = 1; i <= 1000; i++) {
        wsr_histogram_add(&all, i * 1000);
        wsr_histogram_add(i <= 900 ? &low : &high, i * 1000);
    }
    assert_int_equal(wsr_histogram_merge(&low, &high), 0);
    assert_int_equal(low.total, all.total);
    assert_int_equal(low.max, all.max);
    assert_int_equal(low.min, all.min);
    assert_true(wsr_histogram_mean(&low) == wsr_histogram_mean(&all));
    for (double percent = 0; percent <= 100; percent += 0.5)
        assert_int_equal(wsr_histogram_percentile(&low, percent), wsr_histogram_percentile(&all, percent));
    struct wsr_histogram other = make(2);
    assert_int_equal(wsr_histogram_merge(&low, &other), WSR_ERR_ARGUMENT);
    wsr_histogram_free(&all);
    wsr_histogram_free(&low);
    wsr_histogram_free(&high);
    wsr_histogram_free(&other);
}

static void an_empty_one_changes_nothing_when_merged(void **state)
{
    (void)state;
    struct wsr_histogram h = make(3), empty = make(3);
    wsr_histogram_add(&h, 77);
    assert_int_equal(wsr_histogram_merge(&h, &empty), 0);
    assert_int_equal(h.min, 77);
    assert_int_equal(h.max, 77);
    wsr_histogram_free(&h);
    wsr_histogram_free(&empty);
}

/* A value over the range is counted, told apart, and its true size is the maximum. */
static void values_over_the_range_are_counted_and_told(void **state)
{
    (void)state;
    struct wsr_histogram h;
    assert_int_equal(wsr_histogram_init(&h, 3, 1000), 0);
    wsr_histogram_add(&h, 10);
    wsr_histogram_add(&h, 1000000);
    assert_int_equal(h.total, 2);
    assert_int_equal(h.clipped, 1);
    assert_int_equal(wsr_histogram_percentile(&h, 100), 1000000);
    wsr_histogram_free(&h);
}

static void the_sum_does_not_overflow(void **state)
{
    (void)state;
    struct wsr_histogram h;
    assert_int_equal(wsr_histogram_init(&h, 3, 1000), 0);
    for (int i = 0; i < 8; i++)
        wsr_histogram_add(&h, (uint64_t)1 << 63);
    assert_true(wsr_histogram_mean(&h) == 9223372036854775808.0);
    wsr_histogram_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_histogram_answers_zero),
        cmocka_unit_test(impossible_shapes_are_refused),
        cmocka_unit_test(one_value_comes_back_exactly),
        cmocka_unit_test(the_error_is_below_the_digits_asked_for),
        cmocka_unit_test(percentiles_of_a_uniform_row_are_its_ranks),
        cmocka_unit_test(merging_adds_counts_and_never_averages),
        cmocka_unit_test(an_empty_one_changes_nothing_when_merged),
        cmocka_unit_test(values_over_the_range_are_counted_and_told),
        cmocka_unit_test(the_sum_does_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
