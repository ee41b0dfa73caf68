#!/usr/bin/env python3
"""Counts the test cases of a meson test run, binary by binary.

usage: results.py TESTLOG STAGE

TESTLOG is meson's testlog.json of a run under CMOCKA_MESSAGE_OUTPUT=TAP. Prints one line per test case, "PASS
STAGE/BINARY/CASE", "FAIL STAGE/BINARY/CASE: why" or "SKIP STAGE/BINARY/CASE: why", and the end of the output of each
binary that failed on standard error. A binary that ends badly without a failed case has failed, so has one that
ran fewer cases than it announced, and one that ran none.
"""
import json
import re
import sys

TAIL_LINES = 40
PLAN = re.compile(r"^1\.\.(\d+)\s*$")
SKIPPED = re.compile(r"^(?:not )?ok \d+ # SKIP (.*)$")
OUTCOME = re.compile(r"^(ok|not ok) \d+ - (.*)$")


def read_cases(output):
    """Returns (announced, [(verdict, case, why)])."""
    announced = 0
    cases = []
    for line in output.splitlines():
        if match := PLAN.match(line):
            announced += int(match[1])
        elif match := SKIPPED.match(line):
            cases.append(("SKIP", match[1].strip(), "skipped by the test"))
        elif match := OUTCOME.match(line):
            cases.append(("PASS" if match[1] == "ok" else "FAIL", match[2].strip(), ""))
        elif line.startswith("# ") and cases and cases[-1][0] == "FAIL" and not line.startswith("# not ok"):
            verdict, case, why = cases[-1]
            cases[-1] = (verdict, case, (why + " " + line[2:]).strip())
    return announced, cases


def judge(test):
    """Returns the cases of one binary, with a case of its own for what no case tells."""
    output = test.get("stdout") or ""
    announced, cases = read_cases(output)
    failed = any(verdict == "FAIL" for verdict, _, _ in cases)
    code = test.get("returncode")
    if test["result"] == "TIMEOUT":
        cases.append(("FAIL", "(binary)", "timed out"))
    elif code is None or code < 0 or (code != 0 and not failed):
        cases.append(("FAIL", "(binary)", f"{len(cases)} of {announced} cases ran, then it ended with status {code}"))
    elif len(cases) != announced:
        cases.append(("FAIL", "(binary)", f"{len(cases)} of {announced} cases ran"))
    elif announced == 0:
        cases.append(("FAIL", "(binary)", "ran no test case"))
    return cases


def show_tail(name, test):
    lines = ((test.get("stdout") or "") + (test.get("stderr") or "")).splitlines()
    print(f"---- {name}: end of its output", file=sys.stderr)
    for line in lines[-TAIL_LINES:]:
        print("  " + line, file=sys.stderr)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        tests = [json.loads(line) for line in log if line.strip()]
    for test in tests:
        name = f"{sys.argv[2]}/{test['name']}"
        cases = judge(test)
        for verdict, case, why in cases:
            print(f"{verdict} {name}/{case}" + (f": {why}" if verdict != "PASS" else ""))
        if any(verdict == "FAIL" for verdict, _, _ in cases):
            show_tail(name, test)


main()
