/* The opening handshake (RFC 6455 4): request text, and the checks of the answer. Pure functions. */
#ifndef WSR_HANDSHAKE_H
#define WSR_HANDSHAKE_H

#include "base.h"
#include "deflate_offer.h"
#include "http.h"
#include "url.h"

#define WSR_HANDSHAKE_KEY_CHARS 24
#define WSR_HANDSHAKE_ACCEPT_CHARS 28

struct wsr_handshake_request {
    const struct wsr_url *url;
    const char *const *protocols;
    size_t protocols_count;
    const struct wsr_header *headers;     /* the caller's, each checked; a Host stands for the URL's */
    size_t headers_count;
    struct wsr_bytes extensions;          /* value of Sec-WebSocket-Extensions; empty = not offered */
    const char *key;                      /* WSR_HANDSHAKE_KEY_CHARS of base64 */
};

/* base64 of @nonce, NUL-terminated (HS-03). */
void wsr_handshake_key(char key[WSR_HANDSHAKE_KEY_CHARS + 1], const uint8_t nonce[16]);

/* The Sec-WebSocket-Accept that answers @key, NUL-terminated (RESP-07). Returns 0 or WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_handshake_accept(char accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1], const char *key);

/* Are these subprotocols legal and unique? Returns 0, or WSR_ERR_SYNTAX with *why; why->at is the element.
 * PROTO-02..05. */
WSR_MUST_USE int wsr_handshake_check_protocols(const char *const *protocols, size_t count, struct wsr_fault *why);

/* May the caller send this header? Returns 0, or WSR_ERR_SYNTAX with *why. HS-08. */
WSR_MUST_USE int wsr_handshake_check_header(const struct wsr_header *header, struct wsr_fault *why);

/* Is this the caller's own Host? And may it stand for the URL's? Returns 0, or WSR_ERR_SYNTAX with *why. HS-08. */
bool wsr_handshake_is_host(const struct wsr_header *header);
WSR_MUST_USE int wsr_handshake_check_host(const struct wsr_header *header, struct wsr_fault *why);

/*
 * Write the request into @out. Returns its bytes; when that is more than @capacity, what is in @out is void and the
 * call is to be repeated with more room. HS-01..09, URL-31..33, PROTO-06.
 */
size_t wsr_handshake_write_request(char *out, size_t capacity, const struct wsr_handshake_request *request);

/*
 * Write "Basic " and the credentials as RFC 7617 wants them; @user and @password are still percent-encoded. Returns the
 * bytes; when that is more than @capacity, what is in @out is void. No NUL is written.
 */
size_t wsr_handshake_write_basic(char *out, size_t capacity, struct wsr_bytes user, struct wsr_bytes password);

/* What was offered, for judging the answer. */
struct wsr_handshake_offer {
    char accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1];
    struct wsr_bytes protocols;           /* as sent: joined by ", "; empty = none */
    struct wsr_deflate_offers deflate;    /* as sent */
};

struct wsr_handshake_agreement {
    struct wsr_bytes protocol;            /* view into the answer's bytes, empty when absent; so the next */
    struct wsr_bytes extensions;
    struct wsr_deflate_agreed deflate;
    bool has_deflate;                     /* messages may be compressed, as deflate says */
};

/*
 * Judge a final (non-1xx-interim) answer in the order of RESP-03..09. Returns 0 with *out; WSR_ERR_SYNTAX with
 * *why, whose text says which rule failed.
 */
WSR_MUST_USE int wsr_handshake_check_answer(struct wsr_handshake_agreement *out, const struct wsr_http_response *answer,
                                            const struct wsr_handshake_offer *offer, struct wsr_fault *why);

#endif
