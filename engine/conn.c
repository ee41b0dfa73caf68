/* The life of a connection: FREE -> DIALING -> TUNNELING -> SECURING -> UPGRADING -> OPEN -> CLOSING -> DRAINING ->
 * FREE; what is not asked for is left out. Any live state may go to DRAINING, and memory is given back only from there,
 * when every operation has come back. This file holds the state, the lists of a turn and the end; conn_open.c,
 * conn_proxy.c, conn_receive.c, conn_send.c and conn_close.c do the rest. */
#include "conn_deflate.h"
#include "conn_inner.h"
#include "conn_tls.h"

#include <errno.h>

static const uint8_t may_follow[] = {
    [WSR_CONN_FREE] = 1u << WSR_CONN_DIALING,
    [WSR_CONN_DIALING] = 1u << WSR_CONN_TUNNELING | 1u << WSR_CONN_SECURING | 1u << WSR_CONN_UPGRADING |
                         1u << WSR_CONN_DRAINING,
    [WSR_CONN_TUNNELING] = 1u << WSR_CONN_SECURING | 1u << WSR_CONN_UPGRADING | 1u << WSR_CONN_DRAINING,
    [WSR_CONN_SECURING] = 1u << WSR_CONN_UPGRADING | 1u << WSR_CONN_DRAINING,
    [WSR_CONN_UPGRADING] = 1u << WSR_CONN_OPEN | 1u << WSR_CONN_DRAINING,
    [WSR_CONN_OPEN] = 1u << WSR_CONN_CLOSING | 1u << WSR_CONN_DRAINING,
    [WSR_CONN_CLOSING] = 1u << WSR_CONN_DRAINING,
    [WSR_CONN_DRAINING] = 1u << WSR_CONN_FREE,
};

void wsr_conn_enter(struct wsr_conn *c, enum wsr_conn_state to)
{
    assert(may_follow[c->state] & (1u << to));
    c->state = (uint8_t)to;
}

uint64_t wsr_conn_token_of(const struct wsr_conn *c, enum wsr_conn_op op)
{
    return wsr_conn_token((uint32_t)(c - c->host->slots), c->generation, op);
}

struct wsr_socket *wsr_conn_socket(const struct wsr_conn *c)
{
    return (struct wsr_socket *)(void *)c->link;   /* the link lies first in the socket */
}

uint64_t wsr_conn_after(const struct wsr_conn *c, uint64_t limit_ns)
{
    return limit_ns >= WSR_NEVER - c->host->now_ns ? WSR_NEVER : c->host->now_ns + limit_ns;
}

/* ---- The lists of the turn ---- */

static struct wsr_conn *conn_at(const struct wsr_conn_host *host, uint32_t number)
{
    return number != 0 ? &host->slots[number - 1] : NULL;
}

static uint32_t number_of(const struct wsr_conn *c)
{
    return c != NULL ? (uint32_t)(c - c->host->slots) + 1 : 0;
}

struct wsr_conn *wsr_conn_next(const struct wsr_conn *c)
{
    return conn_at(c->host, c->queue.next);
}

void wsr_conn_mark_unsent(struct wsr_conn *c)
{
    if (c->marks & MARK_UNSENT)
        return;
    c->marks |= MARK_UNSENT;
    c->queue.next = number_of(c->host->unsent_first);
    c->host->unsent_first = c;
}

static struct wsr_conn *resting_after(const struct wsr_conn *c)
{
    return conn_at(c->host, c->resting_next);
}

static void set_resting_after(struct wsr_conn *c, const struct wsr_conn *next)
{
    c->resting_next = number_of(next);
}

void wsr_conn_rest(struct wsr_conn *c)
{
    if (c->marks & MARK_RESTING)
        return;
    c->marks |= MARK_RESTING;
    c->resting_next = 0;
    if (c->host->resting_first == NULL)
        c->host->resting_first = c;
    else
        set_resting_after(c->host->resting_last, c);
    c->host->resting_last = c;
}

/* ---- The end ---- */

static void release_reason(struct wsr_conn *c)
{
    if (!(c->marks & MARK_FAILED) && c->end.reason != NULL) {
        wsr_pool_unuse(c->end.reason);
        c->end.reason = NULL;
    }
}

