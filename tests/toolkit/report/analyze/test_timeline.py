# SPDX-License-Identifier: GPL-2.0-only
import itertools

import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.conftest import BEGAN, META, S, Trace, window, worker_stall
from toolkit.report.analyze import timeline
from toolkit.stalls.analysis import analyze
from toolkit.stalls.selection import Selection, select
from toolkit.stalls.witness import Witness

ONE_STALL = [window(1), *worker_stall(2, 6), window(7)]


def _legend(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_a_timeline_names_what_its_driver_counts(make_trace: Trace) -> None:
    meta = META | {"drivers": [META["drivers"][0] | {"name": "aoe"}]}
    witness = Witness("eth1", pd.DataFrame({"start": [], "end": [], "refused": []}), 0, 1, 1)
    figure = timeline.draw(analyze(make_trace(ONE_STALL, meta=meta)), witness)
    assert figure.get_suptitle().startswith("Skbs in the pool and stalls (1 of 2 queues)\naoe")
    assert figure.get_supylabel() == "skbs in the pool"
    assert _legend(figure)[-1] == "witness: time of requests without an end"
    usual = timeline.draw(analyze(make_trace(ONE_STALL)), witness)
    assert usual.get_suptitle().startswith("Posted receive buffers and stalls (1 of 2 queues)\n")
    assert usual.get_supylabel() == "buffers"
    assert _legend(usual)[-1] == "witness: time of refused frames"


def test_witness_and_phases_are_rows_of_the_timeline(make_trace: Trace) -> None:
    # The second lies in the first, as that of another ring may.
    start, end = [BEGAN + 2 * S, BEGAN + 3 * S], [BEGAN + 6 * S, BEGAN + 4 * S]
    gaps = pd.DataFrame({"start": start, "end": end, "refused": [9, 1]})
    phases = pd.DataFrame({"name": ["hold"], "start": [BEGAN], "end": [BEGAN + S]})
    phases.attrs["scenario"] = "knob"
    figure = timeline.draw(analyze(make_trace(ONE_STALL)), Witness("eth1", gaps, 0, 1, 1), phases)
    first, *_, last = figure.axes
    assert first.get_ylabel() == "knob"
    assert last.get_ylabel().startswith("witness")
    (strip,) = last.patches
    share, edges, _ = strip.get_data()  # type: ignore[attr-defined]
    inside = (edges[:-1] >= 2.1) & (edges[1:] <= 5.9)
    assert share[inside] == pytest.approx(100)
    assert share[edges[1:] < 2] == pytest.approx(0)
    assert figure.axes[0].texts[0].get_text() == "hold"


def test_phases_that_follow_each_other_have_boxes_in_two_rows(make_trace: Trace) -> None:
    names, ends = ["prepare", "pressure", "recover"], [0.1, 6, 10]
    phases = pd.DataFrame({"name": names, "end": ends, "start": [0, 0.1, 6]})
    phases[["start", "end"]] = BEGAN + phases[["start", "end"]] * S
    phases.attrs["scenario"] = "pressure"
    figure = timeline.draw(analyze(make_trace(ONE_STALL)), None, phases)
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


def test_timeline_of_a_part_says_so_and_ends_where_it_does(make_trace: Trace) -> None:
    analysis = analyze(make_trace([window(1), *worker_stall(2, 6), *worker_stall(7, 8)]))
    figure = timeline.draw(select(analysis, Selection(since=1.5, until=6.5)))
    assert figure.axes[-1].get_xlim() == (1.5, 6.5)
    assert "Shown: from 1.500 s to 6.500 s (00:00:01 to 00:00:06 UTC); 1 of 2 stalls left out." in " ".join(
        figure.get_suptitle().split()
    )
    assert "Shown" not in timeline.draw(analysis).get_suptitle()
