/* Records by the kernel: the hand-over after the handshake, and what the kernel gives out, or is given, that is not
 * data. Until it has both keys, records are opened and sealed in user space with the same ones. */
#include <errno.h>
#include <stdlib.h>

#include "conn_inner.h"
#include "conn_tls.h"
#include "ktls.h"

#define BAD_RECORD_MAC 20         /* AlertDescription, RFC 8446 6.2 */
#define RECORD_OVERFLOW 22
#define UNEXPECTED_MESSAGE 10
#define INTERNAL_ERROR 80
#define CONTROL_BYTES 4000u       /* room for most records that are not data; others come in parts, as messages may */
#define ALERT_BYTES 2u            /* no message of a handshake is so short */

static const char no_memory[] = "no memory for TLS";

/* One operation with memory of its own: a message of a record that is not data, or the rest of a record that began
 * before the hand-over. */
struct wsr_conn_ktls_op {
    struct msghdr message;
    struct iovec part;
    _Alignas(struct cmsghdr) uint8_t control[WSR_KTLS_CONTROL_BYTES];
    struct wsr_loan *block;       /* to receive into */
    bool is_message;
};

static void enter(struct wsr_conn_tls *t, enum wsr_conn_ktls_state to)
{
    static const uint8_t may_follow[] = {
        [WSR_CONN_KTLS_OFF] = 1u << WSR_CONN_KTLS_HANDING,
        [WSR_CONN_KTLS_HANDING] = 1u << WSR_CONN_KTLS_OFF | 1u << WSR_CONN_KTLS_DATA,
        [WSR_CONN_KTLS_DATA] = 1u << WSR_CONN_KTLS_CONTROL,
        [WSR_CONN_KTLS_CONTROL] = 1u << WSR_CONN_KTLS_DATA | 1u << WSR_CONN_KTLS_KEYS,
        [WSR_CONN_KTLS_KEYS] = 1u << WSR_CONN_KTLS_DATA,
    };
    assert(may_follow[t->ktls] & (1u << to));
    t->ktls = (uint8_t)to;
}

static void free_op(struct wsr_conn_ktls_op **op)
{
    if (*op != NULL && (*op)->block != NULL)
        wsr_pool_unuse((*op)->block);
    free(*op);
    *op = NULL;
}

void wsr_conn_ktls_free(struct wsr_conn *c)
{
    free_op(&c->tls->fetch);
    free_op(&c->tls->say);
}

/* ---- Keys ---- */

static int set_option(struct wsr_conn *c, struct wsr_ktls_option *option)
{
    struct wsr_driver *driver = c->host->driver;
    int rc = driver->ops->set_option(driver, c->file, option->level, option->name, option->value, option->bytes);
    wsr_ktls_wipe(option);
    return rc;
}

static int give_key(struct wsr_conn *c, bool is_out)
{
    const struct wsr_tls_direct *direct = &c->tls->tls.direct;
    struct wsr_ktls_option option;
    wsr_ktls_key(&option, direct->suite, is_out ? &direct->out : &direct->in, is_out);
    return set_option(c, &option);
}

static int attach(struct wsr_conn *c)
{
    struct wsr_ktls_option option;
    wsr_ktls_attach(&option);
    return set_option(c, &option);
}

/* Without this, and with TLS 1.2, the kernel copies once more. */
static int wish_for_no_padding(struct wsr_conn *c)
{
    struct wsr_ktls_option option;
    if (c->tls->tls.facts.version == WSR_TLS_1_2)
        return 0;
    wsr_ktls_expect_no_padding(&option);
    return set_option(c, &option) == -EAGAIN ? -EAGAIN : 0;
}

/* Go on where it stopped. 0 or -errno. */
static int give_all(struct wsr_conn *c)
{
    for (uint8_t *given = &c->tls->given_count;; ++*given) {
        int rc = 0;
        switch (*given) {
        case 0: rc = attach(c); break;
        case 1: rc = give_key(c, true); break;
        case 2: rc = give_key(c, false); break;
        case 3: rc = wish_for_no_padding(c); break;
        default: return 0;
        }
        if (rc < 0)
            return rc;
    }
}

/* The driver has no room for the call now, but will have. */
static void try_again(struct wsr_conn *c)
{
    wsr_conn_rest(c);
    c->host->goes_on = true;
}

/* ---- The hand-over ---- */

