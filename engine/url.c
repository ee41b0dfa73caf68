/* The basic URL parser of the WHATWG URL Standard, for the four schemes that a WebSocket can have. All of them are
 * special, and none is "file", so that the Standard's state machine becomes a walk from left to right: scheme,
 * slashes, authority, path, query. The record is serialised while it is read. */
#include "url.h"

#include "host.h"

#define PORT_MAX 65535

static const char text_small[] = "no memory for the text of this URL";
static const char text_utf8[] = "not valid UTF-8: percent-encode the byte or give the text as UTF-8";
static const char text_scheme[] = "the scheme must be ws, wss, http or https";
static const char text_relative[] =
    "not an absolute URL and there is no base: begin with \"ws://\" or \"wss://\", or set a base URL";
static const char text_fragment[] = "a WebSocket URL has no fragment: remove \"#\" and what follows, or write %23";
static const char text_no_host[] = "there is no host: put a name or an address behind \"//\"";
static const char text_bracket[] = "an IPv6 address needs both brackets and nothing but \":port\" behind them";
static const char text_port[] = "the port must be a decimal number from 0 to 65535";

/* What is percent-encoded beside the C0 controls and all above 0x7E: the percent-encode sets of the URL Standard. */
static const char path_set[] = " \"#<>?^`{}";
static const char query_set[] = " \"#<>'";
static const char userinfo_set[] = " \"#<>?^`{}/:;=@[\\]|";

struct parse {
    const char *original;        /* as given, for the place of a fault */
    size_t original_bytes;
    size_t stripped_bytes;       /* white space cut off its front */
    uint8_t *clean;              /* the input without what the Standard removes; the end of the caller's text */
    const uint8_t *at;
    const uint8_t *end;
    uint8_t *out;                /* next byte of text to write; never reaches clean */
    struct wsr_fault *why;
};

static bool is_removed(char c)
{
    return c == '\t' || c == '\n' || c == '\r';
}

static bool is_slash(uint8_t c)
{
    return c == '/' || c == '\\';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static int hex_value(uint8_t c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Refuse the input because of the clean byte at @where. */
static int refuse(const struct parse *p, const uint8_t *where, const char *text)
{
    size_t at = p->stripped_bytes;
    for (size_t left = (size_t)(where - p->clean); at < p->original_bytes; at++) {
        if (is_removed(p->original[at]))
            continue;
        if (left-- == 0)
            break;
    }
    *p->why = (struct wsr_fault){ at, text };
    return WSR_ERR_SYNTAX;
}

/* ---- Input ---- */

/* Bytes of the UTF-8 sequence at the start of @p (RFC 3629 4), 0 when it is none. */
static size_t utf8_bytes(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0];
    if (lead < 0x80)
        return 1;
    size_t bytes = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (lead < 0xc2 || lead > 0xf4 || left < bytes)
        return 0;
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;     /* overlong forms */
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;    /* surrogates, above U+10FFFF */
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < bytes; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return bytes;
}

static int check_utf8(const char *in, size_t len, struct wsr_fault *why)
{
    for (size_t at = 0; at < len;) {
        size_t bytes = utf8_bytes((const uint8_t *)in + at, len - at);
        if (bytes == 0) {
            *why = (struct wsr_fault){ at, text_utf8 };
            return WSR_ERR_SYNTAX;
        }
        at += bytes;
    }
    return 0;
}

static bool is_c0_or_space(char c)
{
    return (uint8_t)c <= ' ';
}

/* Copy the input to the end of the text, without outer C0 controls and spaces, and without TAB, LF and CR (URL-09). */
static void clean_input(struct parse *p, const char *in, size_t len, char *text, size_t text_capacity)
{
    size_t begin = 0;
    size_t end = len;
    while (begin < end && is_c0_or_space(in[begin]))
        begin++;
    while (end > begin && is_c0_or_space(in[end - 1]))
        end--;
    p->original = in;
    p->original_bytes = len;
    p->stripped_bytes = begin;
    p->clean = (uint8_t *)text + text_capacity - (end - begin);
    p->at = p->clean;
    uint8_t *to = p->clean;
    for (size_t i = begin; i < end; i++) {
        if (!is_removed(in[i]))
            *to++ = (uint8_t)in[i];
    }
    p->end = to;
    p->out = (uint8_t *)text;
}

/* ---- Output ---- */

static void put(struct parse *p, uint8_t byte)
{
    assert(p->out < p->clean);
    *p->out++ = byte;
}

static void put_bytes(struct parse *p, struct wsr_bytes bytes)
{
    assert(bytes.len <= (size_t)(p->clean - p->out));
    if (bytes.len > 0)
        memcpy(p->out, bytes.data, bytes.len);
    p->out += bytes.len;
}

static void put_string(struct parse *p, const char *text)
{
    put_bytes(p, wsr_bytes_of_string(text));
}

static void put_encoded(struct parse *p, struct wsr_bytes in, const char *set)
{
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = in.data[i];
        if (c > 0x1f && c <= 0x7e && !strchr(set, c)) {
            put(p, c);
            continue;
        }
        put(p, '%');
        put(p, (uint8_t)"0123456789ABCDEF"[c >> 4]);
        put(p, (uint8_t)"0123456789ABCDEF"[c & 0xf]);
    }
}

