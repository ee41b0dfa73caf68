/* engine/conn_proxy: whose name is looked up, and what the proxy is told, on the real driver and through a proxy on a
 * real socket. getaddrinfo() is this file's.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/client.h"

#define NS_PER_MS 1000000u

/* ---- Names ---- */

/* A look-up of the held name waits here. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const char *held;
    char asked[256];               /* the names in order, a space behind each */
} scene = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void hold(const char *name)
{
    pthread_mutex_lock(&scene.lock);
    scene.held = name;
    pthread_cond_broadcast(&scene.changed);
    pthread_mutex_unlock(&scene.lock);
}

static const char *take_asked(char copy[256])
{
    pthread_mutex_lock(&scene.lock);
    memcpy(copy, scene.asked, 256);
    scene.asked[0] = '\0';
    pthread_mutex_unlock(&scene.lock);
    return copy;
}

/* One block, so that freeaddrinfo() below has one to free. */
struct answer {
    struct addrinfo infos[2];
    struct sockaddr_in addresses[2];
};

/* "none.test" does not exist; all others are 127.0.0.1, and then an address that is of no use. */
int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result)
{
    (void)service, (void)hints;
    pthread_mutex_lock(&scene.lock);
    size_t used = strlen(scene.asked);
    snprintf(scene.asked + used, sizeof scene.asked - used, "%s ", node);
    while (scene.held != NULL && strcmp(scene.held, node) == 0)
        pthread_cond_wait(&scene.changed, &scene.lock);
    pthread_mutex_unlock(&scene.lock);
    if (strcmp(node, "none.test") == 0)
        return EAI_NONAME;
    struct answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL)
        return EAI_MEMORY;
    for (size_t i = 0; i < 2; i++) {
        answer->addresses[i] = (struct sockaddr_in){ .sin_family = AF_INET,
                                                     .sin_addr.s_addr = htonl(i == 0 ? INADDR_LOOPBACK : 0x7F7F7F7F) };
        answer->infos[i] = (struct addrinfo){ .ai_family = AF_INET, .ai_socktype = SOCK_STREAM,
                                              .ai_addrlen = sizeof answer->addresses[i],
                                              .ai_addr = (struct sockaddr *)(void *)&answer->addresses[i] };
    }
    answer->infos[0].ai_next = &answer->infos[1];
    *result = &answer->infos[0];
    return 0;
}

void freeaddrinfo(struct addrinfo *result)
{
    free(result);
}

/* ---- A proxy ---- */

/* Takes one client after the other. Whatever it is asked for, it connects to the peer and passes bytes on. */
struct proxy {
    pthread_t thread;
    int listener;
    uint16_t port, peer_port;
    pthread_mutex_t lock;
    char asked[1024];              /* "CONNECT a:1 HTTP/1.1", or the SOCKS5 request in hexadecimal; a line each */
};

