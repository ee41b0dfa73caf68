/* Whole lives at random: servers that do anything, an application that calls anything at any moment, handlers that do
 * so too, and engines of every odd size. Whatever happens, every socket keeps EVT-01 to EVT-04 (world.c checks each
 * event), what a server receives is what was sent, in order and from the beginning, and at the end every slot, buffer,
 * chunk, timer and file is free. WSRING_SIM_SEEDS and WSRING_SIM_SEED say how many lives, or which one.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "tests/support/world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define LIVES_COUNT 300u
#define SOCKETS_COUNT 24u
#define LIVE_MAX 6u
#define HOLDS_MAX 64u
#define SENT_MAX 400u
#define SCRIPT_BYTES 4096u
#define REST_MS 40000u           /* longer than every limit of time below */

/* ---- A server at random ---- */

struct writer {
    struct sim *sim;
    char *text;
    size_t used;
    bool cuts;                   /* into pieces of a few bytes, and then it echoes nothing: there would be no end */
    bool is_secure;
};

static void write_step(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void write_step(struct writer *w, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    w->used += (size_t)vsnprintf(w->text + w->used, SCRIPT_BYTES - w->used, format, list);
    va_end(list);
    assert_true(w->used + 3 < SCRIPT_BYTES);
    w->used += (size_t)snprintf(w->text + w->used, SCRIPT_BYTES - w->used, "; ");
}

static unsigned pick(const struct writer *w, unsigned bound)
{
    return (unsigned)sim_random(w->sim, bound);
}

#define PICK(w, array) (array)[pick(w, COUNT(array))]

/* Returns whether the connection may come to be OPEN. */
static bool write_opening(struct writer *w)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 No\r\nRetry-After: 1\r\n\r\n", "FOO BAR\r\n\r\n", "HTTP/1.1 101 S\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: $ACCEPT\r\n\r\n",
    };
    if (w->cuts)
        write_step(w, "cut %u", 1 + pick(w, 9));
    switch (pick(w, 12)) {
    case 0:
        write_step(w, "refuse %s %u", pick(w, 2) == 0 ? "ECONNREFUSED" : "EHOSTUNREACH", pick(w, 200));
        return false;
    case 1:
        write_step(w, "silent");
        return false;
    case 2:
        write_step(w, "accept %u", pick(w, 300));
        write_step(w, "expect request");
        write_step(w, "http %s", PICK(w, answers));
        return false;
    case 3:
        write_step(w, "accept");
        write_step(w, pick(w, 2) == 0 ? "rst ECONNRESET" : "expect request; fin");
        return false;
    case 4:
        write_step(w, "accept");
        write_step(w, "expect request");
        write_step(w, "http HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n");
        write_step(w, "http HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: y\r\n"
                   "Sec-WebSocket-Accept: $ACCEPT\r\n\r\n");
        return true;
    default:
        write_step(w, "accept %u", pick(w, 3) == 0 ? pick(w, 100) : 0);
        write_step(w, "upgrade");
        return true;
    }
}

static void write_breach(struct writer *w)
{
    static const char *const breaches[] = {
        "c10161", "8300", "8b00", "0900", "897e007e", "8000", "010161 810162", "818000000000", "827e0001",
        "827f8000000000000000", "827f7fffffffffffffff", "8102c328", "8101c3", "880103", "880203ed", "880303e8ff",
    };
    write_step(w, "raw %s", PICK(w, breaches));
}

static void write_frames(struct writer *w)
{
    switch (pick(w, 8)) {
    case 0: write_step(w, "text hello"); break;
    case 1: write_step(w, "binary "); break;
    case 2: write_step(w, "texts %u", pick(w, 60)); break;
    case 3: write_step(w, "big %u", pick(w, 9000)); break;
    case 4: write_step(w, "ping %u", pick(w, 100)); break;
    case 5: write_step(w, "pings %u", pick(w, 90)); break;
    case 6: write_step(w, "pong unasked"); break;
    default: write_step(w, "fragments %u %s", 1 + pick(w, 30), pick(w, 2) == 0 ? "" : "\xC3\xA9 part"); break;
    }
}

