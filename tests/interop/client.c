/* A client with a script: connects as told, prints each event as one line, and acts where a rule says so. The lines are
 * compared by tests/interop/run with what each scene of the fault server must lead to.
 *
 * It uses the public header only, and checks at each event what holds for all of them: the readyState, the order of
 * EVT-01 and EVT-02, that a close tells the same story as its error. A line that starts with "wrong" is a failure. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "wsring.h"

#define RULES_MAX 16
#define HOLDS_MAX 64
#define PEERS_MAX 1024
#define RINGS_MAX 8
#define ERRORS_MAX 64
#define BATCH_MAX 256
#define ECHOES_MAX 1024
#define ECHO_WINDOW 4
#define MS ((uint64_t)1000000)
#define POLL_NS (20 * MS)

static const char *const records_names[] = { "auto", "library", "kernel", "direct" };

struct peer {
    struct wsr_socket *socket;     /* NULL once destroyed */
    uint64_t counts[WSR_EVENT_TYPES_COUNT];
    uint64_t bytes;
    uint32_t adler;
    uint64_t next_number;          /* --log numbers */
    bool done;                     /* closed, refused or destroyed */
    bool closing;                  /* wsr_close() was called */
    uint32_t echoes_sent, echoes_received;
    char failure[512];             /* line of the error event */
};

/* After the last echo of --echo: what a rule may wait for besides an event. */
#define ECHOED ((enum wsr_event_type)WSR_EVENT_TYPES_COUNT)

enum log_form {
    LOG_LINES,
    LOG_NUMBERS,                   /* text messages are "0", "1", "2", ... */
    LOG_SUM                        /* one line for all messages */
};

/* --data: what the messages of --echo are made of. */
enum data_form {
    DATA_PATTERN,                  /* text and binary in turn */
    DATA_JSON,                     /* text; each message is like the one before: a window finds something */
    DATA_RANDOM,                   /* binary that nothing makes smaller */
    DATA_ZEROS,                    /* binary */
    DATA_MIXED                     /* all of these in turn, and every fifth message is sent as uncompressed */
};
static const char *const data_names[] = { "pattern", "json", "random", "zeros", "mixed" };

struct rule {
    enum wsr_event_type type;
    uint64_t at;                   /* the how many-th event of this type, 0 = each */
    void (*act)(struct peer *peer, const struct wsr_event *event, const char *argument);
    const char *argument;
};

struct held {
    struct wsr_hold *hold;
    const uint8_t *data;
    uint64_t len;
    uint32_t adler;
};

static struct {
    struct wsr_engine *engine;
    struct wsr_engine_options engine_options;
    struct wsr_socket_options socket_options;
    const char *url;
    const char *protocols[8];
    size_t protocols_count;
    struct rule rules[RULES_MAX];
    size_t rules_count;
    struct peer peers[PEERS_MAX];
    size_t peers_count;
    struct held held[HOLDS_MAX];
    size_t held_count;
    char errors[ERRORS_MAX][512];  /* distinct failures of many sockets */
    uint64_t errors_times[ERRORS_MAX];
    size_t errors_count;
    uint64_t refused_count;
    enum log_form form;
    uint32_t sockets_count;
    uint32_t batch;
    uint64_t limit_ns;
    bool dispatch;
    bool together;                 /* close every socket once all have opened or failed */
    uint32_t again;                /* then open so many more, one after the other */
    uint64_t echoes[ECHOES_MAX];   /* --echo: sizes of messages to send and to get back, in order */
    uint32_t echoes_count;
    enum data_form data;
    bool shows_extensions;         /* a line for what was agreed on */
    bool shows_deflate;            /* a line for what the engine counted of compressed messages */
    uint64_t rss_growth_max;       /* bytes by which the peak of the resident memory may grow while sockets live */
    bool shows_tls;                /* a line for what TLS agreed on */
    bool shows_statistics;         /* a line for what the engine counted of TLS */
    uint64_t heap_growth_max;      /* bytes by which the heap may grow from the second socket of --again to the last */
    bool counts_errors;            /* of many sockets: how often each failure came */
    bool quiet;                    /* many sockets: no line for each event */
    bool destroyed_in_batch;       /* events that wait in the array may be of a socket that is gone */
} run = {
    .engine_options = WSR_ENGINE_OPTIONS_INIT,
    .socket_options = WSR_SOCKET_OPTIONS_INIT,
    .sockets_count = 1,
    .batch = 64,
    .limit_ns = 60000 * MS,
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

static void wait_ms(uint64_t ms)
{
    struct timespec t = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * MS) };
    nanosleep(&t, NULL);
}

/* Adler-32 (RFC 1950 9), because Python's zlib has it too. */
static uint32_t adler32(uint32_t sum, const uint8_t *data, uint64_t len)
{
    uint32_t a = sum & 0xffff;
    uint32_t b = sum >> 16;
    while (len > 0) {
        uint64_t part = len < 5552 ? len : 5552;    /* the most bytes before b could overflow */
        for (uint64_t i = 0; i < part; i++) {
            a += data[i];
            b += a;
        }
        a %= 65521;
        b %= 65521;
        data += part;
        len -= part;
    }
    return b << 16 | a;
}

