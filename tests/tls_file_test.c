/* engine/tls_file.c: what is said of files that are no good, and what becomes of those that are.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <openssl/err.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/files.h"
#include "tests/support/tls_client.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static struct wsr_certificate root, middle, own, stranger;
static const char *root_file, *own_file, *key_file, *list_file;

static int prepare(void **state)
{
    (void)state;
    int rc = wsr_certificate_create(&root, NULL, &(struct wsr_certificate_options){ .is_authority = true });
    rc |= wsr_certificate_create(&middle, &root, &(struct wsr_certificate_options){ .common_name = "middle",
                                                                                     .is_authority = true });
    rc |= wsr_certificate_create(&own, &middle, &(struct wsr_certificate_options){
        .common_name = "client", .purpose = WSR_CERTIFICATE_CLIENT });
    rc |= wsr_certificate_create(&stranger, NULL, &wsr_certificate_local);
    if (rc != 0)
        return rc;
    root_file = tls_client_write("root.pem", (const struct wsr_certificate *const[]){ &root, NULL });
    own_file = tls_client_write("own.pem", (const struct wsr_certificate *const[]){ &own, &middle, NULL });
    key_file = tls_client_write_key("own.key", &own, NULL);
    list_file = tls_client_write_list("list.pem", &root, NULL, 0);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    wsr_certificate_free(&root);
    wsr_certificate_free(&middle);
    wsr_certificate_free(&own);
    wsr_certificate_free(&stranger);
    return 0;
}

/* The options are refused with the sentence that @format makes of @path, and nothing stays. */
static void check(const struct wsr_tls_context_options *options, const char *format, const char *path)
{
    char wanted[384];
    unsigned open_before = files_open();
    struct wsr_tls_context *context = (void *)&root;
    const char *at = strstr(format, "%s");
    snprintf(wanted, sizeof wanted, "%.*s%s%s", (int)(at - format), format, path, at + 2);
    assert_int_equal(wsr_tls_context_create(&context, options), WSR_ERR_ARGUMENT);
    assert_string_equal(wsr_error_text(), wanted);
    assert_ptr_equal(context, &root);
    assert_int_equal(files_open(), open_before);
    assert_int_equal(ERR_peek_error(), 0);
}

static void write_of(const char *name, const char *text)
{
    files_write(name, text, strlen(text));
}

/* Each option that names a file of PEM, with @path, for the rest as it should be. */
static struct wsr_tls_context_options option(int which, const char *path)
{
    struct wsr_tls_context_options options = { .ca_file = root_file, .crl_file = list_file,
                                               .certificate_file = own_file, .key_file = key_file };
    const char **places[] = { &options.ca_file, &options.crl_file, &options.certificate_file, &options.key_file };
    *places[which] = path;
    return options;
}
static const char *const option_names[] = { "tls_ca_file", "tls_crl_file", "tls_certificate_file", "tls_key_file" };

static void check_each(const char *path, const char *reason)
{
    for (int which = 0; which < 4; which++) {
        char format[384];
        snprintf(format, sizeof format, "%s \"%%s\": %s; name a file that can be read", option_names[which], reason);
        struct wsr_tls_context_options options = option(which, path);
        check(&options, format, path);
    }
}

static void files_that_cannot_be_read_are_told_with_the_reason(void **state)
{
    (void)state;
    check_each(files_path("missing.pem"), "No such file or directory");
    check_each(files_path(""), "Is a directory");
    check_each("/proc/self/mem", "Input/output error");
    check_each("", "No such file or directory");
}

static void files_without_pem_are_told_what_they_lack(void **state)
{
    (void)state;
    static const char *const formats[] = {
        "tls_ca_file \"%s\": there is no certificate in it, in PEM; name another, or convert it by openssl x509 "
        "-inform DER",
        "tls_crl_file \"%s\": there is no list of revoked certificates (CRL) in it, in PEM; name another, or convert "
        "it by openssl crl -inform DER",
        "tls_certificate_file \"%s\": there is no certificate in it, in PEM; name another, or convert it by openssl "
        "x509 -inform DER",
        "tls_key_file \"%s\": there is no key in it, in PEM; name another, or convert it by openssl pkey -inform DER",
    };
    uint8_t *der = NULL;
    int der_bytes = i2d_X509(root.x509, &der);
    const char *const paths[] = {
        files_write("empty.pem", "", 0),
        files_write("text.pem", "nothing\nof the kind\n", 20),
        files_write("der.pem", der, (size_t)der_bytes),
    };
    for (int which = 0; which < 4; which++) {
        for (size_t i = 0; i < COUNT_OF(paths); i++) {
            struct wsr_tls_context_options options = option(which, paths[i]);
            check(&options, formats[which], paths[i]);
        }
        const char *other = which == 3 ? root_file : key_file;     /* PEM, but of another kind */
        struct wsr_tls_context_options options = option(which, other);
        check(&options, formats[which], other);
    }
    OPENSSL_free(der);
}

