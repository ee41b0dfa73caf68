/* URL records: section 1.1 and 1.2 of the rules, as tables. Every expected href was also compared with Node's URL,
 * where the rule does not say that it differs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/url.h"

struct parsed {
    struct wsr_url url;
    struct wsr_fault why;
    char *text;
    int rc;
};

/* The text has exactly the bytes that are asked for, so that a sanitizer sees the first byte outside it. */
static struct parsed parse_bytes(const char *in, size_t len, const struct wsr_url *base)
{
    struct parsed p = { .why = { 0, NULL } };
    size_t capacity = wsr_url_text_bytes(len, base ? base->href.len : 0);
    char *copy = malloc(len > 0 ? len : 1);
    p.text = malloc(capacity);
    assert_non_null(copy);
    assert_non_null(p.text);
    memcpy(copy, in, len);
    p.rc = wsr_url_parse(&p.url, copy, len, base, p.text, capacity, &p.why);
    free(copy);
    return p;
}

static struct parsed parse(const char *in, const struct wsr_url *base)
{
    return parse_bytes(in, strlen(in), base);
}

static void assert_bytes(struct wsr_bytes got, const char *want, const char *input)
{
    if (got.len != strlen(want) || memcmp(got.data, want, got.len) != 0)
        fail_msg("\"%s\": got \"%.*s\", want \"%s\"", input, (int)got.len, (const char *)got.data, want);
}

static void assert_refused(const struct parsed *p, size_t len, const char *input)
{
    if (p->rc != WSR_ERR_SYNTAX)
        fail_msg("\"%s\" was not refused: %d", input, p->rc);
    assert_non_null(p->why.text);
    assert_true(strlen(p->why.text) > 10);
    assert_true(p->why.at <= len);
}

/* What holds for every record. */
static void assert_sound(const struct wsr_url *url, const char *input)
{
    assert_int_equal(url->href.data[url->href.len], 0);
    assert_int_equal(url->origin.data[url->origin.len], 0);
    assert_int_equal(url->target.data[url->target.len], 0);
    assert_int_equal(url->target.data[0], '/');
    assert_true(url->host.len > 0);
    assert_true(url->authority.len >= url->host.len);
    assert_memory_equal(url->authority.data, url->host.data, url->host.len);
    struct parsed again = parse_bytes((const char *)url->href.data, url->href.len, NULL);
    assert_int_equal(again.rc, 0);
    assert_bytes(again.url.href, (const char *)url->href.data, input);
    assert_bytes(again.url.target, (const char *)url->target.data, input);
    assert_bytes(again.url.origin, (const char *)url->origin.data, input);
    assert_int_equal(again.url.port, url->port);
    assert_int_equal(again.url.host_is_ip, url->host_is_ip);
    free(again.text);
}

struct row {
    const char *in;
    const char *href;    /* NULL = refused */
};

static void run_rows(const struct row *rows, size_t count, const struct wsr_url *base)
{
    for (size_t i = 0; i < count; i++) {
        struct parsed p = parse(rows[i].in, base);
        if (!rows[i].href) {
            assert_refused(&p, strlen(rows[i].in), rows[i].in);
        } else {
            if (p.rc != 0)
                fail_msg("\"%s\" was refused at %zu: %s", rows[i].in, p.why.at, p.why.text);
            assert_bytes(p.url.href, rows[i].href, rows[i].in);
            assert_sound(&p.url, rows[i].in);
        }
        free(p.text);
    }
}

#define RUN_ROWS(rows, base) run_rows(rows, sizeof(rows) / sizeof *(rows), base)

/* URL-01, URL-02, URL-03, URL-04 without a base, URL-05, URL-06 */
static void schemes_and_fragments(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws://h/", "ws://h/" }, { "wss://h/", "wss://h/" }, { "http://h/", "ws://h/" }, { "https://h/", "wss://h/" },
        { "WS://h/", "ws://h/" }, { "wSs://H/", "wss://h/" }, { "HTTPS://h", "wss://h/" },
        { "ftp://h/", NULL }, { "file:///h", NULL }, { "mailto:x@y", NULL }, { "about:blank", NULL },
        { "wsx://h", NULL },
        { "w://h", NULL }, { "ws+unix://h", NULL }, { "data:,x", NULL }, { "javascript:0", NULL },
        { "blob:ws://h", NULL },
        { "http://h:80/", "ws://h/" }, { "http://h:443/", "ws://h:443/" }, { "https://h:80/", "wss://h:80/" },
        { "https://h:443/", "wss://h/" }, { "wss://h:443", "wss://h/" }, { "ws://h:443", "ws://h:443/" },
        { "", NULL }, { " ", NULL }, { "x", NULL }, { "/x", NULL }, { "//h/x", NULL }, { "?", NULL }, { "123", NULL },
        { "ws", NULL }, { "ws:", NULL }, { ":", NULL }, { "://h", NULL }, { "1ws://h", NULL }, { "-ws://h", NULL },
        { "w s://h", NULL }, { "w%73://h", NULL }, { "h:80/", NULL }, { "localhost:8080", NULL },
        { "ws://h/#", NULL }, { "ws://h/#x", NULL }, { "#x", NULL }, { "#", NULL }, { "ws://h#", NULL },
        { "ws://h?#", NULL },
        { "ws://h/?a#b", NULL }, { "ws:#", NULL }, { "ws://u#@h/", NULL }, { "ws://h/a%23b", "ws://h/a%23b" },
        { "ws://h/?%23", "ws://h/?%23" },
    };
    RUN_ROWS(rows, NULL);
}

