/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/payload.h"

#define RUN 0x12345678u

static struct wsr_payload_plan plan_of(enum wsr_kind kind, size_t bytes, uint32_t run)
{
    struct wsr_payload_plan plan;
    assert_int_equal(wsr_payload_init(&plan, kind, bytes, run), 0);
    return plan;
}

/* The message in one piece, in memory of exactly its size, so that a sanitizer sees any step beside it. */
static uint8_t *message(const struct wsr_payload_plan *plan, uint32_t connection, uint64_t sequence)
{
    uint8_t head[WSR_PAYLOAD_HEAD_CHARS];
    struct iovec parts[WSR_PAYLOAD_PARTS];
    size_t count = wsr_payload_make(plan, (struct wsr_payload_id){ connection, sequence }, head, parts);
    uint8_t *all = malloc(plan->message_bytes > 0 ? plan->message_bytes : 1);
    assert_non_null(all);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(at + parts[i].iov_len <= plan->message_bytes);
        memcpy(all + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    assert_int_equal(at, plan->message_bytes);
    return all;
}

static enum wsr_payload_verdict judge(const struct wsr_payload_plan *plan, uint32_t connection, uint64_t sequence,
                                      const uint8_t *data, size_t len, uint64_t *told)
{
    return wsr_payload_judge(plan, (struct wsr_payload_id){ connection, sequence }, data, len, told);
}

/* RFC 3629, written out once more: the test does not trust the pattern's author. */
static bool is_utf8(const uint8_t *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t more = text[i] < 0x80 ? 0 : text[i] >= 0xc2 && text[i] <= 0xdf ? 1 : (text[i] & 0xf0) == 0xe0 ? 2 :
                      text[i] >= 0xf0 && text[i] <= 0xf4 ? 3 : 9;
        if (more == 9 || i + more >= len + (more == 0))
            return false;
        for (size_t k = 1; k <= more; k++) {
            if ((text[i + k] & 0xc0) != 0x80)
                return false;
        }
        if ((text[i] == 0xe0 && text[i + 1] < 0xa0) || (text[i] == 0xed && text[i + 1] > 0x9f) ||
            (text[i] == 0xf0 && text[i + 1] < 0x90) || (text[i] == 0xf4 && text[i + 1] > 0x8f))
            return false;
        i += more + 1;
    }
    return true;
}

static void every_message_is_itself_at_every_size(void **state)
{
    (void)state;
    for (enum wsr_kind kind = WSR_TEXT; kind <= WSR_BINARY; kind++) {
        for (size_t bytes = 0; bytes <= 200; bytes++) {
            struct wsr_payload_plan plan = plan_of(kind, bytes, RUN);
            for (uint64_t sequence = 0; sequence < 5; sequence++) {
                uint64_t told = 99;
                uint8_t *m = message(&plan, 7, sequence);
                assert_int_equal(judge(&plan, 7, sequence, m, bytes, &told), WSR_PAYLOAD_EXPECTED);
                assert_true(wsr_payload_is(&plan, (struct wsr_payload_id){ 7, sequence }, m, bytes));
                free(m);
            }
            wsr_payload_free(&plan);
        }
    }
}

static void text_is_valid_utf8_with_multi_byte_characters(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= 300; bytes++) {
        struct wsr_payload_plan plan = plan_of(WSR_TEXT, bytes, RUN + (uint32_t)bytes);
        for (uint64_t sequence = 0; sequence < 20; sequence++) {
            uint8_t *m = message(&plan, 3, sequence);
            assert_true(is_utf8(m, bytes));
            if (bytes > 80)
                assert_true(m[70] >= 0x80);
            free(m);
        }
        wsr_payload_free(&plan);
    }
}

/* It is ASCII, and differs from message to message. */
static void json_is_text_that_differs(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= 2000; bytes += 97) {
        struct wsr_payload_plan plan;
        assert_int_equal(wsr_payload_init_json(&plan, bytes, RUN), 0);
        assert_int_equal(plan.kind, WSR_TEXT);
        uint8_t *before = message(&plan, 3, 100);
        for (uint64_t sequence = 0; sequence < 20; sequence++) {
            uint64_t told;
            uint8_t *m = message(&plan, 3, sequence);
            for (size_t i = 0; i < bytes; i++)
                assert_true(m[i] == '\n' || (m[i] >= ' ' && m[i] <= '~'));
            assert_int_equal(judge(&plan, 3, sequence, m, bytes, &told), WSR_PAYLOAD_EXPECTED);
            if (bytes > 500) {
                const size_t head = WSR_PAYLOAD_HEAD_CHARS;
                assert_memory_not_equal(m + head, before + head, bytes - head);
                assert_non_null(memmem(m, bytes, "\"bookTicker\"", 12));
            }
            free(before);
            before = m;
        }
        free(before);
        wsr_payload_free(&plan);
    }
}

