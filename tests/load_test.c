/* wsring load and wsring echo as a user runs them: each in a process of its own, against each other and against a
 * server that does one thing wrong.
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "bench/echo_http.h"
#include "engine/frame.h"
#include "tests/support/program.h"
#include "wsring.h"

static struct program_echo echo;

static int group_setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    ECHO_START(&echo, "--workers", "2");
    return 0;
}

/* SIGTERM ends it with 0. */
static int group_teardown(void **state)
{
    (void)state;
    program_echo_stop(&echo);
    return 0;
}

/* ---- Against the echo server ---- */

static void every_size_and_kind_is_verified(void **state)
{
    (void)state;
    static const char *const sizes[] = { "0", "1", "31", "32", "64", "125", "126", "4096", "65535", "65536", "300000" };
    static const char *const kinds[] = { "--text", "--binary" };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t k = 0; k < 2; k++) {
            assert_int_equal(LOAD(echo.url, "-n", "40", "-s", sizes[i], kinds[k]), 0);
            program_says("\"sent\": 40,");
            program_says("\"verified\": 40,");
            program_says(k == 0 ? "\"kind\": \"text\"" : "\"kind\": \"binary\"");
        }
    }
}

static void inline_threads_and_workers_all_share_the_load(void **state)
{
    (void)state;
    assert_int_equal(LOAD(echo.url, "-n", "1001", "-c", "7", "-t", "2"), 0);
    program_says("\"verified\": 1001,");
    program_says("\"opened\": 7,");
    assert_int_equal(LOAD(echo.url, "-n", "1001", "-c", "7", "--workers", "2"), 0);
    program_says("\"verified\": 1001,");
    program_says("\"closed_clean\": 7,");
}

static void every_wait_works(void **state)
{
    (void)state;
    static const char *const waits[] = { "block", "spin", "adaptive" };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(LOAD(echo.url, "-n", "200", "--wait", waits[i]), 0);
        program_says(waits[i]);
    }
}

static void a_duration_ends_the_run(void **state)
{
    (void)state;
    assert_int_equal(LOAD(echo.url, "-d", "50ms"), 0);
    program_says("\"fault\": \"\"");
    assert_int_equal(LOAD(echo.url, "-d", "1h", "-n", "8"), 0);      /* whichever is over first */
    program_says("\"verified\": 8,");
}

static void what_is_negotiated_is_told(void **state)
{
    (void)state;
    assert_int_equal(LOAD(echo.url, "-n", "8", "--subprotocol", "first", "--subprotocol", "second"), 0);
    program_says("\"subprotocol\": \"first\"");
}

static void addresses_can_be_chosen(void **state)
{
    (void)state;
    assert_int_equal(LOAD("ws://name.that.does.not.exist.invalid/", "-n", "8", "--connect-to", echo.address, "--source",
                          "127.0.0.2,127.0.0.3", "-H", "X-Test: yes"), 0);
}

/* The fifth connection is not due before 80 ms are over: a lower bound, which no slow machine breaks. */
static void the_connect_rate_spreads_the_opening(void **state)
{
    (void)state;
    assert_int_equal(LOAD(echo.url, "-c", "5", "-n", "5", "--connect-rate", "50"), 0);
    const char *opened = strstr(program_output, "\"all_opened_ns\": ");
    assert_non_null(opened);
    assert_true(strtoull(opened + 17, NULL, 10) >= 80000000);
}

static void buffers_and_seed_are_passed_on(void **state)
{
    (void)state;
    assert_int_equal(LOAD(echo.url, "-n", "8", "--buffers", "64", "--buffer-bytes", "1KiB", "--seed", "77"), 0);
    program_says("\"buffers\": 64,");
    program_says("\"seed\": 77,");
}

static void the_servers_cpu_is_told_when_its_process_is_given(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)echo.pid);
    assert_int_equal(LOAD(echo.url, "-n", "8"), 0);
    program_says("\"server_ns\": null");
    assert_int_equal(LOAD(echo.url, "-n", "8", "--server-pid", pid), 0);
    assert_null(strstr(program_output, "\"server_ns\": null"));
}

/* The first signal ends the sending, drains, closes and reports. */
static void a_signal_ends_the_run_with_its_report(void **state)
{
    (void)state;
    const struct timespec while_it_runs = { .tv_nsec = 300000000 };
    pid_t pid = program_load_start(echo.url, (const char *const[]){ "-d", "1h", NULL });
    nanosleep(&while_it_runs, NULL);
    kill(pid, SIGINT);
    assert_int_equal(program_load_end(pid), 0);
    program_says("\"interrupted\": true");
    program_says("\"lost\": 0,");
    program_says("\"closed_clean\": 2,");
}

