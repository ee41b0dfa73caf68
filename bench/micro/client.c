/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OPEN_TIMEOUT_NS 10000000000ull
#define OPENING_MAX 512u          /* connections on their way at once: the server answers one after another */
#define HEAD_MAX 1024

/* ---- The engine's ---- */

static int refuse(const char *what)
{
    fprintf(stderr, "wsring-micro: %s: %s\n", what, wsr_error_text());
    return -1;
}

int wsr_client_open(struct wsr_client *client, uint16_t port, uint32_t count, enum wsr_wait wait)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.wait = wait;
    return wsr_client_open_with(client, port, count, &options);
}

int wsr_client_open_with(struct wsr_client *client, uint16_t port, uint32_t count,
                         const struct wsr_engine_options *options)
{
    return wsr_client_open_offering(client, port, count, options, "");
}

int wsr_client_open_offering(struct wsr_client *client, uint16_t port, uint32_t count,
                             const struct wsr_engine_options *options, const char *deflate)
{
    *client = (struct wsr_client){ .is_tls = options->tls_ca_file != NULL, .deflate = deflate };
    if (wsr_engine_create(&client->engine, options) != 0)
        return refuse("no engine");
    if (wsr_client_open_more(client, port, count) != 0) {
        wsr_client_close(client);
        return -1;
    }
    return 0;
}

void wsr_client_tls(struct wsr_engine_options *options, enum wsr_tls_records records)
{
    options->tls_ca_file = wsr_bare_tls_ca_file();
    options->tls_records = (uint32_t)records;
}

/* Take events until @pending sockets have opened. Only what servers send behind the handshake may come with them. */
static int await_open(struct wsr_client *client, uint32_t pending)
{
    struct wsr_event event;
    uint64_t deadline_ns = wsr_clock_now() + OPEN_TIMEOUT_NS;
    while (pending > 0) {
        int count = wsr_poll(client->engine, 0, &event, 1, OPEN_TIMEOUT_NS);
        if (count < 0)
            return refuse("wsr_poll");
        if (count > 0 && event.type == WSR_EVENT_OPEN)
            pending--;
        if ((count > 0 && event.type == WSR_EVENT_ERROR) || wsr_clock_now() > deadline_ns) {
            fprintf(stderr, "wsring-micro: a socket did not open: %s\n", count > 0 ? event.text : "timeout");
            return -1;
        }
    }
    return 0;
}

int wsr_client_open_more(struct wsr_client *client, uint16_t port, uint32_t more)
{
    char url[64];
    snprintf(url, sizeof url, "%s://127.0.0.1:%u/", client->is_tls ? "wss" : "ws", port);
    struct wsr_socket **grown = realloc(client->sockets, (client->count + more) * sizeof *grown);
    if (grown == NULL)
        return -1;
    client->sockets = grown;
    for (uint32_t opened = 0; opened < more;) {
        uint32_t wave = more - opened < OPENING_MAX ? more - opened : OPENING_MAX;
        for (uint32_t i = 0; i < wave; i++) {
            struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
            options.user = (void *)(uintptr_t)client->count;
            options.deflate = client->deflate;
            if (wsr_socket_open(client->engine, url, WSR_ZSTRING, NULL, 0, &options, &grown[client->count]) != 0)
                return refuse("no socket");
            wsr_socket_set_binary_type(grown[client->count], WSR_ARRAYBUFFER);
            client->count++;
        }
        if (await_open(client, wave) != 0)
            return -1;
        opened += wave;
    }
    return 0;
}

void wsr_client_close(struct wsr_client *client)
{
    wsr_engine_destroy(client->engine);
    free(client->sockets);
    *client = (struct wsr_client){ .count = 0 };
}

/* ---- Bare ones ---- */

