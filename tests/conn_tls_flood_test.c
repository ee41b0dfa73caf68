/* Servers that have TLS answer them again and again and read nothing: what waits to be sent stays bounded.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/sim_tls.h"
#include "tests/support/world.h"

#define UPDATES_COUNT 5000u        /* more answers than may wait */

/* OpenSSL answers a KeyUpdate as soon as the next one asks. */
static void asks_without_end(struct world *world)
{
    static char script[64 + UPDATES_COUNT * 12];
    size_t used = (size_t)snprintf(script, sizeof script, "accept; upgrade; wait 10; stop");
    for (unsigned i = 0; i < UPDATES_COUNT; i++)
        used += (size_t)snprintf(script + used, sizeof script - used, "; update ask");
    snprintf(script + used, sizeof script - used, "; wait 5000");
    sim_speak_tls(world->sim, sim_tls_server(0));
    sim_script(world->sim, script);
    world_connect(world);
    world_run_to_end(world);
    world_expect(world, "open\nerror*\nclose 1006*\n");
    assert_non_null(strstr(world->last_close.text, "asks again and again"));
}

static void a_server_that_only_asks_is_given_up(void **state)
{
    (void)state;
    for (uint64_t seed = world_seeds_first(); seed < world_seeds_first() + 8; seed++) {
        struct world world;
        world_open_over(&world, seed, NULL, WORLD_WSS_LIBRARY);
        asks_without_end(&world);
        world_close(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_server_that_only_asks_is_given_up) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
