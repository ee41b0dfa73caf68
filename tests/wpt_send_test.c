/* What the tests of web-platform-tests for send(), received data and bufferedAmount check, on the real driver.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/support/bytes.h"
#include "tests/support/handlers.h"

#define COUNT_OF(array) (sizeof (array) / sizeof (array)[0])
#define ASTRAL "\xF0\x90\x91\xBE"                  /* U+1047E */
#define LARGEST 100000u

static uint8_t sent[LARGEST];

static void fill_sent(size_t len)
{
    for (size_t i = 0; i < len; i++)
        sent[i] = (uint8_t)(i * 31 + i / 256 + len);
}

/* ---- Echoes ---- */

static struct {
    const void *data;
    size_t len;
    enum wsr_kind kind;
    enum wsr_binary_type as;
} wanted = { .as = WSR_BLOB };

static void compare_message(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    assert_int_equal(event->kind, wanted.kind);
    assert_int_equal(event->len, wanted.len);
    bool is_blob = wanted.kind == WSR_BINARY && wanted.as == WSR_BLOB;
    assert_int_equal(event->flags & WSR_EVENT_BLOB, is_blob ? WSR_EVENT_BLOB : 0);
    if (wanted.len > 0)
        assert_memory_equal(bytes_of(event), wanted.data, wanted.len);
    assert_int_equal(wsr_socket_ready_state(event->socket), WSR_OPEN);
}

/* Send, compare what comes back, close. */
static void echo_once(struct client *client, enum wsr_kind kind, const void *data, size_t len)
{
    struct wsr_socket *socket = handlers_connect_open(client, "/echo");
    wanted.data = data;
    wanted.len = len;
    wanted.kind = kind;
    client->react = compare_message;
    wsr_socket_set_binary_type(socket, wanted.as);
    assert_int_equal(wsr_send(socket, kind, data, len), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), len);
    client_until(client, WSR_EVENT_MESSAGE, client->counts[WSR_EVENT_MESSAGE] + 1);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, client->counts[WSR_EVENT_CLOSE] + 1);
    assert_true(client->last[WSR_EVENT_CLOSE].was_clean);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    wsr_socket_destroy(socket);
}

/* Send-data.{any,worker}, Send-{0byte-data,unicode-data,paired-surrogates}.any,
 * interfaces/WebSocket/send/{005,009,011}.html. SEND-02, 04, 07, UTF-05, UTF-06 */
static void echo_texts(struct client *client)
{
    static const struct {
        const char *text;
        size_t len;
    } rows[] = {
        { "Message to send", 15 },
        { "", 0 },
        { "\xC2\xA5\xC2\xA5\xC2\xA5", 6 },
        { ASTRAL, 4 },
        { "\xC3\xA5 a\xCC\x8A \xE5\x8C\xB6 " ASTRAL " e\xCC\x81\xCC\x82", 21 },
        { "a\0b", 3 },
        { "\xEF\xBB\xBF" "after a byte order mark", 26 },
        { "\xEF\xBF\xBD \xEF\xBF\xBE \xEF\xBF\xBF \xF4\x8F\xBF\xBF", 16 },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        echo_once(client, WSR_TEXT, rows[i].text, rows[i].len);
}

static void texts_come_back_as_they_were(void **state)
{
    (void)state;
    handlers_each(echo_texts);
}

/* Send-65K-data.any, extended-payload-length.html, Send-binary-{arraybuffer,65K-arraybuffer}.any,
 * binary/{001,002,004,005}.html. SEND-04, SEND-11, RECV-10 */
static void echo_sizes(struct client *client)
{
    static const size_t sizes[] = { 10, 15, 125, 126, 65000, 0xFFFF, 0x10000, LARGEST };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        memset(sent, 'a', sizes[i]);
        echo_once(client, WSR_TEXT, sent, sizes[i]);
        fill_sent(sizes[i]);
        for (wanted.as = WSR_BLOB; wanted.as <= WSR_ARRAYBUFFER; wanted.as++)
            echo_once(client, WSR_BINARY, sent, sizes[i]);
        wanted.as = WSR_BLOB;
    }
}

