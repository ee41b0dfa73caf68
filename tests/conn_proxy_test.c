/* engine/conn_proxy: through a proxy to OPEN, and every way of not getting there. The simulated peer is the proxy and,
 * once the tunnel stands, the server. What the proxies' answers mean is in proxy_test.
 * SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define FAILED "error\nclose 1006 unclean\n"
#define NAME_URL "ws://server.example/chat"

#define THROUGH(text) { .size = sizeof (struct wsr_socket_options), .proxy = text }
static const struct wsr_socket_options http = THROUGH("http://10.0.0.9:3128");
static const struct wsr_socket_options http_known = THROUGH("http://Aladdin:open%20sesame@10.0.0.9:3128");
static const struct wsr_socket_options socks = THROUGH("socks5://10.0.0.9:1080");
static const struct wsr_socket_options socks_known = THROUGH("socks5://user:pass%20word@10.0.0.9:1080");
static const struct wsr_socket_options socks_names = THROUGH("socks5h://10.0.0.9:1080");

#define HTTP_OK "http HTTP/1.1 200 Connection established\r\n\r\n"
#define SOCKS_OK "raw 05000001 7f000001 1234"
#define TO_HTTP "accept; expect connect; " HTTP_OK "; "
#define TO_SOCKS "accept; expect greeting; raw 0500; expect connect; " SOCKS_OK "; "
#define TO_SOCKS_KNOWN "accept; expect greeting; raw 0502; expect credentials; raw 0100; expect connect; " SOCKS_OK "; "
#define SERVE "upgrade; expect text; text world; expect close; close 1000; fin"
#define SERVED "open\nmessage text 5 world\nclose 1000 clean\n"
#define SAID "request GET /chat\ntext 5 hello\nclose 1000\nend\n"

#define ASKED_HTTP "connect 10.0.0.1:9001\n"
#define ASKED_SOCKS "greeting 00\nconnect 10.0.0.1 9001\n"
#define ASKED_KNOWN "greeting 00 02\ncredentials user pass word\nconnect 10.0.0.1 9001\n"
#define AUTHORIZED " Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\n"

/* URL-33: the request is the URL's, whoever carries it. */
static void a_tunnel_leads_to_open(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "CONNECT", .script = TO_HTTP SERVE, .peer = ASKED_HTTP SAID, .socket_options = &http },
        { .name = "CONNECT, credentials", .script = TO_HTTP SERVE, .peer = "connect 10.0.0.1:9001" AUTHORIZED SAID,
          .socket_options = &http_known },
        { .name = "CONNECT, a name", .script = TO_HTTP SERVE, .peer = "connect server.example:80\n" SAID,
          .url = NAME_URL, .socket_options = &http },
        { .name = "CONNECT, IPv6", .script = TO_HTTP SERVE, .peer = "connect [2001:db8::1]:80\n" SAID,
          .url = "ws://[2001:DB8::0:1]/chat", .socket_options = &http },
        { .name = "CONNECT, byte by byte", .script = "cut 1; " TO_HTTP SERVE, .peer = ASKED_HTTP SAID,
          .socket_options = &http },
        { .name = "CONNECT, HTTP/1.0 and interim answers", .script = "accept; expect connect; http HTTP/1.1 100 C\r\n"
          "\r\n; wait 5; http HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n; " SERVE, .peer = ASKED_HTTP SAID,
          .socket_options = &http, .least_ms = 5 },
        { .name = "SOCKS5", .script = TO_SOCKS SERVE, .peer = ASKED_SOCKS SAID, .socket_options = &socks },
        { .name = "SOCKS5, byte by byte", .script = "cut 1; " TO_SOCKS SERVE, .peer = ASKED_SOCKS SAID,
          .socket_options = &socks },
        { .name = "SOCKS5, credentials", .script = TO_SOCKS_KNOWN SERVE, .peer = ASKED_KNOWN SAID,
          .socket_options = &socks_known },
        { .name = "SOCKS5, credentials not wanted", .script = TO_SOCKS SERVE,
          .peer = "greeting 00 02\nconnect 10.0.0.1 9001\n" SAID, .socket_options = &socks_known },
        { .name = "SOCKS5, IPv6", .script = TO_SOCKS SERVE, .peer = "greeting 00\nconnect 2001:db8::1 80\n" SAID,
          .url = "ws://[2001:db8::1]/chat", .socket_options = &socks },
        { .name = "SOCKS5, the proxy's name for the bound address", .script = "accept; expect greeting; raw 0500; "
          "expect connect; raw 05000003 03 616263 0050; " SERVE,
          .peer = ASKED_SOCKS SAID, .socket_options = &socks },
        { .name = "SOCKS5h, a name", .script = TO_SOCKS SERVE, .peer = "greeting 00\nconnect name server.example 80\n"
          SAID, .url = NAME_URL, .socket_options = &socks_names },
        { .name = "SOCKS5h, IPv4", .script = TO_SOCKS SERVE, .peer = ASKED_SOCKS SAID,
          .socket_options = &socks_names },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        struct world_scene scene = scenes[i];
        scene.on_open = "text hello";
        scene.on_message = "close 1000";
        scene.events = SERVED;
        world_play(&scene, 1);
    }
}

