/* wsring: a WebSocket client engine for Linux.
 * SPDX-License-Identifier: MIT
 *
 * One engine owns worker threads (or none: inline), each with one kernel ring and one message ring.
 * A socket is the browser's WebSocket object. Its state changes only when the application takes an
 * event (wsr_poll, wsr_dispatch) or makes a call, never behind its back.
 *
 * Terms used below.
 *   ring            the message ring of one worker, numbered from 0; an inline engine has ring 0 alone.
 *   consumer        the one thread that polls a ring. Another thread may take over when the first has
 *                   stopped and the two are ordered by the caller; an inline engine stays with the thread
 *                   that polled it first (kernel rings have a single issuer since Linux 6.0).
 *   lent            memory inside an event: valid until the next wsr_poll or wsr_dispatch of that ring.
 * Strings from the library are NUL-terminated, live as long as the object that they came from, and are
 * never to be freed. All times are nanoseconds of CLOCK_MONOTONIC, all sizes are bytes.
 */
#ifndef WSRING_H
#define WSRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Value of an options structure with only its size set. */
#ifdef __cplusplus
#define WSR_SIZED(type) ([] { struct type value{}; value.size = sizeof value; return value; }())
#else
#define WSR_SIZED(type) { .size = sizeof(struct type) }
#endif

#define WSR_API __attribute__((visibility("default")))
#define WSR_MUST_USE __attribute__((warn_unused_result))

#define WSR_VERSION "0.1.0"

/** Length argument that means "NUL-terminated". */
#define WSR_ZSTRING SIZE_MAX
/** A time limit that never ends, a wait without end. */
#define WSR_NEVER UINT64_MAX

struct wsr_engine;
struct wsr_socket;
struct wsr_hold;
struct wsr_blob;
struct wsr_template;
struct iovec;

/* ---- Errors ------------------------------------------------------------------------------------ */

/** What a call returns when it refuses. A refused call has changed nothing. */
enum wsr_error {
    WSR_OK = 0,
    WSR_ERR_SYNTAX = -1,          /* SyntaxError: URL, protocols, header, reason */
    WSR_ERR_INVALID_STATE = -2,   /* InvalidStateError: send() while CONNECTING */
    WSR_ERR_INVALID_ACCESS = -3,  /* InvalidAccessError: a close code that may not be sent */
    WSR_ERR_INVALID_UTF8 = -4,    /* text that is not UTF-8 */
    WSR_ERR_QUOTA = -5,           /* send queue or slab full; a writable event follows */
    WSR_ERR_ARGUMENT = -6,        /* NULL, unknown flag, size out of range */
    WSR_ERR_NOT_SUPPORTED = -7,   /* asked for what this build or this kernel does not have */
    WSR_ERR_MEMORY = -8,          /* no memory, or every socket slot is taken */
    WSR_ERR_SYSTEM = -9,          /* the kernel refused; the text names the call and errno */
    WSR_ERR_BUSY = -10,           /* polled or destroyed inside one of its own handlers */
    WSR_ERR_THREAD = -11          /* called from a thread that does not own the ring */
};

/** The name of an enum wsr_error value, as "WSR_ERR_SYNTAX"; "unknown" for any other number. Any thread. */
WSR_API const char *wsr_error_name(int error);

/**
 * What the last refused call of this thread found: what, where, and what to do, in one sentence.
 * Empty before the first. Valid until the next refused call of the same thread. Any thread.
 */
WSR_API const char *wsr_error_text(void);

/* ---- Events ------------------------------------------------------------------------------------ */

/** readyState. WHATWG WebSockets, interface WebSocket. */
enum wsr_ready_state {
    WSR_CONNECTING = 0,
    WSR_OPEN = 1,
    WSR_CLOSING = 2,
    WSR_CLOSED = 3
};

/** Kind of a message: the opcode of its first frame (RFC 6455 5.6). */
enum wsr_kind {
    WSR_TEXT = 1,
    WSR_BINARY = 2,
    /* The same for what is sent, though compression was agreed on: for what is compressed already, or may not be
     * compressed together with what others choose. Events never have these. */
    WSR_TEXT_UNCOMPRESSED = 17,
    WSR_BINARY_UNCOMPRESSED = 18
};

/**
 * binaryType: as what a binary message is owned, from the moment its event is taken (WHATWG WebSockets, "when a
 * WebSocket message has been received"). Text ignores it: it is always one block.
 */
enum wsr_binary_type {
    WSR_BLOB = 0,        /* the default, as in the browser: immutable, in the pieces in which it came, never joined;
                            event->data is NULL, wsr_event_view() shows the pieces, wsr_event_blob() keeps them */
    WSR_ARRAYBUFFER = 1  /* one block at event->data, the receiver's alone: it may cast the const away and write there
                            until the memory goes back. A message that came in one piece costs the same either way */
};

enum wsr_event_type {
    WSR_EVENT_OPEN = 1,
    WSR_EVENT_MESSAGE = 2,
    WSR_EVENT_ERROR = 3,
    WSR_EVENT_CLOSE = 4,
    WSR_EVENT_WRITABLE = 5,  /* after WSR_ERR_QUOTA: what was refused fits the send queue again */
    WSR_EVENT_PONG = 6       /* the answer to a wsr_ping() */
};
#define WSR_EVENT_TYPES_COUNT 7

/** How far a connection had come when it failed; in error and close events. */
enum wsr_stage {
    WSR_STAGE_NONE = 0,
    WSR_STAGE_LOOKUP = 1,    /* name look-up */
    WSR_STAGE_CONNECT = 2,   /* TCP */
    WSR_STAGE_TLS = 3,
    WSR_STAGE_UPGRADE = 4,   /* HTTP request and answer */
    WSR_STAGE_OPEN = 5,
    WSR_STAGE_CLOSING = 6,
    WSR_STAGE_PROXY = 7      /* between CONNECT, which is then to the proxy, and TLS: what the proxy said, or did not */
};

