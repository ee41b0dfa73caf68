/* What the tests of web-platform-tests for close() and the closing handshake check, on the real driver.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/support/handlers.h"

#define COUNT_OF(array) (sizeof (array) / sizeof (array)[0])
#define EURO "\xE2\x82\xAC"
#define BOM "\xEF\xBB\xBF"
#define TEN "0123456789"
#define REASON_123 TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "012"

/* ---- The client closes ---- */

struct own_close {
    int code;
    const char *reason;
    const char *on_the_wire;     /* what the server's log says */
    const char *log;
};

/* Close-{1000,1000-reason,1000-verify-code,1005-verify-code,3000-reason,3000-verify-code,4999-reason}.any,
 * Close-{undefined,readyState-Closing,readyState-Closed}.any, interfaces/WebSocket/readyState/007.html,
 * closing-handshake/003.html, interfaces/CloseEvent/clean-close.html, stream/tentative/close.any (codes and reasons).
 * CLOSE-01, 02, 07 to 10, 22, F11 */
static const struct own_close own_closes[] = {
    { 0, NULL, "close", "open\nclose 1005 clean\n" },
    { 0, "", "close", "open\nclose 1005 clean\n" },
    { 1000, NULL, "close 1000", "open\nclose 1000 clean\n" },
    { 1000, "", "close 1000", "open\nclose 1000 clean\n" },
    { 1000, "Clean Close", "close 1000 Clean Close", "open\nclose 1000 clean Clean Close\n" },
    { 3000, "Clean Close", "close 3000 Clean Close", "open\nclose 3000 clean Clean Close\n" },
    { 3456, NULL, "close 3456", "open\nclose 3456 clean\n" },
    { 3456, "pizza", "close 3456 pizza", "open\nclose 3456 clean pizza\n" },
    { 4999, NULL, "close 4999", "open\nclose 4999 clean\n" },
    { 4999, "Clean Close", "close 4999 Clean Close", "open\nclose 4999 clean Clean Close\n" },
    { 0, "pizza", "close 1000 pizza", "open\nclose 1000 clean pizza\n" },
    { 1000, EURO EURO, "close 1000 " EURO EURO, "open\nclose 1000 clean " EURO EURO "\n" },
    { 1000, "\xEF\xBF\xBD", "close 1000 \xEF\xBF\xBD", "open\nclose 1000 clean \xEF\xBF\xBD\n" },
    { 1000, REASON_123, "close 1000 " REASON_123, "open\nclose 1000 clean\n" },       /* the log leaves long ones out */
};

static void close_validly(struct client *client)
{
    for (unsigned i = 0; i < COUNT_OF(own_closes); i++) {
        const struct own_close *row = &own_closes[i];
        struct wsr_socket *socket = handlers_connect_open(client, "/echo");
        char lines[256];
        assert_int_equal(wsr_close(socket, row->code, row->reason, WSR_ZSTRING), 0);
        assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
        assert_int_equal(client->counts[WSR_EVENT_CLOSE], i);
        handlers_until_close(client, row->log);
        assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
        snprintf(lines, sizeof lines, "request GET /echo HTTP/1.1\n%s\nfin\n", row->on_the_wire);
        peer_expect(client->peer, i, lines);
    }
    assert_int_equal(client->last[WSR_EVENT_CLOSE].len, 123);
    assert_int_equal(client->counts[WSR_EVENT_ERROR], 0);
}

static void legal_codes_and_reasons_come_back(void **state)
{
    (void)state;
    handlers_each(close_validly);
}

/* close-invalid.any, Close-{1005,2999-reason,Reason-124Bytes}.any, Close-reason-unpaired-surrogates.any (adapted: bytes
 * that are not UTF-8 are refused, not replaced), stream/tentative/close.any (999, 1001, 2999, 5000).
 * CLOSE-01 to CLOSE-04, CLOSE-11, CLOSE-13, OQ-3 */
