# SPDX-License-Identifier: GPL-2.0-only
"""Refills and polls that take long, beside stalls."""

from typing import Any

import pytest

import toolkit
from tests.conftest import BEGAN, DATA, META, MS, S, Trace, event, failed, refilled, window
from toolkit.event import NOBODY
from toolkit.report import text
from toolkit.stalls.analysis import Analysis, analyze
from toolkit.stalls.selection import Selection, select
from toolkit.stalls.slow import SLOW_POLL, SLOW_REFILL, UNPOLLED


def refill(end: float, took: int, **members: Any) -> Any:
    """Return a window that is one refill in softirq."""
    return window(end, dur=took, **{"polls": 0, "packets": 0, "refills": 1} | members)


def poll(end: float, took: int, **members: Any) -> Any:
    """Return a window that is one poll."""
    return window(end, dur=took, **{"polls": 1} | members)


def silences(found: Analysis) -> list[tuple[str, float, float]]:
    """Return the state of each silence, and its begin and end [s] in the trace."""
    rows = found.silences[["state", "start_ns", "end_ns"]].to_dict("records")
    return [(row["state"], (row["start_ns"] - BEGAN) / S, (row["end_ns"] - BEGAN) / S) for row in rows]


def test_a_slow_refill_is_not_the_poll_around_it(make_trace: Trace) -> None:
    found = analyze(make_trace([refill(4, 2 * S), poll(4.001, 2 * S + 2 * MS)]))
    assert silences(found) == [(SLOW_REFILL, 2, 4)]
    assert found.stalls.empty
    assert found.queues["silent_ns"].tolist() == [2 * S, 0]


def test_a_poll_may_be_slow_before_its_refill(make_trace: Trace) -> None:
    found = analyze(make_trace([refill(4, S), poll(4, 3 * S)]))
    assert silences(found) == [(SLOW_POLL, 1, 3), (SLOW_REFILL, 3, 4)]


@pytest.mark.parametrize(("took", "count"), [(10 * MS - 1, 0), (10 * MS, 1)])
def test_what_is_slow_takes_10_ms(make_trace: Trace, took: int, count: int) -> None:
    assert len(analyze(make_trace([poll(4, took)])).silences) == count


def test_a_poll_that_nobody_made_was_waited_for(make_trace: Trace) -> None:
    found = analyze(make_trace([event("late", 4, dur=2 * S), poll(4.001, MS)]))
    assert silences(found) == [(UNPOLLED, 2, 4)]
    assert "eth1 took no frame in 1 wait for a poll of 10 ms or longer (2.000 s" in text.verdict(found)


def test_a_wait_says_which_thread_had_the_cpu(make_trace: Trace) -> None:
    told = {"program": "rxt_switch", "attached": "raw_tracepoint:sched_switch"}
    meta = META | {"drivers": [META["drivers"][0] | {"hooks": [told]}]}
    events = [
        event("late", 4, dur=2 * S, tid=812),
        event("late", 5, dur=S // 2, tid=0),
        event("late", 6, dur=S // 2, tid=NOBODY),
        event("late", 7, dur=S // 2, tid=9),
        poll(9, S),
    ]
    threads = [{"tid": 812, "name": "hog"}, {"tid": 0, "name": "swapper/0"}]
    found = analyze(make_trace(events, meta=meta, threads=threads))
    rows = found.silences[["tid", "thread"]].astype(object)
    assert rows.where(rows.notna(), None).to_numpy().tolist() == [
        [812, "hog"],
        [0, "swapper/0"],
        [None, None],
        [9, None],
        [None, None],
    ]
    assert (
        "In these waits the CPU was at thread hog (812) for 2.000 s and thread swapper/0 (0) for 0.500 s."
        in (text.verdict(found))
    )


def test_an_older_trace_does_not_say_it(make_trace: Trace) -> None:
    found = analyze(make_trace([event("late", 4, dur=2 * S, tid=812)]))
    assert found.silences[["tid", "thread"]].isna().to_numpy().all()


def test_what_is_in_a_stall_is_told_as_the_stall(make_trace: Trace) -> None:
    found = analyze(make_trace([failed(2), poll(4, 3 * S), refilled(5)]))
    assert silences(found) == [(SLOW_POLL, 1, 2)]


def test_a_refill_by_a_worker_is_no_silence(make_trace: Trace) -> None:
    assert analyze(make_trace([refilled(4, dur=2 * S)])).silences.empty


def test_with_full_detail_refills_and_polls_are_events(make_trace: Trace) -> None:
    complete = event("refill", 4, dur=S, refills=1, flags="complete", posted_after=256)
    single = event("poll", 4.5, dur=2 * S, polls=1)
    assert silences(analyze(make_trace([complete, single]))) == [
        (SLOW_POLL, 2.5, 3),
        (SLOW_REFILL, 3, 4),
        (SLOW_POLL, 4, 4.5),
    ]


def test_a_driver_without_napi_has_none_and_its_sum_is_unknown(make_trace: Trace) -> None:
    meta = META | {"drivers": [META["drivers"][0] | {"name": "xen_netback"}]}
    found = analyze(make_trace([poll(4, 2 * S)], meta=meta))
    assert found.silences.empty
    assert found.queues["silent_ns"].isna().all()


def test_the_verdict_tells_them_apart_from_stalls(make_trace: Trace) -> None:
    found = analyze(make_trace([refill(4, 2 * S), refill(6, S), poll(9, S)]))
    assert text.verdict(found) == (
        "No stall: eth1 never went deaf in 10.0 s (40 packets on 2 queues). Outside of stalls eth1 took no "
        "frame in 2 refills of 10 ms or longer (3.000 s in all, at most 2.000 s) and in 1 poll of 10 ms or "
        "longer (1.000 s in all, at most 1.000 s)."
    )


def test_a_part_of_the_time_has_its_silences(make_trace: Trace) -> None:
    found = select(analyze(make_trace([refill(4, S), refill(8, S)])), Selection(since=5))
    assert silences(found) == [(SLOW_REFILL, 7, 8)]
    assert found.queues["silent_ns"].tolist() == [S, 0]


def test_in_a_recording_they_explain_what_no_stall_does() -> None:
    trace = toolkit.read(DATA / "virtio_net_variants" / "paced" / "005" / "trace.rxt")
    longest = trace.silences.nlargest(1, "duration_ns").iloc[0]
    assert (longest["state"], longest["duration_ns"]) == (SLOW_REFILL, 3_095_472_240)
    assert trace.agreement and trace.agreement["in_silences_ns"][SLOW_REFILL] > 9 * S
