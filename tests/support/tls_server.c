/* The TLS server without a socket.
 * SPDX-License-Identifier: MIT */
#include "tests/support/tls_server.h"

#include <stdlib.h>

#include <openssl/err.h>

#include "tests/support/tls_craft.h"

#define HEADER_BYTES 5u
#define CHUNK_BYTES 16384u
#define SERVER_NAME 0u                 /* numbers of extensions */
#define PROTOCOLS 16u
#define KEY_UPDATE 24u                 /* number of the handshake message */
#define TICKETS_MAX 255

struct tls_server {
    SSL_CTX *context;
    struct tls_server_options options;
    struct wsr_certificate own;        /* when none was given */
    uint8_t protocol[256];             /* as on the wire */
};

/* ---- What OpenSSL calls ------------------------------------------------------------------------ */

static struct tls_server_link *link_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

/* server_name: a list's length, a type, the name's length, the name (RFC 6066 3). */
static void note_server_name(struct tls_server_link *link, const unsigned char *data, size_t len)
{
    size_t name_len = len >= 5 ? wsr_load_be16(data + 3) : 0;
    assert(len >= 5 && name_len + 5 == len && name_len < sizeof link->server_name);
    link->has_server_name = true;
    memcpy(link->server_name, data + 5, name_len);
    link->server_name[name_len] = '\0';
}

/* ALPN: a list's length, then each with its own (RFC 7301 3.1). */
static void note_protocols(struct tls_server_link *link, const unsigned char *data, size_t len)
{
    size_t used = 0;
    for (size_t at = 2; at < len; at += 1u + data[at]) {
        assert(used + data[at] + 2 <= sizeof link->protocols);
        if (used > 0)
            link->protocols[used++] = ',';
        memcpy(link->protocols + used, data + at + 1, data[at]);
        used += data[at];
    }
    link->protocols[used] = '\0';
}

static int on_client_hello(SSL *ssl, int *alert, void *context)
{
    const struct tls_server *server = context;
    const unsigned char *data;
    size_t len;
    if (SSL_client_hello_get0_ext(ssl, SERVER_NAME, &data, &len) == 1)
        note_server_name(link_of(ssl), data, len);
    if (SSL_client_hello_get0_ext(ssl, PROTOCOLS, &data, &len) == 1)
        note_protocols(link_of(ssl), data, len);
    *alert = server->options.alert;
    return server->options.alert != 0 ? SSL_CLIENT_HELLO_ERROR : SSL_CLIENT_HELLO_SUCCESS;
}

static int on_protocols(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                        unsigned in_len, void *context)
{
    (void)ssl;
    struct tls_server *server = context;
    unsigned char *chosen;
    if (server->options.protocol == NULL) {
        if (SSL_select_next_proto(&chosen, out_len, server->protocol, 1u + server->protocol[0], in, in_len) !=
            OPENSSL_NPN_NEGOTIATED)
            return SSL_TLSEXT_ERR_NOACK;
        *out = chosen;
        return SSL_TLSEXT_ERR_OK;
    }
    *out = server->protocol + 1;
    *out_len = server->protocol[0];
    return server->protocol[0] > 0 ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* "LABEL RANDOM SECRET", the last two in hexadecimal. Each comes when the keys are changed to it. */
static void on_key_log(const SSL *ssl, const char *line)
{
    struct tls_server_link *link = link_of(ssl);
    bool is_client = strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0;
    if (!is_client && strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) != 0)
        return;
    long len = 0;
    unsigned char *secret = OPENSSL_hexstr2buf(strrchr(line, ' ') + 1, &len);
    assert(secret != NULL && len > 0 && (size_t)len <= sizeof link->client_secret);
    memcpy(is_client ? link->client_secret : link->server_secret, secret, (size_t)len);
    OPENSSL_free(secret);
    link->secret_bytes = (size_t)len;
    *(is_client ? &link->sequence_in : &link->sequence_out) = 0;
}

