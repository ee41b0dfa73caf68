/* The report for programs: the same facts, times in nanoseconds, sizes in bytes.
 * SPDX-License-Identifier: MIT
 */
#include "json.h"
#include "load_tls.h"
#include "report.h"

static void write_options(struct wsr_json *json, const struct wsr_report *report)
{
    const struct wsr_load_options *options = report->options;
    wsr_json_open(json, "options", '{');
    wsr_json_text(json, "url", options->url);
    wsr_json_count(json, "connections", options->connections);
    wsr_json_count(json, "threads", options->threads);
    wsr_json_count(json, "workers", options->workers);
    wsr_json_bool(json, "inline", options->workers == 0);
    wsr_json_count(json, "duration_ns", options->duration_ns);
    wsr_json_count(json, "messages", options->messages);
    wsr_json_count(json, "size", options->message_bytes);
    wsr_json_count(json, "fragment", options->fragment_bytes);
    wsr_json_text(json, "kind", options->is_json ? "json" : options->kind == WSR_TEXT ? "text" : "binary");
    wsr_json_count(json, "in_flight", options->in_flight);
    wsr_json_count(json, "connect_rate", options->connect_rate);
    wsr_json_count(json, "open_timeout_ns", options->open_timeout_ns);
    wsr_json_count(json, "drain_timeout_ns", options->drain_timeout_ns);
    wsr_json_text(json, "wait", wsr_report_wait_name(options->wait));
    wsr_json_count(json, "buffers", options->buffers_count);
    wsr_json_count(json, "buffer_bytes", options->buffer_bytes);
    wsr_json_count(json, "seed", options->seed);
    wsr_json_text(json, "connect_to", options->connect_to ? options->connect_to : "");
    wsr_json_text(json, "source", options->source ? options->source : "");
    wsr_json_bool(json, "insecure", options->is_insecure);
    wsr_json_text(json, "sni", options->tls_name ? options->tls_name : "");
    wsr_json_text(json, "tls_min", wsr_load_tls_versions[options->tls_min]);
    wsr_json_text(json, "tls_max", wsr_load_tls_versions[options->tls_max]);
    wsr_json_text(json, "tls_records", wsr_load_tls_records[options->tls_records]);
    wsr_json_text(json, "ciphers", options->ciphers ? options->ciphers : "");
    wsr_json_text(json, "ciphersuites", options->ciphersuites ? options->ciphersuites : "");
    wsr_json_bool(json, "resumption", !options->no_resumption);
    wsr_json_close(json, '}');
}

static void write_percentiles(struct wsr_json *json, const char *name, const struct wsr_histogram *histogram)
{
    char key[16];
    wsr_json_open(json, name, '{');
    wsr_json_count(json, "count", histogram->total);
    wsr_json_count(json, "min", histogram->total > 0 ? histogram->min : 0);
    for (int i = 0; i < WSR_REPORT_PERCENTILES; i++) {
        snprintf(key, sizeof key, "p%g", wsr_report_percentiles[i]);
        wsr_json_count(json, key, wsr_histogram_percentile(histogram, wsr_report_percentiles[i]));
    }
    wsr_json_count(json, "max", histogram->max);
    wsr_json_number(json, "mean", wsr_histogram_mean(histogram));
    wsr_json_close(json, '}');
}

static void write_reasons(struct wsr_json *json, const struct wsr_load_reasons *reasons)
{
    wsr_json_open(json, "failures", '[');
    for (size_t i = 0; i < reasons->count; i++) {
        const struct wsr_load_reason *reason = &reasons->items[i];
        wsr_json_open(json, NULL, '{');
        wsr_json_count(json, "count", reason->count);
        wsr_json_text(json, "text", reason->text);
        wsr_json_text(json, "stage", wsr_report_stage_name(reason->stage));
        wsr_json_count(json, "errno", (uint64_t)reason->system_errno);
        wsr_json_count(json, "http_status", reason->http_status);
        wsr_json_count(json, "close_code", reason->close_code);
        wsr_json_close(json, '}');
    }
    wsr_json_close(json, ']');
    wsr_json_count(json, "failures_of_other_causes", reasons->others);
}

