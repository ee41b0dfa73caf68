/* permessage-deflate where a connection does not simply go on (semantics 5): contexts that are not kept, messages that
 * break a rule, full queues, endings in the midst, blobs, and no memory. Over engine/conn_deflate.c.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define REQUEST "request GET /chat\n"
#define FAILED "error\nclose 1006 unclean\n"
#define PMD "Sec-WebSocket-Extensions: permessage-deflate"
#define OPENED "accept; upgrade " PMD "; deflates; "
#define ALONE "accept; upgrade " PMD "| client_no_context_takeover; deflates; "
#define NEITHER "accept; upgrade " PMD "| client_no_context_takeover| server_no_context_takeover; deflates; "
#define EACH "expect text; forget; deflated-big 3000; forget; "
#define ENDED "expect close; close 1000; fin"
#define TEXT_BYTES 3000

/* zlib has no memory for a stream of the engine, which it knows by its memory; the peer's is zlib's own. */
static bool has_no_memory;

int __real_deflateInit2_(z_stream *z, int level, int method, int bits, int memory, int strategy, const char *version,
                         int bytes);
int __wrap_deflateInit2_(z_stream *z, int level, int method, int bits, int memory, int strategy, const char *version,
                         int bytes);
int __real_inflateInit2_(z_stream *z, int bits, const char *version, int bytes);
int __wrap_inflateInit2_(z_stream *z, int bits, const char *version, int bytes);

int __wrap_deflateInit2_(z_stream *z, int level, int method, int bits, int memory, int strategy, const char *version,
                         int bytes)
{
    if (has_no_memory && z->zalloc != NULL)
        return Z_MEM_ERROR;
    return __real_deflateInit2_(z, level, method, bits, memory, strategy, version, bytes);
}

int __wrap_inflateInit2_(z_stream *z, int bits, const char *version, int bytes)
{
    return has_no_memory && z->zalloc != NULL ? Z_MEM_ERROR : __real_inflateInit2_(z, bits, version, bytes);
}

static struct wsr_engine_statistics statistics_of(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    return statistics;
}

static bool is_open(struct world *world)
{
    return world->sockets[world->sockets_count - 1].opened;
}

static struct wsr_socket *open_with(struct world *world, const char *script, uint64_t fragment_bytes)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.fragment_bytes = fragment_bytes;
    sim_script(world->sim, script);
    unsigned index = world_connect_with(world, WORLD_URL, &options);
    world_run_until(world, is_open);
    return world->sockets[index].socket;
}

/* Compresses to a quarter, and to nearly nothing behind itself. */
static const char *text_here(void)
{
    static char text[TEXT_BYTES];
    uint32_t seed = 1;
    for (size_t i = 0; i < sizeof text; i++) {
        seed = seed * 1664525u + 1013904223u;
        text[i] = "etao"[seed >> 30];
    }
    return text;
}

static const char *line_here(void)
{
    static char line[64];
    snprintf(line, sizeof line, "text %d #%08x\n", TEXT_BYTES, sim_hash(text_here(), TEXT_BYTES));
    return line;
}

static void send_text(struct world *world, unsigned index)
{
    int rc = wsr_send(world->sockets[index].socket, WSR_TEXT, text_here(), TEXT_BYTES);
    if (rc != 0)
        world_fail(world, "wsr_send returned %s: %s", wsr_error_name(rc), wsr_error_text());
}

/* How often a line that begins with @start is in the log of peer @index. */
static unsigned times(struct world *world, unsigned index, const char *start)
{
    const char *log = sim_log(world->sim, index);
    unsigned count = 0;
    for (const char *at = log; (at = strstr(at, start)) != NULL; at++)
        count += at == log || at[-1] == '\n';
    return count;
}

/* ---- Contexts ---- */

/* The peer forgets what was before each message, both what it compresses and what it inflates: a reference back would
 * not inflate. */
static void each_for_itself(struct world *world)
{
    open_with(world, NEITHER EACH EACH EACH EACH ENDED, 0);
    for (unsigned i = 0; i < 4; i++) {
        send_text(world, 0);
        while (world->sockets[0].messages_count <= i)
            world_wait(world);
    }
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(times(world, 0, line_here()), 4);
    assert_int_equal(times(world, 0, "deflated "), 4);
    assert_true(statistics_of(world).deflate_sent_wire_bytes > 4 * TEXT_BYTES / 5);
}

/* While with a context that is kept, what repeats costs next to nothing. */
static void each_after_the_other(struct world *world)
{
    open_with(world, OPENED ENDED, 0);
    for (unsigned i = 0; i < 4; i++)
        send_text(world, 0);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(times(world, 0, line_here()), 4);
    assert_true(statistics_of(world).deflate_sent_wire_bytes < 2 * TEXT_BYTES / 4);
}

