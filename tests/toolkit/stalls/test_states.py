# SPDX-License-Identifier: GPL-2.0-only
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import BEGAN, META, MS, S, Trace, event, failed, refilled, window, worker_stall
from toolkit import drivers
from toolkit.event import ALL_QUEUES, KIND, NOT_KNOWN
from toolkit.stalls.scan import scan
from toolkit.stalls.states import intervals
from toolkit.trace.reader import Columns, TraceReader
from toolkit.trace.schema import Events

DRIVER = drivers.load("virtio_net")


def _found(path: Any) -> list[tuple[int, str, float, float, bool]]:
    """:return: queue, state, start and end [s] since the trace began, open."""
    reader = TraceReader(path)
    result = scan(reader, [DRIVER])
    found = intervals(reader, [DRIVER], result)
    return sorted(
        (
            result.queues[queue].queue,
            DRIVER.states[state].name,
            (start - BEGAN) / S,
            (end - BEGAN) / S,
            still,
        )
        for queue, state, start, end, still in zip(
            *(column.tolist() for column in found.values()), strict=True
        )
    )


def test_trace_without_events_has_no_states(make_trace: Trace) -> None:
    assert _found(make_trace()) == []


def test_a_gap_without_events_is_no_state(make_trace: Trace) -> None:
    assert _found(make_trace([window(1)], [window(9)])) == []


def test_queue_is_starved_from_the_failed_refill_to_the_next_good_one(make_trace: Trace) -> None:
    path = make_trace([window(1), failed(2), failed(3), refilled(4), window(5)])
    assert _found(path) == [(0, "starved", 2.0, 4.0, False)]


def test_napi_off_outlasts_refills_that_recover(make_trace: Trace) -> None:
    off, on = event("napi_off", 2, flags="in_worker"), event("napi_on", 9, flags="in_worker")
    path = make_trace([failed(1.9), off, refilled(2.1), on])
    assert _found(path) == [(0, "napi-off", 2.0, 9.0, False), (0, "starved", 1.9, 2.1, False)]


@pytest.mark.parametrize("end", ["unblocked", "window", "napi_off"])
def test_queue_is_unscheduled_until_napi_is_scheduled_polled_or_turned_off(
    make_trace: Trace, end: str
) -> None:
    last = window(5, dur=0) if end == "window" else event(end, 5)
    path = make_trace(
        [window(1), event("blocked", 2, posted_after=200)], [event("blocked", 4, posted_after=200), last]
    )
    assert _found(path) == [(0, "unscheduled", 2.0, 5.0, False)]


def test_napi_off_outside_the_worker_is_none(make_trace: Trace) -> None:
    assert _found(make_trace([event("napi_off", 2), event("napi_on", 3)])) == []


def test_state_without_an_end_is_open_to_the_end_of_the_trace(make_trace: Trace) -> None:
    assert _found(make_trace([failed(2)], end=7)) == [(0, "starved", 2.0, 7.0, True)]


def test_a_window_ends_a_state_at_its_first_event(make_trace: Trace) -> None:
    path = make_trace([failed(2), window(3, dur=8 * MS)])
    assert _found(path) == [(0, "starved", 2.0, 2.992, False)]


def test_a_spin_begins_at_the_first_event_of_its_window(make_trace: Trace) -> None:
    spin = {"packets": 0, "failed": 5, "full_polls": 5, "posted_before": 0, "posted_after": 0}
    path = make_trace([window(2, **spin), window(2.01, **spin), window(3)])
    assert _found(path) == [(0, "spinning", 1.992, 2.992, False)]


def test_queues_do_not_end_each_other(make_trace: Trace) -> None:
    path = make_trace([failed(2), failed(2, queue=1), window(3, queue=1), window(4)])
    assert _found(path) == [(0, "starved", 2.0, 3.992, False), (1, "starved", 2.0, 2.992, False)]


def test_devices_do_not_end_each_other(make_trace: Trace) -> None:
    path = make_trace([failed(2), window(3, ifindex=9), window(4)])
    assert _found(path) == [(0, "starved", 2.0, 3.992, False)]


