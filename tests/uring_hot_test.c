/* engine/uring_hot.c: what an owner that spins has done by plain calls, over loopback sockets.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/uring.h"
#include "engine/uring_hot.h"

enum {
    CONNECT = 1, SEND, RECV,        /* RECV + n: the receive of pair n */
    BUFFER_BYTES = 512,
    BUFFERS_COUNT = 64,
    PAIRS_MAX = WSR_URING_HOT_FILES + 2
};

/* A driver, and connections of which it has one end. */
struct bench {
    struct wsr_driver *driver;
    uint8_t memory[BUFFERS_COUNT * BUFFER_BYTES];
    int listener;
    struct sockaddr_in address;
    wsr_file files[PAIRS_MAX];
    int peers[PAIRS_MAX];
    unsigned pairs_count;
};

static uint64_t soon(const struct bench *b)
{
    return b->driver->ops->now(b->driver) + 10 * WSR_NS_PER_S;
}

static void set_up_with(struct bench *b, const struct wsr_uring_options *options, unsigned buffers_count)
{
    socklen_t len = sizeof b->address;
    b->pairs_count = 0;
    assert_int_equal(wsr_uring_create(&b->driver, options, NULL), 0);
    assert_int_equal(b->driver->ops->provide(b->driver, b->memory, BUFFER_BYTES, buffers_count), 0);
    b->listener = socket(AF_INET, SOCK_STREAM, 0);
    b->address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(bind(b->listener, (struct sockaddr *)&b->address, sizeof b->address), 0);
    assert_int_equal(listen(b->listener, 16), 0);
    assert_int_equal(getsockname(b->listener, (struct sockaddr *)&b->address, &len), 0);
}

static void set_up(struct bench *b, uint32_t flags, unsigned buffers_count)
{
    const struct wsr_uring_options options = { .flags = flags };
    set_up_with(b, &options, buffers_count);
}

static void tear_down(struct bench *b)
{
    b->driver->ops->destroy(b->driver);
    for (unsigned i = 0; i < b->pairs_count; i++) {
        if (b->peers[i] >= 0)
            close(b->peers[i]);
    }
    close(b->listener);
}

/* Until the driver has something to hand out; bytes of a place were taken from their socket then. */
static void await_ready(struct bench *b)
{
    uint64_t deadline_ns = soon(b);
    while (!b->driver->ops->ready(b->driver))
        assert_true(b->driver->ops->now(b->driver) < deadline_ns);
}

/* The next completion, waiting for it as a spinning owner does. */
static struct wsr_completion spin(struct bench *b)
{
    struct wsr_completion done;
    uint64_t deadline_ns = soon(b);
    for (;;) {
        int n = b->driver->ops->wait(b->driver, &done, 1, 0);
        assert_in_range(n, 0, 1);
        if (n == 1)
            return done;
        assert_true(b->driver->ops->now(b->driver) < deadline_ns);
        await_ready(b);
    }
}

static void expect_nothing(struct bench *b)
{
    struct wsr_completion done;
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(b->driver->ops->wait(b->driver, &done, 1, 0), 0);
}

/* Connect one more pair and start its receive. */
static unsigned connect_pair(struct bench *b)
{
    struct wsr_driver_setup setup = { .family = AF_INET, .nodelay = true };
    unsigned at = b->pairs_count++;
    b->files[at] = b->driver->ops->open(b->driver, &setup);
    assert_true(b->files[at] >= 0);
    b->driver->ops->connect(b->driver, b->files[at], (struct sockaddr *)&b->address, sizeof b->address, CONNECT);
    struct wsr_completion done = spin(b);
    assert_int_equal(done.token, CONNECT);
    assert_int_equal(done.result, 0);
    b->peers[at] = accept(b->listener, NULL, NULL);
    assert_true(b->peers[at] >= 0);
    b->driver->ops->recv(b->driver, b->files[at], RECV + at);
    return at;
}

static void expect_bytes(struct bench *b, unsigned pair, const char *text)
{
    struct wsr_completion got = spin(b);
    assert_int_equal(got.token, RECV + pair);
    assert_int_equal(got.result, strlen(text));
    assert_int_equal(got.flags, WSR_COMPLETION_MORE | WSR_COMPLETION_BUFFER);
    assert_memory_equal(b->memory + got.buffer * BUFFER_BYTES, text, strlen(text));
    b->driver->ops->give(b->driver, got.buffer);
}

