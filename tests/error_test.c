/* engine/error.c: names of the errors, and the last sentence of each thread.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "engine/error.h"

static void every_error_has_its_own_name(void **state)
{
    (void)state;
    static const struct {
        int error;
        const char *name;
    } rows[] = {
        { WSR_OK, "WSR_OK" }, { WSR_ERR_SYNTAX, "WSR_ERR_SYNTAX" },
        { WSR_ERR_INVALID_STATE, "WSR_ERR_INVALID_STATE" }, { WSR_ERR_INVALID_ACCESS, "WSR_ERR_INVALID_ACCESS" },
        { WSR_ERR_INVALID_UTF8, "WSR_ERR_INVALID_UTF8" }, { WSR_ERR_QUOTA, "WSR_ERR_QUOTA" },
        { WSR_ERR_ARGUMENT, "WSR_ERR_ARGUMENT" }, { WSR_ERR_NOT_SUPPORTED, "WSR_ERR_NOT_SUPPORTED" },
        { WSR_ERR_MEMORY, "WSR_ERR_MEMORY" }, { WSR_ERR_SYSTEM, "WSR_ERR_SYSTEM" },
        { WSR_ERR_BUSY, "WSR_ERR_BUSY" }, { WSR_ERR_THREAD, "WSR_ERR_THREAD" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(rows[i].error, -(int)i);
        assert_string_equal(wsr_error_name(rows[i].error), rows[i].name);
    }
}

static void any_other_number_is_unknown(void **state)
{
    (void)state;
    static const int numbers[] = { 1, 11, -12, -1000, INT32_MAX, INT32_MIN };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        assert_string_equal(wsr_error_name(numbers[i]), "unknown");
}

static void setting_returns_the_error_and_keeps_the_sentence(void **state)
{
    (void)state;
    assert_int_equal(wsr_error_set(WSR_ERR_SYNTAX, "byte %d of \"%s\"", 7, "x"), WSR_ERR_SYNTAX);
    assert_string_equal(wsr_error_text(), "byte 7 of \"x\"");
    assert_int_equal(wsr_error_set(WSR_ERR_BUSY, "later"), WSR_ERR_BUSY);
    assert_string_equal(wsr_error_text(), "later");
}

static void a_long_sentence_is_cut_and_ends(void **state)
{
    (void)state;
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    wsr_error_set(WSR_ERR_SYSTEM, "%s", text);
    assert_in_range(strlen(wsr_error_text()), 100, sizeof text - 2);
}

static void *look_from_another_thread(void *context)
{
    char *seen = context;
    seen[0] = wsr_error_text()[0];              /* empty before the first of this thread */
    wsr_error_set(WSR_ERR_QUOTA, "theirs");
    seen[1] = wsr_error_text()[0];
    return NULL;
}

static void each_thread_has_its_own_sentence(void **state)
{
    (void)state;
    pthread_t thread;
    char seen[2] = "??";
    wsr_error_set(WSR_ERR_SYNTAX, "ours");
    assert_int_equal(pthread_create(&thread, NULL, look_from_another_thread, seen), 0);
    pthread_join(thread, NULL);
    assert_int_equal(seen[0], '\0');
    assert_int_equal(seen[1], 't');
    assert_string_equal(wsr_error_text(), "ours");
}

static void a_successful_call_leaves_the_sentence(void **state)
{
    (void)state;
    wsr_error_set(WSR_ERR_SYNTAX, "still here");
    wsr_error_name(WSR_ERR_QUOTA);
    assert_int_equal(wsr_engine_destroy(NULL), 0);
    assert_string_equal(wsr_error_text(), "still here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_its_own_name),
        cmocka_unit_test(any_other_number_is_unknown),
        cmocka_unit_test(setting_returns_the_error_and_keeps_the_sentence),
        cmocka_unit_test(a_long_sentence_is_cut_and_ends),
        cmocka_unit_test(each_thread_has_its_own_sentence),
        cmocka_unit_test(a_successful_call_leaves_the_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
