/* engine/tls_text.c: the sentences, and how long they live. Those about certificates are in tests/tls_verify_test.c.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>

#include "engine/tls_text.h"
#include "tests/support/tls_client.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define WRONG "TLS: the server sent what is not allowed: "

static int load_words(void **state)
{
    (void)state;
    return OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS, NULL) == 1 ? 0 : -1;      /* as the first context does */
}

static void alerts_are_told_by_name_and_number(void **state)
{
    (void)state;
    assert_string_equal(wsr_tls_text_of_alert(40), "the server ended TLS with the alert handshake_failure (40); it "
                        "found no cipher, group or certificate that both know: see tls_ciphers, tls_version_min and "
                        "tls_version_max");
    assert_string_equal(wsr_tls_text_of_alert(47), "the server ended TLS with the alert illegal_parameter (47)");
    assert_string_equal(wsr_tls_text_of_alert(200), "the server ended TLS with the alert unknown (200)");
    for (unsigned i = 0; i <= UINT8_MAX; i++) {
        char number[8];
        const char *text = wsr_tls_text_of_alert((uint8_t)i);
        snprintf(number, sizeof number, "(%u)", i);
        assert_non_null(strstr(text, number));
        assert_ptr_equal(wsr_tls_text_of_alert((uint8_t)i), text);
    }
}

static void the_same_words_are_at_the_same_place(void **state)
{
    (void)state;
    const char *first = wsr_tls_text_of_alert(80);
    ERR_raise(ERR_LIB_SSL, SSL_R_LENGTH_MISMATCH);
    struct wsr_tls_handshake *handshake = calloc(1, sizeof *handshake + 1);
    const char *other = wsr_tls_text_of_handshake(handshake);
    assert_string_equal(other, WRONG "length mismatch");
    assert_ptr_equal(wsr_tls_text_of_alert(80), first);
    ERR_raise(ERR_LIB_SSL, SSL_R_LENGTH_MISMATCH);
    assert_ptr_equal(wsr_tls_text_of_handshake(handshake), other);
    assert_int_equal(ERR_peek_error(), 0);
    free(handshake);
}

/* The cause comes first, and the queue is empty afterwards. */
static void the_queue_is_told_by_its_first_reason(void **state)
{
    (void)state;
    ERR_clear_error();
    assert_string_equal(wsr_tls_text_of_queue(), "no reason given");
    ERR_raise(ERR_LIB_PEM, PEM_R_BAD_BASE64_DECODE);
    ERR_raise(ERR_LIB_SSL, ERR_R_PEM_LIB);
    assert_string_equal(wsr_tls_text_of_queue(), "bad base64 decode");
    assert_int_equal(ERR_peek_error(), 0);
    ERR_raise(ERR_LIB_SYS, ENOENT);
    assert_string_equal(wsr_tls_text_of_queue(), "No such file or directory");
    ERR_raise(ERR_LIB_SYS, ENOENT);
    const char *first = wsr_tls_text_of_queue();
    ERR_raise(ERR_LIB_SYS, ENOENT);
    assert_ptr_equal(wsr_tls_text_of_queue(), first);
    ERR_raise(200, 77);
    assert_string_equal(wsr_tls_text_of_queue(), "error 77 of library 200");
}

static void memory_is_told_before_what_came_of_it(void **state)
{
    (void)state;
    struct wsr_tls_handshake *handshake = calloc(1, sizeof *handshake + 1);
    handshake->is_short = true;
    ERR_raise(ERR_LIB_SSL, SSL_R_LENGTH_MISMATCH);
    assert_string_equal(wsr_tls_text_of_handshake(handshake), "TLS: no memory for its bytes");
    assert_int_equal(ERR_peek_error(), 0);
    handshake->is_short = false;
    assert_string_equal(wsr_tls_text_of_handshake(handshake), "TLS: no reason given");
    handshake->alert = 48;
    assert_string_equal(wsr_tls_text_of_handshake(handshake), "TLS: no reason given");
    handshake->was_alert_received = true;
    assert_ptr_equal(wsr_tls_text_of_handshake(handshake), wsr_tls_text_of_alert(48));
    free(handshake);
}

static void the_cause_is_what_tls_says_itself_or_else_the_first(void **state)
{
    (void)state;
    struct wsr_tls_handshake *handshake = calloc(1, sizeof *handshake + 1);
    ERR_raise(ERR_LIB_PEM, PEM_R_BAD_BASE64_DECODE);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_SIGNATURE);
    assert_string_equal(wsr_tls_text_of_handshake(handshake), WRONG "bad signature");
    ERR_raise(ERR_LIB_PEM, PEM_R_BAD_BASE64_DECODE);
    ERR_raise(ERR_LIB_SSL, ERR_R_INTERNAL_ERROR);
    assert_string_equal(wsr_tls_text_of_handshake(handshake), WRONG "bad base64 decode");
    free(handshake);
}

/* What the client says when the server's first bytes are these. */
static const char *answer(struct wsr_tls_context *context, const char *bytes, size_t len)
{
    struct wsr_tls_handshake *handshake = calloc(1, sizeof *handshake + 8);
    assert_non_null(handshake);
    SSL *ssl = handshake->ssl = wsr_tls_context_open(context, handshake, "localhost");
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    assert_int_equal(SSL_do_handshake(ssl), -1);
    assert_int_equal(BIO_write(in, bytes, (int)len), (int)len);
    ERR_clear_error();
    assert_int_equal(SSL_do_handshake(ssl), -1);
    assert_int_equal(SSL_get_error(ssl, -1), SSL_ERROR_SSL);
    const char *text = wsr_tls_text_of_handshake(handshake);
    SSL_free(ssl);
    free(handshake);
    return text;
}

