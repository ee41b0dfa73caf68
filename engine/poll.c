/* Taking events: where a socket's state changes, and what is no longer to be told is dropped. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "blob.h"
#include "error.h"
#include "socket.h"

#define SPINS_PER_CLOCK_READ 32u
#define TURNS_WITHOUT_EVENT_MAX 64u

/* What taking an event amounts to. */
enum taking { TAKE, DROP, CUT };

static enum wsr_ready_state state_of(const struct wsr_socket *socket)
{
    return wsr_socket_ready_state(socket);
}

/* Would taking @event change the readyState that earlier events of the same array are read with? */
static bool is_cut(const struct wsr_consumer *consumer, const struct wsr_socket *socket, const struct wsr_event *event)
{
    if (socket->batch != consumer->batch || event->type == WSR_EVENT_MESSAGE || event->type == WSR_EVENT_WRITABLE ||
        event->type == WSR_EVENT_PONG)
        return false;
    return !((event->type == WSR_EVENT_ERROR || event->type == WSR_EVENT_CLOSE) && state_of(socket) == WSR_CLOSED);
}

/* The task of @event: change the state, say whether the application is told. */
static enum taking take(struct wsr_consumer *consumer, const struct wsr_event *event)
{
    struct wsr_socket *socket = event->socket;
    if (WSR_LIKELY(event->type == WSR_EVENT_MESSAGE)) {
        if (WSR_UNLIKELY(state_of(socket) != WSR_OPEN || socket->is_destroyed))
            return DROP;                                /* MSG-05, CLOSE-14 */
        socket->batch = consumer->batch;
        return TAKE;
    }
    if (event->type == WSR_DELIVER_GONE) {
        wsr_socket_free(consumer->engine, socket);
        return DROP;
    }
    if (socket->is_destroyed)
        return DROP;
    if (is_cut(consumer, socket, event))
        return CUT;
    bool is_told = true;
    switch (event->type) {
    case WSR_EVENT_OPEN:
        is_told = wsr_socket_enter(socket, WSR_CONNECTING, WSR_OPEN);   /* EVT-19 */
        socket->is_agreed = is_told;                                    /* EVT-05 */
        break;
    case WSR_DELIVER_CLOSING:
        wsr_socket_enter(socket, WSR_OPEN, WSR_CLOSING);
        is_told = false;
        break;
    case WSR_EVENT_ERROR:
    case WSR_EVENT_CLOSE:
        /* CONNECTING and OPEN fail, CLOSING ends; another thread may be closing meanwhile. */
        for (unsigned from = WSR_CONNECTING; from < WSR_CLOSED; from++)
            wsr_socket_enter(socket, (enum wsr_ready_state)from, WSR_CLOSED);
        socket->has_failed |= event->type == WSR_EVENT_ERROR;
        break;
    default:
        is_told = state_of(socket) == WSR_OPEN;
        break;
    }
    if (is_told)
        socket->batch = consumer->batch;
    return is_told ? TAKE : DROP;
}

static struct wsr_ring_spsc *ring_of(const struct wsr_consumer *consumer)
{
    return &consumer->worker->host.deliver.events;
}

static void next_turn(struct wsr_consumer *consumer)
{
    uint32_t turn = atomic_load_explicit(&consumer->turn, memory_order_relaxed);
    /* A number that getters compare; one writer, no order. */
    atomic_store_explicit(&consumer->turn, turn + 1, memory_order_relaxed);
}

/* close() before open (F7): whatever became of the connection meanwhile, the application sees a failed one. */
static struct wsr_event never_opened(const struct wsr_event *close, uint8_t type)
{
    struct wsr_event event = { .type = type, .socket = close->socket, .received_ns = close->received_ns,
                               .stage = WSR_STAGE_UPGRADE, .text = "closed by the application before it was open" };
    if (type == WSR_EVENT_CLOSE)
        event.code = 1006;
    return event;
}

/* Messages of one socket in a row, from the next event on, which is one of them and was found to be told. Closing and
 * destroying are calls of a moment; what they are to stop is what is taken after they have returned. */
