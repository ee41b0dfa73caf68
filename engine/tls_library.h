/* Records by OpenSSL: what the others are measured against. */
#ifndef WSR_TLS_LIBRARY_H
#define WSR_TLS_LIBRARY_H

#include "tls_event.h"
#include "tls_handshake.h"

#include <sys/types.h>
#include <sys/uio.h>

/* One whole record while the handshake is under way. *event becomes NOTHING, READY or FAILURE. */
void wsr_tls_library_shake(struct wsr_tls_handshake *handshake, const uint8_t *record, size_t len,
                           struct wsr_tls_event *event);
/* One whole record after it. *event becomes NOTHING, DATA in a block, CLOSED or FAILURE. */
void wsr_tls_library_open(struct wsr_tls_handshake *handshake, struct wsr_tls_shared *shared, const uint8_t *record,
                          size_t len, struct wsr_tls_event *event);
/* See wsr_tls_seal(); @room is what @out has. */
WSR_MUST_USE ssize_t wsr_tls_library_seal(struct wsr_tls_handshake *handshake, struct wsr_tls_shared *shared,
                                          const struct iovec *parts, size_t parts_count, uint8_t *out, size_t room);
/* Write close_notify into the spill. */
void wsr_tls_library_close(struct wsr_tls_handshake *handshake);

#endif
