# SPDX-License-Identifier: GPL-2.0-only
import functools
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
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
    "durations": {"duration of the stall [s]", "stalls"},
    "napi_gaps": {"gap from the end of a poll to the next poll [s]", "share of gaps at least so long"},
    "time_spent": {"time [s]"},
}
TEXTS: dict[str, dict[str, set[str]]] = {
    "no events": {
        "timeline": {"eth1 rx-0", "eth1 rx-1"},
        "durations": {"Duration of the stalls (0)", "no stall"},
        "napi_gaps": {"no two polls"},
        "time_spent": {"no stall"},
    },
    "one stall": {
        "timeline": {"eth1 rx-0", "starved", "napi-off", "refill failed", "allocation failed"},
        "durations": {"Duration of the stalls (1)", "starved (1)", "one stall"},
        "napi_gaps": {"eth1 rx-0"},
        "time_spent": {"eth1 rx-0, at 2.00 s (00:00:02 UTC), starved", "direct reclaim"},
    },
    "many": {
        "timeline": {"Posted receive buffers and stalls", "eth1 rx-0", "eth1 rx-1"},
        "durations": {"Duration of the stalls (99)", "starved (99)"},
        "napi_gaps": {"no two polls"},
        "time_spent": {"What the time of each stall went into (the 40 longest of 99)"},
    },
    "16 queues": {
        "timeline": {f"eth1 rx-{queue}" for queue in range(16)},
        "durations": {"no stall"},
        "napi_gaps": {f"eth1 rx-{queue}" for queue in range(16)},
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
    for draw in (plots.timeline, plots.durations, plots.napi_gaps, plots.time_spent):
        figure = draw(analysis)
        assert "[s]" in figure.axes[-1].get_xlabel()
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


def test_the_bars_are_as_long_as_the_stalls(make_trace: Trace) -> None:
    axis = plots.time_spent(_one(make_trace)).axes[0]
    assert [round(bar.get_width(), 6) for bar in axis.patches] == [1.0, 1.0, 2.0]  # type: ignore[attr-defined]


def test_plots_of_a_part_say_so_and_end_where_it_does(make_trace: Trace) -> None:
    analysis = analyze(make_trace([window(1), *worker_stall(2, 6), *worker_stall(7, 8)]))
    part = select(analysis, Selection(since=1.5, until=6.5))
    said = "Shown: from 1.500 s to 6.500 s (00:00:01 to 00:00:06 UTC); 1 of 2 stalls left out."
    timeline, gaps = plots.timeline(part), plots.napi_gaps(part)
    assert timeline.axes[-1].get_xlim() == (1.5, 6.5)
    assert said in " ".join(timeline.get_suptitle().split())
    assert gaps.axes[0].get_title().startswith("Gaps between NAPI polls, in the whole trace\n")
    assert said in " ".join(gaps.axes[0].get_title().split())
    assert max(map(len, gaps.axes[0].get_title().splitlines())) <= 70
    assert "Shown" not in plots.timeline(analysis).get_suptitle()
