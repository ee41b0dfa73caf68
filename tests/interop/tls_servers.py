"""Real servers that speak TLS, in front of a WebSocket server or one themselves: each on a free port of 127.0.0.1."""
import os
import subprocess

import tls_files
from servers import SYSTEM_PYTHON, Missing, await_port, free_port, install_ws, need_program

LIGHTTPD_MODULES = "/usr/lib/lighttpd"

NGINX = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid %(folder)s/nginx-tls.pid;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path %(folder)s/body;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/fastcgi;
    uwsgi_temp_path %(folder)s/uwsgi;
    scgi_temp_path %(folder)s/scgi;
    ssl_certificate %(certificates)s/good.pem;
    ssl_certificate_key %(certificates)s/good.key;
    ssl_certificate %(certificates)s/rsa.pem;
    ssl_certificate_key %(certificates)s/rsa.key;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
    proxy_read_timeout 300s;
    %(servers)s
}
"""

NGINX_SERVER = """
    server {
        listen 127.0.0.1:%(port)d ssl backlog=4096;
        %(lines)s
        location / { proxy_pass http://127.0.0.1:%(behind)d; }
    }
"""

# By the name of the server: what makes it different.
NGINX_SERVERS = {
    "nginx-1.2": "ssl_protocols TLSv1.2; ssl_session_tickets off; ssl_session_cache shared:ids:1m;",
    "nginx-1.3": "ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache shared:ids:1m;",
    "nginx-tickets": "ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on; ssl_session_cache none;",
    "nginx-client": "ssl_protocols TLSv1.2 TLSv1.3; ssl_verify_client on; ssl_client_certificate %(ca)s;",
}

HAPROXY = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 20s
    timeout client 300s
    timeout server 300s
    timeout tunnel 300s
frontend all
    bind 127.0.0.1:%(port)d ssl crt %(certificates)s/good.both alpn http/1.1
    bind 127.0.0.1:%(client_port)d ssl crt %(certificates)s/good.both verify required ca-file %(certificates)s/ca.pem
    default_backend behind
backend behind
    server one 127.0.0.1:%(behind)d
"""

STUNNEL = """
foreground = yes
pid =
syslog = no
debug = 3
[behind]
accept = 127.0.0.1:%(port)d
connect = 127.0.0.1:%(behind)d
cert = %(certificates)s/good.both
"""

LIGHTTPD = """
server.document-root = "%(folder)s"
server.bind = "127.0.0.1"
server.port = %(port)d
server.max-fds = 4096
server.modules = ("mod_proxy", "mod_%(stack)s")
server.stream-request-body = 2
server.stream-response-body = 2
ssl.engine = "enable"
ssl.pemfile = "%(certificates)s/good.both"
ssl.openssl.ssl-conf-cmd = ("MinProtocol" => "TLSv1.2"%(more)s)
proxy.server = ("" => (("host" => "127.0.0.1", "port" => %(behind)d)))
proxy.header = ("upgrade" => "enable")
"""


class TlsServers:
    """Start functions as those of Servers, for the port of a WebSocket server that has to be there: @behind."""

    def __init__(self, servers, behind):
        self.servers = servers
        self.behind = behind
        self.files = tls_files.Files(os.path.join(servers.folder, "certificates"))

    def write(self, name, template, **more):
        path = os.path.join(self.servers.folder, name)
        with open(path, "w", encoding="utf-8") as conf:
            conf.write(template % {"folder": self.servers.folder, "certificates": self.files.folder,
                                   "behind": self.behind, **more})
        return path

    def nginx(self):
        """The ports by name: one nginx with a server for each of NGINX_SERVERS."""
        program = need_program("nginx", "nginx-light")
        ports = {name: free_port() for name in NGINX_SERVERS}
        servers = [NGINX_SERVER % {"port": ports[name], "behind": self.behind,
                                   "lines": lines % {"ca": self.files.path("ca.pem")}}
                   for name, lines in NGINX_SERVERS.items()]
        path = self.write("nginx-tls.conf", NGINX, servers="".join(servers))
        process, _ = self.servers.launch([program, "-p", self.servers.folder, "-c", path,
                                          "-e", os.path.join(self.servers.folder, "nginx-tls.log")])
        for port in ports.values():
            await_port(process, port)
        return ports

    def haproxy(self):
        program = need_program("haproxy", "haproxy")
        ports = {"haproxy": free_port(), "haproxy-client": free_port()}
        path = self.write("haproxy.conf", HAPROXY, port=ports["haproxy"], client_port=ports["haproxy-client"])
        process, _ = self.servers.launch([program, "-db", "-f", path])
        for port in ports.values():
            await_port(process, port)
        return ports

    def stunnel(self):
        program = need_program("stunnel4", "stunnel4")
        port = free_port()
        process, _ = self.servers.launch([program, self.write("stunnel.conf", STUNNEL, port=port)])
        return {"stunnel": await_port(process, port)}

    def lighttpd(self, stack, more=""):
        """@stack: the TLS library that makes the connections."""
        program = need_program("lighttpd", "lighttpd")
        if not os.path.exists("%s/mod_%s.so" % (LIGHTTPD_MODULES, stack)):
            raise Missing("lighttpd has no mod_%s; install lighttpd-mod-%s" % (stack, stack))
        port = free_port()
        path = self.write("lighttpd-%s.conf" % stack, LIGHTTPD, port=port, stack=stack, more=more)
        process, _ = self.servers.launch([program, "-D", "-f", path])
        return {stack: await_port(process, port)}

    def gnutls(self):
        return self.lighttpd("gnutls")

    def mbedtls(self):
        return self.lighttpd("mbedtls")

    def wolfssl(self):
        return self.lighttpd("wolfssl")

    def websockets(self):
        command = [SYSTEM_PYTHON, "echo_websockets.py", *self.files.pair("with-middle")]
        return {"websockets": int(self.servers.first_line(command)[2]),
                "websockets-client": int(self.servers.first_line([*command, self.files.path("ca.pem")])[2])}

    def ws(self):
        need_program("node", "nodejs")
        install_ws()
        command = ["node", "echo_ws.js", *self.files.pair("good")]
        return {"ws": int(self.servers.first_line(command)[2]),
                "ws-client": int(self.servers.first_line([*command, self.files.path("ca.pem")])[2])}

    def s_server(self):
        folder = os.path.join(self.servers.folder, "s_server")
        os.mkdir(folder)
        command = [SYSTEM_PYTHON, "tls_bridge.py", folder, *self.files.pair("good"), str(self.behind)]
        return {"s_server": int(self.servers.first_line(command)[2])}
