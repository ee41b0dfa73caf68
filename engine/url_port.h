/* The ports that browsers connect to for nobody (Fetch Standard, "bad port"). */
#ifndef WSR_URL_PORT_H
#define WSR_URL_PORT_H

#include "base.h"

/* Other protocols listen there, and some would take an upgrade request for their own. URL-36. */
bool wsr_url_port_is_bad(uint16_t port);

#endif
