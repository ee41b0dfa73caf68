/* The SSL of one connection and the BIO through which it reads what it is given and writes where it is told to. */
#include "tls_handshake.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_once_t method_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;       /* for the life of the process; NULL without memory */

static int read_given(BIO *bio, char *to, int len)
{
    struct wsr_tls_handshake *handshake = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    if (handshake->in_len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t taken = handshake->in_len < (size_t)len ? handshake->in_len : (size_t)len;
    memcpy(to, handshake->in, taken);
    handshake->in += taken;
    handshake->in_len -= taken;
    return (int)taken;
}

/* Keep @len bytes for which nobody has said where to. */
static bool spill(struct wsr_tls_handshake *handshake, const char *from, size_t len)
{
    size_t wanted = handshake->spill_used + len;
    if (wanted > handshake->spill_room) {
        size_t room = wanted < 1024 ? 1024 : wanted * 2;
        uint8_t *grown = realloc(handshake->spill, room);
        if (grown == NULL) {
            handshake->is_short = true;
            return false;
        }
        handshake->spill = grown;
        handshake->spill_room = room;
    }
    memcpy(handshake->spill + handshake->spill_used, from, len);
    handshake->spill_used = wanted;
    return true;
}

static int write_out(BIO *bio, const char *from, int len)
{
    struct wsr_tls_handshake *handshake = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    if (handshake->out != NULL && handshake->out_room - handshake->out_used >= (size_t)len) {
        memcpy(handshake->out + handshake->out_used, from, (size_t)len);
        handshake->out_used += (size_t)len;
        return len;
    }
    assert(handshake->out == NULL);      /* or the order of the records would be lost */
    return spill(handshake, from, (size_t)len) ? len : -1;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static void make_method(void)
{
    BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wsring");
    if (made != NULL && BIO_meth_set_read(made, read_given) && BIO_meth_set_write(made, write_out) &&
        BIO_meth_set_ctrl(made, control)) {
        method = made;
        return;
    }
    BIO_meth_free(made);
}

struct wsr_tls_handshake *wsr_tls_handshake_create(struct wsr_tls_context *context, const char *name, uint16_t port)
{
    size_t peer_bytes = strlen(name) + sizeof ":65535";
    struct wsr_tls_handshake *handshake = calloc(1, sizeof *handshake + peer_bytes);
    pthread_once(&method_once, make_method);
    if (handshake == NULL || method == NULL)
        goto fail;
    snprintf(handshake->peer, peer_bytes, "%s:%u", name, port);
    handshake->is_insecure = wsr_tls_context_is_insecure(context);
    handshake->ssl = wsr_tls_context_open(context, handshake, name);
    BIO *bio = handshake->ssl != NULL ? BIO_new(method) : NULL;
    if (bio == NULL)
        goto fail;
    BIO_set_data(bio, handshake);
    BIO_set_init(bio, 1);
    SSL_set_bio(handshake->ssl, bio, bio);
    SSL_set_connect_state(handshake->ssl);
    return handshake;

fail:
    wsr_tls_handshake_free(handshake);
    return NULL;
}

void wsr_tls_handshake_free(struct wsr_tls_handshake *handshake)
{
    if (handshake == NULL)
        return;
    /* An SSL that is freed without a word of its end takes the session with it, so that it cannot be resumed. */
    if (handshake->ssl != NULL && SSL_is_init_finished(handshake->ssl))
        SSL_set_shutdown(handshake->ssl, SSL_SENT_SHUTDOWN);
    SSL_free(handshake->ssl);
    OPENSSL_cleanse(handshake->client_secret, sizeof handshake->client_secret);
    OPENSSL_cleanse(handshake->server_secret, sizeof handshake->server_secret);
    free(handshake->spill);
    free(handshake);
}
