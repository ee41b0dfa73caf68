/* What the construction, handshake and cookie tests of web-platform-tests check, on the real driver.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/handlers.h"

#define COUNT_OF(array) (sizeof (array) / sizeof (array)[0])

/* ---- URLs and protocols that connect ---- */

static void check_connecting(const struct wsr_socket *socket)
{
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CONNECTING);
    assert_string_equal(wsr_socket_protocol(socket), "");
    assert_string_equal(wsr_socket_extensions(socket), "");
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
}

static void check_open(const struct wsr_socket *socket, const char *protocol)
{
    assert_int_equal(wsr_socket_ready_state(socket), WSR_OPEN);
    assert_string_equal(wsr_socket_protocol(socket), protocol);
    assert_string_equal(wsr_socket_extensions(socket), "");
    assert_int_equal(wsr_socket_binary_type(socket), WSR_BLOB);
}

/* Create-valid-url.any, Create-valid-url-{protocol,protocol-string,array-protocols,protocol-setCorrectly}.any,
 * Create-valid-url-{protocol-empty,binaryType-blob}.any, Create-extensions-empty.any, opening-handshake/002.html,
 * Create-protocols-repeated-case-insensitive.any (adapted: they are two, as in every browser),
 * interfaces/WebSocket/extensions/001.html, interfaces/WebSocket/protocol/protocol-initial.html,
 * interfaces/WebSocket/readyState/{001,006,007,008}.html, interfaces/CloseEvent/clean-close.html. OQ-2,
 * PROTO-01, PROTO-06, RESP-09, EVT-04, EVT-05, F11 */
static void connect_validly(struct client *client)
{
    static const char *const one[] = { "echo" }, *const two[] = { "foobar", "echo" },
        *const alike[] = { "echo", "eCho" }, *const all[] = { "!#$%&'*+-.^_`~09AZaz", "z" };
    const struct {
        const char *path;
        const char *const *protocols;
        size_t count;
        const char *agreed;
    } rows[] = {
        { "/echo", NULL, 0, "" },          { "/echo", one, 1, "echo" }, { "/echo", two, 2, "foobar" },
        { "/echo", alike, 2, "echo" },     { "/echo?query", all, 2, all[0] }, { "/no-protocol", NULL, 0, "" },
        { "/raw", NULL, 0, "" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_socket *socket;
        const char *url = handlers_url(client, "ws", rows[i].path);
        assert_int_equal(handlers_try(client, url, rows[i].protocols, rows[i].count, NULL, &socket), 0);
        assert_string_equal(wsr_socket_url(socket), url);
        check_connecting(socket);
        client_until(client, WSR_EVENT_OPEN, i + 1);
        check_open(socket, rows[i].agreed);
        assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
        assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
        handlers_until_close(client, "open\nclose 1000 clean\n");
        assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
        assert_string_equal(wsr_socket_protocol(socket), rows[i].agreed);
        assert_string_equal(wsr_socket_url(socket), url);
    }
}

static void valid_urls_and_protocols_connect(void **state)
{
    (void)state;
    handlers_each(connect_validly);
}

/* Create-http-urls.any, interfaces/WebSocket/url/{001,002}.html, the old constructor tests 017, 019, 020. URL-01,
 * 02, 03, 07, 30, 31 */
static void normalise_urls(struct client *client)
{
    static const struct {
        const char *scheme, *rest, *becomes, *request;
    } rows[] = {
        { "http", "", "/", "request GET / HTTP/1.1\n" },
        { "http", "/echo", "/echo", "request GET /echo HTTP/1.1\n" },
        { "WS", "/echo", "/echo", "request GET /echo HTTP/1.1\n" },
        { "hTtP", "/echo?", "/echo?", "request GET /echo HTTP/1.1\n" },
        { " ws", "/a/../echo?x y\n", "/echo?x%20y", "request GET /echo?x%20y HTTP/1.1\n" },
        { "ws", "/echo/%23%zz", "/echo/%23%zz", "request GET /echo/%23%zz HTTP/1.1\n" },
        /* Create-url-with-windows-1252-encoding.html: always from UTF-8. URL-19 */
        { "ws", "/echo?\xC3\xA5\xC3\xA4\xC3\xB6", "/echo?%C3%A5%C3%A4%C3%B6",
          "request GET /echo?%C3%A5%C3%A4%C3%B6 HTTP/1.1\n" },
    };
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_socket *socket;
        const char *url = handlers_url(client, rows[i].scheme, rows[i].rest);
        assert_int_equal(handlers_try(client, url, NULL, 0, NULL, &socket), 0);
        assert_string_equal(wsr_socket_url(socket), handlers_url(client, "ws", rows[i].becomes));
        assert_string_equal(wsr_socket_origin(socket), handlers_url(client, "ws", ""));
        client_until(client, WSR_EVENT_OPEN, i + 1);
        peer_expect(client->peer, i, rows[i].request);
    }
    static const char *const few_slashes[] = { "ws:127.0.0.1:%u/echo", "ws:/127.0.0.1:%u/echo",
                                               "ws:\\\\127.0.0.1:%u\\echo", "ws:///127.0.0.1:%u/echo",
                                               "ws://127.1:0%u/echo" };
    for (unsigned i = 0; i < COUNT_OF(few_slashes); i++) {
        char url[64], port[8];
        struct wsr_socket *socket;
        snprintf(port, sizeof port, "%u", peer_port(client->peer));
        size_t before = strcspn(few_slashes[i], "%");
        snprintf(url, sizeof url, "%.*s%s%s", (int)before, few_slashes[i], port, few_slashes[i] + before + 2);
        assert_int_equal(handlers_try(client, url, NULL, 0, NULL, &socket), 0);
        assert_string_equal(wsr_socket_url(socket), handlers_url(client, "ws", "/echo"));
        client_until(client, WSR_EVENT_OPEN, COUNT_OF(rows) + i + 1);
    }
}

