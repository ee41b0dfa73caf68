/* What each path does, in the language of tests/support/peer.h. */
#include "tests/support/handlers.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static const struct peer_route routes[] = {
    { "/echo", "upgrade Sec-WebSocket-Protocol: $Sec-WebSocket-Protocol; echo" },
    { "/no-protocol", "upgrade; echo" },
    { "/origin", "upgrade; text $Origin; echo" },
    { "/referrer", "upgrade; text $Referer; echo" },
    { "/cookie", "upgrade; text $Cookie; echo" },
    { "/set-cookie", "upgrade Set-Cookie: ws_test=test|Set-Cookie: other=1; echo" },
    { "/basic-auth", "demand Authorization Basic Zm9vOmJhcg==; upgrade; echo" },
    { "/raw", "request; http HTTP/1.1 101 Switching Protocols:|connection: Upgrade|UPGRADE:WebSocket|"
              "Sec-WebSocket-Accept:   $accept|Server: none||; echo" },
    { "/slow-handshake", "request; hold; upgrade; echo" },
    { "/slow-close", "upgrade; expect close; hold; reply; fin" },
    { "/goodbye", "upgrade; expect text; close 1000; expect close; fin" },
    { "/goodbye-and-more", "upgrade; expect text; cork; close 1000; text late; ping; close 1001; uncork; expect close; "
                           "fin" },
    { "/slow-reader", "upgrade; sink; stop; hold; read; expect close; reply; fin" },
};

static uint64_t closes_awaited;

void handlers_each_with(void (*test)(struct client *client), const struct wsr_engine_options *options,
                        int receive_buffer_bytes)
{
    for (unsigned way = 0; way < 4; way++) {
        struct wsr_engine_options own = WSR_ENGINE_OPTIONS_INIT;
        struct client client = { .events_max = CLIENT_POLL_MAX, .uses_dispatch = way >= 2 };
        if (options != NULL)
            own = *options;
        own.workers_count = way % 2;
        closes_awaited = 0;
        client.peer = peer_start("upgrade; echo", receive_buffer_bytes);
        peer_routes(client.peer, routes, sizeof routes / sizeof routes[0]);
        int rc = wsr_engine_create(&client.engine, &own);
        if (rc != 0)
            fail_msg("wsr_engine_create: %s: %s", wsr_error_name(rc), wsr_error_text());
        test(&client);
        client_close(&client);
    }
}

void handlers_each(void (*test)(struct client *client))
{
    handlers_each_with(test, NULL, 0);
}

const char *handlers_url(struct client *client, const char *scheme, const char *rest)
{
    static char url[512];
    snprintf(url, sizeof url, "%s://127.0.0.1:%u%s", scheme, peer_port(client->peer), rest);
    return url;
}

int handlers_try(struct client *client, const char *url, const char *const *protocols, size_t protocols_count,
                 const struct wsr_socket_options *options, struct wsr_socket **socket)
{
    int rc = wsr_socket_open(client->engine, url, WSR_ZSTRING, protocols, protocols_count, options, socket);
    if (rc == 0)
        client_listen(client, *socket);
    return rc;
}

struct wsr_socket *handlers_connect(struct client *client, const char *path)
{
    struct wsr_socket *socket = NULL;
    const char *url = handlers_url(client, "ws", path);
    int rc = handlers_try(client, url, NULL, 0, NULL, &socket);
    if (rc != 0)
        fail_msg("%s: %s: %s", url, wsr_error_name(rc), wsr_error_text());
    return socket;
}

struct wsr_socket *handlers_connect_open(struct client *client, const char *path)
{
    struct wsr_socket *socket = handlers_connect(client, path);
    client_until(client, WSR_EVENT_OPEN, client->counts[WSR_EVENT_OPEN] + 1);
    return socket;
}

void handlers_until_close(struct client *client, const char *log)
{
    client_until(client, WSR_EVENT_CLOSE, ++closes_awaited);
    client_expect(client, log);
    client->log_bytes = 0;
    client->log[0] = '\0';
}
