/* engine/conn_open with WSR_ENGINE_ONE_CONNECTING: connections to one address are opened one after the other.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/client.h"
#include "tests/support/world.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define S 1000000000ull
#define OPENS "accept 5; wait 20; upgrade; close 1000; expect close; fin"

static const struct wsr_engine_options one = { .size = sizeof one, .flags = WSR_ENGINE_ONE_CONNECTING };

static struct wsr_engine_statistics statistics_of(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    return statistics;
}

/* Run for @ms, looking all the time whether no connection begins before the one before it has opened or is over: a file
 * belongs to one that is being opened, or to one that was opened. */
static void run_and_watch(struct world *world, uint64_t ms)
{
    uint64_t until_ns = sim_now(world->sim) + ms * 1000000u;
    while (sim_now(world->sim) < until_ns) {
        world_run(world, 1);
        struct wsr_engine_statistics statistics = statistics_of(world);
        if (sim_connections(world->sim) > statistics.sockets_opened + statistics.sockets_failed + 1)
            world_fail(world, "%u connections, %u opened, %u failed", sim_connections(world->sim),
                       (unsigned)statistics.sockets_opened, (unsigned)statistics.sockets_failed);
        if (sim_files_open(world->sim) > statistics.sockets_opened + 1)
            world_fail(world, "%u files, %u opened", sim_files_open(world->sim), (unsigned)statistics.sockets_opened);
    }
}

/* HS-12 */
static void open_in_order(struct world *world)
{
    sim_script(world->sim, OPENS);
    for (unsigned i = 0; i < 5; i++)
        world_connect(world);
    run_and_watch(world, 400);
    char *at = world->log;
    for (unsigned i = 0; i < 5; i++) {
        char opened[16];
        snprintf(opened, sizeof opened, "%u: open\n", i);
        at = strstr(at, opened);
        if (at == NULL)
            world_fail(world, "socket %u does not open after those before it", i);
        assert_true(world->sockets[i].closed && !world->sockets[i].failed);
        /* Each takes 25 ms. */
        if (i > 0)
            assert_true(sim_logged_ns(world->sim, i, "request") - sim_logged_ns(world->sim, i - 1, "request") >=
                        20000000);
    }
    /* Nobody is left behind: the next one need not wait. */
    uint64_t start_ns = sim_now(world->sim);
    world_connect(world);
    world_run_to_end(world);
    assert_true(world->sockets[5].opened);
    assert_true(sim_logged_ns(world->sim, 5, "request") - start_ns < 20000000);
}

static void connections_to_one_address_open_in_order_of_arrival(void **state)
{
    (void)state;
    world_each_seed(open_in_order, &one);
}

/* HS-12, F2, F4, F5: however the first ends, the next has its turn, and not before the first has given up its file. */
static void fail_one_after_the_other(struct world *world)
{
    static const char *const scripts[] = {
        "refuse ECONNREFUSED 50", "accept; expect request; http HTTP/1.1 503 Busy\r\n\r\n; wait 100",
        "accept; expect request; fin", "accept 3; rst ECONNRESET", "accept; expect request; http FOO\r\n\r\n; wait 100",
        "accept; upgrade Sec-WebSocket-Protocol: chat; wait 100", "accept; stop; wait 30; rst ECONNRESET", OPENS,
    };
    for (unsigned i = 0; i < COUNT_OF(scripts); i++)
        sim_script(world->sim, scripts[i]);
    for (unsigned i = 0; i < COUNT_OF(scripts); i++)
        world_connect(world);
    run_and_watch(world, 2000);
    for (unsigned i = 0; i < COUNT_OF(scripts); i++) {
        bool is_last = i + 1 == COUNT_OF(scripts);
        if (world->sockets[i].opened != is_last || world->sockets[i].failed == is_last || !world->sockets[i].closed)
            world_fail(world, "socket %u", i);
    }
    assert_int_equal(sim_files_open(world->sim), 0);
}

static void the_failure_of_one_lets_the_next_go(void **state)
{
    (void)state;
    world_each_seed(fail_one_after_the_other, &one);
}

/* HS-12, HS-13, F4: the limit runs on while waiting. The second has what is left of it, the third has no
 * turn. */
