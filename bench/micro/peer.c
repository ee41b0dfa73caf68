/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/frame.h"
#include "engine/handshake.h"
#include "peer_serve.h"
#include "peer_tls.h"

#define REQUEST_MAX 4096

static int cpu_cached[2] = { -1, -1 };

void wsr_peer_cpus(int *client, int *server)
{
    cpu_set_t set;
    /* Asked once, as pinning changes the answer. */
    if (cpu_cached[0] < 0) {
        CPU_ZERO(&set);
        if (sched_getaffinity(0, sizeof set, &set) != 0)
            CPU_SET(0, &set);
        for (int cpu = 0; cpu < CPU_SETSIZE && cpu_cached[1] < 0; cpu++) {
            if (CPU_ISSET((unsigned)cpu, &set))
                cpu_cached[cpu_cached[0] < 0 ? 0 : 1] = cpu;
        }
        if (cpu_cached[1] < 0)
            cpu_cached[1] = cpu_cached[0];
    }
    *client = cpu_cached[0];
    *server = cpu_cached[1];
}

void wsr_peer_pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        perror("wsring-micro: sched_setaffinity");
}

uint32_t wsr_peer_frame_bytes(uint32_t payload_bytes)
{
    return (uint32_t)wsr_frame_head_bytes(payload_bytes, false) + payload_bytes;
}

int wsr_peer_answer(char answer[WSR_PEER_ANSWER_CHARS], const char *request, const char *extensions)
{
    static const char field[] = "\r\nSec-WebSocket-Key:";
    char key[WSR_HANDSHAKE_KEY_CHARS + 1], accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1];
    const char *at = strcasestr(request, field);
    if (at == NULL)
        return 0;
    at += sizeof field - 1;
    at += strspn(at, " \t");
    if (strcspn(at, " \t\r") != WSR_HANDSHAKE_KEY_CHARS)
        return 0;
    memcpy(key, at, WSR_HANDSHAKE_KEY_CHARS);
    key[WSR_HANDSHAKE_KEY_CHARS] = '\0';
    if (wsr_handshake_accept(accept, key) != 0)
        return 0;
    int len = snprintf(answer, WSR_PEER_ANSWER_CHARS,
                       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n", accept,
                       extensions != NULL ? "Sec-WebSocket-Extensions: " : "", extensions != NULL ? extensions : "",
                       extensions != NULL ? "\r\n" : "");
    return len < WSR_PEER_ANSWER_CHARS ? len : 0;
}

/* Read one request and answer it. Returns false when the client went away. */
static bool shake_hands(int fd, const char *extensions)
{
    char request[REQUEST_MAX + 1], answer[WSR_PEER_ANSWER_CHARS];
    size_t used = 0;
    do {
        ssize_t got = recv(fd, request + used, REQUEST_MAX - used, 0);
        if (got <= 0)
            return false;
        used += (size_t)got;
        request[used] = '\0';
    } while (strstr(request, "\r\n\r\n") == NULL);
    int len = wsr_peer_answer(answer, request, extensions);
    return len > 0 && send(fd, answer, (size_t)len, MSG_NOSIGNAL) == len;
}

int wsr_peer_accept(int listener)
{
    static const int one = 1;
    int fd;
    do
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0)
        perror("wsring-micro: accept");
    else
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

int wsr_peer_gather(int listener, int *fds, uint32_t count, const char *extensions)
{
    for (uint32_t open_count = 0; open_count < count;) {
        int fd = wsr_peer_accept(listener);
        if (fd < 0)
            return -1;
        if (shake_hands(fd, extensions))
            fds[open_count++] = fd;
        else
            close(fd);
    }
    return 0;
}

static void serve_tls(int listener, const struct wsr_peer_options *options)
{
    struct wsr_peer_link *links = calloc(options->connections_count, sizeof *links);
    while (links != NULL && wsr_peer_tls_gather(listener, links, options->connections_count) == 0) {
        wsr_peer_tls_serve(options, links, options->connections_count);
        wsr_peer_tls_end(links, options->connections_count);
    }
}

/* The child: crowd after crowd, for ever. */
__attribute__((noreturn)) static void serve(int listener, const struct wsr_peer_options *options)
{
    int *fds = malloc(options->connections_count * sizeof *fds);
    if (options->is_tls)
        serve_tls(listener, options);
    while (!options->is_tls && fds != NULL &&
           wsr_peer_gather(listener, fds, options->connections_count, options->extensions) == 0) {
        wsr_peer_serve(options, fds, options->connections_count);
        for (uint32_t i = 0; i < options->connections_count; i++)
            close(fds[i]);
    }
    _exit(1);
}

int wsr_peer_listen(uint16_t *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        perror("wsring-micro: no listening socket");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

int wsr_peer_start(struct wsr_peer *peer, const struct wsr_peer_options *options)
{
    int client_cpu, server_cpu;
    wsr_peer_cpus(&client_cpu, &server_cpu);
    if (options->is_tls && wsr_bare_tls_ca_file() == NULL)
        return -1;
    int listener = wsr_peer_listen(&peer->port);
    if (listener < 0)
        return -1;
    fflush(NULL);
    pid_t parent = getpid();
    peer->pid = fork();
    if (peer->pid == 0) {
        /* A server that outlives its benchmark would disturb the next. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        wsr_peer_pin(server_cpu);
        serve(listener, options);
    }
    close(listener);
    if (peer->pid < 0 || clock_getcpuclockid(peer->pid, &peer->clock) != 0) {
        perror("wsring-micro: no server");
        if (peer->pid > 0)
            wsr_peer_stop(peer);
        return -1;
    }
    return 0;
}

void wsr_peer_stop(struct wsr_peer *peer)
{
    kill(peer->pid, SIGKILL);
    waitpid(peer->pid, NULL, 0);
}
