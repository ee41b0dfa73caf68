/* What an open connection costs in memory while nothing is going on. Counted are the blocks that the application's
 * thread, which is the engine's as well, has and does not give back, with what malloc adds to each, and the slot.
 * Memory of the kernel and of the server is not counted.
 * SPDX-License-Identifier: MIT */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/socket.h"
#include "tests/support/client.h"

#define FEW 20u                       /* until every list and stack of free blocks has what it keeps */
#define MORE 100u
#define CONNECTION_BYTES_MAX 512u
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

/* Open @count sockets more, on which nobody listens: one after the other, so that what is needed for a moment only is
 * never needed twice. Each has opened, and the server has said all that it has to, when the next begins. */
static void open_more(struct client *client, unsigned count, uint64_t messages_each)
{
    char url[URL_CHARS + 1];
    assert_true(snprintf(url, sizeof url, "ws://127.0.0.1:%05u/", peer_port(client->peer)) == (int)URL_CHARS);
    for (unsigned i = 0; i < count; i++) {
        struct wsr_socket *socket;
        uint64_t told = client->counts[WSR_EVENT_MESSAGE];
        assert_int_equal(wsr_socket_open(client->engine, url, WSR_ZSTRING, NULL, 0, NULL, &socket), 0);
        client_until(client, WSR_EVENT_OPEN, client->counts[WSR_EVENT_OPEN] + 1);
        client_until(client, WSR_EVENT_MESSAGE, told + messages_each);
    }
}

static void check_footprint(const char *script, uint64_t messages_each)
{
    struct client client;
    client_open(&client, NULL, script);
    const struct wsr_conn_host *host = &client.engine->consumers[0].worker->host;
    open_more(&client, FEW, messages_each);
    size_t held_before = held_bytes;
    uint32_t slots_before = host->slots_used;
    open_more(&client, MORE, messages_each);
    size_t each = (held_bytes - held_before) / MORE;
    assert_int_equal(host->slots_used - slots_before, MORE);
    assert_true(each > sizeof(struct wsr_socket));
    if (each + sizeof(struct wsr_conn) > CONNECTION_BYTES_MAX)
        fail_msg("a connection takes %zu bytes of blocks and a slot of %zu, more than %u in all", each,
                 sizeof(struct wsr_conn), CONNECTION_BYTES_MAX);
    client_close(&client);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_connection_takes_at_most_512_bytes),
        cmocka_unit_test(what_came_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
