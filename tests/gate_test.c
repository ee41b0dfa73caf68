/* engine/gate: who may connect to an address, and who is next.
 * SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/gate.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define PLACES_MAX 5000

struct visitor {
    struct wsr_gate_place place;      /* first */
    char name;
};

static char admitted[64];             /* names, in the order in which they were let through */

static void note_admission(struct wsr_gate_place *place)
{
    struct visitor *visitor = wsr_container_of(place, struct visitor, place);
    size_t len = strlen(admitted);
    assert_int_equal(place->state, WSR_GATE_INSIDE);
    assert_true(len + 1 < sizeof admitted);
    admitted[len] = visitor->name;
    admitted[len + 1] = '\0';
}

/* "a", "b", ... */
static void make_visitors(struct visitor *visitors, unsigned count)
{
    memset(visitors, 0, count * sizeof *visitors);
    memset(admitted, 0, sizeof admitted);
    for (unsigned i = 0; i < count; i++) {
        visitors[i].name = (char)('a' + i);
        visitors[i].place.admitted = note_admission;
    }
}

union address {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
};

static union address address_of(const char *text, uint16_t port, uint32_t scope)
{
    union address address = { .any = { .sa_family = AF_INET } };
    if (inet_pton(AF_INET, text, &address.in4.sin_addr) == 1) {
        address.in4.sin_port = htons(port);
        return address;
    }
    address.in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope };
    assert_int_equal(inet_pton(AF_INET6, text, &address.in6.sin6_addr), 1);
    return address;
}

static bool enter(struct wsr_gate *gate, struct visitor *visitor, const char *ip)
{
    union address address = address_of(ip, 80, 0);
    bool is_inside = wsr_gate_enter(gate, &visitor->place, &address.any);
    assert_int_equal(visitor->place.state, is_inside ? WSR_GATE_INSIDE : WSR_GATE_WAITING);
    return is_inside;
}

/* HS-12 */
static void one_is_inside_and_the_others_follow_in_order(void **state)
{
    (void)state;
    struct wsr_gate *gate = wsr_gate_create();
    struct visitor v[4];
    make_visitors(v, 4);
    assert_true(enter(gate, &v[0], "10.0.0.1"));
    for (unsigned i = 1; i < 4; i++)
        assert_false(enter(gate, &v[i], "10.0.0.1"));
    for (unsigned i = 0; i < 4; i++) {
        static const char *const want[] = { "", "b", "bc", "bcd" };
        assert_string_equal(admitted, want[i]);
        wsr_gate_leave(gate, &v[i].place);
        assert_int_equal(v[i].place.state, WSR_GATE_OUTSIDE);
    }
    assert_string_equal(admitted, "bcd");
    /* And from the beginning: who comes back comes behind those who wait. */
    admitted[0] = '\0';
    assert_true(enter(gate, &v[3], "10.0.0.1"));
    assert_false(enter(gate, &v[2], "10.0.0.1"));
    wsr_gate_leave(gate, &v[3].place);
    assert_false(enter(gate, &v[3], "10.0.0.1"));
    assert_string_equal(admitted, "c");
    wsr_gate_leave(gate, &v[2].place);
    assert_string_equal(admitted, "cd");
    wsr_gate_leave(gate, &v[3].place);
    wsr_gate_destroy(gate);
}

/* HS-12: (IP address, port) is what counts. */
static void only_the_same_address_and_port_wait_for_each_other(void **state)
{
    (void)state;
    static const struct { const char *ip; uint16_t port; uint32_t scope; bool waits; } rows[] = {
        { "10.0.0.1", 80, 0, false }, { "10.0.0.2", 80, 0, false }, { "10.0.0.1", 81, 0, false },
        { "10.0.0.1", 80 << 8, 0, false }, { "10.0.0.1", 80, 0, true }, { "::1", 80, 0, false },
        { "::2", 80, 0, false }, { "::1", 443, 0, false }, { "::1", 80, 0, true }, { "fe80::1", 80, 1, false },
        { "fe80::1", 80, 2, false }, { "fe80::1", 80, 2, true }, { "::ffff:10.0.0.1", 80, 0, true },
        { "::ffff:10.0.0.9", 80, 0, false }, { "10.0.0.9", 80, 0, true }, { "::10.0.0.1", 80, 0, false },
    };
    struct wsr_gate *gate = wsr_gate_create();
    struct visitor v[COUNT_OF(rows)];
    make_visitors(v, COUNT_OF(rows));
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        union address address = address_of(rows[i].ip, rows[i].port, rows[i].scope);
        /* Bytes that do not belong to the address do not count. */
        if (address.any.sa_family == AF_INET)
            memset(address.in4.sin_zero, (int)i, sizeof address.in4.sin_zero);
        else
            address.in6.sin6_flowinfo = i;
        if (wsr_gate_enter(gate, &v[i].place, &address.any) == rows[i].waits)
            fail_msg("row %u", i);
    }
    for (unsigned i = 0; i < COUNT_OF(rows); i++)
        wsr_gate_leave(gate, &v[i].place);
    assert_string_equal(admitted, "emilo");
    wsr_gate_destroy(gate);
}

