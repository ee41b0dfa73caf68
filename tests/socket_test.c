/* engine/socket.c: opening, reading and destroying sockets, on the real driver.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/client.h"

#define TALK "upgrade Sec-WebSocket-Protocol: chat; hold; text hello; close 1000 bye; expect close; fin"

static struct wsr_socket *open_url(struct client *client, const char *url, const struct wsr_socket_options *options)
{
    struct wsr_socket *socket = NULL;
    int rc = wsr_socket_open(client->engine, url, WSR_ZSTRING, NULL, 0, options, &socket);
    if (rc != 0)
        fail_msg("%s: %s: %s", url, wsr_error_name(rc), wsr_error_text());
    client_listen(client, socket);
    return socket;
}

/* ---- Getters ---- */

static void getters_before_open(struct client *client, const struct wsr_socket *socket, void *user)
{
    char origin[48];
    snprintf(origin, sizeof origin, "ws://127.0.0.1:%u", peer_port(client->peer));
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CONNECTING);
    assert_string_equal(wsr_socket_url(socket), peer_url(client->peer));
    assert_string_equal(wsr_socket_origin(socket), origin);
    assert_string_equal(wsr_socket_protocol(socket), "");
    assert_string_equal(wsr_socket_extensions(socket), "");
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
    assert_int_equal(wsr_socket_binary_type(socket), WSR_BLOB);
    assert_ptr_equal(wsr_socket_user(socket), user);
    assert_int_equal(wsr_socket_ring(socket), 0);
}

/* URL-30, URL-35, EVT-05, BUF-02, MSG-03 */
static void what_can_be_read_through_a_life(struct client *client)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    static const char *const protocols[] = { "news", "chat" };
    struct wsr_socket *socket;
    int mine, other;
    options.user = &mine;
    assert_int_equal(wsr_socket_open(client->engine, peer_url(client->peer), WSR_ZSTRING, protocols, 2, &options,
                                     &socket), 0);
    client_listen(client, socket);
    getters_before_open(client, socket, &mine);
    client_sleep_ms(20);
    assert_string_equal(wsr_socket_protocol(socket), "");       /* nothing changes until an event is taken */
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CONNECTING);

    client_until(client, WSR_EVENT_OPEN, 1);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_OPEN);
    assert_int_equal(client_statistics(client).sends, 1);       /* HS-01: the request is one write */
    assert_string_equal(wsr_socket_protocol(socket), "chat");
    assert_string_equal(wsr_socket_extensions(socket), "");
    wsr_socket_set_user(socket, &other);
    assert_ptr_equal(wsr_socket_user(socket), &other);
    peer_go(client->peer);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
    assert_string_equal(wsr_socket_protocol(socket), "chat");
    assert_string_equal(wsr_socket_url(socket), peer_url(client->peer));
    client_expect(client, "open\ntext 5 hello\nclose 1000 clean bye\n");
    assert_string_equal(peer_header(client->peer, 0, "Sec-WebSocket-Protocol"), "news, chat");
    wsr_socket_destroy(socket);
}

static void getters_through_a_life(void **state)
{
    (void)state;
    client_each(what_can_be_read_through_a_life, NULL, TALK);
}

/* MSG-03, MSG-04 */
static void set_binary_types(struct client *client)
{
    static const int bad[] = { 2, 3, -1, 255, 256, 257, INT32_MAX };
    struct wsr_socket *socket = client_connect(client);
    for (unsigned state = WSR_CONNECTING; state <= WSR_CLOSED; state++) {
        if (state == WSR_OPEN)
            client_until(client, WSR_EVENT_OPEN, 1);
        else if (state == WSR_CLOSING)
            wsr_close(socket, 0, NULL, 0);
        else if (state == WSR_CLOSED)
            client_until(client, WSR_EVENT_CLOSE, 1);
        assert_int_equal(wsr_socket_ready_state(socket), state);
        for (int type = WSR_ARRAYBUFFER; type >= WSR_BLOB; type--) {
            wsr_socket_set_binary_type(socket, (enum wsr_binary_type)type);
            assert_int_equal(wsr_socket_binary_type(socket), type);
            for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                wsr_socket_set_binary_type(socket, (enum wsr_binary_type)bad[i]);
                assert_int_equal(wsr_socket_binary_type(socket), type);
            }
        }
    }
}

