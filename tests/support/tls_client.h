/* The client's part of handshakes with tests/support/tls_server.h, as engine/tls_context.c prepares it and OpenSSL does
 * it. */
#ifndef TLS_CLIENT_H
#define TLS_CLIENT_H

#include "engine/tls_handshake.h"
#include "tests/support/tls_server.h"

struct tls_client {
    struct wsr_tls_handshake *handshake;
    struct tls_server_link *link;
    bool is_open;
    const char *text;            /* why it is not; "" when it is */
};

/* The context of @options, which are good. */
struct wsr_tls_context *tls_client_context(const struct wsr_tls_context_options *options);
/* Connect to @name at port 443 and let the handshake go as far as it does; the server then sees its end too. */
void tls_client_connect(struct tls_client *client, struct wsr_tls_context *context, struct tls_server *server,
                        const char *name);
/* Let it read what the server has sent, tickets too; data of the server is not expected. */
void tls_client_read(struct tls_client *client);
void tls_client_end(struct tls_client *client);
/* All four, with a server of its own. Returns whether the handshake went well. *text, unless NULL, is why not. */
bool tls_client_try(struct wsr_tls_context *context, const struct tls_server_options *options, const char *name,
                    const char **text);

/* Write PEM to the file @name of this process (tests/support/files.h): what these certificates, the last followed by
 * NULL, are; and a key. Each returns the path. */
const char *tls_client_write(const char *name, const struct wsr_certificate *const *certificates);
const char *tls_client_write_key(const char *name, const struct wsr_certificate *certificate, const char *password);
/* The list of @issuer that revokes @revoked, unless NULL; see wsr_certificate_list_pem(). */
const char *tls_client_write_list(const char *name, const struct wsr_certificate *issuer,
                                  const struct wsr_certificate *revoked, int64_t end_s);

#endif
