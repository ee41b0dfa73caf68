/* The protocol life of one connection, in two halves: take_* says what the bytes are, judge_* whether they are legal.
 * Every refusal goes through fail(), or refuse() before the upgrade.
 * SPDX-License-Identifier: MIT */
#include "session_inner.h"

#include "simd/simd.h"

/* The first block of a message in pieces, when the message may become that large: spares most of the small ones a
 * second block, and a peer gains nothing by announcing more (RECV-15). */
#define BLOCK_FIRST_BYTES 1024

#define STATE_BIT(name) (1u << WSR_SESSION_##name)

/* UPGRADING -> OPEN -> CLOSE_SENT or CLOSE_RECEIVED or FAILED -> CLOSED; UPGRADING -> REFUSED. */
static const uint8_t may_follow[] = {
    [WSR_SESSION_UPGRADING] = STATE_BIT(OPEN) | STATE_BIT(REFUSED),
    [WSR_SESSION_OPEN] = STATE_BIT(CLOSE_SENT) | STATE_BIT(CLOSE_RECEIVED) | STATE_BIT(FAILED),
    [WSR_SESSION_CLOSE_SENT] = STATE_BIT(CLOSED),
    [WSR_SESSION_CLOSE_RECEIVED] = STATE_BIT(CLOSED),
    [WSR_SESSION_FAILED] = STATE_BIT(CLOSED),
    [WSR_SESSION_REFUSED] = 0,
    [WSR_SESSION_CLOSED] = 0
};

static void enter(struct wsr_session *s, enum wsr_session_state to)
{
    assert(may_follow[s->state] & (1u << to));
    s->state = (uint8_t)to;
}

/* May frames be read? Our own Close does not end what the peer may say (RFC 6455 5.5.1, 7.1.2). */
static bool is_reading(const struct wsr_session *s)
{
    return s->state == WSR_SESSION_OPEN || s->state == WSR_SESSION_CLOSE_SENT;
}

/* ---- Memory ------------------------------------------------------------------------------------ */

static void release(const struct wsr_session *s, uint8_t **block)
{
    if (*block != NULL)
        s->shared->memory->release(s->shared->memory_context, *block);
    *block = NULL;
}

/* The event that is being made will point into @block, unless it is NULL: keep it until the next call. */
static void lend(struct wsr_session *s, uint8_t *block)
{
    assert(!s->is_lending && !s->in_frame && s->gathered == 0);
    s->lent = block;
    s->is_lending = block != NULL;
}

static void take_back(struct wsr_session *s)
{
    if (s->is_lending)
        release(s, &s->lent);
    s->is_lending = false;
}

static void drop_assembly(struct wsr_session *s)
{
    assert(s->state != WSR_SESSION_UPGRADING);
    release(s, &s->assembly);
    s->assembly_used = 0;
    s->assembly_capacity = 0;
    s->message_kind = 0;
    s->gathering = WSR_SESSION_IN_BLOCK;
}

static size_t larger_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t smaller_of(uint64_t a, uint64_t b)
{
    return a < b ? (size_t)a : (size_t)b;
}

/* Copy @more behind the @used bytes of *block. Grows by what is there already, never by what is announced beyond
 * @most, which holds all that may come (RECV-15). On false there is no memory and nothing has changed. */
static bool append(const struct wsr_session *s, uint8_t **block, size_t *capacity, size_t *used, struct wsr_bytes more,
                   uint64_t most)
{
    size_t needed = *used + more.len;
    assert(needed <= most);
    if (more.len == 0)
        return true;
    if (needed > *capacity) {
        size_t wanted = larger_of(needed, larger_of(2 * *capacity, BLOCK_FIRST_BYTES));
        const struct wsr_session_shared *shared = s->shared;
        uint8_t *grown = shared->memory->grow(shared->memory_context, *block, *used, smaller_of(wanted, most),
                                              capacity);
        if (grown == NULL)
            return false;
        *block = grown;
    }
    memcpy(*block + *used, more.data, more.len);
    *used = needed;
    return true;
}

