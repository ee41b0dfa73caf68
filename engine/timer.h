/* A wheel of deadlines. It is told the time and never asks. Nodes live in their owners; one node, one deadline. */
#ifndef WSR_TIMER_H
#define WSR_TIMER_H

#include "base.h"

struct wsr_timer {
    struct wsr_timer *next;
    struct wsr_timer **link;      /* what points to this node; NULL = not armed */
    uint64_t deadline_ns;
};

struct wsr_timer_wheel;

/* @now_ns is the wheel's first moment. NULL without memory. */
struct wsr_timer_wheel *wsr_timer_wheel_create(uint64_t now_ns);
void wsr_timer_wheel_destroy(struct wsr_timer_wheel *wheel);   /* armed nodes are forgotten, not freed */

/* Arm, or move, @timer. WSR_NEVER disarms. A deadline that is over fires at the next expiry. O(1). */
void wsr_timer_arm(struct wsr_timer_wheel *wheel, struct wsr_timer *timer, uint64_t deadline_ns);
void wsr_timer_disarm(struct wsr_timer_wheel *wheel, struct wsr_timer *timer);   /* allowed when not armed. O(1) */
static inline bool wsr_timer_is_armed(const struct wsr_timer *timer) { return timer->link != NULL; }

/* Move to @now_ns and return one timer whose deadline is at or before it, disarmed; NULL when there is none. Never
 * early; late by at most WSR_TIMER_GRAIN_NS. Timers of one call sequence come in the order of their ticks. */
struct wsr_timer *wsr_timer_expire(struct wsr_timer_wheel *wheel, uint64_t now_ns);
#define WSR_TIMER_GRAIN_NS 1000000ull

/* A moment at which wsr_timer_expire() has something to do, perhaps only to sort: never later than the next expiry.
 * WSR_NEVER when empty. */
uint64_t wsr_timer_next(const struct wsr_timer_wheel *wheel);

#endif
