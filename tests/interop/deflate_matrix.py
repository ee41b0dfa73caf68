"""permessage-deflate against servers that nobody here wrote: what is agreed on, and echoes that are compared byte by
byte, compressed in both directions.

Every pair of values of any two dimensions is in some case, and each window size on each side has cases of its own.
That messages really were compressed is told by the engine's statistics, and these by the bytes that the server counted.
"""
import concurrent.futures
import contextlib
import itertools
import json
import os
import re
import threading

import tls_files
import verdict
from fault_cases import UNCLEAN, on
from fault_run import MODES, Reports, check_text, compare, run_client, shown
from servers import SYSTEM_PYTHON, Missing, install_ws, need_module, need_program

TOGETHER = 3
NAME = "permessage-deflate"
BOTH_ALONE = NAME + "; server_no_context_takeover; client_no_context_takeover"

# By name; None is what the client offers when nothing is said.
OFFERS = {
    "default": None,
    "bare": NAME,
    "server-alone": NAME + "; server_no_context_takeover",
    "client-alone": NAME + "; client_no_context_takeover; client_max_window_bits",
    "both-alone": BOTH_ALONE + "; client_max_window_bits",
    "server-10": NAME + "; server_max_window_bits=10",
    "client-9": NAME + "; client_max_window_bits=9",
    "all": BOTH_ALONE + "; server_max_window_bits=12; client_max_window_bits=11",
    "fallback": NAME + "; server_max_window_bits=9; server_no_context_takeover, " + NAME + "; client_max_window_bits",
    "fallback-client": NAME + "; client_max_window_bits=8, " + NAME,
    "off": "",
}

WS = {
    "plain": {},
    "threshold": {"threshold": 0},
    "server-alone": {"serverNoContextTakeover": True},
    "client-alone": {"clientNoContextTakeover": True, "threshold": 0},
    "both-alone": {"serverNoContextTakeover": True, "clientNoContextTakeover": True, "threshold": 0},
    "never-alone": {"serverNoContextTakeover": False, "clientNoContextTakeover": False},
    "server-9": {"serverMaxWindowBits": 9},
    "client-10": {"clientMaxWindowBits": 10},
    "both-12": {"serverMaxWindowBits": 12, "clientMaxWindowBits": 12, "threshold": 0},
    "no-windows": {"serverMaxWindowBits": False, "clientMaxWindowBits": False},
    "all": {"serverNoContextTakeover": True, "clientNoContextTakeover": True, "serverMaxWindowBits": 8,
            "clientMaxWindowBits": 8, "threshold": 0},
}

# The package has no server window of 8 bits: Python's zlib cannot make one.
WEBSOCKETS = {
    "plain": {},
    "none": None,
    "server-alone": {"server_no_context_takeover": True},
    "client-alone": {"client_no_context_takeover": True},
    "both-alone": {"server_no_context_takeover": True, "client_no_context_takeover": True},
    "server-9": {"server_max_window_bits": 9},
    "client-10": {"client_max_window_bits": 10},
    "client-10-or-none": {"client_max_window_bits": 10, "require_client_max_window_bits": True},
    "both-12": {"server_max_window_bits": 12, "client_max_window_bits": 12},
    "fastest": {"compress_settings": {"level": 1, "memLevel": 1}},
    "all": {"server_no_context_takeover": True, "client_no_context_takeover": True, "server_max_window_bits": 9,
            "client_max_window_bits": 8},
}

# Options as the library takes them. It sends frames of 2^tx_buf_size bytes, so that messages come in fragments.
LIBWEBSOCKETS = {
    "plain": "",
    "smallest": "compression_level=9;mem_level=9",
    "fragments-256": "tx_buf_size=8",
    "fragments-65536": "tx_buf_size=16",
}

# It takes the first offer, and knows no windows. What version 4.1.6 cannot do, with any client:
# - agreed on server_no_context_takeover alone it forgets the client's window instead of its own, so that no second
#   message can be inflated: such offers are left out;
# - an empty message that is not the first of its stream ends its process by an assertion: there is but that one;
# - what it has yet to inflate lies where the next connection's bytes are received: one connection at a time;
# - over TLS it loses bytes of large messages: little ones only.
LIBWEBSOCKETS_OFFERS = ["default", "bare", "client-alone", "both-alone", "server-10", "client-9", "all",
                        "fallback-client", "off"]

