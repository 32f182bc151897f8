# SPDX-License-Identifier: GPL-2.0-only
"""How long the gaps between polls of each queue were."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from matplotlib.figure import Figure

from toolkit.report.drawing import empty, show_seconds, title, word, worst_first, write
from toolkit.stalls.scan import gap_edges

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("poll_gaps.png", "poll_gaps.svg")

_QUEUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")


def render(trace: Trace, png: BinaryIO, svg: BinaryIO) -> None:
    """Draw the picture as PNG and as SVG."""
    write(lambda: draw(trace), png, svg)


def draw(trace: Trace) -> Figure:
    """Draw, for each queue, the share of the gaps between polls that are longer than a time."""
    analysis = trace.analysis
    figure = Figure(figsize=(7.5, 4.2))
    axis = figure.subplots()
    # Of a part of a trace these are not known.
    whole = ", in the whole trace" if analysis.span != (analysis.scan.began, analysis.scan.ended) else ""
    axis.set_title(title(analysis, f"Gaps between {word(analysis, 'polls')}{whole}"))
    axis.set_xlabel("gap from the end of one to the next")
    axis.set_ylabel("share of gaps at least so long [%]")
    edges, drawn = gap_edges()[:-1] / 1e9, 0
    for index, queue in worst_first(analysis).iterrows():
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
        empty(axis, "there was none")
        return figure
    axis.set_xscale("log")
    axis.set_yscale("log")
    show_seconds(axis.xaxis)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(color="#e5e5e5", linewidth=0.6)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return figure
