/* The scripted server: one thread, poll(), non-blocking sockets; everything shared is under one lock. */
#include "tests/support/peer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "engine/handshake.h"

#define LINES_MAX 160                  /* connections of one peer */
#define PAYLOAD_LOGGED_MAX 40
#define OUT_RESTS_BYTES (4u << 20)     /* echoes that the client does not take stop the reading */
#define AWAIT_SECONDS 60
#define CHUNK_BYTES 65536u

enum seen { SEEN_REQUEST, SEEN_TEXT, SEEN_BINARY, SEEN_PING, SEEN_PONG, SEEN_CLOSE, SEEN_FIN, SEEN_COUNT };
static const char *const seen_names[SEEN_COUNT] = { "request", "text", "binary", "ping", "pong", "close", "fin" };

struct bytes {
    uint8_t *data;
    size_t first, end, capacity;
};

/* One connection. */
struct line {
    struct peer *peer;
    int fd;                            /* -1 when over */
    char *script, *next_step;
    uint64_t resume_ns;
    unsigned holds_passed;
    unsigned seen[SEEN_COUNT], expected[SEEN_COUNT];
    bool stopped, echoes, sinks, corked, is_upgraded;
    bool fin_when_sent, end_when_sent, fin_sent;
    struct bytes in, out, log, request;
    uint8_t close[125];                /* payload of the client's Close */
    size_t close_bytes;
    char from[INET_ADDRSTRLEN];
};

struct peer {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int listener, wake;
    uint16_t port;
    char url[48];
    char *script;
    const struct peer_route *routes;
    size_t routes_count;
    bool stopping;
    unsigned gos;
    uint64_t messages_count, messages_bytes;
    struct line *lines[LINES_MAX];
    unsigned lines_count, opening_max;
    char text[512];
    uint8_t chunk[CHUNK_BYTES];        /* of the thread, while it receives */
};

