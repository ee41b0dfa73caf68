/* The keys of TLS records, by OpenSSL's own key derivation. */
#ifndef WSR_TLS_KEY_H
#define WSR_TLS_KEY_H

#include "base.h"

#define WSR_TLS_SECRET_MAX 48u
#define WSR_TLS_KEY_MAX 32u
#define WSR_TLS_IV_BYTES 12u
#define WSR_TLS_RANDOM_BYTES 32u
#define WSR_TLS_MASTER_BYTES 48u

enum wsr_tls_aead {
    WSR_TLS_AES_128_GCM,
    WSR_TLS_AES_256_GCM,
    WSR_TLS_CHACHA20_POLY1305,
    WSR_TLS_AEADS
};

/* A cipher suite whose records direct and the kernel can carry: an AEAD of those that both know. */
struct wsr_tls_suite {
    uint16_t version;            /* 0x0303, 0x0304 */
    uint16_t number;             /* as on the wire */
    uint8_t aead;                /* enum wsr_tls_aead */
    uint8_t key_bytes;
    uint8_t secret_bytes;        /* of the hash */
    uint8_t fixed_iv_bytes;      /* TLS 1.2: 4 with an explicit nonce in each record, else 12 */
    const char *cipher;          /* names for OpenSSL */
    const char *hash;
};

/* NULL when there is none. */
const struct wsr_tls_suite *wsr_tls_suite_find(uint16_t version, uint16_t number);

/* One direction. */
struct wsr_tls_key {
    uint64_t sequence;           /* of the next record */
    uint64_t serial;             /* tells this key from all others of the process, for whoever keeps what it made of it;
                                    0 = none */
    uint8_t place;               /* where that was kept when it was last looked for; see tls_record.c */
    uint8_t key[WSR_TLS_KEY_MAX];
    uint8_t iv[WSR_TLS_IV_BYTES];          /* TLS 1.2 with an explicit nonce: the first 4 count */
    uint8_t secret[WSR_TLS_SECRET_MAX];    /* TLS 1.3: of which they were made */
};

/* TLS 1.3, RFC 8446 7.3. Sequence 0. Returns 0 or WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_tls_key_from_secret(struct wsr_tls_key *key, const struct wsr_tls_suite *suite,
                                         const uint8_t *secret);
/* The next generation after a KeyUpdate, RFC 8446 7.2. */
WSR_MUST_USE int wsr_tls_key_renew(struct wsr_tls_key *key, const struct wsr_tls_suite *suite);
/* TLS 1.2, RFC 5246 6.3. Both have sequence 1: the Finished messages were 0. */
WSR_MUST_USE int wsr_tls_key_from_master(struct wsr_tls_key *client, struct wsr_tls_key *server,
                                         const struct wsr_tls_suite *suite,
                                         const uint8_t master[WSR_TLS_MASTER_BYTES],
                                         const uint8_t client_random[WSR_TLS_RANDOM_BYTES],
                                         const uint8_t server_random[WSR_TLS_RANDOM_BYTES]);
void wsr_tls_key_wipe(struct wsr_tls_key *key);

#endif
