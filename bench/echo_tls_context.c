/* SPDX-License-Identifier: MIT */
#include "echo_tls_context.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>

#include "certificate.h"
#include "echo_tls.h"

#define SUITES_CHARS 1024
#define SUITE_OF_1_3 "TLS_"

static int fail(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(char *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, WSR_ECHO_TLS_ERROR_CHARS, format, arguments);
    va_end(arguments);
    return -1;
}

/* OpenSSL's word for what went wrong, or the system's when a file could not be read. The first is nearest to the cause.
 */
static const char *reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *text = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    ERR_clear_error();
    return text ? text : "OpenSSL does not say why";
}

/* ---- Certificate and key ---- */

/* A key that is encrypted is refused, instead of asked for on the terminal. */
static int tell_no_password(char *out, int room, int is_written, void *argument)
{
    (void)out;
    (void)room;
    (void)is_written;
    (void)argument;
    return -1;
}

static int use_files(SSL_CTX *library, const struct wsr_echo_tls_options *options, char *error)
{
    const char *key_file = options->key_file ? options->key_file : options->certificate_file;
    if (SSL_CTX_use_certificate_chain_file(library, options->certificate_file) != 1)
        return fail(error, "--cert %s: %s; give a file with a certificate in PEM", options->certificate_file,
                    reason());
    SSL_CTX_set_default_passwd_cb(library, tell_no_password);
    if (SSL_CTX_use_PrivateKey_file(library, key_file, SSL_FILETYPE_PEM) != 1)
        return fail(error, "--key %s: %s; give the file with the key of --cert in PEM, not encrypted", key_file,
                    reason());
    return 0;
}

static int write_out(const struct wsr_certificate *certificate, const char *name, char *error)
{
    char *pem = wsr_certificate_pem(certificate);
    FILE *to = pem ? fopen(name, "we") : NULL;
    bool done = to && fputs(pem, to) >= 0;
    int why = errno;
    if (to && fclose(to) != 0 && done) {
        why = errno;
        done = false;
    }
    free(pem);
    return done ? 0 : fail(error, "--cert-out %s cannot be written: %s", name, strerror(why));
}

static int make(SSL_CTX *library, const struct wsr_echo_tls_options *options, char *error)
{
    struct wsr_certificate made;
    if (wsr_certificate_create(&made, NULL, &wsr_certificate_local) < 0)
        return fail(error, "no certificate could be made: %s", reason());
    int rc = 0;
    if (SSL_CTX_use_certificate(library, made.x509) != 1 || SSL_CTX_use_PrivateKey(library, made.key) != 1)
        rc = fail(error, "the certificate that was made is of no use to OpenSSL: %s", reason());
    else if (options->certificate_out)
        rc = write_out(&made, options->certificate_out, error);
    wsr_certificate_free(&made);
    return rc;
}

/* ---- Ciphers ---- */

/* The names of @list that are, or are not, of TLS 1.3. Returns whether they fit. */
static bool sort_out(char out[SUITES_CHARS], const char *list, bool is_of_1_3)
{
    size_t used = 0;
    while (*list) {
        size_t len = strcspn(list, ":");
        if ((strncmp(list, SUITE_OF_1_3, strlen(SUITE_OF_1_3)) == 0) == is_of_1_3 && len > 0) {
            int written = snprintf(out + used, SUITES_CHARS - used, "%s%.*s", used > 0 ? ":" : "", (int)len, list);
            if (written < 0 || (size_t)written >= SUITES_CHARS - used)
                return false;
            used += (size_t)written;
        }
        list += len + (list[len] == ':');
    }
    out[used] = '\0';
    return true;
}

static int choose_ciphers(SSL_CTX *library, const char *list, char *error)
{
    char of_1_2[SUITES_CHARS], of_1_3[SUITES_CHARS];
    if (!list)
        return 0;
    if (!sort_out(of_1_2, list, false) || !sort_out(of_1_3, list, true) || (!of_1_2[0] && !of_1_3[0]) ||
        (of_1_2[0] && SSL_CTX_set_cipher_list(library, of_1_2) != 1) ||
        (of_1_3[0] && SSL_CTX_set_ciphersuites(library, of_1_3) != 1)) {
        ERR_clear_error();
        return fail(error, "--tls-ciphers takes names of OpenSSL separated by colons, such as "
                           "ECDHE-ECDSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256, but was given \"%.80s\"", list);
    }
    return 0;
}

/* ---- The context ---- */

/* RFC 7301: a client that offers protocols but not this one means another server. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *offered,
                           unsigned int offered_len, void *argument)
{
    static const char wanted[] = "http/1.1";
    (void)ssl;
    (void)argument;
    for (unsigned int at = 0; at < offered_len; at += 1u + offered[at]) {
        if (offered[at] == sizeof wanted - 1 && memcmp(offered + at + 1, wanted, sizeof wanted - 1) == 0) {
            *out = offered + at + 1;
            *out_len = sizeof wanted - 1;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int set_up(struct wsr_echo_tls_context *context, const struct wsr_echo_tls_options *options, char *error)
{
    SSL_CTX *library = context->library;
    int low = options->version_min ? options->version_min : TLS1_2_VERSION;
    if (options->version_max && options->version_max < low)
        return fail(error, "--tls-max is below --tls-min, so that no version is left");
    if (SSL_CTX_set_min_proto_version(library, low) != 1 ||
        SSL_CTX_set_max_proto_version(library, options->version_max) != 1)
        return fail(error, "OpenSSL does not have this version of TLS: %s", reason());
    SSL_CTX_set_mode(library, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(library, SSL_SESS_CACHE_OFF);      /* sessions are in the clients' tickets */
    SSL_CTX_set_alpn_select_cb(library, choose_protocol, NULL);
    if (context->records != WSR_TLS_LIBRARY)
        SSL_CTX_set_keylog_callback(library, wsr_echo_tls_take_secret);
    if (choose_ciphers(library, options->ciphers, error) < 0)
        return -1;
    return options->certificate_file ? use_files(library, options, error) : make(library, options, error);
}

int wsr_echo_tls_context_create(struct wsr_echo_tls_context **context, const struct wsr_echo_tls_options *options,
                                char error[WSR_ECHO_TLS_ERROR_CHARS])
{
    struct wsr_echo_tls_context *made = calloc(1, sizeof *made);
    if (made)
        made->library = SSL_CTX_new(TLS_server_method());
    if (!made || !made->library) {
        wsr_echo_tls_context_free(made);
        return fail(error, "no memory for TLS");
    }
    made->records = options->records;
    if (set_up(made, options, error) < 0) {
        wsr_echo_tls_context_free(made);
        return -1;
    }
    *context = made;
    return 0;
}

void wsr_echo_tls_context_free(struct wsr_echo_tls_context *context)
{
    if (context)
        SSL_CTX_free(context->library);
    free(context);
}
