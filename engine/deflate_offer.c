/* The parameters of permessage-deflate, read once for offers and answers; then who may say what. */
#include "deflate_offer.h"

#include <stdio.h>

#define BITS_MAX 15u

/* An element's parameters as they stand there; for the numbers 0 = not there, BARE = without a value. */
struct parameters {
    bool server_no_context_takeover;
    bool client_no_context_takeover;
    uint8_t server_max_window_bits;
    uint8_t client_max_window_bits;
};

#define BARE 1u

static const char text_unknown[] = "permessage-deflate has a parameter that RFC 7692 does not define";
static const char text_twice[] = "permessage-deflate has the same parameter twice (RFC 7692 7)";
static const char text_flag_value[] = "a parameter *_no_context_takeover has a value: it takes none (RFC 7692 7.1.1)";
static const char text_bits[] =
    "a parameter *_max_window_bits is no number from 8 to 15 without leading zeros (RFC 7692 7.1.2)";
static const char text_bits_missing[] = "server_max_window_bits has no value: it is 8 to 15 (RFC 7692 7.1.2.1)";

/* 8 to 15 as a decimal number without leading zero, of @value with its backslashes taken away; else 0. */
static uint8_t bits_of(struct wsr_bytes value)
{
    unsigned bits = 0, digits = 0;
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.data[i];
        if (c == '\\')
            continue;           /* what it escapes is a token's character, and no backslash: see extension.c */
        if (c < '0' || c > '9' || ++digits > 2 || (c == '0' && digits == 1))
            return 0;
        bits = 10 * bits + (c - '0');
    }
    return bits >= 8 && bits <= BITS_MAX ? (uint8_t)bits : 0;
}

static const char *take_flag(bool *flag, const struct wsr_extension_parameter *parameter)
{
    if (*flag)
        return text_twice;
    *flag = true;
    return parameter->has_value ? text_flag_value : NULL;
}

static const char *take_bits(uint8_t *bits, const struct wsr_extension_parameter *parameter)
{
    if (*bits != 0)
        return text_twice;
    *bits = parameter->has_value ? bits_of(parameter->value) : BARE;
    return *bits == 0 ? text_bits : NULL;
}

static bool is(struct wsr_bytes name, const char *text)
{
    return wsr_bytes_equal(name, wsr_bytes_of_string(text));
}

/* PMD-12 to PMD-16 and PMD-23, as far as they hold for offers and answers. Returns NULL or what is wrong. */
static const char *read_parameters(struct parameters *out, struct wsr_bytes text)
{
    struct wsr_extension_parameter parameter;
    const char *fault = NULL;
    *out = (struct parameters){ 0 };
    while (fault == NULL && wsr_extension_take_parameter(&text, &parameter)) {
        if (is(parameter.name, "server_no_context_takeover"))
            fault = take_flag(&out->server_no_context_takeover, &parameter);
        else if (is(parameter.name, "client_no_context_takeover"))
            fault = take_flag(&out->client_no_context_takeover, &parameter);
        else if (is(parameter.name, "server_max_window_bits"))
            fault = take_bits(&out->server_max_window_bits, &parameter);
        else if (is(parameter.name, "client_max_window_bits"))
            fault = take_bits(&out->client_max_window_bits, &parameter);
        else
            fault = text_unknown;
    }
    if (fault == NULL && out->server_max_window_bits == BARE)
        fault = text_bits_missing;
    return fault;
}

/* ---- Offers ---- */

int wsr_deflate_offer_parse(struct wsr_deflate_offers *out, struct wsr_bytes value, struct wsr_fault *why)
{
    struct wsr_bytes rest = value;
    *why = (struct wsr_fault){ 0 };
    *out = (struct wsr_deflate_offers){ 0 };
    while (rest.len > 0 && why->text == NULL) {
        struct wsr_extension element;
        struct parameters p = { 0 };
        why->at = value.len - rest.len;
        if (!wsr_extension_take(&rest, &element))
            why->text = "the extensions do not follow the grammar of RFC 6455 9.1";
        else if (!is(element.name, WSR_DEFLATE_NAME))
            why->text = "the extension is not permessage-deflate, and there is no other";
        else if (out->count == WSR_DEFLATE_OFFERS_MAX)
            why->text = "permessage-deflate is offered more than 8 times: leave some out";
        else
            why->text = read_parameters(&p, element.parameters);
        if (why->text != NULL)
            break;
        out->list[out->count++] = (struct wsr_deflate_offer){
            .server_no_context_takeover = p.server_no_context_takeover,
            .client_no_context_takeover = p.client_no_context_takeover,
            .limits_client = p.client_max_window_bits != 0,
            .server_max_window_bits = p.server_max_window_bits,
            .client_max_window_bits = p.client_max_window_bits != BARE ? p.client_max_window_bits : 0,
        };
    }
    return why->text == NULL ? 0 : WSR_ERR_SYNTAX;
}

/* ---- The client's side of an answer ---- */

