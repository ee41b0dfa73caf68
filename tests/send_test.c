/* engine/send.c: messages and close() from any thread, on the real driver.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "tests/support/bytes.h"
#include "tests/support/client.h"

#define THREADS_COUNT 8
#define PER_THREAD_COUNT 500

static uint8_t pattern[4 << 20];       /* bytes to send and to compare with */

static int fill_pattern(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = peer_pattern(i);
    return 0;
}

/* Send, and poll while the queue or the slab is full. */
static void send_patiently(struct client *client, struct wsr_socket *socket, enum wsr_kind kind, const void *data,
                           size_t len)
{
    int rc;
    while ((rc = wsr_send(socket, kind, data, len)) == WSR_ERR_QUOTA)
        client_until(client, WSR_EVENT_WRITABLE, client->counts[WSR_EVENT_WRITABLE] + 1);
    if (rc != 0)
        fail_msg("%s: %s", wsr_error_name(rc), wsr_error_text());
}

/* ---- Sizes ---- */

static void compare_echo(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type != WSR_EVENT_MESSAGE || event->len == 0)
        return;
    /* The length says where in the pattern it was taken from. */
    size_t from = event->len < 70000 ? event->len % 1000 : 0;
    if (event->len > sizeof pattern || memcmp(bytes_of(event), pattern + from, event->len) != 0)
        fail_msg("an echo of %llu bytes differs", (unsigned long long)event->len);
}

static uint64_t lengths_sum(size_t begin, size_t end, size_t step, unsigned *count)
{
    uint64_t sum = 0;
    for (*count = 0; begin <= end; begin += step, ++*count)
        sum += begin;
    return sum;
}

static void send_sizes(struct client *client, struct wsr_socket *socket, size_t begin, size_t end, size_t step)
{
    unsigned expected, sent = 0;
    uint64_t sum = lengths_sum(begin, end, step, &expected), before = client_statistics(client).messages_received_bytes;
    uint64_t come = client->counts[WSR_EVENT_MESSAGE];
    for (size_t len = begin; len <= end; len += step) {
        send_patiently(client, socket, len % 2 != 0 ? WSR_TEXT : WSR_BINARY, pattern + len % 1000, len);
        if (++sent % 64 == 0)
            client_until(client, WSR_EVENT_MESSAGE, come + sent);
    }
    client_until(client, WSR_EVENT_MESSAGE, come + expected);
    assert_true(client_statistics(client).messages_received_bytes - before == sum);
}

/* SEND-02, 04, 07, 11, WPT Send-0byte-data, Send-65K-data, extended-payload-length */
static void sizes_echo(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    client->react = compare_echo;
    send_sizes(client, socket, 0, 600, 1);
    send_sizes(client, socket, 3900, 4200, 1);          /* around one chunk of the middle size */
    send_sizes(client, socket, 16200, 16500, 7);        /* around the chain of them, and a receive buffer */
    send_sizes(client, socket, 65400, 65600, 1);        /* around 2^16 and the largest chunk */
    send_sizes(client, socket, 0, 70000, 1013);
}

static void every_size_up_to_70000_comes_back(void **state)
{
    (void)state;
    client_each(sizes_echo, NULL, "upgrade; echo");
}

static size_t cut_oddly(struct iovec *parts, size_t parts_max, size_t len, size_t first)
{
    size_t count = 0, at = 0, piece = first;
    while (at < len && count < parts_max) {
        size_t take = count == parts_max - 1 || piece > len - at ? len - at : piece;
        parts[count++] = (struct iovec){ pattern + at, take };
        at += take;
        piece = piece * 3 % 4099;
    }
    return count;
}

