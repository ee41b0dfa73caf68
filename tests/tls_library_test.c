/* engine/tls_library: records by OpenSSL, with room that is just enough.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "engine/tls_library.h"
#include "tests/support/tls_line.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Cipher suites with all there is to add to a record: nonces, MACs of every length, padding, tags. */
static const struct tls_server_options suites[] = {
    { .ciphersuites = "TLS_AES_128_GCM_SHA256" }, { .ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" },
    { .version_max = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256" },
    { .version_max = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-SHA" },
    { .version_max = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-SHA256" },
    { .version_max = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES256-SHA384" },
    { .version_max = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES256-CCM8" },
};

static struct wsr_tls_context *context_for_all(void)
{
    return tls_line_context_of(&(struct wsr_tls_context_options){ .keeps_no_sessions = true, .ciphers = "ALL" });
}

static struct tls_server *server_of(const struct tls_server_options *options)
{
    struct tls_server_options copy = *options;
    copy.certificate = sim_tls_certificate();
    return tls_server_create(&copy);
}

/* Every length from the smallest on, and those around the largest, also with a KeyUpdate before them: they fit into
 * wsr_tls_sealed_max(), and into one record. */
static void what_is_sealed_fits(void **state)
{
    struct wsr_tls_context *context = context_for_all();
    static uint8_t data[WSR_TLS_PLAIN_MAX], out[WSR_TLS_PLAIN_MAX + 512];
    (void)state;
    for (size_t i = 0; i < COUNT(suites); i++) {
        struct tls_server *server = server_of(&suites[i]);
        struct tls_line line;
        size_t received = 0;
        tls_line_shake(&line, context, server, WSR_TLS_LIBRARY);
        for (size_t len = 1; len <= WSR_TLS_PLAIN_MAX; len += len < 300 || len >= WSR_TLS_PLAIN_MAX - 40 ? 1 : 777) {
            if (len > 300 && len < WSR_TLS_PLAIN_MAX - 40 && len + 777 > WSR_TLS_PLAIN_MAX - 40)
                len = WSR_TLS_PLAIN_MAX - 40;
            if (suites[i].version_max == 0 && len % 5 == 0) {
                tls_server_update_keys(line.link, true);
                tls_line_run(&line);
            }
            size_t room = wsr_tls_sealed_max(&line.tls, len);
            assert_in_range(room, len, sizeof out);
            struct iovec part = { data, len };
            memset(out + room, 0xEE, sizeof out - room);
            uint64_t sequence = line.link->sequence_in;
            unsigned updates = line.link->updates_received;
            ssize_t sealed = wsr_tls_library_seal(line.tls.handshake, &line.shared, &part, 1, out, room);
            assert_in_range(sealed, len + 1, room);
            for (size_t k = room; k < sizeof out; k++)
                assert_int_equal(out[k], 0xEE);
            tls_server_feed(line.link, out, (size_t)sealed);
            received += len;
            assert_int_equal(line.link->received_bytes, received);
            if (line.link->updates_received == updates)
                assert_int_equal(line.link->sequence_in, sequence + 1);
        }
        assert_int_equal(line.tls.handshake->spill_used, 0);
        tls_line_close(&line);
        tls_server_free(server);
    }
    wsr_tls_context_free(context);
}

/* Data comes in a block that is the receiver's; what is no data in none. */
static void data_lies_in_a_block(void **state)
{
    struct wsr_tls_context *context = context_for_all();
    static uint8_t record[WSR_TLS_RECORD_MAX];
    (void)state;
    for (size_t i = 0; i < COUNT(suites); i++) {
        struct tls_server *server = server_of(&suites[i]);
        struct tls_line line;
        tls_line_shake(&line, context, server, WSR_TLS_LIBRARY);
        for (size_t len = 1; len <= 16384; len = len * 3 + 1) {
            struct wsr_tls_event event = { 0 };
            tls_line_say(&line, len, 0);
            size_t sealed = tls_server_take_record(line.link, record, sizeof record);
            wsr_tls_library_open(line.tls.handshake, &line.shared, record, sealed, &event);
            assert_int_equal(event.type, WSR_TLS_EVENT_DATA);
            assert_int_equal(event.data.len, len);
            assert_ptr_equal(event.data.data, event.block);
            for (size_t k = 0; k < len; k++)
                assert_int_equal(event.data.data[k], tls_line_pattern(k));
            assert_int_equal(line.taken, 1);
            line.shared.release(line.shared.context, event.block);
        }
        struct wsr_tls_event event = { 0 };
        tls_server_close(line.link);
        size_t sealed = tls_server_take_record(line.link, record, sizeof record);
        wsr_tls_library_open(line.tls.handshake, &line.shared, record, sealed, &event);
        assert_int_equal(event.type, WSR_TLS_EVENT_CLOSED);
        assert_int_equal(line.taken, 0);
        tls_line_close(&line);
        tls_server_free(server);
    }
    wsr_tls_context_free(context);
}

/* Two answers of OpenSSL to one and the same: none of the library's errors is left in the queue. */
static void an_error_is_told_and_not_left_behind(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    struct tls_server *server = server_of(&suites[0]);
    struct tls_line line;
    struct wsr_tls_event event = { 0 };
    (void)state;
    tls_line_shake(&line, context, server, WSR_TLS_LIBRARY);
    wsr_tls_library_open(line.tls.handshake, &line.shared, (const uint8_t *)"\x17\x03\x03\x00\x02hi", 7, &event);
    assert_int_equal(event.type, WSR_TLS_EVENT_FAILURE);
    assert_true(event.alert == 20 || event.alert == 50);
    assert_non_null(event.text);
    assert_int_equal(ERR_peek_error(), 0);
    assert_true(line.tls.handshake->spill_used > 0);
    tls_line_carry(&line);
    assert_int_equal(line.link->alert_received, event.alert);
    tls_line_close(&line);
    tls_server_free(server);
    wsr_tls_context_free(context);
}

/* HS-11, URL-34: what the server is told before anything else. */
static void the_first_message_names_the_server_and_http(void **state)
{
    static const struct { const char *name, *sni; } rows[] = {
        { "server.example", "server.example" }, { "two.test", "two.test" }, { "10.0.0.1", NULL },
        { "2001:db8::1", NULL },
    };
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct tls_line line;
        const char *text;
        tls_line_open(&line, context, sim_tls_server(i % 2 == 0 ? 0 : 3), WSR_TLS_LIBRARY, 1);
        wsr_tls_free(&line.tls);
        assert_int_equal(wsr_tls_start(&line.tls, &line.shared, context, rows[i].name, 443, &text), 0);
        tls_line_run(&line);
        tls_line_expect(&line, "ready\n");
        assert_int_equal(line.link->has_server_name, rows[i].sni != NULL);
        assert_string_equal(line.link->server_name, rows[i].sni != NULL ? rows[i].sni : "");
        assert_string_equal(line.link->protocols, "http/1.1");
        assert_true(line.tls.facts.is_verified);
        tls_line_close(&line);
    }
    wsr_tls_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_fits),
        cmocka_unit_test(data_lies_in_a_block),
        cmocka_unit_test(an_error_is_told_and_not_left_behind),
        cmocka_unit_test(the_first_message_names_the_server_and_http),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