static void die(const char *what)
{
    fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
    abort();
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- Bytes ---- */

static void append(struct bytes *to, const void *data, size_t len)
{
    if (to->first == to->end)
        to->first = to->end = 0;
    if (to->end + len + 1 > to->capacity) {
        to->capacity = 2 * (to->end + len + 1);
        to->data = realloc(to->data, to->capacity);
        if (to->data == NULL)
            die("no memory");
    }
    if (len > 0)
        memcpy(to->data + to->end, data, len);
    to->end += len;
    to->data[to->end] = '\0';
}

static const char *text_of(const struct bytes *bytes)
{
    return bytes->data == NULL ? "" : (const char *)bytes->data + bytes->first;
}

static void note(struct line *line, enum seen seen, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void note(struct line *line, enum seen seen, const char *format, ...)
{
    char text[256];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    append(&line->log, text, strlen(text));
    append(&line->log, "\n", 1);
    if (seen < SEEN_COUNT)
        line->seen[seen]++;
}

/* ---- To the client ---- */

static void give_up(struct line *line)
{
    close(line->fd);
    line->fd = -1;
}

static void flush(struct line *line)
{
    while (line->fd >= 0 && line->out.first < line->out.end) {
        ssize_t sent = send(line->fd, line->out.data + line->out.first, line->out.end - line->out.first, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0) {
            give_up(line);
            return;
        }
        line->out.first += (size_t)sent;
    }
    if (line->fd >= 0 && line->fin_when_sent && !line->fin_sent) {
        shutdown(line->fd, SHUT_WR);
        line->fin_sent = true;
    }
    if (line->fd >= 0 && line->end_when_sent)
        give_up(line);
}

static void tell(struct line *line, const void *data, size_t len)
{
    append(&line->out, data, len);
}

static void tell_frame(struct line *line, uint8_t opcode, const void *payload, size_t len)
{
    uint8_t head[10] = { (uint8_t)(0x80 | opcode) };
    size_t head_bytes = 2;
    if (len < 126) {
        head[1] = (uint8_t)len;
    } else {
        size_t digits = len < 65536 ? 2 : 8;
        head[1] = digits == 2 ? 126 : 127;
        for (size_t i = 0; i < digits; i++)
            head[2 + i] = (uint8_t)((uint64_t)len >> (8 * (digits - 1 - i)));
        head_bytes += digits;
    }
    tell(line, head, head_bytes);
    tell(line, payload, len);
}

static void tell_big(struct line *line, size_t len)
{
    uint8_t *payload = malloc(len + 1);
    if (payload == NULL)
        die("no memory");
    for (size_t i = 0; i < len; i++)
        payload[i] = peer_pattern(i);
    tell_frame(line, 2, payload, len);
    free(payload);
}

static void tell_close(struct line *line, const char *arguments)
{
    uint8_t payload[125];
    size_t len = 0;
    if (arguments[0] != '\0') {
        char *end;
        unsigned long code = strtoul(arguments, &end, 10);
        payload[0] = (uint8_t)(code >> 8);
        payload[1] = (uint8_t)code;
        end += *end == ' ';
        len = 2 + strnlen(end, sizeof payload - 2);
        memcpy(payload + 2, end, len - 2);
    }
    tell_frame(line, 8, payload, len);
}

static void tell_http(struct line *line, const char *text)
{
    for (; *text != '\0'; text++)
        tell(line, *text == '|' ? "\r\n" : text, *text == '|' ? 2 : 1);
}

/* Value of header @name in the request, copied into @to. */
static void find_header(const struct line *line, const char *name, char *to, size_t to_bytes)
{
    size_t name_len = strlen(name);
    to[0] = '\0';
    for (const char *at = strstr(text_of(&line->request), "\r\n"); at != NULL; at = strstr(at, "\r\n")) {
        at += 2;
        if (strncasecmp(at, name, name_len) == 0 && at[name_len] == ':') {
            at += name_len + 1;
            at += strspn(at, " ");
            snprintf(to, to_bytes, "%.*s", (int)strcspn(at, "\r"), at);
            return;
        }
    }
}

static void find_accept(const struct line *line, char accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1])
{
    char key[64];
    find_header(line, "Sec-WebSocket-Key", key, sizeof key);
    if (strlen(key) != WSR_HANDSHAKE_KEY_CHARS || wsr_handshake_accept(accept, key) != 0)
        die("the request has no key");
}

static void tell_upgrade(struct line *line, const char *header)
{
    char accept[WSR_HANDSHAKE_ACCEPT_CHARS + 1];
    find_accept(line, accept);
    tell_http(line, "HTTP/1.1 101 Switching Protocols|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: ");
    tell_http(line, accept);
    tell_http(line, "|");
    size_t len = strlen(header);
    bool has_value = len >= 2 && strcmp(header + len - 2, ": ") != 0;
    tell_http(line, has_value ? header : "");
    tell_http(line, has_value ? "||" : "|");
    line->is_upgraded = true;
}

/* "NAME VALUE" */
static void demand(struct line *line, const char *demanded)
{
    char name[64], value[256];
    size_t name_len = strcspn(demanded, " ");
    snprintf(name, sizeof name, "%.*s", (int)name_len, demanded);
    find_header(line, name, value, sizeof value);
    if (strcmp(value, demanded + name_len + (demanded[name_len] == ' ')) == 0)
        return;
    tell_http(line, "HTTP/1.1 401 Unauthorized|WWW-Authenticate: Basic|Content-Length: 0||");
    line->fin_when_sent = true;
    line->next_step = NULL;
}

static void tell_hex(struct line *line, const char *hex)
{
    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2) {
        uint8_t octet = (uint8_t)byte;
        tell(line, &octet, 1);
        hex += hex[2] == ' ';
    }
}

/* ---- The script ---- */

