/* A hostile server's whole stream, fed whole, byte by byte, and in random pieces, while we close at some moment. What
 * must hold: the events are the same for every cut; UPGRADED comes once and first, a CLOSE or FAILURE once and last
 * (EVT-01, EVT-02); they are those of a second reading of the same bytes that was written for this purpose alone; one
 * Close of ours at most; memory grows by what has come and is all given back.
 *
 * Input: mode, when we close, growths until memory runs out, seed of the cuts, then the stream. In structured mode the
 * stream is a program that frames are built from, else the bytes themselves.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/session.h"
#include "simd/simd.h"

#define STREAM_MAX 8192
#define EVENTS_MAX 8192
#define EACH_BYTE_MAX 1500       /* what follows comes in random pieces, to try more streams instead */
#define PARAMETERS 4
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum mode {
    MODE_STRUCTURED = 1,     /* else raw */
    MODE_ANSWER = 2,         /* a good answer goes before the stream */
    MODE_INTERIM = 4,        /* and interim ones before that */
    MODE_PROTOCOL = 8,       /* a subprotocol was offered, and the answer agrees */
    MODE_CLOSE_AT = 16,      /* we close at a byte of the stream, else after an event */
    MODE_WIDE = 32,          /* the largest limits instead of small ones */
    MODE_PIECES = 64         /* binary messages stay in pieces */
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
    size_t closes_written;   /* by wsr_session_close(): that many Close frames of ours would leave */
    size_t wanted_max;       /* largest block that the stream may justify */
    size_t blocks_live;
    size_t grows_left;
    bool stays_in_pieces;
    bool has_ended;
    size_t upgrades_count;
    size_t records_count;
    struct record records[EVENTS_MAX];
};

static const struct wsr_session_limits narrow_limits = {
    .message_max_bytes = 300, .fragments_max = 6, .head_max_bytes = 400, .interim_max = 2
};
static const struct wsr_session_limits wide_limits = {
    .message_max_bytes = UINT64_MAX, .fragments_max = UINT32_MAX, .head_max_bytes = UINT32_MAX, .interim_max = 100
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
    must(wanted > used && wanted <= run->wanted_max);
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

static bool stays_in_pieces(void *context)
{
    return ((const struct run *)context)->stays_in_pieces;
}

/* A list of pieces: their length in all, then their bytes. */
static uint8_t *gather(void *context, uint8_t *list, struct wsr_bytes piece, uint64_t left)
{
    struct run *run = context;
    size_t used = 0;
    must(run->stays_in_pieces && piece.len > 0);
    if (list != NULL)
        memcpy(&used, list, sizeof used);
    must(used + piece.len <= run->wanted_max && left <= run->session.shared->limits.message_max_bytes);
    if (run->grows_left == 0)
        return NULL;
    run->grows_left--;
    uint8_t *larger = malloc(sizeof used + used + piece.len);
    must(larger != NULL);
    if (used > 0)
        memcpy(larger + sizeof used, list + sizeof used, used);
    memcpy(larger + sizeof used + used, piece.data, piece.len);
    run->blocks_live += list == NULL;
    free(list);
    used += piece.len;
    memcpy(larger, &used, sizeof used);
    return larger;
}

static const struct wsr_session_memory memory = {
    .grow = grow, .release = give_back, .stays_in_pieces = stays_in_pieces, .gather = gather
};

/* The bytes of an event, also of a message in pieces. */
static struct wsr_bytes bytes_of(const struct wsr_session_event *event)
{
    size_t len;
    if (event->data.data != NULL || event->data.len == 0)
        return event->data;
    must(event->type == WSR_SESSION_MESSAGE && event->kind == WSR_BINARY && event->block != NULL);
    memcpy(&len, event->block, sizeof len);
    must(len == event->data.len);
    return wsr_bytes_of(event->block + sizeof len, len);
}

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
    record.sum = sum_of(0xCBF29CE484222325u, bytes_of(event));
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
        bool is_list = run->stays_in_pieces && event->kind == WSR_BINARY;
        must(event->data.data == (is_list ? NULL : event->block) && event->data.len > 0);
        give_back(run, event->block);
    }
    if (run->session.state != WSR_SESSION_UPGRADING) {
        must(run->upgrade == NULL || run->upgrade->head == NULL);
        free(run->upgrade);
        run->upgrade = NULL;
    }
    if (run->records_count == run->close_after)
        run->closes_written += wsr_session_close(&run->session);
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

