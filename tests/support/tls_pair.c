/* The handshake is made by two SSL of OpenSSL, and their secrets are taken.
 * SPDX-License-Identifier: MIT */
#include "tests/support/tls_pair.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SUITES_MAX 32u
#define KEY_EXCHANGE_DSS(number) ((number) == 0x00A2 || (number) == 0x00A3)      /* OpenSSL makes no such certificate */

static SSL_CTX *names(void)
{
    static SSL_CTX *context;
    if (context == NULL) {
        context = SSL_CTX_new(TLS_method());
        assert_non_null(context);
        assert_int_equal(SSL_CTX_set_cipher_list(context, "ALL"), 1);
    }
    return context;
}

const char *tls_pair_name(const struct wsr_tls_suite *suite)
{
    uint8_t number[2];
    SSL *ssl = SSL_new(names());
    wsr_store_be16(number, suite->number);
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, number);
    assert_non_null(cipher);
    SSL_free(ssl);
    return SSL_CIPHER_get_name(cipher);
}

const struct wsr_tls_suite *const *tls_pair_suites(void)
{
    static const struct wsr_tls_suite *suites[SUITES_MAX];
    size_t count = 0;
    static const uint16_t versions[] = { WSR_TLS_1_3, WSR_TLS_1_2 };
    for (size_t i = 0; i < 2; i++) {
        for (uint32_t number = 0; number <= UINT16_MAX; number++) {
            const struct wsr_tls_suite *suite = wsr_tls_suite_find(versions[i], (uint16_t)number);
            if (suite == NULL || KEY_EXCHANGE_DSS(number))
                continue;
            assert_true(count + 1 < SUITES_MAX);
            suites[count++] = suite;
        }
    }
    return suites;
}

/* RSA certificates take long to make, so there is one. */
static const struct wsr_certificate *rsa(void)
{
    static struct wsr_certificate certificate;
    struct wsr_certificate_options options = wsr_certificate_local;
    options.is_rsa = true;
    if (certificate.x509 == NULL)
        assert_int_equal(wsr_certificate_create(&certificate, NULL, &options), 0);
    return &certificate;
}

static void take_keys(struct tls_pair *pair)
{
    uint8_t master[WSR_TLS_MASTER_BYTES], client[WSR_TLS_RANDOM_BYTES], server[WSR_TLS_RANDOM_BYTES];
    const struct wsr_tls_suite *suite = pair->suite;
    if (suite->version == WSR_TLS_1_3) {
        assert_int_equal(pair->link->secret_bytes, suite->secret_bytes);
        assert_int_equal(wsr_tls_key_from_secret(&pair->in, suite, pair->link->server_secret), 0);
        assert_int_equal(wsr_tls_key_from_secret(&pair->out, suite, pair->link->client_secret), 0);
        pair->in.sequence = pair->link->sequence_out;
        return;
    }
    const SSL_SESSION *session = SSL_get_session(pair->client);
    assert_int_equal(SSL_SESSION_get_master_key(session, master, sizeof master), sizeof master);
    assert_int_equal(SSL_get_client_random(pair->client, client, sizeof client), sizeof client);
    assert_int_equal(SSL_get_server_random(pair->client, server, sizeof server), sizeof server);
    assert_int_equal(wsr_tls_key_from_master(&pair->out, &pair->in, suite, master, client, server), 0);
}

void tls_pair_open(struct tls_pair *pair, const struct wsr_tls_suite *suite)
{
    struct tls_server_options options = { .version_min = suite->version, .version_max = suite->version };
    const char *name = tls_pair_name(suite);
    *pair = (struct tls_pair){ .suite = suite, .context = SSL_CTX_new(TLS_client_method()) };
    assert_non_null(pair->context);
    if (suite->version == WSR_TLS_1_3) {
        options.ciphersuites = name;
    } else {
        options.ciphers = name;
        assert_int_equal(SSL_CTX_set_cipher_list(pair->context, name), 1);
        if (strstr(name, "ECDSA") == NULL)
            options.certificate = rsa();
    }
    pair->server = tls_server_create(&options);
    pair->link = tls_server_accept(pair->server);
    SSL_set_dh_auto(pair->link->ssl, 1);
    SSL_set_options(pair->link->ssl, SSL_OP_NO_RENEGOTIATION);
    pair->client = SSL_new(pair->context);
    assert_non_null(pair->client);
    assert_int_equal(tls_server_shake(pair->link, pair->client), 1);
    assert_string_equal(SSL_CIPHER_get_name(SSL_get_current_cipher(pair->client)), name);
    take_keys(pair);
}

void tls_pair_close(struct tls_pair *pair)
{
    SSL_free(pair->client);
    tls_server_drop(pair->link);
    tls_server_free(pair->server);
    SSL_CTX_free(pair->context);
    wsr_tls_key_wipe(&pair->in);
    wsr_tls_key_wipe(&pair->out);
}
