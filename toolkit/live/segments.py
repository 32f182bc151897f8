# SPDX-License-Identifier: GPL-2.0-only
"""The last minutes of a running trace on disk, in segments: each is a trace, and the oldest is deleted."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from toolkit.errors import UserError
from toolkit.live.recent import Recent, clocks_at, settled, since
from toolkit.trace.reader import NewerFormatError, TraceReader
from toolkit.trace.schema import EVENT, Events
from toolkit.trace.writer import TraceWriter

RING = "ring"
"""The directory of the segments, in that of the traces that a recorder puts aside."""

SUFFIX = ".segment"
"""Of their names: not that of traces, or whoever collects those would count the same events twice."""

DEFAULT_BYTES = 256 << 20
"""The most that is kept where no size was asked for."""

LEAST_BYTES = 16 << 20
"""A segment and a batch of any size fit into this."""

SHARE = 8
"""One segment is such a part of what is kept: so much more may be there before the oldest is deleted."""

MOST_FILES = 1000
"""A recorder that is killed and started again, again and again, leaves small segments."""

MOST_WAITING = 1 << 18
"""The most events (16 MiB) that wait for the disk; those that come then are not in the segments."""

AGAIN_S = 10.0
"""After so long, a disk that failed is tried again."""

LAST_S = 10.0
"""So long the disk has to take what is left in the end."""

_BESIDES = 1 << 20
"""A batch takes no more than its events and this, for its JSON: Arrow leaves alone what does not shrink."""

_ROTATED = "rotated"
"""Why a segment ended after which the recorder went on."""


@dataclass(frozen=True)
class Room:
    """How much is kept on disk, at most, and how soon it is safe.

    Attributes: `ns`, the time [ns], None for as much as fits into `bytes`; `sync_s`, after so many seconds
    what was written also survives a machine that goes down, 0: when the kernel writes it.
    """

    ns: int | None
    bytes: int
    sync_s: float


class _Batch(NamedTuple):
    """A batch that waits for the disk; `before`, the note of the one before it, and `devices` of its time."""

    events: Events
    note: Mapping[str, Any]
    before: Mapping[str, Any]
    devices: list[dict[str, Any]]


@dataclass
class _Segment:
    """A file; `ended` [ns] is when its last batch was drained, None for one of an earlier recorder."""

    path: Path
    bytes: int
    ended: int | None = None


def make(directory: Path, ns: int | None, size: int | None, sync_s: float) -> Room:
    """Make the directory of the segments.

    :param ns: how much is to be kept [ns], at least; None for as much as fits.
    :param size: how much is to be kept [bytes], at most; None for DEFAULT_BYTES, or a tenth of what is free
        if that is less.
    :param sync_s: as in Room.
    :raises UserError: if the directory cannot be made, or the disk has no room for this size.
    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        there = sum(path.stat().st_size for path in directory.glob(f"*{SUFFIX}"))
        free = shutil.disk_usage(directory).free + there
    except OSError as error:
        raise UserError(f"cannot keep segments in {directory}: {error.strerror}.") from error
    if size is None:
        return Room(ns, min(DEFAULT_BYTES, max(free // 10, LEAST_BYTES)), sync_s)
    if size < LEAST_BYTES:
        raise UserError(f"--keep {_shown(size)}: give {_shown(LEAST_BYTES)} or more, or 0 for memory alone.")
    if size > free:
        raise UserError(
            f"--keep {_shown(size)}: the disk of {directory} has only {_shown(free)} free; "
            "keep less, or give another --directory."
        )
    return Room(ns, size, sync_s)


def _shown(size: int) -> str:
    return f"{size / (1 << 30):.4g}G" if size >= 1 << 30 else f"{size / (1 << 20):.4g}M"


def take_over(directory: Path) -> tuple[list[Path], bool]:
    """Find the segments that an earlier recorder has left; remove those that nothing can be read of.

    :return: their paths, the oldest first; and whether it was killed, or its machine went down.
    """
    found = []
    # The beginning of a segment gets its name when it is whole.
    unborn = [*directory.glob(f".*{SUFFIX}.*.new")]
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            TraceReader(path)
        except NewerFormatError:
            pass
        except UserError:
            # After a power cut the name may be on the disk, and the beginning is not.
            unborn.append(path)
            continue
        found.append(path)
    for path in unborn:
        path.unlink()
    return found, bool(unborn) or (bool(found) and not _is_last(found[-1]))


def _number(path: Path) -> int:
    """Return the number in the name of a segment; 0, if somebody gave it another name."""
    number = path.name.partition("-")[0]
    return int(number) if number.isdecimal() else 0


def _is_last(path: Path) -> bool:
    """Tell whether a recorder ended with this segment; it may also be killed between one and the next."""
    try:
        ends = [note["end"]["reason"] for _, note in TraceReader(path) if "end" in note]
    except UserError:
        # Of a newer format: nobody can tell here.
        return True
    return bool(ends) and ends[-1] != _ROTATED


class Segments:
    """A sink of batches that gives each to the memory first, and then to a thread that writes it to disk.

    The trace never waits for the disk. Where the disk fails or is too slow, batches are missing in the
    segments, and a new segment begins after them: each is whole in itself.

    :param directory: of the segments; it was made (make), and nobody else writes there.
    :param old: the segments of an earlier recorder (take_over): they go when their room is needed, whatever
        their age.
    :param meta: the JSON object of the whole trace.
    :param say: is told when the disk fails, and when it is well again.

    Attributes: `reached` [ns], when the last batch that the segments have was drained; `safe` [ns], likewise
    of the last one that survives a power cut; `lacking`, the events that came and that the segments lack.
    """

    def __init__(
        self,
        directory: Path,
        old: list[Path],
        room: Room,
        meta: dict[str, Any],
        recent: Recent,
        say: Callable[[str], object],
    ) -> None:
        self._directory, self._room, self._meta, self._recent, self._say = directory, room, meta, recent, say
        self._files = [_Segment(path, path.stat().st_size) for path in old]
        self._next = max(map(_number, old), default=0) + 1
        self._before: Mapping[str, Any] = {"now_ns": meta["clock"]["monotonic_ns"], "ledger": {}}
        self._devices = meta["devices"]
        # Between the two threads.
        self._changed = threading.Condition()
        self._waiting: deque[_Batch] = deque()
        self._waiting_events = self._late = 0
        self._end: Mapping[str, Any] | None = None
        # The thread's own.
        self._writer: TraceWriter | None = None
        self._base: Mapping[str, Any] = self._before
        self._last: Mapping[str, Any] = self._before
        self.reached = self.safe = self.lacking = 0
        self._unsynced: set[Path] = set()
        self._synced = time.monotonic()
        self._failed_at: float | None = None
        self._in_trouble = False
        self._thread = threading.Thread(target=self._run, name="rxt-segments", daemon=True)
        self._thread.start()

    def write(self, events: Events, note: Mapping[str, Any]) -> None:
        """Keep one batch; the disk gets it when it can."""
        self._recent.write(events, note)
        self._devices = note.get("devices", self._devices)
        batch = _Batch(events.copy(), note, self._before, self._devices)
        self._before = note
        with self._changed:
            if self._waiting_events > MOST_WAITING:
                self._late += len(events)
                return
            self._waiting.append(batch)
            self._waiting_events += len(events)
            self._changed.notify()

    def close(self, note: Mapping[str, Any]) -> None:
        """End the last segment; give up on a disk that does not take it within ten seconds."""
        self._stop({"reason": note["end"]["reason"]})

    @property
    def is_well(self) -> bool:
        """Tell whether the disk takes what is written."""
        return not self._in_trouble and self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop({"reason": "failed"})

    def _stop(self, end: Mapping[str, Any]) -> None:
        with self._changed:
            if self._end is None:
                self._end = end
            self._changed.notify()
        self._thread.join(LAST_S)

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception as error:
            self._say(f"segments are written no more; {type(error).__name__}: {error}")

    def _write_all(self) -> None:
        """Write what is waiting, and sync, until the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._end is not None, self._wait_s())
                batch = self._waiting.popleft() if self._waiting else None
            if batch:
                self._put(batch)
            elif self._end is not None:
                self._attempt(lambda: self._end_segment(self._end))
                self._sync()
                return
            if self._wait_s() == 0:
                self._sync()

    def _wait_s(self) -> float | None:
        """Return how long there is nothing to sync; None: for ever."""
        if not self._room.sync_s or not self._unsynced:
            return None
        return max(self._synced + self._room.sync_s - time.monotonic(), 0)

    def _put(self, batch: _Batch) -> None:
        """Write a batch. On a full disk the oldest segment makes room; if that does not help, go without."""
        is_written = False
        if self._failed_at is None or time.monotonic() >= self._failed_at + AGAIN_S:
            error = self._attempt(lambda: self._append(batch))
            if error and _is_full(error) and self._files:
                error = self._attempt(lambda: self._append_in_place_of_oldest(batch))
            if error:
                self._fail(error)
            else:
                self._failed_at, is_written = None, True
        with self._changed:
            self._waiting_events -= len(batch.events)
            late, self._late = self._late, 0
        self.lacking += late + (0 if is_written else len(batch.events))
        if late:
            self._say(f"the disk of {self._directory} is too slow: its segments lack {late:,} events.")

    def _fail(self, error: UserError | OSError) -> None:
        """Leave the disk alone for a while; say why, once."""
        reason = str(error) if isinstance(error, UserError) else f"{self._directory}: {error.strerror}."
        if not self._in_trouble:
            self._say(f"{reason} The recorder goes on in memory alone, and tries again.")
        self._failed_at, self._in_trouble = time.monotonic(), True

    def _attempt(self, step: Callable[[], None]) -> UserError | OSError | None:
        """Do something with the disk; where it fails, leave the segment as it is and return the error."""
        try:
            step()
        except (UserError, OSError) as error:
            if self._writer:
                self._writer.__exit__(None, None, None)
                self._writer = None
            return error
        return None

    def _append_in_place_of_oldest(self, batch: _Batch) -> None:
        self._delete(self._files[0])
        self._append(batch)

    def _append(self, batch: _Batch) -> None:
        """Write a batch to the segment, or to a new one; first make room for it."""
        if self._writer and (self._is_long() or batch.before is not self._last):
            self._end_segment({"reason": _ROTATED})
            if self._in_trouble:
                # A disk that is full takes a batch now and then; it is well when it took a whole segment.
                self._in_trouble = False
                self._say(f"segments are written to {self._directory} again.")
        self._make_room(batch)
        if self._writer is None:
            self._begin_segment(batch)
        assert self._writer
        self._writer.write(batch.events, self._note(batch.note))
        self._last, self.reached = batch.note, batch.note["now_ns"]
        segment = self._files[-1]
        segment.bytes, segment.ended = segment.path.stat().st_size, self.reached
        self._unsynced.add(segment.path)
        self._forget()

    def _is_long(self) -> bool:
        room, segment = self._room, self._files[-1]
        lasted = self._last["now_ns"] - self._base["now_ns"]
        return segment.bytes >= room.bytes // SHARE or (room.ns is not None and lasted >= room.ns // SHARE)

    def _forget(self) -> None:
        """Delete segments that are older than was asked for, once what follows them is written."""
        if self._room.ns is not None:
            limit = self.reached - self._room.ns
            for segment in self._files[:-1]:
                if segment.ended is not None and segment.ended < limit:
                    self._delete(segment)

    def _make_room(self, batch: _Batch) -> None:
        """Delete the oldest segments, until there is room for a batch."""
        left = self._room.bytes - len(batch.events) * EVENT.itemsize - _BESIDES
        keep = 1 if self._writer else 0
        while len(self._files) > keep and (
            sum(segment.bytes for segment in self._files) > left or len(self._files) > MOST_FILES
        ):
            self._delete(self._files[0])

    def _delete(self, segment: _Segment) -> None:
        segment.path.unlink(missing_ok=True)
        self._files.remove(segment)

    def _begin_segment(self, batch: _Batch) -> None:
        self._base, self._last = batch.before, batch.before
        now = batch.before["now_ns"]
        clock = clocks_at(now)
        began = time.strftime("%Y%m%d-%H%M%S", time.gmtime(clock["realtime_ns"] / 1e9))
        path = self._directory / f"{self._next:08d}-{began}{SUFFIX}"
        self._next += 1
        self._directory.mkdir(mode=0o700, exist_ok=True)
        # It is never there without its beginning.
        self._writer = TraceWriter(path, self._meta | {"clock": clock, "devices": batch.devices}, force=True)
        self._files.append(_Segment(path, path.stat().st_size, now))

    def _end_segment(self, end: Mapping[str, Any] | None) -> None:
        if self._writer:
            note = self._note(self._last)
            self._writer.close({"now_ns": note["now_ns"], "ledger": settled(note["ledger"]), "end": end})
            self._files[-1].bytes = self._writer.path.stat().st_size
            self._unsynced.add(self._writer.path)
            self._writer = None

    def _note(self, note: Mapping[str, Any]) -> dict[str, Any]:
        """Return the note of a batch as it is in the segment, whose ledger begins with the segment."""
        return {**note, "ledger": since(note["ledger"], self._base["ledger"])}

    def _sync(self) -> None:
        """Have the disk keep what was written, also if the machine goes down."""
        paths, self._unsynced = self._unsynced, set()
        self._synced = time.monotonic()
        try:
            for path in [*paths, self._directory]:
                # What was written may be deleted already.
                with suppress(FileNotFoundError):
                    sync(path)
            self.safe = self.reached
        except OSError as error:
            self._fail(error)


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a directory, also if the machine goes down.

    :raises OSError: if the disk fails.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _is_full(error: UserError | OSError) -> bool:
    """Tell whether a disk has no room: a UserError has the kernel's error as its cause."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
