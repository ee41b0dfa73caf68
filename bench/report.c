/* The report for people, and what both reports conclude.
 * SPDX-License-Identifier: MIT
 */
#include "report.h"

#include <inttypes.h>
#include <string.h>

#include "load_tls.h"
#include "quantity.h"

#define SATURATED 0.95      /* share of one core from which a thread has nothing to spare */
#define LITTLE_TOLERANCE 0.05
#define LITTLE_WINDOW_MEANS 50.0      /* in a shorter window what is under way at its ends shows */

const double wsr_report_percentiles[WSR_REPORT_PERCENTILES] = { 50, 75, 90, 95, 99, 99.9, 99.99, 99.999 };

/* ---- Conclusions ---- */

double wsr_report_rate(const struct wsr_report *report, uint64_t count)
{
    return report->window_ns > 0 ? (double)count * 1e9 / (double)report->window_ns : 0.0;
}

double wsr_report_little_found(const struct wsr_report *report)
{
    double rate = wsr_report_rate(report, report->counts.verified_in_window);
    return rate * wsr_histogram_mean(&report->times.latency) / 1e9;
}

double wsr_report_little_asked(const struct wsr_report *report)
{
    return (double)report->counts.opened * (double)report->options->in_flight;
}

const char *wsr_report_little_text(const struct wsr_report *report)
{
    double found = wsr_report_little_found(report), asked = wsr_report_little_asked(report);
    if (found >= asked * (1 - LITTLE_TOLERANCE) && found <= asked * (1 + LITTLE_TOLERANCE))
        return "";
    if ((double)report->window_ns < LITTLE_WINDOW_MEANS * wsr_histogram_mean(&report->times.latency))
        return "they differ: the run is short against its latency";
    return "they differ: the count of messages, waits for the send queue or ended connections kept it down";
}

static double share(const struct wsr_report *report, uint64_t ns)
{
    return report->window_ns > 0 ? (double)ns / (double)report->window_ns : 0.0;
}

enum wsr_report_limit wsr_report_limit_of(const struct wsr_report *report)
{
    bool client = share(report, report->client_busiest_ns) >= SATURATED;
    bool server = report->server_is_known && share(report, report->server_busiest_ns) >= SATURATED;
    if (report->options->wait == WSR_WAIT_SPIN)
        return server ? WSR_REPORT_SERVER : WSR_REPORT_SPINS;
    if (client)
        return server ? WSR_REPORT_BOTH : WSR_REPORT_CLIENT;
    if (server)
        return WSR_REPORT_SERVER;
    if (report->machine_load >= SATURATED)
        return WSR_REPORT_MACHINE;
    return report->server_is_known ? WSR_REPORT_NEITHER : WSR_REPORT_UNKNOWN;
}

const char *wsr_report_limit_text(const struct wsr_report *report)
{
    switch (report->limit) {
    case WSR_REPORT_CLIENT:
        return "the client: a thread of it is at 100 % of a core, so the server can do more than this; add --threads";
    case WSR_REPORT_SERVER:
        return "the server: a thread of it is at 100 % of a core";
    case WSR_REPORT_BOTH:
        return "client and server both: each has a thread at 100 % of a core";
    case WSR_REPORT_NEITHER:
        return "neither: client and server have CPU to spare; more --connections or --in-flight would send more";
    case WSR_REPORT_SPINS:
        return "not known: a client that spins is at 100 % whatever it does; run with --wait block to see";
    case WSR_REPORT_MACHINE:
        return "the machine: no CPU is left, so the figures tell of whatever else runs here too";
    case WSR_REPORT_UNKNOWN:
        break;
    }
    return "not the client; the server's CPU is unknown (give --server-pid when it runs on this machine)";
}

const char *wsr_report_fault(const struct wsr_report *report)
{
    const struct wsr_load_counts *counts = &report->counts;
    if (counts->opened + counts->failed == 0)
        return "no connection was tried";
    if (counts->failed > 0)
        return "connections failed to open";
    if (counts->opened < report->options->connections)
        return "not every connection was tried";
    if (counts->broken > 0)
        return "connections ended before the run did";
    if (counts->corrupted > 0)
        return "messages came back corrupted";
    if (counts->foreign > 0)
        return "messages came back that this connection did not send";
    if (counts->duplicated > 0)
        return "messages came back more than once";
    if (counts->reordered > 0)
        return "messages came back out of order";
    if (counts->lost > 0)
        return "messages were not answered";
    if (counts->send_errors > 0)
        return "messages could not be sent";
    if (counts->verified == 0)
        return "nothing was verified";
    return "";
}

