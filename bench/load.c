/* wsring load: options, the conductor that starts and stops the lanes, and the sum of what they found.
 * SPDX-License-Identifier: MIT
 */
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "load_live.h"
#include "load_tls.h"
#include "machine.h"
#include "report.h"

#define LANES_MAX 256u
#define FILES_PER_LANE 8u
#define FILES_BESIDE 32u
#define TICK_NS 10000000
#define NS_PER_S 1000000000ull

static const char *const outputs[] = { "text", "json", NULL };
static const char *const waits[] = { "default", "block", "spin", "adaptive", NULL };      /* as enum wsr_wait */

#define AT(member) offsetof(struct wsr_load_options, member)

static const struct wsr_option table[] = {
    { .name = "connections", .letter = 'c', .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = 10000000,
      .offset = AT(connections), .help = "connections over all threads (64)" },
    { .name = "threads", .letter = 't', .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = LANES_MAX,
      .offset = AT(threads), .help = "threads, each with an inline engine of its own (1)" },
    { .name = "inline", .kind = WSR_OPTION_SWITCH, .offset = AT(is_inline),
      .help = "inline engines; the default, as it costs least" },
    { .name = "workers", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = LANES_MAX, .offset = AT(workers),
      .help = "instead: one engine with COUNT workers, and a consumer thread for each of its rings" },
    { .name = "duration", .letter = 'd', .value = "TIME", .kind = WSR_OPTION_DURATION, .min = 1000000,
      .max = 365ull * 86400 * NS_PER_S, .offset = AT(duration_ns), .help = "how long to send (10s)" },
    { .name = "messages", .letter = 'n', .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = UINT64_MAX >> 8,
      .offset = AT(messages), .help = "instead, or whichever is over first: how many to send over all connections" },
    { .name = "size", .letter = 's', .value = "SIZE", .kind = WSR_OPTION_BYTES, .max = 128u << 20,
      .offset = AT(message_bytes), .help = "bytes of each message (64)" },
    { .name = "fragment", .value = "SIZE", .kind = WSR_OPTION_BYTES, .min = 1, .max = 128u << 20,
      .offset = AT(fragment_bytes), .help = "payload of a frame: larger messages leave in several (no limit)" },
    { .name = "in-flight", .letter = 'p', .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = 65536,
      .offset = AT(in_flight), .help = "messages that each connection keeps unanswered (1)" },
    { .name = "binary", .kind = WSR_OPTION_SET, .min = WSR_BINARY, .offset = AT(kind),
      .help = "binary messages (default)" },
    { .name = "text", .kind = WSR_OPTION_SET, .min = WSR_TEXT, .offset = AT(kind),
      .help = "text of two- to four-byte characters" },
    { .name = "json", .kind = WSR_OPTION_SWITCH, .offset = AT(is_json),
      .help = "text like that of exchanges, which compresses well" },
    { .name = "deflate", .value = "PARAMETERS", .kind = WSR_OPTION_OPTIONAL, .offset = AT(deflate),
      .help = "offer permessage-deflate with such parameters as \"client_no_context_takeover\" (no offer; without\n"
              "                              PARAMETERS as browsers do: client_max_window_bits)" },
    { .name = "deflate-level", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = 9,
      .offset = AT(deflate_level), .help = "of zlib, from fastest to smallest (6)" },
    { .name = "deflate-min", .value = "SIZE", .kind = WSR_OPTION_BYTES, .min = 1, .max = UINT32_MAX - 1,
      .offset = AT(deflate_min_bytes), .help = "smaller messages are sent as they are (the engine's default)" },
    { .name = "header", .letter = 'H', .value = "'K: V'", .kind = WSR_OPTION_LIST, .offset = AT(headers),
      .help = "request header; repeatable" },
    { .name = "subprotocol", .value = "NAME", .kind = WSR_OPTION_LIST, .offset = AT(subprotocols),
      .help = "subprotocol to offer; repeatable, best first" },
    { .name = "connect-rate", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = 10000000,
      .offset = AT(connect_rate), .help = "connections to open per second (no limit)" },
    { .name = "connect-to", .value = "ADDRESS:PORT", .kind = WSR_OPTION_TEXT, .offset = AT(connect_to),
      .help = "connect there, while the request names the URL's host" },
    { .name = "source", .value = "ADDRESS,...", .kind = WSR_OPTION_TEXT, .offset = AT(source),
      .help = "addresses to connect from, in turn" },
    { .name = "direct", .kind = WSR_OPTION_SWITCH, .offset = AT(direct),
      .help = "direct descriptors: the limit of open files is one for each thread or worker, not for all" },
    { .name = "open-timeout", .value = "TIME", .kind = WSR_OPTION_DURATION, .min = 1000000, .max = 86400 * NS_PER_S,
      .offset = AT(open_timeout_ns), .help = "look-up, TCP, TLS and upgrade together (30s)" },
    { .name = "drain-timeout", .value = "TIME", .kind = WSR_OPTION_DURATION, .min = 1000000, .max = 86400 * NS_PER_S,
      .offset = AT(drain_timeout_ns), .help = "how long to wait for the last answers (5s)" },
    { .name = "wait", .value = "block|spin|adaptive", .kind = WSR_OPTION_CHOICE, .words = waits, .offset = AT(wait),
      .help = "how the engine waits (block)" },
    { .name = "batch", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = 256, .offset = AT(batch_count),
      .help = "completions that end a sleep together: throughput before latency (1)" },
    { .name = "batch-wait", .value = "TIME", .kind = WSR_OPTION_DURATION, .min = 1000, .max = NS_PER_S,
      .offset = AT(batch_ns), .help = "with --batch: how long to wait for them (50us)" },
    { .name = "napi", .value = "TIME", .kind = WSR_OPTION_DURATION, .min = 1000, .max = NS_PER_S,
      .offset = AT(napi_ns), .help = "NAPI busy poll before a sleep, where kernel and NIC have it (none)" },
    { .name = "buffers", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 2, .max = 32768,
      .offset = AT(buffers_count), .help = "receive buffers of each engine or worker (the engine's default)" },
    { .name = "buffer-bytes", .value = "SIZE", .kind = WSR_OPTION_BYTES, .min = 256, .max = 1 << 20,
      .offset = AT(buffer_bytes), .help = "of each (the engine's default)" },
    { .name = "server-pid", .value = "PID", .kind = WSR_OPTION_COUNT, .min = 1, .max = INT32_MAX,
      .offset = AT(server_pid), .help = "process of the server when it is on this machine: tells its CPU" },
    { .name = "seed", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = UINT32_MAX, .offset = AT(seed),
      .help = "makes the payloads of a run the same again (from the clock)" },
    { .name = "output", .letter = 'o', .value = "text|json", .kind = WSR_OPTION_CHOICE, .words = outputs,
      .offset = AT(output), .help = "form of the report (text)" },
    { .name = "cacert", .value = "FILE", .kind = WSR_OPTION_TEXT, .offset = AT(ca_file),
      .help = "wss: authorities to trust, in PEM (the system's)" },
    { .name = "capath", .value = "DIR", .kind = WSR_OPTION_TEXT, .offset = AT(ca_directory),
      .help = "wss: the same, one file each, named by openssl rehash" },
    { .name = "crl", .value = "FILE", .kind = WSR_OPTION_TEXT, .offset = AT(crl_file),
      .help = "wss: lists of revoked certificates, in PEM; one of every issuer (none)" },
    { .name = "cert", .value = "FILE", .kind = WSR_OPTION_TEXT, .offset = AT(certificate_file),
      .help = "wss: certificate of the client, in PEM, its chain behind it (none)" },
    { .name = "key", .value = "FILE", .kind = WSR_OPTION_TEXT, .offset = AT(key_file),
      .help = "wss: its key, in PEM, not encrypted (in the file of --cert)" },
    { .name = "insecure", .kind = WSR_OPTION_SWITCH, .offset = AT(is_insecure),
      .help = "wss: check no certificate: whoever is in between can read and change all" },
    { .name = "sni", .value = "NAME", .kind = WSR_OPTION_TEXT, .offset = AT(tls_name),
      .help = "wss: name to ask for and to find in the certificate (the URL's host)" },
    { .name = "tls-min", .value = "1.2|1.3", .kind = WSR_OPTION_CHOICE, .words = wsr_load_tls_versions,
      .offset = AT(tls_min), .help = "wss: lowest version of TLS (1.2)" },
    { .name = "tls-max", .value = "1.2|1.3", .kind = WSR_OPTION_CHOICE, .words = wsr_load_tls_versions,
      .offset = AT(tls_max), .help = "wss: highest version of TLS (1.3)" },
    { .name = "ciphers", .value = "LIST", .kind = WSR_OPTION_TEXT, .offset = AT(ciphers),
      .help = "wss: cipher suites of TLS 1.2, in OpenSSL's notation (OpenSSL's choice)" },
    { .name = "ciphersuites", .value = "NAME:...", .kind = WSR_OPTION_TEXT, .offset = AT(ciphersuites),
      .help = "wss: those of TLS 1.3 (OpenSSL's choice)" },
    { .name = "tls-records", .value = "auto|library|kernel|direct", .kind = WSR_OPTION_CHOICE,
      .words = wsr_load_tls_records, .offset = AT(tls_records),
      .help = "wss: who opens and seals records: OpenSSL, the kernel, wsring with the same keys, or the best (auto)" },
    { .name = "no-resumption", .kind = WSR_OPTION_SWITCH, .offset = AT(no_resumption),
      .help = "wss: a full handshake for every connection" },
    { .name = "keylog", .value = "FILE", .kind = WSR_OPTION_TEXT, .offset = AT(key_log_file),
      .help = "wss: append all secrets to it, for Wireshark" },
    { .name = "quiet", .letter = 'q', .kind = WSR_OPTION_SWITCH, .offset = AT(quiet),
      .help = "no live line on standard error" },
    { .name = NULL },
};

