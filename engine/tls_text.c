/* Sentences are put together of what OpenSSL's tables and those below say, and of nothing that the peer sent. Each is
 * kept once found, so that whoever is told one need not free it; there are as many as there are reasons. */
#include "tls_text.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#define TEXT_MAX 320u
#define TEXTS_MAX 1024u                  /* OpenSSL has some hundred reasons for all that can happen here */

/* ---- Sentences that stay ----------------------------------------------------------------------- */

struct text {
    struct text *next;
    char words[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;     /* of the two below */
static struct text *texts;               /* reachable until the process ends */
static unsigned texts_count;

/* @words as they will be found for ever; @otherwise, which is static, without memory. */
static const char *keep(const char *words, const char *otherwise)
{
    pthread_mutex_lock(&lock);
    struct text *text = texts;
    while (text != NULL && strcmp(text->words, words) != 0)
        text = text->next;
    if (text == NULL && texts_count < TEXTS_MAX) {
        size_t bytes = strlen(words) + 1;
        text = malloc(sizeof *text + bytes);
        if (text != NULL) {
            memcpy(text->words, words, bytes);
            text->next = texts;
            texts = text;
            texts_count++;
        }
    }
    pthread_mutex_unlock(&lock);
    return text != NULL ? text->words : otherwise;
}

/* ---- Alerts ------------------------------------------------------------------------------------ */

struct row {
    int number;
    const char *text, *advice;           /* advice may be NULL */
};

/* RFC 8446 6, RFC 5246 7.2, and the IANA's list. */
static const struct row alerts[] = {
    { SSL_AD_CLOSE_NOTIFY, "close_notify", NULL },
    { SSL_AD_UNEXPECTED_MESSAGE, "unexpected_message", NULL },
    { SSL_AD_BAD_RECORD_MAC, "bad_record_mac", "something on the way changes the bytes" },
    { 21, "decryption_failed", NULL },
    { SSL_AD_RECORD_OVERFLOW, "record_overflow", NULL },
    { SSL_AD_DECOMPRESSION_FAILURE, "decompression_failure", NULL },
    { SSL_AD_HANDSHAKE_FAILURE, "handshake_failure",
      "it found no cipher, group or certificate that both know: see tls_ciphers, tls_version_min and tls_version_max" },
    { 41, "no_certificate", "name the client's own in tls_certificate_file" },
    { SSL_AD_BAD_CERTIFICATE, "bad_certificate", "it does not like tls_certificate_file" },
    { SSL_AD_UNSUPPORTED_CERTIFICATE, "unsupported_certificate", "it does not like tls_certificate_file" },
    { SSL_AD_CERTIFICATE_REVOKED, "certificate_revoked", "tls_certificate_file is revoked" },
    { SSL_AD_CERTIFICATE_EXPIRED, "certificate_expired", "renew tls_certificate_file" },
    { SSL_AD_CERTIFICATE_UNKNOWN, "certificate_unknown", "it does not like tls_certificate_file" },
    { SSL_AD_ILLEGAL_PARAMETER, "illegal_parameter", NULL },
    { SSL_AD_UNKNOWN_CA, "unknown_ca", "tls_certificate_file is of an authority that it does not know, or lacks the "
      "chain behind the certificate" },
    { SSL_AD_ACCESS_DENIED, "access_denied", "it knows tls_certificate_file but does not let it in" },
    { SSL_AD_DECODE_ERROR, "decode_error", NULL },
    { SSL_AD_DECRYPT_ERROR, "decrypt_error", NULL },
    { 60, "export_restriction", NULL },
    { SSL_AD_PROTOCOL_VERSION, "protocol_version",
      "it speaks none of the versions from tls_version_min to tls_version_max" },
    { SSL_AD_INSUFFICIENT_SECURITY, "insufficient_security", "it asks for stronger ciphers: see tls_ciphers" },
    { SSL_AD_INTERNAL_ERROR, "internal_error", "its log may say why" },
    { SSL_AD_INAPPROPRIATE_FALLBACK, "inappropriate_fallback", NULL },
    { SSL_AD_USER_CANCELLED, "user_canceled", NULL },
    { SSL_AD_NO_RENEGOTIATION, "no_renegotiation", NULL },
    { SSL_AD_MISSING_EXTENSION, "missing_extension", NULL },
    { SSL_AD_UNSUPPORTED_EXTENSION, "unsupported_extension", NULL },
    { SSL_AD_CERTIFICATE_UNOBTAINABLE, "certificate_unobtainable", NULL },
    { SSL_AD_UNRECOGNIZED_NAME, "unrecognized_name", "it does not know the URL's host, nor tls_name if that is set" },
    { SSL_AD_BAD_CERTIFICATE_STATUS_RESPONSE, "bad_certificate_status_response", NULL },
    { SSL_AD_BAD_CERTIFICATE_HASH_VALUE, "bad_certificate_hash_value", NULL },
    { SSL_AD_UNKNOWN_PSK_IDENTITY, "unknown_psk_identity", NULL },
    { SSL_AD_CERTIFICATE_REQUIRED, "certificate_required", "name the client's own in tls_certificate_file" },
    { SSL_AD_NO_APPLICATION_PROTOCOL, "no_application_protocol", "it does not speak HTTP/1.1 at this port" },
};

static const struct row *find(const struct row *rows, size_t count, int number)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i].number == number)
            return &rows[i];
    }
    return NULL;
}

