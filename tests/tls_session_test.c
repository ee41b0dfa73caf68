/* engine/tls_session.c: which sessions are kept, for whom, and how long.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>

#include "engine/tls_session.h"
#include "tests/support/tls_client.h"

#define HOUR_S 3600

/* A session as a server gives it: of @version, to be resumed for @seconds. Never kept by anything else. */
static SSL_SESSION *session_of(int version, long seconds, const struct wsr_certificate *certificate)
{
    struct tls_client client;
    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){ .is_insecure = true });
    struct tls_server *server = tls_server_create(&(struct tls_server_options){
        .version_min = version, .version_max = version, .tickets_count = 1, .session_seconds = seconds,
        .certificate = certificate });
    tls_client_connect(&client, context, server, "localhost");
    assert_true(client.is_open);
    tls_client_read(&client);
    SSL_SESSION *session = SSL_get1_session(client.handshake->ssl);
    tls_client_end(&client);
    tls_server_free(server);
    wsr_tls_context_free(context);
    assert_non_null(session);
    return session;
}

static SSL_SESSION *sessions[2];         /* TLS 1.2, TLS 1.3; for ten hours */
static int64_t now_s;

static int prepare(void **state)
{
    (void)state;
    sessions[0] = session_of(TLS1_2_VERSION, 10 * HOUR_S, NULL);
    sessions[1] = session_of(TLS1_3_VERSION, 10 * HOUR_S, NULL);
    now_s = (int64_t)SSL_SESSION_get_time(sessions[1]);
    SSL_SESSION_set_time(sessions[0], (long)now_s);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    SSL_SESSION_free(sessions[0]);
    SSL_SESSION_free(sessions[1]);
    return 0;
}

/* Another like it is kept, or not. */
static SSL_SESSION *keep(struct wsr_tls_session_cache *cache, const char *peer, const SSL_SESSION *session)
{
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    assert_true(wsr_tls_session_cache_keep(cache, peer, copy, now_s));
    return copy;
}

static void check_take(struct wsr_tls_session_cache *cache, const char *peer, int64_t when_s, SSL_SESSION *wanted)
{
    SSL_SESSION *taken = wsr_tls_session_cache_take(cache, peer, when_s);
    assert_ptr_equal(taken, wanted);
    SSL_SESSION_free(taken);
}

static void tickets_of_tls_1_3_are_used_once_newest_first(void **state)
{
    (void)state;
    struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
    SSL_SESSION *first = keep(cache, "a:443", sessions[1]);
    SSL_SESSION *second = keep(cache, "a:443", sessions[1]);
    assert_int_equal(wsr_tls_session_cache_count(cache, now_s), 2);
    check_take(cache, "a:443", now_s, second);
    check_take(cache, "a:443", now_s, first);
    check_take(cache, "a:443", now_s, NULL);
    assert_int_equal(wsr_tls_session_cache_count(cache, now_s), 0);
    wsr_tls_session_cache_free(cache);
}

static void a_session_of_tls_1_2_is_used_again_until_there_is_a_newer(void **state)
{
    (void)state;
    struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
    SSL_SESSION *first = keep(cache, "a:443", sessions[0]);
    for (int i = 0; i < 3; i++)
        check_take(cache, "a:443", now_s, first);
    SSL_SESSION *second = keep(cache, "a:443", sessions[0]);
    assert_int_equal(wsr_tls_session_cache_count(cache, now_s), 1);
    check_take(cache, "a:443", now_s, second);
    SSL_SESSION *third = keep(cache, "a:443", sessions[1]);        /* a server may change its mind */
    assert_int_equal(wsr_tls_session_cache_count(cache, now_s), 2);
    check_take(cache, "a:443", now_s, third);
    check_take(cache, "a:443", now_s, second);
    wsr_tls_session_cache_free(cache);
}

static void a_session_is_for_its_peer_alone(void **state)
{
    (void)state;
    struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
    SSL_SESSION *one = keep(cache, "a:443", sessions[1]);
    SSL_SESSION *two = keep(cache, "a:444", sessions[1]);
    static const char *const others[] = { "b:443", "A:443", "a:44", "a:4433", "", "a" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        check_take(cache, others[i], now_s, NULL);
    check_take(cache, "a:444", now_s, two);
    check_take(cache, "a:444", now_s, NULL);
    check_take(cache, "a:443", now_s, one);
    wsr_tls_session_cache_free(cache);
}

static void sessions_end_when_the_server_says(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
        SSL_SESSION *session = keep(cache, "a:443", sessions[i]);
        assert_int_equal(wsr_tls_session_cache_count(cache, now_s + 10 * HOUR_S - 1), 1);
        if (i == 0)
            check_take(cache, "a:443", now_s + 10 * HOUR_S - 1, session);
        check_take(cache, "a:443", now_s + 10 * HOUR_S, NULL);
        check_take(cache, "a:443", now_s, NULL);               /* it has gone */
        keep(cache, "a:443", sessions[i]);
        assert_int_equal(wsr_tls_session_cache_count(cache, now_s + 10 * HOUR_S), 0);
        check_take(cache, "a:443", now_s, NULL);
        keep(cache, "a:443", sessions[i]);
        check_take(cache, "a:443", now_s - 1, NULL);           /* a clock that was set back tells no age */
        wsr_tls_session_cache_free(cache);
    }
}