static void urls_are_normalised(void **state)
{
    (void)state;
    handlers_each(normalise_urls);
}

/* Create-http-urls.any: https becomes wss, or there is nothing at all - never clear text. */
static void ask_for_tls(struct client *client)
{
    static const char *const schemes[] = { "https", "wss" };
    for (unsigned i = 0; i < 2; i++) {
        struct wsr_socket *socket = NULL;
        int rc = handlers_try(client, handlers_url(client, schemes[i], "/echo"), NULL, 0, NULL, &socket);
        if (rc == 0)
            assert_memory_equal(wsr_socket_url(socket), "wss://", strlen("wss://"));
        else
            assert_int_equal(rc, WSR_ERR_NOT_SUPPORTED);
        wsr_socket_destroy(socket);
    }
    client_idle(client, 20);
    assert_false(peer_saw(client->peer, 0, "request"));
}

static void https_becomes_wss_and_never_clear_text(void **state)
{
    (void)state;
    handlers_each(ask_for_tls);
}

/* Create-non-absolute-url.any, interfaces/WebSocket/url/resolve.html, with the base of the options. URL-04, URL-05 */
static void resolve(struct client *client)
{
    static const struct {
        const char *input, *path;
    } rows[] = {
        { "test", "/deep/test" }, { "?", "/deep/page?" }, { "null", "/deep/null" }, { "123", "/deep/123" },
        { "/echo", "/echo" },     { "", "/deep/page?q" }, { "../echo", "/echo" },
    };
    char base[64];
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    snprintf(base, sizeof base, "%s", handlers_url(client, "http", "/deep/page?q"));
    options.base_url = base;
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(handlers_try(client, rows[i].input, NULL, 0, &options, &socket), 0);
        assert_string_equal(wsr_socket_url(socket), handlers_url(client, "ws", rows[i].path));
        client_until(client, WSR_EVENT_OPEN, i + 1);
    }
    assert_int_equal(handlers_try(client, "#test", NULL, 0, &options, &socket), WSR_ERR_SYNTAX);
    assert_int_equal(handlers_try(client, "test", NULL, 0, NULL, &socket), WSR_ERR_SYNTAX);
}

static void relative_urls_resolve_against_the_base(void **state)
{
    (void)state;
    handlers_each(resolve);
}

/* What browsers block, but for port 0. */
static const uint16_t ports[] = {
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530,
    531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190,
    5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
};

/* Create-blocked-port.any, adapted: without the flag the list is not applied, only port 0 fails, and that
 * asynchronously. URL-36, OQ-5 */
