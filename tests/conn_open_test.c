/* engine/conn_open: from the constructor to OPEN, and every way of not getting there (semantics 1.4 to 1.6).
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define FAILED "error\nclose 1006 unclean\n"
#define ASKED "request GET /chat\nend\n"
#define ANSWER_HEAD "accept; expect request; http HTTP/1.1 101 Switching Protocols\r\n"

/* F2 */
static void a_refused_connection_is_error_and_1006(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "refused", .script = "refuse ECONNREFUSED", .events = FAILED, .peer = "", .stage = WSR_STAGE_CONNECT,
          .system_errno = ECONNREFUSED },
        { .name = "no route, late", .script = "refuse EHOSTUNREACH 3000", .events = FAILED, .peer = "",
          .least_ms = 3000,
          .stage = WSR_STAGE_CONNECT, .system_errno = EHOSTUNREACH },
        { .name = "unreachable", .script = "refuse ENETUNREACH", .events = FAILED, .peer = "",
          .stage = WSR_STAGE_CONNECT, .system_errno = ENETUNREACH },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

/* F4, HS-13 */
static void the_opening_limit_ends_every_stage(void **state)
{
    static const struct wsr_engine_options five = { .size = sizeof five, .open_timeout_ns = 5000000000u };
    static const struct world_scene scenes[] = {
        { .name = "connect never ends", .script = "silent", .events = FAILED, .peer = "", .least_ms = 30000,
          .stage = WSR_STAGE_CONNECT, .system_errno = ETIMEDOUT },
        { .name = "no answer", .script = "accept", .events = FAILED, .peer = ASKED, .least_ms = 30000,
          .stage = WSR_STAGE_UPGRADE, .system_errno = ETIMEDOUT },
        { .name = "half an answer", .script = ANSWER_HEAD, .events = FAILED, .peer = ASKED, .least_ms = 30000,
          .stage = WSR_STAGE_UPGRADE, .system_errno = ETIMEDOUT },
        { .name = "an answer that drips", .script = ANSWER_HEAD "; wait 9000; http Date: x\r\n; wait 9000; "
          "http Server: y\r\n; wait 9000; http A: b\r\n; wait 9000; http \r\n", .events = FAILED, .peer = ASKED,
          .least_ms = 30000, .stage = WSR_STAGE_UPGRADE, .system_errno = ETIMEDOUT },
        { .name = "interim answers without end", .script = "accept; expect request; "
          "http HTTP/1.1 100 A\r\n\r\n; wait 12000; http HTTP/1.1 100 B\r\n\r\n; wait 12000; "
          "http HTTP/1.1 100 C\r\n\r\n; wait 12000; http HTTP/1.1 100 D\r\n\r\n", .events = FAILED, .peer = ASKED,
          .least_ms = 30000, .stage = WSR_STAGE_UPGRADE, .system_errno = ETIMEDOUT },
        { .name = "half an answer, late connect", .script = "accept 29000; expect request; http HTTP/1.1 101 S",
          .events = FAILED, .peer = ASKED, .least_ms = 30000, .stage = WSR_STAGE_UPGRADE, .system_errno = ETIMEDOUT },
        { .name = "server takes no byte of the request", .script = "stop; accept", .events = FAILED, .peer = "end\n",
          .least_ms = 30000, .stage = WSR_STAGE_UPGRADE, .system_errno = ETIMEDOUT,
          .plain = "it is TLS that is stuck: conn_tls_test" },
        { .name = "an own limit", .script = "silent", .events = FAILED, .peer = "", .least_ms = 5000,
          .stage = WSR_STAGE_CONNECT, .system_errno = ETIMEDOUT, .options = &five },
        { .name = "answer just in time", .script = "accept 10000; expect request; wait 19000; http HTTP/1.1 101 S\r\n"
          "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: $ACCEPT\r\n\r\n; close 1000; "
              "expect close; fin",
          .events = "open\nclose 1000 clean\n", .peer = "request GET /chat\nclose 1000\nend\n", .least_ms = 29000 },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

/* F4 */
static void an_end_or_garbage_before_the_blank_line_fails(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "end at once", .script = "accept; fin", .events = FAILED, .peer = "*\nend\n",
          .stage = WSR_STAGE_UPGRADE },
        { .name = "end after the request", .script = "accept; expect request; fin", .events = FAILED, .peer = ASKED,
          .stage = WSR_STAGE_UPGRADE },
        { .name = "end within the answer", .script = ANSWER_HEAD "; fin", .events = FAILED, .peer = ASKED,
          .stage = WSR_STAGE_UPGRADE },
        { .name = "reset", .script = "accept; expect request; rst ECONNRESET", .events = FAILED, .peer = ASKED,
          .stage = WSR_STAGE_UPGRADE, .system_errno = ECONNRESET },
        { .name = "reset within the answer", .script = ANSWER_HEAD "; rst ECONNRESET", .events = FAILED, .peer = ASKED,
          .stage = WSR_STAGE_UPGRADE, .system_errno = ECONNRESET },
        { .name = "garbage", .script = "accept; expect request; http FOO BAR BAZ\r\n\r\n", .events = FAILED,
          .peer = ASKED,
          .stage = WSR_STAGE_UPGRADE },
        { .name = "garbage without an end", .script = "accept; expect request; raw 16030300010203040506070809",
          .events = FAILED, .peer = ASKED, .stage = WSR_STAGE_UPGRADE },
        { .name = "HTTP/1.0", .script = "accept; expect request; http HTTP/1.0 101 X\r\n\r\n", .events = FAILED,
          .peer = ASKED, .stage = WSR_STAGE_UPGRADE },
    };
    (void)state;
    world_play(scenes + 1, COUNT(scenes) - 1);
}

