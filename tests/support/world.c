/* Polling or dispatching as the seed decides, and checking what holds for every event.
 * SPDX-License-Identifier: MIT */
#include "tests/support/world.h"

#include "tests/support/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "tests/support/sim_tls.h"

#define SEEDS_COUNT 60u
#define WSS_SEEDS_STEP 12u              /* one in so many for each way of wss: */
#define WSS_ROWS_STEP 7u                /* and of a table with one seed for each row, one row in so many */
#define END_MS 200000u
#define EVENTS_MAX 16
#define MS 1000000ull

static const char *const way_names[WORLD_WAYS_COUNT] = { "ws", "library", "direct", "kernel" };

static const char *scene_name;    /* under way: its name goes in the messages */

void world_fail(struct world *world, const char *format, ...)
{
    char text[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    sim_fail(world->sim, "%s: %s: %s\n---- events:\n%s---- %s", way_names[world->way],
             scene_name != NULL ? scene_name : "", text, world->log,
             world->last_close.text != NULL ? world->last_close.text : "");
}

/* ---- Events ---- */

static void log_text(struct world *world, const char *text, size_t len)
{
    world->log = realloc(world->log, world->log_bytes + len + 1);
    if (world->log == NULL)
        abort();
    memcpy(world->log + world->log_bytes, text, len);
    world->log_bytes += len;
    world->log[world->log_bytes] = '\0';
}

static void log_event(struct world *world, unsigned index, const struct wsr_event *event)
{
    char line[256];
    int at = 0;
    if (world->sockets_count > 1)
        at = snprintf(line, sizeof line, "%u: ", index);
    char *to = line + at;
    size_t room = sizeof line - (size_t)at;
    int len = (int)event->len;
    const char *data = bytes_of(event);
    switch ((enum wsr_event_type)event->type) {
    case WSR_EVENT_OPEN:
        snprintf(to, room, "open\n");
        break;
    case WSR_EVENT_MESSAGE:
        if (len > 40)
            snprintf(to, room, "message %s %d #%08x\n", event->kind == WSR_TEXT ? "text" : "binary", len,
                     sim_hash(data, event->len));
        else
            snprintf(to, room, "message %s %d%s%.*s\n", event->kind == WSR_TEXT ? "text" : "binary", len,
                     len > 0 ? " " : "", len, data);
        break;
    case WSR_EVENT_ERROR:
        snprintf(to, room, "error\n");
        break;
    case WSR_EVENT_CLOSE:
        snprintf(to, room, "close %u %s%s%.*s\n", event->code, event->was_clean ? "clean" : "unclean",
            len > 0 ? " " : "",
                 len, data);
        break;
    case WSR_EVENT_WRITABLE:
        snprintf(to, room, "writable\n");
        break;
    case WSR_EVENT_PONG:
        snprintf(to, room, "pong %d%s%.*s\n", len, len > 0 ? " " : "", len, data);
        break;
    default:
        world_fail(world, "an event of type %u", event->type);
    }
    log_text(world, line, strlen(line));
}

/* EVT-01 to EVT-04, RFC 6455 7.1.5, and what the header says of each field. */
static void check_event(struct world *world, struct world_socket *s, const struct wsr_event *event)
{
    static const enum wsr_ready_state states[WSR_EVENT_TYPES_COUNT] = {
        [WSR_EVENT_OPEN] = WSR_OPEN, [WSR_EVENT_MESSAGE] = WSR_OPEN, [WSR_EVENT_ERROR] = WSR_CLOSED,
        [WSR_EVENT_CLOSE] = WSR_CLOSED, [WSR_EVENT_WRITABLE] = WSR_OPEN,
        [WSR_EVENT_PONG] = WSR_OPEN
    };
    enum wsr_ready_state state = wsr_socket_ready_state(s->socket);
    bool may_be_closing = event->type == WSR_EVENT_WRITABLE || (!world->dispatches && world->events_max > 1);
    if (state != states[event->type] && !(may_be_closing && state == WSR_CLOSING))
        world_fail(world, "event %u sees readyState %d", event->type, (int)state);
    if (s->closed)
        world_fail(world, "event %u after close", event->type);
    if (s->failed && event->type != WSR_EVENT_CLOSE)
        world_fail(world, "event %u between error and close", event->type);
    if (event->type == WSR_EVENT_OPEN ? s->opened : !s->opened && event->type < WSR_EVENT_ERROR)
        world_fail(world, "event %u: open comes once and first", event->type);
    bool is_blob = (event->flags & WSR_EVENT_BLOB) != 0;
    if ((event->data == NULL) != (event->len == 0 || is_blob) || (is_blob && event->kind != WSR_BINARY) ||
        (event->text == NULL && event->type != WSR_EVENT_PONG))
        world_fail(world, "event %u: data and len, or text, do not fit", event->type);
    if ((event->kind != 0) != (event->type == WSR_EVENT_MESSAGE) ||
        (event->type != WSR_EVENT_CLOSE && (event->code != 0 || event->was_clean != 0)) ||
        (event->type != WSR_EVENT_CLOSE && event->type != WSR_EVENT_ERROR &&
         (event->http_status != 0 || event->system_errno != 0 || event->stage != WSR_STAGE_NONE)))
        world_fail(world, "event %u tells what is another's to tell", event->type);
    if (event->received_ns > sim_now(world->sim))
        world_fail(world, "an event from the future");
    if (event->type == WSR_EVENT_CLOSE) {
        if (event->was_clean == s->failed || (s->failed && event->code != 1006) || (!s->opened && !s->failed))
            world_fail(world, "close: wasClean %d, code %u, after%s error", event->was_clean, event->code,
                       s->failed ? "" : " no");
        if (s->failed && (event->text[0] == '\0' || event->stage == WSR_STAGE_NONE))
            world_fail(world, "close after error tells no reason");
    }
    s->opened |= event->type == WSR_EVENT_OPEN;
    s->failed |= event->type == WSR_EVENT_ERROR;
    s->closed |= event->type == WSR_EVENT_CLOSE;
    s->writable |= event->type == WSR_EVENT_WRITABLE;
    s->messages_count += event->type == WSR_EVENT_MESSAGE;
}

static unsigned index_of(struct world *world, const struct wsr_socket *socket)
{
    for (unsigned i = 0; i < world->sockets_count; i++) {
        if (world->sockets[i].socket == socket)
            return i;
    }
    world_fail(world, "an event of a socket that is destroyed or never was");
}

static void on_event(struct world *world, const struct wsr_event *event)
{
    unsigned index = index_of(world, event->socket);
    struct world_socket *s = &world->sockets[index];
    check_event(world, s, event);
    log_event(world, index, event);
    if (event->type == WSR_EVENT_ERROR)
        world->last_error = *event;
    if (event->type == WSR_EVENT_CLOSE) {
        world->last_close = *event;
        world->closed_ns = sim_now(world->sim);
    }
    if (world->react != NULL)
        world->react(world, index, event);
    if (event->type == WSR_EVENT_OPEN && world->on_open != NULL && s->socket != NULL)
        world_do(world, index, world->on_open);
    if (event->type == WSR_EVENT_MESSAGE && world->on_message != NULL && s->socket != NULL)
        world_do(world, index, world->on_message);
}

static void handle(const struct wsr_event *event, void *context)
{
    on_event(context, event);
}

/* ---- Turning ---- */

static bool reacts(const struct world *world)
{
    return world->react != NULL || world->on_open != NULL || world->on_message != NULL;
}

/* Poll, take the events one by one, and look whether what they lent stayed as it was until the next poll. */
static int poll_once(struct world *world, uint64_t timeout_ns)
{
    struct wsr_event events[EVENTS_MAX];
    uint32_t hashes[EVENTS_MAX];
    uint32_t max = reacts(world) ? 1 : world->events_max;
    int count = wsr_poll(world->engine, 0, events, max, timeout_ns);
    if (count < 0)
        return count;
    if (count > (int)max)
        world_fail(world, "wsr_poll returned %d of %u", count, max);
    for (int i = 0; i < count; i++)
        hashes[i] = sim_hash(bytes_of(&events[i]), events[i].len);
    for (int i = 0; i < count; i++)
        on_event(world, &events[i]);
    for (int i = 0; i < count; i++) {
        if (hashes[i] != sim_hash(bytes_of(&events[i]), events[i].len))
            world_fail(world, "lent memory changed before the next poll");
    }
    return count;
}

/* What the header says of the number that a poll or dispatch returns. */
static int turn(struct world *world, uint64_t timeout_ns)
{
    uint64_t start_ns = sim_now(world->sim);
    int count = world->dispatches ? wsr_dispatch(world->engine, 0, world->events_max, timeout_ns)
                                  : poll_once(world, timeout_ns);
    if (count < 0)
        world_fail(world, "poll or dispatch returned %s: %s", wsr_error_name(count), wsr_error_text());
    if (count > (int)world->events_max)
        world_fail(world, "%d events came of at most %u", count, world->events_max);
    if (count == 0 && (timeout_ns == WSR_NEVER || sim_now(world->sim) - start_ns < timeout_ns))
        world_fail(world, "nothing came, and the time was not over");
    return count;
}

void world_wait(struct world *world)
{
    turn(world, WSR_NEVER);
}

int world_look(struct world *world)
{
    return turn(world, 0);
}

void world_run(struct world *world, uint64_t ms)
{
    uint64_t until_ns = sim_now(world->sim) + ms * MS;
    while (sim_now(world->sim) < until_ns)
        turn(world, until_ns - sim_now(world->sim));
}

void world_run_until(struct world *world, bool (*done)(struct world *world))
{
    uint64_t until_ns = sim_now(world->sim) + END_MS * MS;
    while (!done(world)) {
        if (sim_now(world->sim) >= until_ns)
            world_fail(world, "what the test waits for did not come in 200 s");
        turn(world, 50 * MS);
    }
}

static bool all_closed(struct world *world)
{
    for (unsigned i = 0; i < world->sockets_count; i++) {
        if (world->sockets[i].socket != NULL && !world->sockets[i].closed)
            return false;
    }
    return true;
}

void world_run_to_end(struct world *world)
{
    world_run_until(world, all_closed);
}

void world_sleep(struct world *world, uint64_t ms)
{
    sim_pass(world->sim, ms * MS);
}

/* ---- Sockets ---- */

const char *world_url(const struct world *world, const char *url)
{
    static char text[2048];
    const char *host = url + 5;
    if (world->way == WORLD_WS || strncmp(url, "ws://", 5) != 0)
        return url;
    int len = (int)strcspn(host, "/?");
    const char *name = memchr(host, '@', (size_t)len);
    name = name != NULL ? name + 1 : host;
    const char *bracket = memchr(name, ']', (size_t)(host + len - name));
    bool has_port = memchr(bracket != NULL ? bracket : name, ':',
                           (size_t)(host + len - (bracket != NULL ? bracket : name))) != NULL;
    snprintf(text, sizeof text, "wss://%.*s%s%s", len, host, has_port ? "" : ":80", host + len);
    return text;
}

unsigned world_adopt(struct world *world, struct wsr_socket *socket)
{
    if (world->sockets_count == WORLD_SOCKETS_MAX)
        world_fail(world, "too many sockets");
    unsigned index = world->sockets_count++;
    world->sockets[index] = (struct world_socket){ .socket = socket };
    if (wsr_socket_ready_state(socket) != WSR_CONNECTING)
        world_fail(world, "a new socket is not CONNECTING");
    for (int type = WSR_EVENT_OPEN; type < WSR_EVENT_TYPES_COUNT && world->dispatches; type++)
        assert_int_equal(wsr_set_on(socket, (enum wsr_event_type)type, handle, world), 0);
    return index;
}

unsigned world_connect_to(struct world *world, const char *url, const char *const *protocols, size_t protocols_count)
{
    struct wsr_socket *socket;
    int rc = wsr_socket_open(world->engine, world_url(world, url), WSR_ZSTRING, protocols, protocols_count, NULL,
                             &socket);
    if (rc != 0)
        world_fail(world, "wsr_socket_open returned %s: %s", wsr_error_name(rc), wsr_error_text());
    return world_adopt(world, socket);
}

unsigned world_connect_with(struct world *world, const char *url, const struct wsr_socket_options *options)
{
    struct wsr_socket *socket;
    int rc = wsr_socket_open(world->engine, world_url(world, url), WSR_ZSTRING, NULL, 0, options, &socket);
    if (rc != 0)
        world_fail(world, "wsr_socket_open returned %s: %s", wsr_error_name(rc), wsr_error_text());
    return world_adopt(world, socket);
}

unsigned world_connect(struct world *world)
{
    return world_connect_to(world, WORLD_URL, NULL, 0);
}

void world_destroy_socket(struct world *world, unsigned index)
{
    wsr_socket_destroy(world->sockets[index].socket);
    world->sockets[index].socket = NULL;
}

static void must(struct world *world, const char *what, int rc)
{
    if (rc != 0)
        world_fail(world, "%s: %s: %s", what, wsr_error_name(rc), wsr_error_text());
}

static void send_big(struct world *world, unsigned index, size_t len)
{
    char *text = malloc(len + 1);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++)
        text[i] = sim_pattern(i);
    int rc = wsr_send(world->sockets[index].socket, WSR_TEXT, text, len);
    memset(text, '!', len);            /* SEND-05 */
    free(text);
    must(world, "big", rc);
}

