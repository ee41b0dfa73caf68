/* bench/certificate.c, judged by OpenSSL's own verification.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "bench/certificate.h"

static struct wsr_certificate authority;

static int make_authority(void **state)
{
    (void)state;
    struct wsr_certificate_options options = { .common_name = "authority", .is_authority = true };
    return wsr_certificate_create(&authority, NULL, &options);
}

static int free_authority(void **state)
{
    (void)state;
    wsr_certificate_free(&authority);
    return 0;
}

static struct wsr_certificate leaf(const struct wsr_certificate_options *options)
{
    struct wsr_certificate made;
    assert_int_equal(wsr_certificate_create(&made, &authority, options), 0);
    return made;
}

/* What verification says of @x509 with @trusted and, unless NULL, the list @list and the certificate @between. */
static int verify(X509 *x509, X509 *trusted, X509 *between, X509_CRL *list, const char *purpose)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    STACK_OF(X509) *untrusted = sk_X509_new_null();
    assert_true(store != NULL && context != NULL && untrusted != NULL);
    assert_int_equal(X509_STORE_add_cert(store, trusted), 1);
    if (list != NULL) {
        assert_int_equal(X509_STORE_add_crl(store, list), 1);
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    }
    if (between != NULL)
        assert_true(sk_X509_push(untrusted, between) > 0);
    assert_int_equal(X509_STORE_CTX_init(context, store, x509, untrusted), 1);
    assert_int_equal(X509_STORE_CTX_set_default(context, purpose), 1);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(context), X509_V_FLAG_X509_STRICT);
    int result = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
    ERR_clear_error();
    sk_X509_free(untrusted);
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    return result;
}

static void a_signed_certificate_is_good_for_its_purpose_alone(void **state)
{
    (void)state;
    static const struct {
        enum wsr_certificate_purpose purpose;
        bool is_rsa;
        int server, client;
    } rows[] = {
        { WSR_CERTIFICATE_SERVER, false, X509_V_OK, X509_V_ERR_INVALID_PURPOSE },
        { WSR_CERTIFICATE_CLIENT, false, X509_V_ERR_INVALID_PURPOSE, X509_V_OK },
        { WSR_CERTIFICATE_ANY, false, X509_V_OK, X509_V_OK },
        { WSR_CERTIFICATE_SERVER, true, X509_V_OK, X509_V_ERR_INVALID_PURPOSE },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wsr_certificate_options options = { .purpose = rows[i].purpose, .is_rsa = rows[i].is_rsa };
        struct wsr_certificate made = leaf(&options);
        assert_int_equal(verify(made.x509, authority.x509, NULL, NULL, "ssl_server"), rows[i].server);
        assert_int_equal(verify(made.x509, authority.x509, NULL, NULL, "ssl_client"), rows[i].client);
        assert_int_equal(EVP_PKEY_get_base_id(made.key), rows[i].is_rsa ? EVP_PKEY_RSA : EVP_PKEY_EC);
        assert_int_equal(X509_check_private_key(made.x509, made.key), 1);
        wsr_certificate_free(&made);
        assert_null(made.x509);
    }
}

static void times_count_from_now(void **state)
{
    (void)state;
    static const struct {
        int64_t begin_s, end_s;
        int result;
    } rows[] = {
        { 0, 0, X509_V_OK },
        { -7200, -3600, X509_V_ERR_CERT_HAS_EXPIRED },
        { 3600, 7200, X509_V_ERR_CERT_NOT_YET_VALID },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wsr_certificate_options options = { .begin_s = rows[i].begin_s, .end_s = rows[i].end_s };
        struct wsr_certificate made = leaf(&options);
        assert_int_equal(verify(made.x509, authority.x509, NULL, NULL, "ssl_server"), rows[i].result);
        wsr_certificate_free(&made);
    }
}

