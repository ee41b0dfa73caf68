/* wsring echo: a WebSocket server that sends back what it gets, made to cost less than the client that loads it.
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "command.h"
#include "echo_worker.h"
#include "option.h"

#define WORKERS_MAX 256

static const char *const waits[] = { "block", "spin", NULL };
static const char *const versions[] = { "default", "1.2", "1.3", NULL };
static const char *const records[] = { "auto", "library", "direct", NULL };

struct echo_arguments {
    struct wsr_echo_options options;
    uint32_t wait;      /* index into waits */
    struct wsr_echo_tls_options tls;
    uint32_t version_min, version_max;      /* indices into versions */
    uint32_t records;                       /* index into records */
    bool has_tls;
    const char *deflate;                    /* parameters; NULL = none, "" = no limits */
    struct wsr_deflate_offer limits;
};

#define AT(member) offsetof(struct echo_arguments, member)

static const struct wsr_option table[] = {
    { .name = "host", .value = "ADDRESS", .kind = WSR_OPTION_TEXT, .offset = AT(options.host),
      .help = "numeric address to listen on (127.0.0.1)" },
    { .name = "port", .value = "PORT", .kind = WSR_OPTION_COUNT, .max = 65535, .offset = AT(options.port),
      .help = "port to listen on; 0 = one that is free (0)" },
    { .name = "workers", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = WORKERS_MAX,
      .offset = AT(options.workers_count), .help = "threads, each with its own kernel ring (1)" },
    { .name = "backlog", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 1, .max = 65535,
      .offset = AT(options.backlog), .help = "connections waiting to be accepted (4096)" },
    { .name = "buffers", .value = "COUNT", .kind = WSR_OPTION_COUNT, .min = 2, .max = 32768,
      .offset = AT(options.buffers_count), .help = "receive buffers per worker, a power of two (512)" },
    { .name = "buffer-bytes", .value = "SIZE", .kind = WSR_OPTION_BYTES, .min = 256, .max = 1 << 20,
      .offset = AT(options.buffer_bytes), .help = "of each (16KiB)" },
    { .name = "wait", .value = "block|spin", .kind = WSR_OPTION_CHOICE, .words = waits, .offset = AT(wait),
      .help = "sleep in the kernel, or watch for work without sleeping (block)" },
    { .name = "direct", .kind = WSR_OPTION_SWITCH, .offset = AT(options.direct),
      .help = "direct descriptors: the limit of open files is one for each worker, not for all" },
    { .name = "no-subprotocol", .kind = WSR_OPTION_SWITCH, .offset = AT(options.no_subprotocol),
      .help = "agree on no subprotocol; without this, on the first offered" },
    { .name = "deflate", .value = "PARAMETERS", .kind = WSR_OPTION_OPTIONAL, .offset = AT(deflate),
      .help = "agree on permessage-deflate, within such limits as \"server_max_window_bits=10\" (none)" },
    { .name = "tls", .kind = WSR_OPTION_SWITCH, .offset = AT(has_tls),
      .help = "TLS, for wss://; the options below are for it" },
    { .name = "cert", .value = "FILE", .kind = WSR_OPTION_TEXT, .offset = AT(tls.certificate_file),
      .help = "certificate in PEM, its chain behind it (one that is made, for localhost, 127.0.0.1 and ::1)" },
    { .name = "key", .value = "FILE", .kind = WSR_OPTION_TEXT, .offset = AT(tls.key_file),
      .help = "its key in PEM (in the file of --cert)" },
    { .name = "cert-out", .value = "FILE", .kind = WSR_OPTION_TEXT, .offset = AT(tls.certificate_out),
      .help = "without --cert: write the certificate there, for wsring load --cacert FILE" },
    { .name = "tls-min", .value = "1.2|1.3", .kind = WSR_OPTION_CHOICE, .words = versions, .offset = AT(version_min),
      .help = "lowest version of TLS (1.2)" },
    { .name = "tls-max", .value = "1.2|1.3", .kind = WSR_OPTION_CHOICE, .words = versions, .offset = AT(version_max),
      .help = "highest version of TLS (1.3)" },
    { .name = "tls-ciphers", .value = "NAME:...", .kind = WSR_OPTION_TEXT, .offset = AT(tls.ciphers),
      .help = "cipher suites, as OpenSSL names them; TLS_... are those of TLS 1.3 (OpenSSL's choice)" },
    { .name = "tls-records", .value = "auto|library|direct", .kind = WSR_OPTION_CHOICE, .words = records,
      .offset = AT(records), .help = "who opens and seals records: OpenSSL, wsring with the same keys, or wsring where "
                                     "the cipher suite is one that it can carry (auto)" },
    { .name = NULL },
};

