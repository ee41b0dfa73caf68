/* engine/conn_tls under the simulated driver, once it is open: many records in one buffer, consumers that are slow,
 * stop or go in the middle of them, what is counted as sent, and close_notify at each way of ending.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/bytes.h"
#include "tests/support/sim_tls.h"
#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MS 1000000ull
#define FAILED "error\nclose 1006 unclean\n"
#define OPENED "accept; early; tls; upgrade; "
#define REQUEST "hello - http/1.1\nsecured\nrequest GET /chat\n"
#define SEAL_BYTES (3 * 16384)   /* of engine/conn_tls.c */
#define WIRE_BYTES 8192          /* more than that is not added to a megabyte by handshake and records */

static bool is_open(struct world *world)
{
    return world->sockets[0].opened;
}

static struct wsr_socket *socket_of(struct world *world)
{
    return world->sockets[0].socket;
}

static struct wsr_engine_statistics statistics_of(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    return statistics;
}

static void expect_rest(struct world *world)
{
    struct wsr_engine_statistics s = statistics_of(world);
    assert_int_equal(s.sockets_live, 0);
    assert_int_equal(s.loan_bytes, 0);
    assert_int_equal(s.buffers_lent, 0);
    assert_int_equal(sim_files_open(world->sim), 0);
    assert_int_equal(sim_buffers_home(world->sim), s.buffers_count);
}

/* ---- close_notify ---- */

/* CLOSE-31: close_notify is the last word, behind our Close and before our FIN, whoever begins; nothing follows it.
 * The server's may come or not. */
static void close_notify_is_the_last_word(void **state)
{
    static const struct {
        const char *name, *script, *on_open, *events, *peer;
        uint64_t least_ms;
        uint8_t stage;
        int system_errno;
    } rows[] = {
        { "client first", "expect close; close 1000; expect close_notify; notify; fin", "close 1000",
          "open\nclose 1000 clean\n", "close 1000\nclose_notify\nend\n", 0, 0, 0 },
        { "client first, no notify from the server", "expect close; close 1000; expect close_notify; fin",
          "close 1000", "open\nclose 1000 clean\n", "close 1000\nclose_notify\nend\n", 0, 0, 0 },
        { "server first", "close 1000; expect close_notify; notify; fin", NULL, "open\nclose 1000 clean\n",
          "close 1000\nclose_notify\nend\n", 0, 0, 0 },
        { "server first, with its notify", "cork; close 1000; uncork; notify; expect close_notify; fin", NULL,
          "open\nclose 1000 clean\n", "close 1000\nclose_notify\nend\n", 0, 0, 0 },
        { "server first, no FIN", "close 1000; expect close_notify", NULL, "open\nclose 1000 clean\n",
          "close 1000\nclose_notify\nend\n", 2000, 0, 0 },
        { "server first, and it talks on", "close 1000; expect close_notify; update ask; ping x; wait 900; update ask; "
          "tickets 2; wait 900; update ask; text no; wait 900; update ask; ping y", NULL, "open\nclose 1000 clean\n",
          "close 1000\nclose_notify\nend\n", 2000, 0, 0 },
        { "a broken rule", "raw 8300; expect close_notify; expect fin; fin", NULL, "open\n" FAILED,
          "close 1002 *\nclose_notify\nfin\nend\n", 0, WSR_STAGE_OPEN, 0 },
        { "a broken rule, and new keys behind our FIN", "raw 8300; expect fin; update ask; update ask; wait 900; "
          "update ask; wait 900; update ask; wait 900; update ask", NULL, "open\n" FAILED,
          "close 1002 *\nclose_notify\nfin\nend\n", 2000, WSR_STAGE_OPEN, 0 },
        { "a Ping before the Close", "cork; ping x; close 1000; uncork; expect close_notify; fin", NULL,
          "open\nclose 1000 clean\n", "?pong 1 x\nclose 1000\nclose_notify\nend\n", 0, 0, 0 },
        { "a Ping between the Closes", "expect close; cork; ping x; close 1000; uncork; expect close_notify; fin",
          "close 1000", "open\nclose 1000 clean\n", "close 1000\npong 1 x\nclose_notify\nend\n", 0, 0, 0 },
        { "never answered", "expect close", "close 1000", "open\n" FAILED, "close 1000\nend\n", 30000,
          WSR_STAGE_CLOSING, ETIMEDOUT },
        { "the server's notify instead of an answer", "expect close; notify; wait 10; fin", "close 1000",
          "open\n" FAILED, "close 1000\nend\n", 0, WSR_STAGE_CLOSING, 0 },
        { "the server's notify out of nothing", "text a; notify; wait 10; fin", NULL,
          "open\nmessage text 1 a\n" FAILED, "end\n", 0, WSR_STAGE_OPEN, 0 },
        { "a notify that is not taken", "expect close; stop; close 1000; wait 10; fin", "close 1000",
          "open\nclose 1000 clean\n", "close 1000\nend\n", 10, 0, 0 },
        { "a notify that is not taken, and the server's, with more behind it", "expect close; stop; close 1000; "
          "notify; wait 30; wire 00; wait 30; wire 00; wait 30; wire 00; wait 30; wire 00; wait 30; wire 00; wait 30; "
          "wire 00; wait 30; wire 00; wait 30; wire 00", "close 1000", "open\nclose 1000 clean\n",
          "close 1000\nend\n", 50, 0, 0 },
        { "a notify that is not taken, no FIN", "expect close; stop; close 1000", "close 1000",
          "open\nclose 1000 clean\n", "close 1000\nend\n", 2000, 0, 0 },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char script[512], peer[256];
        snprintf(script, sizeof script, OPENED "%s", rows[i].script);
        snprintf(peer, sizeof peer, REQUEST "%s", rows[i].peer);
        const struct world_scene scene = {
            .name = rows[i].name, .script = script, .on_open = rows[i].on_open, .events = rows[i].events,
            .peer = peer, .least_ms = rows[i].least_ms, .stage = rows[i].stage, .system_errno = rows[i].system_errno,
        };
        world_play_wss(&scene, 1);
    }
}