static const char *stage_name(uint8_t stage)
{
    static const char *const names[] = { "none", "lookup", "connect", "tls", "upgrade", "open", "closing", "proxy" };
    return stage < sizeof(names) / sizeof(names[0]) ? names[stage] : "unknown";
}

static const char *errno_name(int number)
{
    const char *name = strerrorname_np(number);
    return name ? name : "unknown";
}

static struct peer *find_peer(const struct wsr_socket *socket)
{
    for (size_t i = 0; i < run.peers_count; i++) {
        if (run.peers[i].socket == socket)
            return &run.peers[i];
    }
    return NULL;
}

/* ---- What a rule may do ------------------------------------------------------------------------ */

static void report(const char *call, int rc)
{
    if (rc != 0)
        printf("%s %s %s\n", call, wsr_error_name(rc), wsr_error_text());
}

static void act_text(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)event;
    report("send", wsr_send(peer->socket, WSR_TEXT, argument, strlen(argument)));
}

static void act_binary(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)event;
    size_t len = strtoull(argument, NULL, 10);
    uint8_t *data = malloc(len + 1);
    if (!data)
        abort();
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 31 + i / 251);
    report("send", wsr_send(peer->socket, WSR_BINARY, data, len));
    free(data);
}

static void act_answer(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)argument;
    report("send", wsr_send(peer->socket, (enum wsr_kind)event->kind, event->data, event->len));
}

/* "CODE,REASON", "CODE" or nothing. */
static void act_close(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)event;
    const char *comma = strchr(argument, ',');
    int code = (int)strtol(argument, NULL, 10);
    report("close", wsr_close(peer->socket, code, comma ? comma + 1 : NULL, comma ? WSR_ZSTRING : 0));
    peer->closing = true;
}

static void act_destroy(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)event;
    (void)argument;
    wsr_socket_destroy(peer->socket);
    peer->socket = NULL;
    peer->done = true;
    run.destroyed_in_batch = true;
}

static void act_pause(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)peer;
    (void)event;
    wait_ms(strtoull(argument, NULL, 10));
}

/* Send until the engine refuses. */
static void act_flood(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)event;
    (void)argument;
    static uint8_t block[65536];
    uint64_t sent = 0;
    int rc = 0;
    while (rc == 0 && sent < 1ull << 32) {
        rc = wsr_send(peer->socket, WSR_BINARY, block, sizeof(block));
        sent += rc == 0 ? sizeof(block) : 0;
    }
    printf("flood %s %s\n", wsr_error_name(rc), wsr_error_text());
    if (sent == 0 || wsr_socket_buffered_amount(peer->socket) > sent)
        printf("wrong bufferedAmount %" PRIu64 "\n", wsr_socket_buffered_amount(peer->socket));
}

/* Inside a handler both are refused, EVT-15. */
static void act_nest(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)event;
    (void)argument;
    struct wsr_event none;
    int polled = wsr_poll(run.engine, wsr_socket_ring(peer->socket), &none, 1, 0);
    printf("poll %s\n", wsr_error_name(polled));
    int destroyed = wsr_engine_destroy(run.engine);
    printf("destroy %s\n", wsr_error_name(destroyed));
}

static void act_hold(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)peer;
    (void)argument;
    if (run.held_count == HOLDS_MAX)
        return;
    struct wsr_hold *hold = wsr_event_hold(event);
    if (!hold) {
        printf("wrong hold: none was given for %" PRIu64 " bytes\n", event->len);
        return;
    }
    run.held[run.held_count++] = (struct held){ hold, event->data, event->len, adler32(1, event->data, event->len) };
}

static void act_ping(struct peer *peer, const struct wsr_event *event, const char *argument)
{
    (void)event;
    (void)argument;
    report("ping", wsr_ping(peer->socket, NULL, 0));
}

static const struct {
    const char *name;
    void (*act)(struct peer *peer, const struct wsr_event *event, const char *argument);
} actions[] = {
    { "text", act_text },       { "binary", act_binary }, { "answer", act_answer }, { "close", act_close },
    { "destroy", act_destroy }, { "pause", act_pause },   { "flood", act_flood },   { "nest", act_nest },
    { "hold", act_hold },       { "ping", act_ping },
};

static const char *const event_names[WSR_EVENT_TYPES_COUNT] = {
    "none", "open", "message", "error", "close", "writable", "pong"
};
static const char *const echoed_name = "echoed";

/* ---- Echoes ------------------------------------------------------------------------------------ */

/* Byte @i of the @at-th message of --echo: ASCII in those that are text, and different at every record and page. */
static uint8_t echo_byte(uint32_t at, uint64_t i)
{
    uint8_t byte = (uint8_t)(at * 131 + i * 31 + i / 251);
    return at % 2 == 0 ? (uint8_t)('0' + byte % 75) : byte;
}

