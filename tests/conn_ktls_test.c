/* engine/conn_ktls.c: the hand-over to a simulated kernel, what it refuses, and what it gives out that is not data.
 * Every other test of the conns runs with records by the kernel too.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/ktls.h"
#include "tests/support/sim_tls.h"
#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define FAILED "error\nclose 1006 unclean\n"
#define ENDED "expect close; close 1000; fin"

/* Run @test with every seed; few handshakes are cheap. */
static void each_seed(void (*test)(struct world *world))
{
    for (uint64_t seed = world_seeds_first(); seed <= world_seeds_last(); seed++) {
        struct world world;
        world_open_over(&world, seed, NULL, WORLD_WSS_KERNEL);
        test(&world);
        world_close(&world);
    }
}

static struct wsr_engine_statistics statistics_of(struct world *world)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    return statistics;
}

static bool is_open(struct world *world)
{
    return world->sockets[0].opened || world->sockets[0].closed;
}

static bool is_closed(struct world *world)
{
    return world->sockets[0].closed;
}

/* A server of TLS 1.3, or of 1.2, without whims. */
static void speak(struct world *world, bool is_new)
{
    sim_speak_tls(world->sim, sim_tls_server((unsigned)(sim_seed(world->sim) % 3) + (is_new ? 0 : 3)));
}

/* ---- The hand-over ---- */

static uint64_t rests_fetched;       /* records that were finished in user space */

static void the_kernel_is_told_all_it_needs(struct world *world)
{
    unsigned version, cipher, in_version, in_cipher;
    unsigned long long out, in;
    sim_script(world->sim, "accept; upgrade; text hi; " ENDED);
    world_connect(world);
    world_run_until(world, is_open);
    const char *options = sim_options(world->sim, 0);
    if (sscanf(options, "ulp tls\ntx %x %u %llu\nrx %x %u %llu\n", &version, &cipher, &out, &in_version, &in_cipher,
               &in) != 6)
        world_fail(world, "the options were %s", options);
    assert_int_equal(version, in_version);
    assert_int_equal(cipher, in_cipher);
    assert_int_equal(out, version == 0x0303);            /* the Finished message was one */
    assert_in_range(in, version == 0x0303, 3);           /* tickets that came along */
    assert_int_equal(strstr(options, "no-padding") != NULL, version == 0x0304);
    assert_int_equal(statistics_of(world).tls_kernel, 1);
    rests_fetched += sim_counts(world->sim).own_receives;
    world_do(world, 0, "text there; close 1000");
    world_run_to_end(world);
    world_expect_peer(world, 0, "request GET /chat\ntext 5 there\nclose 1000\nend\n");
}

static void keys_are_handed_over_between_two_records(void **state)
{
    (void)state;
    rests_fetched = 0;
    each_seed(the_kernel_is_told_all_it_needs);
    if (world_seeds_last() - world_seeds_first() > 30)
        assert_true(rests_fetched > 0);
}

/* As a driver may say that has no room for the call now. */
static void a_call_that_is_put_off_again_and_again(struct world *world)
{
    static const struct { int level, name; } options[] = { { IPPROTO_TCP, TCP_ULP }, { SOL_TLS, TLS_TX },
                                                           { SOL_TLS, TLS_RX } };
    unsigned which = (unsigned)(sim_seed(world->sim) % COUNT(options));
    sim_refuse_option(world->sim, options[which].level, options[which].name, 20, EAGAIN);
    sim_script(world->sim, "accept; upgrade; " ENDED);
    world_connect(world);
    world_run_until(world, is_open);
    assert_true(world->sockets[0].opened);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
}

static void the_hand_over_waits_for_the_driver(void **state)
{
    (void)state;
    each_seed(a_call_that_is_put_off_again_and_again);
}

static void the_wish_for_no_padding_may_be_refused(struct world *world)
{
    sim_refuse_option(world->sim, SOL_TLS, TLS_RX_EXPECT_NO_PAD, 1, ENOPROTOOPT);
    sim_script(world->sim, "accept; upgrade; " ENDED);
    world_connect(world);
    world_run_until(world, is_open);
    assert_true(world->sockets[0].opened);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
}

