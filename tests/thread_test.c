/* Calls from other threads than the consumer's, while it dispatches: in every state of a socket and through every
 * change of it. On the real driver; under ThreadSanitizer above all.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "engine/thread.h"
#include "tests/support/client.h"

#define THREADS_COUNT 4
#define SOCKETS_COUNT 6
#define CALLS_PER_PHASE 150u

enum call { SEND, GATHER, PING, TIMED_PING, CLOSE, PAUSE, RESUME, READ, CALLS_COUNT };

/* What the consumer has seen of one socket. */
struct seen {
    struct wsr_socket *socket;
    unsigned counts[WSR_EVENT_TYPES_COUNT];
};

struct stage {
    struct client *client;
    struct seen seen[SOCKETS_COUNT];
    _Atomic unsigned may_close;                /* from the phase of closing on; a flag alone */
    _Atomic unsigned stop;
};

struct caller {
    pthread_t thread;
    struct stage *stage;
    uint32_t random;
    enum wsr_ready_state states[SOCKETS_COUNT];        /* as last seen: they only grow */
    uint64_t accepted_bytes[SOCKETS_COUNT];
    unsigned calls[CALLS_COUNT][4];                    /* by call and state before it */
    unsigned faults;
    _Atomic unsigned calls_count;
};

static uint32_t next_random(struct caller *caller, uint32_t bound)
{
    caller->random = caller->random * 1664525u + 1013904223u;
    return (caller->random >> 8) % bound;
}

/* ---- The callers ---- */

static enum wsr_ready_state look(struct caller *caller, unsigned index)
{
    enum wsr_ready_state state = wsr_socket_ready_state(caller->stage->seen[index].socket);
    caller->faults += state < caller->states[index];
    caller->states[index] = state;
    return state;
}

static int send_some(struct caller *caller, unsigned index, bool gathers)
{
    static char bytes[300];
    struct wsr_socket *socket = caller->stage->seen[index].socket;
    size_t len = next_random(caller, sizeof bytes);
    const struct iovec parts[] = { { bytes, len / 2 }, { bytes, len - len / 2 } };
    int rc = gathers ? wsr_send_gather(socket, WSR_BINARY, parts, 2) : wsr_send(socket, WSR_BINARY, bytes, len);
    if (rc == 0)
        caller->accepted_bytes[index] += len;
    return rc == WSR_ERR_QUOTA ? 0 : rc;
}

static int call_one(struct caller *caller, unsigned index, enum call call)
{
    struct wsr_socket *socket = caller->stage->seen[index].socket;
    switch (call) {
    case SEND:
    case GATHER:
        return send_some(caller, index, call == GATHER);
    case PING:
        return wsr_ping(socket, "ping", 4);
    case TIMED_PING:
        return wsr_ping(socket, NULL, 0);
    case CLOSE:
        return wsr_close(socket, 3000 + (int)next_random(caller, 2000), "enough", WSR_ZSTRING);
    case PAUSE:
        return wsr_pause(socket);
    case RESUME:
        return wsr_resume(socket);
    default:
        (void)wsr_socket_buffered_amount(socket);
        (void)wsr_socket_buffered_now(socket);
        (void)wsr_socket_url(socket);
        return 0;
    }
}

/* One call of a random kind for a random socket. Only in CONNECTING may it be refused, and only what sends. */
static void call_anything(struct caller *caller)
{
    unsigned index = next_random(caller, SOCKETS_COUNT);
    enum call call = (enum call)next_random(caller, CALLS_COUNT);
    enum wsr_ready_state before = look(caller, index);
    bool may_close = atomic_load_explicit(&caller->stage->may_close, memory_order_relaxed) != 0;
    /* The last socket is closed while it connects, the others when all were open. */
    if (call == CLOSE && !may_close && index != SOCKETS_COUNT - 1)
        call = READ;
    int rc = call_one(caller, index, call);
    bool is_refused = rc == WSR_ERR_INVALID_STATE && before == WSR_CONNECTING && call <= TIMED_PING;
    caller->faults += rc != 0 && !is_refused;
    caller->calls[call][before]++;
    look(caller, index);
    atomic_fetch_add_explicit(&caller->calls_count, 1, memory_order_relaxed);
}

