/* Ping, pause and resume, and the answer's head, against a scripted peer under virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define MS 1000000ull
#define OPENED "accept; upgrade; "

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

/* ---- Ping ---- */

static uint64_t last_rtt_ns;

static void note_rtt(struct world *world, unsigned index, const struct wsr_event *event)
{
    (void)world;
    (void)index;
    if (event->type == WSR_EVENT_PONG)
        last_rtt_ns = event->rtt_ns;
}

/* CTL-05, CTL-06: what the application pinged is told, with the round trip when the payload was ours. */
static void a_pong_answers_its_ping(struct world *world)
{
    world->react = note_rtt;
    connect_open(world, OPENED "echo");
    assert_int_equal(wsr_ping(socket_of(world), "abc", 3), 0);
    world_run(world, 100);
    world_expect(world, "open\npong 3 abc\n");
    assert_true(last_rtt_ns == 0);
    assert_int_equal(wsr_ping(socket_of(world), "", 0), 0);
    world_run(world, 100);
    world_expect(world, "open\npong 3 abc\npong 0\n");
    assert_true(last_rtt_ns == 0);
    uint64_t before_ns = sim_now(world->sim);
    assert_int_equal(wsr_ping(socket_of(world), NULL, 0), 0);
    world_run(world, 100);
    world_expect(world, "open\npong 3 abc\npong 0\npong 0\n");
    assert_true(last_rtt_ns > 0 && last_rtt_ns <= sim_now(world->sim) - before_ns);
}

/* CTL-06: 125 bytes are the most, and they arrive and come back as they were. */
static void the_longest_ping_comes_back(struct world *world)
{
    char payload[125], peer[64], events[64];
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = sim_pattern(i);
    connect_open(world, OPENED "echo");
    assert_int_equal(wsr_ping(socket_of(world), payload, sizeof payload), 0);
    memset(payload, '!', sizeof payload);
    world_run(world, 100);
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = sim_pattern(i);
    snprintf(peer, sizeof peer, "request GET /chat\nping 125 #%08x\n", sim_hash(payload, sizeof payload));
    world_expect_peer(world, 0, peer);
    snprintf(events, sizeof events, "open\npong 125 %.40s*\n", payload);
    world_expect(world, events);
}

/* The engine's own payload has 16 bytes: others of that length are the application's, or nobody's. */
static void a_payload_like_the_engines_own_is_not_taken_for_it(struct world *world)
{
    world->react = note_rtt;
    last_rtt_ns = 1;
    connect_open(world, OPENED "pong 0123456789abcdef; echo");
    world_run(world, 20);
    assert_int_equal(wsr_ping(socket_of(world), "fedcba9876543210", 16), 0);
    world_run(world, 100);
    world_expect(world, "open\npong 16 fedcba9876543210\n");
    assert_true(last_rtt_ns == 0);
}

static void pongs(void **state)
{
    (void)state;
    world_each_seed(a_pong_answers_its_ping, NULL);
    world_each_seed(the_longest_ping_comes_back, NULL);
    world_each_seed(a_payload_like_the_engines_own_is_not_taken_for_it, NULL);
}

/* CTL-05: nobody asked. */
static void unsolicited_pongs_are_ignored(struct world *world)
{
    sim_script(world->sim, OPENED "pong x; pong; text a; close 1000; fin");
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 a\nclose 1000 clean\n");
}

static void unsolicited(void **state)
{
    (void)state;
    world_each_seed(unsolicited_pongs_are_ignored, NULL);
}

/* CTL-05: a Pong that nobody asked for is not taken for the answer to a Ping of the engine's own payload, whose round
 * trip is told when the answer comes, and once. */
static void a_round_trip_is_not_lost_to_another_pong(struct world *world)
{
    world->react = note_rtt;
    last_rtt_ns = 0;
    connect_open(world, OPENED "expect ping; pong x; pong ; wait 50; echo; expect ping; pong y");
    assert_int_equal(wsr_ping(socket_of(world), NULL, 0), 0);
    world_run(world, 20);
    world_expect(world, "open\n");
    world_run(world, 100);
    assert_int_equal(wsr_ping(socket_of(world), NULL, 0), 0);
    world_run(world, 100);
    world_expect(world, "open\npong 0\n");
    assert_true(last_rtt_ns > 0);
}

static void round_trips(void **state)
{
    (void)state;
    world_each_seed(a_round_trip_is_not_lost_to_another_pong, NULL);
}

/* A refused Ping sends nothing. */
static void pings_are_refused(struct world *world)
{
    char payload[126] = { 0 };
    sim_script(world->sim, "accept 10; upgrade; expect close; close 1000; fin");
    world_connect(world);
    assert_int_equal(wsr_ping(socket_of(world), NULL, 0), WSR_ERR_INVALID_STATE);
    world_run_until(world, is_open);
    assert_int_equal(wsr_ping(socket_of(world), payload, 126), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_ping(socket_of(world), NULL, 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_ping(NULL, NULL, 0), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_close(socket_of(world), 1000, NULL, 0), 0);
    assert_int_equal(wsr_ping(socket_of(world), payload, 125), 0);
    world_run_to_end(world);
    world_expect_peer(world, 0, "request GET /chat\nclose 1000\nend\n");
}

static void refused(void **state)
{
    (void)state;
    world_each_seed(pings_are_refused, NULL);
}

/* ---- Pause ---- */

static void messages_wait_while_paused(struct world *world)
{
    connect_open(world, OPENED "wait 100; texts 20; ping p; close 1000; fin");
    assert_int_equal(wsr_pause(socket_of(world)), 0);
    world_run(world, 1000);
    world_expect(world, "open\n");
    assert_int_equal(wsr_resume(socket_of(world)), 0);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 0\nmessage text 1 1\nmessage text 1 2\nmessage text 1 3\n"
                        "message text 1 4\nmessage text 1 5\nmessage text 1 6\nmessage text 1 7\n"
                        "message text 1 8\nmessage text 1 9\nmessage text 2 10\nmessage text 2 11\n"
                        "message text 2 12\nmessage text 2 13\nmessage text 2 14\nmessage text 2 15\n"
                        "message text 2 16\nmessage text 2 17\nmessage text 2 18\nmessage text 2 19\n"
                        "close 1000 clean\n");
}

