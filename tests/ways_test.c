/* The same events, as the same text, whichever way an application takes them: on* handlers or listeners by
 * wsr_dispatch, arrays of one or of many by wsr_poll, from an engine on the own thread or on a worker's, that sleeps,
 * spins or does both. On the real driver, against a scripted server.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/client.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define NS_PER_MS 1000000ull
#define AWAIT_MS 60000u
#define SOCKETS_MAX 2

/* ---- Scenes ---- */

enum limit { NO_LIMIT, OPEN_LIMIT, CLOSE_LIMIT, FIN_LIMIT, LIMITS_COUNT };

/* One connection, or two to the same script. What each handler does is a list of steps: text X, ping X,
 * close [CODE [REASON]], destroy, sleep. Each socket's events come with the readyState that they see. */
struct scene {
    const char *name, *script;
    const char *at_once;                       /* right after wsr_socket_open() */
    const char *on[WSR_EVENT_TYPES_COUNT];     /* by type; that of messages is done for the first one alone */
    const char *events;                        /* of each socket */
    const char *peer;                          /* what the server saw; NULL = not compared */
    const char *url;                           /* instead of the server's */
    enum limit limit;                          /* that is short; an engine is made for each */
    unsigned sockets_count;                    /* 0 = 1 */
};

#define ON_OPEN(steps) .on = { [WSR_EVENT_OPEN] = steps }
#define ON_MESSAGE(steps) .on = { [WSR_EVENT_MESSAGE] = steps }
#define ON_ERROR(steps) .on = { [WSR_EVENT_ERROR] = steps }
#define ON_CLOSE(steps) .on = { [WSR_EVENT_CLOSE] = steps }
#define REQUEST "request GET /chat HTTP/1.1\n"
#define OPENED "open 1\n"
#define FAILED "error 3\nclose 1006 3\n"
#define THREE "message 0 1\nmessage 1 1\nmessage 2 1\n"
#define ANSWER "request; http HTTP/1.1 101 Switching Protocols|Upgrade: websocket|Connection: Upgrade|"

