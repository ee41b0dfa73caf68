/* engine/conn_open: names. A failing, a slow and a working look-up, on the real driver; getaddrinfo() is this file's.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include "tests/support/client.h"
#include "tests/support/world.h"

#define NS_PER_MS 1000000u

/* Held look-ups wait here. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held;
    unsigned asked_count;
} scene = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void set_held(bool held)
{
    pthread_mutex_lock(&scene.lock);
    scene.held = held;
    pthread_cond_broadcast(&scene.changed);
    pthread_mutex_unlock(&scene.lock);
}

/* One block, so that freeaddrinfo() below has one to free. */
struct answer {
    struct addrinfo info[2];
    struct sockaddr_in address[2];
};

/* "none.test" does not exist, "again.test" has silent name servers, "broken.test" ends with errno EIO; "two.test" is
 * 10.0.0.1 and 10.0.0.2; all others are 127.0.0.1. */
int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result)
{
    (void)service, (void)hints;
    pthread_mutex_lock(&scene.lock);
    scene.asked_count++;
    while (scene.held)
        pthread_cond_wait(&scene.changed, &scene.lock);
    pthread_mutex_unlock(&scene.lock);
    if (strcmp(node, "none.test") == 0)
        return EAI_NONAME;
    if (strcmp(node, "again.test") == 0)
        return EAI_AGAIN;
    if (strcmp(node, "broken.test") == 0) {
        errno = EIO;
        return EAI_SYSTEM;
    }
    struct answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL)
        return EAI_MEMORY;
    bool are_two = strcmp(node, "two.test") == 0;
    for (unsigned i = 0; i < 2; i++) {
        uint32_t address = are_two ? 0x0A000001u + i : INADDR_LOOPBACK;
        answer->address[i] = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(address) };
        answer->info[i] = (struct addrinfo){ .ai_family = AF_INET, .ai_socktype = SOCK_STREAM,
                                             .ai_addrlen = sizeof answer->address[i],
                                             .ai_addr = (struct sockaddr *)(void *)&answer->address[i] };
    }
    answer->info[0].ai_next = are_two ? &answer->info[1] : NULL;
    *result = answer->info;
    return 0;
}

void freeaddrinfo(struct addrinfo *result)
{
    free(result);
}

static struct wsr_socket *connect_to_name(struct client *client, const char *name)
{
    char url[96];
    struct wsr_socket *socket;
    snprintf(url, sizeof url, "ws://%s:%u/chat", name, peer_port(client->peer));
    assert_int_equal(wsr_socket_open(client->engine, url, WSR_ZSTRING, NULL, 0, NULL, &socket), 0);
    client_listen(client, socket);
    return socket;
}

/* F1, EVT-18: found on a thread of the resolver's, told as a task of the consumer's. Never inside the constructor
 * (EVT-06), never open. */
static void fail_to_look_up(struct client *client)
{
    static const struct { const char *name; int system_errno; } rows[] = {
        { "none.test", 0 }, { "again.test", 0 }, { "broken.test", EIO },
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        client->log_bytes = 0;
        client->log[0] = '\0';
        const struct wsr_socket *socket = connect_to_name(client, rows[i].name);
        client_expect(client, "");
        client_sleep_ms(20);
        assert_int_equal(wsr_socket_ready_state(socket), WSR_CONNECTING);
        client_until(client, WSR_EVENT_CLOSE, i + 1);
        client_expect(client, "error\nclose 1006\n");
        assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
        const struct wsr_event *close = &client->last[WSR_EVENT_CLOSE];
        assert_int_equal(close->stage, WSR_STAGE_LOOKUP);
        assert_int_equal(close->system_errno, rows[i].system_errno);
        assert_true(strlen(close->text) > 20);
        assert_string_equal(close->text, client->last[WSR_EVENT_ERROR].text);
    }
    assert_int_equal(peer_connections(client->peer), 0);
    assert_int_equal(client_statistics(client).sockets_live, 0);
}

static void a_name_that_does_not_resolve_is_error_and_1006(void **state)
{
    (void)state;
    client_each(fail_to_look_up, NULL, "upgrade; echo");
}

