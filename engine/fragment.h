/* How a message is cut into frames (SEND-12), and the chunks that they take. */
#ifndef WSR_FRAGMENT_H
#define WSR_FRAGMENT_H

#include "entropy.h"
#include "frame.h"
#include "slab.h"

struct wsr_fragment_cut {
    uint64_t frames_count;
    uint64_t payload_bytes;          /* of each frame but the last */
    uint64_t last_bytes;             /* of the last */
    uint64_t together_count;         /* frames that share a chunk, the last frame never */
};

/* A message of @len bytes in frames of at most @fragment_bytes, 0 = in one. */
struct wsr_fragment_cut wsr_fragment_cut(uint64_t len, uint64_t fragment_bytes);

/* Could @slab ever hold it? */
bool wsr_fragment_fits(const struct wsr_fragment_cut *cut, const struct wsr_slab *slab);

/* Chunks for all frames, each run of them that shares one, or needs several, beginning where a frame begins. NULL when
 * @slab is exhausted. */
struct wsr_chunk *wsr_fragment_take(const struct wsr_fragment_cut *cut, struct wsr_slab *slab);

/* Where the payload comes from, and the keys that mask it. */
struct wsr_fragment_source {
    struct wsr_bytes (*read)(void *reader);      /* the next bytes; of length 0 when there are no more */
    void *reader;
    struct wsr_entropy *entropy;                 /* NULL = keys of zeros */
};

/* Fill @chunk and those behind it, as wsr_fragment_take() has given them for @cut, with the frames of a message: the
 * only copy of its payload, masked on the way. @first is of the first frame: its opcode, and RSV bits in place. */
void wsr_fragment_write(struct wsr_chunk *chunk, const struct wsr_fragment_cut *cut, uint8_t first,
                        const struct wsr_fragment_source *source);

#endif
