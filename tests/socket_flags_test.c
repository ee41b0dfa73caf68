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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_own_host_is_sent),
        cmocka_unit_test(hosts_that_are_none_or_too_many_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
