/* Asking a proxy for a tunnel: HTTP CONNECT (RFC 9110 9.3.6) and SOCKS5 (RFC 1928, RFC 1929). Bytes in, bytes out: no
 * socket, clock or thread. The same calls serve the engine, the tests at every split point and the fuzzer. */
#ifndef WSR_PROXY_H
#define WSR_PROXY_H

#include "base.h"
#include "resolve.h"

#define WSR_PROXY_HOST_MAX 255        /* bytes of a host: what SOCKS5 can carry, and what the DNS can hold */
#define WSR_PROXY_CREDENTIAL_MAX 255  /* bytes of a user and of a password in SOCKS5 (RFC 1929 2) */

enum wsr_proxy_kind {
    WSR_PROXY_HTTP = 1,
    WSR_PROXY_SOCKS5,      /* we look the destination up */
    WSR_PROXY_SOCKS5H      /* the proxy does */
};

/* What the caller's text says, taken apart. */
struct wsr_proxy_url {
    uint8_t kind;                      /* enum wsr_proxy_kind */
    bool has_credentials;
    uint16_t port;
    struct wsr_bytes user, password;   /* still percent-encoded; they lie in the caller's text */
    char host[WSR_PROXY_HOST_MAX + 1]; /* as a URL's: lower-case ASCII, or an address, IPv6 in brackets */
};

/* Parse "SCHEME://[USER[:PASSWORD]@]HOST:PORT", behind which one slash may stand. Returns 0; WSR_ERR_SYNTAX with *why
 * and *out untouched; WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_proxy_parse(struct wsr_proxy_url *out, const char *text, struct wsr_fault *why);

/* One tunnel in the making. What is said in the first four states is in message[]. */
enum wsr_proxy_state {
    WSR_PROXY_CONNECTING,      /* HTTP: CONNECT was said, its answer is awaited */
    WSR_PROXY_GREETING,        /* SOCKS5: methods were offered, the choice is awaited */
    WSR_PROXY_AUTHENTICATING,  /* user and password were given, the verdict is awaited */
    WSR_PROXY_REQUESTING,      /* the destination was named, the reply is awaited */
    WSR_PROXY_STANDING,        /* what comes now is the destination's */
    WSR_PROXY_REFUSED          /* nothing more is read */
};
#define WSR_PROXY_MESSAGES_COUNT 4

struct wsr_proxy {
    uint8_t kind;                      /* enum wsr_proxy_kind */
    uint8_t state;                     /* enum wsr_proxy_state, changed by one function only */
    bool has_credentials;
    uint16_t port;                     /* of the proxy */
    uint16_t target_port;
    uint16_t reply_at;                 /* SOCKS5: bytes of the present reply that were judged */
    uint16_t reply_bytes;              /* ... and how many it has, as far as is known */
    uint32_t head_max_bytes;           /* set by the owner before the first feed, as is the next */
    uint32_t interim_max;
    uint32_t interim_count;
    uint8_t *head;                     /* malloc: gathered bytes of the answer to CONNECT, NULL when none */
    size_t head_used, head_capacity, head_scanned;
    struct wsr_bytes message[WSR_PROXY_MESSAGES_COUNT];   /* in text */
    char host[WSR_PROXY_HOST_MAX + 1]; /* of the proxy */
    uint8_t text[];
};

/*
 * Make a tunnel through @url to @host, which is as in a URL, and @port. Everything is copied. Returns 0 with *out, to
 * be given to wsr_proxy_free(); WSR_ERR_SYNTAX with *why when SOCKS5 cannot carry the name; WSR_ERR_MEMORY.
 */
WSR_MUST_USE int wsr_proxy_create(struct wsr_proxy **out, const struct wsr_proxy_url *url, struct wsr_bytes host,
                                  uint16_t port, struct wsr_fault *why);
void wsr_proxy_free(struct wsr_proxy *proxy);      /* NULL is allowed */

/* Is the destination's address to be looked up, and told, before anything is said? */
bool wsr_proxy_wants_address(const struct wsr_proxy *proxy);
void wsr_proxy_set_address(struct wsr_proxy *proxy, const struct wsr_address *address);

/* What is to be said now: at the beginning, and after WSR_PROXY_SPEAK. Lives as long as the proxy. */
struct wsr_bytes wsr_proxy_message(const struct wsr_proxy *proxy);

enum wsr_proxy_event_type {
    WSR_PROXY_NOTHING,         /* bytes were taken, more are needed */
    WSR_PROXY_SPEAK,           /* send wsr_proxy_message() */
    WSR_PROXY_STANDS,          /* the tunnel stands: the first byte that was not taken is the destination's */
    WSR_PROXY_FAILURE          /* text, http_status */
};

struct wsr_proxy_event {
    enum wsr_proxy_event_type type;
    uint16_t http_status;      /* FAILURE: of the answer to CONNECT, 0 when there is none */
    const char *text;          /* FAILURE: static sentence */
};

/*
 * Take bytes until one event is complete or the bytes end. Returns the bytes taken, 1 to @len, with *event; the caller
 * goes on with the rest. With and after a FAILURE all bytes are taken and ignored; a tunnel that stands takes none and
 * is not asked. The outcome is the same for every way of cutting the same stream.
 */
size_t wsr_proxy_feed(struct wsr_proxy *proxy, const uint8_t *in, size_t len, struct wsr_proxy_event *event);

#endif
