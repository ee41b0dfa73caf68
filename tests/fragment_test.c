/* Messages in several frames (SEND-12), over engine/send.c, queue.c and conn.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "tests/support/client.h"
#include "tests/support/world.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define OPENED "accept; upgrade; parts; "

static struct wsr_socket *open_cut(struct world *world, uint64_t fragment_bytes)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    options.fragment_bytes = fragment_bytes;
    assert_int_equal(wsr_socket_open(world->engine, world_url(world, WORLD_URL), WSR_ZSTRING, NULL, 0, &options,
                                     &socket), 0);
    unsigned index = world_adopt(world, socket);
    while (!world->sockets[index].opened)
        world_wait(world);
    return socket;
}

static char *pattern_of(size_t len)
{
    char *data = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        data[i] = sim_pattern(i);
    return data;
}

/* What the peer is to log of one message of @len bytes in frames of @fragment. */
static void expect_message(char *lines, size_t room, const char *data, size_t len, size_t fragment)
{
    size_t used = strlen(lines), left = len;
    for (; left > fragment; left -= fragment)
        used += (size_t)snprintf(lines + used, room - used, "part %zu\n", fragment);
    if (len > 40)
        snprintf(lines + used, room - used, "text %zu #%08x\n", len, sim_hash(data, len));
    else
        snprintf(lines + used, room - used, "text %zu%s%.*s\n", len, len > 0 ? " " : "", (int)len, data);
}

/* ---- Frames ---- */

/* SEND-12, 13: opcode, continuations, FIN on the last; SEND-09, CLOSE-07: the Close behind all of it. */
static void send_lengths(struct world *world)
{
    static const size_t fragments[] = { 1, 2, 7, 125, 126, 1000, 2000, 5000, 65536 };
    static char lines[1u << 16];
    size_t fragment = fragments[sim_seed(world->sim) % COUNT_OF(fragments)];
    size_t lengths[] = { 0, 1, fragment - 1, fragment, fragment + 1, 2 * fragment, 10 * fragment, 10 * fragment + 3 };
    sim_script(world->sim, OPENED "expect close; close 1000; fin");
    struct wsr_socket *socket = open_cut(world, fragment);
    snprintf(lines, sizeof lines, "request GET /chat\n");
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        char *data = pattern_of(lengths[i]);
        assert_int_equal(wsr_send(socket, WSR_TEXT, data, lengths[i]), 0);
        expect_message(lines, sizeof lines, data, lengths[i], fragment);
        free(data);
    }
    size_t used = strlen(lines);
    snprintf(lines + used, sizeof lines - used, "close 1000\nend\n");
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    world_run_to_end(world);
    world_expect_peer(world, 0, lines);
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
}

static void every_length_comes_in_its_frames(void **state)
{
    (void)state;
    world_each_seed(send_lengths, NULL);
}

/* Pieces of a gathered message, and UTF-8 sequences, are cut wherever a frame ends. */
static void send_pieces(struct world *world)
{
    static const char text[] = "\xE2\x82\xAC 1 \xF0\x9F\x98\x80 and \xC3\xA9 are cut anywhere";
    sim_script(world->sim, OPENED "expect text; close 1000; expect close; fin");
    struct wsr_socket *socket = open_cut(world, 1 + sim_seed(world->sim) % 9);
    struct iovec parts[8];
    size_t at = 0, count = 0;
    while (at < strlen(text)) {
        size_t len = count == 7 ? strlen(text) - at : sim_random(world->sim, 9);
        len = len < strlen(text) - at ? len : strlen(text) - at;
        parts[count++] = (struct iovec){ (char *)(uintptr_t)text + at, len };
        at += len;
    }
    assert_int_equal(wsr_send_gather(socket, WSR_TEXT, parts, count), 0);
    world_run_to_end(world);
    char want[64];
    snprintf(want, sizeof want, "\ntext %zu ", strlen(text));
    assert_non_null(strstr(sim_log(world->sim, 0), want));
    assert_non_null(strstr(sim_log(world->sim, 0), text));
}

