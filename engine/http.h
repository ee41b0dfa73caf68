/* The head of an HTTP/1.1 response (RFC 9112), strictly: what is ambiguous is refused. Owns nothing. */
#ifndef WSR_HTTP_H
#define WSR_HTTP_H

#include "base.h"

struct wsr_http_field {
    struct wsr_bytes name;
    struct wsr_bytes value;   /* without the white space around it */
};

/* Views into the parsed bytes. */
struct wsr_http_response {
    uint16_t status;
    struct wsr_bytes reason;
    struct wsr_bytes fields;  /* checked field lines, each with its CRLF, for wsr_http_next_field() */
};

/*
 * Parse a response head from the start of @in. @scanned is what an earlier call on a shorter prefix of the same
 * bytes looked at (0 at first); *scanned is updated, so that a head in many pieces is scanned once.
 * Returns the head's bytes with its blank line, 0 for "need more", WSR_ERR_SYNTAX with *why: the status line is
 * judged as soon as it differs from HTTP/1.1, so garbage without a line end fails at once. RESP-01, 10, 13.
 */
WSR_MUST_USE ptrdiff_t wsr_http_parse(struct wsr_http_response *out, const uint8_t *in, size_t len, size_t *scanned,
                                      struct wsr_fault *why);

/* The same, of HTTP/1.1 or HTTP/1.0: proxies that speak no newer one are common, and a tunnel needs nothing of it. */
WSR_MUST_USE ptrdiff_t wsr_http_parse_either(struct wsr_http_response *out, const uint8_t *in, size_t len,
                                             size_t *scanned, struct wsr_fault *why);

/* Take the next field from *rest (at first: response->fields). Returns false at the end. */
bool wsr_http_next_field(struct wsr_bytes *rest, struct wsr_http_field *out);

/* ASCII case-insensitive equality of a field name or token with a lower-case literal. */
bool wsr_http_name_is(struct wsr_bytes name, const char *lower);

/* tchar of RFC 9110 5.6.2, for names and subprotocols. */
bool wsr_http_is_token(struct wsr_bytes text);

#endif
