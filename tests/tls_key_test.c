/* engine/tls_key: the suites, and keys as RFC 8448 and OpenSSL have them.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/tls_record.h"
#include "tests/support/tls_pair.h"

#define RECORD_MAX 600u

static void read_hex(uint8_t *out, size_t len, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        const char *high = strchr(digits, text[2 * i]), *low = strchr(digits, text[2 * i + 1]);
        assert_true(high != NULL && low != NULL && *high != '\0' && *low != '\0');
        out[i] = (uint8_t)((high - digits) << 4 | (low - digits));
    }
    assert_int_equal(text[2 * len], '\0');
}

/* ---- Suites ---- */

static bool is_wanted(const SSL_CIPHER *cipher)
{
    int exchange = SSL_CIPHER_get_kx_nid(cipher), authentication = SSL_CIPHER_get_auth_nid(cipher);
    int kind = SSL_CIPHER_get_cipher_nid(cipher);
    bool is_common = exchange == NID_kx_any || exchange == NID_kx_rsa || exchange == NID_kx_ecdhe ||
                     exchange == NID_kx_dhe;
    return is_common && authentication != NID_auth_null &&
           (kind == NID_aes_128_gcm || kind == NID_aes_256_gcm || kind == NID_chacha20_poly1305);
}

static void check_suite(const SSL_CIPHER *cipher)
{
    bool is_1_3 = SSL_CIPHER_get_kx_nid(cipher) == NID_kx_any;
    uint16_t number = SSL_CIPHER_get_protocol_id(cipher);
    const struct wsr_tls_suite *suite = wsr_tls_suite_find(is_1_3 ? WSR_TLS_1_3 : WSR_TLS_1_2, number);
    assert_null(wsr_tls_suite_find(is_1_3 ? WSR_TLS_1_2 : WSR_TLS_1_3, number));
    if (!is_wanted(cipher)) {
        assert_null(suite);
        return;
    }
    if (suite == NULL)
        fail_msg("%s (%04x) is missing", SSL_CIPHER_get_name(cipher), number);
    EVP_CIPHER *aead = EVP_CIPHER_fetch(NULL, suite->cipher, NULL);
    EVP_MD *hash = EVP_MD_fetch(NULL, suite->hash, NULL);
    assert_true(aead != NULL && hash != NULL);
    assert_int_equal(EVP_CIPHER_get_nid(aead), SSL_CIPHER_get_cipher_nid(cipher));
    assert_int_equal(EVP_MD_get_type(hash), EVP_MD_get_type(SSL_CIPHER_get_handshake_digest(cipher)));
    assert_int_equal(EVP_CIPHER_get_key_length(aead), suite->key_bytes);
    assert_int_equal(EVP_MD_get_size(hash), suite->secret_bytes);
    assert_int_equal(suite->fixed_iv_bytes, !is_1_3 && suite->aead != WSR_TLS_CHACHA20_POLY1305 ? 4 : 12);
    assert_int_equal(suite->aead == WSR_TLS_AES_128_GCM, suite->key_bytes == 16);
    assert_int_equal(suite->aead == WSR_TLS_CHACHA20_POLY1305, EVP_CIPHER_get_nid(aead) == NID_chacha20_poly1305);
    EVP_CIPHER_free(aead);
    EVP_MD_free(hash);
}

static void the_suites_are_those_that_openssl_and_the_kernel_know(void **state)
{
    (void)state;
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    assert_int_equal(SSL_CTX_set_cipher_list(context, "ALL:COMPLEMENTOFALL:@SECLEVEL=0"), 1);
    STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(context);
    assert_true(sk_SSL_CIPHER_num(all) > 60);
    for (int i = 0; i < sk_SSL_CIPHER_num(all); i++)
        check_suite(sk_SSL_CIPHER_value(all, i));
    SSL_CTX_free(context);
}

/* ---- Keys ---- */