/* URL-07, URL-08, URL-09, URL-11 */
static void slashes_and_white_space(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws:h/p", "ws://h/p" }, { "ws:/h/p", "ws://h/p" }, { "ws:///h/p", "ws://h/p" }, { "ws://///h/p", "ws://h/p" },
        { "ws:\\\\h\\p", "ws://h/p" }, { "ws:\\h\\p", "ws://h/p" }, { "ws:/\\/h\\p?a\\b", "ws://h/p?a\\b" },
        { "ws://h\\@x/", "ws://h/@x/" }, { "ws://h/a\\b\\..\\c", "ws://h/a/c" },
        { " ws://h/\n", "ws://h/" }, { "\x01\x1f ws://h/ \x02", "ws://h/" }, { "\t\n\rws://h/", "ws://h/" },
        { "w\ns:/\t/h\r/a\tb", "ws://h/ab" }, { "ws://h:8\n0\t8\r0/", "ws://h:8080/" },
        { "ws://h/a b ", "ws://h/a%20b" },
        { "ws://[:\n:1]/", "ws://[::1]/" }, { "ws://h/%\t41", "ws://h/%41" }, { "ws://h/.\n.", "ws://h/" },
        { "ws://foo bar.com/", NULL }, { "ws://h\x01/", NULL }, { "w s://h/", NULL },
        { "ws://", NULL }, { "ws:///", NULL }, { "ws://u@/", NULL }, { "ws://u@", NULL }, { "ws://@", NULL },
        { "ws://u:p@", NULL }, { "ws://:80/", NULL }, { "ws://u@:80/", NULL }, { "ws://?x", NULL },
        { "ws:///h", "ws://h/" },
        { "ws://\\", NULL },
    };
    RUN_ROWS(rows, NULL);
}

/* URL-10, with bytes that no C string can hold. */
static void nul_is_encoded_in_path_and_query_and_refused_in_the_host(void **state)
{
    (void)state;
    struct parsed p = parse_bytes("ws://h/a\0b?c\0d", 14, NULL);
    assert_int_equal(p.rc, 0);
    assert_bytes(p.url.href, "ws://h/a%00b?c%00d", "NUL");
    free(p.text);
    p = parse_bytes("ws://u\0:p\0@h/", 13, NULL);
    assert_int_equal(p.rc, 0);
    assert_bytes(p.url.href, "ws://u%00:p%00@h/", "NUL");
    free(p.text);
    p = parse_bytes("ws://a\0b/", 9, NULL);
    assert_refused(&p, 9, "NUL in host");
    assert_int_equal(p.why.at, 6);
    free(p.text);
    p = parse_bytes("ws://\xc3\xbc\0b/", 10, NULL);
    assert_refused(&p, 10, "NUL in a host that is not ASCII");
    free(p.text);
    p = parse_bytes("ws://a%00b/", 11, NULL);
    assert_refused(&p, 11, "%00 in host");
    free(p.text);
    p = parse_bytes("\0ws://h/\0", 9, NULL);
    assert_int_equal(p.rc, 0);
    assert_bytes(p.url.href, "ws://h/", "outer NUL");
    free(p.text);
}

