"""DEFLATE (RFC 1951) read slowly and strictly, for messages of permessage-deflate: what zlib does not tell is how far
back a message refers, and whether it ends where a message may.
"""


class Bad(Exception):
    pass


TAIL = b"\x00\x00\xff\xff"
LENGTHS = [(0, 3 + i) for i in range(8)] + [(bits, 3 + (1 << (bits + 2)) + (i << bits))
                                            for bits in range(1, 6) for i in range(4)] + [(0, 258)]
DISTANCES = [(0, 1 + i) for i in range(4)] + [(bits, 1 + (1 << (bits + 1)) + (i << bits))
                                              for bits in range(1, 14) for i in range(2)]
ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]


class Bits:
    def __init__(self, data):
        self.data = data
        self.at = 0                     # in bits

    def take(self, count):
        value = 0
        for i in range(count):
            if self.at >> 3 >= len(self.data):
                raise Bad("the bits are at their end")
            value |= (self.data[self.at >> 3] >> (self.at & 7) & 1) << i
            self.at += 1
        return value

    def align(self):
        self.at = (self.at + 7) & ~7

    def is_over(self):
        return self.at == 8 * len(self.data)


def make_codes(lengths, may_be_one=False):
    """{(length, code): symbol}; @may_be_one: a single code of one bit needs no other."""
    codes, code, left = {}, 0, 1
    for length in range(1, 16):
        code, left = code << 1, left * 2
        for symbol, of_symbol in enumerate(lengths):
            if of_symbol == length:
                codes[length, code] = symbol
                code, left = code + 1, left - 1
        if left < 0:
            raise Bad("too many codes")
    if left > 0 and not (may_be_one and (not codes or list(codes) == [(1, 0)])):
        raise Bad("too few codes")
    return codes


def take_symbol(bits, codes):
    code = 0
    for length in range(1, 16):
        code = code << 1 | bits.take(1)
        if (length, code) in codes:
            return codes[length, code]
    raise Bad("no such code")


FIXED = (make_codes([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8), make_codes([5] * 32))


def take_tables(bits):
    literals, distances, count = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4
    if literals > 286 or distances > 30:
        raise Bad("too many symbols")
    of_lengths = [0] * 19
    for i in range(count):
        of_lengths[ORDER[i]] = bits.take(3)
    codes = make_codes(of_lengths)
    lengths = []
    while len(lengths) < literals + distances:
        symbol = take_symbol(bits, codes)
        if symbol == 16 and not lengths:
            raise Bad("nothing to repeat")
        if symbol < 16:
            lengths.append(symbol)
        elif symbol == 16:
            lengths += [lengths[-1]] * (3 + bits.take(2))
        else:
            lengths += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
    if len(lengths) > literals + distances or lengths[256] == 0:
        raise Bad("lengths are amiss")
    return make_codes(lengths[:literals], True), make_codes(lengths[literals:], True)


class Message:
    """@output: what was made, @farthest: the largest distance, @finals: blocks that called themselves the last."""

    def __init__(self, data, window=b""):
        self.bits = Bits(data + TAIL)
        self.made = bytearray(window)
        self.farthest = 0
        self.finals = 0
        length_at = None                # where a stored block has its length
        while not self.bits.is_over():
            length_at = self.take_block()
        if length_at != len(data):
            raise Bad("the tail is not the end of an empty block")
        self.output = bytes(self.made[len(window):])

    def take_block(self):
        is_final, kind = self.bits.take(1), self.bits.take(2)
        length_at = None
        if kind == 3:
            raise Bad("no such block")
        if kind == 0:
            length_at = self.take_stored()
        else:
            self.take_coded(*(FIXED if kind == 1 else take_tables(self.bits)))
        if is_final:
            self.finals += 1
            self.bits.align()
        return None if is_final else length_at

    def take_stored(self):
        self.bits.align()
        at = self.bits.at >> 3
        length, check = self.bits.take(16), self.bits.take(16)
        if length ^ check != 0xffff:
            raise Bad("a stored block's length is amiss")
        if at + 4 + length > len(self.bits.data):
            raise Bad("a stored block is cut")
        self.made += self.bits.data[at + 4:at + 4 + length]
        self.bits.at += 8 * length
        return at if length == 0 else None

    def take_coded(self, literals, distances):
        while True:
            symbol = take_symbol(self.bits, literals)
            if symbol == 256:
                return
            if symbol < 256:
                self.made.append(symbol)
                continue
            if symbol > 285:
                raise Bad("no such length")
            more, length = LENGTHS[symbol - 257]
            length += self.bits.take(more)
            symbol = take_symbol(self.bits, distances)
            if symbol > 29:
                raise Bad("no such distance")
            more, distance = DISTANCES[symbol]
            distance += self.bits.take(more)
            if distance > len(self.made):
                raise Bad("too far back")
            self.farthest = max(self.farthest, distance)
            for _ in range(length):
                self.made.append(self.made[-distance])


def inflate(data, window=b""):
    """What the message stands for; the inflater knows @window already."""
    return Message(data, window).output


def is_good(data, window=b""):
    try:
        Message(data, window)
    except Bad:
        return False
    return True
