# SPDX-License-Identifier: GPL-2.0-only
import logging
import time

import pytest

from vm.models.qlge_nic import counts
from vm.models.qlge_nic.counts import RingCounts, Starvation

MS = 1_000_000


class Clock:
    """The time that the NIC sees (ns)."""

    def __init__(self) -> None:
        self.now = 1000 * MS

    def monotonic_ns(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(counts, "time", found)
    return found


def test_gap_goes_from_the_first_drop_to_the_next_frame_that_is_taken(clock: Clock) -> None:
    queue = Starvation("lbq")
    for _ in range(3):
        queue.drop()
        clock.now += MS
    queue.end()
    clock.now += 7 * MS
    queue.drop()
    clock.now += MS // 2
    queue.end()
    assert queue.as_json() == [
        {"start_ns": 1000 * MS, "duration_ns": 3 * MS, "refused": 3},
        {"start_ns": 1010 * MS, "duration_ns": MS // 2, "refused": 1},
    ]
    assert queue.dropped == 4


def test_frame_that_finds_a_buffer_begins_no_gap(clock: Clock) -> None:
    queue = Starvation("lbq")
    queue.end()
    clock.now += MS
    queue.end()
    assert queue.as_json() == []


def test_gap_that_has_not_ended_is_open_and_grows(clock: Clock) -> None:
    queue = Starvation("lbq")
    queue.drop()
    clock.now += 5 * MS
    assert queue.as_json() == [{"start_ns": 1000 * MS, "duration_ns": 5 * MS, "refused": 1, "open": True}]
    queue.drop()
    clock.now += 5 * MS
    assert queue.as_json() == [{"start_ns": 1000 * MS, "duration_ns": 10 * MS, "refused": 2, "open": True}]
    queue.end()
    assert "open" not in queue.as_json()[0]


def test_latest_thousand_gaps_are_kept_and_the_others_counted(clock: Clock) -> None:
    queue = Starvation("lbq")
    for _ in range(1003):
        queue.drop()
        clock.now += MS
        queue.end()
    assert (len(queue.gaps), queue.forgotten, queue.dropped) == (1000, 3, 1003)
    assert queue.gaps[0]["start_ns"] == 1003 * MS


@pytest.mark.parametrize(
    ("length", "lines"), [(9 * MS, []), (10 * MS, ["lbq was empty for 0.010 s: 1 frames dropped"])]
)
def test_long_gap_is_logged(
    clock: Clock, caplog: pytest.LogCaptureFixture, length: int, lines: list[str]
) -> None:
    queue = Starvation("lbq")
    queue.drop()
    clock.now += length
    with caplog.at_level(logging.INFO):
        queue.end()
    assert caplog.messages == lines


def test_times_are_those_of_the_traces() -> None:
    queue = Starvation("lbq")
    queue.drop()
    assert abs(queue.began - time.clock_gettime_ns(time.CLOCK_MONOTONIC)) < 10_000 * MS


def test_both_queues_of_a_ring_are_named_and_apart() -> None:
    one, two = RingCounts(0), RingCounts(1)
    one.lbq.drop()
    assert (one.lbq.name, one.sbq.name, two.lbq.name) == ("ring 0: lbq", "ring 0: sbq", "ring 1: lbq")
    assert (one.lbq.dropped, one.sbq.dropped, two.lbq.dropped) == (1, 0, 0)
