/* Memory of the engine for each connection that is open and idle. Counted in a process of its own: anonymous pages
 * that were touched (Anonymous of smaps_rollup: heap, slots, stacks; not the kernel's rings), as the slope between two
 * numbers of connections; and beside it how much of that is malloc's. Memory of the kernel is not counted.
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

struct footprint {
    double touched_bytes;             /* anonymous pages */
    double heap_bytes;                /* handed out by malloc */
};

static int read_footprint(struct footprint *out)
{
    struct mallinfo2 heap = mallinfo2();
    *out = (struct footprint){ wsr_proc_bytes("/proc/self/smaps_rollup", "Anonymous:"),
                               (double)(heap.uordblks + heap.hblkhd) };
    return out->touched_bytes >= 0 ? 0 : -1;
}

struct counting {
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
    if (wsr_client_open(&client, counting->port, COUNT_LOW, WSR_WAIT_BLOCK) != 0)
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

int wsr_memory_rows(const struct wsr_table *table)
{
    struct wsr_peer peer;
    struct wsr_peer_options options = { .kind = WSR_PEER_ECHO, .connections_count = COUNT_HIGH + 1 };
    struct counting counting;
    char how[256];
    if (!wsr_row_is_wanted(table, "memory"))
        return 0;
    if (wsr_peer_start(&peer, &options) != 0)
        return -1;
    counting.port = peer.port;
    int rc = wsr_proc_apart(count, &counting, &counting.slope, sizeof counting.slope);
    wsr_peer_stop(&peer);
    if (rc != 0) {
        fprintf(stderr, "wsring-micro: memory: could not be counted\n");
        return rc;
    }
    snprintf(how, sizeof how,
             "anonymous pages touched (smaps_rollup), from %u to %u connections; of it %.0f B by malloc (mallinfo2), "
             "the rest mapped slots; without the kernel's memory", COUNT_LOW, COUNT_HIGH, counting.slope.heap_bytes);
    wsr_row_count(table, "memory", "engine memory per idle ws connection", counting.slope.touched_bytes, REACH_BYTES,
                  how);
    return 0;
}