static size_t next_piece(enum cut cut, uint32_t *seed, size_t at, size_t left)
{
    if (cut == CUT_NONE)
        return left;
    if (cut == CUT_EACH_BYTE && at < EACH_BYTE_MAX)
        return 1;
    *seed = *seed * 1664525u + 1013904223u;
    size_t piece = 1 + (*seed >> 16) % ((*seed >> 8 & 1) != 0 ? 4 : 200);
    return piece < left ? piece : left;
}

/* EVT-01, EVT-02, and what is owed at the end. */
static void check_order(struct run *run)
{
    for (size_t i = 0; i < run->records_count; i++) {
        const struct record *record = &run->records[i];
        bool is_last = i + 1 == run->records_count;
        bool is_refusal = record->type == WSR_SESSION_FAILURE && i == 0;
        must((i == 0) == (record->type == WSR_SESSION_UPGRADED || is_refusal));
        if (record->type == WSR_SESSION_CLOSE || record->type == WSR_SESSION_FAILURE)
            must(is_last);
        if (record->type == WSR_SESSION_CLOSE)
            must(record->code == WSR_CLOSE_NO_STATUS || wsr_frame_close_code_is_valid(record->code));
        if (record->type == WSR_SESSION_FAILURE)
            must(is_refusal ? record->code == 0
                            : record->code == WSR_CLOSE_PROTOCOL || record->code == WSR_CLOSE_NOT_UTF8 ||
                                  record->code == WSR_CLOSE_POLICY || record->code == WSR_CLOSE_TOO_BIG ||
                                  record->code == WSR_CLOSE_INTERNAL);
    }
    bool was_open = run->upgrades_count > 0;
    run->closes_written += wsr_session_close(&run->session);
    must(run->closes_written == was_open);          /* now it is sent, if it was not before; and only one ever */
    must(!wsr_session_close(&run->session));
}

static const struct wsr_session_limits *limits_of(const uint8_t *parameters)
{
    return parameters[0] & MODE_WIDE ? &wide_limits : &narrow_limits;
}

static void start(struct run *run, const uint8_t *parameters, size_t len, size_t grows_max)
{
    memset(run, 0, offsetof(struct run, records));
    run->close_after = parameters[0] & MODE_CLOSE_AT ? SIZE_MAX : parameters[1];
    run->grows_left = grows_max;
    run->stays_in_pieces = (parameters[0] & MODE_PIECES) != 0;
    run->wanted_max = parameters[0] & MODE_WIDE ? 2 * len + 1024 : 400;
    run->upgrade = calloc(1, sizeof *run->upgrade);
    must(run->upgrade != NULL);
    memcpy(run->upgrade->offer.accept, ACCEPT, sizeof ACCEPT);
    if (parameters[0] & MODE_PROTOCOL)
        run->upgrade->offer.protocols = wsr_bytes_of_string("chat");
    run->shared = (struct wsr_session_shared){ .limits = *limits_of(parameters), .memory = &memory,
                                               .memory_context = run, .simd = wsr_simd() };
    wsr_session_init(&run->session, &run->shared, run->upgrade);
}

static void run_stream(struct run *run, const uint8_t *parameters, const uint8_t *stream, size_t len, enum cut cut,
                       size_t grows_max)
{
    uint32_t seed = parameters[3];
    size_t close_at = parameters[0] & MODE_CLOSE_AT ? len * parameters[1] / 256 : SIZE_MAX;
    start(run, parameters, len, grows_max);
    for (size_t at = 0; at < len;) {
        if (at == close_at)
            run->closes_written += wsr_session_close(&run->session);
        size_t piece = next_piece(cut, &seed, at, len - at);
        if (at < close_at && piece > close_at - at)
            piece = close_at - at;
        feed(run, stream + at, piece, at);
        at += piece;
    }
    check_order(run);
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

/* Flags of an odd frame. */
enum odd {
    ODD_RSV = 7,             /* the three bits as they are */
    ODD_MASKED = 8,
    ODD_LENGTH = 48,         /* 16: 16 bits, 32: 64 bits, 48: 64 bits of a length beyond all measure */
    ODD_OPCODE = 64          /* a reserved one */
};

static void put_odd_head(struct stream *out, uint8_t first, size_t payload_bytes, uint8_t odd)
{
    static const uint64_t huge[] = { INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX, (uint64_t)1 << 40 };
    uint8_t head[WSR_FRAME_HEAD_MAX] = { (uint8_t)(first | (odd & ODD_RSV) << 4) };
    uint64_t length = (odd & ODD_LENGTH) == 48 ? huge[payload_bytes % 4] : payload_bytes;
    size_t bytes = 2;
    if (odd & ODD_OPCODE)
        head[0] ^= 4;
    if ((odd & ODD_LENGTH) == 0) {
        bytes = wsr_frame_write(head, head[0], payload_bytes, NULL);
    } else {
        size_t width = (odd & ODD_LENGTH) == 16 ? 2 : 8;
        head[1] = width == 2 ? WSR_FRAME_LENGTH_16 : WSR_FRAME_LENGTH_64;
        for (size_t i = 0; i < width; i++)
            head[2 + i] = (uint8_t)(length >> (8 * (width - 1 - i)));
        bytes += width;
    }
    if (odd & ODD_MASKED) {
        head[1] |= WSR_FRAME_MASKED;
        bytes += 4;
    }
    put(out, head, bytes);
}

/* One instruction: opcode and FIN, length, flags when it is odd, payload from the program (or 'a' behind its end).
 * Returns what it used. */
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
    bool is_odd = (program[0] & 32) != 0 && len > 2;
    bool fin = (program[0] & 8) != 0 || (wsr_frame_is_control(opcode) && !is_odd);
    uint8_t first = (uint8_t)(fin << 7 | opcode);
    size_t payload_bytes = program[1] < 250 ? program[1] % 64u : program[1] + 46u;   /* 296 to 301: round the limit */
    size_t used = is_odd ? 3 : 2;
    if (is_odd)
        put_odd_head(out, first, payload_bytes, program[2]);
    else
        put(out, head, wsr_frame_write(head, first, payload_bytes, NULL));
    bool is_filled = (program[0] & 16) != 0;
    for (size_t i = 0; i < payload_bytes; i++)
        put(out, !is_filled && used + i < len ? program + used + i : (const uint8_t *)"a", 1);
    used += is_filled ? 0 : payload_bytes;
    return used < len ? used : len;
}

