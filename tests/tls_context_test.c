/* engine/tls_context.c: what the options do, what a connection is given, and what comes back by callback. Whom it
 * refuses is in tests/tls_verify_test.c, what is said of files in tests/tls_file_test.c.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <openssl/conf.h>
#include <openssl/err.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/files.h"
#include "tests/support/tls_client.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static struct wsr_certificate root, certificate;          /* of localhost */
static struct wsr_tls_context *context;                   /* trusts root, which is the system's authority here */

static int prepare(void **state)
{
    (void)state;
    int rc = wsr_certificate_create(&root, NULL, &(struct wsr_certificate_options){ .is_authority = true });
    rc |= wsr_certificate_create(&certificate, &root, &wsr_certificate_local);
    if (rc != 0)
        return rc;
    /* Before the first context: it is read once. */
    setenv("SSL_CERT_FILE", tls_client_write("root.pem", (const struct wsr_certificate *const[]){ &root, NULL }), 1);
    setenv("SSL_CERT_DIR", files_path("missing"), 1);
    context = tls_client_context(&(struct wsr_tls_context_options){ .version_min = 0 });
    return 0;
}

static int finish(void **state)
{
    (void)state;
    wsr_tls_context_free(context);
    wsr_certificate_free(&certificate);
    wsr_certificate_free(&root);
    return 0;
}

static void check_refused(const struct wsr_tls_context_options *options, const char *text)
{
    struct wsr_tls_context *made = NULL;
    assert_int_equal(wsr_tls_context_create(&made, options), WSR_ERR_ARGUMENT);
    assert_string_equal(wsr_error_text(), text);
    assert_null(made);
    assert_int_equal(ERR_peek_error(), 0);
}

/* ---- Trust of the system ---- */

static void without_a_file_the_systems_authorities_are_trusted(void **state)
{
    (void)state;
    const char *text;
    wsr_tls_context_prepare(context);
    assert_true(tls_client_try(context, &(struct tls_server_options){ .certificate = &certificate }, "localhost",
                               NULL));
    assert_false(tls_client_try(context, &(struct tls_server_options){ .tickets_count = 1 }, "localhost", &text));
    assert_string_equal(text, "TLS: the server's certificate was refused: self-signed certificate; if it is to be "
                        "trusted, name it in tls_ca_file");

    /* Read once: what comes later counts for no context. */
    char *before = strdup(getenv("SSL_CERT_FILE"));
    setenv("SSL_CERT_FILE", files_path("missing"), 1);
    struct wsr_tls_context *later = tls_client_context(&(struct wsr_tls_context_options){ .version_min = 0 });
    assert_true(tls_client_try(later, &(struct tls_server_options){ .certificate = &certificate }, "localhost", NULL));
    wsr_tls_context_free(later);
    setenv("SSL_CERT_FILE", before, 1);
    free(before);

    /* And a list of theirs may be given with it. */
    for (int i = 0; i < 2; i++) {
        struct wsr_tls_context *listing = tls_client_context(&(struct wsr_tls_context_options){
            .crl_file = tls_client_write_list("list.pem", &root, i == 1 ? &certificate : NULL, 0) });
        assert_int_equal(tls_client_try(listing, &(struct tls_server_options){ .certificate = &certificate },
                                        "localhost", NULL), i == 0);
        wsr_tls_context_free(listing);
    }

    struct wsr_certificate other;
    assert_int_equal(wsr_certificate_create(&other, NULL, &(struct wsr_certificate_options){ .is_authority = true }),
                     0);
    struct wsr_tls_context *strict = tls_client_context(&(struct wsr_tls_context_options){
        .ca_file = tls_client_write("other.pem", (const struct wsr_certificate *const[]){ &other, NULL }) });
    assert_false(tls_client_try(strict, &(struct tls_server_options){ .certificate = &certificate }, "localhost",
                                NULL));
    wsr_tls_context_free(strict);
    wsr_certificate_free(&other);
}

