/* A TLS server without a socket: OpenSSL over memory, with everything that a client has to bear. The client's bytes are
 * fed, the bytes for it are taken. Aborts when something fails that the client has no part in. */
#ifndef TLS_SERVER_H
#define TLS_SERVER_H

#include <openssl/ssl.h>

#include "bench/certificate.h"
#include "engine/base.h"

/* All zero: TLS 1.2 and 1.3, two tickets, sessions that can be resumed, any client. */
struct tls_server_options {
    int version_min, version_max;                   /* TLS1_VERSION to TLS1_3_VERSION */
    const char *ciphers, *ciphersuites;             /* NULL = OpenSSL's choice */
    const char *groups;                             /* of the key exchange; NULL = OpenSSL's. One that the client does
                                                       not begin with makes a HelloRetryRequest */
    const struct wsr_certificate *certificate;      /* lent; NULL = wsr_certificate_local */
    const struct wsr_certificate *const *chain;     /* sent behind it; the last is followed by NULL */
    const struct wsr_certificate *client_authority; /* lent; asks for a certificate of it */
    bool demands_certificate;                       /* and ends without one */
    bool has_early_ticket;                          /* TLS 1.3: one behind its first Finished, as Go's server does.
                                                       OpenSSL does not know of it: let it send nothing after it */
    int tickets_count;                              /* TLS 1.3, after the handshake; 0 = two, -1 = none */
    bool keeps_sessions;                            /* TLS 1.2: in the server, by session id, instead of tickets */
    bool resumes_nothing;
    bool may_renegotiate;                           /* TLS 1.2: at the client's wish */
    long session_seconds;                           /* how long a session may be resumed; 0 = OpenSSL's */
    uint8_t alert;                                  /* the answer to every ClientHello, if not 0 */
    const char *protocol;                           /* the answer to ALPN, offered or not; NULL = http/1.1 when that was
                                                       offered, "" = none */
};

/* What the connections share. */
struct tls_server;
struct tls_server *tls_server_create(const struct tls_server_options *options);
void tls_server_free(struct tls_server *server);

enum tls_server_state { TLS_SERVER_SHAKING, TLS_SERVER_OPEN, TLS_SERVER_CLOSED, TLS_SERVER_FAILED };

/* One connection. To be read by anyone. */
struct tls_server_link {
    struct tls_server *server;
    SSL *ssl;
    enum tls_server_state state;        /* CLOSED: the client's close_notify came */
    bool was_resumed;
    bool has_server_name;
    char server_name[256];              /* as the client sent it */
    char protocols[64];                 /* of ALPN, as offered, separated by commas */
    char client_name[80];               /* common name of the client's certificate; "" = it gave none */
    int alert_received;                 /* description of the last alert; -1 = none */
    int alert_sent;
    const char *failure;                /* OpenSSL's reason; static */
    bool has_sent_early;                /* the ticket of has_early_ticket */
    uint8_t *received;                  /* all data of the client so far */
    size_t received_bytes;
    /* The secrets of TLS 1.3 before any KeyUpdate, as the key log has them. For TLS 1.2 ask @ssl. */
    uint8_t client_secret[48], server_secret[48];
    size_t secret_bytes;                /* of both; 0 = not known */
    unsigned updates_sent, updates_received;        /* KeyUpdates: so often were the secrets renewed */
    uint64_t sequence_out, sequence_in; /* of the next record, in the present keys */
};

struct tls_server_link *tls_server_accept(struct tls_server *server);
void tls_server_drop(struct tls_server_link *link);     /* says nothing to the client */

/* All @len bytes are taken; what they lead to is done at once. */
void tls_server_feed(struct tls_server_link *link, const void *data, size_t len);
/* Take up to @room bytes for the client. Returns how many. */
size_t tls_server_take(struct tls_server_link *link, void *out, size_t room);
/* The next record alone, whole; 0 when there is none. @room is enough for it. */
size_t tls_server_take_record(struct tls_server_link *link, void *out, size_t room);
size_t tls_server_waiting(const struct tls_server_link *link);  /* bytes that could be taken */

/* Send data, in records of @record_bytes and a last one of the rest; 0 = 16,384. */
void tls_server_write(struct tls_server_link *link, const void *data, size_t len, size_t record_bytes);
/* TLS 1.3. @asks: the client is to do the same. */
void tls_server_update_keys(struct tls_server_link *link, bool asks);
void tls_server_send_tickets(struct tls_server_link *link, unsigned count);
/* TLS 1.2: ask for another handshake (HelloRequest). */
void tls_server_renegotiate(struct tls_server_link *link);
void tls_server_close(struct tls_server_link *link);    /* close_notify; receiving goes on */
/* Bytes that are no doing of OpenSSL, behind all that is there to be taken. Records that you seal yourself begin with
 * sequence_out, and OpenSSL does not know of them: let it send nothing after them. */
void tls_server_inject(struct tls_server_link *link, const void *data, size_t len);

/* For a client that is an SSL of OpenSSL, with memory to read from and write to: carry the bytes that are there now,
 * its own first. OpenSSL's errors of this thread are gone afterwards, as with every call above. */
void tls_server_carry(struct tls_server_link *link, SSL *client);
/* Give it that memory and let its handshake go as far as it does. Returns what SSL_do_handshake() said last. When that
 * is an error it is in OpenSSL's queue, and the client's alert has not been carried yet. */
int tls_server_shake(struct tls_server_link *link, SSL *client);

#endif
