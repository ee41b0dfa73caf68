/* wsring load against wsring echo over TLS, each in a process of its own.
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bench/command.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "wsring.h"

static struct program_echo echo;
static const char *certificate;        /* of the server */

/* localhost, as the certificate has it. */
static const char *url_of(const struct program_echo *of)
{
    static char url[64];
    snprintf(url, sizeof url, "wss://localhost:%u/", of->port);
    return url;
}

static int group_setup(void **state)
{
    (void)state;
    certificate = files_path("certificate");
    ECHO_START(&echo, "--tls", "--cert-out", certificate, "--workers", "2");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    program_echo_stop(&echo);
    return 0;
}

static const char *const ways[] = { "library", "direct", "auto" };
static const char *const versions[] = { "1.2", "1.3" };

static void every_size_is_verified_in_every_way(void **state)
{
    (void)state;
    static const char *const sizes[] = { "0", "64", "4096", "16384", "65536", "1MiB" };
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        for (size_t v = 0; v < 2; v++) {
            for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
                assert_int_equal(LOAD(url_of(&echo), "--cacert", certificate, "-n", "20", "-s", sizes[s],
                                      "--tls-min", versions[v], "--tls-max", versions[v], "--tls-records", ways[w]), 0);
                program_says("\"verified\": 20,");
                program_says(v == 0 ? "\"version\": \"TLS 1.2\"" : "\"version\": \"TLS 1.3\"");
                program_says(w == 0 ? "\"records\": \"library\"" : "\"records\": \"direct\"");
                program_says("\"handshakes\": 2,");
                program_says("\"closed_clean\": 2,");
            }
        }
    }
}

static void many_connections_in_every_mode(void **state)
{
    (void)state;
    static const char *const modes[][2] = { { "-t", "2" }, { "--workers", "2" }, { "--wait", "spin" } };
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        assert_int_equal(LOAD(url_of(&echo), "--cacert", certificate, "-c", "150", "-n", "3000", modes[i][0],
                              modes[i][1]), 0);
        program_says("\"opened\": 150,");
        program_says("\"verified\": 3000,");
        program_says("\"closed_clean\": 150,");
        program_says("\"handshakes\": 150,");
        program_says("\"insecure\": false");
    }
}

/* Most of them one after the other, so that the ticket of one is there for the next. */
static void sessions_are_resumed_unless_that_is_not_wanted(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        assert_int_equal(LOAD(url_of(&echo), "--cacert", certificate, "-c", "8", "-n", "8", "--connect-rate", "20",
                              "--tls-max", versions[v]), 0);
        assert_null(strstr(program_output, "\"resumed\": 0,"));
        assert_int_equal(LOAD(url_of(&echo), "--cacert", certificate, "-c", "8", "-n", "8", "--connect-rate", "20",
                              "--tls-max", versions[v], "--no-resumption"), 0);
        program_says("\"resumed\": 0,");
    }
}

static void ciphers_are_chosen(void **state)
{
    (void)state;
    assert_int_equal(LOAD(url_of(&echo), "--cacert", certificate, "-n", "4", "--ciphersuites",
                          "TLS_CHACHA20_POLY1305_SHA256"), 0);
    program_says("\"cipher\": \"TLS_CHACHA20_POLY1305_SHA256\"");
    assert_int_equal(LOAD(url_of(&echo), "--cacert", certificate, "-n", "4", "--tls-max", "1.2", "--ciphers",
                          "ECDHE-ECDSA-AES128-SHA256", "--tls-records", "direct"), 0);
    program_says("AES_128_CBC_SHA256\"");
    program_says("\"records\": \"library\"");
}

/* What is not trusted is refused, with the stage; --insecure takes it, and says so. */
static void nobody_is_trusted_without_a_reason(void **state)
{
    (void)state;
    assert_int_equal(LOAD(url_of(&echo), "-n", "4"), 1);
    program_says("\"failed\": 2,");
    program_says("\"stage\": \"TLS\"");
    program_says("\"tls\": null");
    assert_int_equal(LOAD(url_of(&echo), "-n", "4", "--cacert", certificate, "--sni", "another.example"), 1);
    program_says("\"stage\": \"TLS\"");
    assert_int_equal(LOAD(url_of(&echo), "-n", "4", "--insecure"), 0);
    program_says("\"verified\": 4,");
    program_says("\"insecure\": true");
    program_says("\"unverified\": 2,");
    assert_int_equal(LOAD("wss://another.example/", "-n", "4", "--cacert", certificate, "--sni", "localhost",
                          "--connect-to", echo.address), 0);
    program_says("\"sni\": \"localhost\"");
}

