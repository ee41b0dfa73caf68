/* Scripts, and the server's side of the protocol, written apart from the engine so that the two check each other. */
#include "tests/support/sim_peer.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/handshake.h"
#include "tests/support/tls_craft.h"

#define NS_PER_MS 1000000ull
#define PAYLOAD_LOGGED_MAX 40
#define TLS_HANDSHAKE 22               /* ContentType of the first record */

static const char *const seen_names[SIM_SEEN_COUNT] = { "request", "text", "binary", "ping", "pong", "close",
    "fin", "end", "greeting", "credentials", "connect", "part", "deflated", "hello",
    "secured", "alert", "close_notify" };

static void log_line(struct sim_peer *peer, enum sim_seen seen, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void log_line(struct sim_peer *peer, enum sim_seen seen, const char *format, ...)
{
    char line[256];
    va_list list;
    peer->seen[seen]++;
    if (seen >= SIM_HELLO && !peer->tells_tls)
        return;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if ((peer->lines_count & (peer->lines_count - 1)) == 0) {       /* full at every power of two */
        peer->lines = realloc(peer->lines, (peer->lines_count == 0 ? 1 : 2 * peer->lines_count) * sizeof *peer->lines);
        if (peer->lines == NULL)
            abort();
    }
    peer->lines[peer->lines_count++] = (struct sim_line){ sim_now(peer->sim), peer->log.bytes };
    sim_buffer_append(&peer->log, line, strlen(line));
    sim_buffer_append(&peer->log, "\n", 1);
}

/* ---- To the client ---- */

static void add_piece(struct sim_peer *peer, size_t len)
{
    uint64_t due = sim_now(peer->sim) + sim_random(peer->sim, 100000);
    if (due <= peer->last_due_ns)
        due = peer->last_due_ns + 1;
    peer->last_due_ns = due;
    peer->pieces = realloc(peer->pieces, (peer->pieces_count + 1) * sizeof *peer->pieces);
    if (peer->pieces == NULL)
        abort();
    size_t end = peer->out.bytes - peer->uncut + len;
    peer->pieces[peer->pieces_count++] = (struct sim_piece){ due, end };
    peer->uncut -= len;
}

static void cut_now(struct sim_peer *peer)
{
    uint64_t style = peer->cut != 0 ? 0 : sim_random(peer->sim, 4);
    while (peer->uncut > 0) {
        uint64_t len = peer->cut;
        if (style == 1)
            len = 1 + sim_random(peer->sim, peer->uncut);
        else if (style == 2 && peer->uncut < 2000)
            len = 1 + sim_random(peer->sim, 3);
        else if (peer->cut == 0)
            len = peer->uncut;
        add_piece(peer, len < peer->uncut ? (size_t)len : peer->uncut);
    }
}

/* What the server has for the client goes onto the wire. */
static void send_sealed(struct sim_peer *peer)
{
    size_t len = tls_server_waiting(peer->link);
    uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL || tls_server_take(peer->link, bytes, len) != len)
        abort();
    sim_buffer_append(&peer->out, bytes, len);
    free(bytes);
    peer->uncut += len;
    cut_now(peer);
}

/* Whatever a server may do between two records. */
static void follow_whims(struct sim_peer *peer)
{
    if (!peer->has_whims || SSL_version(peer->link->ssl) != TLS1_3_VERSION)
        return;
    uint64_t whim = sim_random(peer->sim, 32);
    if (whim < 2)
        tls_server_update_keys(peer->link, whim == 0);
    else if (whim == 2)
        tls_server_send_tickets(peer->link, 1);
}

/* Seal what has gathered, in records as large as the seed wants them. */
static void seal_plain(struct sim_peer *peer)
{
    size_t len = peer->plain.bytes, record_bytes = peer->record_bytes;
    if (len == 0)
        return;
    peer->plain.bytes = 0;
    if (peer->link->state == TLS_SERVER_FAILED || peer->has_notified)
        return;                        /* it goes nowhere */
    uint64_t style = record_bytes == 0 ? sim_random(peer->sim, 8) : 2;
    if (style == 0)
        record_bytes = 1 + (size_t)sim_random(peer->sim, len < 16384 ? len : 16384);
    else if (style == 1 && len < 200)
        record_bytes = 1 + (size_t)sim_random(peer->sim, 3);
    follow_whims(peer);
    tls_server_write(peer->link, peer->plain.data, len, record_bytes);
    send_sealed(peer);
}

static void cut_pieces(struct sim_peer *peer)
{
    if (peer->corked)
        return;
    seal_plain(peer);
    cut_now(peer);
}

static bool is_secured(const struct sim_peer *peer)
{
    return peer->link != NULL && peer->link->state != TLS_SERVER_SHAKING;
}

static void tell(struct sim_peer *peer, const void *data, size_t len)
{
    sim_buffer_append(is_secured(peer) ? &peer->plain : &peer->out, data, len);
    peer->uncut += is_secured(peer) ? 0 : len;
    cut_pieces(peer);
}