/* What comes in one piece with the proxy's last byte is the server's, however the pieces fall. */
static void bytes_behind_the_proxys_last_are_the_servers(void **state)
{
#define HALF "cork; %s; http HTTP/1.1 103 E\r\n\r\nHTTP/1.1 101 S\r\nUpgrade: websocket\r\n; uncork; expect request; "
#define REST "http Connection: Upgrade\r\nSec-WebSocket-Accept: $ACCEPT\r\n\r\n; expect text; text world; " \
             "expect close; close 1000; fin"
    static const struct { const char *before, *answer, *peer; const struct wsr_socket_options *options; } rows[] = {
        { "accept; expect connect; ", HTTP_OK, ASKED_HTTP SAID, &http },
        { "accept; expect greeting; raw 0500; expect connect; ", SOCKS_OK, ASKED_SOCKS SAID, &socks },
    };
    static const char *const cuts[] = { "cut whole; ", "cut 0; ", "cut 1; ", "cut 7; " };
    (void)state;
    for (size_t i = 0; i < COUNT(rows) * COUNT(cuts); i++) {
        char script[1024];
        size_t at = (size_t)snprintf(script, sizeof script, "%s%s", cuts[i / 2], rows[i % 2].before);
        at += (size_t)snprintf(script + at, sizeof script - at, HALF, rows[i % 2].answer);
        snprintf(script + at, sizeof script - at, REST);
        const struct world_scene scene = {
            .name = script, .script = script, .on_open = "text hello", .on_message = "close 1000", .events = SERVED,
            .peer = rows[i % 2].peer, .socket_options = rows[i % 2].options,
            .plain = "with TLS no server speaks first",
        };
        world_play(&scene, 1);
    }
}

#define INTERIM "http HTTP/1.1 100 C\r\n\r\n; "
#define INTERIM_4 INTERIM INTERIM INTERIM INTERIM
#define INTERIM_17 INTERIM_4 INTERIM_4 INTERIM_4 INTERIM_4 INTERIM

/* What a proxy says first: no request follows, and the story is its own. */
static void a_refusal_is_error_and_1006(void **state)
{
    static const struct { const char *name, *answer, *word; uint16_t status; bool is_known; } rows[] = {
        { "407", "http HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", "wants credentials", 407, false },
        { "407 to credentials", "http HTTP/1.1 407 Who\r\n\r\n", "does not accept", 407, true },
        { "403", "http HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno!", "does not allow", 403, false },
        { "502", "http HTTP/1.0 502 Bad\r\n\r\n; fin", "could not reach", 502, false },
        { "500 and reset", "http HTTP/1.0 500 Bad\r\n\r\n; wait 1; rst", "refused", 500, false },
        { "302", "http HTTP/1.1 302 F\r\nLocation: http://x/\r\n\r\n", "redirect", 302, false },
        { "101", "http HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", "refused", 101, false },
        { "garbage", "raw 16030300010203", "not HTTP", 0, false },
        { "no HTTP head", "http HTTP/1.1 200 OK\nA: b\n\n", "LF", 0, false },
        { "too many interim answers", INTERIM_17, "interim", 100, false },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char script[1024];
        snprintf(script, sizeof script, "accept; expect connect; %s", rows[i].answer);
        const struct world_scene scene = {
            .name = rows[i].name, .script = script, .events = FAILED, .stage = WSR_STAGE_PROXY,
            .peer = rows[i].is_known ? "connect 10.0.0.1:9001" AUTHORIZED "end\n" : ASKED_HTTP "end\n",
            .socket_options = rows[i].is_known ? &http_known : &http, .http_status = rows[i].status,
            .word = rows[i].word,
        };
        world_play(&scene, 1);
    }
}

