/* What is counted for one socket: exactly, under virtual time, and on the real driver. getaddrinfo() is this file's.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "engine/conn.h"
#include "tests/support/client.h"
#include "tests/support/world.h"

#define MS 1000000ull
#define SLACK_NS (3 * MS)              /* of the simulated kernel and a spinning engine */
#define STEP_NS 1024u                  /* of times from 2.1 s on */
#define OPENED "accept; upgrade; "
#define ENDED "expect close; close 1000; fin"
#define ANSWER_BYTES (sizeof "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
                             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" - 1)

static struct wsr_socket_statistics statistics_of(const struct wsr_socket *socket)
{
    struct wsr_socket_statistics statistics = WSR_SOCKET_STATISTICS_INIT;
    assert_int_equal(wsr_socket_statistics(socket, &statistics), 0);
    assert_int_equal(statistics.size, sizeof statistics);
    return statistics;
}

static struct wsr_engine_statistics engine_of(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    return statistics;
}

static struct wsr_socket_statistics first(struct world *world)
{
    return statistics_of(world->sockets[0].socket);
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

static uint64_t request_bytes(struct world *world, unsigned index)
{
    const char *request = sim_request(world->sim, index);
    return (uint64_t)(strstr(request, "\r\n\r\n") + 4 - request);
}

static void expect_zero(struct wsr_socket_statistics statistics)
{
    static const struct wsr_socket_statistics zero = WSR_SOCKET_STATISTICS_INIT;
    assert_memory_equal(&statistics, &zero, sizeof zero);
}

static void expect_near(uint64_t got, uint64_t want)
{
    assert_in_range(got, want - SLACK_NS, want + SLACK_NS);
}

/* ---- Messages and bytes ---- */

/* In one piece, empty, in fragments with a Ping between them, with lengths of 16 and 64 bits. */
static void all_is_counted(struct world *world)
{
    connect_open(world, OPENED "text abc; binary ; raw 010161 8901 70 8a00 000162 800163; big 1000; big 70000; "
                               "expect text; " ENDED);
    world_do(world, 0, "text hello; binary ; big 1000; big 70000");
    world_run(world, 100);
    struct wsr_socket_statistics open = first(world);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    struct wsr_socket_statistics s = first(world);
    assert_int_equal(s.addresses_tried, 1);
    assert_int_equal(s.messages_received, 5);
    assert_int_equal(s.messages_received_bytes, 3 + 0 + 3 + 1000 + 70000);
    assert_int_equal(s.messages_lent + s.messages_copied, 5);
    assert_int_equal(s.messages_sent, 4);
    assert_int_equal(s.messages_sent_bytes, 5 + 0 + 1000 + 70000);
    assert_int_equal(s.messages_sent_kernel_bytes, s.messages_sent_bytes);
    assert_int_equal(open.wire_received_bytes, ANSWER_BYTES + 5 + 2 + 9 + 3 + 2 + 1004 + 70010);
    assert_int_equal(s.wire_received_bytes, open.wire_received_bytes + 4);
    assert_int_equal(open.wire_sent_bytes, request_bytes(world, 0) + 11 + 6 + 1008 + 70014 + 7);
    assert_int_equal(s.wire_sent_bytes, open.wire_sent_bytes + 8);
    assert_int_equal(s.pings_answered, 1);
    assert_int_equal(s.pings_dropped, 0);
    assert_int_equal(s.pings_sent, 0);
    assert_int_equal(s.pongs_received, 1);
    assert_int_equal(s.rests, engine_of(world).rests);
    assert_int_equal(s.rtt_ns, 0);
    world_sleep(world, 50);
    struct wsr_socket_statistics later = first(world);
    assert_memory_equal(&later, &s, sizeof s);
}

/* A message in one buffer is lent, so is an empty one; fragments are copied, and what straddles buffers. */
static void copies_are_told_from_loans(struct world *world)
{
    connect_open(world, OPENED "cut whole; text a; wait 5; binary ; wait 5; raw 010161 800162; wait 5; big 300");
    world_run(world, 200);
    assert_int_equal(first(world).messages_received, 4);
    assert_int_equal(first(world).messages_lent, 2);
    assert_int_equal(first(world).messages_copied, 2);
}

/* A message counts when all of it is there. */
static void an_unfinished_message_does_not_count(struct world *world)
{
    connect_open(world, OPENED "raw 010161; raw 8003; raw 62; wait 1000; raw 6364");
    world_run(world, 500);
    assert_int_equal(first(world).messages_received, 0);
    assert_int_equal(first(world).last_message_ns, 0);
    assert_int_equal(first(world).wire_received_bytes, ANSWER_BYTES + 6);
    world_run(world, 1000);
    assert_int_equal(first(world).messages_received, 1);
    assert_int_equal(first(world).messages_received_bytes, 4);
    assert_int_equal(first(world).messages_copied, 1);
}

/* BUF-05: the payload that the kernel has is told from what waits. */
static void what_the_kernel_has_is_counted(struct world *world)
{
    connect_open(world, OPENED "window 500; wait 1000; read");
    world_do(world, 0, "big 2000");
    world_run(world, 500);
    struct wsr_socket_statistics s = first(world);
    assert_int_equal(s.messages_sent, 1);
    assert_int_equal(s.messages_sent_bytes, 2000);
    assert_int_equal(s.messages_sent_kernel_bytes, 500 - 8);
    assert_int_equal(s.wire_sent_bytes, request_bytes(world, 0) + 500);
    assert_int_equal(wsr_socket_buffered_now(world->sockets[0].socket), 2000 - 492);
    world_run(world, 1000);
    assert_int_equal(first(world).messages_sent_kernel_bytes, 2000);
}

/* SEND-03, CLOSE-14: what is sent, and what comes, after close() is none of the connection's messages. */
static void nothing_counts_after_close(struct world *world)
{
    connect_open(world, OPENED "expect close; text a; text b; close 1000; fin");
    world_do(world, 0, "text before; close 1000; text after");
    world_run_to_end(world);
    world_do(world, 0, "text after");
    assert_int_equal(first(world).messages_sent, 1);
    assert_int_equal(first(world).messages_sent_bytes, 6);
    assert_int_equal(first(world).messages_received, 0);
    assert_int_equal(first(world).wire_received_bytes, ANSWER_BYTES + 3 + 3 + 4);
    assert_int_equal(wsr_socket_buffered_now(world->sockets[0].socket), 10);
}

static void messages(void **state)
{
    static const struct wsr_engine_options small_buffers = { .size = sizeof small_buffers, .buffers_count = 64,
                                                             .buffer_bytes = 256 };
    (void)state;
    /* Bytes of the wire, the operations and the memory that they take: over TLS in conn_tls_test. */
    world_each_plain_seed(all_is_counted, NULL);
    world_each_plain_seed(copies_are_told_from_loans, &small_buffers);
    world_each_plain_seed(an_unfinished_message_does_not_count, NULL);
    world_each_plain_seed(what_the_kernel_has_is_counted, NULL);
    world_each_plain_seed(nothing_counts_after_close, NULL);
}

/* ---- Opening ---- */

static uint64_t event_ns[WSR_EVENT_TYPES_COUNT];    /* received_ns of the last of each type */
static uint64_t event_rtt_ns;

static void note(struct world *world, unsigned index, const struct wsr_event *event)
{
    (void)world, (void)index;
    event_ns[event->type] = event->received_ns;
    if (event->type == WSR_EVENT_PONG)
        event_rtt_ns = event->rtt_ns;
}

#define AFTER(ms) "accept " #ms "; expect request; wait 1000; http HTTP/1.1 101 S\r\nUpgrade: websocket\r\n" \
                  "Connection: Upgrade\r\nSec-WebSocket-Accept: $ACCEPT\r\n\r\n"

/* Each number is 0 until its phase is over, and together they are the way from the call to the open event. */
static void phases_are_timed(struct world *world)
{
    sim_script(world->sim, AFTER(500));
    world->react = note;
    uint64_t start_ns = sim_now(world->sim);
    world_connect(world);
    expect_zero(first(world));
    world_run(world, 200);
    struct wsr_socket_statistics s = first(world);
    assert_int_equal(s.addresses_tried, 1);
    s.addresses_tried = 0;
    expect_zero(s);
    world_run(world, 700);
    s = first(world);
    expect_near(s.connect_ns, 500 * MS);
    assert_int_equal(s.upgrade_ns, 0);
    assert_int_equal(s.opened_ns, 0);
    assert_int_equal(s.wire_sent_bytes, request_bytes(world, 0));
    assert_int_equal(s.wire_received_bytes, 0);
    assert_int_equal(s.last_received_ns, 0);
    world_run_until(world, is_open);
    s = first(world);
    assert_int_equal(s.lookup_ns, 0);
    expect_near(s.upgrade_ns, 1000 * MS);
    assert_int_equal(s.opened_ns, event_ns[WSR_EVENT_OPEN]);
    assert_int_equal(s.last_received_ns, s.opened_ns);
    expect_near(s.opened_ns - s.connect_ns - s.upgrade_ns, start_ns);
}

/* Long ones are told in steps. */
static void long_phases_are_timed(struct world *world)
{
    sim_script(world->sim, AFTER(7000));
    world_connect(world);
    world_run_until(world, is_open);
    struct wsr_socket_statistics s = first(world);
    assert_in_range(s.connect_ns, 7000 * MS - STEP_NS, 7000 * MS + SLACK_NS);
    assert_int_equal(s.connect_ns % STEP_NS, 0);
    expect_near(s.upgrade_ns, 1000 * MS);
}

struct failure {
    const char *script;
    const char *at_once;
    uint64_t connect_ns, received_bytes;
    bool has_asked;
};

/* What was known when it failed stays. */
static void a_failed_opening_is_counted(struct world *world)
{
    static const struct failure failures[] = {
        { .script = "refuse ECONNREFUSED 300" },
        { .script = "silent" },
        { .script = "silent", .at_once = "close" },
        { .script = "accept 300", .connect_ns = 300 * MS, .has_asked = true },
        { .script = "accept 300; expect request; http HTTP/1.1 404 No\r\n\r\n; fin", .connect_ns = 300 * MS,
          .received_bytes = 19, .has_asked = true },
        { .script = "accept 300; upgrade Sec-WebSocket-Protocol: no", .connect_ns = 300 * MS,
          .received_bytes = ANSWER_BYTES + 28, .has_asked = true },
    };
    const struct failure *f = &failures[sim_seed(world->sim) % (sizeof failures / sizeof *failures)];
    sim_script(world->sim, f->script);
    world_connect(world);
    world_run(world, 1);
    if (f->at_once != NULL)
        world_do(world, 0, f->at_once);
    world_run_to_end(world);
    struct wsr_socket_statistics s = first(world);
    assert_int_equal(s.addresses_tried, 1);
    assert_in_range(s.connect_ns, f->connect_ns, f->connect_ns == 0 ? 0 : f->connect_ns + SLACK_NS);
    assert_int_equal(s.wire_sent_bytes, f->has_asked ? request_bytes(world, 0) : 0);
    assert_int_equal(s.wire_received_bytes, f->received_bytes);
    assert_int_equal(s.last_received_ns != 0, f->received_bytes != 0);
    s.addresses_tried = 0;
    s.connect_ns = s.wire_sent_bytes = s.wire_received_bytes = s.last_received_ns = 0;
    expect_zero(s);
}

static void opening(void **state)
{
    (void)state;
    /* TLS is a phase of its own: conn_tls_test. */
    world_each_plain_seed(phases_are_timed, NULL);
    world_each_plain_seed(long_phases_are_timed, NULL);
    world_each_plain_seed(a_failed_opening_is_counted, NULL);
}

/* ---- Moments ---- */

/* A feed that has gone stale is told by the last message, a dead connection by the last byte. */
static void the_last_byte_and_message_are_dated(struct world *world)
{
    world->react = note;
    connect_open(world, OPENED "wait 500; text a; wait 500; ping x; wait 500; raw 01; wait 500; text b");
    uint64_t opened_ns = first(world).opened_ns;
    assert_int_equal(first(world).last_message_ns, 0);
    world_run(world, 700);
    struct wsr_socket_statistics s = first(world);
    expect_near(s.last_message_ns, opened_ns + 500 * MS);
    assert_int_equal(s.last_message_ns, event_ns[WSR_EVENT_MESSAGE]);
    assert_int_equal(s.last_received_ns, s.last_message_ns);
    for (unsigned i = 2; i <= 3; i++) {
        world_run(world, 500);
        assert_int_equal(first(world).last_message_ns, s.last_message_ns);
        expect_near(first(world).last_received_ns, opened_ns + i * 500 * MS);
    }
}

static void moments(void **state)
{
    (void)state;
    world_each_seed(the_last_byte_and_message_are_dated, NULL);
}

/* ---- Pings ---- */

/* CTL-05, CTL-06 */
static void a_round_trip_is_timed(struct world *world)
{
    struct wsr_socket *socket;
    sim_script(world->sim, "accept 10; upgrade; pong x; pong ; echo; expect close; close 1000; fin");
    world->react = note;
    world_connect(world);
    socket = world->sockets[0].socket;
    assert_int_equal(wsr_ping(socket, NULL, 0), WSR_ERR_INVALID_STATE);
    world_run(world, 100);
    assert_int_equal(first(world).pongs_received, 2);
    assert_int_equal(first(world).pings_sent, 0);
    assert_int_equal(wsr_ping(socket, "abc", 3), 0);
    world_run(world, 100);
    assert_int_equal(first(world).pings_sent, 1);
    assert_int_equal(first(world).pongs_received, 3);
    assert_int_equal(first(world).rtt_ns, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(wsr_ping(socket, NULL, 0), 0);
        world_run(world, 100);
        assert_true(event_rtt_ns > 0);
        assert_int_equal(first(world).rtt_ns, event_rtt_ns);
    }
    assert_int_equal(wsr_ping(socket, "abc", 3), 0);
    world_do(world, 0, "close 1000");
    assert_int_equal(wsr_ping(socket, NULL, 0), 0);
    world_run_to_end(world);
    assert_int_equal(first(world).pings_sent, 4);
    assert_int_equal(first(world).wire_sent_bytes, request_bytes(world, 0) + 9 + 22 + 22 + 9 + 8);
}

static void a_long_round_trip_is_timed(struct world *world)
{
    world->react = note;
    connect_open(world, OPENED "stop; echo; wait 9000; read");
    assert_int_equal(wsr_ping(world->sockets[0].socket, NULL, 0), 0);
    world_run(world, 10000);
    assert_in_range(event_rtt_ns, 8000 * MS, 9000 * MS + SLACK_NS);
    assert_int_equal(first(world).rtt_ns, event_rtt_ns / STEP_NS * STEP_NS);
}

/* CTL-03 */
static void a_flood_is_counted(struct world *world)
{
    connect_open(world, OPENED "stop; pings 500; wait 100; read");
    world_run(world, 500);
    struct wsr_socket_statistics s = first(world);
    assert_int_equal(s.pings_answered + s.pings_dropped, 500);
    assert_in_range(s.pings_answered, 64, 66);
    assert_int_equal(s.pings_answered, engine_of(world).pings_answered);
}

static void pings(void **state)
{
    (void)state;
    world_each_plain_seed(a_round_trip_is_timed, NULL);     /* counts bytes of the wire */
    world_each_seed(a_long_round_trip_is_timed, NULL);
    world_each_seed(a_flood_is_counted, NULL);
}

/* ---- Each socket for itself ---- */

static void the_one_that_rests_is_named(struct world *world)
{
    sim_script(world->sim, OPENED "cut whole; wait 500; cork; texts 20; uncork");
    sim_script(world->sim, OPENED "wait 2000; texts 2");
    world_connect(world);
    world_connect(world);
    world_run(world, 3000);
    assert_int_equal(first(world).messages_received, 20);
    assert_int_equal(first(world).rests, 1);
    assert_int_equal(statistics_of(world->sockets[1].socket).messages_received, 2);
    assert_int_equal(statistics_of(world->sockets[1].socket).rests, 0);
}

/* Whatever happens to many at once, all of them together are the engine. */
static void the_sum_is_the_engines(struct world *world)
{
    static const char *const scripts[] = {
        OPENED "texts 200; big 3000; close 1000; expect close; fin",
        OPENED "echo; slow 3000",
        OPENED "text ; raw 010161; pings 20; raw 800162; pong x; wait 20; rst ECONNRESET",
        "refuse ECONNREFUSED",
        OPENED "raw 83ff",
        "accept; expect request; http HTTP/1.1 503 No\r\n\r\n; fin",
        OPENED "stop; texts 50; pings 200; wait 50; read; " ENDED,
        OPENED "texts 30; " ENDED,
    };
    world->on_open = "big 5000; text a; text ";
    for (unsigned i = 0; i < 16; i++) {
        sim_script(world->sim, scripts[i % 8]);
        world_connect(world);
    }
    world_run(world, 300);
    for (unsigned i = 7; i < 16; i += 2)
        world_do(world, i, "close 1000; text late");
    world_run(world, 3000);
    struct wsr_engine_statistics sum = WSR_ENGINE_STATISTICS_INIT;
    for (unsigned i = 0; i < 16; i++) {
        struct wsr_socket_statistics s = statistics_of(world->sockets[i].socket);
        sum.messages_received += s.messages_received;
        sum.messages_received_bytes += s.messages_received_bytes;
        sum.messages_lent += s.messages_lent;
        sum.messages_copied += s.messages_copied;
        sum.messages_sent += s.messages_sent;
        sum.messages_sent_bytes += s.messages_sent_bytes;
        sum.wire_received_bytes += s.wire_received_bytes;
        sum.wire_sent_bytes += s.wire_sent_bytes;
        sum.pings_answered += s.pings_answered;
        sum.pings_dropped += s.pings_dropped;
        sum.rests += s.rests;
        sum.sockets_opened += s.opened_ns != 0;
    }
    struct wsr_engine_statistics s = engine_of(world);
    assert_int_equal(sum.messages_received, s.messages_received);
    assert_int_equal(sum.messages_received_bytes, s.messages_received_bytes);
    assert_int_equal(sum.messages_lent, s.messages_lent);
    assert_int_equal(sum.messages_copied, s.messages_copied);
    assert_int_equal(sum.messages_sent, s.messages_sent);
    assert_int_equal(sum.messages_sent_bytes, s.messages_sent_bytes);
    assert_int_equal(sum.wire_received_bytes, s.wire_received_bytes);
    assert_int_equal(sum.wire_sent_bytes, s.wire_sent_bytes);
    assert_int_equal(sum.pings_answered, s.pings_answered);
    assert_int_equal(sum.pings_dropped, s.pings_dropped);
    assert_int_equal(sum.rests, s.rests);
    assert_int_equal(sum.sockets_opened, s.sockets_opened);
    assert_int_equal(s.sockets_opened, 12);
}

static void many_sockets(void **state)
{
    static const struct wsr_engine_options few_events = { .size = sizeof few_events, .events_count = 8,
                                                          .buffers_count = 64, .buffer_bytes = 4096 };
    static const struct wsr_engine_options tight = { .size = sizeof tight, .events_count = 64, .buffers_count = 4,
                                                     .buffer_bytes = 512 };
    (void)state;
    world_each_seed(the_one_that_rests_is_named, &few_events);
    world_each_seed(the_sum_is_the_engines, &tight);
}

/* ---- The real driver ---- */

#define ECHOES_COUNT 1000u

/* Frame without its mask. */
static uint64_t frame_bytes(uint64_t len)
{
    return (len < 126 ? 2 : len < 65536 ? 4 : 10) + len;
}

/* Two connections with the same request and answer: one that only opens and closes, one that echoes. */
static void echo_many(struct client *client)
{
    static uint8_t payload[300];
    uint64_t bytes = 0, framed = 0;
    struct wsr_socket *quiet = client_connect_open(client);
    assert_int_equal(wsr_close(quiet, 1000, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, 1);
    struct wsr_socket *busy = client_connect_open(client);
    for (uint64_t i = 0; i < ECHOES_COUNT; i++) {
        uint64_t len = i % sizeof payload;
        bytes += len;
        framed += frame_bytes(len);
        assert_int_equal(wsr_send(busy, WSR_BINARY, payload, len), 0);
    }
    client_until(client, WSR_EVENT_MESSAGE, ECHOES_COUNT);
    assert_int_equal(statistics_of(busy).last_message_ns, client->last[WSR_EVENT_MESSAGE].received_ns);
    assert_int_equal(wsr_close(busy, 1000, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, 2);

    struct wsr_socket_statistics q = statistics_of(quiet), b = statistics_of(busy);
    assert_int_equal(b.messages_received, ECHOES_COUNT);
    assert_int_equal(b.messages_received_bytes, bytes);
    assert_int_equal(b.messages_lent + b.messages_copied, ECHOES_COUNT);
    assert_int_equal(b.messages_sent, ECHOES_COUNT);
    assert_int_equal(b.messages_sent_bytes, bytes);
    assert_int_equal(b.messages_sent_kernel_bytes, bytes);
    assert_int_equal(b.wire_received_bytes, q.wire_received_bytes + framed);
    assert_int_equal(b.wire_sent_bytes, q.wire_sent_bytes + framed + 4 * ECHOES_COUNT);
    assert_int_equal(b.addresses_tried, 1);
    assert_int_equal(b.opened_ns, client->last[WSR_EVENT_OPEN].received_ns);
    assert_true(b.connect_ns > 0 && b.upgrade_ns > 0 && b.lookup_ns == 0);
    assert_true(b.last_received_ns >= b.last_message_ns && b.last_message_ns > b.opened_ns);
    assert_true(q.opened_ns + b.connect_ns + b.upgrade_ns < b.opened_ns);

    struct wsr_engine_statistics both = client_statistics(client);
    assert_int_equal(both.messages_received, ECHOES_COUNT);
    assert_int_equal(both.wire_received_bytes, q.wire_received_bytes + b.wire_received_bytes);
    assert_int_equal(both.wire_sent_bytes, q.wire_sent_bytes + b.wire_sent_bytes);
}

static void a_thousand_echoes(void **state)
{
    (void)state;
    client_each(echo_many, NULL, "upgrade; echo");
}

struct reader {
    const struct wsr_socket *socket;
    _Atomic bool stops;                /* to the reader's thread; a wish alone */
    bool went_back;
    uint64_t reads_count;
};

/* No number ever goes back, and copies are never more than messages. */
static void *read_on(void *context)
{
    struct reader *reader = context;
    struct wsr_socket_statistics before = statistics_of(reader->socket), now;
    do {
        now = statistics_of(reader->socket);
        reader->went_back |= now.messages_received < before.messages_received ||
                             now.messages_received_bytes < before.messages_received_bytes ||
                             now.messages_copied < before.messages_copied ||
                             now.messages_copied > now.messages_received || now.messages_sent < before.messages_sent ||
                             now.messages_sent_bytes < before.messages_sent_bytes ||
                             now.messages_sent_kernel_bytes < before.messages_sent_kernel_bytes ||
                             now.wire_received_bytes < before.wire_received_bytes ||
                             now.wire_sent_bytes < before.wire_sent_bytes ||
                             now.pings_sent < before.pings_sent || now.pongs_received < before.pongs_received ||
                             now.last_received_ns < before.last_received_ns ||
                             now.last_message_ns < before.last_message_ns || now.opened_ns < before.opened_ns;
        before = now;
        /* Not without a pause: of a thread that does too much the thread sanitizer forgets what it would report. */
        if (++reader->reads_count % 4 == 0)
            client_sleep_ms(1);
    } while (!atomic_load_explicit(&reader->stops, memory_order_relaxed));
    return NULL;
}

static void read_while_messages_flow(struct client *client)
{
    static const char text[400] = "x";
    pthread_t thread;
    struct reader reader = { .socket = client_connect(client) };
    struct wsr_socket *socket = (struct wsr_socket *)(uintptr_t)reader.socket;
    assert_int_equal(pthread_create(&thread, NULL, read_on, &reader), 0);
    client_until(client, WSR_EVENT_OPEN, 1);
    for (unsigned i = 0; i < ECHOES_COUNT; i++) {
        assert_int_equal(wsr_send(socket, WSR_TEXT, text, i % sizeof text), 0);
        if (i % 100 == 0)
            assert_int_equal(wsr_ping(socket, NULL, 0), 0);
        client_poll(client, 0, 0);
    }
    client_until(client, WSR_EVENT_MESSAGE, ECHOES_COUNT);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, 1);
    atomic_store_explicit(&reader.stops, true, memory_order_relaxed);
    pthread_join(thread, NULL);
    assert_false(reader.went_back);
    assert_true(reader.reads_count > 0);
    assert_int_equal(statistics_of(socket).messages_received, ECHOES_COUNT);
    assert_int_equal(statistics_of(socket).pings_sent, ECHOES_COUNT / 100);
}

static void another_thread_may_read(void **state)
{
    (void)state;
    client_each(read_while_messages_flow, NULL, "upgrade; echo");
}

/* ---- Names ---- */

static uint64_t lookup_took_ns;        /* the last getaddrinfo(); ordered by the events that follow from it */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* One block, so that freeaddrinfo() below has one to free. */
struct answer {
    struct addrinfo info[2];
    struct sockaddr_in addresses[2];
};

/* "none.test" does not exist; all others are first 127.0.0.2, where no peer listens, then 127.0.0.1. */
int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result)
{
    (void)service, (void)hints;
    uint64_t start_ns = now_ns();
    client_sleep_ms(5);
    struct answer *answer = strcmp(node, "none.test") != 0 ? calloc(1, sizeof *answer) : NULL;
    if (answer == NULL)
        return EAI_NONAME;
    for (uint32_t i = 0; i < 2; i++) {
        answer->addresses[i].sin_family = AF_INET;
        answer->addresses[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 - i);
        answer->info[i] = (struct addrinfo){ .ai_family = AF_INET, .ai_socktype = SOCK_STREAM,
                                             .ai_addrlen = sizeof answer->addresses[i],
                                             .ai_addr = (struct sockaddr *)(void *)&answer->addresses[i] };
    }
    answer->info[0].ai_next = &answer->info[1];
    *result = answer->info;
    lookup_took_ns = now_ns() - start_ns;
    return 0;
}

void freeaddrinfo(struct addrinfo *result)
{
    free(result);
}

static struct wsr_socket *connect_to_name(struct client *client, const char *name)
{
    char url[96];
    struct wsr_socket *socket;
    snprintf(url, sizeof url, "ws://%s:%u/chat", name, peer_port(client->peer));
    assert_int_equal(wsr_socket_open(client->engine, url, WSR_ZSTRING, NULL, 0, NULL, &socket), 0);
    client_listen(client, socket);
    return socket;
}

static void connect_by_name(struct client *client)
{
    uint64_t start_ns = now_ns();
    struct wsr_socket *good = connect_to_name(client, "good.test");
    client_until(client, WSR_EVENT_OPEN, 1);
    struct wsr_socket_statistics s = statistics_of(good);
    assert_int_equal(s.addresses_tried, 2);
    assert_true(s.lookup_ns >= lookup_took_ns);
    assert_true(s.connect_ns > 0 && s.upgrade_ns > 0);
    assert_true(start_ns + s.lookup_ns + s.connect_ns + s.upgrade_ns <= s.opened_ns);

    struct wsr_socket *bad = connect_to_name(client, "none.test");
    client_until(client, WSR_EVENT_CLOSE, 1);
    expect_zero(statistics_of(bad));
}

static void look_ups_are_timed(void **state)
{
    (void)state;
    client_each(connect_by_name, NULL, "upgrade; echo");
}

/* ---- The structure ---- */

struct later_statistics {
    struct wsr_socket_statistics known;
    uint64_t unknown;
};

/* As much is filled as the caller has room for, and nothing behind it. */
static void any_size(struct world *world)
{
    connect_open(world, OPENED "text abc");
    world_run(world, 100);
    const struct wsr_socket *socket = world->sockets[0].socket;
    const struct wsr_socket_statistics all = first(world);
    for (uint32_t size = 0; size <= sizeof(struct later_statistics); size++) {
        struct later_statistics later;
        const uint8_t *bytes = (const uint8_t *)&later;
        memset(&later, 0xAA, sizeof later);
        later.known.size = size;
        int rc = wsr_socket_statistics(socket, &later.known);
        assert_int_equal(rc, size < sizeof size ? WSR_ERR_ARGUMENT : 0);
        assert_int_equal(later.known.size, size);
        size_t filled = rc != 0 ? sizeof size : size < sizeof all ? size : sizeof all;
        assert_memory_equal(bytes + sizeof size, (const uint8_t *)&all + sizeof size, filled - sizeof size);
        for (size_t at = filled; at < sizeof later; at++)
            assert_int_equal(bytes[at], 0xAA);
    }
    struct wsr_socket_statistics out = WSR_SOCKET_STATISTICS_INIT;
    assert_int_equal(wsr_socket_statistics(NULL, &out), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_socket_statistics(socket, NULL), WSR_ERR_ARGUMENT);
    assert_non_null(strstr(wsr_error_text(), "wsr_socket_statistics"));
}

static void sizes(void **state)
{
    (void)state;
    world_each_seed(any_size, NULL);
}

/* A time in 32 bits: exact as long as it fits, then in steps, and at the end it stays. */
static void spans(void **state)
{
    static const struct { uint64_t ns, told_ns; } rows[] = {
        { 0, 0 }, { 1, 1 }, { INT32_MAX, INT32_MAX }, { 1ull << 31, 1ull << 31 },
        { (1ull << 31) + STEP_NS - 1, 1ull << 31 }, { (1ull << 31) + STEP_NS, (1ull << 31) + STEP_NS },
        { 36 * 60000 * MS, 36 * 60000 * MS / STEP_NS * STEP_NS }, { 37 * 60000 * MS, (uint64_t)INT32_MAX * STEP_NS },
        { UINT64_MAX, (uint64_t)INT32_MAX * STEP_NS },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(wsr_conn_span_ns(wsr_conn_span(rows[i].ns)), rows[i].told_ns);
}

/* A phase that begins and ends in one turn of the worker has one reading of the clock, and is there all the same. */
static void what_took_place_took_time(void **state)
{
    static const struct { uint64_t start_ns, end_ns, told_ns; } rows[] = {
        { 5, 5, 1 }, { 5, 6, 1 }, { 5, 7, 2 }, { 0, 1ull << 31, 1ull << 31 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(wsr_conn_span_ns(wsr_conn_span_between(rows[i].start_ns, rows[i].end_ns)), rows[i].told_ns);
}

static void rare_counts_stay_at_their_end(void **state)
{
    (void)state;
    _Atomic uint32_t count = UINT32_MAX - 1;
    wsr_conn_count_few(&count);
    assert_int_equal(atomic_load_explicit(&count, memory_order_relaxed), UINT32_MAX);
    wsr_conn_count_few(&count);
    assert_int_equal(atomic_load_explicit(&count, memory_order_relaxed), UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages),
        cmocka_unit_test(opening),
        cmocka_unit_test(moments),
        cmocka_unit_test(pings),
        cmocka_unit_test(many_sockets),
        cmocka_unit_test(a_thousand_echoes),
        cmocka_unit_test(another_thread_may_read),
        cmocka_unit_test(look_ups_are_timed),
        cmocka_unit_test(sizes),
        cmocka_unit_test(spans),
        cmocka_unit_test(what_took_place_took_time),
        cmocka_unit_test(rare_counts_stay_at_their_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