static void paused(void **state)
{
    (void)state;
    world_each_seed(messages_wait_while_paused, NULL);
}

/* Paused before it is open: the handshake goes on, what follows it waits. */
static void a_pause_before_open_holds_the_first_message(struct world *world)
{
    sim_script(world->sim, "accept; cork; upgrade; text a; uncork; text b");
    world_connect(world);
    assert_int_equal(wsr_pause(socket_of(world)), 0);
    world_run(world, 500);
    world_expect(world, "open\n");
    assert_int_equal(wsr_resume(socket_of(world)), 0);
    world_run(world, 500);
    world_expect(world, "open\nmessage text 1 a\nmessage text 1 b\n");
}

static void paused_early(void **state)
{
    (void)state;
    world_each_seed(a_pause_before_open_holds_the_first_message, NULL);
}

/* close() ends the pause, or the server's Close would never be read. */
static void close_ends_the_pause(struct world *world)
{
    connect_open(world, OPENED "texts 3; expect close; close 1000; fin");
    assert_int_equal(wsr_pause(socket_of(world)), 0);
    world_run(world, 200);
    assert_int_equal(wsr_close(socket_of(world), 1000, NULL, 0), 0);
    world_run_to_end(world);
    assert_true(world->last_close.was_clean);
    assert_int_equal(wsr_pause(socket_of(world)), 0);
    assert_int_equal(wsr_resume(socket_of(world)), 0);
}

static void closed_while_paused(void **state)
{
    (void)state;
    world_each_seed(close_ends_the_pause, NULL);
}

/* Again and again, while messages come: none is lost, none comes twice. */
static void pauses_lose_nothing(struct world *world)
{
    connect_open(world, OPENED "texts 300; close 1000; fin");
    for (unsigned i = 0; i < 400 && !world->sockets[0].closed; i++) {
        assert_int_equal(i % 2 == 0 ? wsr_pause(socket_of(world)) : wsr_resume(socket_of(world)), 0);
        world_run(world, i % 5);
    }
    assert_int_equal(wsr_resume(socket_of(world)), 0);
    world_run_to_end(world);
    assert_int_equal(world->sockets[0].messages_count, 300);
    assert_true(world->last_close.was_clean);
}

static void paused_often(void **state)
{
    (void)state;
    world_each_seed(pauses_lose_nothing, NULL);
}

/* ---- The head of the answer ---- */

static void open_keeping(struct world *world, const char *script, uint32_t flags)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    options.flags = flags;
    sim_script(world->sim, script);
    assert_int_equal(wsr_socket_open(world->engine, world_url(world, WORLD_URL), WSR_ZSTRING, NULL, 0, &options,
                                     &socket), 0);
    world_adopt(world, socket);
}

static void expect_header(struct world *world, const char *name, size_t index, const char *want)
{
    size_t len = 0;
    const char *value = wsr_socket_response_header(socket_of(world), name, index, &len);
    if (want == NULL) {
        assert_null(value);
        return;
    }
    assert_non_null(value);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(value, want, len);
}

/* HS-09, RESP-15, OQ-6 */
static void headers_of_the_101_can_be_read(struct world *world)
{
    open_keeping(world, "accept; upgrade Set-Cookie: a=b; close 1000; fin", WSR_SOCKET_KEEP_RESPONSE);
    expect_header(world, "set-cookie", 0, NULL);                 /* not before the open event */
    world_run_until(world, is_open);
    expect_header(world, "set-cookie", 0, "a=b");
    expect_header(world, "SET-COOKIE", 0, "a=b");
    expect_header(world, "set-cookie", 1, NULL);
    expect_header(world, "upgrade", 0, "websocket");
    expect_header(world, "set-cooki", 0, NULL);
    world_run_to_end(world);
    expect_header(world, "set-cookie", 0, "a=b");
}

/* RESP-03: those of a refusal too. */
static void headers_of_a_refusal_can_be_read(struct world *world)
{
    open_keeping(world, "accept; expect request; http HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\n\r\n; fin",
                 WSR_SOCKET_KEEP_RESPONSE);
    world_run_to_end(world);
    assert_int_equal(world->last_close.http_status, 429);
    expect_header(world, "retry-after", 0, "7");
}

static void nothing_is_kept_unasked(struct world *world)
{
    open_keeping(world, "accept; upgrade Set-Cookie: a=b; close 1000; fin", 0);
    world_run_to_end(world);
    expect_header(world, "set-cookie", 0, NULL);
}

static void response_headers(void **state)
{
    (void)state;
    world_each_seed(headers_of_the_101_can_be_read, NULL);
    world_each_seed(headers_of_a_refusal_can_be_read, NULL);
    world_each_seed(nothing_is_kept_unasked, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pongs),
        cmocka_unit_test(unsolicited),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(refused),
        cmocka_unit_test(paused),
        cmocka_unit_test(paused_early),
        cmocka_unit_test(closed_while_paused),
        cmocka_unit_test(paused_often),
        cmocka_unit_test(response_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
