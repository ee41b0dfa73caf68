/* The hop from worker to application: the engine's event ring against a bare ring of one producer and one consumer,
 * with cached indices and slots of 64 bytes. Streaming: time per event, both at full speed. Latency: half of a round
 * trip through two rings of the same kind. Each is the median over pieces of a slice: on a machine that others use
 * too, some pieces belong to them.
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "client.h"
#include "engine/ring.h"

#define ENGINE_SLOTS 65536u               /* the engine's default */
#define BARE_SLOTS_SMALL 1024u            /* 64 KiB: stays in the second-level caches */
#define BATCH 64u                         /* events of one turn */
#define PIECE_EVENTS 4096u                /* powers of two */
#define PIECE_TRIPS 64u
#define PIECES_MAX 8192u
#define STREAM_EVENTS_QUICK (1u << 20)
#define TRIPS_QUICK (1u << 16)

/* ---- The bare ring ---- */

struct bare {
    struct wsr_event *slots;
    uint64_t mask;
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint64_t tail;        /* slots below it are published */
    WSR_ALIGNED(WSR_CACHE_LINE) uint64_t write;               /* the producer's */
    uint64_t head_seen;
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint64_t head;        /* slots below it are free again */
    WSR_ALIGNED(WSR_CACHE_LINE) uint64_t read;                /* the consumer's */
    uint64_t tail_seen;
};

static inline struct wsr_event *bare_slot(struct bare *b)
{
    /* From half full on, so that nobody waits for the last slot. */
    if (WSR_UNLIKELY(b->write - b->head_seen > b->mask / 2)) {
        /* Pairs with the release store in bare_release(). */
        b->head_seen = atomic_load_explicit(&b->head, memory_order_acquire);
        if (b->write - b->head_seen > b->mask)
            return NULL;
    }
    return &b->slots[b->write & b->mask];
}

static inline void bare_publish(struct bare *b)
{
    /* Pairs with the acquire load in bare_peek(). */
    atomic_store_explicit(&b->tail, b->write, memory_order_release);
    /* The next slot was last read by the other side: it is fetched back while there is time. */
    __builtin_prefetch(&b->slots[b->write & b->mask], 1);
}

static inline const struct wsr_event *bare_peek(struct bare *b)
{
    if (b->read == b->tail_seen) {
        /* Pairs with the release store in bare_publish(). */
        b->tail_seen = atomic_load_explicit(&b->tail, memory_order_acquire);
        if (b->read == b->tail_seen)
            return NULL;
    }
    return &b->slots[b->read & b->mask];
}

static inline void bare_release(struct bare *b)
{
    /* Pairs with the acquire load in bare_slot(). */
    atomic_store_explicit(&b->head, b->read, memory_order_release);
}

/* ---- What runs ---- */

struct hop {
    uint64_t count;                       /* events, or round trips */
    uint32_t batch;                       /* events per publication and per release */
    uint32_t bare_slots;
    struct wsr_ring_spsc there, back;     /* the engine's */
    struct bare bare_there, bare_back;    /* in the same memory, one after the other */
    _Atomic uint32_t producer_is_ready;
    uint64_t sum;                         /* of what came, so that it is read */
    uint64_t producer_ns;
    uint64_t piece;                       /* events or trips of a piece */
    uint64_t piece_first, piece_begin_ns; /* of the piece under way */
    uint32_t pieces_count;
    double pieces[PIECES_MAX];            /* time per event or trip */
};

/* The consumer has seen @seen events. */
static inline void note(struct hop *h, uint64_t seen)
{
    if (seen - h->piece_first < h->piece)
        return;
    uint64_t now_ns = wsr_clock_now();
    if (h->pieces_count < PIECES_MAX)
        h->pieces[h->pieces_count++] = (double)(now_ns - h->piece_begin_ns) / (double)(seen - h->piece_first);
    h->piece_first = seen;
    h->piece_begin_ns = now_ns;
}

static inline uint64_t smaller_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline void fill(struct wsr_event *event, uint64_t number)
{
    *event = (struct wsr_event){ .type = WSR_EVENT_MESSAGE, .kind = WSR_BINARY, .len = number, .received_ns = number,
                                 .text = "" };
}

static void engine_produce(struct hop *h)
{
    struct wsr_ring_spsc *ring = &h->there;
    for (uint64_t i = 0; i < h->count;) {
        if (wsr_ring_spsc_is_half_full(ring))
            wsr_ring_spsc_reclaim(ring);
        uint64_t most = smaller_of(smaller_of(h->batch, h->count - i), wsr_ring_spsc_writable(ring));
        for (uint64_t k = 0; k < most; k++)
            fill(wsr_ring_spsc_slot_at(ring, k), i++);
        wsr_ring_spsc_push_many(ring, most);
        if (!wsr_ring_spsc_publish(ring))
            wsr_cpu_relax();
    }
}

