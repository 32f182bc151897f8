# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import BEGAN, META, MS, S, Trace, event, failed, note, refilled, window, worker_stall
from toolkit.event import NO_ORDER
from toolkit.report.causes import sentence
from toolkit.stalls.analysis import analyze
from toolkit.trace.schema import Events
from toolkit.trace.writer import TraceWriter


def _only(path: Path) -> dict[str, Any]:
    """:return: the one stall of a trace."""
    stalls = analyze(path).stalls
    assert len(stalls) == 1
    return {str(name): value for name, value in stalls.iloc[0].items()}


def test_states_that_overlap_are_one_stall(make_trace: Trace) -> None:
    stall = _only(make_trace([window(1), *worker_stall(2, 6), window(7)]))
    assert (stall["start_ns"] - BEGAN, stall["duration_ns"]) == (2 * S, 4 * S)
    assert (stall["device"], stall["queue"], stall["name"], stall["state"]) == ("eth1", 0, "rx-0", "starved")
    assert (stall["starved_ns"], stall["napi_off_ns"], stall["spinning_ns"]) == (4 * S, 4 * S - MS, 0)
    assert not stall["open"] and not stall["uncertain"]


def test_states_that_touch_are_one_stall(make_trace: Trace) -> None:
    off, on = event("napi_off", 3, flags="in_worker"), event("napi_on", 4.5)
    stall = _only(make_trace([failed(2), refilled(3), off, on]))
    assert (stall["duration_ns"], stall["state"]) == (round(2.5 * S), "napi-off")


def test_states_apart_are_two_stalls(make_trace: Trace) -> None:
    stalls = analyze(make_trace([failed(2), refilled(3), failed(3.1), refilled(4)])).stalls
    assert stalls["duration_ns"].tolist() == [S, round(0.9 * S)]


def test_cause_is_the_allocation_that_failed_in_the_refill(make_trace: Trace) -> None:
    before = event("alloc_fail", 1, gfp=0x52A20, order=3)
    inside = event("alloc_fail", 2 - 1e-7, gfp=0xA20, order=0)
    stall = _only(make_trace([before, inside, failed(2, dur=1000), refilled(3)]))
    assert (stall["order"], stall["gfp"], stall["gfp_names"]) == (0, 0xA20, "GFP_ATOMIC")
    assert stall["context"] == "softirq"
    assert stall["posted"] == 0
    assert sentence(stall) == "order-0 allocation failed in a softirq refill (GFP_ATOMIC)"


def test_cause_of_frames_that_wait_is_the_interrupt_that_does_not_come(make_trace: Trace) -> None:
    """The worker that polls again at last belongs to the same stall."""
    off, on = event("napi_off", 5, flags="in_worker"), event("napi_on", 5.001, flags="in_worker")
    stall = _only(make_trace([event("blocked", 2, posted_after=200), off, on]))
    assert (stall["state"], stall["class"], stall["duration_ns"]) == ("unscheduled", "stall", 3 * S + MS)
    assert stall["cause"] == "no_interrupt"
    assert (
        sentence(stall) == "frames waited in the ring, and no interrupt came that would have scheduled NAPI"
    )


@pytest.mark.parametrize("flags", ["by_program", "by_program|complete"])
def test_cause_of_a_ring_that_a_program_does_not_fill_is_the_program(make_trace: Trace, flags: str) -> None:
    """A refill that finds no buffer of the program's may count as complete; those after it tell no more."""
    empty = [failed(at, flags=flags, failed="complete" not in flags, order=NO_ORDER) for at in (2, 3)]
    stall = _only(make_trace([window(1), *empty, event("look", 3.5, posted_after=0), refilled(4)]))
    assert (stall["state"], stall["duration_ns"], stall["posted"]) == ("starved", 2 * S, 0)
    assert stall["cause"] == "program_gave_no_buffer"
    assert sentence(stall) == "the program that receives with AF_XDP gave no buffer back"


def test_cause_of_a_spin_for_a_programs_buffers_is_the_program(make_trace: Trace) -> None:
    """Buffers are posted still, and the window that begins the state is not what tells the cause."""
    spin = event("window", 3, dur=S, polls=9, full_polls=9, refills=9, failed=9)
    stall = _only(
        make_trace([failed(1.9, flags="by_program", posted_after=7, order=NO_ORDER), spin, window(4)])
    )
    assert (stall["state"], stall["cause"]) == ("spinning", "program_gave_no_buffer")
    assert sentence(stall) == "the program that receives with AF_XDP gave no buffer back"


