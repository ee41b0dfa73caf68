/* SPDX-License-Identifier: MIT */
#include "row.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "distance.h"

#define VALUE_CHARS 64

/* All that one side did. */
struct series {
    double values[WSR_ROW_ROUNDS_MAX];
    double client_busy[WSR_ROW_ROUNDS_MAX];
    double server_busy[WSR_ROW_ROUNDS_MAX];
};

struct spread {
    double median, min, max;
};

/* A row as it was measured. */
struct record {
    const struct wsr_row *row;
    const struct series *all;
    size_t sides, best;             /* `best` is the reference that counts */
    uint32_t rounds;
    struct spread ratio, distance;
    bool reached;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double wsr_row_median(double *values, uint32_t count)
{
    qsort(values, count, sizeof values[0], by_value);
    return count > 0 ? values[count / 2] : 0;
}

static struct spread spread_of(const double *values, uint32_t count)
{
    double sorted[WSR_ROW_ROUNDS_MAX];
    memcpy(sorted, values, count * sizeof sorted[0]);
    qsort(sorted, count, sizeof sorted[0], by_value);
    return (struct spread){ sorted[count / 2], sorted[0], sorted[count - 1] };
}

static bool more_is_better(enum wsr_row_unit unit)
{
    return unit == WSR_ROW_BYTES_PER_S || unit == WSR_ROW_PER_S;
}

static const char *write_value(char out[VALUE_CHARS], enum wsr_row_unit unit, double value)
{
    if (unit == WSR_ROW_BYTES_PER_S && value < 1e8)
        snprintf(out, VALUE_CHARS, "%.1f MB/s", value / 1e6);
    else if (unit == WSR_ROW_BYTES_PER_S)
        snprintf(out, VALUE_CHARS, "%.2f GB/s", value / 1e9);
    else if (unit == WSR_ROW_BYTES)
        snprintf(out, VALUE_CHARS, "%.0f B", value);
    else if (unit == WSR_ROW_PER_S)
        snprintf(out, VALUE_CHARS, "%.0f per s", value);
    else if (value < 10000)
        snprintf(out, VALUE_CHARS, "%.*f ns", value < 100 ? 2 : 0, value);
    else
        snprintf(out, VALUE_CHARS, "%.2f us", value / 1000);
    return out;
}

static void print_side(const char *name, enum wsr_row_unit unit, const struct series *s, uint32_t rounds, bool counts)
{
    char median[VALUE_CHARS], min[VALUE_CHARS], max[VALUE_CHARS];
    struct spread value = spread_of(s->values, rounds);
    double client = spread_of(s->client_busy, rounds).median, server = spread_of(s->server_busy, rounds).median;
    printf("    %-22s %12s  (%s to %s)", name, write_value(median, unit, value.median),
           write_value(min, unit, value.min), write_value(max, unit, value.max));
    if (client >= 0)
        printf("  client %3.0f %% CPU", 100 * client);
    if (server >= 0)
        printf(", server %3.0f %%", 100 * server);
    printf("%s\n", counts ? "" : "  not the best reference");
}

static void write_spread(struct wsr_json *json, const char *name, struct spread spread)
{
    wsr_json_open(json, name, '{');
    wsr_json_number(json, "median", spread.median);
    wsr_json_number(json, "min", spread.min);
    wsr_json_number(json, "max", spread.max);
    wsr_json_close(json, '}');
}

static void write_busy(struct wsr_json *json, const char *name, const double *busy, uint32_t rounds)
{
    double median = spread_of(busy, rounds).median;
    if (median >= 0)
        wsr_json_number(json, name, median);
    else
        wsr_json_null(json, name);
}

static void write_row(struct wsr_json *json, const struct record *r)
{
    static const char *const units[] = {
        [WSR_ROW_NS] = "ns", [WSR_ROW_BYTES_PER_S] = "bytes_per_second", [WSR_ROW_BYTES] = "bytes",
        [WSR_ROW_PER_S] = "per_second"
    };
    wsr_json_open(json, NULL, '{');
    wsr_json_text(json, "row", r->row->name);
    wsr_json_text(json, "what", r->row->what);
    wsr_json_text(json, "unit", units[r->row->unit]);
    wsr_json_count(json, "rounds", r->rounds);
    wsr_json_open(json, "sides", '[');
    for (size_t i = 0; i < r->sides; i++) {
        wsr_json_open(json, NULL, '{');
        wsr_json_text(json, "side", r->row->sides[i].name);
        write_spread(json, "value", spread_of(r->all[i].values, r->rounds));
        write_busy(json, "client_cpu", r->all[i].client_busy, r->rounds);
        write_busy(json, "server_cpu", r->all[i].server_busy, r->rounds);
        wsr_json_close(json, '}');
    }
    wsr_json_close(json, ']');
    wsr_json_text(json, "reference", r->row->sides[r->best].name);
    write_spread(json, "ratio", r->ratio);
    write_spread(json, "cpus_apart_ns", r->distance);
    if (r->row->reach > 0) {
        wsr_json_number(json, "reach", r->row->reach);
        wsr_json_bool(json, "reached", r->reached);
    }
    wsr_json_close(json, '}');
}

/* The reference with the best median. */
static size_t best_reference(const struct wsr_row *row, const struct series *all, size_t sides, uint32_t rounds)
{
    size_t best = 1;
    for (size_t i = 2; i < sides; i++) {
        double here = spread_of(all[i].values, rounds).median, there = spread_of(all[best].values, rounds).median;
        if (more_is_better(row->unit) ? here > there : here < there)
            best = i;
    }
    return best;
}

static void print_row(const struct record *r)
{
    const struct wsr_row *row = r->row;
    printf("%-20s ratio %.3f  (%.3f to %.3f)  ", row->name, r->ratio.median, r->ratio.min, r->ratio.max);
    if (row->reach > 0)
        printf("reach %s %.2f  %s   %s\n", more_is_better(row->unit) ? ">=" : "<=", row->reach,
               r->reached ? "ok" : "short", row->what);
    else
        printf("for information   %s\n", row->what);
    for (size_t i = 0; i < r->sides; i++)
        print_side(row->sides[i].name, row->unit, &r->all[i], r->rounds, i == 0 || i == r->best);
    printf("    %-22s %9.0f ns  (%.0f ns to %.0f ns)\n", "the CPUs are apart", r->distance.median, r->distance.min,
           r->distance.max);
    fflush(stdout);
}

static void summarise(struct wsr_summary *summary, const struct record *r)
{
    struct wsr_summary_line *line = wsr_summary_add(summary);
    enum wsr_row_unit unit = r->row->unit;
    char value[VALUE_CHARS];
    if (line == NULL)
        return;
    snprintf(line->row, sizeof line->row, "%s", r->row->name);
    snprintf(line->engine, sizeof line->engine, "%s",
             write_value(value, unit, spread_of(r->all[0].values, r->rounds).median));
    snprintf(line->reference, sizeof line->reference, "%s",
             write_value(value, unit, spread_of(r->all[r->best].values, r->rounds).median));
    snprintf(line->reference_name, sizeof line->reference_name, "%s", r->row->sides[r->best].name);
    snprintf(line->ratio, sizeof line->ratio, "%.2f", r->ratio.median);
    snprintf(line->spread, sizeof line->spread, "(%.2f to %.2f)", r->ratio.min, r->ratio.max);
    if (r->row->reach > 0)
        snprintf(line->reach, sizeof line->reach, "%s %.2f", more_is_better(unit) ? ">=" : "<=", r->row->reach);
    line->reached = r->reached;
}

static void report(const struct wsr_table *table, const struct wsr_row *row, const struct series *all, size_t sides,
                   const double *distances)
{
    struct record r = { .row = row, .all = all, .sides = sides, .rounds = table->rounds_count };
    double ratios[WSR_ROW_ROUNDS_MAX];
    r.best = best_reference(row, all, sides, r.rounds);
    for (uint32_t i = 0; i < r.rounds; i++)
        ratios[i] = all[0].values[i] / all[r.best].values[i];
    r.ratio = spread_of(ratios, r.rounds);
    r.distance = spread_of(distances, r.rounds);
    r.reached = more_is_better(row->unit) ? r.ratio.median >= row->reach : r.ratio.median <= row->reach;
    print_row(&r);
    summarise(table->summary, &r);
    if (table->json != NULL)
        write_row(table->json, &r);
}

bool wsr_row_is_wanted(const struct wsr_table *table, const char *name)
{
    return table->wanted == NULL || fnmatch(table->wanted, name, 0) == 0;
}

int wsr_row_measure(const struct wsr_table *table, const struct wsr_row *row)
{
    size_t sides = 0;
    if (!wsr_row_is_wanted(table, row->name))
        return 0;
    while (sides < WSR_ROW_SIDES_MAX && row->sides[sides].name != NULL)
        sides++;
    struct series *all = calloc(sides, sizeof *all);
    if (all == NULL)
        return -1;
    int rc = 0;
    double distances[WSR_ROW_ROUNDS_MAX];
    for (uint32_t round = 0; round < table->rounds_count && rc == 0; round++) {
        distances[round] = wsr_distance_ns();
        /* Each round begins with another side, so that none always comes after the same neighbour. */
        for (size_t k = 0; k < sides && rc == 0; k++) {
            size_t i = (k + round) % sides;
            struct wsr_row_measure m = { 0, WSR_ROW_BUSY_UNKNOWN, WSR_ROW_BUSY_UNKNOWN };
            rc = row->sides[i].run(row->context, &m);
            all[i].values[round] = m.value;
            all[i].client_busy[round] = m.client_busy;
            all[i].server_busy[round] = m.server_busy;
            if (rc < 0)
                fprintf(stderr, "wsring-micro: %s: %s could not run\n", row->name, row->sides[i].name);
        }
    }
    if (rc == 0)
        report(table, row, all, sides, distances);
    free(all);
    return rc;
}

void wsr_row_count(const struct wsr_table *table, const char *name, const char *what, double value, double reach,
                   const char *how)
{
    bool reached = value <= reach;
    printf("%-20s %.0f B  ", name, value);
    if (reach > 0)
        printf("reach <= %.0f B  %s   ", reach, reached ? "ok" : "short");
    printf("%s\n    %s\n", what, how);
    fflush(stdout);
    struct wsr_summary_line *line = wsr_summary_add(table->summary);
    if (line != NULL) {
        snprintf(line->row, sizeof line->row, "%s", name);
        snprintf(line->engine, sizeof line->engine, "%.0f B", value);
        if (reach > 0)
            snprintf(line->reach, sizeof line->reach, "<= %.0f B", reach);
        line->reached = reached;
    }
    if (table->json == NULL)
        return;
    wsr_json_open(table->json, NULL, '{');
    wsr_json_text(table->json, "row", name);
    wsr_json_text(table->json, "what", what);
    wsr_json_text(table->json, "unit", "bytes");
    wsr_json_number(table->json, "value", value);
    wsr_json_text(table->json, "how", how);
    if (reach > 0) {
        wsr_json_number(table->json, "reach", reach);
        wsr_json_bool(table->json, "reached", reached);
    }
    wsr_json_close(table->json, '}');
}
