# SPDX-License-Identifier: GPL-2.0-only
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import toolkit
from tests.conftest import BEGAN, META, S, note, window, worker_stall
from tests.toolkit.live.test_segments import Running
from toolkit.errors import UserError
from toolkit.live import following, segments
from toolkit.live.following import Arriving, View, feed, follow
from toolkit.live.recent import Recent
from toolkit.live.recorder import only_one
from toolkit.live.segments import RING, Room
from toolkit.trace.reader import TraceReader
from toolkit.trace.writer import TraceWriter


class Watching:
    """Somebody who follows the recorder of a directory in a thread."""

    def __init__(self, directory: Path) -> None:
        self.views: list[View] = []
        self.kept: list[Recent] = []
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._directory = directory
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            readers = follow(self._directory, lambda: not self._stop.wait(0.002))
            feed((reader for reader, _ in readers), self._sink, self.views.append)
        except Exception as error:
            self.error = error

    def _sink(self, meta: dict[str, Any], clocks: Callable[[int], dict[str, int]]) -> Recent:
        self.kept.append(Recent(meta, clocks=clocks))
        return self.kept[-1]

    @property
    def view(self) -> View:
        self.until(lambda: bool(self.views))
        return self.views[0]

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline and (self._thread.is_alive() or holds()), self.error
            time.sleep(0.001)

    def until_events(self, count: int) -> None:
        """Wait until so many events were seen."""
        self.until(lambda: self.view.progress.events == count)

    def ended(self) -> View:
        """Wait until there is nothing more to follow."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.view

    def end(self) -> None:
        self._stop.set()
        self._thread.join(60)


class Recorder(Running):
    """A recorder that has a directory, as `toolkit record` does."""

    def __init__(self, directory: Path, room: Room) -> None:
        self._alone = ExitStack()
        self._alone.enter_context(only_one(directory))
        (directory / RING).mkdir(exist_ok=True)
        super().__init__(directory / RING, room)

    def end(self) -> None:
        super().end()
        self._alone.close()

    def kill(self) -> None:
        super().kill()
        self._alone.close()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Callable[[], Recorder]]:
    """Start a recorder whose segments are two seconds long; of eight of them the oldest goes."""
    running: list[Recorder] = []

    def begin() -> Recorder:
        running.append(Recorder(tmp_path, Room(16 * S, 64 << 20, 0)))
        return running[-1]

    yield begin
    for each in running:
        each.kill()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[[], Watching]]:
    watching: list[Watching] = []

    def begin() -> Watching:
        watching.append(Watching(tmp_path))
        return watching[-1]

    yield begin
    for each in watching:
        each.end()


def test_batches_are_seen_when_they_are_written_over_all_segments(
    recorder: Callable[[], Recorder], watch: Callable[[], Watching], tmp_path: Path
) -> None:
    running = recorder()
    running.second()
    watching = watch()
    for second in range(2, 12):
        running.second(*(worker_stall(second - 0.9, second - 0.1) if second == 6 else []))
        expected = second + (6 if second >= 6 else 0)
        watching.until_events(expected)
    assert len(list((tmp_path / RING).iterdir())) == 6
    view = watching.view
    assert 0 <= view.now() - (BEGAN + 11 * S) < 60 * S
    assert view.live.stalls == 1 and view.live.queues[3, 0].packets == 11 * 40
    assert view.missing_ns == 0 and not view.ended
    running.end()
    assert watching.ended().ended and watching.error is None
    assert view.remarks() == ["it has ended"] and view.now() == BEGAN + 11 * S
    # What was followed over several segments is kept as one trace.
    (kept,) = watching.kept
    kept.save(tmp_path / "saved.rxt")
    trace = toolkit.read(tmp_path / "saved.rxt")
    assert trace.damage is None and len(trace.events) == 11 + 6 and len(trace.stalls) == 1
    assert trace.meta["clock"]["monotonic_ns"] == BEGAN


def test_only_the_newest_segment_is_shown_of_what_was_before(
    recorder: Callable[[], Recorder], watch: Callable[[], Watching]
) -> None:
    running = recorder()
    for _ in range(5):
        running.second()
    watching = watch()
    watching.until_events(1)
    running.end()
    assert watching.ended().progress.started == (BEGAN + 4 * S) / S


def test_a_torn_batch_is_not_there_yet(tmp_path: Path, watch: Callable[[], Watching]) -> None:
    whole = tmp_path / "whole.rxt"
    written = [window(second, packets=second) for second in range(1, 4)]
    sizes = []
    with TraceWriter(whole, META) as writer:
        for second in range(1, 4):
            writer.write(written[second - 1], note(second, 0, *written[:second]))
            sizes.append(whole.stat().st_size)
    data = whole.read_bytes()
    (tmp_path / RING).mkdir()
    with only_one(tmp_path), (tmp_path / RING / "00000001-x.segment").open("wb", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(data[: sizes[0]])
        watching = watch()
        watching.until_events(1)
        at = sizes[0]
        for events, size in enumerate(sizes[1:], 1):
            while at < size:
                assert watching.view.progress.events == events
                step = min(at + 97, size)
                file.write(data[at:step])
                at = step
                # It is looked at several times.
                time.sleep(0.005)
            watching.until_events(events + 1)
    assert watching.ended().live.queues[3, 0].packets == 1 + 2 + 3


def test_what_was_dropped_is_summed_up_over_segments(
    recorder: Callable[[], Recorder], watch: Callable[[], Watching], tmp_path: Path
) -> None:
    running = recorder()
    written = []
    watching = watch()
    for second in range(1, 7):
        written.append(window(second - 0.5))
        running.segments.write(written[-1], note(second, 10 * second, *written))
        watching.until_events(second)
    assert watching.view.progress.dropped == 60
    (kept,) = watching.kept
    kept.save(tmp_path / "saved.rxt")
    trace = toolkit.read(tmp_path / "saved.rxt")
    assert trace.ledger["dropped"].sum() == 60
    assert trace.analysis.scan.losses == [(BEGAN, BEGAN + 6 * S)]


def test_time_that_segments_lack_is_missing_and_not_zero(
    recorder: Callable[[], Recorder],
    watch: Callable[[], Watching],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = recorder()
    running.second(*worker_stall(0.2, 9)[:-1])
    watching = watch()
    watching.until(lambda: bool(watching.view.live.queues[3, 0].states))
    with monkeypatch.context() as patch:
        patch.setattr(segments, "MOST_WAITING", -1)
        running.second()
        running.second()
    running.second()
    watching.until_events(7)
    view = watching.view
    assert view.missing_ns == 2 * S and view.remarks() == ["2.0 s are missing"]
    # How long the stall lasted is not known; it did at least until there.
    assert view.live.queues[3, 0].states == {}
    assert view.live.queues[3, 0].stalled_ns(view.now()) == pytest.approx(0.8 * S)
    assert [change.lasted for change in view.live.changes] == [None]
    # A trace that is saved begins after that.
    watching.kept[-1].save(tmp_path / "saved.rxt")
    trace = toolkit.read(tmp_path / "saved.rxt")
    assert trace.meta["clock"]["monotonic_ns"] == BEGAN + 3 * S and len(trace.events) == 1


def test_a_recorder_that_is_killed_has_ended(
    recorder: Callable[[], Recorder], watch: Callable[[], Watching]
) -> None:
    running = recorder()
    running.second()
    watching = watch()
    watching.until_events(1)
    running.kill()
    assert watching.ended().remarks() == ["it has ended"]
    assert watching.error is None


def test_what_a_killed_recorder_left_is_not_taken_for_what_is_written_now(
    recorder: Callable[[], Recorder], watch: Callable[[], Watching]
) -> None:
    running = recorder()
    for _ in range(3):
        running.second()
    running.kill()
    running = recorder()
    watching = watch()
    time.sleep(0.02)
    assert watching.views == []
    running.second()
    assert watching.view.progress.started == BEGAN / S


def test_another_recorder_of_other_drivers_is_not_taken_for_the_same(
    recorder: Callable[[], Recorder], watch: Callable[[], Watching], tmp_path: Path
) -> None:
    running = recorder()
    running.second()
    watching = watch()
    watching.until_events(1)
    with TraceWriter(tmp_path / RING / "00000002-x.segment", META | {"drivers": [{"name": "qlge"}]}):
        running.segments.__exit__(None, None, None)
        assert watching.ended().ended
    assert "another recorder, of other drivers, has taken its place" in str(watching.error)


def _refused(directory: Path) -> str:
    with pytest.raises(UserError) as error:
        next(follow(directory, lambda: True))
    return str(error.value)


def test_without_a_recorder_there_is_one_sentence(recorder: Callable[[], Recorder], tmp_path: Path) -> None:
    nobody = "no recorder puts its traces into {}; start one, or give its directory."
    for directory in (tmp_path, tmp_path / "none"):
        assert _refused(directory) == nobody.format(directory)
    running = recorder()
    running.second()
    running.kill()
    assert _refused(tmp_path) == nobody.format(tmp_path)


def test_a_recorder_that_writes_no_segment_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE_S", 0.0)
    with only_one(tmp_path):
        assert "writes no segment: start it without --keep 0" in _refused(tmp_path)


@contextmanager
def _another_user() -> Iterator[None]:
    """Have the rights of nobody, if this process is root's."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", [".lock", RING])