/* ---- Versions and ciphers ---- */

static void the_version_is_one_that_both_allow(void **state)
{
    (void)state;
    static const struct {
        uint16_t min, max;
        int server;              /* the only version that it speaks */
        bool is_open;
    } rows[] = {
        { 0, 0, TLS1_2_VERSION, true },
        { 0, 0, TLS1_3_VERSION, true },
        { 0, WSR_TLS_1_2, TLS1_2_VERSION, true },
        { 0, WSR_TLS_1_2, TLS1_3_VERSION, false },
        { WSR_TLS_1_3, 0, TLS1_2_VERSION, false },
        { WSR_TLS_1_3, 0, TLS1_3_VERSION, true },
        { WSR_TLS_1_2, WSR_TLS_1_3, TLS1_3_VERSION, true },
        { WSR_TLS_1_3, WSR_TLS_1_3, TLS1_2_VERSION, false },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){
            .version_min = rows[i].min, .version_max = rows[i].max });
        struct tls_server_options options = { .version_min = rows[i].server, .version_max = rows[i].server,
                                              .certificate = &certificate };
        assert_int_equal(tls_client_try(made, &options, "localhost", NULL), rows[i].is_open);
        wsr_tls_context_free(made);
    }
}

static void versions_that_are_none_are_refused(void **state)
{
    (void)state;
    check_refused(&(struct wsr_tls_context_options){ .version_min = 0x0302 },
                  "tls_version_min is 0x0302; WSR_TLS_1_2 and WSR_TLS_1_3 are known, and 0 is the default");
    check_refused(&(struct wsr_tls_context_options){ .version_max = 0x0305 },
                  "tls_version_max is 0x0305; WSR_TLS_1_2 and WSR_TLS_1_3 are known, and 0 is the default");
    check_refused(&(struct wsr_tls_context_options){ .version_min = 13 },
                  "tls_version_min is 0x000d; WSR_TLS_1_2 and WSR_TLS_1_3 are known, and 0 is the default");
    check_refused(&(struct wsr_tls_context_options){ .version_min = WSR_TLS_1_3, .version_max = WSR_TLS_1_2 },
                  "tls_version_min is TLS 1.3 and tls_version_max is TLS 1.2; no version is between them, so change "
                  "one of the two");
}

static void the_cipher_is_one_of_those_named(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *ciphers, *ciphersuites, *agreed;
    } rows[] = {
        { TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", NULL, "ECDHE-ECDSA-CHACHA20-POLY1305" },
        { TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-SHA", NULL,
          "ECDHE-ECDSA-AES256-GCM-SHA384" },
        { TLS1_2_VERSION, "ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA:+AES256", NULL, "ECDHE-ECDSA-AES128-SHA" },
        { TLS1_2_VERSION, "HIGH:!AESGCM:!CHACHA20:!AESCCM:!ARIA:!CAMELLIA:!RC4:@STRENGTH", "TLS_AES_128_GCM_SHA256",
          "ECDHE-ECDSA-AES256-SHA384" },
        { TLS1_3_VERSION, NULL, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256" },
        { TLS1_3_VERSION, "ECDHE-ECDSA-AES128-SHA", "TLS_CHACHA20_POLY1305_SHA256 : TLS_AES_128_GCM_SHA256",
          "TLS_CHACHA20_POLY1305_SHA256" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tls_client client;
        struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){
            .ciphers = rows[i].ciphers, .ciphersuites = rows[i].ciphersuites });
        struct tls_server *server = tls_server_create(&(struct tls_server_options){
            .version_max = rows[i].version, .certificate = &certificate });
        tls_client_connect(&client, made, server, "localhost");
        assert_true(client.is_open);
        assert_string_equal(SSL_get_cipher_name(client.handshake->ssl), rows[i].agreed);
        tls_client_end(&client);
        tls_server_free(server);
        wsr_tls_context_free(made);
    }
    struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){
        .ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" });
    struct tls_server_options other = { .version_min = TLS1_3_VERSION, .ciphersuites = "TLS_AES_128_GCM_SHA256",
                                        .certificate = &certificate };
    assert_false(tls_client_try(made, &other, "localhost", NULL));
    wsr_tls_context_free(made);
}

