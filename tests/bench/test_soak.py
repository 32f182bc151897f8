# SPDX-License-Identifier: GPL-2.0-only
import mmap
from pathlib import Path

import pytest

from bench import sender, soak
from toolkit.capture import loader
from toolkit.capture.program import cpus
from toolkit.errors import UserError
from toolkit.live.segments import Room

pytestmark = pytest.mark.long


def test_simulated_hours_keep_their_limits(tmp_path: Path) -> None:
    recording = soak.week(tmp_path, 0.51)
    assert recording.wrong() == []
    assert [line.rsplit(": ", 1)[1] for line in recording.said] == ["stall > 1s"] * 2
    # Ten minutes and an eighth, in segments of 80 s.
    assert 7 <= len(list((tmp_path / "ring").iterdir())) <= 10
    assert recording.progress.events == 4406 * 80 + 2 * 2


def test_lost_time_and_too_much_room_are_found(tmp_path: Path) -> None:
    recording = soak.week(tmp_path, 0.02)
    recording.room = Room(60 * soak.S, 1, 5.0)
    sorted((tmp_path / "ring").iterdir())[4].unlink()
    room, between, time = recording.wrong()
    assert room.endswith("bytes, but had 1.")
    assert between == "a segment does not begin where the one before it ends."
    assert time.endswith("not of 60 s.")


def _may_load() -> bool:
    """Whether this process may load BPF programs: root may, but not in each container."""
    try:
        loader.unload(loader.load(sender.program(1, cpus(), mmap.PAGESIZE), {}))
    except UserError:
        return False
    return True


@pytest.mark.skipif(not _may_load(), reason="its events come from the kernel, as root")
def test_events_of_timers_all_arrive(tmp_path: Path) -> None:
    recording = soak.hour(tmp_path, 0.1, 20_000)
    assert recording.wrong() == []
    assert 60_000 < recording.progress.events < 180_000
