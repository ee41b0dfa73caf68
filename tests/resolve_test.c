/* engine/resolve.c. Names under ".test" are answered by this file, the others by the C library.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "engine/resolve.h"

typedef int (*getaddrinfo_function)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

/* What happens to names under ".test". */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held;                        /* look-ups hang */
    unsigned begun_count, ended_count;
    bool signals_blocked;
} scene = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* "many.test": @count addresses 192.0.2.1 ... in this order. */
static int answer_many(struct addrinfo **result, unsigned count)
{
    getaddrinfo_function real = (getaddrinfo_function)dlsym(RTLD_NEXT, "getaddrinfo");
    struct addrinfo numeric = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
    struct addrinfo **end = result;
    for (unsigned i = 1; i <= count; i++) {
        char text[32];
        snprintf(text, sizeof text, i % 2 != 0 ? "192.0.2.%u" : "2001:db8::%u", i);
        int rc = real(text, NULL, &numeric, end);
        if (rc != 0)
            return rc;
        end = &(*end)->ai_next;
    }
    return 0;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result)
{
    const char *suffix = strrchr(node, '.');
    if (suffix == NULL || strcmp(suffix, ".test") != 0)
        return ((getaddrinfo_function)dlsym(RTLD_NEXT, "getaddrinfo"))(node, service, hints, result);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    pthread_mutex_lock(&scene.lock);
    scene.signals_blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGALRM) == 1;
    scene.begun_count++;
    pthread_cond_broadcast(&scene.changed);
    while (scene.held)
        pthread_cond_wait(&scene.changed, &scene.lock);
    scene.ended_count++;
    pthread_cond_broadcast(&scene.changed);
    pthread_mutex_unlock(&scene.lock);
    errno = EIO;
    return strcmp(node, "broken.test") == 0 ? EAI_SYSTEM : answer_many(result, strcmp(node, "many.test") == 0 ? 40 : 2);
}

static void set_held(bool held)
{
    pthread_mutex_lock(&scene.lock);
    scene.held = held;
    pthread_cond_broadcast(&scene.changed);
    pthread_mutex_unlock(&scene.lock);
}

/* Wait until *@counter reaches @count; fails the test after ten seconds. */
static void await_count(const unsigned *counter, unsigned count)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 10;
    int rc = 0;
    pthread_mutex_lock(&scene.lock);
    while (*counter < count && rc == 0)
        rc = pthread_cond_timedwait(&scene.changed, &scene.lock, &limit);
    pthread_mutex_unlock(&scene.lock);
    assert_int_equal(rc, 0);
}

struct asked {
    struct wsr_resolve_request request;
    unsigned done_count;
};

static void on_done(struct wsr_resolve_request *request)
{
    struct asked *asked = wsr_container_of(request, struct asked, request);
    pthread_mutex_lock(&scene.lock);
    asked->done_count++;
    pthread_cond_broadcast(&scene.changed);
    pthread_mutex_unlock(&scene.lock);
}

static void ask(struct wsr_resolver *resolver, struct asked *asked, const char *host, uint16_t port)
{
    *asked = (struct asked){ .request = { .port = port, .done = on_done } };
    snprintf(asked->request.host, sizeof asked->request.host, "%s", host);
    assert_int_equal(wsr_resolve_start(resolver, &asked->request), 0);
}

static int set_up(void **state)
{
    scene.held = false;
    scene.begun_count = scene.ended_count = 0;
    *state = wsr_resolver_create();
    return *state == NULL;
}

static int tear_down(void **state)
{
    set_held(false);
    wsr_resolver_destroy(*state);
    return 0;
}

