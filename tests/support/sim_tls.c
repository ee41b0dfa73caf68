/* Made when first needed, for the life of the process: a handshake takes a millisecond, a certificate not less. */
#define OPENSSL_SUPPRESS_DEPRECATED    /* a RAND_METHOD is the short way to numbers that can be had again */
#include "tests/support/sim_tls.h"

#include <stdlib.h>

#include <openssl/rand.h>

#include "tests/support/files.h"

#define SHARED_SEED 0x746C73u

/* ---- Random numbers ---- */

static uint64_t numbers;

static int random_bytes(unsigned char *out, int len)
{
    for (int i = 0; i < len; i++) {
        numbers += 0x9E3779B97F4A7C15u;
        uint64_t mixed = (numbers ^ (numbers >> 30)) * 0xBF58476D1CE4E5B9u;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
        out[i] = (unsigned char)(mixed ^ (mixed >> 31));
    }
    return 1;
}

static int random_status(void)
{
    return 1;
}

void sim_tls_seed(uint64_t seed)
{
    static const RAND_METHOD method = { .bytes = random_bytes, .pseudorand = random_bytes, .status = random_status };
    int rc = RAND_set_rand_method(&method);
    assert(rc == 1);
    (void)rc;
    numbers = seed * 0xD1342543DE82EF95u;
}

/* What is shared is the same whichever seed needs it first. Returns what to give to end_shared(). */
static uint64_t begin_shared(void)
{
    uint64_t before = numbers;
    sim_tls_seed(SHARED_SEED);
    return before;
}

static void end_shared(uint64_t before)
{
    numbers = before;
}

/* ---- Certificates ---- */

/* Valid for ever: with the present time in it, its signature and every handshake would be of another length at every
 * second. */
static void make_certificate(struct wsr_certificate *out, const struct wsr_certificate *issuer,
                             const struct wsr_certificate_options *options)
{
    uint64_t before = begin_shared();
    ASN1_TIME *begin = ASN1_TIME_new(), *end = ASN1_TIME_new();
    int done = wsr_certificate_create(out, issuer, options) == 0 &&
               ASN1_TIME_set_string(begin, "20200101000000Z") == 1 &&
               ASN1_TIME_set_string(end, "99991231235959Z") == 1 && X509_set1_notBefore(out->x509, begin) == 1 &&
               X509_set1_notAfter(out->x509, end) == 1 &&
               X509_sign(out->x509, issuer != NULL ? issuer->key : out->key, EVP_sha256()) > 0;
    assert(done);
    (void)done;
    ASN1_TIME_free(begin);
    ASN1_TIME_free(end);
    end_shared(before);
}

const struct wsr_certificate *sim_tls_authority(void)
{
    static struct wsr_certificate authority;
    if (authority.x509 == NULL)
        make_certificate(&authority, NULL, &(struct wsr_certificate_options){ .common_name = "authority",
                                                                              .is_authority = true });
    return &authority;
}

const struct wsr_certificate *sim_tls_certificate(void)
{
    static struct wsr_certificate certificate;
    static const char *const names[] = { "server.example", "two.test", "nowhere.invalid", NULL };
    static const char *const addresses[] = { "10.0.0.1", "10.0.0.2", "127.0.0.1", "2001:db8::1", NULL };
    if (certificate.x509 == NULL)
        make_certificate(&certificate, sim_tls_authority(),
                         &(struct wsr_certificate_options){ .common_name = "server", .dns_names = names,
                                                            .addresses = addresses });
    return &certificate;
}

const char *sim_tls_ca_file(void)
{
    static const char *path;
    if (path != NULL)
        return path;
    char *pem = wsr_certificate_pem(sim_tls_authority());
    assert(pem != NULL);
    path = files_write("authority.pem", pem, strlen(pem));
    free(pem);
    return path;
}

/* ---- Servers ---- */

struct tls_server *sim_tls_server(unsigned which)
{
    static const struct tls_server_options kinds[SIM_TLS_SERVERS_COUNT] = {
        { .version_min = TLS1_3_VERSION, .ciphersuites = "TLS_AES_128_GCM_SHA256" },
        { .version_min = TLS1_3_VERSION, .ciphersuites = "TLS_AES_256_GCM_SHA384", .tickets_count = 1 },
        { .version_min = TLS1_3_VERSION, .ciphersuites = "TLS_CHACHA20_POLY1305_SHA256", .resumes_nothing = true },
        { .version_max = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256" },
        { .version_max = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" },
        { .version_max = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305", .resumes_nothing = true },
        { .version_max = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-SHA256" },
    };
    static struct tls_server *servers[SIM_TLS_SERVERS_COUNT];
    assert(which < SIM_TLS_SERVERS_COUNT);
    if (servers[which] == NULL) {
        struct tls_server_options options = kinds[which];
        options.certificate = sim_tls_certificate();
        uint64_t before = begin_shared();
        servers[which] = tls_server_create(&options);
        end_shared(before);
    }
    return servers[which];
}
