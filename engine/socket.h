/* The application's half of a connection. It changes when an event is taken or a call is made, never behind the
 * caller's back. */
#ifndef WSR_SOCKET_H
#define WSR_SOCKET_H

#include "engine.h"
#include "listener.h"

struct wsr_socket {
    struct wsr_link link;                 /* first: events name the socket by it */
    struct wsr_worker *worker;            /* by its consumer also the engine */
    _Atomic uint64_t credited_seen;       /* link.credited_bytes as bufferedAmount knows it in turn seen_turn */
    void *user;
    struct wsr_listeners *listeners;      /* NULL until the first */
    struct wsr_socket *next;              /* in engine->sockets */
    struct wsr_socket **place;
    _Atomic uint32_t seen_turn;
    uint32_t batch;                       /* of the consumer when it last took an event of this socket */
    _Atomic uint8_t ready_state;          /* enum wsr_ready_state; changed by wsr_socket_enter() */
    bool is_agreed;                       /* the open event was taken: link.answer may be read */
    bool has_failed;                      /* the error event was taken */
    bool is_destroyed;                    /* the application gave it up; it goes with GONE */
    char url[];                           /* NUL, origin, NUL */
};

/* Go from @from to @to; returns whether it was in @from. */
bool wsr_socket_enter(struct wsr_socket *socket, enum wsr_ready_state from, enum wsr_ready_state to);
/* Free it: nothing refers to it any more. Its worker may be gone. */
void wsr_socket_free(struct wsr_engine *engine, struct wsr_socket *socket);
/* socket_tls.c: whom @opening is to be with, @url's host or @name, which may be NULL. Returns 0, or the error that was
 * told. */
WSR_MUST_USE int wsr_socket_plan_tls(struct wsr_opening *opening, const struct wsr_url *url, const char *name);
/* A nonce, or a mask key, for the calling thread. */
void wsr_socket_random(void *out, size_t len);
void wsr_socket_mask_key(uint8_t key[4]);
/* The stream that these come from, the calling thread's own. */
struct wsr_entropy *wsr_socket_entropy(void);
/* Let bufferedAmount take note of a new turn, before it is read or grows. */
void wsr_socket_note_turn(struct wsr_socket *socket);

#endif
