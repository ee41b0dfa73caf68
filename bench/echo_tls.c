/* SPDX-License-Identifier: MIT */
#include "echo_tls.h"

#include <stdlib.h>

#include <openssl/err.h>

#define PLAIN_MAX 16384u               /* of one record */

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
    SSL *ssl;
    const uint8_t *in;                 /* what OpenSSL may read now */
    size_t in_len;
    struct wsr_echo_queue *wire;       /* where it may write now */
    uint8_t state;                     /* enum tls_state */
    bool has_closed;                   /* close_notify was written */
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

/* ---- Start and end ---- */

int wsr_echo_tls_shared_init(struct wsr_echo_tls_shared *shared, struct wsr_echo_tls_context *context,
                             struct wsr_echo_pool *pool)
{
    *shared = (struct wsr_echo_tls_shared){ .context = context, .pool = pool };
    shared->opened = malloc(PLAIN_MAX);
    shared->method = make_method();
    return shared->opened && shared->method ? 0 : WSR_ERR_MEMORY;
}

void wsr_echo_tls_shared_free(struct wsr_echo_tls_shared *shared)
{
    free(shared->opened);
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
    return tls;
}

void wsr_echo_tls_free(struct wsr_echo_tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    free(tls);
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
    int rc = SSL_do_handshake(tls->ssl);
    if (rc != 1) {
        judge(tls, rc, event);
        return;
    }
    tls->shared->counts.handshakes++;
    tls->shared->counts.resumed += SSL_session_reused(tls->ssl) == 1;
    enter(tls, TLS_OPEN);
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

size_t wsr_echo_tls_feed(struct wsr_echo_tls *tls, uint8_t *in, size_t len, struct wsr_echo_queue *wire,
                         struct wsr_echo_tls_event *event)
{
    *event = (struct wsr_echo_tls_event){ .type = WSR_TLS_EVENT_NOTHING };
    if (tls->state == TLS_ENDED || tls->state == TLS_FAILED)
        return len;
    tls->in = in;
    tls->in_len = len;
    tls->wire = wire;
    if (tls->state == TLS_SHAKING)
        shake(tls, event);
    else
        read_by_library(tls, event);
    assert(tls->in_len < len);
    return len - tls->in_len;
}

/* ---- What goes out ---- */

int wsr_echo_tls_seal(struct wsr_echo_tls *tls, struct wsr_echo_queue *plain, struct wsr_echo_queue *wire)
{
    struct iovec part;
    if (tls->state == TLS_FAILED || tls->has_closed)
        wsr_echo_queue_clear(plain, tls->shared->pool);
    tls->wire = wire;
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

void wsr_echo_tls_close(struct wsr_echo_tls *tls, struct wsr_echo_queue *wire)
{
    if (tls->has_closed || (tls->state != TLS_OPEN && tls->state != TLS_ENDED))
        return;
    tls->has_closed = true;
    tls->wire = wire;
    if (SSL_shutdown(tls->ssl) < 0)
        ERR_clear_error();             /* no memory: TCP's end has to do */
}
