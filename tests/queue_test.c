/* engine/queue: what leaves, in which order, at every way of ending sends short.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/queue.h"

#define PARTS_MAX 16

struct bench {
    struct wsr_slab *slab;
    struct wsr_queue queue;
    char wire[4096];            /* what the kernel took */
    size_t wire_bytes;
    uint64_t credit;
    struct iovec parts[PARTS_MAX];
    size_t parts_count;
};

static void open_bench(struct bench *bench)
{
    memset(bench, 0, sizeof *bench);
    bench->slab = wsr_slab_create(4u << 20);
    assert_non_null(bench->slab);
}

static void close_bench(struct bench *bench)
{
    wsr_queue_clear(&bench->queue, bench->slab);
    wsr_slab_destroy(bench->slab);
}

static struct wsr_chunk *chunk_of(struct bench *bench, const char *text, uint32_t overhead)
{
    struct wsr_chunk *chunk = wsr_slab_take(bench->slab, 1);
    assert_non_null(chunk);
    chunk->used = (uint32_t)strlen(text);
    chunk->overhead = overhead;
    memcpy(chunk->data, text, chunk->used);
    return chunk;
}

/* A message whose words between blanks are a chunk each; the first has one byte of overhead. */
static void push(struct bench *bench, const char *words)
{
    struct wsr_chunk *first = NULL, **end = &first;
    char copy[256];
    char *save = NULL;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        *end = chunk_of(bench, word, first == NULL);
        end = &(*end)->next;
    }
    wsr_queue_push(&bench->queue, first);
}

static void push_pong(struct bench *bench, const char *text)
{
    struct wsr_chunk *chunk = chunk_of(bench, text, 0);
    chunk->is_control = true;
    chunk->is_pong = true;
    wsr_queue_push_control(&bench->queue, chunk);
}

static void push_close(struct bench *bench, const char *text)
{
    struct wsr_chunk *chunk = chunk_of(bench, text, 0);
    chunk->is_control = true;
    wsr_queue_push(&bench->queue, chunk);
}

static size_t launch(struct bench *bench)
{
    size_t bytes = 0;
    bench->parts_count = wsr_queue_launch(&bench->queue, bench->parts, PARTS_MAX);
    for (size_t i = 0; i < bench->parts_count; i++)
        bytes += bench->parts[i].iov_len;
    return bytes;
}

static void land(struct bench *bench, size_t bytes)
{
    size_t left = bytes;
    for (size_t i = 0; i < bench->parts_count && left > 0; i++) {
        size_t take = left < bench->parts[i].iov_len ? left : bench->parts[i].iov_len;
        memcpy(bench->wire + bench->wire_bytes, bench->parts[i].iov_base, take);
        bench->wire_bytes += take;
        left -= take;
    }
    assert_int_equal(left, 0);
    bench->wire[bench->wire_bytes] = '\0';
    bench->credit += wsr_queue_landed(&bench->queue, bench->slab, bytes).payload_bytes;
    assert_false(wsr_queue_in_flight(&bench->queue));
}

static void drain(struct bench *bench)
{
    while (!wsr_queue_is_empty(&bench->queue))
        land(bench, launch(bench));
    assert_int_equal(bench->queue.pongs_count, 0);
    assert_null(bench->queue.last);
}

/* SEND-09, SEND-15, BUF-05: every pair of short ends; the bytes and the credit add up. */
static void messages_leave_in_order_at_every_split(void **state)
{
    (void)state;
    for (size_t first = 0; first <= 14; first++) {
        for (size_t second = 0; second <= 14 - first; second++) {
            struct bench bench;
            open_bench(&bench);
            push(&bench, "_abc def g");
            push(&bench, "_");
            push(&bench, "_hijk");
            size_t all = launch(&bench);
            assert_int_equal(all, 14);
            land(&bench, first);
            if (!wsr_queue_is_empty(&bench.queue)) {
                launch(&bench);
                land(&bench, second);
            }
            char want[16];
            snprintf(want, sizeof want, "%.*s", (int)(first + second), "_abcdefg__hijk");
            assert_string_equal(bench.wire, want);
            uint64_t payload = 0;
            for (const char *at = want; *at != '\0'; at++)
                payload += *at != '_';
            assert_int_equal(bench.credit, payload);
            drain(&bench);
            assert_string_equal(bench.wire, "_abcdefg__hijk");
            assert_int_equal(bench.credit, 11);
            close_bench(&bench);
        }
    }
}

