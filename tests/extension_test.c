/* The grammar of Sec-WebSocket-Extensions (RFC 6455 9.1), over engine/extension.c.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/extension.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* All of @text as "name(parameter=value,flag) name"; NULL when it breaks the grammar. The text lies in memory of its
 * own, so that a sanitizer sees a byte too many. */
static const char *read_all(const char *text, size_t len, char *out, size_t room)
{
    uint8_t *own = malloc(len > 0 ? len : 1);
    struct wsr_bytes rest = wsr_bytes_of(own, len);
    size_t used = 0;
    bool ok = true;
    assert_non_null(own);
    memcpy(own, text, len);
    out[0] = '\0';
    do {
        struct wsr_extension element;
        struct wsr_extension_parameter p;
        ok = wsr_extension_take(&rest, &element);
        if (!ok)
            break;
        used += (size_t)snprintf(out + used, room - used, "%s%.*s(", used > 0 ? " " : "", (int)element.name.len,
                                 (const char *)element.name.data);
        while (wsr_extension_take_parameter(&element.parameters, &p))
            used += (size_t)snprintf(out + used, room - used, "%s%.*s%s%.*s", out[used - 1] == '(' ? "" : ",",
                                     (int)p.name.len, (const char *)p.name.data, p.has_value ? "=" : "",
                                     (int)p.value.len, p.has_value ? (const char *)p.value.data : "");
        used += (size_t)snprintf(out + used, room - used, ")");
    } while (rest.len > 0);
    free(own);
    return ok ? out : NULL;
}

struct good {
    const char *text, *want;
};

static const struct good good[] = {
    { "a", "a()" },
    { "permessage-deflate", "permessage-deflate()" },
    { "a;b", "a(b)" },
    { "a;b=c", "a(b=c)" },
    { "a;b=\"c\"", "a(b=c)" },
    { "a;b=\"\\c\\d\"", "a(b=\\c\\d)" },
    { "a ; b = c\t;\td", "a(b=c,d)" },
    { "a;b;b=1;b", "a(b,b=1,b)" },
    { "a, b", "a() b()" },
    { "a;x=1,\tb;y ,c", "a(x=1) b(y) c()" },
    { "a!#$%&'*+-.^_`|~9;Z", "a!#$%&'*+-.^_`|~9(Z)" },
};

static const char *const bad[] = {
    "", " ", ",", ";", "=", "a,", "a,,b", ",a", "a;", "a;;b", "a;b;", "a;=b", "a;b=", "a;b=,c", "a;b=;c", "a=b", "a b",
    "a;b c", "a;b=c d", "a;b=\"\"", "a;b=\"c", "a;b=\"c\\", "a;b=\"c\\\"", "a;b=\"c d\"", "a;b=\"c\"d", "a;b=\"\\\"\"",
    "a;b=\"\\\\\"", "a;b=c\"d\"", "\"a\"", "a/b", "a;b/c", "a;b=c/d", "a;\xc3\xa9", "a;b=\xff", "a\r\n", "a;b=c,",
    "a ,", " a", "\ta", "(a)", "a;b={c}",
};

static void good_values_are_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        char out[512];
        const char *got = read_all(good[i].text, strlen(good[i].text), out, sizeof out);
        if (got == NULL)
            fail_msg("refused: %s", good[i].text);
        assert_string_equal(got, good[i].want);
    }
}

static void bad_values_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char out[512];
        if (read_all(bad[i], strlen(bad[i]), out, sizeof out) != NULL)
            fail_msg("taken: %s as %s", bad[i], out);
    }
}

/* Each prefix of a good value is a good value of its own or none, and never reads on. */
static void prefixes_are_judged_by_what_they_have(void **state)
{
    (void)state;
    static const char text[] = "a ; b = \"\\c\" ; d=e, f;g";
    static const char *const whole[] = { "a", "a ; b", "a ; b = \"\\c\"", "a ; b = \"\\c\" ; d",
                                         "a ; b = \"\\c\" ; d=e", "a ; b = \"\\c\" ; d=e, f", text };
    for (size_t len = 0; len < sizeof text; len++) {
        char out[512];
        bool want = false;
        for (size_t i = 0; i < COUNT_OF(whole); i++)
            want = want || strlen(whole[i]) == len;
        /* Blanks behind a name are of what follows: they may also stand at the end. */
        size_t stripped = len;
        while (stripped > 0 && text[stripped - 1] == ' ')
            stripped--;
        for (size_t i = 0; i < COUNT_OF(whole); i++)
            want = want || (stripped < len && strlen(whole[i]) == stripped);
        if ((read_all(text, len, out, sizeof out) != NULL) != want)
            fail_msg("prefix of %zu: \"%.*s\"", len, (int)len, text);
    }
}

/* What is behind the comma stays for the next call. */
static void elements_come_one_by_one(void **state)
{
    (void)state;
    struct wsr_bytes rest = wsr_bytes_of_string("a;b , c");
    struct wsr_extension element;
    assert_true(wsr_extension_take(&rest, &element));
    assert_true(wsr_bytes_equal(element.name, wsr_bytes_of_string("a")));
    assert_true(wsr_bytes_equal(rest, wsr_bytes_of_string("c")));
    assert_true(wsr_extension_take(&rest, &element));
    assert_true(wsr_bytes_equal(element.name, wsr_bytes_of_string("c")));
    assert_int_equal(element.parameters.len, 0);
    assert_int_equal(rest.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_values_are_taken_apart),
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(prefixes_are_judged_by_what_they_have),
        cmocka_unit_test(elements_come_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
