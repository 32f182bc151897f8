# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import BEGAN, META, MS, S, Trace, event, failed, refilled, window, worker_stall
from tests.toolkit.stalls.test_ticks import tick
from toolkit.errors import UserError
from toolkit.stalls.accounts import Witness, read_witness
from toolkit.stalls.analysis import analyze
from toolkit.stalls.witness import compare

OFFSET = BEGAN - 5 * S
AOE = META | {
    "drivers": [META["drivers"][0] | {"name": "aoe", "module": "aoe"}],
    "devices": [META["devices"][0] | {"driver": "aoe", "queues": []}],
}


def _witness(
    path: Path, *gaps: tuple[float, float], device: str = "eth1", error: int = MS, **more: Any
) -> Witness:
    """:return: a witness whose clock was at 5 s when the trace began."""
    rows = [
        {"start_ns": round((start + 5) * S), "duration_ns": round(length * S), "refused": 9}
        for start, length in gaps
    ]
    clock = {"offset_ns": OFFSET, "error_ns": error}
    about = {"device": device, "sent": 99, "refused": 9, "gaps": rows, "clock": clock, **more}
    path.write_text(json.dumps(about))
    return read_witness(path)


def test_gaps_are_in_trace_time_and_sorted(tmp_path: Path) -> None:
    gaps = _witness(tmp_path / "w.json", (4, 1), (2, 0.5)).gaps
    assert ((gaps["start"] - BEGAN) / S).tolist() == [2, 4]
    assert ((gaps["end"] - BEGAN) / S).tolist() == [2.5, 5]


def test_witness_with_the_same_gaps_agrees(make_trace: Trace, tmp_path: Path) -> None:
    analysis, found = compare(
        analyze(make_trace(worker_stall(2, 6))),
        _witness(tmp_path / "w.json", (2.05, 1.15), (3.25, 2.8), (8, 0.3)),
    )
    stall = analysis.stalls.iloc[0]
    assert (stall["witness_gap_ns"], stall["witness_difference_ns"]) == (4 * S, 0)
    assert found["agrees"]
    assert len(found["gaps"]) == 3
    assert "at most 100.0 ms of one were not seen as a gap (102 ms are allowed)" in found["sentence"]


def test_stalls_in_one_gap_are_measured_together(make_trace: Trace, tmp_path: Path) -> None:
    analysis, _ = compare(
        analyze(make_trace([*worker_stall(2, 4), *worker_stall(4.1, 6)])),
        _witness(tmp_path / "w.json", (2.1, 4)),
    )
    assert analysis.stalls["witness_gap_ns"].tolist() == [4 * S] * 2
    assert analysis.stalls["witness_difference_ns"].tolist() == [0, 0]


def test_a_long_gap_without_a_stall(make_trace: Trace, tmp_path: Path) -> None:
    analysis = analyze(make_trace([]))
    _, found = compare(analysis, _witness(tmp_path / "w.json", (7, 2)))
    assert not found["agrees"]
    assert "1 gap of 1 s or more is in no stall, 2.000 s from 7.000 s on." in found["sentence"]
    _, several = compare(analysis, _witness(tmp_path / "w.json", (2, 1), (4, 2)))
    assert (
        "2 gaps of 1 s or more are in no stall, the longest 2.000 s from 4.000 s on." in several["sentence"]
    )
    assert found["gaps_without_stall"] == [{"start_ns": BEGAN + 7 * S, "duration_ns": 2 * S, "refused": 9}]


@pytest.mark.parametrize(
    ("polls", "busy"), [([1], True), ([1, 4], False), ([], False), ([1, 4.05, 6.95], True)]
)
def test_a_long_gap_in_which_nothing_was_polled(
    polls: list[float], busy: bool, make_trace: Trace, tmp_path: Path
) -> None:
    gap = (4.0, 3.0) if len(polls) == 3 else (2.0, 3.0)
    trace = make_trace([window(at) for at in polls])
    _, found = compare(analyze(trace), _witness(tmp_path / "w.json", gap))
    assert found["agrees"] == busy
    assert len(found["gaps_while_busy"]) == busy
    assert len(found["gaps_without_stall"]) == (not busy)
    assert ("no poll ended" in found["sentence"]) == busy


