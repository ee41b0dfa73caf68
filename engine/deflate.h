/* The two zlib streams of a connection: permessage-deflate (RFC 7692 7.2) on payloads, either side. zlib, only here.
 * Streams are taken when a message first needs one. They are given back at the end of the message where its context is
 * not to be kept, and otherwise when they have rested. */
#ifndef WSR_DEFLATE_H
#define WSR_DEFLATE_H

#include <stdatomic.h>

#include "deflate_offer.h"

struct wsr_deflate_stream;
struct wsr_deflate;

#define WSR_DEFLATE_LEVEL_DEFAULT 6u
#define WSR_DEFLATE_LEVEL_MAX 9u

/* What the connections of one thread share. Zero is a good start, but for level. */
struct wsr_deflate_shared {
    int level;                              /* of zlib, 1 to 9 */
    struct wsr_deflate_stream *spare[2];    /* inflaters, deflaters that wait for their next message */
    uint32_t spare_count[2];
    uint8_t *scratch;                       /* of the message that is being compressed */
    size_t scratch_bytes;
    struct wsr_deflate *oldest, *newest;    /* those that keep a stream between messages, by their last use */
    /* Written by the thread, read by statistics: numbers alone. */
    _Atomic uint64_t memory_bytes;          /* of streams and kept windows, now */
    _Atomic uint64_t deflated, deflated_bytes, deflated_wire_bytes;    /* messages, their payload, and what it became */
    _Atomic uint64_t inflated, inflated_bytes, inflated_wire_bytes;
    _Atomic uint64_t not_deflated;          /* tried, but no smaller, or no memory: sent as they were */
};

/* Give back all memory. No connection keeps a stream any more. */
void wsr_deflate_shared_free(struct wsr_deflate_shared *shared);

/* Of one connection. May be moved never; all zero = none. */
struct wsr_deflate {
    struct wsr_deflate_shared *shared;
    struct wsr_deflate_stream *inflater, *deflater;    /* NULL = none needed (yet) */
    uint8_t *window;                        /* malloc: what an inflater that was given back has to know, or NULL */
    uint64_t wire_bytes;                    /* of the message that comes in, so far; the caller's to reset and to add */
    struct wsr_deflate *older, *newer;
    uint64_t used_ns;
    uint64_t tried_bytes, tried_most;       /* of the message that goes out: made so far; it is to be smaller */
    uint16_t window_bytes;                  /* less one */
    uint8_t in_bits, out_bits;              /* of the windows */
    bool in_keeps, out_keeps;               /* takes the context over from message to message */
    bool is_inflating;                      /* a message that comes in has begun */
    bool has_failed;                        /* compressing the message that goes out */
    bool is_listed;
};

enum wsr_deflate_side { WSR_DEFLATE_CLIENT, WSR_DEFLATE_SERVER };

/* As was @agreed on. No stream is taken yet. */
void wsr_deflate_init(struct wsr_deflate *deflate, struct wsr_deflate_shared *shared,
                      const struct wsr_deflate_agreed *agreed, enum wsr_deflate_side side);
/* Give back everything, in any state, also when all zero. */
void wsr_deflate_free(struct wsr_deflate *deflate);

/* May anything be compressed? Not for a window of 2^8 bytes with a zlib that is not known to keep to it (PMD-32). */
bool wsr_deflate_can_send(const struct wsr_deflate *deflate);

enum wsr_inflate {
    WSR_INFLATE_MORE,     /* all of @in was taken, and the message goes on */
    WSR_INFLATE_DONE,     /* the message is complete */
    WSR_INFLATE_FULL,     /* @room is used up: to be called again, with what is left of @in and with more room, even
                             if nothing is left and, as it will turn out, nothing more is made */
    WSR_INFLATE_BAD,      /* no DEFLATE stream, or one that the message cuts off: PMD-46, semantics 5.6 */
    WSR_INFLATE_MEMORY
};

/*
 * Take @in, which is moved on past what was taken, and write what it stands for to @out, at most @room (not 0) bytes,
 * *made of them. @is_end: the message ends with @in. After BAD and MEMORY nothing more may be inflated. A peer that
 * refers beyond a window of less than 2^15 is found out only where what it refers to is no longer in @out. PMD-42 to
 * PMD-45.
 */
WSR_MUST_USE enum wsr_inflate wsr_deflate_inflate(struct wsr_deflate *deflate, struct wsr_bytes *in, bool is_end,
                                                  uint8_t *out, size_t room, size_t *made);

/*
 * Compress a message of @len bytes, not 0, in any number of pieces: begin, add each, end. end() returns true when what
 * it became is smaller than @len, with *out, which is valid until clear() or the next begin() of any connection of
 * the thread. Else it is to be sent as it is, and what is sent after it does not refer to it (PMD-33).
 */
void wsr_deflate_begin(struct wsr_deflate *deflate, uint64_t len);
void wsr_deflate_add(struct wsr_deflate *deflate, struct wsr_bytes piece);
WSR_MUST_USE bool wsr_deflate_end(struct wsr_deflate *deflate, struct wsr_bytes *out);
/* What end() returned true for is not sent after all. */
void wsr_deflate_forget(struct wsr_deflate *deflate);
/* Behind all that: memory that only a large message needs goes back. */
void wsr_deflate_clear(struct wsr_deflate *deflate);

/*
 * @deflate has been used at @now_ns: to be said after each message. Then those that keep streams and were not used
 * since @before_ns give back what can be made again: the deflater, whose next message just knows none before it, and
 * all of the inflater but its window.
 */
void wsr_deflate_touch(struct wsr_deflate *deflate, uint64_t now_ns);
void wsr_deflate_rest(struct wsr_deflate_shared *shared, uint64_t before_ns);
/* When the one that rests longest was used; WSR_NEVER = none keeps a stream. */
uint64_t wsr_deflate_oldest_ns(const struct wsr_deflate_shared *shared);

#endif
