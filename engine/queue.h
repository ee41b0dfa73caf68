/* What one connection has still to send, in order. One send is in flight at a time; its chunks stay at the front. */
#ifndef WSR_QUEUE_H
#define WSR_QUEUE_H

#include <sys/uio.h>

#include "frame.h"
#include "slab.h"

struct wsr_queue {
    struct wsr_chunk *first;
    struct wsr_chunk *last;
    struct wsr_chunk *flight_last;    /* last chunk that the kernel was given; NULL when no send is in flight */
    uint16_t pongs_count;             /* Pongs that wait or are in flight */
    uint16_t burst_bytes;             /* of messages that gathered for the last send; so many may gather again */
    uint32_t next;                    /* free for the queue's owner */
};

/* What the kernel's acceptance of bytes amounts to. */
struct wsr_queue_credit {
    uint64_t payload_bytes;
    bool was_short;                   /* not all that was launched has landed */
};

static inline bool wsr_queue_is_empty(const struct wsr_queue *queue)
{
    return queue->first == NULL;
}

static inline bool wsr_queue_in_flight(const struct wsr_queue *queue)
{
    return queue->flight_last != NULL;
}

/* Append a message (a chunk and what is linked behind it). */
void wsr_queue_push(struct wsr_queue *queue, struct wsr_chunk *message);
/*
 * The same for a small message of one frame: those that wait for the same send gather in one chunk, which is one part
 * of it. First a chunk in which @bytes, at most WSR_QUEUE_GATHER_MAX, can be written behind chunk->used: the last of
 * the queue, or, with used 0, one that is the caller's; NULL when the slab is exhausted. Then, when they were written,
 * the message becomes a part of the queue; nothing else was done with it in between.
 */
#define WSR_QUEUE_GATHER_MAX 1024u
struct wsr_chunk *wsr_queue_open_end(const struct wsr_queue *queue, struct wsr_slab *slab, uint32_t bytes);
void wsr_queue_extend(struct wsr_queue *queue, struct wsr_chunk *chunk, uint32_t head_bytes, uint32_t payload_bytes);
/* Bytes of @message that are payload. */
uint64_t wsr_queue_payload_bytes(const struct wsr_chunk *message);
/* Insert a control frame at the next frame boundary, also inside a message of several frames (CTL-02). */
void wsr_queue_push_control(struct wsr_queue *queue, struct wsr_chunk *control);
/* Give up the newest Pong that has not begun to leave (CTL-03). Returns whether there was one. */
bool wsr_queue_drop_newest_pong(struct wsr_queue *queue, struct wsr_slab *slab);
/* Is there nothing but Pongs, or nothing at all? */
bool wsr_queue_has_pongs_only(const struct wsr_queue *queue);
/* A chunk with a whole control frame, masked with @key; NULL without memory. */
struct wsr_chunk *wsr_queue_control_frame(struct wsr_slab *slab, enum wsr_opcode opcode, struct wsr_bytes payload,
                                          const uint8_t key[4]);

/* The same for a Close frame with @code (0 = empty body) and as much of @reason as fits. */
struct wsr_chunk *wsr_queue_close_frame(struct wsr_slab *slab, uint16_t code, struct wsr_bytes reason,
                                        const uint8_t key[4]);

/* Describe what is to be sent next, at most @parts_max pieces, and not many frames when they are large, so that a Pong
 * need not wait for all of them (CTL-02); mark it as in flight. Returns the number of
 * pieces. */
size_t wsr_queue_launch(struct wsr_queue *queue, struct iovec *parts, size_t parts_max);
/* The send in flight ended after @bytes; chunks that left go back to @slab. @bytes may be 0 after an error. */
struct wsr_queue_credit wsr_queue_landed(struct wsr_queue *queue, struct wsr_slab *slab, uint64_t bytes);

/* Give up every frame of a message that has not begun; what is in flight, or half sent, stays, and so do control
 * frames (CLOSE-20). */
void wsr_queue_drop_messages(struct wsr_queue *queue, struct wsr_slab *slab);
/* Give up everything; next stays. Nothing may be in flight. */
void wsr_queue_clear(struct wsr_queue *queue, struct wsr_slab *slab);

#endif
