/* wsring-micro: the figures that the design is to reach, each next to its reference, measured in one run.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench/machine.h"
#include "bench/option.h"
#include "network.h"
#include "peer.h"
#include "simd/simd.h"
#include "wsring.h"

#define STATUS_FAILED 1
#define STATUS_USAGE 2
#define WINDOW_BYTES (1u << 20)

struct options {
    const char *row;
    const char *json;
    const char *utf8_other;
    uint64_t rounds;
    uint64_t window;
    bool quick;
};

#define AT(member) offsetof(struct options, member)

static const struct wsr_option table_of_options[] = {
    { .name = "quick", .kind = WSR_OPTION_SWITCH, .offset = AT(quick), .help = "short slices: for trying things out" },
    { .name = "row", .value = "NAME", .kind = WSR_OPTION_TEXT, .offset = AT(row),
      .help = "only this row, or rows by pattern, as 'ingest*' (all)" },
    { .name = "rounds", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = WSR_ROW_ROUNDS_MAX,
      .offset = AT(rounds), .help = "rounds of each row (11; with --quick 7)" },
    { .name = "window", .value = "BYTES", .kind = WSR_OPTION_BYTES, .min = 0, .max = 1u << 30, .offset = AT(window),
      .help = "receive window of every connection; 0 = the machine's (1 MiB)" },
    { .name = "json", .value = "FILE", .kind = WSR_OPTION_TEXT, .offset = AT(json),
      .help = "write the figures there too" },
    { .name = "utf8-other", .value = "COMMAND", .kind = WSR_OPTION_TEXT, .offset = AT(utf8_other),
      .help = "another UTF-8 validator, for utf8-npm-*: see bench/micro/utf8-npm" },
    { .name = NULL }
};

static int (*const groups[])(const struct wsr_table *) = {
    wsr_memory_rows, wsr_opening_rows, wsr_connections_rows,
    wsr_roundtrip_rows, wsr_ingest_rows, wsr_echoload_rows, wsr_waits_rows, wsr_hop_rows,
    wsr_deflate_rows, wsr_kernels_rows,
};
#define GROUPS_COUNT (sizeof groups / sizeof groups[0])

static void write_help(FILE *to)
{
    fprintf(to, "usage: wsring-micro [OPTION...]\n\n"
                "Measures the engine against what this machine can do at best, in turns, and prints ratios of the\n"
                "same round: median, (least to most), what is to be reached, and ok or short; at the end all rows\n"
                "again in one table, for pasting. Figures never make it fail. Rows: memory memory-deflate\n"
                "memory-deflate-alone memory-deflate-9 memory-deflate-15 memory-deflate-rest memory-wss-direct\n"
                "memory-wss-kernel memory-wss-library opening opening-direct opening-wss opening-wss-resumed\n"
                "connections connections-wss\n"
                "roundtrip roundtrip-wss roundtrip-wss-library ingest-1 ingest-1-text ingest-1000\n"
                "ingest-wss-1 ingest-wss-1-library ingest-wss-small ingest-wss-small-library\n"
                "inflate-SIZE inflate-alone-SIZE deflate-SIZE deflate-alone-SIZE\n"
                "echo echo-deep wait-roundtrip wait-echo hop-stream hop-latency mask-SIZE utf8-ascii-SIZE\n"
                "utf8-mixed-SIZE utf8-npm-ascii-SIZE utf8-npm-mixed-SIZE\n\n");
    wsr_option_write_help(to, table_of_options);
}

static void read_load(char *out, size_t size)
{
    FILE *file = fopen("/proc/loadavg", "re");
    out[0] = '\0';
    if (file != NULL && fgets(out, (int)size, file) == NULL)
        out[0] = '\0';
    if (file != NULL)
        fclose(file);
    out[strcspn(out, "\n")] = '\0';
}

static void tell_machine(const char *window, struct wsr_json *json, char *sentence, size_t size)
{
    struct wsr_machine machine;
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    char load[64];
    int client_cpu, server_cpu;
    wsr_machine_read(&machine);
    wsr_diagnose(&diagnosis);
    read_load(load, sizeof load);
    wsr_peer_cpus(&client_cpu, &server_cpu);
    printf("kernel    %s\ncpu       %s, %u cores, client on %d, server on %d%s\n", machine.kernel, machine.cpu,
           machine.cpus, client_cpu, server_cpu, client_cpu == server_cpu ? ": ONE FOR BOTH, worth little" : "");
    printf("simd      %s\nio_uring  %s\nmissing   %s\nwindow    %s\nload      %s\n\n", wsr_simd()->name,
           diagnosis.io_uring ? diagnosis.features : diagnosis.io_uring_text,
           diagnosis.missing[0] != '\0' ? diagnosis.missing : "nothing", window, load);
    fflush(stdout);
    snprintf(sentence, size,
             "Linux %s, %s, %u CPUs (client on %d, server on %d), %s, io_uring with `%s`, receive window %s, load %s.",
             machine.kernel, machine.cpu, machine.cpus, client_cpu, server_cpu, wsr_simd()->name, diagnosis.features,
             window, load);
    if (json == NULL)
        return;
    wsr_json_open(json, "machine", '{');
    wsr_json_text(json, "kernel", machine.kernel);
    wsr_json_text(json, "cpu", machine.cpu);
    wsr_json_text(json, "governor", machine.governor);
    wsr_json_count(json, "cores", machine.cpus);
    wsr_json_text(json, "simd", wsr_simd()->name);
    wsr_json_text(json, "io_uring", diagnosis.features);
    wsr_json_text(json, "missing", diagnosis.missing);
    wsr_json_text(json, "window", window);
    wsr_json_text(json, "load", load);
    wsr_json_close(json, '}');
}

/* Says in @text what receive window holds. */
static void enclose(uint64_t window_bytes, char *text, size_t size)
{
    const char *why = window_bytes > 0 ? wsr_network_enclose(window_bytes) : "as asked for";
    if (why[0] == '\0')
        snprintf(text, size, "%llu bytes for every connection", (unsigned long long)window_bytes);
    else
        snprintf(text, size, "the machine's (%s)", why);
}

