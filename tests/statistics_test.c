/* What the engine counts: each field of its statistics, exactly, against what the script and the driver saw.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define MS 1000000ull
#define OPENED "accept; upgrade; "
#define ANSWER_BYTES (sizeof "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
                             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" - 1)

static struct wsr_engine_statistics engine_statistics(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    return statistics;
}

static struct wsr_socket *socket_of(struct world *world)
{
    return world->sockets[0].socket;
}

static bool is_open(struct world *world)
{
    return world->sockets[0].opened;
}

static void connect_open(struct world *world, const char *script)
{
    sim_script(world->sim, script);
    world_connect(world);
    world_run_until(world, is_open);
}

static uint64_t request_bytes(struct world *world)
{
    const char *request = sim_request(world->sim, 0);
    return (uint64_t)(strstr(request, "\r\n\r\n") + 4 - request);
}

/* ---- The engine ---- */

static void it_is_named(struct world *world)
{
    struct wsr_engine_statistics s = engine_statistics(world);
    assert_int_equal(s.workers_count, 0);
    assert_string_equal(s.driver, "simulated");
    assert_string_equal(s.features, "virtual-clock");
    assert_true(s.simd[0] != '\0');
}

static void sockets_are_opened_fail_or_live(struct world *world)
{
    sim_script(world->sim, OPENED "expect close; close 1000; fin");
    sim_script(world->sim, "refuse ECONNREFUSED");
    sim_script(world->sim, "accept; expect request; http HTTP/1.1 404 No\r\n\r\n; fin");
    sim_script(world->sim, "accept");
    for (unsigned i = 0; i < 6; i++)
        world_connect(world);
    assert_int_equal(engine_statistics(world).sockets_live, 6);
    assert_int_equal(engine_statistics(world).sockets_opened, 0);
    world_run(world, 100);
    struct wsr_engine_statistics s = engine_statistics(world);
    assert_int_equal(s.sockets_opened, 1);
    assert_int_equal(s.sockets_failed, 2);
    assert_int_equal(s.sockets_live, 4);
    world_do(world, 3, "close");
    world_do(world, 4, "destroy");
    world_do(world, 0, "close");
    world_run(world, 100);
    s = engine_statistics(world);
    assert_int_equal(s.sockets_opened, 1);
    assert_int_equal(s.sockets_failed, 4);
    assert_int_equal(s.sockets_live, 1);
    world_run_to_end(world);                           /* the last one runs into the limit */
    assert_int_equal(engine_statistics(world).sockets_failed, 5);
    assert_int_equal(engine_statistics(world).sockets_live, 0);
}

/* Each frame header of ours is 2 bytes, and 4 for the mask; the server's has no mask. */
static void messages_and_bytes_are_counted(struct world *world)
{
    connect_open(world, OPENED "text abc; binary ; raw 010161 800162; big 1000; expect text; ping pp; expect close; "
                        "close 1000; fin");
    world_do(world, 0, "text hello; binary ; big 1000; big 70000");
    world_run(world, 100);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    struct wsr_engine_statistics s = engine_statistics(world);
    assert_int_equal(s.messages_received, 4);
    assert_int_equal(s.messages_received_bytes, 3 + 0 + 2 + 1000);
    assert_int_equal(s.messages_lent + s.messages_copied, 4);
    assert_int_equal(s.messages_sent, 4);
    assert_int_equal(s.messages_sent_bytes, 5 + 0 + 1000 + 70000);
    assert_int_equal(s.wire_received_bytes, ANSWER_BYTES + 5 + 2 + 3 + 3 + 1004 + 4 + 4);
    assert_int_equal(s.wire_sent_bytes, request_bytes(world) + 11 + 6 + 1008 + 70014 + 8 + 8);
    assert_int_equal(s.pings_answered, 1);
    assert_int_equal(s.pings_dropped, 0);
}

/* A message in one buffer is lent, so is an empty one; fragments are copied, and what straddles buffers. */
static void copies_are_told_from_loans(struct world *world)
{
    connect_open(world, OPENED "cut whole; text a; wait 5; binary ; wait 5; raw 010161 800162; wait 5; big 300");
    world_run(world, 200);
    struct wsr_engine_statistics s = engine_statistics(world);
    assert_int_equal(s.messages_received, 4);
    assert_int_equal(s.messages_lent, 2);
    assert_int_equal(s.messages_copied, 2);
}

static void operations_are_counted(struct world *world)
{
    connect_open(world, OPENED "echo; slow 5000");
    for (unsigned i = 0; i < 20; i++)
        world_do(world, 0, i % 4 == 0 ? "big 9000" : "text abc");
    world_run(world, 500);
    struct wsr_engine_statistics s = engine_statistics(world);
    struct sim_counts seen = sim_counts(world->sim);
    assert_int_equal(s.messages_received, 20);
    assert_int_equal(s.sends, seen.sends);
    assert_int_equal(s.short_sends, seen.short_sends);
    assert_true(s.short_sends > 0 && s.short_sends < s.sends);
    assert_int_equal(s.completions, seen.completions);
    assert_int_equal(s.turns, seen.waits);
    assert_int_equal(s.buffers_exhausted, seen.buffers_exhausted);
}

static struct wsr_hold *hold;

static void keep(struct world *world, unsigned index, const struct wsr_event *event)
{
    (void)world, (void)index;
    if (event->type == WSR_EVENT_MESSAGE && hold == NULL)
        hold = wsr_event_hold(event);
}

