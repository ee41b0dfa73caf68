/* engine/blob: binary messages as their receiver owns them.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "engine/blob.h"
#include "tests/support/bytes.h"
#include "tests/support/client.h"
#include "tests/support/world.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define PARTS_MAX 512
#define BIG 100000u

static const struct wsr_engine_options small_buffers = { .size = sizeof small_buffers, .buffer_bytes = 4096,
                                                         .buffers_count = 64 };

/* The blob's bytes by its view, in a block to be freed. */
static uint8_t *viewed(const struct wsr_blob *blob, size_t *parts_count)
{
    struct iovec parts[PARTS_MAX];
    size_t used = 0, size = wsr_blob_size(blob);
    uint8_t *bytes = malloc(size + 1);
    *parts_count = wsr_blob_view(blob, parts, PARTS_MAX);
    assert_in_range(*parts_count, size > 0, PARTS_MAX);
    for (size_t i = 0; i < *parts_count; i++) {
        assert_true(parts[i].iov_len > 0 && parts[i].iov_len <= size - used);
        memcpy(bytes + used, parts[i].iov_base, parts[i].iov_len);
        used += parts[i].iov_len;
    }
    assert_int_equal(used, size);
    return bytes;
}

static void expect_pattern(const struct wsr_blob *blob, size_t from, size_t len)
{
    size_t parts_count;
    assert_int_equal(wsr_blob_size(blob), len);
    uint8_t *bytes = viewed(blob, &parts_count);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(bytes[i], peer_pattern(from + i));
    free(bytes);
}

static struct wsr_blob *kept[4];
static size_t kept_count;

static void keep_binary(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type != WSR_EVENT_MESSAGE || event->kind != WSR_BINARY)
        return;
    assert_null(event->data);
    assert_true(event->flags & WSR_EVENT_BLOB);
    kept[kept_count] = wsr_event_blob(event);
    assert_non_null(kept[kept_count++]);
}

static void drop_kept(void)
{
    while (kept_count > 0)
        wsr_blob_release(kept[--kept_count]);
}

/* One message of BIG bytes in pieces, kept; the connection goes on. */
static struct wsr_socket *receive_big(struct client *client)
{
    client->react = keep_binary;
    struct wsr_socket *socket = client_connect_open(client);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    assert_int_equal(kept_count, 1);
    return socket;
}

/* A sleeping worker takes back in its next turn what was released: a socket that goes nowhere makes it turn. */
static bool nothing_is_lent(struct client *client)
{
    struct wsr_engine_statistics statistics = client_statistics(client);
    struct wsr_socket *socket;
    assert_int_equal(wsr_socket_open(client->engine, "ws://127.0.0.1:0/", WSR_ZSTRING, NULL, 0, NULL, &socket), 0);
    wsr_socket_destroy(socket);
    return statistics.buffers_lent == 0 && statistics.loan_bytes == 0;
}

/* ---- Ownership ---- */

/* MSG-06: the blob is as it was when everything else of its time is long gone, and gives all memory back. */
static void outlive(struct client *client)
{
    receive_big(client);
    size_t parts_count;
    free(viewed(kept[0], &parts_count));
    assert_in_range(parts_count, 2, PARTS_MAX);         /* never joined */
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(client->counts[WSR_EVENT_MESSAGE], 3001);
    expect_pattern(kept[0], 0, BIG);
    struct wsr_blob *other = wsr_blob_retain(kept[0]);
    assert_ptr_equal(other, kept[0]);
    drop_kept();
    expect_pattern(other, 0, BIG);
    assert_false(nothing_is_lent(client));
    wsr_blob_release(other);
    wsr_blob_release(NULL);
    client_until_true(client, nothing_is_lent);
}

static void a_blob_outlives_its_event_and_its_connection(void **state)
{
    (void)state;
    client_each(outlive, &small_buffers, "upgrade; big 100000; texts 3000; close; expect close; fin");
}

