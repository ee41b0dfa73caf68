/* Sessions with permessage-deflate, and what they are fed.
 * SPDX-License-Identifier: MIT */
#include "tests/support/deflated.h"

#include <stdio.h>
#include <stdlib.h>

#include "simd/simd.h"

#define SHOWN_MAX 48

/* The accept value of the key in RFC 6455 1.3. */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define ANSWER_HEAD "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
                    "Sec-WebSocket-Accept: " ACCEPT "\r\n"

struct deflated_memory deflated_memory;

static uint8_t *grow(void *context, uint8_t *old, size_t used, size_t wanted, size_t *capacity)
{
    assert_ptr_equal(context, &deflated_memory);
    assert_true(wanted > used);
    if (deflated_memory.grows_count == deflated_memory.grows_max)
        return NULL;
    uint8_t *block = malloc(wanted);
    assert_non_null(block);
    if (old != NULL) {
        memcpy(block, old, used);
        free(old);
        deflated_memory.live_count--;
    }
    deflated_memory.live_count++;
    deflated_memory.grows_count++;
    if (wanted > deflated_memory.largest_bytes)
        deflated_memory.largest_bytes = wanted;
    *capacity = wanted;
    return block;
}

static void give_back(void *context, uint8_t *block)
{
    assert_ptr_equal(context, &deflated_memory);
    assert_non_null(block);
    free(block);
    deflated_memory.live_count--;
}

static void end_loan(void)
{
    free(deflated_memory.borrowed);
    deflated_memory.borrowed = NULL;
    deflated_memory.kept = DEFLATED_NEVER;
}

/* As large as announced, so that a sanitizer sees a byte too many. */
static uint8_t *borrow(void *context, size_t bytes, size_t *room)
{
    assert_ptr_equal(context, &deflated_memory);
    assert_true(bytes > 0);
    end_loan();
    if (deflated_memory.way == DEFLATED_LENT_NOTHING)
        return NULL;
    *room = deflated_memory.way == DEFLATED_LENT_LITTLE ? 3 : 4096;
    deflated_memory.room = *room;
    deflated_memory.asked_bytes = bytes;
    deflated_memory.borrowed = malloc(*room);
    assert_non_null(deflated_memory.borrowed);
    deflated_memory.borrows_count++;
    return deflated_memory.borrowed;
}

static void keep(void *context, size_t used)
{
    assert_ptr_equal(context, &deflated_memory);
    assert_non_null(deflated_memory.borrowed);
    assert_true(used <= deflated_memory.room && deflated_memory.kept == DEFLATED_NEVER);
    deflated_memory.kept = used;
    deflated_memory.keeps_count++;
}

static bool stays_in_pieces(void *context)
{
    assert_ptr_equal(context, &deflated_memory);
    return true;
}

/* A compressed message has no pieces that could be kept as they are; the plain ones here are not binary. */
static uint8_t *gather(void *context, uint8_t *list, struct wsr_bytes piece, uint64_t left)
{
    (void)context, (void)list, (void)piece, (void)left;
    fail_msg("an inflated message is one block");
    return NULL;
}

static const struct wsr_session_memory memories[DEFLATED_WAYS] = {
    [DEFLATED_IN_BLOCKS] = { .grow = grow, .release = give_back },
    [DEFLATED_LENT] = { .grow = grow, .release = give_back, .borrow = borrow, .keep = keep },
    [DEFLATED_LENT_LITTLE] = { .grow = grow, .release = give_back, .borrow = borrow, .keep = keep },
    [DEFLATED_LENT_NOTHING] = { .grow = grow, .release = give_back, .borrow = borrow, .keep = keep },
    [DEFLATED_IN_PIECES] = { .grow = grow, .release = give_back, .stays_in_pieces = stays_in_pieces, .gather = gather }
};

const struct wsr_session_limits deflated_limits = {
    .message_max_bytes = DEFLATED_STREAM_MAX, .fragments_max = 1000, .head_max_bytes = 4096, .interim_max = 3
};

/* ---- A session whose events are written down ------------------------------------------------------ */

void deflated_finish(struct deflated_peer *p)
{
    wsr_session_free(&p->session);
    assert_int_equal(deflated_memory.live_count, 0);
    assert_null(deflated_memory.borrowed);
    wsr_deflate_free(&p->deflate);
    wsr_deflate_shared_free(&p->deflate_shared);
    assert_int_equal(atomic_load_explicit(&p->deflate_shared.memory_bytes, memory_order_relaxed), 0);
}

void deflated_log(struct deflated_peer *p, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    p->log_used += (size_t)vsnprintf(p->log + p->log_used, DEFLATED_LOG_MAX - p->log_used, format, list);
    va_end(list);
    assert_true(p->log_used < DEFLATED_LOG_MAX);
}

