/* Eight levels of 64 slots cover every 64-bit deadline at a grain of 1 ms. A timer lies on the level of the highest
 * digit (base 64) in which its tick differs from the wheel's, in the slot of that digit. So everything on a lower level
 * is due before anything on a higher one, the first occupied slot of the lowest occupied level is what comes next, and
 * moving the wheel over empty slots moves no timer. */
#include "timer.h"

#include <stdlib.h>

#define DIGIT_BITS 6u
#define SLOTS_COUNT (1u << DIGIT_BITS)
#define LEVELS_COUNT 8u

struct wsr_timer_wheel {
    uint64_t now_ns;                                   /* last moment told */
    uint64_t tick;                                     /* every slot up to here is empty */
    struct wsr_timer *due;                             /* expired and not yet handed out, first in first out */
    struct wsr_timer **due_end;
    uint64_t occupied[LEVELS_COUNT];                   /* one bit per slot */
    struct wsr_timer *slots[LEVELS_COUNT * SLOTS_COUNT];
};

static uint64_t tick_at_or_after(uint64_t moment_ns)
{
    return moment_ns / WSR_TIMER_GRAIN_NS + (moment_ns % WSR_TIMER_GRAIN_NS != 0);
}

struct wsr_timer_wheel *wsr_timer_wheel_create(uint64_t now_ns)
{
    static_assert((UINT64_MAX / WSR_TIMER_GRAIN_NS) >> (LEVELS_COUNT * DIGIT_BITS) == 0, "a level is missing");

    struct wsr_timer_wheel *wheel = calloc(1, sizeof *wheel);
    if (wheel == NULL)
        return NULL;
    wheel->now_ns = now_ns;
    wheel->tick = now_ns / WSR_TIMER_GRAIN_NS;
    wheel->due_end = &wheel->due;
    return wheel;
}

static void forget(struct wsr_timer *timer)
{
    while (timer != NULL) {
        struct wsr_timer *next = timer->next;
        timer->next = NULL;
        timer->link = NULL;
        timer = next;
    }
}

void wsr_timer_wheel_destroy(struct wsr_timer_wheel *wheel)
{
    if (wheel == NULL)
        return;
    forget(wheel->due);
    for (unsigned slot = 0; slot < LEVELS_COUNT * SLOTS_COUNT; slot++)
        forget(wheel->slots[slot]);
    free(wheel);
}

static void append_due(struct wsr_timer_wheel *wheel, struct wsr_timer *timer)
{
    timer->next = NULL;
    timer->link = wheel->due_end;
    *wheel->due_end = timer;
    wheel->due_end = &timer->next;
}

/* Put a timer that is on no list where its tick belongs. */
static void place(struct wsr_timer_wheel *wheel, struct wsr_timer *timer)
{
    uint64_t tick = tick_at_or_after(timer->deadline_ns);
    if (timer->deadline_ns <= wheel->now_ns || tick <= wheel->tick) {
        append_due(wheel, timer);
        return;
    }
    unsigned level = (63u - (unsigned)__builtin_clzll(tick ^ wheel->tick)) / DIGIT_BITS;
    unsigned digit = (unsigned)(tick >> (level * DIGIT_BITS)) & (SLOTS_COUNT - 1);
    struct wsr_timer **head = &wheel->slots[level * SLOTS_COUNT + digit];

    wheel->occupied[level] |= 1ull << digit;
    timer->next = *head;
    if (timer->next != NULL)
        timer->next->link = &timer->next;
    timer->link = head;
    *head = timer;
}

void wsr_timer_disarm(struct wsr_timer_wheel *wheel, struct wsr_timer *timer)
{
    struct wsr_timer **link = timer->link;
    if (link == NULL)
        return;
    assert(*link == timer);
    *link = timer->next;
    if (timer->next != NULL)
        timer->next->link = link;
    else if (wheel->due_end == &timer->next)
        wheel->due_end = link;
    timer->next = NULL;
    timer->link = NULL;

    uintptr_t from_slots = (uintptr_t)link - (uintptr_t)wheel->slots;
    if (*link == NULL && from_slots < sizeof wheel->slots) {
        size_t slot = from_slots / sizeof wheel->slots[0];
        wheel->occupied[slot / SLOTS_COUNT] &= ~(1ull << slot % SLOTS_COUNT);
    }
}

void wsr_timer_arm(struct wsr_timer_wheel *wheel, struct wsr_timer *timer, uint64_t deadline_ns)
{
    wsr_timer_disarm(wheel, timer);
    timer->deadline_ns = deadline_ns;
    if (deadline_ns != WSR_NEVER)
        place(wheel, timer);
}

/* The first tick at which an occupied slot begins, and that slot. False when all are empty. */
static bool first_slot(const struct wsr_timer_wheel *wheel, unsigned *slot, uint64_t *tick)
{
    for (unsigned level = 0; level < LEVELS_COUNT; level++) {
        if (wheel->occupied[level] == 0)
            continue;
        unsigned digit = (unsigned)__builtin_ctzll(wheel->occupied[level]);
        unsigned shift = level * DIGIT_BITS;
        uint64_t above = wheel->tick >> (shift + DIGIT_BITS) << DIGIT_BITS;
        *slot = level * SLOTS_COUNT + digit;
        *tick = (above | digit) << shift;
        return true;
    }
    return false;
}

/* The wheel stands where @slot begins: its timers are due, or belong on a lower level now. */
static void open_slot(struct wsr_timer_wheel *wheel, unsigned slot)
{
    struct wsr_timer *timer = wheel->slots[slot];
    wheel->slots[slot] = NULL;
    wheel->occupied[slot / SLOTS_COUNT] &= ~(1ull << slot % SLOTS_COUNT);
    while (timer != NULL) {
        struct wsr_timer *next = timer->next;
        place(wheel, timer);
        timer = next;
    }
}

struct wsr_timer *wsr_timer_expire(struct wsr_timer_wheel *wheel, uint64_t now_ns)
{
    uint64_t now_tick = now_ns / WSR_TIMER_GRAIN_NS;
    unsigned slot;
    uint64_t tick;

    while (wheel->due == NULL && first_slot(wheel, &slot, &tick) && tick <= now_tick) {
        assert(tick > wheel->tick);
        /* While slots are opened the clock stands at their tick: a later timer of the same slot may not overtake. */
        wheel->tick = tick;
        wheel->now_ns = tick * WSR_TIMER_GRAIN_NS;
        open_slot(wheel, slot);
    }
    struct wsr_timer *timer = wheel->due;
    if (timer != NULL) {
        wsr_timer_disarm(wheel, timer);
        return timer;
    }
    if (now_ns > wheel->now_ns) {
        wheel->now_ns = now_ns;
        wheel->tick = now_tick;
    }
    return NULL;
}

uint64_t wsr_timer_next(const struct wsr_timer_wheel *wheel)
{
    unsigned slot;
    uint64_t tick;

    if (wheel->due != NULL)
        return wheel->now_ns;
    if (!first_slot(wheel, &slot, &tick) || tick > UINT64_MAX / WSR_TIMER_GRAIN_NS)
        return WSR_NEVER;
    return tick * WSR_TIMER_GRAIN_NS;
}