static void every_length_form_comes_back(void **state)
{
    (void)state;
    handlers_each(echo_sizes);
}

/* Send-binary-arraybufferview-{float16,float32,float64,int8,int32,int16-offset,uint8-offset,uint32-offset}.any,
 * Send-binary-arraybufferview-{uint8-offset-length,uint16-offset-length}.any: in C a view is a pointer and a length.
 * SEND-04, SEND-06 */
static void echo_views(struct client *client)
{
    static const struct {
        size_t item_bytes, offset, count;
    } views[] = {
        { 2, 0, 8 }, { 4, 0, 8 }, { 8, 0, 8 }, { 1, 0, 8 }, { 4, 0, 16 }, { 2, 2, 6 }, { 1, 2, 14 }, { 4, 4, 3 },
        { 1, 2, 4 }, { 2, 2, 2 }, { 1, 0, 0 }, { 1, 7, 1 },
    };
    uint8_t before[64];
    fill_sent(sizeof before);
    memcpy(before, sent, sizeof before);
    for (size_t i = 0; i < COUNT_OF(views); i++) {
        echo_once(client, WSR_BINARY, sent + views[i].offset, views[i].count * views[i].item_bytes);
        assert_memory_equal(sent, before, sizeof before);
    }
}

static void only_the_viewed_bytes_are_sent(void **state)
{
    (void)state;
    handlers_each(echo_views);
}

static const uint64_t receive_sizes[] = { 10, 100000, 100000, 10 };
static struct wsr_blob *received[COUNT_OF(receive_sizes)];

/* Handler @n finds what handler @n - 1 has set, though all messages were there before (MSG-02). */
static void receive_one(struct client *client, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    uint64_t at = client->counts[WSR_EVENT_MESSAGE] - 1;
    bool is_blob = at % 2 == 0;
    assert_int_equal(event->kind, WSR_BINARY);
    assert_int_equal(event->len, receive_sizes[at]);
    assert_int_equal(event->flags & WSR_EVENT_BLOB, is_blob ? WSR_EVENT_BLOB : 0);
    const char *bytes = bytes_of(event);
    for (size_t i = 0; i < event->len; i++)
        assert_int_equal((uint8_t)bytes[i], peer_pattern(i));
    if (is_blob)
        received[at] = wsr_event_blob(event);
    else
        memset((void *)(uintptr_t)event->data, 'x', event->len);        /* MSG-06: the receiver's own */
    wsr_socket_set_binary_type(event->socket, is_blob ? WSR_ARRAYBUFFER : WSR_BLOB);
}

/* binary/{001,002}.html: Blobs with the right size; binary/{004,005}.html: ArrayBuffers. MSG-02, MSG-04, MSG-06 */
static void receive_types(struct client *client)
{
    peer_script(client->peer,
                "upgrade; cork; big 10; big 100000; big 100000; big 10; uncork; close; expect close; fin");
    client->react = receive_one;
    client->events_max = 1;
    handlers_connect(client, "/other");
    client_until(client, WSR_EVENT_CLOSE, 1);
    for (size_t i = 0; i < COUNT_OF(received); i += 2) {
        static uint8_t bytes[100000];
        assert_int_equal(wsr_blob_size(received[i]), receive_sizes[i]);
        assert_int_equal(wsr_blob_copy(received[i], 0, bytes, sizeof bytes), receive_sizes[i]);
        for (size_t at = 0; at < receive_sizes[i]; at++)
            assert_int_equal(bytes[at], peer_pattern(at));
        wsr_blob_release(received[i]);
    }
}

static void binary_messages_arrive_whole(void **state)
{
    (void)state;
    handlers_each(receive_types);
}

