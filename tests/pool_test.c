/* engine/pool: who has each buffer and block, also when holds end on other threads.
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/pool.h"
#include "tests/support/sim.h"

#define BUFFERS_COUNT 4u
#define BUFFER_BYTES 256u

struct bench {
    struct sim *sim;
    struct wsr_pool *pool;
};

static void open_bench(struct bench *bench, uint64_t loan_max_bytes)
{
    struct wsr_pool_options options = { .buffers_count = BUFFERS_COUNT, .buffer_bytes = BUFFER_BYTES,
                                        .loan_max_bytes = loan_max_bytes };
    bench->sim = sim_create(1);
    assert_int_equal(wsr_pool_create(&bench->pool, sim_driver(bench->sim), &options), 0);
}

static void close_bench(struct bench *bench)
{
    struct wsr_driver *driver = sim_driver(bench->sim);
    driver->ops->destroy(driver);
    wsr_pool_destroy(bench->pool);
    sim_free(bench->sim);
}

/* The pool's own steps, as the simulated kernel does not fill buffers here: buffer @index comes from the kernel. */
static struct wsr_loan *receive(struct bench *bench, uint16_t index)
{
    sim_take_buffer(bench->sim, index);
    struct wsr_loan *loan = wsr_pool_received(bench->pool, index, 10);
    assert_int_equal(loan->filled, 10);
    assert_int_equal(loan->parsed, 0);
    return loan;
}

static void a_buffer_goes_home_with_its_last_use(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    assert_int_equal(wsr_pool_buffers_home(bench.pool), BUFFERS_COUNT);
    struct wsr_loan *loan = receive(&bench, 2);
    assert_int_equal(wsr_pool_buffers_lent(bench.pool), 1);
    wsr_pool_use(loan);
    wsr_pool_unuse(loan);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT - 1);
    wsr_pool_unuse(loan);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
    assert_int_equal(wsr_pool_buffers_lent(bench.pool), 0);
    close_bench(&bench);
}

static void buffers_are_distinct_memory(void **state)
{
    (void)state;
    struct bench bench;
    struct wsr_loan *loans[BUFFERS_COUNT];
    open_bench(&bench, 1000);
    for (uint16_t i = 0; i < BUFFERS_COUNT; i++) {
        loans[i] = receive(&bench, i);
        for (uint16_t before = 0; before < i; before++) {
            const uint8_t *a = wsr_pool_bytes(loans[before]), *b = wsr_pool_bytes(loans[i]);
            assert_true(a + BUFFER_BYTES <= b || b + BUFFER_BYTES <= a);
        }
    }
    for (uint16_t i = 0; i < BUFFERS_COUNT; i++)
        wsr_pool_unuse(loans[i]);
    close_bench(&bench);
}

static void more_than_half_out_is_tight(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    struct wsr_loan *loans[3];
    for (uint16_t i = 0; i < 3; i++) {
        assert_false(wsr_pool_is_tight(bench.pool));
        loans[i] = receive(&bench, i);
    }
    assert_true(wsr_pool_is_tight(bench.pool));
    wsr_pool_unuse(loans[1]);
    assert_false(wsr_pool_is_tight(bench.pool));
    wsr_pool_unuse(loans[0]);
    wsr_pool_unuse(loans[2]);
    close_bench(&bench);
}

/* Every order of: the use ends, the first hold ends, the second hold ends, the worker collects. */
static void a_held_buffer_stays_until_all_holds_and_uses_are_over(void **state)
{
    (void)state;
    for (unsigned order = 0; order < 256; order++) {
        unsigned steps[4], seen = 0;
        for (unsigned i = 0; i < 4; i++) {
            steps[i] = order >> (2 * i) & 3;
            seen |= 1u << steps[i];
        }
        if (seen != 15)
            continue;
        struct bench bench;
        bool used = true;
        unsigned holds = 2;
        open_bench(&bench, 1000);
        struct wsr_loan *loan = receive(&bench, 0);
        wsr_pool_hold(loan);
        wsr_pool_hold(loan);
        for (unsigned i = 0; i < 4; i++) {
            if (steps[i] == 0) {
                wsr_pool_unuse(loan);
                used = false;
            } else if (steps[i] == 3) {
                wsr_pool_collect(bench.pool);
            } else {
                wsr_pool_release(loan);
                holds--;
                assert_true(wsr_pool_has_returned(bench.pool));
            }
            if (used || holds > 0)
                assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT - 1);
        }
        wsr_pool_collect(bench.pool);
        assert_false(wsr_pool_has_returned(bench.pool));
        assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
        close_bench(&bench);
    }
}

