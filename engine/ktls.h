/* TLS records by the kernel (Documentation/networking/tls.rst): what it is told, and what it tells of records that are
 * not data. Whoever has the file makes the calls. */
#ifndef WSR_KTLS_H
#define WSR_KTLS_H

#include <sys/socket.h>

#include "tls_event.h"
#include "tls_key.h"

/* A socket option as setsockopt() wants it; keys are in it, so wipe it. */
struct wsr_ktls_option {
    int level, name;
    socklen_t bytes;
    uint8_t value[64];
};

/* The first one: the upper layer protocol "tls" on TCP. */
void wsr_ktls_attach(struct wsr_ktls_option *option);
/* Keys of one direction, TLS_TX when @is_out. The kernel knows every suite of tls_key.h. */
void wsr_ktls_key(struct wsr_ktls_option *option, const struct wsr_tls_suite *suite, const struct wsr_tls_key *key,
                  bool is_out);
/* TLS 1.3: the server pads no records, so that data can be decrypted to where it is wanted (Linux 6.0); a wish. */
void wsr_ktls_expect_no_padding(struct wsr_ktls_option *option);
void wsr_ktls_wipe(struct wsr_ktls_option *option);

/* Why the kernel refused an option: static sentences, that say what to do. @system_errno is positive. */
const char *wsr_ktls_text(int system_errno);
/* Why receiving or sending ended, on a socket that has keys; NULL when that is nothing of TLS. */
const char *wsr_ktls_broken_text(int system_errno);

/* Control message of a record of @type that is to be sent; @control has WSR_KTLS_CONTROL_BYTES and is aligned. */
#define WSR_KTLS_CONTROL_BYTES 32u
void wsr_ktls_say_type(struct msghdr *message, void *control, enum wsr_tls_type type);
/* Type of the record that was received into @message, all of it or as much as there was room for; WSR_TLS_DATA when it
 * does not say, 0 when there was no room for the type. */
uint8_t wsr_ktls_type(const struct msghdr *message);

/* Can this machine? A socket pair over the loopback is tried. Returns 0 or a positive errno. */
int wsr_ktls_probe(void);

#endif
