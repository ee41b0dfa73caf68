"""One client of the comparison against the neutral server: who there is, how to start it, what it must have done."""
import collections
import json
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
SYSTEM_PYTHON = "/usr/bin/python3"     # Debian's, which has python3-websockets; another may come first on PATH
PATIENCE_S = 60                        # beyond what was asked for

# connections and in_flight as the clients take them; server: what it does. record: over TLS 1.3 with AES-128-GCM, and
# what the server sprays is in records of so many bytes; None: without TLS.
Row = collections.namedtuple("Row", "name what kind server connections size in_flight record", defaults=[None])
RECORD_MAX = 16384
RECORD_SMALL = 132      # one message of 128 B with its head
PLAIN_ROWS = [
    Row("roundtrip", "one message there, one back; 64 B, 1 connection, the server spins", "roundtrip", "pong", 1, 64,
        1),
    Row("ingest-1", "messages as fast as they come; 128 B, 1 connection", "ingest", "spray", 1, 128, 1),
    Row("ingest-100", "the same on 100 connections", "ingest", "spray", 100, 128, 1),
    Row("echo", "echoes; 64 B, 64 connections, 1 in flight on each", "echo", "echo", 64, 64, 1),
    Row("echo-deep", "the same with 16 in flight on each", "echo", "echo", 64, 64, 16),
    Row("memory", "memory for each open and idle connection, the kernel's not counted; from 1,000 to 3,000 connections",
        "memory", "echo", 3000, 64, 1),
]
TLS_ROWS = [
    Row("roundtrip-wss", "one message there, one back, TLS 1.3 with AES-128-GCM; 64 B, 1 connection, the server spins",
        "roundtrip", "pong", 1, 64, 1, RECORD_MAX),
    Row("ingest-wss-1", "messages as fast as they come, records of 16 KiB; 128 B, 1 connection", "ingest", "spray", 1,
        128, 1, RECORD_MAX),
    Row("ingest-wss-small", "the same, each message a record", "ingest", "spray", 1, 128, 1, RECORD_SMALL),
    Row("ingest-wss-100", "the same on 100 connections, records of 16 KiB", "ingest", "spray", 100, 128, 1, RECORD_MAX),
    Row("echo-wss", "echoes; 64 B, 64 connections, 1 in flight on each", "echo", "echo", 64, 64, 1, RECORD_MAX),
    Row("echo-deep-wss", "the same with 16 in flight on each", "echo", "echo", 64, 64, 16, RECORD_MAX),
    Row("memory-wss", "memory for each open and idle connection, the kernel's not counted; from 1,000 to 3,000 "
        "connections", "memory", "echo", 3000, 64, 1, RECORD_MAX),
]
ROWS = PLAIN_ROWS + TLS_ROWS
# What wsring's three ways of carrying records are compared by also where there is one CPU: nobody spins.
KERNEL_ROWS = [
    Row("roundtrip-wss-kernel", "one message there, one back, TLS 1.3 with AES-128-GCM; 64 B, 1 connection, both ends "
        "sleep", "echo", "echo", 1, 64, 1, RECORD_MAX),
    TLS_ROWS[1]._replace(name="ingest-wss-1-kernel"),
    TLS_ROWS[2]._replace(name="ingest-wss-small-kernel"),
]

# command is None when why_missing says what is not there. tls_command: over TLS, where each takes the file of the
# certificate to check the server's against; None when that is missing too, or why_no_tls says why not. A client whose
# only_tls is true is the same as another without TLS.
Client = collections.namedtuple("Client", "name command environment why_missing tls_command why_no_tls only_tls",
                                defaults=[None, None, False])


class Broken(Exception):
    """A client that did not do its work: its figure is none."""


# ---- Clients ----

