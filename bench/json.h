/* JSON, written member by member (RFC 8259). */
#ifndef WSR_JSON_H
#define WSR_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct wsr_json {
    FILE *to;
    unsigned depth;
    bool has_member;      /* of the innermost object or list: a comma is due */
};

/* @name is NULL for the outermost value and inside lists. @bracket is '{' or '['. */
void wsr_json_open(struct wsr_json *json, const char *name, char bracket);
void wsr_json_close(struct wsr_json *json, char bracket);
/* Bytes that are not UTF-8 are written as U+FFFD. */
void wsr_json_text(struct wsr_json *json, const char *name, const char *value);
void wsr_json_count(struct wsr_json *json, const char *name, uint64_t value);
/* What is no number (a rate over no time) is written as null. */
void wsr_json_number(struct wsr_json *json, const char *name, double value);
void wsr_json_bool(struct wsr_json *json, const char *name, bool value);
void wsr_json_null(struct wsr_json *json, const char *name);

#endif
