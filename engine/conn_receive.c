/* What comes in: bytes to the session, its events to the application or to where they are answered. */
#include "conn_deflate.h"
#include "conn_inner.h"
#include "conn_tls.h"

#include <errno.h>
#include <stdlib.h>

#define UNANSWERED_PONGS_MAX 64u   /* more Pings than that: only the newest is answered (RFC 6455 5.5.3) */

/* ---- Received and not yet parsed --------------------------------------------------------------- */

/* Behind all others, or before them. */
static void put_backlog(struct wsr_conn *c, struct wsr_loan *buffer, bool is_newest)
{
    struct wsr_loan *last = c->backlog_last;
    buffer->next = last != NULL ? last->next : buffer;
    if (last != NULL)
        last->next = buffer;
    if (last == NULL || is_newest)
        c->backlog_last = buffer;
}

/* The oldest, or NULL. */
static struct wsr_loan *take_backlog(struct wsr_conn *c)
{
    struct wsr_loan *last = c->backlog_last;
    if (last == NULL)
        return NULL;
    struct wsr_loan *oldest = last->next;
    last->next = oldest->next;
    if (oldest == last)
        c->backlog_last = NULL;
    return oldest;
}

void wsr_conn_put_back(struct wsr_conn *c, struct wsr_loan *buffer)
{
    put_backlog(c, buffer, false);
}

void wsr_conn_give_up(struct wsr_loan *buffer)
{
    if (WSR_UNLIKELY(buffer->is_parsing))
        wsr_pool_end_parsing(buffer);
    wsr_pool_unuse(buffer);
}

void wsr_conn_release_backlog(struct wsr_conn *c)
{
    for (struct wsr_loan *buffer; (buffer = take_backlog(c)) != NULL;)
        wsr_conn_give_up(buffer);
}

/* ---- Receiving --------------------------------------------------------------------------------- */

static void post_recv(struct wsr_conn *c)
{
    assert(!(c->ops & WSR_CONN_OP_RECV) && c->file >= 0);
    c->ops |= WSR_CONN_OP_RECV;
    c->marks &= (uint16_t)~MARK_BEHIND;
    c->host->driver->ops->recv(c->host->driver, c->file, wsr_conn_token_of(c, WSR_CONN_OP_RECV));
}

/* Receiving rests for the consumer: one rest lasts until something is received again. */
static void rest_for_consumer(struct wsr_conn *c)
{
    if (!(c->marks & MARK_BEHIND)) {
        wsr_conn_count(&c->host->counts.rests, 1);
        wsr_conn_count_few(&c->link->counts.rests);
    }
    c->marks |= MARK_BEHIND;
    wsr_conn_rest(c);
}

/* The opening handshake goes on while paused, and so does a closing one. */
static bool is_paused(const struct wsr_conn *c)
{
    return (c->marks & MARK_PAUSED) && c->state == WSR_CONN_OPEN;
}

/* Receive as long as there are buffers; otherwise wait for some without asking the kernel again and again. In one turn
 * no more receives start than there are buffers, so that a crowd does not fight for one. */
void wsr_conn_want_input(struct wsr_conn *c)
{
    struct wsr_conn_host *host = c->host;
    if ((c->ops & WSR_CONN_OP_RECV) || (c->marks & MARK_INPUT_ENDED) || c->backlog_last != NULL || is_paused(c))
        return;
    if (WSR_UNLIKELY(c->tls != NULL) && wsr_conn_ktls_wants_input(c))
        return;
    uint32_t home = wsr_pool_buffers_home(host->pool);
    if (host->receives_started < home) {
        host->receives_started++;
        post_recv(c);
        return;
    }
    if (home == 0) {
        rest_for_consumer(c);
        return;
    }
    wsr_conn_rest(c);
    host->goes_on = true;
}

static char *append(char *to, struct wsr_bytes bytes)
{
    if (bytes.len > 0)
        memcpy(to, bytes.data, bytes.len);
    return to + bytes.len;
}

