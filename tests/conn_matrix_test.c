/* The closing handshake as a matrix: who closes first and how the other side behaves, by our code and reason, by
 * theirs. Events, what the server saw and the time it took are derived from the row (semantics 3).
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define SEEDS_STEP 15            /* each cell under a few seeds, neighbours under others */
#define TEN "0123456789"
#define REASON_123 TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "012"
#define EURO "\xE2\x82\xAC"

/* A Close frame, as a step of either side and as it is seen by the other; and the code of its event. */
struct words {
    const char *close;               /* "close", "close 1000", "close 4000 reason" */
    const char *code;                /* for the event; 1005 when there is none */
    const char *reason;              /* with the blank before it */
};

static const struct words ours[] = {
    { "close", "1005", "" },
    { "close 1000", "1000", "" },
    { "close 1000 done", "1000", " done" },
    { "close 3000", "3000", "" },
    { "close 3999 " EURO, "3999", " " EURO },
    { "close 4999 " REASON_123, "4999", " " REASON_123 },
};

static const struct words theirs[] = {
    { "close", "1005", "" },
    { "close 1000", "1000", "" },
    { "close 1000 bye", "1000", " bye" },
    { "close 1001 away", "1001", " away" },
    { "close 1011", "1011", "" },
    { "close 1014 gate", "1014", " gate" },
    { "close 3000", "3000", "" },
    { "close 4999 " REASON_123, "4999", " " REASON_123 },
};

enum ending { CLEAN, UNCLEAN };

/* OURS and THEIRS in @script stand for a Close step, in @peer for what the server has seen; ECHO for the code alone. */
struct order {
    const char *name, *script, *peer;
    bool closes;                     /* we call close() when it is open */
    enum ending ending;
    uint64_t least_ms;
    int system_errno;
};

/* CLOSE-08, 09, 20, 22, 23, 25, 26, 28, 29, F10, F11, F12 */
static const struct order orders[] = {
    { "client first", "expect close; THEIRS; fin", "OURS\nend\n", true, CLEAN, 0, 0 },
    { "client first, answered in two segments", "expect close; cut 1; THEIRS; fin", "OURS\nend\n", true, CLEAN, 0, 0 },
    { "client first, data before the answer", "expect close; text no; binary no; THEIRS; fin", "OURS\nend\n", true,
      CLEAN, 0, 0 },
    { "client first, answer late", "expect close; wait 29000; THEIRS; fin", "OURS\nend\n", true, CLEAN, 29000, 0 },
    { "client first, answer and reset", "expect close; THEIRS; rst ECONNRESET", "OURS\nend\n", true, CLEAN, 0, 0 },
    { "client first, no FIN", "expect close; THEIRS", "OURS\nend\n", true, CLEAN, 2000, 0 },
    { "client first, FIN late", "expect close; THEIRS; wait 1900; fin", "OURS\nend\n", true, CLEAN, 1900, 0 },
    { "client first, never answered", "expect close", "OURS\nend\n", true, UNCLEAN, 30000, ETIMEDOUT },
    { "client first, answered too late", "expect close; wait 31000; THEIRS; fin", "OURS\nend\n", true, UNCLEAN, 30000,
      ETIMEDOUT },
    { "client first, EOF", "expect close; fin", "OURS\nend\n", true, UNCLEAN, 0, 0 },
    { "client first, reset", "expect close; rst ECONNRESET", "OURS\nend\n", true, UNCLEAN, 0, ECONNRESET },
    { "client first, taken by nobody", "stop", "end\n", true, UNCLEAN, 30000, ETIMEDOUT },
    { "simultaneous", "stop; wait 10; THEIRS; wait 10; read; expect close; fin", "OURS\nend\n", true, CLEAN, 0, 0 },
    { "simultaneous, no FIN", "stop; wait 10; THEIRS; wait 10; read; expect close", "OURS\nend\n", true, CLEAN, 2000,
      0 },
    { "simultaneous, FIN before ours was read", "stop; wait 10; THEIRS; fin; wait 10; read", "OURS\nend\n", true, CLEAN,
      0, 0 },
    { "server first", "THEIRS; expect close; fin", "ECHO\nend\n", false, CLEAN, 0, 0 },
    { "server first, byte by byte", "cut 1; THEIRS; expect close; fin", "ECHO\nend\n", false, CLEAN, 0, 0 },
    { "server first, FIN at once", "THEIRS; fin", "ECHO\nend\n", false, CLEAN, 0, 0 },
    { "server first, FIN late", "THEIRS; expect close; wait 1900; fin", "ECHO\nend\n", false, CLEAN, 1900, 0 },
    { "server first, no FIN", "THEIRS; expect close", "ECHO\nend\n", false, CLEAN, 2000, 0 },
    { "server first, reset behind our answer", "THEIRS; expect close; rst ECONNRESET", "ECHO\nend\n", false, CLEAN, 0,
      0 },
    { "server first, reset before our answer", "stop; cork; THEIRS; uncork; rst ECONNRESET", "end\n", false, UNCLEAN, 0,
      ECONNRESET },
    { "server first, answer taken by nobody", "stop; THEIRS", "end\n", false, UNCLEAN, 30000, 0 },
    { "server first, answer taken late", "stop; THEIRS; wait 20000; read; expect close; fin", "ECHO\nend\n", false,
      CLEAN, 20000, 0 },
    { "nobody, EOF", "fin", "end\n", false, UNCLEAN, 0, 0 },
    { "nobody, reset", "rst ECONNRESET", "end\n", false, UNCLEAN, 0, ECONNRESET },
};

