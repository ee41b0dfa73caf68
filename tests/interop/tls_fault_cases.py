"""What the client must make of each scene of the TLS fault server: its lines, the words of its error, and what the
server saw of it. "%(folder)s" in an option is where the certificates are.
"""
from fault_cases import GOOD, UNCLEAN, on
from tls_fault_scenes import BOTH, UPDATES_MANY

CA = ["--cacert", "%(folder)s/ca.pem"]
CLOSES = on("message:close=1000")
CLEAN = "close 1000 clean=1 reason="
GONE = ("closed", "ended", "eof", "close_notify")


class Case:
    """@versions: of a scene that has them; @seen: what the server must have seen, by key, a tuple is any of these."""

    def __init__(self, scene, lines, words=(), options=(), name=None, versions=BOTH, seen=None, ca=None, url=None):
        self.scene = scene
        self.lines = list(lines)
        self.words = words
        self.options = ["--limit", "20000", *(CA if ca is None else ca), *options]
        self.name = name or scene
        self.versions = versions
        self.seen = seen or {}
        self.url = url or "wss://127.0.0.1:%(port)d/"


def raw(scene, *words, errno="0", **more):
    """A scene without versions, which fails in TLS."""
    return Case(scene, ["error stage=tls errno=%s http=0 text=" % errno, UNCLEAN], words, versions=[None], **more)


def refused(scene, tls, *words, **more):
    """F3: the client refuses the server's certificate, and tells it by the alert @tls, as OpenSSL names it."""
    options = [*CLOSES, *more.pop("options", [])]
    return Case(scene, ["error stage=tls errno=0 http=0 text=", UNCLEAN], words, options, seen={"tls": tls}, **more)


def lost(scene, stage, *words, errno="0", **more):
    return Case(scene, ["error stage=%s errno=%s http=0 text=" % (stage, errno), UNCLEAN], words, **more)


def opens(scene, *options, seen=None, **more):
    """HS-11, CLOSE-31: TLS comes before the request, and ends with close_notify before TCP does."""
    want = {"close": "1000", "notify": "yes", "alerts": "1:0", "end": "eof", "protocol": "http/1.1"}
    want.update(seen or {})
    return Case(scene, [*GOOD, CLEAN], (), [*options, *CLOSES], seen=want, **more)


def survives(scene, *lines, **more):
    """Whatever came between two good messages, the second comes too."""
    seen = {"close": "1000", "notify": "yes", **more.pop("seen", {"alerts": "1:0"})}
    return Case(scene, [*GOOD, *lines, GOOD[1], CLEAN], (), on("message@%d:close=1000" % (len(lines) + 2)), seen=seen,
                **more)


def breaks(scene, alert, *words, lines=(), **more):
    """An error after the good message, told to the server by this alert."""
    return Case(scene, [*GOOD, *lines, "error stage=open errno=0 http=0 text=", UNCLEAN], words,
                seen={"alerts": alert, "close": "none"}, **more)


def alerted(scene, *words, **more):
    """The server's alert after the good message; no alert goes back."""
    return Case(scene, [*GOOD, "error stage=open errno=0 http=0 text=", UNCLEAN], ("alert", *words),
                seen={"alerts": "", "close": "none"}, **more)


def crl(name):
    return ["--crl", "%(folder)s/" + name]


