/* engine/tls_direct: with OpenSSL at the other end, and with records that OpenSSL would never send. That OpenSSL
 * answers these in the same way is what tests/fuzz/tls_direct_fuzz.c looks after.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/tls_text.h"
#include "tests/support/tls_craft.h"
#include "tests/support/tls_end.h"
#include "tests/support/tls_pair.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct tls_end end;

static const struct wsr_tls_suite *tls_1_3(void)
{
    return tls_end_suite(0);
}

static const struct wsr_tls_suite *tls_1_2(void)
{
    return tls_end_suite(TLS_END_1_3_SUITES);
}

/* ---- With OpenSSL ---- */

/* Give the client all that the server has to say; the data in it comes behind @data. */
static size_t client_reads(struct tls_pair *pair, uint8_t *data, size_t used)
{
    size_t bytes;
    while ((bytes = tls_server_take_record(pair->link, end.record, TLS_END_ROOM)) > 0) {
        tls_end_give_record(&end, bytes);
        if (end.event.type == WSR_TLS_EVENT_DATA) {
            memcpy(data + used, end.event.data.data, end.event.data.len);
            used += end.event.data.len;
        }
    }
    return used;
}

static void client_writes(struct tls_pair *pair, const void *data, size_t len)
{
    static uint8_t record[TLS_END_ROOM];
    struct iovec part = { (void *)(uintptr_t)data, len };
    ssize_t bytes = wsr_tls_direct_seal(&end.direct, &tls_end_shared, &part, 1, record);
    assert_true(bytes > 0);
    tls_server_feed(pair->link, record, (size_t)bytes);
}

static void client_sends_output(struct tls_pair *pair)
{
    tls_server_feed(pair->link, end.direct.output, end.direct.output_bytes);
    end.direct.output_bytes = 0;
}

static void begin_pair(struct tls_pair *pair, const struct wsr_tls_suite *suite)
{
    tls_pair_open(pair, suite);
    tls_end_begin(&end, suite, &pair->in, &pair->out);
}

static void finish_pair(struct tls_pair *pair)
{
    tls_end_finish(&end);
    tls_pair_close(pair);
}

static void data_goes_both_ways_with_openssl_in_every_suite(void **state)
{
    static uint8_t sent[40000], got[40000];
    (void)state;
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i % 251);
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); *suite != NULL; suite++) {
        struct tls_pair pair;
        begin_pair(&pair, *suite);
        tls_server_write(pair.link, sent, sizeof sent, 0);
        assert_int_equal(client_reads(&pair, got, 0), sizeof got);
        assert_memory_equal(got, sent, sizeof got);
        client_writes(&pair, sent, 16384);
        client_writes(&pair, sent + 16384, 16384);
        assert_int_equal(pair.link->received_bytes, 32768);
        assert_memory_equal(pair.link->received, sent, 32768);
        finish_pair(&pair);
    }
}

static void close_notify_goes_both_ways_with_openssl(void **state)
{
    uint8_t data[8];
    (void)state;
    for (size_t i = 0; tls_end_suite(i) != NULL; i++) {
        struct tls_pair pair;
        begin_pair(&pair, tls_end_suite(i));
        tls_server_close(pair.link);
        client_reads(&pair, data, 0);
        assert_int_equal(end.event.type, WSR_TLS_EVENT_CLOSED);
        assert_int_equal(end.direct.state, WSR_TLS_DIRECT_CLOSED);
        client_writes(&pair, "bye", 3);            /* that is allowed still */
        assert_int_equal(pair.link->received_bytes, 3);
        wsr_tls_direct_alert(&end.direct, &tls_end_shared, 1, 0);
        client_sends_output(&pair);
        assert_int_equal(pair.link->state, TLS_SERVER_CLOSED);
        assert_int_equal(pair.link->alert_received, 0);
        finish_pair(&pair);
    }
}

