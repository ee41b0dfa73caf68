/* The response head: RESP-01, RESP-10, RESP-11, RESP-12, RESP-13 and the parts of RESP-02, RESP-15 that are parsing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/http.h"

/* A copy that ends where its allocation ends, so that a sanitizer sees the first byte read behind it. */
static uint8_t *copy_of(const void *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, data, len);
    return copy;
}

static ptrdiff_t parse_whole(struct wsr_http_response *out, const uint8_t *in, size_t len, struct wsr_fault *why)
{
    size_t scanned = 0;
    return wsr_http_parse(out, in, len, &scanned, why);
}

/* Feed prefixes of @ends[0], @ends[1], ... bytes, with *scanned carried, until something but "need more". */
static ptrdiff_t parse_prefixes(struct wsr_http_response *out, const uint8_t *in, const size_t *ends, size_t count,
                                size_t *used, struct wsr_fault *why)
{
    size_t scanned = 0;
    ptrdiff_t rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        uint8_t *prefix = copy_of(in, ends[i]);
        rc = wsr_http_parse(out, prefix, ends[i], &scanned, why);
        assert_true(scanned <= ends[i]);
        free(prefix);
        *used = ends[i];
    }
    return rc;
}

static void expect_same(const struct wsr_http_response *want, const struct wsr_fault *fault, ptrdiff_t whole,
                        const uint8_t *in, const size_t *ends, size_t count)
{
    struct wsr_http_response response = { 0 };
    struct wsr_fault why = { 0, NULL };
    size_t used = 0;
    assert_int_equal(parse_prefixes(&response, in, ends, count, &used, &why), whole);
    if (whole < 0) {
        assert_ptr_equal(why.text, fault->text);
        assert_int_equal(why.at, fault->at);
    } else if (whole > 0) {
        assert_int_equal(response.status, want->status);
        assert_int_equal(response.reason.len, want->reason.len);
        assert_int_equal(response.fields.len, want->fields.len);
        assert_true(count < 4 || used == (size_t)whole);       /* byte by byte: not one too many was asked for */
    }
}

#define PAIRS_MAX 90    /* bytes up to which all cuts in three are tried */

/* The same outcome, and fault, for the whole, for every cut in two, in three, and byte by byte. RESP-13 */
static ptrdiff_t parse_every_way(struct wsr_http_response *out, struct wsr_fault *why, const uint8_t *in, size_t len)
{
    size_t each[1024];
    ptrdiff_t whole = parse_whole(out, in, len, why);
    assert_true(len < sizeof each / sizeof *each);
    for (size_t i = 0; i <= len; i++)
        each[i] = i;
    expect_same(out, why, whole, in, each, len + 1);
    for (size_t cut = 0; cut <= len; cut++) {
        for (size_t second = cut; second <= (len <= PAIRS_MAX ? len : cut); second++)
            expect_same(out, why, whole, in, (size_t[]){ cut, second, len }, 3);
    }
    return whole;
}

static void assert_bytes(struct wsr_bytes got, const char *want)
{
    if (got.len != strlen(want) || memcmp(got.data, want, got.len) != 0)
        fail_msg("got \"%.*s\", want \"%s\"", (int)got.len, (const char *)got.data, want);
}

static void accept_status_line(const char *line, unsigned status, const char *reason)
{
    char head[256];
    int len = snprintf(head, sizeof head, "%s\r\nA: b\r\n\r\n", line);
    struct wsr_http_response response;
    struct wsr_fault why;
    assert_int_equal(parse_every_way(&response, &why, (uint8_t *)head, (size_t)len), len);
    assert_int_equal(response.status, status);
    assert_bytes(response.reason, reason);
    assert_bytes(response.fields, "A: b\r\n");
}

static void refuse(const void *head, size_t len, size_t at)
{
    struct wsr_http_response response;
    struct wsr_fault why = { 0, NULL };
    if (parse_every_way(&response, &why, head, len) != WSR_ERR_SYNTAX)
        fail_msg("not refused: \"%s\"", (const char *)head);
    assert_non_null(why.text);
    if (why.at != at)
        fail_msg("\"%s\": at %zu, want %zu", (const char *)head, why.at, at);
}

static void refuse_line(const char *line, size_t at)
{
    char head[256];
    int len = snprintf(head, sizeof head, "HTTP/1.1 101 X\r\nA: b\r\n%s\r\n\r\n", line);
    refuse(head, (size_t)len, 22 + at);
    len = snprintf(head, sizeof head, "HTTP/1.1 101 X\r\n%s\r\nA: b\r\n\r\n", line);
    refuse(head, (size_t)len, 16 + at);
}

