/* Open files of this process, and files that it makes. */
#ifndef FILES_H
#define FILES_H

#include <stddef.h>

/* Entries of /proc/self/fd, with the three that the look itself adds: for comparing with another look. */
unsigned files_open(void);

/* Write @len bytes to the file @name in a directory of this process, which goes when the process ends. Returns its
 * path, which is good until then. */
const char *files_write(const char *name, const void *data, size_t len);
/* The path that such a file has, or would have. @name may be "" for the directory itself. */
const char *files_path(const char *name);

#endif
