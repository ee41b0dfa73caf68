/* OpenSSL's part of a connection: the SSL, the bytes that go in and out of it, and what its callbacks tell. */
#ifndef WSR_TLS_HANDSHAKE_H
#define WSR_TLS_HANDSHAKE_H

#include "tls_context.h"
#include "tls_key.h"

struct wsr_tls_handshake {
    SSL *ssl;
    const uint8_t *in;           /* what the SSL may read now */
    size_t in_len;
    uint8_t *out;                /* where it may write; NULL = to spill */
    size_t out_used, out_room;
    uint8_t *spill;              /* malloc: what there was no room for */
    size_t spill_used, spill_room;
    bool is_short;               /* no memory for it: the connection is lost */
    bool is_insecure;
    uint64_t fed_count;          /* records that it was given after the handshake, when others open them */
    /* By callback of tls_context.c: the secrets of TLS 1.3 as the key log has them, and the last alert either way. */
    uint8_t client_secret[WSR_TLS_SECRET_MAX], server_secret[WSR_TLS_SECRET_MAX];
    uint8_t secret_bytes;        /* of both; 0 = not known (yet) */
    uint8_t alert;               /* description of the last fatal alert; 0 = none */
    bool was_alert_received;     /* it is the server's */
    char peer[];                 /* "name:port": whose sessions may be resumed */
};

/* Makes the SSL with its BIO. NULL without memory. */
WSR_MUST_USE struct wsr_tls_handshake *wsr_tls_handshake_create(struct wsr_tls_context *context, const char *name,
                                                                uint16_t port);
void wsr_tls_handshake_free(struct wsr_tls_handshake *handshake);

#endif