def test_a_complete_refill_of_the_drivers_own_that_posts_nothing_is_no_stall(make_trace: Trace) -> None:
    none = event("refill", 2, flags="complete", refills=1, posted_before=0, posted_after=0)
    assert analyze(make_trace([window(1), none, window(3)])).stalls.empty


def test_cause_without_an_allocation(make_trace: Trace) -> None:
    stall = _only(
        make_trace(
            [
                event("alloc_fail", 1, order=3),
                failed(2, dur=1000, flags="process", order=NO_ORDER),
                refilled(3),
            ]
        )
    )
    assert pd.isna(stall["order"])
    assert (stall["gfp"], stall["context"]) == (0xA20, "process")
    assert sentence(stall) == "process refill failed (GFP_ATOMIC)"


def test_cause_is_what_the_refill_says_when_its_allocation_was_only_counted(make_trace: Trace) -> None:
    stall = _only(make_trace([failed(2, dur=1000, order=1), refilled(3)]))
    assert sentence(stall) == "order-1 allocation failed in a softirq refill (GFP_ATOMIC)"


def test_a_worker_that_is_called_again_and_again_spins(make_trace: Trace) -> None:
    runs = event("window", 2.5, dur=8 * MS, flags="process|in_worker", refills=200, failed=200)
    analysis = analyze(make_trace([failed(2), event("worker_in", 2.1), runs, refilled(3)]))
    stall = analysis.stalls.iloc[0]
    assert (stall["spin_ns"], stall["retries"], stall["failed"]) == (8 * MS, 201, 201)
    assert analysis.queues["workers"].tolist() == [201, 0]


def test_a_worker_that_another_queue_called(make_trace: Trace) -> None:
    other = failed(2, posted_after=5, queue=1)
    off, on = event("napi_off", 3, flags="in_worker"), event("napi_on", 4)
    stall = _only(make_trace([other, off, on]))
    assert sentence(stall) == "earlier softirq refill of queue 1 failed (GFP_ATOMIC)"
    assert (stall["cause"], stall["cause_queue"], stall["cause_earlier"]) == ("refill_failed", 1, True)
    assert pd.isna(stall["posted"])


def test_its_own_refill_is_the_cause_also_at_the_moment_of_another(make_trace: Trace) -> None:
    stalls = analyze(make_trace([failed(2), failed(2, queue=1), refilled(3), refilled(3, queue=1)])).stalls
    assert stalls["cause"].tolist() == ["refill_failed"] * 2
    assert stalls["cause_queue"].isna().all()


def test_no_failed_refill_was_seen(make_trace: Trace) -> None:
    stall = _only(
        make_trace([event("napi_off", 3, flags="in_worker"), event("napi_on", 4), failed(5, posted_after=9)])
    )
    assert stall["cause"] == "no_failure_seen"
    assert pd.isna(stall["gfp"])


def look(at: float, posted: int) -> Events:
    """Return a look at a queue."""
    return event("look", at, posted_before=posted, posted_after=posted, flags="process")


def test_a_queue_that_is_empty_when_the_trace_begins_was_so_before(make_trace: Trace) -> None:
    stall = _only(make_trace([look(0.1, 0), look(1.1, 0)]))
    assert (stall["state"], stall["duration_ns"], stall["open"]) == ("starved", round(9.9 * S), True)
    assert (stall["cause"], sentence(stall)) == ("before_trace", "it began before the trace did")


def test_a_queue_that_runs_empty_though_no_refill_failed(make_trace: Trace) -> None:
    stall = _only(make_trace([look(1, 200), look(4, 0), look(6, 256)]))
    assert (stall["duration_ns"], stall["cause"]) == (2 * S, "no_failure_seen")


def test_what_the_time_went_into(make_trace: Trace) -> None:
    refill = refilled(6, dur=2 * S, reclaim=round(1.5 * S))
    inside = event("reclaim", 5.5, dur=round(1.5 * S), reclaim=round(1.5 * S), flags="process")
    stall = _only(make_trace([failed(2), inside, refill]))
    spent = [stall[f"{name}_ns"] / S for name in ("reclaim", "refill", "waiting")]
    assert spent == [1.5, 0.5, 2.0]


