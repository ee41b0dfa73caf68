/* What the kernel knows of a process, and a process of its own for what is counted. */
#ifndef WSR_MICRO_PROC_H
#define WSR_MICRO_PROC_H

#include <stddef.h>

/* Bytes that the line beginning with @name, in kB, of a file of /proc tells; negative when there is none. */
double wsr_proc_bytes(const char *path, const char *name);

/* Call @run in a forked child, and have what it has put into the @bytes at @result here too. Returns 0, or -1 when it
 * returned anything but 0, or did not come to its end. */
int wsr_proc_apart(int (*run)(void *context), void *context, void *result, size_t bytes);

#endif