void deflated_log_bytes(struct deflated_peer *p, struct wsr_bytes bytes)
{
    if (bytes.len > SHOWN_MAX) {
        deflated_log(p, "%zu:%08lx", bytes.len, crc32(0, bytes.data, (uInt)bytes.len));
        return;
    }
    for (size_t i = 0; i < bytes.len; i++)
        deflated_log(p, bytes.data[i] >= 32 && bytes.data[i] < 127 ? "%c" : "\\%02x", bytes.data[i]);
}

static void write_event(struct deflated_peer *p, const struct wsr_session_event *event)
{
    static const char *const names[] = {
        [WSR_SESSION_MESSAGE] = "binary", [WSR_SESSION_PING] = "ping", [WSR_SESSION_PONG] = "pong",
        [WSR_SESSION_CLOSE] = "close", [WSR_SESSION_FAILURE] = "fail"
    };
    bool is_text = event->type == WSR_SESSION_MESSAGE && event->kind == WSR_TEXT;
    assert_true(event->type >= WSR_SESSION_MESSAGE && event->type <= WSR_SESSION_FAILURE);
    deflated_log(p, "%s%s(", p->log_used > 0 ? " " : "", is_text ? "text" : names[event->type]);
    if (event->type == WSR_SESSION_CLOSE || event->type == WSR_SESSION_FAILURE)
        deflated_log(p, "%u", event->code);
    else
        deflated_log_bytes(p, event->data);
    deflated_log(p, ")");
    if (event->type == WSR_SESSION_FAILURE) {
        p->text = event->text;
        assert_true(strlen(p->text) > 0);
    }
}

/* Where a message lies: in its block, in what was fed from @at to @end, or in what was borrowed and then kept. */
static void check_place(const struct wsr_session_event *event, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *data = event->data.data;
    if (event->block != NULL) {
        assert_ptr_equal(data, event->block);
        assert_true(event->data.len > 0);
        assert_int_equal(deflated_memory.kept, DEFLATED_NEVER);
        give_back(&deflated_memory, event->block);
    } else if (deflated_memory.kept != DEFLATED_NEVER) {
        assert_ptr_equal(data, deflated_memory.borrowed);
        assert_int_equal(event->data.len, deflated_memory.kept);
    } else if (event->data.len > 0) {
        assert_true(data >= at && data + event->data.len <= end);
    }
}

/* Feed @len bytes that lie in memory of their own, so that a sanitizer sees a byte too many. */
void deflated_feed(struct deflated_peer *p, const uint8_t *bytes, size_t len)
{
    uint8_t *own = malloc(len > 0 ? len : 1);
    assert_non_null(own);
    memcpy(own, bytes, len);
    for (size_t at = 0; at < len;) {
        struct wsr_session_event event;
        memset(&event, 0xA5, sizeof event);
        event.block = NULL;
        size_t taken = wsr_session_feed(&p->session, own + at, len - at, &event);
        assert_true(taken >= 1 && taken <= len - at);
        at += taken;
        assert_true(event.type != WSR_SESSION_NOTHING || at == len);
        assert_true(event.type != WSR_SESSION_FAILURE || at == len);
        if (event.type == WSR_SESSION_UPGRADED) {
            assert_true(event.agreement.has_deflate);
            wsr_deflate_init(&p->deflate, &p->deflate_shared, &event.agreement.deflate, WSR_DEFLATE_CLIENT);
            p->shared.deflate = &p->deflate;
        } else if (event.type != WSR_SESSION_NOTHING) {
            write_event(p, &event);
            if (event.type == WSR_SESSION_MESSAGE)
                check_place(&event, own, own + at);
            if (++p->events_count == p->close_after)
                (void)wsr_session_close(&p->session);
        }
        end_loan();
    }
    free(own);
}

void deflated_start(struct deflated_peer *p, const struct wsr_session_limits *limits, enum deflated_way way)
{
    struct wsr_fault fault;
    memset(p, 0, sizeof *p);
    memset(&deflated_memory, 0, sizeof deflated_memory);
    deflated_memory.way = way;
    deflated_memory.grows_max = SIZE_MAX;
    deflated_memory.kept = DEFLATED_NEVER;
    p->close_after = DEFLATED_NEVER;
    p->deflate_shared.level = WSR_DEFLATE_LEVEL_DEFAULT;
    memcpy(p->upgrade.offer.accept, ACCEPT, sizeof ACCEPT);
    int rc = wsr_deflate_offer_parse(&p->upgrade.offer.deflate, wsr_bytes_of_string(WSR_DEFLATE_OFFER_DEFAULT), &fault);
    assert_int_equal(rc, 0);
    p->shared = (struct wsr_session_shared){ .limits = *limits, .memory = &memories[way],
                                             .memory_context = &deflated_memory, .simd = wsr_simd() };
    wsr_session_init(&p->session, &p->shared, &p->upgrade);
}