static void send_back(struct client *client, const struct wsr_event *event)
{
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    assert_int_equal(event->len, 10);
    assert_memory_equal(bytes_of(event), sent, 10);
    if (client->counts[WSR_EVENT_MESSAGE] > 1)
        return;
    struct wsr_blob *blob = wsr_event_blob(event);
    assert_int_equal(wsr_send_blob(event->socket, WSR_BINARY, blob), 0);
    assert_int_equal(wsr_socket_buffered_amount(event->socket), 10);
    wsr_blob_release(blob);
}

/* Send-binary-blob.any, interfaces/WebSocket/bufferedAmount/bufferedAmount-blob.html: what came as a Blob goes out as
 * one. SEND-04, BUF-09 */
static void send_blobs(struct client *client)
{
    struct wsr_socket *socket = handlers_connect_open(client, "/echo");
    fill_sent(10);
    client->react = send_back;
    assert_int_equal(wsr_send(socket, WSR_BINARY, sent, 10), 0);
    client_until(client, WSR_EVENT_MESSAGE, 2);
    wsr_close(socket, 0, NULL, 0);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_true(client->last[WSR_EVENT_CLOSE].was_clean);
}

static void a_blob_is_sent_and_comes_back(void **state)
{
    (void)state;
    handlers_each(send_blobs);
}

/* binaryType-wrong-value.any. MSG-03 */
static void set_wrong_types(struct client *client)
{
    static const int wrong[] = { 2, -1, 256, INT32_MAX };
    struct wsr_socket *socket = handlers_connect(client, "/echo");
    assert_int_equal(wsr_socket_binary_type(socket), WSR_BLOB);
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        wsr_socket_set_binary_type(socket, (enum wsr_binary_type)wrong[i]);
        assert_int_equal(wsr_socket_binary_type(socket), WSR_BLOB);
    }
}

static void an_unknown_binary_type_is_ignored(void **state)
{
    (void)state;
    handlers_each(set_wrong_types);
}

/* ---- What is not sent ---- */

/* Send-before-open.any, interfaces/WebSocket/send/{001,003,004}.html. SEND-01, BUF-08 */
static void send_too_early(struct client *client)
{
    struct wsr_socket *socket = handlers_connect(client, "/slow-handshake");
    assert_int_equal(wsr_send(socket, WSR_TEXT, "a", 1), WSR_ERR_INVALID_STATE);
    assert_int_equal(wsr_send(socket, WSR_BINARY, "a", 1), WSR_ERR_INVALID_STATE);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "\xED\xA0\x80", 3), WSR_ERR_INVALID_STATE);
    client_until_peer(client, 0, "request");
    assert_int_equal(wsr_send(socket, WSR_TEXT, "", 0), WSR_ERR_INVALID_STATE);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    peer_go(client->peer);
    client_until(client, WSR_EVENT_OPEN, 1);
    assert_int_equal(wsr_send(socket, WSR_BINARY, NULL, 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send(NULL, WSR_TEXT, "a", 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_send(socket, (enum wsr_kind)0, "a", 1), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "first", 5), 0);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    client_expect(client, "open\ntext 5 first\n");
}

static void sending_before_open_is_an_invalid_state(void **state)
{
    (void)state;
    handlers_each(send_too_early);
}

/* Send-unpaired-surrogates.any, interfaces/WebSocket/send/006.html, adapted: a C caller has bytes, and those that
 * are not UTF-8 are refused instead of replaced. SEND-08, OQ-3, BUF-08 */
static void send_surrogates(struct client *client)
{
    static const char *const texts[] = { "\xED\xA0\x80", "\xED\xB0\x80", "a\xED\xB5\xBE\xED\xA0\x81",
                                         "\xED\xA0\x81\xED\xB1\xBE", "\xC0\x80", "\xFF", "ab\xE2\x82" };
    struct wsr_socket *socket = handlers_connect_open(client, "/echo");
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        assert_int_equal(wsr_send(socket, WSR_TEXT, texts[i], strlen(texts[i])), WSR_ERR_INVALID_UTF8);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "\xEF\xBF\xBD", 3), 0);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    client_expect(client, "open\ntext 3 \xEF\xBF\xBD\n");
}