static bool has_direct(void)
{
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    assert_int_equal(wsr_diagnose(&diagnosis), 0);
    return strstr(diagnosis.features, "direct_files") != NULL;
}

/* After both Close frames the server is the one that ends TCP, while this client's side stays open. */
static void expect_end_from_echo(const struct program_echo *from)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    static const uint8_t close_frame[] = { 0x88, 0x80, 1, 2, 3, 4 };
    const struct timeval patience = { .tv_sec = 20 };
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    uint8_t in[1024];
    ssize_t got;
    address.sin_port = htons(from->port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, request, sizeof request - 1, 0), sizeof request - 1);
    assert_true(recv(fd, in, sizeof in, 0) > 0);
    assert_int_equal(send(fd, close_frame, sizeof close_frame, 0), sizeof close_frame);
    do
        got = recv(fd, in, sizeof in, 0);
    while (got > 0);
    assert_int_equal(got, 0);
    close(fd);
}

/* Both ends have more connections than each of them may have files open, as far as their tables go. */
static void direct_descriptors_go_beyond_the_limit_of_open_files(void **state)
{
    (void)state;
    struct program_echo another;
    if (!has_direct())
        skip();
    program_files_max = 128;
    ECHO_START(&another, "--direct", "--workers", "6", "--buffers", "64");
    assert_int_equal(LOAD(another.url, "-c", "300", "-t", "3", "-n", "900", "--direct", "--buffers", "64"), 0);
    program_says("\"opened\": 300,");
    program_says("\"verified\": 900,");
    program_says("\"closed_clean\": 300,");
    program_says("direct_files");
    assert_int_equal(LOAD(another.url, "-c", "200", "--workers", "2", "-n", "200", "--direct", "--buffers", "64"), 0);
    program_says("\"closed_clean\": 200,");
    assert_int_equal(LOAD(another.url, "-c", "300", "-t", "3", "-n", "900"), 2);                   /* all are files */
    assert_int_equal(LOAD(another.url, "-c", "300", "-t", "2", "-n", "900", "--direct"), 2);       /* 150 for a table */
    expect_end_from_echo(&another);
    program_echo_stop(&another);
    program_files_max = 0;
}

/* What they do is the engine's tests' to show: here, that they reach it. */
static void options_of_waiting_reach_the_engine(void **state)
{
    (void)state;
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    assert_int_equal(wsr_diagnose(&diagnosis), 0);
    assert_int_equal(LOAD(echo.url, "-n", "100", "--batch", "8", "--batch-wait", "1ms", "--napi", "50us"), 0);
    program_says("\"verified\": 100,");
    if (strstr(diagnosis.features, "napi") != NULL)
        program_says(" napi");
    assert_int_equal(LOAD(echo.url, "-n", "1", "--batch", "8", "--wait", "spin"), 2);      /* which never sleeps */
    assert_int_equal(LOAD(echo.url, "-n", "1", "--batch-wait", "1ms"), 2);                 /* for no batch */
    assert_int_equal(LOAD(echo.url, "-n", "1", "--batch", "257"), 2);
}

static void wrong_command_lines_end_with_2(void **state)
{
    (void)state;
    assert_int_equal(LOAD("ws://", "-n", "1"), 2);
    assert_int_equal(LOAD(echo.url, "ws://another/"), 2);
    assert_int_equal(LOAD(echo.url, "--nonsense"), 2);
    assert_int_equal(LOAD(echo.url, "-H", "no colon"), 2);
    assert_int_equal(LOAD(echo.url, "-H", "Host: taken"), 2);
    assert_int_equal(LOAD(echo.url, "--inline", "--workers", "1"), 2);
    assert_int_equal(LOAD(echo.url, "--buffers", "3"), 2);
    assert_int_equal(LOAD(echo.url, "--source", "nowhere"), 2);
    assert_int_equal(LOAD(echo.url, "-c", "10000000"), 2);
}

static void without_a_subprotocol_the_servers_answer_is_refused(void **state)
{
    (void)state;
    struct program_echo another;
    ECHO_START(&another, "--no-subprotocol", "--wait", "spin");
    (void)LOAD(another.url, "-n", "8", "--subprotocol", "first");
    program_says("\"subprotocol\": \"\"");
    program_echo_stop(&another);
}

/* ---- Against a server that does one thing wrong with the tenth message of each connection ---- */

enum fault {
    FAULT_NONE,
    FAULT_LOSES,
    FAULT_REPEATS,
    FAULT_SWAPS,          /* the tenth and the eleventh */
    FAULT_CHANGES,        /* one byte of the body */
    FAULT_CUTS,           /* its last byte */
    FAULT_MIXES_UP,       /* sends the other connection's message as well */
    FAULT_BREAKS_OFF,
    FAULT_FORBIDS,        /* answers the upgrade with 403 */
    FAULT_IGNORES         /* never answers the upgrade */
};

