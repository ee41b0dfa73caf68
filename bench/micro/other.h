/* Another program's UTF-8 validation: a child that measures itself when it is asked to.
 *
 * The child reads "LEN SLICE_NS\n" and LEN bytes of text, validates that text again and again for a slice, and answers
 * "BYTES_PER_S BUSY\n", both by its CPU time; see utf8_npm.js. It ends when its input does. */
#ifndef WSR_MICRO_OTHER_H
#define WSR_MICRO_OTHER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "row.h"

struct wsr_other {
    pid_t child;
    FILE *to, *from;
};

/* Start @command by the shell. Returns 0, or -1 after it has said on stderr why not. */
int wsr_other_open(struct wsr_other *other, const char *command);

/* As wsr_row_run. */
int wsr_other_run(struct wsr_other *other, const uint8_t *text, size_t len, uint64_t slice_ns,
                  struct wsr_row_measure *out);

/* End the child and wait for it. */
void wsr_other_close(struct wsr_other *other);

#endif
