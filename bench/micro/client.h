/* What every client of the benchmarks needs: connections, the engine's and bare ones, and a meter for the slice. */
#ifndef WSR_MICRO_CLIENT_H
#define WSR_MICRO_CLIENT_H

#include "bare_tls.h"
#include "clock.h"
#include "peer.h"
#include "row.h"
#include "wsring.h"

#define WSR_CLIENT_EVENTS_COUNT 256u

/* ---- The engine's: an inline engine with sockets, all open ---- */

struct wsr_client {
    struct wsr_engine *engine;
    struct wsr_socket **sockets;      /* wsr_socket_user() is the index, as a pointer */
    uint32_t count;
    bool is_tls;
    const char *deflate;              /* what the sockets offer */
};

/* Open @count sockets to the server at @port, and wait until all are. Returns 0, or -1 after it has said why not. */
int wsr_client_open(struct wsr_client *client, uint16_t port, uint32_t count, enum wsr_wait wait);
int wsr_client_open_with(struct wsr_client *client, uint16_t port, uint32_t count,
                         const struct wsr_engine_options *options);
/* The same with an offer of permessage-deflate; the others make none. */
int wsr_client_open_offering(struct wsr_client *client, uint16_t port, uint32_t count,
                             const struct wsr_engine_options *options, const char *deflate);
/* The same over TLS, when @options name the certificate that wsr_client_tls() names. */
void wsr_client_tls(struct wsr_engine_options *options, enum wsr_tls_records records);
/* Open @more of them in an engine that has some. */
int wsr_client_open_more(struct wsr_client *client, uint16_t port, uint32_t more);
void wsr_client_close(struct wsr_client *client);

/* ---- Bare ones, for the references: the same handshake, then whatever the reference does ---- */

/* Returns a blocking descriptor behind the server's answer, or -1 after it has said why not. */
int wsr_client_connect_bare(uint16_t port);
/* The same over TLS; *tls is to be ended unless it failed. */
int wsr_client_connect_tls(uint16_t port, struct wsr_bare_tls *tls);
/* Returns @count of those without TLS, or NULL. */
int *wsr_client_connect_crowd(uint16_t port, uint32_t count);
void wsr_client_close_crowd(int *fds, uint32_t count);

/* ---- The slice that is measured ---- */

struct wsr_meter {
    clockid_t server;
    bool has_server;
    uint64_t begin_ns, client_ns, server_ns;
};

/* @peer NULL = there is no server. */
void wsr_meter_begin(struct wsr_meter *meter, const struct wsr_peer *peer);
/* Sets the two shares of *out. Returns the nanoseconds that went by; *client_ns is what this process used. */
uint64_t wsr_meter_end(const struct wsr_meter *meter, struct wsr_row_measure *out, uint64_t *client_ns);

#endif