static void a_socks_refusal_is_error_and_1006(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "credentials wanted", .script = "accept; expect greeting; raw 05ff", .peer = "greeting 00\nend\n",
          .word = "wants credentials", .socket_options = &socks },
        { .name = "a method that was not offered", .script = "accept; expect greeting; raw 0502",
          .peer = "greeting 00\nend\n", .word = "not offered", .socket_options = &socks },
        { .name = "credentials refused", .script = "accept; expect greeting; raw 0502; expect credentials; raw 0101; "
          "fin", .peer = "greeting 00 02\ncredentials user pass word\nend\n", .socket_options = &socks_known },
        { .name = "destination refused", .script = "accept; expect greeting; raw 0500; expect connect; "
          "raw 05050001 00000000 0000", .peer = ASKED_SOCKS "end\n", .word = "reply 5", .socket_options = &socks },
        { .name = "not allowed, and reset", .script = "accept; expect greeting; raw 0500; expect connect; "
          "raw 05020001 00000000 0000; wait 1; rst", .peer = ASKED_SOCKS "end\n", .socket_options = &socks },
        { .name = "an HTTP proxy", .script = "accept; expect greeting; http HTTP/1.0 400 Bad\r\n\r\n; fin",
          .peer = "greeting 00\nend\n", .word = "looks like HTTP", .socket_options = &socks },
        { .name = "garbage behind the choice", .script = "accept; expect greeting; raw 0500ffffffff",
          .peer = "greeting 00\n?connect 10.0.0.1 9001\n?torn frame\nend\n", .word = "not SOCKS5",
          .socket_options = &socks },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        struct world_scene scene = scenes[i];
        scene.events = FAILED;
        scene.stage = WSR_STAGE_PROXY;
        world_play(&scene, 1);
    }
}

/* Fewer bytes than head_max_bytes pass, however they come; more do not, and are not gathered. */
static void a_long_answer_ends_at_the_limit(void **state)
{
    static const struct wsr_engine_options options = { .size = sizeof options, .head_max_bytes = 300 };
    (void)state;
    for (size_t len = 299; len <= 301; len++) {
        char script[1024];
        size_t at = (size_t)snprintf(script, sizeof script, "accept; expect connect; http HTTP/1.1 200 OK\r\nA: ");
        memset(script + at, 'x', len - 24);
        at += len - 24;
        snprintf(script + at, sizeof script - at, "\r\n\r\n; " SERVE);
        struct world_scene scene = {
            .name = "long answer", .script = script, .on_open = "text hello", .on_message = "close 1000",
            .events = SERVED, .peer = ASKED_HTTP SAID, .socket_options = &http, .options = &options,
        };
        if (len > 300) {
            scene.events = FAILED;
            scene.peer = ASKED_HTTP "end\n";
            scene.stage = WSR_STAGE_PROXY;
        }
        world_play(&scene, 1);
    }
}

/* The proxy's part of a connection: what it says when, in hexadecimal. */
struct proxy_part {
    const struct wsr_socket_options *options;
    const char *awaits[3];
    const char *says[3];
    const char *peer;                  /* when all of it came */
};

static const struct proxy_part parts[] = {
    { &http, { "connect" }, { "485454502f312e3120323030204f4b0d0a413a20620d0a0d0a" }, ASKED_HTTP },
    { &socks_known, { "greeting", "credentials", "connect" }, { "0502", "0100", "050000030361626312340a" },
      ASKED_KNOWN },
};