/* What has been written since @begin. */
static struct wsr_bytes written(const struct parse *p, const uint8_t *begin)
{
    return wsr_bytes_of(begin, (size_t)(p->out - begin));
}

static struct wsr_bytes between(const uint8_t *begin, const uint8_t *end)
{
    return wsr_bytes_of(begin, (size_t)(end - begin));
}

/* ---- Scheme ---- */

static bool scheme_is(struct wsr_bytes scheme, const char *lower)
{
    if (scheme.len != strlen(lower))
        return false;
    for (size_t i = 0; i < scheme.len; i++) {
        if ((scheme.data[i] | 0x20) != lower[i])
            return false;
    }
    return true;
}

/* Length of the scheme at the start of the input, 0 when the input is relative. */
static size_t scheme_bytes(const struct parse *p)
{
    const uint8_t *s = p->at;
    if (s == p->end || !is_alpha(*s))
        return 0;
    while (s < p->end && (is_alpha(*s) || is_digit(*s) || *s == '+' || *s == '-' || *s == '.'))
        s++;
    return s < p->end && *s == ':' ? (size_t)(s - p->at) : 0;
}

/* Take the scheme, or that of the base, and say whether what follows may be relative to the base. URL-01..04, 07 */
static int read_scheme(struct parse *p, struct wsr_url *url, const struct wsr_url *base, bool *relative)
{
    struct wsr_bytes scheme = { p->at, scheme_bytes(p) };
    if (scheme.len == 0) {
        if (!base)
            return refuse(p, p->at, text_relative);
        url->secure = base->secure;
        url->was_http = base->was_http;
        *relative = true;
        return 0;
    }
    url->was_http = scheme_is(scheme, "http") || scheme_is(scheme, "https");
    url->secure = scheme_is(scheme, "wss") || scheme_is(scheme, "https");
    if (!url->was_http && !url->secure && !scheme_is(scheme, "ws"))
        return refuse(p, p->at, text_scheme);
    p->at += scheme.len + 1;
    *relative = base && base->secure == url->secure && base->was_http == url->was_http;
    return 0;
}

static uint16_t default_port(const struct wsr_url *url)
{
    return url->secure ? 443 : 80;
}

/* ---- Authority ---- */