static void replace(char *out, size_t out_bytes, const char *in, const struct words *own, const struct words *other)
{
    size_t used = 0;
    while (*in != '\0') {
        const char *word = NULL;
        size_t len = 1;
        if (strncmp(in, "OURS", 4) == 0)
            word = own->close, len = 4;
        else if (strncmp(in, "THEIRS", 6) == 0)
            word = other->close, len = 6;
        if (strncmp(in, "ECHO", 4) == 0)
            used += (size_t)snprintf(out + used, out_bytes - used, "%.10s", other->close), len = 4;
        else if (word != NULL)
            used += (size_t)snprintf(out + used, out_bytes - used, "%s", word);
        else
            out[used++] = *in;
        assert_true(used < out_bytes);
        in += len;
    }
    out[used] = '\0';
}

static void play(const struct order *order, const struct words *own, const struct words *other)
{
    static const char opened[] = "accept; upgrade; ";
    char name[512], script[512], peer[512], events[512];
    replace(script, sizeof script, order->script, own, other);
    replace(peer, sizeof peer, order->peer, own, other);
    snprintf(name, sizeof name, "%s, %.30s, %.30s", order->name, order->closes ? own->close : "-", other->close);
    if (order->ending == CLEAN)
        snprintf(events, sizeof events, "open\nclose %s clean%s\n", other->code, other->reason);
    else
        snprintf(events, sizeof events, "open\nerror\nclose 1006 unclean\n");
    char whole[sizeof script + sizeof opened], seen[sizeof peer + 32];
    snprintf(whole, sizeof whole, "%s%s", opened, script);
    snprintf(seen, sizeof seen, "request GET /chat\n%s", peer);
    bool is_open = order->ending == UNCLEAN && strncmp(order->name, "nobody", 6) == 0;
    const struct world_scene scene = {
        .name = name, .script = whole, .on_open = order->closes ? own->close : NULL, .events = events, .peer = seen,
        .least_ms = order->least_ms, .system_errno = order->system_errno,
        .stage = order->ending == CLEAN ? WSR_STAGE_NONE : is_open ? WSR_STAGE_OPEN : WSR_STAGE_CLOSING,
    };
    static uint64_t cells_count;
    world_play_few(&scene, SEEDS_STEP, cells_count++);
}

static void every_order_with_every_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(orders); i++) {
        bool is_answered = strstr(orders[i].script, "THEIRS") != NULL;
        for (size_t own = 0; own < (orders[i].closes ? COUNT(ours) : 1); own++) {
            for (size_t other = 0; other < (is_answered ? COUNT(theirs) : 1); other++)
                play(&orders[i], &ours[own], &theirs[other]);
        }
    }
}

/* ---- Every code ---- */

static bool is_legal(int code)
{
    return code == 0 || code == 1000 || (code >= 3000 && code <= 4999);
}

/* CLOSE-01, CLOSE-09: each legal code is sent, and comes back when the server says it too. */
static void every_legal_code_is_written(void **state)
{
    (void)state;
    for (int code = 0; code <= 4999; code++) {
        if (!is_legal(code))
            continue;
        char script[96], close[32], events[64], peer[64];
        snprintf(close, sizeof close, code == 0 ? "close" : "close %d", code);
        snprintf(script, sizeof script, "accept; upgrade; expect close; %s; fin", close);
        snprintf(events, sizeof events, "open\nclose %d clean\n", code == 0 ? 1005 : code);
        snprintf(peer, sizeof peer, "request GET /chat\n%s\nend\n", close);
        const struct world_scene scene = { .name = close, .script = script, .on_open = close, .events = events,
                                           .peer = peer };
        world_play_few(&scene, SIZE_MAX, (uint64_t)code % 60);
    }
}

static void refuse_code(struct world *world, int code)
{
    struct wsr_socket *socket = world->sockets[0].socket;
    enum wsr_ready_state before = wsr_socket_ready_state(socket);
    if (wsr_close(socket, code, NULL, 0) != WSR_ERR_INVALID_ACCESS || wsr_socket_ready_state(socket) != before)
        world_fail(world, "close(%d) in state %d", code, (int)before);
}

static void refuse_all_others(struct world *world)
{
    static const int more[] = { INT32_MIN, INT32_MIN + 1, INT32_MIN + 1000, INT32_MAX, INT32_MAX - 1, -65536 + 1000,
                                1 << 30, (1 << 30) + 1000, (1 << 24) + 3000 };
    for (int code = -70000; code <= 140000; code++) {       /* over 2 x 65,536: no bit of a code is lost */
        if (!is_legal(code))
            refuse_code(world, code);
    }
    for (size_t i = 0; i < COUNT(more); i++)
        refuse_code(world, more[i]);
}

/* CLOSE-01, CLOSE-03, CLOSE-04: in every state, and nothing comes of it. */
static void every_other_number_is_refused(void **state)
{
    struct world world;
    (void)state;
    world_open(&world, world_seeds_first(), NULL);
    sim_script(world.sim, "accept; wait 500; upgrade; expect close; wait 500; close 1000; fin");
    world_connect(&world);
    world_run(&world, 50);
    refuse_all_others(&world);
    world_run(&world, 600);
    refuse_all_others(&world);
    world_run(&world, 50);
    world_do(&world, 0, "close 1000");
    refuse_all_others(&world);
    world_run_to_end(&world);
    refuse_all_others(&world);
    world_run(&world, 5000);
    world_expect(&world, "open\nclose 1000 clean\n");
    world_expect_peer(&world, 0, "request GET /chat\nclose 1000\nend\n");
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_legal_code_is_written),
        cmocka_unit_test(every_other_number_is_refused),
        cmocka_unit_test(every_order_with_every_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
