/* engine/uring.c and engine/ktls.c together: the ring on sockets whose records Linux carries, against OpenSSL. Skipped
 * where the kernel has no module tls; tests/ktls runs it where there is one.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/support/bench.h"
#include "tests/support/ktls_here.h"
#include "tests/support/sim_ktls.h"
#include "tests/support/tls_server.h"

#define BUFFERS_COUNT 64u
#define LARGE (1u << 20)
#define KEY_UPDATE 24
#define NEW_SESSION_TICKET 4

/* One connection: the ring has the client's end, this thread moves the server's bytes. */
struct line {
    struct bench b;
    struct tls_server *server;
    struct tls_server_link *link;
    const struct wsr_tls_suite *suite;
    struct wsr_tls_key in, out;
    struct msghdr message;
    struct iovec part;
    uint8_t content[512];
    _Alignas(struct cmsghdr) uint8_t control[WSR_KTLS_CONTROL_BYTES];
};

static const struct {
    uint16_t version, number;
    const char *name;
} suites[] = {
    { 0x0304, 0x1301, "TLS_AES_128_GCM_SHA256" },        { 0x0304, 0x1302, "TLS_AES_256_GCM_SHA384" },
    { 0x0304, 0x1303, "TLS_CHACHA20_POLY1305_SHA256" },  { 0x0303, 0xC02B, "ECDHE-ECDSA-AES128-GCM-SHA256" },
    { 0x0303, 0xC02C, "ECDHE-ECDSA-AES256-GCM-SHA384" }, { 0x0303, 0xCCA9, "ECDHE-ECDSA-CHACHA20-POLY1305" },
};
#define SUITES_COUNT (sizeof suites / sizeof suites[0])

/* ---- A connection ---- */

/* The handshake over memory. What the server sends behind it stays there: the client takes one record at a time. */
static SSL *shake(struct line *line, SSL_CTX *context)
{
    uint8_t record[WSR_TLS_RECORD_MAX];
    SSL *client = SSL_new(context);
    assert_non_null(client);
    SSL_set_bio(client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(client);
    for (;;) {
        bool is_done = SSL_do_handshake(client) == 1;
        int bytes = BIO_read(SSL_get_wbio(client), record, sizeof record);
        if (bytes > 0)
            tls_server_feed(line->link, record, (size_t)bytes);
        if (is_done)
            break;
        size_t len = tls_server_take_record(line->link, record, sizeof record);
        assert_true(len > 0);
        assert_int_equal(BIO_write(SSL_get_rbio(client), record, (int)len), len);
    }
    assert_int_equal(line->link->state, TLS_SERVER_OPEN);
    return client;
}

static void take_keys(struct line *line, SSL *client)
{
    uint8_t master[WSR_TLS_MASTER_BYTES], ours[WSR_TLS_RANDOM_BYTES], theirs[WSR_TLS_RANDOM_BYTES];
    if (line->suite->version == 0x0304) {
        assert_int_equal(wsr_tls_key_from_secret(&line->out, line->suite, line->link->client_secret), 0);
        assert_int_equal(wsr_tls_key_from_secret(&line->in, line->suite, line->link->server_secret), 0);
        return;
    }
    assert_int_equal(SSL_SESSION_get_master_key(SSL_get_session(client), master, sizeof master), sizeof master);
    SSL_get_client_random(client, ours, sizeof ours);
    SSL_get_server_random(client, theirs, sizeof theirs);
    assert_int_equal(wsr_tls_key_from_master(&line->out, &line->in, line->suite, master, ours, theirs), 0);
}

/* A connection of suite @index with keys, but none in the kernel. */
static void open_line(struct line *line, size_t index, const struct wsr_uring_options *uring,
                      const struct tls_server_options *wanted)
{
    struct tls_server_options options = *wanted;
    ktls_needed();
    *line = (struct line){ .suite = wsr_tls_suite_find(suites[index].version, suites[index].number) };
    options.version_min = options.version_max = suites[index].version;
    options.ciphers = suites[index].version == 0x0303 ? suites[index].name : NULL;
    options.ciphersuites = suites[index].version == 0x0304 ? suites[index].name : NULL;
    line->server = tls_server_create(&options);
    line->link = tls_server_accept(line->server);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *client = shake(line, context);
    assert_int_equal(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(client)), suites[index].number);
    take_keys(line, client);
    SSL_free(client);
    SSL_CTX_free(context);
    bench_open(&line->b, uring, BUFFERS_COUNT);
    bench_pair(&line->b, &line->b.client, &line->b.server);
}

