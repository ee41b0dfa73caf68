/* engine/tls_direct: handshake messages in pieces and in heaps, updates of keys, and what the kernel has opened.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/tls_craft.h"
#include "tests/support/tls_end.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct tls_end end;

static const uint8_t update[] = { 24, 0, 0, 1, 0 }, asking_update[] = { 24, 0, 0, 1, 1 };
static const uint8_t hello_request[] = { 0, 0, 0, 0 };

static const struct wsr_tls_suite *tls_1_3(void)
{
    return tls_end_suite(0);
}

static const struct wsr_tls_suite *tls_1_2(void)
{
    return tls_end_suite(TLS_END_1_3_SUITES);
}

/* A NewSessionTicket with a ticket of @len bytes. Returns the message's bytes. */
static size_t write_ticket(uint8_t *out, size_t len)
{
    static const uint8_t head[] = { 4, 0, 0, 0, 0, 0, 1, 0, 9, 9, 9, 9, 1, 7 };
    memcpy(out, head, sizeof head);
    wsr_store_be16(out + sizeof head, (uint16_t)len);
    memset(out + sizeof head + 2, 't', len);
    wsr_store_be16(out + sizeof head + 2 + len, 0);
    size_t bytes = sizeof head + len + 4;
    out[1] = (uint8_t)((bytes - 4) >> 16);
    wsr_store_be16(out + 2, (uint16_t)(bytes - 4));
    return bytes;
}

static void peer_renews(void)
{
    assert_int_equal(wsr_tls_key_renew(&end.peer_out, end.direct.suite), 0);
}

/* Data must come through. */
static void must_go_on(void)
{
    assert_int_equal(tls_end_give(&end, WSR_TLS_DATA, "on", 2), WSR_TLS_EVENT_DATA);
    assert_memory_equal(end.event.data.data, "on", 2);
    assert_null(end.direct.message);
}

/* ---- Pieces ---- */

static void give_pieces(const uint8_t *message, size_t len, const size_t cuts[2])
{
    size_t at = 0;
    for (unsigned i = 0; i < 3; i++) {
        size_t to = i < 2 ? cuts[i] : len;
        if (to > at)
            assert_int_equal(tls_end_give(&end, WSR_TLS_HANDSHAKE, message + at, to - at), WSR_TLS_EVENT_NOTHING);
        at = to;
    }
}

static void messages_may_be_cut_at_any_two_places(void **state)
{
    uint8_t message[64];
    size_t len = write_ticket(message, 5);
    (void)state;
    memcpy(message + len, asking_update, sizeof asking_update);
    len += sizeof asking_update;
    for (size_t first = 0; first <= len; first++) {
        for (size_t second = first; second <= len; second++) {
            tls_end_begin_alone(&end, tls_1_3());
            give_pieces(message, len, (size_t[]){ first, second });
            assert_int_equal(end.tickets_count, 1);
            assert_int_equal(end.ticket_bytes, len - sizeof asking_update);
            assert_memory_equal(end.ticket, message, end.ticket_bytes);
            assert_true(end.direct.owes_update);
            peer_renews();
            must_go_on();
            tls_end_finish(&end);
        }
    }
}

static void hello_requests_may_be_cut_and_in_tls_1_2_data_may_come_between(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < sizeof hello_request; cut++) {
        tls_end_begin_alone(&end, tls_1_2());
        tls_end_give(&end, WSR_TLS_HANDSHAKE, hello_request, cut);
        assert_int_equal(tls_end_give(&end, WSR_TLS_DATA, "x", 1), WSR_TLS_EVENT_DATA);
        assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, "\1\132", 2), WSR_TLS_EVENT_NOTHING);
        assert_string_equal(tls_end_take_output(&end), "");
        tls_end_give(&end, WSR_TLS_HANDSHAKE, hello_request, sizeof hello_request - cut);
        assert_string_equal(tls_end_take_output(&end), "1 100");
        must_go_on();
        tls_end_finish(&end);
    }
}

static void every_byte_of_a_ticket_may_come_alone(void **state)
{
    uint8_t message[400];
    size_t len = write_ticket(message, 300);
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    for (size_t i = 0; i < len; i++)
        tls_end_give(&end, WSR_TLS_HANDSHAKE, message + i, 1);
    assert_int_equal(end.tickets_count, 1);
    assert_memory_equal(end.ticket, message, len);
    must_go_on();
    tls_end_finish(&end);
}

