/* engine/session.c and engine/session_deflate.c: compressed messages (RFC 7692) as streams, each fed whole, byte by
 * byte and at every split point, with every kind of memory that a session may be given.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>

#include "engine/session.h"

#define STREAM_MAX (1u << 20)
#define LOG_MAX 4096
#define SHOWN_MAX 48
#define NEVER SIZE_MAX
#define TAIL_BYTES 4          /* 00 00 ff ff, which a sender leaves out */

/* The accept value of the key in RFC 6455 1.3. */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define ANSWER_HEAD "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
                    "Sec-WebSocket-Accept: " ACCEPT "\r\n"
#define AGREED "permessage-deflate"
#define AGREED_NO_TAKEOVER "permessage-deflate; server_no_context_takeover"

/* ---- Session memory that counts, moves on every growth, lends, and can run out -------------------- */

enum way { IN_BLOCKS, LENT, LENT_LITTLE, LENT_NOTHING, IN_PIECES, WAYS_COUNT };

static struct {
    enum way way;
    size_t live_count;        /* blocks handed out and not given back */
    size_t grows_count;
    size_t grows_max;         /* after so many there is no memory */
    size_t largest_bytes;
    uint8_t *borrowed;        /* what is lent in this call of the session, NULL = nothing */
    size_t room;
    size_t kept;              /* bytes of it that it keeps for its event; NEVER = none */
    size_t borrows_count, keeps_count;
} memory;

static uint8_t *grow(void *context, uint8_t *old, size_t used, size_t wanted, size_t *capacity)
{
    assert_ptr_equal(context, &memory);
    assert_true(wanted > used);
    if (memory.grows_count == memory.grows_max)
        return NULL;
    uint8_t *block = malloc(wanted);
    assert_non_null(block);
    if (old != NULL) {
        memcpy(block, old, used);
        free(old);
        memory.live_count--;
    }
    memory.live_count++;
    memory.grows_count++;
    if (wanted > memory.largest_bytes)
        memory.largest_bytes = wanted;
    *capacity = wanted;
    return block;
}

static void give_back(void *context, uint8_t *block)
{
    assert_ptr_equal(context, &memory);
    assert_non_null(block);
    free(block);
    memory.live_count--;
}

static void end_loan(void)
{
    free(memory.borrowed);
    memory.borrowed = NULL;
    memory.kept = NEVER;
}

/* As large as announced, so that a sanitizer sees a byte too many. */
static uint8_t *borrow(void *context, size_t bytes, size_t *room)
{
    assert_ptr_equal(context, &memory);
    assert_true(bytes > 0);
    end_loan();
    if (memory.way == LENT_NOTHING)
        return NULL;
    *room = memory.way == LENT_LITTLE ? 3 : 4096;
    memory.room = *room;
    memory.borrowed = malloc(*room);
    assert_non_null(memory.borrowed);
    memory.borrows_count++;
    return memory.borrowed;
}

static void keep(void *context, size_t used)
{
    assert_ptr_equal(context, &memory);
    assert_non_null(memory.borrowed);
    assert_true(used <= memory.room && memory.kept == NEVER);
    memory.kept = used;
    memory.keeps_count++;
}

static bool stays_in_pieces(void *context)
{
    assert_ptr_equal(context, &memory);
    return true;
}

/* A compressed message has no pieces that could be kept as they are; the plain ones here are not binary. */
static uint8_t *gather(void *context, uint8_t *list, struct wsr_bytes piece, uint64_t left)
{
    (void)context, (void)list, (void)piece, (void)left;
    fail_msg("an inflated message is one block");
    return NULL;
}

static const struct wsr_session_memory memories[WAYS_COUNT] = {
    [IN_BLOCKS] = { .grow = grow, .release = give_back },
    [LENT] = { .grow = grow, .release = give_back, .borrow = borrow, .keep = keep },
    [LENT_LITTLE] = { .grow = grow, .release = give_back, .borrow = borrow, .keep = keep },
    [LENT_NOTHING] = { .grow = grow, .release = give_back, .borrow = borrow, .keep = keep },
    [IN_PIECES] = { .grow = grow, .release = give_back, .stays_in_pieces = stays_in_pieces, .gather = gather }
};

static const struct wsr_session_limits wide_limits = {
    .message_max_bytes = STREAM_MAX, .fragments_max = 1000, .head_max_bytes = 4096, .interim_max = 3
};

/* ---- A session whose events are written down ------------------------------------------------------ */

struct peer {
    struct wsr_session session;
    struct wsr_session_shared shared;
    struct wsr_session_upgrade upgrade;
    struct wsr_deflate deflate;
    struct wsr_deflate_shared deflate_shared;
    size_t events_count;
    size_t close_after;                    /* wsr_session_close() after so many events */
    size_t log_used;
    char log[LOG_MAX];
    const char *text;                      /* of the failure */
};

static void finish(struct peer *p)
{
    wsr_session_free(&p->session);
    assert_int_equal(memory.live_count, 0);
    assert_null(memory.borrowed);
    wsr_deflate_free(&p->deflate);
    wsr_deflate_shared_free(&p->deflate_shared);
}

static void write_log(struct peer *p, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    p->log_used += (size_t)vsnprintf(p->log + p->log_used, LOG_MAX - p->log_used, format, list);
    va_end(list);
    assert_true(p->log_used < LOG_MAX);
}