void wsr_conn_ktls_begin(struct wsr_conn *c)
{
    enter(c->tls, WSR_CONN_KTLS_HANDING);
    wsr_conn_ktls_stop_recv(c);
}

void wsr_conn_ktls_stop_recv(struct wsr_conn *c)
{
    struct wsr_driver *driver = c->host->driver;
    if (wsr_conn_is_handing_over(c) && (c->ops & WSR_CONN_OP_RECV) && c->tls->fetch == NULL)
        driver->ops->cancel(driver, wsr_conn_token_of(c, WSR_CONN_OP_RECV));
}

/* Room for a block and its operation. NULL without memory; then the conn has failed. */
static struct wsr_conn_ktls_op *start_fetch(struct wsr_conn *c, size_t bytes)
{
    struct wsr_conn_ktls_op *op = calloc(1, sizeof *op);
    if (op != NULL)
        op->block = wsr_pool_block(c->host->pool, bytes);
    if (op == NULL || op->block == NULL) {
        free(op);
        wsr_conn_fail(c, wsr_conn_tls_stage(c), ENOMEM, no_memory);
        return NULL;
    }
    op->part = (struct iovec){ wsr_pool_block_bytes(op->block), bytes };
    c->tls->fetch = op;
    c->ops |= WSR_CONN_OP_RECV;
    return op;
}

/* Exactly what is missing of a record that has begun: the kernel begins with the next one. */
static void fetch_rest(struct wsr_conn *c, size_t missing)
{
    struct wsr_driver *driver = c->host->driver;
    struct wsr_conn_ktls_op *op = start_fetch(c, missing);
    if (op != NULL)
        driver->ops->recv_into(driver, c->file, op->part.iov_base, missing, wsr_conn_token_of(c, WSR_CONN_OP_RECV));
}

/* Is all opened that was received, and nothing more will be? */
static bool has_stopped_receiving(const struct wsr_conn *c)
{
    return !(c->ops & WSR_CONN_OP_RECV) && !(c->marks & MARK_INPUT_ENDED) && c->backlog_last == NULL &&
           c->host->unsealing != c && c->tls->tls.state == WSR_TLS_OPEN;
}

/* Has what was sealed left? */
static bool has_stopped_sending(const struct wsr_conn *c)
{
    return !(c->ops & WSR_CONN_OP_SEND) && wsr_queue_is_empty(&c->tls->sealed);
}

/* The connection has ended, so the kernel takes no keys. What the server said before, perhaps why, is read here. */
static void stay(struct wsr_conn *c)
{
    enter(c->tls, WSR_CONN_KTLS_OFF);
    wsr_conn_mark_unsent(c);
    wsr_conn_want_input(c);
}

bool wsr_conn_hand_over(struct wsr_conn *c)
{
    struct wsr_conn_tls *t = c->tls;
    if (!has_stopped_receiving(c))
        return false;
    if (c->marks & MARK_SEND_BROKEN) {
        stay(c);
        return false;
    }
    size_t missing = wsr_tls_missing(&t->tls);
    if (missing > 0) {
        fetch_rest(c, missing);
        return false;
    }
    if (!has_stopped_sending(c))
        return false;
    if (t->tls.direct.owes_update && !wsr_queue_is_empty(&c->queue)) {
        wsr_conn_mark_unsent(c);         /* with the request, which wsr_conn_sealed() seals then */
        return false;
    }
    int rc = give_all(c);
    if (rc == -EAGAIN) {
        try_again(c);
    } else if (rc == -ENOTCONN) {
        stay(c);
    } else if (rc < 0) {
        wsr_conn_fail(c, WSR_STAGE_TLS, -rc, wsr_ktls_text(-rc));
    } else {
        enter(t, WSR_CONN_KTLS_DATA);
        wsr_tls_take_over(&t->tls);
        wsr_conn_count(&c->host->counts.tls_kernel, 1);
        wsr_conn_mark_unsent(c);
        wsr_conn_want_input(c);
        return true;
    }
    return false;
}

/* ---- Receiving ---- */

/* What the kernel has met cannot be gone on from. */
static void break_off(struct wsr_conn *c, int system_errno, uint8_t alert, const char *text)
{
    wsr_tls_break(&c->tls->tls, alert);
    wsr_conn_tls_failed(c, system_errno, text);
}

