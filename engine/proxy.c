/* The caller's text for a proxy, and the two protocols. A SOCKS5 reply is judged byte by byte, so that its cut cannot
 * matter; the head of an answer to CONNECT is gathered and given to the parser of http.c. */
#include "proxy.h"

#include <stdio.h>
#include <stdlib.h>

#include "handshake.h"
#include "host.h"
#include "http.h"
#include "url.h"

#define HEAD_FIRST_BYTES 512
#define PORT_MAX 65535u

/* RFC 1928 and RFC 1929 */
#define SOCKS_VERSION 5
#define AUTH_VERSION 1
#define METHOD_NONE 0
#define METHOD_PASSWORD 2
#define METHOD_NO_ACCEPTABLE 0xFF
#define COMMAND_CONNECT 1
#define ADDRESS_IPV4 1
#define ADDRESS_NAME 3
#define ADDRESS_IPV6 4
#define REPLY_HEAD_BYTES 4           /* version, reply, reserved, address type */
#define PORT_BYTES 2

static int refuse(struct wsr_fault *why, size_t at, const char *text)
{
    *why = (struct wsr_fault){ at, text };
    return WSR_ERR_SYNTAX;
}

/* ---- The caller's text ---- */

struct input {
    const uint8_t *text;             /* begin of it: faults are told as places in it */
    struct wsr_fault *why;
};

static int refuse_at(const struct input *in, const uint8_t *at, const char *text)
{
    return refuse(in->why, (size_t)(at - in->text), text);
}

static struct wsr_bytes between(const uint8_t *begin, const uint8_t *end)
{
    return wsr_bytes_of(begin, (size_t)(end - begin));
}

static bool is_control(uint8_t c)
{
    return c < ' ' || c == 0x7f;
}

/* Percent-decode the next byte of @rest. */
static uint8_t take_decoded(struct wsr_bytes *rest)
{
    uint8_t decoded[3];
    size_t step = rest->data[0] == '%' && rest->len >= 3 ? 3 : 1;
    if (wsr_url_percent_decode(decoded, wsr_bytes_of(rest->data, step)) != 1)
        step = 1;                    /* no %XX: the percent sign stands for itself */
    *rest = wsr_bytes_of(rest->data + step, rest->len - step);
    return decoded[0];
}

/* Returns the scheme's kind and moves *at behind its "://"; 0 for none that is known. */
static uint8_t read_scheme(const uint8_t **at)
{
    static const struct { const char *scheme; uint8_t kind; } known[] = {
        { "http", WSR_PROXY_HTTP }, { "socks5", WSR_PROXY_SOCKS5 }, { "socks5h", WSR_PROXY_SOCKS5H },
    };
    const char *colon = strstr((const char *)*at, "://");
    if (colon == NULL)
        return 0;
    struct wsr_bytes scheme = between(*at, (const uint8_t *)colon);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (wsr_http_name_is(scheme, known[i].scheme)) {
            *at = (const uint8_t *)colon + 3;
            return known[i].kind;
        }
    }
    return 0;
}

/* The user or the password. RFC 7617 2: no control characters, and no colon in a user. RFC 1929 2: 1 to 255 bytes. */
static int check_credential(const struct input *in, const struct wsr_proxy_url *url, struct wsr_bytes text,
                            bool is_user)
{
    const uint8_t *begin = text.data;
    size_t bytes = 0;
    for (; text.len > 0; bytes++) {
        const uint8_t *at = text.data;
        uint8_t c = take_decoded(&text);
        if (is_control(c))
            return refuse_at(in, at, "a control character in the user or the password: a proxy takes none");
        if (c == ':' && is_user && url->kind == WSR_PROXY_HTTP)
            return refuse_at(in, at, "a colon in the user: Basic credentials end the user at the first colon");
    }
    if (url->kind == WSR_PROXY_HTTP)
        return 0;
    if (bytes == 0)
        return refuse_at(in, begin, "SOCKS5 wants both a user and a password: write USER:PASSWORD@, or leave both out");
    if (bytes > WSR_PROXY_CREDENTIAL_MAX)
        return refuse_at(in, begin, "SOCKS5 carries at most 255 bytes of a user and of a password (RFC 1929)");
    return 0;
}

