/* TLS of a connection, for the files of conn. */
#ifndef WSR_CONN_TLS_H
#define WSR_CONN_TLS_H

#include "conn.h"

struct wsr_conn_tls {
    struct wsr_tls tls;
    struct wsr_queue sealed;         /* of conn->queue what was launched, and what TLS itself has to say, as records */
    uint64_t plain_bytes;            /* of conn->queue, in sealed: they count as sent when all of sealed is */
    /* For records by the kernel; then sealed has what is no data, one record each, and is sealed by the kernel. */
    struct wsr_conn_ktls_op *fetch, *say;    /* operations of their own, receiving and sending; NULL = none */
    uint8_t ktls;                    /* enum wsr_conn_ktls_state, changed by one function only */
    uint8_t given_count;             /* options that the kernel took at the hand-over */
    bool renews_out;                 /* the kernel is to have direct.out again before the next send */
    uint16_t answers_count;          /* since sealed was last empty, of what TLS says by itself */
    bool has_ended;                  /* close_notify was queued: TLS says no more, as nothing may follow it, and no
                                        answer to the server puts off the end */
};

enum wsr_conn_ktls_state {
    WSR_CONN_KTLS_OFF,               /* the kernel has no keys */
    WSR_CONN_KTLS_HANDING,           /* it is to have them when nothing is under way in either direction */
    WSR_CONN_KTLS_DATA,              /* it has them; data is received */
    WSR_CONN_KTLS_CONTROL,           /* it has a record that is not data: to be fetched by a message */
    WSR_CONN_KTLS_KEYS               /* it is to have direct.in again */
};

/* Are the records opened and sealed here, and not by the kernel? */
static inline bool wsr_conn_is_sealed(const struct wsr_conn *conn)
{
    return conn->tls != NULL && conn->tls->ktls < WSR_CONN_KTLS_DATA;
}

/* Is the kernel to get the keys? Until then receiving and sending go on only as far as that takes. */
static inline bool wsr_conn_is_handing_over(const struct wsr_conn *conn)
{
    return conn->tls != NULL && conn->tls->ktls == WSR_CONN_KTLS_HANDING;
}

/* Does the kernel open and seal them? */
static inline bool wsr_conn_is_in_kernel(const struct wsr_conn *conn)
{
    return conn->tls != NULL && conn->tls->ktls >= WSR_CONN_KTLS_DATA;
}

/* The way to the server stands, TCP and tunnel: TLS for wss, else the upgrade. The conn may have failed after it. */
void wsr_conn_reached(struct wsr_conn *conn);
/* Open @*buffer from where that stopped, and parse what is in it. Returns false when the consumer is behind, with
 * *buffer, perhaps another one now, as what is to be gone on with. */
bool wsr_conn_parse_sealed(struct wsr_conn *conn, struct wsr_loan **buffer);
/* The stream ended during the handshake. */
void wsr_conn_tls_ended(struct wsr_conn *conn);
/* What is to be sent next, NULL for nothing; sealed before, as much of conn->queue as one send takes. */
struct wsr_queue *wsr_conn_sealed(struct wsr_conn *conn);
/* The send in flight took @bytes of it; when @is_broken, nothing will be sent any more. */
struct wsr_queue_credit wsr_conn_sealed_landed(struct wsr_conn *conn, uint64_t bytes, bool is_broken);
/* Nothing more is to be said: say so to TLS. Returns whether that, or what is before it, is still on its way. */
bool wsr_conn_say_goodbye(struct wsr_conn *conn);
/* TLS has failed and all has left that it had to say about it. */
bool wsr_conn_tls_is_over(const struct wsr_conn *conn);
void wsr_conn_end_tls(struct wsr_conn *conn);

/* Take what TLS wants to be sent by itself, behind all that is sealed. */
void wsr_conn_tls_take_output(struct wsr_conn *conn);
/* Has the server had TLS answer it, again and again, without reading any of it? Then the conn has failed. */
bool wsr_conn_tls_is_flooded(struct wsr_conn *conn);
/* TLS has failed: the server is told by what is in the output, if it takes that, before TCP ends (F3). */
void wsr_conn_tls_failed(struct wsr_conn *conn, int system_errno, const char *text);
enum wsr_stage wsr_conn_tls_stage(const struct wsr_conn *conn);

/* conn_ktls.c */
/* The keys are there, and the kernel is to have them. */
void wsr_conn_ktls_begin(struct wsr_conn *conn);
/* A receive is not to go on during the hand-over. The driver may have missed that before. */
void wsr_conn_ktls_stop_recv(struct wsr_conn *conn);
/* Go on with the hand-over, as far as what is under way allows. Returns true when it is done; else the conn may have
 * failed. */
bool wsr_conn_hand_over(struct wsr_conn *conn);
/* Input is wanted. Returns true when that is not for an ordinary receive; then all was done for it, and the conn may
 * have failed. */
bool wsr_conn_ktls_wants_input(struct wsr_conn *conn);
/* A receive ended with an error. Returns true when that was of TLS: then it was seen to, and the conn may have
 * failed. */
bool wsr_conn_ktls_has_met(struct wsr_conn *conn, int system_errno);
/* The receive of tls->fetch ended. */
void wsr_conn_ktls_fetched(struct wsr_conn *conn, int32_t result);
/* The queue of which the front is to be sent next, NULL for none. */
struct wsr_queue *wsr_conn_ktls_next(struct wsr_conn *conn);
/* Send the front of tls->sealed. */
void wsr_conn_ktls_say(struct wsr_conn *conn);
struct wsr_queue_credit wsr_conn_ktls_landed(struct wsr_conn *conn, uint64_t bytes, bool is_broken);
void wsr_conn_ktls_free(struct wsr_conn *conn);

#endif
