/* wsr_send() and wsr_close(): from any thread, one copy, masked on the way, handed to the worker. */
#include <stdlib.h>
#include <sys/uio.h>

#include "error.h"
#include "simd/simd.h"
#include "socket.h"

#define CLOSE_REASON_MAX (WSR_FRAME_CONTROL_MAX - 2)

static bool is_utf8(const struct iovec *parts, size_t parts_count)
{
    const struct wsr_simd *simd = wsr_simd();
    uint32_t state = 0;
    for (size_t i = 0; i < parts_count; i++) {
        if (simd->utf8(&state, parts[i].iov_base, parts[i].iov_len) < parts[i].iov_len)
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
    /* Whoever sets the flag asks for the event. The command's node is free then: the worker took it before it cleared
     * the flag; pairs with the release store in wsr_conn_tell_writable(). */
    if (atomic_exchange_explicit(&link->wants_writable, 1, memory_order_acq_rel) == 0) {
        link->open.kind = WSR_COMMAND_WANT_WRITABLE;
        wsr_worker_push(socket->worker, &link->open);
    }
    return wsr_error_set(WSR_ERR_QUOTA, "%s; a writable event follows", text);
}

/* Count @len as sent unless that would pass the cap. */
static bool count_sent(struct wsr_socket *socket, uint64_t len)
{
    struct wsr_link *link = &socket->link;
    uint64_t cap = socket->engine->options.send_queue_max_bytes;
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

/* Write one frame into @chunk and those behind it: the only copy of the payload, masked on the way. */
static void fill(struct wsr_chunk *chunk, enum wsr_kind kind, const struct iovec *parts, size_t parts_count,
                 uint64_t len)
{
    const struct wsr_simd *simd = wsr_simd();
    uint8_t key[4];
    unsigned phase = 0;
    wsr_socket_random(key, sizeof key);
    uint8_t opcode = kind == WSR_TEXT ? WSR_OPCODE_TEXT : WSR_OPCODE_BINARY;
    chunk->used = (uint32_t)wsr_frame_write(chunk->data, (uint8_t)(0x80 | opcode), len, key);
    chunk->overhead = chunk->used;
    for (size_t i = 0; i < parts_count; i++) {
        const uint8_t *from = parts[i].iov_base;
        size_t left = parts[i].iov_len;
        while (left > 0) {
            size_t room = wsr_slab_room(chunk) - chunk->used;
            if (room == 0) {
                chunk = chunk->next;
                continue;
            }
            size_t count = left < room ? left : room;
            simd->mask_copy(chunk->data + chunk->used, from, count, key, phase);
            chunk->used += (uint32_t)count;
            phase = (unsigned)((phase + count) & 3);
            from += count;
            left -= count;
        }
    }
}

static int queue_message(struct wsr_socket *socket, enum wsr_kind kind, const struct iovec *parts, size_t parts_count,
                         uint64_t len)
{
    if (len > socket->engine->options.send_queue_max_bytes ||
        len + WSR_FRAME_HEAD_MAX > wsr_slab_bytes(socket->worker->host.slab))
        return wsr_error_set(WSR_ERR_ARGUMENT, "a message of %llu bytes can never fit the send queue; raise "
                             "send_queue_max_bytes and send_pool_bytes", (unsigned long long)len);
    struct wsr_chunk *first = wsr_slab_take(socket->worker->host.slab, len + wsr_frame_head_bytes(len, true));
    if (first == NULL)
        return refuse_for_quota(socket, len, "no send slab is free");
    if (!count_sent(socket, len)) {
        wsr_slab_give_all(socket->worker->host.slab, first);
        return refuse_for_quota(socket, len, "the send queue is over send_queue_max_bytes");
    }
    fill(first, kind, parts, parts_count, len);
    first->command.subject = &socket->link;
    first->command.kind = WSR_COMMAND_SEND;
    wsr_worker_push(socket->worker, &first->command);
    return 0;
}

int wsr_send_gather(struct wsr_socket *socket, enum wsr_kind kind, const struct iovec *parts, size_t parts_count)
{
    if (socket == NULL || (kind != WSR_TEXT && kind != WSR_BINARY) || (parts == NULL && parts_count > 0))
        return wsr_error_set(WSR_ERR_ARGUMENT, "a message needs a socket, WSR_TEXT or WSR_BINARY, and its bytes");
    uint64_t len = 0;
    for (size_t i = 0; i < parts_count; i++) {
        if ((parts[i].iov_base == NULL && parts[i].iov_len > 0) || parts[i].iov_len > INT64_MAX - len)
            return wsr_error_set(WSR_ERR_ARGUMENT, "part %zu of the message is NULL or too long", i);
        len += parts[i].iov_len;
    }
    enum wsr_ready_state state = wsr_socket_ready_state(socket);
    if (state == WSR_CONNECTING)
        return wsr_error_set(WSR_ERR_INVALID_STATE, "the socket is still connecting; send from its open event on");
    if (kind == WSR_TEXT && !is_utf8(parts, parts_count))
        return wsr_error_set(WSR_ERR_INVALID_UTF8, "the text is not valid UTF-8; send it as WSR_BINARY, or encode it");
    if (state != WSR_OPEN) {
        /* SEND-03: counted and dropped. */
        wsr_socket_note_turn(socket);
        atomic_fetch_add_explicit(&socket->link.sent_bytes, len, memory_order_relaxed);
        return 0;
    }
    return queue_message(socket, kind, parts, parts_count, len);
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
    wsr_socket_random(key, sizeof key);
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
