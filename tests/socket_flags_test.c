/* engine/socket: the flags of wsr_socket_options.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/client.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- WSR_SOCKET_OWN_HOST ---- */

static int try_headers(struct client *client, uint32_t flags, const struct wsr_header *headers, uint32_t count,
                       struct wsr_socket **socket)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.flags = flags;
    options.headers = headers;
    options.headers_count = count;
    return wsr_socket_open(client->engine, peer_url(client->peer), WSR_ZSTRING, NULL, 0, &options, socket);
}

/* HS-08, URL-33: one, whatever its case and place, is sent instead of the URL's; the URL stays what it was. */
static void send_own_host(struct client *client)
{
    struct wsr_socket *socket;
    char name[] = "hOST", value[] = "other.example:81", host[48];
    struct wsr_header headers[] = { { "X-First", "1" }, { name, value } };
    assert_int_equal(try_headers(client, WSR_SOCKET_OWN_HOST, headers, 2, &socket), 0);
    client_listen(client, socket);
    memset(name, '#', sizeof name - 1);
    memset(value, '#', sizeof value - 1);
    client_until(client, WSR_EVENT_OPEN, 1);
    assert_string_equal(peer_header(client->peer, 0, "Host"), "other.example:81");
    assert_string_equal(peer_header(client->peer, 0, "X-First"), "1");
    assert_string_equal(wsr_socket_url(socket), peer_url(client->peer));

    /* The flag allows a Host and asks for none. */
    snprintf(host, sizeof host, "127.0.0.1:%u", peer_port(client->peer));
    assert_int_equal(try_headers(client, WSR_SOCKET_OWN_HOST, headers, 1, &socket), 0);
    client_listen(client, socket);
    client_until(client, WSR_EVENT_OPEN, 2);
    assert_string_equal(peer_header(client->peer, 1, "Host"), host);
}

static void an_own_host_is_sent(void **state)
{
    (void)state;
    client_each(send_own_host, NULL, "upgrade; echo");
}

/* HS-08, F0 */
static void refuse_hosts(struct client *client)
{
    static const struct { uint32_t flags; struct wsr_header headers[2]; uint32_t count; const char *word; } rows[] = {
        { 0, { { "Host", "a" } }, 1, "belongs to the handshake" },
        { WSR_SOCKET_KEEP_RESPONSE, { { "Host", "a" } }, 1, "belongs to the handshake" },
        { WSR_SOCKET_OWN_HOST, { { "Host", "a" }, { "host", "a" } }, 2, "second Host" },
        { WSR_SOCKET_OWN_HOST, { { "Host", "" } }, 1, "HOST:PORT" },
        { WSR_SOCKET_OWN_HOST, { { "Host", NULL } }, 1, "HOST:PORT" },
        { WSR_SOCKET_OWN_HOST, { { "Host", "a b" } }, 1, "no space" },
        { WSR_SOCKET_OWN_HOST, { { "Host", "a,b" } }, 1, "comma" },
        { WSR_SOCKET_OWN_HOST, { { "Host", "a\r\nX: y" } }, 1, "control character" },
        { WSR_SOCKET_OWN_HOST, { { "X", "y" }, { "Host", "\x7f" } }, 2, "header number 1" },
        { WSR_SOCKET_OWN_HOST, { { "Host", "a" }, { "Upgrade", "x" } }, 2, "belongs to the handshake" },
        { WSR_SOCKET_OWN_HOST, { { "Connection", "x" } }, 1, "belongs to the handshake" },
        { WSR_SOCKET_OWN_HOST, { { "Sec-WebSocket-Key", "x" } }, 1, "belongs to the handshake" },
    };
    struct wsr_socket *const untouched = (struct wsr_socket *)(void *)client, *socket = untouched;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int rc = try_headers(client, rows[i].flags, rows[i].headers, rows[i].count, &socket);
        if (rc != WSR_ERR_SYNTAX || socket != untouched || strstr(wsr_error_text(), rows[i].word) == NULL)
            fail_msg("row %zu: %s: %s", i, wsr_error_name(rc), wsr_error_text());
    }
    client_idle(client, 20);
    assert_int_equal(peer_connections(client->peer), 0);
    assert_int_equal(client_statistics(client).sockets_live, 0);
}

static void hosts_that_are_none_or_too_many_are_refused(void **state)
{
    (void)state;
    client_each(refuse_hosts, NULL, "upgrade; echo");
}

/* ---- WSR_SOCKET_REFUSE_BAD_PORTS ---- */

/* In the words of the Standard's list, with ranges. */
static const struct { uint16_t first, last; } bad[] = {
    { 0, 1 }, { 7, 7 }, { 9, 9 }, { 11, 11 }, { 13, 13 }, { 15, 15 }, { 17, 17 }, { 19, 23 }, { 25, 25 }, { 37, 37 },
    { 42, 43 }, { 53, 53 }, { 69, 69 }, { 77, 77 }, { 79, 79 }, { 87, 87 }, { 95, 95 }, { 101, 104 }, { 109, 111 },
    { 113, 113 }, { 115, 115 }, { 117, 117 }, { 119, 119 }, { 123, 123 }, { 135, 135 }, { 137, 137 }, { 139, 139 },
    { 143, 143 }, { 161, 161 }, { 179, 179 }, { 389, 389 }, { 427, 427 }, { 465, 465 }, { 512, 515 }, { 526, 526 },
    { 530, 532 }, { 540, 540 }, { 548, 548 }, { 554, 554 }, { 556, 556 }, { 563, 563 }, { 587, 587 }, { 601, 601 },
    { 636, 636 }, { 989, 990 }, { 993, 993 }, { 995, 995 }, { 1719, 1720 }, { 1723, 1723 }, { 2049, 2049 },
    { 3659, 3659 }, { 4045, 4045 }, { 4190, 4190 }, { 5060, 5061 }, { 6000, 6000 }, { 6566, 6566 }, { 6665, 6669 },
    { 6679, 6679 }, { 6697, 6697 }, { 10080, 10080 },
};

