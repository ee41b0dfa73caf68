/* engine/conn: parts of the rules that the tests by module leave open, each proved on the wire or by the events
 * (semantics 2 to 6).
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define REQUEST "request GET /chat\n"
#define FAILED "error\nclose 1006 unclean\n"
#define OPENED "accept; upgrade; "
#define ENDED "close 1000; expect close; fin"

static bool is_open(struct world *world)
{
    return world->sockets[0].opened;
}

static struct wsr_socket *connect_open(struct world *world, const char *script)
{
    sim_script(world->sim, script);
    world_connect(world);
    world_run_until(world, is_open);
    return world->sockets[0].socket;
}

/* ---- Masks ---- */

/* SEND-10: a key for each frame, control frames too, and no bit of it is the same everywhere. Of 120 fresh keys two are
 * alike once in 600,000 tries, three once in 10^13. */
static void every_frame_has_a_key_of_its_own(struct world *world)
{
    struct wsr_socket *socket = connect_open(world, OPENED "pings 30; expect close; close 1000; fin");
    for (unsigned i = 0; i < 70; i++)
        world_do(world, 0, i % 2 == 0 ? "text same" : "binary ");
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(wsr_ping(socket, "p", 1), 0);
    world_run(world, 200);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    size_t count;
    const uint32_t *masks = sim_masks(world->sim, 0, &count);
    unsigned alike = 0;
    uint32_t ever_set = 0, always_set = UINT32_MAX;
    assert_int_equal(count, 120);
    for (size_t i = 0; i < count; i++) {
        ever_set |= masks[i];
        always_set &= masks[i];
        for (size_t k = 0; k < i; k++)
            alike += masks[k] == masks[i];
    }
    assert_in_range(alike, 0, 1);
    assert_true(ever_set == UINT32_MAX && always_set == 0);
}

#define CLOSES_COUNT 12

/* The same for the Close frames that close(), a destroyed socket, the echo of the server's Close and a failure send. */
static void every_close_has_a_key_of_its_own(struct world *world)
{
    static const char *const scripts[] = {
        OPENED "expect close; close 1000; fin", OPENED "expect close; close 1000; fin", OPENED ENDED,
        OPENED "raw 8300; expect fin; fin",
    };
    uint32_t keys[CLOSES_COUNT];
    for (unsigned i = 0; i < CLOSES_COUNT; i++)
        sim_script(world->sim, scripts[i % COUNT(scripts)]);
    for (unsigned i = 0; i < CLOSES_COUNT; i++)
        world_connect(world);
    world_run(world, 100);
    for (unsigned i = 0; i < CLOSES_COUNT; i += COUNT(scripts)) {
        world_do(world, i, "close 1000");
        world_destroy_socket(world, i + 1);
    }
    world_run(world, 3000);
    unsigned alike = 0;
    for (unsigned i = 0; i < CLOSES_COUNT; i++) {
        size_t count;
        const uint32_t *masks = sim_masks(world->sim, i, &count);
        assert_int_equal(count, 1);
        keys[i] = masks[0];
        for (unsigned k = 0; k < i; k++)
            alike += keys[k] == keys[i];
    }
    assert_int_equal(alike, 0);
}

static void masks(void **state)
{
    (void)state;
    world_each_seed(every_frame_has_a_key_of_its_own, NULL);
    world_each_seed(every_close_has_a_key_of_its_own, NULL);
}

/* ---- bufferedAmount ---- */

/* BUF-01: neither the request nor Ping, Pong and Close count, nor does a frame's header. */
static void only_payload_is_counted(struct world *world)
{
    sim_script(world->sim, "stop; accept; early; wait 50; read; upgrade; stop; cork; pings 5; uncork; wait 5000; read; "
               "expect close; close 1000; fin");
    world_connect(world);
    struct wsr_socket *socket = world->sockets[0].socket;
    world_run(world, 20);
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
    world_run_until(world, is_open);
    world_run(world, 20);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(wsr_ping(socket, "0123456789", 10), 0);
    world_run(world, 20);
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
    world_do(world, 0, "text ab; big 126; close 1000 a reason");
    world_run(world, 20);
    assert_int_equal(wsr_socket_buffered_now(socket), 128);
    assert_int_equal(wsr_socket_buffered_amount(socket), 128);
    world_run_to_end(world);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    world_expect(world, "open\nclose 1000 clean\n");
}

/* BUF-02, BUF-07, SEND-03: 64 bits, and what is counted after the end is counted for ever. The bytes of a binary
 * message that is not sent are not looked at. */
