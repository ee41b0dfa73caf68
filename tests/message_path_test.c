/* What every message passes, through all modules: neither an allocation nor a lock, once everything was used before.
 * Each scene is a process of its own. While it is watched, every call that allocates, frees, maps or locks is counted,
 * whoever makes it, the libraries below included; and a filter ends the process at the first system call that would
 * wait for a lock or change the address space.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/own_malloc.h"
#include "tests/support/peer.h"
#include "wsring.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define NS_PER_S 1000000000ull

#ifdef HAS_OWN_MALLOC

/* The sanitizer's own allocations and locks would be counted. */
static void neither_allocation_nor_lock(void **state)
{
    (void)state;
    skip();
}

#else

/* ---- What is counted ---- */

/* Shared with the parent. */
struct findings {
    _Atomic uint64_t count;                    /* of calls while watched */
    _Atomic(const char *) call;                /* one of them; the parent is the same program */
    _Atomic int system_call;                   /* that the filter refused */
    _Atomic(const char *) trouble;             /* what went wrong besides */
};

static struct findings *findings;
static _Atomic bool is_watched;

static void note(const char *call)
{
    if (!atomic_load_explicit(&is_watched, memory_order_relaxed))
        return;
    atomic_fetch_add_explicit(&findings->count, 1, memory_order_relaxed);
    atomic_store_explicit(&findings->call, call, memory_order_relaxed);
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* In place of the function in the C library, which it calls in the end. */
#define COUNTED(type, name, parameters, arguments)                                                                    \
    type name parameters                                                                                              \
    {                                                                                                                 \
        static type (*own) parameters;                                                                                \
        note(#name);                                                                                                  \
        if (own == NULL)                                                                                              \
            own = (type (*) parameters)(uintptr_t)real(#name);                                                        \
        return own arguments;                                                                                         \
    }

/* These are called by dlsym() too. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *memory);

void *malloc(size_t bytes)
{
    note("malloc");
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    note("calloc");
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    note("realloc");
    return __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    note("aligned_alloc");
    return __libc_memalign(alignment, bytes);
}

void free(void *memory)
{
    if (memory != NULL)
        note("free");
    __libc_free(memory);
}

COUNTED(int, posix_memalign, (void **to, size_t alignment, size_t bytes), (to, alignment, bytes))
COUNTED(void *, mmap, (void *at, size_t bytes, int protection, int flags, int fd, off_t offset),
        (at, bytes, protection, flags, fd, offset))
COUNTED(int, munmap, (void *memory, size_t bytes), (memory, bytes))
COUNTED(int, madvise, (void *memory, size_t bytes, int advice), (memory, bytes, advice))
COUNTED(int, mprotect, (void *memory, size_t bytes, int protection), (memory, bytes, protection))
COUNTED(int, brk, (void *end), (end))
COUNTED(void *, sbrk, (intptr_t by), (by))
COUNTED(int, pthread_mutex_lock, (pthread_mutex_t *lock), (lock))
COUNTED(int, pthread_mutex_trylock, (pthread_mutex_t *lock), (lock))
COUNTED(int, pthread_mutex_timedlock, (pthread_mutex_t *lock, const struct timespec *until), (lock, until))
COUNTED(int, pthread_rwlock_rdlock, (pthread_rwlock_t *lock), (lock))
COUNTED(int, pthread_rwlock_wrlock, (pthread_rwlock_t *lock), (lock))
COUNTED(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t *lock), (lock))
COUNTED(int, pthread_rwlock_trywrlock, (pthread_rwlock_t *lock), (lock))
COUNTED(int, pthread_spin_lock, (pthread_spinlock_t *lock), (lock))
COUNTED(int, pthread_spin_trylock, (pthread_spinlock_t *lock), (lock))
COUNTED(int, pthread_cond_wait, (pthread_cond_t *cond, pthread_mutex_t *lock), (cond, lock))
COUNTED(int, pthread_cond_timedwait, (pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until),
        (cond, lock, until))
COUNTED(int, pthread_cond_signal, (pthread_cond_t *cond), (cond))
COUNTED(int, pthread_cond_broadcast, (pthread_cond_t *cond), (cond))
COUNTED(int, pthread_barrier_wait, (pthread_barrier_t *barrier), (barrier))
COUNTED(int, sem_wait, (sem_t *semaphore), (semaphore))
COUNTED(int, sem_trywait, (sem_t *semaphore), (semaphore))
COUNTED(int, sem_post, (sem_t *semaphore), (semaphore))

/* ---- The filter ---- */

static void on_refused(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    atomic_store_explicit(&findings->system_call, info->si_syscall, memory_order_relaxed);
    _exit(1);
}

static void leave(const char *trouble)
{
    atomic_store_explicit(&findings->trouble, trouble, memory_order_relaxed);
    _exit(1);
}

/* For every thread of this process, for the rest of its life. */
static void refuse_calls(void)
{
    static const uint32_t refused[] = { SYS_futex, SYS_mmap, SYS_munmap, SYS_mremap, SYS_brk, SYS_madvise,
                                        SYS_mprotect };
    struct sock_filter code[1 + 2 * COUNT(refused) + 1];
    struct sock_fprog program = { COUNT(code), code };
    struct sigaction action = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO };
    size_t at = 0;
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < COUNT(refused); i++) {
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[i], 0, 1);
        code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    }
    code[at] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    sigaction(SIGSYS, &action, NULL);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        leave("there is no filter");
}