/* Scheme and userinfo. @user and @password may be encoded already: "%" is in no set, so they stay as they are. */
static void put_front(struct parse *p, struct wsr_url *url, struct wsr_bytes user, struct wsr_bytes password)
{
    put_string(p, url->secure ? "wss://" : "ws://");
    if (user.len == 0 && password.len == 0)
        return;
    const uint8_t *begin = p->out;
    put_encoded(p, user, userinfo_set);
    url->user = written(p, begin);
    if (password.len > 0) {
        put(p, ':');
        begin = p->out;
        put_encoded(p, password, userinfo_set);
        url->password = written(p, begin);
    }
    put(p, '@');
}

static int read_userinfo(struct parse *p, struct wsr_url *url, const uint8_t *authority_end)
{
    const uint8_t *at_sign = authority_end > p->at ? memrchr(p->at, '@', (size_t)(authority_end - p->at)) : NULL;
    if (!at_sign) {
        put_front(p, url, (struct wsr_bytes){ 0 }, (struct wsr_bytes){ 0 });
        return 0;
    }
    if (at_sign + 1 == authority_end)
        return refuse(p, authority_end, text_no_host);
    const uint8_t *colon = memchr(p->at, ':', (size_t)(at_sign - p->at));
    put_front(p, url, between(p->at, colon ? colon : at_sign), between(colon ? colon + 1 : at_sign, at_sign));
    p->at = at_sign + 1;
    return 0;
}

/* The colon before the port: the first that is not inside brackets. Returns @end when there is none. */
static const uint8_t *find_port_colon(const uint8_t *at, const uint8_t *end)
{
    bool inside = false;
    for (; at < end && (inside || *at != ':'); at++) {
        if (*at == '[')
            inside = true;
        else if (*at == ']')
            inside = false;
    }
    return at;
}

/* Parse the host up to @host_end. It is percent-decoded where it lies, in our own copy of the input. */
static int read_host(struct parse *p, struct wsr_url *url, const uint8_t *host_end)
{
    struct wsr_bytes raw = between(p->at, host_end);
    struct wsr_host host;
    struct wsr_fault fault;
    int rc;
    if (raw.len == 0)
        return refuse(p, p->at, text_no_host);
    if (raw.data[0] == '[') {
        if (raw.data[raw.len - 1] != ']')
            return refuse(p, p->at, text_bracket);
        rc = wsr_host_parse_ipv6(&host, between(p->at + 1, host_end - 1), (char *)p->out, &fault);
        fault.at += 1;
    } else {
        uint8_t *decoded = p->clean + (p->at - p->clean);
        size_t decoded_bytes = wsr_url_percent_decode(decoded, raw);
        assert((size_t)(p->clean - p->out) >= wsr_host_text_bytes(decoded_bytes));
        rc = wsr_host_parse_domain(&host, wsr_bytes_of(decoded, decoded_bytes), (char *)p->out, &fault);
        if (decoded_bytes < raw.len)
            fault.at = 0;    /* the places in the decoded host are not those of the input */
    }
    if (rc < 0) {
        (void)refuse(p, p->at + fault.at, fault.text);
        return rc;
    }
    url->host = host.text;
    url->host_is_ip = host.is_ip;
    p->out += host.text.len;
    p->at = host_end;
    return 0;
}

/* Read the digits up to @end, which follow the colon at p->at. URL-17 */
static int read_port(struct parse *p, struct wsr_url *url, const uint8_t *end)
{
    url->port = default_port(url);
    if (p->at == end || p->at + 1 == end) {
        p->at = end;
        return 0;
    }
    unsigned port = 0;
    for (p->at++; p->at < end; p->at++) {
        if (!is_digit(*p->at))
            return refuse(p, p->at, text_port);
        port = port * 10 + *p->at - '0';
        if (port > PORT_MAX)
            return refuse(p, p->at, text_port);
    }
    url->port = (uint16_t)port;
    return 0;
}

static void put_port(struct parse *p, const struct wsr_url *url)
{
    if (url->port == default_port(url))
        return;
    put(p, ':');
    for (unsigned unit = 10000; unit > 0; unit /= 10) {
        if (url->port >= unit || unit == 1)
            put(p, (uint8_t)('0' + url->port / unit % 10));
    }
}

