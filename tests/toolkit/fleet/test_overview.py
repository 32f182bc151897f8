# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import MS
from tests.toolkit.fleet.recorded import fleet_of, recorded, write
from toolkit.errors import UserError
from toolkit.fleet import dataset, overview
from toolkit.fleet.findings import GROUPS
from toolkit.stalls.thresholds import DEFAULT, Thresholds


def test_the_summary_of_a_fleet_is_json(tmp_path: Path) -> None:
    directory = write(fleet_of(40, 200), tmp_path / "fleet")
    found = overview.look(directory, "kernel=6.1.*", "kernel=6.12.*")
    summary = json.loads(json.dumps(overview.summary(found), allow_nan=False))
    assert summary["totals"]["traces"] == summary["totals"]["whole"] == 200
    assert summary["totals"]["hosts"] + (summary["totals"]["without_host"] > 0) == len(summary["hosts"])
    assert {f"{name}s" for name in GROUPS} <= set(summary)
    assert summary["hosts"][-1]["host"] is None
    assert summary["outliers"][0]["host"] == "host-0001"
    assert summary["rollout"]["verdict"] == found.rollout.verdict if found.rollout else False
    assert summary["rollout"]["method"]["unit"] == "host"
    assert sum(row["traces"] for row in summary["reasons"]) == 200
    assert summary["left_out"] == {}


def test_traces_of_which_no_host_is_known(tmp_path: Path) -> None:
    found = overview.look(write(recorded(), tmp_path / "fleet"))
    summary = json.loads(json.dumps(overview.summary(found), allow_nan=False))
    assert summary["totals"]["hosts"] == 0 and summary["totals"]["host_mean"] is None
    assert summary["trend"]["p"] is None and summary["rollout"] is None
    assert len(summary["drivers"]) == 5


def test_thresholds_of_a_fleet_are_counted(tmp_path: Path) -> None:
    tables = recorded()
    found = overview.look(write(tables, tmp_path / "usual"))
    every = tables["traces"]["place"].nunique()
    assert found.thresholds == {DEFAULT: every} and "thresholds" not in overview.summary(found)
    traces = tables["traces"]
    longer = traces["place"].str.startswith("virtio_net_variants")
    # Those of an older toolkit do not say by which they were analyzed.
    traces = traces.assign(silence_over_ns=pd.array([50 * MS], "Int64").repeat(len(traces)))
    traces.loc[~longer, ["silence_over_ns", "brief_under_ns"]] = pd.NA
    found = overview.look(write(tables | {"traces": traces}, tmp_path / "mixed"))
    assert found.thresholds == {DEFAULT: every - 10, Thresholds(50 * MS): 10}
    assert json.loads(json.dumps(overview.summary(found)))["thresholds"] == [
        {"silence_over_ns": 10 * MS, "brief_under_ns": 10 * MS, "traces": every - 10},
        {"silence_over_ns": 50 * MS, "brief_under_ns": 10 * MS, "traces": 10},
    ]


def test_mistakes_are_said(tmp_path: Path) -> None:
    dataset.create(tmp_path / "fleet")
    with pytest.raises(UserError, match="there is no trace in the dataset"):
        overview.look(tmp_path / "fleet")
    with pytest.raises(UserError, match="--before and --after go together"):
        overview.look(tmp_path / "fleet", before="kernel=6.1.*")
