/* engine/listener.c: on* slots and listeners; their order, alone and in a real dispatch.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "engine/socket.h"
#include "tests/support/client.h"

/* ---- Handlers that leave a letter, and may change the list while it is called ---- */

static char trace[4096];
static size_t trace_bytes;
static struct wsr_socket *subject;      /* whom the handlers below change */

static void put(char letter)
{
    if (trace_bytes < sizeof trace - 1) {
        trace[trace_bytes++] = letter;
        trace[trace_bytes] = '\0';
    }
}

static void letter(const struct wsr_event *event, void *context)
{
    (void)event;
    put(*(const char *)context);
}

static char *const a = (char[]){ "a" }, *const b = (char[]){ "b" }, *const c = (char[]){ "c" };

static void add(char *context, uint32_t flags)
{
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_MESSAGE, letter, context, flags), 0);
}

static void drop(char *context)
{
    assert_int_equal(wsr_remove_event_listener(subject, WSR_EVENT_MESSAGE, letter, context), 0);
}

static void slot(wsr_handler handler, char *context)
{
    assert_int_equal(wsr_set_on(subject, WSR_EVENT_MESSAGE, handler, context), 0);
}

/* Run all that listen to a message; returns the letters. */
static const char *call(void)
{
    const struct wsr_event event = { .type = WSR_EVENT_MESSAGE, .socket = subject };
    trace_bytes = 0;
    trace[0] = '\0';
    wsr_listener_call(subject->listeners, &event, &subject->is_destroyed);
    return trace;
}

static int set_up(void **state)
{
    (void)state;
    /* Nothing of a socket but its listeners is looked at. */
    subject = calloc(1, sizeof *subject);
    return subject == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    wsr_listener_free(subject->listeners);
    free(subject);
    return 0;
}

/* WPT events/001, 002 */
static void slots_are_empty_at_first_and_can_be_read_back(void **state)
{
    (void)state;
    for (unsigned type = 1; type < WSR_EVENT_TYPES_COUNT; type++) {
        assert_true(wsr_get_on(subject, (enum wsr_event_type)type) == NULL);
        assert_int_equal(wsr_set_on(subject, (enum wsr_event_type)type, letter, a), 0);
        assert_true(wsr_get_on(subject, (enum wsr_event_type)type) == letter);
        assert_int_equal(wsr_set_on(subject, (enum wsr_event_type)type, NULL, NULL), 0);
        assert_true(wsr_get_on(subject, (enum wsr_event_type)type) == NULL);
    }
    assert_string_equal(call(), "");
}

static void unknown_types_and_flags_are_refused_and_change_nothing(void **state)
{
    (void)state;
    static const int types[] = { 0, WSR_EVENT_TYPES_COUNT, 100, -1 };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        enum wsr_event_type type = (enum wsr_event_type)types[i];
        assert_int_equal(wsr_set_on(subject, type, letter, a), WSR_ERR_ARGUMENT);
        assert_true(wsr_error_text()[0] != '\0');
        assert_int_equal(wsr_add_event_listener(subject, type, letter, a, 0), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_remove_event_listener(subject, type, letter, a), WSR_ERR_ARGUMENT);
        assert_true(wsr_get_on(subject, type) == NULL);
    }
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_MESSAGE, NULL, a, 0), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_MESSAGE, letter, a, 2), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_MESSAGE, letter, a, 1u << 31), WSR_ERR_ARGUMENT);
    assert_string_equal(call(), "");
}

/* EVT-11 */
static void all_run_in_the_order_added(void **state)
{
    (void)state;
    add(b, 0);
    add(a, 0);
    add(c, 0);
    assert_string_equal(call(), "bac");
    assert_string_equal(call(), "bac");
}

static void other_types_are_not_called(void **state)
{
    (void)state;
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_CLOSE, letter, a, 0), 0);
    assert_int_equal(wsr_set_on(subject, WSR_EVENT_OPEN, letter, b), 0);
    add(c, 0);
    assert_string_equal(call(), "c");
}