enum wsr_event_flags {
    WSR_EVENT_LAST = 1u << 0,  /* nothing more was waiting in the ring when this event was taken */
    WSR_EVENT_BLOB = 1u << 1   /* message: a blob, so data is NULL and its bytes are had by wsr_event_view() or
                                  wsr_event_blob(). With WSR_ARRAYBUFFER only when there was no memory to join pieces
                                  that had come before binaryType was changed */
};

/** One event. Taken by value; what it points to is lent. */
struct wsr_event {
    uint8_t type;               /* enum wsr_event_type */
    uint8_t kind;               /* message: enum wsr_kind */
    uint8_t flags;              /* enum wsr_event_flags */
    uint8_t was_clean;          /* close: wasClean */
    uint16_t code;              /* close: code; 1006 when no Close frame came (RFC 6455 7.1.5) */
    uint16_t http_status;       /* error, close: status of the answer, 0 when none was read; at WSR_STAGE_PROXY the
                                   proxy's */
    struct wsr_socket *socket;  /* target */
    const void *data;           /* message, pong: payload; close: reason. Not NUL-terminated, NULL when len is 0 and
                                   in a blob (WSR_EVENT_BLOB) */
    uint64_t len;               /* of all pieces together */
    uint64_t received_ns;       /* when the engine took the last byte of it from the kernel */
    union {
        const char *text;       /* all but pong: what failed, one static sentence; "" when nothing did */
        uint64_t rtt_ns;        /* pong: from wsr_ping() to received_ns; 0 when the payload was not the engine's own */
    };
    int32_t system_errno;       /* error, close: errno, or 0 */
    uint8_t stage;              /* error, close: enum wsr_stage */
    uint8_t begin[3];           /* blob: the engine's own, as is the next */
    void *loan;                 /* the engine's own: names the memory for wsr_event_hold */
};

/**
 * Keep the memory of message @event beyond the next poll. Every hold is released once.
 *
 * Returns the hold, or NULL when the event carries no memory (an empty message, another event type).
 * Held receive buffers do not return to the kernel; while more than half of a ring's buffers are out, the
 * engine copies new messages instead of lending, so holding never costs a byte.
 *
 * Threads: the ring's consumer, while the event is lent.
 */
WSR_API WSR_MUST_USE struct wsr_hold *wsr_event_hold(const struct wsr_event *event);

/** Give back a hold; NULL is allowed. Threads: any. To be called before wsr_engine_destroy(). */
WSR_API void wsr_hold_release(struct wsr_hold *hold);

/**
 * The payload of message @event in the pieces in which it lies, at most @parts_max of them, in order and none empty:
 * the way to read a blob, and just as good for any other message. @parts may be NULL when @parts_max is 0.
 *
 * Returns the number of all pieces, which may be more than @parts_max; 0 for an empty message and for any other event.
 * Nothing is copied or allocated. Threads: the ring's consumer, while the event is lent; any thread, while a hold of it
 * is kept.
 */
WSR_API size_t wsr_event_view(const struct wsr_event *event, struct iovec *parts, size_t parts_max);

/* ---- Blobs ------------------------------------------------------------------------------------- */

/*
 * A blob is a message, or a range of one, that outlives its event: immutable, counted by references, in one or more
 * pieces that are never joined by copying. Making one copies no payload; it allocates a few words. What is kept of the
 * receive buffers does not return to the kernel, with the same bound as for holds. Every reference is to be released
 * before wsr_engine_destroy(). Functions without a word on threads may be called from any, also at the same time for
 * the same blob.
 */

/**
 * The payload of message @event, of either kind and either binaryType, as a blob with one reference, the caller's.
 * That of an event with WSR_ARRAYBUFFER is no longer to be written to.
 *
 * Returns the blob, of size 0 for an empty message; NULL for any other event, and without memory
 * (wsr_error_text() says which). Threads: as wsr_event_view().
 */
WSR_API WSR_MUST_USE struct wsr_blob *wsr_event_blob(const struct wsr_event *event);

/** Blob.size, in bytes. */
WSR_API uint64_t wsr_blob_size(const struct wsr_blob *blob);

/**
 * The pieces of @blob, at most @parts_max, in order and none empty. They are valid while a reference is kept. Returns
 * the number of all pieces; 0 for an empty blob.
 */
WSR_API size_t wsr_blob_view(const struct wsr_blob *blob, struct iovec *parts, size_t parts_max);

/**
 * Copy bytes of @blob from @from on to @out, at most @len. Returns the number copied, fewer than @len only at the
 * blob's end.
 */
WSR_API size_t wsr_blob_copy(const struct wsr_blob *blob, uint64_t from, void *out, size_t len);

/** Argument of wsr_blob_slice(): the blob's end. */
#define WSR_BLOB_END INT64_MAX

/**
 * Blob.slice(start, end): the bytes from @start up to @end as a blob that shares the memory. A negative number counts
 * from the end, and both are cut to the blob, as the File API says; a range turned round is empty.
 *
 * Returns a blob with one reference, the caller's; NULL without memory.
 */
WSR_API WSR_MUST_USE struct wsr_blob *wsr_blob_slice(const struct wsr_blob *blob, int64_t start, int64_t end);

/** One more reference. Returns @blob. */
WSR_API struct wsr_blob *wsr_blob_retain(struct wsr_blob *blob);

/** Give back one reference, with the last one the memory; NULL is allowed. */
WSR_API void wsr_blob_release(struct wsr_blob *blob);

/* ---- Engine ------------------------------------------------------------------------------------ */

enum wsr_wait {
    WSR_WAIT_DEFAULT = 0,    /* WSR_WAIT_BLOCK */
    WSR_WAIT_BLOCK = 1,      /* sleep in the kernel */
    WSR_WAIT_SPIN = 2,       /* never sleep: watch the completion queue in user space; up to 4 sockets of a worker are
                                received and sent by plain calls instead, which is faster for so few */
    WSR_WAIT_ADAPTIVE = 3    /* spin so for spin_ns, then sleep */
};

