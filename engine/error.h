/* What a refused call found, told once in words. */
#ifndef WSR_ERROR_H
#define WSR_ERROR_H

#include "base.h"

/* Remember the sentence for wsr_error_text() of this thread; returns @error. */
int wsr_error_set(int error, const char *format, ...) WSR_PRINTF(2, 3);

#endif
