/* Cutting messages into frames. */
#include "fragment.h"

#include "simd/simd.h"

/* Frames of one chunk together, when several fit: a chunk of the middle class, so that a Pong finds a frame boundary
 * soon, and as many of them as that class has. */
#define FRAMES_BYTES 4000u

static uint64_t frame_bytes(uint64_t payload_bytes)
{
    return wsr_frame_head_bytes(payload_bytes, true) + payload_bytes;
}

struct wsr_fragment_cut wsr_fragment_cut(uint64_t len, uint64_t fragment_bytes)
{
    struct wsr_fragment_cut cut = { .frames_count = 1, .last_bytes = len, .together_count = 1 };
    if (WSR_LIKELY(fragment_bytes == 0 || len <= fragment_bytes))
        return cut;
    cut.frames_count = (len - 1) / fragment_bytes + 1;
    cut.payload_bytes = fragment_bytes;
    cut.last_bytes = len - (cut.frames_count - 1) * fragment_bytes;
    if (frame_bytes(fragment_bytes) <= FRAMES_BYTES / 2)
        cut.together_count = FRAMES_BYTES / frame_bytes(fragment_bytes);
    return cut;
}

bool wsr_fragment_fits(const struct wsr_fragment_cut *cut, const struct wsr_slab *slab)
{
    if (cut->frames_count == 1)
        return cut->last_bytes + WSR_FRAME_HEAD_MAX <= wsr_slab_bytes(slab);
    uint64_t runs = (cut->frames_count - 1 + cut->together_count - 1) / cut->together_count;
    return runs + 1 <= wsr_slab_takes(slab, cut->together_count * frame_bytes(cut->payload_bytes));
}

struct wsr_chunk *wsr_fragment_take(const struct wsr_fragment_cut *cut, struct wsr_slab *slab)
{
    struct wsr_chunk *first = NULL, **end = &first;
    uint64_t frames_left = cut->frames_count - 1;
    while (frames_left > 0) {
        uint64_t count = frames_left < cut->together_count ? frames_left : cut->together_count;
        *end = wsr_slab_take(slab, count * frame_bytes(cut->payload_bytes));
        if (*end == NULL)
            goto fail;
        (*end)->starts_frame = true;
        if (count > 1)
            (*end)->frame_bytes = (uint32_t)frame_bytes(cut->payload_bytes);
        while (*end != NULL)
            end = &(*end)->next;
        frames_left -= count;
    }
    *end = wsr_slab_take(slab, frame_bytes(cut->last_bytes));
    if (*end == NULL)
        goto fail;
    (*end)->starts_frame = true;
    return first;

fail:
    wsr_slab_give_all(slab, first);
    return NULL;
}

/* Where the next byte of a message goes, and how it is masked. */
struct writer {
    struct wsr_chunk *chunk;
    const struct wsr_fragment_source *source;
    struct wsr_bytes bytes;          /* read and not yet written */
    const struct wsr_simd *simd;
};

static void write_frame(struct writer *w, uint8_t head, uint64_t len)
{
    uint8_t key[4] = { 0 };
    unsigned phase = 0;
    if (w->source->entropy != NULL)
        wsr_entropy_take(w->source->entropy, key, sizeof key);
    size_t head_bytes = wsr_frame_write(w->chunk->data + w->chunk->used, head, len, key);
    w->chunk->used += (uint32_t)head_bytes;
    w->chunk->overhead = (uint32_t)head_bytes;
    while (len > 0) {
        size_t room = wsr_slab_room(w->chunk) - w->chunk->used;
        if (room == 0) {
            w->chunk = w->chunk->next;
            continue;
        }
        if (w->bytes.len == 0)
            w->bytes = w->source->read(w->source->reader);
        size_t count = w->bytes.len < room ? w->bytes.len : room;
        if (count > len)
            count = (size_t)len;
        w->simd->mask_copy(w->chunk->data + w->chunk->used, w->bytes.data, count, key, phase);
        w->chunk->used += (uint32_t)count;
        phase = (unsigned)((phase + count) & 3);
        w->bytes = wsr_bytes_of(w->bytes.data + count, w->bytes.len - count);
        len -= count;
    }
}

void wsr_fragment_write(struct wsr_chunk *chunk, const struct wsr_fragment_cut *cut, uint8_t first,
                        const struct wsr_fragment_source *source)
{
    struct writer w = { .chunk = chunk, .source = source, .simd = wsr_simd() };
    uint8_t head = first;
    for (uint64_t i = 0; i + 1 < cut->frames_count; i++) {
        if (i > 0 && i % cut->together_count == 0)
            w.chunk = w.chunk->next;
        write_frame(&w, head, cut->payload_bytes);
        head = WSR_OPCODE_CONTINUATION;
    }
    if (cut->frames_count > 1)
        w.chunk = w.chunk->next;
    write_frame(&w, (uint8_t)(WSR_FRAME_FIN | head), cut->last_bytes);
}
