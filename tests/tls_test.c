/* engine/tls against OpenSSL's server with the test as the wire: a conversation cut in every way, and what ends one.
 * Records by the library, by direct, and as the kernel would be given them.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/tls_handshake.h"
#include "tests/support/tls_line.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define TLS_1_3_SERVERS 3u       /* of sim_tls_server(), the first ones */
#define LIBRARY_SERVER 6u        /* the one that only the library can carry */

static const enum wsr_tls_records ways[] = { WSR_TLS_LIBRARY, WSR_TLS_DIRECT, WSR_TLS_KERNEL };

static bool can_carry(unsigned server, enum wsr_tls_records records)
{
    return records == WSR_TLS_LIBRARY || server != LIBRARY_SERVER;
}

/* Run @test with each server and each way of carrying records that goes with it. */
static void each_way(void (*test)(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records))
{
    struct wsr_tls_context *context = tls_line_context();
    for (unsigned server = 0; server < SIM_TLS_SERVERS_COUNT; server++) {
        for (size_t i = 0; i < COUNT(ways); i++) {
            if (can_carry(server, ways[i]))
                test(context, server, ways[i]);
        }
    }
    wsr_tls_context_free(context);
}

/* ---- Cuts ---- */

/* A whole life: everything that a server may say, and an answer in between. */
static void converse(struct tls_line *line, bool is_1_3)
{
    tls_line_run(line);
    tls_line_say(line, 300, 100);
    if (is_1_3) {
        tls_server_send_tickets(line->link, 1);
        tls_server_update_keys(line->link, true);
    }
    tls_line_say(line, 40, 0);
    tls_line_run(line);
    tls_line_send(line, "hello", 5);
    tls_line_say(line, 7, 3);
    tls_server_close(line->link);
    tls_line_run(line);
    tls_line_send(line, "world", 5);
    wsr_tls_close(&line->tls);
    tls_line_carry(line);
    tls_line_expect(line, "ready\ndata 347\nclosed\n");
    assert_int_equal(line->link->state, TLS_SERVER_CLOSED);
    assert_int_equal(line->link->received_bytes, 10);
    assert_memory_equal(line->link->received, "helloworld", 10);
    assert_int_equal(line->link->updates_received, is_1_3 ? 1 : 0);
    for (size_t i = 0; i < 300; i++)
        assert_int_equal(line->data[i], tls_line_pattern(i));
}

/* All at once, byte by byte, and pieces of other sizes. */
static void cut_in_pieces(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records)
{
    static const size_t cuts[] = { 0, 1, 2, 3, 5, 6, 7, 29, 100, 1000 };
    for (size_t i = 0; i < COUNT(cuts); i++) {
        struct tls_line line;
        tls_line_open(&line, context, sim_tls_server(server), records, 1);
        line.cut = cuts[i];
        converse(&line, server < TLS_1_3_SERVERS);
        assert_true(records == WSR_TLS_LIBRARY || cuts[i] != 0 || line.blocks_count == 0);
        tls_line_close(&line);
    }
}

static void pieces_of_any_size_make_the_same_events(void **state)
{
    (void)state;
    each_way(cut_in_pieces);
}

/* The same with one cut, at every @step-th byte. */
static void cut_once(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records, size_t step)
{
    size_t whole = 2;
    for (size_t at = 1; at < whole; at += step) {
        struct tls_line line;
        tls_line_open(&line, context, sim_tls_server(server), records, 1);
        line.cut_once = at;
        converse(&line, server < TLS_1_3_SERVERS);
        whole = line.fed;
        tls_line_close(&line);
    }
}

static void a_cut_at_any_byte_makes_the_same_events(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    cut_once(context, 0, WSR_TLS_LIBRARY, 1);
    cut_once(context, 1, WSR_TLS_DIRECT, 5);
    cut_once(context, 3, WSR_TLS_DIRECT, 1);
    cut_once(context, LIBRARY_SERVER, WSR_TLS_LIBRARY, 5);
    wsr_tls_context_free(context);
    /* And with sessions that are resumed. */
    context = tls_line_context_of(&(struct wsr_tls_context_options){ 0 });
    cut_once(context, 0, WSR_TLS_DIRECT, 3);
    cut_once(context, 4, WSR_TLS_LIBRARY, 3);
    wsr_tls_context_free(context);
}

