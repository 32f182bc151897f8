# SPDX-License-Identifier: GPL-2.0-only
import errno
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import toolkit
from tests.conftest import BEGAN, META, S, note, window, worker_stall
from toolkit.capture.drain import Progress
from toolkit.drivers import load
from toolkit.errors import UserError
from toolkit.live import conditions, recorder
from toolkit.live.queues import Live
from toolkit.live.recent import Recent
from toolkit.live.recorder import Recorder, Rules
from toolkit.trace.schema import Events


class Running:
    """A trace that runs: one window a second, and what else is given to it."""

    def __init__(self, directory: Path, rules: Rules) -> None:
        self.said: list[str] = []
        self.live = Live([load("virtio_net")], META["devices"])
        self.recent = Recent(META, kept_ns=30 * S)
        self.recorder = Recorder(rules, directory, self.said.append)
        self.progress = Progress(devices=META["devices"])
        self.now = 0.0
        self._written: list[Events] = []

    def second(self, *events: Events, asked: bool = False, waits: bool = True) -> None:
        """Let a second pass, in which these events come; then look.

        :param waits: until nothing is being written.
        """
        self.now += 1
        batch = np.concatenate([window(self.now - 0.5), *events])
        self._written.append(batch)
        self.recent.write(batch, note(self.now, 0, *self._written))
        self.live.take(batch)
        self.recorder.look(self.progress, self.live, self.recent, asked=asked)
        if waits:
            self.recorder.settle()


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Running]:
    def begin(*when: str, files: int = 50, size: int = 1 << 30) -> Running:
        rules = Rules([conditions.parse(text) for text in when], 3 * S, 20 * S, files, size)
        running = Running(tmp_path, rules)
        monkeypatch.setattr(time, "clock_gettime_ns", lambda _: BEGAN + round(running.now * S))
        clock = time.gmtime
        monkeypatch.setattr(time, "gmtime", lambda: clock(1_700_000_000 + running.now))
        return running

    return begin


