/* The key schedules are OpenSSL's: its KDFs "TLS13-KDF", which is asked to expand only, and "TLS1-PRF". */
#include "tls_key.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdatomic.h>

#define EXPLICIT_NONCE_FIXED_BYTES 4u    /* RFC 5288 3 */
#define KEY_BLOCK_MAX (2 * (WSR_TLS_KEY_MAX + WSR_TLS_IV_BYTES))

#define SUITE_AES_128(version, number, fixed_iv_bytes) \
    { version, number, WSR_TLS_AES_128_GCM, 16, 32, fixed_iv_bytes, "AES-128-GCM", "SHA2-256" }
#define SUITE_AES_256(version, number, fixed_iv_bytes) \
    { version, number, WSR_TLS_AES_256_GCM, 32, 48, fixed_iv_bytes, "AES-256-GCM", "SHA2-384" }
#define SUITE_CHACHA20(version, number) \
    { version, number, WSR_TLS_CHACHA20_POLY1305, 32, 32, WSR_TLS_IV_BYTES, "ChaCha20-Poly1305", "SHA2-256" }

/* RFC 8446 B.4, RFC 5288 3, RFC 5289 3.2, RFC 7905 2. */
static const struct wsr_tls_suite suites[] = {
    SUITE_AES_128(WSR_TLS_1_3, 0x1301, WSR_TLS_IV_BYTES),
    SUITE_AES_256(WSR_TLS_1_3, 0x1302, WSR_TLS_IV_BYTES),
    SUITE_CHACHA20(WSR_TLS_1_3, 0x1303),
    SUITE_AES_128(WSR_TLS_1_2, 0xC02B, EXPLICIT_NONCE_FIXED_BYTES),     /* ECDHE-ECDSA */
    SUITE_AES_256(WSR_TLS_1_2, 0xC02C, EXPLICIT_NONCE_FIXED_BYTES),
    SUITE_CHACHA20(WSR_TLS_1_2, 0xCCA9),
    SUITE_AES_128(WSR_TLS_1_2, 0xC02F, EXPLICIT_NONCE_FIXED_BYTES),     /* ECDHE-RSA */
    SUITE_AES_256(WSR_TLS_1_2, 0xC030, EXPLICIT_NONCE_FIXED_BYTES),
    SUITE_CHACHA20(WSR_TLS_1_2, 0xCCA8),
    SUITE_AES_128(WSR_TLS_1_2, 0x009E, EXPLICIT_NONCE_FIXED_BYTES),     /* DHE-RSA */
    SUITE_AES_256(WSR_TLS_1_2, 0x009F, EXPLICIT_NONCE_FIXED_BYTES),
    SUITE_CHACHA20(WSR_TLS_1_2, 0xCCAA),
    SUITE_AES_128(WSR_TLS_1_2, 0x00A2, EXPLICIT_NONCE_FIXED_BYTES),     /* DHE-DSS */
    SUITE_AES_256(WSR_TLS_1_2, 0x00A3, EXPLICIT_NONCE_FIXED_BYTES),
    SUITE_AES_128(WSR_TLS_1_2, 0x009C, EXPLICIT_NONCE_FIXED_BYTES),     /* RSA */
    SUITE_AES_256(WSR_TLS_1_2, 0x009D, EXPLICIT_NONCE_FIXED_BYTES),
};

static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;
static EVP_KDF *expand, *prf;            /* for the life of the process; NULL = OpenSSL has none, or no memory */

static void fetch(void)
{
    expand = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
    prf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
}

const struct wsr_tls_suite *wsr_tls_suite_find(uint16_t version, uint16_t number)
{
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        if (suites[i].version == version && suites[i].number == number)
            return &suites[i];
    }
    return NULL;
}

/* Begins with 1: 0 is no key's. */
static uint64_t next_serial(void)
{
    static _Atomic uint64_t serials;
    /* Relaxed, its own partner: the numbers only have to differ. */
    return atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed) + 1;
}

static OSSL_PARAM text_param(const char *name, const char *text)
{
    return OSSL_PARAM_construct_utf8_string(name, (char *)(uintptr_t)text, 0);
}

static OSSL_PARAM bytes_param(const char *name, const void *data, size_t len)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)data, len);
}