/* Whole records with characters of several bytes, then blanks. */
static void fill_json(uint8_t *data, uint64_t len, uint32_t at)
{
    char record[128];
    uint64_t used = 0;
    for (uint32_t i = 0;; i++) {
        uint32_t id = at * 7 + i, price = (at * 37 + i * 101) % 997;
        int bytes = snprintf(record, sizeof(record),
                             "{\"id\":%u,\"symbol\":\"\u20ac-%u\",\"price\":%u.%02u,\"side\":\"%s\"},", id, id % 5,
                             43000 + price, id % 100, id % 3 ? "buy" : "sell");
        if (used + (uint64_t)bytes > len)
            break;
        memcpy(data + used, record, (size_t)bytes);
        used += (uint64_t)bytes;
    }
    memset(data + used, ' ', len - used);
}

static void fill_random(uint8_t *data, uint64_t len, uint32_t at)
{
    uint32_t x = at * 2654435761u | 1;
    for (uint64_t i = 0; i < len; i++) {    /* xorshift32 */
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        data[i] = (uint8_t)(x >> 24);
    }
}

static enum data_form echo_form(uint32_t at)
{
    static const enum data_form turn[] = { DATA_JSON, DATA_RANDOM, DATA_ZEROS, DATA_PATTERN, DATA_JSON };
    return run.data == DATA_MIXED ? turn[at % 5] : run.data;
}

static enum wsr_kind echo_kind(uint32_t at)
{
    enum data_form form = echo_form(at);
    return form == DATA_JSON || (form == DATA_PATTERN && at % 2 == 0) ? WSR_TEXT : WSR_BINARY;
}

/* The caller frees it. */
static uint8_t *make_echo(uint32_t at)
{
    uint64_t len = run.echoes[at];
    uint8_t *data = calloc(1, len + 1);
    if (!data)
        abort();
    enum data_form form = echo_form(at);
    if (form == DATA_JSON)
        fill_json(data, len, at);
    else if (form == DATA_RANDOM)
        fill_random(data, len, at);
    for (uint64_t i = 0; form == DATA_PATTERN && i < len; i++)
        data[i] = echo_byte(at, i);
    return data;
}

static void send_echo(struct peer *peer)
{
    uint32_t at = peer->echoes_sent++;
    uint8_t *data = make_echo(at);
    enum wsr_kind kind = echo_kind(at);
    if (run.data == DATA_MIXED && at % 5 == 4)
        kind = WSR_TEXT_UNCOMPRESSED;
    report("send", wsr_send(peer->socket, kind, data, run.echoes[at]));
    free(data);
}

static void begin_echoes(struct peer *peer)
{
    while (peer->echoes_sent < run.echoes_count && peer->echoes_sent < ECHO_WINDOW)
        send_echo(peer);
}

static bool awaits_echo(const struct peer *peer)
{
    return peer->echoes_received < run.echoes_count;
}

/* Returns true with the last one. */
static bool take_echo(struct peer *peer, const struct wsr_event *event)
{
    uint32_t at = peer->echoes_received++;
    const uint8_t *data = event->data;
    uint8_t *want = make_echo(at);
    uint64_t same = 0;
    while (same < event->len && same < run.echoes[at] && data[same] == want[same])
        same++;
    free(want);
    if (event->len != run.echoes[at] || same != event->len || event->kind != (uint8_t)echo_kind(at))
        printf("wrong echo %" PRIu32 ": %s of %" PRIu64 " bytes, as sent up to %" PRIu64 " of %" PRIu64 "\n", at,
               event->kind == WSR_TEXT ? "text" : "binary", event->len, same, run.echoes[at]);
    if (peer->echoes_sent < run.echoes_count)
        send_echo(peer);
    return !awaits_echo(peer);
}

/* ---- Events ------------------------------------------------------------------------------------ */

static void check_order(struct peer *peer, const struct wsr_event *event)
{
    static const enum wsr_ready_state want[WSR_EVENT_TYPES_COUNT] = {
        [WSR_EVENT_OPEN] = WSR_OPEN,      [WSR_EVENT_MESSAGE] = WSR_OPEN,  [WSR_EVENT_ERROR] = WSR_CLOSED,
        [WSR_EVENT_CLOSE] = WSR_CLOSED,   [WSR_EVENT_WRITABLE] = WSR_OPEN,
        [WSR_EVENT_PONG] = WSR_OPEN,
    };
    const uint64_t *counts = peer->counts;
    enum wsr_ready_state state = wsr_socket_ready_state(peer->socket);
    if (state != want[event->type] && !(peer->closing && state == WSR_CLOSING && !run.dispatch))
        printf("wrong readyState %d at %s\n", (int)state, event_names[event->type]);
    if (counts[WSR_EVENT_CLOSE] > 1 || (counts[WSR_EVENT_CLOSE] == 1 && event->type != WSR_EVENT_CLOSE))
        printf("wrong order: %s after close\n", event_names[event->type]);
    if (counts[WSR_EVENT_OPEN] > 1 || counts[WSR_EVENT_ERROR] > 1)
        printf("wrong order: a second %s\n", event_names[event->type]);
    if (event->type == WSR_EVENT_MESSAGE && counts[WSR_EVENT_OPEN] == 0)
        printf("wrong order: message before open\n");
    if (counts[WSR_EVENT_ERROR] == 1 && event->type != WSR_EVENT_ERROR && event->type != WSR_EVENT_CLOSE)
        printf("wrong order: %s after error\n", event_names[event->type]);
}