static void note_message(struct sim_peer *peer, const char *kind, const void *payload, size_t len)
{
    char line[96];
    if (peer->has_ended_saying)
        return;
    if (len > PAYLOAD_LOGGED_MAX)
        snprintf(line, sizeof line, "message %s %zu #%08x\n", kind, len, sim_hash(payload, len));
    else
        snprintf(line, sizeof line, "message %s %zu%s%.*s\n", kind, len, len > 0 ? " " : "", (int)len,
                 len > 0 ? (const char *)payload : "");
    sim_buffer_append(&peer->said, line, strlen(line));
}

/* @first: FIN, RSV bits and opcode. */
static void tell_payload(struct sim_peer *peer, uint8_t first, const void *payload, size_t len)
{
    uint8_t head[10] = { first };
    size_t head_bytes = 2;
    bool was_corked = peer->corked;
    if (len < 126) {
        head[1] = (uint8_t)len;
    } else if (len < 65536) {
        head[1] = 126;
        head[2] = (uint8_t)(len >> 8);
        head[3] = (uint8_t)len;
        head_bytes = 4;
    } else {
        head[1] = 127;
        for (unsigned i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
        head_bytes = 10;
    }
    peer->corked = true;
    tell(peer, head, head_bytes);
    tell(peer, payload, len);
    peer->corked = was_corked;
    cut_pieces(peer);
}

static void tell_frame(struct sim_peer *peer, uint8_t opcode, const void *payload, size_t len)
{
    if (opcode == 1 || opcode == 2)
        note_message(peer, opcode == 1 ? "text" : "binary", payload, len);
    tell_payload(peer, (uint8_t)(0x80 | opcode), payload, len);
}

/* Compressed: in one frame, or in several with a Ping between them. */
static void tell_deflated(struct sim_peer *peer, uint8_t opcode, const void *payload, size_t len)
{
    size_t wire_bytes;
    uint8_t *wire = sim_deflate_deflate(peer->deflate, payload, len, &wire_bytes);
    note_message(peer, opcode == 1 ? "text" : "binary", payload, len);
    if (sim_random(peer->sim, 2) == 0 || wire_bytes < 2) {
        tell_payload(peer, (uint8_t)(0xC0 | opcode), wire, wire_bytes);
    } else {
        size_t first = 1 + (size_t)sim_random(peer->sim, wire_bytes - 1);
        tell_payload(peer, (uint8_t)(0x40 | opcode), wire, first);
        tell_payload(peer, 0, wire, 0);
        tell_payload(peer, 0x80, wire + first, wire_bytes - first);
    }
    free(wire);
}

static void tell_big(struct sim_peer *peer, uint8_t opcode, size_t len)
{
    char *text = malloc(len + 1);
    if (text == NULL)
        abort();
    for (size_t i = 0; i < len; i++)
        text[i] = sim_pattern(i);
    (peer->deflates_next ? tell_deflated : tell_frame)(peer, opcode, text, len);
    free(text);
}

static void tell_numbers(struct sim_peer *peer, uint8_t opcode, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", i);
        tell_frame(peer, opcode, text, strlen(text));
    }
}

/* "N [PAYLOAD]" */
static void tell_fragments(struct sim_peer *peer, const char *arguments, bool ends)
{
    char *payload;
    unsigned long count = strtoul(arguments, &payload, 10);
    size_t len = *payload == ' ' ? strlen(payload + 1) : 0;
    bool was_corked = peer->corked;
    struct sim_buffer whole = { 0 };
    sim_buffer_append(&whole, "", 0);
    peer->corked = true;
    for (unsigned long i = 0; i < count; i++) {
        bool is_last = ends && i + 1 == count;
        const uint8_t head[2] = { (uint8_t)((is_last ? 0x80 : 0) | (i == 0 ? 1 : 0)), (uint8_t)len };
        tell(peer, head, sizeof head);
        tell(peer, payload + 1, len);
        sim_buffer_append(&whole, payload + 1, len);
    }
    if (ends)
        note_message(peer, "text", whole.data, whole.bytes);
    peer->has_ended_saying |= !ends;
    free(whole.data);
    peer->corked = was_corked;
    cut_pieces(peer);
}

static void tell_close(struct sim_peer *peer, const char *arguments)
{
    uint8_t payload[256];
    char *reason;
    unsigned long code = strtoul(arguments, &reason, 10);
    peer->has_ended_saying = true;
    if (reason == arguments) {
        tell_frame(peer, 8, NULL, 0);
        return;
    }
    payload[0] = (uint8_t)(code >> 8);
    payload[1] = (uint8_t)code;
    size_t len = *reason == ' ' ? strlen(reason + 1) : 0;
    memcpy(payload + 2, reason + (*reason == ' '), len);
    tell_frame(peer, 8, payload, 2 + len);
}

/* @is_bare: as they are, whatever TLS says. */
static void tell_hex(struct sim_peer *peer, const char *hex, bool is_bare)
{
    uint8_t bytes[1024];
    size_t len = 0;
    for (; *hex != '\0'; hex++) {
        if (!isxdigit((unsigned char)hex[0]) || !isxdigit((unsigned char)hex[1]))
            continue;
        const char digits[3] = { hex[0], hex[1], '\0' };
        bytes[len++] = (uint8_t)strtoul(digits, NULL, 16);
        hex++;
    }
    peer->has_ended_saying = true;
    if (!is_bare) {
        tell(peer, bytes, len);
        return;
    }
    sim_buffer_append(&peer->out, bytes, len);
    peer->uncut += len;
    cut_now(peer);
}

