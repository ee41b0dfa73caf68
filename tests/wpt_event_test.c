/* What the tests of web-platform-tests for events and their handlers check, on the real driver.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/support/handlers.h"

#define COUNT_OF(array) (sizeof (array) / sizeof (array)[0])
#define TYPES_FIRST WSR_EVENT_OPEN
#define TYPES_LAST WSR_EVENT_CLOSE

/* No on* slot is filled, unlike after handlers_connect(). */
static struct wsr_socket *connect_bare(struct client *client, const char *path)
{
    struct wsr_socket *socket = NULL;
    assert_int_equal(wsr_socket_open(client->engine, handlers_url(client, "ws", path), WSR_ZSTRING, NULL, 0, NULL,
                                     &socket), 0);
    return socket;
}

static char trace[256];

static void put(const char *what)
{
    size_t len = strlen(trace);
    snprintf(trace + len, sizeof trace - len, "%s ", what);
}

static void put_name(const struct wsr_event *event, void *context)
{
    (void)event;
    put(context);
}

/* ---- on* slots ---- */

/* eventhandlers.any, interfaces/WebSocket/events/{001,002,014}.html. EVT-11 */
static void fill_slots(struct client *client)
{
    struct wsr_socket *socket = connect_bare(client, "/echo");
    for (unsigned type = TYPES_FIRST; type <= TYPES_LAST; type++) {
        assert_null(wsr_get_on(socket, (enum wsr_event_type)type));
        assert_int_equal(wsr_set_on(socket, (enum wsr_event_type)type, put_name, NULL), 0);
        assert_true(wsr_get_on(socket, (enum wsr_event_type)type) == put_name);
        assert_int_equal(wsr_set_on(socket, (enum wsr_event_type)type, client_record, NULL), 0);
        assert_true(wsr_get_on(socket, (enum wsr_event_type)type) == client_record);
        assert_int_equal(wsr_set_on(socket, (enum wsr_event_type)type, NULL, NULL), 0);
        assert_null(wsr_get_on(socket, (enum wsr_event_type)type));
    }
    assert_int_equal(wsr_set_on(socket, (enum wsr_event_type)0, put_name, NULL), WSR_ERR_ARGUMENT);
    assert_null(wsr_get_on(socket, (enum wsr_event_type)0));
}

static void slots_are_empty_then_what_was_put_in(void **state)
{
    (void)state;
    handlers_each(fill_slots);
}

/* interfaces/WebSocket/events/014.html: an emptied slot is not called. */
static void empty_slots(struct client *client)
{
    client->uses_dispatch = true;
    struct wsr_socket *socket = handlers_connect(client, "/goodbye");
    trace[0] = '\0';
    for (unsigned type = TYPES_FIRST; type < TYPES_LAST; type++) {
        assert_int_equal(wsr_set_on(socket, (enum wsr_event_type)type, put_name, (char[]){ "called" }), 0);
        assert_int_equal(wsr_set_on(socket, (enum wsr_event_type)type, NULL, NULL), 0);
    }
    while (wsr_socket_ready_state(socket) == WSR_CONNECTING)
        client_idle(client, 1);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "Goodbye", 7), 0);
    handlers_until_close(client, "close 1000 clean\n");
    assert_string_equal(trace, "");
}

static void an_emptied_slot_is_not_called(void **state)
{
    (void)state;
    handlers_each(empty_slots);
}

/* ---- Listeners ---- */

/* interfaces/WebSocket/events/016.html. EVT-11 */
static void call_in_order(struct client *client)
{
    static char one[] = "1", two[] = "2", three[] = "3";
    client->uses_dispatch = true;
    peer_script(client->peer, "upgrade; text x; close 1000; expect close; fin");
    struct wsr_socket *socket = connect_bare(client, "/other");
    static const enum wsr_event_type types[] = { WSR_EVENT_OPEN, WSR_EVENT_MESSAGE, WSR_EVENT_CLOSE };
    trace[0] = '\0';
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        assert_int_equal(wsr_add_event_listener(socket, types[i], put_name, one, 0), 0);
        assert_int_equal(wsr_set_on(socket, types[i], put_name, two), 0);
        assert_int_equal(wsr_add_event_listener(socket, types[i], put_name, three, 0), 0);
        assert_int_equal(wsr_add_event_listener(socket, types[i], client_record, client, 0), 0);
    }
    handlers_until_close(client, "open\ntext 1 x\nclose 1000 clean\n");
    assert_string_equal(trace, "1 2 3 1 2 3 1 2 3 ");
}

