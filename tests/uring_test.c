/* engine/uring.c over loopback sockets that the driver makes itself.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/uring_probe.h"
#include "tests/support/bench.h"
#include "tests/support/files.h"

/* The listener, and both ends of the connection that bench has room for. */
static void make_pair(struct bench *b)
{
    bench_pair(b, &b->client, &b->server);
}

/* ---- Connections ---- */

static void connect_accept_send_recv_and_end_of_stream(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, NULL, 8);
    make_pair(&b);
    b.driver->ops->recv(b.driver, b.server, RECV);
    bench_send(&b, b.client, "hello", 5, SEND);
    struct wsr_completion got = bench_await(&b, RECV);
    assert_int_equal(got.result, 5);
    assert_int_equal(got.flags, WSR_COMPLETION_MORE | WSR_COMPLETION_BUFFER);
    assert_memory_equal(b.memory + got.buffer * BENCH_BUFFER_BYTES, "hello", 5);
    b.driver->ops->give(b.driver, got.buffer);
    assert_int_equal(bench_await(&b, SEND).result, 5);

    int nodelay = 0;
    socklen_t bytes = sizeof nodelay;
    assert_int_equal(getsockopt(b.server, IPPROTO_TCP, 1, &nodelay, &bytes), 0);
    assert_true(nodelay != 0);

    assert_int_equal(b.driver->ops->shutdown(b.driver, b.client), 0);
    got = bench_await(&b, RECV);
    assert_int_equal(got.result, 0);
    assert_int_equal(got.flags & WSR_COMPLETION_MORE, 0);
    b.driver->ops->close(b.driver, b.client);
    b.driver->ops->close(b.driver, b.server);
    bench_close(&b);
}

static void a_refused_connection_completes_with_its_errno(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, NULL, 2);
    bench_listen(&b);
    b.driver->ops->cancel(b.driver, ACCEPT);
    assert_int_equal(bench_await(&b, ACCEPT).result, -ECANCELED);
    b.driver->ops->close(b.driver, b.listener);
    b.client = bench_connect(&b, CONNECT);
    assert_int_equal(bench_await(&b, CONNECT).result, -ECONNREFUSED);
    bench_close(&b);
}

static void a_source_address_is_bound(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, NULL, 2);
    bench_listen(&b);
    struct sockaddr_in source = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 8) };
    struct wsr_driver_setup setup = { AF_INET, true, (struct sockaddr *)&source, sizeof source };
    b.client = b.driver->ops->open(b.driver, &setup);
    assert_true(b.client >= 0);
    b.driver->ops->connect(b.driver, b.client, (struct sockaddr *)&b.address, sizeof b.address, CONNECT);
    assert_int_equal(bench_await(&b, CONNECT).result, 0);
    b.server = bench_await(&b, ACCEPT).result;
    struct sockaddr_in peer;
    socklen_t bytes = sizeof peer;
    assert_int_equal(getpeername(b.server, (struct sockaddr *)&peer, &bytes), 0);
    assert_int_equal(peer.sin_addr.s_addr, source.sin_addr.s_addr);
    bench_close(&b);
}

static void a_foreign_source_address_is_an_errno(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, NULL, 2);
    struct sockaddr_in source = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xC0000201) };    /* TEST-NET-1 */
    struct wsr_driver_setup setup = { AF_INET, false, (struct sockaddr *)&source, sizeof source };
    assert_int_equal(b.driver->ops->open(b.driver, &setup), -EADDRNOTAVAIL);
    bench_close(&b);
}

static void unix_sockets_work(void **state)
{
    (void)state;
    struct bench b;
    uint16_t port = 1;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int len = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "wsring-uring-test-%d", (int)getpid());
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);

    bench_open(&b, NULL, 2);
    b.listener = b.driver->ops->listen(b.driver, (struct sockaddr *)&address, bytes, 8, &port);
    assert_true(b.listener >= 0);
    assert_int_equal(port, 0);
    b.driver->ops->accept(b.driver, b.listener, ACCEPT);
    struct wsr_driver_setup setup = { .family = AF_UNIX, .nodelay = true };
    b.client = b.driver->ops->open(b.driver, &setup);
    assert_true(b.client >= 0);
    b.driver->ops->connect(b.driver, b.client, (struct sockaddr *)&address, bytes, CONNECT);
    assert_int_equal(bench_await(&b, CONNECT).result, 0);
    b.server = bench_await(&b, ACCEPT).result;
    b.driver->ops->recv(b.driver, b.client, RECV);
    bench_send(&b, b.server, "x", 1, SEND);
    assert_int_equal(bench_await(&b, RECV).result, 1);
    bench_close(&b);
}