/* Script in which the proxy says @count bytes in all, then @behind. Returns how many it has to say. */
static size_t write_part(char *script, size_t capacity, const struct proxy_part *part, size_t count,
                         const char *behind)
{
    size_t total = 0, at = (size_t)snprintf(script, capacity, "accept");
    for (size_t i = 0; i < COUNT(part->says) && part->says[i] != NULL; i++) {
        size_t bytes = strlen(part->says[i]) / 2 - (i == 2 ? 1 : 0);    /* the last row has one byte too many */
        size_t says = count > bytes ? bytes : count;
        if (total == 0 || count > 0)
            at += (size_t)snprintf(script + at, capacity - at, "; expect %s", part->awaits[i]);
        if (says > 0)
            at += (size_t)snprintf(script + at, capacity - at, "; raw %.*s", (int)(2 * says), part->says[i]);
        total += bytes;
        count -= says;
    }
    snprintf(script + at, capacity - at, "; %s", behind);
    return total;
}

/* F4: an end, a reset or silence after each byte of what the proxy has to say. */
static void an_end_at_each_byte(void **state)
{
    static const struct { const char *behind; int system_errno; uint64_t least_ms; } ends[] = {
        { "wait 1; fin", 0, 1 }, { "wait 1; rst ECONNRESET", ECONNRESET, 1 }, { "", ETIMEDOUT, 30000 },
    };
    (void)state;
    for (size_t p = 0; p < COUNT(parts); p++) {
        size_t total = 1;
        for (size_t count = 0; count <= total; count++) {
            for (size_t e = 0; e < COUNT(ends); e++) {
                char script[512], peer[128];
                total = write_part(script, sizeof script, &parts[p], count, ends[e].behind);
                snprintf(peer, sizeof peer, "%s", parts[p].peer);
                if (p == 1 && count < 4)
                    *strstr(peer, "connect") = '\0';
                if (p == 1 && count < 2)
                    *strstr(peer, "credentials") = '\0';
                snprintf(peer + strlen(peer), sizeof peer - strlen(peer), "%send\n",
                         count == total ? "?request GET /chat\n?torn frame\n" : "");
                const struct world_scene scene = {
                    .name = script, .script = script, .events = FAILED, .peer = peer,
                    .stage = count < total ? WSR_STAGE_PROXY : WSR_STAGE_UPGRADE, .least_ms = ends[e].least_ms,
                    .system_errno = ends[e].system_errno, .socket_options = parts[p].options,
                };
                world_play(&scene, 1);
            }
        }
    }
}

/* HS-13, F4: one limit for the way to the proxy, through it, and the upgrade. */
static void the_opening_limit_covers_the_tunnel(void **state)
{
    static const struct wsr_engine_options five = { .size = sizeof five, .open_timeout_ns = 5000000000u };
    static const struct world_scene scenes[] = {
        { .name = "the proxy's TCP", .script = "silent", .peer = "", .least_ms = 30000, .stage = WSR_STAGE_CONNECT,
          .system_errno = ETIMEDOUT, .socket_options = &http },
        { .name = "late connect", .script = "accept 29000", .peer = ASKED_HTTP "end\n", .least_ms = 30000,
          .stage = WSR_STAGE_PROXY, .system_errno = ETIMEDOUT, .socket_options = &http },
        { .name = "an own limit", .script = "accept 4000", .peer = ASKED_HTTP "end\n", .least_ms = 5000,
          .stage = WSR_STAGE_PROXY, .system_errno = ETIMEDOUT, .socket_options = &http, .options = &five },
        { .name = "an answer that drips", .script = "accept; expect connect; http HTTP/1.1 200 OK\r\n; wait 11000; "
          "http A: b\r\n; wait 11000; http B: c\r\n; wait 11000; http \r\n", .peer = ASKED_HTTP "end\n",
          .least_ms = 30000, .stage = WSR_STAGE_PROXY, .system_errno = ETIMEDOUT, .socket_options = &http },
        { .name = "replies that drip", .script = "accept; expect greeting; wait 11000; raw 0502; expect credentials; "
          "wait 11000; raw 0100; expect connect; wait 11000; " SOCKS_OK, .peer = ASKED_KNOWN "end\n",
          .least_ms = 30000, .stage = WSR_STAGE_PROXY, .system_errno = ETIMEDOUT, .socket_options = &socks_known },
        { .name = "then no 101", .script = "accept 9000; expect connect; wait 9000; " HTTP_OK,
          .peer = ASKED_HTTP "request GET /chat\nend\n", .least_ms = 30000, .stage = WSR_STAGE_UPGRADE,
          .system_errno = ETIMEDOUT, .socket_options = &http },
        { .name = "nothing is taken", .script = "stop; accept", .peer = "end\n", .least_ms = 30000,
          .stage = WSR_STAGE_PROXY, .system_errno = ETIMEDOUT, .socket_options = &http },
        { .name = "only half is taken", .script = "stop; window 20; accept", .peer = "torn frame\nend\n",
          .least_ms = 30000, .stage = WSR_STAGE_PROXY, .system_errno = ETIMEDOUT, .socket_options = &http },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        struct world_scene scene = scenes[i];
        scene.events = FAILED;
        world_play(&scene, 1);
    }
    const struct world_scene in_time = {
        .name = "just in time", .script = "accept 9000; expect connect; wait 9000; " HTTP_OK "; expect request; "
        "wait 11000; http HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: $ACCEPT\r\n\r\n; close 1000; expect close; fin", .events = "open\nclose 1000 clean\n",
        .peer = ASKED_HTTP "request GET /chat\nclose 1000\nend\n", .least_ms = 29000, .socket_options = &http,
    };
    world_play(&in_time, 1);
}