static void fatal_alerts_go_both_ways_with_openssl(void **state)
{
    uint8_t data[8];
    (void)state;
    for (size_t i = 0; tls_end_suite(i) != NULL; i++) {
        struct tls_pair pair;
        begin_pair(&pair, tls_end_suite(i));
        static const char closed[] = "\x17\3\3\0\x40 this does not open, and OpenSSL says so to us with an alert......";
        tls_server_feed(pair.link, closed, 69);
        assert_int_equal(pair.link->state, TLS_SERVER_FAILED);
        client_reads(&pair, data, 0);
        assert_int_equal(end.event.type, WSR_TLS_EVENT_FAILURE);
        assert_int_equal(end.event.alert, 20);
        assert_string_equal(end.event.text, wsr_tls_text_of_alert(20));
        assert_int_equal(end.direct.output_bytes, 0);
        finish_pair(&pair);
        begin_pair(&pair, tls_end_suite(i));
        memcpy(end.record, "\x17\3\3\0\x40 this does not open, and we say so to OpenSSL with an alert........", 69);
        tls_end_give_record(&end, 69);
        client_sends_output(&pair);
        assert_int_equal(pair.link->state, TLS_SERVER_FAILED);
        assert_int_equal(pair.link->alert_received, 20);
        finish_pair(&pair);
    }
}

static void tickets_of_openssl_are_handed_out_whole(void **state)
{
    uint8_t data[8];
    (void)state;
    for (size_t i = 0; i < TLS_END_1_3_SUITES; i++) {
        struct tls_pair pair;
        begin_pair(&pair, tls_end_suite(i));
        tls_server_send_tickets(pair.link, 3);
        tls_server_write(pair.link, "x", 1, 0);
        assert_int_equal(client_reads(&pair, data, 0), 1);
        assert_int_equal(end.tickets_count, 3);
        assert_int_equal(end.ticket[0], 4);
        assert_int_equal(wsr_load_be16(end.ticket + 2), end.ticket_bytes - 4);
        assert_null(end.direct.message);
        finish_pair(&pair);
    }
}

static void keys_are_updated_both_ways_with_openssl(void **state)
{
    uint8_t data[8];
    (void)state;
    for (size_t i = 0; i < TLS_END_1_3_SUITES; i++) {
        struct tls_pair pair;
        begin_pair(&pair, tls_end_suite(i));
        for (unsigned round = 1; round <= 4; round++) {
            bool asks = round % 2 == 0;
            uint64_t serial = end.direct.out.serial;
            tls_server_update_keys(pair.link, asks);
            tls_server_write(pair.link, "a", 1, 0);
            assert_int_equal(client_reads(&pair, data, 0), 1);
            assert_int_equal(end.direct.output_bytes, 0);
            assert_int_equal(end.direct.owes_update, asks);
            client_writes(&pair, "b", 1);
            assert_int_equal(end.direct.owes_update, false);
            assert_int_equal(end.direct.out.serial != serial, asks);
            assert_int_equal(pair.link->updates_received, round / 2);
            assert_int_equal(pair.link->received_bytes, round);
        }
        assert_int_equal(pair.link->state, TLS_SERVER_OPEN);
        finish_pair(&pair);
    }
}

/* RFC 5246 7.4.1.1 */
static void another_handshake_is_refused_and_openssl_goes_on(void **state)
{
    uint8_t data[8];
    (void)state;
    for (size_t i = TLS_END_1_3_SUITES; tls_end_suite(i) != NULL; i++) {
        struct tls_pair pair;
        begin_pair(&pair, tls_end_suite(i));
        SSL_clear_options(pair.link->ssl, SSL_OP_NO_RENEGOTIATION);
        tls_server_renegotiate(pair.link);
        client_reads(&pair, data, 0);
        assert_int_equal(end.event.type, WSR_TLS_EVENT_NOTHING);
        client_sends_output(&pair);
        assert_int_equal(pair.link->alert_received, 100);
        finish_pair(&pair);
    }
}

/* ---- What a peer may not do ---- */

struct bad_record {
    uint16_t version;                   /* of TLS; 0 = both */
    uint8_t type;
    const char *content;
    size_t len;
    unsigned alert;
    const char *word;
    bool is_server;
};