/* What only a server with TLS says. */
static void write_tls(struct writer *w)
{
    static const char *const steps[] = { "update", "update ask", "tickets 1", "tickets 3" };
    write_step(w, "%s", PICK(w, steps));
}

static void write_talk(struct writer *w)
{
    static const char *const windows[] = { "stop", "read", "window 3", "window 100", "slow 1", "slow 50", "slow 5000" };
    if (w->is_secure && pick(w, 10) == 0)
        write_tls(w);
    switch (pick(w, 14)) {
    case 0: write_step(w, "wait %u", pick(w, 300)); break;
    case 1: write_step(w, "%s", PICK(w, windows)); break;
    case 2: write_step(w, w->cuts ? "cut 1" : "echo"); break;
    case 3: write_step(w, w->cuts ? "cut 0" : "cut whole"); break;
    case 4: write_step(w, "expect %s", pick(w, 3) == 0 ? "ping" : "text"); break;
    case 5:
        write_step(w, "cork");
        for (unsigned frames = pick(w, 4); frames > 0; frames--)
            write_frames(w);
        write_step(w, "uncork");
        break;
    default: write_frames(w); break;
    }
}

static void write_end(struct writer *w)
{
    static const char *const closes[] = { "close", "close 1000", "close 1001 away", "close 3000 \xE2\x82\xAC",
                                          "close 4999" };
    static const char *const ends[] = { "fin", "rst ECONNRESET", "rst ETIMEDOUT", "gone", "wait 100; fin",
                                        "wait 5000" };
    static const char *const tls_ends[] = { "notify", "wire 1703030010 00112233445566778899aabbccddeeff",
                                            "wire 1703037fff", "wire 1503030002", "wire 00", "notify; wire 00" };
    if (w->is_secure && pick(w, 8) == 0) {
        write_step(w, "%s", PICK(w, tls_ends));
        write_step(w, "%s", PICK(w, ends));
        return;
    }
    switch (pick(w, 6)) {
    case 0:
        write_step(w, "%s", PICK(w, closes));
        if (pick(w, 4) != 0)
            write_step(w, "expect close");
        break;
    case 1:
        write_step(w, "expect close");
        write_step(w, "%s", PICK(w, closes));
        break;
    case 2:
        write_step(w, "%s", PICK(w, closes));
        write_step(w, "text no; ping no; close 1000; raw ffffff");
        break;
    case 3:
        write_breach(w);
        break;
    default:
        break;
    }
    write_step(w, "%s", PICK(w, ends));
}

static void script_at_random(struct world *world)
{
    char text[SCRIPT_BYTES];
    struct writer writer = { .sim = world->sim, .text = text, .is_secure = world->way != WORLD_WS };
    writer.cuts = pick(&writer, 4) == 0;
    if (pick(&writer, 8) == 0)
        write_step(&writer, "stop");
    if (write_opening(&writer)) {
        for (unsigned steps = pick(&writer, 14); steps > 0; steps--)
            write_talk(&writer);
    }
    write_end(&writer);
    sim_script(world->sim, text);
}

/* ---- An application at random ---- */

struct life {
    struct wsr_hold *holds[HOLDS_MAX];
    unsigned holds_count;
    bool reacts;
    /* What the server of each socket has to receive, a line each as it would log it. */
    char *sent[SOCKETS_COUNT][SENT_MAX];
    unsigned sent_count[SOCKETS_COUNT];
    uint64_t accepted_bytes[SOCKETS_COUNT];
    uint64_t amounts_at_end[SOCKETS_COUNT];
    enum wsr_ready_state states[SOCKETS_COUNT];
    bool is_ours[SOCKETS_COUNT];               /* closed or destroyed by the application */
    size_t owed_bytes[SOCKETS_COUNT];          /* of sim_said(): so much has to have been told */
};

