/* engine/tls_record: against OpenSSL's records, byte for byte where that can be, and against every damage.
 * With --bench the same binary measures it beside OpenSSL's own records over memory.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "engine/tls_direct.h"
#include "tests/support/guard.h"
#include "tests/support/tls_craft.h"
#include "tests/support/tls_pair.h"

#define PLAIN_MAX 16384u
#define ROOM (PLAIN_MAX + 2048u)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const size_t sizes[] = { 1, 2, 15, 16, 17, 31, 125, 128, 1000, 4095, 4096, 4097, 8191, 16383, 16384 };

static struct wsr_tls_ciphers *ciphers;
static uint8_t plain[PLAIN_MAX + 300];

/* ---- OpenSSL's memory ---- */

/* Before each block. */
struct block {
    struct block *next, *previous;
    size_t bytes;
    size_t padding;
};

static struct block blocks = { .next = &blocks, .previous = &blocks };
static uint64_t allocations;
static uint8_t watched[16];              /* no block that OpenSSL frees may hold it, unless it is zero */
static unsigned watched_finds;
static bool has_no_memory;

static bool holds_watched(const struct block *block)
{
    static const uint8_t none[sizeof watched];
    return memcmp(watched, none, sizeof none) != 0 && block->bytes >= sizeof watched &&
           memmem(block + 1, block->bytes, watched, sizeof watched) != NULL;
}

static void *count_malloc(size_t bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    struct block *block = has_no_memory ? NULL : malloc(sizeof *block + bytes);
    if (block == NULL)
        return NULL;
    allocations++;
    *block = (struct block){ .next = blocks.next, .previous = &blocks, .bytes = bytes };
    blocks.next->previous = block;
    blocks.next = block;
    return block + 1;
}

static void count_free(void *address, const char *file, int line)
{
    (void)file;
    (void)line;
    if (address == NULL)
        return;
    struct block *block = (struct block *)address - 1;
    watched_finds += holds_watched(block);
    block->next->previous = block->previous;
    block->previous->next = block->next;
    free(block);
}

static void *count_realloc(void *address, size_t bytes, const char *file, int line)
{
    if (bytes == 0) {
        count_free(address, file, line);
        return NULL;
    }
    void *larger = count_malloc(bytes, file, line);
    if (larger != NULL && address != NULL) {
        size_t had = ((struct block *)address - 1)->bytes;
        memcpy(larger, address, had < bytes ? had : bytes);
        count_free(address, file, line);
    }
    return larger;
}

/* What a context makes of a key begins with the key itself, so that is what is looked for. */
static unsigned count_watched(void)
{
    unsigned count = 0;
    for (const struct block *block = blocks.next; block != &blocks; block = block->next)
        count += holds_watched(block);
    return count;
}

static void watch(const struct wsr_tls_key *key)
{
    memcpy(watched, key->key, sizeof watched);
    watched_finds = 0;
    assert_true(count_watched() > 0);
}

static void must_have_been_wiped(void)
{
    assert_int_equal(count_watched(), 0);
    assert_int_equal(watched_finds, 0);
    memset(watched, 0, sizeof watched);
}

/* ---- Both ways with OpenSSL ---- */

static void make_keys(struct wsr_tls_key *a, struct wsr_tls_key *b, const struct wsr_tls_suite *suite)
{
    static const uint8_t secret[WSR_TLS_MASTER_BYTES] = "a secret", random[WSR_TLS_RANDOM_BYTES] = "random";
    if (suite->version == WSR_TLS_1_3)
        assert_int_equal(wsr_tls_key_from_secret(a, suite, secret), 0);
    else
        assert_int_equal(wsr_tls_key_from_master(a, b, suite, secret, random, random), 0);
    *b = *a;
}

static ssize_t seal(const struct wsr_tls_suite *suite, struct wsr_tls_key *key, const void *data, size_t len,
                    uint8_t *out)
{
    struct iovec part = { (void *)(uintptr_t)data, len };
    return wsr_tls_record_seal(ciphers, suite, key, WSR_TLS_DATA, &part, 1, out);
}

