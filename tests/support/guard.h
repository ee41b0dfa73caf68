/* Memory between two unreadable pages: a kernel that touches one byte too many at either end dies at once. */
#ifndef GUARD_H
#define GUARD_H

#include <stddef.h>
#include <stdint.h>

struct guard {
    uint8_t *begin;     /* begin[-1] is unreadable; page aligned */
    uint8_t *end;       /* end[0] is unreadable; page aligned */
};

/* At least @min_bytes between begin and end, all zero. Aborts when there is no memory: this is for tests. */
void guard_open(struct guard *guard, size_t min_bytes);
void guard_close(struct guard *guard);

/* The last @len bytes before the unreadable page; @len is at most the size asked for. */
uint8_t *guard_tail(const struct guard *guard, size_t len);

#endif