static void without_descriptors_open_and_accept_say_so(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_driver_setup setup = { .family = AF_INET };
    struct rlimit before, tight;
    bench_open(&b, NULL, 2);
    bench_listen(&b);
    b.client = bench_connect(&b, CONNECT);
    getrlimit(RLIMIT_NOFILE, &before);
    tight = before;
    tight.rlim_cur = (rlim_t)b.client + 1;
    setrlimit(RLIMIT_NOFILE, &tight);
    assert_int_equal(b.driver->ops->open(b.driver, &setup), -EMFILE);
    struct wsr_completion refused = bench_await(&b, ACCEPT);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(refused.result, -EMFILE);
    assert_int_equal(refused.flags, 0);
    bench_connect(&b, CONNECT);
    b.driver->ops->accept(b.driver, b.listener, ACCEPT);       /* not the end of the listener */
    assert_true(bench_await(&b, ACCEPT).result >= 0);
    bench_close(&b);
}

/* ---- Receiving ---- */

static void empty_buffers_are_a_state_and_receiving_resumes(void **state)
{
    (void)state;
    struct bench b;
    uint8_t sent[5 * BENCH_BUFFER_BYTES];
    uint8_t got[sizeof sent];
    size_t received = 0;

    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i * 7 + i / 256);
    bench_open(&b, NULL, 2);
    make_pair(&b);
    b.driver->ops->recv(b.driver, b.server, RECV);
    bench_send(&b, b.client, sent, sizeof sent, SEND);
    assert_int_equal(bench_await(&b, SEND).result, sizeof sent);

    unsigned exhausted = 0;
    while (received < sizeof sent) {
        uint16_t held[2];
        unsigned held_count = 0;
        struct wsr_completion done;
        do {
            done = bench_await(&b, RECV);
            if (done.result > 0) {
                assert_true(done.flags & WSR_COMPLETION_BUFFER);
                memcpy(got + received, b.memory + done.buffer * BENCH_BUFFER_BYTES, (size_t)done.result);
                received += (size_t)done.result;
                assert_true(held_count < 2);
                held[held_count++] = done.buffer;
            }
        } while ((done.flags & WSR_COMPLETION_MORE) != 0 && received < sizeof sent);
        if (done.result == -ENOBUFS) {
            exhausted++;
            assert_int_equal(held_count, 2);
        }
        for (unsigned i = 0; i < held_count; i++)
            b.driver->ops->give(b.driver, held[i]);
        if ((done.flags & WSR_COMPLETION_MORE) == 0)
            b.driver->ops->recv(b.driver, b.server, RECV);
    }
    assert_memory_equal(got, sent, sizeof sent);
    assert_int_equal(exhausted, 2);
    bench_close(&b);
}

static void every_buffer_comes_back_many_times_round(void **state)
{
    (void)state;
    struct bench b;
    uint32_t stamp = 0;
    bench_open(&b, NULL, 4);
    make_pair(&b);
    b.driver->ops->recv(b.driver, b.server, RECV);
    for (unsigned round = 0; round < 70000; round++) {       /* past the 16 bits of the ring's tail */
        bench_send(&b, b.client, &round, sizeof round, SEND);
        struct wsr_completion done = bench_await(&b, RECV);
        assert_int_equal(done.result, sizeof round);
        memcpy(&stamp, b.memory + done.buffer * BENCH_BUFFER_BYTES, sizeof stamp);
        assert_int_equal(stamp, round);
        b.driver->ops->give(b.driver, done.buffer);
        assert_int_equal(bench_await(&b, SEND).result, sizeof round);
    }
    bench_close(&b);
}

static void recv_into_takes_once_into_the_callers_memory(void **state)
{
    (void)state;
    struct bench b;
    char to[64] = { 0 };
    bench_open(&b, NULL, 2);
    make_pair(&b);
    b.driver->ops->recv_into(b.driver, b.server, to, sizeof to, INTO);
    bench_send(&b, b.client, "straight", 8, SEND);
    struct wsr_completion done = bench_await(&b, INTO);
    assert_int_equal(done.result, 8);
    assert_int_equal(done.flags, 0);
    assert_string_equal(to, "straight");
    bench_close(&b);
}

