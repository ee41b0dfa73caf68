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
    uint16_t port;
    struct footprint slope;
};

/* In the child: the slope between the two counts. */
static int count(void *context)
{
    struct counting *counting = context;
    struct footprint *slope = &counting->slope;
    struct wsr_client client;
    struct footprint low, high;
    if (wsr_client_open_with(&client, counting->port, COUNT_LOW, &counting->options) != 0)
        return -1;
    /* The list of sockets is this program's: room for all of it before the first look. */
    struct wsr_socket **room = realloc(client.sockets, COUNT_HIGH * sizeof *room);
    if (room == NULL)
        return -1;
    memset(room + COUNT_LOW, 0, (COUNT_HIGH - COUNT_LOW) * sizeof *room);
    client.sockets = room;
    if (read_footprint(&low) != 0 || wsr_client_open_more(&client, counting->port, COUNT_HIGH - COUNT_LOW) != 0 ||
        read_footprint(&high) != 0)
        return -1;
    double more = COUNT_HIGH - COUNT_LOW;
    slope->touched_bytes = (high.touched_bytes - low.touched_bytes) / more;
    slope->heap_bytes = (high.heap_bytes - low.heap_bytes) / more;
    return 0;
}

static int measure(const struct wsr_table *table, const char *name, const char *what, double reach,
                   const struct wsr_engine_options *engine_options)
{
    struct wsr_peer peer;
    struct wsr_peer_options options = {
        .kind = WSR_PEER_ECHO, .connections_count = COUNT_HIGH + 1, .is_tls = engine_options->tls_ca_file != NULL
    };
    struct counting counting = { .options = *engine_options };
    char how[256];
    if (wsr_peer_start(&peer, &options) != 0)
        return -1;
    counting.port = peer.port;
    int rc = wsr_proc_apart(count, &counting, &counting.slope, sizeof counting.slope);
    wsr_peer_stop(&peer);
    if (rc != 0) {
        fprintf(stderr, "wsring-micro: %s: could not be counted\n", name);
        return rc;
    }
    snprintf(how, sizeof how,
             "anonymous pages touched (smaps_rollup), from %u to %u connections; of it %.0f B by malloc (mallinfo2), "
             "the rest mapped slots; without the kernel's memory", COUNT_LOW, COUNT_HIGH, counting.slope.heap_bytes);
    wsr_row_count(table, name, what, counting.slope.touched_bytes, reach, how);
    return 0;
}

static int measure_tls(const struct wsr_table *table, const char *name, const char *what, double reach,
                       enum wsr_tls_records records)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    if (!wsr_row_is_wanted(table, name))
        return 0;
    wsr_diagnose(&diagnosis);
    if (records == WSR_TLS_KERNEL && diagnosis.ktls != 1) {
        printf("%-20s left out: %s\n", name, diagnosis.ktls_text);
        return 0;
    }
    wsr_client_tls(&options, records);
    return options.tls_ca_file != NULL ? measure(table, name, what, reach, &options) : -1;
}

int wsr_memory_rows(const struct wsr_table *table)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    int rc = 0;
    if (wsr_row_is_wanted(table, "memory"))
        rc = measure(table, "memory", "engine memory per idle ws connection", REACH_BYTES, &options);
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
