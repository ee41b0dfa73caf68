/* The servers of the micro-benchmarks: forked children with a CPU of their own, the same for the engine and its
 * references. */
#ifndef WSR_MICRO_PEER_H
#define WSR_MICRO_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define WSR_PEER_NUMBERS 32u

enum wsr_peer_kind {
    WSR_PEER_PONG,      /* for up_bytes that come, one binary frame of payload_bytes goes; spins */
    WSR_PEER_SPRAY,     /* sends unmasked frames of payload_bytes as fast as it can */
    WSR_PEER_ECHO,      /* unmasks what comes and sends it back, compressed if it came so */
    WSR_PEER_SINK       /* takes what comes, and nothing more; not with TLS */
};

struct wsr_peer_options {
    enum wsr_peer_kind kind;
    uint32_t connections_count;     /* serves when so many are open, until all have ended; then waits for as many */
    uint32_t payload_bytes;
    uint32_t up_bytes;              /* PONG */
    bool text;                      /* SPRAY: frames are text */
    bool numbered;                  /* SPRAY: the last byte of each payload counts the connection's messages, modulo
                                       WSR_PEER_NUMBERS */
    bool is_tls;                    /* TLS 1.3 with AES-128-GCM, see bare_tls.h */
    const char *extensions;         /* value of Sec-WebSocket-Extensions in the answer; NULL = none. Not with TLS */
    const uint8_t *frames;          /* SPRAY to one connection: these bytes again and again, NULL = frames of its own */
    size_t frames_bytes;
    uint32_t record_bytes;          /* SPRAY with TLS: plain bytes of each record; the frames' own ends do not matter */
};

struct wsr_peer {
    pid_t pid;
    uint16_t port;
    clockid_t clock;                /* CPU time of the process */
};

/* The first and the second CPU that this process may use: the client's and the server's. The second is the first when
 * there is but one. */
void wsr_peer_cpus(int *client, int *server);
/* Run the calling thread on @cpu alone. */
void wsr_peer_pin(int cpu);

/* Fork the server. Returns 0, or -1 after it has said on stderr why not. */
int wsr_peer_start(struct wsr_peer *peer, const struct wsr_peer_options *options);
void wsr_peer_stop(struct wsr_peer *peer);

/* The parts of it, for a server that is a program of its own. */
/* Listen on a free port of 127.0.0.1. Returns the descriptor, which blocks; or -1, having said on stderr why not. */
int wsr_peer_listen(uint16_t *port);
/* Accept and answer handshakes until @count connections are open; one that fails is closed and not counted. The answers
 * agree to @extensions, NULL = none. Returns 0,
 * or -1 after it has said on stderr why not. */
int wsr_peer_gather(int listener, int *fds, uint32_t count, const char *extensions);
/* Accept one connection, however long that takes. Returns it, or -1 after it has said on stderr why not. */
int wsr_peer_accept(int listener);
/* The answer to an upgrade. Returns its bytes, or 0 when @request, which is whole, is none. */
#define WSR_PEER_ANSWER_CHARS 512
int wsr_peer_answer(char answer[WSR_PEER_ANSWER_CHARS], const char *request, const char *extensions);

/* Bytes of an unmasked frame, as the servers send it. */
uint32_t wsr_peer_frame_bytes(uint32_t payload_bytes);

#endif