static void listener_slot_and_listener_run_in_order(void **state)
{
    (void)state;
    handlers_each(call_in_order);
}

/* interfaces/WebSocket/events/019.html. EVT-12 */
static void remove_listeners(struct client *client)
{
    static char gone[] = "gone", stays[] = "stays";
    client->uses_dispatch = true;
    peer_script(client->peer, "upgrade; text x; close 1000; expect close; fin");
    struct wsr_socket *socket = handlers_connect(client, "/other");
    trace[0] = '\0';
    for (unsigned type = TYPES_FIRST; type <= TYPES_LAST; type++) {
        enum wsr_event_type of = (enum wsr_event_type)type;
        assert_int_equal(wsr_add_event_listener(socket, of, put_name, gone, 0), 0);
        assert_int_equal(wsr_add_event_listener(socket, of, put_name, stays, 0), 0);
        assert_int_equal(wsr_remove_event_listener(socket, of, put_name, gone), 0);
        assert_int_equal(wsr_remove_event_listener(socket, of, put_name, gone), 0);
    }
    handlers_until_close(client, "open\ntext 1 x\nclose 1000 clean\n");
    assert_string_equal(trace, "stays stays stays ");
}

static void a_removed_listener_is_not_called(void **state)
{
    (void)state;
    handlers_each(remove_listeners);
}

/* ---- Events ---- */

static void check_event(struct client *client, const struct wsr_event *event)
{
    static const enum wsr_ready_state states[] = {
        [WSR_EVENT_OPEN] = WSR_OPEN, [WSR_EVENT_MESSAGE] = WSR_OPEN, [WSR_EVENT_ERROR] = WSR_CLOSED,
        [WSR_EVENT_CLOSE] = WSR_CLOSED,
    };
    assert_ptr_equal(event->socket, client->context);
    assert_int_equal(wsr_socket_ready_state(event->socket), states[event->type]);
    bool is_message = event->type == WSR_EVENT_MESSAGE;
    assert_true(is_message == (event->kind != 0));
    assert_true(is_message || event->type == WSR_EVENT_CLOSE || event->len == 0);
    if (event->type != WSR_EVENT_CLOSE)
        assert_true(event->code == 0 && event->was_clean == 0);
    if (is_message)
        assert_string_equal(wsr_socket_origin(event->socket), handlers_url(client, "ws", ""));
}

/* interfaces/WebSocket/events/015.html (a reserved opcode after a text), interfaces/WebSocket/events/{017,018}.html
 * (target and class), interfaces/WebSocket/readyState/{006,008}.html. EVT-02, 03, 04, 13, MSG-01, RECV-02, RECV-12,
 * RECV-13, F9 */
static void look_at_events(struct client *client)
{
    static const struct {
        const char *script, *log, *answer;
    } rows[] = {
        { "upgrade; cork; text hello; raw 8300; uncork; expect close; fin",
          "open\ntext 5 hello\nerror\nclose 1006\n", "close 1002" },
        { "upgrade; text hello; binary x; close 1000; expect close; fin",
          "open\ntext 5 hello\nbinary 1 x\nclose 1000 clean\n", "close 1000" },
        { "upgrade; cork; raw c100; text no; uncork; expect close; fin", "open\nerror\nclose 1006\n", "close 1002" },
        { "upgrade; raw 8102c328; expect close; fin", "open\nerror\nclose 1006\n", "close 1007" },
        { "upgrade; raw 818000000000; expect close; fin", "open\nerror\nclose 1006\n", "close 1002" },
        { "upgrade; raw 8001 61; expect close; fin", "open\nerror\nclose 1006\n", "close 1002" },
        { "upgrade; raw 0900; expect close; fin", "open\nerror\nclose 1006\n", "close 1002" },
        { "upgrade; raw 010161 890170 800162; close; expect close; fin", "open\ntext 2 ab\nclose 1005 clean\n",
          "close" },
    };
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        peer_script(client->peer, rows[i].script);
        client->react = check_event;
        client->context = NULL;
        struct wsr_socket *socket = handlers_connect(client, "/other");
        client->context = socket;
        handlers_until_close(client, rows[i].log);
        peer_await(client->peer, i, rows[i].answer);
        wsr_socket_destroy(socket);
    }
    assert_true(peer_saw(client->peer, COUNT_OF(rows) - 1, "pong p"));
}