/* Write @text into @to, with what the request says in place of each $NAME. */
static void expand(const struct line *line, const char *text, char *to, size_t to_bytes)
{
    size_t len = 0;
    while (*text != '\0' && len + 1 < to_bytes) {
        if (*text != '$') {
            to[len++] = *text++;
            continue;
        }
        char name[64], value[256];
        size_t name_len = strspn(text + 1, "-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
        snprintf(name, sizeof name, "%.*s", (int)name_len, text + 1);
        text += 1 + name_len;
        if (strcmp(name, "accept") == 0)
            find_accept(line, value);
        else
            find_header(line, name, value, sizeof value);
        len += (size_t)snprintf(to + len, to_bytes - len, "%.*s", (int)strcspn(value, ","), value);
    }
    to[len < to_bytes ? len : to_bytes - 1] = '\0';
}

static bool await_kind(struct line *line, enum seen seen)
{
    if (line->seen[seen] <= line->expected[seen])
        return false;
    line->expected[seen]++;
    return true;
}

/* Steps that send or only set something. */
static void act(struct line *line, const char *step, const char *rest)
{
    static const char *const opcodes[] = { NULL, "text", "binary", [9] = "ping", [10] = "pong" };
    for (uint8_t opcode = 1; opcode <= 10; opcode++) {
        if (opcodes[opcode] != NULL && strcmp(step, opcodes[opcode]) == 0) {
            tell_frame(line, opcode, rest, strlen(rest));
            return;
        }
    }
    if (strcmp(step, "close") == 0) {
        tell_close(line, rest);
    } else if (strcmp(step, "demand") == 0) {
        demand(line, rest);
    } else if (strcmp(step, "reply") == 0) {
        tell_frame(line, 8, line->close, line->close_bytes);
    } else if (strcmp(step, "http") == 0) {
        tell_http(line, rest);
    } else if (strcmp(step, "big") == 0) {
        tell_big(line, strtoul(rest, NULL, 10));
    } else if (strcmp(step, "texts") == 0) {
        for (unsigned long i = 0, count = strtoul(rest, NULL, 10); i < count; i++) {
            char text[24];
            tell_frame(line, 1, text, (size_t)snprintf(text, sizeof text, "%lu", i));
        }
    } else if (strcmp(step, "raw") == 0) {
        tell_hex(line, rest);
    } else if (strcmp(step, "cork") == 0 || strcmp(step, "uncork") == 0) {
        line->corked = step[0] == 'c';
    } else if (strcmp(step, "stop") == 0 || strcmp(step, "read") == 0) {
        line->stopped = step[0] == 's';
    } else if (strcmp(step, "echo") == 0) {
        line->echoes = true;
    } else if (strcmp(step, "sink") == 0) {
        line->sinks = true;
    } else if (strcmp(step, "fin") == 0) {
        line->fin_when_sent = true;
    } else if (strcmp(step, "end") == 0) {
        line->end_when_sent = true;
    } else if (strcmp(step, "rst") == 0) {
        const struct linger linger = { .l_onoff = 1 };
        setsockopt(line->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        give_up(line);
    } else {
        errno = EINVAL;
        die(step);
    }
}

/* Is @step one that waits, and still waiting? Otherwise it was done. */
static bool waits(struct line *line, const char *step, const char *rest, bool *is_done)
{
    *is_done = true;
    if (strcmp(step, "upgrade") == 0 || strcmp(step, "request") == 0 || strcmp(step, "demand") == 0) {
        if (line->seen[SEEN_REQUEST] == 0)
            return true;
        if (step[0] == 'u')
            tell_upgrade(line, rest);
        *is_done = step[0] != 'd';
        return false;
    }
    if (strcmp(step, "expect") == 0) {
        for (unsigned seen = 0; seen < SEEN_COUNT; seen++) {
            if (strcmp(rest, seen_names[seen]) == 0)
                return !await_kind(line, (enum seen)seen);
        }
    }
    if (strcmp(step, "hold") == 0) {
        if (line->holds_passed >= line->peer->gos)
            return true;
        line->holds_passed++;
        return false;
    }
    if (strcmp(step, "wait") == 0) {
        if (line->resume_ns == 0)
            line->resume_ns = now_ns() + strtoul(rest, NULL, 10) * 1000000u;
        if (now_ns() < line->resume_ns)
            return true;
        line->resume_ns = 0;
        return false;
    }
    *is_done = false;
    return false;
}

/* Copy the step at hand. */
static void read_step(struct line *line, size_t len, char *step, size_t step_bytes)
{
    char raw[512];
    const char *begin = line->next_step + strspn(line->next_step, " ");
    snprintf(raw, sizeof raw, "%.*s", (int)(line->next_step + len - begin), begin);
    if (line->seen[SEEN_REQUEST] == 0) {
        snprintf(step, step_bytes, "%s", raw);
        return;
    }
    expand(line, raw, step, step_bytes);
    line->is_upgraded |= strncmp(raw, "http ", 5) == 0 && strstr(raw, "$accept") != NULL;
}

static void run_script(struct line *line)
{
    while (line->fd >= 0 && line->next_step != NULL) {
        char step[512];
        size_t len = strcspn(line->next_step, ";");
        read_step(line, len, step, sizeof step);
        char *rest = step + strcspn(step, " ");
        if (*rest != '\0')
            *rest++ = '\0';
        bool is_done;
        if (waits(line, step, rest, &is_done))
            break;
        line->next_step = line->next_step[len] == ';' ? line->next_step + len + 1 : NULL;
        if (!is_done && step[0] != '\0')
            act(line, step, rest);
        if (line->fd >= 0 && !line->corked)
            flush(line);
    }
}

/* ---- From the client ---- */

static void answer_close(struct line *line, const uint8_t *payload, size_t len)
{
    if (!line->echoes)
        return;
    tell_frame(line, 8, payload, len);
    line->fin_when_sent = true;
}

static void on_message(struct line *line, uint8_t opcode, const uint8_t *payload, size_t len)
{
    line->peer->messages_count++;
    line->peer->messages_bytes += len;
    if (line->echoes) {
        tell_frame(line, opcode, payload, len);
        return;
    }
    enum seen seen = opcode == 1 ? SEEN_TEXT : SEEN_BINARY;
    if (line->sinks)
        line->seen[seen]++;
    else if (len <= PAYLOAD_LOGGED_MAX)
        note(line, seen, "%s %zu %.*s", seen_names[seen], len, (int)len, (const char *)payload);
    else
        note(line, seen, "%s %zu", seen_names[seen], len);
}

static void on_frame(struct line *line, uint8_t opcode, const uint8_t *payload, size_t len)
{
    if (opcode == 1 || opcode == 2) {
        on_message(line, opcode, payload, len);
    } else if (opcode == 8) {
        line->close_bytes = len < sizeof line->close ? len : sizeof line->close;
        memcpy(line->close, payload, line->close_bytes);
        if (len < 2)
            note(line, SEEN_CLOSE, "close");
        else
            note(line, SEEN_CLOSE, "close %u%s%.*s", (unsigned)(payload[0] << 8 | payload[1]), len > 2 ? " " : "",
                 (int)len - 2, (const char *)payload + 2);
        answer_close(line, payload, len);
    } else if (opcode == 9 || opcode == 10) {
        note(line, opcode == 9 ? SEEN_PING : SEEN_PONG, "%s %.*s", opcode == 9 ? "ping" : "pong", (int)len,
             (const char *)payload);
    } else {
        note(line, SEEN_COUNT, "opcode %u", opcode);
    }
}

/* Unmask and act on one frame. Returns its bytes, 0 when it is not there in full. */
static size_t take_frame(struct line *line, uint8_t *data, size_t bytes)
{
    if (bytes < 2)
        return 0;
    size_t digits = (data[1] & 0x7F) == 127 ? 8 : (data[1] & 0x7F) == 126 ? 2 : 0;
    uint64_t len = digits == 0 ? data[1] & 0x7F : 0;
    size_t head = 2 + digits + 4;
    if (bytes < head)
        return 0;
    for (size_t i = 0; i < digits; i++)
        len = len << 8 | data[2 + i];
    if (bytes - head < len)
        return 0;
    if (!(data[1] & 0x80) || (data[0] & 0xF0) != 0x80)
        note(line, SEEN_COUNT, "a frame that is not masked, final and plain");
    for (size_t i = 0; i < len; i++)
        data[head + i] ^= data[head - 4 + (i & 3)];
    on_frame(line, data[0] & 15, data + head, (size_t)len);
    return head + (size_t)len;
}

/* The script of the path that was asked for, if there is one. */
static void choose_route(struct line *line)
{
    const struct peer *peer = line->peer;
    const char *path = strchr(text_of(&line->request), ' ');
    for (size_t i = 0; path != NULL && i < peer->routes_count; i++) {
        const struct peer_route *route = &peer->routes[i];
        if (strlen(route->path) != strcspn(path + 1, "? ") || strncmp(path + 1, route->path, strlen(route->path)) != 0)
            continue;
        free(line->script);
        line->script = line->next_step = strdup(route->script);
        return;
    }
}

static void take_request(struct line *line)
{
    const char *begin = (const char *)line->in.data + line->in.first;
    const char *end = memmem(begin, line->in.end - line->in.first, "\r\n\r\n", 4);
    if (end == NULL)
        return;
    append(&line->request, begin, (size_t)(end - begin) + 4);
    line->in.first += (size_t)(end - begin) + 4;
    note(line, SEEN_REQUEST, "request %.*s", (int)strcspn(begin, "\r"), begin);
    choose_route(line);
}

static void digest(struct line *line)
{
    if (line->seen[SEEN_REQUEST] == 0 && line->in.first < line->in.end)
        take_request(line);
    size_t taken = 1;
    while (line->is_upgraded && taken > 0 && line->in.first < line->in.end) {
        taken = take_frame(line, line->in.data + line->in.first, line->in.end - line->in.first);
        line->in.first += taken;
    }
}

static void on_input(struct line *line)
{
    uint8_t *chunk = line->peer->chunk;
    ssize_t count = recv(line->fd, chunk, CHUNK_BYTES, 0);
    if (count > 0) {
        if (line->in.first > CHUNK_BYTES) {
            memmove(line->in.data, line->in.data + line->in.first, line->in.end - line->in.first);
            line->in.end -= line->in.first;
            line->in.first = 0;
        }
        append(&line->in, chunk, (size_t)count);
        digest(line);
    } else if (count == 0) {
        note(line, SEEN_FIN, "fin");
        line->stopped = true;
    } else if (errno != EAGAIN) {
        note(line, SEEN_FIN, "reset");
        give_up(line);
    }
}

/* ---- The thread ---- */

/* Has neither its 101 nor come to its end, which may wait in the socket unread. */
static bool is_opening(const struct line *line)
{
    struct pollfd fd = { .fd = line->fd, .events = POLLRDHUP };
    return line->fd >= 0 && !line->is_upgraded && (poll(&fd, 1, 0), fd.revents == 0);
}

static void count_opening(struct peer *peer)
{
    unsigned count = 0;
    for (unsigned i = 0; i < peer->lines_count; i++)
        count += is_opening(peer->lines[i]);
    if (count > peer->opening_max)
        peer->opening_max = count;
}

static void on_connection(struct peer *peer)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    socklen_t from_bytes = sizeof from;
    int fd = accept4(peer->listener, (struct sockaddr *)&from, &from_bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (peer->lines_count == LINES_MAX)
        die("too many connections");
    struct line *line = calloc(1, sizeof *line);
    if (line == NULL)
        die("no memory");
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    line->peer = peer;
    line->fd = fd;
    line->script = line->next_step = strdup(peer->script);
    inet_ntop(AF_INET, &from.sin_addr, line->from, sizeof line->from);
    peer->lines[peer->lines_count++] = line;
    count_opening(peer);
    run_script(line);
}

static bool takes_input(const struct line *line)
{
    return !line->stopped && line->out.end - line->out.first < OUT_RESTS_BYTES;
}

/* What to poll for, in the order of peer->lines behind the first two. Returns the time limit in ms. */
static int plan_poll(const struct peer *peer, struct pollfd *fds)
{
    uint64_t next_ns = UINT64_MAX;
    fds[0] = (struct pollfd){ .fd = peer->wake, .events = POLLIN };
    fds[1] = (struct pollfd){ .fd = peer->listener, .events = POLLIN };
    for (unsigned i = 0; i < peer->lines_count; i++) {
        const struct line *line = peer->lines[i];
        int events = takes_input(line) ? POLLIN : 0;
        if (line->out.first < line->out.end && !line->corked)
            events |= POLLOUT;
        /* Without a wish the descriptor is left out: an end that nobody wants to read would be told again and again. */
        fds[2 + i] = (struct pollfd){ .fd = events != 0 ? line->fd : -1, .events = (short)events };
        if (line->fd >= 0 && line->resume_ns != 0 && line->resume_ns < next_ns)
            next_ns = line->resume_ns;
    }
    uint64_t now = now_ns();
    return next_ns == UINT64_MAX ? -1 : next_ns <= now ? 0 : (int)((next_ns - now) / 1000000u) + 1;
}

static void serve(struct line *line, short events)
{
    if (line->fd >= 0 && (events & (POLLIN | POLLERR | POLLHUP)))
        on_input(line);
    if (line->fd >= 0)
        run_script(line);
    if (line->fd >= 0 && !line->corked)
        flush(line);
    if (line->fd >= 0 && line->fin_sent && line->seen[SEEN_FIN] > 0)
        give_up(line);
}

static void *run_peer(void *context)
{
    struct peer *peer = context;
    struct pollfd fds[2 + LINES_MAX];
    pthread_mutex_lock(&peer->lock);
    while (!peer->stopping) {
        int timeout_ms = plan_poll(peer, fds);
        unsigned count = peer->lines_count;
        pthread_mutex_unlock(&peer->lock);
        poll(fds, 2 + count, timeout_ms);
        pthread_mutex_lock(&peer->lock);
        eventfd_t ignored;
        if (fds[0].revents != 0)
            (void)!eventfd_read(peer->wake, &ignored);
        for (unsigned i = 0; i < count; i++)
            serve(peer->lines[i], fds[2 + i].revents);
        if (fds[1].revents != 0)
            on_connection(peer);
        pthread_cond_broadcast(&peer->changed);
    }
    pthread_mutex_unlock(&peer->lock);
    return NULL;
}

/* ---- For the tests ---- */

static int listen_somewhere(uint16_t *port, int backlog, int receive_buffer_bytes)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t bytes = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    if (receive_buffer_bytes > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    if (bind(fd, (struct sockaddr *)&at, bytes) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &bytes) != 0)
        die("listen");
    *port = ntohs(at.sin_port);
    return fd;
}

int peer_listen_unix(const char *path, int type, int backlog)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + (path[0] != '@'));
    memcpy(at.sun_path, path, strlen(path));
    if (path[0] == '@')
        at.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, bytes) != 0 || (type == SOCK_STREAM && listen(fd, backlog) != 0))
        die(path);
    return fd;
}