static void expect_end(struct bench *b, unsigned pair, int result)
{
    struct wsr_completion got = spin(b);
    assert_int_equal(got.token, RECV + pair);
    assert_int_equal(got.result, result);
    assert_int_equal(got.flags, 0);
}

static void say(const struct bench *b, unsigned pair, const char *text)
{
    assert_int_equal(send(b->peers[pair], text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static uint64_t enters(const struct bench *b)
{
    return b->driver->ops->counts(b->driver).enters;
}

/* ---- Receiving ---- */

static void bytes_come_without_entering_the_ring_and_into_the_warm_buffer(void **state)
{
    static struct bench b;
    char text[16];
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    expect_nothing(&b);
    uint64_t before = enters(&b);
    int buffer = -1;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "%u", i);
        say(&b, 0, text);
        struct wsr_completion got = spin(&b);
        assert_int_equal(got.result, strlen(text));
        assert_memory_equal(b.memory + got.buffer * BUFFER_BYTES, text, strlen(text));
        assert_true(buffer < 0 || got.buffer == buffer);
        buffer = got.buffer;
        b.driver->ops->give(b.driver, got.buffer);
    }
    assert_int_equal(enters(&b), before);
    tear_down(&b);
}

static void an_owner_that_sleeps_uses_the_ring(void **state)
{
    static struct bench b;
    (void)state;
    set_up(&b, 0, BUFFERS_COUNT);
    connect_pair(&b);
    uint64_t before = enters(&b);
    say(&b, 0, "one");
    expect_bytes(&b, 0, "one");
    assert_true(enters(&b) > before);
    struct iovec part = { (void *)(uintptr_t)"x", 1 };
    assert_int_equal(b.driver->ops->send_now(b.driver, b.files[0], &part, 1), -EAGAIN);
    tear_down(&b);
}

static void the_environment_switches_plain_calls_off(void **state)
{
    static struct bench b;
    (void)state;
    setenv("WSRING_URING_OFF", "plain_calls", 1);
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    unsetenv("WSRING_URING_OFF");
    assert_null(strstr(b.driver->ops->features(b.driver), "plain_calls"));
    connect_pair(&b);
    uint64_t before = enters(&b);
    say(&b, 0, "one");
    expect_bytes(&b, 0, "one");
    assert_true(enters(&b) > before);
    tear_down(&b);
}

/* Whoever receives, no byte is lost or changes its place when more files open than plain calls are good for. */
static void a_stream_goes_on_when_the_ring_takes_it_over(void **state)
{
    static struct bench b;
    char text[8];
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    for (unsigned i = 0; i < PAIRS_MAX; i++) {
        connect_pair(&b);
        for (unsigned k = 0; k <= i; k++) {
            snprintf(text, sizeof text, "%u.%u", i, k);
            say(&b, k, text);
            expect_bytes(&b, k, text);
        }
    }
    /* Taken while it was looked at, handed out after the ring has the others. */
    uint64_t before = enters(&b);
    say(&b, 0, "last");
    expect_bytes(&b, 0, "last");
    assert_true(enters(&b) > before);
    tear_down(&b);
}

static void held_bytes_are_not_overtaken_by_the_ring(void **state)
{
    static struct bench b;
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    say(&b, 0, "first");
    await_ready(&b);
    struct wsr_completion first;
    assert_int_equal(b.driver->ops->wait(b.driver, &first, 1, WSR_NEVER), 1);        /* does not sleep over them */
    assert_int_equal(first.result, 5);
    say(&b, 0, "second");
    await_ready(&b);
    say(&b, 0, "third");
    struct wsr_driver_setup setup = { .family = AF_INET };
    for (unsigned i = 0; i < WSR_URING_HOT_FILES; i++)
        assert_true(b.driver->ops->open(b.driver, &setup) >= 0);
    expect_bytes(&b, 0, "second");
    expect_bytes(&b, 0, "third");
    tear_down(&b);
}

/* ---- The end of a receive ---- */

static void the_end_of_the_stream_ends_the_receive(void **state)
{
    static struct bench b;
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    connect_pair(&b);
    say(&b, 0, "bye");
    close(b.peers[0]);
    b.peers[0] = -1;
    expect_bytes(&b, 0, "bye");
    expect_end(&b, 0, 0);
    struct linger hard = { 1, 0 };
    setsockopt(b.peers[1], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(b.peers[1]);
    b.peers[1] = -1;
    expect_end(&b, 1, -ECONNRESET);
    expect_nothing(&b);
    b.driver->ops->recv(b.driver, b.files[0], RECV);         /* its place is free again */
    expect_end(&b, 0, 0);
    tear_down(&b);
}

static void a_cancel_ends_the_receive_once(void **state)
{
    static struct bench b;
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    connect_pair(&b);
    b.driver->ops->cancel(b.driver, RECV);
    b.driver->ops->cancel(b.driver, RECV);
    expect_end(&b, 0, -ECANCELED);
    say(&b, 0, "unread");
    say(&b, 1, "read");
    expect_bytes(&b, 1, "read");
    expect_nothing(&b);
    tear_down(&b);
}

static void what_was_taken_before_a_cancel_comes_before_its_end(void **state)
{
    static struct bench b;
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    say(&b, 0, "taken");
    await_ready(&b);
    b.driver->ops->cancel(b.driver, RECV);
    expect_bytes(&b, 0, "taken");
    expect_end(&b, 0, -ECANCELED);
    expect_nothing(&b);
    tear_down(&b);
}

/* Bytes that were taken and not handed out go with the driver, whatever became of their receive. */
static void a_driver_can_end_with_bytes_that_nobody_took(void **state)
{
    static struct bench b;
    (void)state;
    for (unsigned way = 0; way < 3; way++) {
        set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
        connect_pair(&b);
        say(&b, 0, "unread");
        await_ready(&b);
        if (way > 0)
            b.driver->ops->cancel(b.driver, RECV);
        if (way > 1)
            b.driver->ops->close(b.driver, b.files[0]);
        tear_down(&b);
    }
}

/* ---- Buffers ---- */

/* Few are kept back, and none of them is lost to the kernel when it needs them. */
static void every_buffer_can_be_filled_by_either_way(void **state)
{
    static struct bench b;
    enum { COUNT = 16 };
    bool seen[COUNT] = { false };
    uint16_t taken[COUNT];
    (void)state;
    set_up(&b, WSR_URING_SPINS, COUNT);
    connect_pair(&b);
    for (unsigned lap = 0; lap < 3; lap++) {
        memset(seen, 0, sizeof seen);
        for (unsigned i = 0; i < COUNT; i++) {
            say(&b, 0, "x");
            struct wsr_completion got = spin(&b);
            if (got.result == -ENOBUFS) {                    /* ended; what was kept back is the kernel's now */
                b.driver->ops->recv(b.driver, b.files[0], RECV);
                got = spin(&b);
            }
            assert_int_equal(got.result, 1);
            assert_false(seen[got.buffer]);
            seen[got.buffer] = true;
            taken[i] = got.buffer;
        }
        say(&b, 0, "y");
        expect_end(&b, 0, -ENOBUFS);
        for (unsigned i = 0; i < COUNT; i++)
            b.driver->ops->give(b.driver, taken[i]);
        b.driver->ops->recv(b.driver, b.files[0], RECV);
        expect_bytes(&b, 0, "y");
    }
    tear_down(&b);
}

/* With many files the ring has everything: an eighth of the buffers is kept back, until the kernel has none. */
static void what_was_kept_back_is_given_when_the_kernel_runs_out(void **state)
{
    static struct bench b;
    enum { COUNT = 32, KEPT = COUNT / 8 };
    (void)state;
    set_up(&b, WSR_URING_SPINS, COUNT);
    while (b.pairs_count <= WSR_URING_HOT_FILES)
        connect_pair(&b);
    for (unsigned i = 0; i < COUNT; i++) {
        say(&b, 0, "x");
        if (i == COUNT - KEPT) {
            expect_end(&b, 0, -ENOBUFS);
            b.driver->ops->recv(b.driver, b.files[0], RECV);
        }
        struct wsr_completion got = spin(&b);
        assert_int_equal(got.token, RECV);
        assert_int_equal(got.result, 1);
    }
    say(&b, 0, "x");
    expect_end(&b, 0, -ENOBUFS);
    tear_down(&b);
}

/* ---- Sleeping all the same ---- */

struct later {
    struct bench *bench;
    unsigned pair;
};

static void *say_later(void *context)
{
    const struct later *later = context;
    usleep(20000);
    say(later->bench, later->pair, "now");
    return NULL;
}

static void a_sleep_ends_when_bytes_come(void **state)
{
    static struct bench b;
    struct wsr_completion got;
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    connect_pair(&b);
    for (unsigned i = 0; i < 4; i++) {
        struct later later = { &b, i % 2 };
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, say_later, &later), 0);
        assert_int_equal(b.driver->ops->wait(b.driver, &got, 1, WSR_NEVER), 1);
        assert_int_equal(got.token, RECV + i % 2);
        assert_int_equal(got.result, 3);
        b.driver->ops->give(b.driver, got.buffer);
        pthread_join(thread, NULL);
    }
    tear_down(&b);
}

