/* SPDX-License-Identifier: MIT */
#include "bare_record.h"

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <string.h>

#include "engine/base.h"
#include "engine/tls_event.h"
#include "engine/tls_key.h"

#define VERSION 0x0304
#define AES_128_GCM_SHA256 0x1301
#define LEGACY_VERSION 0x0303         /* what the header of every record says */
#define TAG_BYTES 16u
#define COPIED_MAX 1024u              /* up to here one call over a copy is cheaper than a call for the type alone */

int wsr_bare_record_start(struct wsr_bare_record *record, const uint8_t *secret)
{
    struct wsr_tls_key key;
    const struct wsr_tls_suite *suite = wsr_tls_suite_find(VERSION, AES_128_GCM_SHA256);
    *record = (struct wsr_bare_record){ .context = EVP_CIPHER_CTX_new() };
    if (suite == NULL || record->context == NULL || wsr_tls_key_from_secret(&key, suite, secret) != 0)
        return -1;
    /* Each call that follows says again whether it seals or opens; the key is the same for both. */
    bool ok = EVP_EncryptInit_ex2(record->context, EVP_aes_128_gcm(), key.key, NULL, NULL) == 1;
    memcpy(record->iv, key.iv, sizeof record->iv);
    wsr_tls_key_wipe(&key);
    return ok ? 0 : -1;
}

void wsr_bare_record_end(struct wsr_bare_record *record)
{
    EVP_CIPHER_CTX_free(record->context);
    *record = (struct wsr_bare_record){ .context = NULL };
}

static void next_nonce(struct wsr_bare_record *record, uint8_t nonce[12])
{
    memcpy(nonce, record->iv, 12);
    wsr_store_be64(nonce + 4, wsr_load_be64(nonce + 4) ^ record->sequence++);
}

static void name_tag(OSSL_PARAM params[2], uint8_t *tag)
{
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, TAG_BYTES);
    params[1] = OSSL_PARAM_construct_end();
}

size_t wsr_bare_record_seal(struct wsr_bare_record *record, const void *plain, size_t len, uint8_t *out)
{
    static const uint8_t type = WSR_TLS_DATA;
    EVP_CIPHER_CTX *context = record->context;
    uint8_t nonce[12], *body = out + WSR_BARE_RECORD_HEADER_BYTES;
    OSSL_PARAM tag[2];
    int done;
    out[0] = WSR_TLS_DATA;
    wsr_store_be16(out + 1, LEGACY_VERSION);
    wsr_store_be16(out + 3, (uint16_t)(len + 1 + TAG_BYTES));
    next_nonce(record, nonce);
    name_tag(tag, body + len + 1);
    EVP_EncryptInit_ex2(context, NULL, NULL, nonce, NULL);
    EVP_EncryptUpdate(context, NULL, &done, out, WSR_BARE_RECORD_HEADER_BYTES);
    if (len <= COPIED_MAX) {
        memcpy(body, plain, len);
        body[len] = type;
        EVP_EncryptUpdate(context, body, &done, body, (int)len + 1);
    } else {
        EVP_EncryptUpdate(context, body, &done, plain, (int)len);
        EVP_EncryptUpdate(context, body + len, &done, &type, 1);
    }
    EVP_EncryptFinal_ex(context, body + len + 1, &done);
    EVP_CIPHER_CTX_get_params(context, tag);
    return len + WSR_BARE_RECORD_OVERHEAD;
}

ssize_t wsr_bare_record_open(struct wsr_bare_record *record, uint8_t *in, size_t len)
{
    EVP_CIPHER_CTX *context = record->context;
    uint8_t nonce[12], *body = in + WSR_BARE_RECORD_HEADER_BYTES;
    OSSL_PARAM tag[2];
    int done;
    if (len < WSR_BARE_RECORD_OVERHEAD)
        return -1;
    size_t inner_bytes = len - WSR_BARE_RECORD_HEADER_BYTES - TAG_BYTES;
    next_nonce(record, nonce);
    name_tag(tag, body + inner_bytes);
    if (EVP_DecryptInit_ex2(context, NULL, NULL, nonce, tag) != 1 ||
        EVP_DecryptUpdate(context, NULL, &done, in, WSR_BARE_RECORD_HEADER_BYTES) != 1 ||
        EVP_DecryptUpdate(context, body, &done, body, (int)inner_bytes) != 1 ||
        EVP_DecryptFinal_ex(context, body + inner_bytes, &done) != 1 || body[inner_bytes - 1] != WSR_TLS_DATA)
        return -1;
    return (ssize_t)inner_bytes - 1;
}
