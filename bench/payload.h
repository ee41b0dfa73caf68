/* Messages that name themselves, and the judgement of what comes back. A message is a head (checksum, sequence,
 * connection, run, magic, size) and a body cut from a random pattern at a place that depends on the head, so that
 * a body under the wrong head is found. Text carries the head in hexadecimal and a body of two- to four-byte
 * characters. JSON is text whose pattern is quotes as exchanges send them, which compress well. */
#ifndef WSR_PAYLOAD_H
#define WSR_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "wsring.h"

#define WSR_PAYLOAD_HEAD_BYTES 32u
#define WSR_PAYLOAD_HEAD_CHARS 64u
#define WSR_PAYLOAD_PARTS 3u

/* What all messages of a run share. Read-only after wsr_payload_init(), so that threads may share it. */
struct wsr_payload_plan {
    uint8_t *pattern;
    size_t message_bytes;
    size_t head_bytes;      /* as sent; less than a whole head when messages are shorter than that */
    uint32_t run;
    uint32_t places;        /* where a body may start in the pattern, */
    uint32_t place_bytes;   /* so far apart */
    enum wsr_kind kind;
    bool is_whole;          /* the head fits: messages are identified by what they say */
};

struct wsr_payload_id {
    uint32_t connection;
    uint64_t sequence;
};

enum wsr_payload_verdict {
    WSR_PAYLOAD_EXPECTED = 0,    /* the very message */
    WSR_PAYLOAD_OTHER = 1,       /* a sound message of this connection with another sequence, which is told */
    WSR_PAYLOAD_FOREIGN = 2,     /* a sound head of another connection or another run */
    WSR_PAYLOAD_CORRUPT = 3      /* anything else; the sequence is told when the head is sound */
};

/* Returns 0 or WSR_ERR_MEMORY. @run tells runs apart and seeds the pattern. */
WSR_MUST_USE int wsr_payload_init(struct wsr_payload_plan *plan, enum wsr_kind kind, size_t message_bytes,
                                  uint32_t run);
/* The same for JSON, which is text. */
WSR_MUST_USE int wsr_payload_init_json(struct wsr_payload_plan *plan, size_t message_bytes, uint32_t run);
void wsr_payload_free(struct wsr_payload_plan *plan);

/*
 * The message @id in up to WSR_PAYLOAD_PARTS parts: its head, written to @head (WSR_PAYLOAD_HEAD_CHARS), its body,
 * which lies in the pattern, and for text what fills up after the last whole character. Returns the number of
 * parts.
 */
size_t wsr_payload_make(const struct wsr_payload_plan *plan, struct wsr_payload_id id, uint8_t *head,
                        struct iovec parts[WSR_PAYLOAD_PARTS]);

/* Is this, byte for byte, the message @id? */
bool wsr_payload_is(const struct wsr_payload_plan *plan, struct wsr_payload_id id, const void *data, size_t len);

/* Judge what came when @expected was next. *sequence is set for OTHER, and for CORRUPT (to the expected one when
 * the head cannot be read). Messages too short for a whole head are EXPECTED or CORRUPT. */
enum wsr_payload_verdict wsr_payload_judge(const struct wsr_payload_plan *plan, struct wsr_payload_id expected,
                                           const void *data, size_t len, uint64_t *sequence);

#endif
