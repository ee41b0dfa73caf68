/* engine/template.c: messages prepared once and sent again and again.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>

#include "engine/template.h"
#include "tests/support/client.h"
#include "tests/support/world.h"

static struct wsr_template *make(enum wsr_kind kind, const void *data, size_t len)
{
    struct wsr_template *template = NULL;
    assert_int_equal(wsr_template_create(&template, kind, data, len), 0);
    assert_non_null(template);
    return template;
}

static bool is_open(struct world *world)
{
    return world->sockets[0].opened;
}

/* ---- Making ---- */

static void a_template_of_nothing_good_is_refused(void **state)
{
    (void)state;
    struct wsr_template *const untouched = (struct wsr_template *)(void *)state, *template = untouched;
    assert_int_equal(wsr_template_create(NULL, WSR_TEXT, "a", 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_template_create(&template, (enum wsr_kind)0, "a", 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_template_create(&template, (enum wsr_kind)3, "a", 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_template_create(&template, WSR_BINARY, NULL, 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_template_create(&template, WSR_TEXT, "a\xC3", 2), WSR_ERR_INVALID_UTF8);
    assert_int_equal(wsr_template_create(&template, WSR_TEXT, "\xED\xA0\x80", 3), WSR_ERR_INVALID_UTF8);
    assert_int_equal(wsr_template_create(&template, WSR_BINARY, "a", SIZE_MAX), WSR_ERR_MEMORY);
    assert_ptr_equal(template, untouched);
    wsr_template_free(NULL);
    wsr_template_free(make(WSR_BINARY, "\xED\xA0\x80", 3));
    wsr_template_free(make(WSR_TEXT, NULL, 0));
}

/* ---- Sending ---- */

/* SEND-04, SEND-10: what was copied arrives each time as it was, and no two masks are the same. */
static void send_again_and_again(struct world *world)
{
    char text[] = "h\xC3\xA9llo", bytes[300];
    sim_script(world->sim, "accept; upgrade; expect text; expect binary; expect text; expect binary; expect text; "
        "expect binary; expect text; expect close; close 1000; fin");
    world_connect(world);
    world_run_until(world, is_open);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = sim_pattern(i);
    struct wsr_template *hello = make(WSR_TEXT, text, sizeof text - 1);
    struct wsr_template *pattern = make(WSR_BINARY, bytes, sizeof bytes), *empty = make(WSR_TEXT, NULL, 0);
    memset(text, 0, sizeof text);
    memset(bytes, 0, sizeof bytes);
    struct wsr_socket *socket = world->sockets[0].socket;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(wsr_send_template(socket, hello), 0);
        assert_int_equal(wsr_send_template(socket, pattern), 0);
        world_run(world, i);
    }
    assert_int_equal(wsr_send_template(socket, empty), 0);
    wsr_template_free(hello);
    wsr_template_free(pattern);
    wsr_template_free(empty);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = sim_pattern(i);
    char want[512], one[64];
    snprintf(one, sizeof one, "text 6 h\xC3\xA9llo\nbinary 300 #%08x\n", sim_hash(bytes, sizeof bytes));
    snprintf(want, sizeof want, "request GET /chat\n%s%s%stext 0\nclose 1000\nend\n", one, one, one);
    world_expect_peer(world, 0, want);
    size_t count;
    const uint32_t *masks = sim_masks(world->sim, 0, &count);
    for (size_t a = 0; a < count; a++) {
        for (size_t b = 0; b < a; b++)
            assert_true(masks[a] != masks[b]);
    }
}

static void each_sending_is_whole_and_masked_anew(void **state)
{
    (void)state;
    world_each_seed(send_again_and_again, NULL);
}

/* SEND-01 to SEND-03, SEND-15: refused, dropped and counted as any message. */
static void a_template_is_sent_as_any_message(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct world world;
    options.send_queue_max_bytes = 10;
    world_open(&world, 1, &options);
    sim_script(world.sim, "accept; upgrade; stop; wait 1000; read; expect close; close 1000; fin");
    world_connect(&world);
    struct wsr_socket *socket = world.sockets[0].socket;
    struct wsr_template *six = make(WSR_TEXT, "123456", 6), *large = make(WSR_TEXT, "12345678901", 11);
    assert_int_equal(wsr_send_template(NULL, six), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send_template(socket, NULL), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send_template(socket, six), WSR_ERR_INVALID_STATE);
    world_run_until(&world, is_open);
    assert_int_equal(wsr_send_template(socket, large), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send_template(socket, six), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), 6);
    assert_int_equal(wsr_send_template(socket, six), WSR_ERR_QUOTA);
    world_do(&world, 0, "close 1000");
    assert_int_equal(wsr_send_template(socket, large), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), 17);
    world_run_to_end(&world);
    world_expect_peer(&world, 0, "request GET /chat\ntext 6 123456\nclose 1000\nend\n");
    wsr_template_free(six);
    wsr_template_free(large);
    world_close(&world);
}

/* The text was checked when the template was made, and is not looked at again: here it is made bad behind its back. */
static void the_text_is_checked_once(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, 1, NULL);
    sim_script(world.sim, "accept; upgrade; stop");
    world_connect(&world);
    world_run_until(&world, is_open);
    struct wsr_template *text = make(WSR_TEXT, "good", 4);
    text->payload[0] = 0xFF;
    assert_int_equal(wsr_send_template(world.sockets[0].socket, text), 0);
    assert_int_equal(wsr_send(world.sockets[0].socket, WSR_TEXT, "\xFFood", 4), WSR_ERR_INVALID_UTF8);
    wsr_template_free(text);
    world_close(&world);
}

struct sender {
    struct wsr_socket *socket;
    const struct wsr_template *template;
};

static void *send_hundred(void *context)
{
    const struct sender *sender = context;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(wsr_send_template(sender->socket, sender->template), 0);
    return NULL;
}

static void many_threads_send_one_template_to_many_sockets(struct client *client)
{
    enum { COUNT = 4 };
    struct wsr_template *template = make(WSR_TEXT, "one for all", 11);
    struct sender senders[COUNT];
    pthread_t threads[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        senders[i] = (struct sender){ client_connect_open(client), template };
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_hundred, &senders[i]), 0);
    client_until(client, WSR_EVENT_MESSAGE, 100 * COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        pthread_join(threads[i], NULL);
    assert_null(strstr(client->log, "error"));
    assert_non_null(strstr(client->log, "text 11 one for all\n"));
    wsr_template_free(template);
}

static void a_template_is_for_all_threads_and_sockets(void **state)
{
    (void)state;
    client_each(many_threads_send_one_template_to_many_sockets, NULL, "upgrade; echo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_template_of_nothing_good_is_refused),
        cmocka_unit_test(each_sending_is_whole_and_masked_anew),
        cmocka_unit_test(a_template_is_sent_as_any_message),
        cmocka_unit_test(the_text_is_checked_once),
        cmocka_unit_test(a_template_is_for_all_threads_and_sockets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