const char *wsr_report_stage_name(uint8_t stage)
{
    static const char *const names[] = { "none", "look-up", "connect", "TLS", "upgrade", "open", "closing", "proxy" };
    return stage < sizeof names / sizeof names[0] ? names[stage] : "unknown";
}

const char *wsr_report_wait_name(uint32_t wait)
{
    static const char *const names[] = { "block", "block", "spin", "adaptive" };
    return wait < sizeof names / sizeof names[0] ? names[wait] : "unknown";
}

/* ---- Text ---- */

static const char *ns_text(char *out, double ns)
{
    return wsr_quantity_write_ns(out, ns);
}

static const char *count_text(char *out, uint64_t value)
{
    return wsr_quantity_write_count(out, value);
}

/* Where the time of opening goes, over all connections that opened. */
static void write_steps(FILE *to, const struct wsr_load_times *times)
{
    static const char *const names[WSR_LOAD_STEPS_COUNT] = { "look-up", "TCP", "TLS", "upgrade" };
    char a[WSR_QUANTITY_CHARS], b[WSR_QUANTITY_CHARS], c[WSR_QUANTITY_CHARS];
    for (int i = 0; i < WSR_LOAD_STEPS_COUNT; i++) {
        const struct wsr_histogram *step = &times->steps[i];
        if (step->total > 0)
            fprintf(to, "               of it %-8s p50 %s, p99 %s, max %s\n", names[i],
                    ns_text(a, (double)wsr_histogram_percentile(step, 50)),
                    ns_text(b, (double)wsr_histogram_percentile(step, 99)), ns_text(c, (double)step->max));
    }
}

static void write_connections(FILE *to, const struct wsr_report *report)
{
    const struct wsr_load_counts *counts = &report->counts;
    char a[WSR_QUANTITY_CHARS], b[WSR_QUANTITY_CHARS], c[WSR_QUANTITY_CHARS], d[WSR_QUANTITY_CHARS];
    fprintf(to, "connections    %s asked, %s opened, %s failed, %s broken off\n",
            count_text(a, report->options->connections), count_text(b, counts->opened), count_text(c, counts->failed),
            count_text(d, counts->broken));
    fprintf(to, "               closed: %s cleanly, %s not\n", count_text(a, counts->closed_clean),
            count_text(b, counts->closed_unclean));
    if (report->times.opening.total == 0)
        return;
    double rate = report->opening_ns > 0 ? (double)counts->opened * 1e9 / (double)report->opening_ns : 0.0;
    fprintf(to, "               all opened in %s, %s per second", ns_text(a, (double)report->opening_ns),
            count_text(b, (uint64_t)rate));
    if (report->options->connect_rate > 0)
        fprintf(to, " (--connect-rate %" PRIu64 ")", report->options->connect_rate);
    fprintf(to, "\n               opening took p50 %s",
            ns_text(a, (double)wsr_histogram_percentile(&report->times.opening, 50)));
    fprintf(to, ", p90 %s", ns_text(a, (double)wsr_histogram_percentile(&report->times.opening, 90)));
    fprintf(to, ", p99 %s", ns_text(a, (double)wsr_histogram_percentile(&report->times.opening, 99)));
    fprintf(to, ", max %s\n", ns_text(a, (double)report->times.opening.max));
    write_steps(to, &report->times);
}

static void write_tls(FILE *to, const struct wsr_report *report)
{
    const struct wsr_socket_tls *tls = &report->tls;
    const struct wsr_engine_statistics *s = &report->statistics;
    char a[WSR_QUANTITY_CHARS], b[WSR_QUANTITY_CHARS], c[WSR_QUANTITY_CHARS];
    if (tls->version == 0)
        return;
    fprintf(to, "TLS            %s, %s; %s handshakes, %s of them resumed\n", wsr_load_tls_version_name(tls->version),
            tls->cipher, count_text(a, s->tls_handshakes), count_text(b, s->tls_resumed));
    fprintf(to, "               records by %s: %s\n", wsr_load_tls_records[tls->records], tls->why);
    if ((s->tls_library > 0) + (s->tls_kernel > 0) + (s->tls_direct > 0) > 1)
        fprintf(to, "               not all alike: %s connections by the library, %s by the kernel, %s by direct\n",
                count_text(a, s->tls_library), count_text(b, s->tls_kernel), count_text(c, s->tls_direct));
}

