/* A table of the places inside, by address; each begins the circle of those that wait for it. Nothing is allocated: the
 * places are their owners', and who leaves hands its place in the table to the next. */
#include "gate.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>

#define BUCKETS_COUNT 1024u

struct wsr_gate {
    pthread_mutex_t lock;
    struct wsr_gate_place *buckets[BUCKETS_COUNT];
};

static const uint8_t may_follow[] = {
    [WSR_GATE_OUTSIDE] = 1u << WSR_GATE_WAITING | 1u << WSR_GATE_INSIDE,
    [WSR_GATE_WAITING] = 1u << WSR_GATE_INSIDE | 1u << WSR_GATE_OUTSIDE,
    [WSR_GATE_INSIDE] = 1u << WSR_GATE_OUTSIDE,
};

static void enter_state(struct wsr_gate_place *place, enum wsr_gate_state to)
{
    assert(may_follow[place->state] & (1u << to));
    place->state = to;
}

static struct wsr_gate_key key_of(const struct sockaddr *address)
{
    struct wsr_gate_key key = { .ip = { 0 } };
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in4;
        memcpy(&in4, address, sizeof in4);
        key.ip[10] = key.ip[11] = 0xff;
        memcpy(key.ip + 12, &in4.sin_addr, sizeof in4.sin_addr);
        key.port = in4.sin_port;
    } else {
        struct sockaddr_in6 in6;
        assert(address->sa_family == AF_INET6);
        memcpy(&in6, address, sizeof in6);
        memcpy(key.ip, &in6.sin6_addr, sizeof in6.sin6_addr);
        key.scope = in6.sin6_scope_id;
        key.port = in6.sin6_port;
    }
    return key;
}

static bool is_same(const struct wsr_gate_key *a, const struct wsr_gate_key *b)
{
    return a->port == b->port && a->scope == b->scope && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

/* ---- The lock is held ---- */

/* What points to the place that is inside for @key, or to the NULL where it would be. */
static struct wsr_gate_place **find(struct wsr_gate *gate, const struct wsr_gate_key *key)
{
    uint32_t hash = 2166136261u;              /* FNV-1a */
    for (size_t i = 0; i < sizeof key->ip; i++)
        hash = (hash ^ key->ip[i]) * 16777619u;
    hash = (hash ^ key->port) * 16777619u;
    struct wsr_gate_place **link = &gate->buckets[(hash ^ hash >> 16) % BUCKETS_COUNT];
    while (*link != NULL && !is_same(&(*link)->key, key))
        link = &(*link)->chain_next;
    return link;
}

static void unlink_place(struct wsr_gate_place *place)
{
    place->previous->next = place->next;
    place->next->previous = place->previous;
    place->next = place->previous = NULL;
}

/* Returns who has its turn now, or NULL. */
static struct wsr_gate_place *hand_over(struct wsr_gate *gate, struct wsr_gate_place *place)
{
    struct wsr_gate_place **link = find(gate, &place->key);
    assert(*link == place);
    struct wsr_gate_place *next = place->next != place ? place->next : NULL;
    if (next == NULL) {
        *link = place->chain_next;
    } else {
        *link = next;
        next->chain_next = place->chain_next;
        enter_state(next, WSR_GATE_INSIDE);
    }
    unlink_place(place);
    place->chain_next = NULL;
    return next;
}

/* ---- The interface ---- */

struct wsr_gate *wsr_gate_create(void)
{
    struct wsr_gate *gate = calloc(1, sizeof *gate);
    if (gate != NULL)
        pthread_mutex_init(&gate->lock, NULL);    /* with default attributes it cannot fail on Linux */
    return gate;
}

void wsr_gate_destroy(struct wsr_gate *gate)
{
    if (gate == NULL)
        return;
    for (size_t i = 0; i < BUCKETS_COUNT; i++)
        assert(gate->buckets[i] == NULL);
    pthread_mutex_destroy(&gate->lock);
    free(gate);
}

bool wsr_gate_enter(struct wsr_gate *gate, struct wsr_gate_place *place, const struct sockaddr *address)
{
    place->key = key_of(address);
    pthread_mutex_lock(&gate->lock);
    struct wsr_gate_place **link = find(gate, &place->key), *inside = *link;
    if (inside == NULL) {
        place->next = place->previous = place;
        place->chain_next = NULL;
        *link = place;
    } else {
        place->next = inside;
        place->previous = inside->previous;
        place->previous->next = inside->previous = place;
    }
    enter_state(place, inside == NULL ? WSR_GATE_INSIDE : WSR_GATE_WAITING);
    pthread_mutex_unlock(&gate->lock);
    return inside == NULL;
}

bool wsr_gate_withdraw(struct wsr_gate *gate, struct wsr_gate_place *place)
{
    pthread_mutex_lock(&gate->lock);
    bool is_waiting = place->state == WSR_GATE_WAITING;
    assert(place->state != WSR_GATE_OUTSIDE);
    if (is_waiting) {
        unlink_place(place);
        enter_state(place, WSR_GATE_OUTSIDE);
    }
    pthread_mutex_unlock(&gate->lock);
    return is_waiting;
}

void wsr_gate_leave(struct wsr_gate *gate, struct wsr_gate_place *place)
{
    struct wsr_gate_place *next = NULL;
    pthread_mutex_lock(&gate->lock);
    if (place->state == WSR_GATE_INSIDE)
        next = hand_over(gate, place);
    else if (place->state == WSR_GATE_WAITING)
        unlink_place(place);
    if (place->state != WSR_GATE_OUTSIDE)
        enter_state(place, WSR_GATE_OUTSIDE);
    pthread_mutex_unlock(&gate->lock);
    if (next != NULL)
        next->admitted(next);
}
