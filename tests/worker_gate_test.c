/* engine/worker and engine/gate: two workers at one gate, turned by hand, so that each race comes out as a test wants.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/worker.h"
#include "tests/support/sim.h"
#include "tests/support/world.h"

#define LINKS_MAX 4
#define MS 1000000ull
#define S 1000000000ull
#define OPENS "accept 5; upgrade; close 1000; expect close; fin"

/* One worker with a world of its own. */
struct side {
    struct sim *sim;
    struct wsr_worker *worker;
    struct wsr_link links[LINKS_MAX];
    char log[1024];
    struct wsr_event last;
    struct wsr_driver_ops ops;          /* the simulated driver's, but for wait */
    const struct wsr_driver_ops *sim_ops;
    struct side *passes_on;             /* what that one holds is given up in the next wait */
    unsigned waits_count;
};

struct pair {
    struct wsr_gate *gate;
    struct side a, b;
};

static void turn(struct side *side, uint64_t ns);
static void push_abort(struct side *side, unsigned index);

/* The moment between a worker's commands and its completions. */
static int wait_side(struct wsr_driver *driver, struct wsr_completion *out, unsigned out_count, uint64_t deadline_ns)
{
    struct side *side = wsr_container_of(driver->ops, struct side, ops);
    struct side *other = side->passes_on;
    side->passes_on = NULL;
    if (other != NULL) {
        push_abort(other, 0);
        turn(other, S);
    }
    if (++side->waits_count > 100000)
        sim_fail(side->sim, "the worker turns without end");
    return side->sim_ops->wait(driver, out, out_count, deadline_ns);
}

static void open_side(struct side *side, struct wsr_gate *gate, uint64_t seed)
{
    struct wsr_worker_options options = {
        .sockets_max = LINKS_MAX, .events_count = 32, .wait = WSR_WAIT_BLOCK, .cpu = -1, .send_pool_bytes = 1 << 20,
        .open_timeout_ns = 30 * S, .close_timeout_ns = 30 * S, .fin_timeout_ns = 2 * S,
        .send_queue_max_bytes = 1 << 20, .gate = gate,
        .pool = { .buffers_count = 4, .buffer_bytes = 1024, .loan_max_bytes = 1 << 20 },
        .limits = { .message_max_bytes = 1 << 20, .fragments_max = 100, .head_max_bytes = 4096, .interim_max = 2 },
    };
    memset(side, 0, sizeof *side);
    side->sim = sim_create(seed);
    struct wsr_driver *driver = sim_driver(side->sim);
    assert_int_equal(wsr_worker_create(&side->worker, driver, NULL, &options, true), 0);
    side->sim_ops = driver->ops;
    side->ops = *driver->ops;
    side->ops.wait = wait_side;
    driver->ops = &side->ops;
}

static void close_side(struct side *side)
{
    wsr_worker_free(side->worker);
    /* The opening of a command that was never run. */
    for (unsigned i = 0; i < LINKS_MAX; i++)
        wsr_conn_opening_free(side->links[i].command.subject);
    sim_free(side->sim);
}

static void each_seed(void (*test)(struct pair *pair))
{
    for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++) {
        struct pair pair = { .gate = wsr_gate_create() };
        open_side(&pair.a, pair.gate, seed);
        open_side(&pair.b, pair.gate, seed + 1000000);
        test(&pair);
        wsr_worker_end(pair.a.worker);
        wsr_worker_end(pair.b.worker);
        close_side(&pair.a);
        close_side(&pair.b);
        wsr_gate_destroy(pair.gate);              /* asserts that nobody is left in it */
    }
}