static void pieces_and_sequences_may_be_cut(void **state)
{
    (void)state;
    world_each_seed(send_pieces, NULL);
}

/* SEND-12: a Pong passes between fragments, as soon as what the kernel was given has left. BUF-05: meanwhile
 * bufferedAmount counts payload alone. */
static void ping_meanwhile(struct world *world)
{
    size_t len = 200000, fragment = 1000 + sim_seed(world->sim) % 5000;
    sim_script(world->sim, OPENED "stop; wait 20; ping now; wait 20; slow 20000; expect text; close 1000; "
                                  "expect close; fin");
    struct wsr_socket *socket = open_cut(world, fragment);
    char *data = pattern_of(len);
    assert_int_equal(wsr_send(socket, WSR_TEXT, data, len), 0);
    uint64_t before = wsr_socket_buffered_now(socket);
    assert_int_equal(before, len);
    while (!world->sockets[0].closed) {
        world_wait(world);
        assert_true(wsr_socket_buffered_now(socket) <= before);
        before = wsr_socket_buffered_now(socket);
    }
    const char *log = sim_log(world->sim, 0), *pong = strstr(log, "pong 3 now\n"), *text = strstr(log, "\ntext ");
    assert_true(pong != NULL && text != NULL && pong < text);
    assert_int_equal(before, 0);
    free(data);
}

static void a_pong_passes_between_fragments(void **state)
{
    static const struct wsr_engine_options options = { .size = sizeof options, .send_pool_bytes = 4u << 20 };
    (void)state;
    world_each_seed(ping_meanwhile, &options);
}

/* CLOSE-20: after the server's Close the message ends with a whole frame, the Close follows, and what was not sent
 * stays counted (BUF-07). */
static void close_meanwhile(struct world *world)
{
    size_t len = 2000000, fragment = 500 + sim_seed(world->sim) % 9000;
    sim_script(world->sim, OPENED "window 3000; wait 20; close 4001 enough; wait 20; read; expect close; fin");
    struct wsr_socket *socket = open_cut(world, fragment);
    char *data = pattern_of(len);
    assert_int_equal(wsr_send(socket, WSR_TEXT, data, len), 0);
    world_run_to_end(world);
    assert_true(world->last_close.was_clean);
    assert_int_equal(world->last_close.code, 4001);
    const char *log = sim_log(world->sim, 0);
    assert_null(strstr(log, "\ntext "));
    size_t parts = 0;
    for (const char *at = log; (at = strstr(at, "part ")) != NULL; at++)
        parts++;
    assert_true(parts > 0);
    assert_int_equal(wsr_socket_buffered_now(socket), len - parts * fragment);
    free(data);
}

static void the_rest_stays_unsent_after_the_servers_close(void **state)
{
    (void)state;
    world_each_seed(close_meanwhile, NULL);
}

/* ---- Memory ---- */

/* Many small frames share chunks; what could never fit is refused, and what fits goes through again and again. */
static void fill_the_slabs(struct world *world)
{
    size_t len = 60000;
    sim_script(world->sim, OPENED "expect text; expect text; expect text; expect text; expect close; close 1000; fin");
    struct wsr_socket *socket = open_cut(world, 16);
    char *data = pattern_of(8 * len);
    assert_int_equal(wsr_send(socket, WSR_TEXT, data, 8 * len), WSR_ERR_ARGUMENT);
    assert_non_null(strstr(wsr_error_text(), "send_pool_bytes"));
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
    for (unsigned sent = 0; sent < 4;) {
        int rc = wsr_send(socket, WSR_TEXT, data, len);
        if (rc == 0) {
            sent++;
            continue;
        }
        assert_int_equal(rc, WSR_ERR_QUOTA);
        assert_false(world->sockets[0].writable);       /* the event means what it says, heads included */
        world->sockets[0].writable = false;
        while (!world->sockets[0].writable)
            world_wait(world);
        assert_int_equal(wsr_send(socket, WSR_TEXT, data, len), 0);
        world->sockets[0].writable = false;
        sent++;
    }
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    world_run_to_end(world);
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
    free(data);
}