/* There is no room in the submission queue for what is to end the sleep. */
static void a_sleep_ends_when_bytes_come_also_behind_a_full_queue(void **state)
{
    static struct bench b;
    static uint8_t unread[8];
    const struct wsr_uring_options options = { .flags = WSR_URING_SPINS, .entries_count = 8 };
    struct wsr_completion got;
    pthread_t thread;
    (void)state;
    set_up_with(&b, &options, BUFFERS_COUNT);
    connect_pair(&b);
    connect_pair(&b);
    expect_nothing(&b);
    for (unsigned i = 0; i < options.entries_count; i++)
        b.driver->ops->recv_into(b.driver, b.files[1], unread, sizeof unread, SEND);
    struct later later = { &b, 0 };
    assert_int_equal(pthread_create(&thread, NULL, say_later, &later), 0);
    while (b.driver->ops->wait(b.driver, &got, 1, WSR_NEVER) == 0)
        continue;
    assert_int_equal(got.token, RECV);
    assert_int_equal(got.result, 3);
    pthread_join(thread, NULL);
    tear_down(&b);
}

/* The first receive ends, its file is closed, and the peer sees that. */
static void cancel_and_close(struct bench *b)
{
    char byte;
    b->driver->ops->cancel(b->driver, RECV);
    expect_end(b, 0, -ECANCELED);
    b->driver->ops->close(b->driver, b->files[0]);
    struct pollfd end = { .fd = b->peers[0], .events = POLLIN };
    assert_int_equal(poll(&end, 1, 10000), 1);
    assert_int_equal(recv(b->peers[0], &byte, 1, 0), 0);
}