/* A certificate that comes in many records, and a second ClientHello. */
static void long_handshakes_are_made(void **state)
{
    struct wsr_certificate large = { 0 };
    const struct wsr_certificate_options named = { .dns_names = (const char *const[]){ TLS_LINE_NAME, NULL },
                                                   .comment_bytes = 60000 };
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    assert_int_equal(wsr_certificate_create(&large, sim_tls_authority(), &named), 0);
    const struct tls_server_options options[] = {
        { .certificate = &large }, { .certificate = &large, .version_max = TLS1_2_VERSION },
        { .certificate = sim_tls_certificate(), .groups = "P-384" },
    };
    for (size_t i = 0; i < COUNT(options); i++) {
        struct tls_server *server = tls_server_create(&options[i]);
        for (size_t cut = 0; cut < 2; cut++) {
            struct tls_line line;
            tls_line_open(&line, context, server, WSR_TLS_DIRECT, 1);
            line.cut = cut;
            converse(&line, options[i].version_max == 0);
            tls_line_close(&line);
        }
        tls_server_free(server);
    }
    wsr_certificate_free(&large);
    wsr_tls_context_free(context);
}

/* ---- Data ---- */

static void send_sizes(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records)
{
    static const size_t sizes[] = { 1, 2, 15, 16, 17, 31, 32, 33, 255, 256, 257, 1400, 16383, 16384, 16385, 32768,
                                    40000, 100000 };
    struct tls_line line;
    static uint8_t data[100000];
    size_t said = 0, sent = 0;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = tls_line_pattern(i);
    tls_line_shake(&line, context, sim_tls_server(server), records);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (size_t record_bytes = 16384; record_bytes > sizes[i] / 40; record_bytes /= 3) {
            tls_line_say(&line, sizes[i], record_bytes);
            tls_line_run(&line);
            assert_int_equal(line.data_bytes, said + sizes[i]);
            assert_memory_equal(line.data + said, data, sizes[i]);
            said += sizes[i];
        }
        tls_line_send(&line, data, sizes[i]);
        assert_int_equal(line.link->received_bytes, sent + sizes[i]);
        assert_memory_equal(line.link->received + sent, data, sizes[i]);
        sent += sizes[i];
    }
    tls_line_close(&line);
}

static void data_of_every_size_goes_both_ways(void **state)
{
    (void)state;
    each_way(send_sizes);
}

/* Any number of parts is one record, and nothing is written behind the room that was asked for. */
static void seal_parts(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records)
{
    struct tls_line line;
    struct iovec parts[200];
    uint8_t data[200], out[2000];
    tls_line_shake(&line, context, sim_tls_server(server), records);
    size_t received = 0;
    for (size_t count = 1; count <= COUNT(parts); count += count < 5 ? 1 : 39) {
        for (size_t i = 0; i < count; i++) {
            data[i] = (uint8_t)i;
            parts[i] = (struct iovec){ &data[i], 1 };
        }
        parts[count / 2].iov_len = count > 3 ? 0 : 1;
        size_t len = count - (count > 3 ? 1 : 0), room = wsr_tls_sealed_max(&line.tls, len);
        assert_true(room < sizeof out);
        memset(out, 0xEE, sizeof out);
        uint64_t records_before = line.link->sequence_in;
        ssize_t sealed = wsr_tls_seal(&line.tls, parts, count, out);
        assert_in_range(sealed, len + 1, room);
        for (size_t i = (size_t)sealed; i < sizeof out; i++)
            assert_int_equal(out[i], 0xEE);
        tls_server_feed(line.link, out, (size_t)sealed);
        assert_int_equal(line.link->sequence_in, records_before + 1);
        assert_int_equal(line.link->received_bytes, received + len);
        received += len;
    }
    assert_int_equal(line.taken, 0);
    tls_line_close(&line);
}