static void write_help(void)
{
    printf("usage: wsring echo [OPTION...]\n\n"
           "Sends back every text and binary message, answers pings, runs until SIGINT or SIGTERM. Prints\n"
           "\"listening on ADDRESS:PORT\" first, with --tls followed by \"(wss://ADDRESS:PORT/)\". Text is passed on\n"
           "as it is: its UTF-8 is not checked. With --deflate what came compressed goes back as it came: the\n"
           "client compresses and inflates, the server does neither, and binds the client so that it may.\n\n");
    wsr_option_write_help(stdout, table);
}

/* A listening socket made by hand, as several that share a port need SO_REUSEPORT: the kernel then spreads the
 * connections. Its descriptor is what the io_uring driver calls a file. Returns it, or -errno; *address gets the
 * port bound to. */
static int listen_on(struct sockaddr *address, socklen_t address_bytes, int backlog, bool shared)
{
    const int on = 1;
    const int share = shared;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &share, sizeof share) < 0 || bind(fd, address, address_bytes) < 0 ||
        listen(fd, backlog) < 0 || getsockname(fd, address, &address_bytes) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

/* One listening socket per worker, all on one port. Returns the port, 0 when one was refused. */
static uint16_t listen_all(struct wsr_echo_server *server)
{
    const struct wsr_echo_options *options = server->options;
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)options->port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)options->port) };
    bool is_v4 = inet_pton(AF_INET, options->host, &v4.sin_addr) == 1;
    (void)inet_pton(AF_INET6, options->host, &v6.sin6_addr);      /* one of the two: is_address() has seen to that */
    struct sockaddr *address = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    socklen_t address_bytes = is_v4 ? sizeof v4 : sizeof v6;
    for (unsigned i = 0; i < options->workers_count; i++) {
        int fd = listen_on(address, address_bytes, (int)options->backlog, options->workers_count > 1);
        if (fd < 0) {
            fprintf(stderr, "wsring echo: cannot listen on %s port %u: %s; choose another --host or --port\n",
                    options->host, (unsigned)options->port, strerror(-fd));
            return 0;
        }
        server->workers[i].listener = fd;
    }
    return ntohs(is_v4 ? v4.sin_port : v6.sin6_port);
}

static void close_all(struct wsr_echo_server *server)
{
    for (unsigned i = 0; i < server->options->workers_count; i++) {
        if (server->workers[i].listener >= 0)
            close(server->workers[i].listener);
    }
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);      /* then the kernel answers accept with EMFILE, which is handled */
    }
}

static void report_tls(const struct wsr_echo_server *server)
{
    struct wsr_echo_tls_counts all = { .handshakes = 0 };
    for (unsigned i = 0; i < server->options->workers_count; i++) {
        const struct wsr_echo_tls_counts *one = &server->workers[i].tls.counts;
        all.handshakes += one->handshakes;
        all.resumed += one->resumed;
        all.direct += one->direct;
        all.failures += one->failures;
        all.failure = one->failure ? one->failure : all.failure;
    }
    fprintf(stderr,
            "TLS: %" PRIu64 " handshakes, %" PRIu64 " resumed, records of %" PRIu64 " direct, %" PRIu64
            " connections failed%s%s\n",
            all.handshakes, all.resumed, all.direct, all.failures, all.failure ? ", the last with: " : "",
            all.failure ? all.failure : "");
}

static void report(const struct wsr_echo_server *server)
{
    struct wsr_echo_counts all = { .connections = 0 };
    for (unsigned i = 0; i < server->options->workers_count; i++) {
        const struct wsr_echo_counts *one = &server->workers[i].counts;
        all.connections += one->connections;
        all.deflates += one->deflates;
        all.refused += one->refused;
        all.messages += one->messages;
        all.bytes += one->bytes;
        all.pings += one->pings;
        all.closes += one->closes;
        all.violations += one->violations;
    }
    fprintf(stderr,
            "%" PRIu64 " connections, %" PRIu64 " refused, %" PRIu64 " messages, %" PRIu64 " bytes, %" PRIu64
            " pings, %" PRIu64 " closed by the client, %" PRIu64 " closed with 1002\n",
            all.connections, all.refused, all.messages, all.bytes, all.pings, all.closes, all.violations);
    if (server->options->deflate)
        fprintf(stderr, "permessage-deflate: %" PRIu64 " of the connections\n", all.deflates);
    if (server->tls)
        report_tls(server);
}

