/* Thousands of wss connections in one process, each with a message there and back, against wsring echo --tls.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "tests/support/client.h"
#include "tests/support/files.h"
#include "tests/support/own_malloc.h"
#include "tests/support/program.h"

#ifdef HAS_OWN_MALLOC
#define COUNT 1000u                   /* each handshake takes several times as long */
#else
#define COUNT 5000u
#endif
#define FILES_WANTED (COUNT + 100)
#define UNDER_WAY_MAX 64u             /* connections, and then messages */
#define WORKERS_COUNT 2u
#define EVENTS_COUNT 64u
#define PAYLOAD_BYTES 64u
#define PATIENCE_MS 60000u            /* without any progress */
#define NAP_NS 1000000u

static struct {
    struct wsr_engine *engine;
    const char *url;
    struct wsr_socket *sockets[COUNT];
    bool has_echoed[COUNT];
    uint32_t done;                    /* of what is under way */
} crowd;

/* Skips the test when so many files cannot be open. */
static void raise_files(void)
{
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    if (files.rlim_max < FILES_WANTED) {
        print_message("the limit of open files is %llu and may not be raised to %u\n",
                      (unsigned long long)files.rlim_max, FILES_WANTED);
        skip();
    }
    files.rlim_cur = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
}

static void make_payload(uint8_t to[PAYLOAD_BYTES], uint32_t number)
{
    for (uint32_t i = 0; i < PAYLOAD_BYTES; i++)
        to[i] = (uint8_t)(number >> (8 * (i % 4))) ^ (uint8_t)(i * 37);
}

static void begin_open(uint32_t number)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.user = (void *)(uintptr_t)number;
    assert_int_equal(wsr_socket_open(crowd.engine, crowd.url, WSR_ZSTRING, NULL, 0, &options, &crowd.sockets[number]),
                     0);
    wsr_socket_set_binary_type(crowd.sockets[number], WSR_ARRAYBUFFER);
}

static void begin_echo(uint32_t number)
{
    uint8_t payload[PAYLOAD_BYTES];
    make_payload(payload, number);
    assert_int_equal(wsr_send(crowd.sockets[number], WSR_BINARY, payload, sizeof payload), 0);
}

static void begin_close(uint32_t number)
{
    assert_int_equal(wsr_close(crowd.sockets[number], 1000, NULL, 0), 0);
}

static void check_echo(const struct wsr_event *event, uint32_t number)
{
    uint8_t wanted[PAYLOAD_BYTES];
    make_payload(wanted, number);
    assert_int_equal(event->len, PAYLOAD_BYTES);
    assert_memory_equal(event->data, wanted, PAYLOAD_BYTES);
    assert_false(crowd.has_echoed[number]);
    crowd.has_echoed[number] = true;
}

/* One more of @wanted has come. Nothing else may. */
static void take(const struct wsr_event *event, enum wsr_event_type wanted)
{
    uint32_t number = (uint32_t)(uintptr_t)wsr_socket_user(event->socket);
    if (event->type != wanted)
        fail_msg("event %u came instead of %u, of connection %u: %s", event->type, wanted, number,
                 event->text != NULL ? event->text : "");
    if (wanted == WSR_EVENT_MESSAGE)
        check_echo(event, number);
    if (wanted == WSR_EVENT_CLOSE)
        assert_true(event->was_clean);
    crowd.done++;
}

/* Let @begin begin all, a bounded number at a time, until @wanted has come of each. */
static void go_through(void (*begin)(uint32_t number), enum wsr_event_type wanted)
{
    static struct wsr_event events[EVENTS_COUNT];
    uint32_t begun = 0;
    uint64_t progress_ms = client_now_ms();
    for (crowd.done = 0; crowd.done < COUNT;) {
        while (begun < COUNT && begun - crowd.done < UNDER_WAY_MAX)
            begin(begun++);
        for (uint32_t ring = 0; ring < WORKERS_COUNT; ring++) {
            int count = wsr_poll(crowd.engine, ring, events, EVENTS_COUNT, ring == 0 ? NAP_NS : 0);
            assert_true(count >= 0);
            for (int i = 0; i < count; i++)
                take(&events[i], wanted);
            if (count > 0)
                progress_ms = client_now_ms();
        }
        if (client_now_ms() - progress_ms > PATIENCE_MS)
            fail_msg("nothing more came after %u of %u", crowd.done, COUNT);
    }
}

static void they_open_and_echo_and_close(enum wsr_tls_records records)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    struct program_echo echo;
    raise_files();
    ECHO_START(&echo, "--tls", "--cert-out", files_path("ca.pem"));
    memset(&crowd, 0, sizeof crowd);
    crowd.url = echo.url;
    options.workers_count = WORKERS_COUNT;
    options.tls_ca_file = files_path("ca.pem");
    options.tls_records = records;
    assert_int_equal(wsr_engine_create(&crowd.engine, &options), 0);
    go_through(begin_open, WSR_EVENT_OPEN);
    go_through(begin_echo, WSR_EVENT_MESSAGE);
    assert_int_equal(wsr_engine_statistics(crowd.engine, &statistics), 0);
    assert_int_equal(statistics.tls_handshakes, COUNT);
    assert_int_equal(statistics.tls_unverified, 0);
    assert_int_equal(records == WSR_TLS_DIRECT ? statistics.tls_direct : statistics.tls_library, COUNT);
    go_through(begin_close, WSR_EVENT_CLOSE);
    assert_int_equal(wsr_engine_destroy(crowd.engine), 0);
    program_echo_stop(&echo);
}

static void thousands_with_direct_records(void **state)
{
    (void)state;
    they_open_and_echo_and_close(WSR_TLS_DIRECT);
}

static void thousands_with_records_by_the_library(void **state)
{
    (void)state;
    they_open_and_echo_and_close(WSR_TLS_LIBRARY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thousands_with_direct_records),
        cmocka_unit_test(thousands_with_records_by_the_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