enum wsr_engine_flags {
    WSR_ENGINE_PIN = 1u << 0,             /* pin worker i to the i-th CPU of the process's affinity mask */
    WSR_ENGINE_ONE_CONNECTING = 1u << 1,  /* open one connection at a time to each IP address and port, from TCP's
                                             connect to the answer to the upgrade; see wsr_socket_open() */
    WSR_ENGINE_DIRECT_DESCRIPTORS = 1u << 2,  /* keep TCP sockets in a table of each worker's kernel ring, where they do
                                                 not count as open files: sockets_max then is at most the limit of open
                                                 files (RLIMIT_NOFILE) when the engine is made, but for each worker, and
                                                 not for all sockets and files of the process. Linux 6.13. Each needs a
                                                 plain descriptor for the moment in which it is made. */
    WSR_ENGINE_TLS_INSECURE = 1u << 3,        /* check no certificate: whoever is in between can read and change all;
                                                 shows in the statistics and in wsr_socket_tls() */
    WSR_ENGINE_TLS_NO_RESUMPTION = 1u << 4    /* make a full handshake for each connection, and keep no sessions */
};

/**
 * Who opens and seals TLS records after the handshake, which is always OpenSSL's. wsr_socket_tls() tells who does and
 * why.
 */
enum wsr_tls_records {
    WSR_TLS_AUTO = 0,        /* direct, or, where the cipher suite is none that it can carry, library */
    WSR_TLS_LIBRARY = 1,     /* OpenSSL, with an SSL object for each connection */
    WSR_TLS_KERNEL = 2,      /* the kernel (kTLS, module tls); a socket for which that is impossible fails. Such a
                                socket has no receive timestamps and no zero-copy sends, and before Linux 6.14 a
                                server's KeyUpdate ends it */
    WSR_TLS_DIRECT = 3       /* the engine, with the same keys and OpenSSL's ciphers, where the bytes lie; with a cipher
                                suite other than AES-GCM and ChaCha20-Poly1305 the library does */
};

enum wsr_tls_version {
    WSR_TLS_1_2 = 0x0303,
    WSR_TLS_1_3 = 0x0304
};

/**
 * Zero means default, fields are only appended, unknown flags are refused. The library copies the smaller of
 * the two sizes and requires any bytes that it does not know to be zero.
 */
struct wsr_engine_options {
    uint32_t size;                   /* set by WSR_ENGINE_OPTIONS_INIT */
    uint32_t flags;                  /* enum wsr_engine_flags */
    uint32_t workers_count;          /* 0 = inline: wsr_poll() runs the loop on the caller's thread; at most 256 */
    uint32_t sockets_max;            /* per worker; 0 = 65,536 */
    uint32_t events_count;           /* slots of each message ring, power of two from 8; 0 = 65,536 */
    uint32_t buffers_count;          /* receive buffers per worker, power of two from 2 to 32,768; 0 = 512 */
    uint32_t buffer_bytes;           /* of each, 256 to 1 MiB; 0 = 16 KiB */
    uint32_t wait;                   /* enum wsr_wait */
    uint64_t spin_ns;                /* WSR_WAIT_ADAPTIVE; 0 = 50 us */
    uint64_t message_max_bytes;      /* 0 = 128 MiB; a larger message fails the socket, 1009 */
    uint64_t send_queue_max_bytes;   /* per socket, payload; 0 = 64 MiB; over it wsr_send returns WSR_ERR_QUOTA */
    uint64_t send_pool_bytes;        /* per worker, address space of the send slabs; 0 = 1 GiB */
    uint64_t loan_max_bytes;         /* per worker, messages copied for a slow consumer; 0 = 256 MiB; over it
                                        receiving rests until the consumer has caught up */
    uint32_t fragments_max;          /* frames per message; 0 = 131,072; over it the socket fails, 1008 */
    uint32_t head_max_bytes;         /* HTTP answer; 0 = 64 KiB */
    uint64_t open_timeout_ns;        /* 0 = 30 s for look-up, TCP, proxy, TLS and upgrade together; or WSR_NEVER */
    uint64_t close_timeout_ns;       /* 0 = 30 s from wsr_close() to the server's Close; or WSR_NEVER */
    uint64_t fin_timeout_ns;         /* 0 = 2 s from both Close frames to the server's FIN; or WSR_NEVER */
    uint32_t batch_count;            /* throughput before latency: a sleep ends when so many completions are there, at
                                        most 256; 0 = 1. A wsr_send() of another thread is one of them. Not with
                                        WSR_WAIT_SPIN, which never sleeps */
    uint32_t napi_us;                /* before a sleep the kernel polls the NIC's queues for so many microseconds, at
                                        most 1,000,000 (NAPI busy poll, Linux 6.9); 0 = no. "napi" among the features
                                        of the statistics says that the kernel does */
    uint64_t batch_ns;               /* with batch_count: after this time one completion is enough, at most 1 s;
                                        0 = 50 us. One system call from Linux 6.12 on ("min_wait"), two before */
    /*
     * For wss. Files are read when the engine is made, all in PEM; NULL means none. Without ca_file and ca_directory
     * the system's authorities are trusted. The server's certificate is checked for its chain, its times, its purpose
     * and the URL's host.
     */
    uint32_t tls_records;            /* enum wsr_tls_records */
    uint16_t tls_version_min;        /* enum wsr_tls_version; 0 = TLS 1.2 */
    uint16_t tls_version_max;        /* 0 = TLS 1.3 */
    const char *tls_ca_file;         /* authorities to trust instead of the system's */
    const char *tls_ca_directory;    /* the same, one file each, named by openssl rehash; read when needed */
    const char *tls_crl_file;        /* lists of revoked certificates; then every certificate of a chain needs the list
                                        of its issuer */
    const char *tls_certificate_file;    /* the client's own, its chain behind it */
    const char *tls_key_file;        /* its key, not encrypted; NULL = it is in tls_certificate_file */
    const char *tls_ciphers;         /* of TLS 1.2, in OpenSSL's notation; NULL = OpenSSL's choice */
    const char *tls_ciphersuites;    /* of TLS 1.3, separated by colons; the same */
    const char *tls_key_log_file;    /* secrets of all connections are appended, as NSS and Wireshark know it: whoever
                                        reads it can read all */
    /* For permessage-deflate, where a socket and its server agree on it: see wsr_socket_options.deflate. */
    uint32_t deflate_level;          /* of zlib, 1 (fastest) to 9 (smallest); 0 = 6 */
    uint32_t deflate_min_bytes;      /* smaller messages are sent uncompressed; 0 = 1,024 where each message is
                                        compressed for itself, 64 where it may refer to those before; UINT32_MAX =
                                        nothing that is sent is compressed */
    uint64_t deflate_idle_ns;        /* a connection that has not used its streams for so long gives them back, but for
                                        the window that the server's next message may refer to; 0 = 30 s; or
                                        WSR_NEVER */
};
#define WSR_ENGINE_OPTIONS_INIT WSR_SIZED(wsr_engine_options)