static void ciphers_that_nobody_knows_are_refused(void **state)
{
    (void)state;
    static const char advice[] = "correct it or leave it out: openssl ciphers -v tells the names, and those of TLS 1.3 "
                                 "belong to tls_ciphersuites";
    static const struct {
        const char *list, *bad;
    } rows[] = {
        { "NONSENSE", "NONSENSE" },
        { "ECDHE-ECDSA-AES128-SHA:NONSENSE", "NONSENSE" },
        { "ECDHE+NONSENSE:HIGH", "ECDHE+NONSENSE" },
        { "HIGH:TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256" },
        { "HIGH,+NONE HIGH", "+NONE" },
        { "", "" },
        { " : ", "" },
    };
    char wanted[384];
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        snprintf(wanted, sizeof wanted, "tls_ciphers \"%s\": this OpenSSL has no cipher for \"%s\"; %s", rows[i].list,
                 rows[i].bad, advice);
        check_refused(&(struct wsr_tls_context_options){ .ciphers = rows[i].list }, wanted);
    }
    check_refused(&(struct wsr_tls_context_options){ .ciphers = "HIGH:@NONSENSE" }, "tls_ciphers \"HIGH:@NONSENSE\": "
                  "invalid command; openssl ciphers -v LIST tells what a list stands for");
    check_refused(&(struct wsr_tls_context_options){ .ciphers = "HIGH:!ALL" }, "tls_ciphers \"HIGH:!ALL\": "
                  "no cipher match; openssl ciphers -v LIST tells what a list stands for");
    static const char *const suites[][2] = {
        { "TLS_NONSENSE", "TLS_NONSENSE" },
        { "TLS_AES_128_GCM_SHA256:TLS_NONSENSE", "TLS_NONSENSE" },
        { "TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384" },
        { "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA" },
        { "", "" },
    };
    for (size_t i = 0; i < COUNT_OF(suites); i++) {
        snprintf(wanted, sizeof wanted, "tls_ciphersuites \"%s\": this OpenSSL has no cipher for \"%s\"; separate by "
                 "colons names such as TLS_AES_128_GCM_SHA256; openssl ciphers -s -tls1_3 tells them all",
                 suites[i][0], suites[i][1]);
        check_refused(&(struct wsr_tls_context_options){ .ciphersuites = suites[i][0] }, wanted);
    }
    char list[200];
    memset(list, 'N', sizeof list - 1);
    list[sizeof list - 1] = '\0';
    struct wsr_tls_context *made;
    assert_int_equal(wsr_tls_context_create(&made, &(struct wsr_tls_context_options){ .ciphers = list }),
                     WSR_ERR_ARGUMENT);
    assert_non_null(strstr(wsr_error_text(), "N\"; correct it"));
}

/* ---- What a connection is given ---- */

/* URL-34, HS-11 */
static void sni_is_a_name_without_its_last_dot_and_alpn_is_http_1_1(void **state)
{
    (void)state;
    static const struct {
        const char *name, *sent;     /* NULL: nothing is sent */
    } rows[] = {
        { "localhost", "localhost" }, { "localhost.", "localhost" }, { "a.b.example", "a.b.example" },
        { "xn--caf-dma.example", "xn--caf-dma.example" }, { "1.2.3.4.example", "1.2.3.4.example" },
        { "127.0.0.1", NULL }, { "[::1]", NULL }, { "::1", NULL }, { "[2001:db8::1]", NULL }, { "127.0.0.1.", NULL },
        { ".example", NULL }, { ".", NULL }, { "", NULL },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            struct tls_client client;
            struct tls_server *server = tls_server_create(&(struct tls_server_options){
                .version_min = version, .version_max = version, .certificate = &certificate });
            tls_client_connect(&client, context, server, rows[i].name);
            assert_int_equal(client.link->has_server_name, rows[i].sent != NULL);
            if (rows[i].sent != NULL)
                assert_string_equal(client.link->server_name, rows[i].sent);
            assert_string_equal(client.link->protocols, "http/1.1");
            tls_client_end(&client);
            tls_server_free(server);
        }
    }
}

