/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/option.h"

struct values {
    uint64_t count;
    uint64_t bytes;
    uint64_t time;
    uint32_t choice;
    uint32_t kind;
    bool loud;
    bool brief;
    const char *text;
    const char *optional;
    struct wsr_option_list list;
};

static const char *const colours[] = { "red", "green", NULL };

static const struct wsr_option table[] = {
    { .name = "count", .letter = 'c', .value = "N", .kind = WSR_OPTION_COUNT, .min = 1, .max = 1000,
      .offset = offsetof(struct values, count), .help = "a count" },
    { .name = "bytes", .value = "SIZE", .kind = WSR_OPTION_BYTES, .max = 1 << 20,
      .offset = offsetof(struct values, bytes), .help = "a size" },
    { .name = "time", .letter = 't', .value = "TIME", .kind = WSR_OPTION_DURATION, .max = UINT64_MAX,
      .offset = offsetof(struct values, time), .help = "a time" },
    { .name = "colour", .value = "red|green", .kind = WSR_OPTION_CHOICE, .words = colours,
      .offset = offsetof(struct values, choice), .help = "a colour" },
    { .name = "seven", .kind = WSR_OPTION_SET, .min = 7, .offset = offsetof(struct values, kind), .help = "seven" },
    { .name = "loud", .letter = 'l', .kind = WSR_OPTION_SWITCH, .offset = offsetof(struct values, loud),
      .help = "loud" },
    { .name = "brief", .letter = 'b', .kind = WSR_OPTION_SWITCH, .offset = offsetof(struct values, brief),
      .help = "brief" },
    { .name = "text", .value = "TEXT", .kind = WSR_OPTION_TEXT, .offset = offsetof(struct values, text),
      .help = "a text" },
    { .name = "optional", .value = "TEXT", .kind = WSR_OPTION_OPTIONAL, .offset = offsetof(struct values, optional),
      .help = "a text, or none" },
    { .name = "item", .letter = 'i', .value = "ITEM", .kind = WSR_OPTION_LIST, .offset = offsetof(struct values, list),
      .help = "an item" },
    { .name = NULL },
};

static struct values got;
static struct wsr_option_result result;

static int parse(const char *const *words)
{
    char *argv[80];
    int argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = (char *)(uintptr_t)words[argc];
    memset(&got, 0, sizeof got);
    return wsr_option_parse(table, argc, argv, &got, &result);
}

#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL })

static void refused(int rc, const char *word)
{
    assert_int_equal(rc, -1);
    if (!strstr(result.error, word))
        fail_msg("\"%s\" does not name %s", result.error, word);
}

static void every_kind_goes_where_its_row_says(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--count", "20", "--bytes=4KiB", "--time", "1.5ms", "--colour", "green", "--seven", "--loud",
                           "--text", "x", "ws://a", "--item", "one", "--item=two"), 0);
    assert_int_equal(got.count, 20);
    assert_int_equal(got.bytes, 4096);
    assert_int_equal(got.time, 1500000);
    assert_int_equal(got.choice, 1);
    assert_int_equal(got.kind, 7);
    assert_true(got.loud);
    assert_false(got.brief);
    assert_string_equal(got.text, "x");
    assert_int_equal(got.list.count, 2);
    assert_string_equal(got.list.items[1], "two");
    assert_int_equal(result.operands.count, 1);
    assert_string_equal(result.operands.items[0], "ws://a");
}

static void letters_take_their_value_beside_or_behind_and_may_be_joined(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-c20"), 0);
    assert_int_equal(got.count, 20);
    assert_int_equal(PARSE("-c", "30"), 0);
    assert_int_equal(got.count, 30);
    assert_int_equal(PARSE("-lb"), 0);
    assert_true(got.loud && got.brief);
    assert_int_equal(PARSE("-lbc40"), 0);
    assert_int_equal(got.count, 40);
    assert_int_equal(PARSE("-blc", "50", "rest"), 0);
    assert_int_equal(got.count, 50);
    assert_int_equal(result.operands.count, 1);
}

static void the_last_of_several_wins(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-c", "1", "-c", "2"), 0);
    assert_int_equal(got.count, 2);
}

static void two_dashes_end_the_options_and_one_is_an_operand(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-", "--", "--count", "-x"), 0);
    assert_int_equal(result.operands.count, 3);
    assert_string_equal(result.operands.items[0], "-");
    assert_string_equal(result.operands.items[1], "--count");
}

static void help_is_seen_before_later_mistakes(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--help", "--nonsense"), 0);
    assert_true(result.wants_help);
    assert_int_equal(PARSE("-h"), 0);
    assert_true(result.wants_help);
}

static void an_error_names_the_option_and_what_was_given(void **state)
{
    (void)state;
    refused(PARSE("--nonsense"), "--nonsense");
    refused(PARSE("--coun", "1"), "--coun");
    refused(PARSE("-x"), "-x");
    refused(PARSE("--count"), "--count");
    refused(PARSE("-c"), "-c");
    refused(PARSE("--count", "abc"), "abc");
    refused(PARSE("--count", "0"), "from 1 to 1,000");
    refused(PARSE("--count", "1001"), "from 1 to 1,000");
    refused(PARSE("--time", "5 parsecs"), "5 parsecs");
    refused(PARSE("--colour", "blue"), "red|green");
    refused(PARSE("--loud=yes"), "--loud");
}

static void a_list_has_its_limit(void **state)
{
    (void)state;
    const char *words[WSR_OPTION_LIST_MAX + 2];
    for (int i = 0; i <= WSR_OPTION_LIST_MAX; i++)
        words[i] = "-ia";
    words[WSR_OPTION_LIST_MAX + 1] = NULL;
    refused(parse(words), "item");
    words[WSR_OPTION_LIST_MAX] = NULL;
    assert_int_equal(parse(words), 0);
    assert_int_equal(got.list.count, WSR_OPTION_LIST_MAX);
}

static void the_help_has_a_line_for_every_option(void **state)
{
    (void)state;
    char text[4096] = "";
    FILE *to = fmemopen(text, sizeof text, "w");
    assert_non_null(to);
    wsr_option_write_help(to, table);
    fclose(to);
    for (const struct wsr_option *option = table; option->name; option++)
        assert_non_null(strstr(text, option->help));
    assert_non_null(strstr(text, "  -c, --count N"));
}

/* What stands behind it without "=" is not its value. */
static void an_optional_value_comes_behind_its_sign_alone(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--optional", "operand"), 0);
    assert_string_equal(got.optional, "");
    assert_string_equal(result.operands.items[0], "operand");
    assert_int_equal(PARSE("--optional=a=b; c"), 0);
    assert_string_equal(got.optional, "a=b; c");
    assert_int_equal(PARSE("--optional="), 0);
    assert_string_equal(got.optional, "");
    assert_int_equal(PARSE("operand"), 0);
    assert_null(got.optional);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_optional_value_comes_behind_its_sign_alone),
        cmocka_unit_test(every_kind_goes_where_its_row_says),
        cmocka_unit_test(letters_take_their_value_beside_or_behind_and_may_be_joined),
        cmocka_unit_test(the_last_of_several_wins),
        cmocka_unit_test(two_dashes_end_the_options_and_one_is_an_operand),
        cmocka_unit_test(help_is_seen_before_later_mistakes),
        cmocka_unit_test(an_error_names_the_option_and_what_was_given),
        cmocka_unit_test(a_list_has_its_limit),
        cmocka_unit_test(the_help_has_a_line_for_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
