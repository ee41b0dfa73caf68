/* SPDX-License-Identifier: MIT */
#include "tests/support/tls_end.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/tls_craft.h"

struct wsr_tls_shared tls_end_shared;

const struct wsr_tls_suite *tls_end_suite(size_t i)
{
    static const struct { uint16_t version, number; } all[] = {
        { WSR_TLS_1_3, 0x1301 }, { WSR_TLS_1_3, 0x1302 }, { WSR_TLS_1_3, 0x1303 },
        { WSR_TLS_1_2, 0xC02B }, { WSR_TLS_1_2, 0xC030 }, { WSR_TLS_1_2, 0xCCA8 },
    };
    return i < sizeof all / sizeof *all ? wsr_tls_suite_find(all[i].version, all[i].number) : NULL;
}

static void on_ticket(struct wsr_tls_direct *direct, struct wsr_bytes message)
{
    struct tls_end *end = wsr_container_of(direct, struct tls_end, direct);
    assert_true(message.len <= sizeof end->ticket);
    memcpy(end->ticket, message.data, message.len);
    end->ticket_bytes = message.len;
    end->tickets_count++;
}

void tls_end_begin(struct tls_end *end, const struct wsr_tls_suite *suite, const struct wsr_tls_key *in,
                   const struct wsr_tls_key *out)
{
    memset(end, 0, offsetof(struct tls_end, ticket));
    end->direct.suite = suite;
    end->direct.in = end->peer_out = *in;
    end->direct.out = end->peer_in = *out;
    end->direct.ticket = on_ticket;
    assert_int_equal(wsr_tls_direct_start(&end->direct, &tls_end_shared), 0);
}

void tls_end_begin_alone(struct tls_end *end, const struct wsr_tls_suite *suite)
{
    static const uint8_t secret[WSR_TLS_MASTER_BYTES] = "secret", other[WSR_TLS_MASTER_BYTES] = "other secret";
    struct wsr_tls_key in, out;
    if (suite->version == WSR_TLS_1_3) {
        assert_int_equal(wsr_tls_key_from_secret(&in, suite, secret), 0);
        assert_int_equal(wsr_tls_key_from_secret(&out, suite, other), 0);
    } else {
        assert_int_equal(wsr_tls_key_from_master(&out, &in, suite, secret, secret, other), 0);
    }
    tls_end_begin(end, suite, &in, &out);
}

void tls_end_finish(struct tls_end *end)
{
    wsr_tls_direct_free(&end->direct);
    wsr_tls_key_wipe(&end->peer_in);
    wsr_tls_key_wipe(&end->peer_out);
}

void tls_end_give_record(struct tls_end *end, size_t bytes)
{
    size_t len = wsr_tls_direct_length(&end->direct, end->record);
    assert_true(len == 0 || len == bytes);
    wsr_tls_direct_open(&end->direct, &tls_end_shared, end->record, len > 0 ? len : WSR_TLS_HEADER_BYTES,
                        &end->event);
}

enum wsr_tls_event_type tls_end_give(struct tls_end *end, uint8_t type, const void *data, size_t len)
{
    tls_end_give_record(end, tls_craft_plain(end->direct.suite, &end->peer_out, type, data, len, 0, end->record));
    return end->event.type;
}

/* Open the record at @record as the peer. Returns its bytes; *type and the content's *len are what is in it. */
static size_t open_record(struct tls_end *end, const uint8_t *record, uint8_t *inner, size_t *len, uint8_t *type)
{
    size_t bytes = WSR_TLS_HEADER_BYTES + (size_t)wsr_load_be16(record + 3);
    long inner_bytes = tls_craft_open(end->direct.suite, &end->peer_in, record, bytes, inner);
    assert_true(inner_bytes >= 0);
    *type = record[0];
    if (end->direct.suite->version == WSR_TLS_1_3)
        *type = inner[--inner_bytes];
    *len = (size_t)inner_bytes;
    return bytes;
}

const char *tls_end_take_output(struct tls_end *end)
{
    static char text[64];
    size_t used = 0;
    text[0] = '\0';
    for (size_t at = 0; at < end->direct.output_bytes;) {
        uint8_t inner[64], type;
        size_t len;
        at += open_record(end, end->direct.output + at, inner, &len, &type);
        assert_true(type == WSR_TLS_ALERT && len == 2);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%u %u", used > 0 ? ", " : "", inner[0], inner[1]);
    }
    end->direct.output_bytes = 0;
    return text;
}

const char *tls_end_seal(struct tls_end *end, const char *text)
{
    static const uint8_t update[] = { 24, 0, 0, 1, 0 };
    static char said[256];
    uint8_t out[256], inner[256], type;
    struct iovec part = { (void *)(uintptr_t)text, strlen(text) };
    size_t used = 0, len;
    ssize_t bytes = wsr_tls_direct_seal(&end->direct, &tls_end_shared, &part, 1, out);
    assert_true(bytes > 0);
    for (size_t at = 0; at < (size_t)bytes;) {
        at += open_record(end, out + at, inner, &len, &type);
        used += (size_t)snprintf(said + used, sizeof said - used, "%s%u ", used > 0 ? ", " : "", type);
        if (type == WSR_TLS_HANDSHAKE) {
            assert_int_equal(len, sizeof update);
            assert_memory_equal(inner, update, sizeof update);
            assert_int_equal(wsr_tls_key_renew(&end->peer_in, end->direct.suite), 0);
        }
        used += (size_t)snprintf(said + used, sizeof said - used, "%.*s",
                                 type == WSR_TLS_HANDSHAKE ? 6 : (int)len,
                                 type == WSR_TLS_HANDSHAKE ? "update" : (const char *)inner);
    }
    return said;
}

void tls_end_must_fail(struct tls_end *end, unsigned alert, const char *word)
{
    char want[16];
    snprintf(want, sizeof want, "2 %u", alert);
    assert_int_equal(end->event.type, WSR_TLS_EVENT_FAILURE);
    assert_int_equal(end->event.alert, alert);
    if (strstr(end->event.text, word) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", end->event.text, word);
    assert_int_equal(end->direct.state, WSR_TLS_DIRECT_FAILED);
    assert_string_equal(tls_end_take_output(end), want);
    assert_null(end->direct.message);
    uint64_t sequence = end->direct.out.sequence;
    wsr_tls_direct_alert(&end->direct, &tls_end_shared, 1, 0);
    assert_int_equal(tls_end_give(end, WSR_TLS_DATA, "x", 1), WSR_TLS_EVENT_NOTHING);
    struct iovec part = { end->record, 1 };
    assert_int_equal(wsr_tls_direct_seal(&end->direct, &tls_end_shared, &part, 1, end->record + 64),
                     WSR_ERR_INVALID_STATE);
    assert_int_equal(end->direct.output_bytes, 0);
    assert_int_equal(end->direct.out.sequence, sequence);
}
