/* The driver's half of the simulation: operations, completions, buffers, time. */
#include "tests/support/sim.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/sim_ktls.h"
#include "tests/support/sim_tls.h"

#define FILES_MAX 256
#define SCRIPTS_MAX 256
#define DONE_MAX 16
#define WAKE_LOOKS_MAX 200000u         /* some ten seconds */
#define WAITS_WITHOUT_TIME_MAX 100000u
#define MUCH_TIME_NS 1000000000u       /* more than so many waits take by themselves */

enum op_kind { OP_CONNECT, OP_RECV, OP_SEND, OPS_COUNT };
enum op_state { OP_IDLE, OP_ARMED, OP_ENDED };
enum recv_way { RECV_MULTISHOT, RECV_INTO, RECV_MESSAGE };
enum buffer_state { BUFFER_NONE, BUFFER_HOME, BUFFER_OUT };

struct done {
    uint64_t due_ns;
    struct wsr_completion completion;
};

struct op {
    enum op_state state;
    uint64_t token;
    uint64_t start_ns;                 /* nothing happens before */
    uint64_t cancel_ns;                /* 0 = not cancelled; takes effect then at the latest */
    struct done done[DONE_MAX];        /* not reaped yet, oldest first */
    unsigned done_count;
};

struct file {
    bool is_open, connected, shut;
    struct sim_peer *peer;
    struct op ops[OPS_COUNT];
    const struct sockaddr *address;    /* of the connect, and what it was */
    socklen_t address_bytes;
    struct sockaddr_storage address_copy;
    struct iovec parts[WSR_DRIVER_PARTS_MAX];   /* of the send, and what they held */
    size_t parts_count;
    uint8_t *copy;
    size_t copy_bytes;
    uint8_t send_type;                 /* of its record, with keys */
    enum recv_way recv_way;
    uint8_t *into;                     /* RECV_INTO */
    size_t into_bytes;
    struct msghdr *message;            /* RECV_MESSAGE */
    struct sim_ktls ktls;
};

struct sim {
    struct wsr_driver driver;
    uint64_t seed, random, now_ns;
    char *scripts[SCRIPTS_MAX];
    unsigned scripts_count, connections_count;
    struct sim_peer *peers[SCRIPTS_MAX];
    struct file files[FILES_MAX];
    uint8_t *base;
    uint32_t buffer_bytes, buffers_count;
    enum buffer_state *buffers;
    uint16_t *homes;                   /* free ones, first in first out */
    uint32_t home_first, home_count;
    unsigned refused_opens;
    int refused_errno, broken_errno;
    unsigned refused_options;
    int refused_level, refused_name, refused_option_errno;
    bool carries_records, renews_keys;
    bool speaks_tls;
    struct tls_server *server;         /* NULL = as the seed decides */
    struct wsr_driver_setup last_setup;
    struct wsr_driver_counts counts;
    struct sim_counts seen;
    unsigned idle_waits, files_used;
    uint64_t spin_ns;                  /* step of the clock while the engine spins */
    uint64_t idle_since_ns;            /* idle_waits are counted from here */
    bool destroyed, threaded;
    _Atomic bool woken;                /* wake() to wait() */
};

static struct sim *sim_of(struct wsr_driver *driver)
{
    return wsr_container_of(driver, struct sim, driver);
}

/* An assertion of the engine ends the process: say at least with which seed. */
static volatile sig_atomic_t aborting_seed;

static void on_abort(int number)
{
    char text[32] = "sim: seed ";
    size_t len = 10, digits = 1;
    for (unsigned long scale = 10; (unsigned long)aborting_seed / scale > 0; scale *= 10)
        digits++;
    for (size_t i = digits, left = (size_t)aborting_seed; i-- > 0; left /= 10)
        text[len + i] = (char)('0' + left % 10);
    text[len + digits] = '\n';
    if (write(2, text, len + digits + 1) < 0)
        _exit(2);
    signal(number, SIG_DFL);
    raise(number);
}

void sim_fail(const struct sim *sim, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    print_error("seed %llu: %s\n", (unsigned long long)sim->seed, text);
    if (!sim->threaded)
        fail();
    abort();
}

