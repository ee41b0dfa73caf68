/* The groups of rows. Each starts its servers, measures what of it is wanted, and stops them: 0, or -1 when a side
 * could not run. */
#ifndef WSR_MICRO_BENCH_H
#define WSR_MICRO_BENCH_H

#include "row.h"

int wsr_roundtrip_rows(const struct wsr_table *table);
int wsr_ingest_rows(const struct wsr_table *table);
int wsr_echoload_rows(const struct wsr_table *table);
int wsr_hop_rows(const struct wsr_table *table);
int wsr_waits_rows(const struct wsr_table *table);
int wsr_memory_rows(const struct wsr_table *table);
int wsr_opening_rows(const struct wsr_table *table);
int wsr_connections_rows(const struct wsr_table *table);
int wsr_deflate_rows(const struct wsr_table *table);
int wsr_kernels_rows(const struct wsr_table *table);

#endif
