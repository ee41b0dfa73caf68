/* SPDX-License-Identifier: MIT */
#include "load_times.h"

#include <assert.h>

#define DIGITS 3

int wsr_load_times_init(struct wsr_load_times *times)
{
    *times = (struct wsr_load_times){ .latency = { .counts = NULL } };
    int rc = wsr_histogram_init(&times->latency, DIGITS, WSR_HISTOGRAM_HOUR_NS);
    if (rc == 0)
        rc = wsr_histogram_init(&times->opening, DIGITS, WSR_HISTOGRAM_HOUR_NS);
    for (int i = 0; i < WSR_LOAD_STEPS_COUNT && rc == 0; i++)
        rc = wsr_histogram_init(&times->steps[i], DIGITS, WSR_HISTOGRAM_HOUR_NS);
    return rc;
}

void wsr_load_times_free(struct wsr_load_times *times)
{
    wsr_histogram_free(&times->latency);
    wsr_histogram_free(&times->opening);
    for (int i = 0; i < WSR_LOAD_STEPS_COUNT; i++)
        wsr_histogram_free(&times->steps[i]);
}

static void merge(struct wsr_histogram *h, const struct wsr_histogram *from)
{
    int rc = wsr_histogram_merge(h, from);
    assert(rc == 0);                   /* all of them have one shape */
    (void)rc;
}

void wsr_load_times_merge(struct wsr_load_times *times, const struct wsr_load_times *from)
{
    merge(&times->latency, &from->latency);
    merge(&times->opening, &from->opening);
    for (int i = 0; i < WSR_LOAD_STEPS_COUNT; i++)
        merge(&times->steps[i], &from->steps[i]);
}

void wsr_load_times_note(struct wsr_load_times *times, const struct wsr_socket_statistics *statistics)
{
    const uint64_t took_ns[WSR_LOAD_STEPS_COUNT] = {
        [WSR_LOAD_LOOKUP] = statistics->lookup_ns,
        [WSR_LOAD_CONNECT] = statistics->connect_ns,
        [WSR_LOAD_SECURE] = statistics->tls_ns,
        [WSR_LOAD_UPGRADE] = statistics->upgrade_ns,
    };
    for (int i = 0; i < WSR_LOAD_STEPS_COUNT; i++) {
        if (took_ns[i] > 0)
            wsr_histogram_add(&times->steps[i], took_ns[i]);
    }
}
