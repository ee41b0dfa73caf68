/* Streams of zlib: who has one, and what goes through it. */
#include "deflate.h"

#include <malloc.h>
#include <stdlib.h>

#define ZLIB_CONST
#include <zlib.h>

#define SPARE_MAX 4u                        /* streams of each kind that wait for their next message */
#define SCRATCH_KEPT_BYTES (256u << 10)     /* between messages */
#define ZLIB_BYTES_MAX (1u << 30)           /* zlib counts in unsigned int */

/* What a sync flush ends with, and the wire leaves out (RFC 7692 7.2.1). */
static const uint8_t tail[4] = { 0x00, 0x00, 0xff, 0xff };

enum kind { INFLATER, DEFLATER };

struct wsr_deflate_stream {
    z_stream z;
    struct wsr_deflate_stream *next;        /* spare ones */
    uint8_t bits;
};

/* ---- Memory ---- */

static void add(_Atomic uint64_t *number, uint64_t more)
{
    uint64_t now = atomic_load_explicit(number, memory_order_relaxed);
    atomic_store_explicit(number, now + more, memory_order_relaxed);
}

static void *take_memory(struct wsr_deflate_shared *shared, size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory != NULL)
        add(&shared->memory_bytes, malloc_usable_size(memory));
    return memory;
}

static void give_memory(struct wsr_deflate_shared *shared, void *memory)
{
    if (memory != NULL)
        add(&shared->memory_bytes, (uint64_t)0 - malloc_usable_size(memory));
    free(memory);
}

static void give_scratch(struct wsr_deflate_shared *shared)
{
    give_memory(shared, shared->scratch);
    shared->scratch = NULL;
    shared->scratch_bytes = 0;
}

static voidpf take_for_zlib(voidpf shared, uInt items, uInt size)
{
    return take_memory(shared, (size_t)items * size);
}

static void give_for_zlib(voidpf shared, voidpf memory)
{
    give_memory(shared, memory);
}

/* ---- Streams ---- */

/* zlib's own deflate with a window of 2^9 refers back 250 bytes at most, so it serves for 2^8 too, which raw deflate
 * does not take. Inflating needs no less, whoever compressed. */
static uint8_t zlib_bits(uint8_t bits)
{
    return bits < 9 ? 9 : bits;
}

/* As much for hash and symbols as the window deserves: 8, zlib's default, at 2^15. */
static int memory_level(uint8_t bits)
{
    return bits < 12 ? 4 : bits - 7;
}

static int start(struct wsr_deflate_stream *stream, enum kind kind, int level)
{
    int bits = -(int)stream->bits;          /* raw: no header, no checksum */
    if (kind == INFLATER)
        return inflateInit2(&stream->z, bits);
    return deflateInit2(&stream->z, level, Z_DEFLATED, bits, memory_level(stream->bits), Z_DEFAULT_STRATEGY);
}

static void end_stream(struct wsr_deflate_shared *shared, struct wsr_deflate_stream *stream, enum kind kind)
{
    if (kind == INFLATER)
        inflateEnd(&stream->z);
    else
        deflateEnd(&stream->z);
    give_memory(shared, stream);
}

/* A stream that knows nothing yet, NULL without memory. */
static struct wsr_deflate_stream *take_stream(struct wsr_deflate_shared *shared, enum kind kind, uint8_t bits)
{
    for (struct wsr_deflate_stream **at = &shared->spare[kind]; *at != NULL; at = &(*at)->next) {
        struct wsr_deflate_stream *spare = *at;
        if (spare->bits != bits)
            continue;
        *at = spare->next;
        shared->spare_count[kind]--;
        return spare;
    }
    struct wsr_deflate_stream *made = take_memory(shared, sizeof *made);
    if (made == NULL)
        return NULL;
    *made = (struct wsr_deflate_stream){ .z.zalloc = take_for_zlib, .z.zfree = give_for_zlib, .z.opaque = shared,
                                         .bits = bits };
    if (start(made, kind, shared->level) != Z_OK) {
        give_memory(shared, made);
        return NULL;
    }
    return made;
}

