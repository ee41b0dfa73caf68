/* engine/engine.c: every option of an engine, its end in every state, statistics; on the real driver.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "tests/support/bytes.h"
#include "tests/support/client.h"

#define NS_PER_MS 1000000ull
#define TASKS_MAX 512

/* ---- Threads of this process ---- */

struct tasks {
    pid_t ids[TASKS_MAX];
    unsigned count;
};

static void list_tasks(struct tasks *tasks)
{
    DIR *dir = opendir("/proc/self/task");
    tasks->count = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL && tasks->count < TASKS_MAX;) {
        long id = strtol(entry->d_name, NULL, 10);
        if (id > 0)
            tasks->ids[tasks->count++] = (pid_t)id;
    }
    closedir(dir);
}

/* Those of @now that are not in @before. */
static void keep_new(struct tasks *now, const struct tasks *before)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < now->count; i++) {
        bool is_old = false;
        for (unsigned k = 0; k < before->count; k++)
            is_old |= before->ids[k] == now->ids[i];
        if (!is_old)
            now->ids[kept++] = now->ids[i];
    }
    now->count = kept;
}

static void *do_nothing(void *nothing)
{
    return nothing;
}

/* A sanitizer starts its own thread with the first of the program: it shall not be taken for a worker. */
static int start_a_thread(void **state)
{
    (void)state;
    pthread_t thread;
    return pthread_create(&thread, NULL, do_nothing, NULL) != 0 || pthread_join(thread, NULL) != 0;
}

/* 'R' runs, 'S' sleeps, ... */
static char task_state(pid_t id)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)id);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return '?';
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL ? end[2] : '?';
}

static struct wsr_engine *make_and_list(const struct wsr_engine_options *options, struct tasks *tasks)
{
    struct wsr_engine *engine;
    struct tasks before;
    list_tasks(&before);
    assert_int_equal(wsr_engine_create(&engine, options), 0);
    list_tasks(tasks);
    keep_new(tasks, &before);
    return engine;
}

/* ---- Making ---- */

static void no_options_make_an_inline_engine(void **state)
{
    (void)state;
    struct tasks tasks;
    struct wsr_engine *engine = make_and_list(NULL, &tasks);
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(tasks.count, 0);
    assert_int_equal(wsr_engine_rings(engine), 1);
    assert_int_equal(wsr_engine_statistics(engine, &statistics), 0);
    assert_int_equal(statistics.workers_count, 0);
    assert_int_equal(statistics.buffers_count, 512);
    assert_string_equal(statistics.driver, "io_uring");
    assert_true(statistics.simd[0] != '\0');
    assert_int_equal(wsr_engine_destroy(engine), 0);
    assert_int_equal(wsr_engine_destroy(NULL), 0);
    assert_int_equal(wsr_engine_create(NULL, NULL), WSR_ERR_ARGUMENT);
}

static void option_workers_count(void **state)
{
    (void)state;
    for (uint32_t workers = 1; workers <= 5; workers += 2) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
        struct tasks tasks;
        options.workers_count = workers;
        options.sockets_max = 16;
        struct wsr_engine *engine = make_and_list(&options, &tasks);
        assert_int_equal(tasks.count, workers);
        assert_int_equal(wsr_engine_rings(engine), workers);
        assert_int_equal(wsr_engine_statistics(engine, &statistics), 0);
        assert_int_equal(statistics.workers_count, workers);
        assert_int_equal(statistics.buffers_count, 512 * workers);
        assert_int_equal(wsr_engine_destroy(engine), 0);
    }
}

struct number_row {
    size_t offset;
    size_t bytes;
    uint64_t value;
};

#define ROW(field, value) { offsetof(struct wsr_engine_options, field), \
                            sizeof ((struct wsr_engine_options *)NULL)->field, value }

