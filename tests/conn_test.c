/* engine/conn: its life as a whole. Sockets and engines destroyed at any moment, many at once, slots used again
 * (semantics 6,
 * CLOSE-32).
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define REQUEST "request GET /chat\n"
#define FAILED "error\nclose 1006 unclean\n"
#define OPENED "accept; upgrade; "

static const struct wsr_engine_options tiny = {
    .size = sizeof tiny, .events_count = 8, .buffers_count = 2, .buffer_bytes = 256, .sockets_max = 4
};

static bool is_open(struct world *world)
{
    return world->sockets[0].opened;
}

static void expect_rest(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    if (statistics.sockets_live != 0 || statistics.buffers_lent != 0 || statistics.loan_bytes != 0 ||
        sim_files_open(world->sim) != 0)
        world_fail(world, "left: %llu sockets, %llu buffers, %llu bytes, %u files",
                   (unsigned long long)statistics.sockets_live, (unsigned long long)statistics.buffers_lent,
                   (unsigned long long)statistics.loan_bytes, sim_files_open(world->sim));
}

/* CLOSE-32: CONNECTING is aborted without an event. */
static void destroying_a_connecting_socket_aborts_it(struct world *world)
{
    static const char *const scripts[] = {
        "silent", "refuse ECONNREFUSED 100", "accept", "accept 100", "accept; expect request; http HTTP/1.1 101 S\r\n",
        "accept; upgrade; text a; close 1000; expect close; fin"
    };
    sim_script(world->sim, scripts[sim_seed(world->sim) % COUNT(scripts)]);
    world_connect(world);
    if (sim_random(world->sim, 2) == 0)
        sim_pass(world->sim, sim_random(world->sim, 1000000));
    for (unsigned looks = (unsigned)sim_random(world->sim, 12); looks > 0 && world->log_bytes == 0; looks--) {
        world->events_max = 1;
        world_look(world);
    }
    size_t before = world->log_bytes;
    world_destroy_socket(world, 0);
    world_run(world, 40000);
    assert_int_equal(world->log_bytes, before);
    expect_rest(world);
    const char *log = sim_connections(world->sim) > 0 ? sim_log(world->sim, 0) : "";
    if (before == 0 && strstr(log, "close") != NULL && strstr(log, "close 1001") == NULL && strstr(log,
        "close 1000") == NULL)
        world_fail(world, "the peer saw:\n%s", log);
}

/* CLOSE-32: OPEN says 1001 and finishes behind the scenes, after what was sent before. */
static void destroying_an_open_socket_says_1001(struct world *world)
{
    static const struct { const char *script, *peer; uint64_t end_ms; } cases[] = {
        { OPENED "expect close; close 1001; fin", REQUEST "text 5 hello\nclose 1001\nend\n", 100 },
        { OPENED "expect close; wait 1000; texts 300; close 4000; fin",
          REQUEST "text 5 hello\nclose 1001\nend\n", 2000 },
        { OPENED "", REQUEST "text 5 hello\nclose 1001\nend\n", 30100 },
        { OPENED "stop", REQUEST "end\n", 30100 },
        { OPENED "expect close; rst ECONNRESET", REQUEST "text 5 hello\nclose 1001\nend\n", 100 },
        { OPENED "expect close; close 1001", REQUEST "text 5 hello\nclose 1001\nend\n", 2100 },
        { OPENED "expect close; raw ff; close 1001; expect fin; "
          "fin", REQUEST "text 5 hello\nclose 1001\n?fin\nend\n", 2200 },
    };
    size_t at = sim_seed(world->sim) % COUNT(cases);
    sim_script(world->sim, cases[at].script);
    world->on_open = sim_random(world->sim, 2) == 0 ? "text hello; destroy" : "text hello";
    world_connect(world);
    world_run_until(world, is_open);
    if (world->sockets[0].socket != NULL)
        world_destroy_socket(world, 0);
    world_run(world, cases[at].end_ms);
    world_expect(world, "open\n");
    world_expect_peer(world, 0, cases[at].peer);
    expect_rest(world);
}

