/* TLS of a connection, for the files of conn. */
#ifndef WSR_CONN_TLS_H
#define WSR_CONN_TLS_H

#include "conn.h"

struct wsr_conn_tls {
    struct wsr_tls tls;
    struct wsr_queue sealed;         /* of conn->queue what was launched, and what TLS itself has to say, as records */
    uint64_t plain_bytes;            /* of conn->queue, in sealed: they count as sent when all of sealed is */
};

/* Are the records opened and sealed here, and not by the kernel? */
static inline bool wsr_conn_is_sealed(const struct wsr_conn *conn)
{
    return conn->tls != NULL;
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

#endif