static const struct scene scenes[] = {
    { .name = "open, messages, close", .script = "upgrade; texts 3; close 1000 bye; expect close; fin",
      .events = OPENED THREE "close 1000 clean 3 bye\n", .peer = REQUEST "close 1000\nfin\n" },
    { .name = "all in one piece (F11)", .script = "request; cork; http HTTP/1.1 101 S|Upgrade: websocket|"
      "Connection: Upgrade|Sec-WebSocket-Accept: $accept||; texts 3; ping p; close 4000; uncork; expect close; fin",
      .events = OPENED THREE "close 4000 clean 3\n" },
    { .name = "an empty message and one in pieces", .script = "upgrade; text ; raw 010161 8900 000162 800163; "
      "close; expect close; fin", .events = OPENED "message 1\nmessage abc 1\nclose 1005 clean 3\n" },
    { .name = "a dialogue", .script = "upgrade; text 1; expect text; text 2; text 3; expect close; close 3000 so; fin",
      .on = { [WSR_EVENT_OPEN] = "text hello", [WSR_EVENT_MESSAGE] = "text answer; text more; close 3000 so" },
      .events = OPENED "message 1 1\nclose 3000 clean 3 so\n",
      .peer = REQUEST "text 5 hello\ntext 6 answer\ntext 4 more\nclose 3000 so\nfin\n" },
    { .name = "a Ping of ours", .script = "upgrade; expect ping; pong x; close 1000; expect close; fin",
      ON_OPEN("ping x"), .events = OPENED "pong x 1\nclose 1000 clean 3\n" },

    { .name = "no such host (F1)", .script = "upgrade", .url = "ws://no-such-host.invalid/", .events = FAILED },
    { .name = "refused (F2)", .script = "upgrade", .url = "dead", .events = FAILED },
    { .name = "no answer in time (F4)", .script = "request; hold", .events = FAILED, .limit = OPEN_LIMIT },
    { .name = "the end before an answer (F4)", .script = "request; end", .events = FAILED },
    { .name = "the end within the answer (F4)", .script = ANSWER "; end", .events = FAILED },
    { .name = "a reset before an answer (F4)", .script = "request; rst", .events = FAILED },
    { .name = "garbage (F4)", .script = "request; http FOO BAR||; end", .events = FAILED },
    { .name = "404 (F5)", .script = "request; http HTTP/1.1 404 No||; end", .events = FAILED },
    { .name = "301 (F5)", .script = "request; http HTTP/1.1 301 There|Location: /||; end", .events = FAILED },
    { .name = "a wrong accept (F6)", .script = ANSWER "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=||; text no",
      .events = FAILED },
    { .name = "a protocol that nobody offered (F6)", .script = "upgrade Sec-WebSocket-Protocol: x; text no",
      .events = FAILED },
    { .name = "close() at once (F7)", .script = "upgrade; texts 3; close 1000", .at_once = "close 3000 x",
      .events = FAILED },
    { .name = "close() when all has come (F7, EVT-19)", .script = "upgrade; texts 3; close 1000; expect close; fin",
      .at_once = "sleep; close 3000 x", .events = FAILED },
    { .name = "a broken rule (F9)", .script = "upgrade; texts 3; raw 8300; texts 3; expect close; fin",
      .events = OPENED THREE FAILED },
    { .name = "a broken rule in one piece (F9)",
      .script = "upgrade; cork; texts 3; raw 8300; texts 3; uncork; expect close; fin", ON_MESSAGE("text answer"),
      .events = OPENED THREE FAILED },
    { .name = "text that is none (F9)",
      .script = "upgrade; cork; text a; raw 8102c328; text b; uncork; expect close; fin",
      .events = OPENED "message a 1\n" FAILED },
    { .name = "the end without a Close (F10)", .script = "upgrade; cork; texts 3; uncork; end",
      .events = OPENED THREE FAILED },
    { .name = "a reset (F10)", .script = "upgrade; texts 3; expect text; rst", ON_MESSAGE("text go"),
      .events = OPENED THREE FAILED },
    { .name = "the server closes, data behind (F11)",
      .script = "upgrade; cork; texts 3; close 1001 away; texts 3; ping; close 1000; uncork; expect close; fin",
      .events = OPENED THREE "close 1001 clean 3 away\n", .peer = REQUEST "close 1001\nfin\n" },
    { .name = "the server closes and resets (F11)", .script = "upgrade; close 1000; expect close; rst",
      .events = OPENED "close 1000 clean 3\n" },
    { .name = "our Close, the end of TCP (F12)", .script = "upgrade; expect close; fin", ON_OPEN("close 1000"),
      .events = OPENED FAILED },
    { .name = "our Close, a reset (F12)", .script = "upgrade; expect close; rst", ON_OPEN("close 1000"),
      .events = OPENED FAILED },
    { .name = "our Close, no answer in time (F12)", .script = "upgrade; expect close; hold", ON_OPEN("close 1000"),
      .events = OPENED FAILED, .limit = CLOSE_LIMIT },
    { .name = "no FIN in time", .script = "upgrade; close 1000; expect close; hold",
      .events = OPENED "close 1000 clean 3\n", .limit = FIN_LIMIT },

    { .name = "close in onopen", .script = "upgrade; texts 3; expect close; close 1000; fin", ON_OPEN("close 1000 x"),
      .events = OPENED "close 1000 clean 3\n", .peer = REQUEST "close 1000 x\nfin\n" },
    { .name = "close in onmessage", .script = "upgrade; cork; texts 3; uncork; expect close; text no; close 3000; fin",
      ON_MESSAGE("close 3000"), .events = OPENED "message 0 1\nclose 3000 clean 3\n" },
    { .name = "close in onmessage, the server's Close behind it",
      .script = "upgrade; cork; texts 3; close 1000 theirs; uncork; expect close; fin", ON_MESSAGE("close 3000 ours"),
      .events = OPENED "message 0 1\nclose 1000 clean 3 theirs\n" },
    { .name = "close in onmessage, a broken rule behind it",
      .script = "upgrade; cork; text 0; raw ff00; uncork; expect close; fin", ON_MESSAGE("text a; close 3000"),
      .events = OPENED "message 0 1\n" FAILED },
    { .name = "close in onerror and onclose", .script = "upgrade; end",
      .on = { [WSR_EVENT_ERROR] = "close 1000; text x", [WSR_EVENT_CLOSE] = "close; text y; ping" },
      .events = OPENED FAILED },
    { .name = "close in onclose", .script = "upgrade; close 1000; expect close; fin", ON_CLOSE("close 1000; text x"),
      .events = OPENED "close 1000 clean 3\n" },

    { .name = "destroy in onopen", .script = "upgrade; texts 3; expect close; close 1000; fin", ON_OPEN("destroy"),
      .events = OPENED, .peer = REQUEST "close 1001\nfin\n" },
    { .name = "destroy in onmessage", .script = "upgrade; cork; texts 3; uncork; expect close; close 1000; fin",
      ON_MESSAGE("text a; destroy"), .events = OPENED "message 0 1\n",
      .peer = REQUEST "text 1 a\nclose 1001\nfin\n" },
    { .name = "close and destroy in onmessage", .script = "upgrade; texts 3; expect close; close 1000; fin",
      ON_MESSAGE("close 3000 x; destroy"), .events = OPENED "message 0 1\n", .peer = REQUEST "close 3000 x\nfin\n" },
    { .name = "destroy in onerror", .script = "upgrade; end", ON_ERROR("destroy"), .events = OPENED "error 3\n" },
    { .name = "destroy in onclose", .script = "upgrade; text 0; close; expect close; fin", ON_CLOSE("destroy"),
      .events = OPENED "message 0 1\nclose 1005 clean 3\n" },
    { .name = "destroy while connecting", .script = "request; hold", .at_once = "destroy", .events = "" },
    { .name = "destroy after close", .script = "upgrade; text no", .at_once = "close; destroy", .events = "" },

    { .name = "two", .script = "upgrade; texts 3; close 1000; expect close; fin", .sockets_count = 2,
      .events = OPENED THREE "close 1000 clean 3\n" },
    { .name = "two that fail", .script = "upgrade; texts 3; raw 8300; expect close; fin", .sockets_count = 2,
      .events = OPENED THREE FAILED },
};

