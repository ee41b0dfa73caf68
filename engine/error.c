/* The names of the errors, and the last sentence of each thread. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_text[384];

int wsr_error_set(int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(last_text, sizeof last_text, format, args);
    va_end(args);
    return error;
}

const char *wsr_error_text(void)
{
    return last_text;
}

const char *wsr_error_name(int error)
{
    static const char *const names[] = {
        "WSR_OK", "WSR_ERR_SYNTAX", "WSR_ERR_INVALID_STATE", "WSR_ERR_INVALID_ACCESS", "WSR_ERR_INVALID_UTF8",
        "WSR_ERR_QUOTA", "WSR_ERR_ARGUMENT", "WSR_ERR_NOT_SUPPORTED", "WSR_ERR_MEMORY", "WSR_ERR_SYSTEM",
        "WSR_ERR_BUSY", "WSR_ERR_THREAD",
    };
    const int count = (int)(sizeof names / sizeof names[0]);
    return error <= 0 && error > -count ? names[-error] : "unknown";
}