CERTIFICATES = [
    # URL-34
    opens("talk", seen={"sni": ""}),
    opens("talk", "--connect-to", "127.0.0.1:%(port)d", name="talk-name", seen={"sni": "localhost"},
          url="wss://localhost:%(port)d/"),
    opens("talk", "--connect-to", "127.0.0.1:%(port)d", name="talk-address-6", seen={"sni": ""},
          url="wss://[::1]:%(port)d/"),
    refused("other-name", "SSLV3_ALERT_BAD_CERTIFICATE", "address", name="other-name-address-6",
            options=["--connect-to", "127.0.0.1:%(port)d"], url="wss://[::1]:%(port)d/"),
    opens("talk", ca=["--capath", "%(folder)s/directory"], name="authority-of-directory"),
    refused("talk", "TLSV1_ALERT_UNKNOWN_CA", "issuer", ca=(), name="system-authorities"),
    refused("expired", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "expired"),
    refused("future", "SSLV3_ALERT_CERTIFICATE_EXPIRED|SSLV3_ALERT_BAD_CERTIFICATE", "not yet valid"),
    refused("alone", "TLSV1_ALERT_UNKNOWN_CA", ("self-signed", "self signed")),
    opens("alone", ca=["--cacert", "%(folder)s/alone.pem"], name="alone-trusted"),
    refused("other-name", "SSLV3_ALERT_BAD_CERTIFICATE", ("mismatch", "not valid for", "address")),
    refused("other-name", "SSLV3_ALERT_BAD_CERTIFICATE", ("mismatch", "not valid for", "name"), name="other-name-name",
            options=["--connect-to", "127.0.0.1:%(port)d"], url="wss://localhost:%(port)d/"),
    opens("other-name", "--tls-name", "other.example", name="other-name-asked", seen={"sni": "other.example"}),
    opens("other-name", "--tls-name", "192.0.2.1", name="other-address-asked", seen={"sni": ""}),
    refused("talk", "SSLV3_ALERT_BAD_CERTIFICATE", ("mismatch", "not valid for", "name"), name="wrong-name-asked",
            options=["--tls-name", "other.example"]),
    refused("other-use", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "not for a server"),
    refused("strange", "TLSV1_ALERT_UNKNOWN_CA", "issuer"),
    opens("strange", ca=["--cacert", "%(folder)s/stranger.pem"], name="strange-trusted"),
    refused("without-middle", "TLSV1_ALERT_UNKNOWN_CA", "issuer"),
    opens("without-middle", ca=["--cacert", "%(folder)s/middle.pem"], name="middle-trusted"),
    opens("with-middle"),
    opens("revoked", name="revoked-without-list"),
    refused("revoked", "SSLV3_ALERT_CERTIFICATE_REVOKED", "revoked", options=crl("ca.crl")),
    opens("talk", *crl("ca.crl"), name="not-revoked"),
    refused("with-middle", "TLSV1_ALERT_UNKNOWN_CA|SSLV3_ALERT_BAD_CERTIFICATE|SSLV3_ALERT_CERTIFICATE_UNKNOWN", "crl",
            options=crl("ca.crl"), name="list-missing"),
    opens("with-middle", *crl("both.crl"), name="both-lists"),
    refused("talk", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "crl", "expired", options=crl("old.crl"), name="list-expired"),
    Case("expired", ["open", "tls insecure", GOOD[1], CLEAN, "statistics insecure"],
         options=["--insecure", "--show-tls", "--statistics", *CLOSES], name="expired-insecure"),
    Case("alone", ["open", "tls insecure", GOOD[1], CLEAN, "statistics insecure"],
         options=["--insecure", "--show-tls", "--statistics", *CLOSES], name="alone-insecure"),
    opens("large"),
    opens("long-chain"),
    refused("larger", "SSLV3_ALERT_ILLEGAL_PARAMETER", "excessive message size"),
    refused("longer-chain", "SSLV3_ALERT_ILLEGAL_PARAMETER", "excessive message size"),
    opens("asks-client", "--cert", "%(folder)s/client.pem", "--key", "%(folder)s/client.key",
          seen={"client": "wsring test client"}),
    opens("asks-client", "--cert", "%(folder)s/client.both", name="client-in-one-file",
          seen={"client": "wsring test client"}),
    lost("asks-client", "tls", "alert", ("handshake_failure", "handshake failure"), versions=["1.2"],
         name="no-client", seen={"tls": "PEER_DID_NOT_RETURN_A_CERTIFICATE"}),
    lost("asks-client", "upgrade", "alert", ("certificate_required", "certificate required"), versions=["1.3"],
         name="no-client", seen={"tls": "PEER_DID_NOT_RETURN_A_CERTIFICATE"}),
    lost("asks-client", "tls", "alert", ("unknown_ca", "unknown ca"), versions=["1.2"], name="strange-client",
         options=["--cert", "%(folder)s/client-strange.pem", "--key", "%(folder)s/client-strange.key"]),
    lost("asks-client", "upgrade", "alert", ("unknown_ca", "unknown ca"), versions=["1.3"], name="strange-client",
         options=["--cert", "%(folder)s/client-strange.pem", "--key", "%(folder)s/client-strange.key"]),
    lost("talk", "upgrade", ("closed", "ended", "reset", "http/1.1"), errno="0|ECONNRESET", name="plain-client",
         url="ws://127.0.0.1:%(port)d/"),
    refused("talk", "UNSUPPORTED_PROTOCOL|WRONG_VERSION_NUMBER", "version", versions=["1.2"],
            options=["--tls-min", "1.3"], name="too-old"),
    refused("talk", "UNSUPPORTED_PROTOCOL", "version", versions=["1.3"], options=["--tls-max", "1.2"], name="too-new"),
    refused("talk", "NO_SHARED_CIPHER", "alert", ("handshake_failure", "handshake failure"),
            options=["--ciphers", "ECDHE-RSA-AES128-SHA256", "--tls-max", "1.2"], versions=["1.2"], name="no-cipher"),
]

