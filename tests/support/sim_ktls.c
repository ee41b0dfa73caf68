/* net/tls/tls_sw.c of Linux in small. */
#include "tests/support/sim_ktls.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

#define TAG_BYTES 16
#define PLAIN_MAX 16384
#define HANDSHAKE_KEY_UPDATE 24

void sim_ktls_free(struct sim_ktls *ktls)
{
    free(ktls->raw.data);
    free(ktls->content.data);
    free(ktls->sealed.data);
    *ktls = (struct sim_ktls){ 0 };
}

static uint8_t *extend(struct sim_buffer *buffer, size_t len)
{
    if (buffer->bytes + len + 1 > buffer->capacity) {
        buffer->capacity = 2 * (buffer->bytes + len + 1);
        buffer->data = realloc(buffer->data, buffer->capacity);
        if (buffer->data == NULL)
            abort();
    }
    buffer->bytes += len;
    buffer->data[buffer->bytes] = '\0';
    return buffer->data + buffer->bytes - len;
}

/* ---- Options ---- */

static uint64_t number_of(const uint8_t bytes[8])
{
    uint64_t number = 0;
    for (unsigned i = 0; i < 8; i++)
        number = number << 8 | bytes[i];
    return number;
}

static bool read_key(struct sim_ktls_key *key, const void *value, socklen_t bytes)
{
    struct tls12_crypto_info_aes_gcm_128 small;
    struct tls12_crypto_info_aes_gcm_256 large;
    struct tls12_crypto_info_chacha20_poly1305 chacha;
    struct tls_crypto_info info;
    if (bytes < sizeof info)
        return false;
    memcpy(&info, value, sizeof info);
    *key = (struct sim_ktls_key){ .is_set = true, .version = info.version, .cipher = info.cipher_type };
    if (info.version != TLS_1_2_VERSION && info.version != TLS_1_3_VERSION)
        return false;
    if (info.cipher_type == TLS_CIPHER_AES_GCM_128 && bytes == sizeof small) {
        memcpy(&small, value, bytes);
        key->key_bytes = sizeof small.key;
        memcpy(key->key, small.key, sizeof small.key);
        memcpy(key->iv, small.salt, sizeof small.salt);
        memcpy(key->iv + sizeof small.salt, small.iv, sizeof small.iv);
        memcpy(key->explicit_nonce, small.iv, sizeof small.iv);
        key->sequence = number_of(small.rec_seq);
    } else if (info.cipher_type == TLS_CIPHER_AES_GCM_256 && bytes == sizeof large) {
        memcpy(&large, value, bytes);
        key->key_bytes = sizeof large.key;
        memcpy(key->key, large.key, sizeof large.key);
        memcpy(key->iv, large.salt, sizeof large.salt);
        memcpy(key->iv + sizeof large.salt, large.iv, sizeof large.iv);
        memcpy(key->explicit_nonce, large.iv, sizeof large.iv);
        key->sequence = number_of(large.rec_seq);
    } else if (info.cipher_type == TLS_CIPHER_CHACHA20_POLY1305 && bytes == sizeof chacha) {
        memcpy(&chacha, value, bytes);
        key->key_bytes = sizeof chacha.key;
        memcpy(key->key, chacha.key, sizeof chacha.key);
        memcpy(key->iv, chacha.iv, sizeof chacha.iv);
        key->sequence = number_of(chacha.rec_seq);
    } else {
        return false;
    }
    return true;
}

static void note(struct sim_buffer *log, const char *text)
{
    size_t len = strlen(text);
    memcpy(extend(log, len), text, len);
}

static int set_key(struct sim_ktls_key *key, bool renews, const char *name, const void *value, socklen_t bytes,
                   struct sim_buffer *log)
{
    struct sim_ktls_key fresh;
    char line[80];
    if (!read_key(&fresh, value, bytes))
        return -EINVAL;
    if (key->is_set && (!renews || fresh.version != TLS_1_3_VERSION))
        return -EBUSY;
    if (key->is_set && fresh.cipher != key->cipher)
        return -EINVAL;
    snprintf(line, sizeof line, "%s %04x %u %llu\n", name, fresh.version, fresh.cipher,
             (unsigned long long)fresh.sequence);
    note(log, line);
    *key = fresh;
    return 0;
}

