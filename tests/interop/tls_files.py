"""The certificates of the TLS stages, made anew in a throw-away folder by the program openssl: authorities, good and
bad certificates of servers and clients, lists of revoked ones. NAME.pem is one with its chain, NAME.key its key.
"""
import os
import subprocess

from servers import need_program

NAMES = "DNS:localhost,IP:127.0.0.1,IP:::1"
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
RSA = ["-newkey", "rsa:2048", "-nodes"]
LONG_NAME = "the-%05d.of-many-names.example.invalid"

CA_CONF = """
[ca]
default_ca = own
[own]
dir = %(folder)s
database = $dir/%(name)s.index
new_certs_dir = $dir/%(name)s.new
certificate = $dir/%(name)s.pem
private_key = $dir/%(name)s.key
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
unique_subject = no
rand_serial = yes
email_in_dn = no
[any]
commonName = supplied
"""


class Files:
    def __init__(self, folder):
        self.program = need_program("openssl", "openssl")
        self.folder = folder
        os.makedirs(folder)
        self.make_authorities()
        self.make_servers()
        self.make_clients()
        self.make_lists()

    def path(self, name):
        return os.path.join(self.folder, name)

    def pair(self, name):
        """Paths of a certificate with its chain, and of its key."""
        return self.path(name + ".pem"), self.path(name + ".key")

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        if done.returncode != 0:
            raise RuntimeError("openssl %s: %s" % (" ".join(arguments), done.stdout.strip()[-400:]))

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def join(self, name, *parts):
        """One file out of others."""
        text = []
        for part in parts:
            with open(self.path(part), encoding="utf-8") as file:
                text.append(file.read())
        return self.write(name, "".join(text))

    def authority(self, name, issuer=None):
        self.write(name + ".index", "")
        os.makedirs(self.path(name + ".new"))
        self.write(name + ".conf", CA_CONF % {"folder": self.folder, "name": name})
        if issuer:
            self.issue(name, issuer, usage=None)
        else:
            self.run("req", "-x509", *EC, "-keyout", self.path(name + ".key"), "-out", self.path(name + ".pem"),
                     "-days", "30", "-subj", "/CN=wsring test " + name,
                     "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def issue(self, name, issuer, names=NAMES, usage="serverAuth", key=None, since=None, until=None):
        """A certificate by @issuer: an authority's when @usage is None. @since, @until: YYYYMMDDHHMMSSZ."""
        if usage is None:
            lines = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
        else:
            lines = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=" + usage]
            if names:
                lines.append("subjectAltName=" + names if isinstance(names, str) else many_names(names))
        extensions = self.write(name + ".ext", "\n".join(lines) + "\n")
        self.run("req", "-new", *(key or EC), "-keyout", self.path(name + ".key"), "-out", self.path(name + ".csr"),
                 "-subj", "/CN=wsring test " + name)
        self.run("ca", "-batch", "-notext", "-config", self.path(issuer + ".conf"), "-extfile", extensions,
                 "-in", self.path(name + ".csr"), "-out", self.path(name + ".pem"),
                 *(["-startdate", since] if since else []), *(["-enddate", until] if until else []))

    def make_authorities(self):
        for name in ("ca", "stranger"):
            self.authority(name)
        self.authority("middle", "ca")
        os.makedirs(self.path("directory"))
        self.join("directory/ca.pem", "ca.pem")
        self.run("rehash", self.path("directory"))
        os.makedirs(self.path("empty"))

    def make_servers(self):
        self.issue("good", "ca")
        self.issue("rsa", "ca", key=RSA)
        self.issue("below", "middle")
        self.join("without-middle.pem", "below.pem")
        self.join("without-middle.key", "below.key")
        self.join("with-middle.pem", "below.pem", "middle.pem")
        self.join("with-middle.key", "below.key")
        self.issue("expired", "ca", since="20200101000000Z", until="20210101000000Z")
        self.issue("future", "ca", since="20980101000000Z", until="20990101000000Z")
        self.issue("other-name", "ca", names="DNS:other.example,IP:192.0.2.1")
        self.issue("other-use", "ca", usage="clientAuth")
        self.issue("strange", "stranger")
        self.issue("revoked", "ca")
        self.run("req", "-x509", *EC, "-keyout", self.path("alone.key"), "-out", self.path("alone.pem"), "-days", "30",
                 "-subj", "/CN=localhost", "-addext", "subjectAltName=" + NAMES)
        self.issue("large", "ca", names=1700)      # 64 KiB
        self.issue("larger", "ca", names=2800)     # more than the 100 KiB that OpenSSL takes
        for name, count in (("long-chain", 150), ("longer-chain", 280)):
            self.join(name + ".pem", "below.pem", *["middle.pem"] * count)
            self.join(name + ".key", "below.key")
        for name in ("good", "rsa"):
            self.join(name + ".both", name + ".key", name + ".pem")

    def make_clients(self):
        self.issue("client", "ca", names=None, usage="clientAuth")
        self.join("client.both", "client.key", "client.pem")
        self.issue("client-strange", "stranger", names=None, usage="clientAuth")

    def make_lists(self):
        """What is revoked: by `ca` one certificate, by `middle` none, and a list that is out of date."""
        conf = self.path("ca.conf")
        self.run("ca", "-config", conf, "-revoke", self.path("revoked.pem"))
        self.run("ca", "-config", conf, "-gencrl", "-out", self.path("ca.crl"))
        self.run("ca", "-config", conf, "-gencrl", "-crl_lastupdate", "20200101000000Z",
                 "-crl_nextupdate", "20200201000000Z", "-out", self.path("old.crl"))
        self.run("ca", "-config", self.path("middle.conf"), "-gencrl", "-out", self.path("middle.crl"))
        self.join("both.crl", "ca.crl", "middle.crl")


def many_names(count):
    return "subjectAltName=@names\n[names]\nIP.1=127.0.0.1\n" + \
        "\n".join("DNS.%d=%s" % (i, LONG_NAME % i) for i in range(count))
