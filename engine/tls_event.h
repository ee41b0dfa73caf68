/* What the bytes of a TLS connection lead to, and what the connections of one worker share. */
#ifndef WSR_TLS_EVENT_H
#define WSR_TLS_EVENT_H

#include "base.h"

#define WSR_TLS_HEADER_BYTES 5u
#define WSR_TLS_RECORD_MAX (WSR_TLS_HEADER_BYTES + 16384u + 2048u)   /* of TLS 1.2; RFC 5246 6.2.3, RFC 8446 5.2 */

/* ContentType, RFC 8446 5.1. */
enum wsr_tls_type {
    WSR_TLS_CHANGE_CIPHER_SPEC = 20,
    WSR_TLS_ALERT = 21,
    WSR_TLS_HANDSHAKE = 22,
    WSR_TLS_DATA = 23
};

enum wsr_tls_event_type {
    WSR_TLS_EVENT_NOTHING,       /* bytes were taken, no event yet */
    WSR_TLS_EVENT_READY,         /* the handshake has ended well */
    WSR_TLS_EVENT_DATA,          /* data, block */
    WSR_TLS_EVENT_KEYS,          /* kernel: direct.in was renewed by the server's KeyUpdate */
    WSR_TLS_EVENT_CLOSED,        /* close_notify */
    WSR_TLS_EVENT_FAILURE        /* text, alert */
};

struct wsr_tls_event {
    enum wsr_tls_event_type type;
    struct wsr_bytes data;       /* not empty; in the fed bytes, or in block */
    uint8_t *block;              /* record memory that passes to the receiver of the event, or NULL */
    const char *text;            /* FAILURE: static sentence */
    uint8_t alert;               /* FAILURE: AlertDescription that was sent or received; 0 = none (close_notify is
                                    none) */
};

/* What the connections of one worker share. Outlives them. */
struct wsr_tls_shared {
    /* Memory for records that do not lie in one piece, or cannot be opened where they lie. The caller owns what take()
     * hands out, at least @bytes; NULL without memory. */
    uint8_t *(*take)(void *context, size_t bytes);
    void (*release)(void *context, uint8_t *block);
    void *context;
    struct wsr_tls_ciphers *ciphers;       /* of direct; NULL until first needed, see tls_record.h */
};

#endif
