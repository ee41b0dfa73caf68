/* wsr_send() and wsr_close(): from any thread, one copy, masked on the way, handed to the worker. */
#include <stdlib.h>
#include <sys/uio.h>

#include "blob.h"
#include "error.h"
#include "fragment.h"
#include "simd/simd.h"
#include "socket.h"
#include "template.h"

#define CLOSE_REASON_MAX (WSR_FRAME_CONTROL_MAX - 2)

/* The bytes of a message: in parts, or in a blob. */
struct source {
    const struct iovec *parts;
    size_t parts_count;
    const struct wsr_blob *blob;     /* when not NULL */
    uint64_t len;
    bool is_checked;                 /* known to be UTF-8, or binary */
    bool is_plain;                   /* not to be compressed */
};

/* A walk over a source. */
struct reader {
    const struct iovec *part, *end;
    struct wsr_blob_walk walk;
    bool is_blob;
};

static void start_reading(struct reader *reader, const struct source *source)
{
    reader->part = source->parts;
    reader->end = source->parts + source->parts_count;
    reader->is_blob = source->blob != NULL;
    if (reader->is_blob)
        wsr_blob_walk(&reader->walk, source->blob);
}

/* The next bytes, of length 0 when there are no more. */
static struct wsr_bytes read_on(void *context)
{
    struct reader *reader = context;
    if (reader->is_blob)
        return wsr_blob_next(&reader->walk);
    while (reader->part < reader->end && reader->part->iov_len == 0)
        reader->part++;
    if (reader->part == reader->end)
        return wsr_bytes_of(NULL, 0);
    const struct iovec *part = reader->part++;
    return wsr_bytes_of(part->iov_base, part->iov_len);
}

static bool is_utf8(const struct source *source)
{
    const struct wsr_simd *simd = wsr_simd();
    struct reader reader;
    uint32_t state = 0;
    start_reading(&reader, source);
    for (struct wsr_bytes bytes = read_on(&reader); bytes.len > 0; bytes = read_on(&reader)) {
        if (simd->utf8(&state, bytes.data, bytes.len) < bytes.len)
            return false;
    }
    return state == 0;
}

static int refuse_for_quota(struct wsr_socket *socket, uint64_t len, const char *text)
{
    struct wsr_link *link = &socket->link;
    /* Before the wish; pairs with the exchange in wsr_conn_tell_writable(). */
    uint64_t refused = atomic_load_explicit(&link->refused_bytes, memory_order_relaxed);
    while (refused < len && !atomic_compare_exchange_weak_explicit(&link->refused_bytes, &refused, len,
                                                                   memory_order_release, memory_order_relaxed))
        continue;
    /* Whoever sets the flag asks for the event. Pairs with the release store in wsr_conn_tell_writable(). */
    if (atomic_exchange_explicit(&link->wants_writable, 1, memory_order_acq_rel) == 0)
        wsr_worker_ask(socket->worker, link, WSR_LINK_WRITABLE);
    return wsr_error_set(WSR_ERR_QUOTA, "%s; a writable event follows", text);
}