DATA = ["json", "random", "zeros", "mixed"]
SIZES = {
    "edges": [size for size in (0, 1, 2, 7, 63, 64, 65, 125, 126, 127, 1000, 1023, 1024, 1025, 4096, 32768, 65535,
                                65536, 65537) for _ in range(5)],
    "large": [100, 262144, 1048576, 100, 1048576, 0, 300000, 1],
    "thousand": [i * 37 % 400 for i in range(1000)],
}
FRAGMENTS = {"whole": [], "100": ["--fragment", "100"], "9000": ["--fragment", "9000"]}
LEAST = {"default": [], "1": ["--deflate-min", "1"], "500": ["--deflate-min", "500"], "never": ["--deflate-min",
                                                                                                 "4294967295"]}
LEVELS = {"default": [], "1": ["--deflate-level", "1"], "9": ["--deflate-level", "9"]}


def pairwise(*dimensions):
    """Rows in which every pair of values of two dimensions is somewhere; always the same ones."""
    dimensions = [list(values) for values in dimensions]
    indices = list(itertools.combinations(range(len(dimensions)), 2))
    missing = {(i, j, a, b): None for i, j in indices for a in dimensions[i] for b in dimensions[j]}
    while missing:
        i, j, a, b = next(iter(missing))
        row = {i: a, j: b}
        for k in range(len(dimensions)):
            if k not in row:
                row[k] = max(dimensions[k], key=lambda value: sum(
                    ((m, k, row[m], value) if m < k else (k, m, value, row[m])) in missing for m in row))
        for i, j in indices:
            missing.pop((i, j, row[i], row[j]), None)
        yield [row[k] for k in range(len(dimensions))]


class Case:
    def __init__(self, server, configuration, offer, data="json", sizes="thousand", more=(), least="default",
                 scheme="ws", mode=None):
        self.server = server
        self.configuration = configuration
        self.offer = offer
        self.data = data
        self.sizes = [size for i, size in enumerate(SIZES[sizes]) if size > 0 or i == 0 or server != "libwebsockets"]
        self.more = list(more)
        self.least = least
        self.scheme = scheme
        self.mode = mode

    def arguments(self):
        sizes = ",".join(str(size) for size in self.sizes)
        offer = [] if self.offer is None else ["--deflate", self.offer]
        return [*offer, *self.more, *LEAST[self.least], "--data", self.data, "--echo", sizes, "--show-extensions",
                "--show-deflate", *on("echoed:close=4001,bye")]


# ---- What must come of an offer ----------------------------------------------------------------------------


def parameters(element):
    """{name: value} of one element; "" for a value that is not there."""
    pairs = [item.strip().partition("=") for item in element.split(";")[1:]]
    return {name: value for name, _, value in pairs}


def ws_takes(configuration, offer):
    """Does ws agree to this element? If not to any, it answers 400."""
    server_bits, client_bits = configuration.get("serverMaxWindowBits"), configuration.get("clientMaxWindowBits")
    asked = int(offer.get("server_max_window_bits", 0))
    if configuration.get("serverNoContextTakeover") is False and "server_no_context_takeover" in offer:
        return False
    if asked and server_bits is not None and (server_bits is False or server_bits > asked):
        return False
    return not client_bits or "client_max_window_bits" in offer


def libwebsockets_answer(case):
    first = (NAME if case.offer is None else case.offer).split(",")[0]
    return "; ".join(item for item in first.split("; ") if item == NAME or item.endswith("_no_context_takeover"))


def outcome(case):
    """"agreed", "refused" (by the server), "misfit" (an answer that the client may not take) or "none"."""
    configuration = case.configuration
    offer = NAME + "; client_max_window_bits" if case.offer is None else case.offer
    if offer == "" or configuration is None:
        return "none"
    if case.server == "libwebsockets":
        return "misfit" if "server_max_window_bits" in offer else "agreed"
    elements = [parameters(element) for element in offer.split(",")]
    if case.server == "ws":
        taken = [element for element in elements if ws_takes(configuration, element)]
        if not taken:
            return "refused"
        # ws answers with its own clientMaxWindowBits even where less was offered.
        bits = configuration.get("clientMaxWindowBits")
        limit = max(int(element["client_max_window_bits"] or 15) for element in elements
                    if "client_max_window_bits" in element) if bits else 15
        return "misfit" if bits and bits > limit else "agreed"
    if configuration.get("require_client_max_window_bits") and \
            not any("client_max_window_bits" in element for element in elements):
        return "none"
    return "agreed"


def keeps(answer, side):
    return side + "_no_context_takeover" not in answer


# ---- What was compressed -----------------------------------------------------------------------------------


