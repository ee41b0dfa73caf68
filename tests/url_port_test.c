/* engine/url_port: each of the 65,536 ports against the list, read as text.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/url_port.h"

/* URL-36 */
static void the_83_ports_of_the_standard_are_bad_and_no_others(void **state)
{
    static const char list[] =
        ",0,1,7,9,11,13,15,17,19,20,21,22,23,25,37,42,43,53,69,77,79,87,95,101,102,103,104,109,110,111,113,115,117,119,"
        "123,135,137,139,143,161,179,389,427,465,512,513,514,515,526,530,531,532,540,548,554,556,563,587,601,636,989,"
        "990,993,995,1719,1720,1723,2049,3659,4045,4190,5060,5061,6000,6566,6665,6666,6667,6668,6669,6679,6697,10080,";
    (void)state;
    unsigned count = 0;
    for (unsigned port = 0; port < 65536; port++) {
        char text[16];
        snprintf(text, sizeof text, ",%u,", port);
        bool is_bad = wsr_url_port_is_bad((uint16_t)port);
        if (is_bad != (strstr(list, text) != NULL))
            fail_msg("port %u", port);
        count += is_bad;
    }
    assert_int_equal(count, 83);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_83_ports_of_the_standard_are_bad_and_no_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