static void time_out_one_after_the_other(struct world *world)
{
    sim_script(world->sim, "silent");
    sim_script(world->sim, "accept");
    sim_script(world->sim, OPENS);
    uint64_t start_ns = sim_now(world->sim);
    world_connect(world);
    world_run(world, 10000);
    world_connect(world);
    world_connect(world);
    run_and_watch(world, 25000);
    world_expect(world, "0: error\n0: close 1006 unclean\n");
    assert_int_equal(sim_connections(world->sim), 2);
    assert_true(sim_logged_ns(world->sim, 1, "request") - start_ns >= 30 * S);
    run_and_watch(world, 10000);
    for (unsigned i = 1; i < 3; i++)
        assert_true(world->sockets[i].failed && world->sockets[i].closed);
    assert_true(world->closed_ns - start_ns >= 40 * S && world->closed_ns - start_ns < 40 * S + S / 5);
    assert_int_equal(sim_connections(world->sim), 2);
    assert_int_equal(sim_files_open(world->sim), 0);
}

static void the_opening_limit_runs_on_while_waiting(void **state)
{
    (void)state;
    world_each_seed(time_out_one_after_the_other, &one);
}

static const char *story_of_waiter;

static void note_story(struct world *world, unsigned index, const struct wsr_event *event)
{
    (void)world;
    if (index == 1 && event->type == WSR_EVENT_CLOSE) {
        story_of_waiter = event->text;
        assert_int_equal(event->stage, WSR_STAGE_CONNECT);
        assert_int_equal(event->system_errno, ETIMEDOUT);
    }
}

/* HS-12, F4: it says why it never tried. */
static void wait_too_long(struct world *world)
{
    story_of_waiter = "";
    world->react = note_story;
    sim_script(world->sim, "silent");
    world_connect(world);
    world_connect(world);
    run_and_watch(world, 31000);
    assert_true(world->sockets[0].closed && world->sockets[1].closed);
    assert_int_equal(sim_connections(world->sim), 1);
    assert_non_null(strstr(story_of_waiter, "WSR_ENGINE_ONE_CONNECTING"));
    assert_non_null(strstr(story_of_waiter, "open_timeout_ns"));
}

static void a_wait_that_ends_with_the_limit_says_so(void **state)
{
    (void)state;
    world_each_seed(wait_too_long, &one);
}

/* HS-12, F7, CLOSE-32: of six, in any order and at any moment, some are closed and some destroyed, first of all the one
 * that all wait for. Those that are left open in their order. */
static void end_some_of_those_that_wait(struct world *world)
{
    bool is_ended[6] = { true };
    bool destroys_first = sim_random(world->sim, 2) == 0;
    sim_script(world->sim, sim_random(world->sim, 2) == 0 ? "silent" : "accept");
    sim_script(world->sim, OPENS);
    for (unsigned i = 0; i < 6; i++)
        world_connect(world);
    run_and_watch(world, sim_random(world->sim, 3) * 50);
    for (unsigned k = 0; k < 3; k++) {
        unsigned i = 1 + (unsigned)sim_random(world->sim, 5);
        if (is_ended[i])
            continue;
        is_ended[i] = true;
        world_do(world, i, sim_random(world->sim, 2) == 0 ? "close 3000 x" : "destroy");
        run_and_watch(world, sim_random(world->sim, 3) * 50);
    }
    assert_true(sim_connections(world->sim) <= 1);
    world_do(world, 0, destroys_first ? "destroy" : "close");
    run_and_watch(world, 1000);
    for (unsigned i = 0; i < 6; i++) {
        const struct world_socket *s = &world->sockets[i];
        if (s->opened == is_ended[i] || (s->socket != NULL && !s->closed))
            world_fail(world, "socket %u", i);
    }
    assert_int_equal(statistics_of(world).sockets_live, 0);
    assert_int_equal(sim_files_open(world->sim), 0);
}

static void who_is_closed_or_destroyed_leaves_the_line(void **state)
{
    (void)state;
    world_each_seed(end_some_of_those_that_wait, &one);
}

/* HS-12, F7: nobody has to wait for the server, or for its turn, to be told the end. */
static void close_a_waiter(struct world *world)
{
    sim_script(world->sim, "silent");
    world_connect(world);
    world_connect(world);
    world_run(world, 50);
    uint64_t start_ns = sim_now(world->sim);
    world_do(world, 1, "close");
    assert_int_equal(wsr_socket_ready_state(world->sockets[1].socket), WSR_CLOSING);
    world_run(world, 50);
    world_expect(world, "1: error\n1: close 1006 unclean\n");
    assert_int_equal(world->last_close.stage, WSR_STAGE_CONNECT);
    assert_true(world->closed_ns - start_ns < 10000000);
    assert_int_equal(sim_connections(world->sim), 1);
}

