/* Messages as their receiver owns them: one block, or a blob in the pieces in which it came. */
#include "blob.h"

#include <stdlib.h>
#include <sys/uio.h>

#include "error.h"

/* A range of the memory of one message. */
struct wsr_blob {
    _Atomic uint32_t references;
    struct wsr_loan *loan;           /* held once; NULL when empty */
    const uint8_t *data;             /* all bytes of the message, or NULL when the loan is a list of them */
    uint64_t begin;                  /* of the range, in the message */
    uint64_t len;
};

/* ---- Events ---- */

static const uint8_t *start_of(const struct wsr_loan *loan)
{
    return loan->is_block ? wsr_pool_block_bytes((struct wsr_loan *)(uintptr_t)loan) : wsr_pool_bytes(loan);
}

/* Where the only piece of a blob begins in its loan: three bytes of the event, least first. */
static void set_begin(struct wsr_event *event, size_t begin)
{
    assert(begin < 1u << 24);       /* a receive buffer has 1 MiB at most, and a block begins at 0 */
    for (unsigned i = 0; i < sizeof event->begin; i++)
        event->begin[i] = (uint8_t)(begin >> (8 * i));
}

static size_t begin_of(const struct wsr_event *event)
{
    return (size_t)event->begin[0] | (size_t)event->begin[1] << 8 | (size_t)event->begin[2] << 16;
}

void wsr_blob_shape(struct wsr_event *event, enum wsr_binary_type type)
{
    if (type == WSR_ARRAYBUFFER) {
        if (event->data == NULL && event->len > 0)
            event->data = wsr_pieces_join(event->loan);
        if (event->data != NULL || event->len == 0)
            return;
    } else if (event->data != NULL) {
        set_begin(event, (size_t)((const uint8_t *)event->data - start_of(event->loan)));
        event->data = NULL;
    }
    event->flags |= WSR_EVENT_BLOB;
}

/* The bytes of message @event when they lie in one piece, else NULL. */
static const uint8_t *only_piece(const struct wsr_event *event)
{
    if (event->data != NULL || event->loan == NULL)
        return event->data;
    return wsr_pieces_of(event->loan) == NULL ? start_of(event->loan) + begin_of(event) : NULL;
}

/* ---- Walking ---- */

/* Over @len bytes from @begin on of the message at @data, or in the list @loan. */
static void start_walk(struct wsr_blob_walk *walk, const struct wsr_loan *loan, const uint8_t *data, uint64_t begin,
                       uint64_t len)
{
    walk->whole = (struct wsr_piece){ .data = data, .len = (size_t)(begin + len) };
    walk->piece = data == NULL && loan != NULL ? wsr_pieces_of(loan)->list : &walk->whole;
    walk->skip = begin;
    walk->left = len;
}

void wsr_blob_walk(struct wsr_blob_walk *walk, const struct wsr_blob *blob)
{
    start_walk(walk, blob->loan, blob->data, blob->begin, blob->len);
}

struct wsr_bytes wsr_blob_next(struct wsr_blob_walk *walk)
{
    if (walk->left == 0)
        return wsr_bytes_of(NULL, 0);
    while (walk->skip >= walk->piece->len)
        walk->skip -= walk->piece++->len;
    const struct wsr_piece *piece = walk->piece++;
    uint64_t len = piece->len - walk->skip < walk->left ? piece->len - walk->skip : walk->left;
    struct wsr_bytes bytes = wsr_bytes_of(piece->data + walk->skip, (size_t)len);
    walk->skip = 0;
    walk->left -= len;
    return bytes;
}

static size_t view(struct wsr_blob_walk *walk, struct iovec *parts, size_t parts_max)
{
    size_t count = 0;
    for (struct wsr_bytes bytes = wsr_blob_next(walk); bytes.len > 0; bytes = wsr_blob_next(walk), count++) {
        /* An iovec has no const; nobody writes there. */
        if (count < parts_max)
            parts[count] = (struct iovec){ (void *)(uintptr_t)bytes.data, bytes.len };
    }
    return count;
}