static int read_authority(struct parse *p, struct wsr_url *url)
{
    const uint8_t *end = p->at;
    while (end < p->end && !is_slash(*end) && *end != '?')
        end++;
    int rc = read_userinfo(p, url, end);
    if (rc < 0)
        return rc;
    const uint8_t *begin = p->out;
    rc = read_host(p, url, find_port_colon(p->at, end));
    if (rc < 0)
        return rc;
    rc = read_port(p, url, end);
    if (rc < 0)
        return rc;
    put_port(p, url);
    url->authority = written(p, begin);
    return 0;
}

static void copy_authority(struct parse *p, struct wsr_url *url, const struct wsr_url *base)
{
    put_front(p, url, base->user, base->password);
    const uint8_t *begin = p->out;
    put_bytes(p, base->authority);
    url->authority = written(p, begin);
    url->host = wsr_bytes_of(begin, base->host.len);
    url->host_is_ip = base->host_is_ip;
    url->port = base->port;
}

/* ---- Path and query ---- */

enum dots { DOTS_NONE, DOTS_SINGLE, DOTS_DOUBLE };

/* Is the segment "." or "..", each dot perhaps written %2e? */
static enum dots dots_of(struct wsr_bytes segment)
{
    size_t dots = 0;
    for (size_t i = 0; i < segment.len; dots++) {
        const uint8_t *p = segment.data + i;
        if (*p == '.')
            i += 1;
        else if (segment.len - i >= 3 && p[0] == '%' && p[1] == '2' && (p[2] | 0x20) == 'e')
            i += 3;
        else
            return DOTS_NONE;
        if (dots == 2)
            return DOTS_NONE;
    }
    return (enum dots)dots;
}

/* Drop the last segment of the path that begins at @path. */
static void shorten(struct parse *p, const uint8_t *path)
{
    while (p->out > path && *--p->out != '/')
        continue;
}

/* Append the segments up to @end to the path that begins at @path. URL-08, URL-18 */
static void read_path(struct parse *p, const uint8_t *path, const uint8_t *end)
{
    for (bool more = true; more;) {
        const uint8_t *stop = p->at;
        while (stop < end && !is_slash(*stop))
            stop++;
        more = stop < end;
        struct wsr_bytes segment = between(p->at, stop);
        enum dots dots = dots_of(segment);
        if (dots == DOTS_DOUBLE)
            shorten(p, path);
        if (dots == DOTS_NONE || !more)
            put(p, '/');
        if (dots == DOTS_NONE)
            put_encoded(p, segment, path_set);
        p->at = more ? stop + 1 : end;
    }
}

/* The path of the base and the query behind it, from its href: no "/" stands between "://" and the path. */
static void split_base(const struct wsr_url *base, struct wsr_bytes *path, struct wsr_bytes *query)
{
    const uint8_t *end = base->href.data + base->href.len;
    const uint8_t *at = base->href.data + strlen(base->secure ? "wss://" : "ws://");
    while (at < end && *at != '/')
        at++;
    const uint8_t *mark = at;
    while (mark < end && *mark != '?')
        mark++;
    *path = between(at, mark);
    *query = between(mark, end);
}

/* Path, without its first slash, and query. @base is NULL unless they are relative to its path. URL-04, 18..20 */
static void read_tail(struct parse *p, struct wsr_url *url, const struct wsr_url *base)
{
    const uint8_t *path = p->out;
    const uint8_t *mark = p->at < p->end ? memchr(p->at, '?', (size_t)(p->end - p->at)) : NULL;
    const uint8_t *path_end = mark ? mark : p->end;
    struct wsr_bytes query = { 0 };
    bool keeps_path = base && p->at == path_end;
    if (base) {
        struct wsr_bytes base_path;
        split_base(base, &base_path, &query);
        put_bytes(p, base_path);
    }
    if (!keeps_path) {
        shorten(p, path);
        read_path(p, path, path_end);
    }
    if (mark) {
        put(p, '?');
        put_encoded(p, between(mark + 1, p->end), query_set);
    } else if (keeps_path) {
        put_bytes(p, query);
    }
    url->target = written(p, path);
}