static void events_have_their_target_state_and_fields(void **state)
{
    (void)state;
    handlers_each(look_at_events);
}

/* interfaces/CloseEvent/constructor.html: what an event is that nobody filled in. */
static void an_empty_event_has_no_code_no_reason_and_is_not_clean(void **state)
{
    (void)state;
    const struct wsr_event event = { .type = WSR_EVENT_CLOSE };
    assert_int_equal(event.was_clean, 0);
    assert_int_equal(event.code, 0);
    assert_int_equal(event.len, 0);
    assert_null(event.data);
}

/* interfaces/WebSocket/events/020.html. F1 */
static void look_up_nobody(struct client *client)
{
    struct wsr_socket *socket;
    client->react = check_event;
    assert_int_equal(handlers_try(client, "ws://no-such-host.invalid/", NULL, 0, NULL, &socket), 0);
    client->context = socket;
    client_expect(client, "");
    handlers_until_close(client, "error\nclose 1006\n");
    assert_int_equal(client->last[WSR_EVENT_CLOSE].stage, WSR_STAGE_LOOKUP);
}

static void an_unknown_host_is_error_and_close(void **state)
{
    (void)state;
    handlers_each(look_up_nobody);
}

static void destroy_at_error(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type == WSR_EVENT_ERROR)
        wsr_socket_destroy(event->socket);
}

/* remove-own-iframe-during-onerror.window. EVT-14 */
static void vanish_at_error(struct client *client)
{
    static const char *const scripts[] = { "request; end", "upgrade; raw 8300; expect close; fin" };
    client->uses_dispatch = true;
    client->react = destroy_at_error;
    for (unsigned i = 0; i < COUNT_OF(scripts); i++) {
        peer_script(client->peer, scripts[i]);
        handlers_connect(client, "/other");
        client_until(client, WSR_EVENT_ERROR, i + 1);
    }
    client_idle(client, 30);
    client_expect(client, "error\nopen\nerror\n");
    assert_int_equal(client->counts[WSR_EVENT_CLOSE], 0);
}

static void destroying_in_the_error_handler_ends_the_events(void **state)
{
    (void)state;
    handlers_each(vanish_at_error);
}

/* The old constructor test 013: many sockets at once, each event once. EVT-01, EVT-16 */
static void open_25(struct client *client)
{
    struct wsr_socket *sockets[25];
    for (unsigned i = 0; i < COUNT_OF(sockets); i++)
        sockets[i] = handlers_connect(client, "/echo");
    client_until(client, WSR_EVENT_OPEN, COUNT_OF(sockets));
    for (unsigned i = 0; i < COUNT_OF(sockets); i++) {
        assert_int_equal(wsr_send(sockets[i], WSR_TEXT, "hello", 5), 0);
        assert_int_equal(wsr_socket_ready_state(sockets[i]), WSR_OPEN);
    }
    client_until(client, WSR_EVENT_MESSAGE, COUNT_OF(sockets));
    for (unsigned i = 0; i < COUNT_OF(sockets); i++)
        assert_int_equal(wsr_close(sockets[i], 1000, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, COUNT_OF(sockets));
    client_idle(client, 20);
    for (unsigned type = TYPES_FIRST; type <= TYPES_LAST; type++)
        assert_int_equal(client->counts[type], type == WSR_EVENT_ERROR ? 0 : COUNT_OF(sockets));
}

static void twenty_five_sockets_at_once(void **state)
{
    (void)state;
    handlers_each(open_25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_empty_then_what_was_put_in),
        cmocka_unit_test(an_emptied_slot_is_not_called),
        cmocka_unit_test(listener_slot_and_listener_run_in_order),
        cmocka_unit_test(a_removed_listener_is_not_called),
        cmocka_unit_test(events_have_their_target_state_and_fields),
        cmocka_unit_test(an_empty_event_has_no_code_no_reason_and_is_not_clean),
        cmocka_unit_test(an_unknown_host_is_error_and_close),
        cmocka_unit_test(destroying_in_the_error_handler_ends_the_events),
        cmocka_unit_test(twenty_five_sockets_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
