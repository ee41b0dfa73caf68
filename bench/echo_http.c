/* SPDX-License-Identifier: MIT */
#include "echo_http.h"

#include <stdio.h>

#include "engine/handshake.h"
#include "engine/http.h"

/* What the fields of the request said. */
struct fields {
    struct wsr_echo_http_request request;
    unsigned hosts;
    unsigned keys;
    bool upgrade;
    bool connection;
    bool version;
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static struct wsr_bytes trim(struct wsr_bytes text)
{
    while (text.len > 0 && is_blank(text.data[0])) {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && is_blank(text.data[text.len - 1]))
        text.len--;
    return text;
}

/* Cut *rest at the first @mark; *rest goes on behind it. Returns false when *rest was used up. */
static bool next_piece(struct wsr_bytes *rest, uint8_t mark, struct wsr_bytes *piece)
{
    if (!rest->data)
        return false;
    const uint8_t *end = rest->len > 0 ? memchr(rest->data, mark, rest->len) : NULL;
    if (!end) {
        *piece = *rest;
        *rest = wsr_bytes_of(NULL, 0);
    } else {
        *piece = wsr_bytes_of(rest->data, (size_t)(end - rest->data));
        *rest = wsr_bytes_of(end + 1, rest->len - piece->len - 1);
    }
    return true;
}

static bool list_has(struct wsr_bytes list, const char *lower)
{
    struct wsr_bytes piece;
    while (next_piece(&list, ',', &piece)) {
        if (wsr_http_name_is(trim(piece), lower))
            return true;
    }
    return false;
}

static struct wsr_bytes first_of_list(struct wsr_bytes list)
{
    struct wsr_bytes piece;
    return next_piece(&list, ',', &piece) ? trim(piece) : list;
}

/* 16 bytes in base64 (RFC 6455 4.2.1): 22 characters that say something, and two to fill up. */
static bool is_key(struct wsr_bytes key)
{
    if (key.len != WSR_HANDSHAKE_KEY_CHARS || key.data[22] != '=' || key.data[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++) {
        uint8_t c = key.data[i];
        bool ok = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
        if (!ok)
            return false;
    }
    return true;
}

static void take_field(struct fields *f, struct wsr_bytes name, struct wsr_bytes value)
{
    if (wsr_http_name_is(name, "host")) {
        f->hosts++;
    } else if (wsr_http_name_is(name, "upgrade")) {
        f->upgrade = f->upgrade || list_has(value, "websocket");
    } else if (wsr_http_name_is(name, "connection")) {
        f->connection = f->connection || list_has(value, "upgrade");
    } else if (wsr_http_name_is(name, "sec-websocket-version")) {
        f->version = wsr_bytes_equal(value, wsr_bytes_of_string("13"));
    } else if (wsr_http_name_is(name, "sec-websocket-key")) {
        f->keys++;
        f->request.key = value;
    } else if (wsr_http_name_is(name, "sec-websocket-protocol") && f->request.protocol.len == 0) {
        f->request.protocol = first_of_list(value);
    } else if (wsr_http_name_is(name, "sec-websocket-extensions") &&
               f->request.extensions_count < WSR_ECHO_HTTP_EXTENSIONS_MAX) {
        f->request.extensions[f->request.extensions_count++] = value;
    }
}

static const char *fault_of(const struct fields *f)
{
    if (f->hosts != 1)
        return "one Host field is needed";
    if (!f->upgrade)
        return "the field Upgrade: websocket is needed";
    if (!f->connection)
        return "the field Connection: Upgrade is needed";
    if (f->keys != 1 || !is_key(f->request.key))
        return "one Sec-WebSocket-Key of 16 bytes in base64 is needed";
    if (!f->version)
        return "Sec-WebSocket-Version has to be 13";
    if (f->request.protocol.len > WSR_ECHO_HTTP_PROTOCOL_MAX)
        return "the first subprotocol is longer than 128 characters";
    if (f->request.protocol.len > 0 && !wsr_http_is_token(f->request.protocol))
        return "Sec-WebSocket-Protocol is not a list of tokens";
    return NULL;
}

/* @head is the request without its blank line; every line ends with CR LF, of which the LF is cut off here. */
static const char *read_lines(struct fields *f, struct wsr_bytes head)
{
    static const char start[] = "GET /", version[] = " HTTP/1.1\r";
    struct wsr_bytes line;
    if (!next_piece(&head, '\n', &line) || line.len < sizeof start + sizeof version - 2 ||
        memcmp(line.data, start, sizeof start - 1) != 0 ||
        memcmp(line.data + line.len - (sizeof version - 1), version, sizeof version - 1) != 0)
        return "the request has to start with GET /... HTTP/1.1";
    while (next_piece(&head, '\n', &line) && line.len > 0) {
        if (line.data[line.len - 1] != '\r')
            return "every line has to end with CR LF";
        line.len--;
        struct wsr_bytes name, value = line;
        if (!next_piece(&value, ':', &name) || !value.data || !wsr_http_is_token(name))
            return "a header line is not NAME: VALUE";
        take_field(f, name, trim(value));
    }
    return NULL;
}

ptrdiff_t wsr_echo_http_parse(struct wsr_echo_http_request *out, const uint8_t *in, size_t len, size_t *scanned,
                              const char **why)
{
    size_t from = *scanned < 3 ? 0 : *scanned - 3;      /* the end may straddle what was looked at */
    const uint8_t *end = memmem(in + from, len - from, "\r\n\r\n", 4);
    *scanned = len;
    if (!end) {
        *why = "the request head is longer than 16 KiB";
        return len > WSR_ECHO_HTTP_HEAD_MAX ? WSR_ERR_SYNTAX : 0;
    }
    struct fields f = { .hosts = 0 };
    *why = read_lines(&f, wsr_bytes_of(in, (size_t)(end - in) + 2));
    if (!*why)
        *why = fault_of(&f);
    if (*why)
        return WSR_ERR_SYNTAX;
    *out = f.request;
    return end - in + 4;
}

int wsr_echo_http_accept(char out[WSR_ECHO_HTTP_ANSWER_CHARS], const struct wsr_echo_http_request *request)
{
    char key[WSR_HANDSHAKE_KEY_CHARS + 1], accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1];
    memcpy(key, request->key.data, WSR_HANDSHAKE_KEY_CHARS);
    key[WSR_HANDSHAKE_KEY_CHARS] = '\0';
    int rc = wsr_handshake_accept(accept, key);
    if (rc < 0)
        return rc;
    bool agreed = request->protocol.len > 0;
    const char *extensions = request->agreed_extensions;
    return snprintf(out, WSR_ECHO_HTTP_ANSWER_CHARS,
                    "HTTP/1.1 101 Switching Protocols\r\n"
                    "Upgrade: websocket\r\n"
                    "Connection: Upgrade\r\n"
                    "Sec-WebSocket-Accept: %s\r\n"
                    "%s%.*s%s%s%s%s\r\n",
                    accept, agreed ? "Sec-WebSocket-Protocol: " : "", (int)request->protocol.len,
                    agreed ? (const char *)request->protocol.data : "", agreed ? "\r\n" : "",
                    extensions ? "Sec-WebSocket-Extensions: " : "", extensions ? extensions : "",
                    extensions ? "\r\n" : "");
}

int wsr_echo_http_refuse(char out[WSR_ECHO_HTTP_ANSWER_CHARS], const char *why)
{
    return snprintf(out, WSR_ECHO_HTTP_ANSWER_CHARS,
                    "HTTP/1.1 400 Bad Request\r\n"
                    "Connection: close\r\n"
                    "Content-Type: text/plain\r\n"
                    "Sec-WebSocket-Version: 13\r\n"
                    "Content-Length: %zu\r\n"
                    "\r\n"
                    "%s\n",
                    strlen(why) + 1, why);
}
