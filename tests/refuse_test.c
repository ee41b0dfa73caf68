/* "A refused call has changed nothing": every public function, every error that its documentation names, in every
 * state. What can be read of a socket and its engine is compared before and after, and what comes and leaves later is
 * what would have come and left without the call. Linked with --wrap, so that memory can run out inside a call.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define REQUEST "request GET /chat\n"
#define OPENED "accept; upgrade; "

/* ---- Memory that runs out ---- */

static _Thread_local bool is_counting;
static _Thread_local unsigned allocations_left, allocations_count;

/* May the calling thread have memory? */
static bool has_memory(void)
{
    if (!is_counting)
        return true;
    allocations_count++;
    if (allocations_left == 0)
        return false;
    allocations_left--;
    return true;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes) { return has_memory() ? __real_malloc(bytes) : NULL; }
void *__wrap_calloc(size_t count, size_t bytes) { return has_memory() ? __real_calloc(count, bytes) : NULL; }
void *__wrap_realloc(void *old, size_t bytes) { return has_memory() ? __real_realloc(old, bytes) : NULL; }
void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return has_memory() ? __real_aligned_alloc(alignment, bytes) : NULL;
}

static void run_out_after(unsigned allocations)
{
    allocations_count = 0;
    allocations_left = allocations;
    is_counting = true;
}

/* Returns whether memory ran out. */
static bool have_memory_again(void)
{
    is_counting = false;
    return allocations_count > 0 && allocations_left == 0;
}

/* ---- What can be seen ---- */

struct view {
    enum wsr_ready_state state;
    enum wsr_binary_type binary_type;
    uint64_t amount, now, timeout_ns;
    void *user;
    wsr_handler on[WSR_EVENT_TYPES_COUNT];
    struct wsr_engine_statistics statistics;
    size_t log_bytes;
    uint64_t clock_ns;
};

static struct view look(struct world *world)
{
    const struct wsr_socket *socket = world->sockets[0].socket;
    struct view view;
    memset(&view, 0, sizeof view);             /* padding too: views are compared as bytes */
    view.state = wsr_socket_ready_state(socket);
    view.binary_type = wsr_socket_binary_type(socket);
    view.amount = wsr_socket_buffered_amount(socket);
    view.now = wsr_socket_buffered_now(socket);
    view.timeout_ns = wsr_engine_timeout(world->engine);       /* 0 when a command waits for the worker */
    view.user = wsr_socket_user(socket);
    for (int type = 0; type < WSR_EVENT_TYPES_COUNT; type++)
        view.on[type] = wsr_get_on(socket, (enum wsr_event_type)type);
    view.statistics.size = sizeof view.statistics;
    assert_int_equal(wsr_engine_statistics(world->engine, &view.statistics), 0);
    view.log_bytes = world->log_bytes;
    view.clock_ns = sim_now(world->sim);
    return view;
}

static void expect_unchanged(struct world *world, const struct view *before, const char *what)
{
    struct view after = look(world);
    if (memcmp(before, &after, sizeof after) != 0)
        world_fail(world, "%s changed something: state %d %d, amount %llu %llu, timeout %llu %llu, live %llu %llu",
                   what, (int)before->state, (int)after.state, (unsigned long long)before->amount,
                   (unsigned long long)after.amount, (unsigned long long)before->timeout_ns,
                   (unsigned long long)after.timeout_ns, (unsigned long long)before->statistics.sockets_live,
                   (unsigned long long)after.statistics.sockets_live);
}

static void expect_refused(struct world *world, const struct view *before, const char *what, int rc, int want)
{
    if (rc != want || strlen(wsr_error_text()) < 10)
        world_fail(world, "%s returned %s, not %s: %s", what, wsr_error_name(rc), wsr_error_name(want),
                   wsr_error_text());
    expect_unchanged(world, before, what);
}

/* ---- Calls that are refused ---- */

/* What is refused in each state: CONNECTING, OPEN, CLOSING, CLOSED; 0 = not called there. */
#define ALWAYS(error) { error, error, error, error }

struct refusal {
    const char *name;
    int (*call)(struct wsr_engine *engine, struct wsr_socket *socket);
    int errors[4];
};