static void give_stream(struct wsr_deflate_shared *shared, struct wsr_deflate_stream **place, enum kind kind)
{
    struct wsr_deflate_stream *stream = *place;
    *place = NULL;
    if (stream == NULL)
        return;
    bool is_good = shared->spare_count[kind] < SPARE_MAX &&
                   (kind == INFLATER ? inflateReset(&stream->z) : deflateReset(&stream->z)) == Z_OK;
    if (!is_good) {
        end_stream(shared, stream, kind);
        return;
    }
    stream->next = shared->spare[kind];
    shared->spare[kind] = stream;
    shared->spare_count[kind]++;
}

void wsr_deflate_shared_free(struct wsr_deflate_shared *shared)
{
    assert(shared->oldest == NULL);
    for (int kind = INFLATER; kind <= DEFLATER; kind++) {
        for (struct wsr_deflate_stream *stream; (stream = shared->spare[kind]) != NULL;) {
            shared->spare[kind] = stream->next;
            end_stream(shared, stream, (enum kind)kind);
        }
        shared->spare_count[kind] = 0;
    }
    give_scratch(shared);
}

/* ---- A connection ---- */

void wsr_deflate_init(struct wsr_deflate *d, struct wsr_deflate_shared *shared, const struct wsr_deflate_agreed *agreed,
                      enum wsr_deflate_side side)
{
    bool is_client = side == WSR_DEFLATE_CLIENT;
    uint8_t in_bits = is_client ? agreed->server_max_window_bits : agreed->client_max_window_bits;
    uint8_t out_bits = is_client ? agreed->client_max_window_bits : agreed->server_max_window_bits;
    assert(in_bits >= 8 && in_bits <= 15 && out_bits >= 8 && out_bits <= 15);
    *d = (struct wsr_deflate){
        .shared = shared,
        .in_bits = in_bits,
        .out_bits = out_bits,
        .in_keeps = is_client ? !agreed->server_no_context_takeover : !agreed->client_no_context_takeover,
        .out_keeps = is_client ? !agreed->client_no_context_takeover : !agreed->server_no_context_takeover
    };
}

static void unlist(struct wsr_deflate *d)
{
    if (!d->is_listed)
        return;
    *(d->older != NULL ? &d->older->newer : &d->shared->oldest) = d->newer;
    *(d->newer != NULL ? &d->newer->older : &d->shared->newest) = d->older;
    d->older = d->newer = NULL;
    d->is_listed = false;
}

void wsr_deflate_free(struct wsr_deflate *d)
{
    if (d->shared == NULL)
        return;
    unlist(d);
    give_stream(d->shared, &d->inflater, INFLATER);
    give_stream(d->shared, &d->deflater, DEFLATER);
    give_memory(d->shared, d->window);
    *d = (struct wsr_deflate){ 0 };
}

/* ---- Inflating ---- */

static bool take_inflater(struct wsr_deflate *d)
{
    if (d->inflater != NULL)
        return true;
    d->inflater = take_stream(d->shared, INFLATER, zlib_bits(d->in_bits));
    if (d->inflater == NULL)
        return false;
    if (d->window == NULL)
        return true;
    if (inflateSetDictionary(&d->inflater->z, d->window, (uInt)d->window_bytes + 1) != Z_OK) {
        give_stream(d->shared, &d->inflater, INFLATER);
        return false;
    }
    give_memory(d->shared, d->window);
    d->window = NULL;
    return true;
}

/* Give the inflater as much of *@in as it takes. When the room is used up it may hold back more output, even with all
 * of *@in taken. A block that calls itself the last ends nothing: what follows goes on with the same window
 * (PMD-44). */
static enum wsr_inflate inflate_bytes(z_stream *z, struct wsr_bytes *in)
{
    do {
        uInt given = in->len < ZLIB_BYTES_MAX ? (uInt)in->len : ZLIB_BYTES_MAX;
        z->next_in = in->data;
        z->avail_in = given;
        uInt room = z->avail_out;
        int rc = inflate(z, Z_SYNC_FLUSH);
        uInt taken = given - z->avail_in;
        if (taken > 0)
            *in = wsr_bytes_of(in->data + taken, in->len - taken);
        if (rc == Z_STREAM_END)
            rc = inflateResetKeep(z);
        else if (rc == Z_BUF_ERROR && (z->avail_out == 0 || given == 0))
            rc = Z_OK;
        if (rc != Z_OK)
            return rc == Z_MEM_ERROR ? WSR_INFLATE_MEMORY : WSR_INFLATE_BAD;
        if (z->avail_out == 0)
            return WSR_INFLATE_FULL;
        if (given > 0 && taken == 0 && z->avail_out == room)
            return WSR_INFLATE_BAD;
    } while (in->len > 0);
    return WSR_INFLATE_MORE;
}