static struct peer *start(int listener, uint16_t port, const char *script)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        die("no memory");
    peer->listener = listener;
    peer->port = port;
    snprintf(peer->url, sizeof peer->url, "ws://127.0.0.1:%u/chat", peer->port);
    peer->script = strdup(script);
    peer->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&peer->lock, NULL);
    pthread_cond_init(&peer->changed, NULL);
    if (peer->wake < 0 || pthread_create(&peer->thread, NULL, run_peer, peer) != 0)
        die("thread");
    return peer;
}

struct peer *peer_start(const char *script, int receive_buffer_bytes)
{
    uint16_t port;
    int listener = listen_somewhere(&port, 256, receive_buffer_bytes);
    return start(listener, port, script);
}

struct peer *peer_start_unix(const char *script, const char *path)
{
    return start(peer_listen_unix(path, SOCK_STREAM, 256), 0, script);
}

static void wake(struct peer *peer)
{
    if (eventfd_write(peer->wake, 1) != 0)
        die("eventfd");
}

void peer_stop(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    peer->stopping = true;
    pthread_mutex_unlock(&peer->lock);
    wake(peer);
    pthread_join(peer->thread, NULL);
    for (unsigned i = 0; i < peer->lines_count; i++) {
        struct line *line = peer->lines[i];
        if (line->fd >= 0)
            close(line->fd);
        free(line->script);
        free(line->in.data);
        free(line->out.data);
        free(line->log.data);
        free(line->request.data);
        free(line);
    }
    close(peer->listener);
    close(peer->wake);
    pthread_mutex_destroy(&peer->lock);
    pthread_cond_destroy(&peer->changed);
    free(peer->script);
    free(peer);
}

