#!/usr/bin/python3
"""OpenSSL's own server in front of a WebSocket server: each connection gets one `openssl s_server`, whose standard
input and output are the plain bytes. The first line of standard output is the port.

usage: tls_bridge.py FOLDER CERTIFICATE KEY PORT_BEHIND [S_SERVER_OPTION]...

FOLDER is empty, and whoever made it removes it.
"""
import asyncio
import itertools
import sys

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


async def start_server(folder, name, certificate, key, options):
    """One s_server, and the two streams of the connection that it waits for. It listens at a path: a port that was free
    a moment ago may be another's by now. It is told the name alone, as it takes no path of 32 bytes or more."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_server", "-quiet", "-naccept", "1", "-unix", name, "-cert", certificate, "-key", key, *options,
        cwd=folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    while process.returncode is None:
        try:
            return process, *await asyncio.open_unix_connection("%s/%s" % (folder, name))
        except OSError:
            await asyncio.sleep(0.005)
    raise OSError("openssl s_server ended with status %d" % process.returncode)


async def serve(name, reader, writer):
    folder, certificate, key, behind, *options = sys.argv[1:]
    process, record_reader, record_writer = await start_server(folder, name, certificate, key, options)
    plain_reader, plain_writer = await asyncio.open_connection("127.0.0.1", int(behind))
    await asyncio.gather(pump(reader, record_writer), pump(record_reader, writer),
                         pump(process.stdout, plain_writer), pump(plain_reader, process.stdin))
    writer.close()
    if process.returncode is None:
        process.kill()
    await process.wait()


async def main():
    numbers = itertools.count()
    server = await asyncio.start_server(lambda reader, writer: serve(str(next(numbers)), reader, writer),
                                        "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Future()


asyncio.run(main())
