/* engine/ring: order, fullness and life of slots, alone and with every number of threads that the names allow.
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/ring.h"

static void push_number(struct wsr_ring_spsc *ring, uint64_t number)
{
    struct wsr_event *slot = wsr_ring_spsc_slot(ring);
    assert_non_null(slot);
    slot->len = number;
    wsr_ring_spsc_push(ring);
}

static void a_new_ring_is_empty(void **state)
{
    (void)state;
    struct wsr_ring_spsc ring;
    assert_int_equal(wsr_ring_spsc_init(&ring, 2), 0);
    assert_null(wsr_ring_spsc_peek(&ring));
    assert_int_equal(wsr_ring_spsc_reclaim(&ring), 0);
    assert_false(wsr_ring_spsc_publish(&ring));
    assert_false(wsr_ring_spsc_release(&ring));
    wsr_ring_spsc_free(&ring);
}

static void nothing_is_seen_before_publication(void **state)
{
    (void)state;
    struct wsr_ring_spsc ring;
    assert_int_equal(wsr_ring_spsc_init(&ring, 4), 0);
    push_number(&ring, 1);
    push_number(&ring, 2);
    assert_null(wsr_ring_spsc_peek(&ring));
    assert_true(wsr_ring_spsc_publish(&ring));
    assert_false(wsr_ring_spsc_publish(&ring));
    assert_int_equal(wsr_ring_spsc_peek(&ring)->len, 1);
    assert_int_equal(wsr_ring_spsc_peek(&ring)->len, 1);
    wsr_ring_spsc_take(&ring);
    assert_int_equal(wsr_ring_spsc_peek(&ring)->len, 2);
    wsr_ring_spsc_take(&ring);
    assert_null(wsr_ring_spsc_peek(&ring));
    wsr_ring_spsc_free(&ring);
}

/* A slot passes take, release and reclaim, one after the other, before it may be filled again. */
static void a_full_ring_stays_full_until_reclaimed(void **state)
{
    (void)state;
    struct wsr_ring_spsc ring;
    assert_int_equal(wsr_ring_spsc_init(&ring, 4), 0);
    for (uint64_t i = 0; i < 4; i++)
        push_number(&ring, i);
    assert_null(wsr_ring_spsc_slot(&ring));
    wsr_ring_spsc_publish(&ring);
    assert_non_null(wsr_ring_spsc_peek(&ring));
    wsr_ring_spsc_take(&ring);
    assert_null(wsr_ring_spsc_slot(&ring));
    assert_int_equal(wsr_ring_spsc_reclaim(&ring), 0);
    assert_null(wsr_ring_spsc_slot(&ring));
    assert_true(wsr_ring_spsc_release(&ring));
    assert_null(wsr_ring_spsc_slot(&ring));
    assert_int_equal(wsr_ring_spsc_reclaim(&ring), 1);
    push_number(&ring, 4);
    assert_null(wsr_ring_spsc_slot(&ring));
    wsr_ring_spsc_free(&ring);
}

/* Random steps of both sides against plain counters; with every other seed the ring is rewound in between. */
static void indices_follow_a_model_over_many_laps(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct wsr_ring_spsc ring;
        unsigned random = seed;
        uint64_t pushed = 0, published = 0, taken = 0, released = 0, reclaimed = 0;
        uint32_t count = 2u << (seed % 4);
        assert_int_equal(wsr_ring_spsc_init(&ring, count), 0);
        for (int step = 0; step < 5000; step++) {
            if (seed % 2 == 0)
                wsr_ring_spsc_rewind(&ring);
            switch (rand_r(&random) % 7) {
            case 0:
                if (wsr_ring_spsc_slot(&ring) == NULL)
                    assert_int_equal(pushed - reclaimed, count);
                else
                    push_number(&ring, pushed++);
                break;
            case 1:
                assert_int_equal(wsr_ring_spsc_publish(&ring), published != pushed);
                published = pushed;
                break;
            case 2:
                if (wsr_ring_spsc_peek(&ring) == NULL) {
                    assert_int_equal(taken, published);
                } else {
                    assert_int_equal(wsr_ring_spsc_peek(&ring)->len, taken++);
                    wsr_ring_spsc_take(&ring);
                }
                break;
            case 3:
                assert_int_equal(wsr_ring_spsc_release(&ring), released != taken);
                released = taken;
                break;
            case 4: {
                uint64_t many = (unsigned)rand_r(&random) % (wsr_ring_spsc_writable(&ring) + 1);
                assert_int_equal(wsr_ring_spsc_writable(&ring), count - (pushed - reclaimed));
                for (uint64_t i = 0; i < many; i++)
                    wsr_ring_spsc_slot_at(&ring, i)->len = pushed++;
                wsr_ring_spsc_push_many(&ring, many);
                break;
            }
            case 5: {
                uint64_t readable = wsr_ring_spsc_readable(&ring);
                assert_true(readable <= published - taken && (readable > 0 || published == taken));
                uint64_t many = (unsigned)rand_r(&random) % (readable + 1);
                for (uint64_t i = 0; i < many; i++)
                    assert_int_equal(wsr_ring_spsc_peek_at(&ring, i)->len, taken++);
                wsr_ring_spsc_take_many(&ring, many);
                break;
            }
            default:
                reclaimed = released;
                assert_int_equal(wsr_ring_spsc_reclaim(&ring), reclaimed);
            }
        }
        wsr_ring_spsc_free(&ring);
    }
}

