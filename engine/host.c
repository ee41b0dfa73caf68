/* Hosts: domain to ASCII, the IPv4 and the IPv6 parser of the WHATWG URL Standard (section 3.5). */
#include "host.h"

#include <idn2.h>

/* More UTF-8 than this cannot become a label of 63 characters, short of padding it with characters that are mapped to
 * nothing. The bound keeps the cost of a hostile label small. */
#define LABEL_INPUT_MAX 1024

#define IPV4_PARTS 4
#define IPV6_PIECES 8

static const char text_memory[] = "out of memory while mapping the host to ASCII: try again";
static const char text_empty[] = "the host is empty: give a name or an address after \"//\"";
static const char text_idna[] =
    "the host is not a valid internationalised name (UTS 46): check its letters, their order and its \"xn--\" parts";
static const char text_idna_long[] =
    "an internationalised host may have 63 characters in a label and 255 in all once it is ASCII: shorten it";
static const char text_forbidden[] =
    "a character that no host may hold: use letters, digits, hyphens and dots";
static const char text_ipv4[] =
    "a host that ends in a number must be an IPv4 address: up to four numbers, each in range, with dots between";
static const char text_ipv6[] =
    "not an IPv6 address: write eight hexadecimal pieces with colons, at most one \"::\" and no zone";