/* ---- Scenes ---- */

enum way {
    BULK,            /* the server sends many small texts; the consumer takes what there is */
    SLOWLY,          /* the same, one by one and with pauses */
    ECHO_HERE,       /* what comes goes back: sent by the thread that polls */
    ECHO_ELSEWHERE,  /* by another thread */
    HOLD_HERE,       /* as ECHO_HERE, and each message is held while others come */
    HOLD_ELSEWHERE,  /* and another thread releases it */
    WAYS_COUNT
};

#define SCRIPT "upgrade; echo; expect ping; texts 20000; expect ping; texts 20000"
#define BULK_COUNT 20000u
#define ECHOES_COUNT 5000u           /* more than the mask keys of one batch, several times */
#define IN_FLIGHT 32u
#define HOLDS_COUNT 8u               /* at a time */
#define WARM_HOLDS_COUNT 800u        /* more than half of the buffers, which is when they are scarce */

struct scene {
    struct wsr_engine *engine;
    struct wsr_socket *socket;
    enum way way;
    uint64_t received;
    _Atomic(struct wsr_hold *) holds[HOLDS_COUNT];
    _Atomic uint64_t due;                      /* messages that the other thread is to send; it counts nothing else */
};

static uint8_t bytes[2000];

/* Text and binary, of many lengths, in one part and in three. */
static void send_one(struct wsr_socket *socket, uint64_t number, const void *data, size_t len)
{
    enum wsr_kind kind = number % 2 == 0 ? WSR_TEXT : WSR_BINARY;
    struct iovec parts[3] = { { (void *)(uintptr_t)data, len / 3 } };
    parts[1] = (struct iovec){ (uint8_t *)parts[0].iov_base + len / 3, len / 2 };
    parts[2] = (struct iovec){ (uint8_t *)parts[1].iov_base + len / 2, len - len / 3 - len / 2 };
    int rc = number % 3 == 0 ? wsr_send_gather(socket, kind, parts, 3) : wsr_send(socket, kind, data, len);
    if (rc != 0)
        leave("a message is not taken");
}

static size_t length_of(uint64_t number)
{
    static const size_t lengths[] = { 1, 40, 125, 126, 300, 7, 1500, 64, 20, 2000 };
    return lengths[number % COUNT(lengths)];
}

static void keep_for_a_while(struct scene *scene, const struct wsr_event *event)
{
    struct wsr_hold *hold = wsr_event_hold(event);
    if (hold == NULL)
        leave("a message cannot be held");
    /* Acquire-release, also in send_elsewhere(): whoever has taken a hold out of its place releases it. */
    wsr_hold_release(atomic_exchange_explicit(&scene->holds[scene->received % HOLDS_COUNT], hold,
                                              memory_order_acq_rel));
}

static void on_message(struct scene *scene, const struct wsr_event *event)
{
    scene->received++;
    if (scene->way == SLOWLY && scene->received % 512 == 0)
        nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
    if (scene->way == HOLD_HERE || scene->way == HOLD_ELSEWHERE)
        keep_for_a_while(scene, event);
    if (scene->way == ECHO_ELSEWHERE)
        atomic_fetch_add_explicit(&scene->due, 1, memory_order_relaxed);
    else if (scene->way > SLOWLY)
        send_one(scene->socket, scene->received, event->data, event->len);
}

static void *send_elsewhere(void *context)
{
    struct scene *scene = context;
    for (uint64_t sent = 0;; sched_yield()) {
        /* Relaxed: a number alone. */
        for (; sent < atomic_load_explicit(&scene->due, memory_order_relaxed); sent++)
            send_one(scene->socket, sent, bytes, length_of(sent));
        for (size_t i = 0; scene->way == HOLD_ELSEWHERE && i < HOLDS_COUNT; i++)
            wsr_hold_release(atomic_exchange_explicit(&scene->holds[i], NULL, memory_order_acq_rel));
    }
    return NULL;
}

/* Take events until @count messages have come in all. */
static void take_until(struct scene *scene, uint64_t count)
{
    struct wsr_event events[64];
    while (scene->received < count) {
        int taken = wsr_poll(scene->engine, 0, events, scene->way == SLOWLY ? 1 : COUNT(events), NS_PER_S);
        if (taken < 0)
            leave("the engine failed");
        for (int i = 0; i < taken; i++) {
            if (events[i].type == WSR_EVENT_MESSAGE)
                on_message(scene, &events[i]);
            else if (events[i].type != WSR_EVENT_PONG)
                leave("the connection ended");
        }
    }
}

static struct wsr_event await_event(struct scene *scene, enum wsr_event_type type)
{
    struct wsr_event event = { 0 };
    for (unsigned polls = 0; polls < 60; polls++) {
        if (wsr_poll(scene->engine, 0, &event, 1, NS_PER_S) == 1 && event.type == type)
            return event;
    }
    leave("an event did not come");
    return event;
}

