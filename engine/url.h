/* The URL record of a WebSocket (WHATWG URL Standard; WHATWG WebSockets, constructor). Owns nothing. */
#ifndef WSR_URL_H
#define WSR_URL_H

#include "base.h"

/* Views into the caller's text buffer, which holds href followed by what is derived from it. The NUL
 * behind origin is the last byte in use; what lies behind it may be given back. */
struct wsr_url {
    struct wsr_bytes href;       /* serialised record, userinfo kept, NUL behind it (URL-30) */
    struct wsr_bytes origin;     /* scheme://host[:port], NUL behind it (URL-35) */
    struct wsr_bytes host;       /* serialised host, IPv6 in brackets */
    struct wsr_bytes authority;  /* host[:port] as in the Host header (URL-33) */
    struct wsr_bytes target;     /* request-target: path, and ?query when that is non-empty (URL-31), NUL behind */
    struct wsr_bytes user;       /* userinfo, still percent-encoded; empty when none */
    struct wsr_bytes password;
    uint16_t port;               /* effective port: 80 or 443 when elided */
    bool secure;                 /* wss */
    bool was_http;               /* written as http or https; as a base it is of the same scheme as those (URL-07) */
    bool host_is_ip;
};

/* Bytes of text that wsr_url_parse() may need for an input of @len bytes and a base whose href has @base_len (0 =
 * none). */
size_t wsr_url_text_bytes(size_t len, size_t base_len);

/*
 * Parse @len bytes at @in (UTF-8, any byte value) against @base (NULL = none; already ws or wss). @text has
 * @text_capacity bytes, at least wsr_url_text_bytes(), and holds what *out points to.
 * Returns 0; WSR_ERR_SYNTAX with *why filled and *out untouched; WSR_ERR_MEMORY.
 */
WSR_MUST_USE int wsr_url_parse(struct wsr_url *out, const char *in, size_t len, const struct wsr_url *base,
                               char *text, size_t text_capacity, struct wsr_fault *why);

/* Decode %XX of @in into @out (at least in.len bytes); returns the bytes written. URL Standard, percent-decode. */
size_t wsr_url_percent_decode(uint8_t *out, struct wsr_bytes in);

#endif
