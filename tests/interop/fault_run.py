"""Runs the cases of fault_cases.py against the fault server and compares what was seen at both ends."""
import concurrent.futures
import itertools
import json
import queue
import subprocess
import threading
import time

import fault_cases
import fault_scenes
import verdict

CASE_S = 60
TOGETHER = 4           # short cases that run at a time: most of them wait for timers, not for the processor
MODES = {"inline": [], "workers": ["--workers", "2", "--dispatch"]}


def run_client(program, arguments, **more):
    """The client's lines; a crash or a hang is a line too."""
    try:
        done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=CASE_S + 10, check=False, **more)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace").split("\n")[:-1] + ["wrong: the client hangs"]
    lines = done.stdout.decode(errors="replace").split("\n")[:-1]
    if done.returncode != 0:
        lines.append("wrong: exit status %d" % done.returncode)
    return lines


def check_text(text, words):
    """A failure's text says what, where and what to do: it is a sentence that has each of these words."""
    lower = text.lower()
    complaints = []
    if len(text) < 20 or " " not in text:
        complaints.append("error text says too little: '%s'" % text)
    for word in words:
        choices = word if isinstance(word, tuple) else (word,)
        if not any(choice in lower for choice in choices):
            complaints.append("error text '%s' does not speak of %s" % (text, " or ".join(choices)))
    return complaints


def compare(want, got, words=()):
    """Line by line; what follows "text=", and after "flood NAME", is judged by its words only."""
    complaints = []
    bare = []
    for line in got:
        head, mark, text = line.partition(" text=")
        if mark:
            complaints += check_text(text, words)
        elif line.startswith("flood "):
            head, text = " ".join(line.split(" ")[:2]), " ".join(line.split(" ")[2:])
            complaints += check_text(text, ())
        bare.append(head)
    wanted = [line.partition(" text=")[0] for line in want]
    if len(bare) != len(wanted) or not all(map(same_line, wanted, bare)):
        complaints.insert(0, "got [%s] instead of [%s]" % (shown(got), shown(want)))
    return complaints


def same_line(want, got):
    """"errno=A|B" is either of them: which one comes depends on what reached the kernel first."""
    wants, gots = want.split(" "), got.split(" ")
    return len(wants) == len(gots) and all(
        w == g or (w.startswith("errno=") and g.startswith("errno=") and g[6:] in w[6:].split("|"))
        for w, g in zip(wants, gots))


def shown(lines):
    if len(lines) > 8:
        lines = lines[:5] + ["(%d lines)" % (len(lines) - 7)] + lines[-2:]
    return " / ".join(lines)


# Of all runners together: they share the server, and what one left of its reports is nothing to the next.
RUN_IDS = itertools.count(1)


class Reports:
    """What the fault server saw of each connection, by run id."""

    def __init__(self, lines):
        self.lines = lines
        self.by_id = {}
        self.lock = threading.Lock()

    def take(self, run_id):
        deadline = time.monotonic() + CASE_S
        while time.monotonic() < deadline:
            with self.lock:
                self.drain()
                if run_id in self.by_id:
                    return self.by_id.pop(run_id)
            time.sleep(0.01)
        return None

    def drain(self):
        while True:
            try:
                line = self.lines.get_nowait()
            except queue.Empty:
                return
            if line is not None:
                seen = json.loads(line)
                self.by_id[seen["id"]] = seen


def compare_seen(want, seen):
    if seen is None:
        return ["the server never saw the connection end"]
    complaints = []
    for key, value in want.items():
        choices = value if isinstance(value, tuple) else (value,)
        if str(seen.get(key)) not in choices:
            complaints.append("the server saw %s=%s, not %s" % (key, seen.get(key), " or ".join(choices)))
    return complaints


class Runner:
    """@scheme and @more: of the URL, and options of the client, for servers that speak TLS; those have no scenes by
    port."""

    def __init__(self, program, ports, lines, name="fault", scheme="ws", more=()):
        self.program = program
        self.name = name
        self.scheme = scheme
        self.more = list(more)
        self.ports = ports
        self.reports = Reports(lines)
        self.ids = RUN_IDS

    def run_case(self, case, mode):
        run_id = str(next(self.ids))
        arguments = [*MODES[mode], *self.more, *case.options]
        if case.dispatch and mode == "inline":
            arguments.append("--dispatch")
        by_port = case.scene in fault_scenes.BY_PORT
        if by_port and case.scene not in self.ports:
            return
        port = self.ports[case.scene if by_port else ""]
        url = "%s://127.0.0.1:%d/%s?id=%s" % (self.scheme, port, case.scene, run_id)
        got = run_client(self.program, [*arguments, url])
        complaints = compare(case.lines, got, case.words)
        if case.saw and not by_port:
            complaints += compare_seen(case.saw, self.reports.take(run_id))
        verdict.judge("%s.%s.%s" % (self.name, case.name, mode), complaints)

    def run_all(self):
        self.run_short()
        self.run_amounts()

    def run_short(self):
        short = fault_cases.REFUSED + fault_cases.ACCEPTED + fault_cases.BREACHES + fault_cases.ENDS + \
            fault_cases.HANDLERS
        with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
            jobs = [pool.submit(self.run_case, case, mode) for case in short for mode in MODES]
            for job in jobs:
                job.result()

    def run_amounts(self):
        for case in fault_cases.AMOUNTS:
            for mode in MODES:
                self.run_case(case, mode)
