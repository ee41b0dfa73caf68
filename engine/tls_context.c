/* OpenSSL's context, made of the options, and what its callbacks tell of each connection. */
#include "tls_context.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "error.h"
#include "tls_file.h"
#include "tls_handshake.h"
#include "tls_session.h"
#include "tls_text.h"

#define NAME_ROOM 256u                   /* of a DNS name, and of SNI */
#define LOG_LINE_MAX 512u
#define ALERT_LEVEL_FATAL 2

struct wsr_tls_context {
    SSL_CTX *openssl;
    struct wsr_tls_session_cache *sessions;      /* NULL: none are kept */
    int key_log;                         /* descriptor; -1 = none */
    bool is_insecure;
    bool trusts_system;                  /* and nothing else: its authorities are shared by the process */
};

static int no_memory(void)
{
    return wsr_error_set(WSR_ERR_MEMORY, "no memory for the context of TLS (%s)", wsr_tls_text_of_queue());
}

/* ---- What OpenSSL tells ------------------------------------------------------------------------ */

static struct wsr_tls_context *context_of(const SSL *ssl)
{
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Returns the bytes of @hex, or 0 when it is none or too long. */
static size_t read_hex(uint8_t out[WSR_TLS_SECRET_MAX], const char *hex)
{
    size_t bytes = 0;
    for (; hex[0] != '\0'; hex += 2) {
        int high = hex_digit(hex[0]), low = high >= 0 ? hex_digit(hex[1]) : -1;
        if (low < 0 || bytes == WSR_TLS_SECRET_MAX)
            return 0;
        out[bytes++] = (uint8_t)(high << 4 | low);
    }
    return bytes;
}

static bool is_known(const uint8_t secret[WSR_TLS_SECRET_MAX])
{
    static const uint8_t unknown[WSR_TLS_SECRET_MAX];
    return memcmp(secret, unknown, WSR_TLS_SECRET_MAX) != 0;
}

/* "LABEL RANDOM SECRET". There is no other way to the secrets of TLS 1.3 in OpenSSL. */
static void note_secret(struct wsr_tls_handshake *handshake, const char *line)
{
    static const char client[] = "CLIENT_TRAFFIC_SECRET_0 ", server[] = "SERVER_TRAFFIC_SECRET_0 ";
    bool is_client = strncmp(line, client, sizeof client - 1) == 0;
    if (!is_client && strncmp(line, server, sizeof server - 1) != 0)
        return;
    size_t bytes = read_hex(is_client ? handshake->client_secret : handshake->server_secret, strrchr(line, ' ') + 1);
    if (is_known(handshake->client_secret) && is_known(handshake->server_secret))
        handshake->secret_bytes = (uint8_t)bytes;
}

static void on_key_log(const SSL *ssl, const char *line)
{
    const struct wsr_tls_context *context = context_of(ssl);
    struct wsr_tls_handshake *handshake = SSL_get_app_data(ssl);
    if (handshake != NULL)
        note_secret(handshake, line);
    size_t len = strlen(line);
    char whole[LOG_LINE_MAX];
    if (context->key_log < 0 || len >= sizeof whole)
        return;
    memcpy(whole, line, len);
    whole[len] = '\n';
    /* One call, so that lines of several threads do not mix. A log that takes no more is no reason to fail. */
    ssize_t written = write(context->key_log, whole, len + 1);
    (void)written;
    OPENSSL_cleanse(whole, sizeof whole);
}

/* With TLS 1.3 all alerts but these two are fatal, whatever level they say (RFC 8446 6). */
static bool is_fatal(const SSL *ssl, int level, int description)
{
    return level == ALERT_LEVEL_FATAL || (SSL_version(ssl) == TLS1_3_VERSION && description != SSL_AD_CLOSE_NOTIFY &&
                                          description != SSL_AD_USER_CANCELLED);
}

static void on_info(const SSL *ssl, int where, int value)
{
    struct wsr_tls_handshake *handshake = SSL_get_app_data(ssl);
    int level = value >> 8, description = value & 0xff;
    if (handshake == NULL || (where & SSL_CB_ALERT) == 0 || !is_fatal(ssl, level, description))
        return;
    handshake->alert = (uint8_t)description;
    handshake->was_alert_received = (where & SSL_CB_READ) != 0;
}

/* Returns 1 when the reference is ours now. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct wsr_tls_context *context = context_of(ssl);
    const struct wsr_tls_handshake *handshake = SSL_get_app_data(ssl);
    if (handshake == NULL || (!context->is_insecure && SSL_get_verify_result(ssl) != X509_V_OK))
        return 0;
    return wsr_tls_session_cache_keep(context->sessions, handshake->peer, session, time(NULL));
}

/* ---- Options ----------------------------------------------------------------------------------- */

static int check_version(const char *option, uint16_t version)
{
    if (version == 0 || version == WSR_TLS_1_2 || version == WSR_TLS_1_3)
        return 0;
    return wsr_error_set(WSR_ERR_ARGUMENT, "%s is 0x%04x; WSR_TLS_1_2 and WSR_TLS_1_3 are known, and 0 is the default",
                         option, version);
}

static int set_versions(SSL_CTX *openssl, const struct wsr_tls_context_options *options)
{
    uint16_t min = options->version_min != 0 ? options->version_min : WSR_TLS_1_2;
    uint16_t max = options->version_max != 0 ? options->version_max : WSR_TLS_1_3;
    int rc = check_version("tls_version_min", options->version_min);
    if (rc == 0)
        rc = check_version("tls_version_max", options->version_max);
    if (rc != 0)
        return rc;
    if (min > max)
        return wsr_error_set(WSR_ERR_ARGUMENT, "tls_version_min is TLS 1.3 and tls_version_max is TLS 1.2; no version "
                             "is between them, so change one of the two");
    /* The machine's configuration may have switched versions off in the older way too. */
    SSL_CTX_clear_options(openssl, SSL_OP_NO_TLSv1_2 | SSL_OP_NO_TLSv1_3);
    if (SSL_CTX_set_min_proto_version(openssl, min) != 1 || SSL_CTX_set_max_proto_version(openssl, max) != 1)
        return no_memory();
    return 0;
}

/* Does @set, given one name of a list, leave @openssl with a suite that it calls for? */
typedef bool (*try_name)(SSL_CTX *openssl, const char *name);

static bool try_cipher(SSL_CTX *openssl, const char *name)
{
    /* What is taken out, or a command, need not be there. */
    return strchr("!-@", name[0]) != NULL || SSL_CTX_set_cipher_list(openssl, name[0] == '+' ? name + 1 : name) == 1;
}

static bool try_ciphersuite(SSL_CTX *openssl, const char *name)
{
    return SSL_CTX_set_ciphersuites(openssl, name) == 1;
}

/* OpenSSL reads over names that it does not know as long as it knows one. Returns whether there is a name, and all are
 * known; *bad is the one that is not. */
static bool are_known(SSL_CTX *scratch, const char *list, const char *separators, try_name try, char bad[80])
{
    bool is_any = false;
    snprintf(bad, 80, "%s", "");
    for (;;) {
        list += strspn(list, separators);
        size_t len = strcspn(list, separators);
        if (len == 0)
            return is_any;
        snprintf(bad, 80, "%.*s", (int)(len < 79 ? len : 79), list);
        if (len > 79 || !try(scratch, bad))
            return false;
        is_any = true;
        list += len;
    }
}

static int check_names(const char *option, const char *list, const char *separators, try_name try, const char *advice)
{
    char bad[80];
    SSL_CTX *scratch = SSL_CTX_new(TLS_client_method());
    if (scratch == NULL)
        return no_memory();
    bool are_good = are_known(scratch, list, separators, try, bad);
    SSL_CTX_free(scratch);
    ERR_clear_error();
    return are_good ? 0 : wsr_error_set(WSR_ERR_ARGUMENT, "%s \"%.120s\": this OpenSSL has no cipher for \"%s\"; %s",
                                        option, list, bad, advice);
}

static int set_ciphers(SSL_CTX *openssl, const struct wsr_tls_context_options *options)
{
    int rc = 0;
    if (options->ciphers != NULL)
        rc = check_names("tls_ciphers", options->ciphers, ":, ;", try_cipher, "correct it or leave it out: openssl "
                         "ciphers -v tells the names, and those of TLS 1.3 belong to tls_ciphersuites");
    if (rc == 0 && options->ciphers != NULL && SSL_CTX_set_cipher_list(openssl, options->ciphers) != 1)
        rc = wsr_error_set(WSR_ERR_ARGUMENT, "tls_ciphers \"%.120s\": %s; openssl ciphers -v LIST tells what a list "
                           "stands for", options->ciphers, wsr_tls_text_of_queue());
    if (rc == 0 && options->ciphersuites != NULL)
        rc = check_names("tls_ciphersuites", options->ciphersuites, ": ", try_ciphersuite, "separate by colons names "
                         "such as TLS_AES_128_GCM_SHA256; openssl ciphers -s -tls1_3 tells them all");
    if (rc == 0 && options->ciphersuites != NULL && SSL_CTX_set_ciphersuites(openssl, options->ciphersuites) != 1)
        rc = no_memory();
    return rc;
}

/* The authorities of the system, for all contexts of this process. */
static pthread_once_t system_once = PTHREAD_ONCE_INIT;
static X509_STORE *system_store;         /* NULL without memory */

static void read_system_store(void)
{
    X509_STORE *store = X509_STORE_new();
    if (store != NULL && X509_STORE_set_default_paths(store) != 1) {
        X509_STORE_free(store);
        store = NULL;
    }
    ERR_clear_error();                   /* a file that is not there is no error */
    system_store = store;
}

static X509_STORE *share_system_store(void)
{
    pthread_once(&system_once, read_system_store);
    return system_store;
}

static int fill_store(X509_STORE *store, const struct wsr_tls_context_options *options)
{
    int rc = 0;
    if (options->ca_file != NULL)
        rc = wsr_tls_file_load_authorities(store, options->ca_file);
    if (rc == 0 && options->ca_directory != NULL)
        rc = wsr_tls_file_name_directory(store, options->ca_directory);
    if (rc == 0 && options->ca_file == NULL && options->ca_directory == NULL && !options->is_insecure &&
        X509_STORE_set_default_paths(store) != 1)
        rc = no_memory();
    if (rc == 0 && options->crl_file != NULL)
        rc = wsr_tls_file_load_lists(store, options->crl_file);
    ERR_clear_error();
    return rc;
}

static int set_trust(struct wsr_tls_context *context, const struct wsr_tls_context_options *options)
{
    /* What is named as trusted is, also when it is signed by another. */
    unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN;
    if (options->crl_file != NULL)
        flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context->openssl), flags);
    SSL_CTX_set_verify(context->openssl, options->is_insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    context->is_insecure = options->is_insecure;
    context->trusts_system = !options->is_insecure && options->ca_file == NULL && options->ca_directory == NULL &&
                             options->crl_file == NULL;
    if (context->trusts_system)
        return 0;
    X509_STORE *store = X509_STORE_new();
    if (store == NULL)
        return no_memory();
    int rc = fill_store(store, options);
    if (rc == 0 && SSL_CTX_set1_verify_cert_store(context->openssl, store) != 1)
        rc = no_memory();
    X509_STORE_free(store);
    return rc;
}

