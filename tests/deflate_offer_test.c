/* Offers and answers of permessage-deflate (RFC 7692 7), over engine/deflate_offer.c.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine/deflate_offer.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define PMD "permessage-deflate"
#define SN "server_no_context_takeover"
#define CN "client_no_context_takeover"
#define SB "server_max_window_bits"
#define CB "client_max_window_bits"

static struct wsr_deflate_offers offers_of(const char *text)
{
    struct wsr_deflate_offers offers;
    struct wsr_fault why;
    if (wsr_deflate_offer_parse(&offers, wsr_bytes_of_string(text), &why) != 0)
        fail_msg("%s: byte %zu: %s", text, why.at, why.text);
    return offers;
}

/* The parameters of @answer, which is one element. */
static struct wsr_bytes parameters_of(const char *answer)
{
    struct wsr_bytes rest = wsr_bytes_of_string(answer);
    struct wsr_extension element;
    assert_true(wsr_extension_take(&rest, &element) && rest.len == 0);
    return element.parameters;
}

/* NULL = accepted. */
static const char *judge(struct wsr_deflate_agreed *out, const char *offered, const char *answer)
{
    struct wsr_deflate_offers offers = offers_of(offered);
    return wsr_deflate_offer_judge(out, parameters_of(answer), &offers);
}

static void accept(const char *offered, const char *answer, struct wsr_deflate_agreed want)
{
    struct wsr_deflate_agreed got = { 0 };
    const char *why = judge(&got, offered, answer);
    if (why != NULL)
        fail_msg("offered %s, answered %s: %s", offered, answer, why);
    if (got.server_no_context_takeover != want.server_no_context_takeover ||
        got.client_no_context_takeover != want.client_no_context_takeover ||
        got.server_max_window_bits != want.server_max_window_bits ||
        got.client_max_window_bits != want.client_max_window_bits)
        fail_msg("offered %s, answered %s: agreed %d %d %d %d", offered, answer, got.server_no_context_takeover,
                 got.client_no_context_takeover, got.server_max_window_bits, got.client_max_window_bits);
}

/* Refused with a sentence that has @word in it, and nothing was written. */
static void refuse(const char *offered, const char *answer, const char *word)
{
    struct wsr_deflate_agreed got = { 0 };
    const char *why = judge(&got, offered, answer);
    if (why == NULL || strstr(why, word) == NULL)
        fail_msg("offered %s, answered %s: %s", offered, answer, why != NULL ? why : "accepted");
    assert_int_equal(got.server_max_window_bits, 0);
}

static struct wsr_deflate_agreed agreed(bool server_alone, bool client_alone, uint8_t server_bits, uint8_t client_bits)
{
    return (struct wsr_deflate_agreed){ server_alone, client_alone, server_bits, client_bits };
}

/* ---- Offers ---- */

/* PMD-01, PMD-02 */
static void offers_are_read(void **state)
{
    (void)state;
    struct wsr_deflate_offers offers = offers_of("");
    assert_int_equal(offers.count, 0);
    offers = offers_of(WSR_DEFLATE_OFFER_DEFAULT);
    assert_int_equal(offers.count, 1);
    assert_true(offers.list[0].limits_client && offers.list[0].client_max_window_bits == 0);
    assert_true(!offers.list[0].server_no_context_takeover && !offers.list[0].client_no_context_takeover);
    assert_int_equal(offers.list[0].server_max_window_bits, 0);
    offers = offers_of(PMD "; " SN "; " CN "; " SB "=9; " CB "=\"1\\4\"");
    assert_true(offers.list[0].server_no_context_takeover && offers.list[0].client_no_context_takeover);
    assert_true(offers.list[0].limits_client);
    assert_int_equal(offers.list[0].server_max_window_bits, 9);
    assert_int_equal(offers.list[0].client_max_window_bits, 14);
}

