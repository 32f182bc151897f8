# SPDX-License-Identifier: GPL-2.0-only
"""How much longer analyzing a trace takes than merely going over it, and what long traces cost.

    python -m bench.analyze [--events 10000000] [--repeat 5] [--hours 24]

Makes SYNTHETIC traces (random numbers in the form of traces, no recordings) in a temporary directory. Each
measurement is in a process of its own, without the time of imports, and counts the time of all CPUs.

First a trace with --detail full, gone through in these ways:
- the toolkit: stalls and summary, in bounded memory; it verifies checksums and ledger, finds the states, adds
  up seven columns by queue, and counts posted buffers and gaps as below;
- pyarrow: going over the batches in bounded memory, without a look at an event;
- polars and DuckDB, sums alone: the seven columns by queue;
- polars and DuckDB, the same sums: also the fewest posted buffers by queue and 2**24 ns, and the gaps between
  polls by queue and eighth of an octave. They verify nothing and find no states, take events in the order of
  the file (polars) or sort them (DuckDB), and hold the whole trace in memory;
- the toolkit: also its plots and tables, which take the same time for any length of trace.

Then three long traces: a day of 128 CPUs, a million stalls, and 8,192 queues that stall. Peers that are not
installed are left out: pip install -e '.[bench]'.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.event import FLAG, KIND, NOT_KNOWN
from toolkit.trace.schema import EVENT, Events
from toolkit.trace.writer import TraceWriter

S = 1_000_000_000
QUEUES = 4
BATCH = 65536
LIMIT = 2.5
"""The highest ratio of the toolkit's CPU time to the iteration's."""
LIMIT_MIB = 2048

ITERATE = """
import pyarrow as pa
def work(path):
    rows = 0
    for batch in pa.ipc.open_stream(pa.OSFile(path)):
        rows += batch.num_rows
    return rows
"""
ANALYZE = """
from toolkit.stalls.analysis import analyze, summary
def work(path):
    found = analyze(path)
    summary(found)
    return len(found.stalls)
"""
POLARS = """
import polars as pl
from toolkit.stalls.scan import SUMS
def work(path):
    frame = pl.read_ipc_stream(path)
    return len(frame.group_by("driver", "ifindex", "queue").agg(pl.col(*SUMS).sum()))
"""
DUCKDB = """
import duckdb, pyarrow as pa
from toolkit.stalls.scan import SUMS
def work(path):
    events = pa.ipc.open_stream(pa.OSFile(path))
    sums = ", ".join(f"sum({name})" for name in SUMS)
    duckdb.sql("set enable_progress_bar = false")
    return len(duckdb.sql(f"select {sums} from events group by driver, ifindex, queue").fetchall())
