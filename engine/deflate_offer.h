/* What is offered and agreed on for permessage-deflate (RFC 7692 7), on both sides. Pure functions. */
#ifndef WSR_DEFLATE_OFFER_H
#define WSR_DEFLATE_OFFER_H

#include "base.h"
#include "extension.h"

#define WSR_DEFLATE_NAME "permessage-deflate"           /* compared exactly: PMD-26 */
#define WSR_DEFLATE_OFFER_DEFAULT WSR_DEFLATE_NAME "; client_max_window_bits"      /* PMD-01 */
#define WSR_DEFLATE_OFFERS_MAX 8u
#define WSR_DEFLATE_ANSWER_MAX 160u                     /* characters of an answer, with its NUL */

/* One element of an offer. */
struct wsr_deflate_offer {
    bool server_no_context_takeover;
    bool client_no_context_takeover;
    bool limits_client;             /* client_max_window_bits is there: the server may limit the client's window */
    uint8_t server_max_window_bits; /* 8 to 15; 0 = not there */
    uint8_t client_max_window_bits; /* 8 to 15; 0 = not there, or without a value */
};

/* All of them, in order of preference. */
struct wsr_deflate_offers {
    uint8_t count;                  /* 0 = the extension is not offered */
    struct wsr_deflate_offer list[WSR_DEFLATE_OFFERS_MAX];
};

/* What both sides have agreed on. */
struct wsr_deflate_agreed {
    bool server_no_context_takeover;
    bool client_no_context_takeover;
    uint8_t server_max_window_bits; /* 8 to 15 */
    uint8_t client_max_window_bits; /* the same */
};

/*
 * Read @value, what a client sends or is to send as Sec-WebSocket-Extensions; empty = no offer. Returns 0;
 * WSR_ERR_SYNTAX with *why: it breaks the grammar, names another extension, or a parameter that is unknown, stands
 * twice, or has a value that it may not have; or there are more than WSR_DEFLATE_OFFERS_MAX. PMD-02, PMD-03.
 */
WSR_MUST_USE int wsr_deflate_offer_parse(struct wsr_deflate_offers *out, struct wsr_bytes value,
                                         struct wsr_fault *why);

/*
 * The client judges the @parameters of a server's answer: it has to fit one of the @offers. Returns NULL with *out, or
 * what is wrong in one static sentence. PMD-11 to PMD-23.
 */
WSR_MUST_USE const char *wsr_deflate_offer_judge(struct wsr_deflate_agreed *out, struct wsr_bytes parameters,
                                                 const struct wsr_deflate_offers *offers);

/*
 * A server chooses: the first of the @offers, which a client has sent, that @wanted can go with. @wanted has the
 * server's own limits, as if it were an offer: each flag and each number that is set will be in the answer if the offer
 * allows it. Returns whether there is such an offer, with *out and the @answer, NUL-terminated.
 */
WSR_MUST_USE bool wsr_deflate_offer_choose(struct wsr_deflate_agreed *out, char answer[WSR_DEFLATE_ANSWER_MAX],
                                           const struct wsr_deflate_offers *offers,
                                           const struct wsr_deflate_offer *wanted);

#endif
