/* Tokens, quoted strings and what stands between them. */
#include "extension.h"

#include "http.h"

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

static bool take_token(struct wsr_bytes *rest, struct wsr_bytes *token)
{
    size_t len = 0;
    while (len < rest->len && wsr_http_is_token(wsr_bytes_of(rest->data + len, 1)))
        len++;
    *token = wsr_bytes_of(rest->data, len);
    skip(rest, len);
    return len > 0;
}

/* A quoted string whose text, after unescaping, is a token (RFC 6455 9.1). *inside is the text between the quotes. */
static bool take_quoted(struct wsr_bytes *rest, struct wsr_bytes *inside)
{
    size_t at = 1;
    for (; at < rest->len && rest->data[at] != '"'; at++) {
        if (rest->data[at] == '\\' && ++at == rest->len)
            return false;
        if (!wsr_http_is_token(wsr_bytes_of(rest->data + at, 1)))
            return false;
    }
    if (at >= rest->len || at == 1)
        return false;
    *inside = wsr_bytes_of(rest->data + 1, at - 1);
    skip(rest, at + 1);
    return true;
}

/* What stands behind a ";". */
static bool take_parameter(struct wsr_bytes *rest, struct wsr_extension_parameter *out)
{
    *out = (struct wsr_extension_parameter){ 0 };
    if (!take_token(rest, &out->name))
        return false;
    out->has_value = take(rest, '=');
    if (!out->has_value)
        return true;
    bool is_quoted = rest->len > 0 && rest->data[0] == '"';
    return is_quoted ? take_quoted(rest, &out->value) : take_token(rest, &out->value);
}

bool wsr_extension_take(struct wsr_bytes *rest, struct wsr_extension *out)
{
    struct wsr_extension_parameter parameter;
    if (!take_token(rest, &out->name))
        return false;
    const uint8_t *begin = rest->data;
    while (take(rest, ';')) {
        if (!take_parameter(rest, &parameter))
            return false;
    }
    out->parameters = wsr_bytes_of(begin, (size_t)(rest->data - begin));
    if (take(rest, ','))
        return rest->len > 0;
    return rest->len == 0;
}

bool wsr_extension_take_parameter(struct wsr_bytes *parameters, struct wsr_extension_parameter *out)
{
    return take(parameters, ';') && take_parameter(parameters, out);
}