/**
 * Make an engine and start its workers. @options may be NULL: an inline engine with the defaults.
 *
 * Returns 0 with *@engine set. WSR_ERR_ARGUMENT: an option is out of range. WSR_ERR_NOT_SUPPORTED: io_uring is
 * missing, forbidden or older than Linux 6.1, or than WSR_ENGINE_DIRECT_DESCRIPTORS needs; the text says which and what
 * to do. WSR_ERR_MEMORY, WSR_ERR_SYSTEM: the text names the call.
 *
 * Threads: any. The caller owns the engine and gives it to wsr_engine_destroy().
 */
WSR_API WSR_MUST_USE int wsr_engine_create(struct wsr_engine **engine, const struct wsr_engine_options *options);

/**
 * Stop every worker and free everything, sockets included; their pointers are void afterwards. Open connections
 * get a Close 1001 as far as the kernel takes it at once; nothing waits for a peer.
 *
 * Returns 0; WSR_ERR_BUSY inside a handler of this engine. NULL is allowed. Threads: one, with no other call on
 * this engine or its sockets in progress; for an inline engine the thread that polls it.
 */
WSR_API int wsr_engine_destroy(struct wsr_engine *engine);

/** Number of message rings: workers_count, or 1 when inline. Threads: any. */
WSR_API uint32_t wsr_engine_rings(const struct wsr_engine *engine);

/**
 * Take up to @events_max events of ring @ring, waiting up to @timeout_ns for the first (0 = do not wait,
 * WSR_NEVER = without end). Everything lent by the poll before goes back. An inline engine does its I/O here.
 *
 * One call never hands out two events of a socket between which its readyState changes; what you read from the
 * socket while working through the array is what each event saw. A wsr_close() made then does not take back
 * messages already in the array: use @events_max 1 or wsr_dispatch() where that matters.
 *
 * Returns the number of events, 0 when the time was over. WSR_ERR_ARGUMENT: no such ring, events_max 0.
 * WSR_ERR_BUSY: called inside a handler of the same ring. WSR_ERR_THREAD: an inline engine that another
 * thread has polled. WSR_ERR_SYSTEM: the kernel ring failed; the engine is to be destroyed.
 *
 * Threads: the ring's consumer. WHATWG HTML, event loops: taking an event is the task.
 */
WSR_API WSR_MUST_USE int wsr_poll(struct wsr_engine *engine, uint32_t ring, struct wsr_event *events,
                                  uint32_t events_max, uint64_t timeout_ns);

/**
 * Like wsr_poll, but each event is given to the handlers and listeners of its socket, one task each, in the same
 * order. Events that nobody listens to are dropped. A handler may send, close and destroy any socket.
 *
 * Returns the number of events dispatched, or the errors of wsr_poll. Threads: the ring's consumer.
 */
WSR_API int wsr_dispatch(struct wsr_engine *engine, uint32_t ring, uint32_t events_max, uint64_t timeout_ns);

/**
 * A descriptor that is readable when ring @ring may have events, for the application's own epoll loop: poll for
 * input, then call wsr_poll with timeout 0 until it returns 0. An inline engine needs wsr_poll also when
 * wsr_engine_timeout() is over, as its timers run there. The engine keeps the descriptor; do not read or close it.
 *
 * Returns the descriptor, WSR_ERR_ARGUMENT: no such ring, or WSR_ERR_SYSTEM. Threads: the ring's consumer.
 */
WSR_API int wsr_engine_fd(struct wsr_engine *engine, uint32_t ring);

/** Nanoseconds until an inline engine wants to be polled, WSR_NEVER for none or when there are workers. Threads:
 * the consumer. */
WSR_API uint64_t wsr_engine_timeout(const struct wsr_engine *engine);

