/* bench/echo_tls.c as bytes in, bytes out, against OpenSSL's client.
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "bench/certificate.h"
#include "bench/echo_tls.h"
#include "tests/support/files.h"

#define BYTES_MAX 300000u

struct bytes {
    uint8_t data[BYTES_MAX];
    size_t len;
};

/* A server as the echo server has it, with a client of OpenSSL's; what the server gets it sends back. */
static struct {
    struct wsr_echo_tls_context *context;
    struct wsr_echo_pool pool;
    struct wsr_echo_tls_shared shared;
    struct wsr_echo_tls *server;
    struct wsr_echo_queue plain, wire;
    enum wsr_tls_event_type ended;     /* NOTHING = not yet */
    size_t cut;                        /* bytes of the first piece of what the client sends; 0 = all in one */
    size_t step;                       /* of the others; 0 = one piece */
    SSL_CTX *library;
    SSL *client;
    BIO *in, *out;                     /* of the client */
    struct bytes sent;                 /* by the client, not yet fed */
} w;

/* How the two talk. */
struct way {
    uint16_t version;
    enum wsr_tls_records records;
    const char *suite;                 /* NULL = OpenSSL's choice */
};

static const struct way ways[] = {
    { WSR_TLS_1_2, WSR_TLS_LIBRARY, NULL },
    { WSR_TLS_1_3, WSR_TLS_LIBRARY, NULL },
    { WSR_TLS_1_2, WSR_TLS_DIRECT, "ECDHE-ECDSA-AES128-GCM-SHA256" },
    { WSR_TLS_1_2, WSR_TLS_DIRECT, "ECDHE-ECDSA-AES256-GCM-SHA384" },
    { WSR_TLS_1_2, WSR_TLS_DIRECT, "ECDHE-ECDSA-CHACHA20-POLY1305" },
    { WSR_TLS_1_2, WSR_TLS_AUTO, "ECDHE-ECDSA-AES128-SHA256" },
    { WSR_TLS_1_3, WSR_TLS_DIRECT, "TLS_AES_128_GCM_SHA256" },
    { WSR_TLS_1_3, WSR_TLS_AUTO, "TLS_AES_256_GCM_SHA384" },
    { WSR_TLS_1_3, WSR_TLS_DIRECT, "TLS_CHACHA20_POLY1305_SHA256" },
};
#define WAYS (sizeof ways / sizeof ways[0])

/* ---- The pair ---- */

/* AES-CBC is for OpenSSL alone. */
static bool is_direct(const struct way *way)
{
    return way->records != WSR_TLS_LIBRARY && strcmp(way->suite, "ECDHE-ECDSA-AES128-SHA256") != 0;
}

static void open_server(const struct wsr_echo_tls_options *options)
{
    char error[WSR_ECHO_TLS_ERROR_CHARS] = "";
    if (wsr_echo_tls_context_create(&w.context, options, error) < 0)
        fail_msg("%s", error);
    w.pool.block_bytes = WSR_ECHO_TLS_BLOCK_BYTES;
    assert_int_equal(wsr_echo_tls_shared_init(&w.shared, w.context, &w.pool), 0);
}

static void close_server(void)
{
    SSL_CTX_free(w.library);
    wsr_echo_tls_shared_free(&w.shared);
    wsr_echo_pool_free(&w.pool);
    wsr_echo_tls_context_free(w.context);
    memset(&w, 0, sizeof w);
}

/* Connects a client, without a byte of the handshake; @session is to be resumed, or NULL. */
static void connect_client(SSL_SESSION *session)
{
    w.plain = w.wire = (struct wsr_echo_queue){ .first = NULL };
    w.ended = WSR_TLS_EVENT_NOTHING;
    w.sent.len = 0;
    w.server = wsr_echo_tls_create(&w.shared);
    w.client = SSL_new(w.library);
    w.in = BIO_new(BIO_s_mem());
    w.out = BIO_new(BIO_s_mem());
    assert_true(w.server && w.client && w.in && w.out);
    BIO_set_mem_eof_return(w.in, -1);
    SSL_set_bio(w.client, w.in, w.out);
    SSL_set_connect_state(w.client);
    if (session)
        assert_int_equal(SSL_set_session(w.client, session), 1);
}

