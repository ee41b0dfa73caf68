/* Open files of this process. */
#ifndef FILES_H
#define FILES_H

/* Entries of /proc/self/fd, with the three that the look itself adds: for comparing with another look. */
unsigned files_open(void);

#endif