static void buffers_are_provided_once_and_in_powers_of_two(void **state)
{
    (void)state;
    struct wsr_driver *driver;
    static uint8_t memory[4 * 64];
    assert_int_equal(wsr_uring_create(&driver, NULL, NULL), 0);
    assert_int_equal(driver->ops->provide(driver, memory, 64, 3), -EINVAL);
    assert_int_equal(driver->ops->provide(driver, memory, 64, 0), -EINVAL);
    assert_int_equal(driver->ops->provide(driver, memory, 64, 65536), -EINVAL);
    assert_int_equal(driver->ops->provide(driver, memory, 64, 4), 0);
    assert_int_equal(driver->ops->provide(driver, memory, 64, 4), -EEXIST);
    driver->ops->destroy(driver);
}

/* ---- Sending ---- */

/* Read @len bytes from the server's side and compare them with @want. */
static void expect_bytes(struct bench *b, const uint8_t *want, size_t len)
{
    size_t at = 0;
    while (at < len) {
        struct wsr_completion done = bench_await(b, RECV);
        if (done.result > 0) {
            assert_memory_equal(b->memory + done.buffer * BENCH_BUFFER_BYTES, want + at, (size_t)done.result);
            at += (size_t)done.result;
        }
        if (done.flags & WSR_COMPLETION_BUFFER)
            b->driver->ops->give(b->driver, done.buffer);
        if ((done.flags & WSR_COMPLETION_MORE) == 0)
            b->driver->ops->recv(b->driver, b->server, RECV);
    }
}

static void a_send_far_over_the_socket_buffer_goes_out_whole(void **state)
{
    (void)state;
    struct bench b;
    size_t len = 8u << 20;
    uint8_t *data = malloc(len);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 31 + i / 4096);
    bench_open(&b, NULL, 64);
    make_pair(&b);
    b.driver->ops->recv(b.driver, b.server, RECV);
    bench_send(&b, b.client, data, len, SEND);
    expect_bytes(&b, data, len);
    assert_int_equal(bench_await(&b, SEND).result, len);
    bench_close(&b);
    free(data);
}

static void the_parts_of_a_send_are_copied_and_keep_their_order(void **state)
{
    (void)state;
    struct bench b;
    uint8_t want[WSR_DRIVER_PARTS_MAX * 3];
    struct iovec parts[WSR_DRIVER_PARTS_MAX];
    for (size_t i = 0; i < sizeof want; i++)
        want[i] = (uint8_t)(i * 11);
    bench_open(&b, NULL, 64);
    make_pair(&b);
    b.driver->ops->recv(b.driver, b.server, RECV);
    /* Sixty times 256 parts are three arenas full. One send in flight per socket: each waits for the one before. */
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned i = 0; i < WSR_DRIVER_PARTS_MAX; i++)
            parts[i] = (struct iovec){ want + 3 * i, 3 };
        b.driver->ops->send(b.driver, b.client, parts, WSR_DRIVER_PARTS_MAX, SEND);
        memset(parts, 0xEE, sizeof parts);
        expect_bytes(&b, want, sizeof want);
        assert_int_equal(bench_await(&b, SEND).result, sizeof want);
    }
    bench_close(&b);
}

static void a_full_arena_and_a_full_queue_submit_early(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_uring_options options = { .entries_count = 8 };
    enum { PAIRS = 40 };
    wsr_file clients[PAIRS];
    static uint8_t bytes[WSR_DRIVER_PARTS_MAX];
    struct iovec parts[WSR_DRIVER_PARTS_MAX];

    bench_open(&b, &options, 64);
    bench_listen(&b);
    for (unsigned i = 0; i < PAIRS; i++)
        clients[i] = bench_connect(&b, CONNECT);
    for (unsigned i = 0; i < PAIRS; i++) {
        assert_int_equal(bench_await(&b, CONNECT).result, 0);
        assert_true(bench_await(&b, ACCEPT).result >= 0);
    }
    for (unsigned i = 0; i < WSR_DRIVER_PARTS_MAX; i++)
        parts[i] = (struct iovec){ bytes + i, 1 };
    for (unsigned i = 0; i < PAIRS; i++)        /* 40 x 256 parts, no wait between them */
        b.driver->ops->send(b.driver, clients[i], parts, WSR_DRIVER_PARTS_MAX, SEND);
    for (unsigned i = 0; i < PAIRS; i++)
        assert_int_equal(bench_await(&b, SEND).result, WSR_DRIVER_PARTS_MAX);
    bench_close(&b);
}

