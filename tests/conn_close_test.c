/* engine/conn_close: the closing handshake from both sides, its limits, and failures after OPEN (semantics 1.6, 3).
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

/* F11, CLOSE-20, CLOSE-24, CLOSE-25, OQ-11, CTL-04, CTL-09; CLOSE-31: TCP ends when the server's FIN was read, or T2 is
 * over; CLOSE-13: no code is answered by no code. */
static void the_server_closes_first(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "code and reason", .script = OPENED "close 1000 bye; expect close; fin",
          .events = "open\nclose 1000 clean bye\n", .peer = REQUEST "close 1000\nend\n" },
        { .name = "no code", .script = OPENED "close; expect close; fin", .events = "open\nclose 1005 clean\n",
          .peer = REQUEST "close\nend\n" },
        { .name = "4999", .script = OPENED "close 4999; expect close; fin", .events = "open\nclose 4999 clean\n",
          .peer = REQUEST "close 4999\nend\n" },
        { .name = "byte order mark in the reason", .script = OPENED "close 1000 \xEF\xBB\xBF" "x; expect close; fin",
          .events = "open\nclose 1000 clean \xEF\xBB\xBF" "x\n", .peer = REQUEST "close 1000\nend\n" },
        { .name = "messages before it", .script = OPENED "text one; binary two; close 1001; expect close; fin",
          .events = "open\nmessage text 3 one\nmessage binary 3 two\nclose 1001 clean\n",
          .peer = REQUEST "close 1001\nend\n" },
        { .name = "data after it", .script = OPENED "cork; close 1000; text no; ping no; close 1001; "
          "raw ffffffff; uncork; "
          "expect close; text no; ping no; fin", .events = "open\nclose 1000 clean\n",
              .peer = REQUEST "close 1000\nend\n" },
        { .name = "an unfinished message before it", .script = OPENED "raw 01026162; close 1000; expect close; fin",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n" },
        { .name = "reset after both Closes", .script = OPENED "close 1000; expect close; rst ECONNRESET",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n" },
        /* CLOSE-29: our Close never left, so the end is not clean, whatever the server said. */
        { .name = "we cannot answer", .script = OPENED "stop; close 1000 bye",
          .events = "open\nerror\nclose 1006 unclean\n", .peer = "request GET /chat\nend\n", .least_ms = 30000,
          .stage = WSR_STAGE_CLOSING },
        { .name = "reset before we could answer",
          .script = OPENED "stop; cork; close 1000 bye; uncork; rst ECONNRESET",
          .events = "open\nerror\nclose 1006 unclean\n", .peer = "request GET /chat\nend\n",
          .stage = WSR_STAGE_CLOSING, .system_errno = ECONNRESET },
        { .name = "FIN right behind it", .script = OPENED "cork; close 1000; uncork; fin",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n" },
        { .name = "no FIN", .script = OPENED "close 1000; expect close", .events = "open\nclose 1000 clean\n",
          .peer = REQUEST "close 1000\nend\n", .least_ms = 2000 },
        { .name = "no FIN, and the server talks on", .script = OPENED "close 1000; expect close; text no; wait 900; "
          "ping no; wait 900; text no; wait 900; text no", .events = "open\nclose 1000 clean\n",
          .peer = REQUEST "close 1000\nend\n", .least_ms = 2000 },
        { .name = "late FIN", .script = OPENED "close 1000; expect close; wait 1500; fin",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n", .least_ms = 1500 },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

/* CLOSE-05, 07 to 10, 14, 15, 22, 23, 26 to 29; F12, OQ-9 */
static void the_client_closes_first(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "empty", .script = OPENED "expect close; close; fin", .on_open = "close",
          .events = "open\nclose 1005 clean\n", .peer = REQUEST "close\nend\n" },
        { .name = "code", .script = OPENED "expect close; close 1000; fin", .on_open = "close 1000",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n" },
        { .name = "the server's words win", .script = OPENED "expect close; close 4222 remote; fin",
          .on_open = "close 4111 local", .events = "open\nclose 4222 clean remote\n",
          .peer = REQUEST "close 4111 local\nend\n" },
        { .name = "reason without code", .script = OPENED "expect close; close 1000; fin", .on_open = "close 0 why",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000 why\nend\n" },
        { .name = "behind messages", .script = OPENED "expect close; close 1000; fin",
          .on_open = "text a; binary b; big 70000; close 3000",
          .events = "open\nclose 1000 clean\n",
            .peer = REQUEST "text 1 a\nbinary 1 b\ntext 70000 *\nclose 3000\nend\n" },
        { .name = "several times", .script = OPENED "expect close; close; fin",
          .on_open = "close 3000; close 3001; close",
          .events = "open\nclose 1005 clean\n", .peer = REQUEST "close 3000\nend\n" },
        { .name = "sends after it count and go nowhere", .script = OPENED "expect close; close; fin",
          .on_open = "text ab; close 1000; text cde; binary fghi", .events = "open\nclose 1005 clean\n",
          .peer = REQUEST "text 2 ab\nclose 1000\nend\n", .buffered = 7 },
        { .name = "a second late", .script = OPENED "expect close; wait 1000; close 1000; fin", .on_open = "close 1000",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n", .least_ms = 1000 },
        { .name = "messages on the way are not delivered", .script = OPENED "expect close; text no; ping x; "
          "binary no; wait 5; close 1000; fin",
          .on_open = "close 1000", .events = "open\nclose 1000 clean\n",
            .peer = REQUEST "close 1000\npong 1 x\nend\n" },
        { .name = "never answered", .script = OPENED, .on_open = "close 1000", .events = "open\n" FAILED,
          .peer = REQUEST "close 1000\nend\n", .least_ms = 30000, .stage = WSR_STAGE_CLOSING,
            .system_errno = ETIMEDOUT },
        { .name = "never answered, written after 20 s (CLOSE-27)", .script = OPENED "slow 1; expect close",
          .on_open = "big 20000; close 1000", .events = "open\n" FAILED,
          .peer = REQUEST "text 20000 *\nclose 1000\nend\n", .least_ms = 30000, .stage = WSR_STAGE_CLOSING,
            .system_errno = ETIMEDOUT },
        { .name = "never answered, and the server talks on (CLOSE-26)",
          .script = OPENED "expect close; text no; ping a; wait 10000; text no; ping b; wait 10000; ping c; wait 9000; "
          "ping d; wait 9000; ping e",
          .on_open = "close 1000", .events = "open\n" FAILED,
          .peer = REQUEST "close 1000\npong 1 a\npong 1 b\npong 1 c\npong 1 d\nend\n",
          .least_ms = 30000, .stage = WSR_STAGE_CLOSING, .system_errno = ETIMEDOUT },
        { .name = "never read (CLOSE-27)", .script = OPENED "stop", .on_open = "close 1000", .events = "open\n" FAILED,
          .peer = REQUEST "end\n", .least_ms = 30000, .stage = WSR_STAGE_CLOSING, .system_errno = ETIMEDOUT },
        { .name = "end without Close", .script = OPENED "expect close; fin", .on_open = "close 1000",
          .events = "open\n" FAILED, .peer = REQUEST "close 1000\nend\n", .stage = WSR_STAGE_CLOSING },
        { .name = "reset without Close", .script = OPENED "expect close; rst ECONNRESET", .on_open = "close 1000",
          .events = "open\n" FAILED, .peer = REQUEST "close 1000\nend\n", .stage = WSR_STAGE_CLOSING,
          .system_errno = ECONNRESET },
        { .name = "answered, no FIN", .script = OPENED "expect close; close 1000", .on_open = "close 1000",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n", .least_ms = 2000 },
        { .name = "answered, reset", .script = OPENED "expect close; close 1000; rst ECONNRESET",
          .on_open = "close 1000",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n" },
        { .name = "answered 29 s late", .script = OPENED "expect close; wait 29000; close 1000; fin",
          .on_open = "close 1000",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n", .least_ms = 29000 },
        { .name = "garbage instead of an answer", .script = OPENED "expect close; raw ffff; wait 3000; fin",
          .on_open = "close 1000",
          .events = "open\n" FAILED, .peer = REQUEST "close 1000\nfin\nend\n", .least_ms = 2000,
            .stage = WSR_STAGE_CLOSING },
        { .name = "bad Close instead of an answer", .script = OPENED "expect close; close 1005; expect fin; fin",
          .on_open = "close 1000", .events = "open\n" FAILED, .peer = REQUEST "close 1000\nfin\nend\n",
          .stage = WSR_STAGE_CLOSING },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

/* CLOSE-25, CLOSE-29, CTL-04: a Pong that waits behind our Close, for a server that takes no byte more of it, delays
 * nothing and makes no end unclean. */
static void a_pong_behind_our_close_holds_up_nothing(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "asked for after our Close", .script = OPENED "window 8; expect close; ping x; wait 5; close 1000; "
          "fin", .on_open = "close 1000", .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n",
          .plain = "the window counts bytes of the wire" },
        { .name = "the same, no FIN", .script = OPENED "window 8; expect close; ping x; wait 5; close 1000",
          .on_open = "close 1000", .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n",
          .least_ms = 2000,
          .plain = "the window counts bytes of the wire" },
        { .name = "taken, and the end behind it", .script = OPENED "expect close; wait 5; cork; ping x; close 1000; "
          "uncork; fin", .on_open = "close 1000", .events = "open\nclose 1000 clean\n",
          .peer = REQUEST "close 1000\npong 1 x\nend\n", .least_ms = 5 },
        { .name = "the same while ours is still leaving", .script = OPENED "stop; wait 10; cork; ping x; close 1000; "
          "uncork; fin; wait 10; read", .on_open = "close 1000", .events = "open\nclose 1000 clean\n",
          .peer = REQUEST "close 1000\npong 1 x\nend\n", .least_ms = 20 },
        { .name = "behind a message", .script = OPENED "stop; wait 5; ping x; wait 5; window 15; expect close; "
          "close 1000; fin", .on_open = "text a; close 1000", .events = "open\nclose 1000 clean\n",
          .peer = REQUEST "text 1 a\nclose 1000\nend\n",
          .plain = "the window counts bytes of the wire" },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

/* The limits can be set; CLOSE-26 */
static void the_limits_of_closing_can_be_set(void **state)
{
    static const struct wsr_engine_options options = {
        .size = sizeof options, .close_timeout_ns = 4000000000u, .fin_timeout_ns = 500000000u
    };
    static const struct world_scene scenes[] = {
        { .name = "close limit", .script = OPENED, .on_open = "close 1000", .events = "open\n" FAILED,
          .peer = REQUEST "close 1000\nend\n", .least_ms = 4000, .stage = WSR_STAGE_CLOSING, .system_errno = ETIMEDOUT,
          .options = &options },
        { .name = "FIN limit", .script = OPENED "close 1000; expect close", .events = "open\nclose 1000 clean\n",
          .peer = REQUEST "close 1000\nend\n", .least_ms = 500, .options = &options },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

/* F10, OQ-1 */
static void an_end_without_a_close_frame_is_error_and_1006(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "FIN", .script = OPENED "fin", .events = "open\n" FAILED, .peer = REQUEST "end\n",
          .stage = WSR_STAGE_OPEN },
        { .name = "reset", .script = OPENED "rst ECONNRESET", .events = "open\n" FAILED, .peer = REQUEST "end\n",
          .stage = WSR_STAGE_OPEN, .system_errno = ECONNRESET },
        { .name = "timed out", .script = OPENED "text a; wait 3; rst ETIMEDOUT",
          .events = "open\nmessage text 1 a\n" FAILED,
          .peer = REQUEST "end\n", .stage = WSR_STAGE_OPEN, .system_errno = ETIMEDOUT },
        { .name = "FIN behind messages", .script = OPENED "text a; text b; text c; fin",
          .events = "open\nmessage text 1 a\nmessage text 1 b\nmessage text 1 c\n" FAILED, .peer = REQUEST "end\n",
          .stage = WSR_STAGE_OPEN },
        { .name = "reset behind messages", .script = OPENED "text a; text b; rst ECONNRESET",
          .events = "open\nmessage text 1 a\nmessage text 1 b\n" FAILED, .peer = REQUEST "end\n",
          .stage = WSR_STAGE_OPEN, .system_errno = ECONNRESET },
        { .name = "FIN within a frame", .script = OPENED "raw 8105; text a; fin", .events = "open\n*\n" , .peer = "", },
        { .name = "FIN within a header", .script = OPENED "raw 827e; fin", .events = "open\n" FAILED,
          .peer = REQUEST "end\n",
          .stage = WSR_STAGE_OPEN },
        { .name = "FIN between fragments", .script = OPENED "raw 010161; raw 000162; fin", .events = "open\n" FAILED,
          .peer = REQUEST "end\n", .stage = WSR_STAGE_OPEN },
    };
    (void)state;
    world_play(scenes, 5);
    world_play(scenes + 6, 2);
}

/* F9, CLOSE-13, CLOSE-30, CLOSE-31, RECV-13, CTL-08: Close with the rule's code, FIN, and the server's end is awaited
 * for T2 at most. */
static void a_broken_rule_sends_close_and_is_error_and_1006(void **state)
{
    static const struct { const char *name, *raw; int code; } rules[] = {
        { "RSV1 (RECV-01)", "c10161", 1002 }, { "RSV2", "a10161", 1002 }, { "RSV3", "910161", 1002 },
        { "opcode 3 (RECV-02)", "8300", 1002 }, { "opcode 11", "8b00", 1002 },
        { "masked (RECV-03)", "81810000000061", 1002 }, { "length 16 not minimal (RECV-04)", "817e0001", 1002 },
        { "length 64 not minimal", "827f000000000000ffff", 1002 },
        { "length 63 bits (RECV-05)", "827fffffffffffffffff", 1002 },
        { "too big (RECV-05)", "827f0000000008000001", 1009 },
        { "long Ping (RECV-06)", "897e007e", 1002 }, { "fragmented Ping", "0900", 1002 },
        { "lone continuation (RECV-07)", "8000", 1002 }, { "text within a message", "010161 810162", 1002 },
        { "not UTF-8 (UTF-01)", "8102c328", 1007 }, { "not UTF-8, fail fast (UTF-02)", "817e0400ff", 1007 },
        { "ends within a sequence (UTF-04)", "8101c3", 1007 },
        { "Close of one byte (CTL-07)", "880103", 1002 }, { "Close 1005", "880203ed", 1002 },
        { "Close 5000", "88021388", 1002 }, { "Close with a reason that is not UTF-8", "880303e8ff", 1007 },
    };
    static const struct { const char *after, *peer; unsigned least_ms; } ends[] = {
        { "expect fin; fin", "fin\nend\n", 0 }, { "", "fin\nend\n", 2000 }, { "expect close; gone", "?fin\nend\n", 0 },
        { "expect fin; text no; ping no; close 1000; fin", "fin\nend\n", 0 },
        { "expect fin; rst ECONNRESET", "fin\nend\n", 0 },
        { "expect fin; text no; wait 900; ping no; wait 900; raw 8300; wait 900; text no", "fin\nend\n", 2000 },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rules); i++) {
        for (size_t end = 0; end < COUNT(ends); end++) {
            char script[256], peer[256];
            snprintf(script, sizeof script, OPENED "text a; raw %s; text no; ping no; close 1000; %s",
                rules[i].raw, ends[end].after);
            snprintf(peer, sizeof peer, REQUEST "close %d *\n%s", rules[i].code, ends[end].peer);
            const struct world_scene scene = {
                .name = rules[i].name, .script = script, .events = "open\nmessage text 1 a\n" FAILED, .peer = peer,
                .stage = WSR_STAGE_OPEN, .least_ms = ends[end].least_ms,
            };
            world_play(&scene, 1);
        }
    }
}

/* RECV-01 to 06: judged by the frame's header, by two bytes of it where they say it; its payload never comes. */
static void a_broken_rule_is_seen_in_the_first_bytes(void **state)
{
    static const struct { const char *name, *raw; int code; } rules[] = {
        { "RSV1", "c105", 1002 }, { "RSV2", "a105", 1002 }, { "RSV3", "9105", 1002 },
        { "RSV1 of a Ping", "c905", 1002 },
        { "opcode 3", "8305", 1002 }, { "opcode 7", "0705", 1002 }, { "opcode 11", "8b05", 1002 },
        { "opcode 15", "8f05", 1002 },
        { "fragmented Ping", "0905", 1002 }, { "fragmented Close", "0805", 1002 },
        { "long Ping", "897e", 1002 }, { "long Close", "887f", 1002 },
        { "masked", "818501020304", 1002 },
        { "length 16 not minimal", "827e007d", 1002 }, { "length 64 not minimal", "827f000000000000ffff", 1002 },
        { "length 63 bits", "827f8000000000000000", 1002 }, { "too big", "827f0000000008000001", 1009 },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rules); i++) {
        char script[128], peer[128];
        snprintf(script, sizeof script, OPENED "raw %s; expect fin; fin", rules[i].raw);
        snprintf(peer, sizeof peer, REQUEST "close %d *\nfin\nend\n", rules[i].code);
        const struct world_scene scene = { .name = rules[i].name, .script = script, .events = "open\n" FAILED,
                                           .peer = peer, .stage = WSR_STAGE_OPEN };
        world_play(&scene, 1);
    }
}

/* RECV-12, EVT-08: what handlers of earlier messages answer goes out before the failing Close; also when the frames
 * came in one segment. */
static void answers_before_a_close(struct world *world)
{
    sim_script(world->sim, OPENED "cork; text a; text b; ping p; raw ff00; text no; uncork; expect fin; fin");
    world->on_message = "text answer";
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 a\nmessage text 1 b\n" FAILED);
    const char *log = sim_log(world->sim, 0);
    const char *first = strstr(log, "text 6 answer\n");
    const char *close = strstr(log, "close 1002 ");
    const char *second = first == NULL ? NULL : strstr(first + 1, "text 6 answer\n");
    if (second == NULL || close == NULL || close < second || strstr(log, "pong 1 p\n") == NULL)
        world_fail(world, "the peer saw:\n%s", log);
}

static void answers_leave_before_a_failing_close(void **state)
{
    (void)state;
    world_each_seed(answers_before_a_close, NULL);
}

/* Send @messages to a server that takes 100 bytes, closes, and then takes the rest. Returns what it saw, up to our
 * Close. */
static const char *send_until_closed(struct world *world, const char *messages)
{
    sim_script(world->sim, "accept; upgrade; text go; window 100; wait 50; close 1000; wait 50; read; "
        "expect close; fin");
    world->on_message = messages;
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 2 go\nclose 1000 clean\n");
    const char *log = sim_log(world->sim, 0);
    assert_non_null(strstr(log, "close 1000\nend\n"));
    return log;
}

/* CLOSE-20, OQ-10, BUF-07: what had not begun to leave is dropped and counted for ever. */
static void unsent_messages_are_dropped_when_the_server_closes(struct world *world)
{
    const char *log = send_until_closed(world, "big 60000; big 50000; text last");
    const struct wsr_socket *socket = world->sockets[0].socket;
    uint64_t left = wsr_socket_buffered_amount(socket);
    uint64_t arrived = (strstr(log, "text 60000") != NULL ? 60000 : 0) + (strstr(log,
        "text 50000") != NULL ? 50000 : 0) +
                       (strstr(log, "text 4 last") != NULL ? 4 : 0);
    if (left + arrived != 110004)
        world_fail(world, "bufferedAmount is %llu; the peer saw:\n%s", (unsigned long long)left, log);
    assert_int_equal(wsr_send(world->sockets[0].socket, WSR_TEXT, "xyz", 3), 0);
    world_run(world, 1000);
    assert_int_equal(wsr_socket_buffered_amount(socket), left + 3);
}

/* CLOSE-20: the kernel was given the large message; those behind never leave, and the Close does. */
static void what_the_kernel_was_not_given_is_dropped(struct world *world)
{
    const char *log = send_until_closed(world, "big 300000; texts 400");
    assert_null(strstr(log, "text 1 0\n"));
    assert_null(strstr(log, "text 3 399\n"));
    assert_true(wsr_socket_buffered_amount(world->sockets[0].socket) > 0);
}

/* The same when it took a part of many small messages that lay together: those that had not begun are dropped then. */
static unsigned dropped_count;
static void what_landed_short_is_cut_behind_its_frame(struct world *world)
{
    const char *log = send_until_closed(world, "texts 400");
    bool is_dropped = strstr(log, "text 3 399\n") == NULL;
    assert_true((wsr_socket_buffered_amount(world->sockets[0].socket) > 0) == is_dropped);
    dropped_count += is_dropped;
}

static void dropped_messages_stay_counted(void **state)
{
    (void)state;
    /* The window counts bytes of the wire. */
    world_each_plain_seed(what_landed_short_is_cut_behind_its_frame, NULL);
    assert_true(dropped_count > 0 || !world_has_seed(WORLD_WS, world_seeds_first()));
    world_each_seed(what_the_kernel_was_not_given_is_dropped, NULL);
    world_each_seed(unsent_messages_are_dropped_when_the_server_closes, NULL);
}

/* SEND-13, SEND-14: an application that goes on sending through a failure. The Close is the last frame of all; what
 * came too late for it is counted for ever (BUF-07). */
static void sends_around_a_failure(struct world *world)
{
    sim_script(world->sim, OPENED "wait 200; raw 8300; expect fin; wait 200; fin");
    world_connect(world);
    struct wsr_socket *socket = world->sockets[0].socket;
    unsigned sent = 0, arrived = 0;
    while (!world->sockets[0].closed) {
        if (world->sockets[0].opened) {
            assert_int_equal(wsr_send(socket, WSR_TEXT, "abc", 3), 0);
            sent++;
        }
        world_run(world, 1);
    }
    world_expect(world, "open\n" FAILED);
    const char *log = sim_log(world->sim, 0), *close = strstr(log, "close 1002 ");
    if (close == NULL || strcmp(close + strcspn(close, "\n"), "\nfin\nend\n") != 0)
        world_fail(world, "the peer saw:\n%s", log);
    for (const char *at = log; (at = strstr(at, "text 3 abc\n")) != NULL; at++)
        arrived++;
    if (arrived == 0 || arrived >= sent)
        world_fail(world, "%u of %u arrived, the peer saw:\n%s", arrived, sent, log);
    assert_int_equal(wsr_socket_buffered_amount(socket), 3 * (sent - arrived));
}

static void sending_through_a_failure(void **state)
{
    (void)state;
    world_each_seed(sends_around_a_failure, NULL);
}

/* CLOSE-12, CLOSE-23: close() at any moment around the server's Close. One Close frame, one clean end. */
static void close_meets_the_servers_close(struct world *world)
{
    sim_script(world->sim, "accept; upgrade; wait 10; text a; close 4000 peer; expect close; wait 1; fin");
    world_connect(world);
    while (!world->sockets[0].opened)
        world_look(world);
    uint64_t until_ns = sim_now(world->sim) + sim_random(world->sim, 12000000);
    while (sim_now(world->sim) < until_ns && !world->sockets[0].closed)
        world_look(world);
    if (sim_random(world->sim, 3) == 0)
        world_sleep(world, 30);
    world_do(world, 0, "close 3000");
    world_run_to_end(world);
    const char *end = strstr(world->log, "close 4000 clean peer\n");
    if (end == NULL)
        world_fail(world, "no clean end");
    const char *log = sim_log(world->sim, 0);
    if (strstr(log, "close 3000\nend") == NULL && strstr(log, "close 4000\nend") == NULL)
        world_fail(world, "the peer saw:\n%s", log);
}

static void close_frames_cross(void **state)
{
    (void)state;
    world_each_seed(close_meets_the_servers_close, NULL);
}

/* CLOSE-21, CTL-10: OPEN for the messages, then CLOSING, then CLOSED with the event. */
static void ready_state_follows_the_servers_close(struct world *world)
{
    sim_script(world->sim, "accept; upgrade; text a; close 1000; expect close; wait 50; fin");
    world_connect(world);
    const struct wsr_socket *socket = world->sockets[0].socket;
    world_run(world, 20);
    world_expect(world, "open\nmessage text 1 a\n");
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
    world_run_to_end(world);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
}

static void closing_becomes_visible(void **state)
{
    (void)state;
    world_each_seed(ready_state_follows_the_servers_close, NULL);
}

/* CLOSE-14, EVT-07: close() in the first message's handler keeps back all that were parsed already. */
static void close_in_a_handler_keeps_back_later_messages(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "one segment", .script = OPENED "cork; texts 20; uncork; expect close; close 1000; fin",
          .on_message = "close 1000", .events = "open\nmessage text 1 0\nclose 1000 clean\n",
          .peer = REQUEST "close 1000\nend\n" },
        { .name = "with the server's Close behind", .script = OPENED "cork; texts 5; close 1001; uncork; "
          "expect close; fin",
          .on_message = "close 3001", .events = "open\nmessage text 1 0\nclose 1001 clean\n",
          .peer = REQUEST "close 1001\nend\n" },
        { .name = "in onopen (EVT-09)", .script = OPENED "texts 5; expect close; close 1000; fin",
          .on_open = "close 1000",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\nend\n" },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

static void close_again(struct world *world, unsigned index, const struct wsr_event *event)
{
    if (event->type == WSR_EVENT_ERROR || event->type == WSR_EVENT_CLOSE) {
        assert_int_equal(wsr_close(world->sockets[index].socket, 1000, NULL, 0), 0);
        assert_int_equal(wsr_close(world->sockets[index].socket, 1001, NULL, 0), WSR_ERR_INVALID_ACCESS);
        assert_int_equal(wsr_send(world->sockets[index].socket, WSR_BINARY, "abc", 3), 0);
    }
}

/* EVT-08, EVT-09, CLOSE-03, CLOSE-05, SEND-03 */
static void calls_in_onerror_and_onclose_do_nothing_but_count(struct world *world)
{
    sim_script(world->sim, "accept; upgrade; fin");
    world->react = close_again;
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 5000);
    world_expect(world, "open\n" FAILED);
    world_expect_peer(world, 0, REQUEST "end\n");
    assert_int_equal(wsr_socket_buffered_amount(world->sockets[0].socket), 6);
    assert_int_equal(wsr_socket_ready_state(world->sockets[0].socket), WSR_CLOSED);
}

static void late_calls(void **state)
{
    (void)state;
    world_each_seed(calls_in_onerror_and_onclose_do_nothing_but_count, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_server_closes_first),
        cmocka_unit_test(the_client_closes_first),
        cmocka_unit_test(a_pong_behind_our_close_holds_up_nothing),
        cmocka_unit_test(the_limits_of_closing_can_be_set),
        cmocka_unit_test(an_end_without_a_close_frame_is_error_and_1006),
        cmocka_unit_test(a_broken_rule_sends_close_and_is_error_and_1006),
        cmocka_unit_test(a_broken_rule_is_seen_in_the_first_bytes),
        cmocka_unit_test(answers_leave_before_a_failing_close),
        cmocka_unit_test(dropped_messages_stay_counted),
        cmocka_unit_test(sending_through_a_failure),
        cmocka_unit_test(close_frames_cross),
        cmocka_unit_test(closing_becomes_visible),
        cmocka_unit_test(close_in_a_handler_keeps_back_later_messages),
        cmocka_unit_test(late_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
