"""What the client must make of the scenes of fault_deflate_scenes.py."""
import concurrent.futures
import itertools
import os
import re

import fault_deflate_scenes as scenes
import inflate
import verdict
from fault_cases import GOOD, Case, adler, breach, clean, on, unanswered
from fault_run import MODES, Runner, check_text, compare, compare_seen, run_client, shown

PREFIX = "deflate-"
TOGETHER = 3
RSS_MAX = 16 << 20


def offered(offer):
    return [] if offer is None else ["--deflate", offer]


def said(data):
    """The line of a message: bytes are binary."""
    kind, payload = ("text", data.encode()) if isinstance(data, str) else ("binary", data)
    if kind == "text" and len(payload) <= 64:
        return "message text %d %s" % (len(payload), data)
    return "message %s %d adler=%s" % (kind, len(payload), adler(payload))


def refuses(name, offer):
    words = [("extension", "permessage-deflate", "window_bits", "context_takeover")]
    return unanswered(PREFIX + "answer-" + name, *words, http=101, options=offered(offer))


def takes_answer(name, answer, offer):
    """PMD-27: the attribute is the header as it came."""
    line = "extensions " + ("" if answer == scenes.NOTHING else answer)
    return clean(PREFIX + "answer-" + name, "open", line, options=[*offered(offer), "--show-extensions"])


def accepts(name, *messages, options=(), **more):
    return clean(PREFIX + name, "open", *map(said, messages), options=options, **more)


def fails(name, code, *words, before=(), **more):
    return breach(PREFIX + name, code, *words, before=[*GOOD, *map(said, before)], **more)


def broken(name, **more):
    return fails(name, 1007, "deflate", **more)


def beyond(name, *options):
    """Over a limit, and the memory does not show what might have come."""
    return fails(name, 1009, "message_max_bytes", options=["--rss-max", str(RSS_MAX), *options])


SMALL = ["--message-max", "1000"]
MEBIBYTE = ["--message-max", str(1 << 20)]
BLOCKS = inflate.inflate(scenes.BLOCKS)

# PMD-04, PMD-12 to PMD-18, PMD-20, PMD-21, PMD-24 to PMD-26
REFUSED = [refuses(name, offer) for name, (_, offer) in scenes.BAD_ANSWERS.items()]

# PMD-10, PMD-11, PMD-19, PMD-22, PMD-23, PMD-27
ANSWERED = [takes_answer(name, answer, offer) for name, (answer, offer) in scenes.GOOD_ANSWERS.items()]

# PMD-41 to PMD-45, PMD-48, PMD-49
ACCEPTED = [
    accepts("vectors", *["Hello"] * 6, "", "", "", "Hello", "plain", "Hello"),
    accepts("blocks", BLOCKS, BLOCKS),
    accepts("pieces", scenes.STORY, scenes.STORY, scenes.STORY[:50]),
    accepts("two-byte-pieces-and-plain", scenes.STORY, b"plain", scenes.STORY, b"plain", scenes.STORY[:50], b"plain"),
    accepts("pings-inside", "a ping after every byte", saw={"pongs": str(scenes.PINGS), "last": "in"}),
    accepts("drip", "h\u00e9llo \u20ac \U0001f600", bytes(5000), "h\u00e9llo"),
    accepts("empty-fragments", "Hello", "", "Hello"),
    accepts("limit-exact", bytes(1000), scenes.NOISE[:1000], options=SMALL),
    accepts("server-alone-kept", *[scenes.STORY] * 3),
    *(accepts("server-bits-%d-kept" % bits, *[scenes.NOISE] * 12) for bits in range(9, 16)),
]

# PMD-40, PMD-46, PMD-47, PMD-48
BREACHES = [
    fails("rsv1-continuation", 1002, "continuation", "rsv1"),
    fails("rsv1-continuation-of-plain", 1002, "continuation", "rsv1"),
    *(fails("rsv1-" + name, 1002, "control", "rsv1") for name in ("ping", "ping-empty", "pong", "ping-inside", "close",
                                                                    "close-plain")),
    fails("close-compressed", 1002, "close"),
    *(fails(name, 1002, "reserved") for name in ("rsv2", "rsv12", "rsv13")),
    fails("unagreed", 1002, "no extension"),
    fails("text-in-text", 1002, "inside another"),
    broken("unkept-context", before=["Hello"]),
    broken("unkept-context-empty", before=["Hello", ""]),
    *(broken("unkept-bits-%d" % bits, before=[scenes.NOISE + bytes(20000) + b"end"]) for bits in (8, 9, 10, 14)),
    *(broken(name) for name in ("block-type", "stored-length", "stored-cut-by-4", "stored-cut-by-4-pieces", "too-far",
                                "after-final", "final-only")),
    *(fails(name, 1007, "utf-8") for name in ("utf8-bad", "utf8-cut", "utf8-bad-early")),
    fails("limit-over", 1009, "message_max_bytes", options=SMALL),
    fails("limit-over-pieces", 1009, "message_max_bytes", options=SMALL),
    fails("limit-wire", 1009, "message_max_bytes", options=SMALL),
    fails("fragments-over", 1008, "fragments_max"),
    beyond("endless-blocks", *MEBIBYTE),
    beyond("endless-finals", *MEBIBYTE),
    fails("endless-frames", 1008, "fragments_max", options=["--rss-max", str(RSS_MAX), "--fragments-max", "10000"]),
    beyond("endless-frame"),
    *(beyond(name, *MEBIBYTE) for name in ("bomb", "bomb-text", "bomb-pieces", "bomb-finals", "bomb-alone")),
]

