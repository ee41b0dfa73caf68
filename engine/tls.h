/* One TLS connection as bytes in, bytes out: no socket, clock or thread. OpenSSL makes the handshake; then records are
 * opened and sealed by OpenSSL (library), with the same keys by tls_direct.c (direct), or by the kernel. */
#ifndef WSR_TLS_H
#define WSR_TLS_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base.h"
#include "tls_direct.h"
#include "tls_event.h"

struct wsr_tls_context;          /* of an engine; see tls_context.h */
struct wsr_tls_handshake;        /* see tls_handshake.h */

enum wsr_tls_state {
    WSR_TLS_NONE,                /* not started, or freed */
    WSR_TLS_SHAKING,             /* the handshake is under way */
    WSR_TLS_READY,               /* it has ended well; who carries the records is to be settled */
    WSR_TLS_OPEN,                /* data goes both ways */
    WSR_TLS_CLOSED,              /* close_notify came: nothing more is read, what is sent still goes */
    WSR_TLS_FAILED               /* nothing goes any more; an alert may be in the output */
};

/* What was agreed on, for the application. */
struct wsr_tls_facts {
    uint16_t version;            /* as on the wire: 0x0303, 0x0304 */
    uint16_t suite;              /* number of the cipher suite */
    uint8_t records;             /* enum wsr_tls_records */
    uint8_t why;                 /* enum wsr_tls_why */
    bool was_resumed;
    bool is_verified;            /* false: the engine is insecure */
};

struct wsr_tls {
    struct wsr_tls_shared *shared;
    struct wsr_tls_handshake *handshake;   /* OpenSSL's part; NULL when no longer needed */
    uint8_t *record;             /* record memory: a record that comes in pieces; NULL when none */
    uint32_t record_used;        /* bytes of it */
    uint32_t record_bytes;       /* the whole of it, header included */
    uint8_t header[WSR_TLS_HEADER_BYTES];  /* of a record, when it comes in pieces itself */
    uint8_t header_used;
    uint8_t state;               /* enum wsr_tls_state, changed by one function only */
    uint8_t records;             /* enum wsr_tls_records: who carries them; WSR_TLS_AUTO while that is not settled */
    bool has_closed;             /* close_notify was written */
    struct wsr_tls_facts facts;            /* from READY on; records and why when they are settled */
    struct wsr_tls_direct direct;          /* with direct and kernel */
};

/* The same in one number; 0 is none. */
uint32_t wsr_tls_facts_pack(const struct wsr_tls_facts *facts);
struct wsr_tls_facts wsr_tls_facts_unpack(uint32_t packed);

enum wsr_tls_why {
    WSR_TLS_WHY_NONE,            /* no TLS, or not settled yet */
    WSR_TLS_WHY_ASKED,           /* the engine's option says so */
    WSR_TLS_WHY_BEST,            /* left to choose, and the keys could be had */
    WSR_TLS_WHY_SUITE            /* the cipher suite is none that direct can carry, so the library does */
};

/* The name that OpenSSL gives itself, as it runs. */
const char *wsr_tls_library_name(void);
/* A static sentence. */
const char *wsr_tls_why_text(enum wsr_tls_why why);

/*
 * Begin the handshake with the server @name at @port, which is what the certificate is checked against and, unless it
 * is a numeric address, what SNI says (URL-34). The first bytes to send are in the output. Returns 0;
 * with *@text, a static sentence, WSR_ERR_MEMORY or WSR_ERR_NOT_SUPPORTED (OpenSSL cannot begin: the options leave
 * it no version or no cipher). To be freed in any case.
 */
WSR_MUST_USE int wsr_tls_start(struct wsr_tls *tls, struct wsr_tls_shared *shared, struct wsr_tls_context *context,
                               const char *name, uint16_t port, const char **text);
/* In any state; keys are wiped. */
void wsr_tls_free(struct wsr_tls *tls);

/*
 * Take bytes until one event is complete or the bytes end. Returns the bytes taken, 1 to @len (0 only for len 0); the
 * caller goes on with the rest. @in may be written to: data of an event may lie there, opened in place. READY comes
 * once; wsr_tls_settle() is to be called before the next bytes are fed. From CLOSED on, and with a FAILURE, all bytes
 * are taken and ignored. The events are the same for every way of cutting the same stream, but for block.
 */
size_t wsr_tls_feed(struct wsr_tls *tls, uint8_t *in, size_t len, struct wsr_tls_event *event);

/*
 * After READY: let @wanted carry the records. AUTO is direct, or, like DIRECT, library with a cipher suite that
 * direct cannot carry. With KERNEL the records are carried as with DIRECT until the kernel has direct.in and
 * direct.out. Returns 0, WSR_ERR_NOT_SUPPORTED: KERNEL with a suite of which the keys cannot be had; WSR_ERR_MEMORY.
 */
WSR_MUST_USE int wsr_tls_settle(struct wsr_tls *tls, enum wsr_tls_records wanted);
/* Data has come, and with it no more tickets are waited for: OpenSSL's part is given up, unless it carries the
 * records. */
void wsr_tls_end_handshake(struct wsr_tls *tls);
/* Bytes that are still missing of the record that is being gathered, or of its header; 0 between records. */
size_t wsr_tls_missing(const struct wsr_tls *tls);

/* The kernel has direct.in and direct.out: from now on only control records are fed, by wsr_tls_control(), and the
 * output is the content of one that is to be sent, an alert. The keys are wiped here. */
void wsr_tls_take_over(struct wsr_tls *tls);
/* What the kernel has met cannot be gone on from: FAILED, with a fatal alert in the output. */
void wsr_tls_break(struct wsr_tls *tls, uint8_t alert);
/* A record of @type that is not data, as the kernel has opened it; as wsr_tls_feed(), but for DATA. KEYS says that
 * direct.in is new and the kernel is to have it. */
void wsr_tls_control(struct wsr_tls *tls, uint8_t type, struct wsr_bytes content, struct wsr_tls_event *event);

/* Bytes that are to be sent before all that is sealed from now on; taken: they are somewhere else now. */
struct wsr_bytes wsr_tls_output(const struct wsr_tls *tls);
void wsr_tls_output_taken(struct wsr_tls *tls);

/* Room that sealing @bytes, at most WSR_TLS_PLAIN_MAX, takes at most. */
#define WSR_TLS_PLAIN_MAX 16384u
size_t wsr_tls_sealed_max(const struct wsr_tls *tls, size_t bytes);
/*
 * Seal all of @parts, together 1 to WSR_TLS_PLAIN_MAX bytes, as one record into @out, which has room for it; before it
 * what the protocol owes (KeyUpdate). In OPEN and CLOSED. Returns the bytes written, or WSR_ERR_MEMORY.
 */
WSR_MUST_USE ssize_t wsr_tls_seal(struct wsr_tls *tls, const struct iovec *parts, size_t parts_count, uint8_t *out);

/* Nothing more will be sealed: close_notify is put into the output. Once; no effect before OPEN and in FAILED. With
 * KERNEL the output is the alert's content, to be sent as a record of its own type. */
void wsr_tls_close(struct wsr_tls *tls);

#endif
