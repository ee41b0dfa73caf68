"""What the fault server does with permessage-deflate: more scenes for fault_scenes.py, all by path.

What the client is to make of each is in fault_deflate_cases.py.
"""
import asyncio
import collections
import itertools
import random
import struct
import zlib

import inflate
from fault_scenes import BINARY, CLOSE, FRAGMENTS_MAX, GOOD, PING, PONG, TEXT, answers, by_path, close, frame

NAME = "permessage-deflate"
RSV1 = 4
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
NOTHING = "nothing"                 # the header is not there

# By scene: the answer, or several headers of it, and what the client is to offer before.
BAD_ANSWERS = {
    "unknown": (NAME + "; window_bits=15", None),
    "unknown-empty": (NAME + "; ", None),
    "flag-twice": (NAME + "; server_no_context_takeover; server_no_context_takeover", None),
    "client-flag-twice": (NAME + "; client_no_context_takeover; client_no_context_takeover", None),
    "bits-twice": (NAME + "; server_max_window_bits=10; server_max_window_bits=10", None),
    "client-bits-twice": (NAME + "; client_max_window_bits=10; client_max_window_bits=11", None),
    "flag-1": (NAME + "; server_no_context_takeover=1", None),
    "flag-true": (NAME + "; client_no_context_takeover=true", None),
    "flag-quoted": (NAME + '; client_no_context_takeover=""', None),
    "server-bare": (NAME + "; server_max_window_bits", None),
    "client-bare": (NAME + "; client_max_window_bits", None),
    **{"%s-%s" % (side, value.replace('"', "q")): (NAME + "; %s_max_window_bits=%s" % (side, value), None)
       for side in ("server", "client")
       for value in ("7", "16", "08", "1000", "x", "+9", "-8", "", '"16"', '""', "9.0", "0x9", "0", "255", "264")},
    "client-not-offered": (NAME + "; client_max_window_bits=10", NAME),
    "client-15-not-offered": (NAME + "; client_max_window_bits=15", NAME),
    "client-larger": (NAME + "; client_max_window_bits=11", NAME + "; client_max_window_bits=10"),
    "server-lacks": (NAME, NAME + "; server_max_window_bits=10"),
    "server-larger": (NAME + "; server_max_window_bits=11", NAME + "; server_max_window_bits=10"),
    "context-lacks": (NAME, NAME + "; server_no_context_takeover"),
    "fallback-neither": (NAME + "; server_max_window_bits=11", NAME + "; server_max_window_bits=10, " + NAME
                         + "; server_max_window_bits=9"),
    "fallback-mixed": (NAME + "; client_max_window_bits=9", NAME + "; client_max_window_bits=8, " + NAME),
    "other": ("permessage-bzip2", None),
    "webkit": ("x-webkit-deflate-frame", None),
    "two": (NAME + ", " + NAME, None),
    "two-others": (NAME + ", x-other", None),
    "twice": ([NAME, NAME], None),
    "twice-differing": ([NAME, NAME + "; server_no_context_takeover"], None),
    "case": ("Permessage-Deflate", None),
    "case-parameter": (NAME + "; Server_No_Context_Takeover", None),
    "comma": (NAME + ",", None),
    "semicolon": (NAME + ";", None),
    "empty": ("", None),
    "unasked": (NAME, ""),
    "unasked-parameter": (NAME + "; server_no_context_takeover", ""),
    "unasked-other": ("x-other", ""),
}

GOOD_ANSWERS = {
    "none": (NOTHING, None),
    "none-for-off": (NOTHING, ""),
    "none-for-limits": (NOTHING, NAME + "; server_max_window_bits=10; server_no_context_takeover"),
    "plain": (NAME, None),
    "server-bits": (NAME + "; server_max_window_bits=10", None),
    "server-15": (NAME + "; server_max_window_bits=15", NAME),
    "server-alone": (NAME + "; server_no_context_takeover", NAME),
    "client-alone": (NAME + "; client_no_context_takeover", NAME),
    "client-bits": (NAME + "; client_max_window_bits=8", None),
    "client-smaller": (NAME + "; client_max_window_bits=9", NAME + "; client_max_window_bits=10"),
    "server-smaller": (NAME + "; server_max_window_bits=9", NAME + "; server_max_window_bits=10"),
    "quoted": (NAME + '; server_max_window_bits="10"; client_max_window_bits="9"', None),
    "blanks": (NAME + " ;server_max_window_bits=10 ;  client_no_context_takeover", None),
    "fallback-second": (NAME, NAME + "; server_max_window_bits=10, " + NAME),
}


