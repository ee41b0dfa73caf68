/* wsring-peer-server: the server for the comparison with other clients, which is none of theirs. It serves one crowd
 * of connections as the servers of bench/micro do, says how busy it was with them, and ends.
 * SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "bench/machine.h"
#include "bench/micro/bare_tls.h"
#include "bench/micro/clock.h"
#include "bench/micro/peer.h"
#include "bench/micro/peer_serve.h"
#include "bench/micro/peer_tls.h"

#define STATUS_USAGE 2
#define CONNECTIONS_MAX 100000u
#define SIZE_MAX_BYTES 3000u              /* PONG keeps a message on its stack; an echo is to fit the kernel */
#define MASK_BYTES 4u
#define RECORD_MIN_BYTES 64u

static int read_kind(const char *word, struct wsr_peer_options *options)
{
    static const struct {
        const char *name;
        enum wsr_peer_kind kind;
    } kinds[] = { { "pong", WSR_PEER_PONG }, { "spray", WSR_PEER_SPRAY }, { "echo", WSR_PEER_ECHO } };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(word, kinds[i].name) == 0) {
            options->kind = kinds[i].kind;
            return 0;
        }
    }
    return -1;
}

static int read_options(int argc, char **argv, struct wsr_peer_options *options)
{
    if ((argc != 4 && argc != 6) || read_kind(argv[1], options) != 0)
        return -1;
    unsigned long connections = strtoul(argv[2], NULL, 10), size = strtoul(argv[3], NULL, 10);
    unsigned long record = argc == 6 ? strtoul(argv[4], NULL, 10) : WSR_BARE_RECORD_PLAIN_MAX;
    if (connections < 1 || connections > CONNECTIONS_MAX || size < 1 || size > SIZE_MAX_BYTES ||
        record < RECORD_MIN_BYTES || record > WSR_BARE_RECORD_PLAIN_MAX)
        return -1;
    options->is_tls = argc == 6;
    options->record_bytes = (uint32_t)record;
    options->connections_count = (uint32_t)connections;
    options->payload_bytes = (uint32_t)size;
    options->up_bytes = wsr_peer_frame_bytes(options->payload_bytes) + MASK_BYTES;
    options->numbered = true;
    return 0;
}

/* The crowd, over TCP or over TLS. */
struct crowd {
    int *fds;
    struct wsr_peer_link *links;
};

static int gather(int listener, const struct wsr_peer_options *options, struct crowd *crowd)
{
    crowd->fds = calloc(options->connections_count, sizeof *crowd->fds);
    crowd->links = calloc(options->connections_count, sizeof *crowd->links);
    if (crowd->fds == NULL || crowd->links == NULL)
        return -1;
    return options->is_tls ? wsr_peer_tls_gather(listener, crowd->links, options->connections_count)
                           : wsr_peer_gather(listener, crowd->fds, options->connections_count, NULL);
}

static void serve(const struct wsr_peer_options *options, const struct crowd *crowd)
{
    if (options->is_tls)
        wsr_peer_tls_serve(options, crowd->links, options->connections_count);
    else
        wsr_peer_serve(options, crowd->fds, options->connections_count);
}

int main(int argc, char **argv)
{
    struct wsr_peer_options options = { .kind = WSR_PEER_ECHO };
    struct crowd crowd;
    uint16_t port;
    int client_cpu, server_cpu;
    if (read_options(argc, argv, &options) != 0) {
        fprintf(stderr, "usage: wsring-peer-server pong|spray|echo CONNECTIONS SIZE [RECORD_SIZE CA_FILE]\n\n"
                        "Prints its port on 127.0.0.1; serves when CONNECTIONS are open, until all have ended; then\n"
                        "prints the seconds of it and the CPU seconds that it used. Runs on the second CPU that it\n"
                        "may use. With CA_FILE it speaks TLS, and writes its certificate there; what it sprays is cut\n"
                        "into records of RECORD_SIZE.\n");
        return STATUS_USAGE;
    }
    /* Who started it may be killed. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    wsr_machine_raise_files();
    wsr_peer_cpus(&client_cpu, &server_cpu);
    wsr_peer_pin(server_cpu);
    if (options.is_tls && wsr_bare_tls_write_ca(argv[5]) != 0)
        return 1;
    int listener = wsr_peer_listen(&port);
    if (listener < 0)
        return 1;
    printf("%u\n", port);
    fflush(stdout);
    if (gather(listener, &options, &crowd) != 0)
        return 1;
    uint64_t begin_ns = wsr_clock_now(), begin_cpu_ns = wsr_clock_read(CLOCK_PROCESS_CPUTIME_ID);
    serve(&options, &crowd);
    printf("%.6f %.6f\n", (double)(wsr_clock_now() - begin_ns) / 1e9,
           (double)(wsr_clock_read(CLOCK_PROCESS_CPUTIME_ID) - begin_cpu_ns) / 1e9);
    wsr_peer_tls_end(crowd.links, options.is_tls ? options.connections_count : 0);
    free(crowd.links);
    free(crowd.fds);
    return 0;
}