static void note_sent(struct life *life, unsigned index, enum wsr_kind kind, const char *payload, size_t len)
{
    char line[128];
    const char *name = kind == WSR_TEXT ? "text" : "binary";
    if (len > 40)
        snprintf(line, sizeof line, "%s %zu #%08x\n", name, len, sim_hash(payload, len));
    else
        snprintf(line, sizeof line, "%s %zu%s%.*s\n", name, len, len > 0 ? " " : "", (int)len, payload);
    life->sent[index][life->sent_count[index]] = strdup(line);
    assert_non_null(life->sent[index][life->sent_count[index]]);
    life->sent_count[index]++;
}

static void send_something(struct world *world, unsigned index)
{
    static const size_t sizes[] = { 0, 1, 20, 125, 126, 400, 5000, 20000 };
    static char bytes[70000];
    struct life *life = world->context;
    struct wsr_socket *socket = world->sockets[index].socket;
    enum wsr_ready_state before = wsr_socket_ready_state(socket);
    size_t len = sim_random(world->sim, 40) == 0 ? sizeof bytes : sizes[sim_random(world->sim, COUNT(sizes))];
    enum wsr_kind kind = sim_random(world->sim, 2) == 0 ? WSR_TEXT : WSR_BINARY;
    memset(bytes, 'a' + (int)(life->sent_count[index] % 26), len);
    snprintf(bytes, len > 8 ? 9 : len, "%u", life->sent_count[index]);
    if (len > 8)
        bytes[8] = ' ';
    for (size_t i = 0; i < len; i++)
        bytes[i] = bytes[i] == '\0' ? '_' : bytes[i];
    const struct iovec parts[] = { { bytes, len / 3 }, { bytes + len / 3, len - len / 3 } };
    uint64_t now = wsr_socket_buffered_now(socket);
    int rc = sim_random(world->sim, 2) == 0 ? wsr_send(socket, kind, bytes, len)
                                            : wsr_send_gather(socket, kind, parts, 2);
    if (before == WSR_CONNECTING ? rc != WSR_ERR_INVALID_STATE
                                 : rc != 0 && (before != WSR_OPEN || (rc != WSR_ERR_QUOTA && rc != WSR_ERR_ARGUMENT)))
        world_fail(world, "wsr_send of %zu in state %d: %s", len, (int)before, wsr_error_name(rc));
    if (wsr_socket_buffered_now(socket) != now + (rc == 0 ? len : 0))
        world_fail(world, "wsr_send of %zu returned %s, bufferedAmount went from %llu to %llu", len, wsr_error_name(rc),
                   (unsigned long long)now, (unsigned long long)wsr_socket_buffered_now(socket));
    if (rc != 0)
        return;
    life->accepted_bytes[index] += len;
    if (before == WSR_OPEN && life->sent_count[index] < SENT_MAX)
        note_sent(life, index, kind, bytes, len);
}

static void close_somehow(struct world *world, unsigned index)
{
    static const struct { int code; const char *reason; int rc; } closes[] = {
        { 0, NULL, 0 }, { 1000, NULL, 0 }, { 3000, "bye", 0 }, { 4999, "\xE2\x82\xAC", 0 }, { 0, "why", 0 },
        { 1001, NULL, WSR_ERR_INVALID_ACCESS }, { 1000, "\xFF", WSR_ERR_SYNTAX },
    };
    size_t at = (size_t)sim_random(world->sim, COUNT(closes));
    struct wsr_socket *socket = world->sockets[index].socket;
    enum wsr_ready_state before = wsr_socket_ready_state(socket);
    enum wsr_ready_state want = closes[at].rc == 0 && before < WSR_CLOSING ? WSR_CLOSING : before;
    ((struct life *)world->context)->is_ours[index] |= closes[at].rc == 0;
    assert_int_equal(wsr_close(socket, closes[at].code, closes[at].reason, WSR_ZSTRING), closes[at].rc);
    assert_int_equal(wsr_socket_ready_state(socket), want);
}