static void a_send_to_a_closed_peer_is_an_errno_and_no_signal(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, NULL, 2);
    make_pair(&b);
    struct linger hard = { 1, 0 };
    setsockopt(b.server, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    b.driver->ops->close(b.driver, b.server);
    int last = 0;
    for (unsigned i = 0; i < 3 && last >= 0; i++) {
        bench_send(&b, b.client, "x", 1, SEND);
        last = bench_await(&b, SEND).result;
    }
    assert_true(last == -EPIPE || last == -ECONNRESET);
    bench_send(&b, b.client, "x", 1, SEND);
    assert_int_equal(bench_await(&b, SEND).result, -EPIPE);
    bench_close(&b);
}

/* ---- Cancelling and the end ---- */

static void cancel_ends_the_operation_of_the_token_and_no_other(void **state)
{
    (void)state;
    struct bench b;
    size_t len = 64u << 20;
    uint8_t *data = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bench_open(&b, NULL, 8);
    make_pair(&b);
    b.driver->ops->recv(b.driver, b.client, RECV);
    bench_send(&b, b.client, data, len, SEND);
    struct wsr_completion none[8];
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 0), 0);
    b.driver->ops->cancel(b.driver, RECV);
    struct wsr_completion ended = bench_await(&b, RECV);
    assert_int_equal(ended.result, -ECANCELED);
    assert_int_equal(ended.flags, 0);
    b.driver->ops->cancel(b.driver, SEND);
    ended = bench_await(&b, SEND);
    assert_true(ended.result == -ECANCELED || (ended.result > 0 && (size_t)ended.result < len));
    assert_int_equal(b.log_count, 0);           /* the cancel's own completion is nobody's business */
    b.driver->ops->close(b.driver, b.client);

    wsr_file next = bench_connect(&b, CONNECT);      /* the accept goes on */
    assert_true(next >= 0);
    assert_int_equal(bench_await(&b, CONNECT).result, 0);
    assert_true(bench_await(&b, ACCEPT).result >= 0);
    bench_close(&b);
    munmap(data, len);
}

static void cancel_without_operations_is_silent(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    bench_open(&b, NULL, 2);
    make_pair(&b);
    b.driver->ops->cancel(b.driver, RECV);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, bench_soon(b.driver, 20)), 0);
    bench_close(&b);
}

static void destroy_ends_what_is_in_flight_and_closes_what_is_open(void **state)
{
    (void)state;
    unsigned before = files_open();
    for (unsigned round = 0; round < 20; round++) {
        struct bench b;
        char into[16];
        bench_open(&b, NULL, 8);
        make_pair(&b);
        b.driver->ops->recv(b.driver, b.client, RECV);
        b.driver->ops->recv_into(b.driver, b.server, into, sizeof into, INTO);
        if (round % 2 != 0) {
            struct wsr_completion none[8];
            b.driver->ops->wait(b.driver, none, 8, 0);
        }
        bench_connect(&b, CONNECT);
        bench_close(&b);
    }
    assert_int_equal(files_open(), before);
}

static void no_kernel_worker_threads_appear(void **state)
{
    (void)state;
    struct bench b;
    char name[64];
    bench_open(&b, NULL, 8);
    make_pair(&b);
    b.driver->ops->recv(b.driver, b.server, RECV);
    bench_send(&b, b.client, "x", 1, SEND);
    bench_await(&b, RECV);
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        char path[300];
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *comm = fopen(path, "r");
        if (comm == NULL)
            continue;
        if (fgets(name, sizeof name, comm) != NULL)
            assert_true(strncmp(name, "iou-wrk", 7) != 0);
        fclose(comm);
    }
    closedir(tasks);
    bench_close(&b);
}

/* ---- Waiting ---- */

static void a_deadline_that_is_over_returns_nothing(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    bench_open(&b, NULL, 2);
    bench_listen(&b);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 0), 0);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 1), 0);
    uint64_t deadline_ns = bench_soon(b.driver, 5);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, deadline_ns), 0);
    assert_true(b.driver->ops->now(b.driver) >= deadline_ns);
    bench_close(&b);
}

static void an_idle_wait_without_deadline_makes_no_system_call(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    bench_open(&b, NULL, 2);
    bench_listen(&b);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 0), 0);
    uint64_t enters = b.driver->ops->counts(b.driver).enters;
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 0), 0);
    assert_int_equal(b.driver->ops->counts(b.driver).enters, enters);
    bench_close(&b);
}

