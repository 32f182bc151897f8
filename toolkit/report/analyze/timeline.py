# SPDX-License-Identifier: GPL-2.0-only
"""The posted buffers of each queue over time, with its stalls."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from toolkit.driver import POSTED
from toolkit.english import duration
from toolkit.event import KIND, NOT_KNOWN
from toolkit.report.drawing import INK, colours, empty, title, word, worst_first, write
from toolkit.stalls.accounts import Witness
from toolkit.stalls.analysis import Analysis
from toolkit.stalls.spans import union
from toolkit.stalls.thresholds import DEFAULT
from toolkit.trace.clock import to_utc

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("timeline.png", "timeline.svg")

_STEPS = 500
_MOST_SPANS = 4000
"""Intervals that are closer than such a part of the time are drawn as one: a screen shows no more."""
_LANE = 0.07
_LETTER = 0.007
"""Width of a letter of a phase's name, as a share of the timeline's."""


def render(trace: Trace, png: BinaryIO, svg: BinaryIO) -> None:
    """Draw the picture as PNG and as SVG."""
    write(lambda: draw(trace), png, svg)


def draw(trace: Trace) -> Figure:
    """Draw the posted buffers of each queue over time, its states shaded, failures marked."""
    analysis, witness, phases = trace.analysis, trace.witness, trace.phases
    queues = worst_first(analysis)
    looked = [bool((analysis.scan.posted[int(str(index))] != NOT_KNOWN).any()) for index in queues.index]
    # Where nothing was seen there is nothing to draw, unless that is all.
    queues = queues[np.array(looked) | (queues["stalls"] > 0)] if any(looked) else queues
    short = len(queues) > 4
    # Inches: phases, queues, witness.
    tall = [0.36] * (phases is not None) + [0.7 if short else 1.6] * max(len(queues), 1)
    tall += [0.45] * (witness is not None)
    figure = Figure(figsize=(11, sum(tall) + 0.12 * len(tall) + 1.7))
    axes = list(figure.subplots(len(tall), 1, sharex=True, squeeze=False, height_ratios=tall)[:, 0])
    posted = word(analysis, "posted")
    what = f"{posted[0].upper()}{posted[1:]} and stalls" if any(looked) else "Stalls"
    if (least := analysis.thresholds.silence_over_ns) != DEFAULT.silence_over_ns:
        what += f"; silences of {duration(least)} or longer"
    figure.suptitle(title(analysis, what, len(queues)), x=0.01, ha="left", fontsize=12)
    start, end = ((moment - analysis.scan.began) / 1e9 for moment in analysis.span)
    if phases is not None:
        _draw_phases(axes[0], phases, analysis.scan.began, end)
    first = int(phases is not None)
    for axis, (index, queue) in zip(axes[first:], queues.iterrows(), strict=False):
        _draw_queue(axis, analysis, int(str(index)), queue, short=short)
    if queues.empty:
        empty(axes[first], "no queue was seen")
    if witness is not None:
        _draw_witness(axes[-1], witness, analysis.scan.began, analysis.scan.ended)
    for axis in axes[first : first + max(len(queues), 1)]:
        _hatch_losses(axis, analysis)
    axes[-1].set_xlim(start, max(end, start + 1e-6))
    (began,) = to_utc(analysis.meta, np.array([analysis.scan.began]))
    axes[-1].set_xlabel(f"time since the trace began, at {f'{began:%Y-%m-%d %H:%M:%S.%f}'[:-3]} UTC [s]")
    if any(looked):
        figure.supylabel("buffers" if posted == POSTED else posted, fontsize=9)
    handles = _legend(analysis, witness, posted if any(looked) else None)
    columns = len(handles) if len(handles) <= 5 else (len(handles) + 1) // 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _draw_queue(axis: Axes, analysis: Analysis, index: int, queue: pd.Series, *, short: bool) -> None:
    """Draw one queue: states shaded, the fewest buffers posted in each step, failures as marks."""
    scan = analysis.scan
    renamed = {"start_ns": "start", "end_ns": "end"}
    states, stalls, silences = (
        frame[(frame["device"] == queue["device"]) & (frame["queue"] == queue["queue"])].rename(
            columns=renamed
        )
        for frame in (analysis.intervals, analysis.stalls, analysis.silences)
    )
    states, stalls = pd.concat([states, silences]), pd.concat([stalls, silences])
    for lane, (state, colour) in enumerate(colours(analysis).items()):
        # The stall is shaded as the state of most of its time; a lane on top for each state.
        low = 1 - (lane + 1) * _LANE
        for frame, heights, alpha in (
            (stalls[stalls["state"] == state], (0, 1), 0.25),
            (states[states["state"] == state], (low, _LANE), 1.0),
        ):
            axis.broken_barh(
                spans := _spans(frame["start"], frame["end"], analysis),
                heights,
                transform=axis.get_xaxis_transform(),
                rasterized=len(spans) > _STEPS,
                facecolor=(colour, alpha),
                edgecolor=(colour, alpha),
                linewidth=0.8,
            )
    posted = scan.posted[index]
    known = np.flatnonzero(posted != NOT_KNOWN)
    time = (known * (1 << scan.shift)) / 1e9
    axis.plot(time, posted[known], drawstyle="steps-post", color=INK, linewidth=0.7)
    size = queue["size"]
    top = max(int(posted[known].max(initial=1)), 1 if pd.isna(size) else int(size))
    kind, mine = scan.rare["kind"], scan.rare["queue"] == index
    failed = mine & (kind == KIND["refill"]) & ~scan.rare["complete"].astype(bool)
    _mark(axis, scan.rare["ts"][failed], analysis, 1.08 * top, "x")
    _mark(axis, scan.rare["ts"][mine & (kind == KIND["alloc_fail"])], analysis, 1.24 * top, "v")
    axis.set_ylim(-0.04 * top, 1.36 * top / (1 - _LANE * len(colours(analysis))))
    axis.set_yticks([0, top] if len(known) else [])
    label = f"{queue['device']} {queue['name']}"
    axis.set_ylabel(label, rotation=0, ha="right", va="center") if short else axis.set_title(
        label, fontsize=9
    )


def _spans(start: pd.Series, end: pd.Series, analysis: Analysis) -> list[tuple[float, float]]:
    """Return start since the trace began and length [s] of each interval; those that are too close to be
    told apart are one."""
    scan = analysis.scan
    least = max((scan.ended - scan.began) // _MOST_SPANS, 1)
    edges = union(start.to_numpy(np.int64) - scan.began, end.to_numpy(np.int64) - scan.began + least)
    # An interval without length is drawn, too.
    edges[:, 1] -= least
    return [(first / 1e9, (last - first) / 1e9) for first, last in edges.tolist()]


def _mark(axis: Axes, ts: ArrayLike, analysis: Analysis, height: float, marker: str) -> None:
    """Mark moments, no more than one in each step of the timeline."""
    scan = analysis.scan
    steps = np.unique((np.asarray(ts, np.int64) - scan.began) >> max(scan.shift - 1, 0))
    time = steps * (1 << max(scan.shift - 1, 0)) / 1e9
    many = len(time) > _STEPS
    axis.plot(time, np.full(len(time), height), marker, color=INK, ms=3.5, mew=0.8, rasterized=many)


def _draw_phases(axis: Axes, phases: pd.DataFrame, began: int, length: float) -> None:
    """Draw the phases of the scenario as labelled boxes.

    :param length: of the axis [s].
    """
    starts, ends = ((phases[name].to_numpy() - began) / 1e9 for name in ("start", "end"))
    for number, (name, first, last) in enumerate(zip(phases["name"], starts, ends, strict=True)):
        # In two rows: the name of a phase that is too short for it has room beside its box.
        low = 0.5 * (1 - number % 2)
        axis.axvspan(first, last, low, low + 0.5, color=("#dddddd", "#eeeeee")[number % 2], linewidth=0)
        wide = len(name) * _LETTER * length
        fits = last - first > wide
        after = last + wide < min([length, *starts[number + 2 : number + 3]])
        axis.text(
            (first + last) / 2 if fits else last if after else first,
            low + 0.23,
            name if fits else f" {name} ",
            ha="center" if fits else "left" if after else "right",
            va="center",
            fontsize=8,
            clip_on=True,
        )
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    axis.set_ylabel(phases.attrs.get("scenario", ""), rotation=0, ha="right", va="center", fontsize=8)
    axis.spines[:].set_visible(False)
    axis.tick_params(bottom=False)


def _draw_witness(axis: Axes, witness: Witness, began: int, ended: int) -> None:
    """Draw which share of each short step of time was in gaps: a frame is refused now and then anyway."""
    edges = np.linspace(began, max(ended, began + 1), _STEPS + 1)
    gaps = witness.gaps
    # Of gaps that overlap, as those of several rings do, each counts from where the last ended.
    start = np.maximum(gaps["start"], gaps["end"].cummax().shift(fill_value=0))
    end = np.maximum(gaps["end"], start)
    knots = np.column_stack([start, end]).ravel()
    refused = np.cumsum(np.column_stack([np.zeros(len(gaps)), end - start]).ravel())
    share = np.diff(np.interp(edges, knots, refused)) / np.diff(edges) if len(gaps) else np.zeros(_STEPS)
    axis.stairs(share * 100, (edges - began) / 1e9, fill=True, color=INK)
    axis.set_ylim(0, 105)
    axis.set_yticks([0, 100])
    axis.set_ylabel("witness\n[% of time]", rotation=0, ha="right", va="center", fontsize=7)


def _hatch_losses(axis: Axes, analysis: Analysis) -> None:
    """Hatch the intervals in which events were dropped."""
    losses = pd.DataFrame(analysis.scan.losses, columns=["start", "end"], dtype=np.int64)
    for start, length in _spans(losses["start"], losses["end"], analysis):
        axis.axvspan(
            start,
            start + length,
            facecolor="none",
            edgecolor="#888888",
            hatch="////",
            linewidth=0,
        )


def _legend(analysis: Analysis, witness: Witness | None, posted: str | None) -> list[Patch | Line2D]:
    """Return an entry for each thing that is in the timeline.

    :param posted: what is posted; None where that is not known of any queue.
    """
    entries: list[Patch | Line2D] = []
    if posted:
        entries.append(Line2D([], [], color=INK, label=f"{posted}, the fewest of each step"))
    entries += [Patch(color=colour, label=state) for state, colour in colours(analysis).items()]
    kinds = set(analysis.scan.rare["kind"])
    failed = (analysis.scan.rare["kind"] == KIND["refill"]) & ~analysis.scan.rare["complete"].astype(bool)
    if failed.any():
        entries.append(Line2D([], [], color=INK, marker="x", ls="", ms=5, label="refill failed"))
    if KIND["alloc_fail"] in kinds:
        entries.append(Line2D([], [], color=INK, marker="v", ls="", ms=5, label="allocation failed"))
    if witness is not None:
        entries.append(Patch(color=INK, label=f"witness: time of {word(analysis, 'refused')}"))
    if analysis.scan.losses:
        entries.append(Patch(facecolor="none", edgecolor="#888888", hatch="////", label="events dropped"))
    return entries