static void unheard(const struct wsr_event *event, void *context)
{
    (void)event, (void)context;
}

static void read_everything(struct world *world, unsigned index)
{
    const struct wsr_socket *socket = world->sockets[index].socket;
    size_t len = 0;
    const char *value = wsr_socket_response_header(socket, "upgrade", 0, &len);
    if (value != NULL && wsr_socket_ready_state(socket) == WSR_CONNECTING)
        world_fail(world, "the answer can be read while connecting");
    assert_string_equal(wsr_socket_url(socket), world_url(world, WORLD_URL));
    assert_string_equal(wsr_socket_origin(socket), world_url(world, "ws://10.0.0.1:9001"));
    assert_string_equal(wsr_socket_extensions(socket), "");
    assert_int_equal(wsr_socket_ring(socket), 0);
    assert_true(wsr_socket_buffered_amount(socket) >= wsr_socket_buffered_now(socket));
}

static void call_something(struct world *world, unsigned index)
{
    struct wsr_socket *socket = world->sockets[index].socket;
    bool is_connecting = wsr_socket_ready_state(socket) == WSR_CONNECTING;
    switch (sim_random(world->sim, 16)) {
    case 0:
        if (sim_random(world->sim, 3) == 0)
            close_somehow(world, index);
        break;
    case 1:
        if (sim_random(world->sim, 4) == 0) {
            ((struct life *)world->context)->is_ours[index] = true;
            world_destroy_socket(world, index);
        }
        break;
    case 2:
        assert_int_equal(wsr_ping(socket, "app", 3), is_connecting ? WSR_ERR_INVALID_STATE : 0);
        break;
    case 3:
        assert_int_equal(wsr_ping(socket, NULL, 0), is_connecting ? WSR_ERR_INVALID_STATE : 0);
        break;
    case 4:
        assert_int_equal(wsr_pause(socket), 0);
        break;
    case 5:
    case 6:
        assert_int_equal(wsr_resume(socket), 0);
        break;
    case 7:
        wsr_socket_set_binary_type(socket, (enum wsr_binary_type)sim_random(world->sim, 3));
        assert_int_equal(wsr_add_event_listener(socket, (enum wsr_event_type)(1 + sim_random(world->sim, 6)), unheard,
                                                world, WSR_LISTENER_ONCE), 0);
        break;
    case 8:
        read_everything(world, index);
        break;
    default:
        send_something(world, index);
        break;
    }
}

/* After an end of the server's making, all that it had said has been told. */
static void note_end(struct world *world, unsigned index, const struct wsr_event *event)
{
    struct life *life = world->context;
    bool has_all = event->was_clean || strstr(event->text, "without a Close frame") != NULL;
    if (has_all && !life->is_ours[index] && index < sim_connections(world->sim))
        life->owed_bytes[index] = strlen(sim_said(world->sim, index));
}

/* Handlers hold some messages, and now and then call something, for any socket. */
static void react(struct world *world, unsigned index, const struct wsr_event *event)
{
    struct life *life = world->context;
    if (event->type == WSR_EVENT_CLOSE)
        note_end(world, index, event);
    if (!life->reacts)
        return;
    if (event->type == WSR_EVENT_MESSAGE && sim_random(world->sim, 6) == 0 && life->holds_count < HOLDS_MAX) {
        struct wsr_hold *hold = wsr_event_hold(event);
        if (hold != NULL)
            life->holds[life->holds_count++] = hold;
    }
    unsigned other = (unsigned)sim_random(world->sim, world->sockets_count);
    if (sim_random(world->sim, 8) == 0 && world->sockets[other].socket != NULL)
        call_something(world, other);
}

/* ---- What must hold at every moment ---- */