/* Count @len as sent unless that would pass the cap. */
static bool count_sent(struct wsr_socket *socket, uint64_t len)
{
    struct wsr_link *link = &socket->link;
    uint64_t cap = socket->worker->host.send_queue_max_bytes;
    wsr_socket_note_turn(socket);
    /* Numbers without order: the message itself travels through the command ring. */
    uint64_t sent = atomic_load_explicit(&link->sent_bytes, memory_order_relaxed);
    do {
        uint64_t credited = atomic_load_explicit(&link->credited_bytes, memory_order_relaxed);
        if (sent - credited + len > cap && sent >= credited)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&link->sent_bytes, &sent, sent + len, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static uint8_t opcode_of(enum wsr_kind kind)
{
    return kind == WSR_TEXT ? WSR_OPCODE_TEXT : WSR_OPCODE_BINARY;
}

/* @is_plain: what is to be compressed is masked by whoever does that, or gives it up. */
static void write_message(struct wsr_chunk *chunk, enum wsr_kind kind, const struct source *source,
                          const struct wsr_fragment_cut *cut, bool is_plain)
{
    struct reader reader;
    const struct wsr_fragment_source from = { .read = read_on, .reader = &reader,
                                              .entropy = is_plain ? NULL : wsr_socket_entropy() };
    start_reading(&reader, source);
    wsr_fragment_write(chunk, cut, opcode_of(kind), &from);
}

static int refuse_for_slab(struct wsr_socket *socket, uint64_t len)
{
    return refuse_for_quota(socket, len, "no send slab is free");
}

static int refuse_for_cap(struct wsr_socket *socket, uint64_t len)
{
    return refuse_for_quota(socket, len, "the send queue is over send_queue_max_bytes");
}

/* A small message in one part, on the thread that turns the worker: straight into the connection's queue, behind those
 * that wait there. No command, and no chunk of its own. */
static int write_in_place(struct wsr_socket *socket, enum wsr_kind kind, const struct iovec *part)
{
    struct wsr_conn *conn = socket->link.conn;
    struct wsr_slab *slab = socket->worker->host.slab;
    uint32_t len = (uint32_t)part->iov_len;
    uint32_t head_bytes = (uint32_t)wsr_frame_head_bytes(len, true);
    struct wsr_chunk *chunk = wsr_queue_open_end(&conn->queue, slab, head_bytes + len);
    if (chunk == NULL)
        return refuse_for_slab(socket, len);
    if (!count_sent(socket, len)) {
        if (chunk->used == 0)
            wsr_slab_give(slab, chunk);
        return refuse_for_cap(socket, len);
    }
    uint8_t key[4];
    uint8_t *to = chunk->data + chunk->used;
    wsr_socket_mask_key(key);
    wsr_frame_write(to, (uint8_t)(WSR_FRAME_FIN | opcode_of(kind)), len, key);
    if (len > 0)
        wsr_simd()->mask_copy(to + head_bytes, part->iov_base, len, key, 0);
    wsr_conn_extend(conn, chunk, head_bytes, len);
    return 0;
}

/* What a command would ask for can be done at once: nothing that was asked for before is still on its way. */
static bool is_at_hand(const struct wsr_socket *socket)
{
    return wsr_worker_is_at_hand(socket->worker) && socket->link.conn != NULL &&
           wsr_conn_takes_messages(socket->link.conn);
}

/* Is it worth trying? Small messages without a context before them are not. */
static bool wants_deflate(const struct wsr_socket *socket, const struct source *source)
{
    return socket->link.deflates != WSR_LINK_DEFLATES_NOT && !source->is_plain &&
           source->len >= socket->worker->host.deflate_min_bytes[socket->link.deflates];
}

static int queue_message(struct wsr_socket *socket, enum wsr_kind kind, const struct source *source)
{
    struct wsr_slab *slab = socket->worker->host.slab;
    struct wsr_fragment_cut cut = wsr_fragment_cut(source->len, socket->link.fragment_bytes);
    if (source->len > socket->worker->host.send_queue_max_bytes || !wsr_fragment_fits(&cut, slab))
        return wsr_error_set(WSR_ERR_ARGUMENT, "a message of %llu bytes can never fit the send queue; raise "
                             "send_queue_max_bytes and send_pool_bytes, or fragment_bytes",
                             (unsigned long long)source->len);
    bool at_hand = is_at_hand(socket), is_deflated = wants_deflate(socket, source);
    bool is_simple = source->parts_count == 1 && cut.frames_count == 1 && !is_deflated;
    if (at_hand && is_simple && source->len + WSR_FRAME_HEAD_MAX <= WSR_QUEUE_GATHER_MAX)
        return write_in_place(socket, kind, source->parts);
    struct wsr_chunk *first = wsr_fragment_take(&cut, slab);
    if (first == NULL)
        return refuse_for_slab(socket, source->len);
    if (!count_sent(socket, source->len)) {
        wsr_slab_give_all(slab, first);
        return refuse_for_cap(socket, source->len);
    }
    write_message(first, kind, source, &cut, is_deflated);
    if (at_hand) {
        (is_deflated ? wsr_conn_send_deflated : wsr_conn_send)(socket->link.conn, first);
        return 0;
    }
    first->command.subject = &socket->link;
    first->command.kind = is_deflated ? WSR_COMMAND_SEND_DEFLATED : WSR_COMMAND_SEND;
    wsr_worker_push(socket->worker, &first->command);
    return 0;
}

/* What every form of send() has in common: the socket and the kind are good, and so is the source. */
static int send_source(struct wsr_socket *socket, enum wsr_kind kind, const struct source *source)
{
    enum wsr_ready_state state = wsr_socket_ready_state(socket);
    if (state == WSR_CONNECTING)
        return wsr_error_set(WSR_ERR_INVALID_STATE, "the socket is still connecting; send from its open event on");
    if (kind == WSR_TEXT && !source->is_checked && !is_utf8(source))
        return wsr_error_set(WSR_ERR_INVALID_UTF8, "the text is not valid UTF-8; send it as WSR_BINARY, or encode it");
    if (state != WSR_OPEN) {
        /* SEND-03: counted and dropped. */
        wsr_socket_note_turn(socket);
        atomic_fetch_add_explicit(&socket->link.sent_bytes, source->len, memory_order_relaxed);
        return 0;
    }
    return queue_message(socket, kind, source);
}

/* Take from *kind what it says about compressing. Returns false when it is no kind that can be sent. */
static bool take_kind(enum wsr_kind *kind, bool *is_plain)
{
    *is_plain = *kind == WSR_TEXT_UNCOMPRESSED || *kind == WSR_BINARY_UNCOMPRESSED;
    if (*is_plain)
        *kind = *kind == WSR_TEXT_UNCOMPRESSED ? WSR_TEXT : WSR_BINARY;
    return *kind == WSR_TEXT || *kind == WSR_BINARY;
}

int wsr_send_gather(struct wsr_socket *socket, enum wsr_kind kind, const struct iovec *parts, size_t parts_count)
{
    struct source source = { .parts = parts, .parts_count = parts_count };
    if (socket == NULL || !take_kind(&kind, &source.is_plain) || (parts == NULL && parts_count > 0))
        return wsr_error_set(WSR_ERR_ARGUMENT, "a message needs a socket, WSR_TEXT or WSR_BINARY, and its bytes");
    for (size_t i = 0; i < parts_count; i++) {
        if ((parts[i].iov_base == NULL && parts[i].iov_len > 0) || parts[i].iov_len > INT64_MAX - source.len)
            return wsr_error_set(WSR_ERR_ARGUMENT, "part %zu of the message is NULL or too long", i);
        source.len += parts[i].iov_len;
    }
    return send_source(socket, kind, &source);
}

int wsr_send_blob(struct wsr_socket *socket, enum wsr_kind kind, const struct wsr_blob *blob)
{
    struct source source = { .blob = blob };
    if (socket == NULL || !take_kind(&kind, &source.is_plain) || blob == NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "a message needs a socket, WSR_TEXT or WSR_BINARY, and its blob");
    source.len = wsr_blob_size(blob);
    return send_source(socket, kind, &source);
}

int wsr_send_template(struct wsr_socket *socket, const struct wsr_template *prepared)
{
    if (socket == NULL || prepared == NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "a template is sent to a socket; one of the two is NULL");
    struct source source = { .parts = &prepared->part, .parts_count = 1, .len = prepared->part.iov_len,
                             .is_checked = true };
    enum wsr_kind kind = prepared->kind;
    (void)take_kind(&kind, &source.is_plain);
    return send_source(socket, kind, &source);
}

int wsr_send(struct wsr_socket *socket, enum wsr_kind kind, const void *data, size_t len)
{
    /* wsr_send_gather() only reads what it is given. */
    const struct iovec part = { (void *)(uintptr_t)data, len };
    return wsr_send_gather(socket, kind, &part, 1);
}

/* ---- Ping, pause and resume ---- */

/* Hand @chunk to the worker as @kind. */
static int push_chunk(struct wsr_socket *socket, struct wsr_chunk *chunk, enum wsr_command_kind kind)
{
    if (chunk == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for a command to the worker");
    chunk->command.subject = &socket->link;
    chunk->command.kind = (uint8_t)kind;
    wsr_worker_push(socket->worker, &chunk->command);
    return 0;
}

int wsr_ping(struct wsr_socket *socket, const void *data, size_t len)
{
    if (socket == NULL || len > WSR_FRAME_CONTROL_MAX || (data == NULL && len > 0))
        return wsr_error_set(WSR_ERR_ARGUMENT, "a Ping needs a socket, and carries at most %d bytes",
                             (int)WSR_FRAME_CONTROL_MAX);
    enum wsr_ready_state state = wsr_socket_ready_state(socket);
    if (state == WSR_CONNECTING)
        return wsr_error_set(WSR_ERR_INVALID_STATE, "the socket is still connecting; ping from its open event on");
    if (state != WSR_OPEN)
        return 0;
    struct wsr_chunk *payload = wsr_slab_take_control(socket->worker->host.slab, len);
    if (payload != NULL && len > 0)
        memcpy(payload->data, data, len);
    if (payload != NULL)
        payload->used = (uint32_t)len;
    return push_chunk(socket, payload, data == NULL ? WSR_COMMAND_PING_TIMED : WSR_COMMAND_PING);
}

static int push_pace(struct wsr_socket *socket, enum wsr_command_kind kind)
{
    if (socket == NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "pausing and resuming need a socket");
    if (wsr_socket_ready_state(socket) >= WSR_CLOSING)
        return 0;
    return push_chunk(socket, wsr_slab_take_control(socket->worker->host.slab, 0), kind);
}

int wsr_pause(struct wsr_socket *socket)
{
    return push_pace(socket, WSR_COMMAND_PAUSE);
}

int wsr_resume(struct wsr_socket *socket)
{
    return push_pace(socket, WSR_COMMAND_RESUME);
}

/* ---- close() ---- */

static int check_close(int code, const char *reason, size_t reason_len)
{
    if (code != 0 && code != 1000 && (code < 3000 || code > 4999))
        return wsr_error_set(WSR_ERR_INVALID_ACCESS, "close code %d may not be sent; use 1000 or 3000 to 4999", code);
    if (reason_len > CLOSE_REASON_MAX)
        return wsr_error_set(WSR_ERR_SYNTAX, "a close reason of %zu bytes is too long; at most %d bytes of UTF-8 fit",
                             reason_len, (int)CLOSE_REASON_MAX);
    uint32_t state = 0;
    const uint8_t *bytes = (const uint8_t *)reason;
    if (reason_len > 0 && (wsr_simd()->utf8(&state, bytes, reason_len) < reason_len || state != 0))
        return wsr_error_set(WSR_ERR_SYNTAX, "the close reason is not valid UTF-8");
    return 0;
}

int wsr_close(struct wsr_socket *socket, int code, const char *reason, size_t reason_len)
{
    if (socket == NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wsr_close needs a socket");
    if (reason == NULL)
        reason_len = 0;
    else if (reason_len == WSR_ZSTRING)
        reason_len = strlen(reason);
    int rc = check_close(code, reason, reason_len);
    if (rc != 0 || wsr_socket_ready_state(socket) >= WSR_CLOSING)
        return rc;
    if (code == 0 && reason_len > 0)
        code = 1000;                                    /* CLOSE-10 */
    uint8_t key[4];
    wsr_socket_mask_key(key);
    struct wsr_chunk *frame = wsr_queue_close_frame(socket->worker->host.slab, (uint16_t)code,
                                                    wsr_bytes_of(reason, reason_len), key);
    if (frame == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for the Close frame");
    frame->command.subject = &socket->link;
    if (wsr_socket_enter(socket, WSR_CONNECTING, WSR_CLOSING)) {
        frame->command.kind = WSR_COMMAND_ABORT;        /* F7 */
    } else if (wsr_socket_enter(socket, WSR_OPEN, WSR_CLOSING)) {
        frame->command.kind = WSR_COMMAND_CLOSE;
    } else {
        wsr_slab_give(socket->worker->host.slab, frame);
        return 0;
    }
    wsr_worker_push(socket->worker, &frame->command);
    return 0;
}
