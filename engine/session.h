/* The protocol life of one connection, from the HTTP answer to the close codes. Bytes in, events out: no socket, clock,
 * thread or random source. The same calls serve the engine, the tests at every split point and the fuzzers. */
#ifndef WSR_SESSION_H
#define WSR_SESSION_H

#include "base.h"
#include "deflate.h"
#include "frame.h"
#include "handshake.h"
#include "simd/simd.h"

struct wsr_session_limits {
    uint64_t message_max_bytes;
    uint32_t fragments_max;       /* frames per message, empty ones too */
    uint32_t head_max_bytes;      /* one response head */
    uint32_t interim_max;         /* 1xx answers before the final one */
};

/* Memory for messages that do not lie in one piece. The caller owns what these hand out. */
struct wsr_session_memory {
    /* Make the block at @old (NULL = none yet), of which @used bytes count, at least @wanted bytes large. Returns the
     * block, perhaps moved, with *capacity set; NULL when there is no memory, @old then being untouched. */
    uint8_t *(*grow)(void *context, uint8_t *old, size_t used, size_t wanted, size_t *capacity);
    void (*release)(void *context, uint8_t *block);
    /*
     * Where to inflate a whole message of which @bytes came: *room bytes, which are the session's until the call ends
     * that feeds it, or until it keeps the first of them, @used, for the event that it is about to make. NULL = in a
     * block of its own, as what does not fit in the end. Both may be NULL: none can be borrowed.
     */
    uint8_t *(*borrow)(void *context, size_t bytes, size_t *room);
    void (*keep)(void *context, size_t used);
    /* May a binary message that comes in pieces stay in them? Asked when its first piece is to be kept. NULL = no. */
    bool (*stays_in_pieces)(void *context);
    /* Keep @piece, which lies in the bytes being fed, behind what is at @list (NULL = nothing yet); at most @left bytes
     * more can follow. Returns the list, perhaps moved, which release() gives back; NULL without memory, @list then
     * being only good for release(). */
    uint8_t *(*gather)(void *context, uint8_t *list, struct wsr_bytes piece, uint64_t left);
};

/* What the sessions of one owner have in common, kept once as there may be many of them. Outlives them. */
struct wsr_session_shared {
    struct wsr_session_limits limits;   /* all but interim_max at least 1 */
    const struct wsr_session_memory *memory;
    void *memory_context;
    /* Of the session that is fed next, if permessage-deflate was agreed on; else NULL. Set by the owner, as it may be
     * another one's each time. */
    struct wsr_deflate *deflate;
    const struct wsr_simd *simd;        /* here because asking wsr_simd() costs as much as parsing a frame */
};

enum wsr_session_state {
    WSR_SESSION_UPGRADING,        /* waits for the 101 */
    WSR_SESSION_OPEN,
    WSR_SESSION_CLOSE_SENT,       /* our Close is queued; the peer's frames are still read */
    WSR_SESSION_CLOSE_RECEIVED,   /* the peer's Close came; ours is owed. Nothing more is read (CLOSE-24) */
    WSR_SESSION_FAILED,           /* a rule was broken or memory ran out: a Close is owed, nothing more is read */
    WSR_SESSION_REFUSED,          /* failed before the upgrade: no Close frame may be sent */
    WSR_SESSION_CLOSED            /* no Close is owed either way; nothing more is read */
};

enum wsr_session_event_type {
    WSR_SESSION_NOTHING,          /* bytes were taken, no event yet */
    WSR_SESSION_UPGRADED,         /* the 101 was accepted: agreement is set */
    WSR_SESSION_MESSAGE,          /* kind, data, block */
    WSR_SESSION_PING,             /* data is to be answered with a Pong */
    WSR_SESSION_PONG,             /* data */
    WSR_SESSION_CLOSE,            /* the peer's first Close: code (1005 when empty), data = reason */
    WSR_SESSION_FAILURE           /* code to close with (before the upgrade: 0), text, http_status */
};

struct wsr_session_event {
    enum wsr_session_event_type type;
    uint8_t kind;                 /* enum wsr_kind */
    uint16_t code;
    uint16_t http_status;
    struct wsr_bytes data;        /* in the fed bytes, or in block; a control payload: valid until the next call */
    uint8_t *block;               /* MESSAGE: when not NULL, data lies in this block of session memory, which passes
                                     to the receiver of the event. When data.data is NULL and data.len is not 0, it
                                     is the list that gather() has made. When NULL, data lies in what was fed, or, of
                                     a compressed message, in what was borrowed */
    struct wsr_handshake_agreement agreement;   /* views into the head; valid until the next call */
    struct wsr_bytes head;        /* UPGRADED, and FAILURE with an http_status: the whole response head; same life */
    const char *text;             /* FAILURE: static sentence */
};

/* How a message is gathered that does not come whole. */
enum wsr_session_gathering {
    WSR_SESSION_IN_BLOCK,         /* assembly is one block; so it is when there is none */
    WSR_SESSION_IN_PIECES,        /* it is a list */
    WSR_SESSION_INFLATED          /* one block, into which the message is inflated, also when it comes whole */
};