static void do_step(struct world *world, unsigned index, char *step)
{
    struct wsr_socket *socket = world->sockets[index].socket;
    char *argument = strchr(step, ' ');
    argument = argument == NULL ? step + strlen(step) : argument + 1;
    size_t len = strlen(argument);
    if (strncmp(step, "texts", 5) == 0) {
        for (unsigned i = 0; i < strtoul(argument, NULL, 10); i++) {
            char text[16];
            snprintf(text, sizeof text, "%u", i);
            must(world, step, wsr_send(socket, WSR_TEXT, text, strlen(text)));
        }
    } else if (strncmp(step, "text", 4) == 0) {
        must(world, step, wsr_send(socket, WSR_TEXT, argument, len));
    } else if (strncmp(step, "binary", 6) == 0) {
        must(world, step, wsr_send(socket, WSR_BINARY, argument, len));
    } else if (strncmp(step, "big", 3) == 0) {
        send_big(world, index, strtoul(argument, NULL, 10));
    } else if (strncmp(step, "close", 5) == 0) {
        char *reason;
        int code = (int)strtol(argument, &reason, 10);
        must(world, step, wsr_close(socket, code, *reason == ' ' ? reason + 1 : NULL, WSR_ZSTRING));
    } else if (strcmp(step, "destroy") == 0) {
        world_destroy_socket(world, index);
    } else {
        world_fail(world, "unknown step '%s'", step);
    }
}