static void a_launch_takes_no_more_parts_than_asked_for(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    push(&bench, "_a b c d e");
    push(&bench, "_f");
    for (size_t max = 1; max <= 7; max++) {
        struct iovec parts[PARTS_MAX];
        size_t count = wsr_queue_launch(&bench.queue, parts, max);
        assert_int_equal(count, max < 6 ? max : 6);
        wsr_queue_landed(&bench.queue, bench.slab, 0);
    }
    drain(&bench);
    assert_string_equal(bench.wire, "_abcde_f");
    close_bench(&bench);
}

/* CTL-02: what overtakes waits for the end of a send, so one send takes few large frames, but any frame whole. */
static void a_launch_ends_behind_a_frame_when_it_is_large(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    for (unsigned i = 0; i < 6; i++) {
        struct wsr_chunk *first = wsr_slab_take(bench.slab, 65000);
        first->used = 65000;
        if (i == 4) {
            first->next = wsr_slab_take(bench.slab, 65000);
            first->next->used = 65000;
        }
        wsr_queue_push(&bench.queue, first);
    }
    assert_int_equal(wsr_queue_launch(&bench.queue, bench.parts, PARTS_MAX), 6);
    wsr_queue_landed(&bench.queue, bench.slab, 6 * 65000);
    assert_int_equal(wsr_queue_launch(&bench.queue, bench.parts, PARTS_MAX), 1);
    wsr_queue_landed(&bench.queue, bench.slab, 65000);
    close_bench(&bench);
}

/* CTL-02 */
static void a_pong_goes_before_messages_that_were_not_begun(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    push(&bench, "_a b");
    push(&bench, "_c");
    push_pong(&bench, "1");
    push_pong(&bench, "2");
    drain(&bench);
    assert_string_equal(bench.wire, "12_ab_c");
    close_bench(&bench);
}

/* CTL-02, SEND-13: never inside a frame that is in flight or half sent, however its launches and ends cut it. */
static void a_pong_waits_for_the_end_of_the_message_under_way(void **state)
{
    (void)state;
    for (size_t sent = 0; sent <= 4; sent++) {
        for (int in_flight = 0; in_flight <= 1; in_flight++) {
            struct bench bench;
            open_bench(&bench);
            push(&bench, "_ab cd e");
            bench.parts_count = wsr_queue_launch(&bench.queue, bench.parts, 2);
            land(&bench, sent);
            push(&bench, "_f");
            if (in_flight)
                bench.parts_count = wsr_queue_launch(&bench.queue, bench.parts, 1);
            push_pong(&bench, "1");
            push_pong(&bench, "2");
            if (in_flight)
                land(&bench, 1);
            drain(&bench);
            assert_string_equal(bench.wire, sent == 0 && !in_flight ? "12_abcde_f" : "_abcde12_f");
            close_bench(&bench);
        }
    }
}

/* CTL-02, CTL-03: a short end brings a nearer boundary; older Pongs use it first. */
static void pongs_keep_their_order_after_a_short_send(void **state)
{
    (void)state;
    for (size_t sent = 0; sent <= 6; sent++) {
        struct bench bench;
        open_bench(&bench);
        push(&bench, "_ab");
        push(&bench, "_cd");
        launch(&bench);
        push_pong(&bench, "1");
        push_close(&bench, "X");
        push_pong(&bench, "2");
        land(&bench, sent);
        push_pong(&bench, "3");
        assert_int_equal(bench.queue.pongs_count, 3);
        drain(&bench);
        const char *want = sent == 0 ? "123_ab_cdX" : sent <= 3 ? "_ab123_cdX" : "_ab_cd1X23";
        assert_string_equal(bench.wire, want);
        close_bench(&bench);
    }
}

/* CTL-03 */
static void the_newest_waiting_pong_is_dropped_and_none_in_flight(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    assert_false(wsr_queue_drop_newest_pong(&bench.queue, bench.slab));
    push(&bench, "_a");
    assert_false(wsr_queue_drop_newest_pong(&bench.queue, bench.slab));
    push_pong(&bench, "1");
    push_pong(&bench, "2");
    push_pong(&bench, "3");
    assert_true(wsr_queue_drop_newest_pong(&bench.queue, bench.slab));
    assert_int_equal(bench.queue.pongs_count, 2);
    bench.parts_count = wsr_queue_launch(&bench.queue, bench.parts, 2);
    assert_false(wsr_queue_drop_newest_pong(&bench.queue, bench.slab));
    assert_int_equal(bench.queue.pongs_count, 2);
    push_pong(&bench, "4");
    push_pong(&bench, "5");
    wsr_queue_drop_newest_pong(&bench.queue, bench.slab);
    assert_int_equal(bench.queue.pongs_count, 3);
    land(&bench, 2);
    assert_int_equal(bench.queue.pongs_count, 1);
    drain(&bench);
    assert_string_equal(bench.wire, "124_a");
    close_bench(&bench);
}

