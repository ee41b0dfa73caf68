/* The same records for OpenSSL (3.0, which engine/tls_direct follows) and for it, both behind the same handshake: they
 * must say the same, hear the same and end in the same way, alert for alert and, but for random nonces, byte for byte.
 *
 * Input: version, cipher and role, then a script of what the other end sends and what this one does; see enum op.
 * Where OpenSSL differs on purpose of one of us is written at must_say_the_same(), may_speak() and settle_update().
 * SPDX-License-Identifier: MIT */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "engine/tls_direct.h"
#include "tests/support/tls_craft.h"

#define SCRIPT_MAX 4096u
#define WIRE_MAX 70000u
#define PLAIN_MAX 16384u
#define SAID_MAX 64u                 /* records that one step may lead to, and some */

enum op {
    OP_DATA,                         /* length (2), padding (1) */
    OP_HANDSHAKE,                    /* length (1), that many bytes */
    OP_ALERT,                        /* level, description */
    OP_UPDATE,                       /* KeyUpdate: what it asks for */
    OP_TICKET,                       /* length of the ticket (2), of its extensions (1), that many bytes */
    OP_OTHER,                        /* type, length (1), that many bytes */
    OP_ZEROS,                        /* length (2): nothing but padding */
    OP_LONG,                         /* type, length beyond 16,370 (2) */
    OP_RAW,                          /* length (1), that many bytes, not sealed */
    OP_TAMPER,                       /* the next record: place (2), bits to change */
    OP_HEADER,                       /* the next record: header (3 of type and version) */
    OP_LENGTH,                       /* the next record: length in the header (2) */
    OP_SPLIT,                        /* the next messages: length of each record of them (1) */
    OP_TEAR,                         /* the next record comes in two pieces: bytes of the first (1) */
    OP_REPEAT,                       /* the next one so often (1) */
    OP_WRITE,                        /* this end writes: length (2) */
    OP_CLOSE,                        /* this end sends close_notify */
    OPS
};

enum end { END_NONE, END_CLOSED, END_FAILED };

/* A record that one of them sent, opened. */
struct said {
    uint8_t type;
    size_t len;
    uint8_t content[PLAIN_MAX];
};

/* One of the two that are compared. */
struct side {
    struct wsr_tls_key reader;       /* opens what it sends */
    uint8_t *heard;                  /* data of this step */
    size_t heard_len;
    uint8_t *sent;                   /* wire bytes of this step */
    size_t sent_len;
    enum end end;
    unsigned alert;                  /* with END_FAILED: that was sent or received; 0 = none */
    unsigned tickets;
};

struct run {
    const uint8_t *script;
    size_t script_len;
    const struct wsr_tls_suite *suite;
    bool is_server;                  /* of those who are compared */
    struct wsr_tls_key writer;       /* seals what they hear */
    SSL *ssl;
    struct wsr_tls_direct direct;
    struct side openssl, ours;
    size_t wire_len;                 /* of what has come to us and is no whole record yet */
    bool is_loose;                   /* OpenSSL has sent more records: sequences differ from now on */
    bool has_closed;
    /* What the next record has to bear. */
    const uint8_t *header, *length, *tamper;
    size_t split, tear;
};

