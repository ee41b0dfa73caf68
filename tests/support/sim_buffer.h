/* Bytes that grow, with a NUL behind them; all zero at first, free(data) at last. */
#ifndef SIM_BUFFER_H
#define SIM_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct sim_buffer {
    uint8_t *data;
    size_t bytes, capacity;
};

void sim_buffer_append(struct sim_buffer *buffer, const void *data, size_t len);

#endif