static void check_sockets(struct world *world)
{
    struct life *life = world->context;
    for (unsigned i = 0; i < world->sockets_count; i++) {
        const struct wsr_socket *socket = world->sockets[i].socket;
        if (socket == NULL)
            continue;
        enum wsr_ready_state state = wsr_socket_ready_state(socket);
        uint64_t now = wsr_socket_buffered_now(socket);
        if (state < life->states[i])
            world_fail(world, "socket %u went from state %d to %d", i, (int)life->states[i], (int)state);
        if (now > life->accepted_bytes[i])
            world_fail(world, "socket %u: bufferedAmount is more than was ever sent", i);
        if ((world->sockets[i].closed || world->sockets[i].failed) != (state == WSR_CLOSED))
            world_fail(world, "socket %u is in state %d, its close event %s", i, (int)state,
                       world->sockets[i].closed ? "came" : "did not come");
        /* BUF-07: it never falls once the socket is CLOSED. */
        if (state == WSR_CLOSED && now < life->amounts_at_end[i])
            world_fail(world, "socket %u: bufferedAmount fell after the close event", i);
        if (state == WSR_CLOSED)
            life->amounts_at_end[i] = now;
        life->states[i] = state;
    }
}

/* The server's messages are the first of those that were sent, in their order (SEND-09, SEND-13, CLOSE-20). */
static void check_received(struct world *world)
{
    const struct life *life = world->context;
    for (unsigned i = 0; i < sim_connections(world->sim); i++) {
        unsigned count = 0;
        for (const char *line = sim_log(world->sim, i); *line != '\0'; line += strcspn(line, "\n") + 1) {
            if (strncmp(line, "text", 4) != 0 && strncmp(line, "binary", 6) != 0)
                continue;
            if (count == life->sent_count[i] && count == SENT_MAX)
                break;
            const char *want = count < life->sent_count[i] ? life->sent[i][count] : "nothing\n";
            if (strncmp(line, want, strlen(want)) != 0)
                world_fail(world, "connection %u, message %u: the peer saw\n%s\n---- expected: %s", i, count,
                           sim_log(world->sim, i), want);
            count++;
        }
    }
}

/* The messages of socket @index are the first of those that its server has sent, in their order; all of them when the
 * server ended well (EVT-10). */
static void check_told(struct world *world, unsigned index)
{
    const struct life *life = world->context;
    const char *begin = index < sim_connections(world->sim) ? sim_said(world->sim, index) : "", *said = begin;
    char prefix[16];
    snprintf(prefix, sizeof prefix, "%u: ", index);
    for (const char *line = world->log; *line != '\0'; line += strcspn(line, "\n") + 1) {
        const char *event = line;
        if (strncmp(line, prefix, strlen(prefix)) == 0)
            event = line + strlen(prefix);
        else if (index > 0 || (line[0] >= '0' && line[0] <= '9'))
            continue;                      /* the first socket's lines have no number until there is a second */
        if (strncmp(event, "message", 7) != 0)
            continue;
        size_t len = strcspn(said, "\n") + 1;
        if (*said == '\0' || strncmp(event, said, len) != 0)
            world_fail(world, "socket %u was told a message that is not the next of its server, which is %s", index,
                       said);
        said += len;
    }
    if ((size_t)(said - begin) < life->owed_bytes[index])
        world_fail(world, "socket %u was not told of %s", index, said);
}

static unsigned count_chunks(struct wsr_slab *slab)
{
    struct wsr_chunk *taken = NULL, *chunk;
    unsigned count = 0;
    while ((chunk = wsr_slab_take(slab, 1)) != NULL) {
        chunk->next = taken;
        taken = chunk;
        count++;
    }
    wsr_slab_give_all(slab, taken);
    return count;
}

