/* The turn of a worker, and how the two sides wake each other. */
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conn_tls.h"
#include "simd/simd.h"
#include "thread.h"

#define COMPLETIONS_PER_TURN 256u
#define COMMANDS_PER_TURN 4096u   /* threads that never stop sending must not keep the worker from the kernel */
#define SPINS_PER_CLOCK_READ 32u

static struct wsr_worker *worker_of(struct wsr_conn_host *host)
{
    return wsr_container_of(host, struct wsr_worker, host);
}

static struct wsr_driver *driver_of(struct wsr_worker *w)
{
    return w->host.driver;
}

/* ---- Waking the worker ---- */

static void wake_if(struct wsr_worker *w, _Atomic uint32_t *flag)
{
    /* What was pushed or released before is visible to a worker that has not seen the flag cleared: pairs with the
     * fence in fall_asleep(). One of the two sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(flag, memory_order_relaxed) != 0 &&
        atomic_exchange_explicit(flag, 0, memory_order_relaxed) != 0)
        driver_of(w)->ops->wake(driver_of(w));
}

bool wsr_worker_claim(struct wsr_worker *w)
{
    /* Relaxed: see wsr_worker_is_at_hand(). */
    uint64_t mine = wsr_thread_number(), turner = atomic_load_explicit(&w->turner, memory_order_relaxed);
    if (turner == 0)
        atomic_store_explicit(&w->turner, mine, memory_order_relaxed);
    return turner == 0 || turner == mine;
}

bool wsr_worker_is_at_hand(const struct wsr_worker *w)
{
    /* Relaxed: who finds its own number wrote it, and the flag too. Whoever waits elsewhere is to be woken, and that is
     * what a command does. */
    return w->is_inline && atomic_load_explicit(&w->turner, memory_order_relaxed) == wsr_thread_number() &&
           atomic_load_explicit(&w->asleep, memory_order_relaxed) == 0 && !wsr_worker_has_commands(w);
}

static void wake_host(struct wsr_conn_host *host)
{
    wake_if(worker_of(host), &worker_of(host)->asleep);
}

void wsr_worker_push(struct wsr_worker *w, struct wsr_command *command)
{
    wsr_ring_mpsc_push(&w->host.commands, &command->node);
    wake_if(w, &w->asleep);
}

void wsr_worker_ask(struct wsr_worker *w, struct wsr_link *link, enum wsr_link_wish wish)
{
    /* Who finds no other wish pushes the command for all that come until the worker takes them. Release: what was done
     * before is seen by it; pairs with the exchange in fulfil(). */
    if (atomic_fetch_or_explicit(&link->wishes, (uint8_t)wish, memory_order_acq_rel) == 0)
        wsr_worker_push(w, &link->command);
}

void wsr_worker_consumed(struct wsr_worker *w)
{
    wake_if(w, &w->starving);
}

void wsr_worker_stop(struct wsr_worker *w)
{
    /* Pairs with the acquire loads in wsr_worker_run() and has_work(). */
    atomic_store_explicit(&w->stopping, 1, memory_order_release);
    driver_of(w)->ops->wake(driver_of(w));
}

bool wsr_worker_has_commands(const struct wsr_worker *w)
{
    return !wsr_ring_mpsc_is_empty(&w->host.commands);
}

/* Does something rest that the consumer has made room for? */
static bool has_room_again(const struct wsr_worker *w)
{
    const struct wsr_conn_host *host = &w->host;
    if (host->resting_first == NULL && host->gone_first == NULL)
        return false;
    /* Pairs with the release store in wsr_ring_spsc_release(). */
    return atomic_load_explicit(&host->deliver.events.released, memory_order_acquire) !=
               host->deliver.events.reclaimed ||
           wsr_pool_has_returned(host->pool);
}

static bool has_work(const struct wsr_worker *w)
{
    return wsr_worker_has_commands(w) || has_room_again(w) ||
           atomic_load_explicit(&w->stopping, memory_order_acquire) != 0;
}

