/* A wire in memory between engine/tls and OpenSSL.
 * SPDX-License-Identifier: MIT */
#include "tests/support/tls_line.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "engine/error.h"
#include "engine/tls_handshake.h"
#include "tests/support/tls_craft.h"


/* ---- Memory for records: exactly as large as asked for ---- */

static uint8_t *take(void *context, size_t bytes)
{
    struct tls_line *line = context;
    assert_true(bytes > 0 && bytes <= WSR_TLS_RECORD_MAX + 64);
    if (line->takes_left == 0)
        return NULL;
    line->takes_left--;
    uint8_t *block = malloc(bytes);
    line->taken += block != NULL;
    return block;
}

static void release(void *context, uint8_t *block)
{
    struct tls_line *line = context;
    assert_true(line->taken > 0);
    line->taken--;
    free(block);
}

/* ---- Life ---- */

struct wsr_tls_context *tls_line_context_of(const struct wsr_tls_context_options *options)
{
    struct wsr_tls_context *context = NULL;
    struct wsr_tls_context_options copy = *options;
    if (copy.ca_file == NULL)
        copy.ca_file = sim_tls_ca_file();
    if (wsr_tls_context_create(&context, &copy) != 0)
        fail_msg("%s", wsr_error_text());
    return context;
}

struct wsr_tls_context *tls_line_context(void)
{
    return tls_line_context_of(&(struct wsr_tls_context_options){ .keeps_no_sessions = true });
}

void tls_line_open(struct tls_line *line, struct wsr_tls_context *context, struct tls_server *server,
                   enum wsr_tls_records records, uint64_t seed)
{
    const char *text;
    sim_tls_seed(seed);
    *line = (struct tls_line){ .records = records, .settled = 1, .text = "", .takes_left = UINT32_MAX };
    line->shared = (struct wsr_tls_shared){ .take = take, .release = release, .context = line };
    line->link = tls_server_accept(server);
    assert_int_equal(wsr_tls_start(&line->tls, &line->shared, context, TLS_LINE_NAME, TLS_LINE_PORT, &text), 0);
    assert_int_equal(line->tls.state, WSR_TLS_SHAKING);
}

void tls_line_close(struct tls_line *line)
{
    wsr_tls_free(&line->tls);
    wsr_tls_ciphers_free(line->shared.ciphers);
    tls_server_drop(line->link);
    free(line->data);
    if (line->taken != 0)
        fail_msg("%u blocks are still out", line->taken);
}

/* ---- Events ---- */

