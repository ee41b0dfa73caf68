/* The opening handshake: sections 1.3, 1.4 and 1.5 of the rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/handshake.h"

static const char sample_key[] = "dGhlIHNhbXBsZSBub25jZQ==";
static const char sample_accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/* ---- Keys ---- */

/* HS-03 */
static void keys_are_canonical_base64(void **state)
{
    (void)state;
    uint8_t nonce[16];
    char key[WSR_HANDSHAKE_KEY_CHARS + 1];
    for (uint8_t i = 0; i < 16; i++)
        nonce[i] = (uint8_t)(i + 1);
    wsr_handshake_key(key, nonce);
    assert_string_equal(key, "AQIDBAUGBwgJCgsMDQ4PEA==");
    wsr_handshake_key(key, (const uint8_t *)"the sample nonce");
    assert_string_equal(key, sample_key);
    memset(nonce, 0xff, sizeof nonce);
    wsr_handshake_key(key, nonce);
    assert_string_equal(key, "/////////////////////w==");
}

/* RESP-07 */
static void accept_of_the_rfc_sample(void **state)
{
    (void)state;
    char accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1];
    assert_int_equal(wsr_handshake_accept(accept, sample_key), 0);
    assert_string_equal(accept, sample_accept);
}

/* ---- Protocols and headers ---- */

static int check_protocols(const char *const *protocols, size_t count, size_t *at)
{
    struct wsr_fault why = { 0, NULL };
    int rc = wsr_handshake_check_protocols(protocols, count, &why);
    *at = why.at;
    if (rc != 0)
        assert_non_null(why.text);
    return rc;
}

/* PROTO-01, PROTO-02, PROTO-03: every byte, alone and in company. */
static void protocol_bytes(void **state)
{
    (void)state;
    size_t at;
    assert_int_equal(check_protocols(NULL, 0, &at), 0);
    for (unsigned c = 1; c < 256; c++) {
        bool legal = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     (c < 128 && strchr("!#$%&'*+-.^_`|~", (int)c));
        char alone[2] = { (char)c, 0 };
        char company[4] = { 'a', (char)c, 'z', 0 };
        const char *list[] = { "first", alone };
        assert_int_equal(check_protocols(list, 2, &at), legal ? 0 : WSR_ERR_SYNTAX);
        if (!legal)
            assert_int_equal(at, 1);
        list[1] = company;
        assert_int_equal(check_protocols(list, 2, &at), legal ? 0 : WSR_ERR_SYNTAX);
    }
    const char *const bad[] = { "" };                     /* 0x00 ends a C string: the empty element stands for it */
    assert_int_equal(check_protocols(bad, 1, &at), WSR_ERR_SYNTAX);
    const char *const none[] = { NULL };
    assert_int_equal(check_protocols(none, 1, &at), WSR_ERR_SYNTAX);
}

/* PROTO-04, PROTO-05, OQ-2 */
static void protocol_lists(void **state)
{
    (void)state;
    size_t at;
    const char *const comma[] = { "foobar, foobar" };
    assert_int_equal(check_protocols(comma, 1, &at), WSR_ERR_SYNTAX);
    const char *const twice[] = { "a", "b", "c", "b" };
    assert_int_equal(check_protocols(twice, 4, &at), WSR_ERR_SYNTAX);
    assert_int_equal(at, 3);
    const char *const cased[] = { "a", "A", "aa", "b" };
    assert_int_equal(check_protocols(cased, 4, &at), 0);
}