static void ready_sees_completions_without_a_system_call(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    bench_open(&b, NULL, 4);
    make_pair(&b);
    b.driver->ops->recv(b.driver, b.server, RECV);
    assert_true(b.driver->ops->ready(b.driver));         /* something to submit */
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 0), 0);
    assert_false(b.driver->ops->ready(b.driver));
    assert_int_equal(write(b.client, "y", 1), 1);
    uint64_t deadline_ns = bench_soon(b.driver, 10000);
    while (!b.driver->ops->ready(b.driver) && b.driver->ops->now(b.driver) < deadline_ns)
        usleep(100);
    assert_true(b.driver->ops->ready(b.driver));
    assert_int_equal(bench_await(&b, RECV).result, 1);
    bench_close(&b);
}

static void the_descriptor_polls_readable_when_completions_wait(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    bench_open(&b, NULL, 4);
    make_pair(&b);
    b.driver->ops->recv(b.driver, b.server, RECV);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 0), 0);
    struct pollfd ring = { .fd = b.driver->ops->descriptor(b.driver), .events = POLLIN };
    assert_int_equal(poll(&ring, 1, 0), 1);             /* whoever asks for it looks once first */
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 0), 0);
    assert_int_equal(poll(&ring, 1, 0), 0);
    assert_int_equal(write(b.client, "y", 1), 1);
    assert_int_equal(poll(&ring, 1, 10000), 1);
    assert_int_equal(bench_await(&b, RECV).result, 1);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 0), 0);
    assert_int_equal(poll(&ring, 1, 0), 0);
    b.driver->ops->wake(b.driver);
    assert_int_equal(poll(&ring, 1, 10000), 1);
    bench_close(&b);
}

static void completions_beyond_the_callers_room_come_with_the_next_wait(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_uring_options options = { .entries_count = 8, .completions_count = 8 };
    enum { COUNT = 100 };
    bool seen[COUNT] = { false };
    struct wsr_driver_setup setup = { .family = AF_INET };
    bench_open(&b, &options, 2);
    /* More completions than the queue holds: the kernel keeps the rest aside, none is lost. */
    wsr_file file = b.driver->ops->open(b.driver, &setup);
    for (unsigned i = 0; i < COUNT; i++)
        bench_send(&b, file, "x", 1, 100 + i);
    for (unsigned taken = 0; taken < COUNT;) {
        struct wsr_completion out[3];
        int n = b.driver->ops->wait(b.driver, out, 3, bench_soon(b.driver, 10000));
        assert_true(n > 0);
        for (int i = 0; i < n; i++) {
            assert_true(out[i].token >= 100 && out[i].token < 100 + COUNT && !seen[out[i].token - 100]);
            assert_int_equal(out[i].result, -EPIPE);
            seen[out[i].token - 100] = true;
            taken++;
        }
    }
    assert_true(b.driver->ops->counts(b.driver).overflows > 0);
    assert_true(b.driver->ops->counts(b.driver).submitted >= COUNT);
    /* The driver wakes up as ever after that. */
    struct wsr_completion none[3];
    b.driver->ops->wake(b.driver);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 3, WSR_NEVER), 0);
    bench_close(&b);
}

static void *write_later(void *argument)
{
    const struct bench *b = argument;
    usleep(20000);
    assert_int_equal(write(b->client, "z", 1), 1);
    return NULL;
}

static void a_deadline_after_centuries_does_not_overflow_the_kernels_clock(void **state)
{
    (void)state;
    static const char *const off[] = { "", "abs_timer" };
    static const uint64_t far_ns[] = { WSR_NEVER, WSR_NEVER - 1, WSR_NEVER / 2, WSR_NEVER / 4 + 1, WSR_NEVER / 4 - 1 };
    for (unsigned mode = 0; mode < 2; mode++) {
        setenv("WSRING_URING_OFF", off[mode], 1);
        for (unsigned i = 0; i < sizeof far_ns / sizeof *far_ns; i++) {
            struct bench b;
            struct wsr_completion out[2];
            pthread_t thread;
            bench_open(&b, NULL, 4);
            make_pair(&b);
            b.driver->ops->recv(b.driver, b.server, RECV);
            assert_int_equal(b.driver->ops->wait(b.driver, out, 2, 0), 0);
            pthread_create(&thread, NULL, write_later, &b);
            assert_int_equal(b.driver->ops->wait(b.driver, out, 2, far_ns[i]), 1);
            assert_int_equal(out[0].token, RECV);
            pthread_join(thread, NULL);
            bench_close(&b);
        }
    }
    unsetenv("WSRING_URING_OFF");
}

