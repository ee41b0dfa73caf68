/* Option structures that can grow: the caller's may be older or newer than the library's. */
#ifndef WSR_OPTIONS_H
#define WSR_OPTIONS_H

#include "base.h"

/*
 * Copy the caller's structure @from (NULL = leave the defaults), which begins with its size, into @to of @to_size
 * bytes. Returns 0, or WSR_ERR_ARGUMENT when its size is none or bytes that this library does not know are set. @name
 * is for the sentence.
 */
WSR_MUST_USE int wsr_options_copy(void *to, uint32_t to_size, const void *from, const char *name);

#endif
