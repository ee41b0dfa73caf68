/* The public header alone, as an application sees it: tests/headers compiles this as C and as C++ in each standard,
 * and once links and runs it with the installed library. */
#include "wsring.h"
#include "wsring.h"

/* An options structure of zeroes but for its size is "all defaults", and the size comes first so that it can be read
 * whatever version of the structure follows. */
#define CHECK_SIZED(type, init)                                                      \
    static int check_##type(void)                                                    \
    {                                                                                \
        struct type value = init;                                                    \
        return value.size == sizeof value && offsetof(struct type, size) == 0;       \
    }

CHECK_SIZED(wsr_engine_options, WSR_ENGINE_OPTIONS_INIT)
CHECK_SIZED(wsr_engine_statistics, WSR_ENGINE_STATISTICS_INIT)
CHECK_SIZED(wsr_socket_options, WSR_SOCKET_OPTIONS_INIT)
CHECK_SIZED(wsr_socket_statistics, WSR_SOCKET_STATISTICS_INIT)
CHECK_SIZED(wsr_diagnosis, WSR_DIAGNOSIS_INIT)

static int event_types_seen;

static void on_event(const struct wsr_event *event, void *context)
{
    (void)context;
    event_types_seen |= 1 << event->type;
}

/* The four constants have the browser's values (WHATWG WebSockets, interface WebSocket). */
static int check_constants(void)
{
    return WSR_CONNECTING == 0 && WSR_OPEN == 1 && WSR_CLOSING == 2 && WSR_CLOSED == 3;
}

int main(void)
{
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    struct wsr_event event;
    wsr_handler handler = on_event;

    event.type = WSR_EVENT_OPEN;
    handler(&event, NULL);

    int good = check_wsr_engine_options() && check_wsr_engine_statistics() && check_wsr_socket_options()
        && check_wsr_socket_statistics()
        && check_wsr_diagnosis() && check_constants()
        && event_types_seen == 1 << WSR_EVENT_OPEN
        && wsr_diagnose(&diagnosis) == 0
        && wsr_error_name(WSR_ERR_SYNTAX)[0] == 'W';
    return good ? 0 : 1;
}
