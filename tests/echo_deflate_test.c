/* What the echo server agrees on for permessage-deflate, and that compressed messages pass through it.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/echo_deflate.h"
#include "bench/echo_http.h"
#include "bench/echo_stream.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define PMD "permessage-deflate"
#define SN "server_no_context_takeover"
#define CN "client_no_context_takeover"
#define SB "server_max_window_bits"
#define CB "client_max_window_bits"

static void limits_are_read_and_bad_ones_are_named(void **state)
{
    (void)state;
    struct wsr_deflate_offer limits;
    struct wsr_fault why;
    assert_int_equal(wsr_echo_deflate_parse(&limits, "", &why), 0);
    assert_true(limits.server_max_window_bits == 0 && !limits.server_no_context_takeover);
    assert_int_equal(wsr_echo_deflate_parse(&limits, SB "=10; " SN, &why), 0);
    assert_true(limits.server_max_window_bits == 10 && limits.server_no_context_takeover);
    static const char *const bad[] = { "x", SB "=7", ";", SN ", " PMD, SN "=1", CN "; " CN, "=" };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(wsr_echo_deflate_parse(&limits, bad[i], &why), WSR_ERR_SYNTAX);
        assert_true(why.text != NULL && why.at <= strlen(bad[i]));
    }
    char endless[1000];
    memset(endless, ' ', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    assert_int_equal(wsr_echo_deflate_parse(&limits, endless, &why), WSR_ERR_SYNTAX);
}

/* A server that compresses nothing itself has to bind the client wherever it is bound itself. */
static void the_client_is_bound_where_the_server_is(void **state)
{
    (void)state;
    static const struct {
        const char *limits, *offer, *answer;      /* NULL = none */
    } rows[] = {
        { "", PMD, PMD },
        { "", PMD "; " CB, PMD },
        { "", PMD "; " CB "=12", PMD "; " CB "=12" },
        { "", PMD "; " CN, PMD "; " CN },
        { "", PMD "; " SN, PMD "; " SN "; " CN },
        { "", PMD "; " SB "=10", NULL },
        { "", PMD "; " SB "=15", PMD "; " SB "=15" },
        { "", PMD "; " SB "=10; " CB, PMD "; " SB "=10; " CB "=10" },
        { "", PMD "; " SB "=10; " CB "=9", PMD "; " SB "=10; " CB "=9" },
        { "", PMD "; " SB "=10, " PMD, PMD },
        { SN, PMD, PMD "; " SN "; " CN },
        { SB "=11", PMD, NULL },
        { SB "=11", PMD "; " CB, PMD "; " SB "=11; " CB "=11" },
        { CB "=9", PMD "; " CB, PMD "; " CB "=9" },
        { CB "=9", PMD, NULL },
        { "", "x-webkit-deflate-frame, other; a=b, " PMD, PMD },
        { "", PMD "; unknown, " PMD "; " CN, PMD "; " CN },
        { "", "other", NULL },
        { "", "", NULL },
        { "", PMD ";", NULL },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_deflate_offer limits;
        struct wsr_fault why;
        char answer[WSR_DEFLATE_ANSWER_MAX];
        struct wsr_bytes value = wsr_bytes_of_string(rows[i].offer);
        assert_int_equal(wsr_echo_deflate_parse(&limits, rows[i].limits, &why), 0);
        bool agrees = wsr_echo_deflate_agree(answer, &limits, &value, 1);
        if (agrees != (rows[i].answer != NULL) || (agrees && strcmp(answer, rows[i].answer) != 0))
            fail_msg("limits \"%s\", offer \"%s\": %s", rows[i].limits, rows[i].offer, agrees ? answer : "none");
    }
}

