/* tests/support/tls_server.c against a client of OpenSSL: what other tests read from it is true.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "tests/support/tls_server.h"

/* A client that verifies nothing, and both ends of one connection. */
struct pair {
    SSL_CTX *context;
    SSL *client;
    struct tls_server *server;
    struct tls_server_link *link;
};

static void begin(struct pair *pair, const struct tls_server_options *options)
{
    *pair = (struct pair){ .context = SSL_CTX_new(TLS_client_method()), .server = tls_server_create(options) };
    assert_non_null(pair->context);
    pair->client = SSL_new(pair->context);
    assert_non_null(pair->client);
    pair->link = tls_server_accept(pair->server);
}

static void finish(struct pair *pair)
{
    SSL_free(pair->client);
    tls_server_drop(pair->link);
    tls_server_free(pair->server);
    SSL_CTX_free(pair->context);
    ERR_clear_error();
}

/* Another connection to the same server, with the first one's session. */
static void again(struct pair *pair)
{
    SSL_SESSION *session = SSL_get1_session(pair->client);
    SSL_set_shutdown(pair->client, SSL_SENT_SHUTDOWN);
    SSL_free(pair->client);
    tls_server_drop(pair->link);
    pair->client = SSL_new(pair->context);
    pair->link = tls_server_accept(pair->server);
    assert_int_equal(SSL_set_session(pair->client, session), 1);
    SSL_SESSION_free(session);
    assert_int_equal(tls_server_shake(pair->link, pair->client), 1);
}

/* Let the client read; it finds @wanted, which may be nothing. */
static void client_reads(struct pair *pair, const char *wanted)
{
    char got[64];
    tls_server_carry(pair->link, pair->client);
    int rc = SSL_read(pair->client, got, sizeof got);
    assert_int_equal(rc > 0 ? rc : 0, strlen(wanted));
    assert_memory_equal(got, wanted, strlen(wanted));
    tls_server_carry(pair->link, pair->client);
}

static void client_writes(struct pair *pair, const char *text)
{
    size_t before = pair->link->received_bytes;
    assert_int_equal(SSL_write(pair->client, text, (int)strlen(text)), strlen(text));
    tls_server_carry(pair->link, pair->client);
    assert_int_equal(pair->link->received_bytes - before, strlen(text));
    assert_memory_equal(pair->link->received + before, text, strlen(text));
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static void data_goes_both_ways_and_names_are_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        begin(&pair, &(struct tls_server_options){ .version_min = versions[i], .version_max = versions[i] });
        assert_int_equal(SSL_set_tlsext_host_name(pair.client, "name.example"), 1);
        assert_int_equal(SSL_set_alpn_protos(pair.client, (const unsigned char *)"\2h2\10http/1.1", 12), 0);
        assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
        assert_int_equal(pair.link->state, TLS_SERVER_OPEN);
        assert_int_equal(SSL_version(pair.client), versions[i]);
        assert_true(pair.link->has_server_name);
        assert_string_equal(pair.link->server_name, "name.example");
        assert_string_equal(pair.link->protocols, "h2,http/1.1");
        client_writes(&pair, "hello");
        tls_server_write(pair.link, "world", 5, 0);
        client_reads(&pair, "world");
        tls_server_close(pair.link);
        client_reads(&pair, "");
        assert_int_equal(SSL_get_shutdown(pair.client), SSL_RECEIVED_SHUTDOWN);
        client_writes(&pair, "still");
        SSL_shutdown(pair.client);
        tls_server_carry(pair.link, pair.client);
        assert_int_equal(pair.link->state, TLS_SERVER_CLOSED);
        assert_int_equal(pair.link->alert_received, SSL_AD_CLOSE_NOTIFY);
        finish(&pair);
    }
}