/* A watch that is left from a sleep must not keep the connection open. */
static void a_watched_socket_can_be_cancelled_and_closed(void **state)
{
    static struct bench b;
    struct wsr_completion got;
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    assert_int_equal(b.driver->ops->wait(b.driver, &got, 1, b.driver->ops->now(b.driver) + WSR_NS_PER_MS), 0);
    cancel_and_close(&b);
    tear_down(&b);
}

static void a_watched_socket_goes_to_the_ring_and_can_be_closed(void **state)
{
    static struct bench b;
    struct wsr_completion got;
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    assert_int_equal(b.driver->ops->wait(b.driver, &got, 1, b.driver->ops->now(b.driver) + WSR_NS_PER_MS), 0);
    while (b.pairs_count < PAIRS_MAX)
        connect_pair(&b);
    cancel_and_close(&b);
    tear_down(&b);
}

/* Who waits for the descriptor sees only what the ring announces, so the ring must have everything from then on. */
static void a_descriptor_that_is_watched_announces_every_byte(void **state)
{
    static struct bench b;
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    expect_nothing(&b);
    struct pollfd ready = { .fd = b.driver->ops->descriptor(b.driver), .events = POLLIN };
    for (unsigned i = 0; i < 3; i++) {
        expect_nothing(&b);
        say(&b, 0, "told");
        assert_int_equal(poll(&ready, 1, 10000), 1);
        expect_bytes(&b, 0, "told");
    }
    tear_down(&b);
}

/* ---- Sending ---- */