static void unpaired_surrogates_are_refused(void **state)
{
    (void)state;
    handlers_each(send_surrogates);
}

static void send_at_close(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type == WSR_EVENT_CLOSE)
        assert_int_equal(wsr_send(event->socket, WSR_TEXT, "too late", 8), 0);
}

/* interfaces/WebSocket/send/{007,008}.html. SEND-03, CLOSE-14, BUF-07, EVT-08 */
static void send_too_late(struct client *client)
{
    struct wsr_socket *socket = handlers_connect_open(client, "/slow-close");
    client->react = send_at_close;
    assert_int_equal(wsr_close(socket, 0, NULL, 0), 0);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "late", 4), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), 4);
    client_until_peer(client, 0, "close");
    assert_int_equal(wsr_send(socket, WSR_BINARY, "later", 5), 0);
    peer_go(client->peer);
    handlers_until_close(client, "open\nclose 1005 clean\n");
    assert_int_equal(wsr_socket_buffered_amount(socket), 17);
    client_idle(client, 20);
    assert_int_equal(wsr_socket_buffered_amount(socket), 17);
    client_expect(client, "");
    peer_expect(client->peer, 0, "request GET /slow-close HTTP/1.1\nclose\nfin\n");
}

static void sending_after_close_is_counted_and_not_sent(void **state)
{
    (void)state;
    handlers_each(send_too_late);
}

/* ---- bufferedAmount ---- */

static bool is_drained(struct client *client)
{
    return wsr_socket_buffered_amount(client->context) == 0;
}

/* interfaces/WebSocket/bufferedAmount/bufferedAmount-{initial,getting,large,unicode,arraybuffer,blob}.html. BUF-01, 02,
 * 03, 05, 09 */
static void count_buffered(struct client *client)
{
    static const struct {
        enum wsr_kind kind;
        const char *data;
        size_t len;
    } rows[] = {
        { WSR_TEXT, "\xC2\xA5\xC2\xA5\xC2\xA5\xC2\xA5\xC2\xA5\xC2\xA5", 12 },
        { WSR_BINARY, "0123456789", 10 },
        { WSR_BINARY, (const char *)sent, 65000 },
        { WSR_TEXT, "", 0 },
    };
    struct wsr_socket *socket = handlers_connect(client, "/echo");
    client->context = socket;
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    client_until(client, WSR_EVENT_OPEN, 1);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(wsr_send(socket, rows[i].kind, rows[i].data, rows[i].len), 0);
        assert_int_equal(wsr_socket_buffered_amount(socket), rows[i].len);
        client_until_true(client, is_drained);
        client_until(client, WSR_EVENT_MESSAGE, i + 1);
    }
}

static void buffered_amount_is_the_payload(void **state)
{
    (void)state;
    handlers_each(count_buffered);
}

static void send_four(struct client *client, const struct wsr_event *event)
{
    static const struct {
        const char *text;
        uint64_t sum;
    } rows[] = { { "x", 1 }, { "\xC3\xA5", 3 }, { "\xE5\x8C\xB6", 6 }, { ASTRAL, 10 } };
    if (event->type != WSR_EVENT_OPEN)
        return;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(wsr_send(event->socket, WSR_TEXT, rows[i].text, strlen(rows[i].text)), 0);
        assert_int_equal(wsr_socket_buffered_amount(event->socket), rows[i].sum);
    }
    /* However long the handler takes, and whatever else it does: it does not fall under its feet. */
    client_sleep_ms(20);
    assert_int_equal(wsr_socket_buffered_amount(event->socket), 10);
    assert_true(wsr_socket_buffered_now(event->socket) <= 10);
    assert_int_equal(peer_connections(client->peer), 1);
    assert_int_equal(wsr_socket_buffered_amount(event->socket), 10);
}

