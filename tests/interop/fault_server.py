#!/usr/bin/env python3
"""A WebSocket server that misbehaves on request.

The path of the URL names the scene (fault_scenes.py), the query "id=N" names the run. Scenes that act before a
request is read have a port of their own. The first line of standard output is a JSON object of all ports; then each
connection ends with one line, a JSON object that tells what the client was seen to do:

    id, scene             of the URL
    close                 code of the client's Close frame; "empty", "none"
    pongs, last           number of Pong frames, payload of the newest
    messages, bytes       data frames and their payload
    unmasked, late        frames without a mask, data frames after the client's Close: both must be 0
    end                   how TCP ended: eof = the client's FIN, reset = its RST, cut = our doing, wait = not in time
"""
import asyncio
import base64
import hashlib
import json
import socket
import struct
import sys
import urllib.parse

import fault_deflate_scenes  # noqa: F401: adds to fault_scenes.BY_PATH
import fault_scenes

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PATIENCE_S = 10


class Peer:
    """One connection: raw bytes out, checked frames in."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.sock = writer.get_extra_info("socket")
        self.run_id = "-"
        self.target = ""
        self.headers = {}
        self.first = 0          # of the newest frame: its first byte
        self.ends_tcp = True    # end TCP once the client's Close was read, as RFC 6455 7.1.1 asks of a server
        self.seen = {"close": "none", "pongs": 0, "last": "", "messages": 0, "bytes": 0,
                     "unmasked": 0, "late": 0, "end": "wait"}

    async def read_request(self):
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, self.target, version = lines[0].split(" ")
        if (method, version) != ("GET", "HTTP/1.1"):
            raise ValueError("request line: " + lines[0])
        for line in lines[1:-2]:
            name, value = line.split(":", 1)
            self.headers[name.lower()] = value.strip()
        query = urllib.parse.urlsplit(self.target).query
        self.run_id = urllib.parse.parse_qs(query).get("id", ["-"])[0]

    def accept(self):
        digest = hashlib.sha1(self.headers["sec-websocket-key"].encode() + GUID).digest()
        return base64.b64encode(digest).decode()

    def head(self, *extra, status="HTTP/1.1 101 Switching Protocols", without=()):
        """The answer that accepts the upgrade, changed as the scene asks."""
        fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", self.accept())]
        lines = [status]
        lines += ["%s: %s" % field for field in fields if field[0] not in without]
        lines += extra
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def upgrade(self, *extra, **changes):
        await self.send(self.head(*extra, **changes))

    async def drip(self, data, pause_s=0.001):
        """Each byte leaves in a segment of its own: asyncio sets TCP_NODELAY."""
        for i in range(len(data)):
            await self.send(data[i:i + 1])
            await asyncio.sleep(pause_s)

    def stop_reading(self):
        """The kernel's receive buffer fills and the client's window closes."""
        self.writer.transport.pause_reading()

    def start_reading(self):
        self.writer.transport.resume_reading()

    def reset(self):
        """Close with a RST (SO_LINGER of 0 seconds)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.seen["end"] = "cut"

    def cut(self):
        """End our direction with a FIN; the client's is still read."""
        if self.writer.can_write_eof():
            self.writer.write_eof()

    async def read_frame(self):
        """One frame as (opcode, payload), counted; None at the end of the stream."""
        try:
            first, second = await self.reader.readexactly(2)
            self.first = first
            length = second & 127
            if length == 126:
                length, = struct.unpack(">H", await self.reader.readexactly(2))
            elif length == 127:
                length, = struct.unpack(">Q", await self.reader.readexactly(8))
            key = await self.reader.readexactly(4) if second & 128 else bytes(4)
            payload = await self.reader.readexactly(length)
        except asyncio.IncompleteReadError:
            self.seen["end"] = "eof"
            return None
        except (ConnectionError, OSError):
            self.seen["end"] = "reset"
            return None
        if not second & 128:
            self.seen["unmasked"] += 1
        payload = unmask(payload, key)
        self.count(first & 15, payload)
        return first & 15, payload

    def count(self, opcode, payload):
        if opcode == 8:
            self.seen["close"] = str(struct.unpack(">H", payload[:2])[0]) if payload else "empty"
        elif opcode == 10:
            self.seen["pongs"] += 1
            self.seen["last"] = payload.decode("latin-1")
        elif opcode in (0, 1, 2):
            self.seen["messages"] += 1
            self.seen["bytes"] += len(payload)
            if self.seen["close"] != "none":
                self.seen["late"] += 1

    async def read_until(self, opcode):
        """Read frames up to one of this opcode; its payload, or None at the end of the stream."""
        while True:
            frame = await self.read_frame()
            if frame is None or frame[0] == opcode:
                return frame and frame[1]

    async def read_to_end(self):
        if self.seen["close"] != "none" and self.ends_tcp:
            self.cut()
        while True:
            frame = await self.read_frame()
            if frame is None:
                return
            if frame[0] == 8 and self.ends_tcp:
                self.cut()


def unmask(payload, key):
    pad = -len(payload) % 4
    pattern = int.from_bytes(key * ((len(payload) + pad) // 4), "big")
    whole = int.from_bytes(payload + bytes(pad), "big") ^ pattern
    return whole.to_bytes(len(payload) + pad, "big")[:len(payload)]


async def play(peer, name, scene):
    """Run one scene, then wait for the client's end of the stream and report."""
    try:
        await scene(peer)
        if peer.seen["end"] == "wait":
            await asyncio.wait_for(peer.read_to_end(), PATIENCE_S)
    except asyncio.TimeoutError:
        peer.seen["end"] = "wait"
    except (ConnectionError, OSError, asyncio.IncompleteReadError):
        peer.seen["end"] = "reset"
    print(json.dumps({"id": peer.run_id, "scene": name, **peer.seen}), flush=True)
    peer.writer.transport.abort()


async def serve_path(reader, writer):
    peer = Peer(reader, writer)
    try:
        await peer.read_request()
    except (ConnectionError, OSError, asyncio.IncompleteReadError):
        writer.transport.abort()
        return
    name = urllib.parse.urlsplit(peer.target).path.strip("/")
    scene = fault_scenes.BY_PATH.get(name)
    if scene is None:
        print(json.dumps({"id": peer.run_id, "scene": name, "end": "no such scene"}), flush=True)
        writer.transport.abort()
        return
    await play(peer, name, scene)


def serve_port(name, scene):
    async def handler(reader, writer):
        await play(Peer(reader, writer), name, scene)
    return handler


async def main():
    ports = {}
    servers = []
    handlers = {"": serve_path}
    handlers.update((name, serve_port(name, scene)) for name, scene in fault_scenes.BY_PORT.items())
    for name, handler in handlers.items():
        server = await asyncio.start_server(handler, "127.0.0.1", 0, backlog=512, limit=1 << 20)
        servers.append(server)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    asyncio.run(main())
