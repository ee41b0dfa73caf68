/* Compressing what is sent, on the worker, so that the order of the messages is that of the context; and memory of
 * streams that rest. */
#include "conn_deflate.h"

#include "fragment.h"
#include "simd/simd.h"

void wsr_conn_start_deflate(struct wsr_conn *c, const struct wsr_deflate_agreed *agreed)
{
    c->marks |= MARK_DEFLATES;
    struct wsr_deflate *deflate = wsr_conn_deflate(c);
    wsr_deflate_init(deflate, &c->host->deflate, agreed, WSR_DEFLATE_CLIENT);
    /* wsr_send() reads it once the open event was taken, which is published behind it. */
    if (wsr_deflate_can_send(deflate))
        c->link->deflates = agreed->client_no_context_takeover ? WSR_LINK_DEFLATES_ALONE : WSR_LINK_DEFLATES;
}

void wsr_conn_use_deflate(struct wsr_conn *c)
{
    struct wsr_conn_host *host = c->host;
    wsr_deflate_touch(wsr_conn_deflate(c), host->now_ns);
    if (host->deflate.oldest != NULL && !wsr_timer_is_armed(&host->deflate_timer))
        wsr_timer_arm(host->wheel, &host->deflate_timer, wsr_conn_after(c, host->deflate_idle_ns));
}

void wsr_conn_rest_deflate(struct wsr_conn_host *host)
{
    uint64_t idle_ns = host->deflate_idle_ns;
    if (host->now_ns >= idle_ns)
        wsr_deflate_rest(&host->deflate, host->now_ns - idle_ns + 1);
    if (host->deflate.oldest != NULL)
        wsr_timer_arm(host->wheel, &host->deflate_timer, host->deflate.oldest->used_ns + idle_ns);
}

void wsr_conn_end_deflate(struct wsr_conn *c)
{
    if (c->marks & MARK_DEFLATES)
        wsr_deflate_free(wsr_conn_deflate(c));
    c->marks &= (uint16_t)~MARK_DEFLATES;
}

/* ---- A message that is to be sent: whole frames, masked with zeros ---- */

struct walk {
    struct wsr_chunk *chunk;
    uint32_t at;
    uint64_t frame_left;
    uint8_t *key;               /* of the frame at hand, in its header */
    uint64_t phase;             /* bytes of its payload that are behind */
};

/* The next bytes of payload, in one piece and one frame; NULL at the end of the message. */
static uint8_t *next_piece(struct walk *w, size_t *len)
{
    while (w->chunk != NULL && w->at == w->chunk->used) {
        w->chunk = w->chunk->next;
        w->at = 0;
    }
    if (w->chunk == NULL)
        return NULL;
    w->phase += *len;
    if (w->frame_left == 0) {
        struct wsr_frame frame;
        int head_bytes = wsr_frame_parse(&frame, w->chunk->data + w->at, w->chunk->used - w->at);
        assert(head_bytes > 0 && frame.masked && frame.payload_bytes > 0);
        w->at += (uint32_t)head_bytes;
        w->frame_left = frame.payload_bytes;
        w->key = w->chunk->data + w->at - 4;
        w->phase = 0;
        if (w->at == w->chunk->used) {
            *len = 0;
            return next_piece(w, len);
        }
    }
    uint8_t *piece = w->chunk->data + w->at;
    *len = w->chunk->used - w->at < w->frame_left ? w->chunk->used - w->at : (size_t)w->frame_left;
    w->at += (uint32_t)*len;
    w->frame_left -= *len;
    return piece;
}

/* It leaves as it is. */
static void mask_message(struct wsr_conn *c, struct wsr_chunk *message)
{
    struct walk walk = { .chunk = message };
    const struct wsr_simd *simd = c->host->sessions.simd;
    size_t len = 0;
    for (uint8_t *piece; (piece = next_piece(&walk, &len)) != NULL;) {
        if (walk.phase == 0)
            wsr_entropy_take(&c->host->entropy, walk.key, 4);
        simd->mask(piece, len, walk.key, (unsigned)(walk.phase & 3));
    }
}

static struct wsr_bytes read_once(void *reader)
{
    struct wsr_bytes *all = reader, bytes = *all;
    *all = wsr_bytes_of(NULL, 0);
    return bytes;
}

/* The frames of a message of @payload_bytes that became @out; NULL when the slab is exhausted. */
static struct wsr_chunk *frame_message(struct wsr_conn *c, uint8_t opcode, uint32_t payload_bytes, struct wsr_bytes out)
{
    struct wsr_fragment_cut cut = wsr_fragment_cut(out.len, c->link->fragment_bytes);
    struct wsr_chunk *first = wsr_fragment_take(&cut, c->host->slab);
    if (first == NULL)
        return NULL;
    struct wsr_fragment_source source = { .read = read_once, .reader = &out, .entropy = &c->host->entropy };
    wsr_fragment_write(first, &cut, (uint8_t)(WSR_FRAME_RSV1 << 4 | opcode), &source);
    /* BUF-05: it counts as sent when its last byte is, as what it was before (BUF-01). */
    for (struct wsr_chunk *chunk = first; chunk != NULL; chunk = chunk->next) {
        chunk->frame_bytes = WSR_CHUNK_DEFLATED;
        chunk->overhead = chunk->next == NULL ? payload_bytes : 0;
    }
    return first;
}

/* Returns the message compressed, NULL when it is to leave as it is. */
static struct wsr_chunk *deflate_message(struct wsr_conn *c, struct wsr_chunk *message)
{
    struct wsr_deflate *deflate = wsr_conn_deflate(c);
    uint64_t payload_bytes = wsr_queue_payload_bytes(message);
    if (deflate == NULL || payload_bytes > UINT32_MAX)
        return NULL;
    struct walk walk = { .chunk = message };
    size_t len = 0;
    wsr_deflate_begin(deflate, payload_bytes);
    for (uint8_t *piece; (piece = next_piece(&walk, &len)) != NULL;)
        wsr_deflate_add(deflate, wsr_bytes_of(piece, len));
    struct wsr_bytes out;
    struct wsr_chunk *made = NULL;
    if (wsr_deflate_end(deflate, &out)) {
        made = frame_message(c, message->data[0] & WSR_FRAME_OPCODE_BITS, (uint32_t)payload_bytes, out);
        if (made == NULL)
            wsr_deflate_forget(deflate);
    }
    wsr_deflate_clear(deflate);
    return made;
}

void wsr_conn_send_deflated(struct wsr_conn *c, struct wsr_chunk *message)
{
    if (!wsr_conn_takes_messages(c)) {
        wsr_slab_give_all(c->host->slab, message);
        return;
    }
    struct wsr_chunk *deflated = deflate_message(c, message);
    if (c->marks & MARK_DEFLATES)
        wsr_conn_use_deflate(c);
    if (deflated != NULL) {
        wsr_slab_give_all(c->host->slab, message);
        message = deflated;
    } else {
        mask_message(c, message);
    }
    wsr_conn_send(c, message);
}
