/* engine/session.c: the rules of RFC 6455 as tables of streams, each fed whole, byte by byte and at every split point.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/session.h"
#include "simd/simd.h"

#define STREAM_MAX (1u << 20)
#define LOG_MAX 8192
#define SHOWN_MAX 48          /* longer payloads are runs of one byte */
#define NO_CUT SIZE_MAX

/* The accept value of the key in RFC 6455 1.3 (RESP-07). */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define ANSWER_HEAD "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
#define ANSWER ANSWER_HEAD "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n"

/* ---- Session memory that counts, moves on every growth, and can run out ------------------------- */

static struct {
    size_t live_count;        /* blocks handed out and not given back */
    size_t grows_count;
    size_t grows_max;         /* after so many there is no memory */
    size_t largest_bytes;
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

static const struct wsr_session_memory session_memory = { .grow = grow, .release = give_back };

static const struct wsr_session_limits wide_limits = {
    .message_max_bytes = STREAM_MAX, .fragments_max = 1000, .head_max_bytes = 4096, .interim_max = 3
};

/* ---- A session whose events are written down ----------------------------------------------------- */

struct peer {
    struct wsr_session session;
    struct wsr_session_shared shared;
    struct wsr_session_upgrade *upgrade;   /* its own block, freed as soon as the header allows */
    size_t events_count;
    size_t close_after;                    /* wsr_session_close() after so many events */
    size_t log_used;
    char log[LOG_MAX];
    const char *text;                      /* of the failure */
};

static void start(struct peer *p, const struct wsr_session_limits *limits)
{
    memset(p, 0, sizeof *p);
    memset(&memory, 0, sizeof memory);
    memory.grows_max = SIZE_MAX;
    p->close_after = SIZE_MAX;
    p->upgrade = calloc(1, sizeof *p->upgrade);
    assert_non_null(p->upgrade);
    memcpy(p->upgrade->offer.accept, ACCEPT, sizeof ACCEPT);
    p->shared = (struct wsr_session_shared){ .limits = *limits, .memory = &session_memory, .memory_context = &memory,
                                               .simd = wsr_simd() };
    wsr_session_init(&p->session, &p->shared, p->upgrade);
}

static void finish(struct peer *p)
{
    wsr_session_free(&p->session);
    free(p->upgrade);
    p->upgrade = NULL;
    assert_int_equal(memory.live_count, 0);
}

static void write_log(struct peer *p, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    p->log_used += (size_t)vsnprintf(p->log + p->log_used, LOG_MAX - p->log_used, format, list);
    va_end(list);
    assert_true(p->log_used < LOG_MAX);
}

/* Printable bytes as they are, others in hex; a long run of one byte as "61x125" says byte and count. */
static void write_bytes(struct peer *p, struct wsr_bytes bytes)
{
    if (bytes.len > SHOWN_MAX) {
        bool is_run = memcmp(bytes.data, bytes.data + 1, bytes.len - 1) == 0;
        if (is_run)
            write_log(p, "%02xx%zu", bytes.data[0], bytes.len);
        else
            write_log(p, "mixedx%zu", bytes.len);
        return;
    }
    for (size_t i = 0; i < bytes.len; i++)
        write_log(p, bytes.data[i] >= 32 && bytes.data[i] < 127 ? "%c" : "\\%02x", bytes.data[i]);
}

static void write_event(struct peer *p, const struct wsr_session_event *event)
{
    write_log(p, p->log_used > 0 ? " " : "");
    switch (event->type) {
    case WSR_SESSION_UPGRADED:
        assert_int_equal(event->http_status, 101);
        assert_memory_equal(event->head.data + event->head.len - 4, "\r\n\r\n", 4);
        write_log(p, "open(%.*s", (int)event->agreement.protocol.len, (const char *)event->agreement.protocol.data);
        break;
    case WSR_SESSION_MESSAGE:
        write_log(p, event->kind == WSR_TEXT ? "text(" : "binary(");
        write_bytes(p, event->data);
        break;
    case WSR_SESSION_PING:
    case WSR_SESSION_PONG:
        write_log(p, event->type == WSR_SESSION_PING ? "ping(" : "pong(");
        write_bytes(p, event->data);
        break;
    case WSR_SESSION_CLOSE:
        write_log(p, "close(%u,", event->code);
        write_bytes(p, event->data);
        break;
    case WSR_SESSION_FAILURE:
        write_log(p, "fail(%u", event->code);
        if (p->session.state == WSR_SESSION_REFUSED)
            write_log(p, ",%u", event->http_status);
        assert_int_equal(event->head.len > 0, event->http_status > 0);
        p->text = event->text;
        assert_true(strlen(p->text) > 0);
        break;
    case WSR_SESSION_NOTHING:
        fail_msg("nothing is not to be logged");
    }
    write_log(p, ")");
}

static void take_event(struct peer *p, struct wsr_session_event *event)
{
    write_event(p, event);
    if (event->block != NULL) {
        assert_ptr_equal(event->data.data, event->block);
        give_back(&memory, event->block);
    }
    if (p->session.state != WSR_SESSION_UPGRADING) {
        assert_true(p->upgrade == NULL || p->upgrade->head == NULL);
        free(p->upgrade);
        p->upgrade = NULL;
    }
    if (++p->events_count == p->close_after)
        (void)wsr_session_close(&p->session);
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
        if (event.type != WSR_SESSION_NOTHING)
            take_event(p, &event);
        else
            assert_int_equal(at, len);
        if (event.type == WSR_SESSION_FAILURE)
            assert_int_equal(at, len);
    }
    free(own);
}

