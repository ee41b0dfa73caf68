"""What needs no scene: URLs, names, refused ports, the file limit, libwebsockets, 10,000 connections."""
import re
import resource
import socket
import subprocess

import fault_run
import matrix
import verdict
from fault_cases import UNCLEAN, on
from fault_run import MODES, compare, run_client

MANY = 10000
MANY_FILES = MANY + 100
BEYOND = 2000
FEW_FILES = 256      # for each of eight threads, whose tables of direct descriptors are that large

BAD_URLS = {
    "empty": "", "relative": "chat", "no-scheme": "127.0.0.1/", "no-host": "ws://", "scheme": "ftp://127.0.0.1/",
    "fragment": "ws://127.0.0.1/#top", "space": "ws://exa mple/", "port": "ws://127.0.0.1:65536/",
    "port-word": "ws://127.0.0.1:http/", "ipv4": "ws://256.1.1.1/", "ipv6": "ws://[::1/", "percent": "ws://a%00b/",
}
BAD_PROTOCOLS = {"space": ["a b"], "empty": [""], "twice": ["a", "a"], "comma": ["a,b"]}


def run_edge(program, name, arguments, want, words=()):
    for mode, options in MODES.items():
        complaints = compare(want, run_client(program, [*options, *arguments]), words)
        verdict.judge("edge.%s.%s" % (name, mode), complaints)


def refused_call(program, name, arguments, error, *words):
    """wsr_socket_open() itself refuses, with a text that says why."""
    complaints = []
    got = run_client(program, arguments)
    found = re.fullmatch(r"refused (\w+) (.*)", got[0]) if len(got) == 1 else None
    if found is None or found.group(1) != error:
        complaints.append("got [%s] instead of [refused %s ...]" % (fault_run.shown(got), error))
    else:
        complaints += fault_run.check_text(found.group(2), words)
    verdict.judge("edge." + name, complaints)


def run_urls(program):
    for name, url in BAD_URLS.items():
        refused_call(program, "url-" + name, [url], "WSR_ERR_SYNTAX")
    for name, protocols in BAD_PROTOCOLS.items():
        arguments = [word for protocol in protocols for word in ("--protocol", protocol)]
        refused_call(program, "protocol-" + name, [*arguments, "ws://127.0.0.1/"], "WSR_ERR_SYNTAX", "protocol")
    refused_call(program, "connect-to", ["--connect-to", "nowhere", "ws://127.0.0.1/"], "WSR_ERR_ARGUMENT",
                 "address:port")


def run_connects(program):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))       # bound, not listening: the port is ours and refuses
        port = bound.getsockname()[1]
        run_edge(program, "refused", ["ws://127.0.0.1:%d/" % port],
                 ["error stage=connect errno=ECONNREFUSED http=0 text=", UNCLEAN], ["refused"])
        run_edge(program, "refused-and-destroyed",
                 ["--dispatch", *on("error:destroy"), "ws://127.0.0.1:%d/" % port],
                 ["error stage=connect errno=ECONNREFUSED http=0 text="], ["refused"])
    for mode, options in MODES.items():
        got = run_client(program, [*options, "ws://no-such-host.invalid:9/"])
        # errno is the resolver's: it differs between a machine with and one without a name server.
        got = [re.sub(r"errno=\w+", "errno=any", line) for line in got]
        want = ["error stage=lookup errno=any http=0 text=", UNCLEAN]
        verdict.judge("edge.lookup." + mode, compare(want, got, [("name", "host", "look")]))
    run_edge(program, "port-0", ["ws://127.0.0.1:0/"],
             ["error stage=connect errno=ECONNREFUSED http=0 text=", UNCLEAN], [("port", "refused")])


def run_file_limit(program, port):
    """100 sockets where 40 files are allowed: each that fails says why, the engine lives, and a later one opens."""
    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    for mode, options in MODES.items():
        got = run_client(program, [*options, "--sockets", "100", "--together", "--again", *on("message:close=1000"),
                                   "ws://127.0.0.1:%d/talk?id=-" % port], preexec_fn=lower)
        verdict.judge("edge.file-limit." + mode, check_file_limit(got))


