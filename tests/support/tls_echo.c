/* One thread polls all connections; each is a link of tls_server.c with a socket. */
#include "tests/support/tls_echo.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/handshake.h"

#define LINES_MAX 64

struct line {
    int fd;                           /* -1 = none */
    struct tls_server_link *link;
    size_t parsed;                    /* of what the link received */
    bool is_upgraded, forges, ends;   /* ends: when all is sent */
    uint8_t *out;                     /* for the socket */
    size_t out_bytes, out_taken, out_room;
};

struct tls_echo {
    struct tls_server *server;
    int listener, wake;
    char url[64];
    pthread_t thread;
    pthread_mutex_t lock;             /* of counts */
    struct tls_echo_counts counts;
    struct line lines[LINES_MAX];
};

/* ---- To the client ---- */

static void reserve(struct line *line, size_t bytes)
{
    if (line->out_bytes + bytes <= line->out_room)
        return;
    line->out_room = 2 * (line->out_bytes + bytes);
    line->out = realloc(line->out, line->out_room);
    assert(line->out != NULL);
}

/* What TLS wants to send goes behind what waits for the socket. */
static void collect(struct line *line)
{
    size_t waiting = tls_server_waiting(line->link);
    if (waiting == 0)
        return;
    reserve(line, waiting);
    size_t taken = tls_server_take(line->link, line->out + line->out_bytes, waiting);
    if (line->forges && taken > 0)
        line->out[line->out_bytes + taken - 1] ^= 1;
    line->out_bytes += taken;
}

static void send_frame(struct line *line, uint8_t opcode, const uint8_t *data, size_t len, size_t record_bytes)
{
    uint8_t *frame = malloc(10 + len);
    size_t head = len < 126 ? 2 : len < 65536 ? 4 : 10;
    assert(frame != NULL);
    frame[0] = (uint8_t)(0x80 | opcode);
    frame[1] = (uint8_t)(head == 2 ? len : head == 4 ? 126 : 127);
    if (head == 4)
        wsr_store_be16(frame + 2, (uint16_t)len);
    else if (head == 10)
        wsr_store_be64(frame + 2, len);
    if (len > 0)
        memcpy(frame + head, data, len);
    tls_server_write(line->link, frame, head + len, record_bytes);
    free(frame);
}

static void send_big(struct line *line, size_t len, size_t record_bytes)
{
    uint8_t *data = malloc(len);
    assert(data != NULL);
    for (size_t i = 0; i < len; i++)
        data[i] = tls_echo_pattern(i);
    send_frame(line, 2, data, len, record_bytes);
    free(data);
}

static void abort_line(struct line *line)
{
    const struct linger at_once = { .l_onoff = 1 };
    setsockopt(line->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    line->link->state = TLS_SERVER_FAILED;
}

static void obey(struct line *line, const char *command)
{
    unsigned long number = 0;
    const char *argument = strchr(command, ' ');
    if (argument != NULL)
        number = strtoul(argument, NULL, 10);
    send_frame(line, 1, (const uint8_t *)"done", 4, 0);
    collect(line);
    if (strncmp(command, "/tickets", 8) == 0)
        tls_server_send_tickets(line->link, (unsigned)number);
    else if (strncmp(command, "/update", 7) == 0)
        tls_server_update_keys(line->link, argument != NULL);
    else if (strncmp(command, "/big", 4) == 0)
        send_big(line, number, 0);
    else if (strncmp(command, "/trickle", 8) == 0)
        send_big(line, number, 1);
    else if (strcmp(command, "/forge") == 0)
        line->forges = true;
    else if (strcmp(command, "/abort") == 0)
        abort_line(line);
    else if (strcmp(command, "/notify") == 0)
        tls_server_close(line->link);
    if (strcmp(command, "/notify") == 0 || strcmp(command, "/fin") == 0)
        line->ends = true;
}

/* ---- From the client ---- */

/* "Sec-WebSocket-Key: KEY" of the request. */
static void upgrade(struct line *line, const char *request)
{
    char accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1], answer[256];
    const char *key = strstr(request, "Sec-WebSocket-Key: ");
    assert(key != NULL);
    int rc = wsr_handshake_accept(accept, key + strlen("Sec-WebSocket-Key: "));
    assert(rc == 0);
    (void)rc;
    int len = snprintf(answer, sizeof answer,
                       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: %s\r\n\r\n",
                       accept);
    tls_server_write(line->link, answer, (size_t)len, 0);
    line->is_upgraded = true;
}

