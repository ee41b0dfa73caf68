/* permessage-deflate of a connection (semantics 5), over engine/conn_deflate.c, send.c and handshake.c. The peer
 * compresses and inflates with zlib alone.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "tests/support/world.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define PMD "permessage-deflate"
#define OPENED "accept; upgrade Sec-WebSocket-Extensions: " PMD "; deflates; "
#define ALONE "accept; upgrade Sec-WebSocket-Extensions: " PMD "| client_no_context_takeover; deflates; "

static struct wsr_engine_statistics statistics_of(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    return statistics;
}

static bool is_open(struct world *world)
{
    return world->sockets[0].opened;
}

static struct wsr_socket *open_with(struct world *world, const char *deflate, uint64_t fragment_bytes)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.deflate = deflate;
    options.fragment_bytes = fragment_bytes;
    unsigned index = world_connect_with(world, WORLD_URL, &options);
    world_run_until(world, is_open);
    return world->sockets[index].socket;
}

/* Text that compresses; what the peer is to say of it without the line of its wire bytes. */
static char *text_of(size_t len, char line[64])
{
    char *text = malloc(len + 1);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++)
        text[i] = "{\"price\":101.25,\"size\":300}\n"[(i + i / 97) % 28];
    snprintf(line, 64, "text %zu #%08x\n", len, sim_hash(text, len));
    return text;
}

/* How often @line, from its beginning on, is in the log of the peer. */
static unsigned times(struct world *world, const char *line)
{
    unsigned count = 0;
    const char *at = sim_log(world->sim, 0);
    for (; (at = strstr(at, line)) != NULL; at++)
        count += at == sim_log(world->sim, 0) || at[-1] == '\n';
    return count;
}

/* ---- Agreeing ---- */

/* PMD-01, PMD-02, PMD-03, PMD-04: what is in the request. */
static void offer_by_option(struct world *world)
{
    static const struct {
        const char *option, *line;      /* NULL = none */
    } rows[] = {
        { NULL, PMD "; client_max_window_bits" },
        { "", NULL },
        { PMD, PMD },
        { PMD "; server_max_window_bits=10, " PMD, PMD "; server_max_window_bits=10, " PMD },
    };
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
        char want[256];
        options.deflate = rows[i].option;
        sim_script(world->sim, "accept; upgrade; expect close; close 1000; fin");
        unsigned index = world_connect_with(world, WORLD_URL, &options);
        world->on_open = "close 1000";
        while (!world->sockets[index].closed)
            world_wait(world);
        snprintf(want, sizeof want, "\r\nSec-WebSocket-Extensions: %s\r\n", rows[i].line ? rows[i].line : "");
        const char *at = strstr(sim_request(world->sim, i), "\r\nSec-WebSocket-Extensions: ");
        assert_true((at != NULL) == (rows[i].line != NULL));
        assert_true(at == NULL || strncmp(at, want, strlen(want)) == 0);
    }
}

static void bad_offer(struct world *world)
{
    static const char *const rows[] = { "x", PMD "; x", PMD "; server_max_window_bits", PMD ",", " " };
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
        struct wsr_socket *socket = NULL;
        options.deflate = rows[i];
        assert_int_equal(wsr_socket_open(world->engine, world_url(world, WORLD_URL), WSR_ZSTRING, NULL, 0, &options,
                                         &socket), WSR_ERR_SYNTAX);
        assert_non_null(strstr(wsr_error_text(), "deflate, byte "));
        assert_null(socket);
    }
    assert_int_equal(sim_connections(world->sim), 0);
}

static void what_is_offered_is_in_the_request(void **state)
{
    (void)state;
    world_each_seed(offer_by_option, NULL);
    world_each_plain_seed(bad_offer, NULL);
}

