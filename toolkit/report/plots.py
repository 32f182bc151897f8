# SPDX-License-Identifier: GPL-2.0-only
"""What an analysis shows, as pictures: in one file, since all share their titles, colours and scales."""

import io
import textwrap
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from toolkit import drivers
from toolkit.drivers import POSTED
from toolkit.event import KIND, NOT_KNOWN
from toolkit.report.files import PLOTS
from toolkit.report.text import seconds, wall_times
from toolkit.report.text import shown as shown_part
from toolkit.stalls.analysis import Analysis
from toolkit.stalls.scan import gap_edges
from toolkit.stalls.silences import SLOW_POLL, SLOW_REFILL, UNPOLLED
from toolkit.stalls.spans import union
from toolkit.stalls.witness import Witness
from toolkit.trace.clock import to_utc

# The palette of Okabe and Ito, told apart with any kind of colour vision.
STATES = {
    "starved": "#0072b2",
    "napi-off": "#d55e00",
    "blocked": "#e69f00",
    "spinning": "#cc79a7",
    SLOW_REFILL: "#009e73",
    SLOW_POLL: "#56b4e9",
    UNPOLLED: "#f0e442",
}
_OTHER_STATES = ("#999999", "#000000")
SPENT = {"reclaim": "#009e73", "refill": "#56b4e9", "waiting": "#bbbbbb"}
_STEPS = 500
_MOST_SPANS = 4000
"""Intervals that are closer than such a part of the time are drawn as one: a screen shows no more."""
_DPI = 150
_INK = "#333333"
_LANE = 0.07
_LETTER = 0.007
"""Width of a letter of a phase's name, as a share of the timeline's."""
_TITLE = 70
_QUEUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "font.size": 9,
    # A dollar sign in a name is no formula.
    "text.parse_math": False,
    "svg.hashsalt": "rxt",
    "figure.constrained_layout.use": True,
}

ROWS = 16
"""As many queues are drawn in a timeline, and lines in a distribution; those with stalls come first."""

BARS = 40
"""As many stalls are drawn as bars, the longest."""


def save(
    analysis: Analysis, folder: Path, witness: Witness | None = None, phases: pd.DataFrame | None = None
) -> None:
    """Draws each of PLOTS, as PNG and SVG.

    :param folder: an existing directory.
    :param witness: drawn as a strip under the timeline.
    :param phases: drawn as labels over the timeline (witness.read_phases).
    """
    drawings: Mapping[str, Callable[[], Figure]] = {
        "timeline": lambda: timeline(analysis, witness, phases),
        "durations": lambda: durations(analysis),
        "poll_gaps": lambda: poll_gaps(analysis),
        "time_spent": lambda: time_spent(analysis),
    }
    with matplotlib.rc_context(STYLE):
        for name in PLOTS:
            write(drawings[name](), folder, name)


def write(figure: Figure, folder: Path, name: str) -> None:
    """Writes a figure as PNG and SVG, in an rc_context of STYLE."""
    figure.draw_without_rendering()
    # Laid out once is enough.
    figure.set_layout_engine("none")
    figure.savefig(folder / f"{name}.png", dpi=_DPI)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, dpi=_DPI)


