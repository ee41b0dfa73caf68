/* engine/conn_send: bytes leave whole and in order at every way of sending short, and bufferedAmount tells the truth
 * (semantics 2).
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define REQUEST "request GET /chat\n"
#define OPENED "accept; upgrade; "
#define CLEAN "open\nclose 1000 clean\n"

static struct wsr_socket *socket_of(struct world *world)
{
    return world->sockets[0].socket;
}

static bool is_open(struct world *world)
{
    return world->sockets[0].opened;
}

static void bytes_leave_one_by_one(struct world *world)
{
    sim_script(world->sim, "slow 1; " OPENED "expect close; close 1000; fin");
    world->on_open = "text hello; binary world; text ; big 126; close 1000 bye";
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, CLEAN);
    /* Of close_notify, which TLS has to say then, not all may be taken. */
    world_expect_peer(world, 0, REQUEST "text 5 hello\nbinary 5 world\ntext 0\ntext 126 *\nclose 1000 bye\n"
                                        "?torn frame\nend\n");
}

/* SEND-04, 07, 09, 11: kinds, empty messages, every length form; CLOSE-07, EVT-08. SEND-12, SEND-13: each message is
 * one frame, whatever its length, and none follows the Close; the simulated peer takes nothing else. */
static void messages_leave_as_they_were_sent(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "kinds", .script = OPENED "expect close; close 1000; fin",
          .on_open = "text hello; binary world; text ; binary ; text \xC3\xA9; close 1000", .events = CLEAN,
          .peer = REQUEST "text 5 hello\nbinary 5 world\ntext 0\nbinary 0\ntext 2 \xC3\xA9\nclose 1000\nend\n" },
        { .name = "lengths", .script = OPENED "expect close; close 1000; fin",
          .on_open = "big 0; big 1; big 125; big 126; big 127; big 65535; big 65536; big 65537; big 200000; close 1000",
          .events = CLEAN, .peer = REQUEST "text 0\ntext 1 a\ntext 125 *\ntext 126 *\ntext 127 *\ntext 65535 *\n"
          "text 65536 *\n"
          "text 65537 *\ntext 200000 *\nclose 1000\nend\n" },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
    world_each_seed(bytes_leave_one_by_one, NULL);
}

/* SEND-05, and that no byte of a large message is lost: the hash tells. */
static void large_messages_arrive_unchanged(struct world *world)
{
    char want[256], *text = malloc(300000);
    assert_non_null(text);
    for (size_t i = 0; i < 300000; i++)
        text[i] = sim_pattern(i);
    snprintf(want, sizeof want, REQUEST "text 300000 #%08x\ntext 4045 #%08x\nclose 1000\nend\n", sim_hash(text, 300000),
             sim_hash(text, 4045));
    free(text);
    sim_script(world->sim, OPENED "slow 20000; expect close; close 1000; fin");
    world->on_open = "big 300000; big 4045; close 1000";
    world_connect(world);
    world_run_to_end(world);
    world_expect_peer(world, 0, want);
}

static void large_messages(void **state)
{
    (void)state;
    world_each_seed(large_messages_arrive_unchanged, NULL);
}

/* SEND-15: 50 x 64 KiB against a slow reader. */
static void a_slow_reader(struct world *world)
{
    sim_script(world->sim, OPENED "text go; slow 30000; expect close; close 1000; fin");
    world_connect(world);
    world_run_until(world, is_open);
    for (unsigned i = 0; i < 50; i++)
        world_do(world, 0, "big 65536");
    world_do(world, 0, "close 1000");
    assert_int_equal(wsr_socket_buffered_now(socket_of(world)), 50 * 65536);
    world_run_to_end(world);
    unsigned count = 0;
    for (const char *at = sim_log(world->sim, 0); (at = strstr(at, "text 65536 ")) != NULL; at++)
        count++;
    assert_int_equal(count, 50);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), 0);
}

static void fifty_large_messages_reach_a_slow_reader(void **state)
{
    (void)state;
    world_each_seed(a_slow_reader, NULL);
}