/* Open a link to the last number of each of @addresses: "1" is 10.0.0.1:80, "12" that and then 10.0.0.2:80. */
static void open_link(struct side *side, unsigned index, const char *addresses)
{
    static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
    struct wsr_link *link = &side->links[index];
    struct wsr_opening *opening = calloc(1, sizeof *opening);
    assert_non_null(opening);
    char request[128];
    snprintf(request, sizeof request, "GET /chat HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: %s\r\n\r\n", key);
    opening->request = strdup(request);
    opening->request_bytes = strlen(request);
    assert_int_equal(wsr_handshake_accept(opening->upgrade.offer.accept, key), 0);
    for (; *addresses != '\0'; addresses++) {
        struct wsr_fault why;
        char text[16];
        snprintf(text, sizeof text, "10.0.0.%c:80", *addresses);
        assert_int_equal(wsr_dial_parse(&opening->dial.addresses[opening->dial.addresses_count++], text, &why), 0);
    }
    link->command.subject = opening;
    link->command.kind = WSR_COMMAND_LINK;
    atomic_fetch_add_explicit(&side->worker->live_count, 1, memory_order_relaxed);
    wsr_worker_ask(side->worker, link, WSR_LINK_OPEN);
}

static void push_abort(struct side *side, unsigned index)
{
    struct wsr_chunk *chunk = wsr_slab_take_control(side->worker->host.slab, 1);
    assert_non_null(chunk);
    chunk->command.subject = &side->links[index];
    chunk->command.kind = WSR_COMMAND_ABORT;
    wsr_worker_push(side->worker, &chunk->command);
}

static void push_destroy(struct side *side, unsigned index)
{
    wsr_worker_ask(side->worker, &side->links[index], WSR_LINK_DESTROY);
}

static void note(struct side *side, const struct wsr_event *event)
{
    static const char *const names[] = { [WSR_EVENT_OPEN] = "open", [WSR_EVENT_ERROR] = "error",
                                         [WSR_EVENT_CLOSE] = "close", [WSR_DELIVER_CLOSING] = "closing",
                                         [WSR_DELIVER_GONE] = "gone" };
    unsigned index = (unsigned)((const struct wsr_link *)(const void *)event->socket - side->links);
    size_t at = strlen(side->log);
    snprintf(side->log + at, sizeof side->log - at, "%u %s\n", index, names[event->type]);
    side->last = *event;
}

static void take_events(struct side *side)
{
    struct wsr_ring_spsc *ring = &side->worker->host.deliver.events;
    for (struct wsr_event *event; (event = wsr_ring_spsc_peek(ring)) != NULL;) {
        note(side, event);
        wsr_ring_spsc_take(ring);
    }
    wsr_ring_spsc_release(ring);
}

static void turn(struct side *side, uint64_t ns)
{
    uint64_t until_ns = sim_now(side->sim) + ns;
    while (sim_now(side->sim) < until_ns) {
        assert_true(wsr_worker_turn(side->worker, until_ns) >= 0);
        take_events(side);
    }
}

static void expect(struct side *side, const char *want)
{
    if (strcmp(side->log, want) != 0)
        sim_fail(side->sim, "events:\n%s---- expected were:\n%s", side->log, want);
}

/* A's first holds the address, B's first waits. */
static void begin(struct pair *pair, const char *holder, const char *waiter)
{
    sim_script(pair->a.sim, holder);
    sim_script(pair->b.sim, waiter);
    open_link(&pair->a, 0, "1");
    turn(&pair->a, MS);
    open_link(&pair->b, 0, "1");
    turn(&pair->b, 50 * MS);
    assert_int_equal(sim_connections(pair->a.sim), 1);
    assert_int_equal(sim_connections(pair->b.sim), 0);
    expect(&pair->b, "");
}

/* HS-12 */
static void pass_on(struct pair *pair)
{
    begin(pair, "accept 100; upgrade; close 1000; expect close; fin", OPENS);
    open_link(&pair->a, 1, "1");
    turn(&pair->a, S);
    expect(&pair->a, "0 open\n0 closing\n0 close\n");
    assert_int_equal(sim_connections(pair->a.sim), 1);     /* B's came before it */
    turn(&pair->b, S);
    expect(&pair->b, "0 open\n0 closing\n0 close\n");
    turn(&pair->a, S);
    expect(&pair->a, "0 open\n0 closing\n0 close\n1 open\n1 closing\n1 close\n");
}

