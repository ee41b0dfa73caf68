/* engine/conn_receive: frames in any pieces, control frames, and consumers that are slow or keep what they got
 * (semantics 4, 6).
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/bytes.h"
#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define REQUEST "request GET /chat\n"
#define FAILED "error\nclose 1006 unclean\n"
#define OPENED "accept; upgrade; "
#define ENDED "close 1000; expect close; fin"

static const struct wsr_engine_options tiny = {
    .size = sizeof tiny, .events_count = 8, .buffers_count = 2, .buffer_bytes = 256
};

/* RECV-08 to RECV-11, UTF-03, CTL-01: the same events for every cut. */
static void messages_come_whole_from_any_pieces(void **state)
{
    static const char *const cuts[] = { "cut 1; ", "cut 2; ", "cut 3; ", "cut 7; ", "cut whole; ", "" };
    (void)state;
    for (size_t i = 0; i < COUNT(cuts); i++) {
        char script[512], events[512];
        /* The raw part: a text in five fragments, its euro sign cut twice, with a Ping and a Pong between them. */
        snprintf(script, sizeof script, "%saccept; upgrade; text hello; binary ; text ; "
            "raw 0102c3a9 8901 70 0001e2 8a0178 000182"
                 " 0000 8001ac; big 300; pong unasked; raw 0200 8000; expect pong; " ENDED, cuts[i]);
        char big[301];
        for (size_t at = 0; at < 300; at++)
            big[at] = sim_pattern(at);
        snprintf(events, sizeof events,
            "open\nmessage text 5 hello\nmessage binary 0\nmessage text 0\nmessage text 5 \xC3\xA9\xE2\x82\xAC\n"
                 "message text 300 #%08x\nmessage binary 0\nclose 1000 clean\n", sim_hash(big, 300));
        const struct world_scene scene = { .name = cuts[i], .script = script, .events = events,
                                           .peer = REQUEST "pong 1 p\nclose 1000\nend\n" };
        world_play(&scene, 1);
    }
}