/* SEND-04: one message, whatever the pieces; 4 MiB in up to 3,000 of them, empty ones among them */
static void gather_pieces(struct client *client)
{
    static const size_t lengths[] = { 0, 1, 5, 300, 65535, 65536, 1000003, sizeof pattern };
    static struct iovec parts[3000];
    struct wsr_socket *socket = client_connect_open(client);
    client->react = compare_echo;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t len = lengths[i];
        size_t offset = len < 70000 ? len % 1000 : 0;
        size_t count = cut_oddly(parts, 3000, len, 1);
        for (size_t k = 0; k < count; k++)
            parts[k].iov_base = (uint8_t *)parts[k].iov_base + offset;
        assert_int_equal(wsr_send_gather(socket, WSR_TEXT, parts, count), 0);
        client_until(client, WSR_EVENT_MESSAGE, i + 1);
        assert_int_equal(client->last[WSR_EVENT_MESSAGE].len, len);
    }
    struct iovec holes[] = { { NULL, 0 }, { pattern, 0 }, { pattern + 3, 3 }, { NULL, 0 } };
    assert_int_equal(wsr_send_gather(socket, WSR_BINARY, holes, 4), 0);
    assert_int_equal(wsr_send_gather(socket, WSR_BINARY, NULL, 0), 0);
    client_until(client, WSR_EVENT_MESSAGE, sizeof lengths / sizeof lengths[0] + 2);
    assert_int_equal(client->last[WSR_EVENT_MESSAGE].len, 0);
}

static void gathered_pieces_are_one_message(void **state)
{
    (void)state;
    client_each(gather_pieces, NULL, "upgrade; echo");
}

/* SEND-05, SEND-06: the caller's memory is copied, and not changed */
static void scribble_after(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    char text[] = "before", copy[sizeof text];
    memcpy(copy, text, sizeof text);
    assert_int_equal(wsr_send(socket, WSR_TEXT, text, 6), 0);
    assert_memory_equal(text, copy, sizeof text);
    memset(text, '#', 6);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    client_expect(client, "open\ntext 6 before\n");
}

static void what_is_sent_are_the_bytes_at_the_call(void **state)
{
    (void)state;
    client_each(scribble_after, NULL, "upgrade; echo");
}

/* ---- Refusals ---- */

static void refuse_arguments(struct client *client)
{
    struct wsr_socket *socket = client_connect(client);
    struct iovec null_part[] = { { pattern, 1 }, { NULL, 1 } };
    struct iovec endless[] = { { pattern, SIZE_MAX }, { pattern, SIZE_MAX } };
    struct iovec half[] = { { pattern, SIZE_MAX / 2 }, { pattern, SIZE_MAX / 2 } };
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(wsr_send(NULL, WSR_TEXT, "x", 1), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_send(socket, (enum wsr_kind)0, "x", 1), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_send(socket, (enum wsr_kind)3, "x", 1), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_send(socket, (enum wsr_kind)8, "x", 1), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_send(socket, WSR_TEXT, NULL, 1), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_send_gather(socket, WSR_TEXT, NULL, 1), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_send_gather(socket, WSR_BINARY, null_part, 2), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_send_gather(socket, WSR_BINARY, endless, 2), WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_send_gather(socket, WSR_BINARY, half, 2), WSR_ERR_ARGUMENT);
        /* Arguments are judged first, then the state, then what fits. */
        assert_int_equal(wsr_send_gather(socket, WSR_BINARY, half, 1),
                         round == 0 ? WSR_ERR_INVALID_STATE : WSR_ERR_ARGUMENT);
        assert_int_equal(wsr_socket_buffered_now(socket), 0);
        client_until(client, WSR_EVENT_OPEN, 1);
    }
    assert_int_equal(wsr_send(socket, WSR_TEXT, "x", 1), 0);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    client_expect(client, "open\ntext 1 x\n");
    assert_int_equal(client_statistics(client).messages_sent, 1);
}

/* BUF-08, WPT send/001 */
static void wrong_arguments_send_nothing(void **state)
{
    (void)state;
    client_each(refuse_arguments, NULL, "upgrade; echo");
}