size_t wsr_event_view(const struct wsr_event *event, struct iovec *parts, size_t parts_max)
{
    if (event == NULL || event->type != WSR_EVENT_MESSAGE)
        return 0;
    struct wsr_blob_walk walk;
    start_walk(&walk, event->loan, only_piece(event), 0, event->len);
    return view(&walk, parts, parts_max);
}

/* ---- Life ---- */

static struct wsr_blob *make(struct wsr_loan *loan, const uint8_t *data, uint64_t begin, uint64_t len)
{
    struct wsr_blob *blob = malloc(sizeof *blob);
    if (blob == NULL) {
        (void)wsr_error_set(WSR_ERR_MEMORY, "no memory for a blob");
        return NULL;
    }
    if (len == 0)
        loan = NULL;
    if (loan != NULL)
        wsr_pool_hold(loan);
    *blob = (struct wsr_blob){ .loan = loan, .data = data, .begin = begin, .len = len };
    atomic_init(&blob->references, 1);
    return blob;
}

struct wsr_blob *wsr_event_blob(const struct wsr_event *event)
{
    if (event == NULL || event->type != WSR_EVENT_MESSAGE) {
        (void)wsr_error_set(WSR_ERR_ARGUMENT, "only a message event has a blob");
        return NULL;
    }
    return make(event->loan, only_piece(event), 0, event->len);
}

struct wsr_blob *wsr_blob_retain(struct wsr_blob *blob)
{
    /* Whoever retains has a reference, so the count cannot reach 0 meanwhile: no order needed. */
    atomic_fetch_add_explicit(&blob->references, 1, memory_order_relaxed);
    return blob;
}

void wsr_blob_release(struct wsr_blob *blob)
{
    /* The reads of every other holder come before the last release; pairs with itself. */
    if (blob == NULL || atomic_fetch_sub_explicit(&blob->references, 1, memory_order_acq_rel) > 1)
        return;
    wsr_hold_release((struct wsr_hold *)(void *)blob->loan);
    free(blob);
}

/* ---- Reading ---- */

uint64_t wsr_blob_size(const struct wsr_blob *blob)
{
    return blob->len;
}

size_t wsr_blob_view(const struct wsr_blob *blob, struct iovec *parts, size_t parts_max)
{
    struct wsr_blob_walk walk;
    wsr_blob_walk(&walk, blob);
    return view(&walk, parts, parts_max);
}

size_t wsr_blob_copy(const struct wsr_blob *blob, uint64_t from, void *out, size_t len)
{
    if (from >= blob->len)
        return 0;
    if (len > blob->len - from)
        len = (size_t)(blob->len - from);
    struct wsr_blob_walk walk;
    start_walk(&walk, blob->loan, blob->data, blob->begin + from, len);
    uint8_t *to = out;
    for (struct wsr_bytes bytes = wsr_blob_next(&walk); bytes.len > 0; bytes = wsr_blob_next(&walk)) {
        memcpy(to, bytes.data, bytes.len);
        to += bytes.len;
    }
    return len;
}

/* File API, Blob.slice(): a position, relative to the end when it is negative, within the blob. */
static uint64_t position(const struct wsr_blob *blob, int64_t relative)
{
    if (relative >= 0)
        return (uint64_t)relative < blob->len ? (uint64_t)relative : blob->len;
    uint64_t back = 0 - (uint64_t)relative;
    return back < blob->len ? blob->len - back : 0;
}

struct wsr_blob *wsr_blob_slice(const struct wsr_blob *blob, int64_t start, int64_t end)
{
    uint64_t from = position(blob, start), to = position(blob, end);
    return make(blob->loan, blob->data, blob->begin + from, to > from ? to - from : 0);
}
