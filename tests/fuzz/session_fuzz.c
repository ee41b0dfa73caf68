/* A hostile server's whole stream, fed whole, byte by byte, and in random pieces: the events must be the same, one
 * UPGRADED, CLOSE or FAILURE at most, nothing behind an end, and all memory back.
 *
 * Input: mode, event after which we close, growths until memory runs out, seed of the cuts, then the stream. In
 * structured mode the stream is a program that frames are built from, else the bytes themselves.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/session.h"
#include "simd/simd.h"

#define STREAM_MAX 8192
#define EVENTS_MAX 8192
#define PARAMETERS 4
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum mode {
    MODE_STRUCTURED = 1,     /* else raw */
    MODE_ANSWER = 2,         /* a good answer goes before the stream */
    MODE_INTERIM = 4,        /* and interim ones before that */
    MODE_PROTOCOL = 8        /* a subprotocol was offered, and the answer agrees */
};

enum cut { CUT_NONE, CUT_EACH_BYTE, CUT_RANDOM };

/* What is compared of an event. The place in the stream is the same for every cut, except that of a failure. */
struct record {
    enum wsr_session_event_type type;
    uint8_t kind;
    uint16_t code;
    uint16_t http_status;
    const char *text;
    size_t data_len;
    size_t head_len;
    uint64_t sum;
    size_t at;
};

struct run {
    struct wsr_session session;
    struct wsr_session_shared shared;
    struct wsr_session_upgrade *upgrade;
    size_t close_after;
    size_t blocks_live;
    size_t grows_left;
    bool has_ended;
    size_t upgrades_count;
    size_t records_count;
    struct record records[EVENTS_MAX];
};