/** Counted since wsr_engine_create(), over all workers. Each number is exact, all together are not one moment. */
struct wsr_engine_statistics {
    uint32_t size;                     /* set by WSR_ENGINE_STATISTICS_INIT */
    uint32_t workers_count;            /* 0 = inline */
    char driver[16];                   /* "io_uring" */
    char features[176];                /* what of the ladder runs, words separated by one space */
    char simd[16];                     /* "portable", "sse4.1", "avx2", ... */
    uint64_t sockets_opened;           /* reached OPEN */
    uint64_t sockets_failed;           /* ended without it */
    uint64_t sockets_live;             /* connections that exist now */
    uint64_t messages_received;        /* put into a message ring */
    uint64_t messages_received_bytes;  /* payload */
    uint64_t messages_sent;            /* put into a connection's send queue */
    uint64_t messages_sent_bytes;      /* payload */
    uint64_t wire_received_bytes;      /* taken from the kernel, handshakes and frame headers included */
    uint64_t wire_sent_bytes;          /* taken by the kernel, the same included */
    uint64_t messages_lent;            /* delivered without a copy, empty ones too */
    uint64_t messages_copied;          /* straddled buffers or fragments, or copied for a slow consumer */
    uint64_t buffers_count;            /* receive buffers of all workers */
    uint64_t buffers_lent;             /* out of the kernel's hands now */
    uint64_t loan_bytes;               /* memory of copied messages now */
    uint64_t buffers_exhausted;        /* times that a receive ended for want of a buffer (ENOBUFS) */
    uint64_t rests;                    /* times that receiving rested for the consumer */
    uint64_t sends;                    /* send operations */
    uint64_t short_sends;              /* of those, ended short */
    uint64_t turns;                    /* times that a worker took completions, also none */
    uint64_t completions;
    uint64_t pings_answered;           /* Pongs put into a send queue, but for those dropped again */
    uint64_t pings_dropped;            /* more than 64 unanswered: only the newest is answered (RFC 6455 5.5.3) */
    uint64_t tls_handshakes;           /* that ended well */
    uint64_t tls_resumed;              /* of those, of an earlier session */
    uint64_t tls_unverified;           /* of those, without a look at the certificate (WSR_ENGINE_TLS_INSECURE) */
    uint64_t tls_library;              /* of those, with records by the library, */
    uint64_t tls_kernel;               /* by the kernel, */
    uint64_t tls_direct;               /* by the engine */
    uint64_t tls_sessions;             /* that are kept now and could be resumed */
    uint64_t deflate_messages_sent;    /* that were compressed, */
    uint64_t deflate_sent_bytes;       /* their payload, */
    uint64_t deflate_sent_wire_bytes;  /* and what it became, without frame headers */
    uint64_t deflate_given_up;         /* sent uncompressed after trying: no smaller, or no memory */
    uint64_t deflate_messages_received;      /* the same of what servers compressed */
    uint64_t deflate_received_bytes;
    uint64_t deflate_received_wire_bytes;
    uint64_t deflate_memory_bytes;     /* of zlib's streams and of windows that are kept, now */
};
#define WSR_ENGINE_STATISTICS_INIT WSR_SIZED(wsr_engine_statistics)

/** Fill @out, as much of it as @out->size says. Returns 0 or WSR_ERR_ARGUMENT. Threads: any. */
WSR_API int wsr_engine_statistics(struct wsr_engine *engine, struct wsr_engine_statistics *out);

/* ---- Socket: MDN's WebSocket ------------------------------------------------------------------- */

/** One request header; the strings are copied. */
struct wsr_header {
    const char *name;
    const char *value;
};

#define WSR_ANY_WORKER 0u

enum wsr_socket_flags {
    WSR_SOCKET_KEEP_RESPONSE = 1u << 0,  /* keep the head of the server's answer for wsr_socket_response_header() */
    WSR_SOCKET_OWN_HOST = 1u << 1,       /* headers may have one Host, which is sent instead of the URL's host and port;
                                            two, an empty one, or one with a space, comma or control character are
                                            WSR_ERR_SYNTAX */
    WSR_SOCKET_REFUSE_BAD_PORTS = 1u << 2   /* like a browser, connect to no URL whose port is a bad one of the Fetch
                                               Standard: error and close 1006 follow; connect_to's port is any */
};

struct wsr_socket_options {
    uint32_t size;                      /* set by WSR_SOCKET_OPTIONS_INIT */
    uint32_t flags;                     /* enum wsr_socket_flags */
    uint32_t worker;                    /* the worker to own it, from 1; WSR_ANY_WORKER = the least loaded */
    uint32_t headers_count;
    const struct wsr_header *headers;   /* after the engine's own; Host, Upgrade, Connection, Content-Length,
                                           Transfer-Encoding and Sec-WebSocket-* are refused (WSR_ERR_SYNTAX), but
                                           for what WSR_SOCKET_OWN_HOST allows */
    const char *base_url;               /* for relative URLs; NULL = none, relative is WSR_ERR_SYNTAX */
    const char *connect_to;             /* "ADDRESS:PORT" or "[ADDRESS]:PORT" instead of looking up the URL's host,
                                           or a Unix stream socket: "unix:PATH" of at most 107 bytes, "unix:@NAME" in
                                           the abstract namespace; the request still names the URL's host */
    const char *source_address;         /* numeric address to connect from, not for a Unix socket; NULL = the
                                           kernel's choice */
    void *user;                         /* for wsr_socket_user() */
    /*
     * Proxy to go through; NULL = none, as environment variables are never read.
     *   "http://[USER[:PASSWORD]@]HOST:PORT"       HTTP CONNECT (RFC 9110 9.3.6), over TCP; the proxy looks the URL's
     *                                              host up. Credentials are sent at once, as Basic (RFC 7617).
     *   "socks5://[USER:PASSWORD@]HOST:PORT"       SOCKS5 (RFC 1928, RFC 1929); the URL's host is looked up here, and
     *                                              the first address found is what the proxy is asked for
     *   "socks5h://[USER:PASSWORD@]HOST:PORT"      SOCKS5; the proxy looks it up
     * User and password are percent-decoded. With a proxy, connect_to says what the proxy is asked for, and
     * source_address is for the connection to it. The request stays the URL's, and open_timeout_ns covers all.
     */
    const char *proxy;
    /*
     * Payload per frame of what is sent: a larger message leaves as several frames, between which control frames pass
     * (RFC 6455 5.4), so that a Pong need not wait for the end of a long one. After the server's Close the rest of a
     * message stays unsent from the next frame on. 0 = every message is one frame; more than 4,294,967,295 is as much.
     */
    uint64_t fragment_bytes;
    const char *tls_name;               /* wss: name for SNI and for the check of the certificate instead of the URL's
                                           host, a DNS name or a numeric address; NULL = the URL's host */
    /*
     * permessage-deflate (RFC 7692): the value of Sec-WebSocket-Extensions. NULL offers what browsers do,
     * "permessage-deflate; client_max_window_bits"; "" offers nothing. Else one or several offers, separated by commas,
     * of which the server may take one, the first it can: "permessage-deflate", each with any of
     *   "server_no_context_takeover"     the server compresses each message for itself: no window is kept for them
     *   "client_no_context_takeover"     messages sent are compressed each for itself: no stream is kept for them
     *   "server_max_window_bits=8..15"   the server's window: what is kept here for its messages
     *   "client_max_window_bits[=8..15]" the window for what is sent; without a number the server may choose one
     * With both contexts kept, and windows of 2^15 bytes, a connection that sends and receives takes about 300 KB.
     */
    const char *deflate;
};
#define WSR_SOCKET_OPTIONS_INIT WSR_SIZED(wsr_socket_options)