static void parts_are_one_record(void **state)
{
    (void)state;
    each_way(seal_parts);
}

/* ---- READY ---- */

/* TLS 1.2: the server's first data may lie behind its Finished in the same buffer; TLS 1.3: behind the first flight. */
static void data_behind_ready(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records)
{
    struct tls_line line;
    uint8_t flight[8192];
    tls_line_open(&line, context, sim_tls_server(server), records, 1);
    tls_line_carry(&line);
    if (server >= TLS_1_3_SERVERS) {
        size_t len = tls_server_take(line.link, flight, sizeof flight);
        tls_line_feed(&line, flight, len);     /* after which the server has ended the handshake */
        tls_line_say(&line, 5, 0);
        tls_line_say(&line, 6, 0);
        tls_line_run(&line);
        tls_line_expect(&line, "ready\ndata 11\n");
    } else {
        size_t len = tls_server_take(line.link, flight, sizeof flight - 600);
        assert_int_equal(line.link->state, TLS_SERVER_SHAKING);
        line.link->sequence_out = 0;
        len += tls_line_forge(&line, WSR_TLS_DATA, "early", 5, flight + len);
        len += tls_line_forge(&line, WSR_TLS_DATA, "words", 5, flight + len);
        tls_line_feed(&line, flight, len);
        tls_line_expect(&line, "ready\ndata 10\n");
        assert_memory_equal(line.data, "earlywords", 10);
    }
    tls_line_close(&line);
}

static void nothing_behind_the_handshake_is_lost(void **state)
{
    (void)state;
    each_way(data_behind_ready);
}

static void who_carries_the_records_is_settled_once(void **state)
{
    static const struct {
        unsigned server;
        enum wsr_tls_records wanted;
        int rc;
        enum wsr_tls_records records;
        enum wsr_tls_why why;
    } rows[] = {
        { 0, WSR_TLS_AUTO, 0, WSR_TLS_DIRECT, WSR_TLS_WHY_BEST },
        { 0, WSR_TLS_LIBRARY, 0, WSR_TLS_LIBRARY, WSR_TLS_WHY_ASKED },
        { 0, WSR_TLS_DIRECT, 0, WSR_TLS_DIRECT, WSR_TLS_WHY_ASKED },
        { 0, WSR_TLS_KERNEL, 0, WSR_TLS_KERNEL, WSR_TLS_WHY_ASKED },
        { 3, WSR_TLS_AUTO, 0, WSR_TLS_DIRECT, WSR_TLS_WHY_BEST },
        { 4, WSR_TLS_KERNEL, 0, WSR_TLS_KERNEL, WSR_TLS_WHY_ASKED },
        { LIBRARY_SERVER, WSR_TLS_AUTO, 0, WSR_TLS_LIBRARY, WSR_TLS_WHY_SUITE },
        { LIBRARY_SERVER, WSR_TLS_LIBRARY, 0, WSR_TLS_LIBRARY, WSR_TLS_WHY_ASKED },
        { LIBRARY_SERVER, WSR_TLS_DIRECT, 0, WSR_TLS_LIBRARY, WSR_TLS_WHY_SUITE },
        { LIBRARY_SERVER, WSR_TLS_KERNEL, WSR_ERR_NOT_SUPPORTED, WSR_TLS_AUTO, WSR_TLS_WHY_ASKED },
    };
    static const uint16_t suites[SIM_TLS_SERVERS_COUNT] = { 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02C, 0xCCA9, 0xC023 };
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct tls_line line;
        tls_line_open(&line, context, sim_tls_server(rows[i].server), rows[i].wanted, 1);
        tls_line_run(&line);
        tls_line_expect(&line, "ready\n");
        assert_int_equal(line.settled, rows[i].rc);
        const struct wsr_tls_facts *facts = &line.tls.facts;
        assert_int_equal(line.tls.records, rows[i].records);
        assert_int_equal(facts->records, rows[i].records);
        assert_int_equal(facts->why, rows[i].why);
        assert_int_equal(facts->suite, suites[rows[i].server]);
        assert_int_equal(facts->version, rows[i].server < TLS_1_3_SERVERS ? WSR_TLS_1_3 : WSR_TLS_1_2);
        assert_true(facts->is_verified && !facts->was_resumed);
        assert_true(wsr_tls_why_text((enum wsr_tls_why)facts->why)[0] != '\0');
        struct wsr_tls_facts back = wsr_tls_facts_unpack(wsr_tls_facts_pack(facts));
        assert_memory_equal(&back, facts, sizeof back);
        tls_line_close(&line);
    }
    assert_int_equal(wsr_tls_facts_pack(&(struct wsr_tls_facts){ 0 }), 0);
    assert_int_equal(wsr_tls_facts_unpack(0).version, 0);
    assert_string_equal(wsr_tls_why_text(WSR_TLS_WHY_NONE), "");
    wsr_tls_context_free(context);
}

