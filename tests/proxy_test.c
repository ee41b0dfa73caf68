/* engine/proxy: the caller's text, what is said, and every answer at every cut.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/proxy.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define HEAD_MAX 200u
#define INTERIM_MAX 2u
#define LOG_BYTES 1024

/* ---- The caller's text ---- */

static void show_url(char out[600], const struct wsr_proxy_url *url)
{
    static const char *const kinds[] = { "?", "http", "socks5", "socks5h" };
    int at = snprintf(out, 600, "%s %s %u", kinds[url->kind], url->host, url->port);
    if (url->has_credentials)
        snprintf(out + at, (size_t)(600 - at), " %.*s|%.*s", (int)url->user.len, (const char *)url->user.data,
                 (int)url->password.len, (const char *)url->password.data);
}

static void a_text_is_taken_apart(void **state)
{
    static const struct { const char *text, *want; } cases[] = {
        { "http://proxy:3128", "http proxy 3128" }, { "HTTP://PROXY.Example:3128/", "http proxy.example 3128" },
        { "http://127.1:1", "http 127.0.0.1 1" }, { "http://[::0:1]:65535", "http [::1] 65535" },
        { "socks5://h:01080", "socks5 h 1080" }, { "Socks5H://h:9", "socks5h h 9" },
        { "http://b\xc3\xbc" "cher.example:80", "http xn--bcher-kva.example 80" },
        { "http://user@h:1", "http h 1 user|" }, { "http://user:@h:1", "http h 1 user|" },
        { "http://:word@h:1", "http h 1 |word" }, { "http://u:p:q@h:1", "http h 1 u|p:q" },
        { "http://u@v:p@h:1", "http h 1 u@v|p" }, { "http://%75:%zz%@h:1", "http h 1 %75|%zz%" },
        { "http://u:p@[2001:db8::5]:1", "http [2001:db8::5] 1 u|p" },
        { "socks5://u%3Av:p%40@h:1", "socks5 h 1 u%3Av|p%40" },
        { "socks5h://u:\xc3\xa9@h:1", "socks5h h 1 u|\xc3\xa9" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct wsr_proxy_url url;
        struct wsr_fault why = { 0 };
        char shown[600];
        if (wsr_proxy_parse(&url, cases[i].text, &why) != 0)
            fail_msg("'%s': byte %zu: %s", cases[i].text, why.at, why.text);
        show_url(shown, &url);
        assert_string_equal(shown, cases[i].want);
    }
}

static void what_is_no_proxy_is_refused_with_place_and_reason(void **state)
{
    static const struct { const char *text; size_t at; const char *word; } cases[] = {
        { "", 0, "scheme" }, { "proxy:3128", 0, "scheme" }, { "//proxy:3128", 0, "scheme" },
        { "https://proxy:3128", 0, "scheme" }, { "socks4://h:1", 0, "scheme" }, { "socks5x://h:1", 0, "scheme" },
        { "socks://h:1", 0, "scheme" }, { "http:/h:1", 0, "scheme" },
        { "http://", 7, "no host" }, { "http://:80", 7, "no host" }, { "http://u:p@:80", 11, "no host" },
        { "http:///h:1", 7, "no host may hold" }, { "http://h", 8, "no port" }, { "http://h/", 8, "no port" },
        { "http://[::1]", 12, "no port" }, { "http://u:p@h", 12, "no port" },
        { "http://h:", 9, "port" }, { "http://h:0", 10, "port" }, { "http://h:65536", 13, "port" },
        { "http://h:99999999999999999999", 13, "port" }, { "http://h:80x", 11, "port" }, { "http://h:+80", 9, "port" },
        { "http://h:80//", 11, "port" }, { "http://h:80/path", 11, "%2F" }, { "http://h:80?q", 11, "port" },
        { "http://h:80#f", 11, "port" }, { "http://u:p/q@h:80#f", 17, "port" },
        { "http://h h:80", 8, "space" }, { "http://h:80 ", 11, "space" }, { " http://h:80", 0, "space" },
        { "http://h:80\n", 11, "control" }, { "http://u\r\n:p@h:80", 8, "control" },
        { "http://h\x7f:80", 8, "control" },
        { "http://@h:80", 7, "@" }, { "http://:@h:80", 7, "@" },
        { "http://u%0a:p@h:80", 8, "control" }, { "http://u:p%00@h:80", 10, "control" },
        { "socks5://u:%7F@h:80", 11, "control" }, { "http://u%3Av:p@h:80", 8, "colon" },
        { "socks5://u@h:1", 10, "both" }, { "socks5://u:@h:1", 11, "both" }, { "socks5h://:p@h:1", 10, "both" },
        { "http://[::1:80", 7, "bracket" }, { "http://[::1]]:80", 12, "IPv6" }, { "http://[]:80", 8, "IPv6" },
        { "http://[::g]:80", 10, "IPv6" }, { "http://1.2.3.400:80", 7, "IPv4" }, { "http://a%b:80", 8, "host" },
        { "http://a<b:80", 8, "host" }, { "http://\xff:80", 7, "name" }, { "http://::1:80", 7, "host" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct wsr_proxy_url url, before;
        struct wsr_fault why = { 0 };
        memset(&url, 0x5A, sizeof url);
        memcpy(&before, &url, sizeof url);
        if (wsr_proxy_parse(&url, cases[i].text, &why) != WSR_ERR_SYNTAX)
            fail_msg("'%s' is taken", cases[i].text);
        assert_memory_equal(&url, &before, sizeof url);
        if (why.at != cases[i].at || strstr(why.text, cases[i].word) == NULL)
            fail_msg("'%s': byte %zu: %s", cases[i].text, why.at, why.text);
    }
}

static int parse_long(const char *before, size_t count, const char *filler, const char *behind)
{
    char text[2000];
    struct wsr_proxy_url url;
    struct wsr_fault why;
    size_t at = (size_t)snprintf(text, sizeof text, "%s", before);
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", filler);
    snprintf(text + at, sizeof text - at, "%s", behind);
    return wsr_proxy_parse(&url, text, &why);
}

static void lengths_have_their_limits(void **state)
{
    (void)state;
    assert_int_equal(parse_long("socks5://", 255, "u", ":p@h:1"), 0);
    assert_int_equal(parse_long("socks5://", 256, "u", ":p@h:1"), WSR_ERR_SYNTAX);
    assert_int_equal(parse_long("socks5h://u:", 255, "%70", "@h:1"), 0);
    assert_int_equal(parse_long("socks5h://u:", 256, "%70", "@h:1"), WSR_ERR_SYNTAX);
    assert_int_equal(parse_long("http://u:", 600, "%70", "@h:1"), 0);
    assert_int_equal(parse_long("http://", 255, "h", ":1"), 0);
    assert_int_equal(parse_long("http://", 256, "h", ":1"), WSR_ERR_SYNTAX);
}

/* ---- What is said ---- */

static struct wsr_proxy *make(const char *text, const char *host, uint16_t port)
{
    struct wsr_proxy_url url;
    struct wsr_fault why = { 0 };
    struct wsr_proxy *proxy;
    char copy[512];
    snprintf(copy, sizeof copy, "%s", text);
    assert_int_equal(wsr_proxy_parse(&url, copy, &why), 0);
    assert_int_equal(wsr_proxy_create(&proxy, &url, wsr_bytes_of_string(host), port, &why), 0);
    memset(copy, '!', sizeof copy);        /* everything was copied */
    proxy->head_max_bytes = HEAD_MAX;
    proxy->interim_max = INTERIM_MAX;
    return proxy;
}

/* RFC 9110 9.3.6, RFC 7617 2 */
static void connect_names_the_destination_and_gives_credentials_at_once(void **state)
{
    static const struct { const char *proxy, *host; uint16_t port; const char *want; } cases[] = {
        { "http://h:1", "server.example", 80,
          "CONNECT server.example:80 HTTP/1.1\r\nHost: server.example:80\r\n\r\n" },
        { "http://h:1", "[::1]", 65535, "CONNECT [::1]:65535 HTTP/1.1\r\nHost: [::1]:65535\r\n\r\n" },
        { "http://Aladdin:open%20sesame@h:1", "a", 1, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n"
          "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n" },
        { "http://u@h:1", "a", 1, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nProxy-Authorization: Basic dTo=\r\n\r\n" },
        { "http://:p@h:1", "a", 1, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nProxy-Authorization: Basic OnA=\r\n\r\n" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct wsr_proxy *proxy = make(cases[i].proxy, cases[i].host, cases[i].port);
        struct wsr_bytes message = wsr_proxy_message(proxy);
        assert_false(wsr_proxy_wants_address(proxy));
        assert_int_equal(message.len, strlen(cases[i].want));
        assert_memory_equal(message.data, cases[i].want, message.len);
        wsr_proxy_free(proxy);
    }
}

static void to_hex(char *out, struct wsr_bytes bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes.data[i]);
    out[2 * bytes.len] = '\0';
}

/* RFC 1928 3, 4; RFC 1929 2. The three messages, of which the second may be missing. */
static void socks_messages_are_as_the_rfcs_say(void **state)
{
    static const struct { const char *proxy, *host, *messages[3]; } cases[] = {
        { "socks5://h:1", "10.1.2.3", { "050100", "", "050100010a01020301bb" } },
        { "socks5h://h:1", "10.1.2.3", { "050100", "", "050100010a01020301bb" } },
        { "socks5h://h:1", "[2001:db8::5]", { "050100", "", "0501000420010db800000000000000000000000501bb" } },
        { "socks5h://h:1", "ab.c", { "050100", "", "050100030461622e6301bb" } },
        { "socks5h://us:p%40s@h:1", "ab.c", { "05020002", "01027573" "03704073", "050100030461622e6301bb" } },
        { "socks5://h:1", "ab.c", { "050100", "", "" } },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct wsr_proxy *proxy = make(cases[i].proxy, cases[i].host, 443);
        for (size_t k = 0; k < 3; k++) {
            char shown[1200];
            to_hex(shown, proxy->message[WSR_PROXY_GREETING + k]);
            assert_string_equal(shown, cases[i].messages[k]);
        }
        assert_ptr_equal(wsr_proxy_message(proxy).data, proxy->message[WSR_PROXY_GREETING].data);
        wsr_proxy_free(proxy);
    }
}

static void only_socks5_wants_the_address_of_a_name(void **state)
{
    (void)state;
    struct wsr_address address;
    char shown[64];
    struct wsr_proxy *proxy = make("socks5h://h:1", "name", 80);
    assert_false(wsr_proxy_wants_address(proxy));
    wsr_proxy_free(proxy);
    proxy = make("socks5://h:1", "[::1]", 80);
    assert_false(wsr_proxy_wants_address(proxy));
    wsr_proxy_free(proxy);
    static const struct { const char *host, *want; } cases[] = {
        { "10.0.0.7", "050100010a0000071f90" }, { "::2", "05010004000000000000000000000000000000021f90" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        proxy = make("socks5://u:p@h:1", "name", 8080);
        assert_true(wsr_proxy_wants_address(proxy));
        assert_true(wsr_resolve_numeric(&address, cases[i].host, strlen(cases[i].host), 9));
        wsr_proxy_set_address(proxy, &address);
        assert_false(wsr_proxy_wants_address(proxy));
        to_hex(shown, proxy->message[WSR_PROXY_REQUESTING]);
        assert_string_equal(shown, cases[i].want);
        wsr_proxy_free(proxy);
    }
}

static void a_name_that_socks_cannot_carry_is_refused(void **state)
{
    (void)state;
    char name[300];
    struct wsr_proxy_url url;
    struct wsr_fault why = { 0 };
    struct wsr_proxy *proxy = NULL;
    memset(name, 'n', sizeof name);
    static const char *const texts[] = { "http://h:1", "socks5://h:1", "socks5h://h:1" };
    for (size_t i = 0; i < COUNT(texts); i++) {
        for (size_t len = 255; len <= 256; len++) {
            assert_int_equal(wsr_proxy_parse(&url, texts[i], &why), 0);
            int rc = wsr_proxy_create(&proxy, &url, wsr_bytes_of(name, len), 80, &why);
            assert_int_equal(rc, i == 2 && len == 256 ? WSR_ERR_SYNTAX : 0);
            if (rc == 0)
                wsr_proxy_free(proxy);
        }
    }
    assert_non_null(strstr(why.text, "255"));
}

/* ---- What is heard, at every cut ---- */

/* Feed @in in pieces that end at @cuts, and log what comes of it: "speak HEX", "stands AT", "failure STATUS TEXT". */
static void play(char log[LOG_BYTES], struct wsr_proxy *proxy, const uint8_t *in, size_t len, const size_t *cuts,
                 size_t cuts_count)
{
    size_t at = 0, used = 0;
    log[0] = '\0';
    for (size_t i = 0; i <= cuts_count && proxy->state != WSR_PROXY_STANDING; i++) {
        size_t end = i < cuts_count ? cuts[i] : len;
        while (at < end && proxy->state != WSR_PROXY_STANDING) {
            struct wsr_proxy_event event;
            uint8_t *piece = malloc(end - at);
            assert_non_null(piece);
            memcpy(piece, in + at, end - at);
            size_t taken = wsr_proxy_feed(proxy, piece, end - at, &event);
            free(piece);
            assert_in_range(taken, 1, end - at);
            at += taken;
            if (event.type == WSR_PROXY_SPEAK) {
                char hex[600];
                to_hex(hex, wsr_proxy_message(proxy));
                used += (size_t)snprintf(log + used, LOG_BYTES - used, "speak %s\n", hex);
            } else if (event.type == WSR_PROXY_STANDS) {
                used += (size_t)snprintf(log + used, LOG_BYTES - used, "stands %zu\n", at);
            } else if (event.type == WSR_PROXY_FAILURE) {
                used += (size_t)snprintf(log + used, LOG_BYTES - used, "failure %u %s\n", event.http_status,
                                         event.text);
                assert_int_equal(taken, end - (at - taken));
            }
        }
    }
}

static void expect_at_every_cut(const char *text, const uint8_t *in, size_t len, const char *want)
{
    char log[LOG_BYTES], first[LOG_BYTES];
    size_t *each = calloc(len, sizeof *each);
    assert_non_null(each);
    for (size_t i = 0; i + 1 < len; i++)
        each[i] = i + 1;
    for (size_t cut = 0; cut <= len; cut++) {
        struct wsr_proxy *proxy = make(text, "server", 80);
        struct wsr_address address;
        if (wsr_proxy_wants_address(proxy) && wsr_resolve_numeric(&address, "10.0.0.1", 8, 0))
            wsr_proxy_set_address(proxy, &address);
        if (cut == 0)
            play(log, proxy, in, len, NULL, 0);
        else if (cut == len)
            play(log, proxy, in, len, each, len - 1);
        else
            play(log, proxy, in, len, &cut, 1);
        wsr_proxy_free(proxy);
        if (cut == 0)
            memcpy(first, log, sizeof first);
        if (strcmp(log, first) != 0)
            fail_msg("%s, cut at %zu: '%s' and not '%s'", text, cut, log, first);
    }
    free(each);
    size_t want_len = strlen(want);
    bool is_start = want_len > 0 && want[want_len - 1] == '*';
    if (strncmp(first, want, is_start ? want_len - 1 : LOG_BYTES) != 0)
        fail_msg("%s, '%.*s': '%s' and not '%s'", text, (int)len, (const char *)in, first, want);
}

/* RFC 9110 9.3.6, 15.2; RFC 9112 */
static void answers_to_connect(void **state)
{
    static const char plain[] = "http://h:1", known[] = "http://u:p@h:1";
    static const struct { const char *proxy, *in, *want; } cases[] = {
        { plain, "HTTP/1.1 200 Connection established\r\n\r\n", "stands 39\n" },
        { plain, "HTTP/1.0 200 OK\r\n\r\n", "stands 19\n" },
        { plain, "HTTP/1.1 200\r\n\r\nHTTP/1.1 101 S\r\n\r\n", "stands 16\n" },
        { plain, "HTTP/1.1 204 N\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", "stands 65\n" },
        { plain, "HTTP/1.1 299 ?\r\nVia: x\r\n\r\n", "stands 26\n" },
        { plain, "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n!", "stands 64\n" },
        { plain, "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 102 C\r\n\r\n",
          "failure 102 the proxy sent more*" },
        { plain, "HTTP/1.1 101 S\r\n\r\n", "failure 101 the proxy refused*" },
        { plain, "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", "failure 407 the proxy wants credentials*" },
        { known, "HTTP/1.0 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", "failure 407 the proxy does not accept*" },
        { plain, "HTTP/1.1 403 No\r\n\r\n", "failure 403 the proxy does not allow*" },
        { plain, "HTTP/1.1 302 F\r\nLocation: /\r\n\r\n", "failure 302 the proxy answered CONNECT with a redirect*" },
        { plain, "HTTP/1.1 502 B\r\n\r\n", "failure 502 the proxy could not reach*" },
        { plain, "HTTP/1.1 503 B\r\n\r\n", "failure 503 the proxy could not reach*" },
        { plain, "HTTP/1.1 504 B\r\nContent-Length: 3\r\n\r\nabc", "failure 504 the proxy could not reach*" },
        { plain, "HTTP/1.1 400 B\r\n\r\n", "failure 400 the proxy refused the tunnel*" },
        { plain, "HTTP/1.1 199 I\r\n\r\nHTTP/1.1 600 B\r\n\r\n", "failure 600 the proxy refused the tunnel*" },
        { plain, "HTTP/1.1 000 B\r\n\r\n", "failure 0 the proxy refused the tunnel*" },
        { plain, "HTTP/2.0 200 OK\r\n\r\n", "failure 0 the proxy's answer is not HTTP: it*" },
        { plain, "HTTP/1.2 200 OK\r\n\r\n", "failure 0 the proxy's answer is not HTTP: it*" },
        { plain, "HTTP/0.0 200 OK\r\n\r\n", "failure 0 the proxy's answer is not HTTP: it*" },
        { plain, "\x05\x01", "failure 0 the proxy's answer is not HTTP and looks like SOCKS5*" },
        { plain, "SSH-2.0-OpenSSH\r\n", "failure 0 the proxy's answer is not HTTP: it*" },
        { plain, "HTTP/1.1 2x0 OK\r\n\r\n", "failure 0 the status must be*" },
        { plain, "HTTP/1.1 200 OK\n\n", "failure 0 a line of the answer's head ends with LF*" },
        { plain, "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "failure 0 a header*" },
        { plain, "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "failure 0 a header line begins*" },
        { plain, "HTTP/1.1 200 OK\r\nA: b\r\n", "" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        expect_at_every_cut(cases[i].proxy, (const uint8_t *)cases[i].in, strlen(cases[i].in), cases[i].want);
}

/* A head of exactly head_max_bytes passes, one more byte does not, however long the whole would be. */
static void an_answer_has_a_limit(void **state)
{
    (void)state;
    static const char begin[] = "HTTP/1.1 200 OK\r\nA: ";
    for (size_t len = HEAD_MAX - 1; len <= HEAD_MAX + 1; len++) {
        uint8_t head[2 * HEAD_MAX];
        char want[32];
        memset(head, 'x', sizeof head);
        memcpy(head, begin, sizeof begin - 1);
        memcpy(head + len - 4, "\r\n\r\n", 4);
        snprintf(want, sizeof want, "stands %zu\n", len);
        expect_at_every_cut("http://h:1", head, sizeof head, len <= HEAD_MAX ? want
                                                                             : "failure 0 the proxy's answer has a l*");
    }
    /* Each interim answer has a limit of its own. */
    uint8_t heads[2 * HEAD_MAX];
    memset(heads, 'y', sizeof heads);
    memcpy(heads, "HTTP/1.1 100 C\r\nA: ", 19);
    memcpy(heads + 150 - 4, "\r\n\r\n", 4);
    memcpy(heads + 150, begin, sizeof begin - 1);
    memcpy(heads + 300 - 4, "\r\n\r\n", 4);
    expect_at_every_cut("http://h:1", heads, sizeof heads, "stands 300\n");
}

#define NONE_REQUEST "speak 050100030673657276657200" "50\n"
#define LOCAL_REQUEST "speak 050100010a000001" "0050\n"
#define CREDENTIALS "speak 01017501" "70\n"

static size_t from_hex(uint8_t *out, const char *hex)
{
    size_t len = 0;
    for (; *hex != '\0'; hex += *hex == ' ' ? 1 : 2) {
        if (*hex != ' ') {
            const char digits[3] = { hex[0], hex[1], '\0' };
            out[len++] = (uint8_t)strtoul(digits, NULL, 16);
        }
    }
    return len;
}

/* RFC 1928 3, 6; RFC 1929 2 */
static void socks_replies(void **state)
{
    static const char plain[] = "socks5h://h:1", local[] = "socks5://h:1", known[] = "socks5h://u:p@h:1";
    static const struct { const char *proxy, *in, *want; } cases[] = {
        { plain, "0500 05000001 7f000001 1234", NONE_REQUEST "stands 12\n" },
        { local, "0500 05000001 7f000001 1234 48", LOCAL_REQUEST "stands 12\n" },
        { plain, "0500 05000004 20010db8000000000000000000000001 1234 4854", NONE_REQUEST "stands 24\n" },
        { plain, "0500 05000003 03 616263 1234 4854", NONE_REQUEST "stands 12\n" },
        { plain, "0500 05000003 00 1234 05", NONE_REQUEST "stands 9\n" },
        { known, "0500 05000001 00000000 0000 48", NONE_REQUEST "stands 12\n" },
        { known, "0502 0100 05000001 00000000 0000 48", CREDENTIALS NONE_REQUEST "stands 14\n" },
        { plain, "05ff", "failure 0 the proxy wants credentials*" },
        { known, "05ff", "failure 0 the proxy accepts neither*" },
        { plain, "0502", "failure 0 the proxy chose a way*" }, { known, "0501", "failure 0 the proxy chose a way*" },
        { plain, "0580", "failure 0 the proxy chose a way*" },
        { plain, "04", "failure 0 the proxy's answer is not SOCKS5: each*" },
        { plain, "485454502f312e3120343030", "failure 0 the proxy's answer is not SOCKS5 and looks like HTTP*" },
        { known, "0502 0101", CREDENTIALS "failure 0 the proxy does not accept the user*" },
        { known, "0502 01ff", CREDENTIALS "failure 0 the proxy does not accept the user*" },
        { known, "0502 0500", CREDENTIALS "failure 0 the proxy's answer to user*" },
        { plain, "0500 04", NONE_REQUEST "failure 0 the proxy's answer is not SOCKS5*" },
        { plain, "0500 050001", NONE_REQUEST "failure 0 the proxy's SOCKS5 reply is not legal: its reserved*" },
        { plain, "0500 050080", NONE_REQUEST "failure 0 the proxy's SOCKS5 reply is not legal: its reserved*" },
        { plain, "0500 05000002", NONE_REQUEST "failure 0 the proxy's SOCKS5 reply is not legal: its address*" },
        { plain, "0500 05000000", NONE_REQUEST "failure 0 the proxy's SOCKS5 reply is not legal: its address*" },
        { plain, "0500 050500", NONE_REQUEST "failure 0 the destination refused*" },
        { plain, "0500 05000001 7f000001 12", NONE_REQUEST }, { plain, "0500 05000003 ff 00", NONE_REQUEST },
        { plain, "05", "" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t in[300];
        size_t len = from_hex(in, cases[i].in);
        expect_at_every_cut(cases[i].proxy, in, len, cases[i].want);
    }
}

/* The longest reply: a bound name of 255 bytes. */
static void the_bound_address_may_be_as_long_as_it_can(void **state)
{
    (void)state;
    uint8_t in[2 + 4 + 1 + 255 + 2 + 3];
    memset(in, 0x05, sizeof in);
    size_t len = from_hex(in, "0500 05000003 ff");
    assert_int_equal(len, 7);
    expect_at_every_cut("socks5h://h:1", in, sizeof in, NONE_REQUEST "stands 264\n");
}

static void each_reply_code_has_a_sentence_of_its_own(void **state)
{
    (void)state;
    const char *texts[256];
    for (unsigned code = 1; code < 256; code++) {
        struct wsr_proxy *proxy = make("socks5h://h:1", "server", 80);
        const uint8_t in[] = { 5, 0, 5, (uint8_t)code, 0, 1 };
        struct wsr_proxy_event event;
        assert_int_equal(wsr_proxy_feed(proxy, in, sizeof in, &event), 2);
        assert_int_equal(wsr_proxy_feed(proxy, in + 2, sizeof in - 2, &event), 4);
        assert_int_equal(event.type, WSR_PROXY_FAILURE);
        texts[code] = event.text;
        assert_true(strlen(event.text) > 40);
        for (unsigned other = 1; other < code && code <= 9; other++)
            assert_string_not_equal(texts[code], texts[other]);
        if (code > 9)
            assert_ptr_equal(texts[code], texts[9]);
        /* What comes after is nobody's. */
        assert_int_equal(wsr_proxy_feed(proxy, in, sizeof in, &event), sizeof in);
        assert_int_equal(event.type, WSR_PROXY_NOTHING);
        wsr_proxy_free(proxy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_taken_apart),
        cmocka_unit_test(what_is_no_proxy_is_refused_with_place_and_reason),
        cmocka_unit_test(lengths_have_their_limits),
        cmocka_unit_test(connect_names_the_destination_and_gives_credentials_at_once),
        cmocka_unit_test(socks_messages_are_as_the_rfcs_say),
        cmocka_unit_test(only_socks5_wants_the_address_of_a_name),
        cmocka_unit_test(a_name_that_socks_cannot_carry_is_refused),
        cmocka_unit_test(answers_to_connect),
        cmocka_unit_test(an_answer_has_a_limit),
        cmocka_unit_test(socks_replies),
        cmocka_unit_test(the_bound_address_may_be_as_long_as_it_can),
        cmocka_unit_test(each_reply_code_has_a_sentence_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
