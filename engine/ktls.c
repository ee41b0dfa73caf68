/* What setsockopt() takes is one structure for each cipher, whatever the version of TLS (include/uapi/linux/tls.h). */
#include "ktls.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define SEQUENCE_BYTES 8u
#define SALT_BYTES TLS_CIPHER_AES_GCM_128_SALT_SIZE

_Static_assert(WSR_KTLS_CONTROL_BYTES >= CMSG_SPACE(sizeof(uint8_t)), "the type of a record fits");
_Static_assert(sizeof(struct tls12_crypto_info_aes_gcm_256) <= sizeof ((struct wsr_ktls_option *)0)->value &&
               sizeof(struct tls12_crypto_info_chacha20_poly1305) <= sizeof ((struct wsr_ktls_option *)0)->value,
               "every option has room");

/* ---- Options ---- */

void wsr_ktls_attach(struct wsr_ktls_option *option)
{
    static const char name[] = "tls";
    *option = (struct wsr_ktls_option){ .level = IPPROTO_TCP, .name = TCP_ULP, .bytes = sizeof name };
    memcpy(option->value, name, sizeof name);
}

void wsr_ktls_expect_no_padding(struct wsr_ktls_option *option)
{
    static const int yes = 1;
    *option = (struct wsr_ktls_option){ .level = SOL_TLS, .name = TLS_RX_EXPECT_NO_PAD, .bytes = sizeof yes };
    memcpy(option->value, &yes, sizeof yes);
}

void wsr_ktls_wipe(struct wsr_ktls_option *option)
{
    explicit_bzero(option, sizeof *option);
}

static struct tls_crypto_info info_of(const struct wsr_tls_suite *suite)
{
    static const uint16_t types[WSR_TLS_AEADS] = {
        [WSR_TLS_AES_128_GCM] = TLS_CIPHER_AES_GCM_128,
        [WSR_TLS_AES_256_GCM] = TLS_CIPHER_AES_GCM_256,
        [WSR_TLS_CHACHA20_POLY1305] = TLS_CIPHER_CHACHA20_POLY1305,
    };
    return (struct tls_crypto_info){ .version = suite->version, .cipher_type = types[suite->aead] };
}

/* With AES-GCM what comes before the salt is, in TLS 1.2, the explicit nonce of the next record that is sent. The
 * sequence number is one that no other record has (RFC 5288 3). */
static void nonce_of(uint8_t iv[TLS_CIPHER_AES_GCM_128_IV_SIZE], const struct wsr_tls_suite *suite,
                     const struct wsr_tls_key *key)
{
    if (suite->version == TLS_1_2_VERSION)
        wsr_store_be64(iv, key->sequence);
    else
        memcpy(iv, key->iv + SALT_BYTES, TLS_CIPHER_AES_GCM_128_IV_SIZE);
}

static socklen_t write_gcm_128(uint8_t *value, const struct wsr_tls_suite *suite, const struct wsr_tls_key *key)
{
    struct tls12_crypto_info_aes_gcm_128 info = { .info = info_of(suite) };
    nonce_of(info.iv, suite, key);
    memcpy(info.key, key->key, sizeof info.key);
    memcpy(info.salt, key->iv, sizeof info.salt);
    wsr_store_be64(info.rec_seq, key->sequence);
    memcpy(value, &info, sizeof info);
    explicit_bzero(&info, sizeof info);
    return sizeof info;
}

static socklen_t write_gcm_256(uint8_t *value, const struct wsr_tls_suite *suite, const struct wsr_tls_key *key)
{
    struct tls12_crypto_info_aes_gcm_256 info = { .info = info_of(suite) };
    nonce_of(info.iv, suite, key);
    memcpy(info.key, key->key, sizeof info.key);
    memcpy(info.salt, key->iv, sizeof info.salt);
    wsr_store_be64(info.rec_seq, key->sequence);
    memcpy(value, &info, sizeof info);
    explicit_bzero(&info, sizeof info);
    return sizeof info;
}

/* No salt, and no explicit nonce in either version. */
static socklen_t write_chacha(uint8_t *value, const struct wsr_tls_suite *suite, const struct wsr_tls_key *key)
{
    struct tls12_crypto_info_chacha20_poly1305 info = { .info = info_of(suite) };
    memcpy(info.iv, key->iv, sizeof info.iv);
    memcpy(info.key, key->key, sizeof info.key);
    wsr_store_be64(info.rec_seq, key->sequence);
    memcpy(value, &info, sizeof info);
    explicit_bzero(&info, sizeof info);
    return sizeof info;
}

void wsr_ktls_key(struct wsr_ktls_option *option, const struct wsr_tls_suite *suite, const struct wsr_tls_key *key,
                  bool is_out)
{
    *option = (struct wsr_ktls_option){ .level = SOL_TLS, .name = is_out ? TLS_TX : TLS_RX };
    if (suite->aead == WSR_TLS_AES_128_GCM)
        option->bytes = write_gcm_128(option->value, suite, key);
    else if (suite->aead == WSR_TLS_AES_256_GCM)
        option->bytes = write_gcm_256(option->value, suite, key);
    else
        option->bytes = write_chacha(option->value, suite, key);
}

