# SPDX-License-Identifier: GPL-2.0-only
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toolkit
from tests.conftest import BEGAN, META, S, Terminal, Trace, event, failed, note, window, worker_stall
from toolkit.report import text
from toolkit.stalls.analysis import analyze, summary
from toolkit.stalls.selection import Selection, select
from toolkit.trace.writer import TraceWriter


def test_verdict_without_a_stall_says_for_how_long(make_trace: Trace) -> None:
    verdict = text.verdict(analyze(make_trace([window(1)])))
    assert verdict == "No stall: eth1 never went deaf in 10.0 s (40 packets on 2 queues)."


def test_verdict_without_a_packet_proves_nothing(make_trace: Trace) -> None:
    assert text.verdict(analyze(make_trace())) == (
        "There was no packet: that no stall was seen on eth1 in 10.0 s proves nothing."
    )


def test_a_trace_that_breaks_off_proves_no_absence(make_trace: Trace) -> None:
    path = make_trace([window(1)], [window(2)])
    path.write_bytes(path.read_bytes()[:-1500])
    assert text.verdict(analyze(path)) == (
        "The trace breaks off after 3.3 s: what happened later is not known. "
        "Until then no stall was seen on eth1 (40 packets on 2 queues)."
    )


def test_what_follows_in_a_trace_that_breaks_off_is_not_known(make_trace: Trace) -> None:
    path = make_trace(worker_stall(1, 2), [window(4)])
    path.write_bytes(path.read_bytes()[:-100])
    verdict = text.verdict(analyze(path))
    assert verdict.startswith(
        "The trace breaks off after 6.7 s: what happened later is not known. eth1 went deaf once in 6.7 s"
    )


def test_verdict_of_one_stall_says_why_it_began(make_trace: Trace) -> None:
    assert text.verdict(analyze(make_trace([window(1), *worker_stall(2, 6)]))) == (
        "eth1 went deaf once in 10.0 s on queue 0, for 4.000 s (starved, of it napi-off 3.999 s): "
        "order-0 allocation failed in a softirq refill (GFP_ATOMIC)."
    )


def test_a_queue_has_its_name_where_a_ring_has_several(make_trace: Trace) -> None:
    traced = {**META["drivers"][0], "name": "qlge", "module": "qlge", "regime": "none"}
    meta = {**META, "drivers": [traced], "devices": [{**META["devices"][0], "driver": "qlge", "queues": []}]}
    napi = [event("napi_off", 3, flags="process|in_worker"), event("napi_on", 3.5, flags="process")]
    analysis = analyze(make_trace([window(1, queue=3), failed(4, queue=3), *napi], meta=meta))
    assert text.stall_table(analysis)["queue"].tolist() == ["rx-0 sbq", "rx-1 lbq"]
    assert text.queue_table(analysis)["queue"].tolist() == ["rx-0 sbq", "rx-1 lbq"]
    alone = analyze(make_trace([failed(2, posted_after=3, queue=3), *napi], meta=meta))
    assert "on rx-0 sbq, for 0.500 s (napi-off): earlier softirq refill of rx-1 lbq failed" in text.verdict(
        alone
    )


def test_a_driver_that_sends_goes_silent(make_trace: Trace) -> None:
    traced = {**META["drivers"][0], "name": "aoe", "module": "aoe", "regime": "kicked by the timer"}
    meta = {**META, "drivers": [traced], "devices": [{**META["devices"][0], "driver": "aoe", "queues": []}]}
    stalled = make_trace([window(1), event("blocked", 2, flags="held"), event("unblocked", 3)], meta=meta)
    assert text.verdict(analyze(stalled)).startswith(
        "eth1 went silent once in 10.0 s on target-0, for 1.000 s"
    )
    assert " eth1 never went silent in 10.0 s" in text.verdict(analyze(make_trace([window(1)], meta=meta)))


def test_verdict_counts_stalls_and_says_which_is_open(make_trace: Trace) -> None:
    verdict = text.verdict(analyze(make_trace([*worker_stall(2, 3), failed(4, queue=1)])))
    assert verdict.startswith("eth1 went deaf 2 times in 10.0 s on 2 queues, at most for 6.000 s (starved)")
    assert verdict.endswith("1 stall had not ended when the trace did.")


def test_what_is_brief_is_told_apart(make_trace: Trace) -> None:
    brief = [*worker_stall(2, 2.004), *worker_stall(4, 4.002)]
    analysis = analyze(make_trace([window(1), *brief]))
    assert text.verdict(analysis) == (
        "No stall: eth1 never went deaf for 10 ms or longer in 10.0 s (40 packets on 2 queues). "
        "Not counted: 2 stalls shorter than 10 ms, 0.006 s in all."
    )
    verdict = text.verdict(analyze(make_trace([window(1), *brief, *worker_stall(5, 6)])))
    assert verdict.startswith("eth1 went deaf once in 10.0 s on queue 0, for 1.000 s")
    assert verdict.endswith("Not counted: 2 stalls shorter than 10 ms, 0.006 s in all.")
    assert text.stall_table(analysis)["class"].tolist() == ["brief", "brief"]
    assert text.queue_table(analysis)["brief"].tolist() == ["2", "0"]