static void a_record_may_hold_many_messages(void **state)
{
    static uint8_t messages[16384];
    size_t len = 0, count = 0;
    (void)state;
    while (len < 16000) {
        len += write_ticket(messages + len, count % 40 + 1);
        count++;
    }
    memcpy(messages + len, update, sizeof update);
    tls_end_begin_alone(&end, tls_1_3());
    tls_end_give(&end, WSR_TLS_HANDSHAKE, messages, len + sizeof update);
    assert_int_equal(end.tickets_count, count);
    assert_false(end.direct.owes_update);
    peer_renews();
    must_go_on();
    tls_end_finish(&end);
}

/* RFC 8446 5.1. Alerts pass once the header is there, as with OpenSSL. */
static void nothing_else_may_come_between_the_pieces_in_tls_1_3(void **state)
{
    uint8_t message[64];
    size_t len = write_ticket(message, 5);
    (void)state;
    for (size_t cut = 1; cut < len; cut++) {
        tls_end_begin_alone(&end, tls_1_3());
        tls_end_give(&end, WSR_TLS_HANDSHAKE, message, cut);
        tls_end_give(&end, WSR_TLS_DATA, "x", cut % 2);
        tls_end_must_fail(&end, 10, "between");
        tls_end_finish(&end);
        tls_end_begin_alone(&end, tls_1_3());
        tls_end_give(&end, WSR_TLS_HANDSHAKE, message, cut);
        tls_end_give(&end, WSR_TLS_ALERT, "\1\132", 2);
        if (cut < 4) {
            tls_end_must_fail(&end, 10, "between");
        } else {
            tls_end_give(&end, WSR_TLS_HANDSHAKE, message + cut, len - cut);
            assert_int_equal(end.tickets_count, 1);
            must_go_on();
        }
        tls_end_finish(&end);
    }
}

static void close_notify_may_come_inside_a_message(void **state)
{
    uint8_t message[64];
    write_ticket(message, 5);
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    tls_end_give(&end, WSR_TLS_HANDSHAKE, message, 10);
    assert_non_null(end.direct.message);
    assert_int_equal(tls_end_give(&end, WSR_TLS_ALERT, "\1\0", 2), WSR_TLS_EVENT_CLOSED);
    assert_null(end.direct.message);
    tls_end_finish(&end);
}

static void a_message_is_judged_by_its_header_alone(void **state)
{
    static const struct { uint8_t head[4]; unsigned alert; } rows[] = {
        { { 24, 0, 0, 2 }, 47 }, { { 8, 0, 0, 9 }, 10 }, { { 4, 2, 1, 11 }, 47 },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        tls_end_begin_alone(&end, tls_1_3());
        for (size_t at = 0; at < 4; at++) {
            assert_int_not_equal(end.event.type, WSR_TLS_EVENT_FAILURE);
            tls_end_give(&end, WSR_TLS_HANDSHAKE, rows[i].head + at, 1);
        }
        tls_end_must_fail(&end, rows[i].alert, "handshake message");
        tls_end_finish(&end);
    }
}

static void the_largest_ticket_is_taken_and_one_that_is_only_announced_takes_no_memory(void **state)
{
    static uint8_t message[TLS_END_ROOM * 5];
    size_t len = write_ticket(message, 65535);
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    for (unsigned round = 0; round < 20; round++) {
        for (size_t at = 0; at < len; at += 16384) {
            tls_end_give(&end, WSR_TLS_HANDSHAKE, message + at, len - at < 16384 ? len - at : 16384);
            assert_true(end.direct.message_room <= 2 * (at + 16384));
        }
        assert_int_equal(end.tickets_count, round + 1);
        assert_memory_equal(end.ticket, message, len);
        assert_null(end.direct.message);
    }
    tls_end_give(&end, WSR_TLS_HANDSHAKE, "\4\2\1\12", 4);           /* the most that it can be */
    assert_true(end.direct.message_room < 1024);
    tls_end_finish(&end);
}

static bool has_no_memory;

void *__real_realloc(void *block, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);

void *__wrap_realloc(void *block, size_t bytes)
{
    return has_no_memory ? NULL : __real_realloc(block, bytes);
}

static void a_message_for_which_there_is_no_memory_ends_the_connection(void **state)
{
    static uint8_t message[2000];
    size_t len = write_ticket(message, 1900);
    (void)state;
    for (size_t first = 1; first < len; first += 200) {
        for (unsigned has_begun = 0; has_begun < 2; has_begun++) {
            tls_end_begin_alone(&end, tls_1_3());
            if (has_begun)
                tls_end_give(&end, WSR_TLS_HANDSHAKE, message, 10);
            has_no_memory = true;
            tls_end_give(&end, WSR_TLS_HANDSHAKE, message + 10 * has_begun, has_begun ? len - 11 : first);
            has_no_memory = false;
            tls_end_must_fail(&end, 80, "memory");
            tls_end_finish(&end);
        }
    }
}

