/* Certificates by OpenSSL. What they say is the least that today's checks ask for (RFC 5280 4.2).
 * SPDX-License-Identifier: MIT
 */
#include "certificate.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define VERSION_3 2L                     /* as the certificate has it, from 0 */
#define VERSION_2 1L                     /* of a list */
#define SERIAL_BITS 127                  /* random, so that no two of one issuer are alike */
#define BEGIN_S (-3600)
#define END_S (30 * 86400)
#define LIST_BEGIN_S (-60)
#define COMMON_NAME_MAX 64u              /* ub-common-name */
#define RSA_BITS 2048

const struct wsr_certificate_options wsr_certificate_local = {
    .common_name = "localhost",
    .dns_names = (const char *const[]){ "localhost", NULL },
    .addresses = (const char *const[]){ "127.0.0.1", "::1", NULL },
};

static bool is_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

/* Does every list of names hold what it should? */
static bool are_names_good(const struct wsr_certificate_options *options)
{
    const char *common = options->common_name;
    if (common != NULL && (*common == '\0' || strlen(common) > COMMON_NAME_MAX || !is_ascii(common)))
        return false;
    for (const char *const *name = options->dns_names; name != NULL && *name != NULL; name++) {
        if (**name == '\0' || !is_ascii(*name))
            return false;
    }
    for (const char *const *address = options->addresses; address != NULL && *address != NULL; address++) {
        ASN1_OCTET_STRING *bytes = a2i_IPADDRESS(*address);
        if (bytes == NULL)
            return false;
        ASN1_OCTET_STRING_free(bytes);
    }
    return true;
}

/* ---- Extensions -------------------------------------------------------------------------------- */

/* @value is of the type that belongs to @nid, and is freed. */
static bool add_value(X509 *x509, int nid, void *value, bool is_critical)
{
    X509_EXTENSION *extension = value != NULL ? X509V3_EXT_i2d(nid, is_critical, value) : NULL;
    bool done = extension != NULL && X509_add_ext(x509, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return done;
}

/* As in a configuration file of OpenSSL. */
static bool add_text(X509 *x509, X509 *issuer, int nid, const char *text)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, text);
    bool done = extension != NULL && X509_add_ext(x509, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return done;
}

/* @value passes to @names, or is freed. */
static bool push_name(GENERAL_NAMES *names, int type, void *value)
{
    GENERAL_NAME *name = value != NULL ? GENERAL_NAME_new() : NULL;
    if (name == NULL) {
        ASN1_STRING_free(value);
        return false;
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (sk_GENERAL_NAME_push(names, name) > 0)
        return true;
    GENERAL_NAME_free(name);
    return false;
}

static bool push_dns_name(GENERAL_NAMES *names, const char *text)
{
    ASN1_IA5STRING *value = ASN1_IA5STRING_new();
    if (value != NULL && ASN1_STRING_set(value, text, -1) != 1) {
        ASN1_IA5STRING_free(value);
        return false;
    }
    return push_name(names, GEN_DNS, value);
}

static bool add_names(X509 *x509, const struct wsr_certificate_options *options)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool done = names != NULL;
    for (const char *const *name = options->dns_names; done && name != NULL && *name != NULL; name++)
        done = push_dns_name(names, *name);
    for (const char *const *address = options->addresses; done && address != NULL && *address != NULL; address++)
        done = push_name(names, GEN_IPADD, a2i_IPADDRESS(*address));
    if (done && sk_GENERAL_NAME_num(names) > 0)
        done = add_value(x509, NID_subject_alt_name, names, false);
    GENERAL_NAMES_free(names);
    return done;
}

static bool add_comment(X509 *x509, size_t bytes)
{
    ASN1_IA5STRING *comment = ASN1_IA5STRING_new();
    char *text = malloc(bytes);
    bool done = comment != NULL && text != NULL;
    if (done) {
        memset(text, 'x', bytes);
        done = ASN1_STRING_set(comment, text, (int)bytes) == 1 &&
               add_value(x509, NID_netscape_comment, comment, false);
    }
    free(text);
    ASN1_IA5STRING_free(comment);
    return done;
}

static bool add_extensions(X509 *x509, X509 *issuer, const struct wsr_certificate_options *options)
{
    static const char *const purposes[] = { "serverAuth", "clientAuth", NULL };
    bool is_authority = options->is_authority;
    const char *purpose = is_authority ? NULL : purposes[options->purpose];
    const char *usage = is_authority ? "critical,keyCertSign,cRLSign" :
                        options->is_rsa ? "critical,digitalSignature,keyEncipherment" : "critical,digitalSignature";
    return add_text(x509, issuer, NID_basic_constraints, is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE") &&
           add_text(x509, issuer, NID_key_usage, usage) &&
           (purpose == NULL || add_text(x509, issuer, NID_ext_key_usage, purpose)) &&
           add_text(x509, issuer, NID_subject_key_identifier, "hash") &&
           add_text(x509, issuer, NID_authority_key_identifier, "keyid") &&
           add_names(x509, options) && (options->comment_bytes == 0 || add_comment(x509, options->comment_bytes));
}

/* ---- Certificates ------------------------------------------------------------------------------ */

static bool set_serial(X509 *x509)
{
    BIGNUM *number = BN_new();
    bool done = number != NULL && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)) != NULL;
    BN_free(number);
    return done;
}