/* An insecure context asks for no certificate's name, and says so. */
static void what_is_not_checked_is_told(void **state)
{
    static const struct wsr_tls_context_options options = { .is_insecure = true };
    struct tls_server *server = tls_server_create(&(struct tls_server_options){ 0 });     /* for other names */
    struct wsr_tls_context *context = tls_line_context_of(&options);
    struct tls_line line;
    (void)state;
    tls_line_shake(&line, context, server, WSR_TLS_AUTO);
    assert_false(line.tls.facts.is_verified);
    tls_line_close(&line);
    wsr_tls_context_free(context);
    tls_server_free(server);
}

/* ---- Tickets ---- */

/* Each of the tickets serves one connection; TLS 1.2 has one for all. Direct gives them to OpenSSL, which made the
 * handshake. */
static void resume(struct wsr_tls_context *unused, unsigned server, enum wsr_tls_records records)
{
    static const bool resumes[SIM_TLS_SERVERS_COUNT] = { true, true, false, true, true, false, true };
    static const unsigned tickets[SIM_TLS_SERVERS_COUNT] = { 2, 1, 2, 1, 1, 0, 1 };
    struct wsr_tls_context *context = tls_line_context_of(&(struct wsr_tls_context_options){ 0 });
    struct tls_line line;
    (void)unused;
    tls_line_shake(&line, context, sim_tls_server(server), records);
    tls_line_run(&line);
    assert_int_equal(wsr_tls_context_sessions(context), tickets[server]);
    if (server < TLS_1_3_SERVERS && resumes[server]) {
        tls_server_send_tickets(line.link, 3);
        tls_line_run(&line);
        assert_int_equal(wsr_tls_context_sessions(context), tickets[server] + 3);
    }
    tls_line_say(&line, 10, 0);
    tls_line_run(&line);
    tls_line_expect(&line, "ready\ndata 10\n");
    tls_line_close(&line);
    unsigned kept = (unsigned)wsr_tls_context_sessions(context);
    for (unsigned i = 0; i < 5; i++) {
        tls_line_open(&line, context, sim_tls_server(server), records, 2 + i);
        tls_line_carry(&line);
        while (line.tls.state == WSR_TLS_SHAKING) {
            uint8_t record[20000];
            size_t len = tls_server_take_record(line.link, record, sizeof record);
            assert_true(len > 0);
            tls_line_feed(&line, record, len);
        }
        tls_line_carry(&line);
        bool is_resumed = resumes[server] && (i < kept || server >= TLS_1_3_SERVERS);
        assert_int_equal(line.link->was_resumed, is_resumed);
        assert_int_equal(line.tls.facts.was_resumed, is_resumed);
        tls_line_send(&line, "x", 1);
        assert_int_equal(line.link->received_bytes, 1);
        tls_line_close(&line);         /* without having seen its tickets */
    }
    wsr_tls_context_free(context);
}

static void sessions_are_resumed(void **state)
{
    (void)state;
    each_way(resume);
}