def test_files_of_another_user_are_refused(name: str) -> None:
    # Nobody else may enter the directory that pytest gives.
    with TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o755)
        running = Recorder(directory, Room(None, 64 << 20, 0))
        running.second()
        (directory / name).chmod(0)
        with _another_user():
            refused = _refused(directory)
        running.kill()
        (directory / name).chmod(0o700)
    assert refused == (
        f"cannot read {directory / name}: Permission denied; watch as the user that records, root as a rule."
    )


def test_a_read_waits_for_all_that_it_asks_for() -> None:
    parts = iter([b"ab", None, b"c", None, b"def", b""])
    waited: list[int] = []

    def go_on() -> bool:
        waited.append(1)
        return True

    stream = Arriving(lambda _: next(parts), go_on)
    assert not stream.is_over() and stream.tell() == 0
    assert stream.read(3) == b"abc" and len(waited) == 1 and stream.tell() == 3
    assert stream.read(4) == b"def" and stream.is_over() and stream.read(1) == b""


def test_nothing_more_is_waited_for_after_the_end_was_asked_for() -> None:
    stream = Arriving(lambda _: None, lambda: False)
    assert stream.is_over() and stream.read(5) == b""


def test_a_stream_is_read_as_its_file(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        writer.write(window(1), note(1, 0, window(1)))
        writer.close(note(2, 0, window(1), end={"reason": "duration"}))
    reader = TraceReader("there", (tmp_path / "a.rxt").open("rb"))
    offsets = [reader.tell() for _ in reader]
    assert len(offsets) == 3 and offsets == sorted(offsets) and reader.damage is None