/* ---- The same bytes read a second time ------------------------------------------------------------ */

/* Reads whole frames out of the whole stream, without any of the engine's code but the judgement of Close codes. */
struct reader {
    const uint8_t *bytes;
    size_t len, at;
    const struct record *next, *end;     /* what the session said */
    const struct wsr_session_limits *limits;
    uint8_t kind;                        /* of the message under way, 0 = none */
    uint64_t fragments_count;
    size_t message_bytes;
    uint8_t message[STREAM_MAX];
};

/* Can a valid text begin with @text? *left: bytes that an unfinished character at its end still lacks. */
static bool is_text_so_far(const uint8_t *text, size_t len, unsigned *left)
{
    uint32_t code = 0, least = 0;
    *left = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = text[i];
        if (*left == 0) {
            *left = byte < 0x80 ? 0 : byte >= 0xC2 && byte < 0xE0 ? 1 : byte >= 0xE0 && byte < 0xF0 ? 2 :
                    byte >= 0xF0 && byte < 0xF5 ? 3 : 4;
            if (*left == 4)
                return false;
            least = *left == 3 ? 0x10000 : *left == 2 ? 0x800 : 0;
            code = *left == 0 ? byte : byte & (0x3Fu >> *left);
            continue;
        }
        if ((byte & 0xC0) != 0x80)
            return false;
        code = code << 6 | (byte & 0x3F);
        --*left;
        /* Whatever follows, the code point lies in this range. */
        uint32_t low = code << (6 * *left), high = low | ((1u << (6 * *left)) - 1);
        if (high < least || low > 0x10FFFF || (low >= 0xD800 && high <= 0xDFFF))
            return false;
    }
    return true;
}

static void expect(struct reader *r, enum wsr_session_event_type type, uint8_t kind, unsigned code,
                   struct wsr_bytes data)
{
    must(r->next < r->end);
    must(r->next->type == type && r->next->code == code && r->next->kind == kind);
    if (type != WSR_SESSION_FAILURE)
        must(r->next->data_len == data.len && r->next->sum == sum_of(0xCBF29CE484222325u, data));
    r->next++;
}

static bool expect_failure(struct reader *r, unsigned code)
{
    expect(r, WSR_SESSION_FAILURE, 0, code, wsr_bytes_of(NULL, 0));
    return false;
}

static bool read_control(struct reader *r, uint8_t opcode, const uint8_t *payload, size_t len)
{
    unsigned left;
    if (opcode != WSR_OPCODE_CLOSE) {
        expect(r, opcode == WSR_OPCODE_PING ? WSR_SESSION_PING : WSR_SESSION_PONG, 0, 0, wsr_bytes_of(payload, len));
        return true;
    }
    unsigned code = len >= 2 ? (unsigned)payload[0] << 8 | payload[1] : WSR_CLOSE_NO_STATUS;
    if (len == 1 || (len >= 2 && !wsr_frame_close_code_is_valid((uint16_t)code)))
        return expect_failure(r, WSR_CLOSE_PROTOCOL);
    if (len > 2 && (!is_text_so_far(payload + 2, len - 2, &left) || left > 0))
        return expect_failure(r, WSR_CLOSE_NOT_UTF8);
    expect(r, WSR_SESSION_CLOSE, 0, code, len > 2 ? wsr_bytes_of(payload + 2, len - 2) : wsr_bytes_of(NULL, 0));
    return false;
}

