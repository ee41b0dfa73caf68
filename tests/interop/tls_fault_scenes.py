"""What the TLS fault server does, scene by scene: each is one coroutine that is given the peer, and has a port of its
own for each version of TLS. What the client is to make of each is in tls_fault_cases.py.
"""
import asyncio
import os
import struct

import tls_keys
from fault_scenes import BINARY, CLOSE, GOOD, TEXT, close, frame
from tls_keys import ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE
from tls_peer import Over, key_update, plain_alert, ticket

BOTH = ("1.2", "1.3")
TICKETS_MANY = 20000
UPDATES_MANY = 20
RECORD_MAX = {"1.2": 16384 + 2048, "1.3": 16384 + 256}     # RFC 5246 6.2.3, RFC 8446 5.2
HELLO_REQUEST = bytes(4)                                   # RFC 5246 7.4.1.1
GARBAGE = b"\x00\x9f\xff\xfe\x80 this is no record at all"

SCENES = {}


class Scene:
    """@settings: certificate, clients_ca and tickets of the server's context."""

    def __init__(self, play, version, settings):
        self.play = play
        self.version = version
        self.settings = settings


def scene(name, versions=BOTH, **settings):
    def add(play):
        for version in versions:
            SCENES["%s-%s" % (name, version)] = Scene(play, version, settings)
        return play
    return add


def raw(name):
    """A scene without a handshake of its own."""
    def add(play):
        SCENES[name] = Scene(play, None, {})
        return play
    return add


async def talk(peer):
    """Says "good" and answers a Close."""
    await peer.open()
    await peer.send(GOOD)
    if await peer.read_until(CLOSE) is not None:
        await peer.send(close(1000))


scene("talk")(talk)
for _name in ("expired", "future", "alone", "other-name", "other-use", "strange", "revoked", "below", "without-middle",
              "with-middle", "large", "larger", "long-chain", "longer-chain"):
    scene(_name, certificate=_name)(talk)
scene("asks-client", clients_ca="ca.pem")(talk)


# ---- No TLS, or none of it right ----------------------------------------------------------------------


@raw("accept-close")
async def accept_close(peer):
    peer.cut_bare()


@raw("accept-reset")
async def accept_reset(peer):
    peer.reset()


@raw("silent")
async def silent(peer):
    await peer.read_hello()


def says(name, data, first=False):
    """A scene that says this, for most once it has read the ClientHello, and ends TCP."""
    @raw(name)
    async def play(peer):
        if not first:
            await peer.read_hello()
        await peer.write(data)
        peer.cut_bare()


