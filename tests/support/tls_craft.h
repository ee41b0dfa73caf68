/* TLS records as no honest peer seals them. A second, plain writing of what engine/tls_record.c does; aborts when
 * OpenSSL has no memory. */
#ifndef TLS_CRAFT_H
#define TLS_CRAFT_H

#include "engine/tls_key.h"
#include "tests/support/tls_server.h"

struct tls_craft {
    uint8_t type;                       /* in the header; TLS 1.3 has 23 there */
    uint16_t version;                   /* in the header; 0x0303 */
    const void *inner;                  /* TLS 1.3: content, type, padding; TLS 1.2: content */
    size_t inner_bytes;
};

#define TLS_CRAFT_OVERHEAD (5u + 8u + 16u)

/* Seal with @key, whose sequence number goes on, into @out, which has room for inner_bytes and TLS_CRAFT_OVERHEAD.
 * Returns the bytes. */
size_t tls_craft(const struct wsr_tls_suite *suite, struct wsr_tls_key *key, const struct tls_craft *craft,
                 uint8_t *out);
/* A record of @type in which everything is as it has to be, with @padding zeros in TLS 1.3. @out has room for both. */
size_t tls_craft_plain(const struct wsr_tls_suite *suite, struct wsr_tls_key *key, uint8_t type, const void *data,
                       size_t len, size_t padding, uint8_t *out);
/* A record of @type as if it were the next of OpenSSL's server, which must send nothing after it. @out has room for
 * @len, TLS_CRAFT_OVERHEAD and one more. Returns the bytes; 0 when it is none of the suites of tls_key.h. */
size_t tls_craft_next(struct tls_server_link *link, uint8_t type, const void *data, size_t len, uint8_t *out);
/* Open the record of @len bytes into @out. Returns the bytes of what is in it, in TLS 1.3 the type and the padding with
 * it; -1 when it does not open. */
long tls_craft_open(const struct wsr_tls_suite *suite, struct wsr_tls_key *key, const uint8_t *record, size_t len,
                    uint8_t *out);

#endif