/* Only an empty ring begins again at its first slot, and its positions go on. */
static void an_empty_ring_is_rewound_to_its_first_slot(void **state)
{
    (void)state;
    struct wsr_ring_spsc ring;
    assert_int_equal(wsr_ring_spsc_init(&ring, 4), 0);
    const struct wsr_event *first = wsr_ring_spsc_slot(&ring);
    push_number(&ring, 0);
    wsr_ring_spsc_rewind(&ring);
    assert_ptr_not_equal(wsr_ring_spsc_slot(&ring), first);
    wsr_ring_spsc_publish(&ring);
    assert_int_equal(wsr_ring_spsc_peek(&ring)->len, 0);
    wsr_ring_spsc_take(&ring);
    wsr_ring_spsc_release(&ring);
    assert_int_equal(wsr_ring_spsc_reclaim(&ring), 1);
    wsr_ring_spsc_rewind(&ring);
    assert_ptr_equal(wsr_ring_spsc_slot(&ring), first);
    for (uint64_t i = 1; i <= 4; i++)
        push_number(&ring, i);
    assert_null(wsr_ring_spsc_slot(&ring));
    wsr_ring_spsc_publish(&ring);
    for (uint64_t i = 1; i <= 4; i++) {
        assert_int_equal(wsr_ring_spsc_peek(&ring)->len, i);
        wsr_ring_spsc_take(&ring);
    }
    assert_null(wsr_ring_spsc_peek(&ring));
    wsr_ring_spsc_free(&ring);
}

#define CROSSED_COUNT 200000u

static void *produce(void *context)
{
    struct wsr_ring_spsc *ring = context;
    uint64_t wrong = 0, reclaimed = 0;
    for (uint64_t i = 0; i < CROSSED_COUNT;) {
        struct wsr_event *slot = wsr_ring_spsc_slot(ring);
        if (slot != NULL) {
            slot->len = i;
            slot->received_ns = ~i;
            wsr_ring_spsc_push(ring);
            i++;
        }
        if (slot == NULL || i % 7 == 0 || i == CROSSED_COUNT)
            wsr_ring_spsc_publish(ring);
        uint64_t passed = wsr_ring_spsc_reclaim(ring);
        wrong += passed < reclaimed || passed > i;
        reclaimed = passed;
        if (slot == NULL)
            sched_yield();
    }
    return (void *)(uintptr_t)wrong;
}

static void one_producer_and_one_consumer_lose_nothing(void **state)
{
    (void)state;
    struct wsr_ring_spsc ring;
    pthread_t thread;
    void *wrong = NULL;
    assert_int_equal(wsr_ring_spsc_init(&ring, 16), 0);
    assert_int_equal(pthread_create(&thread, NULL, produce, &ring), 0);
    uint64_t bad = 0;
    for (uint64_t i = 0; i < CROSSED_COUNT;) {
        const struct wsr_event *slot = wsr_ring_spsc_peek(&ring);
        if (slot == NULL) {
            wsr_ring_spsc_release(&ring);
            sched_yield();
            continue;
        }
        bad += slot->len != i || slot->received_ns != ~i;
        wsr_ring_spsc_take(&ring);
        if (++i % 5 == 0)
            wsr_ring_spsc_release(&ring);
    }
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_int_equal(bad, 0);
    assert_null(wrong);
    wsr_ring_spsc_free(&ring);
}

struct numbered {
    struct wsr_ring_node node;
    unsigned producer;
    unsigned number;
};

