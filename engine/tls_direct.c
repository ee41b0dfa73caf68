/* What is judged is judged in OpenSSL's order, as the first fault that is found decides which alert is sent: the
 * header, the opened record, then alerts and handshake messages. tests/fuzz/tls_direct_fuzz.c compares the two. */
#include "tls_direct.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#include "tls_text.h"
#include "tls_ticket.h"

#define LEGACY_VERSION 0x0303u
#define MAJOR_VERSION 3u

/* Bytes behind the header. RFC 8446 5.2; for TLS 1.2 OpenSSL allows less than the 2,048 of RFC 5246 6.2.3. */
#define SEALED_MAX_1_3 (16384u + 256u)
#define SEALED_MAX_1_2 (16384u + 320u)

#define EMPTY_MAX 32u                    /* records without content in a row */
#define WARNINGS_MAX 4u                  /* alerts in a row that are none to end for */

#define LEVEL_WARNING 1u
#define LEVEL_FATAL 2u

/* AlertDescription, RFC 8446 6. */
enum {
    ALERT_CLOSE_NOTIFY = 0,
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_RECORD_OVERFLOW = 22,
    ALERT_HANDSHAKE_FAILURE = 40,
    ALERT_ILLEGAL_PARAMETER = 47,
    ALERT_DECODE_ERROR = 50,
    ALERT_PROTOCOL_VERSION = 70,
    ALERT_INTERNAL_ERROR = 80,
    ALERT_USER_CANCELED = 90,
    ALERT_NO_RENEGOTIATION = 100         /* of TLS 1.2 */
};

/* HandshakeType, RFC 8446 4, RFC 5246 7.4. */
enum {
    MESSAGE_HELLO_REQUEST = 0,
    MESSAGE_CLIENT_HELLO = 1,
    MESSAGE_NEW_SESSION_TICKET = 4,
    MESSAGE_KEY_UPDATE = 24
};

#define MESSAGE_HEAD_BYTES 4u
#define MESSAGE_ROOM_MIN 256u

/* As large as one can be by its fields, and OpenSSL's bound for a ClientHello. */
#define TICKET_MAX (4u + 4u + 256u + 2u + 65535u + 2u + 65535u)
#define CLIENT_HELLO_MAX 131396u

/* What can be wrong: the alert for it, and the sentence in the client's and in the server's role. */
struct fault {
    uint8_t alert;
    const char *text[2];
};

#define FAULT(alert, text) { alert, { "the server " text, "the client " text } }

static bool is_1_3(const struct wsr_tls_direct *direct)
{
    return direct->suite->version == WSR_TLS_1_3;
}

static void drop_message(struct wsr_tls_direct *direct)
{
    free(direct->message);
    direct->message = NULL;
    direct->message_used = direct->message_bytes = direct->message_room = 0;
}

/* The one place where the state changes; a message that has begun will not end. */
static void enter(struct wsr_tls_direct *direct, enum wsr_tls_direct_state state)
{
    assert(direct->state != WSR_TLS_DIRECT_FAILED);
    direct->state = (uint8_t)state;
    drop_message(direct);
}

/* ---- Alerts of ours ---- */

static void put_alert(struct wsr_tls_direct *direct, uint8_t level, uint8_t description)
{
    uint8_t content[] = { level, description };
    struct iovec part = { content, sizeof content };
    if (direct->has_closed)
        return;
    if (direct->has_kernel) {
        memcpy(direct->output, content, sizeof content);
        direct->output_bytes = sizeof content;
        return;
    }
    assert(direct->output_bytes + sizeof content + WSR_TLS_SEALED_OVERHEAD <= sizeof direct->output);
    ssize_t bytes = wsr_tls_record_seal(direct->ciphers, direct->suite, &direct->out, WSR_TLS_ALERT, &part, 1,
                                        direct->output + direct->output_bytes);
    if (bytes > 0)
        direct->output_bytes = (uint8_t)(direct->output_bytes + bytes);
}

void wsr_tls_direct_alert(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared, uint8_t level,
                          uint8_t description)
{
    (void)shared;
    if (direct->state == WSR_TLS_DIRECT_FAILED)
        return;
    put_alert(direct, level, description);
    if (level == LEVEL_FATAL)
        enter(direct, WSR_TLS_DIRECT_FAILED);
    else if (description == ALERT_CLOSE_NOTIFY)
        direct->has_closed = true;
}

