/* engine/worker: turns, commands and wake-ups, below the public functions.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/worker.h"
#include "tests/support/sim.h"
#include "tests/support/world.h"

#define LINKS_MAX 4
#define S 1000000000ull

struct bench {
    struct sim *sim;
    struct wsr_worker *worker;
    struct wsr_link links[LINKS_MAX];
    char log[4096];
    struct wsr_event last;
    _Atomic uint32_t keys;              /* masks of our frames; taken by the threads that send */
};

static void open_bench(struct bench *bench, uint64_t seed, uint32_t events_count, bool is_inline)
{
    struct wsr_worker_options options = {
        .sockets_max = LINKS_MAX, .events_count = events_count, .wait = WSR_WAIT_BLOCK, .cpu = -1,
        .send_pool_bytes = 1 << 20, .open_timeout_ns = 30 * S, .close_timeout_ns = 30 * S, .fin_timeout_ns = 2 * S,
        .send_queue_max_bytes = 1 << 20,
        .pool = { .buffers_count = 4, .buffer_bytes = 1024, .loan_max_bytes = 1 << 20 },
        .limits = { .message_max_bytes = 1 << 20, .fragments_max = 100, .head_max_bytes = 4096, .interim_max = 2 },
    };
    memset(bench, 0, sizeof *bench);
    bench->sim = sim_create(seed);
    assert_int_equal(wsr_worker_create(&bench->worker, sim_driver(bench->sim), NULL, &options, is_inline), 0);
}

static void close_bench(struct bench *bench)
{
    wsr_worker_free(bench->worker);
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        wsr_conn_opening_free(bench->links[i].command.subject);
        free(bench->links[i].answer);
    }
    sim_free(bench->sim);
}

static void end_bench(struct bench *bench)
{
    wsr_worker_end(bench->worker);
    close_bench(bench);
}

/* Open link @index to @addresses_count addresses; the peers' scripts say what each does. */
static void open_link(struct bench *bench, unsigned index, unsigned addresses_count)
{
    static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
    struct wsr_link *link = &bench->links[index];
    struct wsr_opening *opening = calloc(1, sizeof *opening);
    assert_non_null(opening);
    char request[256];
    snprintf(request, sizeof request, "GET /chat HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: %s\r\n\r\n", key);
    opening->request = strdup(request);
    opening->request_bytes = strlen(request);
    assert_int_equal(wsr_handshake_accept(opening->upgrade.offer.accept, key), 0);
    for (unsigned i = 0; i < addresses_count; i++) {
        struct wsr_fault why;
        assert_int_equal(wsr_dial_parse(&opening->dial.addresses[i], "10.0.0.1:80", &why), 0);
    }
    opening->dial.addresses_count = addresses_count;
    link->command.subject = opening;
    link->command.kind = WSR_COMMAND_LINK;
    atomic_fetch_add_explicit(&bench->worker->live_count, 1, memory_order_relaxed);
    wsr_worker_ask(bench->worker, link, WSR_LINK_OPEN);
}

static struct wsr_chunk *text_frame(struct bench *bench, unsigned index, const char *text)
{
    struct wsr_chunk *chunk = wsr_slab_take(bench->worker->host.slab, strlen(text) + WSR_FRAME_HEAD_MAX);
    uint32_t number = atomic_fetch_add_explicit(&bench->keys, 1, memory_order_relaxed) + 1;
    uint8_t key[4];
    if (chunk == NULL)
        return NULL;
    memcpy(key, &number, sizeof key);
    chunk->overhead = (uint32_t)wsr_frame_write(chunk->data, 0x81, strlen(text), key);
    for (size_t i = 0; i < strlen(text); i++)
        chunk->data[chunk->overhead + i] = (uint8_t)text[i] ^ key[i % 4];
    chunk->used = chunk->overhead + (uint32_t)strlen(text);
    chunk->command.subject = &bench->links[index];
    chunk->command.kind = WSR_COMMAND_SEND;
    return chunk;
}

static void push_close(struct bench *bench, unsigned index, uint16_t code, uint8_t kind)
{
    static const uint8_t key[4] = { 7, 7, 7, 7 };
    struct wsr_chunk *chunk = wsr_queue_close_frame(bench->worker->host.slab, code, wsr_bytes_of(NULL, 0), key);
    assert_non_null(chunk);
    chunk->command.subject = &bench->links[index];
    chunk->command.kind = kind;
    wsr_worker_push(bench->worker, &chunk->command);
}

static void push_destroy(struct bench *bench, unsigned index)
{
    wsr_worker_ask(bench->worker, &bench->links[index], WSR_LINK_DESTROY);
}

