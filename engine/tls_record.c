/* One record is five calls of EVP: the nonce, what is authenticated only, the content, the end, the tag. To give a
 * context another key costs about as much as sealing a hundred bytes, so keys keep theirs while there is room. */
#include "tls_record.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>

#define LEGACY_VERSION 0x0303u           /* in every header, RFC 8446 5.1 */
#define CONTENT_MAX 16384u
#define EXPLICIT_BYTES 8u                /* RFC 5288 3 */
#define TAG_BYTES 16u
#define AAD_BYTES 13u                    /* of TLS 1.2, RFC 5246 6.2.3.3; TLS 1.3 has the header */

/* Of each cipher, of about a kilobyte. A connection needs two, one for each direction; with more connections than have
 * room here the next record of each may pay for its key again, which costs a record of 128 bytes two thirds more. */
#define PLACES 64u

/* Up to here it is cheaper to copy the parts to where they are encrypted than to encrypt them one by one. */
#define GATHER_MAX 4096u

/* A context that has a key. */
struct place {
    EVP_CIPHER_CTX *context;             /* NULL = none yet */
    uint64_t owner;                      /* see owner_of(); 0 = it has no key */
    bool was_used;                       /* since the hand last passed */
};

/* All places for one cipher. */
struct shelf {
    EVP_CIPHER *aead;                    /* NULL = OpenSSL has none, or no memory */
    struct place places[PLACES];
    unsigned hand;                       /* where the search for a place goes on: it spares once what was used */
};

struct wsr_tls_ciphers {
    struct shelf shelves[WSR_TLS_AEADS];
};

/* ---- Contexts ---- */

struct wsr_tls_ciphers *wsr_tls_ciphers_create(void)
{
    static const char *const names[] = {
        [WSR_TLS_AES_128_GCM] = "AES-128-GCM",
        [WSR_TLS_AES_256_GCM] = "AES-256-GCM",
        [WSR_TLS_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
    };
    struct wsr_tls_ciphers *ciphers = calloc(1, sizeof *ciphers);
    for (size_t i = 0; ciphers != NULL && i < WSR_TLS_AEADS; i++)
        ciphers->shelves[i].aead = EVP_CIPHER_fetch(NULL, names[i], NULL);
    ERR_clear_error();
    return ciphers;
}

/* Frees the context: that wipes all that was made of its key. */
static void clear(struct place *place)
{
    EVP_CIPHER_CTX_free(place->context);
    *place = (struct place){ .context = NULL };
}

void wsr_tls_ciphers_free(struct wsr_tls_ciphers *ciphers)
{
    if (ciphers == NULL)
        return;
    for (size_t i = 0; i < WSR_TLS_AEADS; i++) {
        for (size_t j = 0; j < PLACES; j++)
            clear(&ciphers->shelves[i].places[j]);
        EVP_CIPHER_free(ciphers->shelves[i].aead);
    }
    free(ciphers);
}

/* Who a context with this key in this direction belongs to: it can do only one. */
static uint64_t owner_of(const struct wsr_tls_key *key, bool seals)
{
    return key->serial << 1 | seals;
}

void wsr_tls_ciphers_forget(struct wsr_tls_ciphers *ciphers, const struct wsr_tls_key *key)
{
    if (ciphers == NULL || key->serial == 0)
        return;
    for (size_t i = 0; i < WSR_TLS_AEADS; i++) {
        for (size_t j = 0; j < PLACES; j++) {
            if (ciphers->shelves[i].places[j].owner >> 1 == key->serial)
                clear(&ciphers->shelves[i].places[j]);
        }
    }
}

/* The place that @key gets: the first behind the hand that was not used since the hand passed it. */
static struct place *choose(struct shelf *shelf)
{
    for (;;) {
        struct place *place = &shelf->places[shelf->hand];
        shelf->hand = (shelf->hand + 1) % PLACES;
        if (!place->was_used)
            return place;
        place->was_used = false;
    }
}

static bool give(struct place *place, EVP_CIPHER *aead, const struct wsr_tls_key *key, bool seals)
{
    bool is_new = place->context == NULL;
    if (is_new)
        place->context = EVP_CIPHER_CTX_new();
    if (place->context == NULL || aead == NULL ||
        EVP_CipherInit_ex2(place->context, is_new ? aead : NULL, key->key, NULL, seals, NULL) != 1) {
        clear(place);
        ERR_clear_error();
        return false;
    }
    place->owner = owner_of(key, seals);
    return true;
}

/* The context that has @key; NULL without memory. */
static EVP_CIPHER_CTX *context_of(struct wsr_tls_ciphers *ciphers, const struct wsr_tls_suite *suite,
                                  struct wsr_tls_key *key, bool seals)
{
    struct shelf *shelf = &ciphers->shelves[suite->aead];
    struct place *place = &shelf->places[key->place];
    assert(key->place < PLACES && key->serial != 0);
    if (WSR_LIKELY(place->owner == owner_of(key, seals))) {
        place->was_used = true;
        return place->context;
    }
    place = choose(shelf);
    if (!give(place, shelf->aead, key, seals))
        return NULL;
    key->place = (uint8_t)(place - shelf->places);
    return place->context;
}

/* ---- What both directions share ---- */

static size_t explicit_bytes(const struct wsr_tls_suite *suite)
{
    return suite->fixed_iv_bytes < WSR_TLS_IV_BYTES ? EXPLICIT_BYTES : 0;
}

/* RFC 8446 5.3 and RFC 7905 2, or RFC 5288 3 with the @explicit part as it is in the record. */
static void make_nonce(uint8_t nonce[WSR_TLS_IV_BYTES], const struct wsr_tls_suite *suite,
                       const struct wsr_tls_key *key, const uint8_t *explicit)
{
    memcpy(nonce, key->iv, WSR_TLS_IV_BYTES);
    if (explicit_bytes(suite) > 0)
        memcpy(nonce + suite->fixed_iv_bytes, explicit, EXPLICIT_BYTES);
    else
        wsr_store_be64(nonce + 4, wsr_load_be64(nonce + 4) ^ key->sequence);
}

/* What is authenticated beside the content. Returns its bytes. */
static int make_aad(uint8_t aad[AAD_BYTES], const struct wsr_tls_suite *suite, const struct wsr_tls_key *key,
                    const uint8_t *header, size_t content_bytes)
{
    if (suite->version == WSR_TLS_1_3) {
        memcpy(aad, header, WSR_TLS_HEADER_BYTES);
        return WSR_TLS_HEADER_BYTES;
    }
    wsr_store_be64(aad, key->sequence);
    memcpy(aad + 8, header, 3);
    wsr_store_be16(aad + 11, (uint16_t)content_bytes);
    return AAD_BYTES;
}

static void make_tag_params(OSSL_PARAM params[2], uint8_t *tag)
{
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, TAG_BYTES);
    params[1] = OSSL_PARAM_construct_end();
}