def header(value):
    values = value if isinstance(value, list) else [value]
    return ["Sec-WebSocket-Extensions: " + value for value in values if value != NOTHING]


for _name, (_answer, _) in [*BAD_ANSWERS.items(), *GOOD_ANSWERS.items()]:
    answers("deflate-answer-" + _name, *header(_answer))


class Deflater:
    """What a server would say: each message refers to those before."""

    def __init__(self, bits=15, level=9):
        self.z = zlib.compressobj(level, zlib.DEFLATED, -bits)

    def __call__(self, data):
        data = self.z.compress(data.encode() if isinstance(data, str) else data) + self.z.flush(zlib.Z_SYNC_FLUSH)
        return data[:-4]


def packed(opcode, payload, fin=True):
    return frame(opcode, payload, fin=fin, rsv=RSV1)


def cut(opcode, payload, step, between=b""):
    """One message in frames of @step bytes."""
    pieces = [payload[i:i + step] for i in range(0, len(payload), step)]
    return between.join(frame(0 if i else opcode, piece, fin=i == len(pieces) - 1, rsv=0 if i else RSV1)
                        for i, piece in enumerate(pieces))


def agrees(name, *pieces, answer=NAME):
    """A scene that accepts with this answer, sends these pieces and reads on."""
    @by_path("deflate-" + name)
    async def scene(peer):
        await peer.upgrade(*header(answer))
        for piece in pieces:
            await peer.send(piece)


def stored(data, final=0):
    return struct.pack("<BHH", final, len(data), 0xffff ^ len(data)) + data


HELLO, AGAIN = bytes.fromhex("f248cdc9c90700"), bytes.fromhex("f200110000")
NOISE = random.Random(7692).randbytes(4000)
STORY = ("".join("line %d of a story that is told again, and again: \u20ac \U0001f600\n" % i for i in range(60)))

# ---- Legal, if unusual ---------------------------------------------------------------------------------------

# 5.5 of the vectors, one after the other: each with what the window holds by then.
VECTORS = [HELLO, AGAIN, bytes.fromhex("000500faff48656c6c6f00"), bytes.fromhex("f348cdc9c9070000"), AGAIN,
           bytes.fromhex("f24805000000ffffcac9c90700"), b"\x00", b"\x02\x00", b"", AGAIN]
agrees("vectors", *(packed(TEXT, vector) for vector in VECTORS), frame(TEXT, "plain"), packed(TEXT, AGAIN), close(1000))


def blocks_message():
    """Every kind of block, many of them empty or called the last; ends as a message must."""
    parts = []
    for i in range(250):
        piece = NOISE[i * 7:i * 7 + 40]
        z = zlib.compressobj(i % 10, zlib.DEFLATED, -15, 9, zlib.Z_FIXED if i % 3 else zlib.Z_DEFAULT_STRATEGY)
        coded = z.compress(piece * 4)
        # With Z_FINISH the last block says that it is the last, and the next byte begins another.
        parts += [coded + z.flush(zlib.Z_FINISH if i % 2 else zlib.Z_SYNC_FLUSH), stored(piece, i % 4 == 1),
                  EMPTY_BLOCK, stored(b"", i % 5 == 1)]
    return b"".join(parts) + b"\x00"


BLOCKS = blocks_message()
agrees("blocks", packed(BINARY, BLOCKS), cut(BINARY, BLOCKS, 11), close(1000))

_say = Deflater()
PIECES = [_say(STORY), _say(STORY), _say(STORY[:50])]
agrees("pieces", *(cut(TEXT, piece, 1) for piece in PIECES), close(1000))
agrees("two-byte-pieces-and-plain", *(cut(TEXT, piece, 2) + frame(BINARY, b"plain") for piece in PIECES), close(1000))
_small = Deflater()
PINGED = _small("a ping after every byte")
PINGS = len(PINGED) - 1