int sim_ktls_set(struct sim_ktls *ktls, int level, int name, const void *value, socklen_t bytes,
                 struct sim_buffer *log)
{
    int rc = -ENOPROTOOPT;
    if (level == IPPROTO_TCP && name == TCP_ULP) {
        if (bytes < 3 || memcmp(value, "tls", 3) != 0)
            return -ENOENT;
        if (ktls->is_attached)
            return -EEXIST;
        ktls->is_attached = true;
        note(log, "ulp tls\n");
        return 0;
    }
    if (level != SOL_TLS || !ktls->is_attached)
        return rc;
    if (name == TLS_TX) {
        rc = set_key(&ktls->out, ktls->renews, "tx", value, bytes, log);
    } else if (name == TLS_RX) {
        rc = set_key(&ktls->in, ktls->renews, "rx", value, bytes, log);
        if (rc == 0)
            ktls->must_renew = false;
    } else if (name == TLS_RX_EXPECT_NO_PAD) {
        if (!ktls->in.is_set || ktls->in.version != TLS_1_3_VERSION)
            return -EINVAL;
        note(log, "no-padding\n");
        rc = 0;
    }
    return rc;
}

/* ---- Records ---- */

static bool has_explicit_nonce(const struct sim_ktls_key *key)
{
    return key->version == TLS_1_2_VERSION && key->cipher != TLS_CIPHER_CHACHA20_POLY1305;
}

static const EVP_CIPHER *cipher_of(const struct sim_ktls_key *key)
{
    if (key->cipher == TLS_CIPHER_CHACHA20_POLY1305)
        return EVP_chacha20_poly1305();
    return key->cipher == TLS_CIPHER_AES_GCM_128 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
}

static void put_number(uint8_t *to, uint64_t number, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (uint8_t)(number >> (8 * (bytes - 1 - i)));
}

/* RFC 5246 6.2.3.3, RFC 8446 5.2: what is authenticated beside the content. */
static size_t extra_of(uint8_t extra[13], const struct sim_ktls_key *key, const uint8_t header[5], size_t plain_bytes)
{
    if (key->version == TLS_1_3_VERSION) {
        memcpy(extra, header, 5);
        return 5;
    }
    put_number(extra, key->sequence, 8);
    memcpy(extra + 8, header, 3);
    put_number(extra + 11, plain_bytes, 2);
    return 13;
}

static void nonce_of(uint8_t nonce[12], const struct sim_ktls_key *key, const uint8_t *explicit_nonce)
{
    uint8_t sequence[8];
    memcpy(nonce, key->iv, 12);
    if (has_explicit_nonce(key)) {
        memcpy(nonce + 4, explicit_nonce, 8);
        return;
    }
    put_number(sequence, key->sequence, 8);
    for (unsigned i = 0; i < 8; i++)
        nonce[4 + i] ^= sequence[i];
}

/* @text becomes what it is in the other form; @tag is written, or looked at. Returns false when it is wrong. */
static bool crypt(struct sim_ktls_key *key, bool seals, const uint8_t nonce[12], const uint8_t *extra,
                  size_t extra_bytes, uint8_t *text, size_t bytes, uint8_t tag[TAG_BYTES])
{
    int len;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (context == NULL || EVP_CipherInit_ex(context, cipher_of(key), NULL, key->key, nonce, seals) != 1)
        abort();
    if (!seals && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) != 1)
        abort();
    if (EVP_CipherUpdate(context, NULL, &len, extra, (int)extra_bytes) != 1 ||
        (bytes > 0 && EVP_CipherUpdate(context, text, &len, text, (int)bytes) != 1))
        abort();
    bool is_right = EVP_CipherFinal_ex(context, text + bytes, &len) == 1;
    if (seals && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, tag) != 1)
        abort();
    EVP_CIPHER_CTX_free(context);
    key->sequence++;
    return is_right;
}