static void write_counts(struct wsr_json *json, const struct wsr_report *report)
{
    const struct wsr_load_counts *counts = &report->counts;
    wsr_json_open(json, "connections", '{');
    wsr_json_count(json, "asked", report->options->connections);
    wsr_json_count(json, "opened", counts->opened);
    wsr_json_count(json, "failed", counts->failed);
    wsr_json_count(json, "broken", counts->broken);
    wsr_json_count(json, "closed_clean", counts->closed_clean);
    wsr_json_count(json, "closed_unclean", counts->closed_unclean);
    wsr_json_count(json, "all_opened_ns", report->opening_ns);
    wsr_json_close(json, '}');
    wsr_json_open(json, "messages", '{');
    wsr_json_count(json, "sent", counts->sent);
    wsr_json_count(json, "verified", counts->verified);
    wsr_json_count(json, "lost", counts->lost);
    wsr_json_count(json, "duplicated", counts->duplicated);
    wsr_json_count(json, "reordered", counts->reordered);
    wsr_json_count(json, "corrupted", counts->corrupted);
    wsr_json_count(json, "foreign", counts->foreign);
    wsr_json_bool(json, "identified", report->plan->payload.is_whole);
    wsr_json_count(json, "quota_waits", counts->quota_waits);
    wsr_json_count(json, "send_errors", counts->send_errors);
    wsr_json_close(json, '}');
}

static void write_rates(struct wsr_json *json, const struct wsr_report *report)
{
    const struct wsr_load_counts *counts = &report->counts;
    uint64_t bytes = report->options->message_bytes;
    wsr_json_open(json, "window", '{');
    wsr_json_count(json, "ns", report->window_ns);
    wsr_json_count(json, "sent", counts->sent_in_window);
    wsr_json_count(json, "verified", counts->verified_in_window);
    wsr_json_number(json, "messages_per_second", wsr_report_rate(report, counts->verified_in_window));
    wsr_json_number(json, "sent_bytes_per_second", wsr_report_rate(report, counts->sent_in_window * bytes));
    wsr_json_number(json, "received_bytes_per_second", wsr_report_rate(report, counts->verified_in_window * bytes));
    wsr_json_number(json, "in_flight_found", wsr_report_little_found(report));
    wsr_json_number(json, "in_flight_asked", wsr_report_little_asked(report));
    wsr_json_text(json, "in_flight_text", wsr_report_little_text(report));
    wsr_json_close(json, '}');
}

static void write_cpu(struct wsr_json *json, const struct wsr_report *report)
{
    static const char *const limits[] = { "unknown", "client", "server", "both", "neither", "spins", "machine" };
    uint64_t client_ns = report->client_user_ns + report->client_system_ns;
    uint64_t verified = report->counts.verified_in_window;
    wsr_json_open(json, "cpu", '{');
    wsr_json_count(json, "client_user_ns", report->client_user_ns);
    wsr_json_count(json, "client_system_ns", report->client_system_ns);
    wsr_json_count(json, "client_busiest_thread_ns", report->client_busiest_ns);
    wsr_json_number(json, "client_cores", report->window_ns ? (double)client_ns / (double)report->window_ns : 0.0);
    wsr_json_number(json, "client_ns_per_message", verified > 0 ? (double)client_ns / (double)verified : 0.0);
    if (report->server_is_known) {
        wsr_json_count(json, "server_ns", report->server_ns);
        wsr_json_count(json, "server_busiest_thread_ns", report->server_busiest_ns);
    } else {
        wsr_json_null(json, "server_ns");
        wsr_json_null(json, "server_busiest_thread_ns");
    }
    wsr_json_number(json, "machine_load", report->machine_load);
    wsr_json_text(json, "limit", limits[report->limit]);
    wsr_json_text(json, "limit_text", wsr_report_limit_text(report));
    wsr_json_close(json, '}');
}

static void write_steps(struct wsr_json *json, const struct wsr_load_times *times)
{
    wsr_json_open(json, "steps", '{');
    write_percentiles(json, "lookup_ns", &times->steps[WSR_LOAD_LOOKUP]);
    write_percentiles(json, "connect_ns", &times->steps[WSR_LOAD_CONNECT]);
    write_percentiles(json, "tls_ns", &times->steps[WSR_LOAD_SECURE]);
    write_percentiles(json, "upgrade_ns", &times->steps[WSR_LOAD_UPGRADE]);
    wsr_json_close(json, '}');
}

static void write_tls(struct wsr_json *json, const struct wsr_report *report)
{
    const struct wsr_socket_tls *tls = &report->tls;
    const struct wsr_engine_statistics *s = &report->statistics;
    if (tls->version == 0) {
        wsr_json_null(json, "tls");
        return;
    }
    wsr_json_open(json, "tls", '{');
    wsr_json_text(json, "version", wsr_load_tls_version_name(tls->version));
    wsr_json_text(json, "cipher", tls->cipher);
    wsr_json_text(json, "records", wsr_load_tls_records[tls->records]);
    wsr_json_text(json, "why", tls->why);
    wsr_json_bool(json, "insecure", s->tls_unverified > 0);
    wsr_json_count(json, "handshakes", s->tls_handshakes);
    wsr_json_count(json, "resumed", s->tls_resumed);
    wsr_json_count(json, "unverified", s->tls_unverified);
    wsr_json_count(json, "library", s->tls_library);
    wsr_json_count(json, "kernel", s->tls_kernel);
    wsr_json_count(json, "direct", s->tls_direct);
    wsr_json_close(json, '}');
}