static const struct {
    const char *text;
    size_t len;
} not_utf8[] = {
    { "\xFF", 1 }, { "\xC0\x80", 2 }, { "\xED\xA0\x80", 3 }, { "\xED\xB0\x80", 3 }, { "\xF4\x90\x80\x80", 4 },
    { "\xE2\x82", 2 }, { "ok then \x80", 9 }, { "\xF0\x9F\x98", 3 }, { "\xC3", 1 },
};

/* OQ-3, SEND-08, BUF-08 */
static void refuse_invalid_text(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    unsigned expected = 0;
    for (size_t i = 0; i < sizeof not_utf8 / sizeof not_utf8[0]; i++) {
        assert_int_equal(wsr_send(socket, WSR_TEXT, not_utf8[i].text, not_utf8[i].len), WSR_ERR_INVALID_UTF8);
        assert_true(wsr_error_text()[0] != '\0');
        assert_int_equal(wsr_socket_buffered_now(socket), 0);
        assert_int_equal(wsr_send(socket, WSR_BINARY, not_utf8[i].text, not_utf8[i].len), 0);
        client_until(client, WSR_EVENT_MESSAGE, ++expected);
    }
    /* A character may lie across pieces, but not be left open at the end. */
    char smile[] = "\xF0\x9F\x98\x80";
    struct iovec parts[] = { { smile, 1 }, { smile + 1, 2 }, { NULL, 0 }, { smile + 3, 1 } };
    assert_int_equal(wsr_send_gather(socket, WSR_TEXT, parts, 4), 0);
    assert_int_equal(wsr_send_gather(socket, WSR_TEXT, parts, 3), WSR_ERR_INVALID_UTF8);
    client_until(client, WSR_EVENT_MESSAGE, expected + 1);
    assert_int_equal(client->last[WSR_EVENT_MESSAGE].len, 4);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_OPEN);
    assert_int_equal(client_statistics(client).messages_sent, expected + 1);
}

static void text_that_is_not_utf8_leaves_everything_unchanged(void **state)
{
    (void)state;
    client_each(refuse_invalid_text, NULL, "upgrade; echo");
}

/* ---- The cap of the queue, and the slabs ---- */

static void settle(struct client *client)
{
    uint64_t sent;
    do {
        sent = client_statistics(client).wire_sent_bytes;
        client_idle(client, 50);
    } while (client_statistics(client).wire_sent_bytes != sent);
}

static bool has_drained(struct client *client)
{
    return wsr_socket_buffered_amount(client->context) == 0;
}

/* OQ-8, BUF-10: refused, nothing queued, one writable event when it has drained to half */
static void run_into_the_cap(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    uint64_t sent = 0;
    int rc;
    assert_int_equal(wsr_send(socket, WSR_BINARY, pattern, 100001), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_socket_buffered_now(socket), 0);
    for (;;) {
        while ((rc = wsr_send(socket, WSR_BINARY, pattern, 10000)) == 0)
            sent += 10000;
        assert_int_equal(rc, WSR_ERR_QUOTA);
        assert_true(wsr_socket_buffered_now(socket) <= 100000);
        /* The kernel takes a lot at first; the queue is full for good when nothing moves any more. */
        uint64_t told = client->counts[WSR_EVENT_WRITABLE];
        settle(client);
        if (client->counts[WSR_EVENT_WRITABLE] == told)
            break;
    }
    uint64_t buffered = wsr_socket_buffered_amount(socket), told = client->counts[WSR_EVENT_WRITABLE];
    assert_true(buffered > 50000 && buffered <= 100000);
    for (unsigned i = 0; i < 5; i++) {
        rc = wsr_send(socket, WSR_BINARY, pattern, 100000 - buffered + 1);
        assert_int_equal(rc, WSR_ERR_QUOTA);
        assert_int_equal(wsr_socket_buffered_amount(socket), buffered);
    }
    assert_int_equal(client->counts[WSR_EVENT_WRITABLE], told);
    peer_go(client->peer);                              /* it reads again */
    client_until(client, WSR_EVENT_WRITABLE, told + 1);
    client_idle(client, 50);
    assert_int_equal(client->counts[WSR_EVENT_WRITABLE], told + 1);
    assert_int_equal(wsr_send(socket, WSR_BINARY, pattern, 10000), 0);
    client_idle(client, 20);
    peer_await_messages(client->peer, sent / 10000 + 1);
    assert_int_equal(peer_bytes(client->peer), sent + 10000);
}