static int set(struct line *line, const struct wsr_ktls_option *option)
{
    struct wsr_driver *driver = line->b.driver;
    return driver->ops->set_option(driver, line->b.client, option->level, option->name, option->value, option->bytes);
}

static void give_keys(struct line *line)
{
    struct wsr_ktls_option option;
    wsr_ktls_attach(&option);
    assert_int_equal(set(line, &option), 0);
    for (unsigned is_out = 0; is_out < 2; is_out++) {
        wsr_ktls_key(&option, line->suite, is_out ? &line->out : &line->in, is_out);
        assert_int_equal(set(line, &option), 0);
    }
    wsr_ktls_expect_no_padding(&option);
    assert_int_equal(set(line, &option), line->suite->version == 0x0304 ? 0 : -EINVAL);
}

static void open_sealed(struct line *line, size_t index)
{
    static const struct tls_server_options none = { .tickets_count = -1 };
    open_line(line, index, NULL, &none);
    give_keys(line);
}

static void close_line(struct line *line)
{
    bench_close(&line->b);
    tls_server_drop(line->link);
    tls_server_free(line->server);
}

/* ---- The server's end ---- */

/* All that it has to say. */
static void server_tells(struct line *line)
{
    uint8_t bytes[4096];
    size_t len;
    while ((len = tls_server_take(line->link, bytes, sizeof bytes)) > 0)
        assert_int_equal(write(line->b.server, bytes, len), len);
}

static void server_writes(struct line *line, const void *data, size_t len)
{
    tls_server_write(line->link, data, len, 0);
    server_tells(line);
}

