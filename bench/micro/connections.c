/* So many connections open at once in one process, each with one message there and back; without TLS more than it may
 * have files open. Client and servers are processes of their own; the client's limit of open files is two fifths of the
 * number then.
 * SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"
#include "client.h"
#include "crowd.h"
#include "proc.h"
#include "summary.h"

#define COUNT_FULL 50000u
#define COUNT_QUICK 10000u
#define COUNT_TLS 5000u
#define SERVERS_COUNT 4u              /* each has its share as files; over 14,000 to one, a free port is hard to find */
#define WORKERS_COUNT 3u
#define UNDER_WAY_MAX 512u            /* connections, and then messages */
#define PAYLOAD_BYTES 64u
#define EVENTS_COUNT 256u
#define NAP_NS 1000000ull
#define PATIENCE_NS 60000000000ull    /* without any progress */

struct outcome {
    uint32_t opened, verified, ended, wrong;
    uint32_t files, files_max;        /* of the client, with all connections open */
    double engine_bytes;              /* anonymous pages, for each connection */
    double kernel_bytes;              /* slabs of the machine, both ends, for each connection */
    double open_s, echo_s;
    char text[160];                   /* the first thing that went wrong */
};

struct run {
    const char *name, *what;
    struct wsr_crowd *crowds;
    struct wsr_engine_options options;
    bool is_tls;
    struct wsr_engine *engine;
    struct wsr_socket **sockets;
    uint32_t count, begun, done;
    uint64_t progress_ns;
    struct outcome out;
};

/* ---- Counting ---- */

static double engine_bytes(void)
{
    return wsr_proc_bytes("/proc/self/smaps_rollup", "Anonymous:");
}

static double kernel_bytes(void)
{
    return wsr_proc_bytes("/proc/meminfo", "Slab:");
}

static uint32_t count_files(void)
{
    uint32_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count - 3;                 /* ".", ".." and the directory itself */
}

/* ---- The client ---- */

static void note(struct run *r, const char *text)
{
    if (r->out.wrong++ == 0)
        snprintf(r->out.text, sizeof r->out.text, "%s", text);
}

static void make_payload(uint8_t to[PAYLOAD_BYTES], uint64_t connection)
{
    uint64_t words[PAYLOAD_BYTES / 8];
    for (size_t i = 0; i < PAYLOAD_BYTES / 8; i++)
        words[i] = (connection + i) * 0x9e3779b97f4a7c15ull;
    memcpy(to, words, PAYLOAD_BYTES);
}

static void take(struct run *r, const struct wsr_event *event)
{
    uint8_t wanted[PAYLOAD_BYTES];
    uint64_t connection = (uintptr_t)wsr_socket_user(event->socket);
    r->progress_ns = wsr_clock_now();
    switch ((enum wsr_event_type)event->type) {
    case WSR_EVENT_OPEN:
        r->out.opened++;
        r->done++;
        break;
    case WSR_EVENT_MESSAGE:
        make_payload(wanted, connection);
        r->done++;
        if (event->len == PAYLOAD_BYTES && memcmp(event->data, wanted, PAYLOAD_BYTES) == 0)
            r->out.verified++;
        else
            note(r, "an echo was not what had been sent");
        break;
    case WSR_EVENT_CLOSE:
        r->out.ended++;
        r->done++;
        if (r->begun != 0)            /* else the servers end it */
            note(r, event->text != NULL ? event->text : "a connection ended");
        break;
    default:
        break;
    }
}

static bool begin_open(struct run *r, uint32_t i)
{
    char url[64];
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    snprintf(url, sizeof url, "%s://127.0.0.1:%u/", r->is_tls ? "wss" : "ws", r->crowds[i % SERVERS_COUNT].peer.port);
    options.user = (void *)(uintptr_t)i;
    if (wsr_socket_open(r->engine, url, WSR_ZSTRING, NULL, 0, &options, &r->sockets[i]) != 0)
        return false;
    wsr_socket_set_binary_type(r->sockets[i], WSR_ARRAYBUFFER);
    return true;
}

static bool begin_echo(struct run *r, uint32_t i)
{
    uint8_t payload[PAYLOAD_BYTES];
    make_payload(payload, i);
    return wsr_send(r->sockets[i], WSR_BINARY, payload, sizeof payload) == 0;
}

/* Let @begin begin all, a bounded number at a time, and take events until all are done. NULL: wait for them only. */
static double go_through(struct run *r, bool (*begin)(struct run *r, uint32_t i))
{
    static struct wsr_event events[EVENTS_COUNT];
    uint64_t start_ns = wsr_clock_now();
    r->begun = r->done = 0;
    r->progress_ns = start_ns;
    while (r->done < r->count && r->out.wrong == 0) {
        while (begin != NULL && r->begun < r->count && r->begun - r->done < UNDER_WAY_MAX && r->out.wrong == 0) {
            if (!begin(r, r->begun++))
                note(r, wsr_error_text());
        }
        int all = 0;
        for (uint32_t ring = 0; ring < WORKERS_COUNT; ring++) {
            int taken = wsr_poll(r->engine, ring, events, EVENTS_COUNT, all == 0 && ring == 0 ? NAP_NS : 0);
            for (int i = 0; i < taken; i++)
                take(r, &events[i]);
            all += taken;
            if (taken < 0)
                note(r, wsr_error_text());
        }
        if (wsr_clock_now() - r->progress_ns > PATIENCE_NS)
            note(r, "nothing more came");
    }
    return (double)(wsr_clock_now() - start_ns) / 1e9;
}