bool wsr_conn_keep_answer(struct wsr_conn *c, const struct wsr_handshake_agreement *agreed, struct wsr_bytes head)
{
    size_t agreed_bytes = agreed->protocol.len + agreed->extensions.len;
    if (!wsr_conn_opening(c)->keeps_response)
        head.len = 0;
    if (agreed_bytes + head.len == 0)
        return true;
    struct wsr_conn_answer *answer = malloc(sizeof *answer + agreed_bytes + 2 + head.len);
    if (answer == NULL && head.len > 0) {
        /* Then the getter finds no head; the connection goes on. */
        head.len = 0;
        answer = agreed_bytes > 0 ? malloc(sizeof *answer + agreed_bytes + 2) : NULL;
    }
    if (answer == NULL)
        return agreed_bytes == 0;
    answer->head_bytes = head.len;
    char *to = append(answer->text, agreed->protocol);
    *to++ = '\0';
    to = append(to, agreed->extensions);
    *to++ = '\0';
    append(to, head);
    c->link->answer = answer;
    return true;
}

static void on_upgraded(struct wsr_conn *c, const struct wsr_session_event *event)
{
    if (!wsr_conn_keep_answer(c, &event->agreement, event->head)) {
        wsr_conn_fail(c, WSR_STAGE_UPGRADE, ENOMEM, "no memory for the server's answer");
        return;
    }
    wsr_timer_disarm(c->host->wheel, &c->timer);
    wsr_conn_end_phase(c, &c->link->counts.upgrade_span);
    atomic_store_explicit(&c->link->counts.opened_ns, c->host->now_ns, memory_order_relaxed);
    wsr_conn_leave_gate(c);
    wsr_conn_end_opening(c);
    if (c->tls != NULL)
        wsr_tls_end_handshake(&c->tls->tls);
    wsr_conn_enter(c, WSR_CONN_OPEN);
    if (event->agreement.has_deflate)
        wsr_conn_start_deflate(c, &event->agreement.deflate);
    c->host->sessions.deflate = wsr_conn_deflate(c);
    wsr_conn_count(&c->host->counts.sockets_opened, 1);
    wsr_deliver_plain(&c->host->deliver, wsr_conn_socket(c), WSR_EVENT_OPEN);
}

static bool is_inside(struct wsr_bytes data, const struct wsr_loan *block)
{
    return (uintptr_t)data.data - (uintptr_t)wsr_pool_bytes(block) < block->capacity;
}

static void on_message(struct wsr_conn *c, const struct wsr_session_event *event, struct wsr_loan *buffer)
{
    const struct wsr_loan *inflated = c->host->inflated;
    if (inflated != NULL && is_inside(event->data, inflated))
        buffer = c->host->inflated;
    /* CLOSE-14: after our own Close, messages are read over. */
    if (c->state == WSR_CONN_OPEN)
        wsr_deliver_message(&c->host->deliver, wsr_conn_socket(c), event->kind, event->data, buffer, event->block);
    else if (event->block != NULL)
        wsr_pool_unuse(wsr_pool_block_of(event->block));
}

static void count_dropped_ping(struct wsr_conn *c)
{
    wsr_conn_count(&c->host->counts.pings_dropped, 1);
    wsr_conn_count_few(&c->link->counts.pings_dropped);
}

/* Every Ping is answered; under a flood only the newest of those beyond the limit (CTL-03). */
static void on_ping(struct wsr_conn *c, struct wsr_bytes payload)
{
    if (c->marks & MARK_SEND_BROKEN)
        return;
    struct wsr_chunk *pong = wsr_conn_control_frame(c, WSR_OPCODE_PONG, payload);
    if (pong == NULL) {
        count_dropped_ping(c);
        return;
    }
    pong->is_pong = true;
    /* One that takes the place of another makes no more answers. */
    if (c->queue.pongs_count >= UNANSWERED_PONGS_MAX && wsr_queue_drop_newest_pong(&c->queue, c->host->slab)) {
        count_dropped_ping(c);
    } else {
        wsr_conn_count(&c->host->counts.pings_answered, 1);
        wsr_conn_count_few(&c->link->counts.pings_answered);
    }
    wsr_queue_push_control(&c->queue, pong);
    wsr_conn_mark_unsent(c);
}

/* Does @payload come from a timed Ping of this engine? Then *rtt_ns is its round trip. */
static bool is_timed(const struct wsr_conn *c, struct wsr_bytes payload, uint64_t *rtt_ns)
{
    uint64_t own[2];
    if (payload.len != sizeof own)
        return false;
    memcpy(own, payload.data, sizeof own);
    if (own[0] != c->host->ping_mark || own[1] > c->host->now_ns)
        return false;
    *rtt_ns = c->host->now_ns - own[1];
    return true;
}