static void *call_on(void *context)
{
    struct caller *caller = context;
    while (atomic_load_explicit(&caller->stage->stop, memory_order_relaxed) == 0) {
        call_anything(caller);
        if (next_random(caller, 16) == 0)
            client_sleep_ms(1);                /* two processors for all: the consumer and the server want theirs */
    }
    return NULL;
}

/* ---- The consumer ---- */

static void check_event(struct client *client, const struct wsr_event *event)
{
    struct stage *stage = client->context;
    for (unsigned i = 0; i < SOCKETS_COUNT; i++) {
        struct seen *seen = &stage->seen[i];
        if (seen->socket != event->socket)
            continue;
        /* EVT-01 to EVT-03 */
        assert_int_equal(seen->counts[WSR_EVENT_CLOSE], 0);
        assert_true(seen->counts[WSR_EVENT_ERROR] == 0 || event->type == WSR_EVENT_CLOSE);
        assert_true(event->type != WSR_EVENT_OPEN || seen->counts[WSR_EVENT_OPEN] == 0);
        assert_true(event->type == WSR_EVENT_OPEN || event->type == WSR_EVENT_ERROR || event->type == WSR_EVENT_CLOSE ||
                    seen->counts[WSR_EVENT_OPEN] == 1);
        if (event->type == WSR_EVENT_CLOSE)
            assert_int_equal(wsr_socket_ready_state(event->socket), WSR_CLOSED);
        seen->counts[event->type]++;
    }
    client->log_bytes = 0;
}

/* Dispatch until every caller has called so many times more. */
static void let_them_call(struct stage *stage, struct caller *callers)
{
    for (unsigned i = 0; i < THREADS_COUNT; i++) {
        unsigned enough = atomic_load_explicit(&callers[i].calls_count, memory_order_relaxed) + CALLS_PER_PHASE;
        while ((int)(atomic_load_explicit(&callers[i].calls_count, memory_order_relaxed) - enough) < 0)
            client_idle(stage->client, 1);
    }
}

static bool have_all_closed(struct client *client)
{
    return client->counts[WSR_EVENT_CLOSE] == SOCKETS_COUNT;
}

static void check_calls(const struct stage *stage, const struct caller *callers)
{
    uint64_t accepted_bytes = 0, left_bytes = 0;
    for (unsigned call = 0; call < CALLS_COUNT; call++) {
        for (unsigned state = 0; state < 4; state++) {
            unsigned count = 0;
            for (unsigned i = 0; i < THREADS_COUNT; i++)
                count += callers[i].calls[call][state];
            if (count == 0 && (call != CLOSE || state >= WSR_CLOSING))
                fail_msg("call %u was never made in state %u", call, state);
        }
    }
    for (unsigned i = 0; i < THREADS_COUNT; i++) {
        assert_int_equal(callers[i].faults, 0);
        for (unsigned k = 0; k < SOCKETS_COUNT; k++)
            accepted_bytes += callers[i].accepted_bytes[k];
    }
    for (unsigned i = 0; i < SOCKETS_COUNT; i++)
        left_bytes += wsr_socket_buffered_amount(stage->seen[i].socket);
    /* Every byte that was accepted has arrived, or is counted as not sent for ever (BUF-07, SEND-03). */
    assert_true(accepted_bytes == left_bytes + peer_bytes(stage->client->peer));
}

/* The server holds every socket in CONNECTING, then in OPEN, then in CLOSING, until all have called often enough. */
static void call_in_every_state(struct client *client)
{
    struct stage stage = { .client = client };
    struct caller callers[THREADS_COUNT] = { 0 };
    client->context = &stage;
    client->react = check_event;
    client->uses_dispatch = true;
    for (unsigned i = 0; i < SOCKETS_COUNT; i++)
        stage.seen[i].socket = client_connect(client);
    for (unsigned i = 0; i < THREADS_COUNT; i++) {
        callers[i].stage = &stage;
        callers[i].random = i + 1;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_on, &callers[i]), 0);
    }
    let_them_call(&stage, callers);
    peer_go(client->peer);
    client_until(client, WSR_EVENT_OPEN, SOCKETS_COUNT - 1);
    let_them_call(&stage, callers);
    atomic_store_explicit(&stage.may_close, 1, memory_order_relaxed);
    let_them_call(&stage, callers);
    peer_go(client->peer);
    client_until_true(client, have_all_closed);
    let_them_call(&stage, callers);
    atomic_store_explicit(&stage.stop, 1, memory_order_relaxed);
    for (unsigned i = 0; i < THREADS_COUNT; i++)
        pthread_join(callers[i].thread, NULL);
    client_idle(client, 10);
    check_calls(&stage, callers);
    for (unsigned i = 0; i < SOCKETS_COUNT; i++) {
        assert_int_equal(stage.seen[i].counts[WSR_EVENT_CLOSE], 1);
        assert_int_equal(stage.seen[i].counts[WSR_EVENT_OPEN] + stage.seen[i].counts[WSR_EVENT_ERROR], 1);
        wsr_socket_destroy(stage.seen[i].socket);
    }
}

