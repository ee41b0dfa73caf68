/* Copying option structures between versions. */
#include "options.h"

#include "error.h"

int wsr_options_copy(void *to, uint32_t to_size, const void *from, const char *name)
{
    uint32_t from_size;
    if (from == NULL)
        return 0;
    memcpy(&from_size, from, sizeof from_size);
    if (from_size < sizeof from_size || from_size > 4096)
        return wsr_error_set(WSR_ERR_ARGUMENT, "%s.size is %u; start with the INIT macro of the structure", name,
                             from_size);
    const uint8_t *bytes = from;
    for (uint32_t i = to_size; i < from_size; i++) {
        if (bytes[i] != 0)
            return wsr_error_set(WSR_ERR_ARGUMENT, "%s sets something that library version " WSR_VERSION
                                 " does not know (byte %u)", name, i);
    }
    memset(to, 0, to_size);
    memcpy(to, from, from_size < to_size ? from_size : to_size);
    memcpy(to, &to_size, sizeof to_size);
    return 0;
}