static void tell_http(struct sim_peer *peer, const char *text)
{
    char accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1] = "";
    struct sim_buffer answer = { 0 };
    if (peer->key[0] != '\0' && wsr_handshake_accept(accept, peer->key) < 0)
        abort();
    const char *hole = strstr(text, "$ACCEPT");
    sim_buffer_append(&answer, text, hole == NULL ? strlen(text) : (size_t)(hole - text));
    if (hole != NULL) {
        sim_buffer_append(&answer, accept, strlen(accept));
        sim_buffer_append(&answer, hole + 7, strlen(hole + 7));
    }
    tell(peer, answer.data, answer.bytes);
    free(answer.data);
}

static void tell_upgrade(struct sim_peer *peer, const char *line)
{
    char text[1024];
    snprintf(text, sizeof text, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: $ACCEPT\r\n%s%s\r\n", line, *line != '\0' ? "\r\n" : "");
    for (char *mark = text; (mark = strchr(mark, '|')) != NULL;)
        *mark = ';';
    tell_http(peer, text);
}

/* ---- From the client ---- */

static void read_request(struct sim_peer *peer, const char *text)
{
    char line[200];
    const char *key = strstr(text, "Sec-WebSocket-Key: ");
    snprintf(line, sizeof line, "%.*s", (int)strcspn(text, "\r"), text);
    char *version = strstr(line, " HTTP/1.1");
    if (version == NULL || key == NULL)
        sim_fail(peer->sim, "not an upgrade request: %s", text);
    if (peer->server != NULL && peer->link == NULL)
        sim_fail(peer->sim, "a request without TLS: %s", text);
    *version = '\0';
    snprintf(peer->key, sizeof peer->key, "%.24s", key + 19);
    log_line(peer, SIM_REQUEST, "request %s", line);
}

/* Put the frames of a message together, logging the payload of each but the last: SEND-12, 13. Returns whether more
 * frames are to come. */
static bool gather_parts(struct sim_peer *peer, uint8_t *first, const uint8_t **payload, size_t *len)
{
    uint8_t opcode = *first & 15, rsv = *first & 0x70;
    bool is_last = (*first & 0x80) != 0, may_deflate = peer->deflate != NULL && opcode != 0;
    if ((rsv != 0 && (rsv != 0x40 || !may_deflate)) || (opcode == 0) != (peer->parts_opcode != 0))
        sim_fail(peer->sim, "a frame that begins with %02x while %s message is under way", *first,
                 peer->parts_opcode != 0 ? "a" : "no");
    if (opcode != 0)
        peer->parts_opcode = opcode | rsv;
    sim_buffer_append(&peer->parts, *payload, *len);
    if (!is_last) {
        log_line(peer, SIM_PART, "part %zu", *len);
        return true;
    }
    *first = 0x80 | peer->parts_opcode;
    *payload = peer->parts.data;
    *len = peer->parts.bytes;
    peer->parts_opcode = 0;
    peer->parts.bytes = 0;
    return false;
}

static void log_frame(struct sim_peer *peer, uint8_t first, const uint8_t *payload, size_t len);

/* A compressed message, then what it stands for: PMD-30. */
static void log_deflated(struct sim_peer *peer, uint8_t first, const uint8_t *wire, size_t len)
{
    size_t text_bytes;
    uint8_t *text = sim_deflate_inflate(peer->deflate, wire, len, &text_bytes);
    if (text == NULL)
        sim_fail(peer->sim, "a compressed message of %zu bytes does not inflate", len);
    log_line(peer, SIM_DEFLATED, "deflated %zu", len);
    peer->deflates_next = peer->echoes;
    bool takes_parts = peer->takes_parts;
    peer->takes_parts = false;
    log_frame(peer, 0x80 | (first & 15), text, text_bytes);
    peer->takes_parts = takes_parts;
    peer->deflates_next = false;
    free(text);
}

/* SEND-12: no fragments unless the script allows them. SEND-13: nothing but a Pong after the Close (OQ-9). CLOSE-13:
 * the codes of no frame. */
static void log_frame(struct sim_peer *peer, uint8_t first, const uint8_t *payload, size_t len)
{
    static const enum sim_seen kinds[16] = { [1] = SIM_TEXT, [2] = SIM_BINARY, [8] = SIM_CLOSE, [9] = SIM_PING,
                                             [10] = SIM_PONG };
    if (peer->takes_parts && (first & 15) < 8 && gather_parts(peer, &first, &payload, &len))
        return;
    if (peer->deflate != NULL && (first & 0xF0) == 0xC0 && (first & 15) < 3) {
        log_deflated(peer, first, payload, len);
        return;
    }
    enum sim_seen kind = kinds[first & 15];
    if ((first & 0xF0) != 0x80 || kind == SIM_REQUEST)
        sim_fail(peer->sim, "the client sent a frame that begins with %02x", first);
    if (peer->seen[SIM_CLOSE] > 0 && kind != SIM_PONG)
        sim_fail(peer->sim, "the client sent a %s after its Close", seen_names[kind]);
    if (kind == SIM_CLOSE) {
        unsigned code = len >= 2 ? (unsigned)payload[0] << 8 | payload[1] : 0;
        if (len == 1 || len > 125 || code == 1005 || code == 1006 || code == 1015)
            sim_fail(peer->sim, "the client sent a Close with %zu bytes, code %u", len, code);
        if (code == 0)
            log_line(peer, kind, "close");
        else if (len == 2)
            log_line(peer, kind, "close %u", code);
        else
            log_line(peer, kind, "close %u %.*s", code, (int)len - 2, payload + 2);
    } else if (len > PAYLOAD_LOGGED_MAX) {
        log_line(peer, kind, "%s %zu #%08x", seen_names[kind], len, sim_hash(payload, len));
    } else {
        log_line(peer, kind, "%s %zu%s%.*s", seen_names[kind], len, len > 0 ? " " : "", (int)len, payload);
    }
    bool echoes = peer->echoes && peer->fin_ns == 0 && peer->reset_ns == 0 && !peer->has_notified;
    if (echoes && (kind == SIM_TEXT || kind == SIM_BINARY))
        (peer->deflates_next ? tell_deflated : tell_frame)(peer, first & 15, payload, len);
    if (echoes && kind == SIM_PING)
        tell_frame(peer, 10, payload, len);
}

/* SEND-10: fresh keys. Three equal ones among five in a row come by chance once in 2^61 tries. */
static void check_mask(struct sim_peer *peer, const uint8_t *mask)
{
    unsigned same = 0;
    uint32_t key;
    memcpy(&key, mask, sizeof key);
    for (size_t i = peer->masks_count < 4 ? 0 : peer->masks_count - 4; i < peer->masks_count; i++)
        same += peer->masks[i] == key;
    if (same >= 2)
        sim_fail(peer->sim, "the client uses a masking key again and again");
    if ((peer->masks_count & (peer->masks_count - 1)) == 0) {       /* full at every power of two */
        peer->masks = realloc(peer->masks, (peer->masks_count == 0 ? 1 : 2 * peer->masks_count) * sizeof key);
        if (peer->masks == NULL)
            abort();
    }
    peer->masks[peer->masks_count++] = key;
}

/* SEND-10, SEND-11 */
static size_t parse_frame(struct sim_peer *peer, uint8_t *in, size_t len)
{
    if (len < 2)
        return 0;
    if (!(in[1] & 0x80))
        sim_fail(peer->sim, "the client sent an unmasked frame");
    size_t head = 2, extra = (in[1] & 127) == 126 ? 2 : (in[1] & 127) == 127 ? 8 : 0;
    uint64_t payload = extra == 0 ? in[1] & 127 : 0;
    if (len < head + extra + 4)
        return 0;
    for (size_t i = 0; i < extra; i++)
        payload = payload << 8 | in[head + i];
    if ((extra == 2 && payload < 126) || (extra == 8 && payload < 65536))
        sim_fail(peer->sim, "the client sent a length that is not the shortest");
    head += extra;
    if (len - head - 4 < payload)
        return 0;
    check_mask(peer, in + head);
    for (size_t i = 0; i < payload; i++)
        in[head + 4 + i] ^= in[head + i % 4];
    log_frame(peer, in[0], in + head + 4, (size_t)payload);
    return head + 4 + (size_t)payload;
}

/* ---- What a client says to a proxy ---- */

/* "CONNECT HOST:PORT HTTP/1.1", Host with the same, perhaps Proxy-Authorization, and nothing else. */
static size_t parse_connect(struct sim_peer *peer, const char *text)
{
    char target[600], want[1400];
    const char *end = strstr(text, "\r\n\r\n");
    if (end == NULL)
        return 0;
    int len = (int)strcspn(text + 8, " "), bytes = (int)(end + 4 - text);
    snprintf(target, sizeof target, "%.*s", len, text + 8);
    const char *field = "\r\nProxy-Authorization: ", *value = strstr(text, field);
    int value_len = value == NULL ? 0 : (int)strcspn(value + strlen(field), "\r");
    snprintf(want, sizeof want, "CONNECT %s HTTP/1.1\r\nHost: %s%.*s\r\n\r\n", target, target,
             value == NULL ? 0 : (int)strlen(field) + value_len, value == NULL ? "" : value);
    if (strncmp(text, want, (size_t)bytes) != 0 || strlen(want) != (size_t)bytes)
        sim_fail(peer->sim, "not a request for a tunnel: %s", text);
    log_line(peer, SIM_CONNECT, "connect %s%s%.*s", target, value == NULL ? "" : " ", value_len,
             value == NULL ? "" : value + strlen(field));
    return (size_t)bytes;
}

/* RFC 1928 3 */
static size_t parse_greeting(struct sim_peer *peer, const uint8_t *in, size_t len)
{
    char methods[64] = "";
    if (len < 2 || len < 2u + in[1])
        return 0;
    for (size_t i = 0; i < in[1] && i < 10; i++)
        snprintf(methods + 3 * i, sizeof methods - 3 * i, " %02x", in[2 + i]);
    log_line(peer, SIM_GREETING, "greeting%s", methods);
    return 2u + in[1];
}

/* RFC 1929 2 */
static size_t parse_credentials(struct sim_peer *peer, const uint8_t *in, size_t len)
{
    if (len < 2 || len < 3u + in[1] || len < 3u + in[1] + in[2 + in[1]])
        return 0;
    const uint8_t *password = in + 3 + in[1];
    log_line(peer, SIM_CREDENTIALS, "credentials %.*s %.*s", in[1], in + 2, password[-1], password);
    return 3u + in[1] + password[-1];
}

/* RFC 1928 4 */
static size_t parse_destination(struct sim_peer *peer, const uint8_t *in, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    if (len < 5)
        return 0;
    size_t bytes = in[3] == 1 ? 4 : in[3] == 4 ? 16 : 1u + in[4];
    if (len < 4 + bytes + 2)
        return 0;
    unsigned port = (unsigned)in[4 + bytes] << 8 | in[5 + bytes];
    if (in[1] != 1 || in[2] != 0 || (in[3] != 1 && in[3] != 3 && in[3] != 4))
        sim_fail(peer->sim, "not a SOCKS5 request: %02x %02x %02x", in[1], in[2], in[3]);
    if (in[3] == 3)
        log_line(peer, SIM_CONNECT, "connect name %.*s %u", in[4], in + 5, port);
    else
        log_line(peer, SIM_CONNECT, "connect %s %u", inet_ntop(in[3] == 1 ? AF_INET : AF_INET6, in + 4, text,
                                                               sizeof text), port);
    return 4 + bytes + 2;
}

/* Bytes of the message at @in, 0 when it is not whole, or none for a proxy. */
static size_t parse_proxy(struct sim_peer *peer, const uint8_t *in, size_t len)
{
    if (len == 0 || peer->seen[SIM_CONNECT] > 0)
        return 0;
    if (in[0] == 'C')
        return parse_connect(peer, (const char *)in);
    if (in[0] == 5 && peer->seen[SIM_GREETING] == 0)
        return parse_greeting(peer, in, len);
    if (in[0] == 5)
        return parse_destination(peer, in, len);
    return in[0] == 1 ? parse_credentials(peer, in, len) : 0;
}

static void parse_input(struct sim_peer *peer)
{
    if (peer->seen[SIM_REQUEST] == 0) {
        size_t bytes;
        while ((bytes = parse_proxy(peer, peer->in.data + peer->parsed, peer->in.bytes - peer->parsed)) > 0)
            peer->parsed += bytes;
        char *begin = (char *)peer->in.data + peer->parsed, *end = strstr(begin, "\r\n\r\n");
        if (end == NULL)
            return;
        peer->request_at = peer->parsed;
        peer->parsed = (size_t)(end + 4 - (char *)peer->in.data);
        read_request(peer, begin);
    }
    for (size_t bytes; (bytes = parse_frame(peer, peer->in.data + peer->parsed, peer->in.bytes - peer->parsed)) > 0;)
        peer->parsed += bytes;
}

/* ---- TLS ---- */

static void note_secured(struct sim_peer *peer)
{
    const struct tls_server_link *link = peer->link;
    if (peer->seen[SIM_HELLO] == 0 && link->protocols[0] != '\0')
        log_line(peer, SIM_HELLO, "hello %s %s", link->has_server_name ? link->server_name : "-", link->protocols);
    if (peer->seen[SIM_SECURED] == 0 && (link->state == TLS_SERVER_OPEN || link->state == TLS_SERVER_CLOSED))
        log_line(peer, SIM_SECURED, "secured");
}

/* What a server cannot bear, but for a client's alert, is in the log whether it is asked for or not. */
static void note_alerts(struct sim_peer *peer, enum tls_server_state before)
{
    const struct tls_server_link *link = peer->link;
    if (link->state == TLS_SERVER_CLOSED && before != TLS_SERVER_CLOSED)
        log_line(peer, SIM_NOTIFY, "close_notify");
    else if (link->alert_received > 0 && link->alert_received != peer->alert_noted)
        log_line(peer, SIM_ALERT, "alert %d", link->alert_received);
    else if (link->state == TLS_SERVER_FAILED && before != TLS_SERVER_FAILED)
        log_line(peer, SIM_END, "TLS failed: %s", link->failure);
    peer->alert_noted = link->alert_received;
}

/* The client's bytes, from the wire to where the script finds them. */
static void take_in(struct sim_peer *peer, const uint8_t *data, size_t len)
{
    bool is_new = peer->parsed == peer->in.bytes;
    if (peer->link == NULL && peer->server != NULL && is_new && len > 0 && data[0] == TLS_HANDSHAKE)
        peer->link = tls_server_accept(peer->server);
    if (peer->link == NULL) {
        sim_buffer_append(&peer->in, data, len);
        parse_input(peer);
        return;
    }
    enum tls_server_state before = peer->link->state;
    tls_server_feed(peer->link, data, len);
    note_secured(peer);
    sim_buffer_append(&peer->in, peer->link->received + peer->opened, peer->link->received_bytes - peer->opened);
    peer->opened = peer->link->received_bytes;
    parse_input(peer);
    note_alerts(peer, before);
    send_sealed(peer);
}

void sim_peer_take(struct sim_peer *peer, const uint8_t *data, size_t len)
{
    peer->wire_bytes += len;
    if (peer->window != WSR_NEVER)
        peer->window -= len;
    if (peer->gone) {
        if (peer->reset_ns == 0) {
            peer->reset_ns = sim_now(peer->sim) + 1 + sim_random(peer->sim, 100000);
            peer->reset_errno = ECONNRESET;
        }
        return;
    }
    take_in(peer, data, len);
    sim_peer_run(peer);
}

/* A part of a frame, or of a record. */
static bool has_torn(const struct sim_peer *peer)
{
    return peer->parsed < peer->in.bytes || (peer->link != NULL && peer->link->state != TLS_SERVER_FAILED &&
                                             SSL_has_pending(peer->link->ssl) == 1);
}

size_t sim_peer_window(const struct sim_peer *peer)
{
    return peer->window < SIZE_MAX ? (size_t)peer->window : SIZE_MAX;
}

void sim_peer_client_shut(struct sim_peer *peer)
{
    log_line(peer, SIM_FIN, "fin");
    sim_peer_run(peer);
}

void sim_peer_client_closed(struct sim_peer *peer)
{
    if (has_torn(peer) && !peer->gone && !sim_peer_is_reset(peer))
        log_line(peer, SIM_REQUEST, "torn frame");
    log_line(peer, SIM_END, "end");
    sim_peer_run(peer);
}

/* ---- Scripts ---- */

static int errno_of(const char *name)
{
    static const struct { const char *name; int value; } known[] = {
        { "ECONNREFUSED", ECONNREFUSED }, { "ECONNRESET", ECONNRESET }, { "ETIMEDOUT", ETIMEDOUT },
        { "ENETUNREACH", ENETUNREACH }, { "EHOSTUNREACH", EHOSTUNREACH }, { "EPIPE", EPIPE }, { "EIO", EIO },
        { "EAGAIN", EAGAIN },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strncmp(name, known[i].name, strlen(known[i].name)) == 0)
            return known[i].value;
    }
    abort();
}

