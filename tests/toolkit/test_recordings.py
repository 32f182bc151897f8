# SPDX-License-Identifier: GPL-2.0-only
"""What is said of traces that were recorded on real machines (tests/data)."""

from pathlib import Path

import pytest

from toolkit.report import text
from toolkit.stalls.analysis import analyze, summary
from toolkit.stalls.runs import read_runs
from toolkit.stalls.witness import compare, read_phases, read_witness

DATA = Path(__file__).parent.parent / "data"


def test_genuine_pressure_on_virtio_net() -> None:
    here = DATA / "virtio_net_pressure"
    analysis, witness = compare(analyze(here / "trace.rxt"), read_witness(here / "witness.json"))
    (stall,) = analysis.stalls.to_dict("records")
    assert (stall["device"], stall["queue"], stall["state"]) == ("eth1", 0, "napi-off")
    assert stall["duration_ns"] == 15_925_938_970
    assert (stall["order"], stall["gfp_names"], stall["context"]) == (0, "GFP_ATOMIC", "softirq")
    assert stall["reclaim_ns"] / stall["duration_ns"] == pytest.approx(0.992, abs=0.001)
    assert not stall["open"]
    assert not stall["uncertain"]
    assert abs(stall["witness_difference_ns"]) < 2_000_000
    assert witness["agrees"]
    phases = read_phases(here / "phases.json").set_index("name")
    assert phases["start"]["pressure"] < stall["start_ns"] < phases["end"]["pressure"]
    found = summary(analysis)
    assert found["complete"]
    ledger = found["ledger"]
    assert ledger["attempted"] == ledger["delivered"] == found["events"]
    assert ledger["dropped"] == 0
    assert text.verdict(analysis).startswith("eth1 went deaf once")


def test_a_recording_is_a_run() -> None:
    (run,) = read_runs(DATA / "virtio_net_pressure").to_dict("records")
    assert (run["driver"], run["variant"], run["scenario"]) == ("virtio_net", "stock", "pressure")
    assert (run["stalls"], run["stalled_ns"], run["open"], run["failed"]) == (1, 15_925_938_970, 0, 1)
    assert run["refused"] == 113441 / (201915 + 113441)
    assert run["recovery_ns"] == 0  # the stall ended 16 s before the shortage did
    assert run["witness_agrees"]