/* F3, F10: records that cannot be opened, alerts, and an end in the middle of a record. What came before is told, our
 * alert leaves before TCP ends. After both Closes nothing matters any more (CLOSE-24, CLOSE-29). */
static void records_that_cannot_be_opened(void **state)
{
#define BROKEN "wire 1703030020 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
    static const struct {
        const char *name, *script, *on_open, *events, *peer, *word;
        uint64_t least_ms;
        uint8_t stage;
    } rows[] = {
        { "broken", "text a; text b; " BROKEN "; wait 10; fin", NULL, "open\nmessage text 1 a\nmessage text 1 b\n"
          FAILED, "alert 20\nend\n", "record", 0, WSR_STAGE_OPEN },
        { "too long", "text a; wire 170303ffff; wait 10; fin", NULL, "open\nmessage text 1 a\n" FAILED,
          "alert 22\nend\n", "", 0, WSR_STAGE_OPEN },
        { "no record", "wire 485454502f312e31; wait 10; fin", NULL, "open\n" FAILED, "alert *\nend\n", "", 0,
          WSR_STAGE_OPEN },
        { "broken in the answer", NULL, NULL, FAILED, "alert 20\nend\n", "", 0, WSR_STAGE_UPGRADE },
        { "broken, and nothing is taken", "stop; " BROKEN, NULL, "open\n" FAILED, "end\n", "record", 2000,
          WSR_STAGE_OPEN },
        { "a part of a record", "text a; wire 1703034000 0011; fin", NULL, "open\nmessage text 1 a\n" FAILED, "end\n",
          "without a Close frame", 0, WSR_STAGE_OPEN },
        { "broken while closing", "expect close; " BROKEN "; wait 10; fin", "close 1000", "open\n" FAILED,
          "close 1000\nalert 20\nend\n", "record", 0, WSR_STAGE_CLOSING },
        { "broken behind both Closes", "expect close; close 1000; expect close_notify; " BROKEN, "close 1000",
          "open\nclose 1000 clean\n", "close 1000\nclose_notify\nend\n", NULL, 0, 0 },
        { "broken behind a broken rule", "raw 8300; expect fin; " BROKEN "; wait 1000; fin", NULL, "open\n" FAILED,
          "close 1002 *\nclose_notify\nfin\nend\n", "", 1000, WSR_STAGE_OPEN },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char script[512], peer[256];
        snprintf(script, sizeof script, OPENED "%s", rows[i].script != NULL ? rows[i].script : "");
        if (rows[i].script == NULL)
            snprintf(script, sizeof script, "accept; early; tls; expect request; " BROKEN "; wait 10; fin");
        snprintf(peer, sizeof peer, REQUEST "%s", rows[i].peer);
        const struct world_scene scene = {
            .name = rows[i].name, .script = script, .on_open = rows[i].on_open, .events = rows[i].events,
            .peer = peer, .least_ms = rows[i].least_ms, .stage = rows[i].stage, .word = rows[i].word,
        };
        world_play_wss(&scene, 1);
    }
}

