/* What the machine says about itself and about the CPU that processes use, as read from /proc and /sys. */
#ifndef WSR_MACHINE_H
#define WSR_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WSR_MACHINE_TEXT_CHARS 128
#define WSR_MACHINE_THREADS_MAX 512

/* Texts are "" and numbers 0 where the machine does not tell. */
struct wsr_machine {
    char kernel[WSR_MACHINE_TEXT_CHARS];
    char cpu[WSR_MACHINE_TEXT_CHARS];
    char governor[WSR_MACHINE_TEXT_CHARS];
    char tcp_rmem[WSR_MACHINE_TEXT_CHARS];
    char tcp_wmem[WSR_MACHINE_TEXT_CHARS];
    unsigned cpus;                /* that this process may use */
    unsigned cpus_online;
    unsigned port_first;          /* ephemeral ports */
    unsigned port_last;
    unsigned somaxconn;
    uint64_t files_soft;
    uint64_t files_hard;
};

void wsr_machine_read(struct wsr_machine *machine);

/* Ephemeral ports: connections from one source address to one destination. */
unsigned wsr_machine_ports(const struct wsr_machine *machine);

/* Raise the soft limit of open files to the hard one. Returns the limit that now holds. */
uint64_t wsr_machine_raise_files(void);

/* CPU used by one process so far. */
struct wsr_machine_usage {
    uint64_t user_ns;
    uint64_t system_ns;
    uint64_t all_ticks_busy;      /* of the whole machine, in clock ticks */
    uint64_t all_ticks;
    uint32_t threads_count;
    uint32_t thread_ids[WSR_MACHINE_THREADS_MAX];
    uint64_t thread_ns[WSR_MACHINE_THREADS_MAX];
};

/* Returns false when there is no such process, or it may not be looked at. */
bool wsr_machine_usage(struct wsr_machine_usage *usage, uint64_t pid);

/* What the busiest thread used between the two. */
uint64_t wsr_machine_busiest_ns(const struct wsr_machine_usage *before, const struct wsr_machine_usage *after);

/* Share of the whole machine's CPU that was used between the two, by anybody: 0 to 1. */
double wsr_machine_load(const struct wsr_machine_usage *before, const struct wsr_machine_usage *after);

#endif
