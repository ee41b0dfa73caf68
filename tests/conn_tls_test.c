/* engine/conn_tls under the simulated driver: what only wss can meet. Scenes that are the same for ws are played over
 * TLS by their own tests.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/sim_tls.h"
#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MS 1000000ull
#define SLACK_NS (10 * MS)       /* of the simulated kernel and an engine that spins */
#define FAILED "error\nclose 1006 unclean\n"
#define HELLO "hello - http/1.1\n"
#define OPENED "accept; early; tls; upgrade; "

static const struct wsr_engine_options patient = { .size = sizeof patient, .fin_timeout_ns = WSR_NEVER };

/* A server that is not one of those that all tests share. Freed with the process's next one. */
static struct tls_server *server_with(const struct tls_server_options *options)
{
    static struct tls_server *server;
    tls_server_free(server);
    server = tls_server_create(options);
    return server;
}

static struct wsr_socket *socket_of(struct world *world)
{
    return world->sockets[0].socket;
}

static struct wsr_socket_tls tls_of(struct world *world, unsigned index)
{
    struct wsr_socket_tls tls = WSR_SOCKET_TLS_INIT;
    assert_int_equal(wsr_socket_tls(world->sockets[index].socket, &tls), 0);
    return tls;
}

static struct wsr_engine_statistics statistics_of(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    return statistics;
}

/* What must be told of a connection that failed. */
static void expect_failure(struct world *world, enum wsr_stage stage, int system_errno, const char *word)
{
    world_run_to_end(world);
    world_run(world, 10);
    const struct wsr_event *end = &world->last_close;
    if (end->stage != stage || end->system_errno != system_errno || strstr(end->text, word) == NULL)
        world_fail(world, "stage %u, errno %d: %s", end->stage, end->system_errno, end->text);
    assert_string_equal(world->last_error.text, end->text);
    assert_int_equal(sim_files_open(world->sim), 0);
    assert_int_equal(statistics_of(world).sockets_live, 0);
}

/* ---- The handshake fails ---- */

/* F3: the client refuses the certificate. The alert leaves before TCP ends. */
struct refusal {
    struct wsr_certificate_options options;
    bool is_a_strangers;
    const char *alert, *word;
};

static const struct refusal *refusal;
static struct tls_server *refused;

static void refuse_certificate(struct world *world)
{
    sim_speak_tls(world->sim, refused);
    sim_script(world->sim, "accept; early; tls; wait 500; fin");
    world_connect(world);
    expect_failure(world, WSR_STAGE_TLS, 0, refusal->word);
    world_expect(world, FAILED);
    char peer[64];
    snprintf(peer, sizeof peer, HELLO "%s\nend\n", refusal->alert);
    world_expect_peer(world, 0, peer);
    assert_true(world->closed_ns < sim_logged_ns(world->sim, 0, "alert") + 100 * MS);
    assert_int_equal(tls_of(world, 0).version, 0);
    assert_string_equal(tls_of(world, 0).cipher, "");
    struct wsr_engine_statistics s = statistics_of(world);
    assert_int_equal(s.sockets_failed, 1);
    assert_int_equal(s.tls_handshakes, 0);
    assert_int_equal(s.tls_sessions, 0);
}

static void a_certificate_that_is_refused(void **state)
{
    static const char *const address[] = { "10.0.0.1", NULL }, *const other[] = { "10.0.0.2", NULL };
    static const struct refusal refusals[] = {
        { { .addresses = address }, true, "alert 48", "self-signed" },
        { { .addresses = other }, false, "alert 42", "name" },
        { { .addresses = address, .begin_s = -7200, .end_s = -3600 }, false, "alert 45", "expired" },
        { { .addresses = address, .begin_s = 3600, .end_s = 7200 }, false, "alert 42", "valid" },
        { { .addresses = address, .purpose = WSR_CERTIFICATE_CLIENT }, false, "alert 43", "not for a server" },
    };
    (void)state;
    for (size_t i = 0; i < 2 * COUNT(refusals); i++) {
        struct wsr_certificate certificate = { 0 };
        refusal = &refusals[i / 2];
        assert_int_equal(wsr_certificate_create(&certificate, refusal->is_a_strangers ? NULL : sim_tls_authority(),
                                                &refusal->options), 0);
        refused = server_with(&(struct tls_server_options){ .certificate = &certificate,
                                                            .version_max = i % 2 == 0 ? 0 : TLS1_2_VERSION });
        world_each_wss_seed(refuse_certificate, NULL);
        wsr_certificate_free(&certificate);
    }
}