static void on_alarm(int signal)
{
    (void)signal;
}

static void a_signal_ends_a_wait_with_nothing(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    struct sigaction action = { .sa_handler = on_alarm };
    struct itimerval in_20_ms = { .it_value.tv_usec = 20000 };
    bench_open(&b, NULL, 2);
    sigaction(SIGALRM, &action, NULL);
    bench_listen(&b);        /* the same call submits: its result does not tell of the signal */
    setitimer(ITIMER_REAL, &in_20_ms, NULL);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, WSR_NEVER), 0);
    setitimer(ITIMER_REAL, &in_20_ms, NULL);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, WSR_NEVER), 0);
    bench_close(&b);
}

/* ---- Threads ---- */

static void a_wake_before_the_wait_is_not_lost(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    bench_open(&b, NULL, 2);
    for (unsigned i = 0; i < 1000; i++) {
        b.driver->ops->wake(b.driver);
        b.driver->ops->wake(b.driver);
        assert_int_equal(b.driver->ops->wait(b.driver, none, 8, WSR_NEVER), 0);
    }
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, bench_soon(b.driver, 5)), 0);
    bench_close(&b);
}

struct waker {
    struct wsr_driver *driver;
    unsigned rounds;
    _Atomic unsigned said;
    _Atomic unsigned heard;
};

static void *wake_often(void *argument)
{
    struct waker *waker = argument;
    for (unsigned round = 1; round <= waker->rounds; round++) {
        /* Relaxed here and below: it is wake() that must carry the number over. */
        atomic_store_explicit(&waker->said, round, memory_order_relaxed);
        waker->driver->ops->wake(waker->driver);
        if (round % 16 == 0) {
            while (atomic_load_explicit(&waker->heard, memory_order_relaxed) != round)
                sched_yield();
        }
    }
    return NULL;
}

static void a_wake_is_armed_also_behind_a_full_queue(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    struct wsr_uring_options options = { .flags = WSR_URING_DISABLED_START, .entries_count = 4 };
    bench_open(&b, &options, 2);
    bench_listen(&b);
    for (unsigned i = 0; i < 3; i++) {                         /* four operations that do not end */
        uint16_t port;
        struct sockaddr_in any = { .sin_family = AF_INET };
        wsr_file other = b.driver->ops->listen(b.driver, (struct sockaddr *)&any, sizeof any, 1, &port);
        b.driver->ops->accept(b.driver, other, ACCEPT);
    }
    b.driver->ops->wake(b.driver);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, WSR_NEVER), 0);
    bench_close(&b);
}

static void wakes_from_another_thread_are_never_lost(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    bench_open(&b, NULL, 2);
    struct waker waker = { .driver = b.driver, .rounds = 4096 };
    pthread_t thread;
    pthread_create(&thread, NULL, wake_often, &waker);
    while (atomic_load_explicit(&waker.heard, memory_order_relaxed) != waker.rounds) {
        assert_int_equal(b.driver->ops->wait(b.driver, none, 8, WSR_NEVER), 0);
        unsigned said = atomic_load_explicit(&waker.said, memory_order_relaxed);
        atomic_store_explicit(&waker.heard, said, memory_order_relaxed);
    }
    pthread_join(thread, NULL);
    bench_close(&b);
}

static void *echo_once(void *argument)
{
    struct bench *b = argument;
    make_pair(b);
    b->driver->ops->recv(b->driver, b->server, RECV);
    bench_send(b, b->client, "other", 5, SEND);
    struct wsr_completion done = bench_await(b, RECV);
    assert_int_equal(done.result, 5);
    assert_memory_equal(b->memory + done.buffer * BENCH_BUFFER_BYTES, "other", 5);
    return NULL;
}

static void a_disabled_ring_belongs_to_the_thread_that_waits_first(void **state)
{
    (void)state;
    struct bench b;
    struct wsr_completion none[8];
    struct wsr_uring_options options = { .flags = WSR_URING_DISABLED_START };
    bench_open(&b, &options, 8);
    assert_null(strstr(b.driver->ops->features(b.driver), "ring_fd"));
    pthread_t thread;
    pthread_create(&thread, NULL, echo_once, &b);
    pthread_join(thread, NULL);
    assert_int_equal(b.driver->ops->wait(b.driver, none, 8, 0), -EEXIST);
    bench_close(&b);
}

