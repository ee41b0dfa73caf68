/* One worker: a kernel ring, a message ring, the connections between them, and the thread that turns them, or, inline,
 * the caller's. */
#ifndef WSR_WORKER_H
#define WSR_WORKER_H

#include "conn.h"

struct wsr_consumer;

struct wsr_worker_options {
    uint32_t sockets_max;
    uint32_t events_count;
    uint32_t wait;              /* enum wsr_wait */
    int32_t cpu;                /* to pin the thread to; -1 = none */
    uint64_t spin_ns;
    uint64_t send_pool_bytes;
    uint64_t open_timeout_ns, close_timeout_ns, fin_timeout_ns, send_queue_max_bytes;
    uint32_t tls_records;       /* enum wsr_tls_records */
    int deflate_level;
    uint64_t deflate_idle_ns, deflate_min_bytes, deflate_alone_min_bytes;
    struct wsr_gate *gate;      /* shared by the engine's workers; NULL = none */
    struct wsr_pool_options pool;
    struct wsr_session_limits limits;
};

struct wsr_worker {
    struct wsr_conn_host host;           /* first: conns know their host, the worker finds itself by it */
    struct wsr_worker_options options;
    struct wsr_completion *completions;
    _Atomic int32_t error;               /* of the driver, once broken: negative errno; read by the consumer */
    bool is_inline;                      /* the consumer's thread turns it */
    /* inline: number of that thread, 0 = not claimed yet; any thread asks whether it is its own */
    _Atomic uint64_t turner;
    bool owns_driver;
    struct wsr_consumer *consumer;       /* of its events, for whoever has the worker; it never looks at it itself */
    _Atomic uint64_t turns, completions_count;
    /* 1 while the worker sleeps or is about to: whoever pushes a command then wakes it. Pairs: wsr_worker_push(). */
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint32_t asleep;
    /* 1 while it also wants to know of events passed and holds released. Pairs: wsr_worker_consumed(). */
    _Atomic uint32_t starving;
    _Atomic uint32_t stopping;
    _Atomic uint32_t live_count;         /* sockets given to this worker and not yet freed */
    /* The consumer's side of the same protocol. Pairs: publish() in worker.c. */
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint32_t consumer_asleep;
    int consumer_eventfd;                /* -1 when inline */
};

/* Make a worker on @driver, which becomes its own on success. The thread that first turns it owns it from then on.
 * Returns 0, WSR_ERR_MEMORY or WSR_ERR_SYSTEM. */
WSR_MUST_USE int wsr_worker_create(struct wsr_worker **worker, struct wsr_driver *driver, struct wsr_resolver *resolver,
                                   const struct wsr_worker_options *options, bool is_inline);
/* End every connection and wait for every operation. On the owner's thread; wsr_worker_run() does it itself. */
void wsr_worker_end(struct wsr_worker *worker);
/* Free an ended worker and its driver: on the owner's thread, or when that thread has ended. */
void wsr_worker_free(struct wsr_worker *worker);

/*
 * One turn: commands, timers, sends, then completions, waiting for the first until @deadline_ns. Events are published
 * at the end. Returns the number of completions, or -errno when the driver is broken.
 */
int wsr_worker_turn(struct wsr_worker *worker, uint64_t deadline_ns);
/* Turn until wsr_worker_stop(), then end; the thread's body. */
void wsr_worker_run(struct wsr_worker *worker);
/* Any thread. */
void wsr_worker_stop(struct wsr_worker *worker);
/* Any thread: hand over a command and wake the worker if it sleeps. */
void wsr_worker_push(struct wsr_worker *worker, struct wsr_command *command);
/* Any thread: have a wish of @link fulfilled, behind all that was asked for before. */
void wsr_worker_ask(struct wsr_worker *worker, struct wsr_link *link, enum wsr_link_wish wish);
/* Inline: the calling thread is to turn the worker from now on. Returns false when another does. */
bool wsr_worker_claim(struct wsr_worker *worker);
/* Is this the thread that has claimed the worker, between two turns and with nothing on its way that was asked for
 * before? Then it may do at once what a command would ask for. */
bool wsr_worker_is_at_hand(const struct wsr_worker *worker);
/* Consumer, or any thread that released a hold: memory or room came back. */
void wsr_worker_consumed(struct wsr_worker *worker);
/* Owner's thread. Are commands waiting? Would a turn do something even without a completion? */
bool wsr_worker_has_commands(const struct wsr_worker *worker);
bool wsr_worker_has_work(const struct wsr_worker *worker);
/* Inline, when the application is going to wait by itself on the driver's descriptor: from now on commands and
 * consumption make it readable. Returns false when there is work already. The next turn ends it. */
bool wsr_worker_expect_wake(struct wsr_worker *worker);

#endif
