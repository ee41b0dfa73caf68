"""Runs the cases of tls_fault_cases.py against the TLS fault server, and those of fault_cases.py over TLS."""
import collections
import concurrent.futures
import json
import queue
import re
import threading
import time

import tls_fault_cases
import verdict
from fault_run import CASE_S, MODES, TOGETHER, Runner, check_text, compare, compare_seen, run_client, shown

# (records, mode of fault_run.py) of each case: the handshake is the library's, whoever carries the records.
HANDSHAKES = {None: [("auto", "inline"), ("library", "workers")], "1.2": [("auto", "inline"), ("library", "workers")],
              "1.3": [("auto", "workers"), ("library", "inline")]}
RECORDS = {"1.2": [("direct", "inline"), ("direct", "workers"), ("library", "inline")],
           "1.3": [("direct", "inline"), ("direct", "workers"), ("library", "workers")]}

INSECURE = {"tls insecure": r"tls version=1\.\d records=\w+ resumed=0 verified=0 cipher=\S+ why=.+",
            "statistics insecure": r"statistics handshakes=1 resumed=0 unverified=1 .*"}

REFUSED = {
    "list-not-there": (["--crl", "%(folder)s/nowhere.crl"], "tls_crl_file", "nowhere.crl"),
    "list-is-none": (["--crl", "%(folder)s/ca.conf"], "tls_crl_file"),
    "authority-not-there": (["--cacert", "%(folder)s/nowhere.pem"], "tls_ca_file", "nowhere.pem"),
    "authority-is-none": (["--cacert", "%(folder)s/ca.conf"], "tls_ca_file"),
    "directory-not-there": (["--capath", "%(folder)s/nowhere"], "tls_ca_directory", "nowhere"),
    "directory-empty": (["--capath", "%(folder)s/empty"], "tls_ca_directory", "rehash"),
    "certificate-not-there": (["--cert", "%(folder)s/nowhere.pem"], "tls_certificate_file", "nowhere.pem"),
    "key-not-there": (["--cert", "%(folder)s/client.pem", "--key", "%(folder)s/nowhere.key"], "tls_key_file"),
    "key-missing": (["--cert", "%(folder)s/client.pem"], ("tls_key_file", "tls_certificate_file")),
    "key-alone": (["--key", "%(folder)s/client.key"], "tls_key_file"),
    "key-of-another": (["--cert", "%(folder)s/client.pem", "--key", "%(folder)s/good.key"], "key"),
    "ciphers": (["--ciphers", "nonsense"], "tls_ciphers"),
    "ciphersuites": (["--ciphersuites", "nonsense"], "tls_ciphersuites"),
    "versions": (["--tls-min", "1.3", "--tls-max", "1.2"], "tls_version"),
    "version": (["--tls-min", "1.1"], "tls_version_min"),
    "key-log": (["--key-log", "%(folder)s/nowhere/keys.log"], "tls_key_log_file"),
}


class Reports:
    """What the server saw, by scene: one run of a scene at a time."""

    def __init__(self, lines):
        self.lines = lines
        self.by_scene = collections.defaultdict(list)
        self.locks = collections.defaultdict(threading.Lock)
        self.lock = threading.Lock()

    def take(self, scene, count):
        deadline = time.monotonic() + CASE_S
        while time.monotonic() < deadline:
            with self.lock:
                self.drain()
                if len(self.by_scene[scene]) >= count:
                    return self.by_scene.pop(scene)
            time.sleep(0.01)
        return []

    def drain(self):
        while True:
            try:
                line = self.lines.get_nowait()
            except queue.Empty:
                return
            if line is not None:
                seen = json.loads(line)
                self.by_scene[seen["scene"]].append(seen)


def any_of(value):
    return tuple(value.split("|")) if isinstance(value, str) and "|" in value else value


