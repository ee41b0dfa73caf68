/* Making an engine, ending it, and what can be read from it. */
#include "engine.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "error.h"
#include "ktls.h"
#include "options.h"
#include "simd/simd.h"
#include "socket.h"
#include "tls_context.h"
#include "uring.h"

#define WORKERS_MAX 256u
#define BATCH_MAX 256u
#define NAPI_US_MAX 1000000u
#define BUFFERS_MAX 32768u
#define INTERIM_ANSWERS_MAX 16u
#define DEFLATE_MIN_BYTES 64u               /* below that the block's own bytes eat what is won */
#define DEFLATE_ALONE_MIN_BYTES 1024u       /* without a context before it little is won; as npm ws */

/* ---- Options ---- */

static void default_u32(uint32_t *value, uint32_t otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

static void default_u64(uint64_t *value, uint64_t otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

static void fill_defaults(struct wsr_engine_options *o)
{
    default_u32(&o->sockets_max, 65536);
    default_u32(&o->events_count, 65536);
    default_u32(&o->buffers_count, 512);
    default_u32(&o->buffer_bytes, 16384);
    default_u32(&o->wait, WSR_WAIT_BLOCK);
    default_u64(&o->spin_ns, 50000);
    default_u64(&o->message_max_bytes, 128ull << 20);
    default_u64(&o->send_queue_max_bytes, 64ull << 20);
    default_u64(&o->send_pool_bytes, 1ull << 30);
    default_u64(&o->loan_max_bytes, 256ull << 20);
    default_u32(&o->fragments_max, 131072);
    default_u32(&o->head_max_bytes, 65536);
    default_u64(&o->open_timeout_ns, 30 * WSR_NS_PER_S);
    default_u64(&o->close_timeout_ns, 30 * WSR_NS_PER_S);
    default_u64(&o->fin_timeout_ns, 2 * WSR_NS_PER_S);
    default_u32(&o->deflate_level, WSR_DEFLATE_LEVEL_DEFAULT);
    default_u64(&o->deflate_idle_ns, 30 * WSR_NS_PER_S);
    default_u32(&o->batch_count, 1);
    if (o->batch_count > 1)
        default_u64(&o->batch_ns, 50000);
}

static bool is_power_of_two(uint32_t number)
{
    return number != 0 && (number & (number - 1)) == 0;
}

static int check_waiting(const struct wsr_engine_options *o)
{
    if (o->wait > WSR_WAIT_ADAPTIVE)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wait %u is no enum wsr_wait", o->wait);
    if (o->batch_count > BATCH_MAX)
        return wsr_error_set(WSR_ERR_ARGUMENT, "batch_count %u is over %u", o->batch_count, BATCH_MAX);
    if (o->batch_count > 1 && o->wait == WSR_WAIT_SPIN)
        return wsr_error_set(WSR_ERR_ARGUMENT, "batch_count %u is for engines that sleep, and WSR_WAIT_SPIN never "
                             "does; take WSR_WAIT_BLOCK or WSR_WAIT_ADAPTIVE", o->batch_count);
    if (o->batch_ns > WSR_NS_PER_S || (o->batch_ns > 0 && o->batch_count == 1))
        return wsr_error_set(WSR_ERR_ARGUMENT, "batch_ns %llu is over 1 s, or has no batch_count of 2 or more beside "
                             "it", (unsigned long long)o->batch_ns);
    if (o->napi_us > NAPI_US_MAX)
        return wsr_error_set(WSR_ERR_ARGUMENT, "napi_us %u is over 1,000,000", o->napi_us);
    return 0;
}

static int check_options(const struct wsr_engine_options *o)
{
    if ((o->flags & ~(uint32_t)(WSR_ENGINE_PIN | WSR_ENGINE_ONE_CONNECTING | WSR_ENGINE_DIRECT_DESCRIPTORS |
                               WSR_ENGINE_TLS_INSECURE | WSR_ENGINE_TLS_NO_RESUMPTION)) != 0)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wsr_engine_options.flags 0x%x has unknown flags", o->flags);
    if (o->workers_count > WORKERS_MAX)
        return wsr_error_set(WSR_ERR_ARGUMENT, "workers_count %u is over %u", o->workers_count, WORKERS_MAX);
    if (!is_power_of_two(o->events_count) || o->events_count < 8 || o->events_count > 1u << 24)
        return wsr_error_set(WSR_ERR_ARGUMENT, "events_count %u is no power of two from 8 to 16,777,216",
                             o->events_count);
    if (!is_power_of_two(o->buffers_count) || o->buffers_count < 2 || o->buffers_count > BUFFERS_MAX)
        return wsr_error_set(WSR_ERR_ARGUMENT, "buffers_count %u is no power of two from 2 to 32,768",
                             o->buffers_count);
    if (o->buffer_bytes < 256 || o->buffer_bytes > 1u << 20)
        return wsr_error_set(WSR_ERR_ARGUMENT, "buffer_bytes %u is not within 256 and 1,048,576", o->buffer_bytes);
    if (o->sockets_max > 1u << 24)
        return wsr_error_set(WSR_ERR_ARGUMENT, "sockets_max %u is over 16,777,216", o->sockets_max);
    if (o->deflate_level > WSR_DEFLATE_LEVEL_MAX)
        return wsr_error_set(WSR_ERR_ARGUMENT, "deflate_level %u is over 9", o->deflate_level);
    int rc = check_waiting(o);
    return rc != 0 ? rc : wsr_engine_check_tls(o);
}

/* What the engine's option says, or @otherwise. */
static uint64_t deflate_min_bytes(const struct wsr_engine_options *o, uint64_t otherwise)
{
    if (o->deflate_min_bytes == UINT32_MAX)
        return UINT64_MAX;
    return o->deflate_min_bytes != 0 ? o->deflate_min_bytes : otherwise;
}

static void worker_options(struct wsr_worker_options *out, const struct wsr_engine_options *o)
{
    *out = (struct wsr_worker_options){
        .sockets_max = o->sockets_max, .events_count = o->events_count, .wait = o->wait, .cpu = -1,
        .spin_ns = o->spin_ns, .send_pool_bytes = o->send_pool_bytes, .open_timeout_ns = o->open_timeout_ns,
        .close_timeout_ns = o->close_timeout_ns, .fin_timeout_ns = o->fin_timeout_ns,
        .send_queue_max_bytes = o->send_queue_max_bytes, .tls_records = o->tls_records,
        .deflate_level = (int)o->deflate_level, .deflate_idle_ns = o->deflate_idle_ns,
        .deflate_min_bytes = deflate_min_bytes(o, DEFLATE_MIN_BYTES),
        .deflate_alone_min_bytes = deflate_min_bytes(o, DEFLATE_ALONE_MIN_BYTES),
        .pool = { .buffers_count = o->buffers_count, .buffer_bytes = o->buffer_bytes,
                  .loan_max_bytes = o->loan_max_bytes },
        .limits = { .message_max_bytes = o->message_max_bytes, .fragments_max = o->fragments_max,
                    .head_max_bytes = o->head_max_bytes, .interim_max = INTERIM_ANSWERS_MAX },
    };
}

/* The @index-th CPU that this process may run on, counted round; -1 when that cannot be told. */
static int32_t cpu_of(uint32_t index)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) == 0)
        return -1;
    uint32_t skip = index % (uint32_t)CPU_COUNT(&set);
    for (int32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET((unsigned)cpu, &set) && skip-- == 0)
            return cpu;
    }
    return -1;
}

