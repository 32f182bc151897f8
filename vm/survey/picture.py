# SPDX-License-Identifier: GPL-2.0-only
"""The picture of the survey: each run a bar, from when memory was kept back."""

from collections.abc import Sequence
from itertools import groupby
from statistics import median
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from toolkit.report import drawing
from vm.survey.outcome import Outcome

#: Seconds that are drawn, before the hold and after its end.
_BEFORE, _BEHIND = 0.5, 6.0
_OTHER = "#999999"
#: States that no other picture has beside each other share a colour there.
_COLOURS = {**drawing.STATES, "no-work": "#56b4e9", "dropping": "#e69f00"}
_DEATH: dict[str, Any] = {"marker": "x", "color": "black", "markersize": 4, "linestyle": "none", "zorder": 3}


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw the states of each run over time: of driver after driver, kernel after kernel."""
    drivers = list(dict.fromkeys(run.driver for run in outcomes))
    rows = len(outcomes)
    figure = Figure(figsize=(9, 1.5 + 0.09 * rows + 0.25 * len(drivers)))
    axes = figure.subplots()
    hold = median(run.hold_s for run in outcomes if run.hold_s is not None)
    axes.axvspan(0, hold, color="#eeeeee", zorder=0)
    labels: dict[float, str] = {}
    row, told = 0.0, set()
    for driver in drivers:
        for kernel, group in groupby(
            [run for run in outcomes if run.driver == driver], lambda run: run.kernel
        ):
            first = row
            for run in group:
                told |= _bar(axes, run, row, hold)
                row += 1
            labels[(first + row - 1) / 2] = f"{driver}  {kernel}"
            row += 0.6
        row += 1.4
    axes.set_yticks(list(labels), list(labels.values()))
    axes.set_ylim(row - 1.5, -1.5)
    axes.set_xlim(-_BEFORE, hold + _BEHIND)
    axes.set_xlabel("seconds since memory was kept back (grey: kept back)")
    axes.set_title("What NICs do when memory is short: each bar is a run")
    handles: list[Artist] = [Patch(color=_COLOURS[state], label=state) for state in _COLOURS if state in told]
    if any(run.died for run in outcomes):
        handles.append(Line2D([], [], **_DEATH, label="the kernel panicked"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) or 1, frameon=False)
    return figure


def _bar(axes: Axes, run: Outcome, row: float, hold: float) -> set[str]:
    """Draw a run as a bar; return the states that it has."""
    axes.axhline(row, color="#dddddd", linewidth=0.4, zorder=1)
    if run.died:
        axes.plot(0, row, **_DEATH)
    for each in run.intervals:
        end = hold + _BEHIND if each.end_s is None else each.end_s
        axes.barh(row, end - each.start_s, left=each.start_s, height=0.9, color=_colour(each.state), zorder=2)
    return {each.state for each in run.intervals}


def _colour(state: str) -> str:
    return _COLOURS.get(state, _OTHER)