static void records_that_may_not_be_are_answered_by_the_alert_for_it(void **state)
{
    static const struct bad_record rows[] = {
        { 0, 20, "\1", 1, 10, "type", false }, { 0, 24, "\1\0\0", 3, 10, "type", false },
        { 0, 99, "x", 1, 10, "type", false }, { 0, 255, "", 0, 10, "type", false },
        { WSR_TLS_1_3, 22, "", 0, 10, "no bytes", false }, { WSR_TLS_1_3, 21, "", 0, 10, "no bytes", false },
        { WSR_TLS_1_2, 21, "", 0, 10, "two bytes", false },
        { 0, 21, "\1", 1, 10, "two bytes", false }, { 0, 21, "\1\0\1", 3, 10, "two bytes", false },
        { 0, 21, "\2\0\1\0", 4, 10, "two bytes", false },
        { WSR_TLS_1_2, 21, "\0\0", 2, 47, "neither", false }, { WSR_TLS_1_2, 21, "\3\50", 2, 47, "neither", false },
        { WSR_TLS_1_2, 21, "\1\144", 2, 40, "another handshake", false },
        { WSR_TLS_1_3, 22, "\0\0\0\0", 4, 10, "no place", false },
        { WSR_TLS_1_3, 22, "\1\0\0\0", 4, 10, "no place", false },
        { WSR_TLS_1_3, 22, "\15\0\0\0", 4, 10, "no place", false },
        { WSR_TLS_1_3, 22, "\24\0\0\40", 4, 10, "no place", false },
        { WSR_TLS_1_3, 22, "\4\0\0\0", 4, 10, "no place", true },
        { WSR_TLS_1_3, 22, "\1\0\0\0", 4, 10, "no place", true },
        { WSR_TLS_1_3, 22, "\4\0\0\0", 4, 50, "taken apart", false },
        { WSR_TLS_1_3, 22, "\4\2\1\13", 4, 47, "longer", false },
        { WSR_TLS_1_3, 22, "\4\377\377\377", 4, 47, "longer", false },
        { WSR_TLS_1_3, 22, "\30\0\0\0", 4, 50, "too short", false },
        { WSR_TLS_1_3, 22, "\30\0\0\2", 4, 47, "longer", false },
        { WSR_TLS_1_3, 22, "\30\0\0\1\2", 5, 47, "neither", false },
        { WSR_TLS_1_3, 22, "\30\0\0\1\377", 5, 47, "neither", true },
        { WSR_TLS_1_3, 22, "\30\0\0\1\0\4", 6, 10, "behind", false },
        { WSR_TLS_1_3, 22, "\30\0\0\1\0\30\0\0\1\0", 10, 10, "behind", false },
        { WSR_TLS_1_3, 22, "\30\0\0\1\7\4", 6, 10, "behind", true },
        { WSR_TLS_1_3, 22, "\30\0\0\0\7", 5, 10, "behind", false },
        { WSR_TLS_1_2, 22, "\0\0\0\1", 4, 47, "longer", false },
        { WSR_TLS_1_2, 22, "\4\0\0\0", 4, 10, "no place", false },
        { WSR_TLS_1_2, 22, "\1\0\0\0", 4, 10, "no place", false },
        { WSR_TLS_1_2, 22, "\24\0\0\14", 4, 10, "no place", false },
        { WSR_TLS_1_2, 22, "\0\0\0\0", 4, 10, "no place", true },
        { WSR_TLS_1_2, 22, "\1\2\1\105", 4, 47, "longer", true },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t j = 0; tls_end_suite(j) != NULL; j++) {
            if (rows[i].version != 0 && rows[i].version != tls_end_suite(j)->version)
                continue;
            tls_end_begin_alone(&end, tls_end_suite(j));
            end.direct.is_server = rows[i].is_server;
            tls_end_give(&end, rows[i].type, rows[i].content, rows[i].len);
            tls_end_must_fail(&end, rows[i].alert, rows[i].word);
            tls_end_finish(&end);
        }
    }
}