/* F5, F6: no Close frame, as nothing was established. The answer's rules themselves are in handshake_test. */
static void a_refused_upgrade_ends_without_a_close_frame(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "200", .script = "accept; expect request; http HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
          .events = FAILED, .peer = ASKED, .stage = WSR_STAGE_UPGRADE, .http_status = 200 },
        { .name = "301", .script = "accept; expect request; http HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n",
          .events = FAILED, .peer = ASKED, .stage = WSR_STAGE_UPGRADE, .http_status = 301 },
        { .name = "401", .script = "accept; expect request; http HTTP/1.1 401 Who\r\n\r\n; fin",
          .events = FAILED, .peer = ASKED, .stage = WSR_STAGE_UPGRADE, .http_status = 401 },
        { .name = "503 and reset", .script = "accept; expect request; http HTTP/1.1 503 Busy\r\n\r\n; wait 1; "
          "rst ECONNRESET",
          .events = FAILED, .peer = ASKED, .stage = WSR_STAGE_UPGRADE, .http_status = 503 },
        { .name = "wrong accept", .script = ANSWER_HEAD "Upgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", .events = FAILED, .peer = ASKED,
          .stage = WSR_STAGE_UPGRADE, .http_status = 101 },
        { .name = "a protocol that was not asked for", .script = "accept; upgrade Sec-WebSocket-Protocol: chat",
          .events = FAILED, .peer = ASKED, .stage = WSR_STAGE_UPGRADE, .http_status = 101 },
        { .name = "an extension that was not offered (PMD-24)",
          .script = "accept; upgrade Sec-WebSocket-Extensions: x-webkit-deflate-frame; text no",
          .events = FAILED, .peer = ASKED, .stage = WSR_STAGE_UPGRADE, .http_status = 101 },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

/* F7, CLOSE-06 */
static void close_at_once(struct world *world, const char *script, const char *steps)
{
    sim_script(world->sim, script);
    world_connect(world);
    world_do(world, 0, steps);
    assert_int_equal(wsr_socket_ready_state(world->sockets[0].socket), WSR_CLOSING);
    world_run_to_end(world);
    world_run(world, 100);
    world_expect(world, FAILED);
}

static void close_before_an_answer(struct world *world)
{
    close_at_once(world, "accept; upgrade; text no", "close");
}

static void close_before_any_server(struct world *world)
{
    close_at_once(world, "silent", "close 3000 x; close; close 1000");
}

static void close_while_connecting_is_error_and_1006_later(void **state)
{
    (void)state;
    world_each_seed(close_before_an_answer, NULL);
    world_each_seed(close_before_any_server, NULL);
}

/* F7: wherever the server is stuck, nobody waits for it, and no Close frame is sent. */
static void close_ends_a_stuck_opening_at_once(struct world *world)
{
    static const struct { const char *script, *peer; uint8_t stage; } cases[] = {
        { "silent", "", WSR_STAGE_CONNECT }, { "accept", ASKED, WSR_STAGE_UPGRADE },
        { "stop; accept", "end\n", WSR_STAGE_UPGRADE }, { ANSWER_HEAD, ASKED, WSR_STAGE_UPGRADE },
        { "accept; expect request; http HTTP/1.1 100 A\r\n\r\n", ASKED, WSR_STAGE_UPGRADE },
    };
    size_t at = sim_seed(world->sim) % COUNT(cases);
    if (world->way != WORLD_WS && at == 2)
        at = 3;                        /* it is TLS that is stuck then: conn_tls_test */
    sim_script(world->sim, cases[at].script);
    world_connect(world);
    world_run(world, 200);
    world_expect(world, "");
    uint64_t start_ns = sim_now(world->sim);
    world_do(world, 0, "close 3000 x");
    assert_int_equal(world->log_bytes, 0);
    world_run_to_end(world);
    assert_true(world->closed_ns - start_ns < 300000000);
    world_run(world, 100);
    world_expect(world, FAILED);
    world_expect_peer(world, 0, cases[at].peer);
    assert_int_equal(world->last_close.stage, cases[at].stage);
    assert_int_equal(sim_files_open(world->sim), 0);
}