static void the_count_has_64_bits(struct world *world)
{
    const size_t gib = (size_t)1 << 30;
    void *much = mmap(NULL, gib, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(much, MAP_FAILED);
    struct wsr_socket *socket = connect_open(world, OPENED "close 1000; expect close; fin");
    world_run_to_end(world);
    for (uint64_t i = 1; i <= 9; i++) {
        assert_int_equal(wsr_send(socket, WSR_BINARY, much, gib), 0);
        assert_true(wsr_socket_buffered_amount(socket) == i * gib);
        assert_true(wsr_socket_buffered_now(socket) == i * gib);
    }
    world_run(world, 100);
    assert_true(wsr_socket_buffered_amount(socket) == 9 * gib);
    munmap(much, gib);
}

static void buffered_amounts(void **state)
{
    (void)state;
    world_each_seed(only_payload_is_counted, NULL);
    world_each_seed(the_count_has_64_bits, NULL);
}

/* ---- Control frames between the others ---- */

/* RECV-08, CTL-01: the Pong leaves before the message ends, which the server makes depend on it; a Close between
 * fragments counts too. CLOSE-24: nothing of what follows a Close is looked at, whatever it is. */
static void control_frames_do_not_wait(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "Ping between fragments", .script = OPENED "raw 010161 890170; expect pong; raw 000162 890171; "
          "expect pong; raw 800163; " ENDED, .events = "open\nmessage text 3 abc\nclose 1000 clean\n",
          .peer = REQUEST "pong 1 p\npong 1 q\nclose 1000\nend\n" },
        { .name = "Close between fragments", .script = OPENED "raw 010161; close 3000 enough; expect close; "
          "raw 800162; fin", .events = "open\nclose 3000 clean enough\n", .peer = REQUEST "close 3000\nend\n" },
        { .name = "everything behind a Close", .script = OPENED "cork; close 4000; close 4001; ping p; pong p; "
          "text no; raw 8000 0000 010161 800162 c100 8300 818000000000 827f8000000000000000 880103 8102c328 ff; "
          "uncork; expect close; raw 8000; ping q; wait 10; fin",
          .events = "open\nclose 4000 clean\n", .peer = REQUEST "close 4000\nend\n" },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

/* ---- NUL bytes ---- */

static void see_nul(struct world *world, unsigned index, const struct wsr_event *event)
{
    (void)world, (void)index;
    if (event->type == WSR_EVENT_MESSAGE) {
        assert_int_equal(event->len, 3);
        assert_memory_equal(event->data, "a\0b", 3);
    } else if (event->type == WSR_EVENT_CLOSE) {
        assert_int_equal(event->code, 4000);
        assert_int_equal(event->len, 4);
        assert_memory_equal(event->data, "\0r\0\0", 4);
    }
}

/* UTF-05, CLOSE-09, CTL-09: a NUL is a character like any other, in texts and reasons, both ways. */
static void nul_bytes_are_text(struct world *world)
{
    world->react = see_nul;
    struct wsr_socket *socket = connect_open(world, OPENED "raw 8103 610062; expect text; expect close; "
                                             "raw 8806 0fa0 00720000; fin");
    world_run(world, 20);
    assert_int_equal(world->sockets[0].messages_count, 1);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "c\0d", 3), 0);
    assert_int_equal(wsr_close(socket, 3000, "x\0y\0", 4), 0);
    world_run_to_end(world);
    assert_true(world->last_close.was_clean);
    /* The simulated peer unmasks in place: header, key, payload. */
    const char *frames = strstr(sim_request(world->sim, 0), "\r\n\r\n") + 4;
    assert_memory_equal(frames, "\x81\x83", 2);
    assert_memory_equal(frames + 6, "c\0d", 3);
    assert_memory_equal(frames + 9, "\x88\x86", 2);
    assert_memory_equal(frames + 15, "\x0b\xb8x\0y\0", 6);
}

static void nul_bytes(void **state)
{
    (void)state;
    world_each_seed(nul_bytes_are_text, NULL);
}

/* ---- No event inside a call ---- */

static void unheard(const struct wsr_event *event, void *context)
{
    (void)event, (void)context;
}