/**
 * new WebSocket(url, protocols): make a socket and start to connect. @url is UTF-8 of @url_len bytes (or
 * WSR_ZSTRING), ws:, wss:, http: or https:. @protocols may be NULL when @protocols_count is 0. @options may be NULL.
 * Everything is copied. Sockets to one address connect side by side, as a load generator must; this departs from
 * RFC 6455 4.1, step 2, which lets only one be connecting at a time. With WSR_ENGINE_ONE_CONNECTING the engine keeps
 * to it: the others wait in order of arrival, whichever worker they are on, while their open_timeout_ns runs. A host
 * with several addresses waits for each when it is tried, and no longer than that address's share of the time. Unix
 * sockets have no part in it; one whose server is behind with accepting is tried again until open_timeout_ns is over.
 *
 * Returns 0 with *@socket set; all that follows comes as events. WSR_ERR_SYNTAX: URL, protocol, header, base, proxy,
 * deflate; WSR_ERR_ARGUMENT: no such worker, bad connect_to, source_address or tls_name; WSR_ERR_MEMORY: sockets_max
 * reached.
 * After any of these there is no socket, no connection and no event.
 *
 * Threads: any. The caller owns the socket and gives it to wsr_socket_destroy(). WHATWG WebSockets, constructor.
 */
WSR_API WSR_MUST_USE int wsr_socket_open(struct wsr_engine *engine, const char *url, size_t url_len,
                                         const char *const *protocols, size_t protocols_count,
                                         const struct wsr_socket_options *options, struct wsr_socket **socket);

/**
 * Free the socket: no more events of it. CONNECTING is aborted; OPEN sends Close 1001 and finishes in the
 * background; a closing handshake under way finishes. NULL is allowed. Legal inside handlers, its own too.
 *
 * Threads: the consumer of the socket's ring, with no other call on this socket in progress or to come.
 */
WSR_API void wsr_socket_destroy(struct wsr_socket *socket);

/** readyState. Threads: any; changes only on the consumer's thread or by wsr_close(). */
WSR_API enum wsr_ready_state wsr_socket_ready_state(const struct wsr_socket *socket);
/** url: the serialised URL record, constant for the socket's life. Threads: any. */
WSR_API const char *wsr_socket_url(const struct wsr_socket *socket);
/** protocol: "" until the open event was taken, then the agreed subprotocol. Threads: the consumer. */
WSR_API const char *wsr_socket_protocol(const struct wsr_socket *socket);
/** extensions: "" until the open event was taken, then the header's value. Threads: the consumer. */
WSR_API const char *wsr_socket_extensions(const struct wsr_socket *socket);
/**
 * bufferedAmount: payload bytes accepted by wsr_send() and not yet by the kernel. It grows inside wsr_send() and
 * shrinks only between polls of the socket's ring (WHATWG WebSockets, bufferedAmount). Threads: any.
 */
WSR_API uint64_t wsr_socket_buffered_amount(const struct wsr_socket *socket);
/** The same number at this moment. Threads: any. */
WSR_API uint64_t wsr_socket_buffered_now(const struct wsr_socket *socket);
/** binaryType. Threads: the consumer. */
WSR_API enum wsr_binary_type wsr_socket_binary_type(const struct wsr_socket *socket);
/** Set binaryType; a value that is none is ignored, as by the browser. Threads: the consumer. */
WSR_API void wsr_socket_set_binary_type(struct wsr_socket *socket, enum wsr_binary_type type);
/** MessageEvent.origin: the URL's origin, as "ws://host:port". Threads: any. */
WSR_API const char *wsr_socket_origin(const struct wsr_socket *socket);
/**
 * Value of the @index-th (from 0) field @name of the server's answer to the upgrade, of *@len bytes, not
 * NUL-terminated; NULL when there is none. To be had with WSR_SOCKET_KEEP_RESPONSE, from the open or error event on,
 * also of an answer that refused. Names are compared without regard to ASCII case. Threads: the consumer.
 */
WSR_API const char *wsr_socket_response_header(const struct wsr_socket *socket, const char *name, size_t index,
                                               size_t *len);
/** The pointer of the options, or of wsr_socket_set_user(). Threads: the consumer. */
WSR_API void *wsr_socket_user(const struct wsr_socket *socket);
WSR_API void wsr_socket_set_user(struct wsr_socket *socket, void *user);
/** The ring whose consumer gets this socket's events. Threads: any. */
WSR_API uint32_t wsr_socket_ring(const struct wsr_socket *socket);

/**
 * Counted for one socket. Each number is exact, all together are not one moment; they hold at least what the events
 * taken so far tell of. A moment (_ns of last_ and opened) is 0 until it has come. A time that something took is 0
 * until it has ended well; it is in steps of 1,024 ns from 2.1 s on, and 36 minutes are the longest that is told.
 */