static bool set_subject(X509 *x509, const char *common_name)
{
    return X509_NAME_add_entry_by_NID(X509_get_subject_name(x509), NID_commonName, MBSTRING_ASC,
                                      (const unsigned char *)common_name, -1, -1, 0) == 1;
}

static bool set_time(ASN1_TIME *when, int64_t seconds, int64_t otherwise)
{
    return X509_gmtime_adj(when, seconds != 0 ? seconds : otherwise) != NULL;
}

int wsr_certificate_create(struct wsr_certificate *out, const struct wsr_certificate *issuer,
                           const struct wsr_certificate_options *options)
{
    *out = (struct wsr_certificate){ NULL, NULL };
    if (!are_names_good(options))
        return WSR_ERR_ARGUMENT;
    out->x509 = X509_new();
    out->key = options->is_rsa ? EVP_RSA_gen(RSA_BITS) : EVP_EC_gen("P-256");
    const struct wsr_certificate *signer = issuer != NULL ? issuer : out;
    if (out->x509 != NULL && out->key != NULL && X509_set_version(out->x509, VERSION_3) == 1 &&
        set_serial(out->x509) && set_subject(out->x509, options->common_name ? options->common_name : "wsring") &&
        X509_set_issuer_name(out->x509, X509_get_subject_name(signer->x509)) == 1 &&
        set_time(X509_getm_notBefore(out->x509), options->begin_s, BEGIN_S) &&
        set_time(X509_getm_notAfter(out->x509), options->end_s, END_S) && X509_set_pubkey(out->x509, out->key) == 1 &&
        add_extensions(out->x509, signer->x509, options) && X509_sign(out->x509, signer->key, EVP_sha256()) > 0)
        return 0;
    wsr_certificate_free(out);
    return WSR_ERR_MEMORY;
}

void wsr_certificate_free(struct wsr_certificate *certificate)
{
    X509_free(certificate->x509);
    EVP_PKEY_free(certificate->key);
    *certificate = (struct wsr_certificate){ NULL, NULL };
}

/* ---- PEM --------------------------------------------------------------------------------------- */

/* What @bio holds, as a string of its own, unless @done says that it is not whole. Frees @bio. */
static char *take_text(BIO *bio, bool done)
{
    char *data = NULL;
    long len = bio != NULL ? BIO_get_mem_data(bio, &data) : 0;
    char *text = done && len > 0 ? malloc((size_t)len + 1) : NULL;
    if (text != NULL) {
        memcpy(text, data, (size_t)len);
        text[len] = '\0';
    }
    BIO_free(bio);
    return text;
}

char *wsr_certificate_pem(const struct wsr_certificate *certificate)
{
    BIO *bio = BIO_new(BIO_s_mem());
    return take_text(bio, bio != NULL && PEM_write_bio_X509(bio, certificate->x509) == 1);
}

char *wsr_certificate_key_pem(const struct wsr_certificate *certificate, const char *password)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const EVP_CIPHER *cipher = password != NULL ? EVP_aes_256_cbc() : NULL;
    int len = password != NULL ? (int)strlen(password) : 0;
    return take_text(bio, bio != NULL && PEM_write_bio_PKCS8PrivateKey(bio, certificate->key, cipher, password, len,
                                                                       NULL, NULL) == 1);
}

static bool revoke(X509_CRL *list, const X509 *x509, const ASN1_TIME *when)
{
    X509_REVOKED *entry = X509_REVOKED_new();
    if (entry != NULL && X509_REVOKED_set_serialNumber(entry, (ASN1_INTEGER *)X509_get0_serialNumber(x509)) == 1 &&
        X509_REVOKED_set_revocationDate(entry, (ASN1_TIME *)when) == 1 && X509_CRL_add0_revoked(list, entry) == 1)
        return true;
    X509_REVOKED_free(entry);
    return false;
}

char *wsr_certificate_list_pem(const struct wsr_certificate *issuer, const struct wsr_certificate *const *revoked,
                               size_t count, int64_t end_s)
{
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *begin = ASN1_TIME_new(), *end = ASN1_TIME_new();
    BIO *bio = BIO_new(BIO_s_mem());
    bool done = list != NULL && begin != NULL && end != NULL && bio != NULL && set_time(begin, LIST_BEGIN_S, 0) &&
                set_time(end, end_s, END_S) && X509_CRL_set_version(list, VERSION_2) == 1 &&
                X509_CRL_set_issuer_name(list, X509_get_subject_name(issuer->x509)) == 1 &&
                X509_CRL_set1_lastUpdate(list, begin) == 1 && X509_CRL_set1_nextUpdate(list, end) == 1;
    for (size_t i = 0; done && i < count; i++)
        done = revoke(list, revoked[i]->x509, begin);
    done = done && X509_CRL_sort(list) == 1 && X509_CRL_sign(list, issuer->key, EVP_sha256()) > 0 &&
           PEM_write_bio_X509_CRL(bio, list) == 1;
    X509_CRL_free(list);
    ASN1_TIME_free(begin);
    ASN1_TIME_free(end);
    return take_text(bio, done);
}
