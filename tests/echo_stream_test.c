/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/echo_stream.h"

struct bytes {
    uint8_t data[200000];
    size_t len;
};

static void append(struct bytes *to, const void *data, size_t len)
{
    assert_true(to->len + len <= sizeof to->data);
    memcpy(to->data + to->len, data, len);
    to->len += len;
}

/* One frame as a client sends it. */
static void client_frame(struct bytes *to, uint8_t first, const void *payload, size_t len)
{
    static const uint8_t mask[4] = { 0x37, 0xfa, 0x21, 0x3d };
    uint8_t head[WSR_FRAME_HEAD_MAX];
    append(to, head, wsr_frame_write(head, first, len, mask));
    for (size_t i = 0; i < len; i++) {
        uint8_t masked = ((const uint8_t *)payload)[i] ^ mask[i % 4];
        append(to, &masked, 1);
    }
}

static void server_frame(struct bytes *to, uint8_t first, const void *payload, size_t len)
{
    uint8_t head[WSR_FRAME_HEAD_MAX];
    append(to, head, wsr_frame_write(head, first, len, NULL));
    append(to, payload, len);
}

/* Take everything out of the queue, in uneven steps, as a socket does. */
static void take_out(struct bytes *to, struct wsr_echo_queue *queue, struct wsr_echo_pool *pool)
{
    struct iovec parts[3];
    size_t count;
    while ((count = wsr_echo_queue_parts(queue, parts, 3)) > 0) {
        size_t all = 0, left;
        for (size_t i = 0; i < count; i++)
            all += parts[i].iov_len;
        size_t taken = all > 10 ? all - all / 3 : all;
        left = taken;
        for (size_t i = 0; i < count && left > 0; i++) {
            size_t now = parts[i].iov_len < left ? parts[i].iov_len : left;
            append(to, parts[i].iov_base, now);
            left -= now;
        }
        wsr_echo_queue_sent(queue, pool, taken);
    }
    assert_int_equal(queue->bytes, 0);
}

/* Feed @in in pieces of @step bytes, the first @first long, and compare what comes out. */
static struct wsr_echo_counts echo(const struct bytes *in, const struct bytes *wanted, size_t first, size_t step)
{
    static struct bytes out;
    struct wsr_echo_stream stream = { .state = WSR_ECHO_STREAM_HEAD };
    struct wsr_echo_queue queue = { .first = NULL };
    struct wsr_echo_pool pool = { .block_bytes = WSR_ECHO_BLOCK_BYTES };
    struct wsr_echo_counts counts = { .messages = 0 };
    out.len = 0;
    for (size_t at = 0; at < in->len;) {
        size_t now = at == 0 && first > 0 ? first : step;
        now = in->len - at < now ? in->len - at : now;
        uint8_t *piece = malloc(now);
        assert_non_null(piece);
        memcpy(piece, in->data + at, now);
        assert_int_equal(wsr_echo_stream_feed(&stream, piece, now, &queue, &pool, &counts), 0);
        free(piece);
        at += now;
    }
    take_out(&out, &queue, &pool);
    assert_int_equal(out.len, wanted->len);
    assert_memory_equal(out.data, wanted->data, wanted->len);
    wsr_echo_queue_clear(&queue, &pool);
    wsr_echo_pool_free(&pool);
    return counts;
}

static struct bytes in, wanted;

static void reset(void)
{
    in.len = wanted.len = 0;
}

