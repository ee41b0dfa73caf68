/* PEM is read whole and by hand: OpenSSL's own readers would ask the terminal for passwords, and tell neither which
 * block is bad nor that there was none. */
#include "tls_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "error.h"
#include "tls_text.h"

#define FILE_MAX_BYTES (64u << 20)       /* far above any bundle of authorities or lists */
#define FIRST_ROOM_BYTES 65536u
#define HASH_CHARS 8u                    /* of the names that openssl rehash gives */

/* A file that is being read, and for whom. */
struct pem {
    const char *option, *path;
    char *text;                          /* OPENSSL_malloc, as it may be a key: wiped */
    size_t bytes, room;
    BIO *bio;
    bool was_asked;                      /* for a password */
};

/* Paths are cut so that the reason, which follows, is always there. */
#define PATH "\"%.160s\""

static int refuse(const struct pem *pem, const char *reason, const char *advice)
{
    return wsr_error_set(WSR_ERR_ARGUMENT, "%s " PATH ": %s; %s", pem->option, pem->path, reason, advice);
}

static int refuse_for_errno(const struct pem *pem, int system_errno, const char *advice)
{
    char text[128];
    return refuse(pem, strerror_r(system_errno, text, sizeof text), advice);
}

static int no_memory(void)
{
    ERR_clear_error();
    return wsr_error_set(WSR_ERR_MEMORY, "no memory for what the options for TLS name");
}

/* OpenSSL calls it when something is encrypted. Without it, it would ask at the terminal. */
static int refuse_password(char *out, int out_bytes, int is_writing, void *context)
{
    (void)out;
    (void)out_bytes;
    (void)is_writing;
    ((struct pem *)context)->was_asked = true;
    return -1;
}

/* ---- Reading ----------------------------------------------------------------------------------- */

static bool grow(struct pem *pem)
{
    size_t room = pem->room > 0 ? 2 * pem->room : FIRST_ROOM_BYTES;
    char *grown = OPENSSL_clear_realloc(pem->text, pem->room, room);
    if (grown == NULL)
        return false;
    pem->text = grown;
    pem->room = room;
    return true;
}

