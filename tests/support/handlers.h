/* The server of the tests that follow web-platform-tests: one path for each thing that a server may do. */
#ifndef HANDLERS_H
#define HANDLERS_H

#include "tests/support/client.h"

/*
 * /echo               agrees to the first protocol that is offered; every message and Close comes back
 * /no-protocol        the same, agreeing to none
 * /origin, /referrer, /cookie
 *                     tells that header of the request as a text, then the same
 * /set-cookie         sets a cookie, then the same
 * /basic-auth         answers 401 unless user and password are "foo" and "bar", then the same
 * /raw                another way to write the same answer, then the same
 * /slow-handshake     answers after peer_go(), then the same
 * /slow-close         sends the client's Close back after peer_go()
 * /goodbye            after the first text: Close 1000
 * /goodbye-and-more   the same, with a text, a Ping and a second Close behind it in one piece
 * /slow-reader        takes nothing until peer_go(); messages are counted, not sent back
 * Any other path: what peer_script() says.
 */

/* Run @test inline and with a worker, each with wsr_poll() and with wsr_dispatch(). */
void handlers_each(void (*test)(struct client *client));
/* The same with other engine options and, unless 0, a small receive buffer at the server. */
void handlers_each_with(void (*test)(struct client *client), const struct wsr_engine_options *options,
                        int receive_buffer_bytes);

/* "SCHEME://127.0.0.1:PORT" and @rest; valid until the next call. */
const char *handlers_url(struct client *client, const char *scheme, const char *rest);
/* A socket to ws://127.0.0.1:PORT and @path. */
struct wsr_socket *handlers_connect(struct client *client, const char *path);
/* The same, and wait until it is open. */
struct wsr_socket *handlers_connect_open(struct client *client, const char *path);
/* What wsr_socket_open() says of a whole URL. */
int handlers_try(struct client *client, const char *url, const char *const *protocols, size_t protocols_count,
                 const struct wsr_socket_options *options, struct wsr_socket **socket);
/* Wait for the next close event, also one that came by the way; then the log is @log, and is forgotten. */
void handlers_until_close(struct client *client, const char *log);

#endif
