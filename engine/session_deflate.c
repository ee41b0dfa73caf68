/* Messages that come compressed: which frames may be, and where they are inflated (RFC 7692 6 and 7.2.2). */
#include "session_inner.h"

/* Of a compressed message, beyond an eighth more: the blocks of a little one. */
#define SLACK_BYTES 64

/* The first block for a message: so many times what has come of it. */
#define FIRST_TIMES 4
#define FIRST_BYTES 512

/* ---- Policy ---- */

struct breach wsr_session_judge_rsv1(const struct wsr_session *s, const struct wsr_frame *frame)
{
    if (s->shared->deflate == NULL)
        return breach_of(WSR_CLOSE_PROTOCOL, "a frame has RSV1 set, but no extension is in use (RFC 6455 5.2)");
    if (wsr_frame_is_control(frame->opcode))
        return breach_of(WSR_CLOSE_PROTOCOL, "a control frame has RSV1 set: it is never compressed (RFC 7692 6.1)");
    if (frame->opcode == WSR_OPCODE_CONTINUATION)
        return breach_of(WSR_CLOSE_PROTOCOL, "a continuation frame has RSV1 set: the first frame may (RFC 7692 6.1)");
    return no_breach;
}

/* What is compressed may be larger than what it stands for, but not by much: an eighth more is what a compressor that
 * codes each byte in nine bits makes of it, and blocks without contents have no end. */
struct breach wsr_session_judge_deflated(const struct wsr_session *s, uint64_t more, bool is_first)
{
    uint64_t most = s->shared->limits.message_max_bytes;
    uint64_t slack = most / 8 + SLACK_BYTES;
    most = most <= UINT64_MAX - slack ? most + slack : UINT64_MAX;
    if (more > most - (is_first ? 0 : s->shared->deflate->wire_bytes))
        return breach_of(WSR_CLOSE_TOO_BIG, "a compressed message takes more bytes than message_max_bytes allows");
    return no_breach;
}

/* ---- Memory ---- */

static struct breach no_memory(void)
{
    return breach_of(WSR_CLOSE_INTERNAL, "no memory for a compressed message");
}

/* A block of @wanted bytes, or of what the limit allows and one more, which shows that it is passed (PMD-47). Returns
 * false without memory. */
static bool grow(struct wsr_session *s, size_t wanted)
{
    const struct wsr_session_shared *shared = s->shared;
    uint64_t most = shared->limits.message_max_bytes;
    if (wanted > most)
        wanted = (size_t)most + 1;
    uint8_t *grown = shared->memory->grow(shared->memory_context, s->assembly, s->assembly_used, wanted,
                                          &s->assembly_capacity);
    if (grown != NULL)
        s->assembly = grown;
    return grown != NULL;
}

/* Room behind what was inflated so far. Grows with what has come, never by what is announced (RECV-15). */
static bool make_room(struct wsr_session *s, size_t piece_bytes)
{
    if (s->assembly_used < s->assembly_capacity)
        return true;
    size_t first = piece_bytes < FIRST_BYTES / FIRST_TIMES ? FIRST_BYTES : FIRST_TIMES * piece_bytes;
    return grow(s, s->assembly == NULL ? first : 2 * s->assembly_capacity);
}

/* ---- Inflating ---- */

/* Inflate as much of @in as there is @room for, and judge what was made, *made bytes. *rc says how far that came. Text
 * up to the limit is judged before the limit is: which of the two comes first must not hang on how @in was cut. */
static struct breach inflate_into(struct wsr_session *s, struct wsr_bytes *in, bool is_end, uint8_t *to, size_t room,
                                  size_t *made, enum wsr_inflate *rc)
{
    struct breach breach = no_breach;
    *rc = wsr_deflate_inflate(s->shared->deflate, in, is_end, to, room, made);
    uint64_t left = s->shared->limits.message_max_bytes - s->assembly_used;
    bool is_too_big = *made > left;
    size_t judged = is_too_big ? (size_t)left : *made;
    if (s->message_kind == WSR_TEXT)
        breach = wsr_session_judge_text(s, wsr_bytes_of(to, judged), *rc == WSR_INFLATE_DONE && !is_too_big);
    if (breach.text != NULL)
        return breach;
    if (is_too_big)
        return breach_of(WSR_CLOSE_TOO_BIG, "a message is larger than message_max_bytes allows when inflated");
    if (*rc == WSR_INFLATE_MEMORY)
        return no_memory();
    if (*rc == WSR_INFLATE_BAD)
        return breach_of(WSR_CLOSE_NOT_UTF8, "a compressed message is not DEFLATE, or is cut off (RFC 7692 7.2.2)");
    return no_breach;
}

/* The whole message is in @in: inflate it where others lie, if it fits. Then *data is all of it, else what there is
 * lies in the assembly. */
static struct breach inflate_whole(struct wsr_session *s, struct wsr_bytes *in, struct wsr_bytes *data,
                                   enum wsr_inflate *rc)
{
    const struct wsr_session_shared *shared = s->shared;
    const struct wsr_session_memory *memory = shared->memory;
    size_t room, made;
    uint8_t *to = memory->borrow != NULL ? memory->borrow(shared->memory_context, in->len, &room) : NULL;
    if (to == NULL)
        return no_breach;
    struct breach breach = inflate_into(s, in, true, to, room, &made, rc);
    if (breach.text != NULL)
        return breach;
    if (*rc == WSR_INFLATE_DONE) {
        memory->keep(shared->memory_context, made);
        *data = wsr_bytes_of(to, made);
        return no_breach;
    }
    if (!grow(s, 2 * made))
        return no_memory();
    memcpy(s->assembly, to, made);
    s->assembly_used = made;
    return no_breach;
}

/* Go on with the message in its block, as long as there is room. */
static struct breach inflate_more(struct wsr_session *s, struct wsr_bytes *in, bool is_end, enum wsr_inflate *rc)
{
    size_t made;
    if (!make_room(s, in->len))
        return no_memory();
    struct breach breach = inflate_into(s, in, is_end, s->assembly + s->assembly_used,
                                        s->assembly_capacity - s->assembly_used, &made, rc);
    s->assembly_used += made;
    return breach;
}

/* A message without any bytes is empty, and the inflater never sees it: the tail alone is no block, and would stay in
 * the window's stream (PMD-49). */
struct breach wsr_session_inflate(struct wsr_session *s, struct wsr_bytes piece, bool is_end, struct wsr_bytes *data)
{
    struct wsr_deflate *deflate = s->shared->deflate;
    struct breach breach = no_breach;
    bool is_whole = is_end && deflate->wire_bytes == 0;
    deflate->wire_bytes += piece.len;
    *data = wsr_bytes_of(NULL, 0);
    if (deflate->wire_bytes == 0 || (piece.len == 0 && !is_end))
        return no_breach;
    enum wsr_inflate rc = WSR_INFLATE_FULL;
    if (is_whole)
        breach = inflate_whole(s, &piece, data, &rc);
    while (rc == WSR_INFLATE_FULL && breach.text == NULL)
        breach = inflate_more(s, &piece, is_end, &rc);
    assert(breach.text != NULL || rc == (is_end ? WSR_INFLATE_DONE : WSR_INFLATE_MORE));
    return breach;
}
