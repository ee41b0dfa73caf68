/* wsring load: what the run is told, what it shares, what it finds. One lane is one thread with its share of the
 * connections: its own inline engine, or one ring of a threaded engine. Lanes share nothing that is written but a
 * few atomics. */
#ifndef WSR_LOAD_H
#define WSR_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>

#include "load_times.h"
#include "option.h"
#include "payload.h"
#include "wsring.h"

#define WSR_LOAD_SOURCES_MAX 256
#define WSR_LOAD_REASONS_MAX 16
#define WSR_LOAD_REASON_CHARS 256
#define WSR_LOAD_AGREED_CHARS 256
#define WSR_LOAD_OFFER_CHARS 512

enum wsr_load_output {
    WSR_LOAD_TEXT = 0,
    WSR_LOAD_JSON = 1
};

struct wsr_load_options {
    const char *url;
    uint64_t connections;
    uint64_t threads;               /* inline engines, one thread each */
    uint64_t workers;               /* 0 = inline; else one engine with so many workers, and a consumer for each */
    uint64_t duration_ns;           /* 0 = until `messages` are answered */
    uint64_t messages;              /* over all connections; 0 = until `duration_ns` is over */
    uint64_t message_bytes;
    uint64_t fragment_bytes;           /* 0 = one frame for each message */
    uint64_t in_flight;             /* per connection */
    uint64_t connect_rate;          /* per second over all lanes; 0 = no limit */
    uint64_t open_timeout_ns;       /* 0 = the engine's */
    uint64_t drain_timeout_ns;
    uint64_t seed;                  /* 0 = from the clock */
    uint64_t buffers_count;         /* 0 = the engine's */
    uint64_t buffer_bytes;          /* 0 = the engine's */
    uint64_t server_pid;            /* 0 = unknown */
    uint32_t kind;                  /* enum wsr_kind */
    const char *deflate;            /* parameters to offer, "" = as browsers do; NULL = no offer */
    uint64_t deflate_level;         /* 0 = the engine's; so the next */
    uint64_t deflate_min_bytes;
    uint32_t wait;                  /* enum wsr_wait */
    uint64_t batch_count, batch_ns, napi_ns;
    uint32_t output;                /* enum wsr_load_output */
    bool is_inline;                 /* asked for in so many words */
    bool direct;                    /* connections are no open files */
    bool is_json;                   /* text that compresses */
    bool quiet;
    const char *connect_to;
    const char *source;             /* addresses, separated by commas */
    const char *ca_file;            /* for wss from here on, as in struct wsr_engine_options */
    const char *ca_directory;
    const char *crl_file;
    const char *certificate_file;
    const char *key_file;
    const char *ciphers;
    const char *ciphersuites;
    const char *key_log_file;
    const char *tls_name;           /* instead of the URL's host */
    uint32_t tls_min, tls_max;      /* enum wsr_load_tls_version */
    uint32_t tls_records;           /* enum wsr_tls_records */
    bool is_insecure;
    bool no_resumption;
    struct wsr_option_list headers;         /* "Name: value" */
    struct wsr_option_list subprotocols;
};

struct wsr_load_counts {
    uint64_t opened;
    uint64_t failed;                /* never opened */
    uint64_t broken;                /* opened, and ended before the run did */
    uint64_t closed_clean;
    uint64_t closed_unclean;        /* the closing handshake did not end well, or not in time */
    uint64_t sent;
    uint64_t verified;              /* answered in order, every byte as sent */
    uint64_t lost;                  /* not answered when the run or the connection ended */
    uint64_t duplicated;
    uint64_t reordered;             /* sound, but after a message that was sent later */
    uint64_t corrupted;
    uint64_t foreign;               /* of another connection or run, or never sent */
    uint64_t quota_waits;           /* times that wsr_send() wanted us to wait for the writable event */
    uint64_t send_errors;
    uint64_t sent_in_window;
    uint64_t verified_in_window;
};

/* Failures with the same cause are told once, with their number. */
struct wsr_load_reason {
    uint64_t count;
    int32_t system_errno;
    uint16_t http_status;
    uint16_t close_code;
    uint8_t stage;                  /* enum wsr_stage */
    char text[WSR_LOAD_REASON_CHARS];
};