def test_an_event_of_all_queues_is_one_of_each(make_trace: Trace) -> None:
    off = event("napi_off", 2, queue=ALL_QUEUES, flags="in_worker")
    on = event("napi_on", 3, queue=ALL_QUEUES, flags="in_worker")
    path = make_trace([off], [on])
    assert _found(path) == [(0, "napi-off", 2.0, 3.0, False), (1, "napi-off", 2.0, 3.0, False)]


def test_an_end_that_was_written_late(make_trace: Trace) -> None:
    path = make_trace([failed(2), failed(5)], [refilled(8)], [window(4, dur=0)])
    assert _found(path) == [(0, "starved", 2.0, 4.0, False), (0, "starved", 5.0, 8.0, False)]


def test_a_begin_that_was_written_late(make_trace: Trace) -> None:
    path = make_trace([window(1), refilled(3), refilled(6)], [window(8)], [failed(2), failed(4)])
    assert _found(path) == [(0, "starved", 2.0, 3.0, False), (0, "starved", 4.0, 6.0, False)]


EVENTS = st.builds(
    lambda kind, at, queue: kind(at / 10, queue=queue),
    st.sampled_from(
        [
            failed,
            refilled,
            lambda at, queue: window(at, dur=30 * MS, queue=queue),
            lambda at, queue: event("napi_off", at, queue=queue, flags="in_worker"),
            lambda at, queue: event("napi_on", at, queue=queue),
            lambda at, **_: event("napi_on", at, queue=ALL_QUEUES),
            lambda at, queue: event("irq", at, queue=queue),
        ]
    ),
    st.integers(1, 99),
    st.integers(0, 3),
)


def _one_by_one(events: list[Events], end: float) -> list[tuple[int, str, float, float, bool]]:
    """:return: what `_found` should, by the letter of the rules: one queue, one state, one event a time."""
    found = []
    for queue in range(4):
        for state in ("starved", "napi-off"):
            marks = []
            for each in events:
                row = each[0]
                moment = int(row["ts"]) - (int(row["dur"]) if row["kind"] == KIND["window"] else 0)
                if row["queue"] not in (queue, ALL_QUEUES):
                    continue
                if state == "starved":
                    begins = (
                        row["kind"] == KIND["refill"] and not row["flags"] & 2 and not row["posted_after"]
                    )
                    ends = 0 < row["posted_after"] < NOT_KNOWN
                else:
                    begins = row["kind"] == KIND["napi_off"]
                    ends = row["kind"] == KIND["napi_on"]
                marks += [(moment, 1)] * bool(begins) + [(moment, 0)] * bool(ends)
            start = None
            # An end comes before a begin of the same moment.
            for moment, begin in sorted(marks):
                if begin and start is None:
                    start = moment
                elif not begin and start is not None:
                    found.append((queue, state, (start - BEGAN) / S, (moment - BEGAN) / S, False))
                    start = None
            if start is not None:
                found.append((queue, state, (start - BEGAN) / S, end, True))
    return sorted(found)


@pytest.mark.long
@settings(max_examples=75, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EVENTS, max_size=50), st.lists(st.integers(0, 50), max_size=5), st.booleans())
def test_any_batches_in_any_order_give_the_same(
    make_trace: Trace, events: list[Events], cuts: list[int], shuffled: bool
) -> None:
    expected = _one_by_one(events, 10.0)
    if not shuffled:
        events = sorted(events, key=lambda each: int(each["ts"][0]))
    edges = [0, *sorted(cuts), len(events)]
    batches = [events[low:high] for low, high in itertools.pairwise(edges)]
    assert _found(make_trace(*batches)) == expected


def test_a_device_that_meta_does_not_know(make_trace: Trace) -> None:
    path = make_trace(
        [failed(2, ifindex=8, queue=5), refilled(3, ifindex=8, queue=5)], meta=META | {"devices": []}
    )
    assert _found(path) == [(5, "starved", 2.0, 3.0, False)]


def test_only_batches_that_matter_are_read_again(make_trace: Trace, monkeypatch: Any) -> None:
    path = make_trace([window(1)], worker_stall(2, 3), [window(4)], [window(5)])
    read: list[int] = []
    columns = TraceReader.columns

    def noted(self: TraceReader, index: int) -> Columns:
        read.append(index)
        return columns(self, index)

    monkeypatch.setattr(TraceReader, "columns", noted)
    _found(path)
    assert read == [2]