/* PMD-22, PMD-31, PMD-42 */
static void a_context_is_kept_or_not_as_agreed(void **state)
{
    (void)state;
    world_each_seed(each_for_itself, NULL);
    world_each_seed(each_after_the_other, NULL);
}

/* Where neither context is kept, a connection between messages has no stream: memory is that of the few that wait for
 * any of them. */
static void none_is_held(struct world *world)
{
    for (unsigned i = 0; i < 20; i++) {
        open_with(world, NEITHER "expect text; forget; deflated-big 3000; " ENDED, 0);
        send_text(world, i);
        while (world->sockets[i].messages_count == 0)
            world_wait(world);
    }
    assert_int_equal(statistics_of(world).deflate_messages_sent, 20);
    assert_int_equal(statistics_of(world).deflate_messages_received, 20);
    assert_in_range(statistics_of(world).deflate_memory_bytes, 1, 400000);
    for (unsigned i = 0; i < 20; i++)
        world_do(world, i, "close 1000");
    world_run_to_end(world);
}

/* Connections of one worker that agreed on different things, in turns: nobody has another's context. */
static void different_ones(struct world *world)
{
    static const char *const scripts[] = {
        OPENED "parts; " ENDED, ALONE "parts; " ENDED, "accept; upgrade; parts; " ENDED, OPENED "parts; " ENDED,
        "accept; upgrade " PMD "| client_max_window_bits=9; deflates; parts; " ENDED
    };
    for (unsigned i = 0; i < COUNT(scripts); i++)
        open_with(world, scripts[i], i * 77);
    for (unsigned i = 0; i < 30; i++) {
        send_text(world, (i * 3 + i / 7) % COUNT(scripts));
        world_run(world, sim_random(world->sim, 2));
    }
    unsigned arrived = 0, deflated = 0;
    for (unsigned i = 0; i < COUNT(scripts); i++)
        world_do(world, i, "close 1000");
    world_run_to_end(world);
    for (unsigned i = 0; i < COUNT(scripts); i++) {
        arrived += times(world, i, line_here());
        deflated += times(world, i, "deflated ");
    }
    assert_int_equal(arrived, 30);
    assert_int_equal(deflated, statistics_of(world).deflate_messages_sent);
    assert_int_equal(times(world, 2, "deflated "), 0);
    assert_true(deflated + times(world, 2, line_here()) == 30);
}

/* What a large message was compressed into goes back when its frames are made. */
static void large(struct world *world)
{
    static char zeros[2000000];
    struct wsr_socket *socket = open_with(world, NEITHER ENDED, 0);
    assert_int_equal(wsr_send(socket, WSR_BINARY, zeros, sizeof zeros), 0);
    while (statistics_of(world).deflate_messages_sent == 0)
        world_wait(world);
    assert_in_range(statistics_of(world).deflate_memory_bytes, 1, 400000);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
}

static void a_large_message_leaves_no_memory_behind(void **state)
{
    (void)state;
    world_each_plain_seed(large, NULL);
}

static void connections_have_contexts_of_their_own(void **state)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    (void)state;
    options.deflate_idle_ns = WSR_NEVER;
    world_each_plain_seed(none_is_held, &options);
    world_each_seed(different_ones, NULL);
}

/* ---- Messages that break a rule ---- */

/* PMD-40, PMD-46, PMD-47, PMD-48, F8: what came before is delivered, the server is told by a Close of ours, and close
 * says why. */
static void what_breaks_a_rule_fails_the_connection(void **state)
{
    static const struct wsr_engine_options small = { .size = sizeof small, .message_max_bytes = 1000 };
    static const struct {
        const char *name, *steps, *code, *word;
        const struct wsr_engine_options *options;
    } rows[] = {
        { "no DEFLATE", "raw c104ffffffff", "1007", "DEFLATE", NULL },
        { "cut off", "raw c103f248cd", "1007", "DEFLATE", NULL },
        { "not UTF-8, and more is to come", "raw 41094a4cfa0f000000ffff", "1007", "UTF-8", NULL },
        { "a bomb", "deflated-big 1001", "1009", "message_max_bytes", &small },
        { "too much on the wire", "raw c17f0000000000100000", "1009", "message_max_bytes", &small },
        { "a continuation", "raw 4103f248cd c004c9c90700", "1002", "RSV1", NULL },
        { "a Ping", "raw c900", "1002", "RSV1", NULL },
    };
    (void)state;
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char script[256], peer[128];
        snprintf(script, sizeof script, OPENED "deflated good; %s; expect fin; fin", rows[i].steps);
        snprintf(peer, sizeof peer, REQUEST "close %s *\nfin\nend\n", rows[i].code);
        const struct world_scene scene = { .name = rows[i].name, .script = script, .peer = peer, .word = rows[i].word,
                                           .events = "open\nmessage text 4 good\n" FAILED, .stage = WSR_STAGE_OPEN,
                                           .options = rows[i].options };
        world_play(&scene, 1);
    }
}

