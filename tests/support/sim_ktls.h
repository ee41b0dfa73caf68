/* TLS records in the simulated kernel, written apart from the engine so that the two check each other: what a socket
 * option sets, what arrives and what leaves. For sim.c. */
#ifndef SIM_KTLS_H
#define SIM_KTLS_H

#include "tests/support/sim_peer.h"

#define SIM_TLS_DATA 23        /* ContentType application_data */

struct sim_ktls_key {
    bool is_set;
    uint16_t version, cipher;
    uint8_t key[32];
    size_t key_bytes;
    uint8_t iv[12];            /* salt and iv */
    uint64_t sequence;
    uint8_t explicit_nonce[8]; /* TLS 1.2 with AES-GCM: of the next record that is sent */
};

struct sim_ktls {
    bool is_attached;
    bool renews;               /* keys may be set again, as in Linux 6.14 */
    bool must_renew;           /* a KeyUpdate came, and this kernel knows what that is */
    bool is_broken;            /* nothing is opened any more */
    bool is_dead;              /* nothing is sealed either */
    int error;                 /* met behind data that was received: told next */
    struct sim_ktls_key out, in;
    struct sim_buffer raw;     /* received, not opened */
    struct sim_buffer content; /* of the record that was opened last */
    size_t content_taken;
    uint8_t type;              /* of it; 0 = there is none */
    struct sim_buffer sealed;  /* of the last send */
};

void sim_ktls_free(struct sim_ktls *ktls);

/* setsockopt() on a connected socket. A line is added to @log. Returns 0 or -errno. */
int sim_ktls_set(struct sim_ktls *ktls, int level, int name, const void *value, socklen_t bytes,
                 struct sim_buffer *log);

/* With the next @arrived bytes of @peer: content of a record that can be received, at *from and of *type, which for
 * other than data may be empty. Returns its bytes; 0 with type SIM_TLS_DATA when there is nothing; or -errno. */
ssize_t sim_ktls_look(struct sim_ktls *ktls, struct sim_peer *peer, size_t arrived, const uint8_t **from,
                      uint8_t *type);
/* @len bytes were received, with keys or without. */
void sim_ktls_take(struct sim_ktls *ktls, struct sim_peer *peer, size_t len);

/* Take data of further records that have arrived as a whole, up to @room bytes. Returns how many. */
size_t sim_ktls_more(struct sim_ktls *ktls, uint8_t *to, size_t room);

/* The client has sent: to @peer, or into as many records as it takes. */
void sim_ktls_send(struct sim_ktls *ktls, struct sim_peer *peer, uint8_t type, const uint8_t *data, size_t len);
/* One record, which may be empty, behind what was sealed before. */
void sim_ktls_seal(struct sim_ktls *ktls, uint8_t type, const uint8_t *data, size_t len);

/* The type that a message to be sent names, else data; 0 when its control data is not understood. */
uint8_t sim_ktls_type_said(const struct msghdr *message);
/* Write the type of a received record into @message, as far as there is room. */
void sim_ktls_tell_type(struct msghdr *message, uint8_t type, bool is_whole);

#endif