/* Read what stands from @begin up to the "@" at @end. */
static int read_credentials(const struct input *in, struct wsr_proxy_url *url, const uint8_t *begin,
                            const uint8_t *end)
{
    const uint8_t *colon = memchr(begin, ':', (size_t)(end - begin));
    url->has_credentials = true;
    url->user = between(begin, colon != NULL ? colon : end);
    url->password = colon != NULL ? between(colon + 1, end) : between(end, end);
    if (url->user.len == 0 && url->password.len == 0)
        return refuse_at(in, begin, "nothing stands before the \"@\": write USER:PASSWORD@, or leave the \"@\" out");
    int rc = check_credential(in, url, url->user, true);
    return rc < 0 ? rc : check_credential(in, url, url->password, false);
}

static int read_port(const struct input *in, struct wsr_proxy_url *url, const uint8_t *at, const uint8_t *end)
{
    static const char text[] = "the proxy's port must be a number from 1 to 65535; write / ? # @ and : inside a user "
                               "or a password as %2F %3F %23 %40 and %3A";
    unsigned port = 0;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return refuse_at(in, at, text);
        port = port * 10 + (unsigned)(*at - '0');
        if (port > PORT_MAX)
            return refuse_at(in, at, text);
    }
    if (port == 0)
        return refuse_at(in, end, text);
    url->port = (uint16_t)port;
    return 0;
}

static int read_host(const struct input *in, struct wsr_proxy_url *url, struct wsr_bytes raw)
{
    struct wsr_host host;
    struct wsr_fault fault = { 0 };
    char text[WSR_HOST_TEXT_MIN];
    bool is_bracketed = raw.len > 0 && raw.data[0] == '[';
    int rc;
    if (raw.len == 0)
        return refuse_at(in, raw.data, "the proxy has no host: write SCHEME://HOST:PORT");
    if (raw.len > WSR_PROXY_HOST_MAX)
        return refuse_at(in, raw.data, "the proxy's host is longer than the 255 bytes that a name may have");
    if (is_bracketed && raw.data[raw.len - 1] != ']')
        return refuse_at(in, raw.data, "the bracket of the proxy's IPv6 address is not closed: write [ADDRESS]:PORT");
    if (is_bracketed)
        rc = wsr_host_parse_ipv6(&host, wsr_bytes_of(raw.data + 1, raw.len - 2), text, &fault);
    else
        rc = wsr_host_parse_domain(&host, raw, text, &fault);
    if (rc < 0) {
        (void)refuse_at(in, raw.data + fault.at + (is_bracketed ? 1 : 0), fault.text);
        return rc;
    }
    memcpy(url->host, host.text.data, host.text.len);
    url->host[host.text.len] = '\0';
    return 0;
}

/* The last colon from @begin to @end that is not inside brackets; NULL for none. */
static const uint8_t *find_port_colon(const uint8_t *begin, const uint8_t *end)
{
    const uint8_t *colon = memrchr(begin, ':', (size_t)(end - begin));
    return colon != NULL && memchr(colon, ']', (size_t)(end - colon)) != NULL ? NULL : colon;
}

static int read_authority(const struct input *in, struct wsr_proxy_url *url, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *sign = memrchr(at, '@', (size_t)(end - at));
    if (sign != NULL) {
        int rc = read_credentials(in, url, at, sign);
        if (rc < 0)
            return rc;
        at = sign + 1;
    }
    const uint8_t *colon = find_port_colon(at, end);
    int rc = read_host(in, url, between(at, colon != NULL ? colon : end));
    if (rc < 0)
        return rc;
    if (colon == NULL)
        return refuse_at(in, end, "the proxy has no port: write SCHEME://HOST:PORT");
    return read_port(in, url, colon + 1, end);
}

int wsr_proxy_parse(struct wsr_proxy_url *out, const char *text, struct wsr_fault *why)
{
    const uint8_t *at = (const uint8_t *)text, *end = at + strlen(text);
    const struct input in = { at, why };
    struct wsr_proxy_url url = { 0 };
    for (const uint8_t *c = at; c < end; c++) {
        if (is_control(*c) || *c == ' ')
            return refuse_at(&in, c, "a space or a control character: none may stand in a proxy's address");
    }
    url.kind = read_scheme(&at);
    if (url.kind == 0)
        return refuse_at(&in, at, "the scheme must be http://, socks5:// or socks5h://");
    if (end > at && end[-1] == '/')
        end--;
    int rc = read_authority(&in, &url, at, end);
    if (rc == 0)
        *out = url;
    return rc;
}

