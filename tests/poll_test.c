/* engine/poll.c: taking events, lent memory, the application's own event loop; on the real driver.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/support/client.h"
#include "tests/support/own_malloc.h"

#define NS_PER_MS 1000000ull

/* ---- Counting what is allocated ---- */

#ifndef HAS_OWN_MALLOC
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

static _Atomic bool is_counting;
static _Atomic unsigned allocations_count;

static void count_allocation(void)
{
    if (atomic_load_explicit(&is_counting, memory_order_relaxed))
        atomic_fetch_add_explicit(&allocations_count, 1, memory_order_relaxed);
}

void *malloc(size_t bytes)
{
    count_allocation();
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    count_allocation();
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    count_allocation();
    return __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    count_allocation();
    return __libc_memalign(alignment, bytes);
}

static void echo_on(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type == WSR_EVENT_MESSAGE)
        assert_int_equal(wsr_send(event->socket, (enum wsr_kind)event->kind, event->data, event->len), 0);
}

static void count_in_echoes(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    client->react = echo_on;
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(wsr_send(socket, WSR_TEXT, "a small message, and now another", 5 + i), 0);
    client_until(client, WSR_EVENT_MESSAGE, 2000);      /* warm */
    atomic_store_explicit(&allocations_count, 0, memory_order_relaxed);
    atomic_store_explicit(&is_counting, true, memory_order_relaxed);
    client_until(client, WSR_EVENT_MESSAGE, 12000);
    atomic_store_explicit(&is_counting, false, memory_order_relaxed);
    assert_int_equal(atomic_load_explicit(&allocations_count, memory_order_relaxed), 0);
    client->react = NULL;
}
#endif

/* wsr_send() never allocates, nor does anything else that a message passes */
static void ten_thousand_echoes_allocate_nothing(void **state)
{
    (void)state;
#ifdef HAS_OWN_MALLOC
    skip();
#else
    client_each(count_in_echoes, NULL, "upgrade; echo");
#endif
}

/* ---- Arguments ---- */

static void refuse_polls(struct client *client)
{
    struct wsr_event event;
    struct wsr_engine *engine = client->engine;
    static const uint32_t rings[] = { 1, 2, 256, UINT32_MAX };
    for (size_t i = 0; i < sizeof rings / sizeof rings[0]; i++) {
        assert_int_equal(wsr_poll(engine, rings[i], &event, 1, 0), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_dispatch(engine, rings[i], 1, 0), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_engine_fd(engine, rings[i]), WSR_ERR_ARGUMENT);
    }
    assert_int_equal(wsr_poll(engine, 0, &event, 0, WSR_NEVER), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_poll(engine, 0, NULL, 1, WSR_NEVER), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_dispatch(engine, 0, 0, WSR_NEVER), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_poll(NULL, 0, &event, 1, 0), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_dispatch(NULL, 0, 1, 0), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_engine_fd(NULL, 0), WSR_ERR_ARGUMENT);
    assert_true(wsr_error_text()[0] != '\0');
    assert_int_equal(wsr_poll(engine, 0, &event, UINT32_MAX, 0), 0);
    assert_int_equal(wsr_dispatch(engine, 0, UINT32_MAX, 0), 0);
    assert_int_equal(wsr_poll(engine, 0, &event, 1, 5 * NS_PER_MS), 0);
    assert_int_equal(wsr_dispatch(engine, 0, 1, 5 * NS_PER_MS), 0);
    assert_null(wsr_event_hold(NULL));
    wsr_hold_release(NULL);
}

static void wrong_arguments_are_refused(void **state)
{
    (void)state;
    client_each(refuse_polls, NULL, "upgrade; echo");
}

/* ---- Batches ---- */

static enum wsr_ready_state state_told_by(const struct wsr_event *event)
{
    return event->type == WSR_EVENT_ERROR || event->type == WSR_EVENT_CLOSE ? WSR_CLOSED : WSR_OPEN;
}