void wsr_conn_note_failure(struct wsr_conn *c, enum wsr_stage stage, int system_errno, const char *text)
{
    if (c->marks & MARK_FAILED)
        return;
    release_reason(c);
    c->marks |= MARK_FAILED;
    c->end.failure_text = text;
    c->end.system_errno = (uint16_t)system_errno;      /* the kernel's end at 4095 */
    c->end.stage = (uint8_t)stage;
}

static void tell_end(struct wsr_conn *c)
{
    /* CLOSE-29: clean is a Close received and one sent, not one that was still waiting. */
    if (!(c->marks & MARK_CLOSE_LEFT))
        wsr_conn_note_failure(c, WSR_STAGE_CLOSING, c->end_errno, "the server sent its Close but took no answer to it");
    struct wsr_deliver_end end = { .code = 1006 };
    if (c->marks & MARK_FAILED) {
        end.failure_text = c->end.failure_text;
        end.system_errno = c->end.system_errno;
        end.http_status = c->end.http_status;
        end.stage = c->end.stage;
    } else {
        end.was_clean = true;
        end.code = c->end.code;
        end.reason = c->end.reason;
        end.reason_bytes = c->end.reason_bytes;
        c->end.reason = NULL;
    }
    wsr_deliver_close(&c->host->deliver, wsr_conn_socket(c), &end);
}

/* The end was told: give the slot back. */
static void retire(struct wsr_conn *c)
{
    struct wsr_conn_host *host = c->host;
    struct wsr_link *link = c->link;
    link->conn = NULL;
    c->link = NULL;
    if (c->marks & MARK_GONE)
        wsr_conn_tell_gone(host, link);
    c->marks = 0;
    wsr_conn_enter(c, WSR_CONN_FREE);
    c->generation++;
    c->queue.next = number_of(host->free_first);
    host->free_first = c;
    host->freed(host);
}

/* Nothing is in flight any more: give back all memory but the slot. */
static void release_all(struct wsr_conn *c)
{
    struct wsr_conn_host *host = c->host;
    if (c->file >= 0)
        host->driver->ops->close(host->driver, c->file);
    c->file = -1;
    wsr_conn_end_tls(c);
    wsr_queue_clear(&c->queue, host->slab);
    wsr_session_free(&c->session);
    wsr_conn_end_deflate(c);
    wsr_conn_leave_gate(c);
    wsr_conn_end_opening(c);
}

/* Go on from DRAINING when every operation has come back and the end can be told. */
void wsr_conn_finish_drain(struct wsr_conn *c)
{
    assert(c->state == WSR_CONN_DRAINING && !(c->marks & MARK_TOLD));
    if (c->ops != 0)
        return;
    wsr_timer_disarm(c->host->wheel, &c->timer);
    release_all(c);
    if (!(c->marks & MARK_DETACHED)) {
        if (!wsr_deliver_has_room(&c->host->deliver, 2)) {
            wsr_conn_rest(c);
            return;
        }
        tell_end(c);
    }
    release_reason(c);
    c->marks |= MARK_TOLD;
    /* A list of the turn may still hold the conn: then the walk over it is the last that sees it. */
    if (!(c->marks & (MARK_UNSENT | MARK_RESTING)))
        retire(c);
}

/* Ask for the end of what is in flight, again and again: the kernel may miss an operation that it is just working
 * on. */
static void cancel_operations(struct wsr_conn *c)
{
    struct wsr_driver *driver = c->host->driver;
    static const enum wsr_conn_op ops[] = { WSR_CONN_OP_CONNECT, WSR_CONN_OP_RECV, WSR_CONN_OP_SEND };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (c->ops & ops[i])
            driver->ops->cancel(driver, wsr_conn_token_of(c, ops[i]));
    }
    wsr_timer_arm(c->host->wheel, &c->timer, wsr_conn_after(c, CANCEL_AGAIN_NS));
}

void wsr_conn_begin_drain(struct wsr_conn *c)
{
    struct wsr_conn_host *host = c->host;
    wsr_conn_enter(c, WSR_CONN_DRAINING);
    wsr_timer_disarm(host->wheel, &c->timer);
    wsr_conn_release_backlog(c);
    if ((c->ops & WSR_CONN_OP_LOOKUP) && wsr_resolve_cancel(host->resolver, &wsr_conn_opening(c)->lookup))
        c->ops &= (uint8_t)~WSR_CONN_OP_LOOKUP;
    if ((c->ops & WSR_CONN_OP_GATE) && wsr_gate_withdraw(host->gate, &wsr_conn_opening(c)->place))
        c->ops &= (uint8_t)~WSR_CONN_OP_GATE;
    if (c->ops & (uint8_t)~(WSR_CONN_OP_LOOKUP | WSR_CONN_OP_GATE))
        cancel_operations(c);
    wsr_conn_finish_drain(c);
}

