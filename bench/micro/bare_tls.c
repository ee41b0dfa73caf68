/* SPDX-License-Identifier: MIT */
#include "bare_tls.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/certificate.h"

#define SUITE "TLS_AES_128_GCM_SHA256"
#define ADDRESS "127.0.0.1"
#define SECRET_BYTES 32u

static struct wsr_certificate certificate;
static char ca_file[64];              /* "" = there is none yet */

static void *complain(const char *what)
{
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    fprintf(stderr, "wsring-micro: %s: %s\n", what, why != NULL ? why : "no memory");
    ERR_clear_error();
    return NULL;
}

/* ---- The certificate ---- */

static int write_certificate(int fd)
{
    char *pem = wsr_certificate_pem(&certificate);
    bool ok = fd >= 0 && pem != NULL && write(fd, pem, strlen(pem)) == (ssize_t)strlen(pem);
    free(pem);
    return ok ? 0 : -1;
}

const char *wsr_bare_tls_ca_file(void)
{
    if (ca_file[0] != '\0')
        return ca_file;
    if (wsr_certificate_create(&certificate, NULL, &wsr_certificate_local) != 0)
        return complain("no certificate");
    /* Whoever opens the path reads from the beginning. It is there in forked processes too, under their own number. */
    int fd = memfd_create("certificate", MFD_CLOEXEC);
    if (write_certificate(fd) != 0)
        return complain("the certificate could not be written");
    snprintf(ca_file, sizeof ca_file, "/proc/self/fd/%d", fd);
    return ca_file;
}

int wsr_bare_tls_write_ca(const char *path)
{
    if (wsr_bare_tls_ca_file() == NULL)
        return -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int rc = write_certificate(fd);
    if (rc != 0)
        perror(path);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ---- Contexts ---- */

static SSL_CTX *make_context(const SSL_METHOD *method)
{
    SSL_CTX *context = SSL_CTX_new(method);
    if (context != NULL && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_ciphersuites(context, SUITE) == 1) {
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        return context;
    }
    SSL_CTX_free(context);
    return complain("no context for TLS");
}

SSL_CTX *wsr_bare_tls_server_context(unsigned tickets)
{
    SSL_CTX *context = wsr_bare_tls_ca_file() != NULL ? make_context(TLS_server_method()) : NULL;
    if (context == NULL)
        return NULL;
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_use_certificate(context, certificate.x509) == 1 &&
        SSL_CTX_use_PrivateKey(context, certificate.key) == 1 && SSL_CTX_set_num_tickets(context, tickets) == 1)
        return context;
    SSL_CTX_free(context);
    return complain("no context for TLS");
}

SSL_CTX *wsr_bare_tls_client_context(void)
{
    const char *ca = wsr_bare_tls_ca_file();
    SSL_CTX *context = ca != NULL ? make_context(TLS_client_method()) : NULL;
    if (context == NULL)
        return NULL;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_load_verify_file(context, ca) == 1)
        return context;
    SSL_CTX_free(context);
    return complain("no context for TLS");
}

SSL *wsr_bare_tls_client(SSL_CTX *context, int fd)
{
    static const uint8_t protocols[] = "\x08http/1.1";
    SSL *ssl = SSL_new(context);
    if (ssl != NULL && X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), ADDRESS) == 1 && SSL_set_fd(ssl, fd) == 1 &&
        SSL_set_alpn_protos(ssl, protocols, sizeof protocols - 1) == 0)
        return ssl;
    SSL_free(ssl);
    return complain("no SSL");
}

/* ---- The handshake, and what is taken of it ---- */

struct secrets {
    uint8_t client[SECRET_BYTES], server[SECRET_BYTES];
};

/* "LABEL RANDOM SECRET", the last two in hexadecimal digits. */
static void take_secret(const SSL *ssl, const char *line)
{
    struct secrets *secrets = SSL_get_app_data(ssl);
    uint8_t *to = NULL;
    const char *digits = strrchr(line, ' ');
    if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0)
        to = secrets->client;
    else if (strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0)
        to = secrets->server;
    for (size_t i = 0; to != NULL && i < SECRET_BYTES; i++) {
        char pair[3] = { digits[1 + 2 * i], digits[2 + 2 * i], '\0' };
        to[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

/* The SSL reads no byte beyond the record that it needs, and without tickets neither side has sealed any data when the
 * handshake ends: both directions begin at 0, with the next byte of the descriptor. */
static int shake(struct wsr_bare_tls *tls, SSL *ssl, bool is_server)
{
    struct secrets secrets = { { 0 }, { 0 } };
    *tls = (struct wsr_bare_tls){ .in = { .context = NULL } };
    if (ssl == NULL)
        return -1;
    SSL_set_app_data(ssl, &secrets);
    int rc = is_server ? SSL_accept(ssl) : SSL_connect(ssl);
    if (rc == 1)
        rc = wsr_bare_record_start(&tls->in, is_server ? secrets.client : secrets.server) == 0 &&
             wsr_bare_record_start(&tls->out, is_server ? secrets.server : secrets.client) == 0;
    if (rc != 1 && !is_server)
        complain("no TLS");
    ERR_clear_error();
    SSL_free(ssl);
    return rc == 1 ? 0 : -1;
}

int wsr_bare_tls_accept(struct wsr_bare_tls *tls, int fd)
{
    static SSL_CTX *context;
    if (context == NULL && (context = wsr_bare_tls_server_context(0)) != NULL)
        SSL_CTX_set_keylog_callback(context, take_secret);
    SSL *ssl = context != NULL ? SSL_new(context) : NULL;
    if (ssl != NULL && SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ssl = NULL;
    }
    return shake(tls, ssl, true);
}

int wsr_bare_tls_connect(struct wsr_bare_tls *tls, int fd)
{
    static SSL_CTX *context;
    if (context == NULL && (context = wsr_bare_tls_client_context()) != NULL)
        SSL_CTX_set_keylog_callback(context, take_secret);
    return shake(tls, context != NULL ? wsr_bare_tls_client(context, fd) : NULL, false);
}

void wsr_bare_tls_end(struct wsr_bare_tls *tls)
{
    wsr_bare_record_end(&tls->in);
    wsr_bare_record_end(&tls->out);
}
