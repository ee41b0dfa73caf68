/* engine/uring.c: socket options, messages with control data, and sends that may end short, on plain descriptors.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/bench.h"
#include "tests/support/files.h"

#define MUCH (16u << 20)          /* more than two sockets hold */

static void set_up(struct bench *b)
{
    bench_open(b, NULL, 8);
    bench_pair(b, &b->client, &b->server);
}

/* Both ends of a pair of Unix sockets, which carry control data of their own. */
static void set_up_unix(struct bench *b, int ends[2])
{
    bench_open(b, NULL, 8);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
}

static void tear_down_unix(struct bench *b, const int ends[2])
{
    bench_close(b);
    close(ends[0]);
    close(ends[1]);
}

static int flag_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t bytes = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &bytes), 0);
    return value;
}

static void an_option_is_set_at_once_or_refused_with_an_errno(void **state)
{
    (void)state;
    struct bench b;
    const int no = 0, yes = 1;
    set_up(&b);
    unsigned before = files_open();
    uint64_t enters = b.driver->ops->counts(b.driver).enters;
    assert_int_equal(b.driver->ops->set_option(b.driver, b.client, IPPROTO_TCP, TCP_NODELAY, &no, sizeof no), 0);
    assert_int_equal(flag_of(b.client, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_int_equal(b.driver->ops->set_option(b.driver, b.client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes), 0);
    assert_int_not_equal(flag_of(b.client, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_int_equal(b.driver->ops->set_option(b.driver, b.client, SOL_SOCKET, -1, &yes, sizeof yes), -ENOPROTOOPT);
    assert_int_equal(b.driver->ops->set_option(b.driver, b.client, SOL_SOCKET, SO_KEEPALIVE, &yes, 1), -EINVAL);
    assert_int_equal(b.driver->ops->counts(b.driver).enters, enters);
    assert_int_equal(files_open(), before);
    bench_close(&b);
}

/* Nobody reads: what waits for all to go would never end. */
static void a_sealed_send_ends_short_and_a_plain_one_goes_on(void **state)
{
    (void)state;
    struct bench b;
    uint8_t *much = calloc(1, MUCH);
    assert_non_null(much);
    struct iovec part = { much, MUCH };
    set_up(&b);
    b.driver->ops->send_sealed(b.driver, b.client, &part, 1, SEND);
    int32_t sent = bench_await(&b, SEND).result;
    assert_in_range(sent, 1, MUCH - 1);
    struct iovec parts[2] = { { much, 1000 }, { much + 1000, MUCH - 1000 } };
    b.driver->ops->send_sealed(b.driver, b.server, parts, 2, OTHER);
    assert_in_range(bench_await(&b, OTHER).result, 1, MUCH - 1);

    b.driver->ops->send(b.driver, b.client, &part, 1, SEND);
    assert_int_equal(b.driver->ops->wait(b.driver, b.log, 8, bench_soon(b.driver, 20)), 0);
    b.driver->ops->cancel(b.driver, SEND);
    bench_await(&b, SEND);
    bench_close(&b);
    free(much);
}

static void the_parts_of_a_sealed_send_are_copied_and_keep_their_order(void **state)
{
    (void)state;
    struct bench b;
    char letters[] = "abcdef";
    struct iovec parts[3] = { { letters, 1 }, { letters + 1, 3 }, { letters + 4, 2 } };
    set_up(&b);
    b.driver->ops->recv(b.driver, b.server, RECV);
    b.driver->ops->send_sealed(b.driver, b.client, parts, 3, SEND);
    memset(parts, 0, sizeof parts);
    struct wsr_completion got = bench_await(&b, RECV);
    assert_int_equal(got.result, 6);
    assert_memory_equal(b.memory + got.buffer * BENCH_BUFFER_BYTES, "abcdef", 6);
    assert_int_equal(bench_await(&b, SEND).result, 6);
    bench_close(&b);
}

static void a_sealed_send_to_a_closed_peer_is_an_errno_and_no_signal(void **state)
{
    (void)state;
    struct bench b;
    char byte = 'x';
    struct iovec part = { &byte, 1 };
    set_up(&b);
    b.driver->ops->close(b.driver, b.server);
    assert_int_equal(b.driver->ops->shutdown(b.driver, b.client), 0);
    b.driver->ops->send_sealed(b.driver, b.client, &part, 1, SEND);
    assert_int_equal(bench_await(&b, SEND).result, -EPIPE);
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    b.driver->ops->send_message(b.driver, b.client, &message, SEND);
    assert_int_equal(bench_await(&b, SEND).result, -EPIPE);
    bench_close(&b);
}

/* A descriptor goes along, as nothing but control data can carry it. */
static void control_data_goes_out_and_comes_in(void **state)
{
    (void)state;
    struct bench b;
    int ends[2], passed = -1;
    char text[] = "take this", got[32] = "";
    struct iovec part = { text, sizeof text }, room = { got, sizeof got };
    _Alignas(struct cmsghdr) char out[CMSG_SPACE(sizeof(int))] = { 0 }, in[CMSG_SPACE(sizeof(int))] = { 0 };
    set_up_unix(&b, ends);

    struct msghdr heard = { .msg_iov = &room, .msg_iovlen = 1, .msg_control = in, .msg_controllen = sizeof in };
    b.driver->ops->recv_message(b.driver, ends[1], &heard, INTO);
    assert_int_equal(b.driver->ops->wait(b.driver, b.log, 8, bench_soon(b.driver, 5)), 0);   /* it waits for one */
    struct msghdr said = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = out, .msg_controllen = sizeof out };
    struct cmsghdr *head = CMSG_FIRSTHDR(&said);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &ends[0], sizeof(int));
    b.driver->ops->send_message(b.driver, ends[0], &said, SEND);
    assert_int_equal(bench_await(&b, SEND).result, sizeof text);

    assert_int_equal(bench_await(&b, INTO).result, sizeof text);
    assert_string_equal(got, text);
    assert_int_equal(heard.msg_flags & MSG_CTRUNC, 0);
    head = CMSG_FIRSTHDR(&heard);
    assert_non_null(head);
    assert_int_equal(head->cmsg_type, SCM_RIGHTS);
    memcpy(&passed, CMSG_DATA(head), sizeof passed);
    assert_int_equal(write(passed, "!", 1), 1);
    assert_int_equal(read(ends[1], got, sizeof got), 1);
    close(passed);
    tear_down_unix(&b, ends);
}

static void control_data_without_room_is_cut_and_says_so(void **state)
{
    (void)state;
    struct bench b;
    int ends[2];
    char byte = 'x', got;
    struct iovec part = { &byte, 1 }, room = { &got, 1 };
    _Alignas(struct cmsghdr) char out[CMSG_SPACE(sizeof(int))] = { 0 };
    set_up_unix(&b, ends);
    unsigned before = files_open();
    struct msghdr said = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = out, .msg_controllen = sizeof out };
    struct msghdr heard = { .msg_iov = &room, .msg_iovlen = 1 };
    struct cmsghdr *head = CMSG_FIRSTHDR(&said);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &ends[0], sizeof(int));
    b.driver->ops->send_message(b.driver, ends[0], &said, SEND);
    b.driver->ops->recv_message(b.driver, ends[1], &heard, INTO);
    assert_int_equal(bench_await(&b, INTO).result, 1);
    assert_int_not_equal(heard.msg_flags & MSG_CTRUNC, 0);
    assert_int_equal(files_open(), before);
    tear_down_unix(&b, ends);
}