/* Only what answers a Ping of ours is told (CTL-05). */
static void on_pong(struct wsr_conn *c, struct wsr_bytes payload)
{
    uint64_t rtt_ns = 0;
    bool answers_timed = is_timed(c, payload, &rtt_ns);
    wsr_conn_count_few(&c->link->counts.pongs_received);
    uint8_t *count = answers_timed ? &c->timed_pings_count : &c->pings_count;
    if (*count == 0 || c->state != WSR_CONN_OPEN)
        return;
    --*count;
    if (answers_timed) {
        atomic_store_explicit(&c->link->counts.rtt_span, wsr_conn_span(rtt_ns), memory_order_relaxed);
        payload.len = 0;
    }
    wsr_deliver_pong(&c->host->deliver, wsr_conn_socket(c), payload, rtt_ns);
}

static void on_session_event(struct wsr_conn *c, const struct wsr_session_event *event, struct wsr_loan *buffer)
{
    switch (event->type) {
    case WSR_SESSION_MESSAGE:
        on_message(c, event, buffer);
        break;
    case WSR_SESSION_PING:
        on_ping(c, event->data);
        break;
    case WSR_SESSION_UPGRADED:
        on_upgraded(c, event);
        break;
    case WSR_SESSION_CLOSE:
        wsr_conn_peer_closed(c, event);
        break;
    case WSR_SESSION_FAILURE:
        wsr_conn_session_failed(c, event);
        break;
    case WSR_SESSION_PONG:
        on_pong(c, event->data);
        break;
    case WSR_SESSION_NOTHING:
        break;
    }
}

bool wsr_conn_is_reading(const struct wsr_conn *c)
{
    return c->state >= WSR_CONN_TUNNELING && c->state <= WSR_CONN_CLOSING;
}

/* Can parsing lead to events other than the end? After our own Close, messages are read over. */
static bool makes_events(const struct wsr_conn *c)
{
    return c->state != WSR_CONN_CLOSING && !(c->marks & MARK_DETACHED);
}

/* Take the whole messages at the front of what is left of @buffer, as many as there are: no call, no count and no loan
 * for each of them. What this does not take is for feed() to judge. */
static void feed_run(struct wsr_conn *c, struct wsr_loan *buffer)
{
    struct wsr_deliver *deliver = &c->host->deliver;
    uint64_t room = wsr_deliver_run_room(deliver);
    if (c->state != WSR_CONN_OPEN || is_paused(c) || !wsr_session_is_between_messages(&c->session))
        return;
    const struct wsr_session_shared *shared = c->session.shared;
    const uint8_t *bytes = wsr_pool_bytes(buffer);
    uint32_t at = buffer->parsed, end = buffer->filled;
    if (at < end && bytes[at] & WSR_FRAME_RSV1 << 4)
        return;
    struct wsr_deliver_run run = wsr_deliver_begin_run(deliver, wsr_conn_socket(c), buffer);
    for (; room > 0 && at < end; room--) {
        uint8_t kind;
        struct wsr_bytes data;
        size_t taken = wsr_session_take_whole(shared, bytes + at, end - at, &kind, &data);
        if (taken == 0)
            break;
        wsr_deliver_push_run(&run, kind, data);
        at += (uint32_t)taken;
    }
    buffer->parsed = at;
    wsr_deliver_end_run(deliver, &run);
}

/* Feed @buffer, of which the caller has a use, from where parsing stopped. Returns false when the consumer is
 * behind. */
static bool feed(struct wsr_conn *c, struct wsr_loan *buffer)
{
    const uint8_t *bytes = wsr_pool_bytes(buffer);
    c->host->parsing = c;
    c->host->parsing_buffer = buffer;
    c->host->sessions.deflate = wsr_conn_deflate(c);
    feed_run(c, buffer);
    while (buffer->parsed < buffer->filled && wsr_conn_is_reading(c)) {
        if (WSR_UNLIKELY(is_paused(c)))
            return false;
        if (WSR_UNLIKELY(!wsr_deliver_has_message_room(&c->host->deliver)) && makes_events(c))
            return false;
        struct wsr_session_event event;
        size_t taken = wsr_session_feed(&c->session, bytes + buffer->parsed, buffer->filled - buffer->parsed, &event);
        assert(taken > 0);
        buffer->parsed += (uint32_t)taken;
        if (event.type == WSR_SESSION_NOTHING)
            continue;
        on_session_event(c, &event, buffer);
        feed_run(c, buffer);
    }
    return true;
}