/* The reason in parentheses is OpenSSL's, and not the same in all versions. */
static void check_damaged(const struct wsr_tls_context_options *options, const char *begin, const char *path)
{
    char wanted[384];
    struct wsr_tls_context *context;
    const char *at = strstr(begin, "%s");
    int len = snprintf(wanted, sizeof wanted, "%.*s%s%s cannot be read (", (int)(at - begin), begin, path, at + 2);
    assert_int_equal(wsr_tls_context_create(&context, options), WSR_ERR_ARGUMENT);
    assert_memory_equal(wsr_error_text(), wanted, (size_t)len);
    assert_non_null(strstr(wsr_error_text() + len, "); write it anew"));
    assert_int_not_equal(wsr_error_text()[len], ')');
    assert_null(strstr(wsr_error_text() + len, "no reason given"));
    assert_int_equal(ERR_peek_error(), 0);
}

static void damaged_blocks_are_told_by_number(void **state)
{
    (void)state;
    static const char good_begin[] = "-----BEGIN CERTIFICATE-----\n";
    char *pem = wsr_certificate_pem(&root), text[8192];
    snprintf(text, sizeof text, "%s%sAAAA\n-----END CERTIFICATE-----\n", pem, good_begin);
    write_of("second.pem", text);
    const char *path = files_path("second.pem");
    check_damaged(&(struct wsr_tls_context_options){ .ca_file = path },
                  "tls_ca_file \"%s\": certificate number 2", path);
    check_damaged(&(struct wsr_tls_context_options){ .certificate_file = path },
                  "tls_certificate_file \"%s\": certificate number 2", path);

    snprintf(text, sizeof text, "%s*AAA\n-----END CERTIFICATE-----\n%s", good_begin, pem);
    write_of("first.pem", text);
    path = files_path("first.pem");
    check_damaged(&(struct wsr_tls_context_options){ .ca_file = path },
                  "tls_ca_file \"%s\": certificate number 1", path);
    check_damaged(&(struct wsr_tls_context_options){ .certificate_file = path },
                  "tls_certificate_file \"%s\": certificate number 1", path);

    snprintf(text, sizeof text, "%.*s", (int)strlen(pem) / 2, pem);      /* a disk that was full */
    write_of("half.pem", text);
    path = files_path("half.pem");
    check_damaged(&(struct wsr_tls_context_options){ .ca_file = path },
                  "tls_ca_file \"%s\": certificate number 1", path);

    write_of("bad.list", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    path = files_path("bad.list");
    check_damaged(&(struct wsr_tls_context_options){ .ca_file = root_file, .crl_file = path },
                  "tls_crl_file \"%s\": list number 1", path);

    write_of("bad.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    path = files_path("bad.key");
    check_damaged(&(struct wsr_tls_context_options){ .certificate_file = own_file, .key_file = path },
                  "tls_key_file \"%s\": key number 1", path);
    free(pem);
}

/* A terminal is not asked: it would stop the program. */
static void an_encrypted_key_is_refused(void **state)
{
    (void)state;
    const char *path = tls_client_write_key("locked.key", &own, "secret");
    check(&(struct wsr_tls_context_options){ .certificate_file = own_file, .key_file = path },
          "tls_key_file \"%s\": the key is encrypted, and nobody is asked for the password; write it without one: "
          "openssl pkey -in FILE -out FILE", path);
    write_of("legacy.key", "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
             "DEK-Info: AES-256-CBC,000102030405060708090A0B0C0D0E0F\n\nAAAAAAAAAAAAAAAAAAAAAA==\n"
             "-----END EC PRIVATE KEY-----\n");
    path = files_path("legacy.key");
    check(&(struct wsr_tls_context_options){ .certificate_file = own_file, .key_file = path },
          "tls_key_file \"%s\": the key is encrypted, and nobody is asked for the password; write it without one: "
          "openssl pkey -in FILE -out FILE", path);
}

static void a_certificate_and_its_key_belong_together(void **state)
{
    (void)state;
    const char *path = tls_client_write_key("stranger.key", &stranger, NULL);
    char format[384];
    snprintf(format, sizeof format, "tls_key_file \"%%s\": the key is not that of the certificate in \"%s\"; name the "
             "two files that belong together", own_file);
    check(&(struct wsr_tls_context_options){ .certificate_file = own_file, .key_file = path }, format, path);
    check(&(struct wsr_tls_context_options){ .key_file = path },
          "tls_key_file \"%s\" is given without tls_certificate_file; name the certificate that belongs to the key, or "
          "leave it out", path);
    check(&(struct wsr_tls_context_options){ .certificate_file = own_file },
          "tls_certificate_file \"%s\": there is no key in it, in PEM; name another, or convert it by openssl pkey "
          "-inform DER", own_file);
}

/* Whom the server sees, and that it could follow the chain that the client has sent. */
static void check_own(const struct wsr_tls_context_options *options, const char *wanted)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_client client;
        struct wsr_tls_context *context = tls_client_context(options);
        struct tls_server *server = tls_server_create(&(struct tls_server_options){
            .version_min = version, .version_max = version, .client_authority = &root });
        tls_client_connect(&client, context, server, "localhost");
        assert_true(client.is_open);
        assert_int_equal(client.link->state, TLS_SERVER_OPEN);
        assert_string_equal(client.link->client_name, wanted);
        tls_client_end(&client);
        tls_server_free(server);
        wsr_tls_context_free(context);
    }
}

