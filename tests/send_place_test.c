/* engine/send.c on the thread that turns an inline engine: messages go straight into the connection's queue, and nobody
 * must be able to tell but by the time it takes.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/uio.h>

#include "tests/support/client.h"
#include "tests/support/world.h"

static const char letters[] = "abcdefghijklmnopqrstuvwxyz";

/* ---- Waiting elsewhere ---- */

static void poll_dry(struct client *client)
{
    while (client_poll(client, 0, 0) > 0)
        continue;
}

static void expect_readable(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    assert_int_equal(poll(&ready, 1, 10000), 1);
}

/* Who waits for the descriptor has been told "nothing" before: what is sent then makes it readable, and so leaves. */
static void a_send_while_waiting_elsewhere_makes_the_descriptor_readable(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; echo");
    struct wsr_socket *socket = client_connect_open(&client);
    int fd = wsr_engine_fd(client.engine, 0);
    for (uint64_t i = 1; i <= 20; i++) {
        poll_dry(&client);
        assert_int_equal(wsr_send(socket, WSR_TEXT, "away", 4), 0);
        expect_readable(fd);
        while (client.counts[WSR_EVENT_MESSAGE] < i) {
            poll_dry(&client);
            if (client.counts[WSR_EVENT_MESSAGE] < i)
                expect_readable(fd);
        }
    }
    client_close(&client);
}

/* SEND-09: the first goes the long way as somebody is to be woken, and the second must not overtake it. */
static void sends_while_waiting_elsewhere_keep_their_order(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; expect text; expect text; expect text; expect text");
    struct wsr_socket *socket = client_connect_open(&client);
    assert_true(wsr_engine_fd(client.engine, 0) >= 0);
    poll_dry(&client);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(wsr_send(socket, WSR_TEXT, letters + i, 1), 0);
    client_until_peer(&client, 0, "text 1 d");
    peer_expect(client.peer, 0, "request GET /chat HTTP/1.1\ntext 1 a\ntext 1 b\ntext 1 c\ntext 1 d\n");
    client_close(&client);
}

/* A consumer that takes one event at a time, with many waiting, does not hold up what it sends. */
static void a_send_leaves_with_the_next_poll_although_events_wait(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; texts 100; expect text");
    client.events_max = 1;
    struct wsr_socket *socket = client_connect_open(&client);
    client_until(&client, WSR_EVENT_MESSAGE, 1);
    client_sleep_ms(50);
    client_until(&client, WSR_EVENT_MESSAGE, 3);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "now", 3), 0);
    assert_int_equal(client_poll(&client, 0, 0), 1);
    peer_await(client.peer, 0, "text 3 now");
    client_close(&client);
}

/* ---- Beside another thread ---- */

struct sender {
    struct wsr_socket *socket;
    unsigned count;
    char letter;
};

static void *send_many(void *context)
{
    const struct sender *sender = context;
    char text[8];
    for (unsigned i = 0; i < sender->count; i++) {
        int len = snprintf(text, sizeof text, "%c%05u", sender->letter, i);
        while (wsr_send(sender->socket, WSR_TEXT, text, (size_t)len) == WSR_ERR_QUOTA)
            continue;
    }
    return NULL;
}

static bool in_order(const struct wsr_event *event, unsigned next[2])
{
    const char *text = event->data;
    char want[8];
    unsigned who = text[0] == 'x';
    snprintf(want, sizeof want, "%c%05u", who ? 'x' : 'm', next[who]++);
    return event->len == 6 && memcmp(text, want, 6) == 0;
}

/* SEND-09: each thread's messages come in its order, whichever way they go. */
static void two_threads_keep_the_order_of_each(void **state)
{
    enum { COUNT = 3000 };
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; echo");
    struct wsr_socket *socket = client_connect_open(&client);
    struct sender other = { socket, COUNT, 'x' };
    pthread_t thread;
    unsigned next[2] = { 0, 0 }, sent = 0;
    struct wsr_event events[32];
    assert_int_equal(pthread_create(&thread, NULL, send_many, &other), 0);
    while (next[0] + next[1] < 2 * COUNT) {
        if (sent < COUNT) {
            struct sender mine = { socket, 1, 'm' };
            char text[8];
            snprintf(text, sizeof text, "%c%05u", mine.letter, sent++);
            assert_int_equal(wsr_send(socket, WSR_TEXT, text, 6), 0);
        }
        int count = wsr_poll(client.engine, 0, events, 32, sent < COUNT ? 0 : 10 * WSR_NS_PER_S);
        assert_true(count >= 0);
        for (int i = 0; i < count; i++)
            assert_true(events[i].type == WSR_EVENT_MESSAGE && in_order(&events[i], next));
    }
    pthread_join(thread, NULL);
    client_close(&client);
}

/* ---- Sizes and limits ---- */

static bool is_open(struct world *world)
{
    return world->sockets[0].opened;
}