static void over_the_cap_is_refused_until_a_writable_event(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.send_queue_max_bytes = 100000;
    client_each(run_into_the_cap, &options, "upgrade; stop; hold; read; sink");
}

/* BUF-10: the cap that nobody has set is 64 MiB, and a message may fill it. */
static void fill_the_default_queue(struct client *client)
{
    struct iovec parts[17];
    struct wsr_socket *socket = client_connect_open(client);
    for (unsigned i = 0; i < 16; i++)
        parts[i] = (struct iovec){ pattern, sizeof pattern };
    parts[16] = (struct iovec){ pattern, 1 };
    assert_int_equal(wsr_send_gather(socket, WSR_BINARY, parts, 17), WSR_ERR_ARGUMENT);
    assert_int_equal(wsr_socket_buffered_amount(socket), 0);
    assert_int_equal(wsr_send_gather(socket, WSR_BINARY, parts, 16), 0);
    assert_int_equal(wsr_socket_buffered_amount(socket), 16 * sizeof pattern);
    client->context = socket;
    client_until_true(client, has_drained);
    peer_await_messages(client->peer, 1);
    assert_int_equal(peer_bytes(client->peer), 16 * sizeof pattern);
}

static void the_default_cap_is_64_mib(void **state)
{
    (void)state;
    client_each(fill_the_default_queue, NULL, "upgrade; sink");
}

