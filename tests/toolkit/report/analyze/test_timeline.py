# SPDX-License-Identifier: GPL-2.0-only
import itertools
import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

import toolkit
from tests.conftest import BEGAN, DATA, META, MS, S, Trace, window, worker_stall
from toolkit.report.analyze import timeline
from toolkit.stalls.analysis import analyze
from toolkit.stalls.selection import Selection
from toolkit.stalls.thresholds import Thresholds

ONE_STALL = [window(1), *worker_stall(2, 6), window(7)]


def _write_witness(folder: Path, *gaps: tuple[int, int]) -> None:
    """Write a witness beside a trace: begin and end of each gap, in seconds of the trace."""
    rows = [{"start_ns": start * S, "duration_ns": (end - start) * S, "refused": 9} for start, end in gaps]
    clock = {"offset_ns": BEGAN, "error_ns": 0}
    (folder / "witness.json").write_text(json.dumps({"device": "eth1", "gaps": rows, "clock": clock}))


def _write_phases(folder: Path, scenario: str, *phases: tuple[str, float, float]) -> None:
    """Write phases beside a trace: name, begin and end of each, in seconds of the trace."""
    rows = [
        {
            "name": name,
            "start_ns": BEGAN + round(start * S),
            "end_ns": BEGAN + round(end * S),
            "shortage": False,
        }
        for name, start, end in phases
    ]
    (folder / "phases.json").write_text(json.dumps({"scenario": scenario, "phases": rows}))


def _legend(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_a_timeline_names_what_its_driver_counts(make_trace: Trace, tmp_path: Path) -> None:
    meta = META | {"drivers": [META["drivers"][0] | {"name": "aoe"}]}
    _write_witness(tmp_path)
    figure = timeline.draw(toolkit.read(make_trace(ONE_STALL, meta=meta)))
    assert figure.get_suptitle().startswith("Skbs in the pool and stalls (1 of 2 queues)\naoe")
    assert figure.get_supylabel() == "skbs in the pool"
    assert _legend(figure)[-1] == "witness: time of requests without an end"
    usual = timeline.draw(toolkit.read(make_trace(ONE_STALL)))
    assert usual.get_suptitle().startswith("Posted receive buffers and stalls (1 of 2 queues)\n")
    assert usual.get_supylabel() == "buffers"
    assert _legend(usual)[-1] == "witness: time of refused frames"


def test_where_nobody_can_look_at_a_ring_nothing_is_said_to_be_posted() -> None:
    figure = timeline.draw(toolkit.read(DATA / "generic" / "trace.rxt"))
    assert figure.get_suptitle().startswith("Stalls\ngeneric")
    assert figure.get_supylabel() == ""
    assert _legend(figure)[:2] == ["no-work", "dropping"]
    assert [len(axis.get_yticks()) for axis in figure.axes[1:3]] == [0, 0]


def test_witness_and_phases_are_rows_of_the_timeline(make_trace: Trace, tmp_path: Path) -> None:
    # The second gap lies in the first, as that of another ring may.
    _write_witness(tmp_path, (2, 6), (3, 4))
    _write_phases(tmp_path, "knob", ("hold", 0, 1))
    figure = timeline.draw(toolkit.read(make_trace(ONE_STALL)))
    first, *_, last = figure.axes
    assert first.get_ylabel() == "knob"
    assert last.get_ylabel().startswith("witness")
    (strip,) = last.patches
    share, edges, _ = strip.get_data()  # type: ignore[attr-defined]
    inside = (edges[:-1] >= 2.1) & (edges[1:] <= 5.9)
    assert share[inside] == pytest.approx(100)
    assert share[edges[1:] < 2] == pytest.approx(0)
    assert figure.axes[0].texts[0].get_text() == "hold"


def test_phases_that_follow_each_other_have_boxes_in_two_rows(make_trace: Trace, tmp_path: Path) -> None:
    _write_phases(tmp_path, "pressure", ("prepare", 0, 0.1), ("pressure", 0.1, 6), ("recover", 6, 10))
    figure = timeline.draw(toolkit.read(make_trace(ONE_STALL)))
    figure.draw_without_rendering()
    axis = figure.axes[0]
    boxes = [patch.get_window_extent() for patch in axis.patches]
    texts = [text.get_window_extent() for text in axis.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(texts, 2))
    # The first is too short for its name, which lies in its row beside it.
    assert texts[0].x0 >= boxes[0].x1 - 1 and not texts[0].overlaps(boxes[1])
    for text, box in list(zip(texts, boxes, strict=True))[1:]:
        assert box.x0 < text.x0 < text.x1 < box.x1 and box.y0 <= text.y0 < text.y1 <= box.y1


def test_intervals_that_no_screen_tells_apart_are_drawn_as_one(make_trace: Trace) -> None:
    analysis = analyze(make_trace([window(1)]))
    start = pd.Series([BEGAN + S, BEGAN + S + 3_000_000, BEGAN + 5 * S])
    spans = timeline._spans(start, start + 1_000_000, analysis)
    assert spans == [(1.0, 0.004), (5.0, 0.001)]


def test_timeline_says_which_silences_it_shades(make_trace: Trace) -> None:
    path = make_trace([window(1)])
    drawn = timeline.draw(toolkit.read(path, thresholds=Thresholds(silence_over_ns=50 * MS)))
    assert "and stalls; silences of 50 ms or longer" in drawn.get_suptitle()
    assert "silences" not in timeline.draw(toolkit.read(path)).get_suptitle()


def test_timeline_of_a_part_says_so_and_ends_where_it_does(make_trace: Trace) -> None:
    path = make_trace([window(1), *worker_stall(2, 6), *worker_stall(7, 8)])
    figure = timeline.draw(toolkit.read(path, selection=Selection(since=1.5, until=6.5)))
    assert figure.axes[-1].get_xlim() == (1.5, 6.5)
    assert "Shown: from 1.500 s to 6.500 s (00:00:01 to 00:00:06 UTC); 1 of 2 stalls left out." in " ".join(
        figure.get_suptitle().split()
    )
    assert "Shown" not in timeline.draw(toolkit.read(path)).get_suptitle()
