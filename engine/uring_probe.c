#include "uring_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#define ENTRIES_DEFAULT 1024u
#define COMPLETIONS_DEFAULT 16384u
#define TRIAL_GROUP 0xffffu                 /* a buffer group that no driver uses */

/* Newer than liburing 2.3 (kernel.md, 1.4). */
#define OURS_REGISTER_NAPI 27u
#define OURS_REGISTER_CLOCK 29u
#define OURS_FEAT_RECVSEND_BUNDLE (1u << 14)
#define OURS_FEAT_MIN_TIMEOUT (1u << 15)

struct clock_register {                     /* struct io_uring_clock_register, Linux 6.12 */
    uint32_t clock;
    uint32_t reserved[3];
};

struct napi {                               /* struct io_uring_napi, Linux 6.9 */
    uint32_t busy_poll_us;
    uint8_t prefer_busy_poll;
    uint8_t pad[3];
    uint64_t reserved;
};

static const char *const step_names[WSR_URING_STEPS_COUNT] = {
    [WSR_URING_DEFER_TASKRUN] = "defer_taskrun",
    [WSR_URING_BUFFER_RING] = "buffer_ring",
    [WSR_URING_MULTISHOT_RECV] = "multishot_recv",
    [WSR_URING_MULTISHOT_ACCEPT] = "multishot_accept",
    [WSR_URING_RING_FD] = "ring_fd",
    [WSR_URING_IOWQ_CAP] = "iowq_cap",
    [WSR_URING_ABS_TIMER] = "abs_timer",
    [WSR_URING_PLAIN_CALLS] = "plain_calls",
    [WSR_URING_MIN_WAIT] = "min_wait",
    [WSR_URING_NAPI] = "napi",
    [WSR_URING_DIRECT_FILES] = "direct_files",
};

static uint32_t step_of_name(const char *name, size_t len)
{
    for (unsigned step = 0; step < WSR_URING_STEPS_COUNT; step++) {
        if (strlen(step_names[step]) == len && memcmp(step_names[step], name, len) == 0)
            return 1u << step;
    }
    return 0;                               /* a step of another version: nothing to switch off */
}

uint32_t wsr_uring_probe_switched_off(void)
{
    const char *at = getenv("WSRING_URING_OFF");
    uint32_t off = 0;

    while (at != NULL && *at != '\0') {
        size_t len = strcspn(at, ",");
        off |= step_of_name(at, len);
        at += len + (at[len] == ',');
    }
    return off;
}

void wsr_uring_probe_words(char *out, size_t size, uint32_t steps)
{
    size_t used = 0;

    out[0] = '\0';
    for (unsigned step = 0; step < WSR_URING_STEPS_COUNT; step++) {
        if ((steps & 1u << step) == 0)
            continue;
        int wrote = snprintf(out + used, size - used, "%s%s", used > 0 ? " " : "", step_names[step]);
        assert(wrote > 0 && (size_t)wrote < size - used);
        used += (size_t)wrote;
    }
}

uint32_t wsr_uring_probe_asked(const struct wsr_uring_options *options)
{
    uint32_t unasked = (options->direct_count == 0 ? 1u << WSR_URING_DIRECT_FILES : 0) |
                       (options->napi_us == 0 ? 1u << WSR_URING_NAPI : 0);
    return WSR_URING_STEPS_ALL & ~unasked;
}

void wsr_uring_probe_tell(struct wsr_uring_report *report, uint32_t granted, uint32_t missing)
{
    wsr_uring_probe_words(report->features, sizeof report->features, granted);
    wsr_uring_probe_words(report->missing, sizeof report->missing, missing);
}

/* A number from a file of /proc, or @absent. */
static int read_setting(const char *path, int absent)
{
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return absent;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return absent;
    text[got] = '\0';
    return (int)strtol(text, NULL, 10);
}

