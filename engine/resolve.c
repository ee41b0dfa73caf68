/* Up to four detached threads take look-ups from one list. A look-up holds its own copy of the name, and threads and
 * resolver hold the shared part by a count, so a thread that hangs in the C library owns all it will touch when it
 * comes back. */
#include "resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define THREADS_MAX 4u

enum lookup_state {
    LOOKUP_WAITING,                   /* for a thread */
    LOOKUP_RUNNING,                   /* in getaddrinfo; requests may still join */
    LOOKUP_ANSWERING                  /* the answer is there; nobody may join it any more, so it cannot grow stale */
};

struct lookup {
    struct lookup *next;
    enum lookup_state state;
    struct wsr_resolve_request *requests;      /* first in, first out; a cancelled one is taken out */
    struct wsr_resolve_request **requests_end;
    char host[sizeof ((struct wsr_resolve_request *)0)->host];
};

struct wsr_resolver {
    pthread_mutex_t lock;             /* guards all below, and `next` and `done` of the requests */
    pthread_cond_t work;              /* a look-up waits, or the end has come */
    pthread_cond_t quiet;             /* calling_count fell to 0 */
    struct lookup *lookups;           /* of every state, oldest first */
    struct lookup **lookups_end;
    unsigned waiting_count;           /* look-ups in LOOKUP_WAITING */
    unsigned threads_count;
    unsigned idle_count;              /* threads that wait for `work` */
    unsigned calling_count;           /* done() in progress */
    unsigned holders_count;           /* the owner and each thread; the last one frees */
    bool closing;
};

/* ---- Lists; the lock is held ---- */

/* WAITING -> RUNNING -> ANSWERING, one step at a time. */
static void enter(struct lookup *lookup, enum lookup_state to)
{
    assert(to == lookup->state + 1);
    lookup->state = to;
}

static void remove_lookup(struct wsr_resolver *resolver, struct lookup *lookup)
{
    struct lookup **link = &resolver->lookups;
    while (*link != lookup)
        link = &(*link)->next;
    *link = lookup->next;
    if (resolver->lookups_end == &lookup->next)
        resolver->lookups_end = link;
    if (lookup->state == LOOKUP_WAITING)
        resolver->waiting_count--;
    free(lookup);
}

static struct lookup *add_lookup(struct wsr_resolver *resolver, const char *host)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL)
        return NULL;
    memcpy(lookup->host, host, strnlen(host, sizeof lookup->host - 1));
    lookup->requests_end = &lookup->requests;
    *resolver->lookups_end = lookup;
    resolver->lookups_end = &lookup->next;
    resolver->waiting_count++;
    return lookup;
}

static struct lookup *find_joinable(const struct wsr_resolver *resolver, const char *host)
{
    for (struct lookup *lookup = resolver->lookups; lookup != NULL; lookup = lookup->next) {
        if (lookup->state < LOOKUP_ANSWERING && strncmp(lookup->host, host, sizeof lookup->host) == 0)
            return lookup;
    }
    return NULL;
}

static struct lookup *take_waiting(struct wsr_resolver *resolver)
{
    struct lookup *lookup = resolver->lookups;
    while (lookup != NULL && lookup->state != LOOKUP_WAITING)
        lookup = lookup->next;
    if (lookup != NULL) {
        enter(lookup, LOOKUP_RUNNING);
        resolver->waiting_count--;
    }
    return lookup;
}

static void unlink_request(struct lookup *lookup, struct wsr_resolve_request **link)
{
    struct wsr_resolve_request *request = *link;
    *link = request->next;
    if (lookup->requests_end == &request->next)
        lookup->requests_end = link;
    request->next = NULL;
}

/* ---- Threads ---- */

/* Let go of the shared part; the lock is held, and is not any more. */
static void let_go(struct wsr_resolver *resolver)
{
    bool last = --resolver->holders_count == 0;
    while (last && resolver->lookups != NULL)
        remove_lookup(resolver, resolver->lookups);
    pthread_mutex_unlock(&resolver->lock);
    if (!last)
        return;
    pthread_cond_destroy(&resolver->work);
    pthread_cond_destroy(&resolver->quiet);
    pthread_mutex_destroy(&resolver->lock);
    free(resolver);
}

