/* engine/pieces: what is kept where it lies, what is copied, and that all of it goes home.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/pieces.h"
#include "tests/support/sim.h"

#define BUFFERS_COUNT 16u
#define BUFFER_BYTES 256u
#define NO_BOUND (1u << 30)

struct bench {
    struct sim *sim;
    struct wsr_pool *pool;
    uint8_t *want;                   /* the message, as it was handed over */
    size_t len;
};

static void open_bench(struct bench *bench)
{
    struct wsr_pool_options options = { .buffers_count = BUFFERS_COUNT, .buffer_bytes = BUFFER_BYTES,
                                        .loan_max_bytes = 1u << 20 };
    *bench = (struct bench){ .sim = sim_create(1), .want = malloc(1u << 20) };
    assert_int_equal(wsr_pool_create(&bench->pool, sim_driver(bench->sim), &options), 0);
}

static void close_bench(struct bench *bench)
{
    assert_int_equal(sim_buffers_home(bench->sim), BUFFERS_COUNT);
    assert_int_equal(wsr_pool_loan_bytes(bench->pool), 0);
    struct wsr_driver *driver = sim_driver(bench->sim);
    driver->ops->destroy(driver);
    wsr_pool_destroy(bench->pool);
    sim_free(bench->sim);
    free(bench->want);
}

/* A buffer full of bytes that nothing else in this run has. */
static struct wsr_loan *receive(struct bench *bench)
{
    static uint8_t next;
    struct wsr_loan *loan = wsr_pool_received(bench->pool, sim_take_any_buffer(bench->sim), BUFFER_BYTES);
    uint8_t *bytes = (uint8_t *)(uintptr_t)wsr_pool_bytes(loan);
    for (size_t i = 0; i < BUFFER_BYTES; i++)
        bytes[i] = next++;
    next += 7;
    return loan;
}

/* Hand @len bytes from @from on over to the list, as parsing a buffer does. */
static bool add(struct bench *bench, struct wsr_loan **list, struct wsr_loan *buffer, size_t from, size_t len,
                uint64_t left)
{
    struct wsr_bytes bytes = wsr_bytes_of(wsr_pool_bytes(buffer) + from, len);
    memcpy(bench->want + bench->len, bytes.data, len);
    bench->len += len;
    return wsr_pieces_add(bench->pool, list, buffer, bytes, left);
}

static void check_contents(const struct bench *bench, const struct wsr_loan *list)
{
    const struct wsr_pieces *pieces = wsr_pieces_of(list);
    assert_non_null(pieces);
    assert_int_equal(pieces->len, bench->len);
    size_t at = 0;
    for (uint32_t i = 0; i < pieces->count; i++) {
        assert_true(pieces->list[i].len > 0 && pieces->list[i].len <= bench->len - at);
        assert_memory_equal(pieces->list[i].data, bench->want + at, pieces->list[i].len);
        at += pieces->list[i].len;
    }
    assert_int_equal(at, bench->len);
}

static void large_pieces_stay_where_they_lie(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    struct wsr_loan *first = receive(&bench), *second = receive(&bench), *list = NULL;
    assert_true(add(&bench, &list, first, 6, 250, NO_BOUND));
    assert_true(add(&bench, &list, second, 0, 128, 0));
    const struct wsr_pieces *pieces = wsr_pieces_of(list);
    assert_int_equal(pieces->count, 2);
    assert_ptr_equal(pieces->list[0].data, wsr_pool_bytes(first) + 6);
    assert_ptr_equal(pieces->list[1].data, wsr_pool_bytes(second));
    assert_false(pieces->is_copied);
    check_contents(&bench, list);
    wsr_pool_unuse(first);                       /* parsing is done with them, the list is not */
    wsr_pool_unuse(second);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT - 2);
    wsr_pool_unuse(list);
    close_bench(&bench);
}

static void small_pieces_are_copied_together(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    struct wsr_loan *list = NULL;
    for (unsigned i = 0; i < 100; i++) {
        struct wsr_loan *buffer = receive(&bench);
        assert_true(add(&bench, &list, buffer, i % 7, 1 + i % 127, NO_BOUND));
        wsr_pool_unuse(buffer);
        assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
    }
    const struct wsr_pieces *pieces = wsr_pieces_of(list);
    assert_true(pieces->is_copied);
    assert_in_range(pieces->count, 2, 5);        /* 1 KiB at first, then as much as there is */
    check_contents(&bench, list);
    wsr_pool_unuse(list);
    close_bench(&bench);
}

