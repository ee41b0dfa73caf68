/* engine/conn: limits and floods. What is allowed passes to the last byte, what is over fails with its code, and a
 * server that goes on for ever is held to a bounded amount of memory and time (semantics 4.1, limits).
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
#define ENDED "close 1000; expect close; fin"
#define UPGRADE_FIELDS "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: $ACCEPT\r\n"
#define SEEDS_STEP 60            /* of the seeds, for what takes long */
#define MS_PER_DAY 86400000u

/* Linked with --wrap: the largest block that anybody asked for, and from which size on there is none to be had. */
static size_t largest_bytes, refused_bytes = SIZE_MAX;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    largest_bytes = bytes > largest_bytes ? bytes : largest_bytes;
    return bytes < refused_bytes ? __real_malloc(bytes) : NULL;
}

static struct wsr_engine_statistics statistics_of(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    return statistics;
}

static void each_few_seeds(void (*test)(struct world *world), const struct wsr_engine_options *options)
{
    for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed += SEEDS_STEP) {
        struct world world;
        world_open(&world, seed, options);
        test(&world);
        world_close(&world);
    }
}

/* ---- The head of the answer ---- */

#define LINES_COUNT 100000u
#define LINE_BYTES 16u           /* "X-Line: 000000\r\n" */

/* An answer with @lines lines more, and @filler bytes in the value of one. "$ACCEPT" stands for 28 bytes. */
static char *answer_script(unsigned lines, size_t filler, size_t *head_bytes)
{
    static const char begin[] = "accept; expect request; http HTTP/1.1 101 Switching Protocols\r\n" UPGRADE_FIELDS;
    static const char end[] = "\r\n; text a; " ENDED;
    char *script = malloc(sizeof begin + sizeof end + (size_t)lines * LINE_BYTES + filler + 32);
    assert_non_null(script);
    char *to = stpcpy(script, begin);
    for (unsigned i = 0; i < lines; i++)
        to += snprintf(to, LINE_BYTES + 1, "X-Line: %06u\r\n", i);
    to = stpcpy(to, "X-Filler: ");
    memset(to, 'f', filler);
    to = stpcpy(to + filler, "\r\n");
    *head_bytes = (size_t)(to - strstr(script, "HTTP/1.1")) - strlen("$ACCEPT") + 28 + 2;
    memcpy(to, end, sizeof end);
    return script;
}

static struct wsr_socket *open_keeping(struct world *world, const char *script)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    options.flags = WSR_SOCKET_KEEP_RESPONSE;
    sim_script(world->sim, script);
    assert_int_equal(wsr_socket_open(world->engine, world_url(world, WORLD_URL), WSR_ZSTRING, NULL, 0, &options,
                                     &socket), 0);
    world_adopt(world, socket);
    return socket;
}

/* RESP-11: the default is 64 KiB, to the byte, and 1,100 fields are no limit of their own. */
static void a_head_of_64_kib_passes(struct world *world)
{
    size_t head_bytes;
    char *script = answer_script(1100, 0, &head_bytes);
    size_t filler = 65536 - head_bytes + sim_random(world->sim, 2);
    bool is_over = filler + head_bytes > 65536;
    free(script);
    script = answer_script(1100, filler, &head_bytes);
    assert_int_equal(head_bytes, is_over ? 65537 : 65536);
    open_keeping(world, script);
    free(script);
    world_run_to_end(world);
    world_expect(world, is_over ? FAILED : "open\nmessage text 1 a\nclose 1000 clean\n");
    if (is_over)
        assert_non_null(strstr(world->last_error.text, "head_max_bytes"));
}

static void the_default_limit_of_a_head_is_64_kib(void **state)
{
    (void)state;
    world_each_seed(a_head_of_64_kib_passes, NULL);
}