#define CALL(name, expression)                                                  \
    static int name(struct wsr_engine *engine, struct wsr_socket *socket)       \
    {                                                                           \
        (void)engine, (void)socket;                                             \
        return expression;                                                      \
    }

static char long_text[125 + 2];
static const struct iovec null_part[] = { { long_text, 1 }, { NULL, 1 } };
static const struct iovec huge_parts[] = { { long_text, SIZE_MAX }, { long_text, SIZE_MAX } };
static const struct iovec cut_text[] = { { (char[]){ 'a', '\xC3' }, 2 }, { (char[]){ 'b' }, 1 } };

CALL(send_to_nobody, wsr_send(NULL, WSR_TEXT, "a", 1))
CALL(send_kind_0, wsr_send(socket, (enum wsr_kind)0, "a", 1))
CALL(send_kind_3, wsr_send(socket, (enum wsr_kind)3, "a", 1))
CALL(send_kind_minus, wsr_send(socket, (enum wsr_kind)-1, "a", 1))
CALL(send_null, wsr_send(socket, WSR_BINARY, NULL, 1))
CALL(send_null_part, wsr_send_gather(socket, WSR_BINARY, null_part, 2))
CALL(send_no_parts, wsr_send_gather(socket, WSR_TEXT, NULL, 1))
CALL(send_huge_parts, wsr_send_gather(socket, WSR_BINARY, huge_parts, 2))
CALL(send_over_the_cap, wsr_send(socket, WSR_BINARY, long_text, (64u << 20) + 1))
CALL(send_bad_text, wsr_send(socket, WSR_TEXT, "ok \xED\xA0\x80", 6))
CALL(send_cut_text, wsr_send(socket, WSR_TEXT, "\xE2\x82", 2))
CALL(send_bad_parts, wsr_send_gather(socket, WSR_TEXT, cut_text, 2))
CALL(send_early, wsr_send(socket, WSR_BINARY, "a", 1))

CALL(close_nobody, wsr_close(NULL, 1000, NULL, 0))
CALL(close_1001, wsr_close(socket, 1001, NULL, 0))
CALL(close_1005, wsr_close(socket, 1005, "x", 1))
CALL(close_minus, wsr_close(socket, INT32_MIN, NULL, 0))
CALL(close_wrapped, wsr_close(socket, 65536 + 1000, NULL, 0))
CALL(close_long, wsr_close(socket, 1000, long_text, 124))
CALL(close_endless, wsr_close(socket, 0, long_text, SIZE_MAX - 1))
CALL(close_bad_reason, wsr_close(socket, 3000, "\xFF", 1))

CALL(ping_nobody, wsr_ping(NULL, NULL, 0))
CALL(ping_long, wsr_ping(socket, long_text, 126))
CALL(ping_null, wsr_ping(socket, NULL, 1))
CALL(ping_early, wsr_ping(socket, "p", 1))
CALL(pause_nobody, wsr_pause(NULL))
CALL(resume_nobody, wsr_resume(NULL))

static void unheard(const struct wsr_event *event, void *context) { (void)event, (void)context; }

CALL(on_0, wsr_set_on(socket, (enum wsr_event_type)0, unheard, NULL))
CALL(on_7, wsr_set_on(socket, (enum wsr_event_type)WSR_EVENT_TYPES_COUNT, unheard, NULL))
CALL(listen_minus, wsr_add_event_listener(socket, (enum wsr_event_type)-1, unheard, NULL, 0))
CALL(listen_null, wsr_add_event_listener(socket, WSR_EVENT_OPEN, NULL, NULL, 0))
CALL(listen_flags, wsr_add_event_listener(socket, WSR_EVENT_OPEN, unheard, NULL, 2))
CALL(unlisten_99, wsr_remove_event_listener(socket, (enum wsr_event_type)99, unheard, NULL))

static struct wsr_event no_event;