static void binary_type_in_every_state_and_no_other_value(void **state)
{
    (void)state;
    client_each(set_binary_types, NULL, "upgrade; echo");
}

/* ---- What is refused ---- */

#define WITH(...) { .size = sizeof (struct wsr_socket_options), __VA_ARGS__ }

/* F0, PROTO-07, URL-01, 05, 11, HS-08: no object, no connection, no event */
static void a_refused_open_leaves_nothing(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; echo");
    struct wsr_socket *const untouched = (struct wsr_socket *)(void *)&client, *socket = untouched;
    static const char *const twice[] = { "a", "a" }, *const empty[] = { "" }, *const comma[] = { "a, b" };
    static const struct wsr_header host = { "Host", "x" }, bad_name = { "a b", "x" }, bad_value = { "A", "x\r\nB: y" };
    const struct {
        const char *url;
        const char *const *protocols;
        size_t protocols_count;
        int error;
        struct wsr_socket_options options;
    } rows[] = {
        { "ftp://127.0.0.1/", NULL, 0, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
        { "ws://127.0.0.1/#x", NULL, 0, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
        { "ws://", NULL, 0, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
        { "/relative", NULL, 0, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
        { "", NULL, 0, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.tls_name = "h") },
        { "wss://127.0.0.1/", NULL, 0, WSR_ERR_ARGUMENT, WITH(.tls_name = "") },
        { "wss://127.0.0.1/", NULL, 0, WSR_ERR_ARGUMENT, WITH(.tls_name = "a b") },
        { NULL, twice, 2, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
        { NULL, empty, 1, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
        { NULL, comma, 1, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
        { "ws://127.0.0.1/#x", twice, 2, WSR_ERR_SYNTAX, WSR_SOCKET_OPTIONS_INIT },
        { NULL, NULL, 1, WSR_ERR_ARGUMENT, WSR_SOCKET_OPTIONS_INIT },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.flags = 1u << 31) },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.flags = 1u << 31) },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.worker = 2) },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.worker = UINT32_MAX) },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.headers_count = 1) },
        { NULL, NULL, 0, WSR_ERR_SYNTAX, WITH(.headers_count = 1, .headers = &host) },
        { NULL, NULL, 0, WSR_ERR_SYNTAX, WITH(.headers_count = 1, .headers = &bad_name) },
        { NULL, NULL, 0, WSR_ERR_SYNTAX, WITH(.headers_count = 1, .headers = &bad_value) },
        { NULL, NULL, 0, WSR_ERR_SYNTAX, WITH(.base_url = "not a URL") },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.connect_to = "localhost:80") },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.connect_to = "127.0.0.1") },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.connect_to = "127.0.0.1:65536") },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.connect_to = "::1:80") },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.connect_to = "") },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.source_address = "localhost") },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.source_address = "") },
        { NULL, NULL, 0, WSR_ERR_ARGUMENT, WITH(.source_address = "127.0.0.1:80") },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *url = rows[i].url != NULL ? rows[i].url : peer_url(client.peer);
        int rc = wsr_socket_open(client.engine, url, WSR_ZSTRING, rows[i].protocols, rows[i].protocols_count,
                                 &rows[i].options, &socket);
        if (rc != rows[i].error || socket != untouched || wsr_error_text()[0] == '\0')
            fail_msg("row %zu: %s", i, wsr_error_name(rc));
    }
    /* PROTO-07: of two faults the URL's is told. */
    char text[256];
    assert_int_equal(wsr_socket_open(client.engine, "ws://h/#x", WSR_ZSTRING, NULL, 0, NULL, &socket), WSR_ERR_SYNTAX);
    snprintf(text, sizeof text, "%s", wsr_error_text());
    assert_int_equal(wsr_socket_open(client.engine, "ws://h/#x", WSR_ZSTRING, twice, 2, NULL, &socket), WSR_ERR_SYNTAX);
    assert_string_equal(wsr_error_text(), text);
    assert_int_equal(wsr_socket_open(NULL, "ws://h/", WSR_ZSTRING, NULL, 0, NULL, &socket), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_socket_open(client.engine, NULL, 0, NULL, 0, NULL, &socket), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_socket_open(client.engine, "ws://h/", WSR_ZSTRING, NULL, 0, NULL, NULL), WSR_ERR_ARGUMENT);
    client_idle(&client, 50);
    client_expect(&client, "");
    assert_int_equal(peer_connections(client.peer), 0);
    assert_int_equal(client_statistics(&client).sockets_live, 0);
    client_close(&client);
}