/* PMD-03: in their order, and not more than there is room for. */
static void several_offers_are_fallbacks(void **state)
{
    (void)state;
    struct wsr_deflate_offers offers = offers_of(PMD "; " SB "=10, " PMD "; " SN " ," PMD);
    assert_int_equal(offers.count, 3);
    assert_int_equal(offers.list[0].server_max_window_bits, 10);
    assert_true(offers.list[1].server_no_context_takeover && offers.list[1].server_max_window_bits == 0);
    assert_false(offers.list[2].server_no_context_takeover);
    char text[512] = PMD;
    for (unsigned count = 1; count <= WSR_DEFLATE_OFFERS_MAX; count++) {
        assert_int_equal(offers_of(text).count, count);
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "," PMD);
    }
    struct wsr_fault why;
    assert_int_equal(wsr_deflate_offer_parse(&offers, wsr_bytes_of_string(text), &why), WSR_ERR_SYNTAX);
    assert_non_null(strstr(why.text, "more than 8"));
    /* The answer has to fit one of them; which one, the server does not say. */
    accept(PMD "; " SB "=10, " PMD, PMD, agreed(false, false, 15, 15));
    accept(PMD "; " SB "=10, " PMD, PMD "; " SB "=9", agreed(false, false, 9, 15));
    accept(PMD "; " SN "; " CN ", " PMD "; " CB, PMD "; " CB "=11", agreed(false, false, 15, 11));
    refuse(PMD "; " SB "=10, " PMD "; " SN, PMD, SB);
}

/* PMD-02, PMD-25, PMD-26: what may not be offered, and where that stands. */
static void bad_offers_say_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
        size_t at;
    } rows[] = {
        { ",", "grammar", 0 }, { PMD ";", "grammar", 0 }, { PMD ", ", "grammar", 0 }, { " " PMD, "grammar", 0 },
        { PMD ", x", "not permessage-deflate", 20 }, { "Permessage-Deflate", "not permessage-deflate", 0 },
        { "x-webkit-deflate-frame", "not permessage-deflate", 0 },
        { PMD "; x", "not define", 0 }, { PMD "; Server_no_context_takeover", "not define", 0 },
        { PMD "; " SN "; " SN, "twice", 0 }, { PMD "; " CB "; " CB "=9", "twice", 0 }, { PMD "; " SN "=1", "value", 0 },
        { PMD "; " SB, "no value", 0 }, { PMD "; " SB "=7", "8 to 15", 0 }, { PMD "; " CB "=16", "8 to 15", 0 },
        { PMD "; " CB "=010", "8 to 15", 0 }, { PMD ", " PMD "; " CB "=x", "8 to 15", 20 },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_deflate_offers offers;
        struct wsr_fault why = { 99, NULL };
        int rc = wsr_deflate_offer_parse(&offers, wsr_bytes_of_string(rows[i].text), &why);
        if (rc != WSR_ERR_SYNTAX || strstr(why.text, rows[i].word) == NULL || why.at != rows[i].at)
            fail_msg("%s: %d at %zu: %s", rows[i].text, rc, why.at, why.text != NULL ? why.text : "-");
    }
}

/* ---- Answers ---- */

/* PMD-11, PMD-19, PMD-22, PMD-23 */
static void good_answers_agree(void **state)
{
    (void)state;
    static const char offer[] = WSR_DEFLATE_OFFER_DEFAULT;
    accept(offer, PMD, agreed(false, false, 15, 15));
    accept(PMD, PMD, agreed(false, false, 15, 15));
    accept(offer, PMD "; " SN, agreed(true, false, 15, 15));
    accept(offer, PMD "; " CN, agreed(false, true, 15, 15));
    accept(PMD, PMD "; " CN, agreed(false, true, 15, 15));
    accept(PMD, PMD "; " SN, agreed(true, false, 15, 15));
    for (uint8_t bits = 8; bits <= 15; bits++) {
        char answer[128];
        snprintf(answer, sizeof answer, PMD "; " SB "=%u", bits);
        accept(PMD, answer, agreed(false, false, bits, 15));
        snprintf(answer, sizeof answer, PMD ";" SB "=\"%u\"", bits);
        accept(PMD, answer, agreed(false, false, bits, 15));
        snprintf(answer, sizeof answer, PMD "; " CB " = \"%u\" ; " SN, bits);
        accept(offer, answer, agreed(true, false, 15, bits));
    }
    accept(offer, PMD "; " CB "=\"\\1\\0\"", agreed(false, false, 15, 10));
}