/* Read over the head of the answer, and nothing behind it. */
static int skip_answer(int fd)
{
    char head[HEAD_MAX + 1];
    for (;;) {
        ssize_t got = recv(fd, head, HEAD_MAX, MSG_PEEK);
        if (got <= 0)
            return -1;
        head[got] = '\0';
        const char *end = strstr(head, "\r\n\r\n");
        size_t take = end != NULL ? (size_t)(end - head) + 4 : 0;
        if (end != NULL)
            return recv(fd, head, take, 0) == (ssize_t)take ? 0 : -1;
        if (got == HEAD_MAX)
            return -1;
    }
}

static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static int connect_tcp(uint16_t port)
{
    static const int one = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("wsring-micro: no connection");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

int wsr_client_connect_bare(uint16_t port)
{
    int fd = connect_tcp(port);
    if (fd >= 0 && (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)(sizeof request - 1) ||
                    skip_answer(fd) != 0)) {
        perror("wsring-micro: no upgrade");
        close(fd);
        return -1;
    }
    return fd;
}

/* The server's answer is one record. */
static bool skip_sealed_answer(struct wsr_bare_tls *tls, int fd)
{
    uint8_t in[HEAD_MAX];
    if (recv(fd, in, WSR_BARE_RECORD_HEADER_BYTES, MSG_WAITALL) != WSR_BARE_RECORD_HEADER_BYTES)
        return false;
    size_t whole = wsr_bare_record_bytes(in, WSR_BARE_RECORD_HEADER_BYTES);
    size_t left = whole - WSR_BARE_RECORD_HEADER_BYTES;
    return whole <= sizeof in && recv(fd, in + WSR_BARE_RECORD_HEADER_BYTES, left, MSG_WAITALL) == (ssize_t)left &&
           wsr_bare_record_open(&tls->in, in, whole) > 4;
}

int wsr_client_connect_tls(uint16_t port, struct wsr_bare_tls *tls)
{
    uint8_t sealed[sizeof request + WSR_BARE_RECORD_OVERHEAD];
    int fd = connect_tcp(port);
    if (fd < 0)
        return -1;
    bool ok = wsr_bare_tls_connect(tls, fd) == 0;
    if (ok) {
        ssize_t bytes = (ssize_t)wsr_bare_record_seal(&tls->out, request, sizeof request - 1, sealed);
        ok = send(fd, sealed, (size_t)bytes, MSG_NOSIGNAL) == bytes && skip_sealed_answer(tls, fd);
    }
    if (ok)
        return fd;
    fprintf(stderr, "wsring-micro: no connection over TLS\n");
    wsr_bare_tls_end(tls);
    close(fd);
    return -1;
}

int *wsr_client_connect_crowd(uint16_t port, uint32_t count)
{
    int *fds = malloc(count * sizeof *fds);
    for (uint32_t i = 0; fds != NULL && i < count; i++) {
        fds[i] = wsr_client_connect_bare(port);
        if (fds[i] < 0) {
            wsr_client_close_crowd(fds, i);
            return NULL;
        }
    }
    return fds;
}

void wsr_client_close_crowd(int *fds, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        close(fds[i]);
    free(fds);
}

/* ---- The slice ---- */

void wsr_meter_begin(struct wsr_meter *meter, const struct wsr_peer *peer)
{
    meter->has_server = peer != NULL;
    if (meter->has_server) {
        meter->server = peer->clock;
        meter->server_ns = wsr_clock_read(meter->server);
    }
    meter->client_ns = wsr_clock_read(CLOCK_PROCESS_CPUTIME_ID);
    meter->begin_ns = wsr_clock_now();
}

uint64_t wsr_meter_end(const struct wsr_meter *meter, struct wsr_row_measure *out, uint64_t *client_ns)
{
    uint64_t elapsed_ns = wsr_clock_now() - meter->begin_ns;
    *client_ns = wsr_clock_read(CLOCK_PROCESS_CPUTIME_ID) - meter->client_ns;
    out->client_busy = (double)*client_ns / (double)elapsed_ns;
    out->server_busy = WSR_ROW_BUSY_UNKNOWN;
    if (meter->has_server)
        out->server_busy = (double)(wsr_clock_read(meter->server) - meter->server_ns) / (double)elapsed_ns;
    return elapsed_ns;
}
