/* Which address next, for how long, and what to say when none answers. */
#include "dial.h"

#include <errno.h>
#include <stdlib.h>

#define PATH_BYTES_MAX (sizeof(struct sockaddr_un) - offsetof(struct sockaddr_un, sun_path) - 1)
#define PAUSE_MIN_NS WSR_NS_PER_MS
#define PAUSE_MAX_NS (64 * WSR_NS_PER_MS)

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

/* @text is what follows "unix:". */
static int parse_path(struct wsr_dial_path *out, const char *text, struct wsr_fault *why)
{
    bool is_abstract = text[0] == '@';
    const char *name = text + is_abstract;
    size_t len = strlen(name);
    *why = (struct wsr_fault){ 0, NULL };
    if (len == 0)
        why->text = "names no socket; write unix:PATH, or unix:@NAME for the abstract namespace";
    else if (len > PATH_BYTES_MAX)
        why->text = "is longer than the 107 bytes that the kernel takes; use a shorter path, such as a relative one "
                    "or a symbolic link";
    if (why->text != NULL)
        return WSR_ERR_ARGUMENT;
    struct wsr_dial_path path = { .un = { .sun_family = AF_UNIX } };
    memcpy(path.un.sun_path + is_abstract, name, len);      /* a zero byte before the name makes it abstract */
    /* A path ends with its zero byte, an abstract name with its length. */
    path.bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    *out = path;
    return 0;
}

int wsr_dial_only(struct wsr_dial *dial, const char *text, struct wsr_fault *why)
{
    static const char prefix[] = "unix:";
    bool is_path = strncmp(text, prefix, sizeof prefix - 1) == 0;
    int rc = is_path ? parse_path(&dial->path, text + sizeof prefix - 1, why)
                     : wsr_dial_parse(&dial->addresses[0], text, why);
    if (rc == 0)
        dial->addresses_count = 1;
    return rc;
}

void wsr_dial_skip(struct wsr_dial *dial, int system_errno)
{
    assert(dial->next < dial->addresses_count);
    dial->next++;
    dial->last_errno = system_errno;
}

/* Why a candidate of another family than the source's is left out; what another one has answered says more. */
static int unfit_errno(const struct wsr_dial *dial)
{
    return dial->last_errno != 0 ? dial->last_errno : EAFNOSUPPORT;
}

const struct sockaddr *wsr_dial_next(struct wsr_dial *dial, socklen_t *bytes)
{
    for (; dial->next < dial->addresses_count; wsr_dial_skip(dial, unfit_errno(dial))) {
        const struct wsr_address *candidate = &dial->addresses[dial->next];
        bool is_path = dial->path.bytes > 0;
        const struct sockaddr *address = is_path ? &dial->path.any : &candidate->any;
        if (dial->source.bytes > 0 && dial->source.any.sa_family != address->sa_family)
            continue;
        *bytes = is_path ? dial->path.bytes : candidate->bytes;
        return address;
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
    bool is_path = dial->path.bytes > 0;
    struct wsr_driver_setup setup = { .family = is_path ? AF_UNIX : dial->addresses[dial->next].any.sa_family,
                                      .nodelay = !is_path };
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

bool wsr_dial_again(struct wsr_dial *dial, uint64_t *pause_ns)
{
    struct wsr_dial_path *path = &dial->path;
    if (path->bytes == 0 || dial->last_errno != EAGAIN)
        return false;
    assert(dial->next == 1);
    dial->next = 0;
    path->pause_ns = path->pause_ns == 0 ? PAUSE_MIN_NS : path->pause_ns * 2;
    if (path->pause_ns > PAUSE_MAX_NS)
        path->pause_ns = PAUSE_MAX_NS;
    *pause_ns = path->pause_ns;
    return true;
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

const char *wsr_dial_path_text(int system_errno)
{
    switch (system_errno) {
    case ENOENT:
        return "there is no Unix socket at that path; check connect_to, and that the server runs";
    case ECONNREFUSED:
        return "connection refused: what is at that path is no socket, or nothing listens on it any more; check "
               "connect_to, and that the server runs";
    case ETIMEDOUT:
        return "the server did not accept the connection in time: its queue of waiting ones (the backlog of listen) "
               "stayed full; let it accept faster, give it a longer queue, or raise open_timeout_ns";
    case EPROTOTYPE:
        return "the Unix socket at that path is no stream socket; a WebSocket server listens on one of SOCK_STREAM";
    case EACCES:
    case EPERM:
        return "this process may not write to the Unix socket, or not search a directory on its path; check their "
               "permissions";
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return "the path of the Unix socket leads nowhere; check the directories and symbolic links in connect_to";
    default:
        return wsr_dial_text(system_errno);
    }
}
