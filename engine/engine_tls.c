/* The engine's TLS context: made at once when an option is about TLS, so that what is wrong is told then, otherwise
 * with the first wss socket, as reading the system's authorities takes milliseconds. */
#include "engine.h"

#include "error.h"
#include "tls_context.h"

static bool is_version(uint16_t version)
{
    return version == 0 || version == WSR_TLS_1_2 || version == WSR_TLS_1_3;
}

int wsr_engine_check_tls(const struct wsr_engine_options *o)
{
    if (o->tls_records > WSR_TLS_DIRECT)
        return wsr_error_set(WSR_ERR_ARGUMENT, "tls_records %u is no enum wsr_tls_records", o->tls_records);
    if (!is_version(o->tls_version_min) || !is_version(o->tls_version_max))
        return wsr_error_set(WSR_ERR_ARGUMENT, "tls_version_min 0x%x or tls_version_max 0x%x is no enum "
                             "wsr_tls_version", o->tls_version_min, o->tls_version_max);
    return 0;
}

static int make_context(struct wsr_engine *engine)
{
    const struct wsr_engine_options *o = &engine->options;
    const struct wsr_tls_context_options options = {
        .version_min = o->tls_version_min, .version_max = o->tls_version_max,
        .is_insecure = (o->flags & WSR_ENGINE_TLS_INSECURE) != 0,
        .keeps_no_sessions = (o->flags & WSR_ENGINE_TLS_NO_RESUMPTION) != 0,
        .ca_file = o->tls_ca_file, .ca_directory = o->tls_ca_directory, .crl_file = o->tls_crl_file,
        .certificate_file = o->tls_certificate_file, .key_file = o->tls_key_file,
        .ciphers = o->tls_ciphers, .ciphersuites = o->tls_ciphersuites, .key_log_file = o->tls_key_log_file,
    };
    return wsr_tls_context_create(&engine->tls_context, &options);
}

int wsr_engine_make_tls(struct wsr_engine *engine)
{
    struct wsr_engine_options *o = &engine->options;
    const char **const texts[] = { &o->tls_ca_file, &o->tls_ca_directory, &o->tls_crl_file, &o->tls_certificate_file,
                                   &o->tls_key_file, &o->tls_ciphers, &o->tls_ciphersuites, &o->tls_key_log_file };
    bool is_asked = o->tls_version_min != 0 || o->tls_version_max != 0;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        is_asked |= *texts[i] != NULL;
    int rc = is_asked ? make_context(engine) : 0;
    /* The caller's, and perhaps gone after this call. */
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        *texts[i] = NULL;
    return rc;
}

int wsr_engine_tls(struct wsr_engine *engine, struct wsr_tls_context **context)
{
    int rc = 0;
    pthread_mutex_lock(&engine->sockets_lock);
    if (engine->tls_context == NULL)
        rc = make_context(engine);
    *context = engine->tls_context;
    pthread_mutex_unlock(&engine->sockets_lock);
    if (rc == 0)
        wsr_tls_context_prepare(*context);       /* here, so that no worker waits for files */
    return rc;
}

/* Once it is there it stays. */
static struct wsr_tls_context *context_of(struct wsr_engine *engine)
{
    pthread_mutex_lock(&engine->sockets_lock);
    struct wsr_tls_context *context = engine->tls_context;
    pthread_mutex_unlock(&engine->sockets_lock);
    return context;
}

const char *wsr_engine_tls_suite(struct wsr_engine *engine, uint16_t suite)
{
    return wsr_tls_context_suite(context_of(engine), suite);
}

uint64_t wsr_engine_tls_sessions(struct wsr_engine *engine)
{
    struct wsr_tls_context *context = context_of(engine);
    return context != NULL ? wsr_tls_context_sessions(context) : 0;
}
