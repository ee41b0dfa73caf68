/* Blobs, and what binaryType makes of a message. */
#ifndef WSR_BLOB_H
#define WSR_BLOB_H

#include "base.h"

/* Consumer: binary message @event is being taken while binaryType is @type (MSG-02). */
void wsr_blob_shape(struct wsr_event *event, enum wsr_binary_type type);

#endif
