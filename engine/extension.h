/* The grammar of Sec-WebSocket-Extensions (RFC 6455 9.1), for requests and answers. Owns nothing. */
#ifndef WSR_EXTENSION_H
#define WSR_EXTENSION_H

#include "base.h"

/* One element of the list: its name, and its parameters from the first ";" on. */
struct wsr_extension {
    struct wsr_bytes name;
    struct wsr_bytes parameters;
};

struct wsr_extension_parameter {
    struct wsr_bytes name;
    struct wsr_bytes value;      /* of a quoted one what stands between the quotes, its backslashes included */
    bool has_value;
};

/*
 * Take the next element off *rest, with the comma behind it. Returns false when the text breaks the grammar, to which
 * empty elements, and a comma or a semicolon at the end, do not belong.
 */
WSR_MUST_USE bool wsr_extension_take(struct wsr_bytes *rest, struct wsr_extension *out);

/* Take the next parameter off *parameters (at first: extension->parameters). Returns false at the end. */
bool wsr_extension_take_parameter(struct wsr_bytes *parameters, struct wsr_extension_parameter *out);

#endif
