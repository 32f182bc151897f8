# SPDX-License-Identifier: GPL-2.0-only
import functools
import itertools
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import imread

from tests.conftest import BEGAN, META, S, Trace, window, worker_stall
from toolkit.report import plots
from toolkit.report.files import PLOTS
from toolkit.stalls.analysis import Analysis, analyze
from toolkit.stalls.selection import Selection, select
from toolkit.stalls.witness import Witness
from toolkit.trace.schema import Events

CASES: dict[str, list[Events]] = {
    "no events": [],
    "one stall": [window(1), *worker_stall(2, 6), window(7)],
    "many": [each for at in range(1, 100) for each in worker_stall(at / 11, at / 11 + 0.05, queue=at % 2)],
    "16 queues": [window(1 + each / 16, queue=each) for each in range(16)],
}


TITLE = "virtio_net stock, kernel 6.1.0-test"
AXES = {
    "timeline": {"time since the trace began, at 1970-01-01 00:00:00.000 UTC [s]", "buffers"},
    "durations": {"duration of the stall", "stalls"},
    "poll_gaps": {"gap from the end of one to the next", "share of gaps at least so long [%]"},
    "time_spent": {"share of the stall's time [%]"},
}
TEXTS: dict[str, dict[str, set[str]]] = {
    "no events": {
        "timeline": {"eth1 rx-0", "eth1 rx-1"},
        "durations": {"Duration of the stalls (0)", "no stall"},
        "poll_gaps": {"there was none"},
        "time_spent": {"no stall"},
    },
    "one stall": {
        "timeline": {"eth1 rx-0", "starved", "napi-off", "refill failed", "allocation failed"},
        "durations": {"Duration of the stalls (1)", "starved (1)", "one stall"},
        "poll_gaps": {"eth1 rx-0"},
        "time_spent": {"eth1 rx-0, at 2.00 s (00:00:02 UTC): 4.000 s starved", "direct reclaim"},
    },
    "many": {
        "timeline": {"Posted receive buffers and stalls", "eth1 rx-0", "eth1 rx-1"},
        "durations": {"Duration of the stalls (99)", "starved (99)"},
        "poll_gaps": {"there was none"},
        "time_spent": {"What the time of each stall went into (the 40 longest of 99)"},
    },
    "16 queues": {
        "timeline": {f"eth1 rx-{queue}" for queue in range(16)},
        "durations": {"no stall"},
        "poll_gaps": {f"eth1 rx-{queue}" for queue in range(16)},
        "time_spent": {"no stall"},
    },
}


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_every_plot_says_what_it_shows(case: str, make_trace: Trace) -> None:
    analysis = analyze(make_trace(CASES[case]))
    for name in PLOTS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawing = plots.svg(functools.partial(getattr(plots, name), analysis))
        assert drawing.rstrip().endswith("</svg>")
        # An SVG has each of its texts also as a comment.
        texts = set(re.findall("<!-- (.+) -->", drawing))
        assert texts >= {TITLE} | AXES[name] | TEXTS[case][name]


@pytest.mark.long
def test_plots_are_saved_as_png_and_svg(make_trace: Trace, tmp_path: Path) -> None:
    plots.save(_one(make_trace), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".rxt") == sorted(
        f"{name}.{suffix}" for name in PLOTS for suffix in ("png", "svg")
    )
    for name in PLOTS:
        image = imread(tmp_path / f"{name}.png")
        # 150 pixels an inch: figures are 7.5 to 11 inches wide.
        assert 1125 <= image.shape[1] <= 1650
        assert (image[0, 0] == 1).all()
        assert 0.005 < (image[..., :3].min(axis=2) < 0.9).mean() < 0.5
        assert f"<!-- {TITLE} -->" in (tmp_path / f"{name}.svg").read_text()
    red, green, blue = (int(plots.SPENT["reclaim"][at : at + 2], 16) for at in (1, 3, 5))
    pixels = np.rint(imread(tmp_path / "time_spent.png")[..., :3] * 255)
    # A quarter of the one bar, and its mark in the legend.
    assert (pixels == (red, green, blue)).all(axis=2).sum() > 1000


def _one(make_trace: Trace) -> Analysis:
    return analyze(make_trace(CASES["one stall"]))


def test_axes_have_units(make_trace: Trace) -> None:
    analysis = _one(make_trace)
    for draw in (plots.timeline, plots.durations, plots.poll_gaps, plots.time_spent):
        figure = draw(analysis)
        figure.draw_without_rendering()
        axis = figure.axes[-1]
        ticks = [each.get_text() for each in axis.get_xticklabels()]
        assert re.search(r"\[(s|%)\]", axis.get_xlabel()) or all(each.endswith("s") for each in ticks)
        title = (
            figure.get_suptitle()
            or figure.axes[0].get_title(loc="center")
            or figure.axes[0].get_title("left")
        )
        assert "virtio_net stock, kernel 6.1.0-test" in title


