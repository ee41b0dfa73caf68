/* engine/ktls.c: what the kernel is told of keys, and what it says. What needs the kernel's module tls is skipped where
 * there is none; tests/ktls runs it where there is one.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/files.h"
#include "tests/support/ktls_here.h"

#define SEQUENCE 0x0102030405060708u

/* One suite of each cipher in each version. */
static const struct row {
    uint16_t version, number, type;  /* the kernel's type */
} rows[] = {
    { 0x0303, 0xC02F, TLS_CIPHER_AES_GCM_128 }, { 0x0303, 0xC030, TLS_CIPHER_AES_GCM_256 },
    { 0x0303, 0xCCA8, TLS_CIPHER_CHACHA20_POLY1305 }, { 0x0304, 0x1301, TLS_CIPHER_AES_GCM_128 },
    { 0x0304, 0x1302, TLS_CIPHER_AES_GCM_256 }, { 0x0304, 0x1303, TLS_CIPHER_CHACHA20_POLY1305 },
};
#define ROWS_COUNT (sizeof rows / sizeof rows[0])

static const struct wsr_tls_suite *suite_of(const struct row *row)
{
    const struct wsr_tls_suite *suite = wsr_tls_suite_find(row->version, row->number);
    assert_non_null(suite);
    return suite;
}

static struct wsr_tls_key a_key(void)
{
    struct wsr_tls_key key = { .sequence = SEQUENCE };
    for (unsigned i = 0; i < sizeof key.key; i++)
        key.key[i] = (uint8_t)(0x80 + i);
    for (unsigned i = 0; i < sizeof key.iv; i++)
        key.iv[i] = (uint8_t)(0x40 + i);
    return key;
}

/* ---- What the kernel is told ---- */

static const uint8_t sequence_bytes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

/* @iv of 8 bytes follows the salt in the nonce. */
static void expect_gcm(const struct row *row, const uint8_t *iv, const uint8_t *salt, const uint8_t *sequence)
{
    struct wsr_tls_key key = a_key();
    assert_memory_equal(salt, key.iv, 4);
    assert_memory_equal(iv, row->version == 0x0304 ? key.iv + 4 : sequence_bytes, 8);
    assert_memory_equal(sequence, sequence_bytes, 8);
}

static void expect_option(const struct row *row, const struct wsr_ktls_option *option)
{
    const struct wsr_tls_key key = a_key();
    union {
        struct tls_crypto_info any;
        struct tls12_crypto_info_aes_gcm_128 gcm_128;
        struct tls12_crypto_info_aes_gcm_256 gcm_256;
        struct tls12_crypto_info_chacha20_poly1305 chacha;
    } info;
    memcpy(&info, option->value, sizeof info);
    assert_int_equal(info.any.version, row->version);
    assert_int_equal(info.any.cipher_type, row->type);
    switch (row->type) {
    case TLS_CIPHER_AES_GCM_128:
        assert_int_equal(option->bytes, sizeof info.gcm_128);
        assert_memory_equal(info.gcm_128.key, key.key, 16);
        expect_gcm(row, info.gcm_128.iv, info.gcm_128.salt, info.gcm_128.rec_seq);
        break;
    case TLS_CIPHER_AES_GCM_256:
        assert_int_equal(option->bytes, sizeof info.gcm_256);
        assert_memory_equal(info.gcm_256.key, key.key, 32);
        expect_gcm(row, info.gcm_256.iv, info.gcm_256.salt, info.gcm_256.rec_seq);
        break;
    default:
        assert_int_equal(option->bytes, sizeof info.chacha);
        assert_memory_equal(info.chacha.key, key.key, 32);
        assert_memory_equal(info.chacha.iv, key.iv, 12);
        assert_memory_equal(info.chacha.rec_seq, sequence_bytes, 8);
    }
}

static void each_suite_has_its_structure(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS_COUNT; i++) {
        const struct wsr_tls_key key = a_key();
        struct wsr_ktls_option option;
        wsr_ktls_key(&option, suite_of(&rows[i]), &key, true);
        assert_int_equal(option.level, SOL_TLS);
        assert_int_equal(option.name, TLS_TX);
        expect_option(&rows[i], &option);
        wsr_ktls_key(&option, suite_of(&rows[i]), &key, false);
        assert_int_equal(option.name, TLS_RX);
        expect_option(&rows[i], &option);
        for (size_t k = option.bytes; k < sizeof option.value; k++)
            assert_int_equal(option.value[k], 0);
    }
}