static bool copy_address(struct wsr_address *to, const struct addrinfo *from, uint16_t port)
{
    if (from->ai_family == AF_INET && from->ai_addrlen == sizeof to->in4) {
        memcpy(&to->in4, from->ai_addr, sizeof to->in4);
        to->in4.sin_port = htons(port);
    } else if (from->ai_family == AF_INET6 && from->ai_addrlen == sizeof to->in6) {
        memcpy(&to->in6, from->ai_addr, sizeof to->in6);
        to->in6.sin6_port = htons(port);
    } else {
        return false;
    }
    to->bytes = from->ai_addrlen;
    return true;
}

/* The order of getaddrinfo is kept: it is that of RFC 6724. */
static void fill(struct wsr_resolve_request *request, const struct addrinfo *found, int error, int system_errno)
{
    request->addresses_count = 0;
    for (; found != NULL && request->addresses_count < WSR_RESOLVE_ADDRESSES_MAX; found = found->ai_next) {
        if (copy_address(&request->addresses[request->addresses_count], found, request->port))
            request->addresses_count++;
    }
    request->error = error == 0 && request->addresses_count == 0 ? EAI_NONAME : error;
    request->system_errno = error == EAI_SYSTEM ? system_errno : 0;
}

/* Hand the answer to each request that still wants it. The lock is held, but not while done() runs: it may start or
 * cancel requests. Each request is taken off the list before, so that a cancel from here on finds it gone. */
static void answer(struct wsr_resolver *resolver, struct lookup *lookup, const struct addrinfo *found, int error,
                   int system_errno)
{
    while (lookup->requests != NULL && !resolver->closing) {
        struct wsr_resolve_request *request = lookup->requests;
        unlink_request(lookup, &lookup->requests);
        fill(request, found, error, system_errno);
        resolver->calling_count++;
        pthread_mutex_unlock(&resolver->lock);
        request->done(request);
        pthread_mutex_lock(&resolver->lock);
        if (--resolver->calling_count == 0)
            pthread_cond_broadcast(&resolver->quiet);
    }
}

/* The lock is held before and after, and not in between. */
static void run_lookup(struct wsr_resolver *resolver, struct lookup *lookup)
{
    /* No AI_ADDRCONFIG: it hides ::1 and 127.0.0.1 on a machine without other addresses. */
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;

    pthread_mutex_unlock(&resolver->lock);
    int error = getaddrinfo(lookup->host, NULL, &hints, &found);
    int system_errno = errno;
    pthread_mutex_lock(&resolver->lock);

    enter(lookup, LOOKUP_ANSWERING);
    answer(resolver, lookup, found, error, system_errno);
    remove_lookup(resolver, lookup);
    if (error == 0)
        freeaddrinfo(found);
}

static void *thread_main(void *argument)
{
    struct wsr_resolver *resolver = argument;

    pthread_mutex_lock(&resolver->lock);
    while (!resolver->closing) {
        struct lookup *lookup = take_waiting(resolver);
        if (lookup != NULL) {
            run_lookup(resolver, lookup);
            continue;
        }
        resolver->idle_count++;
        pthread_cond_wait(&resolver->work, &resolver->lock);
        resolver->idle_count--;
    }
    let_go(resolver);
    return NULL;
}

/* Start one more thread; the lock is held. False when the system has none to give. */
static bool start_thread(struct wsr_resolver *resolver)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;

    if (pthread_attr_init(&attributes) != 0)
        return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* The application's signal handlers run on its own threads: the new one inherits a mask that blocks them all. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool started = pthread_create(&thread, &attributes, thread_main, resolver) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (started) {
        resolver->threads_count++;
        resolver->holders_count++;
    }
    return started;
}

/* ---- The interface ---- */