/* F3: a server that takes the alert late, or never. */
static void refuse_unheard(struct world *world)
{
    bool is_late = sim_seed(world->sim) % 3 == 0;
    sim_speak_tls(world->sim, refused);
    sim_script(world->sim, is_late ? "accept; early; tls; expect hello; stop; wait 1000; read"
                                   : "accept; early; tls; expect hello; stop");
    uint64_t start_ns = sim_now(world->sim);
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 10);
    world_expect(world, FAILED);
    uint64_t took_ms = (world->closed_ns - start_ns) / MS;
    assert_int_equal(world->last_close.stage, WSR_STAGE_TLS);
    assert_non_null(strstr(world->last_close.text, "self-signed"));
    assert_int_equal(statistics_of(world).sockets_failed, 1);
    if (is_late) {
        world_expect_peer(world, 0, HELLO "alert 48\nend\n");
        assert_in_range(took_ms, 1000, 1100);
    } else {
        world_expect_peer(world, 0, HELLO "end\n");
        assert_in_range(took_ms, 2000, 2100);
    }
}

/* HS-13: with an end that never comes, the limit of the opening still holds. */
static void refuse_unheard_for_ever(struct world *world)
{
    sim_speak_tls(world->sim, refused);
    sim_script(world->sim, "accept 5000; early; tls; expect hello; stop");
    uint64_t start_ns = sim_now(world->sim);
    world_connect(world);
    world_run_to_end(world);
    assert_non_null(strstr(world->last_close.text, "self-signed"));
    assert_in_range((world->closed_ns - start_ns) / MS, 30000, 30100);
}

static void an_alert_that_nobody_takes(void **state)
{
    struct wsr_certificate certificate = { 0 };
    static const char *const address[] = { "10.0.0.1", NULL };
    const struct wsr_certificate_options options = { .addresses = address };
    (void)state;
    assert_int_equal(wsr_certificate_create(&certificate, NULL, &options), 0);
    refused = server_with(&(struct tls_server_options){ .certificate = &certificate });
    world_each_wss_seed(refuse_unheard, NULL);
    world_each_wss_seed(refuse_unheard_for_ever, &patient);
    wsr_certificate_free(&certificate);
}

/* F3, F4: the server fails, is none, or is gone. */
static void fail_by_server(struct world *world)
{
    static const struct {
        const char *script, *peer, *word;
        int system_errno;
    } rows[] = {
        { "accept; early; tls; fin", "*", "ended the TCP connection during the TLS handshake", 0 },
        { "accept; early; tls; rst ECONNRESET", "*", "reset the TCP connection during the TLS", ECONNRESET },
        { "accept; early; tls; rst ETIMEDOUT", "*", "broke during the TLS handshake", ETIMEDOUT },
        { "accept; early; tls; expect hello; wait 1; rst ECONNRESET", "*", "", ECONNRESET },
        { "accept; early; tls; http HTTP/1.1 400 Bad Request\r\n\r\n", "?" HELLO "?alert 70\n?secured\nend\n", "", 0 },
        { "accept; early; tls; wire 1503030002022f", "*", "alert illegal_parameter (47)", 0 },
        { "accept; early; tls; wire 15030300020100", "*", "closed TLS during the handshake", 0 },
        { "accept; early; tls; wire ffffffffffffff", "?" HELLO "*", "", 0 },
        { "accept; early; tls; wire 16030300ff; fin", "?" HELLO "end\n", "", 0 },
    };
    size_t at = sim_seed(world->sim) % COUNT(rows);
    sim_speak_tls(world->sim, sim_tls_server(at % 2 == 0 ? 0 : 3));
    sim_script(world->sim, rows[at].script);
    world_connect(world);
    world_run_to_end(world);
    if (world->last_close.stage == WSR_STAGE_UPGRADE && at <= 3)
        return;                        /* a handshake that was quicker than the end */
    expect_failure(world, WSR_STAGE_TLS, rows[at].system_errno, rows[at].word);
    world_expect(world, FAILED);
    assert_non_null(strstr(sim_log(world->sim, 0), "end\n"));
    assert_null(strstr(sim_log(world->sim, 0), "request"));
}

static void a_server_that_fails(void **state)
{
    (void)state;
    world_each_wss_seed(fail_by_server, NULL);
}

static void meet_an_alert(struct world *world)
{
    sim_speak_tls(world->sim, refused);
    sim_script(world->sim, "accept; early; tls; wait 100; fin");
    world_connect(world);
    expect_failure(world, WSR_STAGE_TLS, 0, "alert handshake_failure (40)");
    world_expect_peer(world, 0, "?" HELLO "TLS failed*\nend\n");
}