/* EVT-11 */
static void the_slot_has_the_place_where_it_was_first_filled(void **state)
{
    (void)state;
    add(a, 0);
    slot(letter, b);
    add(c, 0);
    assert_string_equal(call(), "abc");
    slot(letter, (char[]){ "x" });
    assert_string_equal(call(), "axc");
}

/* EVT-11, WPT events/014: WHATWG HTML removes the listener of an event handler that is set to null */
static void a_slot_that_was_emptied_comes_back_at_the_end(void **state)
{
    (void)state;
    slot(letter, b);
    add(a, 0);
    slot(NULL, NULL);
    assert_string_equal(call(), "a");
    slot(letter, b);
    assert_string_equal(call(), "ab");
}

static void emptying_an_empty_slot_is_allowed(void **state)
{
    (void)state;
    slot(NULL, NULL);
    add(a, 0);
    slot(NULL, NULL);
    assert_string_equal(call(), "a");
}

/* EVT-12 */
static void the_same_handler_and_context_twice_is_one(void **state)
{
    (void)state;
    add(a, 0);
    add(b, 0);
    add(a, 0);
    add(a, WSR_LISTENER_ONCE);                  /* the flags are no part of the identity (DOM) */
    assert_string_equal(call(), "ab");
    assert_string_equal(call(), "ab");
}

static void a_slot_and_a_listener_with_the_same_handler_are_two(void **state)
{
    (void)state;
    slot(letter, a);
    add(a, 0);
    assert_string_equal(call(), "aa");
    drop(a);
    assert_string_equal(call(), "a");
    assert_true(wsr_get_on(subject, WSR_EVENT_MESSAGE) == letter);
}

/* WPT events/019 */
static void removing_takes_exactly_the_one_named(void **state)
{
    (void)state;
    add(a, 0);
    add(b, 0);
    drop(c);
    assert_int_equal(wsr_remove_event_listener(subject, WSR_EVENT_CLOSE, letter, a), 0);
    assert_string_equal(call(), "ab");
    drop(a);
    assert_string_equal(call(), "b");
    drop(a);
    add(a, 0);
    assert_string_equal(call(), "ba");
}

/* EVT-12 */
static void once_is_called_once(void **state)
{
    (void)state;
    add(a, WSR_LISTENER_ONCE);
    add(b, 0);
    assert_string_equal(call(), "ab");
    assert_string_equal(call(), "b");
    add(a, WSR_LISTENER_ONCE);
    assert_string_equal(call(), "ba");
}

static void adds_itself(const struct wsr_event *event, void *context)
{
    (void)event;
    put('s');
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_MESSAGE, adds_itself, context, WSR_LISTENER_ONCE), 0);
}

/* EVT-12: were it removed after its call, adding it would find it there */
static void once_is_removed_before_the_call(void **state)
{
    (void)state;
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_MESSAGE, adds_itself, NULL, WSR_LISTENER_ONCE), 0);
    for (unsigned i = 0; i < 5; i++)
        assert_string_equal(call(), "s");
}

static void calls_itself(const struct wsr_event *event, void *context)
{
    (void)context;
    put('i');
    wsr_listener_call(subject->listeners, event, &subject->is_destroyed);
}

static void once_is_not_called_again_from_within(void **state)
{
    (void)state;
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_MESSAGE, calls_itself, NULL, WSR_LISTENER_ONCE), 0);
    add(a, 0);
    assert_string_equal(call(), "iaa");
}

/* ---- Changes while the list is called ---- */

struct change {
    void (*act)(void);
};

static void make_change(const struct wsr_event *event, void *context)
{
    (void)event;
    put('!');
    ((const struct change *)context)->act();
}

static void change_in_dispatch(struct change *change)
{
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_MESSAGE, make_change, change, 0), 0);
}

