/* Masking and UTF-8 at the level in use: speed as a part of memcpy's, and of reading the bytes once. Measured as
 * bytes/s.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "clock.h"
#include "other.h"
#include "simd/simd.h"

#define BYTES_MAX (1u << 20)
#define FROM_OFFSET 2048u         /* in a page */
#define CALLS_PER_CLOCK_BYTES (256u << 10)

struct kernels {
    uint8_t *to, *from;
    size_t len;
    uint64_t slice_ns;
    const struct wsr_simd *simd;
    struct wsr_other *other;
};

/* A pointer that the compiler cannot see through, so that both sides pay for a call. */
static void *(*volatile copy_bytes)(void *, const void *, size_t) = memcpy;
static volatile uint64_t sink;

/* Where the CPU has vectors of 64 bytes, reading uses them: a reference that is slower than what it is compared with is
 * none. */
#if defined(__x86_64__)
#define READ_TARGET_32 __attribute__((target("avx2")))
#define READ_TARGET_64 __attribute__((target("avx512f")))
#define HAS_64 (__builtin_cpu_supports("avx512f") != 0)
#else
#define READ_TARGET_32
#define READ_TARGET_64
#define HAS_64 false
#endif

typedef uint64_t lanes_32 __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint64_t lanes_64 __attribute__((vector_size(64), aligned(1), may_alias));

static void copy(const struct kernels *k)
{
    copy_bytes(k->to, k->from, k->len);
}

static void mask_copy(const struct kernels *k)
{
    static const uint8_t key[4] = { 0x37, 0xfa, 0x21, 0x3d };
    k->simd->mask_copy(k->to, k->from, k->len, key, 1);
}

/* What reading costs: the sum of all vectors. Each sum is its own variable: an array of them may live in memory, and
 * then the loop would measure its stores. Sizes are multiples of 256. */
READ_TARGET_32 static void read_once_32(const struct kernels *k)
{
    lanes_32 sum0 = { 0 }, sum1 = { 0 }, sum2 = { 0 }, sum3 = { 0 };
    for (size_t at = 0; at < k->len; at += 128) {
        const lanes_32 *block = (const void *)(k->from + at);
        sum0 += block[0];
        sum1 += block[1];
        sum2 += block[2];
        sum3 += block[3];
    }
    lanes_32 sum = sum0 + sum1 + sum2 + sum3;
    sink = sum[0] + sum[1] + sum[2] + sum[3];
}

