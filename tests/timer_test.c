/* engine/timer.c under made-up time, against a list that is searched from end to end.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/timer.h"

#define MS WSR_NS_PER_MS
#define DAY_NS (86400 * WSR_NS_PER_S)

static uint64_t random_state = 0x9E3779B97F4A7C15u;

static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void an_empty_wheel_has_nothing_to_do(void **state)
{
    (void)state;
    struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(5 * MS);
    assert_true(wsr_timer_next(wheel) == WSR_NEVER);
    assert_null(wsr_timer_expire(wheel, 5 * MS));
    assert_null(wsr_timer_expire(wheel, 1000 * DAY_NS));
    assert_true(wsr_timer_next(wheel) == WSR_NEVER);
    wsr_timer_wheel_destroy(wheel);
    wsr_timer_wheel_destroy(NULL);
}

static void a_timer_is_never_early_and_late_by_less_than_a_grain(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        uint64_t start_ns = random_number() >> (8 + random_number() % 40);
        uint64_t deadline_ns = start_ns + (random_number() >> (8 + random_number() % 56));
        struct wsr_timer timer = { 0 };
        struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(start_ns);
        wsr_timer_arm(wheel, &timer, deadline_ns);
        assert_true(wsr_timer_is_armed(&timer));
        if (deadline_ns > start_ns)
            assert_null(wsr_timer_expire(wheel, deadline_ns - 1));
        assert_true(wsr_timer_next(wheel) < deadline_ns + WSR_TIMER_GRAIN_NS);
        assert_ptr_equal(wsr_timer_expire(wheel, deadline_ns + WSR_TIMER_GRAIN_NS - 1), &timer);
        assert_false(wsr_timer_is_armed(&timer));
        assert_null(wsr_timer_expire(wheel, deadline_ns + WSR_TIMER_GRAIN_NS - 1));
        wsr_timer_wheel_destroy(wheel);
    }
}

/* The worker's loop: sleep until next(), expire, and so on; on the way the wheel may ask to sort once a level. */
static void following_next_reaches_far_deadlines_in_few_steps(void **state)
{
    (void)state;
    static const uint64_t after_ns[] = {
        1, MS, 63 * MS, 64 * MS, 65 * MS, 4095 * MS, 4096 * MS, DAY_NS, 30 * DAY_NS, 365 * DAY_NS, 36500 * DAY_NS
    };
    for (size_t i = 0; i < sizeof after_ns / sizeof *after_ns; i++) {
        uint64_t now_ns = 123456789;
        uint64_t deadline_ns = now_ns + after_ns[i];
        struct wsr_timer timer = { 0 };
        struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(now_ns);
        unsigned steps = 0;
        wsr_timer_arm(wheel, &timer, deadline_ns);
        for (struct wsr_timer *fired = NULL; fired == NULL; steps++) {
            uint64_t next_ns = wsr_timer_next(wheel);
            assert_true(next_ns >= now_ns && next_ns < deadline_ns + WSR_TIMER_GRAIN_NS);
            now_ns = next_ns;
            fired = wsr_timer_expire(wheel, now_ns);
        }
        assert_true(now_ns >= deadline_ns);
        assert_true(steps <= 8);
        wsr_timer_wheel_destroy(wheel);
    }
}

static void a_deadline_that_is_over_fires_at_the_next_expiry(void **state)
{
    (void)state;
    struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(10 * MS + 500000);
    struct wsr_timer timer = { 0 };
    static const uint64_t over_ns[] = { 0, 1, 10 * MS, 10 * MS + 1, 10 * MS + 500000 };
    for (size_t i = 0; i < sizeof over_ns / sizeof *over_ns; i++) {
        wsr_timer_arm(wheel, &timer, over_ns[i]);
        assert_true(wsr_timer_next(wheel) <= 10 * MS + 500000);
        assert_ptr_equal(wsr_timer_expire(wheel, 10 * MS + 500000), &timer);
    }
    assert_null(wsr_timer_expire(wheel, 10 * MS + 500000));
    wsr_timer_wheel_destroy(wheel);
}