static void note(struct bench *bench, const struct wsr_event *event)
{
    static const char *const names[] = { [WSR_EVENT_OPEN] = "open", [WSR_EVENT_MESSAGE] = "message",
        [WSR_EVENT_ERROR] = "error",
                                         [WSR_EVENT_CLOSE] = "close", [WSR_EVENT_WRITABLE] = "writable",
                                         [WSR_DELIVER_CLOSING] = "closing", [WSR_DELIVER_GONE] = "gone" };
    unsigned index = (unsigned)((const struct wsr_link *)(const void *)event->socket - bench->links);
    size_t at = strlen(bench->log);
    snprintf(bench->log + at, sizeof bench->log - at, "%u %s\n", index, names[event->type]);
    bench->last = *event;
}

/* Turn for @ns, taking at most @events_max events. */
static void turn(struct bench *bench, uint64_t ns, unsigned events_max)
{
    struct wsr_ring_spsc *ring = &bench->worker->host.deliver.events;
    uint64_t until_ns = sim_now(bench->sim) + ns;
    while (sim_now(bench->sim) < until_ns) {
        assert_true(wsr_worker_turn(bench->worker, until_ns) >= 0);
        for (struct wsr_event *event; events_max > 0 && (event = wsr_ring_spsc_peek(ring)) != NULL; events_max--) {
            note(bench, event);
            wsr_ring_spsc_take(ring);
        }
        wsr_ring_spsc_release(ring);
    }
}

static void expect(struct bench *bench, const char *want)
{
    if (strcmp(bench->log, want) != 0)
        sim_fail(bench->sim, "events:\n%s---- expected were:\n%s", bench->log, want);
}

static void each_seed(void (*test)(struct bench *bench), uint32_t events_count)
{
    for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++) {
        struct bench bench;
        open_bench(&bench, seed, events_count, true);
        test(&bench);
        end_bench(&bench);
    }
}

static void nothing_to_do(struct bench *bench)
{
    uint64_t until_ns = sim_now(bench->sim) + 5 * S;
    while (sim_now(bench->sim) < until_ns)
        assert_true(wsr_worker_turn(bench->worker, until_ns) >= 0);
    assert_false(wsr_worker_has_commands(bench->worker));
    assert_true(sim_now(bench->sim) < until_ns + S);
}

static void a_turn_without_work_ends_at_its_deadline(void **state)
{
    (void)state;
    each_seed(nothing_to_do, 8);
}

/* The first finds no room for its messages and keeps all buffers, so that the second finds none: a rest for each. */
static void room_and_buffers(struct bench *bench)
{
    struct wsr_conn_host *host = &bench->worker->host;
    sim_script(bench->sim, "accept; upgrade; wait 5000; texts 3000");
    sim_script(bench->sim, "accept; upgrade; wait 7000; text x");
    open_link(bench, 0, 1);
    open_link(bench, 1, 1);
    turn(bench, 1 * S, 100);
    turn(bench, 5 * S, 0);
    assert_int_equal(atomic_load_explicit(&host->counts.rests, memory_order_relaxed), 1);
    if (wsr_pool_buffers_home(host->pool) > 0)
        return;                                        /* the kernel has ended that receive before all were full */
    turn(bench, 2 * S, 0);
    assert_int_equal(atomic_load_explicit(&host->counts.rests, memory_order_relaxed), 2);
}

static void receiving_rests_for_room_and_for_buffers(void **state)
{
    (void)state;
    each_seed(room_and_buffers, 8);
}

/* RECV-12: the failing Close leaves when the consumer has passed what came before, although that has lent nothing and
 * the ring is nearly empty: the worker looks for it all the same. */
static void broken_behind_nothing_lent(struct bench *bench)
{
    sim_script(bench->sim, "accept; upgrade; text ; raw 83; expect close; fin");
    open_link(bench, 0, 1);
    turn(bench, 3 * S, 100);
    expect(bench, "0 open\n0 message\n0 error\n0 close\n");
    uint64_t took_ns = sim_logged_ns(bench->sim, 0, "close 1002") - sim_logged_ns(bench->sim, 0, "request");
    assert_in_range(took_ns, 0, S / 2);
}

static void a_worker_sees_what_was_passed_though_nothing_was_lent(void **state)
{
    (void)state;
    for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++) {
        struct bench bench;
        open_bench(&bench, seed, 64, false);
        broken_behind_nothing_lent(&bench);
        end_bench(&bench);
    }
}