static int read_all(struct pem *pem, int file)
{
    for (;;) {
        if (pem->bytes == pem->room && !grow(pem))
            return no_memory();
        ssize_t got = read(file, pem->text + pem->bytes, pem->room - pem->bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return refuse_for_errno(pem, errno, "name a file that can be read");
        if (got == 0)
            return 0;
        pem->bytes += (size_t)got;
        if (pem->bytes > FILE_MAX_BYTES)
            return refuse(pem, "the file is larger than 64 MiB", "name one with what is needed alone");
    }
}

/* To be closed whatever it returns. */
static int open_pem(struct pem *pem, const char *option, const char *path)
{
    *pem = (struct pem){ .option = option, .path = path };
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return refuse_for_errno(pem, errno, "name a file that can be read");
    int rc = read_all(pem, file);
    close(file);
    if (rc != 0)
        return rc;
    pem->bio = BIO_new_mem_buf(pem->text, (int)pem->bytes);
    return pem->bio != NULL ? 0 : no_memory();
}

static void close_pem(struct pem *pem)
{
    BIO_free(pem->bio);
    OPENSSL_clear_free(pem->text, pem->room);
}

/* No more blocks of the kind: is that the end of the file? */
static bool is_at_end(void)
{
    return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
}

/* The block behind @count good ones cannot be read. */
static int refuse_block(const struct pem *pem, const char *kind, unsigned count)
{
    char reason[160];
    snprintf(reason, sizeof reason, "%s number %u cannot be read (%s)", kind, count + 1, wsr_tls_text_of_queue());
    return refuse(pem, reason, "write it anew");
}

static int refuse_empty(const struct pem *pem, const char *kind, const char *advice)
{
    char reason[80];
    ERR_clear_error();
    snprintf(reason, sizeof reason, "there is no %s in it, in PEM", kind);
    return refuse(pem, reason, advice);
}

static const char convert_certificate[] = "name another, or convert it by openssl x509 -inform DER";
static const char convert_list[] = "name another, or convert it by openssl crl -inform DER";
static const char convert_key[] = "name another, or convert it by openssl pkey -inform DER";

/* ---- Trust ------------------------------------------------------------------------------------- */

static int load_authorities(struct pem *pem, X509_STORE *store)
{
    X509 *certificate;
    unsigned count = 0;
    ERR_clear_error();
    while ((certificate = PEM_read_bio_X509_AUX(pem->bio, NULL, refuse_password, pem)) != NULL) {
        /* Its extensions are looked at now, or the first handshakes of all workers would wait for each other to. */
        (void)X509_check_purpose(certificate, -1, 0);
        int done = X509_STORE_add_cert(store, certificate);
        X509_free(certificate);
        if (done != 1)
            return no_memory();
        count++;
    }
    if (!is_at_end())
        return refuse_block(pem, "certificate", count);
    if (count == 0)
        return refuse_empty(pem, "certificate", convert_certificate);
    ERR_clear_error();
    return 0;
}

int wsr_tls_file_load_authorities(X509_STORE *store, const char *path)
{
    struct pem pem;
    int rc = open_pem(&pem, "tls_ca_file", path);
    if (rc == 0)
        rc = load_authorities(&pem, store);
    close_pem(&pem);
    return rc;
}

static int load_lists(struct pem *pem, X509_STORE *store)
{
    X509_CRL *list;
    unsigned count = 0;
    ERR_clear_error();
    while ((list = PEM_read_bio_X509_CRL(pem->bio, NULL, refuse_password, pem)) != NULL) {
        int done = X509_STORE_add_crl(store, list);
        X509_CRL_free(list);
        if (done != 1)
            return no_memory();
        count++;
    }
    if (!is_at_end())
        return refuse_block(pem, "list", count);
    if (count == 0)
        return refuse_empty(pem, "list of revoked certificates (CRL)", convert_list);
    ERR_clear_error();
    return 0;
}

int wsr_tls_file_load_lists(X509_STORE *store, const char *path)
{
    struct pem pem;
    int rc = open_pem(&pem, "tls_crl_file", path);
    if (rc == 0)
        rc = load_lists(&pem, store);
    close_pem(&pem);
    return rc;
}

/* "0123abcd.0", as openssl rehash names a certificate by its subject. */
static bool is_hashed_name(const char *name)
{
    return strspn(name, "0123456789abcdef") == HASH_CHARS && name[HASH_CHARS] == '.' &&
           name[HASH_CHARS + 1] >= '0' && name[HASH_CHARS + 1] <= '9';
}

int wsr_tls_file_name_directory(X509_STORE *store, const char *path)
{
    struct pem pem = { .option = "tls_ca_directory", .path = path };
    if (strchr(path, ':') != NULL)
        return refuse(&pem, "OpenSSL takes a colon for the end of a name", "name one directory, without a colon");
    DIR *directory = opendir(path);
    if (directory == NULL)
        return refuse_for_errno(&pem, errno, "name a directory that can be read");
    const struct dirent *file;
    while ((file = readdir(directory)) != NULL && !is_hashed_name(file->d_name)) {
    }
    closedir(directory);
    if (file == NULL)
        return refuse(&pem, "no certificate is named in it by its hash", "run openssl rehash on it");
    return X509_STORE_load_path(store, path) == 1 ? 0 : no_memory();
}

/* ---- The client's own certificate -------------------------------------------------------------- */

static int refuse_own(const struct pem *pem, const char *what)
{
    char reason[200];
    snprintf(reason, sizeof reason, "OpenSSL does not take %s (%s)", what, wsr_tls_text_of_queue());
    return refuse(pem, reason, "use another certificate");
}

static int load_chain(struct pem *pem, SSL_CTX *context)
{
    X509 *certificate = PEM_read_bio_X509_AUX(pem->bio, NULL, refuse_password, pem);
    unsigned count = 0;
    if (certificate == NULL)
        return is_at_end() ? refuse_empty(pem, "certificate", convert_certificate) :
                             refuse_block(pem, "certificate", 0);
    int done = SSL_CTX_use_certificate(context, certificate);
    X509_free(certificate);
    if (done != 1)
        return refuse_own(pem, "the certificate");
    while ((certificate = PEM_read_bio_X509(pem->bio, NULL, refuse_password, pem)) != NULL) {
        count++;
        if (SSL_CTX_add0_chain_cert(context, certificate) != 1) {
            X509_free(certificate);
            return refuse_own(pem, "a certificate of the chain");
        }
    }
    if (!is_at_end())
        return refuse_block(pem, "certificate", count + 1);
    ERR_clear_error();
    return 0;
}

static int load_key(struct pem *pem, SSL_CTX *context, const char *certificate_path)
{
    EVP_PKEY *key = PEM_read_bio_PrivateKey(pem->bio, NULL, refuse_password, pem);
    if (key == NULL && pem->was_asked) {
        ERR_clear_error();
        return refuse(pem, "the key is encrypted, and nobody is asked for the password",
                      "write it without one: openssl pkey -in FILE -out FILE");
    }
    if (key == NULL)
        return memmem(pem->text, pem->bytes, "PRIVATE KEY-----", 16) != NULL ? refuse_block(pem, "key", 0) :
                                                                            refuse_empty(pem, "key", convert_key);
    int rc = 0;
    if (X509_check_private_key(SSL_CTX_get0_certificate(context), key) != 1) {
        char reason[240];
        ERR_clear_error();
        snprintf(reason, sizeof reason, "the key is not that of the certificate in " PATH, certificate_path);
        rc = refuse(pem, reason, "name the two files that belong together");
    } else if (SSL_CTX_use_PrivateKey(context, key) != 1) {
        rc = refuse_own(pem, "the key");
    }
    EVP_PKEY_free(key);
    return rc;
}

int wsr_tls_file_load_own(SSL_CTX *context, const char *certificate_path, const char *key_path)
{
    struct pem certificate, key = { .path = NULL };
    ERR_clear_error();
    int rc = open_pem(&certificate, "tls_certificate_file", certificate_path);
    if (rc == 0)
        rc = load_chain(&certificate, context);
    if (rc == 0)
        rc = key_path != NULL ? open_pem(&key, "tls_key_file", key_path) :
                                open_pem(&key, "tls_certificate_file", certificate_path);
    if (rc == 0)
        rc = load_key(&key, context, certificate_path);
    close_pem(&key);
    close_pem(&certificate);
    return rc;
}

/* ---- Key log ----------------------------------------------------------------------------------- */

int wsr_tls_file_open_log(int *file, const char *path)
{
    /* Not blocking: a pipe that nobody reads must not stop the handshakes. */
    int opened = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, S_IRUSR | S_IWUSR);
    if (opened < 0) {
        struct pem pem = { .option = "tls_key_log_file", .path = path };
        return refuse_for_errno(&pem, errno, "name a file that can be written to");
    }
    *file = opened;
    return 0;
}