static void open_session(struct peer *p, const struct wsr_session_limits *limits)
{
    start(p, limits);
    feed(p, (const uint8_t *)ANSWER, sizeof ANSWER - 1);
    assert_string_equal(p->log, "open()");
    assert_int_equal(p->session.state, WSR_SESSION_OPEN);
    p->log_used = 0;
    p->log[0] = '\0';
}

/* ---- Streams in a small notation ----------------------------------------------------------------- */

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

/* "8105 'Hello' 8900 61*125": bytes in hex, text in quotes, *N repeats the byte or text before it. */
static size_t expand(uint8_t *out, const char *notation)
{
    size_t used = 0;
    size_t item = 0;
    const char *c = notation;
    while (*c != '\0') {
        if (*c == ' ') {
            c++;
        } else if (*c == '\'') {
            item = used;
            for (c++; *c != '\''; c++)
                out[used++] = (uint8_t)*c;
            c++;
        } else if (*c == '*') {
            char *end;
            size_t item_bytes = used - item;
            for (unsigned long times = strtoul(c + 1, &end, 10); times > 1; times--) {
                memcpy(out + used, out + item, item_bytes);
                used += item_bytes;
            }
            c = end;
        } else {
            item = used;
            out[used++] = (uint8_t)(hex_digit(c[0]) << 4 | hex_digit(c[1]));
            c += 2;
        }
        assert_true(used < STREAM_MAX);
    }
    return used;
}

struct row {
    const char *rule;
    const char *stream;
    const char *want;
};

struct cuts {
    size_t first;
    size_t second;
    bool each_byte;
};

static void feed_cut(struct peer *p, const uint8_t *bytes, size_t len, const struct cuts *cuts)
{
    if (cuts->each_byte) {
        for (size_t i = 0; i < len; i++)
            feed(p, bytes + i, 1);
        return;
    }
    size_t first = cuts->first < len ? cuts->first : len;
    size_t second = cuts->second < len ? cuts->second : len;
    feed(p, bytes, first);
    feed(p, bytes + first, second - first);
    feed(p, bytes + second, len - second);
}

static void check_cut(const struct row *row, const uint8_t *bytes, size_t len, size_t close_after,
                      const struct cuts *cuts)
{
    struct peer p;
    open_session(&p, &wide_limits);
    p.close_after = close_after == SIZE_MAX ? SIZE_MAX : close_after + 1;   /* open() was the first event */
    if (close_after == 0)
        (void)wsr_session_close(&p.session);
    feed_cut(&p, bytes, len, cuts);
    if (strcmp(p.log, row->want) != 0)
        fail_msg("%s: cut at %zu and %zu, each byte %d: got %s, want %s", row->rule, cuts->first, cuts->second,
                 cuts->each_byte, p.log, row->want);
    finish(&p);
}

/* The row's stream in one piece, byte by byte, in every two and (when short) every three pieces. */
static void check_row(const struct row *row, size_t close_after)
{
    static uint8_t bytes[STREAM_MAX];
    size_t len = expand(bytes, row->stream);
    check_cut(row, bytes, len, close_after, &(struct cuts){ NO_CUT, NO_CUT, false });
    check_cut(row, bytes, len, close_after, &(struct cuts){ 0, 0, true });
    size_t step = len > 4096 ? len / 97 : 1;
    for (size_t i = 1; i < len; i += step) {
        check_cut(row, bytes, len, close_after, &(struct cuts){ i, i, false });
        for (size_t j = i + 1; len <= 64 && j < len; j++)
            check_cut(row, bytes, len, close_after, &(struct cuts){ i, j, false });
    }
}

#define CHECK_ROWS(rows, close_after)                              \
    for (size_t i = 0; i < sizeof(rows) / sizeof((rows)[0]); i++)  \
        check_row(&(rows)[i], close_after)
#define NEVER SIZE_MAX

/* ---- 4.1 Frames ---------------------------------------------------------------------------------- */

static void whole_messages_of_every_length_form(void **state)
{
    static const struct row rows[] = {
        { "AB 1.1.1 SEND-07", "8100", "text()" },
        { "AB 1.2.1", "8200", "binary()" },
        { "AB 1.1.2", "817d '*'*125", "text(2ax125)" },
        { "AB 1.1.3", "817e007e '*'*126", "text(2ax126)" },
        { "AB 1.1.4", "817e007f '*'*127", "text(2ax127)" },
        { "AB 1.1.5", "817e0080 '*'*128", "text(2ax128)" },
        { "AB 1.2.2", "827d fe*125", "binary(fex125)" },
        { "AB 1.2.3", "827e007e fe*126", "binary(fex126)" },
        { "AB 1.1.6", "817effff '*'*65535", "text(2ax65535)" },
        { "AB 1.2.7", "827f0000000000010000 fe*65536", "binary(fex65536)" },
        { "RECV-12", "8101 'a' 8201 'b' 8900 8101 'c'", "text(a) binary(b) ping() text(c)" },
        { "RECV-11 frames in a payload", "820c 8105 'Hello' 8103 'abc'", "binary(\\81\\05Hello\\81\\03abc)" },
        { "RECV-11 of 16-bit length", "827e 0081 8105 'Hello' 00*122 8104 'next'", "binary(mixedx129) text(next)" },
        { "RECV-11 in a ping", "890c 8105 'Hello' 8103 'abc'", "ping(\\81\\05Hello\\81\\03abc)" },
        { "RECV-11 in a header", "82 8105 'Hello'", "fail(1002)" },
        { "UTF-07", "8202 c3ff", "binary(\\c3\\ff)" }
    };
    (void)state;
    CHECK_ROWS(rows, NEVER);
}