/* @session with another lifetime, that no server of OpenSSL would give: 1,048,575 s instead of seven days. */
static SSL_SESSION *stretch(SSL_SESSION *session)
{
    static const uint8_t week[] = { 0xa9, 5, 2, 3, 0x09, 0x3a, 0x80 };     /* [9] INTEGER 604800 */
    uint8_t *der = NULL;
    int len = i2d_SSL_SESSION(session, &der);
    uint8_t *found = memmem(der, (size_t)len, week, sizeof week);
    assert_non_null(found);
    memset(found + 4, 0xff, 3);
    found[4] = 0x0f;
    const uint8_t *at = der;
    SSL_SESSION *stretched = d2i_SSL_SESSION(NULL, &at, len);
    assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(stretched), 0xfffff);
    OPENSSL_free(der);
    SSL_SESSION_free(session);
    return stretched;
}

/* RFC 8446 4.6.1: at most seven days; RFC 5246 F.1.4: at most one. */
static void no_server_makes_them_last_longer_than_is_allowed(void **state)
{
    (void)state;
    static const int days[] = { 1, 7 };
    for (int i = 0; i < 2; i++) {
        struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
        struct wsr_certificate certificate;
        struct wsr_certificate_options options = wsr_certificate_local;
        options.end_s = 90 * 86400;
        assert_int_equal(wsr_certificate_create(&certificate, NULL, &options), 0);
        SSL_SESSION *session = session_of(i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION, 30 * 86400, &certificate);
        if (i == 1)
            session = stretch(session);
        int64_t made_s = (int64_t)SSL_SESSION_get_time(session), end_s = made_s + days[i] * 86400;
        assert_true(wsr_tls_session_cache_keep(cache, "a:443", session, made_s));
        assert_int_equal(wsr_tls_session_cache_count(cache, end_s - 1), 1);
        assert_int_equal(wsr_tls_session_cache_count(cache, end_s), 0);
        wsr_certificate_free(&certificate);
        wsr_tls_session_cache_free(cache);
    }
}

/* Nobody looks at the certificate again when its session is resumed. */
static void a_session_ends_with_the_certificate(void **state)
{
    (void)state;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
        struct wsr_certificate certificate;
        struct wsr_certificate_options options = wsr_certificate_local;
        options.end_s = HOUR_S;
        assert_int_equal(wsr_certificate_create(&certificate, NULL, &options), 0);
        SSL_SESSION *session = session_of(version, 10 * HOUR_S, &certificate);
        int64_t made_s = (int64_t)SSL_SESSION_get_time(session);
        assert_true(wsr_tls_session_cache_keep(cache, "a:443", session, made_s));
        assert_int_equal(wsr_tls_session_cache_count(cache, made_s + HOUR_S - 60), 1);
        assert_int_equal(wsr_tls_session_cache_count(cache, made_s + HOUR_S + 60), 0);
        wsr_certificate_free(&certificate);
        wsr_tls_session_cache_free(cache);
    }
}

static void what_cannot_be_resumed_is_not_kept(void **state)
{
    (void)state;
    struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
    SSL_SESSION *bare = SSL_SESSION_new();                     /* neither ticket nor id */
    SSL_SESSION_set_protocol_version(bare, TLS1_2_VERSION);
    assert_false(wsr_tls_session_cache_keep(cache, "a:443", bare, now_s));
    SSL_SESSION_free(bare);
    assert_false(wsr_tls_session_cache_keep(cache, "a:443", sessions[1], now_s + 11 * HOUR_S));

    static const unsigned char id[] = "by the server";        /* without a ticket, kept by the server */
    SSL_SESSION *named = SSL_SESSION_new();
    SSL_SESSION_set_protocol_version(named, TLS1_2_VERSION);
    SSL_SESSION_set1_id(named, id, sizeof id);
    SSL_SESSION_set_time(named, (long)now_s);
    SSL_SESSION_set_timeout(named, 100);
    assert_true(wsr_tls_session_cache_keep(cache, "a:443", named, now_s));
    check_take(cache, "a:443", now_s + 99, named);
    check_take(cache, "a:443", now_s + 100, NULL);

    SSL_SESSION *ticket = SSL_SESSION_new();                   /* TLS 1.3, with a lifetime of 0 */
    SSL_SESSION_set_protocol_version(ticket, TLS1_3_VERSION);
    SSL_SESSION_set1_id(ticket, id, sizeof id);
    SSL_SESSION_set_time(ticket, (long)now_s);
    SSL_SESSION_set_timeout(ticket, 100);
    assert_false(wsr_tls_session_cache_keep(cache, "a:443", ticket, now_s));
    SSL_SESSION_free(ticket);
    wsr_tls_session_cache_free(cache);
}

