/* An inline engine on the simulated driver, its sockets, and a log of their events. What every event must keep
 * (EVT-01 to 04,
 * lent memory that stays as it was) is checked here for all tests. */
#ifndef WORLD_H
#define WORLD_H

#include "tests/support/sim.h"

#define WORLD_SOCKETS_MAX 64
#define WORLD_URL "ws://10.0.0.1:9001/chat"

/* What the URL of a connection is, and who carries its records. */
enum world_way { WORLD_WS, WORLD_WSS_LIBRARY, WORLD_WSS_DIRECT, WORLD_WSS_KERNEL, WORLD_WAYS_COUNT };

struct world_socket {
    struct wsr_socket *socket;         /* NULL when destroyed */
    bool opened, failed, closed, writable;
    unsigned messages_count;
};

struct world {
    enum world_way way;
    struct sim *sim;
    struct wsr_engine *engine;
    struct world_socket sockets[WORLD_SOCKETS_MAX];
    unsigned sockets_count;
    char *log;
    size_t log_bytes;
    bool dispatches;                   /* wsr_dispatch, else wsr_poll; as the seed decides */
    uint32_t events_max;
    struct wsr_event last_error, last_close;
    uint64_t closed_ns;
    /* Called for each event after it was logged. */
    void (*react)(struct world *world, unsigned index, const struct wsr_event *event);
    const char *on_open, *on_message;  /* what world_do() does then */
    void *context;
};

void world_open(struct world *world, uint64_t seed, const struct wsr_engine_options *options);
/* The same over @way. Then ws: in the URLs of all functions here means wss:, with the same port. */
void world_open_over(struct world *world, uint64_t seed, const struct wsr_engine_options *options,
                     enum world_way way);
/* @url, which begins with ws:, as the world has it. Valid until the next call. */
const char *world_url(const struct world *world, const char *url);
/* Destroy the engine and check that nothing is left. */
void world_close(struct world *world);

/* A socket to WORLD_URL. Returns its index. */
unsigned world_connect(struct world *world);
unsigned world_connect_to(struct world *world, const char *url, const char *const *protocols, size_t protocols_count);
unsigned world_connect_with(struct world *world, const char *url, const struct wsr_socket_options *options);
/* Take a socket that the test opened itself. */
unsigned world_adopt(struct world *world, struct wsr_socket *socket);
void world_destroy_socket(struct world *world, unsigned index);

/* Steps: text|binary PAYLOAD, big N, texts N, close [CODE [REASON]], destroy. Separated by semicolons. Refusals fail
 * the test. */
void world_do(struct world *world, unsigned index, const char *steps);

/* Take events for @ms of virtual time. */
void world_run(struct world *world, uint64_t ms);
/* Until all sockets are closed or destroyed, at most 200 s. */
void world_run_to_end(struct world *world);
/* Until @done holds, at most 200 s, which fails the test. */
void world_run_until(struct world *world, bool (*done)(struct world *world));
/* One poll or dispatch without a time limit. */
void world_wait(struct world *world);
/* One look, without waiting. Returns the events. */
int world_look(struct world *world);
/* The same without taking events: time passes and the engine is not polled. */
void world_sleep(struct world *world, uint64_t ms);

/* Compare with the events so far, or what peer @index saw. A line that ends in * matches what begins like it, one that
 * begins with ? may be missing. */
void world_expect(struct world *world, const char *events);
void world_expect_peer(struct world *world, unsigned index, const char *lines);
void world_fail(struct world *world, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* One connection from beginning to end, as a table's row. */
struct world_scene {
    const char *name;
    const char *script;                /* the peer's */
    const char *at_once;               /* ours, right after wsr_socket_open() */
    const char *on_open, *on_message;
    const char *events, *peer;         /* what must come of it */
    uint64_t least_ms;                 /* until the close event; at most 100 ms more */
    uint8_t stage;
    int system_errno;
    uint16_t http_status;
    uint64_t buffered;                 /* bufferedAmount at the end */
    const struct wsr_engine_options *options;
    const char *url;                   /* NULL = WORLD_URL */
    const struct wsr_socket_options *socket_options;
    const char *word;                  /* to be found in the text of the close event */
    const char *plain;                 /* why it is not for wss; NULL = it is */
};
/* Every scene over every way, wss: under fewer seeds: a handshake takes a millisecond. */
void world_play(const struct world_scene *scenes, size_t scenes_count);
/* The same over wss: alone, each seed with records by the library or by direct. */
void world_play_wss(const struct world_scene *scenes, size_t scenes_count);
/* The same under every @step-th seed, beginning with the @offset-th: for tables of thousands. */
void world_play_few(const struct world_scene *scene, uint64_t step, uint64_t offset);

/* Run @test under many seeds, over each way, wss: under fewer. WSRING_SIM_SEED names a single seed, WSRING_SIM_SEEDS
 * their number, WSRING_SIM_WAY one way, ws, library or direct, which then has all the seeds. */
void world_each_seed(void (*test)(struct world *world), const struct wsr_engine_options *options);
/* The same over ws: alone, and for the loops of a test of its own. */
void world_each_plain_seed(void (*test)(struct world *world), const struct wsr_engine_options *options);
/* And over wss: alone, in the same way. */
void world_each_wss_seed(void (*test)(struct world *world), const struct wsr_engine_options *options);
uint64_t world_seeds_first(void);
uint64_t world_seeds_last(void);
/* Is @seed one of those for @way? */
bool world_has_seed(enum world_way way, uint64_t seed);

#endif