static void disconnect(void)
{
    SSL_free(w.client);
    wsr_echo_tls_free(w.server);
    wsr_echo_queue_clear(&w.plain, &w.pool);
    wsr_echo_queue_clear(&w.wire, &w.pool);
    w.client = NULL;
    w.server = NULL;
}

static void open_way(const struct way *way)
{
    const struct wsr_echo_tls_options options = { .version_min = way->version, .version_max = way->version,
                                                  .records = way->records, .ciphers = way->suite };
    open_server(&options);
    w.library = SSL_CTX_new(TLS_client_method());
    assert_non_null(w.library);
    connect_client(NULL);
}

static void close_way(void)
{
    disconnect();
    close_server();
}

/* One piece, in memory of just its size. */
static void feed(const uint8_t *bytes, size_t len)
{
    uint8_t *piece = malloc(len);
    assert_non_null(piece);
    memcpy(piece, bytes, len);
    for (size_t at = 0; at < len;) {
        struct wsr_echo_tls_event event;
        size_t used = wsr_echo_tls_feed(w.server, piece + at, len - at, &w.wire, &event);
        assert_in_range(used, 1, len - at);
        at += used;
        if (event.type == WSR_TLS_EVENT_DATA) {
            assert_int_equal(w.ended, WSR_TLS_EVENT_NOTHING);
            assert_true(event.data.len > 0);
            assert_int_equal(wsr_echo_queue_append(&w.plain, &w.pool, event.data.data, event.data.len), 0);
        } else if (event.type != WSR_TLS_EVENT_NOTHING) {
            assert_int_equal(w.ended, WSR_TLS_EVENT_NOTHING);
            w.ended = event.type;
        }
    }
    free(piece);
}

/* What the client has to say. */
static void collect(void)
{
    int got;
    while ((got = BIO_read(w.out, w.sent.data + w.sent.len, (int)(BYTES_MAX - w.sent.len))) > 0)
        w.sent.len += (size_t)got;
}

static void to_server(void)
{
    collect();
    for (size_t at = 0; at < w.sent.len;) {
        size_t left = w.sent.len - at, now = left;
        if (at == 0 && w.cut > 0)
            now = w.cut;
        else if (w.step > 0)
            now = w.step;
        now = now < left ? now : left;
        feed(w.sent.data + at, now);
        at += now;
    }
    w.sent.len = 0;
}

static void to_client(void)
{
    struct iovec part;
    assert_int_equal(wsr_echo_tls_seal(w.server, &w.plain, &w.wire), 0);
    assert_int_equal(w.plain.bytes, 0);
    while (wsr_echo_queue_parts(&w.wire, &part, 1) > 0) {
        assert_int_equal(BIO_write(w.in, part.iov_base, (int)part.iov_len), (int)part.iov_len);
        wsr_echo_queue_sent(&w.wire, &w.pool, part.iov_len);
    }
}

static bool shake(void)
{
    for (int turn = 0; turn < 8; turn++) {
        int rc = SSL_do_handshake(w.client);
        bool waits = rc != 1 && SSL_get_error(w.client, rc) == SSL_ERROR_WANT_READ;
        to_server();
        to_client();
        if (rc == 1)
            return true;
        if (!waits)
            return false;
    }
    return false;
}

static uint8_t message[BYTES_MAX];

/* The client sends @len bytes in one go and gets them back. */
static void exchange(size_t len)
{
    static uint8_t back[BYTES_MAX];
    size_t got = 0, now;
    assert_true(len > 0 && len <= BYTES_MAX / 2);
    assert_int_equal(SSL_write_ex(w.client, message, len, &now), 1);
    assert_int_equal(now, len);
    to_server();
    to_client();
    while (got < len && SSL_read_ex(w.client, back + got, sizeof back - got, &now) == 1)
        got += now;
    assert_int_equal(got, len);
    assert_memory_equal(back, message, len);
    assert_int_equal(SSL_read_ex(w.client, back, sizeof back, &now), 0);
}

