# SPDX-License-Identifier: GPL-2.0-only
"""Make pages of HTML that need no other file."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

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
