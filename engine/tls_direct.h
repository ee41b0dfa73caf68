/* TLS after the handshake with keys of our own: data, alerts, tickets, KeyUpdate, in either role. What OpenSSL does
 * with the same records is the specification; RFC 8446 4.6, 5, 6, RFC 5246 6, 7.2. */
#ifndef WSR_TLS_DIRECT_H
#define WSR_TLS_DIRECT_H

#include "tls_record.h"

struct wsr_tls_direct;

/* A NewSessionTicket of TLS 1.3, whole, with its header of 4 bytes; @message is lent for the call. */
typedef void (*wsr_tls_ticket)(struct wsr_tls_direct *direct, struct wsr_bytes message);

struct wsr_tls_direct {
    const struct wsr_tls_suite *suite;     /* NULL = not started */
    struct wsr_tls_key in, out;
    wsr_tls_ticket ticket;       /* NULL = they are read over */
    uint8_t *message;            /* malloc: a handshake message that comes in pieces; NULL when none */
    uint32_t message_used;
    uint32_t message_bytes;
    uint8_t empty_count;         /* records without content in a row */
    uint8_t warnings_count;      /* alerts in a row that are none to end for */
    bool owes_update;            /* the peer asked for a KeyUpdate: it goes before the next record */
    uint8_t output_bytes;
    uint8_t output[56];          /* alert, sealed */
};

/* With @suite and in and out set by the caller, all else zero: begin. Returns 0 or WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_tls_direct_start(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared);
void wsr_tls_direct_free(struct wsr_tls_direct *direct);      /* keys are wiped */

/* The header of a record is there: can it be one? Returns the record's whole length, or 0: then the @header alone is
 * what wsr_tls_direct_open() is to be given, for its failure. */
size_t wsr_tls_direct_length(const struct wsr_tls_direct *direct, const uint8_t header[WSR_TLS_HEADER_BYTES]);

/* One whole record, opened where it lies. *event becomes NOTHING, DATA, CLOSED or FAILURE. */
void wsr_tls_direct_open(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared, uint8_t *record, size_t len,
                         struct wsr_tls_event *event);
/* The same for what the kernel has opened; KEYS when `in` was renewed. Alerts stay unsealed in the output. */
void wsr_tls_direct_control(struct wsr_tls_direct *direct, uint8_t type, struct wsr_bytes content,
                            struct wsr_tls_event *event);

/* See wsr_tls_seal(). A KeyUpdate of our own goes before it when this key has sealed enough (RFC 8446 5.5). */
WSR_MUST_USE ssize_t wsr_tls_direct_seal(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared,
                                         const struct iovec *parts, size_t parts_count, uint8_t *out);
#define WSR_TLS_DIRECT_OWED_MAX 32u        /* bytes of a KeyUpdate */

/* Put an alert into the output. */
void wsr_tls_direct_alert(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared, uint8_t level,
                          uint8_t description);

#endif