static void a_name_is_at_most_as_long_as_sni_can_say(void **state)
{
    (void)state;
    char name[300];
    for (size_t len = 253; len <= 258; len++) {
        struct tls_client client;
        struct tls_server *server = tls_server_create(&(struct tls_server_options){ .certificate = &certificate });
        memset(name, 'n', len);
        name[len] = '\0';
        tls_client_connect(&client, context, server, name);
        assert_false(client.is_open);
        assert_int_equal(client.link->has_server_name, len <= 255);
        tls_client_end(&client);
        tls_server_free(server);
    }
}

/* The server's wish is answered by an alert that is none to end for, and data goes on. */
static void renegotiation_is_refused(void **state)
{
    (void)state;
    struct tls_client client;
    struct tls_server *server = tls_server_create(&(struct tls_server_options){ .version_max = TLS1_2_VERSION,
                                                                                .certificate = &certificate });
    tls_client_connect(&client, context, server, "localhost");
    assert_true(client.is_open);
    tls_server_renegotiate(client.link);
    tls_client_read(&client);
    assert_int_equal(client.link->alert_received, SSL_AD_NO_RENEGOTIATION);
    assert_int_equal(client.handshake->alert, 0);
    tls_client_end(&client);
    tls_server_free(server);
}

/* ---- Sessions ---- */

static const struct tls_server_options resuming[] = {
    { .version_max = TLS1_2_VERSION },
    { .version_max = TLS1_2_VERSION, .keeps_sessions = true },
    { .version_min = TLS1_3_VERSION },
};

/* Connect and read the tickets; returns whether both sides say that a session was resumed. */
static bool connect_once(struct wsr_tls_context *by, struct tls_server *server, const char *name)
{
    struct tls_client client;
    tls_client_connect(&client, by, server, name);
    assert_true(client.is_open);
    tls_client_read(&client);
    bool was_resumed = SSL_session_reused(client.handshake->ssl) == 1;
    assert_int_equal(SSL_CTX_sess_number(SSL_get_SSL_CTX(client.handshake->ssl)), 0);      /* not kept twice */
    assert_int_equal(client.link->was_resumed, was_resumed);
    tls_client_end(&client);
    return was_resumed;
}

static void sessions_are_resumed(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(resuming); i++) {
        struct tls_server_options options = resuming[i];
        options.certificate = &certificate;
        struct tls_server *server = tls_server_create(&options);
        struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){ .version_min = 0 });
        assert_int_equal(wsr_tls_context_sessions(made), 0);
        assert_false(connect_once(made, server, "localhost"));
        assert_int_equal(wsr_tls_context_sessions(made), i == 2 ? 2 : 1);      /* two tickets with TLS 1.3 */
        for (int times = 0; times < 3; times++)
            assert_true(connect_once(made, server, "localhost"));
        assert_int_equal(wsr_tls_context_sessions(made), i == 2 ? 2 : 1);
        wsr_tls_context_free(made);
        tls_server_free(server);
    }
}