/* URL-12, URL-13 */
static void domains_become_ascii(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws://EXAMPLE.com", "ws://example.com/" }, { "ws://ex%41mple.com", "ws://example.com/" },
        { "ws://a.b.c./", "ws://a.b.c./" }, { "ws://a..b/", "ws://a..b/" }, { "ws://./", "ws://./" },
        { "ws://-a-/", "ws://-a-/" },
        { "ws://a_b~!$&'()*+,;=/", "ws://a_b~!$&'()*+,;=/" }, { "ws://xn--zz/", "ws://xn--zz/" },
        { "ws://XN--ZZ.a/", "ws://xn--zz.a/" }, { "ws://{}`\"/", "ws://{}`\"/" },
        { "ws://b\xc3\xbc" "cher.example", "ws://xn--bcher-kva.example/" },
        { "ws://B\xc3\x9c" "CHER.Example", "ws://xn--bcher-kva.example/" },
        { "ws://b%C3%BCcher.example", "ws://xn--bcher-kva.example/" },
        { "ws://\xe2\x98\x95.example", "ws://xn--53h.example/" },                      /* a symbol */
        { "ws://i\xe2\x9d\xa4.ws", "ws://xn--i-7iq.ws/" }, { "ws://\xf0\x9f\x92\xa9.la", "ws://xn--ls8h.la/" },
        { "ws://fa\xc3\x9f.de", "ws://xn--fa-hia.de/" },                               /* non-transitional */
        { "ws://\xe1\xba\x9e.de", "ws://ss.de/" },
        { "ws://-\xc3\xbc.de", "ws://xn----eha.de/" }, { "ws://A\xc3\xbc-.de", "ws://xn--a--xka.de/" },
        { "ws://ab--c.\xc3\xbc", "ws://ab--c.xn--tda/" },                              /* CheckHyphens is off */
        { "ws://ab--c\xc3\xbc.de", NULL },                                         /* but libidn2 cannot do this one */
        { "ws://a_b.\xc3\xbc", "ws://a_b.xn--tda/" },                                  /* STD3 is off */
        { "ws://..\xc3\xbc", "ws://..xn--tda/" }, { "ws://\xc3\xbc.", "ws://xn--tda./" },
        { "ws://xn--ls8h.\xc3\xbc", "ws://xn--ls8h.xn--tda/" }, { "ws://XN--LS8H.\xc3\xbc", "ws://xn--ls8h.xn--tda/" },
        { "ws://\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x80\x82\xef\xbc\xaa\xef\xbc\xb0", "ws://xn--wgv71a119e.jp/" },
        { "ws://a\xef\xbc\x8e\xc3\xbc\xef\xbd\xa1z", "ws://a.xn--tda.z/" },            /* the other full stops */
        { "ws://a\xc2\xad" "b.com", "ws://ab.com/" },                                  /* soft hyphen is ignored */
        { "ws://\xe0\xa4\x95\xe0\xa5\x8d\xe2\x80\x8d\xe0\xa4\xb7.in", "ws://xn--11b2ezcw70k.in/" },   /* CheckJoiners */
        { "ws://\xd7\x90" "1.com", "ws://xn--1-zhc.com/" },
        { "ws://\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.1", "ws://127.0.0.1/" },          /* full-width digits */
        { "ws://xn--zz.\xc3\xbc", NULL }, { "ws://xn--a.\xc3\xbc", NULL }, { "ws://xn--.\xc3\xbc", NULL },
        { "ws://xn----eha.\xc3\xbc", "ws://xn----eha.xn--tda/" }, { "ws://xn--1-0hc.\xc3\xbc", NULL },
        { "ws://ab\xe2\x80\x8d" "c.de", NULL },
        { "ws://\xe2\x98\x83\xe2\x80\x8d.com", NULL },
        { "ws://\xd7\x90" "a.com", NULL }, { "ws://a\xd9\xa0\xdb\xb0.com", NULL },     /* CheckBidi */
        { "ws://\xd7\x90\xe2\x98\x83" "a.com", NULL },
        { "ws://\xcc\x80" "b.com", NULL }, { "ws://\xcc\x80" "a--b.com", NULL },       /* begins with a mark */
        { "ws://\xc2\xad", NULL }, { "ws://%C2%AD/", NULL },                           /* maps to nothing */
        { "ws://\xef\xbf\xbd.com", NULL }, { "ws://\xcd\xb8.com", NULL },              /* disallowed, unassigned */
        { "ws://\xef\xbc\x85.com", NULL }, { "ws://\xe2\x84\x80.com", NULL },          /* map to "%" and "a/c" */
        { "ws://a b.\xc3\xbc", NULL }, { "ws://a<b.\xc3\xbc", NULL },
        { "ws://%ff/", NULL }, { "ws://%C3/", NULL }, { "ws://%ED%A0%80/", NULL },     /* not UTF-8 once decoded */
    };
    RUN_ROWS(rows, NULL);
}

/* Write @piece @count times to @out and end it; returns the end. */
static char *repeat(char *out, const char *piece, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out = stpcpy(out, piece);
    *out = '\0';
    return out;
}

/* URL-13: the limits of DNS hold for mapped hosts only. */
static void long_hosts(void **state)
{
    (void)state;
    char in[8192] = "ws://";
    memset(in + 5, 'a', 4000);
    struct parsed p = parse(in, NULL);
    assert_int_equal(p.rc, 0);
    assert_int_equal(p.url.host.len, 4000);
    free(p.text);
    memcpy(in + 5, "\xc3\xbc.", 3);
    p = parse(in, NULL);
    assert_refused(&p, strlen(in), "long label beside a mapped one");
    free(p.text);
    repeat(in + 5, "\xc3\xbc.", 1000);
    p = parse(in, NULL);
    assert_refused(&p, strlen(in), "many mapped labels");
    free(p.text);
    repeat(in + 5, "\xc2\xad\xc3\xbc", 600);
    p = parse(in, NULL);
    assert_refused(&p, strlen(in), "long mapped label");
    free(p.text);
}

