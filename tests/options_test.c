/* engine/options.c: option structures of older and newer callers, alone and through the functions that take them.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "engine/options.h"

/* What this library knows, what it knew once, and what a later one will know. */
struct known {
    uint32_t size, a, b, c;
};
struct older {
    uint32_t size, a;
};
struct newer {
    uint32_t size, a, b, c;
    uint8_t d[8];
};

static void null_leaves_the_defaults(void **state)
{
    (void)state;
    struct known to = { sizeof to, 1, 2, 3 };
    assert_int_equal(wsr_options_copy(&to, sizeof to, NULL, "known"), 0);
    assert_int_equal(to.size, sizeof to);
    assert_true(to.a == 1 && to.b == 2 && to.c == 3);
}

static void the_same_version_is_copied(void **state)
{
    (void)state;
    const struct known from = { sizeof from, 4, 5, 6 };
    struct known to = { sizeof to, 1, 2, 3 };
    assert_int_equal(wsr_options_copy(&to, sizeof to, &from, "known"), 0);
    assert_memory_equal(&to, &from, sizeof to);
}

static void an_older_caller_leaves_the_rest_zero(void **state)
{
    (void)state;
    const struct older from = { sizeof from, 4 };
    struct known to = { sizeof to, 1, 2, 3 };
    assert_int_equal(wsr_options_copy(&to, sizeof to, &from, "known"), 0);
    assert_true(to.size == sizeof to && to.a == 4 && to.b == 0 && to.c == 0);
}

static void a_newer_caller_that_sets_nothing_new_is_served(void **state)
{
    (void)state;
    const struct newer from = { .size = sizeof from, .a = 4, .b = 5, .c = 6 };
    struct known to = { 0 };
    assert_int_equal(wsr_options_copy(&to, sizeof to, &from, "known"), 0);
    assert_true(to.size == sizeof to && to.a == 4 && to.b == 5 && to.c == 6);
}

static void a_newer_caller_that_sets_something_new_is_refused_at_every_byte(void **state)
{
    (void)state;
    const struct known before = { sizeof before, 1, 2, 3 };
    for (size_t i = 0; i < sizeof (struct newer) - sizeof (struct known); i++) {
        struct newer from = { .size = sizeof from };
        struct known to = before;
        from.d[i] = 1;
        assert_int_equal(wsr_options_copy(&to, sizeof to, &from, "struct_name"), WSR_ERR_ARGUMENT);
        assert_memory_equal(&to, &before, sizeof to);
        assert_non_null(strstr(wsr_error_text(), "struct_name"));
    }
}

static void sizes_that_are_none_are_refused(void **state)
{
    (void)state;
    static const uint32_t sizes[] = { 0, 1, 2, 3, 4097, 0x10000, UINT32_MAX };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct known from = { sizes[i], 4, 5, 6 }, to = { sizeof to, 1, 2, 3 };
        assert_int_equal(wsr_options_copy(&to, sizeof to, &from, "known"), WSR_ERR_ARGUMENT);
        assert_true(to.a == 1 && to.b == 2 && to.c == 3);
        assert_non_null(strstr(wsr_error_text(), "size"));
    }
}

static void the_size_alone_is_enough(void **state)
{
    (void)state;
    const uint32_t from = sizeof from;
    struct known to = { sizeof to, 1, 2, 3 };
    assert_int_equal(wsr_options_copy(&to, sizeof to, &from, "known"), 0);
    assert_true(to.size == sizeof to && to.a == 0 && to.b == 0 && to.c == 0);
}

/* ---- Through the public functions ---- */

/* A structure of a later version, with a field that this library does not know. */
struct later_engine_options {
    struct wsr_engine_options known;
    uint64_t unknown;
};

static void an_engine_of_any_version_can_be_made(void **state)
{
    (void)state;
    struct later_engine_options later = { .known = WSR_ENGINE_OPTIONS_INIT };
    struct wsr_engine *engine = NULL;
    static const uint32_t sizes[] = {
        sizeof (uint32_t), offsetof(struct wsr_engine_options, sockets_max), sizeof (struct wsr_engine_options),
        sizeof (struct later_engine_options),
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        later.known.size = sizes[i];
        later.known.buffers_count = 16;
        assert_int_equal(wsr_engine_create(&engine, &later.known), 0);
        struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
        assert_int_equal(wsr_engine_statistics(engine, &statistics), 0);
        /* What lies behind the caller's size is not read. */
        assert_int_equal(statistics.buffers_count, sizes[i] < sizeof later.known ? 512 : 16);
        assert_int_equal(wsr_engine_destroy(engine), 0);
    }
}

