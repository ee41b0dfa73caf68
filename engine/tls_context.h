/* What all TLS connections of an engine share: OpenSSL's context, made of the engine's options, the sessions that can
 * be resumed, and the key log. Any thread. */
#ifndef WSR_TLS_CONTEXT_H
#define WSR_TLS_CONTEXT_H

#include <openssl/ssl.h>

#include "base.h"

struct wsr_tls_context;

/* A server whose chain of certificates takes more is refused: OpenSSL would keep it all in memory. Chains have a few
 * KiB; this is OpenSSL's own bound. */
#define WSR_TLS_CONTEXT_CHAIN_MAX_BYTES (100u * 1024)

/* As in struct wsr_engine_options; zero and NULL mean default. */
struct wsr_tls_context_options {
    uint16_t version_min, version_max;
    bool is_insecure;
    bool keeps_no_sessions;
    const char *ca_file, *ca_directory, *crl_file;
    const char *certificate_file, *key_file;
    const char *ciphers, *ciphersuites;
    const char *key_log_file;
};

/*
 * Nothing of @options is kept. What none of them says is as the machine's configuration of OpenSSL (openssl.cnf) has it
 * for all programs: ciphers, groups, signature algorithms, the security level; but neither versions nor verification.
 * Returns 0, WSR_ERR_ARGUMENT (a file, a name or a version is no good: the sentence says which option, what OpenSSL or
 * errno said, and what to do), or WSR_ERR_MEMORY.
 */
WSR_MUST_USE int wsr_tls_context_create(struct wsr_tls_context **context,
                                        const struct wsr_tls_context_options *options);
/* No SSL of it is left. NULL is allowed. */
void wsr_tls_context_free(struct wsr_tls_context *context);
/* The system's authorities, where those count, are read once for the process, which takes 20 ms: here, or with the
 * first connection. They are where OpenSSL has them, or where SSL_CERT_FILE and SSL_CERT_DIR say. */
void wsr_tls_context_prepare(const struct wsr_tls_context *context);

bool wsr_tls_context_is_insecure(const struct wsr_tls_context *context);
/* The name of one of its cipher suites, static; "unknown" when it has none of that number. */
const char *wsr_tls_context_suite(const struct wsr_tls_context *context, uint16_t number);
/* Sessions that could be resumed now. */
uint64_t wsr_tls_context_sessions(struct wsr_tls_context *context);

/*
 * An SSL for a client's connection to @name, with or without brackets when it is an IPv6 address: SNI and the name or
 * address that is verified (URL-34), ALPN http/1.1 (HS-11), no renegotiation, and a session to resume when one of
 * handshake->peer is kept. A certificate is for the names among its subjectAltNames; the common name counts for nothing
 * (RFC 9110 4.3.4). What comes back by callback is written to @handshake, which outlives the SSL. NULL without memory.
 */
struct wsr_tls_handshake;
SSL *wsr_tls_context_open(struct wsr_tls_context *context, struct wsr_tls_handshake *handshake, const char *name);

#endif
