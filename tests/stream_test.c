/* Streams of messages through all modules, back and forth, while sockets come and go: each byte is checked, in every
 * way of waiting and with engines of odd sizes, where plain calls, the ring and memory that runs out take turns. On the
 * real driver, against a server that echoes. WSRING_STREAM_SEED says which of the random courses is taken.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "tests/support/bytes.h"
#include "tests/support/client.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define NS_PER_MS 1000000ull
#define LANES_COUNT 7u
#define PATIENCE_MS 20000u           /* without any progress */
#define HOLDS_COUNT 24u
#define MESSAGE_MAX 3000u

/* How the consumer behaves. */
enum manner {
    DISPATCHES = 1u << 0,            /* with handlers, else by arrays */
    WATCHES = 1u << 1,               /* from the middle on, sleeps elsewhere, on the descriptor */
    HOLDS = 1u << 2,                 /* keeps messages, and gives them back in another order */
    PAUSES = 1u << 3,
    COMES_AND_GOES = 1u << 4,        /* closes and destroys sockets and opens others */
    IS_SLOW = 1u << 5
};

struct scene {
    const char *name;
    uint32_t manners;                /* enum manner */
    uint32_t lanes_count;
    uint32_t events_max;
    struct wsr_engine_options options;
};

struct held {
    struct wsr_hold *hold;
    const char *data;                /* of `number` and `len`; NULL = a blob in pieces */
    uint64_t number, len;
};

/* One place for a socket after the other. */
struct lane {
    struct wsr_socket *socket;
    bool is_open, is_paused, is_full, is_closing;
    uint64_t sent, received;         /* messages */
    uint64_t sent_bytes;
};

struct stage {
    const struct scene *scene;
    struct wsr_engine *engine;
    struct peer *peer;
    struct lane lanes[LANES_COUNT];
    struct held held[HOLDS_COUNT];
    uint64_t events, messages, messages_max;
    uint64_t random;                 /* what random numbers come from */
    int fd;
};

static uint32_t next_random(struct stage *stage, uint32_t bound)
{
    stage->random = stage->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(stage->random >> 33) % bound;
}

/* ---- Messages ---- */

static char byte_of(uint64_t number, size_t at)
{
    return (char)('a' + (number * 7 + at * 11 + at / 26) % 26);
}

/* Of message @number: mostly small, sometimes with a longer head, sometimes larger than a buffer. */
static size_t length_of(uint64_t number)
{
    size_t mixed = (size_t)(number * 2654435761u >> 7);
    return number % 41 == 40 ? MESSAGE_MAX - mixed % 500 : number % 7 == 6 ? 110 + mixed % 300 : mixed % 60;
}

static enum wsr_kind kind_of(uint64_t number)
{
    return number % 3 == 0 ? WSR_BINARY : WSR_TEXT;
}

static void check_bytes(uint64_t number, const char *data, size_t len)
{
    assert_int_equal(len, length_of(number));
    for (size_t i = 0; i < len; i++) {
        if (data[i] != byte_of(number, i))
            fail_msg("byte %zu of message %llu of %zu bytes is wrong", i, (unsigned long long)number, len);
    }
}

static bool send_one(struct lane *lane)
{
    char data[MESSAGE_MAX];
    size_t len = length_of(lane->sent);
    for (size_t i = 0; i < len; i++)
        data[i] = byte_of(lane->sent, i);
    struct iovec parts[2] = { { data, len / 2 }, { data + len / 2, len - len / 2 } };
    int rc = lane->sent % 5 == 4 ? wsr_send_gather(lane->socket, kind_of(lane->sent), parts, 2)
                                 : wsr_send(lane->socket, kind_of(lane->sent), data, len);
    if (rc == WSR_ERR_QUOTA) {
        lane->is_full = true;
        return false;
    }
    assert_int_equal(rc, 0);
    lane->sent++;
    lane->sent_bytes += len;
    assert_true(wsr_socket_buffered_now(lane->socket) <= lane->sent_bytes);
    return true;
}

static void send_some(struct stage *stage, struct lane *lane)
{
    uint32_t count = next_random(stage, 12);
    if (!lane->is_open || lane->is_closing || stage->messages >= stage->messages_max)
        return;
    while (count-- > 0 && !lane->is_full && lane->sent - lane->received < 60)
        send_one(lane);
}

/* ---- Sockets ---- */

static void on_event(const struct wsr_event *event, void *context);

static void open_lane(struct stage *stage, struct lane *lane)
{
    *lane = (struct lane){ 0 };
    assert_int_equal(wsr_socket_open(stage->engine, peer_url(stage->peer), WSR_ZSTRING, NULL, 0, NULL, &lane->socket),
                     0);
    for (unsigned type = 1; type < WSR_EVENT_TYPES_COUNT; type++)
        assert_int_equal(wsr_set_on(lane->socket, (enum wsr_event_type)type, on_event, stage), 0);
}

static void replace(struct stage *stage, struct lane *lane)
{
    wsr_socket_destroy(lane->socket);
    open_lane(stage, lane);
}

static struct lane *lane_of(struct stage *stage, const struct wsr_socket *socket)
{
    for (uint32_t i = 0; i < stage->scene->lanes_count; i++) {
        if (stage->lanes[i].socket == socket)
            return &stage->lanes[i];
    }
    return NULL;                     /* destroyed meanwhile: what is left of the array is the caller's to skip */
}

/* ---- Holding ---- */

static void give_back(struct held *held)
{
    if (held->hold != NULL && held->data != NULL)
        check_bytes(held->number, held->data, held->len);
    wsr_hold_release(held->hold);
    *held = (struct held){ 0 };
}

static void keep(struct stage *stage, const struct wsr_event *event, uint64_t number)
{
    struct held *held = &stage->held[next_random(stage, HOLDS_COUNT)];
    give_back(held);
    if (next_random(stage, 3) == 0)
        *held = (struct held){ wsr_event_hold(event), event->data, number, event->len };
}

/* ---- What comes ---- */

static void on_message(struct stage *stage, struct lane *lane, const struct wsr_event *event)
{
    assert_true(lane->received < lane->sent);
    assert_int_equal(event->kind, kind_of(lane->received));
    check_bytes(lane->received, bytes_of(event), event->len);
    if (stage->scene->manners & HOLDS)
        keep(stage, event, lane->received);
    lane->received++;
    stage->messages++;
    if (next_random(stage, 4) == 0)
        send_some(stage, lane);
    if (!(stage->scene->manners & COMES_AND_GOES) || next_random(stage, 150) > 0)
        return;
    if (next_random(stage, 2) == 0) {
        replace(stage, lane);
    } else {
        assert_int_equal(wsr_close(lane->socket, 1000, "enough", WSR_ZSTRING), 0);
        lane->is_closing = true;
    }
}

static void on_event(const struct wsr_event *event, void *context)
{
    struct stage *stage = context;
    struct lane *lane = lane_of(stage, event->socket);
    stage->events++;
    if (lane == NULL || (lane->is_closing && event->type != WSR_EVENT_CLOSE))
        return;
    if (event->type == WSR_EVENT_OPEN) {
        lane->is_open = true;
        send_some(stage, lane);
    } else if (event->type == WSR_EVENT_MESSAGE) {
        on_message(stage, lane, event);
    } else if (event->type == WSR_EVENT_WRITABLE) {
        lane->is_full = false;
        send_some(stage, lane);
    } else if (event->type == WSR_EVENT_CLOSE && lane->is_closing) {
        assert_int_equal(event->code, 1000);
        assert_true(event->was_clean);
        replace(stage, lane);
    } else {
        fail_msg("event %u came to an open socket: %u %s", event->type, event->code, event->text);
    }
}

static void take_events(struct stage *stage, uint64_t timeout_ns)
{
    struct wsr_event events[CLIENT_POLL_MAX];
    uint32_t rings = wsr_engine_rings(stage->engine), events_max = stage->scene->events_max;
    for (uint32_t ring = 0; ring < rings; ring++) {
        if (stage->scene->manners & DISPATCHES) {
            assert_true(wsr_dispatch(stage->engine, ring, events_max, timeout_ns) >= 0);
            continue;
        }
        int count = wsr_poll(stage->engine, ring, events, events_max, timeout_ns);
        assert_true(count >= 0);
        for (int i = 0; i < count; i++)
            on_event(&events[i], stage);
    }
}

/* As the header asks of who waits elsewhere. */
static void wait_elsewhere(struct stage *stage)
{
    uint64_t before, timeout_ns = wsr_engine_timeout(stage->engine);
    struct pollfd fd = { .fd = stage->fd, .events = POLLIN };
    int ms = timeout_ns > PATIENCE_MS * NS_PER_MS ? (int)PATIENCE_MS : (int)((timeout_ns + NS_PER_MS - 1) / NS_PER_MS);
    poll(&fd, 1, ms);
    do {
        before = stage->events;
        take_events(stage, 0);
    } while (stage->events > before);
}

/* ---- The consumer ---- */

static void do_something(struct stage *stage)
{
    struct lane *lane = &stage->lanes[next_random(stage, stage->scene->lanes_count)];
    send_some(stage, lane);
    if ((stage->scene->manners & PAUSES) && lane->is_open && !lane->is_closing && next_random(stage, 8) == 0) {
        lane->is_paused = !lane->is_paused;
        assert_int_equal(lane->is_paused ? wsr_pause(lane->socket) : wsr_resume(lane->socket), 0);
    }
    if ((stage->scene->manners & IS_SLOW) && next_random(stage, 30) == 0)
        client_sleep_ms(1);
}

static bool is_done(const struct stage *stage)
{
    for (uint32_t i = 0; i < stage->scene->lanes_count; i++) {
        const struct lane *lane = &stage->lanes[i];
        if (!lane->is_open || lane->is_closing || lane->is_full || lane->received < lane->sent)
            return false;
    }
    return stage->messages >= stage->messages_max;
}

static void describe(const struct stage *stage)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(stage->engine, &statistics), 0);
    for (uint32_t i = 0; i < stage->scene->lanes_count; i++) {
        const struct lane *lane = &stage->lanes[i];
        print_message("lane %u: open %d paused %d full %d closing %d sent %llu received %llu buffered %llu\n", i,
                      lane->is_open, lane->is_paused, lane->is_full, lane->is_closing,
                      (unsigned long long)lane->sent, (unsigned long long)lane->received,
                      (unsigned long long)wsr_socket_buffered_now(lane->socket));
    }
    print_message("buffers lent %llu exhausted %llu rests %llu copied %llu\n",
                  (unsigned long long)statistics.buffers_lent, (unsigned long long)statistics.buffers_exhausted,
                  (unsigned long long)statistics.rests, (unsigned long long)statistics.messages_copied);
}

/* While nothing comes for a while, what the consumer holds back is given back. */
static void let_go(struct stage *stage)
{
    for (size_t i = 0; i < HOLDS_COUNT; i++)
        give_back(&stage->held[i]);
    for (uint32_t i = 0; i < stage->scene->lanes_count; i++) {
        struct lane *lane = &stage->lanes[i];
        if (lane->is_paused && !lane->is_closing)
            assert_int_equal(wsr_resume(lane->socket), 0);
        lane->is_paused = false;
    }
}

/* Is there an event that must come, whatever the consumer does? */
static bool expects_event(const struct stage *stage)
{
    for (uint32_t i = 0; i < stage->scene->lanes_count; i++) {
        const struct lane *lane = &stage->lanes[i];
        if (!lane->is_open || lane->is_closing || (!lane->is_paused && lane->received < lane->sent))
            return true;
    }
    return false;
}

static void stream(struct stage *stage)
{
    uint64_t seen = 0, limit_ms = client_now_ms() + PATIENCE_MS;
    while (!is_done(stage)) {
        bool has_all = stage->messages >= stage->messages_max;
        if (!has_all)
            do_something(stage);
        if (has_all || seen == stage->events)
            let_go(stage);
        if (stage->fd < 0 && (stage->scene->manners & WATCHES) && stage->messages > stage->messages_max / 2)
            assert_true((stage->fd = wsr_engine_fd(stage->engine, 0)) >= 0);
        if (seen != stage->events)
            limit_ms = client_now_ms() + PATIENCE_MS;
        seen = stage->events;
        if (stage->fd >= 0 && expects_event(stage))
            wait_elsewhere(stage);
        else
            take_events(stage, next_random(stage, 3) * 5 * NS_PER_MS);
        if (client_now_ms() > limit_ms) {
            describe(stage);
            fail_msg("%s: nothing came any more", stage->scene->name);
        }
    }
}

static void run_scene(const struct scene *scene, uint32_t workers, uint32_t wait, uint64_t seed)
{
    static struct stage stage;
    struct wsr_engine_options options = scene->options;
    options.size = sizeof options;
    options.workers_count = workers;
    options.wait = wait;
    stage = (struct stage){ .scene = scene, .random = seed, .messages_max = 4000, .fd = -1 };
    stage.peer = peer_start("upgrade; echo", 0);
    assert_int_equal(wsr_engine_create(&stage.engine, &options), 0);
    for (uint32_t i = 0; i < scene->lanes_count; i++)
        open_lane(&stage, &stage.lanes[i]);
    stream(&stage);
    let_go(&stage);
    for (uint32_t i = 0; i < scene->lanes_count; i++)
        assert_int_equal(wsr_socket_buffered_now(stage.lanes[i].socket), 0);
    assert_int_equal(wsr_engine_destroy(stage.engine), 0);
    peer_stop(stage.peer);
}

static const struct scene scenes[] = {
    { "one socket", 0, 1, 64, { .size = 0 } },
    { "one socket, handlers", DISPATCHES | PAUSES, 1, 64, { .size = 0 } },
    { "two buffers", PAUSES, 2, 64, { .buffers_count = 2, .buffer_bytes = 256 } },
    { "four buffers", HOLDS | PAUSES, 3, 64, { .buffers_count = 4, .buffer_bytes = 512 } },
    { "eight buffers", HOLDS | COMES_AND_GOES, 4, 64, { .buffers_count = 8, .buffer_bytes = 256 } },
    { "sixteen buffers, slow", HOLDS | PAUSES | IS_SLOW, 4, 64, { .buffers_count = 16, .buffer_bytes = 1024 } },
    { "eight events", PAUSES | COMES_AND_GOES, 4, 1, { .events_count = 8 } },
    { "eight events, handlers", DISPATCHES | PAUSES | COMES_AND_GOES, 3, 1, { .events_count = 8 } },
    { "few and many", HOLDS | PAUSES | COMES_AND_GOES, 6, 64, { .size = 0 } },
    { "few and many, handlers", DISPATCHES | HOLDS | PAUSES | COMES_AND_GOES, 7, 16, { .buffers_count = 32 } },
    { "watched", WATCHES | COMES_AND_GOES, 3, 64, { .buffers_count = 16 } },
    { "watched, handlers", WATCHES | DISPATCHES | PAUSES, 4, 3, { .events_count = 16 } },
    { "small queues", PAUSES, 3, 64, { .send_queue_max_bytes = 6000, .send_pool_bytes = 1 << 18 } },
    { "small queues, handlers", DISPATCHES | COMES_AND_GOES, 5, 8,
      { .send_queue_max_bytes = 4000, .send_pool_bytes = 1 << 18, .events_count = 8, .buffers_count = 4 } },
    { "little for copies", HOLDS | IS_SLOW, 3, 4,
      { .buffers_count = 4, .buffer_bytes = 1024, .loan_max_bytes = 4096 } },
};

static void each_byte_comes_in_its_place(void **state)
{
    const char *seed_text = getenv("WSRING_STREAM_SEED");
    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        for (uint32_t wait = WSR_WAIT_BLOCK; wait <= WSR_WAIT_ADAPTIVE; wait++) {
            for (uint32_t workers = 0; workers < 2; workers++)
                run_scene(&scenes[i], workers, wait, seed_text != NULL ? strtoull(seed_text, NULL, 10) : i + 1);
        }
    }
}

/* ---- Two engines on one thread ---- */

#define CIRCLING_COUNT 20u           /* messages under way, sent by one engine when they came to the other */
#define RELAYED_COUNT 3000u

struct relay {
    struct wsr_engine *engines[2];
    struct wsr_socket *sockets[2];
    uint64_t received[2];
    unsigned open_count;
    bool is_watched;
};

static void send_circling(struct relay *relay, unsigned side, uint64_t number)
{
    char data[MESSAGE_MAX];
    size_t len = length_of(number);
    for (size_t i = 0; i < len; i++)
        data[i] = byte_of(number, i);
    assert_int_equal(wsr_send(relay->sockets[side], WSR_TEXT, data, len), 0);
}

static void on_relayed(const struct wsr_event *event, void *context)
{
    struct relay *relay = context;
    unsigned side = event->socket == relay->sockets[1];
    relay->open_count += event->type == WSR_EVENT_OPEN;
    if (event->type == WSR_EVENT_MESSAGE) {
        uint64_t number = relay->received[side]++ % CIRCLING_COUNT;
        check_bytes(number, bytes_of(event), event->len);
        send_circling(relay, 1 - side, number);
    }
}

/* Who waits elsewhere asks no engine whose descriptor is silent: there are no timers here. */
static void relay_some(struct relay *relay)
{
    struct pollfd fds[2] = { { .events = POLLIN }, { .events = POLLIN } };
    for (unsigned i = 0; relay->is_watched && i < 2; i++)
        fds[i].fd = wsr_engine_fd(relay->engines[i], 0);
    if (relay->is_watched)
        assert_true(poll(fds, 2, PATIENCE_MS) > 0);
    for (unsigned i = 0; i < 2; i++) {
        int count = !relay->is_watched || fds[i].revents != 0;
        while (count > 0)
            count = wsr_dispatch(relay->engines[i], 0, 64, 0);
        assert_true(count >= 0);
    }
}

static void relay_between(uint32_t first_wait, uint32_t second_wait, bool is_watched)
{
    struct relay relay = { .is_watched = false };
    struct peer *peer = peer_start("upgrade; echo", 0);
    for (unsigned i = 0; i < 2; i++) {
        struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
        options.wait = i == 0 ? first_wait : second_wait;
        assert_int_equal(wsr_engine_create(&relay.engines[i], &options), 0);
        assert_int_equal(wsr_socket_open(relay.engines[i], peer_url(peer), WSR_ZSTRING, NULL, 0, NULL,
                                         &relay.sockets[i]), 0);
        assert_int_equal(wsr_set_on(relay.sockets[i], WSR_EVENT_OPEN, on_relayed, &relay), 0);
        assert_int_equal(wsr_set_on(relay.sockets[i], WSR_EVENT_MESSAGE, on_relayed, &relay), 0);
    }
    while (relay.open_count < 2)
        relay_some(&relay);
    relay.is_watched = is_watched;
    for (uint64_t number = 0; number < CIRCLING_COUNT; number++)
        send_circling(&relay, 0, number);
    while (relay.received[1] < RELAYED_COUNT)
        relay_some(&relay);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(wsr_engine_destroy(relay.engines[i]), 0);
    peer_stop(peer);
}

static void engines_on_one_thread_send_for_each_other(void **state)
{
    (void)state;
    for (uint32_t first = WSR_WAIT_BLOCK; first <= WSR_WAIT_ADAPTIVE; first++) {
        for (uint32_t second = WSR_WAIT_BLOCK; second <= WSR_WAIT_ADAPTIVE; second++) {
            relay_between(first, second, false);
            relay_between(first, second, true);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_byte_comes_in_its_place),
        cmocka_unit_test(engines_on_one_thread_send_for_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