static void openssl_opens(struct tls_pair *pair, size_t len)
{
    static uint8_t record[ROOM];
    size_t before = pair->link->received_bytes;
    ssize_t bytes = seal(pair->suite, &pair->out, plain, len, record);
    assert_true(bytes > (ssize_t)len && bytes <= (ssize_t)(len + WSR_TLS_SEALED_OVERHEAD));
    tls_server_feed(pair->link, record, (size_t)bytes);
    assert_int_equal(pair->link->state, TLS_SERVER_OPEN);
    assert_int_equal(pair->link->received_bytes - before, len);
    assert_memory_equal(pair->link->received + before, plain, len);
    assert_int_equal(pair->link->sequence_in, pair->out.sequence);
}

static void openssl_seals(struct tls_pair *pair, size_t len)
{
    static uint8_t record[ROOM];
    struct wsr_bytes content;
    uint8_t type;
    tls_server_write(pair->link, plain, len, 0);
    size_t bytes = tls_server_take_record(pair->link, record, sizeof record);
    assert_int_equal(wsr_tls_record_open(ciphers, pair->suite, &pair->in, record, bytes, &type, &content),
                     WSR_TLS_OPENED);
    assert_int_equal(type, WSR_TLS_DATA);
    assert_int_equal(content.len, len);
    assert_memory_equal(content.data, plain, len);
    assert_true(content.data > record && content.data + len < record + bytes);
}

static void records_of_every_suite_and_size_go_both_ways_with_openssl(void **state)
{
    (void)state;
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); *suite != NULL; suite++) {
        struct tls_pair pair;
        tls_pair_open(&pair, *suite);
        for (size_t i = 0; i < COUNT(sizes); i++) {
            openssl_opens(&pair, sizes[i]);
            openssl_seals(&pair, sizes[i]);
        }
        tls_pair_close(&pair);
    }
}

/* Every suite, and where a record's parts may be cut. The room ends at an unreadable page. */
static void parts_become_one_record_that_fills_its_room_exactly(void **state)
{
    static uint8_t want[ROOM];
    struct guard guard;
    (void)state;
    guard_open(&guard, ROOM);
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); *suite != NULL; suite++) {
        struct wsr_tls_key key, other;
        make_keys(&key, &other, *suite);
        for (size_t i = 0; i < COUNT(sizes); i++) {
            size_t len = sizes[i];
            size_t want_bytes = tls_craft_plain(*suite, &other, WSR_TLS_DATA, plain, len, 0, want);
            for (size_t cut = 0; cut <= len && cut < 20; cut++) {
                struct iovec parts[] = { { plain, cut }, { NULL, 0 }, { plain + cut, (len - cut) / 2 },
                                         { plain + cut + (len - cut) / 2, len - cut - (len - cut) / 2 } };
                uint8_t *out = guard_tail(&guard, want_bytes);
                key.sequence = other.sequence - 1;
                assert_int_equal(wsr_tls_record_seal(ciphers, *suite, &key, WSR_TLS_DATA, parts, COUNT(parts), out),
                                 want_bytes);
                if ((*suite)->fixed_iv_bytes == 12)
                    assert_memory_equal(out, want, want_bytes);
            }
        }
    }
    guard_close(&guard);
}

static void headers_and_nonces_are_as_the_rfcs_have_them(void **state)
{
    uint8_t record[64];
    (void)state;
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); *suite != NULL; suite++) {
        struct wsr_tls_key key, other;
        bool is_1_3 = (*suite)->version == WSR_TLS_1_3, is_explicit = (*suite)->fixed_iv_bytes == 4;
        struct iovec part = { plain, 2 };
        make_keys(&key, &other, *suite);
        key.sequence = 0x0102030405060708;
        ssize_t bytes = wsr_tls_record_seal(ciphers, *suite, &key, WSR_TLS_ALERT, &part, 1, record);
        assert_int_equal(bytes, 5 + (is_explicit ? 8 : 0) + 2 + is_1_3 + 16);
        assert_int_equal(record[0], is_1_3 ? WSR_TLS_DATA : WSR_TLS_ALERT);
        assert_int_equal(wsr_load_be16(record + 1), 0x0303);
        assert_int_equal(wsr_load_be16(record + 3), bytes - 5);
        if (is_explicit)
            assert_int_equal(wsr_load_be64(record + 5), 0x0102030405060708);
        assert_int_equal(key.sequence, 0x0102030405060709);
    }
}

