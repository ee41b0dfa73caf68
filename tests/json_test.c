/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/json.h"

static char text[4096];

static struct wsr_json start(void)
{
    memset(text, 0, sizeof text);
    return (struct wsr_json){ .to = fmemopen(text, sizeof text, "w") };
}

static void end(struct wsr_json *json, const char *wanted)
{
    fclose(json->to);
    assert_string_equal(text, wanted);
}

static void members_are_separated_and_nested(void **state)
{
    (void)state;
    struct wsr_json json = start();
    wsr_json_open(&json, NULL, '{');
    wsr_json_count(&json, "a", UINT64_MAX);
    wsr_json_open(&json, "b", '[');
    wsr_json_open(&json, NULL, '{');
    wsr_json_close(&json, '}');
    wsr_json_bool(&json, NULL, true);
    wsr_json_close(&json, ']');
    wsr_json_null(&json, "c");
    wsr_json_close(&json, '}');
    end(&json, "{\n  \"a\": 18446744073709551615,\n  \"b\": [\n    {},\n    true\n  ],\n  \"c\": null\n}\n");
}

/* RFC 8259 7: quotation mark, reverse solidus and control characters are escaped. */
static void strings_are_escaped(void **state)
{
    (void)state;
    struct wsr_json json = start();
    wsr_json_text(&json, NULL, "a\"b\\c\n\x01\x7f");
    end(&json, "\"a\\\"b\\\\c\\u000a\\u0001\x7f\"");
}

/* RFC 8259 8.1: the text is UTF-8, so what a server sent is not passed on as it is. */
static void what_is_not_utf8_is_replaced(void **state)
{
    (void)state;
    struct wsr_json json = start();
    wsr_json_text(&json, NULL, "\xc3\xa4 \xe4\xb8\xad \xf0\x9f\x8c\x80 \xff \xc0\xaf \xed\xa0\x80 \xe4\xb8 "
                               "\xf4\x90\x80\x80 \xc3");
    end(&json, "\"\xc3\xa4 \xe4\xb8\xad \xf0\x9f\x8c\x80 \\ufffd \\ufffd\\ufffd \\ufffd\\ufffd\\ufffd \\ufffd\\ufffd "
               "\\ufffd\\ufffd\\ufffd\\ufffd \\ufffd\"");
}

static void what_is_no_number_is_null(void **state)
{
    (void)state;
    struct wsr_json json = start();
    double zero = 0.0;
    wsr_json_open(&json, NULL, '[');
    wsr_json_number(&json, NULL, 1.0 / zero);
    wsr_json_number(&json, NULL, zero / zero);
    wsr_json_number(&json, NULL, 1234567.25);
    wsr_json_close(&json, ']');
    end(&json, "[\n  null,\n  null,\n  1234567.25\n]\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_separated_and_nested),
        cmocka_unit_test(strings_are_escaped),
        cmocka_unit_test(what_is_not_utf8_is_replaced),
        cmocka_unit_test(what_is_no_number_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
