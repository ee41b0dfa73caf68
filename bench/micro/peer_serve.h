/* What the servers do with a crowd of connections whose handshakes are over. */
#ifndef WSR_MICRO_PEER_SERVE_H
#define WSR_MICRO_PEER_SERVE_H

#include <stddef.h>

#include "peer.h"

/* Serve until every connection has ended. The caller closes them. */
void wsr_peer_serve(const struct wsr_peer_options *options, const int *fds, uint32_t count);

/* As many whole frames as fit into @bytes at @to, or of numbered ones whole rounds of numbers. Returns their bytes. */
size_t wsr_peer_fill_frames(uint8_t *to, size_t bytes, const struct wsr_peer_options *options);
/* Unmask the whole frames of @in and write them to @out, which has room for @len. Returns the bytes of @in that were
 * used up. */
size_t wsr_peer_echo_frames(const uint8_t *in, size_t len, uint8_t *out, size_t *out_bytes);

#endif
