# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import DATA, META, MS, Trace, failed, note, refilled, window
from toolkit.stalls.analysis import analyze, summary
from toolkit.trace import archive
from toolkit.trace.archive import pack
from toolkit.trace.reader import TraceReader
from toolkit.trace.writer import TraceWriter


def _read(path: Path) -> tuple[list[int], list[int]]:
    """Return how many events each batch has, and when each event was."""
    batches = [columns["ts"].tolist() for columns, _ in TraceReader(path)]
    return [len(batch) for batch in batches], [ts for batch in batches for ts in batch]


def _summary(path: Path) -> dict[str, Any]:
    return {**summary(analyze(path)), "trace": None}


@pytest.mark.parametrize(
    "name",
    [
        "virtio_net_pressure",
        "virtio_net_variants/paced/001",
        "qlge/stock",
        "xen_netback/unfixed",
        "aoe/stock",
    ],
)
def test_a_recording_packed_is_the_same_trace_and_smaller(name: str, tmp_path: Path) -> None:
    recorded, packed = DATA / name / "trace.rxt", tmp_path / "packed.rxt"
    pack(TraceReader(recorded), packed)
    assert _summary(packed) == _summary(recorded)
    assert _read(packed)[1] == _read(recorded)[1]
    before, after = (analyze(path) for path in (recorded, packed))
    pd.testing.assert_frame_equal(before.stalls, after.stalls)
    assert packed.stat().st_size < 0.4 * recorded.stat().st_size


def test_batches_are_merged(make_trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_EVENTS", 5)
    path = make_trace(*[[window(at), window(at + 0.1)] for at in range(1, 6)])
    pack(TraceReader(path), tmp_path / "packed.rxt")
    assert _read(tmp_path / "packed.rxt")[0] == [0, 4, 4, 2, 0]


def test_when_events_were_dropped_is_still_known(tmp_path: Path) -> None:
    """They were between 2 and 4 s: the first stall is uncertain, the second is not."""
    events = [window(1), failed(2.5), refilled(3), failed(4.5), refilled(4.6)]
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        for number, dropped in enumerate((0, 0, 3, 5, 5)):
            writer.write(events[number], note(number + 1, dropped, *events[: number + 1]))
        writer.close(note(9, 5, *events, end={"reason": "duration"}))
    pack(TraceReader(tmp_path / "a.rxt"), tmp_path / "packed.rxt")
    assert _read(tmp_path / "packed.rxt")[0] == [0, 2, 2, 1, 0]
    assert _summary(tmp_path / "packed.rxt") == _summary(tmp_path / "a.rxt")
    assert analyze(tmp_path / "packed.rxt").stalls["uncertain"].tolist() == [True, False]


def test_devices_come_with_the_events_that_followed_them(tmp_path: Path) -> None:
    devices = [{**META["devices"][0], "name": "eth9"}]
    events = [window(1), window(2)]
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        writer.write(events[0], note(1, 0, events[0]))
        writer.write(events[1], note(2, 0, *events, devices=devices))
        writer.close(note(9, 0, *events, end={"reason": "duration"}))
    pack(TraceReader(tmp_path / "a.rxt"), tmp_path / "packed.rxt")
    found = [
        (len(columns["ts"]), "devices" in about) for columns, about in TraceReader(tmp_path / "packed.rxt")
    ]
    assert found == [(0, False), (1, False), (1, True), (0, True)]


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("threads", [{"tid": 8, "name": "hog"}, {"tid": 9, "name": "cc1"}]),
        ("stacks", [{"stack": 7, "functions": ["a", "b"]}, {"stack": 8, "functions": ["a"]}]),
    ],
)
def test_what_merged_batches_name_is_named_once(
    name: str, named: list[dict[str, object]], tmp_path: Path
) -> None:
    events = [window(1), window(2), window(3)]
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        for number, some in enumerate(([named[0]], [], named), 1):
            more = {name: some} if some else {}
            writer.write(events[number - 1], note(number, 0, *events[:number], **more))
        writer.close(note(9, 0, *events, end={"reason": "duration"}))
    pack(TraceReader(tmp_path / "a.rxt"), tmp_path / "packed.rxt")
    found = [about[name] for _, about in TraceReader(tmp_path / "packed.rxt") if name in about]
    assert found == [named]


def test_events_that_came_late_leave_the_same_gaps(make_trace: Trace, tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    times = chance.permutation(60) / 10 + 1
    batches = [[window(at, dur=MS) for at in part] for part in np.split(times, [7, 8, 30])]
    path = make_trace(*batches)
    pack(TraceReader(path), tmp_path / "packed.rxt")
    assert _summary(tmp_path / "packed.rxt") == _summary(path)


def test_what_is_left_of_a_damaged_trace_has_no_end(make_trace: Trace, tmp_path: Path) -> None:
    path = make_trace([window(1)], [window(2)])
    path.write_bytes(path.read_bytes()[:-1500])
    reader = TraceReader(path)
    pack(reader, tmp_path / "packed.rxt")
    assert reader.damage
    packed = TraceReader(tmp_path / "packed.rxt")
    assert sum(len(columns["ts"]) for columns, _ in packed) == 1
    assert packed.damage and "is cut off after" in packed.damage