static void fail(struct wsr_tls_direct *direct, struct wsr_tls_event *event, const struct fault *fault)
{
    bool is_sent = !direct->has_closed;
    put_alert(direct, LEVEL_FATAL, fault->alert);
    enter(direct, WSR_TLS_DIRECT_FAILED);
    *event = (struct wsr_tls_event){
        .type = WSR_TLS_EVENT_FAILURE,
        .text = fault->text[direct->is_server],
        .alert = is_sent ? fault->alert : 0,
    };
}

/* ---- Keys ---- */

static const struct fault no_memory = { ALERT_INTERNAL_ERROR, { "no memory for TLS", "no memory for TLS" } };

/* The next key of a direction; what was made of the old one is wiped. */
static int renew(struct wsr_tls_direct *direct, struct wsr_tls_key *key)
{
    struct wsr_tls_key next = *key;
    int rc = wsr_tls_key_renew(&next, direct->suite);
    if (rc == 0) {
        wsr_tls_ciphers_forget(direct->ciphers, key);
        *key = next;
    }
    wsr_tls_key_wipe(&next);
    return rc;
}

static void write_update(uint8_t message[WSR_TLS_DIRECT_UPDATE_BYTES])
{
    static const uint8_t update[WSR_TLS_DIRECT_UPDATE_BYTES] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };   /* not requested */
    memcpy(message, update, sizeof update);
}

int wsr_tls_direct_update(struct wsr_tls_direct *direct, uint8_t message[WSR_TLS_DIRECT_UPDATE_BYTES])
{
    assert(is_1_3(direct));
    int rc = renew(direct, &direct->out);
    if (rc < 0)
        return rc;
    write_update(message);
    direct->owes_update = false;
    return 0;
}

/* Seal a KeyUpdate with the old key. Returns its bytes. */
static ssize_t seal_update(struct wsr_tls_direct *direct, uint8_t *out)
{
    uint8_t message[WSR_TLS_DIRECT_UPDATE_BYTES];
    struct iovec part = { message, sizeof message };
    write_update(message);
    ssize_t bytes = wsr_tls_record_seal(direct->ciphers, direct->suite, &direct->out, WSR_TLS_HANDSHAKE, &part, 1, out);
    if (bytes < 0)
        return bytes;
    int rc = renew(direct, &direct->out);
    if (rc < 0)
        return rc;
    direct->owes_update = false;
    return bytes;
}

/* ---- Handshake messages ---- */

static size_t message_bytes_of(const uint8_t *head)
{
    return MESSAGE_HEAD_BYTES + ((size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3]);
}

/* The most that may follow the header of a message of @type; -1 when there may be none here. */
static long message_max(const struct wsr_tls_direct *direct, uint8_t type)
{
    if (is_1_3(direct)) {
        if (type == MESSAGE_KEY_UPDATE)
            return 1;
        return type == MESSAGE_NEW_SESSION_TICKET && !direct->is_server ? (long)TICKET_MAX : -1;
    }
    if (direct->is_server)
        return type == MESSAGE_CLIENT_HELLO ? (long)CLIENT_HELLO_MAX : -1;
    return type == MESSAGE_HELLO_REQUEST ? 0 : -1;
}

/* May this message be? NULL when it may. */
static const struct fault *judge_head(const struct wsr_tls_direct *direct, const uint8_t *head)
{
    static const struct fault unexpected = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent a handshake message that has no place "
                                                                           "after the TLS handshake");
    static const struct fault too_long = FAULT(ALERT_ILLEGAL_PARAMETER, "sent a handshake message that is longer than "
                                                                        "its kind can be");
    long max = message_max(direct, head[0]);
    if (max < 0)
        return &unexpected;
    return message_bytes_of(head) > MESSAGE_HEAD_BYTES + (size_t)max ? &too_long : NULL;
}

