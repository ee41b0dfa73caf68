/* Which address next, for how long, and what to say when none answers. */
#include "dial.h"

#include <errno.h>
#include <stdlib.h>

int wsr_dial_parse(struct wsr_address *out, const char *text, struct wsr_fault *why)
{
    const char *colon = strrchr(text, ':');
    *why = (struct wsr_fault){ 0, "is not ADDRESS:PORT with a numeric address; write IPv6 as [ADDRESS]:PORT" };
    if (colon == NULL || colon == text)
        return WSR_ERR_ARGUMENT;
    char *end;
    errno = 0;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || errno != 0 || port > UINT16_MAX) {
        *why = (struct wsr_fault){ (size_t)(colon + 1 - text), "has a port that is no number from 0 to 65535" };
        return WSR_ERR_ARGUMENT;
    }
    if (text[0] != '[' && memchr(text, ':', (size_t)(colon - text)) != NULL)
        return WSR_ERR_ARGUMENT;
    struct wsr_address address;
    if (!wsr_resolve_numeric(&address, text, (size_t)(colon - text), (uint16_t)port))
        return WSR_ERR_ARGUMENT;
    *out = address;
    return 0;
}

void wsr_dial_skip(struct wsr_dial *dial, int system_errno)
{
    assert(dial->next < dial->addresses_count);
    dial->next++;
    dial->last_errno = system_errno;
}

const struct sockaddr *wsr_dial_next(struct wsr_dial *dial, socklen_t *bytes)
{
    for (; dial->next < dial->addresses_count; wsr_dial_skip(dial, EAFNOSUPPORT)) {
        const struct wsr_address *candidate = &dial->addresses[dial->next];
        if (dial->source.bytes > 0 && dial->source.any.sa_family != candidate->any.sa_family)
            continue;
        *bytes = candidate->bytes;
        return &candidate->any;
    }
    return NULL;
}

uint64_t wsr_dial_deadline(const struct wsr_dial *dial, uint64_t now_ns)
{
    assert(dial->next < dial->addresses_count);
    if (dial->deadline_ns == WSR_NEVER)
        return WSR_NEVER;
    if (dial->deadline_ns <= now_ns)
        return dial->deadline_ns;
    return now_ns + (dial->deadline_ns - now_ns) / (dial->addresses_count - dial->next);
}

wsr_file wsr_dial_open(struct wsr_dial *dial, struct wsr_driver *driver)
{
    struct wsr_driver_setup setup = { .family = dial->addresses[dial->next].any.sa_family, .nodelay = true };
    if (dial->source.bytes > 0) {
        setup.source = &dial->source.any;
        setup.source_bytes = dial->source.bytes;
    }
    wsr_file file = driver->ops->open(driver, &setup);
    dial->next++;
    if (file >= 0)
        return file;
    dial->last_errno = -file;
    return -1;
}

const char *wsr_dial_text(int system_errno)
{
    switch (system_errno) {
    case ECONNREFUSED:
        return "connection refused: nothing listens at that address and port; check both, and that the server runs";
    case ETIMEDOUT:
        return "no address of the host answered in time; check the address, firewalls, and open_timeout_ns";
    case ENETUNREACH:
    case EHOSTUNREACH:
        return "no route to the host; check the address and this machine's network";
    case EMFILE:
        return "this process has no file descriptor left; raise the limit (ulimit -n) or open fewer sockets";
    case ENFILE:
        return "this machine has no file descriptor left; raise the sysctl fs.file-max or open fewer sockets";
    case EADDRNOTAVAIL:
        return "no local address or port is free; widen the sysctl net.ipv4.ip_local_port_range, or use more source "
               "addresses";
    case EAFNOSUPPORT:
        return "the source address and the host's address are of different families; give a source address of the "
               "host's";
    case ECONNRESET:
        return "the connection was reset while it was being made; check that the server accepts connections there";
    case EACCES:
    case EPERM:
        return "a firewall rule of this machine forbids the connection; see its iptables or nftables";
    default:
        return "the connection could not be made; system_errno says why";
    }
}