static void on_frame(struct line *line, uint8_t opcode, uint8_t *data, size_t len)
{
    if (opcode == 1 && len > 0 && data[0] == '/') {
        char command[64];
        snprintf(command, sizeof command, "%.*s", (int)len, (const char *)data);
        obey(line, command);
    } else if (opcode == 8) {
        send_frame(line, 8, data, len, 0);
        tls_server_close(line->link);
        line->ends = true;
    } else if (opcode == 9) {
        send_frame(line, 10, data, len, 0);
    } else {
        send_frame(line, opcode, data, len, 0);
    }
}

/* One masked frame at @in. Returns its bytes, 0 when it is not whole. */
static size_t take_frame(struct line *line, uint8_t *in, size_t bytes)
{
    size_t head = 6;
    uint64_t len;
    if (bytes < 14 && (bytes < 6 || (in[1] & 0x7F) >= 126))
        return 0;
    len = in[1] & 0x7F;
    if (len == 126) {
        len = wsr_load_be16(in + 2);
        head = 8;
    } else if (len == 127) {
        len = wsr_load_be64(in + 2);
        head = 14;
    }
    if (bytes < head + len)
        return 0;
    for (size_t i = 0; i < len; i++)
        in[head + i] ^= in[head - 4 + i % 4];
    on_frame(line, in[0] & 0x0F, in + head, len);
    return head + len;
}

static void parse(struct line *line)
{
    struct tls_server_link *link = line->link;
    size_t taken = 0;
    if (!line->is_upgraded) {
        const char *end = link->received_bytes > 0 ? memmem(link->received, link->received_bytes, "\r\n\r\n", 4) : NULL;
        if (end == NULL)
            return;
        taken = (size_t)(end - (const char *)link->received) + 4;
        char *request = strndup((const char *)link->received, taken);
        upgrade(line, request);
        free(request);
    }
    for (size_t more; !line->ends && link->state != TLS_SERVER_FAILED; taken += more) {
        more = take_frame(line, link->received + taken, link->received_bytes - taken);
        collect(line);
        if (more == 0)
            break;
    }
    memmove(link->received, link->received + taken, link->received_bytes - taken);
    link->received_bytes -= taken;
}

/* ---- Connections ---- */

static void end_line(struct tls_echo *echo, struct line *line)
{
    pthread_mutex_lock(&echo->lock);
    echo->counts.over++;
    echo->counts.notified += line->link->state == TLS_SERVER_CLOSED;
    echo->counts.updates += line->link->updates_received;
    if (line->link->alert_received >= 0)
        echo->counts.alerts[line->link->alert_received]++;
    pthread_mutex_unlock(&echo->lock);
    tls_server_drop(line->link);
    close(line->fd);
    free(line->out);
    *line = (struct line){ .fd = -1 };
}

