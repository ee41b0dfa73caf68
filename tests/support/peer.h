/* A real server on the loopback interface, on a thread of its own, that does what a script says and keeps a log. It
 * speaks the server's half of RFC 6455 with a few lines of its own, so that it and the engine check each other. */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer;

/*
 * Listen on a free port of 127.0.0.1. Every connection follows @script from its beginning. Steps are separated by
 * semicolons and done one after the other; those that wait are marked *. Once the request is there, $NAME stands for
 * the value of that header up to a comma, $accept for what Sec-WebSocket-Accept has to say.
 *
 *   request                * await the request
 *   upgrade [HEADER LINE]  * the same, then send the 101; a header without a value is left out
 *   demand NAME VALUE      * the same, then answer 401 and end unless that header has that value
 *   http TEXT              send TEXT, in which | is a line end; with $accept in it, frames follow
 *   text|binary|ping|pong [PAYLOAD], close [CODE [REASON]]
 *                          send a frame
 *   reply                  send the client's Close back
 *   big N                  send a binary message of N bytes: peer_pattern()
 *   texts N                send N text messages with the payloads 0 to N-1
 *   raw HEX                send bytes
 *   cork, uncork           gather what is sent in between into one piece
 *   expect KIND            * await one more of: text binary ping pong close fin
 *   hold                   * until peer_go(); one call is one hold of every connection
 *   wait MS                *
 *   echo                   from now on return every message unlogged, and answer a Close with the same, then fin
 *   sink                   from now on log no message
 *   stop, read             take nothing more from the client; take it again
 *   fin                    end our direction when all is sent
 *   end                    close when all is sent
 *   rst                    reset at once
 *
 * @receive_buffer_bytes is SO_RCVBUF, 0 for the system's: a small one makes the client's sends stall early.
 */
struct peer *peer_start(const char *script, int receive_buffer_bytes);
/* The same on a Unix socket at @path, which the caller removes, or in the abstract namespace at "@NAME". */
struct peer *peer_start_unix(const char *script, const char *path);
/* A bare Unix socket there, SOCK_STREAM with @backlog or another type. Returns its descriptor. */
int peer_listen_unix(const char *path, int type, int backlog);
void peer_stop(struct peer *peer);

/* "ws://127.0.0.1:PORT/chat" */
const char *peer_url(const struct peer *peer);
uint16_t peer_port(const struct peer *peer);
/* Connections that come from now on follow another script. */
void peer_script(struct peer *peer, const char *script);

/* A path of the request, and what is done for it. */
struct peer_route {
    const char *path;
    const char *script;
};
/* Connections that come from now on follow, once their request is there, the route of its path if there is one. @routes
 * stay the caller's, until the peer is stopped. */
void peer_routes(struct peer *peer, const struct peer_route *routes, size_t count);
void peer_go(struct peer *peer);
unsigned peer_connections(struct peer *peer);
/* The most connections that were there at once without their 101. */
unsigned peer_opening_max(struct peer *peer);

/*
 * The log of connection @index, a line each: "request GET /chat HTTP/1.1", "text 5 hello", "close 1000 bye", "fin",
 * "reset". A payload of more than 40 bytes is not shown. Those that wait do so for a minute, then the test fails.
 */
void peer_await(struct peer *peer, unsigned index, const char *line_start);
void peer_expect(struct peer *peer, unsigned index, const char *lines);
bool peer_saw(struct peer *peer, unsigned index, const char *line_start);
/* A header of the request, "" when it was not sent; valid until the next call. */
const char *peer_header(struct peer *peer, unsigned index, const char *name);
/* The client's address as it is seen there; valid until the next call. */
const char *peer_from(struct peer *peer, unsigned index);
/* Messages and payload bytes that came in, over all connections. */
uint64_t peer_messages(struct peer *peer);
uint64_t peer_bytes(struct peer *peer);
void peer_await_messages(struct peer *peer, uint64_t count);

/* An address to which a connect neither succeeds nor fails: "127.0.0.1:PORT", until the descriptors are closed. */
struct peer_stall {
    int fds[4];
    char address[32];
};
void peer_stall_open(struct peer_stall *stall);
void peer_stall_close(struct peer_stall *stall);
/* A port on which nobody listens. */
uint16_t peer_dead_port(void);

/* Byte @at of the payload of "big". */
static inline uint8_t peer_pattern(size_t at) { return (uint8_t)('a' + (at * 7 + at / 251) % 26); }

#endif
