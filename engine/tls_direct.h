/* TLS after the handshake with keys of our own: data, alerts, tickets, KeyUpdate, in either role. What OpenSSL does
 * with the same records is the specification; RFC 8446 4.6, 5, 6, RFC 5246 6, 7.2, 7.4.1.1. */
#ifndef WSR_TLS_DIRECT_H
#define WSR_TLS_DIRECT_H

#include "tls_record.h"

struct wsr_tls_direct;

/* A NewSessionTicket of TLS 1.3, whole, with its header of 4 bytes; @message is lent for the call. */
typedef void (*wsr_tls_ticket)(struct wsr_tls_direct *direct, struct wsr_bytes message);

enum wsr_tls_direct_state {
    WSR_TLS_DIRECT_OPEN,         /* zero: data goes both ways */
    WSR_TLS_DIRECT_CLOSED,       /* close_notify came: nothing more is read, sending goes on */
    WSR_TLS_DIRECT_FAILED        /* nothing goes any more; an alert may be in the output */
};

struct wsr_tls_direct {
    const struct wsr_tls_suite *suite;     /* NULL = not started */
    struct wsr_tls_key in, out;
    wsr_tls_ticket ticket;       /* NULL = they are read over */
    struct wsr_tls_ciphers *ciphers;       /* of the shared; set by wsr_tls_direct_start() */
    uint8_t *message;            /* malloc: a handshake message that comes in pieces; NULL when none, or when it is only
                                    counted */
    uint32_t message_used;       /* its bytes so far; 0 = none has begun */
    uint32_t message_bytes;      /* the whole of it, header included; 0 = not known yet */
    uint32_t message_room;       /* of the block */
    uint8_t state;               /* enum wsr_tls_direct_state, changed by one function only */
    bool is_server;              /* the role is the server's: what the peer may send is a client's */
    bool has_kernel;             /* the kernel opens and seals: alerts in the output stay as they are. Set by whoever
                                    hands over the keys, and by wsr_tls_direct_control() */
    bool has_closed;             /* close_notify was written: it was our last word, no alert follows it */
    uint8_t empty_count;         /* records without content in a row */
    uint8_t warnings_count;      /* alerts in a row that are none to end for */
    bool owes_update;            /* the peer asked for a KeyUpdate: it goes before the next record */
    uint8_t output_bytes;
    uint8_t output[64];          /* alerts, sealed: two fit, and there are never more */
};

/* With @suite, in and out, and what else is wanted of the fields, set by the caller, all others zero: begin. Returns 0
 * or WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_tls_direct_start(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared);
void wsr_tls_direct_free(struct wsr_tls_direct *direct);      /* keys are wiped, here and where they were put to use */

/* The header of a record is there: can it be one? Returns the record's whole length, or 0: then the @header alone is
 * what wsr_tls_direct_open() is to be given, for its failure. */
size_t wsr_tls_direct_length(const struct wsr_tls_direct *direct, const uint8_t header[WSR_TLS_HEADER_BYTES]);

/* One whole record, opened where it lies. *event becomes NOTHING, DATA, CLOSED or FAILURE; NOTHING for good after one
 * of the last two. */
void wsr_tls_direct_open(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared, uint8_t *record, size_t len,
                         struct wsr_tls_event *event);
/* The same for what the kernel has opened; KEYS when `in` was renewed. Alerts stay unsealed in the output: the newest
 * one. Given data too, it knows all that happens between messages and alerts and gives DATA; without, those of TLS 1.3
 * may be interleaved, and alerts that are none to end for are counted as if they came in a row. */
void wsr_tls_direct_control(struct wsr_tls_direct *direct, uint8_t type, struct wsr_bytes content,
                            struct wsr_tls_event *event);

/* See wsr_tls_seal(). A KeyUpdate of our own goes before it when this key has sealed enough (RFC 8446 5.5). Returns
 * WSR_ERR_INVALID_STATE too: FAILED, close_notify was written, or the sequence numbers are used up, which only TLS 1.2
 * can come to. After any error but for the first two nothing more can be sealed. */
WSR_MUST_USE ssize_t wsr_tls_direct_seal(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared,
                                         const struct iovec *parts, size_t parts_count, uint8_t *out);
#define WSR_TLS_DIRECT_OWED_MAX 32u        /* bytes of a KeyUpdate */

/* Records that one key of TLS 1.3 seals before we renew it: less than the 2^24.5 after which AES-GCM comes near its
 * bound (RFC 8446 5.5). */
#define WSR_TLS_DIRECT_RECORDS_MAX (UINT64_C(1) << 24)

/* With the kernel: what is owed, as a handshake message that it is to seal before it gets `out`, which is the next key
 * already. Returns 0 or WSR_ERR_MEMORY. */
#define WSR_TLS_DIRECT_UPDATE_BYTES 5u
WSR_MUST_USE int wsr_tls_direct_update(struct wsr_tls_direct *direct, uint8_t message[WSR_TLS_DIRECT_UPDATE_BYTES]);

/* Put an alert into the output. close_notify, warning (1) of 0, is the last one; a fatal one (2) is FAILED. No effect
 * after either. */
void wsr_tls_direct_alert(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared, uint8_t level,
                          uint8_t description);

#endif
