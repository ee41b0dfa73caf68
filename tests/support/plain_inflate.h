/* DEFLATE (RFC 1951) read bit by bit and without zlib: a second opinion on what a message of permessage-deflate is. */
#ifndef PLAIN_INFLATE_H
#define PLAIN_INFLATE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Inflate the @len bytes of a message behind the @history bytes that lie at the start of @out, at most to @room bytes.
 * Returns the bytes that the message made, or -1 when it is none: its blocks break the rules, go on behind its end, or
 * do not end with the header of the stored block whose length is the tail (RFC 7692 7.2.1). A block may be the last one
 * of a DEFLATE stream, and the next then begins a new stream with the same window, of 2^15 bytes.
 */
long plain_inflate(const uint8_t *wire, size_t len, uint8_t *out, size_t history, size_t room);

#endif