/* All that @deliver has counted since it stood at @messages, @bytes and @copied was for the socket of @counts. */
static void count_delivered(struct wsr_link_counts *counts, const struct wsr_deliver *deliver, uint64_t messages,
                            uint64_t bytes, uint64_t copied)
{
    uint64_t more = wsr_conn_number(&deliver->messages) - messages;
    if (more == 0)
        return;
    wsr_conn_count(&counts->messages, more);
    wsr_conn_count(&counts->messages_bytes, wsr_conn_number(&deliver->messages_bytes) - bytes);
    atomic_store_explicit(&counts->last_message_ns, deliver->now_ns, memory_order_relaxed);
    copied = wsr_conn_number(&deliver->copied) - copied;
    /* Behind the messages; pairs with the acquire load in wsr_socket_statistics(). */
    if (copied > 0)
        atomic_store_explicit(&counts->copied, wsr_conn_number(&counts->copied) + copied, memory_order_release);
}

/* Feed @buffer and count once for all its messages what they add to the socket's numbers: meanwhile nobody else
 * delivers. The link outlives the conn, which feeding may end, until the events of this turn are published. */
bool wsr_conn_parse(struct wsr_conn *c, struct wsr_loan *buffer)
{
    const struct wsr_deliver *deliver = &c->host->deliver;
    struct wsr_link *link = c->link;
    uint64_t messages = wsr_conn_number(&deliver->messages);
    uint64_t bytes = wsr_conn_number(&deliver->messages_bytes);
    uint64_t copied = wsr_conn_number(&deliver->copied);
    bool is_done = feed(c, buffer);
    /* The conn may have ended meanwhile, and what was inflated is still in use by its events. */
    if (WSR_UNLIKELY(c->marks & MARK_DEFLATES))
        wsr_conn_use_deflate(c);
    if (WSR_UNLIKELY(c->host->inflated != NULL))
        wsr_conn_close_inflated(c->host);
    count_delivered(&link->counts, deliver, messages, bytes, copied);
    return is_done;
}

static const char *end_text(int system_errno)
{
    switch (system_errno) {
    case 0:
        return "the server ended the TCP connection without a Close frame";
    case ECONNRESET:
        return "the server reset the TCP connection";
    case ETIMEDOUT:
        return "the server's machine no longer answers";
    default:
        return "the connection broke; system_errno says why";
    }
}

/* The stream ended and all that came before it was parsed. */
static void on_end(struct wsr_conn *c)
{
    int system_errno = c->end_errno;
    if (c->state == WSR_CONN_TUNNELING) {
        wsr_conn_tunnel_ended(c);
    } else if (c->state == WSR_CONN_SECURING) {
        wsr_conn_tls_ended(c);
    } else if (c->state == WSR_CONN_UPGRADING) {
        static const char cut_short[] = "the server ended the TCP connection before its answer to the upgrade was "
                                        "complete";
        wsr_conn_fail(c, WSR_STAGE_UPGRADE, system_errno, system_errno == 0 ? cut_short : end_text(system_errno));
    } else if (wsr_conn_handshake_is_over(c)) {
        /* Our Close may still be on its way when only the server's direction has ended. */
        if (wsr_conn_is_sent(c) || (c->marks & MARK_CLOSE_LEFT) || system_errno != 0)
            wsr_conn_last_byte_left(c);
    } else if (c->session.state == WSR_SESSION_FAILED) {
        return;     /* the Close that is owed comes first: resume() or the timer sees to it */
    } else {
        wsr_conn_fail(c, c->state == WSR_CONN_OPEN ? WSR_STAGE_OPEN : WSR_STAGE_CLOSING, system_errno,
                      end_text(system_errno));
    }
}

/* Returns false when the consumer is behind, with *@buffer as what is to be gone on with. */
static bool take_in(struct wsr_conn *c, struct wsr_loan **buffer)
{
    return WSR_UNLIKELY(wsr_conn_is_sealed(c)) ? wsr_conn_parse_sealed(c, buffer) : wsr_conn_parse(c, *buffer);
}

