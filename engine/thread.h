/* What tells the threads of this process apart. */
#ifndef WSR_THREAD_H
#define WSR_THREAD_H

#include "base.h"

/* The calling thread's number, which no other thread ever has, as pthread_t and thread ids come again; 0 is none. */
uint64_t wsr_thread_number(void);

#endif
