/* wsring echo --tls as a user runs it: in a process of its own, with OpenSSL's client over real sockets.
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "bench/command.h"
#include "engine/frame.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "wsring.h"

#define WORDS_MAX 16
#define MESSAGE_MAX (1u << 20)

/* ---- The server ---- */

static struct program_echo server;
static SSL_CTX *library;     /* of the clients */

static void start_server(const char *const *more)
{
    const char *certificate = files_path("certificate");
    const char *words[WORDS_MAX] = { "--tls", "--cert-out", certificate };
    int count = 3;
    for (; *more; more++)
        words[count++] = *more;
    program_echo_start(&server, words);
    assert_memory_equal(server.url, "wss:", 4);
    library = SSL_CTX_new(TLS_client_method());
    assert_non_null(library);
    assert_int_equal(SSL_CTX_load_verify_file(library, certificate), 1);
    SSL_CTX_set_verify(library, SSL_VERIFY_PEER, NULL);
}

static void stop_server(void)
{
    program_echo_stop(&server);
    SSL_CTX_free(library);
}

#define START(...) start_server((const char *const[]){ __VA_ARGS__, NULL })

/* ---- A client ---- */

struct client {
    int fd;
    SSL *ssl;
};

static int connect_tcp(void)
{
    const int on = 1;
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
    v4.sin_port = v6.sin6_port = htons(server.port);
    int fd = socket(server.is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    assert_int_equal(server.is_v6 ? connect(fd, (struct sockaddr *)&v6, sizeof v6)
                                  : connect(fd, (struct sockaddr *)&v4, sizeof v4), 0);
    return fd;
}

/* TLS, as @name, with @version. */
static struct client connect_tls(const char *name, uint16_t version)
{
    struct client c = { .fd = connect_tcp(), .ssl = SSL_new(library) };
    struct in6_addr address;
    assert_non_null(c.ssl);
    assert_int_equal(SSL_set_fd(c.ssl, c.fd), 1);
    assert_int_equal(SSL_set_min_proto_version(c.ssl, version), 1);
    assert_int_equal(SSL_set_max_proto_version(c.ssl, version), 1);
    bool is_address = inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
    if (is_address)
        assert_int_equal(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c.ssl), name), 1);
    else
        assert_int_equal(SSL_set1_host(c.ssl, name), 1);
    if (SSL_connect(c.ssl) != 1)
        fail_msg("no TLS: %s", ERR_reason_error_string(ERR_peek_error()));
    return c;
}

static void say(const struct client *c, const void *data, size_t len)
{
    size_t now;
    assert_int_equal(SSL_write_ex(c->ssl, data, len, &now), 1);
    assert_int_equal(now, len);
}

static void hear(const struct client *c, void *data, size_t len)
{
    for (size_t got = 0, now; got < len; got += now) {
        if (SSL_read_ex(c->ssl, (uint8_t *)data + got, len - got, &now) != 1)
            fail_msg("the connection ended: %d, %s", SSL_get_error(c->ssl, 0),
                     ERR_reason_error_string(ERR_peek_error()));
    }
}

static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

static void upgrade(const struct client *c)
{
    char answer[1024];
    size_t len = 0;
    say(c, request, sizeof request - 1);
    while (len < 4 || memcmp(answer + len - 4, "\r\n\r\n", 4) != 0) {
        assert_true(len < sizeof answer);
        hear(c, answer + len++, 1);
    }
    assert_memory_equal(answer, "HTTP/1.1 101 ", 13);
}

static struct client open_client(uint16_t version)
{
    struct client c = connect_tls("localhost", version);
    upgrade(&c);
    return c;
}

static uint8_t message[MESSAGE_MAX], frame[MESSAGE_MAX + WSR_FRAME_HEAD_MAX], back[MESSAGE_MAX];

/* A frame of the first @len bytes of the message, as it leaves a client, into `frame`. Returns its length. */
static size_t write_frame(uint8_t first, size_t len)
{
    static const uint8_t mask[4] = { 0x37, 0xfa, 0x21, 0x3d };
    size_t head = wsr_frame_write(frame, first, len, mask);
    for (size_t i = 0; i < len; i++)
        frame[head + i] = message[i] ^ mask[i % 4];
    return head + len;
}

