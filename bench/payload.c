/* Making and verifying messages. Making costs one head and no copy of the body; verifying costs the same head and one
 * memcmp of the body.
 * SPDX-License-Identifier: MIT
 */
#include "payload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x31525357u            /* "WSR1" */
#define TEXT_GROUP_BYTES 12u         /* one character of 2, one of 4, two of 3 bytes, in any order */
#define TEXT_PLACES 256u             /* where a body may start: at any of so many groups */
#define BINARY_PLACES 4096u          /* at any of so many bytes */
#define JSON_PLACES (1u << 20)       /* the same: far more than the window of a compressor, or all would repeat */

/* The head in memory, without padding. Only ever read back by the same program: byte order does not matter. */
struct head {
    uint64_t checksum;    /* first, as the part that a short message has room for */
    uint64_t sequence;
    uint32_t connection;
    uint32_t run;
    uint32_t magic;
    uint32_t message_bytes;
};
_Static_assert(sizeof(struct head) == WSR_PAYLOAD_HEAD_BYTES, "the head has no padding");

/* The finalizer of splitmix64: every input bit moves every output bit. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t checksum_of(const struct head *head)
{
    uint64_t place = (uint64_t)head->connection << 32 | head->run;
    uint64_t shape = (uint64_t)head->magic << 32 | head->message_bytes;
    return mix(mix(head->sequence ^ mix(place)) ^ shape);
}

static struct head head_of(const struct wsr_payload_plan *plan, struct wsr_payload_id id)
{
    struct head head = {
        .sequence = id.sequence,
        .connection = id.connection,
        .run = plan->run,
        .magic = MAGIC,
        .message_bytes = (uint32_t)plan->message_bytes,
    };
    head.checksum = checksum_of(&head);
    return head;
}

static void write_hex(uint8_t *to, const struct head *head)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = (const uint8_t *)head;
    for (size_t i = 0; i < sizeof *head; i++) {
        to[2 * i] = (uint8_t)digits[from[i] >> 4];
        to[2 * i + 1] = (uint8_t)digits[from[i] & 15];
    }
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Only what write_hex() writes is read: one spelling for each head. */
static bool read_hex(struct head *head, const uint8_t *from)
{
    uint8_t *to = (uint8_t *)head;
    for (size_t i = 0; i < sizeof *head; i++) {
        int high = hex_value(from[2 * i]);
        int low = hex_value(from[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void write_head(const struct wsr_payload_plan *plan, const struct head *head, uint8_t *to)
{
    if (plan->kind == WSR_TEXT)
        write_hex(to, head);
    else
        memcpy(to, head, sizeof *head);
}

/* A character of @bytes (2 to 4) bytes: Cyrillic, Chinese, pictures. */
static size_t write_character(uint8_t *to, unsigned bytes, uint64_t random)
{
    uint32_t point = bytes == 2   ? 0x400u + (uint32_t)(random & 0xff)
                     : bytes == 3 ? 0x4e00u + (uint32_t)(random & 0x3fff)
                                  : 0x1f300u + (uint32_t)(random & 0xff);
    for (unsigned i = bytes - 1; i > 0; i--) {
        to[i] = (uint8_t)(0x80 | (point & 0x3f));
        point >>= 6;
    }
    to[0] = (uint8_t)((bytes == 2 ? 0xc0 : bytes == 3 ? 0xe0 : 0xf0) | point);
    return bytes;
}

/* @bytes is a multiple of TEXT_GROUP_BYTES. */
static void fill_text(uint8_t *to, size_t bytes, uint64_t seed)
{
    static const uint8_t orders[4][4] = { { 2, 3, 4, 3 }, { 3, 2, 3, 4 }, { 4, 3, 3, 2 }, { 3, 4, 2, 3 } };
    for (size_t at = 0; at < bytes;) {
        seed = mix(seed);
        const uint8_t *order = orders[seed >> 62];
        for (unsigned i = 0; i < 4; i++)
            at += write_character(to + at, order[i], seed >> (14 * i));
    }
}

static void fill_binary(uint8_t *to, size_t bytes, uint64_t seed)
{
    for (size_t at = 0; at < bytes; at += sizeof seed) {
        seed = mix(seed);
        size_t left = bytes - at;
        memcpy(to + at, &seed, left < sizeof seed ? left : sizeof seed);
    }
}

/* Quotes of a few symbols: names that repeat, digits that do not. */
static void fill_json(uint8_t *to, size_t bytes, uint64_t seed)
{
    static const char *const symbols[] = { "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT", "DOGEUSDT" };
    for (size_t at = 0; at < bytes;) {
        char quote[160];
        seed = mix(seed);
        unsigned price = 6000000 + (unsigned)(seed % 5000), size = (unsigned)(seed >> 32) % 100000;
        int len = snprintf(quote, sizeof quote,
                           "{\"e\":\"bookTicker\",\"u\":%u,\"s\":\"%s\",\"b\":\"%u.%02u\",\"B\":\"%u.%05u\","
                           "\"a\":\"%u.%02u\"}\n",
                           400900000 + (unsigned)(seed >> 20) % 100000, symbols[(seed >> 50) % 6], price / 100,
                           price % 100, size % 31, size, price / 100, (price + 7) % 100);
        size_t taken = (size_t)len < bytes - at ? (size_t)len : bytes - at;
        memcpy(to + at, quote, taken);
        at += taken;
    }
}

static int init(struct wsr_payload_plan *plan, enum wsr_kind kind, bool is_json, size_t message_bytes, uint32_t run)
{
    size_t whole = kind == WSR_TEXT ? WSR_PAYLOAD_HEAD_CHARS : WSR_PAYLOAD_HEAD_BYTES;
    uint32_t places = is_json ? JSON_PLACES : kind == WSR_TEXT ? TEXT_PLACES : BINARY_PLACES;
    uint32_t place_bytes = kind == WSR_TEXT && !is_json ? TEXT_GROUP_BYTES : 1;
    size_t pattern_bytes = message_bytes + (size_t)places * place_bytes;
    pattern_bytes += TEXT_GROUP_BYTES - pattern_bytes % TEXT_GROUP_BYTES;
    uint8_t *pattern = malloc(pattern_bytes);
    if (!pattern)
        return WSR_ERR_MEMORY;
    (is_json ? fill_json : kind == WSR_TEXT ? fill_text : fill_binary)(pattern, pattern_bytes, run);
    *plan = (struct wsr_payload_plan){
        .pattern = pattern,
        .message_bytes = message_bytes,
        .head_bytes = message_bytes < whole ? message_bytes : whole,
        .run = run,
        .places = places,
        .place_bytes = place_bytes,
        .kind = kind,
        .is_whole = message_bytes >= whole,
    };
    return 0;
}

int wsr_payload_init(struct wsr_payload_plan *plan, enum wsr_kind kind, size_t message_bytes, uint32_t run)
{
    return init(plan, kind, false, message_bytes, run);
}

int wsr_payload_init_json(struct wsr_payload_plan *plan, size_t message_bytes, uint32_t run)
{
    return init(plan, WSR_TEXT, true, message_bytes, run);
}

void wsr_payload_free(struct wsr_payload_plan *plan)
{
    free(plan->pattern);
    *plan = (struct wsr_payload_plan){ .pattern = NULL };
}

/* The body under @head, and how many of its bytes come from the pattern: text ends with a whole character. */
static const uint8_t *body_of(const struct wsr_payload_plan *plan, const struct head *head, size_t *pattern_bytes)
{
    size_t bytes = plan->message_bytes - plan->head_bytes;
    const uint8_t *body = plan->pattern + (head->checksum >> 32) % plan->places * plan->place_bytes;
    if (plan->kind != WSR_TEXT) {
        *pattern_bytes = bytes;
        return body;
    }
    while ((body[bytes] & 0xc0) == 0x80)      /* the byte behind would go on with a character: step back before it */
        bytes--;
    *pattern_bytes = bytes;
    return body;
}

/* What fills up a text after its last whole character: at most three bytes. */
static const char padding[] = "...";

size_t wsr_payload_make(const struct wsr_payload_plan *plan, struct wsr_payload_id id, uint8_t *head,
                        struct iovec parts[WSR_PAYLOAD_PARTS])
{
    struct head made = head_of(plan, id);
    write_head(plan, &made, head);
    size_t count = 0;
    parts[count++] = (struct iovec){ head, plan->head_bytes };
    size_t body_bytes = plan->message_bytes - plan->head_bytes;
    if (body_bytes == 0)
        return count;
    size_t pattern_bytes;
    const uint8_t *body = body_of(plan, &made, &pattern_bytes);
    if (pattern_bytes > 0)
        parts[count++] = (struct iovec){ (void *)(uintptr_t)body, pattern_bytes };
    if (pattern_bytes < body_bytes)
        parts[count++] = (struct iovec){ (void *)(uintptr_t)padding, body_bytes - pattern_bytes };
    return count;
}

static bool body_is(const struct wsr_payload_plan *plan, const struct head *head, const uint8_t *data)
{
    size_t body_bytes = plan->message_bytes - plan->head_bytes;
    if (body_bytes == 0)
        return true;
    size_t pattern_bytes;
    const uint8_t *body = body_of(plan, head, &pattern_bytes);
    const uint8_t *got = data + plan->head_bytes;
    return memcmp(got, body, pattern_bytes) == 0 &&
           memcmp(got + pattern_bytes, padding, body_bytes - pattern_bytes) == 0;
}

bool wsr_payload_is(const struct wsr_payload_plan *plan, struct wsr_payload_id id, const void *data, size_t len)
{
    if (len != plan->message_bytes)
        return false;
    if (len == 0)
        return true;
    struct head wanted = head_of(plan, id);
    uint8_t text[WSR_PAYLOAD_HEAD_CHARS];
    write_head(plan, &wanted, text);
    return memcmp(data, text, plan->head_bytes) == 0 && body_is(plan, &wanted, data);
}

enum wsr_payload_verdict wsr_payload_judge(const struct wsr_payload_plan *plan, struct wsr_payload_id expected,
                                           const void *data, size_t len, uint64_t *sequence)
{
    *sequence = expected.sequence;
    if (wsr_payload_is(plan, expected, data, len))
        return WSR_PAYLOAD_EXPECTED;
    if (!plan->is_whole || len < plan->head_bytes)
        return WSR_PAYLOAD_CORRUPT;
    struct head got;
    if (plan->kind != WSR_TEXT)
        memcpy(&got, data, sizeof got);
    else if (!read_hex(&got, data))
        return WSR_PAYLOAD_CORRUPT;
    if (got.magic != MAGIC || got.checksum != checksum_of(&got))
        return WSR_PAYLOAD_CORRUPT;
    if (got.run != plan->run || got.connection != expected.connection)
        return WSR_PAYLOAD_FOREIGN;
    *sequence = got.sequence;
    if (len != plan->message_bytes || got.message_bytes != (uint32_t)len || !body_is(plan, &got, data))
        return WSR_PAYLOAD_CORRUPT;
    return got.sequence == expected.sequence ? WSR_PAYLOAD_CORRUPT : WSR_PAYLOAD_OTHER;
}