/* Silent for its share of 30 s, refused, silent for its share of the rest, taken. */
static void four_addresses(struct bench *bench)
{
    sim_script(bench->sim, "silent");
    sim_script(bench->sim, "refuse ECONNREFUSED 100");
    sim_script(bench->sim, "silent");
    sim_script(bench->sim, "accept 100; upgrade; close 1000; expect close; fin");
    open_link(bench, 0, 4);
    uint64_t start_ns = sim_now(bench->sim);
    turn(bench, 29 * S, 100);
    expect(bench, "0 open\n0 closing\n0 close\n");
    assert_int_equal(sim_connections(bench->sim), 4);
    assert_int_equal(sim_files_open(bench->sim), 0);
    /* 7.5 s, 0.1 s, then half of the 22.4 s left. */
    uint64_t took_ns = sim_logged_ns(bench->sim, 3, "request") - start_ns;
    assert_in_range(took_ns, 187 * S / 10, 190 * S / 10);
}

/* Who waits in an event loop of his own is not sent to sleep over what a timer has begun: the kernel has not got it. */
static void a_timer_begins(struct bench *bench)
{
    struct wsr_worker *worker = bench->worker;
    sim_script(bench->sim, "silent");
    sim_script(bench->sim, "silent");
    open_link(bench, 0, 2);
    turn(bench, S, 100);
    uint64_t start_ns = sim_now(bench->sim);
    while (!wsr_worker_has_work(worker) && sim_now(bench->sim) < start_ns + 28 * S)
        assert_true(wsr_worker_turn(worker, start_ns + 28 * S) >= 0);
    assert_in_range(sim_now(bench->sim) - start_ns, 13 * S, 15 * S);    /* the first address's share of 30 s is over */
    turn(bench, 40 * S, 100);
    expect(bench, "0 error\n0 close\n");
}

static void what_a_timer_has_begun_is_work(void **state)
{
    (void)state;
    each_seed(a_timer_begins, 8);
}

static void all_addresses_fail(struct bench *bench)
{
    sim_script(bench->sim, "refuse ECONNREFUSED");
    sim_script(bench->sim, "silent");
    sim_script(bench->sim, "refuse EHOSTUNREACH");
    open_link(bench, 0, 3);
    turn(bench, 31 * S, 100);
    expect(bench, "0 error\n0 close\n");
    assert_int_equal(bench->last.system_errno, EHOSTUNREACH);
    assert_int_equal(bench->last.stage, WSR_STAGE_CONNECT);
    assert_int_equal(sim_files_open(bench->sim), 0);
}

static void no_socket_can_be_made(struct bench *bench)
{
    sim_refuse_open(bench->sim, 2, EMFILE);
    open_link(bench, 0, 2);
    turn(bench, S, 100);
    expect(bench, "0 error\n0 close\n");
    assert_int_equal(bench->last.system_errno, EMFILE);
    assert_int_equal(sim_connections(bench->sim), 0);
}

static void no_resolver(struct bench *bench)
{
    open_link(bench, 0, 0);
    turn(bench, S, 100);
    expect(bench, "0 error\n0 close\n");
    assert_int_equal(bench->last.stage, WSR_STAGE_LOOKUP);
}

static void addresses_are_tried_in_turn(void **state)
{
    (void)state;
    each_seed(four_addresses, 8);
    each_seed(all_addresses_fail, 8);
    each_seed(no_socket_can_be_made, 8);
    each_seed(no_resolver, 8);
}

/* Whatever state the conn is in, the last event of a destroyed socket is GONE, and it comes once. */
static void gone_in_every_state(struct bench *bench)
{
    sim_script(bench->sim, "accept 5; upgrade; text a; wait 5; close 1000; expect close; wait 5; fin");
    open_link(bench, 0, 1);
    turn(bench, sim_random(bench->sim, 25000000), 100);
    if (sim_random(bench->sim, 2) == 0)
        push_destroy(bench, 0);
    else
        push_close(bench, 0, 1001, WSR_COMMAND_FAREWELL);
    turn(bench, 40 * S, 100);
    const char *gone = strstr(bench->log, "0 gone\n");
    if (gone == NULL || gone[7] != '\0' || sim_files_open(bench->sim) != 0)
        sim_fail(bench->sim, "%s", bench->log);
}

