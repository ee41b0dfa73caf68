/* The two clocks of a measurement: what went by, and what this process used of it. */
#ifndef WSR_MICRO_CLOCK_H
#define WSR_MICRO_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t wsr_clock_read(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static inline uint64_t wsr_clock_now(void)
{
    return wsr_clock_read(CLOCK_MONOTONIC);
}

#endif