/* Printable bytes as they are, others in hex; of what is long only its length and checksum. */
static void write_bytes(struct peer *p, struct wsr_bytes bytes)
{
    if (bytes.len > SHOWN_MAX) {
        write_log(p, "%zu:%08lx", bytes.len, crc32(0, bytes.data, (uInt)bytes.len));
        return;
    }
    for (size_t i = 0; i < bytes.len; i++)
        write_log(p, bytes.data[i] >= 32 && bytes.data[i] < 127 ? "%c" : "\\%02x", bytes.data[i]);
}

static void write_event(struct peer *p, const struct wsr_session_event *event)
{
    static const char *const names[] = {
        [WSR_SESSION_MESSAGE] = "binary", [WSR_SESSION_PING] = "ping", [WSR_SESSION_PONG] = "pong",
        [WSR_SESSION_CLOSE] = "close", [WSR_SESSION_FAILURE] = "fail"
    };
    bool is_text = event->type == WSR_SESSION_MESSAGE && event->kind == WSR_TEXT;
    assert_true(event->type >= WSR_SESSION_MESSAGE && event->type <= WSR_SESSION_FAILURE);
    write_log(p, "%s%s(", p->log_used > 0 ? " " : "", is_text ? "text" : names[event->type]);
    if (event->type == WSR_SESSION_CLOSE || event->type == WSR_SESSION_FAILURE)
        write_log(p, "%u", event->code);
    else
        write_bytes(p, event->data);
    write_log(p, ")");
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
        assert_int_equal(memory.kept, NEVER);
        give_back(&memory, event->block);
    } else if (memory.kept != NEVER) {
        assert_ptr_equal(data, memory.borrowed);
        assert_int_equal(event->data.len, memory.kept);
    } else if (event->data.len > 0) {
        assert_true(data >= at && data + event->data.len <= end);
    }
}

/* Feed @len bytes that lie in memory of their own, so that a sanitizer sees a byte too many. */
static void feed(struct peer *p, const uint8_t *bytes, size_t len)
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

/* @extension is what the server answers to the default offer. */
static void start(struct peer *p, const struct wsr_session_limits *limits, const char *extension, enum way way)
{
    struct wsr_fault fault;
    char answer[512];
    memset(p, 0, sizeof *p);
    memset(&memory, 0, sizeof memory);
    memory.way = way;
    memory.grows_max = SIZE_MAX;
    memory.kept = NEVER;
    p->close_after = NEVER;
    p->deflate_shared.level = WSR_DEFLATE_LEVEL_DEFAULT;
    memcpy(p->upgrade.offer.accept, ACCEPT, sizeof ACCEPT);
    assert_int_equal(wsr_deflate_offer_parse(&p->upgrade.offer.deflate, wsr_bytes_of_string(WSR_DEFLATE_OFFER_DEFAULT),
                                             &fault), 0);
    p->shared = (struct wsr_session_shared){ .limits = *limits, .memory = &memories[way], .memory_context = &memory,
                                             .simd = wsr_simd() };
    wsr_session_init(&p->session, &p->shared, &p->upgrade);
    int len = snprintf(answer, sizeof answer, ANSWER_HEAD "Sec-WebSocket-Extensions: %s\r\n\r\n", extension);
    feed(p, (const uint8_t *)answer, (size_t)len);
    assert_int_equal(p->session.state, WSR_SESSION_OPEN);
}

/* ---- Streams --------------------------------------------------------------------------------------- */

struct stream {
    const char *rule;
    const char *extension;                 /* NULL = AGREED */
    const struct wsr_session_limits *limits;   /* NULL = wide_limits */
    size_t close_after;                    /* events until our Close, 0 = never */
    size_t len;
    uint8_t bytes[STREAM_MAX];
};