/* ---- Options ---- */

/* URL-10: the length counts, not a NUL */
static void the_url_is_as_long_as_its_length_says(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; echo");
    struct wsr_socket *socket;
    char url[64];
    size_t len = (size_t)snprintf(url, sizeof url, "%s.and-more", peer_url(client.peer)) - strlen(".and-more");
    assert_int_equal(wsr_socket_open(client.engine, url, len, NULL, 0, NULL, &socket), 0);
    assert_string_equal(wsr_socket_url(socket), peer_url(client.peer));
    url[len] = '\0';
    assert_int_equal(wsr_socket_open(client.engine, url, len + 2, NULL, 0, NULL, &socket), 0);
    assert_string_equal(wsr_socket_url(socket) + len, "%00a");
    client_close(&client);
}

static void headers_are_sent_and_copied(struct client *client)
{
    char name[] = "X-Token", value[] = "secret";
    struct wsr_header headers[] = { { name, value }, { "Cookie", "a=b" } };
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.headers = headers;
    options.headers_count = 2;
    client_connect_with(client, &options);
    memset(name, '#', sizeof name - 1);
    memset(value, '#', sizeof value - 1);
    headers[0] = (struct wsr_header){ NULL, NULL };
    client_until(client, WSR_EVENT_OPEN, 1);
    assert_string_equal(peer_header(client->peer, 0, "X-Token"), "secret");
    assert_string_equal(peer_header(client->peer, 0, "Cookie"), "a=b");
    assert_string_equal(peer_header(client->peer, 0, "X-Other"), "");
}

/* HS-08 */
static void option_headers(void **state)
{
    (void)state;
    client_each(headers_are_sent_and_copied, NULL, "upgrade; echo");
}

/* URL-04 */
static void option_base_url(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; echo");
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    char base[64], expected[64];
    snprintf(base, sizeof base, "http://127.0.0.1:%u/a/b/c?q", peer_port(client.peer));
    snprintf(expected, sizeof expected, "ws://127.0.0.1:%u/a/x?y", peer_port(client.peer));
    options.base_url = base;
    struct wsr_socket *socket = open_url(&client, "../x?y", &options);
    memset(base, '#', sizeof base - 1);
    assert_string_equal(wsr_socket_url(socket), expected);
    client_until(&client, WSR_EVENT_OPEN, 1);
    peer_expect(client.peer, 0, "request GET /a/x?y HTTP/1.1\n");
    client_close(&client);
}

