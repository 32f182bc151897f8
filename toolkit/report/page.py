# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as one HTML page that needs nothing else."""

import shlex

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

import toolkit
from toolkit.stalls.comparison import Comparison
from toolkit.stalls.statistics import RESAMPLES, SEED


def render(found: Comparison, table: pd.DataFrame, drawing: str) -> str:
    """Fills in comparison.html.

    :param table: the metrics, as strings under headings.
    :param drawing: the distributions, an SVG file of ours.
    :return: the page.
    """
    environment = Environment(
        loader=PackageLoader("toolkit.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    aside = found.runs[found.runs["set_aside"].notna()]
    paths = [found.base.path, found.candidate.path]
    return environment.get_template("comparison.html").render(
        found=found,
        table=table,
        # What comes before <svg> belongs to a file, not into a page.
        drawing=drawing[drawing.index("<svg") :],
        aside=aside[["trace", "set", "set_aside"]].to_dict("records"),
        command=shlex.join(["toolkit", "compare", *(path or "?" for path in paths)]),
        toolkit=toolkit.__version__,
        seed=SEED,
        resamples=RESAMPLES,
    )
