/* One thread of the echo server: its driver, its listening socket, its connections, its blocks. */
#ifndef WSR_ECHO_WORKER_H
#define WSR_ECHO_WORKER_H

#include <semaphore.h>
#include <stdatomic.h>

#include "echo_deflate.h"
#include "echo_stream.h"
#include "echo_tls.h"
#include "engine/driver.h"

struct wsr_echo_options {
    const char *host;             /* numeric address */
    uint64_t port;                /* 0 = the kernel's choice */
    uint64_t workers_count;
    uint64_t backlog;
    uint64_t buffers_count;       /* receive buffers of each worker, a power of two */
    uint64_t buffer_bytes;
    bool no_subprotocol;
    const struct wsr_deflate_offer *deflate;      /* limits for permessage-deflate; NULL = not agreed on */
    bool spin;                    /* never sleep */
    bool direct;                  /* connections are no open files */
};

struct wsr_echo_conn;
struct wsr_echo_worker;

struct wsr_echo_server {
    const struct wsr_echo_options *options;
    struct wsr_echo_tls_context *tls;      /* NULL = plain TCP */
    struct wsr_echo_worker *workers;
    _Atomic(bool) stop;
    sem_t ready;                  /* posted by each worker when it runs or has failed */
    sem_t leave;                  /* posted for each worker when nobody calls wake() any more: drivers may go */
};

struct wsr_echo_worker {
    struct wsr_echo_server *server;
    unsigned index;
    wsr_file listener;            /* its own listening socket; the server's to close */
    struct wsr_driver *driver;    /* set before `ready`; others may call wake() */
    char error[320];              /* why it did not start; "" when it runs */
    struct wsr_echo_counts counts;

    struct wsr_echo_pool pool;
    struct wsr_echo_tls_shared tls;
    uint8_t *buffers;
    struct wsr_echo_conn *conns;
    uint32_t conns_used;          /* slots from 0 that were ever taken */
    uint32_t conns_live;
    uint32_t free_slot;           /* head of the list of free slots */
    uint32_t dirty_slot;          /* head of the list of connections with something to send */
    uint32_t starved_slot;        /* head of the list of connections whose receive found no buffer */
    bool accept_rests;            /* out of descriptors: tries again later */
};

/* Thread function; @argument is a struct wsr_echo_worker whose server, index and listener are set. */
void *wsr_echo_worker_run(void *argument);

#endif