bool wsr_worker_has_work(const struct wsr_worker *w)
{
    return has_work(w) || w->host.unsent_first != NULL || w->host.goes_on;
}

/* From here to wake_up(), whoever pushes a command or gives memory back also wakes the driver. Returns whether there
 * is work already. */
static bool fall_asleep(struct wsr_worker *w)
{
    atomic_store_explicit(&w->asleep, 1, memory_order_relaxed);
    if (w->host.resting_first != NULL || w->host.gone_first != NULL)
        atomic_store_explicit(&w->starving, 1, memory_order_relaxed);
    /* The flags are visible before the last look; pairs with the fence in wake_if(). */
    atomic_thread_fence(memory_order_seq_cst);
    return has_work(w);
}

static void wake_up(struct wsr_worker *w)
{
    atomic_store_explicit(&w->asleep, 0, memory_order_relaxed);
    atomic_store_explicit(&w->starving, 0, memory_order_relaxed);
}

bool wsr_worker_expect_wake(struct wsr_worker *w)
{
    return !fall_asleep(w) && !wsr_worker_has_work(w);
}

/* ---- Waiting ---- */

/* Watch from user space until there is work or @until_ns has come. Returns whether there is work. */
static bool spin(struct wsr_worker *w, uint64_t until_ns)
{
    struct wsr_driver *driver = driver_of(w);
    for (;;) {
        for (unsigned i = 0; i < SPINS_PER_CLOCK_READ; i++) {
            if (driver->ops->ready(driver) || has_work(w))
                return true;
            wsr_cpu_relax();
        }
        if (driver->ops->now(driver) >= until_ns)
            return false;
    }
}

static int sleep_in_driver(struct wsr_worker *w, uint64_t deadline_ns)
{
    struct wsr_driver *driver = driver_of(w);
    if (fall_asleep(w))
        deadline_ns = 0;
    int count = driver->ops->wait(driver, w->completions, COMPLETIONS_PER_TURN, deadline_ns);
    wake_up(w);
    return count;
}

static int await(struct wsr_worker *w, uint64_t deadline_ns)
{
    struct wsr_driver *driver = driver_of(w);
    if (deadline_ns != 0 && w->options.wait == WSR_WAIT_SPIN) {
        /* What was queued leaves before the watch begins. */
        int count = driver->ops->wait(driver, w->completions, COMPLETIONS_PER_TURN, 0);
        if (count != 0)
            return count;
        spin(w, deadline_ns);
        deadline_ns = 0;
    } else if (deadline_ns != 0 && w->options.wait == WSR_WAIT_ADAPTIVE) {
        int count = driver->ops->wait(driver, w->completions, COMPLETIONS_PER_TURN, 0);
        if (count != 0)
            return count;
        uint64_t now_ns = w->host.now_ns;
        uint64_t until_ns = w->options.spin_ns >= WSR_NEVER - now_ns ? WSR_NEVER : now_ns + w->options.spin_ns;
        if (spin(w, until_ns < deadline_ns ? until_ns : deadline_ns) || until_ns >= deadline_ns)
            deadline_ns = 0;
    }
    if (deadline_ns == 0)
        return driver->ops->wait(driver, w->completions, COMPLETIONS_PER_TURN, 0);
    return sleep_in_driver(w, deadline_ns);
}

/* ---- One turn ---- */

static void run_chunk_command(struct wsr_worker *w, struct wsr_link *link, struct wsr_chunk *chunk)
{
    struct wsr_conn *conn = link->conn;
    uint8_t kind = chunk->command.kind;
    if (conn != NULL && kind == WSR_COMMAND_SEND) {
        wsr_conn_send(conn, chunk);
    } else if (conn != NULL && kind == WSR_COMMAND_SEND_DEFLATED) {
        wsr_conn_send_deflated(conn, chunk);
    } else if (conn != NULL && kind == WSR_COMMAND_CLOSE) {
        wsr_conn_close(conn, chunk);
    } else if (conn != NULL && kind == WSR_COMMAND_FAREWELL) {
        wsr_conn_detach(conn, chunk);
    } else if (conn != NULL && (kind == WSR_COMMAND_PING || kind == WSR_COMMAND_PING_TIMED)) {
        wsr_conn_ping(conn, chunk, kind == WSR_COMMAND_PING_TIMED);
    } else {
        wsr_slab_give_all(w->host.slab, chunk);
        if (conn != NULL && kind == WSR_COMMAND_PAUSE)
            wsr_conn_pause(conn);
        else if (conn != NULL && kind == WSR_COMMAND_RESUME)
            wsr_conn_resume(conn);
        else if (conn != NULL)
            wsr_conn_abort(conn);
        else if (kind == WSR_COMMAND_FAREWELL)
            wsr_conn_tell_gone(&w->host, link);
    }
}

