/* engine/tls_ticket: what a NewSessionTicket must be; the differential fuzzer says that OpenSSL thinks the same.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/tls_ticket.h"

#define MESSAGE_MAX 64u
#define MESSAGE_LEN (4u + 8u + 3u + 5u + 2u)

/* Lifetime and age; nonce of two bytes; ticket of three; then @extensions, whose length stands before them. */
static size_t write_ticket(uint8_t *out, const void *extensions, size_t len)
{
    static const uint8_t fixed[] = { 4, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 2, 'n', 'o', 0, 3, 't', 'i', 'c' };
    memcpy(out, fixed, sizeof fixed);
    wsr_store_be16(out + sizeof fixed, (uint16_t)len);
    if (len > 0)
        memcpy(out + sizeof fixed + 2, extensions, len);
    size_t bytes = sizeof fixed + 2 + len;
    out[3] = (uint8_t)(bytes - 4);
    return bytes;
}

static enum wsr_tls_ticket_fault judge(const uint8_t *message, size_t len)
{
    uint8_t *own = malloc(len);
    assert_non_null(own);
    memcpy(own, message, len);
    enum wsr_tls_ticket_fault fault = wsr_tls_ticket_judge(wsr_bytes_of(own, len));
    free(own);
    return fault;
}

static void a_ticket_that_is_cut_or_too_long_is_malformed(void **state)
{
    uint8_t message[MESSAGE_MAX];
    size_t len = write_ticket(message, NULL, 0);
    (void)state;
    assert_int_equal(len, MESSAGE_LEN);
    assert_int_equal(judge(message, len), WSR_TLS_TICKET_GOOD);
    for (size_t cut = 4; cut < len; cut++)
        assert_int_equal(judge(message, cut), WSR_TLS_TICKET_MALFORMED);
    message[len] = 0;
    assert_int_equal(judge(message, len + 1), WSR_TLS_TICKET_MALFORMED);
}

static void a_ticket_has_bytes_and_its_nonce_need_not(void **state)
{
    static const uint8_t no_nonce[] = { 4, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 't', 0, 0 };
    static const uint8_t no_ticket[] = { 4, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 1, 'n', 0, 0, 0, 0 };
    (void)state;
    assert_int_equal(judge(no_nonce, sizeof no_nonce), WSR_TLS_TICKET_GOOD);
    assert_int_equal(judge(no_ticket, sizeof no_ticket), WSR_TLS_TICKET_MALFORMED);
}

static void extensions_are_taken_apart_and_those_of_other_messages_refused(void **state)
{
    static const struct { enum wsr_tls_ticket_fault want; size_t len; uint8_t extensions[20]; } rows[] = {
        { WSR_TLS_TICKET_GOOD, 8, { 0, 42, 0, 4, 1, 2, 3, 4 } },
        { WSR_TLS_TICKET_MALFORMED, 7, { 0, 42, 0, 3, 1, 2, 3 } },
        { WSR_TLS_TICKET_MALFORMED, 4, { 0, 42, 0, 0 } },
        { WSR_TLS_TICKET_MALFORMED, 9, { 0, 42, 0, 5, 1, 2, 3, 4, 5 } },
        { WSR_TLS_TICKET_FORBIDDEN, 16, { 0, 42, 0, 4, 1, 2, 3, 4, 0, 42, 0, 4, 1, 2, 3, 4 } },
        { WSR_TLS_TICKET_FORBIDDEN, 8, { 0, 42, 0, 0, 0, 43, 0, 0 } },       /* the second is looked at first */
        { WSR_TLS_TICKET_MALFORMED, 9, { 0, 42, 0, 4, 1, 2, 3, 4, 0 } },
        { WSR_TLS_TICKET_MALFORMED, 3, { 0, 99, 0 } },
        { WSR_TLS_TICKET_MALFORMED, 5, { 0, 99, 0, 2, 0 } },
        { WSR_TLS_TICKET_GOOD, 5, { 0, 99, 0, 1, 0 } },
        { WSR_TLS_TICKET_GOOD, 10, { 26, 26, 0, 1, 0, 26, 26, 0, 1, 0 } },       /* what is not known may repeat */
        { WSR_TLS_TICKET_FORBIDDEN, 4, { 0, 0, 0, 0 } }, { WSR_TLS_TICKET_FORBIDDEN, 4, { 0, 51, 0, 0 } },
        { WSR_TLS_TICKET_FORBIDDEN, 4, { 0xFF, 1, 0, 0 } }, { WSR_TLS_TICKET_GOOD, 4, { 0, 2, 0, 0 } },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t message[MESSAGE_MAX];
        size_t len = write_ticket(message, rows[i].extensions, rows[i].len);
        if (judge(message, len) != rows[i].want)
            fail_msg("row %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ticket_that_is_cut_or_too_long_is_malformed),
        cmocka_unit_test(a_ticket_has_bytes_and_its_nonce_need_not),
        cmocka_unit_test(extensions_are_taken_apart_and_those_of_other_messages_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
