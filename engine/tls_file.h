/* The files that the options for TLS name: certificates, lists of revoked ones, keys, in PEM; and the key log. Each
 * function returns 0, WSR_ERR_ARGUMENT with a sentence that names the option, the file, the reason and what to do, or
 * WSR_ERR_MEMORY. */
#ifndef WSR_TLS_FILE_H
#define WSR_TLS_FILE_H

#include <openssl/ssl.h>

#include "base.h"

/* tls_ca_file: all certificates of it are trusted. */
WSR_MUST_USE int wsr_tls_file_load_authorities(X509_STORE *store, const char *path);
/* tls_ca_directory: looked into when a certificate is verified. */
WSR_MUST_USE int wsr_tls_file_name_directory(X509_STORE *store, const char *path);
/* tls_crl_file. */
WSR_MUST_USE int wsr_tls_file_load_lists(X509_STORE *store, const char *path);
/* tls_certificate_file, whose first certificate is the client's and the others its chain, and tls_key_file, which may
 * be NULL. */
WSR_MUST_USE int wsr_tls_file_load_own(SSL_CTX *context, const char *certificate_path, const char *key_path);
/* tls_key_log_file: *@file becomes a descriptor that appends. */
WSR_MUST_USE int wsr_tls_file_open_log(int *file, const char *path);

#endif
