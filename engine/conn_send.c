/* What goes out: one send in flight, everything that gathers meanwhile leaves with the next. */
#include "conn_inner.h"
#include "conn_tls.h"
#include "fragment.h"

#include <errno.h>

struct wsr_chunk *wsr_conn_control_frame(struct wsr_conn *c, enum wsr_opcode opcode, struct wsr_bytes payload)
{
    uint8_t key[4];
    wsr_entropy_take(&c->host->entropy, key, sizeof key);
    return wsr_queue_control_frame(c->host->slab, opcode, payload, key);
}

static uint64_t queued_bytes(const struct wsr_link *link)
{
    /* Any value that was true a moment ago will do: the sum is asked again after every send. */
    return atomic_load_explicit(&link->sent_bytes, memory_order_relaxed) -
           atomic_load_explicit(&link->credited_bytes, memory_order_relaxed);
}

/* Could the largest send that was refused be taken now? Asked only while a writable event is owed. */
static bool has_room_for_refused(const struct wsr_conn *c)
{
    uint64_t cap = c->host->send_queue_max_bytes;
    /* Pairs with the release exchange in refuse_for_quota() of send.c. */
    uint64_t refused = atomic_load_explicit(&c->link->refused_bytes, memory_order_acquire);
    uint64_t queued = queued_bytes(c->link);
    return queued <= cap / 2 && queued + refused <= cap;
}

static bool has_slabs_for_refused(const struct wsr_conn *c)
{
    uint64_t refused = atomic_load_explicit(&c->link->refused_bytes, memory_order_acquire);
    struct wsr_fragment_cut cut = wsr_fragment_cut(refused, c->link->fragment_bytes);
    struct wsr_chunk *probe = wsr_fragment_take(&cut, c->host->slab);
    wsr_slab_give_all(c->host->slab, probe);
    return probe != NULL;
}

/* Publish the writable event that is owed, if what was refused would be taken now and there is room to tell. */
void wsr_conn_tell_writable(struct wsr_conn *c)
{
    if (!(c->marks & MARK_WRITABLE_WISH) || c->state != WSR_CONN_OPEN || !has_room_for_refused(c))
        return;
    if (!wsr_deliver_has_room(&c->host->deliver, 1) || !has_slabs_for_refused(c)) {
        wsr_conn_rest(c);
        return;
    }
    c->marks &= (uint16_t)~MARK_WRITABLE_WISH;
    atomic_store_explicit(&c->link->refused_bytes, 0, memory_order_relaxed);
    /* The next refused send asks anew. Pairs with the exchange in refuse_for_quota() of send.c. */
    atomic_store_explicit(&c->link->wants_writable, 0, memory_order_release);
    wsr_deliver_plain(&c->host->deliver, wsr_conn_socket(c), WSR_EVENT_WRITABLE);
}

void wsr_conn_want_writable(struct wsr_conn *c)
{
    c->marks |= MARK_WRITABLE_WISH;
    wsr_conn_tell_writable(c);
}

/* A message of @payload_bytes was put into the queue. */
static void note_message(struct wsr_conn *c, uint64_t payload_bytes)
{
    wsr_conn_count(&c->host->counts.messages_sent, 1);
    wsr_conn_count(&c->host->counts.messages_sent_bytes, payload_bytes);
    wsr_conn_count(&c->link->counts.messages_sent, 1);
    wsr_conn_count(&c->link->counts.messages_sent_bytes, payload_bytes);
    wsr_conn_mark_unsent(c);
}

bool wsr_conn_takes_messages(const struct wsr_conn *c)
{
    return c->state == WSR_CONN_OPEN && !(c->marks & MARK_SEND_BROKEN);
}

/* A small message that comes while others wait joins them: to copy it once more, masked as it is, is cheaper than a
 * part of the send for itself. Returns false when it is to stay in its own chunk. */