static void alpn_is_answered_as_told(void **state)
{
    (void)state;
    static const struct {
        const char *protocol, *offered, *agreed;
    } rows[] = {
        { NULL, "\10http/1.1", "http/1.1" }, { NULL, "\2h2", "" }, { "", "\10http/1.1", "" },
        { "h2", "\2h2", "h2" }, { NULL, "", "" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pair pair;
        begin(&pair, &(struct tls_server_options){ .protocol = rows[i].protocol });
        const unsigned char *agreed;
        unsigned len;
        size_t offered_len = strlen(rows[i].offered);
        SSL_set_alpn_protos(pair.client, (const unsigned char *)rows[i].offered, (unsigned)offered_len);
        assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
        assert_false(pair.link->has_server_name);
        SSL_get0_alpn_selected(pair.client, &agreed, &len);
        assert_int_equal(len, strlen(rows[i].agreed));
        assert_memory_equal(len > 0 ? agreed : (const unsigned char *)"", rows[i].agreed, len);
        finish(&pair);
    }
}

static void sessions_are_resumed_unless_told_otherwise(void **state)
{
    (void)state;
    static const struct {
        struct tls_server_options options;
        bool resumes;
    } rows[] = {
        { { .version_max = TLS1_2_VERSION }, true },
        { { .version_max = TLS1_2_VERSION, .keeps_sessions = true }, true },
        { { .version_max = TLS1_2_VERSION, .resumes_nothing = true }, false },
        { { .version_min = TLS1_3_VERSION }, true },
        { { .version_min = TLS1_3_VERSION, .tickets_count = 1 }, true },
        { { .version_min = TLS1_3_VERSION, .tickets_count = -1 }, false },
        { { .version_min = TLS1_3_VERSION, .resumes_nothing = true }, false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pair pair;
        begin(&pair, &rows[i].options);
        assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
        client_reads(&pair, "");
        assert_false(pair.link->was_resumed);
        again(&pair);
        assert_int_equal(pair.link->was_resumed, rows[i].resumes);
        assert_int_equal(SSL_session_reused(pair.client), rows[i].resumes);
        finish(&pair);
    }
}

static void a_client_certificate_is_asked_for(void **state)
{
    (void)state;
    struct wsr_certificate authority, own;
    assert_int_equal(wsr_certificate_create(&authority, NULL,
                                            &(struct wsr_certificate_options){ .is_authority = true }), 0);
    assert_int_equal(wsr_certificate_create(&own, &authority, &(struct wsr_certificate_options){
                                                .common_name = "me", .purpose = WSR_CERTIFICATE_CLIENT }), 0);
    for (int i = 0; i < 3; i++) {
        struct pair pair;
        begin(&pair, &(struct tls_server_options){ .client_authority = &authority, .demands_certificate = i == 2 });
        if (i == 0) {
            assert_int_equal(SSL_use_certificate(pair.client, own.x509), 1);
            assert_int_equal(SSL_use_PrivateKey(pair.client, own.key), 1);
        }
        assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
        assert_string_equal(pair.link->client_name, i == 0 ? "me" : "");
        assert_int_equal(pair.link->state, i == 2 ? TLS_SERVER_FAILED : TLS_SERVER_OPEN);
        assert_int_equal(pair.link->alert_sent, i == 2 ? SSL_AD_CERTIFICATE_REQUIRED : -1);
        finish(&pair);
    }
    wsr_certificate_free(&own);
    wsr_certificate_free(&authority);
}

static void any_alert_can_be_the_answer(void **state)
{
    (void)state;
    static const uint8_t alerts[] = { SSL_AD_HANDSHAKE_FAILURE, SSL_AD_UNRECOGNIZED_NAME, SSL_AD_INTERNAL_ERROR };
    for (size_t i = 0; i < sizeof alerts; i++) {
        struct pair pair;
        begin(&pair, &(struct tls_server_options){ .alert = alerts[i] });
        assert_int_equal(tls_server_shake(pair.link, pair.client), -1);
        assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + alerts[i]);
        assert_int_equal(pair.link->state, TLS_SERVER_FAILED);
        assert_int_equal(pair.link->alert_sent, alerts[i]);
        assert_non_null(pair.link->failure);
        finish(&pair);
    }
}

static void a_client_that_is_too_new_for_tls_1_0_is_refused(void **state)
{
    (void)state;
    struct pair pair;
    begin(&pair, &(struct tls_server_options){ .version_max = TLS1_VERSION });
    assert_int_equal(SSL_set_min_proto_version(pair.client, TLS1_2_VERSION), 1);
    assert_int_equal(tls_server_shake(pair.link, pair.client), -1);
    assert_int_equal(pair.link->alert_sent, SSL_AD_PROTOCOL_VERSION);
    finish(&pair);

    begin(&pair, &(struct tls_server_options){ .version_max = TLS1_VERSION });
    SSL_set_security_level(pair.client, 0);
    assert_int_equal(SSL_set_min_proto_version(pair.client, TLS1_VERSION), 1);
    assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
    assert_int_equal(SSL_version(pair.client), TLS1_VERSION);
    finish(&pair);
}

/* Sequence numbers and secrets are what whoever seals records of his own needs. */
static void records_are_counted_from_the_last_keys_on(void **state)
{
    (void)state;
    struct pair pair;
    begin(&pair, &(struct tls_server_options){ .version_max = TLS1_2_VERSION, .resumes_nothing = true });
    assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
    assert_int_equal(pair.link->sequence_out, 1);
    assert_int_equal(pair.link->sequence_in, 1);
    assert_int_equal(pair.link->secret_bytes, 0);
    client_writes(&pair, "one");
    tls_server_write(pair.link, "three records", 13, 5);
    assert_int_equal(pair.link->sequence_out, 4);
    assert_int_equal(pair.link->sequence_in, 2);
    finish(&pair);

    begin(&pair, &(struct tls_server_options){ .tickets_count = 3, .ciphersuites = "TLS_AES_256_GCM_SHA384" });
    assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
    assert_int_equal(pair.link->sequence_out, 3);
    assert_int_equal(pair.link->sequence_in, 0);
    assert_int_equal(pair.link->secret_bytes, 48);
    assert_memory_not_equal(pair.link->client_secret, pair.link->server_secret, 48);
    client_reads(&pair, "");
    client_writes(&pair, "one");
    tls_server_send_tickets(pair.link, 2);
    assert_int_equal(pair.link->sequence_out, 5);
    tls_server_update_keys(pair.link, true);
    assert_int_equal(pair.link->sequence_out, 0);
    assert_int_equal(pair.link->updates_sent, 1);
    tls_server_write(pair.link, "new", 3, 0);
    client_reads(&pair, "new");
    client_writes(&pair, "x");      /* behind the KeyUpdate that was asked for */
    assert_int_equal(pair.link->updates_received, 1);
    assert_int_equal(pair.link->sequence_in, 1);
    assert_int_equal(pair.link->sequence_out, 1);
    finish(&pair);
}

static void records_can_be_taken_one_by_one(void **state)
{
    (void)state;
    struct pair pair;
    uint8_t record[17000];
    begin(&pair, &(struct tls_server_options){ .version_max = TLS1_2_VERSION });
    assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
    tls_server_write(pair.link, "0123456789", 10, 4);
    tls_server_inject(pair.link, "\x15\x03\x03\x00\x02\x02\x28", 7);
    size_t overhead = 5 + 8 + 16;
    assert_int_equal(tls_server_waiting(pair.link), 10 + 3 * overhead + 7);
    assert_int_equal(tls_server_take_record(pair.link, record, sizeof record), 4 + overhead);
    assert_int_equal(tls_server_take_record(pair.link, record, sizeof record), 4 + overhead);
    assert_int_equal(tls_server_take_record(pair.link, record, sizeof record), 2 + overhead);
    assert_int_equal(tls_server_take_record(pair.link, record, sizeof record), 7);
    assert_int_equal(record[0], 0x15);
    assert_int_equal(tls_server_take_record(pair.link, record, sizeof record), 0);
    finish(&pair);
}

static void renegotiation_is_asked_for_and_may_be_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair pair;
        begin(&pair, &(struct tls_server_options){ .version_max = TLS1_2_VERSION });
        if (i == 1)
            SSL_set_options(pair.client, SSL_OP_NO_RENEGOTIATION);
        assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
        tls_server_renegotiate(pair.link);
        assert_true(tls_server_waiting(pair.link) > 0);
        client_reads(&pair, "");
        assert_int_equal(pair.link->alert_received, i == 1 ? SSL_AD_NO_RENEGOTIATION : -1);
        finish(&pair);
    }
}

static void a_hello_retry_request_is_made_by_groups(void **state)
{
    (void)state;
    struct pair pair;
    begin(&pair, &(struct tls_server_options){ .version_min = TLS1_3_VERSION, .groups = "P-384" });
    assert_int_equal(SSL_set_tlsext_host_name(pair.client, "twice"), 1);
    assert_int_equal(tls_server_shake(pair.link, pair.client), 1);
    assert_string_equal(pair.link->server_name, "twice");
    client_writes(&pair, "hello");
    finish(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_goes_both_ways_and_names_are_told),
        cmocka_unit_test(alpn_is_answered_as_told),
        cmocka_unit_test(sessions_are_resumed_unless_told_otherwise),
        cmocka_unit_test(a_client_certificate_is_asked_for),
        cmocka_unit_test(any_alert_can_be_the_answer),
        cmocka_unit_test(a_client_that_is_too_new_for_tls_1_0_is_refused),
        cmocka_unit_test(records_are_counted_from_the_last_keys_on),
        cmocka_unit_test(records_can_be_taken_one_by_one),
        cmocka_unit_test(renegotiation_is_asked_for_and_may_be_refused),
        cmocka_unit_test(a_hello_retry_request_is_made_by_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