static int run(const struct options *options, struct wsr_json *json)
{
    static struct wsr_summary summary;
    struct wsr_table table = {
        .quick = options->quick,
        .rounds_count = options->rounds > 0 ? (uint32_t)options->rounds : options->quick ? 7 : 11,
        .slice_ns = options->quick ? 60000000 : 400000000,
        .warmup_ns = options->quick ? 30000000 : 80000000,
        .wanted = options->row,
        .json = json,
        .utf8_other = options->utf8_other,
        .summary = &summary
    };
    int client_cpu, server_cpu, status = 0;
    char window[128];
    if (json != NULL)
        wsr_json_open(json, NULL, '{');
    wsr_peer_cpus(&client_cpu, &server_cpu);
    enclose(options->window, window, sizeof window);
    tell_machine(window, json, summary.machine, sizeof summary.machine);
    wsr_peer_pin(client_cpu);
    if (json != NULL)
        wsr_json_open(json, "rows", '[');
    for (size_t i = 0; i < GROUPS_COUNT; i++) {
        if (groups[i](&table) < 0)
            status = STATUS_FAILED;
    }
    if (json != NULL) {
        wsr_json_close(json, ']');
        wsr_json_close(json, '}');
    }
    wsr_summary_print(&summary);
    return status;
}

int main(int argc, char **argv)
{
    struct options options = { .window = WINDOW_BYTES };
    struct wsr_option_result parsed;
    if (wsr_option_parse(table_of_options, argc - 1, argv + 1, &options, &parsed) != 0 || parsed.operands.count > 0) {
        fprintf(stderr, "wsring-micro: %s\n", parsed.error[0] != '\0' ? parsed.error : "there are only options");
        write_help(stderr);
        return STATUS_USAGE;
    }
    if (parsed.wants_help) {
        write_help(stdout);
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    wsr_machine_raise_files();
    if (options.json == NULL)
        return run(&options, NULL);
    struct wsr_json json = { .to = fopen(options.json, "we") };
    if (json.to == NULL) {
        fprintf(stderr, "wsring-micro: %s: %s\n", options.json, strerror(errno));
        return STATUS_USAGE;
    }
    int status = run(&options, &json);
    fputc('\n', json.to);
    if (fclose(json.to) != 0) {
        fprintf(stderr, "wsring-micro: %s: %s\n", options.json, strerror(errno));
        status = STATUS_FAILED;
    }
    return status;
}