/* RESP-01, RESP-02 */
static void status_lines(void **state)
{
    (void)state;
    accept_status_line("HTTP/1.1 101 Switching Protocols", 101, "Switching Protocols");
    accept_status_line("HTTP/1.1 101 Switching Protocols:", 101, "Switching Protocols:");
    accept_status_line("HTTP/1.1 101", 101, "");
    accept_status_line("HTTP/1.1 101 ", 101, "");
    accept_status_line("HTTP/1.1 101  two  spaces\t", 101, " two  spaces\t");
    accept_status_line("HTTP/1.1 200 \xc3\xa9\xff", 200, "\xc3\xa9\xff");
    accept_status_line("HTTP/1.1 100 Continue", 100, "Continue");
    accept_status_line("HTTP/1.1 999 x", 999, "x");
    accept_status_line("HTTP/1.1 000 x", 0, "x");
    static const struct {
        const char *line;
        size_t at;
    } bad[] = {
        { "HTTP/1.0 101 X", 7 }, { "HTTP/0.9 101 X", 5 }, { "HTTP/2 101 X", 5 }, { "HTTP/1.2 101 X", 7 },
        { "http/1.1 101 X", 0 },
        { " HTTP/1.1 101 X", 0 }, { "\r\nHTTP/1.1 101 X", 0 }, { "HTTP/1.1\t101 X", 8 }, { "HTTP/1.1  101 X", 9 },
        { "HTTP/1.1101 X", 8 },
        { "HTTP/1.1 10 X", 11 }, { "HTTP/1.1 1010 X", 12 }, { "HTTP/1.1 1x1 X", 10 }, { "HTTP/1.1 +10 X", 9 },
        { "HTTP/1.1 101\tX", 12 },
        { "HTTP/1.1", 8 }, { "HTTP/1.1 ", 9 }, { "HTTP/1.1 10", 11 }, { "HTTP/1.11 101 X", 8 }, { "ICY 200 OK", 0 },
        { "<html>", 0 },
        { "HTTP/1.1 101 a\rb", 14 }, { "HTTP/1.1 101 a\x01", 14 }, { "HTTP/1.1 101 \x7f", 13 },
        { "HTTP/1.1 101\r", 12 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char head[128];
        int len = snprintf(head, sizeof head, "%s\r\nA: b\r\n\r\n", bad[i].line);
        refuse(head, (size_t)len, bad[i].at);
    }
    refuse("HTTP/1.1 101 a\0b\r\n\r\n", 20, 14);
    refuse("HTTP/1.1 101\n\r\n", 15, 12);
    refuse("HTTP/1.1 101 X\n\r\n", 17, 14);
    refuse("\n", 1, 0);
    refuse("", 1, 0);
}

/* RESP-01: no LF is needed to see that it is no HTTP/1.1. */
static void garbage_fails_at_its_first_byte(void **state)
{
    (void)state;
    const char start[] = "HTTP/1.1 101 ";
    for (size_t good = 0; good < sizeof start - 1; good++) {
        char head[32];
        memcpy(head, start, good);
        head[good] = '!';
        struct wsr_http_response response;
        struct wsr_fault why;
        size_t scanned = 0;
        if (good > 0) {
            assert_int_equal(wsr_http_parse(&response, (uint8_t *)head, good, &scanned, &why), 0);
            assert_int_equal(scanned, good);
        }
        assert_int_equal(wsr_http_parse(&response, (uint8_t *)head, good + 1, &scanned, &why), WSR_ERR_SYNTAX);
        assert_int_equal(why.at, good);
    }
}

/* RESP-10 */
static void a_folded_line_is_named(void **state)
{
    (void)state;
    static const char *const folds[] = { " x", "\tx: y" };
    for (size_t i = 0; i < 2; i++) {
        char head[64];
        int len = snprintf(head, sizeof head, "HTTP/1.1 101 X\r\nA: b\r\n%s\r\n\r\n", folds[i]);
        struct wsr_http_response response;
        struct wsr_fault why = { 0, NULL };
        assert_int_equal(parse_whole(&response, (uint8_t *)head, (size_t)len, &why), WSR_ERR_SYNTAX);
        assert_non_null(strstr(why.text, "folded"));
    }
}

/* RESP-10 */
static void bad_field_lines(void **state)
{
    (void)state;
    refuse_line(" folded", 0);
    refuse_line("\tfolded", 0);
    refuse_line(" ", 0);
    refuse_line("Name : x", 4);
    refuse_line("Name\t: x", 4);
    refuse_line("Name", 0);
    refuse_line("Na me: x", 2);
    refuse_line(": x", 0);
    refuse_line(":", 0);
    refuse_line("N\xc3\xa4me: x", 1);
    refuse_line("Name: a\rb", 7);
    refuse_line("Name: a\r", 7);
    refuse_line("\rName: a", 0);
    refuse_line("Na\rme: a", 2);
    refuse_line("Name: \x01", 6);
    refuse_line("Name: a\x1f" "b", 7);
    refuse_line("Name: a\x7f", 7);
    refuse_line("Name: a\nB: c", 7);
    refuse_line("Name: a\n", 7);
    refuse_line("(x): a", 0);
    refuse("HTTP/1.1 101 X\r\nA: \0\r\n\r\n", 24, 19);
    refuse("HTTP/1.1 101 X\r\nA\0: b\r\n\r\n", 25, 17);
    refuse("HTTP/1.1 101 X\r\nA: b\r\n\n", 23, 22);
    refuse("HTTP/1.1 101 X\r\n\n", 17, 16);
    refuse("HTTP/1.1 101 X\r\nA: b\n\n", 22, 20);
}

/* RESP-10, RESP-15: every field is there, trimmed, in order. */
static void fields_are_given_one_by_one(void **state)
{
    (void)state;
    const char head[] = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nEMPTY:\r\nBlank: \t \r\n"
                        "x!#$%&'*+-.^_`|~9:\t a  b:c \t\r\n"
                        "Set-Cookie:a=b\r\nset-cookie: \xc3\xa9\xff\r\n\r\n";
    static const struct {
        const char *name, *value;
    } want[] = {
        { "Upgrade", "websocket" }, { "EMPTY", "" }, { "Blank", "" }, { "x!#$%&'*+-.^_`|~9", "a  b:c" },
        { "Set-Cookie", "a=b" },
        { "set-cookie", "\xc3\xa9\xff" },
    };
    struct wsr_http_response response;
    struct wsr_fault why;
    assert_int_equal(parse_every_way(&response, &why, (const uint8_t *)head, sizeof head - 1), sizeof head - 1);
    struct wsr_bytes rest = response.fields;
    struct wsr_http_field field;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(wsr_http_next_field(&rest, &field));
        assert_bytes(field.name, want[i].name);
        assert_bytes(field.value, want[i].value);
    }
    assert_false(wsr_http_next_field(&rest, &field));
    assert_false(wsr_http_next_field(&rest, &field));
}