const char *peer_url(const struct peer *peer)
{
    return peer->url;
}

uint16_t peer_port(const struct peer *peer)
{
    return peer->port;
}

void peer_script(struct peer *peer, const char *script)
{
    pthread_mutex_lock(&peer->lock);
    free(peer->script);
    peer->script = strdup(script);
    pthread_mutex_unlock(&peer->lock);
}

void peer_routes(struct peer *peer, const struct peer_route *routes, size_t count)
{
    pthread_mutex_lock(&peer->lock);
    peer->routes = routes;
    peer->routes_count = count;
    pthread_mutex_unlock(&peer->lock);
}

void peer_go(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    peer->gos++;
    pthread_mutex_unlock(&peer->lock);
    wake(peer);
}

unsigned peer_connections(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    unsigned count = peer->lines_count;
    pthread_mutex_unlock(&peer->lock);
    return count;
}

unsigned peer_opening_max(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    unsigned most = peer->opening_max;
    pthread_mutex_unlock(&peer->lock);
    return most;
}

static bool has_line(const struct peer *peer, unsigned index, const char *start)
{
    if (index >= peer->lines_count)
        return false;
    size_t len = strlen(start);
    const char *at = text_of(&peer->lines[index]->log);
    while (*at != '\0') {
        if (strncmp(at, start, len) == 0)
            return true;
        at += strcspn(at, "\n") + 1;
    }
    return false;
}

