/* engine/tls when something is wrong: what the server sends, what it lets be, and memory that is not there.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "engine/tls_handshake.h"
#include "tests/support/tls_line.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define TLS_1_3_SERVERS 3u
#define LIBRARY_SERVER 6u

static const enum wsr_tls_records ways[] = { WSR_TLS_LIBRARY, WSR_TLS_DIRECT };

/* ---- Memory that runs out; linked with --wrap, for what is not OpenSSL's own ---- */

static bool is_counted;
static unsigned allocations_left;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);

static bool is_refused(void)
{
    if (!is_counted)
        return false;
    if (allocations_left == 0)
        return true;
    allocations_left--;
    return false;
}

void *__wrap_malloc(size_t bytes)
{
    return is_refused() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return is_refused() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    return is_refused() ? NULL : __real_realloc(old, bytes);
}

/* ---- During the handshake ---- */

/* Each alert of a server that takes no ClientHello is told, with a sentence of its own. */
static void every_alert_of_the_server_is_told(void **state)
{
    static const uint8_t alerts[] = { 10, 20, 22, 40, 42, 47, 48, 49, 50, 51, 70, 71, 80, 86, 110, 112, 120 };
    struct wsr_tls_context *context = tls_line_context();
    const char *texts[COUNT(alerts)];
    (void)state;
    for (size_t i = 0; i < COUNT(alerts); i++) {
        struct tls_server *server = tls_server_create(&(struct tls_server_options){ .alert = alerts[i] });
        char events[32];
        struct tls_line line;
        tls_line_open(&line, context, server, WSR_TLS_DIRECT, 1);
        tls_line_run(&line);
        snprintf(events, sizeof events, "failure %u\n", alerts[i]);
        tls_line_expect(&line, events);
        assert_non_null(strstr(line.text, "alert"));
        texts[i] = line.text;
        for (size_t k = 0; k < i; k++)
            assert_ptr_not_equal(texts[k], texts[i]);
        tls_line_feed(&line, "\x16\x03\x03\x00\x01\x00", 6);     /* read over */
        tls_line_expect(&line, events);
        tls_line_close(&line);
        tls_server_free(server);
    }
    wsr_tls_context_free(context);
}

/* A certificate that cannot be trusted is answered by the alert for it, before anything else is said. */
static void a_certificate_that_is_refused_is_answered_by_an_alert(void **state)
{
    static const char *const name[] = { TLS_LINE_NAME, NULL }, *const other[] = { "other.example", NULL };
    static const struct {
        const char *what;
        struct wsr_certificate_options options;
        bool is_ours;
        unsigned alert;
    } rows[] = {
        { "unknown authority", { .dns_names = name }, false, 48 },
        { "expired", { .dns_names = name, .begin_s = -7200, .end_s = -3600 }, true, 45 },
        { "not yet valid", { .dns_names = name, .begin_s = 3600, .end_s = 7200 }, true, 42 },
        { "another name", { .dns_names = other }, true, 42 },
        { "for clients", { .dns_names = name, .purpose = WSR_CERTIFICATE_CLIENT }, true, 43 },
    };
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t i = 0; i < 2 * COUNT(rows); i++) {
        struct wsr_certificate certificate = { 0 };
        char events[32];
        struct tls_line line;
        size_t row = i / 2;
        assert_int_equal(wsr_certificate_create(&certificate, rows[row].is_ours ? sim_tls_authority() : NULL,
                                                &rows[row].options), 0);
        struct tls_server *server = tls_server_create(&(struct tls_server_options){
            .certificate = &certificate, .version_max = i % 2 == 0 ? 0 : TLS1_2_VERSION });
        tls_line_open(&line, context, server, WSR_TLS_AUTO, 1);
        tls_line_run(&line);
        snprintf(events, sizeof events, "failure %u\n", rows[row].alert);
        if (strcmp(line.events, events) != 0)
            print_error("%s\n", rows[row].what);
        tls_line_expect(&line, events);
        assert_int_equal(line.link->alert_received, rows[row].alert);
        assert_int_equal(line.link->received_bytes, 0);
        tls_line_close(&line);
        tls_server_free(server);
        wsr_certificate_free(&certificate);
    }
    wsr_tls_context_free(context);
}