static void expect_open(void)
{
    assert_true(shake());
    exchange(5);
}

static int fill_message(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)(i * 7 + i / 251);
    return 0;
}

/* ---- What works ---- */

static void every_size_comes_back(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 2, 15, 16, 17, 100, 4064, 16383, 16384, 16385, 18432, 100000, BYTES_MAX / 2 };
    for (size_t i = 0; i < WAYS; i++) {
        open_way(&ways[i]);
        expect_open();
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
            exchange(sizes[k]);
        for (size_t size = 1; size < 300; size++)
            exchange(size);
        if (ways[i].suite)
            assert_string_equal(SSL_get_cipher_name(w.client), ways[i].suite);
        assert_int_equal(w.shared.counts.handshakes, 1);
        assert_int_equal(w.shared.counts.direct, is_direct(&ways[i]));
        assert_int_equal(w.shared.counts.failures, 0);
        close_way();
    }
}

/* Every flight of the handshake and every write after it comes in two pieces, cut at each byte; then all in single
 * bytes. */
static void the_conversation_is_the_same_at_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        void *slabs = NULL;
        open_way(&ways[i]);
        for (size_t cut = 0; cut < 600; cut++) {
            w.cut = cut;
            w.step = cut == 0 ? 1 : 0;
            assert_true(shake());
            exchange(3);
            exchange(500);
            exchange(17000);
            disconnect();
            connect_client(NULL);
            slabs = cut == 0 ? w.pool.slabs : slabs;
        }
        assert_ptr_equal(w.pool.slabs, slabs);      /* what records were gathered in has been given back */
        assert_int_equal(w.shared.counts.handshakes, 600);
        assert_int_equal(w.shared.counts.failures, 0);
        close_way();
    }
}

/* Records that come together, and the first of them with the end of the handshake. */
static void data_may_follow_the_handshake_at_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        size_t got, now, all = 0;
        static uint8_t back[BYTES_MAX];
        open_way(&ways[i]);
        (void)SSL_do_handshake(w.client);
        to_server();
        to_client();
        (void)SSL_do_handshake(w.client);
        collect();                     /* its last flight, not fed yet with TLS 1.3 */
        if (SSL_is_init_finished(w.client)) {
            for (size_t k = 0; k < 20; k++) {
                assert_int_equal(SSL_write_ex(w.client, message + all, 10 + k, &now), 1);
                all += now;
            }
        }
        to_server();
        to_client();
        assert_int_equal(SSL_do_handshake(w.client), 1);
        for (got = 0; got < all; got += now)
            assert_int_equal(SSL_read_ex(w.client, back + got, sizeof back - got, &now), 1);
        assert_memory_equal(back, message, all);
        exchange(1000);
        close_way();
    }
}

/* The ticket of one connection is good for the next. */
static void sessions_are_resumed(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        open_way(&ways[i]);
        for (unsigned round = 0; round < 4; round++) {
            expect_open();
            assert_int_equal(SSL_session_reused(w.client), round > 0);
            assert_int_equal(w.shared.counts.resumed, round);
            exchange(40000);
            wsr_echo_tls_close(w.server, &w.wire);
            to_client();
            size_t now;
            uint8_t byte;
            assert_int_equal(SSL_read_ex(w.client, &byte, 1, &now), 0);
            assert_int_equal(SSL_get_shutdown(w.client) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
            (void)SSL_shutdown(w.client);
            SSL_SESSION *session = SSL_get1_session(w.client);
            assert_int_equal(SSL_SESSION_is_resumable(session), 1);
            disconnect();
            connect_client(session);
            SSL_SESSION_free(session);
        }
        assert_int_equal(w.shared.counts.handshakes, 4);
        close_way();
    }
}

