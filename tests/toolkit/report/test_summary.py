# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import toolkit
from tests.conftest import Trace, failed, refilled, window
from toolkit import report
from toolkit.report.summary import summary
from toolkit.stalls import analysis as stalls
from toolkit.stalls.analysis import analyze


@pytest.mark.long
def test_summary_and_drawings_of_many_stalls_are_small(make_trace: Trace, tmp_path: Path) -> None:
    """The CSV has all 20,000; with all of them the summary would have 14 MB."""
    events = np.tile(np.concatenate([failed(0), refilled(0)]), 20_000)
    events["ts"] += np.repeat(np.arange(20_000) * 400_000, 2).astype(np.uint64)
    events["ts"][1::2] += np.uint64(200_000)
    events["queue"] = np.repeat(np.arange(20_000) % 2, 2)
    trace = toolkit.read(make_trace([events]))
    summary = trace.summary
    report.save("analyze", trace, tmp_path)
    assert summary["left_out"] == {"stalls": 19_000}
    assert summary["rest"].startswith(
        "Here are the largest 1,000 of 20,000 stalls. All stalls: toolkit analyze"
    )
    assert len(pd.read_csv(tmp_path / "stalls.csv")) == 20_000
    for name in ("summary.json", "stalls.json"):
        assert (tmp_path / name).stat().st_size < 5_000_000
    assert (tmp_path / "timeline.svg").stat().st_size < 1_000_000


def test_witness_has_the_longest_of_many_gaps(make_trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "LISTED", 1)
    gaps = [{"start_ns": at, "duration_ns": length, "refused": 1} for at, length in ((1, 5), (9, 7))]
    agreement = {"agrees": True, "gaps": gaps, "gaps_without_stall": []}
    found = summary(analyze(make_trace([window(1)])), agreement, None)
    assert found["witness"] == {"agrees": True, "gaps": gaps[1:], "gaps_without_stall": []}
    assert found["left_out"] == {"queues": 1, "gaps": 1}
    assert "the largest 1 of 2 gaps" in found["rest"]


def test_nothing_is_left_out_of_a_small_summary(make_trace: Trace) -> None:
    found = summary(analyze(make_trace([window(1)])), None, None)
    assert (found["left_out"], found["rest"]) == ({}, None)
