/* The host of a ws, wss, http or https URL (WHATWG URL Standard, host parsing). Owns nothing. */
#ifndef WSR_HOST_H
#define WSR_HOST_H

#include "base.h"

/* The longest host that is not just a lower-case copy of its input: a domain that went through IDNA (RFC 1035 2.3.4).
 * IPv4 and IPv6 addresses are shorter. */
#define WSR_HOST_TEXT_MIN 255

struct wsr_host {
    struct wsr_bytes text;   /* serialised, IPv6 in brackets; lies in the caller's text */
    bool is_ip;
};

/* Bytes of text that the host of @len input bytes may need. */
static inline size_t wsr_host_text_bytes(size_t len)
{
    return len > WSR_HOST_TEXT_MIN ? len : WSR_HOST_TEXT_MIN;
}

/*
 * Parse @domain, which is percent-decoded and not in brackets, into @text, which has wsr_host_text_bytes() and does not
 * overlap it: domain to ASCII, forbidden code points, IPv4. URL-10..15.
 * Returns 0; WSR_ERR_SYNTAX with *why, whose place is one in @domain; WSR_ERR_MEMORY.
 */
WSR_MUST_USE int wsr_host_parse_domain(struct wsr_host *out, struct wsr_bytes domain, char *text,
                                       struct wsr_fault *why);

/* Parse what stands between the brackets, and write it with brackets and compressed. The rest as above. URL-16. */
WSR_MUST_USE int wsr_host_parse_ipv6(struct wsr_host *out, struct wsr_bytes address, char *text,
                                     struct wsr_fault *why);

#endif