static void take_key_update(struct wsr_tls_direct *direct, struct wsr_bytes message, bool is_last,
                            struct wsr_tls_event *event)
{
    static const struct fault not_last = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent something behind a KeyUpdate in its "
                                                                         "record (RFC 8446 5.1)");
    static const struct fault short_update = FAULT(ALERT_DECODE_ERROR, "sent a KeyUpdate that is too short");
    static const struct fault bad_update = FAULT(ALERT_ILLEGAL_PARAMETER, "sent a KeyUpdate that asks for neither of "
                                                                          "what there is (RFC 8446 4.6.3)");
    if (!is_last) {
        fail(direct, event, &not_last);
    } else if (message.len == MESSAGE_HEAD_BYTES) {
        fail(direct, event, &short_update);
    } else if (message.data[MESSAGE_HEAD_BYTES] > 1) {
        fail(direct, event, &bad_update);
    } else if (renew(direct, &direct->in) < 0) {
        fail(direct, event, &no_memory);
    } else {
        /* However often it is asked for before something is sent, one answers all (RFC 8446 4.6.3), so that nothing
         * grows. OpenSSL answers the one before as soon as another message comes. */
        direct->owes_update |= message.data[MESSAGE_HEAD_BYTES] == 1;
        event->type = WSR_TLS_EVENT_KEYS;
    }
}

static void take_ticket(struct wsr_tls_direct *direct, struct wsr_bytes message, struct wsr_tls_event *event)
{
    static const struct fault malformed = FAULT(ALERT_DECODE_ERROR, "sent a session ticket that cannot be taken apart "
                                                                    "(RFC 8446 4.6.1)");
    static const struct fault forbidden = FAULT(ALERT_ILLEGAL_PARAMETER, "sent a session ticket with an extension that "
                                                                         "may not be in it (RFC 8446 4.2)");
    enum wsr_tls_ticket_fault fault = wsr_tls_ticket_judge(message);
    if (fault != WSR_TLS_TICKET_GOOD)
        fail(direct, event, fault == WSR_TLS_TICKET_MALFORMED ? &malformed : &forbidden);
    else if (direct->ticket != NULL)
        direct->ticket(direct, message);
}

/* TLS 1.2: we make no other handshake (RFC 5246 7.4.1.1, 7.2.2). One answer stands for all while it was not taken away,
 * where OpenSSL gives one for each, so that nothing grows. */
static void refuse_renegotiation(struct wsr_tls_direct *direct)
{
    if (direct->output_bytes == 0)
        put_alert(direct, LEVEL_WARNING, ALERT_NO_RENEGOTIATION);
}

/* A whole message, which passed judge_head(); @is_last: nothing follows it in the record. */
static void take_message(struct wsr_tls_direct *direct, struct wsr_bytes message, bool is_last,
                         struct wsr_tls_event *event)
{
    switch (message.data[0]) {
    case MESSAGE_KEY_UPDATE: take_key_update(direct, message, is_last, event); return;
    case MESSAGE_NEW_SESSION_TICKET: take_ticket(direct, message, event); return;
    default: refuse_renegotiation(direct);
    }
}

/* Put @bytes of @in to the message that comes in pieces. */
static bool append(struct wsr_tls_direct *direct, const uint8_t *in, size_t bytes)
{
    size_t wanted = direct->message_used + bytes;
    if (wanted > direct->message_room) {
        size_t room = wanted < MESSAGE_ROOM_MIN ? MESSAGE_ROOM_MIN : 2 * wanted;     /* what has come bounds it */
        uint8_t *block = realloc(direct->message, room);
        if (block == NULL)
            return false;
        direct->message = block;
        direct->message_room = (uint32_t)room;
    }
    memcpy(direct->message + direct->message_used, in, bytes);
    return true;
}

/* Is what follows the header of nobody's interest? A ClientHello is long, and is refused whatever it says. */
static bool is_counted_only(const struct wsr_tls_direct *direct)
{
    return direct->message_bytes > 0 && direct->is_server && !is_1_3(direct);
}

/* The header has been gathered: what is in it? Returns false when the connection has failed. */
static bool take_head(struct wsr_tls_direct *direct, struct wsr_tls_event *event)
{
    const struct fault *fault = judge_head(direct, direct->message);
    if (fault != NULL) {
        fail(direct, event, fault);
        return false;
    }
    direct->message_bytes = (uint32_t)message_bytes_of(direct->message);
    if (is_counted_only(direct)) {
        free(direct->message);
        direct->message = NULL;
        direct->message_room = 0;
    }
    return true;
}

/* The last byte of the message that came in pieces is there; @is_last: and nothing behind it in the record. */
static void end_message(struct wsr_tls_direct *direct, bool is_last, struct wsr_tls_event *event)
{
    if (is_counted_only(direct))
        refuse_renegotiation(direct);
    else
        take_message(direct, wsr_bytes_of(direct->message, direct->message_bytes), is_last, event);
    drop_message(direct);
}