/* Counts records. A record's header is told before its content when it is sent, and so it is when it is received. */
static void on_message(int is_sent, int version, int type, const void *data, size_t len, SSL *ssl, void *context)
{
    (void)version;
    (void)context;
    struct tls_server_link *link = link_of(ssl);
    uint64_t *sequence = is_sent ? &link->sequence_out : &link->sequence_in;
    const uint8_t *bytes = data;
    if (type == SSL3_RT_HEADER) {
        *sequence = bytes[0] == SSL3_RT_CHANGE_CIPHER_SPEC ? 0 : *sequence + 1;
    } else if (type == SSL3_RT_HANDSHAKE && len > 0 && bytes[0] == KEY_UPDATE) {
        *sequence = 0;
        (*(is_sent ? &link->updates_sent : &link->updates_received))++;
    } else if (type == SSL3_RT_ALERT && len == 2) {
        *(is_sent ? &link->alert_sent : &link->alert_received) = bytes[1];
    }
}

/* ---- Server ------------------------------------------------------------------------------------ */

static void use_certificate(struct tls_server *server)
{
    const struct tls_server_options *options = &server->options;
    const struct wsr_certificate *certificate = options->certificate;
    if (certificate == NULL) {
        int rc = wsr_certificate_create(&server->own, NULL, &wsr_certificate_local);
        assert(rc == 0);
        (void)rc;
        certificate = &server->own;
    }
    int done = SSL_CTX_use_certificate(server->context, certificate->x509) == 1 &&
               SSL_CTX_use_PrivateKey(server->context, certificate->key) == 1;
    for (size_t i = 0; options->chain != NULL && options->chain[i] != NULL; i++)
        done = done && SSL_CTX_add1_chain_cert(server->context, options->chain[i]->x509) == 1;
    SSL_CTX_set_mode(server->context, SSL_MODE_NO_AUTO_CHAIN);
    if (options->client_authority != NULL) {
        X509 *authority = options->client_authority->x509;
        int mode = SSL_VERIFY_PEER | (options->demands_certificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
        SSL_CTX_set_verify(server->context, mode, NULL);
        done = done && X509_STORE_add_cert(SSL_CTX_get_cert_store(server->context), authority) == 1 &&
               SSL_CTX_add_client_CA(server->context, authority) == 1;
    }
    assert(done);
}

/* Whatever the machine's configuration of OpenSSL says. */
static void use_versions(struct tls_server *server)
{
    const struct tls_server_options *options = &server->options;
    SSL_CTX_clear_options(server->context, SSL_OP_NO_SSL_MASK);
    int done = SSL_CTX_set_min_proto_version(server->context, options->version_min ? options->version_min
                                                              : options->version_max ? options->version_max
                                                                                     : TLS1_2_VERSION) == 1 &&
               SSL_CTX_set_max_proto_version(server->context, options->version_max) == 1;
    if (options->version_max != 0 && options->version_max < TLS1_2_VERSION)
        SSL_CTX_set_security_level(server->context, 0);
    const char *ciphers = options->ciphers != NULL ? options->ciphers : OSSL_default_cipher_list();
    done = done && SSL_CTX_set_cipher_list(server->context, ciphers) == 1;
    if (options->ciphersuites != NULL)
        done = done && SSL_CTX_set_ciphersuites(server->context, options->ciphersuites) == 1;
    if (options->groups != NULL)
        done = done && SSL_CTX_set1_groups_list(server->context, options->groups) == 1;
    assert(done);
}

static void use_sessions(struct tls_server *server)
{
    const struct tls_server_options *options = &server->options;
    static const unsigned char name[] = "tls_server";
    int tickets = options->tickets_count < 0 ? 0 : options->tickets_count;
    int done = SSL_CTX_set_session_id_context(server->context, name, sizeof name) == 1;
    assert(tickets <= TICKETS_MAX);
    if (options->tickets_count != 0)
        done = done && SSL_CTX_set_num_tickets(server->context, (size_t)tickets) == 1;
    if (options->session_seconds > 0)
        SSL_CTX_set_timeout(server->context, options->session_seconds);
    if (options->resumes_nothing || !options->keeps_sessions)
        SSL_CTX_set_session_cache_mode(server->context, SSL_SESS_CACHE_OFF);
    if (options->resumes_nothing || options->keeps_sessions)
        SSL_CTX_set_options(server->context, SSL_OP_NO_TICKET);
    if (options->may_renegotiate)
        SSL_CTX_set_options(server->context, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    assert(done);
}

struct tls_server *tls_server_create(const struct tls_server_options *options)
{
    struct tls_server *server = calloc(1, sizeof *server);
    assert(server != NULL);
    server->options = *options;
    server->context = SSL_CTX_new(TLS_server_method());
    assert(server->context != NULL);
    const char *protocol = options->protocol != NULL ? options->protocol : "http/1.1";
    server->protocol[0] = (uint8_t)strlen(protocol);
    memcpy(server->protocol + 1, protocol, server->protocol[0]);
    use_versions(server);
    use_certificate(server);
    use_sessions(server);
    SSL_CTX_set_client_hello_cb(server->context, on_client_hello, server);
    SSL_CTX_set_alpn_select_cb(server->context, on_protocols, server);
    SSL_CTX_set_keylog_callback(server->context, on_key_log);
    SSL_CTX_set_msg_callback(server->context, on_message);
    return server;
}

void tls_server_free(struct tls_server *server)
{
    if (server == NULL)
        return;
    SSL_CTX_free(server->context);
    wsr_certificate_free(&server->own);
    free(server);
}

/* ---- Connections ------------------------------------------------------------------------------- */

struct tls_server_link *tls_server_accept(struct tls_server *server)
{
    struct tls_server_link *link = calloc(1, sizeof *link);
    assert(link != NULL);
    link->server = server;
    link->alert_received = link->alert_sent = -1;
    link->ssl = SSL_new(server->context);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    assert(link->ssl != NULL && in != NULL && out != NULL);
    SSL_set_bio(link->ssl, in, out);
    SSL_set_app_data(link->ssl, link);
    SSL_set_accept_state(link->ssl);
    return link;
}

void tls_server_drop(struct tls_server_link *link)
{
    if (link == NULL)
        return;
    SSL_set_shutdown(link->ssl, SSL_SENT_SHUTDOWN);     /* or the session could not be resumed */
    SSL_free(link->ssl);
    free(link->received);
    free(link);
}

static void fail(struct tls_server_link *link)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    link->failure = reason != NULL ? reason : "unknown";
    link->state = TLS_SERVER_FAILED;
    ERR_clear_error();
}

static void note_handshake(struct tls_server_link *link)
{
    link->state = TLS_SERVER_OPEN;
    link->was_resumed = SSL_session_reused(link->ssl) == 1;
    X509 *certificate = SSL_get0_peer_certificate(link->ssl);
    if (certificate != NULL)
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, link->client_name,
                                  sizeof link->client_name);
}

