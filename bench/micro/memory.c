/* Memory of the engine for each connection that is open and idle. Counted in a process of its own: anonymous pages
 * that were touched (Anonymous of smaps_rollup: heap, slots, stacks; not the kernel's rings), as the slope between two
 * numbers of connections; and beside it how much of that is malloc's. Memory of the kernel is not counted. What is free
 * between the blocks is given back before each look, as handshakes leave much of it, in which later connections would
 * lie unseen.
 * SPDX-License-Identifier: MIT */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "client.h"
#include "proc.h"

#define COUNT_LOW 1000u
#define COUNT_HIGH 6000u
#define COUNT_LARGE_LOW 200u           /* for connections that take much */
#define COUNT_LARGE_HIGH 600u
#define SERVED_MAX (COUNT_HIGH + 1)
#define EXCHANGED_BYTES 65536          /* fills the largest window */
#define EXCHANGE_TIMEOUT_NS 10000000000ull
#define IDLE_NS 50000000ull
#define REST_NS 500000000ull
#define REACH_BYTES 512.0
#define REACH_TLS_BYTES 1024.0
#define REACH_LIBRARY_BYTES 24576.0

struct footprint {
    double touched_bytes;             /* anonymous pages */
    double heap_bytes;                /* handed out by malloc */
};

static int read_footprint(struct footprint *out)
{
    malloc_trim(0);
    struct mallinfo2 heap = mallinfo2();
    *out = (struct footprint){ wsr_proc_bytes("/proc/self/smaps_rollup", "Anonymous:"),
                               (double)(heap.uordblks + heap.hblkhd) };
    return out->touched_bytes >= 0 ? 0 : -1;
}

struct counting {
    struct wsr_engine_options options;
    const char *deflate;              /* offered, and agreed to */
    bool exchanges;                   /* one compressed message each way before the look */
    uint64_t rest_ns;                 /* and then nothing for so long */
    uint32_t low, high;               /* connections */
    uint16_t port;
    struct footprint slope;
};

/* Each socket sends a message, and takes it as it comes back. */
static int exchange(struct wsr_client *client)
{
    static char text[EXCHANGED_BYTES];
    struct wsr_event event;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i * i % 23);
    /* One after another, so that memory of messages on their way, which all share, does not grow with them. */
    for (uint32_t i = 0; i < client->count; i++) {
        if (wsr_send(client->sockets[i], WSR_TEXT, text, sizeof text) != 0 ||
            wsr_poll(client->engine, 0, &event, 1, EXCHANGE_TIMEOUT_NS) != 1 || event.type != WSR_EVENT_MESSAGE ||
            event.len != sizeof text)
            return -1;
    }
    return 0;
}

/* The sockets come to the state in which they are to be counted. */
static int settle(const struct counting *counting, struct wsr_client *client)
{
    struct wsr_event event;
    if (exchange(client) != 0)
        return -1;
    uint64_t until_ns = wsr_clock_now() + counting->rest_ns;
    for (uint64_t now_ns; (now_ns = wsr_clock_now()) < until_ns;) {
        if (wsr_poll(client->engine, 0, &event, 1, until_ns - now_ns) != 0)
            return -1;
    }
    return 0;
}

/* In the child: the slope between the two counts. */
static int count(void *context)
{
    struct counting *counting = context;
    struct footprint *slope = &counting->slope;
    struct wsr_client client;
    struct footprint low, high;
    uint32_t count_low = counting->low, count_high = counting->high;
    if (wsr_client_open_offering(&client, counting->port, count_low, &counting->options, counting->deflate) != 0)
        return -1;
    /* The list of sockets is this program's: room for all of it before the first look. */
    struct wsr_socket **room = realloc(client.sockets, count_high * sizeof *room);
    if (room == NULL)
        return -1;
    memset(room + count_low, 0, (count_high - count_low) * sizeof *room);
    client.sockets = room;
    if (read_footprint(&low) != 0 || wsr_client_open_more(&client, counting->port, count_high - count_low) != 0 ||
        read_footprint(&high) != 0)
        return -1;
    double more = count_high - count_low;
    slope->touched_bytes = (high.touched_bytes - low.touched_bytes) / more;
    slope->heap_bytes = (high.heap_bytes - low.heap_bytes) / more;
    return 0;
}

/* In the child, for connections that exchange messages: one of the two counts. */
static int count_used(void *context)
{
    struct counting *counting = context;
    struct wsr_client client;
    if (wsr_client_open_offering(&client, counting->port, counting->high, &counting->options, counting->deflate) != 0)
        return -1;
    return settle(counting, &client) == 0 ? read_footprint(&counting->slope) : -1;
}

/* The same in a process for each count, as the server serves when it has all of its connections. */
static int measure_used(struct counting *counting)
{
    const uint32_t counts[] = { counting->low, counting->high };
    struct footprint looks[2];
    for (int i = 0; i < 2; i++) {
        struct wsr_peer peer;
        struct wsr_peer_options options = {
            .kind = WSR_PEER_ECHO, .connections_count = counts[i], .extensions = counting->deflate
        };
        counting->high = counts[i];
        if (wsr_peer_start(&peer, &options) != 0)
            return -1;
        counting->port = peer.port;
        int rc = wsr_proc_apart(count_used, counting, &counting->slope, sizeof counting->slope);
        wsr_peer_stop(&peer);
        if (rc != 0)
            return rc;
        looks[i] = counting->slope;
    }
    double more = counts[1] - counts[0];
    counting->slope.touched_bytes = (looks[1].touched_bytes - looks[0].touched_bytes) / more;
    counting->slope.heap_bytes = (looks[1].heap_bytes - looks[0].heap_bytes) / more;
    return 0;
}

