#!/usr/bin/env python3
"""Publishing on a disk that takes only so many writes a second, and past a pool that is outrun.

    cargo build --release && sudo python3 bench/throttled.py [--binary target/release/corelane] [--budget 2900]

The broker's control group (v1 `blkio` or v2 `io`) is limited to 3,000 writes a second on the disk of
--data-dir once it is ready; 100,000 messages a second are then sent on a fixed schedule, so that
latency counts from when each should have been sent. With --budget the broker keeps its own writes to so many a second
(storage.device_writes_per_second). Then, without a limit, fresh space is written as
fast as it goes and compared with the bare loop on fallocated space. Needs root for the first part.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile


def bench(binary, *args, **settings):
    """`settings` are for the server that the bench starts."""
    command = [binary, "bench", *args, "--output", "json"]
    env = os.environ | {f"CORELANE_{name.upper()}": value for name, value in settings.items()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=env)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    if done.returncode != 0:
        # A run that could not keep its rate is a result too, and the one to be seen.
        print("not valid:", "; ".join(report["invalid_because"]), file=sys.stderr)
    return report


def disk_of(folder):
    """The whole disk below a folder, as major:minor."""
    device = os.stat(folder).st_dev
    place = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if os.path.exists(f"{place}/partition"):
        place = os.path.dirname(place)
    with open(f"{place}/dev") as number:
        return number.read().strip()


class Limited:
    """A control group with a limit on writes; its members are let go at the end."""

    def __init__(self, disk, writes_per_s):
        old = "/sys/fs/cgroup/blkio"
        self.parent = old if os.path.exists(old) else "/sys/fs/cgroup"
        self.group = f"{self.parent}/corelane-bench-{os.getpid()}"
        if self.parent != old:
            self.write(f"{self.parent}/cgroup.subtree_control", "+io")
        os.mkdir(self.group)
        if self.parent == old:
            self.write(f"{self.group}/blkio.throttle.write_iops_device", f"{disk} {writes_per_s}")
        else:
            self.write(f"{self.group}/io.max", f"{disk} wiops={writes_per_s}")

    @staticmethod
    def write(path, text):
        with open(path, "w") as file:
            file.write(text)

    def hold(self, pid):
        self.write(f"{self.group}/cgroup.procs", str(pid))

    def close(self, pid):
        self.write(f"{self.parent}/cgroup.procs", str(pid))
        os.rmdir(self.group)


def throttled(options, folder):
    log = open(os.path.join(folder, "log"), "w")
    env = dict(os.environ)
    if options.budget:
        env["CORELANE_STORAGE_DEVICE_WRITES_PER_SECOND"] = str(options.budget)
    server = subprocess.Popen(
        [options.binary, "serve", "--listen", "127.0.0.1:0", "--cores", "2", "--shards", "2",
         "--data-dir", os.path.join(folder, "data")],
        stdout=subprocess.PIPE, stderr=log, text=True, env=env)
    limited = None
    try:
        ready = re.match(r"corelane ready on (\S+)", server.stdout.readline())
        if not ready:
            sys.exit(f"the server did not start; see {log.name}")
        limited = Limited(disk_of(folder), options.writes)
        limited.hold(server.pid)
        run = bench(options.binary, "produce", "--server", ready.group(1).rstrip(";"),
                    "--rate", str(options.rate), "--size", "100", "--batch", "10",
                    "--connections", "4", "--in-flight", "1024", "--space", "fresh",
                    "--duration", str(options.duration), "--warmup", "3")
    finally:
        if limited:
            limited.close(server.pid)
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    return run


def outrun(options):
    load = ("--connections", "4", "--in-flight", "4", "--batch", "100", "--size", "1KiB",
            "--duration", str(options.duration), "--warmup", "2")
    broker = bench(options.binary, "produce", "--embedded", "--space", "fresh", *load,
                   storage_pool_segments="1", storage_pool_segments_max="1")
    bare = bench(options.binary, "raw", "--only", "append", "--space", "fallocated", *load)
    return broker, bare["append"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/corelane")
    parser.add_argument("--data-dir", default=".", help="folder on the disk to be used")
    parser.add_argument("--writes", type=int, default=3000, help="writes a second")
    parser.add_argument("--budget", type=int, help="the broker's own bound on them; none unless given")
    parser.add_argument("--rate", type=int, default=100_000, help="messages a second")
    parser.add_argument("--duration", type=int, default=20, help="seconds of each part")
    parser.add_argument("--part", choices=["throttled", "outrun"], action="append")
    options = parser.parse_args()
    parts = options.part or ["throttled", "outrun"]
    if "throttled" in parts:
        folder = tempfile.mkdtemp(dir=options.data_dir, prefix="throttled-")
        try:
            run = throttled(options, folder)
        finally:
            shutil.rmtree(folder)
        print(f"{options.writes} writes/s:", json.dumps(run, indent=1))
    if "outrun" in parts:
        broker, bare = outrun(options)
        print("pool outrun:", json.dumps(broker, indent=1))
        print("bare loop, fallocated space:", json.dumps(bare, indent=1))


if __name__ == "__main__":
    main()