/* No more than a quarter of the buffers, or gathering would keep them from everybody else. */
static void large_pieces_are_copied_when_buffers_are_scarce(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    struct wsr_loan *list = NULL;
    for (unsigned i = 0; i < 40; i++) {
        struct wsr_loan *buffer = receive(&bench);
        assert_true(add(&bench, &list, buffer, 0, BUFFER_BYTES, NO_BOUND));
        wsr_pool_unuse(buffer);
        assert_true(sim_buffers_home(bench.sim) >= BUFFERS_COUNT - BUFFERS_COUNT / 4 - 1);
    }
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT - BUFFERS_COUNT / 4);
    check_contents(&bench, list);
    wsr_pool_unuse(list);
    close_bench(&bench);
}

/* What is taken ahead is bounded by what can come, and by what has come (RECV-15). */
static void no_more_is_taken_than_can_come(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    for (unsigned round = 0; round < 2; round++) {
        struct wsr_loan *list = NULL, *buffer = receive(&bench);
        bench.len = 0;
        assert_true(add(&bench, &list, buffer, 0, 10, round == 0 ? 20 : NO_BOUND));
        assert_in_range(wsr_pieces_of(list)->list[0].loan->capacity, 30, round == 0 ? 256 : 1024);
        wsr_pool_unuse(buffer);
        wsr_pool_unuse(list);
    }
    close_bench(&bench);
}

static void a_delivered_list_counts_until_its_last_holder_is_gone(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    struct wsr_loan *list = NULL, *buffer = receive(&bench), *other = receive(&bench);
    assert_true(add(&bench, &list, buffer, 0, 200, NO_BOUND));
    assert_true(add(&bench, &list, other, 0, 5, 0));
    wsr_pool_unuse(buffer);
    wsr_pool_unuse(other);
    wsr_pieces_lend(list);
    assert_in_range(wsr_pool_loan_bytes(bench.pool), 256 + 5, 1024);    /* the list, and the block with 5 bytes */
    uint8_t *joined = wsr_pieces_join(list);
    assert_memory_equal(joined, bench.want, bench.len);
    wsr_pool_hold(list);
    wsr_pool_unuse(list);                        /* the consumer has passed the event */
    check_contents(&bench, list);
    assert_memory_equal(joined, bench.want, bench.len);
    wsr_pool_release(list);
    wsr_pool_collect(bench.pool);
    close_bench(&bench);
}

/* A block that was a list is an ordinary one in its next life. */
static void other_memory_is_no_list(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    struct wsr_loan *list = NULL, *buffer = receive(&bench);
    assert_null(wsr_pieces_of(buffer));
    assert_true(add(&bench, &list, buffer, 0, 200, NO_BOUND));
    wsr_pool_unuse(buffer);
    wsr_pool_unuse(list);
    struct wsr_loan *block = wsr_pool_block(bench.pool, 200);
    assert_ptr_equal(block, list);
    assert_null(wsr_pieces_of(block));
    wsr_pool_unuse(block);
    close_bench(&bench);
}

/* Like a buffer, a block into which TLS records were opened has more in it than the piece. */
static void nothing_is_written_behind_what_lies_in_a_record(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench);
    struct wsr_loan *record = wsr_pool_block(bench.pool, 1024), *small = receive(&bench), *list = NULL;
    memset(wsr_pool_block_bytes(record), 'r', 1024);
    record->is_opened = true;
    assert_true(add(&bench, &list, record, 4, 500, NO_BOUND));
    assert_true(add(&bench, &list, small, 3, 20, NO_BOUND));
    assert_true(add(&bench, &list, small, 40, 20, 0));
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(wsr_pool_block_bytes(record)[i], 'r');
    check_contents(&bench, list);
    wsr_pool_unuse(small);
    /* It was lent already with a message that lies in it as a whole. */
    wsr_pool_lend_block(record);
    wsr_pool_unuse(record);
    wsr_pieces_lend(list);
    wsr_pool_unuse(list);
    struct wsr_loan *blocks[2] = { wsr_pool_block(bench.pool, 1024), wsr_pool_block(bench.pool, 1024) };
    assert_true(blocks[0] == record || blocks[1] == record);
    for (unsigned i = 0; i < 2; i++) {
        assert_false(blocks[i]->is_opened);
        wsr_pool_unuse(blocks[i]);
    }
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_pieces_stay_where_they_lie),
        cmocka_unit_test(small_pieces_are_copied_together),
        cmocka_unit_test(large_pieces_are_copied_when_buffers_are_scarce),
        cmocka_unit_test(no_more_is_taken_than_can_come),
        cmocka_unit_test(a_delivered_list_counts_until_its_last_holder_is_gone),
        cmocka_unit_test(other_memory_is_no_list),
        cmocka_unit_test(nothing_is_written_behind_what_lies_in_a_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