void deflated_open(struct deflated_peer *p, const struct wsr_session_limits *limits, const char *extension,
                   enum deflated_way way)
{
    char answer[512];
    deflated_start(p, limits, way);
    int len = snprintf(answer, sizeof answer, ANSWER_HEAD "Sec-WebSocket-Extensions: %s\r\n\r\n", extension);
    deflated_feed(p, (const uint8_t *)answer, (size_t)len);
    assert_int_equal(p->session.state, WSR_SESSION_OPEN);
}

void deflated_put(struct deflated_stream *s, const void *bytes, size_t len)
{
    assert_true(s->len + len <= DEFLATED_STREAM_MAX);
    memcpy(s->bytes + s->len, bytes, len);
    s->len += len;
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

void deflated_put_notation(struct deflated_stream *s, const char *c)
{
    while (*c != '\0') {
        if (*c == ' ') {
            c++;
        } else if (*c == '\'') {
            const char *end = strchr(c + 1, '\'');
            deflated_put(s, c + 1, (size_t)(end - c - 1));
            c = end + 1;
        } else {
            deflated_put(s, (uint8_t[]){ (uint8_t)(hex_digit(c[0]) << 4 | hex_digit(c[1])) }, 1);
            c += 2;
        }
    }
}

void deflated_put_frame(struct deflated_stream *s, unsigned first, const void *payload, size_t len)
{
    uint8_t head[WSR_FRAME_HEAD_MAX];
    deflated_put(s, head, wsr_frame_write(head, (uint8_t)first, len, NULL));
    deflated_put(s, payload, len);
}

void deflated_start_server(z_stream *z, int level, int bits)
{
    memset(z, 0, sizeof *z);
    assert_int_equal(deflateInit2(z, level, Z_DEFLATED, -bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
}

size_t deflated_compress(z_stream *z, const void *bytes, size_t len, uint8_t *out, size_t room)
{
    z->next_in = (Bytef *)(uintptr_t)bytes;
    z->avail_in = (uInt)len;
    z->next_out = out;
    z->avail_out = (uInt)room;
    assert_int_equal(deflate(z, Z_SYNC_FLUSH), Z_OK);
    assert_true(z->avail_in == 0 && z->avail_out > 0);
    size_t made = room - z->avail_out;
    assert_memory_equal(out + made - DEFLATED_TAIL_BYTES, "\x00\x00\xff\xff", DEFLATED_TAIL_BYTES);
    return made - DEFLATED_TAIL_BYTES;
}

size_t deflated_put_message(struct deflated_stream *s, z_stream *z, unsigned first, const void *bytes, size_t len)
{
    static uint8_t out[DEFLATED_STREAM_MAX];
    size_t made = deflated_compress(z, bytes, len, out, sizeof out);
    deflated_put_frame(s, first, out, made);
    return made;
}

void deflated_fill_random(uint8_t *bytes, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(seed >> 24);
    }
}

/* ---- Every cut, every way -------------------------------------------------------------------------- */

void deflated_check_cut(const struct deflated_stream *s, const char *want, enum deflated_way way, size_t first,
                        size_t second)
{
    static struct deflated_peer p;
    deflated_open(&p, s->limits != NULL ? s->limits : &deflated_limits,
                  s->extension != NULL ? s->extension : DEFLATED_AGREED, way);
    p.close_after = s->close_after > 0 ? s->close_after : DEFLATED_NEVER;
    if (first == DEFLATED_NEVER) {
        for (size_t i = 0; i < s->len; i++)
            deflated_feed(&p, s->bytes + i, 1);
    } else {
        deflated_feed(&p, s->bytes, first);
        deflated_feed(&p, s->bytes + first, second - first);
        deflated_feed(&p, s->bytes + second, s->len - second);
    }
    if (strcmp(p.log, want) != 0)
        fail_msg("%s: way %d, cut at %zu and %zu: got %s, want %s", s->rule, way, first, second, p.log, want);
    deflated_finish(&p);
}

void deflated_check(const struct deflated_stream *s, const char *want)
{
    for (enum deflated_way way = 0; way < DEFLATED_WAYS; way++) {
        deflated_check_cut(s, want, way, s->len, s->len);
        deflated_check_cut(s, want, way, DEFLATED_NEVER, DEFLATED_NEVER);
        size_t step = s->len > 2048 ? s->len / 97 : 1;
        for (size_t i = 1; i < s->len; i += step) {
            deflated_check_cut(s, want, way, i, i);
            for (size_t j = i + 1; s->len <= 32 && j < s->len; j++)
                deflated_check_cut(s, want, way, i, j);
        }
    }
}

void deflated_check_rows(const struct deflated_row *rows, size_t count, const char *extension)
{
    static struct deflated_stream s;
    for (size_t i = 0; i < count; i++) {
        s = (struct deflated_stream){ .rule = rows[i].rule, .extension = extension };
        deflated_put_notation(&s, rows[i].stream);
        deflated_check(&s, rows[i].want);
    }
}
