# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import BEGAN, MS, S, Trace, failed, window, worker_stall
from toolkit.errors import UserError
from toolkit.runs import COLUMNS, TraceSet, read_runs, read_set, recovery
from toolkit.stalls.thresholds import Thresholds


def _beside(folder: Path, *, sent: int = 75, refused: int = 25, shortage: bool = True) -> None:
    """Writes a witness of a gap from 2 to 6 s, and a phase from 1 to 5 s."""
    gap = {"start_ns": 2 * S, "duration_ns": 4 * S, "refused": 25}
    clock = {"offset_ns": BEGAN, "error_ns": 0}
    witness = {"device": "eth1", "sent": sent, "refused": refused, "gaps": [gap], "clock": clock}
    witness |= {"rate": 600.0, "size": 60}
    (folder / "witness.json").write_text(json.dumps(witness))
    phase = {"name": "hold", "start_ns": BEGAN + S, "end_ns": BEGAN + 5 * S, "shortage": shortage}
    (folder / "phases.json").write_text(
        json.dumps({"scenario": "knob", "parameters": {"hold": 4}, "phases": [phase]})
    )


def _only(path: Path) -> Any:
    """:return: the one run there."""
    (run,) = read_runs(path).itertuples(index=False)
    return run


def test_run_of_a_trace_alone_knows_no_witness(make_trace: Trace) -> None:
    trace = make_trace([window(1), *worker_stall(2, 6), *worker_stall(7, 8, queue=1), failed(9)])
    run = _only(trace)
    assert (run.trace, run.driver, run.kernel, run.variant) == (
        str(trace),
        "virtio_net",
        "6.1.0-test",
        "stock",
    )
    assert (run.stalls, run.stalled_ns, run.longest_ns, run.open, run.failed) == (3, 6 * S, 4 * S, 1, 3)
    assert (run.duration_ns, run.dropped, run.uncertain, run.packets) == (10 * S, 0, 0, 40)
    for unknown in (
        run.damage,
        run.scenario,
        run.parameters,
        run.rate,
        run.size,
        run.witness,
        run.witness_agrees,
        run.recovery_ns,
        run.refused,
    ):
        assert unknown is pd.NA


def test_run_takes_witness_and_phases_beside_its_trace(make_trace: Trace, tmp_path: Path) -> None:
    make_trace([window(1), *worker_stall(2, 6)])
    _beside(tmp_path)
    run = _only(tmp_path)
    assert (run.scenario, run.refused, run.witness_agrees) == ("knob", 0.25, True)
    assert (run.parameters, run.rate, run.size) == ('{"hold": 4}', 600, 60)
    assert run.recovery_ns == S


def test_a_witness_beside_two_traces_belongs_to_neither(make_trace: Trace, tmp_path: Path) -> None:
    traces = [make_trace([window(1)], name=name) for name in ("a.rxt", "b.rxt")]
    _beside(tmp_path)
    assert read_runs(tmp_path)["refused"].isna().all()
    assert _only(traces[0]).scenario is pd.NA


def test_a_witness_that_disagrees(make_trace: Trace, tmp_path: Path) -> None:
    make_trace([window(1), window(4)])
    _beside(tmp_path)
    run = _only(tmp_path)
    assert not run.witness_agrees
    assert "disagrees" in run.witness


def test_no_frames_are_no_share(make_trace: Trace, tmp_path: Path) -> None:
    make_trace([window(1)])
    _beside(tmp_path, sent=0, refused=0)
    assert _only(tmp_path).refused is pd.NA


def test_a_scenario_without_shortage_has_no_recovery(make_trace: Trace, tmp_path: Path) -> None:
    make_trace(worker_stall(2, 6))
    _beside(tmp_path, shortage=False)
    assert _only(tmp_path).recovery_ns is pd.NA


def test_a_directory_is_searched(make_trace: Trace, tmp_path: Path) -> None:
    for name in ("runs/patched/2", "runs/patched/1"):
        (tmp_path / name).mkdir(parents=True)
        make_trace([window(1)], name=f"{name}/trace.rxt")
    said: list[str] = []
    runs = read_set(tmp_path / "runs", say=said.append).runs
    assert list(runs.columns) == list(COLUMNS)
    assert [Path(each).parent.name for each in runs["trace"]] == ["1", "2"]
    assert runs.attrs["path"] == str(tmp_path / "runs")
    assert said[1].endswith("2/trace.rxt (2 of 2)")


def test_a_set_is_a_sequence_with_tables_of_all(make_trace: Trace) -> None:
    events = {"a.rxt": [], "b.rxt": worker_stall(2, 6), "c.rxt": [window(1)]}
    traces = [make_trace(each, name=name) for name, each in events.items()]
    found = read_set(*traces)
    assert [each.path for each in found] == traces
    assert [each.path for each in found[1:]] == traces[1:]
    assert found.stalls["trace"].tolist() == [str(traces[1])]
    assert found.stalls["duration_ns"].dtype == "int64"
    assert found.queues.groupby("trace")["packets"].sum().tolist() == [0, 0, 40]


def test_all_runs_of_a_set_have_the_same_thresholds(make_trace: Trace) -> None:
    path = make_trace([window(1), *worker_stall(2, 2.015)])
    found = read_set(path, thresholds=Thresholds(brief_under_ns=20 * MS))
    assert found.runs[["stalls", "brief"]].to_numpy().tolist() == [[0, 1]]
    assert found.runs.attrs["thresholds"] == {"silence_over_ns": 10 * MS, "brief_under_ns": 20 * MS}
    assert read_set(path).runs[["stalls", "brief"]].to_numpy().tolist() == [[1, 0]]
    # pandas writes attrs as JSON.
    found.runs.to_parquet(path.with_suffix(".parquet"))
    with pytest.raises(UserError, match="the traces are analyzed by different thresholds"):
        _ = TraceSet([*found, *read_set(path)]).runs


def test_a_damaged_trace_is_a_run_that_says_so(make_trace: Trace) -> None:
    trace = make_trace([window(1)], worker_stall(2, 4), [window(5)])
    trace.write_bytes(trace.read_bytes()[:-2000])
    assert "cut off" in _only(trace).damage


def test_directory_without_a_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no trace \(\*\.rxt\)"):
        read_runs(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_runs(tmp_path / "none.rxt")


@pytest.mark.parametrize(
    ("stalls", "expected"),
    [
        ([], 0),
        ([(0, 5)], 0),  # before any shortage
        ([(12, 15)], 0),  # within
        ([(12, 23)], 3),  # outlasts it
        ([(12, 15), (24, 26)], 6),  # follows it
        ([(12, 21), (45, 58)], 8),  # of two, the longer
        ([(45, 52)], 2),  # of the second alone
    ],
)
def test_recovery_lasts_from_a_shortage_to_the_end_of_its_last_stall(
    stalls: list[tuple[int, int]], expected: int
) -> None:
    table = pd.DataFrame(stalls, columns=["start_ns", "end_ns"], dtype="int64") * MS
    rows = [("calm", 0, 10, False), ("second", 40, 50, True), ("first", 10, 20, True)]
    phases = pd.DataFrame(rows, columns=["name", "start", "end", "shortage"])
    phases[["start", "end"]] *= MS
    assert recovery(table, phases) == expected * MS
