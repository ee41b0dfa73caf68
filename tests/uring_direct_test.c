/* engine/uring_direct.c: the io_uring driver with its sockets in the ring's table of files, over loopback.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/uring_direct.h"
#include "tests/support/bench.h"
#include "tests/support/files.h"

#define BUFFERS_COUNT 8u

/* Tests of a kernel that has no direct descriptors to give end here. */
static void need_direct(void)
{
    if (wsr_uring_direct_try() == -EOPNOTSUPP)
        skip();
}

static void set_up_with(struct bench *b, const struct wsr_uring_options *options)
{
    need_direct();
    assert_int_equal(bench_open(b, options, BUFFERS_COUNT).direct_count, options->direct_count);
}

static void set_up(struct bench *b, uint32_t direct_count)
{
    const struct wsr_uring_options options = { .direct_count = direct_count };
    set_up_with(b, &options);
}

static wsr_file open_tcp(struct bench *b)
{
    struct wsr_driver_setup setup = { .family = AF_INET, .nodelay = true };
    return b->driver->ops->open(b->driver, &setup);
}

/* @text arrives by the receive in flight that has @token. */
static void expect_bytes(struct bench *b, uint64_t token, const char *text)
{
    struct wsr_completion got = bench_await(b, token);
    assert_int_equal(got.result, strlen(text));
    assert_memory_equal(b->memory + got.buffer * BENCH_BUFFER_BYTES, text, strlen(text));
    b->driver->ops->give(b->driver, got.buffer);
}

/* Nobody may open one descriptor more. */
static struct rlimit exhaust_descriptors(void)
{
    struct rlimit before, tight;
    int lowest = dup(0);
    assert_true(lowest >= 0);
    close(lowest);
    getrlimit(RLIMIT_NOFILE, &before);
    tight = before;
    tight.rlim_cur = (rlim_t)lowest;
    setrlimit(RLIMIT_NOFILE, &tight);
    return before;
}

/* ---- Files ---- */

static void every_operation_works_on_a_slot_and_none_is_an_open_file(void **state)
{
    (void)state;
    struct bench b;
    uint8_t into[8];
    set_up(&b, 4);
    bench_listen(&b);
    unsigned before = files_open();
    bench_pair(&b, &b.client, &b.server);
    assert_true(wsr_uring_direct_is(b.client) && wsr_uring_direct_is(b.server));
    assert_false(wsr_uring_direct_is(b.listener));
    assert_int_equal(files_open(), before);
    assert_non_null(strstr(b.driver->ops->features(b.driver), "direct_files"));

    b.driver->ops->recv(b.driver, b.server, RECV);
    bench_send(&b, b.client, "hello", 5, SEND);
    expect_bytes(&b, RECV, "hello");
    char letters[] = "abcd";
    struct iovec parts[3] = { { letters, 1 }, { letters + 1, 2 }, { letters + 3, 1 } };
    b.driver->ops->send(b.driver, b.client, parts, 3, SEND);
    expect_bytes(&b, RECV, "abcd");
    b.driver->ops->recv_into(b.driver, b.client, into, sizeof into, INTO);
    bench_send(&b, b.server, "back", 4, SEND);
    assert_int_equal(bench_await(&b, INTO).result, 4);
    assert_memory_equal(into, "back", 4);
    b.driver->ops->cancel(b.driver, RECV);
    assert_int_equal(bench_await(&b, RECV).result, -ECANCELED);
    assert_int_equal(files_open(), before);
    bench_close(&b);
}

/* The reason for the trial at the start: older kernels would keep the closed one open for the idle one's receive. */
static void a_closed_socket_ends_its_connection_while_older_receives_go_on(void **state)
{
    (void)state;
    struct bench b;
    wsr_file client, server;
    set_up(&b, 4);
    bench_pair(&b, &b.client, &b.server);
    b.driver->ops->recv(b.driver, b.client, OTHER);
    b.driver->ops->recv(b.driver, b.server, OTHER);
    bench_pair(&b, &client, &server);
    b.driver->ops->recv(b.driver, server, RECV);
    b.driver->ops->close(b.driver, client);
    struct wsr_completion end = bench_await(&b, RECV);
    assert_int_equal(end.result, 0);
    assert_int_equal(end.flags & WSR_COMPLETION_MORE, 0);
    b.driver->ops->close(b.driver, server);

    bench_send(&b, b.client, "still", 5, SEND);
    expect_bytes(&b, OTHER, "still");
    bench_close(&b);
}