/* Whatever is read from a socket while working through an array is what each event of it saw. */
static int poll_and_check_states(struct client *client, struct wsr_event *events, uint32_t events_max)
{
    int count = wsr_poll(client->engine, 0, events, events_max, 20 * NS_PER_MS);
    assert_in_range(count + 1, 1, events_max + 1);
    for (int i = 0; i < count; i++) {
        assert_int_equal(wsr_socket_ready_state(events[i].socket), state_told_by(&events[i]));
        assert_int_equal(events[i].flags & ~WSR_EVENT_LAST, 0);
        assert_true(i == count - 1 || !(events[i].flags & WSR_EVENT_LAST));
        client_record(&events[i], client);
    }
    return count;
}

static void take_batches(struct client *client)
{
    struct wsr_event events[256];
    static const uint32_t maxima[] = { 1, 2, 7, 256 };
    for (unsigned i = 0; i < 4; i++) {
        uint64_t closes = client->counts[WSR_EVENT_CLOSE] + 20;
        for (unsigned k = 0; k < 20; k++) {
            peer_script(client->peer, k % 2 == 0 ? "upgrade; cork; texts 9; close 1000; uncork; expect close; fin"
                                                 : "upgrade; cork; texts 9; raw 8300; uncork; expect close; fin");
            client_connect(client);
            /* Not all at once: the peer's script is for the connections that come next. */
            while (client->counts[WSR_EVENT_OPEN] <= i * 20 + k)
                poll_and_check_states(client, events, maxima[i]);
        }
        client_sleep_ms(i * 10);
        while (client->counts[WSR_EVENT_CLOSE] < closes)
            poll_and_check_states(client, events, maxima[i]);
    }
    assert_int_equal(client->counts[WSR_EVENT_OPEN], 80);
    assert_int_equal(client->counts[WSR_EVENT_MESSAGE], 720);
    assert_int_equal(client->counts[WSR_EVENT_ERROR], 40);
    assert_int_equal(client->counts[WSR_EVENT_CLOSE], 80);
}

static void no_array_holds_events_between_which_the_state_changes(void **state)
{
    (void)state;
    client_each(take_batches, NULL, "");
}

/* CLOSE-21: messages, then the server's Close, which moves the state to CLOSING without an event */
static void cut_at_the_close(struct client *client)
{
    struct wsr_event events[64];
    client_connect_open(client);
    peer_go(client->peer);
    client_until_peer(client, 0, "close");              /* with a worker, all wait now; inline, they were logged */
    client_sleep_ms(20);
    if (client->counts[WSR_EVENT_MESSAGE] == 0) {
        assert_int_equal(wsr_poll(client->engine, 0, events, 64, 0), 3);
        for (unsigned i = 0; i < 3; i++)
            client_record(&events[i], client);
        assert_int_equal(events[2].flags, 0);           /* more was waiting */
        assert_int_equal(wsr_socket_ready_state(events[2].socket), WSR_OPEN);
    }
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].flags, WSR_EVENT_LAST);
    client_expect(client, "open\ntext 1 0\ntext 1 1\ntext 1 2\nclose 1000 clean\n");
}

static void a_batch_ends_before_the_state_becomes_closing(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    options.workers_count = 1;
    client_open(&client, &options, "upgrade; hold; cork; texts 3; close 1000; uncork; expect close; fin");
    /* Nobody polls ring 0 while the peer is awaited. */
    struct wsr_event events[64];
    client_connect_open(&client);
    peer_go(client.peer);
    peer_await(client.peer, 0, "fin");
    client_sleep_ms(20);
    assert_int_equal(wsr_poll(client.engine, 0, events, 64, 0), 3);
    assert_int_equal(events[2].flags, 0);               /* more is waiting */
    assert_int_equal(wsr_socket_ready_state(events[0].socket), WSR_OPEN);
    assert_int_equal(wsr_poll(client.engine, 0, events, 64, WSR_NEVER), 1);
    assert_int_equal(events[0].type, WSR_EVENT_CLOSE);
    assert_int_equal(events[0].flags, WSR_EVENT_LAST);
    assert_int_equal(wsr_socket_ready_state(events[0].socket), WSR_CLOSED);
    client_close(&client);
    client_each(cut_at_the_close, NULL, "upgrade; hold; cork; texts 3; close 1000; uncork; expect close; fin");
}