def _traces(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.rxt"))


def test_a_stall_is_put_aside_with_the_time_around_it(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin("stall > 1s")
    for _ in range(40):
        running.second()
    running.second(*worker_stall(40.1, 42.6)[:-1])
    running.second()
    running.second(*worker_stall(40.1, 42.6)[-1:])
    assert _traces(tmp_path) == []
    for _ in range(3):
        running.second()
    (name,) = _traces(tmp_path)
    assert name.endswith("-stall.rxt")
    trace = toolkit.read(tmp_path / name)
    assert trace.damage is None
    assert trace.stalls["duration_ns"].tolist() == pytest.approx([2.5 * S], rel=0.01)
    # 10 s before it at least, and 3 s after it was noticed.
    assert trace.summary["began_ns"] <= BEGAN + 30 * S
    about = json.loads((tmp_path / name).with_suffix(".json").read_text())
    assert (about["condition"], about["device"], about["queue"]) == ("stall > 1s", "eth1", 0)
    assert 1e9 < about["found"] <= 2.5e9
    assert about["before"]["meminfo"]["MemTotal"] > 0 and about["after"]["utc"] > about["before"]["utc"]
    assert running.said == [f"{tmp_path / name}: stall > 1s"]


def test_the_same_condition_is_quiet_for_a_while(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin("stall > 1s", "failed > 0/s")
    for second in range(60):
        running.second(*(worker_stall(second - 0.5, second + 0.9) if second % 5 == 4 else []))
    # It is quiet for 3 + 20 s each time.
    assert len(_traces(tmp_path)) in (3, 4)


def test_what_somebody_asks_for_is_put_aside_at_once(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin("stall > 1s")
    running.second()
    running.second(asked=True)
    (name,) = _traces(tmp_path)
    assert name.endswith("-asked.rxt")
    assert json.loads((tmp_path / name).with_suffix(".json").read_text())["device"] is None


def test_the_oldest_go_when_there_are_too_many(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin("stall > 1s", files=2)
    for _ in range(4):
        running.second(asked=True)
        running.second()
    kept = _traces(tmp_path)
    assert len(kept) == 2
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        Path(name).with_suffix(".json").name for name in kept
    ]
    assert [line.split("/")[-1].split(":")[0] for line in running.said][-2:] == kept


def test_the_newest_stays_however_large_it_is(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin("stall > 1s", size=1)
    running.second(asked=True)
    running.second()
    running.second(asked=True)
    assert len(_traces(tmp_path)) == 1


def test_limits_are_kept_where_the_clock_was_put_back(begin: Callable[..., Running], tmp_path: Path) -> None:
    """The newest is then the first by its name, and stays."""
    running = begin("stall > 1s", files=2)
    for now in (3000.0, 3001.0, 3002.0, 1000.0):
        running.now = now
        running.second(asked=True)
    newest = time.strftime("%Y%m%d-%H%M%S-asked.rxt", time.gmtime())
    assert len(_traces(tmp_path)) == 2 and _traces(tmp_path)[0] == newest
    assert len([*tmp_path.glob("*.json")]) == 2


def test_a_full_disk_does_not_end_the_recorder(
    begin: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = begin("stall > 1s")

    def full(_: Path) -> None:
        raise UserError("no space left on the disk.")

    monkeypatch.setattr(running.recent, "save", full)
    running.second(asked=True)
    assert _traces(tmp_path) == []
    assert running.said[0].startswith("could not put aside ") and "no space left" in running.said[0]
    monkeypatch.undo()
    running.second(asked=True)
    assert len(_traces(tmp_path)) == 1
    assert (running.recorder.written, running.recorder.unwritten) == (1, 1)


def test_two_recorders_do_not_share_a_directory(tmp_path: Path) -> None:
    directory = tmp_path / "kept"
    another = pytest.raises(UserError, match=r"^another recorder puts its traces into ")
    with recorder.only_one(directory), another, recorder.only_one(directory):
        pass


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(UserError, match=r"^cannot record into .*Not a directory")
    with refused, recorder.only_one(tmp_path / "file" / "kept"):
        pass


def test_whoever_asks_gets_the_trace(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin("stall > 1s")
    running.second()

    def look() -> None:
        while not recorder.is_asked(tmp_path):
            time.sleep(0.001)
        running.second()

    with recorder.only_one(tmp_path), ThreadPoolExecutor() as pool:
        looked = pool.submit(look)
        path = recorder.ask(tmp_path)
        looked.result()
    assert [path.name] == _traces(tmp_path) and not recorder.is_asked(tmp_path)
    assert toolkit.read(path).damage is None


def test_a_look_does_not_wait_for_the_disk(
    begin: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is short, so the disk is slow; and somebody asks meanwhile: another trace is written then."""
    running = begin("stall > 1s")
    save, on_disk = running.recent.save, threading.Event()

    def slow(path: Path) -> None:
        assert on_disk.wait(30)
        save(path)

    monkeypatch.setattr(running.recent, "save", slow)
    running.second(asked=True, waits=False)
    (tmp_path / recorder._QUESTION).touch()
    for _ in range(3):
        running.second(waits=False)
    assert _traces(tmp_path) == [] and recorder.is_asked(tmp_path)
    on_disk.set()
    running.recorder.settle()
    assert len(_traces(tmp_path)) == 1 and recorder.is_asked(tmp_path)
    running.second()
    assert len(_traces(tmp_path)) == 2 and not recorder.is_asked(tmp_path)
    running.second()
    assert len(_traces(tmp_path)) == running.recorder.written == 2


def test_what_is_pending_at_the_end_is_put_aside(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin("stall > 1s")
    for _ in range(4):
        running.second()
    running.second(*worker_stall(2.1, 4.6))
    assert _traces(tmp_path) == []
    running.recorder.put_aside(running.progress, running.recent)
    assert [name.partition("-stall")[2] for name in _traces(tmp_path)] == [".rxt"]


def test_whoever_asks_is_told_why_there_is_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "ANSWER_S", 0.0)
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=r"^no recorder puts its traces into "):
            recorder.ask(directory)
    silent = pytest.raises(UserError, match=r"^the recorder of .* did not answer in 0 s\.$")
    with recorder.only_one(tmp_path), silent:
        recorder.ask(tmp_path)
    assert not recorder.is_asked(tmp_path)
    monkeypatch.undo()
    with recorder.only_one(tmp_path), ThreadPoolExecutor() as pool:
        asked = pool.submit(recorder.ask, tmp_path)
        while not recorder.is_asked(tmp_path):
            time.sleep(0.001)
        recorder.answer(tmp_path)
        with pytest.raises(UserError, match=r"could not put anything aside; its own output says why"):
            asked.result()


def test_two_traces_of_one_second_have_two_names(begin: Callable[..., Running], tmp_path: Path) -> None:
    running = begin("stall > 1s")
    running.second(asked=True)
    running.now -= 1
    running.second(asked=True)
    assert [name.partition("-asked")[2] for name in _traces(tmp_path)] == ["-2.rxt", ".rxt"]


def test_a_disk_that_is_full_after_the_trace_keeps_no_half(
    begin: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies beside a trace is written last."""
    running = begin("stall > 1s")

    def full(path: Path, text: str) -> None:
        path.write_bytes(text[:9].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    running.second(asked=True)
    assert [path for path in tmp_path.iterdir() if path.suffix in (".rxt", ".json")] == []
    assert running.said[0].startswith("could not put aside ") and "No space left" in running.said[0]