static void a_close_is_seen_among_pongs(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    assert_true(wsr_queue_has_pongs_only(&bench.queue));
    push_pong(&bench, "12");
    assert_true(wsr_queue_has_pongs_only(&bench.queue));
    push_close(&bench, "C");
    assert_false(wsr_queue_has_pongs_only(&bench.queue));
    launch(&bench);
    push_pong(&bench, "3");
    land(&bench, 2);
    assert_false(wsr_queue_has_pongs_only(&bench.queue));
    launch(&bench);
    land(&bench, 1);
    assert_true(wsr_queue_has_pongs_only(&bench.queue));
    drain(&bench);
    assert_string_equal(bench.wire, "12C3");
    close_bench(&bench);
}

/* A Pong that is half sent must not be dropped. */
static void a_half_sent_pong_does_not_wait(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    push_pong(&bench, "12");
    launch(&bench);
    land(&bench, 1);
    wsr_queue_drop_newest_pong(&bench.queue, bench.slab);
    assert_int_equal(bench.queue.pongs_count, 1);
    drain(&bench);
    assert_string_equal(bench.wire, "12");
    close_bench(&bench);
}

/* When nothing is behind it, and when it was the only one. */
static void the_last_chunk_of_a_queue_can_be_a_dropped_pong(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    wsr_queue_drop_newest_pong(&bench.queue, bench.slab);
    push_pong(&bench, "1");
    wsr_queue_drop_newest_pong(&bench.queue, bench.slab);
    assert_true(wsr_queue_is_empty(&bench.queue));
    push(&bench, "_a");
    launch(&bench);
    push_pong(&bench, "2");
    wsr_queue_drop_newest_pong(&bench.queue, bench.slab);
    push(&bench, "_b");
    land(&bench, 2);
    drain(&bench);
    assert_string_equal(bench.wire, "_a_b");
    close_bench(&bench);
}

/* RFC 6455 5.2, 5.5: FIN, masked, at most 125 bytes; CLOSE-08, CLOSE-09. */
static void control_frames_are_whole_and_masked(void **state)
{
    static const uint8_t key[4] = { 1, 2, 3, 4 };
    (void)state;
    struct wsr_slab *slab = wsr_slab_create(1 << 20);
    char text[200];
    memset(text, 'r', sizeof text);
    for (size_t len = 0; len <= 125; len++) {
        struct wsr_chunk *chunk = wsr_queue_control_frame(slab, WSR_OPCODE_PONG, wsr_bytes_of(text, len), key);
        assert_non_null(chunk);
        assert_int_equal(chunk->used, 6 + len);
        assert_true(chunk->is_control);
        assert_int_equal(chunk->data[0], 0x8A);
        assert_int_equal(chunk->data[1], 0x80 | len);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(chunk->data[6 + i] ^ key[i % 4], 'r');
        wsr_slab_give(slab, chunk);
    }
    struct wsr_chunk *empty = wsr_queue_close_frame(slab, 0, wsr_bytes_of(NULL, 0), key);
    assert_int_equal(empty->used, 6);
    assert_memory_equal(empty->data, "\x88\x80\x01\x02\x03\x04", 6);
    struct wsr_chunk *full = wsr_queue_close_frame(slab, 1002, wsr_bytes_of(text, sizeof text), key);
    assert_int_equal(full->used, 6 + 125);
    assert_int_equal((full->data[6] ^ 1) << 8 | (full->data[7] ^ 2), 1002);
    wsr_slab_give(slab, empty);
    wsr_slab_give(slab, full);
    wsr_slab_destroy(slab);
}

/* CLOSE-20, SEND-14: the message under way is finished, all behind it is dropped, credit or not. */
static void what_was_not_begun_can_be_dropped(void **state)
{
    (void)state;
    for (size_t sent = 0; sent <= 5; sent++) {
        for (int in_flight = 0; in_flight <= 1; in_flight++) {
            struct bench bench;
            open_bench(&bench);
            push(&bench, "_abc d");
            bench.parts_count = wsr_queue_launch(&bench.queue, bench.parts, 2);
            land(&bench, sent);
            push(&bench, "_e f");
            push(&bench, "_g");
            push_pong(&bench, "1");
            if (in_flight)
                bench.parts_count = wsr_queue_launch(&bench.queue, bench.parts, 1);
            /* The Pong stands at the front when nothing has begun, else behind the message under way. */
            const char *kept = sent == 0 ? "1" : "_abcd1";
            wsr_queue_drop_messages(&bench.queue, bench.slab);
            push_close(&bench, "X");
            if (in_flight)
                land(&bench, 1);
            drain(&bench);
            char want[16];
            snprintf(want, sizeof want, "%sX", kept);
            assert_string_equal(bench.wire, want);
            close_bench(&bench);
        }
    }
}

