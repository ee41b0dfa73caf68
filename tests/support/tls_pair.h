/* A server of OpenSSL and the keys with which a client of ours goes on after the handshake. */
#ifndef TLS_PAIR_H
#define TLS_PAIR_H

#include "engine/tls_key.h"
#include "tests/support/tls_server.h"

struct tls_pair {
    struct tls_server *server;
    struct tls_server_link *link;
    SSL_CTX *context;
    SSL *client;                        /* made the handshake; has read nothing since, so its sequences are stale */
    const struct wsr_tls_suite *suite;
    struct wsr_tls_key in, out;         /* of the client, where the link is now */
};

/* Make the handshake with @suite. Fails the test when it does not come about. */
void tls_pair_open(struct tls_pair *pair, const struct wsr_tls_suite *suite);
void tls_pair_close(struct tls_pair *pair);

/* The suites of TLS 1.3 and of TLS 1.2 that can be tried; the last is followed by NULL. */
const struct wsr_tls_suite *const *tls_pair_suites(void);
/* The name that OpenSSL has for it. */
const char *tls_pair_name(const struct wsr_tls_suite *suite);

#endif