/* URL-14: each forbidden domain code point, plain and percent-encoded. */
static void forbidden_code_points(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 0x80; c++) {
        bool forbidden = c <= ' ' || c == 0x7f || memchr("#/:<>?@[\\]^%|", (int)c, 13) != NULL;
        char in[32];
        int len = snprintf(in, sizeof in, "ws://a%%%02xb/", c);
        struct parsed p = parse_bytes(in, (size_t)len, NULL);
        if (forbidden != (p.rc == WSR_ERR_SYNTAX))
            fail_msg("%%%02x: %d", c, p.rc);
        free(p.text);
        bool ends_or_is_removed = memchr("\t\n\r/\\?:@", (int)c, 8) != NULL;
        if (ends_or_is_removed)
            continue;
        memcpy(in, "ws://a.b/", 10);
        in[6] = (char)c;
        p = parse_bytes(in, 9, NULL);
        if (forbidden != (p.rc == WSR_ERR_SYNTAX))
            fail_msg("0x%02x: %d", c, p.rc);
        free(p.text);
    }
}

/* URL-15 */
static void ipv4_numbers(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws://127.1", "ws://127.0.0.1/" }, { "ws://0x7f.1", "ws://127.0.0.1/" },
        { "ws://2130706433", "ws://127.0.0.1/" },
        { "ws://1.2.3.4", "ws://1.2.3.4/" }, { "ws://1.2.3.4.", "ws://1.2.3.4/" }, { "ws://0x", "ws://0.0.0.0/" },
        { "ws://0", "ws://0.0.0.0/" }, { "ws://0x.0X.0", "ws://0.0.0.0/" }, { "ws://017.0x1F.9", "ws://15.31.0.9/" },
        { "ws://1.0x010203", "ws://1.1.2.3/" }, { "ws://1.2.0x304", "ws://1.2.3.4/" },
        { "ws://4294967295", "ws://255.255.255.255/" },
        { "ws://0377.255.0xff.255", "ws://255.255.255.255/" },
        { "ws://00000000000000000000000000000000001", "ws://0.0.0.1/" },
        { "ws://100.10.1.200", "ws://100.10.1.200/" }, { "ws://%31.1", "ws://1.0.0.1/" },
        { "ws://1.16777215", "ws://1.255.255.255/" },
        { "ws://256.1.1.1", NULL }, { "ws://1.2.3.4.5", NULL }, { "ws://4294967296", NULL },
        { "ws://1.16777216", NULL },
        { "ws://1.2.65536", NULL }, { "ws://1.2.3.256", NULL }, { "ws://1.2.3.08", NULL }, { "ws://09", NULL },
        { "ws://1.2.3.0xg", "ws://1.2.3.0xg/" }, { "ws://1..2", NULL }, { "ws://.1", NULL }, { "ws://a.1", NULL },
        { "ws://a.0x1", NULL }, { "ws://a.1.", NULL }, { "ws://1.2.3.4.a", "ws://1.2.3.4.a/" },
        { "ws://1.2.3.4..", "ws://1.2.3.4../" },
        { "ws://99999999999999999999999999999", NULL }, { "ws://0xfffffffffffffffffffffffff", NULL },
        { "ws://1.2.3.-4", "ws://1.2.3.-4/" }, { "ws://1e3", "ws://1e3/" }, { "ws://a.0x.", NULL },
    };
    RUN_ROWS(rows, NULL);
}