static void localhost_is_found_with_the_port_asked_for(void **state)
{
    struct asked asked;
    ask(*state, &asked, "localhost", 4433);
    await_count(&asked.done_count, 1);
    assert_int_equal(asked.request.error, 0);
    assert_in_range(asked.request.addresses_count, 1, WSR_RESOLVE_ADDRESSES_MAX);
    const struct wsr_address *address = &asked.request.addresses[0];
    if (address->any.sa_family == AF_INET) {
        assert_int_equal(address->in4.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
        assert_int_equal(ntohs(address->in4.sin_port), 4433);
        assert_int_equal(address->bytes, sizeof(struct sockaddr_in));
    } else {
        assert_true(IN6_IS_ADDR_LOOPBACK(&address->in6.sin6_addr));
        assert_int_equal(ntohs(address->in6.sin6_port), 4433);
        assert_int_equal(address->bytes, sizeof(struct sockaddr_in6));
    }
}

static void a_name_that_does_not_exist_is_an_error_without_addresses(void **state)
{
    struct asked asked;
    ask(*state, &asked, "nonexistent.invalid", 80);
    await_count(&asked.done_count, 1);
    assert_int_not_equal(asked.request.error, 0);
    assert_int_equal(asked.request.addresses_count, 0);
}

static void a_system_error_brings_its_errno(void **state)
{
    struct asked asked;
    ask(*state, &asked, "broken.test", 80);
    await_count(&asked.done_count, 1);
    assert_int_equal(asked.request.error, EAI_SYSTEM);
    assert_int_equal(asked.request.system_errno, EIO);
}

static void the_order_is_kept_and_sixteen_are_enough(void **state)
{
    struct asked asked;
    ask(*state, &asked, "many.test", 443);
    await_count(&asked.done_count, 1);
    assert_int_equal(asked.request.error, 0);
    assert_int_equal(asked.request.addresses_count, WSR_RESOLVE_ADDRESSES_MAX);
    for (unsigned i = 0; i < WSR_RESOLVE_ADDRESSES_MAX; i++) {
        const struct wsr_address *address = &asked.request.addresses[i];
        assert_int_equal(address->any.sa_family, i % 2 == 0 ? AF_INET : AF_INET6);
        if (i % 2 == 0)
            assert_int_equal(ntohl(address->in4.sin_addr.s_addr), 0xC0000200 + i + 1);
        assert_int_equal(ntohs(i % 2 == 0 ? address->in4.sin_port : address->in6.sin6_port), 443);
    }
    assert_true(scene.signals_blocked);
}

static void requests_of_one_host_share_a_look_up(void **state)
{
    struct asked asked[50];
    set_held(true);
    for (unsigned i = 0; i < 50; i++)
        ask(*state, &asked[i], "shared.test", (uint16_t)(1000 + i));
    await_count(&scene.begun_count, 1);
    set_held(false);
    for (unsigned i = 0; i < 50; i++) {
        await_count(&asked[i].done_count, 1);
        assert_int_equal(asked[i].request.addresses_count, 2);
        assert_int_equal(ntohs(asked[i].request.addresses[0].in4.sin_port), 1000 + i);
    }
    assert_int_equal(scene.begun_count, 1);
}

static void different_hosts_are_looked_up_side_by_side_by_four_threads(void **state)
{
    struct asked asked[10];
    set_held(true);
    for (unsigned i = 0; i < 10; i++) {
        char host[32];
        snprintf(host, sizeof host, "host%u.test", i);
        ask(*state, &asked[i], host, 80);
    }
    await_count(&scene.begun_count, 4);
    struct timespec moment = { .tv_nsec = 20000000 };
    nanosleep(&moment, NULL);
    pthread_mutex_lock(&scene.lock);
    unsigned begun = scene.begun_count;
    pthread_mutex_unlock(&scene.lock);
    assert_int_equal(begun, 4);
    set_held(false);
    for (unsigned i = 0; i < 10; i++)
        await_count(&asked[i].done_count, 1);
}

static void a_cancelled_request_is_the_callers_at_once(void **state)
{
    struct asked running, waiting[5], other;
    set_held(true);
    ask(*state, &running, "running.test", 80);
    ask(*state, &other, "running.test", 81);
    await_count(&scene.begun_count, 1);
    for (unsigned i = 0; i < 5; i++) {
        char host[32];
        snprintf(host, sizeof host, "waiting%u.test", i);
        ask(*state, &waiting[i], host, 80);
    }
    await_count(&scene.begun_count, 4);
    assert_true(wsr_resolve_cancel(*state, &running.request));      /* in the middle of its look-up */
    assert_true(wsr_resolve_cancel(*state, &waiting[4].request));   /* not begun: it never will be */
    assert_false(wsr_resolve_cancel(*state, &waiting[4].request));
    memset(&running, 0xDD, sizeof running);
    memset(&waiting[4], 0xDD, sizeof waiting[4]);
    set_held(false);
    await_count(&other.done_count, 1);
    for (unsigned i = 0; i < 4; i++)
        await_count(&waiting[i].done_count, 1);
    assert_false(wsr_resolve_cancel(*state, &other.request));
    assert_int_equal(scene.begun_count, 5);
    assert_int_equal(running.done_count, 0xDDDDDDDD);
}

static void destroy_returns_while_a_look_up_hangs(void **state)
{
    struct asked asked[8];
    set_held(true);
    for (unsigned i = 0; i < 8; i++) {
        char host[32];
        snprintf(host, sizeof host, "hang%u.test", i);
        ask(*state, &asked[i], host, 80);
    }
    await_count(&scene.begun_count, 4);
    wsr_resolver_destroy(*state);
    memset(asked, 0xDD, sizeof asked);                /* nobody touches them any more */
    set_held(false);
    await_count(&scene.ended_count, 4);
    assert_int_equal(scene.begun_count, 4);
    assert_int_equal(asked[0].done_count, 0xDDDDDDDD);
    set_up(state);
}

struct chain {
    struct wsr_resolve_request request;
    struct wsr_resolver *resolver;
    unsigned left_count, ended_count;
};

static void on_done_ask_again(struct wsr_resolve_request *request)
{
    struct chain *chain = wsr_container_of(request, struct chain, request);
    if (chain->left_count-- > 0) {
        assert_false(wsr_resolve_cancel(chain->resolver, request));
        assert_int_equal(wsr_resolve_start(chain->resolver, request), 0);
        return;
    }
    pthread_mutex_lock(&scene.lock);
    chain->ended_count++;
    pthread_cond_broadcast(&scene.changed);
    pthread_mutex_unlock(&scene.lock);
}

static void done_may_ask_again_and_gets_a_fresh_look_up(void **state)
{
    struct chain chain = {
        .request = { .host = "chain.test", .done = on_done_ask_again }, .resolver = *state, .left_count = 20
    };
    assert_int_equal(wsr_resolve_start(*state, &chain.request), 0);
    await_count(&chain.ended_count, 1);
    assert_int_equal(scene.begun_count, 21);
}

static void starting_and_cancelling_at_random_loses_nobody(void **state)
{
    enum { COUNT = 64 };
    static struct asked asked[COUNT];
    uint64_t random_state = 42;
    for (unsigned round = 0; round < 30; round++) {
        bool cancelled[COUNT];
        for (unsigned i = 0; i < COUNT; i++) {
            char host[32];
            snprintf(host, sizeof host, "random%u.test", i % 7);
            ask(*state, &asked[i], host, 80);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            random_state = random_state * 6364136223846793005u + 1442695040888963407u;
            cancelled[i] = random_state >> 63 != 0 && wsr_resolve_cancel(*state, &asked[i].request);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            if (!cancelled[i])
                await_count(&asked[i].done_count, 1);
        }
        for (unsigned i = 0; i < COUNT; i++)
            assert_int_equal(asked[i].done_count, cancelled[i] ? 0 : 1);
    }
}

struct slow {
    struct wsr_resolve_request request;
    unsigned entered_count, left_count;
};

static void on_done_slowly(struct wsr_resolve_request *request)
{
    struct slow *slow = wsr_container_of(request, struct slow, request);
    struct timespec moment = { .tv_nsec = 20000000 };
    pthread_mutex_lock(&scene.lock);
    slow->entered_count++;
    pthread_cond_broadcast(&scene.changed);
    pthread_mutex_unlock(&scene.lock);
    nanosleep(&moment, NULL);
    slow->left_count++;               /* no lock: destroy() must order this before what follows it */
}

static void destroy_waits_for_a_done_in_progress(void **state)
{
    struct slow slow = { .request = { .host = "slow.test", .done = on_done_slowly } };
    assert_int_equal(wsr_resolve_start(*state, &slow.request), 0);
    await_count(&slow.entered_count, 1);
    assert_false(wsr_resolve_cancel(*state, &slow.request));
    wsr_resolver_destroy(*state);
    assert_int_equal(slow.left_count, 1);
    set_up(state);
}

static void destroy_while_answers_come_calls_nobody_afterwards(void **state)
{
    enum { COUNT = 40 };
    static struct asked asked[COUNT];
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            char host[32];
            snprintf(host, sizeof host, "end%u.test", i % 5);
            ask(*state, &asked[i], host, 80);
        }
        if (round % 2 != 0)
            await_count(&scene.begun_count, 1);
        wsr_resolver_destroy(*state);
        memset(asked, 0xDD, sizeof asked);
        pthread_mutex_lock(&scene.lock);
        scene.begun_count = 0;
        pthread_mutex_unlock(&scene.lock);
        *state = wsr_resolver_create();
    }
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(asked[i].done_count, 0xDDDDDDDD);
}

