"""TLS records with keys out of OpenSSL's key log, so that a test may put on the wire what no library would send."""
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
PLAIN_MAX = 16384


class Suite:
    """@name as OpenSSL writes it."""

    def __init__(self, name):
        plain = name.replace("_", "").replace("-", "")
        self.is_chacha = "CHACHA20" in plain
        self.key_bytes = 16 if "AES128" in plain else 32
        self.hash = hashes.SHA384() if plain.endswith("SHA384") else hashes.SHA256()

    def cipher(self, key):
        return ChaCha20Poly1305(key) if self.is_chacha else AESGCM(key)


def header(content_type, length, version=0x0303):
    return struct.pack(">BHH", content_type, version, length)


def xor(iv, sequence):
    return bytes(a ^ b for a, b in zip(iv, struct.pack(">IQ", 0, sequence)))


class Direction13:
    """One direction of TLS 1.3, RFC 8446 5.2 and 7.3."""

    def __init__(self, suite, secret):
        self.suite = suite
        self.set_secret(secret)

    def set_secret(self, secret):
        self.secret = secret
        self.cipher = self.suite.cipher(self.expand("key", self.suite.key_bytes))
        self.iv = self.expand("iv", 12)
        self.sequence = 0

    def expand(self, label, length):
        label = b"tls13 " + label.encode()
        info = struct.pack(">HB", length, len(label)) + label + b"\0"
        return HKDFExpand(algorithm=self.suite.hash, length=length, info=info).derive(self.secret)

    def renew(self):
        self.set_secret(self.expand("traffic upd", self.suite.hash.digest_size))

    def seal_inner(self, inner):
        """A record of exactly this TLSInnerPlaintext."""
        head = header(DATA, len(inner) + 16)
        sealed = self.cipher.encrypt(xor(self.iv, self.sequence), inner, head)
        self.sequence += 1
        return head + sealed

    def seal(self, content_type, content, padding=0):
        return self.seal_inner(content + bytes([content_type]) + bytes(padding))

    def open(self, record):
        """(type, content); None when the tag is wrong."""
        try:
            inner = self.cipher.decrypt(xor(self.iv, self.sequence), record[5:], record[:5])
        except InvalidTag:
            return None
        self.sequence += 1
        inner = inner.rstrip(b"\0")
        return inner[-1], inner[:-1]


class Direction12:
    """One direction of TLS 1.2 with an AEAD; Finished was record 0. RFC 5246 6.2.3.3, RFC 5288, RFC 7905."""

    def __init__(self, suite, key, iv):
        self.suite = suite
        self.cipher = suite.cipher(key)
        self.iv = iv
        self.sequence = 1

    def nonce(self):
        if self.suite.is_chacha:
            return xor(self.iv, self.sequence), b""
        explicit = struct.pack(">Q", self.sequence)
        return self.iv + explicit, explicit

    def seal(self, content_type, content):
        nonce, explicit = self.nonce()
        sealed = explicit + self.cipher.encrypt(
            nonce, content, struct.pack(">Q", self.sequence) + header(content_type, len(content)))
        self.sequence += 1
        return header(content_type, len(sealed)) + sealed

    def open(self, record):
        sealed = record[5:]
        nonce = xor(self.iv, self.sequence)
        if not self.suite.is_chacha:
            nonce, sealed = self.iv + sealed[:8], sealed[8:]
        try:
            content = self.cipher.decrypt(
                nonce, sealed, struct.pack(">Q", self.sequence) + header(record[0], len(sealed) - 16))
        except InvalidTag:
            return None
        self.sequence += 1
        return record[0], content


def prf(suite, secret, label, seed, length):
    """RFC 5246 5."""
    def mac(data):
        context = hmac.HMAC(secret, suite.hash)
        context.update(data)
        return context.finalize()

    seed = label.encode() + seed
    out, a = b"", seed
    while len(out) < length:
        a = mac(a)
        out += mac(a + seed)
    return out[:length]


def directions12(suite, master, client_random, server_random):
    """(what the client sends, what the server sends)"""
    iv_bytes = 12 if suite.is_chacha else 4
    key = suite.key_bytes
    block = prf(suite, master, "key expansion", server_random + client_random, 2 * key + 2 * iv_bytes)
    ivs = block[2 * key:]
    return (Direction12(suite, block[:key], ivs[:iv_bytes]), Direction12(suite, block[key:2 * key], ivs[iv_bytes:]))


def find_secret(path, label, client_random):
    """A secret out of a key log."""
    wanted = "%s %s " % (label, client_random.hex())
    with open(path, encoding="ascii") as log:
        for line in log:
            if line.startswith(wanted):
                return bytes.fromhex(line.split(" ")[2])
    raise KeyError("no %s of this connection in %s" % (label, path))


def split(wire):
    """The whole records at the start of @wire, and the rest."""
    records = []
    while len(wire) >= 5:
        length = 5 + struct.unpack(">H", wire[3:5])[0]
        if len(wire) < length:
            break
        records.append(wire[:length])
        wire = wire[length:]
    return records, wire