static void a_server_with_no_cipher_of_ours(void **state)
{
    (void)state;
    refused = server_with(&(struct tls_server_options){ .alert = 40 });
    world_each_wss_seed(meet_an_alert, NULL);
}

/* HS-13: one limit from the look-up to the answer, wherever in TLS the server is stuck. */
static void be_stuck(struct world *world)
{
    static const struct { const char *script, *word; enum wsr_stage stage; } rows[] = {
        { "stop; accept", "TLS handshake did not end in time", WSR_STAGE_TLS },
        { "window 100; accept", "TLS handshake did not end in time", WSR_STAGE_TLS },
        { "accept 29000; early; expect hello; stop", "in time", WSR_STAGE_UPGRADE },
        { "stop; accept; early; wait 29000; read", "did not answer the upgrade in time", WSR_STAGE_UPGRADE },
        { "slow 3; accept", "in time", WSR_STAGE_UPGRADE },
    };
    size_t at = sim_seed(world->sim) % COUNT(rows);
    sim_script(world->sim, rows[at].script);
    uint64_t start_ns = sim_now(world->sim);
    world_connect(world);
    world_run(world, 29900);
    world_expect(world, "");
    if (at == 2 && world->last_close.stage == WSR_STAGE_TLS)
        return;
    world_run_to_end(world);
    /* TLS 1.2 needs an answer of the client's that is not taken then. */
    if (at != 2)
        assert_int_equal(world->last_close.stage, rows[at].stage);
    assert_int_equal(world->last_close.system_errno, ETIMEDOUT);
    assert_non_null(strstr(world->last_close.text, rows[at].word));
    assert_in_range((world->closed_ns - start_ns) / MS, 30000, 30100);
}

static void a_handshake_that_takes_too_long(void **state)
{
    (void)state;
    world_each_wss_seed(be_stuck, NULL);
}

/* F7, CLOSE-32: close() and destroy during the handshake, at any moment of it; HS-11: then no request was sent. */
static void leave_half_way(struct world *world)
{
    bool destroys = sim_random(world->sim, 2) == 0, is_stuck = sim_random(world->sim, 2) == 0;
    sim_script(world->sim, is_stuck ? "window 200; accept" : "cut 20; accept; early; tls; upgrade; text no");
    world_connect(world);
    sim_pass(world->sim, sim_random(world->sim, 300000));
    for (unsigned looks = (unsigned)sim_random(world->sim, 30); looks > 0 && world->log_bytes == 0; looks--)
        world_look(world);
    bool was_silent = world->log_bytes == 0;
    bool was_begun = is_stuck && sim_connections(world->sim) > 0 && sim_wire_taken(world->sim, 0) > 0;
    if (destroys)
        world_destroy_socket(world, 0);
    else
        world_do(world, 0, "close 3000 x");
    uint64_t start_ns = sim_now(world->sim);
    if (!destroys) {
        world_run_to_end(world);
        assert_true(world->closed_ns - start_ns < 3000 * MS);
    }
    world_run(world, 3000);
    if (was_silent) {
        world_expect(world, destroys ? "" : FAILED);
        assert_int_equal(sim_files_open(world->sim), 0);
        assert_int_equal(statistics_of(world).sockets_live, 0);
        assert_int_equal(statistics_of(world).sockets_failed, 1);
    }
    if (was_silent && was_begun && !destroys) {
        assert_int_equal(world->last_close.stage, WSR_STAGE_TLS);
        world_expect_peer(world, 0, "?torn frame\nend\n");
    }
}

static void close_or_destroy_during_the_handshake(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        world_each_wss_seed(leave_half_way, NULL);
}

/* ---- Whom it is with ---- */

/* URL-34: SNI is the host without its last dot, and not sent for addresses; the certificate is checked for the same.
 * tls_name takes the place of the URL's host. HS-11: ALPN says http/1.1, and the request comes after all of it. */