/* A message in one piece becomes a blob without a copy; its neighbours in the receive buffer stay their own. */
static void keep_one_piece(struct client *client)
{
    client->react = keep_binary;
    client_connect(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(kept_count, 2);
    size_t parts_count;
    for (size_t i = 0; i < 2; i++) {
        uint8_t *bytes = viewed(kept[i], &parts_count);
        assert_int_equal(parts_count, 1);
        assert_int_equal(wsr_blob_size(kept[i]), 3);
        assert_memory_equal(bytes, i == 0 ? "one" : "two", 3);
        free(bytes);
    }
    assert_int_equal(client_statistics(client).messages_lent, 2);
    drop_kept();
    client_until_true(client, nothing_is_lent);
}

static void one_piece_costs_no_copy(void **state)
{
    (void)state;
    client_each(keep_one_piece, NULL, "upgrade; cork; binary one; binary two; uncork; close; expect close; fin");
}

/* Blobs and pieces that nobody gives back before the engine ends, taken or not: the sanitizer looks for leaks. */
static void end_early(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    client->events_max = 1;
    client_until(client, WSR_EVENT_MESSAGE, 1);
    wsr_socket_set_binary_type(socket, WSR_ARRAYBUFFER);        /* the next may have come as pieces: joined then */
    client_until(client, WSR_EVENT_MESSAGE, 2);
}

static void pieces_go_with_the_engine(void **state)
{
    (void)state;
    client_each(end_early, &small_buffers, "upgrade; big 100000; big 100000; big 100000; big 50000; stop; expect fin");
}

/* ---- Copying out, and slices ---- */

static void copy_out(struct client *client)
{
    static uint8_t out[BIG + 1];
    receive_big(client);
    for (size_t from = 0; from < BIG; from += 997) {
        size_t len = from * 31 % 9001;
        size_t want = from + len < BIG ? len : BIG - from;
        memset(out, 0, want + 1);
        assert_int_equal(wsr_blob_copy(kept[0], from, out, len), want);
        for (size_t i = 0; i < want; i++)
            assert_int_equal(out[i], peer_pattern(from + i));
        assert_int_equal(out[want], 0);
    }
    assert_int_equal(wsr_blob_copy(kept[0], 0, out, sizeof out), BIG);
    assert_int_equal(wsr_blob_copy(kept[0], BIG, out, 1), 0);
    assert_int_equal(wsr_blob_copy(kept[0], UINT64_MAX, out, 1), 0);
    assert_int_equal(wsr_blob_copy(kept[0], 5, out, SIZE_MAX), BIG - 5);
    drop_kept();
}

static void any_range_is_copied_out(void **state)
{
    (void)state;
    client_each(copy_out, &small_buffers, "upgrade; big 100000; expect close; reply; fin");
}

/* File API, slice(): the same cases as a browser's console answers them for new Blob of BIG bytes. */
static void slice(struct client *client)
{
    static const struct {
        int64_t start, end;
        size_t from, len;
    } cases[] = {
        { 0, WSR_BLOB_END, 0, BIG }, { 1, WSR_BLOB_END, 1, BIG - 1 }, { 0, 1, 0, 1 }, { 4095, 4097, 4095, 2 },
        { -1, WSR_BLOB_END, BIG - 1, 1 }, { 0, -1, 0, BIG - 1 }, { -70000, -10, 30000, 69990 },
        { BIG, WSR_BLOB_END, 0, 0 }, { 10, 10, 0, 0 }, { 11, 10, 0, 0 }, { -10, -20, 0, 0 }, { 0, INT64_MIN, 0, 0 },
        { INT64_MIN, 7, 0, 7 }, { INT64_MIN, INT64_MAX, 0, BIG }, { INT64_MAX, INT64_MAX, 0, 0 },
        { 99999, BIG + 1, 99999, 1 },
    };
    receive_big(client);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct wsr_blob *part = wsr_blob_slice(kept[0], cases[i].start, cases[i].end);
        expect_pattern(part, cases[i].from, cases[i].len);
        struct wsr_blob *again = wsr_blob_slice(part, 1, -1);
        wsr_blob_release(part);                                  /* a slice needs no parent */
        expect_pattern(again, cases[i].from + 1, cases[i].len > 2 ? cases[i].len - 2 : 0);
        wsr_blob_release(again);
    }
    struct wsr_blob *last = wsr_blob_slice(kept[0], -5, WSR_BLOB_END);
    drop_kept();
    expect_pattern(last, BIG - 5, 5);
    wsr_blob_release(last);
}

