/* The worker's half of a connection: file, operations in flight, session, timer, send queue. One thread, one worker. */
#ifndef WSR_CONN_H
#define WSR_CONN_H

#include <stdatomic.h>

#include "deliver.h"
#include "dial.h"
#include "driver.h"
#include "entropy.h"
#include "gate.h"
#include "pool.h"
#include "proxy.h"
#include "queue.h"
#include "resolve.h"
#include "ring.h"
#include "session.h"
#include "slab.h"
#include "timer.h"
#include "tls.h"

enum wsr_conn_state {
    WSR_CONN_FREE,
    WSR_CONN_DIALING,                 /* looks up and connects */
    WSR_CONN_TUNNELING,               /* has asked a proxy for the way to the server */
    WSR_CONN_SECURING,                /* TLS handshake */
    WSR_CONN_UPGRADING,               /* request sent, answer awaited */
    WSR_CONN_OPEN,
    /* a Close frame was queued; the rest of the handshake, or the end of TCP, is awaited */
    WSR_CONN_CLOSING,
    WSR_CONN_DRAINING                 /* waits for every operation in flight, and for room to tell the end */
};

/* What only a connection that is being opened needs; made by the socket, freed when the conn is open or gone. */
struct wsr_opening {
    struct wsr_resolve_request lookup;   /* host and port set, unless dial has addresses already */
    struct wsr_command looked_up;        /* comes back from the resolver's thread */
    struct wsr_conn_host *host;          /* whose command ring looked_up and admitted go to */
    struct wsr_dial dial;                /* source, and addresses when known */
    struct wsr_session_upgrade upgrade;  /* offer set */
    char *request;                       /* malloc: the HTTP request */
    size_t request_bytes;
    uint64_t phase_start_ns;             /* of the look-up, the connect or the upgrade */
    bool keeps_response;                 /* for wsr_socket_response_header() */
    char *offered;                       /* malloc: the protocols as sent, which upgrade.offer points to; or NULL */
    /* whom dial connects to instead of the server; NULL = none. While it wants the server's address, lookup is for
     * that */
    struct wsr_proxy *proxy;
    const char *refusal;                 /* static: fail so at once, and connect nowhere; NULL = go on */
    struct wsr_tls_context *tls_context; /* of the engine; NULL = ws, without TLS */
    char *tls_name;                      /* malloc: whom the certificate is to be for */
    uint16_t tls_port;                   /* of the URL: sessions are resumed for both together */
    struct wsr_gate_place place;         /* in host->gate, at the address that is tried */
    struct wsr_command admitted;         /* comes from the thread of whoever made room there */
};

void wsr_conn_opening_free(struct wsr_opening *opening);   /* NULL is allowed; its upgrade's head was released before */

/* What the server's answer leaves for the socket's getters. */
struct wsr_conn_answer {
    size_t head_bytes;                   /* 0 = the head is not kept */
    char text[];                         /* protocol NUL extensions NUL head */
};

/*
 * What a connection counts for wsr_socket_statistics(): the worker writes, any thread reads. Every one is a number
 * alone, relaxed, but copied, which never overtakes messages. What each message touches comes first.
 */
struct wsr_link_counts {
    _Atomic uint64_t messages_sent, messages_sent_bytes, wire_sent_bytes;
    _Atomic uint64_t wire_received_bytes, last_received_ns;
    _Atomic uint64_t messages, messages_bytes, copied, last_message_ns;
    _Atomic uint64_t opened_ns;
    /* See wsr_conn_span(). */
    _Atomic uint32_t lookup_span, connect_span, tls_span, upgrade_span, rtt_span;
    _Atomic uint32_t tls_facts;          /* see wsr_tls_facts_pack() */
    _Atomic uint32_t addresses_tried, rests, pings_answered, pings_dropped, pings_sent, pongs_received;
};

/* What the socket wants of the worker that no chunk carries. */
enum wsr_link_wish {
    WSR_LINK_OPEN = 1u << 0,
    WSR_LINK_WRITABLE = 1u << 1,         /* a send was refused */
    WSR_LINK_DESTROY = 1u << 2           /* its last; there was no memory for the Close 1001 */
};

/* How messages of a link may be compressed; also index of host->deflate_min_bytes. */
enum wsr_link_deflates {
    WSR_LINK_DEFLATES_NOT,
    WSR_LINK_DEFLATES,                   /* knowing those before */
    WSR_LINK_DEFLATES_ALONE              /* each for itself */
};