void wsr_conn_parse_backlog(struct wsr_conn *c)
{
    /* What parsing leads to may release the backlog: each buffer is taken off it first. */
    for (struct wsr_loan *buffer; (buffer = take_backlog(c)) != NULL;) {
        if (WSR_UNLIKELY(c->state == WSR_CONN_TUNNELING))
            wsr_conn_feed_tunnel(c, buffer);
        /* What the proxy said may have been the end. */
        if (wsr_conn_is_reading(c) && !take_in(c, &buffer)) {
            put_backlog(c, buffer, false);
            if (!is_paused(c))
                rest_for_consumer(c);
            return;
        }
        wsr_conn_give_up(buffer);
    }
    if (c->ops & WSR_CONN_OP_RECV)
        c->marks &= (uint16_t)~MARK_BEHIND;
    if (!wsr_conn_is_reading(c))
        return;
    if (is_paused(c))
        return;
    if (c->marks & MARK_INPUT_ENDED)
        on_end(c);
    else
        wsr_conn_want_input(c);
}

void wsr_conn_count_received(struct wsr_conn *c, uint32_t bytes)
{
    wsr_conn_count(&c->host->counts.wire_received_bytes, bytes);
    wsr_conn_count(&c->link->counts.wire_received_bytes, bytes);
    atomic_store_explicit(&c->link->counts.last_received_ns, c->host->now_ns, memory_order_relaxed);
}

void wsr_conn_received(struct wsr_conn *c, const struct wsr_completion *completion)
{
    struct wsr_loan *buffer = NULL;
    if (WSR_UNLIKELY(c->tls != NULL) && c->tls->fetch != NULL) {
        wsr_conn_ktls_fetched(c, completion->result);
        return;
    }
    if (completion->flags & WSR_COMPLETION_BUFFER)
        buffer = wsr_pool_received(c->host->pool, completion->buffer,
                                   completion->result > 0 ? (uint32_t)completion->result : 0);
    if (buffer != NULL && (completion->result <= 0 || !wsr_conn_is_reading(c))) {
        wsr_pool_unuse(buffer);
        buffer = NULL;
    }
    if (c->state == WSR_CONN_DRAINING) {
        wsr_conn_finish_drain(c);
        return;
    }
    if (c->marks & MARK_INPUT_ENDED) {
        /* Behind close_notify: it changes nothing, and may put nothing off. */
        if (buffer != NULL)
            wsr_pool_unuse(buffer);
        return;
    }
    assert(wsr_conn_is_reading(c));
    /* Paused before the 101 was there, or a cancel has missed the receive. */
    if ((c->ops & WSR_CONN_OP_RECV) && is_paused(c))
        wsr_conn_pause(c);
    if (WSR_UNLIKELY(c->tls != NULL))
        wsr_conn_ktls_stop_recv(c);
    if (buffer != NULL) {
        wsr_conn_count_received(c, (uint32_t)completion->result);
        put_backlog(c, buffer, true);
    } else if (completion->result == -ENOBUFS) {
        wsr_conn_count(&c->host->counts.buffers_exhausted, 1);
    } else if (completion->result < 0 && wsr_conn_ktls_has_met(c, -completion->result)) {
        if (c->state == WSR_CONN_DRAINING)
            return;
    } else if (completion->result <= 0 && completion->result != -ECANCELED) {
        c->marks |= MARK_INPUT_ENDED;
        c->end_errno = (uint16_t)-completion->result;
    }
    wsr_conn_parse_backlog(c);
}

void wsr_conn_pause(struct wsr_conn *c)
{
    if (c->state > WSR_CONN_OPEN)
        return;
    c->marks |= MARK_PAUSED;
    if (is_paused(c) && (c->ops & WSR_CONN_OP_RECV))
        c->host->driver->ops->cancel(c->host->driver, wsr_conn_token_of(c, WSR_CONN_OP_RECV));
}

void wsr_conn_resume(struct wsr_conn *c)
{
    c->marks &= (uint16_t)~MARK_PAUSED;
    if (wsr_conn_is_reading(c))
        wsr_conn_parse_backlog(c);
}