static void never_disarms_and_arming_again_moves(void **state)
{
    (void)state;
    struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(0);
    struct wsr_timer timer = { 0 };
    wsr_timer_disarm(wheel, &timer);
    wsr_timer_arm(wheel, &timer, 5 * MS);
    wsr_timer_arm(wheel, &timer, WSR_NEVER);
    assert_false(wsr_timer_is_armed(&timer));
    assert_true(wsr_timer_next(wheel) == WSR_NEVER);
    wsr_timer_arm(wheel, &timer, 5 * MS);
    wsr_timer_arm(wheel, &timer, 500 * MS);
    assert_null(wsr_timer_expire(wheel, 499 * MS));
    wsr_timer_arm(wheel, &timer, 600 * MS);
    wsr_timer_arm(wheel, &timer, 499 * MS);
    assert_ptr_equal(wsr_timer_expire(wheel, 499 * MS), &timer);
    assert_true(wsr_timer_next(wheel) == WSR_NEVER);
    wsr_timer_wheel_destroy(wheel);
}

static void a_timer_may_be_armed_again_when_it_fires(void **state)
{
    (void)state;
    struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(0);
    struct wsr_timer timer = { 0 };
    unsigned fired = 0;
    wsr_timer_arm(wheel, &timer, 10 * MS);
    /* One late expiry makes up for every period, in order. */
    for (struct wsr_timer *t; (t = wsr_timer_expire(wheel, 1000 * MS)) != NULL; fired++)
        wsr_timer_arm(wheel, t, t->deadline_ns + 10 * MS);
    assert_int_equal(fired, 100);
    assert_true(wsr_timer_is_armed(&timer));
    wsr_timer_wheel_destroy(wheel);
    assert_false(wsr_timer_is_armed(&timer));
}

static void a_due_timer_can_be_disarmed_before_it_is_handed_out(void **state)
{
    (void)state;
    struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(0);
    struct wsr_timer timers[4] = { 0 };
    for (unsigned i = 0; i < 4; i++)
        wsr_timer_arm(wheel, &timers[i], 7 * MS);
    struct wsr_timer *first = wsr_timer_expire(wheel, 8 * MS);
    assert_non_null(first);
    for (unsigned i = 0; i < 4; i++)
        wsr_timer_disarm(wheel, &timers[i]);
    assert_null(wsr_timer_expire(wheel, 8 * MS));
    wsr_timer_arm(wheel, first, 0);                 /* the list of the due still knows its end */
    wsr_timer_arm(wheel, &timers[3] == first ? &timers[2] : &timers[3], 0);
    assert_ptr_equal(wsr_timer_expire(wheel, 8 * MS), first);
    assert_non_null(wsr_timer_expire(wheel, 8 * MS));
    assert_null(wsr_timer_expire(wheel, 8 * MS));
    wsr_timer_wheel_destroy(wheel);
}

static void time_that_stands_still_or_goes_back_fires_nothing(void **state)
{
    (void)state;
    struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(1000 * MS);
    struct wsr_timer timer = { 0 };
    wsr_timer_arm(wheel, &timer, 1010 * MS);
    assert_null(wsr_timer_expire(wheel, 1000 * MS));
    assert_null(wsr_timer_expire(wheel, 10 * MS));
    assert_null(wsr_timer_expire(wheel, 1009 * MS));
    assert_ptr_equal(wsr_timer_expire(wheel, 1010 * MS), &timer);
    wsr_timer_wheel_destroy(wheel);
}

enum { MODEL_TIMERS = 300 };

/* A deadline near or far from @now_ns, and sometimes over. */
static uint64_t random_deadline(uint64_t now_ns)
{
    uint64_t after_ns = random_number() >> (14 + random_number() % 50);
    return random_number() % 16 == 0 ? now_ns - (after_ns < now_ns ? after_ns : now_ns) : now_ns + after_ns;
}

