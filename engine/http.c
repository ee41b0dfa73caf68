/* The response head of RFC 9112, parsed line by line. A line is checked once, when its LF has come; only the first
 * bytes of the status line are judged earlier, so that a peer that speaks no HTTP is found out without waiting for an
 * LF. */
#include "http.h"

#define STATUS_DIGITS 3
#define MINOR_AT 7    /* place of the last digit of the version */

static const char version[] = "HTTP/1.1 ";
#define VERSION_CHARS (sizeof version - 1)

static const char text_version[] = "the answer is not HTTP/1.1: a response must begin with \"HTTP/1.1 \"";
static const char text_either[] = "the proxy's answer is not HTTP: it must begin with \"HTTP/1.1 \" or \"HTTP/1.0 \"";
static const char text_status[] =
    "the status must be three digits, followed by a space and the reason or by the line's end";
static const char text_reason[] =
    "a control character in the reason phrase, where only text, spaces and tabs may stand";
static const char text_bare_lf[] = "a line of the answer's head ends with LF alone: it must end with CR LF";
static const char text_bare_cr[] = "a CR inside a line of the answer's head: it may only stand before LF";
static const char text_fold[] = "a header line begins with white space: folded lines are obsolete and refused";
static const char text_name[] = "a header name must be a token with the colon directly behind it";
static const char text_colon[] = "a header line has no colon: it must be \"name: value\"";
static const char text_value[] = "a control character in a header value, where only text, spaces and tabs may stand";

/* tchar of RFC 9110 5.6.2. */
static const bool is_tchar[256] = {
    ['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true, ['&'] = true, ['\''] = true, ['*'] = true, ['+'] = true,
    ['-'] = true, ['.'] = true, ['^'] = true, ['_'] = true, ['`'] = true, ['|'] = true, ['~'] = true,
    ['0'] = true, ['1'] = true, ['2'] = true, ['3'] = true, ['4'] = true, ['5'] = true, ['6'] = true, ['7'] = true,
    ['8'] = true, ['9'] = true,
    ['A'] = true, ['B'] = true, ['C'] = true, ['D'] = true, ['E'] = true, ['F'] = true, ['G'] = true, ['H'] = true,
    ['I'] = true, ['J'] = true, ['K'] = true, ['L'] = true, ['M'] = true, ['N'] = true, ['O'] = true, ['P'] = true,
    ['Q'] = true, ['R'] = true, ['S'] = true, ['T'] = true, ['U'] = true, ['V'] = true, ['W'] = true, ['X'] = true,
    ['Y'] = true, ['Z'] = true,
    ['a'] = true, ['b'] = true, ['c'] = true, ['d'] = true, ['e'] = true, ['f'] = true, ['g'] = true, ['h'] = true,
    ['i'] = true, ['j'] = true, ['k'] = true, ['l'] = true, ['m'] = true, ['n'] = true, ['o'] = true, ['p'] = true,
    ['q'] = true, ['r'] = true, ['s'] = true, ['t'] = true, ['u'] = true, ['v'] = true, ['w'] = true, ['x'] = true,
    ['y'] = true, ['z'] = true,
};

static int refuse(struct wsr_fault *why, size_t at, const char *text)
{
    *why = (struct wsr_fault){ at, text };
    return WSR_ERR_SYNTAX;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* Judge as much of the version and status as has come. */
static int check_start(const uint8_t *in, size_t len, bool may_be_old, struct wsr_fault *why)
{
    for (size_t i = 0; i < VERSION_CHARS && i < len; i++) {
        if (in[i] != (uint8_t)version[i] && !(may_be_old && i == MINOR_AT && in[i] == '0'))
            return refuse(why, i, may_be_old ? text_either : text_version);
    }
    for (size_t i = VERSION_CHARS; i < VERSION_CHARS + STATUS_DIGITS && i < len; i++) {
        if (!is_digit(in[i]))
            return refuse(why, i, text_status);
    }
    const size_t behind = VERSION_CHARS + STATUS_DIGITS;
    if (len > behind && in[behind] != ' ' && in[behind] != '\r')
        return refuse(why, behind, text_status);
    return 0;
}

/* Text of a reason or value: VCHAR, obs-text, SP and HTAB (RFC 9110 5.5). @at is the place of @text in the head. */
static int check_text(struct wsr_bytes text, size_t at, const char *fault, struct wsr_fault *why)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == '\r')
            return refuse(why, at + i, text_bare_cr);
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return refuse(why, at + i, fault);
    }
    return 0;
}

/* Bytes of @line up to the colon, or all of them. */
static size_t name_bytes(struct wsr_bytes line)
{
    const uint8_t *colon = memchr(line.data, ':', line.len);
    return colon ? (size_t)(colon - line.data) : line.len;
}

