/* tests/support/sim_ktls.c: what the simulated kernel seals it opens, and it refuses what Linux refuses.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/tls.h>
#include <sys/socket.h>

#include "engine/ktls.h"
#include "tests/support/sim_ktls.h"

#define SUITE(version_, aead_, key_bytes_) { .version = version_, .aead = aead_, .key_bytes = key_bytes_ }
static const struct wsr_tls_suite suites[] = {
    SUITE(0x0303, WSR_TLS_AES_128_GCM, 16), SUITE(0x0303, WSR_TLS_AES_256_GCM, 32),
    SUITE(0x0303, WSR_TLS_CHACHA20_POLY1305, 32), SUITE(0x0304, WSR_TLS_AES_128_GCM, 16),
    SUITE(0x0304, WSR_TLS_AES_256_GCM, 32), SUITE(0x0304, WSR_TLS_CHACHA20_POLY1305, 32),
};
static const struct wsr_tls_key a_key = { .sequence = 7, .key = { 1, 2, 3 }, .iv = { 4, 5, 6, 7, 8, 9 } };

static size_t sealed_taken;          /* of ktls->sealed, received again */

static int set(struct sim_ktls *ktls, bool renews, const struct wsr_ktls_option *option)
{
    struct sim_buffer log = { 0 };
    ktls->renews = renews;
    int rc = sim_ktls_set(ktls, option->level, option->name, option->value, option->bytes, &log);
    free(log.data);
    return rc;
}

static int set_key(struct sim_ktls *ktls, bool renews, const struct wsr_tls_suite *suite, bool is_out)
{
    struct wsr_ktls_option option;
    wsr_ktls_key(&option, suite, &a_key, is_out);
    return set(ktls, renews, &option);
}

static void attach(struct sim_ktls *ktls, const struct wsr_tls_suite *suite)
{
    struct wsr_ktls_option option;
    *ktls = (struct sim_ktls){ 0 };
    sealed_taken = 0;
    assert_int_equal(set_key(ktls, false, suite, true), -ENOPROTOOPT);
    wsr_ktls_attach(&option);
    assert_int_equal(set(ktls, false, &option), 0);
    assert_int_equal(set(ktls, false, &option), -EEXIST);
    assert_int_equal(set_key(ktls, false, suite, true), 0);
    assert_int_equal(set_key(ktls, false, suite, false), 0);
}

/* What was sealed arrives at the same end again: both directions have one key. */
static ssize_t look(struct sim_ktls *ktls, size_t at_once, bool renews, uint8_t *type, const uint8_t **from)
{
    struct sim_peer peer = { 0 };
    ssize_t bytes = 0;
    ktls->renews = renews;
    peer.out = ktls->sealed;
    peer.taken = sealed_taken;
    *type = SIM_TLS_DATA;
    while (bytes == 0 && *type == SIM_TLS_DATA && peer.taken < peer.out.bytes) {
        size_t left = peer.out.bytes - peer.taken;
        bytes = sim_ktls_look(ktls, &peer, left < at_once ? left : at_once, from, type);
    }
    if (bytes == 0 && *type == SIM_TLS_DATA)
        bytes = sim_ktls_look(ktls, &peer, 0, from, type);
    sealed_taken = peer.taken;
    return bytes;
}

static void seal(struct sim_ktls *ktls, uint8_t type, const void *data, size_t len)
{
    sim_ktls_seal(ktls, type, data, len);
}

static void what_is_sealed_is_opened_in_any_pieces(void **state)
{
    (void)state;
    struct sim_peer none = { 0 };
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        for (size_t at_once = 1; at_once < 100; at_once += 7) {
            struct sim_ktls ktls;
            const uint8_t *from;
            uint8_t type;
            attach(&ktls, &suites[i]);
            seal(&ktls, 23, "hello", 5);
            seal(&ktls, 22, "ticket", 6);
            seal(&ktls, 23, "world", 5);
            assert_int_equal(look(&ktls, at_once, false, &type, &from), 5);
            assert_int_equal(type, 23);
            assert_memory_equal(from, "hello", 5);
            sim_ktls_take(&ktls, &none, 2);
            assert_int_equal(look(&ktls, at_once, false, &type, &from), 3);
            sim_ktls_take(&ktls, &none, 3);
            assert_int_equal(look(&ktls, at_once, false, &type, &from), 6);
            assert_int_equal(type, 22);
            assert_int_equal(look(&ktls, at_once, false, &type, &from), 6);
            sim_ktls_take(&ktls, &none, 6);
            assert_int_equal(look(&ktls, at_once, false, &type, &from), 5);
            assert_memory_equal(from, "world", 5);
            sim_ktls_take(&ktls, &none, 5);
            assert_int_equal(look(&ktls, at_once, false, &type, &from), 0);
            assert_int_equal(ktls.in.sequence, 10);
            sim_ktls_free(&ktls);
        }
    }
}