static void send_frame(const struct client *c, uint8_t first, size_t len)
{
    say(c, frame, write_frame(first, len));
}

static void expect_frame(const struct client *c, uint8_t first, size_t len)
{
    uint8_t wanted[WSR_FRAME_HEAD_MAX], head[WSR_FRAME_HEAD_MAX];
    size_t head_bytes = wsr_frame_write(wanted, first, len, NULL);
    hear(c, head, head_bytes);
    assert_memory_equal(head, wanted, head_bytes);
    if (len > 0) {
        hear(c, back, len);
        assert_memory_equal(back, message, len);
    }
}

static void exchange(const struct client *c, size_t len)
{
    send_frame(c, 0x82, len);
    expect_frame(c, 0x82, len);
}

static void drop(struct client *c)
{
    SSL_free(c->ssl);
    close(c->fd);
}

/* close_notify and then TCP's end. */
static void expect_end(struct client *c)
{
    uint8_t byte;
    size_t now;
    assert_int_equal(SSL_read_ex(c->ssl, &byte, 1, &now), 0);
    assert_int_equal(SSL_get_error(c->ssl, 0), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(recv(c->fd, &byte, 1, 0), 0);
    drop(c);
}

static void close_client(struct client *c)
{
    send_frame(c, 0x88, 0);
    expect_frame(c, 0x88, 0);
    expect_end(c);
}

static const uint16_t versions[] = { WSR_TLS_1_2, WSR_TLS_1_3 };
static const char *const records[] = { "library", "direct" };
#define RECORDS (sizeof records / sizeof records[0])

static int group_setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)(i * 7 + i / 251);
    return 0;
}

/* ---- Tests ---- */

static void messages_of_every_size_come_back(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 125, 126, 4064, 16370, 16384, 16400, 65535, 65536, 300000, MESSAGE_MAX };
    for (size_t r = 0; r < RECORDS; r++) {
        START("--tls-records", records[r]);
        for (size_t v = 0; v < 2; v++) {
            struct client c = open_client(versions[v]);
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
                exchange(&c, sizes[i]);
            send_frame(&c, 0x89, 100);
            expect_frame(&c, 0x8a, 100);
            send_frame(&c, 0x01, 5000);
            send_frame(&c, 0x80, 5000);
            expect_frame(&c, 0x01, 5000);
            expect_frame(&c, 0x80, 5000);
            close_client(&c);
        }
        stop_server();
        program_says("2 connections, 0 refused, 26 messages,");
        program_says(r == 0 ? "TLS: 2 handshakes, 0 resumed, records of 0 direct, 0 connections failed\n"
                            : "TLS: 2 handshakes, 0 resumed, records of 2 direct, 0 connections failed\n");
    }
}

/* localhost, 127.0.0.1, ::1; and the port that it says is the one that it has. */
static void the_certificate_is_good_for_this_machine(void **state)
{
    (void)state;
    static const char *const hosts[] = { "127.0.0.1", "::1" };
    for (size_t i = 0; i < 2; i++) {
        START("--host", hosts[i]);
        struct client c = connect_tls(hosts[i], WSR_TLS_1_3);
        upgrade(&c);
        close_client(&c);
        c = open_client(WSR_TLS_1_2);
        close_client(&c);
        stop_server();
    }
}

static void all_that_is_sent_at_once_comes_back(void **state)
{
    (void)state;
    START("--buffers", "16", "--buffer-bytes", "1KiB");
    for (size_t v = 0; v < 2; v++) {
        struct client c = connect_tls("localhost", versions[v]);
        size_t len = sizeof request - 1;
        static uint8_t all[sizeof request + 200 * 220];
        memcpy(all, request, len);
        for (size_t i = 0; i < 200; i++) {
            size_t now = write_frame(0x82, i);
            memcpy(all + len, frame, now);
            len += now;
        }
        say(&c, all, len);
        char answer[1024];
        for (size_t at = 0; at < 4 || memcmp(answer + at - 4, "\r\n\r\n", 4) != 0; at++)
            hear(&c, answer + at, 1);
        for (size_t i = 0; i < 200; i++)
            expect_frame(&c, 0x82, i);
        close_client(&c);
    }
    stop_server();
}

#define CROWD 150