/* What begins with this is no record. */
static const struct { const char *what, *bytes; size_t len; } strangers[] = {
    { "HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", 28 }, { "HTTP in lower case", "http/1.1 200", 12 },
    { "SSH", "SSH-2.0-x\r\n", 11 }, { "zeros", "\0\0\0\0\0\0\0\0", 8 },
    { "SSL 2", "\x80\x2e\x04\0\x02\0\0\0\0\0\0\0", 12 }, { "DTLS", "\x16\xfe\xfd\0\0\0\0\0\0\0\0\0\0", 13 },
    { "a type that there is not", "\x63\x03\x03\x00\x05hello", 10 },
    { "a record that is too long", "\x16\x03\x03\xff\xff", 5 }, { "ones", "\xff\xff\xff\xff\xff\xff", 6 },
    { "data before there are keys", "\x17\x03\x03\x00\x05hello", 10 },
    { "an alert of one byte", "\x15\x03\x03\x00\x01\x02", 6 },
    { "an alert that there is not", "\x15\x03\x03\x00\x02\x02\xff", 7 },
    { "an empty record", "\x16\x03\x03\x00\x00", 5 },
    { "a HelloRequest", "\x16\x03\x03\x00\x04\x00\x00\x00\x00\x14\x03\x03\x00\x01\x01", 15 },
    { "a ServerHello that is none", "\x16\x03\x03\x00\x06\x02\x00\x00\x02\x03\x03", 11 },
    { "a message without end", "\x16\x03\x03\x00\x04\x02\xff\xff\xff", 9 },
};

static void what_is_no_tls_fails(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t i = 0; i < COUNT(strangers); i++) {
        char events[sizeof ((struct tls_line *)NULL)->events];
        for (size_t cut = 0; cut <= 3; cut++) {
            struct tls_line line;
            tls_line_open(&line, context, sim_tls_server(0), WSR_TLS_DIRECT, 1);
            tls_line_carry(&line);
            line.cut = cut;
            tls_line_feed(&line, strangers[i].bytes, strangers[i].len);
            /* Some OpenSSL lets pass, or waits for more: then what follows is too much for it. */
            for (unsigned k = 0; k < 40 && line.tls.state == WSR_TLS_SHAKING; k++)
                tls_line_feed(&line, strangers[i].bytes, strangers[i].len);
            if (cut == 0)
                memcpy(events, line.events, sizeof events);
            if (line.tls.state != WSR_TLS_FAILED || strcmp(events, line.events) != 0)
                fail_msg("%s, cut %zu: %s", strangers[i].what, cut, line.events);
            assert_int_equal(ERR_peek_error(), 0);
            tls_line_close(&line);
        }
    }
    wsr_tls_context_free(context);
}

/* ---- After it ---- */

/* The same at a record boundary of a connection that is open: the library and direct come to the same end. */
static void what_is_no_record_fails_later_too(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (unsigned server = 0; server < LIBRARY_SERVER; server += 3) {
        for (size_t i = 0; i < COUNT(strangers); i++) {
            char events[sizeof ((struct tls_line *)NULL)->events];
            for (size_t way = 0; way < 2 * COUNT(ways); way++) {
                struct tls_line line;
                tls_line_shake(&line, context, sim_tls_server(server), ways[way % 2]);
                line.cut = way / 2;
                tls_line_say(&line, 9, 0);
                tls_line_run(&line);
                for (unsigned k = 0; k < 40 && line.tls.state == WSR_TLS_OPEN; k++)
                    tls_line_feed(&line, strangers[i].bytes, strangers[i].len);
                tls_line_carry(&line);
                if (way == 0)
                    memcpy(events, line.events, sizeof events);
                if (line.tls.state != WSR_TLS_FAILED || strcmp(events, line.events) != 0)
                    fail_msg("%s, server %u, way %zu: %s---- but\n%s", strangers[i].what, server, way, line.events,
                             events);
                tls_line_close(&line);
            }
        }
    }
    wsr_tls_context_free(context);
}