static void reserved_bits_and_opcodes_fail_after_what_came_before(void **state)
{
    static const struct row rows[] = {
        { "AB 3.1 RECV-01", "9105 'Hello'", "fail(1002)" },
        { "AB 3.2 RECV-12", "8101 'a' a101 'b' 8900", "text(a) fail(1002)" },
        { "AB 3.3", "8101 'a' b101 'b' 8900", "text(a) fail(1002)" },
        { "AB 3.4 RSV1", "8101 'a' c101 'b' 8900", "text(a) fail(1002)" },
        { "AB 3.5", "d201 'b'", "fail(1002)" },
        { "AB 3.6", "e900", "fail(1002)" },
        { "AB 3.7", "f800", "fail(1002)" },
        { "PMD-40 ping", "c900", "fail(1002)" },
        { "PMD-40 continuation", "0101 'a' c001 'b'", "fail(1002)" },
        { "AB 4.1.1 RECV-02", "8300", "fail(1002)" },
        { "AB 4.1.2", "8401 'a'", "fail(1002)" },
        { "AB 4.1.3", "8101 'a' 8500 8900", "text(a) fail(1002)" },
        { "AB 4.1.4", "8101 'a' 8601 'b' 8900", "text(a) fail(1002)" },
        { "AB 4.1.5", "8101 'a' 8701 'b' 8900", "text(a) fail(1002)" },
        { "AB 4.2.1", "8b00", "fail(1002)" },
        { "AB 4.2.2", "8c01 'a'", "fail(1002)" },
        { "AB 4.2.3", "8101 'a' 8d00 8900", "text(a) fail(1002)" },
        { "AB 4.2.4", "8101 'a' 8e01 'b' 8900", "text(a) fail(1002)" },
        { "AB 4.2.5", "8101 'a' 8f01 'b' 8900", "text(a) fail(1002)" }
    };
    (void)state;
    CHECK_ROWS(rows, NEVER);
}

static void masked_and_oddly_long_frames_fail(void **state)
{
    static const struct row rows[] = {
        { "RECV-03", "8185 01020304 'Hello'", "fail(1002)" },
        { "RECV-03 empty", "8180 00000000", "fail(1002)" },
        { "RECV-03 ping", "8101 'a' 8980 01020304", "text(a) fail(1002)" },
        { "RECV-04", "827e007d 00*125", "fail(1002)" },
        { "RECV-04", "827f000000000000ffff 00", "fail(1002)" },
        { "RECV-05", "827f8000000000000000", "fail(1002)" },
        { "RECV-05", "827f7fffffffffffffff", "fail(1009)" },
        { "RECV-13", "8300 8101 'a' 8900 8800", "fail(1002)" }
    };
    (void)state;
    CHECK_ROWS(rows, NEVER);
}

static void fragments_make_one_message_or_break_a_rule(void **state)
{
    static const struct row rows[] = {
        { "AB 5.1 RECV-06", "0901 'a' 8001 'b'", "fail(1002)" },
        { "AB 5.2", "0a01 'a' 8001 'b'", "fail(1002)" },
        { "AB 5.3 RECV-10", "0103 'abc' 8003 'def'", "text(abcdef)" },
        { "binary", "0203 'abc' 8003 'def' 8101 'x'", "binary(abcdef) text(x)" },
        { "AB 5.6 RECV-08", "0103 'abc' 8901 'p' 8003 'def'", "ping(p) text(abcdef)" },
        { "pong between", "0103 'abc' 8a00 8003 'def'", "pong() text(abcdef)" },
        { "AB 5.9 RECV-07", "8003 'abc' 8101 'a'", "fail(1002)" },
        { "AB 5.12", "0003 'abc' 8101 'a'", "fail(1002)" },
        { "AB 5.15", "0101 'a' 8001 'b' 0001 'c' 8101 'd'", "text(ab) fail(1002)" },
        { "AB 5.17", "8000 8101 'a'", "fail(1002)" },
        { "AB 5.18", "0101 'a' 8101 'b'", "fail(1002)" },
        { "text in binary", "0201 'a' 0101 'b'", "fail(1002)" },
        { "whole text in text", "0105 'Hello' 8105 'World'", "fail(1002)" },
        { "frame in a fragment", "0207 8205 'Hello' 8007 8205 'World'", "binary(\\82\\05Hello\\82\\05World)" },
        { "AB 5.19", "0101 'a' 0001 'b' 8901 '1' 0001 'c' 0001 'd' 8901 '2' 8001 'e'", "ping(1) ping(2) text(abcde)" },
        { "AB 6.1.2 RECV-09", "0100 0000 8000 8101 'x'", "text() text(x)" },
        { "AB 6.1.3", "0100 0001 'a' 8000", "text(a)" },
        { "empty first and last", "0200 0000 8003 'abc' 8200", "binary(abc) binary()" },
        { "ping in an empty one", "0100 8900 8000", "ping() text()" }
    };
    (void)state;
    CHECK_ROWS(rows, NEVER);
}

/* ---- 4.2 Text ------------------------------------------------------------------------------------ */