static void connect_to_ports(struct client *client)
{
    char address[32], url[32], host[32];
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    snprintf(address, sizeof address, "127.0.0.1:%u", peer_port(client->peer));
    options.connect_to = address;
    for (unsigned i = 0; i < COUNT_OF(ports); i++) {
        snprintf(url, sizeof url, "ws://127.0.0.1:%u/echo", ports[i]);
        snprintf(host, sizeof host, "127.0.0.1:%u", ports[i]);
        assert_int_equal(handlers_try(client, url, NULL, 0, &options, &socket), 0);
        assert_string_equal(wsr_socket_url(socket), url);
        client_until(client, WSR_EVENT_OPEN, i + 1);
        assert_string_equal(peer_header(client->peer, i, "Host"), host);
    }
    client->log_bytes = 0;
    client->log[0] = '\0';
    assert_int_equal(handlers_try(client, "ws://127.0.0.1:0/echo", NULL, 0, NULL, &socket), 0);
    check_connecting(socket);
    client_expect(client, "");
    handlers_until_close(client, "error\nclose 1006\n");
}

static void no_port_is_blocked_but_0(void **state)
{
    (void)state;
    handlers_each(connect_to_ports);
}

/* Create-blocked-port.any: first that a good port connects, then an error event for each bad one. URL-36 */
static void connect_to_blocked_ports(struct client *client)
{
    char url[32];
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    options.flags = WSR_SOCKET_REFUSE_BAD_PORTS;
    assert_int_equal(handlers_try(client, handlers_url(client, "ws", "/echo"), NULL, 0, &options, &socket), 0);
    client_until(client, WSR_EVENT_OPEN, 1);
    client->log_bytes = 0;
    client->log[0] = '\0';
    for (unsigned i = 0; i <= COUNT_OF(ports); i++) {
        snprintf(url, sizeof url, "ws://127.0.0.1:%u", i < COUNT_OF(ports) ? ports[i] : 0);
        assert_int_equal(handlers_try(client, url, NULL, 0, &options, &socket), 0);
        check_connecting(socket);
        client_expect(client, "");
        handlers_until_close(client, "error\nclose 1006\n");
        assert_int_equal(client->last[WSR_EVENT_ERROR].system_errno, 0);      /* nobody was asked */
    }
}

static void with_the_flag_ports_are_blocked(void **state)
{
    (void)state;
    handlers_each(connect_to_blocked_ports);
}

/* ---- What is refused ---- */

static void refuse(struct client *client, const char *url, const char *const *protocols, size_t protocols_count)
{
    struct wsr_socket *const untouched = (struct wsr_socket *)(void *)client, *socket = untouched;
    int rc = handlers_try(client, url, protocols, protocols_count, NULL, &socket);
    if (rc != WSR_ERR_SYNTAX || socket != untouched || wsr_error_text()[0] == '\0')
        fail_msg("\"%s\", %zu protocols: %s", url, protocols_count, wsr_error_name(rc));
}

static void check_that_nothing_happened(struct client *client)
{
    client_idle(client, 20);
    client_expect(client, "");
    assert_int_equal(peer_connections(client->peer), 0);
    assert_int_equal(client_statistics(client).sockets_live, 0);
}

/* Create-invalid-urls.any, Create-url-with-space.any, the old constructor test 018. URL-01, 05, 09, 10, 11, 17, F0 */
static void refuse_urls(struct client *client)
{
    static const char *const urls[] = {
        "ws://foo bar.com/", "ftp://127.0.0.1/", "mailto:someone@example.org", "about:blank", "ws://127.0.0.1/#",
        "ws://127.0.0.1/#test", "#test", "test", "", "?", "ws://", "ws:///", "ws://u@/", "ws://127.0.0.1:65536/",
        "ws://127.0.0.1:x/", "ws://[::1/", "ws://256.1.1.1/", "ws://a%00b/", "javascript:0", "blob:ws://127.0.0.1/",
    };
    for (size_t i = 0; i < COUNT_OF(urls); i++)
        refuse(client, urls[i], NULL, 0);
    struct wsr_socket *socket = NULL;
    static const char nul_in_host[] = "ws://a\0b/";
    assert_int_equal(wsr_socket_open(client->engine, nul_in_host, sizeof nul_in_host - 1, NULL, 0, NULL, &socket),
                     WSR_ERR_SYNTAX);
    assert_null(socket);
    check_that_nothing_happened(client);
}

static void invalid_urls_are_syntax_errors(void **state)
{
    (void)state;
    handlers_each(refuse_urls);
}

/* Create-{asciiSep,nonAscii}-protocol-string.any, Create-protocol-with-space.any, Create-protocols-repeated.any, the
 * old constructor tests 004, 006, 007. PROTO-02 to PROTO-05, PROTO-07 */