static void engine_consume(struct hop *h)
{
    struct wsr_ring_spsc *ring = &h->there;
    for (uint64_t seen = 0; seen < h->count;) {
        struct wsr_event events[BATCH];
        uint64_t count = smaller_of(h->batch, wsr_ring_spsc_readable(ring));
        for (uint64_t k = 0; k < count; k++)
            events[k] = *wsr_ring_spsc_peek_at(ring, k);
        wsr_ring_spsc_take_many(ring, count);
        for (uint64_t k = 0; k < count; k++)
            h->sum += events[k].len;
        seen += count;
        note(h, seen);
        if (!wsr_ring_spsc_release(ring))
            wsr_cpu_relax();
    }
}

static void bare_produce(struct hop *h)
{
    struct bare *b = &h->bare_there;
    for (uint64_t i = 0; i < h->count;) {
        uint64_t most = bare_slot(b) == NULL ? 0 : b->mask + 1 - (b->write - b->head_seen), at = b->write;
        most = smaller_of(most, smaller_of(h->batch, h->count - i));
        for (uint64_t k = 0; k < most; k++)
            fill(&b->slots[at++ & b->mask], i++);
        b->write = at;
        if (most > 0)
            bare_publish(b);
        else
            wsr_cpu_relax();
    }
}

static void bare_consume(struct hop *h)
{
    struct bare *b = &h->bare_there;
    for (uint64_t seen = 0; seen < h->count;) {
        struct wsr_event events[BATCH];
        uint64_t count = bare_peek(b) == NULL ? 0 : smaller_of(h->batch, b->tail_seen - b->read), at = b->read;
        for (uint64_t k = 0; k < count; k++)
            events[k] = b->slots[at++ & b->mask];
        b->read = at;
        for (uint64_t k = 0; k < count; k++)
            h->sum += events[k].len;
        seen += count;
        note(h, seen);
        if (count > 0)
            bare_release(b);
        else
            wsr_cpu_relax();
    }
}

/* ---- Round trips ---- */

static void engine_give(struct wsr_ring_spsc *ring, uint64_t number)
{
    struct wsr_event *slot;
    while ((slot = wsr_ring_spsc_slot(ring)) == NULL)
        wsr_ring_spsc_reclaim(ring);
    fill(slot, number);
    wsr_ring_spsc_push(ring);
    wsr_ring_spsc_publish(ring);
}

static uint64_t engine_take(struct wsr_ring_spsc *ring)
{
    const struct wsr_event *slot;
    while ((slot = wsr_ring_spsc_peek(ring)) == NULL)
        wsr_cpu_relax();
    struct wsr_event event = *slot;
    wsr_ring_spsc_take(ring);
    wsr_ring_spsc_release(ring);
    return event.len;
}

static void engine_answer(struct hop *h)
{
    for (uint64_t i = 0; i < h->count; i++)
        engine_give(&h->back, engine_take(&h->there));
}

static void engine_ask(struct hop *h)
{
    for (uint64_t i = 0; i < h->count; i++) {
        engine_give(&h->there, i);
        h->sum += engine_take(&h->back);
        note(h, i + 1);
    }
}

static void bare_give(struct bare *b, uint64_t number)
{
    struct wsr_event *slot;
    while ((slot = bare_slot(b)) == NULL)
        ;
    fill(slot, number);
    b->write++;
    bare_publish(b);
}

static uint64_t bare_take(struct bare *b)
{
    const struct wsr_event *slot;
    while ((slot = bare_peek(b)) == NULL)
        wsr_cpu_relax();
    struct wsr_event event = *slot;
    b->read++;
    bare_release(b);
    return event.len;
}

static void bare_answer(struct hop *h)
{
    for (uint64_t i = 0; i < h->count; i++)
        bare_give(&h->bare_back, bare_take(&h->bare_there));
}

static void bare_ask(struct hop *h)
{
    for (uint64_t i = 0; i < h->count; i++) {
        bare_give(&h->bare_there, i);
        h->sum += bare_take(&h->bare_back);
        note(h, i + 1);
    }
}

/* ---- Two threads ---- */

struct pair {
    struct hop *hop;
    void (*produce)(struct hop *);        /* on the server's CPU, as a worker */
    void (*consume)(struct hop *);        /* on the client's */
};