/* send_pool_bytes: the slabs of a worker are shared, and a socket that finds none is told when there are some again. */
static void run_out_of_slabs(struct client *client)
{
    struct wsr_socket *stuck = client_connect_open(client), *other = client_connect_open(client);
    unsigned sent = 0;
    int rc;
    for (;;) {
        while ((rc = wsr_send(stuck, WSR_BINARY, pattern, 50000)) == 0)
            sent++;
        assert_int_equal(rc, WSR_ERR_QUOTA);
        uint64_t told = client->counts[WSR_EVENT_WRITABLE];
        settle(client);
        if (client->counts[WSR_EVENT_WRITABLE] == told)
            break;
    }
    assert_true(wsr_socket_buffered_amount(stuck) < (1u << 20));
    /* Far below its own cap, the other socket is refused a large message and can send once slabs are free. */
    assert_int_equal(wsr_send(other, WSR_BINARY, pattern, 60000), WSR_ERR_QUOTA);
    assert_int_equal(wsr_socket_buffered_amount(other), 0);
    assert_int_equal(wsr_send(other, WSR_BINARY, pattern, 4 << 20), WSR_ERR_ARGUMENT);
    peer_go(client->peer);
    while ((rc = wsr_send(other, WSR_BINARY, pattern, 60000)) == WSR_ERR_QUOTA)
        client_until(client, WSR_EVENT_WRITABLE, client->counts[WSR_EVENT_WRITABLE] + 1);
    assert_int_equal(rc, 0);
    client_idle(client, 20);
    peer_await_messages(client->peer, sent + 1);
    /* control frames need no slab of this kind */
    assert_int_equal(wsr_close(stuck, 0, NULL, 0), 0);
    assert_int_equal(wsr_close(other, 0, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, 2);
}

static void without_slabs_a_send_is_refused_until_a_writable_event(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.send_pool_bytes = 1 << 20;
    client_each(run_out_of_slabs, &options, "upgrade; stop; hold; read; sink; expect close; close; fin");
}

/* SEND-15, WPT send-many-64K-messages-with-backpressure */
static void press_on(struct client *client)
{
    struct wsr_socket *socket = client_connect_open(client);
    client->react = compare_echo;
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(wsr_send(socket, WSR_BINARY, pattern + 65536 % 1000, 65536), 0);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    client_idle(client, 50);
    peer_go(client->peer);
    client_until(client, WSR_EVENT_CLOSE, 1);
    peer_await_messages(client->peer, 50);
    assert_true(client->last[WSR_EVENT_CLOSE].was_clean);
}

/* SEND-09, CLOSE-07: the Close frame follows all of them */
static void fifty_messages_and_a_close_to_a_slow_reader(void **state)
{
    (void)state;
    client_each(press_on, NULL, "upgrade; stop; hold; read; sink; expect close; close 1000; fin");
}

/* ---- Many threads ---- */

struct sender {
    pthread_t thread;
    struct wsr_socket *sockets[4];
    unsigned sockets_count;
    unsigned number;
    _Atomic unsigned refused;          /* anything but 0 and QUOTA; read after the join */
};

static void *send_numbers(void *context)
{
    struct sender *sender = context;
    for (unsigned i = 0; i < PER_THREAD_COUNT; i++) {
        char text[64];
        size_t len = (size_t)snprintf(text, sizeof text, "%u %u %.*s", sender->number, i, (int)(i % 30),
                                      "..............................");
        int rc;
        while ((rc = wsr_send(sender->sockets[i % sender->sockets_count], WSR_TEXT, text, len)) == WSR_ERR_QUOTA)
            client_sleep_ms(1);
        if (rc != 0)
            atomic_fetch_add_explicit(&sender->refused, 1, memory_order_relaxed);
    }
    return NULL;
}

static unsigned next_of_thread[THREADS_COUNT][4];

/* The echoes of one thread through one socket come in the order of its calls. */
static void check_order(struct client *client, const struct wsr_event *event)
{
    (void)client;
    if (event->type != WSR_EVENT_MESSAGE)
        return;
    char text[64];
    unsigned thread, number;
    snprintf(text, sizeof text, "%.*s", (int)event->len, (const char *)event->data);
    assert_int_equal(sscanf(text, "%u %u", &thread, &number), 2);
    assert_in_range(thread, 0, THREADS_COUNT - 1);
    unsigned *next = &next_of_thread[thread][number % 4];
    assert_int_equal(number / 4, *next);
    ++*next;
    assert_int_equal(event->len, strlen(text));
}

static void send_from_all(struct client *client, unsigned sockets_count)
{
    struct wsr_socket *sockets[4];
    struct sender senders[THREADS_COUNT] = { 0 };
    memset(next_of_thread, 0, sizeof next_of_thread);
    for (unsigned i = 0; i < sockets_count; i++)
        sockets[i] = client_connect_open(client);
    client->react = check_order;
    for (unsigned i = 0; i < THREADS_COUNT; i++) {
        senders[i].number = i;
        senders[i].sockets_count = sockets_count;
        memcpy(senders[i].sockets, sockets, sizeof sockets[0] * sockets_count);
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_numbers, &senders[i]), 0);
    }
    client_until(client, WSR_EVENT_MESSAGE, THREADS_COUNT * PER_THREAD_COUNT);
    for (unsigned i = 0; i < THREADS_COUNT; i++) {
        pthread_join(senders[i].thread, NULL);
        assert_int_equal(atomic_load_explicit(&senders[i].refused, memory_order_relaxed), 0);
    }
    assert_int_equal(peer_messages(client->peer), THREADS_COUNT * PER_THREAD_COUNT);
    assert_int_equal(client_statistics(client).messages_sent, THREADS_COUNT * PER_THREAD_COUNT);
}

static void to_one_socket(struct client *client)
{
    send_from_all(client, 1);
}

static void to_four_sockets(struct client *client)
{
    send_from_all(client, 4);
}

