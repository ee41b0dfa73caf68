/* wsring load over wss: its options, and what they are to the engine. */
#ifndef WSR_LOAD_TLS_H
#define WSR_LOAD_TLS_H

#include "load.h"

#define WSR_LOAD_TLS_ERROR_CHARS 256

enum wsr_load_tls_version {
    WSR_LOAD_TLS_ANY = 0,
    WSR_LOAD_TLS_1_2 = 1,
    WSR_LOAD_TLS_1_3 = 2
};

/* The words of both, for the table of options. */
extern const char *const wsr_load_tls_versions[];
extern const char *const wsr_load_tls_records[];

/* Do the options go together, and with the URL? Returns 0, or -1 with a sentence in @error. */
int wsr_load_tls_check(const struct wsr_load_options *options, char error[WSR_LOAD_TLS_ERROR_CHARS]);

void wsr_load_tls_engine_options(const struct wsr_load_options *options, struct wsr_engine_options *engine_options);

/* "TLS 1.3"; "" without TLS. */
const char *wsr_load_tls_version_name(uint16_t version);

#endif