static void what_a_dead_owner_left_in_flight_is_destroyed_from_another_thread(void **state)
{
    (void)state;
    struct bench inline_engine;
    struct bench b;
    struct wsr_uring_options options = { .flags = WSR_URING_DISABLED_START };
    bench_open(&inline_engine, NULL, 2);        /* its ring has the same index on this thread as b's on the other */
    bench_open(&b, &options, 8);
    pthread_t thread;
    pthread_create(&thread, NULL, echo_once, &b);
    pthread_join(thread, NULL);
    bench_close(&b);
    make_pair(&inline_engine);
    bench_close(&inline_engine);
}

/* ---- Ladder and diagnosis ---- */

static void optional_steps_can_be_switched_off(void **state)
{
    (void)state;
    static const char *const optional[] = { "ring_fd", "iowq_cap", "abs_timer", "ring_fd,iowq_cap,abs_timer" };
    const struct wsr_uring_options options = { .napi_us = 1 };
    for (unsigned i = 0; i < 4; i++) {
        struct wsr_uring_report report;
        struct bench b;
        setenv("WSRING_URING_OFF", optional[i], 1);
        wsr_uring_probe(&report);
        assert_int_equal(report.error, 0);
        bench_open(&b, &options, 2);
        unsetenv("WSRING_URING_OFF");
        const char *features = b.driver->ops->features(b.driver);
        assert_memory_equal(features, report.features, strlen(features));    /* direct_files is not asked for */
        for (unsigned step = 0; step < 3; step++) {
            if (i == step || i == 3) {
                assert_null(strstr(features, optional[step]));
                assert_non_null(strstr(report.missing, optional[step]));
            }
        }
        struct wsr_completion none[8];
        uint64_t deadline_ns = bench_soon(b.driver, 5);
        make_pair(&b);
        assert_int_equal(b.driver->ops->wait(b.driver, none, 8, deadline_ns), 0);
        assert_true(b.driver->ops->now(b.driver) >= deadline_ns);
        bench_close(&b);
    }
}

static void a_base_step_switched_off_refuses_the_driver(void **state)
{
    (void)state;
    struct wsr_uring_report report;
    struct wsr_driver *driver;
    setenv("WSRING_URING_OFF", "unheard_of,defer_taskrun", 1);
    assert_int_equal(wsr_uring_create(&driver, NULL, &report), WSR_ERR_NOT_SUPPORTED);
    unsetenv("WSRING_URING_OFF");
    assert_non_null(strstr(report.text, "WSRING_URING_OFF"));
    assert_non_null(strstr(report.text, "defer_taskrun"));
    assert_string_equal(report.features, "");
}

static void the_probe_names_every_step(void **state)
{
    (void)state;
    struct wsr_uring_report report;
    unsigned before = files_open();
    wsr_uring_probe(&report);
    assert_int_equal(report.error, 0);
    assert_non_null(strstr(report.features, "defer_taskrun buffer_ring multishot_recv multishot_accept"));
    assert_non_null(strstr(report.text, "io_uring works"));
    assert_int_equal(files_open(), before);
}

/* In a child whose system call @number fails with @error, as under a container's profile: 0 = @word is in the text. */
static int refused_child(long number, int error, int want, const char *word)
{
    pid_t child = fork();
    if (child != 0) {
        int status = -1;
        waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
    }
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    struct wsr_uring_report report;
    struct wsr_driver *driver;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(77);
    if (wsr_uring_create(&driver, NULL, &report) != want)
        _exit(1);
    if (report.error != -error || strstr(report.text, word) == NULL || strlen(report.text) == sizeof report.text - 1)
        _exit(2);
    wsr_uring_probe(&report);
    _exit(report.error == -error && strstr(report.text, word) != NULL ? 0 : 3);
}

static void each_way_of_being_refused_has_its_sentence(void **state)
{
    (void)state;
    assert_int_equal(refused_child(SYS_io_uring_setup, EPERM, WSR_ERR_NOT_SUPPORTED, "seccomp"), 0);
    assert_int_equal(refused_child(SYS_io_uring_register, EPERM, WSR_ERR_NOT_SUPPORTED, "io_uring_register is"), 0);
    assert_int_equal(refused_child(SYS_io_uring_enter, EPERM, WSR_ERR_NOT_SUPPORTED, "io_uring_enter is"), 0);
    assert_int_equal(refused_child(SYS_io_uring_setup, ENOSYS, WSR_ERR_NOT_SUPPORTED, "without io_uring"), 0);
    assert_int_equal(refused_child(SYS_io_uring_setup, ENOMEM, WSR_ERR_MEMORY, "cgroup"), 0);
    assert_int_equal(refused_child(SYS_io_uring_setup, EMFILE, WSR_ERR_SYSTEM, "ulimit -n"), 0);
    assert_int_equal(refused_child(SYS_io_uring_setup, EINVAL, WSR_ERR_NOT_SUPPORTED, "6.1"), 0);
    assert_int_equal(refused_child(SYS_eventfd2, EMFILE, WSR_ERR_SYSTEM, "eventfd"), 3);
}