#define MESSAGE_MAX 1024

#define CLIENTS_MAX 128

struct server {
    int listener;
    enum fault fault;
    char url[64];
    pthread_t thread;
    pthread_t clients[CLIENTS_MAX];
    unsigned clients_count;
    pthread_mutex_t lock;
    uint8_t other[MESSAGE_MAX];      /* the message of whichever connection came first to its tenth */
    size_t other_bytes;
};

struct client {
    struct server *server;
    int fd;
    uint8_t in[65536];
    size_t have;
};

static void answer(const struct client *c, uint8_t opcode, const uint8_t *payload, size_t len)
{
    uint8_t frame[WSR_FRAME_HEAD_MAX + MESSAGE_MAX];
    size_t head = wsr_frame_write(frame, 0x80 | opcode, len, NULL);
    memcpy(frame + head, payload, len);
    (void)!write(c->fd, frame, head + len);
}

static bool read_more(struct client *c)
{
    ssize_t got = read(c->fd, c->in + c->have, sizeof c->in - c->have);
    c->have += got > 0 ? (size_t)got : 0;
    return got > 0;
}

static bool upgrade(struct client *c)
{
    struct wsr_echo_http_request request;
    char text[WSR_ECHO_HTTP_ANSWER_CHARS];
    size_t scanned = 0;
    const char *why;
    ptrdiff_t head;
    while ((head = wsr_echo_http_parse(&request, c->in, c->have, &scanned, &why)) == 0) {
        if (!read_more(c))
            return false;
    }
    while (c->server->fault == FAULT_IGNORES) {
        if (!read_more(c))
            return false;
    }
    if (head < 0 || c->server->fault == FAULT_FORBIDS) {
        static const char forbidden[] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        (void)!write(c->fd, forbidden, sizeof forbidden - 1);
        return false;
    }
    int len = wsr_echo_http_accept(text, &request);
    (void)!write(c->fd, text, (size_t)len);
    c->have -= (size_t)head;
    memmove(c->in, c->in + head, c->have);
    return true;
}

/* The tenth message, wrongly. Returns false to break off. */
static bool misbehave(struct client *c, uint8_t opcode, uint8_t *payload, size_t len)
{
    struct server *server = c->server;
    switch (server->fault) {
    case FAULT_LOSES:
    case FAULT_SWAPS:
        return true;
    case FAULT_BREAKS_OFF:
        return false;
    case FAULT_REPEATS:
        answer(c, opcode, payload, len);
        break;
    case FAULT_CHANGES:
        payload[len - 1] ^= 1;
        break;
    case FAULT_CUTS:
        len--;
        break;
    case FAULT_MIXES_UP:
        pthread_mutex_lock(&server->lock);
        if (server->other_bytes > 0)
            answer(c, opcode, server->other, server->other_bytes);
        memcpy(server->other, payload, len);
        server->other_bytes = len;
        pthread_mutex_unlock(&server->lock);
        break;
    case FAULT_NONE:
    case FAULT_FORBIDS:
    case FAULT_IGNORES:
        break;
    }
    answer(c, opcode, payload, len);
    return true;
}

static void serve(struct client *c)
{
    uint8_t kept[MESSAGE_MAX];
    size_t kept_bytes = 0;
    for (unsigned count = 0;;) {
        struct wsr_frame frame;
        int head = wsr_frame_parse(&frame, c->in, c->have);
        if (head < 0 || (head > 0 && frame.payload_bytes > MESSAGE_MAX))
            return;
        if (head == 0 || c->have < (size_t)head + frame.payload_bytes) {
            if (!read_more(c))
                return;
            continue;
        }
        uint8_t *payload = c->in + head;
        size_t len = (size_t)frame.payload_bytes;
        for (size_t i = 0; i < len; i++)
            payload[i] ^= frame.mask[i % 4];
        count += frame.opcode != WSR_OPCODE_CLOSE;
        if (count == 10 && frame.opcode != WSR_OPCODE_CLOSE) {
            memcpy(kept, payload, len);
            kept_bytes = len;
            if (!misbehave(c, frame.opcode, payload, len))
                return;
        } else {
            answer(c, frame.opcode, payload, len);
        }
        if (count == 11 && c->server->fault == FAULT_SWAPS && kept_bytes > 0) {
            answer(c, frame.opcode, kept, kept_bytes);
            kept_bytes = 0;
        }
        if (frame.opcode == WSR_OPCODE_CLOSE)
            return;
        c->have -= (size_t)head + len;
        memmove(c->in, payload + len, c->have);
    }
}

static void *serve_client(void *argument)
{
    struct client *c = argument;
    if (upgrade(c))
        serve(c);
    close(c->fd);
    free(c);
    return NULL;
}