/* RFC 6455 9.1: a list may be spread over lines. */
static void offers_in_several_lines_are_one_list(void **state)
{
    (void)state;
    static const char text[] = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Extensions: other\r\nsec-websocket-extensions: " PMD "; " CN "\r\n\r\n";
    struct wsr_echo_http_request request;
    struct wsr_deflate_offer limits = { .server_max_window_bits = 0 };
    size_t scanned = 0;
    const char *why;
    char extensions[WSR_DEFLATE_ANSWER_MAX], answer[WSR_ECHO_HTTP_ANSWER_CHARS];
    assert_true(wsr_echo_http_parse(&request, (const uint8_t *)text, sizeof text - 1, &scanned, &why) > 0);
    assert_int_equal(request.extensions_count, 2);
    assert_true(wsr_echo_deflate_agree(extensions, &limits, request.extensions, request.extensions_count));
    assert_true(wsr_echo_http_accept(answer, &request) > 0);
    assert_null(strstr(answer, "Sec-WebSocket-Extensions"));
    request.agreed_extensions = extensions;
    assert_true(wsr_echo_http_accept(answer, &request) > 0);
    assert_non_null(strstr(answer, "\r\nSec-WebSocket-Extensions: " PMD "; " CN "\r\n"));
}

/* One frame of a client with an empty mask; returns its bytes. */
static size_t frame(uint8_t *to, uint8_t first, const char *payload)
{
    static const uint8_t key[4];
    size_t head_bytes = wsr_frame_write(to, first, strlen(payload), key);
    memcpy(to + head_bytes, payload, strlen(payload));
    return head_bytes + strlen(payload);
}

/* Feed @in; what comes out is in *out. Returns how often the client broke a rule. */
static uint64_t pass(const uint8_t *in, size_t len, bool deflates, uint8_t *out, size_t *out_bytes)
{
    struct wsr_echo_stream stream = { .state = WSR_ECHO_STREAM_HEAD, .deflates = deflates };
    struct wsr_echo_queue queue = { .first = NULL };
    struct wsr_echo_pool pool = { .block_bytes = WSR_ECHO_BLOCK_BYTES };
    struct wsr_echo_counts counts = { .messages = 0 };
    struct iovec part;
    *out_bytes = 0;
    for (size_t i = 0; i < len; i++)
        assert_int_equal(wsr_echo_stream_feed(&stream, in + i, 1, &queue, &pool, &counts), 0);
    while (wsr_echo_queue_parts(&queue, &part, 1) > 0) {
        memcpy(out + *out_bytes, part.iov_base, part.iov_len);
        *out_bytes += part.iov_len;
        wsr_echo_queue_sent(&queue, &pool, part.iov_len);
    }
    wsr_echo_queue_clear(&queue, &pool);
    wsr_echo_pool_free(&pool);
    return counts.violations;
}

static void compressed_messages_go_back_as_they_came(void **state)
{
    (void)state;
    uint8_t in[256], out[256];
    size_t len = 0, out_bytes;
    len += frame(in + len, 0xc1, "\xf2H\xcd");
    len += frame(in + len, 0x41, "");
    len += frame(in + len, 0x89, "p");
    len += frame(in + len, 0x80, "tail");
    len += frame(in + len, 0x82, "plain");
    assert_int_equal(pass(in, len, true, out, &out_bytes), 0);
    static const uint8_t want[] = "\xc1\x03\xf2H\xcd\x41\x00\x8a\x01p\x80\x04tail\x82\x05plain";
    assert_int_equal(out_bytes, sizeof want - 1);
    assert_memory_equal(out, want, sizeof want - 1);
    assert_int_equal(pass(in, len, false, out, &out_bytes), 1);      /* it was not agreed on */
}

static void rsv1_stands_on_first_frames_alone(void **state)
{
    (void)state;
    static const uint8_t wrong[] = { 0xc0, 0xc8, 0xc9, 0xca, 0xe1, 0xd1, 0xf2 };
    for (size_t i = 0; i < sizeof wrong; i++) {
        uint8_t in[64], out[64];
        size_t out_bytes, len = frame(in, 0x41, "a");
        if (wrong[i] != 0xc0)
            len = 0;
        len += frame(in + len, wrong[i], "x");
        assert_int_equal(pass(in, len, true, out, &out_bytes), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_read_and_bad_ones_are_named),
        cmocka_unit_test(the_client_is_bound_where_the_server_is),
        cmocka_unit_test(offers_in_several_lines_are_one_list),
        cmocka_unit_test(compressed_messages_go_back_as_they_came),
        cmocka_unit_test(rsv1_stands_on_first_frames_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