says("hello-close", b"")
says("plain-http", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
says("plain-http-endless", b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"what was that? " * 10000)
says("plain-banner", b"SSH-2.0-OpenSSH_9.2\r\n", first=True)
says("garbage", os.urandom(1000))
says("zeros", bytes(1000))
says("garbage-in-record", tls_keys.header(HANDSHAKE, 500) + os.urandom(500))
says("data-first", tls_keys.header(DATA, 5) + b"hello")
says("ccs-first", tls_keys.header(CHANGE_CIPHER_SPEC, 1) + b"\1")
says("alert-failure", plain_alert(2, 40))
says("alert-version", plain_alert(2, 70))
says("alert-name", plain_alert(2, 112))
says("alert-unknown", plain_alert(2, 200))
says("alert-close", plain_alert(1, 0))
says("alert-cut", plain_alert(2, 40)[:6])
says("alert-long", tls_keys.header(ALERT, 3) + b"\2\x28\x28")
says("alert-empty", tls_keys.header(ALERT, 0))
says("warnings", plain_alert(1, 112) * 20)
says("oversized", tls_keys.header(HANDSHAKE, 65535) + bytes(65535))
says("hello-huge", tls_keys.header(HANDSHAKE, 4) + b"\x02\xff\xff\xff" + tls_keys.header(HANDSHAKE, 16384) * 4)


@raw("hello-reset")
async def hello_reset(peer):
    await peer.read_hello()
    peer.reset()


@raw("tls-1.0")
async def tls_10(peer):
    """A server that knows nothing newer, and so answers with what it has."""
    await peer.read_hello()
    secure_renegotiation = b"\0\5\xff\x01\0\1\0"
    hello = struct.pack(">H", 0x0301) + os.urandom(32) + b"\0" + b"\xc0\x09" + b"\0" + secure_renegotiation
    message = b"\2" + struct.pack(">I", len(hello))[1:] + hello
    await peer.write(tls_keys.header(HANDSHAKE, len(message), 0x0301) + message)


@raw("echoes-hello")
async def echoes_hello(peer):
    """What a plain echo server on the port would do."""
    await peer.read_hello()
    await peer.write(peer.client_hello)


# ---- The handshake: cut, late, changed ----------------------------------------------------------------


def cutter(name, is_silent=False, **settings):
    """A scene that in its n-th connection lets n bytes of the handshake out, and then ends TCP or is silent. In `seen`
    whole=yes: those were all, and what was cut is behind it, which is tickets of TLS 1.3."""
    @scene(name, **settings)
    async def play(peer):
        left = peer.number
        peer.seen.update(number=peer.number, whole="no")

        async def deliver(wire, is_last):
            nonlocal left
            await peer.write(wire[:left])
            if len(wire) > left:
                peer.seen["whole"] = "yes" if is_last and peer.is_13() else "no"
                end()
                raise Over
            left -= len(wire)

        def end():
            if not is_silent:
                peer.cut_bare()

        await peer.handshake(deliver)
        if is_silent:
            await peer.read_request()      # it has come so far before its time was over
        peer.seen["whole"] = "yes"
        end()


cutter("cut")
cutter("cut-tickets", tickets=2)
cutter("stall", is_silent=True)


@scene("drip")
async def drip(peer):
    """The handshake in segments of one byte."""
    async def deliver(wire, _):
        for i in range(len(wire)):
            await peer.write(wire[i:i + 1])
            await asyncio.sleep(0)

    await peer.handshake(deliver)
    await peer.read_request()
    await peer.upgrade()
    await peer.drip(GOOD)
    if await peer.read_until(CLOSE) is not None:
        await peer.send(close(1000))


@scene("crumbs", versions=["1.2"])
async def crumbs(peer):
    """The first flight in records of one byte each, RFC 5246 6.2.1."""
    async def deliver(wire, is_last):
        if not is_last:
            content = b"".join(record[5:] for record in tls_keys.split(wire)[0])
            wire = b"".join(tls_keys.header(HANDSHAKE, 1) + content[i:i + 1] for i in range(len(content)))
        await peer.write(wire)

    await peer.handshake(deliver)
    await peer.read_request()
    await peer.upgrade()
    await peer.send(GOOD)
    if await peer.read_until(CLOSE) is not None:
        await peer.send(close(1000))


def resets(name, after):
    """A scene that resets TCP after @after bytes of its first flight, or after its end."""
    @scene(name)
    async def play(peer):
        async def deliver(wire, _):
            await peer.write(wire[:after])
            await asyncio.sleep(0.1)
            peer.reset()
            raise Over

        await peer.handshake(deliver)


resets("hello-then-reset", 60)
resets("flight-then-reset", 100000)


class Injector:
    """Writes records, and before the n-th of connection n what @make gives. In `seen`: how far the connection was."""

    def __init__(self, peer, make):
        self.peer = peer
        self.make = make
        self.left = peer.number
        self.sealed = 0            # records of this phase that were sealed
        self.phase = "hello"

    async def write(self, record):
        if self.left == 0:
            self.peer.seen["phase"] = self.phase
            await self.peer.write(self.make(self.peer, self))
        self.left -= 1
        await self.peer.write(record)

    async def deliver(self, wire, is_last):
        for record in tls_keys.split(wire)[0]:
            await self.write(record)
            if self.phase == "hello" and self.peer.is_13():
                self.phase = "sealed"
            elif self.phase == "hello" and record[0] == CHANGE_CIPHER_SPEC:
                self.phase = "finished"
            elif record[0] == DATA:
                self.sealed += 1
        if is_last:
            self.phase = "upgrade"


def injector(name, make):
    @scene(name)
    async def play(peer):
        injector = Injector(peer, make)
        await peer.handshake(injector.deliver)
        injector.phase = "upgrade"
        await peer.read_request()
        await injector.write(peer.seal(DATA, peer.head()))
        injector.phase = "open"
        for _ in range(3):
            await injector.write(peer.seal(DATA, GOOD))
        peer.cut()


def sealed_alert(peer, injector):
    """A fatal internal_error under the keys of the moment."""
    if injector.phase == "hello":
        return plain_alert(2, 80)
    if injector.phase == "sealed":
        key = peer.handshake_key()
        key.sequence = injector.sealed
        return key.seal(ALERT, b"\2\x50")
    if injector.phase == "finished":
        key = tls_keys.directions12(peer.suite(), peer.secret("CLIENT_RANDOM"), peer.client_hello[11:43],
                                    peer.server_hello[11:43])[1]
        key.sequence = 0
        return key.seal(ALERT, b"\2\x50")
    peer.outward.sequence -= 1     # the record that it is put before was sealed already
    return peer.seal(ALERT, b"\2\x50")


injector("inject-garbage", lambda peer, injector: GARBAGE)
injector("inject-noise", lambda peer, injector: tls_keys.header(DATA, 64) + os.urandom(64))
injector("inject-oversized", lambda peer, injector: tls_keys.header(DATA, 65535) + bytes(65535))
injector("inject-alert", sealed_alert)


# ---- Records after the handshake ----------------------------------------------------------------------


def sends(name, make, versions=BOTH, good=True):
    """A scene that says "good", sends the records that @make gives, and "good" again."""
    @scene(name, versions=versions)
    async def play(peer):
        await peer.open()
        await peer.send(GOOD)
        await peer.write(make(peer))
        await peer.send(GOOD if good else b"")
        if await peer.read_until(CLOSE) is not None:
            await peer.send(close(1000))


def flipped(record, at=-1):
    record = bytearray(record)
    record[at] ^= 1
    return bytes(record)


def handshake_pieces(peer, message, size):
    return b"".join(peer.seal(HANDSHAKE, message[i:i + size]) for i in range(0, len(message), size))


def skipped(peer):
    peer.outward.sequence += 1
    return b""


def renewed(peer, asks=0):
    wire = peer.seal(HANDSHAKE, key_update(asks))
    peer.outward.renew()
    return wire


MESSAGE = frame(TEXT, "more")

sends("flip-tag", lambda peer: flipped(peer.seal(DATA, MESSAGE)))
sends("flip-data", lambda peer: flipped(peer.seal(DATA, MESSAGE), 14))
sends("replay", lambda peer: peer.seal(DATA, MESSAGE) * 2)
sends("skip", skipped)
sends("unsealed", lambda peer: tls_keys.header(DATA, len(MESSAGE)) + MESSAGE)
sends("tiny", lambda peer: tls_keys.header(DATA, 3) + b"abc")
sends("empty-outside", lambda peer: tls_keys.header(DATA, 0))
sends("noise", lambda peer: tls_keys.header(DATA, 100) + os.urandom(100))
sends("garbage", lambda peer: GARBAGE)
sends("long", lambda peer: peer.seal(DATA, frame(BINARY, bytes(16385 - 4))))
sends("longest", lambda peer: peer.seal(DATA, frame(BINARY, bytes(16384 - 4))))
sends("oversized", lambda peer: tls_keys.header(DATA, 1 + RECORD_MAX["1.3" if peer.is_13() else "1.2"]) + bytes(20000))
sends("old-version", lambda peer: b"".join([peer.seal(DATA, MESSAGE)[:1], b"\3\1", peer.seal(DATA, MESSAGE)[3:]]))
sends("type-24", lambda peer: peer.seal(24, MESSAGE))
sends("empty-few", lambda peer: b"".join(peer.seal(DATA, b"") for _ in range(5)))
sends("empty-many", lambda peer: b"".join(peer.seal(DATA, b"") for _ in range(100)))
sends("ccs", lambda peer: tls_keys.header(CHANGE_CIPHER_SPEC, 1) + b"\1")
sends("bare", lambda peer: peer.outward.seal_inner(bytes(20)), ["1.3"])
sends("padded", lambda peer: peer.seal(DATA, MESSAGE, padding=16384 - len(MESSAGE)), ["1.3"])
sends("padded-long", lambda peer: peer.seal(DATA, MESSAGE, padding=16385), ["1.3"])
sends("outer-type", lambda peer: b"\x16" + peer.seal(DATA, MESSAGE)[1:], ["1.3"])
sends("alert", lambda peer: peer.alert(2, 80))
sends("alert-unknown", lambda peer: peer.alert(2, 200))
sends("alert-short", lambda peer: peer.seal(ALERT, b"\2"))
sends("alert-level", lambda peer: peer.alert(7, 80))
sends("alert-canceled", lambda peer: peer.alert(1, 90))
sends("alert-warnings", lambda peer: b"".join(peer.alert(1, 90) for _ in range(20)))
sends("finished", lambda peer: peer.seal(HANDSHAKE, b"\x14\0\0\x0c" + bytes(12)))
sends("asks-later", lambda peer: peer.seal(HANDSHAKE, b"\x0d\0\0\3\0\0\0"), ["1.3"])
sends("renegotiate", lambda peer: peer.seal(HANDSHAKE, HELLO_REQUEST))
sends("renegotiate-often", lambda peer: b"".join(peer.seal(HANDSHAKE, HELLO_REQUEST) for _ in range(20)), ["1.2"])
sends("update", renewed, ["1.3"])
sends("update-asks", lambda peer: renewed(peer, 1), ["1.3"])
sends("update-often", lambda peer: b"".join(renewed(peer, 1) for _ in range(UPDATES_MANY)), ["1.3"])
sends("update-pieces", lambda peer: handshake_pieces(peer, key_update(0), 1) + (peer.outward.renew() or b""), ["1.3"])
sends("update-old-key", lambda peer: peer.seal(HANDSHAKE, key_update(0)), ["1.3"])
sends("update-bad", lambda peer: peer.seal(HANDSHAKE, key_update(2)), ["1.3"])
sends("update-and-more", lambda peer: peer.seal(HANDSHAKE, key_update(0) + ticket(1)), ["1.3"])
sends("update", lambda peer: peer.seal(HANDSHAKE, key_update(0)), ["1.2"])
sends("tickets", lambda peer: b"".join(peer.seal(HANDSHAKE, ticket(i)) for i in range(TICKETS_MANY)), ["1.3"])
sends("ticket-pieces", lambda peer: handshake_pieces(peer, ticket(1) + ticket(2), 1), ["1.3"])
sends("ticket-cut", lambda peer: peer.seal(HANDSHAKE, ticket(1)[:-1]), ["1.3"])
sends("ticket-bad", lambda peer: peer.seal(HANDSHAKE, b"\4\0\0\5\0\0\0\0\0"), ["1.3"])
sends("ticket-huge", lambda peer: peer.seal(HANDSHAKE, b"\4\xff\xff\xff" + bytes(1000)), ["1.3"])


@scene("tickets-for-ever", versions=["1.3"])
async def tickets_for_ever(peer):
    """Instead of an answer to the request."""
    await peer.handshake()
    while True:
        await peer.write(b"".join(peer.seal(HANDSHAKE, ticket(i)) for i in range(100)))
        await asyncio.sleep(0.002)


@scene("requests-for-ever", versions=["1.2"])
async def requests_for_ever(peer):
    """Asks for new handshakes instead of answering the request, so slowly that a client that stands still for seconds
    does not find more of them than it is ready to answer."""
    await peer.handshake()
    while True:
        await peer.write(peer.seal(HANDSHAKE, HELLO_REQUEST))
        await asyncio.sleep(0.002)


# ---- Ends ---------------------------------------------------------------------------------------------


def ends(name, *parts, answers=True):
    """A scene that says "good", waits for a Close when it @answers it, and then does @parts in turn: bytes are data,
    functions give records, and at the end comes FIN."""
    @scene(name)
    async def play(peer):
        await peer.open()
        await peer.send(GOOD)
        if answers:
            await peer.read_until(CLOSE)
        for part in parts:
            await peer.write(peer.seal_data(part) if isinstance(part, bytes) else part(peer))
        peer.cut_bare()


def notify(peer):
    return peer.alert(1, 0)


ends("close-notify-fin", close(1000), notify)
ends("close-fin", close(1000))
ends("close-notify-data", close(1000), notify, MESSAGE)
ends("close-notify-garbage", close(1000), notify, lambda peer: GARBAGE)
ends("close-garbage", close(1000), lambda peer: GARBAGE)
ends("close-cut-record", close(1000), lambda peer: peer.seal(DATA, MESSAGE)[:9])
ends("notify", notify, answers=False)
ends("notify-data", notify, MESSAGE + close(1000), answers=False)
ends("notify-fatal", lambda peer: peer.alert(2, 0), answers=False)
ends("fin", answers=False)
ends("cut-header", lambda peer: peer.seal(DATA, MESSAGE)[:3], answers=False)
ends("cut-record", lambda peer: peer.seal(DATA, MESSAGE)[:9], answers=False)
ends("cut-long-record", lambda peer: peer.seal(DATA, frame(BINARY, bytes(16000)))[:9000], answers=False)
ends("cut-frame", frame(TEXT, "half")[:4], notify, answers=False)


@scene("notify-no-fin")
async def notify_no_fin(peer):
    """close_notify after both Close frames, and TCP stays open."""
    peer.ends_tcp = False
    await peer.open()
    await peer.send(GOOD)
    await peer.read_until(CLOSE)
    await peer.send(close(1000))
    await peer.write(notify(peer))


@scene("upgrade-notify")
async def upgrade_notify(peer):
    """close_notify instead of an answer."""
    await peer.handshake()
    await peer.read_request()
    peer.cut()


@scene("upgrade-fin")
async def upgrade_fin(peer):
    await peer.handshake()
    await peer.read_request()
    peer.cut_bare()