static void text_across_frames_and_cuts_is_judged_where_it_breaks(void **state)
{
    static const struct row rows[] = {
        { "AB 6.2.1 UTF-01", "810b cebae1bdb9cf83cebcceb5", "text(\\ce\\ba\\e1\\bd\\b9\\cf\\83\\ce\\bc\\ce\\b5)" },
        { "AB 6.2.3 UTF-03", "0103 cebae1 8008 bdb9cf83cebcceb5",
          "text(\\ce\\ba\\e1\\bd\\b9\\cf\\83\\ce\\bc\\ce\\b5)" },
        { "AB 6.2.4", "0101 f0 0001 9f 8900 0001 98 8001 80", "ping() text(\\f0\\9f\\98\\80)" },
        { "UTF-03 empty between", "0101 ce 0000 8001 ba", "text(\\ce\\ba)" },
        { "AB 6.3.1", "8114 cebae1bdb9cf83cebcceb5 eda080 656469746564", "fail(1007)" },
        { "AB 6.4.1 UTF-02", "010b cebae1bdb9cf83cebcceb5 0004 f4908080", "fail(1007)" },
        { "AB 6.4.3 mid-frame", "817e0100 'abc' ff", "fail(1007)" },
        { "UTF-02 nothing after", "8104 'a' fe 'bc' 8900", "fail(1007)" },
        { "UTF-04", "0101 ce 8000", "fail(1007)" },
        { "UTF-04 next message is new", "8101 ce 8101 ba", "fail(1007)" },
        { "UTF-05 cut surrogate", "0101 ed 8002 a080", "fail(1007)" },
        { "UTF-06", "8104 efbbbf 'a'", "text(\\ef\\bb\\bfa)" },
        { "AB 6.7.1", "8101 00", "text(\\00)" }
    };
    (void)state;
    CHECK_ROWS(rows, NEVER);
}

/* AB 6.5 to 6.23: each sequence as a message alone, framed in one and one byte per frame. UTF-05 */
static void text_sequences_of_the_suite(void **state)
{
    static const char *const good[] = {
        "ceba", "cebae1bdb9", "cebae1bdb9cf83", "cebae1bdb9cf83cebc", "c280", "e0a080", "f0908080", "7f", "dfbf",
        "efbfbf", "f48fbfbf", "ed9fbf", "ee8080", "efbfbd", "efbfbe", "f09fbfbe", "f09fbfbf", "f0afbfbe", "f0afbfbf",
        "f0bfbfbe", "f18fbfbe", "f28fbfbf", "f3bfbfbe", "f48fbfbe", "efbfb9efbfbaefbfbb"
    };
    static const char *const bad[] = {
        "ce", "cebae1", "cebae1bd", "cebae1bdb9cf", "f7bfbfbf", "f888808080", "fbbfbfbfbf", "fc8480808080",
        "fdbfbfbfbfbf", "f4908080", "80", "bf", "80bf", "80bf80bf80bf", "c020c120", "e020e120", "f020f120", "f820",
        "fc20", "c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf",
        "fe", "ff", "fefeffff", "c0af", "e080af", "f08080af", "f8808080af", "fc80808080af", "c1bf", "e09fbf",
        "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf", "c080", "e08080", "f0808080", "f880808080", "eda080", "edadbf",
        "edae80", "edafbf", "edb080", "edbe80", "edbfbf", "eda080edb080", "edafbfedbfbf", "f5808080"
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0] + sizeof bad / sizeof bad[0]; i++) {
        bool is_good = i < sizeof good / sizeof good[0];
        uint8_t text[16];
        uint8_t frames[64];
        size_t used = 0;
        size_t len = expand(text, is_good ? good[i] : bad[i - sizeof good / sizeof good[0]]);
        struct peer whole;
        open_session(&whole, &wide_limits);
        used = wsr_frame_write(frames, 0x81, len, NULL);
        memcpy(frames + used, text, len);
        feed(&whole, frames, used + len);
        assert_int_equal(whole.session.state, is_good ? WSR_SESSION_OPEN : WSR_SESSION_FAILED);
        assert_memory_equal(whole.log, is_good ? "text(" : "fail(1007)", 5);
        finish(&whole);

        struct peer pieces;
        open_session(&pieces, &wide_limits);
        for (size_t k = 0; k < len; k++) {
            uint8_t frame[3] = { (uint8_t)((k == 0) | (k + 1 == len) << 7), 1, text[k] };
            feed(&pieces, frame, sizeof frame);
        }
        assert_string_equal(pieces.log, whole.log);
        finish(&pieces);
    }
}

/* UTF-02: the failure is reported by the very byte that no valid text can have there. */
static void text_fails_at_the_first_impossible_byte(void **state)
{
    static const struct {
        const char *stream;
        size_t fails_at;             /* bytes fed when the failure comes */
    } rows[] = {
        { "817e1000 'abc' c3 28", 9 }, { "817e1000 eda0", 6 }, { "817e1000 f490", 6 }, { "817e1000 c0", 5 },
        { "0101 f0 8903 'abc' 0009 8f", 11 }, { "8102 c328", 4 }
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[64];
        struct peer p;
        size_t len = expand(bytes, rows[i].stream);
        open_session(&p, &wide_limits);
        assert_int_equal(rows[i].fails_at, len);
        for (size_t k = 0; k < len; k++) {
            assert_int_equal(p.session.state, WSR_SESSION_OPEN);
            feed(&p, bytes + k, 1);
        }
        assert_int_equal(p.session.state, WSR_SESSION_FAILED);
        finish(&p);
    }
}

/* ---- 4.4 Control frames -------------------------------------------------------------------------- */

static void pings_and_pongs_are_reported_in_order(void **state)
{
    static const struct row rows[] = {
        { "AB 2.1 CTL-01", "8900", "ping()" },
        { "AB 2.2", "8905 'Hello'", "ping(Hello)" },
        { "AB 2.3", "8905 00fffefdfc", "ping(\\00\\ff\\fe\\fd\\fc)" },
        { "AB 2.4", "897d fe*125", "ping(fex125)" },
        { "AB 2.5 RECV-06", "897e007e fe*126", "fail(1002)" },
        { "AB 2.7 CTL-05", "8a00", "pong()" },
        { "AB 2.8", "8a05 'Hello'", "pong(Hello)" },
        { "AB 2.9", "8a05 'Hello' 8903 'abc'", "pong(Hello) ping(abc)" },
        { "AB 2.10 CTL-03", "8901 '0' 8901 '1' 8901 '2' 8901 '3' 8901 '4' 8901 '5' 8901 '6' 8901 '7' 8901 '8' 8901 '9'",
          "ping(0) ping(1) ping(2) ping(3) ping(4) ping(5) ping(6) ping(7) ping(8) ping(9)" },
        { "ping, then message", "8902 'ab' 8102 'cd' 8902 'ef' 8102 'gh'", "ping(ab) text(cd) ping(ef) text(gh)" }
    };
    (void)state;
    CHECK_ROWS(rows, NEVER);
}

