/* wsring load --deflate against wsring echo --deflate, each in a process of its own.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/command.h"
#include "tests/support/files.h"
#include "tests/support/program.h"

static struct program_echo echo;

static int group_setup(void **state)
{
    (void)state;
    ECHO_START(&echo, "--deflate", "--workers", "2");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    program_echo_stop(&echo);
    program_says("permessage-deflate: ");
    return 0;
}

/* The number behind "name": in the report. */
static uint64_t told(const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\": ", name);
    const char *at = strstr(program_output, key);
    if (at == NULL)
        fail_msg("no %s in %s", name, program_output);
    return strtoull(at + strlen(key), NULL, 10);
}

static void both_ways_are_compressed_and_every_byte_is_verified(void **state)
{
    (void)state;
    static const char *const sizes[] = { "100", "1000", "20000", "1MiB" };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(LOAD(echo.url, "--deflate", "--json", "-n", "60", "-s", sizes[i]), 0);
        program_says("\"verified\": 60,");
        program_says("\"kind\": \"json\"");
        program_says("\"offered\": \"permessage-deflate; client_max_window_bits\"");
        program_says("\"agreed\": true");
        assert_int_equal(told("messages_sent"), 60);
        assert_int_equal(told("given_up"), 0);
        assert_true(told("sent_wire_bytes") < told("sent_bytes"));
        assert_int_equal(told("received_bytes"), told("sent_bytes"));
        assert_int_equal(told("received_wire_bytes"), told("sent_wire_bytes"));
    }
}

/* Windows that are smaller, and contexts that are dropped, make more of the same messages. */
static void parameters_are_agreed_on_and_kept(void **state)
{
    (void)state;
    static const char *const offers[] = {
        "client_max_window_bits", "server_max_window_bits=9; client_max_window_bits=9",
        "client_no_context_takeover; server_no_context_takeover",
        "server_max_window_bits=8; client_max_window_bits=8; client_no_context_takeover",
    };
    uint64_t wire[4];
    for (size_t i = 0; i < 4; i++) {
        char option[128];
        snprintf(option, sizeof option, "--deflate=%s", offers[i]);
        assert_int_equal(LOAD(echo.url, option, "--json", "-n", "200", "-s", "1500", "--seed", "7", "-c", "1",
                              "--fragment", "100"), 0);
        program_says("\"verified\": 200,");
        program_says("\"agreed\": true");
        wire[i] = told("sent_wire_bytes");
    }
    assert_true(wire[0] < wire[1] && wire[0] < wire[2] && wire[1] < wire[3]);
}

static void level_and_threshold_have_their_effect(void **state)
{
    (void)state;
    uint64_t wire[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(LOAD(echo.url, "--deflate", "--json", "-n", "50", "-s", "20000", "--seed", "7", "-c", "1",
                              "--deflate-level", i == 0 ? "1" : "9"), 0);
        wire[i] = told("sent_wire_bytes");
    }
    assert_true(wire[1] < wire[0]);
    assert_int_equal(LOAD(echo.url, "--deflate", "--json", "-n", "50", "-s", "1000", "--deflate-min", "1001"), 0);
    program_says("\"verified\": 50,");
    assert_int_equal(strtoull(strstr(strstr(program_output, "\"deflate\": {"), "\"messages_sent\": ") + 17, NULL, 10),
                     0);
}

/* Sent by one thread, compressed by another, in the order in which they were sent. */
static void workers_compress_what_other_threads_send(void **state)
{
    (void)state;
    assert_int_equal(LOAD(echo.url, "--deflate", "--json", "--workers", "2", "-c", "6", "-p", "8", "-n", "3000", "-s",
                          "700"), 0);
    program_says("\"verified\": 3000,");
    program_says("\"reordered\": 0,");
    assert_int_equal(told("given_up"), 0);
}

/* Random bytes become no smaller, and are told as given up. */
static void what_cannot_be_compressed_leaves_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(LOAD(echo.url, "--deflate", "-n", "40", "-s", "5000"), 0);
    program_says("\"verified\": 40,");
    assert_int_equal(told("given_up"), 40);
}

static void the_report_says_when_nothing_was_agreed_on(void **state)
{
    (void)state;
    struct program_echo plain;
    ECHO_START(&plain, "--workers", "1");
    assert_int_equal(LOAD(plain.url, "--deflate", "-n", "10"), 0);
    program_says("\"agreed\": false");
    const char *words[] = { "-q", "-n", "10", "-c", "1", "--deflate", plain.url, NULL };
    assert_int_equal(program_run(wsr_load_main, words), 0);
    program_says("the server did not agree");
    program_echo_stop(&plain);
    const char *agreed[] = { "-q", "-n", "10", "-c", "1", "-s", "1000", "--json", "--deflate", echo.url, NULL };
    assert_int_equal(program_run(wsr_load_main, agreed), 0);
    program_says("compression    out 10 messages, ");
    assert_int_equal(LOAD(echo.url, "-n", "10"), 0);
    program_says("\"deflate\": null");
    program_says("\"extensions\": \"\"");
}

static void compression_goes_over_tls_too(void **state)
{
    (void)state;
    struct program_echo secure;
    const char *certificate = files_path("certificate");
    char url[64];
    ECHO_START(&secure, "--tls", "--cert-out", certificate, "--deflate=server_no_context_takeover");
    snprintf(url, sizeof url, "wss://localhost:%u/", secure.port);
    assert_int_equal(LOAD(url, "--cacert", certificate, "--deflate", "--json", "-n", "100", "-s", "3000"), 0);
    program_says("\"verified\": 100,");
    program_says("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    assert_true(told("sent_wire_bytes") < told("sent_bytes"));
    program_echo_stop(&secure);
}

static void wrong_parameters_are_a_wrong_command_line(void **state)
{
    (void)state;
    const char *const bad[] = { "--deflate=bogus", "--deflate=server_max_window_bits=7", "--deflate=;" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *load[] = { "-q", "-n", "1", bad[i], echo.url, NULL };
        assert_int_equal(program_run(wsr_load_main, load), 2);
        program_says("deflate");
        const char *server[] = { bad[i], NULL };
        assert_int_equal(program_run(wsr_echo_main, server), 2);
        program_says("--deflate");
    }
    const char *alone[] = { "-q", "-n", "1", "--deflate-level", "3", echo.url, NULL };
    assert_int_equal(program_run(wsr_load_main, alone), 2);
    program_says("give --deflate too");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_are_compressed_and_every_byte_is_verified),
        cmocka_unit_test(parameters_are_agreed_on_and_kept),
        cmocka_unit_test(level_and_threshold_have_their_effect),
        cmocka_unit_test(workers_compress_what_other_threads_send),
        cmocka_unit_test(what_cannot_be_compressed_leaves_as_it_is),
        cmocka_unit_test(the_report_says_when_nothing_was_agreed_on),
        cmocka_unit_test(compression_goes_over_tls_too),
        cmocka_unit_test(wrong_parameters_are_a_wrong_command_line),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
