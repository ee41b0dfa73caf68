/* The line that tells each second how the load is doing. */
#ifndef WSR_LOAD_LIVE_H
#define WSR_LOAD_LIVE_H

#include "load.h"

struct wsr_load_live_line {
    bool shown;             /* asked for */
    bool on_terminal;       /* one line, written over */
    bool dirty;             /* a line on the terminal waits for its end */
    uint64_t started_ns;
    uint64_t last_ns;
    uint64_t last_verified;
    uint64_t last_latency_ns;
};

void wsr_load_live_line_init(struct wsr_load_live_line *line, const struct wsr_load_options *options);
/* Write a line when a second is over since the last. */
void wsr_load_live_line_show(struct wsr_load_live_line *line, const struct wsr_load_lane *lanes, uint32_t lanes_count,
                             uint64_t now_ns);
/* The last: what follows starts on a line of its own. */
void wsr_load_live_line_end(struct wsr_load_live_line *line);

#endif
