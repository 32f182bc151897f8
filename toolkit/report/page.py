# SPDX-License-Identifier: GPL-2.0-only
"""Make pages of HTML that need no other file."""

import shlex
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from toolkit.compare.comparison import Comparison
from toolkit.compare.statistics import RESAMPLES, SEED
from toolkit.english import count
from toolkit.report.terminal import WORDS
from toolkit.version import __version__


def fill(template: str, **values: Any) -> str:
    """Return a template of this directory, filled in; all values are escaped."""
    environment = Environment(
        loader=PackageLoader("toolkit.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"words": WORDS, "count": count}
    return environment.get_template(template).render(toolkit=__version__, **values)


def inline(drawing: str) -> str:
    """Return an SVG file as a part of a page: without the lines before <svg>, which only a file needs."""
    return drawing[drawing.index("<svg") :]


def render(found: Comparison, table: pd.DataFrame, drawing: str) -> str:
    """Fill in comparison.html.

    :param table: the metrics, as strings under headings.
    :param drawing: the distributions, an SVG file of this toolkit.
    :return: the page.
    """
    aside = found.runs[found.runs["set_aside"].notna()]
    paths = [found.base.path, found.candidate.path]
    return fill(
        "comparison.html",
        found=found,
        metrics=table,
        drawing=inline(drawing),
        aside=aside[["trace", "set", "set_aside"]].to_dict("records"),
        command=shlex.join(["toolkit", "compare", *(path or "?" for path in paths)]),
        seed=SEED,
        resamples=RESAMPLES,
    )