/* RESP-11, RESP-15: with the limit raised all of them are read, kept, and found again. */
static void all_lines_of_a_long_head_are_found(struct world *world)
{
    static const unsigned places[] = { 65536, LINES_COUNT - 1 };     /* few: under a sanitizer each look takes long */
    size_t head_bytes, len;
    char *script = answer_script(LINES_COUNT, 1, &head_bytes);
    struct wsr_socket *socket = open_keeping(world, script);
    free(script);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 a\nclose 1000 clean\n");
    for (size_t i = 0; i < COUNT(places); i++) {
        char want[16];
        snprintf(want, sizeof want, "%06u", places[i]);
        const char *value = wsr_socket_response_header(socket, "x-line", places[i], &len);
        assert_non_null(value);
        assert_int_equal(len, 6);
        assert_memory_equal(value, want, 6);
    }
    assert_null(wsr_socket_response_header(socket, "x-line", LINES_COUNT, &len));
}

/* RESP-11: with the default limit they fail, and no more than that is read of them. */
static void a_head_without_end_fails_at_the_limit(struct world *world)
{
    size_t head_bytes;
    char *script = answer_script(LINES_COUNT, 1, &head_bytes);
    open_keeping(world, script);
    free(script);
    world_run_to_end(world);
    world_expect(world, FAILED);
    assert_int_equal(world->last_close.stage, WSR_STAGE_UPGRADE);
    assert_in_range(statistics_of(world).wire_received_bytes, 65536, 65536 + 2 * 65536);
}

static void a_hundred_thousand_header_lines(void **state)
{
    static const struct wsr_engine_options wide = { .size = sizeof wide, .head_max_bytes = 2u << 20 };
    (void)state;
    each_few_seeds(all_lines_of_a_long_head_are_found, &wide);
    each_few_seeds(a_head_without_end_fails_at_the_limit, NULL);
}

/* ---- Fragments ---- */

static const struct {
    const char *script, *events, *peer;
} fragment_rows[] = {
    { "fragments 131072; " ENDED, "open\nmessage text 0\nclose 1000 clean\n", REQUEST "close 1000\nend\n" },
    { "fragments 131073; expect fin; fin", "open\n" FAILED, REQUEST "close 1008 *\nfin\nend\n" },
    { "fragments 131072 x; " ENDED, "open\nmessage text 131072 *\nclose 1000 clean\n", REQUEST "close 1000\nend\n" },
    { "fragments 131073 x; expect fin; fin", "open\n" FAILED, REQUEST "close 1008 *\nfin\nend\n" },
    { "open-end 300000; expect fin; fin", "open\n" FAILED, REQUEST "close 1008 *\nfin\nend\n" },
    /* Each message counts anew. */
    { "fragments 100000; fragments 100000; " ENDED, "open\nmessage text 0\nmessage text 0\nclose 1000 clean\n",
      REQUEST "close 1000\nend\n" },
};

/* RECV-09, RECV-14: the default is 131,072 frames, empty ones too; without end is one too many. */
static void frames_of_one_message(struct world *world)
{
    size_t at = (size_t)((sim_seed(world->sim) / SEEDS_STEP) % COUNT(fragment_rows));
    char script[128];
    snprintf(script, sizeof script, OPENED "%s", fragment_rows[at].script);
    sim_script(world->sim, script);
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, fragment_rows[at].events);
    world_expect_peer(world, 0, fragment_rows[at].peer);
    assert_int_equal(statistics_of(world).loan_bytes, 0);
}

static void a_message_may_have_131072_frames(void **state)
{
    (void)state;
    for (uint64_t row = 0; row < COUNT(fragment_rows); row++) {
        struct world world;
        world_open(&world, 1 + row * SEEDS_STEP, NULL);
        frames_of_one_message(&world);
        world_close(&world);
    }
}

/* ---- Lengths ---- */

