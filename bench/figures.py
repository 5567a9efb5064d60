#!/usr/bin/env python3
"""Runs the rows of the figures in docs/benchmarks.md and prints them as a table.

    cargo build --release && python3 bench/figures.py [--only NAME[,NAME]] [--passes 3] [--save runs.json]

Each row runs the broker and what it is held against (the bare loop, a bare stream, one topic, the
lean generator) in turn, pass after pass; the median over the passes counts, and their range is
shown. A run that bench calls invalid is printed as such, with the reason, and does not count.
Peers are not run here: see docs/peers.md. Needs two CPUs: the broker has the first, the load the
second.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

RUN_SECONDS_MAX = 300
FAULTS = ("lost", "duplicated", "reordered", "corrupted")
ADAPTIVE_SPIN = {"CORELANE_SERVER_ADAPTIVE_SPIN": "true"}
# As the server has them where nobody asks for smaller ones: work at each segment's border counts less.
USUAL_SEGMENTS = {"CORELANE_STORAGE_SEGMENT_BYTES": str(256 << 20)}
ALWAYS_SPIN = {"CORELANE_EXECUTOR_SPIN": "200us"}


class Invalid(Exception):
    """A run that says nothing of the broker, and why."""


class Bench:
    """Runs `corelane bench` and keeps what it said."""

    def __init__(self, binary, seconds, warmup):
        self.binary, self.kept = binary, []
        self.times = ("--duration", str(seconds), "--warmup", str(warmup))

    def run(self, *args, env=None):
        command = [self.binary, "bench", *args, "--output", "json"]
        entry = {"command": " ".join(command), "env": env or {}}
        self.kept.append(entry)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX,
                                  env={**os.environ, **(env or {})})
        except subprocess.TimeoutExpired:
            raise Invalid(f"no end after {RUN_SECONDS_MAX} s") from None
        try:
            entry["report"] = report = json.loads(done.stdout)
        except json.JSONDecodeError:
            said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise Invalid(said[0]) from None
        if not report["valid"]:
            raise Invalid("; ".join(report["invalid_because"]))
        faults = [f"{report[fault]} messages {fault}" for fault in FAULTS if report.get(fault)]
        if faults:
            raise Invalid(", ".join(faults))
        return report

    def loop(self, args):
        return self.run("raw", "--only", "append", *args, *self.times)["append"]

    def raw(self, part):
        return self.run("raw", "--only", part)[part]

    def broker(self, work, args, env=None):
        times = self.times[:2] if "--warmup" in args else self.times
        return self.run(work, "--embedded", *args, *times, env=env)


# What a row is: a name, what is run, what is asked of it, and how a pass is measured.

def load(connections, in_flight, size, *more):
    return ("--connections", str(connections), "--in-flight", str(in_flight), "--size", str(size),
            *more)


def p50(run):
    return run["latency_us"]["p50"]


def rate(run):
    return run["messages_per_s"]


def against_loop(args, figure, env=None):
    """The broker's figure as a share of the bare loop's at the same settings."""
    def one(bench):
        loop, broker = bench.loop(args), bench.broker("produce", args, env)
        return {"value": figure(broker) / figure(loop), "base": loop, "broker": broker}
    return one


def megabytes_per_s(args):
    """The broker's rate in bytes, the bare loop's beside it."""
    def one(bench):
        loop, broker = bench.loop(args), bench.broker("produce", args)
        return {"value": broker["bytes_per_s"] / 1e6, "base": loop, "broker": broker}
    return one


def against_stream(*args):
    """Reading from memory, as a share of a bare stream over the loopback."""
    def one(bench):
        stream = bench.raw("loopback")["stream_64k_bytes_per_s"]
        broker = bench.broker("consume", args)
        said = f"stream {stream / 1e6:,.0f} MB/s"
        return {"value": broker["bytes_per_s"] / stream, "base": said, "broker": broker}
    return one


def against_disk(*args):
    """Reading from the disk, as a share of the lower of a direct read and a bare stream."""
    def one(bench):
        disk = bench.raw("disk")["read_sequential_bytes_per_s"]
        stream = bench.raw("loopback")["stream_64k_bytes_per_s"]
        broker = bench.broker("consume", ("--cold", *args), USUAL_SEGMENTS)
        said = f"direct read {disk / 1e6:,.0f}, stream {stream / 1e6:,.0f} MB/s"
        return {"value": broker["bytes_per_s"] / min(disk, stream), "base": said, "broker": broker}
    return one


def against_run(base, args, env=None):
    """The broker's rate as a share of another run's against it."""
    def one(bench):
        first = bench.broker("produce", base, env)
        broker = bench.broker("produce", args, env)
        return {"value": rate(broker) / rate(first), "base": first, "broker": broker}
    return one


def to_receipt(percentile, args):
    def one(bench):
        loop, broker = bench.loop(args), bench.broker("e2e", args)
        return {"value": broker["latency_us"][percentile], "base": loop, "broker": broker}
    return one


def p99_and_memory(args):
    """A latency, and what a connection costs in resident memory."""
    def one(bench):
        broker = bench.broker("produce", args)
        memory, connections = broker["server_memory"], broker["settings"]["connections"]
        each = lambda at: (memory[at] - memory["before_bytes"]) / connections / 1024
        said = f"resident per connection {each('connected_bytes'):.1f} KiB idle, " \
               f"{each('loaded_bytes'):.1f} KiB under load"
        return {"value": broker["latency_us"]["p99"], "base": said, "broker": broker}
    return one


def across_cores(slack_us, env=None):
    """How much later a publish to another core's partition is acknowledged than one to one's own.
    With `slack_us`: less a bare eventfd round trip and that."""
    args = load(1, 1, 1024, "--server-cores", "2", "--ack", "memory")

    def one(bench):
        wake = bench.raw("loopback")["eventfd_round_trip_us"]["p50"] if slack_us else 0.0
        own = bench.broker("produce", (*args, "--route", "owner"), env)
        other = bench.broker("produce", (*args, "--route", "other"), env)
        more = p50(other) - p50(own)
        said = f"p50 {p50(own):.1f} us to one's own core" + (f", eventfd {wake:.1f} us" * bool(wake))
        value = more - wake if slack_us else more
        return {"value": value, "base": said, "broker": other}
    return one


class Row:
    """`goal`: at least this, or at most where `most`. `unit`: "" for a share."""

    def __init__(self, name, what, goal, measure, most=False, unit="", cpu_most=None):
        self.name, self.what, self.goal, self.measure = name, what, goal, measure
        self.most, self.unit, self.cpu_most = most, unit, cpu_most

    def asked(self):
        return f"{'at most' if self.most else 'at least'} {shown(self.goal, self.unit)}"

    def is_met(self, value):
        return value <= self.goal if self.most else value >= self.goal


BATCH = ("--batch", "100")
HOT = ("--connections", "4", "--size", "1024")
PACED = ("--rate", "48828", "--size", "1024", *BATCH, "--connections", "1", "--in-flight", "8")
ONE = load(1, 1, 1024)

ROWS = [
    Row("lockstep-1", "1 KiB, lockstep, 1 connection: p50 of the loop's", 1.2,
        against_loop(ONE, p50), most=True, cpu_most=1.3),
    Row("lockstep-1-spin", "the same, adaptive spinning", 1.0,
        against_loop(ONE, p50, ADAPTIVE_SPIN), most=True),
    Row("lockstep-4", "1 KiB, lockstep, 4 connections", 0.9,
        against_loop(load(4, 1, 1024), rate), cpu_most=1.3),
    Row("lockstep-16", "1 KiB, lockstep, 16 connections", 0.9,
        against_loop(load(16, 1, 1024), rate), cpu_most=1.3),
    Row("1k-64", "1 KiB, 64 in flight, 4 connections", 0.75,
        against_loop(load(4, 64, 1024), rate)),
    Row("100b-64", "100 B, 64 in flight, 4 connections", 0.7,
        against_loop(load(4, 64, 100), rate)),
    Row("100b-1024", "100 B, 1,024 in flight, 4 connections", 0.7,
        against_loop(load(4, 1024, 100), rate)),
    Row("x100", "1 KiB x 100, 4 in flight, 4 producers, recycled", 0.85,
        against_loop(load(4, 4, 1024, *BATCH), rate)),
    Row("x100-fresh", "the same, fresh space", 0.85,
        against_loop(load(4, 4, 1024, *BATCH, "--space", "fresh"), rate)),
    # More than the best of the peers acknowledges from memory.
    Row("x1000", "1 KiB x 1,000, 4 in flight, 4 producers", 1230,
        megabytes_per_s(load(4, 4, 1024, "--batch", "1000")), unit="MB/s"),
    Row("hot-x100", "hot consume, 1 KiB x 100, 4 consumers", 0.85,
        against_stream(*HOT, *BATCH)),
    Row("hot-x1000", "hot consume, 1 KiB x 1,000, 4 consumers", 0.85,
        against_stream(*HOT, "--batch", "1000")),
    Row("cold", "cold consume, 1 connection", 0.85,
        against_disk("--connections", "1", "--size", "1024", *BATCH)),
    Row("50mb-p99", "50 MB/s of 1 KiB x 100, publish to receipt: p99", 600,
        to_receipt("p99", PACED), most=True, unit="us"),
    Row("50mb-p99.9", "the same: p99.9", 1500,
        to_receipt("p99_9", PACED), most=True, unit="us"),
    Row("10k-topics", "10,000 topics round robin, of one topic's rate", 0.85,
        against_run(load(4, 64, 1024), load(4, 64, 1024, "--topics", "10000"),
                    USUAL_SEGMENTS)),
    Row("10k-connections", "10,000 connections, 20,000 messages/s in all: p99", 5000,
        # The machine stalls for some 40 ms once, in the second or third second after so many have come.
        p99_and_memory(("--connections", "10000", "--rate", "20000", "--size", "1024",
                        "--warmup", "3")),
        most=True, unit="us"),
    Row("memory-lockstep", "memory-acknowledged, lockstep, 1 connection: p50 of the loop's", 1.2,
        against_loop((*ONE, "--ack", "memory"), p50), most=True, cpu_most=1.3),
    Row("client", "the tokio client, 1 KiB, linger 1 ms, 4 producers, of the lean generator's rate "
        "(single messages, 64 in flight)", 0.7,
        against_run(load(4, 64, 1024),
                    load(4, 2048, 1024, "--client", "tokio", "--linger", "1ms"))),
    Row("cross-core", "publish to another core's partition, parked: p50 more than to one's own, "
        "less a bare eventfd round trip", 15, across_cores(15), most=True, unit="us"),
    Row("cross-core-spin", "the same, spinning: p50 more than to one's own", 25,
        across_cores(None, ALWAYS_SPIN), most=True, unit="us"),
]


def shown(value, unit):
    return f"{value:,.0f} {unit}" if unit else f"{value:.2f}"


def describe(run):
    """A run in one cell."""
    if isinstance(run, str):
        return run
    latency, cpu = run["latency_us"], run.get("server_cpu_us_per_message")
    text = f"{rate(run):,.0f}/s, {run['bytes_per_s'] / 1e6:,.0f} MB/s, p50 {latency['p50']:,.0f}, " \
           f"p99 {latency['p99']:,.0f}, p99.9 {latency['p99_9']:,.0f} us"
    return text + (f", CPU {cpu:.2f} us" if cpu else "")


def cpu_ratio(done):
    """CPU per message as a multiple of the loop's; None where there is no loop."""
    if isinstance(done["base"], str):
        return None
    ours, base = (done[side].get("server_cpu_us_per_message") for side in ("broker", "base"))
    return ours / base if ours and base else None


