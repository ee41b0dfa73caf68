/* The fields are read only to see that they are all there. */
#include "tls_ticket.h"

#define HEAD_BYTES 4u
#define FIXED_BYTES 8u                   /* ticket_lifetime, ticket_age_add */
#define EARLY_DATA 42u
#define EARLY_DATA_BYTES 4u              /* max_early_data_size */

/* Extensions that OpenSSL knows and that belong into other messages (RFC 8446 4.2). It lets pass what it does not
 * know. */
static const uint16_t elsewhere[] = {
    0,       /* server_name */
    1,       /* max_fragment_length */
    5,       /* status_request */
    10,      /* supported_groups */
    11,      /* ec_point_formats */
    12,      /* srp */
    13,      /* signature_algorithms */
    14,      /* use_srtp */
    16,      /* application_layer_protocol_negotiation */
    18,      /* signed_certificate_timestamp */
    21,      /* padding */
    22,      /* encrypt_then_mac */
    23,      /* extended_master_secret */
    35,      /* session_ticket */
    41,      /* pre_shared_key */
    43,      /* supported_versions */
    44,      /* cookie */
    45,      /* psk_key_exchange_modes */
    47,      /* certificate_authorities */
    49,      /* post_handshake_auth */
    50,      /* signature_algorithms_cert */
    51,      /* key_share */
    13172,   /* next_protocol_negotiation */
    0xFDE8,  /* of CryptoPro */
    0xFF01,  /* renegotiation_info */
};

static bool take(struct wsr_bytes *rest, size_t bytes)
{
    if (rest->len < bytes)
        return false;
    *rest = wsr_bytes_of(rest->data + bytes, rest->len - bytes);
    return true;
}

/* Take a vector whose length stands in the @length_bytes, one or two, before it. */
static bool take_vector(struct wsr_bytes *rest, size_t length_bytes, struct wsr_bytes *vector)
{
    if (rest->len < length_bytes)
        return false;
    size_t len = length_bytes == 1 ? rest->data[0] : wsr_load_be16(rest->data);
    *vector = wsr_bytes_of(rest->data + length_bytes, len);
    return take(rest, length_bytes + len);
}

static bool belongs_elsewhere(uint16_t type)
{
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        if (elsewhere[i] == type)
            return true;
    }
    return false;
}

/* All extensions are looked at before any is read. */
static enum wsr_tls_ticket_fault judge_extensions(struct wsr_bytes rest)
{
    bool has_early_data = false;
    size_t early_data_bytes = EARLY_DATA_BYTES;
    while (rest.len > 0) {
        struct wsr_bytes data;
        uint16_t type = rest.len >= 2 ? wsr_load_be16(rest.data) : 0;
        if (!take(&rest, 2) || !take_vector(&rest, 2, &data))
            return WSR_TLS_TICKET_MALFORMED;
        if (belongs_elsewhere(type) || (type == EARLY_DATA && has_early_data))
            return WSR_TLS_TICKET_FORBIDDEN;
        if (type == EARLY_DATA) {
            has_early_data = true;
            early_data_bytes = data.len;
        }
    }
    return early_data_bytes == EARLY_DATA_BYTES ? WSR_TLS_TICKET_GOOD : WSR_TLS_TICKET_MALFORMED;
}

enum wsr_tls_ticket_fault wsr_tls_ticket_judge(struct wsr_bytes message)
{
    struct wsr_bytes nonce, ticket, extensions;
    if (!take(&message, HEAD_BYTES + FIXED_BYTES) || !take_vector(&message, 1, &nonce) ||
        !take_vector(&message, 2, &ticket) || ticket.len == 0)
        return WSR_TLS_TICKET_MALFORMED;
    if (!take_vector(&message, 2, &extensions) || message.len > 0)
        return WSR_TLS_TICKET_MALFORMED;
    return judge_extensions(extensions);
}
