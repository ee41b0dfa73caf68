/* SPDX-License-Identifier: MIT */
#include "json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Length of the UTF-8 sequence at @at, 0 when there is none (RFC 3629 4). */
static size_t sequence_bytes(const uint8_t *at)
{
    uint8_t low = 0x80, high = 0xbf;
    size_t bytes;
    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xc2 && at[0] <= 0xdf) {
        bytes = 2;
    } else if (at[0] >= 0xe0 && at[0] <= 0xef) {
        bytes = 3;
        low = at[0] == 0xe0 ? 0xa0 : 0x80;
        high = at[0] == 0xed ? 0x9f : 0xbf;
    } else if (at[0] >= 0xf0 && at[0] <= 0xf4) {
        bytes = 4;
        low = at[0] == 0xf0 ? 0x90 : 0x80;
        high = at[0] == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < bytes; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return bytes;
}

static void write_string(FILE *to, const char *text)
{
    fputc('"', to);
    for (const uint8_t *at = (const uint8_t *)text; *at;) {
        size_t bytes = sequence_bytes(at);
        if (bytes == 0)
            fputs("\\ufffd", to);
        else if (*at == '"' || *at == '\\')
            fprintf(to, "\\%c", *at);
        else if (*at < 0x20)
            fprintf(to, "\\u%04x", *at);
        else
            fwrite(at, 1, bytes, to);
        at += bytes ? bytes : 1;
    }
    fputc('"', to);
}

static void start(struct wsr_json *json, const char *name)
{
    if (json->has_member)
        fputc(',', json->to);
    if (json->depth > 0)
        fprintf(json->to, "\n%*s", (int)json->depth * 2, "");
    if (name) {
        write_string(json->to, name);
        fputs(": ", json->to);
    }
    json->has_member = true;
}

void wsr_json_open(struct wsr_json *json, const char *name, char bracket)
{
    start(json, name);
    fputc(bracket, json->to);
    json->depth++;
    json->has_member = false;
}

void wsr_json_close(struct wsr_json *json, char bracket)
{
    assert(json->depth > 0);
    json->depth--;
    if (json->has_member)
        fprintf(json->to, "\n%*s", (int)json->depth * 2, "");
    fputc(bracket, json->to);
    if (json->depth == 0)
        fputc('\n', json->to);
    json->has_member = true;
}

void wsr_json_text(struct wsr_json *json, const char *name, const char *value)
{
    start(json, name);
    write_string(json->to, value);
}

void wsr_json_count(struct wsr_json *json, const char *name, uint64_t value)
{
    start(json, name);
    fprintf(json->to, "%" PRIu64, value);
}

void wsr_json_number(struct wsr_json *json, const char *name, double value)
{
    start(json, name);
    if (isfinite(value))
        fprintf(json->to, "%.12g", value);
    else
        fputs("null", json->to);
}

void wsr_json_bool(struct wsr_json *json, const char *name, bool value)
{
    start(json, name);
    fputs(value ? "true" : "false", json->to);
}

void wsr_json_null(struct wsr_json *json, const char *name)
{
    start(json, name);
    fputs("null", json->to);
}