/* ---- Refusals ---------------------------------------------------------------------------------- */

/* RFC 6455 7.1.7: nothing more is read, and what was gathered is given back. In CLOSE_SENT our only Close is out. */
static void fail(struct wsr_session *s, struct wsr_session_event *event, struct breach breach)
{
    drop_assembly(s);
    event->type = WSR_SESSION_FAILURE;
    event->code = breach.code;
    event->text = breach.text;
    enter(s, s->state == WSR_SESSION_CLOSE_SENT ? WSR_SESSION_CLOSED : WSR_SESSION_FAILED);
}

/* The upgrade is over, one way or the other. Its struct is the caller's again; a gathered head lives on for the
 * event that is being made. */
static void leave_upgrade(struct wsr_session *s, enum wsr_session_state to)
{
    lend(s, s->upgrade->head);
    s->upgrade->head = NULL;
    s->assembly = NULL;
    enter(s, to);
}

/* RFC 6455 4.1: the connection fails before a WebSocket existed, so there is no close code. */
static void refuse(struct wsr_session *s, struct wsr_session_event *event, const char *text)
{
    event->type = WSR_SESSION_FAILURE;
    event->text = text;
    leave_upgrade(s, WSR_SESSION_REFUSED);
}

/* ---- The answer to our upgrade request --------------------------------------------------------- */

/* RESP-02: 100, 102, 103 announce another answer; 101 is the answer itself. */
static bool is_interim(uint16_t status)
{
    return status >= 100 && status < 200 && status != 101;
}

static void judge_answer(struct wsr_session *s, struct wsr_bytes head, const struct wsr_http_response *answer,
                         struct wsr_session_event *event)
{
    struct wsr_session_upgrade *upgrade = s->upgrade;
    struct wsr_fault why = { 0 };
    upgrade->head_used = 0;
    upgrade->head_scanned = 0;
    if (is_interim(answer->status) && upgrade->interim_count < s->shared->limits.interim_max) {
        upgrade->interim_count++;
        return;
    }
    event->http_status = answer->status;
    event->head = head;
    if (is_interim(answer->status)) {
        refuse(s, event, "the server sent more interim (1xx) answers than are allowed");
    } else if (wsr_handshake_check_answer(&event->agreement, answer, &upgrade->offer, &why) < 0) {
        refuse(s, event, why.text);
    } else {
        event->type = WSR_SESSION_UPGRADED;
        leave_upgrade(s, WSR_SESSION_OPEN);
    }
}

static bool gather_head(struct wsr_session *s, struct wsr_bytes piece)
{
    struct wsr_session_upgrade *upgrade = s->upgrade;
    return append(s, &upgrade->head, &upgrade->head_capacity, &upgrade->head_used, piece,
                  s->shared->limits.head_max_bytes);
}

/* Take at most one head. One that is whole in @in is read there, one in pieces is gathered first; never more than
 * head_max_bytes are looked at, so that the cut does not decide which rule breaks (RESP-11, RESP-13). */
static size_t take_answer(struct wsr_session *s, const uint8_t *in, size_t len, struct wsr_session_event *event)
{
    static const char no_memory[] = "no memory for the server's answer";
    struct wsr_session_upgrade *upgrade = s->upgrade;
    size_t had = upgrade->head_used;
    struct wsr_bytes piece = wsr_bytes_of(in, smaller_of(len, s->shared->limits.head_max_bytes - had));
    struct wsr_bytes text = piece;
    struct wsr_http_response answer;
    struct wsr_fault why = { 0 };
    if (had > 0) {
        if (!gather_head(s, piece)) {
            refuse(s, event, no_memory);
            return len;
        }
        text = wsr_bytes_of(upgrade->head, upgrade->head_used);
    }
    ptrdiff_t head_bytes = wsr_http_parse(&answer, text.data, text.len, &upgrade->head_scanned, &why);
    if (head_bytes > 0) {
        judge_answer(s, wsr_bytes_of(text.data, (size_t)head_bytes), &answer, event);
        return (size_t)head_bytes - had;
    }
    if (head_bytes < 0)
        refuse(s, event, why.text);
    else if (text.len == s->shared->limits.head_max_bytes)
        refuse(s, event, "the server's answer has a longer head than head_max_bytes allows");
    else if (had == 0 && !gather_head(s, piece))
        refuse(s, event, no_memory);
    return piece.len;
}

