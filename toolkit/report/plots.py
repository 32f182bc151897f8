# SPDX-License-Identifier: GPL-2.0-only
"""The pictures of one trace, as files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from toolkit.report.analyze import durations, poll_gaps, time_spent, timeline
from toolkit.report.drawing import STYLE, write
from toolkit.report.files import PLOTS
from toolkit.stalls.analysis import Analysis
from toolkit.stalls.witness import Witness


def save(
    analysis: Analysis, folder: Path, witness: Witness | None = None, phases: pd.DataFrame | None = None
) -> None:
    """Draw each of PLOTS, as PNG and SVG.

    :param folder: an existing directory.
    :param witness: drawn as a strip under the timeline.
    :param phases: drawn as labels over the timeline (witness.read_phases).
    """
    drawings: Mapping[str, Callable[[], Figure]] = {
        "timeline": lambda: timeline.draw(analysis, witness, phases),
        "durations": lambda: durations.draw(analysis),
        "poll_gaps": lambda: poll_gaps.draw(analysis),
        "time_spent": lambda: time_spent.draw(analysis),
    }
    with matplotlib.rc_context(STYLE):
        for name in PLOTS:
            write(drawings[name](), folder, name)