static struct run run;
static struct wsr_tls_shared shared;
static uint8_t pattern[PLAIN_MAX + 1024];
static uint8_t wire[WIRE_MAX];
static uint8_t heard[2][2 * WIRE_MAX], sent[2][2 * WIRE_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* ---- OpenSSL's memory: not what is tested here, and with a sanitizer's malloc it took half of the time ---- */

#define BLOCK_BITS_MAX 24u
#define ARENA_BYTES (UINT64_C(1) << 28)

/* Before each block; a free one is in the list of its size. */
struct block {
    struct block *next;
    size_t bits;                     /* its size is 2^bits, this included */
};

static struct block *free_blocks[BLOCK_BITS_MAX + 1];

static void *arena_malloc(size_t bytes, const char *file, int line)
{
    static uint8_t *arena;
    static size_t used;
    size_t bits = 5;
    (void)file;
    (void)line;
    if (bytes == 0)
        return NULL;
    while ((UINT64_C(1) << bits) < bytes + sizeof(struct block))
        bits++;
    must(bits <= BLOCK_BITS_MAX);
    struct block *block = free_blocks[bits];
    if (block != NULL) {
        free_blocks[bits] = block->next;
        return block + 1;
    }
    if (arena == NULL)
        arena = malloc(ARENA_BYTES);
    must(arena != NULL && used + (UINT64_C(1) << bits) <= ARENA_BYTES);
    block = (void *)(arena + used);
    used += UINT64_C(1) << bits;
    block->bits = bits;
    return block + 1;
}

static void arena_free(void *address, const char *file, int line)
{
    (void)file;
    (void)line;
    if (address == NULL)
        return;
    struct block *block = (struct block *)address - 1;
    block->next = free_blocks[block->bits];
    free_blocks[block->bits] = block;
}

static void *arena_realloc(void *address, size_t bytes, const char *file, int line)
{
    size_t room = address == NULL ? 0 : (UINT64_C(1) << ((struct block *)address - 1)->bits) - sizeof(struct block);
    if (address != NULL && bytes > 0 && bytes <= room)
        return address;
    void *larger = arena_malloc(bytes, file, line);
    if (larger != NULL && room > 0)
        memcpy(larger, address, room);
    arena_free(address, file, line);
    return larger;
}

/* ---- The handshake: with a key that both know, so that it is cheap ---- */

static const uint8_t shared_key[48] = "a key that was agreed upon before the handshake";
static uint8_t secrets[2][WSR_TLS_SECRET_MAX];      /* of the client and of the server */
static SSL_CTX *contexts[2];                        /* of the client and of the server */

/* The suites, and for TLS 1.2 those of OpenSSL that have the same records and no certificates. */
static const struct { uint16_t version, number; const char *name; } suites[] = {
    { WSR_TLS_1_3, 0x1301, "TLS_AES_128_GCM_SHA256" },
    { WSR_TLS_1_3, 0x1302, "TLS_AES_256_GCM_SHA384" },
    { WSR_TLS_1_3, 0x1303, "TLS_CHACHA20_POLY1305_SHA256" },
    { WSR_TLS_1_2, 0xC02F, "PSK-AES128-GCM-SHA256" },
    { WSR_TLS_1_2, 0xC030, "PSK-AES256-GCM-SHA384" },
    { WSR_TLS_1_2, 0xCCA8, "PSK-CHACHA20-POLY1305" },
};
#define SUITES (sizeof suites / sizeof *suites)

static void on_key_log(const SSL *ssl, const char *line)
{
    long len = 0;
    bool is_server = strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0;
    if (!is_server && strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) != 0)
        return;
    unsigned char *secret = OPENSSL_hexstr2buf(strrchr(line, ' ') + 1, &len);
    must(secret != NULL && len <= (long)sizeof secrets[0] && ssl != NULL);
    memcpy(secrets[is_server], secret, (size_t)len);
    OPENSSL_free(secret);
}

static SSL_SESSION *make_session(SSL *ssl)
{
    SSL_SESSION *session = SSL_SESSION_new();
    uint8_t number[2];
    wsr_store_be16(number, run.suite->number);
    must(session != NULL && SSL_SESSION_set1_master_key(session, shared_key, run.suite->secret_bytes) == 1 &&
         SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, number)) == 1 &&
         SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1);
    return session;
}

static int on_use_session(SSL *ssl, const EVP_MD *hash, const unsigned char **id, size_t *id_len, SSL_SESSION **session)
{
    (void)hash;
    *id = (const unsigned char *)"k";
    *id_len = 1;
    *session = run.suite->version == WSR_TLS_1_3 ? make_session(ssl) : NULL;
    return 1;
}

static int on_find_session(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **session)
{
    (void)id;
    *session = id_len == 1 ? make_session(ssl) : NULL;
    return 1;
}

static unsigned on_client_key(SSL *ssl, const char *hint, char *id, unsigned id_room, unsigned char *key, unsigned room)
{
    (void)ssl;
    (void)hint;
    must(id_room >= 2 && room >= sizeof shared_key);
    memcpy(id, "k", 2);
    memcpy(key, shared_key, sizeof shared_key);
    return sizeof shared_key;
}

static unsigned on_server_key(SSL *ssl, const char *id, unsigned char *key, unsigned room)
{
    (void)ssl;
    (void)id;
    must(room >= sizeof shared_key);
    memcpy(key, shared_key, sizeof shared_key);
    return sizeof shared_key;
}

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    (void)session;
    if (ssl == run.ssl)
        run.openssl.tickets++;
    return 0;
}