static int refuse(struct wsr_fault *why, size_t at, const char *text)
{
    *why = (struct wsr_fault){ at, text };
    return WSR_ERR_SYNTAX;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static uint8_t to_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

/* Value of a hexadecimal digit, or 16. */
static unsigned hex_value(uint8_t c)
{
    c = to_lower(c);
    if (is_digit(c))
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10u : 16u;
}

static bool is_ascii(struct wsr_bytes in)
{
    uint8_t seen = 0;
    for (size_t i = 0; i < in.len; i++)
        seen |= in.data[i];
    return seen < 0x80;
}

static bool has_ace_prefix(struct wsr_bytes label)
{
    return label.len >= 4 && to_lower(label.data[0]) == 'x' && to_lower(label.data[1]) == 'n' &&
           label.data[2] == '-' && label.data[3] == '-';
}

/* Forbidden domain code points of the URL Standard. Above 0x7F nothing is left once the domain is ASCII. */
static bool is_forbidden(uint8_t c)
{
    return c <= ' ' || c == 0x7f || memchr("#/:<>?@[\\]^%|", c, 13) != NULL;
}

/* ---- IDNA ---- */

/* Bytes of the separator at @at: the full stop, or one of the three that UTS 46 maps to it; 0 when there is none. */
static size_t separator_bytes(struct wsr_bytes in, size_t at)
{
    const uint8_t *p = in.data + at;
    if (p[0] == '.')
        return 1;
    if (in.len - at < 3)
        return 0;
    bool ideographic = memcmp(p, "\xe3\x80\x82", 3) == 0;                                         /* U+3002 */
    bool wide = memcmp(p, "\xef\xbc\x8e", 3) == 0 || memcmp(p, "\xef\xbd\xa1", 3) == 0;           /* U+FF0E, U+FF61 */
    return ideographic || wide ? 3 : 0;
}

/* The four characters that transitional processing maps otherwise: sharp s, final sigma, the two joiners. */
static bool has_deviation(const char *label)
{
    static const char *const deviations[] = { "\xc3\x9f", "\xcf\x82", "\xe2\x80\x8c", "\xe2\x80\x8d" };
    for (size_t i = 0; i < sizeof deviations / sizeof *deviations; i++) {
        if (strstr(label, deviations[i]))
            return true;
    }
    return false;
}

/* Blocks that hold right-to-left characters or Arabic digits, which bring the Bidi rule (RFC 5893 2) into play. */
static bool is_right_to_left(uint32_t c)
{
    return (c >= 0x0590 && c <= 0x08ff) || (c >= 0xfb1d && c <= 0xfdff) || (c >= 0xfe70 && c <= 0xfeff) ||
           (c >= 0x10800 && c <= 0x10fff) || (c >= 0x1e800 && c <= 0x1efff);
}

static bool starts_with_mark(uint32_t first)
{
    const uint32_t label[2] = { first, 0 };
    char *ascii = NULL;
    int rc = idn2_to_ascii_4z(label, &ascii, IDN2_NONTRANSITIONAL);
    idn2_free(ascii);
    return rc == IDN2_LEADING_COMBINING;
}

/* What the lax look-up below leaves out of UTS 46's validity criteria. @ascii is its result. */
static int check_lax_label(const char *ascii)
{
    uint32_t *points = NULL;
    int rc = idn2_to_unicode_8z4z(ascii, &points, 0);
    if (rc == IDN2_OK && points[0] >= 0x80 && starts_with_mark(points[0]))
        rc = IDN2_LEADING_COMBINING;
    for (size_t i = 0; rc == IDN2_OK && points[i] != 0; i++) {
        if (is_right_to_left(points[i]))
            rc = IDN2_BIDI;
    }
    idn2_free(points);
    return rc;
}

/*
 * UTS 46 ToASCII of one label, whose ASCII letters are small: non-transitional, CheckBidi and CheckJoiners on. The URL
 * Standard also wants CheckHyphens, UseSTD3ASCIIRules and VerifyDnsLength off. libidn2 2.3 leaves out STD3, but beyond
 * UTS 46 it demands what IDNA 2008 does. Two of those demands can be got round:
 * - symbols, as in an emoji domain, pass its transitional path, which maps and does not check; the checks are here;
 * - a hyphen at the start or end passes without UTS 46's mapping, where all other checks are made.
 * What is left departs from the Standard, always towards refusing: hyphens in both the third and the fourth place;
 * outer hyphens where anything but ASCII letters would need mapping; symbols together with a deviation or
 * right-to-left character; over 63 characters; characters newer than libidn2's tables. One departs the other way: the
 * Bidi rule is applied label by label, so a left-to-right label is not judged by a right-to-left neighbour.
 */
static int label_to_ascii(uint8_t **ascii, const char *label)
{
    const uint8_t *in = (const uint8_t *)label;
    int rc = idn2_lookup_u8(in, ascii, IDN2_NONTRANSITIONAL);
    if (rc == IDN2_HYPHEN_STARTEND)
        return idn2_lookup_u8(in, ascii, IDN2_NO_TR46 | IDN2_NFC_INPUT);
    if (rc != IDN2_DISALLOWED || has_deviation(label))
        return rc;
    rc = idn2_lookup_u8(in, ascii, IDN2_TRANSITIONAL);
    return rc == IDN2_OK ? check_lax_label((const char *)*ascii) : rc;
}

static int idna_fault(int rc, size_t at, struct wsr_fault *why)
{
    if (rc == IDN2_MALLOC) {
        *why = (struct wsr_fault){ at, text_memory };
        return WSR_ERR_MEMORY;
    }
    bool is_long = rc == IDN2_TOO_BIG_LABEL || rc == IDN2_TOO_BIG_DOMAIN || rc == IDN2_PUNYCODE_BIG_OUTPUT;
    return refuse(why, at, is_long ? text_idna_long : text_idna);
}

/* Append one label of a non-ASCII domain to @text. A plain ASCII label is not looked up: it need not be a DNS label. */
static int append_label(char *text, size_t *used, struct wsr_bytes label, size_t at, struct wsr_fault *why)
{
    size_t room = WSR_HOST_TEXT_MIN - *used;
    if (is_ascii(label) && !has_ace_prefix(label)) {
        if (label.len > room)
            return refuse(why, at, text_idna_long);
        for (size_t i = 0; i < label.len; i++)
            text[(*used)++] = (char)to_lower(label.data[i]);
        return 0;
    }
    char input[LABEL_INPUT_MAX + 1];
    if (label.len > LABEL_INPUT_MAX)
        return refuse(why, at, text_idna_long);
    for (size_t i = 0; i < label.len; i++)
        input[i] = (char)to_lower(label.data[i]);
    input[label.len] = '\0';
    uint8_t *ascii = NULL;
    int rc = label_to_ascii(&ascii, input);
    size_t len = rc == IDN2_OK ? strlen((const char *)ascii) : 0;
    if (len > room)
        rc = IDN2_TOO_BIG_DOMAIN;
    if (rc == IDN2_OK) {
        memcpy(text + *used, ascii, len);
        *used += len;
    }
    idn2_free(ascii);
    return rc == IDN2_OK ? 0 : idna_fault(rc, at, why);
}

/* Domain to ASCII of a domain that is not ASCII, label by label. The caller has refused NUL, which ends libidn2's
 * strings. */
static int map_labels(char *text, size_t *used, struct wsr_bytes domain, struct wsr_fault *why)
{
    for (size_t at = 0;;) {
        size_t end = at;
        size_t separator = 0;
        while (end < domain.len && (separator = separator_bytes(domain, end)) == 0)
            end++;
        int rc = append_label(text, used, wsr_bytes_of(domain.data + at, end - at), at, why);
        if (rc < 0)
            return rc;
        if (end == domain.len)
            return 0;
        if (*used == WSR_HOST_TEXT_MIN)
            return refuse(why, at, text_idna_long);
        text[(*used)++] = '.';
        at = end + separator;
    }
}

/* ---- IPv4 ---- */

/* The IPv4 number parser: decimal, octal after "0", hexadecimal after "0x". What does not fit 32 bits stays above
 * them. */
static bool read_ipv4_number(struct wsr_bytes part, uint64_t *value)
{
    const uint8_t *p = part.data;
    size_t left = part.len;
    unsigned radix = 10;
    if (left == 0)
        return false;
    if (left >= 2 && p[0] == '0') {
        bool is_hex = to_lower(p[1]) == 'x';
        radix = is_hex ? 16 : 8;
        p += is_hex ? 2 : 1;
        left -= is_hex ? 2 : 1;
    }
    uint64_t sum = 0;
    for (; left > 0; p++, left--) {
        unsigned digit = hex_value(*p);
        if (digit >= radix)
            return false;
        if (sum <= UINT32_MAX)
            sum = sum * radix + digit;
    }
    *value = sum;
    return true;
}

/* Take the part before the first dot off the front of *rest. */
static struct wsr_bytes take_part(struct wsr_bytes *rest)
{
    const uint8_t *dot = memchr(rest->data, '.', rest->len);
    struct wsr_bytes part = { rest->data, dot ? (size_t)(dot - rest->data) : rest->len };
    size_t taken = part.len + (dot ? 1 : 0);
    *rest = wsr_bytes_of(rest->data + taken, rest->len - taken);
    return part;
}

static struct wsr_bytes without_last_dot(struct wsr_bytes host)
{
    if (host.len > 1 && host.data[host.len - 1] == '.')
        host.len--;
    return host;
}

/* The ends-in-a-number checker: such a host is an IPv4 address or nothing. */
static bool ends_in_number(struct wsr_bytes host)
{
    host = without_last_dot(host);
    size_t at = host.len;
    while (at > 0 && host.data[at - 1] != '.')
        at--;
    struct wsr_bytes last = { host.data + at, host.len - at };
    size_t digits = 0;
    while (digits < last.len && is_digit(last.data[digits]))
        digits++;
    uint64_t value;
    return last.len > 0 && (digits == last.len || read_ipv4_number(last, &value));
}

static bool read_ipv4(struct wsr_bytes host, uint32_t *address)
{
    struct wsr_bytes rest = without_last_dot(host);
    uint64_t numbers[IPV4_PARTS];
    size_t count = 0;
    for (bool more = true; more; count++) {
        more = memchr(rest.data, '.', rest.len) != NULL;
        if (count == IPV4_PARTS || !read_ipv4_number(take_part(&rest), &numbers[count]))
            return false;
    }
    if (numbers[count - 1] >= UINT64_C(1) << (8 * (IPV4_PARTS + 1 - count)))
        return false;
    uint32_t sum = (uint32_t)numbers[count - 1];
    for (size_t i = 0; i + 1 < count; i++) {
        if (numbers[i] > 255)
            return false;
        sum += (uint32_t)numbers[i] << (8 * (IPV4_PARTS - 1 - i));
    }
    *address = sum;
    return true;
}

static size_t write_ipv4(char *text, uint32_t address)
{
    char *to = text;
    for (unsigned shift = 32; shift > 0;) {
        shift -= 8;
        unsigned byte = address >> shift & 0xff;
        if (byte >= 100)
            *to++ = (char)('0' + byte / 100);
        if (byte >= 10)
            *to++ = (char)('0' + byte / 10 % 10);
        *to++ = (char)('0' + byte % 10);
        if (shift > 0)
            *to++ = '.';
    }
    return (size_t)(to - text);
}

int wsr_host_parse_domain(struct wsr_host *out, struct wsr_bytes domain, char *text, struct wsr_fault *why)
{
    size_t used = 0;
    const uint8_t *nul = domain.len > 0 ? memchr(domain.data, 0, domain.len) : NULL;
    if (nul)
        return refuse(why, (size_t)(nul - domain.data), text_forbidden);
    /* An all-ASCII domain is only lower-cased: "xn--" labels are taken as they are (beStrict is false). URL-12 */
    bool ascii = is_ascii(domain);
    if (ascii) {
        for (; used < domain.len; used++)
            text[used] = (char)to_lower(domain.data[used]);
    } else {
        int rc = map_labels(text, &used, domain, why);
        if (rc < 0)
            return rc;
    }
    if (used == 0)
        return refuse(why, 0, text_empty);
    for (size_t i = 0; i < used; i++) {
        if (is_forbidden((uint8_t)text[i]))
            return refuse(why, ascii ? i : 0, text_forbidden);
    }
    struct wsr_host host = { wsr_bytes_of(text, used), false };
    if (ends_in_number(host.text)) {
        uint32_t address;
        if (!read_ipv4(host.text, &address))
            return refuse(why, 0, text_ipv4);
        host = (struct wsr_host){ wsr_bytes_of(text, write_ipv4(text, address)), true };
    }
    *out = host;
    return 0;
}

/* ---- IPv6 ---- */

/* The dotted end of an IPv6 address: exactly four decimal numbers without leading zeros, up to the end of @in. */
static bool read_dotted_end(struct wsr_bytes in, uint16_t pieces[2])
{
    uint8_t bytes[4];
    size_t at = 0;
    for (size_t i = 0; i < 4; i++) {
        if (i > 0 && (at == in.len || in.data[at++] != '.'))
            return false;
        unsigned value = 0;
        size_t start = at;
        for (; at < in.len && is_digit(in.data[at]); at++) {
            bool leading_zero = at > start && value == 0;
            value = value * 10 + in.data[at] - '0';
            if (leading_zero || value > 255)
                return false;
        }
        if (at == start)
            return false;
        bytes[i] = (uint8_t)value;
    }
    pieces[0] = wsr_load_be16(bytes);
    pieces[1] = wsr_load_be16(bytes + 2);
    return at == in.len;
}

struct ipv6 {
    uint16_t pieces[IPV6_PIECES];
    size_t count;    /* pieces read */
    size_t gap;      /* piece at which "::" stands, IPV6_PIECES + 1 = nowhere */
};

/* Read the piece at *at and the colon behind it. */
static bool read_piece(struct ipv6 *ip, struct wsr_bytes in, size_t *at)
{
    size_t start = *at;
    unsigned value = 0;
    for (; *at < in.len && *at - start < 4 && hex_value(in.data[*at]) < 16; (*at)++)
        value = value * 16 + hex_value(in.data[*at]);
    if (*at < in.len && in.data[*at] == '.') {
        struct wsr_bytes dotted = { in.data + start, in.len - start };
        if (ip->count + 2 > IPV6_PIECES || !read_dotted_end(dotted, ip->pieces + ip->count))
            return false;
        ip->count += 2;
        *at = in.len;
        return true;
    }
    if (*at == start)
        return false;
    ip->pieces[ip->count++] = (uint16_t)value;
    if (*at == in.len)
        return true;
    return in.data[(*at)++] == ':' && *at < in.len;    /* a single colon may not end the address */
}

static bool read_ipv6(struct ipv6 *ip, struct wsr_bytes in, size_t *at)
{
    *ip = (struct ipv6){ .gap = IPV6_PIECES + 1 };
    if (in.len >= 2 && in.data[0] == ':' && in.data[1] == ':') {
        ip->gap = 0;
        *at = 2;
    }
    while (*at < in.len) {
        if (in.data[*at] == ':') {
            if (*at == 0 || ip->gap <= IPV6_PIECES)
                return false;
            ip->gap = ip->count;
            (*at)++;
            continue;
        }
        if (ip->count == IPV6_PIECES || !read_piece(ip, in, at))
            return false;
    }
    return true;
}

/* Move the pieces behind the "::" to the end. It must stand for at least one piece. */
static bool fill_gap(struct ipv6 *ip)
{
    if (ip->gap > IPV6_PIECES)
        return ip->count == IPV6_PIECES;
    if (ip->count == IPV6_PIECES)
        return false;
    size_t behind = ip->count - ip->gap;
    memmove(ip->pieces + IPV6_PIECES - behind, ip->pieces + ip->gap, behind * sizeof *ip->pieces);
    memset(ip->pieces + ip->gap, 0, (IPV6_PIECES - ip->count) * sizeof *ip->pieces);
    return true;
}

/* The first of the longest runs of at least two zero pieces: start and length, 0 for none. RFC 5952 4.2 */
static size_t longest_zeros(const uint16_t pieces[IPV6_PIECES], size_t *start)
{
    size_t best = 1;
    size_t run = 0;
    *start = IPV6_PIECES;
    for (size_t i = 0; i < IPV6_PIECES; i++) {
        run = pieces[i] == 0 ? run + 1 : 0;
        if (run > best) {
            best = run;
            *start = i + 1 - run;
        }
    }
    return best > 1 ? best : 0;
}

static char *write_piece(char *to, unsigned piece)
{
    bool started = false;
    for (unsigned shift = 16; shift > 0;) {
        shift -= 4;
        unsigned digit = piece >> shift & 0xf;
        started = started || digit != 0 || shift == 0;
        if (started)
            *to++ = "0123456789abcdef"[digit];
    }
    return to;
}

static size_t write_ipv6(char *text, const uint16_t pieces[IPV6_PIECES])
{
    size_t zeros_at;
    size_t zeros = longest_zeros(pieces, &zeros_at);
    char *to = text;
    *to++ = '[';
    for (size_t i = 0; i < IPV6_PIECES;) {
        if (i == zeros_at) {
            if (i == 0)
                *to++ = ':';
            *to++ = ':';    /* the piece before has written the other */
            i += zeros;
            continue;
        }
        to = write_piece(to, pieces[i++]);
        if (i < IPV6_PIECES)
            *to++ = ':';
    }
    *to++ = ']';
    return (size_t)(to - text);
}

int wsr_host_parse_ipv6(struct wsr_host *out, struct wsr_bytes address, char *text, struct wsr_fault *why)
{
    struct ipv6 ip;
    size_t at = 0;
    if (!read_ipv6(&ip, address, &at) || !fill_gap(&ip))
        return refuse(why, at, text_ipv6);
    *out = (struct wsr_host){ wsr_bytes_of(text, write_ipv6(text, ip.pieces)), true };
    return 0;
}
