/* A table by peer, newest first in each bucket, and a list of all by age. A bucket is searched in order: it holds four
 * entries when the table is full, and a few dozen more when one of its peers has as many as it may have. */
#include "tls_session.h"

#include <pthread.h>
#include <stdlib.h>

#define BUCKETS 256u
#define LIFE_1_2_MAX_S (24 * 3600)       /* RFC 5246 F.1.4 */
#define LIFE_1_3_MAX_S (7 * 24 * 3600)   /* RFC 8446 4.6.1 */

struct entry {
    struct entry *next;              /* of the bucket, older */
    struct entry *older, *newer;     /* of all */
    SSL_SESSION *session;
    uint32_t bucket;
    char peer[];
};

struct wsr_tls_session_cache {
    pthread_mutex_t lock;            /* of all that follows */
    struct entry *buckets[BUCKETS];
    struct entry *oldest, *newest;
    uint32_t count;
};

/* FNV-1a. The peers are those that the application connects to, not anyone's choice. */
static uint32_t bucket_of(const char *peer)
{
    uint32_t hash = 2166136261u;
    for (; *peer != '\0'; peer++)
        hash = (hash ^ (uint8_t)*peer) * 16777619u;
    return (hash ^ hash >> 16) % BUCKETS;
}

static bool is_reusable(const SSL_SESSION *session)
{
    return SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION;
}

/* How long after it was made the server may still know it. */
static int64_t life_s(const SSL_SESSION *session)
{
    int64_t hint = (int64_t)SSL_SESSION_get_ticket_lifetime_hint(session);
    if (!is_reusable(session))       /* "The value of zero indicates that the ticket should be discarded immediately" */
        return hint < LIFE_1_3_MAX_S ? hint : LIFE_1_3_MAX_S;
    int64_t life = hint > 0 ? hint : SSL_SESSION_get_timeout(session);    /* RFC 5077 3.3: zero says nothing */
    return life < LIFE_1_2_MAX_S ? life : LIFE_1_2_MAX_S;
}

/* The certificate is not looked at when a session is resumed, so it must not have ended by then. */
static bool is_certificate_over(SSL_SESSION *session, int64_t now_s)
{
    time_t now = (time_t)now_s;
    X509 *certificate = SSL_SESSION_get0_peer(session);
    return certificate != NULL && X509_cmp_time(X509_get0_notAfter(certificate), &now) < 0;
}

static bool may_be_resumed(SSL_SESSION *session, int64_t now_s)
{
    int64_t age_s = now_s - (int64_t)SSL_SESSION_get_time(session);
    return SSL_SESSION_is_resumable(session) == 1 && age_s >= 0 && age_s < life_s(session) &&
           !is_certificate_over(session, now_s);
}

/* ---- Entries. All under the lock. -------------------------------------------------------------- */

static void insert(struct wsr_tls_session_cache *cache, struct entry *entry)
{
    entry->next = cache->buckets[entry->bucket];
    cache->buckets[entry->bucket] = entry;
    entry->older = cache->newest;
    if (cache->newest != NULL)
        cache->newest->newer = entry;
    else
        cache->oldest = entry;
    cache->newest = entry;
    cache->count++;
}

static void unlink_entry(struct wsr_tls_session_cache *cache, struct entry *entry)
{
    struct entry **at = &cache->buckets[entry->bucket];
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    *(entry->newer != NULL ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &cache->oldest) = entry->newer;
    cache->count--;
}

/* Take it out, to be freed when the lock is open again. */
static void discard(struct wsr_tls_session_cache *cache, struct entry *entry, struct entry **discarded)
{
    unlink_entry(cache, entry);
    entry->next = *discarded;
    *discarded = entry;
}

static void free_all(struct entry *entry)
{
    while (entry != NULL) {
        struct entry *next = entry->next;
        SSL_SESSION_free(entry->session);
        free(entry);
        entry = next;
    }
}

/* Make room for a session like @session of @peer. */
static void make_room(struct wsr_tls_session_cache *cache, uint32_t bucket, const char *peer,
                      const SSL_SESSION *session, struct entry **discarded)
{
    unsigned same_count = 0;
    struct entry *next;
    for (struct entry *entry = cache->buckets[bucket]; entry != NULL; entry = next) {
        next = entry->next;
        if (strcmp(entry->peer, peer) != 0)
            continue;
        if ((is_reusable(session) && is_reusable(entry->session)) || ++same_count >= WSR_TLS_SESSION_PER_PEER_MAX)
            discard(cache, entry, discarded);
    }
    if (cache->count >= WSR_TLS_SESSION_ALL_MAX)
        discard(cache, cache->oldest, discarded);
}

/* ---- The cache --------------------------------------------------------------------------------- */

struct wsr_tls_session_cache *wsr_tls_session_cache_create(void)
{
    struct wsr_tls_session_cache *cache = calloc(1, sizeof *cache);
    if (cache != NULL && pthread_mutex_init(&cache->lock, NULL) != 0) {
        free(cache);
        cache = NULL;
    }
    return cache;
}

void wsr_tls_session_cache_free(struct wsr_tls_session_cache *cache)
{
    if (cache == NULL)
        return;
    for (uint32_t i = 0; i < BUCKETS; i++)
        free_all(cache->buckets[i]);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

bool wsr_tls_session_cache_keep(struct wsr_tls_session_cache *cache, const char *peer, SSL_SESSION *session,
                                int64_t now_s)
{
    if (!may_be_resumed(session, now_s))
        return false;
    size_t peer_bytes = strlen(peer) + 1;
    struct entry *entry = calloc(1, sizeof *entry + peer_bytes), *discarded = NULL;
    if (entry == NULL)
        return false;
    memcpy(entry->peer, peer, peer_bytes);
    entry->bucket = bucket_of(peer);
    entry->session = session;
    pthread_mutex_lock(&cache->lock);
    make_room(cache, entry->bucket, peer, session, &discarded);
    insert(cache, entry);
    pthread_mutex_unlock(&cache->lock);
    free_all(discarded);
    return true;
}

SSL_SESSION *wsr_tls_session_cache_take(struct wsr_tls_session_cache *cache, const char *peer, int64_t now_s)
{
    SSL_SESSION *found = NULL;
    struct entry *next, *discarded = NULL;
    pthread_mutex_lock(&cache->lock);
    for (struct entry *entry = cache->buckets[bucket_of(peer)]; entry != NULL && found == NULL; entry = next) {
        next = entry->next;
        if (strcmp(entry->peer, peer) != 0)
            continue;
        if (may_be_resumed(entry->session, now_s)) {
            found = entry->session;
            SSL_SESSION_up_ref(found);
        }
        if (found == NULL || !is_reusable(found))
            discard(cache, entry, &discarded);
    }
    pthread_mutex_unlock(&cache->lock);
    free_all(discarded);
    return found;
}

uint64_t wsr_tls_session_cache_count(struct wsr_tls_session_cache *cache, int64_t now_s)
{
    uint64_t count = 0;
    struct entry *newer, *discarded = NULL;
    pthread_mutex_lock(&cache->lock);
    for (struct entry *entry = cache->oldest; entry != NULL; entry = newer) {
        newer = entry->newer;
        if (may_be_resumed(entry->session, now_s))
            count++;
        else
            discard(cache, entry, &discarded);
    }
    pthread_mutex_unlock(&cache->lock);
    free_all(discarded);
    return count;
}