static void a_head_without_fields(void **state)
{
    (void)state;
    const char head[] = "HTTP/1.1 101\r\n\r\n";
    struct wsr_http_response response;
    struct wsr_fault why;
    assert_int_equal(parse_every_way(&response, &why, (const uint8_t *)head, sizeof head - 1), sizeof head - 1);
    assert_int_equal(response.fields.len, 0);
    struct wsr_http_field field;
    assert_false(wsr_http_next_field(&response.fields, &field));
}

/* RESP-12: what follows the blank line, even if it looks like a header or is garbage, is not the head's. */
static void bytes_behind_the_head_are_left_alone(void **state)
{
    (void)state;
    const char in[] = "HTTP/1.1 101 X\r\nA: b\r\n\r\n\x81\x05hello\n\0\r\n bad";
    struct wsr_http_response response;
    struct wsr_fault why;
    assert_int_equal(parse_every_way(&response, &why, (const uint8_t *)in, sizeof in - 1), 24);
    assert_bytes(response.fields, "A: b\r\n");
}

/* RESP-02: interim answers are heads of their own. */
static void an_interim_answer_ends_at_its_blank_line(void **state)
{
    (void)state;
    const char in[] = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 101 X\r\n\r\n";
    struct wsr_http_response response;
    struct wsr_fault why;
    ptrdiff_t first = parse_whole(&response, (const uint8_t *)in, sizeof in - 1, &why);
    assert_int_equal(first, 40);
    assert_int_equal(response.status, 103);
    assert_int_equal(parse_whole(&response, (const uint8_t *)in + first, sizeof in - 1 - (size_t)first, &why), 18);
    assert_int_equal(response.status, 101);
}

