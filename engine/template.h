/* Messages that are sent again and again. */
#ifndef WSR_TEMPLATE_H
#define WSR_TEMPLATE_H

#include <sys/uio.h>

#include "base.h"

/* Never changes, so any number of threads may send it at once. */
struct wsr_template {
    enum wsr_kind kind;                            /* text: payload is UTF-8 */
    struct iovec part;                             /* payload and its length, as sends take it */
    WSR_ALIGNED(WSR_CACHE_LINE) uint8_t payload[];
};

#endif