static void answer_connect(struct sim_peer *peer, int result, const char *delay)
{
    peer->answered = true;
    peer->answer = result;
    peer->answer_ns = sim_now(peer->sim) + 1 + sim_random(peer->sim, 50000) +
                      (delay == NULL ? 0 : strtoull(delay, NULL, 10) * NS_PER_MS);
    peer->resume_ns = peer->answer_ns;
}

static bool await(struct sim_peer *peer, enum sim_seen kind)
{
    if (peer->seen[kind] <= peer->expected[kind]) {
        peer->waits = true;
        peer->awaited = kind;
        return false;
    }
    peer->expected[kind]++;
    return true;
}

static uint64_t ending_moment(struct sim_peer *peer)
{
    uint64_t due = sim_now(peer->sim) + sim_random(peer->sim, 100000);
    return due > peer->last_due_ns ? due : peer->last_due_ns + 1;
}

static bool is_step(const char *step, const char *name, const char **argument)
{
    size_t len = strlen(name);
    if (strncmp(step, name, len) != 0 || (step[len] != ' ' && step[len] != '\0'))
        return false;
    *argument = step[len] == ' ' ? step + len + 1 : "";
    return true;
}

static void notify(struct sim_peer *peer)
{
    if (peer->has_notified || peer->link->state == TLS_SERVER_FAILED)
        return;
    seal_plain(peer);
    tls_server_close(peer->link);
    peer->has_notified = true;
    send_sealed(peer);
}