static void close_wrongly(struct wsr_socket *socket, enum wsr_ready_state before)
{
    static const int codes[] = { 500, 999, 1001, 1002, 1004, 1005, 1006, 1011, 1015, 2999, 5000, 65535, 65536, 66536,
                                 -1, 1, INT32_MAX, INT32_MIN };
    static const char *const reasons[] = { REASON_123 "3", REASON_123 EURO, "\xED\xA0\x87", "a\xFF", EURO "\xE2\x82" };
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        assert_int_equal(wsr_close(socket, codes[i], NULL, 0), WSR_ERR_INVALID_ACCESS);
        assert_int_equal(wsr_close(socket, codes[i], REASON_123 "3", WSR_ZSTRING), WSR_ERR_INVALID_ACCESS);
    }
    for (size_t i = 0; i < COUNT_OF(reasons); i++) {
        assert_int_equal(wsr_close(socket, 1000, reasons[i], WSR_ZSTRING), WSR_ERR_SYNTAX);
        assert_int_equal(wsr_close(socket, 0, reasons[i], WSR_ZSTRING), WSR_ERR_SYNTAX);
    }
    assert_int_equal(wsr_socket_ready_state(socket), before);
}

static void close_wrongly_in_every_state(struct client *client)
{
    struct wsr_socket *socket = handlers_connect(client, "/echo");
    close_wrongly(socket, WSR_CONNECTING);
    client_until(client, WSR_EVENT_OPEN, 1);
    close_wrongly(socket, WSR_OPEN);
    client_idle(client, 20);
    client_expect(client, "open\n");                 /* no close event */
    assert_int_equal(wsr_send(socket, WSR_TEXT, "open", 4), 0);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    close_wrongly(socket, WSR_CLOSING);
    handlers_until_close(client, "open\ntext 4 open\nclose 1000 clean\n");
    close_wrongly(socket, WSR_CLOSED);
    peer_expect(client->peer, 0, "request GET /echo HTTP/1.1\nclose 1000\nfin\n");
}

static void illegal_codes_and_reasons_change_nothing(void **state)
{
    (void)state;
    handlers_each(close_wrongly_in_every_state);
}

/* interfaces/WebSocket/close/close-multiple.html. CLOSE-05 */
static void close_thrice(struct client *client)
{
    struct wsr_socket *socket = handlers_connect_open(client, "/slow-close");
    assert_int_equal(wsr_close(socket, 3001, "one", WSR_ZSTRING), 0);
    assert_int_equal(wsr_close(socket, 3002, "two", WSR_ZSTRING), 0);
    client_until_peer(client, 0, "close");
    assert_int_equal(wsr_close(socket, 3003, NULL, 0), 0);
    peer_go(client->peer);
    handlers_until_close(client, "open\nclose 3001 clean one\n");
    assert_int_equal(wsr_close(socket, 3004, NULL, 0), 0);
    client_idle(client, 20);
    client_expect(client, "");
    peer_expect(client->peer, 0, "request GET /slow-close HTTP/1.1\nclose 3001 one\nfin\n");
}

static void closing_again_is_not_heard(void **state)
{
    (void)state;
    handlers_each(close_thrice);
}

static void close_at_close(struct client *client, const struct wsr_event *event)
{
    if (event->type == WSR_EVENT_OPEN)
        assert_int_equal(wsr_close(event->socket, 1000, NULL, 0), 0);
    if (event->type != WSR_EVENT_CLOSE)
        return;
    assert_int_equal(wsr_socket_ready_state(event->socket), WSR_CLOSED);
    assert_int_equal(wsr_close(event->socket, 3000, "again", WSR_ZSTRING), 0);
    assert_int_equal(wsr_socket_ready_state(event->socket), WSR_CLOSED);
    client->context = client;
}

/* interfaces/WebSocket/close/close-nested.html, interfaces/WebSocket/readyState/008.html. CLOSE-05, EVT-09 */
static void close_nested(struct client *client)
{
    client->react = close_at_close;
    handlers_connect(client, "/echo");
    handlers_until_close(client, "open\nclose 1000 clean\n");
    client_idle(client, 20);
    client_expect(client, "");
    assert_ptr_equal(client->context, client);
}

static void closing_in_the_close_handler_is_not_heard(void **state)
{
    (void)state;
    handlers_each(close_nested);
}