static void a_send_at_once_takes_what_the_socket_takes(void **state)
{
    static struct bench b;
    static uint8_t large[1 << 20];
    uint8_t in[8];
    struct iovec parts[2] = { { (void *)(uintptr_t)"ab", 2 }, { (void *)(uintptr_t)"cde", 3 } };
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    connect_pair(&b);
    uint64_t before = enters(&b);
    assert_int_equal(b.driver->ops->send_now(b.driver, b.files[0], parts, 2), 5);
    assert_int_equal(b.driver->ops->send_now(b.driver, b.files[0], parts + 1, 1), 3);
    assert_int_equal(recv(b.peers[0], in, sizeof in, MSG_WAITALL), 8);
    assert_memory_equal(in, "abcdecde", 8);
    parts[0] = (struct iovec){ large, sizeof large };
    ssize_t sent = 1;
    for (unsigned i = 0; i < 1000 && sent > 0; i++)
        sent = b.driver->ops->send_now(b.driver, b.files[0], parts, 1);
    assert_int_equal(sent, -EAGAIN);
    assert_int_equal(enters(&b), before);
    struct linger hard = { 1, 0 };
    setsockopt(b.peers[0], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(b.peers[0]);
    b.peers[0] = -1;
    expect_end(&b, 0, -ECONNRESET);
    assert_int_equal(b.driver->ops->send_now(b.driver, b.files[0], parts, 1), -EPIPE);
    tear_down(&b);
}

static void with_many_files_sends_are_for_the_ring(void **state)
{
    static struct bench b;
    struct iovec part = { (void *)(uintptr_t)"x", 1 };
    (void)state;
    set_up(&b, WSR_URING_SPINS, BUFFERS_COUNT);
    while (b.pairs_count <= WSR_URING_HOT_FILES)
        connect_pair(&b);
    assert_int_equal(b.driver->ops->send_now(b.driver, b.files[0], &part, 1), -EAGAIN);
    b.driver->ops->send(b.driver, b.files[0], &part, 1, SEND);
    struct wsr_completion done = spin(&b);
    assert_int_equal(done.token, SEND);
    assert_int_equal(done.result, 1);
    b.driver->ops->cancel(b.driver, RECV);
    expect_end(&b, 0, -ECANCELED);
    b.driver->ops->close(b.driver, b.files[0]);
    assert_int_equal(b.driver->ops->send_now(b.driver, b.files[1], &part, 1), 1);
    /* Nor did receives that went to the ring leave anything behind: the next is by plain calls again. */
    b.driver->ops->cancel(b.driver, RECV + 1);
    expect_end(&b, 1, -ECANCELED);
    b.driver->ops->recv(b.driver, b.files[1], RECV + 1);
    expect_nothing(&b);
    uint64_t before = enters(&b);
    say(&b, 1, "plain");
    expect_bytes(&b, 1, "plain");
    assert_int_equal(enters(&b), before);
    tear_down(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_without_entering_the_ring_and_into_the_warm_buffer),
        cmocka_unit_test(an_owner_that_sleeps_uses_the_ring),
        cmocka_unit_test(the_environment_switches_plain_calls_off),
        cmocka_unit_test(a_stream_goes_on_when_the_ring_takes_it_over),
        cmocka_unit_test(held_bytes_are_not_overtaken_by_the_ring),
        cmocka_unit_test(the_end_of_the_stream_ends_the_receive),
        cmocka_unit_test(a_cancel_ends_the_receive_once),
        cmocka_unit_test(what_was_taken_before_a_cancel_comes_before_its_end),
        cmocka_unit_test(a_driver_can_end_with_bytes_that_nobody_took),
        cmocka_unit_test(every_buffer_can_be_filled_by_either_way),
        cmocka_unit_test(what_was_kept_back_is_given_when_the_kernel_runs_out),
        cmocka_unit_test(a_sleep_ends_when_bytes_come),
        cmocka_unit_test(a_sleep_ends_when_bytes_come_also_behind_a_full_queue),
        cmocka_unit_test(a_watched_socket_can_be_cancelled_and_closed),
        cmocka_unit_test(a_watched_socket_goes_to_the_ring_and_can_be_closed),
        cmocka_unit_test(a_descriptor_that_is_watched_announces_every_byte),
        cmocka_unit_test(a_send_at_once_takes_what_the_socket_takes),
        cmocka_unit_test(with_many_files_sends_are_for_the_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