bool wsr_conn_ktls_has_met(struct wsr_conn *c, int system_errno)
{
    const char *text = wsr_ktls_broken_text(system_errno);
    if (!wsr_conn_is_in_kernel(c) || text == NULL)
        return false;
    if (system_errno == EIO && c->tls->ktls == WSR_CONN_KTLS_DATA)
        enter(c->tls, WSR_CONN_KTLS_CONTROL);
    else if (system_errno == EBADMSG)       /* Linux 6.1 then seals nothing any more, so the alert gets nowhere */
        break_off(c, system_errno, BAD_RECORD_MAC, text);
    else
        break_off(c, system_errno, system_errno == EMSGSIZE ? RECORD_OVERFLOW : UNEXPECTED_MESSAGE, text);
    return true;
}

static void fetch_control(struct wsr_conn *c)
{
    struct wsr_driver *driver = c->host->driver;
    struct wsr_conn_ktls_op *op = start_fetch(c, CONTROL_BYTES);
    if (op == NULL)
        return;
    op->is_message = true;
    op->message = (struct msghdr){ .msg_iov = &op->part, .msg_iovlen = 1, .msg_control = op->control,
                                   .msg_controllen = sizeof op->control };
    driver->ops->recv_message(driver, c->file, &op->message, wsr_conn_token_of(c, WSR_CONN_OP_RECV));
}

/* The kernel is to have new keys for receiving. One that cannot take them reads nothing any more. */
static void renew_in(struct wsr_conn *c)
{
    int rc = give_key(c, false);
    if (rc == -EAGAIN) {
        try_again(c);
    } else if (rc < 0) {
        break_off(c, -rc, INTERNAL_ERROR, wsr_ktls_text(-rc));
    } else {
        enter(c->tls, WSR_CONN_KTLS_DATA);
        wsr_conn_want_input(c);
    }
}

bool wsr_conn_ktls_wants_input(struct wsr_conn *c)
{
    /* It has lost the thread; the server's end of the connection tells nothing more. */
    if (c->tls->ktls >= WSR_CONN_KTLS_DATA && c->tls->tls.state == WSR_TLS_FAILED)
        return true;
    switch ((enum wsr_conn_ktls_state)c->tls->ktls) {
    case WSR_CONN_KTLS_HANDING:
        wsr_conn_hand_over(c);
        return true;
    case WSR_CONN_KTLS_CONTROL:
        fetch_control(c);
        return true;
    case WSR_CONN_KTLS_KEYS:
        renew_in(c);
        return true;
    case WSR_CONN_KTLS_OFF:
    case WSR_CONN_KTLS_DATA:
        break;
    }
    return false;
}

static void on_control(struct wsr_conn *c, uint8_t type, struct wsr_bytes content)
{
    struct wsr_tls_event event;
    wsr_tls_control(&c->tls->tls, type, content, &event);
    wsr_conn_tls_take_output(c);
    enter(c->tls, event.type == WSR_TLS_EVENT_KEYS ? WSR_CONN_KTLS_KEYS : WSR_CONN_KTLS_DATA);
    if (event.type == WSR_TLS_EVENT_CLOSED)
        c->marks |= MARK_INPUT_ENDED;
    else if (event.type == WSR_TLS_EVENT_FAILURE)
        wsr_conn_tls_failed(c, 0, event.text);
    else
        (void)wsr_conn_tls_is_flooded(c);
}

/* Take what was fetched. */
static void take_fetched(struct wsr_conn *c, struct wsr_conn_ktls_op *op, int32_t result)
{
    uint8_t type = op->is_message && result >= 0 ? wsr_ktls_type(&op->message) : WSR_TLS_DATA;
    if (result > 0) {
        wsr_conn_count_received(c, (uint32_t)result);
        op->block->filled = (uint32_t)result;
        op->block->parsed = 0;
        op->block->is_opened = op->is_message;         /* else it is still to be */
        op->block->is_parsing = type == WSR_TLS_DATA;
    }
    if (result >= 0 && type != WSR_TLS_DATA) {
        on_control(c, type, wsr_bytes_of(op->part.iov_base, (size_t)result));
    } else if (result > 0) {
        if (op->is_message)
            enter(c->tls, WSR_CONN_KTLS_DATA);
        wsr_conn_put_back(c, op->block);
        op->block = NULL;
    } else if (result == 0 || (result != -ECANCELED && !wsr_conn_ktls_has_met(c, -result))) {
        c->marks |= MARK_INPUT_ENDED;
        c->end_errno = (uint16_t)-result;
    }
}