/* Close-delayed.any, stream/tentative/close.any (with a delayed answer). CLOSE-28 */
static void close_slowly(struct client *client)
{
    struct wsr_socket *socket = handlers_connect_open(client, "/slow-close");
    assert_int_equal(wsr_close(socket, 1000, "bye", WSR_ZSTRING), 0);
    client_until_peer(client, 0, "close");
    client_idle(client, 100);
    client_expect(client, "open\n");
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
    peer_go(client->peer);
    handlers_until_close(client, "open\nclose 1000 clean bye\n");
}

static void the_close_event_waits_for_the_servers_close(void **state)
{
    (void)state;
    handlers_each(close_slowly);
}

/* ---- close() while connecting ---- */

/* interfaces/WebSocket/close/{close-basic,close-connecting}.html,
 * interfaces/WebSocket/close/close-connecting-async.any, interfaces/WebSocket/readyState/003.html,
 * stream/tentative/abort.any (before and during the handshake). CLOSE-06, F7, EVT-06, EVT-19 */
static void close_while_connecting(struct client *client)
{
    /* The request is there, the answer is not. */
    struct wsr_socket *socket = handlers_connect(client, "/slow-handshake");
    client_until_peer(client, 0, "request");
    assert_int_equal(wsr_close(socket, 1000, "never sent", WSR_ZSTRING), 0);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
    client_expect(client, "");
    handlers_until_close(client, "error\nclose 1006\n");
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
    client_until_peer(client, 0, "fin");

    /* The answer may be there too: it is not seen before the next poll, and then it is too late. */
    peer_script(client->peer, "upgrade; text hello; sink; expect fin; end");
    socket = handlers_connect(client, "/other");
    client_sleep_ms(20);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    handlers_until_close(client, "error\nclose 1006\n");

    /* At once. */
    socket = handlers_connect(client, "/slow-handshake");
    assert_int_equal(wsr_close(socket, 0, NULL, 0), 0);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
    handlers_until_close(client, "error\nclose 1006\n");
    client_idle(client, 20);
    client_expect(client, "");
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
}

static void closing_while_connecting_is_error_and_close_later(void **state)
{
    (void)state;
    handlers_each(close_while_connecting);
}

/* ---- The server closes ---- */

struct remote_close {
    const char *script;
    const char *log;
    const char *answer;          /* what the server's log says of the Close that came back */
};

/* Close-server-initiated-close.any, closing-handshake/002.html, stream/tentative/remote-close.any (its values).
 * CLOSE-20, CLOSE-21, CTL-07, F11, OQ-11 */
static const struct remote_close remote_closes[] = {
    { "upgrade; close; expect close; fin", "open\nclose 1005 clean\n", "close" },
    { "upgrade; close 1000; expect close; fin", "open\nclose 1000 clean\n", "close 1000" },
    { "upgrade; close 1001 away; expect close; fin", "open\nclose 1001 clean away\n", "close 1001" },
    { "upgrade; close 1011; expect close; fin", "open\nclose 1011 clean\n", "close 1011" },
    { "upgrade; close 1014; expect close; fin", "open\nclose 1014 clean\n", "close 1014" },
    { "upgrade; close 4222 remote; expect close; fin", "open\nclose 4222 clean remote\n", "close 4222" },
    { "upgrade; close 4999 " EURO "; expect close; fin", "open\nclose 4999 clean " EURO "\n", "close 4999" },
    { "upgrade; close 3000 " BOM "bom; expect close; fin", "open\nclose 3000 clean " BOM "bom\n", "close 3000" },
    { "upgrade; text one; binary two; close 1000; expect close; fin",
      "open\ntext 3 one\nbinary 3 two\nclose 1000 clean\n", "close 1000" },
    { "upgrade; close 1000; expect close; end", "open\nclose 1000 clean\n", "close 1000" },
    { "upgrade; close 1000; expect close; rst", "open\nclose 1000 clean\n", "close 1000" },
};

static void be_closed(struct client *client)
{
    for (unsigned i = 0; i < COUNT_OF(remote_closes); i++) {
        const struct remote_close *row = &remote_closes[i];
        char line[64];
        peer_script(client->peer, row->script);
        struct wsr_socket *socket = handlers_connect(client, "/other");
        handlers_until_close(client, row->log);
        assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
        snprintf(line, sizeof line, "%s\n", row->answer);
        peer_await(client->peer, i, row->answer);
        assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    }
    assert_int_equal(client->counts[WSR_EVENT_ERROR], 0);
}