/* interfaces/WebSocket/bufferedAmount/bufferedAmount-getting.html, bufferedAmount-unchanged-by-sync-xhr.any, adapted.
 * BUF-03, BUF-04 */
static void count_in_a_handler(struct client *client)
{
    client->react = send_four;
    struct wsr_socket *socket = handlers_connect(client, "/echo");
    client->context = socket;
    client_until(client, WSR_EVENT_MESSAGE, 4);
    client_until_true(client, is_drained);
    client_expect(client, "open\ntext 1 x\ntext 2 \xC3\xA5\ntext 3 \xE5\x8C\xB6\ntext 4 " ASTRAL "\n");
}

static void buffered_amount_never_falls_inside_a_handler(void **state)
{
    (void)state;
    handlers_each(count_in_a_handler);
}

/* interfaces/WebSocket/bufferedAmount/bufferedAmount-deleting.html as far as C has it: 0 after close() while
 * connecting. */
static void close_with_nothing_buffered(struct client *client)
{
    struct wsr_socket *socket = handlers_connect(client, "/slow-handshake");
    assert_int_equal(wsr_close(socket, 0, NULL, 0), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    handlers_until_close(client, "error\nclose 1006\n");
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
}

static void buffered_amount_is_0_when_nothing_was_sent(void **state)
{
    (void)state;
    handlers_each(close_with_nothing_buffered);
}

/* ---- Back-pressure ---- */

/* send-many-64K-messages-with-backpressure.any. SEND-15, SEND-02 */
static void send_many(struct client *client)
{
    struct wsr_socket *socket = handlers_connect_open(client, "/slow-reader");
    client->context = socket;
    fill_sent(65536);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(wsr_send(socket, WSR_BINARY, sent, 65536), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), 50 * 65536);
    client_idle(client, 50);
    assert_true(wsr_socket_buffered_amount(socket) > 0);
    peer_go(client->peer);
    client_until_true(client, is_drained);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    handlers_until_close(client, "open\nclose 1000 clean\n");
    assert_int_equal(peer_messages(client->peer), 50);
    assert_int_equal(peer_bytes(client->peer), 50 * 65536);
}

static void fifty_messages_to_a_slow_reader_do_not_hang(void **state)
{
    (void)state;
    handlers_each_with(send_many, NULL, 4096);
}

/* stream/tentative/backpressure-send.any, adapted: what a promise that stays pending says there, WSR_ERR_QUOTA and the
 * writable event say here. OQ-8, BUF-08, BUF-10 */
static void send_until_full(struct client *client)
{
    struct wsr_socket *socket = handlers_connect_open(client, "/slow-reader");
    uint64_t accepted = 0, before, writables;
    int rc;
    fill_sent(65536);
    do {
        before = accepted;
        writables = client->counts[WSR_EVENT_WRITABLE];
        while ((rc = wsr_send(socket, WSR_BINARY, sent, 65536)) == 0)
            accepted++;
        assert_int_equal(rc, WSR_ERR_QUOTA);
        assert_true(wsr_socket_buffered_now(socket) <= 256 * 1024);
        client_idle(client, 20);
        /* until the kernel's buffers are full too, and the last refusal is one of which the event is still to come */
    } while (accepted > before || client->counts[WSR_EVENT_WRITABLE] > writables);
    assert_int_equal(client->counts[WSR_EVENT_CLOSE], 0);
    peer_go(client->peer);
    client_until(client, WSR_EVENT_WRITABLE, writables + 1);
    assert_int_equal(wsr_send(socket, WSR_BINARY, sent, 65536), 0);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_true(client->last[WSR_EVENT_CLOSE].was_clean);
    assert_int_equal(peer_messages(client->peer), accepted + 1);
    assert_int_equal(client->counts[WSR_EVENT_ERROR], 0);
}

static void a_full_queue_refuses_until_the_reader_goes_on(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.send_queue_max_bytes = 256 * 1024;
    handlers_each_with(send_until_full, &options, 65536);
}

