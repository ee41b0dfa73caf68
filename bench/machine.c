/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include <dirent.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

/* First line of @path without its end; "" when it cannot be read. Tabs become spaces. */
static void read_line(char *out, size_t size, const char *path)
{
    out[0] = '\0';
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (!fgets(out, (int)size, file))
        out[0] = '\0';
    fclose(file);
    out[strcspn(out, "\n")] = '\0';
    for (char *c = out; *c; c++) {
        if (*c == '\t')
            *c = ' ';
    }
}

static unsigned read_number(const char *path)
{
    char line[64];
    read_line(line, sizeof line, path);
    return (unsigned)strtoul(line, NULL, 10);
}

/* "model name : ..." of the first processor; other machines name it otherwise, and stay "". */
static void read_cpu(char *out, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    out[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(out, size, "%s", colon[1] == ' ' ? colon + 2 : colon + 1);
            break;
        }
    }
    if (file)
        fclose(file);
}

void wsr_machine_read(struct wsr_machine *machine)
{
    struct utsname name;
    struct rlimit files;
    cpu_set_t cpus;
    char ports[64];
    char *end = ports;
    memset(machine, 0, sizeof *machine);
    if (uname(&name) == 0)
        snprintf(machine->kernel, sizeof machine->kernel, "%s", name.release);
    read_cpu(machine->cpu, sizeof machine->cpu);
    read_line(machine->governor, sizeof machine->governor, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    read_line(machine->tcp_rmem, sizeof machine->tcp_rmem, "/proc/sys/net/ipv4/tcp_rmem");
    read_line(machine->tcp_wmem, sizeof machine->tcp_wmem, "/proc/sys/net/ipv4/tcp_wmem");
    read_line(ports, sizeof ports, "/proc/sys/net/ipv4/ip_local_port_range");
    machine->port_first = (unsigned)strtoul(ports, &end, 10);
    machine->port_last = (unsigned)strtoul(end, NULL, 10);
    machine->somaxconn = read_number("/proc/sys/net/core/somaxconn");
    machine->cpus_online = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    machine->cpus = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : machine->cpus_online;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        machine->files_soft = files.rlim_cur;
        machine->files_hard = files.rlim_max;
    }
}

unsigned wsr_machine_ports(const struct wsr_machine *machine)
{
    return machine->port_last >= machine->port_first && machine->port_first > 0
               ? machine->port_last - machine->port_first + 1
               : 0;
}

uint64_t wsr_machine_raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return 1024;
    rlim_t before = files.rlim_cur;
    files.rlim_cur = files.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_max : before;
}

static uint64_t ns_of_ticks(uint64_t ticks)
{
    return ticks * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* utime and stime are the fields 14 and 15 of proc(5) stat; the name in front of them may hold anything but its
 * last ')'. */
static bool read_stat(const char *path, uint64_t *user_ns, uint64_t *system_ns)
{
    char line[512];
    uint64_t user, system;
    read_line(line, sizeof line, path);
    const char *rest = strrchr(line, ')');
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &user,
                        &system) != 2)
        return false;
    *user_ns = ns_of_ticks(user);
    *system_ns = ns_of_ticks(system);
    return true;
}

/* The scheduler's own sum in nanoseconds, first number of schedstat; else ticks of 10 ms. */
static bool read_thread(uint64_t *ns, uint64_t pid, const char *thread)
{
    char path[320], line[128];
    uint64_t user_ns, system_ns;
    snprintf(path, sizeof path, "/proc/%" PRIu64 "/task/%s/schedstat", pid, thread);
    read_line(line, sizeof line, path);
    if (sscanf(line, "%" SCNu64, ns) == 1)
        return true;
    snprintf(path, sizeof path, "/proc/%" PRIu64 "/task/%s/stat", pid, thread);
    if (!read_stat(path, &user_ns, &system_ns))
        return false;
    *ns = user_ns + system_ns;
    return true;
}

static void read_threads(struct wsr_machine_usage *usage, uint64_t pid)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/%" PRIu64 "/task", pid);
    DIR *tasks = opendir(path);
    struct dirent *entry;
    while (tasks && (entry = readdir(tasks)) && usage->threads_count < WSR_MACHINE_THREADS_MAX) {
        uint64_t ns;
        if (entry->d_name[0] == '.' || !read_thread(&ns, pid, entry->d_name))
            continue;
        usage->thread_ids[usage->threads_count] = (uint32_t)strtoul(entry->d_name, NULL, 10);
        usage->thread_ns[usage->threads_count++] = ns;
    }
    if (tasks)
        closedir(tasks);
}

/* "cpu user nice system idle iowait irq softirq steal ...": idle and iowait are the time not used. */
static void read_all(struct wsr_machine_usage *usage)
{
    char line[256];
    uint64_t t[8] = { 0 };
    read_line(line, sizeof line, "/proc/stat");
    if (sscanf(line, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
               &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) < 4)
        return;
    for (int i = 0; i < 8; i++)
        usage->all_ticks += t[i];
    usage->all_ticks_busy = usage->all_ticks - t[3] - t[4];
}

static uint64_t ns_of_timeval(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

bool wsr_machine_usage(struct wsr_machine_usage *usage, uint64_t pid)
{
    char path[64];
    struct rusage own;
    memset(usage, 0, sizeof *usage);
    read_all(usage);
    snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", pid);
    if (!read_stat(path, &usage->user_ns, &usage->system_ns))
        return false;
    if (pid == (uint64_t)getpid() && getrusage(RUSAGE_SELF, &own) == 0) {      /* finer than the ticks of /proc */
        usage->user_ns = ns_of_timeval(own.ru_utime);
        usage->system_ns = ns_of_timeval(own.ru_stime);
    }
    read_threads(usage, pid);
    return true;
}

static uint64_t thread_ns(const struct wsr_machine_usage *usage, uint32_t id)
{
    for (uint32_t i = 0; i < usage->threads_count; i++) {
        if (usage->thread_ids[i] == id)
            return usage->thread_ns[i];
    }
    return 0;
}

uint64_t wsr_machine_busiest_ns(const struct wsr_machine_usage *before, const struct wsr_machine_usage *after)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < after->threads_count; i++) {
        uint64_t earlier = thread_ns(before, after->thread_ids[i]);
        if (after->thread_ns[i] > earlier && after->thread_ns[i] - earlier > most)
            most = after->thread_ns[i] - earlier;
    }
    return most;
}

double wsr_machine_load(const struct wsr_machine_usage *before, const struct wsr_machine_usage *after)
{
    uint64_t all = after->all_ticks - before->all_ticks;
    return all > 0 ? (double)(after->all_ticks_busy - before->all_ticks_busy) / (double)all : 0.0;
}