/* Messages that straddle two buffers are copied. Memory for that is kept, once there is some: hold messages of each
 * size until buffers are scarce and more of them than are kept were copied. */
static void warm_memory(struct scene *scene)
{
    static struct wsr_hold *holds[WARM_HOLDS_COUNT];
    static const size_t sizes[] = { 1500, 2000, 1000, 500, 200 };
    for (size_t i = 0; i < WARM_HOLDS_COUNT; i++) {
        send_one(scene->socket, i, bytes, sizes[i * COUNT(sizes) / WARM_HOLDS_COUNT]);
        struct wsr_event event = await_event(scene, WSR_EVENT_MESSAGE);
        holds[i] = wsr_event_hold(&event);
    }
    for (size_t i = 0; i < WARM_HOLDS_COUNT; i++)
        wsr_hold_release(holds[i]);
}

/* One round of the scene: what comes first warms up what the second does. */
static void go_round(struct scene *scene)
{
    if (scene->way <= SLOWLY) {
        if (wsr_ping(scene->socket, NULL, 0) != 0)
            leave("a Ping is not taken");
        take_until(scene, scene->received + BULK_COUNT);
    } else {
        take_until(scene, scene->received + ECHOES_COUNT);
    }
}

/* What the events of the round before have lent is given back: a worker that sleeps does so when it is woken. */
static void settle(struct scene *scene)
{
    struct wsr_engine_statistics statistics = WSR_ENGINE_STATISTICS_INIT;
    struct wsr_event event;
    if (scene->way > SLOWLY)
        return;                                /* there is no end of it */
    do {
        if (wsr_poll(scene->engine, 0, &event, 1, NS_PER_S / 1000) == 1 && event.type != WSR_EVENT_PONG)
            leave("more came than was asked for");
        if (wsr_pause(scene->socket) != 0 || wsr_resume(scene->socket) != 0)
            leave("the socket does not pause");
        wsr_engine_statistics(scene->engine, &statistics);
    } while (statistics.buffers_lent + statistics.loan_bytes > 0);
}

static void begin_echoes(struct scene *scene)
{
    pthread_t thread;
    for (unsigned i = 0; scene->way > SLOWLY && i < IN_FLIGHT; i++)
        send_one(scene->socket, i, bytes, length_of(i));
    if ((scene->way == ECHO_ELSEWHERE || scene->way == HOLD_ELSEWHERE) &&
        pthread_create(&thread, NULL, send_elsewhere, scene) != 0)
        leave("there is no thread");
}

static void run_scene(enum way way, const struct wsr_engine_options *options, const char *url)
{
    static struct scene scene;
    scene.way = way;
    memset(bytes, 'm', sizeof bytes);
    if (wsr_engine_create(&scene.engine, options) != 0 ||
        wsr_socket_open(scene.engine, url, WSR_ZSTRING, NULL, 0, NULL, &scene.socket) != 0)
        leave("there is no socket");
    wsr_socket_set_binary_type(scene.socket, WSR_ARRAYBUFFER);
    await_event(&scene, WSR_EVENT_OPEN);
    warm_memory(&scene);
    begin_echoes(&scene);
    go_round(&scene);
    settle(&scene);
    refuse_calls();
    atomic_store_explicit(&is_watched, true, memory_order_relaxed);
    go_round(&scene);
    atomic_store_explicit(&is_watched, false, memory_order_relaxed);
    _exit(0);
}

static void expect_no_cost(enum way way, const struct wsr_engine_options *options)
{
    struct peer *peer = peer_start(SCRIPT, 0);
    int status = -1;
    *findings = (struct findings){ 0 };
    pid_t child = fork();
    if (child == 0)
        run_scene(way, options, peer_url(peer));
    assert_int_equal(waitpid(child, &status, 0), child);
    peer_stop(peer);
    if (status == 0 && findings->count == 0)
        return;
    fail_msg("way %d, %u workers, wait %u: %s; status %x, system call %d, %llu calls, one of them of %s", (int)way,
             options->workers_count, options->wait, findings->trouble != NULL ? findings->trouble : "it was run",
             (unsigned)status, findings->system_call, (unsigned long long)findings->count,
             findings->call != NULL ? findings->call : "nothing");
}

/* Every way of taking and sending, with every way of waiting, on the own thread and with a worker. */
static void neither_allocation_nor_lock(void **state)
{
    (void)state;
    findings = mmap(NULL, sizeof *findings, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(findings, MAP_FAILED);
    for (unsigned way = 0; way < WAYS_COUNT; way++) {
        for (uint32_t wait = WSR_WAIT_BLOCK; wait <= WSR_WAIT_ADAPTIVE; wait++) {
            for (uint32_t workers = 0; workers < 2; workers++) {
                struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
                options.workers_count = workers;
                options.wait = wait;
                expect_no_cost((enum way)way, &options);
            }
        }
    }
    munmap(findings, sizeof *findings);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neither_allocation_nor_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
