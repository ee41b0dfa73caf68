/* wss over real sockets against OpenSSL, with each way of carrying records: engine/conn_tls.c, engine/conn_ktls.c. What
 * needs the kernel's module tls is skipped where there is none; tests/ktls runs it where there is one.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/client.h"
#include "tests/support/ktls_here.h"
#include "tests/support/tls_echo.h"

#define LARGE (1u << 20)
#define AWAIT_MS 60000u
#define SOCKETS_MAX 40

/* How the records are carried: a test's state. */
struct way {
    const char *name;
    enum wsr_tls_records records;
};

static struct way library = { "library", WSR_TLS_LIBRARY }, direct = { "direct", WSR_TLS_DIRECT },
                  kernel = { "kernel", WSR_TLS_KERNEL };

static const struct {
    uint16_t version;
    const char *name, *standard;
} suites[] = {
    { WSR_TLS_1_3, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256" },
    { WSR_TLS_1_3, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384" },
    { WSR_TLS_1_3, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256" },
    { WSR_TLS_1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" },
    { WSR_TLS_1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" },
    { WSR_TLS_1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" },
};
#define SUITES_COUNT (sizeof suites / sizeof suites[0])

/* tls_echo_pattern() */
static uint8_t data[LARGE];

/* An engine and a server; what the sockets told. */
struct bed {
    enum wsr_tls_records records;
    struct tls_echo *echo;
    struct wsr_engine *engine;
    struct wsr_socket *sockets[SOCKETS_MAX];
    unsigned sockets_count;
    unsigned opened, closed, errors, messages;
    uint64_t bytes;                          /* of messages */
    const uint8_t *wanted;                   /* what the messages must be; NULL = anything */
    size_t wanted_bytes;
    struct wsr_event error, close;
};

/* ---- The bed ---- */

static struct tls_server_options server_of(size_t suite)
{
    bool is_new = suites[suite].version == WSR_TLS_1_3;
    return (struct tls_server_options){
        .version_min = suites[suite].version,
        .version_max = suites[suite].version,
        .ciphers = is_new ? NULL : suites[suite].name,
        .ciphersuites = is_new ? suites[suite].name : NULL,
    };
}

static void open_bed(struct bed *bed, const struct way *way, const struct tls_server_options *server,
                     const struct wsr_engine_options *wanted)
{
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    if (way->records == WSR_TLS_KERNEL)
        ktls_needed();
    else if (getenv("WSRING_KTLS") != NULL)
        skip();                           /* seen elsewhere */
    if (wanted != NULL)
        options = *wanted;
    options.flags |= WSR_ENGINE_TLS_INSECURE;
    options.tls_records = way->records;
    *bed = (struct bed){ .records = way->records, .echo = tls_echo_start(server) };
    int rc = wsr_engine_create(&bed->engine, &options);
    if (rc != 0)
        fail_msg("%s: %s", wsr_error_name(rc), wsr_error_text());
}

static void close_bed(struct bed *bed)
{
    assert_int_equal(wsr_engine_destroy(bed->engine), 0);
    tls_echo_stop(bed->echo);
}

static void on_message(struct bed *bed, const struct wsr_event *event)
{
    struct iovec parts[4096];
    size_t at = 0, count = wsr_event_view(event, parts, 4096);
    bed->messages++;
    bed->bytes += event->len;
    if (bed->wanted == NULL || event->len == 4)      /* "done" */
        return;
    assert_int_equal(event->len, bed->wanted_bytes);
    assert_in_range(count, 0, 4096);
    for (size_t i = 0; i < count; at += parts[i++].iov_len)
        assert_memory_equal(parts[i].iov_base, bed->wanted + at, parts[i].iov_len);
    assert_int_equal(at, bed->wanted_bytes);
}

static void take(struct bed *bed, const struct wsr_event *event)
{
    switch (event->type) {
    case WSR_EVENT_OPEN: bed->opened++; break;
    case WSR_EVENT_MESSAGE: on_message(bed, event); break;
    case WSR_EVENT_ERROR:
        bed->errors++;
        bed->error = *event;
        break;
    case WSR_EVENT_CLOSE:
        bed->closed++;
        bed->close = *event;
        break;
    default: break;
    }
}

/* Until *@count is @wanted. */
static void await(struct bed *bed, const unsigned *count, unsigned wanted)
{
    uint64_t limit_ms = client_now_ms() + AWAIT_MS;
    uint32_t rings = wsr_engine_rings(bed->engine);
    while (*count < wanted) {
        for (uint32_t ring = 0; ring < rings; ring++) {
            struct wsr_event events[32];
            int taken = wsr_poll(bed->engine, ring, events, 32, (rings == 1 ? 20 : 1) * 1000000u);
            assert_true(taken >= 0);
            for (int i = 0; i < taken; i++)
                take(bed, &events[i]);
        }
        if (bed->errors > 0 && count != &bed->closed && count != &bed->errors)
            fail_msg("%s (stage %u, errno %d)", bed->error.text, bed->error.stage, bed->error.system_errno);
        if (client_now_ms() > limit_ms)
            fail_msg("only %u of %u came", *count, wanted);
    }
    assert_int_equal(*count, wanted);
}

/* The server has seen the end of so many connections. */
static struct tls_echo_counts await_over(struct bed *bed, unsigned count)
{
    uint64_t limit_ms = client_now_ms() + AWAIT_MS;
    const unsigned never = 0;
    while (tls_echo_counts(bed->echo).over < count && client_now_ms() < limit_ms)
        await(bed, &never, 0), client_sleep_ms(1);
    assert_int_equal(tls_echo_counts(bed->echo).over, count);
    return tls_echo_counts(bed->echo);
}

static struct wsr_socket *begin(struct bed *bed)
{
    struct wsr_socket *socket;
    int rc = wsr_socket_open(bed->engine, tls_echo_url(bed->echo), WSR_ZSTRING, NULL, 0, NULL, &socket);
    if (rc != 0)
        fail_msg("%s: %s", wsr_error_name(rc), wsr_error_text());
    bed->sockets[bed->sockets_count++] = socket;
    return socket;
}

static struct wsr_socket *connect_open(struct bed *bed)
{
    struct wsr_socket *socket = begin(bed);
    await(bed, &bed->opened, bed->sockets_count);
    return socket;
}

static void say(struct wsr_socket *socket, const char *text)
{
    assert_int_equal(wsr_send(socket, WSR_TEXT, text, strlen(text)), 0);
}

/* The server says "done" and does it. */
static void command(struct bed *bed, struct wsr_socket *socket, const char *text)
{
    say(socket, text);
    await(bed, &bed->messages, bed->messages + 1);
    assert_int_equal(bed->bytes, 4);
    bed->bytes = 0;
}

/* @len bytes go there and come back as they were. */
static void echo(struct bed *bed, struct wsr_socket *socket, const uint8_t *bytes, size_t len)
{
    bed->wanted = bytes;
    bed->wanted_bytes = len;
    assert_int_equal(wsr_send(socket, WSR_BINARY, bytes, len), 0);
    await(bed, &bed->messages, bed->messages + 1);
    bed->wanted = NULL;
    bed->bytes = 0;
}

static void close_cleanly(struct bed *bed, struct wsr_socket *socket)
{
    unsigned closed = bed->closed;
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    await(bed, &bed->closed, closed + 1);
    assert_int_equal(bed->close.was_clean, 1);
    assert_int_equal(bed->close.code, 1000);
}

static struct wsr_engine_statistics statistics_of(struct bed *bed)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    assert_int_equal(wsr_engine_statistics(bed->engine, &statistics), 0);
    return statistics;
}

static void expect_records(struct bed *bed, struct wsr_socket *socket, size_t suite)
{
    struct wsr_socket_tls tls = WSR_SOCKET_TLS_INIT;
    assert_int_equal(wsr_socket_tls(socket, &tls), 0);
    assert_int_equal(tls.records, bed->records);
    assert_int_equal(tls.version, suites[suite].version);
    assert_string_equal(tls.cipher, suites[suite].standard);
}

/* ---- Messages ---- */

/* With each way to wait, and with the work on this thread and on another. */
static void messages_of_every_size_go_both_ways(void **state)
{
    static const size_t sizes[] = { 0, 1, 125, 126, 1000, 16370, 16384, 16385, 65535, 65536, LARGE };
    bool has_one_cpu = sysconf(_SC_NPROCESSORS_ONLN) == 1;
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        const struct tls_server_options server = server_of(i);
        for (unsigned how = 0; how < 4; how++) {
            struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
            struct bed bed;
            options.workers_count = how % 2;
            options.wait = how < 2 ? WSR_WAIT_BLOCK : WSR_WAIT_SPIN;
            if (options.wait == WSR_WAIT_SPIN && options.workers_count > 0 && has_one_cpu)
                continue;
            open_bed(&bed, *state, &server, &options);
            struct wsr_socket *socket = connect_open(&bed);
            expect_records(&bed, socket, i);
            for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
                echo(&bed, socket, data, sizes[k]);
            close_cleanly(&bed, socket);
            assert_int_equal(await_over(&bed, 1).notified, 1);
            close_bed(&bed);
        }
    }
}

static void small_messages_go_back_and_forth(void **state)
{
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        const struct tls_server_options server = server_of(i);
        struct bed bed;
        open_bed(&bed, *state, &server, NULL);
        struct wsr_socket *socket = connect_open(&bed);
        for (unsigned k = 0; k < 200; k++) {
            char text[32];
            snprintf(text, sizeof text, "message %u", k);
            echo(&bed, socket, (uint8_t *)text, strlen(text));
        }
        close_cleanly(&bed, socket);
        close_bed(&bed);
    }
}

/* More than the socket takes at once, so that sends end short. */
static void a_full_send_queue_drains(void **state)
{
    const struct tls_server_options server = server_of(0);
    struct bed bed;
    open_bed(&bed, *state, &server, NULL);
    struct wsr_socket *socket = connect_open(&bed);
    bed.wanted = data;
    bed.wanted_bytes = LARGE;
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(wsr_send(socket, WSR_BINARY, data, LARGE), 0);
    await(&bed, &bed.messages, 12);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    close_cleanly(&bed, socket);
    close_bed(&bed);
}

static void records_of_one_byte_make_a_message(void **state)
{
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        const struct tls_server_options server = server_of(i);
        struct bed bed;
        open_bed(&bed, *state, &server, NULL);
        struct wsr_socket *socket = connect_open(&bed);
        say(socket, "/trickle 5000");
        bed.wanted = data;
        bed.wanted_bytes = 5000;
        await(&bed, &bed.messages, 2);
        close_cleanly(&bed, socket);
        close_bed(&bed);
    }
}

static void many_connections_share_an_engine(void **state)
{
    const struct tls_server_options server = server_of(0);
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct bed bed;
    options.workers_count = 2;
    open_bed(&bed, *state, &server, &options);
    for (unsigned i = 0; i < SOCKETS_MAX; i++)
        begin(&bed);
    await(&bed, &bed.opened, SOCKETS_MAX);
    for (unsigned k = 0; k < 10; k++) {
        for (unsigned i = 0; i < SOCKETS_MAX; i++)
            say(bed.sockets[i], "hello");
        await(&bed, &bed.messages, (k + 1) * SOCKETS_MAX);
    }
    struct wsr_engine_statistics statistics = statistics_of(&bed);
    assert_int_equal(statistics.tls_handshakes, SOCKETS_MAX);
    assert_int_equal(statistics.tls_unverified, SOCKETS_MAX);
    assert_int_equal(statistics.tls_library, bed.records == WSR_TLS_LIBRARY ? SOCKETS_MAX : 0);
    assert_int_equal(statistics.tls_direct, bed.records == WSR_TLS_DIRECT ? SOCKETS_MAX : 0);
    assert_int_equal(statistics.tls_kernel, bed.records == WSR_TLS_KERNEL ? SOCKETS_MAX : 0);
    for (unsigned i = 0; i < SOCKETS_MAX; i++)
        assert_int_equal(wsr_close(bed.sockets[i], 1000, NULL, 0), 0);
    await(&bed, &bed.closed, SOCKETS_MAX);
    assert_int_equal(await_over(&bed, SOCKETS_MAX).notified, SOCKETS_MAX);
    close_bed(&bed);
}

static void sockets_can_be_slots_of_the_ring(void **state)
{
    const struct tls_server_options server = server_of(0);
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct wsr_engine *engine;
    struct bed bed;
    options.flags = WSR_ENGINE_DIRECT_DESCRIPTORS;
    options.sockets_max = 8;
    if (wsr_engine_create(&engine, &options) != 0)
        skip();                           /* before Linux 6.13 */
    wsr_engine_destroy(engine);
    open_bed(&bed, *state, &server, &options);
    struct wsr_socket *socket = connect_open(&bed);
    echo(&bed, socket, (const uint8_t *)"slot", 4);
    close_cleanly(&bed, socket);
    close_bed(&bed);
}

/* ---- Records that are not data ---- */

static void tickets_between_messages_are_taken(void **state)
{
    for (size_t i = 0; i < 3; i++) {
        const struct tls_server_options server = server_of(i);
        struct bed bed;
        open_bed(&bed, *state, &server, NULL);
        struct wsr_socket *socket = connect_open(&bed);
        for (unsigned k = 0; k < 10; k++) {
            command(&bed, socket, "/tickets 3");
            echo(&bed, socket, (const uint8_t *)"still here", 10);
        }
        close_cleanly(&bed, socket);
        close_bed(&bed);
    }
}

static void a_session_is_resumed(void **state)
{
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        const struct tls_server_options server = server_of(i);
        struct wsr_socket_tls tls = WSR_SOCKET_TLS_INIT;
        struct bed bed;
        open_bed(&bed, *state, &server, NULL);
        for (unsigned k = 0; k < 3; k++) {
            struct wsr_socket *socket = connect_open(&bed);
            assert_int_equal(wsr_socket_tls(socket, &tls), 0);
            assert_int_equal(tls.was_resumed, k > 0);
            echo(&bed, socket, (const uint8_t *)"resumed", 7);
            close_cleanly(&bed, socket);
        }
        assert_int_equal(statistics_of(&bed).tls_resumed, 2);
        close_bed(&bed);
    }
}

/* Linux takes new keys from 6.14 on. */
static void expect_end_by_update(struct bed *bed, struct wsr_socket *socket)
{
    say(socket, "/update");
    await(bed, &bed->closed, 1);
    assert_int_equal(bed->errors, 1);
    assert_int_equal(bed->error.stage, WSR_STAGE_OPEN);
    assert_int_equal(bed->error.system_errno, EBUSY);
    assert_non_null(strstr(bed->error.text, "6.14"));
    assert_int_equal(await_over(bed, 1).alerts[80], 1);         /* internal_error */
}

static void the_servers_new_keys_are_followed(void **state)
{
    for (size_t i = 0; i < 3; i++) {
        const struct tls_server_options server = server_of(i);
        struct bed bed;
        open_bed(&bed, *state, &server, NULL);
        struct wsr_socket *socket = connect_open(&bed);
        if (bed.records == WSR_TLS_KERNEL) {
            expect_end_by_update(&bed, socket);
        } else {
            for (unsigned k = 0; k < 5; k++) {
                command(&bed, socket, k % 2 == 0 ? "/update" : "/update ask");
                echo(&bed, socket, (const uint8_t *)"new keys", 8);
            }
            close_cleanly(&bed, socket);
            assert_int_equal(await_over(&bed, 1).updates, 2);
        }
        close_bed(&bed);
    }
}

/* ---- Ends ---- */

/* CLOSE-31 */
static void a_stream_that_ends_is_told_with_and_without_a_word(void **state)
{
    static const char *const ends[] = { "/notify", "/fin" };
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        const struct tls_server_options server = server_of(i);
        for (unsigned k = 0; k < 2; k++) {
            struct bed bed;
            open_bed(&bed, *state, &server, NULL);
            struct wsr_socket *socket = connect_open(&bed);
            command(&bed, socket, ends[k]);
            await(&bed, &bed.closed, 1);
            assert_int_equal(bed.close.code, 1006);
            assert_int_equal(bed.error.stage, WSR_STAGE_OPEN);
            assert_int_equal(bed.error.system_errno, 0);
            close_bed(&bed);
        }
    }
}

