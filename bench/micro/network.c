/* SPDX-License-Identifier: MIT */
#include "network.h"

#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define WINDOW_AT_FIRST 131072u       /* the kernel's default for a new connection */

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool raise_loopback(void)
{
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

const char *wsr_network_enclose(uint64_t window_bytes)
{
    char text[96];
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    /* Without the right to make one, a user namespace gives it. */
    if (own < 0 || (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)) {
        if (own >= 0)
            close(own);
        return "a network namespace is not allowed here";
    }
    uint64_t at_first = window_bytes < WINDOW_AT_FIRST ? window_bytes : WINDOW_AT_FIRST;
    snprintf(text, sizeof text, "4096 %" PRIu64 " %" PRIu64, at_first, window_bytes);
    bool ok = raise_loopback() && write_text("/proc/sys/net/ipv4/tcp_rmem", text);
    const char *why = ok || setns(own, CLONE_NEWNET) == 0 ? "" : "the old network could not be entered again";
    close(own);
    return ok ? "" : why[0] != '\0' ? why : "net.ipv4.tcp_rmem may not be written here";
}