/* F2: the words say that it is the proxy who is not there. */
static void a_proxy_that_is_not_there(void **state)
{
    static const struct { const char *script; int system_errno; } rows[] = {
        { "refuse ECONNREFUSED", ECONNREFUSED }, { "refuse EHOSTUNREACH", EHOSTUNREACH },
        { "refuse ENETUNREACH", ENETUNREACH }, { "silent", ETIMEDOUT },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct world world;
        world_open(&world, i + 1, NULL);
        sim_script(world.sim, rows[i].script);
        world_connect_with(&world, WORLD_URL, &socks);
        world_run_to_end(&world);
        world_expect(&world, FAILED);
        assert_int_equal(world.last_close.stage, WSR_STAGE_CONNECT);
        assert_int_equal(world.last_close.system_errno, rows[i].system_errno);
        assert_non_null(strstr(world.last_close.text, "the proxy"));
        world_close(&world);
    }
}

/* ---- Ends from our side ---- */

static const char *const stuck[] = {
    "accept", "accept; expect connect; http HTTP/1.1 200 OK\r\nA: ", "stop; accept",
    "accept; expect connect; http HTTP/1.1 100 C\r\n\r\n",
};

/* F7 */
static void close_ends_a_stuck_tunnel_at_once(struct world *world)
{
    sim_script(world->sim, stuck[sim_seed(world->sim) % COUNT(stuck)]);
    world_connect_with(world, WORLD_URL, &http);
    world_run(world, 200);
    world_expect(world, "");
    uint64_t start_ns = sim_now(world->sim);
    world_do(world, 0, "close 3000 x");
    assert_int_equal(wsr_socket_ready_state(world->sockets[0].socket), WSR_CLOSING);
    world_run_to_end(world);
    assert_true(world->closed_ns - start_ns < 300000000);
    world_run(world, 100);
    world_expect(world, FAILED);
    world_expect_peer(world, 0, "?" ASKED_HTTP "end\n");
    assert_int_equal(world->last_close.stage, WSR_STAGE_PROXY);
    assert_int_equal(sim_files_open(world->sim), 0);
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    assert_int_equal(statistics.sockets_failed, 1);
    assert_int_equal(statistics.sockets_live, 0);
}

static void close_while_stuck(void **state)
{
    (void)state;
    world_each_seed(close_ends_a_stuck_tunnel_at_once, NULL);
}

/* F7, EVT-19: close() at each moment: either there was an open event before, or there is none. */
static void close_at_any_moment(struct world *world)
{
    static const struct { const char *script; const struct wsr_socket_options *options; } rows[] = {
        { TO_HTTP SERVE, &http }, { TO_SOCKS_KNOWN SERVE, &socks_known },
    };
    size_t row = sim_random(world->sim, COUNT(rows));
    sim_script(world->sim, rows[row].script);
    world_connect_with(world, WORLD_URL, rows[row].options);
    unsigned looks = (unsigned)sim_random(world->sim, 40);
    for (unsigned i = 0; i < looks && world->log_bytes == 0; i++) {
        uint32_t max = world->events_max;
        if (sim_random(world->sim, 3) == 0)
            sim_pass(world->sim, sim_random(world->sim, 400000));
        world->events_max = 1;
        world_look(world);
        world->events_max = max;
    }
    bool was_open = world->log_bytes > 0;
    world_do(world, 0, "close");
    world_run_to_end(world);
    world_run(world, 100);
    if (!was_open)
        world_expect(world, FAILED);
    assert_int_equal(sim_files_open(world->sim), 0);
}