static void tickets_are_read_over_when_nobody_wants_them(void **state)
{
    uint8_t message[64];
    size_t len = write_ticket(message, 5);
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    end.direct.ticket = NULL;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(tls_end_give(&end, WSR_TLS_HANDSHAKE, message, len), WSR_TLS_EVENT_NOTHING);
    assert_int_equal(end.tickets_count, 0);
    must_go_on();
    message[4 + 8 + 2 + 1] = 0;                                      /* no bytes of ticket */
    tls_end_give(&end, WSR_TLS_HANDSHAKE, message, len);
    tls_end_must_fail(&end, 50, "ticket");
    tls_end_finish(&end);
}

static void a_ticket_with_a_foreign_extension_is_refused(void **state)
{
    uint8_t message[] = { 4, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 't', 0, 6, 0, 43, 0, 2, 3, 4 };
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    tls_end_give(&end, WSR_TLS_HANDSHAKE, message, sizeof message);
    tls_end_must_fail(&end, 47, "extension");
    tls_end_finish(&end);
}

/* ---- Updates of keys ---- */

static void an_update_that_asks_is_answered_before_the_next_record_and_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < TLS_END_1_3_SUITES; i++) {
        tls_end_begin_alone(&end, tls_end_suite(i));
        for (unsigned j = 0; j < 3000; j++) {
            assert_int_equal(tls_end_give(&end, WSR_TLS_HANDSHAKE, j % 7 ? update : asking_update, sizeof update),
                             WSR_TLS_EVENT_NOTHING);
            peer_renews();
        }
        assert_int_equal(end.direct.output_bytes, 0);
        must_go_on();
        assert_string_equal(tls_end_seal(&end, "a"), "22 update, 23 a");
        assert_string_equal(tls_end_seal(&end, "b"), "23 b");
        tls_end_finish(&end);
    }
}

/* RFC 8446 5.1 */
static void an_update_in_pieces_ends_its_record_too(void **state)
{
    static const uint8_t more[] = { 24, 0, 0, 1, 0, 4 };
    (void)state;
    for (size_t cut = 1; cut < sizeof update; cut++) {
        tls_end_begin_alone(&end, tls_1_3());
        tls_end_give(&end, WSR_TLS_HANDSHAKE, more, cut);
        tls_end_give(&end, WSR_TLS_HANDSHAKE, more + cut, sizeof more - cut);
        tls_end_must_fail(&end, 10, "behind");
        tls_end_finish(&end);
    }
}

/* As OpenSSL does it: with the key that the peer expects still. */
static void an_alert_does_not_wait_for_the_update_that_is_owed(void **state)
{
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    tls_end_give(&end, WSR_TLS_HANDSHAKE, asking_update, sizeof asking_update);
    peer_renews();
    wsr_tls_direct_alert(&end.direct, &tls_end_shared, 1, 0);
    assert_string_equal(tls_end_take_output(&end), "1 0");
    tls_end_finish(&end);
}

static void the_old_key_opens_nothing_after_an_update(void **state)
{
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    tls_end_give(&end, WSR_TLS_HANDSHAKE, update, sizeof update);
    tls_end_give(&end, WSR_TLS_DATA, "x", 1);
    assert_int_equal(end.event.type, WSR_TLS_EVENT_FAILURE);
    assert_int_equal(end.event.alert, 20);
    tls_end_finish(&end);
}

/* RFC 8446 5.5 */
static void a_key_that_has_sealed_enough_is_renewed(void **state)
{
    (void)state;
    for (size_t i = 0; i < TLS_END_1_3_SUITES; i++) {
        tls_end_begin_alone(&end, tls_end_suite(i));
        end.direct.out.sequence = end.peer_in.sequence = WSR_TLS_DIRECT_RECORDS_MAX - 1;
        assert_string_equal(tls_end_seal(&end, "a"), "23 a");
        assert_string_equal(tls_end_seal(&end, "b"), "22 update, 23 b");
        assert_int_equal(end.direct.out.sequence, 1);
        assert_string_equal(tls_end_seal(&end, "c"), "23 c");
        tls_end_finish(&end);
    }
}

