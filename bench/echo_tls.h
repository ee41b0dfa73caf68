/* One TLS connection of the echo server as bytes in, bytes out; knows no socket. OpenSSL makes the handshake; then it
 * opens and seals the records, or, with the same keys, the engine's own way does, which costs less: a slow server would
 * be what a load measures. */
#ifndef WSR_ECHO_TLS_H
#define WSR_ECHO_TLS_H

#include "echo_queue.h"
#include "echo_tls_context.h"
#include "engine/tls_direct.h"

/* Room for a whole record in either direction, so that a pool's block can hold one. */
#define WSR_ECHO_TLS_BLOCK_BYTES (WSR_TLS_RECORD_MAX + 64u)

struct wsr_echo_tls_counts {
    uint64_t handshakes;               /* that ended well */
    uint64_t resumed;                  /* of those, of an earlier session */
    uint64_t direct;                   /* of those, with records by the engine's way */
    uint64_t failures;                 /* connections that ended with an alert or with no TLS at all */
    const char *failure;               /* why the last of them did: static; NULL when none did */
};

/* What the connections of one worker share. */
struct wsr_echo_tls_shared {
    struct wsr_echo_tls_context *context;
    struct wsr_echo_pool *pool;        /* with blocks of WSR_ECHO_TLS_BLOCK_BYTES */
    BIO_METHOD *method;
    uint8_t *opened;                   /* where OpenSSL puts what it has opened */
    struct wsr_echo_block *lent;       /* an opened record that had come in pieces, until the next call; or NULL */
    struct wsr_tls_shared direct;
    struct wsr_echo_tls_counts counts;
};

/* Returns 0 or WSR_ERR_MEMORY; to be freed in both cases, after the last connection. */
WSR_MUST_USE int wsr_echo_tls_shared_init(struct wsr_echo_tls_shared *shared, struct wsr_echo_tls_context *context,
                                          struct wsr_echo_pool *pool);
void wsr_echo_tls_shared_free(struct wsr_echo_tls_shared *shared);

struct wsr_echo_tls;

/* Waits for a client's hello. NULL without memory. */
struct wsr_echo_tls *wsr_echo_tls_create(struct wsr_echo_tls_shared *shared);
void wsr_echo_tls_free(struct wsr_echo_tls *tls);      /* NULL is allowed */

struct wsr_echo_tls_event {
    enum wsr_tls_event_type type;      /* NOTHING, DATA, CLOSED or FAILURE */
    struct wsr_bytes data;             /* of DATA, not empty; valid until the next call for any connection */
};

/*
 * Take bytes until one event is complete or the bytes end; @in may be written to. Returns the bytes taken, 1 to @len.
 * What is to be sent for it (handshake, alert) is put behind @wire. CLOSED: close_notify came, the client sends no
 * more; FAILURE: nothing goes any more, an alert may be in @wire. From both on all bytes are taken and ignored.
 */
WSR_MUST_USE size_t wsr_echo_tls_feed(struct wsr_echo_tls *tls, uint8_t *in, size_t len, struct wsr_echo_queue *wire,
                                      struct wsr_echo_tls_event *event);

/* Seal all of @plain, which is empty before the handshake has ended, and put it behind @wire. Returns 0 or
 * WSR_ERR_MEMORY. After FAILURE it is dropped. */
WSR_MUST_USE int wsr_echo_tls_seal(struct wsr_echo_tls *tls, struct wsr_echo_queue *plain,
                                   struct wsr_echo_queue *wire);

/* Nothing more will be sealed: close_notify behind @wire, when that is due. Once; later calls do nothing. */
void wsr_echo_tls_close(struct wsr_echo_tls *tls, struct wsr_echo_queue *wire);

/* SSL_CTX_keylog_cb_func: takes the secrets of TLS 1.3 as they are made. */
void wsr_echo_tls_take_secret(const SSL *ssl, const char *line);

#endif
