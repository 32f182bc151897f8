# SPDX-License-Identifier: GPL-2.0-only
"""Leave the recorder running, and look whether it grows, loses events, or takes more room than it was given.

    sudo python -m bench.soak hour [--minutes 60] [--rate 110000]
    sudo python -m bench.soak idle [--minutes 10]
    python -m bench.soak week [--days 7]

`hour`: timers in the kernel send events (bench.sender) through a real ring into the recorder's own threads,
as a trace does; only the probes are missing. They come from no NIC, so nothing stalls: what is in memory is
put aside every two minutes because somebody asks.

`idle`: likewise, but some eight events a second: what the probes see when they look at eight queues to which
nothing happens.

`week`: the clocks go as fast as the recorder can write. Ten seconds are a batch of what the probes see when
they look at eight queues; four times a day a queue stalls, and a condition puts that aside.

Both write the recorder's table, then read every file that is left. The exit status is 1 if anything is wrong:
an event that was lost, a file that is not whole, more room than was given, memory that grew.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

from bench import sender
from toolkit import drivers
from toolkit.capture import kernel, loader
from toolkit.capture.drain import Drain, Progress
from toolkit.capture.program import cpus
from toolkit.capture.ring import ledger
from toolkit.errors import UserError, one_sentence
from toolkit.event import FLAG, KIND
from toolkit.live import conditions
from toolkit.live.queues import Live
from toolkit.live.recent import Recent
from toolkit.live.recorder import Recorder, Rules
from toolkit.live.segments import RING, SUFFIX, Room, Segments
from toolkit.trace.ledger import totals
from toolkit.trace.reader import TraceReader
from toolkit.trace.schema import EVENT, Events
from toolkit.version import __version__

S = 1_000_000_000
RING_BYTES = 32 << 20
"""Of the kernel's ring: a machine with 4 GiB of memory has so much."""
MEMORY = 64 << 20
"""As --memory is by default."""
NICE = -5
"""As in docs/systemd/rx-stall-record.service."""
IDLE_PER_S, IDLE_HZ = sender.QUEUES, 4
"""Events a second where nothing happens, and ticks of each CPU's timer, which sends one event at least."""
GROWTH = 8 << 20
"""The memory of the second half may be so much above that of the first: what waits for the disk differs."""

HEADS = [
    "",
    "events",
    "dropped",
    "memory [MB]",
    "CPU [s]",
    "[%]",
    "segments",
    "[MB]",
    "aside",
    "[MB]",
    "open",
]
"""Of the table: events, CPU and its share since the row before; what is there then, and open files."""