CALL(poll_nobody, wsr_poll(NULL, 0, &no_event, 1, 0))
CALL(poll_ring_1, wsr_poll(engine, 1, &no_event, 1, 0))
CALL(poll_nowhere, wsr_poll(engine, 0, NULL, 1, WSR_NEVER))
CALL(poll_none, wsr_poll(engine, 0, &no_event, 0, WSR_NEVER))
CALL(dispatch_nobody, wsr_dispatch(NULL, 0, 1, 0))
CALL(dispatch_ring_1, wsr_dispatch(engine, 1, 1, 0))
CALL(dispatch_none, wsr_dispatch(engine, 0, 0, WSR_NEVER))
CALL(fd_nobody, wsr_engine_fd(NULL, 0))
CALL(fd_ring_1, wsr_engine_fd(engine, 1))
CALL(count_nobody, wsr_engine_statistics(NULL, &(struct wsr_engine_statistics)WSR_ENGINE_STATISTICS_INIT))
CALL(count_nowhere, wsr_engine_statistics(engine, NULL))
CALL(count_no_size, wsr_engine_statistics(engine, &(struct wsr_engine_statistics){ 0 }))
CALL(diagnose_nowhere, wsr_diagnose(NULL))
CALL(diagnose_no_size, wsr_diagnose(&(struct wsr_diagnosis){ 0 }))

static const struct refusal refusals[] = {
    { "wsr_send(NULL)", send_to_nobody, ALWAYS(WSR_ERR_ARGUMENT) },
    { "kind 0", send_kind_0, ALWAYS(WSR_ERR_ARGUMENT) }, { "kind 3", send_kind_3, ALWAYS(WSR_ERR_ARGUMENT) },
    { "kind -1", send_kind_minus, ALWAYS(WSR_ERR_ARGUMENT) }, { "NULL data", send_null, ALWAYS(WSR_ERR_ARGUMENT) },
    { "a NULL part", send_null_part, ALWAYS(WSR_ERR_ARGUMENT) },
    { "NULL parts", send_no_parts, ALWAYS(WSR_ERR_ARGUMENT) },
    { "parts over 2^63", send_huge_parts, ALWAYS(WSR_ERR_ARGUMENT) },
    { "over the cap", send_over_the_cap, { WSR_ERR_INVALID_STATE, WSR_ERR_ARGUMENT, 0, 0 } },
    { "text that is not UTF-8", send_bad_text,
      { WSR_ERR_INVALID_STATE, WSR_ERR_INVALID_UTF8, WSR_ERR_INVALID_UTF8, WSR_ERR_INVALID_UTF8 } },
    { "text cut short", send_cut_text,
      { WSR_ERR_INVALID_STATE, WSR_ERR_INVALID_UTF8, WSR_ERR_INVALID_UTF8, WSR_ERR_INVALID_UTF8 } },
    { "parts that are not UTF-8", send_bad_parts,
      { WSR_ERR_INVALID_STATE, WSR_ERR_INVALID_UTF8, WSR_ERR_INVALID_UTF8, WSR_ERR_INVALID_UTF8 } },
    { "send while connecting", send_early, { WSR_ERR_INVALID_STATE, 0, 0, 0 } },
    { "wsr_close(NULL)", close_nobody, ALWAYS(WSR_ERR_ARGUMENT) },
    { "close 1001", close_1001, ALWAYS(WSR_ERR_INVALID_ACCESS) },
    { "close 1005", close_1005, ALWAYS(WSR_ERR_INVALID_ACCESS) },
    { "close INT_MIN", close_minus, ALWAYS(WSR_ERR_INVALID_ACCESS) },
    { "close 66536", close_wrapped, ALWAYS(WSR_ERR_INVALID_ACCESS) },
    { "a reason of 124 bytes", close_long, ALWAYS(WSR_ERR_SYNTAX) },
    { "an endless reason", close_endless, ALWAYS(WSR_ERR_SYNTAX) },
    { "a reason that is not UTF-8", close_bad_reason, ALWAYS(WSR_ERR_SYNTAX) },
    { "wsr_ping(NULL)", ping_nobody, ALWAYS(WSR_ERR_ARGUMENT) },
    { "a Ping of 126 bytes", ping_long, ALWAYS(WSR_ERR_ARGUMENT) },
    { "a Ping of NULL bytes", ping_null, ALWAYS(WSR_ERR_ARGUMENT) },
    { "Ping while connecting", ping_early, { WSR_ERR_INVALID_STATE, 0, 0, 0 } },
    { "wsr_pause(NULL)", pause_nobody, ALWAYS(WSR_ERR_ARGUMENT) },
    { "wsr_resume(NULL)", resume_nobody, ALWAYS(WSR_ERR_ARGUMENT) },
    { "on type 0", on_0, ALWAYS(WSR_ERR_ARGUMENT) }, { "on type 7", on_7, ALWAYS(WSR_ERR_ARGUMENT) },
    { "listener type -1", listen_minus, ALWAYS(WSR_ERR_ARGUMENT) },
    { "listener NULL", listen_null, ALWAYS(WSR_ERR_ARGUMENT) },
    { "listener flags 2", listen_flags, ALWAYS(WSR_ERR_ARGUMENT) },
    { "remove type 99", unlisten_99, ALWAYS(WSR_ERR_ARGUMENT) },
    { "wsr_poll(NULL)", poll_nobody, ALWAYS(WSR_ERR_ARGUMENT) },
    { "poll ring 1", poll_ring_1, ALWAYS(WSR_ERR_ARGUMENT) },
    { "poll into NULL", poll_nowhere, ALWAYS(WSR_ERR_ARGUMENT) },
    { "poll for no event", poll_none, ALWAYS(WSR_ERR_ARGUMENT) },
    { "wsr_dispatch(NULL)", dispatch_nobody, ALWAYS(WSR_ERR_ARGUMENT) },
    { "dispatch ring 1", dispatch_ring_1, ALWAYS(WSR_ERR_ARGUMENT) },
    { "dispatch no event", dispatch_none, ALWAYS(WSR_ERR_ARGUMENT) },
    { "wsr_engine_fd(NULL)", fd_nobody, ALWAYS(WSR_ERR_ARGUMENT) },
    { "fd of ring 1", fd_ring_1, ALWAYS(WSR_ERR_ARGUMENT) },
    { "statistics of NULL", count_nobody, ALWAYS(WSR_ERR_ARGUMENT) },
    { "statistics into NULL", count_nowhere, ALWAYS(WSR_ERR_ARGUMENT) },
    { "statistics without a size", count_no_size, ALWAYS(WSR_ERR_ARGUMENT) },
    { "wsr_diagnose(NULL)", diagnose_nowhere, ALWAYS(WSR_ERR_ARGUMENT) },
    { "diagnosis without a size", diagnose_no_size, ALWAYS(WSR_ERR_ARGUMENT) },
};

