/* Candidate addresses of one connection, tried in turn within one limit of time. */
#ifndef WSR_DIAL_H
#define WSR_DIAL_H

#include <sys/un.h>

#include "driver.h"
#include "resolve.h"

/* A Unix socket: the only candidate when it is given. */
struct wsr_dial_path {
    socklen_t bytes;                  /* 0 = none */
    union {
        struct sockaddr any;
        struct sockaddr_un un;
    };
    uint64_t pause_ns;                /* before the last attempt, as the server's queue was full */
};

struct wsr_dial {
    struct wsr_address addresses[WSR_RESOLVE_ADDRESSES_MAX];
    struct wsr_address source;        /* bytes 0 = the kernel's choice */
    uint64_t deadline_ns;             /* of all attempts together, and of the upgrade; WSR_NEVER = none */
    uint32_t addresses_count;
    uint32_t next;                    /* candidate to try next */
    int last_errno;                   /* of the last attempt that failed */
    struct wsr_dial_path path;
};

/* "ADDRESS:PORT" or "[ADDRESS]:PORT". Returns 0, or WSR_ERR_ARGUMENT with *why. */
WSR_MUST_USE int wsr_dial_parse(struct wsr_address *out, const char *text, struct wsr_fault *why);
/* The same or "unix:PATH", "unix:@NAME", as the only candidate of @dial, which is untouched when it is refused. */
WSR_MUST_USE int wsr_dial_only(struct wsr_dial *dial, const char *text, struct wsr_fault *why);

/* The candidate to try next, of *bytes; it lives in @dial. Those of another family than the source are passed over.
 * NULL when none is left; last_errno then says why the last one failed. */
const struct sockaddr *wsr_dial_next(struct wsr_dial *dial, socklen_t *bytes);
/* Until when that candidate may take: an even share of what is left, so that one silent address does not use up the
 * others' time. */
uint64_t wsr_dial_deadline(const struct wsr_dial *dial, uint64_t now_ns);
/* Make a socket for that candidate, which is used up by it. Returns its file, or -1 with last_errno set. */
wsr_file wsr_dial_open(struct wsr_dial *dial, struct wsr_driver *driver);
/* Use that candidate up without an attempt. */
void wsr_dial_skip(struct wsr_dial *dial, int system_errno);

/* The attempt that has just failed was one at a Unix socket whose queue is full: the kernel does not wait there, so
 * begin it once more after *pause_ns, which grows from one to the next. */
bool wsr_dial_again(struct wsr_dial *dial, uint64_t *pause_ns);

/* Static sentence on a failed attempt: what, and what to do. The second is on one at a Unix socket. */
const char *wsr_dial_text(int system_errno);
const char *wsr_dial_path_text(int system_errno);

#endif
