#!/usr/bin/python3
"""A server that misbehaves in TLS: every scene of tls_fault_scenes.py on a port of its own, and those of
fault_scenes.py by path, over sound TLS, on the ports "path-1.2" and "path-1.3".

usage: tls_fault_server.py FOLDER      with certificates as tls_files.py makes them

The first line of standard output is a JSON object of all ports; then each connection ends with one line as that of
fault_server.py, with what tls_peer.py has seen of TLS.
"""
import asyncio
import json
import os
import ssl
import sys
import urllib.parse

import fault_scenes
import tls_fault_scenes
from fault_server import PATIENCE_S
from tls_fault_scenes import Scene
from tls_peer import Over, TlsPeer, name_asked

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def make_context(folder, version, certificate="good", clients_ca=None, tickets=0):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    context.load_cert_chain(os.path.join(folder, certificate + ".pem"), os.path.join(folder, certificate + ".key"))
    context.num_tickets = tickets
    context.keylog_filename = os.path.join(folder, "keys.log")
    context.sni_callback = name_asked
    context.set_alpn_protocols(["http/1.1"])
    if clients_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(os.path.join(folder, clients_ca))
    return context


async def by_path(peer):
    await peer.handshake()
    await peer.read_request()
    await fault_scenes.BY_PATH[urllib.parse.urlsplit(peer.target).path.strip("/")](peer)


async def read_raw_to_end(peer):
    while True:
        await peer.read_raw()


async def play(peer, scene):
    """Run one scene, then wait for the client's end of the stream."""
    try:
        await scene.play(peer)
    except Over:
        pass
    if peer.seen["end"] == "wait":
        await asyncio.wait_for(peer.read_to_end() if peer.task else read_raw_to_end(peer), PATIENCE_S)


async def serve(peer, name, scene):
    try:
        await play(peer, scene)
    except (Over, asyncio.TimeoutError):
        pass
    except (ConnectionError, OSError, asyncio.IncompleteReadError):
        if peer.seen["end"] == "wait":
            peer.seen["end"] = "reset"
    if peer.task:
        peer.task.cancel()
    print(json.dumps({"id": peer.run_id, "scene": name, **peer.seen}), flush=True)
    peer.writer.transport.abort()


def server_of(name, scene, context, log):
    number = 0

    async def handler(reader, writer):
        nonlocal number
        peer = TlsPeer(reader, writer, context, log)
        peer.number = number
        number += 1
        await serve(peer, name, scene)

    return asyncio.start_server(handler, "127.0.0.1", 0, backlog=4096, limit=1 << 20)


async def main(folder):
    scenes = dict(tls_fault_scenes.SCENES)
    scenes.update(("path-" + version, Scene(by_path, version, {})) for version in VERSIONS)
    ports = {}
    for name, scene in scenes.items():
        context = make_context(folder, scene.version, **scene.settings) if scene.version else None
        server = await server_of(name, scene, context, os.path.join(folder, "keys.log"))
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.Future()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    asyncio.run(main(sys.argv[1]))