static void a_wish_that_is_refused_is_no_failure(void **state)
{
    (void)state;
    each_seed(the_wish_for_no_padding_may_be_refused);
}

/* F3 */
static void each_refusal_fails_the_socket_with_its_reason(void **state)
{
    static const int errors[] = { ENOENT, ENOPROTOOPT, EINVAL, EOPNOTSUPP, EMFILE, ENOMEM, EEXIST, EPERM };
    static const struct { int level, name; } options[] = { { IPPROTO_TCP, TCP_ULP }, { SOL_TLS, TLS_TX },
                                                           { SOL_TLS, TLS_RX } };
    (void)state;
    for (size_t i = 0; i < COUNT(errors) * COUNT(options); i++) {
        int error = errors[i % COUNT(errors)];
        struct world world;
        world_open_over(&world, 1 + i, NULL, WORLD_WSS_KERNEL);
        sim_refuse_option(world.sim, options[i / COUNT(errors)].level, options[i / COUNT(errors)].name, 1, error);
        sim_script(world.sim, "accept; upgrade");
        world_connect(&world);
        world_run_to_end(&world);
        world_expect(&world, FAILED);
        world_expect_peer(&world, 0, "end\n");
        assert_int_equal(world.last_error.stage, WSR_STAGE_TLS);
        assert_int_equal(world.last_error.system_errno, error);
        assert_ptr_equal(world.last_error.text, wsr_ktls_text(error));
        assert_int_equal(statistics_of(&world).tls_handshakes, 1);
        assert_int_equal(statistics_of(&world).tls_kernel, 0);
        world_close(&world);
    }
}

static unsigned early_tickets;       /* that were opened before the kernel had the keys */

/* As Go's server does. The kernel is to begin behind what was received. */
static void a_ticket_in_the_first_flight(struct world *world)
{
    unsigned long long in = 0;
    struct tls_server_options options = { .version_min = TLS1_3_VERSION, .certificate = sim_tls_certificate(),
                                          .tickets_count = -1, .has_early_ticket = true };
    struct tls_server *server = tls_server_create(&options);
    sim_speak_tls(world->sim, server);
    sim_script(world->sim, sim_seed(world->sim) % 2 == 0 ? "cut whole; accept; expect request; fin"
                                                         : "accept; expect request; fin");
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, FAILED);
    world_expect_peer(world, 0, "request GET /chat\nend\n");
    const char *keys = strstr(sim_options(world->sim, 0), "rx 0304");
    if (keys == NULL || sscanf(keys, "rx 0304 %*u %llu", &in) != 1 || in > 1)
        world_fail(world, "the options were %s", sim_options(world->sim, 0));
    early_tickets += in == 1;
    tls_server_free(server);
}

static void a_ticket_before_the_clients_finished_is_opened_here(void **state)
{
    (void)state;
    early_tickets = 0;
    each_seed(a_ticket_in_the_first_flight);
    if (world_seeds_last() - world_seeds_first() > 30)
        assert_true(early_tickets > 0);
}

static unsigned early_updates;       /* that a kernel which cannot take new keys had nothing to do with */

/* It goes before the request, and the kernel gets the keys behind it. */
static void a_key_update_before_the_hand_over(struct world *world)
{
    bool renews = sim_seed(world->sim) % 3 == 0;
    speak(world, true);
    sim_carry_records(world->sim, renews);
    sim_script(world->sim, renews ? "accept; update ask; update; upgrade; text hi; " ENDED
                                  : "accept; update ask; upgrade; text hi; " ENDED);
    world_connect(world);
    world->on_message = "close 1000";
    world_run_to_end(world);
    unsigned answers = sim_tls_link(world->sim, 0)->updates_received;
    if (!renews && world->sockets[0].failed) {      /* it came too late for that */
        assert_int_equal(world->last_error.system_errno, EBUSY);
        assert_int_equal(answers, 0);
        return;
    }
    world_expect(world, "open\nmessage text 2 hi\nclose 1000 clean\n");
    assert_int_equal(answers, 1);
    early_updates += !renews;
}