static void read_data(struct tls_server_link *link)
{
    for (;;) {
        link->received = realloc(link->received, link->received_bytes + CHUNK_BYTES);
        assert(link->received != NULL);
        int rc = SSL_read(link->ssl, link->received + link->received_bytes, CHUNK_BYTES);
        if (rc > 0) {
            link->received_bytes += (size_t)rc;
            continue;
        }
        int why = SSL_get_error(link->ssl, rc);
        if (why == SSL_ERROR_ZERO_RETURN)
            link->state = TLS_SERVER_CLOSED;
        else if (why != SSL_ERROR_WANT_READ)
            fail(link);
        return;
    }
}

/* Its first flight is there to be taken, and the secret for what follows. */
static void send_early_ticket(struct tls_server_link *link)
{
    static const uint8_t ticket[] = { 4, 0, 0, 18, 0, 0, 14, 16, 1, 2, 3, 4, 1, 0, 0, 4, 't', 'i', 'c', 'k', 0, 0 };
    uint8_t record[sizeof ticket + 1 + TLS_CRAFT_OVERHEAD];
    const SSL_CIPHER *cipher = SSL_get_current_cipher(link->ssl);
    const struct wsr_tls_suite *suite =
        cipher != NULL ? wsr_tls_suite_find(WSR_TLS_1_3, SSL_CIPHER_get_protocol_id(cipher)) : NULL;
    struct wsr_tls_key key;
    if (suite == NULL || link->secret_bytes == 0 || link->has_sent_early)
        return;
    int rc = wsr_tls_key_from_secret(&key, suite, link->server_secret);
    assert(rc == 0);
    (void)rc;
    tls_server_inject(link, record, tls_craft_plain(suite, &key, SSL3_RT_HANDSHAKE, ticket, sizeof ticket, 0, record));
    link->has_sent_early = true;
}

