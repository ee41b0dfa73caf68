/* Streams with compressed messages, made by zlib or written out, and sessions that read them: fed at every split point,
 * with every kind of memory that a session may be given. */
#ifndef DEFLATED_H
#define DEFLATED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <zlib.h>

#include "engine/session.h"

#define DEFLATED_STREAM_MAX (1u << 20)
#define DEFLATED_LOG_MAX 4096
#define DEFLATED_NEVER SIZE_MAX
#define DEFLATED_TAIL_BYTES 4          /* 00 00 ff ff, which a sender leaves out */
#define DEFLATED_AGREED "permessage-deflate"
#define DEFLATED_NO_TAKEOVER "permessage-deflate; server_no_context_takeover"

/* First bytes of frames. */
#define DEFLATED_RSV1 0x40
#define DEFLATED_TEXT (WSR_FRAME_FIN | DEFLATED_RSV1 | WSR_OPCODE_TEXT)
#define DEFLATED_BINARY (WSR_FRAME_FIN | DEFLATED_RSV1 | WSR_OPCODE_BINARY)

/* ---- Session memory that counts, moves on every growth, lends, and can run out ---- */

enum deflated_way {
    DEFLATED_IN_BLOCKS,       /* nothing can be borrowed */
    DEFLATED_LENT,
    DEFLATED_LENT_LITTLE,     /* too small for nearly every message */
    DEFLATED_LENT_NOTHING,
    DEFLATED_IN_PIECES,       /* plain binary messages would stay in pieces; this memory has none of them */
    DEFLATED_WAYS
};

struct deflated_memory {
    enum deflated_way way;
    size_t live_count;        /* blocks handed out and not given back */
    size_t grows_count;
    size_t grows_max;         /* after so many there is no memory */
    size_t largest_bytes;
    uint8_t *borrowed;        /* what is lent in this call of the session, NULL = nothing */
    size_t room;
    size_t kept;              /* bytes of it that it keeps for its event; DEFLATED_NEVER = none */
    size_t asked_bytes;       /* of the last one borrowed */
    size_t borrows_count, keeps_count;
};
extern struct deflated_memory deflated_memory;
extern const struct wsr_session_limits deflated_limits;      /* wide ones */

/* ---- A session whose events are written down ---- */

struct deflated_peer {
    struct wsr_session session;
    struct wsr_session_shared shared;
    struct wsr_session_upgrade upgrade;
    struct wsr_deflate deflate;
    struct wsr_deflate_shared deflate_shared;
    size_t events_count;
    size_t close_after;                    /* wsr_session_close() after so many events */
    size_t log_used;
    char log[DEFLATED_LOG_MAX];
    const char *text;                      /* of the failure */
};

/* Offer permessage-deflate; deflated_open() also gives the server's answer, @extension. */
void deflated_start(struct deflated_peer *p, const struct wsr_session_limits *limits, enum deflated_way way);
void deflated_open(struct deflated_peer *p, const struct wsr_session_limits *limits, const char *extension,
                   enum deflated_way way);
void deflated_feed(struct deflated_peer *p, const uint8_t *bytes, size_t len);
/* Free all, and check that no memory is left out. */
void deflated_finish(struct deflated_peer *p);
void deflated_log(struct deflated_peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Printable bytes as they are, others in hex; of what is long only its length and checksum. */
void deflated_log_bytes(struct deflated_peer *p, struct wsr_bytes bytes);

/* ---- Streams ---- */

struct deflated_stream {
    const char *rule;
    const char *extension;                 /* NULL = DEFLATED_AGREED */
    const struct wsr_session_limits *limits;   /* NULL = deflated_limits */
    size_t close_after;                    /* events until our Close, 0 = never */
    size_t len;
    uint8_t bytes[DEFLATED_STREAM_MAX];
};

void deflated_put(struct deflated_stream *s, const void *bytes, size_t len);
/* "8105 'Hello' 8900": bytes in hex, text in quotes. */
void deflated_put_notation(struct deflated_stream *s, const char *notation);
void deflated_put_frame(struct deflated_stream *s, unsigned first, const void *payload, size_t len);

/* A server that compresses, by zlib alone. */
void deflated_start_server(z_stream *z, int level, int bits);
/* Compress @len bytes into @out, without the tail. Returns their number. */
size_t deflated_compress(z_stream *z, const void *bytes, size_t len, uint8_t *out, size_t room);
/* The same as a frame; returns the bytes of its payload. */
size_t deflated_put_message(struct deflated_stream *s, z_stream *z, unsigned first, const void *bytes, size_t len);
/* Bytes that no compressor finds anything in. */
void deflated_fill_random(uint8_t *bytes, size_t len, uint32_t seed);

/* ---- Every cut, every way ---- */

/* In three pieces, byte by byte when @first is DEFLATED_NEVER: the events must be @want. */
void deflated_check_cut(const struct deflated_stream *s, const char *want, enum deflated_way way, size_t first,
                        size_t second);
/* The stream in one piece, byte by byte, in every two and (when short) every three pieces. */
void deflated_check(const struct deflated_stream *s, const char *want);

struct deflated_row {
    const char *rule;
    const char *stream;                    /* notation */
    const char *want;
};

void deflated_check_rows(const struct deflated_row *rows, size_t count, const char *extension);
#define DEFLATED_CHECK_ROWS(rows, extension) deflated_check_rows(rows, sizeof(rows) / sizeof((rows)[0]), extension)

#endif
