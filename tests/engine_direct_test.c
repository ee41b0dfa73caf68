/* WSR_ENGINE_DIRECT_DESCRIPTORS through the public functions: sockets that are no open files.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/client.h"
#include "tests/support/files.h"

enum { SOCKETS_COUNT = 40, FILES_MAX = 40 };

static bool has_direct(void)
{
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    assert_int_equal(wsr_diagnose(&diagnosis), 0);
    return strstr(diagnosis.features, "direct_files") != NULL;
}

static struct wsr_engine_options direct_with(uint32_t workers)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.flags = WSR_ENGINE_DIRECT_DESCRIPTORS;
    options.workers_count = workers;
    return options;
}

/* How many files the client's side of so many open connections takes; each has echoed a message. */
static unsigned files_of_sockets(const struct wsr_engine_options *options, bool *is_direct)
{
    struct wsr_socket *sockets[SOCKETS_COUNT];
    struct client client;
    client_open(&client, options, "upgrade; echo");
    client_connect_open(&client);
    unsigned before = files_open();
    for (unsigned i = 0; i < SOCKETS_COUNT; i++)
        sockets[i] = client_connect(&client);
    client_until(&client, WSR_EVENT_OPEN, SOCKETS_COUNT + 1);
    for (unsigned i = 0; i < SOCKETS_COUNT; i++)
        assert_int_equal(wsr_send(sockets[i], WSR_TEXT, "x", 1), 0);
    client_until(&client, WSR_EVENT_MESSAGE, SOCKETS_COUNT);
    unsigned after = files_open();
    *is_direct = strstr(client_statistics(&client).features, "direct_files") != NULL;
    for (unsigned i = 0; i < SOCKETS_COUNT; i++)
        assert_int_equal(wsr_close(sockets[i], 1000, NULL, 0), 0);
    client_until(&client, WSR_EVENT_CLOSE, SOCKETS_COUNT);
    assert_true(client.last[WSR_EVENT_CLOSE].was_clean);
    client_close(&client);
    return after - before - SOCKETS_COUNT;       /* the peer's side is in this process too */
}

static void direct_sockets_are_no_open_files(void **state)
{
    (void)state;
    if (!has_direct())
        skip();
    for (uint32_t workers = 0; workers <= 2; workers += 2) {
        struct wsr_engine_options options = direct_with(workers);
        bool is_direct;
        assert_int_equal(files_of_sockets(&options, &is_direct), 0);
        assert_true(is_direct);
        options.flags = 0;
        assert_int_equal(files_of_sockets(&options, &is_direct), SOCKETS_COUNT);
        assert_false(is_direct);
    }
}

/* Sockets come and go on few slots; the server sees each end. */
static void slots_come_again(void **state)
{
    (void)state;
    if (!has_direct())
        skip();
    for (uint32_t workers = 0; workers <= 1; workers++) {
        struct wsr_engine_options options = direct_with(workers);
        struct client client;
        options.sockets_max = 2;
        client_open(&client, &options, "upgrade; expect text; expect close; reply; fin; expect fin");
        for (unsigned i = 1; i <= 20; i++) {
            struct wsr_socket *socket = client_connect(&client);
            client_until(&client, WSR_EVENT_OPEN, i);
            assert_int_equal(wsr_send(socket, WSR_TEXT, "x", 1), 0);
            client_until_peer(&client, i - 1, "text");
            wsr_socket_destroy(socket);
            while (client_statistics(&client).sockets_live > 0)
                client_poll(&client, 0, 10);
            client_until_peer(&client, i - 1, "fin");
        }
        client_close(&client);
    }
}

/* A socket that fails says so and ends its direction (CLOSE-30); the server's answer to that still arrives. */
static void a_failing_direct_socket_ends_its_direction(void **state)
{
    (void)state;
    if (!has_direct())
        skip();
    for (uint32_t workers = 0; workers <= 1; workers++) {
        struct wsr_engine_options options = direct_with(workers);
        struct client client;
        options.fin_timeout_ns = WSR_NEVER;      /* so only shutdown() can end it */
        client_open(&client, &options, "upgrade; raw F100; expect close; expect fin; fin");
        client_connect_open(&client);
        client_until(&client, WSR_EVENT_CLOSE, 1);
        assert_int_equal(client.last[WSR_EVENT_CLOSE].code, 1006);
        assert_true(peer_saw(client.peer, 0, "fin"));
        client_close(&client);
    }
}

