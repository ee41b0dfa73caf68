/* engine/slab: chunks are distinct memory, large enough, and never lost, from one thread and from four.
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/slab.h"

#define SLAB_BYTES (4u << 20)

static uint64_t room_of_all(const struct wsr_chunk *chunk)
{
    uint64_t room = 0;
    for (; chunk != NULL; chunk = chunk->next)
        room += wsr_slab_room(chunk);
    return room;
}

/* Write to every byte that may be written, so that a sanitizer or a neighbour's pattern tells. */
static void fill(struct wsr_chunk *chunk, uint8_t pattern)
{
    for (; chunk != NULL; chunk = chunk->next)
        memset(chunk->data, pattern, wsr_slab_room(chunk));
}

static unsigned long wrong_bytes(const struct wsr_chunk *chunk, uint8_t pattern)
{
    unsigned long wrong = 0;
    for (; chunk != NULL; chunk = chunk->next) {
        for (size_t i = 0; i < wsr_slab_room(chunk); i++)
            wrong += chunk->data[i] != pattern;
    }
    return wrong;
}

static void every_size_gets_room_enough_and_comes_clean(void **state)
{
    static const uint64_t sizes[] = { 0, 1, 191, 192, 203, 204, 205, 4000, 4044, 4045, 16000, 16177, 16200,
        65484, 65485,
                                      200000, 1000000 };
    (void)state;
    struct wsr_slab *slab = wsr_slab_create(SLAB_BYTES);
    assert_non_null(slab);
    for (unsigned lap = 0; lap < 3; lap++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct wsr_chunk *first = wsr_slab_take(slab, sizes[i]);
            assert_non_null(first);
            assert_true(room_of_all(first) >= sizes[i]);
            for (struct wsr_chunk *chunk = first; chunk != NULL; chunk = chunk->next) {
                assert_true(wsr_slab_room(chunk) >= WSR_SLAB_CONTROL_MAX);
                assert_int_equal(chunk->used, 0);
                assert_int_equal(chunk->sent, 0);
                assert_int_equal(chunk->overhead, 0);
                assert_false(chunk->starts_frame || chunk->is_control || chunk->is_pong);
                chunk->used = chunk->sent = chunk->overhead = 7;
                chunk->starts_frame = chunk->is_control = chunk->is_pong = true;
            }
            fill(first, 0xC3);
            wsr_slab_give_all(slab, first);
        }
    }
    wsr_slab_destroy(slab);
}

static void an_exhausted_slab_says_so_takes_nothing_and_recovers(void **state)
{
    (void)state;
    struct wsr_slab *slab = wsr_slab_create(SLAB_BYTES);
    struct wsr_chunk *taken[64];
    unsigned count = 0;
    for (unsigned lap = 0; lap < 3; lap++) {
        for (count = 0; count < 64 && (taken[count] = wsr_slab_take(slab, 100000)) != NULL; count++)
            fill(taken[count], (uint8_t)count);
        assert_in_range(count, 2, 63);
        assert_null(wsr_slab_take(slab, 100000));
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(wrong_bytes(taken[i], (uint8_t)i), 0);
            wsr_slab_give_all(slab, taken[i]);
        }
    }
    wsr_slab_destroy(slab);
}

/* A refused chain gives back what it had: the largest that fits still fits. */
static void a_chain_that_does_not_fit_leaves_the_slab_whole(void **state)
{
    (void)state;
    struct wsr_slab *slab = wsr_slab_create(SLAB_BYTES);
    uint64_t most = wsr_slab_bytes(slab);
    for (unsigned lap = 0; lap < 5; lap++) {
        assert_null(wsr_slab_take(slab, most + 1));
        struct wsr_chunk *all = wsr_slab_take(slab, most);
        assert_non_null(all);
        assert_true(room_of_all(all) >= most);
        wsr_slab_give_all(slab, all);
    }
    wsr_slab_destroy(slab);
}

static void small_messages_use_larger_chunks_when_theirs_are_out(void **state)
{
    (void)state;
    struct wsr_slab *slab = wsr_slab_create(SLAB_BYTES);
    struct wsr_chunk *all = NULL;
    uint64_t room = 0;
    for (struct wsr_chunk *chunk; (chunk = wsr_slab_take(slab, 10)) != NULL; all = chunk) {
        room += wsr_slab_room(chunk);
        chunk->next = all;
    }
    assert_true(room > SLAB_BYTES / 2);
    wsr_slab_give_all(slab, all);
    wsr_slab_destroy(slab);
}

