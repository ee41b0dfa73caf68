/* An engine on the real driver, a peer to talk to, and a log of what its sockets told, for the tests of the public
 * functions. */
#ifndef CLIENT_H
#define CLIENT_H

#include "tests/support/peer.h"
#include "wsring.h"

#define CLIENT_POLL_MAX 64

struct client {
    struct wsr_engine *engine;
    struct peer *peer;
    bool uses_dispatch;                       /* wsr_dispatch() with client_record() as handler, else wsr_poll() */
    uint32_t events_max;                      /* of one poll, at most CLIENT_POLL_MAX */
    uint64_t counts[WSR_EVENT_TYPES_COUNT];   /* events taken, by type */
    struct wsr_event last[WSR_EVENT_TYPES_COUNT];
    char log[8192];                           /* "open", "text 5 hello", "error", "close 1000 clean bye", "writable" */
    size_t log_bytes;
    /* Called for each event after it was logged. */
    void (*react)(struct client *client, const struct wsr_event *event);
    void *context;
};

/* Start a peer that follows @script and an engine with @options, NULL for an inline one. */
void client_open(struct client *client, const struct wsr_engine_options *options, const char *script);
/* Destroy the engine, then stop the peer. */
void client_close(struct client *client);
/* Run @test with an inline engine and with a worker, both otherwise as @options say (NULL: the defaults); and unless
 * they say how to wait, with each way of it. */
void client_each(void (*test)(struct client *client), const struct wsr_engine_options *options, const char *script);

/* A socket to the peer. */
struct wsr_socket *client_connect(struct client *client);
struct wsr_socket *client_connect_with(struct client *client, const struct wsr_socket_options *options);
/* The same, and wait until it is open. */
struct wsr_socket *client_connect_open(struct client *client);

/* Handler that logs; @context is the client. */
void client_record(const struct wsr_event *event, void *context);
void client_listen(struct client *client, struct wsr_socket *socket);
/* One poll of ring @ring. Returns the number of events. */
int client_poll(struct client *client, uint32_t ring, uint64_t timeout_ms);
/* Poll all rings until that many events of @type were taken in all; fails the test after a minute. */
void client_until(struct client *client, enum wsr_event_type type, uint64_t count);
/* Send @count small texts to a server that echoes, each when the one before is back; none came before. */
void client_echo(struct client *client, struct wsr_socket *socket, unsigned count);
/* Until @done holds. */
void client_until_true(struct client *client, bool (*done)(struct client *client));
/* Until connection @index of the peer has logged a line that begins so: an inline engine works while it is polled. */
void client_until_peer(struct client *client, unsigned index, const char *line_start);
/* Poll for @ms, to see that nothing more comes. */
void client_idle(struct client *client, uint64_t ms);
void client_expect(struct client *client, const char *log);
struct wsr_engine_statistics client_statistics(struct client *client);

uint64_t client_now_ms(void);
void client_sleep_ms(unsigned ms);

#endif