/* OQ-21, URL-33: the address is another, the request names the URL's host */
static void option_connect_to(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; echo");
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", peer_port(client.peer));
    options.connect_to = address;
    struct wsr_socket *socket = open_url(&client, "ws://nowhere.invalid:99/p", &options);
    client_until(&client, WSR_EVENT_OPEN, 1);
    assert_string_equal(wsr_socket_url(socket), "ws://nowhere.invalid:99/p");
    assert_string_equal(peer_header(client.peer, 0, "Host"), "nowhere.invalid:99");

    /* Nobody listens there: the look-up of the name is not tried either. */
    snprintf(address, sizeof address, "127.0.0.1:%u", peer_dead_port());
    open_url(&client, peer_url(client.peer), &options);
    client_until(&client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(client.last[WSR_EVENT_ERROR].stage, WSR_STAGE_CONNECT);
    assert_int_equal(client.last[WSR_EVENT_ERROR].system_errno, ECONNREFUSED);
    assert_int_equal(peer_connections(client.peer), 1);
    client_close(&client);
}

static void option_source_address(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; echo");
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    static const char *const sources[] = { "127.0.0.2", NULL, "127.0.0.3" };
    for (unsigned i = 0; i < 3; i++) {
        options.source_address = sources[i];
        client_connect_with(&client, &options);
        client_until(&client, WSR_EVENT_OPEN, i + 1);
        assert_string_equal(peer_from(client.peer, i), sources[i] != NULL ? sources[i] : "127.0.0.1");
    }
    /* Not this machine's: an asynchronous failure with the kernel's errno (F2). */
    options.source_address = "192.0.2.1";
    client_connect_with(&client, &options);
    client_until(&client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(client.last[WSR_EVENT_CLOSE].system_errno, EADDRNOTAVAIL);
    client_close(&client);
}

static void option_worker(void **state)
{
    (void)state;
    struct client client;
    struct wsr_engine_options engine_options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    engine_options.workers_count = 3;
    client_open(&client, &engine_options, "upgrade; echo");
    for (uint32_t worker = 3; worker > 0; worker--) {
        options.worker = worker;
        assert_int_equal(wsr_socket_ring(client_connect_with(&client, &options)), worker - 1);
    }
    /* With one on each, the next three go to the least loaded: one on each again, then the fullest is passed over. */
    unsigned per_ring[3] = { 0 };
    for (unsigned i = 0; i < 3; i++)
        per_ring[wsr_socket_ring(client_connect(&client))]++;
    assert_true(per_ring[0] == 1 && per_ring[1] == 1 && per_ring[2] == 1);
    options.worker = 2;
    client_connect_with(&client, &options);
    for (unsigned i = 0; i < 2; i++)
        assert_int_not_equal(wsr_socket_ring(client_connect(&client)), 1);
    client_until(&client, WSR_EVENT_OPEN, 9);
    client_close(&client);
}

/* ---- States in handlers ---- */

static void check_state(struct client *client, const struct wsr_event *event)
{
    (void)client;
    static const enum wsr_ready_state seen[] = {
        [WSR_EVENT_OPEN] = WSR_OPEN, [WSR_EVENT_MESSAGE] = WSR_OPEN, [WSR_EVENT_ERROR] = WSR_CLOSED,
        [WSR_EVENT_CLOSE] = WSR_CLOSED,
    };
    assert_int_equal(wsr_socket_ready_state(event->socket), seen[event->type]);
}

/* EVT-02 to 04, WPT readyState/006 to 008, events/015. EVT-18: with a worker, the failure is found on its thread. */
static void see_states(struct client *client)
{
    for (unsigned i = 0; i < 4; i++) {
        client->uses_dispatch = i % 2 != 0;
        client->events_max = i < 2 ? 1 : CLIENT_POLL_MAX;
        client->react = check_state;
        client->log_bytes = 0;
        client->counts[WSR_EVENT_CLOSE] = 0;
        client_connect(client);
        client_until(client, WSR_EVENT_CLOSE, 1);
        client_expect(client, "open\ntext 1 0\ntext 1 1\nerror\nclose 1006\n");
    }
}

static void ready_state_in_every_handler(void **state)
{
    (void)state;
    client_each(see_states, NULL, "upgrade; cork; texts 2; raw 8300; uncork; expect close; fin");
}

/* F2: error and close, never open */
static void refuse_connection(struct client *client)
{
    char url[48];
    snprintf(url, sizeof url, "ws://127.0.0.1:%u/", peer_dead_port());
    client->react = check_state;
    open_url(client, url, NULL);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "error\nclose 1006\n");
    assert_int_equal(client->last[WSR_EVENT_ERROR].system_errno, ECONNREFUSED);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].stage, WSR_STAGE_CONNECT);
    assert_true(client->last[WSR_EVENT_ERROR].text[0] != '\0');
}

static void a_refused_connection_is_told_with_its_errno(void **state)
{
    (void)state;
    client_each(refuse_connection, NULL, "upgrade; echo");
}

/* URL-36, OQ-5: port 0 fails as an event. A port that browsers block is one like any other. */
static void connect_to_odd_ports(struct client *client)
{
    const struct wsr_socket *zero = open_url(client, "ws://127.0.0.1:0/", NULL);
    client_expect(client, "");
    assert_int_equal(wsr_socket_ready_state(zero), WSR_CONNECTING);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "error\nclose 1006\n");
    assert_int_equal(client->last[WSR_EVENT_CLOSE].stage, WSR_STAGE_CONNECT);

    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", peer_port(client->peer));
    options.connect_to = address;
    open_url(client, "ws://127.0.0.1:6667/", &options);
    client_until(client, WSR_EVENT_OPEN, 1);
    assert_string_equal(peer_header(client->peer, 0, "Host"), "127.0.0.1:6667");
}

static void odd_ports(void **state)
{
    (void)state;
    client_each(connect_to_odd_ports, NULL, "upgrade; echo");
}

/* RESP-03: status and stage of an answer that is no 101 */
static void answer_404(struct client *client)
{
    client_connect(client);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "error\nclose 1006\n");
    assert_int_equal(client->last[WSR_EVENT_ERROR].http_status, 404);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].http_status, 404);
    assert_int_equal(client->last[WSR_EVENT_ERROR].stage, WSR_STAGE_UPGRADE);
}