/* What both halves share. Lies in the socket, which outlives the conn: it is freed only after the GONE event. */
struct wsr_link {
    struct wsr_command command;          /* LINK; its subject is the opening, NULL when that is over */
    struct wsr_conn_answer *answer;      /* from the conn to the socket, by the open or error event; malloc, or NULL */
    union {
        struct wsr_conn *conn;           /* worker: NULL when there is none (any more) */
        struct wsr_link *gone_next;      /* in host->gone_first */
    };
    struct wsr_link_counts counts;       /* here, as the conn is gone before the socket is */
    _Atomic uint64_t credited_bytes;     /* of sent_bytes, accepted by the kernel; by the worker, read by wsr_send() */
    _Atomic uint64_t sent_bytes;         /* payload accepted by wsr_send(); only grows */
    _Atomic uint64_t refused_bytes;      /* largest send refused since the last writable event */
    uint32_t fragment_bytes;             /* as the socket's options say, but at most this type's largest; constant */
    _Atomic uint8_t wishes;              /* enum wsr_link_wish; see wsr_worker_ask() */
    _Atomic uint8_t wants_writable;      /* 1 from a refused send to the writable event; see wsr_conn_want_writable() */
    /* enum wsr_binary_type, set by the consumer; a hint to the worker, so without order */
    _Atomic uint8_t binary_type;
    uint8_t deflates;                    /* enum wsr_link_deflates; constant from before the open event on */
};

/* Counted by the worker alone, read by wsr_engine_statistics(): relaxed, one writer. */
struct wsr_conn_counts {
    _Atomic uint64_t sockets_opened, sockets_failed, messages_sent, messages_sent_bytes;
    _Atomic uint64_t wire_received_bytes, wire_sent_bytes;
    _Atomic uint64_t buffers_exhausted, rests, sends, short_sends;
    _Atomic uint64_t pings_answered, pings_dropped;
    _Atomic uint64_t tls_handshakes, tls_resumed, tls_unverified, tls_library, tls_kernel, tls_direct;
};

/* A number as its one writer knows it. */
static inline uint64_t wsr_conn_number(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void wsr_conn_count(_Atomic uint64_t *counter, uint64_t by)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed) + by;
    atomic_store_explicit(counter, now, memory_order_relaxed);
}

/* The same for a number that is rarely large: it stays at its largest value. */
static inline void wsr_conn_count_few(_Atomic uint32_t *counter)
{
    uint32_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + (now < UINT32_MAX), memory_order_relaxed);
}

/* A span of time in 32 bits: nanoseconds, or from 2^31 of them on, with the top bit set, units of 1,024. */
static inline uint32_t wsr_conn_span(uint64_t ns)
{
    const uint64_t most = (1u << 31) - 1;
    if (ns <= most)
        return (uint32_t)ns;
    return 1u << 31 | (uint32_t)(ns >> 10 < most ? ns >> 10 : most);
}

/* Of what took place, which 0 would deny: the worker reads the clock once a turn. */
static inline uint32_t wsr_conn_span_between(uint64_t start_ns, uint64_t end_ns)
{
    return wsr_conn_span(end_ns > start_ns ? end_ns - start_ns : 1);
}

static inline uint64_t wsr_conn_span_ns(uint32_t span)
{
    return span < 1u << 31 ? span : (uint64_t)(span & ~(1u << 31)) << 10;
}