/* ---- Seal ---- */

/* Encrypt @parts, and in TLS 1.3 their @type behind them, to @out. */
static bool encrypt_gathered(EVP_CIPHER_CTX *context, const struct iovec *parts, size_t parts_count,
                             const uint8_t *type, uint8_t *out)
{
    size_t at = 0;
    int done;
    for (size_t i = 0; i < parts_count; i++) {
        if (parts[i].iov_len > 0)
            memcpy(out + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    if (type != NULL)
        out[at++] = *type;
    return at == 0 || EVP_EncryptUpdate(context, out, &done, out, (int)at) == 1;
}

/* The same, with no byte copied. */
static bool encrypt_parts(EVP_CIPHER_CTX *context, const struct iovec *parts, size_t parts_count,
                          const uint8_t *type, uint8_t *out)
{
    int done;
    for (size_t i = 0; i < parts_count; i++) {
        if (parts[i].iov_len == 0)
            continue;
        if (EVP_EncryptUpdate(context, out, &done, parts[i].iov_base, (int)parts[i].iov_len) != 1)
            return false;
        out += parts[i].iov_len;
    }
    return type == NULL || EVP_EncryptUpdate(context, out, &done, type, 1) == 1;
}

/* Write the header and the explicit nonce. Returns their bytes. */
static size_t write_head(uint8_t *out, const struct wsr_tls_suite *suite, const struct wsr_tls_key *key, uint8_t type,
                         size_t inner_bytes)
{
    size_t explicit = explicit_bytes(suite);
    out[0] = suite->version == WSR_TLS_1_3 ? WSR_TLS_DATA : type;
    wsr_store_be16(out + 1, LEGACY_VERSION);
    wsr_store_be16(out + 3, (uint16_t)(explicit + inner_bytes + TAG_BYTES));
    if (explicit > 0)
        wsr_store_be64(out + WSR_TLS_HEADER_BYTES, key->sequence);
    return WSR_TLS_HEADER_BYTES + explicit;
}

ssize_t wsr_tls_record_seal(struct wsr_tls_ciphers *ciphers, const struct wsr_tls_suite *suite,
                            struct wsr_tls_key *key, enum wsr_tls_type type, const struct iovec *parts,
                            size_t parts_count, uint8_t *out)
{
    uint8_t nonce[WSR_TLS_IV_BYTES], aad[AAD_BYTES], inner_type = (uint8_t)type;
    const uint8_t *inner = suite->version == WSR_TLS_1_3 ? &inner_type : NULL;
    size_t bytes = 0;
    OSSL_PARAM tag[2];
    int done;
    for (size_t i = 0; i < parts_count; i++)
        bytes += parts[i].iov_len;
    assert(bytes <= CONTENT_MAX);
    if (key->sequence == UINT64_MAX)
        return WSR_ERR_INVALID_STATE;
    EVP_CIPHER_CTX *context = context_of(ciphers, suite, key, true);
    if (context == NULL)
        return WSR_ERR_MEMORY;
    size_t inner_bytes = bytes + (inner != NULL);
    size_t head_bytes = write_head(out, suite, key, inner_type, inner_bytes);
    uint8_t *body = out + head_bytes;
    make_nonce(nonce, suite, key, out + WSR_TLS_HEADER_BYTES);
    int aad_bytes = make_aad(aad, suite, key, out, bytes);
    make_tag_params(tag, body + inner_bytes);
    if (EVP_EncryptInit_ex2(context, NULL, NULL, nonce, NULL) != 1 ||
        EVP_EncryptUpdate(context, NULL, &done, aad, aad_bytes) != 1 ||
        !(bytes <= GATHER_MAX ? encrypt_gathered : encrypt_parts)(context, parts, parts_count, inner, body) ||
        EVP_EncryptFinal_ex(context, body + inner_bytes, &done) != 1 || EVP_CIPHER_CTX_get_params(context, tag) != 1) {
        ERR_clear_error();
        return WSR_ERR_MEMORY;
    }
    key->sequence++;
    return (ssize_t)(head_bytes + inner_bytes + TAG_BYTES);
}

/* ---- Open ---- */

/* TLS 1.3: the type stands behind the content and before the padding of zeros (RFC 8446 5.2, 5.4). */
static enum wsr_tls_opened unwrap(const uint8_t *inner, size_t len, uint8_t *type, struct wsr_bytes *content)
{
    while (len > 0 && inner[len - 1] == 0)
        len--;
    if (len == 0)
        return WSR_TLS_OPENED_BARE;
    *type = inner[len - 1];
    *content = wsr_bytes_of(inner, len - 1);
    return content->len > CONTENT_MAX ? WSR_TLS_OPENED_LONG : WSR_TLS_OPENED;
}

enum wsr_tls_opened wsr_tls_record_open(struct wsr_tls_ciphers *ciphers, const struct wsr_tls_suite *suite,
                                        struct wsr_tls_key *key, uint8_t *record, size_t len, uint8_t *type,
                                        struct wsr_bytes *content)
{
    uint8_t nonce[WSR_TLS_IV_BYTES], aad[AAD_BYTES];
    size_t explicit = explicit_bytes(suite);
    OSSL_PARAM tag[2];
    int done;
    bool is_1_3 = suite->version == WSR_TLS_1_3;
    assert(len >= WSR_TLS_HEADER_BYTES);
    if (len < WSR_TLS_HEADER_BYTES + explicit + is_1_3 + TAG_BYTES)
        return is_1_3 ? WSR_TLS_OPENED_NOT : WSR_TLS_OPENED_SHORT;
    if (key->sequence == UINT64_MAX)
        return WSR_TLS_OPENED_NOT;
    EVP_CIPHER_CTX *context = context_of(ciphers, suite, key, false);
    if (context == NULL)
        return WSR_TLS_OPENED_MEMORY;
    uint8_t *body = record + WSR_TLS_HEADER_BYTES + explicit;
    size_t body_bytes = len - WSR_TLS_HEADER_BYTES - explicit - TAG_BYTES;
    make_nonce(nonce, suite, key, record + WSR_TLS_HEADER_BYTES);
    int aad_bytes = make_aad(aad, suite, key, record, body_bytes);
    make_tag_params(tag, body + body_bytes);
    if (EVP_DecryptInit_ex2(context, NULL, NULL, nonce, tag) != 1 ||
        EVP_DecryptUpdate(context, NULL, &done, aad, aad_bytes) != 1 ||
        (body_bytes > 0 && EVP_DecryptUpdate(context, body, &done, body, (int)body_bytes) != 1) ||
        EVP_DecryptFinal_ex(context, body + body_bytes, &done) != 1) {
        ERR_clear_error();
        return WSR_TLS_OPENED_NOT;
    }
    key->sequence++;
    if (is_1_3)
        return unwrap(body, body_bytes, type, content);
    *type = record[0];
    *content = wsr_bytes_of(body, body_bytes);
    return body_bytes > CONTENT_MAX ? WSR_TLS_OPENED_LONG : WSR_TLS_OPENED;
}
