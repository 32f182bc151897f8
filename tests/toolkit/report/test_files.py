# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.conftest import Trace, failed, refilled, window, worker_stall
from toolkit.errors import UserError
from toolkit.report import drawing, files
from toolkit.report.analyze import timeline
from toolkit.stalls import analysis as stalls
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


@pytest.mark.long
def test_summary_and_drawings_of_many_stalls_are_small(make_trace: Trace, tmp_path: Path) -> None:
    """The CSV has all 20,000; with all of them the summary would have 14 MB."""
    events = np.tile(np.concatenate([failed(0), refilled(0)]), 20_000)
    events["ts"] += np.repeat(np.arange(20_000) * 400_000, 2).astype(np.uint64)
    events["ts"][1::2] += np.uint64(200_000)
    events["queue"] = np.repeat(np.arange(20_000) % 2, 2)
    analysis = analyze(make_trace([events]))
    summary = files.summary(analysis, None, None)
    files.save(summary, analysis.stalls, tmp_path)
    assert summary["left_out"] == {"stalls": 19_000}
    assert summary["rest"].startswith(
        "Here are the largest 1,000 of 20,000 stalls. All stalls: toolkit analyze"
    )
    assert len(pd.read_csv(tmp_path / "stalls.csv")) == 20_000
    for name in ("summary.json", "stalls.json"):
        assert (tmp_path / name).stat().st_size < 5_000_000
    assert len(drawing.svg(lambda: timeline.draw(analysis))) < 1_000_000


def test_witness_has_the_longest_of_many_gaps(make_trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "LISTED", 1)
    gaps = [{"start_ns": at, "duration_ns": length, "refused": 1} for at, length in ((1, 5), (9, 7))]
    agreement = {"agrees": True, "gaps": gaps, "gaps_without_stall": []}
    found = files.summary(analyze(make_trace([window(1)])), agreement, None)
    assert found["witness"] == {"agrees": True, "gaps": gaps[1:], "gaps_without_stall": []}
    assert found["left_out"] == {"queues": 1, "gaps": 1}
    assert "the largest 1 of 2 gaps" in found["rest"]


def test_nothing_is_left_out_of_a_small_summary(make_trace: Trace) -> None:
    found = files.summary(analyze(make_trace([window(1)])), None, None)
    assert (found["left_out"], found["rest"]) == ({}, None)


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