static void close_frames_end_the_reading(void **state)
{
    static const struct row rows[] = {
        { "AB 7.1.1", "8102 'ab' 8802 03e8", "text(ab) close(1000,)" },
        { "AB 7.1.2 CLOSE-24", "8802 03e8 8802 03e9", "close(1000,)" },
        { "AB 7.1.3 CTL-04", "8802 03e8 8900", "close(1000,)" },
        { "AB 7.1.4", "8800 8101 'a'", "close(1005,)" },
        { "AB 7.1.5", "0101 'a' 8802 03e8 8001 'b'", "close(1000,)" },
        { "RECV-13", "8800 ffffff", "close(1005,)" },
        { "AB 7.3.1 CTL-07", "8800", "close(1005,)" },
        { "AB 7.3.2", "8801 61", "fail(1002)" },
        { "AB 7.3.4", "8807 03e8 'Hello'", "close(1000,Hello)" },
        { "AB 7.3.5", "887d 03e8 '*'*123", "close(1000,2ax123)" },
        { "AB 7.3.6", "887e007e 03e8 '*'*124", "fail(1002)" },
        { "AB 7.5.1", "8816 03e8 cebae1bdb9cf83cebcceb5 eda080 656469746564", "fail(1007)" },
        { "CTL-07 reason cut", "8803 03e8 ce", "fail(1007)" },
        { "CTL-08 code first", "8803 03ed ff", "fail(1002)" },
        { "CTL-09", "8805 0fa0 efbbbf", "close(4000,\\ef\\bb\\bf)" },
        { "in a message", "0101 'a' 8804 0bb8 'ok'", "close(3000,ok)" }
    };
    (void)state;
    CHECK_ROWS(rows, NEVER);
}

/* Semantics 3.3; AB 7.7, 7.9, 7.13 */
static void every_close_code_that_may_not_be_sent_fails(void **state)
{
    (void)state;
    for (unsigned code = 0; code <= UINT16_MAX; code++) {
        uint8_t frame[4] = { 0x88, 2, (uint8_t)(code >> 8), (uint8_t)code };
        char want[32];
        struct peer p;
        bool is_good = (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) || (code >= 3000 && code < 5000);
        open_session(&p, &wide_limits);
        feed(&p, frame, sizeof frame);
        (void)snprintf(want, sizeof want, is_good ? "close(%u,)" : "fail(1002)", code);
        assert_string_equal(p.log, want);
        assert_int_equal(p.session.state, is_good ? WSR_SESSION_CLOSE_RECEIVED : WSR_SESSION_FAILED);
        finish(&p);
    }
}

/* ---- 3.2 The closing handshake -------------------------------------------------------------------- */

static void after_our_close_the_peer_may_still_speak(void **state)
{
    static const struct row rows[] = {
        { "CLOSE-15", "8101 'a' 8901 'p' 8802 03e8", "text(a) ping(p) close(1000,)" },
        { "CLOSE-22", "8806 107e 'late'", "close(4222,late)" },
        { "CLOSE-24", "8800 8900 8101 'a'", "close(1005,)" },
        { "rules still hold", "8101 ff 8800", "fail(1007)" },
        { "and fail once", "8300 8800", "fail(1002)" }
    };
    static const struct row late[] = {
        { "after one event", "8101 'a' 0101 'b' 8001 'c' 8800 8900", "text(a) text(bc) close(1005,)" },
        { "inside a message", "0101 'b' 8900 8001 'c' 8800", "ping() text(bc) close(1005,)" }
    };
    (void)state;
    CHECK_ROWS(rows, 0);
    CHECK_ROWS(late, 1);
}

static void every_state_answers_close_by_its_rule(void **state)
{
    static const struct {
        const char *stream;
        bool ours_first;
        enum wsr_session_state before;
        bool writes;
        enum wsr_session_state after;
    } rows[] = {
        { "", false, WSR_SESSION_OPEN, true, WSR_SESSION_CLOSE_SENT },
        { "", true, WSR_SESSION_CLOSE_SENT, false, WSR_SESSION_CLOSE_SENT },
        { "8800", false, WSR_SESSION_CLOSE_RECEIVED, true, WSR_SESSION_CLOSED },
        { "8300", false, WSR_SESSION_FAILED, true, WSR_SESSION_CLOSED },
        { "8800", true, WSR_SESSION_CLOSED, false, WSR_SESSION_CLOSED },   /* CLOSE-23 */
        { "8300", true, WSR_SESSION_CLOSED, false, WSR_SESSION_CLOSED }    /* SEND-14: one Close only */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[8];
        struct peer p;
        size_t len = expand(bytes, rows[i].stream);
        open_session(&p, &wide_limits);
        if (rows[i].ours_first)
            assert_true(wsr_session_close(&p.session));
        feed(&p, bytes, len);
        assert_int_equal(p.session.state, rows[i].before);
        assert_int_equal(wsr_session_close(&p.session), rows[i].writes);
        assert_int_equal(p.session.state, rows[i].after);
        if (rows[i].after == WSR_SESSION_CLOSED)
            assert_false(wsr_session_close(&p.session));
        finish(&p);
    }
}