static void the_client_shows_its_certificate_when_asked(void **state)
{
    (void)state;
    check_own(&(struct wsr_tls_context_options){ .is_insecure = true }, "");
    check_own(&(struct wsr_tls_context_options){ .is_insecure = true, .certificate_file = own_file,
                                                 .key_file = key_file }, "client");
    char *pem = wsr_certificate_pem(&own), *chain = wsr_certificate_pem(&middle), text[8192];
    char *key = wsr_certificate_key_pem(&own, NULL);
    snprintf(text, sizeof text, "%s%s%s", key, pem, chain);
    write_of("all.pem", text);
    check_own(&(struct wsr_tls_context_options){ .is_insecure = true, .certificate_file = files_path("all.pem") },
              "client");
    snprintf(text, sizeof text, "%s%s%s", pem, chain, key);
    write_of("all.pem", text);
    check_own(&(struct wsr_tls_context_options){ .is_insecure = true, .certificate_file = files_path("all.pem") },
              "client");
    free(pem);
    free(chain);
    free(key);
}

static void a_server_that_gets_no_certificate_or_a_strange_one_says_so(void **state)
{
    (void)state;
    const char *strange = tls_client_write("stranger.pem", (const struct wsr_certificate *const[]){ &stranger, NULL });
    const char *strange_key = tls_client_write_key("stranger.key", &stranger, NULL);
    static const struct {
        int version;
        bool is_shown;
        int alert;
    } rows[] = {
        { TLS1_2_VERSION, false, SSL_AD_HANDSHAKE_FAILURE },
        { TLS1_2_VERSION, true, SSL_AD_UNKNOWN_CA },
        { TLS1_3_VERSION, false, SSL_AD_CERTIFICATE_REQUIRED },
        { TLS1_3_VERSION, true, SSL_AD_UNKNOWN_CA },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tls_client client;
        struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){
            .is_insecure = true, .certificate_file = rows[i].is_shown ? strange : NULL,
            .key_file = rows[i].is_shown ? strange_key : NULL });
        struct tls_server *server = tls_server_create(&(struct tls_server_options){
            .version_min = rows[i].version, .version_max = rows[i].version, .client_authority = &root,
            .demands_certificate = true });
        tls_client_connect(&client, context, server, "localhost");
        /* With TLS 1.3 the client's handshake has ended when the server looks. */
        assert_int_equal(client.is_open, rows[i].version == TLS1_3_VERSION);
        if (client.is_open)
            tls_client_read(&client);
        assert_int_equal(client.link->alert_sent, rows[i].alert);
        assert_int_equal(client.handshake->alert, rows[i].alert);
        assert_true(client.handshake->was_alert_received);
        tls_client_end(&client);
        tls_server_free(server);
        wsr_tls_context_free(context);
    }
}

