/* A record is taken whole, where it lies or gathered from its pieces, and given to whoever carries the records. */
#include "tls.h"

#include <stdlib.h>

#include "tls_handshake.h"
#include "tls_library.h"

#define LIBRARY_OVERHEAD 320u    /* header, nonce, MAC and padding of any suite, and the KeyUpdate before it */

static const char no_memory[] = "no memory for TLS";

static const uint8_t may_follow[] = {
    [WSR_TLS_NONE] = 1u << WSR_TLS_SHAKING,
    [WSR_TLS_SHAKING] = 1u << WSR_TLS_READY | 1u << WSR_TLS_FAILED,
    [WSR_TLS_READY] = 1u << WSR_TLS_OPEN | 1u << WSR_TLS_FAILED,
    [WSR_TLS_OPEN] = 1u << WSR_TLS_CLOSED | 1u << WSR_TLS_FAILED,
    [WSR_TLS_CLOSED] = 1u << WSR_TLS_FAILED,
    [WSR_TLS_FAILED] = 0,
};

static void enter(struct wsr_tls *tls, enum wsr_tls_state to)
{
    assert(may_follow[tls->state] & (1u << to));
    tls->state = (uint8_t)to;
}

const char *wsr_tls_why_text(enum wsr_tls_why why)
{
    static const char *const texts[] = {
        [WSR_TLS_WHY_NONE] = "",
        [WSR_TLS_WHY_ASKED] = "the engine's tls_records asks for it",
        [WSR_TLS_WHY_BEST] = "the fastest of what passes all tests, left to choose",
        [WSR_TLS_WHY_SUITE] = "the cipher suite is neither AES-GCM nor ChaCha20-Poly1305, so only the library can",
    };
    return texts[why];
}

uint32_t wsr_tls_facts_pack(const struct wsr_tls_facts *facts)
{
    if (facts->version == 0)
        return 0;
    return (uint32_t)facts->suite << 16 | (facts->version == WSR_TLS_1_3 ? 2u : 1u) << 8 |
           (uint32_t)facts->records << 4 | (uint32_t)facts->why << 2 | (uint32_t)facts->was_resumed << 1 |
           facts->is_verified;
}

struct wsr_tls_facts wsr_tls_facts_unpack(uint32_t packed)
{
    if (packed == 0)
        return (struct wsr_tls_facts){ 0 };
    return (struct wsr_tls_facts){
        .version = packed >> 8 & 2 ? WSR_TLS_1_3 : WSR_TLS_1_2, .suite = (uint16_t)(packed >> 16),
        .records = packed >> 4 & 3, .why = packed >> 2 & 3, .was_resumed = packed >> 1 & 1, .is_verified = packed & 1
    };
}

const char *wsr_tls_library_name(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

/* ---- Beginning and end ---- */

/* The SSL is no longer needed. */
static void drop_handshake(struct wsr_tls *tls)
{
    wsr_tls_handshake_free(tls->handshake);
    tls->handshake = NULL;
}

int wsr_tls_start(struct wsr_tls *tls, struct wsr_tls_shared *shared, struct wsr_tls_context *context,
                  const char *name, uint16_t port, const char **text)
{
    *tls = (struct wsr_tls){ .shared = shared };
    *text = no_memory;
    tls->handshake = wsr_tls_handshake_create(context, name, port);
    if (tls->handshake == NULL)
        return WSR_ERR_MEMORY;
    enter(tls, WSR_TLS_SHAKING);
    struct wsr_tls_event event = { 0 };
    wsr_tls_library_shake(tls->handshake, NULL, 0, &event);
    if (event.type == WSR_TLS_EVENT_NOTHING)
        return 0;
    *text = event.text;
    return WSR_ERR_NOT_SUPPORTED;
}

void wsr_tls_free(struct wsr_tls *tls)
{
    drop_handshake(tls);
    wsr_tls_direct_free(&tls->direct);
    if (tls->record != NULL)
        tls->shared->release(tls->shared->context, tls->record);
    *tls = (struct wsr_tls){ 0 };
}

static void fail(struct wsr_tls *tls, struct wsr_tls_event *event, const char *text)
{
    event->type = WSR_TLS_EVENT_FAILURE;
    event->text = text;
    event->alert = 0;
    enter(tls, WSR_TLS_FAILED);
}

/* ---- Opening ---- */

/* The state follows what a record has led to. */
static void follow(struct wsr_tls *tls, const struct wsr_tls_event *event)
{
    if (event->type == WSR_TLS_EVENT_READY)
        enter(tls, WSR_TLS_READY);
    else if (event->type == WSR_TLS_EVENT_CLOSED)
        enter(tls, WSR_TLS_CLOSED);
    else if (event->type == WSR_TLS_EVENT_FAILURE)
        enter(tls, WSR_TLS_FAILED);
}

static bool is_direct(const struct wsr_tls *tls)
{
    return tls->records == WSR_TLS_DIRECT || tls->records == WSR_TLS_KERNEL;
}

static void note_agreement(struct wsr_tls *tls)
{
    SSL *ssl = tls->handshake->ssl;
    tls->facts.version = (uint16_t)SSL_version(ssl);
    tls->facts.suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl));
    tls->facts.was_resumed = SSL_session_reused(ssl) == 1;
    tls->facts.is_verified = !tls->handshake->is_insecure;
}