def test_a_long_stall_without_a_gap(make_trace: Trace, tmp_path: Path) -> None:
    analysis, found = compare(
        analyze(make_trace(worker_stall(2, 6))), _witness(tmp_path / "w.json", (8, 0.1))
    )
    assert pd.isna(analysis.stalls["witness_gap_ns"].iloc[0])
    assert not found["agrees"]
    assert found["stalls_without_gap"] == [
        {"state": "starved", "queue": 0, "start_ns": BEGAN + 2 * S, "duration_ns": 4 * S, "seen_ns": 0}
    ]


def test_short_gaps_and_stalls_are_background(make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([failed(2), refilled(2.05)])
    _, found = compare(analyze(trace), _witness(tmp_path / "w.json", (7, 0.7)))
    assert found["agrees"]


def test_another_device_is_a_mistake(make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace(worker_stall(2, 6))
    with pytest.raises(UserError, match=r"w.json is of eth7, but .*made.rxt has no eth7; it has: eth1"):
        compare(analyze(trace), _witness(tmp_path / "w.json", (2, 4), device="eth7"))


def test_a_moment_within_a_long_stall_is_no_agreement(make_trace: Trace, tmp_path: Path) -> None:
    _, found = compare(analyze(make_trace(worker_stall(2, 6))), _witness(tmp_path / "w.json", (3, 0.001)))
    assert not found["agrees"]
    assert found["largest_difference_ns"] == 3_999_000_000
    assert found["stalls_without_gap"] == [
        {"state": "starved", "queue": 0, "start_ns": BEGAN + 2 * S, "duration_ns": 4 * S, "seen_ns": MS}
    ]
    assert "1 stall was not seen in full: up to 3.999 s of one" in found["sentence"]


def test_a_moment_of_stall_does_not_explain_a_long_gap(make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(at / 10) for at in range(30, 90)] + worker_stall(2, 2.05))
    _, found = compare(analyze(trace), _witness(tmp_path / "w.json", (2, 4)))
    assert not found["agrees"]
    assert found["in_stalls_ns"] == 51 * MS
    assert found["unexplained_ns"] == 4 * S - 51 * MS
    assert not found["mostly_explained"]
    assert found["gaps_without_stall"] == [
        {"start_ns": BEGAN + 2 * S + 51 * MS, "duration_ns": 4 * S - 51 * MS, "refused": 9}
    ]


@pytest.mark.parametrize(("late", "agrees"), [(0.09, True), (0.11, False)])
def test_a_gap_may_begin_later_within_a_bound(
    late: float, agrees: bool, make_trace: Trace, tmp_path: Path
) -> None:
    witness = _witness(tmp_path / "w.json", (2 + late, 4 - late))
    _, found = compare(analyze(make_trace(worker_stall(2, 6))), witness)
    assert found["agrees"] == agrees
    assert found["largest_difference_ns"] == round(late * S)
    assert found["allowed_ns"] == 102 * MS


def test_a_slow_sender_fills_the_ring_first(make_trace: Trace, tmp_path: Path) -> None:
    """At 100 frames a second, 256 buffers take frames for 2.56 s."""
    witness = _witness(tmp_path / "w.json", (4.5, 1.5), rate=100.0)
    _, found = compare(analyze(make_trace(worker_stall(2, 6))), witness)
    assert found["agrees"]
    assert found["allowed_ns"] == 2662 * MS


def test_only_while_the_sender_was_sending(make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace(worker_stall(2, 9))
    short = _witness(tmp_path / "w.json", (3, 4), started_ns=8 * S, ended_ns=12 * S)
    _, found = compare(analyze(trace), short)
    assert (found["agrees"], found["largest_difference_ns"]) == (True, 0)
    _, found = compare(analyze(trace), _witness(tmp_path / "w.json", (3, 4)))
    assert (found["agrees"], found["largest_difference_ns"]) == (False, 3 * S)


def test_an_idle_queue_is_not_seen(make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1), *worker_stall(2, 3, queue=1)])
    _, found = compare(analyze(trace), _witness(tmp_path / "w.json"))
    assert found["agrees"] and found["stalls_compared"] == 0
    busy = make_trace([window(1, queue=1), *worker_stall(2, 3, queue=1)])
    assert not compare(analyze(busy), _witness(tmp_path / "w.json"))[1]["agrees"]