/* A fatal alert of the server's, with the suites of which the test can seal: alone, and behind both Closes. */
static void meet_an_alert(struct world *world)
{
    sim_speak_tls(world->sim, sim_tls_server((unsigned)sim_random(world->sim, SIM_TLS_SERVERS_COUNT - 1)));
    bool is_late = sim_random(world->sim, 2) == 0;
    sim_script(world->sim, is_late ? OPENED "update; close 1000; expect close_notify; alert 80"
                                   : OPENED "text a; update; text b; alert 80; wait 10; fin");
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 10);
    world_expect(world, is_late ? "open\nclose 1000 clean\n" : "open\nmessage text 1 a\nmessage text 1 b\n" FAILED);
    world_expect_peer(world, 0, is_late ? REQUEST "close 1000\nclose_notify\nend\n" : REQUEST "end\n");
    assert_true(is_late || strstr(world->last_close.text, "alert internal_error (80)") != NULL);
    assert_int_equal(world->last_close.stage, is_late ? WSR_STAGE_NONE : WSR_STAGE_OPEN);
    expect_rest(world);
}

static void an_alert_of_the_server(void **state)
{
    (void)state;
    world_each_wss_seed(meet_an_alert, NULL);
}

/* The application goes on calling while the alert waits to be taken. */
static void call_while_an_alert_waits(struct world *world)
{
    sim_script(world->sim, OPENED "stop; wait 5; " BROKEN "; wait 500; read");
    world_connect(world);
    world_run_until(world, is_open);
    bool closes = sim_seed(world->sim) % 2 == 0;
    world_run(world, 100);
    world_do(world, 0, "text late; big 100000");
    assert_int_equal(wsr_ping(socket_of(world), "p", 1), 0);
    if (closes)
        world_do(world, 0, "close 1000");
    world_run_to_end(world);
    world_run(world, 10);
    world_expect(world, "open\n" FAILED);
    world_expect_peer(world, 0, REQUEST "alert 20\nend\n");
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), 100004);
    expect_rest(world);
}

static void calls_while_an_alert_waits(void **state)
{
    (void)state;
    world_each_wss_seed(call_while_an_alert_waits, NULL);
}

/* ---- Many records in one buffer ---- */

#define MANY "cut whole; records 5; cork; texts 200; close 1000 bye; uncork; expect close; fin"

static const struct wsr_engine_options roomy = { .size = sizeof roomy, .buffers_count = 8, .buffer_bytes = 16384 };
static const struct wsr_engine_options few = { .size = sizeof few, .buffers_count = 8, .buffer_bytes = 16384,
                                               .events_count = 8, .loan_max_bytes = 1000 };

static void expect_texts(struct world *world, unsigned first, unsigned count)
{
    unsigned found = 0;
    for (unsigned i = first; i < first + count; i++) {
        char line[32];
        snprintf(line, sizeof line, "message text %d %u\n", i < 10 ? 1 : i < 100 ? 2 : 3, i);
        found += strstr(world->log, line) != NULL;
    }
    if (found != count || world->sockets[0].messages_count != count)
        world_fail(world, "%u messages of %u came, %u of them the right ones", world->sockets[0].messages_count, count,
                   found);
}

static void act_on_third(struct world *world, unsigned index, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_MESSAGE || world->sockets[index].messages_count != 3)
        return;
    world_do(world, index, world->context);
}

/* CLOSE-14, EVT-14: a handler ends its socket while records are left in the buffer that its message came in. */
static void end_on_third(struct world *world)
{
    bool destroys = sim_seed(world->sim) % 2 == 0;
    sim_script(world->sim, OPENED MANY);
    world->context = destroys ? (void *)"destroy" : (void *)"close 3000";
    world->react = act_on_third;
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 3000);
    expect_texts(world, 0, 3);
    if (destroys)
        world_expect(world, "open\nmessage text 1 0\nmessage text 1 1\nmessage text 1 2\n");
    else
        world_expect(world, "open\nmessage text 1 0\nmessage text 1 1\nmessage text 1 2\nclose 1000 clean bye\n");
    expect_rest(world);
}

static void ends_in_the_middle_of_a_buffer(void **state)
{
    (void)state;
    world_each_wss_seed(end_on_third, &roomy);
    world_each_wss_seed(end_on_third, &few);
}

