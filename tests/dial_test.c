/* engine/dial: which address is next, for how long, and what is said when none answers.
 * SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/dial.h"
#include "tests/support/sim.h"

static void show(char out[80], const struct wsr_address *address)
{
    char text[INET6_ADDRSTRLEN];
    if (address->any.sa_family == AF_INET)
        snprintf(out, 80, "%s %u", inet_ntop(AF_INET, &address->in4.sin_addr, text, sizeof text),
                 (unsigned)ntohs(address->in4.sin_port));
    else
        snprintf(out, 80, "%s %u", inet_ntop(AF_INET6, &address->in6.sin6_addr, text, sizeof text),
                 (unsigned)ntohs(address->in6.sin6_port));
}

static void addresses_are_numeric_with_a_port(void **state)
{
    static const struct { const char *text, *want; } cases[] = {
        { "127.0.0.1:80", "127.0.0.1 80" }, { "10.1.2.3:0", "10.1.2.3 0" }, { "10.1.2.3:65535", "10.1.2.3 65535" },
        { "[::1]:9001", "::1 9001" }, { "[2001:db8::5]:00080", "2001:db8::5 80" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wsr_address address;
        struct wsr_fault why;
        char shown[80];
        assert_int_equal(wsr_dial_parse(&address, cases[i].text, &why), 0);
        show(shown, &address);
        assert_string_equal(shown, cases[i].want);
    }
}

static void what_is_no_address_is_refused_with_a_reason(void **state)
{
    static const char *const cases[] = {
        "", ":", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:80x", "127.0.0.1:+80", "127.0.0.1: 80",
        "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:99999999999999999999", "::1:80", "[::1]", "[::1]80", "[::1:80",
        "::1]:80", "localhost:80", "1.2.3.4.5:80", "[]:80", "127.0.0.1:80 ", " 127.0.0.1:80", "[::1]]:80",
            "256.0.0.1:80",
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wsr_address address, before;
        struct wsr_fault why = { 0 };
        memset(&address, 0x5A, sizeof address);
        memcpy(&before, &address, sizeof address);
        if (wsr_dial_parse(&address, cases[i], &why) != WSR_ERR_ARGUMENT)
            fail_msg("'%s' is taken", cases[i]);
        assert_memory_equal(&address, &before, sizeof address);
        assert_non_null(why.text);
        assert_true(why.at <= strlen(cases[i]));
    }
}

/* OQ-21 */
static void a_path_or_a_name_is_a_unix_socket(void **state)
{
    static const struct { const char *text, *bytes; size_t len; } cases[] = {
        { "unix:/run/feed", "/run/feed", 10 }, { "unix:feed", "feed", 5 }, { "unix:./@x", "./@x", 5 },
        { "unix:@feed", "\0feed", 5 }, { "unix:@@", "\0@", 2 }, { "unix:@/a b:80", "\0/a b:80", 8 },
        { "unix:unix:x", "unix:x", 7 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wsr_dial dial = { .deadline_ns = 1000 };
        struct wsr_fault why;
        socklen_t bytes = 0;
        assert_int_equal(wsr_dial_only(&dial, cases[i].text, &why), 0);
        const struct sockaddr *address = wsr_dial_next(&dial, &bytes);
        assert_ptr_equal(address, &dial.path.any);
        assert_int_equal(address->sa_family, AF_UNIX);
        assert_int_equal(bytes, offsetof(struct sockaddr_un, sun_path) + cases[i].len);
        assert_memory_equal(dial.path.un.sun_path, cases[i].bytes, cases[i].len);
        assert_int_equal(wsr_dial_deadline(&dial, 0), 1000);
        wsr_dial_skip(&dial, ECONNREFUSED);
        assert_null(wsr_dial_next(&dial, &bytes));
    }
}

static void paths_have_107_bytes_at_most(void **state)
{
    (void)state;
    for (unsigned is_abstract = 0; is_abstract < 2; is_abstract++) {
        for (size_t len = 0; len < 120; len++) {
            char text[140] = "unix:@";
            struct wsr_dial dial, before;
            struct wsr_fault why = { 0, NULL };
            memset(text + 5 + is_abstract, 'p', len);
            text[5 + is_abstract + len] = '\0';
            memset(&dial, 0, sizeof dial);
            memcpy(&before, &dial, sizeof dial);
            int rc = wsr_dial_only(&dial, text, &why);
            assert_int_equal(rc, len >= 1 && len <= 107 ? 0 : WSR_ERR_ARGUMENT);
            assert_true((rc == 0) == (why.text == NULL));
            if (rc != 0)
                assert_memory_equal(&dial, &before, sizeof dial);
            else
                assert_int_equal(dial.addresses_count, 1);
        }
    }
}

static void an_address_may_be_the_only_candidate(void **state)
{
    (void)state;
    struct wsr_dial dial = { .deadline_ns = 1000 };
    struct wsr_fault why;
    socklen_t bytes = 0;
    assert_int_equal(wsr_dial_only(&dial, "10.0.0.1", &why), WSR_ERR_ARGUMENT);
    assert_int_equal(dial.addresses_count, 0);
    assert_int_equal(wsr_dial_only(&dial, "10.0.0.1:80", &why), 0);
    assert_ptr_equal(wsr_dial_next(&dial, &bytes), &dial.addresses[0].any);
    assert_int_equal(bytes, sizeof(struct sockaddr_in));
}

/* OQ-21: EAGAIN alone, of a Unix socket alone. */
static void a_full_queue_is_tried_again_after_longer_and_longer_pauses(void **state)
{
    (void)state;
    struct wsr_dial dial = { .deadline_ns = WSR_NEVER };
    struct wsr_fault why;
    uint64_t pause_ns = 0, want_ns = WSR_NS_PER_MS;
    socklen_t bytes;
    assert_int_equal(wsr_dial_only(&dial, "unix:/run/feed", &why), 0);
    for (unsigned i = 0; i < 20; i++) {
        wsr_dial_skip(&dial, EAGAIN);
        assert_true(wsr_dial_again(&dial, &pause_ns));
        assert_int_equal(pause_ns, want_ns);
        assert_non_null(wsr_dial_next(&dial, &bytes));
        want_ns = want_ns < 64 * WSR_NS_PER_MS ? want_ns * 2 : want_ns;
    }
    wsr_dial_skip(&dial, ECONNREFUSED);
    assert_false(wsr_dial_again(&dial, &pause_ns));
    assert_null(wsr_dial_next(&dial, &bytes));
    struct wsr_dial other = { .deadline_ns = WSR_NEVER };
    assert_int_equal(wsr_dial_only(&other, "10.0.0.1:80", &why), 0);
    wsr_dial_skip(&other, EAGAIN);
    assert_false(wsr_dial_again(&other, &pause_ns));
}

static struct wsr_address address_of(const char *text)
{
    struct wsr_address address;
    struct wsr_fault why;
    assert_int_equal(wsr_dial_parse(&address, text, &why), 0);
    return address;
}

/* As a connection goes through its candidates: the first for which there is a file. */
static wsr_file attempt(struct wsr_dial *dial, struct wsr_driver *driver, uint64_t now_ns,
                        const struct sockaddr **address, uint64_t *until_ns)
{
    socklen_t bytes = 0;
    while ((*address = wsr_dial_next(dial, &bytes)) != NULL) {
        assert_int_equal(bytes, (*address)->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                                 : sizeof(struct sockaddr_in6));
        *until_ns = wsr_dial_deadline(dial, now_ns);
        wsr_file file = wsr_dial_open(dial, driver);
        if (file >= 0)
            return file;
        assert_int_equal(file, -1);
    }
    return -1;
}

static void end_sim(struct sim *sim)
{
    sim_driver(sim)->ops->destroy(sim_driver(sim));
    sim_free(sim);
}

static void candidates_come_in_order_with_an_even_share_of_what_is_left(void **state)
{
    (void)state;
    struct sim *sim = sim_create(1);
    struct wsr_driver *driver = sim_driver(sim);
    struct wsr_dial dial = { .deadline_ns = 40000, .addresses_count = 3 };
    dial.addresses[0] = address_of("10.0.0.1:80");
    dial.addresses[1] = address_of("[::1]:80");
    dial.addresses[2] = address_of("10.0.0.3:80");
    const struct { uint64_t now_ns, until_ns; int family; } want[] = {
        { 10000, 20000, AF_INET }, { 20000, 30000, AF_INET6 }, { 22000, 40000, AF_INET }
    };
    for (unsigned i = 0; i < 3; i++) {
        const struct sockaddr *address = NULL;
        uint64_t until_ns = 0;
        wsr_file file = attempt(&dial, driver, want[i].now_ns, &address, &until_ns);
        assert_true(file >= 0);
        assert_ptr_equal(address, &dial.addresses[i].any);
        assert_int_equal(until_ns, want[i].until_ns);
        assert_int_equal(sim_last_setup(sim)->family, want[i].family);
        assert_true(sim_last_setup(sim)->nodelay);
        assert_null(sim_last_setup(sim)->source);
        driver->ops->close(driver, file);
        dial.last_errno = ECONNREFUSED;
    }
    const struct sockaddr *address = NULL;
    uint64_t until_ns = 0;
    assert_int_equal(attempt(&dial, driver, 30000, &address, &until_ns), -1);
    assert_int_equal(dial.last_errno, ECONNREFUSED);
    end_sim(sim);
}

static void without_a_limit_every_attempt_may_take_for_ever(void **state)
{
    (void)state;
    struct sim *sim = sim_create(1);
    struct wsr_driver *driver = sim_driver(sim);
    struct wsr_dial dial = { .deadline_ns = WSR_NEVER, .addresses_count = 1 };
    dial.addresses[0] = address_of("10.0.0.1:80");
    const struct sockaddr *address;
    uint64_t until_ns = 0;
    wsr_file file = attempt(&dial, driver, 5, &address, &until_ns);
    assert_true(file >= 0);
    assert_true(until_ns == WSR_NEVER);
    driver->ops->close(driver, file);
    end_sim(sim);
}

static void a_socket_that_cannot_be_made_is_a_failed_attempt(void **state)
{
    (void)state;
    struct sim *sim = sim_create(1);
    struct wsr_driver *driver = sim_driver(sim);
    struct wsr_dial dial = { .deadline_ns = 1000, .addresses_count = 3 };
    for (unsigned i = 0; i < 3; i++)
        dial.addresses[i] = address_of("10.0.0.1:80");
    const struct sockaddr *address;
    uint64_t until_ns = 0;
    sim_refuse_open(sim, 2, EMFILE);
    wsr_file file = attempt(&dial, driver, 400, &address, &until_ns);
    assert_true(file >= 0);
    assert_ptr_equal(address, &dial.addresses[2].any);
    assert_int_equal(until_ns, 1000);
    driver->ops->close(driver, file);
    dial.next = 0;
    sim_refuse_open(sim, 3, EMFILE);
    assert_int_equal(attempt(&dial, driver, 0, &address, &until_ns), -1);
    assert_int_equal(dial.last_errno, EMFILE);
    end_sim(sim);
}

static void a_candidate_may_be_given_up_without_an_attempt(void **state)
{
    (void)state;
    struct sim *sim = sim_create(1);
    struct wsr_dial dial = { .deadline_ns = 40000, .addresses_count = 2 };
    socklen_t bytes = 0;
    dial.addresses[0] = address_of("10.0.0.1:80");
    dial.addresses[1] = address_of("10.0.0.2:80");
    assert_ptr_equal(wsr_dial_next(&dial, &bytes), &dial.addresses[0].any);
    assert_ptr_equal(wsr_dial_next(&dial, &bytes), &dial.addresses[0].any);
    assert_int_equal(wsr_dial_deadline(&dial, 0), 20000);
    wsr_dial_skip(&dial, ETIMEDOUT);
    assert_ptr_equal(wsr_dial_next(&dial, &bytes), &dial.addresses[1].any);
    assert_int_equal(wsr_dial_deadline(&dial, 20000), 40000);
    wsr_dial_skip(&dial, ETIMEDOUT);
    assert_null(wsr_dial_next(&dial, &bytes));
    assert_int_equal(dial.last_errno, ETIMEDOUT);
    end_sim(sim);
}

static void a_source_address_is_bound_and_excludes_the_other_family(void **state)
{
    (void)state;
    struct sim *sim = sim_create(1);
    struct wsr_driver *driver = sim_driver(sim);
    struct wsr_dial dial = { .deadline_ns = 1000, .addresses_count = 2, .source = address_of("10.9.9.9:0") };
    dial.addresses[0] = address_of("[::1]:80");
    dial.addresses[1] = address_of("10.0.0.1:80");
    const struct sockaddr *address;
    uint64_t until_ns = 0;
    wsr_file file = attempt(&dial, driver, 0, &address, &until_ns);
    assert_ptr_equal(address, &dial.addresses[1].any);
    assert_ptr_equal(sim_last_setup(sim)->source, &dial.source.any);
    assert_int_equal(sim_last_setup(sim)->source_bytes, sizeof(struct sockaddr_in));
    driver->ops->close(driver, file);
    dial.next = 0;
    dial.addresses_count = 1;
    assert_int_equal(attempt(&dial, driver, 0, &address, &until_ns), -1);
    assert_int_equal(dial.last_errno, EAFNOSUPPORT);
    /* What an address has answered says more. */
    dial.next = 0;
    dial.last_errno = ECONNREFUSED;
    assert_int_equal(attempt(&dial, driver, 0, &address, &until_ns), -1);
    assert_int_equal(dial.last_errno, ECONNREFUSED);
    end_sim(sim);
}

static void every_error_has_a_sentence(void **state)
{
    (void)state;
    for (int number = 0; number < 200; number++) {
        assert_non_null(wsr_dial_text(number));
        assert_true(strlen(wsr_dial_text(number)) > 20);
        assert_non_null(wsr_dial_path_text(number));
    }
    static const int own[] = { ENOENT, ECONNREFUSED, ETIMEDOUT, EPROTOTYPE, EACCES, EPERM, ENOTDIR, ELOOP };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        assert_string_not_equal(wsr_dial_path_text(own[i]), wsr_dial_text(own[i]));
    assert_string_equal(wsr_dial_path_text(EMFILE), wsr_dial_text(EMFILE));
    assert_non_null(strstr(wsr_dial_text(ECONNREFUSED), "refused"));
    assert_non_null(strstr(wsr_dial_text(ETIMEDOUT), "time"));
    assert_non_null(strstr(wsr_dial_text(EMFILE), "ulimit"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_numeric_with_a_port),
        cmocka_unit_test(what_is_no_address_is_refused_with_a_reason),
        cmocka_unit_test(a_path_or_a_name_is_a_unix_socket),
        cmocka_unit_test(paths_have_107_bytes_at_most),
        cmocka_unit_test(an_address_may_be_the_only_candidate),
        cmocka_unit_test(a_full_queue_is_tried_again_after_longer_and_longer_pauses),
        cmocka_unit_test(candidates_come_in_order_with_an_even_share_of_what_is_left),
        cmocka_unit_test(without_a_limit_every_attempt_may_take_for_ever),
        cmocka_unit_test(a_socket_that_cannot_be_made_is_a_failed_attempt),
        cmocka_unit_test(a_candidate_may_be_given_up_without_an_attempt),
        cmocka_unit_test(a_source_address_is_bound_and_excludes_the_other_family),
        cmocka_unit_test(every_error_has_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