static void sysctl_sentences_name_value_group_and_cure(void **state)
{
    (void)state;
    char text[256];
    struct wsr_uring_refusal refusal = { "io_uring_setup", EPERM, 2, -1, false, "6.8.0" };
    wsr_uring_probe_explain(text, sizeof text, &refusal);
    assert_non_null(strstr(text, "kernel.io_uring_disabled=2"));
    assert_non_null(strstr(text, "sysctl -w kernel.io_uring_disabled=0"));
    refusal.disabled = 1;
    wsr_uring_probe_explain(text, sizeof text, &refusal);
    assert_non_null(strstr(text, "CAP_SYS_ADMIN"));
    assert_non_null(strstr(text, "set kernel.io_uring_group"));
    refusal.group = 4242;
    wsr_uring_probe_explain(text, sizeof text, &refusal);
    assert_non_null(strstr(text, "group 4242"));
    assert_true(strlen(text) < sizeof text - 1);
    refusal = (struct wsr_uring_refusal){ "io_uring_setup", EINVAL, 0, -1, true, "5.15.0" };
    wsr_uring_probe_explain(text, sizeof text, &refusal);
    assert_non_null(strstr(text, "5.15.0 has io_uring"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_accept_send_recv_and_end_of_stream),
        cmocka_unit_test(a_refused_connection_completes_with_its_errno),
        cmocka_unit_test(a_source_address_is_bound),
        cmocka_unit_test(a_foreign_source_address_is_an_errno),
        cmocka_unit_test(unix_sockets_work),
        cmocka_unit_test(without_descriptors_open_and_accept_say_so),
        cmocka_unit_test(empty_buffers_are_a_state_and_receiving_resumes),
        cmocka_unit_test(every_buffer_comes_back_many_times_round),
        cmocka_unit_test(recv_into_takes_once_into_the_callers_memory),
        cmocka_unit_test(buffers_are_provided_once_and_in_powers_of_two),
        cmocka_unit_test(a_send_far_over_the_socket_buffer_goes_out_whole),
        cmocka_unit_test(the_parts_of_a_send_are_copied_and_keep_their_order),
        cmocka_unit_test(a_full_arena_and_a_full_queue_submit_early),
        cmocka_unit_test(a_send_to_a_closed_peer_is_an_errno_and_no_signal),
        cmocka_unit_test(cancel_ends_the_operation_of_the_token_and_no_other),
        cmocka_unit_test(cancel_without_operations_is_silent),
        cmocka_unit_test(destroy_ends_what_is_in_flight_and_closes_what_is_open),
        cmocka_unit_test(no_kernel_worker_threads_appear),
        cmocka_unit_test(a_deadline_that_is_over_returns_nothing),
        cmocka_unit_test(an_idle_wait_without_deadline_makes_no_system_call),
        cmocka_unit_test(ready_sees_completions_without_a_system_call),
        cmocka_unit_test(the_descriptor_polls_readable_when_completions_wait),
        cmocka_unit_test(completions_beyond_the_callers_room_come_with_the_next_wait),
        cmocka_unit_test(a_deadline_after_centuries_does_not_overflow_the_kernels_clock),
        cmocka_unit_test(a_signal_ends_a_wait_with_nothing),
        cmocka_unit_test(a_wake_before_the_wait_is_not_lost),
        cmocka_unit_test(a_wake_is_armed_also_behind_a_full_queue),
        cmocka_unit_test(wakes_from_another_thread_are_never_lost),
        cmocka_unit_test(a_disabled_ring_belongs_to_the_thread_that_waits_first),
        cmocka_unit_test(what_a_dead_owner_left_in_flight_is_destroyed_from_another_thread),
        cmocka_unit_test(optional_steps_can_be_switched_off),
        cmocka_unit_test(a_base_step_switched_off_refuses_the_driver),
        cmocka_unit_test(the_probe_names_every_step),
        cmocka_unit_test(each_way_of_being_refused_has_its_sentence),
        cmocka_unit_test(sysctl_sentences_name_value_group_and_cure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
