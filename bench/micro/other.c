/* SPDX-License-Identifier: MIT */
#include "other.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int wsr_other_open(struct wsr_other *other, const char *command)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        fprintf(stderr, "wsring-micro: socketpair: %s\n", strerror(errno));
        return -1;
    }
    fflush(stdout);
    other->child = fork();
    if (other->child == 0) {
        dup2(ends[1], STDIN_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int child_errno = errno;
    close(ends[1]);
    if (other->child < 0) {
        close(ends[0]);
        fprintf(stderr, "wsring-micro: fork: %s\n", strerror(child_errno));
        return -1;
    }
    int again = dup(ends[0]);   /* a stream that goes one way only needs no seek between reading and writing */
    other->to = fdopen(ends[0], "w");
    other->from = again < 0 ? NULL : fdopen(again, "r");
    if (other->to == NULL || other->from == NULL) {
        fprintf(stderr, "wsring-micro: fdopen: %s\n", strerror(errno));
        if (other->to == NULL)
            close(ends[0]);
        if (other->from == NULL)
            close(again);
        wsr_other_close(other);
        return -1;
    }
    return 0;
}

int wsr_other_run(struct wsr_other *other, const uint8_t *text, size_t len, uint64_t slice_ns,
                  struct wsr_row_measure *out)
{
    fprintf(other->to, "%zu %llu\n", len, (unsigned long long)slice_ns);
    fwrite(text, 1, len, other->to);
    if (fflush(other->to) != 0 || fscanf(other->from, "%lf %lf", &out->value, &out->client_busy) != 2) {
        fprintf(stderr, "wsring-micro: the other validator has ended\n");
        return -1;
    }
    return 0;
}

void wsr_other_close(struct wsr_other *other)
{
    if (other->to != NULL)
        fclose(other->to);
    if (other->from != NULL)
        fclose(other->from);
    waitpid(other->child, NULL, 0);
}