static void try_all(struct world *world)
{
    struct wsr_socket *socket = world->sockets[0].socket;
    struct view before = look(world);
    for (size_t i = 0; i < COUNT(refusals); i++) {
        int want = refusals[i].errors[wsr_socket_ready_state(socket)];
        if (want != 0)
            expect_refused(world, &before, refusals[i].name, refusals[i].call(world->engine, socket), want);
    }
}

static const struct wsr_engine_options one_socket = { .size = sizeof one_socket, .sockets_max = 1 };

/* OQ-3, SEND-01, BUF-08, CLOSE-03, CLOSE-04 */
static void refused_calls_change_nothing_in_any_state(struct world *world)
{
    memset(long_text, 'l', sizeof long_text);
    sim_script(world->sim, "accept; wait 500; upgrade; text a; wait 500; text b; expect close; "
               "wait 500; close 1000; fin");
    world_connect(world);
    world_run(world, 100);
    try_all(world);
    world_run(world, 700);
    try_all(world);
    world_run(world, 700);
    try_all(world);
    world_do(world, 0, "text c; close 1000");
    world_run(world, 100);
    try_all(world);
    world_run_to_end(world);
    try_all(world);
    world_run(world, 5000);
    world_expect(world, "open\nmessage text 1 a\nmessage text 1 b\nclose 1000 clean\n");
    world_expect_peer(world, 0, REQUEST "text 1 c\nclose 1000\nend\n");
}

static void no_refused_call_changes_anything(void **state)
{
    (void)state;
    world_each_seed(refused_calls_change_nothing_in_any_state, &one_socket);
}

/* ---- wsr_socket_open ---- */

#define WITH(...) { .size = sizeof(struct wsr_socket_options), __VA_ARGS__ }

static const char *const twice[] = { "a", "a" }, *const empty[] = { "" }, *const null_protocol[] = { NULL };
static const struct wsr_header bad_name = { "a b", "x" }, bad_value = { "A", "x\r\nB: y" }, no_value = { "A", NULL };
static const struct wsr_header key = { "Sec-WebSocket-Key", "x" };