static void close_ends_a_wait_at_once(void **state)
{
    (void)state;
    world_each_seed(close_a_waiter, &one);
}

/* HS-12: another port, another address, and a name's own addresses, are another line. */
static void connect_elsewhere(struct world *world)
{
    static const char *const urls[] = {
        "ws://10.0.0.1:9001/", "ws://10.0.0.2:9001/", "ws://10.0.0.1:9002/", "ws://[2001:db8::1]:9001/",
        "ws://10.0.0.1:9001/other",
    };
    sim_script(world->sim, "silent");
    sim_script(world->sim, OPENS);
    for (unsigned i = 0; i < COUNT_OF(urls); i++)
        world_connect_to(world, urls[i], NULL, 0);
    world_run(world, 200);
    for (unsigned i = 0; i < COUNT_OF(urls); i++)
        assert_int_equal(world->sockets[i].opened, i >= 1 && i <= 3);
    assert_int_equal(sim_connections(world->sim), 4);
    for (unsigned i = 1; i < 4; i++)      /* all at the same time */
        assert_true(sim_logged_ns(world->sim, i, "request") - sim_logged_ns(world->sim, 1, "request") + 10000000 <
                    20000000);
}

static void other_addresses_are_not_held_up(void **state)
{
    (void)state;
    world_each_seed(connect_elsewhere, &one);
}

/* HS-12, F8: who gets no file for its attempt holds nobody up. */
static void lack_files(struct world *world)
{
    sim_script(world->sim, OPENS);
    sim_refuse_open(world->sim, 2, EMFILE);
    for (unsigned i = 0; i < 4; i++)
        world_connect(world);
    run_and_watch(world, 300);
    for (unsigned i = 0; i < 4; i++)
        assert_true(world->sockets[i].closed && world->sockets[i].opened == (i >= 2));
}

static void without_a_file_the_turn_passes_on(void **state)
{
    (void)state;
    world_each_seed(lack_files, &one);
}

/* Anything at any moment, the end of the engine too, with sockets in every place of the line. */
static void anything_goes(struct world *world)
{
    static const char *const scripts[] = {
        OPENS, "accept; upgrade", "silent", "refuse ECONNREFUSED 2", "accept 4; expect request; fin", "accept",
    };
    for (unsigned i = 0; i < 12; i++)
        sim_script(world->sim, scripts[sim_random(world->sim, COUNT_OF(scripts))]);
    for (unsigned step = 0; step < 60; step++) {
        unsigned index = (unsigned)sim_random(world->sim, 16);
        if (index >= world->sockets_count) {
            const char *url = sim_random(world->sim, 4) == 0 ? "ws://10.0.0.2/" : WORLD_URL;
            world_connect_to(world, url, NULL, 0);
        } else if (world->sockets[index].socket != NULL && !world->sockets[index].closed) {
            world_do(world, index, sim_random(world->sim, 2) == 0 ? "close" : "destroy");
        }
        if (sim_random(world->sim, 3) == 0)
            world_run(world, sim_random(world->sim, 12));
        if (sim_random(world->sim, 8) == 0)
            world_run(world, 9000);
    }
    if (sim_seed(world->sim) % 2 == 0)
        return;                            /* the engine is destroyed as it is */
    world_run(world, 40000);               /* every opening has its end by now */
    for (unsigned i = 0; i < world->sockets_count; i++) {
        if (world->sockets[i].socket == NULL || world->sockets[i].closed)
            continue;
        if (!world->sockets[i].opened)
            world_fail(world, "socket %u was forgotten", i);
        world_do(world, i, "destroy");
    }
    world_run(world, 40000);
    assert_int_equal(statistics_of(world).sockets_live, 0);
    assert_int_equal(sim_files_open(world->sim), 0);
}

static void any_calls_at_any_moment(void **state)
{
    (void)state;
    world_each_seed(anything_goes, &one);
}

/* ---- Real workers, a real server ---- */

#define CROWD_COUNT 50
#define WORKERS_COUNT 3