def check_sent(case, answer, n):
    """Everything that is large enough was tried; what is alike became smaller."""
    least = {"default": 64 if keeps(answer, "client") and "client_no_context" not in (case.offer or "") else 1024,
             "1": 1, "500": 500, "never": 1 << 32}[case.least]
    tried = [size for i, size in enumerate(case.sizes)
             if size >= least and not (case.data == "mixed" and i % 5 == 4)]
    complaints = []
    if n["sent"] + n["given-up"] != len(tried):
        complaints.append("%d compressed and %d given up, of %d" % (n["sent"], n["given-up"], len(tried)))
    worthwhile = sum(size >= 100 for size in tried)
    if case.data in ("json", "zeros") and n["sent"] < worthwhile:
        complaints.append("only %d compressed, of %d that are not tiny" % (n["sent"], worthwhile))
    if case.data in ("json", "zeros") and n["wire"] * 2 > n["bytes"] + 200:
        complaints.append("%d bytes became %d" % (n["bytes"], n["wire"]))
    if case.data == "random" and n["sent"] > 0:
        complaints.append("%d random messages became smaller" % n["sent"])
    return complaints


def check_received(case, answer, n):
    """All servers compress everything, but ws only what has 1,024 bytes when each message stands for itself."""
    least = case.configuration.get("threshold", 1024) if case.server == "ws" and not keeps(answer, "server") else 0
    compressed = [size for size in case.sizes if size >= least]
    if (n["received"], n["received-bytes"]) != (len(compressed), sum(compressed)):
        return ["%d messages of %d bytes came compressed, not %d of %d" %
                (n["received"], n["received-bytes"], len(compressed), sum(compressed))]
    return []


