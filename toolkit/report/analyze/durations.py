# SPDX-License-Identifier: GPL-2.0-only
"""How many stalls lasted how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from toolkit.report.drawing import INK, colours, empty, show_seconds, title, write

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("durations.png", "durations.svg")

_TICKS = 40
"""If there are no more stalls, each is also a mark on the axis."""


def render(trace: Trace, png: BinaryIO, svg: BinaryIO) -> None:
    """Draw the picture as PNG and as SVG."""
    write(lambda: draw(trace), png, svg)


def draw(trace: Trace) -> Figure:
    """Draw how many stalls lasted how long, by state."""
    analysis = trace.analysis
    figure = Figure(figsize=(7.5, 4.2))
    axis = figure.subplots()
    stalls = analysis.stalls[analysis.stalls["duration_ns"] > 0]
    axis.set_title(title(analysis, f"Duration of the stalls ({len(analysis.stalls):,})"))
    axis.set_xlabel("duration of the stall")
    axis.set_ylabel("stalls")
    if stalls.empty:
        empty(axis, "no stall")
        return figure
    length = stalls["duration_ns"] / 1e9
    low, high = np.floor(np.log10(length.min()) * 5) / 5, np.ceil(np.log10(length.max()) * 5 + 0.01) / 5
    edges = np.logspace(low, high, max(round((high - low) * 5), 1) + 1)
    states = [state for state in colours(analysis) if (stalls["state"] == state).any()]
    axis.hist(
        [length[stalls["state"] == state] for state in states],
        bins=list(edges),
        stacked=True,
        color=[colours(analysis)[state] for state in states],
        label=[f"{state} ({(stalls['state'] == state).sum():,})" for state in states],
        edgecolor="white",
        linewidth=0.5,
    )
    if len(length) <= _TICKS:
        axis.plot(length, np.zeros(len(length)), "|", color=INK, ms=10, clip_on=False, label="one stall")
    axis.set_xscale("log")
    axis.set_xlim(edges[0] / 3, edges[-1] * 3)
    show_seconds(axis.xaxis)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
