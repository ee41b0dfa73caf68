/* SPDX-License-Identifier: MIT */
#include "echo_tls.h"

#include <stdlib.h>

#include <openssl/err.h>

#define PLAIN_MAX 16384u               /* of one record */
#define PARTS_MAX 8u                   /* of one record: pieces of the queue */

enum tls_state {
    TLS_SHAKING = 0,
    TLS_OPEN = 1,
    TLS_ENDED = 2,       /* close_notify came: nothing more is read, what is sent still goes */
    TLS_FAILED = 3
};

static const uint8_t may_follow[] = {
    [TLS_SHAKING] = 1u << TLS_OPEN | 1u << TLS_FAILED,
    [TLS_OPEN] = 1u << TLS_ENDED | 1u << TLS_FAILED,
    [TLS_ENDED] = 1u << TLS_FAILED,
    [TLS_FAILED] = 0,
};

struct wsr_echo_tls {
    struct wsr_echo_tls_shared *shared;
    SSL *ssl;                          /* NULL with records by `direct` */
    const uint8_t *in;                 /* what OpenSSL may read now */
    size_t in_len;
    struct wsr_echo_queue *wire;       /* where it may write now */
    uint8_t state;                     /* enum tls_state */
    bool has_closed;                   /* close_notify was written */
    uint8_t secret_bytes;              /* of both; 0 = not known (yet) */
    uint32_t written_count;            /* records of the last call on the SSL */
    uint8_t client_secret[WSR_TLS_SECRET_MAX], server_secret[WSR_TLS_SECRET_MAX];
    struct wsr_tls_direct direct;
    struct wsr_echo_block *record;     /* what there is of a record that comes in pieces, or NULL */
};

static void enter(struct wsr_echo_tls *tls, enum tls_state to)
{
    assert(may_follow[tls->state] & (1u << to));
    tls->state = (uint8_t)to;
}

/* ---- OpenSSL's way to the bytes ---- */

static int bio_read(BIO *bio, char *out, size_t len, size_t *got)
{
    struct wsr_echo_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (tls->in_len == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *got = len < tls->in_len ? len : tls->in_len;
    memcpy(out, tls->in, *got);
    tls->in += *got;
    tls->in_len -= *got;
    return 1;
}

static int bio_write(BIO *bio, const char *in, size_t len, size_t *taken)
{
    struct wsr_echo_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (wsr_echo_queue_append(tls->wire, tls->shared->pool, in, len) < 0)
        return 0;
    *taken = len;
    return 1;
}

static long bio_control(BIO *bio, int what, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return what == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *make_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wsring echo");
    if (method && BIO_meth_set_read_ex(method, bio_read) == 1 && BIO_meth_set_write_ex(method, bio_write) == 1 &&
        BIO_meth_set_ctrl(method, bio_control) == 1 && BIO_meth_set_create(method, bio_create) == 1)
        return method;
    BIO_meth_free(method);
    return NULL;
}

/* ---- What OpenSSL tells of the handshake ---- */

/* SSL_set_msg_callback(): each record that leaves shows its header. */
static void count_record(int is_written, int version, int type, const void *data, size_t len, SSL *ssl, void *tls)
{
    (void)version;
    (void)data;
    (void)len;
    (void)ssl;
    if (is_written && type == SSL3_RT_HEADER)
        ((struct wsr_echo_tls *)tls)->written_count++;
}

/* "LABEL CLIENT-RANDOM SECRET", both in hexadecimal digits. */
void wsr_echo_tls_take_secret(const SSL *ssl, const char *line)
{
    static const char of_client[] = "CLIENT_TRAFFIC_SECRET_0 ", of_server[] = "SERVER_TRAFFIC_SECRET_0 ";
    struct wsr_echo_tls *tls = SSL_get_app_data(ssl);
    uint8_t *to = strncmp(line, of_client, sizeof of_client - 1) == 0   ? tls->client_secret
                  : strncmp(line, of_server, sizeof of_server - 1) == 0 ? tls->server_secret
                                                                        : NULL;
    const char *digits = strrchr(line, ' ') + 1;
    size_t bytes;
    if (to && OPENSSL_hexstr2buf_ex(to, WSR_TLS_SECRET_MAX, &bytes, digits, '\0') == 1)
        tls->secret_bytes = (uint8_t)bytes;
}

/* ---- Start and end ---- */

static uint8_t *take_memory(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

static void release_memory(void *context, uint8_t *block)
{
    (void)context;
    free(block);
}

int wsr_echo_tls_shared_init(struct wsr_echo_tls_shared *shared, struct wsr_echo_tls_context *context,
                             struct wsr_echo_pool *pool)
{
    *shared = (struct wsr_echo_tls_shared){ .context = context, .pool = pool };
    shared->opened = malloc(PLAIN_MAX);
    shared->method = make_method();
    shared->direct = (struct wsr_tls_shared){ .take = take_memory, .release = release_memory };
    return shared->opened && shared->method ? 0 : WSR_ERR_MEMORY;
}

void wsr_echo_tls_shared_free(struct wsr_echo_tls_shared *shared)
{
    free(shared->opened);
    wsr_tls_ciphers_free(shared->direct.ciphers);
    BIO_meth_free(shared->method);
}

struct wsr_echo_tls *wsr_echo_tls_create(struct wsr_echo_tls_shared *shared)
{
    struct wsr_echo_tls *tls = calloc(1, sizeof *tls);
    BIO *bio = BIO_new(shared->method);
    if (tls)
        tls->ssl = SSL_new(shared->context->library);
    if (!tls || !tls->ssl || !bio) {
        BIO_free(bio);
        wsr_echo_tls_free(tls);
        return NULL;
    }
    tls->shared = shared;
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_accept_state(tls->ssl);
    SSL_set_msg_callback(tls->ssl, count_record);
    SSL_set_msg_callback_arg(tls->ssl, tls);
    return tls;
}

void wsr_echo_tls_free(struct wsr_echo_tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    if (tls->direct.suite)
        wsr_tls_direct_free(&tls->direct);
    if (tls->record)
        wsr_echo_pool_give(tls->shared->pool, tls->record);
    OPENSSL_cleanse(tls, sizeof *tls);
    free(tls);
}

/* ---- From OpenSSL's records to direct's ---- */

static const struct wsr_tls_suite *suite_of(const SSL *ssl)
{
    /* RFC 6066 4: a client that wants short records gets them from OpenSSL only. */
    uint8_t fragment = SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl));
    if (fragment != TLSEXT_max_fragment_length_DISABLED)
        return NULL;
    return wsr_tls_suite_find((uint16_t)SSL_version(ssl), SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl)));
}