/* CLOSE-32: a handshake under way finishes; the server's first word counts. */
static void destroying_a_closing_socket_finishes_the_handshake(struct world *world)
{
    static const struct { const char *script, *peer; } cases[] = {
        { OPENED "expect close; wait 500; close 3000; fin", REQUEST "close 3000\nend\n" },
        { OPENED "expect close; wait 500; close 3000; wait 100; rst ECONNRESET", REQUEST "close 3000\nend\n" },
    };
    size_t at = sim_seed(world->sim) % COUNT(cases);
    sim_script(world->sim, cases[at].script);
    world->on_open = "close 3000";
    world_connect(world);
    world_run_until(world, is_open);
    world_run(world, sim_random(world->sim, 450));
    world_destroy_socket(world, 0);
    world_run(world, 1000);
    world_expect(world, "open\n");
    world_expect_peer(world, 0, cases[at].peer);
    expect_rest(world);
}

static void destroyed_sockets(void **state)
{
    (void)state;
    world_each_seed(destroying_a_connecting_socket_aborts_it, NULL);
    world_each_seed(destroying_a_connecting_socket_aborts_it, &tiny);
    world_each_seed(destroying_an_open_socket_says_1001, NULL);
    world_each_seed(destroying_an_open_socket_says_1001, &tiny);
    world_each_seed(destroying_a_closing_socket_finishes_the_handshake, NULL);
    world_each_seed(destroying_a_closing_socket_finishes_the_handshake, &tiny);
}

/* EVT-14: in each handler, its own socket and another one. */
struct destroyer {
    uint8_t type;
    bool other;
};

static void destroy_in_handler(struct world *world, unsigned index, const struct wsr_event *event)
{
    const struct destroyer *destroyer = world->context;
    unsigned victim = destroyer->other ? 1 - index : index;
    if (event->type == destroyer->type && world->sockets[victim].socket != NULL)
        world_destroy_socket(world, victim);
}

static struct destroyer *destroying;
static const char *destroying_script;

static void two_with_destroyers(struct world *world)
{
    sim_script(world->sim, destroying_script);
    world->react = destroy_in_handler;
    world->context = destroying;
    world_connect(world);
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 40000);
    expect_rest(world);
}

static void destroy_inside_handlers(void **state)
{
    static const char *const scripts[] = { OPENED "texts 10; close 1000; expect close; fin", OPENED "texts 3; fin" };
    (void)state;
    for (unsigned which = 0; which < 16; which++) {
        struct destroyer destroyer = { .type = (uint8_t)(1 + which % 4), .other = which / 4 % 2 };
        destroying = &destroyer;
        destroying_script = scripts[which / 8];
        world_each_seed(two_with_destroyers, which % 2 == 0 ? &tiny : NULL);
    }
}

/* EVT-15, and the engine cannot be destroyed inside its handlers. */
static void look_inside(struct world *world, unsigned index, const struct wsr_event *event)
{
    struct wsr_event other;
    (void)index, (void)event;
    if (!world->dispatches)
        return;
    assert_int_equal(wsr_poll(world->engine, 0, &other, 1, 0), WSR_ERR_BUSY);
    assert_int_equal(wsr_dispatch(world->engine, 0, 1, 0), WSR_ERR_BUSY);
    assert_int_equal(wsr_engine_destroy(world->engine), WSR_ERR_BUSY);
}

static void no_polling_inside_a_handler(struct world *world)
{
    sim_script(world->sim, OPENED "texts 3; close 1000; expect close; fin");
    world->react = look_inside;
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 0\nmessage text 1 1\nmessage text 1 2\nclose 1000 clean\n");
}

/* EVT-06: nothing fires inside the calls themselves. */
static void calls_fire_nothing(struct world *world)
{
    sim_script(world->sim, OPENED "text a; expect close; close 1000; fin");
    world_connect(world);
    assert_int_equal(world->log_bytes, 0);
    world_run_until(world, is_open);
    world_sleep(world, 10);
    size_t before = world->log_bytes;
    world_do(world, 0, "text x; close 1000; close 1000");
    assert_int_equal(world->log_bytes, before);
    world_run_to_end(world);
}

static void handlers_and_calls(void **state)
{
    (void)state;
    world_each_seed(no_polling_inside_a_handler, NULL);
    world_each_seed(calls_fire_nothing, NULL);
}

/* EVT-16 */
static void twenty_five_sockets(struct world *world)
{
    sim_script(world->sim, OPENED "text a; close 1000; expect close; fin");
    for (unsigned i = 0; i < 25; i++)
        world_connect(world);
    world_run_to_end(world);
    world_run(world, 10);
    for (unsigned i = 0; i < 25; i++) {
        const struct world_socket *s = &world->sockets[i];
        assert_true(s->opened && s->closed && !s->failed && s->messages_count == 1);
    }
    expect_rest(world);
}