def test_refused_time_adds_up(make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1), *worker_stall(2, 4), window(5), window(9.5)])
    _, found = compare(analyze(trace), _witness(tmp_path / "w.json", (2, 2), (4.5, 0.25), (5.2, 4.0)))
    assert found["agrees"]
    parts = [found[name] for name in ("in_stalls_ns", "while_busy_ns", "unexplained_ns")]
    assert parts == [2 * S, 4 * S, S // 4]
    assert found["refused_ns"] == sum(parts)
    assert not found["mostly_explained"]
    assert "It saw gaps of 6.250 s in all: 2.000 s in stalls, 4.000 s while" in found["sentence"]
    assert found["sentence"].endswith("0.250 s unexplained.")


@pytest.mark.parametrize(("error", "seen"), [(0, False), (200 * MS, True)])
def test_the_clock_may_be_wrong_by_its_error(
    make_trace: Trace, tmp_path: Path, error: int, seen: bool
) -> None:
    witness = _witness(tmp_path / "w.json", (6.1, 0.5), error=error)
    analysis, _ = compare(analyze(make_trace(worker_stall(2, 6))), witness)
    assert analysis.stalls["witness_gap_ns"].notna().all() == seen


def test_gaps_that_follow_each_other_are_no_long_one(make_trace: Trace, tmp_path: Path) -> None:
    """Something went through at the end of each, as on a disk that is slow."""
    polled = make_trace([window(each / 5) for each in range(1, 36)])
    gaps = [(each / 2, 0.5) for each in range(2, 10)]
    _, found = compare(analyze(polled), _witness(tmp_path / "w.json", *gaps))
    assert found["agrees"] and found["gaps_without_stall"] == []
    assert found["refused_ns"] == 4 * S
    _, found = compare(analyze(polled), _witness(tmp_path / "w.json", (1, 4)))
    assert not found["agrees"]


def test_a_time_without_ticks_is_a_reason(make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1), tick(5, 7, dur=2 * S), window(9.5)])
    _, found = compare(analyze(trace), _witness(tmp_path / "w.json", (2.5, 3)))
    assert (found["no_ticks_ns"], found["unexplained_ns"]) == (2 * S + 2 * MS, S - 2 * MS)
    assert "2.002 s while the clock of the queue's CPU did not tick, 0.998 s unexplained" in found["sentence"]


def test_a_frame_that_was_not_answered_is_a_reason(make_trace: Trace, tmp_path: Path) -> None:
    """aoe: of a gap from 2.5 to 5.5 s, a frame was out from 3 to 5 s. Its pool is empty."""
    hook = {"program": "rxt_schedule", "attached": "kprobe:__napi_schedule"}
    meta = AOE | {"drivers": [AOE["drivers"][0] | {"hooks": [hook]}]}
    again = event("own_3", 5, dur=2 * S)
    looks = [window(at, posted_before=0, posted_after=0) for at in (1, 2.5, 5.5)]
    witness = _witness(tmp_path / "w.json", (2.5, 3))
    _, found = compare(analyze(make_trace([*looks, again], meta=meta)), witness)
    assert found["in_events_ns"] == {"retransmit": 2 * S + 2 * MS}
    assert found["agrees"] and found["idle_ns"] == 0
    assert found["sentence"].startswith("The witness agrees: it saw no gap that calls for a stall.")
    assert "2.002 s while a frame without an answer was not yet sent again" in found["sentence"]
    _, without = compare(analyze(make_trace(looks, meta=meta)), witness)
    assert not without["agrees"] and without["in_events_ns"] == {"retransmit": 0}


