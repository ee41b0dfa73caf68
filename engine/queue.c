/* The send queue: a list of chunks, each message a run of them, in which starts_frame marks where a frame begins. */
#include "queue.h"

#include "simd/simd.h"

/* No more than so much of whole frames in one send: what overtakes waits for its end. */
#define LAUNCH_BYTES (256u << 10)

static struct wsr_chunk *end_of(struct wsr_chunk *message)
{
    while (message->next != NULL)
        message = message->next;
    return message;
}

void wsr_queue_push(struct wsr_queue *queue, struct wsr_chunk *message)
{
    message->starts_frame = true;
    if (message->is_pong)
        queue->pongs_count++;
    if (queue->first == NULL)
        queue->first = message;
    else
        queue->last->next = message;
    queue->last = end_of(message);
}

#define GATHER_BYTES 4000u        /* of a chunk for more than one message: the middle class */

struct wsr_chunk *wsr_queue_open_end(const struct wsr_queue *queue, struct wsr_slab *slab, uint32_t bytes)
{
    struct wsr_chunk *last = queue->last;
    assert(bytes <= WSR_QUEUE_GATHER_MAX);
    if (last != NULL && last->frame_bytes == WSR_CHUNK_GATHERS && last != queue->flight_last &&
        wsr_slab_room(last) - last->used >= bytes)
        return last;
    /* Where one message waits already, more are likely to come; and as many as the last time. */
    uint32_t wanted = queue->first != NULL ? GATHER_BYTES : bytes > queue->burst_bytes ? bytes : queue->burst_bytes;
    struct wsr_chunk *chunk = wsr_slab_take(slab, wanted);
    if (chunk == NULL && wanted > bytes)
        chunk = wsr_slab_take(slab, bytes);
    if (chunk != NULL)
        chunk->frame_bytes = WSR_CHUNK_GATHERS;
    return chunk;
}

void wsr_queue_extend(struct wsr_queue *queue, struct wsr_chunk *chunk, uint32_t head_bytes, uint32_t payload_bytes)
{
    if (chunk->used == 0)
        wsr_queue_push(queue, chunk);
    chunk->used += head_bytes + payload_bytes;
    chunk->overhead += head_bytes;
}

static struct wsr_chunk *end_of_frame(struct wsr_chunk *chunk)
{
    while (chunk->next != NULL && !chunk->next->starts_frame)
        chunk = chunk->next;
    return chunk;
}

/* Last chunk behind which another frame may stand: NULL for the very front. */
static struct wsr_chunk *boundary(const struct wsr_queue *queue)
{
    struct wsr_chunk *chunk = queue->flight_last;
    if (chunk == NULL) {
        chunk = queue->first;
        if (chunk == NULL || (chunk->starts_frame && chunk->sent == 0))
            return NULL;
    }
    return end_of_frame(chunk);
}

void wsr_queue_push_control(struct wsr_queue *queue, struct wsr_chunk *control)
{
    assert(control->next == NULL);
    struct wsr_chunk *before = boundary(queue);
    /* Behind control frames that already wait there, so that they keep their order. */
    struct wsr_chunk *next = before == NULL ? queue->first : before->next;
    while (next != NULL && next->is_control) {
        before = next;
        next = next->next;
    }
    if (next == NULL) {
        wsr_queue_push(queue, control);
        return;
    }
    control->starts_frame = true;
    if (control->is_pong)
        queue->pongs_count++;
    control->next = next;
    if (before == NULL)
        queue->first = control;
    else
        before->next = control;
}

bool wsr_queue_drop_newest_pong(struct wsr_queue *queue, struct wsr_slab *slab)
{
    struct wsr_chunk *before = boundary(queue), *before_found = NULL, *found = NULL;
    struct wsr_chunk *chunk = before == NULL ? queue->first : before->next;
    for (; chunk != NULL && chunk->is_control; before = chunk, chunk = chunk->next) {
        if (chunk->is_pong) {
            before_found = before;
            found = chunk;
        }
    }
    if (found == NULL)
        return false;
    if (before_found == NULL)
        queue->first = found->next;
    else
        before_found->next = found->next;
    if (queue->last == found)
        queue->last = before_found;
    queue->pongs_count--;
    wsr_slab_give(slab, found);
    return true;
}

bool wsr_queue_has_pongs_only(const struct wsr_queue *queue)
{
    const struct wsr_chunk *chunk = queue->first;
    while (chunk != NULL && chunk->is_pong)
        chunk = chunk->next;
    return chunk == NULL;
}

