# SPDX-License-Identifier: GPL-2.0-only
"""A running recorder, seen by the segments that it writes: nothing is traced a second time."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from toolkit.capture.drain import Progress, Sink
from toolkit.driver import Driver
from toolkit.drivers import load
from toolkit.errors import UserError
from toolkit.live.queues import Live
from toolkit.live.recorder import is_running, none_there
from toolkit.live.segments import RING, SUFFIX
from toolkit.outputs import is_locked
from toolkit.trace.ledger import Ledger, added, lists
from toolkit.trace.reader import Columns, TraceReader
from toolkit.trace.schema import EVENT, Events

WAIT_S = 0.1
"""How often a segment is looked at; a batch is written twice a second."""

PATIENCE_S = 120.0
"""A recorder has compiled its probes after so long, and writes its first segment."""

_QUIET_S = 5.0
"""A recorder that writes nothing for so long is remarked: it looks at its queues each second."""


class Arriving(io.RawIOBase):
    """Bytes that are still arriving: a read waits until all that it asks for are there.

    It returns fewer bytes only where no more will come, or when it is told not to go on.

    :param more: returns at most so many bytes; none where no more will come, None where some may.
    :param go_on: waits a moment, and tells whether to go on.
    """

    def __init__(self, more: Callable[[int], bytes | None], go_on: Callable[[], bool]) -> None:
        self._more, self._go_on = more, go_on
        self._ahead = b""
        self._at = 0
        self._over = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self._await(size)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at

    def is_over(self) -> bool:
        """Tell whether there is no further byte; wait for one."""
        self._await(1)
        return not self._ahead

    def _await(self, size: int) -> None:
        """Have so many bytes, unless no more come."""
        parts = [self._ahead]
        missing = size - len(self._ahead)
        while missing > 0 and not self._over:
            data = self._more(missing)
            if data:
                parts.append(data)
                missing -= len(data)
            else:
                self._over = data is not None or not self._go_on()
        self._ahead = b"".join(parts)


@dataclass
class View:
    """What the segments of a recorder have shown so far.

    Attributes: `clock`, as in the meta of the newest; `missing_ns`, the time [ns] of which they have no
    events, because the disk was too slow or failed; `ended`, whether nothing more will come.
    """

    drivers: list[Driver]
    progress: Progress
    live: Live
    clock: dict[str, int]
    missing_ns: int = 0
    ended: bool = False
    _reached: tuple[int, int] = (0, 0)

    def reach(self, now_ns: int) -> None:
        """Take note of a batch that was drained at a moment of the traced machine's clock."""
        self._reached = now_ns, time.monotonic_ns()

    def now(self) -> int:
        """Return the time of the traced machine, CLOCK_MONOTONIC [ns]; the last one, once it has ended."""
        drained, came = self._reached
        return drained if self.ended else drained + time.monotonic_ns() - came

    def clocks_at(self, now_ns: int) -> dict[str, int]:
        """Return the clocks of the traced machine [ns] at a moment of the monotonic one."""
        later = now_ns - self.clock["monotonic_ns"]
        return {name: value + later for name, value in self.clock.items()}

    def go_on_at(self, began: int) -> bool:
        """Go on with a segment that began at a moment [ns]; tell whether nothing is missing before it."""
        reached, _ = self._reached
        if began == reached:
            return True
        self.missing_ns += max(began - reached, 0)
        self.live.lose_sight(reached)
        self.reach(began)
        return False

    def remarks(self) -> list[str]:
        """Return what the numbers alone do not say."""
        quiet_s = (time.monotonic_ns() - self._reached[1]) / 1e9
        found = [f"{self.missing_ns / 1e9:.1f} s are missing"] if self.missing_ns else []
        if self.ended:
            found.append("it has ended")
        elif quiet_s > _QUIET_S:
            found.append(f"nothing came for {quiet_s:.0f} s")
        return found