/* What OpenSSL received and sent; the last one counts. */
static void on_info(const SSL *ssl, int where, int value)
{
    if (ssl == run.ssl && (where & SSL_CB_ALERT) != 0)
        run.openssl.alert = (unsigned)value & 255;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    must(CRYPTO_set_mem_functions(arena_malloc, arena_realloc, arena_free) == 1);
    for (unsigned i = 0; i < 2; i++) {
        contexts[i] = SSL_CTX_new(i == 0 ? TLS_client_method() : TLS_server_method());
        must(contexts[i] != NULL && SSL_CTX_set_cipher_list(contexts[i], "PSK+AESGCM:PSK+CHACHA20") == 1);
        must(SSL_CTX_set1_groups_list(contexts[i], "X25519") == 1);
        SSL_CTX_set_options(contexts[i], SSL_OP_NO_RENEGOTIATION | SSL_OP_ALLOW_NO_DHE_KEX | SSL_OP_NO_TICKET);
        SSL_CTX_set_session_cache_mode(contexts[i], (i == 0 ? SSL_SESS_CACHE_CLIENT : SSL_SESS_CACHE_OFF) |
                                                    SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(contexts[i], on_new_session);
        SSL_CTX_set_info_callback(contexts[i], on_info);
    }
    SSL_CTX_set_keylog_callback(contexts[0], on_key_log);
    SSL_CTX_set_psk_use_session_callback(contexts[0], on_use_session);
    SSL_CTX_set_psk_find_session_callback(contexts[1], on_find_session);
    SSL_CTX_set_psk_client_callback(contexts[0], on_client_key);
    SSL_CTX_set_psk_server_callback(contexts[1], on_server_key);
    must(SSL_CTX_set_num_tickets(contexts[1], 0) == 1);
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(i * 11 + i / 256);
    return 0;
}

static SSL *make_ssl(bool is_server, size_t suite)
{
    SSL *ssl = SSL_new(contexts[is_server]);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    must(ssl != NULL && in != NULL && out != NULL);
    SSL_set_bio(ssl, in, out);
    must(SSL_set_min_proto_version(ssl, run.suite->version) == 1);
    must(SSL_set_max_proto_version(ssl, run.suite->version) == 1);
    if (run.suite->version == WSR_TLS_1_3)
        must(SSL_set_ciphersuites(ssl, suites[suite].name) == 1);
    else
        must(SSL_set_cipher_list(ssl, suites[suite].name) == 1);
    (is_server ? SSL_set_accept_state : SSL_set_connect_state)(ssl);
    return ssl;
}

static void carry(SSL *from, SSL *to)
{
    uint8_t bytes[4096];
    int len;
    while ((len = BIO_read(SSL_get_wbio(from), bytes, sizeof bytes)) > 0)
        must(BIO_write(SSL_get_rbio(to), bytes, len) == len);
}

static void take_keys(const SSL *ssl)
{
    uint8_t master[WSR_TLS_MASTER_BYTES], client_random[WSR_TLS_RANDOM_BYTES], server_random[WSR_TLS_RANDOM_BYTES];
    struct wsr_tls_key client, server;
    if (run.suite->version == WSR_TLS_1_3) {
        must(wsr_tls_key_from_secret(&client, run.suite, secrets[0]) == 0);
        must(wsr_tls_key_from_secret(&server, run.suite, secrets[1]) == 0);
    } else {
        must(SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof master) == sizeof master);
        must(SSL_get_client_random(ssl, client_random, sizeof client_random) == sizeof client_random);
        must(SSL_get_server_random(ssl, server_random, sizeof server_random) == sizeof server_random);
        must(wsr_tls_key_from_master(&client, &server, run.suite, master, client_random, server_random) == 0);
    }
    run.direct.in = run.writer = run.is_server ? client : server;
    run.direct.out = run.openssl.reader = run.ours.reader = run.is_server ? server : client;
}

static void on_ticket(struct wsr_tls_direct *direct, struct wsr_bytes message)
{
    must(direct == &run.direct && message.len > 4);
    run.ours.tickets++;
}

