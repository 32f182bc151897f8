# SPDX-License-Identifier: GPL-2.0-only
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toolkit
from tests import kills, power
from tests.conftest import BEGAN, META, S, note, window, worker_stall
from toolkit.errors import UserError
from toolkit.event import KIND
from toolkit.live import segments
from toolkit.live.recent import Recent
from toolkit.live.segments import Room, Segments, make, take_over
from toolkit.trace.reader import TraceReader
from toolkit.trace.schema import EVENT, Events
from toolkit.trace.writer import TraceWriter


class Running:
    """A trace that runs, and the segments that it leaves in a directory."""

    def __init__(self, directory: Path, room: Room) -> None:
        self.said: list[str] = []
        self.directory = directory
        old, self.killed = take_over(directory)
        self.recent = Recent(META, kept_ns=30 * S)
        self.segments = Segments(directory, old, room, META, self.recent, self.said.append)
        self.now = 0.0
        self._written: list[Events] = []

    def second(self, *events: Events) -> None:
        """Let a second pass, in which a window and these events come; wait until they are on disk."""
        self.now += 1
        batch = np.concatenate([window(self.now - 0.5), *events])
        self._written.append(batch)
        last = note(self.now, 0, *self._written)
        self.segments.write(batch, last)
        deadline = time.monotonic() + 60
        while self.segments._waiting_events and time.monotonic() < deadline:
            time.sleep(0.001)

    def end(self) -> None:
        self.segments.close(note(self.now, 0, *self._written, end={"reason": "interrupt", "missed": {}}))

    def kill(self) -> None:
        """Leave everything as SIGKILL would: without an end."""
        if self.segments._writer:
            self.segments._writer._abandon()
        self.segments._writer = None
        self.segments.__exit__(None, None, None)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(ns: int | None = None, size: int = 64 << 20, sync_s: float = 0.0) -> Running:
        running.append(Running(tmp_path, Room(ns, size, sync_s)))
        return running[-1]

    yield begin
    for each in running:
        each.segments.__exit__(None, None, None)


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.segment"))


def _ends(directory: Path) -> list[tuple[float, float, Any]]:
    """Return when each segment begins and ends [s], and why it ended."""
    found = []
    for path in _files(directory):
        reader = TraceReader(path)
        notes = [batch.note for batch in reader]
        times = [reader.meta["clock"]["monotonic_ns"], notes[-1]["now_ns"]]
        began, ended = ((time - BEGAN) / S for time in times)
        found.append((began, ended, notes[-1].get("end", {}).get("reason")))
    return found


def _noise(count: int, seed: int = 0) -> Events:
    """Return refills that do not shrink when they are compressed."""
    members = np.random.default_rng(seed).integers(0, 256, (count, EVENT.itemsize), np.uint8)
    events = members.view(EVENT).reshape(count)
    for name in ("driver", "dur", "reclaim"):
        events[name] = 0
    events["kind"], events["ifindex"], events["ts"] = KIND["refill"], 3, BEGAN
    return events