static const struct wsr_session_limits limits = {
    .message_max_bytes = 300, .fragments_max = 6, .head_max_bytes = 400, .interim_max = 2
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* Moves on every growth, so that a pointer kept too long is seen. */
static uint8_t *grow(void *context, uint8_t *old, size_t used, size_t wanted, size_t *capacity)
{
    struct run *run = context;
    must(wanted > used && wanted <= 400);
    if (run->grows_left == 0)
        return NULL;
    run->grows_left--;
    uint8_t *block = malloc(wanted);
    must(block != NULL);
    if (old != NULL)
        memcpy(block, old, used);
    run->blocks_live += old == NULL;
    free(old);
    *capacity = wanted;
    return block;
}

static void give_back(void *context, uint8_t *block)
{
    struct run *run = context;
    must(block != NULL && run->blocks_live > 0);
    run->blocks_live--;
    free(block);
}

static const struct wsr_session_memory memory = { .grow = grow, .release = give_back };

static uint64_t sum_of(uint64_t sum, struct wsr_bytes bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        sum = (sum ^ bytes.data[i]) * 0x100000001B3u;
    return sum;
}

static struct record record_of(const struct wsr_session_event *event, size_t at)
{
    struct record record = { .type = event->type, .at = at };
    record.data_len = event->data.len;
    record.sum = sum_of(0xCBF29CE484222325u, event->data);
    switch (event->type) {
    case WSR_SESSION_MESSAGE:
        record.kind = event->kind;
        break;
    case WSR_SESSION_CLOSE:
        record.code = event->code;
        break;
    case WSR_SESSION_FAILURE:
        record.code = event->code;
        record.text = event->text;
        record.at = 0;
        must(event->text != NULL);
        record.http_status = event->http_status;
        record.head_len = event->head.len;
        record.sum = sum_of(record.sum, event->head);
        break;
    case WSR_SESSION_UPGRADED:
        record.http_status = event->http_status;
        record.head_len = event->head.len;
        record.sum = sum_of(sum_of(record.sum, event->head), event->agreement.protocol);
        break;
    case WSR_SESSION_PING:
    case WSR_SESSION_PONG:
        must(event->data.len <= WSR_FRAME_CONTROL_MAX);
        break;
    case WSR_SESSION_NOTHING:
        abort();
    }
    return record;
}

static void take_event(struct run *run, const struct wsr_session_event *event, size_t at)
{
    bool ends = event->type == WSR_SESSION_CLOSE || event->type == WSR_SESSION_FAILURE;
    must(!run->has_ended && run->records_count < EVENTS_MAX);
    must((event->type == WSR_SESSION_UPGRADED) == (run->upgrades_count == 0) ||
         (event->type == WSR_SESSION_FAILURE && run->session.state == WSR_SESSION_REFUSED));
    run->upgrades_count += event->type == WSR_SESSION_UPGRADED;
    run->has_ended = ends;
    run->records[run->records_count++] = record_of(event, at);
    if (event->type == WSR_SESSION_MESSAGE && event->block != NULL) {
        must(event->data.data == event->block && event->data.len > 0);
        give_back(run, event->block);
    }
    if (run->session.state != WSR_SESSION_UPGRADING) {
        must(run->session.upgrade == NULL);
        free(run->upgrade);
        run->upgrade = NULL;
    }
    if (run->records_count == run->close_after)
        (void)wsr_session_close(&run->session);
}

static void feed(struct run *run, const uint8_t *bytes, size_t len, size_t offset)
{
    uint8_t *own = malloc(len);
    must(own != NULL);
    memcpy(own, bytes, len);
    for (size_t at = 0; at < len;) {
        struct wsr_session_event event = { 0 };
        size_t taken = wsr_session_feed(&run->session, own + at, len - at, &event);
        must(taken > 0 && taken <= len - at);
        at += taken;
        must(event.type != WSR_SESSION_NOTHING || at == len);
        if (event.type != WSR_SESSION_NOTHING)
            take_event(run, &event, offset + at);
    }
    free(own);
}

static size_t next_piece(enum cut cut, uint32_t *seed, size_t left)
{
    if (cut == CUT_NONE)
        return left;
    if (cut == CUT_EACH_BYTE)
        return 1;
    *seed = *seed * 1664525u + 1013904223u;
    size_t piece = 1 + (*seed >> 16) % ((*seed >> 8 & 1) != 0 ? 4 : 200);
    return piece < left ? piece : left;
}

static void run_stream(struct run *run, const uint8_t *parameters, const uint8_t *stream, size_t len, enum cut cut,
                       size_t grows_max)
{
    uint32_t seed = parameters[3];
    memset(run, 0, offsetof(struct run, records));
    run->close_after = parameters[1];
    run->grows_left = grows_max;
    run->upgrade = calloc(1, sizeof *run->upgrade);
    must(run->upgrade != NULL);
    memcpy(run->upgrade->offer.accept, ACCEPT, sizeof ACCEPT);
    if (parameters[0] & MODE_PROTOCOL)
        run->upgrade->offer.protocols = wsr_bytes_of_string("chat");
    run->shared = (struct wsr_session_shared){ limits, &memory, run, wsr_simd() };
    wsr_session_init(&run->session, &run->shared, run->upgrade);
    for (size_t at = 0; at < len;) {
        size_t piece = next_piece(cut, &seed, len - at);
        feed(run, stream + at, piece, at);
        at += piece;
    }
    wsr_session_free(&run->session);
    free(run->upgrade);
    must(run->blocks_live == 0);
}

/* ---- Streams ------------------------------------------------------------------------------------- */

struct stream {
    size_t used;
    uint8_t bytes[STREAM_MAX];
};

static void put(struct stream *out, const void *bytes, size_t len)
{
    size_t room = STREAM_MAX - out->used;
    len = len < room ? len : room;
    memcpy(out->bytes + out->used, bytes, len);
    out->used += len;
}

static void put_answer(struct stream *out, unsigned mode)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    static const char head[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: " ACCEPT "\r\n";
    static const char protocol[] = "Sec-WebSocket-Protocol: chat\r\n";
    if (mode & MODE_INTERIM)
        put(out, interim, sizeof interim - 1);
    put(out, head, sizeof head - 1);
    if (mode & MODE_PROTOCOL)
        put(out, protocol, sizeof protocol - 1);
    put(out, "\r\n", 2);
}

/* One instruction: opcode and FIN, length, payload from the program (or 'a' behind its end). Returns what it used. */
static size_t put_frame(struct stream *out, const uint8_t *program, size_t len)
{
    static const uint8_t opcodes[] = {
        WSR_OPCODE_TEXT, WSR_OPCODE_BINARY, WSR_OPCODE_CONTINUATION, WSR_OPCODE_CONTINUATION,
        WSR_OPCODE_PING, WSR_OPCODE_PONG, WSR_OPCODE_CLOSE
    };
    if (len < 2 || (program[0] & 7) == 7) {            /* a byte as it is, to break any rule */
        put(out, program + (len >= 2), 1);
        return len < 2 ? len : 2;
    }
    uint8_t head[WSR_FRAME_HEAD_MAX];
    uint8_t opcode = opcodes[program[0] & 7];
    bool fin = (program[0] & 8) != 0 || wsr_frame_is_control(opcode);
    size_t payload_bytes = program[1] < 250 ? program[1] % 64u : program[1] + 46u;   /* 296 to 301: round the limit */
    put(out, head, wsr_frame_write(head, (uint8_t)(fin << 7 | opcode), payload_bytes, NULL));
    bool is_filled = (program[0] & 16) != 0;
    for (size_t i = 0; i < payload_bytes; i++)
        put(out, !is_filled && 2 + i < len ? program + 2 + i : (const uint8_t *)"a", 1);
    size_t used = is_filled ? 2 : 2 + payload_bytes;
    return used < len ? used : len;
}

static void must_be_same(const struct run *a, const struct run *b)
{
    must(a->records_count == b->records_count);
    for (size_t i = 0; i < a->records_count; i++) {
        const struct record *x = &a->records[i];
        const struct record *y = &b->records[i];
        must(x->type == y->type && x->kind == y->kind && x->code == y->code && x->http_status == y->http_status);
        must(x->text == y->text && x->data_len == y->data_len && x->head_len == y->head_len);
        must(x->sum == y->sum && x->at == y->at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct stream stream;
    static struct run whole;
    static struct run cut;
    if (size < PARAMETERS)
        return 0;
    stream.used = 0;
    if (data[0] & MODE_ANSWER)
        put_answer(&stream, data[0]);
    if (data[0] & MODE_STRUCTURED) {
        for (size_t at = PARAMETERS; at < size;)
            at += put_frame(&stream, data + at, size - at);
    } else {
        put(&stream, data + PARAMETERS, size - PARAMETERS);
    }
    run_stream(&whole, data, stream.bytes, stream.used, CUT_NONE, SIZE_MAX);
    run_stream(&cut, data, stream.bytes, stream.used, CUT_EACH_BYTE, SIZE_MAX);
    must_be_same(&whole, &cut);
    run_stream(&cut, data, stream.bytes, stream.used, CUT_RANDOM, SIZE_MAX);
    must_be_same(&whole, &cut);
    run_stream(&cut, data, stream.bytes, stream.used, CUT_RANDOM, data[2]);   /* memory runs out: no oracle but order */
    return 0;
}