/* Gather bytes of @in, up to the end of the message's header or of its body. Returns how many. */
static size_t gather(struct wsr_tls_direct *direct, struct wsr_bytes in, struct wsr_tls_event *event)
{
    size_t end = direct->message_bytes > 0 ? direct->message_bytes : MESSAGE_HEAD_BYTES;
    size_t bytes = end - direct->message_used < in.len ? end - direct->message_used : in.len;
    if (!is_counted_only(direct) && !append(direct, in.data, bytes)) {
        fail(direct, event, &no_memory);
        return bytes;
    }
    direct->message_used += (uint32_t)bytes;
    if (direct->message_bytes == 0 && direct->message_used == MESSAGE_HEAD_BYTES && !take_head(direct, event))
        return bytes;
    if (direct->message_used == direct->message_bytes)
        end_message(direct, bytes == in.len, event);
    return bytes;
}

/* Take the message that begins @in, where it lies if all of it is there. Returns the bytes that were taken. */
static size_t begin_message(struct wsr_tls_direct *direct, struct wsr_bytes in, struct wsr_tls_event *event)
{
    if (in.len < MESSAGE_HEAD_BYTES)
        return gather(direct, in, event);
    const struct fault *fault = judge_head(direct, in.data);
    size_t bytes = message_bytes_of(in.data);
    if (fault != NULL)
        fail(direct, event, fault);
    else if (in.len < bytes)
        return gather(direct, in, event);
    else
        take_message(direct, wsr_bytes_of(in.data, bytes), in.len == bytes, event);
    return bytes;
}

static void take_handshake(struct wsr_tls_direct *direct, struct wsr_bytes in, struct wsr_tls_event *event)
{
    if (direct->has_closed && !is_1_3(direct))
        return;                          /* it could not be answered, so it is read over, as OpenSSL does */
    while (in.len > 0 && direct->state == WSR_TLS_DIRECT_OPEN) {
        size_t taken = (direct->message_used > 0 ? gather : begin_message)(direct, in, event);
        in = wsr_bytes_of(in.data + taken, in.len - taken);
    }
}

/* ---- Alerts of the peer ---- */

static void take_close(struct wsr_tls_direct *direct, struct wsr_tls_event *event)
{
    enter(direct, WSR_TLS_DIRECT_CLOSED);
    event->type = WSR_TLS_EVENT_CLOSED;
}

static void take_fatal(struct wsr_tls_direct *direct, uint8_t description, struct wsr_tls_event *event)
{
    enter(direct, WSR_TLS_DIRECT_FAILED);
    *event = (struct wsr_tls_event){
        .type = WSR_TLS_EVENT_FAILURE,
        .text = direct->is_server ? "the client ended TLS with an alert" : wsr_tls_text_of_alert(description),
        .alert = description,
    };
}

static void take_alert(struct wsr_tls_direct *direct, struct wsr_bytes content, struct wsr_tls_event *event)
{
    static const struct fault malformed = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent an alert that is not of two bytes");
    static const struct fault too_many = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent one warning of TLS after the other");
    static const struct fault refused = FAULT(ALERT_HANDSHAKE_FAILURE, "refused another handshake, which was not asked "
                                                                       "for");
    static const struct fault no_level = FAULT(ALERT_ILLEGAL_PARAMETER, "sent an alert that is neither a warning nor "
                                                                        "fatal");
    if (content.len != 2) {
        fail(direct, event, &malformed);
        return;
    }
    uint8_t level = content.data[0], description = content.data[1];
    bool is_canceled = is_1_3(direct) && description == ALERT_USER_CANCELED;
    if ((level == LEVEL_WARNING || is_canceled) && ++direct->warnings_count > WARNINGS_MAX)
        fail(direct, event, &too_many);
    else if (is_canceled)
        return;                          /* close_notify is to follow (RFC 8446 6.1) */
    else if (description == ALERT_CLOSE_NOTIFY && (level == LEVEL_WARNING || is_1_3(direct)))
        take_close(direct, event);
    else if (level == LEVEL_FATAL || is_1_3(direct))     /* RFC 8446 6: the level means nothing */
        take_fatal(direct, description, event);
    else if (description == ALERT_NO_RENEGOTIATION)
        fail(direct, event, &refused);
    else if (level != LEVEL_WARNING)
        fail(direct, event, &no_level);
}

/* ---- Records ---- */

static const struct fault bad_type = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent a record of a type that has no place here");
static const struct fault too_much = FAULT(ALERT_RECORD_OVERFLOW, "sent a record with more than 16,384 bytes in it");

