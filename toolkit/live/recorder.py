# SPDX-License-Identifier: GPL-2.0-only
"""A flight recorder: a running trace is kept in memory, and the time around an event becomes a file."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UserError
from toolkit.live import conditions, surroundings
from toolkit.live.conditions import Condition, Held, Seen
from toolkit.live.segments import sync
from toolkit.outputs import LOCK, alone, is_locked

if TYPE_CHECKING:
    from toolkit.capture.drain import Progress
    from toolkit.live.queues import Live
    from toolkit.live.recent import Recent

ASKED = Condition("asked for", "asked", 0)
"""What is put aside because somebody asked."""

_QUESTION = ".save"
"""Whoever asks makes this file; the recorder removes it when it has done so."""

ANSWER_S = 60.0
"""A recorder answers within a second, unless its disk is slow."""


@dataclass(frozen=True)
class Rules:
    """What is put aside, and how much of it is kept.

    Attributes: `when`, the conditions; `after` [ns], how long the trace goes on before it is put aside;
    `again` [ns], for how long the same condition does nothing afterwards; at most `files` and `bytes` are
    kept, the oldest go.
    """

    when: Sequence[Condition]
    after: int
    again: int
    files: int
    bytes: int


@dataclass
class _Pending:
    """Something that is to be put aside at `due` [ns]; whoever `asks` by a file is told when it is done."""

    condition: Condition
    held: Held
    at: int
    around: dict[str, Any]
    due: int
    asks: bool = False


@dataclass
class Recorder:
    """Looks at a running trace, and puts aside what its rules ask for.

    A thread of its own does so, one trace at a time: where memory is short, a disk may take minutes.

    :param directory: of the files; have it alone (only_one).
    :param say: is told of each file, and of each that could not be written.

    Attributes: `written` traces that were put aside, and `unwritten`, those that could not be.
    """

    rules: Rules
    directory: Path
    say: Callable[[str], object]
    written: int = 0
    unwritten: int = 0
    _pending: _Pending | None = None
    _writing: _Pending | None = None
    _thread: threading.Thread | None = None
    _quiet_until: dict[Condition, int] = field(default_factory=dict)
    _failed: dict[tuple[int, int], int] = field(default_factory=dict)
    _dropped: int = 0
    _looked: int = 0

    def look(self, progress: Progress, live: Live, recent: Recent, *, asked: bool = False) -> None:
        """Look at what has happened since the last look; call it about twice a second.

        :param asked: put aside what is kept now, whatever the rules say; a file may ask for it, too (ask).
        """
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        ended = [change for change in _taken(live.changes) if change.lasted is not None]
        since = now - self._looked if self._looked else 0
        seen = Seen(live, ended, now, since, self._failed, progress.dropped - self._dropped)
        answers = any(each and each.asks for each in (self._pending, self._writing))
        by_file = not answers and is_asked(self.directory)
        if asked or by_file:
            self._begin(ASKED, Held(None, 0), now, progress)
            assert self._pending
            self._pending.due = now
            self._pending.asks |= by_file
        for condition in self.rules.when:
            if now < self._quiet_until.get(condition, 0):
                continue
            if found := conditions.held(condition, seen):
                self._begin(condition, found, now, progress)
        self._failed = {key: queue.failed for key, queue in list(live.queues.items())}
        self._dropped, self._looked = progress.dropped, now
        if self._pending and now >= self._pending.due and not self._writing:
            self._put_aside(progress, recent)

    def put_aside(self, progress: Progress, recent: Recent) -> None:
        """Write what is pending, also before its time, and wait until nothing is being written."""
        self.settle()
        if self._pending:
            self._put_aside(progress, recent)
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is being written."""
        if self._thread:
            self._thread.join()

    def _begin(self, condition: Condition, held: Held, now: int, progress: Progress) -> None:
        self._quiet_until[condition] = now + self.rules.after + self.rules.again
        if self._pending is None:
            around = surroundings.read(progress.names.values())
            self._pending = _Pending(condition, held, now, around, now + self.rules.after)

    def _put_aside(self, progress: Progress, recent: Recent) -> None:
        """Have a thread write what is pending."""
        assert self._pending
        pending, self._pending, self._writing = self._pending, None, self._pending

        def write() -> None:
            try:
                self._write(pending, progress.names, recent)
            finally:
                if pending.asks:
                    answer(self.directory)
                self._writing = None

        self._thread = threading.Thread(target=write, name="rxt-aside", daemon=True)
        self._thread.start()

    def _write(self, pending: _Pending, names: Mapping[int, str], recent: Recent) -> None:
        name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        path = _free(self.directory, f"{name}-{pending.condition.what}")
        try:
            recent.save(path)
            about = {
                "condition": pending.condition.text,
                "device": names.get(pending.held.queue[0]) if pending.held.queue else None,
                "queue": pending.held.queue[1] if pending.held.queue else None,
                "found": pending.held.found,
                "at_ns": pending.at,
                "before": pending.around,
                "after": surroundings.read(names.values()),
            }
            path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
            # A disk that is busy takes its time: nobody waits for that.
            threading.Thread(target=_sync, args=(path,), name="rxt-sync", daemon=True).start()
        except (UserError, OSError) as error:
            # The recorder goes on: the next event may find room.
            _remove(path)
            self.unwritten += 1
            self.say(f"could not put aside {path.name}: {error}")
        else:
            self.written += 1
            self.say(f"{path}: {pending.condition.text}")
            _prune(self.directory, self.rules, keep=path)


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Make the directory, and keep other recorders out of it for the length of the block.

    :raises UserError: if the directory cannot be made or written, or another recorder has it.
    """
    busy = f"another recorder puts its traces into {directory}; end it, or give another --directory."
    with ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone(directory, busy))
            answer(directory)
        except OSError as error:
            raise UserError(f"cannot record into {directory}: {error.strerror}.") from error
        yield


def is_asked(directory: Path) -> bool:
    """Tell whether somebody asks the recorder of a directory to put aside what it keeps (ask)."""
    return (directory / _QUESTION).exists()


def answer(directory: Path) -> None:
    """Tell whoever asks that it was done."""
    with suppress(OSError):
        (directory / _QUESTION).unlink(missing_ok=True)


def ask(directory: Path) -> Path:
    """Ask the recorder of a directory to put aside what it keeps now, and wait until it has.

    :return: the trace that was put aside.
    :raises UserError: if there is no recorder, or it does not, or this user may not ask.
    """
    question, there = directory / _QUESTION, {*directory.glob("*.rxt")}
    deadline = time.monotonic() + ANSWER_S
    try:
        _require_recorder(directory)
        question.touch()
        while question.exists():
            if time.monotonic() > deadline:
                question.unlink()
                _require_recorder(directory)
                raise UserError(f"the recorder of {directory} did not answer in {ANSWER_S:.0f} s.")
            time.sleep(0.05)
    except OSError as error:
        raise UserError(f"cannot ask the recorder of {directory}: {error.strerror}.") from error
    if new := {*directory.glob("*.rxt")} - there:
        return max(new)
    raise UserError(f"the recorder of {directory} could not put anything aside; its own output says why.")


def is_running(directory: Path) -> bool:
    """Tell whether a recorder has a directory.

    :raises OSError: if this user may not know.
    """
    try:
        with (directory / LOCK).open("rb") as file:
            return is_locked(file.fileno())
    except (FileNotFoundError, NotADirectoryError):
        return False


def none_there(directory: Path) -> UserError:
    """Return the error for a directory that no recorder has."""
    return UserError(f"no recorder puts its traces into {directory}; start one, or give its directory.")


def _require_recorder(directory: Path) -> None:
    if not is_running(directory):
        raise none_there(directory)


def _free(directory: Path, name: str) -> Path:
    """Return a path for a trace; the second of one second has a number."""
    paths = (directory / f"{name}{f'-{number}' if number > 1 else ''}.rxt" for number in count(1))
    return next(path for path in paths if not path.exists())


def _sync(trace: Path) -> None:
    # A newer trace may have taken its place already; and the disk may fail, when the kernel's log says so.
    with suppress(OSError):
        for path in (trace, trace.with_suffix(".json"), trace.parent):
            sync(path)


def _remove(trace: Path) -> None:
    """Remove a trace, and what lies beside it."""
    for path in (trace, trace.with_suffix(".json")):
        path.unlink(missing_ok=True)


def _taken(changes: Any) -> list[Any]:
    return [changes.popleft() for _ in range(len(changes))]


def _prune(directory: Path, rules: Rules, *, keep: Path) -> None:
    """Remove the oldest traces above the limits, each with what lies beside it; never the newest."""
    sizes = {path: path.stat().st_size for path in directory.glob("*.rxt")}
    # By their names. Where the clock was put back, the newest is not the last of them.
    for oldest in sorted(sizes.keys() - {keep}):
        if len(sizes) <= rules.files and sum(sizes.values()) <= rules.bytes:
            break
        _remove(oldest)
        del sizes[oldest]