/* ---- Workers ---- */

static int make_worker(struct wsr_engine *engine, uint32_t index, struct wsr_driver *driver)
{
    struct wsr_worker_options options;
    worker_options(&options, &engine->options);
    if (engine->options.flags & WSR_ENGINE_PIN)
        options.cpu = cpu_of(index);
    options.gate = engine->gate;
    struct wsr_consumer *consumer = &engine->consumers[index];
    int rc = wsr_worker_create(&consumer->worker, driver, engine->resolver, &options, engine->is_inline);
    if (rc == WSR_ERR_SYSTEM)
        return wsr_error_set(rc, "worker %u: the receive buffers or the eventfd were refused (errno %d)", index + 1,
                             errno);
    if (rc != 0)
        return wsr_error_set(rc, "worker %u: no memory for its slots, rings and slabs", index + 1);
    consumer->engine = engine;
    consumer->worker->consumer = consumer;
    return 0;
}

static int make_uring_worker(struct wsr_engine *engine, uint32_t index)
{
    /* The thread that turns the worker first becomes the ring's owner, whoever made it. */
    const struct wsr_engine_options *o = &engine->options;
    struct wsr_uring_options options = {
        .flags = WSR_URING_DISABLED_START | (o->wait != WSR_WAIT_BLOCK ? WSR_URING_SPINS : 0),
        .batch_count = o->batch_count, .batch_ns = o->batch_ns, .napi_us = o->napi_us
    };
    struct wsr_uring_report report;
    struct wsr_driver *driver;
    bool is_direct = (o->flags & WSR_ENGINE_DIRECT_DESCRIPTORS) != 0;
    if (is_direct)
        options.direct_count = o->sockets_max;
    int rc = wsr_uring_create(&driver, &options, &report);
    if (rc != 0)
        return wsr_error_set(rc, "%s", report.text);
    if (is_direct)      /* the table may be smaller; the same for all workers, unless the limit changes meanwhile */
        engine->options.sockets_max = report.direct_count;
    rc = make_worker(engine, index, driver);
    if (rc != 0)
        driver->ops->destroy(driver);
    return rc;
}

