/* What the clients of the comparison share: the command line, the slice that is measured, the look at each message, and
 * the line of JSON at the end. The library under test is each client's own business. Also for C++. */
#ifndef WSR_PEERS_WORK_H
#define WSR_PEERS_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum wsr_work_kind {
    WSR_WORK_ROUNDTRIP,   /* send one message, await the answer, again */
    WSR_WORK_INGEST,      /* take what the server sprays */
    WSR_WORK_ECHO,        /* in_flight messages on every connection; each echo is answered with the next */
    WSR_WORK_MEMORY       /* open connections and look at the memory */
};

#define WSR_WORK_NUMBERS 32u          /* WSR_PEER_NUMBERS of the server */
#define WSR_WORK_MESSAGES_PER_CLOCK 16u
#define WSR_WORK_SIZE_MAX 4096u

struct wsr_work {
    enum wsr_work_kind kind;
    const char *host;
    uint16_t port;
    const char *ca_file;              /* TLS: the certificate of the server is to be checked against it; NULL = none */
    uint32_t connections_count;
    uint32_t size_bytes;
    uint32_t in_flight;
    uint64_t warmup_ns, duration_ns;
    /* Under way. */
    uint64_t messages;                /* received so far */
    uint64_t messages_before;         /* the slice */
    uint64_t warm_ns, end_ns;
    uint64_t begin_ns, begin_cpu_ns;  /* of the slice */
    bool measures;
    uint32_t *samples;                /* ROUNDTRIP: nanoseconds */
    uint32_t samples_count;
    uint64_t memory_before_bytes;
    uint32_t memory_before_count;
};

/* Read the command line. Ends the process with status 2 when it is wrong. */
void wsr_work_read(struct wsr_work *work, int argc, char **argv);

uint64_t wsr_work_now(void);

/* All connections are open: the warm-up begins. */
void wsr_work_begin(struct wsr_work *work);

/* Looks at the clock. Returns whether to go on. */
bool wsr_work_goes_on(struct wsr_work *work);

/* One more message is here. Looks at the clock now and then; returns whether to go on. */
static inline bool wsr_work_count(struct wsr_work *work)
{
    return ++work->messages % WSR_WORK_MESSAGES_PER_CLOCK != 0 || wsr_work_goes_on(work);
}

/* ROUNDTRIP: a message left at @then_ns, its answer is here at @now_ns. Returns whether to go on. */
bool wsr_work_note_trip(struct wsr_work *work, uint64_t then_ns, uint64_t now_ns);

/* INGEST, ECHO: whether this is the message after those that *seen counts on this connection. */
static inline bool wsr_work_is_next(const struct wsr_work *work, const void *data, size_t len, uint32_t *seen)
{
    const uint8_t *bytes = (const uint8_t *)data;
    return len == work->size_bytes && bytes[len - 1] == (*seen)++ % WSR_WORK_NUMBERS;
}

/* ECHO: the message after those that *sent counts, to be copied into @payload of size_bytes. */
static inline void wsr_work_number(const struct wsr_work *work, uint8_t *payload, uint32_t *sent)
{
    payload[work->size_bytes - 1] = (uint8_t)((*sent)++ % WSR_WORK_NUMBERS);
}

/* ROUNDTRIP: whether this is what the server answers. */
static inline bool wsr_work_is_pong(const struct wsr_work *work, const void *data, size_t len)
{
    return len == work->size_bytes && ((const uint8_t *)data)[len - 1] == 'x';
}

/* Connections that are open when the memory is looked at first. The second look is at the end. */
uint32_t wsr_work_few(const struct wsr_work *work);
void wsr_work_look_at_memory(struct wsr_work *work);

/* Print what was measured, and end the process. @library: name and version; @way: how it was used. */
void wsr_work_end(struct wsr_work *work, const char *library, const char *way) __attribute__((noreturn));
/* Say why not, and end the process. */
void wsr_work_fail(const char *what, const char *why) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif

#endif