/* HS-08 */
static void headers_of_the_caller(void **state)
{
    (void)state;
    static const struct {
        struct wsr_header header;
        int rc;
    } rows[] = {
        { { "X-Any", "value" }, 0 }, { { "Origin", "https://a" }, 0 }, { { "Cookie", "a=b; c=d" }, 0 },
        { { "Authorization", "Bearer x" }, 0 },
        { { "X", "" }, 0 }, { { "X", " tab\t\xc3\xa9 " }, 0 }, { { "Hosts", "x" }, 0 },
        { { "Sec-WebSocke", "x" }, 0 }, { { "Sec-Web", "x" }, 0 },
        { { "Host", "x" }, WSR_ERR_SYNTAX }, { { "hOST", "x" }, WSR_ERR_SYNTAX },
        { { "Upgrade", "x" }, WSR_ERR_SYNTAX },
        { { "connection", "x" }, WSR_ERR_SYNTAX }, { { "Content-Length", "0" }, WSR_ERR_SYNTAX },
        { { "TRANSFER-ENCODING", "chunked" }, WSR_ERR_SYNTAX },
        { { "Sec-WebSocket-Key", "x" }, WSR_ERR_SYNTAX }, { { "sec-websocket-protocol", "x" }, WSR_ERR_SYNTAX },
        { { "SEC-WEBSOCKET-", "x" }, WSR_ERR_SYNTAX },
        { { "Sec-WebSocket-Anything", "x" }, WSR_ERR_SYNTAX }, { { "", "x" }, WSR_ERR_SYNTAX },
        { { "a b", "x" }, WSR_ERR_SYNTAX },
        { { "a:", "x" }, WSR_ERR_SYNTAX }, { { "a\r\nb", "x" }, WSR_ERR_SYNTAX },
        { { "\xc3\xa9", "x" }, WSR_ERR_SYNTAX },
        { { "X", "a\r\nHost: b" }, WSR_ERR_SYNTAX }, { { "X", "a\n" }, WSR_ERR_SYNTAX },
        { { "X", "\r" }, WSR_ERR_SYNTAX }, { { "X", "\x01" }, WSR_ERR_SYNTAX },
        { { "X", "\x7f" }, WSR_ERR_SYNTAX }, { { NULL, "x" }, WSR_ERR_SYNTAX }, { { "X", NULL }, WSR_ERR_SYNTAX },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wsr_fault why = { 0, NULL };
        int rc = wsr_handshake_check_header(&rows[i].header, &why);
        if (rc != rows[i].rc)
            fail_msg("row %zu: %d", i, rc);
        assert_true((rc == 0) == (why.text == NULL));
    }
}