static void a_close_of_the_server_is_answered_and_clean(void **state)
{
    (void)state;
    handlers_each(be_closed);
}

/* closing-handshake/{002,004}.html, Close-server-initiated-close.any: the server's answer to a message. CLOSE-24,
 * CTL-04 */
static void say_goodbye(struct client *client)
{
    static const char *const paths[] = { "/goodbye", "/goodbye-and-more" };
    for (unsigned i = 0; i < COUNT_OF(paths); i++) {
        char lines[96];
        struct wsr_socket *socket = handlers_connect_open(client, paths[i]);
        assert_int_equal(wsr_send(socket, WSR_TEXT, "Goodbye", 7), 0);
        handlers_until_close(client, "open\nclose 1000 clean\n");
        snprintf(lines, sizeof lines, "request GET %s HTTP/1.1\ntext 7 Goodbye\nclose 1000\nfin\n", paths[i]);
        peer_expect(client->peer, i, lines);
    }
    assert_int_equal(client->counts[WSR_EVENT_ERROR], 0);
}

static void what_follows_the_servers_close_is_ignored(void **state)
{
    (void)state;
    handlers_each(say_goodbye);
}

/* stream/tentative/remote-close.any: the server's values win over our own. CLOSE-22, CLOSE-23 */
static void cross(struct client *client)
{
    peer_script(client->peer, "upgrade; hold; expect close; close 4222 remote; fin");
    struct wsr_socket *socket = handlers_connect_open(client, "/other");
    assert_int_equal(wsr_close(socket, 4111, "local", WSR_ZSTRING), 0);
    peer_go(client->peer);
    handlers_until_close(client, "open\nclose 4222 clean remote\n");
    peer_expect(client->peer, 0, "request GET /other HTTP/1.1\nclose 4111 local\nfin\n");

    /* Both on their way at once: the server sends its own before it reads ours, which may be an answer to it. */
    peer_script(client->peer, "upgrade; stop; hold; hold; close 4223; read; expect close; fin");
    socket = handlers_connect_open(client, "/other");
    assert_int_equal(wsr_close(socket, 4111, NULL, 0), 0);
    peer_go(client->peer);
    handlers_until_close(client, "open\nclose 4223 clean\n");
    peer_await(client->peer, 1, "fin");
    assert_true(peer_saw(client->peer, 1, "close 4111") != peer_saw(client->peer, 1, "close 4223"));
}

static void the_servers_code_and_reason_are_told(void **state)
{
    (void)state;
    handlers_each(cross);
}

/* ---- Unclean ends ---- */

struct unclean {
    const char *script;
    bool closes;                 /* the client calls close() when it has opened; else it sends a text */
    const char *log;
};

/* stream/tentative/close.any (no handshake: 1006), stream/tentative/remote-close.any (abrupt), and Close frames that
 * are none. F9, F10, F12, CTL-08, OQ-1 */
static const struct unclean uncleans[] = {
    { "upgrade; fin", false, "open\nerror\nclose 1006\n" },
    { "upgrade; expect text; rst", false, "open\nerror\nclose 1006\n" },
    { "upgrade; text one; expect text; end", false, "open\ntext 3 one\nerror\nclose 1006\n" },
    { "upgrade; expect close; fin", true, "open\nerror\nclose 1006\n" },
    { "upgrade; expect close; rst", true, "open\nerror\nclose 1006\n" },
    { "upgrade; close 1005; expect close; fin", false, "open\nerror\nclose 1006\n" },
    { "upgrade; close 1006; expect close; fin", false, "open\nerror\nclose 1006\n" },
    { "upgrade; close 1015; expect close; fin", false, "open\nerror\nclose 1006\n" },
    { "upgrade; close 999; expect close; fin", false, "open\nerror\nclose 1006\n" },
    { "upgrade; close 2999; expect close; fin", false, "open\nerror\nclose 1006\n" },
    { "upgrade; close 5000; expect close; fin", false, "open\nerror\nclose 1006\n" },
    { "upgrade; raw 880103; expect close; fin", false, "open\nerror\nclose 1006\n" },
    { "upgrade; close 1000 \xED\xA0\x80; expect close; fin", false, "open\nerror\nclose 1006\n" },
};