static void what_was_changed_is_not_opened(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        struct sim_ktls ktls;
        const uint8_t *from;
        uint8_t type;
        attach(&ktls, &suites[i]);
        seal(&ktls, 23, "hello", 5);
        ktls.sealed.data[ktls.sealed.bytes - 1] ^= 1;
        assert_int_equal(look(&ktls, 99, false, &type, &from), -EBADMSG);
        assert_int_equal(look(&ktls, 99, false, &type, &from), -EBADMSG);
        sim_ktls_free(&ktls);
        attach(&ktls, &suites[i]);
        seal(&ktls, 23, "hello", 5);
        ktls.sealed.data[1] = 'H';
        assert_int_equal(look(&ktls, 99, false, &type, &from), -EINVAL);
        assert_int_equal(look(&ktls, 99, false, &type, &from), 0);
        sim_ktls_free(&ktls);
        attach(&ktls, &suites[i]);
        seal(&ktls, 23, "hello", 5);
        ktls.sealed.data[3] = 0x50;
        assert_int_equal(look(&ktls, 99, false, &type, &from), -EMSGSIZE);
        sim_ktls_free(&ktls);
    }
}

static void new_keys_are_taken_only_where_that_is_known(void **state)
{
    (void)state;
    static const uint8_t key_update[] = { 24, 0, 0, 1, 0 };
    struct sim_peer none = { 0 };
    struct sim_ktls ktls;
    const uint8_t *from;
    uint8_t type;
    attach(&ktls, &suites[3]);
    assert_int_equal(set_key(&ktls, false, &suites[3], true), -EBUSY);
    assert_int_equal(set_key(&ktls, true, &suites[4], true), -EINVAL);
    seal(&ktls, 22, key_update, sizeof key_update);
    assert_int_equal(look(&ktls, 99, true, &type, &from), 5);
    sim_ktls_take(&ktls, &none, 5);
    assert_int_equal(look(&ktls, 99, true, &type, &from), -EKEYEXPIRED);
    assert_int_equal(set_key(&ktls, true, &suites[3], true), 0);
    assert_int_equal(set_key(&ktls, true, &suites[3], false), 0);
    seal(&ktls, 23, "new", 3);
    assert_int_equal(look(&ktls, 99, true, &type, &from), 3);
    sim_ktls_free(&ktls);
    attach(&ktls, &suites[0]);
    assert_int_equal(set_key(&ktls, true, &suites[0], true), -EBUSY);       /* TLS 1.2 has no KeyUpdate */
    sim_ktls_free(&ktls);
}

static void messages_say_and_tell_types(void **state)
{
    (void)state;
    _Alignas(struct cmsghdr) uint8_t control[WSR_KTLS_CONTROL_BYTES];
    struct msghdr message = { 0 };
    assert_int_equal(sim_ktls_type_said(&message), 23);
    wsr_ktls_say_type(&message, control, WSR_TLS_ALERT);
    assert_int_equal(sim_ktls_type_said(&message), 21);
    message.msg_controllen = sizeof control;
    sim_ktls_tell_type(&message, 22, true);
    assert_int_equal(wsr_ktls_type(&message), 22);
    assert_int_equal(sim_ktls_type_said(&message), 0);
    message.msg_controllen = 8;
    sim_ktls_tell_type(&message, 22, true);
    assert_int_equal(wsr_ktls_type(&message), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_is_opened_in_any_pieces),
        cmocka_unit_test(what_was_changed_is_not_opened),
        cmocka_unit_test(new_keys_are_taken_only_where_that_is_known),
        cmocka_unit_test(messages_say_and_tell_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