static void see_closing(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    peer_go(client->peer);
    while (wsr_socket_ready_state(socket) == WSR_OPEN)
        client_poll(client, 0, 10);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
    assert_int_equal(client->counts[WSR_EVENT_CLOSE], 0);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);                  /* CLOSE-12: no second Close frame */
    assert_int_equal(wsr_send(socket, WSR_TEXT, "late", 4), 0);
    peer_go(client->peer);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "open\nclose 4001 clean theirs\n");
    peer_expect(client->peer, 0, "request GET /chat HTTP/1.1\nclose 4001\nfin\n");
}

/* CTL-10, CLOSE-12 */
static void a_close_from_the_server_makes_the_state_closing(void **state)
{
    (void)state;
    client_each(see_closing, NULL, "upgrade; hold; close 4001 theirs; expect close; hold; fin");
}

/* ---- Dispatch ---- */

static void dispatch_by_number(struct client *client)
{
    client->uses_dispatch = true;
    client_connect_open(client);
    client->events_max = 3;
    peer_go(client->peer);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    while (client->counts[WSR_EVENT_CLOSE] == 0) {
        uint64_t before = client->counts[WSR_EVENT_MESSAGE] + client->counts[WSR_EVENT_CLOSE];
        int count = client_poll(client, 0, 20);
        assert_in_range(count, 0, 3);
        assert_int_equal(client->counts[WSR_EVENT_MESSAGE] + client->counts[WSR_EVENT_CLOSE] - before, count);
    }
    client_expect(client, "open\ntext 1 0\ntext 1 1\ntext 1 2\ntext 1 3\ntext 1 4\ntext 1 5\ntext 1 6\n"
                          "close 1000 clean\n");
}

static void dispatch_takes_at_most_events_max_in_order(void **state)
{
    (void)state;
    client_each(dispatch_by_number, NULL, "upgrade; hold; texts 7; close 1000; expect close; fin");
}

/* Events that nobody listens to are dropped, and counted. */
static void drop_unheard(struct client *client)
{
    struct wsr_socket *socket;
    assert_int_equal(wsr_socket_open(client->engine, peer_url(client->peer), WSR_ZSTRING, NULL, 0, NULL, &socket), 0);
    int total = 0;
    client->uses_dispatch = true;
    while (total < 5)
        total += client_poll(client, 0, 20);
    client_idle(client, 10);
    assert_int_equal(total, 5);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
}

static void dispatch_without_listeners(void **state)
{
    (void)state;
    client_each(drop_unheard, NULL, "upgrade; texts 3; close; expect close; fin");
}

static void close_at_the_second(struct client *client, const struct wsr_event *event)
{
    if (event->type == WSR_EVENT_MESSAGE && client->counts[WSR_EVENT_MESSAGE] == 2)
        assert_int_equal(wsr_close(event->socket, 3000, NULL, 0), 0);
}

/* EVT-07, CLOSE-14, MSG-05 */
static void close_in_a_handler(struct client *client)
{
    client->uses_dispatch = true;
    client->react = close_at_the_second;
    client_connect_open(client);
    peer_go(client->peer);
    client_sleep_ms(20);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "open\ntext 1 0\ntext 1 1\nclose 3000 clean\n");
}

static void closing_in_a_handler_suppresses_later_messages(void **state)
{
    (void)state;
    client_each(close_in_a_handler, NULL, "upgrade; hold; texts 50; echo");
}

static void poll_inside(struct client *client, const struct wsr_event *event)
{
    struct wsr_event other;
    (void)event;
    assert_int_equal(wsr_poll(client->engine, 0, &other, 1, 0), WSR_ERR_BUSY);
    assert_int_equal(wsr_dispatch(client->engine, 0, 1, 0), WSR_ERR_BUSY);
    assert_int_equal(wsr_engine_destroy(client->engine), WSR_ERR_BUSY);
    assert_true(wsr_error_text()[0] != '\0');
    if (wsr_engine_rings(client->engine) > 1)
        assert_int_equal(wsr_poll(client->engine, 1, &other, 1, 0), 0);
}