static void set_number(struct wsr_engine_options *options, const struct number_row *row)
{
    /* little-endian, as the library requires */
    memcpy((uint8_t *)options + row->offset, &row->value, row->bytes);
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct number_row rows[] = {
        ROW(flags, 1u << 30), ROW(flags, 1u << 31), ROW(flags, 1u << 31 | 1), ROW(workers_count, 257),
        ROW(workers_count, UINT32_MAX),
        ROW(events_count, 1), ROW(events_count, 4), ROW(events_count, 7), ROW(events_count, 9),
        ROW(events_count, 1000), ROW(events_count, 1u << 25), ROW(events_count, UINT32_MAX),
        ROW(buffers_count, 1), ROW(buffers_count, 3), ROW(buffers_count, 511), ROW(buffers_count, 65536),
        ROW(buffers_count, UINT32_MAX), ROW(buffer_bytes, 1), ROW(buffer_bytes, 255), ROW(buffer_bytes, (1u << 20) + 1),
        ROW(buffer_bytes, UINT32_MAX), ROW(wait, 4), ROW(wait, UINT32_MAX), ROW(sockets_max, UINT32_MAX),
        ROW(batch_count, 257), ROW(batch_count, UINT32_MAX), ROW(batch_ns, 1), ROW(batch_ns, UINT64_MAX),
        ROW(napi_us, 1000001), ROW(napi_us, UINT32_MAX),
        ROW(size, 0), ROW(size, 3),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        struct wsr_engine *const untouched = (struct wsr_engine *)(void *)&options, *engine = untouched;
        struct tasks before, after;
        set_number(&options, &rows[i]);
        list_tasks(&before);
        int rc = wsr_engine_create(&engine, &options);
        list_tasks(&after);
        if (rc != WSR_ERR_ARGUMENT || engine != untouched || wsr_error_text()[0] == '\0' || before.count != after.count)
            fail_msg("row %zu: %s", i, wsr_error_name(rc));
    }
}

static void options_at_the_ends_of_their_ranges_are_taken(void **state)
{
    (void)state;
    static const struct number_row rows[] = {
        ROW(flags, WSR_ENGINE_PIN), ROW(flags, WSR_ENGINE_ONE_CONNECTING), ROW(events_count, 8),
        ROW(events_count, 1u << 17), ROW(buffers_count, 2),
        ROW(buffers_count, 32768), ROW(buffer_bytes, 256), ROW(buffer_bytes, 257), ROW(buffer_bytes, 1u << 20),
        ROW(wait, WSR_WAIT_BLOCK), ROW(wait, WSR_WAIT_SPIN), ROW(wait, WSR_WAIT_ADAPTIVE), ROW(sockets_max, 1),
        ROW(sockets_max, 1u << 20), ROW(message_max_bytes, 1), ROW(message_max_bytes, UINT64_MAX),
        ROW(send_queue_max_bytes, 1), ROW(send_queue_max_bytes, UINT64_MAX), ROW(send_pool_bytes, 1),
        ROW(loan_max_bytes, 1), ROW(loan_max_bytes, UINT64_MAX), ROW(fragments_max, 1), ROW(fragments_max, UINT32_MAX),
        ROW(head_max_bytes, 1), ROW(head_max_bytes, UINT32_MAX), ROW(open_timeout_ns, 1),
        ROW(open_timeout_ns, WSR_NEVER), ROW(close_timeout_ns, WSR_NEVER), ROW(fin_timeout_ns, WSR_NEVER),
        ROW(spin_ns, 1), ROW(spin_ns, UINT64_MAX), ROW(batch_count, 1), ROW(batch_count, 2), ROW(batch_count, 256),
        ROW(napi_us, 1), ROW(napi_us, 1000000),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        struct wsr_engine *engine;
        set_number(&options, &rows[i]);
        if (wsr_engine_create(&engine, &options) != 0)
            fail_msg("row %zu: %s", i, wsr_error_text());
        assert_int_equal(wsr_engine_destroy(engine), 0);
    }
}

/* PIN: worker i on the i-th CPU of the process's mask, counted round */
static void option_pin(void **state)
{
    (void)state;
    cpu_set_t all, set;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    for (unsigned pinned = 0; pinned < 2; pinned++) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        struct tasks tasks;
        unsigned used[CPU_SETSIZE] = { 0 }, cpus = 0;
        options.workers_count = (uint32_t)CPU_COUNT(&all) * 2 < 16 ? (uint32_t)CPU_COUNT(&all) * 2 : 16;
        options.flags = pinned ? WSR_ENGINE_PIN : 0;
        struct wsr_engine *engine = make_and_list(&options, &tasks);
        for (unsigned i = 0; i < tasks.count; i++) {
            /* The thread sets it itself, first thing. */
            for (unsigned wait = 0; wait < 2000; wait++) {
                assert_int_equal(sched_getaffinity(tasks.ids[i], sizeof set, &set), 0);
                if (!pinned || CPU_COUNT(&set) == 1)
                    break;
                client_sleep_ms(5);
            }
            assert_int_equal(CPU_COUNT(&set), pinned ? 1 : CPU_COUNT(&all));
            for (unsigned cpu = 0; pinned && cpu < CPU_SETSIZE; cpu++)
                used[cpu] += CPU_ISSET(cpu, &set) != 0;
        }
        for (unsigned cpu = 0; pinned && cpu < CPU_SETSIZE; cpu++) {
            assert_true(used[cpu] == 0 || CPU_ISSET(cpu, &all));
            cpus += used[cpu] != 0;
        }
        if (pinned)
            assert_int_equal(cpus, tasks.count < (unsigned)CPU_COUNT(&all) ? tasks.count : (unsigned)CPU_COUNT(&all));
        assert_int_equal(wsr_engine_destroy(engine), 0);
    }
}