def test_a_recorder_that_is_killed_at_a_write_leaves_all_that_was_asked_for(
    begin: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a batch is late, the time before it is on the disk until it is written."""
    running = begin(ns=8 * S)
    for _ in range(12):
        running.second()
    left: list[float] = []
    write = TraceWriter.write

    def look_and_write(self: TraceWriter, events: Events, note: Any) -> None:
        if len(events):
            left.append(12 - _ends(running.directory)[0][0])
        write(self, events, note)

    monkeypatch.setattr(TraceWriter, "write", look_and_write)
    running.now += 3
    running.second()
    assert left == [pytest.approx(9, abs=1)]


def test_each_event_is_in_one_segment_and_each_is_a_trace(
    begin: Callable[..., Running], tmp_path: Path
) -> None:
    running = begin(80 * S)
    for second in range(1, 36):
        running.second(*(worker_stall(second - 0.9, second - 0.1) if second == 14 else []))
    running.end()
    traces = [toolkit.read(path) for path in _files(tmp_path)]
    assert _ends(tmp_path) == [
        (0, 10, "rotated"),
        (10, 20, "rotated"),
        (20, 30, "rotated"),
        (30, 35, "interrupt"),
    ]
    assert [trace.damage for trace in traces] == [None] * 4
    assert sum(len(trace.events) for trace in traces) == 35 + 6
    assert [len(trace.stalls) for trace in traces] == [0, 1, 0, 0]
    assert [int(trace.ledger["attempted"].sum()) for trace in traces] == [10, 16, 10, 5]
    assert running.said == []


def test_oldest_goes_once_the_time_is_over(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin(8 * S)
    for _ in range(40):
        running.second()
        clock = TraceReader(_files(tmp_path)[0]).meta["clock"]
        kept = running.now - (clock["monotonic_ns"] - BEGAN) / S
        assert min(8, running.now) <= kept <= 8 + 2
    assert len(_files(tmp_path)) in (9, 10)


def test_size_is_never_exceeded(begin: Callable[..., Running], tmp_path: Path) -> None:
    size = 3 << 20
    running = begin(size=size)
    most = 0
    for number in range(24):
        running.second(_noise(4000, number))
        most = max(most, sum(path.stat().st_size for path in _files(tmp_path)))
    assert size // 2 < most <= size
    running.end()
    assert {reason for *_, reason in _ends(tmp_path)} == {"rotated", "interrupt"}


def test_what_a_killed_recorder_leaves_is_kept_while_there_is_room(
    begin: Callable[..., Running], tmp_path: Path
) -> None:
    running = begin(8 * S)
    for _ in range(5):
        running.second()
    running.kill()
    left = _files(tmp_path)
    (tmp_path / ".00000009-x.segment.123.new").write_text("cut off")
    (tmp_path / "00000010-x.segment").write_text("")
    shutil.copy(left[0], tmp_path / "0-copy.segment")
    left = _files(tmp_path)[:-1]
    running = begin(8 * S)
    assert running.killed and _files(tmp_path) == left and len([*tmp_path.iterdir()]) == len(left)
    assert toolkit.read(left[-1]).damage is not None
    for _ in range(40):
        running.second()
    # Their time is over, but the room is not needed.
    assert _files(tmp_path)[: len(left)] == left
    assert [path.name[:8] for path in _files(tmp_path)[len(left) :][-2:]] == ["00000044", "00000045"]
    running.end()
    assert not begin(8 * S).killed


def test_a_recorder_may_be_killed_between_two_segments(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin(8 * S)
    for _ in range(5):
        running.second()
    running.kill()
    _files(tmp_path)[-1].unlink()
    assert _ends(tmp_path)[-1][-1] == "rotated"
    assert begin(8 * S).killed


@pytest.mark.parametrize("name", ["00000001-x.segment", ".00000001-x.segment.123.new"])
def test_a_recorder_may_be_killed_before_its_first_segment_is_on_the_disk(
    begin: Callable[..., Running], tmp_path: Path, name: str
) -> None:
    """The power was cut within the first seconds: the name was on the disk, and the bytes were not."""
    (tmp_path / name).write_bytes(b"")
    assert begin(8 * S).killed and _files(tmp_path) == []


def test_old_segments_make_room(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin(size=3 << 20)
    for number in range(15):
        running.second(_noise(4000, number))
    running.end()
    left = _files(tmp_path)
    running = begin(size=3 << 20)
    for number in range(5):
        running.second(_noise(4000, number))
    assert not left[0].exists() and left[-1].exists()


def test_batches_that_a_slow_disk_did_not_take_are_told(
    begin: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = begin()
    running.second()
    with monkeypatch.context() as patch:
        patch.setattr(segments, "MOST_WAITING", -1)
        running.second()
    running.second()
    running.end()
    assert _ends(tmp_path) == [(0, 1, "rotated"), (2, 3, "interrupt")]
    assert running.said == [f"the disk of {tmp_path} is too slow: its segments lack 1 events."]
    assert [toolkit.read(path).damage for path in _files(tmp_path)] == [None, None]


def test_a_directory_that_is_gone_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "ring"
    directory.mkdir()
    running = Running(directory, Room(8 * S, 64 << 20, 0))
    running.second()
    directory.rename(tmp_path / "elsewhere")
    directory.write_text("no directory")
    running.second()
    running.second()
    assert len(running.said) == 1 and running.said[0].endswith("goes on in memory alone, and tries again.")
    directory.unlink()
    monkeypatch.setattr(segments, "AGAIN_S", 0.0)
    running.second()
    assert running.said[1:] == []
    running.second()
    assert running.said[1:] == [f"segments are written to {directory} again."]
    running.recent.save(tmp_path / "memory.rxt")
    assert len(toolkit.read(tmp_path / "memory.rxt").events) == 5
    running.end()
    assert _ends(directory) == [(3, 4, "rotated"), (4, 5, "interrupt")]


@pytest.mark.parametrize(("fulls", "said"), [(1, 0), (2, 1)])
def test_on_a_full_disk_the_oldest_segment_makes_room(
    begin: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fulls: int, said: int
) -> None:
    running = begin(80 * S)
    for _ in range(25):
        running.second()
    write, calls = TraceWriter.write, iter(range(100))

    def full(writer: TraceWriter, events: Events, note: dict[str, Any]) -> None:
        if len(events) and next(calls) < fulls:
            raise UserError("no space left.") from OSError(28, "No space left on device")
        write(writer, events, note)

    monkeypatch.setattr(TraceWriter, "write", full)
    running.second()
    assert _ends(tmp_path)[0][0] == 10
    assert len(running.said) == said


def test_what_was_written_is_synced(
    begin: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(segments, "sync", synced.append)
    running = begin(sync_s=0.01)
    running.second()
    deadline = time.monotonic() + 60
    while not synced and time.monotonic() < deadline:
        time.sleep(0.001)
    assert {*synced} == {*_files(tmp_path), tmp_path}


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (1 << 20, "--keep 1M: give 16M or more, or 0 for memory alone."),
        (9000 << 30, r"--keep 9000G: the disk of .*/ring has only \S+[GM] free; keep less"),
    ],
)
def test_a_size_that_does_not_fit_is_said(tmp_path: Path, size: int, sentence: str) -> None:
    with pytest.raises(UserError, match=f"^{sentence}"):
        make(tmp_path / "ring", None, size, 5.0)


def test_without_a_size_a_tenth_of_the_disk_is_taken_at_most(tmp_path: Path) -> None:
    room = make(tmp_path / "ring", S, None, 5.0)
    assert segments.LEAST_BYTES <= room.bytes <= segments.DEFAULT_BYTES
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^cannot keep segments in .*: Not a directory\.$"):
        make(tmp_path / "file" / "ring", S, None, 5.0)


@pytest.mark.long
def test_each_segment_is_readable_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    found = kills.run(tmp_path, kills=8, seed=1)
    assert found.kills == 8 and found.cut_off > 0 and found.wrong == []


@pytest.mark.long
def test_what_a_power_cut_has_taken_is_found(tmp_path: Path) -> None:
    assert kills.run(tmp_path, kills=3, seed=7).wrong == []
    paths = sorted(tmp_path.glob(f"*{segments.SUFFIX}"))
    found = power.Found()
    now = time.monotonic_ns()
    assert power._look(paths, power.Cut(now, 9.0, ""), found) < power.LATE_S and found.wrong == []
    assert found.segments == len(paths) and found.cut_off
    # Of a recorder that had run for a minute, nothing is there.
    paths[-1].write_bytes(b"")
    assert power._look(paths, power.Cut(now, 60.0, paths[-1].name), found) == 60
    assert found.unborn == 1 and found.wrong == ["of 60.0 s the last 60.0 s are missing."]
