/* SPDX-License-Identifier: MIT */
#include "proc.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

double wsr_proc_bytes(const char *path, const char *name)
{
    char line[256];
    double bytes = -1;
    size_t len = strlen(name);
    FILE *file = fopen(path, "re");
    while (file != NULL && bytes < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, len) == 0)
            bytes = (double)strtoull(line + len, NULL, 10) * 1024;
    }
    if (file != NULL)
        fclose(file);
    return bytes;
}

int wsr_proc_apart(int (*run)(void *context), void *context, void *result, size_t bytes)
{
    int ends[2], status = -1;
    if (pipe(ends) != 0)
        return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        bool ok = run(context) == 0 && write(ends[1], result, bytes) == (ssize_t)bytes;
        _exit(ok ? 0 : 1);
    }
    close(ends[1]);
    bool ok = pid > 0 && read(ends[0], result, bytes) == (ssize_t)bytes;
    close(ends[0]);
    if (pid > 0)
        waitpid(pid, &status, 0);
    return ok && status == 0 ? 0 : -1;
}