struct wsr_chunk *wsr_queue_control_frame(struct wsr_slab *slab, enum wsr_opcode opcode, struct wsr_bytes payload,
                                          const uint8_t key[4])
{
    assert(payload.len <= WSR_FRAME_CONTROL_MAX);
    struct wsr_chunk *chunk = wsr_slab_take_control(slab, WSR_FRAME_HEAD_MAX + payload.len);
    if (chunk == NULL)
        return NULL;
    size_t head_bytes = wsr_frame_write(chunk->data, (uint8_t)(0x80 | opcode), payload.len, key);
    if (payload.len > 0)
        wsr_simd()->mask_copy(chunk->data + head_bytes, payload.data, payload.len, key, 0);
    chunk->used = (uint32_t)(head_bytes + payload.len);
    return chunk;
}

struct wsr_chunk *wsr_queue_close_frame(struct wsr_slab *slab, uint16_t code, struct wsr_bytes reason,
                                        const uint8_t key[4])
{
    uint8_t payload[WSR_FRAME_CONTROL_MAX];
    const size_t room = sizeof payload - sizeof code;
    if (code == 0)
        return wsr_queue_control_frame(slab, WSR_OPCODE_CLOSE, wsr_bytes_of(NULL, 0), key);
    size_t reason_bytes = reason.len < room ? reason.len : room;
    wsr_store_be16(payload, code);
    if (reason_bytes > 0)
        memcpy(payload + sizeof code, reason.data, reason_bytes);
    return wsr_queue_control_frame(slab, WSR_OPCODE_CLOSE, wsr_bytes_of(payload, sizeof code + reason_bytes), key);
}

size_t wsr_queue_launch(struct wsr_queue *queue, struct iovec *parts, size_t parts_max)
{
    assert(queue->flight_last == NULL);
    size_t count = 0, bytes = 0;
    for (struct wsr_chunk *chunk = queue->first; chunk != NULL && count < parts_max; chunk = chunk->next) {
        if (chunk->starts_frame && bytes >= LAUNCH_BYTES)
            break;
        bytes += chunk->used - chunk->sent;
        parts[count++] = (struct iovec){ chunk->data + chunk->sent, chunk->used - chunk->sent };
        queue->flight_last = chunk;
    }
    queue->burst_bytes = (uint16_t)(bytes < GATHER_BYTES ? bytes : GATHER_BYTES);
    return count;
}

/* Walk over the frames that a gathering chunk has within its first @bytes. Returns their payload there; *end is where
 * the last of them ends, perhaps behind @bytes, and *overhead what is no payload up to there. */
static uint64_t walk_gathered(const struct wsr_chunk *chunk, uint32_t bytes, uint32_t *end, uint32_t *overhead)
{
    uint64_t payload = 0;
    *end = *overhead = 0;
    while (*end < bytes) {
        struct wsr_frame frame;
        int head_bytes = wsr_frame_parse(&frame, chunk->data + *end, chunk->used - *end);
        assert(head_bytes > 0);
        uint32_t begin = *end + (uint32_t)head_bytes;
        if (bytes > begin)
            payload += bytes - begin < frame.payload_bytes ? bytes - begin : frame.payload_bytes;
        *overhead += (uint32_t)head_bytes;
        *end = begin + (uint32_t)frame.payload_bytes;
    }
    return payload;
}

/* Payload within the first @bytes: what lies behind the overhead of each frame (BUF-05). */
static uint64_t payload_before(const struct wsr_chunk *chunk, uint32_t bytes)
{
    if (chunk->frame_bytes == WSR_CHUNK_GATHERS) {
        uint32_t end, overhead;
        return bytes == chunk->used ? bytes - chunk->overhead : walk_gathered(chunk, bytes, &end, &overhead);
    }
    if (chunk->frame_bytes == WSR_CHUNK_DEFLATED)
        return bytes == chunk->used ? chunk->overhead : 0;
    uint32_t frames = chunk->frame_bytes != 0 ? bytes / chunk->frame_bytes : 0;
    uint32_t rest = bytes - frames * chunk->frame_bytes;
    uint64_t payload = (uint64_t)frames * (chunk->frame_bytes - chunk->overhead);
    return rest > chunk->overhead ? payload + rest - chunk->overhead : payload;
}