static void slices_share_the_memory(void **state)
{
    (void)state;
    client_each(slice, &small_buffers, "upgrade; big 100000; expect close; reply; fin");
}

/* A view tells how many pieces there are, and fills no more than it may. */
static void view_some(struct client *client)
{
    struct iovec parts[3] = { { 0 } };
    receive_big(client);
    size_t count = wsr_blob_view(kept[0], NULL, 0);
    assert_in_range(count, 3, PARTS_MAX);
    assert_int_equal(wsr_blob_view(kept[0], parts, 2), count);
    assert_non_null(parts[1].iov_base);
    assert_null(parts[2].iov_base);
    drop_kept();
}

static void a_view_fills_what_it_may(void **state)
{
    (void)state;
    client_each(view_some, &small_buffers, "upgrade; big 100000; expect close; reply; fin");
}

/* ---- Other events ---- */

static void look_at_all(struct client *client, const struct wsr_event *event)
{
    struct iovec part;
    size_t parts = wsr_event_view(event, &part, 1);
    struct wsr_blob *blob = wsr_event_blob(event);
    (void)client;
    if (event->type != WSR_EVENT_MESSAGE) {
        assert_int_equal(parts, 0);
        assert_null(blob);
        assert_string_equal(wsr_error_text(), "only a message event has a blob");
        return;
    }
    assert_int_equal(parts, event->len > 0);
    assert_int_equal(wsr_blob_size(blob), event->len);
    assert_int_equal(wsr_blob_view(blob, &part, 1), event->len > 0);
    if (event->kind == WSR_TEXT)
        assert_false(event->flags & WSR_EVENT_BLOB);
    if (event->len > 0) {
        assert_memory_equal(part.iov_base, "text", 4);
        assert_memory_equal(bytes_of(event), "text", 4);
    }
    struct wsr_hold *hold = wsr_event_hold(event);
    assert_true((hold != NULL) == (event->len > 0));
    wsr_hold_release(hold);
    wsr_blob_release(blob);
}

/* Text is one block whatever binaryType says; an empty message is an empty blob; other events have none. */
static void look_at_others(struct client *client)
{
    client->react = look_at_all;
    client_connect(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "open\ntext 4 text\nbinary 0 \ntext 0 \nbinary 4 text\nclose 1000 clean bye\n");
    assert_int_equal(wsr_event_view(NULL, NULL, 0), 0);
    assert_null(wsr_event_blob(NULL));
}

static void every_event_may_be_asked(void **state)
{
    (void)state;
    client_each(look_at_others, NULL,
                "upgrade; text text; binary; text; binary text; close 1000 bye; expect close; fin");
}

/* ---- What binaryType says when the event is taken ---- */

/* MSG-02, MSG-06: pieces that came while the type was blob are joined for a receiver that wants one block, and the
 * other way round a block is a blob of one piece. */
static void take_as(struct world *world, unsigned index, const struct wsr_event *event)
{
    const enum wsr_binary_type *taken_as = world->context;
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    if (world->sockets[index].messages_count == 1) {
        wsr_socket_set_binary_type(event->socket, *taken_as);
        return;
    }
    assert_int_equal(event->flags & WSR_EVENT_BLOB, *taken_as == WSR_BLOB ? WSR_EVENT_BLOB : 0);
    assert_int_equal(event->len, 8);
    assert_memory_equal(bytes_of(event), "abcdefgh", 8);
    struct wsr_blob *blob = wsr_event_blob(event);
    uint8_t out[8];
    assert_int_equal(wsr_blob_copy(blob, 0, out, sizeof out), 8);
    assert_memory_equal(out, "abcdefgh", 8);
    wsr_blob_release(blob);
}