/* ---- Policy: is this legal now? ---------------------------------------------------------------- */

/* RFC 6455 5.4, and the limits of 10.4. A frame's length is judged before any of its payload is kept (RECV-05). */
static struct breach judge_data_frame(const struct wsr_session *s, const struct wsr_frame *frame)
{
    bool is_first = frame->opcode != WSR_OPCODE_CONTINUATION;
    if (is_first && s->message_kind != 0)
        return breach_of(WSR_CLOSE_PROTOCOL, "a message began inside another one (RFC 6455 5.4)");
    if (!is_first && s->message_kind == 0)
        return breach_of(WSR_CLOSE_PROTOCOL, "a continuation frame continues no message (RFC 6455 5.4)");
    if ((is_first ? 0 : s->fragments_count) >= s->shared->limits.fragments_max)
        return breach_of(WSR_CLOSE_POLICY, "a message has more frames than fragments_max allows");
    if (is_first ? frame->rsv != 0 : s->gathering == WSR_SESSION_INFLATED)
        return wsr_session_judge_deflated(s, frame->payload_bytes, is_first);
    if (frame->payload_bytes > s->shared->limits.message_max_bytes - s->assembly_used)
        return breach_of(WSR_CLOSE_TOO_BIG, "a message is larger than message_max_bytes allows");
    return no_breach;
}

static struct breach judge_frame(const struct wsr_session *s, const struct wsr_frame *frame)
{
    struct breach breach = frame->rsv != 0 ? wsr_session_judge_rsv1(s, frame) : no_breach;
    if (breach.text != NULL)
        return breach;
    if (frame->masked)
        return breach_of(WSR_CLOSE_PROTOCOL, "the server masked a frame (RFC 6455 5.1)");
    return wsr_frame_is_control(frame->opcode) ? no_breach : judge_data_frame(s, frame);
}

static bool is_utf8(const struct wsr_session *s, struct wsr_bytes text)
{
    uint32_t state = 0;
    return text.len == 0 || (s->shared->simd->utf8(&state, text.data, text.len) == text.len && state == 0);
}

struct breach wsr_session_judge_text(struct wsr_session *s, struct wsr_bytes text, bool is_end)
{
    if (text.len > 0 && s->shared->simd->utf8(&s->utf8_state, text.data, text.len) != text.len)
        return breach_of(WSR_CLOSE_NOT_UTF8, "a text message is not UTF-8 (RFC 6455 8.1)");
    if (is_end && s->utf8_state != 0)
        return breach_of(WSR_CLOSE_NOT_UTF8, "a text message ends inside a UTF-8 sequence (RFC 6455 8.1)");
    return no_breach;
}

/* CTL-07: an empty payload, or a code that may be sent with a reason in UTF-8. */
static struct breach judge_close(const struct wsr_session *s, struct wsr_bytes payload)
{
    if (payload.len == 0)
        return no_breach;
    if (payload.len == 1)
        return breach_of(WSR_CLOSE_PROTOCOL, "a Close frame has a payload of one byte (RFC 6455 5.5.1)");
    if (!wsr_frame_close_code_is_valid(wsr_load_be16(payload.data)))
        return breach_of(WSR_CLOSE_PROTOCOL, "a Close frame has a code that may not be sent (RFC 6455 7.4)");
    if (!is_utf8(s, wsr_bytes_of(payload.data + 2, payload.len - 2)))
        return breach_of(WSR_CLOSE_NOT_UTF8, "the reason of a Close frame is not UTF-8 (RFC 6455 5.5.1)");
    return no_breach;
}