static void write_help(void)
{
    printf("usage: wsring load [OPTION...] ws://HOST[:PORT]/PATH\n"
           "       wsring load [OPTION...] wss://HOST[:PORT]/PATH\n\n"
           "Sends messages to an echo server and verifies every byte that comes back. Closed loop: each connection\n"
           "keeps --in-flight messages unanswered. SIGINT or SIGTERM ends the run early, with its report; a second\n"
           "one quits at once. Ends with 0 when all was verified, 1 when anything failed, 2 for a wrong command\n"
           "line.\n\n");
    wsr_option_write_help(stdout, table);
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- Preparing ---- */

static int refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("wsring load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return -1;
}

/* "Name: value" to its two halves; the name in memory that lives until the program ends. */
static int split_headers(struct wsr_load_plan *plan, const struct wsr_option_list *headers)
{
    for (size_t i = 0; i < headers->count; i++) {
        const char *text = headers->items[i];
        const char *colon = strchr(text, ':');
        if (!colon)
            return refuse("-H takes 'NAME: VALUE', but was given \"%s\"", text);
        char *name = strndup(text, (size_t)(colon - text));
        if (!name)
            return refuse("no memory for the header \"%s\"", text);
        plan->headers[i] = (struct wsr_header){ name, colon + 1 + strspn(colon + 1, " \t") };
    }
    return 0;
}

static int split_sources(struct wsr_load_plan *plan, const char *text)
{
    char *list = text ? strdup(text) : NULL, *rest = list, *piece;
    while (rest && (piece = strsep(&rest, ",")) != NULL) {
        if (plan->sources_count == WSR_LOAD_SOURCES_MAX)
            return refuse("--source takes at most %d addresses", WSR_LOAD_SOURCES_MAX);
        plan->sources[plan->sources_count++] = piece;
    }
    return 0;
}

/* A table of direct descriptors is as large as the limit of open files. */
static int check_tables(const struct wsr_load_plan *plan, uint64_t files)
{
    const struct wsr_load_options *options = plan->options;
    uint64_t each = (options->connections + plan->lanes_count - 1) / plan->lanes_count;
    if (each <= files)
        return 0;
    return refuse("%" PRIu64 " direct descriptors for each of %u threads are more than the hard limit of open files, %"
                  PRIu64 ", which is that of each; give %s %" PRIu64 ", or raise it (as root: ulimit -Hn %" PRIu64 ")",
                  each, plan->lanes_count, files, options->workers > 0 ? "--workers" : "-t",
                  (options->connections + files - 1) / files, each);
}

/* What the kernel would refuse one connection at a time is said at once. */
static int check_limits(const struct wsr_load_plan *plan)
{
    const struct wsr_load_options *options = plan->options;
    uint64_t files = wsr_machine_raise_files();
    uint64_t beside = FILES_BESIDE + (uint64_t)plan->lanes_count * FILES_PER_LANE;
    if (options->direct) {
        if (check_tables(plan, files) < 0)
            return -1;
    } else if (options->connections + beside > files)
        return refuse("%" PRIu64 " connections need %" PRIu64 " open files, but the hard limit is %" PRIu64
                      "; raise it (as root: ulimit -Hn %" PRIu64 ") or give -c %" PRIu64,
                      options->connections, options->connections + beside, files, options->connections + beside,
                      files > beside ? files - beside : 1);
    struct wsr_machine machine;
    wsr_machine_read(&machine);
    uint64_t ports = wsr_machine_ports(&machine);
    uint64_t sources = plan->sources_count > 0 ? plan->sources_count : 1;
    if (ports > 0 && options->connections > ports * sources)
        return refuse("%" PRIu64 " connections to one address need as many ports, but the range %u to %u has %" PRIu64
                      " per source address; give more with --source A,B,... or widen net.ipv4.ip_local_port_range",
                      options->connections, machine.port_first, machine.port_last, ports);
    if (ports > 0 && options->connections > ports * sources / 2 && !options->quiet)
        fprintf(stderr,
                "wsring load: beyond %" PRIu64 " connections from one source address Linux searches long for a free "
                "port; --source A,B,... opens faster\n",
                ports / 2);
    return 0;
}

static int prepare_deflate(struct wsr_load_plan *plan, struct wsr_load_options *options)
{
    if (!options->deflate && (options->deflate_level > 0 || options->deflate_min_bytes > 0))
        return refuse("--deflate-level and --deflate-min are for compression: give --deflate too");
    if (options->is_json)
        options->kind = WSR_TEXT;
    if (!options->deflate)
        return 0;
    const char *parameters = options->deflate[0] ? options->deflate : "client_max_window_bits";
    int len = snprintf(plan->deflate, sizeof plan->deflate, "permessage-deflate; %s", parameters);
    return len < (int)sizeof plan->deflate ? 0 : refuse("the parameters of --deflate are longer than 490 characters");
}

static int prepare(struct wsr_load_plan *plan, struct wsr_load_options *options)
{
    if (options->is_inline && options->workers > 0)
        return refuse("--inline and --workers exclude each other: give one of them");
    if (options->buffers_count & (options->buffers_count - 1))
        return refuse("--buffers takes a power of two such as 512, but was given %" PRIu64, options->buffers_count);
    if (prepare_deflate(plan, options) < 0)
        return -1;
    char error[WSR_LOAD_TLS_ERROR_CHARS];
    if (wsr_load_tls_check(options, error) < 0)
        return refuse("%s", error);
    if (options->duration_ns == 0 && options->messages == 0)
        options->duration_ns = 10 * NS_PER_S;
    if (options->seed == 0)
        options->seed = (clock_ns() / 1000 ^ (uint64_t)getpid() << 16) & UINT32_MAX;
    uint64_t lanes = options->workers > 0 ? options->workers : options->threads;
    plan->lanes_count = (uint32_t)(lanes < options->connections ? lanes : options->connections);
    if (options->workers == 0)
        options->threads = plan->lanes_count;
    plan->options = options;
    if (split_headers(plan, &options->headers) < 0 || split_sources(plan, options->source) < 0 ||
        check_limits(plan) < 0)
        return -1;
    int rc = options->is_json ? wsr_payload_init_json(&plan->payload, options->message_bytes, (uint32_t)options->seed)
                              : wsr_payload_init(&plan->payload, (enum wsr_kind)options->kind, options->message_bytes,
                                                 (uint32_t)options->seed);
    if (rc < 0)
        return refuse("no memory for messages of %" PRIu64 " bytes; give a smaller --size", options->message_bytes);
    return 0;
}

/* ---- Conducting ---- */

struct conductor {
    struct wsr_load_plan *plan;
    struct wsr_load_lane *lanes;
    struct wsr_engine *engine;        /* of a threaded run */
    struct wsr_load_live_line line;
    struct wsr_machine_usage client[2];      /* at the start and at the end of the window */
    struct wsr_machine_usage server[2];
    bool server_is_known;
    bool interrupted;
};

static uint32_t lowest_phase(const struct conductor *k)
{
    uint32_t lowest = WSR_LOAD_DONE;
    for (uint32_t i = 0; i < k->plan->lanes_count; i++) {
        /* Acquire: pairs with the release store in enter_phase() of load_lane.c. */
        uint32_t phase = atomic_load_explicit(&k->lanes[i].live.phase, memory_order_acquire);
        lowest = phase < lowest ? phase : lowest;
    }
    return lowest;
}

static void command(struct conductor *k, enum wsr_load_command what)
{
    /* Release: pairs with the acquire load in step() of load_lane.c. */
    atomic_store_explicit(&k->plan->command, (uint32_t)what, memory_order_release);
}

/* A signal ends the sending; the second ends the program. */
static void take_signal(struct conductor *k)
{
    if (k->interrupted) {
        fputs("\nwsring load: quits at once, without a report\n", stderr);
        _exit(WSR_COMMAND_FAILED);
    }
    k->interrupted = true;
    command(k, WSR_LOAD_DRAIN);
}

/* Until every lane has come to @phase. */
static void wait_for(struct conductor *k, enum wsr_load_phase phase, const sigset_t *ends)
{
    const struct timespec tick = { .tv_nsec = TICK_NS };
    while (lowest_phase(k) < (uint32_t)phase) {
        if (sigtimedwait(ends, NULL, &tick) > 0)
            take_signal(k);
        wsr_load_live_line_show(&k->line, k->lanes, k->plan->lanes_count, clock_ns());
    }
}

static void look(struct conductor *k, int at)
{
    const struct wsr_load_options *options = k->plan->options;
    (void)wsr_machine_usage(&k->client[at], (uint64_t)getpid());      /* /proc without us: then the CPU is told as 0 */
    k->server_is_known = options->server_pid > 0 && wsr_machine_usage(&k->server[at], options->server_pid) &&
                         (at == 0 || k->server_is_known);
}

static void conduct(struct conductor *k, const sigset_t *ends)
{
    const struct wsr_load_options *options = k->plan->options;
    wait_for(k, WSR_LOAD_READY, ends);
    look(k, 0);
    uint64_t until_ns = options->duration_ns > 0 ? clock_ns() + options->duration_ns : UINT64_MAX;
    /* Relaxed: the release store of the command, which follows, orders it. */
    atomic_store_explicit(&k->plan->until_ns, until_ns, memory_order_relaxed);
    if (!k->interrupted)
        command(k, WSR_LOAD_RUN);
    wait_for(k, WSR_LOAD_DRAINING, ends);
    look(k, 1);
    wait_for(k, WSR_LOAD_DONE, ends);
    wsr_load_live_line_end(&k->line);
}

static void share_out(struct conductor *k)
{
    const struct wsr_load_plan *plan = k->plan;
    uint64_t each = plan->options->connections / plan->lanes_count;
    uint64_t rest = plan->options->connections % plan->lanes_count;
    uint64_t first = 0;
    for (uint32_t i = 0; i < plan->lanes_count; i++) {
        uint64_t count = each + (i < rest ? 1 : 0);
        k->lanes[i].plan = k->plan;
        k->lanes[i].engine = k->engine;
        k->lanes[i].index = i;
        k->lanes[i].first_connection = (uint32_t)first;
        k->lanes[i].connections_count = (uint32_t)count;
        first += count;
    }
}

/* ---- Summing up ---- */

static void add_counts(struct wsr_load_counts *to, const struct wsr_load_counts *from)
{
    to->opened += from->opened;
    to->failed += from->failed;
    to->broken += from->broken;
    to->closed_clean += from->closed_clean;
    to->closed_unclean += from->closed_unclean;
    to->sent += from->sent;
    to->verified += from->verified;
    to->lost += from->lost;
    to->duplicated += from->duplicated;
    to->reordered += from->reordered;
    to->corrupted += from->corrupted;
    to->foreign += from->foreign;
    to->quota_waits += from->quota_waits;
    to->send_errors += from->send_errors;
    to->sent_in_window += from->sent_in_window;
    to->verified_in_window += from->verified_in_window;
}

static void add_statistics(struct wsr_engine_statistics *to, const struct wsr_engine_statistics *from)
{
    memcpy(to->driver, from->driver, sizeof to->driver);
    memcpy(to->features, from->features, sizeof to->features);
    memcpy(to->simd, from->simd, sizeof to->simd);
    to->sockets_opened += from->sockets_opened;
    to->sockets_failed += from->sockets_failed;
    to->messages_received += from->messages_received;
    to->messages_sent += from->messages_sent;
    to->wire_received_bytes += from->wire_received_bytes;
    to->wire_sent_bytes += from->wire_sent_bytes;
    to->messages_lent += from->messages_lent;
    to->messages_copied += from->messages_copied;
    to->buffers_count += from->buffers_count;
    to->buffers_exhausted += from->buffers_exhausted;
    to->rests += from->rests;
    to->sends += from->sends;
    to->short_sends += from->short_sends;
    to->turns += from->turns;
    to->completions += from->completions;
    to->pings_answered += from->pings_answered;
    to->tls_handshakes += from->tls_handshakes;
    to->tls_resumed += from->tls_resumed;
    to->tls_unverified += from->tls_unverified;
    to->tls_library += from->tls_library;
    to->tls_kernel += from->tls_kernel;
    to->tls_direct += from->tls_direct;
    to->deflate_messages_sent += from->deflate_messages_sent;
    to->deflate_sent_bytes += from->deflate_sent_bytes;
    to->deflate_sent_wire_bytes += from->deflate_sent_wire_bytes;
    to->deflate_given_up += from->deflate_given_up;
    to->deflate_messages_received += from->deflate_messages_received;
    to->deflate_received_bytes += from->deflate_received_bytes;
    to->deflate_received_wire_bytes += from->deflate_received_wire_bytes;
}

static void add_lane(struct wsr_report *report, const struct wsr_load_result *lane)
{
    add_counts(&report->counts, &lane->counts);
    add_statistics(&report->statistics, &lane->statistics);
    for (size_t i = 0; i < lane->reasons.count; i++)
        wsr_load_reasons_add(&report->reasons, &lane->reasons.items[i]);
    report->reasons.others += lane->reasons.others;
    if (lane->opening_ns > report->opening_ns)
        report->opening_ns = lane->opening_ns;
    if (lane->counts.opened > 0) {
        memcpy(report->protocol, lane->protocol, sizeof report->protocol);
        memcpy(report->extensions, lane->extensions, sizeof report->extensions);
        report->tls = lane->tls;
    }
}

static int add_lanes(struct wsr_report *report, struct conductor *k)
{
    uint64_t started_ns = UINT64_MAX, stopped_ns = 0;
    if (wsr_load_times_init(&report->times) < 0)
        return refuse("no memory for the report");
    for (uint32_t i = 0; i < k->plan->lanes_count; i++) {
        const struct wsr_load_result *lane = &k->lanes[i].result;
        add_lane(report, lane);
        wsr_load_times_merge(&report->times, &lane->times);
        if (lane->started_ns > 0 && lane->started_ns < started_ns)
            started_ns = lane->started_ns;
        if (lane->stopped_ns > stopped_ns)
            stopped_ns = lane->stopped_ns;
    }
    report->window_ns = stopped_ns > started_ns ? stopped_ns - started_ns : 0;
    return 0;
}

static void add_cpu(struct wsr_report *report, const struct conductor *k)
{
    report->client_user_ns = k->client[1].user_ns - k->client[0].user_ns;
    report->client_system_ns = k->client[1].system_ns - k->client[0].system_ns;
    report->client_busiest_ns = wsr_machine_busiest_ns(&k->client[0], &k->client[1]);
    report->machine_load = wsr_machine_load(&k->client[0], &k->client[1]);
    report->server_is_known = k->server_is_known;
    if (k->server_is_known) {
        report->server_ns = k->server[1].user_ns - k->server[0].user_ns;
        report->server_ns += k->server[1].system_ns - k->server[0].system_ns;
        report->server_busiest_ns = wsr_machine_busiest_ns(&k->server[0], &k->server[1]);
    }
}

static int status_of(int error)
{
    return error == WSR_ERR_SYNTAX || error == WSR_ERR_ARGUMENT ? WSR_COMMAND_USAGE : WSR_COMMAND_FAILED;
}

/* A lane that could not go on has said why: the run has no report then. Returns the exit status, or 0. */
static int fatal_status(const struct conductor *k)
{
    for (uint32_t i = 0; i < k->plan->lanes_count; i++) {
        const struct wsr_load_result *lane = &k->lanes[i].result;
        if (lane->fatal == 0)
            continue;
        refuse("%s (%s)", lane->fatal_text, wsr_error_name(lane->fatal));
        return status_of(lane->fatal);
    }
    return 0;
}

static int sum_up(struct conductor *k)
{
    struct wsr_report report = { .options = k->plan->options, .plan = k->plan, .interrupted = k->interrupted };
    int status = fatal_status(k);
    if (status != 0)
        return status;
    if (add_lanes(&report, k) < 0)
        return WSR_COMMAND_FAILED;
    if (k->engine) {
        report.statistics = (struct wsr_engine_statistics)WSR_ENGINE_STATISTICS_INIT;
        (void)wsr_engine_statistics(k->engine, &report.statistics);      /* cannot fail on a live engine */
    }
    wsr_machine_read(&report.machine);
    add_cpu(&report, k);
    report.limit = wsr_report_limit_of(&report);
    if (k->plan->options->output == WSR_LOAD_JSON)
        wsr_report_write_json(stdout, &report);
    else
        wsr_report_write_text(stdout, &report);
    status = wsr_report_fault(&report)[0] ? WSR_COMMAND_FAILED : WSR_COMMAND_OK;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        refuse("the report could not be written: %s", strerror(errno));
        status = WSR_COMMAND_FAILED;
    }
    wsr_load_times_free(&report.times);
    return status;
}

