"""What the client must make of each scene: its lines, the words of its error, and what the fault server saw.

A case is run in two modes (fault_run.py): inline with wsr_poll, and two workers with wsr_dispatch.
"""
import zlib

import fault_scenes


class Case:
    def __init__(self, scene, lines, options=(), words=(), saw=None, name=None, dispatch=False):
        self.scene = scene
        self.name = name or scene
        self.lines = list(lines)
        self.options = list(options)
        self.words = words          # each must be in the error's text; a tuple means any of these
        self.saw = saw or {}
        self.dispatch = dispatch    # acts in handlers, so that the inline mode dispatches too


UNCLEAN = "close 1006 clean=0 reason="
GOOD = ["open", "message text 4 good"]


def failed(scene, stage, *words, before=(), errno="0", http=0, **more):
    """The error's text is only compared by its words."""
    line = "error stage=%s errno=%s http=%d text=" % (stage, errno, http)
    return Case(scene, [*before, line, UNCLEAN], words=words, **more)


def unanswered(scene, *words, http=0, **more):
    """Refused before the upgrade: never open, and no Close frame may be sent (F6)."""
    return failed(scene, "upgrade", *words, http=http, saw={"close": "none", "messages": "0"}, **more)


def breach(scene, code, *words, before=None, **more):
    """A broken rule after a good message: the message is delivered, then Close with this code (F9, RECV-12)."""
    return failed(scene, "open", *words, before=GOOD if before is None else before, saw={"close": str(code)}, **more)


def clean(scene, *lines, code=1000, reason="", echoed=None, **more):
    """The server's Close is echoed by its code (OQ-11)."""
    saw = {"close": echoed or str(code), "late": "0", "unmasked": "0", "end": "eof"}
    saw.update(more.pop("saw", {}))
    return Case(scene, [*lines, "close %d clean=1 reason=%s" % (code, reason)], saw=saw, **more)


def on(*rules):
    return [word for rule in rules for word in ("--on", rule)]


def adler(data):
    return "%08x" % zlib.adler32(data)


def stream_line():
    block = fault_scenes.stream_block()
    total = zlib.adler32(b"")
    for i in range(fault_scenes.STREAM_MESSAGES):
        total = zlib.adler32(fault_scenes.stream_message(block, i), total)
    count = fault_scenes.STREAM_MESSAGES
    return "sum messages=%d bytes=%d adler=%08x" % (count, count * fault_scenes.STREAM_BYTES, total)


