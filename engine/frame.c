/* One WebSocket frame header, read and written in one place (RFC 6455 5.2).
 * SPDX-License-Identifier: MIT */
#include "frame.h"

#define RSV_BITS_UNDEFINED 3       /* RSV2 and RSV3: no extension of ours gives them a meaning */
#define LENGTH_BITS 0x7F
#define MASK_BYTES 4

/* Bit n is set when opcode n is defined (RFC 6455 11.8). */
static const uint16_t opcodes_defined = 1u << WSR_OPCODE_CONTINUATION | 1u << WSR_OPCODE_TEXT |
                                        1u << WSR_OPCODE_BINARY | 1u << WSR_OPCODE_CLOSE |
                                        1u << WSR_OPCODE_PING | 1u << WSR_OPCODE_PONG;

static int check_first_byte(uint8_t first)
{
    unsigned opcode = first & WSR_FRAME_OPCODE_BITS;
    if (first >> 4 & RSV_BITS_UNDEFINED)
        return WSR_FRAME_RSV;
    if ((opcodes_defined >> opcode & 1u) == 0)
        return WSR_FRAME_OPCODE;
    if (wsr_frame_is_control((uint8_t)opcode) && (first & WSR_FRAME_FIN) == 0)
        return WSR_FRAME_CONTROL_FRAGMENT;
    return 0;
}

static size_t length_bytes(unsigned length_field)
{
    if (length_field < WSR_FRAME_LENGTH_16)
        return 0;
    return length_field == WSR_FRAME_LENGTH_16 ? 2 : 8;
}

/* The length whose field is whole at @in, @bytes of it behind the two fixed bytes. */
static int read_length(uint64_t *out, const uint8_t *in, size_t bytes)
{
    uint64_t shorter_max = 0;
    *out = in[1] & LENGTH_BITS;
    if (bytes == 2) {
        *out = wsr_load_be16(in + 2);
        shorter_max = WSR_FRAME_LENGTH_16 - 1;
    } else if (bytes == 8) {
        *out = wsr_load_be64(in + 2);
        shorter_max = UINT16_MAX;
    }
    if (*out > INT64_MAX)
        return WSR_FRAME_LENGTH_63;
    return bytes > 0 && *out <= shorter_max ? WSR_FRAME_NOT_MINIMAL : 0;
}

int wsr_frame_parse(struct wsr_frame *out, const uint8_t *in, size_t len)
{
    struct wsr_frame frame = { 0 };
    if (len == 0)
        return 0;
    int rc = check_first_byte(in[0]);
    if (rc < 0)
        return rc;
    if (len < 2)
        return 0;
    frame.opcode = in[0] & WSR_FRAME_OPCODE_BITS;
    frame.rsv = in[0] >> 4 & (WSR_FRAME_RSV1 | RSV_BITS_UNDEFINED);
    frame.fin = (in[0] & WSR_FRAME_FIN) != 0;
    frame.masked = (in[1] & WSR_FRAME_MASKED) != 0;
    if (wsr_frame_is_control(frame.opcode) && (in[1] & LENGTH_BITS) > WSR_FRAME_CONTROL_MAX)
        return WSR_FRAME_CONTROL_LENGTH;

    size_t extended = length_bytes(in[1] & LENGTH_BITS);
    if (len < 2 + extended)
        return 0;
    rc = read_length(&frame.payload_bytes, in, extended);
    if (rc < 0)
        return rc;
    frame.head_bytes = (uint8_t)(2 + extended + (frame.masked ? MASK_BYTES : 0));
    if (len < frame.head_bytes)
        return 0;
    if (frame.masked)
        memcpy(frame.mask, in + 2 + extended, MASK_BYTES);
    *out = frame;
    return frame.head_bytes;
}

const char *wsr_frame_error_text(int error)
{
    switch (error) {
    case WSR_FRAME_RSV:
        return "a frame has a reserved bit set that no extension uses (RFC 6455 5.2)";
    case WSR_FRAME_OPCODE:
        return "a frame has a reserved opcode (RFC 6455 5.2)";
    case WSR_FRAME_CONTROL_LENGTH:
        return "a control frame has more than 125 bytes of payload (RFC 6455 5.5)";
    case WSR_FRAME_CONTROL_FRAGMENT:
        return "a control frame is fragmented (RFC 6455 5.5)";
    case WSR_FRAME_NOT_MINIMAL:
        return "a frame's length is not in its shortest form (RFC 6455 5.2)";
    case WSR_FRAME_LENGTH_63:
        return "a frame's length has its top bit set (RFC 6455 5.2)";
    default:
        return "unknown";
    }
}

size_t wsr_frame_head_bytes(uint64_t payload_bytes, bool masked)
{
    size_t bytes = masked ? 2 + MASK_BYTES : 2;
    if (payload_bytes < WSR_FRAME_LENGTH_16)
        return bytes;
    return payload_bytes <= UINT16_MAX ? bytes + 2 : bytes + 8;
}

size_t wsr_frame_write(uint8_t *out, uint8_t first, uint64_t payload_bytes, const uint8_t mask[4])
{
    assert(payload_bytes <= INT64_MAX);
    uint8_t mask_bit = mask != NULL ? WSR_FRAME_MASKED : 0;
    size_t bytes = 2;
    out[0] = first;
    if (payload_bytes < WSR_FRAME_LENGTH_16) {
        out[1] = (uint8_t)(mask_bit | payload_bytes);
    } else if (payload_bytes <= UINT16_MAX) {
        out[1] = mask_bit | WSR_FRAME_LENGTH_16;
        wsr_store_be16(out + 2, (uint16_t)payload_bytes);
        bytes += 2;
    } else {
        out[1] = mask_bit | WSR_FRAME_LENGTH_64;
        wsr_store_be64(out + 2, payload_bytes);
        bytes += 8;
    }
    if (mask == NULL)
        return bytes;
    memcpy(out + bytes, mask, MASK_BYTES);
    return bytes + MASK_BYTES;
}

bool wsr_frame_close_code_is_valid(uint16_t code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}