READ_TARGET_64 static void read_once_64(const struct kernels *k)
{
    lanes_64 sum0 = { 0 }, sum1 = { 0 }, sum2 = { 0 }, sum3 = { 0 };
    for (size_t at = 0; at < k->len; at += 256) {
        const lanes_64 *block = (const void *)(k->from + at);
        sum0 += block[0];
        sum1 += block[1];
        sum2 += block[2];
        sum3 += block[3];
    }
    lanes_64 sum = sum0 + sum1 + sum2 + sum3;
    sink = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

static void validate(const struct kernels *k)
{
    uint32_t state = 0;
    sink = k->simd->utf8(&state, k->from, k->len);
}

/* Repeat for a slice. */
static int repeat(const struct kernels *k, void (*once)(const struct kernels *), struct wsr_row_measure *out)
{
    size_t calls = CALLS_PER_CLOCK_BYTES / (k->len + 64) + 1;
    uint64_t done = 0, begin_ns = wsr_clock_now(), elapsed_ns;
    uint64_t cpu_ns = wsr_clock_read(CLOCK_THREAD_CPUTIME_ID);
    do {
        for (size_t i = 0; i < calls; i++)
            once(k);
        done += calls;
        elapsed_ns = wsr_clock_now() - begin_ns;
    } while (elapsed_ns < k->slice_ns);
    /* By CPU time: others may have had the CPU meanwhile, and a kernel waits for nobody. */
    cpu_ns = wsr_clock_read(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
    out->value = (double)(done * k->len) * 1e9 / (double)cpu_ns;
    out->client_busy = (double)cpu_ns / (double)elapsed_ns;
    return 0;
}

static int run_copy(void *context, struct wsr_row_measure *out)
{
    return repeat(context, copy, out);
}

static int run_mask_copy(void *context, struct wsr_row_measure *out)
{
    return repeat(context, mask_copy, out);
}

static int run_read(void *context, struct wsr_row_measure *out)
{
    return repeat(context, HAS_64 ? read_once_64 : read_once_32, out);
}

static int run_validate(void *context, struct wsr_row_measure *out)
{
    return repeat(context, validate, out);
}

static int run_other(void *context, struct wsr_row_measure *out)
{
    const struct kernels *k = context;
    return wsr_other_run(k->other, k->from, k->len, k->slice_ns, out);
}

static int mask_rows(const struct wsr_table *table, struct kernels *k)
{
    static const size_t sizes[] = { 64, 128, 256, 1024, 4096, 16384, 65536, 262144, BYTES_MAX };
    int rc = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && rc == 0; i++) {
        struct wsr_row row = {
            .what = "masking while copying", .unit = WSR_ROW_BYTES_PER_S, .reach = 0.95, .context = k,
            .sides = { { k->simd->name, run_mask_copy }, { "memcpy", run_copy } }
        };
        snprintf(row.name, sizeof row.name, "mask-%zu", sizes[i]);
        k->len = sizes[i];
        rc = wsr_row_measure(table, &row);
    }
    return rc;
}

/* Whole copies of @pattern, then spaces. */
static void fill_pattern(uint8_t *to, size_t len, const char *pattern)
{
    size_t bytes = strlen(pattern), used = 0;
    for (; used + bytes <= len; used += bytes)
        memcpy(to + used, pattern, bytes);
    memset(to + used, ' ', len - used);
}

#define ASCII_TEXT "{\"price\":1.25,\"size\":100}"
#define MIXED_TEXT "Gr\xc3\xbc\xc3\x9f" "e \xd0\x9c\xd0\xb8\xd1\x80 \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x98\x80! "

static int utf8_rows(const struct wsr_table *table, struct kernels *k)
{
    static const struct {
        const char *name, *what, *pattern;
        size_t len;
        double reach;
    } cases[] = {
        { "utf8-ascii-4096", "UTF-8 validation, ASCII", ASCII_TEXT, 4096, 0.90 },
        { "utf8-ascii-65536", "UTF-8 validation, ASCII", ASCII_TEXT, 65536, 0.90 },
        { "utf8-ascii-1048576", "UTF-8 validation, ASCII", ASCII_TEXT, BYTES_MAX, 0.90 },
        { "utf8-mixed-4096", "UTF-8 validation, mixed text", MIXED_TEXT, 4096, 0.13 },
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0] && rc == 0; i++) {
        struct wsr_row row = {
            .what = cases[i].what, .unit = WSR_ROW_BYTES_PER_S, .reach = cases[i].reach, .context = k,
            .sides = { { k->simd->name, run_validate }, { "read once", run_read } }
        };
        snprintf(row.name, sizeof row.name, "%s", cases[i].name);
        k->len = cases[i].len;
        fill_pattern(k->from, k->len, cases[i].pattern);
        rc = wsr_row_measure(table, &row);
    }
    return rc;
}

/* Against another validator, when there is one. */
static int other_rows(const struct wsr_table *table, struct kernels *k)
{
    static const size_t sizes[] = { 4096, 65536, BYTES_MAX };
    struct wsr_other other = { .child = -1 };
    int rc = 0;
    if (table->utf8_other == NULL)
        return 0;
    if (wsr_other_open(&other, table->utf8_other) < 0)
        return -1;
    k->other = &other;
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0] && rc == 0; i++) {
        bool mixed = i % 2 == 0;
        struct wsr_row row = {
            .what = mixed ? "UTF-8 validation, mixed text" : "UTF-8 validation, ASCII", .unit = WSR_ROW_BYTES_PER_S,
            .reach = 1.0, .context = k, .sides = { { k->simd->name, run_validate }, { "utf-8-validate", run_other } }
        };
        k->len = sizes[i / 2];
        snprintf(row.name, sizeof row.name, "utf8-npm-%s-%zu", mixed ? "mixed" : "ascii", k->len);
        fill_pattern(k->from, k->len, mixed ? MIXED_TEXT : ASCII_TEXT);
        rc = wsr_row_measure(table, &row);
    }
    wsr_other_close(&other);
    return rc;
}

int wsr_kernels_rows(const struct wsr_table *table)
{
    uint8_t *from = aligned_alloc(4096, BYTES_MAX + 4096);
    struct kernels k = { .to = aligned_alloc(4096, BYTES_MAX), .slice_ns = table->slice_ns / 8, .simd = wsr_simd() };
    int rc = -1;
    if (k.to != NULL && from != NULL) {
        /* Not at the same place of a page: CPUs take a load for one of what was just stored there, and both sides then
         * measure how long they take to find out. */
        k.from = from + FROM_OFFSET;
        memset(k.to, 1, BYTES_MAX);
        memset(k.from, 2, BYTES_MAX);
        rc = mask_rows(table, &k);
        if (rc == 0)
            rc = utf8_rows(table, &k);
        if (rc == 0)
            rc = other_rows(table, &k);
    }
    free(k.to);
    free(from);
    return rc;
}
