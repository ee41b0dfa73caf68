/* What a load run found, and the two ways to tell it. */
#ifndef WSR_REPORT_H
#define WSR_REPORT_H

#include <stdio.h>

#include "load.h"
#include "machine.h"

/* Where the run was bound. */
enum wsr_report_limit {
    WSR_REPORT_UNKNOWN = 0,       /* the server's CPU is unknown and the client's is not the limit */
    WSR_REPORT_CLIENT = 1,
    WSR_REPORT_SERVER = 2,
    WSR_REPORT_BOTH = 3,
    WSR_REPORT_NEITHER = 4,       /* both are known and have CPU to spare: latency or the network is the limit */
    WSR_REPORT_SPINS = 5,         /* a client that spins is always at 100 % */
    WSR_REPORT_MACHINE = 6        /* no thread of either fills a core, but no core is left */
};

struct wsr_report {
    const struct wsr_load_options *options;
    const struct wsr_load_plan *plan;
    struct wsr_load_counts counts;
    struct wsr_load_reasons reasons;
    struct wsr_load_times times;
    struct wsr_engine_statistics statistics;
    struct wsr_machine machine;
    char protocol[WSR_LOAD_AGREED_CHARS];
    char extensions[WSR_LOAD_AGREED_CHARS];
    struct wsr_socket_tls tls;    /* of one connection; version 0 = none opened, or no TLS */
    uint64_t opening_ns;
    uint64_t window_ns;
    uint64_t client_user_ns;      /* CPU within the window */
    uint64_t client_system_ns;
    uint64_t client_busiest_ns;   /* its busiest thread */
    uint64_t server_ns;
    uint64_t server_busiest_ns;
    double machine_load;          /* 0 to 1, all CPUs, everybody */
    bool server_is_known;
    bool interrupted;
    enum wsr_report_limit limit;
};

/* Percentiles that are told, and their number. */
#define WSR_REPORT_PERCENTILES 8
extern const double wsr_report_percentiles[WSR_REPORT_PERCENTILES];

/* From CPU and window: who is at the end of its strength. */
enum wsr_report_limit wsr_report_limit_of(const struct wsr_report *report);
/* One sentence for it. */
const char *wsr_report_limit_text(const struct wsr_report *report);

/* "" when every message and connection was as it should be, else the first thing that was not. */
const char *wsr_report_fault(const struct wsr_report *report);

double wsr_report_rate(const struct wsr_report *report, uint64_t count);
/* Little's law: messages in flight = rate * mean latency. What follows from the figures, and what was asked for. */
double wsr_report_little_found(const struct wsr_report *report);
double wsr_report_little_asked(const struct wsr_report *report);
/* "" when the two agree, else why they may differ. */
const char *wsr_report_little_text(const struct wsr_report *report);

const char *wsr_report_stage_name(uint8_t stage);
const char *wsr_report_wait_name(uint32_t wait);

void wsr_report_write_text(FILE *to, const struct wsr_report *report);
void wsr_report_write_json(FILE *to, const struct wsr_report *report);

#endif