static void close_while_stuck(void **state)
{
    (void)state;
    world_each_seed(close_ends_a_stuck_opening_at_once, NULL);
}

/* F7, EVT-19: close() at each moment of the opening, also when the 101 or the open event is there already. */
static void close_at_any_moment_of_the_opening_lets_no_open_through(struct world *world)
{
    sim_script(world->sim, "accept 2; upgrade; text no; close 1000; expect close; fin");
    world_connect(world);
    unsigned looks = (unsigned)(sim_seed(world->sim) % 30);
    for (unsigned i = 0; i < looks && world->log_bytes == 0; i++) {
        uint32_t max = world->events_max;
        if (sim_random(world->sim, 3) == 0)
            sim_pass(world->sim, sim_random(world->sim, 4000000));
        world->events_max = 1;
        world_look(world);
        world->events_max = max;
    }
    bool was_open = world->log_bytes > 0;
    world_do(world, 0, "close");
    assert_int_equal(wsr_socket_ready_state(world->sockets[0].socket),
                     world->sockets[0].closed ? WSR_CLOSED : WSR_CLOSING);
    world_run_to_end(world);
    world_run(world, 100);
    if (!was_open)
        world_expect(world, FAILED);
    assert_true(strstr(world->log, "message") == NULL || was_open);
}

static void close_while_opening(void **state)
{
    (void)state;
    world_each_seed(close_at_any_moment_of_the_opening_lets_no_open_through, NULL);
}

static bool saw_open(struct world *world)
{
    return world->sockets[0].opened;
}

static void protocol_is_set_before(struct world *world, unsigned index, const struct wsr_event *event)
{
    const struct wsr_socket *socket = world->sockets[index].socket;
    (void)event;
    assert_string_equal(wsr_socket_protocol(socket), "super.chat");
    assert_string_equal(wsr_socket_extensions(socket), "");
}

/* EVT-05, PROTO-06, RESP-09; PMD-01, PMD-10: what is offered, and that an answer without it agrees to "". */
static void the_protocol_is_known_from_open_to_the_end(struct world *world)
{
    static const char *const protocols[] = { "chat", "super.chat" };
    sim_script(world->sim, "accept; upgrade Sec-WebSocket-Protocol: super.chat; wait 5; close 1000; expect close; fin");
    world_connect_to(world, WORLD_URL, protocols, 2);
    assert_string_equal(wsr_socket_protocol(world->sockets[0].socket), "");
    world->react = protocol_is_set_before;
    world_run_until(world, saw_open);
    assert_non_null(strstr(sim_request(world->sim, 0), "\r\nSec-WebSocket-Protocol: chat, super.chat\r\n"));
    assert_non_null(strstr(sim_request(world->sim, 0),
                           "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"));
    world_run_to_end(world);
    assert_string_equal(wsr_socket_protocol(world->sockets[0].socket), "super.chat");
    assert_string_equal(wsr_socket_extensions(world->sockets[0].socket), "");
    assert_string_equal(wsr_socket_url(world->sockets[0].socket), world_url(world, WORLD_URL));
    world_expect(world, "open\nclose 1000 clean\n");
}

static void protocol(void **state)
{
    (void)state;
    world_each_seed(the_protocol_is_known_from_open_to_the_end, NULL);
}

/* EVT-19: both are open by now, as far as the engine knows. The first that is told closes the other, whose open event
 * waits behind its own. */
static void close_the_other(struct world *world, unsigned index, const struct wsr_event *event)
{
    unsigned other = 1 - index;
    if (event->type == WSR_EVENT_OPEN && wsr_socket_ready_state(world->sockets[other].socket) == WSR_CONNECTING)
        world_do(world, other, "close");
}

