/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/quantity.h"

static void expect(enum wsr_quantity_kind kind, const char *text, uint64_t wanted)
{
    uint64_t got = 0;
    if (!wsr_quantity_parse(&got, kind, text))
        fail_msg("\"%s\" was refused", text);
    if (got != wanted)
        fail_msg("\"%s\" gave %llu", text, (unsigned long long)got);
}

static void refuse(enum wsr_quantity_kind kind, const char *text)
{
    uint64_t got = 42;
    if (wsr_quantity_parse(&got, kind, text))
        fail_msg("\"%s\" was taken", text);
    assert_int_equal(got, 42);
}

static void counts_take_powers_of_ten(void **state)
{
    (void)state;
    expect(WSR_QUANTITY_COUNT, "0", 0);
    expect(WSR_QUANTITY_COUNT, "500", 500);
    expect(WSR_QUANTITY_COUNT, "20k", 20000);
    expect(WSR_QUANTITY_COUNT, "1.5M", 1500000);
    expect(WSR_QUANTITY_COUNT, "18446744073709551615", UINT64_MAX);
    refuse(WSR_QUANTITY_COUNT, "1KiB");
    refuse(WSR_QUANTITY_COUNT, "1.5");
    refuse(WSR_QUANTITY_COUNT, "10s");
}

static void sizes_take_both_kinds_of_prefix(void **state)
{
    (void)state;
    expect(WSR_QUANTITY_BYTES, "64", 64);
    expect(WSR_QUANTITY_BYTES, "16KiB", 16384);
    expect(WSR_QUANTITY_BYTES, "16 KiB", 16384);
    expect(WSR_QUANTITY_BYTES, "1.5MiB", 1572864);
    expect(WSR_QUANTITY_BYTES, "1MB", 1000000);
    expect(WSR_QUANTITY_BYTES, "1k", 1000);
    refuse(WSR_QUANTITY_BYTES, "0.3KiB");
    refuse(WSR_QUANTITY_BYTES, "1ms");
}

static void times_are_exact_nanoseconds_and_a_bare_number_is_seconds(void **state)
{
    (void)state;
    expect(WSR_QUANTITY_DURATION, "10", 10000000000);
    expect(WSR_QUANTITY_DURATION, "10s", 10000000000);
    expect(WSR_QUANTITY_DURATION, "0.3s", 300000000);
    expect(WSR_QUANTITY_DURATION, "500us", 500000);
    expect(WSR_QUANTITY_DURATION, "20ms", 20000000);
    expect(WSR_QUANTITY_DURATION, "7ns", 7);
    expect(WSR_QUANTITY_DURATION, "2m", 120000000000);
    expect(WSR_QUANTITY_DURATION, "1h", 3600000000000);
    refuse(WSR_QUANTITY_DURATION, "1.5ns");
}

static void what_is_no_quantity_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "", "-1", "+1", " 1", "k", ".5", "1.", "1..2", "1e3", "0x10", "1  k", "1k ",
                                       "18446744073709551616", "1.00000000000000000000001", "20000000000G", "10q" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        refuse(WSR_QUANTITY_COUNT, bad[i]);
        refuse(WSR_QUANTITY_BYTES, bad[i]);
        refuse(WSR_QUANTITY_DURATION, bad[i]);
    }
}

static void times_are_written_with_three_digits(void **state)
{
    (void)state;
    char out[WSR_QUANTITY_CHARS];
    assert_string_equal(wsr_quantity_write_ns(out, 0), "0 ns");
    assert_string_equal(wsr_quantity_write_ns(out, 873), "873 ns");
    assert_string_equal(wsr_quantity_write_ns(out, 12345), "12.3 us");
    assert_string_equal(wsr_quantity_write_ns(out, 999499), "999 us");
    assert_string_equal(wsr_quantity_write_ns(out, 999500), "1.00 ms");
    assert_string_equal(wsr_quantity_write_ns(out, 4560000), "4.56 ms");
    assert_string_equal(wsr_quantity_write_ns(out, 123e9), "123 s");
}

static void counts_and_sizes_are_written_for_reading(void **state)
{
    (void)state;
    char out[WSR_QUANTITY_CHARS];
    assert_string_equal(wsr_quantity_write_count(out, 0), "0");
    assert_string_equal(wsr_quantity_write_count(out, 999), "999");
    assert_string_equal(wsr_quantity_write_count(out, 1000), "1,000");
    assert_string_equal(wsr_quantity_write_count(out, UINT64_MAX), "18,446,744,073,709,551,615");
    assert_string_equal(wsr_quantity_write_bytes(out, 64), "64 B");
    assert_string_equal(wsr_quantity_write_bytes(out, 16384), "16.0 KiB");
    assert_string_equal(wsr_quantity_write_bytes(out, 1572864), "1.50 MiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_take_powers_of_ten),
        cmocka_unit_test(sizes_take_both_kinds_of_prefix),
        cmocka_unit_test(times_are_exact_nanoseconds_and_a_bare_number_is_seconds),
        cmocka_unit_test(what_is_no_quantity_is_refused),
        cmocka_unit_test(times_are_written_with_three_digits),
        cmocka_unit_test(counts_and_sizes_are_written_for_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