def svg(draw: Callable[[], Figure]) -> str:
    """Return what `draw` makes, as the text of an SVG file."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        # What is drawn as pixels, of which there would be too many lines.
        draw().savefig(file, format="svg", metadata={"Date": None}, dpi=_DPI)
    return file.getvalue()


def timeline(
    analysis: Analysis, witness: Witness | None = None, phases: pd.DataFrame | None = None
) -> Figure:
    """Draw the posted buffers of each queue over time, its states shaded, failures marked."""
    queues = _worst_first(analysis)
    looked = [bool((analysis.scan.posted[int(str(index))] != NOT_KNOWN).any()) for index in queues.index]
    # Where nothing was seen there is nothing to draw, unless that is all.
    queues = queues[np.array(looked) | (queues["stalls"] > 0)] if any(looked) else queues
    short = len(queues) > 4
    # Inches: phases, queues, witness.
    tall = [0.36] * (phases is not None) + [0.7 if short else 1.6] * max(len(queues), 1)
    tall += [0.45] * (witness is not None)
    figure = Figure(figsize=(11, sum(tall) + 0.12 * len(tall) + 1.7))
    axes = list(figure.subplots(len(tall), 1, sharex=True, squeeze=False, height_ratios=tall)[:, 0])
    posted = _word(analysis, "posted")
    title = _title(analysis, f"{posted[0].upper()}{posted[1:]} and stalls", len(queues))
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    start, end = ((moment - analysis.scan.began) / 1e9 for moment in analysis.span)
    if phases is not None:
        _draw_phases(axes[0], phases, analysis.scan.began, end)
    first = int(phases is not None)
    for axis, (index, queue) in zip(axes[first:], queues.iterrows(), strict=False):
        _draw_queue(axis, analysis, int(str(index)), queue, short=short)
    if queues.empty:
        _say(axes[first], "no queue was seen")
    if witness is not None:
        _draw_witness(axes[-1], witness, analysis.scan.began, analysis.scan.ended)
    for axis in axes[first : first + max(len(queues), 1)]:
        _hatch_losses(axis, analysis)
    axes[-1].set_xlim(start, max(end, start + 1e-6))
    (began,) = to_utc(analysis.meta, np.array([analysis.scan.began]))
    axes[-1].set_xlabel(f"time since the trace began, at {f'{began:%Y-%m-%d %H:%M:%S.%f}'[:-3]} UTC [s]")
    figure.supylabel("buffers" if posted == POSTED else posted, fontsize=9)
    handles = _legend(analysis, witness, posted)
    columns = len(handles) if len(handles) <= 5 else (len(handles) + 1) // 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def durations(analysis: Analysis) -> Figure:
    """Draw how many stalls lasted how long, by state."""
    figure = Figure(figsize=(7.5, 4.2))
    axis = figure.subplots()
    stalls = analysis.stalls[analysis.stalls["duration_ns"] > 0]
    axis.set_title(_title(analysis, f"Duration of the stalls ({len(analysis.stalls):,})"))
    axis.set_xlabel("duration of the stall")
    axis.set_ylabel("stalls")
    if stalls.empty:
        _say(axis, "no stall")
        return figure
    length = stalls["duration_ns"] / 1e9
    low, high = np.floor(np.log10(length.min()) * 5) / 5, np.ceil(np.log10(length.max()) * 5 + 0.01) / 5
    edges = np.logspace(low, high, max(round((high - low) * 5), 1) + 1)
    states = [state for state in _colours(analysis) if (stalls["state"] == state).any()]
    axis.hist(
        [length[stalls["state"] == state] for state in states],
        bins=list(edges),
        stacked=True,
        color=[_colours(analysis)[state] for state in states],
        label=[f"{state} ({(stalls['state'] == state).sum():,})" for state in states],
        edgecolor="white",
        linewidth=0.5,
    )
    if len(length) <= BARS:
        axis.plot(length, np.zeros(len(length)), "|", color=_INK, ms=10, clip_on=False, label="one stall")
    axis.set_xscale("log")
    axis.set_xlim(edges[0] / 3, edges[-1] * 3)
    _show_seconds(axis.xaxis)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def poll_gaps(analysis: Analysis) -> Figure:
    """Draw, for each queue, the share of the gaps between polls that are longer than a time."""
    figure = Figure(figsize=(7.5, 4.2))
    axis = figure.subplots()
    # Of a part of a trace these are not known.
    whole = ", in the whole trace" if analysis.span != (analysis.scan.began, analysis.scan.ended) else ""
    axis.set_title(_title(analysis, f"Gaps between {_word(analysis, 'polls')}{whole}"))
    axis.set_xlabel("gap from the end of one to the next")
    axis.set_ylabel("share of gaps at least so long [%]")
    edges, drawn = gap_edges()[:-1] / 1e9, 0
    for index, queue in _worst_first(analysis).iterrows():
        counts = analysis.scan.gaps[int(str(index))]
        if not counts.sum():
            continue
        share = 100 * counts[::-1].cumsum()[::-1] / counts.sum()
        used = slice(max(int(np.flatnonzero(counts)[0]) - 1, 0), int(np.flatnonzero(counts)[-1]) + 1)
        axis.step(
            edges[used],
            share[used],
            where="post",
            color=_QUEUES[drawn % len(_QUEUES)],
            linestyle=("-", "--", ":")[drawn // len(_QUEUES) % 3],
            label=f"{queue['device']} {queue['name']}",
        )
        drawn += 1
    if not drawn:
        _say(axis, "there was none")
        return figure
    axis.set_xscale("log")
    axis.set_yscale("log")
    _show_seconds(axis.xaxis)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(color="#e5e5e5", linewidth=0.6)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return figure


def time_spent(analysis: Analysis) -> Figure:
    """Draw, for each stall, the share of its time in reclaim, in the rest of refills, and waiting."""
    stalls = analysis.stalls.nlargest(BARS, "duration_ns").sort_values("start_ns", ascending=False)
    figure = Figure(figsize=(9, 1.7 + 0.24 * max(len(stalls), 1)))
    axis = figure.subplots()
    what = "What the time of each stall went into"
    if len(analysis.stalls) > BARS:
        what += f" (the {BARS} longest of {len(analysis.stalls):,})"
    figure.suptitle(_title(analysis, what), x=0.01, ha="left", fontsize=11)
    axis.set_xlabel("share of the stall's time [%]")
    if stalls.empty:
        _say(axis, "no stall")
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


def _show_seconds(axis: Axis) -> None:
    """Labels a logarithmic axis of seconds; a short one between the powers of ten, too."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    axis.set_major_formatter(EngFormatter("s"))
    axis.set_minor_formatter(NullFormatter())