static void pause_on_each_tenth(struct world *world, unsigned index, const struct wsr_event *event)
{
    if (event->type == WSR_EVENT_MESSAGE && world->sockets[index].messages_count % 10 == 0)
        assert_int_equal(wsr_pause(world->sockets[index].socket), 0);
}

/* Pausing holds up what is in the same buffer, but for what the ring has already, and loses none of it. */
static void pause_in_the_middle(struct world *world)
{
    sim_script(world->sim, OPENED MANY);
    world->react = pause_on_each_tenth;
    world_connect(world);
    world_run_until(world, is_open);
    unsigned pauses = 0;
    while (!world->sockets[0].closed) {
        world_run(world, 20);
        unsigned before = world->sockets[0].messages_count;
        world_run(world, 200);
        if (world->sockets[0].messages_count != before)
            world_fail(world, "%u messages came while paused", world->sockets[0].messages_count - before);
        assert_int_equal(wsr_resume(socket_of(world)), 0);
        pauses++;
    }
    assert_true(pauses > 1);
    expect_texts(world, 0, 200);
    world_run(world, 10);
    expect_rest(world);
}

static void pauses_in_the_middle_of_a_buffer(void **state)
{
    static const struct wsr_engine_options slots = { .size = sizeof slots, .buffers_count = 8, .buffer_bytes = 16384,
                                                     .events_count = 8 };
    (void)state;
    world_each_wss_seed(pause_in_the_middle, &slots);
}

/* A consumer that looks in now and then, with room for a few events and next to no copies: nothing is lost, and what is
 * lent stays within the limit and a record for each socket. */
static void look_in_now_and_then(struct world *world)
{
    sim_script(world->sim, OPENED "texts 30; records 0; cork; texts 400; uncork; bulk 5000; close 1000; "
               "expect close; fin");
    world_connect(world);
    world_connect(world);
    while (!world->sockets[0].closed || !world->sockets[1].closed) {
        if (sim_random(world->sim, 4) == 0)
            world_sleep(world, sim_random(world->sim, 50));
        world_run(world, sim_random(world->sim, 3));
        world_look(world);
        assert_in_range(statistics_of(world).loan_bytes, 0, 1000 + 2 * (32768 + 512));
    }
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(world->sockets[i].messages_count, 431);
    world_run(world, 10);
    expect_rest(world);
}

/* A message that is far larger than what may be lent comes all the same: what is being gathered does not count, also
 * where its first record begins with another message. */
static void gather_what_is_larger_than_the_limit(struct world *world)
{
    static const size_t sizes[] = { 300000, 200000, 100000, 40000 };
    static const unsigned record_bytes[] = { 0, 9000, 16384, 700 };
    char script[256], want[512] = "open\nmessage text 1 a\n", *bytes = malloc(sizes[0]);
    assert_non_null(bytes);
    for (size_t i = 0; i < sizes[0]; i++)
        bytes[i] = sim_pattern(i);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const char *kind = i % 2 == 0 ? "binary" : "text";
        snprintf(want + strlen(want), sizeof want - strlen(want), "message %s %zu #%08x\nmessage text 1 b\n", kind,
                 sizes[i], sim_hash(bytes, sizes[i]));
    }
    free(bytes);
    snprintf(want + strlen(want), sizeof want - strlen(want), "close 1000 clean\n");
    snprintf(script, sizeof script, OPENED "records %u; cork; text a; bulk 300000; text b; big 200000; text b; "
             "bulk 100000; text b; uncork; big 40000; text b; close 1000; expect close; fin",
             record_bytes[sim_random(world->sim, COUNT(record_bytes))]);
    sim_script(world->sim, script);
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, want);
    world_run(world, 10);
    expect_rest(world);
}

static void slow_consumers_lose_nothing(void **state)
{
    static const struct wsr_engine_options tiny = { .size = sizeof tiny, .buffers_count = 2, .buffer_bytes = 256,
                                                    .events_count = 8, .loan_max_bytes = 1000 };
    (void)state;
    world_each_wss_seed(look_in_now_and_then, &few);
    world_each_wss_seed(look_in_now_and_then, &tiny);
    world_each_wss_seed(gather_what_is_larger_than_the_limit, &few);
    world_each_wss_seed(gather_what_is_larger_than_the_limit, &tiny);
}

/* Held messages keep the memory in which their record lies, and change with nothing that comes later. */
struct keeper {
    struct wsr_hold *holds[500];
    const void *data[500];
    size_t len[500];
    uint32_t hash[500];
    unsigned count;
};