/* RECV-14 */
static void the_limits_of_a_message_hold_exactly(void **state)
{
    static const struct wsr_engine_options small = { .size = sizeof small, .message_max_bytes = 5, .fragments_max = 3 };
    static const struct world_scene scenes[] = {
        { .name = "size reached", .script = OPENED "text 12345; raw 010131 800432333435; " ENDED,
          .events = "open\nmessage text 5 12345\nmessage text 5 12345\nclose 1000 clean\n",
          .peer = REQUEST "close 1000\nend\n", .options = &small },
        { .name = "size passed", .script = OPENED "text 123456; expect fin; fin", .events = "open\n" FAILED,
          .peer = REQUEST "close 1009 *\nfin\nend\n", .stage = WSR_STAGE_OPEN, .options = &small },
        { .name = "size passed by fragments", .script = OPENED "raw 010131 00023233 8003343536; expect fin; fin",
          .events = "open\n" FAILED, .peer = REQUEST "close 1009 *\nfin\nend\n", .stage = WSR_STAGE_OPEN,
            .options = &small },
        { .name = "fragments reached", .script = OPENED "raw 0100 0000 8000; " ENDED,
          .events = "open\nmessage text 0\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n",
            .options = &small },
        { .name = "fragments passed", .script = OPENED "raw 0100 0000 0000 8000; expect fin; fin",
          .events = "open\n" FAILED,
          .peer = REQUEST "close 1008 *\nfin\nend\n", .stage = WSR_STAGE_OPEN, .options = &small },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

static void expect_numbers(struct world *world, unsigned count, const char *end)
{
    const char *at = world->log;
    char line[64];
    if (strncmp(at, "open\n", 5) != 0)
        world_fail(world, "no open");
    at += 5;
    for (unsigned i = 0; i < count; i++) {
        char number[16];
        snprintf(number, sizeof number, "%u", i);
        snprintf(line, sizeof line, "message text %zu %s\n", strlen(number), number);
        if (strncmp(at, line, strlen(line)) != 0)
            world_fail(world, "message %u of %u is lost or out of order", i, count);
        at += strlen(line);
    }
    if (strcmp(at, end) != 0)
        world_fail(world, "the end is not %s", end);
}

/* A consumer that looks in now and then: its own feed waits, nothing is lost, also not what came before the end
 * (EVT-10). */
static void a_lazy_consumer(struct world *world)
{
    static const char *const ends[][2] = {
        { ENDED, "close 1000 clean\n" }, { "fin", FAILED }, { "rst ECONNRESET", FAILED }
    };
    char script[128];
    unsigned end = (unsigned)(sim_seed(world->sim) % 3);
    snprintf(script, sizeof script, OPENED "texts 400; %s", ends[end][0]);
    sim_script(world->sim, script);
    world_connect(world);
    while (!world->sockets[0].closed) {
        if (sim_random(world->sim, 4) == 0)
            world_sleep(world, sim_random(world->sim, 100));
        world_run(world, sim_random(world->sim, 3));
        world_look(world);
    }
    expect_numbers(world, 400, ends[end][1]);
}

static void a_slow_consumer_loses_nothing(void **state)
{
    (void)state;
    world_each_seed(a_lazy_consumer, &tiny);
    world_each_seed(a_lazy_consumer, NULL);
}

/* MSG-06: a hold is what a blob is, bytes of a known length that nobody changes. Kept over many polls and given back in
 * any order, some never before the end. */
struct kept {
    struct wsr_hold *hold;
    const void *data;
    size_t len;
    uint32_t hash;
};

struct keeper {
    struct kept kept[512];
    unsigned count;
    unsigned keep_one_in;
};

static void release_one(struct world *world, struct keeper *keeper, unsigned at)
{
    struct kept *kept = &keeper->kept[at];
    if (sim_hash(kept->data, kept->len) != kept->hash)
        world_fail(world, "held memory changed");
    wsr_hold_release(kept->hold);
    keeper->kept[at] = keeper->kept[--keeper->count];
}

static void keep(struct world *world, unsigned index, const struct wsr_event *event)
{
    struct keeper *keeper = world->context;
    (void)index;
    if (event->type != WSR_EVENT_MESSAGE) {
        assert_null(wsr_event_hold(event));
        return;
    }
    if (sim_random(world->sim, keeper->keep_one_in) == 0 && keeper->count < COUNT(keeper->kept)) {
        struct wsr_hold *hold = wsr_event_hold(event);
        assert_int_equal(hold == NULL, event->len == 0);
        if (hold != NULL)
            keeper->kept[keeper->count++] =
                (struct kept){ hold, event->data, event->len, sim_hash(event->data, event->len) };
    }
    while (keeper->count > 0 && sim_random(world->sim, 3) == 0 && keeper->keep_one_in > 1)
        release_one(world, keeper, (unsigned)sim_random(world->sim, keeper->count));
}

static void a_keeper(struct world *world)
{
    struct keeper keeper = { .keep_one_in = 1 + (unsigned)sim_random(world->sim, 3) };
    sim_script(world->sim, OPENED "texts 150; big 1000; big 50; text ; texts 5; close 1000 bye; expect close; fin");
    world->react = keep;
    world->context = &keeper;
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 10);
    assert_int_equal(world->sockets[0].messages_count, 158);
    assert_non_null(strstr(world->log, "message text 1 4\nclose 1000 clean bye\n"));
    world_destroy_socket(world, 0);
    world_run(world, 10);
    while (keeper.count > 0)
        release_one(world, &keeper, (unsigned)sim_random(world->sim, keeper.count));
    world_run(world, 1);
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    assert_int_equal(statistics.buffers_lent, 0);
    assert_int_equal(statistics.loan_bytes, 0);
    assert_int_equal(sim_buffers_home(world->sim), statistics.buffers_count);
    assert_int_equal(statistics.messages_received, 158);
    assert_int_equal(statistics.messages_lent + statistics.messages_copied, 158);
}

static void held_messages_stay_and_block_nobody(void **state)
{
    (void)state;
    world_each_seed(a_keeper, &tiny);
    world_each_seed(a_keeper, NULL);
}

/* loan_max_bytes: receiving rests when copies fill it, and goes on when they come back. */
static bool six_came(struct world *world)
{
    return world->sockets[0].messages_count >= 6;
}

static void a_hoarder(struct world *world)
{
    struct keeper keeper = { .keep_one_in = 1 };
    sim_script(world->sim, OPENED "big 3000; big 3000; big 3000; big 3000; big 3000; big 3000; " ENDED);
    world->react = keep;
    world->context = &keeper;
    world_connect(world);
    world_run(world, 2000);
    unsigned before = world->sockets[0].messages_count;
    if (before < 1 || before > 4)
        world_fail(world, "%u messages of 3000 bytes came with loan_max_bytes 8000", before);
    while (!six_came(world)) {
        while (keeper.count > 0)
            release_one(world, &keeper, 0);
        world_run(world, 20);
    }
    while (keeper.count > 0)
        release_one(world, &keeper, 0);
    world_run_to_end(world);
    while (keeper.count > 0)
        release_one(world, &keeper, 0);
    assert_int_equal(world->sockets[0].messages_count, 6);
}

static void the_memory_of_copies_is_bounded(void **state)
{
    static const struct wsr_engine_options options = {
        .size = sizeof options, .buffers_count = 4, .buffer_bytes = 1024, .loan_max_bytes = 8000
    };
    (void)state;
    world_each_seed(a_hoarder, &options);
}

/* CTL-01, CTL-05 */
static void every_ping_is_answered_in_order(struct world *world)
{
    char want[512] = REQUEST;
    sim_script(world->sim, OPENED "pong 1; pings 10; ping ; ping 123456789 123456789 123456789 1234567; pong ; "
        "wait 20; " ENDED);
    world_connect(world);
    world_run_to_end(world);
    for (unsigned i = 0; i < 10; i++)
        snprintf(want + strlen(want), sizeof want - strlen(want), "pong 1 %u\n", i);
    snprintf(want + strlen(want), sizeof want - strlen(want), "%s",
        "pong 0\npong 37 123456789 123456789 123456789 1234567\nclose 1000\nend\n");
    world_expect_peer(world, 0, want);
    world_expect(world, "open\nclose 1000 clean\n");
}

static void pings(void **state)
{
    (void)state;
    world_each_seed(every_ping_is_answered_in_order, NULL);
}

/* CTL-03: 64 wait, then only the newest of the rest. Order holds, and the last Ping is answered. */
static void a_flood_of_pings_is_bounded(struct world *world)
{
    sim_script(world->sim, OPENED "stop; pings 500; wait 100; read; wait 100; " ENDED);
    world_connect(world);
    world_run_to_end(world);
    const char *log = sim_log(world->sim, 0);
    unsigned pongs = 0;
    long last = -1;
    for (const char *at = log; (at = strstr(at, "pong ")) != NULL; at += 5, pongs++) {
        long number = strtol(strchr(at + 5, ' ') + 1, NULL, 10);
        if (number <= last)
            world_fail(world, "Pong %ld comes after Pong %ld", number, last);
        last = number;
    }
    if (last != 499 || pongs < 64 || pongs > 66)
        world_fail(world, "%u Pongs came, the last is %ld", pongs, last);
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    assert_int_equal(statistics.pings_dropped, 500 - pongs);
}

static void ping_flood(void **state)
{
    (void)state;
    world_each_seed(a_flood_of_pings_is_bounded, NULL);
}

/* CTL-02: a Pong stands at the next frame boundary, before messages that wait. */
static void a_pong_overtakes_waiting_messages(struct world *world)
{
    sim_script(world->sim, OPENED "text go; slow 1000; wait 30; ping p; expect pong; read; expect close; "
        "close 1000; fin");
    world->on_message = "big 60000; big 60000; big 60000; big 60000; big 60000; big 60000; close 1000";
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 2 go\nclose 1000 clean\n");
    const char *log = sim_log(world->sim, 0);
    const char *pong = strstr(log, "pong 1 p\n");
    assert_non_null(pong);
    unsigned after = 0;
    for (const char *at = pong; (at = strstr(at, "text 60000")) != NULL; at++)
        after++;
    /* All six were launched at once; a short send gives the first boundary, at the latest after a few. */
    if (after == 0)
        world_fail(world, "the Pong came last:\n%s", log);
}

static void pong_order(void **state)
{
    (void)state;
    world_each_seed(a_pong_overtakes_waiting_messages, NULL);
}

/* EVT-17 */
static void silence_ends_nothing(struct world *world)
{
    sim_script(world->sim, OPENED "wait 1000000; text still here; " ENDED);
    world_connect(world);
    world_run(world, 999000);
    world_expect(world, "open\n");
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 10 still here\nclose 1000 clean\n");
    world_expect_peer(world, 0, REQUEST "close 1000\nend\n");     /* and no Ping of the engine's own */
}

static void silence(void **state)
{
    static const struct wsr_engine_options options = { .size = sizeof options, .wait = WSR_WAIT_BLOCK };
    (void)state;
    world_each_seed(silence_ends_nothing, &options);
}

/* Many sockets share two buffers and eight slots. */
static void a_crowd(struct world *world)
{
    sim_script(world->sim, OPENED "texts 30; big 2000; " ENDED);
    for (unsigned i = 0; i < 20; i++)
        world_connect(world);
    while (sim_random(world->sim, 20) != 0)
        world_run(world, sim_random(world->sim, 5));
    world_run_to_end(world);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(world->sockets[i].messages_count, 31);
}

static void a_crowd_shares_two_buffers(void **state)
{
    (void)state;
    world_each_seed(a_crowd, &tiny);
}

/* What is dropped, of a destroyed socket, makes room as what is taken does: a poll without a limit does not sleep
 * over it. */
static void dropped_events(struct world *world)
{
    sim_script(world->sim, OPENED "texts 40; " ENDED);
    world_connect(world);
    world_connect(world);
    while (world->sockets[0].messages_count + world->sockets[1].messages_count < 2 + sim_random(world->sim, 20))
        world_wait(world);
    unsigned victim = (unsigned)sim_random(world->sim, 2);
    if (world->sockets[1 - victim].closed)
        return;
    world_destroy_socket(world, victim);
    uint64_t start_ns = sim_now(world->sim);
    while (!world->sockets[1 - victim].closed)
        world_wait(world);
    assert_int_equal(world->sockets[1 - victim].messages_count, 40);
    assert_true(sim_now(world->sim) - start_ns < 1000000000);
}

static void dropped_events_make_room(void **state)
{
    (void)state;
    world_each_seed(dropped_events, &tiny);
}

/* MSG-01, EVT-13: every event says whose it is, and what it does not speak of is empty. */
static void check_fields(struct world *world, unsigned index, const struct wsr_event *event)
{
    assert_ptr_equal(event->socket, world->sockets[index].socket);
    bool is_message = event->type == WSR_EVENT_MESSAGE, is_close = event->type == WSR_EVENT_CLOSE;
    assert_true(is_message || event->kind == 0);
    assert_true(is_close || (event->code == 0 && event->was_clean == 0));
    assert_true(is_message || is_close || event->len == 0);
    if (is_message || event->type == WSR_EVENT_OPEN) {
        assert_string_equal(event->text, "");
        assert_int_equal(event->http_status, 0);
        assert_int_equal(event->system_errno, 0);
        assert_int_equal(event->stage, WSR_STAGE_NONE);
    }
    /* MSG-02: all messages came in one piece, and each is what the handler before has left. */
    static const enum wsr_binary_type before[] = { WSR_BLOB, WSR_ARRAYBUFFER, WSR_BLOB };
    unsigned at = world->sockets[index].messages_count - 1;
    if (!is_message)
        return;
    struct wsr_socket *socket = world->sockets[index].socket;
    if (world->dispatches || world->events_max == 1)
        assert_int_equal(wsr_socket_binary_type(socket), before[at]);
    assert_int_equal(event->kind, at == 1 ? WSR_TEXT : WSR_BINARY);
    assert_int_equal(event->len, 3);
    assert_memory_equal(bytes_of(event), at == 0 ? "abc" : at == 1 ? "def" : "ghi", 3);
    if (world->dispatches || world->events_max == 1)
        assert_int_equal(event->flags & WSR_EVENT_BLOB, at == 1 || before[at] != WSR_BLOB ? 0 : WSR_EVENT_BLOB);
    wsr_socket_set_binary_type(socket, at == 0 ? WSR_ARRAYBUFFER : WSR_BLOB);
}

static void events_of_two_sockets(struct world *world)
{
    sim_script(world->sim, OPENED "cork; binary abc; text def; binary ghi; uncork; wait 10; " ENDED);
    sim_script(world->sim, OPENED "cork; binary abc; text def; binary ghi; uncork; wait 10; raw 8300; expect fin; fin");
    world->react = check_fields;
    world_connect(world);
    world_connect(world);
    world_run_to_end(world);
    assert_int_equal(world->sockets[0].messages_count + world->sockets[1].messages_count, 6);
}

static void event_fields(void **state)
{
    (void)state;
    world_each_seed(events_of_two_sockets, NULL);
}

/* MSG-01 (origin), MSG-02 (default), MSG-03, MSG-04 */
static void message_fields(struct world *world)
{
    sim_script(world->sim, OPENED "binary abc; " ENDED);
    world_connect(world);
    struct wsr_socket *socket = world->sockets[0].socket;
    assert_int_equal(wsr_socket_binary_type(socket), WSR_BLOB);
    wsr_socket_set_binary_type(socket, WSR_ARRAYBUFFER);
    wsr_socket_set_binary_type(socket, (enum wsr_binary_type)7);
    assert_int_equal(wsr_socket_binary_type(socket), WSR_ARRAYBUFFER);
    assert_string_equal(wsr_socket_origin(socket), world_url(world, "ws://10.0.0.1:9001"));
    world_run_to_end(world);
    wsr_socket_set_binary_type(socket, WSR_BLOB);
    assert_int_equal(wsr_socket_binary_type(socket), WSR_BLOB);
}

static void binary_type_and_origin(void **state)
{
    (void)state;
    world_each_seed(message_fields, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_whole_from_any_pieces),
        cmocka_unit_test(the_limits_of_a_message_hold_exactly),
        cmocka_unit_test(a_slow_consumer_loses_nothing),
        cmocka_unit_test(held_messages_stay_and_block_nobody),
        cmocka_unit_test(the_memory_of_copies_is_bounded),
        cmocka_unit_test(pings),
        cmocka_unit_test(ping_flood),
        cmocka_unit_test(pong_order),
        cmocka_unit_test(silence),
        cmocka_unit_test(a_crowd_shares_two_buffers),
        cmocka_unit_test(dropped_events_make_room),
        cmocka_unit_test(event_fields),
        cmocka_unit_test(binary_type_and_origin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