static bool has_echo(struct world *world)
{
    return world->sockets[0].messages_count > 0;
}

/* SEND-06: in one part or in many, empty parts too; of every length around where the way changes. */
static void parts_of_every_size_come_back(struct world *world)
{
    static uint8_t bytes[1100];
    sim_script(world->sim, "accept; upgrade; echo");
    world_connect(world);
    world_run_until(world, is_open);
    struct wsr_socket *socket = world->sockets[0].socket;
    wsr_socket_set_binary_type(socket, WSR_ARRAYBUFFER);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    static const size_t lengths[] = { 0, 1, 2, 3, 5, 125, 126, 199, 1000, 1008, 1009, 1010, 1011, 1018, 1024, 1100 };
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        size_t len = lengths[k];
        size_t first = sim_random(world->sim, len + 1);
        struct iovec parts[4] = { { bytes, first }, { NULL, 0 }, { bytes + first, len - first }, { bytes, 0 } };
        world->sockets[0].messages_count = 0;
        assert_int_equal(k % 2 == 0 ? wsr_send_gather(socket, WSR_BINARY, parts, 4)
                                    : wsr_send(socket, WSR_BINARY, bytes, len), 0);
        world_run_until(world, has_echo);
        char line[64];
        if (len <= 40)
            continue;
        snprintf(line, sizeof line, "binary %zu #%08x", len, sim_hash(bytes, len));
        if (strstr(world->log, line) == NULL)
            world_fail(world, "%s is not in the log %s", line, world->log);
    }
}

static void small_messages_of_every_size_and_cut(void **state)
{
    (void)state;
    world_each_seed(parts_of_every_size_come_back, NULL);
}

static bool is_writable(struct world *world)
{
    return world->sockets[0].writable;
}

/* SEND-15: what is over the cap leaves nothing behind in the slab, however often it is tried. */
static void try_again_and_again(struct world *world)
{
    static const char bytes[900];
    sim_script(world->sim, "accept; upgrade; window 10; wait 1000; read");
    world_connect(world);
    world_run_until(world, is_open);
    struct wsr_socket *socket = world->sockets[0].socket;
    assert_int_equal(wsr_send(socket, WSR_BINARY, bytes, 900), 0);
    world_run(world, 100);
    for (unsigned i = 0; i < 300; i++) {
        assert_int_equal(wsr_send(socket, WSR_BINARY, bytes, 200), WSR_ERR_QUOTA);
        assert_non_null(strstr(wsr_error_text(), "over send_queue_max_bytes"));       /* and not the slab's end */
        world_look(world);
    }
    world_run_until(world, is_writable);
    assert_int_equal(wsr_send(socket, WSR_BINARY, bytes, 200), 0);
}

static void a_refused_message_takes_nothing(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.send_queue_max_bytes = 1000;
    options.send_pool_bytes = 256u << 10;
    world_each_seed(try_again_and_again, &options);
}

/* ---- By way of a worker ---- */

/* SEND-09: what gathers there keeps its order, and gives back the chunk in which it came: bursts that just fit the
 * slab, again and again. */
static void a_workers_bursts_leave_in_order_and_leave_nothing_behind(void **state)
{
    enum { BURSTS = 200, BURST = 20 };
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    options.workers_count = 1;
    options.send_pool_bytes = 64u << 10;
    client_open(&client, &options, "upgrade; echo");
    struct wsr_socket *socket = client_connect_open(&client);
    unsigned next[2] = { 0, 0 };
    for (unsigned burst = 0; burst < BURSTS; burst++) {
        struct wsr_event events[BURST];
        for (unsigned i = 0; i < BURST; i++) {
            char text[8];
            snprintf(text, sizeof text, "m%05u", burst * BURST + i);
            assert_int_equal(wsr_send(socket, WSR_TEXT, text, 6), 0);
        }
        while (next[0] < (burst + 1) * BURST) {
            int count = wsr_poll(client.engine, 0, events, BURST, 10 * WSR_NS_PER_S);
            assert_true(count > 0);
            for (int i = 0; i < count; i++)
                assert_true(events[i].type == WSR_EVENT_MESSAGE && in_order(&events[i], next));
        }
    }
    for (unsigned i = 0; i < 1000 && wsr_socket_buffered_now(socket) > 0; i++)      /* the last echo may be faster */
        client_sleep_ms(1);
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
    client_close(&client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_send_while_waiting_elsewhere_makes_the_descriptor_readable),
        cmocka_unit_test(sends_while_waiting_elsewhere_keep_their_order),
        cmocka_unit_test(a_send_leaves_with_the_next_poll_although_events_wait),
        cmocka_unit_test(two_threads_keep_the_order_of_each),
        cmocka_unit_test(small_messages_of_every_size_and_cut),
        cmocka_unit_test(a_refused_message_takes_nothing),
        cmocka_unit_test(a_workers_bursts_leave_in_order_and_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