def compiled(build, name, package, tls_suffix="", tls_package=None):
    """tls_suffix: of the program over TLS, when it is another one."""
    program = os.path.join(build, "peer-" + name)
    if not os.path.exists(program):
        return Client(name, None, {}, "install %s" % package)
    if not os.path.exists(program + tls_suffix):
        return Client(name, [program], {}, None, None, "install %s" % tls_package)
    return Client(name, [program], {}, None, [program + tls_suffix])


def build_speedups(build):
    """The C extension of the package websockets, from the source that Debian ships in its place. Returns the folder to
    look for it in, or None when that is not needed or not possible."""
    probe = subprocess.run([SYSTEM_PYTHON, "-c", "import os, websockets, sysconfig\n"
                            "print(os.path.dirname(websockets.__file__), sysconfig.get_path('include'))\n"
                            "import websockets.speedups\nprint('there')"],
                           capture_output=True, text=True, check=False).stdout.split()
    if len(probe) != 2:
        return None
    source, folder = os.path.join(probe[0], "speedups.c"), os.path.join(build, "websockets")
    if not os.path.exists(source) or not os.path.exists(os.path.join(probe[1], "Python.h")):
        return None
    os.makedirs(folder, exist_ok=True)
    done = subprocess.run(["gcc", "-O2", "-DNDEBUG", "-shared", "-fPIC", "-I" + probe[1], source, "-o",
                           os.path.join(folder, "speedups.so")], stderr=subprocess.DEVNULL, check=False)
    return folder if done.returncode == 0 else None


def python_websockets(build):
    probe = subprocess.run([SYSTEM_PYTHON, "-c", "import websockets"], stderr=subprocess.DEVNULL, check=False)
    if probe.returncode != 0:
        return Client("websockets", None, {}, "install python3-websockets")
    speedups = build_speedups(build)
    command = [SYSTEM_PYTHON, os.path.join(HERE, "websockets.py")]
    return Client("websockets", command, {"WEBSOCKETS_SPEEDUPS": speedups} if speedups else {}, None, command)


def npm_ws(modules):
    """modules: a folder that has ws; None = install it here, with bufferutil."""
    if shutil.which("node") is None:
        return Client("ws", None, {}, "install nodejs")
    if modules is None:
        modules = os.path.join(HERE, "node_modules")
        if not os.path.isdir(os.path.join(modules, "ws")) and shutil.which("npm"):
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=HERE,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120,
                           check=False)
    if not os.path.isdir(os.path.join(modules, "ws")):
        return Client("ws", None, {}, "npm could not install it")
    command = ["node", os.path.join(HERE, "ws.js")]
    return Client("ws", command, {"NODE_PATH": modules}, None, command)


def why_no_kernel_tls():
    """None when this kernel carries TLS records."""
    tcp_ulp = 31
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        try:
            client.setsockopt(socket.IPPROTO_TCP, tcp_ulp, b"tls")
        except OSError as refused:
            return "the kernel does not carry TLS records: %s; as root do modprobe tls" % refused.strerror
    return None


def ways_of_wsring(build):
    """wsring with direct records, with the library's, and with the kernel's where that can."""
    wsring, why = compiled(build, "wsring", "nothing: build it"), why_no_kernel_tls()
    return [wsring,
            wsring._replace(name="wsring-library", environment={"WSRING_RECORDS": "library"}, only_tls=True),
            wsring._replace(name="wsring-kernel", environment={"WSRING_RECORDS": "kernel"}, only_tls=True,
                            tls_command=None if why else wsring.tls_command, why_no_tls=why)]


def find_clients(build, modules=None):
    """Every client, wsring first."""
    return [*ways_of_wsring(build),
            compiled(build, "beast", "g++ and libboost-dev", "-tls", "libssl-dev"),
            compiled(build, "lws", "libwebsockets-dev"),
            compiled(build, "websocketpp", "g++, libwebsocketpp-dev and libboost-dev", "-tls", "libssl-dev"),
            npm_ws(modules),
            python_websockets(build)]