static bool speaks(const struct sim_peer *peer, int version)
{
    return is_secured(peer) && peer->link->state != TLS_SERVER_FAILED && SSL_version(peer->link->ssl) == version;
}

/* Of OpenSSL's doing there are only close_notify and those that answer the client. */
static void tell_alert(struct sim_peer *peer, uint8_t description)
{
    const uint8_t alert[2] = { 2, description };
    uint8_t record[TLS_CRAFT_OVERHEAD + sizeof alert + 1];
    if (peer->link->state != TLS_SERVER_OPEN)
        return;
    size_t len = tls_craft_next(peer->link, 21, alert, sizeof alert, record);
    if (len == 0)
        sim_fail(peer->sim, "no alert can be made for the suite of this server");
    tls_server_inject(peer->link, record, len);
}

/* Steps about TLS, some of one version only. Returns 1 done, -1 not one of these. */
static int do_tls_step(struct sim_peer *peer, const char *step)
{
    const char *argument;
    if (is_step(step, "early", &argument)) {
        peer->is_early = true;
    } else if (is_step(step, "tls", &argument)) {
        peer->tells_tls = true;
    } else if (is_step(step, "notify", &argument)) {
        if (is_secured(peer))
            notify(peer);
    } else if (is_step(step, "wire", &argument)) {
        tell_hex(peer, argument, true);
    } else if (is_step(step, "records", &argument)) {
        peer->record_bytes = strtoul(argument, NULL, 10);
    } else if (is_step(step, "alert", &argument)) {
        tell_alert(peer, (uint8_t)strtoul(argument, NULL, 10));
    } else if (is_step(step, "update", &argument)) {
        if (speaks(peer, TLS1_3_VERSION))
            tls_server_update_keys(peer->link, *argument != '\0');
    } else if (is_step(step, "tickets", &argument)) {
        if (speaks(peer, TLS1_3_VERSION))
            tls_server_send_tickets(peer->link, (unsigned)strtoul(argument, NULL, 10));
    } else if (is_step(step, "renegotiate", &argument)) {
        if (speaks(peer, TLS1_2_VERSION))
            tls_server_renegotiate(peer->link);
    } else {
        return -1;
    }
    if (is_secured(peer))
        send_sealed(peer);
    return 1;
}