def test_only_what_lies_in_the_stall_counts(make_trace: Trace) -> None:
    on = event("napi_on", 4)
    off = event("napi_off", 3, flags="in_worker")
    stall = _only(make_trace([off, on, refilled(5, dur=4 * S, reclaim=2 * S)]))
    assert [stall[f"{name}_ns"] / S for name in ("reclaim", "refill", "waiting")] == [0.5, 0.5, 0.0]


def test_reclaim_of_a_refill_that_never_ended(make_trace: Trace) -> None:
    stall = _only(make_trace([failed(2), event("reclaim", 8, dur=3 * S, flags="process")]))
    assert [stall[f"{name}_ns"] / S for name in ("reclaim", "refill", "waiting")] == [3.0, 0.0, 5.0]
    assert stall["open"]


REFILLS = st.lists(st.tuples(st.integers(20, 99), st.integers(1, 40), st.integers(0, 40)), max_size=6)


# An analysis costs the same for eight queues as for one.
@pytest.mark.long
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(REFILLS, min_size=8, max_size=8))
def test_the_parts_are_the_whole(make_trace: Trace, queues: list[list[tuple[int, int, int]]]) -> None:
    events = [
        refilled(at / 10, dur=dur * S // 10, reclaim=reclaim * S // 10, posted_after=0, queue=queue)
        for queue, refills in enumerate(queues)
        for at, dur, reclaim in refills
    ]
    stalls = analyze(make_trace([*(failed(1, queue=queue) for queue in range(8)), *events])).stalls
    assert sorted(stalls["queue"]) == list(range(8))
    parts = stalls[["reclaim_ns", "refill_ns", "waiting_ns"]]
    assert (parts.sum(axis=1) == stalls["duration_ns"]).all()
    assert (parts >= 0).all(axis=None)


def test_what_happened_in_it(make_trace: Trace) -> None:
    spin = {"packets": 0, "full_polls": 5, "refills": 5, "failed": 5, "posted_before": 0, "posted_after": 0}
    before, after = window(1.9), window(7)
    stall = _only(make_trace([before, *worker_stall(2, 6), window(3, **spin), after]))
    assert (stall["refills"], stall["failed"], stall["retries"]) == (7, 6, 1)
    assert (stall["polls"], stall["full_polls"], stall["packets"]) == (5, 5, 0)
    assert stall["spin_ns"] == 8 * MS


def test_a_window_that_outlasts_a_stall_is_not_counted_in_it(make_trace: Trace) -> None:
    empty = {"posted_before": 0, "posted_after": 0}
    inside = window(2.5, packets=0, refills=3, failed=3, **empty)
    beyond = window(3.02, dur=30 * MS, refills=99, **empty)
    filled = event("refill", 3, refills=1, posted_after=64, flags="complete")
    stall = _only(make_trace([failed(2), inside, filled, beyond]))
    assert (stall["end_ns"], stall["refills"], stall["packets"]) == (BEGAN + 3 * S, 5, 0)


def test_polls_one_by_one_until_the_one_that_ends_it(make_trace: Trace) -> None:
    empty = {"polls": 1, "full_polls": 1, "dur": 2000, "posted_before": 0, "posted_after": 0}
    polls = [event("poll", 2 + each / 10, **empty) for each in range(1, 6)]
    last = event("poll", 3, polls=1, packets=9, posted_after=100)
    stall = _only(make_trace([failed(2), *polls[:3]], [*polls[3:], last]))
    assert (stall["polls"], stall["packets"], stall["spin_ns"]) == (5, 0, 10_000)


@pytest.mark.parametrize(("at", "uncertain"), [(1, False), (2.5, True), (3.5, True), (7.5, False)])
def test_a_stall_that_touches_dropped_events_is_uncertain(at: float, uncertain: bool, tmp_path: Path) -> None:
    """Events are dropped in the 0.4 s before `at`."""
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        writer.write(failed(2), note(at - 0.4, 0, failed(2)))
        writer.write(refilled(4), note(at, 1, failed(2), refilled(4)))
        writer.close(note(10, 1, failed(2), refilled(4), end={"reason": "duration"}))
    assert _only(tmp_path / "a.rxt")["uncertain"] == uncertain


@pytest.mark.long
def test_300_stalls(make_trace: Trace) -> None:
    batches = [worker_stall(each / 40, each / 40 + 0.01) for each in range(1, 301)]
    stalls = analyze(make_trace(*batches)).stalls
    assert len(stalls) == 300
    assert (stalls["duration_ns"] == 10 * MS).all()
    assert stalls["retries"].eq(1).all()