static void an_answer_that_is_no_101_is_told_with_its_status(void **state)
{
    (void)state;
    client_each(answer_404, NULL, "request; http HTTP/1.1 404 Not Found|Content-Length: 0||; fin");
}

/* EVT-16, WPT old constructor/013 */
static void connect_25(struct client *client)
{
    struct wsr_socket *sockets[25];
    for (unsigned i = 0; i < 25; i++) {
        sockets[i] = client_connect(client);
        wsr_socket_set_user(sockets[i], &sockets[i]);
    }
    client_until(client, WSR_EVENT_CLOSE, 25);
    client_idle(client, 30);
    assert_int_equal(client->counts[WSR_EVENT_OPEN], 25);
    assert_int_equal(client->counts[WSR_EVENT_MESSAGE], 25);
    assert_int_equal(client->counts[WSR_EVENT_CLOSE], 25);
    assert_int_equal(client->counts[WSR_EVENT_ERROR], 0);
    struct wsr_engine_statistics statistics = client_statistics(client);
    assert_int_equal(statistics.sockets_opened, 25);
    assert_int_equal(statistics.messages_received, 25);
}

static void twenty_five_sockets_make_75_events(void **state)
{
    (void)state;
    client_each(connect_25, NULL, "upgrade; text hello; close 1000; expect close; fin");
}

/* ---- Opening from many threads ---- */

#define OPENERS_COUNT 8
#define PER_OPENER_COUNT 12

struct opener {
    pthread_t thread;
    struct client *client;
    struct wsr_socket *sockets[PER_OPENER_COUNT];
    unsigned refused_count;
};

static void *open_some(void *context)
{
    struct opener *opener = context;
    struct wsr_engine *engine = opener->client->engine;
    const char *url = peer_url(opener->client->peer);
    for (unsigned i = 0; i < PER_OPENER_COUNT; i++) {
        struct wsr_socket **socket = &opener->sockets[i];
        /* Each also closes: some before the open event is taken, the others in its handler. */
        if (wsr_socket_open(engine, url, WSR_ZSTRING, NULL, 0, NULL, socket) != 0)
            opener->refused_count++;
        else if (i % 3 == 0)
            wsr_close(*socket, 1000, NULL, 0);
    }
    return NULL;
}

static void close_opened(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type == WSR_EVENT_OPEN)
        assert_int_equal(wsr_close(event->socket, 1000, NULL, 0), 0);
}

static void open_from_threads(struct client *client)
{
    struct opener openers[OPENERS_COUNT] = { 0 };
    client->react = close_opened;
    for (unsigned i = 0; i < OPENERS_COUNT; i++) {
        openers[i].client = client;
        assert_int_equal(pthread_create(&openers[i].thread, NULL, open_some, &openers[i]), 0);
    }
    client_until(client, WSR_EVENT_CLOSE, OPENERS_COUNT * PER_OPENER_COUNT);
    for (unsigned i = 0; i < OPENERS_COUNT; i++) {
        pthread_join(openers[i].thread, NULL);
        assert_int_equal(openers[i].refused_count, 0);
        for (unsigned k = 0; k < PER_OPENER_COUNT; k++) {
            assert_int_equal(wsr_socket_ready_state(openers[i].sockets[k]), WSR_CLOSED);
            wsr_socket_destroy(openers[i].sockets[k]);
        }
    }
    client_idle(client, 10);
    assert_int_equal(client->counts[WSR_EVENT_CLOSE], OPENERS_COUNT * PER_OPENER_COUNT);
    assert_true(client->counts[WSR_EVENT_OPEN] + client->counts[WSR_EVENT_ERROR] == OPENERS_COUNT * PER_OPENER_COUNT);
}

static void eight_threads_open_and_close_sockets(void **state)
{
    (void)state;
    client_each(open_from_threads, NULL, "upgrade; echo");
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    options.workers_count = 3;
    client_open(&client, &options, "upgrade; echo");
    open_from_threads(&client);
    client_close(&client);
}

/* ---- Destroying ---- */