/* What the connections of one worker share; the worker fills it. */
struct wsr_conn_host {
    struct wsr_driver *driver;
    struct wsr_pool *pool;
    struct wsr_slab *slab;
    struct wsr_timer_wheel *wheel;
    struct wsr_resolver *resolver;
    struct wsr_gate *gate;               /* of the engine; NULL = connections are opened side by side */
    struct wsr_deliver deliver;
    struct wsr_ring_mpsc commands;
    struct wsr_entropy entropy;
    struct wsr_session_shared sessions;
    struct wsr_deflate_shared deflate;
    struct wsr_deflate *deflate_slots;   /* one beside each of slots; those without are never touched */
    struct wsr_timer deflate_timer;      /* armed while one may have rested for deflate_idle_ns */
    uint64_t deflate_idle_ns;
    uint64_t deflate_min_bytes[3];       /* by enum wsr_link_deflates: smaller messages are not compressed */
    uint64_t open_timeout_ns, close_timeout_ns, fin_timeout_ns;
    uint64_t send_queue_max_bytes;
    uint64_t ping_mark;                  /* random: tells the engine's own Ping payloads from others */
    struct wsr_tls_shared tls_shared;
    uint32_t tls_records;                /* enum wsr_tls_records, as asked for */
    uint64_t now_ns;                     /* of this turn */
    const struct wsr_conn *parsing;      /* while its session is fed, from parsing_buffer */
    struct wsr_loan *parsing_buffer;
    struct wsr_loan *inflated;           /* meanwhile: block with messages that were inflated, filled so far; or NULL */
    const struct wsr_conn *unsealing;    /* while what it received is opened */
    struct wsr_conn *slots;
    struct wsr_conn_tls *tls_slots;      /* one beside each; those of ws are never touched */
    uint32_t slots_count;
    uint32_t slots_used;                 /* slots below it have been in use */
    struct wsr_conn *free_first;         /* of those, in FREE */
    struct wsr_conn *unsent_first;       /* conns whose queue is to be launched at the end of the turn */
    /* conns that wait for the consumer, longest first: room, buffers, or its turn */
    struct wsr_conn *resting_first;
    struct wsr_conn *resting_last;
    struct wsr_link *gone_first;
    uint32_t receives_started;           /* in this turn */
    bool is_ending;                      /* connections are being killed: none waits for the consumer any more */
    bool has_more_commands;              /* this turn had too many: the rest is run in the next */
    bool goes_on;                        /* something rests that needs nobody else: the next turn does not wait */
    struct wsr_conn_counts counts;
    /* Wakes the worker for a command pushed by another thread. */
    void (*wake)(struct wsr_conn_host *host);
    /* A connection ended and gave its place back. */
    void (*freed)(struct wsr_conn_host *host);
};

/* How a conn ends, as soon as that is known: by a failure, with MARK_FAILED, or by the Close that the server sent. */
struct wsr_conn_end {
    union {
        const char *failure_text;        /* static */
        struct wsr_loan *reason;         /* without MARK_FAILED: block with the Close's reason, NULL when empty */
    };
    uint16_t system_errno;               /* of a failure; so the next */
    uint16_t http_status;
    uint16_t code;                       /* for the failing Close frame, or of the server's Close; 0 = none came */
    uint8_t stage;                       /* of a failure; enum wsr_stage */
    uint8_t reason_bytes;
};

/*
 * Three cache lines, as there may be a million of them. A message that comes whole and one that is sent concern two:
 * this first one, and the next with the queue and the first half of the session. In the third is what is needed for
 * messages that come in pieces, for limits and for rests.
 */
struct wsr_conn {
    struct wsr_conn_host *host;
    struct wsr_link *link;               /* NULL in FREE */
    struct wsr_conn_tls *tls;            /* NULL when there is none: for ws, and before and after it */
    struct wsr_loan *backlog_last;       /* received and not yet parsed: a circle, oldest behind newest; NULL = none */
    uint8_t state;                       /* enum wsr_conn_state */
    uint8_t ops;                         /* one bit for each operation in flight */
    uint16_t marks;                      /* lists that it is in, and what has happened once; conn.c */
    wsr_file file;                       /* -1 when none */
    uint32_t generation;                 /* counts the lives of this slot */
    uint16_t end_errno;                  /* with INPUT_ENDED: 0 for end of stream */
    uint8_t pings_count;                 /* of the application's, not yet answered; at most 255 are counted */
    uint8_t timed_pings_count;           /* the same of those with a payload of the engine's own */
    struct wsr_conn_end end;

    /* queue.next is the number of a slot + 1, 0 = none: in unsent_first, or, in FREE, where no list of the turn holds
     * it, in free_first. */
    struct wsr_queue queue;
    struct wsr_session session;

    struct wsr_timer timer;              /* the one limit that runs in this state */
    uint32_t fail_after;                 /* position of the consumer to be passed before the failing Close (RECV-12) */
    uint32_t resting_next;               /* number of a slot + 1; 0 = none */
};
_Static_assert(offsetof(struct wsr_conn, queue) == WSR_CACHE_LINE && sizeof(struct wsr_conn) <= 3 * WSR_CACHE_LINE &&
                   offsetof(struct wsr_conn, session) + offsetof(struct wsr_session, assembly_used) <=
                       2 * WSR_CACHE_LINE,
               "what each message needs of a connection lies in two cache lines");

/* What the conn opens: NULL when it is open, or gone. */
static inline struct wsr_opening *wsr_conn_opening(const struct wsr_conn *conn)
{
    return (struct wsr_opening *)conn->link->command.subject;
}