static bool has_log(const struct peer *peer, unsigned index, const char *lines)
{
    return index < peer->lines_count && strcmp(text_of(&peer->lines[index]->log), lines) == 0;
}

static bool has_messages(const struct peer *peer, uint64_t count)
{
    return peer->messages_count >= count;
}

/* Wait, under the lock, for the next change; false when the minute is over. */
static bool await_change(struct peer *peer, const struct timespec *limit)
{
    return pthread_cond_timedwait(&peer->changed, &peer->lock, limit) == 0;
}

static struct timespec in_a_minute(void)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += AWAIT_SECONDS;
    return limit;
}

/* The log as it is, for the message of a failed test. */
static void copy_log(struct peer *peer, unsigned index)
{
    snprintf(peer->text, sizeof peer->text, "%s",
             index < peer->lines_count ? text_of(&peer->lines[index]->log) : "(no such connection)");
}

void peer_await(struct peer *peer, unsigned index, const char *line_start)
{
    struct timespec limit = in_a_minute();
    pthread_mutex_lock(&peer->lock);
    while (!has_line(peer, index, line_start) && await_change(peer, &limit))
        ;
    bool found = has_line(peer, index, line_start);
    copy_log(peer, index);
    pthread_mutex_unlock(&peer->lock);
    if (!found)
        fail_msg("connection %u never saw \"%s\", but: %s", index, line_start, peer->text);
}

