# SPDX-License-Identifier: GPL-2.0-only
"""Draw the metrics of two sets of runs: every run is a mark."""

from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from toolkit.compare.comparison import Comparison
from toolkit.compare.verdict import finding
from toolkit.english import count
from toolkit.report.drawing import write

FILES = ("distributions.png", "distributions.svg")

# Colour, line and mark tell the sets apart; where marks coincide, the candidate's lies inside the base's.
SETS: dict[str, dict[str, Any]] = {
    "base": {
        "color": "#0072b2",
        "linewidth": 2.4,
        "marker": "o",
        "markersize": 7,
        "markerfacecolor": "white",
    },
    "candidate": {"color": "#d55e00", "linewidth": 1.2, "linestyle": "--", "marker": "D", "markersize": 3.5},
}
_COLUMNS = 3
_SCALES = {"ns": 1e-9, "share": 100.0}
_LABELS = {"ns": "{} of a run [s]", "share": "{} of a run [%]"}


def render(found: Comparison, png: BinaryIO, svg: BinaryIO) -> None:
    """Draw the picture as PNG and as SVG."""
    write(lambda: draw(found), png, svg)


def draw(found: Comparison) -> Figure:
    """Draw both sets of runs, with a panel for each metric in which any two runs differ.

    A panel shows for each value [s, %, or a number] how many of the set's runs [%] are at or below the value.
    Runs that were set aside are left out.
    """
    metrics = found.metrics[found.metrics["varies"]]
    rows = max(-(-len(metrics) // _COLUMNS), 1)
    figure = Figure(figsize=(11, 1.6 + 2.4 * rows))
    figure.suptitle(
        f"What the runs of {found.base.name} and {found.candidate.name} were like: {found.verdict}\n"
        f"{found.driver}, kernel {found.kernel}",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    kept = found.runs[found.runs["set_aside"].isna()]
    for axis, (name, metric) in zip(panels, metrics.iterrows(), strict=False):
        _draw(axis, kept[["set", str(name)]], metric, _finding(found, metric))
    for axis in panels[max(len(metrics), 1) :]:
        axis.set_axis_off()
    if metrics.empty:
        panels[0].set_axis_off()
        panels[0].text(0, 0.5, "In every metric, all runs are the same.", transform=panels[0].transAxes)
        return figure
    handles, _ = panels[0].get_legend_handles_labels()
    labels = [
        f"{side.name} ({each}, {count(side.runs, 'run')})"
        for each, side in (("base", found.base), ("candidate", found.candidate))
        if side.runs
    ]
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw(axis: Axes, runs: pd.DataFrame, metric: pd.Series, said: str) -> None:
    """Draw one metric: a step and a mark at each run."""
    name, unit = str(metric.name), str(metric["unit"])
    values = runs[name].to_numpy(np.float64) * _SCALES.get(unit, 1.0)
    left, right = 0.0, 1.05 * values.max()
    for each, style in SETS.items():
        mine = np.sort(values[runs["set"] == each])
        if not len(mine):
            continue
        share = np.arange(1, len(mine) + 1) / len(mine)
        axis.step(
            [left, *mine, right],
            [0, *share, 1],
            where="post",
            markevery=slice(1, -1),
            clip_on=False,
            zorder=3,
            label=each,
            **style,
        )
    axis.set_xlim(left, right)
    axis.set_ylim(0, 1.04)
    axis.set_title(f"{str(metric['title']).capitalize()}\n{said}", fontsize=9)
    axis.set_xlabel(_LABELS.get(unit, "{} of a run").format(metric["title"]))
    axis.set_ylabel("runs at or below [%]")
    if unit not in _SCALES:
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axis.grid(color="#e5e5e5", linewidth=0.6)


def _finding(found: Comparison, metric: pd.Series) -> str:
    """Return in a few words what the test says of a metric."""
    if pd.isna(metric["p_adjusted"]):
        return "not tested"
    word = finding(metric, found.base.runs, found.candidate.runs, found.metrics)
    return f"{word}, adjusted p = {metric['p_adjusted']:.2g}"
