/* permessage-deflate as the simulated peer speaks it: zlib alone, both contexts kept. */
#ifndef SIM_DEFLATE_H
#define SIM_DEFLATE_H

#include <stddef.h>
#include <stdint.h>

struct sim_deflate;

/* Aborts without memory; this is for tests. */
struct sim_deflate *sim_deflate_create(void);
void sim_deflate_free(struct sim_deflate *deflate);    /* NULL is allowed */
/* Both return malloc, with *out_bytes set; NULL when @wire is none. */
uint8_t *sim_deflate_deflate(struct sim_deflate *deflate, const void *text, size_t len, size_t *out_bytes);
uint8_t *sim_deflate_inflate(struct sim_deflate *deflate, const uint8_t *wire, size_t len, size_t *out_bytes);
/* What comes and goes from now on knows nothing of what was before. */
void sim_deflate_reset(struct sim_deflate *deflate);

#endif
