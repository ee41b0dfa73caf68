/* SPDX-License-Identifier: MIT */
#include "distance.h"

#include <pthread.h>
#include <stdatomic.h>

#include "clock.h"
#include "engine/base.h"
#include "peer.h"
#include "row.h"

#define PIECES 64u
#define TRIPS_PER_PIECE 32u

struct court {
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint32_t there;
    WSR_ALIGNED(WSR_CACHE_LINE) _Atomic uint32_t back;
};

static void *answer(void *context)
{
    struct court *court = context;
    int client_cpu, server_cpu;
    wsr_peer_cpus(&client_cpu, &server_cpu);
    wsr_peer_pin(server_cpu);
    for (uint32_t i = 1; i <= PIECES * TRIPS_PER_PIECE; i++) {
        /* Acquire: pairs with the release store in wsr_distance_ns(). */
        while (atomic_load_explicit(&court->there, memory_order_acquire) != i)
            wsr_cpu_relax();
        /* Release: pairs with the acquire load there. */
        atomic_store_explicit(&court->back, i, memory_order_release);
    }
    return NULL;
}

double wsr_distance_ns(void)
{
    struct court court = { 0 };
    double pieces[PIECES];
    pthread_t thread;
    int client_cpu, server_cpu;
    wsr_peer_cpus(&client_cpu, &server_cpu);
    if (client_cpu == server_cpu || pthread_create(&thread, NULL, answer, &court) != 0)
        return 0;
    uint32_t i = 0;
    for (uint32_t piece = 0; piece < PIECES; piece++) {
        uint64_t begin_ns = wsr_clock_now();
        for (uint32_t k = 0; k < TRIPS_PER_PIECE; k++) {
            /* Release: pairs with the acquire load in answer(). */
            atomic_store_explicit(&court.there, ++i, memory_order_release);
            /* Acquire: pairs with the release store there. */
            while (atomic_load_explicit(&court.back, memory_order_acquire) != i)
                wsr_cpu_relax();
        }
        pieces[piece] = (double)(wsr_clock_now() - begin_ns) / (2.0 * TRIPS_PER_PIECE);
    }
    pthread_join(thread, NULL);
    return wsr_row_median(pieces, PIECES);
}