/* Steps about the connection. Returns 1 done, 0 waits, -1 not one of these. */
static int do_connection_step(struct sim_peer *peer, const char *step)
{
    const char *argument;
    if (is_step(step, "accept", &argument)) {
        answer_connect(peer, 0, argument);
    } else if (is_step(step, "refuse", &argument)) {
        answer_connect(peer, -errno_of(argument), strchr(argument, ' '));
    } else if (is_step(step, "silent", &argument)) {
        peer->waits = true;
        peer->awaited = SIM_SEEN_COUNT;
        return 0;
    } else if (is_step(step, "wait", &argument)) {
        peer->resume_ns = sim_now(peer->sim) + strtoull(argument, NULL, 10) * NS_PER_MS;
    } else if (is_step(step, "fin", &argument)) {
        if (peer->has_whims && is_secured(peer) && sim_random(peer->sim, 2) == 0)
            notify(peer);
        peer->fin_ns = ending_moment(peer);
    } else if (is_step(step, "gone", &argument)) {
        peer->fin_ns = ending_moment(peer);
        peer->gone = true;
    } else if (is_step(step, "rst", &argument)) {
        peer->reset_ns = ending_moment(peer);
        peer->reset_errno = *argument != '\0' ? errno_of(argument) : ECONNRESET;
    } else if (is_step(step, "stop", &argument)) {
        peer->window = 0;
    } else if (is_step(step, "read", &argument)) {
        peer->window = WSR_NEVER;
        peer->slow_bytes = 0;
    } else if (is_step(step, "window", &argument)) {
        peer->window = strtoull(argument, NULL, 10);
    } else if (is_step(step, "slow", &argument)) {
        peer->window = peer->slow_bytes = strtoull(argument, NULL, 10);
        peer->refill_ns = sim_now(peer->sim) + NS_PER_MS;
    } else if (is_step(step, "expect", &argument)) {
        for (int kind = 0; kind < SIM_SEEN_COUNT; kind++) {
            if (strcmp(argument, seen_names[kind]) == 0)
                return await(peer, (enum sim_seen)kind);
        }
        return -1;
    } else {
        return -1;
    }
    return 1;
}