/* SEND-09 */
static void eight_threads_to_one_socket_keep_their_order(void **state)
{
    (void)state;
    client_each(to_one_socket, NULL, "upgrade; echo");
}

static void eight_threads_to_many_sockets_keep_their_order(void **state)
{
    (void)state;
    client_each(to_four_sockets, NULL, "upgrade; echo");
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    struct client client;
    options.workers_count = 3;
    options.send_queue_max_bytes = 4096;                /* with refusals among them */
    client_open(&client, &options, "upgrade; echo");
    to_four_sockets(&client);
    client_close(&client);
}

static void *send_until_closed(void *context)
{
    struct sender *sender = context;
    struct wsr_socket *socket = sender->sockets[0];
    for (unsigned i = 0; wsr_socket_ready_state(socket) == WSR_OPEN; i++) {
        int rc = wsr_send(socket, WSR_TEXT, "x", 1);
        if (rc != 0 && rc != WSR_ERR_QUOTA)
            atomic_fetch_add_explicit(&sender->refused, 1, memory_order_relaxed);
        if (sender->number == 0 && i == 50)
            wsr_close(socket, 3999, "enough", WSR_ZSTRING);
    }
    return NULL;
}

/* CLOSE-05: from another thread, while others send and one polls; all agree, one close event */
static void close_in_the_midst(struct client *client)
{
    for (unsigned round = 0; round < 20; round++) {
        struct sender senders[4] = { 0 };
        struct wsr_socket *socket = client_connect_open(client);
        for (unsigned i = 0; i < 4; i++) {
            senders[i].number = i % 2;                  /* two of them close */
            senders[i].sockets[0] = socket;
            assert_int_equal(pthread_create(&senders[i].thread, NULL, send_until_closed, &senders[i]), 0);
        }
        client_until(client, WSR_EVENT_CLOSE, round + 1);
        for (unsigned i = 0; i < 4; i++) {
            pthread_join(senders[i].thread, NULL);
            assert_int_equal(atomic_load_explicit(&senders[i].refused, memory_order_relaxed), 0);
        }
        assert_int_equal(client->last[WSR_EVENT_CLOSE].code, 3999);
        assert_true(client->last[WSR_EVENT_CLOSE].was_clean);
        wsr_socket_destroy(socket);
    }
}

static void closing_from_other_threads_while_they_send(void **state)
{
    (void)state;
    client_each(close_in_the_midst, NULL, "upgrade; sink; expect close; close 3999; fin");
}

static void *close_now(void *socket)
{
    wsr_close(socket, 0, NULL, 0);
    return NULL;
}

/* CLOSE-06, EVT-19: the race of close() against the open event has two outcomes, and no third */
static void close_while_opening(struct client *client)
{
    for (unsigned round = 0; round < 50; round++) {
        pthread_t thread;
        client->log_bytes = 0;
        struct wsr_socket *socket = client_connect(client);
        if (round % 2 != 0)
            client_sleep_ms(1);
        assert_int_equal(pthread_create(&thread, NULL, close_now, socket), 0);
        client_until(client, WSR_EVENT_CLOSE, round + 1);
        pthread_join(thread, NULL);
        assert_true(strcmp(client->log, "error\nclose 1006\n") == 0 ||
                    strcmp(client->log, "open\nclose 1005 clean\n") == 0);
        wsr_socket_destroy(socket);
    }
}

static void closing_from_another_thread_while_it_opens(void **state)
{
    (void)state;
    client_each(close_while_opening, NULL, "upgrade; echo");
}

/* ---- close() ---- */

static bool is_legal(int code)
{
    return code == 0 || code == 1000 || (code >= 3000 && code <= 4999);
}