/* URL-16 */
static void ipv6_addresses(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws://[::1]:9/", "ws://[::1]:9/" }, { "ws://[0:0::1]", "ws://[::1]/" }, { "ws://[::]", "ws://[::]/" },
        { "ws://[1::]", "ws://[1::]/" }, { "ws://[1:2:3:4:5:6:7:8]", "ws://[1:2:3:4:5:6:7:8]/" },
        { "ws://[FE80::A:0B]", "ws://[fe80::a:b]/" }, { "ws://[0:0:0:0:0:0:0:0]", "ws://[::]/" },
        { "ws://[1:0:0:2:0:0:0:3]", "ws://[1:0:0:2::3]/" }, { "ws://[1:0:0:2:0:0:3:4]", "ws://[1::2:0:0:3:4]/" },
        { "ws://[1:0:2:3:4:5:6:7]", "ws://[1:0:2:3:4:5:6:7]/" }, { "ws://[1::2:3:4:5:6:7]", "ws://[1:0:2:3:4:5:6:7]/" },
        { "ws://[::2:3:4:5:6:7:8]", "ws://[0:2:3:4:5:6:7:8]/" },
        { "ws://[1:2:3:4:5:6:7::]", "ws://[1:2:3:4:5:6:7:0]/" },
        { "ws://[::1.2.3.4]", "ws://[::102:304]/" }, { "ws://[::ffff:255.255.255.255]", "ws://[::ffff:ffff:ffff]/" },
        { "ws://[1:2:3:4:5:6:7.8.9.10]", "ws://[1:2:3:4:5:6:708:90a]/" },
        { "ws://[64:ff9b::0.0.0.0]", "ws://[64:ff9b::]/" },
        { "ws://u:p@[::1]:80/x", "ws://u:p@[::1]/x" }, { "ws://[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
          "ws://[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535/" },
        { "ws://[fe80::1%25eth0]/", NULL }, { "ws://[fe80::1%eth0]/", NULL }, { "ws://[", NULL }, { "ws://[]", NULL },
        { "ws://[::1", NULL }, { "ws://::1]", NULL }, { "ws://[::1]x", NULL }, { "ws://[::1]]", NULL },
        { "ws://x[::1]", NULL },
        { "ws://[:]", NULL }, { "ws://[:::]", NULL }, { "ws://[1:]", NULL }, { "ws://[:1]", NULL },
        { "ws://[::1:]", NULL },
        { "ws://[1::2::3]", NULL }, { "ws://[1:::2]", NULL }, { "ws://[1:2:3:4:5:6:7]", NULL },
        { "ws://[1:2:3:4:5:6:7:8:9]", NULL }, { "ws://[1:2:3:4:5:6:7:8::]", NULL },
        { "ws://[::1:2:3:4:5:6:7:8]", NULL },
        { "ws://[12345::]", NULL }, { "ws://[g::]", NULL }, { "ws://[::1.2.3]", NULL }, { "ws://[::1.2.3.4.5]", NULL },
        { "ws://[::1.2.3.256]", NULL }, { "ws://[::01.2.3.4]", NULL }, { "ws://[::1.2.3.]", NULL },
        { "ws://[::1..3.4]", NULL },
        { "ws://[::.1.2.3]", NULL }, { "ws://[::1.2.3.4:5]", NULL }, { "ws://[1:2:3:4:5:6:7:1.2.3.4]", NULL },
        { "ws://[1.2.3.4]", NULL }, { "ws://[::a.2.3.4]", NULL }, { "ws://[::1.2.3.4 ]", NULL },
        { "ws://[%3A%3A1]", NULL },
        { "ws://[::1]%3A80", NULL }, { "ws://[::00001]", NULL }, { "ws://[\xc3\xbc]", NULL },
    };
    RUN_ROWS(rows, NULL);
}

/* URL-17 */
static void ports(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws://h:80/", "ws://h/" }, { "ws://h:/", "ws://h/" }, { "ws://h:", "ws://h/" },
        { "ws://h:00081/", "ws://h:81/" },
        { "ws://h:0/", "ws://h:0/" }, { "ws://h:000", "ws://h:0/" }, { "ws://h:65535/", "ws://h:65535/" },
        { "ws://h:1", "ws://h:1/" }, { "ws://h:10203?x", "ws://h:10203/?x" }, { "wss://h:80", "wss://h:80/" },
        { "ws://h:0000000000000000000000000000000000000080", "ws://h/" },
        { "ws://h:65536/", NULL }, { "ws://h:99999999999999999999/", NULL }, { "ws://h:8a/", NULL },
        { "ws://h:-1/", NULL },
        { "ws://h:+1/", NULL }, { "ws://h:8 0/", NULL }, { "ws://h:80:80/", NULL }, { "ws://h:%38/", NULL },
        { "ws://a:b:1/", NULL },
    };
    RUN_ROWS(rows, NULL);
    struct parsed p = parse("https://h:80/", NULL);
    assert_int_equal(p.url.port, 80);
    assert_true(p.url.secure);
    free(p.text);
    p = parse("wss://h/", NULL);
    assert_int_equal(p.url.port, 443);
    free(p.text);
    p = parse("http://h:", NULL);
    assert_int_equal(p.url.port, 80);
    assert_false(p.url.secure);
    free(p.text);
}

/* URL-18, URL-20 */
static void paths(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws://h/a/../b", "ws://h/b" }, { "ws://h", "ws://h/" }, { "ws://h/..", "ws://h/" },
        { "ws://h/../../a", "ws://h/a" },
        { "ws://h/a/b/..", "ws://h/a/" }, { "ws://h/a/b/.", "ws://h/a/b/" }, { "ws://h/a/./b", "ws://h/a/b" },
        { "ws://h/.", "ws://h/" },
        { "ws://h/a/%2e%2E/b", "ws://h/b" }, { "ws://h/a/.%2e/b", "ws://h/b" }, { "ws://h/a/%2E./b", "ws://h/b" },
        { "ws://h/a/%2e/b", "ws://h/a/b" }, { "ws://h/a/...", "ws://h/a/..." },
        { "ws://h/a/%2e%2e%2e", "ws://h/a/%2e%2e%2e" },
        { "ws://h/.a/..b/%2ec", "ws://h/.a/..b/%2ec" }, { "ws://h//", "ws://h//" },
        { "ws://h//a//..//b", "ws://h//a//b" },
        { "ws://h/a/..//b", "ws://h//b" }, { "ws://h/a;b=c:@d", "ws://h/a;b=c:@d" },
        { "ws://h/a?b/../c", "ws://h/a?b/../c" },
        { "ws://h/ \"<>^`{}|'~[]\x7f", "ws://h/%20%22%3C%3E%5E%60%7B%7D|'~[]%7F" },
        { "ws://h/\xc3\xa5", "ws://h/%C3%A5" },
        { "ws://h/\x01\x1f", "ws://h/" }, { "ws://h/\x01\x1fz", "ws://h/%01%1Fz" },
        { "ws://h/\xf0\x9f\x92\xa9", "ws://h/%F0%9F%92%A9" },
        { "ws://h/%zz", "ws://h/%zz" }, { "ws://h/%", "ws://h/%" }, { "ws://h/%4", "ws://h/%4" },
        { "ws://h/%41%c3", "ws://h/%41%c3" },
        { "ws://h/%2e%2", "ws://h/%2e%2" }, { "ws://h?%zz", "ws://h/?%zz" },
    };
    RUN_ROWS(rows, NULL);
}