/* PMD-47: at the limit of the engine's option. */
static void the_exact_limit_passes(void **state)
{
    static const struct wsr_engine_options small = { .size = sizeof small, .message_max_bytes = 1000 };
    static const struct world_scene scene = {
        .name = "at the limit", .script = OPENED "deflated-big 1000; deflated-big 1000; close 1000; expect close; fin",
        .events = "open\nmessage binary 1000 *\nmessage binary 1000 *\nclose 1000 clean\n",
        .peer = REQUEST "close 1000\nend\n", .options = &small
    };
    (void)state;
    world_play(&scene, 1);
}

/* ---- Queues ---- */

static bool is_writable(struct world *world)
{
    return world->sockets[0].writable;
}

/* OQ-8, BUF-08, BUF-10, PMD-36: what counts for the cap is what was sent, not what it became. */
static void full_queue(struct world *world)
{
    struct wsr_socket *socket = open_with(world, OPENED "slow 100; " ENDED, 0);
    unsigned sent = 0, refused = 0;
    while (sent < 20) {
        uint64_t before = wsr_socket_buffered_now(socket);
        int rc = wsr_send(socket, WSR_TEXT, text_here(), TEXT_BYTES);
        if (rc == 0) {
            assert_true(before + TEXT_BYTES <= 10000);
            sent++;
            continue;
        }
        assert_int_equal(rc, WSR_ERR_QUOTA);
        assert_true(before + TEXT_BYTES > 10000);
        assert_int_equal(wsr_socket_buffered_now(socket), before);
        refused++;
        world->sockets[0].writable = false;
        world_run_until(world, is_writable);
        assert_true(wsr_socket_buffered_now(socket) <= 5000);
    }
    assert_true(refused >= 5);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(times(world, 0, line_here()), 20);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
}

static void a_full_queue_counts_what_was_sent(void **state)
{
    static const struct wsr_engine_options options = { .size = sizeof options, .send_queue_max_bytes = 10000 };
    (void)state;
    world_each_seed(full_queue, &options);
}

/* Random bytes, so that there is much to send, in letters, so that it compresses. */
static char *letters_of(struct world *world, size_t len)
{
    char *letters = malloc(len);
    assert_non_null(letters);
    for (size_t i = 0; i < len; i++)
        letters[i] = (char)('a' + sim_random(world->sim, 26));
    return letters;
}

/* BUF-05, BUF-07: the connection breaks in the midst of a message: none of it was sent. */
static void broken(struct world *world)
{
    char *letters = letters_of(world, 50000);
    struct wsr_socket *socket = open_with(world, OPENED "expect text; window 2000; wait 20; rst ECONNRESET", 0);
    send_text(world, 0);
    world_run(world, 10);
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(wsr_send(socket, WSR_BINARY, letters + i, 40000), 0);
    world_run_to_end(world);
    assert_int_equal(wsr_socket_buffered_amount(socket), 3 * 40000);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "abc", 3), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), 3 * 40000 + 3);
    free(letters);
}

static void what_breaks_off_stays_counted_whole(void **state)
{
    (void)state;
    world_each_seed(broken, NULL);
}

/* CLOSE-20, OQ-10: the server closes while a compressed message is half on its way. A frame that has begun is ended,
 * the rest is dropped, and the Close is the last. The peer fails the test if a frame is torn. */
static void closed_in_the_midst(struct world *world)
{
    char *letters = letters_of(world, 60000);
    struct wsr_socket *socket = open_with(world, OPENED "parts; text go; window 3000; wait 50; close 1000; wait 50; "
                                                        "read; expect close; fin", sim_seed(world->sim) % 2 * 500);
    while (world->sockets[0].messages_count == 0)
        world_wait(world);
    assert_int_equal(wsr_send(socket, WSR_TEXT, letters, 60000), 0);
    for (unsigned i = 0; i < 5; i++)
        send_text(world, 0);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 2 go\nclose 1000 clean\n");
    uint64_t left = wsr_socket_buffered_amount(socket);
    unsigned whole = times(world, 0, "text 60000 ");
    assert_int_equal(left, (whole ? 0 : 60000) + (5 - times(world, 0, line_here())) * TEXT_BYTES);
    assert_int_equal(times(world, 0, "close 1000\n"), 1);
    free(letters);
}

static void the_server_may_close_in_the_midst(void **state)
{
    (void)state;
    world_each_seed(closed_in_the_midst, NULL);
}

/* CLOSE-32: what was sent before it was destroyed leaves, in the order of the context, and Close 1001 behind it. */
static void destroy_at_open(struct world *world, unsigned index, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_OPEN)
        return;
    for (unsigned i = 0; i < 4; i++)
        send_text(world, index);
    world_destroy_socket(world, index);
}