/* ---- Frames ------------------------------------------------------------------------------------ */

static void begin_frame(struct wsr_session *s, const struct wsr_frame *frame)
{
    s->in_frame = true;
    s->fin = frame->fin;
    s->opcode = frame->opcode;
    s->frame_left = frame->payload_bytes;
    s->control = NULL;
    if (wsr_frame_is_control(frame->opcode))
        return;
    if (frame->opcode != WSR_OPCODE_CONTINUATION) {
        assert(s->utf8_state == 0);                 /* no text ends inside a sequence, see wsr_session_judge_text() */
        s->message_kind = frame->opcode;
        s->fragments_count = 0;
        if (frame->rsv != 0) {
            s->gathering = WSR_SESSION_INFLATED;
            s->shared->deflate->wire_bytes = 0;
        }
    }
    s->fragments_count++;
}

/* Take bytes of a header. One in pieces is gathered in session->head, which no header outgrows. */
static size_t take_head(struct wsr_session *s, const uint8_t *in, size_t len, struct wsr_session_event *event)
{
    const uint8_t *head = in;
    size_t had = s->gathered;
    size_t piece = smaller_of(len, WSR_FRAME_HEAD_MAX - had);
    if (had > 0) {
        memcpy(s->head + had, in, piece);
        head = s->head;
    }
    struct wsr_frame frame;
    int head_bytes = wsr_frame_parse(&frame, head, had + piece);
    if (head_bytes == 0) {
        if (had == 0)
            memcpy(s->head, in, piece);
        s->gathered = (uint8_t)(had + piece);
        return piece;
    }
    s->gathered = 0;
    struct breach breach = head_bytes < 0 ? breach_of(WSR_CLOSE_PROTOCOL, wsr_frame_error_text(head_bytes))
                                          : judge_frame(s, &frame);
    if (breach.text != NULL) {
        fail(s, event, breach);
        return len;
    }
    begin_frame(s, &frame);
    return (size_t)head_bytes - had;
}

/* The message is complete: in place when @data is all of it, else the assembly, which passes to the receiver. */
static void deliver(struct wsr_session *s, struct wsr_bytes data, struct wsr_session_event *event)
{
    event->type = WSR_SESSION_MESSAGE;
    event->kind = s->message_kind;
    event->data = data;
    if (s->assembly != NULL)
        event->data = wsr_bytes_of(s->gathering == WSR_SESSION_IN_PIECES ? NULL : s->assembly, s->assembly_used);
    event->block = s->assembly;
    s->assembly = NULL;
    drop_assembly(s);
}

/* Keep @piece of the message under way: as it lies when it may, else behind the others in one block. */
static bool keep(struct wsr_session *s, struct wsr_bytes piece)
{
    const struct wsr_session_shared *shared = s->shared;
    const struct wsr_session_memory *memory = shared->memory;
    uint64_t most = s->fin ? s->assembly_used + piece.len + s->frame_left : shared->limits.message_max_bytes;
    if (s->assembly == NULL && piece.len > 0 && s->message_kind == WSR_BINARY && memory->stays_in_pieces != NULL &&
        memory->stays_in_pieces(shared->memory_context))
        s->gathering = WSR_SESSION_IN_PIECES;
    if (s->gathering != WSR_SESSION_IN_PIECES)
        return append(s, &s->assembly, &s->assembly_capacity, &s->assembly_used, piece, most);
    if (piece.len == 0)
        return true;
    uint8_t *list = memory->gather(shared->memory_context, s->assembly, piece, most - s->assembly_used - piece.len);
    if (list == NULL)
        return false;
    s->assembly = list;
    s->assembly_used += piece.len;
    return true;
}