/* Operations, as a completion's token names them. */
enum wsr_conn_op {
    WSR_CONN_OP_CONNECT = 1u << 0,
    WSR_CONN_OP_RECV = 1u << 1,
    WSR_CONN_OP_SEND = 1u << 2,
    WSR_CONN_OP_LOOKUP = 1u << 3,
    WSR_CONN_OP_GATE = 1u << 4
};

/* Token: operation in the top byte, then 24 bits of generation, then the slot. */
static inline uint64_t wsr_conn_token(uint32_t slot, uint32_t generation, enum wsr_conn_op op)
{
    return (uint64_t)op << 56 | (uint64_t)(generation & 0xFFFFFF) << 32 | slot;
}

/* The same for TLS; the context is the host. */
uint8_t *wsr_conn_take_record(void *context, size_t bytes);
void wsr_conn_release_record(void *context, uint8_t *block);
/* Blocks of the pool, and lists of pieces; the context is the host. */
extern const struct wsr_session_memory wsr_conn_session_memory;

/* ---- Called by the worker, on its thread ---- */

/* Take a FREE conn and connect as the opening of @link says. */
void wsr_conn_open(struct wsr_conn_host *host, struct wsr_link *link);
/* A completion whose token names this conn and this generation. */
void wsr_conn_completed(struct wsr_conn *conn, enum wsr_conn_op op, const struct wsr_completion *completion);
/* The look-up of a conn came back. */
void wsr_conn_looked_up(struct wsr_conn *conn);
/* A conn that waited for others to the same address has its turn. */
void wsr_conn_admitted(struct wsr_conn *conn);
void wsr_conn_expired(struct wsr_conn *conn);
/* Queue a message; given back unsent when the conn is not open. */
void wsr_conn_send(struct wsr_conn *conn, struct wsr_chunk *message);
/* The same for one that is masked with zeros: compressed if that helps, else masked. */
void wsr_conn_send_deflated(struct wsr_conn *conn, struct wsr_chunk *message);
/* The same for a small message that the caller writes itself, on the worker's thread, as wsr_queue_open_end() and
 * wsr_queue_extend() say. Only while the conn takes messages. */
bool wsr_conn_takes_messages(const struct wsr_conn *conn);
void wsr_conn_extend(struct wsr_conn *conn, struct wsr_chunk *chunk, uint32_t head_bytes, uint32_t payload_bytes);
/* Send a Ping with the bytes of @payload, or, timed, with the time; the chunk goes back. */
void wsr_conn_ping(struct wsr_conn *conn, struct wsr_chunk *payload, bool is_timed);
void wsr_conn_pause(struct wsr_conn *conn);
void wsr_conn_resume(struct wsr_conn *conn);
/* wsr_close() of an open socket: queue its Close frame. */
void wsr_conn_close(struct wsr_conn *conn, struct wsr_chunk *close_frame);
/* wsr_close() of a connecting socket (F7). */
void wsr_conn_abort(struct wsr_conn *conn);
/* A refused send: publish a writable event, now or when the queue has drained to half of its cap. */
void wsr_conn_want_writable(struct wsr_conn *conn);
/* The socket was destroyed: no more events. @close_frame is queued when the conn is open, else given back; NULL when
 * there was no memory for one, then an open connection just ends. CLOSE-32. */
void wsr_conn_detach(struct wsr_conn *conn, struct wsr_chunk *close_frame);
/* The engine ends: try to say Close 1001 when open; then abandon the conn, without events. Its operations end by
 * themselves, then it is FREE. */
void wsr_conn_farewell(struct wsr_conn *conn);
void wsr_conn_kill(struct wsr_conn *conn);
/* The driver broke and is gone, and so is the resolver: free what the conn had. Its socket is still there. */
void wsr_conn_forget(struct wsr_conn *conn);
/* What the conn opens, if anything, holds nobody up any more. */
void wsr_conn_leave_gate(struct wsr_conn *conn);
/* The one behind @conn in unsent_first or free_first; NULL = none. */
struct wsr_conn *wsr_conn_next(const struct wsr_conn *conn);

/* The deflate_timer has expired: streams that have rested give their memory back. */
void wsr_conn_rest_deflate(struct wsr_conn_host *host);
/* Turn all that rest on again that can go on. */
void wsr_conn_resume_resting(struct wsr_conn_host *host);
/* Give the kernel what was queued in this turn. */
void wsr_conn_flush_unsent(struct wsr_conn_host *host);
/* Tell GONE for @link, now or when there is room. */
void wsr_conn_tell_gone(struct wsr_conn_host *host, struct wsr_link *link);

#endif