static const struct {
    const char *url;
    const char *const *protocols;
    size_t protocols_count;
    int error;
    struct wsr_socket_options options;
} opens[] = {
    { "ftp://h/", NULL, 0, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
    { "ws://h/#", NULL, 0, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
    { "ws://\xFF/", NULL, 0, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
    { "/a", NULL, 0, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
    { "/a", NULL, 0, WSR_ERR_SYNTAX, WITH(.base_url = "about:blank") },
    { "/a", NULL, 0, WSR_ERR_SYNTAX, WITH(.base_url = "ws://h/#x") },
    { WORLD_URL, twice, 2, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
    { WORLD_URL, empty, 1, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
    { WORLD_URL, null_protocol, 1, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
    { WORLD_URL, NULL, 1, WSR_ERR_ARGUMENT, WSR_SOCKET_OPTIONS_INIT },
    { WORLD_URL, NULL, 0, WSR_ERR_SYNTAX, WITH(.headers_count = 1, .headers = &bad_name) },
    { WORLD_URL, NULL, 0, WSR_ERR_SYNTAX, WITH(.headers_count = 1, .headers = &bad_value) },
    { WORLD_URL, NULL, 0, WSR_ERR_SYNTAX, WITH(.headers_count = 1, .headers = &no_value) },
    { WORLD_URL, NULL, 0, WSR_ERR_SYNTAX, WITH(.headers_count = 1, .headers = &key) },
    { WORLD_URL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.headers_count = 1) },
    { WORLD_URL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.flags = 1u << 31) },
    { WORLD_URL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.worker = 2) },
    { WORLD_URL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.connect_to = "10.0.0.1") },
    { WORLD_URL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.source_address = "here") },
    { WORLD_URL, NULL, 0, WSR_ERR_ARGUMENT, { .size = 0 } },
    { WORLD_URL, NULL, 0, WSR_ERR_ARGUMENT, { .size = 5000 } },
    { WORLD_URL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.tls_name = "h") },
    { "wss://h/", NULL, 0, WSR_ERR_ARGUMENT, WITH(.tls_name = "a b") },
    { WORLD_URL, NULL, 0, WSR_ERR_MEMORY, WSR_SOCKET_OPTIONS_INIT },       /* sockets_max is 1 */
};

/* F0 */
static void refused_opens_change_nothing(struct world *world)
{
    struct wsr_socket *const untouched = (struct wsr_socket *)(void *)world;
    sim_script(world->sim, OPENED "wait 200; close 1000; expect close; fin");
    world_connect(world);
    for (unsigned round = 0; round < 2; round++) {
        struct view before = look(world);
        for (size_t i = 0; i < COUNT(opens); i++) {
            char name[32];
            struct wsr_socket *socket = untouched;
            snprintf(name, sizeof name, "open %zu", i);
            int rc = wsr_socket_open(world->engine, opens[i].url, WSR_ZSTRING, opens[i].protocols,
                                     opens[i].protocols_count, &opens[i].options, &socket);
            expect_refused(world, &before, name, rc, opens[i].error);
            assert_ptr_equal(socket, untouched);
        }
        world_run(world, 100);
    }
    world_run_to_end(world);
    world_run(world, 1000);
    world_expect(world, "open\nclose 1000 clean\n");
    assert_int_equal(sim_connections(world->sim), 1);
}

static void no_refused_open_changes_anything(void **state)
{
    (void)state;
    world_each_seed(refused_opens_change_nothing, &one_socket);
}

/* ---- WSR_ERR_QUOTA ---- */

/* OQ-8, BUF-08, BUF-10: nothing changed but that a writable event is owed. */
static void a_send_over_the_cap_changes_nothing(struct world *world)
{
    char text[600];
    memset(text, 't', sizeof text);
    sim_script(world->sim, OPENED "stop; wait 300; read; expect close; close 1000; fin");
    world_connect(world);
    world_run(world, 100);
    struct wsr_socket *socket = world->sockets[0].socket;
    assert_int_equal(wsr_send(socket, WSR_TEXT, text, sizeof text), 0);
    world_run(world, 10);
    for (unsigned i = 0; i < 3; i++) {
        struct view before = look(world);
        assert_int_equal(wsr_send(socket, WSR_TEXT, text, sizeof text), WSR_ERR_QUOTA);
        assert_true(strlen(wsr_error_text()) > 10);
        before.timeout_ns = wsr_engine_timeout(world->engine);
        expect_unchanged(world, &before, "a send over the cap");
    }
    world_run(world, 400);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    world_expect(world, "open\nwritable\nclose 1000 clean\n");
    world_expect_peer(world, 0, REQUEST "text 600 *\nclose 1000\nend\n");
}

static void a_full_queue_changes_nothing(void **state)
{
    static const struct wsr_engine_options options = { .size = sizeof options, .send_queue_max_bytes = 1000 };
    (void)state;
    world_each_seed(a_send_over_the_cap_changes_nothing, &options);
}

/* ---- WSR_ERR_BUSY, WSR_ERR_THREAD, WSR_ERR_SYSTEM ---- */

static void call_inside(struct world *world, unsigned index, const struct wsr_event *event)
{
    (void)index, (void)event;
    if (!world->dispatches)
        return;
    struct view before = look(world);
    expect_refused(world, &before, "poll inside", wsr_poll(world->engine, 0, &no_event, 1, 0), WSR_ERR_BUSY);
    expect_refused(world, &before, "dispatch inside", wsr_dispatch(world->engine, 0, 1, 0), WSR_ERR_BUSY);
    expect_refused(world, &before, "destroy inside", wsr_engine_destroy(world->engine), WSR_ERR_BUSY);
}

/* EVT-15 */
static void calls_inside_a_handler_change_nothing(struct world *world)
{
    sim_script(world->sim, OPENED "cork; texts 3; uncork; close 1000; expect close; fin");
    world->react = call_inside;
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 0\nmessage text 1 1\nmessage text 1 2\nclose 1000 clean\n");
}

struct elsewhere {
    struct wsr_engine *engine;
    int results[4];
};

static void *poll_elsewhere(void *context)
{
    struct elsewhere *elsewhere = context;
    struct wsr_engine *engine = elsewhere->engine;
    elsewhere->results[0] = wsr_poll(engine, 0, NULL, 1, 0);
    elsewhere->results[1] = wsr_dispatch(engine, 0, 0, 0);
    elsewhere->results[2] = wsr_poll(engine, 1, &no_event, 1, 0);
    elsewhere->results[3] = wsr_dispatch(engine, 1, 1, 0);
    return NULL;
}

static void *poll_well_elsewhere(void *context)
{
    struct elsewhere *elsewhere = context;
    elsewhere->results[0] = wsr_poll(elsewhere->engine, 0, &no_event, 1, 0);
    elsewhere->results[1] = wsr_dispatch(elsewhere->engine, 0, 1, 0);
    return NULL;
}

/* A poll that was refused for its arguments has not made its thread the engine's; a poll of a thread that is not takes
 * no event. */
static void polls_of_other_threads_change_nothing(struct world *world)
{
    struct elsewhere elsewhere = { .engine = world->engine };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, poll_elsewhere, &elsewhere), 0);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(elsewhere.results[i], WSR_ERR_ARGUMENT);
    sim_script(world->sim, OPENED "text a; close 1000; expect close; fin");
    world_connect(world);
    world_look(world);
    world_sleep(world, 50);
    struct view before = look(world);
    assert_int_equal(pthread_create(&thread, NULL, poll_well_elsewhere, &elsewhere), 0);
    pthread_join(thread, NULL);
    assert_int_equal(elsewhere.results[0], WSR_ERR_THREAD);
    assert_int_equal(elsewhere.results[1], WSR_ERR_THREAD);
    expect_unchanged(world, &before, "a poll of another thread");
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 a\nclose 1000 clean\n");
}