/* ---- Limits (RECV-05, RECV-14, RECV-15) ----------------------------------------------------------- */

static void message_size_passes_at_the_limit_and_fails_above_it(void **state)
{
    static const struct {
        uint64_t limit;
        const char *stream;
        const char *want;
    } rows[] = {
        { 4, "8204 'abcd'", "binary(abcd)" }, { 3, "8204 'abcd'", "fail(1009)" }, { 5, "8204 'abcd'", "binary(abcd)" },
        { 4, "8105 ff", "fail(1009)" },
        { 4, "0102 'ab' 0001 'c' 8001 'd'", "text(abcd)" }, { 4, "0102 'ab' 0001 'c' 8002", "fail(1009)" },
        { 4, "0204 'abcd' 0000 8000", "binary(abcd)" }, { 4, "0204 'abcd' 8001", "fail(1009)" },
        { 4, "897d 00*125 8201 'a'", "ping(00x125) binary(a)" },
        { 126, "827e007e 61*126", "binary(61x126)" }, { 125, "827e007e", "fail(1009)" },
        { 4, "8203 'abc' 8204 'abcd' 8205", "binary(abc) binary(abcd) fail(1009)" }
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wsr_session_limits limits = wide_limits;
        limits.message_max_bytes = rows[i].limit;
        uint8_t bytes[256];
        size_t len = expand(bytes, rows[i].stream);
        for (size_t cut = 0; cut < len; cut++) {
            struct peer p;
            open_session(&p, &limits);
            feed(&p, bytes, cut);
            feed(&p, bytes + cut, len - cut);
            assert_string_equal(p.log, rows[i].want);
            assert_true(memory.largest_bytes <= (rows[i].limit > 125 ? rows[i].limit : 125));
            finish(&p);
        }
    }
}

static void fragments_pass_at_the_limit_and_fail_above_it(void **state)
{
    (void)state;
    for (uint32_t limit = 1; limit < 6; limit++) {
        for (uint32_t count = 1; count < 8; count++) {
            struct wsr_session_limits limits = wide_limits;
            limits.fragments_max = limit;
            struct peer p;
            open_session(&p, &limits);
            for (uint32_t round = 0; round < 2; round++) {           /* the second message counts from 0 */
                for (uint32_t k = 0; k < count; k++) {
                    uint8_t frame[4] = { (uint8_t)((k == 0) | (k + 1 == count) << 7), 0, 0x89, 0 };
                    feed(&p, frame, k + 1 < count ? 4 : 2);          /* pings between do not count */
                    assert_int_equal(p.session.state == WSR_SESSION_FAILED, k >= limit || (round > 0 && count > limit));
                }
            }
            assert_int_equal(strstr(p.log, "fail(1008)") != NULL, count > limit);
            finish(&p);
        }
    }
}

/* RECV-15: a header that announces 1 MiB pins nothing, and memory stays below twice what arrived. */
static void memory_grows_by_what_arrived(void **state)
{
    static const uint8_t head[] = { 0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 0 };
    static uint8_t piece[700];
    struct peer p;
    (void)state;
    open_session(&p, &wide_limits);
    feed(&p, head, sizeof head);
    assert_int_equal(memory.grows_count, 0);
    size_t fed = 0;
    while (fed < STREAM_MAX) {
        size_t n = STREAM_MAX - fed < sizeof piece ? STREAM_MAX - fed : sizeof piece;
        feed(&p, piece, n);
        fed += n;
        assert_true(memory.largest_bytes <= (2 * fed > 1024 ? 2 * fed : 1024));
    }
    assert_string_equal(p.log, "binary(00x1048576)");
    assert_int_equal(memory.largest_bytes, STREAM_MAX);
    assert_true(memory.grows_count <= 12);
    finish(&p);
}

static void a_message_in_one_piece_takes_no_memory(void **state)
{
    static const char *const streams[] = {
        "8105 'Hello'", "8905 'Hello'", "0100 8003 'abc'", "8804 03e8 'ab'", "8200"
    };
    (void)state;
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        uint8_t bytes[16];
        struct peer p;
        open_session(&p, &wide_limits);
        feed(&p, bytes, expand(bytes, streams[i]));
        assert_int_equal(memory.grows_count, 0);
        finish(&p);
    }
}

/* The block of a control frame in pieces is held until the next call only, be that the shortcut's or not. */
static void what_was_lent_comes_back_with_the_next_call(void **state)
{
    static const char *const next[] = { "8105 'Hello'", "8900", "81" };
    (void)state;
    for (size_t i = 0; i < sizeof next / sizeof next[0]; i++) {
        uint8_t bytes[16];
        struct peer p;
        open_session(&p, &wide_limits);
        feed(&p, (const uint8_t *)"\x89\x02p", 3);
        feed(&p, (const uint8_t *)"q", 1);
        assert_string_equal(p.log, "ping(pq)");
        assert_int_equal(memory.live_count, 1);
        feed(&p, bytes, expand(bytes, next[i]));
        assert_int_equal(memory.live_count, 0);
        finish(&p);
    }
}

