/* One TLS record sealed or opened through OpenSSL's EVP, with keys of ours. Knows no messages and no alerts. */
#ifndef WSR_TLS_RECORD_H
#define WSR_TLS_RECORD_H

#include <sys/uio.h>

#include "tls_event.h"
#include "tls_key.h"

#define WSR_TLS_SEALED_OVERHEAD (WSR_TLS_HEADER_BYTES + 8u + 1u + 16u)   /* explicit nonce, inner type, tag */

/* A worker's cipher contexts. They are far larger than a key, so there are a few for all connections: whoever seals or
 * opens uses the one that has its key already, or gives its key to the one that was idle longest. One thread. */
struct wsr_tls_ciphers;

struct wsr_tls_ciphers *wsr_tls_ciphers_create(void);  /* NULL without memory */
void wsr_tls_ciphers_free(struct wsr_tls_ciphers *ciphers);   /* NULL is allowed */
/* @key will not be used any more: what was made of it is wiped. NULL @ciphers is allowed. */
void wsr_tls_ciphers_forget(struct wsr_tls_ciphers *ciphers, const struct wsr_tls_key *key);

/* Seal @parts, at most 16,384 bytes together, as one record of @type into @out, where none of them lies. Returns the
 * bytes written; WSR_ERR_MEMORY; WSR_ERR_INVALID_STATE: the sequence numbers are used up (RFC 8446 5.3). The sequence
 * number goes on only when a record was made. */
WSR_MUST_USE ssize_t wsr_tls_record_seal(struct wsr_tls_ciphers *ciphers, const struct wsr_tls_suite *suite,
                                         struct wsr_tls_key *key, enum wsr_tls_type type, const struct iovec *parts,
                                         size_t parts_count, uint8_t *out);

enum wsr_tls_opened {
    WSR_TLS_OPENED,              /* *content is in place, *type what it is */
    WSR_TLS_OPENED_NOT,          /* bad_record_mac */
    WSR_TLS_OPENED_SHORT,        /* TLS 1.2: no room for a nonce and a tag */
    WSR_TLS_OPENED_BARE,         /* TLS 1.3: no type within it: unexpected_message */
    WSR_TLS_OPENED_LONG,         /* more than 16,384 bytes: record_overflow */
    WSR_TLS_OPENED_MEMORY
};

/* Open the whole record of @len bytes, header included, where it lies. What the header says of type and version is
 * taken as it is. The sequence number goes on. */
enum wsr_tls_opened wsr_tls_record_open(struct wsr_tls_ciphers *ciphers, const struct wsr_tls_suite *suite,
                                        struct wsr_tls_key *key, uint8_t *record, size_t len, uint8_t *type,
                                        struct wsr_bytes *content);

#endif