static void the_other_options_are_what_the_kernel_calls_them(void **state)
{
    (void)state;
    const int yes = 1;
    struct wsr_ktls_option option;
    wsr_ktls_attach(&option);
    assert_int_equal(option.level, IPPROTO_TCP);
    assert_int_equal(option.name, TCP_ULP);
    assert_int_equal(option.bytes, sizeof "tls");
    assert_string_equal((const char *)option.value, "tls");
    wsr_ktls_expect_no_padding(&option);
    assert_int_equal(option.level, SOL_TLS);
    assert_int_equal(option.name, TLS_RX_EXPECT_NO_PAD);
    assert_int_equal(option.bytes, sizeof yes);
    assert_memory_equal(option.value, &yes, sizeof yes);
}

static void a_wiped_option_holds_no_key(void **state)
{
    (void)state;
    const struct wsr_tls_key key = a_key();
    struct wsr_ktls_option option;
    wsr_ktls_key(&option, suite_of(&rows[2]), &key, true);
    wsr_ktls_wipe(&option);
    for (size_t i = 0; i < sizeof option.value; i++)
        assert_int_equal(option.value[i], 0);
}

/* ---- Sentences ---- */

static void every_refusal_has_a_sentence_that_says_what_to_do(void **state)
{
    (void)state;
    static const struct {
        int error;
        const char *word;
    } refusals[] = {
        { ENOENT, "modprobe tls" }, { ENOPROTOOPT, "CONFIG_TLS" }, { EBUSY, "6.14" }, { EINVAL, "tls_ciphersuites" },
        { EOPNOTSUPP, "tls_version_min" }, { ENOTCONN, "ended" }, { EEXIST, "on top of TCP" }, { EMFILE, "ulimit -n" },
        { ENOMEM, "memory" }, { EPERM, "system_errno" },
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        assert_non_null(strstr(wsr_ktls_text(refusals[i].error), refusals[i].word));
    for (int error = 1; error < 200; error++)
        assert_non_null(wsr_ktls_text(error));
}

static void only_what_is_of_tls_has_a_sentence_when_it_breaks(void **state)
{
    (void)state;
    assert_non_null(strstr(wsr_ktls_broken_text(EBADMSG), "bad_record_mac"));
    assert_non_null(strstr(wsr_ktls_broken_text(EMSGSIZE), "record_overflow"));
    assert_non_null(wsr_ktls_broken_text(EINVAL));
    assert_non_null(wsr_ktls_broken_text(EIO));
    assert_non_null(strstr(wsr_ktls_broken_text(EKEYEXPIRED), "keys"));
    assert_null(wsr_ktls_broken_text(ECONNRESET));
    assert_null(wsr_ktls_broken_text(EPIPE));
    assert_null(wsr_ktls_broken_text(ETIMEDOUT));
}

/* ---- Messages ---- */

static void a_message_says_its_type(void **state)
{
    (void)state;
    _Alignas(struct cmsghdr) uint8_t control[WSR_KTLS_CONTROL_BYTES];
    struct msghdr message = { 0 };
    wsr_ktls_say_type(&message, control, WSR_TLS_ALERT);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    assert_non_null(head);
    assert_int_equal(head->cmsg_level, SOL_TLS);
    assert_int_equal(head->cmsg_type, TLS_SET_RECORD_TYPE);
    assert_int_equal(head->cmsg_len, CMSG_LEN(1));
    assert_int_equal(*CMSG_DATA(head), 21);
    assert_null(CMSG_NXTHDR(&message, head));
}

/* What the kernel would make of it. */
static uint8_t type_with(int level, int name, uint8_t type, int flags)
{
    _Alignas(struct cmsghdr) uint8_t control[WSR_KTLS_CONTROL_BYTES] = { 0 };
    struct msghdr message = { .msg_flags = flags };
    wsr_ktls_say_type(&message, control, (enum wsr_tls_type)type);
    CMSG_FIRSTHDR(&message)->cmsg_level = level;
    CMSG_FIRSTHDR(&message)->cmsg_type = name;
    return wsr_ktls_type(&message);
}

static void the_type_is_read_from_where_the_kernel_writes_it(void **state)
{
    (void)state;
    struct msghdr silent = { 0 };
    assert_int_equal(wsr_ktls_type(&silent), WSR_TLS_DATA);
    assert_int_equal(type_with(SOL_TLS, TLS_GET_RECORD_TYPE, 22, MSG_EOR), 22);
    assert_int_equal(type_with(SOL_TLS, TLS_GET_RECORD_TYPE, 21, MSG_EOR), 21);
    assert_int_equal(type_with(SOL_TLS, TLS_GET_RECORD_TYPE, 23, 0), 23);
    assert_int_equal(type_with(SOL_TLS, TLS_GET_RECORD_TYPE, 22, 0), 22);
    assert_int_equal(type_with(SOL_TLS, TLS_GET_RECORD_TYPE, 22, MSG_EOR | MSG_CTRUNC), 0);
    assert_int_equal(type_with(SOL_SOCKET, TLS_GET_RECORD_TYPE, 22, MSG_EOR), WSR_TLS_DATA);
    assert_int_equal(type_with(SOL_TLS, TLS_SET_RECORD_TYPE, 22, MSG_EOR), WSR_TLS_DATA);
}

/* ---- With the kernel ---- */

static void the_probe_answers_and_leaves_nothing_open(void **state)
{
    (void)state;
    unsigned before = files_open();
    int rc = wsr_ktls_probe();
    assert_int_equal(wsr_ktls_probe(), rc);
    assert_true(rc == 0 || rc == ENOENT || rc == ENOPROTOOPT);
    assert_int_equal(files_open(), before);
}

static void the_probe_without_descriptors_says_so(void **state)
{
    (void)state;
    struct rlimit limit, tight;
    unsigned before = files_open();
    int lowest = dup(0);
    assert_true(lowest >= 0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    tight = limit;
    tight.rlim_cur = (rlim_t)lowest + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    int rc = wsr_ktls_probe();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(rc, EMFILE);
    assert_int_equal(files_open(), before);
}

static void make_pair(int ends[2])
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(ends[0], (struct sockaddr *)&address, sizeof address), 0);
    ends[1] = accept(listener, NULL, NULL);
    assert_true(ends[1] >= 0);
    close(listener);
}