/* Fragments keep their borders, control frames come between them, pongs are not answered, Close ends it. */
static void a_conversation_is_the_same_at_every_cut(void **state)
{
    (void)state;
    reset();
    client_frame(&in, 0x81, "Hello", 5);
    client_frame(&in, 0x82, "", 0);
    client_frame(&in, 0x01, "frag", 4);
    client_frame(&in, 0x89, "ping", 4);
    client_frame(&in, 0x8a, "pong", 4);
    client_frame(&in, 0x80, "ment", 4);
    client_frame(&in, 0x88, "\x03\xe8" "bye", 5);
    client_frame(&in, 0x81, "after the end", 13);
    server_frame(&wanted, 0x81, "Hello", 5);
    server_frame(&wanted, 0x82, "", 0);
    server_frame(&wanted, 0x01, "frag", 4);
    server_frame(&wanted, 0x8a, "ping", 4);
    server_frame(&wanted, 0x80, "ment", 4);
    server_frame(&wanted, 0x88, "\x03\xe8" "bye", 5);
    for (size_t cut = 1; cut <= in.len; cut++) {
        struct wsr_echo_counts counts = echo(&in, &wanted, cut, in.len);
        assert_int_equal(counts.messages, 3);
        assert_int_equal(counts.bytes, 13);
        assert_int_equal(counts.pings, 1);
        assert_int_equal(counts.closes, 1);
        assert_int_equal(counts.violations, 0);
    }
    echo(&in, &wanted, 0, 1);
}

/* RFC 6455 5.2: all three forms of length. */
static void messages_longer_than_a_block_pass_whole(void **state)
{
    (void)state;
    static uint8_t payload[70000];
    static const size_t sizes[] = { 1, 125, 126, 4050, 4060, 4064, 4065, 65535, 65536, 70000 };
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        reset();
        client_frame(&in, 0x82, payload, sizes[i]);
        client_frame(&in, 0x81, "x", 1);
        server_frame(&wanted, 0x82, payload, sizes[i]);
        server_frame(&wanted, 0x81, "x", 1);
        echo(&in, &wanted, 0, in.len);
        echo(&in, &wanted, 0, 1000);
        echo(&in, &wanted, 0, 4097);
    }
}

static void violation(uint8_t first, const void *payload, size_t len)
{
    client_frame(&in, first, payload, len);
    server_frame(&wanted, 0x88, "\x03\xea", 2);
    assert_int_equal(echo(&in, &wanted, 0, in.len).violations, 1);
    assert_int_equal(echo(&in, &wanted, 0, 1).violations, 1);
}

static void violations_are_answered_with_1002(void **state)
{
    (void)state;
    reset();
    violation(0x83, "x", 1);                    /* RFC 6455 5.2: reserved opcode */
    reset();
    violation(0xc2, "x", 1);                    /* 5.2: RSV1 without an extension */
    reset();
    violation(0x80, "x", 1);                    /* 5.4: nothing to continue */
    reset();
    violation(0x09, "x", 1);                    /* 5.5: fragmented ping */
    reset();
    client_frame(&in, 0x01, "a", 1);
    server_frame(&wanted, 0x01, "a", 1);
    violation(0x81, "b", 1);                    /* 5.4: a new message within one */
    reset();
    server_frame(&in, 0x81, "bare", 4);         /* 5.1: not masked */
    server_frame(&wanted, 0x88, "\x03\xea", 2);
    assert_int_equal(echo(&in, &wanted, 0, in.len).violations, 1);
}

static void a_queue_gives_its_blocks_back(void **state)
{
    (void)state;
    struct wsr_echo_pool pool = { .block_bytes = WSR_ECHO_BLOCK_BYTES };
    struct wsr_echo_queue queue = { .first = NULL };
    static uint8_t data[100000];
    for (int round = 0; round < 50; round++) {
        assert_int_equal(wsr_echo_queue_append(&queue, &pool, data, sizeof data), 0);
        void *slabs = pool.slabs;
        wsr_echo_queue_sent(&queue, &pool, sizeof data);
        assert_null(queue.first);
        assert_null(queue.last);
        assert_ptr_equal(pool.slabs, slabs);
    }
    wsr_echo_pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_is_the_same_at_every_cut),
        cmocka_unit_test(messages_longer_than_a_block_pass_whole),
        cmocka_unit_test(violations_are_answered_with_1002),
        cmocka_unit_test(a_queue_gives_its_blocks_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