/* Does the worker come to sleep when there is nothing to do? Looks for at most @looks times 5 ms. */
static bool comes_to_sleep(uint32_t wait, uint64_t spin_ns, unsigned looks)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct tasks tasks;
    struct client client;
    bool sleeps = false;
    options.workers_count = 1;
    options.wait = wait;
    options.spin_ns = spin_ns;
    struct wsr_engine *engine = make_and_list(&options, &tasks);
    assert_int_equal(tasks.count, 1);
    for (unsigned i = 0; i < looks && !sleeps; i++) {
        client_sleep_ms(5);
        sleeps = task_state(tasks.ids[0]) == 'S';
    }
    assert_int_equal(wsr_engine_destroy(engine), 0);

    /* It works all the same. */
    client_open(&client, &options, "upgrade; echo");
    struct wsr_socket *socket = client_connect_open(&client);
    client_echo(&client, socket, 20);
    wsr_close(socket, 0, NULL, 0);
    client_until(&client, WSR_EVENT_CLOSE, 1);
    client_close(&client);
    return sleeps;
}

static void option_wait(void **state)
{
    (void)state;
    assert_true(comes_to_sleep(WSR_WAIT_DEFAULT, 0, 4000));
    assert_true(comes_to_sleep(WSR_WAIT_BLOCK, 0, 4000));
    assert_false(comes_to_sleep(WSR_WAIT_SPIN, 0, 20));
}

static void option_spin_ns(void **state)
{
    (void)state;
    assert_true(comes_to_sleep(WSR_WAIT_ADAPTIVE, 1, 4000));
    assert_true(comes_to_sleep(WSR_WAIT_ADAPTIVE, 0, 4000));
    assert_false(comes_to_sleep(WSR_WAIT_ADAPTIVE, 3600000 * NS_PER_MS, 20));
}

/* ---- Sizes ---- */

static void open_too_many(struct client *client)
{
    struct wsr_socket *sockets[3] = { client_connect(client), client_connect(client), NULL };
    assert_int_equal(wsr_socket_open(client->engine, peer_url(client->peer), WSR_ZSTRING, NULL, 0, NULL, &sockets[2]),
                     WSR_ERR_MEMORY);
    assert_null(sockets[2]);
    assert_non_null(strstr(wsr_error_text(), "sockets_max"));
    client_until(client, WSR_EVENT_OPEN, 2);
    assert_int_equal(client_statistics(client).sockets_live, 2);
    wsr_socket_destroy(sockets[0]);
    while (client_statistics(client).sockets_live > 1)
        client_poll(client, 0, 10);
    client_connect_open(client);
}

static void option_sockets_max(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.sockets_max = 2;
    client_each(open_too_many, &options, "upgrade; echo");
}

/* events_count: no more wait than there are slots, however many come; nothing is lost. */
static void option_events_count(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    options.workers_count = 1;
    for (unsigned round = 0; round < 2; round++) {
        options.events_count = round == 0 ? 8 : 1024;
        client_open(&client, &options, "upgrade; hold; texts 500; ping; expect pong; close 1000; expect close; fin");
        client_connect_open(&client);
        peer_go(client.peer);
        if (round == 0) {
            client_sleep_ms(100);
            assert_in_range(client_statistics(&client).messages_received, 0, 8);
            assert_false(peer_saw(client.peer, 0, "pong"));
        } else {
            peer_await(client.peer, 0, "pong");         /* without any poll */
            assert_int_equal(client_statistics(&client).messages_received, 500);
        }
        client_until(&client, WSR_EVENT_CLOSE, 1);
        assert_int_equal(client.counts[WSR_EVENT_MESSAGE], 500);
        assert_true((client_statistics(&client).rests > 0) == (round == 0));
        client_close(&client);
    }
}

