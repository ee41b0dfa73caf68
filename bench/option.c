/* SPDX-License-Identifier: MIT */
#include "option.h"

#include <stdarg.h>
#include <string.h>

#include "quantity.h"

#define HELP_COLUMN 30

struct reader {
    const struct wsr_option *table;
    void *into;
    struct wsr_option_result *result;
};

static int __attribute__((format(printf, 2, 3))) refuse(struct reader *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->result->error, sizeof r->result->error, format, arguments);
    va_end(arguments);
    return -1;
}

static bool takes_value(const struct wsr_option *option)
{
    return option->kind != WSR_OPTION_SWITCH && option->kind != WSR_OPTION_SET && option->kind != WSR_OPTION_OPTIONAL;
}

static int set_quantity(struct reader *r, const struct wsr_option *option, const char *text, void *to)
{
    enum wsr_quantity_kind kind = option->kind == WSR_OPTION_COUNT   ? WSR_QUANTITY_COUNT
                                  : option->kind == WSR_OPTION_BYTES ? WSR_QUANTITY_BYTES
                                                                     : WSR_QUANTITY_DURATION;
    uint64_t value;
    if (!wsr_quantity_parse(&value, kind, text))
        return refuse(r, "--%s takes %s, but was given \"%s\"", option->name, wsr_quantity_wanted(kind), text);
    if (value < option->min || value > option->max) {
        char least[WSR_QUANTITY_CHARS], most[WSR_QUANTITY_CHARS];
        const char *unit = kind == WSR_QUANTITY_BYTES ? " bytes" : kind == WSR_QUANTITY_DURATION ? " ns" : "";
        return refuse(r, "--%s was given %s, but takes from %s to %s%s", option->name, text,
                      wsr_quantity_write_count(least, option->min), wsr_quantity_write_count(most, option->max), unit);
    }
    memcpy(to, &value, sizeof value);
    return 0;
}

static int set_choice(struct reader *r, const struct wsr_option *option, const char *text, void *to)
{
    for (uint32_t i = 0; option->words[i]; i++) {
        if (strcmp(option->words[i], text) == 0) {
            memcpy(to, &i, sizeof i);
            return 0;
        }
    }
    return refuse(r, "--%s takes %s, but was given \"%s\"", option->name, option->value, text);
}

static int append(struct reader *r, struct wsr_option_list *list, const char *name, const char *text)
{
    if (list->count == WSR_OPTION_LIST_MAX)
        return refuse(r, "%s is given more than %d times; give at most that many", name, WSR_OPTION_LIST_MAX);
    list->items[list->count++] = text;
    return 0;
}

static int set(struct reader *r, const struct wsr_option *option, const char *text)
{
    void *to = (char *)r->into + option->offset;
    uint32_t word = (uint32_t)option->min;
    switch ((enum wsr_option_kind)option->kind) {
    case WSR_OPTION_SWITCH:
        *(bool *)to = true;
        return 0;
    case WSR_OPTION_SET:
        memcpy(to, &word, sizeof word);
        return 0;
    case WSR_OPTION_CHOICE:
        return set_choice(r, option, text, to);
    case WSR_OPTION_COUNT:
    case WSR_OPTION_BYTES:
    case WSR_OPTION_DURATION:
        return set_quantity(r, option, text, to);
    case WSR_OPTION_TEXT:
        memcpy(to, &text, sizeof text);
        return 0;
    case WSR_OPTION_LIST:
        return append(r, to, option->name, text);
    case WSR_OPTION_OPTIONAL:
        text = text ? text : "";
        memcpy(to, &text, sizeof text);
        return 0;
    }
    return refuse(r, "--%s cannot be read", option->name);
}

static const struct wsr_option *find_name(const struct wsr_option *table, const char *name, size_t len)
{
    for (; table->name; table++) {
        if (strlen(table->name) == len && memcmp(table->name, name, len) == 0)
            return table;
    }
    return NULL;
}

static const struct wsr_option *find_letter(const struct wsr_option *table, char letter)
{
    for (; table->name; table++) {
        if (table->letter == letter)
            return table;
    }
    return NULL;
}

/* "--name", "--name=value", "--name" "value". Returns the words of argv used up, or -1. */
static int read_long(struct reader *r, const char *word, const char *next)
{
    size_t len = strcspn(word, "=");
    const char *value = word[len] == '=' ? word + len + 1 : NULL;
    const struct wsr_option *option = find_name(r->table, word, len);
    if (!option)
        return refuse(r, "there is no option --%.*s; --help lists the options", (int)len, word);
    if (!takes_value(option)) {
        if (value && option->kind != WSR_OPTION_OPTIONAL)
            return refuse(r, "--%s takes no value, but was given \"%s\"", option->name, value);
        return set(r, option, value) < 0 ? -1 : 1;
    }
    if (!value && !next)
        return refuse(r, "--%s needs a value (%s) behind it", option->name, option->value);
    return set(r, option, value ? value : next) < 0 ? -1 : value ? 1 : 2;
}

/* "-x", "-xyz", "-xvalue", "-x" "value". Returns the words of argv used up, or -1. */
static int read_short(struct reader *r, const char *word, const char *next)
{
    for (; *word; word++) {
        const struct wsr_option *option = find_letter(r->table, *word);
        if (!option)
            return refuse(r, "there is no option -%c; --help lists the options", *word);
        if (takes_value(option)) {
            const char *value = word[1] ? word + 1 : next;
            if (!value)
                return refuse(r, "-%c needs a value (%s) behind it", *word, option->value);
            return set(r, option, value) < 0 ? -1 : word[1] ? 1 : 2;
        }
        if (set(r, option, NULL) < 0)
            return -1;
    }
    return 1;
}

int wsr_option_parse(const struct wsr_option *table, int argc, char **argv, void *into,
                     struct wsr_option_result *result)
{
    struct reader r = { table, into, result };
    bool options_ended = false;
    memset(result, 0, sizeof *result);
    for (int i = 0; i < argc;) {
        const char *word = argv[i];
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        int used = 1;
        if (options_ended || word[0] != '-' || word[1] == '\0') {
            used = append(&r, &result->operands, "an operand", word) < 0 ? -1 : 1;
        } else if (strcmp(word, "--") == 0) {
            options_ended = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            result->wants_help = true;
            return 0;
        } else {
            used = word[1] == '-' ? read_long(&r, word + 2, next) : read_short(&r, word + 1, next);
        }
        if (used < 0)
            return -1;
        i += used;
    }
    return 0;
}

void wsr_option_write_help(FILE *to, const struct wsr_option *table)
{
    for (; table->name; table++) {
        char letter[5] = "    ";
        if (table->letter)
            snprintf(letter, sizeof letter, "-%c, ", table->letter);
        bool is_optional = table->kind == WSR_OPTION_OPTIONAL;
        int width = fprintf(to, "  %s--%s%s%s%s", letter, table->name, is_optional ? "[=" : table->value ? " " : "",
                            table->value ? table->value : "", is_optional ? "]" : "");
        if (width >= HELP_COLUMN) {
            fputc('\n', to);
            width = 0;
        }
        fprintf(to, "%*s%s\n", HELP_COLUMN - width, "", table->help);
    }
}