static void close_while_tunneling(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        world_each_seed(close_at_any_moment, NULL);
}

/* CLOSE-32, F7: a socket that is destroyed while its tunnel is made is gone without a word, and so is one whose engine
 * ends: world_close() sees that nothing stays behind. */
static void destroy_at_any_moment(struct world *world)
{
    sim_script(world->sim, TO_SOCKS_KNOWN SERVE);
    world_connect_with(world, WORLD_URL, &socks_known);
    world_connect_with(world, WORLD_URL, &socks_known);
    sim_pass(world->sim, sim_random(world->sim, 2000000));
    for (unsigned looks = (unsigned)sim_random(world->sim, 12); looks > 0 && world->log_bytes == 0; looks--)
        world_look(world);
    bool was_silent = world->log_bytes == 0;
    world_destroy_socket(world, 0);
    if (sim_random(world->sim, 2) == 0)
        return;
    if (was_silent)
        world_destroy_socket(world, 1);
    world_run(world, 3000);
    if (was_silent) {
        world_expect(world, "");
        assert_int_equal(sim_files_open(world->sim), 0);
    }
}

static void destroy_while_tunneling(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        world_each_seed(destroy_at_any_moment, NULL);
}

/* ---- Options ---- */

/* RFC 6455 4.1: nothing is said to the server before the tunnel stands. */
static void the_request_waits_for_the_tunnel(struct world *world)
{
    sim_script(world->sim, "accept; expect connect; wait 500; " HTTP_OK "; " SERVE);
    world->on_open = "text hello";
    world->on_message = "close 1000";
    world_connect_with(world, NAME_URL, &http);
    world_run_to_end(world);
    assert_true(sim_logged_ns(world->sim, 0, "request") - sim_logged_ns(world->sim, 0, "connect") >= 500000000);
    assert_non_null(strstr(sim_request(world->sim, 0), world->way == WORLD_WS ? "\r\nHost: server.example\r\n"
                                                                              : "\r\nHost: server.example:80\r\n"));
    assert_null(strstr(sim_request(world->sim, 0), "Proxy-"));
    world_expect(world, SERVED);
}

static void request_after_tunnel(void **state)
{
    (void)state;
    world_each_seed(the_request_waits_for_the_tunnel, NULL);
}

/* connect_to is what the proxy is asked for, source_address is for the way to the proxy, credentials and Host of the
 * URL stay its own (URL-32, URL-33). */
static void the_other_options_keep_their_meaning(struct world *world)
{
    static const struct { const char *proxy, *connect_to, *peer; } rows[] = {
        { "http://10.0.0.9:3128", "10.0.0.7:7", "connect 10.0.0.7:7\n" },
        { "http://10.0.0.9:3128", "[2001:db8::7]:7", "connect [2001:db8::7]:7\n" },
        { "socks5://10.0.0.9:3128", "10.0.0.7:7", "greeting 00\nconnect 10.0.0.7 7\n" },
        { "socks5h://10.0.0.9:3128", "[2001:db8::7]:7", "greeting 00\nconnect 2001:db8::7 7\n" },
    };
    size_t row = sim_seed(world->sim) % COUNT(rows);
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    char peer[128];
    options.proxy = rows[row].proxy;
    options.connect_to = rows[row].connect_to;
    options.source_address = "10.0.0.2";
    snprintf(peer, sizeof peer, "%s" SAID, rows[row].peer);
    sim_script(world->sim, row < 2 ? TO_HTTP SERVE : TO_SOCKS SERVE);
    world->on_open = "text hello";
    world->on_message = "close 1000";
    static const char url[] = "ws://me:secret@server.example:99/chat";
    world_connect_with(world, url, &options);
    world_run_to_end(world);
    world_run(world, 10);
    world_expect(world, SERVED);
    world_expect_peer(world, 0, peer);
    assert_non_null(strstr(sim_request(world->sim, 0), "\r\nHost: server.example:99\r\n"));
    assert_non_null(strstr(sim_request(world->sim, 0), "\r\nAuthorization: Basic bWU6c2VjcmV0\r\n"));
    assert_string_equal(wsr_socket_url(world->sockets[0].socket), world_url(world, url));
    const struct wsr_driver_setup *setup = sim_last_setup(world->sim);
    assert_int_equal(setup->source_bytes, sizeof(struct sockaddr_in));
    assert_int_equal(sim_connections(world->sim), 1);
}

