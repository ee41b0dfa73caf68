/* engine/tls_context.c: which servers are refused, and in which words.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/files.h"
#include "tests/support/tls_client.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define NAME "server.example"

static struct wsr_certificate root, middle, other;
static const char *root_file;
static struct wsr_tls_context *trusting;         /* root alone */

static const char *const names[] = { NAME, NULL };

static struct wsr_certificate make(const struct wsr_certificate *issuer, const struct wsr_certificate_options *options)
{
    struct wsr_certificate made;
    assert_int_equal(wsr_certificate_create(&made, issuer, options), 0);
    return made;
}

static int prepare(void **state)
{
    (void)state;
    root = make(NULL, &(struct wsr_certificate_options){ .common_name = "root", .is_authority = true });
    middle = make(&root, &(struct wsr_certificate_options){ .common_name = "middle", .is_authority = true });
    other = make(NULL, &(struct wsr_certificate_options){ .common_name = "other", .is_authority = true });
    root_file = tls_client_write("root.pem", (const struct wsr_certificate *const[]){ &root, NULL });
    trusting = tls_client_context(&(struct wsr_tls_context_options){ .ca_file = root_file });
    return 0;
}

static int finish(void **state)
{
    (void)state;
    wsr_tls_context_free(trusting);
    wsr_certificate_free(&root);
    wsr_certificate_free(&middle);
    wsr_certificate_free(&other);
    return 0;
}

/* A server with @certificate, with and without TLS 1.3. @context connects to @name, and says @wanted; "" is success. */
static void check(struct wsr_tls_context *context, const struct wsr_certificate *certificate,
                  const struct wsr_certificate *const *chain, const char *name, const char *wanted)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_server_options options = { .version_min = version, .version_max = version,
                                              .certificate = certificate, .chain = chain };
        const char *text;
        bool is_open = tls_client_try(context, &options, name, &text);
        assert_string_equal(text, wanted);
        assert_int_equal(is_open, *wanted == '\0');
    }
}

#define REFUSED "TLS: the server's certificate was refused: "

/* F3 */
static void certificates_are_refused_for_what_is_wrong_with_them(void **state)
{
    (void)state;
    const struct {
        struct wsr_certificate_options options;
        const struct wsr_certificate *issuer;
        const char *text;
    } rows[] = {
        { { .dns_names = names }, &root, "" },
        { { .dns_names = names, .purpose = WSR_CERTIFICATE_ANY }, &root, "" },
        { { .dns_names = names, .is_rsa = true }, &root, "" },
        { { .dns_names = names, .begin_s = -7200, .end_s = -60 }, &root, REFUSED
          "certificate has expired; the server has to renew it, or this machine's clock is wrong" },
        { { .dns_names = names, .begin_s = 3600, .end_s = 7200 }, &root, REFUSED
          "certificate is not yet valid; check this machine's clock" },
        { { .dns_names = names, .purpose = WSR_CERTIFICATE_CLIENT }, &root, REFUSED
          "it is not for a server; the server has to use another" },
        { { .dns_names = names }, NULL, REFUSED
          "self-signed certificate; if it is to be trusted, name it in tls_ca_file" },
        { { .dns_names = names }, &other, REFUSED
          "unable to get local issuer certificate; the server does not send its whole chain, or tls_ca_file lacks the "
          "authority" },
        { { .dns_names = names }, &middle, REFUSED
          "unable to get local issuer certificate; the server does not send its whole chain, or tls_ca_file lacks the "
          "authority" },
        { { .dns_names = (const char *const[]){ "server.example.net", NULL } }, &root, REFUSED
          "it is for another name than the URL's host; connect to the name that it is for, or say it in tls_name" },
        { { .common_name = NAME }, &root, REFUSED
          "it is for another name than the URL's host; connect to the name that it is for, or say it in tls_name" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_certificate made = make(rows[i].issuer, &rows[i].options);
        check(trusting, &made, NULL, NAME, rows[i].text);
        wsr_certificate_free(&made);
    }
}

static void a_chain_is_followed_to_what_is_trusted(void **state)
{
    (void)state;
    struct wsr_certificate made = make(&middle, &(struct wsr_certificate_options){ .dns_names = names });
    const struct wsr_certificate *const chain[] = { &middle, NULL }, *const whole[] = { &middle, &root, NULL };
    check(trusting, &made, chain, NAME, "");
    check(trusting, &made, whole, NAME, "");

    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){
        .ca_file = tls_client_write("other.pem", (const struct wsr_certificate *const[]){ &other, NULL }) });
    check(context, &made, whole, NAME, REFUSED
          "self-signed certificate in certificate chain; if it is to be trusted, name its authority in tls_ca_file");
    wsr_tls_context_free(context);

    /* What is named as trusted is, whoever signed it: an authority in the middle, or the server's own. */
    const struct wsr_certificate *const trusted[] = { &middle, &made };
    for (size_t i = 0; i < COUNT_OF(trusted); i++) {
        context = tls_client_context(&(struct wsr_tls_context_options){
            .ca_file = tls_client_write("one.pem", (const struct wsr_certificate *const[]){ trusted[i], NULL }) });
        check(context, &made, NULL, NAME, "");
        wsr_tls_context_free(context);
    }

    struct wsr_certificate below = make(&made, &(struct wsr_certificate_options){ .dns_names = names });
    const struct wsr_certificate *const wrong[] = { &made, &middle, NULL };
    check(trusting, &below, wrong, NAME, REFUSED
          "invalid CA certificate; one in its chain may sign no others; the server's chain is wrong");
    wsr_certificate_free(&below);
    wsr_certificate_free(&made);
}