static void who_is_named_depends_on_the_role(void **state)
{
    (void)state;
    for (unsigned is_server = 0; is_server < 2; is_server++) {
        tls_end_begin_alone(&end, tls_1_3());
        end.direct.is_server = is_server;
        tls_end_give(&end, 20, "\1", 1);
        assert_non_null(strstr(end.event.text, is_server ? "the client" : "the server"));
        tls_end_finish(&end);
        tls_end_begin_alone(&end, tls_1_3());
        end.direct.is_server = is_server;
        tls_end_give(&end, 21, "\2\50", 2);
        assert_non_null(strstr(end.event.text, is_server ? "the client" : "the server"));
        tls_end_finish(&end);
    }
}

struct bad_header {
    uint16_t version;
    uint8_t header[WSR_TLS_HEADER_BYTES];
    unsigned alert;
};

static void headers_are_judged_before_the_rest_is_there(void **state)
{
    static const struct bad_header rows[] = {
        { WSR_TLS_1_3, { 23, 2, 3, 0, 99 }, 70 }, { WSR_TLS_1_3, { 'H', 'T', 'T', 'P', '/' }, 70 },
        { WSR_TLS_1_3, { 23, 4, 3, 0, 99 }, 70 }, { WSR_TLS_1_3, { 20, 0, 0, 0, 99 }, 70 },
        { WSR_TLS_1_3, { 20, 3, 3, 0, 1 }, 10 }, { WSR_TLS_1_3, { 21, 3, 3, 0, 2 }, 10 },
        { WSR_TLS_1_3, { 22, 3, 3, 0, 99 }, 10 }, { WSR_TLS_1_3, { 22, 3, 1, 0, 99 }, 10 },
        { WSR_TLS_1_3, { 0, 3, 3, 255, 255 }, 10 }, { WSR_TLS_1_3, { 23, 3, 4, 0, 99 }, 50 },
        { WSR_TLS_1_3, { 23, 3, 1, 0, 99 }, 50 }, { WSR_TLS_1_3, { 23, 3, 0, 255, 255 }, 50 },
        { WSR_TLS_1_3, { 23, 3, 3, 0x41, 0x01 }, 22 }, { WSR_TLS_1_3, { 23, 3, 3, 255, 255 }, 22 },
        { WSR_TLS_1_2, { 23, 3, 4, 0, 99 }, 70 }, { WSR_TLS_1_2, { 23, 3, 1, 0, 99 }, 70 },
        { WSR_TLS_1_2, { 21, 2, 0, 0, 99 }, 70 }, { WSR_TLS_1_2, { 'H', 'T', 'T', 'P', '/' }, 70 },
        { WSR_TLS_1_2, { 23, 3, 3, 0x41, 0x41 }, 22 }, { WSR_TLS_1_2, { 99, 3, 3, 255, 255 }, 22 },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        tls_end_begin_alone(&end, rows[i].version == WSR_TLS_1_3 ? tls_1_3() : tls_1_2());
        assert_int_equal(wsr_tls_direct_length(&end.direct, rows[i].header), 0);
        uint8_t *alone = malloc(WSR_TLS_HEADER_BYTES);
        memcpy(alone, rows[i].header, WSR_TLS_HEADER_BYTES);
        wsr_tls_direct_open(&end.direct, &tls_end_shared, alone, WSR_TLS_HEADER_BYTES, &end.event);
        free(alone);
        tls_end_must_fail(&end, rows[i].alert, "sent");
        tls_end_finish(&end);
    }
}

static void lengths_are_allowed_up_to_the_limit(void **state)
{
    static const uint8_t most_1_3[] = { 23, 3, 3, 0x41, 0x00 }, most_1_2[] = { 0, 3, 3, 0x41, 0x40 };
    static const uint8_t none[] = { 23, 3, 3, 0, 0 };
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    assert_int_equal(wsr_tls_direct_length(&end.direct, most_1_3), 5 + 16384 + 256);
    assert_int_equal(wsr_tls_direct_length(&end.direct, none), 5);
    memcpy(end.record, none, sizeof none);
    tls_end_give_record(&end, sizeof none);
    tls_end_must_fail(&end, 20, "does not open");
    tls_end_finish(&end);
    tls_end_begin_alone(&end, tls_1_2());
    assert_int_equal(wsr_tls_direct_length(&end.direct, most_1_2), 5 + 16384 + 320);
    memcpy(end.record, none, sizeof none);
    tls_end_give_record(&end, sizeof none);
    tls_end_must_fail(&end, 80, "too short");
    tls_end_finish(&end);
}