static uint32_t take_run(struct wsr_ring_spsc *ring, struct wsr_event *events, uint32_t events_max)
{
    const struct wsr_event *slot = wsr_ring_spsc_peek(ring);
    const struct wsr_socket *socket = slot->socket;
    enum wsr_binary_type binary_type = wsr_socket_binary_type(socket);
    uint64_t readable = wsr_ring_spsc_readable(ring);
    uint32_t most = readable < events_max ? (uint32_t)readable : events_max;
    uint32_t count = 0;
    do {
        events[count] = *slot;
        if (events[count].kind == WSR_BINARY)
            wsr_blob_shape(&events[count], binary_type);
        slot = wsr_ring_spsc_peek_at(ring, ++count);
    } while (count < most && slot->type == WSR_EVENT_MESSAGE && slot->socket == socket);
    wsr_ring_spsc_take_many(ring, count);
    return count;
}

static uint32_t take_events(struct wsr_consumer *consumer, struct wsr_event *events, uint32_t events_max)
{
    struct wsr_ring_spsc *ring = ring_of(consumer);
    const struct wsr_event *slot = NULL;
    uint32_t count = 0;
    consumer->batch++;
    next_turn(consumer);
    while (count < events_max && (slot = wsr_ring_spsc_peek(ring)) != NULL) {
        enum taking taking = take(consumer, slot);
        if (taking == CUT)
            break;
        if (taking == TAKE && WSR_LIKELY(slot->type == WSR_EVENT_MESSAGE)) {
            count += take_run(ring, events + count, events_max - count);
            continue;
        }
        struct wsr_socket *socket = slot->socket;
        if (taking == TAKE && slot->type == WSR_EVENT_CLOSE && !socket->is_agreed && !socket->has_failed) {
            socket->has_failed = true;
            events[count++] = never_opened(slot, WSR_EVENT_ERROR);
            continue;
        }
        if (taking == TAKE) {
            bool is_rewritten = slot->type == WSR_EVENT_CLOSE && !socket->is_agreed && slot->code != 1006;
            events[count++] = is_rewritten ? never_opened(slot, WSR_EVENT_CLOSE) : *slot;
        }
        wsr_ring_spsc_take(ring);
    }
    if (count > 0 && wsr_ring_spsc_peek(ring) == NULL)
        events[count - 1].flags |= WSR_EVENT_LAST;
    return count;
}

static uint64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * WSR_NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t deadline_after(uint64_t now_ns, uint64_t timeout_ns)
{
    return timeout_ns >= WSR_NEVER - now_ns ? WSR_NEVER : now_ns + timeout_ns;
}

static bool is_broken(const struct wsr_worker *worker)
{
    /* Pairs with the release store in break_down() of worker.c. */
    return atomic_load_explicit(&worker->error, memory_order_acquire) != 0;
}

static int refuse_broken(const struct wsr_worker *worker)
{
    return wsr_error_set(WSR_ERR_SYSTEM, "the kernel ring failed with errno %d; destroy the engine and make a new one",
                         -atomic_load_explicit(&worker->error, memory_order_relaxed));
}

/* ---- Inline ---- */

static int poll_inline(struct wsr_consumer *consumer, struct wsr_event *events, uint32_t events_max,
                       uint64_t timeout_ns)
{
    struct wsr_worker *worker = consumer->worker;
    struct wsr_driver *driver = worker->host.driver;
    /* While events wait, the kernel is asked only when there is something to give it. */
    if (wsr_ring_spsc_peek(ring_of(consumer)) != NULL && !wsr_worker_has_commands(worker) &&
        worker->host.unsent_first == NULL) {
        uint32_t count = take_events(consumer, events, events_max);
        if (count > 0)
            return (int)count;
        if (wsr_ring_spsc_release(ring_of(consumer)))
            wsr_worker_consumed(worker);
    }
    uint64_t deadline_ns = timeout_ns == 0 ? 0 : deadline_after(driver->ops->now(driver), timeout_ns);
    for (unsigned turns = 1;; turns++) {
        bool has_events = wsr_ring_spsc_peek(ring_of(consumer)) != NULL;
        int completions = wsr_worker_turn(worker, has_events ? 0 : deadline_ns);
        if (completions < 0)
            return refuse_broken(worker);
        uint32_t count = take_events(consumer, events, events_max);
        if (count > 0)
            return (int)count;
        if (wsr_ring_spsc_release(ring_of(consumer)))
            wsr_worker_consumed(worker);
        if (deadline_ns == WSR_NEVER || (deadline_ns != 0 && driver->ops->now(driver) < deadline_ns))
            continue;
        deadline_ns = 0;
        /* Who waits elsewhere is told "nothing" only when nothing is left to do, within reason: a server may go on
         * sending what makes no events, and then wsr_engine_timeout() says 0. */
        if (turns < TURNS_WITHOUT_EVENT_MAX && (completions > 0 || wsr_worker_has_work(worker)))
            continue;
        if (consumer->is_watched && !wsr_worker_expect_wake(worker) && turns < TURNS_WITHOUT_EVENT_MAX)
            continue;
        return 0;
    }
}