/* F3. OpenSSL tells more than one reason then, and the first is none of TLS. */
static void a_forged_signature_is_found(void **state)
{
    (void)state;
    for (int is_rsa = 0; is_rsa <= 1; is_rsa++) {
        struct wsr_certificate authority = make(NULL, &(struct wsr_certificate_options){ .is_authority = true,
                                                                                          .is_rsa = is_rsa == 1 });
        struct wsr_certificate made = make(&authority, &(struct wsr_certificate_options){ .dns_names = names });
        uint8_t *der = NULL;
        int len = i2d_X509(made.x509, &der);
        der[len - 1] ^= 1;
        const uint8_t *at = der;
        X509_free(made.x509);
        made.x509 = d2i_X509(NULL, &at, len);
        assert_non_null(made.x509);
        struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){
            .ca_file = tls_client_write("forged.pem", (const struct wsr_certificate *const[]){ &authority, NULL }) });
        check(context, &made, NULL, NAME, REFUSED "certificate signature failure; ask whoever runs it");
        wsr_tls_context_free(context);
        OPENSSL_free(der);
        wsr_certificate_free(&made);
        wsr_certificate_free(&authority);
    }
}

/* URL-34 */
static void the_name_is_checked_as_written_in_the_url(void **state)
{
    (void)state;
    static const char mismatch[] = REFUSED "it is for another name than the URL's host; connect to the name that it is "
                                   "for, or say it in tls_name";
    static const char wrong_address[] = REFUSED "it is not for the URL's IP address; connect to the name that it is "
                                        "for, or say it in tls_name";
    static const struct {
        const char *name, *text;
    } rows[] = {
        { NAME, "" },
        { "server.example.", "" },
        { "SERVER.example", "" },
        { "a.wild.example", "" },
        { "a.b.wild.example", mismatch },
        { "wild.example", mismatch },
        { "partial.part.example", mismatch },
        { ".example", mismatch },
        { ".wild.example", mismatch },
        { ".", mismatch },
        { "192.0.2.1", "" },
        { "192.0.2.2", wrong_address },
        { "192.0.2.10", wrong_address },       /* a DNS name of it, which is no address */
        { "[2001:db8::1]", "" },
        { "2001:db8::1", "" },
        { "[2001:db8::2]", wrong_address },
    };
    struct wsr_certificate made = make(&root, &(struct wsr_certificate_options){
        .dns_names = (const char *const[]){ NAME, "*.wild.example", "par*.part.example", "192.0.2.10", NULL },
        .addresses = (const char *const[]){ "192.0.2.1", "2001:db8::1", NULL } });
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check(trusting, &made, NULL, rows[i].name, rows[i].text);
    char long_name[400];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    check(trusting, &made, NULL, long_name, mismatch);
    wsr_certificate_free(&made);
}

/* F3 */
static void revoked_certificates_are_refused(void **state)
{
    (void)state;
    struct wsr_certificate good = make(&root, &(struct wsr_certificate_options){ .dns_names = names });
    struct wsr_certificate bad = make(&root, &(struct wsr_certificate_options){ .dns_names = names });
    struct wsr_certificate below = make(&middle, &(struct wsr_certificate_options){ .dns_names = names });
    const struct wsr_certificate *const chain[] = { &middle, NULL };
    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){
        .ca_file = root_file, .crl_file = tls_client_write_list("list.pem", &root, &bad, 0) });
    check(context, &good, NULL, NAME, "");
    check(context, &bad, NULL, NAME, REFUSED "certificate revoked; the list in tls_crl_file says so");
    check(context, &below, chain, NAME, REFUSED
          "unable to get certificate CRL; tls_crl_file needs a list of each authority in the chain");
    wsr_tls_context_free(context);
    check(trusting, &bad, NULL, NAME, "");

    /* One list of each authority in one file: the second certificate of the chain is looked up too. */
    for (int i = 0; i < 2; i++) {
        char *pem[] = { wsr_certificate_list_pem(&middle, NULL, 0, 0),
                        wsr_certificate_list_pem(&root, (const struct wsr_certificate *const[]){ &middle }, i, 0) };
        char both[8192];
        int len = snprintf(both, sizeof both, "%s%s", pem[0], pem[1]);
        context = tls_client_context(&(struct wsr_tls_context_options){
            .ca_file = root_file, .crl_file = files_write("list.pem", both, (size_t)len) });
        check(context, &below, chain, NAME,
              i == 1 ? REFUSED "certificate revoked; the list in tls_crl_file says so" : "");
        wsr_tls_context_free(context);
        free(pem[0]);
        free(pem[1]);
    }

    context = tls_client_context(&(struct wsr_tls_context_options){
        .ca_file = root_file, .crl_file = tls_client_write_list("list.pem", &root, NULL, -1) });
    check(context, &good, NULL, NAME, REFUSED "CRL has expired; get a new list for tls_crl_file");
    wsr_tls_context_free(context);
    wsr_certificate_free(&good);
    wsr_certificate_free(&bad);
    wsr_certificate_free(&below);
}