/* A session says that a certificate was good for one name; another name has to be checked again. */
static void a_session_is_for_one_name_of_one_context(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(resuming); i++) {
        struct tls_server_options options = resuming[i];
        options.certificate = &certificate;
        struct tls_server *server = tls_server_create(&options);
        struct wsr_tls_context *made[2];
        for (int k = 0; k < 2; k++)
            made[k] = tls_client_context(&(struct wsr_tls_context_options){ .version_min = 0 });
        assert_false(connect_once(made[0], server, "localhost"));
        assert_false(connect_once(made[0], server, "127.0.0.1"));
        assert_false(connect_once(made[1], server, "localhost"));
        struct tls_client client;
        tls_client_connect(&client, made[0], server, "elsewhere");
        assert_false(client.is_open);
        tls_client_end(&client);
        assert_true(connect_once(made[0], server, "localhost"));
        assert_true(connect_once(made[0], server, "127.0.0.1"));
        for (int k = 0; k < 2; k++)
            wsr_tls_context_free(made[k]);
        tls_server_free(server);
    }
}

static void no_sessions_are_kept_when_told_so(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(resuming); i++) {
        struct tls_server_options options = resuming[i];
        options.certificate = &certificate;
        struct tls_server *server = tls_server_create(&options);
        struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){
            .keeps_no_sessions = true });
        for (int times = 0; times < 2; times++)
            assert_false(connect_once(made, server, "localhost"));
        assert_int_equal(wsr_tls_context_sessions(made), 0);
        wsr_tls_context_free(made);
        tls_server_free(server);
    }
}

static void an_insecure_context_resumes_its_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(resuming); i++) {
        struct tls_server *server = tls_server_create(&resuming[i]);
        struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){ .is_insecure = true });
        assert_false(connect_once(made, server, "localhost"));
        assert_true(connect_once(made, server, "localhost"));
        wsr_tls_context_free(made);
        tls_server_free(server);
    }
}

static void tickets_without_end_are_kept_to_a_bound_and_freed(void **state)
{
    (void)state;
    struct tls_client client;
    struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){ .version_min = 0 });
    struct tls_server *server = tls_server_create(&(struct tls_server_options){
        .version_min = TLS1_3_VERSION, .certificate = &certificate });
    tls_client_connect(&client, made, server, "localhost");
    for (int i = 0; i < 20; i++) {
        tls_server_send_tickets(client.link, 10);
        tls_client_read(&client);
    }
    assert_int_equal(wsr_tls_context_sessions(made), 32);
    SSL_set_app_data(client.handshake->ssl, NULL);     /* nobody is told any more, and it works all the same */
    tls_server_send_tickets(client.link, 1);
    tls_client_read(&client);
    assert_int_equal(wsr_tls_context_sessions(made), 32);
    tls_client_end(&client);
    wsr_tls_context_free(made);
    tls_server_free(server);
}

/* ---- What comes back ---- */

static void the_secrets_of_tls_1_3_are_told(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *ciphersuites;
        size_t bytes;
    } rows[] = {
        { TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", 32 },
        { TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", 48 },
        { TLS1_2_VERSION, NULL, 0 },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tls_server *server = tls_server_create(&(struct tls_server_options){
            .version_max = rows[i].version, .ciphersuites = rows[i].ciphersuites, .certificate = &certificate });
        for (int times = 0; times < 2; times++) {      /* the second is resumed */
            struct tls_client client;
            tls_client_connect(&client, context, server, "localhost");
            tls_client_read(&client);
            assert_int_equal(client.link->was_resumed, times == 1);
            assert_int_equal(client.handshake->secret_bytes, rows[i].bytes);
            assert_int_equal(client.link->secret_bytes, rows[i].bytes);
            assert_memory_equal(client.handshake->client_secret, client.link->client_secret, WSR_TLS_SECRET_MAX);
            assert_memory_equal(client.handshake->server_secret, client.link->server_secret, WSR_TLS_SECRET_MAX);
            tls_client_end(&client);
        }
        tls_server_free(server);
    }
}

static void fatal_alerts_either_way_are_told(void **state)
{
    (void)state;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_client client;
        struct tls_server_options options = { .version_min = version, .version_max = version,
                                              .alert = SSL_AD_INTERNAL_ERROR, .certificate = &certificate };
        struct tls_server *server = tls_server_create(&options);
        tls_client_connect(&client, context, server, "localhost");
        assert_int_equal(client.handshake->alert, SSL_AD_INTERNAL_ERROR);
        assert_true(client.handshake->was_alert_received);
        tls_client_end(&client);
        tls_server_free(server);

        options.alert = 0;
        server = tls_server_create(&options);
        tls_client_connect(&client, context, server, "elsewhere");
        assert_int_equal(client.handshake->alert, SSL_AD_BAD_CERTIFICATE);
        assert_false(client.handshake->was_alert_received);
        assert_int_equal(client.link->alert_received, SSL_AD_BAD_CERTIFICATE);
        tls_client_end(&client);

        tls_client_connect(&client, context, server, "localhost");
        tls_server_close(client.link);
        tls_client_read(&client);
        assert_int_equal(SSL_get_shutdown(client.handshake->ssl), SSL_RECEIVED_SHUTDOWN);
        assert_int_equal(client.handshake->alert, 0);
        tls_client_end(&client);
        tls_server_free(server);
    }
}