def _worst_first(analysis: Analysis) -> pd.DataFrame:
    """Return the ROWS queues that stalled most, in the order of the summary."""
    queues = analysis.queues
    return queues.nlargest(ROWS, ["stalled_ns", "packets"]).sort_values(["device", "queue"])


def _colours(analysis: Analysis) -> dict[str, str]:
    """Return the colour of each state that this trace shows, known or not."""
    seen = dict.fromkeys([*analysis.intervals["state"], *analysis.silences["state"]])
    others = dict(zip([state for state in seen if state not in STATES], cycle(_OTHER_STATES), strict=False))
    return {state: colour for state, colour in (STATES | others).items() if state in seen}


def _word(analysis: Analysis, which: str) -> str:
    """Return the word of the drivers that were traced."""
    return drivers.word(which, (each["name"] for each in analysis.meta["drivers"]))


def _title(analysis: Analysis, what: str, shown: int | None = None) -> str:
    meta = analysis.meta
    traced = ", ".join(f"{each['name']} {each.get('variant') or ''}".strip() for each in meta["drivers"])
    some = "" if shown in (None, len(analysis.queues)) else f" ({shown} of {len(analysis.queues)} queues)"
    part = textwrap.wrap(shown_part(analysis) or "", _TITLE)
    return "\n".join([f"{what}{some}", f"{traced}, kernel {meta.get('kernel')}", *part])


def _say(axis: Axes, text: str) -> None:
    """Writes a text where there is nothing to draw."""
    axis.text(
        0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=12, color="#888888"
    )
    axis.set_yticks([])
    axis.set_xticks([])