/* ---- The run ---- */

static int run_lanes(struct conductor *k)
{
    pthread_t threads[LANES_MAX];
    sigset_t ends;
    uint32_t started = 0;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);      /* inherited by all threads: only the conductor takes them */
    for (; started < k->plan->lanes_count; started++) {
        int error = pthread_create(&threads[started], NULL, wsr_load_lane_run, &k->lanes[started]);
        if (error != 0) {
            refuse("cannot start a thread: %s; give fewer --threads", strerror(error));
            _exit(WSR_COMMAND_FAILED);      /* the others wait for this one */
        }
    }
    conduct(k, &ends);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    int status = sum_up(k);
    for (uint32_t i = 0; i < started; i++)
        wsr_load_times_free(&k->lanes[i].result.times);
    return status;
}

static int run(struct wsr_load_plan *plan)
{
    struct conductor *k = calloc(1, sizeof *k);
    struct wsr_load_lane *lanes = calloc(plan->lanes_count, sizeof *lanes);
    int status = WSR_COMMAND_FAILED;
    if (!k || !lanes) {
        refuse("no memory for %u threads", plan->lanes_count);
        goto end;
    }
    *k = (struct conductor){ .plan = plan, .lanes = lanes };
    wsr_load_live_line_init(&k->line, plan->options);
    if (plan->options->workers > 0) {
        struct wsr_engine_options options = wsr_load_lane_engine_options(plan->options);
        int rc = wsr_engine_create(&k->engine, &options);
        if (rc < 0) {
            refuse("%s (%s)", wsr_error_text(), wsr_error_name(rc));
            status = status_of(rc);
            goto end;
        }
    }
    share_out(k);
    status = run_lanes(k);
    (void)wsr_engine_destroy(k->engine);      /* refuses only inside handlers; NULL is allowed */
end:
    free(k);
    free(lanes);
    return status;
}

int wsr_load_main(int argc, char **argv)
{
    static struct wsr_load_options options = {
        .connections = 64, .threads = 1, .message_bytes = 64, .in_flight = 1, .kind = WSR_BINARY,
        .wait = WSR_WAIT_BLOCK, .drain_timeout_ns = 5 * NS_PER_S,
    };
    static struct wsr_load_plan plan;
    struct wsr_option_result result;
    if (wsr_option_parse(table, argc, argv, &options, &result) < 0) {
        refuse("%s", result.error);
        return WSR_COMMAND_USAGE;
    }
    if (result.wants_help) {
        write_help();
        return WSR_COMMAND_OK;
    }
    if (result.operands.count != 1) {
        refuse(result.operands.count == 0 ? "a URL is missing, such as ws://127.0.0.1:8080/"
                                          : "more than one URL is given");
        return WSR_COMMAND_USAGE;
    }
    options.url = result.operands.items[0];
    if (prepare(&plan, &options) < 0)
        return WSR_COMMAND_USAGE;
    int status = run(&plan);
    wsr_payload_free(&plan.payload);
    return status;
}
