/* The SIMD core: one table of kernels, filled once. The portable one is the specification of all others. */
#ifndef WSR_SIMD_H
#define WSR_SIMD_H

#include <stddef.h>
#include <stdint.h>

/* One level. Every function may be called from any thread and touches no byte outside its arguments. */
struct wsr_simd {
    const char *name;   /* as WSRING_SIMD spells it: "portable", "sse4.1", "avx2", "avx512", "neon" */

    /* XOR data[i] with key[(i + phase) % 4]; phase 0 to 3. RFC 6455 5.3. */
    void (*mask)(uint8_t *data, size_t len, const uint8_t key[4], unsigned phase);

    /* The same from @from to @to, which do not overlap; @from is only read (SEND-06). */
    void (*mask_copy)(uint8_t *to, const uint8_t *from, size_t len, const uint8_t key[4], unsigned phase);

    /*
     * Go on validating UTF-8. *state is 0 at first and whenever the bytes so far end with a whole code point; other
     * values are the kernel's own, the same for every level. Returns @len when all bytes may stand (then *state is
     * updated), else the index of the first byte that no valid text can have there (then *state is void).
     * Fail-fast: RFC 6455 8.1; the set of RFC 3629 4, which excludes surrogates, overlong forms and > U+10FFFF.
     */
    size_t (*utf8)(uint32_t *state, const uint8_t *in, size_t len);
};

/* The level in use. Chosen on the first call: the best that the CPU has, or the one that the environment variable
 * WSRING_SIMD names. A name that is unknown or not supported by this CPU is not obeyed: see wsr_simd_choice_text().
 * Any thread. */
const struct wsr_simd *wsr_simd(void);

/* Levels that this CPU can run, portable first; ends with NULL. For tests. */
const struct wsr_simd *const *wsr_simd_levels(void);

/* "" or one sentence on why WSRING_SIMD was not obeyed. */
const char *wsr_simd_choice_text(void);

#endif