static void stop_all(struct wsr_echo_server *server, const pthread_t *threads, unsigned started)
{
    /* Relaxed: pairs with must_stop() in echo_worker.c; the wake() below orders it and brings the look. */
    atomic_store_explicit(&server->stop, true, memory_order_relaxed);
    for (unsigned i = 0; i < started; i++) {
        if (server->workers[i].driver)
            server->workers[i].driver->ops->wake(server->workers[i].driver);
    }
    for (unsigned i = 0; i < started; i++)
        sem_post(&server->leave);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

/* Start all workers, wait for each to run. Returns how many threads there are; *failed when one does not run. */
static unsigned start_all(struct wsr_echo_server *server, pthread_t *threads, bool *failed)
{
    unsigned started = 0;
    for (; started < server->options->workers_count; started++) {
        int error = pthread_create(&threads[started], NULL, wsr_echo_worker_run, &server->workers[started]);
        if (error != 0) {
            fprintf(stderr, "wsring echo: cannot start a thread: %s; give fewer --workers\n", strerror(error));
            *failed = true;
            break;
        }
    }
    for (unsigned i = 0; i < started; i++) {
        while (sem_wait(&server->ready) < 0)
            ;
    }
    for (unsigned i = 0; i < started && !*failed; i++) {
        if (server->workers[i].error[0]) {
            fprintf(stderr, "wsring echo: %s\n", server->workers[i].error);
            *failed = true;
        }
    }
    return started;
}

static void say_ready(const struct wsr_echo_server *server, uint16_t port)
{
    const char *bracket = strchr(server->options->host, ':') ? "[" : "";
    char place[INET6_ADDRSTRLEN + 16];
    snprintf(place, sizeof place, "%s%s%s:%u", bracket, server->options->host, *bracket ? "]" : "", port);
    if (server->tls)
        printf("listening on %s (wss://%s/)\n", place, place);
    else
        printf("listening on %s\n", place);
    fflush(stdout);
}

static int serve(struct wsr_echo_server *server, uint16_t port)
{
    sigset_t ends;
    int signal_number;
    bool failed = false;
    pthread_t threads[WORKERS_MAX];
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);      /* inherited by the workers: only sigwait() takes them */
    unsigned started = start_all(server, threads, &failed);
    if (!failed) {
        say_ready(server, port);
        sigwait(&ends, &signal_number);
    }
    stop_all(server, threads, started);
    if (!failed)
        report(server);
    return failed ? WSR_COMMAND_FAILED : WSR_COMMAND_OK;
}

static int run(const struct wsr_echo_options *options, struct wsr_echo_tls_context *tls)
{
    struct wsr_echo_server server = { .options = options, .tls = tls };
    server.workers = calloc(options->workers_count, sizeof *server.workers);
    if (!server.workers) {
        fprintf(stderr, "wsring echo: no memory for %u workers\n", (unsigned)options->workers_count);
        return WSR_COMMAND_FAILED;
    }
    for (unsigned i = 0; i < options->workers_count; i++) {
        server.workers[i].server = &server;
        server.workers[i].index = i;
        server.workers[i].listener = -1;
    }
    sem_init(&server.ready, 0, 0);
    sem_init(&server.leave, 0, 0);
    raise_file_limit();
    uint16_t port = listen_all(&server);
    int status = port == 0 ? WSR_COMMAND_FAILED : serve(&server, port);
    close_all(&server);
    sem_destroy(&server.ready);
    sem_destroy(&server.leave);
    free(server.workers);
    return status;
}

static bool is_address(const char *text)
{
    struct in_addr v4;
    struct in6_addr v6;
    return inet_pton(AF_INET, text, &v4) == 1 || inet_pton(AF_INET6, text, &v6) == 1;
}