static void be_busy(struct client *client)
{
    client->uses_dispatch = true;
    client->react = poll_inside;
    client_connect(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "open\ntext 1 0\nclose 1000 clean\n");
    client->react = NULL;
}

/* EVT-15 */
static void polling_inside_a_handler_is_refused(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    client_each(be_busy, NULL, "upgrade; texts 1; close 1000; expect close; fin");
    options.workers_count = 2;
    client_open(&client, &options, "upgrade; texts 1; close 1000; expect close; fin");
    be_busy(&client);
    client_close(&client);
}

/* ---- Threads ---- */

struct other_thread {
    struct client *client;
    int polled, dispatched;
};

static void *poll_elsewhere(void *context)
{
    struct other_thread *other = context;
    struct wsr_event event;
    other->polled = wsr_poll(other->client->engine, 0, &event, 1, 0);
    other->dispatched = wsr_dispatch(other->client->engine, 0, 1, 0);
    return NULL;
}

static void poll_from_another_thread(struct client *client)
{
    struct other_thread other = { client, 1, 1 };
    pthread_t thread;
    bool is_inline = client_statistics(client).workers_count == 0;
    client_poll(client, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, poll_elsewhere, &other), 0);
    pthread_join(thread, NULL);
    assert_int_equal(other.polled, is_inline ? WSR_ERR_THREAD : 0);
    assert_int_equal(other.dispatched, is_inline ? WSR_ERR_THREAD : 0);
    client_connect_open(client);                        /* the owner goes on */
}

static void an_inline_engine_stays_with_the_thread_that_polled_first(void **state)
{
    (void)state;
    client_each(poll_from_another_thread, NULL, "upgrade; echo");
}

static void *live_elsewhere(void *context)
{
    struct client *client = context;
    client_connect_open(client);
    return NULL;
}

/* Made here, first polled there: the engine belongs to the poller. It ends here, when that thread is gone. */
static void an_engine_may_be_made_by_another_thread_than_the_consumer(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.workers_count = 1;
    struct client client;
    pthread_t thread;
    client_open(&client, &options, "upgrade; echo");
    assert_int_equal(pthread_create(&thread, NULL, live_elsewhere, &client), 0);
    pthread_join(thread, NULL);
    client_connect_open(&client);
    client_close(&client);
}

static void *wake_up(void *context)
{
    struct wsr_socket *socket = context;
    client_sleep_ms(30);
    return wsr_send(socket, WSR_TEXT, "x", 1) == 0 ? NULL : socket;
}

/* A poll without end sleeps in the kernel; a send of another thread wakes whoever must work for it. */
static void sleep_and_be_woken(struct client *client)
{
    struct wsr_event event;
    struct wsr_socket *socket = client_connect_open(client);
    for (unsigned i = 0; i < 5; i++) {
        pthread_t thread;
        void *failed;
        assert_int_equal(pthread_create(&thread, NULL, wake_up, socket), 0);
        assert_int_equal(wsr_poll(client->engine, 0, &event, 1, WSR_NEVER), 1);
        assert_int_equal(event.type, WSR_EVENT_MESSAGE);
        pthread_join(thread, &failed);
        assert_null(failed);
    }
}

static void a_poll_without_end_is_woken_by_another_threads_send(void **state)
{
    (void)state;
    client_each(sleep_and_be_woken, NULL, "upgrade; echo");
}

/* ---- The application's own loop ---- */

struct loop {
    struct client *client;
    int epoll, fd;
};