/* ---- Numeric addresses ---- */

static bool parse(struct wsr_address *out, const char *text)
{
    return wsr_resolve_numeric(out, text, strlen(text), 8443);
}

static void numeric_addresses_need_no_look_up(void **state)
{
    (void)state;
    struct wsr_address address;
    assert_true(parse(&address, "192.0.2.7"));
    assert_int_equal(address.bytes, sizeof(struct sockaddr_in));
    assert_int_equal(address.in4.sin_family, AF_INET);
    assert_int_equal(ntohl(address.in4.sin_addr.s_addr), 0xC0000207);
    assert_int_equal(ntohs(address.in4.sin_port), 8443);
    static const char *const six[] = { "::1", "[::1]", "0:0:0:0:0:0:0:1", "[0000:0000:0000:0000:0000:0000:0000:0001]" };
    for (unsigned i = 0; i < 4; i++) {
        assert_true(parse(&address, six[i]));
        assert_int_equal(address.bytes, sizeof(struct sockaddr_in6));
        assert_int_equal(address.in6.sin6_family, AF_INET6);
        assert_true(IN6_IS_ADDR_LOOPBACK(&address.in6.sin6_addr));
        assert_int_equal(ntohs(address.in6.sin6_port), 8443);
        assert_int_equal(address.in6.sin6_scope_id, 0);
    }
    assert_true(parse(&address, "[::ffff:192.0.2.128]"));
    assert_true(parse(&address, "1111:2222:3333:4444:5555:6666:255.255.255.255"));
}