def clients_of(row, found):
    """Those that can do @row."""
    if row.record is None:
        return [client for client in found if client.command and not client.only_tls]
    return [client for client in found if client.tls_command]


# ---- One run ----

def cpu_of_client():
    return min(os.sched_getaffinity(0))


def parse(row, text):
    """What a client said, as a dictionary; Broken when it is not what a client says that has done @row."""
    try:
        said = json.loads(text)
    except ValueError:
        raise Broken("no JSON: %.200r" % text) from None
    keys = {"memory": ["memory_before_bytes", "memory_after_bytes", "connections"],
            "roundtrip": ["messages", "seconds", "cpu_seconds", "p50_ns"]}.get(
                row.kind, ["messages", "seconds", "cpu_seconds"])
    if not isinstance(said, dict):
        raise Broken("no object: %.200r" % text)
    for key in keys:
        value = said.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise Broken("%s is %r" % (key, value))
    for key in ("library", "way"):
        if not isinstance(said.get(key), str):
            raise Broken("%s is %r" % (key, said.get(key)))
    return said


def figures(row, said, server_line):
    """The numbers of one run, from what the client and the server said."""
    if row.kind == "memory":
        return {"bytes": max(said["memory_after_bytes"] - said["memory_before_bytes"], 0) / said["connections"],
                "process_bytes": said["memory_after_bytes"]}
    seconds, cpu_seconds = map(float, server_line.split())
    found = {"messages_per_s": said["messages"] / said["seconds"],
             "cpu_ns": said["cpu_seconds"] * 1e9 / said["messages"],
             "client_cpu": said["cpu_seconds"] / said["seconds"],
             "server_cpu": cpu_seconds / seconds}
    if row.kind == "roundtrip":
        found["p50_ns"] = said["p50_ns"]
    return found


class Lines:
    """Lines of a process's output, each awaited for a limited time."""

    def __init__(self, stream):
        self.lines = queue.Queue()
        threading.Thread(target=self.pump, args=(stream,), daemon=True).start()

    def pump(self, stream):
        for line in stream:
            self.lines.put(line)
        self.lines.put("")

    def next(self, what):
        try:
            line = self.lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            line = ""
        if not line:
            raise Broken(what)
        return line


def run_client(client, row, port, warmup_ms, duration_ms, ca_file=None):
    """Returns what it said."""
    arguments = [row.kind, "127.0.0.1", port, row.connections, row.size, row.in_flight, warmup_ms, duration_ms]
    command = client.command
    if ca_file is not None:
        arguments.append(ca_file)
        command = client.tls_command
    cpu = cpu_of_client()
    process = subprocess.Popen(command + [str(argument) for argument in arguments], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **client.environment},
                               preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    try:
        out, err = process.communicate(timeout=PATIENCE_S + (warmup_ms + duration_ms) / 1000)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Broken("not over in time: messages were lost, or connections did not open") from None
    if process.returncode != 0:
        raise Broken("status %d: %s" % (process.returncode, " ".join(err.strip().split("\n")[-2:])))
    return parse(row, out)


def start_server(build, row, ca_file):
    """Its certificate is in @ca_file when it has said its port."""
    more = [] if row.record is None else [str(row.record), ca_file]
    return subprocess.Popen([os.path.join(build, "wsring-peer-server"), row.server, str(row.connections),
                             str(row.size)] + more, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def run(build, client, row, warmup_ms, duration_ms):
    """One run. Returns (figures, what the client said)."""
    with tempfile.TemporaryDirectory() as folder:
        ca_file = os.path.join(folder, "ca.pem")
        server = start_server(build, row, ca_file)
        try:
            lines = Lines(server.stdout)
            port = int(lines.next("the server did not start"))
            said = run_client(client, row, port, warmup_ms, duration_ms, None if row.record is None else ca_file)
            return figures(row, said, lines.next("the server did not see the end")), said
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