/* RFC 8448 3, "derive write traffic keys for application data" of both sides. */
static void keys_of_tls_1_3_are_those_of_rfc_8448(void **state)
{
    static const struct {
        const char *secret, *key, *iv;
    } rows[] = {
        { "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5", "17422dda596ed5d9acd890e3c63f5051",
          "5b78923dee08579033e523d9" },
        { "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643", "9f02283b6c9c07efc26bb9f2ac92e356",
          "cf782b88dd83549aadf1e984" },
    };
    const struct wsr_tls_suite *suite = wsr_tls_suite_find(WSR_TLS_1_3, 0x1301);
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint8_t secret[32], want[16], want_iv[12];
        struct wsr_tls_key key;
        read_hex(secret, sizeof secret, rows[i].secret);
        read_hex(want, sizeof want, rows[i].key);
        read_hex(want_iv, sizeof want_iv, rows[i].iv);
        memset(&key, 0xEE, sizeof key);
        assert_int_equal(wsr_tls_key_from_secret(&key, suite, secret), 0);
        assert_memory_equal(key.key, want, sizeof want);
        assert_memory_equal(key.iv, want_iv, sizeof want_iv);
        assert_memory_equal(key.secret, secret, sizeof secret);
        assert_int_equal(key.sequence, 0);
    }
}

/* The client's first record of RFC 8448 3: bytes 0 to 49. */
static void a_record_of_rfc_8448_opens(void **state)
{
    static const char text[] = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395b"
                               "d54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
    struct wsr_tls_ciphers *ciphers = wsr_tls_ciphers_create();
    const struct wsr_tls_suite *suite = wsr_tls_suite_find(WSR_TLS_1_3, 0x1301);
    uint8_t secret[32], record[72], type;
    struct wsr_tls_key key;
    struct wsr_bytes content;
    (void)state;
    read_hex(secret, sizeof secret, "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
    read_hex(record, sizeof record, text);
    assert_int_equal(wsr_tls_key_from_secret(&key, suite, secret), 0);
    assert_int_equal(wsr_tls_record_open(ciphers, suite, &key, record, sizeof record, &type, &content),
                     WSR_TLS_OPENED);
    assert_int_equal(type, WSR_TLS_DATA);
    assert_int_equal(content.len, 50);
    for (size_t i = 0; i < content.len; i++)
        assert_int_equal(content.data[i], i);
    wsr_tls_ciphers_free(ciphers);
}

/* Open what the server says next with the client's key. */
static void server_says(struct tls_pair *pair, struct wsr_tls_ciphers *ciphers, uint8_t want_type, const char *want)
{
    uint8_t record[RECORD_MAX], type;
    struct wsr_bytes content;
    size_t len = tls_server_take_record(pair->link, record, sizeof record);
    assert_int_equal(wsr_tls_record_open(ciphers, pair->suite, &pair->in, record, len, &type, &content),
                     WSR_TLS_OPENED);
    assert_int_equal(type, want_type);
    if (want != NULL) {
        assert_int_equal(content.len, strlen(want));
        assert_memory_equal(content.data, want, content.len);
    }
}

static void client_says(struct tls_pair *pair, struct wsr_tls_ciphers *ciphers, uint8_t type, const void *data,
                        size_t len)
{
    uint8_t record[RECORD_MAX];
    struct iovec part = { (void *)(uintptr_t)data, len };
    ssize_t bytes = wsr_tls_record_seal(ciphers, pair->suite, &pair->out, type, &part, 1, record);
    assert_true(bytes > 0);
    tls_server_feed(pair->link, record, (size_t)bytes);
    assert_int_equal(pair->link->state, TLS_SERVER_OPEN);
}

static void keys_of_every_suite_are_those_of_openssl(void **state)
{
    struct wsr_tls_ciphers *ciphers = wsr_tls_ciphers_create();
    unsigned count = 0;
    (void)state;
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); *suite != NULL; suite++) {
        struct tls_pair pair;
        tls_pair_open(&pair, *suite);
        tls_server_write(pair.link, "hello", 5, 0);
        server_says(&pair, ciphers, WSR_TLS_DATA, "hello");
        client_says(&pair, ciphers, WSR_TLS_DATA, "world", 5);
        assert_int_equal(pair.link->received_bytes, 5);
        assert_memory_equal(pair.link->received, "world", 5);
        tls_pair_close(&pair);
        count++;
    }
    assert_int_equal(count, 14);
    wsr_tls_ciphers_free(ciphers);
}