static void crowd(void **state)
{
    static const struct wsr_engine_options small = { .size = sizeof small, .events_count = 8, .buffers_count = 2,
                                                     .buffer_bytes = 256 };
    (void)state;
    world_each_seed(twenty_five_sockets, NULL);
    world_each_seed(twenty_five_sockets, &small);
}

/* What a peer may do, for the tests that do anything at any moment. */
static const char *const chaos[] = {
    "silent", "refuse ECONNREFUSED", "accept", OPENED "texts 20; close 1000; expect close; fin",
        OPENED "texts 100; fin",
    OPENED "stop; texts 5", OPENED "pings 80; texts 5; rst ECONNRESET", OPENED "big 5000; raw ffff; expect fin; fin",
    OPENED "slow 50; texts 3; expect close; close 1000; fin", OPENED "big 3000; gone",
        OPENED "cut 1; texts 9; close; expect close",
    OPENED "expect text; text re; expect text; text re; expect close; close 1000; fin",
    "accept; expect request; http HTTP/1.1 404 No\r\n\r\n", OPENED "window 50; texts 2; wait 20; rst ECONNRESET",
};

static void anything(struct world *world, unsigned steps)
{
    static const char *const acts[] = { "text hello", "big 3000", "texts 10", "close 1000 bye", "close", "destroy" };
    for (unsigned i = 0; i < 40; i++)
        sim_script(world->sim, chaos[sim_random(world->sim, COUNT(chaos))]);
    while (steps-- > 0) {
        unsigned live = 0;
        for (unsigned i = 0; i < world->sockets_count; i++)
            live += world->sockets[i].socket != NULL;
        if (live < 4 && world->sockets_count < 40 && sim_random(world->sim, 3) == 0) {
            struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
            struct wsr_socket *probe;
            /* The slot of a destroyed socket may still be finishing: then the call says so. */
            int rc = wsr_socket_open(world->engine, world_url(world, WORLD_URL), WSR_ZSTRING, NULL, 0, &options,
                                     &probe);
            if (rc == 0)
                world_adopt(world, probe);
            else
                assert_int_equal(rc, WSR_ERR_MEMORY);
        }
        for (unsigned i = 0; i < world->sockets_count; i++) {
            struct wsr_socket *socket = world->sockets[i].socket;
            if (socket == NULL || sim_random(world->sim, 8) != 0)
                continue;
            const char *act = acts[sim_random(world->sim, COUNT(acts))];
            bool is_call = strcmp(act, "close") == 0 || strncmp(act, "close ", 6) == 0 || strcmp(act, "destroy") == 0;
            if (is_call || wsr_socket_ready_state(socket) != WSR_CONNECTING)
                world_do(world, i, act);
        }
        if (sim_random(world->sim, 4) == 0)
            world_sleep(world, sim_random(world->sim, 30));
        else
            world_run(world, sim_random(world->sim, 10));
    }
}

static void anything_then_the_end(struct world *world)
{
    anything(world, 120);
    for (unsigned i = 0; i < world->sockets_count; i++) {
        if (world->sockets[i].socket != NULL)
            assert_int_equal(wsr_close(world->sockets[i].socket, 0, NULL, 0), 0);
    }
    world_run_to_end(world);
    for (unsigned i = 0; i < world->sockets_count; i++) {
        if (world->sockets[i].socket != NULL)
            world_destroy_socket(world, i);
    }
    world_run(world, 35000);
    expect_rest(world);
}

/* The engine goes while everything is under way: world_close() checks that the driver is left with nothing in
 * flight. */
static void anything_then_destroy(struct world *world)
{
    anything(world, (unsigned)sim_random(world->sim, 60));
}

static void any_calls_at_any_moment(void **state)
{
    (void)state;
    world_each_seed(anything_then_the_end, &tiny);
    world_each_seed(anything_then_the_end, NULL);
    world_each_seed(anything_then_destroy, &tiny);
    world_each_seed(anything_then_destroy, NULL);
}

static void end_engine(struct world *world)
{
    assert_int_equal(wsr_engine_destroy(world->engine), 0);
    world->engine = NULL;
}

static unsigned heard;