/* Steps that send something. */
static int do_sending_step(struct sim_peer *peer, const char *step)
{
    static const struct { const char *name; uint8_t opcode; } frames[] = {
        { "text", 1 }, { "binary", 2 }, { "ping", 9 }, { "pong", 10 }
    };
    const char *argument;
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        if (is_step(step, frames[i].name, &argument)) {
            tell_frame(peer, frames[i].opcode, argument, strlen(argument));
            return 1;
        }
    }
    if (is_step(step, "upgrade", &argument)) {
        if (!await(peer, SIM_REQUEST))
            return 0;
        tell_upgrade(peer, argument);
    } else if (is_step(step, "http", &argument)) {
        tell_http(peer, argument);
    } else if (is_step(step, "close", &argument)) {
        tell_close(peer, argument);
    } else if (is_step(step, "big", &argument)) {
        tell_big(peer, 1, strtoul(argument, NULL, 10));
    } else if (is_step(step, "bulk", &argument)) {
        tell_big(peer, 2, strtoul(argument, NULL, 10));
    } else if (is_step(step, "texts", &argument)) {
        tell_numbers(peer, 1, (unsigned)strtoul(argument, NULL, 10));
    } else if (is_step(step, "pings", &argument)) {
        tell_numbers(peer, 9, (unsigned)strtoul(argument, NULL, 10));
    } else if (is_step(step, "fragments", &argument) || is_step(step, "open-end", &argument)) {
        tell_fragments(peer, argument, step[0] == 'f');
    } else if (is_step(step, "raw", &argument)) {
        tell_hex(peer, argument, false);
    } else if (is_step(step, "cut", &argument)) {
        peer->cut = strcmp(argument, "whole") == 0 ? SIM_WHOLE : strtoull(argument, NULL, 10);
    } else if (is_step(step, "echo", &argument)) {
        peer->echoes = true;
    } else if (is_step(step, "parts", &argument)) {
        peer->takes_parts = true;
    } else if (is_step(step, "deflates", &argument)) {
        peer->deflate = sim_deflate_create();
    } else if (is_step(step, "deflated", &argument)) {
        tell_deflated(peer, 1, argument, strlen(argument));
    } else if (is_step(step, "deflated-big", &argument)) {
        peer->deflates_next = true;
        tell_big(peer, 2, (size_t)strtoull(argument, NULL, 10));
        peer->deflates_next = false;
    } else if (is_step(step, "forget", &argument)) {
        sim_deflate_reset(peer->deflate);
    } else if (is_step(step, "cork", &argument)) {
        peer->corked = true;
    } else if (is_step(step, "uncork", &argument)) {
        peer->corked = false;
        uint64_t cut = peer->cut;
        peer->cut = cut != 0 ? cut : SIM_WHOLE;
        cut_pieces(peer);
        peer->cut = cut;
    } else {
        return -1;
    }
    return 1;
}