/* URL-19, URL-30 */
static void queries(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws://h/?\xc3\xa5\xc3\xa4\xc3\xb6", "ws://h/?%C3%A5%C3%A4%C3%B6" }, { "ws://h?x", "ws://h/?x" },
        { "ws://h/? \"<>'z", "ws://h/?%20%22%3C%3E%27z" }, { "ws://h/?^`{}|[]\\/?@:~", "ws://h/?^`{}|[]\\/?@:~" },
        { "ws://h/?\x01\x7fz", "ws://h/?%01%7Fz" }, { "ws://h/p?", "ws://h/p?" }, { "ws://h?", "ws://h/?" },
        { "ws://h??", "ws://h/??" },
    };
    RUN_ROWS(rows, NULL);
}

/* URL-30, URL-32: userinfo is kept in the record and encoded. */
static void userinfo(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws://u:p@h/", "ws://u:p@h/" }, { "ws://u@h/", "ws://u@h/" }, { "ws://u:@h/", "ws://u@h/" },
        { "ws://:p@h/", "ws://:p@h/" },
        { "ws://@h/", "ws://h/" }, { "ws://:@h/", "ws://h/" }, { "ws://a@b@h/", "ws://a%40b@h/" },
        { "ws://u:p:q@h/", "ws://u:p%3Aq@h/" },
        { "ws://u:p@q:r@h:1/", "ws://u:p%40q%3Ar@h:1/" },
        { "ws://[u]^|;='\xc3\xbc%41@h", "ws://%5Bu%5D%5E%7C%3B%3D'%C3%BC%41@h/" },
        { "ws://u@h/p@q", "ws://u@h/p@q" }, { "ws://h?u@x", "ws://h/?u@x" },
        { "ws://u \"<>`{}@h", "ws://u%20%22%3C%3E%60%7B%7D@h/" },
    };
    RUN_ROWS(rows, NULL);
    struct parsed p = parse("wss://us%3Aer:p%40ss@h/", NULL);
    assert_int_equal(p.rc, 0);
    assert_bytes(p.url.user, "us%3Aer", "user");
    assert_bytes(p.url.password, "p%40ss", "password");
    free(p.text);
}

/* URL-04, URL-07 */
static void relative_to_a_base(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "x", "wss://a/b/x" }, { "/x", "wss://a/x" }, { "?", "wss://a/b/c?" }, { "123", "wss://a/b/123" },
        { "", "wss://a/b/c?q" },
        { "?y", "wss://a/b/c?y" }, { ".", "wss://a/b/" }, { "..", "wss://a/" }, { "../..", "wss://a/" },
        { "../x?y", "wss://a/x?y" },
        { "//h/x", "wss://h/x" }, { "\\\\h\\x", "wss://h/x" }, { "/\\h", "wss://h/" }, { "\\x", "wss://a/x" },
        { "///h", "wss://h/" },
        { "x:y", NULL }, { "a+b:y", NULL }, { "a-b:y", NULL }, { "a.b:y", NULL }, { "a1:y", NULL },
        { "a_b:y", "wss://a/b/a_b:y" },
        { "./x:y", "wss://a/b/x:y" }, { "#x", NULL }, { "x#", NULL }, { "//", NULL },
        { " x\t\n ", "wss://a/b/x" },
        { "ws:p", "ws://p/" }, { "wss:p", "wss://p/" }, { "https:p", "wss://a/b/p" }, { "https:/p", "wss://a/p" },
        { "https:", "wss://a/b/c?q" },
        { "https:?z", "wss://a/b/c?z" }, { "https://p", "wss://p/" }, { "https:\\\\p", "wss://p/" },
        { "http:p", "ws://p/" },
        { "https:#", NULL }, { "ws://h2/", "ws://h2/" }, { "/", "wss://a/" }, { "x/", "wss://a/b/x/" },
        { "/..", "wss://a/" }, { "h:80", NULL },
    };
    struct parsed base = parse("https://a/b/c?q", NULL);
    assert_int_equal(base.rc, 0);
    RUN_ROWS(rows, &base.url);
    free(base.text);

    static const struct row rest[] = {
        { "x", "ws://u:p%40@[::1]:8080/x" }, { "", "ws://u:p%40@[::1]:8080/?" }, { "ws:x", "ws://u:p%40@[::1]:8080/x" },
        { "ws:/x", "ws://u:p%40@[::1]:8080/x" }, { "ws://x", "ws://x/" }, { "http:x", "ws://x/" },
        { "//h", "ws://h/" }, { "ws:", "ws://u:p%40@[::1]:8080/?" },
    };
    base = parse("ws://u:p%40@[::1]:8080?", NULL);
    assert_int_equal(base.rc, 0);
    RUN_ROWS(rest, &base.url);
    struct parsed p = parse("x?", &base.url);
    assert_int_equal(p.rc, 0);
    assert_bytes(p.url.user, "u", "user of the base");
    assert_bytes(p.url.password, "p%40", "password of the base");
    assert_bytes(p.url.host, "[::1]", "host of the base");
    assert_int_equal(p.url.port, 8080);
    assert_true(p.url.host_is_ip);
    free(p.text);
    free(base.text);
}