static int measure_idle(struct counting *counting)
{
    struct wsr_peer peer;
    struct wsr_peer_options options = {
        .kind = WSR_PEER_ECHO, .connections_count = SERVED_MAX, .is_tls = counting->options.tls_ca_file != NULL,
        .extensions = counting->deflate[0] != '\0' ? counting->deflate : NULL
    };
    if (wsr_peer_start(&peer, &options) != 0)
        return -1;
    counting->port = peer.port;
    int rc = wsr_proc_apart(count, counting, &counting->slope, sizeof counting->slope);
    wsr_peer_stop(&peer);
    return rc;
}

static int measure(const struct wsr_table *table, const char *name, const char *what, double reach,
                   struct counting *counting)
{
    char how[256];
    int rc = counting->exchanges ? measure_used(counting) : measure_idle(counting);
    if (rc != 0) {
        fprintf(stderr, "wsring-micro: %s: could not be counted\n", name);
        return rc;
    }
    snprintf(how, sizeof how,
             "anonymous pages touched (smaps_rollup), from %u to %u connections; of it %.0f B by malloc (mallinfo2), "
             "the rest mapped; without the kernel's memory", counting->low, counting->high,
             counting->slope.heap_bytes);
    wsr_row_count(table, name, what, counting->slope.touched_bytes, reach, how);
    return 0;
}

/* For the ways in which permessage-deflate can be agreed on and used. */
static int measure_deflate(const struct wsr_table *table)
{
    static const char kept[] = "permessage-deflate";
    static const char alone[] = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    static const char small[] = "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9";
    static const struct {
        const char *name, *what, *deflate;
        bool exchanges, rests;
    } rows[] = {
        { "memory-deflate", "the same with permessage-deflate agreed on and not yet used", kept, false, false },
        { "memory-deflate-alone", "after a message each way, each compressed for itself", alone, true, false },
        { "memory-deflate-9", "after a message each way, contexts kept, windows of 2^9 bytes", small, true, false },
        { "memory-deflate-15", "the same, windows of 2^15 bytes", kept, true, false },
        { "memory-deflate-rest", "the same, when it has rested for deflate_idle_ns", kept, true, true }
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool is_large = rows[i].exchanges && rows[i].deflate != alone;
        struct counting counting = {
            .options = WSR_ENGINE_OPTIONS_INIT, .deflate = rows[i].deflate, .exchanges = rows[i].exchanges,
            .low = is_large ? COUNT_LARGE_LOW : COUNT_LOW, .high = is_large ? COUNT_LARGE_HIGH : COUNT_HIGH
        };
        if (rows[i].rests) {
            counting.options.deflate_idle_ns = IDLE_NS;
            counting.rest_ns = REST_NS;
        }
        if (wsr_row_is_wanted(table, rows[i].name) &&
            measure(table, rows[i].name, rows[i].what, 0, &counting) != 0)
            rc = -1;
    }
    return rc;
}

static int measure_tls(const struct wsr_table *table, const char *name, const char *what, double reach,
                       enum wsr_tls_records records)
{
    struct counting counting = {
        .options = WSR_ENGINE_OPTIONS_INIT, .deflate = "", .low = COUNT_LOW, .high = COUNT_HIGH
    };
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    if (!wsr_row_is_wanted(table, name))
        return 0;
    wsr_diagnose(&diagnosis);
    if (records == WSR_TLS_KERNEL && diagnosis.ktls != 1) {
        printf("%-20s left out: %s\n", name, diagnosis.ktls_text);
        return 0;
    }
    wsr_client_tls(&counting.options, records);
    return counting.options.tls_ca_file != NULL ? measure(table, name, what, reach, &counting) : -1;
}

int wsr_memory_rows(const struct wsr_table *table)
{
    struct counting counting = {
        .options = WSR_ENGINE_OPTIONS_INIT, .deflate = "", .low = COUNT_LOW, .high = COUNT_HIGH
    };
    int rc = 0;
    if (wsr_row_is_wanted(table, "memory"))
        rc = measure(table, "memory", "engine memory per idle ws connection", REACH_BYTES, &counting);
    if (measure_deflate(table) != 0)
        rc = -1;
    if (measure_tls(table, "memory-wss-direct", "the same for wss (TLS 1.3, AES-128-GCM), direct records",
                    REACH_TLS_BYTES, WSR_TLS_DIRECT) != 0)
        rc = -1;
    if (measure_tls(table, "memory-wss-kernel", "the same, records by the kernel", REACH_TLS_BYTES,
                    WSR_TLS_KERNEL) != 0)
        rc = -1;
    if (measure_tls(table, "memory-wss-library", "the same, records by the library", REACH_LIBRARY_BYTES,
                    WSR_TLS_LIBRARY) != 0)
        rc = -1;
    return rc;
}
