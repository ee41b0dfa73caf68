/* SPDX-License-Identifier: MIT */
#include "echo_deflate.h"

#include <stdio.h>

#define PARAMETERS_MAX 256
#define BITS_MAX 15

int wsr_echo_deflate_parse(struct wsr_deflate_offer *limits, const char *parameters, struct wsr_fault *why)
{
    static const char begin[] = WSR_DEFLATE_NAME "; ";
    char text[PARAMETERS_MAX];
    struct wsr_deflate_offers offers;
    int len = snprintf(text, sizeof text, "%s%s", parameters[0] != '\0' ? begin : WSR_DEFLATE_NAME, parameters);
    if (len >= (int)sizeof text) {
        *why = (struct wsr_fault){ 0, "the parameters are longer than 233 characters" };
        return WSR_ERR_SYNTAX;
    }
    int rc = wsr_deflate_offer_parse(&offers, wsr_bytes_of(text, (size_t)len), why);
    if (rc == 0 && offers.count != 1) {
        *why = (struct wsr_fault){ 0, "the server has one set of limits, without commas" };
        rc = WSR_ERR_SYNTAX;
    }
    why->at = why->at > sizeof begin - 1 ? why->at - (sizeof begin - 1) : 0;
    if (rc == 0)
        *limits = offers.list[0];
    return rc;
}

static uint8_t smaller_bits(uint8_t a, uint8_t b)
{
    return a != 0 && (b == 0 || a < b) ? a : b;
}

/* What the server's limits, and its own for this offer, mean for the client. */
static void bind_client(struct wsr_deflate_offer *limits, const struct wsr_deflate_offer *offer)
{
    uint8_t server_bits = smaller_bits(limits->server_max_window_bits, offer->server_max_window_bits);
    if (limits->server_no_context_takeover || offer->server_no_context_takeover)
        limits->client_no_context_takeover = true;
    if (server_bits != 0 && server_bits < BITS_MAX)
        limits->client_max_window_bits = smaller_bits(limits->client_max_window_bits, server_bits);
}

static bool agree_to(char answer[WSR_DEFLATE_ANSWER_MAX], const struct wsr_deflate_offer *limits,
                     struct wsr_bytes element)
{
    struct wsr_deflate_offers offers;
    struct wsr_deflate_offer bound = *limits;
    struct wsr_deflate_agreed agreed;
    struct wsr_fault why;
    if (wsr_deflate_offer_parse(&offers, element, &why) != 0)
        return false;
    bind_client(&bound, &offers.list[0]);
    if (!wsr_deflate_offer_choose(&agreed, answer, &offers, &bound))
        return false;
    assert(agreed.client_max_window_bits <= agreed.server_max_window_bits);
    assert(agreed.client_no_context_takeover || !agreed.server_no_context_takeover);
    return true;
}

bool wsr_echo_deflate_agree(char answer[WSR_DEFLATE_ANSWER_MAX], const struct wsr_deflate_offer *limits,
                            const struct wsr_bytes *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct wsr_bytes rest = values[i];
        struct wsr_extension element;
        while (rest.len > 0 && wsr_extension_take(&rest, &element)) {
            const uint8_t *end = element.parameters.data + element.parameters.len;
            if (agree_to(answer, limits, wsr_bytes_of(element.name.data, (size_t)(end - element.name.data))))
                return true;
        }
    }
    return false;
}