static void end_uncleanly(struct client *client)
{
    for (unsigned i = 0; i < COUNT_OF(uncleans); i++) {
        const struct unclean *row = &uncleans[i];
        peer_script(client->peer, row->script);
        struct wsr_socket *socket = handlers_connect_open(client, "/other");
        assert_int_equal(row->closes ? wsr_close(socket, 1000, NULL, 0) : wsr_send(socket, WSR_TEXT, "on", 2), 0);
        handlers_until_close(client, row->log);
        const struct wsr_event *close = &client->last[WSR_EVENT_CLOSE];
        assert_true(!close->was_clean && close->len == 0 && close->text[0] != '\0');
    }
}

static void without_both_close_frames_it_is_1006(void **state)
{
    (void)state;
    handlers_each(end_uncleanly);
}

/* stream/tentative/remote-close.any with 20 MB unsent: whole messages that had not begun to leave are dropped and stay
 * counted; the two Close frames alone make it clean. CLOSE-20, OQ-10, BUF-07 */
static void be_closed_with_data_unsent(struct client *client)
{
    static const uint8_t megabyte[1000000];
    peer_script(client->peer, "upgrade; sink; stop; hold; close 4321 enough; wait 50; read; expect close; fin");
    struct wsr_socket *socket = handlers_connect_open(client, "/other");
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(wsr_send(socket, WSR_BINARY, megabyte, sizeof megabyte), 0);
    client_idle(client, 50);
    peer_go(client->peer);
    handlers_until_close(client, "open\nclose 4321 clean enough\n");
    assert_int_equal(peer_bytes(client->peer) % sizeof megabyte, 0);
    assert_int_equal(peer_bytes(client->peer) + wsr_socket_buffered_amount(socket), 20 * sizeof megabyte);
    assert_true(wsr_socket_buffered_amount(socket) > 0);
}

static void unsent_messages_are_dropped_when_the_server_closes(void **state)
{
    (void)state;
    handlers_each_with(be_closed_with_data_unsent, NULL, 65536);
}

/* ---- Going away ---- */

/* unload-a-document/{001,002,003,004,005}.html, stream/tentative/abort.any: what leaving the page does to its sockets,
 * destroying does to one. CLOSE-32, EVT-14 */
static void go_away(struct client *client)
{
    wsr_socket_destroy(handlers_connect_open(client, "/echo"));
    client_until_peer(client, 0, "fin");
    peer_expect(client->peer, 0, "request GET /echo HTTP/1.1\nclose 1001\nfin\n");

    struct wsr_socket *connecting = handlers_connect(client, "/slow-handshake");
    client_until_peer(client, 1, "request");
    wsr_socket_destroy(connecting);
    client_until_peer(client, 1, "fin");
    assert_false(peer_saw(client->peer, 1, "close"));

    struct wsr_socket *closing = handlers_connect_open(client, "/slow-close");
    assert_int_equal(wsr_close(closing, 3000, "mine", WSR_ZSTRING), 0);
    wsr_socket_destroy(closing);
    client_until_peer(client, 2, "close");
    peer_go(client->peer);
    client_until_peer(client, 2, "fin");
    peer_expect(client->peer, 2, "request GET /slow-close HTTP/1.1\nclose 3000 mine\nfin\n");
    client_idle(client, 20);
    client_expect(client, "open\nopen\n");
}

static void destroying_is_going_away(void **state)
{
    (void)state;
    handlers_each(go_away);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legal_codes_and_reasons_come_back),
        cmocka_unit_test(illegal_codes_and_reasons_change_nothing),
        cmocka_unit_test(closing_again_is_not_heard),
        cmocka_unit_test(closing_in_the_close_handler_is_not_heard),
        cmocka_unit_test(the_close_event_waits_for_the_servers_close),
        cmocka_unit_test(closing_while_connecting_is_error_and_close_later),
        cmocka_unit_test(a_close_of_the_server_is_answered_and_clean),
        cmocka_unit_test(what_follows_the_servers_close_is_ignored),
        cmocka_unit_test(the_servers_code_and_reason_are_told),
        cmocka_unit_test(without_both_close_frames_it_is_1006),
        cmocka_unit_test(unsent_messages_are_dropped_when_the_server_closes),
        cmocka_unit_test(destroying_is_going_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