static void switch_type(struct world *world)
{
    for (unsigned came_as = WSR_BLOB; came_as <= WSR_ARRAYBUFFER; came_as++) {
        enum wsr_binary_type taken_as = WSR_ARRAYBUFFER - came_as;
        sim_script(world->sim, "accept; upgrade; cork; text go; raw 02026162; raw 0003636465; raw 8003666768; uncork; "
                               "close; expect close; fin");
        unsigned index = world_connect(world);
        wsr_socket_set_binary_type(world->sockets[index].socket, (enum wsr_binary_type)came_as);
        world->react = take_as;
        world->context = &taken_as;
        while (!world->sockets[index].closed)
            world_wait(world);
        assert_int_equal(world->sockets[index].messages_count, 2);
    }
}

static void the_type_of_the_moment_counts(void **state)
{
    (void)state;
    world_each_seed(switch_type, NULL);
}

/* The same with messages that are there, in pieces, before the handler of the first one switches. */
static void switch_in_handler(struct client *client, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    bool is_blob = client->counts[WSR_EVENT_MESSAGE] % 2 == 1;
    assert_int_equal(event->flags & WSR_EVENT_BLOB, is_blob ? WSR_EVENT_BLOB : 0);
    const char *bytes = bytes_of(event);
    for (size_t i = 0; i < event->len; i++)
        assert_int_equal((uint8_t)bytes[i], peer_pattern(i));
    if (!is_blob)
        memset((void *)(uintptr_t)event->data, 'x', event->len);
    wsr_socket_set_binary_type(event->socket, is_blob ? WSR_ARRAYBUFFER : WSR_BLOB);
}

