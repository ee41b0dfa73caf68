/* engine/uring_enter.c: how a sleep ends, one by one and in batches, with the kernel's help and without.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <pthread.h>
#include <unistd.h>

#include "engine/uring.h"

enum { CONNECT = 1, RECV, PAIRS = 4, BUFFER_BYTES = 256, BUFFERS_COUNT = 32 };

struct bench {
    struct wsr_driver *driver;
    uint8_t memory[BUFFERS_COUNT * BUFFER_BYTES];
    int listener;
    int peers[PAIRS];
};

/* Without sleeping, so that no batch is waited for. */
static void expect_one(struct bench *b, uint64_t token, int result)
{
    struct wsr_completion done;
    int n = 0;
    while (n == 0)
        n = b->driver->ops->wait(b->driver, &done, 1, 0);
    assert_int_equal(n, 1);
    assert_int_equal(done.token, token);
    assert_int_equal(done.result, result);
}

/* With PAIRS connections that receive. @off as WSRING_URING_OFF has it. */
static void set_up(struct bench *b, const struct wsr_uring_options *options, const char *off)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    setenv("WSRING_URING_OFF", off, 1);
    assert_int_equal(wsr_uring_create(&b->driver, options, NULL), 0);
    unsetenv("WSRING_URING_OFF");
    assert_int_equal(b->driver->ops->provide(b->driver, b->memory, BUFFER_BYTES, BUFFERS_COUNT), 0);
    b->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(b->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(b->listener, PAIRS), 0);
    assert_int_equal(getsockname(b->listener, (struct sockaddr *)&address, &len), 0);
    for (unsigned i = 0; i < PAIRS; i++) {
        struct wsr_driver_setup setup = { .family = AF_INET };
        wsr_file file = b->driver->ops->open(b->driver, &setup);
        b->driver->ops->connect(b->driver, file, (struct sockaddr *)&address, sizeof address, CONNECT);
        expect_one(b, CONNECT, 0);
        b->peers[i] = accept(b->listener, NULL, NULL);
        assert_true(b->peers[i] >= 0);
        b->driver->ops->recv(b->driver, file, RECV);
    }
    struct wsr_completion none;
    assert_int_equal(b->driver->ops->wait(b->driver, &none, 1, 0), 0);
}

static void tear_down(struct bench *b)
{
    b->driver->ops->destroy(b->driver);
    for (unsigned i = 0; i < PAIRS; i++)
        close(b->peers[i]);
    close(b->listener);
}

/* One after the other, with time to sleep in between. */
static void *speak_in_turn(void *context)
{
    const struct bench *b = context;
    for (unsigned i = 0; i < PAIRS; i++) {
        usleep(5000);
        assert_int_equal(send(b->peers[i], "x", 1, MSG_NOSIGNAL), 1);
    }
    return NULL;
}

static void for_each_way(void (*test)(const char *off))
{
    test("");
    test("min_wait");
    test("min_wait,abs_timer");
}

static void sleep_for_a_batch(const char *off)
{
    static struct bench b;
    struct wsr_completion done[PAIRS];
    struct wsr_uring_options options = { .batch_count = PAIRS, .batch_ns = 60 * WSR_NS_PER_S };
    pthread_t thread;
    set_up(&b, &options, off);
    for (unsigned round = 0; round < 2; round++) {
        uint64_t deadline_ns = round == 0 ? WSR_NEVER : b.driver->ops->now(b.driver) + 60 * WSR_NS_PER_S;
        assert_int_equal(pthread_create(&thread, NULL, speak_in_turn, &b), 0);
        assert_int_equal(b.driver->ops->wait(b.driver, done, PAIRS, deadline_ns), PAIRS);
        pthread_join(thread, NULL);
        for (unsigned i = 0; i < PAIRS; i++)
            b.driver->ops->give(b.driver, done[i].buffer);
    }
    tear_down(&b);
}

static void a_sleep_lasts_until_the_batch_is_complete(void **state)
{
    (void)state;
    for_each_way(sleep_for_a_batch);
}

static void sleep_for_one(const char *off)
{
    static struct bench b;
    struct wsr_completion done[PAIRS];
    struct wsr_uring_options options = { .batch_count = PAIRS, .batch_ns = WSR_NS_PER_MS };
    pthread_t thread;
    set_up(&b, &options, off);
    assert_int_equal(send(b.peers[0], "x", 1, MSG_NOSIGNAL), 1);       /* alone: the batch is never complete */
    assert_int_equal(b.driver->ops->wait(b.driver, done, PAIRS, WSR_NEVER), 1);
    assert_int_equal(pthread_create(&thread, NULL, speak_in_turn, &b), 0);
    for (unsigned taken = 0; taken < PAIRS;) {
        int n = b.driver->ops->wait(b.driver, done, PAIRS, WSR_NEVER);
        assert_in_range(n, 1, PAIRS);           /* never none: there is no deadline */
        taken += (unsigned)n;
    }
    pthread_join(thread, NULL);
    tear_down(&b);
}

static void when_the_time_is_over_one_is_enough(void **state)
{
    (void)state;
    for_each_way(sleep_for_one);
}

static void sleep_to_the_deadline(const char *off)
{
    static struct bench b;
    struct wsr_completion done[PAIRS];
    struct wsr_uring_options options = { .batch_count = PAIRS, .batch_ns = 1000 * WSR_NS_PER_S };
    set_up(&b, &options, off);
    uint64_t deadline_ns = b.driver->ops->now(b.driver) + 2 * WSR_NS_PER_MS;
    assert_int_equal(b.driver->ops->wait(b.driver, done, PAIRS, deadline_ns), 0);
    assert_true(b.driver->ops->now(b.driver) >= deadline_ns);
    /* What there is by then is handed out. */
    assert_int_equal(send(b.peers[0], "x", 1, MSG_NOSIGNAL), 1);
    deadline_ns = b.driver->ops->now(b.driver) + 2 * WSR_NS_PER_MS;
    assert_int_equal(b.driver->ops->wait(b.driver, done, PAIRS, deadline_ns), 1);
    tear_down(&b);
}

static void a_deadline_ends_the_wait_for_a_batch(void **state)
{
    (void)state;
    for_each_way(sleep_to_the_deadline);
}

static void napi_is_told_only_when_it_was_asked_for(void **state)
{
    static struct bench b;
    struct wsr_uring_report report;
    struct wsr_uring_options options = { .napi_us = 0 };
    (void)state;
    wsr_uring_probe(&report);
    bool can = strstr(report.features, "napi") != NULL;
    set_up(&b, &options, "");
    assert_null(strstr(b.driver->ops->features(b.driver), "napi"));
    tear_down(&b);
    options.napi_us = 50;
    set_up(&b, &options, "");
    assert_int_equal(strstr(b.driver->ops->features(b.driver), "napi") != NULL, can);
    tear_down(&b);
    set_up(&b, &options, "napi");
    assert_null(strstr(b.driver->ops->features(b.driver), "napi"));
    tear_down(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sleep_lasts_until_the_batch_is_complete),
        cmocka_unit_test(when_the_time_is_over_one_is_enough),
        cmocka_unit_test(a_deadline_ends_the_wait_for_a_batch),
        cmocka_unit_test(napi_is_told_only_when_it_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
