/* For tests that need the kernel's TLS. They are skipped where there is none, but not where WSRING_KTLS says that there
 * is: tests/ktls runs them so. */
#ifndef KTLS_HERE_H
#define KTLS_HERE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/ktls.h"

static inline void ktls_needed(void)
{
    int system_errno = wsr_ktls_probe();
    if (system_errno == 0)
        return;
    if (getenv("WSRING_KTLS") != NULL)
        fail_msg("%s", wsr_ktls_text(system_errno));
    skip();
}

#endif