static void a_buffer_can_be_lent_held_and_returned_many_times(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    for (unsigned lap = 0; lap < 100; lap++) {
        struct wsr_loan *loan = receive(&bench, 3);
        for (unsigned i = 0; i < lap % 4; i++)
            wsr_pool_hold(loan);
        wsr_pool_unuse(loan);
        for (unsigned i = 0; i < lap % 4; i++) {
            assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT - 1);
            wsr_pool_release(loan);
            wsr_pool_collect(bench.pool);
        }
        assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
    }
    close_bench(&bench);
}

/* The conn links loans that it has not parsed; a hold on an earlier message of one may end meanwhile. */
static void the_return_of_a_hold_leaves_the_owners_list_alone(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    struct wsr_loan *first = receive(&bench, 0), *second = receive(&bench, 1);
    first->next = second;
    second->next = NULL;
    wsr_pool_hold(second);
    wsr_pool_hold(first);
    wsr_pool_release(second);
    wsr_pool_release(first);
    assert_ptr_equal(first->next, second);
    assert_null(second->next);
    wsr_pool_collect(bench.pool);
    assert_ptr_equal(first->next, second);
    wsr_pool_unuse(first);
    wsr_pool_unuse(second);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
    close_bench(&bench);
}

static void blocks_are_counted_and_used_again(void **state)
{
    static const size_t sizes[] = { 0, 1, 255, 256, 257, 4096, 65536, 65537, 1000000 };
    (void)state;
    struct bench bench;
    open_bench(&bench, 100000);
    for (unsigned lap = 0; lap < 3; lap++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct wsr_loan *block = wsr_pool_block(bench.pool, sizes[i]);
            assert_non_null(block);
            assert_true(block->capacity >= sizes[i]);
            assert_int_equal(wsr_pool_loan_bytes(bench.pool), 0);
            wsr_pool_lend_block(block);
            assert_int_equal(wsr_pool_loan_bytes(bench.pool), block->capacity);
            assert_int_equal(wsr_pool_is_full(bench.pool), block->capacity >= 100000);
            assert_ptr_equal(wsr_pool_block_of(wsr_pool_block_bytes(block)), block);
            memset(wsr_pool_block_bytes(block), 7, block->capacity);
            wsr_pool_unuse(block);
            assert_int_equal(wsr_pool_loan_bytes(bench.pool), 0);
        }
    }
    close_bench(&bench);
}

static void a_block_grows_with_its_bytes_and_never_shrinks(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1 << 20);
    struct wsr_loan *block = wsr_pool_block_grow(bench.pool, NULL, 0, 10);
    size_t used = 0;
    for (size_t wanted = 10; wanted < 300000; wanted = wanted * 3 / 2) {
        block = wsr_pool_block_grow(bench.pool, block, used, wanted);
        assert_non_null(block);
        assert_true(block->capacity >= wanted);
        for (size_t i = 0; i < used; i++)
            assert_int_equal(wsr_pool_block_bytes(block)[i], (uint8_t)i);
        for (; used < wanted; used++)
            wsr_pool_block_bytes(block)[used] = (uint8_t)used;
        assert_int_equal(wsr_pool_loan_bytes(bench.pool), 0);
    }
    struct wsr_loan *same = wsr_pool_block_grow(bench.pool, block, used, 1);
    assert_ptr_equal(same, block);
    assert_null(wsr_pool_block_grow(bench.pool, block, used, SIZE_MAX / 2 + 1));
    assert_int_equal(wsr_pool_block_bytes(block)[9], 9);
    wsr_pool_unuse(block);
    close_bench(&bench);
}