/* All that has come by now. */
static void server_hears(struct line *line)
{
    uint8_t bytes[4096];
    ssize_t len;
    while ((len = recv(line->b.server, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        tls_server_feed(line->link, bytes, (size_t)len);
}

/* What OpenSSL's server would not send: a record by hand, cut off after all but @lacking bytes. */
static void server_forges(struct line *line, uint8_t type, const void *data, size_t len, size_t lacking)
{
    struct sim_ktls forger = { 0 };
    struct sim_buffer log = { 0 };
    struct wsr_ktls_option option;
    struct wsr_tls_key key = line->in;
    key.sequence = line->link->sequence_out;
    wsr_ktls_attach(&option);
    sim_ktls_set(&forger, option.level, option.name, option.value, option.bytes, &log);
    wsr_ktls_key(&option, line->suite, &key, true);
    assert_int_equal(sim_ktls_set(&forger, option.level, option.name, option.value, option.bytes, &log), 0);
    sim_ktls_seal(&forger, type, data, len);
    assert_int_equal(write(line->b.server, forger.sealed.data, forger.sealed.bytes - lacking),
                     forger.sealed.bytes - lacking);
    line->link->sequence_out++;
    free(log.data);
    sim_ktls_free(&forger);
}

/* ---- The client's end ---- */

static void arm(struct line *line)
{
    line->b.driver->ops->recv(line->b.driver, line->b.client, RECV);
}

/* The next completion of the receive; its bytes go to @out, when there are any. */
static struct wsr_completion take(struct line *line, uint8_t *out)
{
    struct wsr_completion got = bench_await(&line->b, RECV);
    if (got.result > 0) {
        assert_true(got.flags & WSR_COMPLETION_BUFFER);
        memcpy(out, line->b.memory + got.buffer * BENCH_BUFFER_BYTES, (size_t)got.result);
        line->b.driver->ops->give(line->b.driver, got.buffer);
    }
    return got;
}

static void expect_data(struct line *line, const char *text)
{
    uint8_t bytes[BENCH_BUFFER_BYTES];
    struct wsr_completion got = take(line, bytes);
    assert_int_equal(got.result, strlen(text));
    assert_memory_equal(bytes, text, strlen(text));
    assert_true(got.flags & WSR_COMPLETION_MORE);
}

/* The receive ends. */
static void expect_end(struct line *line, int result)
{
    struct wsr_completion got = bench_await(&line->b, RECV);
    assert_int_equal(got.result, result);
    assert_int_equal(got.flags & WSR_COMPLETION_MORE, 0);
    if (got.flags & WSR_COMPLETION_BUFFER)
        line->b.driver->ops->give(line->b.driver, got.buffer);
}

/* The next record, by a message. Returns its bytes or -errno. */
static int fetch(struct line *line, uint8_t *type)
{
    line->part = (struct iovec){ line->content, sizeof line->content };
    line->message = (struct msghdr){ .msg_iov = &line->part, .msg_iovlen = 1, .msg_control = line->control,
                                     .msg_controllen = sizeof line->control };
    line->b.driver->ops->recv_message(line->b.driver, line->b.client, &line->message, INTO);
    int result = bench_await(&line->b, INTO).result;
    *type = result >= 0 ? wsr_ktls_type(&line->message) : 0;
    return result;
}

static void expect_control(struct line *line, uint8_t type, int first)
{
    uint8_t got;
    assert_true(fetch(line, &got) > 0);
    assert_int_equal(got, type);
    assert_int_equal(line->content[0], first);
}

/* All of @len bytes, and the server takes them meanwhile. Returns the sends that it took. */
static unsigned send_all(struct line *line, const uint8_t *data, size_t len)
{
    unsigned sends = 0;
    for (size_t at = 0; at < len; sends++) {
        struct iovec part = { (void *)(uintptr_t)(data + at), len - at };
        line->b.driver->ops->send_sealed(line->b.driver, line->b.client, &part, 1, SEND);
        int32_t sent = bench_await(&line->b, SEND).result;
        assert_in_range(sent, 1, len - at);
        at += (size_t)sent;
        server_hears(line);
    }
    return sends;
}

/* Not to be freed: a test that is skipped leaves at once. */
static const uint8_t *large(void)
{
    static uint8_t data[LARGE];
    for (size_t i = 0; i < LARGE; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    return data;
}

/* ---- Data ---- */

static void each_suite_carries_data_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        struct line line;
        open_sealed(&line, i);
        arm(&line);
        for (unsigned k = 0; k < 20; k++) {
            char text[16];
            snprintf(text, sizeof text, "message %u", k);
            send_all(&line, (const uint8_t *)text, strlen(text));
            assert_int_equal(line.link->received_bytes, strlen(text));
            assert_memory_equal(line.link->received, text, strlen(text));
            line.link->received_bytes = 0;
            server_writes(&line, text, strlen(text));
            expect_data(&line, text);
        }
        close_line(&line);
    }
}

static void records_of_data_come_together_in_one_receive(void **state)
{
    (void)state;
    struct line line;
    open_sealed(&line, 0);
    for (unsigned i = 0; i < 5; i++)
        tls_server_write(line.link, "abc", 3, 0);
    server_tells(&line);
    arm(&line);
    expect_data(&line, "abcabcabcabcabc");
    close_line(&line);
}

static void large_data_goes_out_in_short_sends(void **state)
{
    (void)state;
    const int small = 65536;
    const uint8_t *data = large();
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        struct line line;
        open_sealed(&line, i);
        assert_int_equal(setsockopt(line.b.client, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
        assert_in_range(send_all(&line, data, LARGE), 2, LARGE / 1024);
        assert_int_equal(line.link->received_bytes, LARGE);
        assert_memory_equal(line.link->received, data, LARGE);
        close_line(&line);
    }
}

static void large_data_comes_in_by_pieces(void **state)
{
    (void)state;
    static const size_t records[] = { 0, 1000, 17 };
    static uint8_t got[LARGE];
    const uint8_t *data = large();
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        struct line line;
        size_t at = 0, told = 0;
        uint8_t bytes[4096];
        open_sealed(&line, i);
        tls_server_write(line.link, data, LARGE / 4, records[i % 3]);
        arm(&line);
        while (at < LARGE / 4) {
            /* As much as the socket takes. */
            size_t len = 0;
            while (told == 0 && (len = tls_server_take(line.link, bytes, sizeof bytes)) > 0)
                told += len - (size_t)write(line.b.server, bytes, len);
            assert_int_equal(told, 0);
            struct wsr_completion done = take(&line, got + at);
            if (done.result > 0)
                at += (size_t)done.result;
            else
                assert_int_equal(done.result, -ENOBUFS);
            if (!(done.flags & WSR_COMPLETION_MORE))
                arm(&line);
        }
        assert_int_equal(at, LARGE / 4);
        assert_memory_equal(got, data, at);
        close_line(&line);
    }
}

static void what_came_before_the_keys_were_set_is_opened_with_them(void **state)
{
    (void)state;
    static const struct tls_server_options none = { .tickets_count = -1 };
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        struct line line;
        open_line(&line, i, NULL, &none);
        server_writes(&line, "early", 5);
        assert_int_equal(line.b.driver->ops->wait(line.b.driver, line.b.log, 8, bench_soon(line.b.driver, 5)), 0);
        give_keys(&line);
        arm(&line);
        expect_data(&line, "early");
        server_writes(&line, "late", 4);
        expect_data(&line, "late");
        close_line(&line);
    }
}

/* A record that was received before and opened in user space: the kernel goes on with the next one. */
static void the_kernel_goes_on_behind_a_record_that_was_opened_elsewhere(void **state)
{
    (void)state;
    static const struct tls_server_options none = { .tickets_count = -1 };
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        struct line line;
        uint8_t record[64];
        open_line(&line, i, NULL, &none);
        tls_server_write(line.link, "first", 5, 0);
        size_t len = tls_server_waiting(line.link);
        assert_in_range(len, 1, sizeof record);
        server_tells(&line);
        server_writes(&line, "second", 6);
        line.b.driver->ops->recv_into(line.b.driver, line.b.client, record, len, INTO);
        assert_int_equal(bench_await(&line.b, INTO).result, len);
        line.in.sequence++;
        give_keys(&line);
        arm(&line);
        expect_data(&line, "second");
        close_line(&line);
    }
}

