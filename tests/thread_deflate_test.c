/* Several threads send compressed and plain messages on one socket, over engine/conn_deflate.c: the worker compresses
 * them in the order in which they leave, and each thread's come back in its own. On the real driver; under
 * ThreadSanitizer above all.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/program.h"
#include "wsring.h"

#define THREADS_COUNT 4u
#define MESSAGES_COUNT 400u
#define WAIT_NS 20000000000ull

static struct wsr_socket *shared_socket;

/* The message @number of @thread: its name, and then what repeats. Returns its length. */
static size_t write_message(char out[1024], unsigned thread, unsigned number)
{
    size_t used = (size_t)snprintf(out, 1024, "%u %u ", thread, number);
    size_t len = 20 + (thread * 131 + number * 37) % 900;
    for (; used < len; used++)
        out[used] = "{\"price\":101.25,\"size\":300}"[(used * (thread + 1) + number) % 27];
    return used;
}

static void *send_all(void *thread)
{
    unsigned own = (unsigned)(uintptr_t)thread;
    uintptr_t faults = 0;
    for (unsigned i = 0; i < MESSAGES_COUNT; i++) {
        char text[1024];
        size_t len = write_message(text, own, i);
        faults += wsr_send(shared_socket, i % 5 == 4 ? WSR_TEXT_UNCOMPRESSED : WSR_TEXT, text, len) != 0;
    }
    return (void *)faults;
}

/* The next event; NULL when none comes. */
static const struct wsr_event *next_event(struct wsr_engine *engine)
{
    static struct wsr_event event;
    return wsr_poll(engine, 0, &event, 1, WAIT_NS) == 1 ? &event : NULL;
}

static void await(struct wsr_engine *engine, uint8_t type)
{
    const struct wsr_event *event = next_event(engine);
    assert_non_null(event);
    assert_int_equal(event->type, type);
}

static void take_all(struct wsr_engine *engine)
{
    unsigned next[THREADS_COUNT] = { 0 };
    for (unsigned i = 0; i < THREADS_COUNT * MESSAGES_COUNT; i++) {
        const struct wsr_event *event = next_event(engine);
        char text[1024];
        assert_non_null(event);
        assert_int_equal(event->type, WSR_EVENT_MESSAGE);
        assert_true(event->len > 4);
        unsigned thread = (unsigned)(*(const char *)event->data - '0');
        assert_true(thread < THREADS_COUNT);
        assert_int_equal(event->len, write_message(text, thread, next[thread]++));
        assert_memory_equal(event->data, text, event->len);
    }
}

/* PMD-31, PMD-33, SEND-14 */
static void threads_share_one_context(void **state)
{
    struct program_echo echo;
    struct wsr_engine *engine;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    pthread_t threads[THREADS_COUNT];
    (void)state;
    ECHO_START(&echo, "--deflate");
    options.workers_count = 1;
    assert_int_equal(wsr_engine_create(&engine, &options), 0);
    assert_int_equal(wsr_socket_open(engine, echo.url, WSR_ZSTRING, NULL, 0, NULL, &shared_socket), 0);
    await(engine, WSR_EVENT_OPEN);
    for (uintptr_t i = 0; i < THREADS_COUNT; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, (void *)i), 0);
    take_all(engine);
    for (unsigned i = 0; i < THREADS_COUNT; i++) {
        void *faults;
        assert_int_equal(pthread_join(threads[i], &faults), 0);
        assert_null(faults);
    }
    assert_int_equal(wsr_engine_statistics(engine, &statistics), 0);
    assert_true(statistics.deflate_messages_sent > THREADS_COUNT * MESSAGES_COUNT / 2);
    assert_int_equal(statistics.deflate_messages_received, statistics.deflate_messages_sent);
    assert_int_equal(wsr_close(shared_socket, 1000, NULL, 0), 0);
    await(engine, WSR_EVENT_CLOSE);
    assert_int_equal(wsr_engine_destroy(engine), 0);
    program_echo_stop(&echo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_one_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
