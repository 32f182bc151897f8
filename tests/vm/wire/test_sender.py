# SPDX-License-Identifier: GPL-2.0-only
import errno
import socket
import threading
import time
from pathlib import Path
from typing import cast

import pytest

from toolkit.errors import UserError
from vm.wire import sender


class Nic:
    """A receiver as QEMU is one: takes every frame, or stops reading for a while."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(0.05)
        self.taken = 0
        self.reading = threading.Event()
        self.reading.set()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while not self.done.is_set():
            self.reading.wait(0.01)
            if self.reading.is_set():
                try:
                    self.socket.recv(65536)
                    self.taken += 1
                except TimeoutError:
                    pass

    def close(self) -> None:
        self.done.set()
        self.thread.join()
        self.socket.close()


class Lateness(threading.Thread):
    """How late this process is woken at most (ns): on a machine that does other things, too, some ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.worst = 0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.is_set():
            before = time.monotonic_ns()
            time.sleep(0.001)
            self.worst = max(self.worst, time.monotonic_ns() - before - 1_000_000)

    def stop(self) -> int:
        self._done.set()
        self.join()
        return self.worst


def test_account_of_a_receiver_that_stops_reading(tmp_path: Path) -> None:
    nic, lateness = Nic(tmp_path / "nic"), Lateness()
    lateness.start()
    away: list[tuple[int, int]] = []

    def leave() -> None:
        time.sleep(0.3)
        nic.reading.clear()
        began = time.monotonic_ns()
        time.sleep(0.3)
        away.append((began, time.monotonic_ns()))
        nic.reading.set()

    leaving = threading.Thread(target=leave)
    with sender.connect(tmp_path / "nic") as wire:
        leaving.start()
        account = sender.send(wire, [b"x" * 100], rate=4000, duration=1.0)
    leaving.join()
    time.sleep(0.2)
    nic.close()
    late = lateness.stop()
    near = 30e6 + 2 * late
    assert nic.taken == account.sent
    assert account.sent + len(account.refused) + account.skipped == pytest.approx(
        4000, abs=80 + 4000 * late / 1e9
    )
    longest = max(account.gaps, key=lambda gap: gap["duration_ns"])
    # Ten datagrams wait in the socket before one is refused: 2.5 ms at this rate.
    left, back = away[0]
    assert longest["duration_ns"] == pytest.approx(back - left, abs=near)
    assert longest["start_ns"] == pytest.approx(left, abs=near)
    assert sum(gap["refused"] for gap in account.gaps) == len(account.refused)
    inside = [at for at in account.refused if 0 <= at - longest["start_ns"] <= longest["duration_ns"]]
    assert len(inside) == longest["refused"]


def test_gap_that_does_not_end_is_open(tmp_path: Path) -> None:
    nobody = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    nobody.bind(str(tmp_path / "nic"))
    with nobody, sender.connect(tmp_path / "nic") as wire:
        account = sender.send(wire, [b"x"], rate=1000, count=100)
    assert account.gaps[-1]["open"]
    assert account.sent + len(account.refused) + account.skipped == 100


def test_missing_socket_of_a_nic_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no NIC takes frames"):
        sender.connect(tmp_path / "nothing")


def test_late_sender_skips_no_more_than_the_frames_it_was_to_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not scheduled for 10 s after the first frames: those that were due meanwhile are skipped."""
    clock = iter([0.0, *[number / 1000 + 0.0005 for number in range(1, 6)]])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock, 10.0))
    nic = Nic(tmp_path / "nic")
    with sender.connect(tmp_path / "nic") as wire:
        account = sender.send(wire, [b"x"], rate=1000, count=100)
    nic.close()
    assert account.skipped > 0
    assert account.sent + len(account.refused) + account.skipped == 100
    (away,) = account.away
    assert away["start_ns"] == 5_500_000 and away["duration_ns"] == 10_000_000_000 - away["start_ns"]
    assert account.as_json()["away"] == account.away


@pytest.mark.parametrize("taken", [True, False])
def test_gap_goes_on_while_the_sender_is_away_only_if_the_ring_is_still_full(
    monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """The second frame is refused, the sender is away for 10 s, and the third is taken or not."""
    times = iter([0.0, 0.0015, 0.0025])
    last = 0.0

    def now() -> float:
        nonlocal last
        last = next(times, 10.0)
        return last

    class Wire:
        def __init__(self) -> None:
            self.answers = iter([True, False, taken])

        def send(self, _: bytes) -> None:
            if not next(self.answers, True):
                raise BlockingIOError(errno.EAGAIN, "full")

    monkeypatch.setattr(time, "monotonic", now)
    monkeypatch.setattr(time, "monotonic_ns", lambda: round(last * 1e9))
    account = sender.send(cast(socket.socket, Wire()), [b"x"], rate=1000, count=20)
    away, gap = account.away[0], account.gaps[0]
    assert (away["start_ns"], away["duration_ns"]) == (2_500_000, 9_997_500_000)
    assert gap["duration_ns"] == (0 if taken else 9_997_500_000)