/* A ring without room: the ends of four sockets, and their GONE, wait and come. */
static void ends_wait_for_room(struct bench *bench)
{
    sim_script(bench->sim, "accept; upgrade; texts 3; fin");
    for (unsigned i = 0; i < LINKS_MAX; i++)
        open_link(bench, i, 1);
    turn(bench, S, 0);
    for (unsigned i = 0; i < LINKS_MAX; i++)
        push_destroy(bench, i);
    turn(bench, S, 0);
    for (unsigned i = 0; i < 60; i++)
        turn(bench, S / 100, 1);
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        char gone[16];
        snprintf(gone, sizeof gone, "%u gone\n", i);
        const char *at = strstr(bench->log, gone);
        if (at == NULL || strstr(at + 1, gone) != NULL || bench->links[i].conn != NULL)
            sim_fail(bench->sim, "%s is missing, or comes twice, in\n%s", gone, bench->log);
    }
    assert_int_equal(sim_files_open(bench->sim), 0);
}

static void destroyed_links_are_gone_once(void **state)
{
    (void)state;
    each_seed(gone_in_every_state, 8);
    each_seed(ends_wait_for_room, 8);
}

#define COMMANDS_COUNT 5000u             /* more than one turn takes */

/* All wishes of a link travel in one command, but the last one frees the link: it has to come behind whatever was asked
 * for after the others. */
static void destroy_with_a_wish_under_way(struct bench *bench)
{
    struct wsr_worker *worker = bench->worker;
    sim_script(bench->sim, "accept; upgrade; close 1000; expect close; fin");
    open_link(bench, 0, 1);
    turn(bench, 10 * S, 100);
    expect(bench, "0 open\n0 closing\n0 close\n");
    wsr_worker_ask(worker, &bench->links[0], WSR_LINK_WRITABLE);
    for (unsigned i = 0; i < COMMANDS_COUNT; i++) {
        struct wsr_chunk *chunk = wsr_slab_take_control(worker->host.slab, 0);
        assert_non_null(chunk);
        chunk->command.subject = &bench->links[0];
        chunk->command.kind = WSR_COMMAND_RESUME;
        wsr_worker_push(worker, &chunk->command);
    }
    push_destroy(bench, 0);
    assert_true(wsr_worker_turn(worker, 0) >= 0);
    assert_true(wsr_worker_has_commands(worker));
    assert_null(wsr_ring_spsc_peek(&worker->host.deliver.events));
    turn(bench, S, 100);
    expect(bench, "0 open\n0 closing\n0 close\n0 gone\n");
}

static void the_last_wish_comes_last(void **state)
{
    (void)state;
    each_seed(destroy_with_a_wish_under_way, 8);
}

/* Commands for a conn that ended already only give their chunks back. */
static void late_commands(struct bench *bench)
{
    sim_script(bench->sim, "refuse ECONNREFUSED");
    open_link(bench, 0, 1);
    turn(bench, S, 100);
    for (unsigned lap = 0; lap < 50; lap++) {
        struct wsr_chunk *chunk = text_frame(bench, 0, "late");
        assert_non_null(chunk);
        wsr_worker_push(bench->worker, &chunk->command);
        push_close(bench, 0, 1000, lap % 2 ? WSR_COMMAND_CLOSE : WSR_COMMAND_ABORT);
        turn(bench, 1000, 100);
    }
    expect(bench, "0 error\n0 close\n");
}

static void commands_after_the_end_do_nothing(void **state)
{
    (void)state;
    each_seed(late_commands, 8);
}

static void a_broken_driver_is_told(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1, 8, true);
    sim_break(bench.sim, EBADF);
    assert_int_equal(wsr_worker_turn(bench.worker, 0), -EBADF);
    end_bench(&bench);
}

/* ---- With a thread ---- */

#define SENDERS_COUNT 2
#define SENT_COUNT 400u

static void *run_worker(void *worker)
{
    wsr_worker_run(worker);
    return NULL;
}

struct sender {
    struct bench *bench;
    unsigned index;
};

static void *send_all(void *context)
{
    const struct sender *sender = context;
    for (unsigned i = 0; i < SENT_COUNT;) {
        char text[16];
        snprintf(text, sizeof text, "%u", i);
        struct wsr_chunk *chunk = text_frame(sender->bench, sender->index, text);
        if (chunk == NULL) {
            usleep(100);
            continue;
        }
        wsr_worker_push(sender->bench->worker, &chunk->command);
        if (++i % 50 == 0)
            usleep(200);                /* let the worker fall asleep between */
    }
    return NULL;
}

struct holder {
    struct bench *bench;
    _Atomic(struct wsr_loan *) held;
    _Atomic bool over;
};

static void *release_holds(void *context)
{
    struct holder *holder = context;
    while (!atomic_load_explicit(&holder->over, memory_order_acquire)) {
        /* Pairs with the release exchange in take_events(). */
        struct wsr_loan *loan = atomic_exchange_explicit(&holder->held, NULL, memory_order_acquire);
        if (loan == NULL) {
            usleep(50);
            continue;
        }
        wsr_pool_release(loan);
        wsr_worker_consumed(holder->bench->worker);
    }
    return NULL;
}