/* What the application knows of its sockets stays as it was when the kernel ring broke. */
static void a_broken_ring_changes_no_socket(void **state)
{
    (void)state;
    for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++) {
        struct world world;
        world_open(&world, seed, NULL);
        sim_script(world.sim, OPENED "stop");
        world_connect(&world);
        world_run(&world, 50);
        world_do(&world, 0, "text abc");
        const struct wsr_socket *socket = world.sockets[0].socket;
        sim_break(world.sim, EBADF);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(wsr_poll(world.engine, 0, &no_event, 1, 0), WSR_ERR_SYSTEM);
            assert_int_equal(wsr_dispatch(world.engine, 0, 1, WSR_NEVER), WSR_ERR_SYSTEM);
            assert_non_null(strstr(wsr_error_text(), "destroy"));
            assert_int_equal(wsr_socket_ready_state(socket), WSR_OPEN);
            assert_int_equal(wsr_socket_buffered_amount(socket), 3);
        }
        assert_int_equal(wsr_engine_destroy(world.engine), 0);
        sim_free(world.sim);
        free(world.log);
    }
}

static void no_poll_at_the_wrong_place_changes_anything(void **state)
{
    (void)state;
    world_each_seed(calls_inside_a_handler_change_nothing, NULL);
    world_each_seed(polls_of_other_threads_change_nothing, NULL);
}

