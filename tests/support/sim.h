/* The simulated driver: files, peers and a clock in memory. A seed decides everything that a kernel may decide;
 * whatever an
 * engine may not do with a driver fails the test at once. */
#ifndef SIM_H
#define SIM_H

#include "engine/driver.h"

struct sim;
struct tls_server;
struct tls_server_link;

/* Fails the running cmocka test, naming the seed. */
void sim_fail(const struct sim *sim, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

struct sim *sim_create(uint64_t seed);
/* After the driver was destroyed by whom it was given to. */
void sim_free(struct sim *sim);
struct wsr_driver *sim_driver(struct sim *sim);

/*
 * What the peer of the next connection does. The last one serves all further connections too. Steps are separated by
 * semicolons and done one after the other; those that wait are marked *.
 *
 *   accept [MS]            * take the connection, after MS milliseconds
 *   refuse ERRNO [MS]      * refuse it
 *   silent                 * never answer
 *   upgrade [HEADER LINE]  * await the request, send the 101; in the line | stands for a semicolon
 *   http TEXT              send TEXT; $ACCEPT in it becomes the right Sec-WebSocket-Accept
 *   text|binary|ping|pong [PAYLOAD], close [CODE [REASON]]
 *                          send a frame
 *   big N, bulk N          send a text, a binary message of N bytes: sim_pattern()
 *   texts N, pings N       send N frames with the payloads 0 to N-1
 *   fragments N [PAYLOAD]  send a text message of N frames, each with that payload
 *   open-end N [PAYLOAD]   the same, but none of them is the last
 *   raw HEX                send bytes
 *   echo                   from now on send every message back, and answer Pings
 *   cut N                  deliver N bytes at a time; 0 = as the seed decides (at first), whole = each step's bytes
 * at once
 *   cork, uncork           gather what is sent in between into one piece
 *   wait MS                *
 *   expect KIND            * await one more of: request text binary ping pong close fin end; of a client that takes
 *                          the peer for a proxy also: greeting credentials connect
 *   fin                    end our direction
 *   gone                   end both: what comes from the client is answered with a reset
 *   rst ERRNO              reset
 *   stop, read, window N   take nothing more; take everything; take N bytes more
 *   slow N                 take N bytes a millisecond
 *   parts                  from now on the client may send messages in several frames: "part N" is logged for each but
 *                          the last
 *   deflates               from now on it may compress: "deflated N" is logged before what N bytes stand for, and echo
 *                          sends it back compressed
 *   deflated PAYLOAD       send a text message compressed, perhaps in frames
 *   deflated-big N         the same, a binary message of N bytes
 *   forget                 what is compressed and inflated from now on knows nothing of what was before
 *
 * With TLS all steps behind accept, or behind a proxy's part, wait for the end of the handshake. fin is preceded by
 * close_notify, or not, as the seed decides. And:
 *
 *   early                  do not wait for it: what is sent before it goes as it is
 *   tls                    from now on what the client does in TLS is logged too: "hello NAME PROTOCOLS", "secured",
 *                          "alert N", "close_notify"
 *   expect KIND            * also: hello secured alert close_notify
 *   records N              seal N bytes at a time; 0 = as the seed decides
 *   alert N                send a fatal alert, the last that is said
 *   update [ask]           renew our keys, and ask the client to do the same; nothing with TLS 1.2
 *   tickets N              send tickets; the same
 *   renegotiate            send a HelloRequest; nothing with TLS 1.3
 *   notify                 send close_notify
 *   wire HEX               send bytes that are not sealed
 */
void sim_script(struct sim *sim, const char *steps);
/* The peers of all further connections speak TLS as @server does, which lives longer; NULL = each as one of
 * sim_tls_server(), and sends tickets and new keys when it likes, as the seed decides. */
void sim_speak_tls(struct sim *sim, struct tls_server *server);
/* The server's end of connection @index; NULL before the client began. */
const struct tls_server_link *sim_tls_link(const struct sim *sim, unsigned index);

/* What the peer of connection @index saw, a line each: "request GET /", "text 5 hello", "close 1000 bye", "fin"
 * (shutdown),
 * "end" (close). A payload of more than 40 bytes is told as #HASH, see sim_hash(). */
const char *sim_log(const struct sim *sim, unsigned index);
unsigned sim_connections(const struct sim *sim);
/* Moment at which the first line that starts with @start was logged, 0 = not yet. */
uint64_t sim_logged_ns(const struct sim *sim, unsigned index, const char *start);
/* The request as received. */
const char *sim_request(const struct sim *sim, unsigned index);

/* The messages that the peer has sent before any Close or raw bytes, a line each: "message text 5 hello". */
const char *sim_said(const struct sim *sim, unsigned index);
/* Masking keys of the frames so far, oldest first. */
const uint32_t *sim_masks(const struct sim *sim, unsigned index, size_t *count);
/* Bytes of connection @index on the wire so far: those that the peer has taken, and those that the client received. */
uint64_t sim_wire_taken(const struct sim *sim, unsigned index);
uint64_t sim_wire_received(const struct sim *sim, unsigned index);
/* What the driver has seen, to compare the engine's own counts with. */
struct sim_counts {
    uint64_t waits, completions;           /* of wait() */
    uint64_t sends, short_sends;           /* send operations submitted; of those, ended without having taken all */
    uint64_t buffers_exhausted;            /* receives ended for want of a buffer */
    uint64_t own_receives;                 /* into memory of the engine's own */
};
struct sim_counts sim_counts(const struct sim *sim);

/* Have the next @count open() calls refused with @system_errno. */
void sim_refuse_open(struct sim *sim, unsigned count, int system_errno);
/* Have the next @count calls of set_option() for @name refused with @system_errno. */
void sim_refuse_option(struct sim *sim, int level, int name, unsigned count, int system_errno);
/* Of the servers that the seed decides on, none picks a cipher suite that the kernel cannot carry. @renews: it takes
 * new keys in place of old ones, as Linux does from 6.14 on. */
void sim_carry_records(struct sim *sim, bool renews);
/* What was set on the client's socket of connection @index, a line each: "ulp tls"; "tx VERSION CIPHER SEQUENCE", "rx
 * ...", the version in hexadecimal and the cipher by the kernel's number; "no-padding". */
const char *sim_options(const struct sim *sim, unsigned index);
/* What the last open() was asked for. */
const struct wsr_driver_setup *sim_last_setup(const struct sim *sim);
/* Receive buffers in the kernel's hands. */
unsigned sim_buffers_home(const struct sim *sim);
/* Take a buffer from the kernel by hand: this one, or the next. */
void sim_take_buffer(struct sim *sim, uint16_t index);
uint16_t sim_take_any_buffer(struct sim *sim);
unsigned sim_files_open(const struct sim *sim);
/* The driver has a thread of its own: a wait without end lasts until wake(). Failures end the process then. */
void sim_set_threaded(struct sim *sim);
/* From now on wait() is broken. */
void sim_break(struct sim *sim, int system_errno);

uint64_t sim_now(const struct sim *sim);
/* Time passes, peers act, operations go on; nobody waits on the driver. */
void sim_pass(struct sim *sim, uint64_t ns);
uint64_t sim_seed(const struct sim *sim);
/* 0 to @bound - 1. */
uint64_t sim_random(struct sim *sim, uint64_t bound);

/* Byte @at of the payload of "big". */
static inline char sim_pattern(size_t at) { return (char)('a' + (at * 7 + at / 251) % 26); }
uint32_t sim_hash(const void *data, size_t len);

#endif
