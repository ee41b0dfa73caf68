/* Parse one URL per line of standard input, for url_differential.mjs. A line is the input in hexadecimal, and after a
 * space the base, if any. The answer is "refused", or href, origin, host, user, password, target and port with tabs
 * between. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/url.h"

#define LINE_BYTES 65536
#define TEXT_BYTES (1 << 20)

static int nibble(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Decode hexadecimal at *at up to the first other character. Returns the bytes written to @out. */
static size_t decode(const char **at, char *out)
{
    size_t len = 0;
    for (; nibble((*at)[0]) >= 0 && nibble((*at)[1]) >= 0; *at += 2)
        out[len++] = (char)(nibble((*at)[0]) << 4 | nibble((*at)[1]));
    return len;
}

static void print(struct wsr_bytes bytes, char behind)
{
    fwrite(bytes.data, 1, bytes.len, stdout);
    putchar(behind);
}

static void answer(const char *line)
{
    static char in[LINE_BYTES], base_in[LINE_BYTES], text[TEXT_BYTES], base_text[TEXT_BYTES];
    struct wsr_url url, base;
    struct wsr_fault why;
    size_t len = decode(&line, in);
    bool has_base = *line == ' ';
    int rc = 0;
    if (has_base) {
        line++;
        size_t base_len = decode(&line, base_in);
        rc = wsr_url_parse(&base, base_in, base_len, NULL, base_text, sizeof base_text, &why);
    }
    if (rc == 0)
        rc = wsr_url_parse(&url, in, len, has_base ? &base : NULL, text, sizeof text, &why);
    if (rc < 0) {
        puts("refused");
        return;
    }
    print(url.href, '\t');
    print(url.origin, '\t');
    print(url.host, '\t');
    print(url.user, '\t');
    print(url.password, '\t');
    print(url.target, '\t');
    printf("%u\n", url.port);
}

int main(void)
{
    static char line[LINE_BYTES];
    while (fgets(line, sizeof line, stdin))
        answer(line);
    return ferror(stdin) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