static void write_reasons(FILE *to, const struct wsr_load_reasons *reasons)
{
    char number[WSR_QUANTITY_CHARS];
    for (size_t i = 0; i < reasons->count; i++) {
        const struct wsr_load_reason *reason = &reasons->items[i];
        fprintf(to, "  %12s times: %s", count_text(number, reason->count), reason->text);
        if (reason->system_errno)
            fprintf(to, ": %s", strerror(reason->system_errno));
        if (reason->http_status)
            fprintf(to, "; HTTP status %u", reason->http_status);
        fprintf(to, " (stage %s", wsr_report_stage_name(reason->stage));
        if (reason->close_code)
            fprintf(to, ", close code %u", reason->close_code);
        fprintf(to, ")\n");
    }
    if (reasons->others > 0)
        fprintf(to, "  %12s times: other causes\n", count_text(number, reasons->others));
}

static void write_messages(FILE *to, const struct wsr_report *report)
{
    const struct wsr_load_options *options = report->options;
    const struct wsr_load_counts *counts = &report->counts;
    char a[WSR_QUANTITY_CHARS], b[WSR_QUANTITY_CHARS], c[WSR_QUANTITY_CHARS], d[WSR_QUANTITY_CHARS];
    fprintf(to, "messages       %s sent, %s verified: %" PRIu64 " bytes of %s, %" PRIu64 " in flight per connection\n",
            count_text(a, counts->sent), count_text(b, counts->verified), options->message_bytes,
            options->kind == WSR_TEXT ? "text" : "binary", options->in_flight);
    fprintf(to, "               %s lost, %s duplicated, ", count_text(a, counts->lost),
            count_text(b, counts->duplicated));
    fprintf(to, "%s reordered, %s corrupted, %s foreign\n", count_text(a, counts->reordered),
            count_text(b, counts->corrupted), count_text(c, counts->foreign));
    if (!report->plan->payload.is_whole)
        fprintf(to, "               under %u bytes messages are told apart by order, count and content only\n",
                options->kind == WSR_TEXT ? WSR_PAYLOAD_HEAD_CHARS : WSR_PAYLOAD_HEAD_BYTES);
    if (counts->quota_waits > 0 || counts->send_errors > 0)
        fprintf(to, "               %s waits for the send queue, %s refused sends\n",
                count_text(a, counts->quota_waits), count_text(b, counts->send_errors));
    double sent = wsr_report_rate(report, counts->sent_in_window * options->message_bytes);
    double received = wsr_report_rate(report, counts->verified_in_window * options->message_bytes);
    fprintf(to, "rate           %s msg/s over %s, payload %.2f MB/s out, %.2f MB/s in\n",
            count_text(d, (uint64_t)wsr_report_rate(report, counts->verified_in_window)),
            ns_text(a, (double)report->window_ns), sent / 1e6, received / 1e6);
}

static double ratio_of(uint64_t payload, uint64_t wire)
{
    return wire > 0 ? (double)payload / (double)wire : 0;
}

/* Of the whole run: payload, what it was on the wire, and what compression had to do with that. */
static void write_wire(FILE *to, const struct wsr_report *report)
{
    const struct wsr_engine_statistics *s = &report->statistics;
    uint64_t out = report->counts.sent * report->options->message_bytes;
    uint64_t in = report->counts.verified * report->options->message_bytes;
    char a[WSR_QUANTITY_CHARS], b[WSR_QUANTITY_CHARS], c[WSR_QUANTITY_CHARS], d[WSR_QUANTITY_CHARS];
    fprintf(to, "wire           %s bytes out for %s of payload, %s in for %s, all headers and handshakes included\n",
            count_text(a, s->wire_sent_bytes), count_text(b, out), count_text(c, s->wire_received_bytes),
            count_text(d, in));
    if (!report->options->deflate)
        return;
    if (report->extensions[0] == '\0') {
        fprintf(to, "compression    offered, and the server did not agree to it: nothing was compressed\n");
        return;
    }
    fprintf(to, "compression    out %s messages, %.2f : 1, and %s that became no smaller; in %s, %.2f : 1\n",
            count_text(a, s->deflate_messages_sent), ratio_of(s->deflate_sent_bytes, s->deflate_sent_wire_bytes),
            count_text(b, s->deflate_given_up), count_text(c, s->deflate_messages_received),
            ratio_of(s->deflate_received_bytes, s->deflate_received_wire_bytes));
}

