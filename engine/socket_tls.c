/* TLS of a socket: whom it is to be with, and what was agreed on. */
#include "socket.h"

#include <stdlib.h>

#include "error.h"

#define NAME_CHARS_MAX 253u      /* of a DNS name (RFC 1035 2.3.4); addresses are shorter */

static bool is_name_char(char c)
{
    return c > ' ' && c < 0x7F && strchr("/?#@\\\"'<>", c) == NULL;
}

/* The option tls_name. */
static int check_name(const char *name)
{
    size_t len = strlen(name), good = 0;
    while (good < len && is_name_char(name[good]))
        good++;
    if (len > 0 && len <= NAME_CHARS_MAX && good == len)
        return 0;
    return wsr_error_set(WSR_ERR_ARGUMENT, "tls_name \"%.80s\" is neither a DNS name in ASCII nor a numeric address",
                         name);
}

int wsr_socket_plan_tls(struct wsr_opening *opening, const struct wsr_url *url, const char *name)
{
    struct wsr_bytes host = url->host;
    if (name != NULL) {
        int rc = check_name(name);
        if (rc != 0)
            return rc;
        host = wsr_bytes_of_string(name);
    }
    if (host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']')
        host = wsr_bytes_of(host.data + 1, host.len - 2);
    else if (host.len > 1 && host.data[host.len - 1] == '.')
        host.len--;              /* a name of certificates and of SNI has no root label (URL-34, RFC 6066 3) */
    opening->tls_name = strndup((const char *)host.data, host.len);
    opening->tls_port = url->port;
    if (opening->tls_name == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for a connection attempt");
    return 0;
}

int wsr_socket_tls(const struct wsr_socket *socket, struct wsr_socket_tls *out)
{
    if (socket == NULL || out == NULL || out->size < sizeof out->size)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wsr_socket_tls needs a socket, and a structure with its size set");
    struct wsr_socket_tls t = WSR_SOCKET_TLS_INIT;
    /* Written once, a number alone. */
    uint32_t packed = atomic_load_explicit(&socket->link.counts.tls_facts, memory_order_relaxed);
    struct wsr_tls_facts facts = wsr_tls_facts_unpack(packed);
    t.version = facts.version;
    t.records = facts.records;
    t.was_resumed = facts.was_resumed;
    t.is_verified = facts.is_verified;
    t.cipher = facts.version != 0 ? wsr_engine_tls_suite(socket->worker->consumer->engine, facts.suite) : "";
    t.why = wsr_tls_why_text((enum wsr_tls_why)facts.why);
    uint32_t size = out->size;
    memcpy(out, &t, size < sizeof t ? size : sizeof t);
    out->size = size;
    return 0;
}
