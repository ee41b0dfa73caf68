"""The lines that tests/run counts: PASS name, FAIL name: why, SKIP name: why."""
import threading

_lock = threading.Lock()
_counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}


def _say(word, name, why=None):
    with _lock:
        _counts[word] += 1
        print("%s %s%s" % (word, name, "" if why is None else ": " + why), flush=True)


def passed(name):
    _say("PASS", name)


def failed(name, why):
    _say("FAIL", name, " | ".join(why.split("\n")))


def skipped(name, why):
    _say("SKIP", name, why)


def judge(name, complaints):
    """Passed when there is no complaint."""
    if complaints:
        failed(name, "; ".join(complaints))
    else:
        passed(name)


def any_failed():
    return _counts["FAIL"] > 0 or _counts["PASS"] == 0