/* ---- With workers ---- */

/* Announce that the next publication is to write the eventfd. Returns false when events came meanwhile, or the end. */
static bool fall_asleep(struct wsr_consumer *consumer)
{
    struct wsr_worker *worker = consumer->worker;
    eventfd_t count;
    /* EAGAIN when it was not signalled. */
    (void)!eventfd_read(worker->consumer_eventfd, &count);
    atomic_store_explicit(&worker->consumer_asleep, 1, memory_order_relaxed);
    /* The flag is visible before the last look; pairs with the fence in publish() of worker.c. */
    atomic_thread_fence(memory_order_seq_cst);
    if (wsr_ring_spsc_peek(ring_of(consumer)) == NULL && !is_broken(worker))
        return true;
    atomic_store_explicit(&worker->consumer_asleep, 0, memory_order_relaxed);
    return false;
}

static void sleep_until(struct wsr_consumer *consumer, uint64_t deadline_ns)
{
    struct pollfd fd = { .fd = consumer->worker->consumer_eventfd, .events = POLLIN };
    struct timespec timeout;
    if (deadline_ns != WSR_NEVER) {
        uint64_t now_ns = clock_now();
        uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        timeout.tv_sec = (time_t)(left_ns / WSR_NS_PER_S);
        timeout.tv_nsec = (long)(left_ns % WSR_NS_PER_S);
    }
    ppoll(&fd, 1, deadline_ns == WSR_NEVER ? NULL : &timeout, NULL);
    atomic_store_explicit(&consumer->worker->consumer_asleep, 0, memory_order_relaxed);
}

/* Watch the ring from user space. Returns whether events came before @until_ns. */
static bool spin(struct wsr_consumer *consumer, uint64_t until_ns)
{
    for (;;) {
        for (unsigned i = 0; i < SPINS_PER_CLOCK_READ; i++) {
            if (wsr_ring_spsc_peek(ring_of(consumer)) != NULL)
                return true;
            wsr_cpu_relax();
        }
        if (clock_now() >= until_ns || is_broken(consumer->worker))
            return false;
    }
}

static void await_events(struct wsr_consumer *consumer, uint64_t deadline_ns)
{
    const struct wsr_worker_options *options = &consumer->worker->options;
    if (options->wait == WSR_WAIT_SPIN) {
        spin(consumer, deadline_ns);
        return;
    }
    if (options->wait == WSR_WAIT_ADAPTIVE) {
        uint64_t until_ns = deadline_after(clock_now(), options->spin_ns);
        if (spin(consumer, until_ns < deadline_ns ? until_ns : deadline_ns))
            return;
    }
    if (fall_asleep(consumer))
        sleep_until(consumer, deadline_ns);
}

static int poll_worker(struct wsr_consumer *consumer, struct wsr_event *events, uint32_t events_max,
                       uint64_t timeout_ns)
{
    uint64_t deadline_ns = timeout_ns == 0 ? 0 : deadline_after(clock_now(), timeout_ns);
    for (;;) {
        uint32_t count = take_events(consumer, events, events_max);
        if (count > 0)
            return (int)count;
        if (wsr_ring_spsc_release(ring_of(consumer)))
            wsr_worker_consumed(consumer->worker);
        if (is_broken(consumer->worker))
            return refuse_broken(consumer->worker);
        if (deadline_ns == 0 || (deadline_ns != WSR_NEVER && clock_now() >= deadline_ns)) {
            if (consumer->is_watched && !fall_asleep(consumer))
                continue;
            return 0;
        }
        await_events(consumer, deadline_ns);
    }
}

/* ---- Public ---- */

static int check_consumer(struct wsr_engine *engine, uint32_t ring, struct wsr_consumer **consumer)
{
    if (engine == NULL || ring >= engine->rings_count)
        return wsr_error_set(WSR_ERR_ARGUMENT, "there is no ring %u; rings are numbered from 0 to %u", ring,
                             engine == NULL ? 0 : engine->rings_count - 1);
    struct wsr_consumer *found = &engine->consumers[ring];
    if (found->is_busy)
        return wsr_error_set(WSR_ERR_BUSY, "ring %u is polled inside one of its own handlers; return from it first",
                             ring);
    if (engine->is_inline && !wsr_worker_claim(found->worker))
        return wsr_error_set(WSR_ERR_THREAD, "an inline engine is polled by the thread that polled it first");
    *consumer = found;
    return 0;
}