/* PMD-04, PMD-10, PMD-12, PMD-17, PMD-24, PMD-27: extensions is the value as it came, or the connection fails. */
static void answers_are_accepted_or_fail_the_connection(void **state)
{
    (void)state;
    static const struct wsr_socket_options none = { .size = sizeof none, .deflate = "" };
    static const struct wsr_socket_options plain = { .size = sizeof plain, .deflate = PMD };
    static const struct world_scene scenes[] = {
        { .name = "not offered", .script = "accept; upgrade Sec-WebSocket-Extensions: " PMD, .socket_options = &none,
          .events = "error\nclose 1006 unclean\n", .peer = "request GET /chat\n?torn frame\nend\n",
          .stage = WSR_STAGE_UPGRADE, .http_status = 101, .word = "not offered" },
        { .name = "unknown", .script = "accept; upgrade Sec-WebSocket-Extensions: " PMD "| x=1",
          .events = "error\nclose 1006 unclean\n", .peer = "request GET /chat\n?torn frame\nend\n",
          .stage = WSR_STAGE_UPGRADE, .http_status = 101, .word = "does not define" },
        { .name = "client window", .script = "accept; upgrade Sec-WebSocket-Extensions: " PMD
          "| client_max_window_bits=10", .socket_options = &plain,
          .events = "error\nclose 1006 unclean\n", .peer = "request GET /chat\n?torn frame\nend\n",
          .stage = WSR_STAGE_UPGRADE, .http_status = 101, .word = "not offered" },
    };
    world_play(scenes, COUNT_OF(scenes));
}

static void getter(struct world *world)
{
    sim_script(world->sim, "accept; upgrade Sec-WebSocket-Extensions:  " PMD "|server_max_window_bits = \"10\"; "
                           "wait 1; close 1000; expect close; fin");
    struct wsr_socket *socket = open_with(world, NULL, 0);
    assert_string_equal(wsr_socket_extensions(socket), PMD ";server_max_window_bits = \"10\"");
    world_run_to_end(world);
    assert_string_equal(wsr_socket_extensions(socket), PMD ";server_max_window_bits = \"10\"");
}

static void extensions_is_what_came(void **state)
{
    (void)state;
    world_each_seed(getter, NULL);
}

/* ---- Both ways ---- */

/* PMD-30, PMD-33, PMD-34, PMD-35, PMD-41: echoes of every length, compressed and plain in turns, Pings between them. */
static void echoes(struct world *world)
{
    static const size_t lengths[] = { 0, 1, 63, 64, 65, 300, 5000, 70000 };
    sim_script(world->sim, OPENED "echo; ping now; expect close; close 1000; fin");
    struct wsr_socket *socket = open_with(world, NULL, 0);
    for (unsigned i = 0; i < COUNT_OF(lengths); i++) {
        char line[64], *text = text_of(lengths[i], line);
        assert_int_equal(wsr_send(socket, WSR_TEXT, text, lengths[i]), 0);
        while (world->sockets[0].messages_count <= i)
            world_wait(world);
        assert_true(lengths[i] < 64 || strstr(sim_log(world->sim, 0), line) != NULL);
        free(text);
    }
    assert_int_equal(times(world, "deflated "), 5);
    assert_int_equal(statistics_of(world).deflate_messages_sent, 5);
    assert_int_equal(statistics_of(world).deflate_sent_bytes, 64 + 65 + 300 + 5000 + 70000);
    assert_int_equal(statistics_of(world).deflate_messages_received, 5);
    assert_int_equal(statistics_of(world).deflate_received_bytes, 64 + 65 + 300 + 5000 + 70000);
    assert_int_equal(statistics_of(world).messages_sent_bytes, 64 + 65 + 300 + 5000 + 70000 + 64);
    assert_true(statistics_of(world).deflate_sent_wire_bytes < 10000);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
}

static void messages_go_both_ways(void **state)
{
    (void)state;
    world_each_seed(echoes, NULL);
}

/* PMD-37, CTL-02: the compressed bytes are what is cut, RSV1 is on the first frame alone (the peer looks), and a Pong
 * goes between. */
static void fragments(struct world *world)
{
    char line[64], *text = text_of(30000, line);
    sim_script(world->sim, OPENED "parts; slow 40; text go; wait 3; ping between; expect close; close 1000; fin");
    struct wsr_socket *socket = open_with(world, NULL, 50);
    assert_int_equal(wsr_send(socket, WSR_TEXT, text, 30000), 0);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(times(world, line), 1);
    assert_int_equal(times(world, "deflated "), 1);
    uint64_t wire_bytes = statistics_of(world).deflate_sent_wire_bytes;
    assert_int_equal(times(world, "part 50"), (wire_bytes - 1) / 50);
    free(text);
}