BAD_SERVERS = [
    raw("accept-close", GONE),
    raw("accept-reset", "reset", errno="ECONNRESET"),
    raw("silent", ("time", "open_timeout"), errno="ETIMEDOUT", options=["--open-timeout", "300"]),
    raw("hello-close", GONE),
    raw("hello-reset", "reset", errno="ECONNRESET"),
    raw("plain-http", ("wrong version number", "no tls", "plain")),
    raw("plain-http-endless", ("wrong version number", "no tls", "plain")),
    raw("plain-banner", ("wrong version number", "no tls", "plain")),
    raw("garbage"),
    raw("zeros", ("wrong version number", "no tls", "plain")),
    raw("garbage-in-record", "unexpected message"),
    raw("data-first", "unexpected message"),
    raw("ccs-first", "unexpected message"),
    raw("alert-failure", "alert", ("handshake_failure", "handshake failure")),
    raw("alert-version", "alert", ("protocol_version", "protocol version")),
    raw("alert-name", "alert", ("unrecognized_name", "unrecognized name")),
    raw("alert-unknown", "alert", "200"),
    raw("alert-close", GONE),
    raw("alert-cut", GONE),
    raw("alert-long", "invalid alert"),
    raw("alert-empty", "invalid alert"),
    raw("warnings", "too many warn alerts"),
    raw("oversized", "packet length too long"),
    raw("hello-huge", "excessive message size"),
    raw("tls-1.0", ("unsupported protocol", "version")),
    raw("echoes-hello", "unexpected message"),
    opens("drip"),
    opens("crumbs", versions=["1.2"]),
    lost("hello-then-reset", "tls", "reset", errno="ECONNRESET"),
    lost("flight-then-reset", "tls", "reset", errno="ECONNRESET", versions=["1.2"]),
    lost("flight-then-reset", "upgrade", "reset", errno="ECONNRESET", versions=["1.3"]),
    lost("tickets-for-ever", "upgrade", ("time", "open_timeout"), errno="ETIMEDOUT", versions=["1.3"],
         options=["--open-timeout", "500"]),
    lost("requests-for-ever", "upgrade", ("time", "open_timeout"), errno="ETIMEDOUT", versions=["1.2"],
         options=["--open-timeout", "500"]),
]

# The library's words and those of the engine's own records.
BAD_MAC = ("bad record mac", "does not open")
UNEXPECTED = ("unexpected message", "unexpected record", "bad record type", "no place", "nothing but padding",
              "not encrypted")
SHORT = ("length", "too short", "does not open", "invalid aad", "bad record mac")