static void what_is_not_numeric_is_left_alone(void **state)
{
    (void)state;
    static const char *const names[] = {
        "", "[]", "[", "]", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "0x7f.0.0.1", "127.1",
        "[1.2.3.4]", "fe80::1%lo", "[fe80::1%25eth0]", "[::1", "::1]", "[[::1]]", ":::", "1:2:3:4:5:6:7:8:9", " ::1",
        "1.2.3.4 ", "12345::",
        "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct wsr_address address, before;
        memset(&address, 0xA5, sizeof address);
        before = address;
        assert_false(parse(&address, names[i]));
        assert_memory_equal(&address, &before, sizeof address);
    }
    struct wsr_address address;
    assert_false(wsr_resolve_numeric(&address, "1.2.3.4\0evil", 12, 80));
    assert_false(wsr_resolve_numeric(&address, "1.2.3.4\0", 8, 80));
    assert_true(wsr_resolve_numeric(&address, "1.2.3.45", 7, 80));       /* the length counts, not the text's end */
    assert_int_equal(ntohl(address.in4.sin_addr.s_addr), 0x01020304);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(localhost_is_found_with_the_port_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_that_does_not_exist_is_an_error_without_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_system_error_brings_its_errno, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_order_is_kept_and_sixteen_are_enough, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_of_one_host_share_a_look_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(different_hosts_are_looked_up_side_by_side_by_four_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cancelled_request_is_the_callers_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(destroy_returns_while_a_look_up_hangs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(done_may_ask_again_and_gets_a_fresh_look_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(starting_and_cancelling_at_random_loses_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(destroy_waits_for_a_done_in_progress, set_up, tear_down),
        cmocka_unit_test_setup_teardown(destroy_while_answers_come_calls_nobody_afterwards, set_up, tear_down),
        cmocka_unit_test(numeric_addresses_need_no_look_up),
        cmocka_unit_test(what_is_not_numeric_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