static void the_compressed_bytes_are_cut_into_frames(void **state)
{
    (void)state;
    world_each_seed(fragments, NULL);
}

/* PMD-33: small ones are not worth it, by default or by option, and never with the largest number. */
static void count_deflated(struct world *world, size_t len, unsigned want)
{
    char line[64], *text = text_of(len, line);
    uint64_t before = statistics_of(world).deflate_messages_sent;
    assert_int_equal(wsr_send(world->sockets[0].socket, WSR_TEXT, text, len), 0);
    world_run(world, 1);
    assert_int_equal(statistics_of(world).deflate_messages_sent - before, want);
    free(text);
}

static void default_thresholds(struct world *world)
{
    bool is_alone = sim_seed(world->sim) & 1;
    sim_script(world->sim, is_alone ? ALONE "expect close; close 1000; fin" : OPENED "expect close; close 1000; fin");
    open_with(world, NULL, 0);
    count_deflated(world, is_alone ? 1023 : 63, 0);
    count_deflated(world, is_alone ? 1024 : 64, 1);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
}

static void own_threshold(struct world *world)
{
    sim_script(world->sim, ALONE "expect close; close 1000; fin");
    open_with(world, NULL, 0);
    count_deflated(world, 199, 0);
    count_deflated(world, 200, 1);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
}

static void no_threshold_is_high_enough(struct world *world)
{
    sim_script(world->sim, OPENED "expect close; close 1000; fin");
    open_with(world, NULL, 0);
    count_deflated(world, 100000, 0);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
}

static void small_messages_leave_as_they_are(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    world_each_seed(default_thresholds, NULL);
    options.deflate_min_bytes = 200;
    world_each_plain_seed(own_threshold, &options);
    options.deflate_min_bytes = UINT32_MAX;
    world_each_plain_seed(no_threshold_is_high_enough, &options);
}

/* PMD-33: by every form of send(); the compressed messages around them still refer to each other. */
static void opt_out(struct world *world)
{
    char line[64], *text = text_of(2000, line);
    const struct iovec parts[] = { { text, 700 }, { text + 700, 1300 } };
    struct wsr_template *prepared;
    sim_script(world->sim, OPENED "echo; expect close; close 1000; fin");
    struct wsr_socket *socket = open_with(world, NULL, 0);
    assert_int_equal(wsr_send(socket, WSR_TEXT, text, 2000), 0);
    assert_int_equal(wsr_send(socket, WSR_TEXT_UNCOMPRESSED, text, 2000), 0);
    assert_int_equal(wsr_send_gather(socket, WSR_BINARY_UNCOMPRESSED, parts, 2), 0);
    assert_int_equal(wsr_send_gather(socket, WSR_BINARY, parts, 2), 0);
    assert_int_equal(wsr_template_create(&prepared, WSR_TEXT_UNCOMPRESSED, text, 2000), 0);
    assert_int_equal(wsr_send_template(socket, prepared), 0);
    wsr_template_free(prepared);
    assert_int_equal(wsr_template_create(&prepared, WSR_TEXT, text, 2000), 0);
    assert_int_equal(wsr_send_template(socket, prepared), 0);
    wsr_template_free(prepared);
    assert_int_equal(wsr_template_create(&prepared, WSR_TEXT_UNCOMPRESSED, "\xff", 1), WSR_ERR_INVALID_UTF8);
    assert_int_equal(wsr_send(socket, WSR_TEXT_UNCOMPRESSED, "\xff", 1), WSR_ERR_INVALID_UTF8);
    assert_int_equal(wsr_send(socket, (enum wsr_kind)16, text, 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send(socket, (enum wsr_kind)19, text, 1), WSR_ERR_ARGUMENT);
    while (world->sockets[0].messages_count < 6)
        world_wait(world);
    assert_int_equal(times(world, "deflated "), 3);
    assert_int_equal(statistics_of(world).deflate_messages_sent, 3);
    assert_int_equal(times(world, line), 4);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    free(text);
}

static void a_message_can_opt_out(void **state)
{
    (void)state;
    world_each_seed(opt_out, NULL);
}

static char *noise_of(struct world *world, size_t len)
{
    char *noise = malloc(len);
    assert_non_null(noise);
    for (size_t i = 0; i < len; i++)
        noise[i] = (char)sim_random(world->sim, 256);
    return noise;
}

/* PMD-33: the context lives on where random bytes left as they are. */
static void incompressible(struct world *world)
{
    static const size_t lengths[] = { 900, 20000, 70001 };      /* in one chunk, in several, and at odd places */
    char line[64], *text = text_of(3000, line), *noise = noise_of(world, 70001);
    sim_script(world->sim, OPENED "parts; expect close; close 1000; fin");
    struct wsr_socket *socket = open_with(world, NULL, sim_seed(world->sim) % 3 * 1000);
    sim_log(world->sim, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(wsr_send(socket, WSR_TEXT, text, 900), 0);
        assert_int_equal(wsr_send(socket, WSR_BINARY, noise, lengths[i]), 0);
    }
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(times(world, "deflated "), 3);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(line, sizeof line, "binary %zu #%08x\n", lengths[i], sim_hash(noise, lengths[i]));
        assert_int_equal(times(world, line), 1);
    }
    assert_int_equal(statistics_of(world).deflate_given_up, 3);
    free(text);
    free(noise);
}

