#!/usr/bin/python3
"""Echo server on the Python package websockets. The first line of standard output is the port."""
import asyncio
import logging

import websockets


async def echo(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except websockets.ConnectionClosed:
        pass


async def main():
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None, max_queue=4, compression=None, backlog=4096,
                                ping_interval=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


asyncio.run(main())
