/* The comparison's client on wsring: an inline engine, through the public header alone. WSRING_RECORDS, when it is
 * "library" or "kernel", lets OpenSSL or the kernel carry the records of TLS, and not the engine.
 * SPDX-License-Identifier: MIT */
#include "wsring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "work.h"

#define EVENTS_COUNT 256u
#define OPENING_MAX 64u               /* connections on their way at once */

struct link {
    struct wsr_socket *socket;
    uint32_t sent, seen;
};

static struct wsr_work work;
static struct wsr_engine *engine;
static struct link *links;
static struct wsr_event events[EVENTS_COUNT];
static uint8_t payload[WSR_WORK_SIZE_MAX];
static enum wsr_tls_records records = WSR_TLS_DIRECT;

/* Whether @event is the next message of its connection. */
static bool is_next(const struct wsr_event *event)
{
    struct link *link = wsr_socket_user(event->socket);
    return event->type == WSR_EVENT_MESSAGE && wsr_work_is_next(&work, event->data, event->len, &link->seen);
}

static void open_links(uint32_t from, uint32_t to)
{
    char url[128];
    struct wsr_event event;
    snprintf(url, sizeof url, "%s://%s:%u/", work.ca_file != NULL ? "wss" : "ws", work.host, work.port);
    for (uint32_t begun = from, open = from; open < to;) {
        for (; begun < to && begun - open < OPENING_MAX; begun++) {
            struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
            options.user = &links[begun];
            if (wsr_socket_open(engine, url, WSR_ZSTRING, NULL, 0, &options, &links[begun].socket) != 0)
                wsr_work_fail("wsring", wsr_error_text());
            wsr_socket_set_binary_type(links[begun].socket, WSR_ARRAYBUFFER);
        }
        if (wsr_poll(engine, 0, &event, 1, WSR_NEVER) != 1)
            wsr_work_fail("wsring", wsr_error_text());
        /* The first messages of one connection may come before the last event of the others. */
        if (event.type != WSR_EVENT_OPEN && !is_next(&event))
            wsr_work_fail("wsring", "a socket did not open, or a wrong message");
        open += event.type == WSR_EVENT_OPEN;
    }
}

static void roundtrip(void)
{
    struct wsr_event event;
    memset(payload, 'x', sizeof payload);
    uint64_t then_ns, now_ns = wsr_work_now();
    do {
        then_ns = now_ns;
        if (wsr_send(links[0].socket, WSR_BINARY, payload, work.size_bytes) != 0 ||
            wsr_poll(engine, 0, &event, 1, WSR_NEVER) != 1 || event.type != WSR_EVENT_MESSAGE ||
            !wsr_work_is_pong(&work, event.data, event.len))
            wsr_work_fail("wsring", "no answer, or a wrong one");
        now_ns = wsr_work_now();
    } while (wsr_work_note_trip(&work, then_ns, now_ns));
}

static void send_next(struct link *link)
{
    wsr_work_number(&work, payload, &link->sent);
    if (wsr_send(link->socket, WSR_BINARY, payload, work.size_bytes) != 0)
        wsr_work_fail("wsring", wsr_error_text());
}

/* Messages as they come, each answered with the next if @echoes. */
static void take(bool echoes)
{
    for (;;) {
        int count = wsr_poll(engine, 0, events, EVENTS_COUNT, WSR_NEVER);
        if (count < 0)
            wsr_work_fail("wsring", wsr_error_text());
        for (int i = 0; i < count; i++) {
            if (!is_next(&events[i]))
                wsr_work_fail("wsring", "a wrong message, or the end");
            if (!wsr_work_count(&work))
                return;
            if (echoes)
                send_next(wsr_socket_user(events[i].socket));
        }
    }
}

__attribute__((noreturn)) static void end(const char *how)
{
    static const char *const names[] = {
        [WSR_TLS_LIBRARY] = "wsring " WSR_VERSION ", library", [WSR_TLS_KERNEL] = "wsring " WSR_VERSION ", kernel",
        [WSR_TLS_DIRECT] = "wsring " WSR_VERSION
    };
    static const char *const ways[] = {
        [WSR_TLS_LIBRARY] = "; records by the library", [WSR_TLS_KERNEL] = "; records by the kernel",
        [WSR_TLS_DIRECT] = "; direct records"
    };
    char way[96];
    snprintf(way, sizeof way, "inline engine%s%s", how, work.ca_file != NULL ? ways[records] : "");
    wsr_work_end(&work, names[records], way);
}

static struct wsr_engine_options make_options(void)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    const char *wanted = getenv("WSRING_RECORDS");
    if (wanted != NULL && strcmp(wanted, "library") == 0)
        records = WSR_TLS_LIBRARY;
    else if (wanted != NULL && strcmp(wanted, "kernel") == 0)
        records = WSR_TLS_KERNEL;
    options.wait = work.kind == WSR_WORK_ROUNDTRIP ? WSR_WAIT_SPIN : WSR_WAIT_BLOCK;
    options.tls_ca_file = work.ca_file;
    options.tls_records = records;
    return options;
}

int main(int argc, char **argv)
{
    wsr_work_read(&work, argc, argv);
    struct wsr_engine_options options = make_options();
    links = calloc(work.connections_count, sizeof *links);
    if (links == NULL || wsr_engine_create(&engine, &options) != 0)
        wsr_work_fail("wsring", links == NULL ? "no memory" : wsr_error_text());
    if (work.kind == WSR_WORK_MEMORY) {
        /* The list is this program's own, so that it is touched before the first look. */
        memset(links, 1, work.connections_count * sizeof *links);
        open_links(0, wsr_work_few(&work));
        wsr_work_look_at_memory(&work);
        open_links(wsr_work_few(&work), work.connections_count);
        end("");
    }
    open_links(0, work.connections_count);
    wsr_work_begin(&work);
    if (work.kind == WSR_WORK_ROUNDTRIP)
        roundtrip();
    for (uint32_t i = 0; work.kind == WSR_WORK_ECHO && i < work.connections_count * work.in_flight; i++)
        send_next(&links[i % work.connections_count]);
    if (work.kind != WSR_WORK_ROUNDTRIP)
        take(work.kind == WSR_WORK_ECHO);
    end(work.kind == WSR_WORK_ROUNDTRIP ? ", spinning" : ", sleeping");
}