/* ---- What is said ---- */

static bool is_socks(const struct wsr_proxy *p)
{
    return p->kind != WSR_PROXY_HTTP;
}

/* Write the request into @out and return its bytes; when those are more than @capacity, @out is void. The name is
 * written as the URL has it, and the port always: a request for a tunnel has no other target (RFC 9110 9.3.6). */
static size_t write_connect(char *out, size_t capacity, const struct wsr_proxy_url *url, struct wsr_bytes host,
                            uint16_t port)
{
    static const char field[] = "Proxy-Authorization: ";
    const char *name = (const char *)host.data;
    int len = (int)host.len;
    size_t used = (size_t)snprintf(out, capacity, "CONNECT %.*s:%u HTTP/1.1\r\nHost: %.*s:%u\r\n%s", len, name, port,
                                   len, name, port, url->has_credentials ? field : "");
    if (url->has_credentials) {
        bool fits = used < capacity;
        used += wsr_handshake_write_basic(fits ? out + used : NULL, fits ? capacity - used : 0, url->user,
                                          url->password);
    }
    static const char end[] = "\r\n\r\n";
    const char *rest = url->has_credentials ? end : end + 2;
    if (used + strlen(rest) <= capacity)
        memcpy(out + used, rest, strlen(rest));
    return used + strlen(rest);
}

/* The name, or the address that @host is, in a SOCKS5 request. Returns the bytes. */
static size_t write_request(uint8_t *out, const struct wsr_address *address, struct wsr_bytes name, uint16_t port)
{
    uint8_t *to = out;
    *to++ = SOCKS_VERSION;
    *to++ = COMMAND_CONNECT;
    *to++ = 0;
    if (address == NULL) {
        *to++ = ADDRESS_NAME;
        *to++ = (uint8_t)name.len;
        memcpy(to, name.data, name.len);
        to += name.len;
    } else if (address->any.sa_family == AF_INET) {
        *to++ = ADDRESS_IPV4;
        memcpy(to, &address->in4.sin_addr, sizeof address->in4.sin_addr);
        to += sizeof address->in4.sin_addr;
    } else {
        *to++ = ADDRESS_IPV6;
        memcpy(to, &address->in6.sin6_addr, sizeof address->in6.sin6_addr);
        to += sizeof address->in6.sin6_addr;
    }
    wsr_store_be16(to, port);
    return (size_t)(to + PORT_BYTES - out);
}

static uint8_t *write_credential(uint8_t *to, struct wsr_bytes encoded)
{
    size_t bytes = wsr_url_percent_decode(to + 1, encoded);
    assert(bytes > 0 && bytes <= WSR_PROXY_CREDENTIAL_MAX);    /* check_credential() has seen to it */
    *to = (uint8_t)bytes;
    return to + 1 + bytes;
}

#define GREETING_MAX 4
#define REQUEST_MAX (REPLY_HEAD_BYTES + 1 + WSR_PROXY_HOST_MAX + PORT_BYTES)

static size_t socks_text_bytes(const struct wsr_proxy_url *url)
{
    return GREETING_MAX + 3 + url->user.len + url->password.len + REQUEST_MAX;
}

static void write_socks(struct wsr_proxy *p, const struct wsr_proxy_url *url, struct wsr_bytes host)
{
    uint8_t *to = p->text, *begin = to;
    *to++ = SOCKS_VERSION;
    *to++ = url->has_credentials ? 2 : 1;
    *to++ = METHOD_NONE;
    if (url->has_credentials)
        *to++ = METHOD_PASSWORD;
    p->message[WSR_PROXY_GREETING] = between(begin, to);
    if (url->has_credentials) {
        begin = to;
        *to++ = AUTH_VERSION;
        to = write_credential(to, url->user);
        to = write_credential(to, url->password);
        p->message[WSR_PROXY_AUTHENTICATING] = between(begin, to);
    }
    struct wsr_address address;
    bool is_address = wsr_resolve_numeric(&address, (const char *)host.data, host.len, p->target_port);
    size_t bytes = 0;
    if (is_address || p->kind == WSR_PROXY_SOCKS5H)
        bytes = write_request(to, is_address ? &address : NULL, host, p->target_port);
    p->message[WSR_PROXY_REQUESTING] = wsr_bytes_of(to, bytes);
}

