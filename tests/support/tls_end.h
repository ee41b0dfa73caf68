/* One end of a TLS connection behind its handshake (engine/tls_direct), and the keys of whoever is at the other one. */
#ifndef TLS_END_H
#define TLS_END_H

#include "engine/tls_direct.h"

#define TLS_END_ROOM (16384u + 2048u)

struct tls_end {
    struct wsr_tls_direct direct;
    struct wsr_tls_key peer_in, peer_out;
    struct wsr_tls_event event;         /* of what was last given to it */
    uint8_t record[TLS_END_ROOM];       /* lent to the event */
    unsigned tickets_count;             /* that came, and the last one */
    size_t ticket_bytes;
    uint8_t ticket[140000];
};

extern struct wsr_tls_shared tls_end_shared;

/* The suites that differ: three of TLS 1.3, then three of TLS 1.2; NULL behind them. */
const struct wsr_tls_suite *tls_end_suite(size_t i);
#define TLS_END_1_3_SUITES 3u

/* A client, whose tickets are kept. With keys of some handshake, or of none. */
void tls_end_begin(struct tls_end *end, const struct wsr_tls_suite *suite, const struct wsr_tls_key *in,
                   const struct wsr_tls_key *out);
void tls_end_begin_alone(struct tls_end *end, const struct wsr_tls_suite *suite);
void tls_end_finish(struct tls_end *end);

/* The record of @bytes in end->record, for which the header is asked first. */
void tls_end_give_record(struct tls_end *end, size_t bytes);
/* A record that the peer seals; returns the event's type. */
enum wsr_tls_event_type tls_end_give(struct tls_end *end, uint8_t type, const void *data, size_t len);

/* What is in the output, opened and taken: "level description" of each alert, separated by ", ". */
const char *tls_end_take_output(struct tls_end *end);
/* What the end seals of @text, opened: "type content" of each record; "22 update" is a KeyUpdate, which renews peer_in
 * too. */
const char *tls_end_seal(struct tls_end *end, const char *text);

/* The connection must just have ended, with @alert of ours and a sentence with @word in it, and does nothing more. */
void tls_end_must_fail(struct tls_end *end, unsigned alert, const char *word);

#endif