/* One whole record, or a header that is none, lies at @record. */
static void open_record(struct wsr_tls *tls, uint8_t *record, size_t len, struct wsr_tls_event *event)
{
    if (tls->state == WSR_TLS_SHAKING) {
        wsr_tls_library_shake(tls->handshake, record, len, event);
        if (event->type == WSR_TLS_EVENT_READY)
            note_agreement(tls);
    } else if (is_direct(tls)) {
        wsr_tls_direct_open(&tls->direct, tls->shared, record, len, event);
    } else {
        wsr_tls_library_open(tls->handshake, tls->shared, record, len, event);
    }
    follow(tls, event);
}

/* Length of the record that @header begins; 0 when it is none. */
static size_t record_length(const struct wsr_tls *tls, const uint8_t *header)
{
    if (is_direct(tls))
        return wsr_tls_direct_length(&tls->direct, header);
    size_t len = WSR_TLS_HEADER_BYTES + wsr_load_be16(header + 3);
    return header[1] == 3 && len <= WSR_TLS_RECORD_MAX ? len : 0;
}

/* What begins with @header is no record: the one who carries them says why. */
static void refuse_header(struct wsr_tls *tls, uint8_t *header, struct wsr_tls_event *event)
{
    open_record(tls, header, WSR_TLS_HEADER_BYTES, event);
    if (event->type != WSR_TLS_EVENT_FAILURE)
        fail(tls, event, "the server sent what is no TLS record");
}

/* The gathered record is whole. */
static void open_gathered(struct wsr_tls *tls, struct wsr_tls_event *event)
{
    uint8_t *record = tls->record;
    size_t len = tls->record_bytes;
    tls->record = NULL;
    tls->record_used = tls->record_bytes = 0;
    open_record(tls, record, len, event);
    if (event->type == WSR_TLS_EVENT_DATA && event->block == NULL)
        event->block = record;
    else
        tls->shared->release(tls->shared->context, record);
}

/* The header is whole: make room for its record. Returns false when there is none, with *event set. */
static bool begin_gathering(struct wsr_tls *tls, struct wsr_tls_event *event)
{
    size_t len = record_length(tls, tls->header);
    tls->header_used = 0;
    if (len == 0) {
        refuse_header(tls, tls->header, event);
        return false;
    }
    tls->record = tls->shared->take(tls->shared->context, len);
    if (tls->record == NULL) {
        fail(tls, event, no_memory);
        return false;
    }
    memcpy(tls->record, tls->header, WSR_TLS_HEADER_BYTES);
    tls->record_used = WSR_TLS_HEADER_BYTES;
    tls->record_bytes = (uint32_t)len;
    return true;
}

/* Take what belongs to a record that does not lie at @in as a whole. */
static size_t gather(struct wsr_tls *tls, const uint8_t *in, size_t len, struct wsr_tls_event *event)
{
    size_t taken = 0;
    if (tls->record == NULL) {
        size_t wanted = WSR_TLS_HEADER_BYTES - tls->header_used;
        taken = len < wanted ? len : wanted;
        memcpy(tls->header + tls->header_used, in, taken);
        tls->header_used += (uint8_t)taken;
        if (tls->header_used < WSR_TLS_HEADER_BYTES)
            return taken;
        if (!begin_gathering(tls, event))
            return len;
    }
    size_t wanted = tls->record_bytes - tls->record_used, left = len - taken;
    size_t more = left < wanted ? left : wanted;
    if (more > 0)
        memcpy(tls->record + tls->record_used, in + taken, more);
    tls->record_used += (uint32_t)more;
    if (tls->record_used == tls->record_bytes)
        open_gathered(tls, event);
    return taken + more;
}