static void note(struct tls_line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void note(struct tls_line *line, const char *format, ...)
{
    size_t used = strlen(line->events);
    va_list list;
    va_start(list, format);
    vsnprintf(line->events + used, sizeof line->events - used, format, list);
    va_end(list);
    assert_true(strlen(line->events) + 64 < sizeof line->events);
}

static void end_row(struct tls_line *line)
{
    if (line->data_in_row > 0)
        note(line, "data %zu\n", line->data_in_row);
    line->data_in_row = 0;
}

static void take_data(struct tls_line *line, const struct wsr_tls_event *event, const uint8_t *fed, size_t taken)
{
    const uint8_t *data = event->data.data;
    assert_true(event->data.len > 0 && event->data.len <= WSR_TLS_PLAIN_MAX);
    if (event->block == NULL)
        assert_true(data >= fed && data + event->data.len <= fed + taken);
    line->data = realloc(line->data, line->data_bytes + event->data.len);
    assert_non_null(line->data);
    memcpy(line->data + line->data_bytes, data, event->data.len);
    line->data_bytes += event->data.len;
    line->data_in_row += event->data.len;
    if (event->block != NULL) {
        line->blocks_count++;
        release(line, event->block);
    }
}

static void on_ready(struct tls_line *line)
{
    assert_int_equal(line->tls.state, WSR_TLS_READY);
    note(line, "ready\n");
    line->settled = wsr_tls_settle(&line->tls, line->records);
    assert_int_equal(line->tls.state, line->settled == 0 ? WSR_TLS_OPEN : WSR_TLS_READY);
}

static void on_event(struct tls_line *line, const struct wsr_tls_event *event, const uint8_t *fed, size_t taken)
{
    if (event->type != WSR_TLS_EVENT_DATA && event->type != WSR_TLS_EVENT_NOTHING)
        end_row(line);
    switch (event->type) {
    case WSR_TLS_EVENT_DATA:
        take_data(line, event, fed, taken);
        break;
    case WSR_TLS_EVENT_READY:
        on_ready(line);
        break;
    case WSR_TLS_EVENT_CLOSED:
        assert_int_equal(line->tls.state, WSR_TLS_CLOSED);
        note(line, "closed\n");
        break;
    case WSR_TLS_EVENT_FAILURE:
        assert_int_equal(line->tls.state, WSR_TLS_FAILED);
        assert_true(event->text != NULL && event->text[0] != '\0');
        line->text = event->text;
        note(line, "failure %u\n", event->alert);
        break;
    case WSR_TLS_EVENT_KEYS:
        fail_msg("KEYS, which are for the kernel");
    case WSR_TLS_EVENT_NOTHING:
        break;
    }
}

void tls_line_expect(struct tls_line *line, const char *events)
{
    end_row(line);
    if (strcmp(line->events, events) != 0)
        fail_msg("events:\n%s---- (%s) expected were:\n%s", line->events, line->text, events);
}

/* ---- The wire ---- */

void tls_line_carry(struct tls_line *line)
{
    struct wsr_bytes output = wsr_tls_output(&line->tls);
    if (output.len == 0)
        return;
    tls_server_feed(line->link, output.data, output.len);
    wsr_tls_output_taken(&line->tls);
    assert_int_equal(wsr_tls_output(&line->tls).len, 0);
}

static void feed_piece(struct tls_line *line, const uint8_t *bytes, size_t len)
{
    uint8_t *piece = malloc(len);
    assert_non_null(piece);
    memcpy(piece, bytes, len);
    for (size_t at = 0; at < len;) {
        struct wsr_tls_event event;
        if (line->tls.state == WSR_TLS_READY)
            break;                     /* which was not settled: nothing more can be fed */
        size_t taken = wsr_tls_feed(&line->tls, piece + at, len - at, &event);
        assert_in_range(taken, 1, len - at);
        on_event(line, &event, piece + at, taken);
        at += taken;
        tls_line_carry(line);
    }
    free(piece);
}

void tls_line_feed(struct tls_line *line, const void *bytes, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t piece = line->cut != 0 && line->cut < len - at ? line->cut : len - at;
        if (line->cut_once > line->fed && line->cut_once < line->fed + piece)
            piece = line->cut_once - line->fed;
        feed_piece(line, (const uint8_t *)bytes + at, piece);
        line->fed += piece;
        at += piece;
    }
}

void tls_line_run(struct tls_line *line)
{
    tls_line_carry(line);
    while (tls_server_waiting(line->link) > 0) {
        size_t len = tls_server_waiting(line->link);
        uint8_t *bytes = malloc(len);
        assert_non_null(bytes);
        assert_int_equal(tls_server_take(line->link, bytes, len), len);
        tls_line_feed(line, bytes, len);
        free(bytes);
        tls_line_carry(line);
    }
}

void tls_line_shake(struct tls_line *line, struct wsr_tls_context *context, struct tls_server *server,
                    enum wsr_tls_records records)
{
    tls_line_open(line, context, server, records, 1);
    tls_line_run(line);
    tls_line_expect(line, "ready\n");
    assert_int_equal(line->settled, 0);
    assert_int_equal(line->link->state, TLS_SERVER_OPEN);
}

void tls_line_send(struct tls_line *line, const void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t bytes = len - at < WSR_TLS_PLAIN_MAX ? len - at : WSR_TLS_PLAIN_MAX;
        struct iovec part = { (uint8_t *)(uintptr_t)data + at, bytes };
        size_t room = wsr_tls_sealed_max(&line->tls, bytes);
        uint8_t *out = malloc(room);
        assert_non_null(out);
        ssize_t sealed = wsr_tls_seal(&line->tls, &part, 1, out);
        assert_in_range(sealed, bytes + 1, room);
        tls_server_feed(line->link, out, (size_t)sealed);
        free(out);
        at += bytes;
    }
}

uint8_t tls_line_pattern(size_t at)
{
    return (uint8_t)(at * 7 + at / 251);
}

void tls_line_say(struct tls_line *line, size_t len, size_t record_bytes)
{
    uint8_t *data = malloc(len);
    assert_non_null(data);
    for (size_t i = 0; i < len; i++)
        data[i] = tls_line_pattern(i);
    tls_server_write(line->link, data, len, record_bytes);
    free(data);
}

size_t tls_line_forge(struct tls_line *line, uint8_t type, const void *content, size_t len, uint8_t *out)
{
    size_t bytes = tls_craft_next(line->link, type, content, len, out);
    assert_true(bytes > 0);
    return bytes;
}