def test_a_reconfiguration_is_told_apart(make_trace: Trace) -> None:
    called = worker_stall(2, 2.5)[2:]
    verdict = text.verdict(analyze(make_trace([window(1), *called])))
    assert verdict.startswith("No stall: eth1 never went deaf for 10 ms or longer")
    assert verdict.endswith(
        "Not counted: 1 reconfiguration, at most 0.499 s long: "
        "the refill worker ran though no refill had failed, as after ethtool -L."
    )


def test_sums_of_a_trace_with_dropped_events_are_marked(make_trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "lossy.rxt"
    events = [window(1), *worker_stall(2, 4)]
    with TraceWriter(path, META) as writer:
        writer.write(np.concatenate(events), note(5, 3, *events))
        writer.close(note(9, 3, *events, end={"reason": "duration"}))
    analysis = analyze(path)
    (queue, _), (stall,) = (
        table.to_dict("records") for table in (text.queue_table(analysis), text.stall_table(analysis))
    )
    assert (queue["packets"], queue["failed"], queue["stalls"]) == ("≥ 40", "≥ 1", "1")
    assert (stall["refills"], stall["failed"]) == ("≥ 2", "≥ 1")
    assert text.LOWER_BOUNDS in text.remarks(analysis, None)
    assert summary(analysis)["lower_bounds"] is True
    whole = analyze(make_trace(events))
    assert summary(whole)["lower_bounds"] is False
    assert text.queue_table(whole)["packets"].tolist() == ["40", "0"]
    assert text.LOWER_BOUNDS not in text.remarks(whole, None)


def test_a_number_of_packets_without_a_stall_is_at_least_so_high(tmp_path: Path) -> None:
    path = tmp_path / "lossy.rxt"
    with TraceWriter(path, META) as writer:
        writer.write(window(1), note(5, 3, window(1)))
    assert "(at least 40 packets on 2 queues)" in text.verdict(analyze(path))


def test_the_worst_device_comes_first(make_trace: Trace) -> None:
    meta = META | {"devices": [*META["devices"], META["devices"][0] | {"ifindex": 4, "name": "eth2"}]}
    events = [*worker_stall(2, 3), failed(4, ifindex=4), event("napi_on", 9)]
    verdict = text.verdict(analyze(make_trace(events, meta=meta)))
    assert verdict.index("eth2 went deaf once") < verdict.index("eth1 went deaf once")


def test_tables_have_units(make_trace: Trace) -> None:
    analysis = analyze(make_trace(worker_stall(2, 6)))
    stalls, queues = text.stall_table(analysis), text.queue_table(analysis)
    row = stalls.to_dict("records")[0]
    assert (row["start [s]"], row["duration [s]"], row["reclaim [s]"]) == ("2.000", "4.000", "1.000")
    assert queues["poll gap max [ms]"].tolist() == ["-", "-"]


def test_only_the_queues_that_stalled_longest_are_listed(
    make_trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = analyze(make_trace([*worker_stall(2, 3, queue=1), window(4), window(5, queue=2)]))
    assert text.queues_title(analysis) == "Queues"
    monkeypatch.setattr(text, "QUEUES", 2)
    assert text.queues_title(analysis) == "The 2 queues of 3 that stalled longest"
    assert text.queue_table(analysis)["queue"].tolist() == ["0", "1"]


def test_only_the_longest_stalls_are_listed(make_trace: Trace) -> None:
    batches = [worker_stall(each, each + 0.01 * each) for each in range(1, 31)]
    table = text.stall_table(analyze(make_trace(*batches, end=40)))
    assert table["start [s]"].tolist() == [f"{each}.000" for each in range(11, 31)]


def _write_witness(folder: Path) -> None:
    """Write a witness beside a trace that agrees with a stall from 2 s to 6 s."""
    gap = {"start_ns": 2 * S, "duration_ns": 4 * S, "refused": 8}
    clock = {"offset_ns": BEGAN, "error_ns": 0}
    (folder / "witness.json").write_text(json.dumps({"device": "eth1", "gaps": [gap], "clock": clock}))


def _rendered(trace: toolkit.traces.Trace, **options: Any) -> str:
    shown = io.StringIO()
    text.render(trace, shown, **options)
    return shown.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_rendered_analysis_ends_with_the_witness(make_trace: Trace, tmp_path: Path, terminal: bool) -> None:
    _write_witness(tmp_path)
    shown = Terminal() if terminal else io.StringIO()
    text.render(toolkit.read(make_trace(worker_stall(2, 6))), shown)
    out = shown.text() if isinstance(shown, Terminal) else shown.getvalue()
    assert out.startswith("eth1 went deaf once")
    assert "Not attached: b; this trace lacks receive interrupts." in out
    assert "6 attempted, 6 delivered, 0 dropped" in out
    assert "The witness agrees" in out[out.index("0 dropped") :]
    assert ("─" in out) == terminal


CLOCK = META | {"clock": META["clock"] | {"realtime_ns": 1_769_860_790_000_000_000}}
"""Began at 11:59:50 on 31 January 2026."""


def test_stalls_have_the_time_of_a_log(make_trace: Trace) -> None:
    trace = toolkit.read(make_trace(worker_stall(2, 6), meta=CLOCK))
    assert text.stall_table(trace.analysis)["start [UTC]"].tolist() == ["11:59:52"]
    assert "\nRecorded from 2026-01-31 11:59:50 UTC on, for 10.0 s.\n" in _rendered(trace)
    days = analyze(make_trace(worker_stall(2, 6), worker_stall(90_000, 90_001), meta=CLOCK, end=100_000))
    assert text.stall_table(days)["start [UTC]"].tolist() == [
        "2026-01-31 11:59:52",
        "2026-02-01 12:59:50",
    ]


@pytest.mark.parametrize(
    ("selection", "verdict"),
    [
        (
            Selection(["eth1"], [0], since=3, until=8.5),
            "Shown: eth1, queue 0, from 3.000 s to 8.500 s (11:59:53 to 11:59:58 UTC); "
            "1 of 3 stalls left out. eth1 went deaf 2 times in 5.5 s on queue 0, at most for 4.000 s ",
        ),
        (
            Selection(shortest=3),
            "Shown: stalls of 3.000 s and more; 2 of 3 stalls left out. eth1 went deaf once in 10.0 s ",
        ),
        (
            Selection(shortest=5),
            "Shown: stalls of 5.000 s and more; 3 of 3 stalls left out. No stall is in what is shown.",
        ),
        (Selection(since=0), "Shown: all; no stall left out. eth1 went deaf 3 times in 10.0 s on 2 queues"),
    ],
)
def test_verdict_on_a_part_says_what_is_left_out(
    make_trace: Trace, selection: Selection, verdict: str
) -> None:
    stalls = [window(1), *worker_stall(2, 6), *worker_stall(7, 8), *worker_stall(7, 9, queue=1)]
    assert text.verdict(select(analyze(make_trace(stalls, meta=CLOCK)), selection)).startswith(verdict)


def test_no_stall_in_a_part_of_a_trace_that_has_none(make_trace: Trace) -> None:
    part = select(analyze(make_trace([window(1)])), Selection(until=2))
    assert text.verdict(part).endswith(
        "no stall left out. No stall: eth1 never went deaf in 2.0 s (40 packets on 2 queues)."
    )


def test_part_of_a_trace_that_breaks_off_proves_no_absence(make_trace: Trace) -> None:
    path = make_trace(worker_stall(1, 2), [window(4)])
    path.write_bytes(path.read_bytes()[:-1500])
    assert text.verdict(select(analyze(path), Selection(since=3))).endswith(
        "1 of 1 stalls left out. The trace breaks off after 3.3 s: what happened later is not known. "
        "No stall is in what is shown."
    )


def test_all_stalls_are_listed_if_wanted(make_trace: Trace) -> None:
    batches = [worker_stall(each, each + 0.01 * each) for each in range(1, 31)]
    trace = toolkit.read(make_trace(*batches, end=40))
    assert len(text.stall_table(trace.analysis, None)) == 30
    for rows, title in ((text.LISTED, "\nThe 20 longest stalls of 30\n"), (None, "\nStalls\n")):
        assert title in _rendered(trace, rows=rows)


def test_witness_of_a_part_is_of_the_whole_trace(make_trace: Trace, tmp_path: Path) -> None:
    _write_witness(tmp_path)
    part = toolkit.read(make_trace(worker_stall(2, 6)), selection=Selection(since=1))
    *_, last = _rendered(part).splitlines()
    assert last.startswith("Of the whole trace: The witness agrees")


def test_probes_that_the_kernel_skipped_are_told(tmp_path: Path) -> None:
    """What they may have hidden is a stall, too."""
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        writer.write(window(1), note(5, 0, window(1)))
        writer.close(
            note(10, 0, window(1), end={"reason": "duration", "missed": {"poll_in": 1, "poll_out": 1111}})
        )
    found = analyze(tmp_path / "a.rxt")
    (line,) = (line for line in text.remarks(found, None) if "skipped" in line)
    why = "because another program or kprobe was at work on that CPU"
    assert line.startswith(f"The kernel skipped 1,112 calls of probes, {why}: ")
    assert "poll_in 1, poll_out 1,111. What they would have told is missing." in line
    assert summary(found)["missed"] == {"poll_in": 1, "poll_out": 1111}
    assert text.verdict(found) == (
        "The kernel skipped calls of probes: that no stall was seen on eth1 in 10.0 s proves nothing."
    )