static void other_options(void **state)
{
    (void)state;
    world_each_seed(the_other_options_keep_their_meaning, NULL);
}

/* Environment variables are never read, and without the option there is no proxy. */
static void the_environment_names_no_proxy(struct world *world)
{
    static const char *const names[] = { "http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy",
                                         "ws_proxy" };
    for (size_t i = 0; i < COUNT(names); i++)
        assert_int_equal(setenv(names[i], "http://10.0.0.9:3128", 1), 0);
    sim_script(world->sim, "accept; " SERVE);
    world->on_open = "text hello";
    world->on_message = "close 1000";
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 10);
    world_expect_peer(world, 0, SAID);
    for (size_t i = 0; i < COUNT(names); i++)
        unsetenv(names[i]);
}

static void environment(void **state)
{
    (void)state;
    world_each_seed(the_environment_names_no_proxy, NULL);
}

/* F0: nothing but a sentence, in which no password is told. */
static void a_bad_proxy_is_refused_and_changes_nothing(struct world *world)
{
    static const char *const texts[] = { "", "10.0.0.9:3128", "https://h:1", "http://h", "http://:80",
                                         "http://u:secret@h", "socks5://u:@h:1", "http://u:secret\n@h:1" };
    char name[300], url[400];
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *untouched = (struct wsr_socket *)(void *)world, *socket = untouched;
    for (size_t i = 0; i < COUNT(texts); i++) {
        options.proxy = texts[i];
        assert_int_equal(wsr_socket_open(world->engine, WORLD_URL, WSR_ZSTRING, NULL, 0, &options, &socket),
                         WSR_ERR_SYNTAX);
        assert_memory_equal(wsr_error_text(), "proxy, byte ", 12);
        assert_null(strstr(wsr_error_text(), "secret"));
    }
    memset(name, 'n', sizeof name);
    snprintf(url, sizeof url, "ws://%.256s/", name);
    options.proxy = "socks5h://h:1";
    assert_int_equal(wsr_socket_open(world->engine, url, WSR_ZSTRING, NULL, 0, &options, &socket), WSR_ERR_SYNTAX);
    assert_non_null(strstr(wsr_error_text(), "255"));
    options.proxy = "http://10.0.0.9:3128";
    options.connect_to = "nowhere";
    assert_int_equal(wsr_socket_open(world->engine, WORLD_URL, WSR_ZSTRING, NULL, 0, &options, &socket),
                     WSR_ERR_ARGUMENT);
    assert_ptr_equal(socket, untouched);
    world_run(world, 100);
    world_expect(world, "");
    assert_int_equal(sim_connections(world->sim), 0);
}

static void bad_proxies(void **state)
{
    (void)state;
    world_each_seed(a_bad_proxy_is_refused_and_changes_nothing, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tunnel_leads_to_open),
        cmocka_unit_test(bytes_behind_the_proxys_last_are_the_servers),
        cmocka_unit_test(a_refusal_is_error_and_1006),
        cmocka_unit_test(a_socks_refusal_is_error_and_1006),
        cmocka_unit_test(a_long_answer_ends_at_the_limit),
        cmocka_unit_test(an_end_at_each_byte),
        cmocka_unit_test(the_opening_limit_covers_the_tunnel),
        cmocka_unit_test(a_proxy_that_is_not_there),
        cmocka_unit_test(close_while_stuck),
        cmocka_unit_test(close_while_tunneling),
        cmocka_unit_test(destroy_while_tunneling),
        cmocka_unit_test(request_after_tunnel),
        cmocka_unit_test(other_options),
        cmocka_unit_test(environment),
        cmocka_unit_test(bad_proxies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
