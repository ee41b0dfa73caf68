/* SPDX-License-Identifier: MIT */
#include "load_live.h"

#include <inttypes.h>
#include <unistd.h>

#include "quantity.h"

#define SECOND_NS 1000000000ull

struct sums {
    uint64_t open, failed, sent, verified, wrong, latency_ns;
    uint32_t phase;
};

void wsr_load_live_line_init(struct wsr_load_live_line *line, const struct wsr_load_options *options)
{
    *line = (struct wsr_load_live_line){ .shown = !options->quiet, .on_terminal = isatty(STDERR_FILENO) == 1 };
}

static struct sums sum(const struct wsr_load_lane *lanes, uint32_t lanes_count)
{
    struct sums all = { .phase = WSR_LOAD_DONE };
    for (uint32_t i = 0; i < lanes_count; i++) {
        const struct wsr_load_live *live = &lanes[i].live;
        /* Relaxed, all of them: pair with the relaxed stores in publish() of load_lane.c. */
        uint32_t phase = atomic_load_explicit(&live->phase, memory_order_relaxed);
        all.open += atomic_load_explicit(&live->open, memory_order_relaxed);
        all.failed += atomic_load_explicit(&live->failed, memory_order_relaxed);
        all.sent += atomic_load_explicit(&live->sent, memory_order_relaxed);
        all.verified += atomic_load_explicit(&live->verified, memory_order_relaxed);
        all.wrong += atomic_load_explicit(&live->wrong, memory_order_relaxed);
        all.latency_ns += atomic_load_explicit(&live->latency_ns, memory_order_relaxed);
        all.phase = phase < all.phase ? phase : all.phase;
    }
    return all;
}

void wsr_load_live_line_show(struct wsr_load_live_line *line, const struct wsr_load_lane *lanes, uint32_t lanes_count,
                             uint64_t now_ns)
{
    static const char *const phases[] = { "opening", "ready", "running", "draining", "closing", "done" };
    char rate[WSR_QUANTITY_CHARS], open[WSR_QUANTITY_CHARS], mean[WSR_QUANTITY_CHARS];
    if (line->started_ns == 0)
        line->started_ns = line->last_ns = now_ns;
    if (!line->shown || now_ns - line->last_ns < SECOND_NS)
        return;
    struct sums all = sum(lanes, lanes_count);
    double seconds = (double)(now_ns - line->last_ns) / 1e9;
    uint64_t answered = all.verified - line->last_verified;
    double latency_ns = answered > 0 ? (double)(all.latency_ns - line->last_latency_ns) / (double)answered : 0.0;
    fprintf(stderr, "%s%4.0f s  %-8s  %s open, %" PRIu64 " failed  %s msg/s  mean %s  %" PRIu64 " wrong%s",
            line->on_terminal ? "\r" : "", (double)(now_ns - line->started_ns) / 1e9, phases[all.phase],
            wsr_quantity_write_count(open, all.open), all.failed,
            wsr_quantity_write_count(rate, (uint64_t)((double)answered / seconds)),
            wsr_quantity_write_ns(mean, latency_ns), all.wrong, line->on_terminal ? "\033[K" : "\n");
    line->dirty = line->on_terminal;
    line->last_ns = now_ns;
    line->last_verified = all.verified;
    line->last_latency_ns = all.latency_ns;
}

void wsr_load_live_line_end(struct wsr_load_live_line *line)
{
    if (line->dirty)
        fputc('\n', stderr);
    line->dirty = false;
}