static void refuse_protocols(struct client *client)
{
    const char *url = peer_url(client->peer);
    for (unsigned byte = 1; byte < 256; byte++) {
        char text[] = { 'a', (char)byte, 'b', '\0' };
        const char *list[] = { text };
        if (byte > 0x20 && byte < 0x7F && strchr("()<>@,;:\\\"/[]?={}", (int)byte) == NULL)
            continue;
        refuse(client, url, list, 1);
    }
    static const char *const empty[] = { "" }, *const comma[] = { "foobar, foobar" },
        *const twice[] = { "echo", "echo" }, *const last[] = { "a", "b", "c", "a" },
        *const second_empty[] = { "a", "" }, *const non_ascii[] = { "\xC3\xA5" };
    refuse(client, url, empty, 1);
    refuse(client, url, comma, 1);
    refuse(client, url, twice, 2);
    refuse(client, url, last, 4);
    refuse(client, url, second_empty, 2);
    refuse(client, url, non_ascii, 1);
    refuse(client, "about:blank", twice, 2);
    assert_non_null(strstr(wsr_error_text(), "ws"));           /* the URL is judged first */
    check_that_nothing_happened(client);
}

static void invalid_protocols_are_syntax_errors(void **state)
{
    (void)state;
    handlers_each(refuse_protocols);
}

/* ---- The request ---- */

/* basic-auth.any. URL-30, URL-32, OQ-4, F5 */
static void authenticate(struct client *client)
{
    char url[64];
    struct wsr_socket *socket;
    const struct {
        const char *user, *log;
    } rows[] = {
        { "foo:bar@", "open\nclose 1000 clean\n" },         { "f%6Fo:bar@", "open\nclose 1000 clean\n" },
        { "foo:wrong@", "error\nclose 1006\n" },            { "", "error\nclose 1006\n" },
    };
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        bool is_good = rows[i].log[0] == 'o';
        snprintf(url, sizeof url, "ws://%s127.0.0.1:%u/basic-auth", rows[i].user, peer_port(client->peer));
        assert_int_equal(handlers_try(client, url, NULL, 0, NULL, &socket), 0);
        assert_string_equal(wsr_socket_url(socket), url);
        if (is_good) {
            client_until(client, WSR_EVENT_OPEN, i + 1);
            assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
        }
        handlers_until_close(client, rows[i].log);
        assert_int_equal(client->last[WSR_EVENT_CLOSE].http_status, is_good ? 0 : 401);
        assert_null(strchr(peer_header(client->peer, i, "Host"), '@'));
    }
}

static void credentials_of_the_url_are_sent(void **state)
{
    (void)state;
    handlers_each(authenticate);
}

/* One that shows a header of the request: the text that comes is @value. */
static void expect_told(struct client *client, const char *path, const struct wsr_header *header, const char *value)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    char log[128];
    options.headers = header;
    options.headers_count = header != NULL;
    assert_int_equal(handlers_try(client, handlers_url(client, "ws", path), NULL, 0, &options, &socket), 0);
    client_until(client, WSR_EVENT_MESSAGE, client->counts[WSR_EVENT_MESSAGE] + 1);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    snprintf(log, sizeof log, "open\ntext %zu %s\nclose 1000 clean\n", strlen(value), value);
    handlers_until_close(client, log);
}

/* referrer.any, opening-handshake/003.html, opening-handshake/003-sets-origin.worker (an Origin that the caller
 * configured), cookies/{001,002,003,004,005,006,007}.html as far as a client without a cookie jar has to do with them:
 * those of the caller are sent, those that a server sets are nobody's. HS-05, HS-06, HS-08, HS-09, OQ-6, RESP-15 */
static void tell_headers(struct client *client)
{
    const struct wsr_header origin = { "Origin", "https://example.org:8443" }, cookie = { "Cookie", "ws_test=test" };
    expect_told(client, "/referrer", NULL, "");
    expect_told(client, "/origin", NULL, "");
    expect_told(client, "/origin", &origin, origin.value);
    expect_told(client, "/cookie", NULL, "");
    expect_told(client, "/cookie", &cookie, cookie.value);
    struct wsr_socket *socket = handlers_connect_open(client, "/set-cookie");
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    handlers_until_close(client, "open\nclose 1000 clean\n");
    expect_told(client, "/cookie", NULL, "");
}

static void no_header_that_the_caller_did_not_ask_for(void **state)
{
    (void)state;
    handlers_each(tell_headers);
}

