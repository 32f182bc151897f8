# SPDX-License-Identifier: GPL-2.0-only
"""What all pictures share: colours, titles, axes of seconds; and how they become files."""

import io
import textwrap
from collections.abc import Callable
from itertools import cycle
from typing import Any, BinaryIO

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from toolkit import drivers
from toolkit.report.text import shown as shown_part
from toolkit.stalls.analysis import Analysis
from toolkit.stalls.slow import SLOW_POLL, SLOW_REFILL, UNPOLLED

# The palette of Okabe and Ito, told apart with any kind of colour vision, and three more. Its yellow is
# darker here, since a dark page inverts the lightness.
STATES = {
    "starved": "#0072b2",
    "napi-off": "#d55e00",
    "blocked": "#e69f00",
    "unscheduled": "#7f5539",
    "spinning": "#cc79a7",
    "no-work": "#332288",
    "dropping": "#882255",
    SLOW_REFILL: "#009e73",
    SLOW_POLL: "#56b4e9",
    UNPOLLED: "#c7b42e",
}
_OTHER_STATES = ("#999999", "#000000")
_DPI = 150
INK = "#333333"
_TITLE = 70
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 9,
    # A dollar sign in a name is no formula.
    "text.parse_math": False,
    "svg.hashsalt": "rxt",
    "figure.constrained_layout.use": True,
}
ROWS = 16
"""As many queues are drawn in a timeline, and lines in a distribution; those with stalls come first."""


def write(draw: Callable[[], Figure], png: BinaryIO, svg: BinaryIO) -> None:
    """Write what `draw` makes as PNG and as SVG."""
    with matplotlib.rc_context(STYLE):
        figure = draw()
        figure.draw_without_rendering()
        # Laid out once is enough.
        figure.set_layout_engine("none")
        figure.savefig(png, format="png", dpi=_DPI)
        figure.savefig(svg, format="svg", metadata={"Date": None}, dpi=_DPI)


def svg(draw: Callable[[], Figure]) -> str:
    """Return what `draw` makes, as the text of an SVG file."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        # What is drawn as pixels, of which there would be too many lines.
        draw().savefig(file, format="svg", metadata={"Date": None}, dpi=_DPI)
    return file.getvalue()


def worst_first(analysis: Analysis) -> pd.DataFrame:
    """Return the ROWS queues that stalled most, in the order of the summary."""
    queues = analysis.queues
    return queues.nlargest(ROWS, ["stalled_ns", "packets"]).sort_values(["device", "queue"])


def colours(analysis: Analysis) -> dict[str, str]:
    """Return the colour of each state that this trace shows, known or not."""
    seen = dict.fromkeys([*analysis.intervals["state"], *analysis.silences["state"]])
    others = dict(zip([state for state in seen if state not in STATES], cycle(_OTHER_STATES), strict=False))
    return {state: colour for state, colour in (STATES | others).items() if state in seen}


def word(analysis: Analysis, which: str) -> str:
    """Return the word of the drivers that were traced."""
    return drivers.word(which, (each["name"] for each in analysis.meta["drivers"]))


def title(analysis: Analysis, what: str, shown: int | None = None) -> str:
    meta = analysis.meta
    traced = ", ".join(f"{each['name']} {each.get('variant') or ''}".strip() for each in meta["drivers"])
    some = "" if shown in (None, len(analysis.queues)) else f" ({shown} of {len(analysis.queues)} queues)"
    part = textwrap.wrap(shown_part(analysis) or "", _TITLE)
    return "\n".join([f"{what}{some}", f"{traced}, kernel {meta.get('kernel')}", *part])


def empty(axis: Axes, text: str) -> None:
    """Write a text where there is nothing to draw."""
    axis.text(
        0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=12, color="#888888"
    )
    axis.set_yticks([])
    axis.set_xticks([])


def show_seconds(axis: Axis) -> None:
    """Label a logarithmic axis of seconds; a short one between the powers of ten, too."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    axis.set_major_formatter(EngFormatter("s"))
    axis.set_minor_formatter(NullFormatter())
