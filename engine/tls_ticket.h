/* NewSessionTicket of TLS 1.3, RFC 8446 4.6.1: what must hold of one before anyone keeps it. */
#ifndef WSR_TLS_TICKET_H
#define WSR_TLS_TICKET_H

#include "base.h"

enum wsr_tls_ticket_fault {
    WSR_TLS_TICKET_GOOD,
    WSR_TLS_TICKET_MALFORMED,    /* decode_error */
    WSR_TLS_TICKET_FORBIDDEN     /* illegal_parameter: an extension twice, or one that belongs into another message */
};

/* The whole @message, header included. Judges as OpenSSL does. */
enum wsr_tls_ticket_fault wsr_tls_ticket_judge(struct wsr_bytes message);

#endif