/* From the first data on, tickets are read over, and the SSL object is gone unless it carries the records. */
static void give_up_handshake(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records)
{
    struct tls_line line;
    tls_line_shake(&line, context, sim_tls_server(server), records);
    assert_int_equal(line.tls.handshake == NULL, records != WSR_TLS_LIBRARY && server >= TLS_1_3_SERVERS);
    wsr_tls_end_handshake(&line.tls);
    assert_int_equal(line.tls.handshake == NULL, records != WSR_TLS_LIBRARY);
    uint64_t before = wsr_tls_context_sessions(context);
    if (server < TLS_1_3_SERVERS) {
        tls_server_send_tickets(line.link, 2);
        tls_line_run(&line);
    }
    if (records != WSR_TLS_LIBRARY)
        assert_int_equal(wsr_tls_context_sessions(context), before);
    tls_line_say(&line, 20, 0);
    tls_line_run(&line);
    tls_line_send(&line, "hello", 5);
    tls_line_expect(&line, "ready\ndata 20\n");
    tls_line_close(&line);
}

static void openssls_part_is_given_up(void **state)
{
    (void)state;
    each_way(give_up_handshake);
}

/* A ticket that is none ends the connection, with the alert that OpenSSL has for it. */
static void a_bad_ticket_fails(void **state)
{
    static const uint8_t bad[] = { 4, 0, 0, 5, 1, 2, 3, 4, 5 };
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct tls_line line;
        uint8_t record[600];
        tls_line_shake(&line, context, sim_tls_server(0), ways[i]);
        tls_line_feed(&line, record, tls_line_forge(&line, WSR_TLS_HANDSHAKE, bad, sizeof bad, record));
        tls_line_expect(&line, "ready\nfailure 50\n");
        assert_int_equal(line.link->alert_received, 50);
        tls_line_close(&line);
    }
    wsr_tls_context_free(context);
}

/* ---- KeyUpdate ---- */

static void renew_keys(struct wsr_tls_context *context, unsigned server, enum wsr_tls_records records)
{
    struct tls_line line;
    if (server >= TLS_1_3_SERVERS)
        return;
    tls_line_shake(&line, context, sim_tls_server(server), records);
    for (unsigned i = 0; i < 12; i++) {
        bool asks = i % 3 != 0;
        unsigned answered = line.link->updates_received;
        for (unsigned times = i % 4; times > 0; times--)
            tls_server_update_keys(line.link, asks);
        tls_line_say(&line, 30, 7);
        tls_line_run(&line);
        tls_line_send(&line, "answer", 6);
        tls_line_send(&line, "and more", 8);
        /* One answer is enough for several that were not answered (RFC 8446 4.6.3). */
        unsigned most = asks ? i % 4 : 0;
        assert_in_range(line.link->updates_received, answered + (most > 0), answered + most);
        assert_int_equal(line.link->received_bytes, 14 * (i + 1));
    }
    tls_line_expect(&line, "ready\ndata 360\n");
    assert_int_equal(line.link->state, TLS_SERVER_OPEN);
    tls_line_close(&line);
}

static void keys_are_renewed_both_ways(void **state)
{
    (void)state;
    each_way(renew_keys);
}

/* ---- The kernel's share ---- */