static void what_is_no_tls_is_told_as_such(void **state)
{
    (void)state;
    static const char wrong_version[] = "TLS: the server speaks no TLS at this port (wrong version number); use ws: or "
                                        "another port";
    static const struct {
        const char *bytes;
        const char *text;
    } rows[] = {
        { "HTTP/1.1 400 Bad Request\r\n\r\n", wrong_version },
        { "SSH-2.0-OpenSSH_9.2\r\n", wrong_version },
        { "220 mail.example ESMTP\r\n", wrong_version },
        { "GET / HTTP/1.1\r\n\r\n",
          "TLS: the server speaks no TLS at this port (http request); use ws: or another port" },
    };
    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){ .is_insecure = true });
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_string_equal(answer(context, rows[i].bytes, strlen(rows[i].bytes)), rows[i].text);
    wsr_tls_context_free(context);
}

/* A server that has spoken TLS does speak it. */
static void what_is_no_tls_within_tls_is_told_otherwise(void **state)
{
    (void)state;
    static const char bytes[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){ .is_insecure = true });
    struct tls_server *server = tls_server_create(&(struct tls_server_options){ 0 });
    struct tls_client client;
    tls_client_connect(&client, context, server, "localhost");
    assert_true(client.is_open);
    tls_client_read(&client);
    tls_server_inject(client.link, bytes, sizeof bytes - 1);
    tls_server_carry(client.link, client.handshake->ssl);
    char byte;
    assert_int_equal(SSL_read(client.handshake->ssl, &byte, 1), -1);
    assert_string_equal(wsr_tls_text_of_handshake(client.handshake), WRONG "wrong version number");
    tls_client_end(&client);
    tls_server_free(server);
    wsr_tls_context_free(context);
}

static void an_alert_to_the_client_hello_is_told(void **state)
{
    (void)state;
    static const uint8_t descriptions[] = { 10, 40, 47, 48, 50, 51, 70, 71, 80, 86, 109, 112, 116, 120, 170 };
    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){ .is_insecure = true });
    for (size_t i = 0; i < sizeof descriptions; i++) {
        char record[] = { 21, 3, 3, 0, 2, 2, (char)descriptions[i] };
        assert_string_equal(answer(context, record, sizeof record), wsr_tls_text_of_alert(descriptions[i]));
        const char *text;
        if (descriptions[i] == 109 || descriptions[i] == 116 || descriptions[i] == 170)
            continue;                    /* OpenSSL's server says these as something older */
        assert_false(tls_client_try(context, &(struct tls_server_options){ .alert = descriptions[i] }, "localhost",
                                    &text));
        assert_string_equal(text, wsr_tls_text_of_alert(descriptions[i]));
    }
    wsr_tls_context_free(context);
}

/* Nothing that the peer sends gets into a sentence: many that send different nonsense are told of in few. */
static void sentences_are_as_many_as_reasons(void **state)
{
    (void)state;
    struct wsr_tls_context *context = tls_client_context(&(struct wsr_tls_context_options){ .is_insecure = true });
    const char *seen[64] = { "" };
    size_t seen_count = 1;
    uint32_t random = 1;
    for (int round = 0; round < 500; round++) {
        char record[64] = { 22, 3, 3, 0, 59 };
        for (size_t i = 5; i < sizeof record; i++) {
            random = random * 1664525u + 1013904223u;
            record[i] = (char)(random >> 24);
        }
        record[5] = (char)(round % 3 == 0 ? 2 : record[5]);
        record[6] = record[7] = 0;
        record[8] = 55;
        const char *text = answer(context, record, sizeof record);
        size_t i = 0;
        while (i < seen_count && seen[i] != text)
            i++;
        if (i == seen_count)
            seen[seen_count++] = text;
        assert_true(seen_count < 20);
    }
    assert_true(seen_count > 2);
    wsr_tls_context_free(context);
}

#define THREADS 4

static void *ask(void *context)
{
    const char **texts = context;
    for (unsigned i = 0; i <= UINT8_MAX; i++)
        texts[i] = wsr_tls_text_of_alert((uint8_t)i);
    return NULL;
}

static void threads_are_told_the_same(void **state)
{
    (void)state;
    static const char *texts[THREADS][UINT8_MAX + 1];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, texts[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 1; i < THREADS; i++)
        assert_memory_equal(texts[i], texts[0], sizeof texts[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_are_told_the_same),      /* first: then they find nothing yet */
        cmocka_unit_test(alerts_are_told_by_name_and_number),
        cmocka_unit_test(the_same_words_are_at_the_same_place),
        cmocka_unit_test(the_queue_is_told_by_its_first_reason),
        cmocka_unit_test(memory_is_told_before_what_came_of_it),
        cmocka_unit_test(the_cause_is_what_tls_says_itself_or_else_the_first),
        cmocka_unit_test(what_is_no_tls_is_told_as_such),
        cmocka_unit_test(what_is_no_tls_within_tls_is_told_otherwise),
        cmocka_unit_test(an_alert_to_the_client_hello_is_told),
        cmocka_unit_test(sentences_are_as_many_as_reasons),
    };
    return cmocka_run_group_tests(tests, load_words, NULL);
}
