/* Blobs, and what binaryType makes of a message. */
#ifndef WSR_BLOB_H
#define WSR_BLOB_H

#include "pieces.h"

/* A walk over the bytes of a message, or a range of it. */
struct wsr_blob_walk {
    const struct wsr_piece *piece;   /* next one */
    uint64_t skip;                   /* bytes before the range, from there on */
    uint64_t left;
    struct wsr_piece whole;          /* of a message that lies in one piece */
};

/* Consumer: binary message @event is being taken while binaryType is @type (MSG-02). */
void wsr_blob_shape(struct wsr_event *event, enum wsr_binary_type type);

/* @walk stays where it is as long as it is used. */
void wsr_blob_walk(struct wsr_blob_walk *walk, const struct wsr_blob *blob);
/* The next piece; of length 0 at the end. */
struct wsr_bytes wsr_blob_next(struct wsr_blob_walk *walk);

#endif
