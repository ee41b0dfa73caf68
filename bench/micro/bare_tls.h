/* TLS 1.3 with AES-128-GCM for the servers and the references: OpenSSL makes the handshake over a descriptor that
 * blocks, and is done with; bare records follow. No tickets, unless they are asked for. One certificate for all servers
 * that this process forks, made when it is first needed. */
#ifndef WSR_MICRO_BARE_TLS_H
#define WSR_MICRO_BARE_TLS_H

#include <openssl/ssl.h>

#include "bare_record.h"

/* One end of a connection. All zero: none, may be ended. */
struct wsr_bare_tls {
    struct wsr_bare_record in, out;
};

/* Make the certificate, before servers are forked. Returns the path of a file with it, which is no longer there when
 * the process has ended, or NULL after it has said on stderr why not. */
const char *wsr_bare_tls_ca_file(void);
/* Write the certificate to @path too. Returns 0, or -1 after it has said on stderr why not. */
int wsr_bare_tls_write_ca(const char *path);

/* OpenSSL's context for servers that use it, with @tickets for each connection, or for clients, who verify; both for
 * SSL_CTX_free(). NULL after it has said on stderr why not. */
SSL_CTX *wsr_bare_tls_server_context(unsigned tickets);
SSL_CTX *wsr_bare_tls_client_context(void);
/* An SSL for a client of 127.0.0.1, over @fd; NULL likewise. */
SSL *wsr_bare_tls_client(SSL_CTX *context, int fd);

/* Make the handshake. Returns 0, or -1, which the client says why on stderr; to be ended in both cases. */
int wsr_bare_tls_accept(struct wsr_bare_tls *tls, int fd);
int wsr_bare_tls_connect(struct wsr_bare_tls *tls, int fd);
void wsr_bare_tls_end(struct wsr_bare_tls *tls);

#endif