static void *run(void *worker)
{
    wsr_worker_run(worker);
    return NULL;
}

static void stop_workers(struct wsr_engine *engine, uint32_t started)
{
    for (uint32_t i = 0; i < started; i++)
        wsr_worker_stop(engine->consumers[i].worker);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(engine->consumers[i].thread, NULL);
}

static int start_workers(struct wsr_engine *engine)
{
    sigset_t all, before;
    sigfillset(&all);
    /* Signals are the application's threads' to handle. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    uint32_t started = 0;
    int error = 0;
    while (started < engine->rings_count && error == 0) {
        struct wsr_consumer *consumer = &engine->consumers[started];
        error = pthread_create(&consumer->thread, NULL, run, consumer->worker);
        if (error == 0)
            started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        return 0;
    stop_workers(engine, started);
    for (uint32_t i = started; i < engine->rings_count; i++)
        wsr_worker_end(engine->consumers[i].worker);
    return wsr_error_set(WSR_ERR_SYSTEM, "thread %u of %u could not be started (errno %d); use fewer workers or raise "
                         "the limit (ulimit -u)", started + 1, engine->rings_count, error);
}

/* ---- Life ---- */

static void free_engine(struct wsr_engine *engine)
{
    /* First: a look-up that has just been handed over may still be waking its worker. */
    if (engine->resolver != NULL)
        wsr_resolver_destroy(engine->resolver);
    for (uint32_t i = 0; engine->consumers != NULL && i < engine->rings_count; i++) {
        if (engine->consumers[i].worker != NULL)
            wsr_worker_free(engine->consumers[i].worker);
    }
    /* Behind the workers: what they have left of a connection may belong to its socket. */
    while (engine->sockets != NULL)
        wsr_socket_free(engine, engine->sockets);
    wsr_gate_destroy(engine->gate);
    wsr_tls_context_free(engine->tls_context);
    pthread_mutex_destroy(&engine->sockets_lock);
    free(engine->consumers);
    free(engine);
}

static int make_engine(struct wsr_engine **out, const struct wsr_engine_options *options)
{
    struct wsr_engine_options own = WSR_ENGINE_OPTIONS_INIT;
    int rc = wsr_options_copy(&own, sizeof own, options, "wsr_engine_options");
    if (rc != 0)
        return rc;
    fill_defaults(&own);
    rc = check_options(&own);
    if (rc != 0)
        return rc;
    struct wsr_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for an engine");
    engine->options = own;
    engine->is_inline = own.workers_count == 0;
    engine->rings_count = engine->is_inline ? 1 : own.workers_count;
    pthread_mutex_init(&engine->sockets_lock, NULL);
    rc = wsr_engine_make_tls(engine);
    if (rc != 0) {
        free_engine(engine);
        return rc;
    }
    engine->consumers = calloc(engine->rings_count, sizeof *engine->consumers);
    engine->resolver = wsr_resolver_create();
    bool has_gate = (own.flags & WSR_ENGINE_ONE_CONNECTING) != 0;
    if (has_gate)
        engine->gate = wsr_gate_create();
    if (engine->consumers == NULL || engine->resolver == NULL || (has_gate && engine->gate == NULL)) {
        free_engine(engine);
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for an engine");
    }
    *out = engine;
    return 0;
}

/* Workers that were made and never run. */
static void end_made(struct wsr_engine *engine)
{
    for (uint32_t i = 0; i < engine->rings_count; i++) {
        if (engine->consumers[i].worker != NULL)
            wsr_worker_end(engine->consumers[i].worker);
    }
}

int wsr_engine_create(struct wsr_engine **out, const struct wsr_engine_options *options)
{
    struct wsr_engine *engine;
    if (out == NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wsr_engine_create needs a place for the engine");
    int rc = make_engine(&engine, options);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < engine->rings_count && rc == 0; i++)
        rc = make_uring_worker(engine, i);
    if (rc != 0)
        end_made(engine);
    else if (!engine->is_inline)
        rc = start_workers(engine);
    if (rc != 0) {
        free_engine(engine);
        return rc;
    }
    *out = engine;
    return 0;
}

int wsr_engine_create_on(struct wsr_engine **out, const struct wsr_engine_options *options, struct wsr_driver *driver)
{
    struct wsr_engine *engine;
    int rc = make_engine(&engine, options);
    if (rc != 0)
        return rc;
    assert(engine->is_inline);
    rc = make_worker(engine, 0, driver);
    if (rc != 0) {
        free_engine(engine);
        return rc;
    }
    *out = engine;
    return 0;
}

int wsr_engine_destroy(struct wsr_engine *engine)
{
    if (engine == NULL)
        return 0;
    for (uint32_t i = 0; i < engine->rings_count; i++) {
        if (engine->consumers[i].is_busy)
            return wsr_error_set(WSR_ERR_BUSY,
                                 "the engine is destroyed inside a handler of ring %u; return from it first", i);
    }
    if (engine->is_inline)
        wsr_worker_end(engine->consumers[0].worker);
    else
        stop_workers(engine, engine->rings_count);
    free_engine(engine);
    return 0;
}

uint32_t wsr_engine_rings(const struct wsr_engine *engine)
{
    return engine->rings_count;
}

/* ---- Statistics and diagnosis ---- */

static uint64_t load(const _Atomic uint64_t *counter)
{
    /* Counted by one worker; a number alone. */
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_deflate(struct wsr_engine_statistics *s, const struct wsr_deflate_shared *deflate)
{
    s->deflate_messages_sent += load(&deflate->deflated);
    s->deflate_sent_bytes += load(&deflate->deflated_bytes);
    s->deflate_sent_wire_bytes += load(&deflate->deflated_wire_bytes);
    s->deflate_given_up += load(&deflate->not_deflated);
    s->deflate_messages_received += load(&deflate->inflated);
    s->deflate_received_bytes += load(&deflate->inflated_bytes);
    s->deflate_received_wire_bytes += load(&deflate->inflated_wire_bytes);
    s->deflate_memory_bytes += load(&deflate->memory_bytes);
}

static void add_worker(struct wsr_engine_statistics *s, const struct wsr_worker *w)
{
    const struct wsr_conn_counts *counts = &w->host.counts;
    const struct wsr_deliver *deliver = &w->host.deliver;
    /* Read first: it never overtakes the messages. Pairs with the release store in count_copy() of deliver.c. */
    uint64_t copied = atomic_load_explicit(&deliver->copied, memory_order_acquire);
    uint64_t messages = load(&deliver->messages);
    s->sockets_opened += load(&counts->sockets_opened);
    s->sockets_failed += load(&counts->sockets_failed);
    s->sockets_live += atomic_load_explicit(&w->live_count, memory_order_relaxed);
    s->messages_received += messages;
    s->messages_received_bytes += load(&deliver->messages_bytes);
    s->messages_sent += load(&counts->messages_sent);
    s->messages_sent_bytes += load(&counts->messages_sent_bytes);
    s->wire_received_bytes += load(&counts->wire_received_bytes);
    s->wire_sent_bytes += load(&counts->wire_sent_bytes);
    s->messages_lent += messages - copied;
    s->messages_copied += copied;
    s->buffers_count += w->options.pool.buffers_count;
    s->buffers_lent += wsr_pool_buffers_lent(w->host.pool);
    s->loan_bytes += wsr_pool_loan_bytes(w->host.pool);
    s->buffers_exhausted += load(&counts->buffers_exhausted);
    s->rests += load(&counts->rests);
    s->sends += load(&counts->sends);
    s->short_sends += load(&counts->short_sends);
    s->turns += load(&w->turns);
    s->completions += load(&w->completions_count);
    s->pings_answered += load(&counts->pings_answered);
    s->pings_dropped += load(&counts->pings_dropped);
    s->tls_handshakes += load(&counts->tls_handshakes);
    s->tls_resumed += load(&counts->tls_resumed);
    s->tls_unverified += load(&counts->tls_unverified);
    s->tls_library += load(&counts->tls_library);
    s->tls_kernel += load(&counts->tls_kernel);
    s->tls_direct += load(&counts->tls_direct);
    add_deflate(s, &w->host.deflate);
}

int wsr_engine_statistics(struct wsr_engine *engine, struct wsr_engine_statistics *out)
{
    if (engine == NULL || out == NULL || out->size < sizeof out->size)
        return wsr_error_set(WSR_ERR_ARGUMENT,
                             "wsr_engine_statistics needs an engine, and a structure with its size set");
    struct wsr_engine_statistics s = WSR_ENGINE_STATISTICS_INIT;
    struct wsr_driver *driver = engine->consumers[0].worker->host.driver;
    s.workers_count = engine->options.workers_count;
    snprintf(s.driver, sizeof s.driver, "%s", driver->ops->name);
    snprintf(s.features, sizeof s.features, "%s", driver->ops->features(driver));
    snprintf(s.simd, sizeof s.simd, "%s", wsr_simd()->name);
    for (uint32_t i = 0; i < engine->rings_count; i++)
        add_worker(&s, engine->consumers[i].worker);
    s.tls_sessions = wsr_engine_tls_sessions(engine);
    uint32_t size = out->size;
    memcpy(out, &s, size < sizeof s ? size : sizeof s);
    out->size = size;
    return 0;
}

int wsr_diagnose(struct wsr_diagnosis *out)
{
    if (out == NULL || out->size < sizeof out->size)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wsr_diagnose needs a structure with its size set");
    struct wsr_diagnosis d = WSR_DIAGNOSIS_INIT;
    struct wsr_uring_report report;
    struct utsname kernel;
    wsr_uring_probe(&report);
    d.io_uring = report.error == 0;
    snprintf(d.io_uring_text, sizeof d.io_uring_text, "%s", d.io_uring ? "" : report.text);
    snprintf(d.features, sizeof d.features, "%s", report.features);
    snprintf(d.missing, sizeof d.missing, "%s", report.missing);
    snprintf(d.simd, sizeof d.simd, "%s", wsr_simd()->name);
    int ktls_errno = wsr_ktls_probe();
    d.ktls = ktls_errno == 0;
    snprintf(d.ktls_text, sizeof d.ktls_text, "%s", d.ktls ? "" : wsr_ktls_text(ktls_errno));
    snprintf(d.tls_library, sizeof d.tls_library, "%s", wsr_tls_library_name());
    if (uname(&kernel) == 0)
        snprintf(d.kernel, sizeof d.kernel, "%s", kernel.release);
    uint32_t size = out->size;
    memcpy(out, &d, size < sizeof d ? size : sizeof d);
    out->size = size;
    return 0;
}
