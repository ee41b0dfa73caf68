/* What all TLS connections of the echo server share: OpenSSL's context, with the certificate. Any thread. */
#ifndef WSR_ECHO_TLS_CONTEXT_H
#define WSR_ECHO_TLS_CONTEXT_H

#include <openssl/ssl.h>

#include "wsring.h"

#define WSR_ECHO_TLS_ERROR_CHARS 320

/* All zero: a throw-away certificate, TLS 1.2 and 1.3. */
struct wsr_echo_tls_options {
    const char *certificate_file;      /* PEM, its chain behind it; NULL = one that is made in memory */
    const char *key_file;              /* PEM; NULL = the key is in certificate_file */
    const char *certificate_out;       /* where to write the one that is made; NULL = nowhere */
    const char *ciphers;               /* OpenSSL's names, separated by colons; TLS_... are those of TLS 1.3; NULL =
                                          OpenSSL's choice */
    uint16_t version_min, version_max;
    uint32_t records;                  /* enum wsr_tls_records, but for the kernel */
};

struct wsr_echo_tls_context {
    SSL_CTX *library;
    uint32_t records;
};

/* Nothing of @options is kept. Returns 0, or -1 with a sentence in @error: which option, why, what to do. */
WSR_MUST_USE int wsr_echo_tls_context_create(struct wsr_echo_tls_context **context,
                                             const struct wsr_echo_tls_options *options,
                                             char error[WSR_ECHO_TLS_ERROR_CHARS]);
/* No connection of it is left. NULL is allowed. */
void wsr_echo_tls_context_free(struct wsr_echo_tls_context *context);

#endif
