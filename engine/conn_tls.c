/* TLS between the connection's bytes and its session: records that come in are opened where they lie and fed, what is
 * to go out is sealed into chunks of its own when it is launched. */
#include "conn_tls.h"

#include <errno.h>

#include "conn_inner.h"

static const char no_memory[] = "no memory for TLS";

/* Answers that wait to be sent. What is sealed cannot be left out, or the next record would not be opened. */
#define ANSWERS_MAX 4096u

uint8_t *wsr_conn_take_record(void *context, size_t bytes)
{
    struct wsr_conn_host *host = context;
    struct wsr_loan *block = wsr_pool_block(host->pool, bytes);
    return block != NULL ? wsr_pool_block_bytes(block) : NULL;
}

void wsr_conn_release_record(void *context, uint8_t *block)
{
    (void)context;
    wsr_pool_unuse(wsr_pool_block_of(block));
}

/* ---- What TLS has to say ---- */

/* The chunk of the sealed queue that has @room bytes more, a new one when none has, and for each record that the kernel
 * is to seal. NULL without memory. */
static struct wsr_chunk *chunk_with_room(struct wsr_conn *c, size_t room)
{
    struct wsr_queue *sealed = &c->tls->sealed;
    if (!wsr_conn_is_in_kernel(c) && sealed->last != NULL && sealed->last != sealed->flight_last &&
        wsr_slab_room(sealed->last) >= sealed->last->used + room)
        return sealed->last;
    struct wsr_chunk *chunk = wsr_slab_take_control(c->host->slab, room);
    if (chunk != NULL)
        wsr_queue_push(sealed, chunk);
    return chunk;
}

void wsr_conn_tls_take_output(struct wsr_conn *c)
{
    struct wsr_bytes output = wsr_tls_output(&c->tls->tls);
    if (WSR_LIKELY(output.len == 0))
        return;
    struct wsr_chunk *chunk = NULL;
    if (wsr_queue_is_empty(&c->tls->sealed))
        c->tls->answers_count = 0;
    if (!(c->marks & MARK_SEND_BROKEN) && !c->tls->has_ended)
        chunk = chunk_with_room(c, output.len);
    if (chunk != NULL) {
        memcpy(chunk->data + chunk->used, output.data, output.len);
        chunk->used += (uint32_t)output.len;
        c->tls->answers_count++;
        wsr_conn_mark_unsent(c);
    }
    /* Without memory it is lost: the server, which waits for it, ends the connection, or a limit of time does. */
    wsr_tls_output_taken(&c->tls->tls);
}

bool wsr_conn_tls_is_flooded(struct wsr_conn *c)
{
    if (WSR_LIKELY(c->tls->answers_count <= ANSWERS_MAX))
        return false;
    if (wsr_conn_is_settled(c))
        wsr_conn_begin_drain(c);
    else
        wsr_conn_fail(c, wsr_conn_tls_stage(c), 0, "TLS: the server asks again and again for what it does not read");
    return true;
}

bool wsr_conn_tls_is_over(const struct wsr_conn *c)
{
    return c->tls->tls.state == WSR_TLS_FAILED && wsr_queue_is_empty(&c->tls->sealed);
}

enum wsr_stage wsr_conn_tls_stage(const struct wsr_conn *c)
{
    if (c->state == WSR_CONN_UPGRADING)
        return WSR_STAGE_UPGRADE;
    if (c->state == WSR_CONN_OPEN)
        return WSR_STAGE_OPEN;
    return c->state == WSR_CONN_CLOSING ? WSR_STAGE_CLOSING : WSR_STAGE_TLS;
}

void wsr_conn_tls_failed(struct wsr_conn *c, int system_errno, const char *text)
{
    wsr_conn_release_backlog(c);
    if (wsr_conn_is_settled(c)) {
        wsr_conn_tls_take_output(c);
        /* After a rule was broken, the server's FIN is still awaited, so that our Close arrives (CLOSE-30). */
        if (!(c->marks & MARK_FAILED))
            c->marks |= MARK_INPUT_ENDED;
        return;
    }
    wsr_conn_note_failure(c, wsr_conn_tls_stage(c), system_errno, text);
    wsr_conn_tls_take_output(c);
    if (wsr_queue_is_empty(&c->tls->sealed) || (c->marks & MARK_SEND_BROKEN)) {
        wsr_conn_fail(c, wsr_conn_tls_stage(c), system_errno, text);
        return;
    }
    uint64_t limit_ns = wsr_conn_after(c, c->host->fin_timeout_ns);
    /* The opening's own limit stays (HS-13). */
    if (c->state < WSR_CONN_OPEN && wsr_conn_opening(c)->dial.deadline_ns < limit_ns)
        limit_ns = wsr_conn_opening(c)->dial.deadline_ns;
    wsr_timer_arm(c->host->wheel, &c->timer, limit_ns);
}