static void put(struct stream *s, const void *bytes, size_t len)
{
    assert_true(s->len + len <= STREAM_MAX);
    memcpy(s->bytes + s->len, bytes, len);
    s->len += len;
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

/* "8105 'Hello' 8900": bytes in hex, text in quotes. */
static void put_notation(struct stream *s, const char *c)
{
    while (*c != '\0') {
        if (*c == ' ') {
            c++;
        } else if (*c == '\'') {
            const char *end = strchr(c + 1, '\'');
            put(s, c + 1, (size_t)(end - c - 1));
            c = end + 1;
        } else {
            put(s, (uint8_t[]){ (uint8_t)(hex_digit(c[0]) << 4 | hex_digit(c[1])) }, 1);
            c += 2;
        }
    }
}

static void put_frame(struct stream *s, unsigned first, const void *payload, size_t len)
{
    uint8_t head[WSR_FRAME_HEAD_MAX];
    put(s, head, wsr_frame_write(head, (uint8_t)first, len, NULL));
    put(s, payload, len);
}

/* ---- A server that compresses, by zlib alone ------------------------------------------------------ */

#define RSV1 0x40             /* of a first byte */
#define TEXT (WSR_FRAME_FIN | RSV1 | WSR_OPCODE_TEXT)
#define BINARY (WSR_FRAME_FIN | RSV1 | WSR_OPCODE_BINARY)

static void start_server(z_stream *z, int level, int bits)
{
    memset(z, 0, sizeof *z);
    assert_int_equal(deflateInit2(z, level, Z_DEFLATED, -bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
}

/* Compress @len bytes into @out, without the tail. Returns their number. */
static size_t compress_message(z_stream *z, const void *bytes, size_t len, uint8_t *out, size_t room)
{
    z->next_in = (Bytef *)(uintptr_t)bytes;
    z->avail_in = (uInt)len;
    z->next_out = out;
    z->avail_out = (uInt)room;
    assert_int_equal(deflate(z, Z_SYNC_FLUSH), Z_OK);
    assert_true(z->avail_in == 0 && z->avail_out > 0);
    size_t made = room - z->avail_out;
    assert_memory_equal(out + made - TAIL_BYTES, "\x00\x00\xff\xff", TAIL_BYTES);
    return made - TAIL_BYTES;
}

static size_t put_message(struct stream *s, z_stream *z, unsigned first, const void *bytes, size_t len)
{
    static uint8_t out[STREAM_MAX];
    size_t made = compress_message(z, bytes, len, out, sizeof out);
    put_frame(s, first, out, made);
    return made;
}

/* Bytes that no compressor finds anything in. */
static void fill_random(uint8_t *bytes, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(seed >> 24);
    }
}

/* ---- Every cut, every way -------------------------------------------------------------------------- */

static void check_cut(const struct stream *s, const char *want, enum way way, size_t first, size_t second)
{
    static struct peer p;
    start(&p, s->limits != NULL ? s->limits : &wide_limits, s->extension != NULL ? s->extension : AGREED, way);
    p.close_after = s->close_after > 0 ? s->close_after : NEVER;
    if (first == NEVER) {
        for (size_t i = 0; i < s->len; i++)
            feed(&p, s->bytes + i, 1);
    } else {
        feed(&p, s->bytes, first);
        feed(&p, s->bytes + first, second - first);
        feed(&p, s->bytes + second, s->len - second);
    }
    if (strcmp(p.log, want) != 0)
        fail_msg("%s: way %d, cut at %zu and %zu: got %s, want %s", s->rule, way, first, second, p.log, want);
    finish(&p);
}

/* The stream in one piece, byte by byte, in every two and (when short) every three pieces. */
static void check(const struct stream *s, const char *want)
{
    for (enum way way = 0; way < WAYS_COUNT; way++) {
        check_cut(s, want, way, s->len, s->len);
        check_cut(s, want, way, NEVER, NEVER);
        size_t step = s->len > 2048 ? s->len / 97 : 1;
        for (size_t i = 1; i < s->len; i += step) {
            check_cut(s, want, way, i, i);
            for (size_t j = i + 1; s->len <= 32 && j < s->len; j++)
                check_cut(s, want, way, i, j);
        }
    }
}

struct row {
    const char *rule;
    const char *stream;
    const char *want;
};

static void check_rows(const struct row *rows, size_t count, const char *extension)
{
    static struct stream s;
    for (size_t i = 0; i < count; i++) {
        s = (struct stream){ .rule = rows[i].rule, .extension = extension };
        put_notation(&s, rows[i].stream);
        check(&s, rows[i].want);
    }
}

#define CHECK_ROWS(rows, extension) check_rows(rows, sizeof(rows) / sizeof((rows)[0]), extension)

/* ---- What a message may look like ------------------------------------------------------------------ */

/* PMD-42, PMD-44, PMD-45: the vectors of the semantics, 5.5. */
static void vectors_inflate_at_every_split_point(void **state)
{
    static const struct row rows[] = {
        { "one block", "c107 f248cdc9c90700", "text(Hello)" },
        { "binary", "c207 f248cdc9c90700", "binary(Hello)" },
        { "two fragments", "4103 f248cd 8004 c9c90700", "text(Hello)" },
        { "a byte in each", "4101 f2 0001 48 0001 cd 0001 c9 0001 c9 0001 07 8001 00", "text(Hello)" },
        { "takeover", "c107 f248cdc9c90700 c105 f200110000", "text(Hello) text(Hello)" },
        { "stored block", "c10b 000500faff48656c6c6f00", "text(Hello)" },
        { "PMD-44", "c108 f348cdc9c9070000", "text(Hello)" },
        { "PMD-44 takeover", "c108 f348cdc9c9070000 c105 f200110000", "text(Hello) text(Hello)" },
        { "two blocks", "c10d f24805000000ffffcac9c90700", "text(Hello)" },
        { "RECV-08", "4103 f248cd 8903 'abc' 0001 c9 8a00 8003 c90700", "ping(abc) pong() text(Hello)" },
        { "RECV-08 close", "4103 f248cd 8802 03e8 8004 c9c90700", "close(1000)" },
        { "RECV-09", "4100 0003 f248cd 0000 0004 c9c90700 8000", "text(Hello)" }
    };
    (void)state;
    CHECK_ROWS(rows, AGREED);
}

/* PMD-40, RECV-01, RECV-07, RECV-13 */
static void rsv1_stands_only_where_a_compressed_message_begins(void **state)
{
    static const struct row rows[] = {
        { "PMD-40 continuation", "4103 f248cd c004 c9c90700 8900", "fail(1002)" },
        { "PMD-40 continuation that goes on", "4103 f248cd 4001 c9 8003 c90700", "fail(1002)" },
        { "PMD-40 of a plain message", "0101 'a' c007 f248cdc9c90700", "fail(1002)" },
        { "PMD-40 without a message", "c007 f248cdc9c90700", "fail(1002)" },
        { "PMD-40 ping", "c107 f248cdc9c90700 c903 'abc' 8900", "text(Hello) fail(1002)" },
        { "PMD-40 empty ping", "c900", "fail(1002)" },
        { "PMD-40 pong", "ca00", "fail(1002)" },
        { "PMD-40 close", "c802 03e8", "fail(1002)" },
        { "PMD-40 ping between", "4103 f248cd c900 8004 c9c90700", "fail(1002)" },
        { "RSV2", "e107 f248cdc9c90700", "fail(1002)" },
        { "RSV3", "d107 f248cdc9c90700", "fail(1002)" },
        { "RSV2 alone", "a105 'Hello'", "fail(1002)" },
        { "opcode", "c307 f248cdc9c90700", "fail(1002)" },
        { "masked", "c187 00000000 f248cdc9c90700", "fail(1002)" },
        { "RECV-04", "c17e0007 f248cdc9c90700", "fail(1002)" },
        { "RECV-05", "c17f7fffffffffffffff f248", "fail(1009)" },
        { "RECV-07", "4103 f248cd c107 f248cdc9c90700", "fail(1002)" },
        { "RECV-07 plain inside", "4103 f248cd 8101 'a'", "fail(1002)" },
        { "RECV-07 behind", "c107 f248cdc9c90700 8001 00", "text(Hello) fail(1002)" }
    };
    (void)state;
    CHECK_ROWS(rows, AGREED);
}

/* RECV-01: without agreement RSV1 has no meaning, whatever the payload. */
static void rsv1_without_agreement_fails(void **state)
{
    static const char *const streams[] = { "c107 f248cdc9c90700", "4103 f248cd", "c100", "c207 f248cdc9c90700" };
    (void)state;
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        static struct stream s;
        s.len = 0;
        put_notation(&s, streams[i]);
        for (size_t cut = 0; cut < s.len; cut++) {
            static struct peer p;
            start(&p, &wide_limits, AGREED, LENT);
            p.shared.deflate = NULL;
            feed(&p, s.bytes, cut);
            feed(&p, s.bytes + cut, s.len - cut);
            assert_string_equal(p.log, "fail(1002)");
            assert_int_equal(memory.grows_count + memory.borrows_count, 0);
            finish(&p);
        }
    }
}

/* PMD-41: what is plain does not enter the window that the next compressed message refers to. */
static void plain_and_compressed_messages_mix(void **state)
{
    static const struct row rows[] = {
        { "plain", "8105 'Hello'", "text(Hello)" },
        { "plain before", "8103 'abc' c107 f248cdc9c90700", "text(abc) text(Hello)" },
        { "plain between", "c107 f248cdc9c90700 8103 'abc' c105 f200110000", "text(Hello) text(abc) text(Hello)" },
        { "plain fragments between", "c107 f248cdc9c90700 0102 'ab' 8001 'c' c105 f200110000 8100",
          "text(Hello) text(abc) text(Hello) text()" },
        { "what looks compressed", "8207 f248cdc9c90700", "binary(\\f2H\\cd\\c9\\c9\\07\\00)" },
        { "stored like a frame", "c206 0000 8103 'ab'", "fail(1007)" }
    };
    (void)state;
    check_rows(rows, 4, AGREED);
    for (size_t i = 4; i < 6; i++) {                /* binary and plain: these would be kept in pieces */
        static struct stream s;
        s = (struct stream){ .rule = rows[i].rule };
        put_notation(&s, rows[i].stream);
        for (enum way way = 0; way < IN_PIECES; way++)
            for (size_t cut = 0; cut < s.len; cut++)
                check_cut(&s, rows[i].want, way, cut, cut);
    }
}

/* PMD-34, PMD-49, RECV-09: however it is said that there is nothing, the stream goes on where it was. */
static void empty_messages_in_every_form(void **state)
{
    static const struct row rows[] = {
        { "PMD-34", "c101 00", "text()" },
        { "PMD-34 two bytes", "c202 0200", "binary()" },
        { "PMD-49", "c100", "text()" },
        { "PMD-49 in fragments", "4100 0000 8000", "text()" },
        { "PMD-49 ping between", "4200 8901 'p' 8000", "ping(p) binary()" },
        { "PMD-34 in fragments", "4100 0001 00 8000", "text()" },
        { "PMD-34 with BFINAL", "c103 030000", "text()" },
        { "PMD-34 with BFINAL, stored", "c106 010000ffff00", "text()" },
        { "PMD-49 between", "c107 f248cdc9c90700 c100 c105 f200110000", "text(Hello) text() text(Hello)" },
        { "PMD-49 fragments between", "c107 f248cdc9c90700 4100 0000 8000 c105 f200110000",
          "text(Hello) text() text(Hello)" },
        { "PMD-34 between", "c107 f248cdc9c90700 c101 00 c202 0200 c105 f200110000",
          "text(Hello) text() binary() text(Hello)" },
        { "plain between", "c107 f248cdc9c90700 8100 8000", "text(Hello) text() fail(1002)" }
    };
    (void)state;
    CHECK_ROWS(rows, AGREED);
    check_rows(rows, 8, AGREED_NO_TAKEOVER);
}

/* ---- Contexts -------------------------------------------------------------------------------------- */

/* Messages that share most of their text, of which each is written to @want as the log shows it. */
static size_t put_series(struct stream *s, z_stream *z, bool takes_over, char *want)
{
    size_t last_bytes = 0, used = 0;
    for (int i = 0; i < 5; i++) {
        char text[400];
        int len = snprintf(text, sizeof text, "{\"channel\":\"trades\",\"sequence\":%d,\"price\":%d.%02d,\"side\":\"%s\"}",
                           7000 + i * 13, 64000 + i * i, i * 7, i % 2 > 0 ? "buy" : "sell");
        last_bytes = put_message(s, z, TEXT, text, (size_t)len);
        used += (size_t)sprintf(want + used, "%stext(%d:%08lx)", i > 0 ? " " : "", len,
                                crc32(0, (const Bytef *)text, (uInt)len));
        if (!takes_over)
            assert_int_equal(deflateReset(z), Z_OK);
    }
    return last_bytes;
}

/* PMD-42, PMD-43: the window holds what came before, or is forgotten, as was agreed on; of any announced size. */
static void the_context_is_taken_over_as_agreed(void **state)
{
    static const struct { const char *extension; int bits; bool takes_over; } rows[] = {
        { AGREED, 15, true }, { AGREED, 9, true }, { AGREED, 15, false },
        { AGREED "; server_max_window_bits=15", 15, true }, { AGREED "; server_max_window_bits=9", 9, true },
        { AGREED "; server_max_window_bits=12; client_no_context_takeover", 12, true },
        { AGREED_NO_TAKEOVER, 15, false }, { AGREED_NO_TAKEOVER "; server_max_window_bits=10", 10, false }
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct stream s;
        char want[512];
        z_stream z;
        start_server(&z, 6, rows[i].bits);
        s = (struct stream){ .rule = rows[i].extension, .extension = rows[i].extension };
        size_t last_bytes = put_series(&s, &z, rows[i].takes_over, want);
        assert_int_equal(last_bytes < 40, rows[i].takes_over);        /* it does refer to those before */
        check(&s, want);
        (void)deflateEnd(&z);
    }
}

/* PMD-42: without takeover there is nothing that a message could refer to. */
static void a_context_that_was_not_agreed_on_is_not_there(void **state)
{
    static const struct row rows[] = {
        { "first", "c105 f200110000", "fail(1007)" },
        { "second", "c107 f248cdc9c90700 c105 f200110000", "text(Hello) fail(1007)" },
        { "behind BFINAL", "c108 f348cdc9c9070000 c105 f200110000", "text(Hello) fail(1007)" },
        { "behind fragments", "4103 f248cd 8004 c9c90700 c105 f200110000", "text(Hello) fail(1007)" },
        { "behind BFINAL, inside", "c10c f348cdc9c90700 f200110000", "text(HelloHello)" },
        { "each its own", "c107 f248cdc9c90700 c107 f248cdc9c90700 c108 f348cdc9c9070000 c107 f248cdc9c90700",
          "text(Hello) text(Hello) text(Hello) text(Hello)" }
    };
    (void)state;
    check_rows(rows, 1, AGREED);
    CHECK_ROWS(rows, AGREED_NO_TAKEOVER);
}

/* PMD-44, PMD-45 */
static void blocks_of_every_kind_stand_in_one_message(void **state)
{
    static const struct row rows[] = {
        { "BFINAL twice", "c10f f348cdc9c90700 f348cdc9c90700 00", "text(HelloHello)" },
        { "BFINAL, then not", "c10e f348cdc9c90700 f248cdc9c90700", "text(HelloHello)" },
        { "BFINAL, then a block that refers", "c10c f348cdc9c90700 f200110000", "text(HelloHello)" },
        { "BFINAL, stored", "c10b 010500faff48656c6c6f 00", "text(Hello)" },
        { "BFINAL in fragments", "4107 f348cdc9c90700 0000 8001 00 c105 f200110000", "text(Hello) text(Hello)" },
        { "BFINAL in three messages", "c108 f348cdc9c9070000 c105 f300110000 c105 f200110000",
          "text(Hello) text(Hello) text(Hello)" },
        { "stored, then fixed", "c111 000500faff48656c6c6f f248cdc9c90700", "text(HelloHello)" },
        { "empty blocks before", "c111 000000ffff 000000ffff f248cdc9c90700", "text(Hello)" },
        { "a block that begins at a byte where none may", "c111 f24805000000ffff 000000ffff ca c9c907 00", "fail(1007)" },
        { "stored twice", "c115 000500faff48656c6c6f 000500faff48656c6c6f 00", "text(HelloHello)" },
        { "BFINAL and nothing behind", "c107 f348cdc9c90700", "fail(1007)" },
        { "BFINAL, stored, and nothing behind", "c10a 010500faff48656c6c6f", "fail(1007)" },
        { "the tail was left in", "c10b f248cdc9c907000000ffff", "fail(1007)" }
    };
    (void)state;
    CHECK_ROWS(rows, AGREED);
}

/* ---- What is no message ---------------------------------------------------------------------------- */

/*
 * What zlib makes of a whole message, with the check of 5.6: all input is taken, and the stream is between two blocks.
 * Returns the bytes made, or SIZE_MAX for what is malformed.
 */
static size_t judge(const uint8_t *payload, size_t len, uint8_t *out, size_t room)
{
    uint8_t in[256];
    z_stream z = { 0 };
    memcpy(in, payload, len);
    memcpy(in + len, "\x00\x00\xff\xff", TAIL_BYTES);
    assert_int_equal(inflateInit2(&z, -15), Z_OK);
    z.next_in = in;
    z.avail_in = (uInt)(len + TAIL_BYTES);
    z.next_out = out;
    z.avail_out = (uInt)room;
    int rc = Z_OK;
    while (z.avail_in > 0 && (rc == Z_OK || rc == Z_STREAM_END)) {
        if (rc == Z_STREAM_END)
            assert_int_equal(inflateResetKeep(&z), Z_OK);
        rc = inflate(&z, Z_SYNC_FLUSH);
        assert_true(z.avail_out > 0);
    }
    bool is_good = rc == Z_OK && (z.data_type & 128) != 0 && (z.data_type & 63) == 0;
    assert_int_equal(inflateEnd(&z), Z_OK);
    return is_good ? room - z.avail_out : SIZE_MAX;
}

static const char *const cut_off[] = {
    "One message, One message, and one message that is cut off.", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "x",
    "{\"a\":[1,2,3],\"b\":[1,2,3],\"c\":[3,2,1]}"
};

/* PMD-46 and 5.6: what is cut off is no message, whatever zlib says. Also cut off in fragments, the last one empty. */
static void messages_cut_off_at_every_byte_fail(void **state)
{
    static struct stream s;
    uint8_t payload[256];
    (void)state;
    for (size_t i = 0; i < 2 * sizeof cut_off / sizeof cut_off[0]; i++) {
        const char *text = cut_off[i / 2];
        z_stream z;
        start_server(&z, i % 2 > 0 ? 9 : 0, 15);
        size_t len = compress_message(&z, text, strlen(text), payload, sizeof payload);
        (void)deflateEnd(&z);
        for (size_t end = i % 2 > 0 ? 1 : 2; end < len; end++) {       /* of a stored one, 00 would be a message */
            s = (struct stream){ .rule = text };
            put_frame(&s, TEXT, payload, end);
            check(&s, "fail(1007)");
            s.len = 0;
            put_frame(&s, RSV1 | WSR_OPCODE_TEXT, payload, end);
            put_notation(&s, "8901 'p' 8000 8900");
            check(&s, "ping(p) fail(1007)");
        }
    }
}

/* PMD-46: with any one bit wrong it is what zlib says that it is. */
static void messages_with_a_wrong_bit_are_what_zlib_makes_of_them(void **state)
{
    static struct stream s;
    static uint8_t out[STREAM_MAX];
    uint8_t payload[256];
    char want[2 * LOG_MAX];
    size_t failures = 0, messages = 0;
    z_stream z;
    (void)state;
    start_server(&z, 9, 15);
    size_t len = compress_message(&z, cut_off[0], strlen(cut_off[0]), payload, sizeof payload);
    (void)deflateEnd(&z);
    for (size_t bit = 0; bit < len * 8; bit++) {
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
        size_t made = judge(payload, len, out, sizeof out);
        static struct peer p;
        if (made == SIZE_MAX) {
            strcpy(want, "fail(1007)");
            failures++;
        } else {
            p.log_used = 0;
            write_log(&p, "binary(");
            write_bytes(&p, wsr_bytes_of(out, made));
            write_log(&p, ")");
            strcpy(want, p.log);
            messages++;
        }
        s = (struct stream){ .rule = "wrong bit" };
        put_frame(&s, BINARY, payload, len);
        for (enum way way = 0; way < WAYS_COUNT; way++) {
            check_cut(&s, want, way, s.len, s.len);
            check_cut(&s, want, way, NEVER, NEVER);
            check_cut(&s, want, way, bit / 8, s.len);
        }
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(failures > 0 && messages > 0);
}

/* RECV-13: nothing behind it is read, and what it holds is given back at once. */
static void a_malformed_message_ends_the_reading(void **state)
{
    static const struct row rows[] = {
        { "block type 3", "c101 07 8101 'a'", "fail(1007)" },
        { "lengths differ", "c105 0005000000 8101 'a'", "fail(1007)" },
        { "in a fragment that is not the last", "4103 070000 8901 'p' 8000", "fail(1007)" },
        { "behind good output", "4103 f248cd 0003 ffffff 8900", "fail(1007)" },
        { "too far back", "c205 f200110000 8800", "fail(1007)" }
    };
    (void)state;
    CHECK_ROWS(rows, AGREED);
}

/* ---- Limits ---------------------------------------------------------------------------------------- */

/* PMD-47, RECV-14: 64 MiB of one byte in 64 KiB. It fails where the limit is passed, without holding more than that. */
static void a_bomb_stops_at_the_limit(void **state)
{
    static uint8_t zeros[1u << 20], bomb[STREAM_MAX];
    struct wsr_session_limits limits = wide_limits;
    size_t len = 0;
    z_stream z;
    (void)state;
    start_server(&z, 9, 15);
    for (size_t i = 0; i < 64; i++) {
        z.next_in = zeros;
        z.avail_in = sizeof zeros;
        z.next_out = bomb + len;
        z.avail_out = (uInt)(sizeof bomb - len);
        assert_int_equal(deflate(&z, i < 63 ? Z_NO_FLUSH : Z_SYNC_FLUSH), Z_OK);
        len = sizeof bomb - z.avail_out;
    }
    (void)deflateEnd(&z);
    assert_true(len > 60000 && len < 70000);
    limits.message_max_bytes = 100000;
    static const size_t pieces[] = { 1, 7, 1000, STREAM_MAX };
    for (enum way way = 0; way < WAYS_COUNT; way++) {
        for (size_t i = 0; i < 4; i++) {
            static struct stream s;
            static struct peer p;
            size_t at = 0;
            s.len = 0;
            put_frame(&s, BINARY, bomb, len - TAIL_BYTES);
            start(&p, &limits, AGREED, way);
            while (at < s.len && p.session.state == WSR_SESSION_OPEN) {
                size_t n = s.len - at < pieces[i] ? s.len - at : pieces[i];
                feed(&p, s.bytes + at, n);
                at += n;
                assert_true(memory.largest_bytes <= limits.message_max_bytes + 1 && memory.live_count <= 1);
            }
            assert_string_equal(p.log, "fail(1009)");
            assert_true(pieces[i] > 1000 || at < 2000);               /* 1,030 to 1 at most */
            assert_int_equal(memory.live_count, 0);
            assert_true(memory.grows_count <= 20);
            finish(&p);
        }
    }
}

/* One message of @len bytes, as one frame, or as three and an empty one. */
static void put_limit_message(struct stream *s, int level, const uint8_t *bytes, size_t len, bool is_fragmented)
{
    static uint8_t out[STREAM_MAX];
    z_stream z;
    start_server(&z, level, 15);
    size_t made = compress_message(&z, bytes, len, out, sizeof out);
    (void)deflateEnd(&z);
    *s = (struct stream){ .rule = "limit" };
    if (!is_fragmented) {
        put_frame(s, BINARY, out, made);
        return;
    }
    put_frame(s, RSV1 | WSR_OPCODE_BINARY, out, made / 3);
    put_frame(s, WSR_OPCODE_CONTINUATION, out + made / 3, made / 3);
    put_frame(s, WSR_OPCODE_CONTINUATION, out + made / 3 * 2, made - made / 3 * 2);
    put_frame(s, WSR_FRAME_FIN | WSR_OPCODE_CONTINUATION, out, 0);
}

/* PMD-47, RECV-14: what counts is the inflated size, also when what came is larger than that, as stored blocks are. */
static void the_inflated_size_passes_at_the_limit_and_fails_above_it(void **state)
{
    static const uint64_t sizes[] = { 1, 2, 3, 100, 125, 1000, 4095, 4096, 4097, 65535, 70000 };
    static uint8_t bytes[70001];
    static struct stream s;
    struct wsr_session_limits limits = wide_limits;
    (void)state;
    for (size_t i = 0; i < 4 * sizeof sizes / sizeof sizes[0]; i++) {
        bool is_stored = (i & 1) != 0, is_fragmented = (i & 2) != 0;
        limits.message_max_bytes = sizes[i / 4];
        memset(bytes, 'z', sizeof bytes);
        if (is_stored)
            fill_random(bytes, sizeof bytes, (uint32_t)i);
        for (size_t over = 0; over < 2; over++) {
            size_t len = (size_t)limits.message_max_bytes + over;
            static struct peer p;
            p.log_used = 0;
            write_log(&p, "binary(");
            write_bytes(&p, wsr_bytes_of(bytes, len));
            write_log(&p, ")");
            char want[LOG_MAX];
            strcpy(want, over > 0 ? "fail(1009)" : p.log);
            put_limit_message(&s, is_stored ? 0 : 6, bytes, len, is_fragmented);
            s.limits = &limits;
            for (enum way way = 0; way < WAYS_COUNT; way++) {
                check_cut(&s, want, way, s.len, s.len);
                check_cut(&s, want, way, s.len / 3, s.len / 2);
                check_cut(&s, want, way, 1, s.len - 1);
                if (s.len < 5000)
                    check_cut(&s, want, way, NEVER, NEVER);
            }
        }
    }
}

/* PMD-47: what stands for nothing may not be sent for ever, in one frame or in many. */
static void blocks_of_nothing_end_at_the_limit_of_what_comes(void **state)
{
    static uint8_t block[5] = { 0, 0, 0, 0xFF, 0xFF };
    static const uint32_t blocks_per_frame[] = { 1, 20, 400 };
    struct wsr_session_limits limits = wide_limits;
    (void)state;
    limits.message_max_bytes = 3000;
    limits.fragments_max = 100000;
    for (enum way way = 0; way < WAYS_COUNT; way++) {
        for (size_t i = 0; i < 3; i++) {
            static struct peer p;
            static struct stream s;
            size_t wire_bytes = 0;
            start(&p, &limits, AGREED, way);
            for (unsigned k = 0; p.session.state == WSR_SESSION_OPEN; k++) {
                static uint8_t payload[400 * sizeof block];
                for (size_t n = 0; n < blocks_per_frame[i]; n++)
                    memcpy(payload + n * sizeof block, block, sizeof block);
                s.len = 0;
                put_frame(&s, k == 0 ? RSV1 | WSR_OPCODE_TEXT : WSR_OPCODE_CONTINUATION, payload,
                          blocks_per_frame[i] * sizeof block);
                feed(&p, s.bytes, s.len);
                wire_bytes += blocks_per_frame[i] * sizeof block;
                assert_true(wire_bytes < 10000);
                assert_true(p.session.state == WSR_SESSION_OPEN || wire_bytes > limits.message_max_bytes);
            }
            assert_string_equal(p.log, "fail(1009)");
            assert_true(memory.largest_bytes <= limits.message_max_bytes + 1);
            finish(&p);
        }
    }
}

/* RECV-05, RECV-15: a header that announces more than may come fails by itself, one that announces much pins nothing. */
static void what_a_header_announces_pins_nothing(void **state)
{
    static struct stream s;
    static struct peer p;
    (void)state;
    for (enum way way = 0; way < WAYS_COUNT; way++) {
        s = (struct stream){ .rule = "RECV-05" };
        put_notation(&s, "c27f 0000000100000000");
        check_cut(&s, "fail(1009)", way, s.len, s.len);
        check_cut(&s, "fail(1009)", way, NEVER, NEVER);
        s.len = 0;
        put_notation(&s, "c17f 0000000000100000 f248cd");
        start(&p, &wide_limits, AGREED, way);
        feed(&p, s.bytes, s.len);
        assert_int_equal(p.session.state, WSR_SESSION_OPEN);
        assert_true(memory.largest_bytes <= 4096);
        finish(&p);
    }
}

/* Without a limit in sight, every number that is made of it still holds. */
static void the_largest_limits_take_messages(void **state)
{
    static const struct wsr_session_limits limits = {
        .message_max_bytes = UINT64_MAX, .fragments_max = UINT32_MAX, .head_max_bytes = 4096, .interim_max = 3
    };
    static struct stream s;
    (void)state;
    s = (struct stream){ .rule = "limits", .limits = &limits };
    put_notation(&s, "c107 f248cdc9c90700 4103 f20011 8002 0000 c10b 000500faff48656c6c6f00");
    check(&s, "text(Hello) text(Hello) text(Hello)");
}

/* RECV-14 */
static void fragments_count_when_compressed_too(void **state)
{
    static const struct row rows[] = {
        { "three", "4103 f248cd 0002 c9c9 8902 'ab' 8002 0700 4100 0000 8000", "ping(ab) text(Hello) text()" },
        { "four", "4103 f248cd 0002 c9c9 0001 07 8001 00", "fail(1008)" },
        { "four empty ones", "4100 0000 0000 8900 8000", "ping() fail(1008)" },
        { "empty behind three", "4103 f248cd 0002 c9c9 0002 0700 8000", "fail(1008)" }
    };
    static struct wsr_session_limits limits;
    (void)state;
    limits = wide_limits;
    limits.fragments_max = 3;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct stream s;
        const char *want = rows[i].want;
        s = (struct stream){ .rule = rows[i].rule, .limits = &limits };
        put_notation(&s, rows[i].stream);
        check(&s, want);
    }
}

/* ---- Text ------------------------------------------------------------------------------------------ */

/* PMD-48, UTF-01 to UTF-07: what is judged is what was inflated, cut wherever room for it ends. */
static void inflated_text_is_judged_across_cuts(void **state)
{
    static const struct { const char *text; bool is_good; } rows[] = {
        { "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", true }, { "\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", true },
        { "ab\xf0\x9f\x98\x80" "cd\xe2\x82\xac", true }, { "\xef\xbb\xbfx", true }, { "a\xce", false },
        { "ab\xe2\x82", false }, { "\xf0\x9f\x98", false }, { "a\xff" "b", false }, { "\xc0\xaf", false },
        { "abc\xed\xa0\x80", false }, { "\xf4\x90\x80\x80", false }, { "ab\x80", false }
    };
    static struct stream s;
    uint8_t payload[128];
    (void)state;
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        const char *text = rows[i / 2].text;
        char want[512];
        static struct peer p;
        z_stream z;
        p.log_used = 0;
        write_log(&p, "text(ok) %s(", rows[i / 2].is_good ? "text" : "fail");
        if (rows[i / 2].is_good)
            write_bytes(&p, wsr_bytes_of((const uint8_t *)text, strlen(text)));
        write_log(&p, rows[i / 2].is_good ? ") text(ok)" : "1007)");
        strcpy(want, p.log);
        start_server(&z, i % 2 > 0 ? 9 : 0, 15);
        s = (struct stream){ .rule = "PMD-48" };
        (void)put_message(&s, &z, TEXT, "ok", 2);
        size_t len = compress_message(&z, text, strlen(text), payload, sizeof payload);
        put_frame(&s, RSV1 | WSR_OPCODE_TEXT, payload, len / 2);
        put_frame(&s, WSR_FRAME_FIN | WSR_OPCODE_CONTINUATION, payload + len / 2, len - len / 2);
        (void)put_message(&s, &z, TEXT, "ok", 2);
        check(&s, want);
        (void)deflateEnd(&z);
    }
    static const struct row binary[] = { { "UTF-07", "c208 000200fdff c3ff 00", "binary(\\c3\\ff)" } };
    CHECK_ROWS(binary, AGREED);
}