static void drop_c(void) { drop(c); }
static void drop_a(void) { drop(a); }
static void add_b(void) { add(b, 0); }
static void drop_and_add_c(void) { drop(c); add(c, 0); }
static void fill_slot(void) { slot(letter, b); }
static void refill_slot(void) { slot(NULL, NULL); slot(letter, b); }
static void destroy(void) { subject->is_destroyed = true; }

/* EVT-12: DOM, inner invoke */
static void one_that_is_removed_before_its_turn_is_not_called(void **state)
{
    (void)state;
    struct change change = { drop_c };
    add(a, 0);
    change_in_dispatch(&change);
    add(c, 0);
    assert_string_equal(call(), "a!");
    assert_string_equal(call(), "a!");
}

static void one_that_is_removed_after_its_turn_does_not_disturb_the_others(void **state)
{
    (void)state;
    struct change change = { drop_a };
    add(a, 0);
    change_in_dispatch(&change);
    add(c, 0);
    assert_string_equal(call(), "a!c");
    assert_string_equal(call(), "!c");
}

static void removes_itself(const struct wsr_event *event, void *context)
{
    (void)event;
    put('r');
    assert_int_equal(wsr_remove_event_listener(subject, WSR_EVENT_MESSAGE, removes_itself, context), 0);
}

static void one_may_remove_itself(void **state)
{
    (void)state;
    add(a, 0);
    assert_int_equal(wsr_add_event_listener(subject, WSR_EVENT_MESSAGE, removes_itself, NULL, 0), 0);
    add(c, 0);
    assert_string_equal(call(), "arc");
    assert_string_equal(call(), "ac");
}

/* EVT-12, OQ-20 */
static void one_that_is_added_waits_for_the_next_event(void **state)
{
    (void)state;
    struct change change = { add_b };
    change_in_dispatch(&change);
    assert_string_equal(call(), "!");
    assert_string_equal(call(), "!b");
}

static void one_that_is_removed_and_added_again_waits_for_the_next_event(void **state)
{
    (void)state;
    struct change change = { drop_and_add_c };
    change_in_dispatch(&change);
    add(c, 0);
    assert_string_equal(call(), "!");
    drop(c);
}

static void a_slot_that_is_filled_waits_for_the_next_event(void **state)
{
    (void)state;
    struct change change = { fill_slot };
    change_in_dispatch(&change);
    assert_string_equal(call(), "!");
    assert_string_equal(call(), "!b");
}

/* WHATWG HTML: the event handler processing algorithm reads the handler when its turn comes */
static void a_slot_that_is_replaced_before_its_turn_calls_the_new_handler(void **state)
{
    (void)state;
    struct change change = { fill_slot };
    change_in_dispatch(&change);
    slot(letter, a);
    assert_string_equal(call(), "!b");
}

static void a_slot_that_is_emptied_and_filled_waits_for_the_next_event(void **state)
{
    (void)state;
    struct change change = { refill_slot };
    change_in_dispatch(&change);
    slot(letter, a);
    add(c, 0);
    assert_string_equal(call(), "!c");
    assert_string_equal(call(), "!c");          /* each call moves it to the end again */
    assert_true(wsr_get_on(subject, WSR_EVENT_MESSAGE) == letter);
}

/* EVT-14 */
static void nobody_is_called_after_the_socket_was_destroyed(void **state)
{
    (void)state;
    struct change change = { destroy };
    add(a, 0);
    change_in_dispatch(&change);
    add(c, 0);
    assert_string_equal(call(), "a!");
}

static char many_letters[200][2];

static void add_many(void)
{
    for (size_t i = 0; i < 200; i++)
        add(many_letters[i], 0);
}

/* The list moves while it is walked. */
static void hundreds_may_be_added_within_a_call(void **state)
{
    (void)state;
    struct change change = { add_many };
    for (size_t i = 0; i < 200; i++)
        many_letters[i][0] = (char)('A' + i % 26);
    change_in_dispatch(&change);
    add(a, 0);
    assert_string_equal(call(), "!a");
    call();
    assert_int_equal(strlen(trace), 202);
    for (size_t i = 0; i < 200; i++)
        assert_int_equal(trace[2 + i], many_letters[i][0]);
}

