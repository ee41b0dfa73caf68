/* The opening handshake, RFC 6455 4.1: what the client writes, and its checks of what the server answers in the order
 * of the WHATWG WebSockets Standard ("establish a WebSocket connection"). */
#include "handshake.h"

#include <openssl/evp.h>

#define NONCE_BYTES 16
#define SHA1_BYTES 20

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";    /* RFC 6455 1.3 */

static int refuse(struct wsr_fault *why, size_t at, const char *text)
{
    *why = (struct wsr_fault){ at, text };
    return WSR_ERR_SYNTAX;
}

/* ---- Key and Accept ---- */

void wsr_handshake_key(char key[WSR_HANDSHAKE_KEY_CHARS + 1], const uint8_t nonce[16])
{
    int chars = EVP_EncodeBlock((unsigned char *)key, nonce, NONCE_BYTES);
    assert(chars == WSR_HANDSHAKE_KEY_CHARS);
    (void)chars;
}

int wsr_handshake_accept(char accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1], const char *key)
{
    uint8_t text[WSR_HANDSHAKE_KEY_CHARS + sizeof guid - 1];
    uint8_t digest[SHA1_BYTES];
    memcpy(text, key, WSR_HANDSHAKE_KEY_CHARS);
    memcpy(text + WSR_HANDSHAKE_KEY_CHARS, guid, sizeof guid - 1);
    /* SHA-1 is no secret here: it only shows that the server has read the key (RFC 6455 10.8). */
    if (EVP_Digest(text, sizeof text, digest, NULL, EVP_sha1(), NULL) != 1)
        return WSR_ERR_MEMORY;
    int chars = EVP_EncodeBlock((unsigned char *)accept, digest, SHA1_BYTES);
    assert(chars == WSR_HANDSHAKE_ACCEPT_CHARS);
    (void)chars;
    return 0;
}

/* ---- What the caller gives ---- */

int wsr_handshake_check_protocols(const char *const *protocols, size_t count, struct wsr_fault *why)
{
    for (size_t i = 0; i < count; i++) {
        if (!protocols[i] || !wsr_http_is_token(wsr_bytes_of_string(protocols[i])))
            return refuse(why, i, "a subprotocol must be a token of RFC 9110: not empty, no space, no comma");
        for (size_t k = 0; k < i; k++) {
            if (strcmp(protocols[i], protocols[k]) == 0)
                return refuse(why, i, "a subprotocol is given twice: name each one once");
        }
    }
    return 0;
}

/* Headers that the handshake writes, or that would give the request a body. */
static bool is_reserved(struct wsr_bytes name)
{
    static const char *const reserved[] = { "host", "upgrade", "connection", "content-length", "transfer-encoding" };
    static const char prefix[] = "sec-websocket-";
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (wsr_http_name_is(name, reserved[i]))
            return true;
    }
    return name.len >= sizeof prefix - 1 && wsr_http_name_is(wsr_bytes_of(name.data, sizeof prefix - 1), prefix);
}