void wsr_conn_ktls_fetched(struct wsr_conn *c, int32_t result)
{
    struct wsr_conn_ktls_op *op = c->tls->fetch;
    if (c->state == WSR_CONN_DRAINING) {
        wsr_conn_finish_drain(c);
        return;
    }
    c->tls->fetch = NULL;
    take_fetched(c, op, result);
    free_op(&op);
    wsr_conn_parse_backlog(c);
}

/* ---- Sending ---- */

void wsr_conn_ktls_say(struct wsr_conn *c)
{
    struct wsr_driver *driver = c->host->driver;
    struct wsr_conn_tls *t = c->tls;
    struct wsr_conn_ktls_op *op = calloc(1, sizeof *op);
    if (op == NULL) {
        wsr_conn_send_broken(c, ENOMEM);
        return;
    }
    bool is_alert = t->sealed.first->used == ALERT_BYTES;
    t->say = op;
    wsr_queue_launch(&t->sealed, &op->part, 1);
    op->message = (struct msghdr){ .msg_iov = &op->part, .msg_iovlen = 1 };
    wsr_ktls_say_type(&op->message, op->control, is_alert ? WSR_TLS_ALERT : WSR_TLS_HANDSHAKE);
    wsr_conn_count(&c->host->counts.sends, 1);
    c->ops |= WSR_CONN_OP_SEND;
    driver->ops->send_message(driver, c->file, &op->message, wsr_conn_token_of(c, WSR_CONN_OP_SEND));
}

/* After a KeyUpdate of ours the kernel seals with new keys. Returns false when nothing can be sent now. */
static bool renew_out(struct wsr_conn *c)
{
    int rc = give_key(c, true);
    if (rc == -EAGAIN) {
        wsr_conn_mark_unsent(c);
        try_again(c);
    } else if (rc < 0) {
        wsr_conn_send_broken(c, -rc);
    } else {
        c->tls->renews_out = false;
    }
    return rc == 0;
}

/* The server asked for a KeyUpdate of ours, which goes before the next data. Returns false without memory. */
static bool say_update(struct wsr_conn *c)
{
    struct wsr_chunk *chunk = wsr_slab_take_control(c->host->slab, WSR_TLS_DIRECT_UPDATE_BYTES);
    if (chunk == NULL)
        return false;
    if (wsr_tls_direct_update(&c->tls->tls.direct, chunk->data) != 0) {
        wsr_slab_give(c->host->slab, chunk);
        return false;
    }
    chunk->used = WSR_TLS_DIRECT_UPDATE_BYTES;
    wsr_queue_push(&c->tls->sealed, chunk);
    return true;
}

struct wsr_queue *wsr_conn_ktls_next(struct wsr_conn *c)
{
    struct wsr_conn_tls *t = c->tls;
    if (t->renews_out && !renew_out(c))
        return NULL;
    if (wsr_queue_is_empty(&t->sealed) && t->tls.direct.owes_update && !say_update(c)) {
        wsr_conn_send_broken(c, ENOMEM);
        return NULL;
    }
    if (!wsr_queue_is_empty(&t->sealed))
        return &t->sealed;
    return wsr_queue_is_empty(&c->queue) ? NULL : &c->queue;
}

/* The send of what is no data has ended. */
static struct wsr_queue_credit on_said(struct wsr_conn *c, uint64_t bytes)
{
    struct wsr_conn_tls *t = c->tls;
    bool was_update = t->sealed.first->used > ALERT_BYTES;
    struct wsr_queue_credit credit = wsr_queue_landed(&t->sealed, c->host->slab, bytes);
    free_op(&t->say);
    t->renews_out |= was_update && !credit.was_short;
    return credit;
}

struct wsr_queue_credit wsr_conn_ktls_landed(struct wsr_conn *c, uint64_t bytes, bool is_broken)
{
    struct wsr_queue_credit credit = { 0 };
    if (c->tls->say != NULL)
        credit = on_said(c, bytes);
    else if (wsr_queue_in_flight(&c->queue))
        credit = wsr_queue_landed(&c->queue, c->host->slab, bytes);
    if (is_broken)
        wsr_queue_clear(&c->tls->sealed, c->host->slab);
    return credit;
}
