/* Any bytes as one frame header: every prefix agrees with the whole, what passes is what the writer writes, and the
 * shortcut never differs from the parser.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* The bytes lie in memory of their own, so that a sanitizer sees a byte too many. */
static int parse_exactly(struct wsr_frame *out, const uint8_t *in, size_t len)
{
    uint8_t *own = malloc(len > 0 ? len : 1);
    must(own != NULL);
    if (len > 0)
        memcpy(own, in, len);
    int rc = wsr_frame_parse(out, own, len);
    free(own);
    return rc;
}

static void check_plain(const uint8_t *in, size_t len, int parsed, const struct wsr_frame *frame)
{
    size_t payload_bytes = 0;
    size_t bytes = wsr_frame_parse_plain(in, len, &payload_bytes);
    if (bytes == 0)
        return;
    must(parsed > 0 && bytes == (size_t)parsed && payload_bytes == frame->payload_bytes);
    must(frame->fin && !frame->masked && frame->rsv == 0 && !wsr_frame_is_control(frame->opcode));
}

static void check_written_back(const uint8_t *in, const struct wsr_frame *frame)
{
    uint8_t out[WSR_FRAME_HEAD_MAX];
    uint8_t first = (uint8_t)(frame->fin << 7 | frame->rsv << 4 | frame->opcode);
    size_t bytes = wsr_frame_write(out, first, frame->payload_bytes, frame->masked ? frame->mask : NULL);
    must(bytes == frame->head_bytes && bytes == wsr_frame_head_bytes(frame->payload_bytes, frame->masked));
    must(memcmp(out, in, bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wsr_frame frame = { 0 };
    int whole = parse_exactly(&frame, data, size);
    must(whole <= WSR_FRAME_HEAD_MAX && whole >= WSR_FRAME_LENGTH_63);
    must(whole != 0 || size < WSR_FRAME_HEAD_MAX);
    bool decided = false;
    for (size_t len = 0; len <= size && len <= WSR_FRAME_HEAD_MAX; len++) {
        struct wsr_frame prefix;
        int rc = parse_exactly(&prefix, data, len);
        must(rc == whole || (rc == 0 && !decided));
        decided |= rc != 0;
        check_plain(data, len, rc, &prefix);
    }
    if (whole > 0)
        check_written_back(data, &frame);
    if (whole < 0)
        must(strlen(wsr_frame_error_text(whole)) > 8);
    return 0;
}
