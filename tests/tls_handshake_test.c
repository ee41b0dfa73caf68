/* engine/tls_handshake: OpenSSL's part of a connection, what it says before there is anything to read, and what does
 * not fit into what it was lent.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/tls_handshake.h"
#include "engine/tls_library.h"
#include "tests/support/tls_client.h"
#include "tests/support/tls_line.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct wsr_tls_handshake *create(struct wsr_tls_context *context, const char *name, uint16_t port)
{
    struct wsr_tls_handshake *handshake = wsr_tls_handshake_create(context, name, port);
    assert_non_null(handshake);
    return handshake;
}

/* Whose sessions they are is told by name and port. */
static void the_peer_is_known_by_name_and_port(void **state)
{
    static const struct { const char *name; uint16_t port; const char *peer; } rows[] = {
        { "a.example", 443, "a.example:443" }, { "a.example", 65535, "a.example:65535" }, { "::1", 1, "::1:1" },
    };
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wsr_tls_handshake *handshake = create(context, rows[i].name, rows[i].port);
        assert_string_equal(handshake->peer, rows[i].peer);
        assert_non_null(handshake->ssl);
        assert_false(handshake->is_insecure);
        assert_int_equal(handshake->spill_used, 0);
        assert_int_equal(handshake->secret_bytes, 0);
        assert_int_equal(SSL_is_server(handshake->ssl), 0);
        wsr_tls_handshake_free(handshake);
    }
    wsr_tls_handshake_free(NULL);
    wsr_tls_context_free(context);
    context = tls_line_context_of(&(struct wsr_tls_context_options){ .is_insecure = true });
    struct wsr_tls_handshake *handshake = create(context, "a.example", 443);
    assert_true(handshake->is_insecure);
    wsr_tls_handshake_free(handshake);
    wsr_tls_context_free(context);
}

/* With nothing to read it writes the ClientHello, and asks for more; and so it does with half a record. */
static void nothing_to_read_is_no_end(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    struct wsr_tls_handshake *handshake = create(context, "a.example", 443);
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct wsr_tls_event event = { 0 };
        wsr_tls_library_shake(handshake, (const uint8_t *)"\x16\x03\x03", i == 0 ? 0 : 1, &event);
        assert_int_equal(event.type, WSR_TLS_EVENT_NOTHING);
        assert_int_equal(handshake->in_len, 0);
        assert_in_range(handshake->spill_used, 100, 2000);
        assert_int_equal(handshake->spill[0], WSR_TLS_HANDSHAKE);
    }
    wsr_tls_handshake_free(handshake);
    wsr_tls_context_free(context);
}

/* What is written while nobody has lent any room is kept, however much it is: a client's large certificate. */
static void what_is_written_without_room_is_kept(void **state)
{
    struct wsr_certificate client = { 0 };
    static const struct wsr_certificate_options large = { .common_name = "client", .comment_bytes = 50000,
                                                          .purpose = WSR_CERTIFICATE_CLIENT };
    (void)state;
    assert_int_equal(wsr_certificate_create(&client, sim_tls_authority(), &large), 0);
    const struct wsr_certificate *const chain[] = { &client, NULL };
    struct wsr_tls_context *context = tls_line_context_of(&(struct wsr_tls_context_options){
        .keeps_no_sessions = true, .certificate_file = tls_client_write("client.pem", chain),
        .key_file = tls_client_write_key("client.key", &client, NULL) });
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_server *server = tls_server_create(&(struct tls_server_options){
            .certificate = sim_tls_certificate(), .version_min = version, .version_max = version,
            .client_authority = sim_tls_authority(), .demands_certificate = true });
        struct tls_line line;
        uint8_t bytes[8192];
        tls_line_open(&line, context, server, WSR_TLS_DIRECT, 1);
        tls_line_carry(&line);
        size_t len = tls_server_take(line.link, bytes, sizeof bytes), most = 0;
        for (size_t at = 0; at < len && line.tls.state == WSR_TLS_SHAKING;) {
            struct wsr_tls_event event;
            at += wsr_tls_feed(&line.tls, bytes + at, len - at, &event);
            most = wsr_tls_output(&line.tls).len > most ? wsr_tls_output(&line.tls).len : most;
            if (event.type == WSR_TLS_EVENT_READY)
                assert_int_equal(wsr_tls_settle(&line.tls, WSR_TLS_DIRECT), 0);     /* with all that still to go */
        }
        assert_in_range(most, 50000, 70000);
        struct wsr_bytes output = wsr_tls_output(&line.tls);
        assert_int_equal(output.len, most);
        tls_line_carry(&line);
        tls_line_run(&line);
        assert_int_equal(line.link->state, TLS_SERVER_OPEN);
        assert_string_equal(line.link->client_name, "client");
        if (line.tls.state == WSR_TLS_READY)
            fail_msg("READY was not seen");
        tls_line_send(&line, "hello", 5);
        assert_int_equal(line.link->received_bytes, 5);
        tls_line_close(&line);
        tls_server_free(server);
    }
    wsr_tls_context_free(context);
    wsr_certificate_free(&client);
}

/* A server that demands a certificate and gets none says so: with TLS 1.3 after the client's handshake has ended. */
static void a_certificate_that_is_missing_is_told(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (int way = WSR_TLS_LIBRARY; way <= WSR_TLS_DIRECT; way += WSR_TLS_DIRECT - WSR_TLS_LIBRARY) {
            struct tls_server *server = tls_server_create(&(struct tls_server_options){
                .certificate = sim_tls_certificate(), .version_min = version, .version_max = version,
                .client_authority = sim_tls_authority(), .demands_certificate = true });
            struct tls_line line;
            tls_line_open(&line, context, server, (enum wsr_tls_records)way, 1);
            tls_line_run(&line);
            tls_line_expect(&line, version == TLS1_3_VERSION ? "ready\nfailure 116\n" : "failure 40\n");
            tls_line_close(&line);
            tls_server_free(server);
        }
    }
    wsr_tls_context_free(context);
}

/* One that ends half-way takes no session with it, and leaves none. */
static void an_end_half_way_keeps_the_sessions(void **state)
{
    struct wsr_tls_context *context = tls_line_context_of(&(struct wsr_tls_context_options){ 0 });
    struct tls_line line;
    (void)state;
    tls_line_shake(&line, context, sim_tls_server(3), WSR_TLS_DIRECT);
    tls_line_close(&line);
    assert_int_equal(wsr_tls_context_sessions(context), 1);
    for (unsigned i = 0; i < 3; i++) {
        tls_line_open(&line, context, sim_tls_server(3), WSR_TLS_DIRECT, 2 + i);
        tls_line_carry(&line);
        tls_line_close(&line);
        assert_int_equal(wsr_tls_context_sessions(context), 1);
    }
    tls_line_shake(&line, context, sim_tls_server(3), WSR_TLS_DIRECT);
    assert_true(line.tls.facts.was_resumed);
    tls_line_close(&line);
    wsr_tls_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_peer_is_known_by_name_and_port),
        cmocka_unit_test(nothing_to_read_is_no_end),
        cmocka_unit_test(what_is_written_without_room_is_kept),
        cmocka_unit_test(a_certificate_that_is_missing_is_told),
        cmocka_unit_test(an_end_half_way_keeps_the_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