static void begin(uint8_t choice)
{
    size_t suite = choice % SUITES;
    run.suite = wsr_tls_suite_find(suites[suite].version, suites[suite].number);
    run.is_server = (choice & 0x80) != 0;
    SSL *client = make_ssl(false, suite), *server = make_ssl(true, suite);
    int client_done = 0, server_done = 0;
    for (unsigned i = 0; i < 5 && (client_done != 1 || server_done != 1); i++) {
        client_done = SSL_do_handshake(client);
        carry(client, server);
        server_done = SSL_do_handshake(server);
        carry(server, client);
    }
    ERR_clear_error();
    must(client_done == 1 && server_done == 1);
    run.ssl = run.is_server ? server : client;
    SSL_set_shutdown(run.is_server ? client : server, SSL_SENT_SHUTDOWN);
    SSL_free(run.is_server ? client : server);
    run.openssl.alert = 0;
    run.direct = (struct wsr_tls_direct){ .suite = run.suite, .ticket = on_ticket, .is_server = run.is_server };
    take_keys(run.ssl);
    must(wsr_tls_direct_start(&run.direct, &shared) == 0);
}

/* ---- What both do with the bytes ---- */

static void openssl_reads(struct side *side)
{
    int got;
    while (side->end == END_NONE &&
           (got = SSL_read(run.ssl, side->heard + side->heard_len, (int)(sizeof heard[0] - side->heard_len))) > 0)
        side->heard_len += (size_t)got;
    if (side->end == END_NONE) {
        int why = SSL_get_error(run.ssl, got);
        bool is_closed = (SSL_get_shutdown(run.ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
        if (why == SSL_ERROR_ZERO_RETURN || (is_closed && ERR_peek_error() == 0))
            side->end = END_CLOSED;
        else if (why != SSL_ERROR_WANT_READ)
            side->end = END_FAILED;
    }
    ERR_clear_error();
    while ((got = BIO_read(SSL_get_wbio(run.ssl), side->sent + side->sent_len,
                           (int)(sizeof sent[0] - side->sent_len))) > 0)
        side->sent_len += (size_t)got;
}

static void take_our_output(struct side *side)
{
    memcpy(side->sent + side->sent_len, run.direct.output, run.direct.output_bytes);
    side->sent_len += run.direct.output_bytes;
    run.direct.output_bytes = 0;
}

/* The record lies in memory of its own, so that a sanitizer sees a byte too many. */
static void we_open(struct side *side, const uint8_t *record, size_t len)
{
    struct wsr_tls_event event;
    uint8_t *own = malloc(len);
    must(own != NULL);
    memcpy(own, record, len);
    wsr_tls_direct_open(&run.direct, &shared, own, len, &event);
    must(event.block == NULL && run.direct.message_room <= 2 * (131338 + 4));
    if (event.type == WSR_TLS_EVENT_DATA) {
        must(event.data.len > 0 && event.data.data > own && event.data.data + event.data.len < own + len);
        memcpy(side->heard + side->heard_len, event.data.data, event.data.len);
        side->heard_len += event.data.len;
    } else if (event.type == WSR_TLS_EVENT_CLOSED) {
        side->end = END_CLOSED;
    } else if (event.type == WSR_TLS_EVENT_FAILURE) {
        must(event.text != NULL && strlen(event.text) > 8);
        side->end = END_FAILED;
        side->alert = event.alert;
    } else {
        must(event.type == WSR_TLS_EVENT_NOTHING);
    }
    free(own);
    take_our_output(side);
}

static void we_read(struct side *side)
{
    while (side->end == END_NONE && run.wire_len >= WSR_TLS_HEADER_BYTES) {
        size_t len = wsr_tls_direct_length(&run.direct, wire);
        if (len > run.wire_len)
            return;
        we_open(side, wire, len > 0 ? len : WSR_TLS_HEADER_BYTES);
        run.wire_len -= len;
        memmove(wire, wire + len, run.wire_len);
    }
}

/* Open the record of @side that begins at @at. Returns its bytes. */
static size_t open_said(struct side *side, size_t at, struct said *said)
{
    static uint8_t inner[WIRE_MAX];
    size_t len = WSR_TLS_HEADER_BYTES + (size_t)wsr_load_be16(side->sent + at + 3);
    must(at + len <= side->sent_len);
    long bytes = tls_craft_open(run.suite, &side->reader, side->sent + at, len, inner);
    must(bytes >= 0);
    said->type = side->sent[at];
    if (run.suite->version == WSR_TLS_1_3) {
        must(bytes > 0 && said->type == WSR_TLS_DATA);
        said->type = inner[--bytes];
    }
    must(bytes <= (long)sizeof said->content);
    said->len = (size_t)bytes;
    memcpy(said->content, inner, said->len);
    if (said->type == WSR_TLS_HANDSHAKE) {
        must(said->len == 5 && memcmp(said->content, "\30\0\0\1\0", 5) == 0);
        must(wsr_tls_key_renew(&side->reader, run.suite) == 0);
    }
    return len;
}

static bool is_refusal(const struct said *said)
{
    return said->type == WSR_TLS_ALERT && said->len == 2 && memcmp(said->content, "\1\144", 2) == 0;
}

/* All that @side has sent in this step. OpenSSL refuses each request for another handshake with an alert of its own, we
 * those that came in one record with one: what is asked for once more is not worth more, and nothing must grow. */
static size_t open_all(struct side *side, struct said *said)
{
    size_t count = 0;
    for (size_t at = 0; at < side->sent_len;) {
        must(count < SAID_MAX);
        at += open_said(side, at, &said[count]);
        if (count > 0 && is_refusal(&said[count]) && is_refusal(&said[count - 1])) {
            must(side == &run.openssl);
            run.is_loose = true;
        } else {
            count++;
        }
    }
    return count;
}

/* The explicit nonces of TLS 1.2 begin at random with OpenSSL, and are the sequence numbers with us. */
static void must_say_the_same(void)
{
    static struct said theirs[SAID_MAX], ours[SAID_MAX];
    size_t theirs_count = open_all(&run.openssl, theirs), ours_count = open_all(&run.ours, ours);
    must(theirs_count == ours_count);
    for (size_t i = 0; i < ours_count; i++) {
        must(theirs[i].type == ours[i].type && theirs[i].len == ours[i].len);
        must(memcmp(theirs[i].content, ours[i].content, ours[i].len) == 0);
    }
    if (!run.is_loose && run.suite->fixed_iv_bytes == WSR_TLS_IV_BYTES) {
        must(run.openssl.sent_len == run.ours.sent_len);
        must(memcmp(run.openssl.sent, run.ours.sent, run.ours.sent_len) == 0);
    }
}

static void must_be_alike(void)
{
    must(run.openssl.heard_len == run.ours.heard_len);
    must(memcmp(run.openssl.heard, run.ours.heard, run.ours.heard_len) == 0);
    must_say_the_same();
    must(run.openssl.end == run.ours.end);
    must(run.openssl.tickets == run.ours.tickets);
    if (run.ours.end == END_FAILED && (!run.has_closed || run.ours.alert != 0))
        must(run.openssl.alert == run.ours.alert);
    run.openssl.heard_len = run.ours.heard_len = run.openssl.sent_len = run.ours.sent_len = 0;
}

static void deliver_piece(const uint8_t *bytes, size_t len)
{
    if (len == 0 || run.ours.end != END_NONE)
        return;
    must(BIO_write(SSL_get_rbio(run.ssl), bytes, (int)len) == (int)len);
    must(run.wire_len + len <= sizeof wire);
    memcpy(wire + run.wire_len, bytes, len);
    run.wire_len += len;
    uint64_t serial = run.direct.in.serial;
    openssl_reads(&run.openssl);
    we_read(&run.ours);
    must_be_alike();
    if (run.direct.in.serial != serial && run.ours.end == END_NONE)
        run.writer = run.direct.in;
}

static void deliver(const uint8_t *bytes, size_t len)
{
    size_t first = run.tear < len ? run.tear : len;
    run.tear = 0;
    deliver_piece(bytes, first);
    deliver_piece(bytes + first, len - first);
}

/* ---- What this end does ---- */

/* OpenSSL neither writes nor closes while a message has come in part; for us that is no reason. */
static bool may_speak(void)
{
    return SSL_in_init(run.ssl) == 0 && !run.has_closed && run.ours.end != END_FAILED;
}

static void write_data(size_t len)
{
    struct iovec parts[] = { { pattern, len / 3 }, { pattern + len / 3, len - len / 3 } };
    if (run.has_closed)
        must(wsr_tls_direct_seal(&run.direct, &shared, parts, 2, run.ours.sent) == WSR_ERR_INVALID_STATE);
    if (len == 0 || !may_speak())
        return;
    must(SSL_write(run.ssl, pattern, (int)len) == (int)len);
    int got = BIO_read(SSL_get_wbio(run.ssl), run.openssl.sent, sizeof sent[0]);
    must(got > 0);
    run.openssl.sent_len = (size_t)got;
    ssize_t bytes = wsr_tls_direct_seal(&run.direct, &shared, parts, 2, run.ours.sent);
    must(bytes > 0);
    run.ours.sent_len = (size_t)bytes;
    must_be_alike();
}

static void close_this_end(void)
{
    if (!may_speak())
        return;
    run.has_closed = true;
    SSL_shutdown(run.ssl);
    ERR_clear_error();
    int got = BIO_read(SSL_get_wbio(run.ssl), run.openssl.sent, sizeof sent[0]);
    must(got > 0);
    run.openssl.sent_len = (size_t)got;
    wsr_tls_direct_alert(&run.direct, &shared, 1, 0);
    take_our_output(&run.ours);
    must_be_alike();
}

/* An update that is owed goes with OpenSSL before the next message is looked at, with us before the next data only: one
 * answers all (RFC 8446 4.6.3). So it is made due before a message comes; returns false when that cannot be, as nothing
 * is sent any more. */
static bool settle_update(void)
{
    if (SSL_get_key_update_type(run.ssl) == SSL_KEY_UPDATE_NONE)
        return true;
    must(run.direct.owes_update);
    write_data(1);
    return !run.direct.owes_update;
}

/* ---- What the other end sends ---- */

static uint8_t take(void)
{
    if (run.script_len == 0)
        return 0;
    run.script_len--;
    return *run.script++;
}

static size_t take_2(void)
{
    size_t high = take();
    return high << 8 | take();
}

static const uint8_t *take_bytes(size_t *len)
{
    static const uint8_t none[1];
    if (run.script_len == 0)
        *len = 0;
    *len = *len < run.script_len ? *len : run.script_len;
    const uint8_t *bytes = run.script_len > 0 ? run.script : none;
    run.script += *len;
    run.script_len -= *len;
    return bytes;
}

/* Change the sealed record as the script wants it, and send it. */
static void send_sealed(uint8_t *record, size_t len)
{
    if (run.length != NULL)
        memcpy(record + 3, run.length, 2);
    if (run.tamper != NULL)
        record[wsr_load_be16(run.tamper) % len] ^= run.tamper[2];
    run.length = run.tamper = NULL;
    deliver(record, len);
}

/* Of TLS 1.3: the script may have put the type into what it calls content. */
static uint8_t inner_type(const uint8_t *inner, size_t len)
{
    while (len > 0 && inner[len - 1] == 0)
        len--;
    return len > 0 ? inner[len - 1] : 0;
}

/* Seal @inner as it is; the header is authenticated as it is sent, but for its length. */
static void send_inner(uint8_t type, const uint8_t *inner, size_t len)
{
    static uint8_t record[WIRE_MAX];
    bool is_1_3 = run.suite->version == WSR_TLS_1_3;
    if (is_1_3 && inner_type(inner, len) == WSR_TLS_HANDSHAKE && !settle_update())
        return;
    struct tls_craft craft = { is_1_3 ? WSR_TLS_DATA : type, WSR_TLS_1_2, inner, len };
    if (run.header != NULL) {
        craft.type = run.header[0];
        craft.version = wsr_load_be16(run.header + 1);
        run.header = NULL;
    }
    send_sealed(record, tls_craft(run.suite, &run.writer, &craft, record));
}

static void send_record(uint8_t type, const uint8_t *content, size_t len, size_t padding)
{
    static uint8_t inner[WIRE_MAX];
    if (run.suite->version != WSR_TLS_1_3) {
        send_inner(type, content, len);
        return;
    }
    memcpy(inner, content, len);
    inner[len] = type;
    memset(inner + len + 1, 0, padding);
    send_inner(type, inner, len + 1 + padding);
}

/* Handshake messages, in one record or in pieces. */
static void send_messages(const uint8_t *content, size_t len)
{
    size_t most = run.split > 0 ? run.split : PLAIN_MAX;
    run.split = 0;
    for (size_t at = 0; at == 0 || at < len; at += most) {
        if (run.ours.end != END_NONE)
            return;
        send_record(WSR_TLS_HANDSHAKE, content + at, len - at < most ? len - at : most, 0);
    }
}

static void send_ticket(void)
{
    static uint8_t message[WIRE_MAX * 2];
    static const uint8_t head[] = { 4, 0, 0, 0, 0, 0, 1, 0, 9, 9, 9, 9, 1, 7 };
    size_t ticket_len = take_2(), extensions_len = take();
    const uint8_t *extensions = take_bytes(&extensions_len);
    size_t at = sizeof head;
    memcpy(message, head, sizeof head);
    wsr_store_be16(message + at, (uint16_t)ticket_len);
    memset(message + at + 2, 't', ticket_len);
    at += 2 + ticket_len;
    wsr_store_be16(message + at, (uint16_t)extensions_len);
    memcpy(message + at + 2, extensions, extensions_len);
    at += 2 + extensions_len;
    message[1] = (uint8_t)((at - 4) >> 16);
    wsr_store_be16(message + 2, (uint16_t)(at - 4));
    if (run.split > 0 && at / run.split > 200)
        run.split = at / 200;
    send_messages(message, at);
}

static void send_long(void)
{
    static uint8_t content[PLAIN_MAX + 400];
    uint8_t type = take();
    size_t len = 16370 + take_2() % 360;
    memset(content, 0, sizeof content);
    send_record(type, content, len, 0);
}

static void send_short(enum op op)
{
    static const uint8_t zeros[PLAIN_MAX + 256];
    uint8_t content[] = { 24, 0, 0, 1, 0 };
    size_t len, padding;
    switch (op) {
    case OP_DATA:
        len = take_2() % (PLAIN_MAX + 1);
        padding = take();
        send_record(WSR_TLS_DATA, pattern, len, len + padding <= PLAIN_MAX + 200 ? padding : 0);
        return;
    case OP_ALERT:
        content[0] = take();
        content[1] = take();
        send_record(WSR_TLS_ALERT, content, 2, 0);
        return;
    case OP_UPDATE:
        content[4] = take();
        send_messages(content, sizeof content);
        return;
    default:
        len = take_2() % sizeof zeros;
        send_inner(WSR_TLS_DATA, zeros, len);
    }
}

/* Bytes of the script: as messages, as a record of some type, or as they are. */
static void send_bytes(enum op op)
{
    uint8_t type = op == OP_OTHER ? take() : WSR_TLS_HANDSHAKE;
    size_t len = take();
    const uint8_t *bytes = take_bytes(&len);
    if (op == OP_HANDSHAKE)
        send_messages(bytes, len);
    else if (op == OP_RAW)
        deliver(bytes, len);
    else
        send_record(type, bytes, len, 0);
}

/* What the next record has to bear. */
static void prepare(enum op op)
{
    size_t len = op == OP_LENGTH ? 2 : 3;
    if (op == OP_SPLIT)
        run.split = take();
    if (op == OP_TEAR)
        run.tear = take();
    if (op == OP_SPLIT || op == OP_TEAR)
        return;
    const uint8_t *bytes = take_bytes(&len);
    if (op == OP_LENGTH && len == 2)
        run.length = bytes;
    if (op == OP_TAMPER && len == 3)
        run.tamper = bytes;
    if (op == OP_HEADER && len == 3)
        run.header = bytes;
}

static void step(void)
{
    enum op op = take() % OPS;
    switch (op) {
    case OP_DATA: case OP_ALERT: case OP_UPDATE: case OP_ZEROS: send_short(op); return;
    case OP_HANDSHAKE: case OP_OTHER: case OP_RAW: send_bytes(op); return;
    case OP_TICKET: send_ticket(); return;
    case OP_LONG: send_long(); return;
    case OP_WRITE: write_data(take_2() % (PLAIN_MAX + 1)); return;
    case OP_CLOSE: close_this_end(); return;
    default: prepare(op);
    }
}

/* Play the next step once, or as often as the script says. */
static void step_often(void)
{
    unsigned times = 1;
    if (*run.script % OPS == OP_REPEAT) {
        take();
        times = 1 + take() % 40;
    }
    const uint8_t *script = run.script;
    size_t script_len = run.script_len;
    for (unsigned i = 0; i < times && run.ours.end != END_FAILED && script_len > 0; i++) {
        run.script = script;
        run.script_len = script_len;
        step();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > SCRIPT_MAX)
        return 0;
    run = (struct run){
        .script = data + 1,
        .script_len = size - 1,
        .openssl = { .heard = heard[0], .sent = sent[0] },
        .ours = { .heard = heard[1], .sent = sent[1] },
    };
    begin(data[0]);
    while (run.script_len > 0 && run.ours.end != END_FAILED)
        step_often();
    SSL_free(run.ssl);
    wsr_tls_direct_free(&run.direct);
    return 0;
}
