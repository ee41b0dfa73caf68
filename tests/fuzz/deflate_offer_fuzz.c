/* Any bytes as Sec-WebSocket-Extensions of a request and of an answer: what is read is within its range; what a server
 * chooses the client takes, and both know the same of it; what the client takes keeps to one of its offers.
 *
 * Input: four bytes of the server's limits, then the request's value, a line end, and the answer's value.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/deflate_offer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* In memory of their own, so that a sanitizer sees a byte too many. */
static struct wsr_bytes own(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    must(copy != NULL);
    if (len > 0)
        memcpy(copy, data, len);
    return wsr_bytes_of(copy, len);
}

static bool is_bits(uint8_t bits, bool may_be_none)
{
    return (bits == 0 && may_be_none) || (bits >= 8 && bits <= 15);
}

static void check_agreed(const struct wsr_deflate_agreed *agreed)
{
    must(is_bits(agreed->server_max_window_bits, false) && is_bits(agreed->client_max_window_bits, false));
}

/* Does what was agreed on keep to @offer? */
static bool keeps_to(const struct wsr_deflate_agreed *agreed, const struct wsr_deflate_offer *offer)
{
    return (!offer->server_no_context_takeover || agreed->server_no_context_takeover) &&
           (offer->server_max_window_bits == 0 || agreed->server_max_window_bits <= offer->server_max_window_bits) &&
           (offer->client_max_window_bits == 0 || agreed->client_max_window_bits <= offer->client_max_window_bits) &&
           (offer->limits_client || agreed->client_max_window_bits == 15);
}

static void judge_answer(struct wsr_bytes answer, const struct wsr_deflate_offers *offers)
{
    struct wsr_bytes rest = answer;
    struct wsr_extension element;
    struct wsr_deflate_agreed agreed;
    if (!wsr_extension_take(&rest, &element) || wsr_deflate_offer_judge(&agreed, element.parameters, offers) != NULL)
        return;
    check_agreed(&agreed);
    bool keeps = false;
    for (size_t i = 0; i < offers->count; i++)
        keeps = keeps || keeps_to(&agreed, &offers->list[i]);
    must(keeps);
}

static void choose(const uint8_t limits[4], const struct wsr_deflate_offers *offers)
{
    const struct wsr_deflate_offer wanted = {
        .server_no_context_takeover = limits[0] & 1, .client_no_context_takeover = limits[1] & 1,
        .server_max_window_bits = limits[2] & 8 ? limits[2] & 15 : 0,
        .client_max_window_bits = limits[3] & 8 ? limits[3] & 15 : 0
    };
    struct wsr_deflate_agreed server, client;
    char answer[WSR_DEFLATE_ANSWER_MAX];
    if (!wsr_deflate_offer_choose(&server, answer, offers, &wanted))
        return;
    check_agreed(&server);
    struct wsr_bytes rest = wsr_bytes_of_string(answer);
    struct wsr_extension element;
    must(wsr_extension_take(&rest, &element) && rest.len == 0);
    must(wsr_bytes_equal(element.name, wsr_bytes_of_string(WSR_DEFLATE_NAME)));
    must(wsr_deflate_offer_judge(&client, element.parameters, offers) == NULL);
    must(client.server_max_window_bits == server.server_max_window_bits);
    must(client.server_no_context_takeover == server.server_no_context_takeover);
    /* The first offer that the answer fits may be another one than the server took, and bind the client more. */
    must(client.client_max_window_bits <= server.client_max_window_bits);
    must(client.client_no_context_takeover || !server.client_no_context_takeover);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    const uint8_t *end = memchr(data + 4, '\n', size - 4);
    size_t len = end != NULL ? (size_t)(end - data) - 4 : size - 4;
    struct wsr_bytes request = own(data + 4, len);
    struct wsr_bytes answer = own(data + 4 + len, end != NULL ? size - 5 - len : 0);
    if (end != NULL)
        memcpy((uint8_t *)(uintptr_t)answer.data, end + 1, answer.len);
    struct wsr_deflate_offers offers;
    struct wsr_fault why;
    int rc = wsr_deflate_offer_parse(&offers, request, &why);
    must(rc == 0 || (rc == WSR_ERR_SYNTAX && why.text != NULL && why.at <= request.len));
    if (rc == 0) {
        for (size_t i = 0; i < offers.count; i++)
            must(is_bits(offers.list[i].server_max_window_bits, true) &&
                 is_bits(offers.list[i].client_max_window_bits, true));
        judge_answer(answer, &offers);
        choose(data, &offers);
    }
    free((void *)(uintptr_t)request.data);
    free((void *)(uintptr_t)answer.data);
    return 0;
}