def _draw_queue(axis: Axes, analysis: Analysis, index: int, queue: pd.Series, *, short: bool) -> None:
    """Draws one queue: states shaded, the fewest buffers posted in each step, failures as marks."""
    scan = analysis.scan
    renamed = {"start_ns": "start", "end_ns": "end"}
    states, stalls, silences = (
        frame[(frame["device"] == queue["device"]) & (frame["queue"] == queue["queue"])].rename(
            columns=renamed
        )
        for frame in (analysis.intervals, analysis.stalls, analysis.silences)
    )
    states, stalls = pd.concat([states, silences]), pd.concat([stalls, silences])
    for lane, (state, colour) in enumerate(_colours(analysis).items()):
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
    axis.plot(time, posted[known], drawstyle="steps-post", color=_INK, linewidth=0.7)
    size = queue["size"]
    top = max(int(posted[known].max(initial=1)), 1 if pd.isna(size) else int(size))
    kind, mine = scan.rare["kind"], scan.rare["queue"] == index
    failed = mine & (kind == KIND["refill"]) & ~scan.rare["complete"]
    _mark(axis, scan.rare["ts"][failed], analysis, 1.08 * top, "x")
    _mark(axis, scan.rare["ts"][mine & (kind == KIND["alloc_fail"])], analysis, 1.24 * top, "v")
    axis.set_ylim(-0.04 * top, 1.36 * top / (1 - _LANE * len(_colours(analysis))))
    axis.set_yticks([0, top])
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


def _mark(axis: Axes, ts: NDArray[np.int64], analysis: Analysis, height: float, marker: str) -> None:
    """Marks moments, no more than one in each step of the timeline."""
    scan = analysis.scan
    steps = np.unique((ts - scan.began) >> max(scan.shift - 1, 0))
    time = steps * (1 << max(scan.shift - 1, 0)) / 1e9
    many = len(time) > _STEPS
    axis.plot(time, np.full(len(time), height), marker, color=_INK, ms=3.5, mew=0.8, rasterized=many)


def _draw_phases(axis: Axes, phases: pd.DataFrame, began: int, length: float) -> None:
    """Draws the phases of the scenario as labelled boxes.

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
    """Draws which share of each short step of time was in gaps: a frame is refused now and then anyway."""
    edges = np.linspace(began, max(ended, began + 1), _STEPS + 1)
    gaps = witness.gaps
    # Of gaps that overlap, as those of several rings do, each counts from where the last ended.
    start = np.maximum(gaps["start"], gaps["end"].cummax().shift(fill_value=0))
    end = np.maximum(gaps["end"], start)
    knots = np.column_stack([start, end]).ravel()
    refused = np.cumsum(np.column_stack([np.zeros(len(gaps)), end - start]).ravel())
    share = np.diff(np.interp(edges, knots, refused)) / np.diff(edges) if len(gaps) else np.zeros(_STEPS)
    axis.stairs(share * 100, (edges - began) / 1e9, fill=True, color=_INK)
    axis.set_ylim(0, 105)
    axis.set_yticks([0, 100])
    axis.set_ylabel("witness\n[% of time]", rotation=0, ha="right", va="center", fontsize=7)


def _hatch_losses(axis: Axes, analysis: Analysis) -> None:
    """Hatches the intervals in which events were dropped."""
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


def _legend(analysis: Analysis, witness: Witness | None, posted: str) -> list[Patch | Line2D]:
    """Return an entry for each thing that is in the timeline."""
    entries: list[Patch | Line2D] = [Line2D([], [], color=_INK, label=f"{posted}, the fewest of each step")]
    entries += [Patch(color=colour, label=state) for state, colour in _colours(analysis).items()]
    kinds = set(analysis.scan.rare["kind"])
    failed = (analysis.scan.rare["kind"] == KIND["refill"]) & ~analysis.scan.rare["complete"]
    if failed.any():
        entries.append(Line2D([], [], color=_INK, marker="x", ls="", ms=5, label="refill failed"))
    if KIND["alloc_fail"] in kinds:
        entries.append(Line2D([], [], color=_INK, marker="v", ls="", ms=5, label="allocation failed"))
    if witness is not None:
        entries.append(Patch(color=_INK, label=f"witness: time of {_word(analysis, 'refused')}"))
    if analysis.scan.losses:
        entries.append(Patch(facecolor="none", edgecolor="#888888", hatch="////", label="events dropped"))
    return entries