/* HS-08 */
static void a_host_of_the_caller(void **state)
{
    (void)state;
    static const struct {
        struct wsr_header header;
        bool is_host;
        int rc;
        size_t at;
    } rows[] = {
        { { "Host", "a" }, true, 0, 0 }, { { "hOsT", "a.example:8080" }, true, 0, 0 },
        { { "host", "[::1]:9" }, true, 0, 0 }, { { "Host", "\xc3\xa9" }, true, 0, 0 },
        { { "Host", "" }, true, WSR_ERR_SYNTAX, 0 }, { { "Host", NULL }, true, WSR_ERR_SYNTAX, 0 },
        { { "Host", " a" }, true, WSR_ERR_SYNTAX, 0 }, { { "Host", "a " }, true, WSR_ERR_SYNTAX, 1 },
        { { "Host", "a, b" }, true, WSR_ERR_SYNTAX, 1 }, { { "Host", "a,b" }, true, WSR_ERR_SYNTAX, 1 },
        { { "Host", "a\tb" }, true, WSR_ERR_SYNTAX, 1 }, { { "Host", "a\r\nX: y" }, true, WSR_ERR_SYNTAX, 1 },
        { { "Host", "ab\n" }, true, WSR_ERR_SYNTAX, 2 }, { { "Host", "ab\x7f" }, true, WSR_ERR_SYNTAX, 2 },
        { { "Host", "\x01" }, true, WSR_ERR_SYNTAX, 0 }, { { "Hosts", "a" }, false, 0, 0 },
        { { "Hos", "a" }, false, 0, 0 }, { { "", "a" }, false, 0, 0 }, { { NULL, "a" }, false, 0, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wsr_fault why = { 0, NULL };
        assert_int_equal(wsr_handshake_is_host(&rows[i].header), rows[i].is_host);
        if (!rows[i].is_host)
            continue;
        int rc = wsr_handshake_check_host(&rows[i].header, &why);
        if (rc != rows[i].rc || why.at != rows[i].at)
            fail_msg("row %zu: %d at %zu", i, rc, why.at);
        assert_true((rc == 0) == (why.text == NULL));
    }
}

/* ---- The request ---- */

static void assert_request(const char *input, struct wsr_handshake_request request, const char *want)
{
    struct wsr_url url;
    struct wsr_fault why;
    char text[4096];
    assert_int_equal(wsr_url_parse(&url, input, strlen(input), NULL, text, sizeof text, &why), 0);
    request.url = &url;
    request.key = sample_key;
    size_t bytes = wsr_handshake_write_request(NULL, 0, &request);
    if (bytes != strlen(want)) {
        char got[4096] = "";
        wsr_handshake_write_request(got, sizeof got - 1, &request);
        fail_msg("%zu bytes, want %zu:\n%s", bytes, strlen(want), got);
    }
    /* Every capacity: the same count, and not a byte outside it. */
    for (size_t capacity = 0; capacity <= bytes + 1; capacity++) {
        char *out = malloc(capacity > 0 ? capacity : 1);
        assert_int_equal(wsr_handshake_write_request(out, capacity, &request), bytes);
        if (capacity >= bytes)
            assert_memory_equal(out, want, bytes);
        free(out);
    }
}

#define PLAIN_FIELDS                                                              \
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"                               \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

/* HS-01, HS-02, HS-04, HS-05, HS-06, HS-07 (no Origin, Referer, Pragma, body), URL-31, URL-33 */
static void the_plain_request(void **state)
{
    (void)state;
    struct wsr_handshake_request none = { 0 };
    assert_request("ws://h", none, "GET / HTTP/1.1\r\nHost: h\r\n" PLAIN_FIELDS "\r\n");
    assert_request("wss://H:443/a?b=c", none, "GET /a?b=c HTTP/1.1\r\nHost: h\r\n" PLAIN_FIELDS "\r\n");
    assert_request("ws://h:8080/p?", none, "GET /p HTTP/1.1\r\nHost: h:8080\r\n" PLAIN_FIELDS "\r\n");
    assert_request("https://h:80/\xc3\xa5 ", none, "GET /%C3%A5 HTTP/1.1\r\nHost: h:80\r\n" PLAIN_FIELDS "\r\n");
    assert_request("ws://[0::1]:9/a\r\nb", none, "GET /ab HTTP/1.1\r\nHost: [::1]:9\r\n" PLAIN_FIELDS "\r\n");
}

/* PROTO-06, HS-04, HS-08, HS-09: the order of the optional lines. */
static void the_full_request(void **state)
{
    (void)state;
    const char *const protocols[] = { "chat.v2", "chat" };
    const struct wsr_header headers[] = { { "Origin", "https://a" }, { "Cookie", "a=b" }, { "X-Empty", "" } };
    struct wsr_handshake_request request = {
        .protocols = protocols, .protocols_count = 2, .headers = headers, .headers_count = 3,
        .extensions = wsr_bytes_of_string("permessage-deflate; client_max_window_bits"),
    };
    assert_request("ws://user:pass@h/", request,
                   "GET / HTTP/1.1\r\nHost: h\r\n" PLAIN_FIELDS
                   "Sec-WebSocket-Protocol: chat.v2, chat\r\n"
                   "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
                   "Authorization: Basic dXNlcjpwYXNz\r\n"
                   "Origin: https://a\r\nCookie: a=b\r\nX-Empty: \r\n\r\n");
    struct wsr_handshake_request one = { .protocols = protocols, .protocols_count = 1 };
    assert_request("ws://h", one,
                   "GET / HTTP/1.1\r\nHost: h\r\n" PLAIN_FIELDS "Sec-WebSocket-Protocol: chat.v2\r\n\r\n");
}

/* HS-08, URL-33: in the place of the URL's, and only there. */
static void an_own_host_stands_for_that_of_the_url(void **state)
{
    (void)state;
    const struct wsr_header headers[] = { { "X-First", "1" }, { "hOST", "other.example:81" }, { "X-Last", "2" } };
    struct wsr_handshake_request request = { .headers = headers, .headers_count = 3 };
    assert_request("ws://h:8080/p", request,
                   "GET /p HTTP/1.1\r\nHost: other.example:81\r\n" PLAIN_FIELDS "X-First: 1\r\nX-Last: 2\r\n\r\n");
}

/* URL-32, OQ-4: percent-decoded, at once, unless the caller's header is there. */
static void credentials(void **state)
{
    (void)state;
    static const struct {
        const char *url, *basic;
    } rows[] = {
        { "ws://u@h", "dTo=" }, { "ws://:p@h", "OnA=" }, { "ws://u:p@h", "dTpw" },
        { "ws://a%40b:%3a%2F@h", "YUBiOjov" },
        { "ws://%%41:%zz%@h", "JUE6JXp6JQ==" }, { "ws://\xc3\xbc:%00%ff@h", "w7w6AP8=" },
        { "ws://aa:bbb@h", "YWE6YmJi" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char want[512];
        snprintf(want, sizeof want,
                 "GET / HTTP/1.1\r\nHost: h\r\n" PLAIN_FIELDS "Authorization: Basic %s\r\n\r\n", rows[i].basic);
        assert_request(rows[i].url, (struct wsr_handshake_request){ 0 }, want);
    }
    const struct wsr_header own = { "aUTHORIZATION", "Bearer x" };
    struct wsr_handshake_request request = { .headers = &own, .headers_count = 1 };
    assert_request("ws://u:p@h", request,
                   "GET / HTTP/1.1\r\nHost: h\r\n" PLAIN_FIELDS "aUTHORIZATION: Bearer x\r\n\r\n");
    assert_request("ws://@h", (struct wsr_handshake_request){ 0 }, "GET / HTTP/1.1\r\nHost: h\r\n" PLAIN_FIELDS "\r\n");
}

/* ---- The answer ---- */

struct answer_case {
    const char *fields;      /* behind the status line, or with it when it begins with "HTTP" */
    const char *offered;     /* protocols, joined by ", " */
    bool extensions;
    const char *protocol;    /* agreed; NULL = refused */
    const char *agreed;      /* extensions agreed, NULL = "" */
};

#define UP "Upgrade: websocket\r\n"
#define CONN "Connection: Upgrade\r\n"
#define ACC "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define GOOD UP CONN ACC

static int judge(const struct answer_case *c, struct wsr_handshake_agreement *out, char *head, size_t head_bytes,
                 struct wsr_fault *why)
{
    bool whole = strncmp(c->fields, "HTTP", 4) == 0;
    int len = snprintf(head, head_bytes, "%s%s\r\n", whole ? "" : "HTTP/1.1 101 Switching Protocols\r\n", c->fields);
    struct wsr_http_response response;
    size_t scanned = 0;
    if (wsr_http_parse(&response, (uint8_t *)head, (size_t)len, &scanned, why) != len)
        fail_msg("not a head: %s", head);
    struct wsr_handshake_offer offer = {
        .protocols = wsr_bytes_of_string(c->offered ? c->offered : ""),
    };
    if (c->extensions)
        offer.deflate = (struct wsr_deflate_offers){ .count = 1, .list = { { .limits_client = true } } };
    memcpy(offer.accept, sample_accept, sizeof sample_accept);
    return wsr_handshake_check_answer(out, &response, &offer, why);
}

static void run_cases(const struct answer_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct answer_case *c = &cases[i];
        struct wsr_handshake_agreement got = { 0 };
        struct wsr_fault why = { 0, NULL };
        char head[2048];
        int rc = judge(c, &got, head, sizeof head, &why);
        if (rc != (c->protocol ? 0 : WSR_ERR_SYNTAX))
            fail_msg("%d (%s) for\n%s", rc, why.text ? why.text : "-", head);
        assert_true((rc == 0) == (why.text == NULL));
        if (rc < 0) {
            assert_true(got.protocol.len == 0 && got.extensions.len == 0);
            continue;
        }
        assert_true(wsr_bytes_equal(got.protocol, wsr_bytes_of_string(c->protocol)));
        assert_true(wsr_bytes_equal(got.extensions, wsr_bytes_of_string(c->agreed ? c->agreed : "")));
    }
}

#define RUN_CASES(cases) run_cases(cases, sizeof(cases) / sizeof *(cases))

/* RESP-03 */
static void only_101_upgrades(void **state)
{
    (void)state;
    for (unsigned status = 100; status < 600; status++) {
        char fields[512];
        snprintf(fields, sizeof fields, "HTTP/1.1 %u X\r\n" GOOD, status);
        struct answer_case c = { .fields = fields, .protocol = status == 101 ? "" : NULL };
        run_cases(&c, 1);
    }
}

/* RESP-05, RESP-06, RESP-07, RESP-10, RESP-14, RESP-15 */
static void upgrade_connection_and_accept(void **state)
{
    (void)state;
    static const struct answer_case cases[] = {
        { .fields = GOOD, .protocol = "" },
        { .fields = "UPGRADE: WebSocket\r\nconnection: uPGRADE\r\n"
                    "SEC-WEBSOCKET-ACCEPT:s3pPLMBiTxaQ9kYGzzhZRbK+xOo= \t\r\n", .protocol = "" },
        { .fields = "Upgrade:\t websocket \r\n" CONN ACC, .protocol = "" },
        { .fields = CONN ACC }, { .fields = UP ACC }, { .fields = UP CONN },
        { .fields = "Upgrade:\r\n" CONN ACC }, { .fields = "Upgrade: websockets\r\n" CONN ACC },
        { .fields = "Upgrade: websocket, h2c\r\n" CONN ACC },
        { .fields = "Upgrade: h2c, websocket\r\n" CONN ACC }, { .fields = "Upgrade: websocket/13\r\n" CONN ACC },
        { .fields = UP GOOD },
        { .fields = "Upgrade: x\r\n" GOOD }, { .fields = "Upgrade: web socket\r\n" CONN ACC },
        { .fields = "Upgrade: websocket,\r\n" CONN ACC },
        { .fields = UP ACC "Connection: keep-alive, Upgrade\r\n", .protocol = "" },
        { .fields = UP ACC "Connection: upgrade\t,close\r\n", .protocol = "" },
        { .fields = UP ACC "Connection: keep-alive\r\nConnection: ,, UPGRADE ,\r\n", .protocol = "" },
        { .fields = GOOD "Connection: close\r\n", .protocol = "" },
        { .fields = UP ACC "Connection:\r\n" }, { .fields = UP ACC "Connection: keep-alive\r\n" },
        { .fields = UP ACC "Connection: upgraded\r\n" },
        { .fields = UP ACC "Connection: keep-alive Upgrade\r\n" }, { .fields = UP ACC "Connection: \"Upgrade\"\r\n" },
        { .fields = UP CONN "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" },
        { .fields = UP CONN "Sec-WebSocket-Accept:\r\n" },
        { .fields = UP CONN "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo\r\n" },
        { .fields = UP CONN "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo==\r\n" },
        { .fields = UP CONN "Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n" }, { .fields = GOOD ACC },
        { .fields = GOOD "Sec-WebSocket-Accept: x\r\n" }, { .fields = UP CONN "Sec-WebSocket-Accept: x\r\n" ACC },
        { .fields = GOOD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", .protocol = "" },
        { .fields = "Date: x\r\nServer:\r\n" GOOD "Set-Cookie: a=b\r\nSet-Cookie: c\r\n"
                    "Sec-WebSocket-Version: 99\r\nX-Y: z\r\n", .protocol = "" },
    };
    RUN_CASES(cases);
}

/* RESP-04, RESP-09 */
static void protocol_of_the_answer(void **state)
{
    (void)state;
#define PROTO(value) GOOD "Sec-WebSocket-Protocol:" value "\r\n"
    static const struct answer_case cases[] = {
        { .fields = PROTO(" chat"), .offered = "chat", .protocol = "chat" },
        { .fields = PROTO("b \t"), .offered = "a, b", .protocol = "b" },
        { .fields = PROTO(" a"), .offered = "a, b", .protocol = "a" },
        { .fields = PROTO(" c"), .offered = "a, b, c", .protocol = "c" },
        { .fields = GOOD, .offered = "chat" }, { .fields = PROTO(""), .offered = "chat" },
        { .fields = PROTO(" "), .offered = "chat" },
        { .fields = PROTO(" Chat"), .offered = "chat" }, { .fields = PROTO(" chat2"), .offered = "chat" },
        { .fields = PROTO(" cha"), .offered = "chat" },
        { .fields = PROTO(" a, b"), .offered = "a, b" }, { .fields = PROTO(" a,"), .offered = "a, b" },
        { .fields = PROTO(" a b"), .offered = "a, b" },
        { .fields = PROTO(" \"a\""), .offered = "a" },
        { .fields = PROTO(" a") "Sec-WebSocket-Protocol: a\r\n", .offered = "a" },
        { .fields = PROTO(" a") "Sec-WebSocket-Protocol: b\r\n", .offered = "a, b" }, { .fields = PROTO(" a") },
        { .fields = PROTO("") },
    };
    RUN_CASES(cases);
}

/* RESP-08, PMD-04, PMD-24, PMD-26. In the first four none was offered. */
static void extensions_of_the_answer(void **state)
{
    (void)state;
#define EXT(value) GOOD "Sec-WebSocket-Extensions:" value "\r\n"
#define PMD "permessage-deflate"
    static const struct answer_case cases[] = {
        { .fields = EXT(" " PMD) }, { .fields = EXT(" x") }, { .fields = EXT("") }, { .fields = EXT(" ,") },
        { .fields = GOOD, .extensions = true, .protocol = "" },
        { .fields = EXT(" " PMD), .extensions = true, .protocol = "", .agreed = PMD },
        { .fields = EXT(PMD ";server_no_context_takeover ; server_max_window_bits=9;\tclient_max_window_bits = "
                            "\"1\\2\"\t"), .extensions = true, .protocol = "",
          .agreed = PMD ";server_no_context_takeover ; server_max_window_bits=9;\tclient_max_window_bits = \"1\\2\"" },
        { .fields = EXT(""), .extensions = true }, { .fields = EXT(" " PMD ","), .extensions = true },
        { .fields = EXT("," PMD), .extensions = true },
        { .fields = EXT(" " PMD ";"), .extensions = true }, { .fields = EXT(";a"), .extensions = true },
        { .fields = EXT(PMD ";;a"), .extensions = true },
        { .fields = EXT(PMD ";a="), .extensions = true }, { .fields = EXT(PMD ";=a"), .extensions = true },
        { .fields = EXT(PMD ";a=\"\""), .extensions = true },
        { .fields = EXT(PMD ";a=\"b"), .extensions = true }, { .fields = EXT(PMD ";a=\"b\\"), .extensions = true },
        { .fields = EXT(PMD ";a=\"b c\""), .extensions = true },
        { .fields = EXT(PMD ";a=\"b\\\"\""), .extensions = true },
        { .fields = EXT(PMD ";a=\"b\"c"), .extensions = true }, { .fields = EXT(PMD " a"), .extensions = true },
        { .fields = EXT(PMD ";a b"), .extensions = true }, { .fields = EXT(PMD ";a=b=c"), .extensions = true },
        { .fields = EXT(PMD "=1"), .extensions = true },
        { .fields = EXT(PMD "/x"), .extensions = true }, { .fields = EXT(PMD ";a=\xc3\xa9"), .extensions = true },
        { .fields = EXT("\"" PMD "\""), .extensions = true },
        { .fields = EXT(PMD ", " PMD), .extensions = true },
        { .fields = EXT(PMD) "Sec-WebSocket-Extensions: " PMD "\r\n", .extensions = true },
        { .fields = EXT(PMD ",, " PMD), .extensions = true }, { .fields = EXT(PMD ", x"), .extensions = true },
        { .fields = EXT("Permessage-Deflate"), .extensions = true },
        { .fields = EXT("x-webkit-deflate-frame"), .extensions = true },
    };
    RUN_CASES(cases);
}

static const char *fault_of(const char *fields, const char *offered)
{
    struct answer_case c = { .fields = fields, .offered = offered };
    struct wsr_handshake_agreement out;
    struct wsr_fault why = { 0, NULL };
    char head[2048];
    assert_int_equal(judge(&c, &out, head, sizeof head, &why), WSR_ERR_SYNTAX);
    return why.text;
}

/* Section 1.5: "apply in this order". Each answer breaks one rule and all the later ones. */
static void rules_are_judged_in_order(void **state)
{
    (void)state;
    const char *const late = "Sec-WebSocket-Extensions: ,\r\nSec-WebSocket-Protocol: z\r\n";
    char fields[512];
    snprintf(fields, sizeof fields, "HTTP/1.1 404 X\r\nSec-WebSocket-Extensions: ,\r\n");
    assert_non_null(strstr(fault_of(fields, "a"), "101"));
    assert_non_null(strstr(fault_of("Sec-WebSocket-Extensions: ,\r\n", "a"), "must choose one"));
    assert_non_null(strstr(fault_of(late, "a"), "exactly one Upgrade"));
    snprintf(fields, sizeof fields, UP "%s", late);
    assert_non_null(strstr(fault_of(fields, "a"), "Connection header"));
    snprintf(fields, sizeof fields, UP CONN "%s", late);
    assert_non_null(strstr(fault_of(fields, "a"), "exactly one Sec-WebSocket-Accept"));
    snprintf(fields, sizeof fields, GOOD "%s", late);
    assert_non_null(strstr(fault_of(fields, "a"), "grammar"));
    assert_non_null(strstr(fault_of(GOOD "Sec-WebSocket-Protocol: z\r\n", "a"), "not offered"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_canonical_base64),
        cmocka_unit_test(accept_of_the_rfc_sample),
        cmocka_unit_test(protocol_bytes),
        cmocka_unit_test(protocol_lists),
        cmocka_unit_test(headers_of_the_caller),
        cmocka_unit_test(a_host_of_the_caller),
        cmocka_unit_test(an_own_host_stands_for_that_of_the_url),
        cmocka_unit_test(the_plain_request),
        cmocka_unit_test(the_full_request),
        cmocka_unit_test(credentials),
        cmocka_unit_test(only_101_upgrades),
        cmocka_unit_test(upgrade_connection_and_accept),
        cmocka_unit_test(protocol_of_the_answer),
        cmocka_unit_test(extensions_of_the_answer),
        cmocka_unit_test(rules_are_judged_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