/* RECV-05: 2^63-1 is a legal length that no limit of this machine allows, 2^63 and 2^64-1 are none. */
static void lengths_beyond_all_measure_fail_by_the_header(void **state)
{
    static const struct { const char *raw; int code; } rows[] = {
        { "827f7fffffffffffffff", 1009 }, { "027f7fffffffffffffff", 1009 }, { "817f7fffffffffffffff", 1009 },
        { "827f8000000000000000", 1002 }, { "827fffffffffffffffff", 1002 }, { "017fffffffffffffffff", 1002 },
        { "020161 807f7fffffffffffffff", 1009 }, { "020161 007fffffffffffffffff", 1002 },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char script[128], peer[64];
        snprintf(script, sizeof script, OPENED "raw %s; expect fin; fin", rows[i].raw);
        snprintf(peer, sizeof peer, REQUEST "close %d *\nfin\nend\n", rows[i].code);
        const struct world_scene scene = { .name = rows[i].raw, .script = script, .events = "open\n" FAILED,
                                           .peer = peer, .stage = WSR_STAGE_OPEN };
        world_play(&scene, 1);
    }
}

/* RECV-15: what a header announces takes no memory, only what has come; also where every length is allowed. */
static void an_announced_length_takes_no_memory(struct world *world)
{
    bool is_text = sim_random(world->sim, 2) == 0;
    char script[128];
    snprintf(script, sizeof script, OPENED "raw %s7f7fffffffffffffff; wait 20; raw 616263; wait 20; fin",
             is_text ? "81" : "02");
    sim_script(world->sim, script);
    largest_bytes = 0;
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\n" FAILED);
    assert_in_range(largest_bytes, 1, 8192);
}

static void no_memory_for_what_was_only_announced(void **state)
{
    static const struct wsr_engine_options boundless = { .size = sizeof boundless, .message_max_bytes = UINT64_MAX };
    (void)state;
    world_each_seed(an_announced_length_takes_no_memory, &boundless);
}

/* F8: without memory for a message the connection fails with 1011, without memory for the answer it never opens; the
 * engine and its other sockets go on. */
static void memory_that_runs_out_fails_one_connection(struct world *world)
{
    bool is_early = sim_random(world->sim, 2) == 0;
    sim_script(world->sim, is_early ? "cut 7; accept; upgrade X: y"
                                    : "cut whole; accept; upgrade; text a; wait 5000; fragments 99 in pieces; "
                                      "expect fin; fin");
    sim_script(world->sim, OPENED "wait 200; fragments 99 in pieces; " ENDED);
    refused_bytes = is_early ? 1000 : SIZE_MAX;
    world_connect(world);
    world_run(world, 10);
    refused_bytes = 1000;
    world_run(world, 6000);
    refused_bytes = SIZE_MAX;
    world_expect(world, is_early ? FAILED : "open\nmessage text 1 a\n" FAILED);
    assert_non_null(strstr(world->last_error.text, "no memory"));
    world_expect_peer(world, 0, is_early ? REQUEST "end\n" : REQUEST "close 1011 *\nfin\nend\n");
    world_connect(world);
    world_run_to_end(world);
    assert_int_equal(world->sockets[1].messages_count, 1);
    assert_true(world->last_close.was_clean);
}

static void no_memory(void **state)
{
    static const struct wsr_engine_options tiny = { .size = sizeof tiny, .buffer_bytes = 512, .events_count = 8 };
    (void)state;
    /* Over TLS what is refused here is first of all OpenSSL's. */
    world_each_plain_seed(memory_that_runs_out_fails_one_connection, &tiny);
}

/* ---- Pings ---- */

/* CTL-03: a server that pings without end and reads nothing. What waits for it stays bounded: it gets 64 and the
 * newest, and the connection can still be closed. */
static void a_flood_of_pings_that_nobody_reads(struct world *world)
{
    sim_script(world->sim, OPENED "stop; cork; pings 30000; texts 1; uncork; wait 1000; cork; pings 30000; texts 1; "
               "uncork; wait 60000; read; expect close; close 1000; fin");
    world_connect(world);
    world_run(world, 5000);
    assert_int_equal(world->sockets[0].messages_count, 2);
    struct wsr_engine_statistics statistics = statistics_of(world);
    assert_in_range(60000 - statistics.pings_dropped, 64, 66);
    world_run(world, 60000);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 0\nmessage text 1 0\nclose 1000 clean\n");
    unsigned pongs = 0;
    for (const char *at = sim_log(world->sim, 0); (at = strstr(at, "pong ")) != NULL; at++)
        pongs++;
    assert_int_equal(pongs, 60000 - statistics.pings_dropped);
    assert_non_null(strstr(sim_log(world->sim, 0), "pong 5 29999\nclose 1000\nend\n"));
}