/* ---- The handshake ---- */

static void start_tls(struct wsr_conn *c)
{
    struct wsr_opening *opening = wsr_conn_opening(c);
    struct wsr_conn_host *host = c->host;
    wsr_conn_enter(c, WSR_CONN_SECURING);
    wsr_timer_arm(host->wheel, &c->timer, opening->dial.deadline_ns);
    c->tls = &host->tls_slots[c - host->slots];
    *c->tls = (struct wsr_conn_tls){ .plain_bytes = 0 };
    const char *text;
    int rc = wsr_tls_start(&c->tls->tls, &host->tls_shared, opening->tls_context, opening->tls_name, opening->tls_port,
                           &text);
    if (rc != 0) {
        wsr_conn_fail(c, WSR_STAGE_TLS, rc == WSR_ERR_MEMORY ? ENOMEM : 0, text);
        return;
    }
    wsr_conn_tls_take_output(c);
}

void wsr_conn_reached(struct wsr_conn *c)
{
    wsr_conn_end_phase(c, &c->link->counts.connect_span);
    if (wsr_conn_opening(c)->tls_context != NULL)
        start_tls(c);
    else
        wsr_conn_start_upgrade(c);
}

static void count_handshake(struct wsr_conn *c)
{
    const struct wsr_tls_facts *facts = &c->tls->tls.facts;
    struct wsr_conn_counts *counts = &c->host->counts;
    wsr_conn_count(&counts->tls_handshakes, 1);
    if (facts->was_resumed)
        wsr_conn_count(&counts->tls_resumed, 1);
    if (!facts->is_verified)
        wsr_conn_count(&counts->tls_unverified, 1);
    if (facts->records != WSR_TLS_KERNEL)        /* which counts when the kernel has the keys */
        wsr_conn_count(facts->records == WSR_TLS_DIRECT ? &counts->tls_direct : &counts->tls_library, 1);
}

static void on_ready(struct wsr_conn *c)
{
    int rc = wsr_tls_settle(&c->tls->tls, c->host->tls_records);
    if (rc == WSR_ERR_NOT_SUPPORTED) {
        wsr_conn_fail(c, WSR_STAGE_TLS, 0, "the kernel cannot carry the records of this cipher suite; take AES-GCM or "
                                           "ChaCha20-Poly1305 (tls_ciphers), or other tls_records");
        return;
    }
    if (rc != 0) {
        wsr_conn_fail(c, WSR_STAGE_TLS, ENOMEM, no_memory);
        return;
    }
    wsr_conn_tls_take_output(c);
    wsr_conn_end_phase(c, &c->link->counts.tls_span);
    count_handshake(c);
    atomic_store_explicit(&c->link->counts.tls_facts, wsr_tls_facts_pack(&c->tls->tls.facts), memory_order_relaxed);
    if (c->tls->tls.records == WSR_TLS_KERNEL)
        wsr_conn_ktls_begin(c);
    wsr_conn_start_upgrade(c);
}

void wsr_conn_tls_ended(struct wsr_conn *c)
{
    const char *text = "the connection broke during the TLS handshake; system_errno says why";
    if (c->end_errno == 0)
        text = "the server ended the TCP connection during the TLS handshake; it may not speak TLS on this port, or "
               "not this version; its log may say why";
    else if (c->end_errno == ECONNRESET)
        text = "the server reset the TCP connection during the TLS handshake; it may not speak TLS on this port";
    wsr_conn_fail(c, WSR_STAGE_TLS, c->end_errno, text);
}

/* ---- Opening ---- */

/* What was received is sealed, all that is not parsed yet. */
static void begin_opening(struct wsr_loan *buffer)
{
    buffer->is_opened = true;
    buffer->sealed_at = buffer->parsed;
    buffer->sealed_end = buffer->filled;
    buffer->filled = buffer->parsed;
}