static void a_reset_is_told(void **state)
{
    const struct tls_server_options server = server_of(0);
    struct bed bed;
    open_bed(&bed, *state, &server, NULL);
    struct wsr_socket *socket = connect_open(&bed);
    say(socket, "/abort");
    await(&bed, &bed.closed, 1);
    assert_int_equal(bed.close.code, 1006);
    assert_int_equal(bed.error.system_errno, ECONNRESET);
    close_bed(&bed);
}

static void a_damaged_record_fails_the_connection_with_an_alert(void **state)
{
    for (size_t i = 0; i < SUITES_COUNT; i++) {
        const struct tls_server_options server = server_of(i);
        struct bed bed;
        open_bed(&bed, *state, &server, NULL);
        struct wsr_socket *socket = connect_open(&bed);
        command(&bed, socket, "/forge");
        say(socket, "this comes back damaged");
        await(&bed, &bed.closed, 1);
        assert_int_equal(bed.close.code, 1006);
        assert_int_equal(bed.error.stage, WSR_STAGE_OPEN);
        assert_int_equal(bed.messages, 1);
        /* bad_record_mac, which Linux would not seal any more */
        assert_int_equal(await_over(&bed, 1).alerts[20], bed.records != WSR_TLS_KERNEL);
        close_bed(&bed);
    }
}

