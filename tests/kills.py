# SPDX-License-Identifier: GPL-2.0-only
"""Kill a process that writes segments, at random moments, and look at what is left each time.

    python -m tests.kills [--kills 100] [--seed 1] [--directory DIR]

Nobody needs a kernel or root for it: the process writes batches of all sizes as the recorder does. After each
kill -9, every segment is read to its last whole batch. What the process had seen on disk has to be there, and
the next process goes on with what it finds.
"""

import argparse
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import numpy as np

from tests.conftest import META
from toolkit.errors import UserError
from toolkit.event import KIND
from toolkit.live.recent import Recent
from toolkit.live.segments import LEAST_BYTES, SUFFIX, Room, Segments, take_over
from toolkit.trace.reader import TraceReader
from toolkit.trace.schema import EVENT, Events

LONGEST_S = 2.0
"""A process is killed at the latest so long after it began."""

_ROOM = Room(10**9, LEAST_BYTES, 0.05)


@dataclass
class Found:
    """What was left after all kills.

    Attributes: `kills`; `segments` and `events` that were read, over all kills; `cut_off`, how many of these
    segments had no end; `most_bytes` that were there at a time; `wrong`, a sentence for each thing that
    should not be.
    """

    kills: int = 0
    segments: int = 0
    events: int = 0
    cut_off: int = 0
    most_bytes: int = 0
    wrong: list[str] = field(default_factory=list)


def run(directory: Path, kills: int, seed: int) -> Found:
    """Start a process and kill it, so many times, all in one directory."""
    found, chance = Found(), random.Random(seed)
    for _ in range(kills):
        reached = _kill_one(directory, chance.uniform(0, LONGEST_S), chance.randrange(1 << 30))
        found.kills += 1
        _look(directory, reached, found)
    return found


def _kill_one(directory: Path, seconds: float, seed: int) -> int:
    """Kill a process that writes segments after so long.

    :return: when the last batch was drained that it saw on disk [ns]; 0: it saw none.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _write(directory, write, seed)
    os.close(write)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        lines = pipe.read().split(b"\n")
    # What follows the last line may be half a line.
    return int(lines[-2]) if len(lines) > 1 else 0


def _write(directory: Path, pipe: int, seed: int) -> NoReturn:
    """Write segments until somebody kills this process, and tell how far they reach."""
    try:
        chance = np.random.default_rng(seed)
        old, _ = take_over(directory)
        clock = {"monotonic_ns": time.monotonic_ns(), "realtime_ns": time.time_ns(), "boottime_ns": 0}
        meta = META | {"clock": clock}
        sink = Segments(directory, old, _ROOM, meta, Recent(meta), lambda line: print(line, file=sys.stderr))
        count, told = 0, 0
        while True:
            events = _events(int(chance.choice([1, 20, 500, 5000])), chance)
            count += len(events)
            counts = {"attempted": [count, 0], "delivered": [count, 0], "dropped": [0, 0]}
            sink.write(events, {"now_ns": time.monotonic_ns(), "ledger": {"refill": counts}})
            if sink.reached != told:
                told = sink.reached
                os.write(pipe, b"%d\n" % told)
            time.sleep(float(chance.uniform(0, 0.005)))
    finally:
        os._exit(1)


def _events(count: int, chance: np.random.Generator) -> Events:
    events = np.zeros(count, EVENT)
    events["ts"], events["kind"], events["ifindex"] = time.monotonic_ns(), KIND["refill"], 3
    events["queue"] = chance.integers(0, 2, count)
    for name in ("gfp", "packets", "tid", "posted_before", "posted_after"):
        events[name] = chance.integers(0, 1 << 8 * EVENT[name].itemsize, count)
    return events


def _look(directory: Path, reached: int, found: Found) -> None:
    """Read every segment, as far as it is whole."""
    paths = sorted(directory.glob(f"*{SUFFIX}"))
    found.most_bytes = max(found.most_bytes, sum(path.stat().st_size for path in paths))
    last = 0
    for path in paths:
        try:
            reader = TraceReader(path)
        except UserError as error:
            found.wrong.append(str(error))
            continue
        found.segments += 1
        for batch in reader:
            found.events += len(batch.columns["ts"])
            last = max(last, batch.note["now_ns"])
        if reader.damage:
            found.cut_off += 1
            if "cut off" not in reader.damage:
                found.wrong.append(reader.damage)
    if last < reached:
        found.wrong.append(f"the last batch is of {last}, but one of {reached} was on disk.")
    if found.most_bytes > _ROOM.bytes:
        found.wrong.append(f"{found.most_bytes} bytes, but {_ROOM.bytes} were allowed.")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="an empty one; by default one that is removed")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        found = run(options.directory or Path(scratch), options.kills, options.seed)
    for sentence in found.wrong:
        print(sentence)
    print(
        f"{found.kills} kills: {found.segments} segments read, {found.cut_off} of them cut off, "
        f"{found.events:,} events, {found.most_bytes >> 20} MiB at most, {len(found.wrong)} wrong."
    )
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