REFUSED = [
    # Before a request is read.
    failed("accept-close", "upgrade", ("closed", "ended", "reset"), errno="0|ECONNRESET|EPIPE"),
    failed("accept-reset", "upgrade", "reset", errno="ECONNRESET"),
    failed("accept-stall", "upgrade", ("time", "open_timeout"), options=["--open-timeout", "300"], errno="ETIMEDOUT"),
    failed("accept-noise", "upgrade", "http/1.1"),
    failed("accept-answer", "upgrade", "sec-websocket-accept", http=101),
    # The answer: cut, stalled, not HTTP.
    unanswered("request-close", ("closed", "ended", "eof")),
    failed("request-reset", "upgrade", "reset", errno="ECONNRESET"),
    unanswered("request-stall", ("time", "open_timeout"), options=["--open-timeout", "300"], errno="ETIMEDOUT"),
    unanswered("head-close", ("closed", "ended", "eof")),
    failed("head-reset", "upgrade", "reset", errno="ECONNRESET"),
    unanswered("head-stall", ("time", "open_timeout"), options=["--open-timeout", "300"], errno="ETIMEDOUT"),
    unanswered("garbage", "http/1.1"),
    unanswered("garbage-endless", "http/1.1"),
    unanswered("mail", "http/1.1"),
    unanswered("tls-alert", "http/1.1"),
    unanswered("zeros", "http/1.1"),
    unanswered("frames-only", "http/1.1"),
    unanswered("status-200", ("101", "upgrade", "status"), http=200),
    unanswered("status-301", ("101", "redirect", "status"), http=301),
    unanswered("status-401", ("101", "authori", "status"), http=401),
    unanswered("status-404", ("101", "status"), http=404),
    unanswered("status-404-chunked", ("101", "status"), http=404),
    unanswered("status-426", ("101", "status"), http=426),
    unanswered("status-503", ("101", "status"), http=503),
    failed("head-huge", "upgrade", "head_max_bytes"),
    failed("head-lines", "upgrade", "head_max_bytes"),
    unanswered("interim-flood", "interim", http=100),
    # The answer: HTTP, but not this upgrade.
    unanswered("http10", "http/1.1"),
    unanswered("http2", "http/1.1"),
    unanswered("key-wrong", "sec-websocket-accept", http=101),
    unanswered("key-missing", "sec-websocket-accept", http=101),
    unanswered("key-twice", "sec-websocket-accept", http=101),
    unanswered("upgrade-missing", "upgrade", http=101),
    unanswered("upgrade-other", "upgrade", http=101),
    unanswered("upgrade-list", "upgrade", http=101),
    unanswered("upgrade-twice", "upgrade", http=101),
    unanswered("connection-missing", "connection", http=101),
    unanswered("connection-other", "connection", http=101),
    unanswered("extension-unasked", "extension", http=101, options=["--deflate", ""]),
    unanswered("extension-empty", "extension", http=101),
    unanswered("protocol-unasked", "protocol", http=101),
    unanswered("protocol-missing", "protocol", http=101, options=["--protocol", "chat"]),
    unanswered("protocol-case", "protocol", http=101, options=["--protocol", "chat"]),
    unanswered("protocol-twice", "protocol", http=101, options=["--protocol", "chat"]),
    unanswered("fold", ("fold", "line", "header")),
    unanswered("space-colon", ("space", "name", "header")),
    unanswered("no-colon", ("colon", "name", "header")),
    unanswered("nul", ("nul", "control", "byte", "header")),
    unanswered("bare-lf", ("lf", "line")),
]

ACCEPTED = [
    clean("no-reason", "open"),
    clean("reason-colon", "open"),
    clean("upgrade-case", "open"),
    clean("connection-list", "open"),
    clean("connection-lines", "open"),
    clean("protocol-good", "open chat", options=["--protocol", "chat", "--protocol", "other"]),
    clean("body-length", "open"),
    clean("lines-1000", "open"),
    clean("interim", "open", "message text 4 late"),
    clean("early-frames", "open", "message text 3 one", "message binary 3 adler=" + adler(b"two"), "message text 0 ",
          reason="done"),
    clean("drip", "open", "message text 15 h\u00e9llo \u20ac \U0001f600",
          "message binary 130 adler=" + adler(b"z" * 130), code=4000, reason="\u20ac",
          saw={"pongs": "1", "last": "beat"}),
    clean("limit-exact", "open", "message binary 1000 adler=" + adler(b"x" * 1000),
          "message binary 1000 adler=" + adler(b"x" * 600 + b"y" * 400), options=["--message-max", "1000"]),
    clean("utf8-split", "open", "message text 7 \u20ac\U0001f600", "message binary 2 adler=" + adler(b"\xff\xfe")),
    *(clean("close-%d" % code, *GOOD, code=code, reason="why") for code in (1001, 1003, 1011, 1014, 3000, 4999)),
    clean("close-empty", *GOOD, code=1005, echoed="empty"),
    clean("close-reason-123", *GOOD, reason="\u20ac" * 41),
    clean("close-then-data", *GOOD, reason="end", saw={"pongs": "0"}),
    clean("close-reset", *GOOD, reason="bye", saw={"end": "cut"}),
    clean("close-no-fin", *GOOD, reason="bye", options=["--fin-timeout", "300"]),
    clean("pings-ten", "open", saw={"pongs": "10", "last": "ping 9"}),
    # RFC 6455 5.5.2: no Pong is owed once the Close was received, which may be before the Pongs could be written.
    clean("pings-then-close", "open", saw={"pongs": ("0", "2")}),
    clean("pings-inside", "open", "message text 2 ab", saw={"pongs": "2", "last": ""}),
    clean("fragments-most", "open",
          "message binary %d adler=%s" % (fault_scenes.FRAGMENTS_MAX, adler(b"x" * fault_scenes.FRAGMENTS_MAX))),
]

