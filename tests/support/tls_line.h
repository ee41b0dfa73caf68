/* engine/tls at one end, a server of OpenSSL at the other, and the test as the wire between them. What the engine's end
 * is given lies in memory of exactly that size; what it leads to is kept as text. */
#ifndef TLS_LINE_H
#define TLS_LINE_H

#include "engine/tls.h"
#include "engine/tls_context.h"
#include "tests/support/sim_tls.h"

#define TLS_LINE_NAME "server.example"
#define TLS_LINE_PORT 443

struct tls_line {
    struct wsr_tls tls;
    struct wsr_tls_shared shared;
    struct tls_server_link *link;
    enum wsr_tls_records records;      /* asked for when READY comes */
    int settled;                       /* what wsr_tls_settle() returned; 1 = it was not called */
    size_t cut;                        /* what is fed at a time; 0 = all that there is */
    size_t cut_once;                   /* and one cut more, at this byte of the stream; 0 = none */
    size_t fed;                        /* bytes of the stream so far */
    char events[4096];                 /* "ready", "data N" (what comes in a row added up), "closed", "failure ALERT",
                                          a line each */
    size_t data_in_row;
    const char *text;                  /* of the failure */
    uint8_t *data;                     /* all that came */
    size_t data_bytes;
    unsigned blocks_count;             /* of DATA in a block */
    unsigned taken, takes_left;        /* memory that is out; take() works so many times more */
};

/* A context that trusts sim_tls_authority(), for as many lines as wanted: without sessions, so that each makes a whole
 * handshake. */
struct wsr_tls_context *tls_line_context(void);
struct wsr_tls_context *tls_line_context_of(const struct wsr_tls_context_options *options);

/* Connect; the ClientHello has not left yet. @seed: of OpenSSL's numbers, so that the same line can be had again. */
void tls_line_open(struct tls_line *line, struct wsr_tls_context *context, struct tls_server *server,
                   enum wsr_tls_records records, uint64_t seed);
/* Free all, and check that no memory is left out. */
void tls_line_close(struct tls_line *line);

/* What is in the output goes to the server. */
void tls_line_carry(struct tls_line *line);
/* Feed bytes that the server has not sent, or has been made to. */
void tls_line_feed(struct tls_line *line, const void *bytes, size_t len);
/* Feed what the server has sent, and carry what comes of it, until nothing moves any more. */
void tls_line_run(struct tls_line *line);
/* Open, and make the handshake, which must go well. */
void tls_line_shake(struct tls_line *line, struct wsr_tls_context *context, struct tls_server *server,
                    enum wsr_tls_records records);
/* Seal @len bytes, in records as large as can be, and bring them to the server. */
void tls_line_send(struct tls_line *line, const void *data, size_t len);
/* The server says @len bytes of a pattern, in records of @record_bytes; they are not fed yet. */
void tls_line_say(struct tls_line *line, size_t len, size_t record_bytes);
/* Byte @at of that pattern. */
uint8_t tls_line_pattern(size_t at);

/* The events so far must be these. */
void tls_line_expect(struct tls_line *line, const char *events);
/* A record of @type that the server seals, TLS 1.3 or AEAD of 1.2, as if it were OpenSSL's next. OpenSSL must send
 * nothing after it. Returns the bytes in @out, which has 300 more than @len. */
size_t tls_line_forge(struct tls_line *line, uint8_t type, const void *content, size_t len, uint8_t *out);

#endif
