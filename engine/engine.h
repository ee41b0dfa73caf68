/* The engine as its own files see it: workers, and the consumer's side of each message ring. */
#ifndef WSR_ENGINE_H
#define WSR_ENGINE_H

#include <pthread.h>

#include "worker.h"

struct wsr_socket;

/* The application's side of one message ring. Touched by its consumer alone, but for turn. */
struct wsr_consumer {
    struct wsr_engine *engine;
    struct wsr_worker *worker;
    pthread_t thread;              /* of the worker, when it has one */
    bool is_busy;                  /* a handler is running */
    bool is_watched;               /* wsr_engine_fd() was asked for */
    uint32_t batch;                /* number of the array of events that was handed out last */
    /* counts tasks; read by the getters of any thread: see wsr_socket_buffered_amount() */
    _Atomic uint32_t turn;
};

struct wsr_engine {
    struct wsr_engine_options options;    /* with the defaults filled in */
    struct wsr_resolver *resolver;
    struct wsr_gate *gate;                /* with WSR_ENGINE_ONE_CONNECTING, else NULL */
    struct wsr_consumer *consumers;       /* one for each ring */
    uint32_t rings_count;
    bool is_inline;
    pthread_mutex_t sockets_lock;         /* opening and destroying, never messages */
    struct wsr_socket *sockets;           /* all that are not yet freed */
    struct wsr_tls_context *tls_context;  /* NULL until it is needed; under sockets_lock */
};

/* An inline engine on @driver, which becomes its own on success. For the tests' simulated driver. */
WSR_MUST_USE int wsr_engine_create_on(struct wsr_engine **engine, const struct wsr_engine_options *options,
                                      struct wsr_driver *driver);

/* engine_tls.c. The first two while the engine is made: what is wrong with the options; the context, when one of them
 * is about it. Return 0, or the error that was told. */
WSR_MUST_USE int wsr_engine_check_tls(const struct wsr_engine_options *options);
WSR_MUST_USE int wsr_engine_make_tls(struct wsr_engine *engine);
/* Any thread: the engine's context, made when there is none. */
WSR_MUST_USE int wsr_engine_tls(struct wsr_engine *engine, struct wsr_tls_context **context);
uint64_t wsr_engine_tls_sessions(struct wsr_engine *engine);
/* The name of a cipher suite that a connection has agreed on, static. */
const char *wsr_engine_tls_suite(struct wsr_engine *engine, uint16_t suite);

#endif
