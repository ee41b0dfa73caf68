/* Throw-away certificates: authorities, certificates that they sign and lists of revoked ones, made in memory. */
#ifndef WSR_CERTIFICATE_H
#define WSR_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

#include "wsring.h"

enum wsr_certificate_purpose {
    WSR_CERTIFICATE_SERVER = 0,
    WSR_CERTIFICATE_CLIENT = 1,
    WSR_CERTIFICATE_ANY = 2              /* says nothing of it, so that it is good for all */
};

/* All zero: for a server, elliptic curve, without any name but "wsring". */
struct wsr_certificate_options {
    const char *common_name;             /* at most 64 characters; NULL = "wsring" */
    const char *const *dns_names;        /* the last is followed by NULL; NULL = none */
    const char *const *addresses;        /* the same, numeric, IPv4 or IPv6 */
    int64_t begin_s, end_s;              /* when it is valid, in seconds from now; 0 = since an hour, and for 30 days */
    enum wsr_certificate_purpose purpose;
    bool is_authority;                   /* may sign others, and lists; has no purpose */
    bool is_rsa;                         /* RSA of 2,048 bits instead of P-256 */
    size_t comment_bytes;                /* a comment that makes it so much larger; 0 = none */
};

/* A certificate and its key. */
struct wsr_certificate {
    X509 *x509;
    EVP_PKEY *key;
};

/* localhost, 127.0.0.1 and ::1: what a server on this machine is called. */
extern const struct wsr_certificate_options wsr_certificate_local;

/*
 * Make a key and a certificate for it, signed by @issuer, or by itself when that is NULL. Returns 0 with *@out, to be
 * given to wsr_certificate_free(). WSR_ERR_ARGUMENT: a name is too long, empty or not ASCII, or an address is none.
 * WSR_ERR_MEMORY: that, or OpenSSL could not; *@out is empty.
 */
WSR_MUST_USE int wsr_certificate_create(struct wsr_certificate *out, const struct wsr_certificate *issuer,
                                        const struct wsr_certificate_options *options);
/* Frees both and makes it empty, which is allowed too. */
void wsr_certificate_free(struct wsr_certificate *certificate);

/* Each of these returns PEM as a string for free(); NULL without memory. */
char *wsr_certificate_pem(const struct wsr_certificate *certificate);
/* The key as PKCS #8; encrypted (AES-256-CBC) unless @password is NULL. */
char *wsr_certificate_key_pem(const struct wsr_certificate *certificate, const char *password);
/* The list, signed by @issuer, that revokes @count certificates. It was made a minute ago and is valid until @end_s
 * seconds from now; 0 = for 30 days. */
char *wsr_certificate_list_pem(const struct wsr_certificate *issuer, const struct wsr_certificate *const *revoked,
                               size_t count, int64_t end_s);

#endif
