/* The application's side of a test. */
#include "tests/support/client.h"

#include "tests/support/bytes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define AWAIT_MS 60000u
#define PAYLOAD_LOGGED_MAX 40

uint64_t client_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

void client_sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 }, NULL);
}

void client_open(struct client *client, const struct wsr_engine_options *options, const char *script)
{
    *client = (struct client){ .events_max = CLIENT_POLL_MAX };
    client->peer = peer_start(script, 0);
    int rc = wsr_engine_create(&client->engine, options);
    if (rc != 0)
        fail_msg("wsr_engine_create: %s: %s", wsr_error_name(rc), wsr_error_text());
}

void client_close(struct client *client)
{
    assert_int_equal(wsr_engine_destroy(client->engine), 0);
    peer_stop(client->peer);
}

static void run_with(void (*test)(struct client *client), const struct wsr_engine_options *options, uint32_t workers,
                     uint32_t wait, const char *script)
{
    struct wsr_engine_options own = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    if (options != NULL)
        own = *options;
    own.workers_count = workers;
    if (own.wait == WSR_WAIT_DEFAULT)
        own.wait = wait;
    client_open(&client, &own, script);
    test(&client);
    client_close(&client);
}

void client_each(void (*test)(struct client *client), const struct wsr_engine_options *options, const char *script)
{
    bool says_wait = options != NULL && options->wait != WSR_WAIT_DEFAULT;
    /* Who spins on the only CPU keeps it from whom it waits for until its time slice is over: minutes for a suite. */
    bool has_one_cpu = sysconf(_SC_NPROCESSORS_ONLN) == 1;
    for (uint32_t workers = 0; workers < 2; workers++) {
        for (uint32_t wait = WSR_WAIT_BLOCK; wait <= (says_wait ? WSR_WAIT_BLOCK : WSR_WAIT_ADAPTIVE); wait++) {
            if (wait != WSR_WAIT_SPIN || !has_one_cpu)
                run_with(test, options, workers, wait, script);
        }
    }
}

struct wsr_socket *client_connect_with(struct client *client, const struct wsr_socket_options *options)
{
    struct wsr_socket *socket = NULL;
    int rc = wsr_socket_open(client->engine, peer_url(client->peer), WSR_ZSTRING, NULL, 0, options, &socket);
    if (rc != 0)
        fail_msg("wsr_socket_open: %s: %s", wsr_error_name(rc), wsr_error_text());
    client_listen(client, socket);
    return socket;
}

struct wsr_socket *client_connect(struct client *client)
{
    return client_connect_with(client, NULL);
}

struct wsr_socket *client_connect_open(struct client *client)
{
    struct wsr_socket *socket = client_connect(client);
    client_until(client, WSR_EVENT_OPEN, client->counts[WSR_EVENT_OPEN] + 1);
    return socket;
}

static void write_line(struct client *client, const struct wsr_event *event)
{
    static const char *const names[] = { "", "open", "", "error", "close", "writable", "pong" };
    char line[192];
    int len = event->len <= PAYLOAD_LOGGED_MAX ? (int)event->len : 0;
    const char *data = len > 0 ? bytes_of(event) : "";
    if (event->type == WSR_EVENT_MESSAGE)
        snprintf(line, sizeof line, "%s %llu %.*s\n", event->kind == WSR_TEXT ? "text" : "binary",
                 (unsigned long long)event->len, len, data);
    else if (event->type == WSR_EVENT_CLOSE)
        snprintf(line, sizeof line, "close %u%s%s%.*s\n", event->code, event->was_clean ? " clean" : "",
                 len > 0 ? " " : "", len, data);
    else
        snprintf(line, sizeof line, "%s\n", names[event->type]);
    size_t bytes = strlen(line);
    if (client->log_bytes + bytes >= sizeof client->log)
        return;
    memcpy(client->log + client->log_bytes, line, bytes + 1);
    client->log_bytes += bytes;
}

void client_record(const struct wsr_event *event, void *context)
{
    struct client *client = context;
    assert_in_range(event->type, 1, WSR_EVENT_TYPES_COUNT - 1);
    assert_true((event->len == 0 || (event->flags & WSR_EVENT_BLOB)) == (event->data == NULL));
    client->counts[event->type]++;
    client->last[event->type] = *event;
    write_line(client, event);
    if (client->react != NULL)
        client->react(client, event);
}

void client_listen(struct client *client, struct wsr_socket *socket)
{
    for (unsigned type = 1; type < WSR_EVENT_TYPES_COUNT; type++)
        assert_int_equal(wsr_set_on(socket, (enum wsr_event_type)type, client_record, client), 0);
}

static void check_count(int count)
{
    if (count < 0)
        fail_msg("%s: %s", wsr_error_name(count), wsr_error_text());
}

int client_poll(struct client *client, uint32_t ring, uint64_t timeout_ms)
{
    struct wsr_event events[CLIENT_POLL_MAX];
    uint64_t timeout_ns = timeout_ms * 1000000u;
    if (client->uses_dispatch) {
        int count = wsr_dispatch(client->engine, ring, client->events_max, timeout_ns);
        check_count(count);
        return count;
    }
    int count = wsr_poll(client->engine, ring, events, client->events_max, timeout_ns);
    check_count(count);
    for (int i = 0; i < count; i++)
        client_record(&events[i], client);
    return count;
}

static void poll_all(struct client *client)
{
    uint32_t rings = wsr_engine_rings(client->engine);
    for (uint32_t ring = 0; ring < rings; ring++)
        client_poll(client, ring, rings == 1 ? 20 : 1);
}

void client_until(struct client *client, enum wsr_event_type type, uint64_t count)
{
    uint64_t limit_ms = client_now_ms() + AWAIT_MS;
    while (client->counts[type] < count) {
        poll_all(client);
        if (client_now_ms() > limit_ms)
            fail_msg("%llu of %llu events of type %d came; the log: %s", (unsigned long long)client->counts[type],
                     (unsigned long long)count, (int)type, client->log);
    }
}

void client_echo(struct client *client, struct wsr_socket *socket, unsigned count)
{
    for (unsigned i = 1; i <= count; i++) {
        assert_int_equal(wsr_send(socket, WSR_TEXT, "x", 1), 0);
        client_until(client, WSR_EVENT_MESSAGE, i);
    }
}

void client_until_true(struct client *client, bool (*done)(struct client *client))
{
    uint64_t limit_ms = client_now_ms() + AWAIT_MS;
    while (!done(client)) {
        poll_all(client);
        if (client_now_ms() > limit_ms)
            fail_msg("it never happened; the log: %s", client->log);
    }
}

void client_until_peer(struct client *client, unsigned index, const char *line_start)
{
    uint64_t limit_ms = client_now_ms() + AWAIT_MS;
    while (!peer_saw(client->peer, index, line_start)) {
        poll_all(client);
        if (client_now_ms() > limit_ms)
            fail_msg("connection %u of the peer never saw \"%s\"", index, line_start);
    }
}

void client_idle(struct client *client, uint64_t ms)
{
    uint64_t end_ms = client_now_ms() + ms;
    do {
        poll_all(client);
    } while (client_now_ms() < end_ms);
}

void client_expect(struct client *client, const char *log)
{
    assert_string_equal(client->log, log);
}

struct wsr_engine_statistics client_statistics(struct client *client)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(client->engine, &statistics), 0);
    return statistics;
}
