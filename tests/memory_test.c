/* What an open connection costs in memory while nothing is going on. Counted are the blocks that the application's
 * thread, which is the engine's as well, has and does not give back, OpenSSL's too, with what malloc adds to each, and
 * the slot. Memory of the kernel and of the server is not counted.
 * SPDX-License-Identifier: MIT */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/crypto.h>

#include "engine/conn_tls.h"
#include "engine/socket.h"
#include "tests/support/client.h"
#include "tests/support/files.h"
#include "tests/support/program.h"

#define FEW 20u                       /* until every list and stack of free blocks has what it keeps */
#define FEW_TLS 80u                   /* the same with a worker's cipher contexts, and the sessions of one server */
#define MORE 100u
#define CONNECTION_BYTES_MAX 512u
#define CONNECTION_TLS_BYTES_MAX 1024u
#define CONNECTION_LIBRARY_BYTES_MAX (24u << 10)
#define BLOCK_OVERHEAD_BYTES 8u       /* of malloc, in front of each block */
#define URL_CHARS 21u                 /* "ws://127.0.0.1:65535/", with which the limit is to be held */

/* Linked with --wrap: bytes that the calling thread has taken and not given back. */
static _Thread_local size_t held_bytes;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void __real_free(void *block);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void __wrap_free(void *block);

static size_t bytes_of_block(void *block)
{
    return block != NULL ? malloc_usable_size(block) + BLOCK_OVERHEAD_BYTES : 0;
}

void *__wrap_malloc(size_t bytes)
{
    void *block = __real_malloc(bytes);
    held_bytes += bytes_of_block(block);
    return block;
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    void *block = __real_calloc(count, bytes);
    held_bytes += bytes_of_block(block);
    return block;
}

void *__wrap_realloc(void *block, size_t bytes)
{
    size_t before = bytes_of_block(block);
    void *moved = __real_realloc(block, bytes);
    if (moved != NULL)
        held_bytes += bytes_of_block(moved) - before;
    return moved;
}

void __wrap_free(void *block)
{
    held_bytes -= bytes_of_block(block);
    __real_free(block);
}

/* OpenSSL is not linked into this program, so that it is told. */
static void *crypto_malloc(size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    return malloc(bytes);
}

static void *crypto_realloc(void *block, size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    return realloc(block, bytes);
}

static void crypto_free(void *block, const char *file, int line)
{
    (void)file, (void)line;
    free(block);
}

/* What each connection goes through before it is idle. */
struct life {
    const char *url;
    uint64_t messages_each;           /* that the server sends by itself */
    bool echoes;                      /* and then one that comes back */
    size_t more_bytes;                /* beside its slot */
};

/* Open @count sockets more, on which nobody listens: one after the other, so that what is needed for a moment only is
 * never needed twice. Each has opened, and the server has said all that it has to, when the next begins. */
static void open_more(struct client *client, unsigned count, const struct life *life)
{
    for (unsigned i = 0; i < count; i++) {
        struct wsr_socket *socket;
        uint64_t told = client->counts[WSR_EVENT_MESSAGE];
        assert_int_equal(wsr_socket_open(client->engine, life->url, WSR_ZSTRING, NULL, 0, NULL, &socket), 0);
        client_until(client, WSR_EVENT_OPEN, client->counts[WSR_EVENT_OPEN] + 1);
        client_until(client, WSR_EVENT_MESSAGE, told + life->messages_each);
        if (life->echoes) {
            assert_int_equal(wsr_send(socket, WSR_TEXT, "x", 1), 0);
            client_until(client, WSR_EVENT_MESSAGE, told + life->messages_each + 1);
        }
    }
}

/* Bytes of one of @MORE connections behind @few. */
static size_t footprint_of(struct client *client, unsigned few, const struct life *life)
{
    const struct wsr_conn_host *host = &client->engine->consumers[0].worker->host;
    open_more(client, few, life);
    size_t held_before = held_bytes;
    uint32_t slots_before = host->slots_used;
    open_more(client, MORE, life);
    size_t each = (held_bytes - held_before) / MORE;
    assert_int_equal(host->slots_used - slots_before, MORE);
    assert_true(each > sizeof(struct wsr_socket));
    return each + sizeof(struct wsr_conn) + life->more_bytes;
}

