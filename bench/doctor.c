/* wsring doctor: what this machine offers, and for each shortfall one line "mend:" with what to do.
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "machine.h"
#include "option.h"
#include "wsring.h"

#define FILES_WANTED 20000u
#define BACKLOG_WANTED 4096u
#define PORTS_WANTED 28000u
#define LABEL_COLUMNS 14

static const struct wsr_option table[] = {
    { .name = NULL },
};

static void tell(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void tell(const char *label, const char *format, ...)
{
    va_list arguments;
    printf("%-*s ", LABEL_COLUMNS, label);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

/* Returns whether everything that is needed is there. */
static bool look_at_kernel(const struct wsr_diagnosis *diagnosis)
{
    tell("kernel", "Linux %s", diagnosis->kernel);
    tell("io_uring", "%s", diagnosis->io_uring ? "usable" : "NOT usable");
    if (!diagnosis->io_uring)
        tell("mend:", "%s", diagnosis->io_uring_text);
    tell("  has", "%s", diagnosis->features);
    tell("  lacks", "%s", diagnosis->missing[0] ? diagnosis->missing : "nothing");
    tell("SIMD", "%s", diagnosis->simd);
    return diagnosis->io_uring == 1;
}

/* kTLS is never needed: without it records are sealed and opened in user space. */
static void look_at_tls(const struct wsr_diagnosis *diagnosis)
{
    tell("TLS", "%s", diagnosis->tls_library);
    tell("  records", "auto is direct (wsring itself) with AES-GCM and ChaCha20-Poly1305, else library (OpenSSL)");
    tell("kTLS", "%s", diagnosis->ktls ? "available (--tls-records kernel)" : "not available");
    if (!diagnosis->ktls)
        tell("mend:", "%s (optional)", diagnosis->ktls_text);
}

static void look_at_network(const struct wsr_machine *machine)
{
    unsigned ports = wsr_machine_ports(machine);
    tell("ports", "%u to %u: %u connections from one source address to one destination", machine->port_first,
         machine->port_last, ports);
    if (ports < PORTS_WANTED)
        tell("mend:", "as root: sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\", or give --source A,B,...");
    tell("somaxconn", "%u connections may wait to be accepted", machine->somaxconn);
    if (machine->somaxconn < BACKLOG_WANTED)
        tell("mend:", "as root: sysctl -w net.core.somaxconn=%u", BACKLOG_WANTED);
    tell("tcp_rmem", "%s", machine->tcp_rmem);
    tell("tcp_wmem", "%s", machine->tcp_wmem);
}

static void look_at_files(const struct wsr_machine *machine)
{
    tell("open files", "%" PRIu64 " now, %" PRIu64 " at most (wsring load raises it by itself)", machine->files_soft,
         machine->files_hard);
    if (machine->files_hard < FILES_WANTED)
        tell("mend:", "as root: ulimit -Hn %u, or LimitNOFILE= of the service; each connection needs one",
             FILES_WANTED);
}

static void look_at_cpu(const struct wsr_machine *machine)
{
    tell("CPU", "%s, %u of %u usable by this process", machine->cpu[0] ? machine->cpu : "unknown", machine->cpus,
         machine->cpus_online);
    tell("governor", "%s", machine->governor[0] ? machine->governor : "not told (a virtual machine, most likely)");
    if (machine->governor[0] && strcmp(machine->governor, "performance") != 0)
        tell("mend:", "as root: cpupower frequency-set -g performance (for latencies that do not wander)");
    if (machine->cpus < 2)
        tell("mend:", "two CPUs or more, so that client and server do not take turns on one");
}

int wsr_doctor_main(int argc, char **argv)
{
    struct wsr_option_result result;
    struct wsr_machine machine;
    if (wsr_option_parse(table, argc, argv, NULL, &result) < 0) {
        fprintf(stderr, "wsring doctor: %s\n", result.error);
        return WSR_COMMAND_USAGE;
    }
    if (result.wants_help) {
        printf("usage: wsring doctor\n\n"
               "Tells what this machine offers to wsring. A line \"mend:\" says what to do about the line\n"
               "above it. Ends with 0 when everything that is needed is there, 1 when something is missing.\n");
        return WSR_COMMAND_OK;
    }
    if (result.operands.count > 0) {
        fprintf(stderr, "wsring doctor: it takes no arguments, but was given \"%s\"\n", result.operands.items[0]);
        return WSR_COMMAND_USAGE;
    }
    wsr_machine_read(&machine);
    struct wsr_diagnosis diagnosis = WSR_DIAGNOSIS_INIT;
    (void)wsr_diagnose(&diagnosis);      /* refuses nothing but a wrong argument */
    bool usable = look_at_kernel(&diagnosis);
    look_at_tls(&diagnosis);
    look_at_files(&machine);
    look_at_network(&machine);
    look_at_cpu(&machine);
    printf("\n%s\n", usable ? "everything that is needed is there" : "something that is needed is missing");
    return usable ? WSR_COMMAND_OK : WSR_COMMAND_FAILED;
}