static void keep(struct world *world, unsigned index, const struct wsr_event *event)
{
    struct keeper *keeper = world->context;
    (void)index;
    if (event->type != WSR_EVENT_MESSAGE || event->data == NULL || sim_random(world->sim, 3) != 0)
        return;
    keeper->holds[keeper->count] = wsr_event_hold(event);
    assert_non_null(keeper->holds[keeper->count]);
    keeper->data[keeper->count] = event->data;
    keeper->len[keeper->count] = event->len;
    keeper->hash[keeper->count++] = sim_hash(event->data, event->len);
}

static void hold_messages(struct world *world)
{
    struct keeper keeper = { .count = 0 };
    sim_script(world->sim, OPENED "cut whole; records 40; cork; texts 150; uncork; records 0; cork; texts 100; "
               "big 3000; texts 9; uncork; update ask; texts 9; close 1000; expect close; fin");
    world->react = keep;
    world->context = &keeper;
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 10);
    assert_int_equal(world->sockets[0].messages_count, 269);
    world_destroy_socket(world, 0);
    world_run(world, 10);
    assert_in_range(keeper.count, 30, 200);
    if (world->way == WORLD_WSS_LIBRARY)
        assert_true(statistics_of(world).loan_bytes > 0);      /* the records that they lie in */
    for (unsigned i = 0; i < keeper.count; i++) {
        if (sim_hash(keeper.data[i], keeper.len[i]) != keeper.hash[i])
            world_fail(world, "held message %u changed", i);
        wsr_hold_release(keeper.holds[i]);
    }
    world_run(world, 1);
    expect_rest(world);
}

static void held_messages_stay(void **state)
{
    (void)state;
    world_each_wss_seed(hold_messages, NULL);
    world_each_wss_seed(hold_messages, &roomy);
}

/* ---- Sending ---- */

/* SEND-15, BUF-05: a megabyte each way past a peer that takes any number of bytes at a time. What counts as sent was
 * taken, but for what was sealed last. */
static void send_a_megabyte(struct world *world)
{
    const size_t mib = 1u << 20;
    static const char *const paces[] = { "slow 997", "slow 16385", "slow 65536", "slow 300000", "read" };
    char script[200], want[200];
    snprintf(script, sizeof script, OPENED "%s; echo; expect text; expect ping; expect close; close 1000; fin",
             paces[sim_seed(world->sim) % COUNT(paces)]);
    sim_script(world->sim, script);
    world_connect(world);
    world_run_until(world, is_open);
    char *text = malloc(mib);
    assert_non_null(text);
    for (size_t i = 0; i < mib; i++)
        text[i] = sim_pattern(i);
    uint32_t hash = sim_hash(text, mib);
    assert_int_equal(wsr_send(socket_of(world), WSR_TEXT, text, mib), 0);
    free(text);
    assert_int_equal(wsr_ping(socket_of(world), "p", 1), 0);
    uint64_t last = mib, fell = 0;
    while (world->sockets[0].messages_count == 0) {
        world_run(world, 1);
        uint64_t now = wsr_socket_buffered_now(socket_of(world));
        assert_true(now <= last);
        fell += now < last;
        last = now;
        /* The wire has a few bytes more for each record. */
        if (mib - now > sim_wire_taken(world->sim, 0))
            world_fail(world, "%llu bytes count as sent, %llu were taken", (unsigned long long)(mib - now),
                       (unsigned long long)sim_wire_taken(world->sim, 0));
        if (sim_wire_taken(world->sim, 0) < mib && now > mib - sim_wire_taken(world->sim, 0) + SEAL_BYTES + WIRE_BYTES)
            world_fail(world, "%llu bytes still count, %llu were taken", (unsigned long long)now,
                       (unsigned long long)sim_wire_taken(world->sim, 0));
    }
    assert_true(fell > 1 || sim_seed(world->sim) % COUNT(paces) >= 2);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), 0);
    snprintf(want, sizeof want, "open\nmessage text %zu #%08x\nclose 1000 clean\n", mib, hash);
    char *pong = strstr(world->log, "pong 1 p\n");
    assert_non_null(pong);
    memmove(pong, pong + 9, strlen(pong + 9) + 1);
    world->log_bytes -= 9;
    world_expect(world, want);
}

static void megabytes_go_both_ways(void **state)
{
    (void)state;
    world_each_wss_seed(send_a_megabyte, NULL);
}