static void keys_are_renewed_as_openssl_renews_them(void **state)
{
    static const uint8_t update[] = { 24, 0, 0, 1, 0 };
    struct wsr_tls_ciphers *ciphers = wsr_tls_ciphers_create();
    (void)state;
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); (*suite)->version == WSR_TLS_1_3; suite++) {
        struct tls_pair pair;
        tls_pair_open(&pair, *suite);
        for (unsigned round = 0; round < 3; round++) {
            uint64_t before = pair.in.serial;
            tls_server_update_keys(pair.link, false);
            server_says(&pair, ciphers, WSR_TLS_HANDSHAKE, NULL);
            assert_int_equal(wsr_tls_key_renew(&pair.in, *suite), 0);
            assert_true(pair.in.serial > before && pair.in.sequence == 0);
            tls_server_write(pair.link, "again", 5, 0);
            server_says(&pair, ciphers, WSR_TLS_DATA, "again");
            client_says(&pair, ciphers, WSR_TLS_HANDSHAKE, update, sizeof update);
            assert_int_equal(wsr_tls_key_renew(&pair.out, *suite), 0);
            client_says(&pair, ciphers, WSR_TLS_DATA, "yes", 3);
            assert_int_equal(pair.link->received_bytes, 3 * (round + 1));
        }
        tls_pair_close(&pair);
    }
    wsr_tls_ciphers_free(ciphers);
}

static void keys_are_wiped_and_their_serials_are_never_the_same(void **state)
{
    const struct wsr_tls_suite *suite = wsr_tls_suite_find(WSR_TLS_1_3, 0x1302);
    static const uint8_t secret[48] = { 1 }, master[WSR_TLS_MASTER_BYTES], none[WSR_TLS_RANDOM_BYTES];
    struct wsr_tls_key keys[4], zero;
    (void)state;
    memset(&zero, 0, sizeof zero);
    assert_int_equal(wsr_tls_key_from_secret(&keys[0], suite, secret), 0);
    assert_int_equal(wsr_tls_key_from_secret(&keys[1], suite, secret), 0);
    assert_memory_equal(keys[0].key, keys[1].key, 32);
    assert_int_equal(wsr_tls_key_from_master(&keys[2], &keys[3], wsr_tls_suite_find(WSR_TLS_1_2, 0xC030), master, none,
                                             none), 0);
    assert_true(keys[2].sequence == 1 && keys[3].sequence == 1);
    assert_memory_not_equal(keys[2].key, keys[3].key, 32);
    for (size_t i = 0; i < 4; i++) {
        assert_true(keys[i].serial != 0);
        for (size_t j = 0; j < i; j++)
            assert_true(keys[i].serial != keys[j].serial);
    }
    for (size_t i = 0; i < 4; i++) {
        wsr_tls_key_wipe(&keys[i]);
        assert_memory_equal(&keys[i], &zero, sizeof zero);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_suites_are_those_that_openssl_and_the_kernel_know),
        cmocka_unit_test(keys_of_tls_1_3_are_those_of_rfc_8448),
        cmocka_unit_test(a_record_of_rfc_8448_opens),
        cmocka_unit_test(keys_of_every_suite_are_those_of_openssl),
        cmocka_unit_test(keys_are_renewed_as_openssl_renews_them),
        cmocka_unit_test(keys_are_wiped_and_their_serials_are_never_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