/* F8 */
static void without_memory_the_connection_fails_and_nothing_leaks(void **state)
{
    static const struct row rows[] = {
        { "message", "8203 'a' 'bc'", "fail(1011)" },
        { "fragments", "0201 'a' 8001 'b'", "fail(1011)" },
        { "ping", "8903 'abc'", "fail(1011)" },
        { "close", "0201 'a' 8904 'abcd'", "fail(1011)" }
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[16];
        size_t len = expand(bytes, rows[i].stream);
        for (size_t grows_max = 0; grows_max < 2; grows_max++) {
            struct peer p;
            open_session(&p, &wide_limits);
            memory.grows_max = grows_max;
            for (size_t k = 0; k < len; k++)
                feed(&p, bytes + k, 1);
            if (p.session.state == WSR_SESSION_FAILED)
                assert_string_equal(p.log, rows[i].want);
            assert_true(grows_max > 0 || p.session.state == WSR_SESSION_FAILED);
            finish(&p);
        }
    }
}

/* The session may be dropped after any byte of any stream; one that has ended holds nothing even before. */
static void all_memory_comes_back_from_every_state(void **state)
{
    static const char *const streams[] = {
        "0103 'abc' 0003 'def' 8905 'Hello' 8003 'ghi'", "8905 'Hello'", "827e0800 00*2048", "8807 03e8 'Hello' 00",
        "0103 'abc' 8300 00", "0103 'abc' 8801 'x' 00", "0103 'abc' 8807 03e8 'Hello' 00",
        "0103 'abc' 8804 03e8 'a' ff 00"
    };
    (void)state;
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        static uint8_t bytes[4096];
        size_t len = expand(bytes, streams[i]);
        for (size_t end = 0; end <= len; end++) {
            struct peer p;
            open_session(&p, &wide_limits);
            for (size_t k = 0; k < end; k++) {
                bool has_ended = p.session.state != WSR_SESSION_OPEN;
                feed(&p, bytes + k, 1);
                assert_true(!has_ended || memory.live_count == 0);
            }
            finish(&p);
        }
    }
}

/* ---- 1.5 The upgrade ------------------------------------------------------------------------------- */

static void check_answer_cut(const struct wsr_session_limits *limits, const char *protocols, const uint8_t *bytes,
                             size_t len, const char *want, const struct cuts *cuts)
{
    struct peer p;
    start(&p, limits);
    p.upgrade->offer.protocols = wsr_bytes_of_string(protocols);
    feed_cut(&p, bytes, len, cuts);
    if (strcmp(p.log, want) != 0)
        fail_msg("cut at %zu and %zu of %zu: got %s, want %s", cuts->first, cuts->second, len, p.log, want);
    if (p.session.state == WSR_SESSION_REFUSED) {
        assert_false(wsr_session_close(&p.session));               /* F6: no Close frame */
        assert_int_equal(p.session.state, WSR_SESSION_REFUSED);
    }
    finish(&p);
}

/* @protocols is what was offered. */
static void check_answer(const struct wsr_session_limits *limits, const char *protocols, const char *answer,
                         const char *frames, const char *want)
{
    static uint8_t bytes[16384];
    size_t answer_len = strlen(answer);
    memcpy(bytes, answer, answer_len);
    size_t len = answer_len + expand(bytes + answer_len, frames);
    for (size_t cut = 0; cut <= len; cut++) {                      /* the last round: byte by byte */
        for (size_t second = cut; second <= len; second += 1 + len / 7)
            check_answer_cut(limits, protocols, bytes, len, want, &(struct cuts){ cut, second, cut == len });
    }
}

