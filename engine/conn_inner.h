/* What the files of conn share with each other and with nobody else. */
#ifndef WSR_CONN_INNER_H
#define WSR_CONN_INNER_H

#include "conn.h"

#define CANCEL_AGAIN_NS (100 * WSR_NS_PER_MS)   /* a cancel may miss its operation: see driver.h */

/* conn->marks. The state says what the connection does; a mark says where else it is known, or what may happen once
 * only. */
enum wsr_conn_mark {
    MARK_UNSENT = 1u << 0,          /* in host->unsent_first */
    MARK_RESTING = 1u << 1,         /* in host->resting_first */
    MARK_DETACHED = 1u << 2,        /* the socket is being destroyed: no more events */
    MARK_GONE = 1u << 3,            /* ... and waits for GONE */
    MARK_INPUT_ENDED = 1u << 4,     /* nothing more will be received; end_errno says how it ended */
    MARK_SEND_BROKEN = 1u << 5,     /* nothing more can be sent */
    MARK_WRITABLE_WISH = 1u << 6,   /* a send was refused */
    MARK_PAUSED = 1u << 8,          /* the application wants no input */
    MARK_CLOSE_LEFT = 1u << 9,      /* our Close was taken by the kernel */
    MARK_BEHIND = 1u << 10,         /* receiving rests for the consumer, and was counted as doing so */
    MARK_FAILED = 1u << 11,         /* the conn ends by a failure, which is in conn->end */
    MARK_DEFLATES = 1u << 12,       /* permessage-deflate was agreed on: host->deflate_slots has its streams */
    MARK_TOLD = 1u << 7             /* in DRAINING: the end was told, a list still holds the conn */
};

/* Has the server's Close come, and nothing failed since? */
static inline bool wsr_conn_has_peer_closed(const struct wsr_conn *conn)
{
    return conn->end.code != 0 && !(conn->marks & MARK_FAILED);
}

/* conn.c */
void wsr_conn_enter(struct wsr_conn *conn, enum wsr_conn_state to);
uint64_t wsr_conn_token_of(const struct wsr_conn *conn, enum wsr_conn_op op);
struct wsr_socket *wsr_conn_socket(const struct wsr_conn *conn);
uint64_t wsr_conn_after(const struct wsr_conn *conn, uint64_t limit_ns);    /* deadline, WSR_NEVER stays */
void wsr_conn_mark_unsent(struct wsr_conn *conn);
void wsr_conn_rest(struct wsr_conn *conn);
void wsr_conn_begin_drain(struct wsr_conn *conn);
void wsr_conn_finish_drain(struct wsr_conn *conn);
/* The first failure of a conn is the one that is told. */
void wsr_conn_note_failure(struct wsr_conn *conn, enum wsr_stage stage, int system_errno, const char *text);
/* End with error and close 1006. */
void wsr_conn_fail(struct wsr_conn *conn, enum wsr_stage stage, int system_errno, const char *text);

/* conn_open.c */
void wsr_conn_open_expired(struct wsr_conn *conn);
void wsr_conn_connected(struct wsr_conn *conn, int32_t result);
void wsr_conn_found(struct wsr_conn *conn);
/* Its turn at the address that is next has come. */
void wsr_conn_let_through(struct wsr_conn *conn);
/* The conn is open or gone: free what opening it took. */
void wsr_conn_end_opening(struct wsr_conn *conn);
/* A phase of the opening has ended well: @span is to say how long it took. The next begins. */
void wsr_conn_end_phase(struct wsr_conn *conn, _Atomic uint32_t *span);
/* The way to the server stands: send the request. Without memory the conn has failed. */
void wsr_conn_start_upgrade(struct wsr_conn *conn);
/* Queue @bytes, which belong to no frame. Returns false without memory. */
bool wsr_conn_say(struct wsr_conn *conn, struct wsr_bytes bytes);

/* conn_proxy.c */
/* Is there a name to be looked up before the first address can be tried? */
bool wsr_conn_needs_lookup(const struct wsr_conn *conn);
/* The look-up was for the server's address, which the proxy is to be told: take it, and make the next one the proxy's.
 * Returns false, and does nothing, when it was not. */
bool wsr_conn_tell_proxy_address(struct wsr_conn *conn);
void wsr_conn_start_tunnel(struct wsr_conn *conn);
/* Feed @buffer from where parsing stopped, while the conn is TUNNELING. What is left is the server's. */
void wsr_conn_feed_tunnel(struct wsr_conn *conn, struct wsr_loan *buffer);
void wsr_conn_tunnel_ended(struct wsr_conn *conn);
const char *wsr_conn_proxy_dial_text(int system_errno);

/* conn_memory.c */
/* Nothing more is inflated into host->inflated. */
void wsr_conn_close_inflated(struct wsr_conn_host *host);

/* conn_receive.c */
bool wsr_conn_is_reading(const struct wsr_conn *conn);
/* Feed @buffer, of which the caller has a use, to the session. Returns false when the consumer is behind. */
bool wsr_conn_parse(struct wsr_conn *conn, struct wsr_loan *buffer);
/* Make @buffer the oldest of what was received and is to be parsed. */
void wsr_conn_put_back(struct wsr_conn *conn, struct wsr_loan *buffer);
/* Nothing in @buffer is to be parsed any more: end the use that was for that. */
void wsr_conn_give_up(struct wsr_loan *buffer);
void wsr_conn_received(struct wsr_conn *conn, const struct wsr_completion *completion);
/* So many bytes were received. */
void wsr_conn_count_received(struct wsr_conn *conn, uint32_t bytes);
void wsr_conn_parse_backlog(struct wsr_conn *conn);
void wsr_conn_want_input(struct wsr_conn *conn);
void wsr_conn_release_backlog(struct wsr_conn *conn);
/* Hand to the socket what was agreed on, and the head of the answer if it wants it. Before the event that tells of it.
 * Returns false without memory for the agreement. */
bool wsr_conn_keep_answer(struct wsr_conn *conn, const struct wsr_handshake_agreement *agreed, struct wsr_bytes head);

/* conn_send.c */
void wsr_conn_sent(struct wsr_conn *conn, int32_t result);
/* Sending is over. */
void wsr_conn_send_broken(struct wsr_conn *conn, int system_errno);
/* Has all left that was to be sent? */
bool wsr_conn_is_sent(const struct wsr_conn *conn);
void wsr_conn_launch(struct wsr_conn *conn);
void wsr_conn_tell_writable(struct wsr_conn *conn);
/* A masked control frame; NULL without memory. */
struct wsr_chunk *wsr_conn_control_frame(struct wsr_conn *conn, enum wsr_opcode opcode, struct wsr_bytes payload);

/* conn_close.c */
/* A Close frame with @code (0 = empty) and @reason; NULL without memory. */
struct wsr_chunk *wsr_conn_close_frame(struct wsr_conn *conn, uint16_t code, struct wsr_bytes reason);
bool wsr_conn_handshake_is_over(const struct wsr_conn *conn);
/* The same, and our Close was taken by the kernel: whatever comes now changes nothing (CLOSE-24, CLOSE-29). */
bool wsr_conn_is_settled(const struct wsr_conn *conn);
void wsr_conn_last_byte_left(struct wsr_conn *conn);
void wsr_conn_close_failed(struct wsr_conn *conn);
void wsr_conn_session_failed(struct wsr_conn *conn, const struct wsr_session_event *event);
void wsr_conn_peer_closed(struct wsr_conn *conn, const struct wsr_session_event *event);

#endif