RECORDS = [
    breaks("flip-tag", "2:20", BAD_MAC),
    breaks("flip-data", "2:20", BAD_MAC),
    breaks("replay", "2:20", BAD_MAC, lines=["message text 4 more"]),
    breaks("skip", "2:20", BAD_MAC),
    breaks("noise", "2:20", BAD_MAC),
    breaks("update-old-key", "2:20", BAD_MAC, versions=["1.3"]),
    breaks("garbage", ("2:70", "2:10", "2:22", "2:20"), ("version", "record", "length")),
    breaks("unsealed", ("2:20", "2:50", "2:80"), SHORT),
    breaks("tiny", ("2:20", "2:50", "2:80"), SHORT),
    breaks("empty-outside", ("2:20", "2:50", "2:80"), SHORT),
    breaks("long", "2:22", ("long", "overflow", "16,384")),
    breaks("oversized", "2:22", ("long", "overflow", "length")),
    breaks("old-version", ("2:70", "2:50"), "version"),
    breaks("type-24", "2:10", UNEXPECTED),
    breaks("empty-many", "2:10", ("empty", "small")),
    breaks("ccs", "2:10", UNEXPECTED, versions=["1.3"]),
    breaks("ccs", ("2:10", "2:80"), SHORT, versions=["1.2"]),
    breaks("bare", "2:10", UNEXPECTED, versions=["1.3"]),
    breaks("outer-type", "2:10", UNEXPECTED, versions=["1.3"]),
    breaks("finished", "2:10", UNEXPECTED),
    breaks("asks-later", "2:10", UNEXPECTED, versions=["1.3"]),
    breaks("renegotiate", "2:10", UNEXPECTED, versions=["1.3"]),
    breaks("update", "2:10", UNEXPECTED, versions=["1.2"]),
    breaks("update-bad", "2:47", ("key update", "keyupdate"), versions=["1.3"]),
    breaks("update-and-more", "2:10", ("boundary", "keyupdate"), versions=["1.3"]),
    breaks("ticket-cut", "2:10", ("unexpected", "record"), versions=["1.3"]),
    breaks("ticket-bad", "2:50", ("length", "decode", "ticket"), versions=["1.3"]),
    breaks("ticket-huge", "2:47", ("size", "long", "large"), versions=["1.3"]),
    breaks("alert-short", "2:10", ("alert", "record"), versions=["1.3"]),
    breaks("alert-short", ("2:10", "2:50"), ("alert", "record"), versions=["1.2"]),
    breaks("alert-warnings", "2:10", "warn"),
    breaks("alert-level", "2:47", "alert", versions=["1.2"]),
    alerted("alert-level", ("internal_error", "internal error"), versions=["1.3"]),
    alerted("alert", ("internal_error", "internal error")),
    alerted("alert-unknown", "200"),
    survives("alert-canceled"),
    survives("empty-few"),
    survives("longest", "message binary 16380 adler=%08x" % (1 + (16380 << 16))),
    survives("padded", "message text 4 more", versions=["1.3"]),
    survives("renegotiate", versions=["1.2"], seen={"alerts": "1:100 1:0"}),
    survives("renegotiate-often", versions=["1.2"], seen={"alerts": " ".join(["1:100"] * 20) + " 1:0"}),
    survives("update", versions=["1.3"]),
    survives("update-asks", versions=["1.3"], seen={"updates": "1", "alerts": "1:0"}),
    survives("update-often", versions=["1.3"], seen={"updates": tuple(str(i) for i in range(1, UPDATES_MANY + 1)),
                                                     "alerts": "1:0"}),
    survives("update-pieces", versions=["1.3"]),
    survives("tickets", versions=["1.3"]),
    survives("ticket-pieces", versions=["1.3"]),
]


def closed(scene, *seen_alerts, **more):
    """CLOSE-31: both Close frames have passed, and nothing that follows, or is missing, makes it unclean."""
    return Case(scene, [*GOOD, CLEAN], (), [*CLOSES, *more.pop("options", [])],
                seen={"close": "1000", "late": "0", **more.pop("seen", {})}, **more)


def cut_off(scene, *words, stage="open", errno="0", **more):
    return Case(scene, [*(GOOD if stage == "open" else []), "error stage=%s errno=%s http=0 text=" % (stage, errno),
                        UNCLEAN], words, seen={"close": "none"}, **more)


WITHOUT = ("close frame", "without close", "closed", "ended")

ENDS = [
    closed("close-notify-fin", seen={"notify": "yes"}),
    closed("close-fin", seen={"notify": "yes"}),
    closed("close-notify-data"),
    closed("close-notify-garbage"),
    closed("close-garbage"),
    closed("close-cut-record"),
    closed("notify-no-fin", options=["--fin-timeout", "300"], seen={"notify": "yes"}),
    cut_off("notify", WITHOUT),
    cut_off("notify-data", WITHOUT),
    cut_off("fin", WITHOUT),
    cut_off("cut-header", WITHOUT),
    cut_off("cut-record", WITHOUT),
    cut_off("cut-long-record", WITHOUT),
    cut_off("cut-frame", WITHOUT),
    cut_off("upgrade-notify", WITHOUT, stage="upgrade"),
    cut_off("upgrade-fin", WITHOUT, stage="upgrade"),
]

# Cases by name that are repeated so often, and then may have left only so many bytes behind.
REPEATED_TIMES = 40
REPEATED_HEAP_BYTES = 256 << 10
REPEATED = ["expired", "drip", "flip-tag", "garbage", "alert", "ticket-cut", "ticket-pieces", "update-often", "padded",
            "renegotiate-often", "close-notify-data", "cut-header", "cut-long-record", "upgrade-fin"]

# Scene, sockets, runs, options: what each connection does is told by its number (tls_fault_run.py).
MANY = [
    ("cut", 500, 2, []),
    ("cut-tickets", 500, 3, []),
    ("stall", 250, 4, ["--open-timeout", "3000"]),
    ("inject-garbage", 16, 1, []),
    ("inject-noise", 16, 1, []),
    ("inject-oversized", 16, 1, []),
    ("inject-alert", 16, 1, []),
]
