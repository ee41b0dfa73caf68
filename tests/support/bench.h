/* An io_uring driver with buffers, a listener, both ends of one connection, and what completed. */
#ifndef BENCH_H
#define BENCH_H

#include <netinet/in.h>

#include "engine/uring.h"

enum { CONNECT = 1, ACCEPT, RECV, SEND, INTO, OTHER };      /* tokens */

#define BENCH_BUFFER_BYTES 512u
#define BENCH_LOG_MAX 4096u

struct bench {
    struct wsr_driver *driver;
    uint8_t *memory;
    struct sockaddr_in address;                             /* of the listener */
    wsr_file listener, client, server;                      /* -1 = none */
    struct wsr_completion log[BENCH_LOG_MAX];
    unsigned log_count;
};

/* Returns what the driver said of itself. */
struct wsr_uring_report bench_open(struct bench *bench, const struct wsr_uring_options *options,
                                   unsigned buffers_count);
void bench_close(struct bench *bench);

/* @ms from now. */
uint64_t bench_soon(struct wsr_driver *driver, uint64_t ms);
/* The next completion of @token; others stay in the log. Fails the test after ten seconds. */
struct wsr_completion bench_await(struct bench *bench, uint64_t token);

/* Listen, and accept with ACCEPT. */
void bench_listen(struct bench *bench);
/* A file that connects to the listener. */
wsr_file bench_connect(struct bench *bench, uint64_t token);
/* One more connection, both ends; the first makes the listener. */
void bench_pair(struct bench *bench, wsr_file *client, wsr_file *server);
void bench_send(struct bench *bench, wsr_file file, const void *data, size_t len, uint64_t token);

#endif
