/* The on* slots and the listeners of a socket share one list, since they share one order (EVT-11). */
#include "listener.h"

#include <stdlib.h>

#include "error.h"
#include "socket.h"

struct listener {
    wsr_handler handler;
    void *context;
    uint64_t added;            /* number of the addition: a dispatch does not call those that came after it began */
    uint8_t type;
    bool is_slot;
    bool once;
    bool is_removed;
};

struct wsr_listeners {
    struct listener *list;
    size_t count;
    size_t capacity;
    uint64_t additions;
    uint32_t depth;            /* dispatches under way: entries keep their places */
};

static bool is_type(enum wsr_event_type type)
{
    return type > 0 && (unsigned)type < WSR_EVENT_TYPES_COUNT;
}

static int refuse_type(enum wsr_event_type type)
{
    return wsr_error_set(WSR_ERR_ARGUMENT, "event type %d is unknown; use an enum wsr_event_type", (int)type);
}

static struct listener *append(struct wsr_socket *socket, const struct listener *entry)
{
    if (socket->listeners == NULL)
        socket->listeners = calloc(1, sizeof *socket->listeners);
    struct wsr_listeners *all = socket->listeners;
    if (all == NULL)
        return NULL;
    if (all->count == all->capacity) {
        size_t capacity = all->capacity == 0 ? 4 : all->capacity * 2;
        struct listener *list = realloc(all->list, capacity * sizeof *list);
        if (list == NULL)
            return NULL;
        all->list = list;
        all->capacity = capacity;
    }
    all->list[all->count] = *entry;
    all->list[all->count].added = ++all->additions;
    return &all->list[all->count++];
}

static struct listener *find_slot(const struct wsr_socket *socket, enum wsr_event_type type)
{
    const struct wsr_listeners *all = socket->listeners;
    for (size_t i = 0; all != NULL && i < all->count; i++) {
        if (all->list[i].is_slot && !all->list[i].is_removed && all->list[i].type == type)
            return &all->list[i];
    }
    return NULL;
}

static struct listener *find(const struct wsr_socket *socket, enum wsr_event_type type, wsr_handler handler,
                             const void *context)
{
    const struct wsr_listeners *all = socket->listeners;
    for (size_t i = 0; all != NULL && i < all->count; i++) {
        struct listener *entry = &all->list[i];
        if (!entry->is_slot && !entry->is_removed && entry->type == type && entry->handler == handler &&
            entry->context == context)
            return entry;
    }
    return NULL;
}

/* Entries that were removed leave when no dispatch counts on their places. */
static void compact(struct wsr_listeners *all)
{
    if (all->depth > 0)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < all->count; i++) {
        if (!all->list[i].is_removed)
            all->list[kept++] = all->list[i];
    }
    all->count = kept;
}

int wsr_set_on(struct wsr_socket *socket, enum wsr_event_type type, wsr_handler handler, void *context)
{
    if (!is_type(type))
        return refuse_type(type);
    struct listener *slot = find_slot(socket, type);
    if (handler == NULL) {
        /* WHATWG HTML: deactivating an event handler removes its listener, so that the place is lost. */
        if (slot != NULL) {
            slot->is_removed = true;
            compact(socket->listeners);
        }
        return 0;
    }
    if (slot != NULL) {
        slot->handler = handler;
        slot->context = context;
        return 0;
    }
    const struct listener entry = { .handler = handler, .context = context, .type = (uint8_t)type, .is_slot = true };
    if (append(socket, &entry) == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for an event handler");
    return 0;
}

wsr_handler wsr_get_on(const struct wsr_socket *socket, enum wsr_event_type type)
{
    const struct listener *slot = is_type(type) ? find_slot(socket, type) : NULL;
    return slot != NULL ? slot->handler : NULL;
}

int wsr_add_event_listener(struct wsr_socket *socket, enum wsr_event_type type, wsr_handler handler, void *context,
                           uint32_t flags)
{
    if (!is_type(type))
        return refuse_type(type);
    if (handler == NULL || (flags & ~(uint32_t)WSR_LISTENER_ONCE) != 0)
        return wsr_error_set(WSR_ERR_ARGUMENT, "a listener needs a handler, and no flag but WSR_LISTENER_ONCE");
    if (find(socket, type, handler, context) != NULL)
        return 0;
    const struct listener entry = { .handler = handler, .context = context, .type = (uint8_t)type,
                                    .once = (flags & WSR_LISTENER_ONCE) != 0 };
    if (append(socket, &entry) == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for an event listener");
    return 0;
}

int wsr_remove_event_listener(struct wsr_socket *socket, enum wsr_event_type type, wsr_handler handler, void *context)
{
    if (!is_type(type))
        return refuse_type(type);
    struct listener *entry = find(socket, type, handler, context);
    if (entry != NULL) {
        entry->is_removed = true;
        compact(socket->listeners);
    }
    return 0;
}

void wsr_listener_call(struct wsr_listeners *all, const struct wsr_event *event, const bool *is_over)
{
    if (all == NULL)
        return;
    uint64_t last = all->additions;
    all->depth++;
    /* A handler may add to the list, which moves it: entries are reached by index, and copied before the call. */
    for (size_t i = 0; i < all->count && !*is_over; i++) {
        struct listener entry = all->list[i];
        if (entry.is_removed || entry.type != event->type || entry.added > last)
            continue;
        if (entry.once)
            all->list[i].is_removed = true;
        entry.handler(event, entry.context);
    }
    all->depth--;
    compact(all);
}

void wsr_listener_free(struct wsr_listeners *all)
{
    if (all == NULL)
        return;
    free(all->list);
    free(all);
}