/* Random steps against the text that must come out: messages whole and in order, Pongs whole and in order. */
static void any_mix_of_steps_keeps_frames_whole_and_in_order(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++) {
        struct bench bench;
        unsigned random = seed;
        char text[32];
        unsigned messages = 0, pongs = 0, in_flight = 0;
        size_t bytes = 0;
        open_bench(&bench);
        for (int step = 0; step < 120; step++) {
            unsigned what = (unsigned)rand_r(&random) % 4;
            if (what == 0) {
                snprintf(text, sizeof text, rand_r(&random) % 2 ? "_m%u ;" : "_ m %u ;", messages++);
                push(&bench, text);
            } else if (what == 1) {
                snprintf(text, sizeof text, "_p%u;", pongs++);
                push_pong(&bench, text);
            } else if (what == 2 && !in_flight && !wsr_queue_is_empty(&bench.queue)) {
                bench.parts_count = wsr_queue_launch(&bench.queue, bench.parts, 1 + (size_t)rand_r(&random) % 4);
                bytes = 0;
                for (size_t i = 0; i < bench.parts_count; i++)
                    bytes += bench.parts[i].iov_len;
                in_flight = 1;
            } else if (what == 3 && in_flight) {
                land(&bench, (size_t)rand_r(&random) % (bytes + 1));
                in_flight = 0;
            }
        }
        if (in_flight)
            land(&bench, 0);
        drain(&bench);
        unsigned next_message = 0, next_pong = 0;
        char *save = NULL;
        for (char *frame = strtok_r(bench.wire, ";", &save); frame != NULL; frame = strtok_r(NULL, ";", &save)) {
            snprintf(text, sizeof text, "_%c%u", frame[1], frame[1] == 'm' ? next_message++ : next_pong++);
            assert_string_equal(frame, text);
        }
        assert_int_equal(next_message, messages);
        assert_int_equal(next_pong, pongs);
        close_bench(&bench);
    }
}

/* ---- Messages that gather in one chunk ---- */

#define HEAD_BYTES 6u             /* of a masked frame with less than 126 bytes */

/* A frame as wsr_send() writes it, of @bytes payload: the letter @letter again and again, with a key of zeros. */
static void gather(struct bench *bench, char letter, uint32_t bytes)
{
    static const uint8_t key[4] = { 0 };
    struct wsr_chunk *chunk = wsr_queue_open_end(&bench->queue, bench->slab, HEAD_BYTES + bytes);
    assert_non_null(chunk);
    uint8_t *to = chunk->data + chunk->used;
    assert_int_equal(wsr_frame_write(to, WSR_FRAME_FIN | WSR_OPCODE_TEXT, bytes, key), HEAD_BYTES);
    memset(to + HEAD_BYTES, letter, bytes);
    wsr_queue_extend(&bench->queue, chunk, HEAD_BYTES, bytes);
}

/* Payload of @count frames of @sizes within their first @bytes. */
static uint64_t payload_within(const uint32_t *sizes, unsigned count, size_t bytes)
{
    uint64_t payload = 0;
    for (unsigned i = 0; i < count && bytes > HEAD_BYTES; i++) {
        size_t rest = bytes - HEAD_BYTES;
        payload += rest < sizes[i] ? rest : sizes[i];
        bytes = rest > sizes[i] ? rest - sizes[i] : 0;
    }
    return payload;
}