static void explain_eperm(char *out, size_t size, const struct wsr_uring_refusal *r)
{
    if (r->disabled == 2)
        snprintf(out, size, "%s is refused (EPERM): io_uring is switched off by kernel.io_uring_disabled=2; "
                 "run sysctl -w kernel.io_uring_disabled=0.", r->call);
    else if (r->disabled == 1 && r->group >= 0)
        snprintf(out, size, "%s is refused (EPERM): kernel.io_uring_disabled=1 admits only group %d "
                 "(kernel.io_uring_group) and CAP_SYS_ADMIN; join that group or run "
                 "sysctl -w kernel.io_uring_disabled=0.", r->call, r->group);
    else if (r->disabled == 1)
        snprintf(out, size, "%s is refused (EPERM): kernel.io_uring_disabled=1 admits only CAP_SYS_ADMIN; set "
                 "kernel.io_uring_group to a group of yours or run sysctl -w kernel.io_uring_disabled=0.", r->call);
    else
        snprintf(out, size, "%s is refused (EPERM) though no sysctl forbids it: likely the seccomp profile of a "
                 "container or service; allow io_uring_setup, io_uring_enter and io_uring_register in it.", r->call);
}

void wsr_uring_probe_explain(char *out, size_t size, const struct wsr_uring_refusal *r)
{
    switch (r->error) {
    case EPERM:
    case EACCES:
        explain_eperm(out, size, r);
        break;
    case ENOSYS:
        snprintf(out, size, "%s is unknown here (ENOSYS): Linux %s is built without io_uring, or a sandbox hides it; "
                 "run outside of the sandbox or on a kernel with CONFIG_IO_URING.", r->call, r->release);
        break;
    case EINVAL:
        snprintf(out, size, r->setup_plain
                 ? "%s refuses the base flags (EINVAL): Linux %s has io_uring, but DEFER_TASKRUN needs Linux 6.1."
                 : "%s refuses every ring (EINVAL) on Linux %s; Linux 6.1 or newer is needed.", r->call, r->release);
        break;
    case ENOMEM:
        snprintf(out, size, "%s has no memory (ENOMEM): raise the memory limit of the cgroup, or before Linux 5.12 the "
                 "limit of locked memory (ulimit -l), or ask for smaller queues.", r->call);
        break;
    case EMFILE:
    case ENFILE:
        snprintf(out, size, "%s has no descriptor left (%s): raise the limit of open files (ulimit -n).", r->call,
                 r->error == EMFILE ? "EMFILE" : "ENFILE");
        break;
    default:
        snprintf(out, size, "%s failed with errno %d on Linux %s; this is not a known way to be refused.", r->call,
                 r->error, r->release);
    }
}

static int error_of(int error)
{
    switch (error) {
    case EPERM: case EACCES: case ENOSYS: case EINVAL:
        return WSR_ERR_NOT_SUPPORTED;
    case ENOMEM:
        return WSR_ERR_MEMORY;
    default:
        return WSR_ERR_SYSTEM;
    }
}

static bool plain_ring_works(void)
{
    struct io_uring ring;
    if (io_uring_queue_init(4, &ring, 0) != 0)
        return false;
    io_uring_queue_exit(&ring);
    return true;
}

int wsr_uring_probe_refuse(struct wsr_uring_report *report, const char *call, int error)
{
    struct utsname system = { .release = "unknown" };
    uname(&system);
    struct wsr_uring_refusal refusal = {
        .call = call,
        .error = error,
        .disabled = read_setting("/proc/sys/kernel/io_uring_disabled", -1),
        .group = read_setting("/proc/sys/kernel/io_uring_group", -1),
        .setup_plain = error == EINVAL && plain_ring_works(),
        .release = system.release,
    };
    report->error = -error;
    wsr_uring_probe_explain(report->text, sizeof report->text, &refusal);
    return error_of(error);
}

/* The base steps that have no flag of their own. A kernel that grants DEFER_TASKRUN has them all, so a gap here is a
 * sandbox that filters io_uring_register(2), or a step that a vendor took out. */