static void take_message(struct peer *peer, const struct wsr_event *event)
{
    const uint8_t *data = event->data;
    peer->bytes += event->len;
    if ((data == NULL) != (event->len == 0))
        printf("wrong data: pointer and length %" PRIu64 " disagree\n", event->len);
    if (event->received_ns == 0 || event->received_ns > now_ns())
        printf("wrong time of receipt\n");
    if (run.form == LOG_SUM) {
        peer->adler = adler32(peer->adler, data, event->len);
    } else if (run.form == LOG_NUMBERS) {
        char want[24];
        size_t want_len = (size_t)snprintf(want, sizeof(want), "%" PRIu64, peer->next_number);
        if (event->kind != WSR_TEXT || event->len != want_len || memcmp(data, want, want_len) != 0)
            printf("wrong number: %.*s instead of %s\n", (int)event->len, (const char *)data, want);
        peer->next_number++;
    } else if (!run.quiet && event->kind == WSR_TEXT && event->len <= 64) {
        printf("message text %" PRIu64 " %.*s\n", event->len, (int)event->len, data ? (const char *)data : "");
    } else if (!run.quiet) {
        printf("message %s %" PRIu64 " adler=%08" PRIx32 "\n", event->kind == WSR_TEXT ? "text" : "binary", event->len,
               adler32(1, data, event->len));
    }
}

static void release_holds(void)
{
    size_t intact = 0;
    for (size_t i = 0; i < run.held_count; i++) {
        const struct held *held = &run.held[i];
        intact += adler32(1, held->data, held->len) == held->adler;
        wsr_hold_release(held->hold);
    }
    if (run.held_count > 0)
        printf("held %zu intact %zu\n", run.held_count, intact);
    run.held_count = 0;
}

static void take_failure(struct peer *peer, const struct wsr_event *event)
{
    snprintf(peer->failure, sizeof(peer->failure), "error stage=%s errno=%s http=%u text=%s", stage_name(event->stage),
             errno_name(event->system_errno), event->http_status, event->text);
    if (!run.quiet) {
        printf("%s\n", peer->failure);
        return;
    }
    for (size_t i = 0; i < run.errors_count; i++) {
        if (strcmp(run.errors[i], peer->failure) == 0) {
            run.errors_times[i]++;
            return;
        }
    }
    if (run.errors_count == ERRORS_MAX)
        return;
    run.errors_times[run.errors_count] = 1;
    memcpy(run.errors[run.errors_count++], peer->failure, sizeof(peer->failure));
}

static void take_close(struct peer *peer, const struct wsr_event *event)
{
    char story[sizeof(peer->failure)];
    snprintf(story, sizeof(story), "error stage=%s errno=%s http=%u text=%s", stage_name(event->stage),
             errno_name(event->system_errno), event->http_status, event->text);
    if (peer->counts[WSR_EVENT_ERROR] == 1 && strcmp(story, peer->failure) != 0)
        printf("wrong close detail: %s\n", story);
    if (peer->counts[WSR_EVENT_ERROR] == 0 && event->text[0] != '\0')
        printf("wrong close detail without error: %s\n", story);
    if (event->was_clean == (peer->counts[WSR_EVENT_ERROR] == 1))
        printf("wrong wasClean %u\n", event->was_clean);
    release_holds();
    if (run.form == LOG_NUMBERS)
        printf("numbers %" PRIu64 "\n", peer->next_number);
    if (run.form == LOG_SUM)
        printf("sum messages=%" PRIu64 " bytes=%" PRIu64 " adler=%08" PRIx32 "\n", peer->counts[WSR_EVENT_MESSAGE],
               peer->bytes, peer->adler);
    if (!run.quiet)
        printf("close %u clean=%u reason=%.*s\n", event->code, event->was_clean, (int)event->len,
               event->data ? (const char *)event->data : "");
    peer->done = true;
}

static const char *records_name(unsigned records)
{
    return records < sizeof(records_names) / sizeof(records_names[0]) ? records_names[records] : "unknown";
}

static void show_tls(const struct wsr_socket *socket)
{
    struct wsr_socket_tls tls = WSR_SOCKET_TLS_INIT;
    report("tls", wsr_socket_tls(socket, &tls));
    printf("tls version=%s records=%s resumed=%u verified=%u cipher=%s why=%s\n",
           tls.version == WSR_TLS_1_3 ? "1.3" : tls.version == WSR_TLS_1_2 ? "1.2" : "none", records_name(tls.records),
           tls.was_resumed, tls.is_verified, tls.cipher, tls.why);
}

static void take_open(struct peer *peer)
{
    if (!run.quiet)
        printf("open%s%s\n", wsr_socket_protocol(peer->socket)[0] ? " " : "", wsr_socket_protocol(peer->socket));
    if (run.shows_extensions && !run.quiet)
        printf("extensions %s\n", wsr_socket_extensions(peer->socket));
    if (run.shows_tls && !run.quiet)
        show_tls(peer->socket);
    begin_echoes(peer);
}