/* RFC 8446 4.6.3: the client renews its own key, and asks for a new one of the server's. */
static void keys_are_updated_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        if (ways[i].version != WSR_TLS_1_3)
            continue;
        open_way(&ways[i]);
        expect_open();
        for (int round = 0; round < 6; round++) {
            const int kind = round % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
            assert_int_equal(SSL_key_update(w.client, kind), 1);
            w.step = round == 4 ? 1 : 0;
            exchange(1);
            exchange(20000);
        }
        assert_int_equal(w.ended, WSR_TLS_EVENT_NOTHING);
        close_way();
    }
}

/* ---- The end ---- */

/* The client sends no more, but what is on its way to it still comes. */
static void close_notify_is_taken_and_answered(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        uint8_t back[16];
        size_t now;
        open_way(&ways[i]);
        expect_open();
        assert_int_equal(SSL_write_ex(w.client, "last", 4, &now), 1);
        assert_int_equal(SSL_shutdown(w.client), 0);
        to_server();
        assert_int_equal(w.ended, WSR_TLS_EVENT_CLOSED);
        assert_int_equal(w.plain.bytes, 4);
        assert_int_equal(wsr_echo_tls_seal(w.server, &w.plain, &w.wire), 0);
        wsr_echo_tls_close(w.server, &w.wire);
        size_t closed_bytes = w.wire.bytes;
        wsr_echo_tls_close(w.server, &w.wire);
        assert_int_equal(w.wire.bytes, closed_bytes);
        feed(message, 100);            /* read over */
        to_client();
        assert_int_equal(SSL_read_ex(w.client, back, sizeof back, &now), 1);
        assert_int_equal(now, 4);
        assert_int_equal(SSL_read_ex(w.client, back, sizeof back, &now), 0);
        assert_int_equal(SSL_get_error(w.client, 0), SSL_ERROR_ZERO_RETURN);
        assert_int_equal(w.shared.counts.failures, 0);
        close_way();
    }
}

/* Nothing is written, and nothing leaks, wherever the client goes away. */
static void a_client_may_be_gone_at_any_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        void *slabs = NULL;
        open_way(&ways[i]);
        for (size_t gone = 1; gone < 400; gone += 3) {
            (void)SSL_do_handshake(w.client);
            collect();
            if (gone < 200) {
                feed(w.sent.data, gone < w.sent.len ? gone : w.sent.len);
            } else {
                to_server();
                to_client();
                assert_true(shake());
                assert_int_equal(SSL_write(w.client, message, 500), 500);
                collect();
                feed(w.sent.data, gone - 199);
            }
            disconnect();
            connect_client(NULL);
            slabs = slabs ? slabs : w.pool.slabs;
        }
        assert_ptr_equal(w.pool.slabs, slabs);
        close_way();
    }
}

/* ---- What is refused ---- */

static uint8_t client_alert(void)
{
    uint8_t byte;
    size_t now;
    ERR_clear_error();
    assert_int_equal(SSL_read_ex(w.client, &byte, 1, &now), 0);
    unsigned long error = ERR_peek_error();
    ERR_clear_error();
    int reason = ERR_GET_REASON(error);
    return (uint8_t)(reason > SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : 0);
}

static void expect_failure(const char *why)
{
    assert_int_equal(w.ended, WSR_TLS_EVENT_FAILURE);
    assert_int_equal(w.shared.counts.failures, 1);
    assert_non_null(w.shared.counts.failure);
    if (why && !strstr(w.shared.counts.failure, why))
        fail_msg("\"%s\" is not \"%s\"", w.shared.counts.failure, why);
    feed(message, 100);                /* read over */
    wsr_echo_tls_close(w.server, &w.wire);
    assert_int_equal(wsr_echo_queue_append(&w.plain, &w.pool, "x", 1), 0);
    assert_int_equal(wsr_echo_tls_seal(w.server, &w.plain, &w.wire), 0);
    assert_int_equal(w.plain.bytes, 0);
}