static void loop_open(struct loop *loop, struct client *client)
{
    *loop = (struct loop){ client, epoll_create1(EPOLL_CLOEXEC), wsr_engine_fd(client->engine, 0) };
    assert_true(loop->epoll >= 0 && loop->fd >= 0);
    struct epoll_event wish = { .events = EPOLLIN };
    assert_int_equal(epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->fd, &wish), 0);
    assert_int_equal(wsr_engine_fd(client->engine, 0), loop->fd);
}

/* As the header says: wait for input or the engine's own time limit, then poll until nothing comes. */
static void loop_until(struct loop *loop, enum wsr_event_type type, uint64_t count)
{
    struct client *client = loop->client;
    while (client_poll(client, 0, 0) > 0)
        ;
    while (client->counts[type] < count) {
        uint64_t timeout_ns = wsr_engine_timeout(client->engine);
        int timeout_ms = timeout_ns > 10000 * NS_PER_MS ? 10000 : (int)((timeout_ns + NS_PER_MS - 1) / NS_PER_MS);
        struct epoll_event ready;
        int readable = epoll_wait(loop->epoll, &ready, 1, timeout_ms);
        if (readable == 0 && timeout_ms == 10000)
            fail_msg("nothing became readable for 10 s; the log: %s", client->log);
        while (client_poll(client, 0, 0) > 0)
            ;
    }
}

/* Polled until nothing came, it is readable no longer: a loop that waits for input does not turn for nothing. */
static void check_quiet(struct loop *loop)
{
    struct epoll_event ready;
    unsigned looks = 0;
    while (epoll_wait(loop->epoll, &ready, 1, 50) > 0 && looks++ < 20)
        client_poll(loop->client, 0, 0);
    assert_in_range(looks, 0, 19);
}

static void echo_in_a_loop(struct client *client)
{
    struct loop loop;
    loop_open(&loop, client);
    struct wsr_socket *socket = client_connect(client);
    loop_until(&loop, WSR_EVENT_OPEN, 1);
    for (unsigned i = 1; i <= 300; i++) {
        assert_int_equal(wsr_send(socket, WSR_TEXT, "round", 5), 0);
        loop_until(&loop, WSR_EVENT_MESSAGE, i);
        if (i % 100 == 0)
            check_quiet(&loop);
    }
    wsr_close(socket, 1000, NULL, 0);
    loop_until(&loop, WSR_EVENT_CLOSE, 1);
    close(loop.epoll);
}

static void an_epoll_loop_gets_everything(void **state)
{
    (void)state;
    client_each(echo_in_a_loop, NULL, "upgrade; echo");
}

/* Events that waited before the descriptor was asked for make it readable too. */
static void ask_late(struct client *client)
{
    struct loop loop;
    client_connect_open(client);
    client_idle(client, 50);                            /* no signal of what came before is left */
    peer_go(client->peer);
    client_sleep_ms(50);
    loop_open(&loop, client);
    struct epoll_event ready;
    assert_int_equal(epoll_wait(loop.epoll, &ready, 1, 10000), 1);
    loop_until(&loop, WSR_EVENT_MESSAGE, 3);
    close(loop.epoll);
}

static void the_descriptor_may_be_asked_for_late(void **state)
{
    (void)state;
    client_each(ask_late, NULL, "upgrade; hold; texts 3");
}

/* What another thread sends must leave, although the loop's thread sleeps in its own epoll_wait(). */
static void send_into_a_loop(struct client *client)
{
    struct loop loop;
    loop_open(&loop, client);
    struct wsr_socket *socket = client_connect(client);
    loop_until(&loop, WSR_EVENT_OPEN, 1);
    for (unsigned i = 1; i <= 5; i++) {
        pthread_t thread;
        void *failed;
        assert_int_equal(pthread_create(&thread, NULL, wake_up, socket), 0);
        loop_until(&loop, WSR_EVENT_MESSAGE, i);
        pthread_join(thread, &failed);
        assert_null(failed);
    }
    close(loop.epoll);
}

static void an_epoll_loop_is_woken_by_another_threads_send(void **state)
{
    (void)state;
    client_each(send_into_a_loop, NULL, "upgrade; echo");
}