/* UTF-02, PMD-48: without what would follow. */
static void bad_text_fails_before_the_next_byte_comes(void **state)
{
    static const char *const streams[] = {
        "4107 000200fdff 61ff", "410a 000500faff 6162ff", "c17e0fff 000200fdff 61ff",
        "4106 000200fdff e2 0001 28", "c10b 000500faff eda0", "4108 f24805000000ffff 0003 000200 0003 fdff61 0001 ff"
    };
    (void)state;
    for (enum way way = 0; way < WAYS_COUNT; way++) {
        for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
            static struct stream s;
            static struct peer p;
            s.len = 0;
            put_notation(&s, streams[i]);
            for (int each_byte = 0; each_byte < 2; each_byte++) {
                start(&p, &wide_limits, AGREED, way);
                for (size_t k = 0; k < s.len && each_byte > 0; k++) {
                    assert_int_equal(p.session.state, WSR_SESSION_OPEN);
                    feed(&p, s.bytes + k, 1);
                }
                if (each_byte == 0)
                    feed(&p, s.bytes, s.len);
                if (strcmp(p.log, "fail(1007)") != 0)
                    fail_msg("way %d, %s: got %s", way, streams[i], p.log);
                finish(&p);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_inflate_at_every_split_point),
        cmocka_unit_test(rsv1_stands_only_where_a_compressed_message_begins),
        cmocka_unit_test(rsv1_without_agreement_fails),
        cmocka_unit_test(plain_and_compressed_messages_mix),
        cmocka_unit_test(empty_messages_in_every_form),
        cmocka_unit_test(the_context_is_taken_over_as_agreed),
        cmocka_unit_test(a_context_that_was_not_agreed_on_is_not_there),
        cmocka_unit_test(blocks_of_every_kind_stand_in_one_message),
        cmocka_unit_test(messages_cut_off_at_every_byte_fail),
        cmocka_unit_test(messages_with_a_wrong_bit_are_what_zlib_makes_of_them),
        cmocka_unit_test(a_malformed_message_ends_the_reading),
        cmocka_unit_test(a_bomb_stops_at_the_limit),
        cmocka_unit_test(the_inflated_size_passes_at_the_limit_and_fails_above_it),
        cmocka_unit_test(blocks_of_nothing_end_at_the_limit_of_what_comes),
        cmocka_unit_test(what_a_header_announces_pins_nothing),
        cmocka_unit_test(the_largest_limits_take_messages),
        cmocka_unit_test(fragments_count_when_compressed_too),
        cmocka_unit_test(inflated_text_is_judged_across_cuts),
        cmocka_unit_test(bad_text_fails_before_the_next_byte_comes)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
