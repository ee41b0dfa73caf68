#include "uring_hot.h"

#include <errno.h>
#include <poll.h>

#include "uring_inner.h"

static void enter_state(struct wsr_uring_hot *hot, struct wsr_uring_hot_place *place, enum wsr_uring_hot_state to)
{
    static const uint8_t may_follow[] = {
        [WSR_URING_HOT_FREE] = 1u << WSR_URING_HOT_LOOKING,
        [WSR_URING_HOT_LOOKING] = 1u << WSR_URING_HOT_HOLDING | 1u << WSR_URING_HOT_ENDING |
                                  1u << WSR_URING_HOT_LEAVING | 1u << WSR_URING_HOT_FREE,
        [WSR_URING_HOT_HOLDING] = 1u << WSR_URING_HOT_LOOKING | 1u << WSR_URING_HOT_LAST,
        [WSR_URING_HOT_LAST] = 1u << WSR_URING_HOT_ENDING,
        [WSR_URING_HOT_ENDING] = 1u << WSR_URING_HOT_FREE,
        [WSR_URING_HOT_LEAVING] = 1u << WSR_URING_HOT_FREE,
    };
    assert(may_follow[place->state] & (1u << to));
    assert(to != WSR_URING_HOT_FREE || !place->is_watched);
    if (place->state == WSR_URING_HOT_FREE)
        hot->used_count++;
    if (to == WSR_URING_HOT_FREE)
        hot->used_count--;
    place->state = (uint8_t)to;
}

bool wsr_uring_hot_suits(const struct uring *u, wsr_file file)
{
    return u->hot.is_allowed && u->files.open_count <= WSR_URING_HOT_FILES && !wsr_uring_direct_is(file);
}

bool wsr_uring_hot_recv(struct uring *u, wsr_file file, uint64_t token)
{
    struct wsr_uring_hot *hot = &u->hot;
    if (!wsr_uring_hot_suits(u, file) || hot->buffers_count == 0)
        return false;
    for (unsigned i = 0; i < WSR_URING_HOT_FILES; i++) {
        struct wsr_uring_hot_place *place = &hot->places[i];
        if (place->state != WSR_URING_HOT_FREE)
            continue;
        place->file = file;
        place->token = token;
        enter_state(hot, place, WSR_URING_HOT_LOOKING);
        return true;
    }
    return false;
}

/* A watch that nobody needs any more is to end. */
static void unwatch(struct uring *u, struct wsr_uring_hot_place *place)
{
    if (place->is_watched)
        wsr_uring_cancel_own(u, WSR_URING_TOKEN_WATCH + (uint64_t)(place - u->hot.places));
}

static void end(struct uring *u, struct wsr_uring_hot_place *place, int32_t result)
{
    place->result = result;
    enter_state(&u->hot, place, WSR_URING_HOT_ENDING);
    unwatch(u, place);
}

bool wsr_uring_hot_cancel(struct uring *u, uint64_t token)
{
    if (u->hot.used_count == 0)
        return false;
    for (unsigned i = 0; i < WSR_URING_HOT_FILES; i++) {
        struct wsr_uring_hot_place *place = &u->hot.places[i];
        if (place->token != token || place->state == WSR_URING_HOT_FREE || place->state == WSR_URING_HOT_LEAVING)
            continue;
        if (place->state == WSR_URING_HOT_LOOKING)
            end(u, place, -ECANCELED);
        else if (place->state == WSR_URING_HOT_HOLDING)
            enter_state(&u->hot, place, WSR_URING_HOT_LAST);
        return true;
    }
    return false;
}

static void look_at(struct uring *u, struct wsr_uring_hot_place *place)
{
    struct wsr_uring_hot *hot = &u->hot;
    if (WSR_UNLIKELY(hot->buffers_count == 0))
        return;
    uint16_t buffer = hot->buffers[hot->buffers_count - 1];
    ssize_t got = recv(place->file, wsr_uring_buffer_bytes(&u->buffers, buffer), u->buffers.bytes, MSG_DONTWAIT);
    if (got > 0) {
        hot->buffers_count--;
        place->buffer = buffer;
        place->result = (int32_t)got;
        enter_state(hot, place, WSR_URING_HOT_HOLDING);
    } else if (got == 0) {
        end(u, place, 0);
    } else if (errno != EAGAIN && errno != EINTR) {
        end(u, place, -errno);
    }
}

