/* Whose turn it is to connect: of all that want to one IP address and port, one at a time, in order of arrival (RFC
 * 6455 4.1, step 2). One per engine, for all its workers; under a short lock, as opening is not the message path. */
#ifndef WSR_GATE_H
#define WSR_GATE_H

#include <sys/socket.h>

#include "base.h"

enum wsr_gate_state {
    WSR_GATE_OUTSIDE,
    WSR_GATE_WAITING,
    WSR_GATE_INSIDE                      /* has its turn, from before admitted() is called */
};

/* An address as it is compared: IPv4 as the IPv6 address that stands for it (RFC 4291 2.5.5.2). */
struct wsr_gate_key {
    uint8_t ip[16];
    uint32_t scope;
    uint32_t port;
};

/* One connection at the gate; zero at first, with admitted set. The rest is guarded by the gate's lock. */
struct wsr_gate_place {
    struct wsr_gate_place *next, *previous;   /* circle of those at one address, from the one inside to the newest */
    struct wsr_gate_place *chain_next;        /* of the one inside: others of its bucket */
    struct wsr_gate_key key;
    enum wsr_gate_state state;
    /* Called once for each place that had to wait and was not withdrawn, on the thread of whoever left, without the
     * lock. Must not block. */
    void (*admitted)(struct wsr_gate_place *place);
};

struct wsr_gate;

struct wsr_gate *wsr_gate_create(void);          /* NULL without memory */
void wsr_gate_destroy(struct wsr_gate *gate);    /* all places are outside; NULL is allowed */

/* Ask for the turn to connect to @address, IPv4 or IPv6; @place is outside. Returns whether it has its turn already;
 * otherwise it waits. */
WSR_MUST_USE bool wsr_gate_enter(struct wsr_gate *gate, struct wsr_gate_place *place, const struct sockaddr *address);
/* Stop waiting. true: it was, and is outside. false: it has its turn; admitted() has been or is being called. */
WSR_MUST_USE bool wsr_gate_withdraw(struct wsr_gate *gate, struct wsr_gate_place *place);
/* Go outside from wherever @place is; who had its turn gives it to the next. */
void wsr_gate_leave(struct wsr_gate *gate, struct wsr_gate_place *place);

#endif