/* URL-21, OQ-3 */
static void input_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *tail;
        size_t bad;
    } rows[] = {
        { "\xff", 0 }, { "\x80", 0 }, { "\xc0\x80", 0 }, { "\xc1\xbf", 0 }, { "\xc3", 0 }, { "\xc3z", 0 },
        { "\xe0\x9f\x80", 0 },
        { "\xe2\x82", 0 }, { "\xe2\x82z", 0 }, { "\xed\xa0\x80", 0 }, { "\xed\xbf\xbf", 0 },
        { "\xf0\x8f\x80\x80", 0 }, { "\xf4\x90\x80\x80", 0 },
        { "\xf5\x80\x80\x80", 0 }, { "\xf0\x9f\x92", 0 }, { "\xc3\xbc\xc3", 2 }, { "ab\xf0\x9f\x92\xa9\xfe", 6 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char in[32];
        snprintf(in, sizeof in, "ws://h/%s", rows[i].tail);
        struct parsed p = parse(in, NULL);
        assert_refused(&p, strlen(in), in);
        assert_int_equal(p.why.at, 7 + rows[i].bad);
        free(p.text);
    }
    static const struct row good[] = {
        { "ws://h/\xc2\x80", "ws://h/%C2%80" }, { "ws://h/\xe0\xa0\x80", "ws://h/%E0%A0%80" },
        { "ws://h/\xed\x9f\xbf", "ws://h/%ED%9F%BF" },
        { "ws://h/\xee\x80\x80", "ws://h/%EE%80%80" }, { "ws://h/\xf0\x90\x80\x80", "ws://h/%F0%90%80%80" },
        { "ws://h/\xf4\x8f\xbf\xbf", "ws://h/%F4%8F%BF%BF" },
    };
    RUN_ROWS(good, NULL);
}

/* URL-31, URL-33, URL-35 */
static void parts_of_the_record(void **state)
{
    (void)state;
    static const struct {
        const char *in, *target, *authority, *origin, *host;
        bool is_ip;
    } rows[] = {
        { "ws://h/p?", "/p", "h", "ws://h", "h", false }, { "ws://h?", "/", "h", "ws://h", "h", false },
        { "ws://h/p??", "/p??", "h", "ws://h", "h", false }, { "ws://h/p?x?", "/p?x?", "h", "ws://h", "h", false },
        { "ws://h/p?q=1", "/p?q=1", "h", "ws://h", "h", false },
        { "ws://u:p@h:8080/", "/", "h:8080", "ws://h:8080", "h", false },
        { "wss://H:443/a", "/a", "h", "wss://h", "h", false }, { "wss://h:80", "/", "h:80", "wss://h:80", "h", false },
        { "ws://[::1]:9/", "/", "[::1]:9", "ws://[::1]:9", "[::1]", true },
        { "wss://[::1]", "/", "[::1]", "wss://[::1]", "[::1]", true },
        { "https://127.1:8443/x", "/x", "127.0.0.1:8443", "wss://127.0.0.1:8443", "127.0.0.1", true },
        { "ws://u@127.1.a/", "/", "127.1.a", "ws://127.1.a", "127.1.a", false },
        { "ws://h:0/", "/", "h:0", "ws://h:0", "h", false },
        { "ws://b\xc3\xbc" "cher.de/", "/", "xn--bcher-kva.de", "ws://xn--bcher-kva.de", "xn--bcher-kva.de", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parsed p = parse(rows[i].in, NULL);
        assert_int_equal(p.rc, 0);
        assert_bytes(p.url.target, rows[i].target, rows[i].in);
        assert_bytes(p.url.authority, rows[i].authority, rows[i].in);
        assert_bytes(p.url.origin, rows[i].origin, rows[i].in);
        assert_bytes(p.url.host, rows[i].host, rows[i].in);
        assert_int_equal(p.url.host_is_ip, rows[i].is_ip);
        assert_sound(&p.url, rows[i].in);
        free(p.text);
    }
}

/* URL-36, OQ-5: a port that browsers block parses; whether to connect is not decided here. */
static void blocked_ports_parse(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "ws://h:25/", "ws://h:25/" }, { "ws://h:6667/", "ws://h:6667/" }, { "wss://h:10080", "wss://h:10080/" },
    };
    RUN_ROWS(rows, NULL);
}

