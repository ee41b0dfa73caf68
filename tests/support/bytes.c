#include "tests/support/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define PARTS_MAX 20000

const char *bytes_of(const struct wsr_event *event)
{
    static _Thread_local char *joined;
    if (event->len == 0)
        return "";
    if (event->data != NULL) {
        assert_false(event->flags & WSR_EVENT_BLOB);
        return event->data;
    }
    assert_true(event->flags & WSR_EVENT_BLOB);
    size_t count = wsr_event_view(event, NULL, 0), used = 0;
    assert_in_range(count, 1, PARTS_MAX);
    struct iovec *parts = malloc(count * sizeof *parts);
    free(joined);
    joined = malloc(event->len);
    assert_int_equal(wsr_event_view(event, parts, count), count);
    for (size_t i = 0; i < count; i++) {
        assert_true(parts[i].iov_len > 0 && parts[i].iov_len <= event->len - used);
        memcpy(joined + used, parts[i].iov_base, parts[i].iov_len);
        used += parts[i].iov_len;
    }
    assert_int_equal(used, event->len);
    free(parts);
    return joined;
}