/* ---- Key log ---- */

static size_t read_file(const char *path, char *out, size_t room)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = read(file, out, room - 1);
    close(file);
    assert_true(got >= 0);
    out[got] = '\0';
    return (size_t)got;
}

static void secrets_are_appended_to_the_key_log(void **state)
{
    (void)state;
    static char before[] = "what was there\n", text[8192];
    const char *path = files_path("keys.log");
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_client client;
        struct stat status;
        if (version == TLS1_3_VERSION)
            unlink(path);
        else
            files_write("keys.log", before, sizeof before - 1);
        struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){ .key_log_file = path });
        struct tls_server *server = tls_server_create(&(struct tls_server_options){
            .version_min = version, .version_max = version, .certificate = &certificate });
        tls_client_connect(&client, made, server, "localhost");
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
        read_file(path, text, sizeof text);
        char random[2 * 32 + 1], wanted[128];
        unsigned char bytes[32];
        SSL_get_client_random(client.handshake->ssl, bytes, sizeof bytes);
        for (size_t i = 0; i < sizeof bytes; i++)
            snprintf(random + 2 * i, 3, "%02x", bytes[i]);
        snprintf(wanted, sizeof wanted, "%s %s ", version == TLS1_3_VERSION ? "SERVER_TRAFFIC_SECRET_0" :
                                                                               "CLIENT_RANDOM", random);
        assert_non_null(strstr(text, wanted));
        assert_int_equal(text[strlen(text) - 1], '\n');
        if (version == TLS1_2_VERSION)
            assert_memory_equal(text, before, sizeof before - 1);
        tls_client_end(&client);
        tls_server_free(server);
        wsr_tls_context_free(made);
    }
}

/* ---- Threads ---- */

#define THREADS 4
#define ROUNDS 12

static void *connect_often(void *of)
{
    struct wsr_tls_context *shared = of;
    size_t *resumed = calloc(1, sizeof *resumed);
    struct tls_server *server = tls_server_create(&(struct tls_server_options){ .certificate = &certificate });
    for (int i = 0; i < ROUNDS; i++) {
        struct tls_client client;
        tls_client_connect(&client, shared, server, "localhost");
        assert(client.is_open);
        tls_client_read(&client);
        *resumed += client.link->was_resumed;
        wsr_tls_context_sessions(shared);
        tls_client_end(&client);
    }
    tls_server_free(server);
    return resumed;
}