/* What only the upgrade needs; the caller may free it once the state is no longer UPGRADING. */
struct wsr_session_upgrade {
    struct wsr_handshake_offer offer;
    uint8_t *head;                /* session memory; gathered bytes of an answer in pieces */
    size_t head_used;
    size_t head_capacity;
    size_t head_scanned;
    uint32_t interim_count;
};

/* There may be a million of them, so what is never needed at the same time shares its place. A message that lies whole
 * in what is fed concerns nothing behind message_kind's row of bytes. */
struct wsr_session {
    const struct wsr_session_shared *shared;
    uint8_t state;                         /* enum wsr_session_state, changed by one function only */
    uint8_t opcode;                        /* of the current frame, while in_frame */
    uint8_t message_kind;                  /* enum wsr_kind of the message under way, 0 = none */
    uint8_t gathered;                      /* bytes that came in pieces: in_frame in control, otherwise in head */
    bool in_frame;                         /* a header was parsed and its payload is not yet complete */
    bool fin;                              /* of the current frame */
    uint8_t gathering;                     /* enum wsr_session_gathering of the message under way */
    bool is_lending;                       /* the last event points into lent; the next call gives it back */
    union {
        struct wsr_session_upgrade *upgrade;   /* in UPGRADING */
        uint8_t *assembly;                     /* later: message that is gathered, block or list; NULL when none */
    };
    uint32_t fragments_count;              /* frames of the current message so far */
    uint32_t utf8_state;                   /* of the text so far, for wsr_simd_utf8() */
    size_t assembly_used;
    size_t assembly_capacity;
    union {
        struct {                           /* while in_frame */
            uint64_t frame_left;           /* payload bytes of the current frame still to come */
            uint8_t *control;              /* payload of a control frame that came in pieces, NULL when none */
        };
        uint8_t head[WSR_FRAME_HEAD_MAX];  /* between frames: a header of which the end is still to come */
        uint8_t *lent;                     /* while is_lending, which is between frames and between headers */
    };
};
_Static_assert(sizeof(struct wsr_session) <= WSR_CACHE_LINE, "a session is at most one cache line");

/* Does a frame begin where the next bytes are fed, with no message under way? */
static inline bool wsr_session_is_between_messages(const struct wsr_session *session)
{
    bool is_under_way =
        (session->in_frame | session->gathered | session->message_kind | session->is_lending) != 0;
    return (session->state == WSR_SESSION_OPEN || session->state == WSR_SESSION_CLOSE_SENT) && !is_under_way;
}

/*
 * The way of nearly every message: between messages, its one frame lies whole at @in and is not empty. Returns the
 * bytes of the frame with *kind and *data set: it was taken. 0 says only that wsr_session_feed() is to decide.
 */
WSR_MUST_USE static inline size_t wsr_session_take_whole(const struct wsr_session_shared *shared, const uint8_t *in,
                                                         size_t len, uint8_t *kind, struct wsr_bytes *data)
{
    size_t payload_bytes;
    size_t head_bytes = wsr_frame_parse_plain(in, len, &payload_bytes);
    if (head_bytes == 0 || payload_bytes > len - head_bytes || payload_bytes > shared->limits.message_max_bytes)
        return 0;
    *kind = in[0] & WSR_FRAME_OPCODE_BITS;
    *data = wsr_bytes_of(in + head_bytes, payload_bytes);
    if (*kind == WSR_OPCODE_TEXT) {
        uint32_t state = 0;
        if (shared->simd->utf8(&state, data->data, payload_bytes) != payload_bytes || state != 0)
            return 0;
    }
    return head_bytes + payload_bytes;
}

/* Start in UPGRADING. @upgrade is filled by the caller (offer set, rest zero) and outlives that state. */
void wsr_session_init(struct wsr_session *session, const struct wsr_session_shared *shared,
                      struct wsr_session_upgrade *upgrade);

/* Give back all session memory, in any state. */
void wsr_session_free(struct wsr_session *session);

/*
 * Take bytes until one event is complete or the bytes end. Returns the bytes taken, 1 to @len (0 only for len 0), with
 * *event describing what they completed; the caller goes on with the rest. A message that lies whole inside @in is
 * an event that points into it. From CLOSE_RECEIVED on, and with a FAILURE, all bytes are taken and ignored.
 * The events are the same for every way of cutting the same stream, but for block, and but for a compressed message
 * that refers back beyond the window agreed on: it may fail or be what it stands for, as zlib sees that or not. Of
 * *event only type and what its comment names for that type is set.
 */
size_t wsr_session_feed(struct wsr_session *session, const uint8_t *in, size_t len, struct wsr_session_event *event);

/*
 * Our Close is being queued (or a failure's): OPEN -> CLOSE_SENT, CLOSE_RECEIVED -> CLOSED, FAILED -> CLOSED. Returns
 * whether a Close frame is to be written: false when one was sent already, or before the upgrade, where nothing
 * changes. A failure in CLOSE_SENT goes to CLOSED at once: our only Close frame has been sent.
 */
bool wsr_session_close(struct wsr_session *session);

#endif
