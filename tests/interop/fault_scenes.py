"""What the fault server does, scene by scene: each is one coroutine that is given the peer.

BY_PATH: after the request was read. BY_PORT: from the moment that TCP is connected.
What the client is to make of each is in fault_cases.py.
"""
import asyncio
import struct
import zlib

BY_PATH = {}
BY_PORT = {}

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

NUMBERS_COUNT = 100000
STREAM_MESSAGES = 200
STREAM_BYTES = 1 << 20
FRAGMENTS_MAX = 131072


def frame(opcode, payload=b"", fin=True, rsv=0, mask=False, length_form=None):
    """One frame; length_form 16 or 64 forces a longer form than needed."""
    if isinstance(payload, str):
        payload = payload.encode()
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    length = len(payload)
    if length_form == 64 or length > 65535:
        head = struct.pack(">BBQ", first, 127, length)
    elif length_form == 16 or length > 125:
        head = struct.pack(">BBH", first, 126, length)
    else:
        head = struct.pack(">BB", first, length)
    if mask:
        head = head[:1] + bytes([head[1] | 0x80]) + head[2:] + bytes(4)
    return head + payload


def close(code=None, reason=""):
    if isinstance(reason, str):
        reason = reason.encode()
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


def stream_block():
    """A mebibyte in which every 4 KiB differ, the same in every run."""
    return b"".join(struct.pack(">I", zlib.crc32(struct.pack(">I", i))) for i in range(STREAM_BYTES // 4))


def stream_message(block, i):
    return block[i:] + block[:i]


def by_path(name):
    def add(scene):
        BY_PATH[name] = scene
        return scene
    return add


def by_port(name):
    def add(scene):
        BY_PORT[name] = scene
        return scene
    return add


# ---- Before a request is read ------------------------------------------------------------------------


@by_port("accept-close")
async def accept_close(peer):
    peer.writer.close()
    peer.seen["end"] = "cut"


@by_port("accept-reset")
async def accept_reset(peer):
    peer.reset()


@by_port("accept-stall")
async def accept_stall(peer):
    peer.stop_reading()
    await asyncio.sleep(2)
    peer.seen["end"] = "cut"


@by_port("accept-noise")
async def accept_noise(peer):
    await peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")


@by_port("accept-answer")
async def accept_answer(peer):
    """A whole answer before the request could be read: its Accept cannot be right."""
    await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n")


# ---- The answer: cut, stalled, not HTTP -------------------------------------------------------------


@by_path("request-close")
async def request_close(peer):
    peer.cut()


@by_path("request-reset")
async def request_reset(peer):
    peer.reset()


@by_path("request-stall")
async def request_stall(peer):
    await peer.read_to_end()


@by_path("head-close")
async def head_close(peer):
    await peer.send(peer.head()[:60])
    peer.cut()


@by_path("head-reset")
async def head_reset(peer):
    await peer.send(peer.head()[:60])
    await asyncio.sleep(0.1)
    peer.reset()


@by_path("head-stall")
async def head_stall(peer):
    await peer.send(peer.head()[:60])
    await peer.read_to_end()


def says(name, data):
    """A scene that is one piece of bytes, whatever was asked."""
    @by_path(name)
    async def scene(peer):
        await peer.send(data)


says("garbage", b"FOO BAR BAZ\r\n\r\n")
says("garbage-endless", b"x" * 4096)
says("mail", b"220 mail.example ESMTP ready\r\n")
says("tls-alert", b"\x15\x03\x01\x00\x02\x02\x46")
says("zeros", bytes(1000))
says("frames-only", frame(TEXT, "no head at all"))
says("status-200", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
says("status-301", b"HTTP/1.1 301 Moved Permanently\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
says("status-401", b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
says("status-404", b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 46\r\n\r\n"
     b"<html><body><h1>Not Found</h1></body></html>\r\n")
says("status-404-chunked", b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nnever the rest")
says("status-426", b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nSec-WebSocket-Version: 8\r\n\r\n")
says("status-503", b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n")
says("head-huge", b"HTTP/1.1 101 Switching Protocols\r\nX-Pad: " + b"p" * 102400 + b"\r\n\r\n")
says("head-lines", b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-Line: 1\r\n" * 100000 + b"\r\n")


# ---- The answer: HTTP, but not this upgrade ---------------------------------------------------------


def answers(name, *extra, **changes):
    """A scene that is an altered answer, then a server Close for the client that accepts it."""
    @by_path(name)
    async def scene(peer):
        lines = [line.replace("%ACCEPT%", peer.accept()) for line in extra]
        await peer.send(peer.head(*lines, **changes))
        await peer.send(close(1000))


answers("http10", status="HTTP/1.0 101 Switching Protocols")
answers("http2", status="HTTP/2 101")
answers("no-reason", status="HTTP/1.1 101")
answers("reason-colon", status="HTTP/1.1 101 Switching Protocols:")
answers("key-wrong", "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=", without=["Sec-WebSocket-Accept"])
answers("key-missing", without=["Sec-WebSocket-Accept"])
answers("key-twice", "Sec-WebSocket-Accept: %ACCEPT%")
answers("upgrade-missing", without=["Upgrade"])
answers("upgrade-other", "Upgrade: h2c", without=["Upgrade"])
answers("upgrade-list", "Upgrade: websocket, h2c", without=["Upgrade"])
answers("upgrade-twice", "Upgrade: websocket")
answers("upgrade-case", "uPGRADE: WebSocket", without=["Upgrade"])
answers("connection-missing", without=["Connection"])
answers("connection-other", "Connection: close", without=["Connection"])
answers("connection-list", "Connection: keep-alive, upgrade", without=["Connection"])
answers("connection-lines", "Connection: keep-alive", "Connection: Upgrade", without=["Connection"])
answers("extension-unasked", "Sec-WebSocket-Extensions: permessage-deflate")
answers("extension-empty", "Sec-WebSocket-Extensions:")
answers("protocol-unasked", "Sec-WebSocket-Protocol: chat")
answers("protocol-missing")
answers("protocol-case", "Sec-WebSocket-Protocol: CHAT")
answers("protocol-twice", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat")
answers("protocol-good", "Sec-WebSocket-Protocol: chat")
answers("fold", "X-Folded: one", " two")
answers("space-colon", "X-Space : 1")
answers("no-colon", "X-No-Colon")
answers("nul", "X-Nul: a\0b")
answers("body-length", "Content-Length: 4")
answers("lines-1000", *["X-Line-%d: 1" % i for i in range(1000)])


@by_path("bare-lf")
async def bare_lf(peer):
    await peer.send(peer.head().replace(b"\r\n", b"\n"))


@by_path("interim")
async def interim(peer):
    await peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    await asyncio.sleep(0.05)
    await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + peer.head() + frame(TEXT, "late") + close(1000))


@by_path("interim-flood")
async def interim_flood(peer):
    await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@by_path("early-frames")
async def early_frames(peer):
    await peer.send(peer.head() + frame(TEXT, "one") + frame(BINARY, b"two") + frame(TEXT) + close(1000, "done"))


@by_path("drip")
async def drip(peer):
    text = "h\u00e9llo \u20ac \U0001f600"
    await peer.drip(peer.head() + frame(TEXT, text) + frame(BINARY, b"z" * 130) + frame(PING, "beat")
                    + close(4000, "\u20ac"))


# ---- Frames -----------------------------------------------------------------------------------------


def frames(name, *pieces, pause_s=0.0):
    """A scene that accepts, sends these pieces (each in a segment of its own when a pause is given) and reads on."""
    @by_path(name)
    async def scene(peer):
        await peer.upgrade()
        for piece in pieces:
            await asyncio.sleep(pause_s)
            await peer.send(piece)


GOOD = frame(TEXT, "good")

frames("masked", GOOD + frame(TEXT, "masked", mask=True))
frames("rsv1", GOOD + frame(TEXT, "x", rsv=4))
frames("rsv2", GOOD + frame(TEXT, "x", rsv=2))
frames("rsv3", GOOD + frame(TEXT, "x", rsv=1))
frames("opcode-3", GOOD + frame(3, "x"))
frames("opcode-11", GOOD + frame(11, "x"))
frames("length-16", GOOD + frame(BINARY, b"x" * 125, length_form=16))
frames("length-64", GOOD + frame(BINARY, b"x" * 65535, length_form=64))
frames("length-top", GOOD + b"\x82\x7f" + struct.pack(">Q", 1 << 63))
frames("length-huge", GOOD + b"\x82\x7f" + struct.pack(">Q", (1 << 62) - 1))
frames("ping-long", GOOD + frame(PING, b"x" * 126))
frames("ping-fragment", GOOD + frame(PING, "x", fin=False))
frames("continuation", GOOD + frame(0, "x"))
frames("text-in-text", GOOD + frame(TEXT, "a", fin=False) + frame(TEXT, "b"))
frames("limit-exact", frame(BINARY, b"x" * 1000) + frame(BINARY, b"x" * 600, fin=False) + frame(0, b"y" * 400)
       + close(1000))
frames("limit-frame", GOOD + frame(BINARY, b"x" * 1001))
frames("limit-sum", GOOD + frame(BINARY, b"x" * 600, fin=False) + frame(0, b"y" * 401))
frames("utf8-bad", GOOD + frame(TEXT, b"abc\xff"))
frames("utf8-bad-split", GOOD, frame(TEXT, b"\xe2", fin=False), b"\x80\x02\x28", b"\xa1", pause_s=0.03)
frames("utf8-bad-early", GOOD + b"\x81\x7e\xff\xff" + b"ok\xc0")
frames("utf8-cut", GOOD + frame(TEXT, b"\xe2\x82"))
frames("utf8-surrogate", GOOD + frame(TEXT, b"\xed\xa0\x80"))
frames("utf8-split", frame(TEXT, b"\xe2", fin=False), frame(0, b"\x82", fin=False), b"\x00\x03\xac", b"\xf0\x9f",
       b"\x80\x02\x98", b"\x80" + frame(BINARY, b"\xff\xfe") + close(1000), pause_s=0.03)
frames("close-1-byte", GOOD + frame(CLOSE, b"\x03"))
frames("close-126", GOOD + frame(CLOSE, b"\x03\xe8" + b"x" * 124))
frames("close-bad-reason", GOOD + close(1000, b"\xff"))
for _code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535):
    frames("close-%d" % _code, GOOD + close(_code))
for _code in (1001, 1003, 1011, 1014, 3000, 4999):
    frames("close-%d" % _code, GOOD + close(_code, "why"))
frames("close-empty", GOOD + close())
frames("close-reason-123", GOOD + close(1000, "\u20ac" * 41))
frames("close-then-data", GOOD + close(1000, "end") + frame(TEXT, "after") + frame(PING, "after") + close(1001)
       + b"\xff\xff\xff")
frames("fragments-most", b"".join([frame(BINARY, b"x", fin=False), frame(0, b"x", fin=False) * (FRAGMENTS_MAX - 2),
                                   frame(0, b"x"), close(1000)]))
frames("fragments-over", b"".join([GOOD, frame(BINARY, b"x", fin=False), frame(0, b"x", fin=False) * FRAGMENTS_MAX]))
frames("fragments-empty", b"".join([GOOD, frame(BINARY, b"", fin=False), frame(0, b"", fin=False) * FRAGMENTS_MAX]))
frames("pings-then-close", frame(PING, "first") + frame(PING, "second") + close(1000))


def pings(name, data, count):
    """A scene that closes once so many Pongs have come."""
    @by_path(name)
    async def scene(peer):
        await peer.upgrade()
        await peer.send(data)
        for _ in range(count):
            await peer.read_until(PONG)
        await peer.send(close(1000))


pings("pings-ten", b"".join(frame(PING, "ping %d" % i) for i in range(10)) + frame(PONG, "unasked"), 10)
pings("pings-inside", frame(TEXT, "a", fin=False) + frame(PING, "in") + frame(0, "b") + frame(PING), 2)


# ---- Ends -------------------------------------------------------------------------------------------


@by_path("open-eof")
async def open_eof(peer):
    await peer.send(peer.head() + GOOD)
    peer.cut()


@by_path("frame-eof")
async def frame_eof(peer):
    await peer.send(peer.head() + GOOD + frame(TEXT, "half")[:4])
    peer.cut()


@by_path("length-eof")
async def length_eof(peer):
    await peer.send(peer.head() + GOOD + frame(BINARY, b"x" * 300)[:3])
    peer.cut()


def resets_after(name, *pieces):
    """A scene that resets once the client has answered the message "good", so that nothing is in flight."""
    @by_path(name)
    async def scene(peer):
        await peer.upgrade()
        await peer.send(GOOD)
        await peer.read_until(TEXT)
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0.1)
        peer.reset()


resets_after("open-reset")
resets_after("length-reset", frame(BINARY, b"x" * 300)[:3])
resets_after("frame-reset", frame(TEXT, "half")[:4])
resets_after("fragment-reset", frame(TEXT, "half", fin=False))


@by_path("close-reset")
async def close_reset(peer):
    """Both Close frames have passed, then a RST instead of a FIN."""
    await peer.upgrade()
    await peer.send(GOOD + close(1000, "bye"))
    await peer.read_until(CLOSE)
    peer.reset()


@by_path("close-no-fin")
async def close_no_fin(peer):
    """Both Close frames have passed, and this side never ends TCP."""
    peer.ends_tcp = False
    await peer.upgrade()
    await peer.send(GOOD + close(1000, "bye"))


# ---- The client closes first ------------------------------------------------------------------------


def answers_close(name, *pieces, ends_tcp=True):
    """A scene that says "good", waits for the client's Close and answers with these bytes."""
    @by_path(name)
    async def scene(peer):
        await peer.upgrade()
        await peer.send(GOOD)
        await peer.read_until(CLOSE)
        for piece in pieces:
            await peer.send(piece)
        peer.ends_tcp = ends_tcp
        if ends_tcp:
            peer.cut()


answers_close("closing-same", close(4111, "bye"))
answers_close("closing-other", close(4222, "remote"))
answers_close("closing-empty", close())
answers_close("closing-data", frame(TEXT, "late 1") + frame(BINARY, b"late 2") + close(1000))
answers_close("closing-eof")
answers_close("closing-never", ends_tcp=False)
answers_close("closing-bad", frame(3, "x"))
answers_close("closing-ping", frame(PING, "still there") + close(1000))


@by_path("closing-reset")
async def closing_reset(peer):
    await peer.upgrade()
    await peer.send(GOOD)
    await peer.read_until(CLOSE)
    peer.reset()


@by_path("crossing")
async def crossing(peer):
    """Both Close frames are under way at once."""
    await peer.upgrade()
    await peer.send(GOOD)
    await peer.read_until(TEXT)
    await peer.send(close(1001, "crossing"))


@by_path("talk")
async def talk(peer):
    """Says "good" and then answers only a Close: for clients that destroy or close by themselves."""
    await peer.upgrade()
    await peer.send(GOOD)
    if await peer.read_until(CLOSE) is not None:
        await peer.send(close(1000))


# ---- Amounts ----------------------------------------------------------------------------------------


@by_path("echo")
async def echo(peer):
    await peer.upgrade()
    while True:
        got = await peer.read_frame()
        if got is None:
            return
        await peer.send(frame(got[0], got[1]))
        if got[0] == CLOSE:
            return


@by_path("deaf")
async def deaf(peer):
    """Never reads a frame."""
    await peer.upgrade()
    peer.stop_reading()
    await peer.send(GOOD)
    await asyncio.sleep(5)
    peer.seen["end"] = "cut"


@by_path("slow")
async def slow(peer):
    """Reads nothing for half a second, then everything, and closes after the text "last"."""
    await peer.upgrade()
    peer.stop_reading()
    await peer.send(GOOD)
    await asyncio.sleep(0.5)
    peer.start_reading()
    await peer.read_until(TEXT)
    await peer.send(close(1000))


@by_path("ping-flood")
async def ping_flood(peer):
    """20,000 Pings in one go while nothing of the answers is read."""
    await peer.upgrade()
    peer.stop_reading()
    await peer.send(frame(PING, b"f" * 120) * 19999 + frame(PING, "the last one") + frame(TEXT, "end"))
    await asyncio.sleep(0.3)
    peer.start_reading()
    while peer.seen["last"] != "the last one":
        if await peer.read_frame() is None:
            return
    await peer.send(close(1000))


@by_path("numbers")
async def numbers(peer):
    await peer.upgrade()
    for start in range(0, NUMBERS_COUNT, 1000):
        await peer.send(b"".join(frame(TEXT, str(i)) for i in range(start, start + 1000)))
    await peer.send(close(1000))


@by_path("stream")
async def stream(peer):
    block = stream_block()
    await peer.upgrade()
    for i in range(STREAM_MESSAGES):
        await peer.send(frame(BINARY, stream_message(block, i)))
    await peer.send(close(1000))


@by_path("empty-million")
async def empty_million(peer):
    """Two bytes per message: as many events as a receive buffer can hold."""
    await peer.upgrade()
    for _ in range(100):
        await peer.send(frame(BINARY) * 10000)
    await peer.send(close(1000))