void world_do(struct world *world, unsigned index, const char *steps)
{
    char copy[512], *save = NULL;
    snprintf(copy, sizeof copy, "%s", steps);
    for (char *step = strtok_r(copy, ";", &save); step != NULL; step = strtok_r(NULL, ";", &save))
        do_step(world, index, step + strspn(step, " "));
}

/* ---- Comparing ---- */

static bool line_matches(const char *got, const char *want)
{
    size_t got_len = strcspn(got, "\n"), want_len = strcspn(want, "\n");
    bool is_start = want_len > 0 && want[want_len - 1] == '*';
    if (is_start ? got_len < want_len - 1 : got_len != want_len)
        return false;
    return memcmp(got, want, is_start ? want_len - 1 : want_len) == 0 && got[got_len] == '\n';
}

static bool matches(const char *got, const char *want)
{
    for (; *want != '\0'; want += strcspn(want, "\n") + 1) {
        bool may_lack = *want == '?';
        if (line_matches(got, want + may_lack))
            got += strcspn(got, "\n") + 1;
        else if (!may_lack)
            return false;
    }
    return *got == '\0';
}

void world_expect(struct world *world, const char *events)
{
    if (!matches(world->log, events))
        world_fail(world, "these events were expected:\n%s", events);
}

void world_expect_peer(struct world *world, unsigned index, const char *lines)
{
    if (!matches(sim_log(world->sim, index), lines))
        world_fail(world, "the peer saw:\n%s---- expected was:\n%s", sim_log(world->sim, index), lines);
}

