/* SPDX-License-Identifier: MIT */
#include "summary.h"

#include <stddef.h>
#include <stdio.h>
#include <time.h>

struct wsr_summary_line *wsr_summary_add(struct wsr_summary *summary)
{
    if (summary == NULL)
        return NULL;
    if (summary->lines_count < WSR_SUMMARY_LINES_MAX)
        summary->lines_count++;
    struct wsr_summary_line *line = &summary->lines[summary->lines_count - 1];
    *line = (struct wsr_summary_line){ .reached = false };
    return line;
}

static const char *or_dash(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

void wsr_summary_print(const struct wsr_summary *summary)
{
    char date[32];
    struct tm calendar;
    time_t now = time(NULL);
    if (summary->lines_count == 0)
        return;
    if (gmtime_r(&now, &calendar) == NULL || strftime(date, sizeof date, "%Y-%m-%d", &calendar) == 0)
        date[0] = '\0';
    printf("\nMeasured on %s: %s\n\n", date, summary->machine);
    printf("| row | engine | best reference | its name | ratio | (least to most) | reach | |\n"
           "|---|---|---|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < summary->lines_count; i++) {
        const struct wsr_summary_line *line = &summary->lines[i];
        printf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", line->row, line->engine, or_dash(line->reference),
               or_dash(line->reference_name), or_dash(line->ratio), or_dash(line->spread), line->reach,
               line->reach[0] == '\0' ? "" : line->reached ? "ok" : "short");
    }
    fflush(stdout);
}