/* With TLS, what is behind accept is behind the handshake; a proxy's part is before it. */
static bool awaits_tls(const struct sim_peer *peer, const char *step)
{
    if (peer->server == NULL || peer->is_early || !peer->answered || strcmp(step, "early") == 0)
        return false;
    if (peer->link != NULL)
        return peer->link->state == TLS_SERVER_SHAKING;
    return peer->seen[SIM_GREETING] + peer->seen[SIM_CONNECT] == 0;
}

static int do_step(struct sim_peer *peer, const char *step)
{
    int done = do_connection_step(peer, step);
    if (done < 0)
        done = do_sending_step(peer, step);
    if (done < 0)
        done = do_tls_step(peer, step);
    if (done < 0 && *step != '\0')
        sim_fail(peer->sim, "unknown step '%s'", step);
    return done;
}

void sim_peer_run(struct sim_peer *peer)
{
    uint64_t now_ns = sim_now(peer->sim);
    if (peer->slow_bytes > 0 && now_ns >= peer->refill_ns) {
        peer->window = peer->slow_bytes;
        peer->refill_ns = now_ns + NS_PER_MS;
    }
    /* Asked after every operation: most of the time it is still waiting. */
    if (peer->waits && (peer->awaited == SIM_SEEN_COUNT || peer->seen[peer->awaited] <= peer->expected[peer->awaited]))
        return;
    peer->waits = false;
    while (*peer->next_step != '\0' && now_ns >= peer->resume_ns && !peer->waits) {
        char *step = peer->next_step;
        step += strspn(step, " \n");
        size_t len = strcspn(step, ";");
        char end = step[len];
        step[len] = '\0';
        int done = awaits_tls(peer, step) ? 0 : do_step(peer, step);
        step[len] = end;
        if (done == 0)
            return;
        peer->next_step = step + len + (end == ';');
    }
}

static uint64_t sooner(uint64_t best, uint64_t moment, uint64_t now_ns)
{
    return moment > now_ns && moment < best ? moment : best;
}

/* When the next piece arrives: they come in order. */
static uint64_t next_arrival(const struct sim_peer *peer, uint64_t now_ns)
{
    size_t from = peer->pieces_first, to = peer->pieces_count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (peer->pieces[middle].due_ns > now_ns)
            to = middle;
        else
            from = middle + 1;
    }
    return from < peer->pieces_count ? peer->pieces[from].due_ns : WSR_NEVER;
}

uint64_t sim_peer_next(const struct sim_peer *peer)
{
    uint64_t now_ns = sim_now(peer->sim);
    uint64_t next = WSR_NEVER;
    if (*peer->next_step != '\0')
        next = sooner(next, peer->resume_ns, now_ns);
    if (peer->answered)
        next = sooner(next, peer->answer_ns, now_ns);
    next = sooner(next, next_arrival(peer, now_ns), now_ns);
    next = sooner(next, peer->fin_ns, now_ns);
    next = sooner(next, peer->reset_ns, now_ns);
    if (peer->slow_bytes > 0 && peer->window == 0)
        next = sooner(next, peer->refill_ns, now_ns);
    return next;
}

size_t sim_peer_arrived(struct sim_peer *peer)
{
    uint64_t now_ns = sim_now(peer->sim);
    size_t end = peer->taken;
    while (peer->pieces_first < peer->pieces_count && peer->pieces[peer->pieces_first].end <= peer->taken)
        peer->pieces_first++;
    for (size_t i = peer->pieces_first; i < peer->pieces_count && peer->pieces[i].due_ns <= now_ns; i++) {
        end = peer->pieces[i].end;
        if (peer->cut != 0 || sim_random(peer->sim, 2) == 0)
            break;
    }
    return end - peer->taken;
}

bool sim_peer_is_reset(const struct sim_peer *peer)
{
    return peer->reset_ns != 0 && peer->reset_ns <= sim_now(peer->sim);
}

bool sim_peer_has_ended(const struct sim_peer *peer)
{
    return peer->fin_ns != 0 && peer->fin_ns <= sim_now(peer->sim);
}

struct sim_peer *sim_peer_create(struct sim *sim, const char *script, struct tls_server *server, bool has_whims)
{
    struct sim_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        abort();
    peer->sim = sim;
    peer->server = server;
    peer->has_whims = has_whims && server != NULL;
    peer->script = peer->next_step = strdup(script);
    peer->window = WSR_NEVER;
    sim_buffer_append(&peer->log, "", 0);
    sim_buffer_append(&peer->said, "", 0);
    sim_buffer_append(&peer->in, "", 0);
    sim_buffer_append(&peer->out, "", 0);
    return peer;
}

void sim_peer_free(struct sim_peer *peer)
{
    tls_server_drop(peer->link);
    free(peer->plain.data);
    free(peer->parts.data);
    sim_deflate_free(peer->deflate);
    free(peer->script);
    free(peer->out.data);
    free(peer->in.data);
    free(peer->log.data);
    free(peer->said.data);
    free(peer->options.data);
    free(peer->lines);
    free(peer->pieces);
    free(peer->masks);
    free(peer);
}
