#include "tests/support/plain_inflate.h"

#include <stdbool.h>
#include <string.h>

#define BITS_MAX 15
#define SYMBOLS_MAX 288
#define WINDOW_BYTES 32768u

struct reader {
    const uint8_t *wire;
    size_t bits, at;        /* of the message; the next one to be read */
    uint8_t *out;
    size_t used, room;
    bool is_bad;
};

/* A Huffman code: how many symbols have each length, and the symbols in order of their codes. */
struct code {
    uint16_t count[BITS_MAX + 1];
    uint16_t symbol[SYMBOLS_MAX];
};

static unsigned bits_of(struct reader *r, unsigned count)
{
    unsigned value = 0;
    if (r->bits - r->at < count)
        r->is_bad = true;
    for (unsigned i = 0; i < count && !r->is_bad; i++, r->at++)
        value |= (r->wire[r->at / 8] >> r->at % 8 & 1u) << i;
    return value;
}

static void put(struct reader *r, uint8_t byte)
{
    if (r->used == r->room)
        r->is_bad = true;
    else
        r->out[r->used++] = byte;
}

/* Returns how many codes are left over; less than 0: there are too many. */
static int code_make(struct code *code, const uint8_t *lengths, unsigned count)
{
    uint16_t first[BITS_MAX + 2] = { 0 };
    int left = 1;
    memset(code, 0, sizeof *code);
    for (unsigned i = 0; i < count; i++)
        code->count[lengths[i]]++;
    for (unsigned len = 1; len <= BITS_MAX; len++) {
        left = 2 * left - code->count[len];
        if (left < 0)
            return left;
        first[len + 1] = (uint16_t)(first[len] + code->count[len]);
    }
    for (unsigned i = 0; i < count; i++) {
        if (lengths[i] != 0)
            code->symbol[first[lengths[i]]++] = (uint16_t)i;
    }
    return left;
}

static unsigned symbol_of(struct reader *r, const struct code *code)
{
    unsigned value = 0, first = 0, index = 0;
    for (unsigned len = 1; len <= BITS_MAX; len++) {
        value |= bits_of(r, 1);
        unsigned count = code->count[len];
        if (value < first + count)
            return code->symbol[index + value - first];
        index += count;
        first = (first + count) << 1;
        value <<= 1;
    }
    r->is_bad = true;
    return 0;
}

static void copy_match(struct reader *r, unsigned length, const struct code *distances)
{
    static const uint16_t base[30] = { 1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769,
                                       1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577 };
    unsigned symbol = symbol_of(r, distances);
    if (r->is_bad || symbol >= 30) {
        r->is_bad = true;
        return;
    }
    size_t distance = base[symbol] + bits_of(r, symbol < 4 ? 0 : symbol / 2 - 1);
    if (distance > r->used || distance > WINDOW_BYTES)
        r->is_bad = true;
    for (unsigned i = 0; i < length && !r->is_bad; i++)
        put(r, r->out[r->used - distance]);
}

static void read_symbols(struct reader *r, const struct code *literals, const struct code *distances)
{
    static const uint16_t base[29] = { 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83,
                                       99, 115, 131, 163, 195, 227, 258 };
    while (!r->is_bad) {
        unsigned symbol = symbol_of(r, literals);
        if (r->is_bad || symbol == 256)
            return;
        if (symbol < 256) {
            put(r, (uint8_t)symbol);
        } else if (symbol > 285) {
            r->is_bad = true;
        } else {
            unsigned index = symbol - 257;
            unsigned extra = index < 8 || index == 28 ? 0 : index / 4 - 1;
            copy_match(r, base[index] + bits_of(r, extra), distances);
        }
    }
}

static void read_fixed(struct reader *r)
{
    struct code literals, distances;
    uint8_t lengths[SYMBOLS_MAX];
    for (unsigned i = 0; i < SYMBOLS_MAX; i++)
        lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    code_make(&literals, lengths, SYMBOLS_MAX);
    memset(lengths, 5, 32);
    code_make(&distances, lengths, 32);
    read_symbols(r, &literals, &distances);
}

/* The lengths of @count codes, themselves in a code. */
static void read_lengths(struct reader *r, const struct code *code, uint8_t *lengths, unsigned count)
{
    for (unsigned i = 0; i < count && !r->is_bad;) {
        unsigned symbol = symbol_of(r, code), times = 1;
        uint8_t length = (uint8_t)symbol;
        if (symbol >= 16) {
            if (symbol == 16 && i == 0)
                r->is_bad = true;
            length = symbol == 16 && i > 0 ? lengths[i - 1] : 0;
            times = symbol == 16 ? 3 + bits_of(r, 2) : symbol == 17 ? 3 + bits_of(r, 3) : 11 + bits_of(r, 7);
        }
        if (times > count - i)
            r->is_bad = true;
        for (; times > 0 && !r->is_bad; times--)
            lengths[i++] = length;
    }
}

static void read_dynamic(struct reader *r)
{
    static const uint8_t order[19] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };
    uint8_t lengths[320] = { 0 };
    struct code code, distances;
    unsigned literal_count = 257 + bits_of(r, 5), distance_count = 1 + bits_of(r, 5), count = 4 + bits_of(r, 4);
    for (unsigned i = 0; i < count; i++)
        lengths[order[i]] = (uint8_t)bits_of(r, 3);
    if (r->is_bad || literal_count > 286 || distance_count > 30 || code_make(&code, lengths, 19) != 0) {
        r->is_bad = true;
        return;
    }
    memset(lengths, 0, sizeof lengths);
    read_lengths(r, &code, lengths, literal_count + distance_count);
    /* Only a code of one symbol may lack others. */
    int literals_left = code_make(&code, lengths, literal_count);
    bool is_one = literal_count - code.count[0] == 1 && code.count[1] == 1;
    int distances_left = code_make(&distances, lengths + literal_count, distance_count);
    unsigned distances_used = distance_count - distances.count[0];
    bool is_few = distances_used == 0 || (distances_used == 1 && distances.count[1] == 1);
    if (lengths[256] == 0 || literals_left < 0 || distances_left < 0 || (literals_left > 0 && !is_one) ||
        (distances_left > 0 && !is_few))
        r->is_bad = true;
    if (!r->is_bad)
        read_symbols(r, &code, &distances);
}

/* Returns true when the message ends with the header of this block. */
static bool read_stored(struct reader *r)
{
    r->at = (r->at + 7) / 8 * 8;
    if (r->at == r->bits)
        return true;
    unsigned length = bits_of(r, 16), inverse = bits_of(r, 16);
    if (length != (~inverse & 0xffffu))
        r->is_bad = true;
    for (; length > 0 && !r->is_bad; length--) {
        uint8_t byte = (uint8_t)bits_of(r, 8);
        if (!r->is_bad)
            put(r, byte);
    }
    return false;
}

long plain_inflate(const uint8_t *wire, size_t len, uint8_t *out, size_t history, size_t room)
{
    struct reader r = { .wire = wire, .bits = 8 * len, .out = out, .used = history, .room = room };
    while (!r.is_bad) {
        bool is_last = bits_of(&r, 1);
        unsigned type = bits_of(&r, 2);
        if (r.is_bad)
            break;
        if (type == 0 && read_stored(&r))
            return (long)(r.used - history);
        if (type == 1)
            read_fixed(&r);
        else if (type == 2)
            read_dynamic(&r);
        else if (type == 3)
            r.is_bad = true;
        if (is_last)
            r.at = (r.at + 7) / 8 * 8;
    }
    return -1;
}