int wsr_proxy_create(struct wsr_proxy **out, const struct wsr_proxy_url *url, struct wsr_bytes host, uint16_t port,
                     struct wsr_fault *why)
{
    bool is_http = url->kind == WSR_PROXY_HTTP;
    if (url->kind == WSR_PROXY_SOCKS5H && host.len > WSR_PROXY_HOST_MAX)
        return refuse(why, 0, "the URL's host is longer than the 255 bytes that SOCKS5 can carry");
    size_t bytes = is_http ? write_connect(NULL, 0, url, host, port) : socks_text_bytes(url);
    struct wsr_proxy *p = calloc(1, sizeof *p + bytes);
    if (p == NULL)
        return WSR_ERR_MEMORY;
    p->kind = url->kind;
    p->state = is_http ? WSR_PROXY_CONNECTING : WSR_PROXY_GREETING;
    p->has_credentials = url->has_credentials;
    p->port = url->port;
    p->target_port = port;
    memcpy(p->host, url->host, sizeof p->host);
    if (is_http)
        p->message[WSR_PROXY_CONNECTING] = wsr_bytes_of(p->text, bytes);
    if (is_http)
        (void)write_connect((char *)p->text, bytes, url, host, port);
    else
        write_socks(p, url, host);
    *out = p;
    return 0;
}

void wsr_proxy_free(struct wsr_proxy *proxy)
{
    if (proxy == NULL)
        return;
    free(proxy->head);
    free(proxy);
}

bool wsr_proxy_wants_address(const struct wsr_proxy *p)
{
    return p->kind == WSR_PROXY_SOCKS5 && p->message[WSR_PROXY_REQUESTING].len == 0;
}

void wsr_proxy_set_address(struct wsr_proxy *p, const struct wsr_address *address)
{
    assert(wsr_proxy_wants_address(p));
    uint8_t *to = p->text + (p->message[WSR_PROXY_REQUESTING].data - p->text);
    p->message[WSR_PROXY_REQUESTING].len = write_request(to, address, wsr_bytes_of(NULL, 0), p->target_port);
}

struct wsr_bytes wsr_proxy_message(const struct wsr_proxy *p)
{
    assert(p->state < WSR_PROXY_MESSAGES_COUNT && p->message[p->state].len > 0);
    return p->message[p->state];
}

/* ---- What is heard ---- */

#define STATE_BIT(name) (1u << WSR_PROXY_##name)

static const uint8_t may_follow[] = {
    [WSR_PROXY_CONNECTING] = STATE_BIT(STANDING) | STATE_BIT(REFUSED),
    [WSR_PROXY_GREETING] = STATE_BIT(AUTHENTICATING) | STATE_BIT(REQUESTING) | STATE_BIT(REFUSED),
    [WSR_PROXY_AUTHENTICATING] = STATE_BIT(REQUESTING) | STATE_BIT(REFUSED),
    [WSR_PROXY_REQUESTING] = STATE_BIT(STANDING) | STATE_BIT(REFUSED),
    [WSR_PROXY_STANDING] = 0,
    [WSR_PROXY_REFUSED] = 0
};

static void enter(struct wsr_proxy *p, enum wsr_proxy_state to)
{
    assert(may_follow[p->state] & (1u << to));
    p->state = (uint8_t)to;
}

static void fail(struct wsr_proxy *p, struct wsr_proxy_event *event, const char *text)
{
    event->type = WSR_PROXY_FAILURE;
    event->text = text;
    enter(p, WSR_PROXY_REFUSED);
}

static void speak(struct wsr_proxy *p, struct wsr_proxy_event *event, enum wsr_proxy_state to)
{
    p->reply_at = 0;
    event->type = WSR_PROXY_SPEAK;
    enter(p, to);
}

static void stand(struct wsr_proxy *p, struct wsr_proxy_event *event)
{
    event->type = WSR_PROXY_STANDS;
    enter(p, WSR_PROXY_STANDING);
}

/* ---- HTTP CONNECT ---- */