/* Returns false when the connection is over. */
static bool receive(struct line *line)
{
    uint8_t bytes[16384];
    ssize_t len;
    while ((len = recv(line->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        tls_server_feed(line->link, bytes, (size_t)len);
        parse(line);
        collect(line);
        if (line->link->state == TLS_SERVER_FAILED && line->out_taken == line->out_bytes)
            return false;
    }
    return len < 0 && errno == EAGAIN;
}

static bool transmit(struct line *line)
{
    while (line->out_taken < line->out_bytes) {
        ssize_t sent = send(line->fd, line->out + line->out_taken, line->out_bytes - line->out_taken,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN;
        line->out_taken += (size_t)sent;
    }
    line->out_taken = line->out_bytes = 0;
    if (line->ends)
        shutdown(line->fd, SHUT_WR);
    return line->link->state != TLS_SERVER_FAILED;
}

static void accept_line(struct tls_echo *echo)
{
    int fd = accept4(echo->listener, NULL, NULL, SOCK_CLOEXEC), yes = 1;
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    for (unsigned i = 0; i < LINES_MAX; i++) {
        if (echo->lines[i].fd >= 0)
            continue;
        echo->lines[i] = (struct line){ .fd = fd, .link = tls_server_accept(echo->server) };
        pthread_mutex_lock(&echo->lock);
        echo->counts.accepted++;
        pthread_mutex_unlock(&echo->lock);
        return;
    }
    close(fd);
}

static void *serve(void *argument)
{
    struct tls_echo *echo = argument;
    for (;;) {
        struct pollfd polls[LINES_MAX + 2];
        for (unsigned i = 0; i < LINES_MAX; i++) {
            const struct line *line = &echo->lines[i];
            short events = line->out_taken < line->out_bytes ? POLLIN | POLLOUT : POLLIN;
            polls[i] = (struct pollfd){ .fd = line->fd, .events = events };
        }
        polls[LINES_MAX] = (struct pollfd){ .fd = echo->listener, .events = POLLIN };
        polls[LINES_MAX + 1] = (struct pollfd){ .fd = echo->wake, .events = POLLIN };
        poll(polls, LINES_MAX + 2, -1);
        if (polls[LINES_MAX + 1].revents != 0)
            return NULL;
        for (unsigned i = 0; i < LINES_MAX; i++) {
            struct line *line = &echo->lines[i];
            if (polls[i].revents != 0 && (!receive(line) || !transmit(line)))
                end_line(echo, line);
        }
        if (polls[LINES_MAX].revents != 0)
            accept_line(echo);
    }
}

/* ---- The server ---- */

struct tls_echo *tls_echo_start(const struct tls_server_options *options)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof address;
    struct tls_echo *echo = calloc(1, sizeof *echo);
    assert(echo != NULL);
    echo->server = tls_server_create(options);
    echo->wake = eventfd(0, EFD_CLOEXEC);
    echo->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    for (unsigned i = 0; i < LINES_MAX; i++)
        echo->lines[i].fd = -1;
    int rc = bind(echo->listener, (struct sockaddr *)&address, sizeof address);
    rc |= listen(echo->listener, 128);
    rc |= getsockname(echo->listener, (struct sockaddr *)&address, &bytes);
    snprintf(echo->url, sizeof echo->url, "wss://127.0.0.1:%u/", ntohs(address.sin_port));
    pthread_mutex_init(&echo->lock, NULL);
    rc |= pthread_create(&echo->thread, NULL, serve, echo);
    assert(rc == 0);
    (void)rc;
    return echo;
}

void tls_echo_stop(struct tls_echo *echo)
{
    eventfd_write(echo->wake, 1);
    pthread_join(echo->thread, NULL);
    for (unsigned i = 0; i < LINES_MAX; i++) {
        if (echo->lines[i].fd >= 0)
            end_line(echo, &echo->lines[i]);
    }
    pthread_mutex_destroy(&echo->lock);
    close(echo->listener);
    close(echo->wake);
    tls_server_free(echo->server);
    free(echo);
}

const char *tls_echo_url(const struct tls_echo *echo)
{
    return echo->url;
}

struct tls_echo_counts tls_echo_counts(struct tls_echo *echo)
{
    pthread_mutex_lock(&echo->lock);
    struct tls_echo_counts counts = echo->counts;
    pthread_mutex_unlock(&echo->lock);
    return counts;
}