static void an_engine_ends(struct world *world)
{
    sim_script(world->sim, OPENED "expect close; close 1001; fin");
    world_connect(world);
    world_run_until(world, is_open);
    end_engine(world);
    const char *log = sim_log(world->sim, 0);
    heard += strcmp(log, REQUEST "close 1001\nend\n") == 0;
    if (strstr(log, "end\n") == NULL)
        world_fail(world, "the peer saw:\n%s", log);
}

/* wsr_engine_destroy: Close 1001 as far as the kernel takes it at once. */
static void the_end_of_the_engine_says_1001(void **state)
{
    (void)state;
    world_each_seed(an_engine_ends, NULL);
    if (heard == 0 && world_seeds_last() > world_seeds_first())
        fail_msg("no peer ever saw the Close 1001");
}

/* Nobody takes events any more: the engine ends all the same, with more to tell than there is room for. */
static void an_engine_ends_with_a_full_ring(struct world *world)
{
    sim_script(world->sim, "silent");
    for (unsigned i = 0; i < 10; i++)
        sim_script(world->sim, i % 2 == 0 ? OPENED "expect close" : OPENED "wait 5000; texts 50");
    for (unsigned i = 0; i <= 10; i++)
        world_connect(world);
    world_run(world, 1000);
    for (unsigned i = 1; i <= 10; i += 2)
        world_do(world, i, "close 1000");
    world->events_max = 1;
    world_look(world);
    world_sleep(world, 10000);
    for (unsigned i = 0; i < 20; i++)
        world_look(world);
    for (unsigned i = 0; i <= 10; i++)
        assert_false(world->sockets[i].closed);
}

static void the_end_with_a_full_ring(void **state)
{
    static const struct wsr_engine_options small = { .size = sizeof small, .events_count = 8, .buffers_count = 2,
                                                     .buffer_bytes = 256 };
    (void)state;
    world_each_seed(an_engine_ends_with_a_full_ring, &small);
}

static void a_driver_breaks(struct world *world)
{
    struct wsr_event event;
    sim_script(world->sim, OPENED "texts 10");
    world_connect(world);
    world_connect(world);
    world_run(world, sim_random(world->sim, 10));
    sim_break(world->sim, EBADF);
    int rc = 1;
    for (unsigned i = 0; i < 100 && rc >= 0; i++)
        rc = wsr_poll(world->engine, 0, &event, 1, 1000000);
    assert_int_equal(rc, WSR_ERR_SYSTEM);
    /* One that nobody will ever connect; what it brought along is freed with it. */
    struct wsr_socket *socket;
    assert_int_equal(wsr_socket_open(world->engine, world_url(world, WORLD_URL), WSR_ZSTRING, NULL, 0, NULL, &socket),
                     0);
    end_engine(world);
}

/* A driver that breaks ends the engine's calls with an error, and the engine can still be destroyed. */
static void a_broken_driver(void **state)
{
    (void)state;
    world_each_seed(a_driver_breaks, NULL);
}

static void a_driver_breaks_amid_pieces(struct world *world)
{
    struct wsr_event event;
    char script[600] = OPENED "cut whole; raw 027e0200";
    memset(script + strlen(script), 'a', 500);
    sim_script(world->sim, script);
    world_connect(world);
    world_run(world, 20);
    assert_true(sim_buffers_home(world->sim) < 64 || world->way != WORLD_WS);   /* TLS may have opened them elsewhere */
    sim_break(world->sim, EBADF);
    while (wsr_poll(world->engine, 0, &event, 1, 1000000) >= 0)
        continue;
    end_engine(world);
}

/* The same in the midst of a message whose pieces lie in receive buffers: there is nobody to give them back to. */
static void a_broken_driver_and_pieces(void **state)
{
    static const struct wsr_engine_options small_buffers = { .size = sizeof small_buffers, .buffer_bytes = 256,
                                                             .buffers_count = 64 };
    (void)state;
    world_each_seed(a_driver_breaks_amid_pieces, &small_buffers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destroyed_sockets),
        cmocka_unit_test(destroy_inside_handlers),
        cmocka_unit_test(handlers_and_calls),
        cmocka_unit_test(crowd),
        cmocka_unit_test(any_calls_at_any_moment),
        cmocka_unit_test(the_end_of_the_engine_says_1001),
        cmocka_unit_test(the_end_with_a_full_ring),
        cmocka_unit_test(a_broken_driver),
        cmocka_unit_test(a_broken_driver_and_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