/* The same as take_data() for a message that is compressed. */
static void take_deflated(struct wsr_session *s, struct wsr_bytes piece, struct wsr_session_event *event)
{
    bool is_end = !s->in_frame && s->fin;
    struct wsr_bytes data;
    struct breach breach = wsr_session_inflate(s, piece, is_end, &data);
    if (breach.text != NULL) {
        fail(s, event, breach);
        return;
    }
    if (!is_end)
        return;
    if (s->assembly_used == 0)
        release(s, &s->assembly);
    deliver(s, data, event);
}

/* @piece is the next of the current frame's payload, perhaps empty. */
static void take_data(struct wsr_session *s, struct wsr_bytes piece, struct wsr_session_event *event)
{
    bool is_end = !s->in_frame && s->fin;
    if (s->message_kind == WSR_TEXT) {
        struct breach breach = wsr_session_judge_text(s, piece, is_end);
        if (breach.text != NULL) {
            fail(s, event, breach);
            return;
        }
    }
    bool in_place = is_end && s->assembly == NULL;
    if (!in_place && !keep(s, piece))
        fail(s, event, breach_of(WSR_CLOSE_INTERNAL, "no memory for a message"));
    else if (is_end)
        deliver(s, piece, event);
}

/* RFC 6455 5.5.1, 7.1.5: the peer's first Close is its last word, and a message it left unfinished never ends. */
static void take_close(struct wsr_session *s, struct wsr_bytes payload, struct wsr_session_event *event)
{
    struct breach breach = judge_close(s, payload);
    if (breach.text != NULL) {
        fail(s, event, breach);
        return;
    }
    event->type = WSR_SESSION_CLOSE;
    event->code = WSR_CLOSE_NO_STATUS;
    if (payload.len >= 2) {
        event->code = wsr_load_be16(payload.data);
        event->data = wsr_bytes_of(payload.data + 2, payload.len - 2);
    }
    drop_assembly(s);
    enter(s, s->state == WSR_SESSION_CLOSE_SENT ? WSR_SESSION_CLOSED : WSR_SESSION_CLOSE_RECEIVED);
}

static void take_control(struct wsr_session *s, struct wsr_bytes payload, struct wsr_session_event *event)
{
    if (s->opcode == WSR_OPCODE_CLOSE) {
        take_close(s, payload, event);
    } else {
        event->type = s->opcode == WSR_OPCODE_PING ? WSR_SESSION_PING : WSR_SESSION_PONG;
        event->data = payload;
    }
}

/* The same for a control frame: whole in @piece, or gathered until it is. */
static void take_control_piece(struct wsr_session *s, struct wsr_bytes piece, struct wsr_session_event *event)
{
    if (s->control == NULL && !s->in_frame) {
        take_control(s, piece, event);
        return;
    }
    size_t used = s->gathered;
    size_t capacity = s->control == NULL ? 0 : WSR_FRAME_CONTROL_MAX;
    if (!append(s, &s->control, &capacity, &used, piece, WSR_FRAME_CONTROL_MAX)) {
        assert(s->control == NULL);                 /* its first block is large enough for the rest of it */
        fail(s, event, breach_of(WSR_CLOSE_INTERNAL, "no memory for a control frame"));
        return;
    }
    s->gathered = s->in_frame ? (uint8_t)used : 0;
    if (!s->in_frame) {
        lend(s, s->control);
        take_control(s, wsr_bytes_of(s->lent, used), event);
    }
}

static size_t take_payload(struct wsr_session *s, const uint8_t *in, size_t len, struct wsr_session_event *event)
{
    struct wsr_bytes piece = wsr_bytes_of(in, smaller_of(len, s->frame_left));
    s->frame_left -= piece.len;
    s->in_frame = s->frame_left > 0;
    if (wsr_frame_is_control(s->opcode))
        take_control_piece(s, piece, event);
    else if (s->gathering == WSR_SESSION_INFLATED)
        take_deflated(s, piece, event);
    else
        take_data(s, piece, event);
    return piece.len;
}

