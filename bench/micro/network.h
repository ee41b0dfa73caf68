/* A network of this process's own: its own loopback, with a receive window that is chosen. */
#ifndef WSR_MICRO_NETWORK_H
#define WSR_MICRO_NETWORK_H

#include <stdint.h>

/*
 * Move into a new network namespace whose TCP connections queue at most @window_bytes on the receiving side. A queue of
 * megabytes falls out of the CPU's caches, and then a throughput says how fast the memory is, for every side.
 * Returns "" or a static sentence on why it was not possible; then the machine's own network stays in use.
 */
const char *wsr_network_enclose(uint64_t window_bytes);

#endif