/* The consumer of a ring of 8 slots and 4 buffers; holds a message now and then. Returns the messages of both in
 * order. */
static unsigned take_events(struct bench *bench, struct holder *holder, unsigned got[SENDERS_COUNT], unsigned *ended)
{
    struct wsr_ring_spsc *ring = &bench->worker->host.deliver.events;
    unsigned wrong = 0;
    for (struct wsr_event *event; (event = wsr_ring_spsc_peek(ring)) != NULL; wsr_ring_spsc_take(ring)) {
        unsigned index = (unsigned)((const struct wsr_link *)(const void *)event->socket - bench->links);
        *ended += event->type == WSR_EVENT_CLOSE;
        if (event->type != WSR_EVENT_MESSAGE)
            continue;
        char want[16];
        snprintf(want, sizeof want, "%u", got[index]++);
        wrong += event->len != strlen(want) || memcmp(event->data, want, event->len) != 0;
        if (got[index] % 7 == 0 && event->loan != NULL) {
            wsr_pool_hold(event->loan);
            /* Pairs with the exchange in release_holds(). */
            struct wsr_loan *old = atomic_exchange_explicit(&holder->held, event->loan, memory_order_acq_rel);
            if (old != NULL)
                wsr_pool_release(old);
        }
    }
    if (wsr_ring_spsc_release(ring))
        wsr_worker_consumed(bench->worker);
    return wrong;
}

/* Senders, a consumer and a releaser against a sleeping worker: no wake-up is lost, no message either. */
static void threads_wake_the_worker(void **state)
{
    (void)state;
    struct bench bench;
    struct sender senders[SENDERS_COUNT];
    struct holder holder = { .bench = &bench };
    pthread_t worker, releaser, threads[SENDERS_COUNT];
    unsigned got[SENDERS_COUNT] = { 0 }, ended = 0, wrong = 0;
    open_bench(&bench, 1, 8, false);
    sim_set_threaded(bench.sim);
    sim_script(bench.sim, "accept; upgrade; echo; expect close; close 1000; fin");
    assert_int_equal(pthread_create(&worker, NULL, run_worker, bench.worker), 0);
    assert_int_equal(pthread_create(&releaser, NULL, release_holds, &holder), 0);
    for (unsigned i = 0; i < SENDERS_COUNT; i++)
        open_link(&bench, i, 1);
    /* Sending starts when both are open. */
    for (unsigned open = 0; open < SENDERS_COUNT;) {
        struct wsr_event *event = wsr_ring_spsc_peek(&bench.worker->host.deliver.events);
        if (event == NULL) {
            usleep(50);
            continue;
        }
        open += event->type == WSR_EVENT_OPEN;
        wsr_ring_spsc_take(&bench.worker->host.deliver.events);
    }
    for (unsigned i = 0; i < SENDERS_COUNT; i++) {
        senders[i] = (struct sender){ &bench, i };
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    while (got[0] < SENT_COUNT || got[1] < SENT_COUNT) {
        wrong += take_events(&bench, &holder, got, &ended);
        usleep(20);
    }
    for (unsigned i = 0; i < SENDERS_COUNT; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        push_close(&bench, i, 1000, WSR_COMMAND_CLOSE);
    }
    while (ended < SENDERS_COUNT) {
        wrong += take_events(&bench, &holder, got, &ended);
        usleep(20);
    }
    atomic_store_explicit(&holder.over, true, memory_order_release);
    assert_int_equal(pthread_join(releaser, NULL), 0);
    struct wsr_loan *left = atomic_exchange_explicit(&holder.held, NULL, memory_order_acquire);
    if (left != NULL)
        wsr_pool_release(left);
    wsr_worker_stop(bench.worker);
    assert_int_equal(pthread_join(worker, NULL), 0);
    assert_int_equal(wrong, 0);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_timer_has_begun_is_work),
        cmocka_unit_test(a_turn_without_work_ends_at_its_deadline),
        cmocka_unit_test(receiving_rests_for_room_and_for_buffers),
        cmocka_unit_test(a_worker_sees_what_was_passed_though_nothing_was_lent),
        cmocka_unit_test(addresses_are_tried_in_turn),
        cmocka_unit_test(destroyed_links_are_gone_once),
        cmocka_unit_test(the_last_wish_comes_last),
        cmocka_unit_test(commands_after_the_end_do_nothing),
        cmocka_unit_test(a_broken_driver_is_told),
        cmocka_unit_test(threads_wake_the_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