/* ---- Control records ---- */

static void a_receive_delivers_what_came_before_a_ticket_and_ends_with_eio(void **state)
{
    (void)state;
    static const struct tls_server_options two = { .tickets_count = 2 };
    struct line line;
    open_line(&line, 0, NULL, &two);
    give_keys(&line);
    arm(&line);
    server_tells(&line);
    expect_end(&line, -EIO);
    expect_control(&line, WSR_TLS_HANDSHAKE, NEW_SESSION_TICKET);
    expect_control(&line, WSR_TLS_HANDSHAKE, NEW_SESSION_TICKET);
    arm(&line);
    tls_server_write(line.link, "before", 6, 0);
    tls_server_send_tickets(line.link, 1);
    tls_server_write(line.link, "behind", 6, 0);
    server_tells(&line);
    expect_data(&line, "before");
    expect_end(&line, -EIO);
    arm(&line);
    expect_end(&line, -EIO);                              /* again: it is still there */
    expect_control(&line, WSR_TLS_HANDSHAKE, NEW_SESSION_TICKET);
    arm(&line);
    expect_data(&line, "behind");
    close_line(&line);
}

static void a_message_fetches_data_too(void **state)
{
    (void)state;
    struct line line;
    uint8_t type;
    open_sealed(&line, 0);
    server_writes(&line, "data", 4);
    assert_int_equal(fetch(&line, &type), 4);
    assert_int_equal(type, WSR_TLS_DATA);
    close_line(&line);
}

static void close_notify_goes_out_and_comes_in(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        static uint8_t alert[2] = { 1, 0 };
        struct line line;
        uint8_t type;
        struct iovec part = { alert, sizeof alert };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
        open_sealed(&line, i);
        arm(&line);
        wsr_ktls_say_type(&message, line.control, WSR_TLS_ALERT);
        line.b.driver->ops->send_message(line.b.driver, line.b.client, &message, SEND);
        assert_int_equal(bench_await(&line.b, SEND).result, sizeof alert);
        server_hears(&line);
        assert_int_equal(line.link->state, TLS_SERVER_CLOSED);

        tls_server_close(line.link);
        server_tells(&line);
        assert_int_equal(line.b.driver->ops->shutdown(line.b.driver, line.b.server), 0);
        expect_end(&line, -EIO);
        expect_control(&line, WSR_TLS_ALERT, 1);
        assert_int_equal(line.content[1], 0);
        arm(&line);
        expect_end(&line, 0);
        assert_int_equal(fetch(&line, &type), 0);
        assert_int_equal(type, WSR_TLS_DATA);             /* which says that it is the end and no empty record */
        close_line(&line);
    }
}

/* Legal in both versions, and no end of the stream. */
static void an_empty_record_of_data_is_passed_over(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        struct line line;
        open_sealed(&line, i);
        arm(&line);
        server_forges(&line, WSR_TLS_DATA, NULL, 0, 0);
        assert_int_equal(line.b.driver->ops->wait(line.b.driver, line.b.log, 8, bench_soon(line.b.driver, 5)), 0);
        server_forges(&line, WSR_TLS_DATA, NULL, 0, 0);
        server_forges(&line, WSR_TLS_DATA, "x", 1, 0);
        server_forges(&line, WSR_TLS_DATA, NULL, 0, 0);
        expect_data(&line, "x");
        server_forges(&line, WSR_TLS_DATA, "y", 1, 0);
        expect_data(&line, "y");
        close_line(&line);
    }
}