struct wsr_resolver *wsr_resolver_create(void)
{
    struct wsr_resolver *resolver = calloc(1, sizeof *resolver);
    if (resolver == NULL)
        return NULL;
    resolver->lookups_end = &resolver->lookups;
    resolver->holders_count = 1;
    /* With default attributes none of these can fail on Linux. */
    pthread_mutex_init(&resolver->lock, NULL);
    pthread_cond_init(&resolver->work, NULL);
    pthread_cond_init(&resolver->quiet, NULL);
    return resolver;
}

void wsr_resolver_destroy(struct wsr_resolver *resolver)
{
    if (resolver == NULL)
        return;
    pthread_mutex_lock(&resolver->lock);
    resolver->closing = true;
    for (struct lookup *lookup = resolver->lookups; lookup != NULL; lookup = lookup->next) {
        while (lookup->requests != NULL)
            unlink_request(lookup, &lookup->requests);
    }
    pthread_cond_broadcast(&resolver->work);
    while (resolver->calling_count > 0)                /* done() does not block */
        pthread_cond_wait(&resolver->quiet, &resolver->lock);
    let_go(resolver);
}

int wsr_resolve_start(struct wsr_resolver *resolver, struct wsr_resolve_request *request)
{
    int rc = 0;

    assert(request->done != NULL);
    pthread_mutex_lock(&resolver->lock);
    struct lookup *lookup = find_joinable(resolver, request->host);
    bool joined = lookup != NULL;
    if (!joined)
        lookup = add_lookup(resolver, request->host);
    if (lookup == NULL) {
        pthread_mutex_unlock(&resolver->lock);
        return WSR_ERR_MEMORY;
    }
    request->next = NULL;
    *lookup->requests_end = request;
    lookup->requests_end = &request->next;

    if (!joined && resolver->waiting_count > resolver->idle_count && resolver->threads_count < THREADS_MAX)
        start_thread(resolver);
    if (resolver->threads_count == 0) {                /* nobody would ever look */
        unlink_request(lookup, &lookup->requests);
        remove_lookup(resolver, lookup);
        rc = WSR_ERR_MEMORY;
    }
    pthread_cond_signal(&resolver->work);
    pthread_mutex_unlock(&resolver->lock);
    return rc;
}

/* Take @request off @lookup. Whether it was there. */
static bool withdraw(struct lookup *lookup, struct wsr_resolve_request *request)
{
    for (struct wsr_resolve_request **link = &lookup->requests; *link != NULL; link = &(*link)->next) {
        if (*link == request) {
            unlink_request(lookup, link);
            return true;
        }
    }
    return false;
}

bool wsr_resolve_cancel(struct wsr_resolver *resolver, struct wsr_resolve_request *request)
{
    pthread_mutex_lock(&resolver->lock);
    struct lookup *lookup = resolver->lookups;
    while (lookup != NULL && !withdraw(lookup, request))
        lookup = lookup->next;
    if (lookup != NULL && lookup->state == LOOKUP_WAITING && lookup->requests == NULL)
        remove_lookup(resolver, lookup);
    pthread_mutex_unlock(&resolver->lock);
    return lookup != NULL;
}

bool wsr_resolve_numeric(struct wsr_address *out, const char *host, size_t host_len, uint16_t port)
{
    char text[INET6_ADDRSTRLEN];
    struct wsr_address address = { 0 };
    bool bracketed = host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']';

    if (bracketed) {
        host++;
        host_len -= 2;
    }
    /* A zero byte would end the text early, and what follows it would go unread. */
    if (host_len == 0 || host_len >= sizeof text || memchr(host, '\0', host_len) != NULL)
        return false;
    memcpy(text, host, host_len);
    text[host_len] = '\0';

    if (!bracketed && inet_pton(AF_INET, text, &address.in4.sin_addr) == 1) {
        address.in4.sin_family = AF_INET;
        address.in4.sin_port = htons(port);
        address.bytes = sizeof address.in4;
    } else if (inet_pton(AF_INET6, text, &address.in6.sin6_addr) == 1) {      /* knows no zone ids: RFC 3986 has none */
        address.in6.sin6_family = AF_INET6;
        address.in6.sin6_port = htons(port);
        address.bytes = sizeof address.in6;
    } else {
        return false;
    }
    *out = address;
    return true;
}