static int set(int fd, const struct wsr_ktls_option *option)
{
    return setsockopt(fd, option->level, option->name, option->value, option->bytes) == 0 ? 0 : errno;
}

/* What goes from one end to the other is carried by the kernel. */
static void secure(const int ends[2], const struct row *row)
{
    const struct wsr_tls_key key = a_key();
    struct wsr_ktls_option option;
    for (unsigned end = 0; end < 2; end++) {
        wsr_ktls_attach(&option);
        assert_int_equal(set(ends[end], &option), 0);
        wsr_ktls_key(&option, suite_of(row), &key, end == 0);
        assert_int_equal(set(ends[end], &option), 0);
    }
    wsr_ktls_expect_no_padding(&option);
    assert_int_equal(set(ends[1], &option), row->version == 0x0304 ? 0 : EINVAL);
}

static void the_kernel_takes_each_suite_and_carries_data_and_control_records(void **state)
{
    (void)state;
    ktls_needed();
    for (size_t i = 0; i < ROWS_COUNT; i++) {
        _Alignas(struct cmsghdr) uint8_t control[WSR_KTLS_CONTROL_BYTES];
        char alert[2] = { 1, 0 }, got[16];
        struct iovec part = { alert, sizeof alert }, room = { got, sizeof got };
        struct msghdr said = { .msg_iov = &part, .msg_iovlen = 1 };
        struct msghdr heard = { .msg_iov = &room, .msg_iovlen = 1, .msg_control = control,
                                .msg_controllen = sizeof control };
        int ends[2];
        make_pair(ends);
        secure(ends, &rows[i]);
        assert_int_equal(send(ends[0], "hello", 5, 0), 5);
        assert_int_equal(recv(ends[1], got, sizeof got, 0), 5);
        assert_memory_equal(got, "hello", 5);
        wsr_ktls_say_type(&said, control, WSR_TLS_ALERT);
        assert_int_equal(sendmsg(ends[0], &said, 0), 2);
        assert_int_equal(recv(ends[1], got, sizeof got, 0), -1);
        assert_int_equal(errno, EIO);
        assert_int_equal(recvmsg(ends[1], &heard, 0), 2);
        assert_int_equal(wsr_ktls_type(&heard), WSR_TLS_ALERT);
        close(ends[0]);
        close(ends[1]);
    }
}