@by_path("deflate-pings-inside")
async def pings_inside(peer):
    await peer.upgrade(*header(NAME))
    await peer.send(cut(TEXT, PINGED, 1, between=frame(PING, "in")))
    for _ in range(PINGS):
        await peer.read_until(PONG)
        if peer.first != 0x80 | PONG:
            return
    await peer.send(close(1000))


@by_path("deflate-drip")
async def drip(peer):
    say = Deflater()
    await peer.upgrade(*header(NAME))
    await peer.drip(packed(TEXT, say("h\u00e9llo \u20ac \U0001f600")) + packed(BINARY, say(bytes(5000)))
                    + packed(TEXT, say("h\u00e9llo")) + close(1000))


agrees("empty-fragments", packed(TEXT, b"", fin=False) + frame(0, b"", fin=False) + frame(0, HELLO, fin=False)
       + frame(0, b"", fin=False) + frame(0, b""), packed(TEXT, b"", fin=False) + frame(0, b""), packed(TEXT, AGAIN),
       close(1000))
_limit = Deflater()
agrees("limit-exact", packed(BINARY, _limit(bytes(1000))), cut(BINARY, _limit(NOISE[:1000]), 100), close(1000))
agrees("server-alone-kept", *(packed(TEXT, Deflater()(STORY)) for _ in range(3)), close(1000),
       answer=NAME + "; server_no_context_takeover")
for _bits in range(9, 16):
    _say = Deflater(_bits)
    agrees("server-bits-%d-kept" % _bits, *(packed(BINARY, _say(NOISE)) for _ in range(12)), close(1000),
           answer=NAME + "; server_max_window_bits=%d" % _bits)
ZEROS_MESSAGES, ZEROS_BYTES = 300, 1 << 20


@by_path("deflate-zeros")
async def zeros(peer):
    """300 MiB in 300 KB: each message is within the limits."""
    await peer.upgrade(*header(NAME))
    say = Deflater()
    for _ in range(ZEROS_MESSAGES):
        await peer.send(packed(BINARY, say(bytes(ZEROS_BYTES))))
    await peer.send(close(1000))


# ---- Against the rules ---------------------------------------------------------------------------------------

_half = len(PIECES[0]) // 2
agrees("rsv1-continuation", GOOD + packed(TEXT, PIECES[0][:_half], fin=False) + packed(0, PIECES[0][_half:]))
agrees("rsv1-continuation-of-plain", GOOD + frame(TEXT, "a", fin=False) + packed(0, HELLO))
agrees("rsv1-ping", GOOD + packed(PING, HELLO))
agrees("rsv1-ping-empty", GOOD + packed(PING, b""))
agrees("rsv1-pong", GOOD + packed(PONG, HELLO))
agrees("rsv1-ping-inside", GOOD + packed(TEXT, HELLO[:3], fin=False) + packed(PING, b""))
agrees("rsv1-close", GOOD + packed(CLOSE, Deflater()(b"\x03\xe8bye")))
agrees("rsv1-close-plain", GOOD + packed(CLOSE, b"\x03\xe8bye"))
agrees("close-compressed", GOOD + frame(CLOSE, Deflater()(b"\x03\xe8bye")))
agrees("rsv2", GOOD + frame(TEXT, HELLO, rsv=2))
agrees("rsv12", GOOD + frame(TEXT, HELLO, rsv=6))
agrees("rsv13", GOOD + frame(TEXT, HELLO, rsv=5))
agrees("unagreed", GOOD + packed(TEXT, HELLO), answer=NOTHING)
agrees("text-in-text", GOOD + packed(TEXT, HELLO[:3], fin=False) + packed(TEXT, HELLO))
agrees("unkept-context", GOOD + packed(TEXT, HELLO) + packed(TEXT, AGAIN), answer=NAME + "; server_no_context_takeover")
agrees("unkept-context-empty", GOOD + packed(TEXT, HELLO) + packed(TEXT, b"") + packed(TEXT, AGAIN),
       answer=NAME + "; server_no_context_takeover")
for _bits in (8, 9, 10, 14):
    # A first message as large as the largest window, then one that refers to its beginning.
    _say = Deflater()
    agrees("unkept-bits-%d" % _bits, GOOD + packed(BINARY, _say(NOISE + bytes(20000) + b"end"))
           + packed(BINARY, _say(NOISE)), answer=NAME + "; server_max_window_bits=%d" % _bits)