struct wsr_socket_statistics {
    uint32_t size;                       /* set by WSR_SOCKET_STATISTICS_INIT */
    uint32_t addresses_tried;            /* connects begun: to each address, to a Unix socket also again and again */
    uint64_t messages_received;          /* put into the message ring, whether or not their events were taken; those
                                            that come after wsr_close() are read over and do not count */
    uint64_t messages_received_bytes;    /* payload */
    uint64_t messages_lent;              /* delivered without a copy, empty ones too */
    uint64_t messages_copied;            /* the others: straddled buffers or fragments, or for a slow consumer */
    uint64_t messages_sent;              /* accepted by wsr_send and put into the send queue, a moment after the call;
                                            it takes none once the connection is closing */
    uint64_t messages_sent_bytes;        /* payload */
    uint64_t messages_sent_kernel_bytes; /* of it, accepted by the kernel */
    uint64_t wire_received_bytes;        /* taken from the kernel: handshake, frame headers, all */
    uint64_t wire_sent_bytes;            /* accepted by the kernel, the same */
    uint64_t pings_answered;             /* Pongs put into the send queue, but for those dropped again */
    uint64_t pings_dropped;              /* more than 64 unanswered: only the newest is answered (RFC 6455 5.5.3) */
    uint64_t pings_sent;                 /* of wsr_ping, put into the send queue */
    uint64_t pongs_received;             /* those that answer no Ping too */
    uint64_t rests;                      /* times that receiving rested for the consumer; this and the four numbers
                                            above stay at 4,294,967,295 when they get there */
    uint64_t rtt_ns;                     /* the last round trip of a wsr_ping without a payload of the caller's */
    uint64_t lookup_ns;                  /* name look-up; 0 also when there was nothing to look up. This and the other
                                            phases of the opening are at least 1 when they took place: the clock is
                                            read once a turn of the worker, and one may begin and end within a turn */
    uint64_t connect_ns;                 /* TCP: from there, over all addresses tried and waits before them; and the way
                                            through the proxy */
    uint64_t upgrade_ns;                 /* from there to the server's 101 */
    uint64_t opened_ns;                  /* moment of the 101: received_ns of the open event */
    uint64_t last_received_ns;           /* moment of the last byte from the kernel, whatever it belongs to */
    uint64_t last_message_ns;            /* moment of the last message: received_ns of its event */
    uint64_t tls_ns;                     /* TLS handshake: from TCP, and the tunnel, to its end */
};
#define WSR_SOCKET_STATISTICS_INIT WSR_SIZED(wsr_socket_statistics)

/**
 * Fill @out, as much of it as @out->size says; in every state, also when closed, until the socket is destroyed.
 * Returns 0 or WSR_ERR_ARGUMENT. Threads: any.
 */
WSR_API int wsr_socket_statistics(const struct wsr_socket *socket, struct wsr_socket_statistics *out);

/** What TLS has agreed on for one socket. */
struct wsr_socket_tls {
    uint32_t size;                       /* set by WSR_SOCKET_TLS_INIT */
    uint16_t version;                    /* enum wsr_tls_version; 0: no TLS, or its handshake has not ended (well) */
    uint8_t records;                     /* enum wsr_tls_records: who opens and seals them; never WSR_TLS_AUTO, but
                                            without TLS */
    uint8_t was_resumed;                 /* 1: of an earlier session */
    uint8_t is_verified;                 /* 1: the certificate was checked */
    uint8_t reserved[7];
    const char *cipher;                  /* static: the suite's name, as "TLS_AES_128_GCM_SHA256"; "" without TLS */
    const char *why;                     /* static: why these records */
};
#define WSR_SOCKET_TLS_INIT WSR_SIZED(wsr_socket_tls)

/** Fill @out, as much of it as @out->size says. Returns 0 or WSR_ERR_ARGUMENT. Threads: any. */
WSR_API int wsr_socket_tls(const struct wsr_socket *socket, struct wsr_socket_tls *out);

/**
 * Queue one message. @data is copied before the call returns; @len is in bytes, 0 is allowed.
 *
 * Returns 0 when queued, and when the socket is closing or closed (nothing is sent, bufferedAmount grows).
 * WSR_ERR_INVALID_STATE: still connecting. WSR_ERR_QUOTA: over the queue's cap, or no slab is free; nothing was
 * queued and a writable event follows. WSR_ERR_INVALID_UTF8: text that is not UTF-8. WSR_ERR_ARGUMENT: unknown
 * kind, NULL with a length, a message that could never fit the cap.
 *
 * Threads: any; messages of one thread keep their order. Never blocks or allocates.
 * Where permessage-deflate was agreed on, the worker compresses the message unless its kind says _UNCOMPRESSED.
 * WHATWG WebSockets, send(); RFC 6455 5.6 (data frames), 8.1 (text is UTF-8).
 */
WSR_API WSR_MUST_USE int wsr_send(struct wsr_socket *socket, enum wsr_kind kind, const void *data, size_t len);

/** wsr_send of one message that lies in @parts_count pieces; the same returns and threads. */
WSR_API WSR_MUST_USE int wsr_send_gather(struct wsr_socket *socket, enum wsr_kind kind, const struct iovec *parts,
                                         size_t parts_count);

/**
 * A message that is to be sent again and again, to any sockets of any engine: what every wsr_send() of it would do
 * anew, above all checking that text is UTF-8, is done here once. @data is copied and may go; 0 bytes are allowed.
 *
 * Returns 0 with *@prepared, which the caller owns and gives to wsr_template_free(). WSR_ERR_INVALID_UTF8: text that is
 * not UTF-8. WSR_ERR_ARGUMENT: unknown kind, NULL with a length, nowhere to put it. WSR_ERR_MEMORY. After an error
 * *@prepared is as it was. Threads: any.
 */
