# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests.conftest import BEGAN, MS, S, Trace, event
from tests.toolkit.stalls.test_silences import poll, refill
from toolkit.event import IN_USER, NO_STACK
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


def waited(make_trace: Trace) -> Path:
    """Return a trace with a slow refill from 2 to 4 s and a wait from 5 to 6 s, in which the clock ticked."""
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
        tick(5.9, 9, tid=4, dur=S // 2),
        event("late", 6, dur=S),
        poll(6.001, MS),
    ]
    return make_trace(events, threads=THREADS, stacks=STACKS)


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