/* Records that are sealed well and say what must not be said, or nothing. */
static void sealed_mischief_fails(void **state)
{
    static const struct {
        const char *what;
        uint8_t type;
        const char *content;
        size_t len;
        const char *end_1_3, *end_1_2;
    } rows[] = {
        { "fatal alert", 21, "\x02\x50", 2, "failure 80\n", "failure 80\n" },
        { "fatal alert without a name", 21, "\x02\xee", 2, "failure 238\n", "failure 238\n" },
        { "user_canceled", 21, "\x01\x5a", 2, "", "" },
        { "close_notify", 21, "\x01\x00", 2, "closed\n", "closed\n" },
        { "half an alert", 21, "\x02", 1, "failure 10\n", NULL },
        { "an unknown message", 22, "\x63\0\0\0", 4, "failure 10\n", "failure 10\n" },
        { "a Finished", 22, "\x14\0\0\x0c" "abcdefghijkl", 16, "failure 10\n", "failure 10\n" },
        { "a KeyUpdate of no kind", 22, "\x18\0\0\x01\x02", 5, "failure 47\n", "failure 10\n" },
        { "an empty KeyUpdate", 22, "\x18\0\0\0", 4, "failure 50\n", "failure 10\n" },
        { "no data", 23, "", 0, "", "" },
        { "an unknown type", 24, "x", 1, "failure 10\n", "failure 10\n" },
    };
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t i = 0; i < 4 * COUNT(rows); i++) {
        size_t row = i / 4;
        const char *end = i % 4 < 2 ? rows[row].end_1_3 : rows[row].end_1_2;
        struct tls_line line;
        uint8_t record[400];
        char events[64];
        tls_line_shake(&line, context, sim_tls_server(i % 4 < 2 ? 0 : 3), ways[i % 2]);
        size_t len = tls_line_forge(&line, rows[row].type, rows[row].content, rows[row].len, record);
        if (end == NULL) {
            tls_line_close(&line);
            continue;
        }
        tls_line_feed(&line, record, len);
        snprintf(events, sizeof events, "ready\n%s", end);
        if (strcmp(events, line.events) != 0)
            print_error("%s, TLS 1.%u, way %zu\n", rows[row].what, i % 4 < 2 ? 3u : 2u, i % 2);
        tls_line_expect(&line, events);
        if (strncmp(end, "failure", 7) == 0)
            assert_true(line.text[0] != '\0');
        if (strncmp(end, "failure 80", 10) != 0 && strncmp(end, "failure 2", 9) != 0 && end[0] == 'f')
            assert_int_equal(line.link->alert_received, strtol(end + 8, NULL, 10));
        tls_line_close(&line);
    }
    wsr_tls_context_free(context);
}

/* One bit of a record that is another, anywhere in it. */
static void a_changed_bit_is_noticed(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (unsigned server = 0; server < SIM_TLS_SERVERS_COUNT; server += 3) {
        for (size_t at = 5; at < 60; at += 3) {
            for (size_t way = 0; way < COUNT(ways); way++) {
                struct tls_line line;
                uint8_t record[2000];
                tls_line_shake(&line, context, sim_tls_server(server), ways[way]);
                tls_line_say(&line, 60, 0);
                size_t len = tls_server_take_record(line.link, record, sizeof record);
                record[at] ^= (uint8_t)(1u << at % 8);
                tls_line_feed(&line, record, len);
                tls_line_expect(&line, "ready\nfailure 20\n");
                assert_int_equal(line.link->alert_received, 20);
                tls_line_close(&line);
            }
        }
    }
    wsr_tls_context_free(context);
}

/* TLS 1.2: the server may ask for another handshake, and is told that there is none. */
static void renegotiation_is_refused(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t i = 0; i < COUNT(ways) + 1; i++) {
        struct tls_line line;
        tls_line_shake(&line, context, sim_tls_server(i < 2 ? 3 : LIBRARY_SERVER), ways[i % 2]);
        uint8_t request[200];
        tls_server_renegotiate(line.link);
        size_t len = tls_server_take_record(line.link, request, sizeof request);
        tls_line_feed(&line, request, len);
        tls_line_expect(&line, "ready\n");
        assert_int_equal(line.tls.state, WSR_TLS_OPEN);
        /* For which this server ends the connection. */
        assert_int_equal(line.link->alert_received, 100);
        tls_line_run(&line);
        tls_line_expect(&line, "ready\nfailure 40\n");
        tls_line_close(&line);
    }
    wsr_tls_context_free(context);
}

/* ---- Ends ---- */

