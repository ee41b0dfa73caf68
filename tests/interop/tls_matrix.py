"""The client over TLS against real servers: echoes of every size around the edges of records, closes, Pings, fragments,
resumption, client certificates, with each version, cipher and way of carrying records.
"""
import concurrent.futures
import itertools
import re

import verdict
from fault_cases import UNCLEAN, on
from fault_run import MODES, compare, run_client
from servers import Missing

TOGETHER = 3
RECORDS = ["library", "direct", "auto"]
SIZES = "0x2,1x2,2x2,125x2,126x2,127x2,1000x2,4096x2,16360-16390x2,32750-32770,65535x2,65536x2,131072x2,1048576x2"
SIZES_COUNT = 8 * 2 + 31 * 2 + 21 + 4 * 2
FEW = "0,1,100,16384,40000x2"
FEW_COUNT = 6
MANY = 20

# By version: OpenSSL's name, the standard's, and whether its keys can be used by others than the library.
CIPHERS = {
    "1.2": [("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", True),
            ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", True),
            ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", True),
            ("ECDHE-ECDSA-AES128-SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", False)],
    "1.3": [("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", True),
            ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", True),
            ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256", True)],
}


class Server:
    """@versions and @has_cbc: what it can; @kept: whether it resumes sessions; @asks: for a client's certificate.
    @plain: http_status of its answer to a request without TLS."""

    def __init__(self, start, versions=("1.2", "1.3"), has_cbc=True, kept=("1.2", "1.3"), plain=0):
        self.start = start
        self.versions = versions
        self.has_cbc = has_cbc
        self.kept = kept
        self.plain = plain


SERVERS = {
    "nginx-1.2": Server("nginx", versions=["1.2"], plain=400),
    "nginx-1.3": Server("nginx", versions=["1.3"], plain=400),
    "nginx-tickets": Server("nginx", plain=400),
    "nginx-client": Server("nginx", plain=400),
    "haproxy": Server("haproxy"),
    "haproxy-client": Server("haproxy"),
    "stunnel": Server("stunnel"),
    "gnutls": Server("gnutls"),
    "mbedtls": Server("mbedtls", versions=["1.2"], has_cbc=False),
    "wolfssl": Server("wolfssl", has_cbc=False),
    "websockets": Server("websockets"),
    "websockets-client": Server("websockets"),
    "ws": Server("ws"),
    "ws-client": Server("ws"),
    "s_server": Server("s_server", kept=()),     # a process for each connection
}


class Matrix:
    def __init__(self, program, tls_servers):
        self.program = program
        self.servers = tls_servers
        self.files = tls_servers.files
        self.ports = {}
        self.jobs = []
        self.modes = itertools.cycle(MODES)

    def options(self, name, version, records, cipher=None):
        options = ["--cacert", self.files.path("ca.pem"), "--tls-min", version, "--tls-max", version,
                   "--tls-records", records]
        if cipher:
            options += ["--ciphersuites" if version == "1.3" else "--ciphers", cipher]
        if name.endswith("-client"):
            certificate, key = self.files.pair("client")
            options += ["--cert", certificate, "--key", key]
        return options

    def run(self, name, server, options, want, words=(), mode=None, scheme="wss"):
        """Each run in the next mode."""
        arguments = [*MODES[mode or next(self.modes)], *options, "%s://127.0.0.1:%d/" % (scheme, self.ports[server])]
        self.jobs.append((name, arguments, want, words))

    def run_echoes(self, name, version):
        """With an AEAD every way of carrying records does what it says; with CBC only the library can."""
        for cipher, standard, is_aead in CIPHERS[version]:
            if not is_aead and not SERVERS[name].has_cbc:
                continue
            for records in RECORDS:
                carried = "direct" if is_aead and records != "library" else "library"
                self.run("%s.%s.%s.%s" % (name, version, cipher, records), name,
                         [*self.options(name, version, records, cipher), "--show-tls", "--echo", SIZES,
                          *on("echoed:close=4001,bye")],
                         ["open", "tls version=%s records=%s resumed=0 verified=1 cipher=%s" %
                          (version, carried, "|".join({cipher, standard})),
                          "echoed %d" % SIZES_COUNT, "close 4001 clean=1 reason=bye"])

    def run_talk(self, name, version, records):
        options = self.options(name, version, records)
        prefix = "%s.%s.%s" % (name, version, records)
        self.run(prefix + ".server-closes", name, [*options, *on("open:text=!close 4002 why not")],
                 ["open", "close 4002 clean=1 reason=why not"])
        self.run(prefix + ".closes-at-once", name, [*options, *on("open:close")],
                 ["open", "close 1005 clean=1 reason="])
        self.run(prefix + ".pings", name, [*options, *on("open:ping", "pong:text=!ping", "message:close=1000")],
                 ["open", "pong with a time", "message text 4 pong", "close 1000 clean=1 reason="])
        self.run(prefix + ".fragments", name,
                 [*options, "--fragment", "1000", "--echo", SIZES, *on("echoed:close=1000")],
                 ["open", "echoed %d" % SIZES_COUNT, "close 1000 clean=1 reason="])
        self.run(prefix + ".fragments-back", name,
                 [*options, "--echo", SIZES, *on("open:text=!fragments 7", "echoed:close=1000")],
                 ["open", "echoed %d" % SIZES_COUNT, "close 1000 clean=1 reason="])
        self.run(prefix + ".buffers-small", name,
                 [*options, "--buffers", "2", "--buffer-bytes", "256", "--events", "8", "--echo", SIZES,
                  *on("echoed:close=1000")],
                 ["open", "echoed %d" % SIZES_COUNT, "close 1000 clean=1 reason="])
        self.run(prefix + ".messages", name, [*options, "--echo", "50x1000", *on("echoed:close=1000")],
                 ["open", "echoed 1000", "close 1000 clean=1 reason="])
        self.run(prefix + ".at-once", name,
                 [*options, "--sockets", str(MANY), "--echo", FEW, *on("echoed:close=1000")],
                 ["sockets opened=%d failed=0 refused=0 clean=%d" % (MANY, MANY)])

    def run_resumption(self, name, version, records):
        resumes = version in SERVERS[name].kept
        options = [*self.options(name, version, records), "--show-tls", "--again=2", "--statistics", "--echo", FEW,
                   *on("echoed:close=1000")]
        line = "tls version=%s records=%s resumed=%%d verified=1 cipher=*" % (version, records)
        rest = ["echoed %d" % FEW_COUNT, "close 1000 clean=1 reason="]
        counts = "library=%d kernel=0 direct=%d" % ((3, 0) if records == "library" else (0, 3))
        for more, count in ((["--no-resumption"], 0), ([], 2 if resumes else 0)):
            first, later = line % 0, line % (count > 0)
            self.run("%s.%s.%s.%s" % (name, version, records, "no-resumption" if more else "resumption"), name,
                     [*options, *more], ["open", first, *rest, *["open", later, *rest] * 2,
                                         "statistics handshakes=3 resumed=%d unverified=0 %s sessions=*" %
                                         (count, counts)])

    def run_refusals(self, name, version):
        stranger = "--cacert", self.files.path("stranger.pem"), *on("open:close")
        self.run("%s.%s.unknown-ca" % (name, version), name, [*self.options(name, version, "auto"), *stranger],
                 ["error stage=tls errno=0 http=0 text=", UNCLEAN], [("issuer", "self-signed")])

    def run_plain(self, name):
        """A ws:// URL for a port that speaks TLS."""
        self.run(name + ".plain", name, ["--open-timeout", "2000"],
                 ["error stage=upgrade errno=0|ECONNRESET|ETIMEDOUT http=%d text=" % SERVERS[name].plain, UNCLEAN],
                 scheme="ws")

    def run_proxies(self):
        """OpenSSL's own server, behind real proxies."""
        for kind, scheme in (("tinyproxy", "http"), ("microsocks", "socks5h")):
            try:
                port = getattr(self.servers.servers, kind)()
            except (Missing, RuntimeError, OSError) as missing:
                verdict.skipped("tls.proxy." + scheme, str(missing))
                continue
            for version, records in itertools.product(("1.2", "1.3"), ("library", "direct")):
                self.run("proxy.%s.%s.%s" % (scheme, version, records), "s_server",
                         [*self.options("s_server", version, records), "--proxy", "%s://127.0.0.1:%d" % (scheme, port),
                          "--echo", SIZES, *on("echoed:close=4001,bye")],
                         ["open", "echoed %d" % SIZES_COUNT, "close 4001 clean=1 reason=bye"])

    def start(self):
        for start in dict.fromkeys(server.start for server in SERVERS.values()):
            try:
                self.ports.update(getattr(self.servers, start)())
            except Missing as missing:
                verdict.skipped("server." + start, str(missing))
            except (RuntimeError, OSError, ValueError) as broken:
                verdict.failed("server." + start, str(broken))

    def run_all(self):
        self.start()
        for name in self.ports:
            self.run_plain(name)
            for version in SERVERS[name].versions:
                self.run_echoes(name, version)
                self.run_refusals(name, version)
                for records in ("library", "direct"):
                    self.run_talk(name, version, records)
                    self.run_resumption(name, version, records)
        if "s_server" in self.ports:
            self.run_proxies()
        with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
            for job in [pool.submit(self.judge, *job) for job in self.jobs]:
                job.result()

    def judge(self, name, arguments, want, words):
        got = run_client(self.program, arguments)
        verdict.judge("tls." + name, compare_tls(want, got, words))


def compare_tls(want, got, words):
    """As compare(), but "cipher=A|B" is either, "*" is anything, and why the records are carried so is a sentence."""
    complaints = []
    bare = []
    for line in got:
        line, mark, why = line.partition(" why=")
        if mark and len(why) < 10:
            complaints.append("why the records are carried so is not said: '%s'" % why)
        bare.append(line)
    if len(bare) == len(want):
        bare = [wanted if is_like(wanted, line) else line for wanted, line in zip(want, bare)]
    return complaints + (compare(want, bare, words) if bare != want else [])


def is_like(wanted, line):
    if not wanted.startswith(("tls ", "statistics ")):
        return False
    pattern = re.escape(wanted).replace(r"\*", r"\S+").replace(r"\|", "|")
    return re.fullmatch(re.sub(r"cipher=(\S+\|\S+)", r"cipher=(?:\1)", pattern), line) is not None