static bool read_data(struct reader *r, uint8_t opcode, bool fin, uint64_t len)
{
    if ((opcode == WSR_OPCODE_CONTINUATION) != (r->kind != 0))
        return expect_failure(r, WSR_CLOSE_PROTOCOL);
    if (opcode != WSR_OPCODE_CONTINUATION) {
        r->kind = opcode;
        r->fragments_count = 0;
        r->message_bytes = 0;
    }
    if (++r->fragments_count > r->limits->fragments_max)
        return expect_failure(r, WSR_CLOSE_POLICY);
    if (len > r->limits->message_max_bytes - r->message_bytes)
        return expect_failure(r, WSR_CLOSE_TOO_BIG);
    size_t here = len < r->len - r->at ? (size_t)len : r->len - r->at;
    unsigned left;
    memcpy(r->message + r->message_bytes, r->bytes + r->at, here);
    r->message_bytes += here;
    r->at += here;
    bool is_whole = here == len && fin;
    bool is_text = r->kind == WSR_TEXT;
    if (is_text && (!is_text_so_far(r->message, r->message_bytes, &left) || (is_whole && left > 0)))
        return expect_failure(r, WSR_CLOSE_NOT_UTF8);
    if (is_whole) {
        expect(r, WSR_SESSION_MESSAGE, r->kind, 0, wsr_bytes_of(r->message, r->message_bytes));
        r->kind = 0;
    }
    return here == len;
}

/* Returns whether another frame may follow. */
static bool read_frame(struct reader *r)
{
    const uint8_t *head = r->bytes + r->at;
    size_t left = r->len - r->at;
    if (left == 0)
        return false;
    uint8_t opcode = head[0] & 15;
    bool fin = head[0] & 0x80, is_control = opcode >= 8;
    if ((head[0] & 0x30) != 0 || (opcode & 7) > 2 || (is_control && !fin))
        return expect_failure(r, WSR_CLOSE_PROTOCOL);
    if (left < 2)
        return false;
    uint64_t len = head[1] & 127;
    if (is_control && len > WSR_FRAME_CONTROL_MAX)
        return expect_failure(r, WSR_CLOSE_PROTOCOL);
    size_t width = len == WSR_FRAME_LENGTH_16 ? 2 : len == WSR_FRAME_LENGTH_64 ? 8 : 0;
    if (left < 2 + width)
        return false;
    for (size_t i = 0; i < width; i++)
        len = i == 0 ? head[2] : len << 8 | head[2 + i];
    if ((width == 2 && len < 126) || (width == 8 && (len < 65536 || len > INT64_MAX)))
        return expect_failure(r, WSR_CLOSE_PROTOCOL);
    bool is_masked = head[1] & 0x80;
    if (left < 2 + width + (is_masked ? 4 : 0))
        return false;
    if (is_masked || (head[0] & 0x40) != 0)
        return expect_failure(r, WSR_CLOSE_PROTOCOL);
    r->at += 2 + width;
    if (!is_control)
        return read_data(r, opcode, fin, len);
    if (r->len - r->at < len)
        return false;
    r->at += len;
    return read_control(r, opcode, r->bytes + r->at - len, len);
}

/* Whatever opened the session, its frames are to be read so. */
static void check_frames(const struct run *run, const uint8_t *parameters, const uint8_t *stream, size_t len)
{
    static struct reader reader;
    if (run->upgrades_count == 0)
        return;
    reader.bytes = stream;
    reader.len = len;
    reader.at = run->records[0].at;
    reader.next = run->records + 1;
    reader.end = run->records + run->records_count;
    reader.limits = limits_of(parameters);
    reader.kind = 0;
    while (read_frame(&reader))
        continue;
    must(reader.next == reader.end);
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
    check_frames(&whole, data, stream.bytes, stream.used);
    run_stream(&cut, data, stream.bytes, stream.used, CUT_EACH_BYTE, SIZE_MAX);
    must_be_same(&whole, &cut);
    run_stream(&cut, data, stream.bytes, stream.used, CUT_RANDOM, SIZE_MAX);
    must_be_same(&whole, &cut);
    run_stream(&cut, data, stream.bytes, stream.used, CUT_RANDOM, data[2]);   /* memory runs out: no oracle but order */
    return 0;
}