static int poll_some(struct wsr_engine *engine, struct wsr_consumer *consumer, struct wsr_event *events,
                     uint32_t events_max, uint64_t timeout_ns)
{
    /* Everything lent by the poll before goes back. */
    if (wsr_ring_spsc_release(ring_of(consumer)))
        wsr_worker_consumed(consumer->worker);
    return engine->is_inline ? poll_inline(consumer, events, events_max, timeout_ns)
                             : poll_worker(consumer, events, events_max, timeout_ns);
}

int wsr_poll(struct wsr_engine *engine, uint32_t ring, struct wsr_event *events, uint32_t events_max,
             uint64_t timeout_ns)
{
    struct wsr_consumer *consumer;
    /* First, as the next check makes this thread the consumer. */
    if (events == NULL || events_max == 0)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wsr_poll needs room for at least one event");
    int rc = check_consumer(engine, ring, &consumer);
    if (rc != 0)
        return rc;
    return poll_some(engine, consumer, events, events_max < INT32_MAX ? events_max : INT32_MAX, timeout_ns);
}

int wsr_dispatch(struct wsr_engine *engine, uint32_t ring, uint32_t events_max, uint64_t timeout_ns)
{
    struct wsr_consumer *consumer;
    if (events_max == 0)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wsr_dispatch needs events_max of at least 1");
    int rc = check_consumer(engine, ring, &consumer);
    if (rc != 0)
        return rc;
    struct wsr_event event;
    int count = 0;
    int taken = poll_some(engine, consumer, &event, 1, timeout_ns);
    while (taken > 0) {
        count++;
        consumer->is_busy = true;
        wsr_listener_call(event.socket->listeners, &event, &event.socket->is_destroyed);
        consumer->is_busy = false;
        if ((uint32_t)count >= events_max || count == INT32_MAX)
            break;
        taken = (int)take_events(consumer, &event, 1);
    }
    return taken < 0 ? taken : count;
}

int wsr_engine_fd(struct wsr_engine *engine, uint32_t ring)
{
    if (engine == NULL || ring >= engine->rings_count)
        return wsr_error_set(WSR_ERR_ARGUMENT, "there is no ring %u", ring);
    struct wsr_consumer *consumer = &engine->consumers[ring];
    consumer->is_watched = true;
    if (engine->is_inline)
        return consumer->worker->host.driver->ops->descriptor(consumer->worker->host.driver);
    /* From now on a publication writes it, also when events are there already. */
    if (!fall_asleep(consumer) && eventfd_write(consumer->worker->consumer_eventfd, 1) != 0)
        return wsr_error_set(WSR_ERR_SYSTEM, "eventfd could not be written");
    return consumer->worker->consumer_eventfd;
}

uint64_t wsr_engine_timeout(const struct wsr_engine *engine)
{
    if (!engine->is_inline)
        return WSR_NEVER;
    struct wsr_worker *worker = engine->consumers[0].worker;
    uint64_t next_ns = wsr_timer_next(worker->host.wheel);
    if (wsr_worker_has_work(worker) || wsr_ring_spsc_peek(ring_of(&engine->consumers[0])) != NULL)
        return 0;
    if (next_ns == WSR_NEVER)
        return WSR_NEVER;
    uint64_t now_ns = worker->host.driver->ops->now(worker->host.driver);
    return next_ns > now_ns ? next_ns - now_ns : 0;
}

struct wsr_hold *wsr_event_hold(const struct wsr_event *event)
{
    if (event == NULL || event->type != WSR_EVENT_MESSAGE || event->loan == NULL)
        return NULL;
    wsr_pool_hold(event->loan);
    return (struct wsr_hold *)event->loan;
}

void wsr_hold_release(struct wsr_hold *hold)
{
    if (hold == NULL)
        return;
    struct wsr_loan *loan = (struct wsr_loan *)(void *)hold;
    struct wsr_pool *pool = loan->pool;
    wsr_pool_release(loan);
    wsr_worker_consumed(wsr_pool_owner(pool));
}