static void crowd(const char *const *options)
{
    static struct client clients[CROWD];
    start_server(options);
    for (size_t i = 0; i < CROWD; i++)
        clients[i] = open_client(versions[i % 2]);
    for (size_t round = 0; round < 4; round++) {
        for (size_t i = 0; i < CROWD; i++)
            send_frame(&clients[i], 0x82, i * 40 + round);
        for (size_t i = 0; i < CROWD; i++)
            expect_frame(&clients[i], 0x82, i * 40 + round);
    }
    for (size_t i = 0; i < CROWD; i++) {
        if (i % 3 == 0)
            drop(&clients[i]);
        else
            close_client(&clients[i]);
    }
    stop_server();
    program_says("150 connections, 0 refused, 600 messages,");
    program_says("100 closed by the client");
    program_says("TLS: 150 handshakes,");
}

static void many_connections_do_not_mix(void **state)
{
    (void)state;
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    crowd((const char *const[]){ "--workers", "2", NULL });
    crowd((const char *const[]){ "--workers", "2", "--buffers", "4", "--buffer-bytes", "512", NULL });
    assert_int_equal(wsr_diagnose(&diagnosis), 0);
    if (strstr(diagnosis.features, "direct_files") != NULL)
        crowd((const char *const[]){ "--direct", "--wait", "spin", NULL });
}

/* The client writes until nothing more is taken, without reading a byte: then the server has stopped reading. All comes
 * back once it reads. */