@dataclass
class Recording:
    """A recorder that runs, but for the probes; and what was seen of it.

    Attributes: `rows` of the table; `said`, what the recorder said; `most_ring` and `most_aside`, the bytes
    that were there at a time.
    """

    directory: Path
    rules: Rules
    room: Room
    drivers: list[Any]
    devices: list[dict[str, Any]]
    rows: list[list[str]] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    most_ring: int = 0
    most_aside: int = 0

    def __post_init__(self) -> None:
        (self.directory / RING).mkdir(exist_ok=True)
        self.progress = Progress(devices=self.devices)
        self.live = Live(self.drivers, self.devices)
        self.recorder = Recorder(self.rules, self.directory, self.said.append)
        meta = {
            "toolkit": __version__,
            "kernel": os.uname().release,
            "arch": os.uname().machine,
            "cpus": cpus(),
            "clock": kernel.clocks(),
            "options": {"detail": "normal", "devices": [], "queues": []},
            "gfp_flags": {},
            "drivers": [{"name": driver.name, "hooks": []} for driver in self.drivers],
            "devices": self.devices,
        }
        self.recent = Recent(meta, kept_ns=70 * S, most_events=MEMORY // EVENT.itemsize)
        ring = self.directory / RING
        self.segments = Segments(ring, [], self.room, meta, self.recent, self.said.append)
        self._since = (time.monotonic(), time.process_time(), 0)

    def look(self, *, asked: bool = False) -> None:
        """Do what the recorder does twice a second; see how much is on disk."""
        self.recorder.look(self.progress, self.live, self.recent, asked=asked)
        self.most_ring = max(self.most_ring, _bytes(self.directory / RING))
        self.most_aside = max(self.most_aside, _bytes(self.directory))

    def row(self, name: str) -> None:
        """Add a row to the table."""
        began, cpu, events = self._since
        self._since = (time.monotonic(), time.process_time(), self.progress.events)
        seconds, spent = self._since[0] - began, self._since[1] - cpu
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.resident.append(resident)
        cells = [
            name,
            f"{self.progress.events - events:,}",
            f"{self.progress.dropped:,}",
            f"{resident / 1e6:.0f}",
            f"{spent:.1f}",
            f"{spent / seconds * 100:.1f}",
            f"{_count(self.directory / RING)}",
            f"{_bytes(self.directory / RING) / 1e6:.1f}",
            f"{_count(self.directory)}",
            f"{_bytes(self.directory) / 1e6:.1f}",
            f"{len(os.listdir('/proc/self/fd'))}",  # noqa: PTH208
        ]
        self.rows.append(cells)
        print(f"| {' | '.join(cells)} |", flush=True)

    def wrong(self) -> list[str]:
        """Return a sentence for each thing that should not be, when all is over."""
        found = [line for line in self.said if "lack" in line or "could not" in line or "no more" in line]
        if self.progress.dropped:
            found.append(f"{self.progress.dropped:,} events were dropped.")
        if self.most_ring > self.room.bytes:
            found.append(f"the segments took {self.most_ring:,} bytes, but had {self.room.bytes:,}.")
        if _count(self.directory) > self.rules.files or _bytes(self.directory) > self.rules.bytes:
            found.append("more was put aside than was allowed.")
        # The first row is from before the memory is full.
        half = len(self.resident) // 2
        if half > 1:
            before, after = median(self.resident[1 : half + 1]), median(self.resident[half:])
            if after > before + GROWTH:
                found.append(f"the memory grew from {before:,.0f} to {after:,.0f} bytes.")
        return [*found, *self._read_back()]

    def _read_back(self) -> list[str]:
        """Read every file that is left; return what is wrong with them, or between two segments."""
        found: list[str] = []
        spans: list[tuple[int, int]] = []
        for path in [*_files(self.directory), *_files(self.directory / RING)]:
            reader = TraceReader(path)
            last = events = 0
            for batch in reader:
                last, events = batch.note["now_ns"], events + len(batch.columns["ts"])
            counts = totals(reader.ledger)
            if reader.damage:
                found.append(reader.damage)
            if not events == counts["delivered"] == counts["attempted"] or counts["dropped"]:
                found.append(f"{path.name} has {events:,} events, but counted {counts}.")
            if path.suffix == SUFFIX:
                spans.append((reader.meta["clock"]["monotonic_ns"], last))
        if any(end != begin for (_, end), (begin, _) in pairwise(spans)):
            found.append("a segment does not begin where the one before it ends.")
        kept = spans[-1][1] - spans[0][0]
        # A segment is an eighth of the time, and a batch may be longer than the rest of that.
        if self.room.ns and kept > self.room.ns * 1.3:
            found.append(f"the segments are of {kept / 1e9:.0f} s, not of {self.room.ns / 1e9:.0f} s.")
        return found


def hour(directory: Path, minutes: float, rate: int, hz: int = sender.HZ) -> Recording:
    """Record what timers of the kernel send, as root.

    :param rate: events a second.
    :param hz: how often the timer of each CPU fires in a second.
    """
    # As the service has it: whoever shares the CPUs with others must not wait for them.
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    generic = drivers.load("generic")
    device = _device("soak0", sender.IFINDEX, generic.name)
    rules = Rules([conditions.parse("dropped > 0")], 10 * S, 300 * S, files=5, bytes=1 << 30)
    recording = Recording(directory, rules, Room(600 * S, 256 << 20, 5.0), [generic], [device])
    online = len(list(kernel.online_cpus()))
    program = loader.load(sender.program(max(round(rate / hz / online), 1), cpus(), RING_BYTES), {})
    drain = Drain(
        program,
        RING_BYTES,
        lambda: recording.segments,
        recording.live.take,
        lambda: None,
        [generic],
        kernel.Functions(b""),
        SimpleQueue(),
        recording.progress,
    )
    drain.start()
    loader.tick(program, hz, ["send"])
    began = time.monotonic()
    step = max(minutes / 12, 0.1) * 60
    row = asked = 1
    while (now := time.monotonic() - began) < minutes * 60:
        time.sleep(0.5)
        due = now >= asked * 120
        recording.look(asked=due)
        asked += due
        if now >= row * step:
            recording.row(f"{row * step / 60:g} min")
            row += 1
    loader.detach(program)
    recording.progress.reason = "duration"
    drain.finish()
    recording.row("end")
    # By the kernel's own account.
    attempted = int(ledger(program["ledger"].map_fd, cpus(), sender.KINDS)["attempted"].sum())
    if lacks := attempted - recording.progress.events - recording.progress.dropped:
        recording.said.append(f"the trace lacks {lacks:,} events.")
    return recording


STEP_S = 10
"""A batch of the week is of so many seconds."""
STALL_EVERY_S = 6 * 3600
_LASTS_S = 3


def week(directory: Path, days: float, keep: int = 64 << 20) -> Recording:
    """Record days of a machine in which hardly anything happens, faster than they go by.

    :param keep: bytes of the segments, at most.
    """
    stalling = drivers.load("virtio_net")
    rules = Rules([conditions.parse("stall > 1s")], 10 * S, 300 * S, files=10, bytes=1 << 30)
    with _clocks() as pass_time:
        device = _device("soak0", sender.IFINDEX, stalling.name)
        recording = Recording(directory, rules, Room(600 * S, keep, 5.0), [stalling], [device])
        written = dict.fromkeys(("window", "refill"), 0)
        for step in range(1, round(days * 86400 / STEP_S) + 1):
            pass_time(STEP_S * S)
            stalls = step * STEP_S % STALL_EVERY_S == 0
            batch = _looks(step, stalls=stalls)
            for kind in written:
                written[kind] += int((batch["kind"] == KIND[kind]).sum())
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            counts = {
                kind: {"attempted": [count], "delivered": [count], "dropped": [0]}
                for kind, count in written.items()
            }
            recording.segments.write(batch, {"now_ns": now, "ledger": counts})
            recording.live.take(batch)
            recording.progress.events += len(batch)
            recording.look()
            # In no time minutes pass here.
            recording.recorder.settle()
            # The thread that writes segments is not to be hurried more than in a busy hour.
            while recording.segments.reached < now - 600 * S and step > 60:
                time.sleep(0.001)
            if step * STEP_S % 86400 == 0:
                recording.row(f"day {step * STEP_S // 86400}")
        recording.recorder.put_aside(recording.progress, recording.recent)
        recording.segments.close({"end": {"reason": "duration"}})
        if days % 1:
            recording.row("end")
    aside = sum(line.endswith(": stall > 1s") for line in recording.said)
    if aside != (expected := int(days * 86400 // STALL_EVERY_S)):
        recording.said.append(f"could not be: {aside} stalls were put aside, but {expected} happened.")
    return recording


def _looks(step: int, *, stalls: bool) -> Events:
    """Return what the probes see in ten seconds: a window a second of each queue, and perhaps a stall."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    chance = np.random.default_rng(step)
    count = sender.QUEUES * STEP_S
    events = np.zeros(count + 2 * stalls, EVENT)
    events["ts"] = now - np.arange(len(events))[::-1] * (STEP_S * S // (len(events) + 1))
    events["kind"], events["ifindex"] = KIND["window"], sender.IFINDEX
    events["queue"] = np.arange(len(events)) % sender.QUEUES
    events["dur"], events["packets"] = chance.integers(1, 10_000_000, len(events)), 1
    events["posted_before"] = events["posted_after"] = chance.integers(200, 256, len(events))
    if stalls:
        # A refill fails and leaves nothing posted; the next look at queue 0 finds buffers.
        end = events["ts"][-1]
        events["queue"] = 1 + np.arange(len(events)) % (sender.QUEUES - 1)
        fails, ends = events[-2:-1], events[-1:]
        fails["ts"], fails["dur"], fails["posted_after"], fails["refills"] = end - _LASTS_S * S, 1000, 0, 1
        fails["kind"], fails["queue"], fails["failed"] = KIND["refill"], 0, 1
        ends["kind"], ends["queue"], ends["flags"] = KIND["refill"], 0, FLAG["process"] | FLAG["complete"]
        ends["refills"], ends["dur"] = 1, 1000
        events[:] = events[np.argsort(events["ts"], kind="stable")]
    return events


@contextmanager
def _clocks() -> Iterator[Callable[[int], None]]:
    """Give a function by which all clocks go on by so much [ns]; they stand still otherwise."""
    offset = 0
    began = {clock: time.clock_gettime_ns(clock) for clock in (0, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)}
    gmtime = time.gmtime

    def pass_time(ns: int) -> None:
        nonlocal offset
        offset += ns

    def wall(seconds: float | None = None) -> time.struct_time:
        return gmtime((began[time.CLOCK_REALTIME] + offset) / 1e9 if seconds is None else seconds)

    with (
        patch.object(time, "clock_gettime_ns", lambda clock: began[clock] + offset),
        patch.object(time, "gmtime", wall),
    ):
        yield pass_time


def _device(name: str, ifindex: int, driver: str) -> dict[str, Any]:
    queues = [{"queue": number, "name": f"rx-{number}", "size": 256} for number in range(sender.QUEUES)]
    return {"ifindex": ifindex, "name": name, "driver": driver, "bus": "", "queues": queues}


def _files(directory: Path) -> list[Path]:
    return sorted([*directory.glob("*.rxt"), *directory.glob(f"*{SUFFIX}")])


def _bytes(directory: Path) -> int:
    """Return how much the traces in a directory take; one may be deleted meanwhile."""
    total = 0
    for path in _files(directory):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _count(directory: Path) -> int:
    return len(_files(directory))


@one_sentence("bench.soak")
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    of_hour = commands.add_parser("hour", help="events of timers, as root")
    of_hour.add_argument("--minutes", type=float, default=60)
    of_hour.add_argument(
        "--rate", type=int, default=110_000, help="events a second; timers send somewhat fewer"
    )
    commands.add_parser("idle", help="hardly any events, as root").add_argument(
        "--minutes", type=float, default=10
    )
    commands.add_parser("week", help="time goes by faster").add_argument("--days", type=float, default=7)
    options = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |\n| --- |{' ---: |' * (len(HEADS) - 1)}", flush=True)
    with TemporaryDirectory(dir="/var/tmp") as scratch:
        if options.what in ("hour", "idle"):
            if os.geteuid():
                raise UserError(f"bench.soak {options.what} needs root: its events come from the kernel.")
            rate, hz = (options.rate, sender.HZ) if options.what == "hour" else (IDLE_PER_S, IDLE_HZ)
            recording = hour(Path(scratch), options.minutes, rate, hz)
        else:
            recording = week(Path(scratch), options.days)
        wrong = recording.wrong()
    for sentence in wrong:
        print(sentence)
    print(
        f"{recording.progress.events:,} events, {recording.progress.dropped} dropped; at most "
        f"{recording.most_ring / 1e6:.0f} MB of segments and {recording.most_aside / 1e6:.0f} MB put aside; "
        f"{len(wrong)} wrong."
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