static bool is_bad(unsigned port)
{
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        if (port >= bad[i].first && port <= bad[i].last)
            return true;
    }
    return false;
}

/* Try @host:@port, which the option connect_to sends to the peer. Whether it is open in the end. */
static bool try_port(struct client *client, const char *host, unsigned port, const char *connect_to)
{
    char url[64], address[32];
    struct wsr_socket *socket;
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    uint64_t opened = client->counts[WSR_EVENT_OPEN], closed = client->counts[WSR_EVENT_CLOSE];
    snprintf(url, sizeof url, "ws://%s:%u/", host, port);
    snprintf(address, sizeof address, "127.0.0.1:%u", peer_port(client->peer));
    options.flags = WSR_SOCKET_REFUSE_BAD_PORTS;
    options.connect_to = connect_to != NULL ? connect_to : address;
    if (wsr_socket_open(client->engine, url, WSR_ZSTRING, NULL, 0, &options, &socket) != 0)
        fail_msg("port %u: %s", port, wsr_error_text());
    client_listen(client, socket);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CONNECTING);
    while (client->counts[WSR_EVENT_OPEN] == opened && client->counts[WSR_EVENT_CLOSE] == closed)
        client_poll(client, 0, 50);
    if (client->counts[WSR_EVENT_OPEN] != opened)
        return true;
    assert_int_equal(client->counts[WSR_EVENT_ERROR], closed + 1);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].code, 1006);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].was_clean, 0);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].stage, WSR_STAGE_CONNECT);
    return false;
}

/* URL-36: all 83, and the next ones on both sides of each, which are open. */
static void try_ports(struct client *client)
{
    unsigned refused_count = 0, opened_count = 0;
    for (unsigned port = 0; port < 65536; port++) {
        bool is_beside = is_bad(port + 1) || (port > 0 && is_bad(port - 1));
        if (!is_bad(port) && !is_beside)
            continue;
        bool is_open = try_port(client, "127.0.0.1", port, NULL);
        if (is_open == is_bad(port))
            fail_msg("port %u", port);
        refused_count += !is_open;
        opened_count += is_open;
        if (is_open)
            continue;
        assert_int_equal(client->last[WSR_EVENT_CLOSE].system_errno, 0);
        assert_non_null(strstr(client->last[WSR_EVENT_CLOSE].text, "WSR_SOCKET_REFUSE_BAD_PORTS"));
    }
    assert_int_equal(refused_count, 83);
    assert_int_equal(peer_connections(client->peer), opened_count);
    assert_int_equal(client_statistics(client).sockets_failed, refused_count);
}

static void bad_ports_fail_as_events(void **state)
{
    (void)state;
    client_each(try_ports, NULL, "upgrade; echo");
}

/* URL-36: the URL's port counts, and it is judged before the name is looked up. */
static void try_port_of_url(struct client *client)
{
    char bad_address[] = "127.0.0.1:1";
    assert_false(try_port(client, "127.0.0.1", 8080, bad_address));      /* where nobody listens */
    assert_null(strstr(client->last[WSR_EVENT_CLOSE].text, "REFUSE_BAD_PORTS"));
    assert_false(try_port(client, "nowhere.invalid", 6667, NULL));
    assert_non_null(strstr(client->last[WSR_EVENT_CLOSE].text, "REFUSE_BAD_PORTS"));
    /* The default port is none of them. */
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", peer_port(client->peer));
    options.flags = WSR_SOCKET_REFUSE_BAD_PORTS;
    options.connect_to = address;
    assert_int_equal(wsr_socket_open(client->engine, "ws://a.example/", WSR_ZSTRING, NULL, 0, &options, &socket), 0);
    client_listen(client, socket);
    client_until(client, WSR_EVENT_OPEN, 1);
    /* Without connect_to nothing is looked up either. */
    options.connect_to = NULL;
    assert_int_equal(wsr_socket_open(client->engine, "ws://nowhere.invalid:25/", WSR_ZSTRING, NULL, 0, &options,
                                     &socket), 0);
    client_listen(client, socket);
    client_until(client, WSR_EVENT_CLOSE, 3);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].stage, WSR_STAGE_CONNECT);
}

static void the_port_of_the_url_counts(void **state)
{
    (void)state;
    client_each(try_port_of_url, NULL, "upgrade; echo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_own_host_is_sent),
        cmocka_unit_test(hosts_that_are_none_or_too_many_are_refused),
        cmocka_unit_test(bad_ports_fail_as_events),
        cmocka_unit_test(the_port_of_the_url_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