static void *accept_clients(void *argument)
{
    struct server *server = argument;
    const int on = 1;
    int fd;
    while ((fd = accept(server->listener, NULL, NULL)) >= 0) {
        struct client *c = calloc(1, sizeof *c);
        if (!c || server->clients_count == CLIENTS_MAX)
            abort();
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c->server = server;
        c->fd = fd;
        if (pthread_create(&server->clients[server->clients_count], NULL, serve_client, c) != 0)
            abort();
        server->clients_count++;
    }
    return NULL;
}

static int load_against(enum fault fault, const char *size)
{
    static struct server room;
    struct server *server = &room;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof address;
    *server = (struct server){ .fault = fault, .lock = PTHREAD_MUTEX_INITIALIZER };
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->listener >= 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, bytes), 0);
    assert_int_equal(listen(server->listener, 16), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &bytes), 0);
    snprintf(server->url, sizeof server->url, "ws://127.0.0.1:%u/", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&server->thread, NULL, accept_clients, server), 0);
    int status = LOAD(server->url, "-n", "60", "-s", size, "--drain-timeout", "200ms",
                      "--open-timeout", fault == FAULT_IGNORES ? "100ms" : "10s");
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    for (unsigned i = 0; i < server->clients_count; i++)
        pthread_join(server->clients[i], NULL);
    close(server->listener);
    return status;
}

static void expect_fault(enum fault fault, const char *size, const char *counted)
{
    assert_int_equal(load_against(fault, size), 1);
    program_says("\"ok\": false");
    program_says(counted);
}

static void a_sound_server_passes(void **state)
{
    (void)state;
    assert_int_equal(load_against(FAULT_NONE, "64"), 0);
    program_says("\"verified\": 60,");
}

/* Each in messages that carry a whole head, and in shorter ones. */
static void each_fault_is_counted_apart(void **state)
{
    (void)state;
    static const char *const sizes[] = { "64", "16" };
    for (size_t i = 0; i < 2; i++) {
        expect_fault(FAULT_LOSES, sizes[i], "\"lost\": 2,");
        expect_fault(FAULT_REPEATS, sizes[i], "\"duplicated\": 2,");
        expect_fault(FAULT_SWAPS, sizes[i], "\"reordered\": 2,");
        program_says("\"lost\": 0,");
        expect_fault(FAULT_CHANGES, sizes[i], "\"corrupted\": 2,");
        program_says("\"lost\": 0,");
        expect_fault(FAULT_CUTS, sizes[i], "\"corrupted\": 2,");
    }
    expect_fault(FAULT_MIXES_UP, "64", "\"foreign\": 1,");
    program_says("\"verified\": 60,");
}

static void a_connection_that_ends_early_is_told_with_its_cause(void **state)
{
    (void)state;
    expect_fault(FAULT_BREAKS_OFF, "64", "\"broken\": 2,");
    program_says("\"stage\": \"open\"");
}

static void a_refused_upgrade_is_told_with_its_status(void **state)
{
    (void)state;
    expect_fault(FAULT_FORBIDS, "64", "\"failed\": 2,");
    program_says("\"http_status\": 403");
    program_says("\"count\": 2,");
}

static void an_upgrade_without_an_answer_ends_with_the_open_timeout(void **state)
{
    (void)state;
    expect_fault(FAULT_IGNORES, "64", "\"failed\": 2,");
    program_says("\"stage\": \"upgrade\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_and_kind_is_verified),
        cmocka_unit_test(inline_threads_and_workers_all_share_the_load),
        cmocka_unit_test(every_wait_works),
        cmocka_unit_test(a_duration_ends_the_run),
        cmocka_unit_test(what_is_negotiated_is_told),
        cmocka_unit_test(addresses_can_be_chosen),
        cmocka_unit_test(the_connect_rate_spreads_the_opening),
        cmocka_unit_test(buffers_and_seed_are_passed_on),
        cmocka_unit_test(the_servers_cpu_is_told_when_its_process_is_given),
        cmocka_unit_test(a_signal_ends_the_run_with_its_report),
        cmocka_unit_test(direct_descriptors_go_beyond_the_limit_of_open_files),
        cmocka_unit_test(options_of_waiting_reach_the_engine),
        cmocka_unit_test(wrong_command_lines_end_with_2),
        cmocka_unit_test(without_a_subprotocol_the_servers_answer_is_refused),
        cmocka_unit_test(a_sound_server_passes),
        cmocka_unit_test(each_fault_is_counted_apart),
        cmocka_unit_test(a_connection_that_ends_early_is_told_with_its_cause),
        cmocka_unit_test(a_refused_upgrade_is_told_with_its_status),
        cmocka_unit_test(an_upgrade_without_an_answer_ends_with_the_open_timeout),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
