/* The WebSocket life of one connection of the echo server, from the upgrade on: frames in, their echoes out. Knows
 * no socket. Frames pass through as they come, however long: no message is ever held whole, and what is compressed
 * stays so, which echo_deflate.h has seen to. */
#ifndef WSR_ECHO_STREAM_H
#define WSR_ECHO_STREAM_H

#include "echo_queue.h"
#include "engine/frame.h"

enum wsr_echo_stream_state {
    WSR_ECHO_STREAM_HEAD = 0,      /* in front of a frame or within its header */
    WSR_ECHO_STREAM_PAYLOAD = 1,
    WSR_ECHO_STREAM_ENDED = 2      /* a Close frame is queued; what comes after is dropped */
};

struct wsr_echo_stream {
    uint64_t payload_left;
    uint8_t state;                 /* enum wsr_echo_stream_state */
    uint8_t head_have;             /* bytes in head */
    bool in_message;               /* the next data frame is to be a continuation (RFC 6455 5.4) */
    bool drop;                     /* payload of a pong: nothing to echo */
    bool deflates;                 /* permessage-deflate was agreed on: messages may be compressed */
    uint8_t phase;                 /* of the mask */
    struct wsr_frame frame;
    uint8_t head[WSR_FRAME_HEAD_MAX];   /* a header that came in pieces */
};

struct wsr_echo_counts {
    uint64_t connections;
    uint64_t refused;              /* upgrades answered with 400 */
    uint64_t deflates;             /* connections with permessage-deflate */
    uint64_t messages;
    uint64_t bytes;                /* payload of data frames */
    uint64_t pings;
    uint64_t closes;
    uint64_t violations;           /* connections closed with 1002 */
};

/* Take @len bytes from the client and queue what they call for. Returns 0 or WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_echo_stream_feed(struct wsr_echo_stream *stream, const uint8_t *in, size_t len,
                                      struct wsr_echo_queue *queue, struct wsr_echo_pool *pool,
                                      struct wsr_echo_counts *counts);

#endif