def follow(directory: Path, go_on: Callable[[], bool]) -> Iterator[tuple[TraceReader, int]]:
    """Yield the segment that a recorder writes now, and each that follows, until it has ended.

    The events of a segment are there as soon as the recorder has written them: reading waits for them.

    :param directory: that of the recorder's traces.
    :param go_on: waits a moment, and tells whether to go on.
    :return: readers, each with the descriptor of its open file.
    :raises UserError: if there is no recorder, or its files may not be read.
    """
    last: Path | None = None
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            # In this order: a recorder that has ended begins no segment after that.
            runs = is_running(directory)
            path = _next(directory / RING, last)
            if path is None:
                if not runs and last is None:
                    raise none_there(directory)
                if not runs or not go_on():
                    return
                if last is None and time.monotonic() > deadline:
                    raise UserError(
                        f"the recorder of {directory} writes no segment: start it without --keep 0, "
                        "or see what it says of its disk."
                    )
                continue
            last = path
            with path.open("rb", buffering=0) as file:
                yield (
                    TraceReader(path, cast(BinaryIO, Arriving(_appended(file.fileno()), go_on))),
                    file.fileno(),
                )
        except FileNotFoundError:
            # Its time was over: it was deleted before it could be opened.
            continue
        except OSError as error:
            raise UserError(
                f"cannot read {error.filename or directory}: {error.strerror}; "
                "watch as the user that records, root as a rule."
            ) from error


def _next(ring: Path, last: Path | None) -> Path | None:
    """Return the oldest segment after the last one; without one, the segment that is being written."""
    try:
        with os.scandir(ring) as entries:
            paths = sorted(Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX))
    except FileNotFoundError:
        return None
    if last is not None:
        return next((path for path in paths if path.name > last.name), None)
    # Earlier recorders leave segments, too.
    for path in paths[-1:]:
        with path.open("rb") as file:
            return path if is_locked(file.fileno()) else None
    return None


def _appended(file: int) -> Callable[[int], bytes | None]:
    """Return how bytes are read that somebody appends, as long as that one has the file locked."""

    def more(size: int) -> bytes | None:
        may_grow = is_locked(file)
        return os.read(file, size) or (None if may_grow else b"")

    return more


def feed(
    readers: Iterable[TraceReader],
    sink: Callable[[dict[str, Any], Callable[[int], dict[str, int]]], Sink],
    begin: Callable[[View], object],
) -> None:
    """Give what is read of a recorder to those that show it, batch by batch, as a trace does.

    :param readers: of segments, each of which goes on where the one before ended.
    :param sink: is given the JSON object of a trace, and what returns the clocks of its machine at a moment;
        makes what the batches go to. Where events are missing, it is asked for another one.
    :param begin: is called once, when there is something to show.
    :raises UserError: if another recorder, which traces other drivers, goes on in the same directory.
    """
    view: View | None = None
    batches: Sink | None = None
    before: Ledger = {}
    try:
        for reader in readers:
            meta = {"devices": [], **reader.meta}
            if view is None:
                view = _view(meta)
            elif [driver["name"] for driver in meta["drivers"]] != [driver.name for driver in view.drivers]:
                raise UserError("another recorder, of other drivers, has taken its place; watch that one.")
            view.clock = meta["clock"]
            if batches is None:
                batches = sink(meta, view.clocks_at)
                begin(view)
            elif not view.go_on_at(meta["clock"]["monotonic_ns"]):
                batches, before = sink(meta, view.clocks_at), {}
            _feed_segment(reader, meta["devices"], view, batches, before)
            before = added(before, reader.ledger)
    finally:
        if view:
            view.ended = True


def _view(meta: dict[str, Any]) -> View:
    """Return what there is to see when a segment begins."""
    drivers = [load(driver["name"]) for driver in meta["drivers"]]
    began = meta["clock"]["monotonic_ns"]
    live = Live(drivers, meta["devices"])
    view = View(drivers, Progress(started=began / 1e9, devices=meta["devices"]), live, meta["clock"])
    view.reach(began)
    return view


def _feed_segment(
    reader: TraceReader, devices: list[dict[str, Any]], view: View, batches: Sink, before: Ledger
) -> None:
    """Give the batches of one segment to those that show them.

    :param devices: those of the segment when it began.
    :param before: what was counted in the segments before, of those that `batches` has.
    """
    progress = view.progress
    dropped = progress.dropped
    news = {} if devices == progress.devices else {"devices": devices}
    for columns, note in reader:
        note = news | note
        news = {}
        progress.dropped = dropped + note.pop("dropped")
        progress.devices = note.get("devices", progress.devices)
        progress.threads |= {thread["tid"]: thread["name"] for thread in note.get("threads", [])}
        note.pop("end", None)
        events = _events(columns)
        batches.write(events, note | {"ledger": lists(added(before, reader.ledger))})
        view.live.take(events)
        view.reach(note["now_ns"])
        # Last: who counts these finds all that is about them.
        progress.events += len(events)


def _events(columns: Columns) -> Events:
    events = np.empty(len(columns["ts"]), EVENT)
    for name, values in columns.items():
        events[name] = values
    return events