static void small_frames_share_the_slabs(void **state)
{
    static const struct wsr_engine_options options = { .size = sizeof options, .send_pool_bytes = 256u << 10 };
    (void)state;
    world_each_seed(fill_the_slabs, &options);
}

/* ---- Blobs ---- */

static const enum wsr_kind kinds[] = { WSR_BINARY, WSR_TEXT };

static void forward(struct client *client, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_MESSAGE || client->counts[WSR_EVENT_MESSAGE] > 1)
        return;
    struct wsr_blob *blob = wsr_event_blob(event), *part = wsr_blob_slice(blob, 10, -10);
    uint64_t before = wsr_socket_buffered_now(event->socket);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        assert_int_equal(wsr_send_blob(event->socket, kinds[i], blob), 0);
        assert_int_equal(wsr_send_blob(event->socket, kinds[i], part), 0);
    }
    assert_true(wsr_socket_buffered_amount(event->socket) <= before + 4 * 100000 - 40);
    assert_int_equal(wsr_send_blob(event->socket, 3, blob), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send_blob(event->socket, WSR_TEXT, NULL), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send_blob(NULL, WSR_TEXT, blob), WSR_ERR_ARGUMENT);
    wsr_blob_release(blob);
    wsr_blob_release(part);             /* SEND-05: the bytes are those at call time */
}

/* SEND-04: a blob in pieces leaves as one message, also when the socket cuts what it sends. */
static void forward_big(struct client *client)
{
    client->react = forward;
    client_connect(client);
    client_until_peer(client, 0, "close 1000");
    peer_expect(client->peer, 0, "request GET /chat HTTP/1.1\nbinary 100000\nbinary 99980\ntext 100000\ntext 99980\n"
                                 "close 1000\n");
    peer_go(client->peer);
    client_until(client, WSR_EVENT_CLOSE, 1);
}

static void blobs_are_sent_from_their_pieces(void **state)
{
    static const struct wsr_engine_options small = { .size = sizeof small, .buffer_bytes = 4096, .buffers_count = 64 };
    (void)state;
    client_each(forward_big, &small, "upgrade; big 100000; expect binary; expect binary; expect text; expect text; "
                                     "close 1000; expect close; hold; fin");
}

/* SEND-08, OQ-3: sent as text, a blob has to be UTF-8, across its pieces and all. */
static void forward_text(struct world *world, unsigned index, const struct wsr_event *event)
{
    (void)world, (void)index;
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    struct wsr_blob *blob = wsr_event_blob(event), *half = wsr_blob_slice(blob, 0, 4);
    assert_int_equal(wsr_send_blob(event->socket, WSR_TEXT, half), WSR_ERR_INVALID_UTF8);
    assert_int_equal(wsr_socket_buffered_now(event->socket), 0);
    assert_int_equal(wsr_send_blob(event->socket, WSR_TEXT, blob), 0);
    wsr_blob_release(half);
    wsr_blob_release(blob);
}

static void echo_fragments(struct world *world)
{
    /* "ab€c" in four frames, the sign cut in three */
    sim_script(world->sim, OPENED "raw 02036162e2; raw 000182; raw 0001ac; raw 800163; expect text; close 1000; "
                                  "expect close; fin");
    world->react = forward_text;
    open_cut(world, sim_seed(world->sim) % 3);
    world_run_to_end(world);
    assert_non_null(strstr(sim_log(world->sim, 0), "text 6 ab\xE2\x82\xAC""c\n"));
}

static void a_blob_sent_as_text_is_utf8(void **state)
{
    (void)state;
    world_each_seed(echo_fragments, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_comes_in_its_frames),
        cmocka_unit_test(pieces_and_sequences_may_be_cut),
        cmocka_unit_test(a_pong_passes_between_fragments),
        cmocka_unit_test(the_rest_stays_unsent_after_the_servers_close),
        cmocka_unit_test(small_frames_share_the_slabs),
        cmocka_unit_test(blobs_are_sent_from_their_pieces),
        cmocka_unit_test(a_blob_sent_as_text_is_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