static void time_out_in_a_loop(struct client *client)
{
    struct loop loop;
    loop_open(&loop, client);
    client_connect(client);
    loop_until(&loop, WSR_EVENT_CLOSE, 1);
    client_expect(client, "error\nclose 1006\n");
    close(loop.epoll);
}

/* EVT-18: an inline engine's limits pass by wsr_engine_timeout() */
static void an_epoll_loop_sees_time_limits(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.open_timeout_ns = 50 * NS_PER_MS;
    client_each(time_out_in_a_loop, &options, "request; hold");
}

static void ask_timeouts(struct client *client)
{
    bool is_inline = client_statistics(client).workers_count == 0;
    client_poll(client, 0, 0);
    assert_true(wsr_engine_timeout(client->engine) == WSR_NEVER);
    struct wsr_socket *socket = client_connect(client);
    if (is_inline)
        assert_true(wsr_engine_timeout(client->engine) == 0);           /* a command waits */
    client_until_peer(client, 0, "request");
    uint64_t timeout_ns = wsr_engine_timeout(client->engine);
    assert_true(is_inline ? timeout_ns <= 500000 * NS_PER_MS && timeout_ns > 0 : timeout_ns == WSR_NEVER);
    peer_go(client->peer);
    client_until(client, WSR_EVENT_OPEN, 1);
    while (client_poll(client, 0, 0) > 0)
        ;
    assert_true(wsr_engine_timeout(client->engine) == WSR_NEVER);       /* no limit runs while it is open */
    assert_int_equal(wsr_send(socket, WSR_TEXT, "x", 1), 0);
    assert_true(wsr_engine_timeout(client->engine) == (is_inline ? 0 : WSR_NEVER));
    client_until_peer(client, 0, "text 1 x");
    wsr_close(socket, 1000, NULL, 0);
    client_until_peer(client, 0, "close");
    timeout_ns = wsr_engine_timeout(client->engine);
    assert_true(is_inline ? timeout_ns < WSR_NEVER : timeout_ns == WSR_NEVER);
}

static void the_engines_time_limit_is_that_of_its_timers_and_work(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.open_timeout_ns = 500000 * NS_PER_MS;
    client_each(ask_timeouts, &options, "request; hold; upgrade");
}

/* ---- Lent memory ---- */

#define HOLDS_COUNT 400

struct held {
    struct wsr_hold *hold;
    const char *data;
    uint64_t len;
    unsigned number;
};

static struct held held[HOLDS_COUNT];
static unsigned held_count;

static void hold_all(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type != WSR_EVENT_MESSAGE || event->len == 0) {
        assert_null(wsr_event_hold(event));
        return;
    }
    struct held *next = &held[held_count];
    *next = (struct held){ wsr_event_hold(event), event->data, event->len, held_count };
    assert_non_null(next->hold);
    held_count++;
}

static void *release_odd(void *unused)
{
    (void)unused;
    for (unsigned i = 1; i < held_count; i += 2)
        wsr_hold_release(held[i].hold);
    return NULL;
}

static void check_held(unsigned step)
{
    for (unsigned i = 0; i < held_count; i += step) {
        char text[16];
        size_t len = (size_t)snprintf(text, sizeof text, "%u", held[i].number);
        assert_int_equal(held[i].len, len);
        assert_memory_equal(held[i].data, text, len);
    }
}