static void a_control_record_that_does_not_fit_comes_in_parts(void **state)
{
    (void)state;
    _Alignas(struct cmsghdr) uint8_t control[WSR_KTLS_CONTROL_BYTES];
    char ticket[100] = { 4 }, got[60];
    struct iovec part = { ticket, sizeof ticket }, room = { got, sizeof got };
    struct msghdr said = { .msg_iov = &part, .msg_iovlen = 1 };
    struct msghdr heard = { .msg_iov = &room, .msg_iovlen = 1, .msg_control = control,
                            .msg_controllen = sizeof control };
    int ends[2];
    ktls_needed();
    make_pair(ends);
    secure(ends, &rows[3]);
    wsr_ktls_say_type(&said, control, WSR_TLS_HANDSHAKE);
    assert_int_equal(sendmsg(ends[0], &said, 0), sizeof ticket);
    assert_int_equal(send(ends[0], "data", 4, 0), 4);
    for (size_t left = sizeof ticket; left > 0; left -= left < sizeof got ? left : sizeof got) {
        heard.msg_controllen = sizeof control;
        assert_int_equal(recv(ends[1], got, sizeof got, 0), -1);
        assert_int_equal(errno, EIO);
        assert_int_equal(recvmsg(ends[1], &heard, 0), left < sizeof got ? left : sizeof got);
        assert_int_equal(wsr_ktls_type(&heard), WSR_TLS_HANDSHAKE);
    }
    assert_int_equal(recv(ends[1], got, sizeof got, 0), 4);
    close(ends[0]);
    close(ends[1]);
}

static void second_keys_are_busy_before_linux_6_14(void **state)
{
    (void)state;
    const struct wsr_tls_key key = a_key();
    struct wsr_ktls_option option;
    int ends[2];
    ktls_needed();
    make_pair(ends);
    secure(ends, &rows[3]);
    wsr_ktls_key(&option, suite_of(&rows[3]), &key, true);
    int rc = set(ends[0], &option);
    assert_true(rc == 0 || rc == EBUSY);
    wsr_ktls_attach(&option);
    assert_int_equal(set(ends[0], &option), EEXIST);
    close(ends[0]);
    close(ends[1]);
}

static void an_unconnected_socket_is_refused(void **state)
{
    (void)state;
    struct wsr_ktls_option option;
    ktls_needed();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    wsr_ktls_attach(&option);
    assert_int_equal(set(fd, &option), ENOTCONN);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_suite_has_its_structure),
        cmocka_unit_test(the_other_options_are_what_the_kernel_calls_them),
        cmocka_unit_test(a_wiped_option_holds_no_key),
        cmocka_unit_test(every_refusal_has_a_sentence_that_says_what_to_do),
        cmocka_unit_test(only_what_is_of_tls_has_a_sentence_when_it_breaks),
        cmocka_unit_test(a_message_says_its_type),
        cmocka_unit_test(the_type_is_read_from_where_the_kernel_writes_it),
        cmocka_unit_test(the_probe_answers_and_leaves_nothing_open),
        cmocka_unit_test(the_probe_without_descriptors_says_so),
        cmocka_unit_test(the_kernel_takes_each_suite_and_carries_data_and_control_records),
        cmocka_unit_test(a_control_record_that_does_not_fit_comes_in_parts),
        cmocka_unit_test(second_keys_are_busy_before_linux_6_14),
        cmocka_unit_test(an_unconnected_socket_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