WSR_API WSR_MUST_USE int wsr_template_create(struct wsr_template **prepared, enum wsr_kind kind, const void *data,
                                             size_t len);

/** Free it; what was sent is on its way. NULL is allowed. Threads: one, while no other sends it. */
WSR_API void wsr_template_free(struct wsr_template *prepared);

/**
 * wsr_send of a prepared message; the same returns but WSR_ERR_INVALID_UTF8, and the same threads. Each sending has a
 * fresh masking key (RFC 6455 5.3).
 */
WSR_API WSR_MUST_USE int wsr_send_template(struct wsr_socket *socket, const struct wsr_template *prepared);

/**
 * wsr_send of the bytes of @blob, as text or binary; the same returns and threads. They are copied once, masked on the
 * way, as those of any message: never joined first. The reference stays the caller's; the blob may come from another
 * engine. WHATWG WebSockets, send(Blob).
 */
WSR_API WSR_MUST_USE int wsr_send_blob(struct wsr_socket *socket, enum wsr_kind kind, const struct wsr_blob *blob);

/**
 * close(code, reason): start the closing handshake; the Close frame follows everything sent before. @code 0 means
 * none. @reason is UTF-8 of @reason_len bytes (or WSR_ZSTRING), NULL for none; with a reason and no code, 1000 is sent.
 *
 * Returns 0, also when already closing or closed. WSR_ERR_INVALID_ACCESS: a code that is neither 1000 nor 3000 to
 * 4999. WSR_ERR_SYNTAX: a reason of more than 123 bytes, or not UTF-8. WSR_ERR_MEMORY. WSR_ERR_ARGUMENT: NULL for the
 * socket. A refused call changed nothing.
 *
 * Threads: any. WHATWG WebSockets, close().
 */
WSR_API int wsr_close(struct wsr_socket *socket, int code, const char *reason, size_t reason_len);

/**
 * Send a Ping (RFC 6455 5.5.2), past all messages that have not begun to leave. @data of at most 125 bytes is copied;
 * NULL asks for a payload of the engine's own, which makes the round trip known in the pong event. Servers may answer
 * only the newest of several Pings.
 *
 * Returns 0, also when closing or closed (nothing is sent). WSR_ERR_INVALID_STATE: still connecting. WSR_ERR_ARGUMENT:
 * over 125 bytes. WSR_ERR_MEMORY.
 *
 * Threads: any. Never blocks.
 */
WSR_API WSR_MUST_USE int wsr_ping(struct wsr_socket *socket, const void *data, size_t len);

/**
 * Stop reading from the server, so that TCP holds it back; messages that were received already still come. While
 * paused, Pings are not answered and the server's Close is not seen; wsr_close() ends the pause. No effect when
 * closing or closed. Returns 0, WSR_ERR_MEMORY, or WSR_ERR_ARGUMENT for NULL. Threads: any.
 */
WSR_API int wsr_pause(struct wsr_socket *socket);
/** Go on reading. Returns 0, WSR_ERR_MEMORY, or WSR_ERR_ARGUMENT for NULL. Threads: any. */
WSR_API int wsr_resume(struct wsr_socket *socket);

/** Called for one event; @event and what it points to are valid during the call. */
typedef void (*wsr_handler)(const struct wsr_event *event, void *context);

/**
 * The on* slot of an event type: onopen, onmessage, onerror, onclose (and writable). NULL empties it. The slot
 * keeps the place in the order of listeners where it was first filled (WHATWG HTML, event handlers).
 *
 * Returns 0, WSR_ERR_ARGUMENT for an unknown type, WSR_ERR_MEMORY. Threads: the consumer.
 */
WSR_API int wsr_set_on(struct wsr_socket *socket, enum wsr_event_type type, wsr_handler handler, void *context);
/** The handler in the slot, NULL when empty. Threads: the consumer. */
WSR_API wsr_handler wsr_get_on(const struct wsr_socket *socket, enum wsr_event_type type);

enum wsr_listener_flags {
    WSR_LISTENER_ONCE = 1u << 0   /* removed before its first call */
};

/**
 * addEventListener: call @handler after those added before. The same type, handler and context twice is once. One
 * that is added inside a handler of an event does not see that event (DOM, inner invoke).
 *
 * Returns 0, WSR_ERR_ARGUMENT, WSR_ERR_MEMORY. Threads: the consumer.
 */
WSR_API int wsr_add_event_listener(struct wsr_socket *socket, enum wsr_event_type type, wsr_handler handler,
                                   void *context, uint32_t flags);
/** removeEventListener: one that is not there is ignored. Returns 0 or WSR_ERR_ARGUMENT. Threads: the consumer. */
WSR_API int wsr_remove_event_listener(struct wsr_socket *socket, enum wsr_event_type type, wsr_handler handler,
                                      void *context);

/* ---- Diagnosis --------------------------------------------------------------------------------- */

/** What this machine offers, for `wsring doctor` and for bug reports. */
struct wsr_diagnosis {
    uint32_t size;               /* set by WSR_DIAGNOSIS_INIT */
    int32_t io_uring;            /* 1 usable, 0 not */
    char kernel[65];             /* uname release */
    char io_uring_text[256];     /* why not and what to do; "" when usable */
    char features[176];          /* the ladder, as in the statistics */
    char missing[176];           /* steps of the ladder that this kernel lacks */
    char simd[16];
    int32_t ktls;                /* 1: the kernel can carry TLS records, 0 not */
    char ktls_text[256];         /* why not and what to do; "" when it can */
    char tls_library[64];        /* the name that OpenSSL gives itself */
};
#define WSR_DIAGNOSIS_INIT WSR_SIZED(wsr_diagnosis)

/** Probe the kernel and the CPU. Returns 0 or WSR_ERR_ARGUMENT. Threads: any; makes and closes kernel rings. */
WSR_API int wsr_diagnose(struct wsr_diagnosis *out);

#ifdef __cplusplus
}
#endif

#endif
