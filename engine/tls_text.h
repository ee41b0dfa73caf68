/* What OpenSSL has to say, as sentences that live as long as the process. */
#ifndef WSR_TLS_TEXT_H
#define WSR_TLS_TEXT_H

#include "tls_handshake.h"

/*
 * Why the last call on handshake->ssl failed: what, OpenSSL's reason, and, where it can be said, what to do. Looks at
 * the result of verification, at the alert, and at the calling thread's error queue, which is empty afterwards. Never
 * NULL, the same pointer for the same words; there are as many as OpenSSL has reasons.
 */
const char *wsr_tls_text_of_handshake(const struct wsr_tls_handshake *handshake);
/* The server's fatal alert @description, e.g. "the server ended TLS with the alert handshake_failure (40); ..." */
const char *wsr_tls_text_of_alert(uint8_t description);
/* Why the last call of this thread on something else failed: OpenSSL's reason alone. */
const char *wsr_tls_text_of_queue(void);

#endif
