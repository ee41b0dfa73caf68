"""Echo matrix: `wsring load`, which verifies every echo, against servers that nobody here wrote.

Five dimensions make 252 runs, each with few messages; --long sends twenty times as many. With 4 MiB the many
connections are 20, not 500: 500 x 4 MiB in flight at both ends would measure the memory of the machine. Messages in
several frames are a few runs more.
"""
import itertools
import json
import subprocess

import verdict

RUN_S = 60
CONNECTIONS = [1, 500]
SIZES = [0, 1, 125, 126, 65535, 65536, 4 << 20]
KINDS = ["binary", "text"]
MODES = {"1worker": ["--workers", "1"], "8workers": ["--workers", "8"], "inline": ["--threads", "1", "--inline"]}
FRAGMENTS = [(125, 1), (1000, 999), (65536, 1000), (65536, 16), (4 << 20, 65536)]     # size, payload of a frame
ZERO = ["lost", "duplicated", "reordered", "corrupted", "foreign", "send_errors"]


def amounts(connections, size):
    """Connections, messages in all, messages in flight on each connection."""
    if size > 1 << 20:
        return (1, 12, 2) if connections == 1 else (20, 40, 1)
    if size > 1000:
        return (1, 200, 8) if connections == 1 else (connections, 1000, 1)
    return (1, 2000, 16) if connections == 1 else (connections, 5000, 4)


def run_load(program, arguments, files=None):
    """(report, complaint): the JSON of one `wsring load`, or why there is none. `files`: its limit of open files."""
    command = [program, "load", *arguments]
    if files is not None:
        command = ["prlimit", "--nofile=%d:%d" % (files, files), *command]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=RUN_S, check=False)
    except subprocess.TimeoutExpired:
        return None, "not over after %d s: %s" % (RUN_S, " ".join(command))
    tail = " ".join((done.stderr + done.stdout).strip().split("\n")[-3:])[-400:]
    if done.returncode != 0:
        return None, "exit status %d: %s (%s)" % (done.returncode, " ".join(command), tail)
    try:
        return json.loads(done.stdout), None
    except ValueError:
        return None, "no JSON: " + tail


def check_report(report, messages, connections):
    """Every message was sent and verified, every connection opened and closed cleanly."""
    found = report["messages"]
    complaints = ["%s %d messages, not %d" % (key, found[key], messages)
                  for key in ("sent", "verified") if found[key] != messages]
    complaints += ["%d messages %s" % (found[key], key) for key in ZERO if found[key] != 0]
    found = report["connections"]
    complaints += ["%d connections %s, not %d" % (found[key], key, connections)
                   for key in ("opened", "closed_clean") if found[key] != connections]
    complaints += ["%d connections %s" % (found[key], key)
                   for key in ("failed", "broken", "closed_unclean") if found[key] != 0]
    return complaints


def run_one(program, name, combination, port, factor, more=()):
    _, connections, size, kind, mode = combination
    connections, messages, in_flight = amounts(connections, size)
    messages *= factor
    report, complaint = run_load(program, ["-c", str(connections), *MODES[mode], "-n", str(messages), "-s", str(size),
                                           "--" + kind, "-p", str(in_flight), "-q", "-o", "json", *more,
                                           "ws://127.0.0.1:%d/" % port])
    verdict.judge(name, [complaint] if complaint else check_report(report, messages, connections))


def run_all(program, ports, long):
    """ports: of each server by name; None where it is missing."""
    for combination in itertools.product(ports, CONNECTIONS, SIZES, KINDS, MODES):
        server, connections, size, kind, mode = combination
        name = "echo.%s.%d.%d.%s.%s" % (server, connections, size, kind, mode)
        if ports[server] is None:
            verdict.skipped(name, server + " is missing")
        else:
            run_one(program, name, combination, ports[server], 20 if long else 1)
    for server, (size, fragment), kind in itertools.product(ports, FRAGMENTS, KINDS):
        name = "fragments.%s.%d.%d.%s" % (server, size, fragment, kind)
        if ports[server] is None:
            verdict.skipped(name, server + " is missing")
        else:
            run_one(program, name, (server, 1, size, kind, "1worker"), ports[server], 1,
                    ["--fragment", str(fragment)])