static const char *refusal_text(const struct wsr_proxy *p, uint16_t status)
{
    if (status == 407)
        return p->has_credentials ? "the proxy does not accept the credentials of the proxy option (407)"
                                  : "the proxy wants credentials (407): give them as http://USER:PASSWORD@HOST:PORT";
    if (status == 403)
        return "the proxy does not allow a tunnel to this destination (403): its rules must permit host and port";
    if (status == 502 || status == 503 || status == 504)
        return "the proxy could not reach the destination; check the URL's host and port, and http_status";
    if (status >= 300 && status < 400)
        return "the proxy answered CONNECT with a redirect, which is not followed; http_status says which";
    return "the proxy refused the tunnel; http_status says why";
}

/* RFC 9110 15.2: interim answers announce another one. 101 would be an answer to a request that was not made. */
static bool is_interim(uint16_t status)
{
    return status >= 100 && status < 200 && status != 101;
}

static void judge_answer(struct wsr_proxy *p, uint16_t status, struct wsr_proxy_event *event)
{
    p->head_used = 0;
    p->head_scanned = 0;
    if (status >= 200 && status < 300) {
        /* Whatever its fields say of a length: such an answer has no body (RFC 9110 9.3.6). */
        stand(p, event);
    } else if (!is_interim(status)) {
        event->http_status = status;
        fail(p, event, refusal_text(p, status));
    } else if (p->interim_count == p->interim_max) {
        event->http_status = status;
        fail(p, event, "the proxy sent more interim (1xx) answers than are allowed");
    } else {
        p->interim_count++;
    }
}

static bool gather(struct wsr_proxy *p, struct wsr_bytes piece)
{
    size_t needed = p->head_used + piece.len;
    if (needed > p->head_capacity) {
        size_t wanted = 2 * p->head_capacity > HEAD_FIRST_BYTES ? 2 * p->head_capacity : HEAD_FIRST_BYTES;
        if (wanted < needed)
            wanted = needed;
        uint8_t *grown = realloc(p->head, wanted);
        if (grown == NULL)
            return false;
        p->head = grown;
        p->head_capacity = wanted;
    }
    memcpy(p->head + p->head_used, piece.data, piece.len);
    p->head_used = needed;
    return true;
}

/* Take at most one head. Never more than head_max_bytes are looked at, so that the cut does not decide which rule
 * breaks. */
static size_t take_answer(struct wsr_proxy *p, const uint8_t *in, size_t len, struct wsr_proxy_event *event)
{
    struct wsr_http_response answer;
    struct wsr_fault why;
    size_t had = p->head_used, room = p->head_max_bytes - had;
    if (!gather(p, wsr_bytes_of(in, len < room ? len : room))) {
        fail(p, event, "no memory for the proxy's answer");
        return len;
    }
    ptrdiff_t head_bytes = wsr_http_parse_either(&answer, p->head, p->head_used, &p->head_scanned, &why);
    if (head_bytes > 0)
        judge_answer(p, answer.status, event);
    else if (head_bytes < 0 && p->head[0] == SOCKS_VERSION)
        fail(p, event, "the proxy's answer is not HTTP and looks like SOCKS5: use socks5:// for a SOCKS5 proxy");
    else if (head_bytes < 0)
        fail(p, event, why.text);
    else if (p->head_used == p->head_max_bytes)
        fail(p, event, "the proxy's answer has a longer head than head_max_bytes allows");
    if (event->type == WSR_PROXY_FAILURE || head_bytes == 0)
        return len;
    return (size_t)head_bytes - had;
}

/* ---- SOCKS5 ---- */

/* RFC 1928 3 */
static void judge_choice(struct wsr_proxy *p, uint8_t method, struct wsr_proxy_event *event)
{
    if (method == METHOD_NONE)
        speak(p, event, WSR_PROXY_REQUESTING);
    else if (method == METHOD_PASSWORD && p->has_credentials)
        speak(p, event, WSR_PROXY_AUTHENTICATING);
    else if (method != METHOD_NO_ACCEPTABLE)
        fail(p, event, "the proxy chose a way to authenticate that was not offered");
    else if (p->has_credentials)
        fail(p, event, "the proxy accepts neither user and password nor a client without them; no other way is known");
    else
        fail(p, event, "the proxy wants credentials: give them as socks5://USER:PASSWORD@HOST:PORT");
}

