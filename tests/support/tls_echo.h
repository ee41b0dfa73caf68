/* A real WebSocket server over TLS on the loopback interface, on a thread of its own: OpenSSL with a socket. It returns
 * every message, and does what a text message that begins with / says:
 *
 *   /tickets N       send N session tickets (TLS 1.3)
 *   /update [ask]    renew its keys (TLS 1.3), and ask the client to do the same
 *   /big N           send a binary message of N bytes: tls_echo_pattern()
 *   /trickle N       the same in records of one byte
 *   /forge           damage what comes next on its way
 *   /notify          send close_notify and end the TCP direction
 *   /fin, /abort     end the TCP direction without a word; reset
 *
 * and sends "done" before. A Close is answered, then close_notify and the end follow. */
#ifndef TLS_ECHO_H
#define TLS_ECHO_H

#include "tests/support/tls_server.h"

struct tls_echo;

struct tls_echo *tls_echo_start(const struct tls_server_options *options);
void tls_echo_stop(struct tls_echo *echo);
/* "wss://127.0.0.1:PORT/" */
const char *tls_echo_url(const struct tls_echo *echo);

/* Of all connections so far; of those that are over where that is said. Await them: they come from another thread. */
struct tls_echo_counts {
    unsigned accepted, over;
    unsigned notified;                /* over, and the client's close_notify had come */
    unsigned alerts[256];             /* over, by description of the last alert of the client's */
    unsigned updates;                 /* KeyUpdates of the client */
};
struct tls_echo_counts tls_echo_counts(struct tls_echo *echo);

static inline uint8_t tls_echo_pattern(size_t at) { return (uint8_t)('a' + (at * 7 + at / 251) % 26); }

#endif