/* CLOSE-32: at the other end, no more events here */
static void destroy_in_every_state(struct client *client)
{
    wsr_socket_destroy(NULL);

    peer_script(client->peer, "request; hold; upgrade; text late");
    struct wsr_socket *connecting = client_connect(client);
    client_until_peer(client, 0, "request");
    wsr_socket_destroy(connecting);
    client_until_peer(client, 0, "fin");

    peer_script(client->peer, "upgrade; echo");
    struct wsr_socket *open = client_connect_open(client);
    wsr_socket_destroy(open);
    client_until_peer(client, 1, "fin");
    peer_expect(client->peer, 1, "request GET /chat HTTP/1.1\nclose 1001\nfin\n");

    struct wsr_socket *closing = client_connect_open(client);
    assert_int_equal(wsr_close(closing, 3001, "done", WSR_ZSTRING), 0);
    wsr_socket_destroy(closing);
    client_until_peer(client, 2, "fin");
    peer_expect(client->peer, 2, "request GET /chat HTTP/1.1\nclose 3001 done\nfin\n");

    struct wsr_socket *closed = client_connect_open(client);
    assert_int_equal(wsr_close(closed, 0, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, 1);
    wsr_socket_destroy(closed);
    client_idle(client, 10);
    client_expect(client, "open\nopen\nopen\nclose 1005 clean\n");
    for (unsigned i = 0; i < 100 && client_statistics(client).sockets_live > 0; i++)
        client_idle(client, 10);
    assert_int_equal(client_statistics(client).sockets_live, 0);
}

static void destroying_in_every_state(void **state)
{
    (void)state;
    client_each(destroy_in_every_state, NULL, "");
}

static void destroy_its_own(struct client *client, const struct wsr_event *event)
{
    if (event->type == *(const unsigned *)client->context) {
        wsr_socket_destroy(event->socket);
        wsr_socket_destroy(event->socket);              /* while it is still there, twice is once */
    }
}

/* EVT-14, WPT remove-own-iframe-during-onerror */
static void destroy_in_own_handlers(struct client *client)
{
    client->uses_dispatch = true;
    client->react = destroy_its_own;
    for (unsigned type = WSR_EVENT_OPEN; type <= WSR_EVENT_CLOSE; type++) {
        static const char *const logs[] = { NULL, "open\n", "open\ntext 1 0\n", "open\ntext 1 0\ntext 1 1\nerror\n",
                                            "open\ntext 1 0\ntext 1 1\nerror\nclose 1006\n" };
        client->context = &type;
        client->log_bytes = 0;
        client->log[0] = '\0';
        client_connect(client);
        client_until(client, (enum wsr_event_type)type, client->counts[type] + 1);
        client_idle(client, 20);
        client_expect(client, logs[type]);
    }
}

static void destroying_in_its_own_handlers(void **state)
{
    (void)state;
    client_each(destroy_in_own_handlers, NULL, "upgrade; cork; texts 2; raw 8300; uncork; expect close; fin");
}

static struct wsr_socket *pair[2];

static void destroy_the_other(struct client *client, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    unsigned other = event->socket == pair[0];
    if (pair[other] != NULL)
        wsr_socket_destroy(pair[other]);
    pair[other] = NULL;
    client->react = NULL;
}

/* EVT-14: what waits of the other is dropped, in a poll's array it is the caller's to skip */
static void destroy_in_anothers_handler(struct client *client)
{
    client->uses_dispatch = true;
    pair[0] = client_connect_open(client);
    pair[1] = client_connect_open(client);
    client->react = destroy_the_other;
    peer_go(client->peer);
    client_sleep_ms(50);                                /* messages of both wait now */
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_idle(client, 30);
    assert_int_equal(client->counts[WSR_EVENT_CLOSE], 1);
    assert_int_equal(client->counts[WSR_EVENT_ERROR], 0);
}

static void destroying_another_inside_a_handler(void **state)
{
    (void)state;
    client_each(destroy_in_anothers_handler, NULL, "upgrade; hold; texts 50; close 1000; expect close; fin");
}

/* Slots are used again: thousands of sockets one after the other through a few places. */
static void reuse_places(struct client *client)
{
    for (unsigned i = 0; i < 60; i++) {
        struct wsr_socket *first = client_connect(client), *second = client_connect(client);
        if (i % 3 == 0) {
            client_until(client, WSR_EVENT_OPEN, client->counts[WSR_EVENT_OPEN] + 1);
        } else if (i % 3 == 1) {
            wsr_close(first, 0, NULL, 0);
            client_poll(client, 0, 1);
        }
        wsr_socket_destroy(first);
        wsr_socket_destroy(second);
        for (unsigned wait = 0; wait < 1000 && client_statistics(client).sockets_live > 0; wait++)
            client_poll(client, 0, 10);
        assert_int_equal(client_statistics(client).sockets_live, 0);
    }
}

static void places_are_used_again(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.sockets_max = 2;
    client_each(reuse_places, &options, "upgrade; echo");
}

/* ---- bufferedAmount ---- */

static bool is_drained(struct client *client)
{
    return wsr_socket_buffered_amount(client->context) == 0;
}

/* BUF-01, 03, 04, WPT bufferedAmount-getting, -large, -unicode */
static void buffer_amounts(struct client *client)
{
    static const struct {
        const char *text;
        unsigned sum;
    } rows[] = { { "x", 1 }, { "\xC3\xA5", 3 }, { "\xE5\x8C\xB6", 6 }, { "\xF0\x90\x91\xBE", 10 } };
    struct wsr_socket *socket = client_connect_open(client);
    static char large[65000];
    memset(large, 'y', sizeof large);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(wsr_send(socket, WSR_TEXT, rows[i].text, strlen(rows[i].text)), 0);
            assert_int_equal(wsr_socket_buffered_amount(socket), rows[i].sum);
        }
        assert_int_equal(wsr_send(socket, WSR_BINARY, large, sizeof large), 0);
        client_sleep_ms(1);                             /* it may well have left: not seen before the next poll */
        assert_int_equal(wsr_socket_buffered_amount(socket), 65010);
        assert_true(wsr_socket_buffered_now(socket) <= 65010);
        assert_int_equal(wsr_send(socket, WSR_TEXT, NULL, 0), 0);
        assert_int_equal(wsr_socket_buffered_amount(socket), 65010);
        client->context = socket;
        client_until_true(client, is_drained);
        assert_int_equal(wsr_socket_buffered_now(socket), 0);
    }
}

