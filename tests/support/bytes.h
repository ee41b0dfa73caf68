/* The payload of an event in one block, whatever binaryType says. */
#ifndef BYTES_H
#define BYTES_H

#include "wsring.h"

/* event->data, or the pieces of a blob put together; valid until the next call of the same thread, "" when there is
 * none. Fails the test when the pieces are not what the header promises. */
const char *bytes_of(const struct wsr_event *event);

#endif