/* RFC 1928 6 */
static const char *reply_text(uint8_t reply)
{
    static const char *const texts[] = {
        [1] = "the proxy failed (SOCKS5 reply 1, general failure); its log says why",
        [2] = "the proxy's rules do not allow this destination (SOCKS5 reply 2)",
        [3] = "the proxy has no route to the destination's network (SOCKS5 reply 3)",
        [4] = "the proxy could not reach the destination's host, or found no address for its name (SOCKS5 reply 4)",
        [5] = "the destination refused the proxy's connection (SOCKS5 reply 5): nothing listens at that host and port",
        [6] = "the proxy's connection to the destination took too long (SOCKS5 reply 6, TTL expired)",
        [7] = "the proxy does not know the command CONNECT (SOCKS5 reply 7)",
        [8] = "the proxy does not take this type of address (SOCKS5 reply 8): use an IPv4 address, or socks5h:// for a "
              "name",
    };
    return reply < sizeof texts / sizeof *texts ? texts[reply]
                                                : "the proxy refused with a SOCKS5 reply that RFC 1928 does not know";
}

static const char *version_text(uint8_t byte)
{
    if (byte == 'H')
        return "the proxy's answer is not SOCKS5 and looks like HTTP: use http:// for an HTTP proxy";
    return "the proxy's answer is not SOCKS5: each reply must begin with version 5";
}

/* A byte of the head of the reply, at @at. */
static void judge_reply(struct wsr_proxy *p, size_t at, uint8_t byte, struct wsr_proxy_event *event)
{
    if (at == 1 && byte != 0)
        fail(p, event, reply_text(byte));
    if (at == 2 && byte != 0)
        fail(p, event, "the proxy's SOCKS5 reply is not legal: its reserved byte must be 0");
    if (at != 3)
        return;
    if (byte == ADDRESS_IPV4)
        p->reply_bytes = REPLY_HEAD_BYTES + 4 + PORT_BYTES;
    else if (byte == ADDRESS_IPV6)
        p->reply_bytes = REPLY_HEAD_BYTES + 16 + PORT_BYTES;
    else if (byte == ADDRESS_NAME)
        p->reply_bytes = REPLY_HEAD_BYTES + 1;    /* its length says how much more */
    else
        fail(p, event, "the proxy's SOCKS5 reply is not legal: its address type must be 1, 3 or 4");
}

/* A byte of the reply to our request. Where the proxy connects from is of no use here and is read over. */
static void take_reply_byte(struct wsr_proxy *p, uint8_t byte, struct wsr_proxy_event *event)
{
    size_t at = p->reply_at++;
    if (at < REPLY_HEAD_BYTES) {
        judge_reply(p, at, byte, event);
        return;
    }
    if (at == REPLY_HEAD_BYTES && p->reply_bytes == REPLY_HEAD_BYTES + 1)
        p->reply_bytes = (uint16_t)(p->reply_bytes + byte + PORT_BYTES);
    if (p->reply_at == p->reply_bytes)
        stand(p, event);
}

static void take_byte(struct wsr_proxy *p, uint8_t byte, struct wsr_proxy_event *event)
{
    bool is_version = p->reply_at == 0;
    if (p->state == WSR_PROXY_AUTHENTICATING) {
        p->reply_at++;
        if (is_version && byte != AUTH_VERSION)
            fail(p, event, "the proxy's answer to user and password is not legal: it must begin with version 1");
        else if (!is_version && byte != 0)
            fail(p, event, "the proxy does not accept the user and password of the proxy option");
        else if (!is_version)
            speak(p, event, WSR_PROXY_REQUESTING);
        return;
    }
    if (is_version && byte != SOCKS_VERSION) {
        fail(p, event, version_text(byte));
    } else if (p->state == WSR_PROXY_REQUESTING) {
        take_reply_byte(p, byte, event);
    } else {
        p->reply_at++;
        if (!is_version)
            judge_choice(p, byte, event);
    }
}

size_t wsr_proxy_feed(struct wsr_proxy *p, const uint8_t *in, size_t len, struct wsr_proxy_event *event)
{
    assert(p->state != WSR_PROXY_STANDING);
    *event = (struct wsr_proxy_event){ .type = WSR_PROXY_NOTHING };
    if (p->state == WSR_PROXY_REFUSED)
        return len;
    if (!is_socks(p))
        return take_answer(p, in, len, event);
    size_t taken = 0;
    while (taken < len && event->type == WSR_PROXY_NOTHING)
        take_byte(p, in[taken++], event);
    return event->type == WSR_PROXY_FAILURE ? len : taken;
}
