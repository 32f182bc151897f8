# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as one HTML page that needs nothing else."""

import io
import shlex
from typing import BinaryIO

from toolkit.compare.comparison import Comparison
from toolkit.compare.statistics import RESAMPLES, SEED
from toolkit.report import page
from toolkit.report.compare import distributions
from toolkit.report.comparison import metric_table
from toolkit.stalls.thresholds import options

FILES = ("report.html",)


def render(found: Comparison, out: BinaryIO) -> None:
    """Write the page, with every run drawn in it."""
    aside = found.runs[found.runs["set_aside"].notna()]
    paths = [found.base.path, found.candidate.path]
    svg = io.BytesIO()
    distributions.render(found, io.BytesIO(), svg)
    filled = page.fill(
        "comparison.html",
        found=found,
        metrics=metric_table(found),
        drawing=page.inline(svg.getvalue().decode()),
        aside=aside[["trace", "set", "set_aside"]].to_dict("records"),
        command=shlex.join(
            ["toolkit", "compare", *(path or "?" for path in paths), *options(found.thresholds)]
        ),
        seed=SEED,
        resamples=RESAMPLES,
    )
    out.write(filled.encode())