static void what_is_no_tls_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        const char *why;
    } cases[] = {
        { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, "http request" },
        { "\x16\x03\x01\xff\xff\x01\x00\x00\x00", 9, NULL },                       /* longer than any record */
        { "\x17\x03\x03\x00\x05hello", 10, NULL },                                 /* data before the handshake */
        { "\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9, NULL },                       /* a server's hello */
        { "\x15\x03\x01\x00\x02\x02\x28", 7, "unexpected message" },               /* an alert */
        { "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, NULL },
    };
    for (size_t i = 0; i < WAYS; i++) {
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            open_way(&ways[i]);
            feed((const uint8_t *)cases[k].bytes, cases[k].len);
            expect_failure(cases[k].why);
            close_way();
        }
    }
}

/* Each byte of a record but those of the version, which need not be looked at. */
static void a_record_that_was_changed_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        for (size_t at = 0; at < 40; at++) {
            if (at >= 1 && at <= 4)
                continue;
            open_way(&ways[i]);
            expect_open();
            assert_int_equal(SSL_write(w.client, message, 100), 100);
            collect();
            w.sent.data[at] ^= 0x20;
            to_server();
            expect_failure(NULL);
            to_client();
            assert_true(client_alert() != 0);
            close_way();
        }
    }
}

static void expect_refused(const uint8_t *bytes, size_t len, uint8_t alert)
{
    feed(bytes, len);
    expect_failure(NULL);
    to_client();
    assert_int_equal(client_alert(), alert);
}

static void what_is_no_record_is_refused_with_its_alert(void **state)
{
    (void)state;
    static const uint8_t long_record[] = { 0x17, 0x03, 0x03, 0x48, 0x01 };
    for (size_t i = 0; i < WAYS; i++) {
        open_way(&ways[i]);
        expect_open();
        expect_refused(long_record, sizeof long_record, SSL_AD_RECORD_OVERFLOW);
        close_way();
    }
}

/* The alert of a client that trusts nobody. */
static void a_client_that_ends_the_handshake_is_told_of(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        open_way(&ways[i]);
        SSL_set_verify(w.client, SSL_VERIFY_PEER, NULL);
        assert_false(shake());
        to_server();
        assert_int_equal(w.ended, WSR_TLS_EVENT_FAILURE);
        assert_non_null(strstr(w.shared.counts.failure, "alert"));
        ERR_clear_error();
        close_way();
    }
}

/* TLS 1.2: the connection goes on, or the client ends it, but there is no second handshake. */
static void renegotiation_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        if (ways[i].version != WSR_TLS_1_2)
            continue;
        open_way(&ways[i]);
        expect_open();
        assert_int_equal(SSL_renegotiate(w.client), 1);
        (void)SSL_do_handshake(w.client);
        to_server();
        to_client();
        assert_true(SSL_do_handshake(w.client) != 1);
        assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
        assert_int_equal(w.shared.counts.handshakes, 1);
        ERR_clear_error();
        close_way();
    }
}

/* ---- Options ---- */

/* "direct" is to be what it says, so that nobody measures something else. */
static void direct_ends_what_it_cannot_carry(void **state)
{
    (void)state;
    uint8_t byte;
    size_t now;
    open_way(&(struct way){ WSR_TLS_1_2, WSR_TLS_DIRECT, "ECDHE-ECDSA-AES128-SHA256" });
    (void)shake();
    expect_failure("none that direct can carry");
    assert_int_equal(SSL_read_ex(w.client, &byte, 1, &now), 0);
    assert_int_equal(SSL_get_error(w.client, 0), SSL_ERROR_ZERO_RETURN);
    close_way();
}

/* RFC 6066 4: OpenSSL knows how short its records are to be. */
static void a_client_that_wants_short_records_gets_them(void **state)
{
    (void)state;
    open_way(&(struct way){ WSR_TLS_1_3, WSR_TLS_AUTO, "TLS_AES_128_GCM_SHA256" });
    assert_int_equal(SSL_set_tlsext_max_fragment_length(w.client, TLSEXT_max_fragment_length_512), 1);
    expect_open();
    exchange(5000);
    assert_int_equal(w.shared.counts.direct, 0);
    close_way();
}