/* What RFC 8446 5.1 and 5.4 forbid of the content as such. NULL when there is nothing. */
static const struct fault *judge_content(const struct wsr_tls_direct *direct, uint8_t type, struct wsr_bytes content)
{
    static const struct fault empty = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent an alert or handshake message of no bytes "
                                                                      "(RFC 8446 5.4)");
    if (!is_1_3(direct) || type == WSR_TLS_DATA)
        return NULL;
    if (type != WSR_TLS_ALERT && type != WSR_TLS_HANDSHAKE)
        return &bad_type;
    return content.len == 0 ? &empty : NULL;
}

/* May a record of @type come while a handshake message is not complete? In TLS 1.3 nothing may, but OpenSSL lets alerts
 * pass once the message's header is there; in TLS 1.2 data may until then. */
static bool may_interrupt(const struct wsr_tls_direct *direct, uint8_t type)
{
    bool has_head = direct->message_used >= MESSAGE_HEAD_BYTES;
    if (direct->message_used == 0 || type == WSR_TLS_HANDSHAKE)
        return true;
    return type == WSR_TLS_ALERT ? has_head || !is_1_3(direct) : !has_head && !is_1_3(direct);
}

/* Count what brings nothing, so that it cannot go on for ever. */
static const struct fault *count(struct wsr_tls_direct *direct, uint8_t type, struct wsr_bytes content)
{
    static const struct fault too_many = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent one empty record after the other");
    if (content.len == 0) {
        if (++direct->empty_count > EMPTY_MAX)
            return &too_many;
    } else {
        direct->empty_count = 0;
        if (type != WSR_TLS_ALERT)
            direct->warnings_count = 0;
    }
    return NULL;
}

/* An opened record of at most 16,384 bytes. */
static void take_content(struct wsr_tls_direct *direct, uint8_t type, struct wsr_bytes content,
                         struct wsr_tls_event *event)
{
    static const struct fault interrupted = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent a record between the pieces of a "
                                                                            "handshake message (RFC 8446 5.1)");
    const struct fault *fault = judge_content(direct, type, content);
    if (fault == NULL)
        fault = count(direct, type, content);
    if (fault == NULL && !may_interrupt(direct, type))
        fault = &interrupted;
    if (fault != NULL) {
        fail(direct, event, fault);
        return;
    }
    switch (type) {
    case WSR_TLS_DATA:
        if (content.len > 0)
            *event = (struct wsr_tls_event){ .type = WSR_TLS_EVENT_DATA, .data = content };
        return;
    case WSR_TLS_ALERT: take_alert(direct, content, event); return;
    case WSR_TLS_HANDSHAKE: take_handshake(direct, content, event); return;
    default: fail(direct, event, &bad_type);
    }
}

/* NULL when a record may begin so. */
static const struct fault *judge_header(const struct wsr_tls_direct *direct, const uint8_t *header)
{
    static const struct fault no_tls = FAULT(ALERT_PROTOCOL_VERSION, "sent bytes that are no TLS record, or one of "
                                                                     "another version");
    static const struct fault bad_version = FAULT(ALERT_DECODE_ERROR, "sent a record whose version is not 0x0303 "
                                                                      "(RFC 8446 5.2)");
    static const struct fault not_sealed = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent a record that is not encrypted "
                                                                           "(RFC 8446 5)");
    static const struct fault too_long = FAULT(ALERT_RECORD_OVERFLOW, "sent a record that is longer than one can be");
    unsigned version = wsr_load_be16(header + 1);
    if (is_1_3(direct)) {
        if (header[1] != MAJOR_VERSION)
            return &no_tls;
        if (header[0] != WSR_TLS_DATA)
            return &not_sealed;
        if (version != LEGACY_VERSION)
            return &bad_version;
    } else if (version != LEGACY_VERSION) {
        return &no_tls;
    }
    return wsr_load_be16(header + 3) > (is_1_3(direct) ? SEALED_MAX_1_3 : SEALED_MAX_1_2) ? &too_long : NULL;
}

size_t wsr_tls_direct_length(const struct wsr_tls_direct *direct, const uint8_t header[WSR_TLS_HEADER_BYTES])
{
    return judge_header(direct, header) != NULL ? 0 : WSR_TLS_HEADER_BYTES + wsr_load_be16(header + 3);
}