static size_t take_frames(struct wsr_session *s, const uint8_t *in, size_t len, struct wsr_session_event *event)
{
    size_t at = 0;
    while (at < len && event->type == WSR_SESSION_NOTHING) {
        if (!s->in_frame)
            at += take_head(s, in + at, len - at, event);
        if (s->in_frame)
            at += take_payload(s, in + at, len - at, event);
    }
    return event->type == WSR_SESSION_FAILURE ? len : at;
}

static size_t take_answers(struct wsr_session *s, const uint8_t *in, size_t len, struct wsr_session_event *event)
{
    size_t at = 0;
    while (at < len && event->type == WSR_SESSION_NOTHING)
        at += take_answer(s, in + at, len - at, event);
    return event->type == WSR_SESSION_FAILURE ? len : at;
}

/* ---- Entry points ------------------------------------------------------------------------------ */

/* Returns what was taken, with *event filled; or 0, having changed nothing: then the general way decides, and names the
 * rule if one is broken. */
static size_t take_whole_message(const struct wsr_session *s, const uint8_t *in, size_t len,
                                 struct wsr_session_event *event)
{
    if (!wsr_session_is_between_messages(s))
        return 0;
    size_t taken = wsr_session_take_whole(s->shared, in, len, &event->kind, &event->data);
    if (taken > 0) {
        event->type = WSR_SESSION_MESSAGE;
        event->block = NULL;
    }
    return taken;
}

/* Everything else. Not inlined, so that the shortcut above does not save registers for it. */
__attribute__((noinline)) static size_t take_general(struct wsr_session *s, const uint8_t *in, size_t len,
                                                     struct wsr_session_event *event)
{
    take_back(s);
    *event = (struct wsr_session_event){ .type = WSR_SESSION_NOTHING };
    if (s->state == WSR_SESSION_UPGRADING)
        return take_answers(s, in, len, event);
    return is_reading(s) ? take_frames(s, in, len, event) : len;
}

size_t wsr_session_feed(struct wsr_session *session, const uint8_t *in, size_t len, struct wsr_session_event *event)
{
    size_t taken = take_whole_message(session, in, len, event);
    return WSR_LIKELY(taken > 0) ? taken : take_general(session, in, len, event);
}

void wsr_session_init(struct wsr_session *session, const struct wsr_session_shared *shared,
                      struct wsr_session_upgrade *upgrade)
{
    const struct wsr_session_limits *limits = &shared->limits;
    assert(limits->message_max_bytes > 0 && limits->fragments_max > 0 && limits->head_max_bytes > 0);
    assert(upgrade->head == NULL && upgrade->head_used == 0);
    *session = (struct wsr_session){
        .shared = shared,
        .upgrade = upgrade,
        .state = WSR_SESSION_UPGRADING
    };
}

void wsr_session_free(struct wsr_session *session)
{
    if (session->state != WSR_SESSION_UPGRADING)
        drop_assembly(session);
    else if (session->upgrade != NULL)
        release(session, &session->upgrade->head);
    session->upgrade = NULL;
    if (session->in_frame)
        release(session, &session->control);
    take_back(session);
}

bool wsr_session_close(struct wsr_session *session)
{
    switch ((enum wsr_session_state)session->state) {
    case WSR_SESSION_OPEN:
        enter(session, WSR_SESSION_CLOSE_SENT);
        return true;
    case WSR_SESSION_CLOSE_RECEIVED:
    case WSR_SESSION_FAILED:
        enter(session, WSR_SESSION_CLOSED);
        return true;
    case WSR_SESSION_UPGRADING:
    case WSR_SESSION_CLOSE_SENT:
    case WSR_SESSION_REFUSED:
    case WSR_SESSION_CLOSED:
        break;
    }
    return false;
}
