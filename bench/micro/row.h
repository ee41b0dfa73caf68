/* One row of the table: the engine and its references, measured in turns, compared round by round. */
#ifndef WSR_MICRO_ROW_H
#define WSR_MICRO_ROW_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/json.h"
#include "summary.h"

#define WSR_ROW_SIDES_MAX 5
#define WSR_ROW_ROUNDS_MAX 101u
#define WSR_ROW_NAME_CHARS 48
#define WSR_ROW_BUSY_UNKNOWN (-1.0)

enum wsr_row_unit {
    WSR_ROW_NS,              /* less is better */
    WSR_ROW_BYTES_PER_S,     /* more is better */
    WSR_ROW_BYTES,           /* less is better */
    WSR_ROW_PER_S            /* more is better */
};

/* What one side did in one round. Busy: CPU time over time gone by, 1.0 = one whole CPU. */
struct wsr_row_measure {
    double value;
    double client_busy;
    double server_busy;
};

/* Fills *out, or returns -1 after it has said on stderr why not. */
typedef int (*wsr_row_run)(void *context, struct wsr_row_measure *out);

struct wsr_row_side {
    const char *name;
    wsr_row_run run;
};

struct wsr_row {
    char name[WSR_ROW_NAME_CHARS];                  /* as --row takes it */
    const char *what;
    enum wsr_row_unit unit;
    double reach;                                   /* of the ratio engine / reference; 0 = for information */
    void *context;                                  /* given to each run */
    struct wsr_row_side sides[WSR_ROW_SIDES_MAX];   /* the engine, then references; a name of NULL ends them */
};

struct wsr_table {
    uint32_t rounds_count;      /* odd */
    uint64_t slice_ns;          /* of one side in one round */
    uint64_t warmup_ns;         /* before it */
    const char *wanted;         /* pattern of the names of rows, as of a shell; NULL = all */
    struct wsr_json *json;      /* NULL for none; inside the list of rows */
    const char *utf8_other;     /* command of another UTF-8 validator, see other.h; NULL for none */
    struct wsr_summary *summary;    /* NULL for none */
    bool quick;                 /* rows that are counted may be smaller, and say so */
};

/* Sorts @values. */
double wsr_row_median(double *values, uint32_t count);

bool wsr_row_is_wanted(const struct wsr_table *table, const char *name);

/* Measure and print one row, if it is wanted. Against several references, the one with the best median counts. Returns
 * 0, or -1 when a side could not run. */
int wsr_row_measure(const struct wsr_table *table, const struct wsr_row *row);

/* Print a row that has no reference: @value against @reach, 0 = for information. */
void wsr_row_count(const struct wsr_table *table, const char *name, const char *what, double value, double reach,
                   const char *how);

#endif