const char *wsr_tls_text_of_alert(uint8_t description)
{
    char words[TEXT_MAX];
    const struct row *row = find(alerts, sizeof alerts / sizeof *alerts, description);
    const char *name = row != NULL ? row->text : "unknown";
    const char *advice = row != NULL ? row->advice : NULL;
    snprintf(words, sizeof words, "the server ended TLS with the alert %s (%u)%s%s", name, description,
             advice != NULL ? "; " : "", advice != NULL ? advice : "");
    return keep(words, "the server ended TLS with an alert");
}

/* ---- Certificates ------------------------------------------------------------------------------ */

static const char trust_advice[] = "if it is to be trusted, name its authority in tls_ca_file";
static const char chain_advice[] = "the server does not send its whole chain, or tls_ca_file lacks the authority";
static const char name_advice[] = "connect to the name that it is for, or say it in tls_name";
static const char list_advice[] = "tls_crl_file needs a list of each authority in the chain";
static const char weak_advice[] = "the server needs a new one; until then tls_ciphers may say @SECLEVEL=1";

/* What OpenSSL says of a certificate, and what to do. Its own words are used where there are none here. */
static const struct row refusals[] = {
    { X509_V_ERR_CERT_HAS_EXPIRED, NULL, "the server has to renew it, or this machine's clock is wrong" },
    { X509_V_ERR_CERT_NOT_YET_VALID, NULL, "check this machine's clock" },
    { X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, NULL, "if it is to be trusted, name it in tls_ca_file" },
    { X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, NULL, trust_advice },
    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, NULL, chain_advice },
    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, NULL, chain_advice },
    { X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, NULL, chain_advice },
    { X509_V_ERR_CERT_UNTRUSTED, NULL, trust_advice },
    { X509_V_ERR_HOSTNAME_MISMATCH, "it is for another name than the URL's host", name_advice },
    { X509_V_ERR_IP_ADDRESS_MISMATCH, "it is not for the URL's IP address", name_advice },
    { X509_V_ERR_INVALID_PURPOSE, "it is not for a server", "the server has to use another" },
    { X509_V_ERR_INVALID_CA, NULL, "one in its chain may sign no others; the server's chain is wrong" },
    { X509_V_ERR_CERT_REVOKED, NULL, "the list in tls_crl_file says so" },
    { X509_V_ERR_UNABLE_TO_GET_CRL, NULL, list_advice },
    { X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER, NULL, list_advice },
    { X509_V_ERR_CRL_SIGNATURE_FAILURE, NULL, list_advice },
    { X509_V_ERR_CRL_HAS_EXPIRED, NULL, "get a new list for tls_crl_file" },
    { X509_V_ERR_CRL_NOT_YET_VALID, NULL, "check this machine's clock" },
    { X509_V_ERR_EE_KEY_TOO_SMALL, NULL, weak_advice },
    { X509_V_ERR_CA_KEY_TOO_SMALL, NULL, weak_advice },
    { X509_V_ERR_CA_MD_TOO_WEAK, NULL, weak_advice },
};

static const char *text_of_refusal(long result)
{
    char words[TEXT_MAX];
    const struct row *row = find(refusals, sizeof refusals / sizeof *refusals, (int)result);
    const char *reason = row != NULL && row->text != NULL ? row->text : X509_verify_cert_error_string(result);
    const char *advice = row != NULL ? row->advice : "ask whoever runs it";
    snprintf(words, sizeof words, "TLS: the server's certificate was refused: %s; %s", reason, advice);
    return keep(words, "TLS: the server's certificate was refused");
}

/* ---- The queue of errors ----------------------------------------------------------------------- */

static const char no_tls[] = "the server speaks no TLS at this port";
static const char no_tls_advice[] = "use ws: or another port";
static const char no_version[] = "the server speaks no version of TLS from tls_version_min to tls_version_max";

