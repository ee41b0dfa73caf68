#include "uring_file.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

static int mark_open(struct wsr_uring_files *files, int fd)
{
    size_t at = (size_t)fd / 8;
    if (at >= files->bytes) {
        size_t room = (at + 1) * 2 + 64;
        uint8_t *grown = realloc(files->open, room);
        if (grown == NULL)
            return -ENOMEM;
        memset(grown + files->bytes, 0, room - files->bytes);
        files->open = grown;
        files->bytes = room;
    }
    files->open[at] |= (uint8_t)(1u << fd % 8);
    files->open_count++;
    return 0;
}

static bool is_open(const struct wsr_uring_files *files, size_t file)
{
    return file / 8 < files->bytes && (files->open[file / 8] & 1u << file % 8) != 0;
}

wsr_file wsr_uring_file_keep(struct wsr_uring_files *files, int fd)
{
    int rc = mark_open(files, fd);
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

int wsr_uring_file_make(const struct wsr_driver_setup *setup)
{
    bool inet = setup->family != AF_UNIX;
    int rc = 0;
    int fd = socket(setup->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (inet && setup->nodelay)
        rc = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (rc == 0 && setup->source != NULL) {
        /* The port is chosen when the peer is known: else all connections together get no more than 28,000 ports. */
        if (inet)
            rc = set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        if (rc == 0 && bind(fd, setup->source, setup->source_bytes) != 0)
            rc = -errno;
    }
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

wsr_file wsr_uring_file_open(struct wsr_uring_files *files, const struct wsr_driver_setup *setup)
{
    int fd = wsr_uring_file_make(setup);
    return fd < 0 ? fd : wsr_uring_file_keep(files, fd);
}

static int port_of(int fd, uint16_t *port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_storage room;
    } address = { .any = { .sa_family = AF_UNSPEC } };
    socklen_t bytes = sizeof address;

    if (getsockname(fd, &address.any, &bytes) != 0)
        return -errno;
    if (address.any.sa_family == AF_INET)
        *port = ntohs(address.in4.sin_port);
    else if (address.any.sa_family == AF_INET6)
        *port = ntohs(address.in6.sin6_port);
    else
        *port = 0;
    return 0;
}

wsr_file wsr_uring_file_listen(struct wsr_uring_files *files, const struct sockaddr *address, socklen_t address_bytes,
                               int backlog, uint16_t *port)
{
    int rc = 0;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (address->sa_family != AF_UNIX) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        if (rc == 0)                          /* accepted sockets inherit it */
            rc = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    if (rc == 0 && (bind(fd, address, address_bytes) != 0 || listen(fd, backlog) != 0))
        rc = -errno;
    if (rc == 0 && port != NULL)
        rc = port_of(fd, port);
    if (rc == 0)
        return wsr_uring_file_keep(files, fd);
    close(fd);
    return rc;
}

int wsr_uring_file_expect(struct wsr_uring_files *files, uint64_t token)
{
    if (files->accepts_count == files->accepts_room) {
        unsigned room = files->accepts_room * 2 + 4;
        uint64_t *grown = realloc(files->accepts, room * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        files->accepts = grown;
        files->accepts_room = room;
    }
    files->accepts[files->accepts_count++] = token;
    return 0;
}

bool wsr_uring_file_is_accepted(struct wsr_uring_files *files, const struct wsr_completion *done)
{
    for (unsigned i = 0; i < files->accepts_count; i++) {
        if (files->accepts[i] != done->token)
            continue;
        if ((done->flags & WSR_COMPLETION_MORE) == 0)
            files->accepts[i] = files->accepts[--files->accepts_count];
        return done->result >= 0;
    }
    return false;
}

void wsr_uring_file_close(struct wsr_uring_files *files, wsr_file file)
{
    assert(file >= 0 && is_open(files, (size_t)file));
    files->open[file / 8] &= (uint8_t)~(1u << file % 8);
    files->open_count--;
    close(file);
}

void wsr_uring_file_close_all(struct wsr_uring_files *files)
{
    for (size_t file = 0; file < files->bytes * 8; file++) {
        if (is_open(files, file))
            close((int)file);
    }
    free(files->open);
    free(files->accepts);
    *files = (struct wsr_uring_files){ 0 };
}
