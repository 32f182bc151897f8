# SPDX-License-Identifier: GPL-2.0-only
"""Thousands of traces: `toolkit fleet` with one worker and with two, beside `toolkit.read_set` in a loop.

The traces are copies of the recordings in tests/data, with names of hosts and kernels that were made up.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from toolkit.trace.ledger import COUNTS
from toolkit.trace.reader import TraceReader
from toolkit.trace.schema import EVENT, Events
from toolkit.trace.writer import TraceWriter

RECORDINGS = Path(__file__).parent.parent / "tests" / "data"
KERNELS = ("6.1.0-50-amd64", "6.1.0-56-amd64", "6.12.12-amd64")
FASTER = 1.7
"""Two workers are at least so many times as fast as one."""
MOST_MIB = 400
"""A worker needs at most so much memory."""

READ_SET = """
import resource, sys, time
import toolkit
began = time.monotonic()
runs = toolkit.read_set(sys.argv[1]).runs
seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
# ru_maxrss may be that of the process that started this one (exec_mmap in fs/exec.c).
peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) // 1024
print(len(runs), seconds, used.ru_utime + used.ru_stime, peak)
"""


class Cost(NamedTuple):
    """What a run took: wall-clock time and CPU time [s], the peak of the largest process [MiB]; and how many
    traces it analyzed."""

    seconds: float
    cpu_seconds: float
    mib: int
    analyzed: int


class Recording(NamedTuple):
    """A trace in memory: its JSON object, and its batches with their notes."""

    meta: dict[str, Any]
    batches: list[tuple[Events, dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--traces", type=int, default=2000)
    parser.add_argument("--new", type=int, default=20, help="traces that the second run finds")
    parser.add_argument("--peer", type=int, default=200, help="traces that read_set reads")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        traces, peer, two = (Path(folder, name) for name in ("traces", "peer", "two"))
        copy(range(options.traces), traces)
        copy(range(options.peer), peer)
        size = sum(path.stat().st_size for path in traces.rglob("*.rxt"))
        print(f"{options.traces:,} copies of recordings, {size / 1e6:.0f} MB", flush=True)
        costs = {"one worker": run(traces, Path(folder, "one"), 1), "two workers": run(traces, two, 2)}
        copy(range(options.traces, options.traces + options.new), traces)
        costs[f"{options.new} new traces"] = run(traces, two, 2)
        for name, cost in costs.items():
            _say(name, cost)
        kept = sum(path.stat().st_size for path in two.rglob("*.parquet"))
        print(f"dataset          {kept / 1e6:7.2f} MB, {kept / (options.traces + options.new):.0f} B a trace")
        costs["read_set"] = read_set(peer)
        _say("read_set", costs["read_set"])
    faster = costs["one worker"].seconds / costs["two workers"].seconds
    print(f"two workers are {faster:.2f} times as fast as one (at least {FASTER})")
    if faster < FASTER or max(costs[name].mib for name in ("one worker", "two workers")) > MOST_MIB:
        sys.exit("the claim does not hold here")


def copy(numbers: Sequence[int], folder: Path) -> None:
    """Write copies of the recordings in turn, each of another host, of as many kernels as there are."""
    recordings = [_read(path) for path in sorted(RECORDINGS.rglob("*.rxt"))]
    for number in numbers:
        recording = recordings[number % len(recordings)]
        host = f"host-{number:05d}"
        path = folder / host / "trace.rxt"
        path.parent.mkdir(parents=True)
        meta = recording.meta | {"host": host, "kernel": KERNELS[number % len(KERNELS)]}
        with TraceWriter(path, meta) as writer:
            for events, note in recording.batches:
                writer.write(events, note)


def _read(path: Path) -> Recording:
    reader = TraceReader(path)
    return Recording(reader.meta, list(_batches(reader)))


def _batches(reader: TraceReader) -> Iterator[tuple[Events, dict[str, Any]]]:
    for number, (columns, note) in enumerate(reader):
        # The writer makes the first batch itself, which is empty.
        if number == 0:
            continue
        del note["dropped"]
        events = np.empty(len(columns["ts"]), EVENT)
        for name in EVENT.names or ():
            events[name] = columns[name]
        ledger = {
            kind: dict(zip(COUNTS, counts.tolist(), strict=True)) for kind, counts in reader.ledger.items()
        }
        yield events, note | {"ledger": ledger}


def run(traces: Path, dataset: Path, workers: int) -> Cost:
    """Run `toolkit fleet` with so many workers, and look at its processes."""
    command = [sys.executable, "-m", "toolkit", "fleet", str(traces), "-o", str(dataset), "--json"]
    began = time.monotonic()
    process = psutil.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE, text=True)
    spent: dict[int, float] = {}
    most = 0
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for each in [process, *process.children(recursive=True)]:
                times = each.cpu_times()
                spent[each.pid] = times.user + times.system
                if each != process:
                    most = max(most, _peak(each))
        time.sleep(0.1)
    seconds = time.monotonic() - began
    if process.returncode:
        sys.exit(f"toolkit fleet exited with {process.returncode}")
    return Cost(seconds, sum(spent.values()), most, json.loads(process.stdout.read())["analyzed"])


def _peak(process: psutil.Process) -> int:
    """Return the most memory that a process has had so far [MiB]."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return int(line.split()[1]) // 1024


def read_set(folder: Path) -> Cost:
    """Read the traces one after the other in a process of its own."""
    command = [sys.executable, "-c", READ_SET, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, seconds, spent, mib = done.stdout.split()
    return Cost(float(seconds), float(spent), int(mib), int(count))


def _say(name: str, cost: Cost) -> None:
    print(
        f"{name:16} {cost.seconds:7.1f} s, {1e3 * cost.seconds / cost.analyzed:6.1f} ms a trace; "
        f"CPU {cost.cpu_seconds:6.1f} s; largest process {cost.mib} MiB; {cost.analyzed:,} traces",
        flush=True,
    )


if __name__ == "__main__":
    main()
