/* A server for many connections that come fast: it answers upgrades as they arrive, sends short messages back, and
 * resets all connections when told to, so that no side keeps any in TIME_WAIT. A forked child on the server's CPU. */
#ifndef WSR_MICRO_CROWD_H
#define WSR_MICRO_CROWD_H

#include "peer.h"

struct wsr_crowd {
    struct wsr_peer peer;
    int control;            /* asks for the reset, and says when it is done */
};

struct wsr_crowd_options {
    uint32_t connections_max;     /* at once */
    bool echoes;                  /* takes messages too */
    bool is_tls;                  /* all by OpenSSL */
    uint32_t tickets;             /* for each connection that was not resumed; 0 = no session is resumed */
};

/* Fork the server. Returns 0, or -1 after it has said on stderr why not. */
int wsr_crowd_start(struct wsr_crowd *crowd, const struct wsr_crowd_options *options);
/* Reset every connection; it has happened when this returns. 0, or -1 when the server is gone. */
int wsr_crowd_reset(struct wsr_crowd *crowd);
void wsr_crowd_stop(struct wsr_crowd *crowd);

#endif
