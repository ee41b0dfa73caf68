/* The closing handshake (RFC 6455 7), begun by either side or by a broken rule. */
#include "conn_inner.h"
#include "conn_tls.h"

#define PONG_PATIENCE_NS (50 * WSR_NS_PER_MS)
#define FAIL_PATIENCE_NS WSR_NS_PER_S   /* for the handlers of messages before a broken frame (RECV-12) */

struct wsr_chunk *wsr_conn_close_frame(struct wsr_conn *c, uint16_t code, struct wsr_bytes reason)
{
    uint8_t key[4];
    wsr_entropy_take(&c->host->entropy, key, sizeof key);
    return wsr_queue_close_frame(c->host->slab, code, reason, key);
}

/* Both Close frames are sent, or ours alone after a failure, or nothing can be sent: what is left to do then. */
void wsr_conn_last_byte_left(struct wsr_conn *c)
{
    bool has_ended = (c->marks & MARK_INPUT_ENDED) != 0;
    uint64_t patience_ns = has_ended ? PONG_PATIENCE_NS : c->host->fin_timeout_ns;
    if (c->tls != NULL && c->end_errno == 0 && wsr_conn_say_goodbye(c)) {
        wsr_timer_arm(c->host->wheel, &c->timer, wsr_conn_after(c, patience_ns));
        return;
    }
    if (has_ended && ((c->marks & MARK_FAILED) || c->end_errno != 0 || wsr_conn_is_sent(c))) {
        wsr_conn_begin_drain(c);
        return;
    }
    /* A failing Close must arrive before a reset could destroy it (CLOSE-30); a clean end is the server's to begin, as
     * RFC 6455 7.1.1 asks, so that it and not this side keeps the TIME_WAIT. */
    if (c->marks & MARK_FAILED) {
        c->host->driver->ops->shutdown(c->host->driver, c->file);
        c->marks |= MARK_SEND_BROKEN;       /* or TLS would answer a KeyUpdate that comes now */
    }
    /* Only Pongs can be left, to Pings before the server's Close: RFC 6455 5.5.2 wants them sent, if they are taken. */
    wsr_timer_arm(c->host->wheel, &c->timer, wsr_conn_after(c, patience_ns));
}

bool wsr_conn_handshake_is_over(const struct wsr_conn *c)
{
    return c->state == WSR_CONN_CLOSING && c->session.state == WSR_SESSION_CLOSED;
}

bool wsr_conn_is_settled(const struct wsr_conn *c)
{
    return wsr_conn_handshake_is_over(c) && (c->marks & MARK_CLOSE_LEFT);
}

/* Queue @frame, which may be NULL without memory: then the end comes by the timer, or at once when it is the last
 * word. */
static void start_closing(struct wsr_conn *c, struct wsr_chunk *frame, uint64_t limit_ns)
{
    wsr_conn_enter(c, WSR_CONN_CLOSING);
    if (c->marks & MARK_PAUSED) {
        c->marks &= (uint16_t)~MARK_PAUSED;
        wsr_conn_rest(c);                       /* the server's Close is to be read */
        c->host->goes_on = true;
    }
    wsr_timer_arm(c->host->wheel, &c->timer, wsr_conn_after(c, limit_ns));
    if (frame != NULL && (c->marks & MARK_SEND_BROKEN)) {
        wsr_slab_give(c->host->slab, frame);
        frame = NULL;
    }
    if (frame != NULL) {
        wsr_queue_push(&c->queue, frame);
        wsr_conn_mark_unsent(c);
    } else if (wsr_conn_handshake_is_over(c) && wsr_conn_is_sent(c)) {
        wsr_conn_last_byte_left(c);
    }
}

/* The session broke a rule: say so to the server, behind what the handlers of earlier messages had to say. */
void wsr_conn_close_failed(struct wsr_conn *c)
{
    struct wsr_bytes text = wsr_bytes_of_string(c->end.failure_text);
    bool is_owed = wsr_session_close(&c->session);
    start_closing(c, is_owed ? wsr_conn_close_frame(c, c->end.code, text) : NULL, c->host->fin_timeout_ns);
}

/* The stage of a conn whose server has answered. */
static enum wsr_stage stage_of(const struct wsr_conn *c)
{
    if (c->state == WSR_CONN_UPGRADING)
        return WSR_STAGE_UPGRADE;
    return c->state == WSR_CONN_OPEN ? WSR_STAGE_OPEN : WSR_STAGE_CLOSING;
}

void wsr_conn_session_failed(struct wsr_conn *c, const struct wsr_session_event *event)
{
    wsr_conn_note_failure(c, stage_of(c), 0, event->text);
    c->end.code = event->code;
    c->end.http_status = event->http_status;
    wsr_conn_release_backlog(c);
    if (c->state == WSR_CONN_UPGRADING) {
        const struct wsr_handshake_agreement nothing = { 0 };
        /* Nothing was agreed on that memory could be missing for. */
        if (event->http_status != 0)
            (void)wsr_conn_keep_answer(c, &nothing, event->head);
        wsr_conn_count(&c->host->counts.sockets_failed, 1);
        wsr_conn_begin_drain(c);
        return;
    }
    if (c->state == WSR_CONN_CLOSING) {
        wsr_session_close(&c->session);
        if (wsr_conn_is_sent(c))
            wsr_conn_last_byte_left(c);
        else
            wsr_timer_arm(c->host->wheel, &c->timer, wsr_conn_after(c, c->host->fin_timeout_ns));
        return;
    }
    c->fail_after = wsr_deliver_position(&c->host->deliver);
    if (wsr_deliver_has_passed(&c->host->deliver, c->fail_after)) {
        wsr_conn_close_failed(c);
    } else {
        wsr_timer_arm(c->host->wheel, &c->timer, wsr_conn_after(c, FAIL_PATIENCE_NS));
        wsr_conn_rest(c);
    }
}

void wsr_conn_peer_closed(struct wsr_conn *c, const struct wsr_session_event *event)
{
    c->end.code = event->code;
    if (event->data.len > 0) {
        c->end.reason = wsr_pool_block(c->host->pool, event->data.len);
        if (c->end.reason != NULL) {
            memcpy(wsr_pool_block_bytes(c->end.reason), event->data.data, event->data.len);
            c->end.reason_bytes = (uint8_t)event->data.len;
        }
    }
    wsr_conn_release_backlog(c);
    /* CLOSE-20: messages that have not begun to leave are dropped; our Close echoes the code alone (OQ-11). */
    wsr_queue_drop_messages(&c->queue, c->host->slab);
    if (c->state == WSR_CONN_CLOSING) {
        if ((c->marks & MARK_CLOSE_LEFT) || wsr_conn_is_sent(c))
            wsr_conn_last_byte_left(c);
        return;
    }
    if (!(c->marks & MARK_DETACHED))
        wsr_deliver_plain(&c->host->deliver, wsr_conn_socket(c), WSR_DELIVER_CLOSING);
    wsr_session_close(&c->session);
    uint16_t code = event->code == 1005 ? 0 : event->code;
    start_closing(c, wsr_conn_close_frame(c, code, wsr_bytes_of(NULL, 0)), c->host->close_timeout_ns);
}

void wsr_conn_close(struct wsr_conn *c, struct wsr_chunk *frame)
{
    if (c->state != WSR_CONN_OPEN || c->session.state != WSR_SESSION_OPEN) {
        wsr_slab_give_all(c->host->slab, frame);
        return;
    }
    wsr_session_close(&c->session);
    start_closing(c, frame, c->host->close_timeout_ns);
}