agrees("block-type", GOOD + packed(TEXT, b"\x06\x00"))
agrees("stored-length", GOOD + packed(TEXT, b"\x00\x05\x00\xfb\xff" + b"Hello" + b"\x00"))
agrees("stored-cut-by-4", GOOD + packed(BINARY, stored(b"123456789")[:-4]))
agrees("stored-cut-by-4-pieces", GOOD + cut(BINARY, HELLO[:-1] + stored(b"123456789")[:-4], 1))
agrees("too-far", GOOD + packed(TEXT, AGAIN))
agrees("after-final", GOOD + packed(BINARY, bytes.fromhex("f348cdc9c907") + b"\xff\xff"))
agrees("final-only", GOOD + packed(BINARY, bytes.fromhex("f348cdc9c907")))
agrees("utf8-bad", GOOD + packed(TEXT, Deflater()(b"abc\xff" + bytes(100))))
agrees("utf8-cut", GOOD + packed(TEXT, Deflater()(b"abc" * 100 + b"\xe2\x82")))
agrees("utf8-bad-early", GOOD + packed(TEXT, Deflater()(b"ok\xc0" + NOISE)[:3000], fin=False))
agrees("limit-over", GOOD + packed(BINARY, Deflater()(bytes(1001))))
agrees("limit-over-pieces", GOOD + cut(BINARY, Deflater()(NOISE[:600] + bytes(401)), 50))
agrees("limit-wire", GOOD + packed(BINARY, EMPTY_BLOCK * 500 + b"\x00"))
agrees("fragments-over", GOOD + packed(BINARY, b"", fin=False) + frame(0, b"\x02", fin=False)
       + frame(0, b"", fin=False) * FRAGMENTS_MAX)


def endless(name, begin, piece):
    """A message that makes nothing and never ends."""
    @by_path("deflate-endless-" + name)
    async def scene(peer):
        await peer.upgrade(*header(NAME))
        await peer.send(GOOD + begin)
        reading = asyncio.ensure_future(peer.read_until(CLOSE))
        while not reading.done():
            await peer.send(piece)
            await asyncio.sleep(0)


endless("blocks", packed(BINARY, b"", fin=False), frame(0, EMPTY_BLOCK * 2000, fin=False))
endless("finals", packed(BINARY, b"", fin=False), frame(0, b"\x03\x00" * 5000, fin=False))
endless("frames", packed(BINARY, b"", fin=False), frame(0, EMPTY_BLOCK, fin=False) * 2000)
endless("frame", b"\xc2\x7f" + struct.pack(">Q", 1 << 40), EMPTY_BLOCK * 2000)

BOMB_BYTES = 1 << 30


def bomb():
    """A gibibyte of zeros: the first mebibyte, and a thousand more that refer to what is before."""
    say = zlib.compressobj(9, zlib.DEFLATED, -15)
    first, again, same = (say.compress(bytes(1 << 20)) + say.flush(zlib.Z_SYNC_FLUSH) for _ in range(3))
    assert again == same and len(again) * 900 < 1 << 20
    return first + again * 1022 + again[:-4]


BOMB = bomb()
BOMB_FINAL = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB_FINAL = BOMB_FINAL.compress(bytes(1 << 20)) + BOMB_FINAL.flush(zlib.Z_FINISH)
agrees("bomb", GOOD + packed(BINARY, BOMB))
agrees("bomb-text", GOOD + packed(TEXT, BOMB))
agrees("bomb-pieces", GOOD + cut(BINARY, BOMB, 1000))
agrees("bomb-finals", GOOD + packed(BINARY, BOMB_FINAL * 1000 + b"\x00"))
agrees("bomb-alone", GOOD + packed(BINARY, BOMB), answer=NAME + "; server_no_context_takeover")

# ---- A message that is broken in another place on each connection --------------------------------------------


def sweep_message():
    """Blocks of all three kinds, short."""
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    coded = z.compress(STORY[:400].encode()) + z.flush(zlib.Z_SYNC_FLUSH)
    return HELLO[:-1] + b"\x00\x00\x00\xff\xff" + stored(b"stored here") + coded[:-4]