static uint32_t limit_files(const struct run *r)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    if ((r->options.flags & WSR_ENGINE_DIRECT_DESCRIPTORS) != 0 && files.rlim_cur > r->count / 5 * 2) {
        files.rlim_cur = r->count / 5 * 2;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    return (uint32_t)files.rlim_cur;
}

/* In the child. */
static int run_client(void *context)
{
    struct run *r = context;
    r->out.files_max = limit_files(r);
    r->sockets = calloc(r->count, sizeof *r->sockets);
    if (r->sockets == NULL || wsr_engine_create(&r->engine, &r->options) != 0) {
        note(r, r->sockets == NULL ? "no memory" : wsr_error_text());
        return 0;
    }
    memset(r->sockets, 1, r->count * sizeof *r->sockets);      /* these pages are there before the first look */
    double engine_before = engine_bytes(), kernel_before = kernel_bytes();
    r->out.open_s = go_through(r, begin_open);
    malloc_trim(0);                   /* what is free between the blocks, of handshakes, is not theirs */
    r->out.engine_bytes = (engine_bytes() - engine_before) / r->count;
    r->out.kernel_bytes = (kernel_bytes() - kernel_before) / r->count;
    if (r->out.wrong == 0)
        r->out.echo_s = go_through(r, begin_echo);
    r->out.files = count_files();
    for (uint32_t i = 0; i < SERVERS_COUNT; i++) {
        if (wsr_crowd_reset(&r->crowds[i]) != 0)
            note(r, "a server has gone");
    }
    if (r->out.wrong == 0)
        go_through(r, NULL);
    wsr_engine_destroy(r->engine);
    free(r->sockets);
    return 0;
}

/* ---- The row ---- */

static void report(const struct wsr_table *table, const struct run *r)
{
    const struct outcome *o = &r->out;
    char how[512];
    bool reached = o->opened >= r->count && o->verified >= r->count && o->ended >= r->count && o->wrong == 0;
    int used = snprintf(how, sizeof how,
                        "%u verified, %u errors; %u open files of %u allowed; opened in %.1f s, echoed in %.1f s; for "
                        "each %.0f B of the engine (anonymous pages, its receive buffers too), %.0f B of the kernel "
                        "(slabs, both ends)",
                        o->verified, o->wrong, o->files, o->files_max, o->open_s, o->echo_s, o->engine_bytes,
                        o->kernel_bytes);
    if (table->quick && !r->is_tls)
        used += snprintf(how + used, sizeof how - (size_t)used, "; --quick: %u instead of %u", COUNT_QUICK, COUNT_FULL);
    if (o->wrong > 0)
        snprintf(how + used, sizeof how - (size_t)used, "; first: %s", o->text);
    printf("%-20s %u open  reach >= %u  %s   %s\n    %s\n", r->name, o->opened, r->count, reached ? "ok" : "short",
           r->what, how);
    fflush(stdout);
    struct wsr_summary_line *line = wsr_summary_add(table->summary);
    if (line != NULL) {
        snprintf(line->row, sizeof line->row, "%s", r->name);
        snprintf(line->engine, sizeof line->engine, "%u open, %u files", o->opened, o->files);
        snprintf(line->reach, sizeof line->reach, ">= %u", r->count);
        line->reached = reached;
    }
    if (table->json == NULL)
        return;
    wsr_json_open(table->json, NULL, '{');
    wsr_json_text(table->json, "row", r->name);
    wsr_json_text(table->json, "what", r->what);
    wsr_json_text(table->json, "unit", "connections");
    wsr_json_count(table->json, "value", o->opened);
    wsr_json_text(table->json, "how", how);
    wsr_json_count(table->json, "reach", r->count);
    wsr_json_count(table->json, "open_files", o->files);
    wsr_json_count(table->json, "open_files_allowed", o->files_max);
    wsr_json_number(table->json, "engine_bytes", o->engine_bytes);
    wsr_json_number(table->json, "kernel_bytes", o->kernel_bytes);
    wsr_json_bool(table->json, "reached", reached);
    wsr_json_close(table->json, '}');
}

static int measure(const struct wsr_table *table, struct run *r)
{
    struct wsr_crowd crowds[SERVERS_COUNT];
    struct wsr_crowd_options options = {
        .connections_max = r->count / SERVERS_COUNT + 1, .echoes = true, .is_tls = r->is_tls
    };
    uint32_t started = 0;
    if (!wsr_row_is_wanted(table, r->name))
        return 0;
    r->crowds = crowds;
    r->options.workers_count = WORKERS_COUNT;
    while (started < SERVERS_COUNT && wsr_crowd_start(&crowds[started], &options) == 0)
        started++;
    int rc = started == SERVERS_COUNT ? wsr_proc_apart(run_client, r, &r->out, sizeof r->out) : -1;
    for (uint32_t i = 0; i < started; i++)
        wsr_crowd_stop(&crowds[i]);
    if (rc == 0)
        report(table, r);
    else
        fprintf(stderr, "wsring-micro: %s: could not be counted\n", r->name);
    return rc;
}

int wsr_connections_rows(const struct wsr_table *table)
{
    struct run plain = {
        .name = "connections", .what = "connections in one process, direct descriptors, each echoes a message",
        .count = table->quick ? COUNT_QUICK : COUNT_FULL,
        .options = { .size = sizeof plain.options, .flags = WSR_ENGINE_DIRECT_DESCRIPTORS }
    };
    struct run tls = {
        .name = "connections-wss", .what = "wss connections in one process, direct records, each echoes a message",
        .count = COUNT_TLS, .is_tls = true, .options = WSR_ENGINE_OPTIONS_INIT
    };
    int rc = measure(table, &plain);
    wsr_client_tls(&tls.options, WSR_TLS_DIRECT);
    return measure(table, &tls) < 0 ? -1 : rc;
}