static void check_rest(struct world *world, unsigned chunks_count)
{
    const struct wsr_worker *worker = world->engine->consumers[0].worker;
    const struct wsr_conn_host *host = &worker->host;
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(world->engine, &statistics), 0);
    assert_int_equal(statistics.sockets_live, 0);
    assert_int_equal(statistics.loan_bytes, 0);
    assert_int_equal(statistics.buffers_lent, 0);
    assert_int_equal(sim_buffers_home(world->sim), statistics.buffers_count);
    assert_int_equal(sim_files_open(world->sim), 0);
    assert_true(wsr_engine_timeout(world->engine) == WSR_NEVER);
    assert_null(world->engine->sockets);
    assert_null(host->unsent_first);
    assert_null(host->resting_first);
    assert_null(host->gone_first);
    unsigned free_count = 0;
    for (const struct wsr_conn *conn = host->free_first; conn != NULL; conn = wsr_conn_next(conn)) {
        assert_int_equal(conn->state, WSR_CONN_FREE);
        assert_true(conn->file == -1 && conn->ops == 0 && conn->link == NULL && conn->marks == 0);
        free_count++;
    }
    assert_int_equal(free_count, host->slots_used);
    assert_int_equal(wsr_pool_blocks_out(host->pool), 0);
    assert_int_equal(count_chunks(host->slab), chunks_count);
}

/* ---- A life ---- */

static void open_something(struct world *world)
{
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    struct wsr_socket *socket;
    unsigned live = 0;
    for (unsigned i = 0; i < world->sockets_count; i++)
        live += world->sockets[i].socket != NULL && !world->sockets[i].closed;
    if (live >= LIVE_MAX || world->sockets_count == SOCKETS_COUNT)
        return;
    options.flags = sim_random(world->sim, 2) == 0 ? WSR_SOCKET_KEEP_RESPONSE : 0;
    int rc = wsr_socket_open(world->engine, world_url(world, WORLD_URL), WSR_ZSTRING, NULL, 0, &options, &socket);
    if (rc != 0) {
        assert_int_equal(rc, WSR_ERR_MEMORY);      /* the slots of destroyed ones may still be finishing */
        return;
    }
    world_adopt(world, socket);
}

static void let_time_pass(struct world *world)
{
    switch (sim_random(world->sim, 6)) {
    case 0: world_sleep(world, sim_random(world->sim, 200)); break;
    case 1: world_look(world); break;
    case 2: world_run(world, sim_random(world->sim, 3000)); break;
    default: world_run(world, sim_random(world->sim, 20)); break;
    }
}

static void live(struct world *world, unsigned steps)
{
    struct life *life = world->context;
    while (steps-- > 0) {
        if (sim_random(world->sim, 4) == 0)
            open_something(world);
        for (unsigned calls = (unsigned)sim_random(world->sim, 6); calls > 0 && world->sockets_count > 0; calls--) {
            unsigned index = (unsigned)sim_random(world->sim, world->sockets_count);
            if (world->sockets[index].socket != NULL)
                call_something(world, index);
        }
        while (life->holds_count > 0 && sim_random(world->sim, 2) == 0)
            wsr_hold_release(life->holds[--life->holds_count]);
        let_time_pass(world);
        check_sockets(world);
    }
}

/* Nobody calls anything for a while, and nothing is paused: what is open then has told all that there was. */
static void come_to_rest(struct world *world)
{
    struct life *life = world->context;
    for (unsigned i = 0; i < world->sockets_count; i++) {
        if (world->sockets[i].socket != NULL)
            assert_int_equal(wsr_resume(world->sockets[i].socket), 0);
    }
    world_run(world, REST_MS);
    for (unsigned i = 0; i < world->sockets_count; i++) {
        const struct wsr_socket *socket = world->sockets[i].socket;
        if (socket != NULL && !life->is_ours[i] && wsr_socket_ready_state(socket) == WSR_OPEN)
            life->owed_bytes[i] = strlen(sim_said(world->sim, i));
    }
    world_run(world, 1000);
}

