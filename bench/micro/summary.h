/* The compact table behind the long output: one line for each row that was measured, as Markdown. */
#ifndef WSR_MICRO_SUMMARY_H
#define WSR_MICRO_SUMMARY_H

#include <stdbool.h>
#include <stdint.h>

#define WSR_SUMMARY_LINES_MAX 64u
#define WSR_SUMMARY_TEXT_CHARS 64

/* Texts as they are printed; "" where a row has no such thing. */
struct wsr_summary_line {
    char row[WSR_SUMMARY_TEXT_CHARS];
    char engine[WSR_SUMMARY_TEXT_CHARS];
    char reference[WSR_SUMMARY_TEXT_CHARS];
    char reference_name[WSR_SUMMARY_TEXT_CHARS];
    char ratio[WSR_SUMMARY_TEXT_CHARS];
    char spread[WSR_SUMMARY_TEXT_CHARS];
    char reach[WSR_SUMMARY_TEXT_CHARS];
    bool reached;
};

struct wsr_summary {
    char machine[1024];                   /* the sentence above the table */
    uint32_t lines_count;
    struct wsr_summary_line lines[WSR_SUMMARY_LINES_MAX];
};

/* A new line, all texts "", or the last one again when there is no room. NULL when @summary is. */
struct wsr_summary_line *wsr_summary_add(struct wsr_summary *summary);

/* Print it, with the date of today, if there is a line. */
void wsr_summary_print(const struct wsr_summary *summary);

#endif