static void name_the_server(struct world *world)
{
    static const struct { const char *url, *name, *hello; bool is_right; } rows[] = {
        { "wss://10.0.0.1:9001/chat", NULL, "hello - http/1.1\n", true },
        { "wss://[2001:db8::1]:9001/chat", NULL, "hello - http/1.1\n", true },
        { "wss://server.example:9001/chat", NULL, "hello server.example http/1.1\n", true },
        { "wss://SERVER.example.:9001/chat", NULL, "hello server.example http/1.1\n", true },
        { "https://two.test/chat", NULL, "hello two.test http/1.1\n", true },
        { "wss://elsewhere.example/chat", NULL, "hello elsewhere.example http/1.1\n", false },
        { "wss://10.0.0.77/chat", NULL, "hello - http/1.1\n", false },
        { "wss://10.0.0.77/chat", "server.example", "hello server.example http/1.1\n", true },
        { "wss://elsewhere.example/chat", "10.0.0.1", "hello - http/1.1\n", true },
        { "wss://server.example/chat", "elsewhere.example", "hello elsewhere.example http/1.1\n", false },
        { "wss://10.0.0.1/chat", "2001:db8::2", "hello - http/1.1\n", false },
        { "wss://server.example/chat", "two.test.", "hello two.test http/1.1\n", true },
    };
    size_t at = sim_seed(world->sim) % COUNT(rows);
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.connect_to = "10.0.0.1:9001";
    options.tls_name = rows[at].name;
    sim_script(world->sim, OPENED "close 1000; expect close; fin");
    world_connect_with(world, rows[at].url, &options);
    world_run_to_end(world);
    world_run(world, 10);
    char peer[200];
    snprintf(peer, sizeof peer, rows[at].is_right ? "%ssecured\nrequest GET /chat\nclose 1000\n?close_notify\nend\n"
                                                  : "%salert 42\nend\n", rows[at].hello);
    world_expect_peer(world, 0, peer);
    world_expect(world, rows[at].is_right ? "open\nclose 1000 clean\n" : FAILED);
    if (!rows[at].is_right)
        expect_failure(world, WSR_STAGE_TLS, 0, "name");
}

static void names(void **state)
{
    (void)state;
    world_each_wss_seed(name_the_server, NULL);
}

/* F0: what is no name changes nothing. */
static void refuse_names(struct world *world)
{
    char long_name[255];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[254] = '\0';
    const char *const names[] = { "", "a b", "host/path", "caf\xC3\xA9.example", "a\nb", long_name };
    struct wsr_socket *untouched = (struct wsr_socket *)(void *)world, *socket = untouched;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
        options.tls_name = names[i];
        assert_int_equal(wsr_socket_open(world->engine, world_url(world, WORLD_URL), WSR_ZSTRING, NULL, 0, &options,
                                         &socket), WSR_ERR_ARGUMENT);
        assert_memory_equal(wsr_error_text(), "tls_name ", 9);
        assert_ptr_equal(socket, untouched);
    }
    world_run(world, 10);
    assert_int_equal(sim_connections(world->sim), 0);
}

static void names_that_are_none(void **state)
{
    (void)state;
    world_each_wss_seed(refuse_names, NULL);
}

/* ---- What is told of it ---- */

static enum wsr_tls_records records_of(const struct world *world)
{
    return world->way == WORLD_WSS_LIBRARY ? WSR_TLS_LIBRARY
           : world->way == WORLD_WSS_DIRECT ? WSR_TLS_DIRECT : WSR_TLS_KERNEL;
}

static void look_at_tls(struct world *world, unsigned index, const struct wsr_event *event)
{
    struct wsr_socket_tls tls = tls_of(world, index);
    (void)event;
    assert_int_equal(tls.version, WSR_TLS_1_3);
    assert_string_equal(tls.cipher, "TLS_AES_128_GCM_SHA256");
    assert_int_equal(tls.records, records_of(world));
    assert_int_equal(tls.is_verified, 1);
    assert_non_null(strstr(tls.why, "tls_records"));
}

/* wsr_socket_tls() before the handshake, at each event and for ever after. */
static void tell_what_was_agreed_on(struct world *world)
{
    sim_speak_tls(world->sim, sim_tls_server(0));
    sim_script(world->sim, "accept; upgrade; text a; close 1000; expect close; fin");
    world_connect(world);
    struct wsr_socket_tls tls = tls_of(world, 0);
    assert_int_equal(tls.version, 0);
    assert_int_equal(tls.records, WSR_TLS_AUTO);
    assert_int_equal(tls.is_verified, 0);
    assert_string_equal(tls.cipher, "");
    assert_string_equal(tls.why, "");
    world->react = look_at_tls;
    world_run_to_end(world);
    look_at_tls(world, 0, NULL);
    /* As much as the caller's structure holds. */
    struct wsr_socket_tls small = { .size = offsetof(struct wsr_socket_tls, records), .records = 77 };
    assert_int_equal(wsr_socket_tls(socket_of(world), &small), 0);
    assert_int_equal(small.version, WSR_TLS_1_3);
    assert_int_equal(small.records, 77);
    assert_int_equal(wsr_socket_tls(NULL, &small), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_socket_tls(socket_of(world), NULL), WSR_ERR_ARGUMENT);
}