/* Parse the data that lies in a block of its own. False: the consumer is behind, and the block is *@buffer now, with
 * what was that before behind it in the backlog. */
static bool parse_block(struct wsr_conn *c, const struct wsr_tls_event *event, struct wsr_loan **buffer)
{
    struct wsr_loan *block = wsr_pool_block_of(event->block);
    block->parsed = (uint32_t)(event->data.data - event->block);
    block->filled = block->parsed + (uint32_t)event->data.len;
    block->sealed_at = block->sealed_end = 0;
    block->is_opened = true;
    block->is_parsing = true;
    if (wsr_conn_parse(c, block) || !wsr_conn_is_reading(c)) {
        wsr_conn_give_up(block);
        return true;
    }
    wsr_conn_put_back(c, *buffer);
    *buffer = block;
    return false;
}

/* One event of TLS, with bytes of @*buffer. Returns false when the consumer is behind. */
static bool on_event(struct wsr_conn *c, const struct wsr_tls_event *event, struct wsr_loan **buffer)
{
    switch (event->type) {
    case WSR_TLS_EVENT_DATA:
        if (event->block != NULL)
            return parse_block(c, event, buffer);
        (*buffer)->parsed = (uint32_t)(event->data.data - wsr_pool_bytes(*buffer));
        (*buffer)->filled = (*buffer)->parsed + (uint32_t)event->data.len;
        return true;
    case WSR_TLS_EVENT_READY:
        on_ready(c);
        return true;
    case WSR_TLS_EVENT_CLOSED:
        c->marks |= MARK_INPUT_ENDED;
        return true;
    case WSR_TLS_EVENT_FAILURE:
        wsr_conn_tls_failed(c, 0, event->text);
        return true;
    case WSR_TLS_EVENT_KEYS:
    case WSR_TLS_EVENT_NOTHING:
        break;
    }
    return true;
}

static bool parse_sealed(struct wsr_conn *c, struct wsr_loan **at)
{
    if (!(*at)->is_opened)
        begin_opening(*at);
    for (;;) {
        struct wsr_loan *buffer = *at;
        if (buffer->parsed < buffer->filled && !wsr_conn_parse(c, buffer))
            return false;
        if (buffer->sealed_at == buffer->sealed_end || !wsr_conn_is_reading(c))
            return true;
        struct wsr_tls_event event;
        size_t taken = wsr_tls_feed(&c->tls->tls, wsr_pool_bytes(buffer) + buffer->sealed_at,
                                    buffer->sealed_end - buffer->sealed_at, &event);
        assert(taken > 0);
        buffer->sealed_at += (uint32_t)taken;
        wsr_conn_tls_take_output(c);
        if (!on_event(c, &event, at))
            return false;
        if (c->tls != NULL && wsr_conn_tls_is_flooded(c))
            return true;
    }
}

bool wsr_conn_parse_sealed(struct wsr_conn *c, struct wsr_loan **at)
{
    struct wsr_conn_host *host = c->host;
    host->unsealing = c;
    bool is_done = parse_sealed(c, at);
    host->unsealing = NULL;
    return is_done;
}

/* ---- Sealing ---- */

/* Cut a record's worth off @parts from *@first on, into @record. Returns the number of its parts. */
static size_t cut_record(struct iovec *parts, size_t parts_count, size_t *first, struct iovec *record, size_t *bytes)
{
    size_t count = 0;
    *bytes = 0;
    while (*first < parts_count && *bytes < WSR_TLS_PLAIN_MAX) {
        struct iovec *part = &parts[*first];
        size_t room = WSR_TLS_PLAIN_MAX - *bytes;
        size_t taken = part->iov_len < room ? part->iov_len : room;
        record[count++] = (struct iovec){ part->iov_base, taken };
        *bytes += taken;
        part->iov_base = (uint8_t *)part->iov_base + taken;
        part->iov_len -= taken;
        if (part->iov_len == 0)
            ++*first;
    }
    return count;
}

/* So much is sealed at a time, in whole records: what gathers behind it can still be overtaken by a Pong, and a large
 * message is neither in memory twice nor credited only as a whole. A chunk of the slab holds it. */
#define SEAL_BYTES (3 * WSR_TLS_PLAIN_MAX)