SWEPT = sweep_message()
CUTS = [SWEPT[:i] for i in range(len(SWEPT) + 1)]
CORRUPT = [SWEPT[:i] + bytes([SWEPT[i] ^ mask]) + SWEPT[i + 1:] for i in range(len(SWEPT)) for mask in (1, 16, 255)]
SWEEPS = {"cut": (CUTS, 1 << 20), "cut-pieces": (CUTS, 3), "corrupt": (CORRUPT, 1 << 20),
          "corrupt-pieces": (CORRUPT, 1)}


def meaning(payload):
    """None of what breaks the rules. Nothing at all is an empty message (OQ-19)."""
    try:
        return inflate.inflate(payload) if payload else b""
    except inflate.Bad:
        return None


def sweeps(name, payloads, step):
    """Each connection of a run gets the next of the payloads, and must answer with what it means, or fail with 1007."""
    counts = collections.defaultdict(itertools.count)

    @by_path("deflate-sweep-" + name)
    async def scene(peer):
        at = next(counts[peer.run_id])
        peer.run_id += ".%d" % at
        want = meaning(payloads[at])
        await peer.upgrade(*header(NAME))
        await peer.send(cut(BINARY, payloads[at], step) or packed(BINARY, b""))
        got = await peer.read_frame()
        peer.seen["right"] = got == (BINARY, want) if want is not None else \
            got is not None and got[0] == CLOSE and peer.seen["close"] == "1007"
        if got is not None and got[0] != CLOSE:
            await peer.send(close(1000))


for _name, (_payloads, _step) in SWEEPS.items():
    sweeps(_name, _payloads, _step)

# ---- What the client sends -----------------------------------------------------------------------------------


class Judge:
    """Holds every message of the client against what was agreed on."""

    def __init__(self, bits, alone):
        self.bits = bits
        self.alone = alone
        self.window = b""
        self.faults = []
        self.compressed = 0
        self.opcode = 0
        self.is_packed = False
        self.wire = b""

    def take(self, first, payload):
        """Returns (opcode, message) with its last frame."""
        opcode, rsv, fin = first & 15, first >> 4 & 7, first & 128
        if rsv & ~RSV1 or (rsv and (opcode == 0 or opcode >= 8)):
            self.faults.append("rsv %d in a frame of opcode %d" % (rsv, opcode))
        if opcode >= 8:
            return None
        if opcode != 0:
            self.opcode, self.is_packed, self.wire = opcode, rsv == RSV1, b""
        self.wire += payload
        if not fin:
            return None
        return self.opcode, self.unpack() if self.is_packed else self.wire

    def unpack(self):
        self.compressed += 1
        try:
            message = inflate.Message(self.wire, self.window)
        except inflate.Bad as bad:
            self.faults.append("message %d: %s" % (self.compressed, bad))
            return b""
        if message.farthest > 1 << self.bits:
            self.faults.append("refers back %d bytes" % message.farthest)
        if len(self.wire) >= len(message.output):
            self.faults.append("%d bytes became %d" % (len(message.output), len(self.wire)))
        if not self.alone:
            self.window = (self.window + message.output)[-(1 << self.bits):]
        return message.output


def takes(name, answer, bits, alone):
    """Judges each message and sends it back as it is; the client closes."""
    @by_path("deflate-take-" + name)
    async def scene(peer):
        await peer.upgrade(*header(answer))
        judge = Judge(bits, alone)
        while True:
            got = await peer.read_frame()
            if got is None or got[0] == CLOSE:
                break
            message = judge.take(peer.first, got[1])
            if message:
                await peer.send(frame(*message))
        peer.seen.update(faults="; ".join(judge.faults), compressed=judge.compressed)
        await peer.send(close(1000))


TAKES = {}
for _bits, _alone in itertools.product(range(8, 16), (False, True)):
    _name = "%d%s" % (_bits, "-alone" if _alone else "")
    _limits = "%s; client_max_window_bits=%d%s" % (NAME, _bits, "; client_no_context_takeover" if _alone else "")
    takes(_name, _limits, _bits, _alone)
    TAKES[_name] = None
    # The client keeps to its own hints where the answer says nothing.
    takes(_name + "-own", NAME, _bits, _alone)
    TAKES[_name + "-own"] = _limits