/* Each has a server of its own, so tickets of others are offered too, and refused. Lines of the log are whole. */
static void threads_may_open_at_once(void **state)
{
    (void)state;
    static char text[1 << 17];
    const char *path = files_path("threads.log");
    struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){ .key_log_file = path });
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, connect_often, made), 0);
    for (int i = 0; i < THREADS; i++) {
        void *resumed;
        pthread_join(threads[i], &resumed);
        free(resumed);
    }
    wsr_tls_context_free(made);
    size_t len = read_file(path, text, sizeof text), lines = 0;
    assert_true(len < sizeof text - 1);
    for (char *line = text, *end; *line != '\0'; line = end + 1, lines++) {
        char label[40], random[80], secret[120];
        end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        assert_int_equal(sscanf(line, "%39s %79s %119s", label, random, secret), 3);
        assert_int_equal(strlen(random), 64);
        assert_true(strlen(secret) == 64 || strlen(secret) == 96);
        assert_int_equal(strlen(label) + strlen(random) + strlen(secret) + 2, strlen(line));
    }
    assert_true(lines >= THREADS * ROUNDS * 4);
}

/* ---- The machine's configuration of OpenSSL; last, as it stays ---- */

static void the_machines_configuration_changes_no_option(void **state)
{
    (void)state;
    static const char text[] =
        "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = system\n"
        "[system]\nMinProtocol = TLSv1\nMaxProtocol = TLSv1.2\nProtocol = -TLSv1.3\n"
        "CipherString = ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0\n"
        "Options = UnsafeLegacyRenegotiation\n";
    const char *path = files_write("openssl.cnf", text, sizeof text - 1);
    assert_int_equal(CONF_modules_load_file(path, NULL, 0), 1);
    struct wsr_tls_context *made = tls_client_context(&(struct wsr_tls_context_options){ .version_min = 0 });
    static const struct {
        struct tls_server_options options;
        bool is_open;
    } rows[] = {
        { { .version_max = TLS1_1_VERSION }, false },
        { { .version_min = TLS1_2_VERSION, .version_max = TLS1_2_VERSION,
            .ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" }, true },
        { { .version_min = TLS1_2_VERSION, .version_max = TLS1_2_VERSION,
            .ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305" }, false },         /* as the header says */
        { { .version_min = TLS1_3_VERSION, .version_max = TLS1_3_VERSION }, true },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tls_server_options options = rows[i].options;
        options.certificate = &certificate;
        assert_int_equal(tls_client_try(made, &options, "localhost", NULL), rows[i].is_open);
    }
    wsr_tls_context_free(made);
    made = tls_client_context(&(struct wsr_tls_context_options){ .ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305" });
    struct tls_server_options options = rows[2].options;
    options.certificate = &certificate;
    assert_true(tls_client_try(made, &options, "localhost", NULL));
    wsr_tls_context_free(made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_file_the_systems_authorities_are_trusted),
        cmocka_unit_test(the_version_is_one_that_both_allow),
        cmocka_unit_test(versions_that_are_none_are_refused),
        cmocka_unit_test(the_cipher_is_one_of_those_named),
        cmocka_unit_test(ciphers_that_nobody_knows_are_refused),
        cmocka_unit_test(sni_is_a_name_without_its_last_dot_and_alpn_is_http_1_1),
        cmocka_unit_test(a_name_is_at_most_as_long_as_sni_can_say),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(sessions_are_resumed),
        cmocka_unit_test(a_session_is_for_one_name_of_one_context),
        cmocka_unit_test(no_sessions_are_kept_when_told_so),
        cmocka_unit_test(an_insecure_context_resumes_its_own),
        cmocka_unit_test(tickets_without_end_are_kept_to_a_bound_and_freed),
        cmocka_unit_test(the_secrets_of_tls_1_3_are_told),
        cmocka_unit_test(fatal_alerts_either_way_are_told),
        cmocka_unit_test(secrets_are_appended_to_the_key_log),
        cmocka_unit_test(threads_may_open_at_once),
        cmocka_unit_test(the_machines_configuration_changes_no_option),
    };
    return cmocka_run_group_tests(tests, prepare, finish);
}