static void a_record_may_be_empty(void **state)
{
    uint8_t record[64], type;
    struct wsr_bytes content;
    (void)state;
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); *suite != NULL; suite++) {
        struct wsr_tls_key key, other;
        make_keys(&key, &other, *suite);
        ssize_t bytes = wsr_tls_record_seal(ciphers, *suite, &key, WSR_TLS_DATA, NULL, 0, record);
        assert_true(bytes > 0);
        assert_int_equal(wsr_tls_record_open(ciphers, *suite, &other, record, (size_t)bytes, &type, &content),
                         WSR_TLS_OPENED);
        assert_true(content.len == 0 && type == WSR_TLS_DATA);
    }
}

/* ---- Damage ---- */

static enum wsr_tls_opened open_copy(const struct wsr_tls_suite *suite, struct wsr_tls_key key, const uint8_t *record,
                                     size_t len)
{
    uint8_t *copy = malloc(len), type;
    struct wsr_bytes content;
    assert_non_null(copy);
    memcpy(copy, record, len);
    enum wsr_tls_opened opened = wsr_tls_record_open(ciphers, suite, &key, copy, len, &type, &content);
    free(copy);
    return opened;
}

static void a_record_with_any_bit_changed_or_byte_missing_does_not_open(void **state)
{
    uint8_t record[128];
    (void)state;
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); *suite != NULL; suite++) {
        struct wsr_tls_key key, other;
        size_t least = (*suite)->version == WSR_TLS_1_3 ? 0 : (*suite)->fixed_iv_bytes == 4 ? 29 : 21;
        make_keys(&key, &other, *suite);
        ssize_t bytes = seal(*suite, &key, plain, 20, record);
        assert_int_equal(open_copy(*suite, other, record, (size_t)bytes), WSR_TLS_OPENED);
        for (size_t bit = 0; bit < 8 * (size_t)bytes; bit++) {
            bool is_length = bit / 8 == 3 || bit / 8 == 4;      /* in TLS 1.2 that is what is left of the record */
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(open_copy(*suite, other, record, (size_t)bytes),
                             is_length && least > 0 ? WSR_TLS_OPENED : WSR_TLS_OPENED_NOT);
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t len = WSR_TLS_HEADER_BYTES; len < (size_t)bytes; len++)
            assert_int_equal(open_copy(*suite, other, record, len),
                             len < least ? WSR_TLS_OPENED_SHORT : WSR_TLS_OPENED_NOT);
        other.sequence++;
        assert_int_equal(open_copy(*suite, other, record, (size_t)bytes), WSR_TLS_OPENED_NOT);
    }
}

static enum wsr_tls_opened open_inner(const struct wsr_tls_suite *suite, const void *inner, size_t len, uint8_t *type,
                                      struct wsr_bytes *content)
{
    static uint8_t record[PLAIN_MAX + 400];
    struct wsr_tls_key key, other;
    struct tls_craft craft = { WSR_TLS_DATA, WSR_TLS_1_2, inner, len };
    make_keys(&key, &other, suite);
    size_t bytes = tls_craft(suite, &key, &craft, record);
    return wsr_tls_record_open(ciphers, suite, &other, record, bytes, type, content);
}

static void padding_is_taken_off_and_a_record_of_padding_only_is_bare(void **state)
{
    const struct wsr_tls_suite *suite = wsr_tls_suite_find(WSR_TLS_1_3, 0x1301);
    static uint8_t inner[PLAIN_MAX + 256];
    struct wsr_bytes content;
    uint8_t type = 0;
    (void)state;
    for (size_t len = 0; len < 40; len++) {
        memset(inner, 0, sizeof inner);
        memset(inner, 'x', len);
        inner[len] = WSR_TLS_HANDSHAKE;
        for (size_t padding = 0; padding < 40; padding++) {
            assert_int_equal(open_inner(suite, inner, len + 1 + padding, &type, &content), WSR_TLS_OPENED);
            assert_int_equal(type, WSR_TLS_HANDSHAKE);
            assert_int_equal(content.len, len);
        }
    }
    memset(inner, 0, sizeof inner);
    assert_int_equal(open_inner(suite, inner, 1, &type, &content), WSR_TLS_OPENED_BARE);
    assert_int_equal(open_inner(suite, inner, PLAIN_MAX + 1, &type, &content), WSR_TLS_OPENED_BARE);
    inner[PLAIN_MAX] = WSR_TLS_DATA;
    assert_int_equal(open_inner(suite, inner, sizeof inner - 16, &type, &content), WSR_TLS_OPENED);
    assert_int_equal(content.len, PLAIN_MAX);
}