ZEROS = "sum messages=%d bytes=%d adler=%s" % (scenes.ZEROS_MESSAGES, scenes.ZEROS_MESSAGES * scenes.ZEROS_BYTES,
                                                 adler(bytes(scenes.ZEROS_MESSAGES * scenes.ZEROS_BYTES)))

# With a consumer that takes nothing for a second, what was inflated may not pile up beyond what loan_max_bytes allows.
AMOUNTS = [
    Case(PREFIX + "zeros", ["open", ZEROS, "close 1000 clean=1 reason="],
         ["--log", "sum", "--loan-max", str(32 << 20), "--rss-max", str(96 << 20), *on("open:pause=1000")],
         saw={"close": "1000"}),
]

CLOSED_WITHIN = [
    Case(PREFIX + "vectors", ["open", "message text 5 Hello"], on("message@1:destroy"),
         name=PREFIX + "destroy-in-message", dispatch=True),
    # The server's Close had come by then; its code is the one that is echoed.
    Case(PREFIX + "vectors", ["open", "message text 5 Hello", "close 1000 clean=1 reason="],
         on("message@1:close=4000"), name=PREFIX + "close-in-message", dispatch=True),
    clean("talk", "open", *GOOD[1:], name=PREFIX + "close-after-sending",
          options=on("open:text=" + "again and " * 30, "message:text=" + "again and " * 30, "message:close=1000")),
]

DATA = {"json": "100x10,1000x4,5000x3,40000", "mixed": "0x5,1x5,64x5,100x5,1000x5,5000x5"}
COUNTS = {"json": 18, "mixed": 30}


class DeflateRunner(Runner):
    def __init__(self, program, ports, lines):
        super().__init__(program, ports, lines, "deflate-fault")
        # Freed memory that the address sanitizer keeps for a while is not the client's.
        os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=8"

    def run_sweep(self, name, mode):
        """One client with a socket for each payload."""
        payloads, _ = scenes.SWEEPS[name]
        run_id = "%s" % next(self.ids)
        got = run_client(self.program, [*MODES[mode], "--sockets", str(len(payloads)), "--count-errors",
                                        "--deflate-min", "4294967295", *on("message:answer"),
                                        "ws://127.0.0.1:%d/deflate-sweep-%s?id=%s" % (self.ports[""], name, run_id)])
        sound = sum(scenes.meaning(payload) is not None for payload in payloads)
        complaints = check_counts(got, len(payloads), sound)
        for i, payload in enumerate(payloads):
            seen = self.reports.take("%s.%d" % (run_id, i))
            if not seen or seen["right"] is not True:
                complaints.append("%s: %s" % (payload.hex(), seen))
        verdict.judge("deflate-fault.sweep-%s.%s" % (name, mode), complaints[:5])

    def run_take(self, name, data, more, mode):
        """The client's messages, judged by the server as it gets them."""
        run_id = str(next(self.ids))
        got = run_client(self.program, [*MODES[mode], *offered(scenes.TAKES[name]), *more, "--deflate-min", "1",
                                        "--data", data, "--echo", DATA[data], *on("echoed:close=1000"),
                                        "ws://127.0.0.1:%d/deflate-take-%s?id=%s" % (self.ports[""], name, run_id)])
        complaints = compare(["open", "echoed %d" % COUNTS[data], "close 1000 clean=1 reason="], got)
        seen = self.reports.take(run_id)
        complaints += compare_seen({"faults": "", "close": "1000"}, seen)
        if seen and seen.get("compressed", 0) < 8:
            complaints.append("only %s messages were compressed" % seen.get("compressed"))
        verdict.judge("deflate-fault.take-%s.%s%s.%s" % (name, data, "".join(more), mode), complaints)

    def run_all(self):
        cases = [*REFUSED, *ANSWERED, *ACCEPTED, *BREACHES, *CLOSED_WITHIN]
        with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
            jobs = [pool.submit(self.run_case, case, mode) for case in cases for mode in MODES]
            takes = itertools.product(scenes.TAKES, DATA, ([], ["--fragment", "70"]))
            jobs += [pool.submit(self.run_take, *take, mode) for take, mode in zip(takes, itertools.cycle(MODES))]
            for job in jobs:
                job.result()
        for name, mode in itertools.product(scenes.SWEEPS, MODES):
            self.run_sweep(name, mode)
        for case, mode in itertools.product(AMOUNTS, MODES):
            self.run_case(case, mode)


def check_counts(got, sockets, sound):
    """All open; those that the payload breaks fail, with the same story."""
    if not got or got[0] != "sockets opened=%d failed=0 refused=0 clean=%d" % (sockets, sound):
        return ["got [%s], of %d sockets %d sound" % (shown(got), sockets, sound)]
    match = re.fullmatch(r"times (\d+) error stage=open errno=0 http=0 text=(.*)", got[1]) if len(got) == 2 else None
    if match is None or int(match.group(1)) != sockets - sound:
        return ["got [%s]" % shown(got)]
    return check_text(match.group(2), ["deflate"])
