#include "tests/support/sim_buffer.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/sim.h"

void sim_buffer_append(struct sim_buffer *buffer, const void *data, size_t len)
{
    if (buffer->bytes + len + 1 > buffer->capacity) {
        buffer->capacity = 2 * (buffer->bytes + len + 1);
        buffer->data = realloc(buffer->data, buffer->capacity);
        if (buffer->data == NULL)
            abort();
    }
    if (len > 0)
        memcpy(buffer->data + buffer->bytes, data, len);
    buffer->bytes += len;
    buffer->data[buffer->bytes] = '\0';
}

uint32_t sim_hash(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}
