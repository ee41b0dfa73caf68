/* Echoing frame by frame. The mask is undone while the payload is copied into the send queue, so the receive
 * buffer is free as soon as the call returns and a client that does not read can never hold the buffers of the
 * others.
 * SPDX-License-Identifier: MIT
 */
#include "echo_stream.h"

#include "simd/simd.h"

#define CLOSE_PROTOCOL_ERROR 1002

struct feeder {
    struct wsr_echo_stream *stream;
    struct wsr_echo_queue *queue;
    struct wsr_echo_pool *pool;
    struct wsr_echo_counts *counts;
};

static void enter(struct wsr_echo_stream *stream, enum wsr_echo_stream_state to)
{
    assert(stream->state != WSR_ECHO_STREAM_ENDED);
    stream->state = (uint8_t)to;
}

static int write_head(struct feeder *f, uint8_t first, uint64_t payload_bytes)
{
    size_t room;
    uint8_t *to = wsr_echo_queue_room(f->queue, f->pool, WSR_FRAME_HEAD_MAX, &room);
    if (!to)
        return WSR_ERR_MEMORY;
    wsr_echo_queue_commit(f->queue, wsr_frame_write(to, first, payload_bytes, NULL));
    return 0;
}

static int fail(struct feeder *f)
{
    uint8_t code[2];
    f->counts->violations++;
    enter(f->stream, WSR_ECHO_STREAM_ENDED);
    wsr_store_be16(code, CLOSE_PROTOCOL_ERROR);
    int rc = write_head(f, 0x80 | WSR_OPCODE_CLOSE, sizeof code);
    return rc < 0 ? rc : wsr_echo_queue_append(f->queue, f->pool, code, sizeof code);
}

/* RFC 6455 5.1 (clients mask), 5.2 (RSV1 as RFC 7692 6 has it, if that was agreed on), 5.4 (order of fragments). */
static bool is_legal(const struct wsr_echo_stream *stream, const struct wsr_frame *frame)
{
    bool may_deflate = stream->deflates && (frame->opcode == WSR_OPCODE_TEXT || frame->opcode == WSR_OPCODE_BINARY);
    if (!frame->masked || (frame->rsv != 0 && !may_deflate))
        return false;
    if (frame->opcode >= WSR_OPCODE_CLOSE)
        return true;
    return (frame->opcode == WSR_OPCODE_CONTINUATION) == stream->in_message;
}

static void finish_frame(struct feeder *f)
{
    const struct wsr_frame *frame = &f->stream->frame;
    if (frame->opcode == WSR_OPCODE_CLOSE) {
        f->counts->closes++;
        enter(f->stream, WSR_ECHO_STREAM_ENDED);
        return;
    }
    if (frame->opcode == WSR_OPCODE_PING)
        f->counts->pings++;
    else if (frame->opcode < WSR_OPCODE_CLOSE && frame->fin)
        f->counts->messages++;
    enter(f->stream, WSR_ECHO_STREAM_HEAD);
}

static int start_frame(struct feeder *f, const struct wsr_frame *frame)
{
    struct wsr_echo_stream *stream = f->stream;
    if (!is_legal(stream, frame))
        return fail(f);
    stream->frame = *frame;
    stream->payload_left = frame->payload_bytes;
    stream->phase = 0;
    stream->drop = frame->opcode == WSR_OPCODE_PONG;
    if (frame->opcode < WSR_OPCODE_CLOSE) {
        stream->in_message = !frame->fin;
        f->counts->bytes += frame->payload_bytes;
    }
    if (!stream->drop) {
        uint8_t opcode = frame->opcode == WSR_OPCODE_PING ? WSR_OPCODE_PONG : frame->opcode;
        int rc = write_head(f, (uint8_t)((frame->fin ? 0x80 : 0) | frame->rsv << 4 | opcode), frame->payload_bytes);
        if (rc < 0)
            return rc;
    }
    enter(stream, WSR_ECHO_STREAM_PAYLOAD);
    if (frame->payload_bytes == 0)
        finish_frame(f);
    return 0;
}

/* Returns the bytes used up, or WSR_ERR_MEMORY. */
static ptrdiff_t take_head(struct feeder *f, const uint8_t *in, size_t len)
{
    struct wsr_echo_stream *stream = f->stream;
    struct wsr_frame frame;
    size_t have = stream->head_have;
    int rc;
    if (have == 0) {
        rc = wsr_frame_parse(&frame, in, len);
    } else {
        size_t more = WSR_FRAME_HEAD_MAX - have;
        more = len < more ? len : more;
        memcpy(stream->head + have, in, more);
        rc = wsr_frame_parse(&frame, stream->head, have + more);
    }
    if (rc < 0) {
        rc = fail(f);
        return rc < 0 ? rc : (ptrdiff_t)len;
    }
    if (rc == 0) {      /* then all of it fits, as a header is whole at WSR_FRAME_HEAD_MAX */
        memcpy(stream->head + have, in, len);
        stream->head_have = (uint8_t)(have + len);
        return (ptrdiff_t)len;
    }
    stream->head_have = 0;
    ptrdiff_t used = (ptrdiff_t)rc - (ptrdiff_t)have;
    rc = start_frame(f, &frame);
    return rc < 0 ? rc : used;
}

static ptrdiff_t take_payload(struct feeder *f, const uint8_t *in, size_t len)
{
    struct wsr_echo_stream *stream = f->stream;
    size_t now = len < stream->payload_left ? len : (size_t)stream->payload_left;
    if (!stream->drop) {
        size_t room;
        uint8_t *to = wsr_echo_queue_room(f->queue, f->pool, 1, &room);
        if (!to)
            return WSR_ERR_MEMORY;
        now = now < room ? now : room;
        wsr_simd()->mask_copy(to, in, now, stream->frame.mask, stream->phase);
        wsr_echo_queue_commit(f->queue, now);
        stream->phase = (uint8_t)((stream->phase + now) & 3);
    }
    stream->payload_left -= now;
    if (stream->payload_left == 0)
        finish_frame(f);
    return (ptrdiff_t)now;
}

int wsr_echo_stream_feed(struct wsr_echo_stream *stream, const uint8_t *in, size_t len, struct wsr_echo_queue *queue,
                         struct wsr_echo_pool *pool, struct wsr_echo_counts *counts)
{
    struct feeder f = { stream, queue, pool, counts };
    while (len > 0 && stream->state != WSR_ECHO_STREAM_ENDED) {
        ptrdiff_t used = stream->state == WSR_ECHO_STREAM_HEAD ? take_head(&f, in, len) : take_payload(&f, in, len);
        if (used < 0)
            return (int)used;
        in += used;
        len -= (size_t)used;
    }
    return 0;
}