static int set_own_certificate(SSL_CTX *openssl, const struct wsr_tls_context_options *options)
{
    if (options->certificate_file != NULL)
        return wsr_tls_file_load_own(openssl, options->certificate_file, options->key_file);
    if (options->key_file != NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "tls_key_file \"%.160s\" is given without tls_certificate_file; name "
                             "the certificate that belongs to the key, or leave it out", options->key_file);
    return 0;
}

/* What no option is for. */
static int set_manners(struct wsr_tls_context *context)
{
    static const unsigned char protocols[] = "\x08http/1.1";
    SSL_CTX *openssl = context->openssl;
    SSL_CTX_set_app_data(openssl, context);
    SSL_CTX_set_options(openssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_clear_mode(openssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
    /* Of its own certificates the client sends those that the file has, and seeks no others. */
    SSL_CTX_set_mode(openssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_max_cert_list(openssl, WSR_TLS_CONTEXT_CHAIN_MAX_BYTES);
    SSL_CTX_set_keylog_callback(openssl, on_key_log);
    SSL_CTX_set_info_callback(openssl, on_info);
    return SSL_CTX_set_alpn_protos(openssl, protocols, sizeof protocols - 1) == 0 ? 0 : no_memory();
}

static int set_sessions(struct wsr_tls_context *context, const struct wsr_tls_context_options *options)
{
    SSL_CTX_set_session_cache_mode(context->openssl, SSL_SESS_CACHE_OFF);
    if (options->keeps_no_sessions) {
        SSL_CTX_set_options(context->openssl, SSL_OP_NO_TICKET);
        return 0;
    }
    context->sessions = wsr_tls_session_cache_create();
    if (context->sessions == NULL)
        return no_memory();
    SSL_CTX_set_session_cache_mode(context->openssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context->openssl, on_session);
    return 0;
}

/* ---- Context ----------------------------------------------------------------------------------- */

int wsr_tls_context_create(struct wsr_tls_context **out, const struct wsr_tls_context_options *options)
{
    struct wsr_tls_context *context = calloc(1, sizeof *context);
    if (context == NULL)
        return no_memory();
    context->key_log = -1;
    context->openssl = SSL_CTX_new(TLS_client_method());
    int rc = context->openssl != NULL ? set_versions(context->openssl, options) : no_memory();
    if (rc == 0)
        rc = set_manners(context);
    if (rc == 0)
        rc = set_ciphers(context->openssl, options);
    if (rc == 0)
        rc = set_trust(context, options);
    if (rc == 0)
        rc = set_own_certificate(context->openssl, options);
    if (rc == 0)
        rc = set_sessions(context, options);
    if (rc == 0 && options->key_log_file != NULL)
        rc = wsr_tls_file_open_log(&context->key_log, options->key_log_file);
    if (rc != 0) {
        wsr_tls_context_free(context);
        return rc;
    }
    *out = context;
    return 0;
}

void wsr_tls_context_free(struct wsr_tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->openssl);
    wsr_tls_session_cache_free(context->sessions);
    if (context->key_log >= 0)
        close(context->key_log);
    free(context);
}

void wsr_tls_context_prepare(const struct wsr_tls_context *context)
{
    if (context->trusts_system)
        share_system_store();
}

bool wsr_tls_context_is_insecure(const struct wsr_tls_context *context)
{
    return context->is_insecure;
}

const char *wsr_tls_context_suite(const struct wsr_tls_context *context, uint16_t number)
{
    STACK_OF(SSL_CIPHER) *suites = SSL_CTX_get_ciphers(context->openssl);
    for (int i = 0; i < sk_SSL_CIPHER_num(suites); i++) {
        const SSL_CIPHER *suite = sk_SSL_CIPHER_value(suites, i);
        if (SSL_CIPHER_get_protocol_id(suite) == number)
            return SSL_CIPHER_standard_name(suite);
    }
    return "unknown";
}

uint64_t wsr_tls_context_sessions(struct wsr_tls_context *context)
{
    return context->sessions != NULL ? wsr_tls_session_cache_count(context->sessions, time(NULL)) : 0;
}

/* ---- Connections ------------------------------------------------------------------------------- */

/* @name as certificates and SNI have it, without brackets and without a dot at the end. "." when no certificate can
 * have it: one that begins with a dot OpenSSL would take for all the names below it. */
static void write_name(char out[NAME_ROOM], const char *name)
{
    size_t len = strlen(name);
    if (len >= 2 && name[0] == '[' && name[len - 1] == ']') {
        name++;
        len -= 2;
    } else if (len >= 1 && name[len - 1] == '.') {
        len--;
    }
    if (len == 0 || len >= NAME_ROOM || name[0] == '.') {
        name = ".";
        len = 1;
    }
    memcpy(out, name, len);
    out[len] = '\0';
}

/* Whom the certificate has to be for, and whom the server is asked for. */
static bool set_name(SSL *ssl, const char *text)
{
    char name[NAME_ROOM];
    struct in6_addr address;
    write_name(name, text);
    if (inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (SSL_set1_host(ssl, name) != 1)
        return false;
    return name[0] == '.' || SSL_set_tlsext_host_name(ssl, name) == 1;
}

static void set_session(struct wsr_tls_context *context, SSL *ssl, const char *peer)
{
    SSL_SESSION *session = context->sessions != NULL ?
                           wsr_tls_session_cache_take(context->sessions, peer, time(NULL)) : NULL;
    if (session == NULL)
        return;
    if (SSL_set_session(ssl, session) != 1)
        ERR_clear_error();               /* then the handshake is a whole one */
    SSL_SESSION_free(session);
}

SSL *wsr_tls_context_open(struct wsr_tls_context *context, struct wsr_tls_handshake *handshake, const char *name)
{
    SSL *ssl = SSL_new(context->openssl);
    X509_STORE *system = context->trusts_system ? share_system_store() : NULL;
    if (ssl == NULL || !set_name(ssl, name) ||
        (context->trusts_system && (system == NULL || SSL_set1_verify_cert_store(ssl, system) != 1))) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_app_data(ssl, handshake);
    set_session(context, ssl, handshake->peer);
    return ssl;
}
