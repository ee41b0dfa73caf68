/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/report.h"

static struct wsr_load_options options;
static struct wsr_load_plan plan;

/* A run of ten seconds in which all went well: 100 connections, one message in flight, 1 ms each. */
static struct wsr_report good(void)
{
    struct wsr_report report = { .options = &options, .plan = &plan, .window_ns = 10000000000 };
    options = (struct wsr_load_options){ .url = "ws://a/", .connections = 100, .threads = 1, .in_flight = 1,
                                         .message_bytes = 64, .kind = WSR_BINARY, .wait = WSR_WAIT_BLOCK };
    report.counts.opened = report.counts.closed_clean = 100;
    report.counts.sent = report.counts.verified = 1000000;
    report.counts.sent_in_window = report.counts.verified_in_window = 1000000;
    assert_int_equal(wsr_load_times_init(&report.times), 0);
    for (int i = 0; i < 100; i++)
        wsr_histogram_add(&report.times.latency, 1000000);
    wsr_histogram_add(&report.times.opening, 2000000);
    return report;
}

static void give_up(struct wsr_report *report)
{
    wsr_load_times_free(&report->times);
}

static void a_good_run_has_no_fault(void **state)
{
    (void)state;
    struct wsr_report report = good();
    assert_string_equal(wsr_report_fault(&report), "");
    give_up(&report);
}

/* Whichever count is not what it should be, the run has failed. */
static void every_shortfall_is_a_fault(void **state)
{
    (void)state;
    static const size_t counts[] = {
        offsetof(struct wsr_load_counts, failed),     offsetof(struct wsr_load_counts, broken),
        offsetof(struct wsr_load_counts, lost),       offsetof(struct wsr_load_counts, duplicated),
        offsetof(struct wsr_load_counts, reordered),  offsetof(struct wsr_load_counts, corrupted),
        offsetof(struct wsr_load_counts, foreign),    offsetof(struct wsr_load_counts, send_errors),
    };
    struct wsr_report report = good();
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint64_t one = 1, none = 0;
        memcpy((char *)&report.counts + counts[i], &one, sizeof one);
        assert_string_not_equal(wsr_report_fault(&report), "");
        memcpy((char *)&report.counts + counts[i], &none, sizeof none);
    }
    assert_string_equal(wsr_report_fault(&report), "");
    report.counts.opened = 99;
    assert_string_not_equal(wsr_report_fault(&report), "");
    report.counts.opened = 100;
    report.counts.verified = 0;
    assert_string_equal(wsr_report_fault(&report), "nothing was verified");
    give_up(&report);
}

static void the_limit_is_named_only_where_it_is_known(void **state)
{
    (void)state;
    struct wsr_report report = good();
    assert_int_equal(wsr_report_limit_of(&report), WSR_REPORT_UNKNOWN);
    report.machine_load = 1.0;
    assert_int_equal(wsr_report_limit_of(&report), WSR_REPORT_MACHINE);
    report.machine_load = 0.5;
    report.client_busiest_ns = 9900000000;
    assert_int_equal(wsr_report_limit_of(&report), WSR_REPORT_CLIENT);
    report.server_is_known = true;
    report.server_busiest_ns = 9900000000;
    assert_int_equal(wsr_report_limit_of(&report), WSR_REPORT_BOTH);
    report.client_busiest_ns = 5000000000;
    assert_int_equal(wsr_report_limit_of(&report), WSR_REPORT_SERVER);
    report.server_busiest_ns = 0;
    assert_int_equal(wsr_report_limit_of(&report), WSR_REPORT_NEITHER);
    options.wait = WSR_WAIT_SPIN;
    report.client_busiest_ns = 10000000000;
    assert_int_equal(wsr_report_limit_of(&report), WSR_REPORT_SPINS);
    report.server_busiest_ns = 9900000000;
    assert_int_equal(wsr_report_limit_of(&report), WSR_REPORT_SERVER);
    for (int limit = WSR_REPORT_UNKNOWN; limit <= WSR_REPORT_MACHINE; limit++) {
        report.limit = (enum wsr_report_limit)limit;
        assert_true(strlen(wsr_report_limit_text(&report)) > 20);
    }
    give_up(&report);
}

/* 100,000 per second of 1 ms each are 100 in flight. */
static void littles_law_multiplies_rate_and_mean(void **state)
{
    (void)state;
    struct wsr_report report = good();
    assert_true(wsr_report_rate(&report, 1000000) == 100000.0);
    assert_true(wsr_report_little_found(&report) == 100.0);
    assert_true(wsr_report_little_asked(&report) == 100.0);
    assert_string_equal(wsr_report_little_text(&report), "");
    report.counts.verified_in_window = 900000;
    assert_non_null(strstr(wsr_report_little_text(&report), "kept it down"));
    report.window_ns = 40000000;
    assert_non_null(strstr(wsr_report_little_text(&report), "short"));
    report.window_ns = 0;
    assert_true(wsr_report_little_found(&report) == 0.0);
    give_up(&report);
}

static char text[16384];

static void write_with(void (*write)(FILE *, const struct wsr_report *), const struct wsr_report *report)
{
    memset(text, 0, sizeof text);
    FILE *to = fmemopen(text, sizeof text - 1, "w");
    assert_non_null(to);
    write(to, report);
    fclose(to);
}