static void fulfil(struct wsr_worker *w, struct wsr_link *link)
{
    /* The command is free again. Acquire: pairs with the release in wsr_worker_ask(). */
    uint8_t wishes = atomic_exchange_explicit(&link->wishes, 0, memory_order_acq_rel);
    if (wishes & WSR_LINK_OPEN)
        wsr_conn_open(&w->host, link);
    if ((wishes & WSR_LINK_WRITABLE) && link->conn != NULL)
        wsr_conn_want_writable(link->conn);
    if (!(wishes & WSR_LINK_DESTROY))
        return;
    if (wishes != WSR_LINK_DESTROY)
        wsr_worker_ask(w, link, WSR_LINK_DESTROY);     /* behind all that was asked for since the other wish */
    else if (link->conn != NULL)
        wsr_conn_detach(link->conn, NULL);
    else
        wsr_conn_tell_gone(&w->host, link);
}

static void run_command(struct wsr_worker *w, struct wsr_command *command)
{
    switch ((enum wsr_command_kind)command->kind) {
    case WSR_COMMAND_SEND:
    case WSR_COMMAND_SEND_DEFLATED:
    case WSR_COMMAND_CLOSE:
    case WSR_COMMAND_ABORT:
    case WSR_COMMAND_PING:
    case WSR_COMMAND_PING_TIMED:
    case WSR_COMMAND_PAUSE:
    case WSR_COMMAND_RESUME:
    case WSR_COMMAND_FAREWELL:
        run_chunk_command(w, command->subject, wsr_container_of(command, struct wsr_chunk, command));
        break;
    case WSR_COMMAND_LINK:
        fulfil(w, wsr_container_of(command, struct wsr_link, command));
        break;
    case WSR_COMMAND_LOOKED_UP:
        wsr_conn_looked_up(command->subject);
        break;
    case WSR_COMMAND_ADMITTED:
        wsr_conn_admitted(command->subject);
        break;
    }
}

static void run_commands(struct wsr_worker *w)
{
    w->host.has_more_commands = false;
    for (unsigned i = 0; i < COMMANDS_PER_TURN; i++) {
        struct wsr_ring_node *node = wsr_ring_mpsc_pop(&w->host.commands);
        if (node == NULL)
            return;
        run_command(w, wsr_container_of(node, struct wsr_command, node));
    }
    w->host.has_more_commands = w->host.goes_on = true;
}

static void run_timers(struct wsr_worker *w)
{
    struct wsr_timer *timer;
    while ((timer = wsr_timer_expire(w->host.wheel, w->host.now_ns)) != NULL) {
        if (timer == &w->host.deflate_timer) {
            wsr_conn_rest_deflate(&w->host);
            continue;
        }
        wsr_conn_expired(wsr_container_of(timer, struct wsr_conn, timer));
        /* The kernel gets what that has begun in the next turn, for which nobody may wait elsewhere. */
        w->host.goes_on = true;
    }
}

static void tell_gone_again(struct wsr_conn_host *host)
{
    while (host->gone_first != NULL && wsr_deliver_has_room(&host->deliver, 1)) {
        struct wsr_link *link = host->gone_first;
        host->gone_first = link->gone_next;
        link->conn = NULL;
        wsr_conn_tell_gone(host, link);
    }
}