/* What is wrong with them is a wrong command line, and told with the name of the file. */
static void files_are_read_before_anything_is_opened(void **state)
{
    (void)state;
    static const char *const options[] = { "--cacert", "--crl", "--cert", "--keylog" };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        const char *words[] = { "-q", "-n", "1", options[i], "/nonexistent/file", url_of(&echo), NULL };
        assert_int_equal(program_run(wsr_load_main, words), 2);
        program_says("/nonexistent/file");
    }
    const char *of_workers[] = { "-q", "-n", "1", "--workers", "1", "--cacert", "/nonexistent/file", url_of(&echo),
                                 NULL };
    assert_int_equal(program_run(wsr_load_main, of_workers), 2);
    program_says("/nonexistent/file");
    const char *of_plain[] = { "-q", "-n", "1", "--insecure", "ws://localhost/", NULL };
    assert_int_equal(program_run(wsr_load_main, of_plain), 2);
    program_says("--insecure is for TLS");
    assert_int_equal(LOAD(url_of(&echo), "-n", "1", "--tls-records", "nonsense"), 2);
    assert_int_equal(LOAD(url_of(&echo), "-n", "1", "--tls-min", "1.1"), 2);
    assert_int_equal(LOAD(url_of(&echo), "-n", "1", "--ciphers", "NONSENSE"), 2);
}

static void secrets_are_logged_on_request(void **state)
{
    (void)state;
    char line[256];
    const char *log = files_path("log");
    assert_int_equal(LOAD(url_of(&echo), "--cacert", certificate, "-n", "4", "--keylog", log), 0);
    FILE *from = fopen(log, "re");
    assert_non_null(from);
    size_t count = 0;
    while (fgets(line, sizeof line, from))
        count += strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0;
    assert_int_equal(count, 2);
    fclose(from);
}

/* Where there is kTLS, it works; where not, the failure says why. */
static void the_kernel_carries_the_records_or_says_why_not(void **state)
{
    (void)state;
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    assert_int_equal(wsr_diagnose(&diagnosis), 0);
    int status = LOAD(url_of(&echo), "--cacert", certificate, "-n", "4", "--tls-records", "kernel");
    assert_int_equal(status, diagnosis.ktls ? 0 : 1);
    program_says(diagnosis.ktls ? "\"records\": \"kernel\"" : "kernel");
}

/* The steps of opening, and the text for people. */
static void the_report_for_people_tells_of_tls(void **state)
{
    (void)state;
    assert_int_equal(LOAD(url_of(&echo), "--insecure", "-n", "4", "-o", "text"), 0);
    program_says("wsring load wss://localhost:");
    program_says("\nINSECURE ");
    program_says("\nTLS            TLS 1.3, TLS_");
    program_says("of it look-up ");
    program_says("of it TCP ");
    program_says("of it TLS ");
    program_says("of it upgrade ");
    assert_int_equal(LOAD(url_of(&echo), "--cacert", certificate, "-n", "4", "-o", "text"), 0);
    assert_null(strstr(program_output, "INSECURE"));
}

static void the_doctor_knows_of_tls(void **state)
{
    (void)state;
    const char *none[] = { NULL };
    (void)program_run(wsr_doctor_main, none);
    program_says("\nTLS            OpenSSL 3.");
    program_says("\n  records      auto is direct");
    program_says("\nkTLS           ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_is_verified_in_every_way),
        cmocka_unit_test(many_connections_in_every_mode),
        cmocka_unit_test(sessions_are_resumed_unless_that_is_not_wanted),
        cmocka_unit_test(ciphers_are_chosen),
        cmocka_unit_test(nobody_is_trusted_without_a_reason),
        cmocka_unit_test(files_are_read_before_anything_is_opened),
        cmocka_unit_test(secrets_are_logged_on_request),
        cmocka_unit_test(the_kernel_carries_the_records_or_says_why_not),
        cmocka_unit_test(the_report_for_people_tells_of_tls),
        cmocka_unit_test(the_doctor_knows_of_tls),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
