/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/echo_http.h"

#define LINE "GET /chat HTTP/1.1\r\n"
#define HOST "Host: server.example.com\r\n"
#define UPGRADE "Upgrade: websocket\r\n"
#define CONNECTION "Connection: Upgrade\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define GOOD LINE HOST UPGRADE CONNECTION KEY VERSION

static struct wsr_echo_http_request request;
static const char *why;

/* In memory of exactly its size, so that a sanitizer sees any step beside it. */
static ptrdiff_t parse(const char *text)
{
    size_t len = strlen(text), scanned = 0;
    uint8_t *copy = malloc(len);
    assert_non_null(copy);
    memcpy(copy, text, len);
    ptrdiff_t rc = wsr_echo_http_parse(&request, copy, len, &scanned, &why);
    free(copy);
    return rc;
}

static void refused(const char *text, const char *reason)
{
    assert_int_equal(parse(text), WSR_ERR_SYNTAX);
    if (!strstr(why, reason))
        fail_msg("\"%s\" is not about %s", why, reason);
}

/* RFC 6455 1.3 and 4.2.2: the accept value of the sample nonce. */
static void the_sample_of_the_rfc_is_accepted(void **state)
{
    (void)state;
    static const char text[] = GOOD "Sec-WebSocket-Protocol: chat, superchat\r\n\r\n";
    size_t scanned = 0;
    char answer[WSR_ECHO_HTTP_ANSWER_CHARS];
    assert_int_equal(wsr_echo_http_parse(&request, (const uint8_t *)text, strlen(text), &scanned, &why), strlen(text));
    int len = wsr_echo_http_accept(answer, &request);
    assert_int_equal(len, strlen(answer));
    assert_string_equal(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                "Sec-WebSocket-Protocol: chat\r\n\r\n");
}

static void without_an_offer_no_protocol_is_agreed(void **state)
{
    (void)state;
    static const char text[] = GOOD "\r\n";
    size_t scanned = 0;
    char answer[WSR_ECHO_HTTP_ANSWER_CHARS];
    assert_int_equal(wsr_echo_http_parse(&request, (const uint8_t *)text, strlen(text), &scanned, &why), strlen(text));
    assert_true(wsr_echo_http_accept(answer, &request) > 0);
    assert_null(strstr(answer, "Protocol:"));
}

/* Cut anywhere, the head is the same; what follows it is not taken. */
static void every_cut_needs_more_until_the_blank_line(void **state)
{
    (void)state;
    static const char text[] = GOOD "\r\nframes";
    size_t head = strlen(text) - 6;
    for (size_t first = 0; first <= strlen(text); first++) {
        size_t scanned = 0;
        ptrdiff_t rc = wsr_echo_http_parse(&request, (const uint8_t *)text, first, &scanned, &why);
        assert_int_equal(rc, first < head ? 0 : head);
        if (rc == 0)
            assert_int_equal(wsr_echo_http_parse(&request, (const uint8_t *)text, strlen(text), &scanned, &why), head);
    }
}

static void tokens_are_found_in_lists_whatever_their_case(void **state)
{
    (void)state;
    assert_true(parse(LINE HOST "UPGRADE: h2c, WebSocket\r\nconnection:keep-alive,  uPGRADE \r\n" KEY VERSION
                                "\r\n") > 0);
}

/* RFC 6455 4.2.1: what is needed, each missing in turn. */
static void each_missing_field_is_named(void **state)
{
    (void)state;
    refused(LINE UPGRADE CONNECTION KEY VERSION "\r\n", "Host");
    refused(LINE HOST HOST UPGRADE CONNECTION KEY VERSION "\r\n", "Host");
    refused(LINE HOST CONNECTION KEY VERSION "\r\n", "Upgrade: websocket");
    refused(LINE HOST UPGRADE KEY VERSION "\r\n", "Connection");
    refused(LINE HOST UPGRADE CONNECTION VERSION "\r\n", "Key");
    refused(LINE HOST UPGRADE CONNECTION KEY KEY VERSION "\r\n", "Key");
    refused(LINE HOST UPGRADE CONNECTION "Sec-WebSocket-Key: c2hvcnQ=\r\n" VERSION "\r\n", "Key");
    refused(LINE HOST UPGRADE CONNECTION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!==\r\n" VERSION "\r\n", "Key");
    refused(LINE HOST UPGRADE CONNECTION KEY "\r\n", "Version");
    refused(LINE HOST UPGRADE CONNECTION KEY "Sec-WebSocket-Version: 8\r\n\r\n", "Version");
}

static void what_is_no_request_is_refused(void **state)
{
    (void)state;
    refused("\r\n\r\n", "GET");
    refused("POST / HTTP/1.1\r\n" HOST "\r\n", "GET");
    refused("GET / HTTP/1.0\r\n" HOST "\r\n", "GET");
    refused("GET HTTP/1.1\r\n" HOST "\r\n", "GET");
    refused(LINE "no colon\r\n\r\n", "NAME: VALUE");
    refused(LINE ": no name\r\n\r\n", "NAME: VALUE");
    refused(LINE "Host : x\r\n\r\n", "NAME: VALUE");
    refused(LINE "Host: x\nUpgrade: websocket\r\n\r\n", "CR LF");
    refused(GOOD "Sec-WebSocket-Protocol: a b\r\n\r\n", "tokens");
}

static void an_endless_head_is_refused(void **state)
{
    (void)state;
    size_t len = WSR_ECHO_HTTP_HEAD_MAX + 1, scanned = 0;
    uint8_t *text = malloc(len);
    assert_non_null(text);
    memset(text, 'a', len);
    assert_int_equal(wsr_echo_http_parse(&request, text, len - 1, &scanned, &why), 0);
    assert_int_equal(wsr_echo_http_parse(&request, text, len, &scanned, &why), WSR_ERR_SYNTAX);
    free(text);
}

static void a_refusal_says_why_and_how_long_it_is(void **state)
{
    (void)state;
    char answer[WSR_ECHO_HTTP_ANSWER_CHARS];
    int len = wsr_echo_http_refuse(answer, "because");
    assert_int_equal(len, strlen(answer));
    assert_non_null(strstr(answer, "HTTP/1.1 400 "));
    assert_non_null(strstr(answer, "Content-Length: 8\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\nbecause\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sample_of_the_rfc_is_accepted),
        cmocka_unit_test(without_an_offer_no_protocol_is_agreed),
        cmocka_unit_test(every_cut_needs_more_until_the_blank_line),
        cmocka_unit_test(tokens_are_found_in_lists_whatever_their_case),
        cmocka_unit_test(each_missing_field_is_named),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(an_endless_head_is_refused),
        cmocka_unit_test(a_refusal_says_why_and_how_long_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
