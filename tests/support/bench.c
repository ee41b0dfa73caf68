#include "tests/support/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct wsr_uring_report bench_open(struct bench *b, const struct wsr_uring_options *options, unsigned buffers_count)
{
    struct wsr_uring_report report;
    *b = (struct bench){ .listener = -1, .client = -1, .server = -1 };
    if (wsr_uring_create(&b->driver, options, &report) != 0)
        fail_msg("%s", report.text);
    b->memory = malloc((size_t)buffers_count * BENCH_BUFFER_BYTES);
    assert_non_null(b->memory);
    assert_int_equal(b->driver->ops->provide(b->driver, b->memory, BENCH_BUFFER_BYTES, buffers_count), 0);
    return report;
}

void bench_close(struct bench *b)
{
    b->driver->ops->destroy(b->driver);
    free(b->memory);
}

uint64_t bench_soon(struct wsr_driver *driver, uint64_t ms)
{
    return driver->ops->now(driver) + ms * WSR_NS_PER_MS;
}

struct wsr_completion bench_await(struct bench *b, uint64_t token)
{
    uint64_t deadline_ns = bench_soon(b->driver, 10000);
    for (unsigned at = 0;; at++) {
        while (at == b->log_count) {
            assert_true(b->log_count < BENCH_LOG_MAX - 64);
            assert_true(b->driver->ops->now(b->driver) < deadline_ns);
            int n = b->driver->ops->wait(b->driver, b->log + b->log_count, 64, deadline_ns);
            assert_true(n >= 0);
            b->log_count += (unsigned)n;
        }
        if (b->log[at].token == token) {
            struct wsr_completion found = b->log[at];
            memmove(b->log + at, b->log + at + 1, (b->log_count - at - 1) * sizeof *b->log);
            b->log_count--;
            return found;
        }
    }
}

void bench_listen(struct bench *b)
{
    uint16_t port = 0;
    b->address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    b->listener = b->driver->ops->listen(b->driver, (struct sockaddr *)&b->address, sizeof b->address, 128, &port);
    assert_true(b->listener >= 0);
    assert_true(port != 0);
    b->address.sin_port = htons(port);
    b->driver->ops->accept(b->driver, b->listener, ACCEPT);
}

wsr_file bench_connect(struct bench *b, uint64_t token)
{
    struct wsr_driver_setup setup = { .family = AF_INET, .nodelay = true };
    wsr_file file = b->driver->ops->open(b->driver, &setup);
    assert_true(file >= 0);
    b->driver->ops->connect(b->driver, file, (struct sockaddr *)&b->address, sizeof b->address, token);
    return file;
}

void bench_pair(struct bench *b, wsr_file *client, wsr_file *server)
{
    if (b->listener < 0)
        bench_listen(b);
    *client = bench_connect(b, CONNECT);
    assert_int_equal(bench_await(b, CONNECT).result, 0);
    struct wsr_completion accepted = bench_await(b, ACCEPT);
    assert_true(accepted.result >= 0);
    assert_int_equal(accepted.flags, WSR_COMPLETION_MORE);
    *server = accepted.result;
}

void bench_send(struct bench *b, wsr_file file, const void *data, size_t len, uint64_t token)
{
    struct iovec part = { (void *)(uintptr_t)data, len };
    b->driver->ops->send(b->driver, file, &part, 1, token);
}
