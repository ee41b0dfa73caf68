/* What the TLS servers behind simulated connections share: certificates, servers of every kind, random numbers that
 * follow the seed. One thread. */
#ifndef SIM_TLS_H
#define SIM_TLS_H

#include "tests/support/tls_server.h"

/* The authority of all of them, as a file for tls_ca_file. */
const char *sim_tls_ca_file(void);
const struct wsr_certificate *sim_tls_authority(void);
/* Signed by it, for every name and address that the tests connect to. */
const struct wsr_certificate *sim_tls_certificate(void);

/* Servers of both versions with every kind of cipher suite; the last one's can be carried by the library alone. */
#define SIM_TLS_SERVERS_COUNT 7
struct tls_server *sim_tls_server(unsigned which);

/* From now on OpenSSL's random numbers in this process follow @seed, so that a seed makes the same handshake again. */
void sim_tls_seed(uint64_t seed);

#endif