/* ---- In a real dispatch ---- */

static void note_type(const struct wsr_event *event, void *context)
{
    put(*(const char *)context);
    put("?OMEC"[event->type]);
}

/* EVT-11, WPT events/016 */
static void listener_slot_listener_run_in_order_for_open_message_and_close(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; text x; close 1000; expect close; fin");
    client.uses_dispatch = true;
    struct wsr_socket *socket = NULL;
    static const enum wsr_event_type types[] = { WSR_EVENT_OPEN, WSR_EVENT_MESSAGE, WSR_EVENT_CLOSE };
    assert_int_equal(wsr_socket_open(client.engine, peer_url(client.peer), WSR_ZSTRING, NULL, 0, NULL, &socket), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(wsr_add_event_listener(socket, types[i], note_type, a, 0), 0);
        assert_int_equal(wsr_set_on(socket, types[i], note_type, b), 0);
        assert_int_equal(wsr_add_event_listener(socket, types[i], note_type, c, 0), 0);
    }
    assert_int_equal(wsr_add_event_listener(socket, WSR_EVENT_CLOSE, client_record, &client, 0), 0);
    trace_bytes = 0;
    client_until(&client, WSR_EVENT_CLOSE, 1);
    assert_string_equal(trace, "aObOcOaMbMcMaCbCcC");
    client_close(&client);
}

/* OQ-20, EVT-06: handlers that are set right after the constructor get everything; later ones what is left */
static void a_listener_that_is_added_in_open_gets_the_messages(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, NULL, "upgrade; texts 3; close; expect close; fin");
    struct wsr_socket *socket = client_connect(&client);
    client.uses_dispatch = true;
    subject = socket;
    assert_int_equal(wsr_add_event_listener(socket, WSR_EVENT_OPEN, make_change, &(struct change){ add_b }, 0), 0);
    trace_bytes = 0;
    client_until(&client, WSR_EVENT_CLOSE, 1);
    assert_string_equal(trace, "!bbb");
    client_expect(&client, "open\ntext 1 0\ntext 1 1\ntext 1 2\nclose 1005 clean\n");
    client_close(&client);
}

int main(void)
{
#define UNIT(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        UNIT(slots_are_empty_at_first_and_can_be_read_back),
        UNIT(unknown_types_and_flags_are_refused_and_change_nothing),
        UNIT(all_run_in_the_order_added),
        UNIT(other_types_are_not_called),
        UNIT(the_slot_has_the_place_where_it_was_first_filled),
        UNIT(a_slot_that_was_emptied_comes_back_at_the_end),
        UNIT(emptying_an_empty_slot_is_allowed),
        UNIT(the_same_handler_and_context_twice_is_one),
        UNIT(a_slot_and_a_listener_with_the_same_handler_are_two),
        UNIT(removing_takes_exactly_the_one_named),
        UNIT(once_is_called_once),
        UNIT(once_is_removed_before_the_call),
        UNIT(once_is_not_called_again_from_within),
        UNIT(one_that_is_removed_before_its_turn_is_not_called),
        UNIT(one_that_is_removed_after_its_turn_does_not_disturb_the_others),
        UNIT(one_may_remove_itself),
        UNIT(one_that_is_added_waits_for_the_next_event),
        UNIT(one_that_is_removed_and_added_again_waits_for_the_next_event),
        UNIT(a_slot_that_is_filled_waits_for_the_next_event),
        UNIT(a_slot_that_is_replaced_before_its_turn_calls_the_new_handler),
        UNIT(a_slot_that_is_emptied_and_filled_waits_for_the_next_event),
        UNIT(nobody_is_called_after_the_socket_was_destroyed),
        UNIT(hundreds_may_be_added_within_a_call),
        cmocka_unit_test(listener_slot_listener_run_in_order_for_open_message_and_close),
        cmocka_unit_test(a_listener_that_is_added_in_open_gets_the_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
