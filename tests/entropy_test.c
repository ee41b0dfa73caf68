/* engine/entropy.c: nothing twice, nothing left behind, nothing shared with a forked child.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/entropy.h"

/* With 2^20 bytes the counts of a fair source lie within 4096 +- 64 (one sigma); eight sigma never happen. */
static void every_byte_value_is_about_equally_frequent(void **state)
{
    (void)state;
    struct wsr_entropy entropy = { 0 };
    unsigned counts[256] = { 0 };
    for (unsigned i = 0; i < 1u << 18; i++) {
        uint8_t key[4];
        wsr_entropy_take(&entropy, key, sizeof key);
        for (unsigned j = 0; j < sizeof key; j++)
            counts[key[j]]++;
    }
    for (unsigned value = 0; value < 256; value++)
        assert_in_range(counts[value], 4096 - 512, 4096 + 512);
}

/* RFC 6455 5.3: a mask key must not be predictable from the one before; least of all the same. */
static void bytes_are_handed_out_once_across_batches(void **state)
{
    (void)state;
    struct wsr_entropy entropy = { 0 };
    uint8_t before[16] = { 0 };
    for (unsigned i = 0; i < 3 * WSR_ENTROPY_BATCH / 16; i++) {
        uint8_t now[16];
        wsr_entropy_take(&entropy, now, sizeof now);
        assert_memory_not_equal(now, before, sizeof now);
        memcpy(before, now, sizeof now);
    }
}

static void what_was_handed_out_is_wiped(void **state)
{
    (void)state;
    struct wsr_entropy entropy = { 0 };
    static const uint8_t zeros[WSR_ENTROPY_BATCH];
    uint8_t out[100];
    for (unsigned taken = sizeof out; taken <= WSR_ENTROPY_BATCH; taken += sizeof out) {
        wsr_entropy_take(&entropy, out, sizeof out);
        assert_int_equal(entropy.left, WSR_ENTROPY_BATCH - taken);
        assert_memory_equal(entropy.batch, zeros, taken);
        assert_memory_not_equal(entropy.batch + taken, zeros, WSR_ENTROPY_BATCH - taken);
    }
}

static void a_whole_batch_and_nothing_are_allowed(void **state)
{
    (void)state;
    struct wsr_entropy entropy = { 0 };
    static uint8_t out[WSR_ENTROPY_BATCH];
    static const uint8_t zeros[WSR_ENTROPY_BATCH];
    for (unsigned round = 0; round < 3; round++) {
        memset(out, 0, sizeof out);
        wsr_entropy_take(&entropy, out, sizeof out);
        assert_memory_not_equal(out, zeros, sizeof out);
        assert_int_equal(entropy.left, 0);
        wsr_entropy_take(&entropy, out, 0);
    }
}

/* What @entropy gives in a child of this process. */
static void take_in_child(const struct wsr_entropy *entropy, unsigned depth, uint8_t out[16])
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct wsr_entropy own = *entropy;
        uint8_t mine[16];
        if (depth > 1 && fork() != 0) {
            wait(NULL);
            _exit(0);
        }
        wsr_entropy_take(&own, mine, sizeof mine);
        _exit(write(ends[1], mine, sizeof mine) == sizeof mine ? 0 : 1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], out, 16), 16);
    close(ends[0]);
    waitpid(child, NULL, 0);
}

/* RFC 6455 10.3 */
static void a_forked_child_takes_other_bytes_than_its_parent(void **state)
{
    (void)state;
    struct wsr_entropy entropy = { 0 };
    uint8_t bytes[4][16];
    wsr_entropy_take(&entropy, bytes[0], 16);
    take_in_child(&entropy, 1, bytes[1]);
    take_in_child(&entropy, 1, bytes[2]);
    take_in_child(&entropy, 2, bytes[3]);
    wsr_entropy_take(&entropy, bytes[0], 16);
    for (unsigned a = 0; a < 4; a++) {
        for (unsigned b = 0; b < a; b++)
            assert_memory_not_equal(bytes[a], bytes[b], 16);
    }
}

static void *take_much(void *argument)
{
    (void)argument;
    static _Thread_local struct wsr_entropy entropy;
    uint8_t out[32];
    for (unsigned i = 0; i < 10000; i++)
        wsr_entropy_take(&entropy, out, sizeof out);
    return NULL;
}

static void threads_with_streams_of_their_own_do_not_meet(void **state)
{
    (void)state;
    pthread_t threads[3];
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_much, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

/* In a child, which would end itself if it asked the kernel once more. */
static void the_kernel_gives_the_seed_alone(void **state)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getrandom, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    struct wsr_entropy entropy = { 0 };
    uint8_t out[64];
    int status = -1;
    (void)state;
    pid_t child = fork();
    if (child != 0) {
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        return;
    }
    wsr_entropy_take(&entropy, out, sizeof out);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(77);
    for (unsigned i = 0; i < 1000 * WSR_ENTROPY_BATCH / sizeof out; i++)
        wsr_entropy_take(&entropy, out, sizeof out);
    _exit(0);
}

static bool is_ending;               /* in a child */

/* Called by exit(3), after OpenSSL has freed what it has: this thread takes, one that begins, and one that goes on. */
static void take_at_the_end(void)
{
    pthread_t thread;
    if (!is_ending)
        return;
    take_much(NULL);
    if (pthread_create(&thread, NULL, take_much, NULL) != 0 || pthread_join(thread, NULL) != 0)
        _exit(1);
}

static void *take_without_end(void *argument)
{
    for (;;)
        take_much(argument);
    return NULL;
}

static void keys_can_be_had_until_the_process_has_ended(void **state)
{
    int status = -1;
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        is_ending = true;
        if (pthread_create(&thread, NULL, take_without_end, NULL) != 0)
            _exit(1);
        usleep(5000);
        exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    atexit(take_at_the_end);         /* before OpenSSL's own, so that it is called behind it */
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_value_is_about_equally_frequent),
        cmocka_unit_test(bytes_are_handed_out_once_across_batches),
        cmocka_unit_test(what_was_handed_out_is_wiped),
        cmocka_unit_test(a_whole_batch_and_nothing_are_allowed),
        cmocka_unit_test(a_forked_child_takes_other_bytes_than_its_parent),
        cmocka_unit_test(threads_with_streams_of_their_own_do_not_meet),
        cmocka_unit_test(the_kernel_gives_the_seed_alone),
        cmocka_unit_test(keys_can_be_had_until_the_process_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
