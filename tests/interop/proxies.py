"""Through proxies that nobody here wrote, to the fault server: tinyproxy for HTTP CONNECT, microsocks for SOCKS5."""
import socket

import verdict
from fault_cases import UNCLEAN, on
from fault_run import MODES, compare, run_client
from servers import Missing

TALK = ["open", "message text 4 good", "close 1000 clean=1 reason="]
MANY = 50
MANY_TALK = ["sockets opened=%d failed=0 refused=0 clean=%d" % (MANY, MANY)]


def refused(http):
    return ["error stage=proxy errno=0 http=%d text=" % http, UNCLEAN]


def closed_port():
    """A port that is ours and does not listen, as long as the socket lives."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound, bound.getsockname()[1]


class Runner:
    def __init__(self, program, port):
        self.program = program
        self.urls = {name: "ws://%s:%d/talk?id=-" % (host, port)
                     for name, host in {"address": "127.0.0.1", "name": "localhost"}.items()}
        self.bound, closed = closed_port()
        self.urls["refused"] = "ws://127.0.0.1:%d/" % closed
        self.urls["nowhere"] = "ws://no-such-host.invalid:9/talk?id=-"
        self.closed = closed

    def run(self, name, proxy, url, want, words=(), arguments=()):
        for mode, options in MODES.items():
            got = run_client(self.program, [*options, "--proxy", proxy, *on("message:close=1000"), *arguments,
                                            self.urls[url]])
            verdict.judge("proxy.%s.%s" % (name, mode), compare(want, got, words))

    def run_many(self, name, proxy):
        self.run(name + ".many", proxy, "address", MANY_TALK, (), ["--sockets", str(MANY), "--together"])

    def run_http(self, servers):
        port = servers.tinyproxy()
        self.run("http.address", "http://127.0.0.1:%d" % port, "address", TALK)
        self.run("http.name", "http://localhost:%d/" % port, "name", TALK)
        self.run("http.connect-to", "http://127.0.0.1:%d" % port, "nowhere", TALK, (),
                 ["--connect-to", self.urls["address"].split("/")[2]])
        self.run("http.refused", "http://127.0.0.1:%d" % port, "refused", refused(500), ["proxy", "http_status"])
        self.run("http.nowhere", "http://127.0.0.1:%d" % port, "nowhere", refused(500), ["proxy", "http_status"])
        # It waits for a line's end that a SOCKS5 client never sends.
        self.run("http.no-socks", "socks5://127.0.0.1:%d" % port, "address",
                 ["error stage=proxy errno=ETIMEDOUT http=0 text=", UNCLEAN], ["no tunnel"], ["--open-timeout", "300"])
        self.run_many("http", "http://127.0.0.1:%d" % port)
        port = servers.tinyproxy("ConnectPort 1")
        self.run("http.forbidden", "http://127.0.0.1:%d" % port, "address", refused(403), ["does not allow"])

    def run_http_credentials(self, servers):
        port = servers.tinyproxy("BasicAuth user passw0rd")
        self.run("http.known", "http://%%75ser:passw%%30rd@127.0.0.1:%d" % port, "address", TALK)
        self.run("http.unknown", "http://user:wrong@127.0.0.1:%d" % port, "address", refused(401), ["proxy"])
        self.run("http.nobody", "http://127.0.0.1:%d" % port, "address", refused(407), ["wants credentials"])

    def run_socks(self, servers):
        port = servers.microsocks()
        for scheme in ("socks5", "socks5h"):
            proxy = "%s://127.0.0.1:%d" % (scheme, port)
            self.run(scheme + ".address", proxy, "address", TALK)
            self.run(scheme + ".name", proxy, "name", TALK)
            self.run(scheme + ".refused", proxy, "refused", refused(0), ["refused", "reply 5"])
            self.run_many(scheme, proxy)
        self.run("socks5h.nowhere", "socks5h://localhost:%d" % port, "nowhere", refused(0), ["proxy"])
        self.run("socks5h.connect-to", "socks5h://127.0.0.1:%d" % port, "nowhere", TALK, (),
                 ["--connect-to", self.urls["address"].split("/")[2]])
        self.run("socks5.no-http", "http://127.0.0.1:%d" % port, "address",
                 ["error stage=proxy errno=0|ECONNRESET http=0 text=", UNCLEAN], ["the proxy"])

    def run_socks_credentials(self, servers):
        port = servers.microsocks("-u", "user", "-P", "pass@word")
        self.run("socks5.known", "socks5://user:pass%%40word@127.0.0.1:%d" % port, "name", TALK)
        self.run("socks5.unknown", "socks5://user:wrong@127.0.0.1:%d" % port, "address", refused(0),
                 ["does not accept"])
        self.run("socks5.nobody", "socks5://127.0.0.1:%d" % port, "address", refused(0), ["wants credentials"])

    def run_all(self, servers):
        for scheme in ("http", "socks5"):
            self.run(scheme + ".absent", "%s://127.0.0.1:%d" % (scheme, self.closed), "address",
                     ["error stage=connect errno=ECONNREFUSED http=0 text=", UNCLEAN], ["the proxy refused"])
        for run in (self.run_http, self.run_http_credentials, self.run_socks, self.run_socks_credentials):
            name = "proxy." + run.__name__.removeprefix("run_")
            try:
                run(servers)
            except Missing as missing:
                verdict.skipped(name, str(missing))
            except (RuntimeError, OSError) as broken:
                verdict.failed(name, str(broken))
        self.bound.close()