static bool read_all(int fd, void *to, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t got = read(fd, (char *)to + at, len - at);
        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const void *from, size_t len)
{
    return send(fd, from, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void note(struct proxy *proxy, const char *line)
{
    pthread_mutex_lock(&proxy->lock);
    size_t used = strlen(proxy->asked);
    snprintf(proxy->asked + used, sizeof proxy->asked - used, "%s\n", line);
    pthread_mutex_unlock(&proxy->lock);
}

static bool serve_http(struct proxy *proxy, int fd)
{
    static const char answer[] = "HTTP/1.0 200 Connection established\r\n\r\n";
    char head[512] = "C";
    size_t used = 1;
    while (strstr(head, "\r\n\r\n") == NULL) {
        if (used + 1 == sizeof head || !read_all(fd, head + used, 1))
            return false;
        head[++used] = '\0';
    }
    head[strcspn(head, "\r")] = '\0';
    note(proxy, head);
    return write_all(fd, answer, sizeof answer - 1);
}

static bool serve_socks(struct proxy *proxy, int fd)
{
    uint8_t greeting[2], in[300];
    char hex[2 * sizeof in + 1];
    if (!read_all(fd, greeting, 2) || !write_all(fd, "\x05\x00", 2) || !read_all(fd, in, 5))
        return false;
    size_t len = in[3] == 1 ? 10u : in[3] == 4 ? 22u : 7u + in[4];
    if (!read_all(fd, in + 5, len - 5))
        return false;
    for (size_t i = 0; i < len; i++)
        snprintf(hex + 2 * i, 3, "%02x", in[i]);
    note(proxy, hex);
    return write_all(fd, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", 10);
}

static void pass_on(int a, int b)
{
    struct pollfd fds[2] = { { .fd = a, .events = POLLIN }, { .fd = b, .events = POLLIN } };
    char bytes[4096];
    while (poll(fds, 2, -1) > 0) {
        for (size_t i = 0; i < 2; i++) {
            if (fds[i].revents == 0)
                continue;
            ssize_t got = read(fds[i].fd, bytes, sizeof bytes);
            if (got <= 0 || !write_all(fds[1 - i].fd, bytes, (size_t)got))
                return;
        }
    }
}

static void *run_proxy(void *argument)
{
    struct proxy *proxy = argument;
    for (int fd; (fd = accept(proxy->listener, NULL, NULL)) >= 0; close(fd)) {
        uint8_t first = 0;
        bool stands = read_all(fd, &first, 1) && (first == 5 ? serve_socks(proxy, fd) : serve_http(proxy, fd));
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(proxy->peer_port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int onward = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (stands && connect(onward, (struct sockaddr *)(void *)&to, sizeof to) == 0)
            pass_on(fd, onward);
        close(onward);
    }
    return NULL;
}

static void start_proxy(struct proxy *proxy, uint16_t peer_port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    memset(proxy, 0, sizeof *proxy);
    pthread_mutex_init(&proxy->lock, NULL);
    proxy->peer_port = peer_port;
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(proxy->listener, (struct sockaddr *)(void *)&address, sizeof address), 0);
    assert_int_equal(listen(proxy->listener, 16), 0);
    assert_int_equal(getsockname(proxy->listener, (struct sockaddr *)(void *)&address, &len), 0);
    proxy->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&proxy->thread, NULL, run_proxy, proxy), 0);
}

static void stop_proxy(struct proxy *proxy)
{
    shutdown(proxy->listener, SHUT_RD);        /* ends the accept() */
    pthread_join(proxy->thread, NULL);
    close(proxy->listener);
    pthread_mutex_destroy(&proxy->lock);
}

static struct wsr_socket *connect_through(struct client *client, const char *scheme, const char *proxy_host,
                                          uint16_t proxy_port, const char *host)
{
    char url[96], proxy[96];
    struct wsr_socket *socket;
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    snprintf(url, sizeof url, "ws://%s/chat", host);
    snprintf(proxy, sizeof proxy, "%s://%s:%u", scheme, proxy_host, proxy_port);
    options.proxy = proxy;
    assert_int_equal(wsr_socket_open(client->engine, url, WSR_ZSTRING, NULL, 0, &options, &socket), 0);
    client_listen(client, socket);
    return socket;
}

/* ---- Tests ---- */

/* What each scheme looks up here, and what it leaves to the proxy. URL-33: the request names the URL's host. */
static void look_up(struct client *client)
{
    static const struct { const char *scheme, *proxy, *host, *names, *asked; } rows[] = {
        { "http", "127.0.0.1", "server.test", "", "CONNECT server.test:80 HTTP/1.1\n" },
        { "http", "Proxy.test", "none.test", "proxy.test ", "CONNECT none.test:80 HTTP/1.1\n" },
        { "socks5h", "127.0.0.1", "server.test", "", "050100030b7365727665722e746573740050\n" },
        { "socks5h", "proxy.test", "none.test", "proxy.test ", "05010003096e6f6e652e746573740050\n" },
        { "socks5", "127.0.0.1", "server.test", "server.test ", "050100017f0000010050\n" },
        { "socks5", "proxy.test", "server.test", "server.test proxy.test ", "050100017f0000010050\n" },
        { "socks5", "proxy.test", "10.1.2.3", "proxy.test ", "050100010a0102030050\n" },
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct proxy proxy;
        char names[256];
        start_proxy(&proxy, peer_port(client->peer));
        take_asked(names);
        struct wsr_socket *socket = connect_through(client, rows[i].scheme, rows[i].proxy, proxy.port, rows[i].host);
        client_until(client, WSR_EVENT_OPEN, i + 1);
        assert_string_equal(take_asked(names), rows[i].names);
        assert_string_equal(peer_header(client->peer, i, "Host"), rows[i].host);
        assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
        client_until(client, WSR_EVENT_CLOSE, i + 1);
        assert_int_equal(client->last[WSR_EVENT_CLOSE].was_clean, 1);
        stop_proxy(&proxy);
        assert_string_equal(proxy.asked, rows[i].asked);
    }
}

static void each_scheme_looks_up_what_is_its_to_look_up(void **state)
{
    (void)state;
    client_each(look_up, NULL, "upgrade; echo");
}

/* F1: whose name it was is in the words. */
static void fail_to_look_up(struct client *client)
{
    static const struct { const char *scheme, *proxy, *host, *names, *word; } rows[] = {
        { "http", "none.test", "server.test", "none.test ", "the proxy's name" },
        { "socks5h", "none.test", "server.test", "none.test ", "the proxy's name" },
        { "socks5", "none.test", "server.test", "server.test none.test ", "the proxy's name" },
        { "socks5", "proxy.test", "none.test", "none.test ", "the host name" },
        { "socks5", "none.test", "none.test", "none.test ", "the host name" },
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char names[256];
        take_asked(names);
        connect_through(client, rows[i].scheme, rows[i].proxy, 1, rows[i].host);
        client_until(client, WSR_EVENT_CLOSE, i + 1);
        const struct wsr_event *close = &client->last[WSR_EVENT_CLOSE];
        assert_int_equal(close->stage, WSR_STAGE_LOOKUP);
        assert_non_null(strstr(close->text, rows[i].word));
        assert_string_equal(take_asked(names), rows[i].names);
    }
    assert_int_equal(client_statistics(client).sockets_live, 0);
}

static void a_name_that_does_not_resolve_is_error_and_1006(void **state)
{
    (void)state;
    client_each(fail_to_look_up, NULL, "upgrade; echo");
}

static bool was_asked(const char *names)
{
    pthread_mutex_lock(&scene.lock);
    bool was = strcmp(scene.asked, names) == 0;
    pthread_mutex_unlock(&scene.lock);
    return was;
}

/* The name that hangs, and the names asked for until then. */
static const struct { const char *held, *names; } hanging[] = {
    { "server.test", "server.test " }, { "proxy.test", "server.test proxy.test " },
};

/* F7, CLOSE-32: close() and destruction in the first and in the second look-up. */
static void end_while_looking_up(struct client *client)
{
    for (unsigned i = 0; i < 4; i++) {
        char names[256];
        bool closes = i < 2;
        client->log_bytes = 0;
        client->log[0] = '\0';
        take_asked(names);
        hold(hanging[i % 2].held);
        struct wsr_socket *socket = connect_through(client, "socks5", "proxy.test", 1, "server.test");
        while (!was_asked(hanging[i % 2].names))
            client_idle(client, 1);
        client_expect(client, "");
        if (closes) {
            assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
            client_until(client, WSR_EVENT_CLOSE, i + 1);
        } else {
            wsr_socket_destroy(socket);
        }
        hold(NULL);
        client_idle(client, 20);
        client_expect(client, closes ? "error\nclose 1006\n" : "");
        while (client_statistics(client).sockets_live > 0)
            client_idle(client, 1);
    }
    assert_int_equal(peer_connections(client->peer), 0);
}

static void ends_while_names_are_looked_up(void **state)
{
    (void)state;
    client_each(end_while_looking_up, NULL, "upgrade; echo");
}

/* HS-13 */
static void look_up_too_long(struct client *client)
{
    for (unsigned i = 0; i < 2; i++) {
        hold(hanging[i].held);
        connect_through(client, "socks5", "proxy.test", 1, "server.test");
        client_until(client, WSR_EVENT_CLOSE, i + 1);
        assert_int_equal(client->last[WSR_EVENT_ERROR].stage, WSR_STAGE_LOOKUP);
        assert_int_equal(client->last[WSR_EVENT_ERROR].system_errno, ETIMEDOUT);
        hold(NULL);
    }
    client_idle(client, 20);
    client_expect(client, "error\nclose 1006\nerror\nclose 1006\n");
}

static void the_opening_limit_ends_either_look_up(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.open_timeout_ns = 50u * NS_PER_MS;
    client_each(look_up_too_long, &options, "upgrade; echo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_scheme_looks_up_what_is_its_to_look_up),
        cmocka_unit_test(a_name_that_does_not_resolve_is_error_and_1006),
        cmocka_unit_test(ends_while_names_are_looked_up),
        cmocka_unit_test(the_opening_limit_ends_either_look_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