static void commands_come_in_order_and_nodes_can_be_used_again(void **state)
{
    (void)state;
    struct wsr_ring_mpsc ring;
    struct numbered nodes[5];
    wsr_ring_mpsc_init(&ring);
    assert_true(wsr_ring_mpsc_is_empty(&ring));
    assert_null(wsr_ring_mpsc_pop(&ring));
    for (unsigned lap = 0; lap < 100; lap++) {
        for (unsigned n = 1; n <= 5; n++) {
            for (unsigned i = 0; i < n; i++) {
                wsr_ring_mpsc_push(&ring, &nodes[i].node);
                assert_false(wsr_ring_mpsc_is_empty(&ring));
            }
            for (unsigned i = 0; i < n; i++) {
                assert_false(wsr_ring_mpsc_is_empty(&ring));
                assert_ptr_equal(wsr_ring_mpsc_pop(&ring), &nodes[i].node);
            }
            assert_null(wsr_ring_mpsc_pop(&ring));
            assert_true(wsr_ring_mpsc_is_empty(&ring));
        }
    }
}

/* The state that a producer leaves between its exchange and its link, made by hand. */
static void a_half_pushed_node_is_neither_popped_nor_forgotten(void **state)
{
    (void)state;
    for (unsigned before = 0; before <= 2; before++) {
        struct wsr_ring_mpsc ring;
        struct numbered nodes[2], late;
        wsr_ring_mpsc_init(&ring);
        for (unsigned i = 0; i < before; i++)
            wsr_ring_mpsc_push(&ring, &nodes[i].node);
        atomic_store_explicit(&late.node.next, NULL, memory_order_relaxed);
        struct wsr_ring_node *last = atomic_exchange_explicit(&ring.last, &late.node, memory_order_acq_rel);
        for (unsigned i = 0; i + 1 < before; i++)
            assert_ptr_equal(wsr_ring_mpsc_pop(&ring), &nodes[i].node);
        assert_null(wsr_ring_mpsc_pop(&ring));
        assert_false(wsr_ring_mpsc_is_empty(&ring));
        atomic_store_explicit(&last->next, &late.node, memory_order_release);
        if (before > 0)
            assert_ptr_equal(wsr_ring_mpsc_pop(&ring), &nodes[before - 1].node);
        assert_ptr_equal(wsr_ring_mpsc_pop(&ring), &late.node);
        assert_null(wsr_ring_mpsc_pop(&ring));
        assert_true(wsr_ring_mpsc_is_empty(&ring));
    }
}

#define PRODUCERS_COUNT 4
#define NODES_COUNT 50000u

struct producer {
    struct wsr_ring_mpsc *ring;
    struct numbered *nodes;
    unsigned index;
};

static void *push_all(void *context)
{
    struct producer *producer = context;
    for (unsigned i = 0; i < NODES_COUNT; i++) {
        producer->nodes[i].producer = producer->index;
        producer->nodes[i].number = i;
        wsr_ring_mpsc_push(producer->ring, &producer->nodes[i].node);
    }
    return NULL;
}

static void four_producers_keep_the_order_of_each(void **state)
{
    (void)state;
    struct wsr_ring_mpsc ring;
    struct producer producers[PRODUCERS_COUNT];
    pthread_t threads[PRODUCERS_COUNT];
    unsigned next[PRODUCERS_COUNT] = { 0 };
    unsigned wrong = 0;
    wsr_ring_mpsc_init(&ring);
    for (unsigned i = 0; i < PRODUCERS_COUNT; i++) {
        producers[i] = (struct producer){ &ring, malloc(NODES_COUNT * sizeof(struct numbered)), i };
        assert_non_null(producers[i].nodes);
        assert_int_equal(pthread_create(&threads[i], NULL, push_all, &producers[i]), 0);
    }
    for (unsigned popped = 0; popped < PRODUCERS_COUNT * NODES_COUNT;) {
        struct wsr_ring_node *node = wsr_ring_mpsc_pop(&ring);
        if (node == NULL) {
            sched_yield();
            continue;
        }
        const struct numbered *numbered = wsr_container_of(node, struct numbered, node);
        wrong += numbered->number != next[numbered->producer]++;
        popped++;
    }
    assert_int_equal(wrong, 0);
    assert_null(wsr_ring_mpsc_pop(&ring));
    assert_true(wsr_ring_mpsc_is_empty(&ring));
    for (unsigned i = 0; i < PRODUCERS_COUNT; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        free(producers[i].nodes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_ring_is_empty),
        cmocka_unit_test(nothing_is_seen_before_publication),
        cmocka_unit_test(a_full_ring_stays_full_until_reclaimed),
        cmocka_unit_test(indices_follow_a_model_over_many_laps),
        cmocka_unit_test(an_empty_ring_is_rewound_to_its_first_slot),
        cmocka_unit_test(one_producer_and_one_consumer_lose_nothing),
        cmocka_unit_test(commands_come_in_order_and_nodes_can_be_used_again),
        cmocka_unit_test(a_half_pushed_node_is_neither_popped_nor_forgotten),
        cmocka_unit_test(four_producers_keep_the_order_of_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