def check_file_limit(got):
    numbers = re.fullmatch(r"sockets opened=(\d+) failed=(\d+) refused=(\d+) clean=(\d+)", got[0] if got else "")
    if numbers is None:
        return ["got [%s]" % fault_run.shown(got)]
    opened, failed, refused, clean = map(int, numbers.groups())
    complaints = []
    if opened + failed + refused != 100 or clean != opened:
        complaints.append("of 100 sockets: " + got[0])
    if opened == 0:
        complaints.append("no socket opened")
    errors = [line for line in got[1:] if line.startswith("error ")]
    for line in errors:
        if "errno=EMFILE" not in line:
            complaints.append("not EMFILE: " + line)
        complaints += fault_run.check_text(line.partition(" text=")[2], ["file", ("ulimit", "limit")])
    if failed > 0 and not errors:
        complaints.append("sockets failed without an error")
    after = got[1 + len(errors):]
    if after != ["open", "message text 4 good", "close 1000 clean=1 reason="]:
        complaints.append("afterwards [%s]" % fault_run.shown(after))
    return complaints


def run_libwebsockets(program, port):
    """The mirror protocol sends back texts of up to 4088 bytes, the increment protocol counts."""
    url = "ws://127.0.0.1:%d/" % port
    texts = ["a", "b" * 125, "c" * 126, "h\u00e9llo \u20ac \U0001f600", "d" * 4088]
    rules = on("open:text=" + texts[0], *("message@%d:text=%s" % (i, text) for i, text in enumerate(texts) if i > 0),
               "message@%d:close=1000" % len(texts))
    want = ["open lws-mirror-protocol", *(message_line(text) for text in texts), "close 1000 clean=1 reason="]
    run_edge(program, "lws-mirror", ["--protocol", "lws-mirror-protocol", "--dispatch", *rules, url], want)
    run_edge(program, "lws-increment", ["--protocol", "dumb-increment-protocol", "--dispatch", "--log", "numbers",
                                        *on("message@10:close=1000"), url],
             ["open dumb-increment-protocol", "numbers 10", "close 1000 clean=1 reason="])


def run_idle(program, name, port):
    """EVT-17, in real time: 20 s without a byte, then an echo."""
    run_edge(program, "idle-20s." + name,
             [*on("open:pause=20000", "open:text=still here", "message:close=1000"),
              "ws://127.0.0.1:%d/" % port],
             ["open", "message text 10 still here", "close 1000 clean=1 reason="])


def message_line(text):
    data = text.encode()
    if len(data) <= 64:
        return "message text %d %s" % (len(data), text)
    return "message text %d adler=%s" % (len(data), fault_run.fault_cases.adler(data))


def run_beyond(program, address):
    """2,000 connections of a process that may have 256 files open."""
    name = "many.%d-of-%d-files" % (BEYOND, FEW_FILES)
    doctor = subprocess.run([program, "doctor"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            check=False).stdout
    if "direct_files" in doctor.partition("lacks")[2]:
        verdict.skipped(name, "this kernel has no direct descriptors: Linux 6.13 is needed")
        return
    arguments = ["-c", str(BEYOND), "-t", "8", "-n", str(2 * BEYOND), "-s", "64", "-p", "1", "-q", "-o", "json",
                 "ws://%s/" % address]
    report, complaint = matrix.run_load(program, ["--direct", *arguments], FEW_FILES)
    verdict.judge(name, [complaint] if complaint else matrix.check_report(report, 2 * BEYOND, BEYOND))
    complaint = matrix.run_load(program, arguments, FEW_FILES)[1]
    verdict.judge("many.refused-without-direct",
                  [] if complaint and "exit status 2" in complaint and "open files" in complaint else
                  ["it was not refused, but: %s" % complaint])


def run_many(program):
    """10,000 connections to the embedded echo server, which is a process of its own; then more than there may be open
    files, as direct descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < MANY_FILES:
        verdict.skipped("many.10000", "the hard limit of open files is %d; at least %d are needed" % (hard, MANY_FILES))
        return

    def raise_limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    echo = subprocess.Popen([program, "echo", "--port", "0"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=raise_limit)
    try:
        address = echo.stdout.readline().strip().removeprefix("listening on ")
        report, complaint = matrix.run_load(program, ["-c", str(MANY), "-t", "1", "-n", str(2 * MANY), "-s", "64",
                                                      "-p", "1", "-q", "-o", "json", "ws://%s/" % address])
        verdict.judge("many.10000", [complaint] if complaint else matrix.check_report(report, 2 * MANY, MANY))
        run_beyond(program, address)
        if echo.poll() is not None:
            verdict.failed("many.echo-lives", "wsring echo ended with status %d" % echo.returncode)
    finally:
        echo.terminate()
        echo.wait(20)