static void read_set_cookie(struct client *client, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_OPEN)
        return;
    static const char *const cookies[] = { "ws_test=test", "other=1" };
    size_t len;
    for (size_t i = 0; i < COUNT_OF(cookies); i++) {
        const char *value = wsr_socket_response_header(event->socket, "set-cookie", i, &len);
        assert_non_null(value);
        assert_int_equal(len, strlen(cookies[i]));
        assert_memory_equal(value, cookies[i], len);
    }
    assert_null(wsr_socket_response_header(event->socket, "set-cookie", COUNT_OF(cookies), &len));
    client->context = client;
}

/* cookies/{001,002,003,004,005,006,007}.html, the other half: what a server sets can be read when the open event is
 * handled. HS-09, RESP-15, OQ-6 */
static void receive_cookies(struct client *client)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    options.flags = WSR_SOCKET_KEEP_RESPONSE;
    client->react = read_set_cookie;
    assert_int_equal(handlers_try(client, handlers_url(client, "ws", "/set-cookie"), NULL, 0, &options, &socket), 0);
    client_until(client, WSR_EVENT_OPEN, 1);
    assert_ptr_equal(client->context, client);
}

static void cookies_of_the_answer_can_be_read_at_open(void **state)
{
    (void)state;
    handlers_each(receive_cookies);
}

/* security/002.html, adapted: no caller's header may replace one of the handshake. HS-08 */
static void forge_headers(struct client *client)
{
    static const struct wsr_header headers[] = {
        { "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==" }, { "sec-websocket-version", "8" },
        { "Sec-WebSocket-Protocol", "echo" }, { "SEC-WEBSOCKET-EXTENSIONS", "permessage-deflate" },
        { "Upgrade", "h2c" }, { "Connection", "close" }, { "Host", "example.org" }, { "Content-Length", "1" },
        { "X: Y", "z" }, { "X", "y\r\nZ: z" }, { "", "x" },
    };
    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
        struct wsr_socket *socket = NULL;
        options.headers = &headers[i];
        options.headers_count = 1;
        assert_int_equal(handlers_try(client, peer_url(client->peer), NULL, 0, &options, &socket), WSR_ERR_SYNTAX);
        assert_null(socket);
    }
    check_that_nothing_happened(client);
}

static void headers_of_the_handshake_cannot_be_forged(void **state)
{
    (void)state;
    handlers_each(forge_headers);
}

/* ---- The answer ---- */

#define SWITCHING "HTTP/1.1 101 Switching Protocols|"
#define UPGRADE "Upgrade: websocket|Connection: Upgrade|"
#define ACCEPT "Sec-WebSocket-Accept: $accept|"

struct answer {
    const char *script;
    const char *const *protocols;
    size_t protocols_count;
    uint16_t status;
};

static const char *const offered[] = { "foobar" };

/* opening-handshake/{001,received-301-code}.html, security/001.html, the old constructor tests 010, 011, 012. F4 to F6,
 * RESP-01, 03 to 09 */
static const struct answer failing[] = {
    { "request; http FOO BAR BAZ||; end", NULL, 0, 0 },
    { "request; http FOO BAR BAZ; hold", NULL, 0, 0 },
    { "request; end", NULL, 0, 0 },
    { "request; rst", NULL, 0, 0 },
    { "request; http " SWITCHING UPGRADE "; end", NULL, 0, 0 },
    { "request; http HTTP/1.1 301 Moved Permanently|Location: /echo|Content-Length: 0||; end", NULL, 0, 301 },
    { "request; http HTTP/1.1 200 OK|Content-Length: 2||ok; end", NULL, 0, 200 },
    { "request; http HTTP/1.1 403 Forbidden|Content-Length: 0||; end", NULL, 0, 403 },
    { "request; http " SWITCHING UPGRADE "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=||; hold", NULL, 0, 101 },
    { "request; http " SWITCHING UPGRADE "|; hold", NULL, 0, 101 },
    { "request; http " SWITCHING "Connection: Upgrade|" ACCEPT "|; hold", NULL, 0, 101 },
    { "request; http " SWITCHING "Upgrade: websocket|" ACCEPT "|; hold", NULL, 0, 101 },
    { "upgrade Sec-WebSocket-Protocol: foobar; hold", NULL, 0, 101 },
    { "upgrade Sec-WebSocket-Protocol: FOOBAR; hold", offered, 1, 101 },
    { "upgrade; hold", offered, 1, 101 },
    { "upgrade Sec-WebSocket-Extensions: x-webkit-deflate-frame; hold", NULL, 0, 101 },
};

