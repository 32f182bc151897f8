# SPDX-License-Identifier: GPL-2.0-only
"""Kill a process that writes segments, at random moments, and look at what is left each time.

    python -m tests.kills [--kills 100] [--seed 1] [--directory DIR]
    sudo python -m tests.kills --power-cuts

Nobody needs a kernel or root for kills: the process writes batches of all sizes as the recorder does. After
each kill -9, every segment is read to its last whole batch. What the process had seen on disk has to be
there, and the next process goes on with what it finds.

A power cut is the one that ext4 has for its own tests: from one moment on, nothing goes to the disk any more,
and what is only in memory is lost. What had been synced has to be there; what follows may be zeros.
"""

import argparse
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import numpy as np

from bench.segments import mount
from tests.conftest import META
from toolkit.errors import UserError
from toolkit.event import KIND
from toolkit.live.recent import Recent
from toolkit.live.segments import LEAST_BYTES, SUFFIX, Room, Segments, take_over
from toolkit.trace.reader import TraceReader
from toolkit.trace.schema import EVENT, Events

LONGEST_S = 2.0
"""A process is killed at the latest so long after it began."""

# include/uapi/linux/fs.h, include/uapi/linux/ext4.h
_SHUTDOWN, _WITHOUT_LOG = 0x8004587D, 2

_ROOM = Room(10**9, LEAST_BYTES, 0.05)


@dataclass
class Found:
    """What was left after all kills.

    Attributes: `kills`, or power cuts; `segments` and `events` that were read, over all of these; `cut_off`,
    how many of these segments had no end; `most_bytes` that were there at a time; `wrong`, a sentence for
    each thing that should not be.
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
        reached, _ = _end_one(directory, chance.uniform(0, LONGEST_S), chance.randrange(1 << 30))
        found.kills += 1
        _look(directory, reached, found)
    return found


def run_power_cuts(scratch: Path, cuts: int, seed: int) -> Found:
    """Start a process and cut the power of its disk, so many times, on one disk; as root."""
    found, chance = Found(), random.Random(seed)
    disk, _ = mount(scratch)

    def cut() -> None:
        place = os.open(disk, os.O_RDONLY)
        fcntl.ioctl(place, _SHUTDOWN, _WITHOUT_LOG.to_bytes(4, sys.byteorder))
        os.close(place)

    for _ in range(cuts):
        # A ring of its own, since there is a lost+found.
        directory = disk / "ring"
        directory.mkdir(exist_ok=True)
        os.sync()
        _, safe = _end_one(directory, chance.uniform(0, LONGEST_S), chance.randrange(1 << 30), cut)
        subprocess.run(["umount", str(disk)], check=True)
        subprocess.run(["mount", "-o", "loop", str(scratch / "image"), str(disk)], check=True)
        found.kills += 1
        # The next recorder begins so: a segment without a beginning goes.
        take_over(directory)
        _look(directory, safe, found, allowed=("cut off", "damaged"))
    subprocess.run(["umount", str(disk)], check=True)
    return found


def _end_one(
    directory: Path, seconds: float, seed: int, before: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Kill a process that writes segments after so long.

    :param before: is called just before.
    :return: when the last batch was drained that it saw on disk [ns], and the last that was synced; 0: none.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _write(directory, write, seed)
    os.close(write)
    time.sleep(seconds)
    before()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        lines = pipe.read().split(b"\n")
    # What follows the last line may be half a line.
    reached, safe = map(int, lines[-2].split()) if len(lines) > 1 else (0, 0)
    return reached, safe


def _write(directory: Path, pipe: int, seed: int) -> NoReturn:
    """Write segments until somebody kills this process, and tell how far they reach."""
    try:
        chance = np.random.default_rng(seed)
        old, _ = take_over(directory)
        clock = {"monotonic_ns": time.monotonic_ns(), "realtime_ns": time.time_ns(), "boottime_ns": 0}
        meta = META | {"clock": clock}
        sink = Segments(directory, old, _ROOM, meta, Recent(meta), lambda line: print(line, file=sys.stderr))
        count, told = 0, (0, 0)
        while True:
            events = _events(int(chance.choice([1, 20, 500, 5000])), chance)
            count += len(events)
            counts = {"attempted": [count, 0], "delivered": [count, 0], "dropped": [0, 0]}
            sink.write(events, {"now_ns": time.monotonic_ns(), "ledger": {"refill": counts}})
            if (sink.reached, sink.safe) != told:
                told = (sink.reached, sink.safe)
                os.write(pipe, b"%d %d\n" % told)
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


def _look(directory: Path, reached: int, found: Found, allowed: Sequence[str] = ("cut off",)) -> None:
    """Read every segment, as far as it is whole.

    :param reached: when the last batch was drained that has to be there [ns].
    :param allowed: what may be wrong with the end of a segment.
    """
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
            if not any(words in reader.damage for words in allowed):
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
    parser.add_argument("--power-cuts", action="store_true", help="instead of kills, as root")
    options = parser.parse_args()
    with TemporaryDirectory(dir="/var/tmp") as scratch:
        way = run_power_cuts if options.power_cuts else run
        found = way(options.directory or Path(scratch), options.kills, options.seed)
    for sentence in found.wrong:
        print(sentence)
    print(
        f"{found.kills} {'power cuts' if options.power_cuts else 'kills'}: {found.segments} segments read, "
        f"{found.cut_off} of them without an end, {found.events:,} events, "
        f"{found.most_bytes >> 20} MiB at most, {len(found.wrong)} wrong."
    )
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