/* Forbidden in both; the result is 0 as at the end, and only the type tells them apart. */
static void an_empty_control_record_has_a_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        struct line line;
        uint8_t type;
        open_sealed(&line, i);
        arm(&line);
        server_forges(&line, WSR_TLS_HANDSHAKE, NULL, 0, 0);
        expect_end(&line, -EIO);
        assert_int_equal(fetch(&line, &type), 0);
        assert_int_equal(type, WSR_TLS_HANDSHAKE);
        close_line(&line);
    }
}

static void the_receive_of_a_spinning_owner_ends_with_eio_too(void **state)
{
    (void)state;
    static const struct tls_server_options one = { .tickets_count = 1 };
    static const struct wsr_uring_options spins = { .flags = WSR_URING_SPINS };
    struct line line;
    open_line(&line, 0, &spins, &one);
    give_keys(&line);
    arm(&line);
    server_tells(&line);
    expect_end(&line, -EIO);
    expect_control(&line, WSR_TLS_HANDSHAKE, NEW_SESSION_TICKET);
    arm(&line);
    server_writes(&line, "hot", 3);
    expect_data(&line, "hot");
    struct iovec part = { (void *)(uintptr_t)"now", 3 };
    assert_int_equal(line.b.driver->ops->send_now(line.b.driver, line.b.client, &part, 1), 3);
    server_hears(&line);
    assert_memory_equal(line.link->received, "now", 3);
    close_line(&line);
}

/* ---- Keys ---- */

static void after_a_key_update_linux_wants_keys_or_cannot_go_on(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct line line;
        uint8_t bytes[BENCH_BUFFER_BYTES];
        struct wsr_ktls_option option;
        open_sealed(&line, i);
        arm(&line);
        tls_server_update_keys(line.link, false);
        tls_server_write(line.link, "renewed", 7, 0);
        server_tells(&line);
        expect_end(&line, -EIO);
        expect_control(&line, WSR_TLS_HANDSHAKE, KEY_UPDATE);
        assert_int_equal(wsr_tls_key_renew(&line.in, line.suite), 0);
        wsr_ktls_key(&option, line.suite, &line.in, false);
        int rc = set(&line, &option);
        arm(&line);
        if (rc == 0) {
            expect_data(&line, "renewed");
        } else {
            assert_int_equal(rc, -EBUSY);
            int result = take(&line, bytes).result;       /* opened with the old key */
            assert_int_equal(result, -EBADMSG);
            assert_non_null(wsr_ktls_broken_text(-result));
        }
        close_line(&line);
    }
}

/* ---- Broken ---- */

static int send_alert(struct line *line)
{
    static uint8_t alert[2] = { 2, 22 };
    struct iovec part = { alert, sizeof alert };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    wsr_ktls_say_type(&message, line->control, WSR_TLS_ALERT);
    line->b.driver->ops->send_message(line->b.driver, line->b.client, &message, SEND);
    return bench_await(&line->b, SEND).result;
}

/* After it nothing is received, whatever comes. */
static void expect_broken(struct line *line, int error)
{
    uint8_t type;
    expect_end(line, -error);
    assert_non_null(wsr_ktls_broken_text(error));
    assert_int_equal(fetch(line, &type), -error);
}

static void a_tampered_record_is_ebadmsg(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        struct line line;
        uint8_t record[256];
        open_sealed(&line, i);
        arm(&line);
        server_writes(&line, "good", 4);
        expect_data(&line, "good");
        tls_server_write(line.link, "bad", 3, 0);
        size_t len = tls_server_take(line.link, record, sizeof record);
        record[len - 1] ^= 1;
        assert_int_equal(write(line.b.server, record, len), len);
        expect_broken(&line, EBADMSG);
        assert_int_equal(send_alert(&line), -EBADMSG);     /* the kernel keeps the error for all that comes */
        close_line(&line);
    }
}

static void what_is_no_record_has_an_errno(void **state)
{
    (void)state;
    static const struct {
        uint8_t header[5];
        int error;
    } rows[] = {
        { { 23, 3, 3, 0x48, 0x00 }, EMSGSIZE },
        { { 23, 3, 3, 0x00, 0x05 }, EBADMSG },            /* shorter than a tag */
        { { 23, 9, 9, 0x00, 0x40 }, EINVAL },
        { { 'H', 'T', 'T', 'P', '/' }, EMSGSIZE },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static const uint8_t body[64];
        struct line line;
        open_sealed(&line, 0);
        arm(&line);
        assert_int_equal(write(line.b.server, rows[i].header, 5), 5);
        assert_int_equal(write(line.b.server, body, sizeof body), sizeof body);
        expect_end(&line, -rows[i].error);
        assert_non_null(wsr_ktls_broken_text(rows[i].error));
        assert_int_equal(send_alert(&line), 2);
        server_hears(&line);
        assert_int_equal(line.link->alert_received, 22);
        close_line(&line);
    }
}