static void a_directory_of_authorities_is_looked_into(void **state)
{
    (void)state;
    char path[200], name[32];
    const char *directory = files_path("authorities"), *empty = files_path("empty"), *colon = files_path("a:b");
    assert_int_equal(mkdir(directory, 0700) | mkdir(empty, 0700) | mkdir(colon, 0700), 0);
    snprintf(name, sizeof name, "%08lx.0", X509_subject_name_hash(root.x509));
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(link(root_file, path), 0);
    snprintf(path, sizeof path, "%s/root.pem", empty);
    assert_int_equal(link(root_file, path), 0);

    struct wsr_certificate server;
    assert_int_equal(wsr_certificate_create(&server, &root, &wsr_certificate_local), 0);
    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){
        .ca_directory = directory });
    assert_true(tls_client_try(context, &(struct tls_server_options){ .certificate = &server }, "localhost", NULL));
    assert_false(tls_client_try(context, &(struct tls_server_options){ .certificate = &stranger }, "localhost", NULL));
    wsr_tls_context_free(context);
    wsr_certificate_free(&server);

    check(&(struct wsr_tls_context_options){ .ca_directory = empty }, "tls_ca_directory \"%s\": no certificate is "
          "named in it by its hash; run openssl rehash on it", empty);
    check(&(struct wsr_tls_context_options){ .ca_directory = root_file },
          "tls_ca_directory \"%s\": Not a directory; name a directory that can be read", root_file);
    check(&(struct wsr_tls_context_options){ .ca_directory = files_path("missing") },
          "tls_ca_directory \"%s\": No such file or directory; name a directory that can be read",
          files_path("missing"));
    check(&(struct wsr_tls_context_options){ .ca_directory = colon }, "tls_ca_directory \"%s\": OpenSSL takes a colon "
          "for the end of a name; name one directory, without a colon", colon);
}

static void a_file_without_end_is_not_read(void **state)
{
    (void)state;
    const char *path = files_write("large.pem", "", 0);
    assert_int_equal(truncate(path, (64 << 20) + 1), 0);
    check(&(struct wsr_tls_context_options){ .ca_file = path },
          "tls_ca_file \"%s\": the file is larger than 64 MiB; name one with what is needed alone", path);
}

static void a_long_path_does_not_hide_the_reason(void **state)
{
    (void)state;
    char path[1000];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    struct wsr_tls_context *context;
    assert_int_equal(wsr_tls_context_create(&context, &(struct wsr_tls_context_options){ .ca_file = path }),
                     WSR_ERR_ARGUMENT);
    assert_non_null(strstr(wsr_error_text(), "pp\": File name too long; name a file that can be read"));
}

static void a_key_log_that_cannot_be_written_is_refused(void **state)
{
    (void)state;
    check(&(struct wsr_tls_context_options){ .key_log_file = files_path("") },
          "tls_key_log_file \"%s\": Is a directory; name a file that can be written to", files_path(""));
    char path[200];
    snprintf(path, sizeof path, "%s/missing/log", files_path(""));
    check(&(struct wsr_tls_context_options){ .key_log_file = path },
          "tls_key_log_file \"%s\": No such file or directory; name a file that can be written to", path);
    const char *pipe = files_path("pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    check(&(struct wsr_tls_context_options){ .key_log_file = pipe },       /* nobody reads it */
          "tls_key_log_file \"%s\": No such device or address; name a file that can be written to", pipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_that_cannot_be_read_are_told_with_the_reason),
        cmocka_unit_test(files_without_pem_are_told_what_they_lack),
        cmocka_unit_test(damaged_blocks_are_told_by_number),
        cmocka_unit_test(an_encrypted_key_is_refused),
        cmocka_unit_test(a_certificate_and_its_key_belong_together),
        cmocka_unit_test(the_client_shows_its_certificate_when_asked),
        cmocka_unit_test(a_server_that_gets_no_certificate_or_a_strange_one_says_so),
        cmocka_unit_test(a_directory_of_authorities_is_looked_into),
        cmocka_unit_test(a_file_without_end_is_not_read),
        cmocka_unit_test(a_long_path_does_not_hide_the_reason),
        cmocka_unit_test(a_key_log_that_cannot_be_written_is_refused),
    };
    return cmocka_run_group_tests(tests, prepare, finish);
}