static void act_on(enum wsr_event_type type, uint64_t count, struct peer *peer, const struct wsr_event *event)
{
    for (size_t i = 0; i < run.rules_count && peer->socket; i++) {
        const struct rule *rule = &run.rules[i];
        if (rule->type == type && (rule->at == 0 || rule->at == count))
            rule->act(peer, event, rule->argument);
    }
}

static void take(const struct wsr_event *event, void *context)
{
    struct peer *peer = context;
    uint64_t count = ++peer->counts[event->type];
    bool echoed = false;           /* this was the last one */
    check_order(peer, event);
    switch (event->type) {
    case WSR_EVENT_OPEN:
        take_open(peer);
        break;
    case WSR_EVENT_MESSAGE:
        if (awaits_echo(peer))
            echoed = take_echo(peer, event);
        else
            take_message(peer, event);
        break;
    case WSR_EVENT_PONG:
        if (!run.quiet)
            printf("pong %s\n", event->rtt_ns > 0 ? "with a time" : "without a time");
        break;
    case WSR_EVENT_ERROR:
        take_failure(peer, event);
        break;
    case WSR_EVENT_CLOSE:
        take_close(peer, event);
        break;
    default:
        printf("%s\n", event->type == WSR_EVENT_WRITABLE ? "writable" : "wrong event type");
        break;
    }
    act_on(event->type, count, peer, event);
    if (echoed) {
        if (!run.quiet)
            printf("echoed %" PRIu32 "\n", peer->echoes_received);
        act_on(ECHOED, 1, peer, event);
    }
}

/* ---- The loop ---------------------------------------------------------------------------------- */

static void open_one(void)
{
    struct peer *peer = &run.peers[run.peers_count++];
    peer->adler = 1;
    int rc = wsr_socket_open(run.engine, run.url, WSR_ZSTRING, run.protocols, run.protocols_count, &run.socket_options,
                             &peer->socket);
    if (rc == 0)
        wsr_socket_set_binary_type(peer->socket, WSR_ARRAYBUFFER);
    if (rc < 0) {
        if (!run.quiet || run.refused_count == 0)
            printf("refused %s %s\n", wsr_error_name(rc), wsr_error_text());
        run.refused_count++;
        peer->socket = NULL;
        peer->done = true;
        return;
    }
    for (int type = WSR_EVENT_OPEN; run.dispatch && type < WSR_EVENT_TYPES_COUNT; type++)
        report("set_on", wsr_set_on(peer->socket, (enum wsr_event_type)type, take, peer));
}

static int turn(uint32_t ring, uint64_t timeout_ns)
{
    if (run.dispatch)
        return wsr_dispatch(run.engine, ring, run.batch, timeout_ns);
    static struct wsr_event events[BATCH_MAX];
    int count = wsr_poll(run.engine, ring, events, run.batch, timeout_ns);
    run.destroyed_in_batch = false;
    for (int i = 0; i < count; i++) {
        struct peer *peer = find_peer(events[i].socket);
        if (peer)
            take(&events[i], peer);
        else if (!run.destroyed_in_batch)
            printf("wrong event: %s of a destroyed socket\n", event_names[events[i].type]);
    }
    return count;
}

static bool all_done(void)
{
    for (size_t i = 0; i < run.peers_count; i++) {
        if (!run.peers[i].done)
            return false;
    }
    return true;
}

/* Once every socket has opened or failed, close those that are open. */
static void close_together(void)
{
    for (size_t i = 0; i < run.peers_count; i++) {
        if (!run.peers[i].done && run.peers[i].counts[WSR_EVENT_OPEN] == 0)
            return;
    }
    for (size_t i = 0; i < run.peers_count; i++) {
        if (!run.peers[i].done)
            act_close(&run.peers[i], NULL, "1000");
    }
    run.together = false;
}

/* Destroyed sockets finish in the background: wait for those too. */
static bool all_gone(void)
{
    struct wsr_engine_statistics numbers = WSR_ENGINE_STATISTICS_INIT;
    return all_done() && wsr_engine_statistics(run.engine, &numbers) == 0 && numbers.sockets_live == 0;
}

/* One thread consumes several rings here, so it sleeps on their descriptors, not inside the poll of one of them. */
static void await_any(uint32_t rings)
{
    struct pollfd fds[RINGS_MAX];
    for (uint32_t ring = 0; ring < rings; ring++)
        fds[ring] = (struct pollfd){ .fd = wsr_engine_fd(run.engine, ring), .events = POLLIN };
    (void)poll(fds, rings, POLL_NS / MS);
}

static bool loop(void)
{
    uint64_t deadline_ns = now_ns() + run.limit_ns;
    uint32_t rings = wsr_engine_rings(run.engine);
    bool is_busy = false;           /* the last round had events */
    while (!all_gone()) {
        if (now_ns() > deadline_ns) {
            printf("wrong: still not over after %" PRIu64 " s\n", run.limit_ns / (1000 * MS));
            return false;
        }
        if (!is_busy && rings > 1)
            await_any(rings);
        is_busy = false;
        for (uint32_t ring = 0; ring < rings; ring++) {
            int rc = turn(ring, rings > 1 ? 0 : POLL_NS);
            if (rc < 0) {
                printf("wrong: poll %s %s\n", wsr_error_name(rc), wsr_error_text());
                return false;
            }
            is_busy |= rc > 0;
        }
        if (run.together)
            close_together();
    }
    for (uint32_t ring = 0; ring < rings; ring++)
        (void)turn(ring, 0);        /* an event that comes after all is over prints its line */
    return true;
}