/* ---- Ways ---- */

enum way { HANDLERS, LISTENERS, POLL_ONE, POLL_MANY, WAYS_COUNT };
static const char *const way_names[] = { "on* handlers", "listeners", "wsr_poll of 1", "wsr_poll of 64" };

struct run {
    enum way way;
    uint32_t workers, wait;
    struct wsr_engine *engine;
    struct peer *peer;
    const struct scene *scene;
    unsigned sockets_count;
    struct wsr_socket *sockets[SOCKETS_MAX];   /* NULL when destroyed */
    char logs[SOCKETS_MAX][1024];
    bool has_answered[SOCKETS_MAX];            /* to the first message */
    bool is_over[SOCKETS_MAX];
};

static void do_steps(struct run *run, unsigned index, const char *steps)
{
    char copy[256], *save = NULL;
    snprintf(copy, sizeof copy, "%s", steps);
    for (char *step = strtok_r(copy, ";", &save); step != NULL; step = strtok_r(NULL, ";", &save)) {
        step += strspn(step, " ");
        struct wsr_socket *socket = run->sockets[index];
        char *argument = strchr(step, ' ');
        argument = argument != NULL ? argument + 1 : step + strlen(step);
        if (strncmp(step, "text", 4) == 0) {
            assert_int_equal(wsr_send(socket, WSR_TEXT, argument, strlen(argument)), 0);
        } else if (strncmp(step, "ping", 4) == 0) {
            assert_int_equal(wsr_ping(socket, argument, strlen(argument)), 0);
        } else if (strncmp(step, "close", 5) == 0) {
            char *reason;
            int code = (int)strtol(argument, &reason, 10);
            assert_int_equal(wsr_close(socket, code, *reason == ' ' ? reason + 1 : NULL, WSR_ZSTRING), 0);
        } else if (strcmp(step, "sleep") == 0) {
            client_sleep_ms(30);               /* a worker goes on meanwhile, and no event is taken */
        } else {
            assert_string_equal(step, "destroy");
            wsr_socket_destroy(socket);
            run->sockets[index] = NULL;
            run->is_over[index] = true;
        }
    }
}