/* ---- Life ---- */

/* Whoever is trusted, and who carries the records, unless the test says so. */
static void choose_tls(struct world *world, struct wsr_engine_options *options)
{
    static const enum wsr_tls_records records[WORLD_WAYS_COUNT] = {
        [WORLD_WSS_LIBRARY] = WSR_TLS_LIBRARY, [WORLD_WSS_DIRECT] = WSR_TLS_DIRECT, [WORLD_WSS_KERNEL] = WSR_TLS_KERNEL
    };
    if (world->way == WORLD_WS)
        return;
    sim_speak_tls(world->sim, NULL);
    if (options->tls_ca_file == NULL && !(options->flags & WSR_ENGINE_TLS_INSECURE))
        options->tls_ca_file = sim_tls_ca_file();
    if (world->way == WORLD_WSS_KERNEL)
        sim_carry_records(world->sim, true);
    if (options->tls_records == WSR_TLS_AUTO)
        options->tls_records = records[world->way];
}

void world_open(struct world *world, uint64_t seed, const struct wsr_engine_options *options)
{
    world_open_over(world, seed, options, WORLD_WS);
}

void world_open_over(struct world *world, uint64_t seed, const struct wsr_engine_options *options, enum world_way way)
{
    memset(world, 0, sizeof *world);
    world->way = way;
    log_text(world, "", 0);
    world->sim = sim_create(seed);
    world->dispatches = sim_random(world->sim, 2) == 0;
    world->events_max = 1u << sim_random(world->sim, 5);
    struct wsr_engine_options copy = WSR_ENGINE_OPTIONS_INIT;
    if (options != NULL)
        copy = *options;
    if (copy.sockets_max == 0)
        copy.sockets_max = WORLD_SOCKETS_MAX;
    if (copy.events_count == 0)
        copy.events_count = 256;
    if (copy.send_pool_bytes == 0)
        copy.send_pool_bytes = 16u << 20;
    if (copy.wait == WSR_WAIT_DEFAULT)
        copy.wait = (uint32_t)(1 + sim_random(world->sim, 3));
    if (copy.buffers_count == 0)
        copy.buffers_count = 2u << sim_random(world->sim, 4);
    if (copy.buffer_bytes == 0)
        copy.buffer_bytes = 256u << sim_random(world->sim, 5);
    choose_tls(world, &copy);
    int rc = wsr_engine_create_on(&world->engine, &copy, sim_driver(world->sim));
    if (rc != 0)
        world_fail(world, "wsr_engine_create_on returned %s: %s", wsr_error_name(rc), wsr_error_text());
}