static void facts(void **state)
{
    (void)state;
    world_each_wss_seed(tell_what_was_agreed_on, NULL);
}

/* Bytes of the wire, phases, and what the engine counts of handshakes. */
static void count(struct world *world)
{
    sim_speak_tls(world->sim, sim_tls_server(0));
    sim_script(world->sim, "stop; accept 300; early; wait 700; read; expect secured; wait 1000; upgrade; text hello; "
               "expect text; close 1000; expect close; fin");
    world->on_open = "big 70000";
    uint64_t start_ns = sim_now(world->sim);
    world_connect(world);
    world_run_to_end(world);
    world_run(world, 10);
    struct wsr_socket_statistics s = WSR_SOCKET_STATISTICS_INIT;
    assert_int_equal(wsr_socket_statistics(socket_of(world), &s), 0);
    assert_in_range(s.connect_ns, 300 * MS, 300 * MS + SLACK_NS);
    assert_in_range(s.tls_ns, 700 * MS - SLACK_NS, 700 * MS + SLACK_NS);
    assert_in_range(s.upgrade_ns, 1000 * MS - SLACK_NS, 1000 * MS + SLACK_NS);
    assert_in_range(s.opened_ns - start_ns, s.connect_ns + s.tls_ns + s.upgrade_ns,
                    s.connect_ns + s.tls_ns + s.upgrade_ns + SLACK_NS);
    assert_int_equal(s.messages_sent_kernel_bytes, 70000);
    assert_int_equal(s.messages_received, 1);
    if (records_of(world) != WSR_TLS_KERNEL) {
        assert_int_equal(s.wire_sent_bytes, sim_wire_taken(world->sim, 0));
        assert_in_range(s.wire_received_bytes, 1, sim_wire_received(world->sim, 0));
    }
    struct wsr_engine_statistics e = statistics_of(world);
    assert_int_equal(e.wire_sent_bytes, s.wire_sent_bytes);
    assert_int_equal(e.tls_handshakes, 1);
    assert_int_equal(e.tls_resumed, 0);
    assert_int_equal(e.tls_unverified, 0);
    assert_int_equal(e.tls_library, records_of(world) == WSR_TLS_LIBRARY);
    assert_int_equal(e.tls_direct, records_of(world) == WSR_TLS_DIRECT);
    assert_int_equal(e.tls_kernel, records_of(world) == WSR_TLS_KERNEL);
    assert_int_equal(e.tls_sessions, 2);
    /* The next one takes one of them, and brings another. */
    sim_script(world->sim, "accept; upgrade; close 1000; expect close; fin");
    world->on_open = NULL;
    world_connect(world);
    world_run_to_end(world);
    assert_int_equal(tls_of(world, 1).was_resumed, 1);
    assert_int_equal(sim_tls_link(world->sim, 1)->was_resumed, true);
    e = statistics_of(world);
    assert_int_equal(e.tls_handshakes, 2);
    assert_int_equal(e.tls_resumed, 1);
    assert_int_equal(e.tls_sessions, 2);
}

static void count_insecure(struct world *world)
{
    sim_script(world->sim, "accept; upgrade; close 1000; expect close; fin");
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.tls_name = "nobody.example";
    for (unsigned i = 0; i < 3; i++)
        world_connect_with(world, WORLD_URL, &options);
    world_run_to_end(world);
    struct wsr_engine_statistics e = statistics_of(world);
    assert_int_equal(e.tls_handshakes, 3);
    assert_int_equal(e.tls_unverified, 3);
    assert_int_equal(e.tls_resumed, 0);
    assert_int_equal(e.tls_sessions, 0);
    assert_int_equal(tls_of(world, 0).is_verified, 0);
}

static void statistics(void **state)
{
    static const struct wsr_engine_options insecure = {
        .size = sizeof insecure, .flags = WSR_ENGINE_TLS_INSECURE | WSR_ENGINE_TLS_NO_RESUMPTION
    };
    (void)state;
    world_each_wss_seed(count, NULL);
    world_each_wss_seed(count_insecure, &insecure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_that_is_refused),
        cmocka_unit_test(an_alert_that_nobody_takes),
        cmocka_unit_test(a_server_that_fails),
        cmocka_unit_test(a_server_with_no_cipher_of_ours),
        cmocka_unit_test(a_handshake_that_takes_too_long),
        cmocka_unit_test(close_or_destroy_during_the_handshake),
        cmocka_unit_test(names),
        cmocka_unit_test(names_that_are_none),
        cmocka_unit_test(facts),
        cmocka_unit_test(statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