static void both_forms_tell_counts_percentiles_and_verdict(void **state)
{
    (void)state;
    static const char *const in_text[] = { "1,000,000 sent, 1,000,000 verified", "99.999 %", "1.00 ms", "100,000 msg/s",
                                           "all verified", "server CPU     unknown", "order, count and content only" };
    static const char *const in_json[] = { "\"ok\": true", "\"verified\": 1000000", "\"p99.999\": 1000000",
                                           "\"messages_per_second\": 100000", "\"server_ns\": null",
                                           "\"failures\": []" };
    struct wsr_report report = good();
    write_with(wsr_report_write_text, &report);
    for (size_t i = 0; i < sizeof in_text / sizeof in_text[0]; i++)
        assert_non_null(strstr(text, in_text[i]));
    write_with(wsr_report_write_json, &report);
    for (size_t i = 0; i < sizeof in_json / sizeof in_json[0]; i++)
        assert_non_null(strstr(text, in_json[i]));
    give_up(&report);
}

static void add_tls(struct wsr_report *report)
{
    options.url = "wss://a/";
    report->tls = (struct wsr_socket_tls){ .version = WSR_TLS_1_3, .records = WSR_TLS_DIRECT, .is_verified = 1,
                                           .cipher = "TLS_AES_128_GCM_SHA256", .why = "as was asked for" };
    report->statistics.tls_handshakes = report->statistics.tls_direct = 100;
    report->statistics.tls_resumed = 99;
}

static void holds(const char *what)
{
    if (!strstr(text, what))
        fail_msg("there is no %s in %s", what, text);
}

static void tls_is_told_when_there_is_any(void **state)
{
    (void)state;
    struct wsr_report report = good();
    write_with(wsr_report_write_text, &report);
    assert_null(strstr(text, "TLS"));
    assert_null(strstr(text, "INSECURE"));
    write_with(wsr_report_write_json, &report);
    holds("\"tls\": null");
    add_tls(&report);
    write_with(wsr_report_write_text, &report);
    holds("TLS 1.3, TLS_AES_128_GCM_SHA256; 100 handshakes, 99 of them resumed");
    holds("records by direct: as was asked for");
    assert_null(strstr(text, "not all alike"));
    assert_null(strstr(text, "INSECURE"));
    write_with(wsr_report_write_json, &report);
    holds("\"version\": \"TLS 1.3\"");
    holds("\"cipher\": \"TLS_AES_128_GCM_SHA256\"");
    holds("\"records\": \"direct\"");
    holds("\"why\": \"as was asked for\"");
    holds("\"insecure\": false");
    holds("\"handshakes\": 100");
    holds("\"resumed\": 99");
    holds("\"direct\": 100");
    give_up(&report);
}

static void what_was_not_checked_and_what_differs_is_told_aloud(void **state)
{
    (void)state;
    struct wsr_report report = good();
    add_tls(&report);
    options.is_insecure = true;
    report.statistics.tls_unverified = 100;
    report.statistics.tls_direct = 60;
    report.statistics.tls_library = 40;
    report.tls.version = WSR_TLS_1_2;
    write_with(wsr_report_write_text, &report);
    holds("\nINSECURE       no certificate was checked");
    holds("TLS 1.2, ");
    holds("not all alike: 40 connections by the library, 0 by the kernel, 60 by direct");
    write_with(wsr_report_write_json, &report);
    holds("\"insecure\": true");
    holds("\"unverified\": 100");
    holds("\"library\": 40");
    give_up(&report);
}

/* A step that no connection had is not told: here, a look-up. */
static void the_steps_of_opening_are_told(void **state)
{
    (void)state;
    struct wsr_report report = good();
    for (uint64_t i = 1; i <= 100; i++) {
        wsr_load_times_note(&report.times, &(struct wsr_socket_statistics){
            .connect_ns = i * 1000, .tls_ns = i * 1000000, .upgrade_ns = i * 2000 });
    }
    write_with(wsr_report_write_text, &report);
    assert_null(strstr(text, "look-up"));
    holds("of it TCP      p50 50.0 us, p99 99.0 us, max 100 us");
    holds("of it TLS      p50 50.0 ms, p99 99.0 ms, max 100 ms");
    holds("of it upgrade  p50 100 us, p99 198 us, max 200 us");
    write_with(wsr_report_write_json, &report);
    holds("\"lookup_ns\": {");
    holds("\"connect_ns\": {");
    holds("\"tls_ns\": {");
    holds("\"max\": 100000000,");
    holds("\"upgrade_ns\": {");
    give_up(&report);
}

static void failures_with_one_cause_are_told_once(void **state)
{
    (void)state;
    struct wsr_report report = good();
    struct wsr_load_reason reason = { .count = 1, .stage = WSR_STAGE_CONNECT, .text = "it was refused" };
    wsr_load_reasons_add(&report.reasons, &reason);
    wsr_load_reasons_add(&report.reasons, &reason);
    assert_int_equal(report.reasons.count, 1);
    assert_int_equal(report.reasons.items[0].count, 2);
    for (uint16_t i = 1; i <= WSR_LOAD_REASONS_MAX + 2; i++) {
        reason.http_status = i;
        wsr_load_reasons_add(&report.reasons, &reason);
    }
    assert_int_equal(report.reasons.count, WSR_LOAD_REASONS_MAX);
    assert_int_equal(report.reasons.others, 3);
    write_with(wsr_report_write_text, &report);
    assert_non_null(strstr(text, "2 times: it was refused (stage connect)"));
    assert_non_null(strstr(text, "3 times: other causes"));
    give_up(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_run_has_no_fault),
        cmocka_unit_test(every_shortfall_is_a_fault),
        cmocka_unit_test(the_limit_is_named_only_where_it_is_known),
        cmocka_unit_test(littles_law_multiplies_rate_and_mean),
        cmocka_unit_test(both_forms_tell_counts_percentiles_and_verdict),
        cmocka_unit_test(tls_is_told_when_there_is_any),
        cmocka_unit_test(what_was_not_checked_and_what_differs_is_told_aloud),
        cmocka_unit_test(the_steps_of_opening_are_told),
        cmocka_unit_test(failures_with_one_cause_are_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
