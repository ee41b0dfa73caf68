/* The one interface of I/O: operations submitted, completions handed back. uring, epoll and the tests' simulated
 * driver stand behind it. A driver belongs to one thread; only wake() may be called from others. */
#ifndef WSR_DRIVER_H
#define WSR_DRIVER_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "base.h"

/* A socket as the driver names it: a descriptor, or an index of its own table. Never negative when valid. */
typedef int32_t wsr_file;

enum wsr_completion_flags {
    WSR_COMPLETION_MORE = 1u << 0,     /* the operation is still in flight and completes again */
    WSR_COMPLETION_BUFFER = 1u << 1    /* `buffer` names a receive buffer that the kernel gave up */
};

struct wsr_completion {
    uint64_t token;      /* as submitted */
    int32_t result;      /* bytes; a wsr_file from accept; or -errno */
    uint16_t flags;      /* enum wsr_completion_flags */
    uint16_t buffer;
};

struct wsr_driver_setup {
    int family;                           /* AF_INET, AF_INET6, AF_UNIX */
    bool nodelay;                         /* TCP_NODELAY */
    const struct sockaddr *source;        /* bind to it; NULL = the kernel's choice */
    socklen_t source_bytes;
};

struct wsr_driver_counts {
    uint64_t enters;                      /* system calls that submitted or waited */
    uint64_t submitted;                   /* operations */
    uint64_t overflows;                   /* completions that the kernel had to keep aside */
};

struct wsr_driver;

struct wsr_driver_ops {
    const char *name;                     /* "io_uring", "epoll", "simulated" */

    /* Make a stream socket, without blocking. Returns the file or -errno. */
    wsr_file (*open)(struct wsr_driver *driver, const struct wsr_driver_setup *setup);
    /* Make a listening stream socket bound to @address. Returns the file or -errno; *port gets the port bound to. */
    wsr_file (*listen)(struct wsr_driver *driver, const struct sockaddr *address, socklen_t address_bytes, int backlog,
                       uint16_t *port);
    /* No operation is in flight on @file any more: give it up. */
    void (*close)(struct wsr_driver *driver, wsr_file file);
    /* shutdown(SHUT_WR), at once. Returns 0 or -errno. */
    int (*shutdown)(struct wsr_driver *driver, wsr_file file);
    /* setsockopt(), at once. Returns 0 or -errno; -EAGAIN: not now, but perhaps after a wait. */
    int (*set_option)(struct wsr_driver *driver, wsr_file file, int level, int name, const void *value,
                      socklen_t bytes);

    /* Each of these queues one operation, which ends with exactly one completion without MORE, never inside the call.
     * What cannot be queued completes with an error. */
    void (*connect)(struct wsr_driver *driver, wsr_file file, const struct sockaddr *address, socklen_t address_bytes,
                    uint64_t token);          /* @address lives until the completion */
    /* Multishot: each result is a file, with TCP_NODELAY set. */
    void (*accept)(struct wsr_driver *driver, wsr_file file, uint64_t token);
    /* Multishot, into provided buffers: 0 = end of stream, -ENOBUFS = none left. */
    void (*recv)(struct wsr_driver *driver, wsr_file file, uint64_t token);
    void (*recv_into)(struct wsr_driver *driver, wsr_file file, void *to, size_t len, uint64_t token);   /* once */
    /* @parts is copied; the memory behind it lives until the completion. May end short. At most
     * WSR_DRIVER_PARTS_MAX. */
    void (*send)(struct wsr_driver *driver, wsr_file file, const struct iovec *parts, size_t parts_count,
                 uint64_t token);
    /* The same on a file whose TLS records the kernel seals, where it ends short at any time. */
    void (*send_sealed)(struct wsr_driver *driver, wsr_file file, const struct iovec *parts, size_t parts_count,
                        uint64_t token);
    /* One sendmsg(), one recvmsg(), for messages with control data. @message and all behind it live until the
     * completion. */
    void (*send_message)(struct wsr_driver *driver, wsr_file file, const struct msghdr *message, uint64_t token);
    void (*recv_message)(struct wsr_driver *driver, wsr_file file, struct msghdr *message, uint64_t token);
    /*
     * Send at once and without an operation, where that is faster. Returns the bytes taken, perhaps not all; -EAGAIN:
     * use send(), now or never; another -errno: the connection is broken. No send is in flight on @file. NULL is for
     * never.
     */
    ssize_t (*send_now)(struct wsr_driver *driver, wsr_file file, const struct iovec *parts, size_t parts_count);
    /* Ask the operation in flight that has @token to end: it completes by itself, with -ECANCELED or its true result.
     * By token, as the kernel finds one operation by its hash but has to walk them all for a file. The kernel may miss
     * an operation that is just being worked on: who depends on the end asks again. */
    void (*cancel)(struct wsr_driver *driver, uint64_t token);

    /* Register @count buffers (power of two) of @bytes each at @base; all are the kernel's at first. Once. 0 or
     * -errno. */
    int (*provide)(struct wsr_driver *driver, uint8_t *base, uint32_t bytes, uint32_t count);
    /* Give buffer @index back; published with the next wait at the latest. */
    void (*give)(struct wsr_driver *driver, uint16_t index);

    /*
     * Submit what is queued and take up to @out_count completions, waiting for the first until @deadline_ns of now()
     * (0 = do not wait; WSR_NEVER = without end). Returns their number; 0 when the deadline is over, after wake() or a
     * signal; -errno when the driver is broken.
     */
    int (*wait)(struct wsr_driver *driver, struct wsr_completion *out, unsigned out_count, uint64_t deadline_ns);
    /* Are completions there? For spinning: without entering the ring, but for sockets on which a plain call is the
     * fastest look. false may be late, never for ever. */
    bool (*ready)(struct wsr_driver *driver);
    /* Make a wait() in progress, or else the next one, return. From any thread. */
    void (*wake)(struct wsr_driver *driver);
    /* Descriptor that polls readable when completions may wait, or -1. Made at the first call, by the owning thread. */
    int (*descriptor)(struct wsr_driver *driver);
    uint64_t (*now)(struct wsr_driver *driver);       /* ns */
    const char *(*features)(struct wsr_driver *driver);   /* words separated by one space */
    struct wsr_driver_counts (*counts)(struct wsr_driver *driver);
    /* Ends and joins whatever is in flight, then frees. Files still open are closed. */
    void (*destroy)(struct wsr_driver *driver);
};

#define WSR_DRIVER_PARTS_MAX 256

/* First member of every driver. */
struct wsr_driver {
    const struct wsr_driver_ops *ops;
};

#endif
