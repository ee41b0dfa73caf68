/* The opening handshake as the echo server sees it (RFC 6455 4.2). Pure functions. */
#ifndef WSR_ECHO_HTTP_H
#define WSR_ECHO_HTTP_H

#include "engine/base.h"

#define WSR_ECHO_HTTP_HEAD_MAX 16384u
#define WSR_ECHO_HTTP_ANSWER_CHARS 512u
#define WSR_ECHO_HTTP_PROTOCOL_MAX 128u
#define WSR_ECHO_HTTP_EXTENSIONS_MAX 4u      /* lines that are looked at; they may be more (RFC 6455 9.1) */

/* Views into the request. */
struct wsr_echo_http_request {
    struct wsr_bytes key;
    struct wsr_bytes protocol;      /* the first that was offered; empty = none */
    struct wsr_bytes extensions[WSR_ECHO_HTTP_EXTENSIONS_MAX];      /* values of Sec-WebSocket-Extensions */
    size_t extensions_count;
    const char *agreed_extensions;  /* for the answer, set by the caller; NULL = none */
};

/*
 * Read the request at the start of @in. *scanned is what an earlier call on fewer of the same bytes looked at (0
 * at first).
 * Returns the bytes of the head, 0 for "need more", or WSR_ERR_SYNTAX with *why, a sentence for the answer.
 */
WSR_MUST_USE ptrdiff_t wsr_echo_http_parse(struct wsr_echo_http_request *out, const uint8_t *in, size_t len,
                                           size_t *scanned, const char **why);

/* Write the answer 101, which agrees on the protocol when there is one, and on agreed_extensions. Returns its length,
 * or WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_echo_http_accept(char out[WSR_ECHO_HTTP_ANSWER_CHARS],
                                      const struct wsr_echo_http_request *request);

/* Write the answer 400. Returns its length. */
WSR_MUST_USE int wsr_echo_http_refuse(char out[WSR_ECHO_HTTP_ANSWER_CHARS], const char *why);

#endif
