# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conftest import DATA, MS, S, Trace, event, window, worker_stall
from toolkit import quantities
from toolkit.errors import UserError
from toolkit.event import WINDOW_NS
from toolkit.stalls import slow, thresholds
from toolkit.stalls.analysis import analyze, summary
from toolkit.stalls.classes import BRIEF, STALL
from toolkit.stalls.thresholds import DEFAULT, Thresholds, choose


def silent(took: int) -> list[Any]:
    """Return a refill, a poll and a wait that take so long, each in a second of its own."""
    refill = window(2, dur=took, polls=0, packets=0, refills=1)
    return [refill, window(4, dur=took, polls=1), event("late", 6, dur=took)]


@pytest.mark.parametrize(("least", "count"), [(10, 3), (30, 3), (31, 0), (50, 0)])
def test_a_silence_of_30_ms_is_none_at_50_ms(least: int, count: int, make_trace: Trace) -> None:
    found = analyze(make_trace(silent(30 * MS)), Thresholds(silence_over_ns=least * MS))
    assert found.silences["duration_ns"].tolist() == [30 * MS] * count
    assert found.queues["silent_ns"].sum() == count * 30 * MS


@pytest.mark.parametrize(("under", "kind"), [(0, STALL), (10, STALL), (15, STALL), (16, BRIEF), (20, BRIEF)])
def test_a_stall_of_15_ms_is_brief_at_20_ms(under: int, kind: str, make_trace: Trace) -> None:
    found = analyze(make_trace(worker_stall(2, 2.015)), Thresholds(brief_under_ns=under * MS))
    assert found.stalls["duration_ns"].tolist() == [15 * MS]
    assert found.stalls["class"].tolist() == [kind]
    assert found.queues[["stalls", "brief"]].sum().tolist() == [kind == STALL, kind == BRIEF]


def test_a_slow_refill_below_the_threshold_stays_part_of_its_poll(make_trace: Trace) -> None:
    refill = window(4, dur=30 * MS, polls=0, packets=0, refills=1)
    path = make_trace([refill, window(4.01, dur=60 * MS, polls=1)])
    names = ["state", "duration_ns"]
    assert analyze(path).silences[names].to_numpy().tolist() == [
        [slow.SLOW_POLL, 20 * MS],
        [slow.SLOW_REFILL, 30 * MS],
        [slow.SLOW_POLL, 10 * MS],
    ]
    found = analyze(path, Thresholds(silence_over_ns=50 * MS))
    assert found.silences[names].to_numpy().tolist() == [[slow.SLOW_POLL, 60 * MS]]


def test_the_defaults_are_what_a_trace_can_tell_and_what_a_running_trace_counts() -> None:
    assert Thresholds(10 * MS, 10 * MS) == DEFAULT
    assert DEFAULT.silence_over_ns == thresholds.SHORTEST_NS == WINDOW_NS == slow.SLOW_NS


def test_thresholds_that_are_not_given_are_the_defaults() -> None:
    assert choose() == choose(10 * MS) == DEFAULT
    assert choose(brief_under_ns=0) == Thresholds(10 * MS, 0)
    assert choose(S, 2 * S) == Thresholds(S, 2 * S)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"silence_over_ns": 10 * MS - 1},
            "a trace does not tell silences of 9.999999 ms, because it adds up shorter polls and refills in "
            "windows of 10 ms: give 10ms or more.",
        ),
        ({"silence_over_ns": 0}, "a trace does not tell silences of 0 ns, because"),
        ({"silence_over_ns": 0.05}, "a trace does not tell silences of 0.05 ns, because"),
        ({"silence_over_ns": float("nan")}, "a trace does not tell silences of nan ns, because"),
        ({"brief_under_ns": -1}, "no stall is shorter than -1 ns: give 0 or more."),
        ({"brief_under_ns": 10**18 + 1}, "no trace is as long as 1e+09 s: give a shorter time."),
        ({"silence_over_ns": 10**30}, "no trace is as long as 1e+21 s: give a shorter time."),
    ],
)
def test_what_cannot_be_told_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        Thresholds(**given)
    assert str(refused.value).startswith(words) and str(refused.value).count(". ") == 0


@pytest.mark.parametrize(
    ("chosen", "options", "sentence", "member"),
    [
        (DEFAULT, [], None, {}),
        (
            Thresholds(silence_over_ns=50 * MS),
            ["--silence-over", "50ms"],
            "Thresholds: a silence lasts 50 ms or longer (default: 10 ms).",
            {"thresholds": {"silence_over_ns": 50 * MS, "brief_under_ns": 10 * MS}},
        ),
        (
            Thresholds(1500 * MS, 20 * MS),
            ["--silence-over", "1500ms", "--brief-under", "20ms"],
            "Thresholds: a silence lasts 1.5 s or longer (default: 10 ms); a stall shorter than 20 ms is "
            "brief (default: 10 ms).",
            {"thresholds": {"silence_over_ns": 1500 * MS, "brief_under_ns": 20 * MS}},
        ),
        (
            Thresholds(brief_under_ns=0),
            ["--brief-under", "0s"],
            "Thresholds: no stall is brief (default: shorter than 10 ms).",
            {"thresholds": {"silence_over_ns": 10 * MS, "brief_under_ns": 0}},
        ),
    ],
)
def test_thresholds_other_than_the_defaults_are_said(
    chosen: Thresholds, options: list[str], sentence: str | None, member: Mapping[str, Any]
) -> None:
    assert thresholds.options(chosen) == options
    assert thresholds.sentence(chosen) == sentence
    assert thresholds.member(chosen) == member
    again = {
        f"{name[2:].replace('-', '_')}_ns": quantities.nanoseconds(value)
        for name, value in zip(options[::2], options[1::2], strict=True)
    }
    assert choose(**again) == chosen


def test_a_summary_has_them_only_if_they_are_not_the_defaults(make_trace: Trace) -> None:
    path = make_trace([window(1)])
    assert "thresholds" not in summary(analyze(path))
    found = summary(analyze(path, Thresholds(silence_over_ns=S)))
    assert found["thresholds"] == {"silence_over_ns": S, "brief_under_ns": 10 * MS}


def test_a_higher_threshold_keeps_the_long_silences_of_a_recording() -> None:
    path = DATA / "virtio_net_pressure" / "trace.rxt"
    all_, long = analyze(path), analyze(path, Thresholds(silence_over_ns=50 * MS))
    lengths = all_.silences["duration_ns"]
    assert 0 < len(long.silences) < len(all_.silences)
    assert long.silences["duration_ns"].tolist() == lengths[lengths >= 50 * MS].tolist()
    assert long.stalls.equals(all_.stalls)