/* The message has to end with the header of a stored block, whose length the wire left out (RFC 7692 7.2.1). No
 * library checks that: what is cut off elsewhere inflates without an error up to there, and the tail might complete a
 * block that lacks so many bytes. So only its first half is given. Sixteen bits that wait for more are all of that,
 * and half of a length: everything else in DEFLATE takes less at a time. What comes next is a block, or a stream, so
 * the inflater begins anew, with its window. */
static enum wsr_inflate inflate_tail(struct wsr_deflate *d)
{
    z_stream *z = &d->inflater->z;
    uInt room = z->avail_out;
    struct wsr_bytes half = wsr_bytes_of(tail, sizeof tail / 2);
    enum wsr_inflate rc = inflate_bytes(z, &half);
    if (rc == WSR_INFLATE_MEMORY)
        return rc;
    z->avail_out = room;        /* what the tail has made is nobody's */
    bool is_end = rc == WSR_INFLATE_MORE && (z->data_type & 63) == 16;
    return is_end && inflateResetKeep(z) == Z_OK ? WSR_INFLATE_DONE : WSR_INFLATE_BAD;
}

enum wsr_inflate wsr_deflate_inflate(struct wsr_deflate *d, struct wsr_bytes *in, bool is_end, uint8_t *out,
                                     size_t room, size_t *made)
{
    assert(room > 0);
    *made = 0;
    if (!take_inflater(d))
        return WSR_INFLATE_MEMORY;
    d->is_inflating = true;
    z_stream *z = &d->inflater->z;
    uInt given = room < ZLIB_BYTES_MAX ? (uInt)room : ZLIB_BYTES_MAX;
    z->next_out = out;
    z->avail_out = given;
    enum wsr_inflate rc = inflate_bytes(z, in);
    if (rc == WSR_INFLATE_MORE && is_end)
        rc = inflate_tail(d);
    *made = given - z->avail_out;
    add(&d->shared->inflated_bytes, *made);
    if (rc != WSR_INFLATE_DONE)
        return rc;
    d->is_inflating = false;
    add(&d->shared->inflated, 1);
    add(&d->shared->inflated_wire_bytes, d->wire_bytes);
    if (!d->in_keeps)
        give_stream(d->shared, &d->inflater, INFLATER);
    return rc;
}

/* ---- Deflating ---- */

/* zlib itself says only digits and dots for its version; what was made to stand in for it says more. */
static bool is_stock_zlib(void)
{
    const char *version = zlibVersion();
    return version[strspn(version, "0123456789.")] == '\0';
}

bool wsr_deflate_can_send(const struct wsr_deflate *d)
{
    return d->out_bits > 8 || is_stock_zlib();
}

/* Room for what is made of @len bytes, as far as it is of use: less than that, and the tail. */
static bool make_scratch(struct wsr_deflate_shared *shared, uint64_t len)
{
    uint64_t wanted = len + sizeof tail;
    if (shared->scratch_bytes >= wanted)
        return true;
    give_scratch(shared);
    shared->scratch_bytes = wanted < 4096 ? 4096 : (size_t)wanted;
    shared->scratch = take_memory(shared, shared->scratch_bytes);
    if (shared->scratch == NULL)
        shared->scratch_bytes = 0;
    return shared->scratch != NULL;
}

void wsr_deflate_begin(struct wsr_deflate *d, uint64_t len)
{
    assert(len > 0);
    if (d->deflater == NULL)
        d->deflater = take_stream(d->shared, DEFLATER, zlib_bits(d->out_bits));
    d->tried_bytes = 0;
    d->tried_most = len;
    d->has_failed = d->deflater == NULL || !make_scratch(d->shared, len);
}

/* Whatever is made has to leave room for a byte more, or a flush might not be at its end. */
static void deflate_bytes(struct wsr_deflate *d, struct wsr_bytes in, int flush)
{
    z_stream *z = &d->deflater->z;
    const uint64_t most = d->tried_most + sizeof tail;
    do {
        uInt given = in.len < ZLIB_BYTES_MAX ? (uInt)in.len : ZLIB_BYTES_MAX;
        uint64_t left = most - d->tried_bytes;
        uInt room = left < ZLIB_BYTES_MAX ? (uInt)left : ZLIB_BYTES_MAX;
        z->next_in = in.data;
        z->avail_in = given;
        z->next_out = d->shared->scratch + d->tried_bytes;
        z->avail_out = room;
        int rc = deflate(z, flush);
        in = wsr_bytes_of(in.data + (given - z->avail_in), in.len - (given - z->avail_in));
        d->tried_bytes += room - z->avail_out;
        d->has_failed = rc != Z_OK || d->tried_bytes == most;
    } while (!d->has_failed && (in.len > 0 || z->avail_out == 0));
}