def _legend(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_a_timeline_names_what_its_driver_counts(make_trace: Trace) -> None:
    meta = META | {"drivers": [META["drivers"][0] | {"name": "aoe"}]}
    witness = Witness("eth1", pd.DataFrame({"start": [], "end": [], "refused": []}), 0, 1, 1)
    figure = plots.timeline(analyze(make_trace(CASES["one stall"], meta=meta)), witness)
    assert figure.get_suptitle().startswith("Skbs in the pool and stalls (1 of 2 queues)\naoe")
    assert figure.get_supylabel() == "skbs in the pool"
    assert _legend(figure)[-1] == "witness: time of requests without an end"
    usual = plots.timeline(_one(make_trace), witness)
    assert usual.get_suptitle().startswith("Posted receive buffers and stalls (1 of 2 queues)\n")
    assert usual.get_supylabel() == "buffers"
    assert _legend(usual)[-1] == "witness: time of refused frames"


def test_witness_and_phases_are_rows_of_the_timeline(make_trace: Trace) -> None:
    # The second lies in the first, as that of another ring may.
    start, end = [BEGAN + 2 * S, BEGAN + 3 * S], [BEGAN + 6 * S, BEGAN + 4 * S]
    gaps = pd.DataFrame({"start": start, "end": end, "refused": [9, 1]})
    phases = pd.DataFrame({"name": ["hold"], "start": [BEGAN], "end": [BEGAN + S]})
    phases.attrs["scenario"] = "knob"
    figure = plots.timeline(_one(make_trace), Witness("eth1", gaps, 0, 1, 1), phases)
    first, *_, last = figure.axes
    assert first.get_ylabel() == "knob"
    assert last.get_ylabel().startswith("witness")
    (strip,) = last.patches
    share, edges, _ = strip.get_data()  # type: ignore[attr-defined]
    inside = (edges[:-1] >= 2.1) & (edges[1:] <= 5.9)
    assert share[inside] == pytest.approx(100)
    assert share[edges[1:] < 2] == pytest.approx(0)
    assert figure.axes[0].texts[0].get_text() == "hold"


def test_the_bars_are_shares_of_the_stalls(make_trace: Trace) -> None:
    events = [*worker_stall(2, 6), *worker_stall(7, 7.002)]
    axis = plots.time_spent(analyze(make_trace(events))).axes[0]
    widths = [round(bar.get_width(), 6) for bar in axis.patches]  # type: ignore[attr-defined]
    # A stall of 2 ms beside one of 4 s can be seen as well.
    assert widths == [25, 25, 25, 25, 50, 50]
    assert axis.get_xlim() == (0, 100)


def _ticks(axis: Axis) -> list[str]:
    """Return the labels of those ticks of an axis that are in view."""
    low, high = axis.get_view_interval()
    axis.figure.draw_without_rendering()  # type: ignore[union-attr]
    places = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
    return [label.get_text() for place, label in places if low <= place <= high]


def test_the_axis_of_one_stall_can_be_read(make_trace: Trace) -> None:
    assert _ticks(plots.durations(_one(make_trace)).axes[0].xaxis) == ["2 s", "5 s", "10 s"]


def test_the_axis_of_many_durations_has_powers_of_ten(make_trace: Trace) -> None:
    events = [*worker_stall(1, 1.0015), *worker_stall(2, 9)]
    ticks = _ticks(plots.durations(analyze(make_trace(events))).axes[0].xaxis)
    assert ticks == ["1 ms", "10 ms", "100 ms", "1 s", "10 s"]


def test_phases_that_follow_each_other_have_boxes_in_two_rows(make_trace: Trace) -> None:
    names, ends = ["prepare", "pressure", "recover"], [0.1, 6, 10]
    phases = pd.DataFrame({"name": names, "end": ends, "start": [0, 0.1, 6]})
    phases[["start", "end"]] = BEGAN + phases[["start", "end"]] * S
    phases.attrs["scenario"] = "pressure"
    figure = plots.timeline(_one(make_trace), None, phases)
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
    spans = plots._spans(start, start + 1_000_000, analysis)
    assert spans == [(1.0, 0.004), (5.0, 0.001)]


def test_plots_of_a_part_say_so_and_end_where_it_does(make_trace: Trace) -> None:
    analysis = analyze(make_trace([window(1), *worker_stall(2, 6), *worker_stall(7, 8)]))
    part = select(analysis, Selection(since=1.5, until=6.5))
    said = "Shown: from 1.500 s to 6.500 s (00:00:01 to 00:00:06 UTC); 1 of 2 stalls left out."
    timeline, gaps = plots.timeline(part), plots.poll_gaps(part)
    assert timeline.axes[-1].get_xlim() == (1.5, 6.5)
    assert said in " ".join(timeline.get_suptitle().split())
    assert gaps.axes[0].get_title().startswith("Gaps between NAPI polls, in the whole trace\n")
    assert said in " ".join(gaps.axes[0].get_title().split())
    assert max(map(len, gaps.axes[0].get_title().splitlines())) <= 70
    assert "Shown" not in plots.timeline(analysis).get_suptitle()