static void buffered_amount_grows_at_once_and_falls_between_polls(void **state)
{
    (void)state;
    client_each(buffer_amounts, NULL, "upgrade; sink");
}

/* SEND-03, BUF-07, BUF-08, WPT send/007, 008 */
static void buffer_after_close(struct client *client)
{
    struct wsr_socket *socket = client_connect(client);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "no", 2), WSR_ERR_INVALID_STATE);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    client_until(client, WSR_EVENT_OPEN, 1);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "late", 4), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), 4);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(wsr_socket_buffered_amount(socket), 4);
    assert_int_equal(wsr_send(socket, WSR_BINARY, "later", 5), 0);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "\xFF", 1), WSR_ERR_INVALID_UTF8);
    client_idle(client, 20);
    assert_int_equal(wsr_socket_buffered_amount(socket), 9);
    assert_int_equal(wsr_socket_buffered_now(socket), 9);
    assert_int_equal(peer_messages(client->peer), 0);
    client_expect(client, "open\nclose 1000 clean\n");
}

static void sends_after_close_are_counted_for_ever(void **state)
{
    (void)state;
    client_each(buffer_after_close, NULL, "upgrade; echo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(getters_through_a_life),
        cmocka_unit_test(binary_type_in_every_state_and_no_other_value),
        cmocka_unit_test(a_refused_open_leaves_nothing),
        cmocka_unit_test(the_url_is_as_long_as_its_length_says),
        cmocka_unit_test(option_headers),
        cmocka_unit_test(option_base_url),
        cmocka_unit_test(option_connect_to),
        cmocka_unit_test(option_source_address),
        cmocka_unit_test(option_worker),
        cmocka_unit_test(ready_state_in_every_handler),
        cmocka_unit_test(a_refused_connection_is_told_with_its_errno),
        cmocka_unit_test(odd_ports),
        cmocka_unit_test(an_answer_that_is_no_101_is_told_with_its_status),
        cmocka_unit_test(twenty_five_sockets_make_75_events),
        cmocka_unit_test(eight_threads_open_and_close_sockets),
        cmocka_unit_test(destroying_in_every_state),
        cmocka_unit_test(destroying_in_its_own_handlers),
        cmocka_unit_test(destroying_another_inside_a_handler),
        cmocka_unit_test(places_are_used_again),
        cmocka_unit_test(buffered_amount_grows_at_once_and_falls_between_polls),
        cmocka_unit_test(sends_after_close_are_counted_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
