/* permessage-deflate as the echo server agrees on it: so that what a client has compressed can go back as it came. Pure
 * functions. */
#ifndef WSR_ECHO_DEFLATE_H
#define WSR_ECHO_DEFLATE_H

#include "engine/deflate_offer.h"

/* Read the server's own limits, the parameters of an offer: "server_max_window_bits=10; ...", "" for none. Returns 0,
 * or WSR_ERR_SYNTAX with *why, whose place is one in @parameters. */
WSR_MUST_USE int wsr_echo_deflate_parse(struct wsr_deflate_offer *limits, const char *parameters,
                                        struct wsr_fault *why);

/*
 * Choose from what a client offers in the @count lines @values of Sec-WebSocket-Extensions: the first offer with which,
 * within @limits, each message of the client's is one that the server could have sent. So the client compresses each
 * for itself if the server is to, and its window is no larger than the server's. Other extensions, and offers that are
 * none, are passed over. Returns whether there is one, with the value for the @answer.
 */
bool wsr_echo_deflate_agree(char answer[WSR_DEFLATE_ANSWER_MAX], const struct wsr_deflate_offer *limits,
                            const struct wsr_bytes *values, size_t count);

#endif