void wsr_conn_fail(struct wsr_conn *c, enum wsr_stage stage, int system_errno, const char *text)
{
    wsr_conn_note_failure(c, stage, system_errno, text);
    if (c->state < WSR_CONN_OPEN)
        wsr_conn_count(&c->host->counts.sockets_failed, 1);
    wsr_conn_begin_drain(c);
}

/* ---- What the application and the clock ask for ---- */

void wsr_conn_abort(struct wsr_conn *c)
{
    static const char text[] = "closed by the application before it was open";
    if (c->state == WSR_CONN_TUNNELING)
        wsr_conn_fail(c, WSR_STAGE_PROXY, 0, text);
    else if (c->state == WSR_CONN_SECURING)
        wsr_conn_fail(c, WSR_STAGE_TLS, 0, text);
    else if (c->state < WSR_CONN_CLOSING)
        wsr_conn_fail(c, c->state < WSR_CONN_UPGRADING ? WSR_STAGE_CONNECT : WSR_STAGE_UPGRADE, 0, text);
}

void wsr_conn_detach(struct wsr_conn *c, struct wsr_chunk *frame)
{
    c->marks |= MARK_DETACHED | MARK_GONE;
    bool is_open = c->state == WSR_CONN_OPEN && c->session.state == WSR_SESSION_OPEN;
    if (is_open && frame != NULL) {
        wsr_conn_close(c, frame);
        return;
    }
    wsr_slab_give_all(c->host->slab, frame);
    if (c->state < WSR_CONN_OPEN)
        wsr_conn_count(&c->host->counts.sockets_failed, 1);
    if (c->state < WSR_CONN_OPEN || is_open)
        wsr_conn_begin_drain(c);
    else if (c->state == WSR_CONN_OPEN && c->session.state == WSR_SESSION_FAILED)
        wsr_conn_close_failed(c);
}

void wsr_conn_farewell(struct wsr_conn *c)
{
    if (c->state != WSR_CONN_OPEN || c->session.state != WSR_SESSION_OPEN)
        return;
    c->marks |= MARK_DETACHED;
    wsr_conn_close(c, wsr_conn_close_frame(c, 1001, wsr_bytes_of(NULL, 0)));
}

void wsr_conn_kill(struct wsr_conn *c)
{
    c->marks |= MARK_DETACHED;
    c->marks &= (uint16_t)~MARK_GONE;
    if (c->state != WSR_CONN_DRAINING)
        wsr_conn_begin_drain(c);
}

void wsr_conn_forget(struct wsr_conn *c)
{
    c->queue.flight_last = NULL;
    if (c->tls != NULL)
        c->tls->sealed.flight_last = NULL;
    wsr_conn_end_tls(c);
    wsr_queue_clear(&c->queue, c->host->slab);
    wsr_session_free(&c->session);
    wsr_conn_end_deflate(c);
    wsr_conn_end_opening(c);
}

void wsr_conn_expired(struct wsr_conn *c)
{
    switch ((enum wsr_conn_state)c->state) {
    case WSR_CONN_DIALING:
    case WSR_CONN_TUNNELING:
    case WSR_CONN_SECURING:
    case WSR_CONN_UPGRADING:
        wsr_conn_open_expired(c);
        break;
    case WSR_CONN_OPEN:
        if (c->session.state == WSR_SESSION_FAILED)
            wsr_conn_close_failed(c);
        else if (c->marks & (MARK_RESTING | MARK_PAUSED))   /* what came before the break is still to be delivered */
            wsr_timer_arm(c->host->wheel, &c->timer, wsr_conn_after(c, c->host->fin_timeout_ns));
        else
            wsr_conn_fail(c, WSR_STAGE_OPEN, c->end_errno, "sending failed and the server did not end the connection");
        break;
    case WSR_CONN_CLOSING:
        if (wsr_conn_handshake_is_over(c))
            wsr_conn_begin_drain(c);
        else
            wsr_conn_fail(c, WSR_STAGE_CLOSING, ETIMEDOUT,
                          "the server did not answer the Close frame in time; see close_timeout_ns");
        break;
    case WSR_CONN_DRAINING:
        cancel_operations(c);
        break;
    case WSR_CONN_FREE:
        assert(c->state != WSR_CONN_FREE);   /* no limit runs here */
    }
}

