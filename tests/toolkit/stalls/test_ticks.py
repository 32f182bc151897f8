# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests.conftest import BEGAN, MS, S, Trace, event
from tests.toolkit.stalls.test_silences import poll, refill
from toolkit.event import IN_USER, NO_STACK
from toolkit.report import ticks
from toolkit.stalls.analysis import analyze, summary
from toolkit.stalls.selection import Selection, select
from toolkit.stalls.slow import SLOW_REFILL, UNPOLLED

STACKS = [
    {"stack": 7, "functions": ["do_idle", "net_rx_action", "clear_page_orig"]},
    {"stack": 9, "functions": ["ksys_write", "fill"]},
]
THREADS = [{"tid": 21, "name": "ksoftirqd/1"}, {"tid": 812, "name": "hog"}]


def tick(at: float, stack: int, tid: int = 21, **members: Any) -> Any:
    return event("tick", at, gfp=stack, tid=tid, **{"dur": 20 * MS} | members)


def waited(make_trace: Trace, **note: Any) -> Path:
    """Return a trace with a slow refill from 2 to 4 s and a wait from 5 to 6 s, in which the clock ticked.

    Its queue is polled on CPU 1.
    """
    events = [
        tick(1, 7),
        tick(2.5, 7),
        tick(3, 7),
        tick(3.5, NO_STACK),
        tick(3.5, 9, queue=1),
        refill(4, 2 * S),
        tick(5.1, IN_USER, tid=812),
        tick(5.2, IN_USER, tid=812),
        tick(5.3, 9, tid=4),
        tick(5.9, 9, tid=4, dur=S // 2, cpu=1),
        event("late", 6, dur=S),
        poll(6.001, MS),
    ]
    return make_trace(events, threads=THREADS, stacks=STACKS, **note)


@pytest.fixture
def trace(make_trace: Trace) -> Path:
    return waited(make_trace)


def test_ticks_are_counted_in_the_silence_of_their_queue(trace: Path) -> None:
    found = toolkit.read(trace).ticks
    rows = found.astype(object).where(found.notna(), None)
    assert list(found) == [
        *("device", "queue", "name", "driver", "state", "tid", "thread", "function", "stack", "count")
    ]
    assert rows.iloc[:, 4:].to_numpy().tolist() == [
        [SLOW_REFILL, 21, "ksoftirqd/1", "clear_page_orig", "do_idle;net_rx_action;clear_page_orig", 2],
        [SLOW_REFILL, 21, "ksoftirqd/1", None, None, 1],
        [UNPOLLED, 4, None, "fill", "ksys_write;fill", 2],
        [UNPOLLED, 812, "hog", "user space", "user space", 2],
    ]
    assert set(found["queue"]) == {0}


def test_a_clock_that_did_not_tick_is_told(trace: Path) -> None:
    (row,) = toolkit.read(trace).no_ticks.to_dict("records")
    assert (row["start_ns"], row["end_ns"], row["duration_ns"]) == (
        BEGAN + 5.4 * S,
        BEGAN + 5.9 * S,
        S // 2,
    )
    assert row["stack"] == "ksys_write;fill"


@pytest.mark.parametrize(
    ("looks", "stolen"),
    [
        ([], None),
        # Nobody may have told.
        ([(5, [0, 0]), (6, [0, 0])], None),
        # Of its CPU, between the looks before and after; and of no more than its own length.
        ([(2, [7, 50]), (5, [7, 50]), (5.5, [7, 150]), (6, [7, 250])], 200),
        ([(5, [7, 50]), (6, [7, 2000])], 500),
        ([(5, [0, 0]), (6, [3, 0])], 0),
        # There is no look after it, or before it.
        ([(2, [7, 50]), (5, [7, 50])], None),
        ([(5.5, [7, 50]), (6, [7, 90])], None),
        # Its CPU came later.
        ([(5, [7]), (6, [7, 90])], None),
    ],
)
def test_stolen_time_is_told_as_far_as_it_is_known(
    make_trace: Trace, looks: list[tuple[float, list[int]]], stolen: int | None
) -> None:
    steal = [{"at_ns": BEGAN + round(at * S), "ns": [each * MS for each in ms]} for at, ms in looks]
    found = analyze(waited(make_trace, steal=steal))
    (row,) = summary(found)["no_ticks"]
    assert row["steal_ns"] == (None if stolen is None else stolen * MS)
    said = ticks.no_tick("eth1", found.no_ticks)
    assert ("By its own account" in said) == (stolen is not None)
    if stolen is not None:
        assert (
            f"up to {stolen / 1000:.3f} s of that time." if stolen else "took nothing of that time."
        ) in said


def test_summary_has_both(trace: Path) -> None:
    found = summary(analyze(trace))
    assert [row["count"] for row in found["ticks"]] == [2, 1, 2, 2]
    assert [row["duration_ns"] for row in found["no_ticks"]] == [S // 2]


def test_a_selection_has_its_own_ticks(trace: Path) -> None:
    early = select(analyze(trace), Selection(until=4.5))
    assert early.ticks["count"].tolist() == [2, 1]
    assert early.no_ticks.empty
    other = select(analyze(trace), Selection(queues=[1]))
    assert other.ticks.empty and other.no_ticks.empty


def test_without_ticks_the_tables_are_empty(make_trace: Trace) -> None:
    found = analyze(make_trace([refill(4, 2 * S)]))
    assert found.ticks.empty and found.no_ticks.empty