static void complete(struct wsr_worker *w, const struct wsr_completion *completion)
{
    uint32_t slot = (uint32_t)completion->token;
    assert(slot < w->host.slots_used);
    struct wsr_conn *conn = &w->host.slots[slot];
    /* Draining waits for every operation, so this is a check of our own: a completion never outlives its connection. */
    assert((conn->generation & 0xFFFFFF) == ((completion->token >> 32) & 0xFFFFFF));
    wsr_conn_completed(conn, (enum wsr_conn_op)(completion->token >> 56), completion);
}

/* Publish the events of the turn and wake the consumer if it sleeps. Returns whether there were any. */
static bool publish(struct wsr_worker *w)
{
    if (!wsr_ring_spsc_publish(&w->host.deliver.events))
        return false;
    if (w->is_inline)
        return true;
    /* The events are visible before the look at the flag; pairs with the fence in fall_asleep() of poll.c. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&w->consumer_asleep, memory_order_relaxed) != 0 &&
        atomic_exchange_explicit(&w->consumer_asleep, 0, memory_order_relaxed) != 0) {
        /* Only an overflow of the counter could fail, and then it is readable anyway. */
        if (eventfd_write(w->consumer_eventfd, 1) != 0)
            assert(errno == EAGAIN);
    }
    return true;
}

/* The driver is of no more use: the consumer is told, whatever it waits for. */
static void break_down(struct wsr_worker *w, int error)
{
    publish(w);
    /* Pairs with the acquire loads in poll.c. */
    atomic_store_explicit(&w->error, error, memory_order_release);
    if (w->consumer_eventfd >= 0 && eventfd_write(w->consumer_eventfd, 1) != 0)
        assert(errno == EAGAIN);
}

static void read_clock(struct wsr_worker *w)
{
    w->host.now_ns = w->host.deliver.now_ns = driver_of(w)->ops->now(driver_of(w));
}

int wsr_worker_turn(struct wsr_worker *w, uint64_t deadline_ns)
{
    struct wsr_conn_host *host = &w->host;
    if (w->is_inline)
        wake_up(w);
    read_clock(w);
    host->receives_started = 0;
    host->goes_on = false;
    /* First what the consumer is done with, then what it asked for meanwhile: a failing Close that waits for the
     * handlers of earlier messages then finds their answers in the queue (RECV-12). */
    if (w->is_inline || host->resting_first != NULL || host->gone_first != NULL ||
        wsr_deliver_wants_reclaim(&host->deliver))
        wsr_deliver_reclaim(&host->deliver);
    if (w->is_inline)
        wsr_ring_spsc_rewind(&host->deliver.events);
    wsr_pool_collect(host->pool);
    run_commands(w);
    tell_gone_again(host);
    wsr_conn_resume_resting(host);
    wsr_conn_flush_unsent(host);
    bool has_told = publish(w);
    uint64_t timer_ns = wsr_timer_next(host->wheel);
    if (has_told || host->goes_on)
        deadline_ns = 0;
    int count = await(w, timer_ns < deadline_ns ? timer_ns : deadline_ns);
    wsr_conn_count(&w->turns, 1);
    if (count < 0) {
        break_down(w, count);
        return count;
    }
    wsr_conn_count(&w->completions_count, (uint64_t)count);
    read_clock(w);
    for (int i = 0; i < count; i++)
        complete(w, &w->completions[i]);
    /* After what has come: an answer that waited while this thread was busy elsewhere is no late answer. */
    if (timer_ns <= host->now_ns)
        run_timers(w);
    publish(w);
    return count;
}

/* ---- Life ---- */

static void on_freed(struct wsr_conn_host *host)
{
    /* Read by wsr_socket_open() of any thread, which only wants the number. */
    atomic_fetch_sub_explicit(&worker_of(host)->live_count, 1, memory_order_relaxed);
}