static void end_life(struct world *world, unsigned chunks_count)
{
    struct life *life = world->context;
    life->reacts = false;
    while (life->holds_count > 0)
        wsr_hold_release(life->holds[--life->holds_count]);
    if (sim_random(world->sim, 2) == 0)
        come_to_rest(world);
    for (unsigned i = 0; i < world->sockets_count; i++) {
        if (world->sockets[i].socket == NULL || sim_random(world->sim, 2) == 0)
            continue;
        life->is_ours[i] = true;
        assert_int_equal(wsr_close(world->sockets[i].socket, 1000, NULL, 0), 0);
    }
    if (sim_random(world->sim, 2) == 0)
        world_run(world, REST_MS);
    check_sockets(world);
    for (unsigned i = 0; i < world->sockets_count; i++) {
        if (world->sockets[i].socket != NULL)
            world_destroy_socket(world, i);
    }
    world_run(world, REST_MS);
    check_received(world);
    for (unsigned i = 0; i < world->sockets_count; i++)
        check_told(world, i);
    check_rest(world, chunks_count);
}

static void options_at_random(struct wsr_engine_options *options, uint64_t seed)
{
    /* Of the seed alone: the simulation begins when the options are known. */
    uint64_t random = seed * 0x9E3779B97F4A7C15u;
    options->sockets_max = random >> 60 & 1 ? LIVE_MAX : 0;
    options->events_count = 8u << (random >> 56 & 3);
    options->buffers_count = 2u << (random >> 54 & 3);
    options->buffer_bytes = 256u << (random >> 52 & 3);
    options->send_queue_max_bytes = random >> 50 & 1 ? 3000 : 0;
    options->send_pool_bytes = random >> 48 & 1 ? 300000 : 2000000;
    options->message_max_bytes = random >> 46 & 1 ? 2000 : 0;
    options->fragments_max = random >> 44 & 1 ? 7 : 0;
    options->loan_max_bytes = random >> 42 & 1 ? 10000 : 0;
    options->open_timeout_ns = random >> 40 & 1 ? 1000000000u : 0;
    options->close_timeout_ns = random >> 38 & 1 ? 500000000u : 0;
    options->fin_timeout_ns = random >> 36 & 1 ? 50000000u : 0;
}

static void live_once(uint64_t seed, enum world_way way)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct world world;
    struct life life = { .holds_count = 0 };
    options_at_random(&options, seed);
    world_open_over(&world, seed, &options, way);
    for (unsigned i = 0; i < SOCKETS_COUNT; i++)
        script_at_random(&world);
    unsigned chunks_count = count_chunks(world.engine->consumers[0].worker->host.slab);
    world.context = &life;
    unsigned manner = (unsigned)sim_random(world.sim, 4);
    life.reacts = manner > 1;
    world.react = manner > 0 ? react : NULL;   /* without it, arrays of several events are polled */
    live(&world, 20 + (unsigned)sim_random(world.sim, 80));
    if (sim_random(world.sim, 5) != 0)
        end_life(&world, chunks_count);
    while (life.holds_count > 0)
        wsr_hold_release(life.holds[--life.holds_count]);
    world_close(&world);                       /* in the midst of everything, one time in five */
    for (unsigned i = 0; i < SOCKETS_COUNT; i++) {
        for (unsigned k = 0; k < life.sent_count[i]; k++)
            free(life.sent[i][k]);
    }
}

/* EVT-01 to EVT-04, EVT-14, BUF-07, SEND-09, SEND-13, CLOSE-20, CLOSE-32 */
static void lives_at_random(void **state)
{
    (void)state;
    bool is_counted = getenv("WSRING_SIM_SEEDS") != NULL || getenv("WSRING_SIM_SEED") != NULL;
    uint64_t last = is_counted ? world_seeds_last() : LIVES_COUNT;
    for (int way = WORLD_WS; way < WORLD_WAYS_COUNT; way++) {
        for (uint64_t seed = world_seeds_first(); seed <= last; seed++) {
            if (world_has_seed((enum world_way)way, seed))
                live_once(seed, (enum world_way)way);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lives_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