size_t wsr_tls_feed(struct wsr_tls *tls, uint8_t *in, size_t len, struct wsr_tls_event *event)
{
    assert(tls->state != WSR_TLS_NONE && tls->state != WSR_TLS_READY);
    *event = (struct wsr_tls_event){ .type = WSR_TLS_EVENT_NOTHING };
    if (tls->state >= WSR_TLS_CLOSED || len == 0)
        return len;
    if (tls->record == NULL && tls->header_used == 0 && len >= WSR_TLS_HEADER_BYTES) {
        size_t whole = record_length(tls, in);
        if (whole == 0) {
            refuse_header(tls, in, event);
            return len;
        }
        if (whole <= len) {
            open_record(tls, in, whole, event);
            return whole;
        }
    }
    return gather(tls, in, len, event);
}

size_t wsr_tls_missing(const struct wsr_tls *tls)
{
    if (tls->record != NULL)
        return tls->record_bytes - tls->record_used;
    return tls->header_used > 0 ? WSR_TLS_HEADER_BYTES - tls->header_used : 0;
}

/* Of a key that the kernel has, only the secret is needed, for the next one. */
static void forget_key(struct wsr_tls *tls, struct wsr_tls_key *key)
{
    wsr_tls_ciphers_forget(tls->shared->ciphers, key);
    OPENSSL_cleanse(key->key, sizeof key->key);
    OPENSSL_cleanse(key->iv, sizeof key->iv);
}

void wsr_tls_take_over(struct wsr_tls *tls)
{
    assert(tls->records == WSR_TLS_KERNEL && wsr_tls_missing(tls) == 0);
    tls->direct.has_kernel = true;
    forget_key(tls, &tls->direct.in);
    forget_key(tls, &tls->direct.out);
}

void wsr_tls_break(struct wsr_tls *tls, uint8_t alert)
{
    assert(tls->direct.has_kernel);
    wsr_tls_direct_alert(&tls->direct, tls->shared, 2, alert);
    enter(tls, WSR_TLS_FAILED);
}

void wsr_tls_control(struct wsr_tls *tls, uint8_t type, struct wsr_bytes content, struct wsr_tls_event *event)
{
    assert(tls->records == WSR_TLS_KERNEL);
    *event = (struct wsr_tls_event){ .type = WSR_TLS_EVENT_NOTHING };
    if (tls->state >= WSR_TLS_CLOSED)
        return;
    wsr_tls_direct_control(&tls->direct, type, content, event);
    follow(tls, event);
}

/* ---- Who carries the records ---- */

/* Give a ticket to OpenSSL, which alone can make a session of it: sealed again, as it came. */
static void keep_ticket(struct wsr_tls_direct *direct, struct wsr_bytes message)
{
    struct wsr_tls *tls = wsr_container_of(direct, struct wsr_tls, direct);
    struct wsr_tls_handshake *handshake = tls->handshake;
    struct wsr_tls_shared *shared = tls->shared;
    if (handshake == NULL || message.len > WSR_TLS_PLAIN_MAX)
        return;
    struct wsr_tls_key key;
    struct wsr_tls_event event = { 0 };
    struct iovec part = { (void *)(uintptr_t)message.data, message.len };
    uint8_t *sealed = shared->take(shared->context, message.len + WSR_TLS_SEALED_OVERHEAD);
    if (sealed == NULL)
        return;
    if (wsr_tls_key_from_secret(&key, direct->suite, handshake->server_secret) == 0) {
        key.sequence = handshake->fed_count++;
        ssize_t len = wsr_tls_record_seal(shared->ciphers, direct->suite, &key, WSR_TLS_HANDSHAKE, &part, 1, sealed);
        if (len > 0)
            wsr_tls_library_open(handshake, shared, sealed, (size_t)len, &event);
        wsr_tls_ciphers_forget(shared->ciphers, &key);
        wsr_tls_key_wipe(&key);
    }
    shared->release(shared->context, sealed);
    if (event.type != WSR_TLS_EVENT_NOTHING)
        drop_handshake(tls);         /* it has lost the thread; there will be no more sessions of this connection */
}

static int take_keys(struct wsr_tls *tls, const struct wsr_tls_suite *suite)
{
    struct wsr_tls_handshake *handshake = tls->handshake;
    struct wsr_tls_direct *direct = &tls->direct;
    uint8_t master[WSR_TLS_MASTER_BYTES], client[WSR_TLS_RANDOM_BYTES], server[WSR_TLS_RANDOM_BYTES];
    if (suite->version == WSR_TLS_1_3) {
        if (handshake->secret_bytes != suite->secret_bytes)
            return WSR_ERR_MEMORY;
        direct->ticket = keep_ticket;
        int rc = wsr_tls_key_from_secret(&direct->out, suite, handshake->client_secret);
        return rc != 0 ? rc : wsr_tls_key_from_secret(&direct->in, suite, handshake->server_secret);
    }
    SSL_SESSION_get_master_key(SSL_get_session(handshake->ssl), master, sizeof master);
    SSL_get_client_random(handshake->ssl, client, sizeof client);
    SSL_get_server_random(handshake->ssl, server, sizeof server);
    int rc = wsr_tls_key_from_master(&direct->out, &direct->in, suite, master, client, server);
    OPENSSL_cleanse(master, sizeof master);
    return rc;
}

