# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pandas as pd
import pytest

from tests.toolkit.fleet.recorded import arrow, recorded, write
from toolkit.errors import UserError
from toolkit.fleet.dataset import SCHEMAS
from toolkit.fleet.frames import SILENCE, STALL, by_place, frames, read


def test_recorded_traces_keep_their_sums(tmp_path: Path) -> None:
    tables = recorded()
    found = read(write(tables, tmp_path / "fleet"))
    assert len(found.traces) == len(tables["traces"])
    assert found.traces["host"].isna().all()
    stalls, silences = (found.intervals[found.intervals["what"] == what] for what in (STALL, SILENCE))
    assert stalls["duration_ns"].sum() == found.traces["stalled_ns"].sum()
    assert silences["duration_ns"].sum() == found.traces["silent_ns"].sum()
    assert found.traces["silence_ns"].sum() == found.intervals["duration_ns"].sum()
    assert silences["cause"].isna().all() and stalls["cause"].notna().all()
    # A driver without NAPI cannot tell silences outside of stalls: that is unknown, not zero.
    assert found.traces["silent_ns"].isna().any()


def test_reconfigurations_are_no_silences() -> None:
    tables = {name: rows.copy() for name, rows in recorded().items()}
    tables["stalls"]["class"] = "reconfiguration"
    assert set(frames(arrow(tables)).intervals["what"]) == {SILENCE}


def test_a_trace_of_two_drivers_is_one_trace() -> None:
    rows = recorded()["traces"].iloc[[0, 0]].assign(driver=["a", "b"], stalled_ns=[3, 4])
    rows["silent_ns"] = pd.array([pd.NA, 5], "Int64")
    found = frames({name: schema.empty_table() for name, schema in SCHEMAS.items()} | arrow({"traces": rows}))
    (trace,) = by_place(found.traces).to_dict("records")
    assert (trace["stalled_ns"], trace["silent_ns"], trace["silence_ns"]) == (7, 5, 12)
    assert trace["duration_ns"] == rows["duration_ns"].iloc[0]


def test_an_empty_dataset_has_frames() -> None:
    found = frames({name: schema.empty_table() for name, schema in SCHEMAS.items()})
    assert found.traces.empty and found.queues.empty and found.intervals.empty
    assert pd.api.types.is_datetime64_dtype(found.traces["day"])


def test_what_is_no_dataset_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset"):
        read(tmp_path)