static void tickets_without_end_push_out_the_oldest_of_their_peer(void **state)
{
    (void)state;
    struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
    SSL_SESSION *other = keep(cache, "b:443", sessions[1]), *kept[3 * WSR_TLS_SESSION_PER_PEER_MAX];
    for (unsigned i = 0; i < 3 * WSR_TLS_SESSION_PER_PEER_MAX; i++)
        kept[i] = keep(cache, "a:443", sessions[1]);
    assert_int_equal(wsr_tls_session_cache_count(cache, now_s), WSR_TLS_SESSION_PER_PEER_MAX + 1);
    for (unsigned i = 0; i < WSR_TLS_SESSION_PER_PEER_MAX; i++)
        check_take(cache, "a:443", now_s, kept[3 * WSR_TLS_SESSION_PER_PEER_MAX - 1 - i]);
    check_take(cache, "a:443", now_s, NULL);
    check_take(cache, "b:443", now_s, other);
    wsr_tls_session_cache_free(cache);
}

static void many_peers_push_out_the_oldest_of_all(void **state)
{
    (void)state;
    struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
    char peer[32];
    for (unsigned i = 0; i < WSR_TLS_SESSION_ALL_MAX + 100; i++) {
        snprintf(peer, sizeof peer, "host%u:443", i);
        keep(cache, peer, sessions[i % 2]);
    }
    assert_int_equal(wsr_tls_session_cache_count(cache, now_s), WSR_TLS_SESSION_ALL_MAX);
    check_take(cache, "host99:443", now_s, NULL);
    SSL_SESSION *taken = wsr_tls_session_cache_take(cache, "host100:443", now_s);
    assert_non_null(taken);
    SSL_SESSION_free(taken);
    wsr_tls_session_cache_free(cache);
    wsr_tls_session_cache_free(NULL);
}

#define THREADS 4
#define ROUNDS 400

static void *keep_and_take(void *context)
{
    struct wsr_tls_session_cache *cache = context;
    char peer[32];
    for (unsigned i = 0; i < ROUNDS; i++) {
        snprintf(peer, sizeof peer, "host%u:443", i % 20);
        SSL_SESSION *copy = SSL_SESSION_dup(sessions[i / 20 % 2]);
        if (!wsr_tls_session_cache_keep(cache, peer, copy, now_s))
            SSL_SESSION_free(copy);
        SSL_SESSION_free(wsr_tls_session_cache_take(cache, peer, now_s));
        wsr_tls_session_cache_count(cache, now_s);
    }
    return NULL;
}

static void threads_may_use_it_at_once(void **state)
{
    (void)state;
    struct wsr_tls_session_cache *cache = wsr_tls_session_cache_create();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, keep_and_take, cache), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_in_range(wsr_tls_session_cache_count(cache, now_s), 20, 20 * WSR_TLS_SESSION_PER_PEER_MAX);
    wsr_tls_session_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tickets_of_tls_1_3_are_used_once_newest_first),
        cmocka_unit_test(a_session_of_tls_1_2_is_used_again_until_there_is_a_newer),
        cmocka_unit_test(a_session_is_for_its_peer_alone),
        cmocka_unit_test(sessions_end_when_the_server_says),
        cmocka_unit_test(no_server_makes_them_last_longer_than_is_allowed),
        cmocka_unit_test(a_session_ends_with_the_certificate),
        cmocka_unit_test(what_cannot_be_resumed_is_not_kept),
        cmocka_unit_test(tickets_without_end_push_out_the_oldest_of_their_peer),
        cmocka_unit_test(many_peers_push_out_the_oldest_of_all),
        cmocka_unit_test(threads_may_use_it_at_once),
    };
    return cmocka_run_group_tests(tests, prepare, finish);
}