uint64_t sim_random(struct sim *sim, uint64_t bound)
{
    sim->random += 0x9E3779B97F4A7C15u;
    uint64_t mixed = (sim->random ^ (sim->random >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return (mixed ^ (mixed >> 31)) % bound;
}

/* ---- Files ---- */

static struct file *file_at(struct sim *sim, wsr_file index, const char *what)
{
    if (sim->destroyed)
        sim_fail(sim, "%s on a destroyed driver", what);
    if (index < 0 || index >= FILES_MAX || !sim->files[index].is_open)
        sim_fail(sim, "%s on file %d, which is not open", what, index);
    return &sim->files[index];
}

static wsr_file open_file(struct wsr_driver *driver, const struct wsr_driver_setup *setup)
{
    struct sim *sim = sim_of(driver);
    sim->last_setup = *setup;
    if (sim->refused_opens > 0) {
        sim->refused_opens--;
        return -sim->refused_errno;
    }
    /* The lowest free one, as descriptors are: a late completion of the old life meets the new one. */
    for (wsr_file index = 0; index < FILES_MAX; index++) {
        struct file *file = &sim->files[index];
        if (!file->is_open) {
            *file = (struct file){ .is_open = true, .ktls.renews = sim->renews_keys };
            if ((unsigned)index >= sim->files_used)
                sim->files_used = (unsigned)index + 1;
            return index;
        }
    }
    return -EMFILE;
}

static wsr_file listen_file(struct wsr_driver *driver, const struct sockaddr *address, socklen_t address_bytes,
                            int backlog, uint16_t *port)
{
    (void)address, (void)address_bytes, (void)backlog, (void)port;
    sim_fail(sim_of(driver), "a client listens");
}

static void accept_file(struct wsr_driver *driver, wsr_file file, uint64_t token)
{
    (void)file, (void)token;
    sim_fail(sim_of(driver), "a client accepts");
}

static void close_file(struct wsr_driver *driver, wsr_file index)
{
    struct sim *sim = sim_of(driver);
    struct file *file = file_at(sim, index, "close");
    for (unsigned kind = 0; kind < OPS_COUNT; kind++) {
        if (file->ops[kind].state != OP_IDLE)
            sim_fail(sim, "close of file %d with operation %u in flight", index, kind);
    }
    file->is_open = false;
    sim_ktls_free(&file->ktls);
    if (file->peer != NULL && file->connected)
        sim_peer_client_closed(file->peer);
    file->peer = NULL;
}

static int shutdown_file(struct wsr_driver *driver, wsr_file index)
{
    struct sim *sim = sim_of(driver);
    struct file *file = file_at(sim, index, "shutdown");
    if (!file->connected || sim_peer_is_reset(file->peer))
        return -ENOTCONN;
    if (file->ops[OP_SEND].state == OP_ARMED)
        sim_fail(sim, "shutdown of file %d with a send in flight", index);
    if (!file->shut)
        sim_peer_client_shut(file->peer);
    file->shut = true;
    return 0;
}

static int set_option(struct wsr_driver *driver, wsr_file index, int level, int name, const void *value,
                      socklen_t bytes)
{
    struct sim *sim = sim_of(driver);
    struct file *file = file_at(sim, index, "set_option");
    struct sim_ktls_key out = file->ktls.out, in = file->ktls.in;
    if (sim->refused_options > 0 && sim->refused_level == level && sim->refused_name == name) {
        sim->refused_options--;
        return -sim->refused_option_errno;
    }
    bool is_established = file->connected && !sim_peer_is_reset(file->peer) && !sim_peer_has_ended(file->peer);
    if (level == IPPROTO_TCP && name == TCP_ULP && !is_established)
        return -ENOTCONN;
    if (sim_random(sim, 4) == 0)
        return -EAGAIN;
    int rc = sim_ktls_set(&file->ktls, level, name, value, bytes, &file->peer->options);
    if (!out.is_set && file->ktls.out.is_set && file->ops[OP_SEND].state != OP_IDLE)
        sim_fail(sim, "keys for sending on file %d, which is sending", index);
    if (!in.is_set && file->ktls.in.is_set && file->ops[OP_RECV].state != OP_IDLE)
        sim_fail(sim, "keys for receiving on file %d, which is receiving", index);
    return rc;
}

/* ---- Operations ---- */

static struct op *arm(struct sim *sim, struct file *file, enum op_kind kind, uint64_t token)
{
    struct op *op = &file->ops[kind];
    if (op->state != OP_IDLE)
        sim_fail(sim, "operation %u is submitted twice on one file", (unsigned)kind);
    op->state = OP_ARMED;
    op->token = token;
    op->start_ns = sim->now_ns + sim_random(sim, 30000);
    op->cancel_ns = 0;
    sim->counts.submitted++;
    return op;
}

static void end_one(struct sim *sim, struct op *op, int32_t result, uint16_t flags, uint16_t buffer)
{
    uint64_t due = sim->now_ns + sim_random(sim, 20000);
    if (op->done_count > 0 && due < op->done[op->done_count - 1].due_ns)
        due = op->done[op->done_count - 1].due_ns;
    op->done[op->done_count++] =
        (struct done){ due, { .token = op->token, .result = result, .flags = flags, .buffer = buffer } };
    if (!(flags & WSR_COMPLETION_MORE))
        op->state = OP_ENDED;
}

static void connect_file(struct wsr_driver *driver, wsr_file index, const struct sockaddr *address,
                         socklen_t address_bytes, uint64_t token)
{
    struct sim *sim = sim_of(driver);
    struct file *file = file_at(sim, index, "connect");
    if (file->peer != NULL)
        sim_fail(sim, "file %d is connected twice", index);
    if (sim->connections_count >= SCRIPTS_MAX || sim->scripts_count == 0)
        sim_fail(sim, "a connection without a script");
    arm(sim, file, OP_CONNECT, token);
    file->address = address;
    file->address_bytes = address_bytes;
    memcpy(&file->address_copy, address, address_bytes);
    unsigned connection = sim->connections_count++;
    unsigned script = connection < sim->scripts_count ? connection : sim->scripts_count - 1;
    struct tls_server *server = sim->server;
    if (sim->speaks_tls && server == NULL)
        server = sim_tls_server((unsigned)sim_random(sim, SIM_TLS_SERVERS_COUNT - sim->carries_records));
    sim->peers[connection] = sim_peer_create(sim, sim->scripts[script], server, sim->server == NULL);
    file->peer = sim->peers[connection];
    sim_peer_run(file->peer);
}

static struct file *begin_recv(struct sim *sim, wsr_file index, enum recv_way way, uint64_t token)
{
    struct file *file = file_at(sim, index, "recv");
    if (!file->connected)
        sim_fail(sim, "recv on file %d, which is not connected", index);
    arm(sim, file, OP_RECV, token);
    file->recv_way = way;
    return file;
}

static void recv_file(struct wsr_driver *driver, wsr_file index, uint64_t token)
{
    begin_recv(sim_of(driver), index, RECV_MULTISHOT, token);
}

static void recv_into_file(struct wsr_driver *driver, wsr_file index, void *to, size_t len, uint64_t token)
{
    struct file *file = begin_recv(sim_of(driver), index, RECV_INTO, token);
    if (len == 0)
        sim_fail(sim_of(driver), "recv_into of no bytes");
    sim_of(driver)->seen.own_receives++;
    file->into = to;
    file->into_bytes = len;
}

static void recv_message(struct wsr_driver *driver, wsr_file index, struct msghdr *message, uint64_t token)
{
    struct file *file = begin_recv(sim_of(driver), index, RECV_MESSAGE, token);
    if (message->msg_iovlen != 1 || message->msg_iov[0].iov_len == 0)
        sim_fail(sim_of(driver), "recv_message with other than one part");
    file->message = message;
    file->into = message->msg_iov[0].iov_base;
    file->into_bytes = message->msg_iov[0].iov_len;
}

static void begin_send(struct sim *sim, wsr_file index, const struct iovec *parts, size_t parts_count, uint8_t type,
                       uint64_t token)
{
    struct file *file = file_at(sim, index, "send");
    if (!file->connected || file->shut)
        sim_fail(sim, "send on file %d, which is %s", index, file->shut ? "shut down" : "not connected");
    if (parts_count == 0 || parts_count > WSR_DRIVER_PARTS_MAX)
        sim_fail(sim, "send of %zu parts", parts_count);
    arm(sim, file, OP_SEND, token);
    file->send_type = type;
    sim->seen.sends++;
    memcpy(file->parts, parts, parts_count * sizeof *parts);
    file->parts_count = parts_count;
    file->copy_bytes = 0;
    for (size_t i = 0; i < parts_count; i++)
        file->copy_bytes += parts[i].iov_len;
    if (file->copy_bytes == 0)
        sim_fail(sim, "send of no bytes");
    file->copy = malloc(file->copy_bytes);
    if (file->copy == NULL)
        abort();
    for (size_t i = 0, at = 0; i < parts_count; at += parts[i++].iov_len)
        memcpy(file->copy + at, parts[i].iov_base, parts[i].iov_len);
}

/* Which has MSG_WAITALL. */
static void send_file(struct wsr_driver *driver, wsr_file index, const struct iovec *parts, size_t parts_count,
                      uint64_t token)
{
    struct sim *sim = sim_of(driver);
    if (file_at(sim, index, "send")->ktls.out.is_set)
        sim_fail(sim, "send on file %d, for which the kernel seals: EOPNOTSUPP", index);
    begin_send(sim, index, parts, parts_count, SIM_TLS_DATA, token);
}

static void send_sealed(struct wsr_driver *driver, wsr_file index, const struct iovec *parts, size_t parts_count,
                        uint64_t token)
{
    begin_send(sim_of(driver), index, parts, parts_count, SIM_TLS_DATA, token);
}

static void send_message(struct wsr_driver *driver, wsr_file index, const struct msghdr *message, uint64_t token)
{
    uint8_t type = sim_ktls_type_said(message);
    if (type == 0)
        sim_fail(sim_of(driver), "send_message with other control data than a type of records");
    begin_send(sim_of(driver), index, message->msg_iov, message->msg_iovlen, type, token);
}

/* With every other seed, some sends are done at once. */
static ssize_t send_now(struct wsr_driver *driver, wsr_file index, const struct iovec *parts, size_t parts_count)
{
    struct sim *sim = sim_of(driver);
    struct file *file = file_at(sim, index, "send_now");
    if (!file->connected || file->shut || file->ops[OP_SEND].state != OP_IDLE)
        sim_fail(sim, "send_now on file %d, which is shut down, not connected or sending", index);
    if (sim->seed % 2 == 0 || sim_random(sim, 3) == 0)
        return -EAGAIN;
    size_t window = sim_peer_window(file->peer), bytes = 0;
    if (sim_peer_is_reset(file->peer)) {
        sim->seen.sends++;
        sim->seen.short_sends++;
        return sim_random(sim, 2) == 0 ? -EPIPE : -ECONNRESET;
    }
    if (window == 0)
        return -EAGAIN;
    if (file->ktls.is_dead)
        return -EBADMSG;
    for (size_t i = 0; i < parts_count; i++)
        bytes += parts[i].iov_len;
    size_t len = window < bytes ? window : bytes;
    if (sim_random(sim, 3) == 0)
        len = 1 + sim_random(sim, len);
    sim->seen.sends++;
    sim->seen.short_sends += len < bytes;
    for (size_t i = 0, left = len; left > 0; i++) {
        size_t here = parts[i].iov_len < left ? parts[i].iov_len : left;
        sim_ktls_send(&file->ktls, file->peer, SIM_TLS_DATA, parts[i].iov_base, here);
        left -= here;
    }
    return (ssize_t)len;
}

static void cancel_op(struct wsr_driver *driver, uint64_t token)
{
    struct sim *sim = sim_of(driver);
    for (unsigned index = 0; index < sim->files_used; index++) {
        for (unsigned kind = 0; kind < OPS_COUNT; kind++) {
            struct op *op = &sim->files[index].ops[kind];
            if (op->state == OP_ARMED && op->token == token && op->cancel_ns == 0)
                op->cancel_ns = sim->now_ns + 1 + (sim_random(sim, 2) == 0 ? 0 : sim_random(sim, 5000000));
        }
    }
}

/* ---- Buffers ---- */

static int provide_sim(struct wsr_driver *driver, uint8_t *base, uint32_t bytes, uint32_t count)
{
    struct sim *sim = sim_of(driver);
    if (sim->buffers != NULL || count == 0 || (count & (count - 1)) != 0)
        sim_fail(sim, "buffers are provided twice, or are not a power of two");
    sim->base = base;
    sim->buffer_bytes = bytes;
    sim->buffers_count = count;
    sim->buffers = calloc(count, sizeof *sim->buffers);
    sim->homes = calloc(count, sizeof *sim->homes);
    if (sim->buffers == NULL || sim->homes == NULL)
        abort();
    for (uint32_t i = 0; i < count; i++) {
        sim->buffers[i] = BUFFER_HOME;
        sim->homes[i] = (uint16_t)i;
    }
    sim->home_count = count;
    return 0;
}

static void give_sim(struct wsr_driver *driver, uint16_t index)
{
    struct sim *sim = sim_of(driver);
    if (sim->destroyed || index >= sim->buffers_count || sim->buffers[index] != BUFFER_OUT)
        sim_fail(sim, "buffer %u is given back twice, or never was out", (unsigned)index);
    sim->buffers[index] = BUFFER_HOME;
    sim->homes[(sim->home_first + sim->home_count++) % sim->buffers_count] = index;
    /* Whoever still reads it reads this. */
    memset(sim->base + (size_t)index * sim->buffer_bytes, 0xEE, sim->buffer_bytes);
}

uint16_t sim_take_any_buffer(struct sim *sim)
{
    if (sim->home_count == 0)
        sim_fail(sim, "no buffer is in the kernel's hands");
    uint16_t index = sim->homes[sim->home_first];
    sim->home_first = (sim->home_first + 1) % sim->buffers_count;
    sim->home_count--;
    sim->buffers[index] = BUFFER_OUT;
    return index;
}

void sim_take_buffer(struct sim *sim, uint16_t index)
{
    if (sim->buffers[index] != BUFFER_HOME)
        sim_fail(sim, "buffer %u is not in the kernel's hands", (unsigned)index);
    for (uint16_t taken; (taken = sim_take_any_buffer(sim)) != index;)
        give_sim(&sim->driver, taken);
}

/* ---- What the kernel does by itself ---- */

static bool is_cancelled(const struct sim *sim, const struct op *op)
{
    return op->cancel_ns != 0 && op->cancel_ns <= sim->now_ns;
}

static void pump_connect(struct sim *sim, struct file *file)
{
    struct op *op = &file->ops[OP_CONNECT];
    if (op->state != OP_ARMED)
        return;
    if (memcmp(&file->address_copy, file->address, file->address_bytes) != 0)
        sim_fail(sim, "the address of a connect was changed while in flight");
    if (file->peer->answered && file->peer->answer_ns <= sim->now_ns) {
        file->connected = file->peer->answer == 0;
        end_one(sim, op, file->peer->answer, 0, 0);
    } else if (is_cancelled(sim, op)) {
        end_one(sim, op, -ECANCELED, 0, 0);
    }
}

/* Bytes that can be received now, at *from; or -errno. @type is that of their record when the kernel opens them. */
static ssize_t look_in(struct file *file, const uint8_t **from, uint8_t *type)
{
    size_t arrived = sim_peer_arrived(file->peer);
    ssize_t bytes = 0;
    *type = SIM_TLS_DATA;
    *from = file->peer->out.data + file->peer->taken;
    if (!file->ktls.in.is_set)
        return (ssize_t)arrived;
    do {
        bytes = sim_ktls_look(&file->ktls, file->peer, arrived, from, type);
    } while (bytes == 0 && *type == SIM_TLS_DATA && (arrived = sim_peer_arrived(file->peer)) > 0);
    return bytes >= 0 && *type != SIM_TLS_DATA && file->recv_way != RECV_MESSAGE ? -EIO : bytes;
}

/* Put bytes that have arrived into the memory that the receive brought along. */
static void fill_own(struct sim *sim, struct file *file, const uint8_t *from, size_t arrived, uint8_t type)
{
    size_t len = arrived < file->into_bytes ? arrived : file->into_bytes;
    memcpy(file->into, from, len);
    if (file->recv_way == RECV_MESSAGE && file->ktls.in.is_set)
        sim_ktls_tell_type(file->message, type, len == arrived);
    sim_ktls_take(&file->ktls, file->peer, len);
    end_one(sim, &file->ops[OP_RECV], (int32_t)len, 0, 0);
}

/* Put bytes that have arrived into a buffer. Returns false when there is none. */
static bool fill_buffer(struct sim *sim, struct file *file, const uint8_t *from, size_t arrived)
{
    struct op *op = &file->ops[OP_RECV];
    if (sim->home_count == 0) {
        end_one(sim, op, -ENOBUFS, 0, 0);
        sim->seen.buffers_exhausted++;
        return false;
    }
    uint16_t index = sim_take_any_buffer(sim);
    uint8_t *buffer = sim->base + (size_t)index * sim->buffer_bytes;
    size_t len = arrived < sim->buffer_bytes ? arrived : sim->buffer_bytes;
    memcpy(buffer, from, len);
    sim_ktls_take(&file->ktls, file->peer, len);
    /* Data of the records behind it comes along, as far as it is there. */
    len += sim_ktls_more(&file->ktls, buffer + len, sim->buffer_bytes - len);
    bool more = sim_random(sim, 16) != 0;
    end_one(sim, op, (int32_t)len, (uint16_t)(WSR_COMPLETION_BUFFER | (more ? WSR_COMPLETION_MORE : 0)), index);
    return more;
}

static void pump_recv(struct sim *sim, struct file *file)
{
    struct op *op = &file->ops[OP_RECV];
    while (op->state == OP_ARMED && op->start_ns <= sim->now_ns && op->done_count < DONE_MAX) {
        if (is_cancelled(sim, op) && sim_random(sim, 2) == 0) {
            end_one(sim, op, -ECANCELED, 0, 0);
            return;
        }
        const uint8_t *from;
        uint8_t type;
        ssize_t arrived = look_in(file, &from, &type);
        if (arrived < 0) {
            end_one(sim, op, (int32_t)arrived, 0, 0);
        } else if (file->recv_way != RECV_MULTISHOT && (arrived > 0 || type != SIM_TLS_DATA)) {
            fill_own(sim, file, from, (size_t)arrived, type);
        } else if (arrived > 0) {
            if (!fill_buffer(sim, file, from, (size_t)arrived))
                return;
        } else if (sim_peer_is_reset(file->peer)) {
            end_one(sim, op, -file->peer->reset_errno, 0, 0);
        } else if (sim_peer_has_ended(file->peer)) {
            end_one(sim, op, 0, 0, 0);
        } else if (is_cancelled(sim, op)) {
            end_one(sim, op, -ECANCELED, 0, 0);
        } else {
            return;
        }
    }
}

static void finish_send(struct sim *sim, struct file *file, int32_t result)
{
    for (size_t i = 0, at = 0; i < file->parts_count; at += file->parts[i++].iov_len) {
        if (memcmp(file->copy + at, file->parts[i].iov_base, file->parts[i].iov_len) != 0)
            sim_fail(sim, "the memory of a send was changed while in flight");
    }
    uint8_t *copy = file->copy;
    file->copy = NULL;
    sim->seen.short_sends += result < 0 || (size_t)result < file->copy_bytes;
    end_one(sim, &file->ops[OP_SEND], result, 0, 0);
    if (result > 0)
        sim_ktls_send(&file->ktls, file->peer, file->send_type, copy, (size_t)result);
    free(copy);
}

static void pump_send(struct sim *sim, struct file *file)
{
    struct op *op = &file->ops[OP_SEND];
    if (op->state != OP_ARMED || op->start_ns > sim->now_ns)
        return;
    if (is_cancelled(sim, op) && sim_random(sim, 2) == 0) {
        finish_send(sim, file, -ECANCELED);
        return;
    }
    size_t window = sim_peer_window(file->peer);
    if (file->ktls.is_dead) {
        finish_send(sim, file, -EBADMSG);
    } else if (sim_peer_is_reset(file->peer)) {
        finish_send(sim, file, sim_random(sim, 2) == 0 ? -EPIPE : -ECONNRESET);
    } else if (window > 0) {
        bool is_data = file->send_type == SIM_TLS_DATA;      /* else it goes as one record */
        size_t len = is_data && window < file->copy_bytes ? window : file->copy_bytes;
        if (sim_random(sim, 3) == 0 && is_data)
            len = 1 + sim_random(sim, len);
        finish_send(sim, file, (int32_t)len);
    } else if (is_cancelled(sim, op)) {
        finish_send(sim, file, -ECANCELED);
    }
}

static void pump(struct sim *sim)
{
    for (unsigned i = 0; i < sim->connections_count; i++)
        sim_peer_run(sim->peers[i]);
    for (unsigned i = 0; i < sim->files_used; i++) {
        struct file *file = &sim->files[i];
        if (!file->is_open || file->peer == NULL)
            continue;
        pump_connect(sim, file);
        if (!file->connected)
            continue;
        pump_recv(sim, file);
        pump_send(sim, file);
    }
}

/* Take one completion that is due, of an operation that the seed picks. */
static bool reap_one(struct sim *sim, struct wsr_completion *out)
{
    struct op *picked = NULL;
    unsigned due_count = 0;
    for (unsigned i = 0; i < sim->files_used; i++) {
        for (unsigned kind = 0; sim->files[i].is_open && kind < OPS_COUNT; kind++) {
            struct op *op = &sim->files[i].ops[kind];
            if (op->done_count > 0 && op->done[0].due_ns <= sim->now_ns && sim_random(sim, ++due_count) == 0)
                picked = op;
        }
    }
    if (picked == NULL)
        return false;
    *out = picked->done[0].completion;
    memmove(picked->done, picked->done + 1, --picked->done_count * sizeof *picked->done);
    if (!(out->flags & WSR_COMPLETION_MORE))
        picked->state = OP_IDLE;
    return true;
}

static uint64_t sooner(const struct sim *sim, uint64_t best, uint64_t moment)
{
    return moment > sim->now_ns && moment < best ? moment : best;
}

static uint64_t next_moment(const struct sim *sim)
{
    uint64_t next = WSR_NEVER;
    for (unsigned i = 0; i < sim->files_used; i++) {
        const struct file *file = &sim->files[i];
        if (!file->is_open)
            continue;
        for (unsigned kind = 0; kind < OPS_COUNT; kind++) {
            const struct op *op = &file->ops[kind];
            if (op->done_count > 0)
                next = sooner(sim, next, op->done[0].due_ns);
            if (op->state == OP_ARMED) {
                next = sooner(sim, next, op->start_ns);
                next = sooner(sim, next, op->cancel_ns);
            }
        }
    }
    for (unsigned i = 0; i < sim->connections_count; i++)
        next = sooner(sim, next, sim_peer_next(sim->peers[i]));
    return next;
}

/* In real time, for the thread of a worker. */
static void await_wake(struct sim *sim)
{
    /* Pairs with the store in wake_sim(). */
    for (unsigned i = 0; !atomic_load_explicit(&sim->woken, memory_order_acquire); i++) {
        if (i > WAKE_LOOKS_MAX)
            sim_fail(sim, "the worker sleeps and nobody wakes it");
        usleep(20);
    }
}

void sim_set_threaded(struct sim *sim)
{
    sim->threaded = true;
}

static int wait_sim(struct wsr_driver *driver, struct wsr_completion *out, unsigned out_count, uint64_t deadline_ns)
{
    struct sim *sim = sim_of(driver);
    unsigned count = 0;
    if (sim->destroyed || out_count == 0)
        sim_fail(sim, "wait on a destroyed driver, or for nothing");
    sim->counts.enters++;
    sim->seen.waits++;
    sim->spin_ns = 0;
    sim->now_ns += 1 + sim_random(sim, 2000);
    if (sim->broken_errno != 0)
        return -sim->broken_errno;
    for (;;) {
        pump(sim);
        unsigned some = 1 + (unsigned)sim_random(sim, out_count < 8 ? out_count : 8);
        while (count < some && reap_one(sim, &out[count]))
            count++;
        sim->seen.completions += count;
        /* Pairs with the store in wake_sim(). */
        bool woken = atomic_exchange_explicit(&sim->woken, false, memory_order_acquire);
        if (count > 0 || woken || deadline_ns <= sim->now_ns || sim_random(sim, 64) == 0)
            break;
        uint64_t next = next_moment(sim);
        if (next == WSR_NEVER && deadline_ns == WSR_NEVER && sim->threaded) {
            await_wake(sim);
            continue;
        }
        if (next == WSR_NEVER && deadline_ns == WSR_NEVER)
            sim_fail(sim, "the engine waits without end, and nothing will come");
        sim->now_ns = next < deadline_ns ? next : deadline_ns;
        sim->idle_waits = 0;
    }
    /* An engine that spins lets time pass outside of here. */
    if (sim->now_ns - sim->idle_since_ns > MUCH_TIME_NS) {
        sim->idle_since_ns = sim->now_ns;
        sim->idle_waits = 0;
    }
    if (++sim->idle_waits > WAITS_WITHOUT_TIME_MAX)
        sim_fail(sim, "the engine turns without end while no time passes");
    return (int)count;
}

void sim_pass(struct sim *sim, uint64_t ns)
{
    uint64_t until_ns = sim->now_ns + ns;
    for (;;) {
        pump(sim);
        uint64_t next = next_moment(sim);
        if (next >= until_ns)
            break;
        sim->now_ns = next;
    }
    sim->now_ns = until_ns;
    pump(sim);
}

static bool ready_sim(struct wsr_driver *driver)
{
    struct sim *sim = sim_of(driver);
    for (unsigned i = 0; i < sim->files_used; i++) {
        for (unsigned kind = 0; sim->files[i].is_open && kind < OPS_COUNT; kind++) {
            const struct op *op = &sim->files[i].ops[kind];
            if (op->done_count > 0 && op->done[0].due_ns <= sim->now_ns)
                return true;
        }
    }
    /* A spinning engine asks again and again; the world has to go on meanwhile. Long waits go in longer and longer
     * steps. */
    uint64_t next = next_moment(sim);
    if (sim->spin_ns < 1000000)
        sim->spin_ns = sim->spin_ns * 2 + 100;
    sim->now_ns = next - sim->now_ns < sim->spin_ns ? next : sim->now_ns + sim->spin_ns;
    pump(sim);
    return false;
}

static void wake_sim(struct wsr_driver *driver)
{
    /* Pairs with the exchange in wait_sim(). */
    atomic_store_explicit(&sim_of(driver)->woken, true, memory_order_release);
}

/* ---- The rest ---- */

static int descriptor_sim(struct wsr_driver *driver)
{
    (void)driver;
    return -1;
}

static uint64_t now_of_driver(struct wsr_driver *driver)
{
    return sim_of(driver)->now_ns;
}

static const char *features_sim(struct wsr_driver *driver)
{
    (void)driver;
    return "virtual-clock";
}

static struct wsr_driver_counts counts_sim(struct wsr_driver *driver)
{
    return sim_of(driver)->counts;
}

static void destroy_sim(struct wsr_driver *driver)
{
    struct sim *sim = sim_of(driver);
    if (sim->destroyed)
        sim_fail(sim, "the driver is destroyed twice");
    for (unsigned i = 0; i < sim->files_used && sim->broken_errno == 0; i++) {
        if (sim->files[i].is_open)
            sim_fail(sim, "the driver is destroyed with file %u open", i);
    }
    for (unsigned i = 0; i < sim->files_used; i++) {
        free(sim->files[i].copy);
        sim_ktls_free(&sim->files[i].ktls);
    }
    sim->destroyed = true;
}

static const struct wsr_driver_ops operations = {
    .name = "simulated", .open = open_file, .listen = listen_file, .close = close_file, .shutdown = shutdown_file,
    .set_option = set_option,
    .connect = connect_file, .accept = accept_file, .recv = recv_file, .recv_into = recv_into_file, .send = send_file,
    .send_sealed = send_sealed, .send_message = send_message, .recv_message = recv_message,
    .send_now = send_now, .cancel = cancel_op, .provide = provide_sim, .give = give_sim, .wait = wait_sim,
    .ready = ready_sim, .wake = wake_sim, .descriptor = descriptor_sim, .now = now_of_driver,
    .features = features_sim, .counts = counts_sim, .destroy = destroy_sim,
};

struct sim *sim_create(uint64_t seed)
{
    struct sim *sim = calloc(1, sizeof *sim);
    if (sim == NULL)
        abort();
    sim->driver.ops = &operations;
    sim->seed = seed;
    sim->random = seed * 0xD1342543DE82EF95u + 1;
    sim->now_ns = 1000000000000 + sim_random(sim, 1000000000);
    aborting_seed = (sig_atomic_t)seed;
    signal(SIGABRT, on_abort);
    return sim;
}

void sim_free(struct sim *sim)
{
    if (!sim->destroyed)
        sim_fail(sim, "the driver was not destroyed");
    for (unsigned i = 0; i < sim->connections_count; i++)
        sim_peer_free(sim->peers[i]);
    for (unsigned i = 0; i < sim->scripts_count; i++)
        free(sim->scripts[i]);
    free(sim->buffers);
    free(sim->homes);
    free(sim);
}

struct wsr_driver *sim_driver(struct sim *sim)
{
    return &sim->driver;
}

void sim_script(struct sim *sim, const char *steps)
{
    if (sim->scripts_count == SCRIPTS_MAX)
        sim_fail(sim, "too many scripts");
    sim->scripts[sim->scripts_count++] = strdup(steps);
}

void sim_speak_tls(struct sim *sim, struct tls_server *server)
{
    sim->speaks_tls = true;
    sim->server = server;
    sim_tls_seed(sim->seed);
}

static const struct sim_peer *peer_at(const struct sim *sim, unsigned index)
{
    if (index >= sim->connections_count)
        sim_fail(sim, "there is no connection %u", index);
    return sim->peers[index];
}

const char *sim_log(const struct sim *sim, unsigned index)
{
    return (const char *)peer_at(sim, index)->log.data;
}

const struct tls_server_link *sim_tls_link(const struct sim *sim, unsigned index)
{
    return peer_at(sim, index)->link;
}

const char *sim_request(const struct sim *sim, unsigned index)
{
    const struct sim_peer *peer = peer_at(sim, index);
    return (const char *)peer->in.data + peer->request_at;
}

const char *sim_said(const struct sim *sim, unsigned index)
{
    return (const char *)peer_at(sim, index)->said.data;
}

uint64_t sim_wire_taken(const struct sim *sim, unsigned index)
{
    return peer_at(sim, index)->wire_bytes;
}

uint64_t sim_wire_received(const struct sim *sim, unsigned index)
{
    return peer_at(sim, index)->taken;
}

const uint32_t *sim_masks(const struct sim *sim, unsigned index, size_t *count)
{
    const struct sim_peer *peer = peer_at(sim, index);
    *count = peer->masks_count;
    return peer->masks;
}

unsigned sim_connections(const struct sim *sim)
{
    return sim->connections_count;
}

uint64_t sim_logged_ns(const struct sim *sim, unsigned index, const char *start)
{
    const struct sim_peer *peer = peer_at(sim, index);
    for (size_t i = 0; i < peer->lines_count; i++) {
        if (strncmp((const char *)peer->log.data + peer->lines[i].at, start, strlen(start)) == 0)
            return peer->lines[i].when_ns;
    }
    return 0;
}

struct sim_counts sim_counts(const struct sim *sim)
{
    return sim->seen;
}

void sim_refuse_open(struct sim *sim, unsigned count, int system_errno)
{
    sim->refused_opens = count;
    sim->refused_errno = system_errno;
}

void sim_refuse_option(struct sim *sim, int level, int name, unsigned count, int system_errno)
{
    sim->refused_level = level;
    sim->refused_name = name;
    sim->refused_options = count;
    sim->refused_option_errno = system_errno;
}

void sim_carry_records(struct sim *sim, bool renews)
{
    sim->carries_records = true;
    sim->renews_keys = renews;
}

const char *sim_options(const struct sim *sim, unsigned index)
{
    const struct sim_buffer *options = &peer_at(sim, index)->options;
    return options->bytes > 0 ? (const char *)options->data : "";
}

const struct wsr_driver_setup *sim_last_setup(const struct sim *sim)
{
    return &sim->last_setup;
}

unsigned sim_buffers_home(const struct sim *sim)
{
    return sim->home_count;
}

unsigned sim_files_open(const struct sim *sim)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sim->files_used; i++)
        count += sim->files[i].is_open;
    return count;
}

void sim_break(struct sim *sim, int system_errno)
{
    sim->broken_errno = system_errno;
}

uint64_t sim_now(const struct sim *sim)
{
    return sim->now_ns;
}

uint64_t sim_seed(const struct sim *sim)
{
    return sim->seed;
}
