/* The sub-commands of wsring as a user runs them, each in a process of its own. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define PROGRAM_WORDS_MAX 40

typedef int (*program_command)(int argc, char **argv);

/* Limit of open files of what is started from now on; 0 = as for this process. */
extern rlim_t program_files_max;

/* @words end with NULL. Standard output goes to @out, standard error to @err, or nowhere when that is -1. */
pid_t program_start(program_command command, const char *const *words, int out, int err);
/* Waits for it. Returns its exit status. */
int program_end(pid_t pid);

/* Run it to its end; what it said on both is in program_output. Returns its exit status. */
int program_run(program_command command, const char *const *words);
/* The same for wsring load: "-q -o json -c 2 -p 4 URL" and @options, which end with NULL, and win. */
int program_load(const char *url, const char *const *options);
#define LOAD(url, ...) program_load(url, (const char *const[]){ __VA_ARGS__, NULL })
/* The same in two parts, for a signal in between. */
pid_t program_load_start(const char *url, const char *const *options);
int program_load_end(pid_t pid);

extern char program_output[65536];
/* program_output has @text, or the test fails. */
void program_says(const char *text);

/* wsring echo. */
struct program_echo {
    pid_t pid;
    int said;            /* its standard error */
    uint16_t port;
    bool is_v6;
    char address[64];    /* "127.0.0.1:PORT" */
    char url[80];        /* "ws://127.0.0.1:PORT/", or wss: */
};

/* Until it listens; @options end with NULL. */
void program_echo_start(struct program_echo *echo, const char *const *options);
#define ECHO_START(echo, ...) program_echo_start(echo, (const char *const[]){ __VA_ARGS__, NULL })
/* SIGTERM; fails the test unless it ends with 0. What it said is in program_output. */
void program_echo_stop(struct program_echo *echo);

#endif