static void print_many(void)
{
    uint64_t opened = 0;
    uint64_t failed = 0;
    uint64_t closed = 0;
    for (size_t i = 0; i < run.peers_count; i++) {
        const struct peer *peer = &run.peers[i];
        opened += peer->counts[WSR_EVENT_OPEN];
        failed += peer->counts[WSR_EVENT_ERROR] > 0 && peer->counts[WSR_EVENT_OPEN] == 0;
        closed += peer->counts[WSR_EVENT_OPEN] > 0 && peer->counts[WSR_EVENT_ERROR] == 0;
    }
    printf("sockets opened=%" PRIu64 " failed=%" PRIu64 " refused=%" PRIu64 " clean=%" PRIu64 "\n", opened, failed,
           run.refused_count, closed);
    for (size_t i = 0; i < run.errors_count; i++) {
        if (run.counts_errors)
            printf("times %" PRIu64 " ", run.errors_times[i]);
        printf("%s\n", run.errors[i]);
    }
}

static void print_statistics(void)
{
    struct wsr_engine_statistics numbers = WSR_ENGINE_STATISTICS_INIT;
    report("statistics", wsr_engine_statistics(run.engine, &numbers));
    printf("statistics handshakes=%" PRIu64 " resumed=%" PRIu64 " unverified=%" PRIu64 " library=%" PRIu64
           " kernel=%" PRIu64 " direct=%" PRIu64 " sessions=%" PRIu64 "\n", numbers.tls_handshakes, numbers.tls_resumed,
           numbers.tls_unverified, numbers.tls_library, numbers.tls_kernel, numbers.tls_direct, numbers.tls_sessions);
}

static void print_deflate(void)
{
    struct wsr_engine_statistics n = WSR_ENGINE_STATISTICS_INIT;
    report("statistics", wsr_engine_statistics(run.engine, &n));
    printf("deflate sent=%" PRIu64 " bytes=%" PRIu64 " wire=%" PRIu64 " given-up=%" PRIu64 " received=%" PRIu64
           " bytes=%" PRIu64 " wire=%" PRIu64 "\n", n.deflate_messages_sent, n.deflate_sent_bytes,
           n.deflate_sent_wire_bytes, n.deflate_given_up, n.deflate_messages_received, n.deflate_received_bytes,
           n.deflate_received_wire_bytes);
}

/* The most that was ever resident. */
static uint64_t rss_bytes(void)
{
    struct rusage used;
    return getrusage(RUSAGE_SELF, &used) == 0 ? (uint64_t)used.ru_maxrss * 1024 : 0;
}

/* 0 where a sanitizer stands in for malloc. */
static uint64_t heap_bytes(void)
{
    struct mallinfo2 heap = mallinfo2();
    return heap.uordblks + heap.hblkhd;
}

/* Sockets that follow each other leave nothing behind but themselves. */
static bool play_again(void)
{
    uint64_t before = 0;
    run.quiet = false;
    for (uint32_t i = 0; i < run.again; i++) {
        open_one();
        if (!loop())
            return false;
        if (i == 0)
            before = heap_bytes();
    }
    uint64_t after = heap_bytes();
    if (run.heap_growth_max > 0 && after > before + run.heap_growth_max)
        printf("wrong heap: %" PRIu64 " bytes more after %" PRIu32 " sockets\n", after - before, run.again - 1);
    return true;
}

static bool play(void)
{
    run.quiet = run.sockets_count > 1;
    uint64_t rss_before = rss_bytes();
    for (uint32_t i = 0; i < run.sockets_count; i++)
        open_one();
    bool whole = loop();
    if (run.quiet)
        print_many();
    if (whole && run.again > 0)
        whole = play_again();
    if (run.shows_statistics)
        print_statistics();
    if (run.shows_deflate)
        print_deflate();
    uint64_t rss_growth = rss_bytes() - rss_before;
    if (run.rss_growth_max > 0 && rss_growth > run.rss_growth_max)
        printf("wrong memory: its peak grew by %" PRIu64 " bytes\n", rss_growth);
    for (size_t i = 0; i < run.peers_count; i++)
        wsr_socket_destroy(run.peers[i].socket);
    return whole;
}

/* ---- Options ----------------------------------------------------------------------------------- */

/* EVENT[@COUNT]:ACTION[=ARGUMENT] */
static bool add_rule(char *text)
{
    char *action = strchr(text, ':');
    if (!action || run.rules_count == RULES_MAX)
        return false;
    *action++ = '\0';
    struct rule *rule = &run.rules[run.rules_count++];
    char *count = strchr(text, '@');
    if (count) {
        *count++ = '\0';
        rule->at = strtoull(count, NULL, 10);
    }
    char *argument = strchr(action, '=');
    if (argument)
        *argument++ = '\0';
    rule->argument = argument ? argument : "";
    for (int type = WSR_EVENT_OPEN; type < WSR_EVENT_TYPES_COUNT; type++) {
        if (strcmp(text, event_names[type]) == 0)
            rule->type = (enum wsr_event_type)type;
    }
    if (strcmp(text, echoed_name) == 0)
        rule->type = ECHOED;
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(action, actions[i].name) == 0)
            rule->act = actions[i].act;
    }
    return rule->act && rule->type != 0;
}