static void keys_may_be_renewed_before_they_are_handed_over(void **state)
{
    (void)state;
    early_updates = 0;
    each_seed(a_key_update_before_the_hand_over);
    if (world_seeds_last() - world_seeds_first() > 30)
        assert_true(early_updates > 0);
}

/* Linux takes no keys for a connection that the server has ended. What it said before is heard all the same. */
static const struct {
    const char *script;
    int http_status, error;
} early_ends[] = {
    { "accept; cork; http HTTP/1.1 503 Busy\r\n\r\n; uncork; fin", 503, 0 },
    { "accept; http HTTP/1.1 101 Sw; fin", 0, 0 },
    { "accept; rst ECONNRESET", 0, ECONNRESET },
    { "window 340; accept; early; wait 2; rst ECONNRESET", 0, ECONNRESET },      /* it has not all of our Finished */
};

static void a_server_that_ends_early(struct world *world)
{
    size_t which = sim_seed(world->sim) % COUNT(early_ends);
    speak(world, sim_seed(world->sim) % 8 < 4);
    sim_script(world->sim, early_ends[which].script);
    world_connect(world);
    uint64_t start_ns = sim_now(world->sim);
    world_run_to_end(world);
    world_expect(world, FAILED);
    assert_in_range(world->closed_ns - start_ns, 0, 300000000);
    assert_int_equal(world->last_error.http_status, early_ends[which].http_status);
    assert_int_equal(world->last_error.system_errno, early_ends[which].error);
    assert_true(world->last_error.stage == WSR_STAGE_UPGRADE || world->last_error.stage == WSR_STAGE_TLS);
}

static void a_server_that_has_ended_already_is_heard(void **state)
{
    (void)state;
    each_seed(a_server_that_ends_early);
}

/* The server asks for a certificate when the client takes the handshake for done (RFC 8446 4.6.2 is not meant). */
static void the_alert_of_a_server_that_wants_a_certificate_is_told(void **state)
{
    (void)state;
    const struct tls_server_options options = { .version_min = TLS1_3_VERSION, .demands_certificate = true,
                                                .certificate = sim_tls_certificate(),
                                                .client_authority = sim_tls_authority() };
    struct tls_server *server = tls_server_create(&options);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world world;
        world_open_over(&world, seed, NULL, WORLD_WSS_KERNEL);
        sim_speak_tls(world.sim, server);
        sim_script(world.sim, seed % 2 == 0 ? "accept; upgrade" : "accept; early; expect secured; fin");
        world_connect(&world);
        world_run_to_end(&world);
        world_expect(&world, FAILED);
        if (strstr(world.last_error.text, "certificate_required") == NULL)
            world_fail(&world, "the error says: %s", world.last_error.text);
        world_close(&world);
    }
    tls_server_free(server);
}

static void an_engine_that_ends(struct world *world)
{
    sim_script(world->sim, "accept; upgrade; update ask; texts 20; tickets 3; big 40000");
    for (unsigned i = 0; i < 4; i++)
        world_connect(world);
    /* Up to the end of the opening and a little more, in steps that meet every moment of it. */
    sim_pass(world->sim, sim_random(world->sim, 500000));
    for (uint64_t turns = sim_random(world->sim, 60); turns > 0; turns--)
        world_look(world);
}

static void an_engine_may_end_at_any_moment(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        each_seed(an_engine_that_ends);
}

/* ---- Keys ---- */

