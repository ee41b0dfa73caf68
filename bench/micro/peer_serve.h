/* What the servers do with a crowd of connections whose handshakes are over. */
#ifndef WSR_MICRO_PEER_SERVE_H
#define WSR_MICRO_PEER_SERVE_H

#include "peer.h"

/* Serve until every connection has ended. The caller closes them. */
void wsr_peer_serve(const struct wsr_peer_options *options, const int *fds, uint32_t count);

#endif