/* RESP-02, RESP-03, RESP-12, RESP-13 */
static void answers_at_every_split_point(void **state)
{
    static const struct {
        const char *answer;
        const char *frames;
        const char *want;
    } rows[] = {
        { ANSWER, "", "open()" },
        { ANSWER, "8105 'Hello' 8900 8802 03e8 8900", "open() text(Hello) ping() close(1000,)" },
        { ANSWER, "0102 cea3 0001 ce 8903 'abc' 8001 b1 8800", "open() ping(abc) text(\\ce\\a3\\ce\\b1) close(1005,)" },
        { ANSWER, "8300", "open() fail(1002)" },
        { "HTTP/1.1 100 Continue\r\n\r\n" ANSWER, "8101 'a'", "open() text(a)" },
        { "HTTP/1.1 102 A\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 \r\n\r\n" ANSWER,
          "8900", "open() ping()" },
        { "HTTP/1.1 100 A\r\n\r\nHTTP/1.1 100 B\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 D\r\n\r\n" ANSWER, "8900",
          "fail(0,103)" },
        { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "8101 'a'", "fail(0,200)" },
        { "HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "", "fail(0,301)" },
        { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\n\r\n", "", "fail(0,401)" },
        { ANSWER_HEAD "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n", "8101 'a'", "fail(0,101)" },
        { "FOO BAR BAZ\r\n\r\n", "", "fail(0,0)" },
        { "", "8101 'a'", "fail(0,0)" }
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_answer(&wide_limits, "", rows[i].answer, rows[i].frames, rows[i].want);
}

/* RESP-04, RESP-09; the agreement's views hold for every cut. */
static void the_agreed_protocol_comes_with_the_upgrade(void **state)
{
    static const char answer[] = ANSWER_HEAD "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n";
    (void)state;
    check_answer(&wide_limits, "superchat, chat", answer, "8101 'a'", "open(chat) text(a)");
    check_answer(&wide_limits, "superchat", answer, "8101 'a'", "fail(0,101)");
    check_answer(&wide_limits, "", answer, "8101 'a'", "fail(0,101)");
    check_answer(&wide_limits, "chat", ANSWER, "8101 'a'", "fail(0,101)");
}

/* RESP-11 */
static void heads_pass_at_the_limit_and_fail_above_it(void **state)
{
    (void)state;
    for (uint32_t off = 0; off < 3; off++) {
        struct wsr_session_limits limits = wide_limits;
        limits.head_max_bytes = (uint32_t)sizeof ANSWER - 1 - 1 + off;
        check_answer(&limits, "", ANSWER, "8101 'a'", off == 0 ? "fail(0,0)" : "open() text(a)");
        check_answer(&limits, "", "HTTP/1.1 100 Continue\r\n\r\n" ANSWER, "8101 'a'",
                     off == 0 ? "fail(0,0)" : "open() text(a)");
    }
}

/* F8 */
static void without_memory_for_the_answer_the_upgrade_fails(void **state)
{
    (void)state;
    for (size_t grows_max = 0; grows_max < 2; grows_max++) {
        struct peer p;
        start(&p, &wide_limits);
        memory.grows_max = grows_max;
        for (size_t i = 0; i < sizeof ANSWER - 1; i++)
            feed(&p, (const uint8_t *)ANSWER + i, 1);
        assert_string_equal(p.log, grows_max == 0 ? "fail(0,0)" : "open()");
        finish(&p);

        /* A head that outgrows its first block. */
        start(&p, &wide_limits);
        memory.grows_max = 1 + grows_max;
        feed(&p, (const uint8_t *)ANSWER, sizeof ANSWER - 3);
        feed(&p, (const uint8_t *)"X: ", 3);
        for (size_t i = 0; i < 1500; i++)
            feed(&p, (const uint8_t *)"x", 1);
        feed(&p, (const uint8_t *)"\r\n\r\n", 4);
        assert_string_equal(p.log, grows_max == 0 ? "fail(0,0)" : "open()");
        finish(&p);
    }
}

static void the_upgrade_can_be_dropped_at_any_byte(void **state)
{
    (void)state;
    for (size_t end = 0; end < sizeof ANSWER; end++) {
        struct peer p;
        start(&p, &wide_limits);
        assert_false(wsr_session_close(&p.session));
        for (size_t i = 0; i < end; i++)
            feed(&p, (const uint8_t *)ANSWER + i, 1);
        finish(&p);
    }
}

static void feeding_nothing_gives_nothing(void **state)
{
    struct wsr_session_event event;
    struct peer p;
    (void)state;
    start(&p, &wide_limits);
    assert_int_equal(wsr_session_feed(&p.session, NULL, 0, &event), 0);
    assert_int_equal(event.type, WSR_SESSION_NOTHING);
    finish(&p);
    open_session(&p, &wide_limits);
    assert_int_equal(wsr_session_feed(&p.session, NULL, 0, &event), 0);
    assert_int_equal(event.type, WSR_SESSION_NOTHING);
    finish(&p);
}

/* Every rule has a sentence of its own, the same for every cut. */
static void each_failure_says_which_rule_was_broken(void **state)
{
    static const struct {
        const char *stream;
        const char *text;
    } rows[] = {
        { "c101 'a'", "RSV1" }, { "a101 'a'", "reserved bit" }, { "8101 'a' 8180 00000000", "masked" },
        { "8000", "continues no message" }, { "0100 8100", "inside another" }, { "827f7fffffffffffffff", "larger" },
        { "8101 ff", "not UTF-8" }, { "8101 ce", "inside a UTF-8" }, { "8801 00", "one byte" }, { "8802 03ec", "code" },
        { "8803 03e8 ff", "reason" }, { "0900", "fragmented" }, { "897e", "125" }, { "8300", "opcode" },
        { "827e0000", "shortest" }, { "827f8000000000000000", "top bit" }
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[16];
        size_t len = expand(bytes, rows[i].stream);
        for (size_t cut = 0; cut < len; cut++) {
            struct peer p;
            open_session(&p, &wide_limits);
            feed(&p, bytes, cut);
            feed(&p, bytes + cut, len - cut);
            assert_non_null(p.text);
            assert_non_null(strstr(p.text, rows[i].text));
            finish(&p);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_messages_of_every_length_form),
        cmocka_unit_test(reserved_bits_and_opcodes_fail_after_what_came_before),
        cmocka_unit_test(masked_and_oddly_long_frames_fail),
        cmocka_unit_test(fragments_make_one_message_or_break_a_rule),
        cmocka_unit_test(text_across_frames_and_cuts_is_judged_where_it_breaks),
        cmocka_unit_test(text_sequences_of_the_suite),
        cmocka_unit_test(text_fails_at_the_first_impossible_byte),
        cmocka_unit_test(pings_and_pongs_are_reported_in_order),
        cmocka_unit_test(close_frames_end_the_reading),
        cmocka_unit_test(every_close_code_that_may_not_be_sent_fails),
        cmocka_unit_test(after_our_close_the_peer_may_still_speak),
        cmocka_unit_test(every_state_answers_close_by_its_rule),
        cmocka_unit_test(message_size_passes_at_the_limit_and_fails_above_it),
        cmocka_unit_test(fragments_pass_at_the_limit_and_fail_above_it),
        cmocka_unit_test(memory_grows_by_what_arrived),
        cmocka_unit_test(a_message_in_one_piece_takes_no_memory),
        cmocka_unit_test(what_was_lent_comes_back_with_the_next_call),
        cmocka_unit_test(without_memory_the_connection_fails_and_nothing_leaks),
        cmocka_unit_test(all_memory_comes_back_from_every_state),
        cmocka_unit_test(answers_at_every_split_point),
        cmocka_unit_test(the_agreed_protocol_comes_with_the_upgrade),
        cmocka_unit_test(heads_pass_at_the_limit_and_fail_above_it),
        cmocka_unit_test(without_memory_for_the_answer_the_upgrade_fails),
        cmocka_unit_test(the_upgrade_can_be_dropped_at_any_byte),
        cmocka_unit_test(feeding_nothing_gives_nothing),
        cmocka_unit_test(each_failure_says_which_rule_was_broken)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