/* Reasons of OpenSSL's part for TLS for which there is something to say beside its own words. */
static const struct row reasons[] = {
    { SSL_R_WRONG_VERSION_NUMBER, no_tls, no_tls_advice },
    { SSL_R_HTTP_REQUEST, no_tls, no_tls_advice },
    { SSL_R_UNSUPPORTED_PROTOCOL, no_version, "those before 1.2 are refused for good" },
    { SSL_R_WRONG_SSL_VERSION, no_version, "those before 1.2 are refused for good" },
    { SSL_R_NO_CIPHERS_AVAILABLE, "no cipher of tls_ciphers or tls_ciphersuites is for any version that is allowed",
      "change them, or tls_version_min and tls_version_max" },
    { SSL_R_NO_PROTOCOLS_AVAILABLE, "this machine's OpenSSL allows no version of TLS that the options do",
      "change openssl.cnf, tls_version_min or tls_version_max" },
    { SSL_R_EXCESSIVE_MESSAGE_SIZE, "the server's chain of certificates, or another message, is too long",
      "a chain may have 100 KiB" },
    { SSL_R_UNSAFE_LEGACY_RENEGOTIATION_DISABLED, "the server does not know RFC 5746, so its TLS is not safe",
      "it needs an update" },
    { SSL_R_DH_KEY_TOO_SMALL, "the server's Diffie-Hellman group is too small",
      "it needs another; until then tls_ciphers may say !DHE, or @SECLEVEL=1" },
    { SSL_R_BAD_EXTENSION, "the server's answer has an extension that is wrong, or that nobody asked for", NULL },
};

/* OpenSSL's own words for @error, which are static; those of the system are kept. */
static const char *words_of(unsigned long error)
{
    static const char unknown[] = "no reason given";
    const char *words = error != 0 ? ERR_reason_error_string(error) : unknown;
    if (words != NULL)
        return words;
    char text[TEXT_MAX];
    if (ERR_SYSTEM_ERROR(error))
        return keep(strerror_r(ERR_GET_REASON(error), text, sizeof text), unknown);
    snprintf(text, sizeof text, "error %d of library %d", ERR_GET_REASON(error), ERR_GET_LIB(error));
    return keep(text, unknown);
}

const char *wsr_tls_text_of_queue(void)
{
    const char *words = words_of(ERR_peek_error());      /* the first: the others say where it was passed on */
    ERR_clear_error();
    return words;
}

/* Until the server has answered, bytes that are no TLS mean that it speaks none. */
static bool has_answered(const SSL *ssl)
{
    return ssl != NULL && SSL_get_state(ssl) != TLS_ST_CW_CLNT_HELLO;
}

static const char *text_of_error(const struct wsr_tls_handshake *handshake, unsigned long error)
{
    char words[TEXT_MAX];
    const struct row *row = ERR_GET_LIB(error) == ERR_LIB_SSL ?
                            find(reasons, sizeof reasons / sizeof *reasons, ERR_GET_REASON(error)) : NULL;
    if (row != NULL && row->text == no_tls && has_answered(handshake->ssl))
        row = NULL;
    if (row != NULL)
        snprintf(words, sizeof words, "TLS: %s (%s)%s%s", row->text, words_of(error), row->advice ? "; " : "",
                 row->advice ? row->advice : "");
    else
        snprintf(words, sizeof words, "TLS: %s%s", error != 0 ? "the server sent what is not allowed: " : "",
                 words_of(error));
    return keep(words, "TLS failed at what the server sent");
}

/* The cause as TLS has it comes last, behind what the ciphers and certificates had to say; if it has none, the first of
 * those is the cause. */
static unsigned long find_cause(void)
{
    unsigned long last = ERR_peek_last_error();
    bool is_own = ERR_GET_LIB(last) == ERR_LIB_SSL && (ERR_GET_REASON(last) & ERR_RFLAG_COMMON) == 0;
    return is_own ? last : ERR_peek_error();
}

const char *wsr_tls_text_of_handshake(const struct wsr_tls_handshake *handshake)
{
    unsigned long error = find_cause();
    int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    ERR_clear_error();
    if (handshake->is_short)
        return "TLS: no memory for its bytes";
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return text_of_refusal(SSL_get_verify_result(handshake->ssl));
    if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + UINT8_MAX)
        return wsr_tls_text_of_alert((uint8_t)(reason - SSL_AD_REASON_OFFSET));
    if (error == 0 && handshake->was_alert_received)
        return wsr_tls_text_of_alert(handshake->alert);
    return text_of_error(handshake, error);
}
