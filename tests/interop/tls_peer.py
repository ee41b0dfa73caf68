"""The server's side of one TLS connection: OpenSSL makes the handshake over memory, and a test sees and changes what
goes on the wire; then the records are this file's own.
"""
import asyncio
import ssl
import struct

import tls_keys
from fault_server import Peer
from tls_keys import ALERT, DATA, HANDSHAKE

READ_BYTES = 65536


class Over(Exception):
    """The connection has ended before the scene has."""


class TlsPeer(Peer):
    """As Peer once handshake() is over. More in `seen`:

    tls      what went wrong in the handshake, as OpenSSL names it; "" when nothing did
    sni      the name that the client asked for
    client   the name in its certificate
    protocol what ALPN agreed on
    notify   close_notify came
    alerts   of the client, "level:description", separated by spaces; "unsealed" is a record that cannot be opened
    updates  KeyUpdates of the client
    """

    def __init__(self, reader, writer, context, log):
        super().__init__(reader, writer)
        self.raw = reader
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.context = context
        self.log = log
        self.tls = None
        self.client_hello = b""
        self.server_hello = b""
        self.inward = self.outward = None
        self.task = None
        self.rest = b""
        self.seen.update(tls="", sni="", client="", protocol="", notify="no", alerts="", updates=0)

    # ---- The handshake

    async def read_raw(self):
        data = await self.raw.read(READ_BYTES)
        if not data:
            self.seen["end"] = "eof"
            raise Over
        return data

    async def write(self, wire):
        self.writer.write(wire)
        await self.writer.drain()

    async def read_hello(self):
        """Up to the whole of the ClientHello, or of what came instead."""
        while self.client_hello[:1] in (b"", b"\x16") and not tls_keys.split(self.client_hello)[0]:
            self.client_hello += await self.read_raw()
        self.incoming.write(self.client_hello)

    async def handshake(self, deliver=None):
        """@deliver is given each flight of the server, instead of the client, and whether it is the last."""
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.tls.peer = self
        if not self.client_hello:
            await self.read_hello()
        while True:
            is_done, trouble = self.step()
            wire = self.outgoing.read()
            if wire:
                self.server_hello = self.server_hello or wire
                await (deliver(wire, is_done) if deliver else self.write(wire))
            if trouble:
                self.seen["tls"] = trouble
                raise Over
            if is_done:
                self.seen["client"] = common_name(self.tls.getpeercert())
                self.seen["protocol"] = self.tls.selected_alpn_protocol()
                break
            self.incoming.write(await self.read_raw())
        self.take_over()

    def step(self):
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False, ""
        except ssl.SSLError as error:
            return False, error.reason or "unknown"
        return True, ""

    def secret(self, label):
        return tls_keys.find_secret(self.log, label, self.client_hello[11:43])

    def suite(self):
        return tls_keys.Suite(self.tls.cipher()[0])

    def is_13(self):
        """Also during the handshake: a server here speaks one version."""
        return self.context.maximum_version == ssl.TLSVersion.TLSv1_3

    def handshake_key(self):
        """TLS 1.3: what the server seals with between ServerHello and Finished."""
        return tls_keys.Direction13(self.suite(), self.secret("SERVER_HANDSHAKE_TRAFFIC_SECRET"))

    def take_over(self):
        """From now on records are opened and sealed here; a server that sends tickets has sent none yet."""
        suite = self.suite()
        if self.is_13():
            self.inward = tls_keys.Direction13(suite, self.secret("CLIENT_TRAFFIC_SECRET_0"))
            self.outward = tls_keys.Direction13(suite, self.secret("SERVER_TRAFFIC_SECRET_0"))
        else:
            self.inward, self.outward = tls_keys.directions12(
                suite, self.secret("CLIENT_RANDOM"), self.client_hello[11:43], self.server_hello[11:43])
        if self.is_13():
            self.outward.sequence = self.context.num_tickets
        self.rest = self.incoming.read()
        self.reader = asyncio.StreamReader(limit=1 << 20)
        self.task = asyncio.get_running_loop().create_task(self.pump())

    # ---- Records in

    async def pump(self):
        try:
            while True:
                records, self.rest = tls_keys.split(self.rest)
                for record in records:
                    self.take(record)
                data = await self.raw.read(READ_BYTES)
                if not data:
                    self.reader.feed_eof()
                    return
                self.rest += data
        except (ConnectionError, OSError) as error:
            self.reader.set_exception(error)

    def take(self, record):
        opened = self.inward.open(record)
        if opened is None:
            self.note_alert("unsealed")
            return
        content_type, content = opened
        if content_type == DATA:
            self.reader.feed_data(content)
        elif content_type == ALERT:
            self.note_alert("%d:%d" % tuple(content))
            if content[1] == 0:
                self.seen["notify"] = "yes"
        elif content_type == HANDSHAKE and self.is_13() and content[0] == 24:
            self.seen["updates"] += 1
            self.inward.renew()

    def note_alert(self, text):
        self.seen["alerts"] = (self.seen["alerts"] + " " + text).strip()

    # ---- Records out

    def seal(self, content_type, content, **more):
        return self.outward.seal(content_type, content, **more)

    def seal_data(self, data):
        return b"".join(self.seal(DATA, data[i:i + tls_keys.PLAIN_MAX])
                        for i in range(0, len(data), tls_keys.PLAIN_MAX))

    async def send(self, data):
        await self.write(self.seal_data(data))

    def alert(self, level, description):
        return self.seal(ALERT, bytes([level, description]))

    def cut(self):
        """close_notify, then FIN."""
        if self.outward and self.writer.can_write_eof():
            self.writer.write(self.alert(1, 0))
        self.cut_bare()

    def cut_bare(self):
        """FIN alone."""
        self.ends_tcp = False
        if self.writer.can_write_eof():
            self.writer.write_eof()

    async def open(self):
        """Handshake, request, upgrade."""
        await self.handshake()
        await self.read_request()
        await self.upgrade()


def plain_alert(level, description, version=0x0303):
    return tls_keys.header(ALERT, 2, version) + bytes([level, description])


def name_asked(tls, name, _):
    """SSLContext.sni_callback."""
    tls.peer.seen["sni"] = name or ""


def common_name(certificate):
    """Of SSLObject.getpeercert()."""
    return dict(pair for name in (certificate or {}).get("subject", ()) for pair in name).get("commonName", "")


def key_update(asks):
    return struct.pack(">BBHB", 24, 0, 1, asks)


def ticket(number):
    """A NewSessionTicket of TLS 1.3, RFC 8446 4.6.1."""
    body = struct.pack(">IIB", 7200, number, 8) + struct.pack(">Q", number) + struct.pack(">H", 160) + \
        struct.pack(">Q", number) * 20 + struct.pack(">H", 0)
    return struct.pack(">BBH", 4, 0, len(body)) + body