static void write_deflate(struct wsr_json *json, const struct wsr_report *report)
{
    const struct wsr_engine_statistics *s = &report->statistics;
    if (!report->options->deflate) {
        wsr_json_null(json, "deflate");
        return;
    }
    wsr_json_open(json, "deflate", '{');
    wsr_json_text(json, "offered", report->plan->deflate);
    wsr_json_bool(json, "agreed", report->extensions[0] != '\0');
    wsr_json_count(json, "messages_sent", s->deflate_messages_sent);
    wsr_json_count(json, "sent_bytes", s->deflate_sent_bytes);
    wsr_json_count(json, "sent_wire_bytes", s->deflate_sent_wire_bytes);
    wsr_json_count(json, "given_up", s->deflate_given_up);
    wsr_json_count(json, "messages_received", s->deflate_messages_received);
    wsr_json_count(json, "received_bytes", s->deflate_received_bytes);
    wsr_json_count(json, "received_wire_bytes", s->deflate_received_wire_bytes);
    wsr_json_close(json, '}');
}

static void write_engine(struct wsr_json *json, const struct wsr_report *report)
{
    const struct wsr_engine_statistics *s = &report->statistics;
    wsr_json_open(json, "engine", '{');
    wsr_json_text(json, "version", WSR_VERSION);
    wsr_json_text(json, "driver", s->driver);
    wsr_json_text(json, "features", s->features);
    wsr_json_text(json, "simd", s->simd);
    wsr_json_count(json, "sockets_opened", s->sockets_opened);
    wsr_json_count(json, "sockets_failed", s->sockets_failed);
    wsr_json_count(json, "messages_received", s->messages_received);
    wsr_json_count(json, "messages_sent", s->messages_sent);
    wsr_json_count(json, "wire_received_bytes", s->wire_received_bytes);
    wsr_json_count(json, "wire_sent_bytes", s->wire_sent_bytes);
    wsr_json_count(json, "messages_lent", s->messages_lent);
    wsr_json_count(json, "messages_copied", s->messages_copied);
    wsr_json_count(json, "buffers", s->buffers_count);
    wsr_json_count(json, "buffers_exhausted", s->buffers_exhausted);
    wsr_json_count(json, "rests", s->rests);
    wsr_json_count(json, "sends", s->sends);
    wsr_json_count(json, "short_sends", s->short_sends);
    wsr_json_count(json, "turns", s->turns);
    wsr_json_count(json, "completions", s->completions);
    wsr_json_count(json, "pings_answered", s->pings_answered);
    wsr_json_close(json, '}');
    wsr_json_open(json, "negotiated", '{');
    wsr_json_text(json, "subprotocol", report->protocol);
    wsr_json_text(json, "extensions", report->extensions);
    wsr_json_close(json, '}');
    wsr_json_open(json, "machine", '{');
    wsr_json_text(json, "kernel", report->machine.kernel);
    wsr_json_text(json, "cpu", report->machine.cpu);
    wsr_json_count(json, "cpus_usable", report->machine.cpus);
    wsr_json_count(json, "cpus_online", report->machine.cpus_online);
    wsr_json_text(json, "governor", report->machine.governor);
    wsr_json_close(json, '}');
}

void wsr_report_write_json(FILE *to, const struct wsr_report *report)
{
    struct wsr_json json = { .to = to };
    const char *fault = wsr_report_fault(report);
    wsr_json_open(&json, NULL, '{');
    wsr_json_bool(&json, "ok", fault[0] == '\0');
    wsr_json_text(&json, "fault", fault);
    wsr_json_bool(&json, "interrupted", report->interrupted);
    write_options(&json, report);
    write_counts(&json, report);
    write_rates(&json, report);
    write_percentiles(&json, "latency_ns", &report->times.latency);
    write_percentiles(&json, "opening_ns", &report->times.opening);
    write_steps(&json, &report->times);
    write_tls(&json, report);
    write_deflate(&json, report);
    write_cpu(&json, report);
    write_reasons(&json, &report->reasons);
    write_engine(&json, report);
    wsr_json_close(&json, '}');
}