static int start_direct(struct wsr_tls *tls, const struct wsr_tls_suite *suite)
{
    tls->direct.suite = suite;
    int rc = take_keys(tls, suite);
    if (rc == 0)
        rc = wsr_tls_direct_start(&tls->direct, tls->shared);
    return rc;
}

int wsr_tls_settle(struct wsr_tls *tls, enum wsr_tls_records wanted)
{
    assert(tls->state == WSR_TLS_READY);
    const struct wsr_tls_suite *suite = NULL;
    enum wsr_tls_records records = WSR_TLS_LIBRARY;
    tls->facts.why = wanted == WSR_TLS_AUTO ? WSR_TLS_WHY_BEST : WSR_TLS_WHY_ASKED;
    if (wanted != WSR_TLS_LIBRARY) {
        suite = wsr_tls_suite_find(tls->facts.version, tls->facts.suite);
        if (suite == NULL && wanted == WSR_TLS_KERNEL)
            return WSR_ERR_NOT_SUPPORTED;
        if (suite == NULL)
            tls->facts.why = WSR_TLS_WHY_SUITE;
        else
            records = wanted == WSR_TLS_KERNEL ? WSR_TLS_KERNEL : WSR_TLS_DIRECT;
    }
    if (suite != NULL) {
        int rc = start_direct(tls, suite);
        if (rc != 0)
            return rc;
        /* Of the library, output may be left, and with TLS 1.3 it makes sessions of the tickets still to come. */
        if (suite->version == WSR_TLS_1_2 && tls->handshake->spill_used == 0)
            drop_handshake(tls);
    }
    tls->records = tls->facts.records = (uint8_t)records;
    enter(tls, WSR_TLS_OPEN);
    return 0;
}

void wsr_tls_end_handshake(struct wsr_tls *tls)
{
    if (is_direct(tls) && tls->handshake != NULL && tls->handshake->spill_used == 0)
        drop_handshake(tls);
}

/* ---- Sealing, and what goes out by itself ---- */

struct wsr_bytes wsr_tls_output(const struct wsr_tls *tls)
{
    if (tls->handshake != NULL && tls->handshake->spill_used > 0)
        return wsr_bytes_of(tls->handshake->spill, tls->handshake->spill_used);
    return wsr_bytes_of(tls->direct.output, tls->direct.output_bytes);
}

void wsr_tls_output_taken(struct wsr_tls *tls)
{
    struct wsr_tls_handshake *handshake = tls->handshake;
    if (handshake == NULL || handshake->spill_used == 0) {
        tls->direct.output_bytes = 0;
        return;
    }
    free(handshake->spill);
    handshake->spill = NULL;
    handshake->spill_used = handshake->spill_room = 0;
    if (is_direct(tls) && tls->facts.version == WSR_TLS_1_2)
        drop_handshake(tls);
}

size_t wsr_tls_sealed_max(const struct wsr_tls *tls, size_t bytes)
{
    return bytes + (is_direct(tls) ? WSR_TLS_SEALED_OVERHEAD + WSR_TLS_DIRECT_OWED_MAX : LIBRARY_OVERHEAD);
}

ssize_t wsr_tls_seal(struct wsr_tls *tls, const struct iovec *parts, size_t parts_count, uint8_t *out)
{
    assert(tls->state == WSR_TLS_OPEN || tls->state == WSR_TLS_CLOSED);
    if (is_direct(tls))
        return wsr_tls_direct_seal(&tls->direct, tls->shared, parts, parts_count, out);
    size_t bytes = 0;
    for (size_t i = 0; i < parts_count; i++)
        bytes += parts[i].iov_len;
    return wsr_tls_library_seal(tls->handshake, tls->shared, parts, parts_count, out,
                                wsr_tls_sealed_max(tls, bytes));
}

void wsr_tls_close(struct wsr_tls *tls)
{
    if (tls->has_closed || (tls->state != WSR_TLS_OPEN && tls->state != WSR_TLS_CLOSED))
        return;
    tls->has_closed = true;
    if (is_direct(tls))
        wsr_tls_direct_alert(&tls->direct, tls->shared, 1, 0);
    else
        wsr_tls_library_close(tls->handshake);
}