/* BUF-05, BUF-07: a window of the wire closes over what is being sent, then the connection breaks. */
static void credit_what_was_taken(struct world *world)
{
    char script[128];
    uint64_t window = sim_random(world->sim, 60000);
    snprintf(script, sizeof script, OPENED "window %llu; wait 100; rst ECONNRESET", (unsigned long long)window);
    sim_script(world->sim, script);
    world->on_open = "big 1000; big 20000; big 30000; texts 50";
    world_connect(world);
    world_run_until(world, is_open);
    uint64_t before = sim_wire_taken(world->sim, 0);
    world_run(world, 50);
    const uint64_t total = 51000 + 90;
    uint64_t now = wsr_socket_buffered_now(socket_of(world)), taken = sim_wire_taken(world->sim, 0) - before;
    assert_true(total - now <= taken);
    assert_true(taken < total ? now >= total - taken : now <= SEAL_BYTES);
    world_run_to_end(world);
    world_run(world, 100);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), now);
    assert_int_equal(wsr_send(socket_of(world), WSR_TEXT, "abc", 3), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), now + 3);
    expect_rest(world);
}

static void what_is_credited_was_taken(void **state)
{
    (void)state;
    world_each_wss_seed(credit_what_was_taken, NULL);
}

/* Small messages of one turn share a record. */
static void coalesce(struct world *world)
{
    sim_speak_tls(world->sim, sim_tls_server(3));
    sim_script(world->sim, OPENED "expect close; close 1000; fin");
    world_connect(world);
    world_run_until(world, is_open);
    uint64_t before = sim_tls_link(world->sim, 0)->sequence_in;
    world_do(world, 0, "texts 100");
    world_run(world, 50);
    assert_int_equal(sim_tls_link(world->sim, 0)->sequence_in, before + 1);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
}

static void small_messages_share_a_record(void **state)
{
    (void)state;
    world_each_wss_seed(coalesce, NULL);
}

/* ---- Ends of everything ---- */

static const char *const states[] = {
    "silent", "stop; accept", "window 300; accept", "accept; early; expect hello; stop", "accept; expect request",
    OPENED "", OPENED "stop; texts 30", OPENED "texts 30; wire 1703030020 0011", OPENED "stop; " BROKEN,
    OPENED "close 1000; expect close", OPENED "expect close", OPENED "stop; close 1000", OPENED "slow 10; echo",
    OPENED "records 5; cork; texts 90; uncork; update ask; notify", OPENED "raw 8300; expect fin",
};

static void open_in_every_state(struct world *world)
{
    for (size_t i = 0; i < COUNT(states); i++)
        sim_script(world->sim, states[i]);
    world->on_open = "big 3000; text a";
    for (size_t i = 0; i < COUNT(states); i++)
        world_connect(world);
    world_run(world, sim_random(world->sim, 2) == 0 ? sim_random(world->sim, 3) : sim_random(world->sim, 100));
    for (unsigned i = 0; i < world->sockets_count; i++) {
        if (sim_random(world->sim, 4) == 0)
            world_do(world, i, sim_random(world->sim, 2) == 0 ? "close 1000" : "destroy");
    }
    world_run(world, sim_random(world->sim, 10));
}

/* world_close() sees that nothing is left. */
static void end_the_engine(struct world *world)
{
    open_in_every_state(world);
}

static void break_the_driver(struct world *world)
{
    struct wsr_event event;
    open_in_every_state(world);
    sim_break(world->sim, EBADF);
    while (wsr_poll(world->engine, 0, &event, 1, MS) >= 0)
        continue;
    assert_int_equal(wsr_engine_destroy(world->engine), 0);
    world->engine = NULL;
}

static void everything_ends_in_every_state(void **state)
{
    (void)state;
    world_each_wss_seed(end_the_engine, NULL);
    world_each_wss_seed(break_the_driver, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_notify_is_the_last_word),
        cmocka_unit_test(records_that_cannot_be_opened),
        cmocka_unit_test(an_alert_of_the_server),
        cmocka_unit_test(calls_while_an_alert_waits),
        cmocka_unit_test(ends_in_the_middle_of_a_buffer),
        cmocka_unit_test(pauses_in_the_middle_of_a_buffer),
        cmocka_unit_test(slow_consumers_lose_nothing),
        cmocka_unit_test(held_messages_stay),
        cmocka_unit_test(megabytes_go_both_ways),
        cmocka_unit_test(what_is_credited_was_taken),
        cmocka_unit_test(small_messages_share_a_record),
        cmocka_unit_test(everything_ends_in_every_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