static void slots_are_used_again_and_again(void **state)
{
    (void)state;
    struct bench b;
    set_up(&b, 3);
    bench_listen(&b);
    unsigned before = files_open();
    for (unsigned i = 0; i < 200; i++) {
        char text[16];
        bench_pair(&b, &b.client, &b.server);
        b.driver->ops->recv(b.driver, b.server, RECV);
        snprintf(text, sizeof text, "lap %u", i);
        bench_send(&b, b.client, text, strlen(text), SEND);
        expect_bytes(&b, RECV, text);
        b.driver->ops->close(b.driver, b.client);
        assert_int_equal(bench_await(&b, RECV).result, 0);
        b.driver->ops->close(b.driver, b.server);
        while (b.log_count > 0)
            bench_await(&b, b.log[0].token);
    }
    assert_int_equal(files_open(), before);
    bench_close(&b);
}

static void a_full_table_says_so_and_has_room_again_after_a_close(void **state)
{
    (void)state;
    struct bench b;
    wsr_file files[5];
    set_up(&b, 5);
    unsigned before = files_open();
    for (unsigned i = 0; i < 5; i++) {
        files[i] = open_tcp(&b);
        for (unsigned k = 0; k < i; k++)
            assert_int_not_equal(files[i], files[k]);
    }
    assert_int_equal(open_tcp(&b), -EMFILE);
    assert_int_equal(open_tcp(&b), -EMFILE);
    b.driver->ops->close(b.driver, files[1]);
    b.driver->ops->close(b.driver, files[3]);
    wsr_file first = open_tcp(&b), second = open_tcp(&b);
    assert_true((first == files[1] && second == files[3]) || (first == files[3] && second == files[1]));
    assert_int_equal(open_tcp(&b), -EMFILE);
    assert_int_equal(files_open(), before);
    bench_close(&b);
}

/* One that finds no slot is closed, and accepting goes on. */
static void accepting_goes_on_after_a_full_table(void **state)
{
    (void)state;
    struct bench b;
    uint8_t byte;
    set_up(&b, 2);
    bench_listen(&b);
    b.client = open_tcp(&b);
    wsr_file other = open_tcp(&b);
    b.driver->ops->connect(b.driver, b.client, (struct sockaddr *)&b.address, sizeof b.address, CONNECT);
    assert_int_equal(bench_await(&b, CONNECT).result, 0);
    struct wsr_completion refused = bench_await(&b, ACCEPT);
    assert_int_equal(refused.result, -EMFILE);
    assert_int_equal(refused.flags, WSR_COMPLETION_MORE);
    b.driver->ops->recv_into(b.driver, b.client, &byte, 1, INTO);
    assert_int_equal(bench_await(&b, INTO).result, 0);
    b.driver->ops->close(b.driver, b.client);
    b.driver->ops->connect(b.driver, other, (struct sockaddr *)&b.address, sizeof b.address, CONNECT);
    assert_int_equal(bench_await(&b, CONNECT).result, 0);
    assert_true(bench_await(&b, ACCEPT).result >= 0);
    bench_close(&b);
}

static void unix_sockets_stay_plain_beside_slots(void **state)
{
    (void)state;
    struct bench b;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t bytes = offsetof(struct sockaddr_un, sun_path) + 1;
    struct wsr_driver_setup setup = { .family = AF_UNIX };
    set_up(&b, 3);
    bytes += (socklen_t)snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "wsring-direct-%d", (int)getpid());
    b.listener = b.driver->ops->listen(b.driver, (struct sockaddr *)&address, bytes, 8, NULL);
    b.driver->ops->accept(b.driver, b.listener, ACCEPT);
    b.client = b.driver->ops->open(b.driver, &setup);
    assert_true(b.client >= 0);
    assert_false(wsr_uring_direct_is(b.client));
    b.driver->ops->connect(b.driver, b.client, (struct sockaddr *)&address, bytes, CONNECT);
    assert_int_equal(bench_await(&b, CONNECT).result, 0);
    b.server = bench_await(&b, ACCEPT).result;
    assert_true(wsr_uring_direct_is(b.server));
    b.driver->ops->recv(b.driver, b.server, RECV);
    bench_send(&b, b.client, "plain", 5, SEND);
    expect_bytes(&b, RECV, "plain");
    b.driver->ops->close(b.driver, b.client);
    assert_int_equal(bench_await(&b, RECV).result, 0);
    bench_close(&b);
}

