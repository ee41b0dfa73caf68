#include "tests/support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

unsigned files_open(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static char directory[] = "/tmp/wsring-test-XXXXXX";
static pid_t owner;                /* 0: not made yet; a child of this process must not remove it */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

static void remove_directory(void)
{
    if (getpid() == owner)
        nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *files_path(const char *name)
{
    static char paths[64][160];    /* kept, as many as tests ask for */
    static unsigned count;
    if (owner == 0) {
        assert_non_null(mkdtemp(directory));
        owner = getpid();
        atexit(remove_directory);
    }
    char path[160];
    assert_in_range(snprintf(path, sizeof path, *name != '\0' ? "%s/%s" : "%s%s", directory, name), 1, sizeof path - 1);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    }
    assert_true(count < sizeof paths / sizeof *paths);
    memcpy(paths[count], path, sizeof path);
    return paths[count++];
}

const char *files_write(const char *name, const void *data, size_t len)
{
    const char *path = files_path(name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(write(file, data, len), len);
    close(file);
    return path;
}