/* KeyUpdates both ways, with what was said in between in order. */
static void a_server_renews_its_keys(struct world *world)
{
    speak(world, true);
    sim_script(world->sim, "accept; upgrade; text a; update; text b; update ask; text c; update ask; update; text d; "
                           "expect text; update; text e; " ENDED);
    world_connect(world);
    world->on_message = "";
    world_run_until(world, is_open);
    world_run(world, 50);
    world_do(world, 0, "text mine");
    world_run(world, 50);
    world_do(world, 0, "text too; close 1000");
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 1 a\nmessage text 1 b\nmessage text 1 c\nmessage text 1 d\n"
                        "message text 1 e\nclose 1000 clean\n");
    world_expect_peer(world, 0, "request GET /chat\ntext 4 mine\ntext 3 too\nclose 1000\nend\n");
    /* One answer for all that was asked before something was said. */
    assert_int_equal(sim_tls_link(world->sim, 0)->updates_received, 1);
}

static void new_keys_are_given_to_a_kernel_that_takes_them(void **state)
{
    (void)state;
    each_seed(a_server_renews_its_keys);
}

static void an_older_kernel_cannot_go_on(struct world *world)
{
    speak(world, true);
    sim_carry_records(world->sim, false);
    sim_script(world->sim, "tls; accept; upgrade; text before; expect text; update; text behind; expect alert");
    world_connect(world);
    world->on_message = "text seen";
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 6 before\n" FAILED);
    world_expect_peer(world, 0, "hello *\nsecured*\nrequest GET /chat\ntext 4 seen\nalert 80\nend\n");
    assert_int_equal(world->last_error.stage, WSR_STAGE_OPEN);
    assert_int_equal(world->last_error.system_errno, EBUSY);
    assert_non_null(strstr(world->last_error.text, "6.14"));
}

static void new_keys_end_the_connection_before_linux_6_14(void **state)
{
    (void)state;
    each_seed(an_older_kernel_cannot_go_on);
}

/* The driver puts keys off in one direction, or the kernel does not take ours: then nothing is sent any more. */
static void new_keys_are_refused_in_one_direction(struct world *world)
{
    bool is_put_off = sim_seed(world->sim) % 2 == 0;
    speak(world, true);
    sim_script(world->sim, "accept; upgrade; text a; expect text; update ask; text b; expect text; text c; "
                           "expect text; " ENDED);
    world_connect(world);
    world->on_message = "text answer";
    world_run_until(world, is_open);
    if (is_put_off)
        sim_refuse_option(world->sim, SOL_TLS, sim_seed(world->sim) % 4 == 0 ? TLS_TX : TLS_RX, 20, EAGAIN);
    else
        sim_refuse_option(world->sim, SOL_TLS, TLS_TX, 1, EINVAL);
    if (!is_put_off) {
        world_run_to_end(world);
        assert_true(world->sockets[0].failed);
        return;
    }
    world_run(world, 200);
    world_expect(world, "open\nmessage text 1 a\nmessage text 1 b\nmessage text 1 c\n");
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
    assert_int_equal(sim_tls_link(world->sim, 0)->updates_received, 1);
}

static void new_keys_wait_for_the_driver_or_end_sending(void **state)
{
    (void)state;
    each_seed(new_keys_are_refused_in_one_direction);
}

/* ---- Records that are not data, and none ---- */

static void tickets_between_messages(struct world *world)
{
    speak(world, true);
    sim_script(world->sim, "accept; upgrade; texts 5; tickets 4; texts 5; tickets 1; big 30000; tickets 2; " ENDED);
    world_connect(world);
    world_run_until(world, is_open);
    if (sim_seed(world->sim) % 3 == 0) {
        assert_int_equal(wsr_pause(world->sockets[0].socket), 0);
        world_run(world, sim_random(world->sim, 20));
        assert_int_equal(wsr_resume(world->sockets[0].socket), 0);
    }
    world_run(world, 100);
    assert_int_equal(world->sockets[0].messages_count, 11);
    world_do(world, 0, "close 1000");
    world_run_to_end(world);
}

static void tickets_are_taken_between_messages(void **state)
{
    (void)state;
    each_seed(tickets_between_messages);
}