static void write_latency(FILE *to, const struct wsr_report *report)
{
    const struct wsr_histogram *latency = &report->times.latency;
    char a[WSR_QUANTITY_CHARS];
    if (latency->total == 0)
        return;
    fprintf(to, "latency        closed loop, from wsr_send() to its event; a slow answer delays the next message\n");
    for (int i = 0; i < WSR_REPORT_PERCENTILES; i++) {
        double percent = wsr_report_percentiles[i];
        fprintf(to, "  %10.6g %%   %s\n", percent, ns_text(a, (double)wsr_histogram_percentile(latency, percent)));
    }
    fprintf(to, "         max   %s\n", ns_text(a, (double)latency->max));
    fprintf(to, "        mean   %s\n", ns_text(a, wsr_histogram_mean(latency)));
    const char *little = wsr_report_little_text(report);
    fprintf(to, "Little's law   rate x mean = %.6g in flight, asked for %.6g%s%s\n", wsr_report_little_found(report),
            wsr_report_little_asked(report), little[0] ? "; " : "", little);
}

static void write_cpu(FILE *to, const struct wsr_report *report)
{
    uint64_t client_ns = report->client_user_ns + report->client_system_ns;
    uint64_t verified = report->counts.verified_in_window;
    fprintf(to, "client CPU     %.2f s user, %.2f s system: %.0f %% of a core, busiest thread %.0f %%",
            (double)report->client_user_ns / 1e9, (double)report->client_system_ns / 1e9,
            100 * share(report, client_ns), 100 * share(report, report->client_busiest_ns));
    if (verified > 0)
        fprintf(to, ", %.0f ns per message", (double)client_ns / (double)verified);
    fprintf(to, "\nserver CPU     ");
    if (report->server_is_known)
        fprintf(to, "%.0f %% of a core, busiest thread %.0f %%, %.0f ns per message\n",
                100 * share(report, report->server_ns), 100 * share(report, report->server_busiest_ns),
                verified > 0 ? (double)report->server_ns / (double)verified : 0.0);
    else
        fprintf(to, "unknown\n");
    fprintf(to, "all CPUs       %.0f %% of the machine's %u in use, by whomever\n", 100 * report->machine_load,
            report->machine.cpus_online);
    fprintf(to, "limit          %s\n", wsr_report_limit_text(report));
}

static void write_engine(FILE *to, const struct wsr_report *report)
{
    const struct wsr_load_options *options = report->options;
    const struct wsr_engine_statistics *s = &report->statistics;
    char a[WSR_QUANTITY_CHARS], b[WSR_QUANTITY_CHARS], c[WSR_QUANTITY_CHARS];
    if (options->workers > 0)
        fprintf(to, "engine         %" PRIu64 " workers and as many consumers, wait %s", options->workers,
                wsr_report_wait_name(options->wait));
    else
        fprintf(to, "engine         inline, %" PRIu64 " thread%s, wait %s", options->threads,
                options->threads == 1 ? "" : "s", wsr_report_wait_name(options->wait));
    fprintf(to, ", %s receive buffers; seed %" PRIu64 "\n", count_text(a, s->buffers_count), options->seed);
    fprintf(to, "driver         %s: %s; SIMD %s; wsring %s\n", s->driver, s->features, s->simd, WSR_VERSION);
    fprintf(to, "               %s lent, %s copied, %s times out of buffers\n", count_text(a, s->messages_lent),
            count_text(b, s->messages_copied), count_text(c, s->buffers_exhausted));
    fprintf(to, "               %.3g completions per turn, %.3g messages per send\n",
            s->turns > 0 ? (double)s->completions / (double)s->turns : 0.0,
            s->sends > 0 ? (double)s->messages_sent / (double)s->sends : 0.0);
    fprintf(to, "negotiated     subprotocol \"%s\", extensions \"%s\"\n", report->protocol, report->extensions);
    fprintf(to, "machine        Linux %s, %s, %u CPUs usable\n", report->machine.kernel, report->machine.cpu,
            report->machine.cpus);
}

void wsr_report_write_text(FILE *to, const struct wsr_report *report)
{
    const char *fault = wsr_report_fault(report);
    fprintf(to, "wsring load %s%s\n", report->options->url, report->interrupted ? " (interrupted)" : "");
    if (report->options->is_insecure)
        fprintf(to, "INSECURE       no certificate was checked (--insecure): whoever is in between can read and change "
                    "all\n");
    write_connections(to, report);
    write_tls(to, report);
    write_messages(to, report);
    write_wire(to, report);
    write_latency(to, report);
    write_cpu(to, report);
    write_engine(to, report);
    if (report->reasons.count > 0)
        fprintf(to, "failures\n");
    write_reasons(to, &report->reasons);
    fprintf(to, "verdict        %s%s\n", fault[0] ? "FAILED: " : "all verified", fault);
}