static void take_sockets(uint32_t workers, uint32_t sockets_max, unsigned room)
{
    struct wsr_engine_options options = direct_with(workers);
    struct wsr_socket *socket;
    struct client client;
    struct rlimit before, tight;
    getrlimit(RLIMIT_NOFILE, &before);
    tight = before;
    tight.rlim_cur = FILES_MAX;
    setrlimit(RLIMIT_NOFILE, &tight);
    options.sockets_max = sockets_max;
    client_open(&client, &options, "request; hold");
    setrlimit(RLIMIT_NOFILE, &before);
    for (unsigned i = 0; i < room; i++)
        client_connect(&client);
    assert_int_equal(wsr_socket_open(client.engine, peer_url(client.peer), WSR_ZSTRING, NULL, 0, NULL, &socket),
                     WSR_ERR_MEMORY);
    assert_non_null(strstr(wsr_error_text(), "sockets_max"));
    assert_non_null(strstr(wsr_error_text(), "ulimit -n"));
    client_close(&client);
}

/* Each worker has as many as there may be open files, or as sockets_max says when that is less. */
static void the_limit_of_files_is_the_most_for_each_worker(void **state)
{
    (void)state;
    if (!has_direct())
        skip();
    take_sockets(0, 0, FILES_MAX);
    take_sockets(0, 5, 5);
    take_sockets(2, 0, 2 * FILES_MAX);
    take_sockets(2, 10, 20);
}

static void a_unix_socket_beside_direct_ones(void **state)
{
    (void)state;
    struct wsr_engine_options options = direct_with(0);
    struct wsr_socket_options to_path = WSR_SOCKET_OPTIONS_INIT;
    struct client client;
    char name[64], connect_to[80];
    if (!has_direct())
        skip();
    snprintf(name, sizeof name, "@wsring-direct-%d", (int)getpid());
    snprintf(connect_to, sizeof connect_to, "unix:%s", name);
    struct peer *other = peer_start_unix("upgrade; echo", name);
    client_open(&client, &options, "upgrade; echo");
    client_connect_open(&client);
    to_path.connect_to = connect_to;
    struct wsr_socket *socket = client_connect_with(&client, &to_path);
    client_until(&client, WSR_EVENT_OPEN, 2);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "path", 4), 0);
    client_until(&client, WSR_EVENT_MESSAGE, 1);
    client_close(&client);
    peer_stop(other);
}

/* The Close of the end is the last that the server sees. */
static void destroying_the_engine_ends_direct_connections(void **state)
{
    (void)state;
    if (!has_direct())
        skip();
    for (uint32_t workers = 0; workers <= 1; workers++) {
        struct wsr_engine_options options = direct_with(workers);
        struct client client;
        client_open(&client, &options, "upgrade; expect close; expect fin");
        client_connect_open(&client);
        assert_int_equal(wsr_engine_destroy(client.engine), 0);
        client.engine = NULL;
        peer_await(client.peer, 0, "close 1001");
        peer_await(client.peer, 0, "fin");
        client_close(&client);
    }
}

/* On an older kernel, or when it is switched off. */
static void without_direct_descriptors_an_engine_that_asks_for_them_is_refused(void **state)
{
    (void)state;
    for (uint32_t workers = 0; workers <= 2; workers += 2) {
        struct wsr_engine_options options = direct_with(workers);
        struct wsr_engine *engine = NULL;
        unsigned before = files_open();
        if (has_direct())
            setenv("WSRING_URING_OFF", "direct_files", 1);
        assert_int_equal(wsr_engine_create(&engine, &options), WSR_ERR_NOT_SUPPORTED);
        unsetenv("WSRING_URING_OFF");
        assert_null(engine);
        assert_non_null(strstr(wsr_error_text(), "WSR_ENGINE_DIRECT_DESCRIPTORS"));
        assert_int_equal(files_open(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(direct_sockets_are_no_open_files),
        cmocka_unit_test(slots_come_again),
        cmocka_unit_test(a_failing_direct_socket_ends_its_direction),
        cmocka_unit_test(the_limit_of_files_is_the_most_for_each_worker),
        cmocka_unit_test(a_unix_socket_beside_direct_ones),
        cmocka_unit_test(destroying_the_engine_ends_direct_connections),
        cmocka_unit_test(without_direct_descriptors_an_engine_that_asks_for_them_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