void wsr_deflate_add(struct wsr_deflate *d, struct wsr_bytes piece)
{
    if (!d->has_failed && piece.len > 0)
        deflate_bytes(d, piece, Z_NO_FLUSH);
}

/* The next message is to know none before it. */
static void start_afresh(struct wsr_deflate *d)
{
    if (d->deflater != NULL && deflateReset(&d->deflater->z) != Z_OK)
        give_stream(d->shared, &d->deflater, DEFLATER);
}

bool wsr_deflate_end(struct wsr_deflate *d, struct wsr_bytes *out)
{
    if (!d->has_failed)
        deflate_bytes(d, wsr_bytes_of(tail, 0), Z_SYNC_FLUSH);
    struct wsr_deflate_shared *shared = d->shared;
    uint64_t len = d->tried_bytes - sizeof tail;
    bool is_good = !d->has_failed && d->tried_bytes > sizeof tail &&
                   memcmp(shared->scratch + len, tail, sizeof tail) == 0;
    if (is_good) {
        *out = wsr_bytes_of(shared->scratch, (size_t)len);
        add(&shared->deflated, 1);
        add(&shared->deflated_bytes, d->tried_most);
        add(&shared->deflated_wire_bytes, len);
    } else {
        add(&shared->not_deflated, 1);
    }
    if (!d->out_keeps)
        give_stream(shared, &d->deflater, DEFLATER);
    else if (!is_good)
        start_afresh(d);
    return is_good;
}

void wsr_deflate_forget(struct wsr_deflate *d)
{
    struct wsr_deflate_shared *shared = d->shared;
    add(&shared->deflated, (uint64_t)-1);
    add(&shared->deflated_bytes, (uint64_t)0 - d->tried_most);
    add(&shared->deflated_wire_bytes, (uint64_t)0 - (d->tried_bytes - sizeof tail));
    add(&shared->not_deflated, 1);
    start_afresh(d);
}

void wsr_deflate_clear(struct wsr_deflate *d)
{
    if (d->shared->scratch_bytes > SCRATCH_KEPT_BYTES)
        give_scratch(d->shared);
}

/* ---- Rest ---- */

void wsr_deflate_touch(struct wsr_deflate *d, uint64_t now_ns)
{
    struct wsr_deflate_shared *shared = d->shared;
    bool has_stream = d->inflater != NULL || d->deflater != NULL;
    d->used_ns = now_ns;
    if (has_stream && shared->newest == d)
        return;
    unlist(d);
    if (!has_stream)
        return;
    d->older = shared->newest;
    *(d->older != NULL ? &d->older->newer : &shared->oldest) = d;
    shared->newest = d;
    d->is_listed = true;
}

/* Keep of the inflater what the next message may refer to, if there is memory for that. */
static void pack_inflater(struct wsr_deflate *d)
{
    uInt bytes = 0;
    if (d->inflater == NULL || d->is_inflating || inflateGetDictionary(&d->inflater->z, NULL, &bytes) != Z_OK)
        return;
    if (bytes > 0) {
        d->window = take_memory(d->shared, bytes);
        if (d->window == NULL)
            return;
        inflateGetDictionary(&d->inflater->z, d->window, &bytes);
        d->window_bytes = (uint16_t)(bytes - 1);
    }
    give_stream(d->shared, &d->inflater, INFLATER);
}

void wsr_deflate_rest(struct wsr_deflate_shared *shared, uint64_t before_ns)
{
    while (shared->oldest != NULL && shared->oldest->used_ns < before_ns) {
        struct wsr_deflate *d = shared->oldest;
        unlist(d);
        give_stream(shared, &d->deflater, DEFLATER);
        pack_inflater(d);
    }
}

uint64_t wsr_deflate_oldest_ns(const struct wsr_deflate_shared *shared)
{
    return shared->oldest != NULL ? shared->oldest->used_ns : WSR_NEVER;
}