/* One wrong byte anywhere is found; the sequence is still told when it is the body that is wrong. */
static void one_changed_byte_is_corrupt_wherever_it_is(void **state)
{
    (void)state;
    for (enum wsr_kind kind = WSR_TEXT; kind <= WSR_BINARY; kind++) {
        for (size_t bytes = 1; bytes <= 150; bytes += 7) {
            struct wsr_payload_plan plan = plan_of(kind, bytes, RUN);
            uint8_t *m = message(&plan, 7, 1000);
            for (size_t i = 0; i < bytes; i++) {
                uint64_t told = 0;
                m[i] ^= 0x10;
                assert_int_equal(judge(&plan, 7, 1000, m, bytes, &told), WSR_PAYLOAD_CORRUPT);
                assert_int_equal(told, 1000);
                assert_int_equal(judge(&plan, 7, 999, m, bytes, &told), WSR_PAYLOAD_CORRUPT);
                assert_int_equal(told, plan.is_whole && i >= plan.head_bytes ? 1000 : 999);
                m[i] ^= 0x10;
            }
            free(m);
            wsr_payload_free(&plan);
        }
    }
}

static void a_wrong_length_is_corrupt(void **state)
{
    (void)state;
    for (enum wsr_kind kind = WSR_TEXT; kind <= WSR_BINARY; kind++) {
        struct wsr_payload_plan plan = plan_of(kind, 128, RUN);
        uint8_t *m = message(&plan, 7, 5);
        uint64_t told;
        for (size_t len = 0; len < 128; len++) {
            uint8_t *cut = malloc(len > 0 ? len : 1);
            assert_non_null(cut);
            memcpy(cut, m, len);
            assert_int_equal(judge(&plan, 7, 5, cut, len, &told), WSR_PAYLOAD_CORRUPT);
            free(cut);
        }
        free(m);
        wsr_payload_free(&plan);
    }
}

static void other_sequences_connections_and_runs_are_told_apart(void **state)
{
    (void)state;
    for (enum wsr_kind kind = WSR_TEXT; kind <= WSR_BINARY; kind++) {
        struct wsr_payload_plan plan = plan_of(kind, 100, RUN), other = plan_of(kind, 100, RUN + 1);
        uint64_t told;
        uint8_t *late = message(&plan, 7, 4);
        assert_int_equal(judge(&plan, 7, 9, late, 100, &told), WSR_PAYLOAD_OTHER);
        assert_int_equal(told, 4);
        assert_int_equal(judge(&plan, 8, 4, late, 100, &told), WSR_PAYLOAD_FOREIGN);
        uint8_t *stale = message(&other, 7, 4);
        assert_int_equal(judge(&plan, 7, 4, stale, 100, &told), WSR_PAYLOAD_FOREIGN);
        free(late);
        free(stale);
        wsr_payload_free(&plan);
        wsr_payload_free(&other);
    }
}

/* A sound head over the body of another message: what a server does that mixes up its buffers. */
static void a_swapped_body_is_corrupt(void **state)
{
    (void)state;
    for (enum wsr_kind kind = WSR_TEXT; kind <= WSR_BINARY; kind++) {
        struct wsr_payload_plan plan = plan_of(kind, 400, RUN);
        unsigned found = 0;
        for (uint64_t sequence = 0; sequence < 64; sequence++) {
            uint8_t *a = message(&plan, 1, sequence), *b = message(&plan, 2, sequence);
            uint64_t told;
            memcpy(a + plan.head_bytes, b + plan.head_bytes, 400 - plan.head_bytes);
            found += judge(&plan, 1, sequence, a, 400, &told) == WSR_PAYLOAD_CORRUPT;
            free(a);
            free(b);
        }
        assert_true(found >= 62);      /* two bodies may start at the same place, rarely */
        wsr_payload_free(&plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_is_itself_at_every_size),
        cmocka_unit_test(text_is_valid_utf8_with_multi_byte_characters),
        cmocka_unit_test(json_is_text_that_differs),
        cmocka_unit_test(one_changed_byte_is_corrupt_wherever_it_is),
        cmocka_unit_test(a_wrong_length_is_corrupt),
        cmocka_unit_test(other_sequences_connections_and_runs_are_told_apart),
        cmocka_unit_test(a_swapped_body_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