void world_close(struct world *world)
{
    assert_int_equal(wsr_engine_destroy(world->engine), 0);
    sim_free(world->sim);
    free(world->log);
}

uint64_t world_seeds_first(void)
{
    const char *seed = getenv("WSRING_SIM_SEED");
    return seed != NULL ? strtoull(seed, NULL, 10) : 1;
}

uint64_t world_seeds_last(void)
{
    const char *count = getenv("WSRING_SIM_SEEDS");
    if (getenv("WSRING_SIM_SEED") != NULL)
        return world_seeds_first();
    return count != NULL ? strtoull(count, NULL, 10) : SEEDS_COUNT;
}

bool world_has_seed(enum world_way way, uint64_t seed)
{
    const char *asked = getenv("WSRING_SIM_WAY");
    if (asked != NULL)
        return strcmp(asked, way_names[way]) == 0;
    if (way == WORLD_WS || world_seeds_first() == world_seeds_last())
        return true;
    /* Spread, as tests choose their cases by what is left of a seed. */
    static const unsigned rests[WORLD_WAYS_COUNT] = { [WORLD_WSS_LIBRARY] = 4, [WORLD_WSS_DIRECT] = 10,
                                                      [WORLD_WSS_KERNEL] = 7 };
    return ((uint32_t)seed * 2654435761u >> 16) % WSS_SEEDS_STEP == rests[way];
}

static void run_over(void (*test)(struct world *world), const struct wsr_engine_options *options, enum world_way way)
{
    for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++) {
        struct world world;
        if (!world_has_seed(way, seed))
            continue;
        world_open_over(&world, seed, options, way);
        test(&world);
        world_close(&world);
    }
}

void world_each_plain_seed(void (*test)(struct world *world), const struct wsr_engine_options *options)
{
    run_over(test, options, WORLD_WS);
}

/* The one way of wss: for @seed; the same for both halves of a pair, as every other seed sends at once. Not the
 * kernel's, which after a record that it cannot open sends nothing any more: see conn_ktls_test.c. */
static enum world_way wss_way(uint64_t seed)
{
    for (int way = WORLD_WSS_LIBRARY; way < WORLD_WSS_KERNEL && getenv("WSRING_SIM_WAY") != NULL; way++) {
        if (world_has_seed((enum world_way)way, seed))
            return (enum world_way)way;
    }
    return seed / 2 % 2 == 0 ? WORLD_WSS_LIBRARY : WORLD_WSS_DIRECT;
}

