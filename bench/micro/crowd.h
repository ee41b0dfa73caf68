/* A server for many connections that come fast: it answers upgrades as they arrive, sends short messages back, and
 * resets all connections when told to, so that no side keeps any in TIME_WAIT. A forked child on the server's CPU. */
#ifndef WSR_MICRO_CROWD_H
#define WSR_MICRO_CROWD_H

#include "peer.h"

struct wsr_crowd {
    struct wsr_peer peer;
    int control;            /* asks for the reset, and says when it is done */
};

/* Fork the server, for at most @connections_max at once, of which it takes messages if it @echoes. Returns 0, or -1
 * after it has said on stderr why not. */
int wsr_crowd_start(struct wsr_crowd *crowd, uint32_t connections_max, bool echoes);
/* Reset every connection; it has happened when this returns. 0, or -1 when the server is gone. */
int wsr_crowd_reset(struct wsr_crowd *crowd);
void wsr_crowd_stop(struct wsr_crowd *crowd);

#endif