static bool has_bytes(const struct wsr_uring_hot_place *place)
{
    return place->state == WSR_URING_HOT_HOLDING || place->state == WSR_URING_HOT_LAST;
}

static bool has_result(const struct wsr_uring_hot_place *place)
{
    return has_bytes(place) || (place->state == WSR_URING_HOT_ENDING && !place->is_watched);
}

bool wsr_uring_hot_look(struct uring *u)
{
    bool found = false;
    if (u->hot.used_count == 0)
        return false;
    for (unsigned i = 0; i < WSR_URING_HOT_FILES; i++) {
        struct wsr_uring_hot_place *place = &u->hot.places[i];
        if (place->state == WSR_URING_HOT_LOOKING)
            look_at(u, place);
        found |= has_result(place);
    }
    return found;
}

/* The result of @place, which goes on to what follows it. */
static struct wsr_completion take_from(struct uring *u, struct wsr_uring_hot_place *place)
{
    struct wsr_completion done = { .token = place->token, .result = place->result };
    if (!has_bytes(place)) {
        enter_state(&u->hot, place, WSR_URING_HOT_FREE);
        return done;
    }
    done.flags = WSR_COMPLETION_MORE | WSR_COMPLETION_BUFFER;
    done.buffer = place->buffer;
    if (place->state == WSR_URING_HOT_HOLDING)
        enter_state(&u->hot, place, WSR_URING_HOT_LOOKING);
    else
        end(u, place, -ECANCELED);
    return done;
}

unsigned wsr_uring_hot_take(struct uring *u, struct wsr_completion *out, unsigned out_count)
{
    unsigned taken = 0;
    for (unsigned i = 0; i < WSR_URING_HOT_FILES && taken < out_count; i++) {
        if (has_result(&u->hot.places[i]))
            out[taken++] = take_from(u, &u->hot.places[i]);
    }
    return taken;
}

void wsr_uring_hot_sort(struct uring *u)
{
    if (u->hot.is_allowed && u->hot.buffers_count > 0 && u->files.open_count <= WSR_URING_HOT_FILES)
        return;
    for (unsigned i = 0; i < WSR_URING_HOT_FILES; i++) {
        struct wsr_uring_hot_place *place = &u->hot.places[i];
        if (place->state != WSR_URING_HOT_LOOKING)
            continue;
        unwatch(u, place);
        enter_state(&u->hot, place, place->is_watched ? WSR_URING_HOT_LEAVING : WSR_URING_HOT_FREE);
        wsr_uring_arm_recv(u, place->file, place->token);
    }
}

bool wsr_uring_hot_watch(struct uring *u)
{
    bool has_all = true;
    for (unsigned i = 0; i < WSR_URING_HOT_FILES; i++) {
        struct wsr_uring_hot_place *place = &u->hot.places[i];
        if (place->state == WSR_URING_HOT_LOOKING && !place->is_watched)
            has_all &= place->is_watched = wsr_uring_poll_own(u, place->file, POLLIN, WSR_URING_TOKEN_WATCH + i);
    }
    return has_all;
}

void wsr_uring_hot_watched(struct uring *u, unsigned index)
{
    struct wsr_uring_hot_place *place = &u->hot.places[index];
    place->is_watched = false;
    if (place->state == WSR_URING_HOT_LEAVING)
        enter_state(&u->hot, place, WSR_URING_HOT_FREE);
}

ssize_t wsr_uring_hot_send(struct uring *u, wsr_file file, const struct iovec *parts, size_t parts_count)
{
    static const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    ssize_t sent;
    if (!wsr_uring_hot_suits(u, file))
        return -EAGAIN;
    if (parts_count == 1) {
        sent = send(file, parts[0].iov_base, parts[0].iov_len, flags);
    } else {
        struct msghdr head = { .msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = parts_count };
        sent = sendmsg(file, &head, flags);
    }
    return sent >= 0 ? sent : errno == EINTR ? -EAGAIN : -errno;
}
