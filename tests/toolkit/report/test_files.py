# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.conftest import Trace, window, worker_stall
from toolkit.errors import UserError
from toolkit.report import files
from toolkit.stalls.analysis import analyze
from toolkit.stalls.selection import Selection, select


def test_the_tables_say_the_same(make_trace: Trace, tmp_path: Path) -> None:
    analysis = analyze(make_trace([*worker_stall(2, 6), *worker_stall(7, 8, queue=1)]))
    files.save(files.summary(analysis, None, None), analysis.stalls, tmp_path)
    starts = analysis.stalls["start_ns"].tolist()
    assert len(starts) == 2
    assert pd.read_csv(tmp_path / "stalls.csv")["start_ns"].tolist() == starts
    assert pd.read_parquet(tmp_path / "stalls.parquet")["start_ns"].tolist() == starts
    assert [each["start_ns"] for each in json.loads((tmp_path / "stalls.json").read_text())] == starts
    assert [
        each["start_ns"] for each in json.loads((tmp_path / "summary.json").read_text())["stalls"]
    ] == starts


def test_parquet_has_units_and_what_it_is_of(make_trace: Trace, tmp_path: Path) -> None:
    part = select(analyze(make_trace(worker_stall(2, 6))), Selection(shortest=9))
    files.save(files.summary(part, None, None), part.stalls, tmp_path)
    schema = pq.read_schema(tmp_path / "stalls.parquet")
    units = {field.name: field.metadata[b"unit"].decode() for field in schema}
    expected = {"start_ns": "ns", "starved_ns": "ns", "posted": "buffers", "packets": "packets", "queue": "1"}
    assert units.items() >= expected.items()
    about = json.loads(schema.metadata[b"rxt-summary"])
    assert (about["shown"]["stalls_left_out"], about["kernel"]) == (1, "6.1.0-test")
    assert "stalls" not in about


def test_no_stall_is_a_table_without_rows(make_trace: Trace, tmp_path: Path) -> None:
    analysis = analyze(make_trace([window(1)]))
    files.save(files.summary(analysis, None, None), analysis.stalls, tmp_path)
    assert "duration_ns" in pd.read_csv(tmp_path / "stalls.csv").columns
    assert pd.read_parquet(tmp_path / "stalls.parquet").empty


def test_existing_files_are_refused_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    files.refuse_existing(tmp_path, [tmp_path])
    (tmp_path / "timeline.svg").write_text("mine")
    with pytest.raises(UserError, match=r"timeline.svg exists; .*--force"):
        files.refuse_existing(tmp_path, [tmp_path])
