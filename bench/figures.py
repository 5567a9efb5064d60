#!/usr/bin/env python3
"""Runs every row of docs/benchmarks.md and prints the table.

    cargo build --release && python3 bench/figures.py [--binary target/release/corelane] [--passes 3]

Each row runs the bare loop and the broker in turn, pass after pass; the median of the passes' ratios
is what counts. Needs two CPUs: the broker has the first, the load the second.
"""

import argparse
import json
import statistics
import subprocess
import sys


def bench(binary, *args):
    command = [binary, "bench", *args, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    run = json.loads(done.stdout or "{}")
    if done.returncode != 0 and not run:
        sys.exit(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
    if not run["valid"]:
        sys.exit(f"{' '.join(command)} is invalid: {'; '.join(run['invalid_because'])}")
    for fault in ("lost", "duplicated", "reordered", "corrupted"):
        if run.get(fault):
            sys.exit(f"{' '.join(command)}: {run[fault]} messages {fault}")
    return run


def raw(binary, *args):
    return bench(binary, "raw", "--only", "append", *args)["append"]


def produce(binary, *args):
    return bench(binary, "produce", "--embedded", *args)


def load(connections, in_flight, size, *more):
    return ("--connections", str(connections), "--in-flight", str(in_flight),
            "--size", str(size), "--duration", "3", "--warmup", "2", *more)


def p50(run):
    return run["latency_us"]["p50"]


def rate(run):
    return run["messages_per_s"]


def shown(run):
    latency = run["latency_us"]
    cpu = run.get("server_cpu_us_per_message")
    return (f"{rate(run):,.0f}/s, {run['bytes_per_s'] / 1e6:,.0f} MB/s, p50 {latency['p50']:,.0f}, "
            f"p99 {latency['p99']:,.0f}, p99.9 {latency['p99_9']:,.0f} us"
            + (f", CPU {cpu:.2f} us" if cpu else ""))


def compare(binary, passes, name, floor, args, figure, smaller_is_better=False):
    """One row: the loop and the broker in turn."""
    ratios, last = [], None
    for _ in range(passes):
        loop, broker = raw(binary, *args), produce(binary, *args)
        ratios.append(figure(broker) / figure(loop))
        last = (loop, broker)
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    good = ratio <= floor if smaller_is_better else ratio >= floor
    asked = f"{'at most' if smaller_is_better else 'at least'} {floor:.2f}"
    print(f"| {name} | {asked} | **{ratio:.2f}** ({spread}) {'' if good else '(missed)'} "
          f"| {shown(last[0])} | {shown(last[1])} |", flush=True)


def row(name, asked, got, detail, other=""):
    print(f"| {name} | {asked} | **{got}** | {detail} | {other} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="target/release/corelane")
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    binary, passes = options.binary, options.passes
    print("| work | asked | ratio (spread) | bare loop | broker |\n|---|---|---|---|---|")
    one = load(1, 1, 1024)
    compare(binary, passes, "1 KiB, lockstep, 1 connection: p50", 1.5, one, p50, True)
    for connections in (4, 16):
        compare(binary, passes, f"1 KiB, lockstep, {connections} connections", 0.7,
                load(connections, 1, 1024), rate)
    for size, name in ((1024, "1 KiB"), (100, "100 B")):
        compare(binary, passes, f"{name}, 64 in flight, 4 connections", 0.4,
                load(4, 64, size), rate)
    for space in ("recycled", "fresh"):
        compare(binary, passes, f"1 KiB x 100, 4 in flight, 4 connections, {space}", 0.6,
                load(4, 4, 1024, "--batch", "100", "--space", space), rate)
    compare(binary, passes, "memory, lockstep, 1 connection: p50", 1.5,
            load(1, 1, 1024, "--ack", "memory"), p50, True)

    ceilings = [bench(binary, "raw", "--only", part) for part in ("disk", "loopback")]
    disk, loopback = ceilings[0]["disk"], ceilings[1]["loopback"]
    stream = loopback["stream_64k_bytes_per_s"]
    read = disk["read_sequential_bytes_per_s"]
    eventfd = loopback["eventfd_round_trip_us"]["p50"]
    batches = ("--size", "1024", "--batch", "100", "--duration", "4", "--warmup", "1")
    hot = [bench(binary, "consume", "--embedded", "--connections", "4", *batches)
           for _ in range(passes)]
    got = statistics.median(run["bytes_per_s"] for run in hot) / stream
    row("consume from memory, 4 connections", "at least 0.60", f"{got:.2f}",
        f"loopback stream {stream / 1e6:,.0f} MB/s", shown(hot[-1]))
    cold = [bench(binary, "consume", "--embedded", "--cold", "--connections", "1", *batches)
            for _ in range(passes)]
    got = statistics.median(run["bytes_per_s"] for run in cold) / min(read, stream)
    row("consume cold, 1 connection", "at least 0.70", f"{got:.2f}",
        f"sequential read {read / 1e6:,.0f} MB/s", shown(cold[-1]))
    at_rate = ("--rate", "48828", "--size", "1024", "--batch", "100", "--connections", "1",
               "--in-flight", "8", "--duration", "5", "--warmup", "2")
    loop = [raw(binary, *at_rate) for _ in range(passes)]
    ends = [bench(binary, "e2e", "--embedded", *at_rate) for _ in range(passes)]
    p99 = statistics.median(run["latency_us"]["p99"] for run in ends)
    row("50 MB/s of 1 KiB x 100, publish to receipt: p99", "under 1,000 us", f"{p99:,.0f} us",
        "publish to ack: " + shown(loop[-1]), shown(ends[-1]))
    topics = [rate(produce(binary, *load(4, 64, 1024, "--topics", "10000")))
              / rate(produce(binary, *load(4, 64, 1024))) for _ in range(passes)]
    row("10,000 topics round robin, of one topic's rate", "at least 0.70",
        f"{statistics.median(topics):.2f}", "", "")
    two = load(1, 1, 1024, "--server-cores", "2", "--ack", "memory")
    hops = [(p50(produce(binary, *two, "--route", "other")),
             p50(produce(binary, *two, "--route", "owner"))) for _ in range(passes)]
    more = statistics.median(other - own for other, own in hops)
    row("publish to another core's partition: p50 more than to one's own",
        f"at most {eventfd + 20:.0f} us", f"{more:.0f} us",
        f"eventfd round trip {eventfd:.1f} us",
        f"p50 {hops[-1][0]:.0f} us against {hops[-1][1]:.0f} us")
    print(f"\nDisk: durable 4 KiB write p50 {disk['write_durable_4k_us']['p50']:.0f} us, "
          f"256 KiB at depth 4 {disk['write_durable_256k_depth4_bytes_per_s'] / 1e6:,.0f} MB/s. "
          f"Loopback: 64 B round trip p50 {loopback['round_trip_64b_us']['p50']:.1f} us.")


if __name__ == "__main__":
    main()