/* buffers_count, buffer_bytes: a message that lies in one buffer is lent, one that does not is copied. */
static void receive_1000(struct client *client)
{
    client_connect(client);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    struct wsr_engine_statistics statistics = client_statistics(client);
    bool is_small = *(const bool *)client->context;
    assert_int_equal(statistics.buffers_count, is_small ? 2 : 64);
    assert_int_equal(statistics.messages_lent, is_small ? 0 : 1);
    assert_int_equal(statistics.messages_copied, is_small ? 1 : 0);
    const char *data = bytes_of(&client->last[WSR_EVENT_MESSAGE]);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(data[i], peer_pattern(i));
}

static void option_buffers_count_and_bytes(void **state)
{
    (void)state;
    for (unsigned small = 0; small < 2; small++) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        bool is_small = small != 0;
        options.buffers_count = is_small ? 2 : 64;
        options.buffer_bytes = is_small ? 256 : 4096;
        for (uint32_t workers = 0; workers < 2; workers++) {
            struct client client;
            options.workers_count = workers;
            client_open(&client, &options, "upgrade; big 1000");
            client.context = &is_small;
            receive_1000(&client);
            client_close(&client);
        }
    }
}

#define TEN_BIG "big 1000; big 1000; big 1000; big 1000; big 1000; big 1000; big 1000; big 1000; big 1000; big 1000; "

/* loan_max_bytes: copies for a slow consumer stop there, and go on when it has caught up. */
static void option_loan_max_bytes(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    options.workers_count = 1;
    options.buffers_count = 2;
    options.buffer_bytes = 256;
    uint64_t waiting[2];
    for (unsigned round = 0; round < 2; round++) {
        options.loan_max_bytes = round == 0 ? 8192 : 1 << 20;
        client_open(&client, &options, "upgrade; hold; " TEN_BIG TEN_BIG "close 1000; expect close; fin");
        client_connect_open(&client);
        peer_go(client.peer);
        if (round == 0)
            client_sleep_ms(100);
        else
            peer_await(client.peer, 0, "close");
        waiting[round] = client_statistics(&client).messages_received;
        assert_in_range(client_statistics(&client).loan_bytes, 0, options.loan_max_bytes + 2048);
        client_until(&client, WSR_EVENT_CLOSE, 1);
        assert_int_equal(client.counts[WSR_EVENT_MESSAGE], 20);
        assert_true(client.last[WSR_EVENT_CLOSE].was_clean);
        client_close(&client);
    }
    assert_in_range(waiting[0], 1, 12);
    assert_int_equal(waiting[1], 20);
}

/* ---- Limits on what is received ---- */

static void receive_up_to_100(struct client *client)
{
    client_connect(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "open\nbinary 100 \nerror\nclose 1006\n");
    peer_await(client->peer, 0, "close 1009");
}

/* RECV-05, RECV-14: the exact limit passes */
static void option_message_max_bytes(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.message_max_bytes = 100;
    client_each(receive_up_to_100, &options, "upgrade; big 100; big 101; expect close; fin");
}

static void receive_three_fragments(struct client *client)
{
    client_connect(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "open\ntext 3 abc\nerror\nclose 1006\n");
    peer_await(client->peer, 0, "close 1008");
}

/* RECV-14 */
static void option_fragments_max(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.fragments_max = 3;
    client_each(receive_three_fragments, &options,
                "upgrade; raw 010161 000162 800163; raw 010161 000162 000163 800164; expect close; fin");
}

static void read_head(struct client *client)
{
    bool is_small = *(const bool *)client->context;
    client_connect(client);
    client_until(client, is_small ? WSR_EVENT_CLOSE : WSR_EVENT_OPEN, 1);
    client_expect(client, is_small ? "error\nclose 1006\n" : "open\n");
    if (is_small)
        assert_int_equal(client->last[WSR_EVENT_ERROR].stage, WSR_STAGE_UPGRADE);
}

/* RESP-11 */
static void option_head_max_bytes(void **state)
{
    (void)state;
    for (unsigned small = 0; small < 2; small++) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        bool is_small = small != 0;
        options.head_max_bytes = is_small ? 200 : 300;
        for (uint32_t workers = 0; workers < 2; workers++) {
            struct client client;
            options.workers_count = workers;
            client_open(&client, &options, "upgrade X-Long: 01234567890123456789012345678901234567890123456789"
                                           "01234567890123456789012345678901234567890123456789");
            client.context = &is_small;
            read_head(&client);
            client_close(&client);
        }
    }
}

/* ---- Limits of time ---- */