static void record(const struct wsr_event *event, void *context)
{
    struct run *run = context;
    static const char *const names[] = { "", "open", "message", "error", "close", "writable", "pong" };
    unsigned index = event->socket == run->sockets[0] ? 0 : 1;
    assert_ptr_equal(event->socket, run->sockets[index]);
    char *log = run->logs[index];
    size_t used = strlen(log), room = sizeof run->logs[index] - used;
    int state = (int)wsr_socket_ready_state(event->socket), len = (int)event->len;
    const char *data = len > 0 ? event->data : "";
    if (event->type == WSR_EVENT_CLOSE)
        snprintf(log + used, room, "close %u%s %d%s%.*s\n", event->code, event->was_clean ? " clean" : "", state,
                 len > 0 ? " " : "", len, data);
    else
        snprintf(log + used, room, "%s%s%.*s %d\n", names[event->type], len > 0 ? " " : "", len, data, state);
    run->is_over[index] |= event->type == WSR_EVENT_CLOSE;
    const char *steps = run->scene->on[event->type];
    if (event->type == WSR_EVENT_MESSAGE) {
        steps = run->has_answered[index] ? NULL : steps;
        run->has_answered[index] = true;
    }
    if (steps != NULL)
        do_steps(run, index, steps);
}

/* Work through an array as an application does that closes and destroys while it works: what has become of a socket
 * meanwhile is its own doing, which the array cannot know (wsr_poll). */
static void record_array(struct run *run, const struct wsr_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        const struct wsr_event *event = &events[i];
        if (event->socket != run->sockets[0] && event->socket != run->sockets[1])
            continue;
        if (event->type != WSR_EVENT_MESSAGE || wsr_socket_ready_state(event->socket) == WSR_OPEN)
            record(event, run);
    }
}

static void turn(struct run *run, uint64_t timeout_ms)
{
    struct wsr_event events[64];
    int count;
    if (run->way == HANDLERS || run->way == LISTENERS) {
        count = wsr_dispatch(run->engine, 0, 64, timeout_ms * NS_PER_MS);
    } else {
        count = wsr_poll(run->engine, 0, events, run->way == POLL_ONE ? 1 : 64,
                         timeout_ms * NS_PER_MS);
        record_array(run, events, count);
    }
    if (count < 0)
        fail_msg("%s: %s", wsr_error_name(count), wsr_error_text());
}

static void listen_to(struct run *run, struct wsr_socket *socket)
{
    for (int type = WSR_EVENT_OPEN; type < WSR_EVENT_TYPES_COUNT; type++) {
        if (run->way == HANDLERS)
            assert_int_equal(wsr_set_on(socket, (enum wsr_event_type)type, record, run), 0);
        else if (run->way == LISTENERS)
            assert_int_equal(wsr_add_event_listener(socket, (enum wsr_event_type)type, record, run, 0), 0);
    }
}

static const char *url_of(const struct run *run, char *text, size_t bytes)
{
    const char *url = run->scene->url;
    if (url == NULL)
        return peer_url(run->peer);
    snprintf(text, bytes, "ws://127.0.0.1:%u/", peer_dead_port());
    return strcmp(url, "dead") == 0 ? text : url;
}

static bool are_over(const struct run *run)
{
    for (unsigned i = 0; i < run->sockets_count; i++) {
        if (!run->is_over[i])
            return false;
    }
    return true;
}

