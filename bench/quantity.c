/* Quantities, read without floating point so that "0.3s" is exactly 300,000,000 ns.
 * SPDX-License-Identifier: MIT
 */
#include "quantity.h"

#include <stdio.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit count_units[] = {
    { "", 1 }, { "k", 1000 }, { "K", 1000 }, { "M", 1000000 }, { "G", 1000000000 }, { NULL, 0 }
};

static const struct unit bytes_units[] = {
    { "", 1 },           { "B", 1 },
    { "k", 1000 },       { "kB", 1000 },       { "K", 1000 },          { "M", 1000000 },
    { "MB", 1000000 },   { "G", 1000000000 },  { "GB", 1000000000 },   { "KiB", 1u << 10 },
    { "MiB", 1u << 20 }, { "GiB", 1u << 30 },  { NULL, 0 }
};

static const struct unit duration_units[] = {
    { "", 1000000000 },  { "ns", 1 },           { "us", 1000 },           { "ms", 1000000 },
    { "s", 1000000000 }, { "m", 60000000000 },  { "h", 3600000000000 },   { NULL, 0 }
};

static const struct unit *const units_of[] = { count_units, bytes_units, duration_units };

static const struct unit *find_unit(enum wsr_quantity_kind kind, const char *name)
{
    for (const struct unit *unit = units_of[kind]; unit->name; unit++) {
        if (strcmp(unit->name, name) == 0)
            return unit;
    }
    return NULL;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* @value = @value * 10 + @digit, unless that is too much. */
static bool append_digit(uint64_t *value, char digit)
{
    uint64_t more;
    return !__builtin_mul_overflow(*value, 10u, &more) &&
           !__builtin_add_overflow(more, (uint64_t)(digit - '0'), value);
}

bool wsr_quantity_parse(uint64_t *out, enum wsr_quantity_kind kind, const char *text)
{
    uint64_t number = 0;
    uint64_t scale = 1;      /* the number read is number / scale */
    if (!is_digit(*text))
        return false;
    for (; is_digit(*text); text++) {
        if (!append_digit(&number, *text))
            return false;
    }
    if (*text == '.') {
        text++;
        if (!is_digit(*text))
            return false;
        for (; is_digit(*text); text++) {
            if (!append_digit(&number, *text) || __builtin_mul_overflow(scale, 10u, &scale))
                return false;
        }
    }
    if (*text == ' ')
        text++;
    const struct unit *unit = find_unit(kind, text);
    uint64_t scaled;
    if (!unit || __builtin_mul_overflow(number, unit->factor, &scaled) || scaled % scale != 0)
        return false;
    *out = scaled / scale;
    return true;
}

const char *wsr_quantity_wanted(enum wsr_quantity_kind kind)
{
    static const char *const wanted[] = {
        "a count such as 500, 20k or 1M",
        "a size in bytes such as 64, 16KiB or 1MiB",
        "a time such as 500us, 20ms, 10s or 2m",
    };
    return wanted[kind];
}

/* Three digits, and no more zeros than they carry. */
static void write_scaled(char *out, double value, const char *unit)
{
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(out, WSR_QUANTITY_CHARS, "%.*f %s", decimals, value, unit);
}

const char *wsr_quantity_write_ns(char *out, double ns)
{
    if (ns < 999.5)
        snprintf(out, WSR_QUANTITY_CHARS, "%.0f ns", ns);
    else if (ns < 999.5e3)
        write_scaled(out, ns / 1e3, "us");
    else if (ns < 999.5e6)
        write_scaled(out, ns / 1e6, "ms");
    else
        write_scaled(out, ns / 1e9, "s");
    return out;
}

const char *wsr_quantity_write_count(char *out, uint64_t value)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    char *to = out;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return out;
}

const char *wsr_quantity_write_bytes(char *out, double bytes)
{
    static const char *const names[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
    if (bytes < 1024.0) {
        snprintf(out, WSR_QUANTITY_CHARS, "%.0f B", bytes);
        return out;
    }
    size_t name = 0;
    double value = bytes / 1024.0;
    while (value >= 999.5 && name + 1 < sizeof names / sizeof names[0]) {
        value /= 1024.0;
        name++;
    }
    write_scaled(out, value, names[name]);
    return out;
}