static void a_turn_passes_to_another_worker(void **state)
{
    (void)state;
    each_seed(pass_on);
}

/* The holder is gone, and the other worker has not yet seen that its turn has come. */
static void begin_race(struct pair *pair)
{
    begin(pair, "silent", OPENS);
    push_abort(&pair->a, 0);
    turn(&pair->a, S);
    expect(&pair->a, "0 error\n0 close\n");
    assert_int_equal(sim_connections(pair->b.sim), 0);
    /* The command is in B's ring; whatever comes next finds the place inside. */
    assert_true(wsr_worker_has_commands(pair->b.worker));
}

/* Somebody who waits behind B's, to see that the turn is not lost with it. */
static void expect_turn_of_next(struct pair *pair)
{
    assert_int_equal(sim_files_open(pair->b.sim), 0);
    sim_script(pair->a.sim, OPENS);
    turn(&pair->a, S);
    if (strstr(pair->a.log, "1 open\n") == NULL)
        sim_fail(pair->a.sim, "the next had no turn:\n%s", pair->a.log);
}

/* HS-12, F7, CLOSE-32 */
static void abort_at_that_moment(struct pair *pair)
{
    begin_race(pair);
    open_link(&pair->a, 1, "1");
    turn(&pair->a, MS);
    bool is_destroyed = sim_seed(pair->a.sim) % 2 == 0;
    if (is_destroyed)
        push_destroy(&pair->b, 0);
    else
        push_abort(&pair->b, 0);
    turn(&pair->b, S);
    expect(&pair->b, is_destroyed ? "0 gone\n" : "0 error\n0 close\n");
    expect_turn_of_next(pair);
}

/* The same when the end comes from within, between the commands and the timers of a turn. */
static void drain_at_that_moment(struct pair *pair)
{
    begin_race(pair);
    open_link(&pair->a, 1, "1");
    turn(&pair->a, MS);
    struct wsr_conn *conn = pair->b.links[0].conn;
    wsr_conn_abort(conn);
    assert_int_equal(conn->state, WSR_CONN_DRAINING);      /* the command still names it */
    assert_int_equal(conn->ops, WSR_CONN_OP_GATE);
    turn(&pair->b, S);
    expect(&pair->b, "0 error\n0 close\n");
    assert_int_equal(sim_connections(pair->b.sim), 0);
    expect_turn_of_next(pair);
}

/* HS-13: the share of the address is over at that moment: it is tried all the same, as its turn has come. */
static void expire_at_that_moment(struct pair *pair)
{
    sim_script(pair->a.sim, "silent");
    sim_script(pair->b.sim, OPENS);
    open_link(&pair->a, 0, "1");
    turn(&pair->a, MS);
    open_link(&pair->b, 0, "12");
    turn(&pair->b, 50 * MS);
    push_abort(&pair->a, 0);
    turn(&pair->a, S);
    struct wsr_conn *conn = pair->b.links[0].conn;
    wsr_timer_disarm(pair->b.worker->host.wheel, &conn->timer);
    wsr_conn_expired(conn);
    assert_int_equal(conn->ops, WSR_CONN_OP_GATE);
    assert_int_equal(wsr_conn_opening(conn)->dial.next, 0);
    turn(&pair->b, S);
    expect(&pair->b, "0 open\n0 closing\n0 close\n");
    assert_int_equal(sim_connections(pair->b.sim), 1);
}

/* HS-13: or the whole limit is. */
static void time_out_at_that_moment(struct pair *pair)
{
    begin_race(pair);
    open_link(&pair->a, 1, "1");
    turn(&pair->a, MS);
    struct wsr_conn *conn = pair->b.links[0].conn;
    pair->b.worker->host.now_ns = wsr_conn_opening(conn)->dial.deadline_ns;
    wsr_timer_disarm(pair->b.worker->host.wheel, &conn->timer);
    wsr_conn_expired(conn);
    assert_int_equal(conn->state, WSR_CONN_DRAINING);
    turn(&pair->b, S);
    expect(&pair->b, "0 error\n0 close\n");
    assert_int_equal(pair->b.last.system_errno, ETIMEDOUT);
    expect_turn_of_next(pair);
}

