/* One WebSocket frame header, both directions (RFC 6455 5.2). Owns nothing. */
#ifndef WSR_FRAME_H
#define WSR_FRAME_H

#include "base.h"

enum wsr_opcode {
    WSR_OPCODE_CONTINUATION = 0x0,
    WSR_OPCODE_TEXT = 0x1,
    WSR_OPCODE_BINARY = 0x2,
    WSR_OPCODE_CLOSE = 0x8,
    WSR_OPCODE_PING = 0x9,
    WSR_OPCODE_PONG = 0xA
};

/* Close codes that the engine itself gives (RFC 6455 7.4.1). */
enum wsr_close_code {
    WSR_CLOSE_PROTOCOL = 1002,
    WSR_CLOSE_NO_STATUS = 1005,      /* never on the wire: the Close frame was empty */
    WSR_CLOSE_NOT_UTF8 = 1007,
    WSR_CLOSE_POLICY = 1008,
    WSR_CLOSE_TOO_BIG = 1009,
    WSR_CLOSE_INTERNAL = 1011
};

#define WSR_FRAME_FIN 0x80           /* of the first byte */
#define WSR_FRAME_OPCODE_BITS 0x0F   /* the same */
#define WSR_FRAME_MASKED 0x80        /* of the second byte, whose other bits are a length or one of the next two */
#define WSR_FRAME_LENGTH_16 126      /* the length follows in 16 bits */
#define WSR_FRAME_LENGTH_64 127      /* the length follows in 64 bits */
#define WSR_FRAME_RSV1 4             /* of wsr_frame.rsv */
#define WSR_FRAME_HEAD_MAX 14        /* 2 + 8 of length + 4 of mask */
#define WSR_FRAME_CONTROL_MAX 125    /* payload of a control frame (RFC 6455 5.5) */

struct wsr_frame {
    uint64_t payload_bytes;
    uint8_t opcode;                  /* enum wsr_opcode */
    uint8_t rsv;                     /* bits 4 (RSV1), 2, 1 as in the first byte shifted down by four */
    uint8_t head_bytes;
    bool fin;
    bool masked;
    uint8_t mask[4];                 /* set when masked */
};

/* RFC 6455 5.5: opcodes with the highest bit set are control frames. */
static inline bool wsr_frame_is_control(uint8_t opcode)
{
    return (opcode & 0x8) != 0;
}

/* Why a header is refused; each is one rule. */
enum wsr_frame_error {
    WSR_FRAME_RSV = -1,              /* RSV2 or RSV3 set (RSV1 is the session's to judge): RECV-01 */
    WSR_FRAME_OPCODE = -2,           /* RECV-02 */
    WSR_FRAME_CONTROL_LENGTH = -3,   /* control frame over 125 bytes: RECV-06 */
    WSR_FRAME_CONTROL_FRAGMENT = -4, /* control frame without FIN: RECV-06 */
    WSR_FRAME_NOT_MINIMAL = -5,      /* RECV-04 */
    WSR_FRAME_LENGTH_63 = -6         /* top bit of a 64-bit length: RECV-05 */
};

/*
 * Parse one header from @len bytes at @in. Returns its bytes, 0 for "need more", or enum wsr_frame_error as soon as
 * the field that breaks the rule is whole (RSV, opcode and FIN by the first byte, control length by the second, the
 * long lengths before the mask), so that the same bytes give the same error for every cut. *out is written on
 * success only. A masked frame is parsed, not judged: which side may mask is the caller's rule.
 */
WSR_MUST_USE int wsr_frame_parse(struct wsr_frame *out, const uint8_t *in, size_t len);

/*
 * The shortcut for nearly all that servers send: the header of an unmasked, unfragmented text or binary message that
 * is not empty, with a 7- or 16-bit length. Returns its bytes with *payload_bytes set; 0 only says that
 * wsr_frame_parse() is to decide.
 */
WSR_MUST_USE static inline size_t wsr_frame_parse_plain(const uint8_t *in, size_t len, size_t *payload_bytes)
{
    if (len < 3 || (in[0] != (WSR_FRAME_FIN | WSR_OPCODE_TEXT) && in[0] != (WSR_FRAME_FIN | WSR_OPCODE_BINARY)))
        return 0;
    *payload_bytes = in[1];
    if (WSR_LIKELY(in[1] - 1u < WSR_FRAME_LENGTH_16 - 1u))
        return 2;
    if (in[1] != WSR_FRAME_LENGTH_16 || len < 4)
        return 0;
    *payload_bytes = wsr_load_be16(in + 2);
    return *payload_bytes >= WSR_FRAME_LENGTH_16 ? 4 : 0;
}

/* Static sentence for an enum wsr_frame_error. */
const char *wsr_frame_error_text(int error);

/* Bytes of the header for @payload_bytes, shortest form (SEND-11). */
size_t wsr_frame_head_bytes(uint64_t payload_bytes, bool masked);

/*
 * Write a header: @first is FIN (0x80) | RSV bits | opcode; @mask is NULL for an unmasked (server) frame. @out has
 * room for WSR_FRAME_HEAD_MAX. Returns the bytes written.
 */
size_t wsr_frame_write(uint8_t *out, uint8_t first, uint64_t payload_bytes, const uint8_t mask[4]);

/* May this close code stand in a frame that was received? Semantics 3.3: 1000-1003, 1007-1014, 3000-4999. */
bool wsr_frame_close_code_is_valid(uint16_t code);

#endif