static void a_record_with_any_byte_changed_ends_the_connection(void **state)
{
    (void)state;
    for (size_t i = 0; tls_end_suite(i) != NULL; i++) {
        size_t bytes = 60;
        for (size_t at = 0; at < bytes; at++) {
            if (at == 3 || at == 4)
                continue;                                /* that is a record of another length */
            tls_end_begin_alone(&end, tls_end_suite(i));
            bytes = tls_craft_plain(tls_end_suite(i), &end.peer_out, WSR_TLS_DATA, "tampered", 8, 0, end.record);
            end.record[at] ^= 0x10;
            tls_end_give_record(&end, bytes);
            bool is_type = at == 0 && tls_end_suite(i)->version == WSR_TLS_1_3;
            tls_end_must_fail(&end, is_type ? 10 : at == 1 ? 70 : at == 2 ? i < 3 ? 50 : 70 : 20, "sent");
            tls_end_finish(&end);
        }
    }
}

static void records_with_more_than_16384_bytes_and_of_padding_only_are_refused(void **state)
{
    static uint8_t inner[16384 + 256];
    (void)state;
    for (size_t i = 0; tls_end_suite(i) != NULL; i++) {
        bool is_1_3 = tls_end_suite(i)->version == WSR_TLS_1_3;
        struct tls_craft craft = { WSR_TLS_DATA, WSR_TLS_1_2, inner, 16385 + is_1_3 };
        memset(inner, WSR_TLS_DATA, sizeof inner);
        tls_end_begin_alone(&end, tls_end_suite(i));
        tls_end_give_record(&end, tls_craft(tls_end_suite(i), &end.peer_out, &craft, end.record));
        tls_end_must_fail(&end, 22, "16,384");
        tls_end_finish(&end);
        if (!is_1_3)
            continue;
        memset(inner, 99, sizeof inner);                 /* the type is looked at first */
        tls_end_begin_alone(&end, tls_end_suite(i));
        tls_end_give_record(&end, tls_craft(tls_end_suite(i), &end.peer_out, &craft, end.record));
        tls_end_must_fail(&end, 10, "type");
        tls_end_finish(&end);
        for (size_t len = 1; len <= 16384; len += 5461) {
            memset(inner, 0, sizeof inner);
            craft.inner_bytes = len;
            tls_end_begin_alone(&end, tls_end_suite(i));
            tls_end_give_record(&end, tls_craft(tls_end_suite(i), &end.peer_out, &craft, end.record));
            tls_end_must_fail(&end, 10, "padding");
            tls_end_finish(&end);
        }
    }
}

static void padding_is_read_over(void **state)
{
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    for (size_t padding = 0; padding <= 16384; padding = 2 * padding + 1) {
        size_t bytes = tls_craft_plain(tls_1_3(), &end.peer_out, WSR_TLS_DATA, "padded\0", 7, padding, end.record);
        tls_end_give_record(&end, bytes);
        assert_int_equal(end.event.type, WSR_TLS_EVENT_DATA);
        assert_int_equal(end.event.data.len, 7);
        assert_memory_equal(end.event.data.data, "padded\0", 7);
        assert_null(end.event.block);
    }
    tls_end_finish(&end);
}