static void more_than_16384_bytes_are_too_long(void **state)
{
    struct wsr_bytes content;
    uint8_t type = 0;
    (void)state;
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); *suite != NULL; suite++) {
        bool is_1_3 = (*suite)->version == WSR_TLS_1_3;
        static uint8_t inner[PLAIN_MAX + 2];
        memset(inner, WSR_TLS_DATA, sizeof inner);
        assert_int_equal(open_inner(*suite, inner, PLAIN_MAX + is_1_3, &type, &content), WSR_TLS_OPENED);
        assert_int_equal(open_inner(*suite, inner, PLAIN_MAX + 1 + is_1_3, &type, &content), WSR_TLS_OPENED_LONG);
        assert_int_equal(type, WSR_TLS_DATA);
    }
}

static void the_last_sequence_number_is_not_used(void **state)
{
    uint8_t record[64];
    (void)state;
    for (const struct wsr_tls_suite *const *suite = tls_pair_suites(); *suite != NULL; suite++) {
        struct wsr_tls_key key, other;
        make_keys(&key, &other, *suite);
        key.sequence = other.sequence = UINT64_MAX - 1;
        ssize_t bytes = seal(*suite, &key, plain, 1, record);
        assert_int_equal(open_copy(*suite, other, record, (size_t)bytes), WSR_TLS_OPENED);
        assert_int_equal(seal(*suite, &key, plain, 1, record), WSR_ERR_INVALID_STATE);
        assert_int_equal(key.sequence, UINT64_MAX);
        other.sequence = UINT64_MAX;
        bytes = (ssize_t)tls_craft_plain(*suite, &key, WSR_TLS_DATA, plain, 1, 0, record);
        assert_int_equal(open_copy(*suite, other, record, (size_t)bytes), WSR_TLS_OPENED_NOT);
    }
}

/* ---- Contexts ---- */

#define CROWD 200u

/* Seal with each of @count keys in turn, and open with its copy. */
static void go_around(const struct wsr_tls_suite *suite, struct wsr_tls_key (*keys)[2], unsigned count)
{
    uint8_t record[64], type;
    struct wsr_bytes content;
    for (unsigned i = 0; i < count; i++) {
        ssize_t bytes = seal(suite, &keys[i][0], plain + i, 9, record);
        assert_true(bytes > 0);
        assert_int_equal(wsr_tls_record_open(ciphers, suite, &keys[i][1], record, (size_t)bytes, &type, &content),
                         WSR_TLS_OPENED);
        assert_memory_equal(content.data, plain + i, 9);
    }
}

static void make_crowd(const struct wsr_tls_suite *suite, struct wsr_tls_key (*keys)[2])
{
    for (unsigned i = 0; i < CROWD; i++) {
        uint8_t secret[WSR_TLS_SECRET_MAX] = { (uint8_t)i };
        assert_int_equal(wsr_tls_key_from_secret(&keys[i][0], suite, secret), 0);
        keys[i][1] = keys[i][0];
    }
}

static void many_keys_share_few_contexts_and_nothing_is_allocated_for_a_record(void **state)
{
    static struct wsr_tls_key keys[3][CROWD][2];
    static const unsigned counts[] = { 1, 20, 32, 64, CROWD };
    (void)state;
    wsr_tls_ciphers_free(ciphers);
    ciphers = wsr_tls_ciphers_create();
    for (unsigned i = 0; i < 3; i++)
        make_crowd(wsr_tls_suite_find(WSR_TLS_1_3, (uint16_t)(0x1301 + i)), keys[i]);
    for (unsigned count = 0; count < COUNT(counts); count++) {
        for (unsigned round = 0; round < 5; round++) {
            uint64_t before = allocations;
            for (unsigned i = 0; i < 3; i++)
                go_around(wsr_tls_suite_find(WSR_TLS_1_3, (uint16_t)(0x1301 + i)), keys[i], counts[count]);
            if (round > 0)
                assert_int_equal(allocations, before);
        }
    }
}