/* Credit of moving chunk->sent from @from to @to. */
static uint64_t payload_between(const struct wsr_chunk *chunk, uint32_t from, uint32_t to)
{
    return chunk->is_control ? 0 : payload_before(chunk, to) - payload_before(chunk, from);
}

uint64_t wsr_queue_payload_bytes(const struct wsr_chunk *message)
{
    uint64_t bytes = 0;
    for (; message != NULL; message = message->next)
        bytes += payload_before(message, message->used);
    return bytes;
}

static void remove_first(struct wsr_queue *queue, struct wsr_slab *slab)
{
    struct wsr_chunk *chunk = queue->first;
    queue->first = chunk->next;
    if (queue->first == NULL)
        queue->last = NULL;
    if (chunk->is_pong)
        queue->pongs_count--;
    wsr_slab_give(slab, chunk);
}

/* The send that ended with @behind was short, so there is a nearer frame boundary now: Pongs that waited behind it go
 * there, or a newer Pong would overtake them. A Close that waits stays behind the messages (SEND-09). */
static void bring_pongs_forward(struct wsr_queue *queue, struct wsr_chunk *behind)
{
    struct wsr_queue pongs = { 0 };
    struct wsr_chunk *before = end_of_frame(behind);
    if (boundary(queue) == before)
        return;
    while (before->next != NULL && before->next->is_control) {
        struct wsr_chunk *chunk = before->next;
        if (!chunk->is_pong) {
            before = chunk;
            continue;
        }
        before->next = chunk->next;
        if (queue->last == chunk)
            queue->last = before;
        queue->pongs_count--;
        chunk->next = NULL;
        wsr_queue_push(&pongs, chunk);
    }
    for (struct wsr_chunk *next, *chunk = pongs.first; chunk != NULL; chunk = next) {
        next = chunk->next;
        chunk->next = NULL;
        wsr_queue_push_control(queue, chunk);
    }
}

struct wsr_queue_credit wsr_queue_landed(struct wsr_queue *queue, struct wsr_slab *slab, uint64_t bytes)
{
    struct wsr_queue_credit credit = { 0 };
    struct wsr_chunk *not_landed = queue->flight_last;
    queue->flight_last = NULL;
    while (not_landed != NULL) {
        struct wsr_chunk *chunk = queue->first;
        uint32_t left = chunk->used - chunk->sent;
        uint32_t gone = bytes < left ? (uint32_t)bytes : left;
        credit.payload_bytes += payload_between(chunk, chunk->sent, chunk->sent + gone);
        chunk->sent += gone;
        bytes -= gone;
        if (chunk->sent < chunk->used)
            break;
        if (chunk == not_landed)
            not_landed = NULL;
        remove_first(queue, slab);
    }
    assert(bytes == 0);
    credit.was_short = not_landed != NULL;
    if (not_landed != NULL && queue->pongs_count > 0)
        bring_pongs_forward(queue, not_landed);
    return credit;
}

/* Of messages in one chunk, those that have not begun. */
static void drop_gathered(struct wsr_chunk *chunk)
{
    uint32_t end, overhead;
    walk_gathered(chunk, chunk->sent, &end, &overhead);
    chunk->used = end;
    chunk->overhead = overhead;
}

void wsr_queue_drop_messages(struct wsr_queue *queue, struct wsr_slab *slab)
{
    struct wsr_chunk *before = boundary(queue);
    if (queue->flight_last == NULL && before != NULL && before->frame_bytes == WSR_CHUNK_GATHERS) {
        assert(before == queue->first);
        drop_gathered(before);
        /* The last send may have ended between two messages: then nothing of it is left. */
        if (before->used == before->sent) {
            remove_first(queue, slab);
            before = NULL;
        }
    }
    struct wsr_chunk *chunk = before == NULL ? queue->first : before->next;
    while (chunk != NULL) {
        struct wsr_chunk *next = chunk->next;
        if (chunk->is_control) {
            before = chunk;
        } else {
            if (before == NULL)
                queue->first = next;
            else
                before->next = next;
            wsr_slab_give(slab, chunk);
        }
        chunk = next;
    }
    queue->last = before;
}

void wsr_queue_clear(struct wsr_queue *queue, struct wsr_slab *slab)
{
    assert(queue->flight_last == NULL);
    wsr_slab_give_all(slab, queue->first);
    *queue = (struct wsr_queue){ .next = queue->next };
}
