/* Command lines by table: one row per option says its name, what it takes, where that goes, and its line of help. */
#ifndef WSR_OPTION_H
#define WSR_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum wsr_option_kind {
    WSR_OPTION_SWITCH = 0,     /* takes nothing; sets a bool */
    WSR_OPTION_CHOICE = 1,     /* one of `words`; sets a uint32_t to its index */
    WSR_OPTION_SET = 2,        /* takes nothing; sets a uint32_t to `min` */
    WSR_OPTION_COUNT = 3,      /* sets a uint64_t within min and max, as the next two */
    WSR_OPTION_BYTES = 4,
    WSR_OPTION_DURATION = 5,   /* nanoseconds */
    WSR_OPTION_TEXT = 6,       /* sets a const char * into argv */
    WSR_OPTION_LIST = 7,       /* may be repeated; adds to a struct wsr_option_list */
    WSR_OPTION_OPTIONAL = 8    /* a text behind "=", or none: sets a const char * to it, or to "" */
};

#define WSR_OPTION_LIST_MAX 64

struct wsr_option_list {
    const char *items[WSR_OPTION_LIST_MAX];
    size_t count;
};

struct wsr_option {
    const char *name;            /* without its dashes; the table ends with NULL */
    const char *value;           /* what the help calls its value; NULL for none */
    const char *help;
    const char *const *words;    /* of a choice, ends with NULL */
    uint64_t min;
    uint64_t max;
    size_t offset;               /* into the structure given to wsr_option_parse() */
    uint8_t kind;                /* enum wsr_option_kind */
    char letter;                 /* short form, 0 for none */
};

#define WSR_OPTION_ERROR_CHARS 512

struct wsr_option_result {
    struct wsr_option_list operands;       /* what is no option */
    bool wants_help;                       /* --help or -h */
    char error[WSR_OPTION_ERROR_CHARS];    /* one sentence: what, where, what to do */
};

/* Read @argv[0..argc) into the structure @into. Returns 0, or -1 with result->error. "--" ends the options;
 * "--name=value", "--name value", "-xvalue" and "-x value" are all understood; letters that take nothing may be
 * joined. */
int wsr_option_parse(const struct wsr_option *table, int argc, char **argv, void *into,
                     struct wsr_option_result *result);

/* One line of help per row. */
void wsr_option_write_help(FILE *to, const struct wsr_option *table);

#endif