class TlsRunner:
    def __init__(self, program, folder, ports, lines):
        self.program = program
        self.folder = folder
        self.ports = ports
        self.reports = Reports(lines)

    def fill(self, words, port):
        return [word % {"folder": self.folder, "port": port} for word in words]

    def run_case(self, case, version, variants):
        scene = case.scene if version is None else "%s-%s" % (case.scene, version)
        port = self.ports[scene]
        for records, mode in variants[version]:
            with self.reports.locks[scene]:
                got = run_client(self.program, [*MODES[mode], "--tls-records", records,
                                                *self.fill([*case.options, case.url], port)])
                seen = self.reports.take(scene, 1)
            got = [next((word for word, pattern in INSECURE.items() if re.fullmatch(pattern, line)), line)
                   for line in got]
            complaints = compare(case.lines, got, case.words)
            complaints += compare_seen({key: any_of(value) for key, value in case.seen.items()},
                                       seen[0] if len(seen) == 1 else None)
            name = case.name if version is None else "%s-%s" % (case.name, version)
            verdict.judge("tls-fault.%s.%s.%s" % (name, records, mode), complaints)

    def run_repeated(self, case, version):
        """Nothing is left behind that only the engine's own lists still know."""
        scene = "%s-%s" % (case.scene, version)
        for records in ("direct", "library"):
            times = tls_fault_cases.REPEATED_TIMES
            with self.reports.locks[scene]:
                got = run_client(self.program, ["--tls-records", records, "--no-resumption", "--again=%d" % (times - 1),
                                                "--heap-max", str(tls_fault_cases.REPEATED_HEAP_BYTES),
                                                *self.fill([*case.options, case.url], self.ports[scene])])
                self.reports.take(scene, times)
            verdict.judge("tls-fault.%s.%s.repeated" % (scene, records), compare(case.lines * times, got, case.words))

    def run_many(self, name, sockets, times, options, version):
        """Connections that each break in another place: how far each had come is the same for both sides."""
        scene = "%s-%s" % (name, version)
        complaints, reports = [], []
        for i in range(times):
            got = run_client(self.program, [*MODES["workers" if i % 2 else "inline"], "--sockets", str(sockets),
                                            "--count-errors", *options, *self.fill(tls_fault_cases.CA, 0),
                                            "wss://127.0.0.1:%d/" % self.ports[scene]])
            seen = self.reports.take(scene, sockets)
            complaints += check_many(got, seen, sockets)
            reports += seen
        if name == "cut" and not any(seen["whole"] == "yes" for seen in reports):
            complaints.append("the handshake has more bytes than there were connections")
        verdict.judge("tls-fault.%s" % scene, complaints)

    def run_refused(self, name, options, words):
        got = run_client(self.program, [*self.fill(options, 0), "wss://127.0.0.1:9/"])
        found = re.fullmatch(r"no engine: (\w+) (.*)", got[0]) if got else None
        if found is None or found.group(1) != "WSR_ERR_ARGUMENT" or len(got) != 2:
            complaints = ["got [%s] instead of [no engine: WSR_ERR_ARGUMENT ...]" % shown(got)]
        else:
            complaints = check_text(found.group(2), words)
        verdict.judge("tls-fault.refused-" + name, complaints)

    def run_all(self):
        jobs = []
        with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
            for cases, variants in ((tls_fault_cases.CERTIFICATES, HANDSHAKES),
                                    (tls_fault_cases.BAD_SERVERS, HANDSHAKES),
                                    (tls_fault_cases.RECORDS, RECORDS), (tls_fault_cases.ENDS, RECORDS)):
                jobs += [pool.submit(self.run_case, case, version, variants)
                         for case in cases for version in case.versions]
                jobs += [pool.submit(self.run_repeated, case, version) for case in cases for version in case.versions
                         if case.name in tls_fault_cases.REPEATED and version]
            jobs += [pool.submit(self.run_refused, name, options, words)
                     for name, (options, *words) in REFUSED.items()]
            jobs += [pool.submit(self.run_many, *many, version)
                     for many in tls_fault_cases.MANY for version in tls_fault_cases.BOTH]
            for job in jobs:
                job.result()
        self.run_paths()

    def run_paths(self):
        """The scenes of fault_scenes.py, over sound TLS."""
        for version, records in (("1.2", "library"), ("1.3", "direct")):
            runner = Runner(self.program, {"": self.ports["path-" + version]}, self.reports.lines,
                            "tls-fault.path-" + version, "wss",
                            ["--tls-records", records, *self.fill(tls_fault_cases.CA, 0)])
            runner.run_short()
            if records == "direct":
                runner.run_amounts()


def stage_of(seen):
    """Of a connection that was broken: where the client must have noticed."""
    if "whole" in seen:
        return "upgrade" if seen["whole"] == "yes" else "tls"
    phase = seen.get("phase", "open")
    return phase if phase in ("upgrade", "open") else "tls"


def check_many(got, reports, sockets):
    """Every connection fails, at the stage that the server knows of."""
    if not got or not got[0].startswith("sockets ") or len(reports) != sockets:
        return ["got [%s], and the server saw %d connections of %d" % (shown(got), len(reports), sockets)]
    complaints = []
    wanted = collections.Counter(stage_of(seen) for seen in reports)
    found = collections.Counter()
    for line in got[1:]:
        match = re.fullmatch(r"times (\d+) error stage=(\w+) errno=(\w+) http=0 text=(.*)", line)
        if match is None:
            complaints.append("got [%s]" % line)
            continue
        found[match.group(2)] += int(match.group(1))
        complaints += check_text(match.group(4), ())
    if found != wanted:
        complaints.append("failed by stage: %s instead of %s; [%s]" % (dict(found), dict(wanted), shown(got)))
    if " refused=0 clean=0" not in got[0]:
        complaints.append(got[0])
    return complaints