static bool all_are_through(struct client *client)
{
    return client->counts[WSR_EVENT_OPEN] + client->counts[WSR_EVENT_CLOSE] >= CROWD_COUNT;
}

static void open_crowd(struct client *client, uint32_t flags, const char *script)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.workers_count = WORKERS_COUNT;
    options.flags = flags;
    options.open_timeout_ns = WSR_NEVER;   /* no timer hides a worker that nobody wakes */
    client_open(client, &options, script);
    for (unsigned i = 0; i < CROWD_COUNT; i++)
        client_connect(client);
}

/* HS-12: the server is the witness, across the workers of an engine, and the engine's flag is what makes it so. */
static void a_server_sees_one_opening_at_a_time(void **state)
{
    (void)state;
    for (uint32_t flags = 0; flags <= WSR_ENGINE_ONE_CONNECTING; flags += WSR_ENGINE_ONE_CONNECTING) {
        struct client client;
        open_crowd(&client, flags, "request; wait 2; upgrade; echo");
        client_until_true(&client, all_are_through);
        assert_int_equal(client.counts[WSR_EVENT_OPEN], CROWD_COUNT);
        assert_int_equal(peer_connections(client.peer), CROWD_COUNT);
        if (flags != 0)
            assert_int_equal(peer_opening_max(client.peer), 1);
        else
            assert_true(peer_opening_max(client.peer) > 1);
        client_close(&client);
    }
}

/* HS-12, F5, F7: some are refused, some closed by the application before or while they have their turn. */
static void a_crowd_with_failures_and_second_thoughts_takes_turns(void **state)
{
    (void)state;
    static const struct peer_route routes[] = {
        { "/refused", "http HTTP/1.1 503 Busy|Content-Length: 0||; fin" }, { "/cut", "rst" },
        { "/chat", "wait 1; upgrade; echo" },
    };
    struct client client;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_socket *sockets[CROWD_COUNT];
    options.workers_count = WORKERS_COUNT;
    options.flags = WSR_ENGINE_ONE_CONNECTING;
    client_open(&client, &options, "request");
    peer_routes(client.peer, routes, COUNT_OF(routes));
    for (unsigned i = 0; i < CROWD_COUNT; i++) {
        char url[64];
        snprintf(url, sizeof url, "ws://127.0.0.1:%u%s", peer_port(client.peer), routes[i * 7 % 3].path);
        assert_int_equal(wsr_socket_open(client.engine, url, WSR_ZSTRING, NULL, 0, NULL, &sockets[i]), 0);
        client_listen(&client, sockets[i]);
    }
    for (unsigned i = 0; i < CROWD_COUNT; i += 5) {
        client_idle(&client, 3);
        assert_int_equal(wsr_close(sockets[i * 11 % CROWD_COUNT], 0, NULL, 0), 0);
    }
    client_until_true(&client, all_are_through);
    assert_int_equal(peer_opening_max(client.peer), 1);
    client_close(&client);
}

/* An engine that ends in the middle of it: each worker gives up its own, and none waits for another. */
static void an_engine_ends_with_a_crowd_at_the_gate(void **state)
{
    (void)state;
    for (unsigned lap = 0; lap < 8; lap++) {
        struct client client;
        open_crowd(&client, WSR_ENGINE_ONE_CONNECTING, lap % 2 == 0 ? "request; hold" : "request; wait 1; upgrade");
        client_idle(&client, lap * 3);
        client_close(&client);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_to_one_address_open_in_order_of_arrival),
        cmocka_unit_test(the_failure_of_one_lets_the_next_go),
        cmocka_unit_test(the_opening_limit_runs_on_while_waiting),
        cmocka_unit_test(a_wait_that_ends_with_the_limit_says_so),
        cmocka_unit_test(who_is_closed_or_destroyed_leaves_the_line),
        cmocka_unit_test(close_ends_a_wait_at_once),
        cmocka_unit_test(other_addresses_are_not_held_up),
        cmocka_unit_test(without_a_file_the_turn_passes_on),
        cmocka_unit_test(any_calls_at_any_moment),
        cmocka_unit_test(a_server_sees_one_opening_at_a_time),
        cmocka_unit_test(a_crowd_with_failures_and_second_thoughts_takes_turns),
        cmocka_unit_test(an_engine_ends_with_a_crowd_at_the_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