static void tls_1_2_has_no_other_key_and_ends_with_the_last_sequence_number(void **state)
{
    uint8_t out[64];
    struct iovec part = { out, 1 };
    (void)state;
    tls_end_begin_alone(&end, tls_1_2());
    end.direct.out.sequence = end.peer_in.sequence = WSR_TLS_DIRECT_RECORDS_MAX;
    assert_string_equal(tls_end_seal(&end, "a"), "23 a");
    end.direct.out.sequence = UINT64_MAX;
    assert_int_equal(wsr_tls_direct_seal(&end.direct, &tls_end_shared, &part, 1, out), WSR_ERR_INVALID_STATE);
    assert_int_equal(end.direct.state, WSR_TLS_DIRECT_FAILED);
    tls_end_finish(&end);
}

static void what_is_owed_has_room(void **state)
{
    static uint8_t data[16384], out[32 + 5 + 16384 + 1 + 16];
    struct iovec part = { data, sizeof data };
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    end.direct.owes_update = true;
    ssize_t bytes = wsr_tls_direct_seal(&end.direct, &tls_end_shared, &part, 1, out);
    assert_true(bytes <= (ssize_t)(WSR_TLS_DIRECT_OWED_MAX + 5 + sizeof data + 1 + 16));
    tls_end_finish(&end);
}

/* ---- Renegotiation ---- */

/* RFC 5246 7.4.1.1 */
static void each_hello_request_is_answered_but_not_while_an_answer_waits(void **state)
{
    static uint8_t many[16384];
    (void)state;
    for (size_t i = TLS_END_1_3_SUITES; tls_end_suite(i) != NULL; i++) {
        tls_end_begin_alone(&end, tls_end_suite(i));
        for (unsigned j = 0; j < 3; j++) {
            tls_end_give(&end, WSR_TLS_HANDSHAKE, hello_request, sizeof hello_request);
            assert_string_equal(tls_end_take_output(&end), "1 100");
        }
        tls_end_give(&end, WSR_TLS_HANDSHAKE, many, sizeof many);
        tls_end_give(&end, WSR_TLS_HANDSHAKE, many, sizeof many);
        must_go_on();
        tls_end_give(&end, WSR_TLS_HANDSHAKE, "\0\0\0\0\1\0\0\0", 8);
        assert_int_equal(end.event.alert, 10);
        assert_string_equal(tls_end_take_output(&end), "1 100, 2 10");
        tls_end_finish(&end);
    }
}

static void a_client_that_wants_another_handshake_is_refused_by_the_server(void **state)
{
    static uint8_t hello[4 + 131396] = { 1, 2, 1, 68 };
    (void)state;
    tls_end_begin_alone(&end, tls_1_2());
    end.direct.is_server = true;
    for (size_t at = 0; at < sizeof hello; at += 16000) {
        assert_string_equal(tls_end_take_output(&end), "");
        tls_end_give(&end, WSR_TLS_HANDSHAKE, hello + at, sizeof hello - at < 16000 ? sizeof hello - at : 16000);
        assert_null(end.direct.message);                 /* it is only counted */
    }
    assert_string_equal(tls_end_take_output(&end), "1 100");
    must_go_on();
    tls_end_give(&end, WSR_TLS_HANDSHAKE, hello, 9);
    tls_end_give(&end, WSR_TLS_DATA, "x", 1);
    tls_end_must_fail(&end, 10, "between");
    tls_end_finish(&end);
}

/* ---- What the kernel has opened ---- */

static enum wsr_tls_event_type control(uint8_t type, const void *data, size_t len)
{
    wsr_tls_direct_control(&end.direct, type, wsr_bytes_of(data, len), &end.event);
    return end.event.type;
}

static void control_records_of_the_kernel_are_judged_alike(void **state)
{
    uint8_t message[64], next[WSR_TLS_DIRECT_UPDATE_BYTES];
    size_t len = write_ticket(message, 5);
    (void)state;
    tls_end_begin_alone(&end, tls_1_3());
    assert_int_equal(control(WSR_TLS_HANDSHAKE, message, 7), WSR_TLS_EVENT_NOTHING);
    assert_int_equal(control(WSR_TLS_HANDSHAKE, message + 7, len - 7), WSR_TLS_EVENT_NOTHING);
    assert_int_equal(end.tickets_count, 1);
    assert_memory_equal(end.ticket, message, len);
    peer_renews();
    assert_int_equal(control(WSR_TLS_HANDSHAKE, asking_update, sizeof asking_update), WSR_TLS_EVENT_KEYS);
    assert_memory_equal(end.direct.in.key, end.peer_out.key, sizeof end.peer_out.key);
    assert_true(end.direct.owes_update);
    assert_int_equal(wsr_tls_key_renew(&end.peer_in, tls_1_3()), 0);
    assert_int_equal(wsr_tls_direct_update(&end.direct, next), 0);
    assert_memory_equal(next, update, sizeof update);
    assert_memory_equal(end.direct.out.key, end.peer_in.key, sizeof end.peer_in.key);
    assert_false(end.direct.owes_update);
    assert_int_equal(control(WSR_TLS_DATA, "x", 1), WSR_TLS_EVENT_DATA);
    assert_int_equal(control(WSR_TLS_ALERT, "\1\0", 2), WSR_TLS_EVENT_CLOSED);
    wsr_tls_direct_alert(&end.direct, &tls_end_shared, 1, 0);
    assert_int_equal(end.direct.output_bytes, 2);
    assert_memory_equal(end.direct.output, "\1\0", 2);
    tls_end_finish(&end);
}

