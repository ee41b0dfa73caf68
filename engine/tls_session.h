/* TLS sessions that can be resumed, by whom they were made with. Any thread. The time is the caller's: seconds since
 * 1970, as OpenSSL stamps sessions. */
#ifndef WSR_TLS_SESSION_H
#define WSR_TLS_SESSION_H

#include <openssl/ssl.h>

#include "base.h"

/* When there are as many, a new session takes the place of the oldest. A server may send any number of tickets, and a
 * session of TLS 1.3 serves one connection only: so many connections to one server can be resumed at once. */
#define WSR_TLS_SESSION_PER_PEER_MAX 32u
#define WSR_TLS_SESSION_ALL_MAX 1024u

struct wsr_tls_session_cache;

/* NULL without memory. */
struct wsr_tls_session_cache *wsr_tls_session_cache_create(void);
/* Frees all that it keeps. NULL is allowed. */
void wsr_tls_session_cache_free(struct wsr_tls_session_cache *cache);

/*
 * Keep @session for the next connection to @peer, "name:port". Returns whether it is kept; then the caller's reference
 * has passed to the cache. It is not when it can never be resumed, or without memory. One of TLS 1.2, which is good for
 * any number of connections, takes the place of all others of that version and peer.
 */
bool wsr_tls_session_cache_keep(struct wsr_tls_session_cache *cache, const char *peer, SSL_SESSION *session,
                                int64_t now_s);
/*
 * The newest session of @peer that may be resumed, with a reference of the caller's; NULL when there is none. One of
 * TLS 1.3 is no longer kept: used twice, it would let whoever watches tell that both connections are of one client
 * (RFC 8446 C.4).
 */
SSL_SESSION *wsr_tls_session_cache_take(struct wsr_tls_session_cache *cache, const char *peer, int64_t now_s);
/* Sessions that could be taken. */
uint64_t wsr_tls_session_cache_count(struct wsr_tls_session_cache *cache, int64_t now_s);

#endif