static int take_keys_of_1_2(struct wsr_echo_tls *tls, const struct wsr_tls_suite *suite)
{
    uint8_t master[WSR_TLS_MASTER_BYTES], client[WSR_TLS_RANDOM_BYTES], server[WSR_TLS_RANDOM_BYTES];
    int rc = WSR_ERR_MEMORY;
    if (SSL_SESSION_get_master_key(SSL_get_session(tls->ssl), master, sizeof master) == sizeof master &&
        SSL_get_client_random(tls->ssl, client, sizeof client) == sizeof client &&
        SSL_get_server_random(tls->ssl, server, sizeof server) == sizeof server)
        rc = wsr_tls_key_from_master(&tls->direct.in, &tls->direct.out, suite, master, client, server);
    OPENSSL_cleanse(master, sizeof master);
    return rc;
}

/* What the last call wrote, after the client's Finished, are tickets: the first records of the server's key. */
static int take_keys_of_1_3(struct wsr_echo_tls *tls, const struct wsr_tls_suite *suite)
{
    assert(tls->secret_bytes == suite->secret_bytes);
    int rc = wsr_tls_key_from_secret(&tls->direct.in, suite, tls->client_secret);
    if (rc == 0)
        rc = wsr_tls_key_from_secret(&tls->direct.out, suite, tls->server_secret);
    tls->direct.out.sequence = tls->written_count;
    return rc;
}

/* The handshake has ended well: settle who carries the records. Returns 0, WSR_ERR_MEMORY, or WSR_ERR_NOT_SUPPORTED. */
static int settle(struct wsr_echo_tls *tls)
{
    uint32_t wanted = tls->shared->context->records;
    const struct wsr_tls_suite *suite = wanted == WSR_TLS_LIBRARY ? NULL : suite_of(tls->ssl);
    if (!suite)
        return wanted == WSR_TLS_DIRECT ? WSR_ERR_NOT_SUPPORTED : 0;
    int rc = suite->version == WSR_TLS_1_3 ? take_keys_of_1_3(tls, suite) : take_keys_of_1_2(tls, suite);
    tls->direct.suite = suite;
    tls->direct.is_server = true;
    if (rc == 0)
        rc = wsr_tls_direct_start(&tls->direct, &tls->shared->direct);
    OPENSSL_cleanse(tls->client_secret, sizeof tls->client_secret);
    OPENSSL_cleanse(tls->server_secret, sizeof tls->server_secret);
    if (rc == 0) {
        SSL_free(tls->ssl);
        tls->ssl = NULL;
        tls->shared->counts.direct++;
    }
    return rc;
}

/* ---- What came in ---- */