void tls_server_feed(struct tls_server_link *link, const void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        int taken = BIO_write(SSL_get_rbio(link->ssl), (const uint8_t *)data + at,
                              (int)(len - at > CHUNK_BYTES ? CHUNK_BYTES : len - at));
        assert(taken > 0);
        at += (size_t)taken;
    }
    ERR_clear_error();
    if (link->state == TLS_SERVER_SHAKING) {
        int rc = SSL_do_handshake(link->ssl);
        if (rc == 1)
            note_handshake(link);
        else if (SSL_get_error(link->ssl, rc) != SSL_ERROR_WANT_READ)
            fail(link);
        if (link->server->options.has_early_ticket)
            send_early_ticket(link);
    }
    if (link->state == TLS_SERVER_OPEN)
        read_data(link);
    ERR_clear_error();
}

size_t tls_server_take(struct tls_server_link *link, void *out, size_t room)
{
    int taken = BIO_read(SSL_get_wbio(link->ssl), out, room > INT32_MAX ? INT32_MAX : (int)room);
    return taken > 0 ? (size_t)taken : 0;
}

size_t tls_server_take_record(struct tls_server_link *link, void *out, size_t room)
{
    char *waiting;
    long len = BIO_get_mem_data(SSL_get_wbio(link->ssl), &waiting);
    if (len < (long)HEADER_BYTES)
        return 0;
    size_t record_bytes = HEADER_BYTES + wsr_load_be16((const uint8_t *)waiting + 3);
    assert(record_bytes <= (size_t)len && record_bytes <= room);
    return tls_server_take(link, out, record_bytes);
}

size_t tls_server_waiting(const struct tls_server_link *link)
{
    return BIO_ctrl_pending(SSL_get_wbio(link->ssl));
}

/* ---- What the server does of itself ------------------------------------------------------------ */

void tls_server_write(struct tls_server_link *link, const void *data, size_t len, size_t record_bytes)
{
    size_t most = record_bytes > 0 ? record_bytes : SSL3_RT_MAX_PLAIN_LENGTH;
    assert(most <= SSL3_RT_MAX_PLAIN_LENGTH);
    for (size_t at = 0; at < len;) {
        int written = SSL_write(link->ssl, (const uint8_t *)data + at, (int)(len - at > most ? most : len - at));
        assert(written > 0);
        at += (size_t)written;
    }
}

static void go_on(struct tls_server_link *link)
{
    int rc = SSL_do_handshake(link->ssl);
    if (rc != 1 && SSL_get_error(link->ssl, rc) != SSL_ERROR_WANT_READ)
        fail(link);
}

void tls_server_update_keys(struct tls_server_link *link, bool asks)
{
    int rc = SSL_key_update(link->ssl, asks ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
    assert(rc == 1);
    (void)rc;
    go_on(link);
}

void tls_server_send_tickets(struct tls_server_link *link, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        int rc = SSL_new_session_ticket(link->ssl);
        assert(rc == 1);
        (void)rc;
        go_on(link);
    }
}

void tls_server_renegotiate(struct tls_server_link *link)
{
    int rc = SSL_renegotiate(link->ssl);
    assert(rc == 1);
    (void)rc;
    go_on(link);
}

void tls_server_close(struct tls_server_link *link)
{
    SSL_shutdown(link->ssl);
}

void tls_server_inject(struct tls_server_link *link, const void *data, size_t len)
{
    int written = BIO_write(SSL_get_wbio(link->ssl), data, (int)len);
    assert(written == (int)len);
    (void)written;
}

/* ---- A client of OpenSSL ----------------------------------------------------------------------- */

void tls_server_carry(struct tls_server_link *link, SSL *client)
{
    uint8_t chunk[CHUNK_BYTES];
    size_t taken;
    int read, written = 0;
    while ((read = BIO_read(SSL_get_wbio(client), chunk, sizeof chunk)) > 0)
        tls_server_feed(link, chunk, (size_t)read);
    while ((taken = tls_server_take(link, chunk, sizeof chunk)) > 0) {
        written = BIO_write(SSL_get_rbio(client), chunk, (int)taken);
        assert(written == (int)taken);
    }
    (void)written;
}

int tls_server_shake(struct tls_server_link *link, SSL *client)
{
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    assert(in != NULL && out != NULL);
    SSL_set_bio(client, in, out);
    SSL_set_connect_state(client);
    int rc;
    do {
        ERR_clear_error();
        rc = SSL_do_handshake(client);
        if (rc != 1 && SSL_get_error(client, rc) != SSL_ERROR_WANT_READ)
            return rc;
        tls_server_carry(link, client);
    } while (rc != 1 && BIO_ctrl_pending(in) > 0);
    return rc;
}