/* Held over many polls, more than there are buffers, released by two threads in any order; then all memory is back. */
static void hold_and_release(struct client *client)
{
    pthread_t thread;
    held_count = 0;
    client->react = hold_all;
    client->events_max = 5;
    struct wsr_socket *socket = client_connect_open(client);
    peer_go(client->peer);
    client_until(client, WSR_EVENT_MESSAGE, HOLDS_COUNT + 1);
    assert_int_equal(held_count, HOLDS_COUNT);
    check_held(1);
    struct wsr_engine_statistics statistics = client_statistics(client);
    assert_in_range(statistics.buffers_lent, 1, 8);
    assert_true(statistics.messages_copied > 0);
    assert_int_equal(statistics.messages_copied + statistics.messages_lent, HOLDS_COUNT + 1);

    assert_int_equal(pthread_create(&thread, NULL, release_odd, NULL), 0);
    client_idle(client, 20);
    pthread_join(thread, NULL);
    check_held(2);
    for (unsigned i = 0; i < held_count; i += 2)
        wsr_hold_release(held[i].hold);
    client->react = NULL;
    /* The worker takes them back when it next turns. */
    for (unsigned i = 0; i < 200 && client_statistics(client).buffers_lent > 0; i++) {
        assert_int_equal(wsr_send(socket, WSR_TEXT, "turn", 4), 0);
        client_idle(client, 10);
    }
    statistics = client_statistics(client);
    assert_int_equal(statistics.buffers_lent, 0);
    assert_int_equal(statistics.loan_bytes, 0);
}

static void holds_outlive_polls_and_may_be_released_by_any_thread(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.buffers_count = 8;
    options.buffer_bytes = 256;
    client_each(hold_and_release, &options, "upgrade; hold; texts 400; text; sink");
}

static void hold_twice(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type != WSR_EVENT_MESSAGE) {
        assert_null(wsr_event_hold(event));             /* not even the reason of a close event */
        return;
    }
    struct wsr_hold *first = wsr_event_hold(event), *second = wsr_event_hold(event);
    wsr_hold_release(first);
    held[0] = (struct held){ second, event->data, event->len, 0 };
}