static void nothing_of_a_key_is_left_when_it_is_forgotten(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        const struct wsr_tls_suite *suite = wsr_tls_suite_find(WSR_TLS_1_3, (uint16_t)(0x1301 + i));
        struct wsr_tls_key keys[1][2], before;
        uint8_t secret[WSR_TLS_SECRET_MAX] = "to be forgotten";
        assert_int_equal(wsr_tls_key_from_secret(&keys[0][0], suite, secret), 0);
        before = keys[0][1] = keys[0][0];
        go_around(suite, keys, 1);
        watch(&before);
        assert_int_equal(count_watched(), 2);
        wsr_tls_ciphers_forget(ciphers, &before);
        must_have_been_wiped();
        go_around(suite, keys, 1);               /* a place is found again */
        wsr_tls_ciphers_forget(ciphers, &before);
        wsr_tls_ciphers_forget(ciphers, &before);
        wsr_tls_ciphers_forget(NULL, &before);
    }
}

static void a_context_that_gets_another_key_has_nothing_of_the_old_one(void **state)
{
    static struct wsr_tls_key keys[CROWD][2];
    uint8_t secret[WSR_TLS_SECRET_MAX] = "to be overwritten";
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        const struct wsr_tls_suite *suite = wsr_tls_suite_find(WSR_TLS_1_3, (uint16_t)(0x1301 + i));
        assert_int_equal(wsr_tls_key_from_secret(&keys[0][0], suite, secret), 0);
        keys[0][1] = keys[0][0];
        go_around(suite, keys, 1);
        watch(&keys[0][0]);
        make_crowd(suite, keys);
        go_around(suite, keys, CROWD);
        must_have_been_wiped();
    }
}

/* By an update of its keys, and by its end. */
static void a_connection_leaves_nothing_of_its_keys(void **state)
{
    static const uint8_t asking_update[] = { 24, 0, 0, 1, 1 };
    struct wsr_tls_shared shared = { .ciphers = ciphers };
    struct wsr_tls_direct direct = { .suite = wsr_tls_suite_find(WSR_TLS_1_3, 0x1301) };
    struct wsr_tls_key peer;
    struct wsr_tls_event event;
    struct iovec part = { plain, 1 };
    uint8_t record[64], out[64], in_secret[WSR_TLS_SECRET_MAX] = "in", out_secret[WSR_TLS_SECRET_MAX] = "out";
    (void)state;
    assert_int_equal(wsr_tls_key_from_secret(&direct.in, direct.suite, in_secret), 0);
    assert_int_equal(wsr_tls_key_from_secret(&direct.out, direct.suite, out_secret), 0);
    peer = direct.in;
    assert_int_equal(wsr_tls_direct_start(&direct, &shared), 0);
    size_t bytes = tls_craft_plain(direct.suite, &peer, WSR_TLS_DATA, plain, 5, 0, record);
    wsr_tls_direct_open(&direct, &shared, record, bytes, &event);
    watch(&direct.in);
    bytes = tls_craft_plain(direct.suite, &peer, WSR_TLS_HANDSHAKE, asking_update, 5, 0, record);
    wsr_tls_direct_open(&direct, &shared, record, bytes, &event);
    must_have_been_wiped();
    (void)!wsr_tls_record_seal(ciphers, direct.suite, &direct.out, WSR_TLS_DATA, &part, 1, out);
    watch(&direct.out);
    assert_true(wsr_tls_direct_seal(&direct, &shared, &part, 1, out) > 0);
    must_have_been_wiped();
    watch(&direct.out);
    wsr_tls_direct_free(&direct);
    must_have_been_wiped();
}

