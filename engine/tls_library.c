/* The SSL is given one whole record at a time: until the handshake has ended, so that nothing behind it has been read
 * when the keys go elsewhere; afterwards, so that what it gives back for one record is known to fit. */
#include "tls_library.h"

#include "tls_text.h"

#include <openssl/err.h>

static void fail(struct wsr_tls_handshake *handshake, struct wsr_tls_event *event)
{
    event->type = WSR_TLS_EVENT_FAILURE;
    event->text = handshake->is_short ? "no memory for TLS" : wsr_tls_text_of_handshake(handshake);
    event->alert = handshake->alert;
    ERR_clear_error();
}

static void give(struct wsr_tls_handshake *handshake, const uint8_t *record, size_t len)
{
    handshake->in = record;
    handshake->in_len = len;
    ERR_clear_error();
}

void wsr_tls_library_shake(struct wsr_tls_handshake *handshake, const uint8_t *record, size_t len,
                           struct wsr_tls_event *event)
{
    give(handshake, record, len);
    int rc = SSL_do_handshake(handshake->ssl);
    int error = SSL_get_error(handshake->ssl, rc);
    if (rc == 1) {
        event->type = WSR_TLS_EVENT_READY;
    } else if (error == SSL_ERROR_ZERO_RETURN) {
        event->type = WSR_TLS_EVENT_FAILURE;
        event->text = "the server closed TLS during the handshake (close_notify); its log may say why";
    } else if (error != SSL_ERROR_WANT_READ || handshake->is_short) {
        fail(handshake, event);
    }
}

void wsr_tls_library_open(struct wsr_tls_handshake *handshake, struct wsr_tls_shared *shared, const uint8_t *record,
                          size_t len, struct wsr_tls_event *event)
{
    /* What a record holds is less than the record. */
    uint8_t *block = shared->take(shared->context, len);
    if (block == NULL) {
        handshake->is_short = true;
        fail(handshake, event);
        return;
    }
    give(handshake, record, len);
    size_t read = 0;
    int rc = SSL_read_ex(handshake->ssl, block, len, &read);
    if (rc == 1) {
        assert(SSL_pending(handshake->ssl) == 0 && handshake->in_len == 0);
        event->type = WSR_TLS_EVENT_DATA;
        event->data = wsr_bytes_of(block, read);
        event->block = block;
        return;
    }
    shared->release(shared->context, block);
    int error = SSL_get_error(handshake->ssl, rc);
    if (error == SSL_ERROR_ZERO_RETURN)
        event->type = WSR_TLS_EVENT_CLOSED;
    else if (error != SSL_ERROR_WANT_READ || handshake->is_short)
        fail(handshake, event);
    else
        SSL_free_buffers(handshake->ssl);    /* a ticket made it take that for writing, 16 KiB, till the next write */
}

/* All of @parts in one piece: the only one, or a copy in a block, which is the caller's to release. */
static const uint8_t *join(struct wsr_tls_shared *shared, const struct iovec *parts, size_t parts_count,
                           uint8_t **block, size_t *len)
{
    *block = NULL;
    *len = 0;
    for (size_t i = 0; i < parts_count; i++)
        *len += parts[i].iov_len;
    if (parts_count == 1)
        return parts[0].iov_base;
    uint8_t *to = *block = shared->take(shared->context, *len);
    if (*block == NULL)
        return NULL;
    for (size_t i = 0; i < parts_count; i++) {
        memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
    return *block;
}

ssize_t wsr_tls_library_seal(struct wsr_tls_handshake *handshake, struct wsr_tls_shared *shared,
                             const struct iovec *parts, size_t parts_count, uint8_t *out, size_t room)
{
    uint8_t *block;
    size_t len, written = 0;
    const uint8_t *plain = join(shared, parts, parts_count, &block, &len);
    if (plain == NULL)
        return WSR_ERR_MEMORY;
    give(handshake, NULL, 0);
    handshake->out = out;
    handshake->out_used = 0;
    handshake->out_room = room;
    int rc = SSL_write_ex(handshake->ssl, plain, len, &written);
    handshake->out = NULL;
    if (block != NULL)
        shared->release(shared->context, block);
    if (rc != 1 || written != len) {
        ERR_clear_error();
        return WSR_ERR_MEMORY;   /* a connection that is open and a BIO that takes all: nothing else can be missing */
    }
    return (ssize_t)handshake->out_used;
}

void wsr_tls_library_close(struct wsr_tls_handshake *handshake)
{
    give(handshake, NULL, 0);
    (void)SSL_shutdown(handshake->ssl);
    ERR_clear_error();
}