static void a_suite_that_only_the_library_can_carry(void **state)
{
    const struct tls_server_options server = { .version_max = WSR_TLS_1_2, .ciphers = "ECDHE-ECDSA-AES128-SHA" };
    struct wsr_socket_tls tls = WSR_SOCKET_TLS_INIT;
    struct bed bed;
    open_bed(&bed, *state, &server, NULL);
    struct wsr_socket *socket = begin(&bed);
    if (bed.records == WSR_TLS_KERNEL) {
        await(&bed, &bed.closed, 1);
        assert_int_equal(bed.error.stage, WSR_STAGE_TLS);
        assert_non_null(strstr(bed.error.text, "tls_ciphers"));
        assert_int_equal(statistics_of(&bed).tls_kernel, 0);
    } else {
        await(&bed, &bed.opened, 1);
        assert_int_equal(wsr_socket_tls(socket, &tls), 0);
        assert_int_equal(tls.records, WSR_TLS_LIBRARY);
        echo(&bed, socket, (const uint8_t *)"by the library", 14);
    }
    close_bed(&bed);
}

#define EACH(test) cmocka_unit_test_prestate(test, &library), cmocka_unit_test_prestate(test, &direct), \
    cmocka_unit_test_prestate(test, &kernel)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(messages_of_every_size_go_both_ways),
        EACH(small_messages_go_back_and_forth),
        EACH(a_full_send_queue_drains),
        EACH(records_of_one_byte_make_a_message),
        EACH(many_connections_share_an_engine),
        EACH(sockets_can_be_slots_of_the_ring),
        EACH(tickets_between_messages_are_taken),
        EACH(a_session_is_resumed),
        EACH(the_servers_new_keys_are_followed),
        EACH(a_stream_that_ends_is_told_with_and_without_a_word),
        EACH(a_reset_is_told),
        EACH(a_damaged_record_fails_the_connection_with_an_alert),
        EACH(a_suite_that_only_the_library_can_carry),
    };
    for (size_t i = 0; i < LARGE; i++)
        data[i] = tls_echo_pattern(i);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