static void without_memory_nothing_changes_and_it_is_said(void **state)
{
    const struct wsr_tls_suite *suite = wsr_tls_suite_find(WSR_TLS_1_3, 0x1301);
    static const uint8_t secret[WSR_TLS_MASTER_BYTES], random[WSR_TLS_RANDOM_BYTES];
    struct wsr_tls_key key, other, before;
    struct wsr_bytes content;
    uint8_t record[64], type;
    (void)state;
    wsr_tls_ciphers_free(ciphers);
    ciphers = wsr_tls_ciphers_create();          /* every context is still to be made */
    make_keys(&key, &other, suite);
    before = key;
    size_t bytes = tls_craft_plain(suite, &other, WSR_TLS_DATA, plain, 9, 0, record);
    has_no_memory = true;
    ssize_t sealed = seal(suite, &key, plain, 1, record + 48);
    enum wsr_tls_opened opened = wsr_tls_record_open(ciphers, suite, &key, record, bytes, &type, &content);
    int renewed = wsr_tls_key_renew(&key, suite), made = wsr_tls_key_from_secret(&key, suite, secret);
    int expanded = wsr_tls_key_from_master(&key, &other, wsr_tls_suite_find(WSR_TLS_1_2, 0xC02F), secret, random,
                                           random);
    has_no_memory = false;
    assert_int_equal(sealed, WSR_ERR_MEMORY);
    assert_int_equal(opened, WSR_TLS_OPENED_MEMORY);
    assert_true(renewed == WSR_ERR_MEMORY && made == WSR_ERR_MEMORY && expanded == WSR_ERR_MEMORY);
    assert_int_equal(ERR_peek_error(), 0);
    assert_memory_equal(&key, &before, sizeof key);
    assert_int_equal(wsr_tls_record_open(ciphers, suite, &key, record, bytes, &type, &content), WSR_TLS_OPENED);
}

/* The key cannot be renewed of what is opened, for which the alert needs no memory, or of what is sealed. */
static void without_memory_an_update_ends_the_connection(void **state)
{
    static const uint8_t update[] = { 24, 0, 0, 1, 0 };
    static const uint8_t secret[WSR_TLS_SECRET_MAX] = "none left";
    struct wsr_tls_shared shared = { .ciphers = ciphers };
    struct wsr_tls_key peer;
    struct wsr_tls_event event;
    struct iovec part = { plain, 1 };
    uint8_t record[64], out[64];
    (void)state;
    for (unsigned sends = 0; sends < 2; sends++) {
        struct wsr_tls_direct direct = { .suite = wsr_tls_suite_find(WSR_TLS_1_3, 0x1301) };
        assert_int_equal(wsr_tls_key_from_secret(&direct.in, direct.suite, secret), 0);
        assert_int_equal(wsr_tls_key_from_secret(&direct.out, direct.suite, secret), 0);
        peer = direct.in;
        assert_int_equal(wsr_tls_direct_start(&direct, &shared), 0);
        assert_true(wsr_tls_direct_seal(&direct, &shared, &part, 1, out) > 0);
        size_t bytes = tls_craft_plain(direct.suite, &peer, WSR_TLS_DATA, plain, 5, 0, record);
        wsr_tls_direct_open(&direct, &shared, record, bytes, &event);
        assert_int_equal(event.type, WSR_TLS_EVENT_DATA);
        bytes = tls_craft_plain(direct.suite, &peer, WSR_TLS_HANDSHAKE, update, 5, 0, record);
        direct.owes_update = sends == 1;
        has_no_memory = true;
        ssize_t sealed = sends == 1 ? wsr_tls_direct_seal(&direct, &shared, &part, 1, out) : WSR_ERR_MEMORY;
        if (sends == 0)
            wsr_tls_direct_open(&direct, &shared, record, bytes, &event);
        has_no_memory = false;
        assert_int_equal(sealed, WSR_ERR_MEMORY);
        assert_int_equal(direct.state, WSR_TLS_DIRECT_FAILED);
        if (sends == 0) {
            assert_int_equal(event.type, WSR_TLS_EVENT_FAILURE);
            assert_int_equal(event.alert, 80);
            assert_true(direct.output_bytes > 0);
        }
        wsr_tls_direct_free(&direct);
    }
}

/* ---- Figures ---- */

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

#define BATCH 64u

enum work { WORK_SEAL, WORK_OPEN, WORK_SEAL_NEW_KEY, WORK_SSL_WRITE, WORK_SSL_READ, WORKS };

