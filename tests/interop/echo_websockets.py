#!/usr/bin/python3
"""Echo server on the Python package websockets. The first line of standard output is the port.

usage: echo_websockets.py [CERTIFICATE KEY [CLIENTS_CA]]

With CERTIFICATE it speaks TLS, with CLIENTS_CA to those alone that have a certificate of it. Some texts are no echoes:
"!close CODE REASON" closes, "!ping" is answered by "pong" once the client has answered a Ping, and after "!fragments N"
messages come back in N frames.
"""
import asyncio
import logging
import ssl
import sys

import websockets


def cut(message, count):
    step = len(message) // count + 1
    return [message[i:i + step] for i in range(0, len(message), step)]


async def obey(socket, words):
    if words[0] == "!close":
        await socket.close(int(words[1]), " ".join(words[2:]))
    elif words[0] == "!ping":
        await (await socket.ping())
        await socket.send("pong")


async def echo(socket):
    fragments = 1
    try:
        async for message in socket:
            if isinstance(message, str) and message.startswith("!fragments "):
                fragments = int(message.split(" ")[1])
            elif isinstance(message, str) and message.startswith("!"):
                await obey(socket, message.split(" "))
            elif fragments > 1 and len(message) > 0:
                await socket.send(cut(message, fragments))
            else:
                await socket.send(message)
    except websockets.ConnectionClosed:
        pass


def tls(certificate, key, clients_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if clients_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients_ca)
    return context


async def main():
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    context = tls(*sys.argv[1:]) if len(sys.argv) > 1 else None
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None, max_queue=4, compression=None, backlog=4096,
                                ping_interval=None, ssl=context) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main())
