/* Any bytes as an answer's head. Oracles: the same outcome whole and in pieces; the fields cover exactly the checked
 * lines; the handshake's judgement touches nothing outside. The first two bytes choose the pieces and the offer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void require_same_in_pieces(const uint8_t *in, size_t len, size_t step, ptrdiff_t whole,
                                   const struct wsr_fault *fault)
{
    struct wsr_http_response response;
    struct wsr_fault why = { 0, NULL };
    size_t scanned = 0;
    size_t now = 0;
    ptrdiff_t rc;
    do {
        now = len - now > step ? now + step : len;
        rc = wsr_http_parse(&response, in, now, &scanned, &why);
        require(scanned <= now);
    } while (rc == 0 && now < len);
    require(rc == whole);
    if (rc < 0)
        require(why.at == fault->at && why.text == fault->text);
}

static void judge(const struct wsr_http_response *response, unsigned offered)
{
    struct wsr_handshake_agreement agreement;
    struct wsr_fault why = { 0, NULL };
    struct wsr_handshake_offer offer = { .deflate = { .count = offered & 1, .list = { { .limits_client = true } } } };
    memcpy(offer.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof offer.accept);
    if (offered & 2)
        offer.protocols = wsr_bytes_of_string("chat, a, b");
    int rc = wsr_handshake_check_answer(&agreement, response, &offer, &why);
    if (rc != 0) {
        require(rc == WSR_ERR_SYNTAX && why.text != NULL);
        return;
    }
    require(response->status == 101);
    require((agreement.protocol.len > 0) == ((offered & 2) != 0));
    require(agreement.extensions.len == 0 || offer.deflate.count > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t step = 1u + data[0];
    unsigned offered = data[1];
    size_t len = size - 2;
    uint8_t *in = malloc(len > 0 ? len : 1);
    require(in != NULL);
    memcpy(in, data + 2, len);
    struct wsr_http_response response;
    struct wsr_fault why = { SIZE_MAX, NULL };
    size_t scanned = 0;
    ptrdiff_t rc = wsr_http_parse(&response, in, len, &scanned, &why);
    require(rc <= (ptrdiff_t)len);
    require_same_in_pieces(in, len, step, rc, &why);
    if (rc < 0)
        require(rc == WSR_ERR_SYNTAX && why.text != NULL && why.at <= len);
    if (rc > 0) {
        struct wsr_bytes rest = response.fields;
        struct wsr_http_field field;
        while (wsr_http_next_field(&rest, &field))
            require(wsr_http_is_token(field.name));
        require(rest.len == 0);
        judge(&response, offered);
    }
    free(in);
    return 0;
}