static void names_and_addresses_are_those_given(void **state)
{
    (void)state;
    struct wsr_certificate made;
    assert_int_equal(wsr_certificate_create(&made, NULL, &wsr_certificate_local), 0);
    assert_int_equal(X509_check_host(made.x509, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(made.x509, "wsring", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(made.x509, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(made.x509, "0:0:0:0:0:0:0:1", 0), 1);
    assert_int_equal(X509_check_ip_asc(made.x509, "127.0.0.2", 0), 0);
    wsr_certificate_free(&made);

    struct wsr_certificate_options options = {
        .common_name = "first", .dns_names = (const char *const[]){ "*.example.test", "second.test", NULL },
    };
    made = leaf(&options);
    assert_int_equal(X509_check_host(made.x509, "a.example.test", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(made.x509, "second.test", 0, 0, NULL), 1);
    char name[80];
    assert_true(X509_NAME_get_text_by_NID(X509_get_subject_name(made.x509), NID_commonName, name, sizeof name) > 0);
    assert_string_equal(name, "first");
    wsr_certificate_free(&made);
}

static void names_that_are_none_are_refused(void **state)
{
    (void)state;
    char long_name[66];
    memset(long_name, 'n', 65);
    long_name[65] = '\0';
    const struct wsr_certificate_options rows[] = {
        { .common_name = "" },
        { .common_name = long_name },
        { .common_name = "caf\xc3\xa9" },
        { .dns_names = (const char *const[]){ "good", "", NULL } },
        { .dns_names = (const char *const[]){ "two words", NULL } },
        { .addresses = (const char *const[]){ "::1", "localhost", NULL } },
        { .addresses = (const char *const[]){ "", NULL } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wsr_certificate made;
        assert_int_equal(wsr_certificate_create(&made, &authority, &rows[i]), WSR_ERR_ARGUMENT);
        assert_true(made.x509 == NULL && made.key == NULL);
    }
    long_name[64] = '\0';
    struct wsr_certificate made = leaf(&(struct wsr_certificate_options){ .common_name = long_name });
    wsr_certificate_free(&made);
}

static void one_signed_by_itself_is_its_own_authority(void **state)
{
    (void)state;
    struct wsr_certificate made;
    assert_int_equal(wsr_certificate_create(&made, NULL, &wsr_certificate_local), 0);
    assert_int_equal(verify(made.x509, made.x509, NULL, NULL, "ssl_server"), X509_V_OK);
    assert_int_equal(verify(made.x509, authority.x509, NULL, NULL, "ssl_server"),
                     X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT);
    wsr_certificate_free(&made);
}

static void an_authority_may_stand_between(void **state)
{
    (void)state;
    struct wsr_certificate between = leaf(&(struct wsr_certificate_options){ .common_name = "between",
                                                                             .is_authority = true });
    struct wsr_certificate made;
    assert_int_equal(wsr_certificate_create(&made, &between, &(struct wsr_certificate_options){ 0 }), 0);
    assert_int_equal(verify(made.x509, authority.x509, between.x509, NULL, "ssl_server"), X509_V_OK);
    assert_int_equal(verify(made.x509, authority.x509, NULL, NULL, "ssl_server"),
                     X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);

    struct wsr_certificate signed_by_leaf;
    assert_int_equal(wsr_certificate_create(&signed_by_leaf, &made, &(struct wsr_certificate_options){ 0 }), 0);
    assert_int_not_equal(verify(signed_by_leaf.x509, made.x509, NULL, NULL, "ssl_server"), X509_V_OK);
    wsr_certificate_free(&signed_by_leaf);
    wsr_certificate_free(&made);
    wsr_certificate_free(&between);
}

static void a_comment_makes_it_as_large_as_asked_for(void **state)
{
    (void)state;
    struct wsr_certificate small = leaf(&(struct wsr_certificate_options){ 0 });
    struct wsr_certificate large = leaf(&(struct wsr_certificate_options){ .comment_bytes = 65536 });
    int small_bytes = i2d_X509(small.x509, NULL), large_bytes = i2d_X509(large.x509, NULL);
    assert_in_range(small_bytes, 200, 1024);
    assert_in_range(large_bytes - small_bytes, 65536, 65536 + 64);
    assert_int_equal(verify(large.x509, authority.x509, NULL, NULL, "ssl_server"), X509_V_OK);
    wsr_certificate_free(&small);
    wsr_certificate_free(&large);
}

static X509_CRL *read_list(const char *pem)
{
    assert_non_null(pem);
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_CRL *list = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
    assert_non_null(list);
    BIO_free(bio);
    return list;
}

static void a_list_revokes_what_it_names(void **state)
{
    (void)state;
    struct wsr_certificate good = leaf(&(struct wsr_certificate_options){ 0 });
    struct wsr_certificate bad[2] = { leaf(&(struct wsr_certificate_options){ 0 }),
                                      leaf(&(struct wsr_certificate_options){ 0 }) };
    char *pem = wsr_certificate_list_pem(&authority, (const struct wsr_certificate *const[]){ &bad[0], &bad[1] }, 2, 0);
    X509_CRL *list = read_list(pem);
    free(pem);
    assert_int_equal(verify(good.x509, authority.x509, NULL, list, "ssl_server"), X509_V_OK);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(verify(bad[i].x509, authority.x509, NULL, list, "ssl_server"), X509_V_ERR_CERT_REVOKED);
    X509_CRL_free(list);

    pem = wsr_certificate_list_pem(&authority, NULL, 0, -1);
    list = read_list(pem);
    free(pem);
    assert_int_equal(verify(good.x509, authority.x509, NULL, list, "ssl_server"), X509_V_ERR_CRL_HAS_EXPIRED);
    X509_CRL_free(list);
    wsr_certificate_free(&good);
    wsr_certificate_free(&bad[0]);
    wsr_certificate_free(&bad[1]);
}

static int tell_password(char *buffer, int size, int is_writing, void *password)
{
    (void)is_writing;
    int len = (int)strlen(password);
    assert_true(len <= size);
    memcpy(buffer, password, (size_t)len);
    return len;
}

static void pem_holds_the_certificate_and_its_key(void **state)
{
    (void)state;
    struct wsr_certificate made = leaf(&(struct wsr_certificate_options){ 0 });
    char *pem = wsr_certificate_pem(&made), *key = wsr_certificate_key_pem(&made, NULL);
    char *locked = wsr_certificate_key_pem(&made, "secret");
    assert_true(pem != NULL && key != NULL && locked != NULL);
    assert_non_null(strstr(key, "-----BEGIN PRIVATE KEY-----\n"));
    assert_non_null(strstr(locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));

    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_int_equal(X509_cmp(x509, made.x509), 0);
    for (int i = 0; i < 2; i++) {
        bio = BIO_new_mem_buf(i == 0 ? key : locked, -1);
        EVP_PKEY *read = PEM_read_bio_PrivateKey(bio, NULL, tell_password, (void *)(uintptr_t)"secret");
        BIO_free(bio);
        assert_int_equal(EVP_PKEY_eq(read, made.key), 1);
        EVP_PKEY_free(read);
    }
    X509_free(x509);
    free(pem);
    free(key);
    free(locked);
    wsr_certificate_free(&made);
}

static void no_two_serials_are_alike(void **state)
{
    (void)state;
    struct wsr_certificate a = leaf(&(struct wsr_certificate_options){ 0 });
    struct wsr_certificate b = leaf(&(struct wsr_certificate_options){ 0 });
    assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(a.x509), X509_get0_serialNumber(b.x509)), 0);
    wsr_certificate_free(&a);
    wsr_certificate_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signed_certificate_is_good_for_its_purpose_alone),
        cmocka_unit_test(times_count_from_now),
        cmocka_unit_test(names_and_addresses_are_those_given),
        cmocka_unit_test(names_that_are_none_are_refused),
        cmocka_unit_test(one_signed_by_itself_is_its_own_authority),
        cmocka_unit_test(an_authority_may_stand_between),
        cmocka_unit_test(a_comment_makes_it_as_large_as_asked_for),
        cmocka_unit_test(a_list_revokes_what_it_names),
        cmocka_unit_test(pem_holds_the_certificate_and_its_key),
        cmocka_unit_test(no_two_serials_are_alike),
    };
    return cmocka_run_group_tests(tests, make_authority, free_authority);
}