void world_each_wss_seed(void (*test)(struct world *world), const struct wsr_engine_options *options)
{
    for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++) {
        struct world world;
        world_open_over(&world, seed, options, wss_way(seed));
        test(&world);
        world_close(&world);
    }
}

void world_each_seed(void (*test)(struct world *world), const struct wsr_engine_options *options)
{
    for (int way = WORLD_WS; way < WORLD_WAYS_COUNT; way++)
        run_over(test, options, (enum world_way)way);
}

static void play(struct world *world, const struct world_scene *scene)
{
    sim_script(world->sim, scene->script);
    world->on_open = scene->on_open;
    world->on_message = scene->on_message;
    unsigned index = world_connect_with(world, scene->url != NULL ? scene->url : WORLD_URL, scene->socket_options);
    uint64_t start_ns = sim_now(world->sim);
    if (scene->at_once != NULL)
        world_do(world, index, scene->at_once);
    world_run_to_end(world);
    world_run(world, 10);
    world_expect(world, scene->events);
    world_expect_peer(world, 0, scene->peer);
    uint64_t took_ms = (world->closed_ns - start_ns) / MS;
    if (took_ms < scene->least_ms || took_ms > scene->least_ms + 100)
        world_fail(world, "closed after %llu ms", (unsigned long long)took_ms);
    if (world->last_close.stage != scene->stage || world->last_close.system_errno != scene->system_errno ||
        world->last_close.http_status != scene->http_status)
        world_fail(world, "close tells stage %d, errno %d, status %d", world->last_close.stage,
                   world->last_close.system_errno, world->last_close.http_status);
    if (world->sockets[0].failed && strcmp(world->last_error.text, world->last_close.text) != 0)
        world_fail(world, "error and close tell different stories");
    if (scene->word != NULL && strstr(world->last_close.text, scene->word) == NULL)
        world_fail(world, "close says: %s", world->last_close.text);
    if (wsr_socket_buffered_amount(world->sockets[0].socket) != scene->buffered)
        world_fail(world, "bufferedAmount is %llu",
                   (unsigned long long)wsr_socket_buffered_amount(world->sockets[0].socket));
    if (sim_files_open(world->sim) != 0)
        world_fail(world, "a file is still open");
}

static void play_seed(const struct world_scene *scene, uint64_t seed, enum world_way way)
{
    struct world world;
    scene_name = scene->name;
    world_open_over(&world, seed, scene->options, way);
    play(&world, scene);
    world_close(&world);
    scene_name = NULL;
}

void world_play(const struct world_scene *scenes, size_t scenes_count)
{
    for (size_t i = 0; i < scenes_count; i++) {
        for (int way = WORLD_WS; way < (scenes[i].plain != NULL ? WORLD_WSS_LIBRARY : WORLD_WAYS_COUNT); way++) {
            for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++) {
                if (world_has_seed((enum world_way)way, seed))
                    play_seed(&scenes[i], seed, (enum world_way)way);
            }
        }
    }
}

void world_play_wss(const struct world_scene *scenes, size_t scenes_count)
{
    for (size_t i = 0; i < scenes_count; i++) {
        for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++)
            play_seed(&scenes[i], seed, wss_way(seed));
    }
}

void world_play_few(const struct world_scene *scene, uint64_t step, uint64_t offset)
{
    const char *asked = getenv("WSRING_SIM_WAY");
    enum world_way wss = (enum world_way)(WORLD_WSS_LIBRARY + offset / 2 % (WORLD_WAYS_COUNT - WORLD_WSS_LIBRARY));
    for (int way = WORLD_WS; asked != NULL && way < WORLD_WAYS_COUNT; way++) {
        if (strcmp(asked, way_names[way]) == 0)
            wss = (enum world_way)way;
    }
    /* A single seed that was asked for is always played. */
    uint64_t first = world_seeds_first() + (world_seeds_first() == world_seeds_last() ? 0 : offset % step);
    bool is_for_wss = scene->plain == NULL && (step <= world_seeds_last() || offset % WSS_ROWS_STEP == 0);
    if (is_for_wss && wss != WORLD_WS)
        play_seed(scene, first, wss);
    for (uint64_t seed = first; seed <= world_seeds_last() && world_has_seed(WORLD_WS, seed); seed += step) {
        play_seed(scene, seed, WORLD_WS);
        if (step > world_seeds_last() - seed)
            break;
    }
}