/* ---- WSR_ERR_MEMORY ---- */

/* Every allocation of wsr_socket_open() may be the one that fails. */
static void opens_without_memory_change_nothing(struct world *world)
{
    static const char *const protocols[] = { "a", "b" };
    static const struct wsr_header header = { "X-A", "b" };
    const struct wsr_socket_options options = WITH(.base_url = "ws://10.0.0.1:9001/x", .headers = &header,
                                                   .headers_count = 1);
    struct wsr_socket *const untouched = (struct wsr_socket *)(void *)world, *socket = untouched;
    sim_script(world->sim, OPENED "wait 200; close 1000; expect close; fin");
    sim_script(world->sim, OPENED "close 1000; expect close; fin");
    world_connect(world);
    world_run(world, 100);
    unsigned failures = 0;
    for (bool ran_out = true; ran_out; failures++) {
        struct view before = look(world);
        run_out_after(failures);
        int rc = wsr_socket_open(world->engine, "/chat", WSR_ZSTRING, protocols, 2, &options, &socket);
        ran_out = have_memory_again() && rc != 0;
        if (!ran_out)
            break;
        expect_refused(world, &before, "open without memory", rc, WSR_ERR_MEMORY);
        assert_ptr_equal(socket, untouched);
    }
    assert_true(failures >= 5);
    assert_ptr_not_equal(socket, untouched);
    wsr_socket_destroy(socket);
    world_run_to_end(world);
    world_run(world, 1000);
    world_expect(world, "open\nclose 1000 clean\n");
}

/* The slab is full to its last chunk, and malloc gives nothing. */
static void calls_without_memory_change_nothing(struct world *world)
{
    sim_script(world->sim, OPENED "stop; wait 5000; read; expect close; close 1000; fin");
    world_connect(world);
    world_run(world, 100);
    struct wsr_socket *socket = world->sockets[0].socket;
    while (wsr_send(socket, WSR_TEXT, "s", 1) == 0)
        continue;
    world_run(world, 10);
    static const char *const calls[] = { "close", "ping", "timed ping", "pause", "resume" };
    for (unsigned i = 0; i < COUNT(calls); i++) {
        struct view before = look(world);
        run_out_after(0);
        int rc = i == 0 ? wsr_close(socket, 1000, "why", 3) : i == 1 ? wsr_ping(socket, "p", 1) :
                 i == 2 ? wsr_ping(socket, NULL, 0) : i == 3 ? wsr_pause(socket) : wsr_resume(socket);
        assert_true(have_memory_again());
        expect_refused(world, &before, calls[i], rc, WSR_ERR_MEMORY);
    }
    world_run(world, 6000);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_null(strstr(sim_log(world->sim, 0), "ping"));
    assert_non_null(strstr(sim_log(world->sim, 0), "text 1 s\nclose 1000\nend\n"));
    world_expect(world, "open\n?writable\nclose 1000 clean\n");
}