static int check_base(struct io_uring *ring, uint32_t *granted)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *ring_memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring_memory == MAP_FAILED)
        return ENOMEM;
    struct io_uring_buf_reg trial = { .ring_addr = (uintptr_t)ring_memory, .ring_entries = 8, .bgid = TRIAL_GROUP };
    int rc = io_uring_register_buf_ring(ring, &trial, 0);
    if (rc == 0) {
        *granted |= 1u << WSR_URING_BUFFER_RING;
        io_uring_unregister_buf_ring(ring, TRIAL_GROUP);
    }
    munmap(ring_memory, page);
    if (rc != 0 && rc != -EINVAL)
        return -rc;

    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    if (probe == NULL)
        return ENOMEM;
    if (io_uring_opcode_supported(probe, IORING_OP_SEND_ZC))        /* as old as multishot receive, which has no sign */
        *granted |= 1u << WSR_URING_MULTISHOT_RECV;
    if (io_uring_opcode_supported(probe, IORING_OP_SOCKET))         /* as old as multishot accept */
        *granted |= 1u << WSR_URING_MULTISHOT_ACCEPT;
    io_uring_free_probe(probe);
    return 0;
}

static int refuse_steps(struct wsr_uring_report *report, const char *why, uint32_t steps, const char *advice)
{
    char words[96];                         /* room for the names of all base steps */
    wsr_uring_probe_words(words, sizeof words, steps);
    snprintf(report->text, sizeof report->text, "%s %s, without which this driver cannot run; %s.", why, words, advice);
    return WSR_ERR_NOT_SUPPORTED;
}

static int make_direct(struct wsr_uring_direct *direct, struct io_uring *ring, uint32_t wanted_count, uint32_t off,
                       struct wsr_uring_report *report)
{
    struct utsname system = { .release = "unknown" };

    if ((off & 1u << WSR_URING_DIRECT_FILES) != 0) {
        snprintf(report->text, sizeof report->text, "WSRING_URING_OFF switches off direct_files; unset it to use "
                 "WSR_ENGINE_DIRECT_DESCRIPTORS.");
        return WSR_ERR_NOT_SUPPORTED;
    }
    int rc = wsr_uring_direct_try();
    if (rc == -EOPNOTSUPP) {
        uname(&system);
        report->error = rc;
        snprintf(report->text, sizeof report->text, "WSR_ENGINE_DIRECT_DESCRIPTORS needs Linux 6.13: Linux %.64s "
                 "closes such a socket only when all older receives have ended; do without it and raise the limit of "
                 "open files (ulimit -n).", system.release);
        return WSR_ERR_NOT_SUPPORTED;
    }
    if (rc == 0)
        rc = wsr_uring_direct_create(direct, ring, wanted_count);
    if (rc < 0)
        return wsr_uring_probe_refuse(report, "a table of direct descriptors", -rc);
    report->direct_count = direct->slots_count;
    return 0;
}

int wsr_uring_probe_open(struct io_uring *ring, struct wsr_uring_direct *direct,
                         const struct wsr_uring_options *options, uint32_t off, struct wsr_uring_report *report)
{
    uint32_t granted = 1u << WSR_URING_DEFER_TASKRUN;
    unsigned entries = options->entries_count != 0 ? options->entries_count : ENTRIES_DEFAULT;
    unsigned completions = options->completions_count != 0 ? options->completions_count : COMPLETIONS_DEFAULT;
    struct io_uring_params params = {
        .flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = completions > entries ? completions : entries,
    };

    if ((off & WSR_URING_STEPS_BASE) != 0)
        return refuse_steps(report, "WSRING_URING_OFF switches off", off & WSR_URING_STEPS_BASE,
                            "unset it to use io_uring");
    if ((options->flags & WSR_URING_DISABLED_START) != 0)
        params.flags |= IORING_SETUP_R_DISABLED;
    int rc = io_uring_queue_init_params(entries, ring, &params);
    if (rc != 0)
        return wsr_uring_probe_refuse(report, "io_uring_setup", -rc);

    rc = check_base(ring, &granted);
    if (rc != 0) {
        io_uring_queue_exit(ring);
        return wsr_uring_probe_refuse(report, "io_uring_register", rc);
    }
    /* EBADFD is the answer of a ring that is not enabled yet, and so as good as 0. */
    rc = io_uring_enter((unsigned)ring->ring_fd, 0, 0, IORING_ENTER_GETEVENTS, NULL);
    if (rc < 0 && rc != -EBADFD && rc != -EINTR) {
        io_uring_queue_exit(ring);
        return wsr_uring_probe_refuse(report, "io_uring_enter", -rc);
    }
    if (granted != WSR_URING_STEPS_BASE) {
        io_uring_queue_exit(ring);
        return refuse_steps(report, "this kernel lacks", WSR_URING_STEPS_BASE & ~granted, "run Linux 6.1 or newer");
    }
    rc = options->direct_count > 0 ? make_direct(direct, ring, options->direct_count, off, report) : 0;
    if (rc != 0)
        io_uring_queue_exit(ring);
    return rc;
}