/* stream/tentative/backpressure-receive.any, adapted: a consumer that takes nothing makes the engine stop reading,
 * so that the server's data stay on its side; nothing is lost. RECV-15, EVT-18 */
static void receive_late(struct client *client)
{
    peer_script(client->peer, "upgrade; hold; big 1000000; big 1000000; big 1000000; big 1000000; big 1000000; "
                "big 1000000; big 1000000; big 1000000; close 1000; expect close; fin");
    handlers_connect_open(client, "/other");
    peer_go(client->peer);
    client_sleep_ms(100);
    struct wsr_engine_statistics before = client_statistics(client);
    assert_true(before.wire_received_bytes < 8000000);
    handlers_until_close(client, "open\nbinary 1000000 \nbinary 1000000 \nbinary 1000000 \nbinary 1000000 \n"
                         "binary 1000000 \nbinary 1000000 \nbinary 1000000 \nbinary 1000000 \nclose 1000 clean\n");
    assert_int_equal(client_statistics(client).messages_received_bytes, 8000000);
}

/* The same with wsr_pause(): nothing comes until wsr_resume(), then all. */
static void receive_after_a_pause(struct client *client)
{
    peer_script(client->peer, "upgrade; hold; texts 3; big 1000000; close 1000; expect close; fin");
    struct wsr_socket *socket = handlers_connect_open(client, "/other");
    assert_int_equal(wsr_pause(socket), 0);
    client_idle(client, 30);
    peer_go(client->peer);
    client_idle(client, 50);
    client_expect(client, "open\n");
    assert_int_equal(wsr_socket_ready_state(socket), WSR_OPEN);
    assert_int_equal(wsr_resume(socket), 0);
    handlers_until_close(client, "open\ntext 1 0\ntext 1 1\ntext 1 2\nbinary 1000000 \nclose 1000 clean\n");
}

static void a_paused_socket_holds_the_server_back(void **state)
{
    (void)state;
    handlers_each(receive_after_a_pause);
}

static void a_consumer_that_rests_holds_the_server_back(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.buffers_count = 16;
    options.loan_max_bytes = 1u << 20;
    handlers_each_with(receive_late, &options, 0);
}

/* ---- Idling ---- */

/* keeping-connection-open/001.html. EVT-17: an inline engine tells when it wants to be woken, and while nothing
 * happens that is never; so no length of silence can end the connection. */
static void stay_idle(struct client *client)
{
    struct wsr_socket *socket = handlers_connect_open(client, "/echo");
    client_idle(client, 200);
    assert_true(wsr_engine_timeout(client->engine) == WSR_NEVER);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "still here", 10), 0);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    handlers_until_close(client, "open\ntext 10 still here\nclose 1000 clean\n");
}

static void silence_never_closes_the_connection(void **state)
{
    (void)state;
    handlers_each(stay_idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_back_as_they_were),
        cmocka_unit_test(every_length_form_comes_back),
        cmocka_unit_test(only_the_viewed_bytes_are_sent),
        cmocka_unit_test(binary_messages_arrive_whole),
        cmocka_unit_test(a_blob_is_sent_and_comes_back),
        cmocka_unit_test(an_unknown_binary_type_is_ignored),
        cmocka_unit_test(sending_before_open_is_an_invalid_state),
        cmocka_unit_test(unpaired_surrogates_are_refused),
        cmocka_unit_test(sending_after_close_is_counted_and_not_sent),
        cmocka_unit_test(buffered_amount_is_the_payload),
        cmocka_unit_test(buffered_amount_never_falls_inside_a_handler),
        cmocka_unit_test(buffered_amount_is_0_when_nothing_was_sent),
        cmocka_unit_test(fifty_messages_to_a_slow_reader_do_not_hang),
        cmocka_unit_test(a_full_queue_refuses_until_the_reader_goes_on),
        cmocka_unit_test(a_consumer_that_rests_holds_the_server_back),
        cmocka_unit_test(a_paused_socket_holds_the_server_back),
        cmocka_unit_test(silence_never_closes_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