static void no_block_outlives_the_pool(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1 << 20);
    struct wsr_loan *held = wsr_pool_block(bench.pool, 100);
    wsr_pool_hold(held);
    wsr_pool_unuse(held);
    assert_non_null(wsr_pool_block(bench.pool, 100));
    assert_non_null(wsr_pool_block(bench.pool, 200000));
    wsr_pool_unuse(wsr_pool_block(bench.pool, 5000));
    close_bench(&bench);
}

#define LAPS_COUNT 20000u
#define SLOTS_COUNT 8u

/* Loans on their way from the worker to a thread that reads and releases them. */
struct lane {
    _Atomic(struct wsr_loan *) slots[SLOTS_COUNT];
    _Atomic unsigned wrong;
    _Atomic bool over;
};

static void *read_and_release(void *context)
{
    struct lane *lane = context;
    for (unsigned i = 0; !atomic_load_explicit(&lane->over, memory_order_acquire); i++) {
        /* Pairs with the release store in holds_end_on_other_threads(). */
        struct wsr_loan *loan = atomic_exchange_explicit(&lane->slots[i % SLOTS_COUNT], NULL, memory_order_acquire);
        if (loan == NULL) {
            if (i % SLOTS_COUNT == 0)
                sched_yield();
            continue;
        }
        const uint8_t *bytes = loan->is_block ? wsr_pool_block_bytes(loan) : wsr_pool_bytes(loan);
        if (bytes[0] != bytes[9])
            atomic_fetch_add_explicit(&lane->wrong, 1, memory_order_relaxed);
        wsr_pool_release(loan);
    }
    return NULL;
}

/* The worker fills, lends twice, takes its use back and collects, while two threads end the holds. */
static void holds_end_on_other_threads(void **state)
{
    (void)state;
    struct bench bench;
    struct lane lane = { .wrong = 0 };
    pthread_t threads[2];
    open_bench(&bench, 1 << 20);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_and_release, &lane), 0);
    for (unsigned lap = 0; lap < LAPS_COUNT;) {
        wsr_pool_collect(bench.pool);
        bool is_block = lap % 3 == 0;
        if (!is_block && sim_buffers_home(bench.sim) == 0) {
            sched_yield();
            continue;
        }
        struct wsr_loan *loan = is_block ? wsr_pool_block(bench.pool, 100)
                                         : wsr_pool_received(bench.pool, sim_take_any_buffer(bench.sim), 10);
        uint8_t *bytes = is_block ? wsr_pool_block_bytes(loan) : (uint8_t *)(uintptr_t)wsr_pool_bytes(loan);
        memset(bytes, (int)lap, 10);
        unsigned lent = 0;
        for (unsigned i = 0; i < SLOTS_COUNT && lent < 2; i++) {
            struct wsr_loan *none = NULL;
            wsr_pool_hold(loan);
            /* Pairs with the exchange in read_and_release(). */
            if (atomic_compare_exchange_strong_explicit(&lane.slots[i], &none, loan, memory_order_release,
                                                        memory_order_relaxed))
                lent++;
            else
                wsr_pool_release(loan);
        }
        wsr_pool_unuse(loan);
        lap++;
    }
    for (unsigned i = 0; i < SLOTS_COUNT;) {
        if (atomic_load_explicit(&lane.slots[i], memory_order_acquire) == NULL)
            i++;
        else
            sched_yield();
    }
    atomic_store_explicit(&lane.over, true, memory_order_release);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    wsr_pool_collect(bench.pool);
    assert_int_equal(atomic_load_explicit(&lane.wrong, memory_order_relaxed), 0);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
    assert_int_equal(wsr_pool_loan_bytes(bench.pool), 0);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_goes_home_with_its_last_use),
        cmocka_unit_test(buffers_are_distinct_memory),
        cmocka_unit_test(more_than_half_out_is_tight),
        cmocka_unit_test(a_held_buffer_stays_until_all_holds_and_uses_are_over),
        cmocka_unit_test(a_buffer_can_be_lent_held_and_returned_many_times),
        cmocka_unit_test(the_return_of_a_hold_leaves_the_owners_list_alone),
        cmocka_unit_test(blocks_are_counted_and_used_again),
        cmocka_unit_test(a_block_grows_with_its_bytes_and_never_shrinks),
        cmocka_unit_test(no_block_outlives_the_pool),
        cmocka_unit_test(holds_end_on_other_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
