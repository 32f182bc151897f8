# SPDX-License-Identifier: GPL-2.0-only
"""How much longer analysing a trace takes than merely reading it.

    python -m bench.analyze [--events 10000000]

Makes a SYNTHETIC trace (random numbers in the form of a trace with --detail full, no recording) in a
temporary directory. Then measures, each in a process of its own and without the time of imports: pyarrow
alone reading all columns into memory; then stalls, causes, summary and the data of the plots; then drawing
the plots too, which takes the same time for any length of trace.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.event import FLAG, KIND, NOT_KNOWN
from toolkit.trace.schema import EVENT, Events
from toolkit.trace.writer import TraceWriter

S = 1_000_000_000
QUEUES = 4
BATCH = 65536
LIMIT = 5.0
LIMIT_MIB = 2048

READ = """
import pyarrow as pa
def work(path):
    pa.ipc.open_stream(pa.OSFile(path)).read_all()
"""
ANALYZE = """
from toolkit.stalls.analysis import analyze, summary
def work(path):
    return len(summary(analyze(path))["stalls"])
"""
PLOT = """
import tempfile, pathlib
from toolkit.report import plots, files
from toolkit.stalls.analysis import analyze
def work(path):
    with tempfile.TemporaryDirectory() as folder:
        found = analyze(path)
        files.save(files.summary(found, None, None), found.stalls, pathlib.Path(folder))
        plots.save(found, pathlib.Path(folder))
        return len(found.stalls)
"""
MEASURE = """
import resource, sys, time
start = time.perf_counter()
result = work(sys.argv[1])
took = time.perf_counter() - start
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, result)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=5, help="the best counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.rxt"
        write_synthetic(path, options.events)
        print(f"synthetic trace of {options.events:,} events, {path.stat().st_size / 1e6:.0f} MB")
        runs = [[run(code, path) for code in (READ, ANALYZE, PLOT)] for _ in range(options.repeat)]
    (read, _, _), (took, memory, stalls), (drawn, most, _) = map(min, zip(*runs, strict=True))
    print(f"pyarrow alone, all columns   {read:6.2f} s")
    print(
        f"stalls and summary           {took:6.2f} s, {took / read:.1f} x pyarrow alone (at most {LIMIT:g}), "
        f"{memory} MiB; {stalls} stalls"
    )
    print(f"tables and plots besides     {drawn - took:6.2f} s, {most} MiB (at most {LIMIT_MIB})")
    if took > LIMIT * read or most > LIMIT_MIB:
        sys.exit("the claim does not hold here")


def run(code: str, path: Path) -> tuple[float, int, str]:
    """:return: time [s], memory [MiB] and result of some work in a process of its own."""
    command = [sys.executable, "-c", code + MEASURE, str(path)]
    took, memory, result = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(took), int(memory), result


def write_synthetic(path: Path, events: int) -> None:
    """Writes random polls on QUEUES queues, in every tenth batch a stall of one queue."""
    chance = np.random.default_rng(0)
    queues = [{"queue": queue, "name": f"rx-{queue}", "size": 256} for queue in range(QUEUES)]
    meta = {
        "kernel": "synthetic",
        "clock": {"monotonic_ns": S, "realtime_ns": 0, "boottime_ns": 0},
        "drivers": [{"name": "virtio_net", "variant": "synthetic", "regime": None, "hooks": []}],
        "devices": [{"ifindex": 3, "name": "eth1", "driver": "virtio_net", "queues": queues}],
    }
    now, counts = S, np.zeros(256, np.int64)
    with TraceWriter(path, meta) as writer:
        for number, start in enumerate(range(0, events, BATCH)):
            batch = _polls(chance, now, min(BATCH, events - start))
            if number % 10 == 5:
                batch = _stalled(batch, number // 10 % QUEUES)
            now = int(batch["ts"].max())
            counts += np.bincount(batch["kind"], minlength=len(counts))
            writer.write(batch, {"now_ns": now, "ledger": _ledger(counts)})
        writer.close({"now_ns": now, "ledger": _ledger(counts), "end": {"reason": "duration"}})


def _ledger(counts: NDArray[np.int64]) -> dict[str, dict[str, list[int]]]:
    """Return a ledger of one CPU that delivered all of these events, counted by number of their kind."""
    return {
        name: {"attempted": [int(counts[number])], "delivered": [int(counts[number])], "dropped": [0]}
        for name, number in KIND.items()
    }


def _polls(chance: np.random.Generator, now: int, count: int) -> Events:
    """:return: random polls and interrupts after `now` [ns]."""
    events = np.zeros(count, EVENT)
    events["ts"] = now + np.cumsum(chance.integers(2_000, 25_000, count))
    events["dur"] = chance.integers(1_000, 60_000, count)
    events["ifindex"] = 3
    events["tid"] = chance.integers(0, 5000, count)
    events["queue"] = events["cpu"] = chance.integers(0, QUEUES, count)
    irq = chance.random(count) < 0.2
    events["kind"] = np.where(irq, KIND["irq"], KIND["poll"])
    events["irqs"] = irq
    events["polls"] = ~irq
    events["packets"] = np.where(irq, 0, chance.poisson(9, count))
    events["full_polls"] = events["packets"] > 16
    events["posted_before"] = np.where(irq, NOT_KNOWN, chance.integers(150, 256, count))
    events["posted_after"] = np.where(irq, NOT_KNOWN, chance.integers(200, 256, count))
    return events


def _stalled(batch: Events, queue: int) -> Events:
    """:return: the batch, its queue starved and with NAPI off for the middle third."""
    first, last = len(batch) // 3, len(batch) * 2 // 3
    inside = np.arange(len(batch))
    quiet = batch[~((batch["queue"] == queue) & (inside > first) & (inside < last))]
    marks = np.zeros(4, EVENT)
    marks["ts"] = batch["ts"][[first, first, last, last]] + [1, 2, -2, -1]
    marks["ifindex"], marks["queue"] = 3, queue
    marks["kind"] = [KIND[name] for name in ("refill", "napi_off", "refill", "napi_on")]
    marks["flags"] = [0, FLAG["in_worker"], FLAG["process"] | FLAG["complete"], FLAG["in_worker"]]
    marks["posted_after"] = [0, NOT_KNOWN, 256, NOT_KNOWN]
    marks["gfp"] = [0xA20, 0, 0xCC0, 0]
    marks["refills"] = [1, 0, 1, 0]
    marks["failed"] = [1, 0, 0, 0]
    marks["dur"][2] = (int(batch["ts"][last]) - int(batch["ts"][first])) // 2
    both = np.concatenate([quiet, marks])
    return both[np.argsort(both["ts"], kind="stable")]


if __name__ == "__main__":
    main()