static void check_illegal(struct wsr_socket *socket, int code)
{
    enum wsr_ready_state before = wsr_socket_ready_state(socket);
    if (wsr_close(socket, code, "a reason", WSR_ZSTRING) != WSR_ERR_INVALID_ACCESS)
        fail_msg("close(%d) was not refused", code);
    assert_true(wsr_error_text()[0] != '\0');
    assert_int_equal(wsr_socket_ready_state(socket), before);
}

static void check_all_illegal(struct wsr_socket *socket)
{
    static const int more[] = { -1, -1000, INT32_MIN, 65536, 65536 + 1000, 65536 + 3000, INT32_MAX };
    for (int code = 1; code <= 65535; code += code < 5100 ? 1 : 97) {
        if (!is_legal(code))
            check_illegal(socket, code);
    }
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        check_illegal(socket, more[i]);
    /* CLOSE-03: the code is looked at before the reason. */
    assert_int_equal(wsr_close(socket, 1005, (const char *)pattern, 124), WSR_ERR_INVALID_ACCESS);
    /* CLOSE-02 */
    assert_int_equal(wsr_close(socket, 1000, (const char *)pattern, 124), WSR_ERR_SYNTAX);
    assert_int_equal(wsr_close(socket, 0, (const char *)pattern, 124), WSR_ERR_SYNTAX);
    assert_int_equal(wsr_close(socket, 3000, (const char *)pattern, 1000000), WSR_ERR_SYNTAX);
    for (size_t i = 0; i < sizeof not_utf8 / sizeof not_utf8[0]; i++)
        assert_int_equal(wsr_close(socket, 3000, not_utf8[i].text, not_utf8[i].len), WSR_ERR_SYNTAX);
}

/* CLOSE-01 to 04, CLOSE-11, OQ-3: in every state, and nothing has changed */
static void refuse_closes(struct client *client)
{
    assert_int_equal(wsr_close(NULL, 1000, NULL, 0), WSR_ERR_ARGUMENT);
    struct wsr_socket *socket = client_connect(client);
    check_all_illegal(socket);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CONNECTING);
    client_until(client, WSR_EVENT_OPEN, 1);
    check_all_illegal(socket);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_OPEN);
    assert_int_equal(wsr_send(socket, WSR_TEXT, "still open", 10), 0);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    assert_int_equal(wsr_close(socket, 1000, NULL, 0), 0);
    check_all_illegal(socket);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
    client_until(client, WSR_EVENT_CLOSE, 1);
    check_all_illegal(socket);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSED);
    client_idle(client, 20);
    client_expect(client, "open\ntext 10 still open\nclose 1000 clean\n");
    peer_expect(client->peer, 0, "request GET /chat HTTP/1.1\nclose 1000\nfin\n");
}

static void illegal_closes_are_refused_in_every_state(void **state)
{
    (void)state;
    client_each(refuse_closes, NULL, "upgrade; echo");
}