static void what_becomes_no_smaller_leaves_as_it_is(void **state)
{
    (void)state;
    world_each_seed(incompressible, NULL);
}

/* ---- What is counted ---- */

/* PMD-36, BUF-01, BUF-05: uncompressed bytes, credited with the last byte of what they became. */
static void buffered(struct world *world)
{
    char line[64], *text = text_of(50000, line);
    sim_script(world->sim, OPENED "stop; text go; wait 5; slow 10; expect close; close 1000; fin");
    struct wsr_socket *socket = open_with(world, NULL, 0);
    while (world->sockets[0].messages_count == 0)
        world_wait(world);
    assert_int_equal(wsr_send(socket, WSR_TEXT, text, 50000), 0);
    assert_int_equal(wsr_socket_buffered_now(socket), 50000);
    for (uint64_t now = 50000; now > 0; now = wsr_socket_buffered_now(socket)) {
        assert_int_equal(now, 50000);
        world_run(world, 1);
    }
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(times(world, line), 1);
    free(text);
}

static void buffered_amount_counts_uncompressed_bytes(void **state)
{
    (void)state;
    world_each_seed(buffered, NULL);
}

/* ---- Life ---- */

/* CLOSE-07: what was sent before close() leaves before it, compressed as it is. */
static void queued_at_close(struct world *world)
{
    char line[64], *text = text_of(4000, line);
    sim_script(world->sim, OPENED "stop; wait 2; slow 100; expect close; close 1000; fin");
    struct wsr_socket *socket = open_with(world, NULL, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(wsr_send(socket, WSR_TEXT, text, 4000), 0);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(times(world, line), 20);
    assert_int_equal(times(world, "deflated "), 20);
    free(text);
}

static void what_is_queued_leaves_before_the_close(void **state)
{
    (void)state;
    world_each_seed(queued_at_close, NULL);
}

static void destroy_it(struct world *world, unsigned index, const struct wsr_event *event)
{
    if (event->type == WSR_EVENT_MESSAGE && world->sockets[index].messages_count == 3)
        world_destroy_socket(world, index);
}

/* In the midst of messages that share a block, while more of them wait. */
static void destroyed_in_a_handler(struct world *world)
{
    world->react = destroy_it;
    sim_script(world->sim, OPENED "cork; deflated one; deflated two; deflated three; deflated four; deflated-big 9000; "
                           "uncork; expect close; fin");
    world_connect(world);
    world_run(world, 300);
    assert_null(world->sockets[0].socket);
}

static void a_socket_may_be_destroyed_by_a_compressed_message(void **state)
{
    (void)state;
    world_each_seed(destroyed_in_a_handler, NULL);
}

/* A consumer that is slow, little memory for it, and messages that become large: all come, whole and in order, which
 * the world compares with what the peer has said. */
static void slow_consumer(struct world *world)
{
    sim_script(world->sim, OPENED "deflated a; deflated-big 3000; texts 40; deflated-big 70000; deflated-big 200; "
                           "bulk 5000; deflated b; deflated-big 30000; deflated c; close 1000; expect close; fin");
    world_connect(world);
    world_run_until(world, is_open);
    for (unsigned i = 0; i < 5; i++)
        world_sleep(world, 3);
    assert_int_equal(wsr_pause(world->sockets[0].socket), 0);
    world_run(world, 5);
    assert_int_equal(wsr_resume(world->sockets[0].socket), 0);
    world_run_to_end(world);
    assert_int_equal(world->sockets[0].messages_count, 48);
    assert_int_equal(statistics_of(world).deflate_messages_received, 7);
    assert_int_equal(statistics_of(world).loan_bytes, 0);
}

static void nothing_is_lost_where_memory_is_short(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.events_count = 8;
    options.buffers_count = 2;
    options.buffer_bytes = 512;
    options.loan_max_bytes = 1000;
    world_each_seed(slow_consumer, &options);
}

/* What was inflated stays as it is while it is held, whatever comes behind it. */
static struct wsr_hold *held;
static struct wsr_blob *blob;
static const void *held_data;

static void hold_it(struct world *world, unsigned index, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_MESSAGE || world->sockets[index].messages_count != 1)
        return;
    held = wsr_event_hold(event);
    held_data = event->data;
    blob = wsr_event_blob(event);
    assert_non_null(held);
    assert_non_null(blob);
}

