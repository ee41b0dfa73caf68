#!/usr/bin/python3
"""The comparison's client on the Python package websockets. Command line and output are those of work.c.

WEBSOCKETS_SPEEDUPS, when set, is a folder with the package's own C extension, which Debian's package has only as
source.
"""
import asyncio
import json
import os
import ssl
import sys
import time

sys.path.pop(0)      # this folder's websockets.py is not the package

import websockets

if "WEBSOCKETS_SPEEDUPS" in os.environ:
    websockets.__path__.append(os.environ["WEBSOCKETS_SPEEDUPS"])

import websockets.client
import websockets.frames
import websockets.version

NUMBERS = 32
MESSAGES_PER_CLOCK = 16
OPENING_MAX = 64


class Work:
    def __init__(self, arguments):
        if len(arguments) not in (8, 9):
            sys.exit("usage: websockets.py roundtrip|ingest|echo|memory HOST PORT CONNECTIONS SIZE IN_FLIGHT WARMUP_MS "
                     "DURATION_MS [CA_FILE]")
        self.kind, self.host = arguments[:2]
        self.port, self.connections, self.size, self.in_flight, warmup_ms, duration_ms = map(int, arguments[2:8])
        self.tls = ssl.create_default_context(cafile=arguments[8]) if len(arguments) == 9 else None
        self.warmup_ns, self.duration_ns = warmup_ms * 1000000, duration_ms * 1000000
        self.messages = self.messages_before = 0
        self.warm_ns = self.end_ns = self.begin_ns = 0
        self.begin_cpu_ns = 0
        self.measures = False
        self.samples = []
        self.payloads = [b"x" * (self.size - 1) + bytes([number]) for number in range(NUMBERS)]

    def begin(self):
        self.warm_ns = time.monotonic_ns() + self.warmup_ns
        self.end_ns = self.warm_ns + self.duration_ns

    def goes_on(self):
        now_ns = time.monotonic_ns()
        if not self.measures and now_ns >= self.warm_ns:
            self.measures = True
            self.messages_before = self.messages
            self.begin_cpu_ns = time.process_time_ns()
            self.begin_ns = time.monotonic_ns()
            self.end_ns = self.begin_ns + self.duration_ns
        return now_ns < self.end_ns

    def end(self, **more):
        cpu_ns, elapsed_ns = time.process_time_ns() - self.begin_cpu_ns, time.monotonic_ns() - self.begin_ns
        if self.kind != "memory":
            more.update(messages=self.messages - self.messages_before, seconds=elapsed_ns / 1e9,
                        cpu_seconds=cpu_ns / 1e9)
        if self.samples:
            more["p50_ns"] = sorted(self.samples)[len(self.samples) // 2]
        is_fast = websockets.frames.apply_mask.__module__ != "websockets.utils"
        more["library"] = "websockets %s, Python %s" % (websockets.version.version, sys.version.split()[0])
        more["way"] = "asyncio, %s" % ("masks by its C extension" if is_fast else "masks in Python")
        print(json.dumps(more), flush=True)
        os._exit(0)      # the server's measurement ends with the connections: at once


def fail(why):
    print("websockets: " + why, file=sys.stderr, flush=True)
    os._exit(1)


async def connect(work):
    scheme, more = ("wss", {"ssl": work.tls}) if work.tls else ("ws", {})
    return await websockets.client.connect("%s://%s:%d/" % (scheme, work.host, work.port), compression=None,
                                           max_size=None, ping_interval=None, **more)


async def connect_all(work, count):
    found = []
    while len(found) < count:
        wave = min(OPENING_MAX, count - len(found))
        found += await asyncio.gather(*(connect(work) for _ in range(wave)))
    return found


async def roundtrip(work):
    socket = (await connect_all(work, 1))[0]
    payload = b"x" * work.size
    work.begin()
    then_ns = time.monotonic_ns()
    while True:
        await socket.send(payload)
        answer = await socket.recv()
        now_ns = time.monotonic_ns()
        if len(answer) != work.size or answer[-1] != ord("x"):
            fail("a wrong answer")
        work.messages += 1
        if work.measures:
            work.samples.append(now_ns - then_ns)
        if not work.goes_on():
            work.end()
        then_ns = now_ns


async def take(work, socket, echoes):
    """One connection: each message is looked at, and answered with the next."""
    size, payloads, sent = work.size, work.payloads, 0
    if echoes:
        for _ in range(work.in_flight):
            await socket.send(payloads[sent % NUMBERS])
            sent += 1
    seen = 0
    async for message in socket:
        if len(message) != size or message[-1] != seen % NUMBERS:
            fail("a wrong message")
        seen += 1
        work.messages += 1
        if work.messages % MESSAGES_PER_CLOCK == 0 and not work.goes_on():
            work.end()
        if echoes:
            await socket.send(payloads[sent % NUMBERS])
            sent += 1
    fail("a connection ended")


async def stream(work, echoes):
    sockets = await connect_all(work, work.connections)
    work.begin()
    await asyncio.gather(*(take(work, socket, echoes) for socket in sockets))


def read_memory():
    """Anonymous pages that were touched, heap included; not the kernel's."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Anonymous:"))


async def memory(work):
    few = max(work.connections // 3, 1)
    sockets = await connect_all(work, few)
    before = read_memory()
    sockets += await connect_all(work, work.connections - few)
    work.end(memory_before_bytes=before, memory_after_bytes=read_memory(), connections=work.connections - few)


async def main():
    work = Work(sys.argv[1:])
    try:
        if work.kind == "roundtrip":
            await roundtrip(work)
        elif work.kind == "memory":
            await memory(work)
        else:
            await stream(work, work.kind == "echo")
    except (OSError, websockets.exceptions.WebSocketException) as error:
        fail(str(error))


asyncio.run(main())