static void alerts_for_the_kernel_stay_as_they_are(void **state)
{
    (void)state;
    tls_end_begin_alone(&end, tls_1_2());
    assert_int_equal(control(WSR_TLS_HANDSHAKE, hello_request, sizeof hello_request), WSR_TLS_EVENT_NOTHING);
    assert_int_equal(end.direct.output_bytes, 2);
    assert_memory_equal(end.direct.output, "\1\144", 2);
    assert_int_equal(control(WSR_TLS_CHANGE_CIPHER_SPEC, "\1", 1), WSR_TLS_EVENT_FAILURE);
    assert_int_equal(end.event.alert, 10);
    assert_int_equal(end.direct.output_bytes, 2);
    assert_memory_equal(end.direct.output, "\2\12", 2);
    tls_end_finish(&end);
    tls_end_begin_alone(&end, tls_1_3());
    assert_int_equal(control(WSR_TLS_ALERT, "\2\50", 2), WSR_TLS_EVENT_FAILURE);
    assert_int_equal(end.event.alert, 40);
    assert_int_equal(end.direct.output_bytes, 0);
    assert_int_equal(control(WSR_TLS_ALERT, "\2\50", 2), WSR_TLS_EVENT_NOTHING);
    tls_end_finish(&end);
}

/* ---- The end ---- */

static void freeing_wipes_and_may_be_done_twice(void **state)
{
    static const struct wsr_tls_direct none;
    uint8_t message[64];
    (void)state;
    write_ticket(message, 5);
    tls_end_begin_alone(&end, tls_1_3());
    must_go_on();
    tls_end_give(&end, WSR_TLS_HANDSHAKE, message, 9);
    assert_non_null(end.direct.message);
    wsr_tls_direct_free(&end.direct);
    assert_memory_equal(&end.direct, &none, sizeof none);
    wsr_tls_direct_free(&end.direct);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_may_be_cut_at_any_two_places),
        cmocka_unit_test(hello_requests_may_be_cut_and_in_tls_1_2_data_may_come_between),
        cmocka_unit_test(every_byte_of_a_ticket_may_come_alone),
        cmocka_unit_test(a_record_may_hold_many_messages),
        cmocka_unit_test(nothing_else_may_come_between_the_pieces_in_tls_1_3),
        cmocka_unit_test(close_notify_may_come_inside_a_message),
        cmocka_unit_test(a_message_is_judged_by_its_header_alone),
        cmocka_unit_test(the_largest_ticket_is_taken_and_one_that_is_only_announced_takes_no_memory),
        cmocka_unit_test(a_message_for_which_there_is_no_memory_ends_the_connection),
        cmocka_unit_test(tickets_are_read_over_when_nobody_wants_them),
        cmocka_unit_test(a_ticket_with_a_foreign_extension_is_refused),
        cmocka_unit_test(an_update_that_asks_is_answered_before_the_next_record_and_once),
        cmocka_unit_test(an_update_in_pieces_ends_its_record_too),
        cmocka_unit_test(an_alert_does_not_wait_for_the_update_that_is_owed),
        cmocka_unit_test(the_old_key_opens_nothing_after_an_update),
        cmocka_unit_test(a_key_that_has_sealed_enough_is_renewed),
        cmocka_unit_test(tls_1_2_has_no_other_key_and_ends_with_the_last_sequence_number),
        cmocka_unit_test(what_is_owed_has_room),
        cmocka_unit_test(each_hello_request_is_answered_but_not_while_an_answer_waits),
        cmocka_unit_test(a_client_that_wants_another_handshake_is_refused_by_the_server),
        cmocka_unit_test(control_records_of_the_kernel_are_judged_alike),
        cmocka_unit_test(alerts_for_the_kernel_stay_as_they_are),
        cmocka_unit_test(freeing_wipes_and_may_be_done_twice),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    wsr_tls_ciphers_free(tls_end_shared.ciphers);
    return rc;
}