/* SEND-02, 06, 08; the gather form is one message. */
static void refused_sends_change_nothing(struct world *world)
{
    char text[] = "sent";
    const struct iovec parts[] = { { text, 2 }, { NULL, 0 }, { text + 2, 2 } };
    const struct iovec cut[] = { { (char[]){ 'x', '\xC3' }, 2 }, { (char[]){ '\xA9' }, 1 } };
    sim_script(world->sim, OPENED "expect close; close 1000; fin");
    world_connect(world);
    world_run_until(world, is_open);
    struct wsr_socket *socket = socket_of(world);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "\xC3\x28", 2), WSR_ERR_INVALID_UTF8);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "ok\xC3", 3), WSR_ERR_INVALID_UTF8);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "\xED\xB0\x80", 3), WSR_ERR_INVALID_UTF8);
    assert_int_equal(wsr_send(socket, (enum wsr_kind)3, "a", 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send(socket, WSR_BINARY, NULL, 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send(socket, WSR_BINARY, text, 65u << 20), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
    assert_int_equal(wsr_send(socket, WSR_BINARY, NULL, 0), 0);
    assert_int_equal(wsr_send(socket, WSR_BINARY, "\xC3\x28", 2), 0);
    assert_int_equal(wsr_send_gather(socket, WSR_TEXT, parts, 3), 0);
    assert_int_equal(wsr_send_gather(socket, WSR_TEXT, cut, 2), 0);
    assert_int_equal(wsr_send_gather(socket, WSR_TEXT, cut, 1), WSR_ERR_INVALID_UTF8);
    assert_string_equal(text, "sent");
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    world_expect_peer(world, 0,
        REQUEST "binary 0\nbinary 2 \xC3\x28\ntext 4 sent\ntext 3 x\xC3\xA9\nclose 1000\nend\n");
}

static void refused_sends(void **state)
{
    (void)state;
    world_each_seed(refused_sends_change_nothing, NULL);
}

/* BUF-01 to 03, 05, 09: grows inside the call, falls only between tasks. */
static const char six_yen[] = "\xC2\xA5\xC2\xA5\xC2\xA5\xC2\xA5\xC2\xA5\xC2\xA5";
static char letters[65000];

static void count_in_open(struct world *world, unsigned index, const struct wsr_event *event)
{
    static const struct { const char *text; uint64_t want; } sends[] = {
        { "x", 1 }, { "\xC3\xA5", 3 }, { "\xE5\x8C\xB6", 6 }, { "\xF0\x90\x91\xBE", 10 }
    };
    struct wsr_socket *socket = world->sockets[index].socket;
    if (event->type != WSR_EVENT_OPEN)
        return;
    for (size_t i = 0; i < COUNT(sends); i++) {
        assert_int_equal(wsr_send(socket, WSR_TEXT, sends[i].text, strlen(sends[i].text)), 0);
        world_sleep(world, 5);
        assert_int_equal(wsr_socket_buffered_amount(socket), sends[i].want);
    }
    assert_int_equal(wsr_send(socket, WSR_TEXT, six_yen, sizeof six_yen - 1), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), 10 + 12);
    memset(letters, 'l', sizeof letters);
    assert_int_equal(wsr_send(socket, WSR_TEXT, letters, sizeof letters), 0);
    world_sleep(world, 5);
    assert_int_equal(wsr_socket_buffered_amount(socket), 10 + 12 + 65000);
}

static void buffered_amount_grows_in_the_call(struct world *world)
{
    sim_script(world->sim, OPENED "expect text; expect text; expect text; expect text; expect text; expect text; "
        "wait 1; close 1000; expect close; fin");
    world->react = count_in_open;
    world_connect(world);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), 0);
    world_run_to_end(world);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), 0);
    world_expect(world, CLEAN);
}

static void buffered_amount_in_a_handler(void **state)
{
    (void)state;
    world_each_seed(buffered_amount_grows_in_the_call, NULL);
}

/* BUF-05: byte-exact credit for what the kernel took. */
static void partial_credit_is_exact(struct world *world)
{
    static const uint64_t windows[] = { 0, 1, 6, 8, 9, 100, 1007, 1008 };
    uint64_t window = windows[sim_random(world->sim, COUNT(windows))];
    char script[128];
    snprintf(script, sizeof script, OPENED "window %llu; wait 100; rst ECONNRESET", (unsigned long long)window);
    sim_script(world->sim, script);
    world->on_open = "big 1000";
    world_connect(world);
    world_run(world, 50);
    /* 8 bytes of header and mask come before the payload. */
    uint64_t want = window <= 8 ? 1000 : 1000 - (window - 8);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), want);
    assert_int_equal(wsr_socket_buffered_now(socket_of(world)), want);
    world_run_to_end(world);
    world_run(world, 100);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), want);
    assert_int_equal(wsr_send(socket_of(world), WSR_TEXT, "abc", 3), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), want + 3);
}

static void partial_credit(void **state)
{
    (void)state;
    /* With TLS a credit is for whole records: conn_tls_test. */
    world_each_plain_seed(partial_credit_is_exact, NULL);
}

/* BUF-06 */
static void buffered_amount_falls_while_closing(struct world *world)
{
    sim_script(world->sim, OPENED "slow 1000; expect close; wait 2000; close 1000; fin");
    world->on_open = "big 100000; close 1000";
    world_connect(world);
    world_run_until(world, is_open);
    uint64_t last = 100000;
    for (unsigned i = 0; i < 10; i++) {
        world_run(world, 8);
        assert_int_equal(wsr_socket_ready_state(socket_of(world)), WSR_CLOSING);
        uint64_t now = wsr_socket_buffered_amount(socket_of(world));
        assert_true(now <= last);
        last = now;
    }
    assert_true(last < 100000);
    world_run_to_end(world);
    assert_int_equal(wsr_socket_buffered_amount(socket_of(world)), 0);
    world_expect(world, CLEAN);
}

