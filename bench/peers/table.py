"""What was measured, as Markdown for pasting and as JSON."""
import datetime
import os
import platform
import statistics

import match


def spread(values):
    return {"median": statistics.median_low(values), "min": min(values), "max": max(values)}


def ratios(ours, theirs, key):
    """Theirs over ours, round by round; rounds that one of both has not are left out."""
    return [theirs[round_][key] / ours[round_][key] for round_ in sorted(theirs)
            if round_ in ours and ours[round_][key] > 0]


def told(value, unit):
    """Three digits that count."""
    if unit == "B":
        return "%d B" % round(value)
    if unit == "/s":
        return "%.2f M" % (value / 1e6) if value >= 1e6 else "%.0f k" % (value / 1e3) if value >= 1e5 else \
            "%.1f k" % (value / 1e3)
    return "%.0f ns" % value if value < 10000 else "%.1f us" % (value / 1000)


def told_ratio(ours, theirs, key):
    found = ratios(ours, theirs, key)
    if not found:
        return "-"
    if theirs is ours:
        return "1"
    of = spread(found)
    return "%.2f (%.2f to %.2f)" % (of["median"], of["min"], of["max"])


def columns(row):
    """(title, key, unit or None for a share of one CPU, whether the ratio to wsring stands beside it)"""
    if row.kind == "memory":
        return [("memory per connection", "bytes", "B", True), ("the whole process", "process_bytes", "MiB", False)]
    busy = [("client busy", "client_cpu", None, False), ("server busy", "server_cpu", None, False)]
    if row.kind == "roundtrip":
        return [("p50", "p50_ns", "ns", True), ("messages/s", "messages_per_s", "/s", False)] + busy
    return [("messages/s", "messages_per_s", "/s", True), ("client's CPU per message", "cpu_ns", "ns", True)] + busy


def cells(row, ours, theirs):
    for _, key, unit, has_ratio in columns(row):
        value = statistics.median_low([one[key] for one in theirs.values()])
        if unit == "MiB":
            yield "%.1f MiB" % (value / (1 << 20))
        else:
            yield told(value, unit) if unit else "%.0f %%" % (100 * value)
        if has_ratio:
            yield told_ratio(ours, theirs, key)


def lines(row, results, said):
    """The table of one row. results: by client's name, figures by round."""
    titles = ["client"]
    for title, _, _, has_ratio in columns(row):
        titles += [title, "to wsring's"] if has_ratio else [title]
    yield "**%s**: %s" % (row.name, row.what)
    yield ""
    yield "| %s | how |" % " | ".join(titles)
    yield "|" + "---|" * (len(titles) + 1)
    for name, theirs in results.items():
        if theirs:
            found = list(cells(row, results.get("wsring", {}), theirs))
            yield "| %s | %s | %s |" % (said[name]["library"], " | ".join(found), said[name]["way"])
    yield ""


def machine():
    cpus = sorted(os.sched_getaffinity(0))
    model, is_emulated = "unknown CPU", False
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("vendor_id") and "User Mode Linux" in line:
                is_emulated = True
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(), "kernel": platform.release(),
            "cpu": model, "cpus": len(cpus), "client_on": match.cpu_of_client(),
            "server_on": cpus[min(1, len(cpus) - 1)], "load": "%.2f %.2f %.2f" % os.getloadavg(),
            "is_emulated": is_emulated}


def sentence(facts, rounds, slice_ms):
    emulated = ("EMULATED: the kernel is a guest in User-Mode Linux, where each system call is dear and AES is without "
                "the CPU's instructions; the figures show that it works, and nothing else.\n\n"
                if facts["is_emulated"] else "")
    shared = ": ONE CPU FOR BOTH, worth little" if facts["client_on"] == facts["server_on"] else ""
    return (emulated +
            "Measured on %(date)s: Linux %(kernel)s, %(cpu)s, %(cpus)d CPU(s) (client on %(client_on)d, server "
            "on %(server_on)d), load %(load)s" % facts +
            "%s; median of %d round%s of %d ms, clients in turns; ratios are of the same round, median (least to "
            "most)." % (shared, rounds, "" if rounds == 1 else "s", slice_ms))


def as_json(row, results, said):
    """One row for --json."""
    found = {"row": row.name, "what": row.what, "kind": row.kind, "clients": []}
    for name, theirs in results.items():
        if not theirs:
            continue
        one = {"client": name, "library": said[name]["library"], "way": said[name]["way"], "rounds": len(theirs)}
        for _, key, _, has_ratio in columns(row):
            one[key] = spread([figures[key] for figures in theirs.values()])
            to_ours = ratios(results.get("wsring", {}), theirs, key)
            if has_ratio and to_ours:
                one[key + "_to_wsring"] = spread(to_ours)
        found["clients"].append(one)
    return found


# What stands for a row of that kind in the table of all: its key, the unit.
CHIEF = {"roundtrip": ("p50_ns", "ns"), "memory": ("bytes", "B")}


def summary(rows):
    """One line for each client, one column for each row of as_json(): the chief figure, and its ratio to wsring's."""
    names = []
    for row in rows:
        names += [one["library"] for one in row["clients"] if one["library"] not in names]
    yield "| client | %s |" % " | ".join("%s, %s" % (row["row"], {"roundtrip": "p50", "memory": "per connection"}.get(
        row["kind"], "CPU per message")) for row in rows)
    yield "|" + "---|" * (len(rows) + 1)
    for name in names:
        line = [name]
        for row in rows:
            key, unit = CHIEF.get(row["kind"], ("cpu_ns", "ns"))
            found = [one for one in row["clients"] if one["library"] == name]
            line.append("-" if not found else told(found[0][key]["median"], unit) if found[0]["client"] == "wsring" else
                        "%s (%.2f)" % (told(found[0][key]["median"], unit),
                                       found[0].get(key + "_to_wsring", {"median": float("nan")})["median"]))
        yield "| %s |" % " | ".join(line)