static void held_message(struct world *world)
{
    char copy[16];
    world->react = hold_it;
    sim_script(world->sim, OPENED "cork; deflated first; deflated second; deflated-big 500; deflated third; uncork; "
                           "wait 2; deflated-big 5000; close 1000; expect close; fin");
    world_connect(world);
    world_run_to_end(world);
    assert_int_equal(world->sockets[0].messages_count, 5);
    assert_true(statistics_of(world).loan_bytes > 0);
    assert_memory_equal(held_data, "first", 5);
    assert_int_equal(wsr_blob_copy(blob, 0, copy, sizeof copy), 5);
    assert_memory_equal(copy, "first", 5);
    wsr_hold_release(held);
    wsr_blob_release(blob);
    world_run(world, 1);
    assert_int_equal(statistics_of(world).loan_bytes, 0);
}

static void inflated_messages_can_be_held(void **state)
{
    (void)state;
    world_each_seed(held_message, NULL);
}

/* Streams that rest give their memory back, but for the server's window, and go on: PMD-42. */
static void idle(struct world *world)
{
    char line[64], *text = text_of(2000, line);
    sim_script(world->sim, OPENED "echo; expect close; close 1000; fin");
    struct wsr_socket *socket = open_with(world, NULL, 0);
    assert_int_equal(statistics_of(world).deflate_memory_bytes, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(wsr_send(socket, WSR_TEXT, text, 2000), 0);
        while (world->sockets[0].messages_count <= i)
            world_wait(world);
        assert_int_equal(world->sockets[0].messages_count, i + 1);
        assert_true(statistics_of(world).deflate_memory_bytes > 0);
        world_run(world, 19000);
        assert_true(sim_logged_ns(world->sim, 0, "deflated") > 0);
        world_run(world, 2000);
    }
    assert_int_equal(times(world, "deflated "), 3);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    free(text);
}

static void a_rest_loses_nothing(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.deflate_idle_ns = 20000000000ull;
    world_each_seed(idle, &options);
    options.deflate_idle_ns = WSR_NEVER;
    world_each_plain_seed(idle, &options);
}

/* Many that have rested share the few streams that are kept for the next: memory does not grow with their number. */
static uint64_t memory_after(struct world *world, uint64_t idle_ms)
{
    char line[64], *text = text_of(3000, line);
    for (unsigned i = 0; i < 20; i++) {
        sim_script(world->sim, OPENED "echo; expect close; close 1000; fin");
        unsigned index = world_connect(world);
        while (!world->sockets[index].opened)
            world_wait(world);
        assert_int_equal(wsr_send(world->sockets[index].socket, WSR_TEXT, text, 3000), 0);
        while (world->sockets[index].messages_count == 0)
            world_wait(world);
    }
    free(text);
    world_run(world, idle_ms);
    return statistics_of(world).deflate_memory_bytes;
}

