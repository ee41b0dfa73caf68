/* A hostile server's frames where permessage-deflate was agreed on, fed whole, byte by byte and in random pieces, with
 * every kind of session memory, while we close at some moment. What must hold: the events are the same for all of them,
 * a CLOSE or FAILURE comes once and last, no message or block is larger than the limit, messages that were compressed
 * as they should be are what came out, and all memory is given back.
 *
 * Input: mode, when we close, growths until memory runs out, seed of the cuts, then a program that frames are built
 * from.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "engine/session.h"
#include "simd/simd.h"

#define STREAM_MAX 16384
#define EVENTS_MAX 4096
#define EACH_BYTE_MAX 1000       /* what follows comes in random pieces, to try more streams instead */
#define PARAMETERS 4
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum mode {
    MODE_NO_TAKEOVER = 1,    /* server_no_context_takeover */
    MODE_SMALL_WINDOW = 2,   /* server_max_window_bits=9 */
    MODE_WIDE = 4,           /* larger limits */
    MODE_RESTS = 8           /* the streams are given back between messages, as far as they can be */
};

enum cut { CUT_NONE, CUT_EACH_BYTE, CUT_RANDOM };

/* What is compared of an event. The place in the stream is the same for every cut, except that of a failure. */
struct record {
    enum wsr_session_event_type type;
    uint8_t kind;
    uint16_t code;
    const char *text;
    size_t data_len;
    uint64_t sum;
    size_t at;
};

struct run {
    struct wsr_session session;
    struct wsr_session_shared shared;
    struct wsr_session_upgrade upgrade;
    struct wsr_deflate deflate;
    struct wsr_deflate_shared deflate_shared;
    unsigned mode;
    size_t close_after;
    size_t loan_bytes;       /* room of what is lent, 0 = nothing is */
    uint8_t *borrowed;
    size_t kept;             /* SIZE_MAX = nothing */
    size_t grows_left;
    size_t blocks_live;
    bool has_ended;
    size_t records_count;
    struct record records[EVENTS_MAX];
};

