/* The times that a load measures, as one set of histograms. */
#ifndef WSR_LOAD_TIMES_H
#define WSR_LOAD_TIMES_H

#include "histogram.h"

/* What the opening of a connection is made of. */
enum wsr_load_step {
    WSR_LOAD_LOOKUP = 0,
    WSR_LOAD_CONNECT = 1,           /* TCP, and the way through a proxy */
    WSR_LOAD_SECURE = 2,            /* TLS */
    WSR_LOAD_UPGRADE = 3
};
#define WSR_LOAD_STEPS_COUNT 4

struct wsr_load_times {
    struct wsr_histogram latency;
    struct wsr_histogram opening;
    struct wsr_histogram steps[WSR_LOAD_STEPS_COUNT];      /* of opening; a step that a connection had not is not in */
};

/* Returns 0 or WSR_ERR_MEMORY; to be freed in both cases. */
WSR_MUST_USE int wsr_load_times_init(struct wsr_load_times *times);
void wsr_load_times_free(struct wsr_load_times *times);      /* zeroed ones are allowed */
/* Add all of @from. */
void wsr_load_times_merge(struct wsr_load_times *times, const struct wsr_load_times *from);
/* Count the steps of one connection that has opened. */
void wsr_load_times_note(struct wsr_load_times *times, const struct wsr_socket_statistics *statistics);

#endif
