/* The client's part of handshakes without a socket.
 * SPDX-License-Identifier: MIT */
#include "tests/support/tls_client.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>

#include "engine/tls_text.h"
#include "tests/support/files.h"

struct wsr_tls_context *tls_client_context(const struct wsr_tls_context_options *options)
{
    struct wsr_tls_context *context = NULL;
    if (wsr_tls_context_create(&context, options) != 0)
        fail_msg("%s", wsr_error_text());
    return context;
}

void tls_client_connect(struct tls_client *client, struct wsr_tls_context *context, struct tls_server *server,
                        const char *name)
{
    *client = (struct tls_client){ .link = tls_server_accept(server), .text = "" };
    client->handshake = calloc(1, sizeof *client->handshake + strlen(name) + sizeof ":443");
    assert_non_null(client->handshake);
    snprintf(client->handshake->peer, strlen(name) + sizeof ":443", "%s:443", name);
    client->handshake->ssl = wsr_tls_context_open(context, client->handshake, name);
    assert_non_null(client->handshake->ssl);
    client->is_open = tls_server_shake(client->link, client->handshake->ssl) == 1;
    if (!client->is_open)
        client->text = wsr_tls_text_of_handshake(client->handshake);
    tls_server_carry(client->link, client->handshake->ssl);
}

void tls_client_read(struct tls_client *client)
{
    uint8_t byte;
    tls_server_carry(client->link, client->handshake->ssl);
    assert_true(SSL_read(client->handshake->ssl, &byte, 1) <= 0);
    tls_server_carry(client->link, client->handshake->ssl);
}

void tls_client_end(struct tls_client *client)
{
    if (client->is_open)
        SSL_set_shutdown(client->handshake->ssl, SSL_SENT_SHUTDOWN);      /* the session may be resumed */
    SSL_free(client->handshake->ssl);
    free(client->handshake);
    tls_server_drop(client->link);
}

bool tls_client_try(struct wsr_tls_context *context, const struct tls_server_options *options, const char *name,
                    const char **text)
{
    struct tls_client client;
    struct tls_server *server = tls_server_create(options);
    tls_client_connect(&client, context, server, name);
    bool is_open = client.is_open;
    if (text != NULL)
        *text = client.text;
    tls_client_end(&client);
    tls_server_free(server);
    return is_open;
}

const char *tls_client_write(const char *name, const struct wsr_certificate *const *certificates)
{
    const char *path = files_write(name, "", 0);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    for (; *certificates != NULL; certificates++) {
        char *pem = wsr_certificate_pem(*certificates);
        assert_non_null(pem);
        fputs(pem, file);
        free(pem);
    }
    fclose(file);
    return path;
}

const char *tls_client_write_key(const char *name, const struct wsr_certificate *certificate, const char *password)
{
    char *pem = wsr_certificate_key_pem(certificate, password);
    assert_non_null(pem);
    const char *path = files_write(name, pem, strlen(pem));
    free(pem);
    return path;
}

const char *tls_client_write_list(const char *name, const struct wsr_certificate *issuer,
                                  const struct wsr_certificate *revoked, int64_t end_s)
{
    char *pem = wsr_certificate_list_pem(issuer, &revoked, revoked != NULL ? 1 : 0, end_s);
    assert_non_null(pem);
    const char *path = files_write(name, pem, strlen(pem));
    free(pem);
    return path;
}