#define SCRIPT "request; hold; upgrade; sink; texts 20; expect close; hold; reply; fin"

/* SEND-01 to SEND-03, CLOSE-05 to CLOSE-07, CTL-06, EVT-18 */
static void any_call_of_any_thread_in_any_state(void **state)
{
    (void)state;
    client_each(call_in_every_state, NULL, SCRIPT);
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    options.workers_count = 3;
    options.send_queue_max_bytes = 2000;               /* with refusals and writable events among them */
    client_open(&client, &options, SCRIPT);
    call_in_every_state(&client);
    client_close(&client);
}

/* ---- Holds ---- */

#define HELD_COUNT 20u
#define FIVE_BIG "big 3000; big 3000; big 3000; big 3000; big 3000; "

static struct wsr_hold *held[HELD_COUNT];
static unsigned held_count;

static void hold_all(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type == WSR_EVENT_MESSAGE && held_count < HELD_COUNT)
        held[held_count++] = wsr_event_hold(event);
}

static void *release_all(void *unused)
{
    (void)unused;
    while (held_count > 0)
        wsr_hold_release(held[--held_count]);
    return NULL;
}

/* The worker rests, as all memory for copies is held, and the consumer has given back all events. What another thread
 * releases then wakes the worker; nothing else does. */
static void release_what_a_worker_waits_for(struct client *client)
{
    pthread_t thread;
    uint64_t before = 0;
    held_count = 0;
    client->react = hold_all;
    client_connect_open(client);
    peer_go(client->peer);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    while (client->counts[WSR_EVENT_MESSAGE] > before) {
        before = client->counts[WSR_EVENT_MESSAGE];
        client_idle(client, 100);
    }
    assert_in_range(before, 1, HELD_COUNT - 1);
    client->react = NULL;
    assert_int_equal(pthread_create(&thread, NULL, release_all, NULL), 0);
    pthread_join(thread, NULL);
    client_until(client, WSR_EVENT_MESSAGE, before + 1);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(client->counts[WSR_EVENT_MESSAGE], HELD_COUNT);
}

static void a_release_wakes_the_worker_that_waits_for_memory(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.buffers_count = 2;
    options.buffer_bytes = 256;
    options.loan_max_bytes = 8192;
    client_each(release_what_a_worker_waits_for, &options,
                "upgrade; hold; " FIVE_BIG FIVE_BIG FIVE_BIG FIVE_BIG "close 1000; expect close; fin");
}

/* ---- What tells threads apart ---- */

static void *tell_number(void *number)
{
    *(uint64_t *)number = wsr_thread_number();
    return wsr_thread_number() == *(uint64_t *)number ? number : NULL;
}

/* One after the other, so that the system gives the later ones what the earlier had. */
static void no_thread_has_the_number_of_another(void **state)
{
    enum { COUNT = 50 };
    (void)state;
    uint64_t numbers[COUNT] = { wsr_thread_number() };
    for (unsigned i = 1; i < COUNT; i++) {
        pthread_t thread;
        void *same;
        assert_int_equal(pthread_create(&thread, NULL, tell_number, &numbers[i]), 0);
        assert_int_equal(pthread_join(thread, &same), 0);
        assert_ptr_equal(same, &numbers[i]);
        for (unsigned k = 0; k < i; k++)
            assert_true(numbers[k] != numbers[i]);
        assert_true(numbers[i] != 0);
    }
    assert_true(wsr_thread_number() == numbers[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_thread_has_the_number_of_another),
        cmocka_unit_test(a_release_wakes_the_worker_that_waits_for_memory),
        cmocka_unit_test(any_call_of_any_thread_in_any_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