def test_refused_while_frames_are_taken_without_a_pause(make_trace: Trace, tmp_path: Path) -> None:
    """From 2 to 2.1 s a window follows the one before within 9 ms, and then within 11 ms."""
    taken = [window(2 + at * 0.010, dur=MS) for at in range(11)]
    trace = make_trace([*taken, *(window(2.1 + at * 0.012, dur=MS) for at in range(1, 9))])
    witness = _witness(tmp_path / "w.json", (2, 0.190), error=0)
    _, found = compare(analyze(trace), witness)
    assert found["served_ns"] == (100 + 7) * MS
    assert found["unexplained_ns"] == (190 - 107) * MS
    assert "0.107 s while frames were taken all the time, 0.083 s unexplained" in found["sentence"]
    left = found["unexplained"]
    assert len(left) == 8 and sum(gap["duration_ns"] for gap in left) == found["unexplained_ns"]
    assert left[0] == {"start_ns": BEGAN + 2100 * MS, "duration_ns": 11 * MS, "refused": 9}


def test_a_queue_that_takes_frames_does_not_explain_another(make_trace: Trace, tmp_path: Path) -> None:
    taken = [window(2 + at * 0.010, dur=MS) for at in range(11)]
    trace = make_trace([*taken, window(1, queue=1)])
    _, found = compare(analyze(trace), _witness(tmp_path / "w.json", (2, 0.1), error=0))
    assert (found["served_ns"], found["unexplained_ns"]) == (0, 100 * MS)


def test_refused_while_no_interrupt_came(make_trace: Trace, tmp_path: Path) -> None:
    """NAPI was scheduled at most 10 ms before the poll at 2.2 s, and later than that for the one at 2.3 s."""
    hook = {"program": "rxt_schedule", "attached": "kprobe:__napi_schedule"}
    meta = META | {"drivers": [META["drivers"][0] | {"hooks": [hook]}]}
    events = [
        window(2, dur=MS),
        window(2.2, dur=MS),
        event("late", 2.29, dur=50 * MS),
        window(2.3, dur=5 * MS),
    ]
    trace = make_trace(events, meta=meta)
    _, found = compare(analyze(trace), _witness(tmp_path / "w.json", (2.0, 0.3), error=0))
    assert found["in_silences_ns"]["unpolled"] == 50 * MS
    assert found["idle_ns"] == (199 - 10 + 40 - 10) * MS
    assert "0.219 s while NAPI was not scheduled" in found["sentence"]
    _, unknown = compare(analyze(make_trace(events)), _witness(tmp_path / "w.json", (2.0, 0.3), error=0))
    assert unknown["idle_ns"] == 0


def test_a_silence_that_nobody_saw_is_told(make_trace: Trace, tmp_path: Path) -> None:
    events = [window(1), *(window(at, dur=S, polls=1) for at in (3, 6)), window(9)]
    _, found = compare(analyze(make_trace(events)), _witness(tmp_path / "w.json", (2.05, 0.95)))
    assert (found["silences_compared"], found["agrees"]) == (2, True)
    (unseen,) = found["silences_without_gap"]
    assert unseen == {
        "state": "slow-poll",
        "queue": 0,
        "start_ns": BEGAN + 5 * S,
        "duration_ns": S,
        "seen_ns": 0,
    }
    assert "1 silence outside of stalls was not seen." in found["sentence"]


def test_a_silence_is_not_compared_while_the_sender_did_not_run(make_trace: Trace, tmp_path: Path) -> None:
    """Of the silence from 5 to 6 s the sender saw 0.1 s, and was away for the rest."""
    events = [window(1), *(window(at, dur=S, polls=1) for at in (3, 6)), window(9)]
    away = [{"start_ns": round(10.1 * S), "duration_ns": round(0.9 * S)}]
    analysis, path = analyze(make_trace(events)), tmp_path / "w.json"
    _, found = compare(analysis, _witness(path, (2.05, 0.95), (5, 0.1), away=away))
    assert (found["silences_compared"], found["silences_without_gap"]) == (1, [])
    assert found["away_ns"] == round(0.9 * S)
    assert "The sender itself did not run for 0.900 s, and saw nothing then." in found["sentence"]
    # What was refused before and after was so in between.
    _, found = compare(analysis, _witness(path, (2.05, 0.95), (5.05, 0.95), away=away))
    assert (found["silences_compared"], found["away_ns"]) == (2, 0)
    _, found = compare(analysis, _witness(path, (2.05, 0.95)))
    assert (found["silences_compared"], found["away_ns"]) == (2, None)