"""
POLARS_SAME = """
import polars as pl
from toolkit.stalls.scan import SUMS
def work(path):
    frame = pl.read_ipc_stream(path)
    queue = ["driver", "ifindex", "queue"]
    sums = frame.group_by(queue).agg(pl.col(*SUMS).sum())
    fewest = pl.min_horizontal("posted_before", "posted_after").alias("fewest")
    posted = frame.group_by(*queue, pl.col("ts") // (1 << 24)).agg(fewest.min())
    end, start = pl.col("ts").cast(pl.Int64), (pl.col("ts") - pl.col("dur")).cast(pl.Int64)
    polls = frame.filter(pl.col("polls") > 0).select(*queue, gap=start - end.shift().over(queue))
    octave = (pl.col("gap").log(2) * 8).floor().cast(pl.Int32)
    gaps = polls.filter(pl.col("gap") > 0).group_by(*queue, octave).len()
    return len(sums) + len(posted) + len(gaps)
"""
DUCKDB_SAME = """
import duckdb, pyarrow as pa
from toolkit.stalls.scan import SUMS
def work(path):
    stream = pa.ipc.open_stream(pa.OSFile(path))
    queue = "driver, ifindex, queue"
    looks = "ts, dur, posted_before, posted_after"
    duckdb.sql("set enable_progress_bar = false")
    duckdb.sql(f"create table events as select {queue}, {looks}, {', '.join(SUMS)} from stream")
    sums = ", ".join(f"sum({name})" for name in SUMS)
    whole = duckdb.sql(f"select {queue}, {sums} from events group by {queue}").fetchall()
    fewest = "min(least(posted_before, posted_after))"
    posted = duckdb.sql(f"select {queue}, ts >> 24, {fewest} from events group by all").fetchall()
    last = f"lag(ts) over (partition by {queue} order by ts)"
    gap = f"(ts - dur)::bigint - ({last})::bigint"
    polls = f"select {queue}, {gap} as gap from events where polls > 0"
    octave = "floor(log2(gap) * 8)"
    gaps = duckdb.sql(
        f"select {queue}, {octave}, count(*) from ({polls}) where gap > 0 group by {queue}, {octave}"
    ).fetchall()
    return len(whole) + len(posted) + len(gaps)
"""
PLOT = """
import tempfile, pathlib
import toolkit
from toolkit import report
def work(path):
    with tempfile.TemporaryDirectory() as folder:
        trace = toolkit.read(path)
        report.save("analyze", trace, pathlib.Path(folder))
        return len(trace.stalls)
"""
MEASURE = """
import resource, sys
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
start = spent()
result = work(sys.argv[1])
# ru_maxrss may be that of the process that started this one (exec_mmap in fs/exec.c).
peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) // 1024
print(spent() - start, peak, result)
"""


class Cost(NamedTuple):
    """CPU time [s], memory [MiB] and result of some work."""

    seconds: float
    mib: int
    result: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=5, help="the best counts")
    parser.add_argument("--hours", type=int, default=24, help="of the trace of 128 CPUs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.rxt"
        good = beside_peers(path, options.events, options.repeat)
        long: dict[str, Callable[[Path], None]] = {
            f"{options.hours} hours of 128 CPUs": lambda path: write(path, hours(options.hours), 128),
            "a million stalls": lambda path: write(path, stalls(1_000_000, QUEUES), QUEUES),
            "8,192 queues that stall": lambda path: write(path, stalls(3 * 8192, 8192), 8192),
        }
        for name, make in long.items():
            make(path)
            cost = run(ANALYZE, path)
            good &= cost.mib <= LIMIT_MIB
            print(
                f"{name:26} {cost.seconds:7.2f} s, {cost.mib} MiB (at most {LIMIT_MIB}); "
                f"{cost.result} stalls, file of {path.stat().st_size / 1e6:.0f} MB",
                flush=True,
            )
    if not good:
        sys.exit("the claim does not hold here")


def beside_peers(path: Path, events: int, repeat: int) -> bool:
    """Print what analyzing a trace costs beside the peers; tell whether the claim holds."""
    write(path, full(events), QUEUES)
    print(f"synthetic trace of {events:,} events, {path.stat().st_size / 1e6:.0f} MB; CPU time:")
    works = {"toolkit: stalls, summary": ANALYZE, "pyarrow: iteration alone": ITERATE}
    if find_spec("polars"):
        works |= {"polars: sums alone": POLARS, "polars: the same sums": POLARS_SAME}
    if find_spec("duckdb"):
        works |= {"DuckDB: sums alone": DUCKDB, "DuckDB: the same sums": DUCKDB_SAME}
    works |= {"toolkit, tables and plots": PLOT}
    # In turns, so that a noisy neighbour disturbs all of them alike.
    rounds = [{name: run(code, path) for name, code in works.items()} for _ in range(repeat)]
    best = {name: min(each[name] for each in rounds) for name in works}
    ours, base, *_ = best.values()
    for name, cost in best.items():
        ratio = cost.seconds / base.seconds
        print(f"{name:26} {cost.seconds:7.2f} s, {ratio:5.1f} x the iteration, {cost.mib} MiB", flush=True)
    drawn = best["toolkit, tables and plots"]
    print(f"the toolkit's claims: at most {LIMIT:g} x the iteration, and {LIMIT_MIB} MiB")
    return ours.seconds <= LIMIT * base.seconds and max(ours.mib, drawn.mib) <= LIMIT_MIB


def run(code: str, path: Path) -> Cost:
    """Do some work in a process of its own."""
    command = [sys.executable, "-c", code + MEASURE, str(path)]
    took, memory, result = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return Cost(float(took), int(memory), result)


def write(path: Path, batches: Iterator[Events], queues: int) -> None:
    """Write a trace of virtio_net, each batch drained at its last event."""
    named = [{"queue": queue, "name": f"rx-{queue}", "size": 256} for queue in range(queues)]
    meta = {
        "kernel": "synthetic",
        "clock": {"monotonic_ns": S, "realtime_ns": 0, "boottime_ns": 0},
        "drivers": [{"name": "virtio_net", "variant": "synthetic", "regime": None, "hooks": []}],
        "devices": [{"ifindex": 3, "name": "eth1", "driver": "virtio_net", "queues": named}],
    }
    cpus = min(queues, 128)
    counts = np.zeros((256, cpus), np.int64)
    note: dict[str, Any] = {"now_ns": S, "ledger": {}}
    with TraceWriter(path, meta, force=True) as writer:
        for events in batches:
            places = events["kind"].astype(np.int64) * cpus + events["cpu"] % cpus
            counts += np.bincount(places, minlength=counts.size).reshape(counts.shape)
            note = {"now_ns": int(events["ts"].max()), "ledger": _ledger(counts)}
            writer.write(events, note)
        writer.close({**note, "end": {"reason": "duration"}})


def _ledger(counts: NDArray[np.int64]) -> dict[str, dict[str, list[int]]]:
    """Return a ledger that delivered all of these events, counted by number of their kind and CPU."""
    none = [0] * counts.shape[1]
    return {
        name: {"attempted": counts[number].tolist(), "delivered": counts[number].tolist(), "dropped": none}
        for name, number in KIND.items()
    }


def full(events: int) -> Iterator[Events]:
    """Yield random polls on QUEUES queues, in every tenth batch a stall of one queue."""
    chance, now = np.random.default_rng(0), S
    for number, start in enumerate(range(0, events, BATCH)):
        batch = _polls(chance, now, min(BATCH, events - start))
        if number % 10 == 5:
            batch = _stalled(batch, number // 10 % QUEUES)
        now = int(batch["ts"].max())
        yield batch


def hours(count: int) -> Iterator[Events]:
    """Yield what 128 CPUs with little traffic send in so many hours: a batch each half second, in which each
    queue has a window; every minute one of them stalls for a second."""
    some = np.zeros(128, EVENT)
    some["kind"], some["ifindex"], some["dur"] = KIND["window"], 3, 9_000_000
    some["queue"] = some["cpu"] = np.arange(128)
    some["polls"] = some["packets"] = 3
    some["posted_before"], some["posted_after"] = 200, 250
    for step in range(count * 7200):
        batch = some.copy()
        batch["ts"] = S + step * S // 2 + 10_000_000 + np.arange(128) * 1000
        if step % 120 < 3:
            queue = step // 120 % 128
            marks = _marks(queue, int(batch["ts"][0]) - 1)
            batch["kind"][queue] = KIND["irq"]
            batch["polls"][queue] = batch["packets"][queue] = 0
            batch["posted_before"][queue] = batch["posted_after"][queue] = NOT_KNOWN
            batch = np.concatenate([batch, {0: marks[:1], 1: marks[:0], 2: marks[1:]}[step % 120]])
        yield batch


def stalls(count: int, queues: int) -> Iterator[Events]:
    """Yield so many stalls of the queues in turn, one each 30 µs: a refill fails, the next does not."""
    marks = _marks(0, 0)
    for first in range(0, count, BATCH // 4):
        number = np.arange(first, min(first + BATCH // 4, count))
        batch = np.tile(marks, len(number))
        batch["ts"] = (S + number[:, None] * 30_000 + np.array([0, 20_000])).reshape(-1)
        batch["queue"] = batch["cpu"] = np.repeat(number % queues, 2)
        yield batch


def _marks(queue: int, at: int) -> Events:
    """Return a refill that fails and one that does not."""
    marks = np.zeros(2, EVENT)
    marks["ts"], marks["ifindex"], marks["queue"], marks["kind"] = at, 3, queue, KIND["refill"]
    marks["cpu"] = queue
    marks["flags"] = [0, FLAG["process"] | FLAG["complete"]]
    marks["posted_after"], marks["gfp"] = [0, 256], [0xA20, 0xCC0]
    marks["refills"], marks["failed"] = 1, [1, 0]
    return marks


def _polls(chance: np.random.Generator, now: int, count: int) -> Events:
    """Return random polls and interrupts after `now` [ns]."""
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
    """Return the batch with its queue starved, and with NAPI off, for the middle third."""
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