/* A record with a good header. */
static void open_record(struct wsr_tls_direct *direct, uint8_t *record, size_t len, struct wsr_tls_event *event)
{
    static const struct fault not_opened = FAULT(ALERT_BAD_RECORD_MAC, "sent a record that does not open with the "
                                                                       "connection's key: it was damaged or forged");
    /* OpenSSL finds that inside its cipher, and calls it an error of its own. */
    static const struct fault too_short = FAULT(ALERT_INTERNAL_ERROR, "sent a record too short to be encrypted");
    static const struct fault bare = FAULT(ALERT_UNEXPECTED_MESSAGE, "sent a record that is nothing but padding "
                                                                     "(RFC 8446 5.4)");
    struct wsr_bytes content = { NULL, 0 };
    const struct fault *fault;
    uint8_t type = 0;
    switch (wsr_tls_record_open(direct->ciphers, direct->suite, &direct->in, record, len, &type, &content)) {
    case WSR_TLS_OPENED: take_content(direct, type, content, event); return;
    case WSR_TLS_OPENED_NOT: fail(direct, event, &not_opened); return;
    case WSR_TLS_OPENED_SHORT: fail(direct, event, &too_short); return;
    case WSR_TLS_OPENED_BARE: fail(direct, event, &bare); return;
    case WSR_TLS_OPENED_LONG:
        fault = judge_content(direct, type, content);
        fail(direct, event, fault != NULL ? fault : &too_much);
        return;
    default: fail(direct, event, &no_memory);
    }
}

void wsr_tls_direct_open(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared, uint8_t *record, size_t len,
                         struct wsr_tls_event *event)
{
    (void)shared;
    *event = (struct wsr_tls_event){ .type = WSR_TLS_EVENT_NOTHING };
    if (direct->state != WSR_TLS_DIRECT_OPEN)
        return;
    const struct fault *fault = judge_header(direct, record);
    if (fault != NULL) {
        fail(direct, event, fault);
        return;
    }
    assert(len == WSR_TLS_HEADER_BYTES + (size_t)wsr_load_be16(record + 3));
    open_record(direct, record, len, event);
    if (event->type == WSR_TLS_EVENT_KEYS)
        event->type = WSR_TLS_EVENT_NOTHING;
}

void wsr_tls_direct_control(struct wsr_tls_direct *direct, uint8_t type, struct wsr_bytes content,
                            struct wsr_tls_event *event)
{
    *event = (struct wsr_tls_event){ .type = WSR_TLS_EVENT_NOTHING };
    direct->has_kernel = true;
    if (direct->state == WSR_TLS_DIRECT_OPEN)
        take_content(direct, type, content, event);
}

/* ---- The rest ---- */

int wsr_tls_direct_start(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared)
{
    assert(direct->suite != NULL && direct->state == WSR_TLS_DIRECT_OPEN);
    if (shared->ciphers == NULL)
        shared->ciphers = wsr_tls_ciphers_create();
    direct->ciphers = shared->ciphers;
    return direct->ciphers != NULL ? 0 : WSR_ERR_MEMORY;
}

void wsr_tls_direct_free(struct wsr_tls_direct *direct)
{
    wsr_tls_ciphers_forget(direct->ciphers, &direct->in);
    wsr_tls_ciphers_forget(direct->ciphers, &direct->out);
    free(direct->message);
    OPENSSL_cleanse(direct, sizeof *direct);
}

static bool is_worn(const struct wsr_tls_direct *direct)
{
    return is_1_3(direct) && direct->out.sequence >= WSR_TLS_DIRECT_RECORDS_MAX;
}

ssize_t wsr_tls_direct_seal(struct wsr_tls_direct *direct, struct wsr_tls_shared *shared, const struct iovec *parts,
                            size_t parts_count, uint8_t *out)
{
    ssize_t owed = 0;
    (void)shared;
    if (direct->state == WSR_TLS_DIRECT_FAILED || direct->has_closed)
        return WSR_ERR_INVALID_STATE;
    if (WSR_UNLIKELY(direct->owes_update || is_worn(direct)))
        owed = seal_update(direct, out);
    ssize_t bytes = owed < 0 ? owed : wsr_tls_record_seal(direct->ciphers, direct->suite, &direct->out, WSR_TLS_DATA,
                                                          parts, parts_count, out + owed);
    if (bytes < 0) {
        enter(direct, WSR_TLS_DIRECT_FAILED);
        return bytes;
    }
    return owed + bytes;
}