static bool gather(struct wsr_conn *c, struct wsr_chunk *message, uint32_t payload_bytes)
{
    if (wsr_queue_is_empty(&c->queue) || message->next != NULL || message->used > WSR_QUEUE_GATHER_MAX)
        return false;
    if (message->frame_bytes == WSR_CHUNK_DEFLATED)
        return false;                       /* its frame does not tell what it stands for */
    assert(message->frame_bytes == 0);      /* several frames are several chunks, see wsr_fragment_take() */
    struct wsr_chunk *end = wsr_queue_open_end(&c->queue, c->host->slab, message->used);
    if (end == NULL)
        return false;
    memcpy(end->data + end->used, message->data, message->used);
    wsr_queue_extend(&c->queue, end, message->used - payload_bytes, payload_bytes);
    wsr_slab_give(c->host->slab, message);
    return true;
}

void wsr_conn_send(struct wsr_conn *c, struct wsr_chunk *message)
{
    if (!wsr_conn_takes_messages(c)) {
        wsr_slab_give_all(c->host->slab, message);
        return;
    }
    uint64_t payload_bytes = wsr_queue_payload_bytes(message);
    if (!gather(c, message, (uint32_t)payload_bytes))
        wsr_queue_push(&c->queue, message);
    note_message(c, payload_bytes);
}

void wsr_conn_extend(struct wsr_conn *c, struct wsr_chunk *chunk, uint32_t head_bytes, uint32_t payload_bytes)
{
    wsr_queue_extend(&c->queue, chunk, head_bytes, payload_bytes);
    note_message(c, payload_bytes);
}

void wsr_conn_ping(struct wsr_conn *c, struct wsr_chunk *payload, bool is_timed)
{
    uint64_t own[2] = { c->host->ping_mark, c->host->now_ns };
    struct wsr_bytes bytes = is_timed ? wsr_bytes_of(own, sizeof own) : wsr_bytes_of(payload->data, payload->used);
    struct wsr_chunk *ping = NULL;
    if (c->state == WSR_CONN_OPEN && !(c->marks & MARK_SEND_BROKEN))
        ping = wsr_conn_control_frame(c, WSR_OPCODE_PING, bytes);
    wsr_slab_give(c->host->slab, payload);
    if (ping == NULL)
        return;
    uint8_t *count = is_timed ? &c->timed_pings_count : &c->pings_count;
    if (*count < UINT8_MAX)
        ++*count;
    wsr_conn_count_few(&c->link->counts.pings_sent);
    wsr_queue_push_control(&c->queue, ping);
    wsr_conn_mark_unsent(c);
}

bool wsr_conn_is_sent(const struct wsr_conn *c)
{
    return wsr_queue_is_empty(&c->queue) && (c->tls == NULL || wsr_queue_is_empty(&c->tls->sealed));
}

static bool can_launch(const struct wsr_conn *c)
{
    return !(c->ops & WSR_CONN_OP_SEND) && !wsr_conn_is_sent(c) && c->file >= 0 && wsr_conn_is_reading(c) &&
           !(c->marks & MARK_SEND_BROKEN);
}

void wsr_conn_launch(struct wsr_conn *c)
{
    struct wsr_driver *driver = c->host->driver;
    while (can_launch(c)) {
        struct iovec parts[WSR_DRIVER_PARTS_MAX];
        struct wsr_queue *queue = WSR_UNLIKELY(c->tls != NULL) ? wsr_conn_sealed(c) : &c->queue;
        if (queue == NULL)
            return;
        if (WSR_UNLIKELY(wsr_conn_is_in_kernel(c)) && queue != &c->queue) {
            wsr_conn_ktls_say(c);
            return;
        }
        size_t count = wsr_queue_launch(queue, parts, WSR_DRIVER_PARTS_MAX);
        ssize_t sent = driver->ops->send_now != NULL ? driver->ops->send_now(driver, c->file, parts, count) : -EAGAIN;
        wsr_conn_count(&c->host->counts.sends, 1);
        if (sent == -EAGAIN) {
            c->ops |= WSR_CONN_OP_SEND;
            (wsr_conn_is_in_kernel(c) ? driver->ops->send_sealed : driver->ops->send)(
                driver, c->file, parts, count, wsr_conn_token_of(c, WSR_CONN_OP_SEND));
            return;
        }
        wsr_conn_sent(c, (int32_t)sent);
    }
}