/* "0,1,16376-16390,100x3": sizes, ranges of sizes, a size so many times. */
static bool add_echoes(char *text)
{
    while (*text != '\0') {
        char *end;
        uint64_t first = strtoull(text, &end, 10);
        uint64_t last = *end == '-' ? strtoull(end + 1, &end, 10) : first;
        uint64_t times = *end == 'x' ? strtoull(end + 1, &end, 10) : 1;
        if ((*end != ',' && *end != '\0') || first > last)
            return false;
        for (uint64_t i = 0; i < (last - first + 1) * times; i++) {
            if (run.echoes_count == ECHOES_MAX)
                return false;
            run.echoes[run.echoes_count++] = first + i / times;
        }
        text = *end == ',' ? end + 1 : end;
    }
    return true;
}

static uint16_t tls_version(const char *value)
{
    return strcmp(value, "1.2") == 0 ? WSR_TLS_1_2 : strcmp(value, "1.3") == 0 ? WSR_TLS_1_3 : 1;
}

static void set_tls_option(const char *name, char *value)
{
    struct wsr_engine_options *engine = &run.engine_options;
    const struct { const char *name; const char **field; } texts[] = {
        { "cacert", &engine->tls_ca_file }, { "capath", &engine->tls_ca_directory },
        { "crl", &engine->tls_crl_file }, { "cert", &engine->tls_certificate_file }, { "key", &engine->tls_key_file },
        { "ciphers", &engine->tls_ciphers }, { "ciphersuites", &engine->tls_ciphersuites },
        { "key-log", &engine->tls_key_log_file }, { "tls-name", &run.socket_options.tls_name },
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(name, texts[i].name) == 0)
            *texts[i].field = value;
    }
    if (strcmp(name, "tls-min") == 0)
        engine->tls_version_min = tls_version(value);
    if (strcmp(name, "tls-max") == 0)
        engine->tls_version_max = tls_version(value);
    for (uint32_t i = 0; i < sizeof(records_names) / sizeof(records_names[0]); i++) {
        if (strcmp(name, "tls-records") == 0 && strcmp(value, records_names[i]) == 0)
            engine->tls_records = i;
    }
    if (strcmp(name, "insecure") == 0)
        engine->flags |= WSR_ENGINE_TLS_INSECURE;
    if (strcmp(name, "no-resumption") == 0)
        engine->flags |= WSR_ENGINE_TLS_NO_RESUMPTION;
    run.shows_tls |= strcmp(name, "show-tls") == 0;
}

static void set_deflate_option(const char *name, char *value)
{
    if (strcmp(name, "deflate") == 0)
        run.socket_options.deflate = value;
    for (uint32_t i = 0; i < sizeof(data_names) / sizeof(data_names[0]); i++) {
        if (strcmp(name, "data") == 0 && strcmp(value, data_names[i]) == 0)
            run.data = (enum data_form)i;
    }
    run.shows_extensions |= strcmp(name, "show-extensions") == 0;
    run.shows_deflate |= strcmp(name, "show-deflate") == 0;
}

static bool set_option(const char *name, char *value)
{
    uint64_t number = value ? strtoull(value, NULL, 10) : 0;
    struct wsr_engine_options *engine = &run.engine_options;
    const struct { const char *name; uint32_t *field; } counts[] = {
        { "workers", &engine->workers_count }, { "buffers", &engine->buffers_count },
        { "buffer-bytes", &engine->buffer_bytes }, { "events", &engine->events_count },
        { "fragments-max", &engine->fragments_max }, { "head-max", &engine->head_max_bytes },
        { "batch", &run.batch }, { "sockets", &run.sockets_count },
        { "deflate-level", &engine->deflate_level }, { "deflate-min", &engine->deflate_min_bytes },
    };
    const struct { const char *name; uint64_t *field; uint64_t unit; } amounts[] = {
        { "message-max", &engine->message_max_bytes, 1 }, { "queue-max", &engine->send_queue_max_bytes, 1 },
        { "loan-max", &engine->loan_max_bytes, 1 }, { "open-timeout", &engine->open_timeout_ns, MS },
        { "close-timeout", &engine->close_timeout_ns, MS }, { "fin-timeout", &engine->fin_timeout_ns, MS },
        { "limit", &run.limit_ns, MS }, { "fragment", &run.socket_options.fragment_bytes, 1 },
        { "heap-max", &run.heap_growth_max, 1 }, { "rss-max", &run.rss_growth_max, 1 },
        { "deflate-idle", &engine->deflate_idle_ns, MS },
    };
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        if (strcmp(name, counts[i].name) == 0)
            *counts[i].field = (uint32_t)number;
    }
    for (size_t i = 0; i < sizeof(amounts) / sizeof(amounts[0]); i++) {
        if (strcmp(name, amounts[i].name) == 0)
            *amounts[i].field = number * amounts[i].unit;
    }
    if (strcmp(name, "log") == 0)
        run.form = strcmp(value, "numbers") == 0 ? LOG_NUMBERS : strcmp(value, "sum") == 0 ? LOG_SUM : LOG_LINES;
    run.dispatch |= strcmp(name, "dispatch") == 0;
    run.counts_errors |= strcmp(name, "count-errors") == 0;
    run.together |= strcmp(name, "together") == 0;
    if (strcmp(name, "again") == 0)
        run.again = value ? (uint32_t)number : 1;
    run.shows_statistics |= strcmp(name, "statistics") == 0;
    set_tls_option(name, value);
    set_deflate_option(name, value);
    if (strcmp(name, "echo") == 0 && !add_echoes(value))
        return false;
    if (strcmp(name, "connect-to") == 0)
        run.socket_options.connect_to = value;
    if (strcmp(name, "proxy") == 0)
        run.socket_options.proxy = value;
    if (strcmp(name, "protocol") == 0 && run.protocols_count < sizeof(run.protocols) / sizeof(run.protocols[0]))
        run.protocols[run.protocols_count++] = value;
    return strcmp(name, "on") != 0 || add_rule(value);
}

