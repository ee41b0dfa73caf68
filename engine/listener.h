/* Who is called for the events of one socket, in the order of adding (DOM, WHATWG HTML event handlers). */
#ifndef WSR_LISTENER_H
#define WSR_LISTENER_H

#include "base.h"

struct wsr_listeners;

/* Call everyone who listens to @event, until @is_over is set by one of them. */
void wsr_listener_call(struct wsr_listeners *listeners, const struct wsr_event *event, const bool *is_over);
void wsr_listener_free(struct wsr_listeners *listeners);   /* NULL is allowed */

#endif