/* Open the whole record of @bytes at the beginning of what was received. Returns 0 or -errno. */
static int open_record(struct sim_ktls *ktls, size_t bytes)
{
    struct sim_ktls_key *key = &ktls->in;
    const uint8_t *record = ktls->raw.data;
    size_t before = 5u + (has_explicit_nonce(key) ? 8u : 0u);
    uint8_t nonce[12], extra[13], tag[TAG_BYTES];

    if (bytes < before + TAG_BYTES)
        return -EBADMSG;
    size_t text_bytes = bytes - before - TAG_BYTES;
    nonce_of(nonce, key, record + 5);
    size_t extra_bytes = extra_of(extra, key, record, text_bytes);
    memcpy(tag, record + before + text_bytes, TAG_BYTES);
    ktls->content.bytes = ktls->content_taken = 0;
    uint8_t *content = extend(&ktls->content, text_bytes);
    memcpy(content, record + before, text_bytes);
    ktls->type = record[0];
    if (!crypt(key, false, nonce, extra, extra_bytes, content, text_bytes, tag))
        return -EBADMSG;
    if (key->version == TLS_1_3_VERSION) {
        while (ktls->content.bytes > 0 && content[ktls->content.bytes - 1] == 0)
            ktls->content.bytes--;
        if (ktls->content.bytes == 0)
            return -EBADMSG;
        ktls->type = content[--ktls->content.bytes];
    }
    return 0;
}

/* Returns 1 when a record was opened. */
static int open_next(struct sim_ktls *ktls)
{
    struct sim_buffer *raw = &ktls->raw;
    if (raw->bytes < 5)
        return 0;
    size_t bytes = 5u + (size_t)(raw->data[3] << 8 | raw->data[4]);
    if (raw->data[1] != 3 || raw->data[2] != 3)
        return -EINVAL;
    if (bytes > 5 + PLAIN_MAX + 1 + 8 + TAG_BYTES)
        return -EMSGSIZE;
    if (raw->bytes < bytes)
        return 0;
    int rc = open_record(ktls, bytes);
    memmove(raw->data, raw->data + bytes, raw->bytes - bytes);
    raw->bytes -= bytes;
    return rc < 0 ? rc : 1;
}

/* Is there content, or a record that is not data? Returns 1, 0 or -errno. A record that cannot be opened is told to
 * every call from then on, one that cannot be one once: as Linux 6.1 does. */
static int look(struct sim_ktls *ktls)
{
    while (!ktls->is_broken) {
        if (ktls->type != 0 && (ktls->type != SIM_TLS_DATA || ktls->content_taken < ktls->content.bytes))
            return 1;
        if (ktls->must_renew)
            return -EKEYEXPIRED;
        int rc = open_next(ktls);
        if (rc == 0)
            return 0;
        if (rc < 0) {
            ktls->is_broken = true;
            ktls->type = 0;
            ktls->is_dead = rc == -EBADMSG;
            return rc;
        }
        ktls->must_renew = ktls->renews && ktls->in.version == TLS_1_3_VERSION && ktls->type == 22 &&
                               ktls->content.bytes > 0 && ktls->content.data[0] == HANDSHAKE_KEY_UPDATE;
    }
    return ktls->is_dead ? -EBADMSG : 0;
}

ssize_t sim_ktls_look(struct sim_ktls *ktls, struct sim_peer *peer, size_t arrived, const uint8_t **from,
                      uint8_t *type)
{
    if (arrived > 0)
        memcpy(extend(&ktls->raw, arrived), peer->out.data + peer->taken, arrived);
    peer->taken += arrived;
    int rc = ktls->error;
    ktls->error = 0;
    if (rc == 0)
        rc = look(ktls);
    if (rc <= 0)
        return rc;
    *type = ktls->type;
    *from = ktls->content.data + ktls->content_taken;
    return (ssize_t)(ktls->content.bytes - ktls->content_taken);
}