/* The same, and it never reads: only the limit of the closing handshake ends it. */
static void a_flood_of_pings_to_the_end(struct world *world)
{
    sim_script(world->sim, OPENED "stop; cork; pings 30000; uncork; wait 100; cork; pings 30000; uncork");
    world_connect(world);
    world_run(world, 1000);
    uint64_t start_ns = sim_now(world->sim);
    world_do(world, 0, "text late; close 1000");
    world_run_to_end(world);
    world_expect(world, "open\n" FAILED);
    assert_in_range((world->closed_ns - start_ns) / 1000000, 30000, 30100);
    assert_int_equal(world->last_close.system_errno, ETIMEDOUT);
    assert_int_equal(wsr_socket_buffered_amount(world->sockets[0].socket), 4);
}

static void ping_floods_without_a_reader(void **state)
{
    (void)state;
    each_few_seeds(a_flood_of_pings_that_nobody_reads, NULL);
    each_few_seeds(a_flood_of_pings_to_the_end, NULL);
}

/* ---- Time ---- */

static const struct wsr_engine_options patient = {
    .size = sizeof patient, .wait = WSR_WAIT_BLOCK, .open_timeout_ns = WSR_NEVER, .close_timeout_ns = WSR_NEVER,
    .fin_timeout_ns = WSR_NEVER
};

/* HS-13, CLOSE-25, CLOSE-26: WSR_NEVER is no limit at all. The server keeps us waiting for a day at each stage. */
static void without_limits_nothing_ends(struct world *world)
{
    sim_script(world->sim, "accept 86400000; expect request; wait 86400000; http HTTP/1.1 101 S\r\n" UPGRADE_FIELDS
               "\r\n; expect close; wait 86400000; close 1000; wait 86400000; fin");
    world_connect(world);
    struct wsr_socket *socket = world->sockets[0].socket;
    world_run(world, 2 * MS_PER_DAY - 1000);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CONNECTING);
    world_run(world, 2000);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_OPEN);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    world_run(world, 2 * MS_PER_DAY - 1000);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
    world_run(world, 3000);
    world_expect(world, "open\nclose 1000 clean\n");
    world_expect_peer(world, 0, REQUEST "close 1000\nend\n");
}

/* EVT-17, WPT keeping-connection-open/001: 20 s, and a day, of silence; then both sides speak as before. */
static void silence_is_no_end(struct world *world)
{
    sim_script(world->sim, OPENED "echo; wait 20000; text still; wait 86400000; text there; expect close; "
               "close 1000; fin");
    world_connect(world);
    world_run(world, 19000);
    world_expect(world, "open\n");
    world_run(world, 2000);
    world_do(world, 0, "text one");
    world_run(world, 100);
    world_expect(world, "open\nmessage text 5 still\nmessage text 3 one\n");
    world_run(world, MS_PER_DAY - 60000);
    world_do(world, 0, "text two");
    world_run(world, 120000);
    world_expect(world, "open\nmessage text 5 still\nmessage text 3 one\nmessage text 3 two\nmessage text 5 there\n");
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    world_expect_peer(world, 0, REQUEST "text 3 one\ntext 3 two\nclose 1000\nend\n");
}

static void days_of_silence(void **state)
{
    static const struct wsr_engine_options blocking = { .size = sizeof blocking, .wait = WSR_WAIT_BLOCK };
    (void)state;
    world_each_seed(without_limits_nothing_ends, &patient);
    world_each_seed(silence_is_no_end, &blocking);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_limit_of_a_head_is_64_kib),
        cmocka_unit_test(a_hundred_thousand_header_lines),
        cmocka_unit_test(a_message_may_have_131072_frames),
        cmocka_unit_test(lengths_beyond_all_measure_fail_by_the_header),
        cmocka_unit_test(no_memory_for_what_was_only_announced),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(ping_floods_without_a_reader),
        cmocka_unit_test(days_of_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