/* What the kernel opens and is not data; it opens and seals with direct.in and direct.out. */
static void controls_of_the_kernel(void **state)
{
    static const uint8_t update[] = { 24, 0, 0, 1, 1 }, close_notify[] = { 1, 0 }, broken[] = { 2, 20 };
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (unsigned breaks = 0; breaks < 2; breaks++) {
        struct tls_line line;
        struct wsr_tls_event event;
        tls_line_shake(&line, context, sim_tls_server(0), WSR_TLS_KERNEL);
        assert_int_equal(wsr_tls_missing(&line.tls), 0);
        wsr_tls_take_over(&line.tls);
        for (unsigned k = 0; k < WSR_TLS_KEY_MAX; k++)
            assert_int_equal(line.tls.direct.in.key[k] | line.tls.direct.out.key[k], 0);
        for (unsigned k = 0; k < WSR_TLS_IV_BYTES; k++)
            assert_int_equal(line.tls.direct.in.iv[k] | line.tls.direct.out.iv[k], 0);
        struct wsr_tls_key before = line.tls.direct.in;
        wsr_tls_control(&line.tls, WSR_TLS_HANDSHAKE, wsr_bytes_of(update, sizeof update), &event);
        assert_int_equal(event.type, WSR_TLS_EVENT_KEYS);
        assert_memory_not_equal(line.tls.direct.in.key, before.key, 16);
        assert_int_equal(line.tls.direct.in.sequence, 0);
        assert_true(line.tls.direct.owes_update);
        assert_int_equal(wsr_tls_output(&line.tls).len, 0);
        if (breaks) {
            wsr_tls_break(&line.tls, 20);
            assert_int_equal(line.tls.state, WSR_TLS_FAILED);
            struct wsr_bytes alert = wsr_tls_output(&line.tls);
            assert_int_equal(alert.len, sizeof broken);
            assert_memory_equal(alert.data, broken, sizeof broken);
            wsr_tls_output_taken(&line.tls);
        } else {
            wsr_tls_control(&line.tls, WSR_TLS_ALERT, wsr_bytes_of(close_notify, sizeof close_notify), &event);
            assert_int_equal(event.type, WSR_TLS_EVENT_CLOSED);
            assert_int_equal(line.tls.state, WSR_TLS_CLOSED);
            wsr_tls_close(&line.tls);
            struct wsr_bytes alert = wsr_tls_output(&line.tls);
            assert_int_equal(alert.len, sizeof close_notify);
            assert_memory_equal(alert.data, close_notify, sizeof close_notify);
            wsr_tls_output_taken(&line.tls);
        }
        wsr_tls_control(&line.tls, WSR_TLS_ALERT, wsr_bytes_of(broken, sizeof broken), &event);
        assert_int_equal(event.type, WSR_TLS_EVENT_NOTHING);
        tls_line_close(&line);
    }
    wsr_tls_context_free(context);
}

/* ---- Records in pieces ---- */

/* How many bytes are missing until the next record begins. */
static void missing_bytes_are_told(void **state)
{
    struct wsr_tls_context *context = tls_line_context();
    (void)state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct tls_line line;
        uint8_t record[400];
        tls_line_shake(&line, context, sim_tls_server(0), ways[i]);
        size_t len = tls_line_forge(&line, WSR_TLS_DATA, "some bytes", 10, record);
        for (size_t at = 0; at < len; at++) {
            size_t want = at == 0 ? 0 : at < WSR_TLS_HEADER_BYTES ? WSR_TLS_HEADER_BYTES - at : len - at;
            assert_int_equal(wsr_tls_missing(&line.tls), want);
            tls_line_feed(&line, record + at, 1);
        }
        assert_int_equal(wsr_tls_missing(&line.tls), 0);
        tls_line_expect(&line, "ready\ndata 10\n");
        tls_line_close(&line);
    }
    wsr_tls_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_any_size_make_the_same_events),
        cmocka_unit_test(a_cut_at_any_byte_makes_the_same_events),
        cmocka_unit_test(long_handshakes_are_made),
        cmocka_unit_test(data_of_every_size_goes_both_ways),
        cmocka_unit_test(parts_are_one_record),
        cmocka_unit_test(nothing_behind_the_handshake_is_lost),
        cmocka_unit_test(who_carries_the_records_is_settled_once),
        cmocka_unit_test(what_is_not_checked_is_told),
        cmocka_unit_test(sessions_are_resumed),
        cmocka_unit_test(openssls_part_is_given_up),
        cmocka_unit_test(a_bad_ticket_fails),
        cmocka_unit_test(keys_are_renewed_both_ways),
        cmocka_unit_test(controls_of_the_kernel),
        cmocka_unit_test(missing_bytes_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
