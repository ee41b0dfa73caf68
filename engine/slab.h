/* Memory of what is on its way to the kernel. Any thread takes chunks and gives them back; nothing locks or
 * allocates. */
#ifndef WSR_SLAB_H
#define WSR_SLAB_H

#include <stdatomic.h>

#include "ring.h"

enum wsr_command_kind {
    WSR_COMMAND_LINK,            /* the link that the command lies in has wishes */
    WSR_COMMAND_SEND,            /* link; a chunk's command */
    WSR_COMMAND_SEND_DEFLATED,   /* the same, masked with zeros, to be compressed if that helps */
    WSR_COMMAND_CLOSE,           /* link; a chunk's command: the Close frame */
    WSR_COMMAND_ABORT,           /* link; a chunk's command, without bytes: close() while connecting */
    WSR_COMMAND_PING,            /* link; a chunk's command, with the payload, not yet a frame */
    WSR_COMMAND_PING_TIMED,      /* link; a chunk's command; the payload is the worker's to make */
    WSR_COMMAND_PAUSE,           /* link; a chunk's command, without bytes; so the next */
    WSR_COMMAND_RESUME,
    WSR_COMMAND_FAREWELL,        /* link; a chunk's command: the Close 1001 of a destroyed socket */
    WSR_COMMAND_LOOKED_UP,       /* conn */
    WSR_COMMAND_ADMITTED         /* conn */
};

/* What one thread asks of a worker; travels in the worker's command ring. Lies first in what it is a part of. */
struct wsr_command {
    struct wsr_ring_node node;
    void *subject;                    /* whom it concerns, by kind */
    uint8_t kind;                     /* enum wsr_command_kind */
};

/* Bytes for the kernel. A message is one chunk, or several linked by next, of which the first travels as the
 * command. */
struct wsr_chunk {
    struct wsr_command command;
    struct wsr_chunk *next;
    _Atomic uint32_t below;           /* free chunk: index + 1 of the one below it in its stack */
    uint32_t sent;                    /* of used, accepted by the kernel */
    uint32_t used;
    uint32_t overhead;                /* bytes at the front that are no payload */
    /* several whole frames of so many bytes each, with overhead in front; 0 = one; or one of the two below */
    uint32_t frame_bytes;
    uint8_t size_class;
    bool starts_frame;                /* a control frame may stand before it; the first of a message does */
    bool is_control;                  /* request, Close, Pong: neither payload nor a message */
    bool is_pong;
    uint8_t data[];
};

/* Whole messages of one frame each, of any lengths, which the frames themselves tell; overhead is that of all. */
#define WSR_CHUNK_GATHERS UINT32_MAX
/* A part of a compressed message; overhead is the payload that the message stands for in its last chunk, else 0. */
#define WSR_CHUNK_DEFLATED (UINT32_MAX - 1)

#define WSR_SLAB_CONTROL_MAX 192u     /* bytes that every chunk can hold */

struct wsr_slab;

/* @bytes of address space, touched as it is used. NULL without memory. */
struct wsr_slab *wsr_slab_create(uint64_t bytes);
void wsr_slab_destroy(struct wsr_slab *slab);   /* chunks still out are void, but for those from malloc */

/* Chunks for @bytes in all, linked by next, each with used 0; NULL when the slab is exhausted. */
struct wsr_chunk *wsr_slab_take(struct wsr_slab *slab, uint64_t bytes);
/* One chunk of at least @bytes, from malloc when need be: for what must not fail for want of a slab. */
struct wsr_chunk *wsr_slab_take_control(struct wsr_slab *slab, size_t bytes);
/* Bytes that chunk->data can hold; 0 for one from malloc. */
size_t wsr_slab_room(const struct wsr_chunk *chunk);
void wsr_slab_give(struct wsr_slab *slab, struct wsr_chunk *chunk);
/* The same for a chunk and all linked behind it. */
void wsr_slab_give_all(struct wsr_slab *slab, struct wsr_chunk *first);
/* Largest number of bytes that wsr_slab_take() could ever give. */
uint64_t wsr_slab_bytes(const struct wsr_slab *slab);
/* How often wsr_slab_take() of @bytes could succeed at least, with nothing else taken. */
uint64_t wsr_slab_takes(const struct wsr_slab *slab, uint64_t bytes);

#endif
