/* Name look-up off the worker threads. One per engine; getaddrinfo(3) on up to four threads of its own, detached,
 * started when first needed. */
#ifndef WSR_RESOLVE_H
#define WSR_RESOLVE_H

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base.h"

#define WSR_RESOLVE_ADDRESSES_MAX 16

struct wsr_address {
    socklen_t bytes;
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    };
};

/* One look-up. The caller owns it and leaves it alone until done() was called or wsr_resolve_cancel() returned true. */
struct wsr_resolve_request {
    struct wsr_resolve_request *next;      /* the resolver's own */
    char host[256];                        /* NUL-terminated ASCII name */
    uint16_t port;
    uint8_t addresses_count;
    int error;                             /* EAI_*, 0 = found */
    int system_errno;                      /* with EAI_SYSTEM */
    struct wsr_address addresses[WSR_RESOLVE_ADDRESSES_MAX];
    void (*done)(struct wsr_resolve_request *request);   /* called on a resolver thread, once; must not block */
    void *context;
};

struct wsr_resolver;

struct wsr_resolver *wsr_resolver_create(void);   /* NULL without memory */
/* Requests not begun are forgotten; a look-up that hangs in the C library goes on with a copy of its own and ends
 * alone. Not from within done(), of which none is called after this returns. */
void wsr_resolver_destroy(struct wsr_resolver *resolver);

/* Queue @request. Requests of the same host that wait together share one look-up. Returns 0 or WSR_ERR_MEMORY. */
WSR_MUST_USE int wsr_resolve_start(struct wsr_resolver *resolver, struct wsr_resolve_request *request);
/* Give up. true: done() will not be called and the request is the caller's again, also when its look-up is running.
 * false: done() has been or is being called. */
bool wsr_resolve_cancel(struct wsr_resolver *resolver, struct wsr_resolve_request *request);

/* Numeric address without look-up: IPv4, or IPv6 with or without brackets. Returns whether it was one. */
bool wsr_resolve_numeric(struct wsr_address *out, const char *host, size_t host_len, uint16_t port);

#endif
