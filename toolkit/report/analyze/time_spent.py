# SPDX-License-Identifier: GPL-2.0-only
"""What the time of each stall went into, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from matplotlib.figure import Figure

from toolkit.report.drawing import empty, title, write
from toolkit.report.text import seconds, wall_times

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("time_spent.png", "time_spent.svg")

SPENT = {"reclaim": "#009e73", "refill": "#56b4e9", "waiting": "#bbbbbb"}
BARS = 40
"""As many stalls are drawn as bars, the longest."""


def render(trace: Trace, png: BinaryIO, svg: BinaryIO) -> None:
    """Draw the picture as PNG and as SVG."""
    write(lambda: draw(trace), png, svg)


def draw(trace: Trace) -> Figure:
    """Draw, for each stall, the share of its time in reclaim, in the rest of refills, and waiting."""
    analysis = trace.analysis
    stalls = analysis.stalls.nlargest(BARS, "duration_ns").sort_values("start_ns", ascending=False)
    figure = Figure(figsize=(9, 1.7 + 0.24 * max(len(stalls), 1)))
    axis = figure.subplots()
    what = "What the time of each stall went into"
    if len(analysis.stalls) > BARS:
        what += f" (the {BARS} longest of {len(analysis.stalls):,})"
    figure.suptitle(title(analysis, what), x=0.01, ha="left", fontsize=11)
    axis.set_xlabel("share of the stall's time [%]")
    if stalls.empty:
        empty(axis, "no stall")
        return figure
    place, left = np.arange(len(stalls)), np.zeros(len(stalls))
    names = {
        "reclaim": "direct reclaim",
        "refill": "rest of refills in process context",
        "waiting": "no refill in process context",
    }
    # Shares, and no seconds: beside a stall of half a minute one of 10 ms would be no bar at all.
    length = stalls["duration_ns"].clip(lower=1).to_numpy()
    for name, colour in SPENT.items():
        part = 100 * stalls[f"{name}_ns"].to_numpy(np.float64, na_value=0) / length
        axis.barh(place, part, left=left, color=colour, label=names[name], height=0.75)
        left = left + part
    if stalls["reclaim_ns"].isna().any():
        unknown: dict[str, Any] = {"color": "white", "edgecolor": "#888888", "hatch": "////", "linewidth": 0}
        axis.barh(place, 100 - left, left=left, label="not known", height=0.75, **unknown)
    start = (stalls["start_ns"] - analysis.scan.began) / 1e9
    labels = [
        f"{device} {name}, at {at:.2f} s ({utc} UTC): {seconds(lasted)} s {state}{', open' * still}"
        for device, name, at, utc, lasted, state, still in zip(
            stalls["device"],
            stalls["name"],
            start,
            wall_times(analysis, stalls["start_ns"].to_numpy()),
            stalls["duration_ns"],
            stalls["state"],
            stalls["open"],
            strict=True,
        )
    ]
    axis.set_yticks(place, labels, fontsize=8)
    axis.set_ylim(-0.75, len(stalls) - 0.25)
    axis.set_xlim(0, 100)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure
