/* One lane of the load: opens its connections, keeps `in_flight` messages outstanding on each, judges what comes back.
 * SPDX-License-Identifier: MIT
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "load.h"
#include "load_tls.h"

#define EVENTS_MAX 128u
#define OPENING_MAX 512u              /* connections under way per lane: below any server's accept queue */
#define TURN_CONNS_MAX 128u           /* connections that one turn opens, pumps or closes */
#define GATHER_FROM_BYTES 1024u       /* from here on the body is not copied into one piece first */
#define FRESH_CLOCK_FROM_BYTES 4096u  /* from here on making and judging takes long enough to read the clock again */
#define IDLE_NS 10000000ull
#define CLOSE_TIMEOUT_NS 5000000000ull
#define LOOK_BACK 64u                 /* short messages: so many answered ones are searched for a duplicate */
#define NS_PER_S 1000000000ull

enum conn_state {
    CONN_IDLE = 0,
    CONN_OPENING = 1,
    CONN_OPEN = 2,
    CONN_ENDED = 3
};

struct wsr_load_conn {
    struct wsr_socket *socket;
    uint64_t sent;            /* next sequence to send */
    uint64_t next;            /* lowest sequence not yet answered */
    uint64_t highest;         /* one past the highest sequence that came back */
    uint64_t quota;           /* messages that this connection is to send */
    uint64_t opened_ns;
    uint32_t id;              /* over all lanes */
    uint32_t outstanding;
    uint8_t state;            /* enum conn_state */
    bool blocked;             /* waits for the writable event */
};

static const uint8_t may_follow[] = {
    [CONN_IDLE] = 1u << CONN_OPENING | 1u << CONN_ENDED,
    [CONN_OPENING] = 1u << CONN_OPEN | 1u << CONN_ENDED,
    [CONN_OPEN] = 1u << CONN_ENDED,
    [CONN_ENDED] = 0,
};

static void enter(struct wsr_load_conn *c, enum conn_state to)
{
    assert(may_follow[c->state] & (1u << to));
    c->state = (uint8_t)to;
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static enum wsr_load_phase phase_of(const struct wsr_load_lane *lane)
{
    /* Relaxed: only this thread writes it. */
    return (enum wsr_load_phase)atomic_load_explicit(&lane->live.phase, memory_order_relaxed);
}

/* ---- Failures ---- */

void wsr_load_reasons_add(struct wsr_load_reasons *reasons, const struct wsr_load_reason *reason)
{
    for (size_t i = 0; i < reasons->count; i++) {
        struct wsr_load_reason *known = &reasons->items[i];
        if (known->stage == reason->stage && known->system_errno == reason->system_errno &&
            known->http_status == reason->http_status && known->close_code == reason->close_code &&
            strcmp(known->text, reason->text) == 0) {
            known->count += reason->count;
            return;
        }
    }
    if (reasons->count == WSR_LOAD_REASONS_MAX)
        reasons->others += reason->count;
    else
        reasons->items[reasons->count++] = *reason;
}

static void note_failure(struct wsr_load_lane *lane, const struct wsr_event *event, const char *text)
{
    struct wsr_load_reason reason = { .count = 1 };
    if (event) {
        reason.stage = event->stage;
        reason.system_errno = event->system_errno;
        reason.http_status = event->http_status;
        reason.close_code = event->code;
    }
    snprintf(reason.text, sizeof reason.text, "%s", text && text[0] ? text : "the server closed the connection");
    wsr_load_reasons_add(&lane->result.reasons, &reason);
}

/* ---- Sending ---- */

static uint64_t *send_slot(struct wsr_load_lane *lane, const struct wsr_load_conn *c, uint64_t sequence)
{
    size_t index = (size_t)(c - lane->conns) * lane->window;
    return &lane->send_ns[index + (sequence & (lane->window - 1))];
}

/* One piece for a short message, so that wsr_send() takes its quickest way; else the pieces where they lie. */
static int send_message(struct wsr_load_lane *lane, struct wsr_load_conn *c)
{
    const struct wsr_payload_plan *payload = &lane->plan->payload;
    uint8_t head[WSR_PAYLOAD_HEAD_CHARS];
    uint8_t whole[GATHER_FROM_BYTES];
    struct iovec parts[WSR_PAYLOAD_PARTS];
    size_t count = wsr_payload_make(payload, (struct wsr_payload_id){ c->id, c->sent }, head, parts);
    if (payload->message_bytes > sizeof whole)
        return wsr_send_gather(c->socket, payload->kind, parts, count);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(whole + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    return wsr_send(c->socket, payload->kind, whole, at);
}

static void pump(struct wsr_load_lane *lane, struct wsr_load_conn *c, uint64_t now_ns)
{
    const struct wsr_load_options *options = lane->plan->options;
    while (c->outstanding < options->in_flight && c->sent < c->quota && c->sent - c->next < lane->window &&
           !c->blocked) {
        if (options->message_bytes >= FRESH_CLOCK_FROM_BYTES)
            now_ns = clock_ns();
        int rc = send_message(lane, c);
        if (rc < 0) {
            c->blocked = true;
            if (rc == WSR_ERR_QUOTA) {
                lane->result.counts.quota_waits++;
            } else {
                lane->result.counts.send_errors++;
                note_failure(lane, NULL, wsr_error_text());
            }
            return;
        }
        *send_slot(lane, c, c->sent) = now_ns;
        c->sent++;
        c->outstanding++;
        lane->outstanding++;
        lane->result.counts.sent++;
    }
}

/* ---- Judging ---- */

static bool is_outstanding(struct wsr_load_lane *lane, const struct wsr_load_conn *c, uint64_t sequence)
{
    return sequence >= c->next && sequence < c->sent && *send_slot(lane, c, sequence) != 0;
}

/* @sequence, which is outstanding, has come back in whatever shape. Returns when it was sent. */
static uint64_t settle(struct wsr_load_lane *lane, struct wsr_load_conn *c, uint64_t sequence)
{
    uint64_t *slot = send_slot(lane, c, sequence);
    uint64_t sent_ns = *slot;
    assert(sent_ns != 0 && c->outstanding > 0);
    *slot = 0;
    c->outstanding--;
    lane->outstanding--;
    if (sequence >= c->highest)
        c->highest = sequence + 1;
    while (c->next < c->sent && *send_slot(lane, c, c->next) == 0)
        c->next++;
    return sent_ns;
}

static void accept_echo(struct wsr_load_lane *lane, struct wsr_load_conn *c, uint64_t sequence)
{
    bool late = sequence < c->highest;
    uint64_t sent_ns = settle(lane, c, sequence);
    if (late) {
        lane->result.counts.reordered++;
        return;
    }
    lane->result.counts.verified++;
    lane->latency_ns += lane->now_ns - sent_ns;
    wsr_histogram_add(&lane->result.times.latency, lane->now_ns - sent_ns);
}

/* A message too short for a whole head: which of those sent lately is it? */
static bool find_short(struct wsr_load_lane *lane, const struct wsr_load_conn *c, const struct wsr_event *event,
                       uint64_t *sequence)
{
    const struct wsr_payload_plan *payload = &lane->plan->payload;
    uint64_t first = c->next > LOOK_BACK ? c->next - LOOK_BACK : 0;
    for (uint64_t i = c->next; i < c->sent; i++) {
        *sequence = i;
        if (wsr_payload_is(payload, (struct wsr_payload_id){ c->id, i }, event->data, event->len))
            return true;
    }
    for (uint64_t i = c->next; i > first; i--) {
        *sequence = i - 1;
        if (wsr_payload_is(payload, (struct wsr_payload_id){ c->id, i - 1 }, event->data, event->len))
            return true;
    }
    *sequence = c->next;
    return false;
}

/* What is not the very next message. */
static void sort_out(struct wsr_load_lane *lane, struct wsr_load_conn *c, const struct wsr_event *event,
                     enum wsr_payload_verdict verdict, uint64_t sequence)
{
    struct wsr_load_counts *counts = &lane->result.counts;
    bool right_kind = event->kind == lane->plan->payload.kind;
    if (verdict == WSR_PAYLOAD_CORRUPT && !lane->plan->payload.is_whole && right_kind &&
        find_short(lane, c, event, &sequence))
        verdict = WSR_PAYLOAD_OTHER;
    if (verdict == WSR_PAYLOAD_FOREIGN || (verdict == WSR_PAYLOAD_OTHER && sequence >= c->sent)) {
        counts->foreign++;
    } else if (verdict == WSR_PAYLOAD_CORRUPT || !right_kind) {
        counts->corrupted++;
        if (is_outstanding(lane, c, sequence))
            (void)settle(lane, c, sequence);      /* it did come back: not lost as well */
    } else if (!is_outstanding(lane, c, sequence)) {
        counts->duplicated++;
    } else {
        accept_echo(lane, c, sequence);
    }
}

static void take_message(struct wsr_load_lane *lane, struct wsr_load_conn *c, const struct wsr_event *event)
{
    const struct wsr_payload_plan *payload = &lane->plan->payload;
    uint64_t sequence;
    enum wsr_payload_verdict verdict =
        wsr_payload_judge(payload, (struct wsr_payload_id){ c->id, c->next }, event->data, event->len, &sequence);
    if (verdict == WSR_PAYLOAD_EXPECTED && event->kind == payload->kind && c->next < c->sent)
        accept_echo(lane, c, sequence);
    else
        sort_out(lane, c, event, verdict, sequence);
    lane->progress_ns = lane->now_ns;
    if (phase_of(lane) == WSR_LOAD_RUNNING)
        pump(lane, c, lane->now_ns);
}

/* ---- Opening and closing ---- */

static void note_agreement(struct wsr_load_lane *lane, const struct wsr_socket *socket)
{
    if (lane->result.counts.opened != 1)
        return;
    snprintf(lane->result.protocol, sizeof lane->result.protocol, "%s", wsr_socket_protocol(socket));
    snprintf(lane->result.extensions, sizeof lane->result.extensions, "%s", wsr_socket_extensions(socket));
    lane->result.tls = (struct wsr_socket_tls)WSR_SOCKET_TLS_INIT;
    (void)wsr_socket_tls(socket, &lane->result.tls);      /* cannot fail on a live socket */
}


static void take_open(struct wsr_load_lane *lane, struct wsr_load_conn *c)
{
    struct wsr_socket_statistics statistics = WSR_SOCKET_STATISTICS_INIT;
    enter(c, CONN_OPEN);
    lane->opening--;
    lane->open++;
    lane->result.counts.opened++;
    wsr_histogram_add(&lane->result.times.opening, lane->now_ns - c->opened_ns);
    (void)wsr_socket_statistics(c->socket, &statistics);      /* nor can this */
    wsr_load_times_note(&lane->result.times, &statistics);
    note_agreement(lane, c->socket);
}

static void take_close(struct wsr_load_lane *lane, struct wsr_load_conn *c, const struct wsr_event *event)
{
    struct wsr_load_counts *counts = &lane->result.counts;
    bool was_open = c->state == CONN_OPEN;
    bool in_time = phase_of(lane) < WSR_LOAD_CLOSING;
    enter(c, CONN_ENDED);
    if (!was_open) {
        lane->opening--;
        counts->failed++;
        note_failure(lane, event, event->text);
    } else {
        lane->open--;
        if (in_time)
            counts->broken++;
        else if (event->was_clean)
            counts->closed_clean++;
        else
            counts->closed_unclean++;
        if (in_time || !event->was_clean)
            note_failure(lane, event, event->text);
    }
    counts->lost += c->outstanding;
    lane->outstanding -= c->outstanding;
    c->outstanding = 0;
    wsr_socket_destroy(c->socket);
    c->socket = NULL;
}

static void take_event(struct wsr_load_lane *lane, const struct wsr_event *event)
{
    struct wsr_load_conn *c = wsr_socket_user(event->socket);
    lane->now_ns = clock_ns();
    switch ((enum wsr_event_type)event->type) {
    case WSR_EVENT_OPEN:
        take_open(lane, c);
        break;
    case WSR_EVENT_MESSAGE:
        take_message(lane, c, event);
        break;
    case WSR_EVENT_WRITABLE:
        c->blocked = false;
        if (phase_of(lane) == WSR_LOAD_RUNNING)
            pump(lane, c, lane->now_ns);
        break;
    case WSR_EVENT_CLOSE:
        take_close(lane, c, event);
        break;
    case WSR_EVENT_ERROR:      /* the close event that follows tells the same */
    case WSR_EVENT_PONG:       /* load sends no Pings */
        break;
    }
}

static int open_conn(struct wsr_load_lane *lane, struct wsr_load_conn *c)
{
    const struct wsr_load_plan *plan = lane->plan;
    const struct wsr_load_options *options = plan->options;
    struct wsr_socket_options socket_options = WSR_SOCKET_OPTIONS_INIT;
    socket_options.headers = plan->headers;
    socket_options.headers_count = (uint32_t)options->headers.count;
    socket_options.connect_to = options->connect_to;
    socket_options.fragment_bytes = options->fragment_bytes;
    socket_options.tls_name = options->tls_name;
    socket_options.deflate = plan->deflate;
    socket_options.user = c;
    if (plan->sources_count > 0)
        socket_options.source_address = plan->sources[c->id % plan->sources_count];
    if (options->workers > 0)
        socket_options.worker = lane->index + 1;
    c->opened_ns = clock_ns();
    int rc = wsr_socket_open(lane->engine, options->url, WSR_ZSTRING, options->subprotocols.items,
                             options->subprotocols.count, &socket_options, &c->socket);
    if (rc == 0)
        wsr_socket_set_binary_type(c->socket, WSR_ARRAYBUFFER);
    return rc;
}

/* How many connections of this lane --connect-rate has allowed by now. */
static uint64_t allowed_opens(const struct wsr_load_lane *lane)
{
    uint64_t rate = lane->plan->options->connect_rate;
    if (rate == 0)
        return UINT64_MAX;
    double per_lane = (double)rate / lane->plan->lanes_count;
    return 1 + (uint64_t)((double)(lane->now_ns - lane->phase_ns) / 1e9 * per_lane);
}

static void give_up(struct wsr_load_lane *lane, int error)
{
    lane->result.fatal = error;
    snprintf(lane->result.fatal_text, sizeof lane->result.fatal_text, "%s", wsr_error_text());
}

static void open_some(struct wsr_load_lane *lane)
{
    uint64_t allowed = allowed_opens(lane);
    for (uint32_t i = 0; i < TURN_CONNS_MAX && lane->cursor < lane->connections_count; i++) {
        if (lane->opening >= OPENING_MAX || lane->cursor >= allowed)
            return;
        struct wsr_load_conn *c = &lane->conns[lane->cursor++];
        int rc = open_conn(lane, c);
        if (rc == 0) {
            enter(c, CONN_OPENING);
            lane->opening++;
        } else if (rc == WSR_ERR_MEMORY || rc == WSR_ERR_SYSTEM) {
            enter(c, CONN_ENDED);
            lane->result.counts.failed++;
            note_failure(lane, NULL, wsr_error_text());
        } else {
            give_up(lane, rc);      /* the same for all of them: what was asked for is wrong */
            return;
        }
    }
}

/* ---- Phases ---- */

static void enter_phase(struct wsr_load_lane *lane, enum wsr_load_phase to)
{
    assert(to > phase_of(lane));
    lane->phase_ns = lane->now_ns;
    lane->progress_ns = lane->now_ns;
    lane->cursor = 0;
    if (to == WSR_LOAD_RUNNING)
        lane->result.started_ns = lane->now_ns;
    if (to == WSR_LOAD_DRAINING) {
        lane->result.stopped_ns = lane->now_ns;
        lane->result.counts.sent_in_window = lane->result.counts.sent;
        lane->result.counts.verified_in_window = lane->result.counts.verified;
    }
    /* Release: pairs with the acquire load of the conductor, which then reads what the phase before it found. */
    atomic_store_explicit(&lane->live.phase, (uint32_t)to, memory_order_release);
}

static void step_opening(struct wsr_load_lane *lane, enum wsr_load_command command)
{
    if (command == WSR_LOAD_DRAIN) {
        enter_phase(lane, WSR_LOAD_CLOSING);
        return;
    }
    open_some(lane);
    if (lane->cursor == lane->connections_count && lane->opening == 0) {
        lane->result.opening_ns = lane->now_ns - lane->phase_ns;
        enter_phase(lane, WSR_LOAD_READY);
    }
}

static bool is_all_answered(const struct wsr_load_lane *lane)
{
    const struct wsr_load_options *options = lane->plan->options;
    if (options->messages == 0 || lane->outstanding > 0 || lane->cursor < lane->connections_count)
        return false;
    for (uint32_t i = 0; i < lane->connections_count; i++) {
        if (lane->conns[i].state == CONN_OPEN && lane->conns[i].sent < lane->conns[i].quota)
            return false;
    }
    return true;
}

static void step_running(struct wsr_load_lane *lane, enum wsr_load_command command)
{
    for (uint32_t i = 0; i < TURN_CONNS_MAX && lane->cursor < lane->connections_count; i++) {
        struct wsr_load_conn *c = &lane->conns[lane->cursor++];
        if (c->state == CONN_OPEN)
            pump(lane, c, clock_ns());
    }
    /* Relaxed: ordered by the acquire load of the command RUN, which was stored later. */
    uint64_t until_ns = atomic_load_explicit(&lane->plan->until_ns, memory_order_relaxed);
    bool stalled = lane->plan->options->duration_ns == 0 &&
                   lane->now_ns - lane->progress_ns > lane->plan->options->drain_timeout_ns;
    if (command == WSR_LOAD_DRAIN || lane->now_ns >= until_ns || lane->open == 0 || stalled || is_all_answered(lane))
        enter_phase(lane, WSR_LOAD_DRAINING);
}

static void close_some(struct wsr_load_lane *lane)
{
    for (uint32_t i = 0; i < TURN_CONNS_MAX && lane->cursor < lane->connections_count; i++) {
        struct wsr_load_conn *c = &lane->conns[lane->cursor++];
        if (c->state == CONN_OPENING || c->state == CONN_OPEN)
            (void)wsr_close(c->socket, 1000, NULL, 0);      /* 1000 is legal, and nothing else can be refused */
    }
}

static bool is_over(const struct wsr_load_lane *lane, uint64_t limit_ns)
{
    return lane->now_ns - lane->phase_ns >= limit_ns;
}

static void step(struct wsr_load_lane *lane)
{
    /* Acquire: pairs with the conductor's release store of the command. */
    enum wsr_load_command command =
        (enum wsr_load_command)atomic_load_explicit(&lane->plan->command, memory_order_acquire);
    switch (phase_of(lane)) {
    case WSR_LOAD_OPENING:
        step_opening(lane, command);
        break;
    case WSR_LOAD_READY:
        if (command != WSR_LOAD_OPEN)
            enter_phase(lane, command == WSR_LOAD_RUN ? WSR_LOAD_RUNNING : WSR_LOAD_CLOSING);
        break;
    case WSR_LOAD_RUNNING:
        step_running(lane, command);
        break;
    case WSR_LOAD_DRAINING:
        if (lane->outstanding == 0 || is_over(lane, lane->plan->options->drain_timeout_ns))
            enter_phase(lane, WSR_LOAD_CLOSING);
        break;
    case WSR_LOAD_CLOSING:
        close_some(lane);
        if ((lane->open == 0 && lane->opening == 0) || is_over(lane, CLOSE_TIMEOUT_NS))
            enter_phase(lane, WSR_LOAD_DONE);
        break;
    case WSR_LOAD_DONE:
        break;
    }
}

/* How long the poll may wait before the next step is due. */
static uint64_t patience_ns(const struct wsr_load_lane *lane)
{
    enum wsr_load_phase phase = phase_of(lane);
    bool walks = lane->cursor < lane->connections_count;
    if (phase == WSR_LOAD_OPENING && walks && lane->opening < OPENING_MAX)
        return lane->plan->options->connect_rate > 0 ? IDLE_NS / 10 : 0;
    if ((phase == WSR_LOAD_RUNNING || phase == WSR_LOAD_CLOSING) && walks)
        return 0;
    return IDLE_NS;
}

static void publish(struct wsr_load_lane *lane)
{
    const struct wsr_load_counts *counts = &lane->result.counts;
    uint64_t wrong = counts->duplicated + counts->reordered + counts->corrupted + counts->foreign;
    /* Relaxed, all of them: single numbers for the live line, read with relaxed loads in load.c. */
    atomic_store_explicit(&lane->live.open, lane->open, memory_order_relaxed);
    atomic_store_explicit(&lane->live.failed, counts->failed + counts->broken, memory_order_relaxed);
    atomic_store_explicit(&lane->live.sent, counts->sent, memory_order_relaxed);
    atomic_store_explicit(&lane->live.verified, counts->verified, memory_order_relaxed);
    atomic_store_explicit(&lane->live.wrong, wrong, memory_order_relaxed);
    atomic_store_explicit(&lane->live.latency_ns, lane->latency_ns, memory_order_relaxed);
}

static void loop(struct wsr_load_lane *lane)
{
    struct wsr_event events[EVENTS_MAX];
    lane->now_ns = lane->phase_ns = clock_ns();
    while (phase_of(lane) != WSR_LOAD_DONE && lane->result.fatal == 0) {
        step(lane);
        publish(lane);
        int count = wsr_poll(lane->engine, lane->ring, events, EVENTS_MAX, patience_ns(lane));
        if (count < 0) {
            give_up(lane, count);
            return;
        }
        for (int i = 0; i < count; i++)
            take_event(lane, &events[i]);
        lane->now_ns = clock_ns();
    }
}

/* ---- Start and end ---- */

struct wsr_engine_options wsr_load_lane_engine_options(const struct wsr_load_options *options)
{
    struct wsr_engine_options engine_options = WSR_ENGINE_OPTIONS_INIT;
    engine_options.flags = options->direct ? WSR_ENGINE_DIRECT_DESCRIPTORS : 0;
    engine_options.workers_count = (uint32_t)options->workers;
    engine_options.buffers_count = (uint32_t)options->buffers_count;
    engine_options.buffer_bytes = (uint32_t)options->buffer_bytes;
    engine_options.wait = options->wait;
    engine_options.batch_count = (uint32_t)options->batch_count;
    engine_options.batch_ns = options->batch_ns;
    engine_options.napi_us = (uint32_t)((options->napi_ns + 999) / 1000);
    engine_options.open_timeout_ns = options->open_timeout_ns;
    engine_options.deflate_level = (uint32_t)options->deflate_level;
    engine_options.deflate_min_bytes = (uint32_t)options->deflate_min_bytes;
    wsr_load_tls_engine_options(options, &engine_options);
    return engine_options;
}

static int prepare(struct wsr_load_lane *lane)
{
    const struct wsr_load_options *options = lane->plan->options;
    uint64_t each = options->messages / options->connections, rest = options->messages % options->connections;
    lane->window = 1;
    while (lane->window < options->in_flight)
        lane->window *= 2;
    lane->ring = options->workers > 0 ? lane->index : 0;
    lane->conns = calloc(lane->connections_count, sizeof *lane->conns);
    lane->send_ns = calloc((size_t)lane->connections_count * lane->window, sizeof *lane->send_ns);
    if (!lane->conns || !lane->send_ns || wsr_load_times_init(&lane->result.times) < 0) {
        snprintf(lane->result.fatal_text, sizeof lane->result.fatal_text,
                 "no memory for %u connections with %u messages in flight each; give fewer", lane->connections_count,
                 lane->window);
        return WSR_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < lane->connections_count; i++) {
        struct wsr_load_conn *c = &lane->conns[i];
        c->id = lane->first_connection + i;
        c->quota = options->messages == 0 ? UINT64_MAX : each + (c->id < rest ? 1 : 0);
    }
    return 0;
}

static void finish(struct wsr_load_lane *lane)
{
    struct wsr_load_counts *counts = &lane->result.counts;
    for (uint32_t i = 0; i < lane->connections_count; i++) {
        counts->lost += lane->conns[i].outstanding;
        if (lane->conns[i].state == CONN_OPEN)
            counts->closed_unclean++;
        wsr_socket_destroy(lane->conns[i].socket);
    }
    if (lane->plan->options->workers == 0) {
        lane->result.statistics = (struct wsr_engine_statistics)WSR_ENGINE_STATISTICS_INIT;
        (void)wsr_engine_statistics(lane->engine, &lane->result.statistics);      /* cannot fail on a live engine */
        (void)wsr_engine_destroy(lane->engine);                                   /* nor can this outside handlers */
        lane->engine = NULL;
    }
}

void *wsr_load_lane_run(void *argument)
{
    struct wsr_load_lane *lane = argument;
    lane->result.fatal = prepare(lane);
    if (lane->result.fatal == 0 && lane->plan->options->workers == 0) {
        struct wsr_engine_options options = wsr_load_lane_engine_options(lane->plan->options);
        int rc = wsr_engine_create(&lane->engine, &options);
        if (rc < 0)
            give_up(lane, rc);
    }
    if (lane->result.fatal == 0)
        loop(lane);
    if (lane->engine && lane->conns)
        finish(lane);
    free(lane->conns);
    free(lane->send_ns);
    publish(lane);
    /* Release: as in enter_phase(). */
    atomic_store_explicit(&lane->live.phase, (uint32_t)WSR_LOAD_DONE, memory_order_release);
    return NULL;
}
