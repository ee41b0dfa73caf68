/* SPDX-License-Identifier: MIT */
#include "work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/json.h"
#include "bench/micro/proc.h"

#define STATUS_USAGE 2
#define SAMPLES_MAX (1u << 20)
#define FEW_PART 3u                   /* by then, pools that do not grow with the connections have been touched */

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t wsr_work_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static bool read_kind(const char *word, enum wsr_work_kind *kind)
{
    static const char *const names[] = {
        [WSR_WORK_ROUNDTRIP] = "roundtrip", [WSR_WORK_INGEST] = "ingest", [WSR_WORK_ECHO] = "echo",
        [WSR_WORK_MEMORY] = "memory"
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(word, names[i]) == 0) {
            *kind = (enum wsr_work_kind)i;
            return true;
        }
    }
    return false;
}

void wsr_work_read(struct wsr_work *work, int argc, char **argv)
{
    uint64_t numbers[7] = { 0 };
    *work = (struct wsr_work){ .kind = WSR_WORK_ECHO };
    bool ok = (argc == 9 || argc == 10) && read_kind(argv[1], &work->kind);
    for (int i = 3; ok && i < 9; i++) {
        char *end;
        numbers[i - 3] = strtoull(argv[i], &end, 10);
        ok = *end == '\0' && end != argv[i];
    }
    if (!ok || numbers[0] > UINT16_MAX || numbers[1] < 1 || numbers[1] > 100000 || numbers[2] < 1 ||
        numbers[2] > WSR_WORK_SIZE_MAX || numbers[3] < 1 || numbers[3] > 1024) {
        fprintf(stderr, "usage: %s roundtrip|ingest|echo|memory HOST PORT CONNECTIONS SIZE IN_FLIGHT WARMUP_MS "
                        "DURATION_MS [CA_FILE]\n\nWith CA_FILE over TLS.\n", argv[0]);
        exit(STATUS_USAGE);
    }
    work->host = argv[2];
    work->port = (uint16_t)numbers[0];
    work->ca_file = argv[9];          /* NULL ends them */
    work->connections_count = (uint32_t)numbers[1];
    work->size_bytes = (uint32_t)numbers[2];
    work->in_flight = (uint32_t)numbers[3];
    work->warmup_ns = numbers[4] * 1000000;
    work->duration_ns = numbers[5] * 1000000;
    if (work->kind != WSR_WORK_ROUNDTRIP)
        return;
    work->samples = malloc(SAMPLES_MAX * sizeof *work->samples);
    if (work->samples == NULL)
        wsr_work_fail("samples", "no memory");
}

void wsr_work_begin(struct wsr_work *work)
{
    work->warm_ns = wsr_work_now() + work->warmup_ns;
    work->end_ns = work->warm_ns + work->duration_ns;
}

static bool goes_on_at(struct wsr_work *work, uint64_t now_ns)
{
    if (!work->measures && now_ns >= work->warm_ns) {
        work->measures = true;
        work->messages_before = work->messages;
        work->begin_cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID);
        work->begin_ns = wsr_work_now();
        work->end_ns = work->begin_ns + work->duration_ns;
    }
    return now_ns < work->end_ns;
}

bool wsr_work_goes_on(struct wsr_work *work)
{
    return goes_on_at(work, wsr_work_now());
}

bool wsr_work_note_trip(struct wsr_work *work, uint64_t then_ns, uint64_t now_ns)
{
    work->messages++;
    if (work->measures && work->samples_count < SAMPLES_MAX)
        work->samples[work->samples_count++] = (uint32_t)(now_ns - then_ns);
    return goes_on_at(work, now_ns);
}

/* ---- Memory: anonymous pages that were touched, heap included; not the kernel's ---- */

static uint64_t read_memory(void)
{
    double bytes = wsr_proc_bytes("/proc/self/smaps_rollup", "Anonymous:");
    if (bytes < 0)
        wsr_work_fail("memory", "/proc/self/smaps_rollup cannot be read");
    return (uint64_t)bytes;
}

uint32_t wsr_work_few(const struct wsr_work *work)
{
    uint32_t few = work->connections_count / FEW_PART;
    return few > 0 ? few : 1;
}

void wsr_work_look_at_memory(struct wsr_work *work)
{
    work->memory_before_bytes = read_memory();
    work->memory_before_count = wsr_work_few(work);
}

/* ---- The end ---- */

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void write_slice(struct wsr_work *work, struct wsr_json *json)
{
    uint64_t cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID) - work->begin_cpu_ns;
    uint64_t elapsed_ns = wsr_work_now() - work->begin_ns;
    wsr_json_count(json, "messages", work->messages - work->messages_before);
    wsr_json_number(json, "seconds", (double)elapsed_ns / 1e9);
    wsr_json_number(json, "cpu_seconds", (double)cpu_ns / 1e9);
    if (work->samples_count == 0)
        return;
    qsort(work->samples, work->samples_count, sizeof work->samples[0], by_size);
    wsr_json_count(json, "p50_ns", work->samples[work->samples_count / 2]);
}

void wsr_work_end(struct wsr_work *work, const char *library, const char *way)
{
    struct wsr_json json = { .to = stdout };
    wsr_json_open(&json, NULL, '{');
    if (work->kind == WSR_WORK_MEMORY) {
        wsr_json_count(&json, "memory_after_bytes", read_memory());
        wsr_json_count(&json, "memory_before_bytes", work->memory_before_bytes);
        wsr_json_count(&json, "connections", work->connections_count - work->memory_before_count);
    } else {
        write_slice(work, &json);
    }
    wsr_json_text(&json, "library", library);
    wsr_json_text(&json, "way", way);
    wsr_json_close(&json, '}');
    putchar('\n');
    fflush(stdout);
    /* The server's measurement ends with the connections: at once. */
    _exit(0);
}

void wsr_work_fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}