int wsr_handshake_check_header(const struct wsr_header *header, struct wsr_fault *why)
{
    if (!header->name || !header->value)
        return refuse(why, 0, "a header needs a name and a value, of which the value may be empty");
    struct wsr_bytes name = wsr_bytes_of_string(header->name);
    if (!wsr_http_is_token(name))
        return refuse(why, 0, "a header name must be a token of RFC 9110: not empty, no space, no colon");
    if (is_reserved(name))
        return refuse(why, 0, "this header belongs to the handshake and cannot be set");
    for (size_t i = 0; header->value[i] != '\0'; i++) {
        uint8_t c = (uint8_t)header->value[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return refuse(why, i, "a control character in a header value: only text, spaces and tabs may stand there");
    }
    return 0;
}

bool wsr_handshake_is_host(const struct wsr_header *header)
{
    return header->name != NULL && wsr_http_name_is(wsr_bytes_of_string(header->name), "host");
}

int wsr_handshake_check_host(const struct wsr_header *header, struct wsr_fault *why)
{
    if (!header->value || header->value[0] == '\0')
        return refuse(why, 0, "an own Host needs a value, as HOST or HOST:PORT");
    for (size_t i = 0; header->value[i] != '\0'; i++) {
        uint8_t c = (uint8_t)header->value[i];
        if (c <= ' ' || c == 0x7f || c == ',')
            return refuse(why, i, "an own Host must be one HOST or HOST:PORT: no space, comma or control character");
    }
    return 0;
}

/* ---- The request ---- */

/* Counts everything, writes what fits. */
struct request {
    char *out;
    size_t capacity;
    size_t used;
};

static void put_bytes(struct request *r, struct wsr_bytes bytes)
{
    if (r->used <= r->capacity && bytes.len <= r->capacity - r->used && bytes.len > 0)
        memcpy(r->out + r->used, bytes.data, bytes.len);
    r->used += bytes.len;
}

static void put(struct request *r, const char *text)
{
    put_bytes(r, wsr_bytes_of_string(text));
}

static void put_field(struct request *r, const char *name, struct wsr_bytes value)
{
    put(r, name);
    put(r, ": ");
    put_bytes(r, value);
    put(r, "\r\n");
}

/* Base64 on the fly: the credentials have no upper bound, and no copy of them is made. */
struct base64 {
    struct request *to;
    uint8_t group[3];
    int used;
};

static void flush_group(struct base64 *b)
{
    uint8_t chars[4 + 1];
    int count = EVP_EncodeBlock(chars, b->group, b->used);
    put_bytes(b->to, wsr_bytes_of(chars, (size_t)count));
    b->used = 0;
}

static void encode_byte(struct base64 *b, uint8_t byte)
{
    b->group[b->used++] = byte;
    if (b->used == 3)
        flush_group(b);
}

/* Percent-decode @text into base64, one byte or one %XX at a time. */
static void encode_decoded(struct base64 *b, struct wsr_bytes text)
{
    for (size_t i = 0; i < text.len;) {
        uint8_t decoded[3];
        size_t step = text.data[i] == '%' && text.len - i >= 3 ? 3 : 1;
        size_t bytes = wsr_url_percent_decode(decoded, wsr_bytes_of(text.data + i, step));
        encode_byte(b, decoded[0]);
        i += bytes == 1 ? step : 1;    /* three bytes came back: it was no %XX, and only "%" is done */
    }
}

/* The URL's, unless the caller has set its own. */
static struct wsr_bytes host_of(const struct wsr_handshake_request *request)
{
    for (size_t i = 0; i < request->headers_count; i++) {
        if (wsr_handshake_is_host(&request->headers[i]))
            return wsr_bytes_of_string(request->headers[i].value);
    }
    return request->url->authority;
}

/* RFC 7617 2 */
static void put_basic(struct request *r, struct wsr_bytes user, struct wsr_bytes password)
{
    struct base64 encoder = { .to = r };
    put(r, "Basic ");
    encode_decoded(&encoder, user);
    encode_byte(&encoder, ':');
    encode_decoded(&encoder, password);
    if (encoder.used > 0)
        flush_group(&encoder);
}

size_t wsr_handshake_write_basic(char *out, size_t capacity, struct wsr_bytes user, struct wsr_bytes password)
{
    struct request r = { out, capacity, 0 };
    put_basic(&r, user, password);
    return r.used;
}

/* Credentials of the URL are sent at once, unless the caller has set the header (URL-32). */
static void put_authorization(struct request *r, const struct wsr_handshake_request *request)
{
    const struct wsr_url *url = request->url;
    if (url->user.len == 0 && url->password.len == 0)
        return;
    for (size_t i = 0; i < request->headers_count; i++) {
        if (wsr_http_name_is(wsr_bytes_of_string(request->headers[i].name), "authorization"))
            return;
    }
    put(r, "Authorization: ");
    put_basic(r, url->user, url->password);
    put(r, "\r\n");
}

size_t wsr_handshake_write_request(char *out, size_t capacity, const struct wsr_handshake_request *request)
{
    struct request r = { out, capacity, 0 };
    put(&r, "GET ");
    put_bytes(&r, request->url->target);
    put(&r, " HTTP/1.1\r\n");
    put_field(&r, "Host", host_of(request));
    put(&r, "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    put_field(&r, "Sec-WebSocket-Key", wsr_bytes_of(request->key, WSR_HANDSHAKE_KEY_CHARS));
    put(&r, "Sec-WebSocket-Version: 13\r\n");
    for (size_t i = 0; i < request->protocols_count; i++) {
        put(&r, i == 0 ? "Sec-WebSocket-Protocol: " : ", ");
        put(&r, request->protocols[i]);
    }
    if (request->protocols_count > 0)
        put(&r, "\r\n");
    if (request->extensions.len > 0)
        put_field(&r, "Sec-WebSocket-Extensions", request->extensions);
    put_authorization(&r, request);
    for (size_t i = 0; i < request->headers_count; i++) {
        if (!wsr_handshake_is_host(&request->headers[i]))
            put_field(&r, request->headers[i].name, wsr_bytes_of_string(request->headers[i].value));
    }
    put(&r, "\r\n");
    return r.used;
}

/* ---- Lists ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static void skip(struct wsr_bytes *rest, size_t bytes)
{
    rest->data += bytes;
    rest->len -= bytes;
}

static void skip_blanks(struct wsr_bytes *rest)
{
    while (rest->len > 0 && is_blank(rest->data[0]))
        skip(rest, 1);
}

/* Take @c and the white space around it. */
static bool take(struct wsr_bytes *rest, char c)
{
    skip_blanks(rest);
    if (rest->len == 0 || rest->data[0] != (uint8_t)c)
        return false;
    skip(rest, 1);
    skip_blanks(rest);
    return true;
}

/* Is @token among the comma-separated elements of @list, whatever its case? */
static bool list_has(struct wsr_bytes list, const char *lower)
{
    while (list.len > 0) {
        const uint8_t *comma = memchr(list.data, ',', list.len);
        size_t len = comma ? (size_t)(comma - list.data) : list.len;
        struct wsr_bytes element = { list.data, len };
        skip(&list, comma ? len + 1 : len);
        skip_blanks(&element);
        while (element.len > 0 && is_blank(element.data[element.len - 1]))
            element.len--;
        if (wsr_http_name_is(element, lower))
            return true;
    }
    return false;
}

/* Is @protocol one of @offered, which are joined by ", "? Byte for byte. */
static bool was_offered(struct wsr_bytes offered, struct wsr_bytes protocol)
{
    while (offered.len > 0) {
        const uint8_t *comma = memchr(offered.data, ',', offered.len);
        size_t len = comma ? (size_t)(comma - offered.data) : offered.len;
        if (wsr_bytes_equal(wsr_bytes_of(offered.data, len), protocol))
            return true;
        skip(&offered, len);
        take(&offered, ',');
    }
    return false;
}

/* ---- The answer ---- */

/* A header that may stand only once. */
struct single {
    size_t count;
    struct wsr_bytes value;   /* of the first */
};

struct answer {
    struct single upgrade;
    struct single accept;
    struct single extensions;
    struct single protocol;
    bool connection_upgrade;
};

static void note(struct single *field, struct wsr_bytes value)
{
    if (field->count++ == 0)
        field->value = value;
}

static struct answer gather(struct wsr_bytes fields)
{
    struct answer a = { 0 };
    struct wsr_http_field field;
    while (wsr_http_next_field(&fields, &field)) {
        if (wsr_http_name_is(field.name, "upgrade"))
            note(&a.upgrade, field.value);
        else if (wsr_http_name_is(field.name, "connection"))
            a.connection_upgrade = a.connection_upgrade || list_has(field.value, "upgrade");
        else if (wsr_http_name_is(field.name, "sec-websocket-accept"))
            note(&a.accept, field.value);
        else if (wsr_http_name_is(field.name, "sec-websocket-extensions"))
            note(&a.extensions, field.value);
        else if (wsr_http_name_is(field.name, "sec-websocket-protocol"))
            note(&a.protocol, field.value);
    }
    return a;
}

/* RESP-08, PMD-24 to PMD-27. On NULL, *out says what was agreed on, if anything. */
static const char *extensions_fault(struct wsr_handshake_agreement *out, const struct single *field,
                                    const struct wsr_deflate_offers *offers)
{
    if (field->count == 0)
        return NULL;
    if (field->count > 1)
        return "Sec-WebSocket-Extensions stands twice in the answer: it may stand once";
    struct wsr_bytes rest = field->value;
    struct wsr_extension first = { 0 };
    size_t count = 0;
    bool known = offers->count > 0;
    do {
        struct wsr_extension element;
        if (!wsr_extension_take(&rest, &element))
            return "Sec-WebSocket-Extensions in the answer does not follow the grammar of RFC 6455 9.1";
        known = known && wsr_bytes_equal(element.name, wsr_bytes_of_string(WSR_DEFLATE_NAME));
        if (count++ == 0)
            first = element;
    } while (rest.len > 0);
    if (!known)
        return "the answer names an extension that was not offered: the server may only choose from the offer";
    if (count > 1)
        return "the answer names the same extension twice";
    out->has_deflate = true;
    return wsr_deflate_offer_judge(&out->deflate, first.parameters, offers);
}

/* RESP-04: the Standard wants an agreed protocol whenever any was offered. It is judged before all other headers. */
static const char *missing_protocol_fault(const struct single *field, struct wsr_bytes offered)
{
    if (offered.len == 0)
        return NULL;
    if (field->count == 0)
        return "subprotocols were offered and the answer has no Sec-WebSocket-Protocol: the server must choose one";
    if (field->count > 1 || !wsr_http_is_token(field->value))
        return "Sec-WebSocket-Protocol in the answer must be one line with one token";
    return NULL;
}

/* RESP-09 */
static const char *unknown_protocol_fault(const struct single *field, struct wsr_bytes offered)
{
    if (field->count == 0)
        return NULL;
    if (offered.len == 0)
        return "the answer names a subprotocol and none was offered";
    if (!was_offered(offered, field->value))
        return "the answer names a subprotocol that was not offered: it must be one of them, letter case included";
    return NULL;
}

/* RESP-05..07 */
static const char *upgrade_fault(const struct answer *a, const char *accept)
{
    if (a->upgrade.count != 1 || !wsr_http_name_is(a->upgrade.value, "websocket"))
        return "the answer must have exactly one Upgrade header, whose value is \"websocket\"";
    if (!a->connection_upgrade)
        return "the answer must have a Connection header that contains \"Upgrade\"";
    if (a->accept.count != 1)
        return "the answer must have exactly one Sec-WebSocket-Accept header";
    if (!wsr_bytes_equal(a->accept.value, wsr_bytes_of(accept, WSR_HANDSHAKE_ACCEPT_CHARS)))
        return "Sec-WebSocket-Accept in the answer does not match the key that was sent";
    return NULL;
}

int wsr_handshake_check_answer(struct wsr_handshake_agreement *out, const struct wsr_http_response *answer,
                               const struct wsr_handshake_offer *offer, struct wsr_fault *why)
{
    if (answer->status != 101)
        return refuse(why, 0, "the server did not upgrade: the status must be 101 Switching Protocols");
    struct answer a = gather(answer->fields);
    struct wsr_handshake_agreement agreed = { .protocol = a.protocol.value, .extensions = a.extensions.value };
    const char *fault = missing_protocol_fault(&a.protocol, offer->protocols);
    if (!fault)
        fault = upgrade_fault(&a, offer->accept);
    if (!fault)
        fault = extensions_fault(&agreed, &a.extensions, &offer->deflate);
    if (!fault)
        fault = unknown_protocol_fault(&a.protocol, offer->protocols);
    if (fault)
        return refuse(why, 0, fault);
    *out = agreed;
    return 0;
}