/* PMD-02: the hints of the client bind it, whether or not the server repeats them. */
static void what_the_client_offered_binds_it(void **state)
{
    (void)state;
    accept(PMD "; " CN, PMD, agreed(false, true, 15, 15));
    accept(PMD "; " CB "=10", PMD, agreed(false, false, 15, 10));
    accept(PMD "; " CB "=10", PMD "; " CB "=9", agreed(false, false, 15, 9));
    accept(PMD "; " CB "=10", PMD "; " CB "=10", agreed(false, false, 15, 10));
    /* Which offer was taken is not said: so those of each that fits. */
    accept(PMD ", " PMD "; " CN "; " CB "=10", PMD, agreed(false, true, 15, 10));
    accept(PMD "; " CN "; " CB "=10, " PMD, PMD, agreed(false, true, 15, 10));
    accept(PMD "; " CB ", " PMD "; " CB "=10; " CN, PMD "; " CB "=10", agreed(false, true, 15, 10));
    accept(PMD "; " SN "; " CN ", " PMD, PMD, agreed(false, false, 15, 15));
}

/* PMD-12, PMD-13, PMD-14, PMD-25 */
static void unknown_repeated_and_valued_parameters_fail(void **state)
{
    (void)state;
    static const char offer[] = WSR_DEFLATE_OFFER_DEFAULT;
    static const char *const unknown[] = { "x", "x=1", "server-no-context-takeover", "SERVER_NO_CONTEXT_TAKEOVER",
                                           "server_no_context_takeover2", "Client_max_window_bits=10" };
    static const char *const each[] = { SN, CN, SB "=10", CB "=10" };
    static const char *const values[] = { "1", "true", "0", "\"1\"" };
    char answer[256];
    for (size_t i = 0; i < COUNT_OF(unknown); i++) {
        snprintf(answer, sizeof answer, PMD "; %s", unknown[i]);
        refuse(offer, answer, "not define");
    }
    for (size_t i = 0; i < COUNT_OF(each); i++) {
        snprintf(answer, sizeof answer, PMD "; %s; %s", each[i], each[i]);
        refuse(offer, answer, "twice");
        snprintf(answer, sizeof answer, PMD "; %s; %s; %s", each[i], each[(i + 1) % 4], each[i]);
        refuse(offer, answer, "twice");
    }
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        snprintf(answer, sizeof answer, PMD "; " SN "=%s", values[i]);
        refuse(offer, answer, "value");
        snprintf(answer, sizeof answer, PMD "; " CN "=%s", values[i]);
        refuse(offer, answer, "value");
    }
}

/* PMD-15, PMD-16, PMD-25 */
static void window_bits_are_8_to_15(void **state)
{
    (void)state;
    static const char offer[] = WSR_DEFLATE_OFFER_DEFAULT;
    static const char *const values[] = { "0", "7", "16", "08", "015", "1000", "99999999999", "x", "+9", "-8", "9x",
                                          "1.0", "\"7\"", "\"\\0\\8\"", "0x9", "1e1" };
    char answer[128];
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        snprintf(answer, sizeof answer, PMD "; " SB "=%s", values[i]);
        refuse(offer, answer, "8 to 15");
        snprintf(answer, sizeof answer, PMD "; " CB "=%s", values[i]);
        refuse(offer, answer, "8 to 15");
    }
    refuse(offer, PMD "; " SB, "no value");
    refuse(offer, PMD "; " CB, "no value");
}

/* PMD-17, PMD-18, PMD-20, PMD-21: what does not go with the offer. */
static void answers_keep_to_the_offer(void **state)
{
    (void)state;
    refuse(PMD, PMD "; " CB "=15", "not offered");
    refuse(PMD "; " SB "=10", PMD "; " SB "=10; " CB "=8", "not offered");
    for (unsigned offered = 8; offered <= 15; offered++) {
        for (unsigned answered = 8; answered <= 15; answered++) {
            char offer[128], answer[128];
            struct wsr_deflate_agreed got;
            snprintf(offer, sizeof offer, PMD "; " CB "=%u", offered);
            snprintf(answer, sizeof answer, PMD "; " CB "=%u", answered);
            assert_int_equal(judge(&got, offer, answer) == NULL, answered <= offered);
            snprintf(offer, sizeof offer, PMD "; " SB "=%u", offered);
            snprintf(answer, sizeof answer, PMD "; " SB "=%u", answered);
            assert_int_equal(judge(&got, offer, answer) == NULL, answered <= offered);
        }
    }
    refuse(PMD "; " CB "=10", PMD "; " CB "=11", "larger");
    refuse(PMD "; " SB "=10", PMD "; " SB "=11", "larger");
    refuse(PMD "; " SB "=15", PMD, "lacks");
    refuse(PMD "; " SN, PMD, "lacks");
    refuse(PMD "; " SN, PMD "; " CN, "lacks");
}