static const struct option options[] = {
    { "workers", required_argument, NULL, 0 },       { "buffers", required_argument, NULL, 0 },
    { "buffer-bytes", required_argument, NULL, 0 },  { "events", required_argument, NULL, 0 },
    { "fragments-max", required_argument, NULL, 0 }, { "head-max", required_argument, NULL, 0 },
    { "batch", required_argument, NULL, 0 },         { "sockets", required_argument, NULL, 0 },
    { "message-max", required_argument, NULL, 0 },   { "queue-max", required_argument, NULL, 0 },
    { "loan-max", required_argument, NULL, 0 },      { "open-timeout", required_argument, NULL, 0 },
    { "close-timeout", required_argument, NULL, 0 }, { "fin-timeout", required_argument, NULL, 0 },
    { "limit", required_argument, NULL, 0 },         { "log", required_argument, NULL, 0 },
    { "connect-to", required_argument, NULL, 0 },    { "protocol", required_argument, NULL, 0 },
    { "on", required_argument, NULL, 0 },            { "dispatch", no_argument, NULL, 0 },
    { "together", no_argument, NULL, 0 },            { "again", optional_argument, NULL, 0 },
    { "proxy", required_argument, NULL, 0 },         { "echo", required_argument, NULL, 0 },
    { "fragment", required_argument, NULL, 0 },      { "statistics", no_argument, NULL, 0 },
    { "tls-records", required_argument, NULL, 0 },   { "show-tls", no_argument, NULL, 0 },
    { "tls-min", required_argument, NULL, 0 },       { "tls-max", required_argument, NULL, 0 },
    { "cacert", required_argument, NULL, 0 },        { "capath", required_argument, NULL, 0 },
    { "crl", required_argument, NULL, 0 },           { "cert", required_argument, NULL, 0 },
    { "key", required_argument, NULL, 0 },           { "ciphers", required_argument, NULL, 0 },
    { "ciphersuites", required_argument, NULL, 0 },  { "key-log", required_argument, NULL, 0 },
    { "tls-name", required_argument, NULL, 0 },      { "insecure", no_argument, NULL, 0 },
    { "no-resumption", no_argument, NULL, 0 },       { "count-errors", no_argument, NULL, 0 },
    { "heap-max", required_argument, NULL, 0 },      { "rss-max", required_argument, NULL, 0 },
    { "deflate", required_argument, NULL, 0 },       { "data", required_argument, NULL, 0 },
    { "deflate-level", required_argument, NULL, 0 }, { "deflate-min", required_argument, NULL, 0 },
    { "deflate-idle", required_argument, NULL, 0 },  { "show-extensions", no_argument, NULL, 0 },
    { "show-deflate", no_argument, NULL, 0 },        { NULL, 0, NULL, 0 },
};

int main(int argc, char **argv)
{
    int index = 0;
    int found;
    while ((found = getopt_long(argc, argv, "", options, &index)) == 0) {
        if (!set_option(options[index].name, optarg))
            break;
    }
    if (found != -1 || optind + 1 != argc || run.batch == 0 || run.batch > BATCH_MAX ||
        run.engine_options.workers_count > RINGS_MAX || run.sockets_count >= PEERS_MAX) {
        fprintf(stderr, "usage: interop_client [--OPTION VALUE]... URL\n");
        return 2;
    }
    run.url = argv[optind];
    setvbuf(stdout, NULL, _IOLBF, 0);
    int rc = wsr_engine_create(&run.engine, &run.engine_options);
    if (rc < 0) {
        printf("no engine: %s %s\n", wsr_error_name(rc), wsr_error_text());
        return 1;
    }
    bool whole = play();
    report("engine_destroy", wsr_engine_destroy(run.engine));
    return whole ? 0 : 1;
}
