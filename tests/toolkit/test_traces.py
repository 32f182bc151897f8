# SPDX-License-Identifier: GPL-2.0-only
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import toolkit
from tests.conftest import BEGAN, META, S, Trace, failed, window, worker_stall
from toolkit.errors import UserError
from toolkit.trace.schema import EVENT


def test_the_package_is_light_and_asks_for_no_bcc() -> None:
    heavy = "{'pandas', 'matplotlib', 'pyarrow', 'numpy', 'bcc', 'typer'}"
    code = f"import sys, toolkit; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_events_are_sorted_and_have_words(make_trace: Trace) -> None:
    trace = toolkit.read(make_trace([failed(4)], [window(2), window(3, ifindex=99)]))
    assert list(trace.events) == ["device", *(EVENT.names or ()), "gfp_names"]
    assert trace.events["ts"].tolist() == [BEGAN + second * S for second in (2, 3, 4)]
    assert trace.events["kind"].tolist() == ["window", "window", "refill"]
    assert trace.events["device"].isna().tolist() == [False, True, False]
    assert trace.events["gfp_names"].iloc[2] == "GFP_ATOMIC"
    words = ["device", "kind", "flags", "driver", "gfp_names"]
    assert all(isinstance(trace.events[name].dtype, pd.CategoricalDtype) for name in words)


def test_trace_has_its_tables(make_trace: Trace) -> None:
    trace = toolkit.read(make_trace([window(1), *worker_stall(2, 6, queue=1)]))
    assert trace.meta == META
    assert trace.stalls["duration_ns"].tolist() == [4 * S]
    assert set(trace.states["state"]) == {"starved", "napi-off"}
    assert trace.states["end_ns"].max() == trace.stalls["end_ns"][0]
    assert trace.queues[["queue", "stalls"]].to_numpy().tolist() == [[0, 0], [1, 1]]
    kinds = trace.events["kind"].value_counts()
    ledger = trace.ledger.pivot(index="kind", columns="cpu", values="delivered")
    assert ledger[0].to_dict() == kinds[kinds > 0].to_dict()
    assert not ledger[1].any() and not trace.ledger["dropped"].any()
    assert (trace.ledger["attempted"] == trace.ledger["delivered"]).all()
    assert trace.verdict.startswith("eth1 went deaf once")
    assert trace.summary["verdict"] == trace.verdict
    assert trace.damage is None


def test_a_trace_without_events_has_its_columns(make_trace: Trace) -> None:
    trace = toolkit.read(make_trace())
    assert not trace.events["flags"].str.contains("complete").any()
    assert trace.events.empty and trace.stalls.empty and trace.states.empty
    assert {"start_ns", "end_ns"} <= set(trace.states) and {"duration_ns", "cause"} <= set(trace.stalls)


def test_only_the_beginning_is_read_at_first(make_trace: Trace) -> None:
    path = make_trace([window(1)], [window(2)])
    trace = toolkit.read(path)
    path.write_bytes(path.read_bytes()[:-1500])
    assert trace.damage and "cut off" in trace.damage


def test_witness_lies_beside_the_trace_or_is_named(make_trace: Trace, tmp_path: Path) -> None:
    path = make_trace(worker_stall(2, 6))
    gap = {"start_ns": 2 * S, "duration_ns": 4 * S, "refused": 8}
    witness = {"device": "eth1", "gaps": [gap], "clock": {"offset_ns": BEGAN, "error_ns": 0}}
    assert toolkit.read(path).agreement is None
    (tmp_path / "other.json").write_text(json.dumps(witness))
    (tmp_path / "witness.json").write_text(json.dumps(witness | {"gaps": []}))
    beside, named = toolkit.read(path), toolkit.read(path, witness=tmp_path / "other.json")
    assert beside.agreement and not beside.agreement["agrees"]
    assert named.agreement and named.agreement["agrees"]
    assert named.stalls["witness_difference_ns"].tolist() == [0]


def test_file_that_is_no_trace_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        toolkit.read(tmp_path / "none.rxt")