/* A server that stops at any byte, and an end of ours then: all memory comes back. */
static void an_end_at_any_byte_leaves_nothing(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t way = 0; way < COUNT(ways); way++) {
        size_t len = 1;
        for (size_t at = 0; at < len; at += 7) {
            struct tls_line line;
            uint8_t bytes[8192];
            tls_line_open(&line, context, sim_tls_server(way == 0 ? 0 : 3), ways[way], 1);
            tls_line_carry(&line);
            len = tls_server_take(line.link, bytes, sizeof bytes);
            tls_line_feed(&line, bytes, at < len ? at : len);
            tls_line_close(&line);
        }
        len = 1;
        for (size_t at = 0; at < len; at++) {
            struct tls_line line;
            uint8_t bytes[8192];
            tls_line_shake(&line, context, sim_tls_server(way == 0 ? 0 : 3), ways[way]);
            tls_line_say(&line, 30, 20);
            len = tls_server_take(line.link, bytes, sizeof bytes);
            tls_line_feed(&line, bytes, at < len ? at : len);
            tls_line_close(&line);
        }
    }
    wsr_tls_context_free(context);
}

/* close_notify: told once, and what follows it is not looked at, while sealing goes on until ours. */
static void after_close_notify_nothing_is_read(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (unsigned server = 0; server < SIM_TLS_SERVERS_COUNT; server++) {
        for (size_t way = 0; way < COUNT(ways); way++) {
            struct tls_line line;
            tls_line_open(&line, context, sim_tls_server(server), ways[way], 1);
            wsr_tls_close(&line.tls);              /* no effect before OPEN */
            assert_false(line.tls.has_closed);
            tls_line_run(&line);
            tls_server_close(line.link);
            tls_line_run(&line);
            tls_line_expect(&line, "ready\nclosed\n");
            for (size_t i = 0; i < COUNT(strangers); i++)
                tls_line_feed(&line, strangers[i].bytes, strangers[i].len);
            tls_line_expect(&line, "ready\nclosed\n");
            assert_int_equal(wsr_tls_output(&line.tls).len, 0);
            tls_line_send(&line, "still here", 10);
            assert_int_equal(line.link->received_bytes, 10);
            wsr_tls_close(&line.tls);
            assert_true(line.tls.has_closed);
            size_t len = wsr_tls_output(&line.tls).len;
            assert_true(len > 0);
            wsr_tls_close(&line.tls);
            assert_int_equal(wsr_tls_output(&line.tls).len, len);
            tls_line_carry(&line);
            assert_int_equal(line.link->state, TLS_SERVER_CLOSED);
            tls_line_close(&line);
        }
    }
    wsr_tls_context_free(context);
}

/* Ours first: the server's data is still read, up to its own. */
static void data_is_read_after_our_close_notify(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (unsigned server = 0; server < SIM_TLS_SERVERS_COUNT; server++) {
        for (size_t way = 0; way < COUNT(ways); way++) {
            struct tls_line line;
            tls_line_shake(&line, context, sim_tls_server(server), ways[way]);
            wsr_tls_close(&line.tls);
            tls_line_carry(&line);
            assert_int_equal(line.link->state, TLS_SERVER_CLOSED);
            if (server < TLS_1_3_SERVERS)
                tls_server_send_tickets(line.link, 1);
            tls_line_say(&line, 100, 30);
            tls_server_close(line.link);
            tls_line_run(&line);
            tls_line_expect(&line, "ready\ndata 100\nclosed\n");
            tls_line_close(&line);
        }
    }
    wsr_tls_context_free(context);
}

/* ---- Memory ---- */

/* What a server says to whom record memory is refused at the @n-th time. Returns whether it was. */
static bool lack_record_memory(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records,
                               unsigned n)
{
    struct tls_line line;
    tls_line_open(&line, context, sim_tls_server(server), records, 1);
    line.takes_left = n;
    line.cut = 50;                     /* so that records are gathered */
    tls_line_run(&line);
    if (line.tls.state == WSR_TLS_OPEN) {
        tls_line_say(&line, 300, 100);
        tls_line_run(&line);
    }
    bool is_refused_once = line.takes_left == 0 && line.tls.state == WSR_TLS_FAILED;
    if (is_refused_once)
        assert_string_equal(line.text, "no memory for TLS");
    else
        tls_line_expect(&line, "ready\ndata 300\n");
    tls_line_close(&line);
    return is_refused_once;
}

