/* SPDX-License-Identifier: MIT */
#include "tests/support/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/command.h"

rlim_t program_files_max;
char program_output[65536];

/* exit() and not _exit(), so that a leak is seen by whoever looks for leaks at a program's end. */
pid_t program_start(program_command command, const char *const *words, int out, int err)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    const struct rlimit files = { program_files_max, program_files_max };
    if (program_files_max > 0 && setrlimit(RLIMIT_NOFILE, &files) != 0)
        _exit(98);
    char *argv[PROGRAM_WORDS_MAX];
    int argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = (char *)(uintptr_t)words[argc];
    if (err < 0)
        err = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0)
        _exit(99);
    exit(command(argc, argv));
}

int program_end(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int make_file(void)
{
    int fd = memfd_create("output", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Takes @fd's content and closes it. */
static void take(int fd)
{
    ssize_t len = pread(fd, program_output, sizeof program_output - 1, 0);
    assert_true(len >= 0);
    program_output[len] = '\0';
    close(fd);
}

void program_says(const char *text)
{
    if (strstr(program_output, text))
        return;
    fprintf(stderr, "%s\n", program_output);      /* more than a message of cmocka's holds */
    fail_msg("there is no %s in it", text);
}

int program_run(program_command command, const char *const *words)
{
    int out = make_file();
    int status = program_end(program_start(command, words, out, out));
    take(out);
    return status;
}

/* ---- wsring load ---- */

static int load_out;

pid_t program_load_start(const char *url, const char *const *options)
{
    const char *words[PROGRAM_WORDS_MAX] = { "-q", "-o", "json", "-c", "2", "-p", "4", url };
    int count = 8;
    for (; *options; options++)
        words[count++] = *options;
    load_out = make_file();
    return program_start(wsr_load_main, words, load_out, -1);
}

int program_load_end(pid_t pid)
{
    int status = program_end(pid);
    take(load_out);
    return status;
}

int program_load(const char *url, const char *const *options)
{
    return program_load_end(program_load_start(url, options));
}

/* ---- wsring echo ---- */

void program_echo_start(struct program_echo *echo, const char *const *options)
{
    int ends[2];
    char line[192] = "", url[64] = "";
    *echo = (struct program_echo){ .said = make_file() };
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    echo->pid = program_start(wsr_echo_main, options, ends[1], echo->said);
    close(ends[1]);
    FILE *from = fdopen(ends[0], "r");
    assert_non_null(from);
    if (!fgets(line, sizeof line, from)) {
        take(echo->said);
        fail_msg("the echo server does not start: %s", program_output);
    }
    fclose(from);
    int found = sscanf(line, "listening on %63s (wss://%63[^/]/)", echo->address, url);
    assert_true(found == 1 || (found == 2 && strcmp(url, echo->address) == 0));
    snprintf(echo->url, sizeof echo->url, "%s://%s/", found == 2 ? "wss" : "ws", echo->address);
    echo->port = (uint16_t)strtoul(strrchr(echo->address, ':') + 1, NULL, 10);
    echo->is_v6 = echo->address[0] == '[';
}

void program_echo_stop(struct program_echo *echo)
{
    kill(echo->pid, SIGTERM);
    int status = program_end(echo->pid);
    take(echo->said);
    if (status != 0)
        fail_msg("the echo server ended with %d: %s", status, program_output);
}