/* One batch; returns the time of one record. Reading and opening is done with what was made before. */
static double measure(enum work work, struct tls_pair *pair, size_t len, uint8_t (*records)[ROOM])
{
    static uint8_t sink[ROOM];
    static uint64_t serial = UINT32_MAX;
    struct wsr_tls_key key = pair->out, other = pair->out;
    size_t bytes[BATCH];
    struct wsr_bytes content;
    uint8_t type;
    for (size_t i = 0; work == WORK_OPEN && i < BATCH; i++)
        bytes[i] = (size_t)seal(pair->suite, &key, plain, len, records[i]);
    for (size_t i = 0; work == WORK_SSL_READ && i < BATCH; i++) {
        tls_server_write(pair->link, plain, len, 0);
        BIO_write(SSL_get_rbio(pair->client), sink, (int)tls_server_take_record(pair->link, sink, sizeof sink));
    }
    double begin = now_ns();
    for (size_t i = 0; i < BATCH; i++) {
        switch (work) {
        case WORK_SEAL_NEW_KEY: key.serial = ++serial; /* fallthrough */
        case WORK_SEAL: (void)!seal(pair->suite, &key, plain, len, records[i]); break;
        case WORK_OPEN: wsr_tls_record_open(ciphers, pair->suite, &other, records[i], bytes[i], &type, &content); break;
        case WORK_SSL_WRITE: SSL_write(pair->client, plain, (int)len); break;
        default: SSL_read(pair->client, sink, (int)len);
        }
    }
    double taken = (now_ns() - begin) / BATCH;
    while (work == WORK_SSL_WRITE && BIO_read(SSL_get_wbio(pair->client), sink, sizeof sink) > 0)
        continue;
    return taken;
}

static int bench(void)
{
    static const char *const names[WORKS] = { "seal", "open", "seal, another key", "SSL_write", "SSL_read" };
    static const size_t lens[] = { 128, 1024, 16384 };
    uint8_t (*records)[ROOM] = calloc(BATCH, sizeof *records);
    for (unsigned i = 0; i < 3 * COUNT(lens); i++) {
        struct tls_pair pair;
        size_t len = lens[i % COUNT(lens)];
        double best[WORKS];
        char sink[64];
        tls_pair_open(&pair, wsr_tls_suite_find(WSR_TLS_1_3, (uint16_t)(0x1301 + i / COUNT(lens))));
        SSL_read(pair.client, sink, sizeof sink);        /* its tickets */
        for (unsigned round = 0; round < 300; round++) {
            for (unsigned work = 0; work < WORKS; work++) {
                double taken = measure(work, &pair, len, records);
                best[work] = round == 0 || taken < best[work] ? taken : best[work];
            }
        }
        printf("%s, %zu bytes:", tls_pair_name(pair.suite), len);
        for (unsigned work = 0; work < WORKS; work++)
            printf("%s %s %.0f ns", work > 0 ? "," : "", names[work], best[work]);
        printf("\n");
        tls_pair_close(&pair);
    }
    free(records);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_of_every_suite_and_size_go_both_ways_with_openssl),
        cmocka_unit_test(parts_become_one_record_that_fills_its_room_exactly),
        cmocka_unit_test(headers_and_nonces_are_as_the_rfcs_have_them),
        cmocka_unit_test(a_record_may_be_empty),
        cmocka_unit_test(a_record_with_any_bit_changed_or_byte_missing_does_not_open),
        cmocka_unit_test(padding_is_taken_off_and_a_record_of_padding_only_is_bare),
        cmocka_unit_test(more_than_16384_bytes_are_too_long),
        cmocka_unit_test(the_last_sequence_number_is_not_used),
        cmocka_unit_test(many_keys_share_few_contexts_and_nothing_is_allocated_for_a_record),
        cmocka_unit_test(a_context_that_gets_another_key_has_nothing_of_the_old_one),
        cmocka_unit_test(a_connection_leaves_nothing_of_its_keys),
        cmocka_unit_test(without_memory_nothing_changes_and_it_is_said),
        cmocka_unit_test(without_memory_an_update_ends_the_connection),
        cmocka_unit_test(nothing_of_a_key_is_left_when_it_is_forgotten),
    };
    bool measures = argc == 2 && strcmp(argv[1], "--bench") == 0;
    if (!measures && CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1)
        return 1;
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 7 + i / 256);
    ciphers = wsr_tls_ciphers_create();
    int rc = measures ? bench() : cmocka_run_group_tests(tests, NULL, NULL);
    wsr_tls_ciphers_free(ciphers);
    return rc;
}