static void an_open_event_that_waits_is_not_told_after_close(struct world *world)
{
    sim_script(world->sim, "accept; expect request; wait 50; http HTTP/1.1 101 S\r\nUpgrade: websocket\r\n"
               "Connection: Upgrade\r\nSec-WebSocket-Accept: $ACCEPT\r\n\r\n; text no; wait 20; close 1000; "
               "expect close; fin");
    world->react = close_the_other;
    world_connect(world);
    world_connect(world);
    while (sim_connections(world->sim) < 2 || *sim_log(world->sim, 0) == '\0' || *sim_log(world->sim, 1) == '\0')
        world_look(world);
    world_sleep(world, 200);
    world_run_to_end(world);
    world_run(world, 100);
    for (unsigned i = 0; i < 2; i++) {
        if (world->sockets[i].opened == world->sockets[i].failed)
            world_fail(world, "socket %u", i);
    }
    assert_true(world->sockets[0].opened || world->sockets[1].opened);
}

static void open_event_after_close(void **state)
{
    (void)state;
    world_each_seed(an_open_event_that_waits_is_not_told_after_close, NULL);
}

#define KEYS_COUNT 8

/* HS-03: keys of 16 bytes, all different; no character of them is the same everywhere. */
static void every_connection_has_a_key_of_its_own(struct world *world)
{
    char keys[KEYS_COUNT][25];
    sim_script(world->sim, "accept; upgrade");
    for (unsigned i = 0; i < KEYS_COUNT; i++)
        world_connect(world);
    world_run(world, 100);
    for (unsigned i = 0; i < KEYS_COUNT; i++) {
        assert_true(world->sockets[i].opened);
        const char *key = strstr(sim_request(world->sim, i), "\r\nSec-WebSocket-Key: ");
        assert_non_null(key);
        snprintf(keys[i], sizeof keys[i], "%s", key + 21);
        assert_memory_equal(key + 21 + 22, "==\r\n", 4);
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(keys[i], keys[k]);
    }
    for (unsigned at = 0; at < 20; at++) {
        unsigned same = 0;
        while (same < KEYS_COUNT && keys[same][at] == keys[0][at])
            same++;
        assert_true(same < KEYS_COUNT);
    }
}

static void keys(void **state)
{
    (void)state;
    world_each_seed(every_connection_has_a_key_of_its_own, NULL);
}

/* HS-12, OQ-7: not one after the other, as RFC 6455 4.1 asks of browsers; the first one here never gets anywhere. */
static void sockets_to_one_address_connect_side_by_side(struct world *world)
{
    sim_script(world->sim, "silent");
    sim_script(world->sim, "accept; upgrade; close 1000; expect close; fin");
    unsigned stuck = world_connect(world), other = world_connect(world);
    world_run(world, 100);
    assert_int_equal(wsr_socket_ready_state(world->sockets[stuck].socket), WSR_CONNECTING);
    world_expect(world, "1: open\n1: close 1000 clean\n");
    assert_true(world->sockets[other].closed);
}

static void side_by_side(void **state)
{
    (void)state;
    world_each_seed(sockets_to_one_address_connect_side_by_side, NULL);
}

/* F8: the kernel has no memory, or no descriptor, for another connection. */
static void without_memory_for_a_connection(struct world *world)
{
    int system_errno = sim_random(world->sim, 2) == 0 ? ENOMEM : EMFILE;
    sim_script(world->sim, "accept; upgrade; close 1000; expect close; fin");
    sim_refuse_open(world->sim, 1, system_errno);
    world_connect(world);
    assert_int_equal(wsr_socket_ready_state(world->sockets[0].socket), WSR_CONNECTING);
    world_run_to_end(world);
    world_expect(world, FAILED);
    assert_int_equal(world->last_close.stage, WSR_STAGE_CONNECT);
    assert_int_equal(world->last_close.system_errno, system_errno);
    assert_int_equal(sim_connections(world->sim), 0);
    world_connect(world);
    world_run_to_end(world);
    assert_true(world->sockets[1].opened);
}

static void no_memory(void **state)
{
    (void)state;
    world_each_seed(without_memory_for_a_connection, NULL);
}

/* HS-10, SEND-01, BUF-08 */
static void nothing_can_be_sent_while_connecting(struct world *world)
{
    sim_script(world->sim, "accept 5; expect request; wait 20; upgrade; wait 5; close 1000; expect close; fin");
    sim_script(world->sim, "accept");
    world_connect(world);
    struct wsr_socket *socket = world->sockets[0].socket;
    for (unsigned i = 0; !world->sockets[0].opened; i++) {
        if (wsr_socket_ready_state(socket) == WSR_CONNECTING) {
            assert_int_equal(wsr_send(socket, WSR_TEXT, "early", 5), WSR_ERR_INVALID_STATE);
            assert_int_equal(wsr_socket_buffered_amount(socket), 0);
            assert_int_equal(wsr_socket_buffered_now(socket), 0);
        }
        if (i == 0)
            world_run(world, 2);
        world_run(world, 3);
        if (sim_connections(world->sim) > 0 && strlen(sim_log(world->sim, 0)) > 0)
            break;
    }
    world_destroy_socket(world, 0);
    world_run(world, 100);
    world_expect_peer(world, 0, ASKED);
}