static void hold_one_twice(struct client *client)
{
    client->react = hold_twice;
    struct wsr_socket *socket = client_connect_open(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client->react = NULL;
    wsr_socket_destroy(socket);                         /* the memory is the ring's, not the socket's */
    client_idle(client, 20);
    assert_memory_equal(held[0].data, "precious", 8);
    wsr_hold_release(held[0].hold);
}

static void each_hold_is_released_once(void **state)
{
    (void)state;
    client_each(hold_one_twice, NULL, "upgrade; text precious; close 1000 why; expect close; fin");
}

/* Lent memory stays as it is until the next poll of that ring, whatever arrives meanwhile. */
static void read_late(struct client *client)
{
    struct wsr_event events[16];
    unsigned expected = 0;
    client_connect_open(client);
    peer_go(client->peer);
    while (expected < 3000) {
        int count = wsr_poll(client->engine, 0, events, 16, 100 * NS_PER_MS);
        assert_in_range(count + 1, 1, 17);
        if (expected % 7 == 0)
            client_sleep_ms(1);
        for (int i = 0; i < count; i++, expected++) {
            char text[16];
            size_t len = (size_t)snprintf(text, sizeof text, "%u", expected);
            assert_int_equal(events[i].len, len);
            assert_memory_equal(events[i].data, text, len);
        }
    }
}

static void lent_memory_stays_until_the_next_poll(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.buffers_count = 4;
    options.buffer_bytes = 256;
    options.events_count = 64;
    client_each(read_late, &options, "upgrade; hold; texts 3000");
}

/* ---- Consumers that stop ---- */

static unsigned next_number;

static void check_number(struct client *client, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    char text[16];
    size_t len = (size_t)snprintf(text, sizeof text, "%u", next_number);
    if (event->len != len || memcmp(event->data, text, len) != 0)
        fail_msg("message %u is \"%.*s\"", next_number, (int)event->len, (const char *)event->data);
    next_number++;
    if (next_number % 997 == 0)
        client_sleep_ms(2);
    client->log_bytes = 0;
}

/* Design 3.5: a consumer that stops holds up its own feed, and nothing is lost, in order. */
static void stop_polling(struct client *client)
{
    next_number = 0;
    client->react = check_number;
    client_connect_open(client);
    peer_go(client->peer);
    client_sleep_ms(100);
    client_until(client, WSR_EVENT_MESSAGE, 5000);
    client_sleep_ms(100);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(next_number, 30000);
    assert_true(client->last[WSR_EVENT_CLOSE].was_clean);
    assert_true(client_statistics(client).rests > 0);
}

static void a_consumer_that_stops_for_a_while_loses_nothing(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.events_count = 128;
    options.buffers_count = 4;
    options.buffer_bytes = 512;
    options.loan_max_bytes = 4096;
    client_each(stop_polling, &options, "upgrade; hold; texts 30000; close 1000; expect close; fin");
}

/* received_ns: of CLOCK_MONOTONIC, never falling */
static uint64_t last_received_ns;

static void check_time(struct client *client, const struct wsr_event *event)
{
    (void)client;
    assert_true(event->received_ns >= last_received_ns);
    last_received_ns = event->received_ns;
}

static void look_at_times(struct client *client)
{
    last_received_ns = client_now_ms() * NS_PER_MS;
    client->react = check_time;
    client_connect(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_true(last_received_ns <= (client_now_ms() + 1) * NS_PER_MS);
}

static void events_carry_the_time_of_their_receipt(void **state)
{
    (void)state;
    client_each(look_at_times, NULL, "upgrade; texts 100; close 1000; expect close; fin");
}

/* MSG-05: closing one socket takes back its messages among those of another that are taken with them. */
static void close_one_of_two(struct client *client)
{
    client->events_max = 1;
    struct wsr_socket *sockets[2] = { client_connect_open(client), client_connect_open(client) };
    client_idle(client, 20);
    peer_go(client->peer);
    client_sleep_ms(50);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    struct wsr_socket *first = client->last[WSR_EVENT_MESSAGE].socket;
    assert_int_equal(wsr_close(first == sockets[0] ? sockets[1] : sockets[0], 1000, NULL, 0), 0);
    struct wsr_event events[64];
    unsigned messages = 0;
    while (messages < 2) {
        int count = wsr_poll(client->engine, 0, events, 64, 10000 * NS_PER_MS);
        assert_true(count > 0);
        for (int i = 0; i < count; i++) {
            messages += events[i].type == WSR_EVENT_MESSAGE;
            assert_true(events[i].type != WSR_EVENT_MESSAGE || events[i].socket == first);
        }
    }
}

static void a_batch_of_two_sockets_has_nothing_of_the_closed_one(void **state)
{
    (void)state;
    client_each(close_one_of_two, NULL, "upgrade; hold; cork; texts 3; uncork; expect close; reply; fin");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_echoes_allocate_nothing),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(no_array_holds_events_between_which_the_state_changes),
        cmocka_unit_test(a_batch_ends_before_the_state_becomes_closing),
        cmocka_unit_test(a_close_from_the_server_makes_the_state_closing),
        cmocka_unit_test(dispatch_takes_at_most_events_max_in_order),
        cmocka_unit_test(dispatch_without_listeners),
        cmocka_unit_test(closing_in_a_handler_suppresses_later_messages),
        cmocka_unit_test(polling_inside_a_handler_is_refused),
        cmocka_unit_test(an_inline_engine_stays_with_the_thread_that_polled_first),
        cmocka_unit_test(an_engine_may_be_made_by_another_thread_than_the_consumer),
        cmocka_unit_test(a_poll_without_end_is_woken_by_another_threads_send),
        cmocka_unit_test(an_epoll_loop_gets_everything),
        cmocka_unit_test(the_descriptor_may_be_asked_for_late),
        cmocka_unit_test(an_epoll_loop_is_woken_by_another_threads_send),
        cmocka_unit_test(an_epoll_loop_sees_time_limits),
        cmocka_unit_test(the_engines_time_limit_is_that_of_its_timers_and_work),
        cmocka_unit_test(holds_outlive_polls_and_may_be_released_by_any_thread),
        cmocka_unit_test(each_hold_is_released_once),
        cmocka_unit_test(lent_memory_stays_until_the_next_poll),
        cmocka_unit_test(a_consumer_that_stops_for_a_while_loses_nothing),
        cmocka_unit_test(events_carry_the_time_of_their_receipt),
        cmocka_unit_test(a_batch_of_two_sockets_has_nothing_of_the_closed_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