/* ---- A server ---- */

static struct wsr_deflate_offer one_of(unsigned number)
{
    static const uint8_t bits[] = { 0, 8, 12, 15 };
    return (struct wsr_deflate_offer){
        .server_no_context_takeover = number & 1, .client_no_context_takeover = number >> 1 & 1,
        .limits_client = (number >> 2 & 1) || (number >> 5 & 3) != 0,
        .server_max_window_bits = bits[number >> 3 & 3], .client_max_window_bits = bits[number >> 5 & 3]
    };
}

/* Whatever is offered and wanted: what the server chooses, the client takes, and both know the same of it. */
static void what_a_server_chooses_the_client_takes(void **state)
{
    (void)state;
    unsigned chosen_count = 0;
    for (unsigned offered = 0; offered < 128; offered++) {
        for (unsigned wanted = 0; wanted < 128; wanted++) {
            struct wsr_deflate_offers offers = { .count = 1, .list = { one_of(offered) } };
            struct wsr_deflate_offer limits = one_of(wanted);
            struct wsr_deflate_agreed server, client;
            char answer[WSR_DEFLATE_ANSWER_MAX];
            bool is_chosen = wsr_deflate_offer_choose(&server, answer, &offers, &limits);
            assert_int_equal(is_chosen, limits.client_max_window_bits == 0 || offers.list[0].limits_client);
            if (!is_chosen)
                continue;
            chosen_count++;
            const char *why = wsr_deflate_offer_judge(&client, parameters_of(answer), &offers);
            if (why != NULL)
                fail_msg("%u, %u, answered %s: %s", offered, wanted, answer, why);
            if (memcmp(&server, &client, sizeof server) != 0)
                fail_msg("%u, %u, answered %s: the two differ", offered, wanted, answer);
            uint8_t most = limits.server_max_window_bits;
            assert_true(most == 0 || server.server_max_window_bits <= most);
            assert_true(!limits.server_no_context_takeover || server.server_no_context_takeover);
        }
    }
    assert_true(chosen_count > 5000);
}

/* The first that can be had, in words that a reader knows. */
static void a_server_takes_the_first_offer_that_it_can(void **state)
{
    (void)state;
    static const struct {
        const char *offer, *wanted, *answer;
    } rows[] = {
        { WSR_DEFLATE_OFFER_DEFAULT, PMD, PMD },
        { WSR_DEFLATE_OFFER_DEFAULT, PMD "; " CB "=10", PMD "; " CB "=10" },
        { PMD, PMD "; " CB "=10", NULL },
        { PMD ", " PMD "; " CB, PMD "; " CB "=10", PMD "; " CB "=10" },
        { PMD "; " SB "=9; " CN, PMD "; " SB "=12; " SN, PMD "; " SN "; " CN "; " SB "=9" },
        { "", PMD, NULL },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct wsr_deflate_offers offers = offers_of(rows[i].offer), wanted = offers_of(rows[i].wanted);
        struct wsr_deflate_agreed out;
        char answer[WSR_DEFLATE_ANSWER_MAX];
        bool is_chosen = wsr_deflate_offer_choose(&out, answer, &offers, &wanted.list[0]);
        assert_int_equal(is_chosen, rows[i].answer != NULL);
        if (is_chosen)
            assert_string_equal(answer, rows[i].answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers_are_read),
        cmocka_unit_test(several_offers_are_fallbacks),
        cmocka_unit_test(bad_offers_say_what_is_wrong),
        cmocka_unit_test(good_answers_agree),
        cmocka_unit_test(what_the_client_offered_binds_it),
        cmocka_unit_test(unknown_repeated_and_valued_parameters_fail),
        cmocka_unit_test(window_bits_are_8_to_15),
        cmocka_unit_test(answers_keep_to_the_offer),
        cmocka_unit_test(what_a_server_chooses_the_client_takes),
        cmocka_unit_test(a_server_takes_the_first_offer_that_it_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
