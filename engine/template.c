#include "template.h"

#include <stdlib.h>

#include "error.h"
#include "simd/simd.h"

int wsr_template_create(struct wsr_template **prepared, enum wsr_kind kind, const void *data, size_t len)
{
    bool is_text = kind == WSR_TEXT || kind == WSR_TEXT_UNCOMPRESSED;
    bool is_binary = kind == WSR_BINARY || kind == WSR_BINARY_UNCOMPRESSED;
    if (prepared == NULL || !(is_text || is_binary) || (data == NULL && len > 0))
        return wsr_error_set(WSR_ERR_ARGUMENT, "a template needs WSR_TEXT or WSR_BINARY, bytes, and a place for it");
    uint32_t state = 0;
    if (is_text && len > 0 && (wsr_simd()->utf8(&state, data, len) < len || state != 0))
        return wsr_error_set(WSR_ERR_INVALID_UTF8, "the text is not valid UTF-8; send it as WSR_BINARY, or encode it");
    struct wsr_template *made = NULL;
    if (len <= SIZE_MAX - sizeof *made - WSR_CACHE_LINE)
        made = aligned_alloc(WSR_CACHE_LINE, (sizeof *made + len + WSR_CACHE_LINE - 1) & ~(size_t)(WSR_CACHE_LINE - 1));
    if (made == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for a template of %zu bytes", len);
    made->kind = kind;
    made->part = (struct iovec){ made->payload, len };
    if (len > 0)
        memcpy(made->payload, data, len);
    *prepared = made;
    return 0;
}

void wsr_template_free(struct wsr_template *prepared)
{
    free(prepared);
}