/* RFC 5246 7.4.1.1, 7.2.2; OpenSSL's server ends the connection then. */
static void a_wish_for_another_handshake(struct world *world)
{
    speak(world, false);
    sim_script(world->sim, "tls; accept; upgrade; renegotiate; expect alert");
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\n" FAILED);
    world_expect_peer(world, 0, "hello *\nsecured*\nrequest GET /chat\nalert 100\nend\n");        /* no_renegotiation */
}

static void another_handshake_is_refused_by_an_alert(void **state)
{
    (void)state;
    each_seed(a_wish_for_another_handshake);
}

/* CLOSE-31 */
static void words_of_goodbye(struct world *world)
{
    bool is_first = sim_seed(world->sim) % 2 == 0;
    sim_script(world->sim, is_first ? "tls; accept; upgrade; close 1000; expect close; expect close_notify; notify; fin"
                                    : "tls; accept; upgrade; expect close; close 1000; notify; fin");
    world_connect(world);
    if (!is_first)
        world->on_open = "close 1000";
    world_run_to_end(world);
    world_expect(world, "open\nclose 1000 clean\n");
    world_expect_peer(world, 0, "hello *\nsecured*\nrequest GET /chat\nclose 1000\nclose_notify\nend\n");
}

static void close_notify_goes_out_and_comes_in(void **state)
{
    (void)state;
    each_seed(words_of_goodbye);
}

static const struct {
    const char *wire;
    int error;
    const char *alert;          /* as the peer saw it; Linux seals none for what it could not open */
} broken[] = {
    { "1703030020 000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f", EBADMSG, "" },
    { "1703034800 00", EMSGSIZE, "alert 22\n" },
    { "1709090020 00", EINVAL, "alert 10\n" },
};

static void a_broken_record(struct world *world)
{
    char script[256], peer[128];
    size_t which = sim_seed(world->sim) % COUNT(broken);
    speak(world, sim_seed(world->sim) % 2 == 0);
    snprintf(script, sizeof script, "tls; accept; upgrade; text last; wait 5; wire %s", broken[which].wire);
    snprintf(peer, sizeof peer, "hello *\nsecured*\nrequest GET /chat\n%send\n", broken[which].alert);
    sim_script(world->sim, script);
    world_connect(world);
    world_run_until(world, is_closed);
    world_run_to_end(world);
    world_expect(world, "open\nmessage text 4 last\n" FAILED);
    world_expect_peer(world, 0, peer);
    assert_int_equal(world->last_error.stage, WSR_STAGE_OPEN);
    assert_int_equal(world->last_error.system_errno, broken[which].error);
    assert_ptr_equal(world->last_error.text, wsr_ktls_broken_text(broken[which].error));
}

/* F8 */
static void what_the_kernel_cannot_open_fails_the_connection(void **state)
{
    (void)state;
    each_seed(a_broken_record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_handed_over_between_two_records),
        cmocka_unit_test(the_hand_over_waits_for_the_driver),
        cmocka_unit_test(a_wish_that_is_refused_is_no_failure),
        cmocka_unit_test(each_refusal_fails_the_socket_with_its_reason),
        cmocka_unit_test(a_ticket_before_the_clients_finished_is_opened_here),
        cmocka_unit_test(keys_may_be_renewed_before_they_are_handed_over),
        cmocka_unit_test(a_server_that_has_ended_already_is_heard),
        cmocka_unit_test(the_alert_of_a_server_that_wants_a_certificate_is_told),
        cmocka_unit_test(an_engine_may_end_at_any_moment),
        cmocka_unit_test(new_keys_are_given_to_a_kernel_that_takes_them),
        cmocka_unit_test(new_keys_end_the_connection_before_linux_6_14),
        cmocka_unit_test(new_keys_wait_for_the_driver_or_end_sending),
        cmocka_unit_test(tickets_are_taken_between_messages),
        cmocka_unit_test(another_handshake_is_refused_by_an_alert),
        cmocka_unit_test(close_notify_goes_out_and_comes_in),
        cmocka_unit_test(what_the_kernel_cannot_open_fails_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