/* ---- Shutdown ---- */

static void shutdown_ends_one_direction_at_once(void **state)
{
    (void)state;
    struct bench b;
    wsr_file client, server;
    uint8_t into[8];
    set_up(&b, 4);
    bench_pair(&b, &b.client, &b.server);
    bench_pair(&b, &client, &server);
    b.driver->ops->recv(b.driver, b.server, RECV);
    b.driver->ops->recv(b.driver, server, OTHER);
    unsigned before = files_open();
    /* Two of them before the next wait, each for its own socket. */
    assert_int_equal(b.driver->ops->shutdown(b.driver, b.client), 0);
    assert_int_equal(b.driver->ops->shutdown(b.driver, client), 0);
    assert_int_equal(files_open(), before);
    assert_int_equal(bench_await(&b, RECV).result, 0);
    assert_int_equal(bench_await(&b, OTHER).result, 0);

    b.driver->ops->recv_into(b.driver, b.client, into, sizeof into, INTO);
    bench_send(&b, b.server, "late", 4, SEND);
    assert_int_equal(bench_await(&b, INTO).result, 4);
    bench_send(&b, b.client, "x", 1, OTHER);
    assert_int_equal(bench_await(&b, OTHER).result, -EPIPE);
    assert_int_equal(files_open(), before);
    bench_close(&b);
}

static void a_shutdown_that_fails_is_an_errno_and_leaves_nothing(void **state)
{
    (void)state;
    struct bench b;
    set_up(&b, 3);
    bench_pair(&b, &b.client, &b.server);
    wsr_file unconnected = open_tcp(&b);
    unsigned before = files_open();
    assert_int_equal(b.driver->ops->shutdown(b.driver, unconnected), -ENOTCONN);
    struct rlimit limit = exhaust_descriptors();
    assert_int_equal(b.driver->ops->shutdown(b.driver, b.client), -EMFILE);
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_int_equal(files_open(), before);
    assert_int_equal(b.driver->ops->shutdown(b.driver, b.client), 0);
    b.driver->ops->recv(b.driver, b.server, RECV);
    assert_int_equal(bench_await(&b, RECV).result, 0);
    assert_int_equal(files_open(), before);
    bench_close(&b);
}