static void a_client_that_does_not_read_is_not_read_from(void **state)
{
    (void)state;
    for (size_t r = 0; r < RECORDS; r++) {
        START("--tls-records", records[r]);
        for (size_t v = 0; v < 2; v++) {
            struct client c = open_client(versions[v]);
            size_t len = write_frame(0x82, 50000), sent = 0, now;
            int quiet_ms = 0;
            assert_int_equal(fcntl(c.fd, F_SETFL, O_NONBLOCK), 0);
            SSL_set_mode(c.ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
            while (quiet_ms < 300) {
                if (SSL_write_ex(c.ssl, frame, len, &now) == 1) {
                    sent++;
                    quiet_ms = 0;
                } else {
                    assert_int_equal(SSL_get_error(c.ssl, 0), SSL_ERROR_WANT_WRITE);
                    quiet_ms += poll(&(struct pollfd){ .fd = c.fd, .events = POLLOUT }, 1, 50) == 0 ? 50 : 0;
                }
                assert_true(sent < 4000);      /* 200 MB: nothing holds it back */
            }
            assert_true(sent > 10);
            assert_int_equal(fcntl(c.fd, F_SETFL, 0), 0);
            for (size_t i = 0; i < sent; i++)
                expect_frame(&c, 0x82, 50000);
            say(&c, frame, len);       /* the rest of the one that was begun */
            expect_frame(&c, 0x82, 50000);
            exchange(&c, 100);
            close_client(&c);
        }
        stop_server();
    }
}

/* Every way of going away, at every stage; afterwards a client is served as ever. */
static void abrupt_ends_harm_nobody(void **state)
{
    (void)state;
    const struct linger at_once = { .l_onoff = 1 };
    START("--workers", "2");
    for (size_t i = 0; i < 120; i++) {
        struct client c = { .fd = -1 };
        if (i % 4 == 0)
            c.fd = connect_tcp();
        else if (i % 4 == 1)
            c = connect_tls("localhost", versions[i / 4 % 2]);
        else
            c = open_client(versions[i / 4 % 2]);
        if (i % 4 == 3)
            send_frame(&c, 0x82, 200000);
        if (i / 8 % 2 == 0)
            assert_int_equal(setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
        drop(&c);
    }
    struct client c = open_client(WSR_TLS_1_3);
    exchange(&c, 1000);
    close_client(&c);
    stop_server();
    program_says("TLS: 91 handshakes,");
}

static void garbage_is_answered_with_an_alert(void **state)
{
    (void)state;
    uint8_t in[64];
    START("--tls-max", "1.3");
    int fd = connect_tcp();
    assert_int_equal(send(fd, request, sizeof request - 1, 0), sizeof request - 1);
    ssize_t got = recv(fd, in, sizeof in, 0);
    assert_true(got >= 0);             /* OpenSSL may say nothing */
    close(fd);
    for (size_t v = 0; v < 2; v++) {
        struct client c = open_client(versions[v]);
        assert_int_equal(send(c.fd, "\x17\x03\x03\x00\x20garbage garbage garbage garbage ", 37, 0), 37);
        size_t now;
        assert_int_equal(SSL_read_ex(c.ssl, in, sizeof in, &now), 0);
        assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
        ERR_clear_error();
        assert_int_equal(recv(c.fd, in, sizeof in, 0), 0);
        drop(&c);
    }
    stop_server();
    program_says("TLS: 2 handshakes, 0 resumed, records of 2 direct, 3 connections failed, the last with: ");
}

/* close_notify, and TCP's end without one, with an answer still on its way. */
static void both_kinds_of_end_are_answered(void **state)
{
    (void)state;
    START("--tls-min", "1.2");
    for (size_t v = 0; v < 2; v++) {
        for (int says_so = 0; says_so < 2; says_so++) {
            struct client c = open_client(versions[v]);
            send_frame(&c, 0x82, 100000);
            if (says_so)
                assert_int_equal(SSL_shutdown(c.ssl), 0);
            else
                assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
            expect_frame(&c, 0x82, 100000);
            expect_end(&c);
        }
    }
    stop_server();
    program_says("0 connections failed");
}

static void what_is_no_websocket_is_refused_over_tls_too(void **state)
{
    (void)state;
    char answer[512] = "";
    START("--no-subprotocol");
    struct client c = connect_tls("localhost", WSR_TLS_1_3);
    say(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    hear(&c, answer, 13);
    assert_memory_equal(answer, "HTTP/1.1 400 ", 13);
    while (SSL_read(c.ssl, answer, sizeof answer) > 0)
        ;
    assert_int_equal(SSL_get_shutdown(c.ssl), SSL_RECEIVED_SHUTDOWN);
    drop(&c);
    stop_server();
    program_says("0 connections, 1 refused");
}

static int ends_with(const char *const *words, const char *why)
{
    int status = program_run(wsr_echo_main, words);
    program_says(why);
    return status;
}

#define ENDS_WITH(why, ...) ends_with((const char *const[]){ __VA_ARGS__, NULL }, why)

static void wrong_command_lines_end_with_2(void **state)
{
    (void)state;
    static const char *const of_tls[] = { "--cert", "--key", "--cert-out", "--tls-ciphers" };
    for (size_t i = 0; i < sizeof of_tls / sizeof of_tls[0]; i++)
        assert_int_equal(ENDS_WITH(of_tls[i], of_tls[i], "x"), 2);
    assert_int_equal(ENDS_WITH("--tls-min is for TLS", "--tls-min", "1.2"), 2);
    assert_int_equal(ENDS_WITH("--tls-max is for TLS", "--tls-max", "1.2"), 2);
    assert_int_equal(ENDS_WITH("--tls-records is for TLS", "--tls-records", "library"), 2);
    assert_int_equal(ENDS_WITH("1.2|1.3", "--tls", "--tls-min", "1.1"), 2);
    assert_int_equal(ENDS_WITH("give --cert too", "--tls", "--key", "x"), 2);
    assert_int_equal(ENDS_WITH("--cert-out", "--tls", "--cert", "x", "--cert-out", "y"), 2);
    assert_int_equal(ENDS_WITH("--cert", "--tls", "--cert", "/nonexistent"), 2);
    assert_int_equal(ENDS_WITH("--tls-max", "--tls", "--tls-min", "1.3", "--tls-max", "1.2"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_every_size_come_back),
        cmocka_unit_test(the_certificate_is_good_for_this_machine),
        cmocka_unit_test(all_that_is_sent_at_once_comes_back),
        cmocka_unit_test(many_connections_do_not_mix),
        cmocka_unit_test(a_client_that_does_not_read_is_not_read_from),
        cmocka_unit_test(abrupt_ends_harm_nobody),
        cmocka_unit_test(garbage_is_answered_with_an_alert),
        cmocka_unit_test(both_kinds_of_end_are_answered),
        cmocka_unit_test(what_is_no_websocket_is_refused_over_tls_too),
        cmocka_unit_test(wrong_command_lines_end_with_2),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