/* The first moment at which a timer of the model may and must fire. */
static uint64_t earliest(const struct wsr_timer *timers)
{
    uint64_t first_ns = WSR_NEVER;
    for (unsigned i = 0; i < MODEL_TIMERS; i++) {
        if (wsr_timer_is_armed(&timers[i]) && timers[i].deadline_ns < first_ns)
            first_ns = timers[i].deadline_ns;
    }
    return first_ns;
}

static void a_random_life_agrees_with_a_list(void **state)
{
    (void)state;
    for (unsigned life = 0; life < 20; life++) {
        static struct wsr_timer timers[MODEL_TIMERS];
        memset(timers, 0, sizeof timers);
        uint64_t now_ns = random_number() >> 16;
        struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(now_ns);
        for (unsigned step = 0; step < 2000; step++) {
            struct wsr_timer *timer = &timers[random_number() % MODEL_TIMERS];
            if (random_number() % 4 == 0)
                wsr_timer_disarm(wheel, timer);
            else
                wsr_timer_arm(wheel, timer, random_deadline(now_ns));
            uint64_t first_ns = earliest(timers);
            if (first_ns == WSR_NEVER) {
                assert_true(wsr_timer_next(wheel) == WSR_NEVER);
                continue;
            }
            uint64_t limit_ns = first_ns > now_ns ? first_ns : now_ns;
            assert_true(wsr_timer_next(wheel) < limit_ns + WSR_TIMER_GRAIN_NS);
            if (random_number() % 8 != 0)
                continue;

            now_ns += random_number() >> (14 + random_number() % 50);
            for (struct wsr_timer *fired; (fired = wsr_timer_expire(wheel, now_ns)) != NULL;) {
                assert_true(fired->deadline_ns <= now_ns);
                assert_false(wsr_timer_is_armed(fired));
            }
            assert_true(earliest(timers) > now_ns - now_ns % WSR_TIMER_GRAIN_NS);
        }
        wsr_timer_wheel_destroy(wheel);
    }
}

static void many_timers_fire_in_the_order_of_their_ticks(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct wsr_timer *timers = calloc(COUNT, sizeof *timers);
    uint64_t start_ns = 987654321;
    struct wsr_timer_wheel *wheel = wsr_timer_wheel_create(start_ns);
    for (unsigned i = 0; i < COUNT; i++)
        wsr_timer_arm(wheel, &timers[i], start_ns + 1 + random_number() % (3 * DAY_NS));
    uint64_t last_tick = 0;
    unsigned fired_count = 0;
    for (struct wsr_timer *fired; (fired = wsr_timer_expire(wheel, start_ns + 4 * DAY_NS)) != NULL; fired_count++) {
        uint64_t tick = (fired->deadline_ns + WSR_TIMER_GRAIN_NS - 1) / WSR_TIMER_GRAIN_NS;
        assert_true(tick >= last_tick);
        last_tick = tick;
    }
    assert_int_equal(fired_count, COUNT);
    assert_true(wsr_timer_next(wheel) == WSR_NEVER);
    wsr_timer_wheel_destroy(wheel);
    free(timers);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_wheel_has_nothing_to_do),
        cmocka_unit_test(a_timer_is_never_early_and_late_by_less_than_a_grain),
        cmocka_unit_test(following_next_reaches_far_deadlines_in_few_steps),
        cmocka_unit_test(a_deadline_that_is_over_fires_at_the_next_expiry),
        cmocka_unit_test(never_disarms_and_arming_again_moves),
        cmocka_unit_test(a_timer_may_be_armed_again_when_it_fires),
        cmocka_unit_test(a_due_timer_can_be_disarmed_before_it_is_handed_out),
        cmocka_unit_test(time_that_stands_still_or_goes_back_fires_nothing),
        cmocka_unit_test(a_random_life_agrees_with_a_list),
        cmocka_unit_test(many_timers_fire_in_the_order_of_their_ticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
