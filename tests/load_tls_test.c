/* Options of wsring load for wss: which go together, and where they go.
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/load_tls.h"

static void accepted(struct wsr_load_options options)
{
    char error[WSR_LOAD_TLS_ERROR_CHARS] = "";
    options.url = options.url ? options.url : "wss://a/";
    if (wsr_load_tls_check(&options, error) < 0)
        fail_msg("%s", error);
}

static void refused(struct wsr_load_options options, const char *word)
{
    char error[WSR_LOAD_TLS_ERROR_CHARS] = "";
    options.url = options.url ? options.url : "wss://a/";
    assert_int_equal(wsr_load_tls_check(&options, error), -1);
    if (!strstr(error, word))
        fail_msg("\"%s\" does not name %s", error, word);
}

#define ACCEPTED(...) accepted((struct wsr_load_options){ __VA_ARGS__ })
#define REFUSED(word, ...) refused((struct wsr_load_options){ __VA_ARGS__ }, word)

static void options_of_tls_want_a_url_with_tls(void **state)
{
    (void)state;
    static const char *const plain[] = { "ws://a/", "WS://a/", "http://a/", " \t\nws:a" };
    static const char *const others[] = { "wss://a/", "https://a/", "Wss:a", "nonsense", "wsx://a/" };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        ACCEPTED(.url = plain[i]);
        REFUSED("--cacert", .url = plain[i], .ca_file = "x");
        REFUSED("--capath", .url = plain[i], .ca_directory = "x");
        REFUSED("--crl", .url = plain[i], .crl_file = "x");
        REFUSED("--cert ", .url = plain[i], .certificate_file = "x");
        REFUSED("--key ", .url = plain[i], .key_file = "x");
        REFUSED("--insecure", .url = plain[i], .is_insecure = true);
        REFUSED("--sni", .url = plain[i], .tls_name = "x");
        REFUSED("--tls-min", .url = plain[i], .tls_min = WSR_LOAD_TLS_1_2);
        REFUSED("--tls-max", .url = plain[i], .tls_max = WSR_LOAD_TLS_1_3);
        REFUSED("--ciphers ", .url = plain[i], .ciphers = "x");
        REFUSED("--ciphersuites", .url = plain[i], .ciphersuites = "x");
        REFUSED("--tls-records", .url = plain[i], .tls_records = WSR_TLS_LIBRARY);
        REFUSED("--no-resumption", .url = plain[i], .no_resumption = true);
        REFUSED("--keylog", .url = plain[i], .key_log_file = "x");
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        ACCEPTED(.url = others[i], .ca_file = "x", .no_resumption = true);
}

static void what_contradicts_is_refused(void **state)
{
    (void)state;
    REFUSED("--cacert", .is_insecure = true, .ca_file = "x");
    REFUSED("--capath", .is_insecure = true, .ca_directory = "x");
    REFUSED("--crl", .is_insecure = true, .crl_file = "x");
    REFUSED("--cert", .key_file = "x");
    REFUSED("--tls-min", .tls_min = WSR_LOAD_TLS_1_3, .tls_max = WSR_LOAD_TLS_1_2);
    REFUSED("--ciphersuites", .tls_min = WSR_LOAD_TLS_1_3, .ciphers = "x");
    REFUSED("--ciphers", .tls_max = WSR_LOAD_TLS_1_2, .ciphersuites = "x");
    ACCEPTED(.tls_min = WSR_LOAD_TLS_1_3);
    ACCEPTED(.tls_min = WSR_LOAD_TLS_1_2, .tls_max = WSR_LOAD_TLS_1_2, .ciphers = "x");
    ACCEPTED(.tls_min = WSR_LOAD_TLS_1_3, .tls_max = WSR_LOAD_TLS_1_3, .ciphersuites = "x");
    ACCEPTED(.certificate_file = "x", .key_file = "y", .is_insecure = true);
}

static void all_of_them_reach_the_engine(void **state)
{
    (void)state;
    const struct wsr_load_options given = {
        .ca_file = "a", .ca_directory = "b", .crl_file = "c", .certificate_file = "d", .key_file = "e", .ciphers = "f",
        .ciphersuites = "g", .key_log_file = "h", .tls_min = WSR_LOAD_TLS_1_2, .tls_max = WSR_LOAD_TLS_1_3,
        .tls_records = WSR_TLS_KERNEL, .is_insecure = true,
    };
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.flags = WSR_ENGINE_PIN;
    wsr_load_tls_engine_options(&given, &options);
    assert_int_equal(options.flags, WSR_ENGINE_PIN | WSR_ENGINE_TLS_INSECURE);
    assert_string_equal(options.tls_ca_file, "a");
    assert_string_equal(options.tls_ca_directory, "b");
    assert_string_equal(options.tls_crl_file, "c");
    assert_string_equal(options.tls_certificate_file, "d");
    assert_string_equal(options.tls_key_file, "e");
    assert_string_equal(options.tls_ciphers, "f");
    assert_string_equal(options.tls_ciphersuites, "g");
    assert_string_equal(options.tls_key_log_file, "h");
    assert_int_equal(options.tls_version_min, WSR_TLS_1_2);
    assert_int_equal(options.tls_version_max, WSR_TLS_1_3);
    assert_int_equal(options.tls_records, WSR_TLS_KERNEL);
    options = (struct wsr_engine_options)WSR_ENGINE_OPTIONS_INIT;
    wsr_load_tls_engine_options(&(struct wsr_load_options){ .no_resumption = true }, &options);
    assert_int_equal(options.flags, WSR_ENGINE_TLS_NO_RESUMPTION);
    assert_int_equal(options.tls_version_min, 0);
}

/* The words of the command line are in the order of the numbers. */
static void words_and_numbers_agree(void **state)
{
    (void)state;
    assert_string_equal(wsr_load_tls_records[WSR_TLS_AUTO], "auto");
    assert_string_equal(wsr_load_tls_records[WSR_TLS_LIBRARY], "library");
    assert_string_equal(wsr_load_tls_records[WSR_TLS_KERNEL], "kernel");
    assert_string_equal(wsr_load_tls_records[WSR_TLS_DIRECT], "direct");
    assert_string_equal(wsr_load_tls_versions[WSR_LOAD_TLS_1_2], "1.2");
    assert_string_equal(wsr_load_tls_versions[WSR_LOAD_TLS_1_3], "1.3");
    assert_string_equal(wsr_load_tls_version_name(WSR_TLS_1_2), "TLS 1.2");
    assert_string_equal(wsr_load_tls_version_name(WSR_TLS_1_3), "TLS 1.3");
    assert_string_equal(wsr_load_tls_version_name(0), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_of_tls_want_a_url_with_tls),
        cmocka_unit_test(what_contradicts_is_refused),
        cmocka_unit_test(all_of_them_reach_the_engine),
        cmocka_unit_test(words_and_numbers_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
