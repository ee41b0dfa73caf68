#include "thread.h"

#include <stdatomic.h>

uint64_t wsr_thread_number(void)
{
    static _Atomic uint64_t last;
    static _Thread_local uint64_t mine;
    if (WSR_UNLIKELY(mine == 0))      /* relaxed: only the number must be its own, it orders nothing; no partner */
        mine = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
    return mine;
}
