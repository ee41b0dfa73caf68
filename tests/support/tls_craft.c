/* Every record has a context of its own, which is slow and has nothing to remember.
 * SPDX-License-Identifier: MIT */
#include "tests/support/tls_craft.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "engine/tls_event.h"

#define TAG_BYTES 16

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool is_1_3(const struct wsr_tls_suite *suite)
{
    return suite->version == WSR_TLS_1_3;
}

static bool is_chacha20(const struct wsr_tls_suite *suite)
{
    return suite->key_bytes == 32 && strcmp(suite->cipher, "ChaCha20-Poly1305") == 0;
}

/* Bytes of the nonce that stand in the record. */
static size_t explicit_bytes(const struct wsr_tls_suite *suite)
{
    return is_1_3(suite) || is_chacha20(suite) ? 0 : 8;
}

/* A context that knows the nonce and what is authenticated only, for a record with this @header. */
static EVP_CIPHER_CTX *begin(const struct wsr_tls_suite *suite, const struct wsr_tls_key *key, const uint8_t *header,
                             size_t content_bytes, bool seals)
{
    uint8_t nonce[12], aad[13];
    int done, aad_bytes = 13;
    memcpy(nonce, key->iv, sizeof nonce);
    for (size_t i = 0; i < 8; i++) {
        uint8_t byte = (uint8_t)(key->sequence >> (56 - 8 * i));
        aad[i] = byte;
        nonce[4 + i] = explicit_bytes(suite) > 0 ? header[5 + i] : nonce[4 + i] ^ byte;
    }
    memcpy(aad + 8, header, 3);
    wsr_store_be16(aad + 11, (uint16_t)content_bytes);
    if (is_1_3(suite)) {
        memcpy(aad, header, 5);
        aad_bytes = 5;
    }
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, suite->cipher, NULL);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    must(cipher != NULL && context != NULL);
    must(EVP_CipherInit_ex2(context, cipher, key->key, nonce, seals, NULL) == 1);
    must(EVP_CipherUpdate(context, NULL, &done, aad, aad_bytes) == 1);
    EVP_CIPHER_free(cipher);
    return context;
}

size_t tls_craft(const struct wsr_tls_suite *suite, struct wsr_tls_key *key, const struct tls_craft *craft,
                 uint8_t *out)
{
    size_t explicit = explicit_bytes(suite), body_bytes = explicit + craft->inner_bytes + TAG_BYTES;
    uint8_t *body = out + WSR_TLS_HEADER_BYTES + explicit;
    int done;
    out[0] = craft->type;
    wsr_store_be16(out + 1, craft->version);
    wsr_store_be16(out + 3, (uint16_t)body_bytes);
    if (explicit > 0)
        wsr_store_be64(out + WSR_TLS_HEADER_BYTES, key->sequence ^ 0x5A5A5A5A00000000u);
    EVP_CIPHER_CTX *context = begin(suite, key, out, craft->inner_bytes, true);
    must(craft->inner_bytes == 0 ||
         EVP_CipherUpdate(context, body, &done, craft->inner, (int)craft->inner_bytes) == 1);
    must(EVP_CipherFinal_ex(context, body + craft->inner_bytes, &done) == 1);
    must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, body + craft->inner_bytes) == 1);
    EVP_CIPHER_CTX_free(context);
    key->sequence++;
    return WSR_TLS_HEADER_BYTES + body_bytes;
}

size_t tls_craft_plain(const struct wsr_tls_suite *suite, struct wsr_tls_key *key, uint8_t type, const void *data,
                       size_t len, size_t padding, uint8_t *out)
{
    struct tls_craft craft = { type, WSR_TLS_1_2, data, len };
    uint8_t *inner = NULL;
    if (is_1_3(suite)) {
        inner = calloc(1, len + 1 + padding);
        must(inner != NULL);
        if (len > 0)
            memcpy(inner, data, len);
        inner[len] = type;
        craft = (struct tls_craft){ WSR_TLS_DATA, WSR_TLS_1_2, inner, len + 1 + padding };
    }
    size_t bytes = tls_craft(suite, key, &craft, out);
    free(inner);
    return bytes;
}

size_t tls_craft_next(struct tls_server_link *link, uint8_t type, const void *data, size_t len, uint8_t *out)
{
    SSL *ssl = link->ssl;
    uint16_t version = (uint16_t)SSL_version(ssl);
    const struct wsr_tls_suite *suite =
        wsr_tls_suite_find(version, SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl)));
    struct wsr_tls_key client, server;
    if (suite == NULL)
        return 0;
    if (is_1_3(suite)) {
        must(wsr_tls_key_from_secret(&server, suite, link->server_secret) == 0);
        for (unsigned i = 0; i < link->updates_sent; i++)
            must(wsr_tls_key_renew(&server, suite) == 0);
    } else {
        uint8_t master[WSR_TLS_MASTER_BYTES], randoms[2][WSR_TLS_RANDOM_BYTES];
        SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof master);
        SSL_get_client_random(ssl, randoms[0], sizeof randoms[0]);
        SSL_get_server_random(ssl, randoms[1], sizeof randoms[1]);
        must(wsr_tls_key_from_master(&client, &server, suite, master, randoms[0], randoms[1]) == 0);
    }
    server.sequence = link->sequence_out++;
    return tls_craft_plain(suite, &server, type, data, len, 0, out);
}

long tls_craft_open(const struct wsr_tls_suite *suite, struct wsr_tls_key *key, const uint8_t *record, size_t len,
                    uint8_t *out)
{
    size_t explicit = explicit_bytes(suite), head_bytes = WSR_TLS_HEADER_BYTES + explicit;
    int done;
    if (len < head_bytes + TAG_BYTES || len != WSR_TLS_HEADER_BYTES + (size_t)wsr_load_be16(record + 3))
        return -1;
    size_t inner_bytes = len - head_bytes - TAG_BYTES;
    EVP_CIPHER_CTX *context = begin(suite, key, record, inner_bytes, false);
    bool opens = (inner_bytes == 0 ||
                  EVP_CipherUpdate(context, out, &done, record + head_bytes, (int)inner_bytes) == 1) &&
                 EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES,
                                     (void *)(uintptr_t)(record + head_bytes + inner_bytes)) == 1 &&
                 EVP_CipherFinal_ex(context, out + inner_bytes, &done) == 1;
    EVP_CIPHER_CTX_free(context);
    ERR_clear_error();
    key->sequence += opens;
    return opens ? (long)inner_bytes : -1;
}