static void empty_records_are_read_over_up_to_32_in_a_row(void **state)
{
    (void)state;
    for (size_t i = 0; tls_end_suite(i) != NULL; i++) {
        tls_end_begin_alone(&end, tls_end_suite(i));
        for (unsigned round = 0; round < 3; round++) {
            for (unsigned j = 0; j < 32; j++)
                assert_int_equal(tls_end_give(&end, WSR_TLS_DATA, NULL, 0), WSR_TLS_EVENT_NOTHING);
            assert_int_equal(tls_end_give(&end, WSR_TLS_DATA, "x", 1), WSR_TLS_EVENT_DATA);
        }
        for (unsigned j = 0; j < 32; j++)
            assert_int_equal(tls_end_give(&end, i < 3 || j % 2 ? WSR_TLS_DATA : WSR_TLS_HANDSHAKE, NULL, 0),
                             WSR_TLS_EVENT_NOTHING);
        tls_end_give(&end, WSR_TLS_DATA, NULL, 0);
        tls_end_must_fail(&end, 10, "empty");
        tls_end_finish(&end);
    }
}

/* ---- Alerts ---- */

static void warnings_are_read_over_up_to_four_in_a_row(void **state)
{
    (void)state;
    for (size_t i = 0; tls_end_suite(i) != NULL; i++) {
        tls_end_begin_alone(&end, tls_end_suite(i));
        for (unsigned round = 0; round < 3; round++) {
            for (unsigned j = 0; j < 4; j++)
                assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, "\1\132", 2), WSR_TLS_EVENT_NOTHING);
            assert_int_equal(tls_end_give(&end, WSR_TLS_DATA, NULL, 0), WSR_TLS_EVENT_NOTHING);  /* is none */
            assert_int_equal(tls_end_give(&end, WSR_TLS_DATA, "x", 1), WSR_TLS_EVENT_DATA);
        }
        for (unsigned j = 0; j < 4; j++)
            assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, "\1\132", 2), WSR_TLS_EVENT_NOTHING);
        tls_end_give(&end, WSR_TLS_DATA, NULL, 0);
        tls_end_give(&end, WSR_TLS_ALERT, "\1\0", 2);            /* close_notify is one too, and too late */
        tls_end_must_fail(&end, 10, "warning");
        tls_end_finish(&end);
    }
}

static void fatal_alerts_and_in_tls_1_3_all_others_end_the_connection(void **state)
{
    static const struct { uint16_t version; const char *content; unsigned alert; } rows[] = {
        { 0, "\2\50", 40 }, { 0, "\2\377", 255 }, { 0, "\2\12", 10 }, { WSR_TLS_1_2, "\2\0", 0 }, { 0, "\2\144", 100 },
        { WSR_TLS_1_3, "\1\50", 40 }, { WSR_TLS_1_3, "\0\50", 40 }, { WSR_TLS_1_3, "\7\50", 40 },
        { WSR_TLS_1_3, "\1\144", 100 }, { WSR_TLS_1_2, "\2\132", 90 },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t j = 0; tls_end_suite(j) != NULL; j++) {
            if (rows[i].version != 0 && rows[i].version != tls_end_suite(j)->version)
                continue;
            tls_end_begin_alone(&end, tls_end_suite(j));
            assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, rows[i].content, 2), WSR_TLS_EVENT_FAILURE);
            assert_int_equal(end.event.alert, rows[i].alert);
            assert_int_equal(end.direct.state, WSR_TLS_DIRECT_FAILED);
            assert_string_equal(tls_end_take_output(&end), "");
            tls_end_finish(&end);
        }
    }
}

static void close_notify_of_any_level_ends_tls_1_3(void **state)
{
    (void)state;
    for (char level = 0; level < 4; level++) {
        char content[] = { level, 0 };
        tls_end_begin_alone(&end, tls_1_3());
        tls_end_give(&end, WSR_TLS_ALERT, "\2\132", 2);          /* user_canceled is none to end for */
        assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, content, 2), WSR_TLS_EVENT_CLOSED);
        assert_int_equal(tls_end_give(&end, WSR_TLS_DATA, "x", 1), WSR_TLS_EVENT_NOTHING);
        assert_int_equal(tls_end_give(&end, 99, "x", 1), WSR_TLS_EVENT_NOTHING);
        assert_string_equal(tls_end_take_output(&end), "");
        tls_end_finish(&end);
    }
}