static void fail(struct wsr_echo_tls *tls, const char *why, struct wsr_echo_tls_event *event)
{
    enter(tls, TLS_FAILED);
    tls->shared->counts.failures++;
    tls->shared->counts.failure = why;
    event->type = WSR_TLS_EVENT_FAILURE;
}

/* After a call on the SSL that returned @rc and did nothing. */
static void judge(struct wsr_echo_tls *tls, int rc, struct wsr_echo_tls_event *event)
{
    int error = SSL_get_error(tls->ssl, rc);
    if (error == SSL_ERROR_WANT_READ)
        return;
    if (error == SSL_ERROR_ZERO_RETURN) {
        enter(tls, TLS_ENDED);
        event->type = WSR_TLS_EVENT_CLOSED;
        return;
    }
    const char *why = ERR_reason_error_string(ERR_peek_error());
    ERR_clear_error();
    fail(tls, why ? why : "OpenSSL does not say why", event);
}

static void shake(struct wsr_echo_tls *tls, struct wsr_echo_tls_event *event)
{
    tls->written_count = 0;
    int rc = SSL_do_handshake(tls->ssl);
    if (rc != 1) {
        judge(tls, rc, event);
        return;
    }
    tls->shared->counts.handshakes++;
    tls->shared->counts.resumed += SSL_session_reused(tls->ssl) == 1;
    rc = settle(tls);
    if (rc == 0) {
        enter(tls, TLS_OPEN);
    } else {
        (void)SSL_shutdown(tls->ssl);
        fail(tls, rc == WSR_ERR_MEMORY ? "no memory" : "the cipher suite is none that direct can carry", event);
    }
}

static void read_by_library(struct wsr_echo_tls *tls, struct wsr_echo_tls_event *event)
{
    size_t got;
    int rc = SSL_read_ex(tls->ssl, tls->shared->opened, PLAIN_MAX, &got);
    if (rc != 1) {
        judge(tls, rc, event);
        return;
    }
    event->type = WSR_TLS_EVENT_DATA;
    event->data = (struct wsr_bytes){ tls->shared->opened, got };
}

/* An alert; with the end of TLS, close_notify. */
static void put_output(struct wsr_echo_tls *tls)
{
    struct wsr_tls_direct *direct = &tls->direct;
    if (direct->output_bytes > 0 &&
        wsr_echo_queue_append(tls->wire, tls->shared->pool, direct->output, direct->output_bytes) < 0)
        tls->has_closed = true;        /* no memory: a record is missing, so that no other may follow */
    direct->output_bytes = 0;
}

static void open_record(struct wsr_echo_tls *tls, uint8_t *record, size_t len, struct wsr_echo_tls_event *event)
{
    struct wsr_tls_event found;
    wsr_tls_direct_open(&tls->direct, &tls->shared->direct, record, len, &found);
    put_output(tls);
    if (found.type == WSR_TLS_EVENT_DATA) {
        event->type = WSR_TLS_EVENT_DATA;
        event->data = found.data;
    } else if (found.type == WSR_TLS_EVENT_CLOSED) {
        enter(tls, TLS_ENDED);
        event->type = WSR_TLS_EVENT_CLOSED;
    } else if (found.type == WSR_TLS_EVENT_FAILURE) {
        fail(tls, found.text, event);
    }
}

/* Bytes that a record has in all, of which there are those of the header; those alone when it can be none. */
static size_t length_of(const struct wsr_echo_tls *tls, const uint8_t *header)
{
    size_t len = wsr_tls_direct_length(&tls->direct, header);
    return len > 0 ? len : WSR_TLS_HEADER_BYTES;
}

static size_t add(struct wsr_echo_block *block, size_t wanted, const uint8_t *in, size_t len)
{
    size_t now = wanted - block->end < len ? wanted - block->end : len;
    memcpy(block->bytes + block->end, in, now);
    block->end += (uint32_t)now;
    return now;
}

/* A record that comes in pieces. */
static size_t gather(struct wsr_echo_tls *tls, const uint8_t *in, size_t len, struct wsr_echo_tls_event *event)
{
    struct wsr_echo_block *block = tls->record ? tls->record : wsr_echo_pool_take(tls->shared->pool);
    size_t used = 0;
    tls->record = block;
    if (!block) {
        fail(tls, "no memory", event);
        return len;
    }
    if (block->end < WSR_TLS_HEADER_BYTES)
        used = add(block, WSR_TLS_HEADER_BYTES, in, len);
    if (block->end < WSR_TLS_HEADER_BYTES)
        return used;
    size_t wanted = length_of(tls, block->bytes);
    used += add(block, wanted, in + used, len - used);
    if (block->end < wanted)
        return used;
    tls->record = NULL;
    tls->shared->lent = block;
    open_record(tls, block->bytes, wanted, event);
    return used;
}