static void *producer_main(void *context)
{
    struct pair *pair = context;
    int client_cpu, server_cpu;
    wsr_peer_cpus(&client_cpu, &server_cpu);
    wsr_peer_pin(server_cpu);
    /* Pairs with the acquire load in run_pair(). */
    atomic_store_explicit(&pair->hop->producer_is_ready, 1, memory_order_release);
    pair->produce(pair->hop);
    pair->hop->producer_ns = wsr_clock_read(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

static int run_pair(struct pair *pair, struct wsr_row_measure *out, double parts)
{
    struct hop *h = pair->hop;
    pthread_t producer;
    h->sum = 0;
    atomic_store_explicit(&h->producer_is_ready, 0, memory_order_relaxed);
    if (wsr_ring_spsc_init(&h->there, ENGINE_SLOTS) != 0)
        return -1;
    if (wsr_ring_spsc_init(&h->back, ENGINE_SLOTS) != 0)
        goto fail_back;
    /* Page faults are not what is measured. */
    memset(h->there.slots, 0, ENGINE_SLOTS * sizeof *h->there.slots);
    memset(h->back.slots, 0, ENGINE_SLOTS * sizeof *h->back.slots);
    h->bare_there = (struct bare){ .slots = h->there.slots, .mask = h->bare_slots - 1 };
    h->bare_back = (struct bare){ .slots = h->back.slots, .mask = h->bare_slots - 1 };
    if (pthread_create(&producer, NULL, producer_main, pair) != 0)
        goto fail_thread;
    /* Pairs with the release store in producer_main(). */
    while (atomic_load_explicit(&h->producer_is_ready, memory_order_acquire) == 0)
        wsr_cpu_relax();
    h->pieces_count = 0;
    h->piece_first = 0;
    uint64_t begin_ns = h->piece_begin_ns = wsr_clock_now(), begin_cpu_ns = wsr_clock_read(CLOCK_THREAD_CPUTIME_ID);
    pair->consume(h);
    double elapsed_ns = (double)(wsr_clock_now() - begin_ns);
    double cpu_ns = (double)(wsr_clock_read(CLOCK_THREAD_CPUTIME_ID) - begin_cpu_ns);
    pthread_join(producer, NULL);
    wsr_ring_spsc_free(&h->back);
    wsr_ring_spsc_free(&h->there);
    out->value = wsr_row_median(h->pieces, h->pieces_count) / parts;
    out->client_busy = cpu_ns / elapsed_ns;
    out->server_busy = (double)h->producer_ns / elapsed_ns;
    if (h->sum == h->count * (h->count - 1) / 2)
        return 0;
    fprintf(stderr, "wsring-micro: a ring lost an event\n");
    return -1;

fail_thread:
    wsr_ring_spsc_free(&h->back);
fail_back:
    wsr_ring_spsc_free(&h->there);
    return -1;
}

static int run_stream(struct hop *h, struct wsr_row_measure *out, bool engine, uint32_t slots, uint32_t batch)
{
    struct pair pair = { h, engine ? engine_produce : bare_produce, engine ? engine_consume : bare_consume };
    h->bare_slots = slots;
    h->batch = batch;
    return run_pair(&pair, out, 1);
}

static int run_engine_stream(void *context, struct wsr_row_measure *out)
{
    return run_stream(context, out, true, ENGINE_SLOTS, BATCH);
}

static int run_bare_stream(void *context, struct wsr_row_measure *out)
{
    return run_stream(context, out, false, ENGINE_SLOTS, BATCH);
}

static int run_bare_small(void *context, struct wsr_row_measure *out)
{
    return run_stream(context, out, false, BARE_SLOTS_SMALL, BATCH);
}

static int run_bare_single(void *context, struct wsr_row_measure *out)
{
    return run_stream(context, out, false, ENGINE_SLOTS, 1);
}

static int run_engine_latency(void *context, struct wsr_row_measure *out)
{
    /* The producer's side answers. */
    return run_pair(&(struct pair){ context, engine_answer, engine_ask }, out, 2);
}

static int run_bare_latency(void *context, struct wsr_row_measure *out)
{
    struct hop *h = context;
    h->bare_slots = ENGINE_SLOTS;
    return run_pair(&(struct pair){ h, bare_answer, bare_ask }, out, 2);
}

static int run_bare_latency_small(void *context, struct wsr_row_measure *out)
{
    struct hop *h = context;
    h->bare_slots = BARE_SLOTS_SMALL;
    return run_pair(&(struct pair){ h, bare_answer, bare_ask }, out, 2);
}

int wsr_hop_rows(const struct wsr_table *table)
{
    static struct hop h;
    uint64_t times = table->slice_ns / 60000000u;
    struct wsr_row stream = {
        .name = "hop-stream", .what = "ring hop worker to application: time per event at full speed",
        .unit = WSR_ROW_NS, .reach = 1.3, .context = &h,
        .sides = { { "engine's event ring", run_engine_stream },
                   { "bare ring, 65,536", run_bare_stream },
                   { "bare ring, 1,024", run_bare_small },
                   { "bare ring, one by one", run_bare_single } }
    };
    struct wsr_row latency = {
        .name = "hop-latency", .what = "ring hop: from one thread to the other, half of a round trip",
        .unit = WSR_ROW_NS, .reach = 1.3, .context = &h,
        .sides = { { "engine's event ring", run_engine_latency },
                   { "bare ring, 65,536", run_bare_latency },
                   { "bare ring, 1,024", run_bare_latency_small } }
    };
    h.count = STREAM_EVENTS_QUICK * times;
    h.piece = PIECE_EVENTS;
    int rc = wsr_row_measure(table, &stream);
    h.count = TRIPS_QUICK * times;
    h.piece = PIECE_TRIPS;
    return rc == 0 ? wsr_row_measure(table, &latency) : rc;
}