static void the_end_of_who_has_just_been_let_through(void **state)
{
    (void)state;
    each_seed(abort_at_that_moment);
    each_seed(drain_at_that_moment);
    each_seed(expire_at_that_moment);
    each_seed(time_out_at_that_moment);
}

/* The worker of the one that has just been let through ends. */
static void end_at_that_moment(struct pair *pair)
{
    begin_race(pair);
    open_link(&pair->a, 1, "1");
    turn(&pair->a, MS);
    wsr_worker_end(pair->b.worker);
    expect_turn_of_next(pair);
}

/* The same within wsr_worker_end(), when no command is run any more. */
static void end_while_it_is_let_through(struct pair *pair)
{
    begin(pair, "silent", OPENS);
    open_link(&pair->a, 1, "1");
    turn(&pair->a, MS);
    pair->b.passes_on = &pair->a;
    wsr_worker_end(pair->b.worker);
    assert_null(pair->b.passes_on);
    assert_int_equal(sim_connections(pair->b.sim), 0);
    expect_turn_of_next(pair);
}

/* A worker ends with one that has its turn, one that waits, and others wait behind them. */
static void end_with_holder(struct pair *pair)
{
    begin(pair, sim_seed(pair->a.sim) % 2 == 0 ? "silent" : "accept", OPENS);
    open_link(&pair->a, 1, "1");
    turn(&pair->a, 50 * MS);
    open_link(&pair->b, 1, "1");
    turn(&pair->b, 50 * MS);
    wsr_worker_end(pair->a.worker);
    assert_int_equal(sim_connections(pair->a.sim), 1);
    turn(&pair->b, S);
    if (strstr(pair->b.log, "0 open\n") == NULL || strstr(pair->b.log, "1 open\n") == NULL)
        sim_fail(pair->b.sim, "they were not let through:\n%s", pair->b.log);
}

static void a_worker_that_ends_holds_nobody_up(void **state)
{
    (void)state;
    each_seed(end_at_that_moment);
    each_seed(end_while_it_is_let_through);
    each_seed(end_with_holder);
}

/* Nothing of it will ever end by itself; one that waits on it, and one that was just let through, are given up too. */
static void break_driver(struct pair *pair)
{
    begin(pair, "silent", OPENS);
    open_link(&pair->a, 1, "1");
    turn(&pair->a, MS);
    sim_break(pair->a.sim, EBADF);
    assert_int_equal(wsr_worker_turn(pair->a.worker, 0), -EBADF);
    wsr_worker_end(pair->a.worker);
    turn(&pair->b, S);
    expect(&pair->b, "0 open\n0 closing\n0 close\n");
}

static void break_driver_of_who_was_let_through(struct pair *pair)
{
    begin(pair, "silent", OPENS);
    sim_break(pair->b.sim, EBADF);
    assert_int_equal(wsr_worker_turn(pair->b.worker, 0), -EBADF);
    push_abort(&pair->a, 0);
    open_link(&pair->a, 1, "1");
    turn(&pair->a, S);
    assert_true(wsr_worker_has_commands(pair->b.worker));
    assert_int_equal(sim_connections(pair->a.sim), 1);
    wsr_worker_end(pair->b.worker);
    expect_turn_of_next(pair);
}

static void a_broken_driver_holds_nobody_up(void **state)
{
    (void)state;
    each_seed(break_driver);
    each_seed(break_driver_of_who_was_let_through);
}