static void a_message_that_is_awaited_can_be_cancelled(void **state)
{
    (void)state;
    struct bench b;
    uint8_t got[8];
    struct iovec room = { got, sizeof got };
    struct msghdr heard = { .msg_iov = &room, .msg_iovlen = 1 };
    set_up(&b);
    b.driver->ops->recv_message(b.driver, b.client, &heard, INTO);
    assert_int_equal(b.driver->ops->wait(b.driver, b.log, 8, bench_soon(b.driver, 5)), 0);
    b.driver->ops->cancel(b.driver, INTO);
    struct wsr_completion end = bench_await(&b, INTO);
    assert_int_equal(end.result, -ECANCELED);
    assert_int_equal(end.flags, 0);
    b.driver->ops->recv_message(b.driver, b.client, &heard, INTO);
    b.driver->ops->close(b.driver, b.server);
    assert_int_equal(bench_await(&b, INTO).result, 0);
    bench_close(&b);
}

/* Each of them leaves early when the queue is full; none is lost. */
static void messages_beyond_the_queue_submit_early(void **state)
{
    (void)state;
    const struct wsr_uring_options small = { .entries_count = 4 };
    struct bench b;
    char got[1], byte = 'x';
    struct iovec part = { &byte, 1 }, room = { got, 1 };
    const struct msghdr said = { .msg_iov = &part, .msg_iovlen = 1 };
    struct msghdr heard = { .msg_iov = &room, .msg_iovlen = 1 };
    bench_open(&b, &small, 8);
    bench_pair(&b, &b.client, &b.server);
    for (unsigned i = 0; i < 10; i++)
        b.driver->ops->send_message(b.driver, b.client, &said, SEND);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(bench_await(&b, SEND).result, 1);
    for (unsigned i = 0; i < 10; i++)
        b.driver->ops->recv_message(b.driver, b.server, &heard, INTO);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(bench_await(&b, INTO).result, 1);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_option_is_set_at_once_or_refused_with_an_errno),
        cmocka_unit_test(a_sealed_send_ends_short_and_a_plain_one_goes_on),
        cmocka_unit_test(the_parts_of_a_sealed_send_are_copied_and_keep_their_order),
        cmocka_unit_test(a_sealed_send_to_a_closed_peer_is_an_errno_and_no_signal),
        cmocka_unit_test(control_data_goes_out_and_comes_in),
        cmocka_unit_test(control_data_without_room_is_cut_and_says_so),
        cmocka_unit_test(a_message_that_is_awaited_can_be_cancelled),
        cmocka_unit_test(messages_beyond_the_queue_submit_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