/* A field line without its CRLF. RFC 9112 5 */
static int check_field(struct wsr_bytes line, size_t at, struct wsr_fault *why)
{
    if (is_blank(line.data[0]))
        return refuse(why, at, text_fold);
    size_t name = name_bytes(line);
    for (size_t i = 0; i < name; i++) {
        if (!is_tchar[line.data[i]])
            return refuse(why, at + i, line.data[i] == '\r' ? text_bare_cr : text_name);
    }
    if (name == line.len)
        return refuse(why, at, text_colon);
    if (name == 0)
        return refuse(why, at, text_name);
    return check_text(wsr_bytes_of(line.data + name + 1, line.len - name - 1), at + name + 1, text_value, why);
}

/* Check the line in[begin] to the LF at in[lf]. */
static int check_line(const uint8_t *in, size_t begin, size_t lf, struct wsr_fault *why)
{
    if (lf == begin || in[lf - 1] != '\r')
        return refuse(why, lf, text_bare_lf);
    struct wsr_bytes line = { in + begin, lf - 1 - begin };
    if (begin == 0) {
        size_t skip = VERSION_CHARS + STATUS_DIGITS;
        assert(line.len >= skip);    /* check_start() has judged them, and none of them can be LF */
        return check_text(wsr_bytes_of(line.data + skip, line.len - skip), skip, text_reason, why);
    }
    return line.len == 0 ? 0 : check_field(line, begin, why);
}

/* Take a complete and checked head of @len bytes apart. */
static void read_head(struct wsr_http_response *out, const uint8_t *in, size_t len)
{
    const uint8_t *digit = in + VERSION_CHARS;
    const uint8_t *lf = memchr(in, '\n', len);
    const uint8_t *line_end = lf - 1;
    const uint8_t *reason = digit + STATUS_DIGITS;
    if (reason < line_end)
        reason++;
    out->status = (uint16_t)((digit[0] - '0') * 100 + (digit[1] - '0') * 10 + (digit[2] - '0'));
    out->reason = wsr_bytes_of(reason, (size_t)(line_end - reason));
    out->fields = wsr_bytes_of(lf + 1, len - 2 - (size_t)(lf + 1 - in));
}

static ptrdiff_t parse(struct wsr_http_response *out, const uint8_t *in, size_t len, size_t *scanned, bool may_be_old,
                       struct wsr_fault *why)
{
    assert(*scanned <= len);
    int rc = check_start(in, len, may_be_old, why);
    if (rc < 0)
        return rc;
    while (*scanned < len) {
        /* All lines that ended before *scanned are checked, and no LF stands between the last of them and *scanned. */
        const uint8_t *found = memchr(in + *scanned, '\n', len - *scanned);
        if (!found)
            break;
        size_t lf = (size_t)(found - in);
        const uint8_t *before = lf > 0 ? memrchr(in, '\n', lf) : NULL;
        size_t begin = before ? (size_t)(before + 1 - in) : 0;
        rc = check_line(in, begin, lf, why);
        if (rc < 0)
            return rc;
        *scanned = lf + 1;
        if (begin > 0 && lf == begin + 1) {
            read_head(out, in, lf + 1);
            return (ptrdiff_t)(lf + 1);
        }
    }
    *scanned = len;
    return 0;
}

ptrdiff_t wsr_http_parse(struct wsr_http_response *out, const uint8_t *in, size_t len, size_t *scanned,
                         struct wsr_fault *why)
{
    return parse(out, in, len, scanned, false, why);
}

ptrdiff_t wsr_http_parse_either(struct wsr_http_response *out, const uint8_t *in, size_t len, size_t *scanned,
                                struct wsr_fault *why)
{
    return parse(out, in, len, scanned, true, why);
}

bool wsr_http_next_field(struct wsr_bytes *rest, struct wsr_http_field *out)
{
    if (rest->len == 0)
        return false;
    const uint8_t *lf = memchr(rest->data, '\n', rest->len);
    size_t line_bytes = lf ? (size_t)(lf + 1 - rest->data) : rest->len;
    struct wsr_bytes line = { rest->data, line_bytes };
    size_t name = name_bytes(line);
    assert(line_bytes >= 2 && name < line_bytes);    /* wsr_http_parse() has checked it */
    size_t begin = name + 1;
    size_t end = line_bytes - 2;
    while (begin < end && is_blank(line.data[begin]))
        begin++;
    while (end > begin && is_blank(line.data[end - 1]))
        end--;
    out->name = wsr_bytes_of(line.data, name);
    out->value = wsr_bytes_of(line.data + begin, end - begin);
    *rest = wsr_bytes_of(rest->data + line_bytes, rest->len - line_bytes);
    return true;
}

bool wsr_http_name_is(struct wsr_bytes name, const char *lower)
{
    if (name.len != strlen(lower))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != (uint8_t)lower[i])
            return false;
    }
    return true;
}

bool wsr_http_is_token(struct wsr_bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_tchar[text.data[i]])
            return false;
    }
    return text.len > 0;
}
