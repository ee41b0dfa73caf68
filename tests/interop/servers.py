"""The real servers of the interop suite: each on a free port of 127.0.0.1, stopped at the end.

Start functions return the port, or raise Missing with what is not there and how to get it.
"""
import itertools
import json
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SYSTEM_PYTHON = "/usr/bin/python3"     # Debian's, which has python3-websockets; another may come first on PATH
START_S = 20
PORTS = itertools.count(20000 + os.getpid() % 8000)


class Missing(Exception):
    pass


class Servers:
    def __init__(self):
        self.processes = []
        self.folder = tempfile.mkdtemp(prefix="wsring-interop-")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def launch(self, command, says_port=False, **more):
        """Start a server; with says_port its standard output is returned as a queue of lines."""
        log = open(os.path.join(self.folder, "%d.log" % len(self.processes)), "w+", encoding="utf-8")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log,
                                   stdout=subprocess.PIPE if says_port else log, text=True, cwd=HERE, **more)
        self.processes.append(process)
        lines = queue.Queue()
        if says_port:
            threading.Thread(target=pump, args=(process.stdout, lines), daemon=True).start()
        return process, lines

    def first_line(self, command):
        process, lines = self.launch(command, says_port=True)
        try:
            line = lines.get(timeout=START_S)
        except queue.Empty:
            line = None
        if line is None:
            raise RuntimeError("%s did not say its port within %d s%s" % (command[1], START_S, self.last_words()))
        return process, lines, line

    def last_words(self):
        """The end of the newest server's log."""
        with open(os.path.join(self.folder, "%d.log" % (len(self.processes) - 1)), encoding="utf-8") as log:
            lines = log.read().strip().split("\n")
        return ": " + lines[-1] if lines[-1] else ""

    def fault(self):
        """Returns the ports by scene ("" for scenes by path) and the queue of report lines."""
        _, lines, line = self.first_line([SYSTEM_PYTHON, "fault_server.py"])
        return json.loads(line), lines

    def websockets(self):
        need_module("websockets", "python3-websockets")
        return int(self.first_line([SYSTEM_PYTHON, "echo_websockets.py"])[2])

    def ws(self):
        need_program("node", "nodejs")
        install_ws()
        return int(self.first_line(["node", "echo_ws.js"])[2])

    def nginx(self, port_behind):
        """nginx that passes WebSocket connections on to another server."""
        program = need_program("nginx", "nginx-light")
        port = free_port()
        path = os.path.join(self.folder, "nginx.conf")
        with open(path, "w", encoding="utf-8") as conf:
            conf.write(NGINX_CONF % {"folder": self.folder, "port": port, "behind": port_behind})
        process, _ = self.launch([program, "-p", self.folder, "-c", path, "-e", os.path.join(self.folder, "nginx.log")])
        return await_port(process, port)

    def libwebsockets(self):
        program = need_program("libwebsockets-test-server", "libwebsockets-test-server")
        port = free_port()
        process, _ = self.launch([program, "--port=%d" % port, "-d", "3"])
        return await_port(process, port)

    def tinyproxy(self, *lines):
        """An HTTP proxy; lines: of its configuration, besides where it listens."""
        program = need_program("tinyproxy", "tinyproxy-bin")
        port = free_port()
        path = os.path.join(self.folder, "tinyproxy-%d.conf" % port)
        with open(path, "w", encoding="utf-8") as conf:
            conf.write("\n".join(["Port %d" % port, "Listen 127.0.0.1", "MaxClients 200", "LogLevel Error", *lines,
                                  ""]))
        process, _ = self.launch([program, "-d", "-c", path])
        return await_port(process, port)

    def microsocks(self, *options):
        """A SOCKS5 proxy."""
        program = need_program("microsocks", "microsocks")
        port = free_port()
        process, _ = self.launch([program, "-i", "127.0.0.1", "-p", str(port), *options])
        return await_port(process, port)


NGINX_CONF = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid %(folder)s/nginx.pid;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path %(folder)s/body;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/fastcgi;
    uwsgi_temp_path %(folder)s/uwsgi;
    scgi_temp_path %(folder)s/scgi;
    server {
        listen 127.0.0.1:%(port)d backlog=4096;
        location / {
            proxy_pass http://127.0.0.1:%(behind)d;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout 300s;
        }
    }
}
"""


def pump(stream, lines):
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def need_program(name, package):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise Missing("%s is not there; install %s" % (name, package))
    return path


def need_module(name, package):
    probe = subprocess.run([SYSTEM_PYTHON, "-c", "import " + name], stderr=subprocess.DEVNULL, check=False)
    if probe.returncode != 0:
        raise Missing("%s has no %s; install %s" % (SYSTEM_PYTHON, name, package))


def install_ws():
    if os.path.isdir(os.path.join(HERE, "node_modules", "ws")):
        return
    need_program("npm", "npm")
    done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=HERE, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120,
                          check=False)
    if done.returncode != 0:
        raise Missing("npm cannot install ws: " + (" ".join(done.stderr.split("\n")[:2]) or "no reason given"))


def free_port():
    """Below the ports that the kernel gives to clients, so that none of these takes it first; each only once."""
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def await_port(process, port):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("%s does not listen on port %d" % (process.args[0], port))