static int derive(EVP_KDF *kdf, uint8_t *out, size_t len, const OSSL_PARAM params[])
{
    EVP_KDF_CTX *context = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    bool is_done = context != NULL && EVP_KDF_derive(context, out, len, params) == 1;
    EVP_KDF_CTX_free(context);
    if (is_done)
        return 0;
    ERR_clear_error();
    return WSR_ERR_MEMORY;
}

/* HKDF-Expand-Label(@secret, @label, "", @len), RFC 8446 7.1. */
static int expand_label(const struct wsr_tls_suite *suite, const uint8_t *secret, const char *label, uint8_t *out,
                        size_t len)
{
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        text_param(OSSL_KDF_PARAM_DIGEST, suite->hash),
        bytes_param(OSSL_KDF_PARAM_KEY, secret, suite->secret_bytes),
        bytes_param(OSSL_KDF_PARAM_PREFIX, "tls13 ", 6),
        bytes_param(OSSL_KDF_PARAM_LABEL, label, strlen(label)),
        OSSL_PARAM_construct_end(),
    };
    return derive(expand, out, len, params);
}

int wsr_tls_key_from_secret(struct wsr_tls_key *key, const struct wsr_tls_suite *suite, const uint8_t *secret)
{
    struct wsr_tls_key made = { .serial = next_serial() };
    assert(suite->version == WSR_TLS_1_3);
    pthread_once(&fetch_once, fetch);
    memcpy(made.secret, secret, suite->secret_bytes);
    int rc = expand_label(suite, secret, "key", made.key, suite->key_bytes);
    if (rc == 0)
        rc = expand_label(suite, secret, "iv", made.iv, WSR_TLS_IV_BYTES);
    if (rc == 0)
        *key = made;
    wsr_tls_key_wipe(&made);
    return rc;
}

int wsr_tls_key_renew(struct wsr_tls_key *key, const struct wsr_tls_suite *suite)
{
    uint8_t secret[WSR_TLS_SECRET_MAX];
    pthread_once(&fetch_once, fetch);
    int rc = expand_label(suite, key->secret, "traffic upd", secret, suite->secret_bytes);
    if (rc == 0)
        rc = wsr_tls_key_from_secret(key, suite, secret);
    OPENSSL_cleanse(secret, sizeof secret);
    return rc;
}

/* Take @bytes of the key block. */
static void take(uint8_t *to, size_t bytes, const uint8_t **block)
{
    memcpy(to, *block, bytes);
    *block += bytes;
}

int wsr_tls_key_from_master(struct wsr_tls_key *client, struct wsr_tls_key *server, const struct wsr_tls_suite *suite,
                            const uint8_t master[WSR_TLS_MASTER_BYTES],
                            const uint8_t client_random[WSR_TLS_RANDOM_BYTES],
                            const uint8_t server_random[WSR_TLS_RANDOM_BYTES])
{
    static const char label[] = "key expansion";
    uint8_t block[KEY_BLOCK_MAX];
    const uint8_t *rest = block;
    size_t block_bytes = 2u * suite->key_bytes + 2u * suite->fixed_iv_bytes;
    OSSL_PARAM params[] = {
        text_param(OSSL_KDF_PARAM_DIGEST, suite->hash),
        bytes_param(OSSL_KDF_PARAM_SECRET, master, WSR_TLS_MASTER_BYTES),
        bytes_param(OSSL_KDF_PARAM_SEED, label, sizeof label - 1),      /* all seeds count, one behind the other */
        bytes_param(OSSL_KDF_PARAM_SEED, server_random, WSR_TLS_RANDOM_BYTES),
        bytes_param(OSSL_KDF_PARAM_SEED, client_random, WSR_TLS_RANDOM_BYTES),
        OSSL_PARAM_construct_end(),
    };
    assert(suite->version == WSR_TLS_1_2);
    pthread_once(&fetch_once, fetch);
    int rc = derive(prf, block, block_bytes, params);
    if (rc == 0) {
        *client = (struct wsr_tls_key){ .sequence = 1, .serial = next_serial() };
        *server = (struct wsr_tls_key){ .sequence = 1, .serial = next_serial() };
        take(client->key, suite->key_bytes, &rest);
        take(server->key, suite->key_bytes, &rest);
        take(client->iv, suite->fixed_iv_bytes, &rest);
        take(server->iv, suite->fixed_iv_bytes, &rest);
    }
    OPENSSL_cleanse(block, sizeof block);
    return rc;
}

void wsr_tls_key_wipe(struct wsr_tls_key *key)
{
    OPENSSL_cleanse(key, sizeof *key);
}