/* HS-12, HS-13: the wait is a part of an address's share; then the next address has its own. */
static void go_on_to_the_next_address(struct pair *pair)
{
    sim_script(pair->a.sim, "silent");
    sim_script(pair->b.sim, OPENS);
    open_link(&pair->a, 0, "1");
    turn(&pair->a, MS);
    open_link(&pair->b, 0, "12");
    uint64_t start_ns = sim_now(pair->b.sim);
    turn(&pair->b, 14 * S);
    expect(&pair->b, "");
    turn(&pair->b, 2 * S);
    expect(&pair->b, "0 open\n0 closing\n0 close\n");
    assert_in_range(sim_logged_ns(pair->b.sim, 0, "request") - start_ns, 15 * S, 15 * S + 50 * MS);
    /* Nor is it still in the line for the first. */
    open_link(&pair->b, 1, "1");
    turn(&pair->b, MS);
    push_abort(&pair->a, 0);
    turn(&pair->a, S);
    turn(&pair->b, S);
    if (strstr(pair->b.log, "1 open\n") == NULL)
        sim_fail(pair->b.sim, "events:\n%s", pair->b.log);
}

/* HS-12: each attempt stands in the line of its own address; one that goes on frees the address behind it. */
static void free_each_address(struct pair *pair)
{
    sim_script(pair->a.sim, "refuse ECONNREFUSED 100");
    sim_script(pair->a.sim, "silent");
    sim_script(pair->b.sim, OPENS);
    open_link(&pair->a, 0, "12");
    turn(&pair->a, MS);
    open_link(&pair->b, 0, "1");
    turn(&pair->b, 50 * MS);
    expect(&pair->b, "");
    turn(&pair->a, S);
    assert_int_equal(sim_connections(pair->a.sim), 2);
    turn(&pair->b, S);
    expect(&pair->b, "0 open\n0 closing\n0 close\n");
    open_link(&pair->b, 1, "2");
    turn(&pair->b, S);
    assert_int_equal(sim_connections(pair->b.sim), 1);
}

/* HS-12, F8: no file for the attempt when the turn has come at last: the next address, and the next in the line. */
static void lack_a_file(struct pair *pair)
{
    sim_script(pair->a.sim, "silent");
    sim_script(pair->b.sim, OPENS);
    open_link(&pair->a, 0, "1");
    turn(&pair->a, MS);
    open_link(&pair->b, 0, "12");
    open_link(&pair->b, 1, "1");
    turn(&pair->b, 50 * MS);
    sim_refuse_open(pair->b.sim, 1, EMFILE);
    push_abort(&pair->a, 0);
    turn(&pair->a, S);
    turn(&pair->b, S);
    assert_int_equal(sim_connections(pair->b.sim), 2);
    if (strstr(pair->b.log, "0 open\n") == NULL || strstr(pair->b.log, "1 open\n") == NULL)
        sim_fail(pair->b.sim, "events:\n%s", pair->b.log);
}

/* The same when it had its turn at once. */
static void lack_a_file_at_once(struct pair *pair)
{
    sim_script(pair->a.sim, "silent");
    sim_script(pair->b.sim, OPENS);
    sim_refuse_open(pair->a.sim, 1, EMFILE);
    open_link(&pair->a, 0, "12");
    turn(&pair->a, MS);
    assert_int_equal(sim_connections(pair->a.sim), 1);
    open_link(&pair->b, 0, "1");
    open_link(&pair->b, 1, "2");
    turn(&pair->b, S);
    expect(&pair->b, "0 open\n0 closing\n0 close\n");
}

static void every_address_has_a_line_of_its_own(void **state)
{
    (void)state;
    each_seed(go_on_to_the_next_address);
    each_seed(free_each_address);
    each_seed(lack_a_file);
    each_seed(lack_a_file_at_once);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_passes_to_another_worker),
        cmocka_unit_test(the_end_of_who_has_just_been_let_through),
        cmocka_unit_test(a_worker_that_ends_holds_nobody_up),
        cmocka_unit_test(a_broken_driver_holds_nobody_up),
        cmocka_unit_test(every_address_has_a_line_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