static void check_footprint(const char *script, uint64_t messages_each)
{
    struct client client;
    char url[URL_CHARS + 1];
    client_open(&client, NULL, script);
    assert_true(snprintf(url, sizeof url, "ws://127.0.0.1:%05u/", peer_port(client.peer)) == (int)URL_CHARS);
    const struct life life = { .url = url, .messages_each = messages_each };
    size_t each = footprint_of(&client, FEW, &life);
    if (each > CONNECTION_BYTES_MAX)
        fail_msg("a connection takes %zu bytes of blocks and slots, more than %u", each, CONNECTION_BYTES_MAX);
    client_close(&client);
}

static void check_tls_footprint(enum wsr_tls_records records, size_t bytes_max, bool echoes)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    struct program_echo echo;
    ECHO_START(&echo, "--tls", "--cert-out", files_path("ca.pem"));
    options.tls_ca_file = files_path("ca.pem");
    options.tls_records = records;
    client_open(&client, &options, "upgrade");
    const struct life life = { .url = echo.url, .echoes = echoes, .more_bytes = sizeof(struct wsr_conn_tls) };
    size_t each = footprint_of(&client, FEW_TLS, &life);
    if (each > bytes_max)
        fail_msg("a connection takes %zu bytes of blocks and slots, more than %zu", each, bytes_max);
    struct wsr_engine_statistics statistics = client_statistics(&client);
    assert_int_equal(records == WSR_TLS_LIBRARY  ? statistics.tls_library
                     : records == WSR_TLS_KERNEL ? statistics.tls_kernel
                                                 : statistics.tls_direct, FEW_TLS + MORE);
    client_close(&client);
    program_echo_stop(&echo);
}

static void an_idle_connection_takes_at_most_512_bytes(void **state)
{
    (void)state;
    check_footprint("upgrade", 0);
}

/* Nothing is left behind by a message in pieces with a Ping between them, nor by one that comes whole. */
static void what_came_leaves_nothing_behind(void **state)
{
    (void)state;
    check_footprint("upgrade; raw 01026162 8903313233 00026364 80026566; text hello", 2);
}

/* Its OpenSSL object has gone, its keys have not. */
static void an_idle_wss_connection_with_direct_records_takes_at_most_1024_bytes(void **state)
{
    (void)state;
    check_tls_footprint(WSR_TLS_DIRECT, CONNECTION_TLS_BYTES_MAX, false);
    check_tls_footprint(WSR_TLS_DIRECT, CONNECTION_TLS_BYTES_MAX, true);
}

static void the_same_with_records_by_the_kernel(void **state)
{
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    (void)state;
    wsr_diagnose(&diagnosis);
    if (diagnosis.ktls != 1) {
        print_message("%s\n", diagnosis.ktls_text);
        skip();
    }
    check_tls_footprint(WSR_TLS_KERNEL, CONNECTION_TLS_BYTES_MAX, false);
    check_tls_footprint(WSR_TLS_KERNEL, CONNECTION_TLS_BYTES_MAX, true);
}

/* OpenSSL's object stays, and gives its buffers back. */
static void an_idle_wss_connection_with_records_by_the_library_takes_at_most_24_kib(void **state)
{
    (void)state;
    check_tls_footprint(WSR_TLS_LIBRARY, CONNECTION_LIBRARY_BYTES_MAX, false);
    check_tls_footprint(WSR_TLS_LIBRARY, CONNECTION_LIBRARY_BYTES_MAX, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_connection_takes_at_most_512_bytes),
        cmocka_unit_test(what_came_leaves_nothing_behind),
        cmocka_unit_test(an_idle_wss_connection_with_direct_records_takes_at_most_1024_bytes),
        cmocka_unit_test(the_same_with_records_by_the_kernel),
        cmocka_unit_test(an_idle_wss_connection_with_records_by_the_library_takes_at_most_24_kib),
    };
    if (CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