/* URL-33: the name is looked up, and it is what the request says. */
static void look_up(struct client *client)
{
    char host[48];
    snprintf(host, sizeof host, "server.test:%u", peer_port(client->peer));
    connect_to_name(client, "SERVER.test");
    client_until(client, WSR_EVENT_OPEN, 1);
    assert_string_equal(peer_header(client->peer, 0, "Host"), host);
}

static void a_name_that_resolves_is_connected_to(void **state)
{
    (void)state;
    client_each(look_up, NULL, "upgrade; echo");
}

/* HS-13, F4: the limit covers the look-up, which nothing can stop and nobody waits for. */
static void look_up_too_long(struct client *client)
{
    set_held(true);
    connect_to_name(client, "server.test");
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "error\nclose 1006\n");
    assert_int_equal(client->last[WSR_EVENT_ERROR].stage, WSR_STAGE_LOOKUP);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].system_errno, ETIMEDOUT);
    set_held(false);
    client_idle(client, 20);
    client_expect(client, "error\nclose 1006\n");
    assert_int_equal(peer_connections(client->peer), 0);
}

static void the_opening_limit_ends_a_look_up(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.open_timeout_ns = 50 * NS_PER_MS;
    client_each(look_up_too_long, &options, "upgrade; echo");
}

/* F7, CLOSE-32: close() does not wait for the look-up, and what it finds later is nobody's. */
static void close_while_looking_up(struct client *client)
{
    set_held(true);
    struct wsr_socket *closed = connect_to_name(client, "server.test");
    struct wsr_socket *destroyed = connect_to_name(client, "other.test");
    assert_int_equal(wsr_close(closed, 3000, "never mind", WSR_ZSTRING), 0);
    assert_int_equal(wsr_socket_ready_state(closed), WSR_CLOSING);
    wsr_socket_destroy(destroyed);
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_expect(client, "error\nclose 1006\n");
    set_held(false);
    client_idle(client, 20);
    client_expect(client, "error\nclose 1006\n");
    assert_int_equal(peer_connections(client->peer), 0);
    assert_int_equal(client_statistics(client).sockets_live, 0);
}

static void closing_while_a_name_is_looked_up(void **state)
{
    (void)state;
    client_each(close_while_looking_up, NULL, "upgrade; echo");
}

/* ---- More addresses than one, on the simulated driver ---- */

/* HS-13: each address has its share of the one limit, and an address that refuses at once leaves it to the next. */
static void an_address_has_its_share_of_the_limit(void **state)
{
    static const struct {
        const char *first, *second, *events;
        uint64_t least_ms;
    } rows[] = {
        { "silent", "accept; upgrade; close 1000; expect close; fin", "open\nclose 1000 clean\n", 15000 },
        { "refuse ECONNREFUSED", "accept; upgrade; close 1000; expect close; fin", "open\nclose 1000 clean\n", 0 },
        { "refuse ECONNREFUSED", "silent", "error\nclose 1006 unclean\n", 30000 },
        { "silent", "silent", "error\nclose 1006 unclean\n", 30000 },
        { "silent", "refuse EHOSTUNREACH", "error\nclose 1006 unclean\n", 15000 },
        { "refuse ECONNREFUSED 1000", "refuse EHOSTUNREACH 1000", "error\nclose 1006 unclean\n", 2000 },
    };
    (void)state;
    for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++) {
        struct world world;
        size_t at = (size_t)(seed % (sizeof rows / sizeof rows[0]));
        world_open(&world, seed, NULL);
        sim_script(world.sim, rows[at].first);
        sim_script(world.sim, rows[at].second);
        uint64_t start_ns = sim_now(world.sim);
        world_connect_to(&world, "ws://two.test:9001/chat", NULL, 0);
        while (sim_connections(world.sim) == 0) {
            world_look(&world);
            usleep(100);                        /* the look-up runs in real time, the rest does not */
        }
        world_run_to_end(&world);
        world_expect(&world, rows[at].events);
        assert_int_equal(sim_connections(world.sim), 2);
        assert_in_range((world.closed_ns - start_ns) / NS_PER_MS, rows[at].least_ms, rows[at].least_ms + 1000);
        world_close(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_does_not_resolve_is_error_and_1006),
        cmocka_unit_test(a_name_that_resolves_is_connected_to),
        cmocka_unit_test(the_opening_limit_ends_a_look_up),
        cmocka_unit_test(closing_while_a_name_is_looked_up),
        cmocka_unit_test(an_address_has_its_share_of_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