static void the_place_of_a_fault_is_in_the_input(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t at;
    } rows[] = {
        { "ftp://h/", 0 }, { " \t x", 3 }, { "ws://h/ab#c", 9 }, { "ws://h:8a/", 8 }, { "ws://a<b/", 6 },
        { "ws:\t//h:\n8\ra/", 11 },
        { "ws://u@/", 7 }, { "  ws://a^b", 8 }, { "ws://h:65536", 11 }, { "ws://1.2.3.256", 5 },
        { "ws://[1::2::3]", 11 }, { "ws://", 5 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct parsed p = parse(rows[i].in, NULL);
        assert_refused(&p, strlen(rows[i].in), rows[i].in);
        if (p.why.at != rows[i].at)
            fail_msg("\"%s\": at %zu, want %zu", rows[i].in, p.why.at, rows[i].at);
        free(p.text);
    }
}

static void a_text_that_is_too_small_is_not_touched(void **state)
{
    (void)state;
    const char in[] = "ws://u:p@h:81/a?b";
    size_t needed = wsr_url_text_bytes(sizeof in - 1, 0);
    for (size_t capacity = 0; capacity < needed; capacity++) {
        struct wsr_url url;
        struct wsr_fault why;
        char *text = malloc(capacity + 1);
        memset(text, 0x5a, capacity + 1);
        assert_int_equal(wsr_url_parse(&url, in, sizeof in - 1, NULL, text, capacity, &why), WSR_ERR_MEMORY);
        for (size_t i = 0; i <= capacity; i++)
            assert_int_equal(text[i], 0x5a);
        free(text);
    }
    assert_true(wsr_url_text_bytes(SIZE_MAX, 0) == SIZE_MAX);
    assert_true(wsr_url_text_bytes(0, SIZE_MAX) == SIZE_MAX);
}

/* The most that each part of the text can need, all at once and one by one. */
static void the_worst_inputs_fit(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "ws://1", "ws:0/", "ws://u:", "ws:x?", "ws://[::1.2.3.4]:1/", "ws:\xef\xb7\xba?", "",
    };
    static const char *const fills[] = { "\x01", "\xf0\x9f\x92\xa9", "\"", "/", "?", "a", "%", "." };
    struct parsed base = parse("ws://u:p@h:81/a/b?c", NULL);
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++) {
        for (size_t f = 0; f < sizeof fills / sizeof *fills; f++) {
            for (size_t count = 0; count < 70; count++) {
                char in[512];
                char *end = repeat(stpcpy(in, heads[h]), fills[f], count);
                for (int tail = 0; tail < 3; tail++) {
                    if (tail > 0)
                        end = stpcpy(end, tail == 1 ? "@x" : "?");
                    struct parsed p = parse(in, heads[h][0] ? NULL : &base.url);
                    if (p.rc == 0)
                        assert_sound(&p.url, in);
                    free(p.text);
                }
            }
        }
    }
    free(base.text);
}

/* URL Standard, percent-decode. */
static void percent_decode(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "", "" }, { "a", "a" }, { "%41", "A" }, { "%4", "%4" }, { "%", "%" }, { "%%41", "%A" }, { "%zz", "%zz" },
        { "%4g%67", "%4gg" },
        { "%25%34%31", "%41" }, { "a%2fB%2F", "a/B/" }, { "%FF%fe", "\xff\xfe" }, { "+", "+" },
        { "%0a%0A%0", "\n\n%0" }, { "%7f%F0", "\x7f\xf0" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t out[32];
        size_t len = wsr_url_percent_decode(out, wsr_bytes_of_string(rows[i].in));
        assert_int_equal(len, strlen(rows[i].out));
        assert_memory_equal(out, rows[i].out, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schemes_and_fragments),
        cmocka_unit_test(slashes_and_white_space),
        cmocka_unit_test(nul_is_encoded_in_path_and_query_and_refused_in_the_host),
        cmocka_unit_test(domains_become_ascii),
        cmocka_unit_test(long_hosts),
        cmocka_unit_test(forbidden_code_points),
        cmocka_unit_test(ipv4_numbers),
        cmocka_unit_test(ipv6_addresses),
        cmocka_unit_test(ports),
        cmocka_unit_test(paths),
        cmocka_unit_test(queries),
        cmocka_unit_test(userinfo),
        cmocka_unit_test(relative_to_a_base),
        cmocka_unit_test(input_that_is_not_utf8_is_refused),
        cmocka_unit_test(parts_of_the_record),
        cmocka_unit_test(blocked_ports_parse),
        cmocka_unit_test(the_place_of_a_fault_is_in_the_input),
        cmocka_unit_test(a_text_that_is_too_small_is_not_touched),
        cmocka_unit_test(the_worst_inputs_fit),
        cmocka_unit_test(percent_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