/* ---- Sentences ---- */

const char *wsr_ktls_text(int system_errno)
{
    switch (system_errno) {
    case ENOENT:
        return "the kernel does not have its module tls, or not the cipher as a module; as root do modprobe tls, or "
               "use a kernel with CONFIG_TLS, or set tls_records to another value";
    case ENOPROTOOPT:
    case ENOSYS:
        return "the kernel knows no TLS, it needs CONFIG_TLS; set tls_records to another value";
    case EBUSY:
        return "the keys changed, and the kernel can take new ones only from Linux 6.14 on; set tls_records to another "
               "value";
    case EINVAL:
    case EOPNOTSUPP:
        return "the kernel's TLS does not know the version or the cipher; choose others by tls_version_min, "
               "tls_ciphersuites and tls_ciphers, or set tls_records to another value";
    case ENOTCONN:
        return "the connection ended before the kernel had the keys of TLS";
    case EEXIST:
        return "another protocol is on top of TCP already, so the kernel cannot carry TLS on it";
    case EMFILE:
    case ENFILE:
        return "no open file was left for the moment in which the kernel is given the keys of TLS; raise ulimit -n";
    case ENOMEM:
    case ENOBUFS:
        return "the kernel has no memory for the keys of TLS";
    default:
        return "the kernel did not take the keys of TLS; system_errno says why, and tls_records has other values";
    }
}

const char *wsr_ktls_broken_text(int system_errno)
{
    switch (system_errno) {
    case EBADMSG:
        return "the kernel could not open a TLS record: it was damaged or forged on its way (bad_record_mac)";
    case EMSGSIZE:
        return "the server sent a TLS record that is too long (record_overflow)";
    case EINVAL:
        return "the server sent what is no TLS record of the version that was agreed on";
    case EIO:
        return "the kernel has a TLS record that is not data and did not give it out";
    case EKEYEXPIRED:
        return "the server changed its keys of TLS, and the kernel did not get them";
    default:
        return NULL;
    }
}

/* ---- Messages ---- */

void wsr_ktls_say_type(struct msghdr *message, void *control, enum wsr_tls_type type)
{
    memset(control, 0, WSR_KTLS_CONTROL_BYTES);
    message->msg_control = control;
    message->msg_controllen = CMSG_SPACE(sizeof(uint8_t));
    struct cmsghdr *head = CMSG_FIRSTHDR(message);
    head->cmsg_level = SOL_TLS;
    head->cmsg_type = TLS_SET_RECORD_TYPE;
    head->cmsg_len = CMSG_LEN(sizeof(uint8_t));
    *CMSG_DATA(head) = (uint8_t)type;
}

uint8_t wsr_ktls_type(const struct msghdr *message)
{
    /* CMSG_NXTHDR wants one that may be written to. */
    struct msghdr *walked = (struct msghdr *)(uintptr_t)message;
    if (message->msg_flags & MSG_CTRUNC)
        return 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(walked); head != NULL; head = CMSG_NXTHDR(walked, head)) {
        if (head->cmsg_level != SOL_TLS || head->cmsg_type != TLS_GET_RECORD_TYPE ||
            head->cmsg_len < CMSG_LEN(sizeof(uint8_t)))
            continue;
        return *CMSG_DATA(head);
    }
    return WSR_TLS_DATA;
}

/* ---- Probe ---- */

static int set(int fd, const struct wsr_ktls_option *option)
{
    return setsockopt(fd, option->level, option->name, option->value, option->bytes) == 0 ? 0 : errno;
}

/* AES-128-GCM is what every server has; another cipher may still be missing. */
static int try_on(int fd)
{
    static const struct wsr_tls_suite suite = { .version = TLS_1_3_VERSION, .aead = WSR_TLS_AES_128_GCM };
    static const struct wsr_tls_key nothing;
    struct wsr_ktls_option option;

    wsr_ktls_attach(&option);
    int rc = set(fd, &option);
    for (unsigned is_out = 0; is_out < 2 && rc == 0; is_out++) {
        wsr_ktls_key(&option, &suite, &nothing, is_out != 0);
        rc = set(fd, &option);
    }
    return rc;
}

int wsr_ktls_probe(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof address;
    int rc = 0;

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Over the loopback a connection is there when connect() returns; nobody needs to accept it. */
    if (listener < 0 || client < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&address, &bytes) != 0 ||
        connect(client, (struct sockaddr *)&address, sizeof address) != 0)
        rc = errno;
    if (rc == 0)
        rc = try_on(client);
    if (client >= 0)
        close(client);
    if (listener >= 0)
        close(listener);
    return rc;
}