static void switch_often(struct client *client)
{
    client->react = switch_in_handler;
    client->events_max = 1;
    client_connect(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(client->counts[WSR_EVENT_MESSAGE], 6);
}

static void handlers_may_switch_for_the_next(void **state)
{
    (void)state;
    client_each(switch_often, &small_buffers,
                "upgrade; cork; big 9000; big 9000; big 1000; big 30000; big 30000; big 9000; uncork; close; "
                "expect close; fin");
}

/* ---- Anywhere in a buffer ---- */

/* The largest buffers that the options allow, at every power of two. */
static void a_blob_may_begin_anywhere(void **state)
{
    const struct wsr_pool_options options = { .buffers_count = 2, .buffer_bytes = 1u << 20, .loan_max_bytes = 1 };
    struct sim *sim = sim_create(1);
    struct wsr_driver *driver = sim_driver(sim);
    struct wsr_pool *pool;
    (void)state;
    assert_int_equal(wsr_pool_create(&pool, driver, &options), 0);
    struct wsr_loan *loan = wsr_pool_received(pool, sim_take_any_buffer(sim), 1u << 20);
    for (uint32_t at = 0; at < 1u << 20; at = at == 0 ? 1 : at << 1) {
        struct wsr_event event = { .type = WSR_EVENT_MESSAGE, .kind = WSR_BINARY, .loan = loan, .len = 1,
                                   .data = wsr_pool_bytes(loan) + at };
        struct iovec part;
        wsr_blob_shape(&event, WSR_BLOB);
        assert_null(event.data);
        assert_int_equal(event.system_errno, 0);
        assert_int_equal(wsr_event_view(&event, &part, 1), 1);
        assert_ptr_equal(part.iov_base, wsr_pool_bytes(loan) + at);
    }
    wsr_pool_unuse(loan);
    driver->ops->destroy(driver);
    wsr_pool_destroy(pool);
    sim_free(sim);
}

/* ---- Pieces that lie apart ---- */

#define FRAGMENTS_COUNT 12u
#define FRAGMENT_BYTES 200u

static void slice_everywhere(struct world *world, unsigned index, const struct wsr_event *event)
{
    const uint8_t *want = world->context;
    uint8_t out[FRAGMENTS_COUNT * FRAGMENT_BYTES];
    (void)index;
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    assert_int_equal(event->len, sizeof out);
    struct wsr_blob *blob = wsr_event_blob(event);
    for (size_t from = 0; from < sizeof out; from += 37) {
        struct wsr_blob *part = wsr_blob_slice(blob, (int64_t)from, WSR_BLOB_END);
        size_t parts_count;
        uint8_t *bytes = viewed(part, &parts_count);
        assert_memory_equal(bytes, want + from, sizeof out - from);
        free(bytes);
        assert_int_equal(wsr_blob_copy(part, 5, out, 300), sizeof out - from - 5 < 300 ? sizeof out - from - 5 : 300);
        assert_memory_equal(out, want + from + 5, sizeof out - from - 5 < 300 ? sizeof out - from - 5 : 300);
        wsr_blob_release(part);
    }
    wsr_blob_release(blob);
}

/* Frame heads lie between the pieces, which no walk over them may show. */
static void receive_fragments(struct world *world)
{
    static char script[128 + FRAGMENTS_COUNT * (16 + 2 * FRAGMENT_BYTES)];
    static uint8_t want[FRAGMENTS_COUNT * FRAGMENT_BYTES];
    char *to = script, *const end = script + sizeof script;
    to += snprintf(to, (size_t)(end - to), "accept; upgrade; cut whole; cork; ");
    for (unsigned i = 0; i < FRAGMENTS_COUNT; i++) {
        char fin = i + 1 < FRAGMENTS_COUNT ? '0' : '8', opcode = i == 0 ? '2' : '0';
        to += snprintf(to, (size_t)(end - to), "raw %c%c7e00c8", fin, opcode);
        for (unsigned k = 0; k < FRAGMENT_BYTES; k++) {
            want[i * FRAGMENT_BYTES + k] = (uint8_t)sim_random(world->sim, 256);
            to += snprintf(to, (size_t)(end - to), "%02x", want[i * FRAGMENT_BYTES + k]);
        }
        to += snprintf(to, (size_t)(end - to), "; ");
    }
    snprintf(to, (size_t)(end - to), "uncork; close; expect close; fin");
    sim_script(world->sim, script);
    world->context = want;
    world->react = slice_everywhere;
    unsigned index = world_connect(world);
    world_run_to_end(world);
    assert_int_equal(world->sockets[index].messages_count, 1);
}

static void pieces_that_lie_apart_are_walked_over(void **state)
{
    static const struct wsr_engine_options tiny = { .size = sizeof tiny, .buffer_bytes = 256, .buffers_count = 64 };
    (void)state;
    world_each_seed(receive_fragments, &tiny);
}

/* ---- Threads ---- */

static void *read_and_release(void *argument)
{
    struct wsr_blob *blob = argument;
    for (int64_t i = 1; i <= 50; i++) {
        struct wsr_blob *part = wsr_blob_slice(blob, i * 1000, -i);
        expect_pattern(part, (size_t)i * 1000, BIG - (size_t)i * 1001);
        wsr_blob_release(part);
    }
    wsr_blob_release(blob);
    return NULL;
}

/* Blobs belong to no thread, while their connection goes on receiving. */
static void share(struct client *client)
{
    pthread_t threads[4];
    receive_big(client);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_and_release, wsr_blob_retain(kept[0])), 0);
    drop_kept();
    client_until(client, WSR_EVENT_CLOSE, 1);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    client_until_true(client, nothing_is_lent);
}

static void any_thread_may_read_and_release(void **state)
{
    (void)state;
    client_each(share, &small_buffers, "upgrade; big 100000; texts 20000; close; expect close; fin");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_blob_outlives_its_event_and_its_connection),
        cmocka_unit_test(one_piece_costs_no_copy),
        cmocka_unit_test(pieces_go_with_the_engine),
        cmocka_unit_test(any_range_is_copied_out),
        cmocka_unit_test(slices_share_the_memory),
        cmocka_unit_test(a_view_fills_what_it_may),
        cmocka_unit_test(every_event_may_be_asked),
        cmocka_unit_test(the_type_of_the_moment_counts),
        cmocka_unit_test(handlers_may_switch_for_the_next),
        cmocka_unit_test(a_blob_may_begin_anywhere),
        cmocka_unit_test(pieces_that_lie_apart_are_walked_over),
        cmocka_unit_test(any_thread_may_read_and_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