void peer_expect(struct peer *peer, unsigned index, const char *lines)
{
    struct timespec limit = in_a_minute();
    pthread_mutex_lock(&peer->lock);
    while (!has_log(peer, index, lines) && await_change(peer, &limit))
        ;
    copy_log(peer, index);
    pthread_mutex_unlock(&peer->lock);
    assert_string_equal(peer->text, lines);
}

bool peer_saw(struct peer *peer, unsigned index, const char *line_start)
{
    pthread_mutex_lock(&peer->lock);
    bool found = has_line(peer, index, line_start);
    pthread_mutex_unlock(&peer->lock);
    return found;
}

const char *peer_header(struct peer *peer, unsigned index, const char *name)
{
    pthread_mutex_lock(&peer->lock);
    peer->text[0] = '\0';
    if (index < peer->lines_count)
        find_header(peer->lines[index], name, peer->text, sizeof peer->text);
    pthread_mutex_unlock(&peer->lock);
    return peer->text;
}

const char *peer_from(struct peer *peer, unsigned index)
{
    pthread_mutex_lock(&peer->lock);
    snprintf(peer->text, sizeof peer->text, "%s", index < peer->lines_count ? peer->lines[index]->from : "");
    pthread_mutex_unlock(&peer->lock);
    return peer->text;
}

uint64_t peer_messages(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    uint64_t count = peer->messages_count;
    pthread_mutex_unlock(&peer->lock);
    return count;
}

uint64_t peer_bytes(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    uint64_t bytes = peer->messages_bytes;
    pthread_mutex_unlock(&peer->lock);
    return bytes;
}

void peer_await_messages(struct peer *peer, uint64_t count)
{
    struct timespec limit = in_a_minute();
    pthread_mutex_lock(&peer->lock);
    while (!has_messages(peer, count) && await_change(peer, &limit))
        ;
    uint64_t came = peer->messages_count;
    pthread_mutex_unlock(&peer->lock);
    assert_true(came >= count);
}

/* ---- Addresses that do not answer ---- */

void peer_stall_open(struct peer_stall *stall)
{
    uint16_t port;
    stall->fds[0] = listen_somewhere(&port, 0, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) }, .sin_port = htons(port) };
    /* They fill the queue of accept(), which nobody calls: from then on the kernel drops each SYN. */
    for (unsigned i = 1; i < 4; i++) {
        stall->fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (stall->fds[i] < 0)
            die("socket");
        (void)connect(stall->fds[i], (struct sockaddr *)&at, sizeof at);
    }
    snprintf(stall->address, sizeof stall->address, "127.0.0.1:%u", port);
}

void peer_stall_close(struct peer_stall *stall)
{
    for (unsigned i = 0; i < 4; i++)
        close(stall->fds[i]);
}

uint16_t peer_dead_port(void)
{
    uint16_t port;
    close(listen_somewhere(&port, 1, 0));
    return port;
}
