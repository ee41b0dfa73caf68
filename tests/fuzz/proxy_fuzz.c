/* A hostile proxy's whole stream, fed whole, byte by byte and in random pieces: the events must be the same, nothing
 * comes behind an end, and a tunnel that stands has taken no byte too many. In text mode the input is the caller's text
 * instead, and what is taken apart must make a tunnel.
 *
 * Input: mode, seed of the cuts, then the stream or the text.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/proxy.h"

#define STREAM_MAX 4096
#define EVENTS_MAX 8
#define HEAD_MAX 300
#define INTERIM_MAX 2

enum mode {
    MODE_SOCKS = 1,          /* else HTTP */
    MODE_CREDENTIALS = 2,
    MODE_NAME = 4,           /* SOCKS5: the proxy looks up, else we do */
    MODE_TEXT = 8
};

enum cut { CUT_NONE, CUT_EACH_BYTE, CUT_RANDOM };

/* What is compared of an event. A failure is told where it was found, which the cut decides. */
struct record {
    enum wsr_proxy_event_type type;
    uint16_t http_status;
    const char *text;
    size_t at;
};

struct run {
    struct record records[EVENTS_MAX];
    size_t count;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static struct wsr_proxy *make(unsigned mode)
{
    static const char *const texts[] = { "http://h:1", "socks5://h:1", "http://u:p@h:1", "socks5://u:p@h:1",
                                         "http://h:1", "socks5h://h:1", "http://u:p@h:1", "socks5h://u:p@h:1" };
    struct wsr_proxy_url url;
    struct wsr_proxy *proxy;
    struct wsr_address address;
    struct wsr_fault why;
    must(wsr_proxy_parse(&url, texts[mode % 8], &why) == 0);
    must(wsr_proxy_create(&proxy, &url, wsr_bytes_of_string("server"), 80, &why) == 0);
    must(wsr_proxy_wants_address(proxy) == ((mode & (MODE_SOCKS | MODE_NAME)) == MODE_SOCKS));
    if (wsr_proxy_wants_address(proxy)) {
        must(wsr_resolve_numeric(&address, "::1", 3, 80));
        wsr_proxy_set_address(proxy, &address);
    }
    proxy->head_max_bytes = HEAD_MAX;
    proxy->interim_max = INTERIM_MAX;
    return proxy;
}

static size_t piece_bytes(enum cut cut, uint32_t *random, size_t left)
{
    if (cut == CUT_NONE)
        return left;
    *random = *random * 1664525u + 1013904223u;
    size_t bytes = cut == CUT_EACH_BYTE ? 1 : 1 + (*random >> 24) % 40;
    return bytes < left ? bytes : left;
}

/* Feed one piece, which lies in a block of its own. Returns the bytes taken. */
static size_t feed(struct run *run, struct wsr_proxy *proxy, const uint8_t *in, size_t len, size_t at)
{
    struct wsr_proxy_event event;
    bool was_over = proxy->state == WSR_PROXY_REFUSED;
    uint8_t *piece = malloc(len);
    must(piece != NULL);
    memcpy(piece, in, len);
    size_t taken = wsr_proxy_feed(proxy, piece, len, &event);
    free(piece);
    must(taken > 0 && taken <= len);
    must(!was_over || (event.type == WSR_PROXY_NOTHING && taken == len));
    if (event.type == WSR_PROXY_NOTHING)
        return taken;
    must(run->count < EVENTS_MAX);
    struct record *record = &run->records[run->count++];
    *record = (struct record){ .type = event.type, .at = at + taken };
    if (event.type == WSR_PROXY_FAILURE) {
        must(event.text != NULL && taken == len && proxy->state == WSR_PROXY_REFUSED);
        record->http_status = event.http_status;
        record->text = event.text;
        record->at = 0;
    }
    must(event.type != WSR_PROXY_SPEAK || wsr_proxy_message(proxy).len > 0);
    must((event.type == WSR_PROXY_STANDS) == (proxy->state == WSR_PROXY_STANDING));
    return taken;
}

static void play(struct run *run, unsigned mode, const uint8_t *in, size_t len, enum cut cut, uint32_t random)
{
    struct wsr_proxy *proxy = make(mode);
    size_t at = 0;
    *run = (struct run){ .count = 0 };
    while (at < len && proxy->state != WSR_PROXY_STANDING) {
        size_t end = at + piece_bytes(cut, &random, len - at);
        while (at < end && proxy->state != WSR_PROXY_STANDING)
            at += feed(run, proxy, in + at, end - at, at);
    }
    wsr_proxy_free(proxy);
}

static void require_same(const struct run *a, const struct run *b)
{
    must(a->count == b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct record *x = &a->records[i], *y = &b->records[i];
        must(x->type == y->type && x->http_status == y->http_status && x->text == y->text && x->at == y->at);
    }
}

static void play_text(const uint8_t *data, size_t len)
{
    struct wsr_proxy_url url;
    struct wsr_proxy *proxy;
    struct wsr_fault why = { SIZE_MAX, NULL };
    char *text = malloc(len + 1);
    must(text != NULL);
    memcpy(text, data, len);
    text[len] = '\0';
    int rc = wsr_proxy_parse(&url, text, &why);
    if (rc != 0) {
        must(rc == WSR_ERR_MEMORY || (rc == WSR_ERR_SYNTAX && why.text != NULL && why.at <= strlen(text)));
    } else {
        must(url.port > 0 && url.host[0] != '\0' && url.kind >= WSR_PROXY_HTTP && url.kind <= WSR_PROXY_SOCKS5H);
        must(wsr_proxy_create(&proxy, &url, wsr_bytes_of_string("server"), 80, &why) == 0);
        struct wsr_bytes message = wsr_proxy_message(proxy);
        const uint8_t *lf = memchr(message.data, '\n', message.len);
        for (unsigned lines = 0; url.kind == WSR_PROXY_HTTP && lf != NULL; lines++) {
            must(lines <= 3 && lf[-1] == '\r');       /* nothing in the text can add a line */
            lf = memchr(lf + 1, '\n', (size_t)(message.data + message.len - lf - 1));
        }
        wsr_proxy_free(proxy);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run whole, each, pieces;
    if (size < 2 || size > STREAM_MAX)
        return 0;
    if (data[0] & MODE_TEXT) {
        play_text(data + 2, size - 2);
        return 0;
    }
    play(&whole, data[0], data + 2, size - 2, CUT_NONE, 0);
    play(&each, data[0], data + 2, size - 2, CUT_EACH_BYTE, 0);
    play(&pieces, data[0], data + 2, size - 2, CUT_RANDOM, data[1]);
    require_same(&whole, &each);
    require_same(&whole, &pieces);
    return 0;
}