/* Address space, touched as it is used; zero at first. NULL without memory. */
static void *map_slots(uint32_t count, size_t bytes)
{
    void *slots = mmap(NULL, count * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return slots != MAP_FAILED ? slots : NULL;
}

static void unmap_slots(void *slots, uint32_t count, size_t bytes)
{
    if (slots != NULL)
        munmap(slots, count * bytes);
}

static int make_memory(struct wsr_worker *w)
{
    struct wsr_conn_host *host = &w->host;
    const struct wsr_worker_options *options = &w->options;
    host->slots = map_slots(options->sockets_max, sizeof *host->slots);
    host->tls_slots = map_slots(options->sockets_max, sizeof *host->tls_slots);
    host->deflate_slots = map_slots(options->sockets_max, sizeof *host->deflate_slots);
    if (host->slots == NULL || host->tls_slots == NULL || host->deflate_slots == NULL)
        return WSR_ERR_MEMORY;
    host->slots_count = options->sockets_max;
    w->completions = malloc(COMPLETIONS_PER_TURN * sizeof *w->completions);
    host->wheel = wsr_timer_wheel_create(host->driver->ops->now(host->driver));
    host->slab = wsr_slab_create(options->send_pool_bytes);
    if (w->completions == NULL || host->wheel == NULL || host->slab == NULL ||
        wsr_deliver_init(&host->deliver, options->events_count) != 0)
        return WSR_ERR_MEMORY;
    if (!w->is_inline) {
        w->consumer_eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (w->consumer_eventfd < 0)
            return WSR_ERR_SYSTEM;
    }
    struct wsr_pool_options pool_options = options->pool;
    pool_options.owner = w;
    int rc = wsr_pool_create(&host->pool, host->driver, &pool_options);
    host->deliver.pool = host->pool;
    return rc;
}

int wsr_worker_create(struct wsr_worker **worker, struct wsr_driver *driver, struct wsr_resolver *resolver,
                      const struct wsr_worker_options *options, bool is_inline)
{
    struct wsr_worker *w = aligned_alloc(WSR_CACHE_LINE, sizeof *w);
    if (w == NULL)
        return WSR_ERR_MEMORY;
    memset(w, 0, sizeof *w);
    w->options = *options;
    w->is_inline = is_inline;
    w->consumer_eventfd = -1;
    w->host.driver = driver;
    w->host.resolver = resolver;
    w->host.gate = options->gate;
    w->host.sessions = (struct wsr_session_shared){ .limits = options->limits, .memory = &wsr_conn_session_memory,
                                                    .memory_context = &w->host, .simd = wsr_simd() };
    w->host.tls_shared = (struct wsr_tls_shared){ .take = wsr_conn_take_record, .release = wsr_conn_release_record,
                                                  .context = &w->host };
    w->host.tls_records = options->tls_records;
    w->host.deflate.level = options->deflate_level;
    w->host.deflate_idle_ns = options->deflate_idle_ns;
    w->host.deflate_min_bytes[WSR_LINK_DEFLATES] = options->deflate_min_bytes;
    w->host.deflate_min_bytes[WSR_LINK_DEFLATES_ALONE] = options->deflate_alone_min_bytes;
    w->host.open_timeout_ns = options->open_timeout_ns;
    w->host.close_timeout_ns = options->close_timeout_ns;
    w->host.fin_timeout_ns = options->fin_timeout_ns;
    w->host.send_queue_max_bytes = options->send_queue_max_bytes;
    wsr_entropy_take(&w->host.entropy, &w->host.ping_mark, sizeof w->host.ping_mark);
    w->host.wake = wake_host;
    w->host.freed = on_freed;
    wsr_ring_mpsc_init(&w->host.commands);
    int rc = make_memory(w);
    if (rc != 0) {
        wsr_worker_free(w);
        return rc;
    }
    w->owns_driver = true;
    *worker = w;
    return 0;
}

static bool is_broken(const struct wsr_worker *w)
{
    /* The owner's thread reads what it wrote itself. */
    return atomic_load_explicit(&w->error, memory_order_relaxed) != 0;
}

/* Commands that nobody will run: their chunks may come from malloc. */
static void discard_commands(struct wsr_worker *w)
{
    struct wsr_ring_node *node;
    while ((node = wsr_ring_mpsc_pop(&w->host.commands)) != NULL) {
        struct wsr_command *command = wsr_container_of(node, struct wsr_command, node);
        if (command->kind >= WSR_COMMAND_SEND && command->kind <= WSR_COMMAND_FAREWELL)
            wsr_slab_give_all(w->host.slab, wsr_container_of(command, struct wsr_chunk, command));
        else if (command->kind == WSR_COMMAND_LOOKED_UP && !is_broken(w))
            wsr_conn_looked_up(command->subject);
        else if (command->kind == WSR_COMMAND_ADMITTED && !is_broken(w))
            wsr_conn_admitted(command->subject);
    }
}

static uint32_t for_each_live(struct wsr_worker *w, void (*act)(struct wsr_conn *conn))
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->host.slots_used; i++) {
        if (w->host.slots[i].state != WSR_CONN_FREE) {
            count++;
            act(&w->host.slots[i]);
        }
    }
    return count;
}