/* RESP-11: the number of fields has no limit here; the bytes have the caller's. */
static void a_hundred_thousand_fields(void **state)
{
    (void)state;
    const size_t count = 100000;
    const char status[] = "HTTP/1.1 101 X\r\n";
    const char line[] = "N: v\r\n";
    size_t len = sizeof status - 1 + count * (sizeof line - 1) + 2;
    uint8_t *head = malloc(len);
    assert_non_null(head);
    memcpy(head, status, sizeof status - 1);
    for (size_t i = 0; i < count; i++)
        memcpy(head + sizeof status - 1 + i * (sizeof line - 1), line, sizeof line - 1);
    memcpy(head + len - 2, "\r\n", 2);

    struct wsr_http_response response;
    struct wsr_fault why;
    const size_t limit = 65536;
    size_t scanned = 0;
    assert_int_equal(wsr_http_parse(&response, head, limit, &scanned, &why), 0);    /* the caller stops here */
    assert_int_equal(scanned, limit);
    for (size_t now = limit; now < len; now += 977)
        assert_int_equal(wsr_http_parse(&response, head, now, &scanned, &why), 0);
    assert_int_equal(wsr_http_parse(&response, head, len, &scanned, &why), len);
    struct wsr_bytes rest = response.fields;
    struct wsr_http_field field;
    size_t seen = 0;
    while (wsr_http_next_field(&rest, &field))
        seen++;
    assert_int_equal(seen, count);
    free(head);
}

/* A line without end, byte by byte: nothing is scanned twice, or this would be a minute and not a moment. */
static void an_endless_line_is_scanned_once(void **state)
{
    (void)state;
    const size_t len = 1 << 20;
    uint8_t *head = malloc(len);
    assert_non_null(head);
    memset(head, 'a', len);
    memcpy(head, "HTTP/1.1 101 X\r\nName: ", 22);
    struct wsr_http_response response;
    struct wsr_fault why;
    size_t scanned = 0;
    for (size_t now = 1; now <= len; now++) {
        assert_true(wsr_http_parse(&response, head, now, &scanned, &why) == 0);
        assert_true(scanned == now);
    }
    free(head);
}

static void names_are_compared_without_case(void **state)
{
    (void)state;
    assert_true(wsr_http_name_is(wsr_bytes_of_string("UPGRADE"), "upgrade"));
    assert_true(wsr_http_name_is(wsr_bytes_of_string("upgrade"), "upgrade"));
    assert_true(wsr_http_name_is(wsr_bytes_of_string("Sec-WebSocket-Key"), "sec-websocket-key"));
    assert_false(wsr_http_name_is(wsr_bytes_of_string("upgrad"), "upgrade"));
    assert_false(wsr_http_name_is(wsr_bytes_of_string("upgrades"), "upgrade"));
    assert_false(wsr_http_name_is(wsr_bytes_of_string(""), "upgrade"));
    assert_false(wsr_http_name_is(wsr_bytes_of_string("\x0d"), "-"));         /* only letters fold */
    assert_false(wsr_http_name_is(wsr_bytes_of_string("@"), "`"));
    assert_false(wsr_http_name_is(wsr_bytes_of("web\0", 4), "web"));
    assert_false(wsr_http_name_is(wsr_bytes_of_string("web\xe2\x84\xaa"), "webk"));    /* the Kelvin sign is no k */
}

/* PROTO-02 rests on this: tchar, byte for byte. */
static void tokens(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        uint8_t byte = (uint8_t)c;
        bool want = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                    (c != 0 && c < 128 && strchr("!#$%&'*+-.^_`|~", (int)c));
        assert_int_equal(wsr_http_is_token(wsr_bytes_of(&byte, 1)), want);
        uint8_t middle[3] = { 'a', byte, 'z' };
        assert_int_equal(wsr_http_is_token(wsr_bytes_of(middle, 3)), want);
    }
    assert_false(wsr_http_is_token(wsr_bytes_of("", 0)));
    assert_false(wsr_http_is_token(wsr_bytes_of(NULL, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_lines),
        cmocka_unit_test(garbage_fails_at_its_first_byte),
        cmocka_unit_test(a_folded_line_is_named),
        cmocka_unit_test(bad_field_lines),
        cmocka_unit_test(fields_are_given_one_by_one),
        cmocka_unit_test(a_head_without_fields),
        cmocka_unit_test(bytes_behind_the_head_are_left_alone),
        cmocka_unit_test(an_interim_answer_ends_at_its_blank_line),
        cmocka_unit_test(a_hundred_thousand_fields),
        cmocka_unit_test(an_endless_line_is_scanned_once),
        cmocka_unit_test(names_are_compared_without_case),
        cmocka_unit_test(tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
