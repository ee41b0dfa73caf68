/* Records of TLS 1.3 with AES-128-GCM for the servers and the references, as lean as it gets: OpenSSL's EVP, one
 * context for each direction, a sequence number. They know no alerts, no KeyUpdate and no padding. RFC 8446 5. */
#ifndef WSR_MICRO_BARE_RECORD_H
#define WSR_MICRO_BARE_RECORD_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WSR_BARE_RECORD_HEADER_BYTES 5u
#define WSR_BARE_RECORD_OVERHEAD (WSR_BARE_RECORD_HEADER_BYTES + 1u + 16u)      /* the content's type, the tag */
#define WSR_BARE_RECORD_PLAIN_MAX 16384u
#define WSR_BARE_RECORD_MAX (WSR_BARE_RECORD_PLAIN_MAX + WSR_BARE_RECORD_OVERHEAD)

/* One direction. All zero: not started, may be ended. */
struct wsr_bare_record {
    EVP_CIPHER_CTX *context;
    uint64_t sequence;
    uint8_t iv[12];
};

/* @secret: 32 bytes, as the key log has it. Returns 0, or -1 without memory; to be ended in both cases. */
int wsr_bare_record_start(struct wsr_bare_record *record, const uint8_t *secret);
void wsr_bare_record_end(struct wsr_bare_record *record);

/* Seal @len bytes, at most WSR_BARE_RECORD_PLAIN_MAX, into @out, which has room for WSR_BARE_RECORD_OVERHEAD more and
 * may not overlap. Returns the bytes written. */
size_t wsr_bare_record_seal(struct wsr_bare_record *record, const void *plain, size_t len, uint8_t *out);

/* Bytes of the whole record that begins with the @len bytes at @in, 0 when its header is not there. */
static inline size_t wsr_bare_record_bytes(const uint8_t *in, size_t len)
{
    return len < WSR_BARE_RECORD_HEADER_BYTES ? 0 : WSR_BARE_RECORD_HEADER_BYTES + ((size_t)in[3] << 8 | in[4]);
}

/* Open the whole record at @in where it lies. Returns the bytes of its content, which begins
 * WSR_BARE_RECORD_HEADER_BYTES behind @in; or -1 when it is forged, or no data. */
ssize_t wsr_bare_record_open(struct wsr_bare_record *record, uint8_t *in, size_t len);

#endif