static void open_in_time(struct client *client)
{
    struct peer_stall stall;
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    client_connect(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "error\nclose 1006\n");
    assert_int_equal(client->last[WSR_EVENT_ERROR].stage, WSR_STAGE_UPGRADE);
    assert_int_equal(client->last[WSR_EVENT_ERROR].system_errno, ETIMEDOUT);

    peer_stall_open(&stall);
    options.connect_to = stall.address;
    client_connect_with(client, &options);
    client_until(client, WSR_EVENT_CLOSE, 2);
    client_expect(client, "error\nclose 1006\nerror\nclose 1006\n");
    assert_int_equal(client->last[WSR_EVENT_ERROR].stage, WSR_STAGE_CONNECT);
    assert_int_equal(client->last[WSR_EVENT_ERROR].system_errno, ETIMEDOUT);
    peer_stall_close(&stall);
}

/* HS-13, F4 */
static void option_open_timeout(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.open_timeout_ns = 50 * NS_PER_MS;
    client_each(open_in_time, &options, "request; hold");
}

static void close_in_time(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "open\nerror\nclose 1006\n");
    assert_int_equal(client->last[WSR_EVENT_ERROR].stage, WSR_STAGE_CLOSING);
    assert_int_equal(client->last[WSR_EVENT_ERROR].system_errno, ETIMEDOUT);
}

/* CLOSE-26, F12 */
static void option_close_timeout(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.close_timeout_ns = 50 * NS_PER_MS;
    client_each(close_in_time, &options, "upgrade; expect close; hold");
}

static void fin_in_time(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "open\nclose 1000 clean\n");
}

/* CLOSE-25: the server does not end TCP, and it is clean all the same */
static void option_fin_timeout(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.fin_timeout_ns = 50 * NS_PER_MS;
    options.close_timeout_ns = WSR_NEVER;
    client_each(fin_in_time, &options, "upgrade; expect close; close 1000; hold");
}

/* ---- The end ---- */

/* Sockets of all kinds, some with events that nobody took. */
static void fill_with_life(struct client *client, struct peer_stall *stall)
{
    static const char *const scripts[] = {
        "request; hold", "upgrade; echo", "upgrade; texts 2000", "upgrade; expect close; hold", "upgrade; stop; hold",
        "upgrade; close 1000; hold", "upgrade; raw 83ff; hold",
    };
    static uint8_t much[1 << 20];
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.connect_to = stall->address;
    client_connect_with(client, &options);
    for (unsigned i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        peer_script(client->peer, scripts[i]);
        struct wsr_socket *socket = client_connect(client);
        client_until_peer(client, i, "request");
        if (i == 0)
            continue;
        client_until(client, WSR_EVENT_OPEN, i);
        if (i == 3)
            assert_int_equal(wsr_close(socket, 3000, "bye", WSR_ZSTRING), 0);
        for (unsigned k = 0; i == 4 && k < 20; k++)
            assert_int_equal(wsr_send(socket, WSR_BINARY, much, sizeof much), 0);
    }
    wsr_socket_destroy(client_connect(client));
    struct wsr_socket *socket;
    assert_int_equal(wsr_socket_open(client->engine, "ws://localhost:1/", WSR_ZSTRING, NULL, 0, NULL, &socket), 0);
}

static void end_full_of_life(struct client *client)
{
    struct peer_stall stall;
    struct wsr_engine *first = client->engine;
    peer_stall_open(&stall);
    fill_with_life(client, &stall);
    assert_int_equal(wsr_engine_destroy(client->engine), 0);
    peer_stall_close(&stall);
    assert_ptr_equal(first, client->engine);
    assert_int_equal(wsr_engine_create(&client->engine, NULL), 0);      /* for client_close() */
}

/* Whatever a socket is doing, the engine ends without waiting for a peer, and leaks nothing (the sanitizers look). */
static void an_engine_ends_with_sockets_in_every_state(void **state)
{
    (void)state;
    client_each(end_full_of_life, NULL, "");
}

static void say_farewell(struct client *client)
{
    client_connect_open(client);
    assert_int_equal(wsr_engine_destroy(client->engine), 0);
    peer_expect(client->peer, 0, "request GET /chat HTTP/1.1\nclose 1001\nfin\n");
    assert_int_equal(wsr_engine_create(&client->engine, NULL), 0);
}

/* CLOSE-32 */
static void open_connections_get_a_close_1001(void **state)
{
    (void)state;
    client_each(say_farewell, NULL, "upgrade; hold");
}