static void falls_while_closing(void **state)
{
    (void)state;
    world_each_seed(buffered_amount_falls_while_closing, NULL);
}

static bool is_writable(struct world *world)
{
    return world->sockets[0].writable;
}

/* OQ-8, BUF-08, BUF-10, F13: refused over the cap, then writable, then it fits again. Nothing is lost or doubled. */
static void a_full_queue_refuses_and_tells_when_it_is_writable(struct world *world)
{
    sim_script(world->sim, OPENED "slow 500; expect close; close 1000; fin");
    world_connect(world);
    world_run_until(world, is_open);
    struct wsr_socket *socket = socket_of(world);
    char text[100], want[20000] = REQUEST;
    memset(text, 'q', sizeof text);
    unsigned sent = 0, refused = 0;
    while (sent < 60) {
        text[0] = (char)('0' + sent % 10);
        uint64_t before = wsr_socket_buffered_now(socket);
        int rc = wsr_send(socket, WSR_TEXT, text, sizeof text);
        if (rc == 0) {
            snprintf(want + strlen(want), sizeof want - strlen(want), "text 100 #%08x\n", sim_hash(text, sizeof text));
            sent++;
            continue;
        }
        assert_int_equal(rc, WSR_ERR_QUOTA);
        assert_int_equal(wsr_socket_buffered_now(socket), before);
        assert_true(before + sizeof text > 1000);
        refused++;
        world->sockets[0].writable = false;
        world_run_until(world, is_writable);
        assert_true(wsr_socket_buffered_now(socket) <= 500);
    }
    assert_true(refused >= 5);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    snprintf(want + strlen(want), sizeof want - strlen(want), "%s", "close 1000\nend\n");
    world_expect_peer(world, 0, want);
}

static void full_queue(void **state)
{
    static const struct wsr_engine_options options = { .size = sizeof options, .send_queue_max_bytes = 1000 };
    (void)state;
    world_each_seed(a_full_queue_refuses_and_tells_when_it_is_writable, &options);
}

/* The same for a slab that is exhausted by another socket. */
static void an_exhausted_slab_refuses_and_tells(struct world *world)
{
    sim_script(world->sim, OPENED "text go; slow 30000; expect close; close 1000; fin");
    world_connect(world);
    world_run_until(world, is_open);
    unsigned sent = 0, refused = 0;
    char *text = malloc(60000);
    assert_non_null(text);
    memset(text, 's', 60000);
    while (sent < 60) {
        int rc = wsr_send(socket_of(world), WSR_TEXT, text, 60000);
        if (rc == 0) {
            sent++;
            continue;
        }
        assert_int_equal(rc, WSR_ERR_QUOTA);
        refused++;
        world->sockets[0].writable = false;
        world_run_until(world, is_writable);
    }
    free(text);
    assert_true(refused > 0);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    unsigned count = 0;
    for (const char *at = sim_log(world->sim, 0); (at = strstr(at, "text 60000 ")) != NULL; at++)
        count++;
    assert_int_equal(count, 60);
}

static void exhausted_slab(void **state)
{
    static const struct wsr_engine_options options = { .size = sizeof options, .send_pool_bytes = 1 << 20 };
    (void)state;
    world_each_seed(an_exhausted_slab_refuses_and_tells, &options);
}

/* One peer that takes nothing holds up nobody else. */
static void a_stuck_peer(struct world *world)
{
    sim_script(world->sim, OPENED "stop");
    sim_script(world->sim, OPENED "expect close; close 1000; fin");
    world->on_open = "big 100000; texts 20; close 1000";
    world_connect(world);
    world_connect(world);
    uint64_t start_ns = sim_now(world->sim);
    while (!world->sockets[1].closed)
        world_run(world, 10);
    assert_true(sim_now(world->sim) - start_ns < 1000000000);
    assert_false(world->sockets[0].closed);
    world_run_to_end(world);
}

static void a_stuck_peer_holds_up_nobody_else(void **state)
{
    (void)state;
    world_each_seed(a_stuck_peer, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_leave_as_they_were_sent),
        cmocka_unit_test(large_messages),
        cmocka_unit_test(fifty_large_messages_reach_a_slow_reader),
        cmocka_unit_test(refused_sends),
        cmocka_unit_test(buffered_amount_in_a_handler),
        cmocka_unit_test(partial_credit),
        cmocka_unit_test(falls_while_closing),
        cmocka_unit_test(full_queue),
        cmocka_unit_test(exhausted_slab),
        cmocka_unit_test(a_stuck_peer_holds_up_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
