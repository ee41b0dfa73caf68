#!/usr/bin/python3
"""Echo servers on the Python package websockets that agree to permessage-deflate, one for each configuration.

usage: deflate_websockets.py CONFIGURATIONS [CERTIFICATE KEY]

CONFIGURATIONS is a JSON array of keyword arguments of ServerPerMessageDeflateFactory, or null for none. The first line
of standard output is a JSON array of the ports; then each connection ends with one line as in deflate_ws.js.
"""
import asyncio
import contextlib
import json
import logging
import sys
import urllib.parse

import websockets
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from echo_websockets import echo, tls


class Counting(websockets.WebSocketServerProtocol):
    """Knows how many bytes came and went."""
    read = 0
    written = 0

    def connection_made(self, transport):
        write = transport.write

        def count_and_write(data):
            self.written += len(data)
            write(data)

        transport.write = count_and_write
        super().connection_made(transport)

    def data_received(self, data):
        self.read += len(data)
        super().data_received(data)


async def serve(socket):
    await echo(socket)
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(socket.path).query)
    print(json.dumps({"id": query["id"][0], "extensions": socket.response_headers.get("Sec-WebSocket-Extensions", ""),
                      "read": socket.read, "written": socket.written}), flush=True)


async def main():
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    context = tls(*sys.argv[2:]) if len(sys.argv) > 2 else None
    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for configuration in json.loads(sys.argv[1]):
            factories = [] if configuration is None else [ServerPerMessageDeflateFactory(**configuration)]
            server = await stack.enter_async_context(websockets.serve(
                serve, "127.0.0.1", 0, max_size=None, max_queue=4, compression=None, extensions=factories, backlog=512,
                ping_interval=None, ssl=context, create_protocol=Counting))
            ports.append(server.sockets[0].getsockname()[1])
        print(json.dumps(ports), flush=True)
        await asyncio.Future()


asyncio.run(main())