static void without_record_memory_it_fails(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (unsigned server = 0; server < SIM_TLS_SERVERS_COUNT; server += 3) {
        for (size_t way = 0; way < COUNT(ways); way++) {
            unsigned n = 0;
            while (lack_record_memory(context, server, ways[way], n))
                n++;
            assert_in_range(n, 5, 100);
        }
    }
    wsr_tls_context_free(context);
}

/* Parts that lie apart are joined for the library: without memory for that nothing is written. */
static void without_memory_for_parts_nothing_is_sealed(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    struct tls_line line;
    uint8_t out[1000];
    struct iovec parts[] = { { (char *)(uintptr_t)"ab", 2 }, { (char *)(uintptr_t)"cd", 2 } };
    (void)state;
    tls_line_shake(&line, context, sim_tls_server(0), WSR_TLS_LIBRARY);
    line.takes_left = 0;
    assert_int_equal(wsr_tls_seal(&line.tls, parts, 2, out), WSR_ERR_MEMORY);
    line.takes_left = 1;
    ssize_t len = wsr_tls_seal(&line.tls, parts, 2, out);
    assert_true(len > 4);
    tls_server_feed(line.link, out, (size_t)len);
    assert_memory_equal(line.link->received, "abcd", 4);
    tls_line_close(&line);
    wsr_tls_context_free(context);
}

/* One life with @n allocations of the engine's own. Returns whether that was too little. */
static bool lack_memory(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records, unsigned n)
{
    struct tls_line line = { .settled = 1, .records = records, .takes_left = UINT32_MAX, .text = "" };
    struct tls_line donor;
    tls_line_open(&donor, context, sim_tls_server(server), records, 1);
    line.shared = donor.shared;
    line.shared.context = &line;
    line.link = donor.link;
    wsr_tls_free(&donor.tls);
    const char *text;
    allocations_left = n;
    is_counted = true;
    int rc = wsr_tls_start(&line.tls, &line.shared, context, TLS_LINE_NAME, TLS_LINE_PORT, &text);
    is_counted = false;
    bool is_short = rc != 0;
    while (!is_short && (wsr_tls_output(&line.tls).len > 0 || tls_server_waiting(line.link) > 0)) {
        uint8_t bytes[8192];
        tls_line_carry(&line);
        size_t len = tls_server_take(line.link, bytes, sizeof bytes);
        for (size_t at = 0; at < len && !is_short;) {
            struct wsr_tls_event event;
            is_counted = true;
            at += wsr_tls_feed(&line.tls, bytes + at, len - at, &event);
            if (event.type == WSR_TLS_EVENT_READY)
                line.settled = wsr_tls_settle(&line.tls, records);
            is_counted = false;
            is_short = event.type == WSR_TLS_EVENT_FAILURE || line.settled < 0;
            if (event.type == WSR_TLS_EVENT_FAILURE)
                assert_string_equal(event.text, "no memory for TLS");
            else if (line.settled < 0)
                assert_int_equal(line.settled, WSR_ERR_MEMORY);
        }
    }
    if (rc != 0)
        assert_true(rc == WSR_ERR_MEMORY || rc == WSR_ERR_NOT_SUPPORTED);      /* OpenSSL tells it in its own words */
    else if (!is_short)
        assert_int_equal(line.tls.state, WSR_TLS_OPEN);
    tls_line_close(&line);
    return is_short;
}

static void without_memory_it_does_not_begin_or_go_on(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (unsigned server = 0; server < LIBRARY_SERVER; server += 3) {
        for (size_t way = 0; way < COUNT(ways); way++) {
            unsigned n = 0;
            while (lack_memory(context, server, ways[way], n))
                n++;
            assert_in_range(n, 2, 40);
        }
    }
    wsr_tls_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_alert_of_the_server_is_told),
        cmocka_unit_test(a_certificate_that_is_refused_is_answered_by_an_alert),
        cmocka_unit_test(what_is_no_tls_fails),
        cmocka_unit_test(what_is_no_record_fails_later_too),
        cmocka_unit_test(sealed_mischief_fails),
        cmocka_unit_test(a_changed_bit_is_noticed),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(an_end_at_any_byte_leaves_nothing),
        cmocka_unit_test(after_close_notify_nothing_is_read),
        cmocka_unit_test(data_is_read_after_our_close_notify),
        cmocka_unit_test(without_record_memory_it_fails),
        cmocka_unit_test(without_memory_for_parts_nothing_is_sealed),
        cmocka_unit_test(without_memory_it_does_not_begin_or_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
