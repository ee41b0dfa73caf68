/* How far apart the two CPUs are: the time that one cache line takes to change sides. A virtual machine's CPUs may be
 * moved between neighbouring and distant cores at any moment, and then every figure with two sides changes with it. */
#ifndef WSR_MICRO_DISTANCE_H
#define WSR_MICRO_DISTANCE_H

/* Nanoseconds one way, between the CPU of the caller and the server's; 0 when they are the same, or on failure. Takes
 * about a millisecond. */
double wsr_distance_ns(void);

#endif