static void an_insecure_context_takes_anyone(void **state)
{
    (void)state;
    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){ .is_insecure = true });
    struct wsr_certificate made = make(NULL, &(struct wsr_certificate_options){ .begin_s = -7200, .end_s = -60,
                                                                                 .purpose = WSR_CERTIFICATE_CLIENT });
    assert_true(wsr_tls_context_is_insecure(context));
    assert_false(wsr_tls_context_is_insecure(trusting));
    check(context, &made, NULL, NAME, "");
    check(context, &made, NULL, "[::1]", "");
    wsr_certificate_free(&made);
    wsr_tls_context_free(context);
}

/* The bound is OpenSSL's own: 64 KiB pass, what is above 100 KiB does not. */
static void a_chain_may_be_large_but_not_without_end(void **state)
{
    (void)state;
    static const char too_long[] = "TLS: the server's chain of certificates, or another message, is too long "
                                   "(excessive message size); a chain may have 100 KiB";
    static const struct {
        size_t comment_bytes;
        const char *text;
    } rows[] = {
        { 65536, "" },
        { WSR_TLS_CONTEXT_CHAIN_MAX_BYTES - 1024, "" },
        { WSR_TLS_CONTEXT_CHAIN_MAX_BYTES, too_long },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_certificate made = make(&root, &(struct wsr_certificate_options){
            .dns_names = names, .comment_bytes = rows[i].comment_bytes });
        check(trusting, &made, NULL, NAME, rows[i].text);
        wsr_certificate_free(&made);
    }
}

static void keys_are_to_be_as_strong_as_the_level_of_security_asks(void **state)
{
    (void)state;
    struct wsr_certificate made = make(&root, &(struct wsr_certificate_options){ .dns_names = names, .is_rsa = true });
    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){
        .ca_file = root_file, .ciphers = "DEFAULT:@SECLEVEL=3" });
    check(context, &made, NULL, NAME, REFUSED
          "EE certificate key too weak; the server needs a new one; until then tls_ciphers may say @SECLEVEL=1");
    wsr_tls_context_free(context);
    wsr_certificate_free(&made);
}

/* F3. What no client speaks any more is refused by either side: the server sees it in the ClientHello, or the client in
 * the answer. */
static void a_server_of_old_versions_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint16_t version_min, version_max;
        const char *text;
    } rows[] = {
        { 0, 0, "the server ended TLS with the alert protocol_version (70); it speaks none of the versions from "
          "tls_version_min to tls_version_max" },
        { 0, WSR_TLS_1_2, "TLS: the server speaks no version of TLS from tls_version_min to tls_version_max "
          "(unsupported protocol); those before 1.2 are refused for good" },
    };
    struct wsr_certificate made = make(&root, &(struct wsr_certificate_options){ .dns_names = names, .is_rsa = true });
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){
            .ca_file = root_file, .version_min = rows[i].version_min, .version_max = rows[i].version_max });
        for (int version = TLS1_VERSION; version <= TLS1_1_VERSION; version++) {
            const char *text;
            assert_false(tls_client_try(context, &(struct tls_server_options){ .version_max = version,
                                                                               .certificate = &made }, NAME, &text));
            assert_string_equal(text, rows[i].text);
        }
        wsr_tls_context_free(context);
    }
    wsr_certificate_free(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_are_refused_for_what_is_wrong_with_them),
        cmocka_unit_test(a_chain_is_followed_to_what_is_trusted),
        cmocka_unit_test(a_forged_signature_is_found),
        cmocka_unit_test(the_name_is_checked_as_written_in_the_url),
        cmocka_unit_test(revoked_certificates_are_refused),
        cmocka_unit_test(an_insecure_context_takes_anyone),
        cmocka_unit_test(a_chain_may_be_large_but_not_without_end),
        cmocka_unit_test(keys_are_to_be_as_strong_as_the_level_of_security_asks),
        cmocka_unit_test(a_server_of_old_versions_is_refused),
    };
    return cmocka_run_group_tests(tests, prepare, finish);
}
