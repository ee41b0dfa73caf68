/* wsring: one program, its work in sub-commands.
 * SPDX-License-Identifier: MIT
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "wsring.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct command commands[] = {
    { "load", wsr_load_main, "echo load against a WebSocket server, every echo verified" },
    { "echo", wsr_echo_main, "a WebSocket echo server on io_uring" },
    { "doctor", wsr_doctor_main, "what this machine offers, what is missing, and how to mend it" },
};
#define COMMANDS_COUNT (sizeof commands / sizeof commands[0])

static void write_help(FILE *to)
{
    fprintf(to, "usage: wsring COMMAND [ARGUMENT...]\n\n");
    for (size_t i = 0; i < COMMANDS_COUNT; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(to, "\n  --version  the version\n"
                "  --help     this text; \"wsring COMMAND --help\" has the options of COMMAND\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "wsring: a command is missing\n\n");
        write_help(stderr);
        return WSR_COMMAND_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        write_help(stdout);
        return WSR_COMMAND_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("wsring %s\n", WSR_VERSION);
        return WSR_COMMAND_OK;
    }
    for (size_t i = 0; i < COMMANDS_COUNT; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    }
    fprintf(stderr, "wsring: there is no command \"%s\"; \"wsring --help\" lists the commands\n", argv[1]);
    return WSR_COMMAND_USAGE;
}