static void call_everything(struct world *world, unsigned index)
{
    struct wsr_socket *socket = world->sockets[index].socket, *other = NULL;
    size_t before = world->log_bytes, len;
    enum wsr_ready_state state = wsr_socket_ready_state(socket);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "x", 1), state == WSR_CONNECTING ? WSR_ERR_INVALID_STATE : 0);
    assert_int_equal(wsr_ping(socket, "p", 1), state == WSR_CONNECTING ? WSR_ERR_INVALID_STATE : 0);
    assert_int_equal(wsr_pause(socket), 0);
    assert_int_equal(wsr_resume(socket), 0);
    wsr_socket_set_binary_type(socket, WSR_ARRAYBUFFER);
    wsr_socket_set_user(socket, world);
    assert_int_equal(wsr_add_event_listener(socket, WSR_EVENT_CLOSE, unheard, NULL, 0), 0);
    assert_int_equal(wsr_remove_event_listener(socket, WSR_EVENT_CLOSE, unheard, NULL), 0);
    (void)wsr_get_on(socket, WSR_EVENT_CLOSE);
    (void)wsr_socket_protocol(socket);
    (void)wsr_socket_response_header(socket, "upgrade", 0, &len);
    (void)wsr_engine_timeout(world->engine);
    assert_int_equal(wsr_socket_open(world->engine, WORLD_URL, WSR_ZSTRING, NULL, 0, NULL, &other), 0);
    wsr_socket_destroy(other);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    assert_int_equal(world->log_bytes, before);
    assert_int_equal(wsr_socket_ready_state(socket), state < WSR_CLOSING ? WSR_CLOSING : state);
}

/* EVT-06: whatever waits to be told, it is told by a poll or a dispatch and by nothing else; in every state. */
static void no_call_tells_an_event(struct world *world)
{
    unsigned when = (unsigned)(sim_seed(world->sim) % 5);
    for (unsigned i = 0; i < 4; i++)
        sim_script(world->sim, OPENED "text a; text b; expect close; wait 20; close 1000; fin");
    world_connect(world);
    if (when >= 1)
        world_look(world);
    if (when >= 2)
        world_run_until(world, is_open);
    if (when == 3)
        world_do(world, 0, "close 1000");
    if (when == 4) {
        world_do(world, 0, "close 1000");
        world_run_to_end(world);
    } else {
        world_sleep(world, 100);                 /* what comes meanwhile waits in the kernel, or in the engine's ring */
    }
    call_everything(world, 0);
    world_run_to_end(world);
    world_run(world, 40000);
}

static void no_event_inside_a_call(void **state)
{
    (void)state;
    world_each_seed(no_call_tells_an_event, NULL);
}

/* ---- What a closing handshake may meet ---- */

/* CLOSE-15, OQ-9: Pings are answered between the two Close frames, as often as they come, and a bad one breaks a rule
 * even then. CLOSE-14: messages of any kind, whole or in pieces, are read over and still judged. */
static void between_the_two_close_frames(void **state)
{
    static const struct world_scene scenes[] = {
        { .name = "Pings", .script = OPENED "expect close; pings 20; wait 20; close 1000; fin", .on_open = "close 1000",
          .events = "open\nclose 1000 clean\n", .peer = REQUEST "close 1000\npong 1 0\npong 1 1\npong 1 2\npong 1 3\n"
          "pong 1 4\npong 1 5\npong 1 6\npong 1 7\npong 1 8\npong 1 9\npong 2 10\npong 2 11\npong 2 12\npong 2 13\n"
          "pong 2 14\npong 2 15\npong 2 16\npong 2 17\npong 2 18\npong 2 19\nend\n" },
        { .name = "messages", .script = OPENED "expect close; big 5000; raw 010161 890170 800162; text x; binary ; "
          "wait 20; close 1000; fin", .on_open = "close 1000", .events = "open\nclose 1000 clean\n",
          .peer = REQUEST "close 1000\npong 1 p\nend\n" },
        { .name = "a message that was under way", .script = OPENED "raw 010161; expect close; raw 800162; close 1000; "
          "fin", .on_open = "close 3000 x", .events = "open\nclose 1000 clean\n",
          .peer = REQUEST "close 3000 x\nend\n" },
        { .name = "a text that is none", .script = OPENED "expect close; raw 8102c328; expect fin; fin",
          .on_open = "close 1000", .events = "open\n" FAILED, .peer = REQUEST "close 1000\nfin\nend\n",
          .stage = WSR_STAGE_CLOSING },
        { .name = "a long Ping", .script = OPENED "expect close; raw 897e0080; expect fin; fin",
          .on_open = "close 1000", .events = "open\n" FAILED, .peer = REQUEST "close 1000\nfin\nend\n",
          .stage = WSR_STAGE_CLOSING },
    };
    (void)state;
    world_play(scenes, COUNT(scenes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks),
        cmocka_unit_test(buffered_amounts),
        cmocka_unit_test(control_frames_do_not_wait),
        cmocka_unit_test(nul_bytes),
        cmocka_unit_test(no_event_inside_a_call),
        cmocka_unit_test(between_the_two_close_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