struct wsr_load_reasons {
    struct wsr_load_reason items[WSR_LOAD_REASONS_MAX];
    size_t count;
    uint64_t others;                /* failures beyond so many causes */
};

enum wsr_load_command {
    WSR_LOAD_OPEN = 0,
    WSR_LOAD_RUN = 1,
    WSR_LOAD_DRAIN = 2
};

/* Made before the lanes start; they only read it. */
struct wsr_load_plan {
    const struct wsr_load_options *options;
    struct wsr_payload_plan payload;
    struct wsr_header headers[WSR_OPTION_LIST_MAX];
    const char *sources[WSR_LOAD_SOURCES_MAX];
    size_t sources_count;
    char deflate[WSR_LOAD_OFFER_CHARS];     /* as struct wsr_socket_options has it */
    uint32_t lanes_count;
    _Atomic(uint64_t) until_ns;     /* end of the window; written before the command RUN */
    _Atomic(uint32_t) command;      /* enum wsr_load_command */
};

enum wsr_load_phase {
    WSR_LOAD_OPENING = 0,           /* connections are being opened */
    WSR_LOAD_READY = 1,             /* all are open or have failed: waits for the other lanes */
    WSR_LOAD_RUNNING = 2,           /* the window that is measured */
    WSR_LOAD_DRAINING = 3,          /* sends no more, waits for what is outstanding */
    WSR_LOAD_CLOSING = 4,
    WSR_LOAD_DONE = 5
};

/* For the live line: written by the lane, read by the conductor; each number is exact, all together are not one
 * moment. */
struct wsr_load_live {
    _Atomic(uint32_t) phase;        /* enum wsr_load_phase */
    _Atomic(uint64_t) open;
    _Atomic(uint64_t) failed;
    _Atomic(uint64_t) sent;
    _Atomic(uint64_t) verified;
    _Atomic(uint64_t) wrong;        /* duplicated, reordered, corrupted, foreign */
    _Atomic(uint64_t) latency_ns;   /* sum over all verified */
};

struct wsr_load_result {
    struct wsr_load_counts counts;
    struct wsr_load_reasons reasons;
    struct wsr_load_times times;
    struct wsr_engine_statistics statistics;    /* of an inline engine */
    uint64_t opening_ns;            /* from the first open to the last answer to one */
    uint64_t started_ns;            /* of the window */
    uint64_t stopped_ns;
    char protocol[WSR_LOAD_AGREED_CHARS];       /* of the first connection that opened */
    char extensions[WSR_LOAD_AGREED_CHARS];
    struct wsr_socket_tls tls;                  /* the same */
    int fatal;                      /* enum wsr_error: the lane could not go on */
    char fatal_text[WSR_LOAD_REASON_CHARS];
};

struct wsr_load_conn;

struct wsr_load_lane {
    struct wsr_load_plan *plan;
    struct wsr_engine *engine;      /* set for a threaded engine, made by the lane when inline */
    uint32_t index;                 /* also the ring of a threaded engine */
    uint32_t first_connection;
    uint32_t connections_count;
    struct wsr_load_live live;
    struct wsr_load_result result;

    struct wsr_load_conn *conns;
    uint64_t *send_ns;              /* per connection a ring of `window`: when that sequence was sent, 0 = answered */
    uint32_t window;                /* power of two, at least in_flight */
    uint32_t ring;
    uint32_t cursor;                /* connections opened, pumped or closed so far, by phase */
    uint32_t opening;               /* connections under way */
    uint32_t open;
    uint64_t outstanding;
    uint64_t latency_ns;
    uint64_t now_ns;
    uint64_t phase_ns;              /* when the phase was entered */
    uint64_t progress_ns;           /* when the last echo came */
};

/* Thread function; @argument is a struct wsr_load_lane whose plan, engine, index and share are set. */
void *wsr_load_lane_run(void *argument);

/* Engine options that follow from the load's. */
struct wsr_engine_options wsr_load_lane_engine_options(const struct wsr_load_options *options);

/* Add @reason, which is counted @reason->count times, to those with the same cause. */
void wsr_load_reasons_add(struct wsr_load_reasons *reasons, const struct wsr_load_reason *reason);

#endif