/* What must not fail for want of a slab: the Close frame of a full engine. */
static void control_chunks_come_from_the_heap_at_last(void **state)
{
    (void)state;
    struct wsr_slab *slab = wsr_slab_create(1);
    struct wsr_chunk *chunks[32];
    for (unsigned i = 0; i < 32; i++) {
        chunks[i] = wsr_slab_take_control(slab, WSR_SLAB_CONTROL_MAX);
        assert_non_null(chunks[i]);
        assert_true(chunks[i]->is_control);
        assert_null(chunks[i]->next);
        memset(chunks[i]->data, (int)i, WSR_SLAB_CONTROL_MAX);
    }
    assert_null(wsr_slab_take(slab, 1));
    for (unsigned i = 0; i < 32; i++) {
        for (unsigned at = 0; at < WSR_SLAB_CONTROL_MAX; at++)
            assert_int_equal(chunks[i]->data[at], i);
        wsr_slab_give(slab, chunks[i]);
    }
    struct wsr_chunk *large = wsr_slab_take_control(slab, 300000);
    assert_non_null(large);
    memset(large->data, 1, 300000);
    wsr_slab_give(slab, large);
    wsr_slab_destroy(slab);
}

#define THREADS_COUNT 4
#define KEPT_COUNT 8
#define STEPS_COUNT 20000u

struct taker {
    struct wsr_slab *slab;
    unsigned seed;
    unsigned long wrong;
    unsigned long refused;
};

/* Take and give back at random; every byte carries a mark of the moment and the thread while it is ours. */
static void *take_and_give(void *context)
{
    struct taker *taker = context;
    struct wsr_chunk *kept[KEPT_COUNT] = { NULL };
    uint8_t marks[KEPT_COUNT] = { 0 };
    unsigned random = taker->seed;
    for (unsigned step = 0; step < STEPS_COUNT; step++) {
        unsigned at = (unsigned)rand_r(&random) % KEPT_COUNT;
        if (kept[at] != NULL) {
            for (struct wsr_chunk *chunk = kept[at]; chunk != NULL; chunk = chunk->next)
                taker->wrong += chunk->data[0] != marks[at] || chunk->data[150] != marks[at];
            wsr_slab_give_all(taker->slab, kept[at]);
            kept[at] = NULL;
            continue;
        }
        kept[at] = wsr_slab_take(taker->slab, (uint64_t)rand_r(&random) % 3000);
        marks[at] = (uint8_t)(taker->seed * 61 + step);
        taker->refused += kept[at] == NULL;
        for (struct wsr_chunk *chunk = kept[at]; chunk != NULL; chunk = chunk->next)
            chunk->data[0] = chunk->data[150] = marks[at];
    }
    for (unsigned at = 0; at < KEPT_COUNT; at++)
        wsr_slab_give_all(taker->slab, kept[at]);
    return NULL;
}

static void four_threads_never_share_a_chunk(void **state)
{
    (void)state;
    struct wsr_slab *slab = wsr_slab_create(160000);    /* few chunks, so that the threads meet */
    struct taker takers[THREADS_COUNT];
    pthread_t threads[THREADS_COUNT];
    unsigned long refused = 0;
    for (unsigned i = 0; i < THREADS_COUNT; i++) {
        takers[i] = (struct taker){ .slab = slab, .seed = i + 1 };
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &takers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS_COUNT; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(takers[i].wrong, 0);
        refused += takers[i].refused;
    }
    assert_true(refused < THREADS_COUNT * STEPS_COUNT / 2);
    wsr_slab_destroy(slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_gets_room_enough_and_comes_clean),
        cmocka_unit_test(an_exhausted_slab_says_so_takes_nothing_and_recovers),
        cmocka_unit_test(a_chain_that_does_not_fit_leaves_the_slab_whole),
        cmocka_unit_test(small_messages_use_larger_chunks_when_theirs_are_out),
        cmocka_unit_test(control_chunks_come_from_the_heap_at_last),
        cmocka_unit_test(four_threads_never_share_a_chunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
