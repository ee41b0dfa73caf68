#!/usr/bin/python3
"""OpenSSL's own server in front of a WebSocket server: each connection gets one `openssl s_server`, whose standard
input and output are the plain bytes. The first line of standard output is the port.

usage: tls_bridge.py CERTIFICATE KEY PORT_BEHIND [S_SERVER_OPTION]...
"""
import asyncio
import itertools
import os
import sys
import tempfile

READ_BYTES = 65536


async def pump(reader, writer):
    """Until the end of one side; what the other does not take any more is dropped."""
    try:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
    except (ConnectionError, OSError):
        pass


async def start_server(path, certificate, key, options):
    """One s_server, and the two streams of the connection that it waits for. It listens at a path: a port that was free
    a moment ago may be another's by now."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_server", "-quiet", "-naccept", "1", "-unix", path, "-cert", certificate, "-key", key, *options,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    while process.returncode is None:
        try:
            return process, *await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(0.005)
    raise OSError("openssl s_server ended with status %d" % process.returncode)


async def serve(path, reader, writer):
    certificate, key, behind, *options = sys.argv[1:]
    process, record_reader, record_writer = await start_server(path, certificate, key, options)
    plain_reader, plain_writer = await asyncio.open_connection("127.0.0.1", int(behind))
    await asyncio.gather(pump(reader, record_writer), pump(record_reader, writer),
                         pump(process.stdout, plain_writer), pump(plain_reader, process.stdin))
    writer.close()
    if process.returncode is None:
        process.kill()
    await process.wait()
    os.unlink(path)


async def main():
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.start_server(
            lambda reader, writer: serve("%s/%d" % (folder, next(numbers)), reader, writer), "127.0.0.1", 0,
            backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


asyncio.run(main())
