/* SPDX-License-Identifier: MIT */
#include "load_tls.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *const wsr_load_tls_versions[] = { "any", "1.2", "1.3", NULL };                        /* as the enum */
const char *const wsr_load_tls_records[] = { "auto", "library", "kernel", "direct", NULL };       /* as wsring.h */

static const uint16_t numbers[] = { 0, WSR_TLS_1_2, WSR_TLS_1_3 };

/* The first option given that plain TCP has no use for; NULL for none. */
static const char *option_of_tls(const struct wsr_load_options *options)
{
    const struct {
        bool is_given;
        const char *name;
    } all[] = {
        { options->ca_file, "--cacert" },
        { options->ca_directory, "--capath" },
        { options->crl_file, "--crl" },
        { options->certificate_file, "--cert" },
        { options->key_file, "--key" },
        { options->is_insecure, "--insecure" },
        { options->tls_name, "--sni" },
        { options->tls_min, "--tls-min" },
        { options->tls_max, "--tls-max" },
        { options->ciphers, "--ciphers" },
        { options->ciphersuites, "--ciphersuites" },
        { options->tls_records, "--tls-records" },
        { options->no_resumption, "--no-resumption" },
        { options->key_log_file, "--keylog" },
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i].is_given)
            return all[i].name;
    }
    return NULL;
}

/* As the URL Standard reads it; of a URL that is wrong the engine says so. */
static bool is_plain(const char *url)
{
    while (*url && (unsigned char)*url <= ' ')
        url++;
    return strncasecmp(url, "ws:", 3) == 0 || strncasecmp(url, "http:", 5) == 0;
}

int wsr_load_tls_check(const struct wsr_load_options *options, char error[WSR_LOAD_TLS_ERROR_CHARS])
{
    const char *given = option_of_tls(options);
    const char *trust = options->ca_file ? "--cacert" : options->ca_directory ? "--capath" : "--crl";
    int written = 0;
    if (given && is_plain(options->url))
        written = snprintf(error, WSR_LOAD_TLS_ERROR_CHARS, "%s is for TLS: give a wss:// URL", given);
    else if (options->is_insecure && (options->ca_file || options->ca_directory || options->crl_file))
        written = snprintf(error, WSR_LOAD_TLS_ERROR_CHARS,
                           "--insecure and %s exclude each other: without checking there is nothing to check with",
                           trust);
    else if (options->key_file && !options->certificate_file)
        written = snprintf(error, WSR_LOAD_TLS_ERROR_CHARS, "--key is the key of a certificate: give --cert too");
    else if (options->tls_max && options->tls_min > options->tls_max)
        written = snprintf(error, WSR_LOAD_TLS_ERROR_CHARS,
                           "--tls-min is above --tls-max, so that no version is left");
    else if (options->ciphers && options->tls_min == WSR_LOAD_TLS_1_3)
        written = snprintf(error, WSR_LOAD_TLS_ERROR_CHARS,
                           "--ciphers are those of TLS 1.2, which --tls-min excludes: give --ciphersuites");
    else if (options->ciphersuites && options->tls_max == WSR_LOAD_TLS_1_2)
        written = snprintf(error, WSR_LOAD_TLS_ERROR_CHARS,
                           "--ciphersuites are those of TLS 1.3, which --tls-max excludes: give --ciphers");
    return written > 0 ? -1 : 0;
}

void wsr_load_tls_engine_options(const struct wsr_load_options *options, struct wsr_engine_options *engine_options)
{
    engine_options->flags |= options->is_insecure ? WSR_ENGINE_TLS_INSECURE : 0;
    engine_options->flags |= options->no_resumption ? WSR_ENGINE_TLS_NO_RESUMPTION : 0;
    engine_options->tls_records = options->tls_records;
    engine_options->tls_version_min = numbers[options->tls_min];
    engine_options->tls_version_max = numbers[options->tls_max];
    engine_options->tls_ca_file = options->ca_file;
    engine_options->tls_ca_directory = options->ca_directory;
    engine_options->tls_crl_file = options->crl_file;
    engine_options->tls_certificate_file = options->certificate_file;
    engine_options->tls_key_file = options->key_file;
    engine_options->tls_ciphers = options->ciphers;
    engine_options->tls_ciphersuites = options->ciphersuites;
    engine_options->tls_key_log_file = options->key_log_file;
}

const char *wsr_load_tls_version_name(uint16_t version)
{
    return version == WSR_TLS_1_3 ? "TLS 1.3" : version == WSR_TLS_1_2 ? "TLS 1.2" : "";
}