def check_bytes(case, n, seen):
    """The statistics against what the server counted: frames and the two heads are all that may come on top."""
    total = sum(case.sizes)
    fragment = int(case.more[case.more.index("--fragment") + 1]) if "--fragment" in case.more else 1 << 30
    complaints = []
    for way, bytes_key, wire_key, piece in (("read", "bytes", "wire", fragment),
                                            ("written", "received-bytes", "received-wire", 1 << 30)):
        least = total - n[bytes_key] + n[wire_key]
        most = least + 14 * (len(case.sizes) + least // piece + 2) + 1024
        if not least <= seen[way] <= most:
            complaints.append("the server has %s %d bytes, not %d to %d" % (way, seen[way], least, most))
    return complaints


DEFLATE_LINE = re.compile(r"deflate sent=(\d+) bytes=(\d+) wire=(\d+) given-up=(\d+) received=(\d+) bytes=(\d+) "
                          r"wire=(\d+)")
NUMBERS = ["sent", "bytes", "wire", "given-up", "received", "received-bytes", "received-wire"]


def check_echoed(case, got, seen):
    if seen is None:
        return ["the server never saw the connection end; got [%s]" % shown(got)]
    want = ["open", "extensions " + seen["extensions"], "echoed %d" % len(case.sizes),
            "close 4001 clean=1 reason=bye"]
    complaints = compare(want, got[:-1])
    found = DEFLATE_LINE.fullmatch(got[-1]) if got else None
    if complaints or found is None:
        return complaints or ["no statistics: [%s]" % shown(got)]
    n = dict(zip(NUMBERS, map(int, found.groups())))
    if outcome(case) == "none":
        if seen["extensions"] != "" or any(n.values()):
            complaints.append("nothing is agreed on, yet: %s, %s" % (seen["extensions"], got[-1]))
    else:
        answer = parameters(seen["extensions"])
        if seen["extensions"].split(";")[0] != NAME:
            complaints.append("the server's answer is '%s'" % seen["extensions"])
        complaints += check_sent(case, answer, n) + check_received(case, answer, n)
    return complaints + (check_bytes(case, n, seen) if case.scheme == "ws" and "read" in seen else [])


# ---- The cases ---------------------------------------------------------------------------------------------


def matrix_cases(server, configurations, offers):
    rows = pairwise(configurations, offers, DATA, SIZES, FRAGMENTS, LEAST, LEVELS, MODES)
    for configuration, offer, data, sizes, fragment, least, level, mode in rows:
        name = ".".join((server, configuration, offer, data, sizes, fragment, least, level, mode))
        yield name, Case(server, configurations[configuration], OFFERS[offer], data, sizes,
                         FRAGMENTS[fragment] + LEVELS[level], least, mode=mode)


def window_cases(server, configure):
    """Each size on each side, limited by the server and by the offer, with and without contexts; 300 KB each way."""
    for bits, alone in itertools.product(range(8, 16), (False, True)):
        way = "alone" if alone else "takeover"
        if server != "websockets" or bits > 8:
            yield "%s.window-%d.%s" % (server, bits, way), Case(server, configure(bits, alone), None, "mixed")
            offer = "%s; server_max_window_bits=%d; client_max_window_bits=%d" % (BOTH_ALONE if alone else NAME, bits,
                                                                                  bits)
            yield "%s.window-%d.%s.offered" % (server, bits, way), Case(server, {}, offer, "json", least="1")
        yield "%s.window-client-%d.%s" % (server, bits, way), Case(
            server, {}, "%s; client_max_window_bits=%d" % (BOTH_ALONE if alone else NAME, bits), "json", "edges")


def client_window_cases(server, configurations):
    """A server that says nothing of windows takes each that the client has, which a hint of the client's own sets."""
    for name, bits, alone in itertools.product(configurations, range(8, 16), (False, True)):
        offer = "%s; client_max_window_bits=%d" % (BOTH_ALONE if alone else NAME, bits)
        yield "%s.%s.window-client-%d.%s" % (server, name, bits, "alone" if alone else "takeover"), Case(
            server, configurations[name], offer, "json", "edges", least="1")


def ws_configuration(bits, alone):
    return {"serverMaxWindowBits": bits, "clientMaxWindowBits": bits, "serverNoContextTakeover": alone,
            "clientNoContextTakeover": alone, "threshold": 0}


def websockets_configuration(bits, alone):
    return {"server_max_window_bits": bits, "client_max_window_bits": bits, "server_no_context_takeover": alone,
            "client_no_context_takeover": alone}


def tls_cases(server, configurations, of_tls, all_sizes=tuple(SIZES)):
    """@of_tls: names of configurations, with what is sent there and who carries the records."""
    for name, data, records in of_tls:
        for sizes in all_sizes:
            yield "%s.tls.%s.%s.%s.%s" % (server, name, data, sizes, records), Case(
                server, configurations[name], None, data, sizes, ["--tls-records", records], scheme="wss")


def rest_cases(server, configuration):
    """Streams that rest are given back, and the window that the server still refers to is kept."""
    yield server + ".rest", Case(server, configuration, None, "json", "thousand", ["--deflate-idle", "1"])
    yield server + ".rest-mixed", Case(server, configuration, None, "mixed", "edges", ["--deflate-idle", "1"])


OF_TLS = (("plain", "json", "direct"), ("plain", "mixed", "library"), ("both-alone", "json", "direct"),
          ("all", "zeros", "library"), ("both-12", "mixed", "direct"))
LIBWEBSOCKETS_OF_TLS = (("plain", "json", "direct"), ("plain", "mixed", "library"), ("smallest", "zeros", "library"),
                        ("fragments-256", "json", "direct"))


def cases_of(server, configurations):
    yield from matrix_cases(server, configurations, OFFERS)
    yield from window_cases(server, ws_configuration if server == "ws" else websockets_configuration)
    yield from rest_cases(server, {})
    yield from tls_cases(server, configurations, OF_TLS)


def libwebsockets_cases(server, configurations):
    yield from matrix_cases(server, configurations, LIBWEBSOCKETS_OFFERS)
    yield from client_window_cases(server, configurations)
    yield from rest_cases(server, configurations["plain"])
    yield from tls_cases(server, configurations, LIBWEBSOCKETS_OF_TLS, ["thousand"])


SERVERS = {
    "ws": (WS, cases_of),
    "websockets": (WEBSOCKETS, cases_of),
    "libwebsockets": (LIBWEBSOCKETS, libwebsockets_cases),
}


def built_server(build, name, package):
    program = os.path.abspath(os.path.join(build, name))
    if not os.path.exists(program):
        raise Missing("%s is not built; apt-get install %s, then configure anew" % (name, package))
    return program


class Matrix:
    def __init__(self, program, servers, build):
        self.program = program
        self.build = build
        self.servers = servers
        self.ids = itertools.count(1)
        self.jobs = []
        self.modes = itertools.cycle(MODES)

    def command(self, server):
        if server == "libwebsockets":
            return [built_server(self.build, "deflate_lws", "libwebsockets-dev")]
        if server == "ws":
            need_program("node", "nodejs")
            install_ws()
            return ["node", "deflate_ws.js"]
        need_module("websockets", "python3-websockets")
        return [SYSTEM_PYTHON, "deflate_websockets.py"]

    def start(self, server):
        """The cases of one server, with the ports of their configurations; none when it is missing."""
        command = self.command(server)
        configurations, of_server = SERVERS[server]
        cases = list(of_server(server, configurations))
        for scheme in ("ws",) if self.certificates is None else ("ws", "wss"):
            of_scheme = [(name, case) for name, case in cases if case.scheme == scheme]
            wanted = sorted({json.dumps(case.configuration, sort_keys=True) for _, case in of_scheme})
            if not wanted:
                continue
            more = self.certificates.pair("good") if scheme == "wss" else ()
            _, lines, line = self.servers.first_line([*command, "[%s]" % ",".join(wanted), *more])
            ports = dict(zip(wanted, json.loads(line)))
            reports = Reports(lines)
            turn = threading.Lock() if server == "libwebsockets" else contextlib.nullcontext()
            self.jobs += [(name, case, ports[json.dumps(case.configuration, sort_keys=True)], reports, turn)
                          for name, case in of_scheme]

    def judge(self, name, case, port, reports, turn, mode):
        run_id = str(next(self.ids))
        more = ["--cacert", self.certificates.path("ca.pem")] if case.scheme == "wss" else []
        with turn:
            got = run_client(self.program, [*MODES[mode], *case.arguments(), *more,
                                            "%s://127.0.0.1:%d/?id=%s" % (case.scheme, port, run_id)])
        came = outcome(case)
        if came in ("refused", "misfit"):
            http, words = (400, [("101", "status")]) if came == "refused" else (101, ["_max_window_bits"])
            complaints = compare(["error stage=upgrade errno=0 http=%d text=" % http, UNCLEAN], got[:-1], words)
        else:
            seen = reports.take(run_id)
            if seen is not None and "extensions" not in seen:
                seen["extensions"] = libwebsockets_answer(case)
            complaints = check_echoed(case, got, seen)
        verdict.judge("deflate." + name, complaints)

    def run_all(self):
        try:
            self.certificates = tls_files.Files(self.servers.folder + "/deflate")
        except Missing as missing:
            self.certificates = None
            verdict.skipped("deflate.tls", str(missing))
        for server in SERVERS:
            try:
                self.start(server)
            except Missing as missing:
                verdict.skipped("deflate." + server, str(missing))
            except (RuntimeError, OSError, ValueError) as broken:
                verdict.failed("deflate." + server, str(broken))
        self.run_refused()
        self.run_libwebsockets()
        with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
            jobs = [pool.submit(self.judge, *job, job[1].mode or next(self.modes)) for job in self.jobs]
            for job in jobs:
                job.result()

    def run_refused(self):
        """Offers that the call itself refuses."""
        for name, offer in REFUSED.items():
            got = run_client(self.program, ["--deflate", offer, "ws://127.0.0.1:9/"])
            found = re.fullmatch(r"refused WSR_ERR_SYNTAX (.*)", got[0]) if len(got) == 1 else None
            verdict.judge("deflate.refused." + name, check_text(found.group(1), [("deflate", "extension")]) if found
                          else ["got [%s]" % shown(got)])

    def run_libwebsockets(self):
        """Debian's test server agrees to no extension: messages stay as they are."""
        try:
            port = self.servers.libwebsockets()
        except Missing as missing:
            verdict.skipped("deflate.libwebsockets", str(missing))
            return
        text = "the same again and again " * 100
        for offer, mode in itertools.product(OFFERS, MODES):
            options = [] if OFFERS[offer] is None else ["--deflate", OFFERS[offer]]
            got = run_client(self.program, [*MODES[mode], *options, "--show-extensions", "--show-deflate", "--protocol",
                                            "lws-mirror-protocol", *on("open:text=" + text, "message:close=1000"),
                                            "ws://127.0.0.1:%d/" % port])
            verdict.judge("deflate.libwebsockets.%s.%s" % (offer, mode), check_plain(got, len(text)))


def check_plain(got, length):
    """Line by line but for the checksum."""
    bare = [re.sub(r"adler=\w+", "adler=any", line) for line in got]
    return compare(["open lws-mirror-protocol", "extensions ", "message text %d adler=any" % length,
                    "close 1000 clean=1 reason=",
                    "deflate sent=0 bytes=0 wire=0 given-up=0 received=0 bytes=0 wire=0"], bare)


REFUSED = {
    "name": "x-webkit-deflate-frame",
    "parameter": NAME + "; window_bits=9",
    "twice": NAME + "; client_no_context_takeover; client_no_context_takeover",
    "value": NAME + "; server_no_context_takeover=1",
    "no-value": NAME + "; server_max_window_bits",
    "too-small": NAME + "; client_max_window_bits=7",
    "too-large": NAME + "; server_max_window_bits=16",
    "zero": NAME + "; server_max_window_bits=08",
    "comma": NAME + ",",
    "nine": ", ".join([NAME] * 9),
}
