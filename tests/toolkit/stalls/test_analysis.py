# SPDX-License-Identifier: GPL-2.0-only
import io
import json

import pandas as pd
import pytest

import toolkit
from tests.conftest import META, S, Trace, failed, window, worker_stall
from toolkit.errors import UserError
from toolkit.report.analyze import time_spent
from toolkit.report.text import render
from toolkit.report.trace_page import causes
from toolkit.stalls import analysis
from toolkit.stalls.analysis import analyze, records, summary


def test_table_of_queues_adds_up_events_and_stalls(make_trace: Trace) -> None:
    queues = analyze(make_trace([window(1), *worker_stall(2, 4), failed(5), window(7), window(8)])).queues
    assert queues["name"].tolist() == ["rx-0", "rx-1"]
    busy, idle = queues.to_dict("records")
    assert (busy["stalls"], busy["open"], busy["longest_ns"]) == (2, 0, 2 * S)
    assert busy["stalled_ns"] == 2 * S + round(1.992 * S)
    assert (busy["packets"], busy["polls"], busy["refills"], busy["failed"]) == (120, 15, 3, 2)
    assert (busy["alloc_failures"], busy["workers"], busy["posted_min"]) == (1, 1, 0)
    assert busy["gap_max_ns"] == round(5.992 * S)
    assert (idle["stalls"], idle["packets"]) == (0, 0)
    assert pd.isna(idle["posted_min"]) and pd.isna(idle["gap_p99_ns"])


def test_percentiles_do_not_exceed_the_longest_gap(make_trace: Trace) -> None:
    polls = [window(each / 100, dur=0, polls=1) for each in range(1, 200)]
    row = analyze(make_trace(polls, end=2)).queues.iloc[0]
    assert 9e6 <= row["gap_p50_ns"] <= row["gap_p99_ns"] <= row["gap_max_ns"] == 10_000_000


def test_queues_count_their_stalls_by_class(make_trace: Trace) -> None:
    called = worker_stall(6, 6.5)[2:]
    row = analyze(make_trace([*worker_stall(2, 4), *worker_stall(5, 5.004), *called])).queues.iloc[0]
    assert (row["stalls"], row["brief"], row["reconfigurations"]) == (1, 1, 1)
    # What is brief is time all the same.
    assert (row["stalled_ns"], row["longest_ns"]) == (2 * S + S // 250, 2 * S)


def test_what_a_missing_hook_would_have_told_is_not_known(make_trace: Trace) -> None:
    missing = ("rxt_schedule", "rxt_alloc_failed", "rxt_reclaim_in")
    driver = META["drivers"][0] | {"hooks": [{"program": each, "attached": None} for each in missing]}
    trace = toolkit.read(make_trace([window(1), *worker_stall(2, 4)], meta=META | {"drivers": [driver]}))
    found = trace.analysis
    (stall,), (queue, _) = records(found.stalls), records(found.queues)
    assert [stall[name] for name in ("reclaim_ns", "refill_ns", "fallbacks", "irqs")] == [None] * 4
    assert [queue[name] for name in ("alloc_failures", "fallbacks", "irqs")] == [None] * 3
    assert (stall["waiting_ns"], stall["failed"], queue["packets"]) == (S, 1, 40)
    assert json.loads(json.dumps(summary(found)))["stalls"][0]["reclaim_ns"] is None
    assert causes(found.stalls).iloc[0]["in reclaim [s]"] == "-"
    time_spent.draw(trace)
    render(trace, io.StringIO())


def test_time_in_a_state_that_no_hook_of_the_trace_tells_is_no_column(make_trace: Trace) -> None:
    for hooks, there in (
        ([], False),
        ([{"program": "virtnet_clock", "attached": None}], False),
        ([{"program": "virtnet_clock", "attached": "clock:49"}], True),
    ):
        driver = META["drivers"][0] | {"hooks": hooks}
        found = analyze(make_trace(worker_stall(2, 4), meta=META | {"drivers": [driver]}))
        assert ("unscheduled_ns" in found.stalls) == there
        assert "starved_ns" in found.stalls


def test_summary_is_json_with_all_there_is(make_trace: Trace) -> None:
    found = json.loads(json.dumps(summary(analyze(make_trace([window(1), *worker_stall(2, 4)])))))
    assert (found["kernel"], found["driver"], found["variant"]) == ("6.1.0-test", "virtio_net", "stock")
    assert found["regime"] == "delayed work, NAPI off"
    assert found["hooks_missing"] == [{"program": "b", "missing": "receive interrupts"}]
    assert (found["complete"], found["damage"], found["reason"]) == (True, None, "duration")
    assert found["events"] == 7
    assert found["ledger"] == {"attempted": 7, "delivered": 7, "dropped": 0}
    assert found["stalls"][0]["duration_ns"] == 2 * S
    assert found["stalls"][0]["open"] is False
    assert [queue["queue"] for queue in found["queues"]] == [0, 1]


def test_a_trace_that_was_cut_is_analysed_up_to_there(make_trace: Trace) -> None:
    path = make_trace([window(1)], worker_stall(2, 4), [window(5)])
    path.write_bytes(path.read_bytes()[:-2000])
    found = analyze(path)
    assert found.damage and "is cut off" in found.damage
    assert len(found.stalls) == 1
    assert summary(found)["complete"] is False


def test_trace_without_events_has_all_columns(make_trace: Trace) -> None:
    found = analyze(make_trace())
    assert found.stalls.empty
    assert found.stalls.columns.tolist() == analyze(make_trace([failed(1)])).stalls.columns.tolist()


def test_trace_of_an_unknown_driver_is_refused(make_trace: Trace) -> None:
    path = make_trace(meta=META | {"drivers": [{"name": "nosuch"}]})
    with pytest.raises(UserError, match="nosuch"):
        analyze(path)


def test_records_have_null_for_what_is_not_known() -> None:
    frame = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [True, False]})
    assert records(frame) == [{"a": 1, "b": True}, {"a": None, "b": False}]


def test_summary_has_the_longest_of_many_stalls(make_trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "LISTED", 2)
    lengths = [0.1, 0.5, 0.2, 0.4]
    stalls = [worker_stall(at + 1, at + 1 + length) for at, length in enumerate(lengths)]
    found = summary(analyze(make_trace([window(0.5), *(event for stall in stalls for event in stall)])))
    assert [stall["duration_ns"] / S for stall in found["stalls"]] == [0.5, 0.4]
    assert len(found["queues"]) == 2
    assert found["left_out"] == {"stalls": 2}
