/* What each way of waiting gives and costs: rows for information, without a reach. The first side is the default.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "client.h"
#include "engine/frame.h"

#define PAYLOAD_BYTES 64u
#define CONNECTIONS_COUNT 64u
#define SAMPLES_MAX (1u << 18)
#define WAIT_NS 100000000ull

struct waits {
    const struct wsr_table *table;
    struct wsr_peer peer;
    uint32_t connections_count;
    double *samples;                  /* round trips, ns; NULL = CPU time per message is measured */
    uint32_t samples_count;
    uint64_t messages;
};

static bool send_one(struct wsr_socket *socket)
{
    static const uint8_t payload[PAYLOAD_BYTES];
    return wsr_send(socket, WSR_BINARY, payload, sizeof payload) == 0;
}

/* Take what is there, and answer each with the next. Returns false on an error. */
static bool turn(struct waits *w, struct wsr_client *client)
{
    static struct wsr_event events[WSR_CLIENT_EVENTS_COUNT];
    int count = wsr_poll(client->engine, 0, events, WSR_CLIENT_EVENTS_COUNT, WAIT_NS);
    bool ok = count >= 0;
    for (int i = 0; ok && i < count; i++) {
        ok = events[i].type == WSR_EVENT_MESSAGE && events[i].len == PAYLOAD_BYTES && send_one(events[i].socket);
        w->messages++;
    }
    return ok;
}

static int run(struct waits *w, const struct wsr_engine_options *options, struct wsr_row_measure *out)
{
    struct wsr_client client;
    struct wsr_meter meter;
    if (wsr_client_open_with(&client, w->peer.port, w->connections_count, options) != 0)
        return -1;
    bool ok = true, measures = false;
    for (uint32_t i = 0; i < w->connections_count; i++)
        ok = ok && send_one(client.sockets[i]);
    uint64_t now_ns = wsr_clock_now(), then_ns, client_ns;
    uint64_t warm_ns = now_ns + w->table->warmup_ns, end_ns = warm_ns + w->table->slice_ns;
    w->samples_count = 0;
    while (ok && now_ns < end_ns) {
        then_ns = now_ns;
        ok = turn(w, &client);
        now_ns = wsr_clock_now();
        if (!measures && now_ns >= warm_ns) {
            measures = true;
            w->messages = 0;
            wsr_meter_begin(&meter, &w->peer);
        } else if (measures && w->samples != NULL && w->samples_count < SAMPLES_MAX) {
            w->samples[w->samples_count++] = (double)(now_ns - then_ns);
        }
    }
    if (ok && measures) {
        wsr_meter_end(&meter, out, &client_ns);
        out->value = w->samples != NULL ? wsr_row_median(w->samples, w->samples_count)
                                        : (double)client_ns / (double)(w->messages + 1);
    }
    wsr_client_close(&client);
    return ok && measures ? 0 : -1;
}

static int run_wait(void *context, struct wsr_row_measure *out, enum wsr_wait wait, uint32_t batch_count)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.wait = wait;
    options.batch_count = batch_count;
    return run(context, &options, out);
}

static int run_block(void *context, struct wsr_row_measure *out)
{
    return run_wait(context, out, WSR_WAIT_BLOCK, 0);
}

static int run_adaptive(void *context, struct wsr_row_measure *out)
{
    return run_wait(context, out, WSR_WAIT_ADAPTIVE, 0);
}

static int run_spin(void *context, struct wsr_row_measure *out)
{
    return run_wait(context, out, WSR_WAIT_SPIN, 0);
}

static int run_spin_on_ring(void *context, struct wsr_row_measure *out)
{
    setenv("WSRING_URING_OFF", "plain_calls", 1);
    int rc = run_spin(context, out);
    unsetenv("WSRING_URING_OFF");
    return rc;
}

static int run_batch(void *context, struct wsr_row_measure *out)
{
    return run_wait(context, out, WSR_WAIT_BLOCK, CONNECTIONS_COUNT / 2);
}

static int measure(const struct wsr_table *table, struct wsr_row *row, const struct wsr_peer_options *server,
                   double *samples)
{
    struct waits w = { .table = table, .connections_count = server->connections_count, .samples = samples };
    if (!wsr_row_is_wanted(table, row->name))
        return 0;
    if (wsr_peer_start(&w.peer, server) != 0)
        return -1;
    row->context = &w;
    int rc = wsr_row_measure(table, row);
    wsr_peer_stop(&w.peer);
    return rc;
}

int wsr_waits_rows(const struct wsr_table *table)
{
    struct wsr_peer_options pong = {
        .kind = WSR_PEER_PONG, .connections_count = 1, .payload_bytes = PAYLOAD_BYTES,
        .up_bytes = (uint32_t)wsr_frame_head_bytes(PAYLOAD_BYTES, true) + PAYLOAD_BYTES
    };
    struct wsr_peer_options echo = { .kind = WSR_PEER_ECHO, .connections_count = CONNECTIONS_COUNT,
                                     .payload_bytes = PAYLOAD_BYTES };
    struct wsr_row latency = {
        .name = "wait-roundtrip", .what = "round trip p50, 64 B, 1 connection, by the engine's way of waiting",
        .unit = WSR_ROW_NS,
        .sides = { { "block", run_block }, { "adaptive", run_adaptive }, { "spin", run_spin },
                   { "spin, ring alone", run_spin_on_ring } }
    };
    struct wsr_row cpu = {
        .name = "wait-echo", .what = "client CPU per echo, 64 B, 64 connections, by the engine's way of waiting",
        .unit = WSR_ROW_NS,
        .sides = { { "block", run_block }, { "block, batch of 32", run_batch }, { "adaptive", run_adaptive },
                   { "spin", run_spin } }
    };
    double *samples = malloc(SAMPLES_MAX * sizeof *samples);
    if (samples == NULL)
        return -1;
    int rc = measure(table, &latency, &pong, samples);
    if (measure(table, &cpu, &echo, NULL) != 0)
        rc = -1;
    free(samples);
    return rc;
}