static size_t read_direct(struct wsr_echo_tls *tls, uint8_t *in, size_t len, struct wsr_echo_tls_event *event)
{
    if (!tls->record && len >= WSR_TLS_HEADER_BYTES) {
        size_t wanted = length_of(tls, in);
        if (len >= wanted) {
            open_record(tls, in, wanted, event);
            return wanted;
        }
    }
    return gather(tls, in, len, event);
}

size_t wsr_echo_tls_feed(struct wsr_echo_tls *tls, uint8_t *in, size_t len, struct wsr_echo_queue *wire,
                         struct wsr_echo_tls_event *event)
{
    *event = (struct wsr_echo_tls_event){ .type = WSR_TLS_EVENT_NOTHING };
    if (tls->state == TLS_ENDED || tls->state == TLS_FAILED)
        return len;
    if (tls->shared->lent)
        wsr_echo_pool_give(tls->shared->pool, tls->shared->lent);
    tls->shared->lent = NULL;
    tls->wire = wire;
    if (!tls->ssl)
        return read_direct(tls, in, len, event);
    tls->in = in;
    tls->in_len = len;
    if (tls->state == TLS_SHAKING)
        shake(tls, event);
    else
        read_by_library(tls, event);
    assert(tls->in_len < len);
    return len - tls->in_len;
}

/* ---- What goes out ---- */

static int seal_by_library(struct wsr_echo_tls *tls, struct wsr_echo_queue *plain)
{
    struct iovec part;
    while (wsr_echo_queue_parts(plain, &part, 1) > 0) {
        size_t now = part.iov_len < PLAIN_MAX ? part.iov_len : PLAIN_MAX;
        if (SSL_write_ex(tls->ssl, part.iov_base, now, &now) != 1) {
            ERR_clear_error();
            return WSR_ERR_MEMORY;
        }
        wsr_echo_queue_sent(plain, tls->shared->pool, now);
    }
    return 0;
}

/* The first parts of @plain, cut to what one record carries. Returns the bytes. */
static size_t choose_parts(const struct wsr_echo_queue *plain, struct iovec *parts, size_t *count)
{
    size_t bytes = 0;
    *count = wsr_echo_queue_parts(plain, parts, PARTS_MAX);
    for (size_t i = 0; i < *count; i++) {
        if (parts[i].iov_len >= PLAIN_MAX - bytes) {
            parts[i].iov_len = PLAIN_MAX - bytes;
            *count = i + 1;
        }
        bytes += parts[i].iov_len;
    }
    return bytes;
}

static int seal_direct(struct wsr_echo_tls *tls, struct wsr_echo_queue *plain)
{
    struct iovec parts[PARTS_MAX];
    struct wsr_echo_pool *pool = tls->shared->pool;
    while (plain->bytes > 0) {
        size_t count, room;
        size_t bytes = choose_parts(plain, parts, &count);
        uint8_t *to = wsr_echo_queue_room(tls->wire, pool, bytes + WSR_TLS_SEALED_OVERHEAD + WSR_TLS_DIRECT_OWED_MAX,
                                          &room);
        if (!to)
            return WSR_ERR_MEMORY;
        ssize_t sealed = wsr_tls_direct_seal(&tls->direct, &tls->shared->direct, parts, count, to);
        if (sealed < 0)
            return (int)sealed;
        wsr_echo_queue_commit(tls->wire, (size_t)sealed);
        wsr_echo_queue_sent(plain, pool, bytes);
    }
    return 0;
}

int wsr_echo_tls_seal(struct wsr_echo_tls *tls, struct wsr_echo_queue *plain, struct wsr_echo_queue *wire)
{
    if (tls->state == TLS_FAILED || tls->has_closed)
        wsr_echo_queue_clear(plain, tls->shared->pool);
    tls->wire = wire;
    return tls->ssl ? seal_by_library(tls, plain) : seal_direct(tls, plain);
}

void wsr_echo_tls_close(struct wsr_echo_tls *tls, struct wsr_echo_queue *wire)
{
    if (tls->has_closed || (tls->state != TLS_OPEN && tls->state != TLS_ENDED))
        return;
    tls->has_closed = true;
    tls->wire = wire;
    if (!tls->ssl) {
        wsr_tls_direct_alert(&tls->direct, &tls->shared->direct, SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY);
        put_output(tls);
    } else if (SSL_shutdown(tls->ssl) < 0) {
        ERR_clear_error();             /* no memory: TCP's end has to do */
    }
}