def cpu_cell(row, passes):
    ratios = [ratio for ratio in map(cpu_ratio, passes) if ratio]
    if not ratios:
        return ""
    ratio = statistics.median(ratios)
    if row.cpu_most is None:
        return f"{ratio:.2f}x"
    missed = "" if ratio <= row.cpu_most else " (missed)"
    return f"{ratio:.2f}x, at most {row.cpu_most:.1f}x{missed}"


def line(row, passes, invalid):
    """The row of the table."""
    reasons = f" invalid: {'; '.join(dict.fromkeys(invalid))}" if invalid else ""
    if not passes:
        return f"| {row.what} | {row.asked()} | **invalid** | | | {reasons.strip()} |"
    values = [done["value"] for done in passes]
    value = statistics.median(values)
    spread = f" ({shown(min(values), row.unit)} to {shown(max(values), row.unit)})" \
        if len(values) > 1 else ""
    missed = "" if row.is_met(value) else " (missed)"
    middle = min(passes, key=lambda done: abs(done["value"] - value))
    note = f"{len(invalid)} of {len(invalid) + len(passes)} passes{reasons}" if invalid else ""
    return f"| {row.what} | {row.asked()} | **{shown(value, row.unit)}**{spread}{missed} " \
           f"| {describe(middle['base'])} | {describe(middle['broker'])} " \
           f"| {' '.join(filter(None, (cpu_cell(row, passes), note)))} |"