/* Seal @parts, or SEAL_BYTES of them. Returns false without memory. */
static bool seal(struct wsr_conn *c, struct iovec *parts, size_t parts_count)
{
    for (size_t first = 0; first < parts_count && c->tls->plain_bytes < SEAL_BYTES;) {
        struct iovec record[WSR_DRIVER_PARTS_MAX];
        size_t bytes, count = cut_record(parts, parts_count, &first, record, &bytes);
        struct wsr_chunk *chunk = chunk_with_room(c, wsr_tls_sealed_max(&c->tls->tls, bytes));
        ssize_t sealed = chunk != NULL ? wsr_tls_seal(&c->tls->tls, record, count, chunk->data + chunk->used) : -1;
        if (sealed < 0)
            return false;
        chunk->used += (uint32_t)sealed;
        c->tls->plain_bytes += bytes;
    }
    return true;
}

struct wsr_queue *wsr_conn_sealed(struct wsr_conn *c)
{
    struct wsr_conn_tls *t = c->tls;
    if (c->state == WSR_CONN_SECURING && !wsr_queue_is_empty(&c->queue))
        return &c->queue;    /* a proxy that has answered before it had all: the rest goes before TLS, as it is */
    if (wsr_conn_is_handing_over(c) && wsr_queue_is_empty(&t->sealed) && !t->tls.direct.owes_update &&
        !wsr_conn_hand_over(c))
        return NULL;
    if (t->ktls >= WSR_CONN_KTLS_DATA)
        return wsr_conn_ktls_next(c);
    bool is_open = t->tls.state == WSR_TLS_OPEN || t->tls.state == WSR_TLS_CLOSED;
    if (wsr_queue_is_empty(&t->sealed) && !wsr_queue_is_empty(&c->queue) && is_open && !t->tls.has_closed) {
        struct iovec parts[WSR_DRIVER_PARTS_MAX];
        size_t count = wsr_queue_launch(&c->queue, parts, WSR_DRIVER_PARTS_MAX);
        if (!seal(c, parts, count)) {
            wsr_conn_send_broken(c, ENOMEM);
            return NULL;
        }
    }
    return wsr_queue_is_empty(&t->sealed) ? NULL : &t->sealed;
}

struct wsr_queue_credit wsr_conn_sealed_landed(struct wsr_conn *c, uint64_t bytes, bool is_broken)
{
    struct wsr_conn_tls *t = c->tls;
    struct wsr_queue_credit credit = { 0 };
    if (t->ktls >= WSR_CONN_KTLS_DATA)
        return wsr_conn_ktls_landed(c, bytes, is_broken);
    /* A send to the proxy, whose answer has overtaken the send's completion. */
    if (!wsr_queue_in_flight(&t->sealed) && t->plain_bytes == 0 && wsr_queue_in_flight(&c->queue))
        credit = wsr_queue_landed(&c->queue, c->host->slab, bytes);
    if (wsr_queue_in_flight(&t->sealed))
        credit = wsr_queue_landed(&t->sealed, c->host->slab, bytes);
    if (is_broken)
        wsr_queue_clear(&t->sealed, c->host->slab);
    if (!wsr_queue_is_empty(&t->sealed) || !wsr_queue_in_flight(&c->queue))
        return credit;
    struct wsr_queue_credit plain = wsr_queue_landed(&c->queue, c->host->slab, is_broken ? 0 : t->plain_bytes);
    t->plain_bytes = 0;
    plain.was_short = credit.was_short;
    return plain;
}

/* ---- The end ---- */

bool wsr_conn_say_goodbye(struct wsr_conn *c)
{
    /* Pongs, to Pings before the server's Close, go before it. */
    if ((c->marks & MARK_SEND_BROKEN) || !wsr_queue_is_empty(&c->queue))
        return false;
    wsr_tls_close(&c->tls->tls);
    wsr_conn_tls_take_output(c);
    c->tls->has_ended = true;
    return !wsr_queue_is_empty(&c->tls->sealed);
}

void wsr_conn_end_tls(struct wsr_conn *c)
{
    if (c->tls == NULL)
        return;
    if (wsr_queue_in_flight(&c->queue))
        (void)wsr_queue_landed(&c->queue, c->host->slab, 0);
    wsr_queue_clear(&c->tls->sealed, c->host->slab);
    wsr_conn_ktls_free(c);
    wsr_tls_free(&c->tls->tls);
    c->tls = NULL;
}
