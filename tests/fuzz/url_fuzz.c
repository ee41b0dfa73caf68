/* Any bytes as a URL, with and without a base. Oracles: nothing outside the text; a record is printable ASCII, holds
 * its own parts, and parses to itself; a fault has a place and a text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static char *parse(struct wsr_url *url, const void *in, size_t len, const struct wsr_url *base, int *rc)
{
    struct wsr_fault why = { SIZE_MAX, NULL };
    size_t capacity = wsr_url_text_bytes(len, base ? base->href.len : 0);
    char *text = malloc(capacity);
    require(text != NULL);
    *rc = wsr_url_parse(url, in, len, base, text, capacity, &why);
    if (*rc != 0)
        require(*rc == WSR_ERR_SYNTAX && why.text != NULL && why.at <= len);
    return text;
}

static void require_printable(struct wsr_bytes bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        require(bytes.data[i] > ' ' && bytes.data[i] < 0x7f);
    require(bytes.data[bytes.len] == 0);
}

static void check_record(const struct wsr_url *url)
{
    require_printable(url->href);
    require_printable(url->origin);
    require_printable(url->target);
    require(url->target.len > 0 && url->target.data[0] == '/');
    require(url->host.len > 0 && url->authority.len >= url->host.len);
    struct wsr_url again;
    int rc;
    char *text = parse(&again, url->href.data, url->href.len, NULL, &rc);
    require(rc == 0);
    require(wsr_bytes_equal(again.href, url->href) && wsr_bytes_equal(again.target, url->target));
    require(wsr_bytes_equal(again.host, url->host) && wsr_bytes_equal(again.authority, url->authority));
    require(wsr_bytes_equal(again.user, url->user) && wsr_bytes_equal(again.password, url->password));
    require(wsr_bytes_equal(again.origin, url->origin));
    require(again.port == url->port && again.secure == url->secure && again.host_is_ip == url->host_is_ip);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const bases[] = { NULL, "https://u:p@[::1]:81/a/b?c", "ws://h?" };
    if (size == 0)
        return 0;
    const char *base_text = bases[data[0] % 3];
    struct wsr_url base;
    struct wsr_url url;
    int rc = 0;
    char *base_memory = base_text ? parse(&base, base_text, strlen(base_text), NULL, &rc) : NULL;
    require(rc == 0);
    char *memory = parse(&url, data + 1, size - 1, base_text ? &base : NULL, &rc);
    if (rc == 0)
        check_record(&url);
    free(memory);
    free(base_memory);
    return 0;
}