/* CLOSE-08 to CLOSE-10, CLOSE-02: what is written */
static void write_closes(struct client *client)
{
    static const char *const euros = "\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC";
    char longest[124], widest[124];
    memset(longest, 'r', 123);
    longest[123] = '\0';
    for (unsigned i = 0; i < 41; i++)
        memcpy(widest + 3 * i, euros, 3);
    widest[123] = '\0';
    const struct {
        int code;
        const char *reason;
        size_t len;
        const char *seen;
        uint16_t told;
    } rows[] = {
        { 0, NULL, 0, "close\n", 1005 },
        { 0, "", 0, "close\n", 1005 },
        { 0, NULL, WSR_ZSTRING, "close\n", 1005 },
        { 1000, NULL, 0, "close 1000\n", 1000 },
        { 1000, "", WSR_ZSTRING, "close 1000\n", 1000 },
        { 3000, NULL, 77, "close 3000\n", 3000 },
        { 4999, "Clean Close", WSR_ZSTRING, "close 4999 Clean Close\n", 4999 },
        { 3000, "Clean Close", 5, "close 3000 Clean\n", 3000 },
        { 0, "why", WSR_ZSTRING, "close 1000 why\n", 1000 },
        { 1000, euros, WSR_ZSTRING, "close 1000 \xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\n", 1000 },
        { 4000, longest, WSR_ZSTRING, "close 4000 rrr", 4000 },
        { 4000, widest, WSR_ZSTRING, "close 4000 \xE2\x82\xAC", 4000 },
        { 4000, longest, 123, "close 4000 rrr", 4000 },
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wsr_socket *socket = client_connect_open(client);
        assert_int_equal(wsr_close(socket, rows[i].code, rows[i].reason, rows[i].len), 0);
        assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);      /* CLOSE-07 */
        assert_int_equal(wsr_close(socket, 3333, "again", WSR_ZSTRING), 0); /* CLOSE-05 */
        client_until(client, WSR_EVENT_CLOSE, i + 1);
        assert_int_equal(wsr_close(socket, 3333, "again", WSR_ZSTRING), 0);
        const struct wsr_event *close = &client->last[WSR_EVENT_CLOSE];
        assert_int_equal(close->code, rows[i].told);
        assert_true(close->was_clean && close->text[0] == '\0');
        peer_await(client->peer, i, rows[i].seen);
    }
    assert_int_equal(client->last[WSR_EVENT_CLOSE].len, 123);
    client_idle(client, 20);
    assert_int_equal(client->counts[WSR_EVENT_CLOSE], sizeof rows / sizeof rows[0]);
}

static void what_close_writes(void **state)
{
    (void)state;
    client_each(write_closes, NULL, "upgrade; echo");
}

/* F7, EVT-06, WPT close-connecting, close-basic */
static void close_connecting(struct client *client)
{
    struct wsr_socket *socket = client_connect(client);
    client_until_peer(client, 0, "request");
    assert_int_equal(wsr_close(socket, 1000, "never", WSR_ZSTRING), 0);
    assert_int_equal(wsr_socket_ready_state(socket), WSR_CLOSING);
    client_expect(client, "");
    client_until(client, WSR_EVENT_CLOSE, 1);
    client_until_peer(client, 0, "fin");
    socket = client_connect(client);
    assert_int_equal(wsr_close(socket, 0, NULL, 0), 0);
    client_until(client, WSR_EVENT_CLOSE, 2);
    client_idle(client, 20);
    client_expect(client, "error\nclose 1006\nerror\nclose 1006\n");
    assert_int_equal(client_statistics(client).sockets_failed, 2);
    assert_int_equal(client_statistics(client).sockets_opened, 0);
}

static void closing_while_connecting_fails_the_connection(void **state)
{
    (void)state;
    client_each(close_connecting, NULL, "request; hold");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_up_to_70000_comes_back),
        cmocka_unit_test(gathered_pieces_are_one_message),
        cmocka_unit_test(what_is_sent_are_the_bytes_at_the_call),
        cmocka_unit_test(wrong_arguments_send_nothing),
        cmocka_unit_test(text_that_is_not_utf8_leaves_everything_unchanged),
        cmocka_unit_test(over_the_cap_is_refused_until_a_writable_event),
        cmocka_unit_test(the_default_cap_is_64_mib),
        cmocka_unit_test(without_slabs_a_send_is_refused_until_a_writable_event),
        cmocka_unit_test(fifty_messages_and_a_close_to_a_slow_reader),
        cmocka_unit_test(eight_threads_to_one_socket_keep_their_order),
        cmocka_unit_test(eight_threads_to_many_sockets_keep_their_order),
        cmocka_unit_test(closing_from_other_threads_while_they_send),
        cmocka_unit_test(closing_from_another_thread_while_it_opens),
        cmocka_unit_test(illegal_closes_are_refused_in_every_state),
        cmocka_unit_test(what_close_writes),
        cmocka_unit_test(closing_while_connecting_fails_the_connection),
    };
    return cmocka_run_group_tests(tests, fill_pattern, NULL);
}