static const struct wsr_session_limits narrow_limits = {
    .message_max_bytes = 300, .fragments_max = 6, .head_max_bytes = 4096, .interim_max = 2
};
static const struct wsr_session_limits wide_limits = {
    .message_max_bytes = 1u << 18, .fragments_max = UINT32_MAX, .head_max_bytes = 4096, .interim_max = 2
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static uint64_t sum_of(struct wsr_bytes bytes)
{
    uint64_t sum = 0xCBF29CE484222325u;
    for (size_t i = 0; i < bytes.len; i++)
        sum = (sum ^ bytes.data[i]) * 0x100000001B3u;
    return sum;
}

/* ---- Session memory -------------------------------------------------------------------------------- */

/* Moves on every growth, so that a pointer kept too long is seen. */
static uint8_t *grow(void *context, uint8_t *old, size_t used, size_t wanted, size_t *capacity)
{
    struct run *run = context;
    must(wanted > used && wanted <= run->shared.limits.message_max_bytes + 1);
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

static void end_loan(struct run *run)
{
    free(run->borrowed);
    run->borrowed = NULL;
    run->kept = SIZE_MAX;
}

static uint8_t *borrow(void *context, size_t bytes, size_t *room)
{
    struct run *run = context;
    must(bytes > 0);
    end_loan(run);
    if (run->loan_bytes == 0)
        return NULL;
    run->borrowed = malloc(run->loan_bytes);
    must(run->borrowed != NULL);
    *room = run->loan_bytes;
    return run->borrowed;
}

static void keep(void *context, size_t used)
{
    struct run *run = context;
    must(run->borrowed != NULL && run->kept == SIZE_MAX && used <= run->loan_bytes);
    run->kept = used;
}

static const struct wsr_session_memory memory = { .grow = grow, .release = give_back, .borrow = borrow, .keep = keep };

/* ---- One run over a stream -------------------------------------------------------------------------- */

static void take_event(struct run *run, const struct wsr_session_event *event, size_t at)
{
    bool is_failure = event->type == WSR_SESSION_FAILURE;
    must(!run->has_ended && run->records_count < EVENTS_MAX);
    run->has_ended = event->type == WSR_SESSION_CLOSE || is_failure;
    struct record *record = &run->records[run->records_count++];
    *record = (struct record){ .type = event->type, .at = is_failure ? 0 : at };
    if (is_failure) {
        record->code = event->code;
        record->text = event->text;
        must(event->code == WSR_CLOSE_PROTOCOL || event->code == WSR_CLOSE_NOT_UTF8 ||
             event->code == WSR_CLOSE_POLICY || event->code == WSR_CLOSE_TOO_BIG || event->code == WSR_CLOSE_INTERNAL);
    } else {
        record->data_len = event->data.len;
        record->sum = sum_of(event->data);
    }
    if (event->type == WSR_SESSION_CLOSE)
        record->code = event->code;
    if (event->type == WSR_SESSION_MESSAGE) {
        record->kind = event->kind;
        must(event->data.len <= run->shared.limits.message_max_bytes);
        if (event->block != NULL) {
            must(event->data.data == event->block && event->data.len > 0 && run->kept == SIZE_MAX);
            give_back(run, event->block);
        } else if (run->kept != SIZE_MAX) {
            must(event->data.data == run->borrowed && event->data.len == run->kept);
        }
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
        if (event.type == WSR_SESSION_UPGRADED) {
            must(event.agreement.has_deflate);
            wsr_deflate_init(&run->deflate, &run->deflate_shared, &event.agreement.deflate, WSR_DEFLATE_CLIENT);
            run->shared.deflate = &run->deflate;
        } else if (event.type != WSR_SESSION_NOTHING) {
            take_event(run, &event, offset + at);
        }
        end_loan(run);
        if (event.type == WSR_SESSION_MESSAGE)
            wsr_deflate_touch(&run->deflate, offset + at);
        if (run->mode & MODE_RESTS)
            wsr_deflate_rest(&run->deflate_shared, WSR_NEVER);
    }
    free(own);
}

static void start(struct run *run, const uint8_t *parameters, size_t loan_bytes, size_t grows_max)
{
    char answer[512];
    struct wsr_fault fault;
    memset(run, 0, offsetof(struct run, records));
    run->mode = parameters[0];
    run->close_after = parameters[1];
    run->loan_bytes = loan_bytes;
    run->grows_left = grows_max;
    run->kept = SIZE_MAX;
    run->deflate_shared.level = WSR_DEFLATE_LEVEL_DEFAULT;
    memcpy(run->upgrade.offer.accept, ACCEPT, sizeof ACCEPT);
    must(wsr_deflate_offer_parse(&run->upgrade.offer.deflate, wsr_bytes_of_string(WSR_DEFLATE_OFFER_DEFAULT),
                                 &fault) == 0);
    run->shared = (struct wsr_session_shared){
        .limits = run->mode & MODE_WIDE ? wide_limits : narrow_limits, .memory = &memory, .memory_context = run,
        .simd = wsr_simd()
    };
    wsr_session_init(&run->session, &run->shared, &run->upgrade);
    int len = snprintf(answer, sizeof answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n"
                       "Sec-WebSocket-Extensions: permessage-deflate%s%s\r\n\r\n",
                       run->mode & MODE_NO_TAKEOVER ? "; server_no_context_takeover" : "",
                       run->mode & MODE_SMALL_WINDOW ? "; server_max_window_bits=9" : "");
    feed(run, (const uint8_t *)answer, (size_t)len, 0);
    must(run->session.state == WSR_SESSION_OPEN);
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

static void run_stream(struct run *run, const uint8_t *parameters, const uint8_t *stream, size_t len, enum cut cut,
                       size_t loan_bytes, size_t grows_max)
{
    uint32_t seed = parameters[3];
    start(run, parameters, loan_bytes, grows_max);
    for (size_t at = 0; at < len;) {
        size_t piece = next_piece(cut, &seed, at, len - at);
        bool had_ended = run->has_ended;
        feed(run, stream + at, piece, at);
        at += piece;
        must(!had_ended || run->blocks_live == 0);
    }
    wsr_session_free(&run->session);
    must(run->blocks_live == 0);
    wsr_deflate_free(&run->deflate);
    wsr_deflate_shared_free(&run->deflate_shared);
    must(atomic_load_explicit(&run->deflate_shared.memory_bytes, memory_order_relaxed) == 0);
}

/* ---- Streams ------------------------------------------------------------------------------------- */

struct stream {
    size_t used;
    z_stream z;              /* the server's compressor */
    unsigned mode;
    bool is_clean;           /* nothing odd so far */
    size_t messages_count;   /* those of a clean stream, in records */
    struct record messages[EVENTS_MAX];
    uint8_t bytes[STREAM_MAX];
};

static void put(struct stream *out, const void *bytes, size_t len)
{
    if (len > STREAM_MAX - out->used) {
        len = STREAM_MAX - out->used;
        out->is_clean = false;
    }
    memcpy(out->bytes + out->used, bytes, len);
    out->used += len;
}

static void put_frame(struct stream *out, unsigned first, const uint8_t *payload, size_t len)
{
    uint8_t head[WSR_FRAME_HEAD_MAX];
    put(out, head, wsr_frame_write(head, (uint8_t)first, len, NULL));
    put(out, payload, len);
}

static void note_message(struct stream *out, uint8_t kind, struct wsr_bytes bytes)
{
    if (out->is_clean && out->messages_count < EVENTS_MAX)
        out->messages[out->messages_count++] =
            (struct record){ .type = WSR_SESSION_MESSAGE, .kind = kind, .data_len = bytes.len, .sum = sum_of(bytes) };
}

/* @how: level 1 to 8, and whether the codes are fixed. Returns the bytes without the tail. */
static size_t compress_into(struct stream *out, uint8_t *to, size_t room, struct wsr_bytes plain, unsigned how)
{
    z_stream *z = &out->z;
    z->next_out = to;
    z->avail_out = (uInt)room;
    must(deflateParams(z, (int)(how & 7) + 1, how & 8 ? Z_FIXED : Z_DEFAULT_STRATEGY) == Z_OK);
    z->next_in = (Bytef *)(uintptr_t)plain.data;
    z->avail_in = (uInt)plain.len;
    int rc = deflate(z, Z_SYNC_FLUSH);
    must(rc == Z_OK || (rc == Z_BUF_ERROR && plain.len == 0));
    must(z->avail_out > 0);
    size_t made = room - z->avail_out;
    if (out->mode & MODE_NO_TAKEOVER)
        must(deflateReset(z) == Z_OK);
    return made >= 4 ? made - 4 : 0;
}

/* A compressed message: kind and fragments, how, length, times it is repeated, then its bytes. @spoils: one byte of
 * what it became is changed, or its end is cut off. Returns what it used of the program. */
static size_t put_deflated(struct stream *out, const uint8_t *program, size_t len, bool spoils)
{
    static uint8_t plain[1u << 19], made[1u << 20];
    if (len < 5)
        return len;
    size_t bytes = program[2] % 64u < len - 5 ? program[2] % 64u : len - 5;
    size_t times = program[3] < 128 ? program[3] % 8u : program[3] * 30u, total = 0;
    for (size_t i = 0; i <= times && total + bytes <= sizeof plain; i++, total += bytes)
        memcpy(plain + total, program + 5, bytes);
    uint8_t kind = program[0] & 1 ? WSR_OPCODE_TEXT : WSR_OPCODE_BINARY;
    uint32_t utf8 = 0;
    bool is_text = kind == WSR_OPCODE_BINARY || (wsr_simd()->utf8(&utf8, plain, total) == total && utf8 == 0);
    size_t made_bytes = compress_into(out, made, sizeof made, wsr_bytes_of(plain, total), program[1]);
    if (spoils && made_bytes > 0) {
        made[program[4] % made_bytes] ^= program[1];
        made_bytes -= program[1] & 128 ? program[4] % made_bytes : 0;
    }
    out->is_clean = out->is_clean && !spoils && is_text;
    size_t fragments = 1 + (program[0] >> 1) % 5u, at = 0;
    for (size_t i = 0; i < fragments; i++) {
        size_t piece = i + 1 < fragments ? made_bytes / fragments : made_bytes - at;
        put_frame(out, (i == 0 ? 0x40u | kind : WSR_OPCODE_CONTINUATION) | (i + 1 == fragments ? WSR_FRAME_FIN : 0u),
                  made + at, piece);
        at += piece;
        if (program[0] & 64)
            put_frame(out, WSR_FRAME_FIN | WSR_OPCODE_PING, program, 3);
    }
    note_message(out, kind, wsr_bytes_of(plain, total));
    return 5 + bytes;
}

/*
 * One instruction. Returns what it used. Where a small window was agreed on, nothing but a compressor's own messages is
 * marked as compressed: what refers back beyond that window zlib takes when it still lies in what the same call of
 * inflate() has made, and else refuses, so that such a stream is not the same for every cut.
 */
static size_t put_next(struct stream *out, const uint8_t *program, size_t len)
{
    if (len < 3)
        return len;
    size_t bytes = program[2] % 64u < len - 3 ? program[2] % 64u : len - 3;
    unsigned instruction = program[0] % 8u;
    if (out->mode & MODE_SMALL_WINDOW)
        instruction = instruction >= 3 && instruction <= 5 ? 0 : instruction;
    switch (instruction) {
    case 0:
    case 1:
    case 2:
        return 1 + put_deflated(out, program + 1, len - 1, false);
    case 3:
        return 1 + put_deflated(out, program + 1, len - 1, true);
    case 4:                                          /* any frame, as often as not a compressed one */
        out->is_clean = false;
        put_frame(out, program[0] & 64 ? 0xC2u : program[1], program + 3, bytes);
        return 3 + bytes;
    case 5:                                          /* what says that it is compressed, in fragments */
        out->is_clean = false;
        put_frame(out, 0x41u + (program[1] & 1), program + 3, bytes / 2);
        put_frame(out, WSR_FRAME_FIN | WSR_OPCODE_CONTINUATION, program + 3 + bytes / 2, bytes - bytes / 2);
        return 3 + bytes;
    case 6:
        put_frame(out, WSR_FRAME_FIN | WSR_OPCODE_BINARY, program + 3, bytes);
        note_message(out, WSR_OPCODE_BINARY, wsr_bytes_of(program + 3, bytes));
        return 3 + bytes;
    default:
        out->is_clean = out->is_clean && program[1] != WSR_OPCODE_CLOSE;
        put_frame(out, WSR_FRAME_FIN | (program[1] == WSR_OPCODE_CLOSE ? WSR_OPCODE_CLOSE : WSR_OPCODE_PONG),
                  program + 3, bytes);
        return 3 + bytes;
    }
}

static void must_be_same(const struct run *a, const struct run *b)
{
    must(a->records_count == b->records_count);
    for (size_t i = 0; i < a->records_count; i++) {
        const struct record *x = &a->records[i];
        const struct record *y = &b->records[i];
        must(x->type == y->type && x->kind == y->kind && x->code == y->code && x->text == y->text);
        must(x->data_len == y->data_len && x->sum == y->sum && x->at == y->at);
    }
}

/* The messages of a clean beginning are there, unless a limit ended the connection before. */
static void check_messages(const struct run *run, const struct stream *stream)
{
    size_t at = 0;
    for (size_t i = 0; i < stream->messages_count; i++, at++) {
        const struct record *want = &stream->messages[i];
        while (at < run->records_count && (run->records[at].type == WSR_SESSION_PING ||
                                           run->records[at].type == WSR_SESSION_PONG))
            at++;
        must(at < run->records_count);
        const struct record *got = &run->records[at];
        if (got->type == WSR_SESSION_FAILURE) {
            must(got->code == WSR_CLOSE_TOO_BIG ? want->data_len > run->shared.limits.message_max_bytes
                                                : got->code == WSR_CLOSE_POLICY);
            return;
        }
        must(got->type == want->type && got->kind == want->kind);
        must(got->data_len == want->data_len && got->sum == want->sum);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct stream stream;
    static struct run whole;
    static struct run other;
    if (size < PARAMETERS)
        return 0;
    memset(&stream, 0, offsetof(struct stream, messages));
    stream.mode = data[0];
    stream.is_clean = true;
    int bits = data[0] & MODE_SMALL_WINDOW ? 9 : 15;
    must(deflateInit2(&stream.z, 6, Z_DEFLATED, -bits, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    for (size_t at = PARAMETERS; at < size && stream.used < STREAM_MAX;)
        at += put_next(&stream, data + at, size - at);
    (void)deflateEnd(&stream.z);
    run_stream(&whole, data, stream.bytes, stream.used, CUT_NONE, 0, SIZE_MAX);
    check_messages(&whole, &stream);
    run_stream(&other, data, stream.bytes, stream.used, CUT_NONE, 4096, SIZE_MAX);
    must_be_same(&whole, &other);
    run_stream(&other, data, stream.bytes, stream.used, CUT_EACH_BYTE, 64, SIZE_MAX);
    must_be_same(&whole, &other);
    run_stream(&other, data, stream.bytes, stream.used, CUT_RANDOM, 5, SIZE_MAX);
    must_be_same(&whole, &other);
    run_stream(&other, data, stream.bytes, stream.used, CUT_RANDOM, 5, data[2]);     /* memory runs out: only order */
    return 0;
}