/* What only TLS has needs --tls, and a certificate of one's own excludes the one that is made. */
static bool is_tls_right(const struct echo_arguments *arguments)
{
    const struct wsr_echo_tls_options *tls = &arguments->tls;
    const char *given = tls->certificate_file      ? "--cert"
                        : tls->key_file            ? "--key"
                        : tls->certificate_out     ? "--cert-out"
                        : arguments->version_min   ? "--tls-min"
                        : arguments->version_max   ? "--tls-max"
                        : tls->ciphers             ? "--tls-ciphers"
                        : arguments->records       ? "--tls-records"
                                                   : NULL;
    if (given && !arguments->has_tls) {
        fprintf(stderr, "wsring echo: %s is for TLS: give --tls too\n", given);
        return false;
    }
    if (tls->key_file && !tls->certificate_file) {
        fprintf(stderr, "wsring echo: --key is the key of a certificate: give --cert too\n");
        return false;
    }
    if (tls->certificate_out && tls->certificate_file) {
        fprintf(stderr, "wsring echo: --cert-out writes the certificate that is made when there is no --cert: give one "
                        "of the two\n");
        return false;
    }
    return true;
}

static bool is_right(const struct wsr_echo_options *options)
{
    if (!is_address(options->host)) {
        fprintf(stderr, "wsring echo: --host takes a numeric address such as 127.0.0.1 or ::1, but was given \"%s\"\n",
                options->host);
        return false;
    }
    if (options->buffers_count & (options->buffers_count - 1)) {
        fprintf(stderr, "wsring echo: --buffers takes a power of two such as 512, but was given %" PRIu64 "\n",
                options->buffers_count);
        return false;
    }
    return true;
}

static bool is_deflate_right(struct echo_arguments *arguments)
{
    struct wsr_fault why;
    if (wsr_echo_deflate_parse(&arguments->limits, arguments->deflate, &why) != 0) {
        fprintf(stderr, "wsring echo: --deflate, byte %zu of \"%s\": %s\n", why.at, arguments->deflate, why.text);
        return false;
    }
    arguments->options.deflate = &arguments->limits;
    return true;
}

static int prepare_tls(struct echo_arguments *arguments, struct wsr_echo_tls_context **tls)
{
    static const uint16_t numbers[] = { 0, WSR_TLS_1_2, WSR_TLS_1_3 };      /* as versions */
    static const enum wsr_tls_records who[] = { WSR_TLS_AUTO, WSR_TLS_LIBRARY, WSR_TLS_DIRECT };      /* as records */
    char error[WSR_ECHO_TLS_ERROR_CHARS];
    arguments->tls.version_min = numbers[arguments->version_min];
    arguments->tls.version_max = numbers[arguments->version_max];
    arguments->tls.records = who[arguments->records];
    int rc = wsr_echo_tls_context_create(tls, &arguments->tls, error);
    if (rc < 0)
        fprintf(stderr, "wsring echo: %s\n", error);
    return rc;
}

int wsr_echo_main(int argc, char **argv)
{
    struct echo_arguments arguments = {
        .options = { .host = "127.0.0.1", .workers_count = 1, .backlog = 4096, .buffers_count = 512,
                     .buffer_bytes = 16384 },
    };
    struct wsr_option_result result;
    if (wsr_option_parse(table, argc, argv, &arguments, &result) < 0) {
        fprintf(stderr, "wsring echo: %s\n", result.error);
        return WSR_COMMAND_USAGE;
    }
    if (result.wants_help) {
        write_help();
        return WSR_COMMAND_OK;
    }
    if (result.operands.count > 0) {
        fprintf(stderr, "wsring echo: \"%s\" is no option; \"wsring echo --help\" lists them\n",
                result.operands.items[0]);
        return WSR_COMMAND_USAGE;
    }
    if (!is_right(&arguments.options) || !is_tls_right(&arguments))
        return WSR_COMMAND_USAGE;
    if (arguments.deflate && !is_deflate_right(&arguments))
        return WSR_COMMAND_USAGE;
    arguments.options.spin = arguments.wait == 1;
    struct wsr_echo_tls_context *tls = NULL;
    if (arguments.has_tls && prepare_tls(&arguments, &tls) < 0)
        return WSR_COMMAND_USAGE;
    int status = run(&arguments.options, tls);
    wsr_echo_tls_context_free(tls);
    return status;
}