/* Does the answer keep to @offer? PMD-17 to PMD-22. */
static const char *misfit(const struct parameters *answer, const struct wsr_deflate_offer *offer)
{
    if (answer->client_max_window_bits != 0 && !offer->limits_client)
        return "the answer has client_max_window_bits, which was not offered (RFC 7692 7.1.2.2)";
    if (offer->client_max_window_bits != 0 && answer->client_max_window_bits > offer->client_max_window_bits)
        return "the answer's client_max_window_bits is larger than what was offered";
    if (offer->server_max_window_bits != 0 && answer->server_max_window_bits == 0)
        return "server_max_window_bits was asked for and the answer lacks it (RFC 7692 7.1.2.1)";
    if (offer->server_max_window_bits != 0 && answer->server_max_window_bits > offer->server_max_window_bits)
        return "the answer's server_max_window_bits is larger than what was asked for";
    if (offer->server_no_context_takeover && !answer->server_no_context_takeover)
        return "server_no_context_takeover was asked for and the answer lacks it (RFC 7692 7.1.1.1)";
    return NULL;
}

static uint8_t smaller_bits(uint8_t a, uint8_t b)
{
    uint8_t a_bits = a != 0 ? a : BITS_MAX, b_bits = b != 0 ? b : BITS_MAX;
    return a_bits < b_bits ? a_bits : b_bits;
}

const char *wsr_deflate_offer_judge(struct wsr_deflate_agreed *out, struct wsr_bytes parameters,
                                    const struct wsr_deflate_offers *offers)
{
    struct parameters answer;
    const char *fault = read_parameters(&answer, parameters);
    if (fault == NULL && answer.client_max_window_bits == BARE)
        fault = "client_max_window_bits in the answer has no value: it is 8 to 15 (RFC 7692 7.1.2.2)";
    if (fault != NULL)
        return fault;
    const char *first_misfit = NULL;
    struct wsr_deflate_agreed agreed = {
        .server_no_context_takeover = answer.server_no_context_takeover,
        .client_no_context_takeover = answer.client_no_context_takeover,
        .server_max_window_bits = smaller_bits(answer.server_max_window_bits, 0),
        .client_max_window_bits = smaller_bits(answer.client_max_window_bits, 0),
    };
    bool fits = false;
    for (size_t i = 0; i < offers->count; i++) {
        const struct wsr_deflate_offer *offer = &offers->list[i];
        fault = misfit(&answer, offer);
        if (fault != NULL) {
            first_misfit = first_misfit != NULL ? first_misfit : fault;
            continue;
        }
        /* The client's own hints bind it, whatever the server says (RFC 7692 7.1.1.2, 7.1.2.2). Which of the offers
         * that fit the server has taken, it does not say: so those of all. */
        fits = true;
        agreed.client_no_context_takeover = agreed.client_no_context_takeover || offer->client_no_context_takeover;
        agreed.client_max_window_bits = smaller_bits(agreed.client_max_window_bits, offer->client_max_window_bits);
    }
    if (!fits)
        return first_misfit != NULL ? first_misfit : "permessage-deflate was not offered";
    *out = agreed;
    return NULL;
}

/* ---- The server's choice ---- */

struct answer {
    char *text;
    size_t used;
};

static void put(struct answer *a, const char *name, unsigned bits)
{
    size_t room = WSR_DEFLATE_ANSWER_MAX - a->used;
    int len = bits != 0 ? snprintf(a->text + a->used, room, "; %s=%u", name, bits)
                        : snprintf(a->text + a->used, room, "; %s", name);
    assert(len > 0 && (size_t)len < room);
    a->used += (size_t)len;
}

static bool choose_from(struct wsr_deflate_agreed *out, char *text, const struct wsr_deflate_offer *offer,
                        const struct wsr_deflate_offer *wanted)
{
    uint8_t client_bits = smaller_bits(wanted->client_max_window_bits, offer->client_max_window_bits);
    uint8_t server_bits = smaller_bits(wanted->server_max_window_bits, offer->server_max_window_bits);
    if (wanted->client_max_window_bits != 0 && !offer->limits_client)
        return false;           /* the client would not keep to the limit */
    bool server_resets = wanted->server_no_context_takeover || offer->server_no_context_takeover;
    bool client_resets = wanted->client_no_context_takeover || offer->client_no_context_takeover;
    struct answer a = { text, sizeof WSR_DEFLATE_NAME - 1 };
    memcpy(text, WSR_DEFLATE_NAME, sizeof WSR_DEFLATE_NAME);
    if (server_resets)
        put(&a, "server_no_context_takeover", 0);
    if (client_resets)
        put(&a, "client_no_context_takeover", 0);
    if (wanted->server_max_window_bits != 0 || offer->server_max_window_bits != 0)
        put(&a, "server_max_window_bits", server_bits);
    if (offer->limits_client && client_bits < BITS_MAX)
        put(&a, "client_max_window_bits", client_bits);
    *out = (struct wsr_deflate_agreed){ server_resets, client_resets, server_bits, client_bits };
    return true;
}

bool wsr_deflate_offer_choose(struct wsr_deflate_agreed *out, char answer[WSR_DEFLATE_ANSWER_MAX],
                              const struct wsr_deflate_offers *offers, const struct wsr_deflate_offer *wanted)
{
    for (size_t i = 0; i < offers->count; i++) {
        if (choose_from(out, answer, &offers->list[i], wanted))
            return true;
    }
    return false;
}