def measure(row, bench, count):
    """All passes of a row, and why some do not count."""
    passes, invalid = [], []
    for number in range(count):
        before = len(bench.kept)
        try:
            passes.append(row.measure(bench))
        except Invalid as reason:
            invalid.append(str(reason))
        for entry in bench.kept[before:]:
            entry.update(row=row.name, run_of_pass=number)
    return passes, invalid


def wanted(only):
    by_name = {row.name: row for row in ROWS}
    names = only.split(",") if only else list(by_name)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        sys.exit(f"no row is called {', '.join(unknown)}: see --list")
    return [by_name[name] for name in names]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/corelane")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--only", metavar="NAME[,NAME]", help="only these rows")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--save", metavar="FILE", help="keep every run's JSON in this file")
    parser.add_argument("--seconds", type=int, default=4, help="time measured in each run")
    parser.add_argument("--warmup", type=int, default=2)
    return parser.parse_args()


def main():
    options = arguments()
    rows = wanted(options.only)
    if options.list:
        print("\n".join(f"{row.name:<18}{row.what}: {row.asked()}" for row in rows))
        return
    bench = Bench(options.binary, options.seconds, options.warmup)
    print("| work | asked | measured | held against | broker | CPU a message, of the other's; "
          "remarks |\n|---|---|---|---|---|---|", flush=True)
    for row in rows:
        print(line(row, *measure(row, bench, options.passes)), flush=True)
        if options.save:
            with open(options.save, "w", encoding="utf-8") as file:
                json.dump(bench.kept, file, indent=1)


if __name__ == "__main__":
    main()