static void an_end_within_a_record_is_an_end(void **state)
{
    (void)state;
    struct line line;
    open_sealed(&line, 0);
    arm(&line);
    server_writes(&line, "whole", 5);
    expect_data(&line, "whole");
    server_forges(&line, WSR_TLS_DATA, "torn", 4, 3);
    line.b.driver->ops->close(line.b.driver, line.b.server);
    expect_end(&line, 0);
    close_line(&line);
}

static void reset(struct line *line)
{
    const struct linger at_once = { .l_onoff = 1 };
    assert_int_equal(setsockopt(line->b.server, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    line->b.driver->ops->close(line->b.driver, line->b.server);
}

static int send_byte(struct line *line)
{
    struct iovec part = { (void *)(uintptr_t)"x", 1 };
    line->b.driver->ops->send_sealed(line->b.driver, line->b.client, &part, 1, SEND);
    return bench_await(&line->b, SEND).result;
}

/* Whoever asks first is told. After a receive was, Linux 6.1 takes sends as if nothing had happened. */
static void a_reset_is_a_reset(void **state)
{
    (void)state;
    struct line line;
    open_sealed(&line, 0);
    arm(&line);
    reset(&line);
    expect_end(&line, -ECONNRESET);
    int sent = send_byte(&line);
    assert_true(sent == 1 || sent == -EPIPE || sent == -ECONNRESET);
    arm(&line);
    expect_end(&line, 0);
    close_line(&line);

    open_sealed(&line, 0);
    reset(&line);
    assert_int_equal(send_byte(&line), -ECONNRESET);
    assert_int_equal(send_byte(&line), -ECONNRESET);
    arm(&line);
    expect_end(&line, -ECONNRESET);
    close_line(&line);
}

static void a_receive_can_be_cancelled(void **state)
{
    (void)state;
    struct line line;
    open_sealed(&line, 0);
    arm(&line);
    server_forges(&line, WSR_TLS_DATA, "torn", 4, 3);
    assert_int_equal(line.b.driver->ops->wait(line.b.driver, line.b.log, 8, bench_soon(line.b.driver, 5)), 0);
    line.b.driver->ops->cancel(line.b.driver, RECV);
    expect_end(&line, -ECANCELED);
    close_line(&line);
}

static void a_send_that_waits_for_all_is_refused(void **state)
{
    (void)state;
    struct line line;
    open_sealed(&line, 0);
    bench_send(&line.b, line.b.client, "x", 1, SEND);
    assert_int_equal(bench_await(&line.b, SEND).result, -EOPNOTSUPP);
    close_line(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_suite_carries_data_both_ways),
        cmocka_unit_test(records_of_data_come_together_in_one_receive),
        cmocka_unit_test(large_data_goes_out_in_short_sends),
        cmocka_unit_test(large_data_comes_in_by_pieces),
        cmocka_unit_test(what_came_before_the_keys_were_set_is_opened_with_them),
        cmocka_unit_test(the_kernel_goes_on_behind_a_record_that_was_opened_elsewhere),
        cmocka_unit_test(a_receive_delivers_what_came_before_a_ticket_and_ends_with_eio),
        cmocka_unit_test(a_message_fetches_data_too),
        cmocka_unit_test(close_notify_goes_out_and_comes_in),
        cmocka_unit_test(an_empty_record_of_data_is_passed_over),
        cmocka_unit_test(an_empty_control_record_has_a_type),
        cmocka_unit_test(the_receive_of_a_spinning_owner_ends_with_eio_too),
        cmocka_unit_test(after_a_key_update_linux_wants_keys_or_cannot_go_on),
        cmocka_unit_test(a_tampered_record_is_ebadmsg),
        cmocka_unit_test(what_is_no_record_has_an_errno),
        cmocka_unit_test(an_end_within_a_record_is_an_end),
        cmocka_unit_test(a_reset_is_a_reset),
        cmocka_unit_test(a_receive_can_be_cancelled),
        cmocka_unit_test(a_send_that_waits_for_all_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