static void user_canceled_counts_as_a_warning_whatever_its_level(void **state)
{
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, i % 2 ? "\2\132" : "\0\132", 2), WSR_TLS_EVENT_NOTHING);
    tls_end_give(&end, WSR_TLS_ALERT, "\2\132", 2);
    tls_end_must_fail(&end, 10, "warning");
    tls_end_finish(&end);
}

static void other_warnings_of_tls_1_2_are_read_over(void **state)
{
    (void)state;
    tls_end_begin_alone(&end, tls_1_2());
    assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, "\1\50", 2), WSR_TLS_EVENT_NOTHING);
    assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, "\1\132", 2), WSR_TLS_EVENT_NOTHING);
    assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, "\1\0", 2), WSR_TLS_EVENT_CLOSED);
    tls_end_finish(&end);
}

static void after_our_close_notify_we_read_on_and_say_nothing_more(void **state)
{
    (void)state;
    for (size_t i = 0; tls_end_suite(i) != NULL; i++) {
        uint8_t out[64];
        struct iovec part = { out, 1 };
        tls_end_begin_alone(&end, tls_end_suite(i));
        wsr_tls_direct_alert(&end.direct, &tls_end_shared, 1, 0);
        wsr_tls_direct_alert(&end.direct, &tls_end_shared, 1, 0);
        assert_string_equal(tls_end_take_output(&end), "1 0");
        assert_int_equal(wsr_tls_direct_seal(&end.direct, &tls_end_shared, &part, 1, out), WSR_ERR_INVALID_STATE);
        assert_int_equal(tls_end_give(&end, WSR_TLS_DATA, "x", 1), WSR_TLS_EVENT_DATA);
        if (i >= TLS_END_1_3_SUITES) {
            assert_int_equal(tls_end_give(&end, WSR_TLS_HANDSHAKE, "\0\0\0\0", 4), WSR_TLS_EVENT_NOTHING);
            assert_int_equal(tls_end_give(&end, WSR_TLS_HANDSHAKE, "\7\0\0\0", 4), WSR_TLS_EVENT_NOTHING);
        }
        assert_int_equal(tls_end_give(&end, 20, "\1", 1), WSR_TLS_EVENT_FAILURE);
        assert_int_equal(end.event.alert, 0);
        assert_string_equal(tls_end_take_output(&end), "");
        tls_end_finish(&end);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_goes_both_ways_with_openssl_in_every_suite),
        cmocka_unit_test(close_notify_goes_both_ways_with_openssl),
        cmocka_unit_test(fatal_alerts_go_both_ways_with_openssl),
        cmocka_unit_test(tickets_of_openssl_are_handed_out_whole),
        cmocka_unit_test(keys_are_updated_both_ways_with_openssl),
        cmocka_unit_test(another_handshake_is_refused_and_openssl_goes_on),
        cmocka_unit_test(records_that_may_not_be_are_answered_by_the_alert_for_it),
        cmocka_unit_test(who_is_named_depends_on_the_role),
        cmocka_unit_test(headers_are_judged_before_the_rest_is_there),
        cmocka_unit_test(lengths_are_allowed_up_to_the_limit),
        cmocka_unit_test(a_record_with_any_byte_changed_ends_the_connection),
        cmocka_unit_test(records_with_more_than_16384_bytes_and_of_padding_only_are_refused),
        cmocka_unit_test(padding_is_read_over),
        cmocka_unit_test(empty_records_are_read_over_up_to_32_in_a_row),
        cmocka_unit_test(warnings_are_read_over_up_to_four_in_a_row),
        cmocka_unit_test(fatal_alerts_and_in_tls_1_3_all_others_end_the_connection),
        cmocka_unit_test(close_notify_of_any_level_ends_tls_1_3),
        cmocka_unit_test(user_canceled_counts_as_a_warning_whatever_its_level),
        cmocka_unit_test(other_warnings_of_tls_1_2_are_read_over),
        cmocka_unit_test(after_our_close_notify_we_read_on_and_say_nothing_more),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    wsr_tls_ciphers_free(tls_end_shared.ciphers);
    return rc;
}
