#include "tests/support/guard.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void guard_open(struct guard *guard, size_t min_bytes)
{
    size_t page = page_bytes();
    size_t inside = (min_bytes + page - 1) / page * page;
    uint8_t *map = mmap(NULL, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED || mprotect(map + page, inside, PROT_READ | PROT_WRITE) != 0)
        abort();
    guard->begin = map + page;
    guard->end = guard->begin + inside;
}

void guard_close(struct guard *guard)
{
    size_t page = page_bytes();

    munmap(guard->begin - page, (size_t)(guard->end - guard->begin) + 2 * page);
    guard->begin = NULL;
    guard->end = NULL;
}

uint8_t *guard_tail(const struct guard *guard, size_t len)
{
    assert(len <= (size_t)(guard->end - guard->begin));
    return guard->end - len;
}