void sim_ktls_take(struct sim_ktls *ktls, struct sim_peer *peer, size_t len)
{
    if (!ktls->in.is_set) {
        peer->taken += len;
        return;
    }
    ktls->content_taken += len;
    if (ktls->content_taken == ktls->content.bytes)
        ktls->type = 0;
}

size_t sim_ktls_more(struct sim_ktls *ktls, uint8_t *to, size_t room)
{
    size_t taken = 0;
    while (ktls->in.is_set && taken < room) {
        int rc = look(ktls);
        if (rc < 0)
            ktls->error = rc;
        if (rc <= 0 || ktls->type != SIM_TLS_DATA)
            break;
        size_t left = ktls->content.bytes - ktls->content_taken;
        size_t len = left < room - taken ? left : room - taken;
        memcpy(to + taken, ktls->content.data + ktls->content_taken, len);
        taken += len;
        ktls->content_taken += len;
        if (len == left)
            ktls->type = 0;
    }
    return taken;
}

void sim_ktls_seal(struct sim_ktls *ktls, uint8_t type, const uint8_t *data, size_t len)
{
    struct sim_ktls_key *key = &ktls->out;
    bool is_13 = key->version == TLS_1_3_VERSION;
    size_t before = 5u + (has_explicit_nonce(key) ? 8u : 0u), text_bytes = len + is_13;
    uint8_t nonce[12], extra[13];

    uint8_t *record = extend(&ktls->sealed, before + text_bytes + TAG_BYTES);
    record[0] = is_13 ? 23 : type;
    record[1] = record[2] = 3;
    put_number(record + 3, before - 5 + text_bytes + TAG_BYTES, 2);
    nonce_of(nonce, key, key->explicit_nonce);
    if (has_explicit_nonce(key)) {
        memcpy(record + 5, key->explicit_nonce, 8);
        put_number(key->explicit_nonce, number_of(key->explicit_nonce) + 1, 8);
    }
    if (len > 0)
        memcpy(record + before, data, len);
    if (is_13)
        record[before + len] = type;
    size_t extra_bytes = extra_of(extra, key, record, text_bytes);
    crypt(key, true, nonce, extra, extra_bytes, record + before, text_bytes, record + before + text_bytes);
}

void sim_ktls_send(struct sim_ktls *ktls, struct sim_peer *peer, uint8_t type, const uint8_t *data, size_t len)
{
    if (!ktls->out.is_set) {
        sim_peer_take(peer, data, len);
        return;
    }
    ktls->sealed.bytes = 0;
    for (size_t at = 0; at < len; at += PLAIN_MAX)
        sim_ktls_seal(ktls, type, data + at, len - at < PLAIN_MAX ? len - at : PLAIN_MAX);
    /* The peer's window is for what was said, not for what the records add to it. */
    if (peer->window != WSR_NEVER)
        peer->window = (peer->window > len ? peer->window - len : 0) + ktls->sealed.bytes;
    sim_peer_take(peer, ktls->sealed.data, ktls->sealed.bytes);
}

/* ---- Messages ---- */

uint8_t sim_ktls_type_said(const struct msghdr *message)
{
    if (message->msg_controllen == 0)
        return 23;
    const struct cmsghdr *head = CMSG_FIRSTHDR(message);
    if (head == NULL || head->cmsg_level != SOL_TLS || head->cmsg_type != TLS_SET_RECORD_TYPE ||
        head->cmsg_len != CMSG_LEN(1))
        return 0;
    return *CMSG_DATA(head);
}

void sim_ktls_tell_type(struct msghdr *message, uint8_t type, bool is_whole)
{
    message->msg_flags = is_whole ? MSG_EOR : 0;
    if (message->msg_controllen < CMSG_SPACE(1)) {
        message->msg_flags |= MSG_CTRUNC;
        message->msg_controllen = 0;
        return;
    }
    struct cmsghdr *head = CMSG_FIRSTHDR(message);
    head->cmsg_level = SOL_TLS;
    head->cmsg_type = TLS_GET_RECORD_TYPE;
    head->cmsg_len = CMSG_LEN(1);
    *CMSG_DATA(head) = type;
    message->msg_controllen = CMSG_SPACE(1);
}