void wsr_worker_end(struct wsr_worker *w)
{
    struct wsr_driver *driver = driver_of(w);
    if (!is_broken(w)) {
        do
            run_commands(w);
        while (w->host.has_more_commands);
        for_each_live(w, wsr_conn_farewell);
        wsr_conn_flush_unsent(&w->host);
        /* What the kernel takes at once is sent; the rest is given up with the connection. */
        wsr_worker_turn(w, 0);
    }
    w->host.is_ending = true;
    while (!is_broken(w) && for_each_live(w, wsr_conn_kill) > 0) {
        wsr_conn_resume_resting(&w->host);
        wsr_conn_flush_unsent(&w->host);
        discard_commands(w);
        int count = driver->ops->wait(driver, w->completions, COMPLETIONS_PER_TURN,
                                      driver->ops->now(driver) + WSR_NS_PER_MS);
        if (count < 0)
            break_down(w, count);
        for (int i = 0; i < count; i++)
            complete(w, &w->completions[i]);
        read_clock(w);
        run_timers(w);
    }
    /* What a broken driver leaves behind comes to no end of its own, and nobody shall wait for it. */
    for_each_live(w, wsr_conn_leave_gate);
    discard_commands(w);
}

void wsr_worker_free(struct wsr_worker *w)
{
    /* Not in wsr_worker_end(): whoever stops the worker may still be about to wake it. */
    if (w->owns_driver)
        driver_of(w)->ops->destroy(driver_of(w));
    if (w->host.pool != NULL)
        wsr_pool_lose_driver(w->host.pool);
    /* Only a broken driver leaves some behind. */
    for_each_live(w, wsr_conn_forget);
    if (w->host.pool != NULL)
        wsr_pool_destroy(w->host.pool);
    if (w->host.slab != NULL)
        wsr_slab_destroy(w->host.slab);
    if (w->host.wheel != NULL)
        wsr_timer_wheel_destroy(w->host.wheel);
    unmap_slots(w->host.slots, w->options.sockets_max, sizeof *w->host.slots);
    unmap_slots(w->host.tls_slots, w->options.sockets_max, sizeof *w->host.tls_slots);
    unmap_slots(w->host.deflate_slots, w->options.sockets_max, sizeof *w->host.deflate_slots);
    wsr_deflate_shared_free(&w->host.deflate);
    wsr_tls_ciphers_free(w->host.tls_shared.ciphers);
    if (w->consumer_eventfd >= 0)
        close(w->consumer_eventfd);
    wsr_deliver_free(&w->host.deliver);
    free(w->completions);
    free(w);
}

void wsr_worker_run(struct wsr_worker *w)
{
    if (w->options.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)w->options.cpu, &set);
        /* A CPU that was taken away meanwhile: run where the kernel puts the thread. */
        (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    }
    while (atomic_load_explicit(&w->stopping, memory_order_acquire) == 0) {
        if (wsr_worker_turn(w, WSR_NEVER) < 0)
            break;
    }
    wsr_worker_end(w);
}