uint32_t wsr_uring_probe_climb(struct io_uring *ring, uint32_t off, uint32_t napi_us, int *enter_fd,
                               unsigned *enter_flags)
{
    uint32_t want = WSR_URING_STEPS_ALL & ~WSR_URING_STEPS_BASE & ~off;
    uint32_t granted = want & 1u << WSR_URING_PLAIN_CALLS;

    /* Some vendors' kernels answer 0 to what they do not know; 1 is the number of descriptors registered. */
    if ((want & 1u << WSR_URING_RING_FD) != 0 && io_uring_register_ring_fd(ring) == 1) {
        granted |= 1u << WSR_URING_RING_FD;
        *enter_fd = ring->enter_ring_fd;
        *enter_flags |= IORING_ENTER_REGISTERED_RING;
    }
    unsigned workers[2] = { 2, 2 };
    if ((want & 1u << WSR_URING_IOWQ_CAP) != 0 && io_uring_register_iowq_max_workers(ring, workers) == 0)
        granted |= 1u << WSR_URING_IOWQ_CAP;

    /* The wait's clock and the flag for absolute deadlines came together; the number of arguments must be 0. */
    struct clock_register monotonic = { .clock = CLOCK_MONOTONIC };
    if ((want & 1u << WSR_URING_ABS_TIMER) != 0 &&
        io_uring_register((unsigned)ring->ring_fd, OURS_REGISTER_CLOCK, &monotonic, 0) == 0) {
        granted |= 1u << WSR_URING_ABS_TIMER;
        *enter_flags |= WSR_URING_ENTER_ABS_TIMER;
    }
    if ((want & 1u << WSR_URING_MIN_WAIT) != 0 && (ring->features & OURS_FEAT_MIN_TIMEOUT) != 0)
        granted |= 1u << WSR_URING_MIN_WAIT;
    struct napi napi = { .busy_poll_us = napi_us, .prefer_busy_poll = 1 };
    if ((want & 1u << WSR_URING_NAPI) != 0 && napi_us > 0 &&
        io_uring_register((unsigned)ring->ring_fd, OURS_REGISTER_NAPI, &napi, 1) == 0)
        granted |= 1u << WSR_URING_NAPI;
    return granted;
}

/* What the kernel has and this driver leaves alone: bundles had bugs that swap bytes. */
static void tell_unused(const struct io_uring *ring, struct wsr_uring_report *report)
{
    struct utsname system = { .release = "unknown" };
    uname(&system);
    snprintf(report->text, sizeof report->text, "io_uring works on Linux %.64s; there and not used:%s.",
             system.release, ring->features & OURS_FEAT_RECVSEND_BUNDLE ? " bundles" : " nothing");
}

void wsr_uring_probe(struct wsr_uring_report *report)
{
    const struct wsr_uring_options small = { .entries_count = 8, .completions_count = 16 };
    uint32_t off = wsr_uring_probe_switched_off();
    unsigned enter_flags = 0;
    struct io_uring ring;
    int enter_fd;

    *report = (struct wsr_uring_report){ 0 };
    if (wsr_uring_probe_open(&ring, NULL, &small, off, report) != 0) {
        wsr_uring_probe_words(report->missing, sizeof report->missing, WSR_URING_STEPS_ALL);
        return;
    }
    uint32_t granted = WSR_URING_STEPS_BASE | wsr_uring_probe_climb(&ring, off, 1, &enter_fd, &enter_flags);
    if ((off & 1u << WSR_URING_DIRECT_FILES) == 0 && wsr_uring_direct_try() == 0)
        granted |= 1u << WSR_URING_DIRECT_FILES;
    wsr_uring_probe_tell(report, granted, WSR_URING_STEPS_ALL & ~granted);
    tell_unused(&ring, report);
    io_uring_queue_exit(&ring);
}
