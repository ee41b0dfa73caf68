/* engine/engine.c: how an engine waits, by its options; on the real driver.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "tests/support/client.h"

#define NS_PER_MS 1000000ull

/* One sleep for eight sockets. */
static void option_batch_count(void **state)
{
    enum { COUNT = 8 };
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_event events[64];
    struct client client;
    (void)state;
    options.batch_count = COUNT;
    options.batch_ns = (1000 * NS_PER_MS);
    client_open(&client, &options, "upgrade; hold; text x");
    for (unsigned i = 0; i < COUNT; i++)
        client_connect_open(&client);
    client_idle(&client, 50);
    peer_go(client.peer);
    assert_int_equal(wsr_poll(client.engine, 0, events, 64, WSR_NEVER), COUNT);
    client_close(&client);
}

static void option_batch_ns(void **state)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_engine *engine;
    struct client client;
    (void)state;
    options.batch_count = 2;
    options.batch_ns = (1000 * NS_PER_MS);
    options.wait = WSR_WAIT_SPIN;
    assert_int_equal(wsr_engine_create(&engine, &options), WSR_ERR_ARGUMENT);
    assert_non_null(strstr(wsr_error_text(), "WSR_WAIT_BLOCK"));
    options.wait = WSR_WAIT_ADAPTIVE;
    options.batch_ns = (1000 * NS_PER_MS) + 1;
    assert_int_equal(wsr_engine_create(&engine, &options), WSR_ERR_ARGUMENT);

    /* A batch that is never complete: one message alone, again and again, is told all the same. */
    for (uint32_t way = 0; way < 4; way++) {
        options.workers_count = way % 2;
        options.batch_count = 256;
        options.batch_ns = way < 2 ? 1000000 : 0;
        options.spin_ns = 1;
        client_open(&client, &options, "upgrade; echo");
        struct wsr_socket *socket = client_connect_open(&client);
        client_echo(&client, socket, 20);
        client_close(&client);
    }
}

/* What it does cannot be seen on the loopback interface, which has no NIC: only that the kernel has taken it. */
static void option_napi_us(void **state)
{
    (void)state;
    for (uint32_t napi_us = 0; napi_us <= 50; napi_us += 50) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        struct client client;
        options.napi_us = napi_us;
        client_open(&client, &options, "upgrade; text x");
        client_connect_open(&client);
        client_until(&client, WSR_EVENT_MESSAGE, 1);
        bool has = strstr(client_statistics(&client).features, "napi") != NULL;
        struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
        wsr_diagnose(&diagnosis);
        bool can = strstr(diagnosis.features, "napi") != NULL;
        assert_int_equal(has, napi_us > 0 && can);
        client_close(&client);
    }
}

static void wait_modes_of_an_inline_engine(void **state)
{
    (void)state;
    for (uint32_t wait = WSR_WAIT_BLOCK; wait <= WSR_WAIT_ADAPTIVE; wait++) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        struct client client;
        options.wait = wait;
        client_open(&client, &options, "upgrade; echo");
        struct wsr_socket *socket = client_connect_open(&client);
        client_echo(&client, socket, 20);
        client_close(&client);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(option_batch_count),
        cmocka_unit_test(option_batch_ns),
        cmocka_unit_test(option_napi_us),
        cmocka_unit_test(wait_modes_of_an_inline_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