static void play(struct run *run, const struct scene *scene)
{
    char url[64];
    unsigned connection = peer_connections(run->peer);
    run->scene = scene;
    run->sockets_count = scene->sockets_count > 0 ? scene->sockets_count : 1;
    memset(run->sockets, 0, sizeof run->sockets);
    memset(run->logs, 0, sizeof run->logs);
    memset(run->has_answered, 0, sizeof run->has_answered);
    memset(run->is_over, 0, sizeof run->is_over);
    peer_script(run->peer, scene->script);
    for (unsigned i = 0; i < run->sockets_count; i++) {
        assert_int_equal(wsr_socket_open(run->engine, url_of(run, url, sizeof url), WSR_ZSTRING, NULL, 0, NULL,
                                         &run->sockets[i]), 0);
        listen_to(run, run->sockets[i]);
        if (scene->at_once != NULL)
            do_steps(run, i, scene->at_once);
    }
    uint64_t limit_ms = client_now_ms() + AWAIT_MS;
    while (!are_over(run) && client_now_ms() < limit_ms)
        turn(run, 5);
    while (scene->peer != NULL && !peer_saw(run->peer, connection, "fin") && client_now_ms() < limit_ms)
        turn(run, 5);
    for (unsigned i = 0; i < 3; i++)
        turn(run, 1);                          /* nothing more comes */
    for (unsigned i = 0; i < run->sockets_count; i++) {
        if (strcmp(run->logs[i], scene->events) != 0)
            fail_msg("%s, by %s, %u workers, wait %u, socket %u:\n%s---- expected was:\n%s", scene->name,
                     way_names[run->way], run->workers, run->wait, i, run->logs[i], scene->events);
        if (run->sockets[i] != NULL)
            wsr_socket_destroy(run->sockets[i]);
    }
    if (scene->peer != NULL)
        peer_expect(run->peer, connection, scene->peer);
}

static void play_all(enum way way, uint32_t workers, uint32_t wait, enum limit limit)
{
    struct run run = { .way = way, .workers = workers, .wait = wait };
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.workers_count = workers;
    options.wait = wait;
    options.open_timeout_ns = limit == OPEN_LIMIT ? 30 * NS_PER_MS : 0;
    options.close_timeout_ns = limit == CLOSE_LIMIT ? 30 * NS_PER_MS : 0;
    options.fin_timeout_ns = limit == FIN_LIMIT ? 30 * NS_PER_MS : 0;
    run.peer = peer_start("upgrade; echo", 0);
    assert_int_equal(wsr_engine_create(&run.engine, &options), 0);
    for (size_t i = 0; i < COUNT(scenes); i++) {
        if (scenes[i].limit == limit)
            play(&run, &scenes[i]);
    }
    assert_int_equal(wsr_engine_destroy(run.engine), 0);
    peer_stop(run.peer);
}

/* EVT-01 to EVT-04, EVT-07, EVT-09, EVT-10, EVT-14, EVT-18; F1, F2, F4 to F7, F9 to F12 */
static void tell_the_same_by_every_way(uint32_t workers, uint32_t wait)
{
    for (int way = 0; way < WAYS_COUNT; way++) {
        for (int limit = 0; limit < LIMITS_COUNT; limit++)
            play_all((enum way)way, workers, wait, (enum limit)limit);
    }
}

static void an_inline_engine_tells_the_same_by_every_way(void **state)
{
    (void)state;
    for (uint32_t wait = WSR_WAIT_BLOCK; wait <= WSR_WAIT_ADAPTIVE; wait++)
        tell_the_same_by_every_way(0, wait);
}

static void a_worker_tells_the_same_by_every_way(void **state)
{
    (void)state;
    for (uint32_t wait = WSR_WAIT_BLOCK; wait <= WSR_WAIT_ADAPTIVE; wait++)
        tell_the_same_by_every_way(1, wait);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_inline_engine_tells_the_same_by_every_way),
        cmocka_unit_test(a_worker_tells_the_same_by_every_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
