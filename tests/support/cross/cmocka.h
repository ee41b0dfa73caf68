/*
 * A stand-in for cmocka, for tests/neon alone: Debian offers the library for another architecture only to a machine
 * that adds that whole architecture to its packages. The few macros that tests/simd*_test.c use have the meaning they
 * have in the real one, and the output is the TAP that tests/support/results.py reads. A signal is not caught: it ends
 * the program, and then fewer cases have run than were announced.
 */
#ifndef CROSS_CMOCKA_H
#define CROSS_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
};

/* Where a failed check goes back to, and what it said. One per program: every test program is one file. */
static jmp_buf cross_failed;
static char cross_why[512];

__attribute__((format(printf, 3, 4), noreturn, unused))
static void cross_fail(const char *file, int line, const char *format, ...)
{
    int len = snprintf(cross_why, sizeof(cross_why), "%s:%d: ", file, line);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(cross_why + len, sizeof(cross_why) - (size_t)len, format, arguments);
    va_end(arguments);
    longjmp(cross_failed, 1);
}

#define fail_msg(...) cross_fail(__FILE__, __LINE__, __VA_ARGS__)
#define assert_true(condition)                                                                                         \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fail_msg("%s", #condition);                                                                                \
    } while (0)
#define assert_non_null(pointer) assert_true((pointer) != NULL)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_memory_equal(a, b, len) assert_true(memcmp((a), (b), (len)) == 0)
#define assert_int_equal(a, b)                                                                                         \
    do {                                                                                                               \
        uintmax_t cross_a = (uintmax_t)(a), cross_b = (uintmax_t)(b);                                                  \
        if (cross_a != cross_b)                                                                                        \
            fail_msg("%s is %#jx, %s is %#jx", #a, cross_a, #b, cross_b);                                              \
    } while (0)
#define assert_string_equal(a, b)                                                                                      \
    do {                                                                                                               \
        if (strcmp((a), (b)) != 0)                                                                                     \
            fail_msg("\"%s\" is not \"%s\"", (a), (b));                                                                \
    } while (0)

#define cmocka_unit_test(function) {#function, function}
#define cmocka_run_group_tests(tests, setup, teardown)                                                                 \
    ((void)(setup), (void)(teardown), cross_run((tests), sizeof(tests) / sizeof((tests)[0])))

/* Returns how many failed. */
static inline int cross_run(const struct CMUnitTest *tests, size_t count)
{
    volatile int failed = 0;

    printf("1..%zu\n", count);
    for (volatile size_t i = 0; i < count; i++) {
        fflush(stdout);     /* a child that the test makes shall not print it again */
        if (setjmp(cross_failed) == 0) {
            tests[i].test_func(&(void *){NULL});
            printf("ok %zu - %s\n", i + 1, tests[i].name);
        } else {
            printf("not ok %zu - %s\n# %s\n", i + 1, tests[i].name, cross_why);
            failed++;
        }
    }
    return failed;
}

#endif
