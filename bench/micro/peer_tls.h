/* The same servers over TLS: OpenSSL makes the handshake, bare records follow. */
#ifndef WSR_MICRO_PEER_TLS_H
#define WSR_MICRO_PEER_TLS_H

#include "bare_tls.h"
#include "peer.h"

/* One connection. All zero before it is gathered. */
struct wsr_peer_link {
    int fd;
    struct wsr_bare_tls tls;
    uint8_t *sealed;          /* malloc: bytes of a record that is not whole yet */
    uint8_t *plain;           /* malloc: opened bytes of a frame that is not whole yet */
    size_t sealed_bytes, plain_bytes;
    uint8_t *out;             /* malloc, SPRAY to many: sealed bytes, of which @out_sent have left */
    size_t out_bytes, out_sent;
    size_t at;                /* SPRAY: of the frames, what was sealed so far */
};

/* See wsr_peer_gather(). */
int wsr_peer_tls_gather(int listener, struct wsr_peer_link *links, uint32_t count);
/* Serve until every connection has ended. */
void wsr_peer_tls_serve(const struct wsr_peer_options *options, struct wsr_peer_link *links, uint32_t count);
/* Close all; they are all zero again. */
void wsr_peer_tls_end(struct wsr_peer_link *links, uint32_t count);

#endif