static void fail_handshakes(struct client *client)
{
    for (unsigned i = 0; i < COUNT_OF(failing); i++) {
        struct wsr_socket *socket;
        peer_script(client->peer, failing[i].script);
        assert_int_equal(handlers_try(client, peer_url(client->peer), failing[i].protocols, failing[i].protocols_count,
                                      NULL, &socket), 0);
        handlers_until_close(client, "error\nclose 1006\n");
        const struct wsr_event *close = &client->last[WSR_EVENT_CLOSE];
        if (close->http_status != failing[i].status || close->stage != WSR_STAGE_UPGRADE || close->text[0] == '\0')
            fail_msg("%s: status %u, stage %u", failing[i].script, close->http_status, close->stage);
        assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
        assert_string_equal(wsr_socket_protocol(socket), "");
        assert_false(peer_saw(client->peer, i, "close"));              /* nothing was established, so no frame */
    }
    assert_int_equal(client->counts[WSR_EVENT_OPEN], 0);
    assert_int_equal(peer_connections(client->peer), COUNT_OF(failing));   /* no redirect was followed */
}

static void wrong_answers_fail_without_open(void **state)
{
    (void)state;
    handlers_each(fail_handshakes);
}

/* opening-handshake/{005,006}.html. RESP-01, 02, 06, 10, 14, 15 */
static void accept_answers(struct client *client)
{
    static const char *const heads[] = {
        SWITCHING UPGRADE ACCEPT "|",
        "HTTP/1.1 101 Switching Protocols:|Connection: Upgrade|Upgrade: WebSocket|" ACCEPT
        "Sec-WebSocket-Origin: null||",
        "HTTP/1.1 101|" UPGRADE ACCEPT "|",
        "HTTP/1.1 101 |UPGRADE:  WEBSOCKET |connection:keep-alive, uPgrade|sec-websocket-ACCEPT:$accept|"
        "Content-Length: 9||",
        "HTTP/1.1 103 Early Hints|Link: x||" "HTTP/1.1 100 Continue||" SWITCHING UPGRADE ACCEPT "Set-Cookie: a=b||",
    };
    for (unsigned i = 0; i < COUNT_OF(heads); i++) {
        char script[400];
        snprintf(script, sizeof script, "request; http %s; echo", heads[i]);
        peer_script(client->peer, script);
        struct wsr_socket *socket = handlers_connect_open(client, "/other");
        assert_int_equal(wsr_send(socket, WSR_TEXT, "hello", 5), 0);
        client_until(client, WSR_EVENT_MESSAGE, i + 1);
        assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
        handlers_until_close(client, "open\ntext 5 hello\nclose 1000 clean\n");
    }
}

static void answers_written_differently_are_accepted(void **state)
{
    (void)state;
    handlers_each(accept_answers);
}

/* ---- Constants ---- */

/* interfaces/WebSocket/constants/001.html */
static void the_ready_states_are_0_to_3(void **state)
{
    (void)state;
    assert_int_equal(WSR_CONNECTING, 0);
    assert_int_equal(WSR_OPEN, 1);
    assert_int_equal(WSR_CLOSING, 2);
    assert_int_equal(WSR_CLOSED, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_urls_and_protocols_connect),
        cmocka_unit_test(urls_are_normalised),
        cmocka_unit_test(https_becomes_wss_and_never_clear_text),
        cmocka_unit_test(relative_urls_resolve_against_the_base),
        cmocka_unit_test(no_port_is_blocked_but_0),
        cmocka_unit_test(with_the_flag_ports_are_blocked),
        cmocka_unit_test(invalid_urls_are_syntax_errors),
        cmocka_unit_test(invalid_protocols_are_syntax_errors),
        cmocka_unit_test(credentials_of_the_url_are_sent),
        cmocka_unit_test(no_header_that_the_caller_did_not_ask_for),
        cmocka_unit_test(cookies_of_the_answer_can_be_read_at_open),
        cmocka_unit_test(headers_of_the_handshake_cannot_be_forged),
        cmocka_unit_test(wrong_answers_fail_without_open),
        cmocka_unit_test(answers_written_differently_are_accepted),
        cmocka_unit_test(the_ready_states_are_0_to_3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