static void an_option_is_set_on_a_slot_at_once(void **state)
{
    (void)state;
    const struct linger reset = { .l_onoff = 1 };
    struct bench b;
    set_up(&b, 3);
    bench_pair(&b, &b.client, &b.server);
    b.driver->ops->recv(b.driver, b.server, RECV);
    unsigned before = files_open();
    assert_int_equal(b.driver->ops->set_option(b.driver, b.client, SOL_SOCKET, -1, &reset, sizeof reset),
                     -ENOPROTOOPT);
    struct rlimit limit = exhaust_descriptors();
    assert_int_equal(b.driver->ops->set_option(b.driver, b.client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset),
                     -EMFILE);
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_int_equal(b.driver->ops->set_option(b.driver, b.client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    assert_int_equal(files_open(), before);
    b.driver->ops->close(b.driver, b.client);
    assert_int_equal(bench_await(&b, RECV).result, -ECONNRESET);        /* which shows that it was set */
    assert_int_equal(files_open(), before);
    bench_close(&b);
}

static void messages_go_through_slots(void **state)
{
    (void)state;
    struct bench b;
    char letters[] = "abcde", got[8] = "";
    struct iovec parts[2] = { { letters, 2 }, { letters + 2, 3 } }, room = { got, sizeof got };
    struct msghdr said = { .msg_iov = parts, .msg_iovlen = 2 }, heard = { .msg_iov = &room, .msg_iovlen = 1 };
    set_up(&b, 2);
    bench_pair(&b, &b.client, &b.server);
    b.driver->ops->recv_message(b.driver, b.server, &heard, INTO);
    b.driver->ops->send_message(b.driver, b.client, &said, SEND);
    assert_int_equal(bench_await(&b, SEND).result, 5);
    assert_int_equal(bench_await(&b, INTO).result, 5);
    assert_string_equal(got, "abcde");
    b.driver->ops->recv(b.driver, b.server, RECV);
    b.driver->ops->send_sealed(b.driver, b.client, parts, 2, SEND);
    expect_bytes(&b, RECV, "abcde");
    bench_close(&b);
}

/* With no room for its completion the descriptor comes later, and is closed then. */
static void a_shutdown_behind_a_full_completion_queue_gives_up_and_leaks_nothing(void **state)
{
    (void)state;
    const struct wsr_uring_options small = { .entries_count = 8, .completions_count = 8, .direct_count = 4 };
    struct bench b;
    set_up_with(&b, &small);
    bench_pair(&b, &b.client, &b.server);
    unsigned before = files_open();
    /* Never taken before the shutdown: each submits at once, as the queue is that short. */
    for (unsigned i = 0; i < 24; i++)
        bench_send(&b, b.client, "x", 1, SEND);
    assert_int_equal(b.driver->ops->shutdown(b.driver, b.client), -EAGAIN);
    assert_int_equal(b.driver->ops->set_option(b.driver, b.client, SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int)),
                     -EAGAIN);
    for (unsigned i = 0; i < 24; i++)
        assert_int_equal(bench_await(&b, SEND).result, 1);
    assert_int_equal(b.driver->ops->wait(b.driver, b.log, 8, 0), 0);
    assert_int_equal(files_open(), before);
    assert_int_equal(b.driver->ops->shutdown(b.driver, b.client), 0);
    bench_close(&b);
}

/* ---- Life ---- */

static void open_before_there_is_an_owner(struct bench *b)
{
    const struct wsr_uring_options options = { .flags = WSR_URING_DISABLED_START, .direct_count = 8 };
    set_up_with(b, &options);
    assert_true(wsr_uring_direct_is(b->client = open_tcp(b)));
    b->driver->ops->close(b->driver, b->client);
    bench_listen(b);
    b->client = open_tcp(b);
    b->driver->ops->connect(b->driver, b->client, (struct sockaddr *)&b->address, sizeof b->address, CONNECT);
}

static void *own_and_talk(void *argument)
{
    struct bench *b = argument;
    assert_int_equal(bench_await(b, CONNECT).result, 0);
    b->server = bench_await(b, ACCEPT).result;
    b->driver->ops->recv(b->driver, b->server, RECV);
    bench_send(b, b->client, "owner", 5, SEND);
    expect_bytes(b, RECV, "owner");
    assert_true(wsr_uring_direct_is(open_tcp(b)));
    return NULL;
}

static void the_table_belongs_to_the_thread_that_waits_first(void **state)
{
    (void)state;
    struct bench b;
    pthread_t thread;
    open_before_there_is_an_owner(&b);
    assert_int_equal(pthread_create(&thread, NULL, own_and_talk, &b), 0);
    pthread_join(thread, NULL);
    bench_close(&b);                            /* from here, after its end */
}

static void destroy_closes_what_is_in_the_table(void **state)
{
    (void)state;
    struct bench b;
    char byte;
    set_up(&b, 4);
    unsigned before = files_open();
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
    b.client = open_tcp(&b);
    b.driver->ops->connect(b.driver, b.client, (struct sockaddr *)&address, sizeof address, CONNECT);
    assert_int_equal(bench_await(&b, CONNECT).result, 0);
    int server = accept(listener, NULL, NULL);
    assert_true(server >= 0);
    b.driver->ops->recv(b.driver, b.client, RECV);
    bench_close(&b);
    assert_int_equal(recv(server, &byte, 1, MSG_DONTWAIT), 0);
    close(server);
    close(listener);
    assert_int_equal(files_open(), before - 2);      /* the ring and its eventfd have gone */
}

static void a_table_is_as_large_as_the_limit_of_open_files_at_most(void **state)
{
    (void)state;
    const struct wsr_uring_options options = { .direct_count = 1000 };
    struct wsr_uring_report report;
    struct rlimit before, tight;
    struct bench b = { .listener = -1 };
    need_direct();
    getrlimit(RLIMIT_NOFILE, &before);
    tight = before;
    tight.rlim_cur = 100;
    setrlimit(RLIMIT_NOFILE, &tight);
    assert_int_equal(wsr_uring_create(&b.driver, &options, &report), 0);
    assert_int_equal(report.direct_count, 100);
    for (unsigned i = 0; i < 100; i++)
        assert_true(open_tcp(&b) >= 0);
    assert_int_equal(open_tcp(&b), -EMFILE);
    setrlimit(RLIMIT_NOFILE, &before);
    b.driver->ops->destroy(b.driver);
}

/* ---- Where it is not to be had ---- */

static void switched_off_it_refuses_the_driver_that_asks_for_it(void **state)
{
    (void)state;
    const struct wsr_uring_options options = { .direct_count = 4 };
    struct wsr_uring_report report;
    struct wsr_driver *driver;
    unsigned before = files_open();
    setenv("WSRING_URING_OFF", "direct_files", 1);
    assert_int_equal(wsr_uring_create(&driver, &options, &report), WSR_ERR_NOT_SUPPORTED);
    assert_non_null(strstr(report.text, "WSRING_URING_OFF"));
    assert_non_null(strstr(report.missing, "direct_files"));
    assert_int_equal(files_open(), before);
    assert_int_equal(wsr_uring_create(&driver, NULL, &report), 0);
    assert_int_equal(report.direct_count, 0);
    assert_null(strstr(report.missing, "direct_files"));       /* not missed: nobody has asked for it */
    driver->ops->destroy(driver);
    wsr_uring_probe(&report);
    assert_null(strstr(report.features, "direct_files"));
    assert_non_null(strstr(report.missing, "direct_files"));
    unsetenv("WSRING_URING_OFF");
}

/* Linux 6.1 to 6.12, in User-Mode Linux. */
static void an_older_kernel_refuses_with_the_version_that_is_needed(void **state)
{
    (void)state;
    const struct wsr_uring_options options = { .direct_count = 4 };
    struct wsr_uring_report report;
    struct wsr_driver *driver;
    unsigned before = files_open();
    if (wsr_uring_direct_try() != -EOPNOTSUPP)
        skip();
    assert_int_equal(wsr_uring_create(&driver, &options, &report), WSR_ERR_NOT_SUPPORTED);
    assert_non_null(strstr(report.text, "Linux 6.13"));
    assert_non_null(strstr(report.text, "ulimit -n"));
    assert_int_equal(files_open(), before);
    wsr_uring_probe(&report);
    assert_int_equal(report.error, 0);
    assert_non_null(strstr(report.missing, "direct_files"));
}

/* The first of all tests: the trial is made once in a process, when it can be. */
static void the_trial_tells_that_it_has_no_descriptor_and_leaves_none_behind(void **state)
{
    (void)state;
    unsigned before = files_open();
    struct rlimit limit = exhaust_descriptors();
    assert_int_equal(wsr_uring_direct_try(), -EMFILE);
    setrlimit(RLIMIT_NOFILE, &limit);
    int known = wsr_uring_direct_try();
    assert_true(known == 0 || known == -EOPNOTSUPP);
    assert_int_equal(files_open(), before);
    limit = exhaust_descriptors();
    assert_int_equal(wsr_uring_direct_try(), known);
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_trial_tells_that_it_has_no_descriptor_and_leaves_none_behind),
        cmocka_unit_test(every_operation_works_on_a_slot_and_none_is_an_open_file),
        cmocka_unit_test(a_closed_socket_ends_its_connection_while_older_receives_go_on),
        cmocka_unit_test(slots_are_used_again_and_again),
        cmocka_unit_test(a_full_table_says_so_and_has_room_again_after_a_close),
        cmocka_unit_test(accepting_goes_on_after_a_full_table),
        cmocka_unit_test(unix_sockets_stay_plain_beside_slots),
        cmocka_unit_test(shutdown_ends_one_direction_at_once),
        cmocka_unit_test(a_shutdown_that_fails_is_an_errno_and_leaves_nothing),
        cmocka_unit_test(an_option_is_set_on_a_slot_at_once),
        cmocka_unit_test(messages_go_through_slots),
        cmocka_unit_test(a_shutdown_behind_a_full_completion_queue_gives_up_and_leaks_nothing),
        cmocka_unit_test(the_table_belongs_to_the_thread_that_waits_first),
        cmocka_unit_test(destroy_closes_what_is_in_the_table),
        cmocka_unit_test(a_table_is_as_large_as_the_limit_of_open_files_at_most),
        cmocka_unit_test(switched_off_it_refuses_the_driver_that_asks_for_it),
        cmocka_unit_test(an_older_kernel_refuses_with_the_version_that_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
