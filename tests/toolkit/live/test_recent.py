# SPDX-License-Identifier: GPL-2.0-only
import time
from pathlib import Path

import numpy as np
import pytest

import toolkit
from tests.conftest import BEGAN, META, S, note, window, worker_stall
from toolkit.errors import UserError
from toolkit.live.recent import MOST_EVENTS, Recent, since
from toolkit.trace.schema import EVENT, Events


def _recent(heard: list[int] | None = None) -> Recent:
    counts = heard if heard is not None else []
    return Recent(META, lambda events: counts.append(len(events)))


def test_a_minute_is_kept_and_can_be_read(tmp_path: Path) -> None:
    heard: list[int] = []
    recent = _recent(heard)
    written: list[Events] = []
    for second in range(100):
        events: list[Events] = [window(second + 0.5)]
        events += worker_stall(second + 0.1, second + 0.3) if second in (2, 90) else []
        written.append(np.concatenate(events))
        recent.write(written[-1], note(second + 1, 4 if second > 5 else 0, *written))
    recent.save(tmp_path / "last.rxt")
    trace = toolkit.read(tmp_path / "last.rxt")
    assert sum(heard) == 112
    assert trace.meta["clock"]["monotonic_ns"] == BEGAN + 39 * S
    assert trace.events["ts"].min() == BEGAN + round(39.5 * S)
    assert trace.stalls["start_ns"].tolist() == [BEGAN + round(90.1 * S)]
    # What was dropped before is not of this trace.
    assert trace.ledger["dropped"].sum() == 0 and not trace.stalls["uncertain"].any()
    assert trace.damage is None
    assert trace.summary["duration_ns"] == 61 * S


def test_saved_minute_tells_what_was_dropped_in_it(tmp_path: Path) -> None:
    recent = _recent()
    for number, (second, dropped) in enumerate(((1, 2), (2, 5), (70, 5), (71, 9)), 1):
        recent.write(window(second), note(second, dropped, *[window(0)] * number))
    recent.save(tmp_path / "last.rxt")
    trace = toolkit.read(tmp_path / "last.rxt")
    assert trace.ledger["dropped"].sum() == 4
    assert trace.analysis.scan.losses == [(BEGAN + 70 * S, BEGAN + 71 * S)]


@pytest.mark.long
def test_memory_of_the_kept_minute_is_bounded(tmp_path: Path) -> None:
    recent = _recent()
    batch = np.zeros(MOST_EVENTS // 4, EVENT)
    batch["ts"] = BEGAN
    batch["kind"] = 1
    for number in range(9):
        recent.write(batch, note(number, 0, *[batch] * (number + 1)))
    recent.save(tmp_path / "last.rxt")
    assert len(toolkit.read(tmp_path / "last.rxt").events) == MOST_EVENTS


def test_saving_before_any_event_writes_an_empty_trace_and_no_file_twice(tmp_path: Path) -> None:
    _recent().save(tmp_path / "last.rxt")
    assert toolkit.read(tmp_path / "last.rxt").events.empty
    with pytest.raises(UserError, match="exists"):
        _recent().save(tmp_path / "last.rxt")


def test_saved_minute_has_the_wall_clock_of_now_and_the_devices_of_then(tmp_path: Path) -> None:
    recent = _recent()
    later = [*META["devices"], META["devices"][0] | {"ifindex": 4, "name": "eth2"}]
    recent.write(window(1), note(1, 0, window(1), devices=later))
    recent.write(window(90), note(90, 0, *[window(1)] * 2))
    recent.save(tmp_path / "last.rxt")
    meta = toolkit.read(tmp_path / "last.rxt").meta
    assert [device["name"] for device in meta["devices"]] == ["eth1", "eth2"]
    apart = meta["clock"]["realtime_ns"] - meta["clock"]["monotonic_ns"]
    assert abs(apart - (time.time_ns() - time.monotonic_ns())) < S


def test_event_that_was_on_its_way_counts_where_it_is_delivered() -> None:
    before = {"refill": {"attempted": [7], "delivered": [4], "dropped": [1]}}
    now = {"refill": {"attempted": [9], "delivered": [8], "dropped": [1]}, "poll": {"attempted": [1]}}
    assert since(now, before) == {
        "refill": {"attempted": [4], "delivered": [4], "dropped": [0]},
        "poll": {"attempted": [1]},
    }