/* ---- Turns ---- */

void wsr_conn_completed(struct wsr_conn *c, enum wsr_conn_op op, const struct wsr_completion *completion)
{
    assert(c->state != WSR_CONN_FREE && (c->ops & op));
    if (!(completion->flags & WSR_COMPLETION_MORE))
        c->ops &= (uint8_t)~op;
    if (op == WSR_CONN_OP_RECV)
        wsr_conn_received(c, completion);
    else if (op == WSR_CONN_OP_SEND)
        wsr_conn_sent(c, completion->result);
    else if (c->state != WSR_CONN_DRAINING)
        wsr_conn_connected(c, completion->result);
    else
        wsr_conn_finish_drain(c);
}

void wsr_conn_looked_up(struct wsr_conn *c)
{
    assert(c->ops & WSR_CONN_OP_LOOKUP);
    c->ops &= (uint8_t)~WSR_CONN_OP_LOOKUP;
    if (c->state == WSR_CONN_DRAINING)
        wsr_conn_finish_drain(c);
    else
        wsr_conn_found(c);
}

void wsr_conn_admitted(struct wsr_conn *c)
{
    assert(c->ops & WSR_CONN_OP_GATE);
    c->ops &= (uint8_t)~WSR_CONN_OP_GATE;
    if (c->state == WSR_CONN_DRAINING)
        wsr_conn_finish_drain(c);
    else
        wsr_conn_let_through(c);
}

static void go_on(struct wsr_conn *c)
{
    if (c->state == WSR_CONN_DRAINING) {
        if (!(c->marks & MARK_TOLD))
            wsr_conn_finish_drain(c);
        else if (!(c->marks & MARK_UNSENT))
            retire(c);
        return;
    }
    if (c->state == WSR_CONN_OPEN && c->session.state == WSR_SESSION_FAILED) {
        if (wsr_deliver_has_passed(&c->host->deliver, c->fail_after) && !c->host->has_more_commands)
            wsr_conn_close_failed(c);
        else
            wsr_conn_rest(c);
    }
    wsr_conn_tell_writable(c);
    wsr_conn_parse_backlog(c);
}

void wsr_conn_resume_resting(struct wsr_conn_host *host)
{
    struct wsr_conn *c = host->resting_first, *last = host->resting_last;
    /* Those that go on resting come behind all others. */
    host->resting_first = host->resting_last = NULL;
    for (struct wsr_conn *next; c != NULL; c = next) {
        next = resting_after(c);
        c->marks &= (uint16_t)~MARK_RESTING;
        go_on(c);
        if (next == NULL || host->is_ending || wsr_deliver_has_room(&host->deliver, 3))
            continue;
        /* The consumer is behind: whoever was not asked in this turn comes first in the next, or the first in the list
         * would take all room for ever. */
        set_resting_after(last, host->resting_first);
        if (host->resting_first == NULL)
            host->resting_last = last;
        host->resting_first = next;
        break;
    }
}

void wsr_conn_flush_unsent(struct wsr_conn_host *host)
{
    struct wsr_conn *c = host->unsent_first;
    host->unsent_first = NULL;
    for (struct wsr_conn *next; c != NULL; c = next) {
        next = wsr_conn_next(c);
        c->marks &= (uint16_t)~MARK_UNSENT;
        if ((c->marks & (MARK_TOLD | MARK_RESTING)) == MARK_TOLD)
            retire(c);
        else
            wsr_conn_launch(c);
    }
}

void wsr_conn_tell_gone(struct wsr_conn_host *host, struct wsr_link *link)
{
    assert(link->conn == NULL);
    if (wsr_deliver_has_room(&host->deliver, 1)) {
        wsr_deliver_plain(&host->deliver, (struct wsr_socket *)(void *)link, WSR_DELIVER_GONE);
    } else {
        link->gone_next = host->gone_first;
        host->gone_first = link;
    }
}