/* ---- The record ---- */

static int read_record(struct parse *p, struct wsr_url *url, const struct wsr_url *base)
{
    bool relative = false;
    int rc = read_scheme(p, url, base, &relative);
    if (rc < 0)
        return rc;
    /* Wherever "#" stands behind the scheme, the Standard either begins the fragment there or fails. URL-05 */
    const uint8_t *hash = p->at < p->end ? memchr(p->at, '#', (size_t)(p->end - p->at)) : NULL;
    if (hash)
        return refuse(p, hash, text_fragment);
    const uint8_t *begin = p->at;
    while (p->at < p->end && is_slash(*p->at))
        p->at++;
    if (relative && p->at - begin < 2) {
        copy_authority(p, url, base);
        read_tail(p, url, p->at == begin ? base : NULL);
        return 0;
    }
    rc = read_authority(p, url);
    if (rc < 0)
        return rc;
    if (p->at < p->end && is_slash(*p->at))
        p->at++;
    read_tail(p, url, NULL);
    return 0;
}

/* What follows href in the text: the target where it is not the end of href, and the origin. */
static void put_derived(struct parse *p, struct wsr_url *url, uint8_t *text)
{
    url->href = written(p, text);
    put(p, '\0');
    if (url->target.data[url->target.len - 1] == '?') {
        struct wsr_bytes path = { url->target.data, url->target.len - 1 };
        const uint8_t *copy = p->out;
        if (!memchr(path.data, '?', path.len)) {
            put_bytes(p, path);
            url->target = written(p, copy);
            put(p, '\0');
        }
    }
    const uint8_t *origin = p->out;
    put_string(p, url->secure ? "wss://" : "ws://");
    put_bytes(p, url->authority);
    url->origin = written(p, origin);
    put(p, '\0');
}

/*
 * One copy of the input; href, at most three bytes for each of the input, or the base's, or a mapped host; the path
 * again for the target; the host again for the origin; and what the serialiser adds: schemes, marks, ports and NULs,
 * 64 at most.
 */
size_t wsr_url_text_bytes(size_t len, size_t base_len)
{
    if (len > SIZE_MAX / 16 || base_len > SIZE_MAX / 16)
        return SIZE_MAX;
    return len + 3 * len + base_len + WSR_HOST_TEXT_MIN + 3 * len + base_len + len + base_len + WSR_HOST_TEXT_MIN + 64;
}

int wsr_url_parse(struct wsr_url *out, const char *in, size_t len, const struct wsr_url *base, char *text,
                  size_t text_capacity, struct wsr_fault *why)
{
    size_t needed = wsr_url_text_bytes(len, base ? base->href.len : 0);
    if (needed == SIZE_MAX || text_capacity < needed) {
        *why = (struct wsr_fault){ 0, text_small };
        return WSR_ERR_MEMORY;
    }
    int rc = check_utf8(in, len, why);
    if (rc < 0)
        return rc;
    struct parse p = { .why = why };
    struct wsr_url url = { 0 };
    clean_input(&p, in, len, text, text_capacity);
    rc = read_record(&p, &url, base);
    if (rc < 0)
        return rc;
    put_derived(&p, &url, (uint8_t *)text);
    *out = url;
    return 0;
}

size_t wsr_url_percent_decode(uint8_t *out, struct wsr_bytes in)
{
    uint8_t *to = out;
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = in.data[i];
        if (c == '%' && in.len - i > 2) {
            int high = hex_value(in.data[i + 1]);
            int low = hex_value(in.data[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high << 4 | low);
                i += 2;
            }
        }
        *to++ = c;
    }
    return (size_t)(to - out);
}