static void many_rest(struct world *world)
{
    bool rests = sim_seed(world->sim) & 1;
    uint64_t memory = memory_after(world, rests ? 2500 : 500);
    assert_true(rests ? memory < 20 * 4096 + 4 * 320000 : memory > 20 * 250000);
    for (unsigned i = 0; i < 20; i++)
        world_do(world, i, "close 1000");
    world_run_to_end(world);
}

static void those_that_rest_share_what_is_kept(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.deflate_idle_ns = 2000000000ull;
    world_each_plain_seed(many_rest, &options);
}

/* No slab for what a message became: it leaves as it is, and the next refers to nothing that was never sent. */
static void no_slab(struct world *world)
{
    char line[64], *text = text_of(150, line);
    sim_script(world->sim, OPENED "stop; wait 30; read; expect close; close 1000; fin");
    struct wsr_socket *socket = open_with(world, NULL, 0);
    unsigned sent = 0;
    while (sent < 100000 && wsr_send(socket, WSR_TEXT, text, 150) == 0)
        sent++;
    assert_true(sent > 10 && sent < 100000);
    assert_true(statistics_of(world).deflate_given_up > 0);
    assert_int_equal(statistics_of(world).deflate_given_up + statistics_of(world).deflate_messages_sent, sent);
    assert_int_equal(statistics_of(world).deflate_sent_bytes, 150 * statistics_of(world).deflate_messages_sent);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(times(world, line), sent);
    free(text);
}

static void without_a_slab_a_message_leaves_as_it_is(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.send_pool_bytes = 1 << 18;
    world_each_seed(no_slab, &options);
}

static void level(struct world *world)
{
    char line[64], *text = text_of(40000, line);
    sim_script(world->sim, OPENED "expect close; close 1000; fin");
    struct wsr_socket *socket = open_with(world, NULL, 0);
    for (size_t i = 0; i < 40000; i++)
        text[i] = (char)('a' + sim_pattern(i * i) % 7 + sim_random(world->sim, 4));
    assert_int_equal(wsr_send(socket, WSR_TEXT, text, 40000), 0);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    *(uint64_t *)world->context = statistics_of(world).deflate_sent_wire_bytes;
    free(text);
}

static void the_level_is_the_engines(void **state)
{
    (void)state;
    uint64_t bytes[2];
    for (unsigned i = 0; i < 2; i++) {
        struct world world;
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        options.deflate_level = i == 0 ? 1 : 9;
        world_open(&world, 1, &options);
        world.context = &bytes[i];
        level(&world);
        world_close(&world);
    }
    assert_true(bytes[1] < bytes[0]);
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_engine *engine = NULL;
    options.deflate_level = 10;
    assert_int_equal(wsr_engine_create(&engine, &options), WSR_ERR_ARGUMENT);
    assert_non_null(strstr(wsr_error_text(), "deflate_level"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_offered_is_in_the_request),
        cmocka_unit_test(answers_are_accepted_or_fail_the_connection),
        cmocka_unit_test(extensions_is_what_came),
        cmocka_unit_test(messages_go_both_ways),
        cmocka_unit_test(the_compressed_bytes_are_cut_into_frames),
        cmocka_unit_test(small_messages_leave_as_they_are),
        cmocka_unit_test(a_message_can_opt_out),
        cmocka_unit_test(what_becomes_no_smaller_leaves_as_it_is),
        cmocka_unit_test(buffered_amount_counts_uncompressed_bytes),
        cmocka_unit_test(what_is_queued_leaves_before_the_close),
        cmocka_unit_test(a_socket_may_be_destroyed_by_a_compressed_message),
        cmocka_unit_test(nothing_is_lost_where_memory_is_short),
        cmocka_unit_test(inflated_messages_can_be_held),
        cmocka_unit_test(a_rest_loses_nothing),
        cmocka_unit_test(those_that_rest_share_what_is_kept),
        cmocka_unit_test(without_a_slab_a_message_leaves_as_it_is),
        cmocka_unit_test(the_level_is_the_engines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