/* SEND-09, SEND-15, BUF-05: lengths of all kinds, every pair of short ends. */
static void gathered_messages_leave_in_order_at_every_split(void **state)
{
    static const uint32_t sizes[] = { 3, 0, 125, 1, 40 };
    enum { COUNT = sizeof sizes / sizeof sizes[0], BYTES = COUNT * HEAD_BYTES + 169 };
    (void)state;
    for (size_t first = 0; first <= BYTES; first += first < 20 || first > 150 ? 1 : 7) {
        for (size_t second = first; second <= BYTES; second++) {
            struct bench bench;
            open_bench(&bench);
            for (unsigned i = 0; i < COUNT; i++)
                gather(&bench, (char)('a' + i), sizes[i]);
            assert_int_equal(launch(&bench), BYTES);
            land(&bench, first);
            assert_int_equal(bench.credit, payload_within(sizes, COUNT, first));
            if (first < BYTES) {
                launch(&bench);
                land(&bench, second - first);
                assert_int_equal(bench.credit, payload_within(sizes, COUNT, second));
            }
            drain(&bench);
            assert_int_equal(bench.credit, 169);
            assert_int_equal(bench.wire_bytes, BYTES);
            for (unsigned i = 0, at = 0; i < COUNT; at += HEAD_BYTES + sizes[i++]) {
                assert_int_equal(bench.wire[at + 1] & 0x7F, sizes[i]);
                for (uint32_t k = 0; k < sizes[i]; k++)
                    assert_int_equal(bench.wire[at + HEAD_BYTES + k], 'a' + i);
            }
            close_bench(&bench);
        }
    }
}

static void a_burst_leaves_in_one_part_from_the_second_on(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 16; i++)
            gather(&bench, 'x', 64);
        assert_int_equal(launch(&bench), 16 * 70);
        assert_int_equal(bench.parts_count, round == 0 ? 2 : 1);
        land(&bench, 16 * 70);
    }
    gather(&bench, 'x', 64);
    launch(&bench);
    gather(&bench, 'y', 64);                  /* not behind what is in flight */
    assert_int_equal(bench.parts[0].iov_len, 70);
    assert_int_equal(bench.queue.first->used, 70);
    land(&bench, 70);
    assert_int_equal(launch(&bench), 70);
    land(&bench, 70);
    drain(&bench);
    close_bench(&bench);
}

/* CLOSE-20: of messages in one chunk the half sent one is finished, the others go; and what is in flight stays. */
static void gathered_messages_that_were_not_begun_can_be_dropped(void **state)
{
    (void)state;
    for (size_t sent = 0; sent <= 108; sent++) {
        struct bench bench;
        open_bench(&bench);
        for (unsigned i = 0; i < 3; i++)
            gather(&bench, (char)('a' + i), 30);
        launch(&bench);
        wsr_queue_drop_messages(&bench.queue, bench.slab);
        assert_int_equal(bench.queue.first->used, 108);
        land(&bench, sent);
        wsr_queue_drop_messages(&bench.queue, bench.slab);
        assert_int_equal(wsr_queue_is_empty(&bench.queue), sent % 36 == 0);
        drain(&bench);
        size_t frames = (sent + 35) / 36;
        assert_int_equal(bench.wire_bytes, frames * 36);
        assert_int_equal(bench.credit, frames * 30);
        close_bench(&bench);
    }
}

/* CTL-02, SEND-09 */
static void control_frames_and_larger_messages_keep_their_places_among_gathered_ones(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    gather(&bench, 'a', 1);
    push(&bench, "large");
    gather(&bench, 'b', 1);
    push_pong(&bench, "pong");
    push_close(&bench, "close");
    drain(&bench);
    static const char order[] = "pong" "\x81\x81\0\0\0\0a" "large" "\x81\x81\0\0\0\0b" "close";
    assert_int_equal(bench.wire_bytes, sizeof order - 1);
    assert_memory_equal(bench.wire, order, sizeof order - 1);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_leave_in_order_at_every_split),
        cmocka_unit_test(a_launch_takes_no_more_parts_than_asked_for),
        cmocka_unit_test(a_launch_ends_behind_a_frame_when_it_is_large),
        cmocka_unit_test(a_pong_goes_before_messages_that_were_not_begun),
        cmocka_unit_test(a_pong_waits_for_the_end_of_the_message_under_way),
        cmocka_unit_test(pongs_keep_their_order_after_a_short_send),
        cmocka_unit_test(the_newest_waiting_pong_is_dropped_and_none_in_flight),
        cmocka_unit_test(a_close_is_seen_among_pongs),
        cmocka_unit_test(a_half_sent_pong_does_not_wait),
        cmocka_unit_test(the_last_chunk_of_a_queue_can_be_a_dropped_pong),
        cmocka_unit_test(control_frames_are_whole_and_masked),
        cmocka_unit_test(what_was_not_begun_can_be_dropped),
        cmocka_unit_test(gathered_messages_leave_in_order_at_every_split),
        cmocka_unit_test(a_burst_leaves_in_one_part_from_the_second_on),
        cmocka_unit_test(gathered_messages_that_were_not_begun_can_be_dropped),
        cmocka_unit_test(control_frames_and_larger_messages_keep_their_places_among_gathered_ones),
        cmocka_unit_test(any_mix_of_steps_keeps_frames_whole_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