BREACHES = [
    breach("masked", 1002, "mask"),
    breach("rsv1", 1002, ("rsv1", "reserved")),
    breach("rsv2", 1002, "reserved"),
    breach("rsv3", 1002, "reserved"),
    breach("opcode-3", 1002, "opcode"),
    breach("opcode-11", 1002, "opcode"),
    breach("length-16", 1002, "shortest"),
    breach("length-64", 1002, "shortest"),
    breach("length-top", 1002, "top bit"),
    breach("length-huge", 1009, "message_max_bytes"),
    breach("ping-long", 1002, "125"),
    breach("ping-fragment", 1002, "fragment"),
    breach("continuation", 1002, "continu"),
    breach("text-in-text", 1002, "inside another"),
    breach("limit-frame", 1009, "message_max_bytes", options=["--message-max", "1000"]),
    breach("limit-sum", 1009, "message_max_bytes", options=["--message-max", "1000"]),
    breach("utf8-bad", 1007, "utf-8"),
    breach("utf8-bad-split", 1007, "utf-8"),
    breach("utf8-bad-early", 1007, "utf-8"),
    breach("utf8-cut", 1007, "utf-8"),
    breach("utf8-surrogate", 1007, "utf-8"),
    breach("close-1-byte", 1002, "close"),
    breach("close-126", 1002, "125"),
    breach("close-bad-reason", 1007, "utf-8"),
    *(breach("close-%d" % code, 1002, "close") for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
    breach("fragments-over", 1008, "fragments_max"),
    breach("fragments-empty", 1008, "fragments_max"),
]

BYE = on("message:close=4111,bye")

ENDS = [
    failed("open-eof", "open", ("close frame", "without close", "closed", "ended"), before=GOOD, saw={"end": "eof"}),
    failed("frame-eof", "open", ("close frame", "without close", "closed", "ended"), before=GOOD, saw={"end": "eof"}),
    failed("length-eof", "open", ("close frame", "without close", "closed", "ended"), before=GOOD, saw={"end": "eof"}),
    *(failed(scene, "open", "reset", before=GOOD, errno="ECONNRESET", options=on("message:answer"))
      for scene in ("open-reset", "length-reset", "frame-reset", "fragment-reset")),
    clean("closing-same", *GOOD, code=4111, reason="bye", options=BYE),
    clean("closing-other", *GOOD, code=4222, reason="remote", echoed="4111", options=BYE),
    clean("closing-empty", *GOOD, code=1005, echoed="4111", options=BYE),
    clean("closing-data", *GOOD, echoed="4111", options=BYE),
    clean("closing-ping", *GOOD, echoed="4111", options=BYE, saw={"pongs": "1", "last": "still there"}),
    clean("crossing", *GOOD, code=1001, reason="crossing", echoed=("4111", "1001"),
          options=on("message:answer", "message:close=4111")),
    failed("closing-eof", "closing", ("close frame", "without close", "closed", "ended"), before=GOOD, options=BYE,
           saw={"close": "4111"}),
    failed("closing-reset", "closing", "reset", before=GOOD, errno="ECONNRESET", options=BYE, saw={"close": "4111"}),
    failed("closing-never", "closing", ("close_timeout", "time"), before=GOOD, errno="ETIMEDOUT",
           options=[*BYE, "--close-timeout", "300"], saw={"close": "4111"}),
    failed("closing-bad", "closing", "opcode", before=GOOD, options=BYE, saw={"close": "4111"}),
]

HANDLERS = [
    Case("talk", ["open"], on("open:destroy"), saw={"close": "1001"}, name="destroy-in-open", dispatch=True),
    Case("talk", GOOD, on("message:destroy"), saw={"close": "1001"}, name="destroy-in-message", dispatch=True),
    Case("talk", GOOD, on("message:close", "message:destroy"), saw={"close": "empty"}, name="close-and-destroy",
         dispatch=True),
    Case("early-frames", ["open", "message text 3 one"], on("message@1:destroy"), name="destroy-with-more-queued",
         dispatch=True),
    Case("rsv2", [*GOOD, "error stage=open errno=0 http=0 text="], on("error:destroy"), saw={"close": "1002"},
         words=["reserved"], name="destroy-in-error", dispatch=True),
    clean("close-1001", *GOOD, code=1001, reason="why", options=on("close:destroy"), name="destroy-in-close",
          dispatch=True),
    clean("talk", "open", options=on("open:close=1000"), name="close-in-open", dispatch=True),
    # OQ-11, CLOSE-12: the server's Close had come when the application closed; its code is echoed, not ours sent.
    Case("early-frames", ["open", "message text 3 one", "close 1000 clean=1 reason=done"],
         on("message@1:close=4000"), name="close-with-more-queued", dispatch=True),
    clean("close-1001", *GOOD, code=1001, reason="why", options=on("close:close=3000", "close:text=late"),
          name="close-in-close", dispatch=True),
    clean("close-1001", "open", "poll WSR_ERR_BUSY", "destroy WSR_ERR_BUSY", *GOOD[1:], code=1001, reason="why",
          options=on("open:nest"), name="poll-in-handler", dispatch=True),
]

AMOUNTS = [
    clean("numbers", "open", "numbers %d" % fault_scenes.NUMBERS_COUNT, name="no-poll-for-2-s",
          options=["--log", "numbers", *on("open:pause=2000")]),
    clean("numbers", "open", "numbers %d" % fault_scenes.NUMBERS_COUNT, name="two-buffers-small",
          options=["--log", "numbers", "--buffers", "2", "--buffer-bytes", "256", "--events", "8"]),
    clean("numbers", "open", "numbers %d" % fault_scenes.NUMBERS_COUNT, name="no-poll-eight-slots",
          options=["--log", "numbers", "--buffers", "2", "--events", "8", "--batch", "3", *on("open:pause=2000")]),
    clean("stream", "open", stream_line(), name="two-buffers-200-mb", options=["--log", "sum", "--buffers", "2"]),
    clean("stream", "open", "held 16 intact 16", stream_line(), name="two-buffers-held",
          options=["--log", "sum", "--buffers", "2",
                   *on(*("message@%d:hold" % (i * 10 + 1) for i in range(12))), *on(*("message@%d:hold" % (i + 190)
                       for i in range(4)))]),
    clean("empty-million", "open", "sum messages=1000000 bytes=0 adler=00000001", name="a-million-empty",
          options=["--log", "sum"]),
    clean("ping-flood", "open", "message text 3 end", saw={"last": "the last one"}),
    failed("deaf", "closing", ("close_timeout", "time"), errno="ETIMEDOUT", name="never-reading-peer",
           before=[*GOOD, "flood WSR_ERR_QUOTA"], options=["--close-timeout", "500", "--queue-max", "67108864",
                                                           *on("message:flood", "message:close=1000")]),
    clean("slow", *GOOD, "flood WSR_ERR_QUOTA", "writable", name="writable-after-quota",
          options=["--queue-max", "4194304", *on("message:flood", "writable:text=last")]),
]

ALL = REFUSED + ACCEPTED + BREACHES + ENDS + HANDLERS + AMOUNTS