/* A buffer, or the memory of a copy, that is held. */
static void memory_that_is_out_is_counted(struct world *world)
{
    static const char *const scripts[] = { OPENED "cut whole; text a; wait 1; text b",
                                           OPENED "cut whole; raw 010161 800162; wait 1; text b" };
    bool is_copy = sim_seed(world->sim) % 2 == 0;
    hold = NULL;
    world->react = keep;
    connect_open(world, scripts[is_copy]);
    world_run(world, 100);
    struct wsr_engine_statistics s = engine_statistics(world);
    assert_int_equal(s.messages_received, 2);
    assert_int_equal(s.buffers_count, 4);
    assert_int_equal(s.buffers_lent, is_copy ? 0 : 1);
    assert_true(is_copy ? s.loan_bytes >= 2 : s.loan_bytes == 0);
    assert_non_null(hold);
    wsr_hold_release(hold);
    world_run(world, 10);
    s = engine_statistics(world);
    assert_int_equal(s.buffers_lent, 0);
    assert_int_equal(s.loan_bytes, 0);
}

#define BURST "cork; texts 20; uncork; wait 1000; "

/* Twenty messages in one piece where eight events have room: one rest, however often the consumer is waited for. */
static void rests_are_counted_once(struct world *world)
{
    connect_open(world, OPENED "cut whole; wait 1000; " BURST BURST "cork; texts 2; uncork");
    world_run(world, 1500);
    assert_int_equal(engine_statistics(world).messages_received, 20);
    assert_int_equal(engine_statistics(world).rests, 1);
    world_run(world, 1000);
    assert_int_equal(engine_statistics(world).messages_received, 40);
    assert_int_equal(engine_statistics(world).rests, 2);
    world_run(world, 1000);
    assert_int_equal(engine_statistics(world).messages_received, 42);
    assert_int_equal(engine_statistics(world).rests, 2);
}

/* More connections than buffers take turns: nobody waits for the consumer. */
static void taking_turns_is_no_rest(struct world *world)
{
    for (unsigned i = 0; i < 20; i++) {
        sim_script(world->sim, OPENED "texts 10; big 1000; texts 10; close 1000; expect close; fin");
        world_connect(world);
    }
    world_run_to_end(world);
    assert_int_equal(engine_statistics(world).messages_received, 20 * 21);
    assert_int_equal(engine_statistics(world).rests, 0);
}

/* A connection may wait its turn for other reasons: pausing is none of the consumer's being behind. */
static void a_pause_is_no_rest(struct world *world)
{
    connect_open(world, OPENED "wait 50; texts 3; expect close; close 1000; fin");
    assert_int_equal(wsr_pause(socket_of(world)), 0);
    world_run(world, 200);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(engine_statistics(world).rests, 0);
}

static unsigned pongs_seen(struct world *world)
{
    unsigned count = 0;
    for (const char *at = sim_log(world->sim, 0); (at = strstr(at, "pong ")) != NULL; at++)
        count++;
    return count;
}

/* CTL-03: every Ping is answered or dropped, none is both. */
static void each_ping_is_answered_or_dropped(struct world *world)
{
    connect_open(world, OPENED "stop; pings 500; wait 100; read; wait 100");
    world_run(world, 500);
    struct wsr_engine_statistics s = engine_statistics(world);
    assert_int_equal(s.pings_answered, pongs_seen(world));
    assert_int_equal(s.pings_answered + s.pings_dropped, 500);
    assert_in_range(s.pings_answered, 64, 66);
}

static const struct wsr_engine_options blocking = { .size = sizeof blocking, .wait = WSR_WAIT_BLOCK,
                                                    .buffers_count = 2, .buffer_bytes = 256 };
static const struct wsr_engine_options small_buffers = { .size = sizeof small_buffers, .buffers_count = 64,
                                                         .buffer_bytes = 256 };
static const struct wsr_engine_options four_buffers = { .size = sizeof four_buffers, .buffers_count = 4,
                                                        .buffer_bytes = 4096 };
static const struct wsr_engine_options few_events = { .size = sizeof few_events, .events_count = 8,
                                                      .buffers_count = 64, .buffer_bytes = 4096 };

static void engine_sockets(void **state)
{
    (void)state;
    world_each_seed(it_is_named, NULL);
    world_each_seed(sockets_are_opened_fail_or_live, NULL);
}

static void engine_messages(void **state)
{
    (void)state;
    /* Bytes of the wire, and the memory that they take: over TLS in conn_tls_test. */
    world_each_plain_seed(messages_and_bytes_are_counted, NULL);
    world_each_plain_seed(copies_are_told_from_loans, &small_buffers);
    world_each_plain_seed(memory_that_is_out_is_counted, &four_buffers);
}

static void engine_operations(void **state)
{
    (void)state;
    world_each_seed(operations_are_counted, &blocking);
}

static void engine_rests(void **state)
{
    (void)state;
    world_each_plain_seed(rests_are_counted_once, &few_events);     /* what comes in one buffer */
    world_each_seed(taking_turns_is_no_rest, &blocking);
    world_each_seed(a_pause_is_no_rest, NULL);
}

static void engine_pings(void **state)
{
    (void)state;
    world_each_seed(each_ping_is_answered_or_dropped, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine_sockets),
        cmocka_unit_test(engine_messages),
        cmocka_unit_test(engine_operations),
        cmocka_unit_test(engine_rests),
        cmocka_unit_test(engine_pings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