static void no_sending_while_connecting(void **state)
{
    (void)state;
    world_each_seed(nothing_can_be_sent_while_connecting, NULL);
}

static void an_answer_byte_by_byte(struct world *world)
{
    sim_script(world->sim, "cut 1; accept; upgrade; text hello; binary ; ping x; close 1001 bye; expect close; fin");
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 5 hello\nmessage binary 0\nclose 1001 clean bye\n");
    /* The Pong may be overtaken by nothing, but a Close that is there already makes it pointless (CTL-04). */
    assert_true(strstr(sim_log(world->sim, 0), "close 1001\nend\n") != NULL);
}

/* RESP-02, RESP-12, RESP-13: interim answers, and everything at once or byte by byte. */
static void the_answer_may_come_in_any_pieces(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "101, message and Close in one segment", .script = "accept; expect request; cork; "
          "http HTTP/1.1 101 S\r\n"
          "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: $ACCEPT\r\n\r\n; text hello; "
          "text world; close 1001 bye; uncork; expect close; fin",
          .events = "open\nmessage text 5 hello\nmessage text 5 world\nclose 1001 clean bye\n",
          .peer = "request GET /chat\nclose 1001\nend\n" },
        { .name = "interim answers", .script = "accept; expect request; "
          "http HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n"
          "Link: x\r\n\r\n; http HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Accept: $ACCEPT\r\n\r\n; close; expect close; fin",
          .events = "open\nclose 1005 clean\n", .peer = "request GET /chat\nclose\nend\n" },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
    world_each_seed(an_answer_byte_by_byte, NULL);
}

/* RESP-02: sixteen interim answers pass, one more does not. */
static void interim_answers_are_counted(void **state)
{
    static const char interim[] = "http HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n; ";
    (void)state;
    for (unsigned count = 15; count <= 17; count++) {
        char script[2048];
        size_t at = (size_t)snprintf(script, sizeof script, "accept; expect request; ");
        for (unsigned i = 0; i < count; i++)
            at += (size_t)snprintf(script + at, sizeof script - at, "%s", interim);
        snprintf(script + at, sizeof script - at, "http HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: $ACCEPT\r\n\r\n; close; expect close; fin");
        const struct world_scene passes = { .name = "at most 16", .script = script,
                                            .events = "open\nclose 1005 clean\n",
                                            .peer = "request GET /chat\nclose\nend\n" };
        const struct world_scene fails = { .name = "17", .script = script, .events = FAILED, .peer = ASKED,
                                           .stage = WSR_STAGE_UPGRADE, .http_status = 103 };
        world_play(count <= 16 ? &passes : &fails, 1);
    }
}

static void counts_of_opened_and_failed(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    sim_script(world->sim, "accept; upgrade; close; expect close; fin");
    sim_script(world->sim, "refuse ECONNREFUSED");
    world_connect(world);
    world_run_to_end(world);
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 1);
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    assert_int_equal(statistics.sockets_opened, 1);
    assert_int_equal(statistics.sockets_failed, 1);
    assert_int_equal(statistics.sockets_live, 0);
    assert_string_equal(statistics.driver, "simulated");
}

static void statistics_count_what_opened_and_what_failed(void **state)
{
    (void)state;
    world_each_seed(counts_of_opened_and_failed, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_connection_is_error_and_1006),
        cmocka_unit_test(the_opening_limit_ends_every_stage),
        cmocka_unit_test(an_end_or_garbage_before_the_blank_line_fails),
        cmocka_unit_test(a_refused_upgrade_ends_without_a_close_frame),
        cmocka_unit_test(close_while_connecting_is_error_and_1006_later),
        cmocka_unit_test(close_while_stuck),
        cmocka_unit_test(close_while_opening),
        cmocka_unit_test(protocol),
        cmocka_unit_test(open_event_after_close),
        cmocka_unit_test(keys),
        cmocka_unit_test(side_by_side),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(no_sending_while_connecting),
        cmocka_unit_test(the_answer_may_come_in_any_pieces),
        cmocka_unit_test(interim_answers_are_counted),
        cmocka_unit_test(statistics_count_what_opened_and_what_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