/* The list of listeners grows by doubling: the first of each size asks for memory. */
static void listeners_without_memory_change_nothing(struct world *world)
{
    static int contexts[64];
    sim_script(world->sim, OPENED "text a; close 1000; expect close; fin");
    world_connect(world);
    struct wsr_socket *socket = world->sockets[0].socket;
    unsigned refused = 0;
    for (unsigned i = 0; i < COUNT(contexts); i++) {
        struct view before = look(world);
        run_out_after(0);
        int rc = wsr_add_event_listener(socket, WSR_EVENT_OPEN, unheard, &contexts[i], 0);
        bool ran_out = have_memory_again();
        assert_int_equal(rc, ran_out ? WSR_ERR_MEMORY : 0);
        if (!ran_out)
            continue;
        refused++;
        expect_refused(world, &before, "a listener", rc, WSR_ERR_MEMORY);
        assert_int_equal(wsr_add_event_listener(socket, WSR_EVENT_OPEN, unheard, &contexts[i], 0), 0);
    }
    assert_true(refused >= 3);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 a\nclose 1000 clean\n");
}

static void a_slot_without_memory_stays_empty(struct world *world)
{
    sim_script(world->sim, OPENED "close 1000; expect close; fin");
    world_connect(world);
    struct wsr_socket *socket = NULL;
    assert_int_equal(wsr_socket_open(world->engine, WORLD_URL, WSR_ZSTRING, NULL, 0, NULL, &socket), 0);
    struct view before = look(world);
    run_out_after(0);
    int rc = wsr_set_on(socket, WSR_EVENT_OPEN, unheard, NULL);
    assert_true(have_memory_again());
    expect_refused(world, &before, "a slot", rc, WSR_ERR_MEMORY);
    assert_true(wsr_get_on(socket, WSR_EVENT_OPEN) == NULL);
    wsr_socket_destroy(socket);
    world_run_to_end(world);
}

static void no_call_without_memory_changes_anything(void **state)
{
    static const struct wsr_engine_options small = { .size = sizeof small, .send_pool_bytes = 1 };
    (void)state;
    world_each_seed(opens_without_memory_change_nothing, NULL);
    world_each_seed(calls_without_memory_change_nothing, &small);
    world_each_seed(listeners_without_memory_change_nothing, NULL);
    world_each_seed(a_slot_without_memory_stays_empty, NULL);
}

/* ---- wsr_engine_create ---- */

static unsigned entries_of(const char *path)
{
    unsigned count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void *do_nothing(void *nothing)
{
    return nothing;
}

/* Every allocation may fail, and what was made before it goes: threads, descriptors, memory (the sanitizers look). */
static void an_engine_without_memory_leaves_nothing(void **state)
{
    (void)state;
    pthread_t thread;                          /* a sanitizer starts a thread of its own with the first */
    assert_int_equal(pthread_create(&thread, NULL, do_nothing, NULL), 0);
    pthread_join(thread, NULL);
    unsigned descriptors = entries_of("/proc/self/fd"), threads = entries_of("/proc/self/task");
    for (uint32_t workers = 0; workers <= 2; workers++) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        struct wsr_engine *const untouched = (struct wsr_engine *)(void *)&options, *engine = untouched;
        options.workers_count = workers;
        options.sockets_max = 16;
        unsigned failures = 0;
        for (;; failures++) {
            run_out_after(failures);
            int rc = wsr_engine_create(&engine, &options);
            bool ran_out = have_memory_again();
            if (rc == 0)
                break;
            assert_true(ran_out && (rc == WSR_ERR_MEMORY || rc == WSR_ERR_SYSTEM || rc == WSR_ERR_NOT_SUPPORTED));
            assert_true(strlen(wsr_error_text()) > 10);
            assert_ptr_equal(engine, untouched);
            assert_int_equal(entries_of("/proc/self/fd"), descriptors);
            assert_int_equal(entries_of("/proc/self/task"), threads);
        }
        assert_true(failures >= 5);
        assert_int_equal(wsr_engine_destroy(engine), 0);
    }
    assert_int_equal(wsr_engine_create(NULL, NULL), WSR_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_refused_call_changes_anything),
        cmocka_unit_test(no_refused_open_changes_anything),
        cmocka_unit_test(a_full_queue_changes_nothing),
        cmocka_unit_test(no_poll_at_the_wrong_place_changes_anything),
        cmocka_unit_test(a_broken_ring_changes_no_socket),
        cmocka_unit_test(no_call_without_memory_changes_anything),
        cmocka_unit_test(an_engine_without_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