static void destroyed(struct world *world)
{
    world->react = destroy_at_open;
    sim_script(world->sim, OPENED "slow 100; deflated no; expect close; close 1001; fin");
    world_connect(world);
    world_run(world, 1000);
    assert_null(world->sockets[0].socket);
    world_expect(world, "open\n");
    assert_int_equal(times(world, 0, line_here()), 4);
    assert_int_equal(times(world, 0, "deflated "), 4);
    assert_int_equal(times(world, 0, "close 1001\n"), 1);
    assert_int_equal(sim_files_open(world->sim), 0);
}

static void a_destroyed_socket_sends_what_was_compressed(void **state)
{
    (void)state;
    world_each_seed(destroyed, NULL);
}

/* ---- Blobs ---- */

static struct wsr_blob *blob;

static void take_blob(struct world *world, unsigned index, const struct wsr_event *event)
{
    (void)index;
    if (event->type == WSR_EVENT_MESSAGE && blob == NULL)
        blob = wsr_event_blob(event);
    (void)world;
}

/* PMD-33: a blob is compressed, or not if its kind says so, whether what it holds came compressed or not. */
static void blobs(struct world *world)
{
    bool came_deflated = sim_seed(world->sim) % 2 == 0;
    char text[10000], want[64];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = sim_pattern(i);
    blob = NULL;
    world->react = take_blob;
    struct wsr_socket *socket = open_with(world, came_deflated ? OPENED "deflated-big 10000; " ENDED
                                                               : OPENED "bulk 10000; " ENDED, 0);
    while (world->sockets[0].messages_count == 0)
        world_wait(world);
    assert_non_null(blob);
    assert_int_equal(wsr_send_blob(socket, WSR_BINARY, blob), 0);
    assert_int_equal(wsr_send_blob(socket, WSR_BINARY_UNCOMPRESSED, blob), 0);
    assert_int_equal(wsr_send_blob(socket, WSR_TEXT, blob), 0);
    assert_int_equal(wsr_send_blob(socket, WSR_TEXT_UNCOMPRESSED, blob), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket) % sizeof text, 0);
    wsr_blob_release(blob);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    snprintf(want, sizeof want, "binary 10000 #%08x\n", sim_hash(text, sizeof text));
    assert_int_equal(times(world, 0, want), 2);
    assert_int_equal(times(world, 0, "text 10000 "), 2);
    assert_int_equal(times(world, 0, "deflated "), 2);
    assert_int_equal(statistics_of(world).deflate_messages_sent, 2);
}

static void blobs_are_compressed_too(void **state)
{
    (void)state;
    world_each_seed(blobs, NULL);
}

/* ---- Without memory ---- */

/* PMD-33: no stream to compress with: messages leave as they are, until there is memory again. */
static void no_deflater(struct world *world)
{
    open_with(world, OPENED ENDED, 0);
    has_no_memory = true;
    send_text(world, 0);
    send_text(world, 0);
    world_run(world, 5);
    has_no_memory = false;
    assert_int_equal(times(world, 0, line_here()), 2);
    assert_int_equal(times(world, 0, "deflated "), 0);
    assert_int_equal(statistics_of(world).deflate_given_up, 2);
    send_text(world, 0);
    send_text(world, 0);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(times(world, 0, line_here()), 4);
    assert_int_equal(times(world, 0, "deflated "), 2);
    assert_int_equal(statistics_of(world).deflate_given_up, 2);
}

/* F8: none to inflate with: 1011. */
static void no_inflater(struct world *world)
{
    has_no_memory = true;
    open_with(world, OPENED "deflated a; deflated b; expect fin; fin", 0);
    world_run_to_end(world);
    has_no_memory = false;
    world_expect(world, "open\n" FAILED);
    world_expect_peer(world, 0, REQUEST "close 1011 *\nfin\nend\n");
}

static void without_memory(void **state)
{
    (void)state;
    world_each_seed(no_deflater, NULL);
    world_each_seed(no_inflater, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_context_is_kept_or_not_as_agreed),
        cmocka_unit_test(connections_have_contexts_of_their_own),
        cmocka_unit_test(a_large_message_leaves_no_memory_behind),
        cmocka_unit_test(what_breaks_a_rule_fails_the_connection),
        cmocka_unit_test(the_exact_limit_passes),
        cmocka_unit_test(a_full_queue_counts_what_was_sent),
        cmocka_unit_test(what_breaks_off_stays_counted_whole),
        cmocka_unit_test(the_server_may_close_in_the_midst),
        cmocka_unit_test(a_destroyed_socket_sends_what_was_compressed),
        cmocka_unit_test(blobs_are_compressed_too),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
