/* What every file may include: byte order, views, attributes. Nothing here has a .c file. */
#ifndef WSR_BASE_H
#define WSR_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wsring.h"

#define WSR_LIKELY(x) __builtin_expect(!!(x), 1)
#define WSR_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define WSR_CACHE_LINE 64
#define WSR_ALIGNED(n) __attribute__((aligned(n)))
#define WSR_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define wsr_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define WSR_NS_PER_MS 1000000ull
#define WSR_NS_PER_S 1000000000ull

/* A view: who owns the bytes, and for how long they live, is said where it is handed over. */
struct wsr_bytes {
    const uint8_t *data;
    size_t len;
};

/* What was wrong with an input: the place, and a static sentence that also says what would be right. */
struct wsr_fault {
    size_t at;
    const char *text;
};

static inline struct wsr_bytes wsr_bytes_of(const void *data, size_t len)
{
    return (struct wsr_bytes){ data, len };
}

static inline struct wsr_bytes wsr_bytes_of_string(const char *text)
{
    return (struct wsr_bytes){ (const uint8_t *)text, strlen(text) };
}

static inline bool wsr_bytes_equal(struct wsr_bytes a, struct wsr_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline uint16_t wsr_load_be16(const uint8_t *from)
{
    return (uint16_t)(from[0] << 8 | from[1]);
}

static inline uint64_t wsr_load_be64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return __builtin_bswap64(value);
}

static inline void wsr_store_be16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
}

static inline void wsr_store_be64(uint8_t *to, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(to, &value, sizeof value);
}

/* Tell the CPU that this is a loop that waits. */
static inline void wsr_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "wsring is built for little-endian machines only"
#endif

#endif