/* HS-12: whoever stops waiting is skipped, wherever in the line it stood. */
static void who_withdraws_is_not_let_through(void **state)
{
    (void)state;
    for (unsigned gone = 0; gone < 32; gone += 2) {      /* bit i: visitor i withdraws */
        struct wsr_gate *gate = wsr_gate_create();
        struct visitor v[5];
        char want[8] = "";
        make_visitors(v, 5);
        for (unsigned i = 0; i < 5; i++)
            assert_int_equal(enter(gate, &v[i], "::1"), i == 0);
        for (unsigned k = 5; k-- > 1;) {
            unsigned i = gone % 4 == 0 ? k : 5 - k;      /* from the end, or from the front */
            if (!(gone & 1u << i))
                continue;
            assert_true(wsr_gate_withdraw(gate, &v[i].place));
            assert_int_equal(v[i].place.state, WSR_GATE_OUTSIDE);
        }
        for (unsigned i = 1; i < 5; i++) {
            if (!(gone & 1u << i))
                want[strlen(want)] = v[i].name;
        }
        for (unsigned i = 0; i < 5; i++)
            wsr_gate_leave(gate, &v[i].place);
        assert_string_equal(admitted, want);
        wsr_gate_destroy(gate);
    }
}

static void who_was_let_through_cannot_withdraw(void **state)
{
    (void)state;
    struct wsr_gate *gate = wsr_gate_create();
    struct visitor v[3];
    make_visitors(v, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(enter(gate, &v[i], "10.0.0.1"), i == 0);
    wsr_gate_leave(gate, &v[0].place);
    assert_false(wsr_gate_withdraw(gate, &v[1].place));
    assert_int_equal(v[1].place.state, WSR_GATE_INSIDE);
    assert_string_equal(admitted, "b");
    wsr_gate_leave(gate, &v[1].place);
    assert_string_equal(admitted, "bc");
    wsr_gate_leave(gate, &v[2].place);
    wsr_gate_destroy(gate);
}

static void leaving_is_right_from_everywhere(void **state)
{
    (void)state;
    struct wsr_gate *gate = wsr_gate_create();
    struct visitor v[3];
    make_visitors(v, 3);
    wsr_gate_leave(gate, &v[0].place);                   /* never came */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(enter(gate, &v[i], "10.0.0.1"), i == 0);
    wsr_gate_leave(gate, &v[1].place);                   /* was waiting */
    assert_string_equal(admitted, "");
    wsr_gate_leave(gate, &v[1].place);
    wsr_gate_leave(gate, &v[0].place);
    assert_string_equal(admitted, "c");
    wsr_gate_leave(gate, &v[0].place);
    assert_string_equal(admitted, "c");
    wsr_gate_leave(gate, &v[2].place);
    wsr_gate_destroy(gate);
    wsr_gate_destroy(NULL);
}

static unsigned admissions_count;

static void count_admission(struct wsr_gate_place *place)
{
    assert_int_equal(place->state, WSR_GATE_INSIDE);
    admissions_count++;
}

/* Addresses that differ in the host, in the port, or in the scope alone. */
static union address numbered_address(unsigned number)
{
    union address address = { .in6 = { .sin6_family = AF_INET6, .sin6_port = htons(80) } };
    address.in6.sin6_addr.s6_addr[0] = 0xfe;
    if (number % 3 == 0)
        memcpy(&address.in6.sin6_addr.s6_addr[12], &number, sizeof number);
    else if (number % 3 == 1)
        address.in6.sin6_port = (uint16_t)(number + 80 * 256);
    else
        address.in6.sin6_scope_id = number;
    return address;
}

/* More than there are buckets, in and out in different orders. */
static void many_addresses_do_not_mix(void **state)
{
    (void)state;
    static struct wsr_gate_place places[PLACES_MAX][2];
    struct wsr_gate *gate = wsr_gate_create();
    admissions_count = 0;
    for (unsigned i = 0; i < PLACES_MAX; i++) {
        union address address = numbered_address(i + 1);
        for (unsigned k = 0; k < 2; k++) {
            places[i][k] = (struct wsr_gate_place){ .admitted = count_admission };
            assert_int_equal(wsr_gate_enter(gate, &places[i][k], &address.any), k == 0);
        }
    }
    for (unsigned i = 0; i < PLACES_MAX; i++) {
        unsigned at = (i * 1237) % PLACES_MAX;           /* 1237 has no divisor in common with 5000 */
        wsr_gate_leave(gate, &places[at][0]);
        assert_int_equal(admissions_count, i + 1);
        assert_int_equal(places[at][1].state, WSR_GATE_INSIDE);
    }
    for (unsigned i = PLACES_MAX; i-- > 0;)
        wsr_gate_leave(gate, &places[i][1]);
    assert_int_equal(admissions_count, PLACES_MAX);
    wsr_gate_destroy(gate);
}

/* ---- Threads ---- */

#define THREADS_COUNT 4
#define VISITS_COUNT 20000
#define DOORS_COUNT 2

static struct {
    struct wsr_gate *gate;
    _Atomic int inside[DOORS_COUNT];
    _Atomic unsigned withdrawn, waited;
} crowd;

struct visit {
    struct wsr_gate_place place;      /* first */
    _Atomic bool is_admitted;         /* by another thread; pairs with the load in visit_once() */
};

static void admit(struct wsr_gate_place *place)
{
    struct visit *visit = wsr_container_of(place, struct visit, place);
    atomic_store_explicit(&visit->is_admitted, true, memory_order_release);
}

/* Enter, perhaps after a wait, perhaps giving up; inside, be alone. */
static void visit_once(struct visit *visit, unsigned random)
{
    unsigned door = random % DOORS_COUNT;
    union address address = { .in4 = { .sin_family = AF_INET, .sin_port = (uint16_t)door } };
    atomic_store_explicit(&visit->is_admitted, false, memory_order_relaxed);
    if (!wsr_gate_enter(crowd.gate, &visit->place, &address.any)) {
        atomic_fetch_add_explicit(&crowd.waited, 1, memory_order_relaxed);
        for (unsigned i = 0; i < random / 8 % 4; i++)
            sched_yield();
        if (random / 32 % 2 == 0 && wsr_gate_withdraw(crowd.gate, &visit->place)) {
            atomic_fetch_add_explicit(&crowd.withdrawn, 1, memory_order_relaxed);
            return;
        }
        /* Also after a withdrawal that came too late: the call is on its way, and the place is in use until then. */
        while (!atomic_load_explicit(&visit->is_admitted, memory_order_acquire))
            sched_yield();
    }
    /* The gate's lock orders these: the assertion is that no two threads are here. */
    int others = atomic_fetch_add_explicit(&crowd.inside[door], 1, memory_order_relaxed);
    if (random / 64 % 2 == 0)
        sched_yield();
    assert_int_equal(others, 0);
    atomic_fetch_sub_explicit(&crowd.inside[door], 1, memory_order_relaxed);
    wsr_gate_leave(crowd.gate, &visit->place);
}

static void *come_and_go(void *seed)
{
    uint64_t random = (uint64_t)(uintptr_t)seed + 1;
    for (unsigned i = 0; i < VISITS_COUNT; i++) {
        struct visit *visit = calloc(1, sizeof *visit);  /* freed at once: the sanitizers see who still uses it */
        assert_non_null(visit);
        visit->place.admitted = admit;
        random = random * 6364136223846793005u + 1442695040888963407u;
        visit_once(visit, (unsigned)(random >> 40));
        free(visit);
    }
    return NULL;
}

/* HS-12: across threads, as across the workers of an engine. */
static void threads_take_turns(void **state)
{
    (void)state;
    pthread_t threads[THREADS_COUNT];
    crowd.gate = wsr_gate_create();
    for (uintptr_t i = 0; i < THREADS_COUNT; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, (void *)i), 0);
    for (unsigned i = 0; i < THREADS_COUNT; i++)
        pthread_join(threads[i], NULL);
    wsr_gate_destroy(crowd.gate);
    /* Else the test has shown nothing. */
    assert_true(crowd.waited > 100);
    assert_true(crowd.withdrawn > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_is_inside_and_the_others_follow_in_order),
        cmocka_unit_test(only_the_same_address_and_port_wait_for_each_other),
        cmocka_unit_test(who_withdraws_is_not_let_through),
        cmocka_unit_test(who_was_let_through_cannot_withdraw),
        cmocka_unit_test(leaving_is_right_from_everywhere),
        cmocka_unit_test(many_addresses_do_not_mix),
        cmocka_unit_test(threads_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