static void versions_are_kept_to(void **state)
{
    (void)state;
    static const uint16_t versions[] = { WSR_TLS_1_2, WSR_TLS_1_3 };
    for (size_t of_server = 0; of_server < 3; of_server++) {
        for (size_t of_client = 0; of_client < 2; of_client++) {
            struct wsr_echo_tls_options options = { .records = WSR_TLS_AUTO };
            if (of_server < 2)
                options.version_min = options.version_max = versions[of_server];
            open_server(&options);
            w.library = SSL_CTX_new(TLS_client_method());
            assert_non_null(w.library);
            connect_client(NULL);
            SSL_set_min_proto_version(w.client, versions[of_client]);
            SSL_set_max_proto_version(w.client, versions[of_client]);
            bool fits = of_server == 2 || of_server == of_client;
            assert_int_equal(shake(), fits);
            if (fits)
                assert_int_equal(SSL_version(w.client), versions[of_client]);
            ERR_clear_error();
            close_way();
        }
    }
}

static void ciphers_are_kept_to(void **state)
{
    (void)state;
    static const struct {
        const char *given, *of_1_2, *of_1_3;
    } cases[] = {
        { "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_AES_256_GCM_SHA384" },
        { "TLS_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_AES_128_GCM_SHA256" },
        { "TLS_CHACHA20_POLY1305_SHA256:ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA256",
          "TLS_CHACHA20_POLY1305_SHA256" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_server(&(struct wsr_echo_tls_options){ .ciphers = cases[i].given });
        w.library = SSL_CTX_new(TLS_client_method());
        connect_client(NULL);
        expect_open();
        assert_string_equal(SSL_get_cipher_name(w.client), cases[i].of_1_3);
        disconnect();
        connect_client(NULL);
        SSL_set_max_proto_version(w.client, TLS1_2_VERSION);
        expect_open();
        assert_string_equal(SSL_get_cipher_name(w.client), cases[i].of_1_2);
        close_way();
    }
}

static void offer(const char *protocols, bool is_taken)
{
    const unsigned char *chosen;
    unsigned int chosen_len;
    open_way(&ways[0]);
    assert_int_equal(SSL_set_alpn_protos(w.client, (const unsigned char *)protocols, (unsigned)strlen(protocols)), 0);
    assert_int_equal(shake(), is_taken);
    SSL_get0_alpn_selected(w.client, &chosen, &chosen_len);
    assert_int_equal(chosen_len, is_taken ? 8 : 0);
    if (is_taken)
        assert_memory_equal(chosen, "http/1.1", 8);
    ERR_clear_error();
    close_way();
}

static void http_1_1_is_agreed_on_and_nothing_else(void **state)
{
    (void)state;
    offer("\x08http/1.1", true);
    offer("\x02h2\x08http/1.1", true);
    offer("\x02h2", false);
    offer("\x08http/1.0", false);
}

static void refused(const struct wsr_echo_tls_options *options, const char *word, const char *reason)
{
    char error[WSR_ECHO_TLS_ERROR_CHARS] = "";
    struct wsr_echo_tls_context *context;
    assert_int_equal(wsr_echo_tls_context_create(&context, options, error), -1);
    if (!strstr(error, word) || !strstr(error, reason))
        fail_msg("\"%s\" has no %s, %s", error, word, reason);
    assert_int_equal(ERR_peek_error(), 0);
}

/* A file with @text, which is freed. */
static const char *put(const char *name, char *text)
{
    assert_non_null(text);
    const char *path = files_write(name, text, strlen(text));
    free(text);
    return path;
}

/* Chain and key by file, together or apart; what is written by --cert-out is what the client then sees. */
static void certificates_come_from_files(void **state)
{
    (void)state;
    struct wsr_certificate made;
    char *joined;
    assert_int_equal(wsr_certificate_create(&made, NULL, &wsr_certificate_local), 0);
    char *certificate_text = wsr_certificate_pem(&made), *key_text = wsr_certificate_key_pem(&made, NULL);
    assert_true(asprintf(&joined, "%s%s", certificate_text, key_text) > 0);
    const char *certificate = put("certificate", certificate_text), *out = files_path("out");
    const struct wsr_echo_tls_options cases[] = {
        { .certificate_file = certificate, .key_file = put("key", key_text) },
        { .certificate_file = put("both", joined) },
        { .certificate_out = out },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_server(&cases[i]);
        w.library = SSL_CTX_new(TLS_client_method());
        assert_int_equal(SSL_CTX_load_verify_file(w.library, i == 2 ? out : certificate), 1);
        connect_client(NULL);
        SSL_set_verify(w.client, SSL_VERIFY_PEER, NULL);
        assert_int_equal(SSL_set1_host(w.client, "localhost"), 1);
        expect_open();
        close_way();
    }
    wsr_certificate_free(&made);
}

static void options_that_are_no_good_are_refused(void **state)
{
    (void)state;
    struct wsr_certificate made;
    assert_int_equal(wsr_certificate_create(&made, NULL, &wsr_certificate_local), 0);
    const char *certificate = put("certificate", wsr_certificate_pem(&made));
    const char *locked = put("locked", wsr_certificate_key_pem(&made, "secret"));
    const char *wrong = files_write("wrong", "no PEM\n", 7);
    wsr_certificate_free(&made);
    refused(&(struct wsr_echo_tls_options){ .certificate_file = "/nonexistent" }, "--cert", "No such file");
    refused(&(struct wsr_echo_tls_options){ .certificate_file = wrong }, "--cert", "no start line");
    refused(&(struct wsr_echo_tls_options){ .certificate_file = certificate }, "--key", "not encrypted");
    refused(&(struct wsr_echo_tls_options){ .certificate_file = certificate, .key_file = locked }, "--key",
            "not encrypted");
    refused(&(struct wsr_echo_tls_options){ .certificate_file = certificate, .key_file = "/nonexistent" }, "--key",
            "No such file");
    refused(&(struct wsr_echo_tls_options){ .certificate_out = "/nonexistent/file" }, "--cert-out", "No such file");
    refused(&(struct wsr_echo_tls_options){ .ciphers = "NONSENSE" }, "--tls-ciphers", "NONSENSE");
    refused(&(struct wsr_echo_tls_options){ .ciphers = "TLS_NONSENSE" }, "--tls-ciphers", "TLS_NONSENSE");
    refused(&(struct wsr_echo_tls_options){ .ciphers = "::" }, "--tls-ciphers", "::");
    refused(&(struct wsr_echo_tls_options){ .version_min = WSR_TLS_1_3, .version_max = WSR_TLS_1_2 }, "--tls-max",
            "--tls-min");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_comes_back),
        cmocka_unit_test(the_conversation_is_the_same_at_every_cut),
        cmocka_unit_test(data_may_follow_the_handshake_at_once),
        cmocka_unit_test(sessions_are_resumed),
        cmocka_unit_test(keys_are_updated_both_ways),
        cmocka_unit_test(close_notify_is_taken_and_answered),
        cmocka_unit_test(a_client_may_be_gone_at_any_byte),
        cmocka_unit_test(what_is_no_tls_is_refused),
        cmocka_unit_test(a_record_that_was_changed_is_refused),
        cmocka_unit_test(what_is_no_record_is_refused_with_its_alert),
        cmocka_unit_test(a_client_that_ends_the_handshake_is_told_of),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(direct_ends_what_it_cannot_carry),
        cmocka_unit_test(a_client_that_wants_short_records_gets_them),
        cmocka_unit_test(versions_are_kept_to),
        cmocka_unit_test(ciphers_are_kept_to),
        cmocka_unit_test(http_1_1_is_agreed_on_and_nothing_else),
        cmocka_unit_test(certificates_come_from_files),
        cmocka_unit_test(options_that_are_no_good_are_refused),
    };
    return cmocka_run_group_tests(tests, fill_message, NULL);
}