/* Sending is over. What the server said before is still in the kernel, so the receiving side tells the end; a limit
 * stands behind it in case it never comes. */
void wsr_conn_send_broken(struct wsr_conn *c, int system_errno)
{
    c->marks |= MARK_SEND_BROKEN;
    if (c->tls != NULL)
        (void)wsr_conn_sealed_landed(c, 0, true);
    wsr_queue_clear(&c->queue, c->host->slab);
    if (!(c->marks & MARK_INPUT_ENDED))
        c->end_errno = (uint16_t)system_errno;
    if (wsr_conn_handshake_is_over(c))
        wsr_conn_last_byte_left(c);
    else if (c->state == WSR_CONN_OPEN && !wsr_timer_is_armed(&c->timer))
        wsr_timer_arm(c->host->wheel, &c->timer, wsr_conn_after(c, c->host->fin_timeout_ns));
    else if (wsr_conn_is_handing_over(c))
        wsr_conn_want_input(c);         /* which rests for that */
}

/* From our Close on, nothing but Pongs is queued behind it. */
static bool has_close_left(const struct wsr_conn *c)
{
    bool is_queued = c->session.state == WSR_SESSION_CLOSE_SENT || c->session.state == WSR_SESSION_CLOSED;
    return is_queued && wsr_queue_has_pongs_only(&c->queue);
}

void wsr_conn_sent(struct wsr_conn *c, int32_t result)
{
    uint64_t bytes = result > 0 ? (uint64_t)result : 0;
    struct wsr_queue_credit credit = c->tls != NULL ? wsr_conn_sealed_landed(c, bytes, false)
                                                    : wsr_queue_landed(&c->queue, c->host->slab, bytes);
    wsr_conn_count(&c->host->counts.wire_sent_bytes, bytes);
    wsr_conn_count(&c->link->counts.wire_sent_bytes, bytes);
    /* Read by wsr_send() of any thread and by bufferedAmount: a number alone, so no order. */
    wsr_conn_count(&c->link->credited_bytes, credit.payload_bytes);
    if (credit.was_short)
        wsr_conn_count(&c->host->counts.short_sends, 1);
    bool has_close_just_left = !(c->marks & MARK_CLOSE_LEFT) && has_close_left(c);
    if (has_close_just_left)
        c->marks |= MARK_CLOSE_LEFT;
    if (c->state == WSR_CONN_DRAINING) {
        wsr_conn_finish_drain(c);
        return;
    }
    if (wsr_conn_has_peer_closed(c))    /* CLOSE-20: what was given to the kernel may have landed short */
        wsr_queue_drop_messages(&c->queue, c->host->slab);
    if (result < 0 && result != -EAGAIN && result != -EINTR) {
        wsr_conn_send_broken(c, -result);
        if (!wsr_conn_is_reading(c))
            return;
    }
    if (c->tls != NULL && wsr_conn_tls_is_over(c) && !wsr_conn_is_settled(c)) {
        wsr_conn_fail(c, WSR_STAGE_TLS, 0, "");     /* which was noted before */
        return;
    }
    if (c->marks & MARK_SEND_BROKEN)
        return;
    wsr_conn_tell_writable(c);
    bool is_empty = wsr_conn_is_sent(c);
    if (!is_empty)
        wsr_conn_mark_unsent(c);
    else if (wsr_conn_is_handing_over(c))
        wsr_conn_want_input(c);
    if (wsr_conn_handshake_is_over(c) && (is_empty || (has_close_just_left && !(c->marks & MARK_FAILED))))
        wsr_conn_last_byte_left(c);
}