static void an_engine_option_that_is_not_known_is_refused(void **state)
{
    (void)state;
    struct later_engine_options later = { .known = WSR_ENGINE_OPTIONS_INIT, .unknown = 1 };
    struct wsr_engine *engine = NULL;
    later.known.size = sizeof later;
    assert_int_equal(wsr_engine_create(&engine, &later.known), WSR_ERR_ARGUMENT);
    assert_null(engine);
    assert_non_null(strstr(wsr_error_text(), "wsr_engine_options"));
}

struct later_socket_options {
    struct wsr_socket_options known;
    void *unknown;
};

static void socket_options_of_any_version(void **state)
{
    (void)state;
    struct later_socket_options later = { .known = WSR_SOCKET_OPTIONS_INIT };
    struct wsr_engine *engine;
    struct wsr_socket *socket = NULL;
    int mark;
    assert_int_equal(wsr_engine_create(&engine, NULL), 0);
    later.known.size = sizeof later;
    later.known.user = &mark;
    assert_int_equal(wsr_socket_open(engine, "ws://127.0.0.1:1/", WSR_ZSTRING, NULL, 0, &later.known, &socket), 0);
    assert_ptr_equal(wsr_socket_user(socket), &mark);

    later.known.size = offsetof(struct wsr_socket_options, user);
    assert_int_equal(wsr_socket_open(engine, "ws://127.0.0.1:1/", WSR_ZSTRING, NULL, 0, &later.known, &socket), 0);
    assert_null(wsr_socket_user(socket));

    struct wsr_socket *none = NULL;
    later.known.size = sizeof later;
    later.unknown = &mark;
    assert_int_equal(wsr_socket_open(engine, "ws://127.0.0.1:1/", WSR_ZSTRING, NULL, 0, &later.known, &none),
                     WSR_ERR_ARGUMENT);
    later.known.size = 0;
    assert_int_equal(wsr_socket_open(engine, "ws://127.0.0.1:1/", WSR_ZSTRING, NULL, 0, &later.known, &none),
                     WSR_ERR_ARGUMENT);
    assert_null(none);
    assert_int_equal(wsr_engine_destroy(engine), 0);
}

/* Out-structures: as much is filled as the caller has room for, and nothing behind it. */
static void statistics_and_diagnosis_of_any_size(void **state)
{
    (void)state;
    struct wsr_engine *engine;
    assert_int_equal(wsr_engine_create(&engine, NULL), 0);
    struct wsr_engine_statistics statistics;
    struct wsr_diagnosis diagnosis;
    for (uint32_t size = 0; size <= 24; size++) {
        memset(&statistics, 0xAA, sizeof statistics);
        memset(&diagnosis, 0xAA, sizeof diagnosis);
        statistics.size = diagnosis.size = size;
        int rc = size < sizeof size ? WSR_ERR_ARGUMENT : 0;
        assert_int_equal(wsr_engine_statistics(engine, &statistics), rc);
        assert_int_equal(wsr_diagnose(&diagnosis), rc);
        assert_int_equal(statistics.size, size);
        assert_int_equal(diagnosis.size, size);
        for (size_t at = size < sizeof size ? sizeof size : size; at < sizeof statistics; at++)
            assert_int_equal(((const uint8_t *)&statistics)[at], 0xAA);
        for (size_t at = size < sizeof size ? sizeof size : size; at < sizeof diagnosis; at++)
            assert_int_equal(((const uint8_t *)&diagnosis)[at], 0xAA);
    }
    assert_int_equal(wsr_engine_statistics(NULL, &statistics), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_engine_statistics(engine, NULL), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_diagnose(NULL), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_engine_destroy(engine), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_leaves_the_defaults),
        cmocka_unit_test(the_same_version_is_copied),
        cmocka_unit_test(an_older_caller_leaves_the_rest_zero),
        cmocka_unit_test(a_newer_caller_that_sets_nothing_new_is_served),
        cmocka_unit_test(a_newer_caller_that_sets_something_new_is_refused_at_every_byte),
        cmocka_unit_test(sizes_that_are_none_are_refused),
        cmocka_unit_test(the_size_alone_is_enough),
        cmocka_unit_test(an_engine_of_any_version_can_be_made),
        cmocka_unit_test(an_engine_option_that_is_not_known_is_refused),
        cmocka_unit_test(socket_options_of_any_version),
        cmocka_unit_test(statistics_and_diagnosis_of_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