static void end_at_once(struct client *client)
{
    client_connect(client);
    assert_int_equal(wsr_engine_destroy(client->engine), 0);
    assert_int_equal(wsr_engine_create(&client->engine, NULL), 0);
}

static void an_engine_may_end_before_its_first_poll(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        client_each(end_at_once, NULL, "upgrade; echo");
}

static void end_inside(struct client *client, const struct wsr_event *event)
{
    (void)event;
    assert_int_equal(wsr_engine_destroy(client->engine), WSR_ERR_BUSY);
}

static void end_in_a_handler(struct client *client)
{
    client->uses_dispatch = true;
    client->react = end_inside;
    client_connect_open(client);
    assert_int_equal(client->counts[WSR_EVENT_OPEN], 1);
}

static void an_engine_cannot_end_inside_a_handler(void **state)
{
    (void)state;
    client_each(end_in_a_handler, NULL, "upgrade; echo");
}

/* ---- Statistics and diagnosis ---- */

static void count_exactly(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(wsr_send(socket, WSR_TEXT, "0123456789", i), 0);
    client_until_peer(client, 0, "text 9");
    peer_go(client->peer);
    client_until(client, WSR_EVENT_MESSAGE, 10);
    client_until_peer(client, 0, "pong");
    struct wsr_engine_statistics statistics = client_statistics(client);
    assert_int_equal(statistics.sockets_opened, 1);
    assert_int_equal(statistics.sockets_failed, 0);
    assert_int_equal(statistics.sockets_live, 1);
    assert_int_equal(statistics.messages_sent, 10);
    assert_int_equal(statistics.messages_sent_bytes, 45);
    assert_int_equal(statistics.messages_received, 10);
    assert_int_equal(statistics.messages_received_bytes, 10);
    assert_int_equal(statistics.messages_lent + statistics.messages_copied, 10);
    assert_int_equal(statistics.pings_answered, 1);
    assert_int_equal(statistics.pings_dropped, 0);
    assert_true(statistics.wire_received_bytes > 10 * 3 + 2);
    assert_true(statistics.wire_sent_bytes > 45 + 10 * 6);
    assert_true(statistics.sends > 0 && statistics.turns > 0 && statistics.completions > 0);
    wsr_close(socket, 0, NULL, 0);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(client_statistics(client).sockets_live, 0);
}

static void statistics_count_exactly(void **state)
{
    (void)state;
    client_each(count_exactly, NULL, "upgrade; hold; texts 10; ping x; expect close; close; fin");
}

static void a_diagnosis_names_kernel_and_features(void **state)
{
    (void)state;
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    struct wsr_engine *engine;
    assert_int_equal(wsr_diagnose(&diagnosis), 0);
    assert_int_equal(diagnosis.io_uring, 1);
    assert_string_equal(diagnosis.io_uring_text, "");
    assert_true(diagnosis.kernel[0] != '\0' && diagnosis.features[0] != '\0' && diagnosis.simd[0] != '\0');
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_create(&engine, NULL), 0);
    assert_int_equal(wsr_engine_statistics(engine, &statistics), 0);
    assert_string_equal(statistics.simd, diagnosis.simd);
    assert_int_equal(wsr_engine_destroy(engine), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_options_make_an_inline_engine),
        cmocka_unit_test(option_workers_count),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(options_at_the_ends_of_their_ranges_are_taken),
        cmocka_unit_test(option_pin),
        cmocka_unit_test(option_wait),
        cmocka_unit_test(option_spin_ns),
        cmocka_unit_test(option_sockets_max),
        cmocka_unit_test(option_events_count),
        cmocka_unit_test(option_buffers_count_and_bytes),
        cmocka_unit_test(option_loan_max_bytes),
        cmocka_unit_test(option_message_max_bytes),
        cmocka_unit_test(option_fragments_max),
        cmocka_unit_test(option_head_max_bytes),
        cmocka_unit_test(option_open_timeout),
        cmocka_unit_test(option_close_timeout),
        cmocka_unit_test(option_fin_timeout),
        cmocka_unit_test(an_engine_ends_with_sockets_in_every_state),
        cmocka_unit_test(open_connections_get_a_close_1001),
        cmocka_unit_test(an_engine_may_end_before_its_first_poll),
        cmocka_unit_test(an_engine_cannot_end_inside_a_handler),
        cmocka_unit_test(statistics_count_exactly),
        cmocka_unit_test(a_diagnosis_names_kernel_and_features),
    };
    return cmocka_run_group_tests(tests, start_a_thread, NULL);
}
