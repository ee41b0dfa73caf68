/* The far end of one simulated connection: obeys its script, takes the client's bytes, keeps a log. For sim.c. */
#ifndef SIM_PEER_H
#define SIM_PEER_H

#include "tests/support/sim.h"
#include "tests/support/sim_buffer.h"
#include "tests/support/sim_deflate.h"
#include "tests/support/tls_server.h"

enum sim_seen {
    SIM_REQUEST, SIM_TEXT, SIM_BINARY, SIM_PING, SIM_PONG, SIM_CLOSE, SIM_FIN, SIM_END,
    SIM_GREETING, SIM_CREDENTIALS, SIM_CONNECT, SIM_PART, SIM_DEFLATED,
    SIM_HELLO, SIM_SECURED, SIM_ALERT, SIM_NOTIFY, SIM_SEEN_COUNT
};

struct sim_piece {
    uint64_t due_ns;           /* when it arrives at the client */
    size_t end;                /* in sim_peer.out */
};

struct sim_line {
    uint64_t when_ns;
    size_t at;                 /* in sim_peer.log */
};

struct sim_peer {
    struct sim *sim;
    char *script, *next_step;
    uint64_t resume_ns;                /* the next step is not done before */
    bool waits;                        /* for something that only the client can bring */
    enum sim_seen awaited;             /* SIM_SEEN_COUNT = nothing will do */

    bool answered;                     /* the connect has a result, at answer_ns */
    int answer;
    uint64_t answer_ns;

    struct sim_buffer out;             /* to the client */
    size_t taken;                      /* of it, received */
    struct sim_piece *pieces;
    size_t pieces_count, pieces_first;
    size_t uncut;                      /* bytes of out that are not in pieces yet */
    uint64_t last_due_ns;
    uint64_t cut;                      /* 0 = random, SIM_WHOLE, or bytes */
    bool corked, echoes;
    uint64_t fin_ns, reset_ns;         /* 0 = no */
    int reset_errno;
    bool gone;

    uint64_t wire_bytes;               /* from the client */
    struct sim_buffer in;              /* the same without TLS */
    size_t parsed, request_at;
    uint64_t window, slow_bytes, refill_ns;
    char key[32];
    unsigned seen[SIM_SEEN_COUNT], expected[SIM_SEEN_COUNT];
    uint32_t *masks;                   /* all masking keys */
    size_t masks_count;
    bool takes_parts;
    struct sim_buffer parts;           /* of the message under way */
    uint8_t parts_opcode;              /* 0 = none is under way */
    struct sim_deflate *deflate;       /* NULL = no permessage-deflate */
    bool deflates_next;                /* what is sent next is compressed */
    struct sim_buffer options;         /* that the client has set on its socket, a line each */
    struct tls_server *server;         /* NULL = no TLS */
    struct tls_server_link *link;      /* NULL = the client has not begun */
    bool has_whims;                    /* the server renews keys and sends tickets when it likes */
    bool tells_tls;                    /* what TLS does is logged */
    bool is_early;                     /* the script does not wait for the handshake */
    bool has_notified;                 /* close_notify was sent */
    size_t opened;                     /* of what the link received, in in */
    int alert_noted;                   /* the last alert that was logged */
    size_t record_bytes;               /* of what is sealed; 0 = as the seed decides */
    struct sim_buffer plain;           /* to the client, to be sealed with the next cut */
    struct sim_buffer log;
    struct sim_buffer said;            /* its messages, a line each as world.c logs them */
    bool has_ended_saying;             /* a Close, or bytes that may be anything */
    struct sim_line *lines;
    size_t lines_count;
};

#define SIM_WHOLE UINT64_MAX

/* @server, if not NULL, is between the wire and the script. */
struct sim_peer *sim_peer_create(struct sim *sim, const char *script, struct tls_server *server, bool has_whims);
void sim_peer_free(struct sim_peer *peer);
/* Do the steps that can be done now. */
void sim_peer_run(struct sim_peer *peer);
/* The next moment after now at which something changes by itself, WSR_NEVER for none. */
uint64_t sim_peer_next(const struct sim_peer *peer);
/* Bytes that have arrived and can be read; at most one piece when the script cuts. */
size_t sim_peer_arrived(struct sim_peer *peer);
/* Bytes that the peer takes now. */
size_t sim_peer_window(const struct sim_peer *peer);
void sim_peer_take(struct sim_peer *peer, const uint8_t *data, size_t len);
void sim_peer_client_shut(struct sim_peer *peer);
void sim_peer_client_closed(struct sim_peer *peer);
bool sim_peer_is_reset(const struct sim_peer *peer);
bool sim_peer_has_ended(const struct sim_peer *peer);

#endif
